"""Whether a gate is unitary, found out from the gate and not from its values.

After other gates, expectation values are not those of a state: they may exceed the observable's
largest eigenvalue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.operation import Channel, Operator, StatePrepBase
from pennylane.ops.op_math import (
    Adjoint,
    Conditional,
    Controlled,
    Evolution,
    Exp,
    Pow,
    Prod,
    SProd,
    Sum,
)
from pennylane.pauli import PauliWord
from scipy import sparse

from qshift.circuits.hermitian import WIDEST_MATRIX, hermitian_problem
from qshift.circuits.identity import WIDEST_CUSTOM, is_custom, operators
from qshift.circuits.scalars import require
from qshift.circuits.smooth_decompositions import parts
from qshift.errors import UnsupportedError

if TYPE_CHECKING:
    from pennylane.pytrees import PyTreeStructure

_TOLERANCE = 1e-5  # for the entries of U^dagger U, for matrices in single precision
_WRITTEN = 1e-3  # the same for matrices that users give, which may be written with few digits
_UNKNOWN = 1e-14  # error of cosines and sines, relative to their angle
_NO_GATES = (Channel, StatePrepBase)
_BY_MATRIX = (
    qml.QubitUnitary,
    qml.DiagonalQubitUnitary,
    qml.Hermitian,
    qml.Projector,
    Sum,
)


def require_unitary(op: Operator) -> None:
    """Raises UnsupportedError for a gate that is not unitary. Rounding is allowed for.

    Args:
        op: A gate, channel or state preparation, with numbers as parameters.
    """
    if problem := _problem(op):
        raise UnsupportedError(
            f"{op.name} on wires {op.wires.tolist()} is no unitary gate: {problem}. What it makes "
            "of a state is none. For a time evolution exp(-i t H), give a real t and a Hermitian "
            "H, as in qml.evolve(H, t); for a matrix, give a unitary one."
        )


def require_real_angles(op: Operator) -> None:
    """Raises UnsupportedError for a constant angle that is complex; devices take its real part."""
    for part in operators(op):
        numbers = part.data if isinstance(part, Operator) else ()
        if isinstance(part, Exp | SProd) or len(list(operators(part))) > 1:
            continue  # the number is a factor of an operator, or a parameter of a part
        for i, number in enumerate(numbers):
            if np.iscomplexobj(number) and np.ndim(number) == 0 and np.imag(number) != 0:
                raise UnsupportedError(
                    f"Parameter {i} of {part.name} is {number}, which is complex, but a gate's "
                    "angle is real: it is no unitary gate. Give its real part, its angle or its "
                    "absolute value."
                )


def require_unitary_now(op: Operator, leaves: list, structure: PyTreeStructure) -> None:
    """Raises UnsupportedError for a gate that is not unitary, if its numbers are known.

    Args:
        op: A gate, channel or state preparation.
        leaves: The leaves from `qml.pytrees.flatten`.
        structure: The structure from `qml.pytrees.flatten`.
    """
    unknown = (tf.is_tensor(leaf) and not hasattr(leaf, "numpy") for leaf in leaves)
    if isinstance(op, _NO_GATES) or any(unknown):
        return
    numbers = [leaf.numpy() if hasattr(leaf, "numpy") else leaf for leaf in leaves]
    with qml.QueuingManager.stop_recording():
        require_unitary(qml.pytrees.unflatten(numbers, structure))


def unitary_matrices(matrices: tf.Tensor, op: Operator) -> tf.Tensor:
    """Returns matrices [..., d, d], an array or tensor, if all of them are unitary or NaN.

    Args:
        matrices: The matrices.
        op: The gate that has them.

    Raises:
        UnsupportedError: If one is not unitary; in a graph an InvalidArgumentError, when it runs.
    """
    tensor = tf.cast(tf.convert_to_tensor(matrices), tf.complex128)
    products = tf.matmul(tensor, tensor, adjoint_a=True)
    distance = tf.abs(products - tf.eye(tensor.shape[-1], dtype=tf.complex128))
    message = (
        f"A matrix of {op.name} on wires {op.wires.tolist()} is no unitary one. What it makes of a "
        "state is none. Give a unitary matrix."
    )
    return require(matrices, ~tf.reduce_any(distance > _WRITTEN), UnsupportedError(message))


def _problem(op: Operator) -> str | None:
    """Returns a sentence that says why a gate is not unitary; None if it is unitary, or is not a
    gate but a channel, for example."""
    if isinstance(op, _NO_GATES) or not isinstance(op, Operator):
        return None
    if is_custom(type(op)):  # type: ignore[arg-type]
        return _of_matrix(op, WIDEST_CUSTOM)
    if isinstance(op, Adjoint | Conditional | Controlled | qml.ControlledSequence):
        return _problem(op.base)
    if isinstance(op, qml.SparseHamiltonian):
        # c * H leaves H among the gates.
        return "it is an observable; multiply it by numbers with qml.s_prod(number, observable)"
    if isinstance(op, _BY_MATRIX):
        return _of_words(op) if isinstance(op, Sum) else _of_matrix(op)
    if isinstance(op, Exp):
        return _of_exponential(op)
    if isinstance(op, Pow):
        known = None if np.iscomplexobj(op.z) else _problem(op.base)
        return known and _of_matrix(op)
    if isinstance(op, SProd):
        is_phase = abs(abs(op.scalar) - 1) < _TOLERANCE
        return None if is_phase and not _problem(op.base) else _of_matrix(op)
    if isinstance(op, Prod):
        return _of_matrix(op) if any(map(_problem, op.operands)) else None
    if any(np.iscomplexobj(x) and not np.ndim(x) for x in op.data) or any(_inside(op)):
        return _of_parts(op)
    return None  # PennyLane's other gates have angles as their only parameters


def _inside(op: Operator) -> Iterator[bool]:
    """Yields True for each operator that a gate holds."""
    for part in operators(op):
        if part is not op:
            yield True
    for value in op.hyperparameters.values():
        yield from (isinstance(each, Operator) for each in _entries(value))


def _entries(value: Any) -> Iterable:
    return value if isinstance(value, list | tuple) else [value]


def _of_exponential(op: Operator) -> str | None:
    """Returns the problem of exp(c H), as `_problem` does."""
    coefficient = -1j * op.param if isinstance(op, Evolution) else op.coeff
    is_imaginary = bool(np.real(coefficient) == 0)
    problem = hermitian_problem(op.base)
    if is_imaginary and problem is None:
        return None
    if _of_matrix(op) is None:
        return None
    if problem:
        return f"what it is the exponential of is not Hermitian, as {problem}"
    if isinstance(op, Evolution):
        return f"its time {op.param} is not real"
    return f"its coefficient {coefficient} is not imaginary"


def _of_parts(op: Operator) -> str | None:
    """Returns the problem of a gate that consists of others, as `_problem` does."""
    if op.has_matrix and len(op.wires) <= WIDEST_MATRIX:
        return _of_matrix(op)
    try:
        with qml.QueuingManager.stop_recording():
            found = parts(op)
    except UnsupportedError as error:
        return str(error).rstrip(".")
    except Exception:  # PennyLane's formulas may raise anything; code that needs them reports it
        return None
    return next(filter(None, map(_problem, found or ())), None)


def _of_words(op: Operator) -> str | None:
    words = op.pauli_rep
    if words is None:
        return _of_matrix(op)
    adjoint = type(words)({word: np.conj(c) for word, c in words.items()})
    square = dict(words @ adjoint)
    off = abs(square.pop(PauliWord({}), 0.0) - 1.0)
    return _said(max([off, *map(abs, square.values())]))


def _of_matrix(op: Operator, widest: int = WIDEST_MATRIX) -> str | None:
    if isinstance(op, qml.DiagonalQubitUnitary):
        return _said(np.max(np.abs(np.abs(op.data[0]) - 1)))
    if op.data and sparse.issparse(op.data[0]):
        matrix = op.data[0]
        square = matrix.conj().T @ matrix - sparse.identity(matrix.shape[0])
        return _said(abs(square).max(), _WRITTEN)
    if not op.has_matrix or len(op.wires) > widest:
        return None
    try:
        with np.errstate(invalid="ignore"), qml.QueuingManager.stop_recording():
            matrix = np.asarray(qml.matrix(op, wire_order=op.wires))
    except Exception:  # a user's class may raise anything; code that needs the matrix reports it
        return None
    if matrix.ndim != 2:
        return None  # a batch
    square = matrix.conj().T @ matrix
    given = isinstance(op, qml.QubitUnitary | qml.ControlledQubitUnitary)
    more = _WRITTEN if given else _uncertainty(op)
    return _said(np.max(np.abs(square - np.eye(len(matrix)))), more)


def _uncertainty(op: Operator) -> float:
    return _UNKNOWN * max((float(np.max(np.abs(x))) for x in op.data if np.size(x)), default=0.0)


def _said(difference: float, more: float = 0.0) -> str | None:
    """Returns the sentence for a difference from the identity, or None where it is small enough or
    NaN: gates with NaN give results that are NaN."""
    if not difference > _TOLERANCE + more:
        return None
    return f"U^dagger U differs from the identity by {difference:.2g}"
