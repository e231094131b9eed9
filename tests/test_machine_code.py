"""Functions that are compiled from LLVM's assembly language."""

import ctypes
import weakref

from qshift.machine_code import for_ever, machine_code

SOURCE = """
declare i64 @twice(i64)
define i64 @next(i64 %number) {
  %doubled = call i64 @twice(i64 %number)
  %result = add i64 %doubled, 1
  ret i64 %result
}
"""


def test_functions_are_compiled_and_call_others():
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    twice = kind(lambda number: 2 * number)
    address = ctypes.cast(twice, ctypes.c_void_p).value
    code = machine_code(SOURCE, {"twice": address})
    function = kind(code.get_function_address("next"))
    assert [function(number) for number in (0, 20, -3)] == [1, 41, -5]


def test_what_is_kept_for_ever_stays():
    class Thing:
        pass

    thing = Thing()
    kept, other = weakref.ref(for_ever(thing)), weakref.ref(Thing())
    del thing
    assert kept() is not None and other() is None
