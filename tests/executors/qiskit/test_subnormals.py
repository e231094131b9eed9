"""Floating-point arithmetic in TensorFlow's threads."""

import sys

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit.quantum_info import random_unitary

import qshift
from qshift.executors.qiskit import subnormals
from qshift.executors.qiskit.subnormals import default_floats

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="flags are set on Linux only")


def smaller() -> float:
    return float((np.float64(2.3e-308) * np.ones(3) / 10).max())


def test_small_numbers_are_none_in_threads_of_tensorflow():
    def both():
        with default_floats():
            inside = smaller()
        return np.array([inside, smaller()])

    compiled = tf.function(lambda: tf.numpy_function(both, [], tf.float64), autograph=False)
    inside, after = compiled().numpy().tolist()
    assert inside > 0.0
    assert after == 0.0  # as TensorFlow had it
    assert both()[1] > 0.0


def test_where_flags_cannot_be_set_nothing_is_transpiled_wrongly(monkeypatch):
    monkeypatch.setattr(subnormals, "_library", lambda: None)

    def error():
        try:
            with subnormals.default_floats():
                return b"none"
        except qshift.UnsupportedError as error:
            return str(error).encode()

    compiled = tf.function(lambda: tf.numpy_function(error, [], tf.string), autograph=False)
    assert b"outside of tf.function" in compiled().numpy()
    assert error() == b"none"


def with_a(matrix):
    def circuit(x):
        qml.RY(x, 0)
        qml.RY(0.3, 1)
        qml.QubitUnitary(matrix, [0, 1])
        return qml.expval(qml.Z(0)), qml.expval(qml.X(1))

    return circuit


def test_circuits_transpiled_in_compiled_functions_are_right(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    device, x = qshift.device("aer"), tf.constant(0.4, tf.float64)
    for seed in range(12):
        one, two = (random_unitary(2, seed=2 * seed + k).data for k in range(2))
        circuit = with_a(np.kron(one, two) @ np.diag([1, 1, 1, -1]))
        found = tf.function(qshift.qnode(device)(circuit))(x)
        right = qshift.qnode(qml.device("default.qubit"))(circuit)(x)
        np.testing.assert_allclose(found, right, atol=1e-9)
