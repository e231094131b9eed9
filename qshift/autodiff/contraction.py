"""Sums over derivatives one order up, and which of them a vector with zeros in it needs.

Derivatives D_a [N, M, A] depend on the columns of one part through the D_(a + j) [N, M, A, J]. Many
of these are the same, so each is evaluated once, and a table says which is which.
"""

from __future__ import annotations

import itertools
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


class Levels(NamedTuple):
    """All partial derivatives up to an order by some columns.

    Attributes:
        indices: The derivatives, those of the lowest order first.
        ends: Where among them each order but the highest ends.
        tables: For each order but the highest, `one_order_up`'s table to the next one.
    """

    indices: tuple[Index, ...]
    ends: tuple[int, ...]
    tables: tuple[np.ndarray, ...]


def levels(columns: Sequence[int], order: int) -> Levels:
    """Returns all partial derivatives up to an order by some columns."""
    each: list[tuple[Index, ...]] = [((),)]
    tables = []
    for _ in range(order):
        indices, table = one_order_up(each[-1], columns)
        each.append(indices)
        tables.append(table)
    ends = itertools.accumulate(map(len, each[:-1]))
    return Levels(tuple(itertools.chain.from_iterable(each)), tuple(ends), tuple(tables))


def place_of(columns: Sequence[int]) -> slice | list[int]:
    """Returns how NumPy picks columns fastest."""
    if columns and tuple(columns) == tuple(range(columns[0], columns[-1] + 1)):
        return slice(columns[0], columns[-1] + 1)
    return list(columns)


class Needed(NamedTuple):
    """The derivatives that a contraction with a vector needs.

    Attributes:
        indices: The derivatives.
        table: The position of each a + j among them, without those that zeros of the vector
            multiply.
        vector: The vector without these zeros.
        lower: The multi-indices a that are not multiplied by zeros only.
    """

    indices: tuple[Index, ...]
    table: np.ndarray
    vector: np.ndarray
    lower: tuple[Index, ...]


class Contraction:
    """Sums over the derivatives D_(a + j) of given a, for all j of one part, with a vector.

    Args:
        lower: The multi-indices a.
        columns: The part's columns.
        active: The columns of the part that values depend on.
        num_values: M.

    Attributes:
        lower, columns, active: As given.
        idle: Places among the columns of those that are not active.
        upper: The multi-indices a + j, for active j, each once.
        shape: Of the result at one point.
    """

    shape: tuple[int, ...]
    transposed: type[Contraction]

    def __init__(
        self,
        lower: Sequence[Index],
        columns: Sequence[int],
        active: Sequence[int],
        num_values: int,
    ) -> None:
        self.columns, self.lower, self.active = tuple(columns), tuple(lower), active
        self._num_values = num_values
        self._among_all = place_of(active)
        self.upper, self._table = one_order_up(lower, active)
        place = {column: i for i, column in enumerate(columns)}
        self._places = [place[column] for column in active]
        self.idle = tuple(sorted({*place.values()} - {*self._places}))

    def needed(self, vector: Any) -> Needed:
        """Returns the derivatives that the sums need."""
        raise NotImplementedError

    def of_numbers(
        self, vector: Any, evaluate: Callable, pull: Callable | None = None
    ) -> np.ndarray:
        """Returns the sums, from the derivatives that they need.

        Args:
            vector: The vector.
            evaluate: From multi-indices to derivatives [N, M, len(indices)].
            pull: From multi-indices a, their cotangent and the a + j to the sums for all columns of
                the circuit, [N, P], or to None; not for a `Pushforward`.
        """
        raise NotImplementedError

    def of_tensors(self, derivatives: tf.Tensor, vector: tf.Tensor, loop: str = "") -> tf.Tensor:
        """Returns the sums, given all derivatives [N, M, len(upper)].

        Args:
            derivatives: The derivatives.
            vector: The vector.
            loop: ``"l"`` if the vector and the result have a first axis for a loop.
        """
        raise NotImplementedError

    def by_derivatives(self, vector: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        """Returns the cotangent [N, M, len(upper)] of the derivatives, if the result has the
        cotangent `other`."""
        raise NotImplementedError

    def _collect(self, cotangent: tf.Tensor, tangent: tf.Tensor) -> tf.Tensor:
        """Returns the factors [N, M, len(upper)] of the derivatives, where both a cotangent
        [N, M, A] and a tangent [N, columns] are contracted with them."""
        tangent, size = self._pick(tangent), len(self.upper)
        if self._table.size * size <= _LARGEST_MATRIX:
            # The derivative of a segment sum is sparse, which forward accumulators cannot take.
            return tf.einsum("nma,nj,ajr->nmr", cotangent, tangent, np.eye(size)[self._table])
        products = tf.einsum("nma,nj->ajnm", cotangent, tangent)
        flat = tf.reshape(products, tf.concat([[self._table.size], tf.shape(products)[2:]], 0))
        summed = tf.math.unsorted_segment_sum(flat, self._table.ravel(), size)
        return tf.transpose(summed, [1, 2, 0])

    def _pick(self, tangent: tf.Tensor) -> tf.Tensor:
        """Takes the active columns out of all of the part's."""
        if not self.idle:
            return tangent
        return tf.gather(tangent, self._places, axis=-1)


class Pullback(Contraction):
    """Sums over a of cotangent_a D_(a + j), for each j: from a cotangent [N, M, A] to
    [N, columns]."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shape = (len(self.columns),)

    def needed(self, vector: Any) -> Needed:
        cotangent = np.asarray(vector)
        if np.count_nonzero(cotangent) == cotangent.size > 0:  # nearly always
            return Needed(self.upper, self._table, cotangent, self.lower)
        rows: Any = np.flatnonzero(cotangent.any(axis=(0, 1)))
        if len(rows) == len(self.lower):
            return Needed(self.upper, self._table, cotangent, self.lower)
        lower = tuple(self.lower[row] for row in rows)
        return Needed(*one_order_up(lower, self.active), cotangent[:, :, rows], lower)

    def of_numbers(
        self, vector: Any, evaluate: Callable, pull: Callable | None = None
    ) -> np.ndarray:
        indices, table, cotangent, lower = self.needed(vector)
        result = np.zeros((len(cotangent), len(self.columns)))
        if not indices:
            return result
        pulled = pull(lower, cotangent, indices) if pull else None
        if pulled is not None:
            if not self.idle:
                return pulled[:, self._among_all]
            result[:, self._places] = pulled[:, self._among_all]
        else:
            derivatives = evaluate(indices)[:, :, table]
            if len(lower) == 1:  # added up as machine code does it, see `Direct`
                sums = (cotangent * derivatives[:, :, 0]).sum(axis=1)
            else:
                sums = np.einsum("nma,nmaj->nj", cotangent, derivatives)
            if np.isnan(sums).any():  # of angles that are none, where nothing depends on the value
                derivatives = np.where(cotangent[..., None] == 0, 0.0, derivatives)
                sums = np.einsum("nma,nmaj->nj", cotangent, derivatives)
            result[:, self._places] = sums
        return result

    def of_tensors(self, derivatives: tf.Tensor, vector: tf.Tensor, loop: str = "") -> tf.Tensor:
        if len(self.lower) == 1 and not loop:  # a short way for gradients of values
            sums = tf.reduce_sum(tf.math.multiply_no_nan(derivatives, vector), 1)
        else:
            each = tf.gather(derivatives, self._table, axis=2)
            sums = tf.einsum(f"{loop}nma,nmaj->{loop}nj", vector, each)
        if not self.idle:
            return sums
        padded = tf.pad(sums, [[0, 0]] * (sums.shape.rank - 1) + [[0, 1]])
        place = {column: i for i, column in enumerate(self.active)}
        return tf.gather(padded, [place.get(c, len(place)) for c in self.columns], axis=-1)

    def by_derivatives(self, vector: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        return self._collect(vector, other)


class Pushforward(Contraction):
    """Sums over j of tangent_j D_(a + j), for each a: from a tangent [N, columns] to
    [N, M, A]."""

    transposed = Pullback

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shape = self._num_values, len(self.lower)

    def needed(self, vector: Any) -> Needed:
        tangent = np.asarray(vector)[:, self._places]
        kept: Any = np.flatnonzero(tangent.any(axis=0))
        if len(kept) == len(self.active):
            return Needed(self.upper, self._table, tangent, self.lower)
        found = one_order_up(self.lower, [self.active[j] for j in kept])
        return Needed(*found, tangent[:, kept], self.lower)

    def of_numbers(
        self, vector: Any, evaluate: Callable, pull: Callable | None = None
    ) -> np.ndarray:
        indices, table, tangent, _ = self.needed(vector)
        if not indices:
            return np.zeros((len(tangent), *self.shape))
        return np.einsum("nj,nmaj->nma", tangent, evaluate(indices)[:, :, table])

    def of_tensors(self, derivatives: tf.Tensor, vector: tf.Tensor, loop: str = "") -> tf.Tensor:
        each = tf.gather(derivatives, self._table, axis=2)
        return tf.einsum(f"{loop}nj,nmaj->{loop}nma", self._pick(vector), each)

    def by_derivatives(self, vector: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        return self._collect(other, vector)


Pullback.transposed = Pushforward


def zeros_that_follow(zeros: tf.Tensor, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns zeros [N, ...] whose derivatives of every order by tensors [N, ...] are zeros, too;
    TensorFlow would say None."""
    if not tensors:
        return zeros
    sums = [tf.reduce_sum(tf.sin(x), list(range(1, x.shape.rank))) for x in tensors]
    return zeros * tf.reshape(tf.add_n(sums), [-1] + [1] * (zeros.shape.rank - 1))
