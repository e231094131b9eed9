"""Conversions of what users pass in to TensorFlow's tensors, and the dtypes these get."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.tensorflow_internals import is_watched


def is_tensor(parameter: Any) -> bool:
    return isinstance(parameter, tf.Tensor | tf.Variable)


def constant(parameter: Any) -> np.ndarray | None:
    """Returns the numbers in a tensor if they are known and no tape or forward accumulator can
    differentiate by the tensor, else None."""
    tensor = tf.convert_to_tensor(parameter)
    if not tensor.dtype.is_integer and (tensor.dtype == tf.resource or is_watched(tensor)):
        return None
    return tf.get_static_value(tensor)


def as_argument(argument: Any) -> Any:
    """Returns an argument in a form that PennyLane takes: sparse tensors become dense, and
    objects that only convert to tensors, such as Keras's variables, become tensors."""
    if isinstance(argument, tf.SparseTensor):
        return dense(argument)
    if isinstance(getattr(argument, "value", None), tf.Variable):
        return argument.value  # of a Keras variable, which somebody may assign to meanwhile
    if not is_tensor(argument) and hasattr(type(argument), "__tf_tensor__"):
        return tf.convert_to_tensor(argument)
    return argument


def dense(sparse: tf.SparseTensor) -> tf.Tensor:
    """Returns a sparse tensor as a dense one with its static shape, which TensorFlow drops."""
    return tf.ensure_shape(tf.sparse.to_dense(sparse), sparse.shape)


def common_dtype(numbers: Iterable[Any]) -> tf.DType:
    """Returns the dtype that numbers have when they are put together with tensors.

    Tensors, variables and arrays decide the precision. Python's numbers and NumPy's scalars never
    make it wider, but a complex one makes the result complex. Integers, in tensors or elsewhere,
    take the precision of the floating-point numbers. If all tensors, variables and arrays have
    integers, NumPy's rules hold, by which Python's floats are double precision.

    Args:
        numbers: Tensors, variables, arrays and numbers.

    Raises:
        TypeError: If the numbers have no common dtype.
    """
    deciding: list[np.dtype] = []
    others: list[np.dtype] = []
    for each in numbers:
        decides = _decides(each)
        kind = each.dtype if decides else np.asarray(each).dtype
        (deciding if decides else others).append(np.dtype(tf.as_dtype(kind).as_numpy_dtype))
    precise = [kind for kind in deciding if _is_inexact(kind)]
    numeric = [kind for kind in others if _is_inexact(kind)]
    if not precise:
        return tf.as_dtype(np.result_type(*deciding, *others))
    if any(kind.kind == "c" for kind in numeric):
        precise.append(np.dtype(np.complex64))
    return tf.as_dtype(np.result_type(*precise))


def _decides(number: Any) -> bool:
    """Whether a value is a tensor, variable or array, and not a number of Python's or a scalar of
    NumPy's."""
    return hasattr(number, "dtype") and not isinstance(number, np.generic)


def _is_inexact(kind: np.dtype) -> bool:
    dtype = tf.as_dtype(kind)
    return dtype.is_floating or dtype.is_complex  # NumPy does not count bfloat16 among them


def stacked(nest: Any, dtype: tf.DType) -> tf.Tensor:
    """Returns a number, array, tensor or variable, or a nest of them, as one tensor."""
    if isinstance(nest, list | tuple):
        if any(hasattr(each, "dtype") or isinstance(each, list | tuple) for each in nest):
            return tf.stack([stacked(each, dtype) for each in nest])
        nest = np.asarray(nest)
    # tf.cast would convert Python's numbers to single precision first.
    return tf.cast(nest if _decides(nest) else np.asarray(nest, dtype.as_numpy_dtype), dtype)


def of_one_dtype(parts: Sequence[Any]) -> list[tf.Tensor]:
    """Casts tensors, arrays and numbers, or nests of them, to their common dtype."""
    dtype = common_dtype(leaf for part in parts for leaf in tf.nest.flatten(part))
    return [stacked(part, dtype) for part in parts]
