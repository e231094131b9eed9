"""Sparse matrices beside tensors."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from scipy import sparse

import qshift

MATRIX = np.array([[1, 0.5, 0, 0], [0.5, 2, 0, 0.1j], [0, 0, 3, 0], [0, -0.1j, 0, -4]])


def results(observable, measure, device, compiled):
    @qshift.qnode(qshift.device(device, wires=3), embedded=device != "default-qubit")
    def circuit(x):
        qml.RY(x, 0)
        qml.RX(2 * x, 1)
        return measure(observable())

    call = lambda x: qshift.derivatives(circuit, x, order=2)  # noqa: E731
    call = tf.function(call) if compiled else call
    return [float(each) for each in call(tf.constant(0.3, tf.float64))]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("device", ["simulator", "default-qubit", "lightning", "aer"])
@pytest.mark.parametrize("measure", [qml.expval, qml.var])
def test_sparse_observables_are_those_of_their_matrices(measure, device, compiled):
    thin = lambda: qml.SparseHamiltonian(sparse.csr_matrix(MATRIX), [0, 1])  # noqa: E731
    found = results(thin, measure, device, compiled)
    expected = results(lambda: qml.Hermitian(MATRIX, [0, 1]), measure, device, compiled)
    assert found == pytest.approx(expected, abs=1e-9)


def test_sparse_gates():
    @qshift.qnode(qshift.device("simulator", wires=1))
    def circuit(x):
        qml.RY(x, 0)
        qml.QubitUnitary(sparse.csr_matrix(np.array([[0, 1.0], [1, 0]])), 0)
        return qml.expval(qml.Z(0))

    found = qshift.derivatives(circuit, tf.constant(0.3, tf.float64))
    assert [float(x) for x in found] == pytest.approx([-np.cos(0.3), np.sin(0.3)], abs=1e-9)


def test_sparse_gates_that_are_not_unitary_are_errors():
    @qshift.qnode(qshift.device("default-qubit", wires=1), embedded=False)
    def circuit(x):
        qml.RY(x, 0)
        qml.QubitUnitary(sparse.csr_matrix(np.array([[0, 1.0], [2, 0]])), 0)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="no unitary gate"):
        circuit(tf.constant(0.3, tf.float64))
