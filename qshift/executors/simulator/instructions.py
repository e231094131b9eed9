"""Instructions for small circuits, which machine code follows without Python.

An op of a graph that reads a small circuit runs in some microseconds; Python around the kernel
takes several times as long. What it does there, for a given number of points, is always the same:
to copy numbers and to call the functions of `kernel` with the same arrays. So it is written down
once, as numbers that a small interpreter reads: of each instruction its code, and what it needs.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qshift.executors.simulator.arithmetic import Function
from qshift.machine_code import machine_code

_END, _COPY, _ZERO, _TAKE, _PICK, _SKIP, _CALL = range(7)
_Follow = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
_ROW = 16  # of the table of inputs; see `qshift.python_kernel`


def _case(name: str, count: int, body: str) -> str:
    """Returns the code of an instruction with `count` numbers, %name.0 and so on."""
    loads = "".join(
        f"  %{name}.at.{k} = getelementptr i64, ptr %pc.{name}, i64 {k + 1}\n"
        f"  %{name}.{k} = load i64, ptr %{name}.at.{k}\n"
        for k in range(count)
    )
    return f"""
{name}:
  %pc.{name} = load ptr, ptr %at
  %next.{name} = getelementptr i64, ptr %pc.{name}, i64 {count + 1}
  store ptr %next.{name}, ptr %at
{loads}{body}"""


def _pointers(name: str, *places: int) -> str:
    """Returns the code that makes addresses, %name.p.0 and so on, of an instruction's numbers."""
    each = (f"  %{name}.p.{k} = inttoptr i64 %{name}.{k} to ptr" for k in places)
    return "\n".join(each) + "\n"


_COPIES = """  call void @llvm.memcpy.p0.p0.i64(ptr %copy.p.0, ptr %copy.p.1, i64 %copy.2, i1 false)
  br label %loop
"""
_ZEROES = """  call void @llvm.memset.p0.i64(ptr %zero.p.0, i8 0, i64 %zero.1, i1 false)
  br label %loop
"""
_TAKES = f"""  %take.offset = mul i64 %take.0, {_ROW}
  %take.row = getelementptr i64, ptr %table, i64 %take.offset
  %take.low = bitcast i64 %take.6 to double
  %take.high = bitcast i64 %take.7 to double
  %take.ratio = bitcast i64 %take.8 to double
  %take.refused = call i64 @take(ptr %take.row, ptr %take.p.1, i64 %take.2, i64 %take.3,
    ptr %take.p.4, i64 %take.5, double %take.low, double %take.high, double %take.ratio)
  %take.is = icmp eq i64 %take.refused, 0
  br i1 %take.is, label %loop, label %refused
"""
_PICKS = """  call void @pick(ptr %pick.p.0, ptr %pick.p.1, i64 %pick.2, i64 %pick.3, ptr %pick.p.4,
    i64 %pick.5)
  br label %loop
"""
_SKIPS = """  %skip.differs = call i32 @memcmp(ptr %skip.p.0, ptr %skip.p.1, i64 %skip.2)
  %skip.same = icmp eq i32 %skip.differs, 0
  br i1 %skip.same, label %skip.over, label %loop
skip.over:
  %skip.to = getelementptr i64, ptr %next.skip, i64 %skip.3
  store ptr %skip.to, ptr %at
  br label %loop
"""


_CALLS = """  %call.after = getelementptr i64, ptr %next.call, i64 %call.1
  store ptr %call.after, ptr %at
  call void %call.p.0(ptr %next.call)
  br label %loop
"""


def _source() -> str:
    """Returns the interpreter, in LLVM's assembly language."""
    cases = {
        "copy": _case("copy", 3, _pointers("copy", 0, 1) + _COPIES),
        "zero": _case("zero", 2, _pointers("zero", 0) + _ZEROES),
        "take": _case("take", 9, _pointers("take", 1, 4) + _TAKES),
        "pick": _case("pick", 6, _pointers("pick", 0, 1, 4) + _PICKS),
        "skip": _case("skip", 4, _pointers("skip", 0, 1) + _SKIPS),
        "call": _case("call", 2, _pointers("call", 0) + _CALLS),
    }
    switch = " ".join(f"i64 {code}, label %{name}" for code, name in enumerate(["end", *cases]))
    return f"""
define i64 @follow(ptr %instructions, ptr %table) {{
entry:
  %at = alloca ptr
  store ptr %instructions, ptr %at
  br label %loop
loop:
  %pc = load ptr, ptr %at
  %code = load i64, ptr %pc
  switch i64 %code, label %refused [{switch}]
end:
  ret i64 0
refused:
  ret i64 1
{"".join(cases.values())}}}
{_LOOPS}"""


# Where a number is in the array with more columns, if it is number k among those of its columns.
_AT = """
  %r = udiv i64 %k, %columns
  %start = mul i64 %r, %columns
  %c = sub i64 %k, %start
  %column.at = getelementptr i64, ptr %places, i64 %c
  %column = load i64, ptr %column.at
  %row.start = mul i64 %r, %stride
  %at = add i64 %row.start, %column"""

# take copies an input [rows, ...] with `columns` numbers in each row to columns of an array, and
# returns 1 unless all sizes are between two bounds and no more different than by a ratio.
# pick copies columns of an array to one with these columns only.
_LOOPS = f"""
define i64 @take(ptr %row, ptr %out, i64 %rows, i64 %columns, ptr %places, i64 %stride,
                 double %low, double %high, double %ratio) {{
entry:
  %rank.at = getelementptr i64, ptr %row, i64 2
  %rank = load i64, ptr %rank.at
  %is.usual = icmp ult i64 %rank, {_ROW - 2}
  br i1 %is.usual, label %axis, label %refuse
axis:
  %d = phi i64 [0, %entry], [%d.after, %size]
  %total = phi i64 [1, %entry], [%total.after, %size]
  %is.axis = icmp slt i64 %d, %rank
  br i1 %is.axis, label %size, label %sized
size:
  %place = add i64 %d, 3
  %length.at = getelementptr i64, ptr %row, i64 %place
  %length = load i64, ptr %length.at
  %total.after = mul i64 %total, %length
  %d.after = add i64 %d, 1
  br label %axis
sized:
  %wanted = mul i64 %rows, %columns
  %is.sized = icmp eq i64 %total, %wanted
  %first.at = getelementptr i64, ptr %row, i64 3
  %first = load i64, ptr %first.at
  %is.rows = icmp eq i64 %first, %rows
  %is.both = and i1 %is.sized, %is.rows
  br i1 %is.both, label %begin, label %refuse
begin:
  %in = load ptr, ptr %row
  br label %next
next:
  %k = phi i64 [0, %begin], [%k.after, %store]
  %least = phi double [%high, %begin], [%least.after, %store]
  %most = phi double [%low, %begin], [%most.after, %store]
  %is.next = icmp slt i64 %k, %wanted
  br i1 %is.next, label %number, label %compare
number:
  %x.at = getelementptr double, ptr %in, i64 %k
  %x = load double, ptr %x.at
  %x.size = call double @llvm.fabs.f64(double %x)
  %is.above = fcmp oge double %x.size, %low
  %is.below = fcmp ole double %x.size, %high
  %is.between = and i1 %is.above, %is.below
  br i1 %is.between, label %store, label %refuse
store:
{_AT}
  %y.at = getelementptr double, ptr %out, i64 %at
  store double %x, ptr %y.at
  %is.least = fcmp olt double %x.size, %least
  %least.after = select i1 %is.least, double %x.size, double %least
  %is.most = fcmp ogt double %x.size, %most
  %most.after = select i1 %is.most, double %x.size, double %most
  %k.after = add i64 %k, 1
  br label %next
compare:
  %bound = fmul double %least, %ratio
  %is.far = fcmp ogt double %most, %bound
  br i1 %is.far, label %refuse, label %done
done:
  ret i64 0
refuse:
  ret i64 1
}}
define void @pick(ptr %out, ptr %in, i64 %rows, i64 %columns, ptr %places, i64 %stride) {{
entry:
  %wanted = mul i64 %rows, %columns
  br label %next
next:
  %k = phi i64 [0, %entry], [%k.after, %number]
  %is.next = icmp slt i64 %k, %wanted
  br i1 %is.next, label %number, label %done
number:
{_AT}
  %x.at = getelementptr double, ptr %in, i64 %at
  %x = load double, ptr %x.at
  %y.at = getelementptr double, ptr %out, i64 %k
  store double %x, ptr %y.at
  %k.after = add i64 %k, 1
  br label %next
done:
  ret void
}}
declare double @llvm.fabs.f64(double)
declare i32 @memcmp(ptr, ptr, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""


class Instructions:
    """Instructions that are being written. They keep all arrays that they name."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self.kept: list[Any] = []

    def _add(self, *numbers: Any) -> None:
        for each in numbers:
            if isinstance(each, np.ndarray):
                self.kept.append(each)
                each = each.ctypes.data
            self._numbers.append(each)

    def copy(self, to: np.ndarray, array: np.ndarray) -> None:
        """Copies a contiguous array to one of the same size."""
        self._add(_COPY, to, array, array.nbytes)

    def zero(self, array: np.ndarray) -> None:
        """Writes zeros to an array."""
        self._add(_ZERO, array, array.nbytes)

    def take(
        self,
        place: int,
        to: np.ndarray,
        rows: int,
        columns: Sequence[int],
        sizes: tuple[float, float],
        ratio: float = np.inf,
    ) -> None:
        """Copies an input float64[rows, ...], with len(columns) numbers in each row, to columns of
        an array float64[lanes, K], and its last row to further lanes. Refuses unless the sizes of
        all numbers are between two bounds, and no more different than by a ratio."""
        bits = np.array([*sizes, ratio]).view(np.int64).tolist()
        where = np.array(columns, np.int64)
        self._add(_TAKE, place, to, rows, len(columns), where, to.shape[1], *bits)

    def pad(self, array: np.ndarray, rows: int) -> None:
        """Copies the last of some rows of an array to all further rows."""
        for lane in range(rows, len(array)):
            self.copy(array[lane], array[rows - 1])

    def pick(self, to: np.ndarray, array: np.ndarray, columns: Sequence[int]) -> None:
        """Copies columns of the first rows of an array float64[lanes, K] to an array
        float64[rows, len(columns)]."""
        where = np.array(columns, np.int64)
        self._add(_PICK, to, array, len(to), len(columns), where, array.shape[1])

    def skip_if_same(self, array: np.ndarray, other: np.ndarray) -> Callable[[], None]:
        """Leaves out what follows, up to where the function that this returns is called, if two
        arrays have the same bits."""
        self._add(_SKIP, array, other, array.nbytes, 0)
        begin = len(self._numbers)

        def end() -> None:
            self._numbers[begin - 1] = len(self._numbers) - begin

        return end

    def call(self, function: Function, *arguments: Any) -> None:
        """Calls a function of the kernel, which is compiled now if it was not called before."""
        numbers = function.numbers(arguments)
        self.kept += [each for each in arguments if isinstance(each, np.ndarray)]
        self._add(_CALL, function.address, len(numbers), *numbers)

    def done(self) -> tuple[int, np.ndarray]:
        """Returns the function that follows instructions, and these."""
        return follow(), np.array([*self._numbers, _END], np.int64)

    def ready(self) -> Callable[[], int]:
        """Returns a function that follows the instructions, which take no inputs."""
        address, numbers = self.done()
        self.kept.append(numbers)
        return functools.partial(_Follow(address), numbers.ctypes.data, None)


@functools.cache
def _code() -> Any:
    return machine_code(_source())


def follow() -> int:
    """Returns the address of the machine code follow(instructions, table), which returns 0, or 1 if
    it refuses an input; see `qshift.python_kernel`."""
    address: int = _code().get_function_address("follow")
    return address
