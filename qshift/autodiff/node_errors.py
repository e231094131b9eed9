"""Errors of nodes that graphs run, raised unchanged in place of TensorFlow's own."""

from __future__ import annotations

from types import TracebackType

import tensorflow as tf

from qshift.listeners import Listener, listening


class own_errors(Listener):  # noqa: N801  # it is used like a function
    """A context in which an error of a node that a graph runs is raised unchanged; outside of it,
    TensorFlow raises an error of its own class instead."""

    def __init__(self) -> None:
        self._raised: list[Exception] = []

    def hear(self, error: Exception) -> None:
        """Is told that a node has raised an error, in a graph that anybody runs."""
        self._raised.append(error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, tf.errors.OpError):
            # Other threads may be running graphs as well.
            own = (x for x in self._raised if f"{type(x).__name__}: {x}" in error.message)
            raise next(own, error) from None


def tell(error: Exception) -> None:
    """Tells the open blocks of `own_errors` that a node has raised an error."""
    for block in listening(own_errors):
        block.hear(error)
