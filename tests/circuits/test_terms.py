"""Observables as linear combinations."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

from qshift.circuits.terms import split, times

KINDS = (tf.float32, tf.float64, tf.complex64, tf.complex128)
OTHERS = [0.3, 3, np.float32(0.3), 0.3j, *(tf.cast(0.3, kind) for kind in KINDS)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("other", OTHERS, ids=lambda x: np.asarray(x).dtype.name)
def test_products_are_as_precise_as_their_tensors(kind, other):
    number = tf.cast(tf.constant(0.7, tf.float64), kind)
    numbers = [complex(np.asarray(x)) for x in (number, other)]
    for found in (times(number, other), times(other, number)):
        dtypes = [x.dtype.as_numpy_dtype for x in (number, other) if tf.is_tensor(x)]
        complex_number = [np.complex64] if isinstance(other, complex) else []
        assert found.dtype.as_numpy_dtype == np.result_type(*dtypes, *complex_number)
        tolerance = 1e-7 if found.dtype in (tf.float32, tf.complex64) else 1e-15
        assert complex(found.numpy()) == pytest.approx(np.prod(numbers), rel=tolerance)


def test_what_has_no_tensors_stays_whole():
    observable = qml.prod(qml.Hadamard(0), qml.sum(qml.Hadamard(1), qml.Z(1)))
    assert split(observable, tf.is_tensor) == [(1.0, observable)]


def test_tensors_elsewhere_stay_where_they_are():
    c, x = tf.constant(2.0, tf.float64), tf.constant(0.3, tf.float64)
    held = qml.adjoint(qml.s_prod(x, qml.Hadamard(0)))
    ((coefficient, op),) = split(qml.s_prod(c, held), tf.is_tensor)
    assert coefficient is c and op is held


def test_products_are_multiplied_out():
    c, d = tf.constant(0.0, tf.float64), tf.constant(1.0, tf.float64)
    first = qml.Hamiltonian([c, 3.0], [qml.Hadamard(0), qml.Z(0)])
    terms = split(qml.prod(first, qml.s_prod(d, qml.Hadamard(1))), tf.is_tensor)
    assert [float(coefficient) for coefficient, _ in terms] == [0.0, 3.0]
    assert [op for _, op in terms] == [
        qml.prod(qml.Hadamard(0), qml.Hadamard(1)),
        qml.prod(qml.Z(0), qml.Hadamard(1)),
    ]
