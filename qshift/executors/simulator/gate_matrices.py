"""Gates that are no rotations about few Pauli words: a matrix on some wires, maybe controlled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.ops.op_math import Adjoint, Controlled
from scipy.linalg import expm

from qshift.circuits.identity import contains_custom
from qshift.circuits.smooth_decompositions import has_decomposition
from qshift.circuits.spectra import standard_name
from qshift.executors.simulator.measurement_bases import NotCoveredError

if TYPE_CHECKING:
    from pennylane.operation import Operator

    from qshift.circuits.circuit import Circuit

SAME_GATE = 1e-10  # between its matrix and what its generator says


@dataclass(frozen=True)
class MatrixGate:
    """A gate that is applied as a matrix.

    Attributes:
        op: The gate.
        position: Its position among the circuit's operations; -1 if it is constant.
        columns: The columns of the point that it depends on.
        places: int64[D]: for each row of the matrix the amplitude's bits on which it acts.
        masks: int64[3]: all of these bits, the bits that control the matrix, and their values.
        constant: float64[D, D, 2, 1], the matrix where it is constant.
        generator: complex[D, D], the derivative by its only parameter is this matrix times the
            gate; None if there is none.
    """

    op: Operator
    position: int
    columns: Sequence[int]
    places: np.ndarray
    masks: np.ndarray
    constant: np.ndarray | None
    generator: np.ndarray | None

    def matrices(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns the matrices at points float64[N, P]: float64[D, D, 2, N], or for 1 instead of N
        if they are the same at all of them."""
        if self.constant is not None:
            return self.constant
        own = points[:, self.columns]
        if (own == own[:1]).all():
            points = points[:1]
        ops = [circuit.bound(self.position, point[None]) for point in points]
        return np.stack([numbers(matrix_of(target(op)[0])) for op in ops], axis=-1)


def numbers(matrix: np.ndarray) -> np.ndarray:
    """Returns a complex matrix as real and imaginary parts, float64[D, D, 2]."""
    return np.stack([matrix.real, matrix.imag], axis=-1)


def target(op: Operator) -> tuple[Operator, list, list[bool]]:
    """Returns the gate inside of one of PennyLane's controlled gates, or of the inverse of one, the
    wires that control it, and their values."""
    controls, values, inverse = [], [], False
    while isinstance(op, Adjoint | Controlled) and standard_name(op) is not None:
        if isinstance(op, Adjoint):
            inverse = not inverse
        else:
            controls += op.control_wires.tolist()
            values += [bool(value) for value in op.control_values]
        op = op.base
    with qml.QueuingManager.stop_recording():
        return qml.adjoint(op, lazy=True) if inverse else op, controls, values


def is_matrix(op: Operator) -> bool:
    """Whether a constant gate that has a decomposition is better a matrix nevertheless: because it
    is one, because its parts are many, or because they are a user's."""
    if standard_name(target(op)[0]) in ("QubitUnitary", "DiagonalQubitUnitary"):
        return len(op.wires) > 1
    return op.has_matrix if contains_custom(op) else is_wide_control(op)


def is_wide_control(op: Operator) -> bool:
    """Whether more than two wires control a gate, so that it changes few amplitudes."""
    inner, controls, _ = target(op)
    return len(controls) > 2 and len(inner.wires) <= 2 and inner.has_matrix


def matrix_gate(
    op: Operator,
    bits: Callable[[Sequence], list[int]],
    widest: int,
    columns: Sequence[int] = (),
    position: int = -1,
) -> MatrixGate:
    """Returns a gate that is applied as a matrix.

    Args:
        op: The gate.
        bits: Returns the bits of some wires, the last wire first.
        widest: On how many wires it may act, without those that control it.
        columns: The columns of the point that it depends on.
        position: Its position among the circuit's operations, if it depends on any.

    Raises:
        NotCoveredError: If it has no matrix, or acts on more wires.
    """
    inner, controls, values = target(op)
    if not inner.has_matrix and not has_decomposition(op):
        raise NotCoveredError  # the device says that it does not know the gate
    if not inner.has_matrix or len(inner.wires) > widest:
        raise NotCoveredError(f"{op.name} has no rotations, and no matrix of few wires")
    own, rows = bits(inner.wires), np.arange(2 ** len(inner.wires))
    places = sum(((rows >> k & 1) << bit for k, bit in enumerate(own)), np.zeros_like(rows))
    control = [1 << bit for bit in reversed(bits(controls))]
    needed = sum(bit for bit, value in zip(control, values, strict=True) if value)
    masks = np.array([places[-1], sum(control), needed], dtype=np.int64)
    matrix = matrix_of(inner)
    constant = None if columns else np.ascontiguousarray(numbers(matrix)[..., None])
    generator = _generator(inner, matrix) if len(columns) == 1 else None
    return MatrixGate(op, position, columns, places.astype(np.int64), masks, constant, generator)


def matrix_of(op: Operator) -> np.ndarray:
    """Returns a gate's own matrix, complex[D, D]."""
    return np.ascontiguousarray(op.matrix(), dtype=complex)


def _generator(op: Any, matrix: np.ndarray) -> np.ndarray | None:
    """Returns i G where the gate is exp(i angle G)."""
    if len(op.data) != 1 or np.ndim(op.data[0]) or not op.has_generator or contains_custom(op):
        return None
    with qml.QueuingManager.stop_recording():
        found = 1j * np.asarray(qml.matrix(op.generator(), wire_order=op.wires), dtype=complex)
    angle = float(np.real(op.data[0]))
    return found if np.allclose(expm(angle * found), matrix, rtol=0, atol=SAME_GATE) else None
