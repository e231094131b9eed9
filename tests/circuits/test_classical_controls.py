"""What is controlled by an outcome needs the circuits of the gate alone."""

import functools
import itertools

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import tape_derivatives

import qshift

X = np.array([0.3, np.pi / 2, 1.1])


def conditional(x):
    qml.RX(x[0], wires=0)
    m = qml.measure(0)
    qml.cond(m, qml.RY)(x[1], wires=1)
    qml.cond(~m, qml.RX)(x[2], wires=1)
    return qml.expval(qml.Z(1))


def by_branches(x):
    """The value of `conditional`: that of each branch, with its probability."""
    p = tf.sin(x[0] / 2) ** 2
    return p * tf.cos(x[1]) + (1 - p) * tf.cos(x[2])


def test_a_condition_costs_no_more_than_its_gate():
    device = qml.device("default.qubit")
    node = qshift.qnode(device, diff_method="shift", embedded=False)(conditional)
    found = tape_derivatives(node, X, 3)
    expected = tape_derivatives(by_branches, X, 3)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    with qshift.Tracker() as tracker:
        tape_derivatives(node, X, 1)
    assert tracker.totals["circuits"] == node.plan(X, order=1).circuits == 1 + 2 * 3
    assert node.plan(X, order=2).circuits == 1 + 2 * 3 + 3 * 3


REUSED = {
    "turned afterwards": lambda x: (
        qml.cond(qml.measure(0), qml.RY)(x[1], wires=1),
        qml.Hadamard(0),
        qml.CNOT([0, 1]),
    ),
    "reset": lambda x: (
        qml.cond(qml.measure(0, reset=True), qml.RY)(x[1], wires=1),
        qml.RX(x[2], wires=0),
    ),
    "measured twice": lambda x: (
        qml.cond(qml.measure(0), qml.RY)(x[1], wires=1),
        qml.RX(x[2], wires=0),
        qml.cond(qml.measure(0), qml.RX)(x[2], wires=1),
    ),
    "two outcomes": lambda x: qml.cond(qml.measure(0) & qml.measure(1), qml.RY)(x[1], wires=2),
    "a control besides": lambda x: (
        qml.cond(qml.measure(0), qml.ctrl(qml.RY, 1))(x[1], wires=2),
        qml.RX(x[2], wires=1),
    ),
    "controlled by the wire itself": lambda x: (
        qml.cond(qml.measure(0), qml.PhaseShift)(x[1], wires=1),
        qml.CRX(x[2], wires=[0, 2]),
        qml.Hadamard(0),
        qml.CRY(x[1], wires=[0, 1]),
        qml.Hadamard(0),
    ),
    "other branches": lambda x: qml.cond(
        qml.measure(0) == 0, lambda: qml.RX(x[1], wires=1), lambda: qml.Rot(*x, wires=1)
    )(),
    "a phase": lambda x: qml.cond(qml.measure(0), qml.GlobalPhase)(x[1], wires=[]),
}
OBSERVED = {
    "far": lambda: qml.expval(qml.Z(1) @ qml.Y(2)),
    "outcome": lambda: qml.expval(qml.Z(0) @ qml.Z(1)),
    "phases": lambda: qml.expval(qml.X(0) @ qml.Z(1)),
    "probabilities": lambda: qml.probs(wires=[0, 1]),
    "variance": lambda: qml.var(qml.X(0) + qml.Z(1)),
    "matrix": lambda: qml.expval(qml.Hermitian(np.array([[0.3, 1j], [-1j, 0.1]]), wires=0)),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("reused", "observed"), list(itertools.product(REUSED, OBSERVED)))
def test_derivatives_are_those_of_gate_by_gate_differentiation(reused, observed):
    def fn(x):
        for wire in range(3):
            qml.RY(0.4 + wire, wires=wire)
            qml.CNOT([wire, (wire + 1) % 3])
        qml.RX(x[0], wires=0)
        REUSED[reused](x)
        return OBSERVED[observed]()

    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(fn)
    reference = qml.qnode(qml.device("default.qubit"), diff_method="backprop")(fn)
    value, *derivatives = tape_derivatives(node, X, 2)
    np.testing.assert_allclose(value, reference(X), atol=1e-10)
    # A function without further frequencies: its Fourier series at any angles is the right one.
    step = 1e-3
    at = functools.cache(lambda *steps: reference(X + step * np.array(steps)))
    for j, k in itertools.product(range(3), repeat=2):
        e, d = np.eye(3, dtype=int)[[j, k]]
        first = (at(*e) - at(*-e)) / (2 * step)
        np.testing.assert_allclose(derivatives[0][..., j], first, atol=1e-5)
        corners = at(*(e + d)) - at(*(e - d)) - at(*(d - e)) + at(*(-e - d))
        np.testing.assert_allclose(derivatives[1][..., j, k], corners / (4 * step**2), atol=1e-4)


def test_what_users_control_keeps_its_frequencies():
    """Noise may turn the control of a gate that users have controlled themselves."""

    def fn(x):
        qml.CRX(x[0], wires=[0, 1])
        return qml.expval(qml.Z(1))

    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(fn)
    assert node.plan(X[:1], order=1).circuits == 5
