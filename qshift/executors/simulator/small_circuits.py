"""Small circuits at few points, with little around the compiled kernel.

Such a circuit runs in some microseconds. Making the arrays that the kernel works on takes as long
again, so they are kept from one call to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from weakref import WeakValueDictionary

import numpy as np

from qshift.executors.executor import Asked, Written
from qshift.executors.simulator import kernel
from qshift.executors.simulator.instructions import AtOnce, Instructions
from qshift.executors.simulator.outcomes import Observables
from qshift.executors.simulator.state_steps import Steps, numbers_at_lines

# Cotangents for which derivatives of sums are surely exact; see `qshift.autodiff.pulled_back`.
_USUAL, _RATIO = (1e-90, 1e90), 1e7

_Code = AtOnce | Instructions
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
        self._steps, self._observables, self._start, self._shape = steps, observables, start, shape
        width = 3 * steps.count + 3 * len(start) + sum(shape) + 8
        self.most_points = most_numbers // width
        # Who works on arrays takes them out, so that threads do not share them.
        self._kept: deque[_Arrays] = deque(maxlen=1)
        self._followed: WeakValueDictionary[int, _Arrays] = WeakValueDictionary()

    def values(self, points: np.ndarray) -> np.ndarray:
        """Returns the values float64[N, M] at the points float64[N, P]."""
        arrays = self._behind_all_steps(points)
        values = self._expect(_NOW, arrays)
        self._kept.append(arrays)
        return values[: len(points)]

    def gradients(self, points: np.ndarray) -> np.ndarray:
        """Returns first derivatives float64[N, M, P], by adjoint differentiation."""
        arrays, count = self._behind_all_steps(points), len(points)
        found = np.empty((count, *self._shape))
        for column in range(self._shape[0]):
            arrays.cotangents.fill(0.0)
            arrays.cotangents[:, column] = 1.0
            found[:, column] = self._back(_NOW, arrays, arrays.cotangents)[:count]
        self._kept.append(arrays)
        return found

    def pulled_back(self, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Returns derivatives of sums of values with the factors float64[N, M], float64[N, P]."""
        arrays, count = self._behind_all_steps(points), len(points)
        arrays.cotangents[:count] = cotangents
        arrays.cotangents[count:] = cotangents[-1]
        found = self._back(_NOW, arrays, arrays.cotangents)[:count]
        self._kept.append(arrays)
        return found

    def written(
        self,
        count: int,
        parts: Sequence[Sequence[int]],
        largest: float,
        asked: Sequence[Asked | None],
    ) -> Written | None:
        """See `SmallResults`. The numbers are those of the other methods, to the last bit."""
        if self._shape[0] > 1 and any(each and each.kind == "gradients" for each in asked):
            return None
        arrays = self._followed.get(count)
        if arrays is None:
            arrays = _Arrays(count, self._steps.count, len(self._start), self._shape)
            arrays.points.fill(np.nan)  # equal to no points that are taken
            self._followed[count] = arrays
        code = Instructions()
        self._write_steps(code, arrays, parts, largest)
        results = []
        for each in asked:
            if each is None:
                results.append(np.empty(0))
            elif each.kind == "values":
                results.append(self._expect(code, arrays)[:count])
            else:
                cotangents = np.ones((len(arrays.points), self._shape[0]))
                if each.kind == "pulled_back":
                    own = range(self._shape[0])
                    code.take(1 + len(parts), cotangents, count, own, _USUAL, _RATIO)
                    code.pad(cotangents, count)
                results.append(np.empty((count, len(each.columns))))
                code.pick(results[-1], self._back(code, arrays, cotangents), each.columns)
        return Written(*code.done(), results, arrays.flag, (code, arrays))

    def _write_steps(
        self, code: Instructions, arrays: _Arrays, parts: Sequence[Sequence[int]], largest: float
    ) -> None:
        """Writes what `_behind_all_steps` does."""
        points, start = np.empty_like(arrays.points), numbers_at_lines(len(arrays.state))
        start.reshape(-1, len(points))[:] = self._start[:, None]
        for place, columns in enumerate(parts, 1):
            code.take(place, points, arrays.count, columns, (0.0, largest))
        code.pad(points, arrays.count)
        up_to_here = code.skip_if_same(points, arrays.points)
        code.copy(arrays.state, start)
        self._forward(code, arrays, points)
        code.copy(arrays.points, points)
        up_to_here()

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
            arrays.state.reshape(-1, len(arrays.points))[:] = self._start[:, None]
            self._forward(_NOW, arrays, arrays.points)
            arrays.bits = bits
        return arrays

    # --- done at once, or written down ---

    def _forward(self, code: _Code, arrays: _Arrays, points: np.ndarray) -> None:
        """Applies all rotations at some points to the arrays' state."""
        steps, lanes = self._steps, len(points)
        words, signs = steps.tables[lanes == 1]
        code.call(kernel.angles, points, steps.columns, steps.scales, signs, arrays.angles)
        code.call(kernel.forward, arrays.state, lanes, words, arrays.angles, 0, steps.count)

    def _expect(self, code: _Code, arrays: _Arrays) -> np.ndarray:
        """Returns an array with the values, float64[lanes, M]."""
        observables, lanes = self._observables, len(arrays.points)
        values, words = np.empty((lanes, self._shape[0])), observables.tables[lanes == 1]
        code.zero(values)
        arguments = lanes, *words, observables.places, arrays.work, values
        code.call(kernel.expect, arrays.state, *arguments)
        return values

    def _back(self, code: _Code, arrays: _Arrays, cotangents: np.ndarray) -> np.ndarray:
        """Returns an array with the derivatives of sums of values, float64[lanes, P], which have
        the factors float64[lanes, M]."""
        steps, observables, lanes = self._steps, self._observables, len(arrays.points)
        (state, other), slopes = arrays.pair, np.empty((lanes, self._shape[1]))
        code.copy(state, arrays.state)
        code.zero(other)
        arguments = *observables.tables[lanes == 1], observables.places, cotangents, arrays.factors
        code.call(kernel.observe, arrays.state, other, lanes, *arguments)
        words, signs = steps.tables[lanes == 1]
        code.zero(slopes)
        moves = arrays.angles, signs, steps.columns, steps.scales, 0, steps.count
        code.call(kernel.backward, state, other, lanes, words, *moves, arrays.work, slopes)
        return slopes


class _Arrays:
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
