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

from qshift.executors.executor import Asked, Shifts, Written
from qshift.executors.simulator import kernel
from qshift.executors.simulator.instructions import AtOnce, Instructions
from qshift.executors.simulator.outcomes import Observables
from qshift.executors.simulator.state_steps import Steps, numbers_at_lines

# Cotangents for which derivatives of sums are surely exact; see `qshift.autodiff.pulled_back`.
_USUAL, _RATIO = (1e-90, 1e90), 1e7

_OF_ALL = "gradients", "contracted"  # what takes the derivatives of all values
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
        self.most_points, self._most_numbers = most_numbers // width, most_numbers
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
        first = asked[0]
        if first and first.shifts:
            return self._written_shifted(count, parts, largest, first.shifts, first.columns)
        arrays = self._followed.get(count)
        if arrays is None:
            arrays = _Arrays(count, self._steps.count, len(self._start), self._shape)
            self._followed[count] = arrays
        size = self._shape[0] * arrays.points.size
        if size > self._most_numbers and any(each and each.kind in _OF_ALL for each in asked):
            return None
        code, points = Instructions(), np.empty_like(arrays.points)
        _take_points(code, points, count, parts, largest)
        code.pad(points, count)
        up_to_here = code.skip_if_same(points, arrays.points)
        self._write_steps(code, arrays, points)
        code.copy(arrays.points, points)
        up_to_here()
        results = []
        for each in asked:
            if each is None:
                results.append(np.empty(0))
            elif each.kind == "values":
                results.append(self._expect(code, arrays)[:count])
            elif each.kind == "gradients":
                results.append(self._write_gradients(code, arrays, points, each))
            else:
                cotangents = np.empty((len(arrays.points), self._shape[0]))
                results.append(np.empty((count, len(each.columns))))
                if each.kind == "pulled_back":
                    _take_factors(code, len(parts), cotangents[:count], _USUAL, _RATIO)
                    code.pad(cotangents, count)
                    sums = self._back(code, arrays, cotangents)
                else:
                    _take_factors(code, len(parts), cotangents[:count], (0.0, _USUAL[1]))
                    slopes = self._write_slopes(code, arrays, points, each.cones)
                    sums = np.empty((count, self._shape[1]))
                    for value, slope in enumerate(slopes):
                        factors = cotangents[:count, value]
                        code.combine(sums, slope[:count], factors, add=value > 0)
                code.pick(results[-1], sums, each.columns)
        return Written(*code.done(), results, arrays.flag, (code, arrays))

    def _written_shifted(
        self,
        count: int,
        parts: Sequence[Sequence[int]],
        largest: float,
        shifts: Shifts,
        columns: Sequence[int],
    ) -> Written:
        """Writes what `qshift.autodiff.pulled_back` does, in arrays of its own."""
        own, (values, parameters) = shifts.points * count, self._shape
        arrays = _Arrays(own, self._steps.count, len(self._start), self._shape)
        code, points = Instructions(), arrays.points
        # What belongs to each point of the plan.
        at = [slice(i, i + count) for i in range(0, own, count)]
        _take_points(code, points, count, parts, largest)
        for each in at[1:]:
            code.copy(points[each], points[at[0]])
        moves = [each.ravel().tolist() for each in shifts.moved[1:]]
        for k, column, scale, shift in zip(*moves, strict=True):
            moved = points[at[k], column : column + 1]
            code.combine(moved, moved, scale, shift)
        code.pad(points, own)
        self._write_steps(code, arrays, points)
        factors, cotangents = np.empty((count, values, shifts.width)), arrays.cotangents
        _take_factors(code, len(parts), factors.reshape(count, -1), _USUAL, _RATIO)
        code.zero(cotangents)
        for k, term, coefficient in shifts.terms:
            code.combine(cotangents[at[k]], factors[:, :, term], coefficient, add=True)
        code.pad(cotangents, own)
        slopes, sums = self._back(code, arrays, cotangents), np.empty((count, parameters))
        for each in at:
            code.combine(sums, slopes[each], 1.0, add=each is not at[0])
        results = [np.empty((count, len(columns)))]
        code.pick(results[0], sums, columns)
        return Written(*code.done(), results, arrays.flag, (code, arrays))

    def _write_steps(self, code: Instructions, arrays: _Arrays, points: np.ndarray) -> None:
        """Writes what leaves the state behind all rotations at some points."""
        start = numbers_at_lines(len(arrays.state))
        start.reshape(-1, len(points))[:] = self._start[:, None]
        code.copy(arrays.state, start)
        self._forward(code, arrays, points)

    def _write_slopes(
        self,
        code: Instructions,
        arrays: _Arrays,
        points: np.ndarray,
        cones: np.ndarray | None,
    ) -> np.ndarray:
        """Writes what `gradients` does, unless that was done already, and makes zeros of those that
        are in no cone; returns an array of them for each value, float64[M, lanes, P]."""
        of_all, at = arrays.slopes
        up_to_here = code.skip_if_same(points, at)
        for value, slopes in enumerate(of_all):
            cotangents = np.zeros_like(arrays.cotangents)
            cotangents[:, value] = 1.0
            found = self._back(code, arrays, cotangents)
            if cones is None or cones[value].all():
                code.copy(slopes, found)
            else:
                code.combine(slopes.T, found.T, cones[value].astype(float))
        code.copy(at, points)
        up_to_here()
        return of_all

    def _write_gradients(
        self, code: Instructions, arrays: _Arrays, points: np.ndarray, asked: Asked
    ) -> np.ndarray:
        """Writes what leaves derivatives by some columns in an array, float64[N, M, columns]."""
        count, columns = arrays.count, asked.columns
        slopes = self._write_slopes(code, arrays, points, asked.cones)
        result = np.empty((count, self._shape[0], len(columns)))
        if self._shape[0] == 1:
            code.pick(result[:, 0], slopes[0], columns)
            return result
        for place, column in enumerate(columns):
            code.combine(result[:, :, place], slopes[:, :count, column].T, 1.0)
        return result

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
        self.points.fill(np.nan)  # equal to no points that are taken

    @functools.cached_property
    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """The derivatives of each value, float64[M, lanes, P], and the points that they are at."""
        lanes, parameters = self.points.shape
        of_all = np.empty((self.cotangents.shape[1], lanes, parameters))
        return of_all, np.full((lanes, parameters), np.nan)


def _take_points(
    code: Instructions,
    points: np.ndarray,
    count: int,
    parts: Sequence[Sequence[int]],
    largest: float,
) -> None:
    """Writes what takes the parameters of some points."""
    for place, columns in enumerate(parts, 1):
        code.take(place, points, count, columns, (0.0, largest))


def _take_factors(
    code: Instructions,
    parts: int,
    factors: np.ndarray,
    sizes: tuple[float, float],
    ratio: float = np.inf,
) -> None:
    """Writes what takes the last input, float64[N, ...], behind those of the parts."""
    code.take(1 + parts, factors, len(factors), range(factors.shape[1]), sizes, ratio)
