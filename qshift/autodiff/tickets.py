"""Which execution of which call an op belongs to: in graphs a ticket, a tensor with its number."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from qshift.autodiff.calls import EvaluatedCalls
from qshift.autodiff.evaluation import Evaluation
from qshift.autodiff.threads import LARGEST_FORKED, require_threads
from qshift.errors import UnsupportedError
from qshift.tensorflow_internals import (
    LoopInputs,
    function_graph,
    is_saving,
    python_op,
    takes_captures,
    vectorise,
    wrapped,
)


def graph_ticket(numbers: Iterator[int]) -> tf.Tensor:
    """Returns the next number, another one at each execution of the graph.

    The op is stateful, so TensorFlow neither folds it nor merges it with another, and a
    `tf.function` draws the numbers of its calls in the order in which they were written.
    """
    _guard()
    ticket = python_op(lambda: np.array(next(numbers), np.int64), [], tf.int64, stateful=True)
    ticket.set_shape([])
    vectorise(ticket.op, lambda inputs: _draw_once(inputs, numbers))
    return ticket


def _draw_once(inputs: LoopInputs, numbers):
    """A vectorised loop around a call that does not depend on the loop draws one ticket."""
    ticket = inputs.op.outputs[0]
    if ticket.graph is not tf.compat.v1.get_default_graph():
        ticket = graph_ticket(numbers)
    return [wrapped(ticket, False)]


class EagerCall:
    """A call in eager mode.

    Args:
        calls: Those of its qnode.
        number: Which of them.
        evaluation: Its own.
    """

    __slots__ = ("evaluation", "_calls", "_number", "_ticket")

    def __init__(self, calls: EvaluatedCalls, number: int, evaluation: Evaluation):
        self.evaluation = evaluation
        self._calls, self._number = calls, number
        self._ticket: Callable[[], tf.Tensor | None] = lambda: None

    def ticket(self) -> tf.Tensor:
        """Returns what graphs in which derivatives are computed know the call by."""
        ticket = self._ticket()
        if ticket is None:
            with tf.init_scope():
                ticket = tf.constant(self._number, tf.int64)
            ticket.qshift_owned = self.evaluation  # for as long as such a graph holds the ticket
            self._calls.eager[self._number] = self.evaluation
            self._ticket = weakref.ref(ticket)
        return ticket


def _guard() -> tf.Tensor | None:
    """Stands for a number that compiled functions take from outside, so that TensorFlow asks for it
    whenever it is about to run one or to save it."""
    require_threads(LARGEST_FORKED + 1)
    _require_no_saving()
    graph = function_graph()
    if graph is None:
        return tf.constant(0, tf.int64)
    if not takes_captures(graph):
        return None
    # Functions that call this one are asked in its place.
    return graph.capture_call_time_value(_guard, tf.TensorSpec([], tf.int64), key="qshift")


def _require_no_saving() -> None:
    if is_saving():
        raise UnsupportedError(
            "A SavedModel cannot hold quantum circuits: they are run by Python code of qshift, "
            "which is not part of it, so it could not be used where it is loaded. Save the model "
            'as model.save("name.keras") with its qnodes registered by qshift.keras.register, or '
            "only the weights, by model.save_weights or tf.train.Checkpoint, and make the qnodes "
            "anew there."
        )
