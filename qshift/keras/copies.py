"""Copies and pickles of Keras's layers and models, which take along qnodes that have no name.

Keras copies and pickles a model in the same way as it saves one: by its settings, which hold a
qnode's name. A file must not hold a qnode itself, but a copy may share it, and a pickle may hold
it. `keras_internals` puts the functions of this module into Keras.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pennylane as qml

_given: ContextVar[Handed | None] = ContextVar("given", default=None)
_taken: ContextVar[Handed | None] = ContextVar("taken", default=None)


class Handed:
    """The names that stand for qnodes in settings, and these qnodes, for one copy or pickle."""

    def __init__(self) -> None:
        self.qnodes: dict[str, qml.QNode] = {}

    def __deepcopy__(self, memo: dict) -> Handed:
        return self


def give(qnode: qml.QNode) -> str | None:
    """Returns a name for a qnode in settings while a copy or pickle is made, which takes the qnode
    along; None at other times."""
    handed = _given.get()
    if handed is None:
        return None
    name = f"handed>{uuid.uuid4()}"
    handed.qnodes[name] = qnode
    return name


def take(name: str) -> qml.QNode | None:
    """Returns the qnode of a name that `give` returned, while its copy or pickle is made."""
    handed = _taken.get()
    return None if handed is None else handed.qnodes.get(name)


def _restored(make: Callable, arguments: tuple, handed: Handed) -> Any:
    token = _taken.set(handed)
    try:
        return make(*arguments)
    finally:
        _taken.reset(token)


def taking_qnodes_along(reduce: Callable) -> Callable:
    """Returns a `__reduce__` for layers and models that includes the qnodes in them.

    Args:
        reduce: Keras's `__reduce__`, with settings and weights only.
    """

    @functools.wraps(reduce)
    def reduce_with_qnodes(self: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        handed = Handed()
        token = _given.set(handed)
        try:
            made = reduce(self)
        finally:
            _given.reset(token)
        return (_restored, (*made, handed)) if handed.qnodes else made

    return reduce_with_qnodes
