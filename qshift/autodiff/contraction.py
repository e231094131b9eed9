"""Sums over derivatives one order up, and which of them a vector with zeros in it needs.

Derivatives D_a [N, M, A] depend on the columns of one part through the D_(a + j) [N, M, A, J]. Many
of these are the same, so each is evaluated once, and a table says which is which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.rules.planner import Index

_LARGEST_MATRIX = 2**20  # entries


def one_order_up(
    indices: Sequence[Index], columns: Sequence[int]
) -> tuple[tuple[Index, ...], np.ndarray]:
    """Returns all a + j, each once, and int[A, J]: the position of each a + j among them."""
    position: dict[Index, int] = {}
    table = [
        [position.setdefault(tuple(sorted((*a, j))), len(position)) for j in columns]
        for a in indices
    ]
    return tuple(position), np.array(table, dtype=int).reshape(len(indices), len(columns))


class Needed(NamedTuple):
    """The derivatives that a contraction with a vector needs.

    Attributes:
        indices: The derivatives.
        table: The position of each a + j among them, without those that zeros of the vector
            multiply.
        vector: The vector without these zeros.
    """

    indices: tuple[Index, ...]
    table: np.ndarray
    vector: np.ndarray


class Block:
    """The D_(a + j) of given a, for all j of one part.

    Args:
        lower: The multi-indices a.
        columns: The part's columns.
        active: The columns of the part that values depend on.
        num_values: M.

    Attributes:
        upper: The multi-indices a + j, for active j, each once.
        table: int[A, J]: the position of each a + j in `upper`.
        is_whole: Whether all columns are active.
    """

    def __init__(
        self,
        lower: Sequence[Index],
        columns: Sequence[int],
        active: Sequence[int],
        num_values: int,
    ) -> None:
        self.columns, self._lower, self._active = columns, lower, active
        self._num_values = num_values
        self.is_whole = tuple(active) == tuple(columns)
        self.upper, self.table = one_order_up(lower, active)
        place = {column: i for i, column in enumerate(columns)}
        self._places = [place[column] for column in active]

    def for_cotangent(self, cotangent: tf.Tensor) -> Needed:
        """Returns the derivatives that a contraction with a cotangent [N, M, A] needs."""
        cotangent = np.asarray(cotangent)
        rows: Any = np.flatnonzero(cotangent.any(axis=(0, 1)))
        if len(rows) == len(self._lower):
            return Needed(self.upper, self.table, cotangent)
        found = one_order_up([self._lower[row] for row in rows], self._active)
        return Needed(*found, cotangent[:, :, rows])

    def for_tangent(self, tangent: Any) -> Needed:
        """Returns the derivatives that a contraction with a tangent [N, columns] needs."""
        tangent = np.asarray(tangent)[:, self._places]
        kept: Any = np.flatnonzero(tangent.any(axis=0))
        if len(kept) == len(self._active):
            return Needed(self.upper, self.table, tangent)
        found = one_order_up(self._lower, [self._active[j] for j in kept])
        return Needed(*found, tangent[:, kept])

    def pull(self, cotangent: tf.Tensor, evaluate: Callable) -> np.ndarray:
        """Contracts a cotangent [N, M, A] with the derivatives that it needs: [N, columns].

        Args:
            cotangent: The cotangent.
            evaluate: From multi-indices to derivatives [N, M, len(indices)].
        """
        indices, table, cotangent = self.for_cotangent(cotangent)
        result = np.zeros((len(cotangent), len(self.columns)))
        if indices:
            derivatives = evaluate(indices)[:, :, table]
            result[:, self._places] = np.einsum("nma,nmaj->nj", cotangent, derivatives)
        return result

    def push(self, tangent: tf.Tensor, evaluate: Callable) -> np.ndarray:
        """Contracts a tangent [N, columns] with the derivatives that it needs: [N, M, A]; see
        `pull`."""
        indices, table, tangent = self.for_tangent(tangent)
        if not indices:
            return np.zeros((len(tangent), self._num_values, len(self._lower)))
        return np.einsum("nj,nmaj->nma", tangent, evaluate(indices)[:, :, table])

    def pick(self, tangent: tf.Tensor) -> tf.Tensor:
        """Takes the active columns out of all of the part's."""
        if self.is_whole:
            return tangent
        return tf.gather(tangent, self._places, axis=-1)

    def spread(self, gradient: tf.Tensor) -> tf.Tensor:
        """Puts the active columns among zeros for the others."""
        if self.is_whole:
            return gradient
        padded = tf.pad(gradient, [[0, 0]] * (gradient.shape.rank - 1) + [[0, 1]])
        place = {column: i for i, column in enumerate(self._active)}
        return tf.gather(padded, [place.get(c, len(place)) for c in self.columns], axis=-1)

    def collect(self, cotangent: tf.Tensor, tangent: tf.Tensor) -> tf.Tensor:
        """Returns the cotangent [N, M, A'] of the derivatives in `upper`, where a cotangent
        [N, M, A] and a tangent [N, columns] are contracted with them."""
        tangent, size = self.pick(tangent), len(self.upper)
        if self.table.size * size <= _LARGEST_MATRIX:
            # The derivative of a segment sum is sparse, which forward accumulators cannot take.
            return tf.einsum("nma,nj,ajr->nmr", cotangent, tangent, np.eye(size)[self.table])
        products = tf.einsum("nma,nj->ajnm", cotangent, tangent)
        flat = tf.reshape(products, tf.concat([[self.table.size], tf.shape(products)[2:]], 0))
        summed = tf.math.unsorted_segment_sum(flat, self.table.ravel(), size)
        return tf.transpose(summed, [1, 2, 0])


def zeros_that_follow(zeros: tf.Tensor, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns zeros [N, ...] whose derivatives of every order by tensors [N, ...] are zeros, too;
    TensorFlow would say None."""
    if not tensors:
        return zeros
    sums = [tf.reduce_sum(tf.sin(x), list(range(1, x.shape.rank))) for x in tensors]
    return zeros * tf.reshape(tf.add_n(sums), [-1] + [1] * (zeros.shape.rank - 1))
