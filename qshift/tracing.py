"""What the op takes from beneath TensorFlow's public interface, all in one place.

`tf.custom_gradient` cannot serve inside graphs: its gradients close over tensors of the graph they
were made in, and TensorFlow copies graphs (vectorising a jacobian, differentiating a compiled
function twice). Here the gradient finds its inputs on the op that is being differentiated.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.ops import gradients_util
from tensorflow.python.ops.parallel_for import pfor

_GRADIENT = "QShiftPartials"


class Node(Protocol):
    """A function of (ticket, *arrays) that TensorFlow runs as one op.

    Attributes:
        in_order: Whether its derivatives must not run before it.
    """

    in_order: bool

    def __call__(self, ticket: np.ndarray, *arrays: np.ndarray) -> np.ndarray: ...

    def gradient(self, ticket, tensors, cotangent) -> Sequence[tf.Tensor | None]: ...


_nodes: weakref.WeakValueDictionary[bytes, Node] = weakref.WeakValueDictionary()


def graph_op(node: Node, ticket: tf.Tensor, tensors: Sequence[tf.Tensor], shape) -> tf.Tensor:
    """Adds a node to the graph that is being traced.

    Stateless, so that TensorFlow prunes it when nobody uses it, and runs it once when it does not
    change in a loop. The ticket keeps TensorFlow from folding it or merging it with another call.

    Args:
        node: What to run. TensorFlow keeps it for ever, so it must not hold data.
        ticket: Which execution of which call this belongs to.
        tensors: float64[N, ...] each.
        shape: Static shape of the result, [N, ...].
    """
    inputs = [ticket, *tensors]
    graph = tf.compat.v1.get_default_graph()
    with record.stop_recording(), graph.gradient_override_map({"PyFuncStateless": _GRADIENT}):
        values = tf.numpy_function(node.__call__, inputs, tf.float64, stateful=False)
    values.set_shape(shape)
    op = values.op
    _nodes[op.get_attr("token")] = node
    op.pfor_converter = _vectorise
    record.record_operation(
        _GRADIENT,
        [values],
        [tf.convert_to_tensor(t) for t in inputs],
        lambda cotangent: _gradient(op, cotangent),
    )
    return values


def eager_op(value: np.ndarray, inputs: Sequence[tf.Tensor], pull, push) -> tf.Tensor:
    """Tells open tapes and forward accumulators what was computed in eager mode.

    Of a `tf.custom_gradient`, forward accumulators differentiate the gradient by its cotangent,
    which takes all derivatives in place of one direction's.

    Args:
        value: float64, what was computed.
        inputs: From what.
        pull: From the cotangent of the value to those of the inputs, None where there is none.
        push: From the inputs' tangents to the value's.
    """
    result = tf.constant(value)
    record.record_operation(
        _GRADIENT, [result], list(inputs), pull, lambda *tangents: [push(*tangents)]
    )
    return result


@tf.RegisterGradient(_GRADIENT)
def _gradient(op, cotangent):
    ticket, *tensors = op.inputs
    node = _nodes[op.get_attr("token")]
    if node.in_order and op.graph is tf.compat.v1.get_default_graph():
        with tf.control_dependencies([op]):
            ticket = tf.identity(ticket)
    return [None, *node.gradient(ticket, tensors, cotangent)]


def _vectorise(inputs: pfor._PforInput):
    """Runs a loop of calls whose angles depend on the loop as one call with a longer batch."""
    op = inputs.op
    if inputs.input(0)[1]:
        raise pfor.ConversionNotImplementedError("the ticket depends on the loop")
    length = inputs.pfor.loop_len_vector[0]
    tensors = []
    for i in range(1, inputs.num_inputs):
        tensor, is_stacked, _ = inputs.input(i)
        if not is_stacked:
            tensor = tf.broadcast_to(tensor, tf.concat([[length], tf.shape(tensor)], 0))
        tensors.append(tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0)))
    node = _nodes[op.get_attr("token")]
    shape = op.outputs[0].shape
    values = graph_op(node, inputs.input(0)[0], tensors, [None, *shape[1:]])
    rows = shape[0] or tf.shape(values)[0] // tf.maximum(length, 1)
    stacked = tf.reshape(values, tf.concat([[length, rows], tf.shape(values)[1:]], 0))
    return [pfor.wrap(stacked, True)]


def graph_ticket(numbers: Iterator[int]) -> tf.Tensor:
    """Returns minus the next number, another one at each execution of the graph.

    The op is stateful, so TensorFlow neither folds it nor merges it with another, and a
    `tf.function` draws the numbers of its calls in the order in which they were written.
    """
    ticket = tf.numpy_function(lambda: np.int64(-next(numbers)), [], tf.int64, stateful=True)
    ticket.set_shape([])
    ticket.op.pfor_converter = lambda inputs: _draw_once(inputs, numbers)
    return ticket


def _draw_once(inputs: pfor._PforInput, numbers):
    """A vectorised loop around a call that does not depend on the loop draws one ticket."""
    ticket = inputs.op.outputs[0]
    if ticket.graph is not tf.compat.v1.get_default_graph():
        ticket = graph_ticket(numbers)
    return [pfor.wrap(ticket, False)]


_counter = itertools.count(1)
_eager: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()


def eager_ticket(owned: object) -> tf.Tensor:
    """Returns a positive number that finds `owned` for as long as the ticket itself is alive."""
    number = next(_counter)
    ticket = tf.constant(number, tf.int64)
    ticket.qshift_owned = owned
    _eager[number] = owned
    return ticket


def find(ticket: int) -> object | None:
    """Returns what an eager ticket owns."""
    return _eager.get(ticket)


def is_watched(tensor: tf.Tensor) -> bool:
    """Returns whether any open tape or forward accumulator follows a tensor."""
    return gradients_util.PossibleTapeGradientTypes([tensor]) != 0
