"""Calls of qnodes without their circuits: everything happens, but made-up numbers stand in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import tensorflow as tf

from qshift.autodiff.op import Program
from qshift.errors import UnsupportedError
from qshift.tensorflow_internals import function_graph

_NOWHERE = object()
_rehearsing: ContextVar[object] = ContextVar("rehearsing", default=_NOWHERE)


@contextmanager
def rehearsal() -> Iterator[None]:
    """Within it, qnodes run nothing.

    Results have the structure, shapes and dtypes of real ones. Their numbers are a fixed function
    of the circuit's parameters, each number of all of them, so results that agree come from
    circuits with the same parameters. They have no derivatives. In a graph they are made by ops
    that treat the rows of a batch alike and separately.
    """
    token = _rehearsing.set(function_graph())
    try:
        yield
    finally:
        _rehearsing.reset(token)


def is_rehearsal() -> bool:
    return _rehearsing.get() is not _NOWHERE


def made_up(program: Program, tensors: list[tf.Tensor]) -> tf.Tensor:
    """Returns float64[N, M] in [-1, 1] for parameters as `Program` takes them.

    Raises:
        UnsupportedError: In a function that is being traced meanwhile, which would give made-up
            numbers for ever.
    """
    if function_graph() is not _rehearsing.get():
        raise UnsupportedError(
            "A quantum function calls a tf.function with another qnode in it, whose first call "
            "would be one without circuits, to find out how it reads its inputs. Call that qnode "
            "without tf.function; the whole is compiled where the layer is."
        )
    shape = (program.circuit.num_parameters, program.circuit.num_values)
    mixing = np.random.default_rng(0).normal(size=(shape[0] + 1, shape[1]))
    order = [column for columns in program.columns for column in columns]
    return tf.cos(tf.concat(tensors, 1) @ mixing[1:][order] + mixing[0])
