"""Small circuits at few points, with little around the compiled kernel.

Such a circuit runs in some microseconds. Making the arrays that the kernel works on takes as long
again, so they are kept from one call to the next.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from qshift.executors.simulator import kernel
from qshift.executors.simulator.outcomes import Observables
from qshift.executors.simulator.state_steps import Steps, numbers_at_lines


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
        self._steps, self._observables, self._start, self._shape = steps, observables, start, shape
        width = 3 * steps.count + 3 * len(start) + sum(shape) + 8
        self.most_points = most_numbers // width
        # Who works on arrays takes them out, so that threads do not share them.
        self._kept: deque[_Arrays] = deque(maxlen=1)

    def values(self, points: np.ndarray) -> np.ndarray:
        """Returns the values float64[N, M] at the points float64[N, P]."""
        arrays, observables = self._behind_all_steps(points), self._observables
        lanes = len(arrays.points)
        values = np.zeros((lanes, self._shape[0]))
        words = observables.tables[lanes == 1]
        kernel.expect(arrays.state, lanes, *words, observables.places, arrays.work, values)
        self._kept.append(arrays)
        return values[: len(points)]

    def gradients(self, points: np.ndarray) -> np.ndarray:
        """Returns first derivatives float64[N, M, P], by adjoint differentiation."""
        arrays, count = self._behind_all_steps(points), len(points)
        found = np.empty((count, *self._shape))
        for column in range(self._shape[0]):
            arrays.cotangents.fill(0.0)
            arrays.cotangents[:, column] = 1.0
            found[:, column] = self._back(arrays)[:count]
        self._kept.append(arrays)
        return found

    def pulled_back(self, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Returns derivatives of sums of values with the factors float64[N, M], float64[N, P]."""
        arrays, count = self._behind_all_steps(points), len(points)
        arrays.cotangents[:count] = cotangents
        arrays.cotangents[count:] = cotangents[-1]
        found = self._back(arrays)[:count]
        self._kept.append(arrays)
        return found

    def _behind_all_steps(self, points: np.ndarray) -> _Arrays:
        """Returns arrays with the state behind all rotations, which are the caller's own."""
        count = len(points)
        try:
            arrays = self._kept.pop()
        except IndexError:
            arrays = None
        if arrays is None or arrays.count != count:
            arrays = _Arrays(count, self._steps.count, len(self._start), self._shape)
        bits = points.tobytes()
        if arrays.bits != bits:
            arrays.points[:count] = points
            arrays.points[count:] = points[-1]
            steps, lanes = self._steps, len(arrays.points)
            words, signs = steps.tables[lanes == 1]
            kernel.angles(arrays.points, steps.columns, steps.scales, signs, arrays.angles)
            arrays.state.reshape(-1, lanes)[:] = self._start[:, None]
            kernel.forward(arrays.state, lanes, words, arrays.angles, 0, steps.count)
            arrays.bits = bits
        return arrays

    def _back(self, arrays: _Arrays) -> np.ndarray:
        """Returns derivatives of the sums of values with the arrays' cotangents."""
        steps, observables, lanes = self._steps, self._observables, len(arrays.points)
        state, other = arrays.pair
        state[:], other[:] = arrays.state, 0.0
        arguments = observables.places, arrays.cotangents, arrays.factors
        kernel.observe(arrays.state, other, lanes, *observables.tables[lanes == 1], *arguments)
        words, signs = steps.tables[lanes == 1]
        slopes = np.zeros((lanes, self._shape[1]))
        moves = arrays.angles, signs, steps.columns, steps.scales, 0, steps.count
        kernel.backward(state, other, lanes, words, *moves, arrays.work, slopes)
        return slopes


class _Arrays:
    """The arrays of some points; see `kernel`.

    Attributes:
        count: How many points there are; further lanes are those of the last one.
        bits: The bytes of these points, which have some, if `state` is behind all rotations.
    """

    def __init__(self, count: int, steps: int, size: int, shape: tuple[int, int]) -> None:
        lanes = count if count == 1 else -(-count // kernel.WIDTH) * kernel.WIDTH
        width = max(lanes, kernel.WIDTH)
        self.count, self.bits = count, b""
        self.points, self.cotangents = np.empty((lanes, shape[1])), np.empty((lanes, shape[0]))
        self.angles = numbers_at_lines(steps * 3 * width).reshape(steps, 3 * width)
        self.state = numbers_at_lines(size * lanes)
        self.pair = numbers_at_lines(2 * size * lanes).reshape(2, -1)
        self.work, self.factors = numbers_at_lines(8 * width), np.empty(2 * width)
        self.work.fill(0.0)
