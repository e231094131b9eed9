"""A Python function as one op of TensorFlow, in eager mode and in graphs, with derivatives.

`tf.custom_gradient` cannot serve inside graphs: its gradients close over tensors of the graph they
were made in, and TensorFlow copies graphs (vectorising a jacobian, differentiating a compiled
function twice). Here the gradient finds its inputs on the op that is being differentiated.
"""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from qshift.autodiff.direct import Reading
from qshift.autodiff.node_errors import tell
from qshift.autodiff.one_batch import READ_OP, Siblings, number_of_outputs, siblings
from qshift.executors.executor import Asked
from qshift.python_kernel import Followed
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
    gradient_of_copied,
    keeps_outputs,
    loop_length,
    python_op,
    record_operation,
    stop_recording,
    vectorise,
    wrapped,
)

_OFTEN, _MOST_SIZES = 3, 8  # calls and numbers of rows, for instructions to be written

_GRADIENT, _GRADIENT_OF_READ = GRADIENTS = "QShiftPartials", "QShiftRead"


class Source(Protocol):
    """What partial derivatives are read from: an `Evaluation`, or the execution of a graph."""

    def partials(
        self, indices: Sequence[Index], also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray: ...

    def pulled_back(
        self,
        lower: tuple[Index, ...],
        weights: np.ndarray,
        indices: tuple[Index, ...],
        also: tuple[tuple[Index, ...], ...] = (),
    ) -> np.ndarray | None: ...


class Node(Protocol):
    """A function of a circuit's angles, and of what else it is given, that TensorFlow runs as one
    op.

    Attributes:
        program: The circuit's. Its parameters are the first inputs, one for each part.
        shape: Of the result at one point.
        order: Of the derivatives that it asks for; None if they are of several.

    A node may have an attribute `along`: other nodes of the same inputs, whose results the op gives
    as well where a graph reads them. It may have a method of_all(call, inputs, loop="") that gives
    the same result from derivatives that do not depend on the last input.
    """

    program: Any
    shape: tuple[int, ...]
    order: int | None

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

    def needs(self, inputs: Sequence | None, pulls: bool) -> tuple[Index, ...]:
        """Returns the partial derivatives that this node will ask for.

        Args:
            inputs: The inputs; None if only the angles are known so far.
            pulls: Whether sums of derivatives may be had without them.
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


def run(node: Node, call: tf.Tensor, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Runs a node, or adds it to the graph that is being traced.

    Open tapes and forward accumulators learn the node's derivatives. (With a `tf.custom_gradient`,
    forward accumulators would differentiate the gradient by its cotangent, which takes all
    derivatives in place of those in one direction.)

    Args:
        node: The node. A graph keeps it for ever, so it must not hold data.
        call: The ticket of the qnode's call, int64[]: its number. In eager mode it holds the call's
            evaluation as `qshift_evaluation`, for as long as a tape or graph holds the ticket.
        inputs: float64[N, ...] each.

    Returns:
        float64[N, ...].
    """
    observer = None
    if tf.executing_eagerly():
        evaluation = call.qshift_evaluation
        observer = evaluation.observer
        result = tf.constant(node(evaluation, *inputs))
    else:
        result = _graph_op(node, call, inputs)
        *_, call = result.op.inputs[: -len(inputs)]
        inputs = result.op.inputs[-len(inputs) :]
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
    return result if observer is None else observer.read(evaluation, node, result)


class _InGraph:
    """The function that an op of a graph calls: it runs a node, in one batch with other nodes.

    Args:
        node: The node. Nodes `along` it are run by the same op, where the graph reads them.
        graph: The graph in which the node is run.
    """

    def __init__(self, node: Any, graph: tf.Graph) -> None:
        # Of other graphs nobody knows what will be read.
        along = getattr(node, "along", ())
        if along and not keeps_outputs(graph):
            along = ()
        self.nodes: tuple[Any, ...] = (node, *along)
        self._graph = weakref.ref(graph)
        self._known: _Known | None = None
        # See `one_batch.InGraph`.
        self.name = ""
        self.key: tuple[str, ...] = ()
        self.inputs: tuple[str, ...] = ()

    def __call__(self, ticket: Any, *inputs: Any) -> Any:
        program, known = self.nodes[0].program, self._known
        outputs = number_of_outputs(self._graph())
        if known is None or known.outputs != outputs:
            found = siblings(self._graph(), self, _call_of)
            nodes = [each for each, _ in found.nodes] or list(compress(self.nodes, found.read))
            is_direct = found.are_all and program.is_direct(nodes)
            # Nothing else can be read off samples that are drawn for a sum.
            pulls = found.are_known or not program.weighs
            direct = program.direct
            asked = direct.asked(self.nodes, found) if direct else None
            known = self._known = _Known(outputs, found, pulls, is_direct, asked, Counter(), {})
        (others, read, *_), pulls, is_direct = known.siblings, known.pulls, known.is_direct
        try:
            angles = inputs[: len(program.columns)]
            once = known.siblings.are_known
            source = program.execution(int(ticket), angles, pulls, is_direct, once)
            # A reading keeps nothing for other nodes.
            others = [] if isinstance(source, Reading) else others
            also = tuple([each.needs(inputs if same else None, pulls) for each, same in others])
            first, *along = (
                node(source, *inputs, also=also) if is_read else None
                for node, is_read in zip(self.nodes, read, strict=True)
            )
        except Exception as error:
            tell(error)
            raise
        if known.asked and isinstance(source, Reading) == is_direct:
            self._write(known, len(angles[0]))
        if first is None:
            first = np.empty((0, *[0] * len(self.nodes[0].shape)))
        return [first, *map(_bits, along)] if along else first

    def _write(self, known: _Known, rows: int) -> None:
        """Has machine code run the op from now on, if it comes often with so many rows."""
        came, written = known.came, known.written
        if rows not in written and (rows in came or len(came) < _MOST_SIZES):
            came[rows] += 1
            if came[rows] >= _OFTEN:
                program, asked = self.nodes[0].program, known.asked
                written[rows] = program.direct.written(rows, program.columns, self.nodes, asked)

    def instructions(self, rows: int) -> Followed | None:
        """Returns instructions in place of a call with so many rows; None if it has to be made."""
        known = self._known
        found = known and known.written.get(rows)
        if found is None or known is None or known.outputs != number_of_outputs(self._graph()):
            return None
        return found if self.nodes[0].program.direct.is_at_hand(rows) else None


class _Known(NamedTuple):
    """What is known of an op as long as its graph has the same outputs.

    Attributes:
        outputs: How many there are.
        siblings: What `siblings` says.
        pulls: Whether `Program.execution` pulls.
        is_direct: Whether it is direct.
        asked: What machine code may give in place of the op; None if it may not.
        came: How often the op was run with numbers of rows.
        written: By the number of rows: instructions, of those that came often.
    """

    outputs: int
    siblings: Siblings
    pulls: bool
    is_direct: bool
    asked: list[Asked | None] | None
    came: Counter[int]
    written: dict[int, Followed | None]


def _bits(numbers: np.ndarray | None) -> np.ndarray:
    """Returns numbers as TensorFlow thinks that nobody differentiates by them. Of floating-point
    results that do not matter it would make zeros, to have a gradient by them."""
    if numbers is None:
        return np.empty(0, np.int64)
    return np.ascontiguousarray(numbers).view(np.int64)


def _graph_op(node: Any, ticket: tf.Tensor, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Adds a node to the graph that is being traced.

    The op is stateless, so that TensorFlow leaves it out if nobody uses it, and runs it once if it
    does not change in a loop. The ticket keeps TensorFlow from folding it into a constant or
    merging it with another call.
    """
    graph = tf.compat.v1.get_default_graph()
    if (op := at_hand(node, ticket, inputs)) is not None:
        return _read(node, op)
    call = _InGraph(node, graph)
    dtypes = [tf.float64] + [tf.int64] * (len(call.nodes) - 1)
    converter = functools.partial(_vectorised, node, 0)
    with stop_recording(), graph.gradient_override_map({PYTHON_OP: _GRADIENT}):
        result, *along = python_op(
            call, [ticket, *inputs], dtypes, stateful=False, vectorised=converter
        )
    result.set_shape([inputs[0].shape[0], *node.shape])
    call.name, call.inputs = result.op.name, tuple([each.name for each in result.op.inputs])
    call.key = call.inputs[: 1 + len(node.program.columns)]
    if along:
        if not hasattr(graph, "qshift_along"):
            graph.qshift_along = {}
        graph.qshift_along[call.inputs] = result.op
    return result


def at_hand(node: Any, ticket: Any, inputs: Sequence[tf.Tensor]) -> tf.Operation | None:
    """Returns the op of the graph that is being traced that gives a node's result beside its own,
    so that `run` adds no other; None if there is none."""
    graph = tf.compat.v1.get_default_graph()
    known = getattr(graph, "qshift_along", {})
    if not known or any(getattr(each, "graph", None) is not graph for each in (ticket, *inputs)):
        return None
    op = known.get(tuple([each.name for each in (ticket, *inputs)]))
    return op if op is not None and node in function_of(op).nodes[1:] else None


def _read(node: Any, op: tf.Operation) -> tf.Tensor:
    """Returns the result of a node that an op gives beside its own; see `_node_read` and
    `_gradient_of_read`."""
    bits = op.outputs[function_of(op).nodes.index(node)]
    with stop_recording(), op.graph.gradient_override_map({READ_OP: _GRADIENT_OF_READ}):
        result, *_ = tf.raw_ops.IdentityN(input=[tf.bitcast(bits, tf.float64), *op.inputs])
    vectorise(result.op, functools.partial(_vectorised, node, 1))
    result.set_shape([op.inputs[1].shape[0], *node.shape])
    return result


def _call_of(op: tf.Operation) -> _InGraph | None:
    """Returns what an op made by `_graph_op`, or a copy of it, calls; None of other ops."""
    call = function_of(op) if op.type == PYTHON_OP else None
    return call if isinstance(call, _InGraph) else None


def _node_read(result: tf.Tensor) -> Any:
    """Returns the node whose result the input of an op of `_read`, or of its copy, is."""
    bits = result.op.inputs[0]
    call = _call_of(bits.op)
    return call.nodes[bits.value_index] if call else None


@tf.RegisterGradient(_GRADIENT)
def _gradient(op: tf.Operation, cotangent: tf.Tensor, *_: Any) -> list[tf.Tensor | None]:
    if op is None:  # while a SavedModel is written, which has no derivatives
        return []
    ticket, *inputs = op.inputs
    node = function_of(op).nodes[0]
    return [None, *node.gradient(ticket, inputs, cotangent, [True] * len(inputs))]


@tf.RegisterGradient(_GRADIENT_OF_READ)
def _gradient_of_read(op: tf.Operation, cotangent: tf.Tensor, *_: Any) -> list[tf.Tensor | None]:
    if op is None:
        return []
    result, ticket, *inputs = op.inputs
    node = _node_read(result)
    return [None, None, *node.gradient(ticket, inputs, cotangent, [True] * len(inputs))]


def _vectorised(node: Any, before: int, inputs: LoopInputs) -> list[Any]:
    """Runs a loop of calls as one.

    If only the vector that an op contracts with depends on the loop, no further derivatives are
    evaluated. If the angles depend on it, the loop becomes a call with a longer batch.

    Args:
        node: The node.
        before: How many inputs the op has before the ticket.
        inputs: The inputs.
    """
    op = inputs.op
    tensors, stacked, _ = zip(
        *(inputs.input(i) for i in range(before, inputs.num_inputs)), strict=True
    )
    if stacked[0]:
        raise NotVectorisedError("the ticket depends on the loop")
    others = []
    if len(op.outputs) > 1:
        # Nobody uses what else the op gives: nodes that run along are run anew where they are read.
        others = [wrapped(tf.zeros([loop_length(inputs)], tf.int64), True)] * (len(op.outputs) - 1)
    if before:
        others = [wrapped(*each) for each in zip(tensors, stacked, strict=True)]
    if not any(stacked[:-1]) and hasattr(node, "of_all"):
        return [wrapped(node.of_all(tensors[0], tensors[1:], "l"), True), *others]
    length, longer = loop_length(inputs), []
    for tensor, is_stacked in zip(tensors[1:], stacked[1:], strict=True):
        if not is_stacked:
            tensor = tf.broadcast_to(tensor, tf.concat([[length], tf.shape(tensor)], 0))
        longer.append(tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0)))
    values = run(node, tensors[0], longer)
    rows = op.outputs[0].shape[0]
    if rows is None:
        rows = tf.shape(tensors[1])[1 if stacked[1] else 0]
    result = tf.reshape(values, tf.concat([[length, rows], tf.shape(values)[1:]], 0))
    return [wrapped(result, True), *others]


def _copied(op_type: str, inputs: Sequence[tf.Tensor], attrs: Any) -> tf.Operation | None:
    """Copies an op that does not depend on a loop, but comes after an op with a state, such as an
    assertion. A copy that TensorFlow makes itself would have no derivatives."""
    if op_type == READ_OP:
        node = _node_read(inputs[0]) if gradient_of_copied(attrs) == _GRADIENT_OF_READ else None
        return None if node is None else run(node, inputs[1], inputs[2:]).op
    call = function_of_copied(op_type, attrs)
    if not isinstance(call, _InGraph):
        return None
    ticket, *inputs = inputs
    return run(call.nodes[0], ticket, inputs).op


copy_ops(_copied)
