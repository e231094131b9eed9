"""Gates that are not unitary are errors on every device, wherever they stand; others run."""

import contextlib

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.circuits.pennylane_internals import OPERATORS
from qshift.circuits.unitary import require_unitary

NOT_NORMAL = np.array([[1, 0.5], [0.2, -2]])
RAISING = np.array([[0, 1], [0, 0.0]])
DEVICES = ["simulator", "default-qubit", "lightning", "aer"]


class Scaled(qml.operation.Operation):
    """A user's gate that is not unitary."""

    num_wires = 1

    @staticmethod
    def compute_matrix():
        return 2 * np.eye(2)


NOT_UNITARY = {
    "real exponent": lambda: qml.exp(qml.X(0), 0.5),
    "small real exponent": lambda: qml.exp(qml.X(0), 1e-4 + 0.3j),
    "exponential of a phase": lambda: qml.evolve(qml.S(0), 0.5),
    "exponential of a matrix": lambda: qml.evolve(qml.Hermitian(NOT_NORMAL, 0), 0.5),
    "exponential of a product": lambda: qml.evolve(qml.prod(qml.X(0), qml.Z(0)), 0.5),
    "imaginary Hamiltonian": lambda: qml.evolve(1j * qml.X(0), 0.5),
    "imaginary time": lambda: qml.evolve(qml.X(0), 0.5j),
    "matrix": lambda: qml.QubitUnitary(NOT_NORMAL, 0),
    "zero": lambda: qml.QubitUnitary(np.zeros((2, 2)), 0),
    "diagonal": lambda: qml.DiagonalQubitUnitary([1, 0.5], 0),
    "controlled matrix": lambda: qml.ControlledQubitUnitary(NOT_NORMAL, [1, 0]),
    "controlled exponential": lambda: qml.ctrl(qml.exp(qml.X(0), 0.5), 1),
    "adjoint": lambda: qml.adjoint(qml.exp(qml.X(0), 0.5)),
    "power": lambda: qml.pow(qml.exp(qml.X(0), 0.5), 2),
    "product": lambda: qml.prod(qml.exp(qml.X(0), 0.5), qml.X(1)),
    "multiple": lambda: 2 * qml.X(0),
    "sum": lambda: qml.X(0) + qml.Z(0),
    "Hamiltonian": lambda: qml.Hamiltonian([0.5, 0.2], [qml.X(0), qml.Z(1)]),
    "observable": lambda: qml.Hermitian(np.diag([1.0, 2.0]), 0),
    "projector": lambda: qml.Projector([1], 0),
    "complex angle": lambda: qml.RX(0.3 + 0.1j, 0),
    "a user's": lambda: Scaled(0),
    "controlled sequence": lambda: qml.ControlledSequence(qml.exp(qml.X(0), 0.5), [1]),
    "selection": lambda: qml.Select([qml.exp(qml.X(0), 0.5), qml.X(0)], [1]),
    "imaginary coefficients": lambda: qml.ApproxTimeEvolution(
        qml.Hamiltonian([1j, 1.0], [qml.X(0), qml.Z(0)]), 0.3, 1
    ),
}
UNITARY = {
    "imaginary exponent": lambda: qml.exp(qml.X(0), 0.5j),
    "imaginary operator, real exponent": lambda: qml.exp(1j * qml.X(0), 0.5),
    "exponential of products": lambda: qml.evolve(1j * (qml.X(0) @ qml.Z(0)), 0.5),
    "factors that cancel": lambda: qml.prod(2 * qml.X(0), 0.5 * qml.Z(1)),
    "sum": lambda: (qml.X(0) + qml.Z(0)) / np.sqrt(2),
    "sum of matrices": lambda: 0.6 * qml.Hermitian(np.diag([1.0, -1]), 0) + 0.8j * qml.Z(0),
    "observable": lambda: qml.Hermitian(np.diag([1.0, -1]), 0),
    "phase": lambda: 1j * qml.X(0),
    "single precision": lambda: qml.QubitUnitary(
        np.array([[0.6, 0.8], [0.8, -0.6]], np.float32), 0
    ),
    "few digits": lambda: qml.QubitUnitary(np.array([[0.707, 0.707], [0.707, -0.707]]), 0),
    "diagonal": lambda: qml.DiagonalQubitUnitary([1, 1j], 0),
    "block": lambda: qml.BlockEncode(NOT_NORMAL, [0, 1]),
    "complex angle that is real": lambda: qml.RX(0.3 + 0.0j, 0),
    "not a number": lambda: qml.RX(np.nan, 0),
    "a matrix that is none": lambda: qml.QubitUnitary(np.full((2, 2), np.nan), 0),
    "far": lambda: qml.evolve(qml.Hadamard(0), 1e9),
    "noise": lambda: qml.AmplitudeDamping(0.3, 0),
    "power": lambda: qml.pow(qml.S(0), 0.5),
    "controlled sequence": lambda: qml.ControlledSequence(qml.RX(0.3, 0), [1]),
    "Trotter": lambda: qml.TrotterProduct(qml.X(0) + qml.Z(0), 0.3, n=3),
}

# Of these PennyLane itself says that angles are complex, from 0.46 on.
COMPLEX = ["complex angle", "complex angle that is real", "imaginary coefficients"]
REFUSED = pytest.raises(ValueError, match="Expected float64 but received complex128")


def refused_by_pennylane(name):
    return name in COMPLEX and bool(OPERATORS[1:])


@pytest.mark.parametrize("name", NOT_UNITARY)
def test_what_is_not_unitary_is_an_error(name, tracker):
    device = qshift.device("simulator", wires=2)

    @qshift.qnode(device)
    def circuit(x):
        qml.RY(x, 0)
        NOT_UNITARY[name]()
        return qml.expval(qml.Z(1))

    error = pytest.raises(qshift.UnsupportedError, match="no unitary gate")
    with REFUSED if refused_by_pennylane(name) else error:
        circuit(tf.constant(0.3, tf.float64))
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize("name", UNITARY)
def test_what_is_unitary_is_none(name):
    with REFUSED if refused_by_pennylane(name) else contextlib.nullcontext():
        require_unitary(UNITARY[name]())


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("method", ["shift", "best"])
def test_on_every_device(name, method):
    embedded = name != "default-qubit"

    @qshift.qnode(qshift.device(name, wires=2), diff_method=method, embedded=embedded)
    def circuit(x):
        qml.RY(x, 0)
        qml.exp(qml.X(0), 0.5)
        return qml.expval(qml.Z(1))

    with pytest.raises(qshift.UnsupportedError, match="Exp on wires .* no unitary gate"):
        qshift.derivatives(circuit, tf.constant(0.3, tf.float64))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("kind", ["plain", "controlled", "adjoint", "power", "product"])
@pytest.mark.parametrize(
    "generator",
    [
        lambda: qml.S(0),
        lambda: 1j * qml.X(0),
        lambda: qml.prod(qml.X(0), qml.Z(0)),
        lambda: qml.Hermitian(NOT_NORMAL, 0),
        lambda: qml.Hermitian(RAISING, 0) + qml.X(1),
    ],
    ids=["S", "imaginary", "product", "matrix", "sum"],
)
def test_a_generator_that_is_not_hermitian_with_a_tensor_time(generator, kind, compiled):
    around = {
        "plain": lambda op: op,
        "controlled": lambda op: qml.ctrl(op, 2),
        "adjoint": qml.adjoint,
        "power": lambda op: qml.pow(op, 2),
        "product": lambda op: qml.prod(op, qml.X(2)),
    }[kind]

    @qshift.qnode(qshift.device("simulator", wires=3))
    def circuit(x):
        around(qml.evolve(generator(), tf.cast(x, tf.complex128)))
        return qml.expval(qml.Z(1))

    call = tf.function(circuit) if compiled else circuit
    with pytest.raises(qshift.UnsupportedError, match="no unitary gate"):
        call(tf.constant(0.3, tf.float64))


def test_gradient_transforms_refuse_them():
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
    def circuit(x):
        qml.RY(x, 0)
        qml.exp(qml.X(0), 0.5)
        return qml.expval(qml.Z(1))

    with pytest.raises(qshift.UnsupportedError, match="no unitary gate"):
        qml.grad(circuit)(qml.numpy.array(0.3, requires_grad=True))


@pytest.mark.parametrize(
    "matrix", [tf.constant, lambda m: np.array([m, m])], ids=["tensor", "batch"]
)
@pytest.mark.parametrize("controlled", [False, True])
def test_matrices_that_change_are_looked_at_in_each_call(matrix, controlled):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x, matrix):
        qml.RY(x, 0)
        op = qml.QubitUnitary(matrix, 0)
        if controlled:
            qml.ctrl(op, 1)
        return qml.expval(qml.Z(0))

    x = tf.constant(0.3, tf.float64)
    wrong, right = matrix(np.array([[1, 0.5], [0.2, -2]])), matrix(np.diag([1.0, -1.0]))
    for _ in range(2):
        np.testing.assert_allclose(circuit(x, right), np.cos(0.3))
        with pytest.raises(qshift.UnsupportedError, match="no unitary"):
            circuit(x, wrong)
    compiled = tf.function(circuit)
    np.testing.assert_allclose(compiled(x, right), np.cos(0.3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="no unitary"):
        compiled(x, wrong)


@pytest.mark.parametrize(
    "gate, right",
    [
        (lambda x: qml.DiagonalQubitUnitary(x, wires=0), [1.0, -1.0]),
        (lambda x: qml.s_prod(x[0], qml.X(0)), [-1.0, 0.3]),
        (lambda x: qml.s_prod(x[0], qml.X(0)) + qml.s_prod(x[1], qml.Z(0)), [0.6, 0.8]),
    ],
)
def test_data_of_other_gates_is_looked_at_in_each_call(gate, right):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RY(0.3, 0)
        gate(x)
        return qml.expval(qml.Z(0))

    assert abs(float(circuit(tf.constant(right, tf.float64)))) <= 1
    with pytest.raises(qshift.UnsupportedError, match="no unitary"):
        circuit(tf.constant([1.5, 0.2], tf.float64))
