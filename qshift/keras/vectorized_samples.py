"""Corrections where TensorFlow vectorises the calls for all samples and does so wrongly.

`tf.vectorized_map` drops the gradients of a `tf.custom_gradient`, and squeezes the axis of the
samples away together with the other axes of length one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from qshift.errors import UnsupportedError
from qshift.tensorflow_internals import vectorise, wrapped


def without_derivatives(results: Any, name: str) -> Any:
    """Returns results that raise an error when they are differentiated, because TensorFlow would
    ignore the user's own gradients."""

    @tf.custom_gradient
    def refuse(*tensors: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., Any]]:
        def gradient(*cotangents: tf.Tensor) -> None:
            raise UnsupportedError(
                f"{name} has a tf.custom_gradient, which TensorFlow drops where it vectorises the "
                "calls for all samples. Write it for a whole batch, with inputs[..., i] for "
                "feature i, or put what has the gradient into a layer before this one. In eager "
                "mode it works as it is."
            )

        return [tf.identity(tensor) for tensor in tensors], gradient

    return tf.nest.pack_sequence_as(results, refuse(*tf.nest.flatten(results)))


def squeeze_samples_only(graph: tf.Graph) -> None:
    """Corrects how TensorFlow vectorises ops that squeeze all axes of length one, such as those of
    `tf.norm`: with a single sample, TensorFlow would squeeze the axis of the samples as well."""

    def convert(inputs: Any) -> Any:
        axes = [i + 1 for i, size in enumerate(inputs.op.inputs[0].shape) if size == 1]
        tensor = inputs.stacked_input(0)
        return wrapped(tf.squeeze(tensor, axes) if axes else tensor, True)

    for op in graph.get_operations():
        squeezes_all = op.type == "Squeeze" and not op.get_attr("squeeze_dims")
        if squeezes_all and op.inputs[0].shape.is_fully_defined():
            vectorise(op, convert)
