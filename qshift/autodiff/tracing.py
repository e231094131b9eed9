"""What is traced by `tf.function`: for which objects, and what to do where that cannot be."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from qshift.autodiff.node import own_errors
from qshift.errors import UntraceableError
from qshift.fallbacks import warn_slower


class Itself(tf.types.experimental.TraceType):
    """The type of a Python object as an argument of a `tf.function`: it is traced for each object.

    Where TensorFlow does not know better, it hands out what a decorator has wrapped.

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
    """Calls a `tf.function`, or does it eagerly where it cannot be traced as it looks at numbers.

    What fails when it runs comes out as it is, and is not tried again.

    Args:
        function: The function.
        tensors: Its arguments.
        eagerly: Does the same without it.
    """
    with own_errors():  # of what raises TensorFlow's errors, as it runs
        try:
            return function(*tensors)
        except (TypeError, AttributeError, NotImplementedError, UntraceableError) as error:
            reason = " ".join(str(error).split())[-200:]
            reason = f"{type(error).__name__}: {reason}"
            warn_slower("A function cannot be compiled and runs eagerly", reason)
    return eagerly()
