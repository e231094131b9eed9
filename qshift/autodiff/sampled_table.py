"""The values of one call from samples, with a number of shots for each point, and their errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qshift.autodiff.evaluation import Table
from qshift.rules.planner import Index, PlanNode, Step
from qshift.rules.rounding import Rounding
from qshift.rules.shifting import Shifter


class SampledTable(Table):
    """A table of values from samples, with a number of shots for each point.

    The function that `partials` is given takes the shots int64[N] of points as well. With errors,
    it returns values and their variances one after the other, float64[N, 2 * M].

    Args:
        values: M, the number of values at one point.
        parameters: As for `Table`.
        node: An empty plan.
        shifted: Moves the parameters to the points of a plan.
        rounding: Makes whole numbers of the plan's shots.
        offset: In [0, 1), decides how these are rounded.
        errors: Whether values come with their variances.
    """

    __slots__ = ("_offset", "_rounding", "_sampled", "_variances")

    def __init__(
        self,
        values: int,
        parameters: np.ndarray,
        node: PlanNode,
        shifted: Shifter,
        rounding: Rounding,
        offset: float = 0.5,
        errors: bool = False,
    ) -> None:
        super().__init__((values,), parameters, node, shifted)
        self._rounding, self._offset = rounding, offset
        self._variances = self._values if errors else None
        self._sampled = np.empty((0, len(parameters), 1), np.int64)  # the shots of the points

    @property
    def nbytes(self) -> int:
        held = self._values, self._variances, self._sampled
        return sum(each.nbytes for each in held if each is not None)

    def deviations(self, indices: tuple[Index, ...]) -> np.ndarray:
        """Returns what one standard deviation of the value at each point changes in partial
        derivatives that were asked for before, float64[K, len(indices), N, M]."""
        assert self._variances is not None, "values come without variances"
        coefficients = self._node.step(indices).coefficients.toarray()
        return np.einsum("ak,knm->kanm", coefficients, np.sqrt(self._variances))

    def _run(self, step: Step, function: Callable) -> None:
        """Runs the points of a step, each with its own number of shots.

        Raises:
            ValueError: If there are too few shots for that.
        """
        new, rows = len(step.new_points), len(self.parameters)
        again, numbers = self._rounding.numbers(step, rows, self._offset)
        old = self._node.points
        points = (*step.new_points, *(old[k] for k in again.tolist()))
        found = function(self._shifted(self.parameters, points), numbers.ravel())
        numbers, count = numbers[:, :, None], self._values.shape[2]
        found = found.reshape(len(points), rows, count * (1 + (self._variances is not None)))
        values, variances = found[:, :, :count], found[:, :, count:]
        if len(again):
            before, more = self._sampled[again], numbers[new:]
            part = more / (before + more)
            self._values[again] += part * (values[new:] - self._values[again])
            self._sampled[again] += more
            if self._variances is not None:
                self._variances[again] *= (1 - part) ** 2
                self._variances[again] += part**2 * variances[new:]
        self._values = np.concatenate([self._values, values[:new]])
        if self._variances is not None:
            self._variances = np.concatenate([self._variances, variances[:new]])
        self._sampled = np.concatenate([self._sampled, numbers[:new]])
