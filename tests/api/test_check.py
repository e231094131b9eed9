"""The checker passes what is right, and says where something is wrong."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift import check_derivatives


def zero(x):
    """Zero, with derivative one."""
    return x - tf.stop_gradient(x)


def wrong_at(order, error=1e-3):
    """sin(x), the derivative of which is wrong at one order."""

    def fn(x):
        wrong = error * zero(x)
        for _ in range(order - 1):
            wrong *= zero(x)
        return tf.sin(x) + wrong

    return fn


X = tf.constant([0.4, -1.2], tf.float64)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (tf.sin, [X]),
        (tf.sin, [tf.constant(0.3, tf.float64)]),
        (lambda x: tf.reduce_sum(x**3), [X]),
        (lambda x, y: tf.tensordot(x, tf.exp(y), 1), [X, X]),
        (tf.sin, [np.array([0.4, 0.1])]),
        (tf.sin, [tf.Variable(0.4, dtype=tf.float64)]),
        (wrong_at(order=4), [X[0]]),
    ],
)
def test_right_derivatives_pass(fn, args):
    check_derivatives(fn, *args, order=3)


def test_results_and_arguments_of_any_shape_pass():
    def fn(x, y):
        return x[:, None] * tf.sin(y)

    check_derivatives(fn, X, tf.ones([2, 3], tf.float64), order=2)


def test_circuits_pass():
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x, y):
        qml.RX(x[0], wires=0)
        qml.CRY(y, wires=[0, 1])
        qml.RX(x[1], wires=1)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(0) @ qml.X(1))

    check_derivatives(circuit, X, tf.constant(0.7, tf.float64), order=3)
    check_derivatives(circuit, X, 0.7, order=2, argnums=0)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_wrong_derivatives_fail_at_their_order(order):
    with pytest.raises(AssertionError, match=f"derivative of order {order}, "):
        check_derivatives(wrong_at(order), X[0], order=3)
    if order > 1:
        check_derivatives(wrong_at(order), X, order=order - 1)


def test_custom_gradient_with_a_wrong_second_derivative_fails():
    @tf.custom_gradient
    def sin(x):
        cos = tf.stop_gradient(tf.cos(x))  # as NumPy would give it
        return tf.sin(x), lambda cotangent: cotangent * cos

    check_derivatives(sin, X, order=1)
    with pytest.raises(AssertionError, match="derivative of order 1 depends on argument 0"):
        check_derivatives(sin, X, order=2)


def test_wrong_frequencies_fail():
    wrong = qshift.shift_gradient((1,))(lambda x: np.sin(x) + 0.01 * np.sin(2 * x))
    with pytest.raises(AssertionError, match="derivative of order 1, "):
        check_derivatives(wrong, X, order=2)


def test_wrong_gate_frequencies_fail():
    class Wrong(qml.MultiRZ):
        """Too wide to be compared with its matrix."""

        parameter_frequencies = [(2.0,)]

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.Hadamard(0)
        Wrong(x, wires=range(7))
        return qml.expval(qml.X(0))

    with pytest.raises(AssertionError, match="derivative of order 1, "):
        check_derivatives(circuit, tf.constant(0.7, tf.float64), order=1)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_tolerance_is_that_of_the_function(scale):
    def scaled(function):
        return lambda x: scale * function(x)

    check_derivatives(scaled(lambda x: tf.reduce_sum(tf.sin(x))), X, order=2)
    with pytest.raises(AssertionError, match="derivative of order 1, "):
        check_derivatives(scaled(wrong_at(1)), X, order=1)


def test_steps_that_would_be_lost_are_an_error():
    with pytest.raises(ValueError, match="Argument 0 is as large as 2e.09: added to that, steps"):
        check_derivatives(lambda x: tf.sin(x), tf.constant(2e9, tf.float64))


def test_names_the_argument():
    def fn(x, y):
        return tf.reduce_sum(tf.sin(x)) + tf.reduce_sum(wrong_at(2)(y))

    with pytest.raises(AssertionError, match="order 2, the last by argument 1"):
        check_derivatives(fn, X, X, order=2)
    check_derivatives(fn, X, X, order=2, argnums=0)
    check_derivatives(fn, X, X, order=1)


def test_wrong_mixed_derivatives_fail():
    def fn(x, y):
        return tf.reduce_sum(tf.sin(x)) * tf.reduce_sum(y) + 1e-3 * zero(x)[0] * zero(y)[1]

    with pytest.raises(AssertionError, match="derivative of order 2, "):
        check_derivatives(fn, X, 2 * X, order=2)
    check_derivatives(fn, X, 2 * X, order=2, argnums=0)
    check_derivatives(fn, X, 2 * X, order=2, argnums=1)


def test_silent_zero_fails():
    with pytest.raises(AssertionError, match="derivative of order 1"):
        check_derivatives(lambda x: tf.stop_gradient(tf.sin(x)) + 0 * x, X, order=1)


def test_kinks_fail():
    with pytest.raises(AssertionError, match="derivative of order 1"):
        check_derivatives(tf.abs, tf.constant(1e-4, tf.float64), order=1)


def test_not_a_number_fails():
    with pytest.raises(AssertionError, match="derivative of order 1"):
        check_derivatives(tf.sqrt, tf.constant(-1.0, tf.float64), order=1)


def test_tolerances_and_step():
    wrong = wrong_at(1, error=1e-4)
    check_derivatives(wrong, X, order=1, rtol=1e-3)
    check_derivatives(wrong, X, order=1, atol=1e-3)
    with pytest.raises(AssertionError):
        check_derivatives(wrong, X, order=1)
    with pytest.raises(AssertionError):  # differences with such a step mean nothing
        check_derivatives(tf.sin, X, order=1, step=2.0)


def test_seed_chooses_the_direction():
    def moved(seed):
        seen = []

        def fn(x):
            seen.append(x.numpy())
            return tf.reduce_sum(tf.sin(x))

        check_derivatives(fn, X, order=1, seed=seed)
        return np.array(seen)

    assert np.array_equal(moved(0), moved(0))
    assert not np.array_equal(moved(0), moved(1))


def test_python_numbers_are_float64():
    check_derivatives(tf.sin, 0.3, order=2)
    check_derivatives(lambda x: tf.reduce_sum(tf.sin(x)), [0.3, 0.4], order=2)


def test_integers_are_not_differentiated_by():
    check_derivatives(lambda x, n: tf.sin(x) ** n, tf.constant(0.3, tf.float64), 2, order=2)


@pytest.mark.parametrize("order", [0, -1])
def test_order_must_be_positive(order):
    with pytest.raises(ValueError, match=f"order must be at least 1, got {order}"):
        check_derivatives(tf.sin, X, order=order)


def test_float32_is_refused():
    with pytest.raises(ValueError, match="Argument 0 is float32"):
        check_derivatives(tf.sin, tf.constant(0.3), order=1)


def test_argnums_out_of_range():
    with pytest.raises(ValueError, match="argument 1"):
        check_derivatives(tf.sin, X, order=1, argnums=1)


def test_several_results_are_refused():
    with pytest.raises(ValueError, match="one tensor"):
        check_derivatives(lambda x: (x, x), X, order=1)
