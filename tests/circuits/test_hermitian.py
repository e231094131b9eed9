"""Observables that are not Hermitian are errors on every device; others have their values."""

import numpy as np
import pennylane as qml
import pytest
import scipy.sparse
import tensorflow as tf

import qshift
from qshift.circuits import hermitian
from qshift.circuits.hermitian import require_hermitian

A = np.array([[1, 2j], [-2j, 0.3]])
B = np.array([[0.2, 1], [1, -0.7]])
RAISING = np.array([[0, 1], [0, 0.0]])


class ByMatrix(qml.operation.Operator):
    num_wires = 1

    def __init__(self, matrix, wires):
        super().__init__(wires=wires)
        self._hyperparameters = {"matrix": matrix}

    @staticmethod
    def compute_matrix(matrix):
        return matrix


class ByEigenvalues(qml.operation.Operator):
    num_wires = 1

    def __init__(self, values, wires):
        super().__init__(wires=wires)
        self._hyperparameters = {"values": values}

    @staticmethod
    def compute_eigvals(values):
        return np.array(values)

    @staticmethod
    def compute_diagonalizing_gates(values, wires):
        return [qml.Hadamard(wires)]


class PauliZ(ByMatrix):
    """Has the name of another observable."""


def operators(a, b):
    return qml.Hermitian(a, 0) @ qml.Hermitian(b, 0)


NOT_HERMITIAN = {
    "product": lambda: qml.X(0) @ qml.Z(0),
    "small product": lambda: 1e-13 * (qml.X(0) @ qml.Z(0)),
    "complex multiple": lambda: (0.5 + 1j) * qml.Z(0),
    "complex coefficient": lambda: qml.Hamiltonian([0.5 + 1j], [qml.Z(0)]),
    "small imaginary term": lambda: qml.Z(1) + 1e-12j * qml.X(0),
    "small next to large": lambda: 1e12 * qml.Z(1) + (1.0 + 1e-3j) * qml.X(0),
    "matrix": lambda: qml.Hermitian(RAISING, 0),
    "small matrix": lambda: qml.Hermitian(1e-12 * RAISING, 0),
    "large matrix": lambda: qml.Hermitian(1e12 * RAISING, 0),
    "matrix and word": lambda: qml.Hermitian(RAISING, 0) @ qml.X(1),
    "product of matrices": lambda: operators(A, B),
    "imaginary matrix": lambda: 1j * qml.Hermitian(A, 0),
    "sum with an imaginary term": lambda: qml.Hermitian(A, 0) + 1j * qml.Z(1),
    "multiple of a product": lambda: qml.s_prod(2.0, qml.X(0) @ qml.Z(0)) + qml.Z(0),
    "S": lambda: qml.S(0),
    "T": lambda: qml.T(0),
    "RX": lambda: qml.RX(0.3, 0),
    "adjoint": lambda: qml.adjoint(qml.S(0)),
    "exponential": lambda: qml.exp(qml.Z(0), 1j),
    "power": lambda: qml.pow(qml.S(0), 3),
    "a user's matrix": lambda: ByMatrix(RAISING, 0),
    "a user's eigenvalues": lambda: ByEigenvalues([1, 1j], 0),
    "not a number": lambda: qml.Hamiltonian([np.nan], [qml.Z(0)]),
    "infinite": lambda: qml.Hermitian(np.diag([np.inf, 1.0]), 0),
}
HERMITIAN = {
    "products that are one together": lambda: 0.5 * (qml.X(0) @ qml.Z(0) + qml.Z(0) @ qml.X(0)),
    "imaginary parts that cancel": lambda: (
        (0.5 + 0.1j) * qml.Z(0) + 0.2j * qml.Z(0) - 0.3j * qml.Z(0)
    ),
    "i times a product": lambda: 1j * (qml.X(0) @ qml.Z(0)),
    "anticommutator": lambda: operators(A, B) + operators(B, A),
    "commutator": lambda: 1j * operators(A, B) - 1j * operators(B, A),
    "rounding": lambda: qml.Hermitian(A * (1 + 1e-13j), 0),
    "single precision": lambda: qml.Hermitian((A @ A).astype(np.complex64), 0),
    "projector": lambda: qml.Projector(np.array([1, 1j]) / np.sqrt(2), 0),
    "adjoint of a matrix": lambda: qml.adjoint(qml.Hermitian(A, 0)),
    "exponential of a real number": lambda: qml.exp(qml.Z(0), 0.3),
    "power of a matrix": lambda: qml.pow(qml.Hermitian(A, 0), 2),
    "large": lambda: 1e12 * qml.Z(0),
    "small": lambda: 1e-12 * qml.Z(0),
    "small and one": lambda: 1e-9 * qml.X(0) + 1e-12 * qml.Z(1),
    "large and small": lambda: 1e12 * qml.X(0) + 3e-12 * qml.Z(0) + qml.Y(1),
    "large matrix": lambda: qml.Hermitian(1e12 * A, 0),
    "small matrix": lambda: qml.Hermitian(1e-12 * A, 0),
    "a user's matrix": lambda: ByMatrix(A, 0),
    "a user's eigenvalues": lambda: ByEigenvalues([1, -3.0], 0),
    "a user's matrix called PauliZ": lambda: PauliZ(A, 0),
}
DEVICES = {
    "default.qubit": lambda: qml.device("default.qubit"),
    "simulator": lambda: qshift.device("simulator"),
    "lightning.qubit": lambda: qml.device("lightning.qubit", wires=2),
    "aer": lambda: qshift.device("aer"),
}
X = tf.constant(0.3, tf.float64)


def circuit(measurement, device):
    @qshift.qnode(device, embedded=device.name != "default.qubit")
    def function(x):
        qml.RX(x, 0)
        qml.RY(0.4, 1)
        qml.CNOT([0, 1])
        qml.RZ(0.2, 0)
        return measurement()

    return function


def state(x):
    matrices = (
        np.kron(qml.RX.compute_matrix(x), qml.RY.compute_matrix(0.4)),
        qml.CNOT.compute_matrix(),
        np.kron(qml.RZ.compute_matrix(0.2), np.eye(2)),
    )
    vector = np.eye(4)[0]
    for matrix in matrices:
        vector = matrix @ vector
    return vector


def expected(observable):
    if isinstance(observable, ByEigenvalues):
        hadamard = qml.Hadamard.compute_matrix()
        values = observable.hyperparameters["values"]
        observable = qml.Hermitian(hadamard @ np.diag(values) @ hadamard, 0)
    matrix = qml.matrix(observable, wire_order=[0, 1])
    return np.real(np.vdot(state(0.3), matrix @ state(0.3)))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("measure", [qml.expval, qml.var])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NOT_HERMITIAN)
def test_what_is_not_hermitian_is_an_error(name, device, measure):
    function = circuit(lambda: measure(NOT_HERMITIAN[name]()), DEVICES[device]())
    for call in (function, tf.function(function)):
        with pytest.raises(qshift.UnsupportedError, match="not Hermitian"):
            call(X)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", HERMITIAN)
def test_what_is_hermitian_has_its_value(name, device):
    value = circuit(lambda: qml.expval(HERMITIAN[name]()), DEVICES[device]())(X)
    np.testing.assert_allclose(value, expected(HERMITIAN[name]()), rtol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_variances_at_every_scale(scale, device):
    observable = qml.X(0) @ qml.Z(1) + 0.3 * qml.Y(0)
    value = circuit(lambda: qml.var(scale * observable), DEVICES[device]())(X)
    mean_of_square = expected(qml.prod(observable, observable))
    np.testing.assert_allclose(value, scale**2 * (mean_of_square - expected(observable) ** 2), 1e-9)


@pytest.mark.parametrize("diff_method", ["shift", "adjoint"])
def test_derivatives_of_small_terms_are_not_lost_next_to_large_ones(diff_method):
    @qshift.qnode(qshift.device("simulator"), diff_method=diff_method)
    def function(x):
        qml.RX(x[0], 0)
        qml.RX(x[1], 1)
        return qml.expval(1e-12 * qml.Z(0) + 1e12 * qml.Z(1))

    _, gradient, hessian = qshift.derivatives(
        function, tf.constant([0.3, 0.4], tf.float64), order=2
    )
    np.testing.assert_allclose(gradient, [-1e-12 * np.sin(0.3), -1e12 * np.sin(0.4)], rtol=1e-9)
    diagonal = [-1e-12 * np.cos(0.3), -1e12 * np.cos(0.4)]
    np.testing.assert_allclose(np.diag(hessian), diagonal, rtol=1e-9)
    assert hessian[0, 1] == hessian[1, 0] == 0.0


@pytest.mark.parametrize(
    "make",
    [
        lambda c: qml.s_prod(c * (0.3 + 0.1j), qml.Z(0)),
        lambda c: qml.Hamiltonian([c * (0.3 + 0.1j), c], [qml.Z(0), qml.X(0)]),
    ],
)
def test_tensors_as_coefficients_are_real(make):
    function = circuit_with_coefficient(make)
    with pytest.raises(qshift.UnsupportedError, match="not real"):
        function(X, tf.constant(1.0 + 0j))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not real"):
        tf.function(function)(X, tf.constant(1.0 + 0j))


def test_tensors_of_products_that_are_not_hermitian():
    function = circuit_with_coefficient(
        lambda c: qml.Hamiltonian([c, c], [qml.Hermitian(RAISING, 0), qml.Z(0)])
    )
    for call in (function, tf.function(function)):
        with pytest.raises(qshift.UnsupportedError, match="not Hermitian"):
            call(X, tf.constant(1.0, tf.float64))


def test_complex_tensors_without_imaginary_parts_are_coefficients():
    function = circuit_with_coefficient(lambda c: qml.s_prod(c, qml.Z(0)))
    for call in (function, tf.function(function)):
        value = call(X, tf.constant(0.7 + 0j, tf.complex128))
        np.testing.assert_allclose(value, 0.7 * expected(qml.Z(0)), atol=1e-12)


def circuit_with_coefficient(make):
    @qshift.qnode(qshift.device("simulator"))
    def function(x, c):
        qml.RX(x, 0)
        qml.RY(0.4, 1)
        qml.CNOT([0, 1])
        qml.RZ(0.2, 0)
        return qml.expval(make(c))

    return function


def test_functions_of_outcomes_are_real():
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def function(x):
        qml.RX(x, 0)
        return qml.expval(1j * qml.measure(0))

    with pytest.raises(qshift.UnsupportedError, match="not real"):
        function(X)


def test_probabilities_of_a_product_that_has_no_basis():
    function = circuit(lambda: qml.probs(op=qml.X(0) @ qml.Z(0)), qml.device("default.qubit"))
    with pytest.raises(qshift.UnsupportedError, match="not Hermitian"):
        function(X)


@pytest.mark.parametrize("mode", ["transform", "device"])
def test_gradient_transforms_and_the_estimator_device_look_too(mode):
    names = {"transform": "default.qubit", "device": "qshift.estimator"}

    @qml.qnode(qml.device(names[mode], wires=1), diff_method=qshift.param_shift)
    def function(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Hermitian(RAISING, 0))

    with pytest.raises(qshift.UnsupportedError, match="not Hermitian"):
        qml.grad(function)(qml.numpy.array(0.3, requires_grad=True))


@pytest.mark.parametrize(
    ("power", "problem"), [(qml.pow(qml.S(0), -2), False), (qml.pow(qml.S(0), -1), True)]
)
def test_powers_may_be_hermitian_where_the_base_is_not(power, problem):
    for _ in range(2):
        assert bool(hermitian.hermitian_problem(power)) == problem


def test_matrices_are_looked_at_once(monkeypatch):
    observable = qml.Hermitian(np.diag([1.0, 2.0, 3.0, 5.0]), [0, 1])
    require_hermitian(observable)
    monkeypatch.setattr(hermitian, "_of_matrix", None)
    require_hermitian(qml.Hermitian(np.diag([1.0, 2.0, 3.0, 5.0]), [0, 1]))


@pytest.mark.parametrize(
    "observable",
    [
        qml.SparseHamiltonian(scipy.sparse.csr_matrix(A), 0),
        qml.SparseHamiltonian(scipy.sparse.eye(2**12, format="csr"), range(12)),
        qml.prod(*(qml.Hermitian(A, i) for i in range(14))),
        qml.sum(*(qml.Hermitian(A, i) @ qml.Hermitian(B, i + 1) for i in range(14))),
        qml.Projector([1] * 14, range(14)),
        qml.prod(*(qml.Projector([1], i) + qml.X(i) for i in range(13))),
    ],
)
def test_wide_observables_are_looked_at_by_their_parts(observable):
    require_hermitian(observable)


@pytest.mark.parametrize(
    "observable, reason",
    [
        (qml.SparseHamiltonian(scipy.sparse.csr_matrix(RAISING), 0), "conjugate"),
        (qml.prod(*(qml.Hermitian(RAISING, i) for i in range(3))), "conjugate"),
        (operators(A, B) @ qml.prod(*(qml.X(i) for i in range(12))), "conjugate"),
        (operators(A, B) @ qml.prod(*(qml.X(i) for i in range(18))), "as far as is known"),
    ],
)
def test_wide_observables_that_are_not(observable, reason):
    with pytest.raises(qshift.UnsupportedError, match=reason):
        require_hermitian(observable)


@pytest.mark.parametrize(
    "observable",
    [
        lambda: qml.Hermitian(RAISING, 0),
        lambda: qml.Hermitian(np.kron(np.eye(2), RAISING), [0, 1]),
        lambda: qml.Hermitian(1e-9 * RAISING, 0),
    ],
)
def test_probabilities_of_what_is_not_hermitian(observable):
    @qshift.qnode(qml.device("default.qubit", wires=2), diff_method="shift")
    def circuit(x):
        qml.RY(x, 0)
        return qml.probs(op=observable())

    with pytest.warns(UserWarning, match="Hermitian"), pytest.raises(qshift.UnsupportedError):
        circuit(tf.constant(0.3, tf.float64))
