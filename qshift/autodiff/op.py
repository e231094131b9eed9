"""The TensorFlow op, recursive in the order.

The derivatives D_a of a circuit's values, for a set of multi-indices a, are one function of the
angles. Its gradient contracts the incoming cotangent with the D_(a + j), which is the same function
one order up: TensorFlow recurses as deep as it is asked to, and every level reads from the same
`Evaluation`.

A contraction is an op of its own: when it runs the cotangent is known, and what only its zero rows
would take is not evaluated; only the derivatives by the cotangent itself ask for it. Where
TensorFlow vectorises a loop of contractions, as in a `tape.jacobian`, what is evaluated does not
depend on the cotangents, so it is evaluated once.

In compiled functions the parameters come in parts, one for each set of tensors that they are
computed from. TensorFlow traces derivatives by all parts and prunes those that lead nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from qshift.autodiff.node import run
from qshift.rules.planner import Index

if TYPE_CHECKING:
    from qshift.autodiff.program import Program

_LARGEST_MATRIX = 2**20  # entries


class Partials:
    """Partial derivatives D_a of a program's values for all a in `indices`, differentiable again.

    A function of the program's tensors: float64[N, M, A].

    Args:
        program: The program.
        indices: The multi-indices a; A of them.
    """

    def __init__(self, program: Program, indices: tuple[Index, ...]):
        self.program = program
        self.indices = indices
        self._contractions: dict[tuple[type, int], _Contraction] = {}

    def __call__(self, call, *tensors, also=()) -> np.ndarray:
        return self.program.evaluate(call, tensors, self.indices, _needs(also, tensors))

    def angles(self, tensors):
        return tensors

    def needs(self, tensors) -> tuple[Index, ...]:
        """Returns the partial derivatives to evaluate, whatever the tensors."""
        return self.indices

    def shape(self, tensors):
        return [tensors[0].shape[0], self.program.circuit.num_values, len(self.indices)]

    def gradient(self, call, tensors, cotangent, wanted):
        return [
            self.pull(part, call, tensors, cotangent) if active is not None and wants else None
            for part, (active, wants) in enumerate(zip(self.program.active, wanted, strict=True))
        ]

    def tangent(self, call, tensors, tangents):
        pushed = [
            self.push(part, call, tensors, tangent)
            for part, (active, tangent) in enumerate(
                zip(self.program.active, tangents, strict=True)
            )
            if active
        ]
        idle = [i for i, active in enumerate(self.program.active) if active == ()]
        if idle or not pushed:
            shape = [tf.shape(tensors[0])[0], self.program.circuit.num_values, len(self.indices)]
            followed = [x[i] for x in (tensors, tangents) for i in idle]
            pushed.append(_followed(tf.zeros(shape, tf.float64), followed))
        return tf.add_n(pushed)

    def pull(self, part, call, tensors, cotangent) -> tf.Tensor:
        """Contracts a cotangent [N, M, A] with the D_(a + j), j from a part: [N, columns]."""
        if not self.program.active[part]:
            return _followed(tf.zeros_like(tensors[part]), [*tensors, cotangent])
        return self._contract(Pullback, part, call, [*tensors, cotangent])

    def push(self, part, call, tensors, tangent) -> tf.Tensor:
        """Contracts a tangent [N, columns] with the D_(a + j), j from a part: [N, M, A]."""
        return self._contract(Pushforward, part, call, [*tensors, tangent])

    def _contract(self, kind, part, call, inputs):
        if (kind, part) not in self._contractions:
            self._contractions[kind, part] = kind(self, part)
        contraction = self._contractions[kind, part]
        if self.program.reproducible and not tf.executing_eagerly():
            return contraction.of_all(call, inputs)
        return run(contraction, call, inputs)


class _Contraction:
    """The D_(a + j), j from one part, contracted with a vector.

    A function of the program's tensors and the vector. Where the vector is zero, derivatives are
    not evaluated; only the derivatives by the vector ask for them.

    Args:
        lower: The D_a.
        part: The part.
    """

    def __init__(self, lower: Partials, part: int):
        self.lower, self.part, self.program = lower, part, lower.program
        self.columns, self.active = self.program.columns[part], self.program.active[part]
        place = {column: i for i, column in enumerate(self.columns)}
        self.places = [place[column] for column in self.active]
        indices, self.table = one_order_up(lower.indices, self.active)
        self.upper = self.program.partials(indices)

    def __call__(self, call, *inputs, also=()) -> np.ndarray:
        *tensors, vector = inputs
        vector, kept = self._restrict(np.asarray(vector))
        indices, table = self._needs(kept)
        if indices:
            others = _needs(also, inputs)
            values = self.program.evaluate(call, tensors, indices, others)[:, :, table]
        else:
            values = np.zeros((len(vector), self.program.circuit.num_values, *table.shape))
        return self._contracted(vector, kept, values)

    def angles(self, inputs):
        return inputs[:-1]

    def needs(self, inputs) -> tuple[Index, ...]:
        """Returns the partial derivatives to evaluate.

        Args:
            inputs: None if the vector is not known yet. The derivatives of values are needed then,
                as good as always; of higher orders, not all may be.
        """
        if inputs is None:
            return self.upper.indices if len(self.lower.indices) == 1 else ()
        return self._needs(self._restrict(np.asarray(inputs[-1]))[1])[0]

    def _all(self, call, tensors):
        """Returns all D_(a + j): [N, M, A, J]."""
        return tf.gather(run(self.upper, call, tensors), self.table, axis=2)

    def _moved(self, call, tensors, tangents):
        """Returns the tangents of all D_(a + j): [N, M, A, J]."""
        return tf.gather(self.upper.tangent(call, tensors, tangents), self.table, axis=2)

    def _twice(self, call, tensors, cotangent, tangent, wanted):
        """Differentiates the contraction with a cotangent and a tangent by the tensors."""
        if not any(wanted):
            return [None] * len(tensors)
        collected = _collect(cotangent, self._pick(tangent), self.table)
        return self.upper.gradient(call, tensors, collected, wanted)

    def _pick(self, tangent):
        """Takes the active columns out of all of the part's."""
        if self.active == self.columns:
            return tangent
        return tf.gather(tangent, self.places, axis=-1)

    def _spread(self, gradient):
        """Puts the active columns among zeros for the others."""
        if self.active == self.columns:
            return gradient
        padded = tf.pad(gradient, [[0, 0]] * (gradient.shape.rank - 1) + [[0, 1]])
        place = {column: i for i, column in enumerate(self.active)}
        return tf.gather(padded, [place.get(c, len(place)) for c in self.columns], axis=-1)


class Pullback(_Contraction):
    """Contracts a cotangent [N, M, A] with the D_(a + j): [N, columns]."""

    def _restrict(self, cotangent):
        rows = np.flatnonzero(cotangent.any(axis=(0, 1)))
        return cotangent[:, :, rows], rows

    def _needs(self, rows):
        if len(rows) == len(self.lower.indices):
            return self.upper.indices, self.table
        return one_order_up([self.lower.indices[row] for row in rows], self.active)

    def _contracted(self, cotangent, _, derivatives):
        result = np.zeros((len(cotangent), len(self.columns)))
        result[:, self.places] = np.einsum("nma,nmaj->nj", cotangent, derivatives)
        return result

    def shape(self, inputs):
        return [inputs[0].shape[0], len(self.columns)]

    def gradient(self, call, inputs, tangent, wanted):
        *tensors, cotangent = inputs
        by_tensors = self._twice(call, tensors, cotangent, tangent, wanted[:-1])
        by_cotangent = self.lower.push(self.part, call, tensors, tangent) if wanted[-1] else None
        return [*by_tensors, by_cotangent]

    def tangent(self, call, inputs, tangents):
        *tensors, cotangent = inputs
        *tangents, of_cotangent = tangents
        moved = self._moved(call, tensors, tangents)
        by_tensors = self._spread(tf.einsum("nma,nmaj->nj", cotangent, moved))
        return self.lower.pull(self.part, call, tensors, of_cotangent) + by_tensors

    def of_all(self, call, inputs, loop=""):
        *tensors, cotangent = inputs
        derivatives = self._all(call, tensors)
        return self._spread(tf.einsum(f"{loop}nma,nmaj->{loop}nj", cotangent, derivatives))


class Pushforward(_Contraction):
    """Contracts a tangent [N, columns] with the D_(a + j): [N, M, A]."""

    def _restrict(self, tangent):
        tangent = tangent[:, self.places]
        kept = np.flatnonzero(tangent.any(axis=0))
        return tangent[:, kept], kept

    def _needs(self, kept):
        if len(kept) == len(self.active):
            return self.upper.indices, self.table
        return one_order_up(self.lower.indices, [self.active[j] for j in kept])

    def _contracted(self, tangent, _, derivatives):
        return np.einsum("nj,nmaj->nma", tangent, derivatives)

    def shape(self, inputs):
        return self.lower.shape(inputs)

    def gradient(self, call, inputs, cotangent, wanted):
        *tensors, tangent = inputs
        by_tensors = self._twice(call, tensors, cotangent, tangent, wanted[:-1])
        by_tangent = self.lower.pull(self.part, call, tensors, cotangent) if wanted[-1] else None
        return [*by_tensors, by_tangent]

    def tangent(self, call, inputs, tangents):
        *tensors, tangent = inputs
        *tangents, of_tangent = tangents
        moved = self._moved(call, tensors, tangents)
        by_tensors = tf.einsum("nj,nmaj->nma", self._pick(tangent), moved)
        return self.lower.push(self.part, call, tensors, of_tangent) + by_tensors

    def of_all(self, call, inputs, loop=""):
        *tensors, tangent = inputs
        derivatives = self._all(call, tensors)
        return tf.einsum(f"{loop}nj,nmaj->{loop}nma", self._pick(tangent), derivatives)


def _followed(zeros, tensors):
    """Returns zeros [N, ...] whose derivatives of every order by tensors [N, ...] are zeros, too;
    TensorFlow would say None."""
    if not tensors:
        return zeros
    sums = [tf.reduce_sum(tf.sin(x), list(range(1, x.shape.rank))) for x in tensors]
    return zeros * tf.reshape(tf.add_n(sums), [-1] + [1] * (zeros.shape.rank - 1))


def _needs(nodes, inputs):
    """Returns the partial derivatives that each other node needs; see `Node`."""
    return tuple(node.needs(inputs if same else None) for node, same in nodes)


def one_order_up(
    indices: Sequence[Index], columns: Sequence[int]
) -> tuple[tuple[Index, ...], np.ndarray]:
    """Returns all a + j, each once, and int[A, J] saying which is which."""
    position: dict[Index, int] = {}
    table = [
        [position.setdefault(tuple(sorted((*a, j))), len(position)) for j in columns]
        for a in indices
    ]
    return tuple(position), np.array(table, dtype=int).reshape(len(indices), len(columns))


def _collect(cotangent, tangent, table):
    """Sums cotangent [N, M, A] times tangent [N, J] where a + j coincide: [N, M, A']."""
    size = table.max() + 1
    if table.size * size <= _LARGEST_MATRIX:
        # The derivative of a segment sum is sparse, which forward accumulators cannot take.
        return tf.einsum("nma,nj,ajr->nmr", cotangent, tangent, np.eye(size)[table])
    products = tf.einsum("nma,nj->ajnm", cotangent, tangent)
    flat = tf.reshape(products, tf.concat([[table.size], tf.shape(products)[2:]], 0))
    summed = tf.math.unsorted_segment_sum(flat, table.ravel(), size)
    return tf.transpose(summed, [1, 2, 0])
