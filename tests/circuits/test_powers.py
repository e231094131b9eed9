"""Powers of gates, at angles where roots of matrices jump."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import tape_derivatives

import qshift
from qshift.circuits.smooth_decompositions import parts

DEFAULT = qml.device("default.qubit")


@pytest.mark.parametrize("exponent", [3, -2, 2.0, np.int64(2), 0])
def test_integer_powers_repeat(exponent):
    gate = qml.U3(0.1, 0.2, 0.3, wires=0)
    expected = np.linalg.matrix_power(gate.matrix(), int(exponent))
    found = parts(qml.pow(gate, exponent))
    np.testing.assert_allclose(
        qml.matrix(qml.tape.QuantumScript([*found, qml.Identity(0)]), wire_order=[0]),
        expected,
        atol=1e-12,
    )


def test_roots_have_no_parts_unless_they_divide_an_angle():
    assert parts(qml.pow(qml.U3(0.1, 0.2, 0.3, wires=0), 0.5)) is None
    (part,) = parts(qml.pow(qml.ctrl(qml.RX(0.3, wires=0), control=1), 0.5))
    assert part.name == "CRX" and part.data == (0.15,)


def test_an_exponent_may_be_a_tensor_where_it_multiplies_an_angle():
    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(z):
        qml.pow(qml.RX(0.3, wires=0), z)
        return qml.expval(qml.Z(0))

    value, first = tape_derivatives(circuit, np.array(2.0), 1)
    assert value == pytest.approx(np.cos(0.6))
    assert first == pytest.approx(-0.3 * np.sin(0.6))


def test_an_exponent_of_other_gates_may_not_be_a_tensor(tracker):
    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(z):
        qml.pow(qml.U3(0.3, 0.1, 0.2, wires=0), z)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="exponent of U3 is a tensor"):
        circuit(tf.constant(2.0, tf.float64))
    assert tracker.totals["circuits"] == 0


ROOTS = {
    "PhaseShift": lambda x, z: qml.pow(qml.PhaseShift(x, 0), z),
    "RX": lambda x, z: qml.pow(qml.RX(x, 0), z),
    "evolution": lambda x, z: qml.pow(qml.evolve(qml.X(0) @ qml.Z(1), as_time(x)), z),
    "CRX": lambda x, z: qml.pow(qml.CRX(x, [1, 0]), z),
    "controlled rotation": lambda x, z: qml.pow(qml.ctrl(qml.RX(x, 0), 1), z),
    "controlled root": lambda x, z: qml.ctrl(qml.pow(qml.RX(x, 0), z), 1),
    "adjoint root": lambda x, z: qml.adjoint(qml.pow(qml.PhaseShift(x, 0), z)),
    "product": lambda x, z: qml.pow(qml.RX(x, 0), z) @ qml.pow(qml.PhaseShift(x, 1), z),
    "Select": lambda x, z: qml.Select([qml.pow(qml.PhaseShift(x, 0), z), qml.X(0)], control=[1]),
    "IsingXY": lambda x, z: qml.pow(qml.IsingXY(x, [0, 1]), z),
}


def as_time(x):
    return tf.cast(x, tf.complex128) if tf.is_tensor(x) else x


@pytest.mark.one_in(4)
@pytest.mark.parametrize("device", ["simulator", "default-qubit", "aer"])
@pytest.mark.parametrize("name", ROOTS)
def test_roots_of_rotations_multiply_angles(name, device):
    """Of numbers as of tensors: principal roots, which matrices have, jump."""

    def circuit(x, z):
        qml.RY(0.9, 0)
        qml.RY(0.3, 1)
        ROOTS[name](x, z)
        qml.RZ(0.4, 0)
        return qml.expval(qml.X(0) + 0.3 * qml.Y(0) + 0.2 * qml.Z(1))

    node = qshift.qnode(qshift.device(device, wires=2), embedded=device != "default-qubit")(circuit)
    for x, z in [(4.0, 0.5), (7.0, 1 / 3), (7.0, -1.5), (-13.0, 0.5)]:
        # One angle alone makes roots that are the same by any definition.
        right = node(x * z, 1)
        for number in (x, tf.constant(x, tf.float64), tf.Variable(x, dtype=tf.float64)):
            np.testing.assert_allclose(node(number, z), right, atol=1e-9)
