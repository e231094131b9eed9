"""SavedModels hold circuits as plain TensorFlow ops, which are served without Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.node import GRADIENTS
from qshift.autodiff.program import Program
from qshift.errors import UnsupportedError
from qshift.tensorflow_internals import replace_python_ops_saved


def _replacement(function: Any, read: set[int]) -> Any:
    """Returns a concrete function in place of what an op of a graph calls.

    Args:
        function: What the op calls: nodes at the points of a program, or what numbers calls.
        read: Which of the op's outputs are read.

    Raises:
        UnsupportedError: If it is not the values of an exact circuit on the embedded simulator.
    """
    nodes = getattr(function, "nodes", None)
    with tf.init_scope():
        if nodes is None:  # the number of a call, which nobody reads there
            return tf.function(lambda: tf.zeros([], tf.int64)).get_concrete_function()
        program = nodes[0].program
        if nodes[0] is not program.values or read - {0}:
            raise _refused("derivatives of it are computed in a function that is saved")
        if program.plain is None:
            raise _refused("it is a periodic function that NumPy evaluates")
        try:
            return _concrete(program, program.plain(), len(nodes) - 1)
        except UnsupportedError as error:
            raise _refused(str(error)) from error


def _concrete(program: Program, values: Any, others: int) -> Any:
    """Returns the values of a program, and as many further outputs as nobody reads."""
    order = np.argsort([column for part in program.columns for column in part])

    @tf.function(autograph=False)
    def plain(ticket: tf.Tensor, *parts: tf.Tensor) -> list[tf.Tensor]:
        points = tf.gather(tf.concat(parts, axis=1), order.astype(np.int32), axis=1)
        return [values(points)[:, :, None], *[tf.zeros([0], tf.int64) for _ in range(others)]]

    parts = [tf.TensorSpec([None, len(part)], tf.float64) for part in program.columns]
    return plain.get_concrete_function(tf.TensorSpec([], tf.int64), *parts)


def _refused(reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"A SavedModel cannot hold this quantum circuit: {reason}. Save the model as "
        'model.save("name.keras") with its qnodes registered by qshift.keras.register, or only the '
        "weights, by model.save_weights or tf.train.Checkpoint, and make the qnodes anew there."
    )


replace_python_ops_saved(_replacement, GRADIENTS)
