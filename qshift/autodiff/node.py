"""A Python function as one op of TensorFlow, in eager mode and in graphs, with derivatives.

`tf.custom_gradient` cannot serve inside graphs: its gradients close over tensors of the graph they
were made in, and TensorFlow copies graphs (vectorising a jacobian, differentiating a compiled
function twice). Here the gradient finds its inputs on the op that is being differentiated.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from qshift.autodiff.calls import EvaluatedCalls
from qshift.autodiff.evaluation import Evaluation
from qshift.autodiff.one_batch import siblings
from qshift.rules.planner import Index
from qshift.tensorflow_internals import (
    PYTHON_OP,
    LoopInputs,
    NotVectorisedError,
    copy_ops,
    could_record,
    following,
    function_of,
    function_of_copied,
    loop_length,
    python_op,
    record_operation,
    stop_recording,
    wrapped,
)

_GRADIENT = "QShiftPartials"


class EagerCall:
    """A call in eager mode.

    Args:
        calls: The calls of the qnode.
        number: The number of this call.
        evaluation: The call's evaluation.
    """

    __slots__ = ("evaluation", "_calls", "_number", "_ticket")

    def __init__(self, calls: EvaluatedCalls, number: int, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self._calls, self._number = calls, number
        self._ticket: weakref.ref[tf.Tensor] | None = None

    def ticket(self) -> tf.Tensor:
        """Returns the tensor by which graphs know the call, where they compute its derivatives."""
        ticket = self._ticket and self._ticket()
        if ticket is None:
            with tf.init_scope():
                ticket = tf.constant(self._number, tf.int64)
            ticket.qshift_owned = self.evaluation  # for as long as such a graph holds the ticket
            self._calls.eager[self._number] = self.evaluation
            self._ticket = weakref.ref(ticket)
        return ticket


class Source(Protocol):
    """What partial derivatives are read from: an `Evaluation`, or the execution of a graph."""

    def partials(
        self, indices: Sequence[Index], also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray: ...


class Node(Protocol):
    """A function of a circuit's angles, and of what else it is given, that TensorFlow runs as one
    op.

    Attributes:
        program: The circuit's. Its parameters are the first inputs, one for each part.
        shape: Of the result at one point.
    """

    program: Any
    shape: tuple[int, ...]

    def __call__(
        self, source: Source, *inputs: Any, also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray:
        """Returns the numbers, float64[N, *shape].

        Args:
            source: What derivatives at the angles are read from.
            *inputs: float64[N, ...] each.
            also: Partial derivatives that other nodes will ask for, at the same call and angles.
        """
        ...

    def needs(self, inputs: Sequence | None) -> tuple[Index, ...]:
        """Returns the partial derivatives that this node will ask for.

        Args:
            inputs: The inputs; None if only the angles are known so far.
        """
        ...

    def gradient(
        self, call: Any, inputs: Any, cotangent: Any, wanted: Sequence[bool]
    ) -> Sequence[tf.Tensor | None]:
        """Returns the cotangents of the inputs, as far as they are wanted."""
        ...

    def tangent(self, call: Any, inputs: Any, tangents: Any) -> tf.Tensor:
        """Returns the tangent of the result."""
        ...


def run(node: Node, call: EagerCall | tf.Tensor, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Runs a node, or adds it to the graph that is being traced.

    Open tapes and forward accumulators learn the node's derivatives. (With a `tf.custom_gradient`,
    forward accumulators would differentiate the gradient by its cotangent, which takes all
    derivatives in place of those in one direction.)

    Args:
        node: The node. A graph keeps it for ever, so it must not hold data.
        call: The call of the qnode; in graphs, its ticket.
        inputs: float64[N, ...] each.

    Returns:
        float64[N, ...].
    """
    if tf.executing_eagerly():
        assert isinstance(call, EagerCall), "tickets are for graphs"
        result = tf.constant(node(call.evaluation, *inputs))
    else:
        ticket = call.ticket() if isinstance(call, EagerCall) else call
        result = _graph_op(node, ticket, inputs)
        call, *inputs = result.op.inputs
    if not could_record():
        return result
    wanted = [following([tensor]) != 0 for tensor in inputs]
    record_operation(
        _GRADIENT,
        [result],
        list(inputs),
        lambda cotangent: node.gradient(call, inputs, cotangent, wanted),
        lambda *tangents: [node.tangent(call, inputs, tangents)],
    )
    return result


class _InGraph:
    """The function that an op of a graph calls: it runs a node, in one batch with other nodes.

    Args:
        node: The node.
        graph: The graph in which the node is run.
    """

    def __init__(self, node: Any, graph: tf.Graph) -> None:
        self.node = node
        self._graph = weakref.ref(graph)
        self._others: list[tuple[Node, bool]] | None = None
        # See `one_batch.InGraph`.
        self.name = ""
        self.key: tuple[str, ...] = ()
        self.inputs: tuple[str, ...] = ()

    def __call__(self, ticket: Any, *inputs: Any) -> Any:
        if self._others is None:
            self._others = siblings(self._graph(), self, _call_of)
        try:
            also = tuple(each.needs(inputs if same else None) for each, same in self._others)
            program = self.node.program
            angles = inputs[: len(program.columns)]
            return self.node(program.execution(int(ticket), angles), *inputs, also=also)
        except Exception as error:
            for raised in _listening:
                raised.append(error)
            raise


def _graph_op(node: Any, ticket: tf.Tensor, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Adds a node to the graph that is being traced.

    The op is stateless, so that TensorFlow leaves it out if nobody uses it, and runs it once if it
    does not change in a loop. The ticket keeps TensorFlow from folding it into a constant or
    merging it with another call.
    """
    graph = tf.compat.v1.get_default_graph()
    call = _InGraph(node, graph)
    converter = functools.partial(_vectorised, node)
    with stop_recording(), graph.gradient_override_map({PYTHON_OP: _GRADIENT}):
        result = python_op(
            call, [ticket, *inputs], tf.float64, stateful=False, vectorised=converter
        )
    result.set_shape([inputs[0].shape[0], *node.shape])
    call.name, call.inputs = result.op.name, tuple([each.name for each in result.op.inputs])
    call.key = call.inputs[: 1 + len(node.program.columns)]
    return result


def _call_of(op: tf.Operation) -> _InGraph | None:
    """Returns what an op made by `_graph_op`, or a copy of it, calls; None of other ops."""
    call = function_of(op) if op.type == PYTHON_OP else None
    return call if isinstance(call, _InGraph) else None


@tf.RegisterGradient(_GRADIENT)
def _gradient(op: tf.Operation, cotangent: tf.Tensor) -> list[tf.Tensor | None]:
    ticket, *inputs = op.inputs
    node = function_of(op).node
    return [None, *node.gradient(ticket, inputs, cotangent, [True] * len(inputs))]


def _vectorised(node: Any, inputs: LoopInputs) -> list[Any]:
    """Runs a loop of calls as one.

    If only the vector that an op contracts with depends on the loop, no further derivatives are
    evaluated. If the angles depend on it, the loop becomes a call with a longer batch.
    """
    op = inputs.op
    tensors, stacked, _ = zip(*(inputs.input(i) for i in range(inputs.num_inputs)), strict=True)
    if stacked[0]:
        raise NotVectorisedError("the ticket depends on the loop")
    if not any(stacked[:-1]) and hasattr(node, "of_all"):
        return [wrapped(node.of_all(tensors[0], tensors[1:], "l"), True)]
    length = loop_length(inputs)
    longer = []
    for tensor, is_stacked in zip(tensors[1:], stacked[1:], strict=True):
        if not is_stacked:
            tensor = tf.broadcast_to(tensor, tf.concat([[length], tf.shape(tensor)], 0))
        longer.append(tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0)))
    values = run(node, tensors[0], longer)
    rows = op.outputs[0].shape[0]
    if rows is None:
        rows = tf.shape(tensors[1])[1 if stacked[1] else 0]
    result = tf.reshape(values, tf.concat([[length, rows], tf.shape(values)[1:]], 0))
    return [wrapped(result, True)]


def _copied(op_type: str, inputs: Sequence[tf.Tensor], attrs: Any) -> tf.Operation | None:
    """Copies an op that does not depend on a loop, but comes after an op with a state, such as an
    assertion. A copy that TensorFlow makes itself would have no derivatives."""
    call = function_of_copied(op_type, attrs)
    if not isinstance(call, _InGraph):
        return None
    ticket, *inputs = inputs
    return run(call.node, ticket, inputs).op


copy_ops(_copied)


# The errors raised within each open block of `own_errors`, of all threads. They are kept in the
# module, because TensorFlow runs nodes in its own threads, which do not know who runs the graph.
_listening: list[list[Exception]] = []


@contextmanager
def own_errors() -> Iterator[None]:
    """A context in which an error of a node that a graph runs is raised unchanged; outside of it,
    TensorFlow raises an error of its own class instead."""
    raised: list[Exception] = []
    _listening.append(raised)
    try:
        yield
    except tf.errors.OpError as error:
        # Other threads may be running graphs as well.
        own = (x for x in raised if f"{type(x).__name__}: {x}" in error.message)
        raise next(own, error) from None
    finally:
        _listening[:] = [other for other in _listening if other is not raised]
