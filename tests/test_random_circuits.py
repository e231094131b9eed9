"""Whole circuits against backpropagation, closed forms and published values."""

from functools import lru_cache

import numpy as np
import pennylane as qml
import pytest
import scipy.optimize
import tensorflow as tf
from random_circuits import (
    GATES,
    PLAIN,
    RandomCircuit,
    jax_derivatives,
    tape_derivatives,
    time,
    weighted,
)

import qshift

FEW_ANGLES = tuple(name for name, gate in PLAIN.items() if gate.angles == 1)


def assert_derivatives_equal(got, expected, atol=1e-8):
    for order, (a, b) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=atol, err_msg=f"order {order}")


@lru_cache
def by_backpropagation(circuit, order):
    size = len(circuit.numpy()(circuit.theta))
    expected = tape_derivatives(weighted(circuit.backprop(), size), circuit.theta, order)
    return size, expected


@pytest.mark.one_in(8)
@pytest.mark.parametrize("name", GATES)
def test_every_gate_to_second_order(name):
    circuit = RandomCircuit(len(name), max(2, GATES[name].wires), 2, gates=2, names=[name])
    size, expected = by_backpropagation(circuit, 2)
    for objective in ("circuits", "shots"):
        function = weighted(circuit.qshift(objective=objective), size)
        assert_derivatives_equal(tape_derivatives(function, circuit.theta, 2), expected)


@pytest.mark.one_in(6)
@pytest.mark.parametrize("wires", [1, 2, 3, 4, 5, 6])
def test_random_circuits_to_third_order(wires):
    circuit = RandomCircuit(wires, wires, 3, gates=4, names=FEW_ANGLES)
    size, expected = by_backpropagation(circuit, 3)
    for objective in ("circuits", "shots"):
        function = weighted(circuit.qshift(objective=objective, diff_method="shift"), size)
        assert_derivatives_equal(tape_derivatives(function, circuit.theta, 3), expected)


def test_all_derivatives_of_all_values_equal_those_of_jax():
    circuit = RandomCircuit(1, 2, 2, names=("RX", "CRY", "IsingXX"))
    got = qshift.derivatives(circuit.qshift(), tf.constant(circuit.theta), order=2)
    assert_derivatives_equal(got, jax_derivatives(circuit.jax(), circuit.theta, 2))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", GATES)
def test_adjoint_differentiation_of_every_gate(name):
    circuit = RandomCircuit(len(name), max(2, GATES[name].wires), 2, gates=1, names=[name])
    circuit.measurements = [qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(1) + 0.3 * qml.X(0))]
    _, expected = by_backpropagation(circuit, 1)
    function = weighted(circuit.qshift(diff_method="adjoint"), 2)
    assert_derivatives_equal(tape_derivatives(function, circuit.theta, 1), expected)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("wires", [1, 3])
def test_adjoint_differentiation_to_third_order(wires):
    circuit = RandomCircuit(wires, wires, 3, gates=4, names=FEW_ANGLES)
    circuit.measurements = [qml.expval(qml.X(0)), qml.expval(qml.Z(wires - 1))]
    _, expected = by_backpropagation(circuit, 3)
    function = weighted(circuit.qshift(diff_method="adjoint"), 2)
    assert_derivatives_equal(tape_derivatives(function, circuit.theta, 3), expected)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["lightning.qubit", "default.mixed"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_other_devices_agree(name, seed):
    circuit = RandomCircuit(seed, 3, 2, gates=4, names=FEW_ANGLES)
    size, expected = by_backpropagation(circuit, 2)
    function = weighted(circuit.qshift(qml.device(name, wires=6)), size)
    assert_derivatives_equal(tape_derivatives(function, circuit.theta, 2), expected)


# --- closed forms ---


@pytest.mark.parametrize("objective", ["circuits", "shots"])
def test_order_eight_of_one_parameter(objective):
    @qshift.qnode(qml.device("default.qubit"), objective=objective)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.Variable(0.4, dtype=tf.float64)
    derivatives = qshift.derivatives(circuit, x, order=8)
    expected = [np.cos(0.4 + k * np.pi / 2) for k in range(9)]
    np.testing.assert_allclose(derivatives, expected, atol=1e-12)


@pytest.mark.parametrize("objective", ["circuits", "shots"])
def test_order_four_of_a_product(objective):
    @qshift.qnode(qml.device("default.qubit"), objective=objective)
    def circuit(x):
        for wire in range(3):
            qml.RX(x[wire], wires=wire)
        return qml.expval(qml.Z(0) @ qml.Z(1) @ qml.Z(2))

    x = np.array([0.3, -1.1, 2.0])
    fourth = qshift.derivatives(circuit, tf.constant(x), order=4)[4].numpy()
    for index in np.ndindex(fourth.shape):
        orders = np.bincount(index, minlength=3)
        assert fourth[index] == pytest.approx(np.prod(np.cos(x + orders * np.pi / 2)), abs=1e-12)


def test_order_six_with_incommensurate_frequencies():
    slow, fast = 0.7, np.sqrt(3)

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.Hadamard(0)
        qml.Hadamard(1)
        qml.evolve(qml.Hamiltonian([slow / 2, fast / 2], [qml.Z(0), qml.Z(1)]), time(x))
        return qml.expval(qml.X(0) @ qml.X(1))

    # cos(slow x) cos(fast x) = (cos((fast - slow) x) + cos((fast + slow) x)) / 2
    x, frequencies = 0.6, np.array([fast - slow, fast + slow])
    expected = [
        (frequencies**k * np.cos(frequencies * x + k * np.pi / 2)).sum() / 2 for k in range(7)
    ]
    got = qshift.derivatives(circuit, tf.constant(x, tf.float64), order=6)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


# --- ground_truth.json ---


def test_cosine_product(cosine_product):
    circuit, truth = cosine_product
    theta = tf.constant(truth["theta"], tf.float64)
    value, gradient, _, third, fourth = qshift.derivatives(circuit, theta, order=4)
    assert value.numpy() == pytest.approx(truth["value"], abs=1e-9)
    np.testing.assert_allclose(gradient, truth["gradient"], atol=5e-8)
    assert third[0, 1, 2].numpy() == pytest.approx(truth["third_012"], abs=5e-9)
    assert third[0, 0, 1].numpy() == pytest.approx(truth["third_001"], abs=5e-9)
    assert fourth[0, 1, 2, 3].numpy() == pytest.approx(truth["fourth_0123"], abs=5e-9)
    # theta_4 has no effect: exactly none, for it lies outside the light cone.
    assert not third[4].numpy().any()


@pytest.fixture(scope="module")
def h2():
    """The energy of H2 as a function of the double excitation's angle."""
    molecule = qml.qchem.Molecule(["H", "H"], np.array([[0, 0, -0.6614], [0, 0, 0.6614]]))
    hamiltonian, wires = qml.qchem.molecular_hamiltonian(molecule, method="dhf")
    assert wires == 4

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def energy(theta):
        qml.BasisState(np.array([1, 1, 0, 0]), wires=range(4))
        qml.DoubleExcitation(theta, wires=range(4))
        return qml.expval(hamiltonian)

    return energy


def test_h2_derivatives(h2, ground_truth):
    expected = ground_truth["h2_double_excitation"]["derivatives_at_zero_orders_0_to_4"]
    got = qshift.derivatives(h2, tf.constant(0.0, tf.float64), order=4)
    np.testing.assert_allclose(got, expected, atol=2e-9)


def test_h2_newton(h2, ground_truth):
    truth = ground_truth["h2_double_excitation"]
    theta = tf.Variable(0.0, dtype=tf.float64)
    for _ in range(truth["newton_steps_from_zero"]):
        _, gradient, hessian = qshift.derivatives(h2, theta, order=2)
        theta.assign_sub(gradient / hessian)
    assert theta.numpy() == pytest.approx(truth["minimum_theta"], abs=1e-8)
    assert h2(theta).numpy() == pytest.approx(truth["minimum_energy"], abs=2e-9)


def test_h2_two_qubit(ground_truth):
    truth = ground_truth["h2_two_qubit"]
    words = {word: qml.pauli.string_to_pauli_word(word) for word in truth["hamiltonian"]}
    hamiltonian = qml.Hamiltonian(list(truth["hamiltonian"].values()), list(words.values()))
    exact = np.linalg.eigvalsh(qml.matrix(hamiltonian, wire_order=[0, 1]))[0]
    assert exact == pytest.approx(truth["electronic_ground_energy"], abs=1e-9)

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def energy(theta):
        qml.X(0)
        qml.PauliRot(theta, "YX", wires=[0, 1])
        return qml.expval(hamiltonian)

    theta = tf.Variable(0.1, dtype=tf.float64)
    for _ in range(8):
        _, gradient, hessian = qshift.derivatives(energy, theta, order=2)
        theta.assign_sub(gradient / tf.abs(hessian))
    assert energy(theta).numpy() == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("depth, optimum, start", [(1, -3.0, 0.3), (2, -4.0, 0.4)])
def test_qaoa_ring_of_4(depth, optimum, start, ground_truth):
    edges = [(0, 1), (1, 2), (2, 3), (3, 0)]
    cut = qml.Hamiltonian(
        [0.5] * 4 + [-0.5] * 4, [qml.Z(a) @ qml.Z(b) for a, b in edges] + [qml.I(0)] * 4
    )

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def objective(angles):
        for wire in range(4):
            qml.Hadamard(wire)
        for layer in range(depth):
            for edge in edges:
                qml.IsingZZ(angles[layer, 0], wires=edge)
            for wire in range(4):
                qml.RX(angles[layer, 1], wires=wire)
        return qml.expval(cut)

    def value_and_gradient(flat):
        angles = tf.Variable(flat.reshape(depth, 2))
        with tf.GradientTape() as tape:
            value = objective(angles)
        return value.numpy(), tape.gradient(value, angles).numpy().ravel()

    first = start * np.linspace(1.0, 0.5, 2 * depth)
    best = scipy.optimize.minimize(value_and_gradient, first, jac=True, method="BFGS")
    assert best.fun == pytest.approx(optimum, abs=1e-7)
    assert ground_truth["qaoa_ring_of_4"]["optimum_p2"] == -4.0


def test_nonequidistant(ground_truth):
    truth = ground_truth["nonequidistant"]

    class Threefold(qml.operation.Operation):
        """exp(-i x diag(0, 1, 3, 3) / 1) up to phases: frequencies 1 and 3, and 2."""

        num_params, num_wires, ndim_params = 1, 1, (0,)
        parameter_frequencies = [tuple(truth["frequencies"])]

        @staticmethod
        def compute_matrix(x):
            return qml.RX.compute_matrix(3 * x)

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def both(x):
        Threefold(x, wires=0)
        return qml.expval(qml.Y(0)), qml.expval(qml.Z(0))

    x = tf.constant(0.0, tf.float64)
    _, first = qshift.derivatives(lambda x: -both(x)[0], x, order=1)
    assert first.numpy() == pytest.approx(3.0, abs=1e-11)
    *_, second = qshift.derivatives(lambda x: both(x)[1], x, order=2)
    assert second.numpy() == pytest.approx(-9.0, abs=1e-11)


def test_classical_preprocessing(ground_truth):
    truth = ground_truth["classical_preprocessing"]

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RX(tf.tanh(1.7 * x + 0.2), wires=0)
        return qml.expval(qml.Z(0))

    x = tf.constant(truth["x"], tf.float64)
    *_, second, third, fourth = qshift.derivatives(circuit, x, order=4)
    assert second.numpy() == pytest.approx(truth["second"], abs=5e-5)
    assert third.numpy() == pytest.approx(truth["third"], abs=5e-5)
    assert fourth.numpy() == pytest.approx(truth["fourth"], abs=5e-4)
