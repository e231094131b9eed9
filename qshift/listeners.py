"""Objects that are told what happens in any thread, while a `with` block of theirs is open.

TensorFlow and executors work in threads that do not know who waits for them. So whoever listens is
kept here, for the whole process.
"""

from __future__ import annotations

from typing import Any, TypeVar

from qshift.forks import Lock

# The listeners with an open block; one of several open blocks is there as often.
opened: list[Listener] = []
_lock = Lock()

_Kind = TypeVar("_Kind", bound="Listener")


class Listener:
    """A context manager that listens while its block is open."""

    def __enter__(self: _Kind) -> _Kind:
        with _lock:
            opened.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        with _lock:
            # Another listener may be equal to this one.
            del opened[next(i for i, each in enumerate(opened) if each is self)]


def listening(kind: type[_Kind]) -> list[_Kind]:
    """Returns the listeners of a class that have an open block, each once."""
    found = {id(each): each for each in list(opened) if isinstance(each, kind)}
    return list(found.values())
