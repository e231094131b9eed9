"""Recording of gates, for each thread by itself.

PennyLane keeps one stack of open recordings for the whole process, so a gate that one thread makes
is recorded by whatever another thread is recording, and two threads that record lock each other
out. TensorFlow runs ops and pipelines in threads of its own. `pennylane_changes_internals`
puts the classes of this module into PennyLane, so that each thread has its own stack.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import tensorflow as tf
from pennylane.operation import Operator
from pennylane.ops import LinearCombination
from pennylane.queuing import AnnotatedQueue, QueuingManager

from qshift.circuits.pennylane_internals import put_data
from qshift.errors import UnsupportedError
from qshift.tensors import common_dtype, stacked


class _Open(threading.local):
    """The open recordings of a thread, the innermost last."""

    def __init__(self) -> None:
        self.stack: list = []


class Stack:
    """A stack that takes the place of PennyLane's: each thread sees its own.

    Args:
        stack: The stack of the thread that makes this object.
    """

    def __init__(self, stack: list) -> None:
        self.open = _Open()
        self.open.stack = stack

    # Every gate calls these methods, so they run no Python code.
    append, pop, __getitem__, __iter__, __len__ = (
        property(attrgetter(f"open.stack.{name}"))
        for name in ("append", "pop", "__getitem__", "__iter__", "__len__")
    )


class NoLock:
    """A lock that never waits, in place of those by which PennyLane lets one thread record."""

    acquire = release = staticmethod(bool)  # which does nothing


class _Own(threading.local):
    """The number of functions made by `by_value` that a thread is running."""

    depth = 0


_own = _Own()


def with_arguments_read(make: Callable) -> Callable:
    """Lets PennyLane's operators read variables and lists of tensors when they are made.

    An operator that holds a variable, as a parameter or an exponent, would be run with a value that
    is assigned later. A list of tensors would become a NumPy array, which has no derivatives.

    Args:
        make: A function that makes an object of a class, given its arguments.
    """

    @functools.wraps(make)
    def made(cls: type, *args: Any, **kwargs: Any) -> Any:
        if _own.depth and issubclass(cls, Operator):
            args = tuple([_read(x, cls) if _is_read(type(x)) else x for x in args])  # type: ignore[arg-type]
            for name, x in kwargs.items():
                if _is_read(type(x)) and name != "wires":  # type: ignore[arg-type]
                    kwargs[name] = _read(x, cls)
        return make(cls, *args, **kwargs)

    return made


@functools.lru_cache(maxsize=1024)
def _is_read(kind: type) -> bool:
    """Whether arguments of a class are read: variables, and lists, which may hold tensors."""
    return kind in (list, tuple) or _is_variable_class(kind)


def _read(argument: Any, cls: type) -> Any:
    if not _is_read(type(argument)):  # type: ignore[arg-type]
        return argument
    if _is_variable(argument):
        return tf.convert_to_tensor(argument)
    leaves = _leaves(argument)
    if not any(map(_is_moving, leaves)):
        return argument
    known = all(hasattr(leaf, "numpy") or not tf.is_tensor(leaf) for leaf in leaves)
    if issubclass(cls, LinearCombination) and known:  # it takes its coefficients one by one
        return type(argument)(_read(each, cls) for each in argument)
    try:
        return stacked(argument, common_dtype(leaves))
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise UnsupportedError(
            f"{cls.__name__} was given a list of tensors that do not make one tensor ({error}). "
            "Stack or concatenate them yourself: tf.stack, tf.concat."
        ) from error


def _leaves(nest: Any) -> list:
    if type(nest) in (list, tuple):
        return [leaf for each in nest for leaf in _leaves(each)]
    return [nest]


def _is_moving(leaf: Any) -> bool:
    dtype = tf.as_dtype(leaf.dtype) if _is_tensor(leaf) else tf.bool
    return dtype.is_floating or dtype.is_complex


def _is_tensor(leaf: Any) -> bool:
    return tf.is_tensor(leaf) or _is_variable(leaf)


class _Gates(AnnotatedQueue):
    """Records gates with the numbers that variables have when the gates are made."""

    def append(self, obj: Any, **kwargs: Any) -> None:
        op = getattr(obj, "obj", obj)
        observable = getattr(op, "obs", None)
        op = op if observable is None else observable
        data = getattr(op, "data", ())
        if any(_is_variable_class(type(x)) for x in data):  # type: ignore[arg-type]
            put_data(op, [tf.convert_to_tensor(x) if _is_variable(x) else x for x in data])
        super().append(obj, **kwargs)


def _is_variable(parameter: Any) -> bool:
    return _is_variable_class(type(parameter))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1024)
def _is_variable_class(kind: type) -> bool:
    if issubclass(kind, tf.Tensor):
        return False
    # Keras's variables are none of TensorFlow's.
    return issubclass(kind, tf.Variable) or hasattr(kind, "__tf_tensor__")


def by_value(function: Callable) -> Callable:
    """Returns a quantum function whose gates read variables when they are made.

    A gate that holds a variable would be run with a value that is assigned later.
    """

    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        queue = QueuingManager.active_context()
        if queue is not None:  # that of `qml.QNode.construct`, which is empty
            queue.__class__ = _Gates
        _own.depth += 1
        try:
            return function(*args, **kwargs)
        finally:
            _own.depth -= 1

    return recorded
