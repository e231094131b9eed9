"""Gates that an OpenQASM 2 file defines, at angles that are parameters.

Qiskit evaluates their definitions symbolically up to 2.5, and from 2.6 on at numbers only. Here
they follow from definitions at numbers, if each angle in there is a constant plus multiples of the
gate's own angles, as it is in nearly all files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_FAR = 2.0**60  # constants vanish beside it, so that slopes come out without an error


def linear_definition(gate: Any) -> QuantumCircuit | None:
    """Returns what a gate stands for, at the parameters that it has.

    Returns:
        None if an angle in there is not a constant plus multiples of the gate's own angles.
    """
    from qiskit.qasm2 import QASM2ParseError

    given = gate.params

    def at(numbers: Iterable[float]) -> QuantumCircuit:
        gate.params, gate.definition = [float(number) for number in numbers], None
        return gate.definition

    try:
        somewhere = 0.3 + 0.7 * np.sqrt(np.arange(1, len(given) + 1))
        found = at(somewhere)
        constants = _angles(at(np.zeros(len(given))))
        far = [_angles(at(row)) - constants for row in _FAR * np.eye(len(given))]
        slopes = np.array(far).reshape(len(given), len(constants)) / _FAR
        expected = _angles(found)
        error = np.abs(constants + somewhere @ slopes - expected)
    except (ArithmeticError, ValueError, QASM2ParseError):  # 1 / angle, sqrt(angle), ...
        return None
    finally:
        gate.params, gate.definition = given, None
    if not (error < 1e-12 * (1 + np.abs(expected))).all():
        return None
    terms = zip(constants.tolist(), slopes.T.tolist(), strict=True)
    linear = found.copy_empty_like()
    for step in found.data:
        inner: Any = step.operation
        if inner.params:
            inner.params = [_sum(*next(terms), given) for _ in inner.params]
        linear.append(inner, step.qubits, step.clbits, copy=False)
    return linear


def _angles(circuit: QuantumCircuit) -> np.ndarray:
    """Returns the angles of all gates of a circuit, one after the other."""
    return np.array([angle for step in circuit.data for angle in step.operation.params])


def _sum(constant: float, slopes: Sequence[float], angles: Sequence[Any]) -> Any:
    pairs = zip(slopes, angles, strict=True)
    return sum((k if slope == 1 else slope * k for slope, k in pairs if slope), start=constant)
