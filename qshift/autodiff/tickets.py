"""Which execution of which call an op belongs to: in graphs a ticket, a tensor with its number."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.threads import LARGEST_FORKED, require_threads
from qshift.errors import UnsupportedError
from qshift.executors.executor import Calls
from qshift.tensorflow_internals import (
    LoopInputs,
    function_graph,
    is_saving,
    python_op,
    takes_captures,
    wrapped,
)


def graph_ticket(numbers: Calls) -> tf.Tensor:
    """Returns the next number, another one at each execution of the graph.

    The op is stateful, so TensorFlow neither folds it nor merges it with another, and a
    `tf.function` draws the numbers of its calls in the order in which they were written.
    """
    _guard()
    ticket = python_op(
        lambda: np.array(next(numbers), np.int64),
        [],
        tf.int64,
        stateful=True,
        vectorised=lambda inputs: _draw_once(inputs, numbers),
    )
    ticket.set_shape([])
    return ticket


def _draw_once(inputs: LoopInputs, numbers: Calls) -> list[Any]:
    """A vectorised loop around a call that does not depend on the loop draws one ticket."""
    ticket = inputs.op.outputs[0]
    if ticket.graph is not tf.compat.v1.get_default_graph():
        ticket = graph_ticket(numbers)
    return [wrapped(ticket, False)]


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
