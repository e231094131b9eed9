"""Recording of gates, for each thread by itself.

PennyLane keeps one stack of open recordings for the whole process, so a gate that one thread makes
is recorded by whatever another thread is recording, and two threads that record lock each other
out. TensorFlow runs ops and pipelines in threads of its own. `pennylane_changes_internals`
puts the classes of this module into PennyLane, so that each thread has its own stack.
"""

from __future__ import annotations

import threading
from operator import attrgetter


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
