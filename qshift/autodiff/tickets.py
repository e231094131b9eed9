"""Tickets: tensors with the number of a call, by which ops of a graph know their call.

The same traced call has another number at each execution of the graph, so it needs a tensor. Where
samples are seeded, the numbers are those of the qnode's calls, one after the other. Elsewhere they
only have to differ, and TensorFlow draws them, which takes a tenth of the time of Python code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.threads import LARGEST_FORKED, require_threads
from qshift.executors.executor import Calls
from qshift.tensorflow_internals import (
    LoopInputs,
    are_deterministic,
    python_op,
    vectorise,
    wrapped,
)

# Between these, calls that are not numbered one after the other have their numbers.
_FIRST, _LAST = 2**62, 2**63 - 1


def graph_ticket(numbers: Calls, in_order: bool) -> tf.Tensor:
    """Returns a ticket, a tensor that has another number at each execution of the graph.

    Its op is stateful, so TensorFlow neither folds it into a constant nor merges it with another.

    Args:
        numbers: Numbers the calls.
        in_order: Whether the ticket has the next of these numbers; a `tf.function` then numbers its
            calls in the order in which they were written.
    """
    require_threads(LARGEST_FORKED + 1)
    if in_order or are_deterministic():
        (ticket,) = python_op(
            lambda: np.array(next(numbers), np.int64), [], [tf.int64], stateful=True
        )
    else:
        # Of 2^62 numbers; two equal ones would matter only to a call that is evaluated at the same
        # angles, with shots, as long as the first one is kept.
        ticket = tf.raw_ops.RandomUniformInt(
            shape=tf.constant([], tf.int32),
            minval=tf.constant(_FIRST, tf.int64),
            maxval=tf.constant(_LAST, tf.int64),
        )
    vectorise(ticket.op, lambda inputs: _draw_once(inputs, numbers, in_order))
    ticket.set_shape([])
    return ticket


def _draw_once(inputs: LoopInputs, numbers: Calls, in_order: bool) -> list[Any]:
    """Vectorises the ticket's op: all turns of a loop share one ticket if the call does not depend
    on the loop."""
    ticket = inputs.op.outputs[0]
    if ticket.graph is not tf.compat.v1.get_default_graph():
        ticket = graph_ticket(numbers, in_order)
    return [wrapped(ticket, False)]
