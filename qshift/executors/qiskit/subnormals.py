"""Arithmetic with subnormal numbers, those below 2.2e-308, in TensorFlow's threads.

TensorFlow's threads round these numbers to zero. Qiskit's decomposition of two-qubit gates needs
them: without, about one result in six is wrong, or raises an error.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from qshift.errors import UnsupportedError

_DEFAULT = ctypes.c_void_p(-1)  # FE_DFL_ENV of Linux's C library


@cache
def _library() -> Any:
    return ctypes.CDLL("libm.so.6") if sys.platform == "linux" else None


@contextmanager
def default_floats() -> Iterator[None]:
    """A context in which this thread does not round subnormal numbers to zero.

    Raises:
        UnsupportedError: If the thread rounds them, and the system is not Linux, where this can be
            changed.
    """
    library = _library()
    if library is None:
        if not (np.full(1, 2.3e-308) / 10).any():
            raise UnsupportedError(
                "TensorFlow computes without the smallest floating-point numbers in its threads, "
                "where Qiskit would transpile a circuit wrongly. Call the qnode once outside of "
                "tf.function, Dataset.map and the like: what was transpiled is kept."
            )
        yield
        return
    before = ctypes.create_string_buffer(64)
    library.fegetenv(before)
    library.fesetenv(_DEFAULT)
    try:
        yield
    finally:
        library.fesetenv(before)
