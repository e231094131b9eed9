"""Copies and pickles of Keras's layers and models take qnodes along that no name finds.

Keras copies and pickles a model as it saves it: by its settings, which hold a qnode's name. A file
must not hold a qnode itself, but a copy may share it, and a pickle may hold what the pickler takes.
`keras_internals` puts what is here into Keras.
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
    """Qnodes by the names that stand for them in settings, for one copy or pickle."""

    def __init__(self) -> None:
        self.qnodes: dict[str, qml.QNode] = {}

    def __deepcopy__(self, memo: dict) -> Handed:
        return self


def give(qnode: qml.QNode) -> str | None:
    """Returns a name for a qnode in settings if these are for a copy or pickle, which takes the
    qnode along; None if they are for anything else."""
    handed = _given.get()
    if handed is None:
        return None
    name = f"handed>{uuid.uuid4()}"
    handed.qnodes[name] = qnode
    return name


def take(name: str) -> qml.QNode | None:
    """Returns the qnode of a name that `give` made, while its copy or pickle is being made."""
    handed = _taken.get()
    return None if handed is None else handed.qnodes.get(name)


def _restored(make: Callable, arguments: tuple, handed: Handed) -> Any:
    token = _taken.set(handed)
    try:
        return make(*arguments)
    finally:
        _taken.reset(token)


def taking_qnodes_along(reduce: Callable) -> Callable:
    """Returns the `__reduce__` of layers and models, with the qnodes that they hold.

    Args:
        reduce: The one that has their settings and weights only.
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
