"""Sums of derivatives with known weights: which samples they depend on, and by how much.

In the backward pass of a loss the weights are the loss's derivatives by the values, one for each
row of a batch: the residual of a sample, for instance. A row with a small weight adds little to the
variance of the gradient, whatever its own derivatives vary by, so it is worth few shots.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from qshift.autodiff.contraction import one_order_up
from qshift.rules.planner import Index


class PulledSums:
    """The sums over m and a of weights_ma D_(a + j) of values m, for each j and each row.

    Args:
        lower: The multi-indices a; A of them.
        weights: float64[N, M, A], finite.
        indices: All a + j, for the parameters j that are meant.
        mask: bool[M, len(indices)], which values can depend on all parameters of a derivative.

    Attributes:
        columns: The parameters j; J of them.
    """

    def __init__(
        self,
        lower: tuple[Index, ...],
        weights: np.ndarray,
        indices: tuple[Index, ...],
        mask: np.ndarray,
    ) -> None:
        known = {index: i for i, index in enumerate(indices)}
        self.columns = tuple(
            j
            for j in sorted(set().union(*map(set, indices)))
            if all(tuple(sorted((*a, j))) in known for a in lower)
        )
        upper, table = one_order_up(lower, self.columns)
        self._table = np.array([known[index] for index in upper], dtype=int)[table]
        self._weights, self._mask = weights, mask

    def importance(self, coefficients: sparse.csr_array) -> np.ndarray:
        """Returns float64[K, N, M]: by how much more than the variance of each value at each point
        the summed variance of the sums for all j grows.

        Args:
            coefficients: Sparse float64[len(indices), K], of the values at K points.
        """
        rows, values, count = self._weights.shape
        points = coefficients.shape[1]
        result = np.zeros((rows * values, points))
        # Relative to the largest, so that no square is too large or too small.
        scale = np.abs(self._weights).max(initial=0.0) or 1.0
        for places in self._table.T:
            weights = self._weights / scale * self._mask[:, places]
            each = sparse.csr_array(weights.reshape(rows * values, count)) @ coefficients[places]
            result += each.toarray() ** 2
        return result.reshape(rows, values, points).transpose(2, 0, 1)

    def of(self, derivatives: np.ndarray) -> np.ndarray:
        """Returns the sums, float64[N, J], given derivatives float64[len(indices), N, M]. Where a
        weight is zero, derivatives may be no numbers."""
        result = np.zeros((len(self._weights), len(self.columns)))
        for column, places in enumerate(self._table.T):
            each = derivatives[places].transpose(1, 2, 0) * self._mask[:, places]
            products = np.where(self._weights == 0.0, 0.0, self._weights * each)
            result[:, column] = products.sum(axis=(1, 2))
        return result
