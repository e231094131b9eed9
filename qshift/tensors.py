"""TensorFlow's tensors, as all of qshift takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from qshift.tensorflow_internals import is_watched


def is_tensor(parameter: Any) -> bool:
    return isinstance(parameter, tf.Tensor | tf.Variable)


def constant(parameter: Any) -> np.ndarray | None:
    """Returns the numbers in a tensor if they are known and nothing can differentiate by it."""
    tensor = tf.convert_to_tensor(parameter)
    if not tensor.dtype.is_integer and (tensor.dtype == tf.resource or is_watched(tensor)):
        return None
    return tf.get_static_value(tensor)


def as_argument(argument: Any) -> Any:
    """Returns an argument as PennyLane takes it: dense, and what TensorFlow takes for a tensor as
    one of its own, which Keras's variables are not."""
    if isinstance(argument, tf.SparseTensor):
        return dense(argument)
    if not is_tensor(argument) and hasattr(type(argument), "__tf_tensor__"):
        return tf.convert_to_tensor(argument)
    return argument


def dense(sparse: tf.SparseTensor) -> tf.Tensor:
    """Returns a sparse tensor as a dense one; TensorFlow forgets what shape it has."""
    return tf.ensure_shape(tf.sparse.to_dense(sparse), sparse.shape)
