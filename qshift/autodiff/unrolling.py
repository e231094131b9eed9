"""While a quantum function is recorded in a graph, tensors iterate as eager ones do.

The gates of a circuit must be known when it is traced, so a loop over a tensor is unrolled.
AutoGraph would make the loop part of the graph, and without AutoGraph TensorFlow refuses to
iterate. Within `unrolled`, such loops run in Python.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from qshift.autodiff.remembered_ops import indexed
from qshift.errors import QShiftError, UnsupportedError, UntraceableError
from qshift.tensorflow_internals import iterate_in_graphs


class UnknownSizeError(UntraceableError):
    """Raised where a quantum function needs a size that is not known while it is traced."""


class _Depth(threading.local):
    """The number of `unrolled` blocks that are open in a thread."""

    open = 0


_depth = _Depth()


@contextmanager
def unrolled() -> Iterator[None]:
    """A context in which tensors of a graph can be iterated over and unpacked, have a length, and
    remember how they were made, as in `indexed`.

    The first axis of such a tensor must have a known length.
    """
    _depth.open += 1
    try:
        with indexed():
            yield
    finally:
        _depth.open -= 1


iterate_in_graphs(lambda: bool(_depth.open))


def explained(error: Exception, name: str, arguments: Sequence[Any]) -> Exception:
    """Returns the error to raise for an error that a quantum function raised: one that explains the
    way out if the function does what graphs cannot do, or PennyLane does what TensorFlow cannot.

    Args:
        error: The error that the function raised.
        name: The function's name.
        arguments: The function's arguments, in any nest.

    Returns:
        A new error, or the error itself where it says enough.
    """
    if isinstance(error, QShiftError):
        return error
    text = str(error)
    if isinstance(error, TypeError) and _COMPLEX.search(text):
        return UnsupportedError(
            f"{name} has a real tensor where PennyLane multiplies by a complex number "
            f"({_first_sentence(text)}). Give a complex one there, such as "
            "qml.evolve(hamiltonian, tf.cast(time, tf.complex128)); its derivatives are the same."
        )
    if tf.executing_eagerly():
        return error
    unknown = [
        tensor.shape
        for tensor in tf.nest.flatten(arguments)
        if isinstance(tensor, tf.Tensor) and not tensor.shape.is_fully_defined()
    ]
    if isinstance(error, tf.errors.OperatorNotAllowedInGraphError) or "symbolic" in text.lower():
        return UntraceableError(
            f"While {name} is traced in a tf.function, the numbers in its tensors are not known, "
            f"but it asks for them ({_first_sentence(text)}). Pass what decides about its gates as "
            "a Python number or a NumPy array, or call it outside of the tf.function."
        )
    if not isinstance(error, TypeError | ValueError) or not _is_about_shapes(text):
        return error
    if unknown:
        shapes = ", ".join(map(str, unknown))
        return UnknownSizeError(
            f"{name} asks for a size that is not known where it is traced: it was called with "
            f"tensors of shape {shapes} ({_first_sentence(text)}). Give the tf.function an "
            "input_signature with that size, use tf.ensure_shape, or, if it is a batch, call the "
            "function for one sample in tf.vectorized_map."
        )
    if "unknown" in text:
        return UnknownSizeError(
            f"{name} asks for a size that is not known where it is traced, of a tensor that it "
            f"computes ({_first_sentence(text)}). Say it with tf.ensure_shape, or call {name} "
            "outside of the tf.function."
        )
    return error


# The forms in which TensorFlow's messages have the number, in eager mode and in graphs.
_COMPLEX = re.compile(r"convert \(?-?[\d.+-]*j\)? to EagerTensor|got .*j\)? of type 'complex'")


def _first_sentence(text: str) -> str:
    return " ".join(text.split(". ")[0].split())[:200].rstrip(".")


def _is_about_shapes(text: str) -> bool:
    return any(word in text for word in ("None", "unknown", "rank", "dimension"))
