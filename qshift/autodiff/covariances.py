"""Covariances of results that share samples, as functions that TensorFlow differentiates.

A product of two estimates is on the average larger than that of what they estimate, by their
covariance. The derivative of a product of values is a sum of products of derivatives D_a D_b, and
what these are too large by are the covariances of the D_a and D_b. So the covariance has the same
product rule: the derivative of B(a, b) is B(a + j, b) + B(a, b + j). A square from which B((), ())
is subtracted (`qshift.circuits.moments`) has derivatives without that bias, of every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.node import run
from qshift.rules.planner import Index

if TYPE_CHECKING:
    from qshift.autodiff.evaluation import Evaluation
    from qshift.autodiff.program import Program

Pair = tuple[Index, Index]


class Covariances:
    """The covariances B(a, b) of the derivatives D_a and D_b of some values: a function of a
    program's tensors, float64[N, C, C, len(pairs)], in eager mode.

    Args:
        program: The program.
        columns: The values; C of them.
        pairs: The pairs of multi-indices (a, b).
    """

    order: int | None = None

    def __init__(
        self, program: Program, columns: Sequence[int], pairs: tuple[Pair, ...] = (((), ()),)
    ) -> None:
        self.program, self.columns, self.pairs = program, list(columns), pairs
        self.shape: tuple[int, ...] = len(columns), len(columns), len(pairs)

    def __call__(self, source: Any, *inputs: Any, also: Any = ()) -> np.ndarray:
        first, second = self.combinations(source)
        spread = source.excess(first.shape[2], self.columns)
        return np.einsum("pck,pdk,kncd->ncdp", first, second, spread, optimize=True)

    def combinations(self, evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
        """Returns how the derivatives of each pair follow from the values at K points, as they were
        read: float64[len(pairs), C, K] for the first of a pair, and for the second."""
        known = evaluation.observer.combinations(evaluation)
        sides = [[known[pair[i]][self.columns] for pair in self.pairs] for i in range(2)]
        points = max(each.shape[1] for side in sides for each in side)
        first, second = np.zeros((2, len(self.pairs), len(self.columns), points))
        for padded, side in zip((first, second), sides, strict=True):
            for row, each in zip(padded, side, strict=True):
                row[:, : each.shape[1]] = each
        return first, second

    def gradient(
        self, call: Any, tensors: Sequence[tf.Tensor], cotangent: tf.Tensor, wanted: Sequence[bool]
    ) -> list[Any]:
        """Returns the cotangents of the tensors; see `qshift.autodiff.node.Node`."""
        return [
            tf.einsum("ncdp,ncdpj->nj", cotangent, self._slopes(part, call, tensors))
            if active is not None and wants
            else None
            for part, (active, wants) in enumerate(zip(self.program.active, wanted, strict=True))
        ]

    def tangent(self, call: Any, tensors: Any, tangents: Any) -> Any:
        """Returns the tangent of the result; see `qshift.autodiff.node.Node`."""
        parts = [part for part, active in enumerate(self.program.active) if active is not None]
        moved = [
            tf.einsum("nj,ncdpj->ncdp", tangents[part], self._slopes(part, call, tensors))
            for part in parts
        ]
        return tf.add_n(moved or [tf.zeros([tensors[0].shape[0], *self.shape], tf.float64)])

    def needs(self, inputs: Any, pulls: bool) -> tuple[Index, ...]:
        """Returns nothing: it is asked for in graphs only, which have no covariances."""
        return ()

    def _slopes(self, part: int, call: Any, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the derivatives by the columns of a part, float64[N, C, C, len(pairs), J]."""
        columns, active = self.program.columns[part], self.program.active[part]
        evaluation: Any = getattr(call, "qshift_evaluation", None)
        eager = evaluation is not None and tf.executing_eagerly()
        if not eager:  # in a graph, as a jacobian's is, of which no errors are known
            from qshift.autodiff.error_propagation import Propagation  # Late: it needs this module.

            Propagation.run_in_graph()
        if not active or not eager or not evaluation.observer.is_open:
            # Of angles with errors: how the covariances change with these is of a higher order.
            return tf.zeros([tf.shape(tensors[0])[0], *self.shape, len(columns)], tf.float64)
        position: dict[Pair, int] = {}
        entries = []
        for i, (a, b) in enumerate(self.pairs):
            for j in active:
                for pair in (_with(a, j), b), (a, _with(b, j)):
                    found = position.setdefault(pair, len(position))
                    entries.append((found, i, columns.index(j)))
        for order in sorted({len(index) for pair in position for index in pair}):
            # A gradient by the covariances may come before that by the values.
            indices = tuple(i for i in self.program.levels(order).indices if len(i) == order)
            if indices[0] not in evaluation.observer.combinations(evaluation):
                run(self.program.partials(indices), call, tensors)
        upper = Covariances(self.program, self.columns, tuple(position))
        sums = np.zeros((len(position), len(self.pairs), len(columns)))
        np.add.at(sums, tuple(np.transpose(entries)), 1.0)
        return tf.tensordot(run(upper, call, tensors), sums, 1)


def _with(index: Index, j: int) -> Index:
    return tuple(sorted((*index, j)))


def covariances(
    program: Program, call: Any, tensors: Sequence[tf.Tensor], columns: Sequence[int]
) -> tf.Tensor:
    """Returns the covariances of some values of a call that is observed, float64[N, C, C]."""
    return run(Covariances(program, columns), call, tensors)[:, :, :, 0]
