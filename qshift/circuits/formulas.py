"""What gates are made of: formulas of qshift's own, where PennyLane's are not for derivatives.

Many of PennyLane's decompositions look at numbers: they leave gates out at special angles, choose
between cases, or take angles from matrices (`arccos`, `arctan2`, `where`). So they may have no
derivative, or a wrong one, just where people start: at 0, pi/2 and pi. The formulas here hold at
all angles to all orders, with their global phases, which matter where a gate is controlled. A
controlled gate is decomposed as what it controls, and its parts are controlled; an adjoint is
decomposed likewise, a product into its factors, an integer power into its repetitions.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operator
from pennylane.ops.op_math import (
    ChangeOpBasis,
    Conditional,
    Controlled,
    Evolution,
    Exp,
    LinearCombination,
    Pow,
    Prod,
    SProd,
    Sum,
)
from pennylane.pauli import PauliWord

from qshift.circuits.generators import commuting
from qshift.circuits.identity import WIDEST_CUSTOM, contains_custom, is_custom, operators
from qshift.circuits.pennylane_internals import ADJOINTS, CONTROLLED, POWERS
from qshift.circuits.special_unitary import rotations
from qshift.circuits.terms import pairs, times
from qshift.errors import UnsupportedError
from qshift.rules.shifting import FAR


def parts(op: Operator) -> list[Operator] | None:
    """Returns the gates that a gate consists of, in the order in which they act; None if that is
    not known.

    Raises:
        UnsupportedError: For what is no unitary gate.
        Exception: What PennyLane's formulas raise for parameters that they do not expect.
    """
    formula = _FORMULAS.get(type(op))
    if formula is not None:
        return formula(op)
    return op.decomposition() if has_decomposition(op) else None


def has_decomposition(op: Operator) -> bool:
    """Whether a gate has a decomposition of its own. PennyLane finds some by a gate's name, which
    may be that of another one."""
    try:
        return op.has_decomposition and not any(map(_is_found_by_name, operators(op)))
    except (AttributeError, TypeError):  # some look at a matrix, which may not take tensors
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
    """A phase under control is one of the last control's state, under the other controls."""
    (phase,), wires, values = op.base.data, op.control_wires, op.control_values
    found = [qml.PhaseShift(-phase if values[-1] else phase, wires=wires[-1])]
    if not values[-1]:
        found.append(qml.GlobalPhase(phase))
    if len(wires) == 1:
        return found
    return [qml.ctrl(part, wires[:-1], control_values=values[:-1]) for part in found]


def _require_phase(op: Operator) -> None:
    """Raises UnsupportedError for a gate of a user's whose decomposition is its matrix up to a
    phase only, which makes no difference before the gate is controlled."""
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
    """Returns a part of what a gate controls, under its control."""
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
    if type(op.base) not in _FORMULAS and op.base.has_adjoint:
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
    except Exception:  # whatever a user's class may raise; who needs it will say so
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


def _power(op: Operator) -> list[Operator] | None:
    """An integer power of any gate, or any power of a gate exp(i x G), which multiplies x."""
    base, exponent = op.base, op.z
    if is_number(exponent) and np.all(exponent == 0):
        return []
    if isinstance(base, Evolution):
        left = _left(base.param, exponent)
        found = [times(base.param, exponent), *([] if left is None else [left])]
        return [Evolution(base.base, time) for time in found]
    if _is_rotation(base):
        (angle,), structure = qml.pytrees.flatten(base)
        left = _left(angle, exponent)
        rest = [] if left is None else [qml.pytrees.unflatten([left], structure)]
        return [*base.pow(exponent), *rest]
    if not is_number(exponent):
        raise UnsupportedError(
            f"The exponent of {base.name} is a tensor, but {base.name} is not exp(i x G) in a "
            "single parameter x, which the exponent would multiply. Give an int, or the gates that "
            "it stands for."
        )
    if np.ndim(exponent) or exponent != int(exponent):
        return None  # the principal root jumps where an eigenvalue crosses -1
    return [base if exponent > 0 else qml.adjoint(base)] * abs(int(exponent))


def is_root(op: Operator) -> bool:
    """Whether an operator is a power that multiplies the angle of a rotation, but whose matrix is
    that of another gate far from 0: the principal root."""
    if not isinstance(op, Pow) or not (isinstance(op.base, Evolution) or _is_rotation(op.base)):
        return False
    return is_number(op.z) and bool(np.any(op.z != np.round(op.z)))


def _is_rotation(op: Operator) -> bool:
    while isinstance(op, Controlled) and type(op) not in _ROTATIONS:
        op = op.base
    return type(op) in _ROTATIONS


# Gates exp(i x G) that PennyLane knows the powers of.
_ROTATIONS = {
    getattr(qml, name)
    for name in (
        "RX RY RZ PhaseShift U1 CRX CRY CRZ ControlledPhaseShift CPhaseShift00 CPhaseShift01 "
        "CPhaseShift10 IsingXX IsingXY IsingYY IsingZZ MultiRZ PauliRot PCPhase GlobalPhase "
        "SingleExcitation DoubleExcitation FermionicSWAP"
    ).split()
}


def _scaled(op: Operator) -> list[Operator] | None:
    """A gate times a number is a gate and a global phase."""
    scalar = op.scalar
    if not is_number(scalar) and not is_complex(scalar):
        return None  # what may change is no phase
    return [qml.GlobalPhase(-_phases(scalar, op)), op.base]


def _exponential(op: Operator) -> list[Operator] | None:
    """exp(c H) is an evolution where c is imaginary."""
    coefficient = op.coeff
    if not is_complex(coefficient):
        return None
    message = f"The coefficient of {op.name} has a real part, so it is no unitary gate."
    time = require(
        -qml.math.imag(coefficient), qml.math.real(coefficient) == 0, UnsupportedError(message)
    )
    return _evolved(op, time) or [Evolution(op.base, _as_time(time))]


def _as_time(number: Any) -> Any:
    """Returns a number as PennyLane takes it, which multiplies it by 1j: TensorFlow does that to
    complex tensors only."""
    is_tensor = tf.is_tensor(number) or isinstance(number, tf.Variable)
    return tf.cast(number, tf.complex128) if is_tensor else number


def _evolution(op: Operator) -> list[Operator] | None:
    return _evolved(op, as_real(op.param, op))


def _evolved(op: Operator, time: Any) -> list[Operator] | None:
    """Returns exp(-i t H) as rotations, if H consists of words that commute."""
    terms = _terms(op.base, 1.0, op)
    if terms is None:
        concrete = all(map(is_number, qml.pytrees.flatten(op.base)[0]))
        found = commuting(op) if concrete and type(op) is Evolution else None
        return op.decomposition() if found is None and concrete and op.has_decomposition else found
    if not all(a.commutes_with(b) for (a, _), (b, _) in itertools.combinations(terms, 2)):
        return commuting(op) if type(op) is Evolution else None
    found = []
    for word, coefficient in terms:
        angle = times(coefficient, time)
        if len(word):
            letters, wires = "".join(word.values()), list(word)
            found.append(qml.PauliRot(times(2.0, angle), letters, wires=wires))
        else:
            found.append(qml.GlobalPhase(angle))
    return found


def _terms(observable: Operator, factor: Any, op: Operator) -> list[tuple[PauliWord, Any]] | None:
    """Returns the (word, coefficient) that an observable is the sum of, as they stand, or None.

    PennyLane leaves out those that are zero, which may be about to change.
    """
    if isinstance(observable, SProd):
        factor = times(factor, as_real(observable.scalar, op))
        return _terms(observable.base, factor, op)
    if isinstance(observable, qml.X | qml.Y | qml.Z | qml.Identity):
        return [(next(iter(observable.pauli_rep)), factor)]
    if isinstance(observable, Prod):
        word = PauliWord({})
        for operand in observable.operands:
            found = _terms(operand, factor, op)
            if found is None or len(found) != 1 or set(word) & set(found[0][0]):
                return None
            ((other, factor),) = found
            word = PauliWord({**word, **other})
        return [(word, factor)]
    if isinstance(observable, LinearCombination):
        each = [_terms(word, times(factor, as_real(c, op)), op) for c, word in pairs(observable)]
    elif isinstance(observable, Sum):
        each = [_terms(operand, factor, op) for operand in observable.operands]
    else:
        return None
    if any(found is None for found in each):
        return None
    return list(itertools.chain.from_iterable(found for found in each if found is not None))


def _by_rows(op: Operator) -> list[Operator]:
    """PennyLane loops over an array, which TensorFlow does not do in graphs."""
    array, *others = op.data
    rows = [array[i] for i in range(qml.math.shape(array)[0])]
    if isinstance(op, qml.GQSP):
        rows = [[row[i] for i in range(qml.math.shape(row)[0])] for row in rows]
    return op.compute_decomposition(rows, *others, wires=op.wires, **op.hyperparameters)


def _trotterized(op: Operator) -> list[Operator]:
    """PennyLane multiplies the time by 1j, which TensorFlow does to complex tensors only."""
    *others, time = op.data
    return op.compute_decomposition(*others, _as_time(time), wires=op.wires, **op.hyperparameters)


# --- gates by their angles ---


def _select_rotation(op: Operator) -> list[Operator]:
    """A rotation by the angle that the control wires select, without leaving out angles of zero.

    Mottonen et al. 2004, Phys. Rev. Lett. 93, 130502.
    """
    settings = {**op.hyperparameters, **getattr(op, "wire_args", {})}  # since PennyLane 0.46
    (angles,), axis, control = op.data, settings["rot_axis"], settings["control_wires"]
    (target,) = settings["target_wire"]
    matrix, flipped = _gray(len(control))
    angles = qml.math.tensordot(angles, matrix, axes=[[-1], [1]])
    found = []
    for i, bit in enumerate(flipped):
        found.append((qml.RY if axis == "Y" else qml.RZ)(angles[..., i], wires=target))
        if bit is not None:  # X turns both around
            found.append(qml.CNOT([control[-1 - bit], target]))
    return [qml.Hadamard(target), *found, qml.Hadamard(target)] if axis == "X" else found


@lru_cache(maxsize=16)
def _gray(bits: Any) -> tuple[np.ndarray, tuple[int | None, ...]]:
    """Returns float64[2**n, 2**n], from the angles of all selections to those of the rotations, and
    which bit of the Gray code flips after each rotation."""
    numbers = np.arange(2**bits)
    code = numbers ^ (numbers >> 1)
    signs = (-1.0) ** np.bitwise_count(code[:, None] & numbers)
    flips = code ^ np.roll(code, -1)
    return signs / 2**bits, tuple(int(bit).bit_length() - 1 if bit else None for bit in flips)


def _diagonal(op: Operator) -> list[Operator] | None:
    """diag(exp(i phi_k)) is a product of rotations about all words of Z."""
    (entries,) = op.data
    if not is_number(entries) and not is_complex(entries):
        return None  # what may change is no phase
    numbers = np.arange(2 ** len(op.wires))
    signs = (-1.0) ** np.bitwise_count(numbers[:, None] & numbers) / len(numbers)
    means = qml.math.tensordot(_phases(entries, op), signs, axes=[[-1], [1]])
    found = [qml.GlobalPhase(-means[..., 0])]
    for k in numbers[1:].tolist():
        word = [wire for bit, wire in enumerate(reversed(op.wires)) if k >> bit & 1]
        found.append(qml.MultiRZ(-2 * means[..., k], wires=word))
    return found


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


_FORMULAS = {
    **dict.fromkeys(ADJOINTS, _adjoint),
    **dict.fromkeys(CONTROLLED, _controlled),
    **dict.fromkeys(POWERS, _power),
    ChangeOpBasis: _product,
    Conditional: _conditional,
    Evolution: _evolution,
    Exp: _exponential,
    Prod: _product,
    SProd: _scaled,
    qml.CRot: _controlled_rot,
    qml.DiagonalQubitUnitary: _diagonal,
    qml.FermionicSWAP: _fermionic_swap,
    qml.GQSP: _by_rows,
    qml.MPS: _by_rows,
    qml.QDrift: _trotterized,
    qml.SelectPauliRot: _select_rotation,
    qml.SpecialUnitary: rotations,
    qml.TrotterProduct: _trotterized,
    qml.TwoLocalSwapNetwork: _by_rows,
}


# --- numbers, in any framework ---


def is_number(value: Any) -> bool:
    """Whether a number or array is of no framework that differentiates."""
    return qml.math.get_interface(value) in ("numpy", "scipy", "builtins")


def is_complex(value: Any) -> bool:
    """Whether a number, array or tensor is of a complex dtype."""
    return "complex" in qml.math.get_dtype_name(value)


def _left(x: Any, integer: float) -> Any:
    """Returns integer * x less what `*` makes of it, where x is large: a constant, as it is that
    locally but for rounding. None where nothing is lost, or the exponent is no integer.

    By Dekker's product. Of 3 * 1e15 whole radians would be left.
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
    """Returns a number as a real one; an error, in a graph when it runs, if it is not real."""
    if not is_complex(value):
        return value
    message = f"{op.name} has a complex time or coefficient, so it is no unitary gate."
    return require(qml.math.real(value), qml.math.imag(value) == 0, UnsupportedError(message))


def _phases(numbers: Any, op: Operator) -> Any:
    """Returns the phases of numbers of modulus one."""
    far = abs(qml.math.abs(numbers) - 1) >= 1e-5  # which what is no number is not
    message = f"{op.name} has factors that are not of modulus one, so it is no unitary gate."
    near = qml.math.logical_not(far)
    return require(qml.math.angle(numbers), near, UnsupportedError(message))


def require(value: Any, condition: Any, error: UnsupportedError) -> Any:
    """Returns a value, or raises the error if the condition does not hold everywhere; in a graph of
    TensorFlow's, when it runs."""
    if not qml.math.is_abstract(condition):
        if not qml.math.all(condition):
            raise error
    elif tf.is_tensor(condition):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(condition), [str(error)])]):
            return tf.identity(value)
    return value
