"""The TensorFlow op, recursive in the order.

The derivatives D_a of a circuit's values, for a set of multi-indices a, are one function of the
angles. Its gradient contracts the incoming cotangent with the D_(a + j), which is the same function
one order up: TensorFlow recurses as deep as it is asked to, and every level reads from the same
`Evaluation`.

While TensorFlow traces (in a `tf.function`, or vectorising a `tape.jacobian`), what is evaluated
does not depend on the cotangent, so it is evaluated once. In eager mode the cotangent is known and
its zero rows are not evaluated; only their own derivatives ask for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from qshift.evaluation import Calls, Evaluation, Evaluations, Structure
from qshift.plan import Index
from qshift.tracing import eager_op, eager_ticket, find, graph_op, graph_ticket, is_watched

_LARGEST_MATRIX = 2**20  # entries

_compiled = Evaluations()


class Program:
    """A circuit whose parameters come in parts, as a differentiable TensorFlow function.

    A derivative by one part evaluates nothing that only another part needs, so TensorFlow can prune
    the parts that nobody differentiates by.

    Args:
        circuit: The circuit.
        columns: For each part, which of the P parameters it holds. Together, all of them.
        active: For each part, the columns that the values depend on, so that only derivatives by
            these need evaluating; None for a part that nobody can differentiate by.
        start: Starts an evaluation at parameters float64[N, P], given the call's number.
        calls: Numbers the calls. Programs may share it.
        in_order: Whether compiled functions must run lower orders first. What is run in all is the
            same in any order, but with samples not every number is.
    """

    def __init__(
        self,
        circuit: Structure,
        columns: tuple[tuple[int, ...], ...],
        active: tuple[tuple[int, ...] | None, ...],
        start: Callable[[np.ndarray, int], Evaluation],
        calls: Calls,
        in_order: bool = False,
    ):
        self.circuit = circuit
        self.columns = columns
        self.active = active
        self.start = start
        self.calls = calls
        self.in_order = in_order
        self._partials: dict[tuple[Index, ...], Partials] = {}

    def __call__(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        """Returns the circuit's raw values, differentiable any number of times.

        Args:
            tensors: float64[N, len(columns)], one per part.

        Returns:
            float64[N, M].
        """
        if tf.executing_eagerly():
            parameters = self.assemble([t.numpy() for t in tensors])
            ticket = eager_ticket(self.start(parameters, next(self.calls)))
        else:
            ticket = graph_ticket(self.calls)
        return self.partials(((),)).tensor(ticket, tensors)[:, :, 0]

    def partials(self, indices: tuple[Index, ...]) -> Partials:
        """Returns the function of all these partial derivatives."""
        if indices not in self._partials:
            self._partials[indices] = Partials(self, indices)
        return self._partials[indices]

    def assemble(self, arrays) -> np.ndarray:
        """Puts the parts together: parameters float64[N, P]."""
        parameters = np.empty((len(arrays[0]), self.circuit.num_parameters))
        for array, columns in zip(arrays, self.columns, strict=True):
            parameters[:, columns] = array
        return parameters

    def evaluate(self, ticket, arrays, indices: tuple[Index, ...]) -> np.ndarray:
        """Returns partial derivatives of the call that a ticket belongs to, float64[N, M, A].

        Raises:
            NoShiftRuleError: If a parameter has no exact rule.
        """
        self.circuit.require_rules({j for index in indices for j in index})
        ticket, parameters = int(ticket), self.assemble(arrays)
        evaluation = find(ticket)
        if evaluation is None or not np.array_equal(evaluation.parameters, parameters):
            # Compiled functions number their calls downwards from -1.
            evaluation = _compiled.get(
                (self.calls, ticket), parameters, lambda parameters: self.start(parameters, -ticket)
            )
        return evaluation.partials(indices)


class Partials:
    """Partial derivatives D_a of a program's values for all a in `indices`, differentiable again.

    Args:
        program: The program.
        indices: The multi-indices a; A of them.
    """

    def __init__(self, program: Program, indices: tuple[Index, ...]):
        self.program = program
        self.indices = indices
        self.in_order = program.in_order
        self._raised: dict[int, tuple[Partials, np.ndarray]] = {}

    def tensor(self, ticket: tf.Tensor, tensors: list[tf.Tensor]) -> tf.Tensor:
        """Returns D_a, float64[N, M, A]."""
        if not tf.executing_eagerly():
            shape = [tensors[0].shape[0], self.program.circuit.num_values, len(self.indices)]
            return graph_op(self, ticket, tensors, shape)

        return eager_op(
            self(ticket, *tensors),
            tensors,
            lambda cotangent: self.gradient(ticket, tensors, cotangent),
            lambda *tangents: self.tangent(ticket, tensors, tangents),
        )

    def __call__(self, ticket, *arrays) -> np.ndarray:
        """Returns the numbers."""
        return self.program.evaluate(ticket, arrays, self.indices)

    def gradient(self, ticket, tensors, cotangent) -> list[tf.Tensor | None]:
        """Contracts a cotangent [N, M, A] with the D_(a + j): [N, columns] for each part."""
        return [
            None if active is None else self._pull(part, ticket, tensors, cotangent)
            for part, active in enumerate(self.program.active)
        ]

    def tangent(self, ticket, tensors, tangents) -> tf.Tensor:
        """Contracts tangents [N, columns], one per part, with the D_(a + j): [N, M, A]."""
        pushed = [
            self._push(part, ticket, tensors, tangent)
            for part, (active, tangent) in enumerate(
                zip(self.program.active, tangents, strict=True)
            )
            if active
        ]
        if pushed:
            return tf.add_n(pushed)
        shape = [len(tensors[0]), self.program.circuit.num_values, len(self.indices)]
        return tf.zeros(shape, tf.float64)

    def _raise(self, part) -> tuple[Partials, np.ndarray]:
        """Returns the D_(a + j) for the part's J columns, and int[A, J] saying which is which."""
        if part not in self._raised:
            indices, table = one_order_up(self.indices, self.program.active[part])
            self._raised[part] = self.program.partials(indices), table
        return self._raised[part]

    def _pull(self, part, ticket, tensors, cotangent) -> tf.Tensor:
        columns, active = self.program.columns[part], self.program.active[part]
        if not active:
            # A zero whose derivatives of every order are zeros too; TensorFlow would say None.
            return tf.zeros_like(tensors[part]) * tf.sin(tensors[part])
        if tf.executing_eagerly():
            return self._pull_eagerly(part, ticket, tensors, cotangent)
        raised, table = self._raise(part)
        derivatives = tf.gather(raised.tensor(ticket, tensors), table, axis=2)
        return _spread(tf.einsum("nma,nmaj->nj", cotangent, derivatives), active, columns)

    def _push(self, part, ticket, tensors, tangent) -> tf.Tensor:
        """Contracts a tangent [N, columns] of one part with the D_(a + j): [N, M, A]."""
        if tf.executing_eagerly():
            return self._push_eagerly(part, ticket, tensors, tangent)
        raised, table = self._raise(part)
        derivatives = tf.gather(raised.tensor(ticket, tensors), table, axis=2)
        return tf.einsum("nj,nmaj->nma", self._pick(part, tangent), derivatives)

    # In eager mode zero rows are not evaluated, so these two are each other's derivatives by what
    # they contract with: that is where such rows may be needed after all.

    def _pull_eagerly(self, part, ticket, tensors, cotangent):
        columns, active = self.program.columns[part], self.program.active[part]
        raised, table = self._raise(part)
        # Nobody asks for derivatives by what is not followed now: they must not cost anything.
        followed, moving = is_watched(cotangent), any(map(is_watched, tensors))
        weights = cotangent.numpy()
        rows = np.flatnonzero(weights.any(axis=(0, 1)))
        result = np.zeros((len(weights), len(columns)))
        if len(rows):
            needed, entry = one_order_up([self.indices[row] for row in rows], active)
            values = self.program.evaluate(ticket, tensors, needed)[:, :, entry]
            result[:, self._positions(part)] = np.einsum(
                "nma,nmaj->nj", weights[:, :, rows], values
            )

        def pull(tangent):
            by_cotangent = self._push(part, ticket, tensors, tangent) if followed else None
            by_tensors = self._pull_twice(part, ticket, tensors, cotangent, tangent, moving)
            return [by_cotangent, *by_tensors]

        def push(tangent, *tangents):
            moved = tf.gather(raised.tangent(ticket, tensors, tangents), table, axis=2)
            by_tensors = _spread(tf.einsum("nma,nmaj->nj", cotangent, moved), active, columns)
            return self._pull(part, ticket, tensors, tangent) + by_tensors

        return eager_op(result, [cotangent, *tensors], pull, push)

    def _push_eagerly(self, part, ticket, tensors, tangent):
        active = self.program.active[part]
        raised, table = self._raise(part)
        followed, moving = is_watched(tangent), any(map(is_watched, tensors))
        weights = self._pick(part, tangent).numpy()
        columns = np.flatnonzero(weights.any(axis=0))
        result = np.zeros((len(weights), self.program.circuit.num_values, len(self.indices)))
        if len(columns):
            needed, entry = one_order_up(self.indices, [active[j] for j in columns])
            values = self.program.evaluate(ticket, tensors, needed)[:, :, entry]
            result = np.einsum("nj,nmaj->nma", weights[:, columns], values)

        def pull(cotangent):
            by_tangent = self._pull(part, ticket, tensors, cotangent) if followed else None
            by_tensors = self._pull_twice(part, ticket, tensors, cotangent, tangent, moving)
            return [by_tangent, *by_tensors]

        def push(tangent_of_tangent, *tangents):
            moved = tf.gather(raised.tangent(ticket, tensors, tangents), table, axis=2)
            by_tensors = tf.einsum("nj,nmaj->nma", self._pick(part, tangent), moved)
            return self._push(part, ticket, tensors, tangent_of_tangent) + by_tensors

        return eager_op(result, [tangent, *tensors], pull, push)

    def _pull_twice(self, part, ticket, tensors, cotangent, tangent, moving):
        """Differentiates the contraction with a cotangent and a tangent by all tensors."""
        if not moving:
            return [None] * len(tensors)
        raised, table = self._raise(part)
        collected = _collect(cotangent, self._pick(part, tangent), table)
        return raised.gradient(ticket, tensors, collected)

    def _pick(self, part, tangent):
        if self.program.active[part] == self.program.columns[part]:
            return tangent
        return tf.gather(tangent, self._positions(part), axis=1)

    def _positions(self, part) -> list[int]:
        """Returns where a part's active columns stand among all of its columns."""
        position = {column: i for i, column in enumerate(self.program.columns[part])}
        return [position[column] for column in self.program.active[part]]


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


def _spread(gradient, active, columns):
    """Puts a gradient by the `active` columns [N, J] among zeros for the others: [N, columns]."""
    if active == columns:
        return gradient
    padded = tf.pad(gradient, [[0, 0], [0, 1]])
    position = {j: i for i, j in enumerate(active)}
    return tf.gather(padded, [position.get(j, len(active)) for j in columns], axis=1)
