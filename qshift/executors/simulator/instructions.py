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

from qshift.executors.simulator import interpreter
from qshift.executors.simulator.arithmetic import Function

_Follow = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


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
        self._add(interpreter.COPY, to, array, array.nbytes)

    def zero(self, array: np.ndarray) -> None:
        """Writes zeros to an array."""
        self._add(interpreter.ZERO, array, array.nbytes)

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
        self._add(interpreter.TAKE, place, to, rows, len(columns), where, to.shape[1], *bits)

    def pad(self, array: np.ndarray, rows: int) -> None:
        """Copies the last of some rows of an array to all further rows."""
        for lane in range(rows, len(array)):
            self.copy(array[lane], array[rows - 1])

    def pick(self, to: np.ndarray, array: np.ndarray, columns: Sequence[int]) -> None:
        """Copies columns of the first rows of an array float64[lanes, K] to an array
        float64[rows, len(columns)]."""
        where = np.array(columns, np.int64)
        self._add(interpreter.PICK, to, array, len(to), len(columns), where, array.shape[1])

    def combine(
        self,
        to: np.ndarray,
        array: np.ndarray,
        factors: np.ndarray | float,
        shift: float = -0.0,
        add: bool = False,
    ) -> None:
        """Writes ``array * factors + shift``, or adds ``array * factors``, to an array.

        Args:
            to: float64[rows, columns], of any strides.
            array: float64[rows, columns].
            factors: A number, or one for each row, float64[rows].
            shift: The number that is added; without one, -0.0, nothing is.
            add: Whether products are added to what is there.
        """
        factors = np.asarray(factors, float)
        strides = [each // 8 for each in (*to.strides, *array.strides, *(factors.strides or (0,)))]
        (bits,) = np.array([shift]).view(np.int64).tolist()
        self._add(interpreter.COMBINE, to, array, factors, *to.shape, *strides, int(add), bits)

    def skip_if_same(self, array: np.ndarray, other: np.ndarray) -> Callable[[], None]:
        """Leaves out what follows, up to where the function that this returns is called, if two
        arrays have the same bits."""
        self._add(interpreter.SKIP, array, other, array.nbytes, 0)
        begin = len(self._numbers)

        def end() -> None:
            self._numbers[begin - 1] = len(self._numbers) - begin

        return end

    def call(self, function: Function, *arguments: Any) -> None:
        """Calls a function of the kernel, which is compiled now if it was not called before."""
        numbers = function.numbers(arguments)
        self.kept += [each for each in arguments if isinstance(each, np.ndarray)]
        self._add(interpreter.CALL, function.address, len(numbers), *numbers)

    def done(self) -> tuple[int, np.ndarray]:
        """Returns the function that follows instructions, and these."""
        return interpreter.follow(), np.array([*self._numbers, interpreter.END], np.int64)

    def ready(self) -> Callable[[], int]:
        """Returns a function that follows the instructions, which take no inputs."""
        address, numbers = self.done()
        self.kept.append(numbers)
        return functools.partial(_Follow(address), numbers.ctypes.data, None)
