"""Compiled functions whose calls nobody asks for more: they leave no evaluation behind."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift

NUMBERS = np.array([[0.3, -0.7], [1.1, 0.2], [-2.0, 0.9]])


def circuit_of(diff_method="best"):
    """cos(a) and cos(a) cos(b)."""

    @qshift.qnode(qshift.device("simulator", wires=2), diff_method=diff_method)
    def circuit(a, b):
        qml.RX(a, 0)
        qml.RX(b, 1)
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(0) @ qml.Z(1))

    return circuit


def loss(circuit, x):
    first, second = circuit(x[:, 0], x[:, 1])
    return tf.reduce_sum(tf.sin(first) + 3.0 * first * second)


def slopes(x):
    """The gradient of the loss, from formulas."""
    (a, b), first = x.T, np.cos(x[:, 0])
    by_first = np.cos(first) + 6.0 * first * np.cos(b)
    return np.stack([-np.sin(a) * by_first, -3.0 * first**2 * np.sin(b)], axis=1)


def kept(circuit):
    return len(circuit.calls.evaluations)


def gradient_inside(circuit):
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = loss(circuit, x)
        return tape.gradient(result, x)

    return run


def gradient_outside(circuit):
    compiled = tf.function(lambda x: loss(circuit, x))

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = compiled(x)
        return tape.gradient(result, x)

    return run


@pytest.mark.parametrize("where, left", [(gradient_inside, 0), (gradient_outside, 1)])
def test_what_a_gradient_leaves_behind(where, left):
    """Tapes outside have the ticket, and might ask for more."""
    circuit = circuit_of()
    run = tf.function(where(circuit)) if where is gradient_inside else where(circuit)
    for turn, x in enumerate((NUMBERS, NUMBERS + 0.1), start=1):
        with qshift.Tracker() as tracker:
            found = run(tf.constant(x))
        np.testing.assert_allclose(found, slopes(x), atol=1e-12)
        assert kept(circuit) == turn * left
        assert tracker.totals["circuits"] == 2 * len(x)
        assert tracker.totals["batches"] == 2


def test_a_tape_outside_a_function_that_was_called_without():
    """TensorFlow adds the ticket to the outputs of the same graph then."""
    circuit = circuit_of()
    compiled = tf.function(lambda x: loss(circuit, x))
    x = tf.constant(NUMBERS)
    value = compiled(x)
    assert kept(circuit) == 0
    with qshift.Tracker() as tracker:
        with tf.GradientTape() as tape:
            tape.watch(x)
            again = compiled(x)
        gradient = tape.gradient(again, x)
    np.testing.assert_allclose(gradient, slopes(NUMBERS), atol=1e-12)
    assert again == value and kept(circuit) == 1
    assert tracker.totals["circuits"] == 2 * len(NUMBERS)


@pytest.mark.parametrize("diff_method", ["shift", "adjoint"])
def test_shifted_circuits_are_kept(diff_method):
    circuit = circuit_of(diff_method)
    found = tf.function(gradient_inside(circuit))(tf.constant(NUMBERS))
    np.testing.assert_allclose(found, slopes(NUMBERS), atol=1e-12)
    assert kept(circuit) == (diff_method == "shift")


def test_second_derivatives_are_kept():
    circuit = circuit_of()

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            gradient = gradient_inside(circuit)(x)
        return tape.gradient(gradient, x)

    found, step = run(tf.constant(NUMBERS)), 1e-6 * np.eye(2)
    steps = [(slopes(NUMBERS + s) - slopes(NUMBERS - s)).sum(axis=1) / 2e-6 for s in step]
    np.testing.assert_allclose(found, np.stack(steps, axis=1), atol=1e-8)
    assert kept(circuit) == 1


@pytest.mark.parametrize("special", [1e13, -1e13, 1e-9, 0.0, np.pi, np.nan, np.inf])
def test_angles_of_all_kinds(special):
    """What is large, or not a number, goes the usual way; a row of it changes no other."""
    circuit, x = circuit_of(), NUMBERS.copy()
    x[1, 0] = special
    found = tf.function(gradient_inside(circuit))(tf.constant(x)).numpy()
    with np.errstate(invalid="ignore"):
        right = slopes(x)
    np.testing.assert_allclose(found[[0, 2]], right[[0, 2]], atol=1e-12)
    if np.isfinite(special):
        np.testing.assert_allclose(found[1], right[1], atol=1e-12)
    else:
        assert np.isnan(found[1]).all()
    assert kept(circuit) == (not abs(special) < 1e3)


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 70])
def test_batches_of_any_size(rows):
    x = np.random.default_rng(rows).normal(size=(rows, 2))
    circuit = circuit_of()
    signature = [tf.TensorSpec([None, 2], tf.float64)]
    found = tf.function(gradient_inside(circuit), input_signature=signature)(tf.constant(x))
    np.testing.assert_allclose(found, slopes(x), atol=1e-12)
    assert kept(circuit) == 0


@pytest.mark.parametrize("factors", [[1.0, 0.0], [0.0, 0.0], [1e-12, 1.0], [np.nan, 1.0]])
def test_weights_of_all_kinds(factors):
    """Zeros, and weights for which a sum of single derivatives is more exact."""
    circuit = circuit_of()

    @tf.function
    def run(x, factors):
        with tf.GradientTape() as tape:
            tape.watch(x)
            first, second = circuit(x[:, 0], x[:, 1])
            result = tf.reduce_sum(factors[0] * first + factors[1] * second)
        return tape.gradient(result, x)

    (a, b), (u, v) = NUMBERS.T, factors
    right = [-np.sin(a) * (u + v * np.cos(b)), 0.0 * u - v * np.cos(a) * np.sin(b)]
    found = run(tf.constant(NUMBERS), tf.constant(factors, tf.float64)).numpy()
    np.testing.assert_allclose(found[:, 0], right[0], atol=1e-12)
    np.testing.assert_allclose(found[:, 1], right[1], atol=1e-12)
    assert kept(circuit) == 0


def test_one_point_and_one_value():
    @qshift.qnode(qshift.device("simulator", wires=1))
    def circuit(x):
        qml.RX(x[0], 0)
        qml.RY(x[1], 0)
        return qml.expval(qml.Z(0))

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = circuit(x)
        return value, tape.gradient(value, x)

    value, gradient = run(tf.constant(NUMBERS[0]))
    (a, b) = NUMBERS[0]
    np.testing.assert_allclose(value, np.cos(a) * np.cos(b), atol=1e-12)
    right = [-np.sin(a) * np.cos(b), -np.cos(a) * np.sin(b)]
    np.testing.assert_allclose(gradient, right, atol=1e-12)
    assert kept(circuit) == 0


def test_loops_and_conditions_have_calls_of_their_own():
    circuit = circuit_of()

    @tf.function
    def run(x):
        total = tf.zeros_like(x)
        for k in tf.range(3):
            if k > 0:
                total += gradient_inside(circuit)(x * tf.cast(k, x.dtype))
        return total

    np.testing.assert_allclose(
        run(tf.constant(NUMBERS)), slopes(NUMBERS) + slopes(2 * NUMBERS), atol=1e-12
    )
