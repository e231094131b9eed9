"""Recording of gates, for each thread by itself.

PennyLane keeps one stack of open recordings for the whole process, so a gate that one thread makes
falls onto whatever another thread is recording, and two that record lock each other out. TensorFlow
runs ops and pipelines in threads of its own. Once this module is imported, the stack is one per
thread.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow as tf
from pennylane.queuing import AnnotatedQueue, QueuingManager
from pennylane.tape import QuantumTape


class _Stack(threading.local):
    """The open recordings of a thread, the innermost last."""

    def __init__(self):
        self._open: list = []

    def append(self, queue) -> None:
        self._open.append(queue)

    def pop(self):
        return self._open.pop()

    def __getitem__(self, position: int):
        return self._open[position]

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within it, no recording is open."""
        before, self._open = self._open, []
        try:
            yield
        finally:
            self._open = before


class _NoLock:
    """In place of the locks by which PennyLane has one thread record at a time."""

    def acquire(self) -> None:
        pass

    def release(self) -> None:
        pass


def _stop_recording(cls):
    with cls._active_contexts.suspended():
        yield


def per_thread() -> None:
    """Gives every thread a stack of recordings of its own, in all of PennyLane."""
    if isinstance(QueuingManager._active_contexts, _Stack):
        return
    stack = _Stack()
    for queue in QueuingManager._active_contexts:  # of the thread that imports this
        stack.append(queue)
    QueuingManager._active_contexts = stack
    AnnotatedQueue._lock = QuantumTape._lock = _NoLock()
    # Functions that it decorates hold on to the function that it was made of.
    QueuingManager.stop_recording.__wrapped__.__code__ = _stop_recording.__code__


per_thread()


class _Gates(AnnotatedQueue):
    """Records gates with the numbers that variables have when the gates are made."""

    def append(self, obj, **kwargs):
        op = getattr(obj, "obj", obj)
        observable = getattr(op, "obs", None)
        op = op if observable is None else observable
        data = getattr(op, "data", ())
        if any(map(_is_variable, data)):
            op.data = tuple(tf.convert_to_tensor(x) if _is_variable(x) else x for x in data)
        super().append(obj, **kwargs)


def _is_variable(parameter) -> bool:
    # Keras's variables are none of TensorFlow's.
    return isinstance(parameter, tf.Variable) or hasattr(type(parameter), "__tf_tensor__")


def by_value(function: Callable) -> Callable:
    """Returns a quantum function whose gates read variables when they are made.

    A gate that holds a variable would be run with what is assigned to it later.
    """

    @functools.wraps(function)
    def recorded(*args, **kwargs):
        with _Gates() as gates:
            result = function(*args, **kwargs)
        for obj, info in gates.items():
            QueuingManager.append(obj, **info)
        return result

    return recorded
