"""Derivatives of weighted sums of a call's values: one at each point, for any number of values.

Backward passes cost the same for one value and for a sum of values. Where the weights are known,
as in the backward pass of a loss, derivatives of the sum take one at each point, in place of one
for each value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from qshift.executors.executor import Shifts
from qshift.rules.planner import Index, Planner
from qshift.rules.shifting import Shifter

# Beyond these, sums are no longer as exact as single derivatives, times their weights.
_SMALLEST, _LARGEST, _RATIO = 1e-100, 1e100, 1e-8


def is_exact(weights: np.ndarray) -> bool:
    """Whether derivatives of sums of values with weights float64[N, ...] are as exact as sums of
    derivatives: all numbers are finite and of usual size, and at each point those that are not zero
    are not very different."""
    if not weights.size:
        return True
    sizes = np.abs(weights).reshape(len(weights), -1)
    least, most = sizes.min(), sizes.max()
    if _SMALLEST < least and most < min(_LARGEST, least / _RATIO):  # nearly always
        return True
    largest = sizes.max(axis=1, keepdims=True)
    usual = (largest == 0.0) | (largest > _SMALLEST) & (largest < _LARGEST)
    return bool(usual.all() and ((sizes == 0.0) | (sizes > _RATIO * largest)).all())


class Missing(Protocol):
    """A table of what was evaluated, or its plan."""

    def missing(self, indices: tuple[Index, ...]) -> int: ...


def pays(
    planner: Planner,
    lower: tuple[Index, ...],
    indices: tuple[Index, ...],
    values: Missing,
    gradients: Missing,
    adjoint: bool = True,
    once: bool = False,
) -> bool:
    """Whether derivatives of a sum take fewer runs of a circuit than single ones, which may be
    asked for again.

    Args:
        planner: Plans partial derivatives.
        lower: The partial derivatives in the sum.
        indices: Those one order up.
        values, gradients: What is there of values, and of the gradients of all values.
        adjoint: Whether first derivatives come from the executor.
        once: Whether nobody will ask again, so that as many runs are no more.
    """
    # What reading would take at each row of the parameters: points, each with its value, or with
    # the gradients of all values.
    sources = planner.sources(indices, adjoint)
    missing = values.missing(sources.values)
    if sources.gradients:
        missing += len(planner.cones) * gradients.missing(sources.gradients)
    return planner.root.missing(lower) < missing + once


class PulledBack(NamedTuple):
    """Derivatives of one weighted sum of partial derivatives, by all parameters.

    Attributes:
        lower: The partial derivatives; A of them.
        weights: float64[N, M, A], the weight of each value of each of them.
        sums: float64[N, P], the derivatives of the sum.
    """

    lower: tuple[Index, ...]
    weights: np.ndarray
    sums: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.weights.nbytes + self.sums.nbytes

    def has(self, weights: np.ndarray) -> bool:
        """Whether they belong to the same weights of the same partial derivatives."""
        return np.array_equal(self.weights, weights)

    @classmethod
    def of(
        cls,
        lower: tuple[Index, ...],
        weights: np.ndarray,
        planner: Planner,
        shifted: Shifter,
        parameters: np.ndarray,
        function: Callable,
    ) -> PulledBack:
        """Finds them: the derivatives of a shift rule's sum are sums of derivatives at its points.

        Args:
            lower: The partial derivatives.
            weights: Their weights.
            planner: Plans the partial derivatives.
            shifted: Moves parameters to the points of a plan.
            parameters: float64[N, P].
            function: From points float64[K, P] and weights float64[K, M] to derivatives of weighted
                sums of values, float64[K, P].
        """
        rows, values, count = weights.shape
        points = parameters
        if lower == ((),):
            factors = weights[:, :, 0]
            if np.count_nonzero(factors) == factors.size:  # nearly always
                return cls(lower, weights, function(points, factors) * planner.cones.any(axis=0))
            used = factors.any(axis=0)
        else:
            masked = weights * planner.mask(lower)
            used = masked.any(axis=(0, 2))
            step = planner.root.step(lower)
            points = shifted(parameters, step.new_points)
            factors = step.coefficients.T @ masked.reshape(-1, count).T
            factors = factors.reshape(-1, values)
        needed = factors.any(axis=1)
        if needed.all():
            found = function(points, factors)
        else:
            found = np.zeros((len(points), parameters.shape[1]))
            if needed.any():
                found[needed] = function(points[needed], factors[needed])
        if len(points) > rows:
            found = found.reshape(-1, rows, parameters.shape[1]).sum(axis=0)
        # By what no value with a weight depends on, derivatives are exactly zero.
        return cls(lower, weights, found * planner.cones[used].any(axis=0))


def shifts_of(planner: Planner, shifted: Shifter, lower: tuple[Index, ...]) -> Shifts | None:
    """Returns how `PulledBack.of` finds derivatives of sums of partial derivatives; None if its
    numbers may be others than those that the points and terms give."""
    step = planner.root.step(lower)
    moved, table = shifted.moved(step.new_points), step.coefficients.tocoo()
    moves = list(zip(moved.rows.tolist(), moved.columns.tolist(), strict=True))
    if len(set(moves)) < len(moves):
        return None
    terms = sorted(zip(table.col.tolist(), table.row.tolist(), table.data.tolist(), strict=True))
    return Shifts(len(step.new_points), moved, planner.mask(lower), tuple(terms))
