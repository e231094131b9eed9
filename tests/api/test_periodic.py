"""Periodic NumPy functions as TensorFlow ops: the sine of J. Izaac's note, and any other."""

import functools
import math

import nested_tapes
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from nested_tapes import gradients

import qshift

assert_all_close = functools.partial(nested_tapes.assert_all_close, atol=1e-12)


@pytest.fixture
def calls():
    """What the function was evaluated at, call by call."""
    return []


@pytest.fixture
def sin(calls):
    @qshift.shift_gradient(frequencies=(1,), shift=np.pi / 2)
    def sin(x):
        calls.append(x)
        return np.sin(x)

    return sin


def hessian(fn, x, pfor=True):
    with tf.GradientTape(persistent=not pfor) as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = fn(x)
        gradient = inner.gradient(value, x)
    return value, gradient, outer.jacobian(gradient, x, experimental_use_pfor=pfor)


def sine_derivatives(x, highest=3, frequency=1.0):
    x = np.asarray(x)
    return [frequency**k * np.sin(frequency * x + k * np.pi / 2) for k in range(highest + 1)]


# --- the story of the note ---


@pytest.mark.parametrize("compiled", [False, True])
def test_sine_of_the_note(ground_truth, sin, compiled):
    weights = np.array(ground_truth["blog_sine"]["weights"], np.float32)
    # Its figures for order 3 repeat those of order 2; the third derivative is -cos.
    expected = [np.sin(weights), np.cos(weights), -np.sin(weights), -np.cos(weights)]
    third = tf.function(functools.partial(gradients, sin)) if compiled else None
    result = (third or functools.partial(gradients, sin))(tf.constant(weights))
    assert [r.dtype for r in result] == [tf.float32] * 4
    assert_all_close(result, expected, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("pfor", [True, False])
def test_different_shifts_in_one_model(ground_truth, sin, pfor, compiled):
    truth = ground_truth["blog_sine"]

    def model(weights):
        mixed = tf.stack([weights[1] * weights[2], weights[2], weights[0]])
        return sin(weights, shift=np.pi / 4) + 3 * sin(mixed, shift=np.pi / 2) ** 2

    weights = tf.Variable(truth["weights"])

    def full(weights):
        with tf.GradientTape(persistent=not pfor) as outer:
            outer.watch(weights)
            with tf.GradientTape() as inner:
                inner.watch(weights)
                result = model(weights)
            gradient = inner.gradient(result, weights)
        return result, gradient, outer.jacobian(gradient, weights, experimental_use_pfor=pfor)

    if compiled:
        full = tf.function(full)
    result, gradient, second = full(weights)
    np.testing.assert_allclose(result, truth["result"], rtol=1e-6)
    np.testing.assert_allclose(gradient, truth["gradient_of_sum"], rtol=1e-6)
    np.testing.assert_allclose(second, truth["hessian_of_sum"], rtol=1e-5, atol=1e-6)


def test_fourth_order_and_beyond(sin):
    x = tf.constant([0.4, 0.1, 0.2], tf.float64)
    assert_all_close(gradients(sin, x, 8), sine_derivatives(x, 8))


def test_composes_with_other_functions(sin):
    x = tf.constant([0.4, 0.1, 0.2], tf.float64)

    def model(sine):
        return lambda x: tf.exp(sine(x**2)) * tf.reduce_sum(sine(2 * sine(x)))

    assert_all_close(hessian(model(sin), x), hessian(model(tf.sin), x), atol=1e-10)


# --- shifts and what is evaluated ---


@pytest.mark.parametrize("shift", [None, np.pi / 2, np.pi / 4, 0.3, -1.0, 2 * np.pi / 3, 10.0])
def test_any_shift_is_exact(shift):
    sin = qshift.shift_gradient(shift=shift)(np.sin)
    x = tf.constant([0.4, -2.1], tf.float64)
    assert_all_close(gradients(sin, x, 4), sine_derivatives(x, 4), atol=1e-10)


@pytest.mark.parametrize(
    ("shift", "points"),
    [
        (None, [1, 2, 0, 0]),  # three evaluations know a function of one frequency
        (np.pi / 2, [1, 2, 1, 0]),  # x + pi and x - pi are one point
        (np.pi / 4, [1, 2, 2, 2]),
    ],
)
def test_each_point_once(tracker, shift, points):
    sin = qshift.shift_gradient(shift=shift)(np.sin)
    x = tf.constant([0.4, 0.1, 0.2], tf.float64)
    for highest in range(4):
        tracker.reset()
        gradients(sin, x, highest)
        assert tracker.totals["circuits"] == 3 * sum(points[: highest + 1])
        assert tracker.totals["batches"] == sum(1 for p in points[: highest + 1] if p)


def test_points_are_those_of_the_shift(sin, calls):
    x = np.array([0.4, 0.1])
    gradients(sin, tf.constant(x), 1)
    gradients(functools.partial(sin, shift=np.pi / 4), tf.constant(x), 1)
    for call, shift in zip(calls[1::2], (np.pi / 2, np.pi / 4), strict=True):
        np.testing.assert_allclose(np.sort(call), np.sort([*(x + shift), *(x - shift)]))


def test_unwatched_argument_costs_nothing(tracker, sin):
    weights, data = tf.constant([0.4, 0.1]), tf.constant([0.2, 0.3])
    with tf.GradientTape() as tape:
        tape.watch(weights)
        value = sin(weights) * sin(data)
    tape.gradient(value, weights)
    assert tracker.totals["circuits"] == 2 + 2 + 2 * 2


def test_derivatives_in_a_function_are_evaluated_at_each_execution(tracker, sin):
    fn = tf.function(lambda x: gradients(sin, x, 2))
    for x in (0.3, 0.4):
        tracker.reset()
        assert_all_close(fn(tf.constant(x, tf.float64)), sine_derivatives(x, 2))
        assert tracker.totals["circuits"] == 4


@pytest.mark.parametrize(
    ("frequencies", "shift"),
    [
        ((1, 3), None),
        ((3, 1), None),
        ((1, 3), (0.5, 1.2)),
        ((1, 2, 3), None),
        ((1, 2, 3), (0.4, 1.1, 2.0)),
        ((0.5, 1), None),
        ((1, math.sqrt(2)), None),
        (2, None),
        (2.0, np.pi / 8),
    ],
)
def test_several_frequencies(frequencies, shift):
    spectrum = np.atleast_1d(frequencies)

    @qshift.shift_gradient(frequencies=frequencies, shift=shift)
    def fn(x):
        return sum(np.sin(w * x) + np.cos(w * x) / w for w in spectrum) + 0.7

    def truth(x):
        return tf.add_n([tf.sin(w * x) + tf.cos(w * x) / w for w in spectrum]) + 0.7

    x = tf.constant([0.0, 0.8], tf.float64)
    assert_all_close(gradients(fn, x), gradients(truth, x), atol=1e-10)


def test_off_the_equidistant_grid(ground_truth):
    frequencies = ground_truth["nonequidistant"]["frequencies"]
    sine = qshift.shift_gradient(frequencies)(lambda x: np.sin(3 * x))
    cosine = qshift.shift_gradient(frequencies)(lambda x: np.cos(3 * x))
    zero = tf.constant(0.0, tf.float64)
    assert float(gradients(sine, zero, 1)[1]) == pytest.approx(3.0)
    assert float(gradients(cosine, zero, 2)[2]) == pytest.approx(-9.0)


# --- shapes and dtypes ---


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 2), (0,), (2, 0)])
def test_shapes(sin, shape):
    x = np.random.default_rng(0).normal(size=shape)
    result = gradients(sin, tf.constant(x), 2)
    assert [tuple(r.shape) for r in result] == [shape] * 3
    assert_all_close(result, sine_derivatives(x, 2))


@pytest.mark.parametrize("shape", [[None], [None, None], None])
def test_unknown_shapes(sin, shape):
    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float64)])
    def fn(x):
        return gradients(sin, x, 2)

    for size in (1, 4):
        x = np.linspace(0, 1, size).reshape([size] if shape == [None] else [1, size])
        assert_all_close(fn(tf.constant(x)), sine_derivatives(x, 2))


@pytest.mark.parametrize("pfor", [True, False])
def test_hessian_of_a_matrix(sin, pfor):
    x = np.array([[0.4, 0.1, 0.2], [1.4, 1.1, -0.2]])
    value, gradient, second = hessian(sin, tf.constant(x), pfor)
    expected = np.zeros((2, 3, 2, 3))
    for index in np.ndindex(2, 3):
        expected[index + index] = -np.sin(x[index])
    assert_all_close([value, gradient, second], [np.sin(x), np.cos(x), expected])


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_dtypes(calls, sin, dtype):
    result = gradients(sin, tf.constant([0.3, 0.4], dtype))
    assert [r.dtype for r in result] == [dtype] * 4
    assert all(call.dtype == np.float64 for call in calls)


@pytest.mark.parametrize("x", [0.3, [0.3, 0.4], np.array([0.3]), np.float32(0.3)])
def test_takes_what_converts_to_a_tensor(sin, x):
    np.testing.assert_allclose(sin(x), np.sin(x), rtol=1e-6)


def test_keeps_name_and_docstring():
    @qshift.shift_gradient()
    def wave(x):
        """A wave."""
        return np.sin(x)

    assert wave.__name__ == "wave" and wave.__doc__ == "A wave."


# --- functions of a vector ---


def vector_function(calls=None):
    """Two values of three angles, with frequency one in each."""

    @qshift.shift_gradient(elementwise=False)
    def fn(x):
        if calls is not None:
            calls.append(x.shape)
        a, b, c = np.moveaxis(x, -1, 0)
        return np.stack([np.cos(a) * np.sin(b) * np.cos(c), np.sin(a) + np.cos(b + 0.3)], axis=-1)

    def truth(x):
        a, b, c = tf.unstack(x, axis=-1)
        return tf.stack([tf.cos(a) * tf.sin(b) * tf.cos(c), tf.sin(a) + tf.cos(b + 0.3)], axis=-1)

    return fn, truth


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
def test_function_of_a_vector(shape):
    fn, truth = vector_function()
    x = tf.constant(np.random.default_rng(1).normal(size=shape))
    assert fn(x).shape == (*shape[:-1], 2)
    assert_all_close(gradients(fn, x), gradients(truth, x))


def test_hessian_of_a_function_of_a_vector(tracker):
    fn, truth = vector_function()
    x = tf.constant([0.3, 0.2, -0.5], tf.float64)
    assert_all_close(hessian(fn, x), hessian(truth, x))
    assert tracker.totals["circuits"] == 1 + 2 * 3 + 3 * 3


def test_shape_of_the_values_is_found_out_once(calls):
    fn, _ = vector_function(calls)
    x = tf.constant([0.3, 0.2, -0.5], tf.float64)
    fn(x)
    asked = len(calls)
    for k in range(1, 4):
        fn(k * x)
        assert len(calls) == asked + k


def test_function_of_a_vector_with_one_value():
    fn = qshift.shift_gradient(elementwise=False)(lambda x: np.cos(x[..., 0]) * np.sin(x[..., 1]))
    x = tf.constant([[0.3, 0.2], [1.3, -0.2], [0.1, 0.0]], tf.float64)
    assert fn(x).shape == (3,)
    assert fn(x[0]).shape == ()
    assert_all_close(
        gradients(fn, x), gradients(lambda x: tf.cos(x[..., 0]) * tf.sin(x[..., 1]), x)
    )


def test_function_of_a_batch_of_vectors_of_unknown_size():
    fn, truth = vector_function()
    compiled = tf.function(
        lambda x: gradients(fn, x, 2), input_signature=[tf.TensorSpec([None, 3], tf.float64)]
    )
    for rows in (1, 4):
        x = tf.constant(np.random.default_rng(rows).normal(size=(rows, 3)))
        assert_all_close(compiled(x), gradients(truth, x, 2))


# --- errors ---


@pytest.mark.parametrize("shift", [0.0, np.pi, -np.pi])
def test_shifts_that_divide_by_zero(shift, sin, tracker):
    with pytest.raises(ValueError, match="no exact rule"):
        qshift.shift_gradient(shift=shift)
    with pytest.raises(ValueError, match="no exact rule"):
        sin(tf.constant(0.3), shift=shift)
    assert tracker.totals["circuits"] == 0


def test_too_few_shifts():
    with pytest.raises(ValueError, match="no exact rule"):
        qshift.shift_gradient((1, 2), shift=0.5)


@pytest.mark.parametrize("frequencies", [(), (0, 1), (-1,), (1, 1), (math.inf,)])
def test_invalid_frequencies(frequencies):
    with pytest.raises(ValueError, match="frequencies must be"):
        qshift.shift_gradient(frequencies)


@pytest.mark.parametrize("x", [3, [1, 2], tf.constant([0.3j], tf.complex64)])
def test_arguments_that_are_not_floating_point(sin, x):
    with pytest.raises(TypeError, match="sin takes floating-point tensors, got"):
        sin(x)


def test_functions_without_a_name():
    scaled = qshift.shift_gradient()(functools.partial(np.multiply, 0.0))
    with pytest.raises(TypeError, match="floating-point"):
        scaled(3)


@pytest.mark.parametrize("fn", [np.sum, lambda x: x[1:], lambda x: np.stack([x, x], -1)])
def test_elementwise_functions_that_are_not(fn):
    with pytest.raises(ValueError, match="returned shape"):
        qshift.shift_gradient()(fn)(tf.constant([0.3, 0.4, 0.5]))


@pytest.mark.parametrize("fn", [np.sum, lambda x: np.zeros((2, 2)), lambda x: np.zeros((1, 2, 2))])
def test_functions_of_a_vector_with_wrong_shapes(fn):
    with pytest.raises(ValueError, match=r"given float64\[1, 3\] and returned shape"):
        qshift.shift_gradient(elementwise=False)(fn)(tf.constant([0.3, 0.4, 0.5]))


def test_function_of_a_vector_called_with_a_number():
    fn, _ = vector_function()
    with pytest.raises(ValueError, match="vector"):
        fn(tf.constant(0.3))


def test_wrong_frequencies_are_found_by_the_checker():
    wrong = qshift.shift_gradient((1,))(lambda x: np.sin(2 * x))
    with pytest.raises(AssertionError, match="order 1"):
        qshift.check_derivatives(wrong, tf.constant([0.4, 0.3], tf.float64), order=2)


def test_layers_with_functions_of_ones_own():
    @qshift.shift_gradient([1.0])
    def sine(x):
        return np.sin(x)

    @qshift.qnode(qshift.device("simulator"))
    def circuit(inputs, w):
        qml.RX(inputs[:, 0] + sine(w), 0)
        return qml.expval(qml.Z(0))

    layer = qshift.keras.QuantumLayer(circuit, {"w": ()}, dtype="float64")
    x = tf.constant([[0.1], [0.3], [0.5]], tf.float64)
    layer(x)
    layer.set_weights([np.array(0.7)])
    np.testing.assert_allclose(layer(x), np.cos(x[:, 0] + np.sin(0.7)), atol=1e-12)
