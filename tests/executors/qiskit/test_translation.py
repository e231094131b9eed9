"""Circuits for Qiskit's primitives: the same unitaries, phases under controls included."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit.quantum_info import Operator
from random_circuits import tape_derivatives

import qshift
from qshift.circuits.circuit import Circuit
from qshift.executors.qiskit import translation

CONTROLLED = {
    "FermionicSWAP": lambda x: qml.ctrl(qml.FermionicSWAP(x, [0, 1]), 2),
    "GlobalPhase": lambda x: qml.ctrl(qml.GlobalPhase(x), [2, 0], control_values=[0, 1]),
    "PauliRot of identities": lambda x: qml.ctrl(qml.PauliRot(x, "II", [0, 1]), 2),
    "U3": lambda x: qml.ctrl(qml.U3(x, 2 * x, 0.3, 1), [2, 0]),
    "Exp": lambda x: qml.ctrl(qml.exp(qml.X(0), -0.5j * tf.cast(x, tf.complex128)), 2),
    "PCPhase": lambda x: qml.ctrl(qml.PCPhase(x, 3, [0, 1]), 2),
    "Select": lambda x: qml.Select([qml.RX(x, 0), qml.U2(x, 0.4, 0)], [1, 2]),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", CONTROLLED)
@pytest.mark.parametrize("angle", [0.0, np.pi, 0.7])
def test_controlled_gates_keep_their_phases(name, angle):
    def circuit(x):
        for wire in range(3):
            qml.RY(0.4 + 0.3 * wire, wires=wire)
        CONTROLLED[name](x)
        return qml.expval(qml.X(2) @ qml.Z(0)), qml.expval(qml.Y(2)), qml.expval(qml.Y(0))

    found, expected = (
        tape_derivatives(lambda x, n=node: tf.stack(n(x)), np.array(angle), 2)
        for node in map(
            lambda device: qshift.qnode(device)(circuit),
            (qshift.device("aer"), qml.device("default.qubit")),
        )
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)


def test_wide_constant_gates_are_decomposed():
    def circuit(x):
        qml.RX(x, wires=0)
        for wire in range(1, 8):
            qml.X(wire)
        qml.ctrl(qml.RY(0.3, wires=0), control=range(1, 8))
        return qml.expval(qml.Z(0))

    value = qshift.qnode(qshift.device("aer"))(circuit)(tf.constant(0.4, tf.float64))
    assert value.numpy() == pytest.approx(np.cos(0.4) * np.cos(0.3))


def test_phases_that_nothing_depends_on():
    @qshift.qnode(qshift.device("aer"))
    def circuit(x):
        qml.RX(x, wires=0)
        qml.PauliRot(x, "II", wires=[0, 1])
        return qml.expval(qml.Z(0))

    value, first = tape_derivatives(circuit, np.array(0.4), 1)
    assert (value, first) == (pytest.approx(np.cos(0.4)), pytest.approx(-np.sin(0.4)))


ANGLES = np.array([0.3, 1.1, -0.7])
UNITARY = qml.matrix(qml.U3(*ANGLES, wires=0) @ qml.RX(0.4, wires=1) @ qml.RY(1.3, wires=2))
UNITARY = UNITARY @ qml.matrix(qml.IsingXY(0.6, [0, 2]), wire_order=range(3))


def gate_of(name):
    """One of PennyLane's gates by the name it has in circuits, on wires 0, 1, ..."""
    if name == "QubitUnitary":
        return qml.QubitUnitary(UNITARY, wires=range(3))
    kind = getattr(qml, name.removeprefix("Adjoint(").removesuffix(")"))
    op = kind(*ANGLES[: kind.num_params], wires=range(kind.num_wires))
    return qml.adjoint(op, lazy=False) if name.startswith("Adjoint(") else op


@pytest.mark.parametrize("name", translation.GATES)
def test_gates_have_the_same_matrices_in_both(name):
    op = gate_of(name)
    assert op.name == name
    circuit = Circuit((op,), (), (), (), qml.measurements.Shots(None))
    translated = translation.translate(circuit, op.wires)
    assert [each.operation.base_class for each in translated.data] == [translation.GATES[name]]
    # Qiskit's first qubit is the least significant one.
    matrix = Operator(translated.reverse_bits()).data
    np.testing.assert_allclose(matrix, qml.matrix(op, wire_order=op.wires), atol=1e-12)


def test_gates_are_those_of_pennylane_qiskit():
    """But for those that are none, that nothing depends on, and that Aer leaves out."""
    table = pytest.importorskip("pennylane_qiskit.converter").QISKIT_OPERATION_MAP
    others = {"Identity", "Adjoint(GlobalPhase)", "StatePrep", "Barrier"}
    controlled = {"CRX", "CRY", "CRZ", "CPhase"}
    assert {
        name: gate for name, gate in table.items() if name not in others | controlled
    } == translation.GATES
