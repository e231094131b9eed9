"""The circuits that are measured, in no framework's language; needs NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from equation import Equation


class Circuit(NamedTuple):
    """A circuit and its observable.

    Attributes:
        wires: Number of wires.
        gates: (name, wires, parameter), where the parameter is a position or None.
        terms: Pauli words whose sum is the observable, as {wire: letter}.
    """

    wires: int
    gates: list[tuple[str, tuple[int, ...], int | None]]
    terms: list[dict[int, str]]

    @property
    def parameters(self) -> int:
        return sum(parameter is not None for _, _, parameter in self.gates)


def ring(wires: int, layers: int = 3) -> Circuit:
    """Layers of RX and RZ on each wire and a ring of CNOTs; the sum of all Z_i Z_(i+1) and X_i."""
    gates, count = [], 0
    for _ in range(layers):
        for wire in range(wires):
            gates += [("RX", (wire,), count), ("RZ", (wire,), count + 1)]
            count += 2
        gates += [("CNOT", (wire, (wire + 1) % wires), None) for wire in range(wires)]
    neighbours = [{wire: "Z", (wire + 1) % wires: "Z"} for wire in range(wires)]
    return Circuit(wires, gates, neighbours + [{wire: "X"} for wire in range(wires)])


def chain(parameters: int, wires: int = 4) -> Circuit:
    """RX and RY in turn, each followed by a CNOT; measures Z_0 Z_1."""
    gates = []
    for i in range(parameters):
        gates.append((("RX", "RY")[i % 2], (i % wires,), i))
        gates.append(("CNOT", (i % wires, (i + 1) % wires), None))
    return Circuit(wires, gates, [{0: "Z", 1: "Z"}])


class Layer(NamedTuple):
    """A layer of a model as Keras's users have it: a batch of samples, and weights.

    Attributes:
        wires: Number of wires, and of the entries of a sample.
        layers: Of gates with weights.
        batch: Number of samples.
    """

    wires: int
    layers: int
    batch: int

    @property
    def parameters(self) -> int:
        return 3 * self.layers * self.wires

    @property
    def inputs(self) -> np.ndarray:
        """The samples, float64[batch, wires]."""
        return np.random.default_rng(3).normal(size=(self.batch, self.wires))

    def quantum_function(self):
        """The circuit in PennyLane's language, of samples and weights: all Z_i."""
        import pennylane as qml

        def function(inputs, weights):
            for wire in range(self.wires):
                qml.RX(inputs[:, wire], wires=wire)
            for layer in range(self.layers):
                for wire in range(self.wires):
                    first = 3 * (layer * self.wires + wire)
                    qml.Rot(*(weights[first + k] for k in range(3)), wires=wire)
                for wire in range(self.wires):
                    qml.CNOT(wires=(wire, (wire + 1) % self.wires))
            return [qml.expval(qml.Z(wire)) for wire in range(self.wires)]

        return function


def circuit_of(spec: dict) -> Circuit | Equation | Layer:
    """Builds what a case asks for: {"circuit": ["ring", 8, 3], ...}."""
    name, *arguments = spec["circuit"]
    kinds = {"ring": ring, "chain": chain, "equation": Equation, "layer": Layer}
    return kinds[name](*arguments)


def points(parameters: int, number: int = 4) -> np.ndarray:
    """Returns float64[number, parameters], different angles for successive repetitions."""
    return np.random.default_rng(7).uniform(0.0, 2 * np.pi, (number, parameters))


def quantum_function(circuit: Circuit):
    """The circuit in PennyLane's language."""
    import pennylane as qml

    words = [qml.prod(*(getattr(qml, p)(w) for w, p in t.items())) for t in circuit.terms]
    observable = qml.dot([1.0] * len(words), words) if len(words) > 1 else words[0]

    def function(x):
        for name, wires, parameter in circuit.gates:
            if parameter is None:
                getattr(qml, name)(wires=wires)
            else:
                getattr(qml, name)(x[parameter], wires=wires)
        return qml.expval(observable)

    return function
