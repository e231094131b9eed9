"""Floating-point arithmetic as libraries expect it, also in TensorFlow's threads.

There numbers below 2.2e-308 are taken for zero. Qiskit's decomposition of two-qubit gates is wrong
then, about once in six times, or says that it failed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_DEFAULT = ctypes.c_void_p(-1)  # FE_DFL_ENV of Linux's C library


@cache
def _library():
    return ctypes.CDLL("libm.so.6") if sys.platform == "linux" else None


@contextmanager
def default_floats() -> Iterator[None]:
    """Within it, this thread computes with all numbers; on systems other than Linux as it did."""
    library = _library()
    if library is None:
        yield
        return
    before = ctypes.create_string_buffer(64)
    library.fegetenv(before)
    library.fesetenv(_DEFAULT)
    try:
        yield
    finally:
        library.fesetenv(before)
