"""One step of training a circuit to solve y' = 6 y (1 - y), y(0) = 1/2: sQUlearn's tutorial.

A Chebyshev tower on 4 qubits, 14 layers of blocks on two neighbours (KyriienkoEncodingCircuit with
variational_arrangement="ABA"), and an observable whose coefficients are trained, too. Every peer
computes the loss's gradient by all weights. Answers are y, y' and the gradient by the angles, so
that comparing them compares the circuits; by the coefficients sQUlearn 0.12 (ODELoss.gradient)
takes the first one's dy'/dc for all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

X = np.linspace(0.0, 0.9, 10)
START, WEIGHT = 0.5, 10.0  # y(0), and what missing it costs


class Equation(NamedTuple):
    """The case: 12 angles per layer, and the coefficients of 1, Z_0, Z_1, ..."""

    wires: int = 4
    layers: int = 14

    @property
    def angles(self) -> int:
        return 3 * self.wires * self.layers

    @property
    def parameters(self) -> int:
        return self.angles + 1 + self.wires


def residual(y, slope):
    return slope - 6 * y * (1 - y)


def quantum_function(equation: Equation):
    """The circuit in PennyLane's language: a function of x and the angles, one by one."""
    import pennylane as qml

    def function(x, angles):
        angles = iter(angles)
        for wire in range(equation.wires):
            qml.RY(2.0 * (wire + 1) * qml.math.arccos(x), wires=wire)
        for layer in range(equation.layers):
            for first in range(layer % 2, equation.wires, 2):
                pair = [first, (first + 1) % equation.wires]
                for wire in pair:
                    qml.RZ(next(angles), wires=wire)
                    qml.RX(next(angles), wires=wire)
                    qml.RZ(next(angles), wires=wire)
                qml.CNOT(wires=pair)
        return [qml.expval(qml.Z(wire)) for wire in range(equation.wires)]

    return function
