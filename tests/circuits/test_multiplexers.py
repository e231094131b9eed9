"""Rotations by an angle that other wires select."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.circuits.smooth_decompositions import parts

DEFAULT = qml.device("default.qubit")


@pytest.mark.parametrize("axis", "XYZ")
@pytest.mark.parametrize("controls", [0, 1, 3])
def test_selected_rotations(axis, controls):
    angles = np.random.default_rng(controls).normal(size=2**controls)
    control, target = list(range(controls)), controls
    gate = qml.SelectPauliRot(angles, control, target, rot_axis=axis)
    gates = [getattr(qml, f"R{axis}").compute_matrix(angle) for angle in angles]
    expected = np.zeros((2 * len(gates), 2 * len(gates)), complex)
    for k, each in enumerate(gates):
        expected[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = each
    np.testing.assert_allclose(
        qml.matrix(qml.tape.QuantumScript(parts(gate)), wire_order=[*control, target]),
        expected,
        atol=1e-12,
    )


def test_selected_rotations_by_zero_are_not_left_out_in_forward_mode():
    """PennyLane asks for tapes that watch, of which there is none in forward mode."""

    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        qml.Hadamard(0)
        qml.SelectPauliRot(x, [0], 1, rot_axis="X")
        return qml.expval(qml.Y(1))

    x = tf.zeros([2], tf.float64)
    with tf.autodiff.ForwardAccumulator(x, tf.constant([1.0, 3.0], tf.float64)) as accumulator:
        value = circuit(x)
    assert accumulator.jvp(value).numpy() == pytest.approx(-2.0)
