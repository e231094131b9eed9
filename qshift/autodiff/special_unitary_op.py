"""The angles omega(theta) of `qshift.circuits.special_unitary` as a TensorFlow op.

The op has derivatives of every order: the derivative of its derivatives of order k is a contraction
with those of order k + 1, at a fixed point a. (The derivatives of order k also change where the
point a moves with theta; that is not what is meant.)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.calls import EvaluatedCalls
from qshift.autodiff.program import Program
from qshift.autodiff.requests import present
from qshift.circuits import special_unitary
from qshift.tensorflow_internals import is_watched


class _Structure:
    """omega as a function of theta, as `qshift.autodiff.op.Program` sees it."""

    def __init__(self, num_wires: int) -> None:
        self.num_parameters = self.num_values = 4**num_wires - 1

    def require_rules(self, _: Any) -> None:
        """Does nothing, as omega has derivatives by all entries of theta."""


class _Expansion:
    """The values and derivatives of omega at some points, as `Evaluation` has those of circuits.

    Args:
        parameters: float64[N, 4**n - 1].
        num_wires: n.
    """

    nbytes = 0
    final = False
    observer = None

    def __init__(self, parameters: np.ndarray, num_wires: int) -> None:
        self.parameters = parameters
        self._num_wires = num_wires

    def partials(self, indices: Any, also: Any = ()) -> np.ndarray:
        rows = [
            special_unitary.partial_derivatives(row, indices, self._num_wires)
            for row in self.parameters
        ]
        return np.array(rows).reshape(*self.parameters.shape, len(indices))

    def inherit(self) -> None:
        """Does nothing in the child of a fork: there is no lock."""


@lru_cache(maxsize=16)
def _program(num_wires: int, followed: Any) -> Program:
    structure: Any = _Structure(num_wires)
    columns = tuple(range(structure.num_parameters))
    return Program(
        structure,
        (columns,),
        (columns if followed else None,),
        lambda parameters, **_: _Expansion(parameters, num_wires),
        EvaluatedCalls(),
        plain=lambda: tf.zeros_like,
    )


def coordinates(theta: Any, num_wires: int) -> Any:
    """Returns omega [..., 4**n - 1]: zeros, with derivatives of all orders by theta."""
    theta = tf.cast(tf.convert_to_tensor(theta), tf.float64)
    program = _program(num_wires, not tf.executing_eagerly() or is_watched(theta))
    tensors = [tf.reshape(theta, [-1, theta.shape[-1]])]
    run = present().instead_of_running
    omega = program(tensors) if run is None else run(program, tensors)
    return tf.reshape(omega, tf.shape(theta)) if theta.shape.rank > 1 else omega[0]


special_unitary.IN_FRAMEWORK["tensorflow"] = coordinates
