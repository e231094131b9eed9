"""The dtype of numbers beside tensors: one rule, wherever they are put together."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.circuits.terms import times
from qshift.tensors import common_dtype, of_one_dtype

SINGLE, DOUBLE = tf.constant(0.7, tf.float32), tf.constant(0.7, tf.float64)
HALF, BRAIN = tf.constant(0.7, tf.float16), tf.constant(0.7, tf.bfloat16)
WHOLE = tf.constant(2, tf.int32)

RULES = [
    ([SINGLE, 0.3], tf.float32),
    ([DOUBLE, 0.3], tf.float64),
    ([HALF, 0.3], tf.float16),
    ([BRAIN, 0.3, 1], tf.bfloat16),
    ([SINGLE, np.float64(0.3)], tf.float32),
    ([DOUBLE, np.float32(0.3)], tf.float64),
    ([SINGLE, DOUBLE], tf.float64),
    ([SINGLE, tf.Variable(0.3, dtype=tf.float64)], tf.float64),
    ([SINGLE, np.array(0.3)], tf.float64),
    ([SINGLE, np.array(3)], tf.float32),
    ([SINGLE, np.int64(3)], tf.float32),
    ([SINGLE, 3], tf.float32),
    ([SINGLE, True], tf.float32),
    ([SINGLE, WHOLE], tf.float32),
    ([SINGLE, 0.3j], tf.complex64),
    ([DOUBLE, 0.3j], tf.complex128),
    ([DOUBLE, np.complex64(0.3j)], tf.complex128),
    ([SINGLE, np.array(0.3j, "complex64")], tf.complex64),
    ([tf.cast(SINGLE, tf.complex64), DOUBLE], tf.complex128),
    ([WHOLE, 0.3], tf.float64),
    ([WHOLE, 0.3j], tf.complex128),
    ([WHOLE, WHOLE], tf.int32),
    ([WHOLE, tf.constant(3, tf.int64)], tf.int64),
]


def value(number):
    return complex(number.numpy() if tf.is_tensor(number) else number)


def name(number):
    return f"{type(number).__name__} {getattr(number, 'dtype', '')}"


@pytest.mark.parametrize(
    "some, dtype", RULES, ids=[" and ".join(map(name, some)) for some, _ in RULES]
)
def test_who_decides(some, dtype):
    assert common_dtype(some) == common_dtype(some[::-1]) == dtype
    for found, given in zip(of_one_dtype(some), some, strict=True):
        assert found.dtype == dtype
        precision = 1e-2 if dtype in (tf.float16, tf.bfloat16) else 1e-6
        assert value(found) == pytest.approx(value(given), rel=precision)


@pytest.mark.parametrize("some, dtype", [rule for rule in RULES if len(rule[0]) == 2])
def test_products_of_coefficients_and_of_pennylane(some, dtype):
    assert times(*some).dtype == times(*some[::-1]).dtype == dtype
    assert [each.dtype for each in qml.math.coerce(some, like="tensorflow")] == [dtype] * 2


@pytest.mark.parametrize(
    "other, dtype",
    [
        (0.3, tf.float32),
        (np.float64(0.3), tf.float32),
        (3, tf.float32),
        (np.array(3), tf.float32),
        (WHOLE, tf.float32),
        (np.array(0.3), tf.float64),
        (DOUBLE, tf.float64),
    ],
    ids=[
        "float",
        "float64",
        "int",
        "whole array",
        "whole tensor",
        "array",
        "double precision tensor",
    ],
)
def test_lists_that_gates_are_given(other, dtype):
    found = []

    @qshift.qnode(qml.device("default.qubit"))
    def circuit(x):
        found.append(qml.AngleEmbedding([x, other], wires=[0, 1]).data[0])
        return qml.expval(qml.Z(0) @ qml.Z(1))

    result = circuit(SINGLE)
    assert found[0].dtype == result.dtype == dtype
    assert float(result) == pytest.approx(np.cos(0.7) * np.cos(value(other).real), abs=1e-6)


def test_no_digit_of_a_number_is_lost_beside_double_precision():
    for number in (0.1, [0.1, 0.2], (0.1, [0.2, 1]), [np.float64(0.1), 1 / 3]):
        (found, *rest), _ = of_one_dtype([tf.nest.flatten(number), DOUBLE])
        flat = [float(each) for each in tf.nest.flatten(number)]
        np.testing.assert_array_equal([found, *rest], flat)


def test_nests_become_one_tensor():
    nest = [[SINGLE, 0.3], [1, np.array(0.2, "float32")]]
    found, _ = of_one_dtype([nest, 0.5])
    assert found.shape == (2, 2) and found.dtype == tf.float32
    np.testing.assert_allclose(found, [[0.7, 0.3], [1, 0.2]], rtol=1e-6)


def test_coefficients_keep_single_precision():
    @qshift.qnode(qml.device("default.qubit"))
    def circuit(c):
        return qml.expval(qml.s_prod(0.3, qml.s_prod(c, qml.Z(0)) + 0.2 * qml.X(0)))

    value = circuit(SINGLE)
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx(0.21, abs=1e-6)
