"""Every name beneath Numba's public interface that qshift uses, with what it must do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys


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
    """
    made = numba.njit(**settings)(function)
    made._cache = _Cache(function)
    made.compile(signature)
    made.disable_compile()
    return made
