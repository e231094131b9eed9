"""Decompositions of gates that have derivatives at every angle.

Many of PennyLane's decompositions depend on the values of angles: they leave gates out at special
angles, choose between cases, or take angles from matrices (`arccos`, `arctan2`, `where`). So they
may have no derivative, or a wrong one, just where people start: at 0, pi/2 and pi. The
decompositions here are right at all angles, to all orders of derivatives, with their global phases,
which matter where a gate is controlled.

A controlled gate is decomposed as the gate that it controls, and the parts are controlled. An
adjoint is decomposed likewise, and a product into its factors. Powers, evolutions and multiplexers
have modules of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops.op_math import ChangeOpBasis, Conditional, Evolution, Exp, Prod, SProd

from qshift.circuits.evolutions import evolution, exponential, of_real_time, trotterized
from qshift.circuits.identity import WIDEST_CUSTOM, contains_custom, is_custom, operators
from qshift.circuits.multiplexers import diagonal, select_rotation
from qshift.circuits.pennylane_internals import ADJOINTS, CONTROLLED, POWERS
from qshift.circuits.powers import power
from qshift.circuits.scalars import is_complex, is_number, phases
from qshift.circuits.special_unitary import rotations
from qshift.errors import UnsupportedError


def parts(op: Operator) -> list[Operator] | None:
    """Returns the gates that a gate consists of, in the order in which they act; None if that is
    not known.

    Raises:
        UnsupportedError: If the operator is not a unitary gate.
        Exception: Any error of PennyLane's formulas, for parameters that they do not expect.
    """
    decompose = _DECOMPOSITIONS.get(type(op))
    if decompose is not None:
        return decompose(op)
    return op.decomposition() if has_decomposition(op) else None


def has_decomposition(op: Operator) -> bool:
    """Whether a gate has a decomposition of its own. PennyLane finds some decompositions by a
    gate's name, which a user's gate may share with another gate."""
    try:
        return op.has_decomposition and not any(map(_is_found_by_name, operators(op)))
    except (AttributeError, TypeError):  # some gates compute a matrix, which may not take tensors
        if not contains_custom(op):
            raise
        return False


def _is_found_by_name(op: Operator) -> bool:
    kind = type(op)
    own = (kind.compute_decomposition, kind.decomposition) != _BY_NAME
    return is_custom(kind) and not own and hasattr(qml, op.name)  # type: ignore[arg-type]


_BY_NAME = Operator.compute_decomposition, Operator.decomposition


# --- gates made of other gates ---


def _controlled(op: Operator) -> list[Operator] | None:
    if isinstance(op.base, qml.GlobalPhase):
        return _controlled_phase(op)
    found = parts(op.base)
    if found is None:
        return None
    _require_phase(op.base)
    return [_under(op, part) for part in found]


def _controlled_phase(op: Operator) -> list[Operator]:
    """Returns a controlled global phase as a phase shift of the last control wire, under the other
    controls."""
    (phase,), wires, values = op.base.data, op.control_wires, op.control_values
    found = [qml.PhaseShift(-phase if values[-1] else phase, wires=wires[-1])]
    if not values[-1]:
        found.append(qml.GlobalPhase(phase))
    if len(wires) == 1:
        return found
    return [qml.ctrl(part, wires[:-1], control_values=values[:-1]) for part in found]


def _require_phase(op: Operator) -> None:
    """Raises UnsupportedError for a user's gate whose decomposition equals its matrix only up to a
    phase: under a control, the phase makes a difference."""
    if not is_custom(type(op)) or not op.has_matrix:  # type: ignore[arg-type]
        return
    leaves, structure = qml.pytrees.flatten(op)
    if not leaves or any(map(qml.math.ndim, leaves)):
        return
    op = qml.pytrees.unflatten([0.7 + 0.3 * i for i in range(len(leaves))], structure)
    if not np.allclose(_matrix_of_parts(op, op.wires), op.matrix()):
        raise UnsupportedError(
            f"The decomposition of {op.name} is not its matrix, or only up to a global phase. As "
            "the gate is controlled, the phase matters: add a qml.GlobalPhase to the decomposition."
        )


def _under(op: Operator, part: Operator) -> Operator:
    """Returns a part of a controlled gate's base, under the same control."""
    if isinstance(part, qml.Barrier | qml.Snapshot):
        return part
    return qml.ctrl(
        part,
        op.control_wires,
        control_values=op.control_values,
        work_wires=[wire for wire in op.work_wires if wire not in part.wires],
        work_wire_type=op.work_wire_type,
    )


def _conditional(op: Operator) -> list[Operator] | None:
    found = parts(op.base)
    return None if found is None else [Conditional(op.meas_val, part) for part in found]


def _adjoint(op: Operator) -> list[Operator] | None:
    if type(op.base) not in _DECOMPOSITIONS and op.base.has_adjoint:
        require_inverse(op.base)
        return [op.base.adjoint()]
    found = parts(op.base)
    return None if found is None else [qml.adjoint(part, lazy=False) for part in reversed(found)]


def require_inverse(op: Operator) -> None:
    """Raises UnsupportedError if the ``adjoint()`` of a user's gate is not its inverse, up to a
    phase."""
    leaves, structure = qml.pytrees.flatten(op)
    if not is_custom(type(op)) or not op.has_adjoint or len(op.wires) > WIDEST_CUSTOM:  # type: ignore[arg-type]
        return
    try:
        with qml.QueuingManager.stop_recording():
            numbers = [np.full(qml.math.shape(x), 0.7 + 0.3 * i)[()] for i, x in enumerate(leaves)]
            there = qml.pytrees.unflatten(numbers, structure)
            product = _matrix(there.adjoint(), op.wires) @ _matrix(there, op.wires)
    except Exception:  # a user's class may raise anything; code that needs the result reports it
        return
    if np.allclose(product, product[0, 0] * np.eye(len(product)), rtol=0, atol=1e-5):
        return
    owner = next(kind for kind in type(op).__mro__ if "adjoint" in vars(kind))
    inherited = "" if is_custom(owner) else f" (inherited from {owner.__name__})"
    raise UnsupportedError(
        f"The adjoint() of {op.name}{inherited} is not its inverse: the gate and its adjoint are "
        "those of two gates. Override adjoint(), or take it away (has_adjoint = False); adjoints "
        "are made of the adjoint parts then."
    )


def _matrix(op: Operator, wires: Any) -> Any:
    if op.has_matrix:
        return np.asarray(qml.matrix(op, wire_order=wires))
    return _matrix_of_parts(op, wires)


def _matrix_of_parts(op: Operator, wires: Any) -> Any:
    return np.asarray(qml.matrix(qml.tape.QuantumScript(parts(op)), wire_order=wires))


def _product(op: Operator) -> list[Operator]:
    return list(reversed(op.operands))


def _scaled(op: Operator) -> list[Operator] | None:
    """Returns a gate times a number of modulus one as the gate and a global phase."""
    scalar = op.scalar
    if not is_number(scalar) and not is_complex(scalar):
        return None  # a tensor may not be a phase
    return [qml.GlobalPhase(-phases(scalar, op)), op.base]


def _by_rows(op: Operator) -> list[Operator]:
    """Returns the parts of a gate, given its array as a list of rows: PennyLane loops over the
    array, and TensorFlow's tensors cannot be looped over in graphs."""
    array, *others = op.data
    rows = [array[i] for i in range(qml.math.shape(array)[0])]
    if isinstance(op, qml.GQSP):
        rows = [[row[i] for i in range(qml.math.shape(row)[0])] for row in rows]
    return op.compute_decomposition(rows, *others, wires=op.wires, **op.hyperparameters)


# --- gates by their angles ---


def _fermionic_swap(op: Operator) -> list[Operator]:
    (phi,), (a, b) = op.data, op.wires
    return [
        qml.IsingXX(phi / 2, wires=[a, b]),
        qml.IsingYY(phi / 2, wires=[a, b]),
        qml.RZ(phi / 2, wires=a),
        qml.RZ(phi / 2, wires=b),
        qml.GlobalPhase(-phi / 2),
    ]


def _controlled_rot(op: Operator) -> list[Operator]:
    (phi, theta, omega), wires = op.data, op.wires  # PennyLane adds angles, which loses digits
    gates = (qml.CRZ, phi), (qml.CRY, theta), (qml.CRZ, omega)
    return [gate(angle, wires=wires) for gate, angle in gates]


_DECOMPOSITIONS = {
    **dict.fromkeys(ADJOINTS, _adjoint),
    **dict.fromkeys(CONTROLLED, _controlled),
    **dict.fromkeys(POWERS, power),
    ChangeOpBasis: _product,
    Conditional: _conditional,
    Evolution: evolution,
    Exp: exponential,
    Prod: _product,
    SProd: _scaled,
    qml.ApproxTimeEvolution: of_real_time,
    qml.CommutingEvolution: of_real_time,
    qml.CRot: _controlled_rot,
    qml.DiagonalQubitUnitary: diagonal,
    qml.FermionicSWAP: _fermionic_swap,
    qml.GQSP: _by_rows,
    qml.MPS: _by_rows,
    qml.QDrift: trotterized,
    qml.SelectPauliRot: select_rotation,
    qml.SpecialUnitary: rotations,
    qml.TrotterProduct: trotterized,
    qml.TwoLocalSwapNetwork: _by_rows,
}
