"""Errors of nodes that graphs run, raised unchanged in place of TensorFlow's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

# The errors raised within each open block of `own_errors`, of all threads. They are kept in the
# module, because TensorFlow runs nodes in its own threads, which do not know who runs the graph.
_listening: list[list[Exception]] = []


def tell(error: Exception) -> None:
    """Tells the open blocks of `own_errors` that a node has raised an error."""
    for raised in _listening:
        raised.append(error)


@contextmanager
def own_errors() -> Iterator[None]:
    """A context in which an error of a node that a graph runs is raised unchanged; outside of it,
    TensorFlow raises an error of its own class instead."""
    raised: list[Exception] = []
    _listening.append(raised)
    try:
        yield
    except tf.errors.OpError as error:
        # Other threads may be running graphs as well.
        own = (x for x in raised if f"{type(x).__name__}: {x}" in error.message)
        raise next(own, error) from None
    finally:
        _listening[:] = [other for other in _listening if other is not raised]
