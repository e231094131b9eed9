"""Mid-circuit measurements: the wires they are deferred to, and what is refused."""

import functools

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import tape_derivatives

import qshift


def circuit_on(a, b, measurement):
    def circuit(x):
        qml.RX(x, wires=a)
        qml.measure(a)
        qml.CNOT(wires=[a, b])
        qml.RX(x, wires=b)
        return measurement()

    return circuit


def expected(x):
    """The probabilities of (a, b)."""
    p, q = np.cos(x / 2) ** 2, np.sin(x / 2) ** 2
    return np.array([p * p, p * q, q * q, q * p])


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
@pytest.mark.parametrize("diff_method", ["best", "adjoint"])
@pytest.mark.parametrize(
    "wires, a, b", [(3, 0, 1), (3, 1, 2), (3, 2, 0), (["a", "b", "c", "d"], "a", "c"), (None, 0, 1)]
)
def test_outcomes_go_to_spare_wires_of_the_device(wires, a, b, diff_method, device):
    circuit = circuit_on(a, b, lambda: qml.expval(qml.Z(a) @ qml.Z(b)))
    on = functools.partial(qshift.qnode, embedded=device != "default.qubit")
    node = on(qml.device(device, wires=wires), diff_method=diff_method)(circuit)
    value, gradient = tape_derivatives(node, np.array(0.6), 1)
    signs = [1, -1, -1, 1]
    assert value == pytest.approx(signs @ expected(0.6))
    assert gradient == pytest.approx((signs @ (expected(0.6 + 1e-6) - expected(0.6 - 1e-6))) / 2e-6)


@pytest.mark.parametrize("shots", [None, 50])
@pytest.mark.parametrize("a, b", [(0, 1), ("q", "p")])
def test_probabilities_without_wires_are_those_of_the_circuit(a, b, shots):
    node = qshift.qnode(qml.device("default.qubit"), shots=shots)(circuit_on(a, b, qml.probs))
    value = node(tf.constant(0.6, tf.float64))
    assert value.shape == (4,) and float(tf.reduce_sum(value)) == pytest.approx(1.0)
    if not shots:
        np.testing.assert_allclose(value, expected(0.6))


@pytest.mark.parametrize("shots", [None, 50])
@pytest.mark.parametrize(
    "wires, measurement, message",
    [
        (2, lambda: qml.expval(qml.Z(1)), r"1 more than the 2 .* 2 in all, \[0, 1\].* 1 more"),
        (2, lambda: qml.probs(), r"2 in all.*wires=None"),
        (3, lambda: qml.probs(), r"1 more than the 3 .* 3 in all.*qml.probs\(wires=...\)"),
    ],
)
def test_too_few_wires_are_explained(wires, measurement, message, shots, tracker):
    device = qml.device("default.qubit", wires=wires)
    node = qshift.qnode(device, shots=shots)(circuit_on(0, 1, measurement))
    with pytest.raises(qshift.UnsupportedError, match=f"deferred.*{message}"):
        node(tf.constant(0.3, tf.float64))
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize(
    "measurement, way_out",
    [(qml.sample, "qml.expval"), (qml.counts, "qml.probs"), (qml.state, "qml.expval")],
)
def test_other_measurements_say_what_to_use_instead(measurement, way_out):
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(
        circuit_on(0, 1, measurement)
    )
    with pytest.raises(qshift.UnsupportedError, match=f"return {way_out}"):
        node(tf.constant(0.3, tf.float64))


def test_postselection_is_refused(tracker):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RX(x, wires=0)
        qml.measure(0, postselect=1)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="(?s)Postselection.*divide in TensorFlow"):
        circuit(tf.constant(0.3, tf.float64))
    assert tracker.totals["circuits"] == 0


def test_templates_that_look_up_all_of_their_wires():
    """Some of PennyLane's do, where only the wires of outcomes get other names."""
    wires = ["a", "b", "c", "d"]

    @qshift.qnode(qml.device("default.qubit", wires=[*wires, "spare"]), diff_method="shift")
    def circuit(x):
        qml.measure("a")
        qml.AllSinglesDoubles(x, wires, np.array([1, 1, 0, 0]), singles=[["a", "c"]])
        return qml.expval(qml.Z("a"))

    found = circuit(tf.constant([0.3], tf.float64))
    assert float(found) == pytest.approx(-np.cos(0.3))
