"""The angles omega(theta) of `qshift.circuits.special_unitary` as a TensorFlow op.

It has derivatives of every order: a derivative is a contraction with those of one order more.

(That is not the derivative of the derivatives as they change with theta: the point a stays where it
is.)
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
        """No shift rules are needed."""


class _Expansion:
    """omega near some points.

    Args:
        parameters: float64[N, 4**n - 1].
        num_wires: n.
    """

    nbytes = 0
    final = False

    def __init__(self, parameters: np.ndarray, num_wires: int) -> None:
        self.parameters = parameters
        self._num_wires = num_wires

    def partials(self, indices: Any, also: Any = ()) -> np.ndarray:
        rows = [
            special_unitary.partial_derivatives(row, indices, self._num_wires)
            for row in self.parameters
        ]
        return np.array(rows).reshape(*self.parameters.shape, len(indices))


@lru_cache(maxsize=16)
def _program(num_wires: int, followed: Any) -> Program:
    structure: Any = _Structure(num_wires)
    columns = tuple(range(structure.num_parameters))
    return Program(
        structure,
        (columns,),
        (columns if followed else None,),
        lambda parameters, number: _Expansion(parameters, num_wires),
        EvaluatedCalls(),
    )


def coordinates(theta: Any, num_wires: int) -> Any:
    """Returns omega, zeros [..., 4**n - 1] that know their derivatives of all orders by theta."""
    theta = tf.cast(tf.convert_to_tensor(theta), tf.float64)
    program = _program(num_wires, not tf.executing_eagerly() or is_watched(theta))
    tensors = [tf.reshape(theta, [-1, theta.shape[-1]])]
    run = present().instead_of_running
    omega = program(tensors) if run is None else run(program, tensors)
    return tf.reshape(omega, tf.shape(theta)) if theta.shape.rank > 1 else omega[0]


special_unitary.IN_FRAMEWORK["tensorflow"] = coordinates
