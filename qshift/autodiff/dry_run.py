"""Calls of qnodes without running circuits: made-up numbers take the place of their values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import tensorflow as tf

from qshift.autodiff.program import Program
from qshift.autodiff.requests import request
from qshift.errors import UnsupportedError
from qshift.tensorflow_internals import function_graph


@contextmanager
def rehearsal() -> Iterator[None]:
    """A context in which qnodes run no circuits.

    Results have the structure, shapes and dtypes of real ones. Their numbers are a fixed function
    of the circuit's parameters, and each number depends on all parameters, so results that agree
    come from circuits with the same parameters. They have no derivatives. In a graph, the numbers
    are made by ops that treat the rows of a batch alike and separately.
    """
    with request(instead_of_running=partial(_made_up, function_graph())):
        yield


def _made_up(graph: tf.Graph | None, program: Program, tensors: list[tf.Tensor]) -> tf.Tensor:
    """Returns float64[N, M] in [-1, 1] for parameters as `Program` takes them.

    Args:
        graph: The graph of the function for which the numbers are made; None in eager mode.
        program: The program that is not run.
        tensors: The program's parameters.

    Raises:
        UnsupportedError: If another function is being traced at the same time: its graph would give
            made-up numbers for ever.
    """
    if function_graph() is not graph:
        raise UnsupportedError(
            "A quantum function calls a tf.function with another qnode in it, whose first call "
            "would be one without circuits, to find out how it reads its inputs. Call that qnode "
            "without tf.function; the whole is compiled where the layer is."
        )
    shape = (program.circuit.num_parameters, program.circuit.num_values)
    mixing = np.random.default_rng(0).normal(size=(shape[0] + 1, shape[1]))
    order = [column for columns in program.columns for column in columns]
    return tf.cos(tf.concat(tensors, 1) @ mixing[1:][order] + mixing[0])
