"""RZZ gates on backends with fractional gates, whose angles have to be between 0 and pi/2.

A shifted angle leaves that range, and the angles of a transpiled circuit are known only when it is
bound. So each RZZ gate with parameters becomes

    rzz(e) = rz(a) rz(a) rx(b) rzz(c) rx(b)    up to a global phase,

with a and b either 0 or pi and c in [0, pi/2], which are computed at each point: rzz(pi) is a Z on
both qubits, and an X on either side of the gate turns the sign of its angle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterExpression
from qiskit.circuit.library import RXGate, RZGate, RZZGate

from qshift.executors.qiskit.translation import column

_TURN, _QUARTER = 2 * math.pi, math.pi / 2


@dataclass(frozen=True)
class Angle:
    """The value of a parameter that took the place of an RZZ gate's angle.

    Attributes:
        part: ``"a"``, ``"b"`` or ``"c"``, as in the docstring of the module.
        angle: The gate's angle e, a function of the parameters of `translate`.
    """

    part: str
    angle: ParameterExpression

    def at(self, points: np.ndarray) -> np.ndarray:
        """Returns the values float64[...] at points float64[..., P]."""
        return in_range(_values(self.angle, points))["abc".index(self.part)]


def in_range(angles: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a, b and c for the angles of RZZ gates."""
    angles = np.mod(np.asarray(angles, dtype=float), _TURN)
    quarter = np.minimum(np.floor(np.nan_to_num(angles) / _QUARTER), 3).astype(int)
    a, b = np.array([0.0, math.pi, math.pi, 0.0]), np.array([0.0, math.pi, 0.0, math.pi])
    start = np.array([0.0, math.pi, math.pi, _TURN])
    rest = np.abs(angles - start[quarter])
    return a[quarter], b[quarter], np.clip(rest, 0.0, _QUARTER)


def bounded(circuit: QuantumCircuit, used: int = 0) -> tuple[QuantumCircuit, dict[str, Angle]]:
    """Returns a transpiled circuit whose RZZ gates have angles in the range at all points.

    Args:
        circuit: The circuit; it is not changed.
        used: How many such parameters other circuits have, whose names must differ.

    Returns:
        The circuit, and the angles of its new parameters by their names. A circuit without RZZ
        gates is returned as it is.
    """
    if "rzz" not in circuit.count_ops():
        return circuit, {}
    found: dict[str, Angle] = {}
    known: dict[str, tuple[Parameter, Parameter, Parameter]] = {}
    result = circuit.copy_empty_like()
    for instruction in circuit.data:
        if instruction.operation.name != "rzz":
            result.append(instruction)
            continue
        (angle,), (first, second) = instruction.operation.params, instruction.qubits
        if isinstance(angle, ParameterExpression) and angle.parameters:
            key = str(angle)
            if key not in known:
                names = [f"{part}{used + len(known)}" for part in "abc"]
                a, b, c = known[key] = tuple(map(Parameter, names))
                found |= {name: Angle(name[0], angle) for name in names}
            a, b, c = known[key]
        else:
            a, b, c = map(float, in_range(float(angle)))
        for qubit in (first, second):
            result.append(RZGate(a), [qubit])
        result.append(RXGate(b), [first])
        result.append(RZZGate(c), [first, second])
        result.append(RXGate(b), [first])
    return result, found


def _values(angle: ParameterExpression, points: np.ndarray) -> np.ndarray:
    """Returns the values of an expression at points float64[..., P]."""
    parameters = list(angle.parameters)
    slopes = [angle.gradient(parameter) for parameter in parameters]
    if all(isinstance(slope, int | float) for slope in slopes):  # nearly always
        result = np.full(points.shape[:-1], float(angle.bind(dict.fromkeys(parameters, 0.0))))
        for parameter, slope in zip(parameters, slopes, strict=True):
            result += slope * points[..., column(parameter.name)]
        return result
    flat = points.reshape(-1, points.shape[-1])
    each = [
        float(angle.bind({p: float(point[column(p.name)]) for p in parameters})) for point in flat
    ]
    return np.array(each).reshape(points.shape[:-1])
