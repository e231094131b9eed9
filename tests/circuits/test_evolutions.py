"""Evolutions by sums of words, also where a coefficient is zero now."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import tape_derivatives, time

import qshift

DEFAULT = qml.device("default.qubit")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("at", [(0.0, 0.0), (0.3, 0.0), (0.0, -0.4), (0.3, 0.2)])
def test_a_coefficient_of_zero_is_still_one(at, compiled):
    """PennyLane simplifies sums of words, and leaves out terms that are zero."""

    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        qml.Hadamard(0)
        qml.RY(0.3, wires=1)
        sum_of_words = qml.s_prod(x[0], qml.Z(0)) + qml.s_prod(x[1], qml.Z(0) @ qml.X(1))
        qml.evolve(sum_of_words, time(tf.constant(0.7, tf.float64)))
        return qml.expval(qml.Y(0))

    value, found = tape_derivatives(tf.function(circuit) if compiled else circuit, np.array(at), 1)
    # X(1) has eigenvalues +-1, with probabilities (1 +- sin 0.3) / 2.
    chances, signs = (1 + np.sin(0.3) * np.array([1, -1])) / 2, np.array([1, -1])
    angles = 1.4 * (at[0] + at[1] * signs)
    assert value == pytest.approx(chances @ np.sin(angles), abs=1e-12)
    expected = [1.4 * chances @ np.cos(angles), 1.4 * (chances * signs) @ np.cos(angles)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_frequencies_that_are_not_equidistant_do_not_get_pennylanes_recipe():
    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        hamiltonian = qml.Hamiltonian([0.5, 1.5], [qml.X(0), qml.X(1)])
        qml.CommutingEvolution(hamiltonian, x, frequencies=(1, 3))
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    first = tape_derivatives(lambda x: tf.stack(circuit(x)), np.array(0.4), 1)[1]
    np.testing.assert_allclose(first, [-np.sin(0.4), -3 * np.sin(1.2)], atol=1e-12)


EXPONENTS = {
    "matrix": lambda: qml.Hermitian([[1.0, 0.3], [0.3, 2.0]], 0),
    "Hadamard": lambda: qml.Hadamard(0),
    "words": lambda: qml.X(0) + 0.5 * qml.Z(0),
    "word": lambda: 0.5 * qml.Y(0),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("around", [lambda op: op, lambda op: qml.ctrl(op, 1), qml.adjoint])
@pytest.mark.parametrize("name", EXPONENTS)
def test_exponentials_with_imaginary_coefficients_are_evolutions(name, around, compiled):
    def derivatives(gate):
        @qshift.qnode(qshift.device("simulator"))
        def circuit(x):
            qml.RY(0.3, wires=0)
            qml.Hadamard(1)
            around(gate(tf.cast(x, tf.complex128)))
            return qml.expval(qml.X(0) @ qml.X(1) + qml.Y(0))

        return tape_derivatives(tf.function(circuit) if compiled else circuit, np.array(0.4), 2)

    found = derivatives(lambda x: qml.exp(EXPONENTS[name](), 1j * x))
    expected = derivatives(lambda x: qml.evolve(EXPONENTS[name](), -x))
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("compiled", [False, True])
def test_times_of_templates_may_be_complex_tensors(compiled):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(time):
        qml.ApproxTimeEvolution(0.7 * qml.X(0), tf.cast(time, tf.complex128), 2)
        qml.CommutingEvolution(0.5 * qml.Y(1), tf.cast(2.0 * time, tf.complex128))
        return qml.expval(qml.Z(0) @ qml.Z(1))

    time = tf.constant(0.3, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(time)
        value = (tf.function(circuit) if compiled else circuit)(time)
    first = tape.gradient(value, time)
    x, y = 1.4 * 0.3, 2.0 * 0.3
    assert float(value) == pytest.approx(np.cos(x) * np.cos(y), abs=1e-12)
    slope = -1.4 * np.sin(x) * np.cos(y) - 2.0 * np.cos(x) * np.sin(y)
    assert float(first) == pytest.approx(slope, abs=1e-12)
