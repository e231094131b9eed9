"""Every name beneath Numba's public interface that qshift uses, with what it must do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

from qshift.errors import UnsupportedError


class _Cache(FunctionCache):
    """Compiled functions of earlier processes, read without what only compiling needs.

    Numba's own method gets ready to compile before it reads: it imports all that Numba knows of
    Python and NumPy, which takes four times as long as all else that the first circuit takes.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Returns the function that was compiled for a signature, or None."""
        rtsys.initialize(target_context)  # what code needs while it runs
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def compiled(function: Callable, signature: str, **settings: Any) -> Callable:
    """Returns a function as machine code, compiled now, or read from the cache of an earlier
    process. It is what ``numba.njit(signature, cache=True, **settings)(function)`` is.

    Raises:
        OSError: If the cache cannot be read or written.
        RuntimeError: If there is no place for a cache.
        UnsupportedError: If Numba is told not to compile.
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise UnsupportedError(
            "NUMBA_DISABLE_JIT is set, so Numba does not compile qshift's simulator, which is made "
            "of instructions of the processor. Unset it."
        )
    made = numba.njit(**settings)(function)
    made._cache = _Cache(function)
    made.compile(signature)
    made.disable_compile()
    return made


def as_numbers(function: Any, arguments: Sequence[Any]) -> tuple[int, list[int]]:
    """Returns where the machine code of a `compiled` function is, and how it takes arguments.

    Machine code calls it as ``int (void* result, void* error, int64 number, ...)``, with room for a
    result and an error; it returns 0.

    Args:
        function: The function; it returns nothing.
        arguments: Whole numbers, and arrays, which have to stay where they are.
    """
    (found,) = function.overloads.values()
    numbers: list[int] = []
    for each in arguments:
        if isinstance(each, np.ndarray):
            # No owner; how many numbers there are, of which size, where; and the sizes of axes.
            numbers += [
                0,
                0,
                each.size,
                each.itemsize,
                each.ctypes.data,
                *each.shape,
                *each.strides,
            ]
        else:
            numbers.append(int(each))
    return found.library.get_pointer_to_function(found.fndesc.llvm_func_name), numbers
