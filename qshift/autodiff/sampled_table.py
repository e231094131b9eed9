"""The values of one call from samples, with a number of shots for each point, and their errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qshift.autodiff.evaluation import Table
from qshift.rules.allocation import LEAST, whole
from qshift.rules.planner import Index, PlanNode, Step
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
        shots: The unit of the plan's shots.
        bases: In how many bases these are drawn.
        least: The least number of shots of a point, where plans give each point its own.
        offset: In [0, 1), decides how these are rounded.
        errors: Whether values come with their variances.
    """

    __slots__ = ("_bases", "_least", "_offset", "_sampled", "_shots", "_variances")

    def __init__(
        self,
        values: int,
        parameters: np.ndarray,
        node: PlanNode,
        shifted: Shifter,
        shots: int,
        least: int = LEAST,
        offset: float = 0.5,
        errors: bool = False,
        bases: int = 1,
    ) -> None:
        super().__init__((values,), parameters, node, shifted)
        self._shots, self._least, self._offset = shots, least, offset
        self._bases = bases
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
        again = np.asarray(step.again, dtype=int)
        shares = np.ones(new) if step.shots is None else step.shots
        # Too few further shots are not worth a circuit.
        worth = shares[new:] * self._shots >= self._least
        again, shares = again[worth], np.append(shares[:new], shares[new:][worth])
        if step.shots is None:
            numbers = np.full((new, rows), self._shots)
        elif shares.sum() * self._shots < self._least * new:
            measured = f", measured in {self._bases} bases," if self._bases > 1 else ""
            raise ValueError(
                f"A batch of {new} circuits{measured} takes {self._bases * self._shots} shots in "
                f"all, less than {self._least} for each. Give Shots(total="
                f"{self._bases * self._least * new}) or more, or Shots(per_circuit=...)."
            )
        else:
            numbers = whole(shares, self._shots, rows, self._offset, self._least)
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
