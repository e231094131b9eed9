"""Gates with one angle for each state of some wires, as rotations by sums of these angles.

The sums are Walsh-Hadamard transforms. No rotation is left out where its angle is zero, so that
derivatives by the angles exist there as well.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operator

from qshift.circuits.pauli import sign, signs
from qshift.circuits.scalars import is_complex, is_number, phases


def select_rotation(op: Operator) -> list[Operator]:
    """Returns the parts of a rotation by the angle that the control wires select.

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
        if bit is not None:  # conjugation with X changes the sign of both rotations
            found.append(qml.CNOT([control[-1 - bit], target]))
    return [qml.Hadamard(target), *found, qml.Hadamard(target)] if axis == "X" else found


@lru_cache(maxsize=16)
def _gray(bits: Any) -> tuple[np.ndarray, tuple[int | None, ...]]:
    """Returns the matrix float64[2**n, 2**n] from the selected angles to the rotations' angles, and
    for each rotation the bit of the Gray code that flips after it."""
    numbers = np.arange(2**bits)
    code = numbers ^ (numbers >> 1)
    flips = code ^ np.roll(code, -1)
    flipped = tuple(int(bit).bit_length() - 1 if bit else None for bit in flips)
    return sign(code[:, None], numbers) / 2**bits, flipped


def diagonal(op: Operator) -> list[Operator] | None:
    """Returns the parts of diag(exp(i phi_k)): rotations about all words of Z."""
    (entries,) = op.data
    if not is_number(entries) and not is_complex(entries):
        return None  # a tensor in it may not be a phase
    size = 2 ** len(op.wires)
    transform = signs(len(op.wires)) / size
    means = qml.math.tensordot(phases(entries, op), transform, axes=[[-1], [1]])
    found = [qml.GlobalPhase(-means[..., 0])]
    for k in range(1, size):
        word = [wire for bit, wire in enumerate(reversed(op.wires)) if k >> bit & 1]
        found.append(qml.MultiRZ(-2 * means[..., k], wires=word))
    return found
