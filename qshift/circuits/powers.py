"""Powers of gates: repetitions, or a rotation by a multiple of the angle."""

from __future__ import annotations

import numpy as np
import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops.op_math import Controlled, Evolution, Pow

from qshift.circuits.scalars import is_number, rounding_of_product
from qshift.circuits.terms import times
from qshift.errors import UnsupportedError


def power(op: Operator) -> list[Operator] | None:
    """Returns the parts of a power; None for a fractional power of a gate that is no rotation.

    An integer power of any gate repeats it. Any power of a gate exp(i x G) multiplies x.

    Raises:
        UnsupportedError: If the exponent is a tensor that multiplies no angle.
    """
    base, exponent = op.base, op.z
    if is_number(exponent) and np.all(exponent == 0):
        return []
    if isinstance(base, Evolution):
        left = rounding_of_product(base.param, exponent)
        found = [times(base.param, exponent), *([] if left is None else [left])]
        return [Evolution(base.base, time) for time in found]
    if _is_rotation(base):
        (angle,), structure = qml.pytrees.flatten(base)
        left = rounding_of_product(angle, exponent)
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
    """Whether an operator is a fractional power of a rotation.

    As a gate it multiplies the rotation's angle. Its matrix in PennyLane is the principal root,
    which is a different gate where the angle is far from 0.
    """
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
