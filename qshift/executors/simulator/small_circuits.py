"""Small circuits at few points, with little around the compiled kernel.

Such a circuit runs in some microseconds. Making the arrays that the kernel works on takes as long
again, so they are kept from one call to the next.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from weakref import WeakValueDictionary

import numpy as np

from qshift.executors.executor import Asked, Written
from qshift.executors.simulator import kernel
from qshift.executors.simulator.instructions import AtOnce, Instructions
from qshift.executors.simulator.outcomes import Observables
from qshift.executors.simulator.state_steps import Steps, numbers_at_lines
from qshift.executors.simulator.written_circuits import OF_ALL, Writer

Code = AtOnce | Instructions
_NOW = AtOnce()


class SmallCircuit:
    """A circuit of rotations and Pauli words, at points that one state holds together.

    All numbers are those of the `Simulation`, to the last bit.

    Args:
        steps: The rotations.
        observables: The words.
        start: The state that the rotations act on.
        shape: The numbers of values and of parameters.
        most_numbers: How many numbers all arrays may hold.
    """

    def __init__(
        self,
        steps: Steps,
        observables: Observables,
        start: np.ndarray,
        shape: tuple[int, int],
        most_numbers: int,
    ) -> None:
        self.steps, self.observables, self.start, self.shape = steps, observables, start, shape
        width = 3 * steps.count + 3 * len(start) + sum(shape) + 8
        self.most_points, self._most_numbers = most_numbers // width, most_numbers
        # Who works on arrays takes them out, so that threads do not share them.
        self._kept: deque[Arrays] = deque(maxlen=1)
        self._followed: WeakValueDictionary[int, Arrays] = WeakValueDictionary()

    def values(self, points: np.ndarray) -> np.ndarray:
        """Returns the values float64[N, M] at the points float64[N, P]."""
        arrays = self._behind_all_steps(points)
        values = self.expect(_NOW, arrays)
        self._kept.append(arrays)
        return values[: len(points)]

    def gradients(self, points: np.ndarray) -> np.ndarray:
        """Returns first derivatives float64[N, M, P], by adjoint differentiation."""
        arrays, count = self._behind_all_steps(points), len(points)
        found = np.empty((count, *self.shape))
        for column in range(self.shape[0]):
            arrays.cotangents.fill(0.0)
            arrays.cotangents[:, column] = 1.0
            found[:, column] = self.back(_NOW, arrays, arrays.cotangents)[:count]
        self._kept.append(arrays)
        return found

    def pulled_back(self, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Returns derivatives of sums of values with the factors float64[N, M], float64[N, P]."""
        arrays, count = self._behind_all_steps(points), len(points)
        arrays.cotangents[:count] = cotangents
        arrays.cotangents[count:] = cotangents[-1]
        found = self.back(_NOW, arrays, arrays.cotangents)[:count]
        self._kept.append(arrays)
        return found

    def written(
        self,
        count: int,
        parts: Sequence[Sequence[int]],
        largest: float,
        asked: Sequence[Asked | None],
        follows: Sequence[tuple[int, int, float]] = (),
    ) -> Written | None:
        """See `SmallResults`. The numbers are those of the other methods, to the last bit."""
        first = asked[0]
        if first and first.shifts:
            # These points are no other op's.
            arrays = self.arrays(first.shifts.points * count)
            return Writer(self, arrays, count, parts, largest, follows).shifted(first, first.shifts)
        found = self._followed.get(count)
        self._followed[count] = arrays = self.arrays(count) if found is None else found
        size = self.shape[0] * arrays.points.size
        if size > self._most_numbers and any(each and each.kind in OF_ALL for each in asked):
            return None
        return Writer(self, arrays, count, parts, largest, follows).at_points(asked)

    def arrays(self, count: int) -> Arrays:
        """Returns arrays for so many points."""
        return Arrays(count, self.steps.count, len(self.start), self.shape)

    def _behind_all_steps(self, points: np.ndarray) -> Arrays:
        """Returns arrays with the state behind all rotations, which are the caller's own."""
        count = len(points)
        try:
            arrays = self._kept.pop()
        except IndexError:
            arrays = None
        if arrays is None or arrays.count != count:
            arrays = self.arrays(count)
        bits = points.tobytes()
        if arrays.bits != bits:
            arrays.points[:count] = points
            arrays.points[count:] = points[-1]
            arrays.state.reshape(-1, len(arrays.points))[:] = self.start[:, None]
            self.forward(_NOW, arrays, arrays.points)
            arrays.bits = bits
        return arrays

    # --- done at once, or written down ---

    def forward(self, code: Code, arrays: Arrays, points: np.ndarray) -> None:
        """Applies all rotations at some points to the arrays' state."""
        steps, lanes = self.steps, len(points)
        words, signs = steps.tables[lanes == 1]
        code.call(kernel.angles, points, steps.columns, steps.scales, signs, arrays.angles)
        code.call(kernel.forward, arrays.state, lanes, words, arrays.angles, 0, steps.count)

    def expect(self, code: Code, arrays: Arrays) -> np.ndarray:
        """Returns an array with the values, float64[lanes, M]."""
        observables, lanes = self.observables, len(arrays.points)
        values, words = np.empty((lanes, self.shape[0])), observables.tables[lanes == 1]
        code.zero(values)
        arguments = lanes, *words, observables.places, arrays.work, values
        code.call(kernel.expect, arrays.state, *arguments)
        return values

    def back(self, code: Code, arrays: Arrays, cotangents: np.ndarray) -> np.ndarray:
        """Returns an array with the derivatives of sums of values, float64[lanes, P], which have
        the factors float64[lanes, M]."""
        steps, observables, lanes = self.steps, self.observables, len(arrays.points)
        (state, other), slopes = arrays.pair, np.empty((lanes, self.shape[1]))
        code.copy(state, arrays.state)
        code.zero(other)
        arguments = *observables.tables[lanes == 1], observables.places, cotangents, arrays.factors
        code.call(kernel.observe, arrays.state, other, lanes, *arguments)
        words, signs = steps.tables[lanes == 1]
        code.zero(slopes)
        moves = arrays.angles, signs, steps.columns, steps.scales, 0, steps.count
        code.call(kernel.backward, state, other, lanes, words, *moves, arrays.work, slopes)
        return slopes


class Arrays:
    """The arrays of some points; see `kernel`.

    Attributes:
        count: How many points there are; further lanes are those of the last one.
        bits: The bytes of these points, which have some, if `state` is behind all rotations.
        flag: int64[1], which is 1 while instructions with these arrays are followed.
    """

    def __init__(self, count: int, steps: int, size: int, shape: tuple[int, int]) -> None:
        lanes = count if count == 1 else -(-count // kernel.WIDTH) * kernel.WIDTH
        width = max(lanes, kernel.WIDTH)
        self.count, self.bits, self.flag = count, b"", np.zeros(1, np.int64)
        self.points, self.cotangents = np.empty((lanes, shape[1])), np.empty((lanes, shape[0]))
        self.angles = numbers_at_lines(steps * 3 * width).reshape(steps, 3 * width)
        self.state = numbers_at_lines(size * lanes)
        self.pair = numbers_at_lines(2 * size * lanes).reshape(2, -1)
        self.work, self.factors = numbers_at_lines(8 * width), np.empty(2 * width)
        self.work.fill(0.0)
        self.points.fill(np.nan)  # equal to no points that are taken

    @functools.cached_property
    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """The derivatives of each value, float64[M, lanes, P], and the points that they are at."""
        lanes, parameters = self.points.shape
        of_all = np.empty((self.cotangents.shape[1], lanes, parameters))
        return of_all, np.full((lanes, parameters), np.nan)
