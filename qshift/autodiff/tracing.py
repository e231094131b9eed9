"""Tracing by `tf.function`: Python objects as arguments, and functions that cannot be traced."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from qshift.autodiff.node_errors import own_errors
from qshift.errors import UntraceableError
from qshift.fallbacks import warn_slower


class Itself(tf.types.experimental.TraceType):
    """The trace type of a Python object as an argument of a `tf.function`, which is traced anew for
    each object.

    For an object without a trace type, TensorFlow passes the function that a decorator has wrapped,
    in place of the object.

    Args:
        value: The object.
    """

    def __init__(self, value: object) -> None:
        self._value = weakref.ref(value)

    def is_subtype_of(self, other: Any) -> bool:
        return self == other

    def most_specific_common_supertype(self, others: Any) -> Any:
        return self if all(self == other for other in others) else None

    def placeholder_value(self, placeholder_context: Any = None) -> Any:
        return self._value()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


def call_compiled(function: Any, tensors: Sequence[tf.Tensor], eagerly: Callable[[], Any]) -> Any:
    """Calls a `tf.function`, or does the same eagerly if the function cannot be traced because it
    reads numbers of tensors.

    Errors of circuits when the graph runs are raised unchanged, and nothing is tried again.

    Args:
        function: The `tf.function`.
        tensors: The function's arguments.
        eagerly: Does the same in eager mode.
    """
    with own_errors():  # as the graph would raise TensorFlow's errors in place of a node's own
        try:
            return function(*tensors)
        except (TypeError, AttributeError, NotImplementedError, UntraceableError) as error:
            reason = " ".join(str(error).split())[-200:]
            reason = f"{type(error).__name__}: {reason}"
            warn_slower("A function cannot be compiled and runs eagerly", reason)
    return eagerly()
