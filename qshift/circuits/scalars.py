"""Numbers, arrays and tensors of any framework: their kind, and conditions that they must meet.

A condition on a tensor of a TensorFlow graph cannot be decided while the graph is built. `require`
then puts an assertion into the graph, which raises the same error when the graph runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operator

from qshift.errors import UnsupportedError
from qshift.rules.shifting import FAR


def is_number(value: Any) -> bool:
    """Whether a value is a plain number or array, of no framework that differentiates."""
    return qml.math.get_interface(value) in ("numpy", "scipy", "builtins")


def is_complex(value: Any) -> bool:
    """Whether a number, array or tensor is of a complex dtype."""
    return "complex" in qml.math.get_dtype_name(value)


def rounding_of_product(x: Any, integer: float) -> Any:
    """Returns the rounding error of ``integer * x``, by Dekker's product, for large angles: at
    x = 1e16 the error is as large as a radian.

    Args:
        x: An angle, of any framework.
        integer: The factor.

    Returns:
        The exact product minus the rounded one, without a derivative by x; None where they are
        equal, x is a constant, or the factor is not an integer.
    """
    if not is_number(integer) or integer != int(integer) or abs(integer) > 2**26:
        return None
    if is_number(x) or abs(integer) == 1:
        return None  # devices multiply constants
    if qml.math.get_dtype_name(x) not in ("float64", "complex128"):
        return None
    real = qml.math.real(qml.math.detach(x))
    if not qml.math.is_abstract(real) and not qml.math.any(abs(integer * real) > FAR):
        return None
    split = real * (2.0**27 + 1)
    upper = split - (split - real)
    left = (integer * upper - integer * real) + integer * (real - upper)
    left = qml.math.where(qml.math.abs(left) < np.inf, left, qml.math.zeros_like(left))
    return qml.math.cast_like(left, x)


def as_real(value: Any, op: Operator) -> Any:
    """Returns a number as a real one, or raises an error if it is not real; in a graph, when the
    graph runs."""
    if not is_complex(value):
        return value
    message = f"{op.name} has a complex time or coefficient, so it is no unitary gate."
    return require(qml.math.real(value), qml.math.imag(value) == 0, UnsupportedError(message))


def phases(numbers: Any, op: Operator) -> Any:
    """Returns the phases of numbers of modulus one, which are factors or entries of a gate."""
    far = abs(qml.math.abs(numbers) - 1) >= 1e-5  # False for NaN, which makes results NaN
    message = f"{op.name} has factors that are not of modulus one, so it is no unitary gate."
    near = qml.math.logical_not(far)
    return require(qml.math.angle(numbers), near, UnsupportedError(message))


def require(value: Any, condition: Any, error: UnsupportedError) -> Any:
    """Returns a value, or raises the error if the condition does not hold everywhere; in a graph,
    when the graph runs."""
    if not qml.math.is_abstract(condition):
        if not qml.math.all(condition):
            raise error
    elif tf.is_tensor(condition):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(condition), [str(error)])]):
            return tf.identity(value)
    return value
