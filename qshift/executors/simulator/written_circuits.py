"""Small circuits as instructions: what ops of graphs read of them, written down.

The numbers are those of the Python code that an op runs in its first calls, to the last bit: that
of `small_circuits`, and of sums of derivatives in `qshift.autodiff.contraction` and `pulled_back`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qshift.executors.executor import Asked, Shifts, Written
from qshift.executors.simulator.instructions import Instructions

if TYPE_CHECKING:
    from qshift.executors.simulator.small_circuits import Arrays, SmallCircuit

OF_ALL = "gradients", "contracted"  # what takes the derivatives of all values
# Factors for which derivatives of sums are surely exact; see `qshift.autodiff.pulled_back`.
_USUAL, _RATIO = (1e-90, 1e90), 1e7


class Writer:
    """Writes the instructions of one op.

    Args:
        small: The circuit.
        arrays: What the instructions work on.
        count: The number of the op's points.
        parts, largest, follows: As for `SmallResults.written`.
    """

    def __init__(
        self,
        small: SmallCircuit,
        arrays: Arrays,
        count: int,
        parts: Sequence[Sequence[int]],
        largest: float,
        follows: Sequence[tuple[int, int, float]],
    ) -> None:
        self._small, self._arrays, self._count = small, arrays, count
        self._parts, self._largest, self._follows = parts, largest, follows
        self._code = Instructions()

    def at_points(self, asked: Sequence[Asked | None]) -> Written:
        """Returns instructions for results at an op's points."""
        code, arrays, count = self._code, self._arrays, self._count
        self._take_points()
        code.pad(arrays.points, count)
        self._small.behind_all_steps(code, arrays)
        results = []
        for each in asked:
            if each is None:
                results.append(np.empty(0))
            elif each.kind == "values":
                values = self._small.expect(code, arrays, arrays.cotangents)
                results.append(values[:count])
            elif each.kind == "gradients":
                results.append(self._gradients(each))
            elif each.kind == "pulled_back":
                results.append(self._picked(self._pulled_back(), each))
            else:
                results.append(self._picked(self._contracted(each), each))
        return self._done(results)

    def shifted(self, asked: Asked, shifts: Shifts) -> Written:
        """Returns instructions for sums at shifted points."""
        code, arrays = self._code, self._arrays
        points, cotangents = arrays.points, arrays.cotangents
        count, values = self._count, cotangents.shape[1]
        # What belongs to each point of the plan.
        at = [slice(i, i + count) for i in range(0, arrays.count, count)]
        self._take_points()
        for each in at[1:]:
            code.copy(points[each], points[at[0]])
        moves = [each.ravel().tolist() for each in shifts.moved[1:]]
        for k, column, scale, shift in zip(*moves, strict=True):
            moved = points[at[k], column : column + 1]
            code.combine(moved, moved, scale, shift)
        code.pad(points, arrays.count)
        self._small.behind_all_steps(code, arrays)
        factors = np.empty((count, values, shifts.mask.shape[1]))
        self._take_factors(factors.reshape(count, -1), _USUAL, _RATIO)
        for value, term in np.argwhere(~shifts.mask).tolist():
            none = factors[:, value, term : term + 1]
            code.combine(none, none, 0.0)
        code.zero(cotangents)
        for k, term, coefficient in shifts.terms:
            code.combine(cotangents[at[k]], factors[:, :, term], coefficient, add=True)
        code.pad(cotangents, arrays.count)
        slopes = self._back(cotangents)
        sums = np.empty((count, points.shape[1]))
        for each in at:
            code.combine(sums, slopes[each], 1.0, add=each is not at[0])
        return self._done([self._picked(sums, asked)])

    def _done(self, results: list[np.ndarray]) -> Written:
        code, arrays = self._code, self._arrays
        return Written(*code.done(), results, arrays.flag, (code, arrays))

    # --- inputs ---

    def _take_points(self) -> None:
        """Takes the parameters of the op's points."""
        for place, columns in enumerate(self._parts, 1):
            self._code.take(place, self._arrays.points, self._count, columns, (0.0, self._largest))

    def _take_factors(
        self, factors: np.ndarray, sizes: tuple[float, float], ratio: float = np.inf
    ) -> None:
        """Takes the last input, float64[N, ...], behind those of the parts."""
        rows, columns = factors.shape
        self._code.take(1 + len(self._parts), factors, rows, range(columns), sizes, ratio)

    # --- results ---

    def _back(self, cotangents: np.ndarray) -> np.ndarray:
        """Returns an array with the derivatives of sums of values, float64[lanes, P]."""
        slopes = self._small.back(self._code, self._arrays, cotangents)
        for leader, follower, factor in self._follows:
            by_leader, by_follower = (slopes[:, k : k + 1] for k in (leader, follower))
            self._code.combine(by_leader, by_follower, factor, add=True)
            self._code.combine(by_follower, by_follower, 0.0, 0.0)
        return slopes

    def _pulled_back(self) -> np.ndarray:
        """Returns an array with derivatives of sums with the last input's factors."""
        arrays = self._arrays
        cotangents = np.empty_like(arrays.cotangents)
        self._take_factors(cotangents[: self._count], _USUAL, _RATIO)
        self._code.pad(cotangents, self._count)
        return self._back(cotangents)

    def _contracted(self, asked: Asked) -> np.ndarray:
        """Returns an array with the sums of derivatives, times the last input's factors."""
        count, arrays = self._count, self._arrays
        factors = np.empty((count, arrays.cotangents.shape[1]))
        sums = np.empty((count, arrays.points.shape[1]))
        self._take_factors(factors, (0.0, _USUAL[1]))
        for value, slopes in enumerate(self._slopes(asked.cones)):
            self._code.combine(sums, slopes[:count], factors[:, value], add=value > 0)
        return sums

    def _slopes(self, cones: np.ndarray | None) -> np.ndarray:
        """Returns an array with the derivatives of all values, float64[M, lanes, P], which are
        found unless they are there already; those that are in no cone are zeros."""
        code, points, (of_all, at) = self._code, self._arrays.points, self._arrays.slopes
        up_to_here = code.skip_if_same(points, at)
        for value, slopes in enumerate(of_all):
            cotangents = np.zeros_like(self._arrays.cotangents)
            cotangents[:, value] = 1.0
            found = self._back(cotangents)
            if cones is None or cones[value].all():
                code.copy(slopes, found)
            else:
                code.combine(slopes.T, found.T, cones[value].astype(float))
        code.copy(at, points)
        up_to_here()
        return of_all

    def _gradients(self, asked: Asked) -> np.ndarray:
        """Returns an array with derivatives by some columns, float64[N, M, columns]."""
        count, columns = self._count, asked.columns
        slopes = self._slopes(asked.cones)
        result = np.empty((count, len(slopes), len(columns)))
        if len(slopes) == 1:
            self._code.pick(result[:, 0], slopes[0], columns)
            return result
        for place, column in enumerate(columns):
            self._code.combine(result[:, :, place], slopes[:, :count, column].T, 1.0)
        return result

    def _picked(self, sums: np.ndarray, asked: Asked) -> np.ndarray:
        """Returns an array with some columns of one float64[lanes, P]."""
        result = np.empty((self._count, len(asked.columns)))
        self._code.pick(result, sums, asked.columns)
        for place in asked.zeros:
            idle = result[:, place : place + 1]
            self._code.combine(idle, idle, 0.0, 0.0)
        return result
