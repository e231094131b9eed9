"""Derivatives of weighted sums of a call's values: one at each point, for any number of values.

Backward passes cost the same for one value and for a sum of values. Where the weights are known,
as in the backward pass of a loss, derivatives of the sum take one at each point, in place of one
for each value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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


class PulledBack:
    """Derivatives of one weighted sum of partial derivatives, by all parameters.

    Args:
        lower: The partial derivatives; A of them.
        weights: float64[N, M, A], the weight of each value of each of them.

    Attributes:
        lower: As given.
        sums: float64[N, P], once they are known.
    """

    __slots__ = ("lower", "sums", "_weights")

    def __init__(self, lower: tuple[Index, ...], weights: np.ndarray) -> None:
        self.lower, self._weights = lower, weights
        self.sums = np.empty((0, 0))

    @property
    def nbytes(self) -> int:
        return self._weights.nbytes + self.sums.nbytes

    def has(self, weights: np.ndarray) -> bool:
        """Whether they belong to the same weights of the same partial derivatives."""
        return np.array_equal(self._weights, weights)

    def run(
        self, planner: Planner, shifted: Shifter, parameters: np.ndarray, function: Callable
    ) -> None:
        """Finds them: the derivatives of a shift rule's sum are sums of derivatives at its points.

        Args:
            planner: Plans the partial derivatives.
            shifted: Moves parameters to the points of a plan.
            parameters: float64[N, P].
            function: From points float64[K, P] and weights float64[K, M] to derivatives of weighted
                sums of values, float64[K, P].
        """
        rows, values, count = self._weights.shape
        weights, points = self._weights, parameters
        if self.lower == ((),):
            weights = weights[:, :, 0]
            if np.count_nonzero(weights) == weights.size:  # nearly always
                self.sums = function(points, weights) * planner.cones.any(axis=0)
                return
            used = weights.any(axis=0)
        else:
            weights = weights * planner.mask(self.lower)
            used = weights.any(axis=(0, 2))
            step = planner.root.step(self.lower)
            points = shifted(parameters, step.new_points)
            weights = step.coefficients.T @ weights.reshape(-1, count).T
            weights = weights.reshape(-1, values)
        needed = weights.any(axis=1)
        if needed.all():
            found = function(points, weights)
        else:
            found = np.zeros((len(points), parameters.shape[1]))
            if needed.any():
                found[needed] = function(points[needed], weights[needed])
        if len(points) > rows:
            found = found.reshape(-1, rows, parameters.shape[1]).sum(axis=0)
        # By what no value with a weight depends on, derivatives are exactly zero.
        self.sums = found * planner.cones[used].any(axis=0)
