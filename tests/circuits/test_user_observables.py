"""Users' observables whose representations are those of different ones."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.circuits.identity import operators

X = np.array([[0, 1.0], [1, 0]])


class ByMatrix(qml.Z):
    """X, in place of Z."""

    @staticmethod
    def compute_matrix(wires=None):
        return X


class ByGates(qml.Z):
    @staticmethod
    def compute_diagonalizing_gates(wires):
        return [qml.Hadamard(wires)]


class ByBoth(ByMatrix, ByGates):
    pass


class Raising(qml.Z):
    @staticmethod
    def compute_matrix(wires=None):
        return np.array([[0, 1.0], [0, 0]])


class Torn(ByMatrix):
    @staticmethod
    def compute_eigvals(wires=None):
        return np.array([1.0, 2.0])


class OtherNames(qml.Z):
    """Does not take what it is given, by some release of PennyLane: wires, or nothing."""

    @staticmethod
    def compute_matrix(labels):
        return X


class Failing(qml.Z):
    @staticmethod
    def compute_diagonalizing_gates(wires):
        raise ValueError("none")


class Renamed(qml.X):
    """Is what it is made from."""


class Decomposed(qml.Z):
    @staticmethod
    def compute_decomposition(wires):
        return [qml.X(wires)]


AROUND = {
    "alone": lambda o: o(0),
    "product": lambda o: o(0) @ qml.Z(1),
    "sum": lambda o: o(0) + qml.Z(1),
    "Hamiltonian": lambda o: qml.Hamiltonian([0.7, 0.2], [o(0), qml.Z(1)]),
    "multiple": lambda o: 2.0 * o(0),
    "three": lambda o: qml.prod(o(0), qml.Z(1), qml.Z(2)),
    "nested": lambda o: 0.5 * (o(0) @ (o(1) + qml.Z(2))) + qml.Y(0),
    "tensor": lambda o: tf.constant(0.7, tf.float64) * o(0) + qml.Z(1) @ o(2),
    "adjoint": lambda o: qml.adjoint(o(0)) @ qml.Z(1),
    "power": lambda o: qml.pow(o(0), 3) @ qml.Z(1),
    "controlled": lambda o: qml.ctrl(o(0), 1),
}
ANGLE = tf.constant(0.3, tf.float64)


def results(observable, device, measure, compiled=False):
    @qshift.qnode(qshift.device(device, wires=3), embedded=device != "default-qubit")
    def circuit(x):
        for wire, turn in enumerate((1.0, 2.0, 0.5)):
            qml.RY(turn * x, wire)
        qml.CNOT([0, 1])
        return measure(observable())

    call = tf.function(circuit) if compiled else circuit
    with tf.GradientTape() as tape:
        tape.watch(ANGLE)
        value = call(ANGLE)
    return [value.numpy(), tape.gradient(value, ANGLE).numpy()]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", [ByMatrix, ByGates, ByBoth, Renamed])
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("measure", [qml.expval, qml.var])
def test_what_a_class_overrides_is_what_is_measured(measure, around, kind):
    found = results(lambda: AROUND[around](kind), "simulator", measure)
    expected = results(lambda: AROUND[around](qml.X), "simulator", measure)
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("device", ["default-qubit", "lightning", "aer", "mixed"])
def test_on_every_device(device, compiled):
    found = results(lambda: AROUND["product"](ByMatrix), device, qml.expval, compiled)
    expected = results(lambda: AROUND["product"](qml.X), "default-qubit", qml.expval)
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("around", [name for name in AROUND if name != "power"])  # which is 0
def test_what_is_not_hermitian_by_its_own_matrix_is_an_error(around):
    with pytest.raises(qshift.UnsupportedError, match="not Hermitian"):
        results(lambda: AROUND[around](Raising), "simulator", qml.expval)


def test_a_class_that_contradicts_itself_is_an_error():
    with pytest.raises(qshift.UnsupportedError, match="matrix and the diagonalizing gates of"):
        results(lambda: Torn(0) @ qml.Z(1), "simulator", qml.expval)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", [OtherNames, Failing])
def test_what_cannot_be_computed_is_an_error_and_not_what_is_inherited(kind, around):
    with pytest.raises(qshift.UnsupportedError, match=f"of {kind.__name__}, a class of yours"):
        results(lambda: AROUND[around](kind), "simulator", qml.expval)


@pytest.mark.parametrize("kind", [ByMatrix, ByGates])
@pytest.mark.parametrize("around", ["alone", "product", "sum"])
def test_probabilities_along_eigenvectors_that_are_not_its_own(around, kind):
    with pytest.raises(qshift.UnsupportedError, match="those of two operators"):
        results(lambda: AROUND[around](kind), "simulator", lambda o: qml.probs(op=o))


@pytest.mark.parametrize("around", ["alone", "product", "sum", "Hamiltonian"])
def test_gradient_transforms_refuse_them(around):
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
    def circuit(x):
        qml.RY(x, 0)
        return qml.expval(AROUND[around](ByMatrix))

    with pytest.raises(qshift.UnsupportedError, match="those of two operators"):
        qml.grad(circuit)(qml.numpy.array(0.3, requires_grad=True))


def as_time(x):
    return tf.cast(x, tf.complex128)


GATES = {
    "generator": lambda o, x: qml.evolve(o(0), as_time(x)),
    "product in a generator": lambda o, x: qml.evolve(o(0) @ qml.Z(1), as_time(x)),
    "sum in a generator": lambda o, x: qml.evolve(o(0) + 2.0 * qml.Z(1), as_time(x)),
    "constant": lambda o, x: qml.exp(o(0) @ qml.Z(1), 0.4j),
    "controlled": lambda o, x: qml.ctrl(qml.evolve(o(0) @ qml.Z(1), as_time(x)), 2),
    "Trotter": lambda o, x: qml.TrotterProduct(o(0) + qml.X(0), x),
    "approximate": lambda o, x: qml.ApproxTimeEvolution(
        qml.Hamiltonian([1.0, 0.5], [o(0), qml.X(0)]), x, 1
    ),
    "product": lambda o, x: qml.prod(o(0), qml.RX(x, 1)),
    "constant product": lambda o, x: qml.prod(o(0), qml.Z(1)),
}


def of_gate(gate, kind):
    @qshift.qnode(qshift.device("simulator", wires=3))
    def circuit(x):
        qml.RX(x, 0)
        qml.Hadamard(2)
        gate(kind, x)
        return qml.expval(qml.Y(0) @ qml.Z(1) + qml.Z(0))

    return circuit(ANGLE).numpy()


@pytest.mark.parametrize("name", GATES)
def test_gates_made_from_them(name):
    with pytest.raises(qshift.UnsupportedError, match="those of two"):
        of_gate(GATES[name], ByMatrix)
    assert of_gate(GATES[name], Renamed) == pytest.approx(of_gate(GATES[name], qml.X), abs=1e-12)


@pytest.mark.parametrize("name", ["product", "constant product"])
def test_products_of_gates_with_decompositions_of_their_own(name):
    with pytest.raises(qshift.UnsupportedError, match="those of two gates"):
        of_gate(GATES[name], Decomposed)


def test_terms_of_a_hamiltonian_are_among_its_operators():
    observable = qml.Hamiltonian([1.0, 0.5], [ByMatrix(0), qml.X(1) @ qml.Z(0)])
    assert [type(op) for op in operators(observable)].count(ByMatrix) == 1
