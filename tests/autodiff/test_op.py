"""The op in eager mode: derivatives of known functions in every mode, and what they execute."""

import gc
import itertools
import math
import weakref
from functools import partial

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from closed_forms import (
    COSINE,
    COSINE_PRODUCT,
    ONE,
    SINE,
    cosine_product_derivatives,
    derivative_tensor,
    rotation,
)
from nested_tapes import NO_PFOR, assert_all_close, gradients, jacobians

import qshift
from qshift.autodiff import evaluation


def multi_output(device="default.qubit", **kwargs):
    """Five expectation values of three angles, and their closed forms."""

    @qshift.qnode(qml.device(device), diff_method="shift", **kwargs)
    def circuit(x):
        qml.RX(x[..., 0], wires=0)
        qml.RY(x[..., 1], wires=0)
        qml.RX(x[..., 2], wires=1)
        z0, z1 = qml.Z(0), qml.Z(1)
        return [qml.expval(o) for o in (z0, qml.X(0), qml.Y(0), z1, z0 @ z1)]

    terms = [
        [(1, [COSINE, COSINE, ONE])],
        [(1, [COSINE, SINE, ONE])],
        [(-1, [SINE, ONE, ONE])],
        [(1, [ONE, ONE, COSINE])],
        [(1, [COSINE, COSINE, COSINE])],
    ]
    return lambda x: tf.stack(circuit(x), axis=-1), terms


def controlled_rotation():
    """sin(a) cos(t/2) + cos(a/2)^2 + sin(a/2)^2 cos(t): frequencies 1; 0.5 and 1."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RY(x[0], wires=0)
        qml.CRX(x[1], wires=[0, 1])
        return qml.expval(qml.X(0) + qml.Z(1))

    terms = [
        (1, [SINE, (0.0, 0.5)]),
        (0.5, [ONE, ONE]),
        (0.5, [COSINE, ONE]),
        (0.5, [ONE, COSINE]),
        (-0.5, [COSINE, COSINE]),
    ]
    return circuit, terms


EVERY_PFOR = list(itertools.product([True, False], repeat=3))


# --- reverse mode ---


@pytest.mark.one_in(3)
@pytest.mark.parametrize("pfor", EVERY_PFOR)
def test_jacobians_of_order_three(cosine_product, tracker, pfor):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    result = jacobians(circuit, tf.constant(theta), pfor)
    assert_all_close(result, cosine_product_derivatives(theta))
    assert float(result[0]) == pytest.approx(truth["value"], abs=1e-10)
    assert result[1].numpy() == pytest.approx(truth["gradient"], abs=1e-7)
    assert float(result[3][0, 1, 2]) == pytest.approx(truth["third_012"], abs=1e-10)
    assert float(result[3][0, 0, 1]) == pytest.approx(truth["third_001"], abs=1e-8)
    assert tracker.totals["circuits"] == 1 + 2 * 4 + 4 * 6 + 4 * 4
    if all(pfor):
        assert tracker.totals["batches"] == 4


def test_jacobians_of_several_measurements():
    circuit, terms = multi_output()
    x = np.array([0.4, -1.1, 2.3])
    expected = [np.stack([derivative_tensor(t, x, k) for t in terms]) for k in range(4)]
    assert_all_close(jacobians(circuit, tf.constant(x), (True, False, False)), expected)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("pfor", EVERY_PFOR[::7] + EVERY_PFOR[3:5])
def test_batch_jacobians_of_order_three(pfor):
    circuit, terms = multi_output()
    x = np.array([[0.4, -1.1, 2.3], [1.4, 0.2, -0.6]])
    expected = [
        np.stack([[derivative_tensor(t, row, k) for t in terms] for row in x]) for k in range(4)
    ]
    assert_all_close(jacobians(circuit, tf.constant(x), pfor, batch=True), expected)


def test_frequencies_one_half_and_one():
    circuit, terms = controlled_rotation()
    x = np.array([0.7, -1.9])
    expected = [derivative_tensor(terms, x, k) for k in range(4)]
    assert_all_close(jacobians(circuit, tf.constant(x), NO_PFOR), expected)


def test_two_controlled_rotations_take_sixteen_circuits(tracker):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.Hadamard(0)
        qml.CRX(x[0], wires=[0, 1])
        qml.CRY(x[1], wires=[1, 0])
        return qml.expval(qml.X(0) @ qml.Z(1))

    jacobians(circuit, tf.constant([0.3, 1.2], tf.float64), NO_PFOR[:2])
    assert tracker.totals["circuits"] <= 16


def test_classical_preprocessing(ground_truth):
    truth = ground_truth["classical_preprocessing"]
    circuit = rotation()
    x = tf.constant(truth["x"], tf.float64)
    value, *derivatives = qshift.derivatives(lambda x: circuit(tf.tanh(1.7 * x + 0.2)), x, order=4)
    assert float(value) == pytest.approx(math.cos(math.tanh(0.71)), abs=1e-12)
    assert float(derivatives[1]) == pytest.approx(truth["second"], abs=5e-5)
    assert float(derivatives[2]) == pytest.approx(truth["third"], abs=5e-5)
    assert float(derivatives[3]) == pytest.approx(truth["fourth"], abs=5e-4)


def test_circuit_of_a_circuit():
    inner, outer = rotation(), rotation()
    x = tf.constant(0.6, tf.float64)

    def nested(f, g):
        return jacobians(lambda x: x * f(2 * g(x)) ** 2 + g(x), x, NO_PFOR)

    assert_all_close(nested(outer, inner), nested(tf.cos, tf.cos))


def test_gradient_may_be_taken_several_times(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    x = tf.constant(theta)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        value = circuit(x)
        twice = 2 * value
    first = tape.gradient(value, x)
    executed = tracker.totals["circuits"]
    assert executed == 9
    again = tape.gradient(value, x)
    assert_all_close([first, again, tape.gradient(twice, x)], [first, first, 2 * first])
    scaled = tape.gradient(value, x, output_gradients=tf.constant(-3.0, tf.float64))
    assert_all_close([scaled, tape.jacobian(value, x)], [-3 * first, first])
    assert_all_close([first], [derivative_tensor(COSINE_PRODUCT, theta, 1)])
    assert tracker.totals["circuits"] == executed


def test_persistent_tape_differentiates_its_own_gradient(cosine_product):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    x = tf.constant(theta)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        value = circuit(x)
        gradient = tape.gradient(value, x)
        hessian = tape.jacobian(gradient, x, experimental_use_pfor=False)
    third = tape.jacobian(hessian, x, experimental_use_pfor=False)
    assert_all_close([value, gradient, hessian, third], cosine_product_derivatives(theta))


def test_derivatives_is_one_batch(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    result = qshift.derivatives(circuit, tf.constant(theta), order=3)
    assert_all_close(result, cosine_product_derivatives(theta))
    assert tracker.totals["circuits"] == 49
    assert tracker.totals["batches"] == 1


def test_counts_per_order(cosine_product, tracker):
    circuit, truth = cosine_product
    x = tf.constant(truth["theta"], tf.float64)
    for highest, count in ((0, 1), (1, 1 + 2 * 4), (2, 1 + 2 * 4 + 3 * 6)):
        tracker.reset()
        jacobians(circuit, x, (True,) * highest)
        assert tracker.totals["circuits"] == count
        assert tracker.totals["batches"] == highest + 1


@pytest.mark.parametrize("method", ["shift", "adjoint"])
def test_order_four_of_a_circuit(method):
    @qshift.qnode(qml.device("default.qubit"), diff_method=method)
    def circuit(x):
        for wire in range(3):
            qml.RX(x[wire], wires=wire)
        qml.CNOT([0, 1])
        qml.CNOT([1, 2])
        return qml.expval(qml.Z(2))

    x = np.array([0.3, 1.9, -0.8])
    terms = [(1, [COSINE] * 3)]
    if method == "shift":
        result = qshift.derivatives(circuit, tf.constant(x), order=4)
    else:
        result = jacobians(circuit, tf.constant(x), (False,) * 4)
    assert_all_close(result, [derivative_tensor(terms, x, k) for k in range(5)])


@pytest.mark.parametrize("method", ["shift", "adjoint"])
def test_order_eight_of_one_parameter(method, tracker):
    @qshift.qnode(qml.device("default.qubit"), diff_method=method)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    result = gradients(circuit, tf.constant(0.7, tf.float64), 8)
    assert_all_close(result, [math.cos(0.7 + k * math.pi / 2) for k in range(9)])
    if method == "shift":  # three evaluations know everything about one frequency
        assert tracker.totals["circuits"] == 3


def test_order_eight_with_two_frequencies(tracker):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.Hadamard(0)
        qml.CRX(x, wires=[0, 1])
        return qml.expval(qml.X(0) + qml.Z(1))  # cos(x/2) + 1/2 + cos(x)/2

    x = 0.4
    result = qshift.derivatives(circuit, tf.constant(x, tf.float64), order=8)
    expected = [
        0.5**k * math.cos(x / 2 + k * math.pi / 2) + math.cos(x + k * math.pi / 2) / 2
        for k in range(9)
    ]
    expected[0] += 0.5
    assert_all_close(result, expected)
    assert tracker.totals["circuits"] == 5


def test_empty_batch(tracker):
    circuit, _ = multi_output()
    value, gradient, second = gradients(circuit, tf.zeros([0, 3], tf.float64), 2)
    assert (value.shape, gradient.shape, second.shape) == ((0, 5), (0, 3), (0, 3))
    assert tracker.totals["circuits"] == 0


def test_one_tensor_as_two_arguments():
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x, y):
        qml.RX(x, wires=0)
        qml.RY(2 * y, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.constant(0.4, tf.float64)
    _, (by_x, by_y) = qshift.derivatives(circuit, x, x)
    assert float(by_x) == pytest.approx(-math.sin(0.4) * math.cos(0.8))
    assert float(by_y) == pytest.approx(-2 * math.cos(0.4) * math.sin(0.8))


# --- forward mode ---

DIRECTIONS = np.random.default_rng(0).normal(size=(3, 5))


def jvp(fn, x, direction):
    direction = tf.constant(direction, tf.float64)
    with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
        value = fn(x)
    return accumulator.jvp(value)


def gradient(fn, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = fn(x)
    return tape.gradient(value, x)


def jacobian(fn, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = fn(x)
    return tape.jacobian(value, x)


def test_forward_accumulator(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    expected = derivative_tensor(COSINE_PRODUCT, theta, 1) @ DIRECTIONS[0]
    assert float(jvp(circuit, tf.constant(theta), DIRECTIONS[0])) == pytest.approx(expected)
    assert tracker.totals["circuits"] == 9


def test_forward_over_reverse_and_reverse_over_forward(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    x = tf.constant(theta)
    expected = derivative_tensor(COSINE_PRODUCT, theta, 2) @ DIRECTIONS[0]
    assert_all_close([jvp(lambda x: gradient(circuit, x), x, DIRECTIONS[0])], [expected])
    assert tracker.totals["circuits"] == 27
    tracker.reset()
    assert_all_close([gradient(lambda x: jvp(circuit, x, DIRECTIONS[0]), x)], [expected])
    assert tracker.totals["circuits"] == 27


@pytest.mark.parametrize("mode", ["fff", "ffr", "frf", "frr", "rfr", "rrf"])
def test_forward_and_reverse_mode_at_order_three(cosine_product, tracker, mode):
    """Letters from the outside in. TensorFlow itself cannot do r-f-f, whatever the function."""
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    expected = derivative_tensor(COSINE_PRODUCT, theta, 3)
    fn = circuit
    for k, letter in enumerate(reversed(mode)):
        if letter == "f":
            fn = partial(jvp, fn, direction=DIRECTIONS[k])
            expected = expected @ DIRECTIONS[k]
        else:
            fn = partial(jacobian if "r" in mode[len(mode) - k :] else gradient, fn)
    assert_all_close([fn(tf.constant(theta))], [expected])
    assert tracker.totals["circuits"] == 49


def test_a_forward_accumulator_evaluates_its_direction_only(cosine_product, tracker):
    circuit, truth = cosine_product
    theta, direction = np.array(truth["theta"]), np.eye(5)[1]
    expected = derivative_tensor(COSINE_PRODUCT, theta, 1) @ direction
    assert_all_close([jvp(circuit, tf.constant(theta), direction)], [expected])
    assert tracker.totals["circuits"] == 3


def test_forward_accumulator_with_parameters_outside_the_light_cone():
    circuit, terms = multi_output()
    x = tf.constant([0.4, -1.1, 2.3], tf.float64)
    expected = np.stack([derivative_tensor(t, x.numpy(), 2) for t in terms])
    u, v = DIRECTIONS[:2, :3]
    second = jvp(lambda x: jvp(circuit, x, v), x, u)
    assert_all_close([second], [expected @ u @ v])


# --- each circuit once, and only what is asked for ---


def test_unwatched_parameters_cost_nothing(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = tf.constant(truth["theta"], tf.float64)
    watched = tf.Variable(theta[1])

    def fn(x):
        return circuit([theta[0], x, theta[2], truth["theta"][3], theta[4]])

    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            value = fn(watched)
        first = inner.gradient(value, watched)
    second = outer.gradient(first, watched)
    t = np.array(truth["theta"])
    expected = [derivative_tensor(COSINE_PRODUCT, t, k)[(1,) * k] for k in range(3)]
    assert_all_close([value, first, second], expected)
    assert tracker.totals["circuits"] == 3


def test_stop_gradient_costs_nothing(cosine_product, tracker):
    circuit, truth = cosine_product
    x = tf.Variable(truth["theta"], dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = circuit(tf.concat([tf.stop_gradient(x[:3]), x[3:]], 0))
    result = tape.gradient(value, x)
    assert result.numpy()[:3].tolist() == [0, 0, 0]
    assert result.numpy()[3] == pytest.approx(truth["gradient"][3], abs=1e-7)
    # Gate by gate the tape sees x: only that the numbers flow through one tensor counts.
    assert tracker.totals["circuits"] <= 9


def test_parameters_outside_the_light_cone_cost_nothing_and_give_zero(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = tf.constant(truth["theta"], tf.float64)
    last = tf.Variable(theta[4])
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = circuit([*tf.unstack(theta)[:4], last])
        first = inner.gradient(value, last)
    second = outer.gradient(first, last)
    assert first is not None and float(first) == 0.0
    assert second is None or float(second) == 0.0  # TensorFlow's own constants have no gradient
    assert tracker.totals["circuits"] == 1


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("wires", [1, 2])
def test_tangents_of_what_has_no_effect_have_derivatives(wires, compiled):
    """Forward over a tape: zeros, where TensorFlow would say None."""

    @qshift.qnode(qml.device("default.qubit"))
    def circuit(x, y):
        qml.RX(x, wires=1)
        if wires == 2:
            qml.RX(y, wires=0)
        return qml.expval(qml.Z(0))

    def both(x, y):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, y])
            with tf.autodiff.ForwardAccumulator([x, y], [one, one]) as forward:
                value = circuit(x, y)
            tangent = forward.jvp(value)
        return tangent, *tape.gradient(tangent, [x, y])[:wires]

    one = tf.constant(1.0, tf.float64)
    found = (tf.function(both) if compiled else both)(0.3 * one, 0.4 * one)
    expected = [-np.sin(0.4), 0.0, -np.cos(0.4)] if wires == 2 else [0.0, 0.0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_data_derivatives_then_weights_are_not_every_third_derivative(tracker):
    """The loss of a differential equation: of the third derivatives only (x, x, weight)."""
    p = 4

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(weights, x):
        qml.RY(x, wires=0)
        for i in range(p):
            qml.RX(weights[i], wires=i % 2)
            qml.CNOT([i % 2, (i + 1) % 2])
        return qml.expval(qml.Z(0))

    weights = tf.Variable(np.linspace(0.1, 2, p))
    x = tf.constant(0.9, tf.float64)

    def loss_gradient(circuit):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as middle:
                middle.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    value = circuit(weights, x)
                first = inner.gradient(value, x)
            second = middle.gradient(first, x)
            loss = (second + value) ** 2
        return outer.gradient(loss, weights)

    result = loss_gradient(circuit)
    # Pairs of x and one weight, but never two weights at once.
    assert tracker.totals["circuits"] <= 1 + 2 * (p + 1) + 4 * p

    def state(weights, x):  # the same with TensorFlow's own matrices
        cos, sin = (
            (lambda t: tf.cast(tf.cos(t / 2), tf.complex128)),
            (lambda t: tf.cast(tf.sin(t / 2), tf.complex128)),
        )
        psi = tf.stack([cos(x), 0 * cos(x), sin(x), 0 * cos(x)])
        for i in range(p):
            c, s = cos(weights[i]), -1j * sin(weights[i])
            flipped = [2, 3, 0, 1] if i % 2 == 0 else [1, 0, 3, 2]
            psi = c * psi + s * tf.gather(psi, flipped)
            psi = tf.gather(psi, [0, 1, 3, 2] if i % 2 == 0 else [0, 3, 2, 1])
        probabilities = tf.math.real(psi * tf.math.conj(psi))
        return tf.reduce_sum(probabilities * tf.constant([1, 1, -1, -1.0], tf.float64))

    np.testing.assert_allclose(result, loss_gradient(state), atol=1e-11)


def test_rows_of_zero_cotangents_are_not_executed(tracker):
    circuit, _ = multi_output()
    x = tf.constant([0.4, -1.1, 2.3], tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = circuit(x)
        first = inner.gradient(value, x)
        tracker.reset()
        third_row = first[2]
    outer.gradient(third_row, x)
    # Of the second derivatives only (0, 2), (1, 2) and (2, 2).
    assert tracker.totals["circuits"] <= 2 * 3


def test_zero_cotangent_executes_nothing(tracker):
    circuit = rotation()
    x = tf.constant(0.3, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = 0.0 * circuit(x)
    assert float(tape.gradient(value, x)) == 0.0
    assert tracker.totals["circuits"] == 1


@pytest.mark.parametrize("pfor", [(True, True), NO_PFOR])
def test_derivatives_through_a_cotangent_that_is_zero(pfor):
    """d/dx (s f(x)) is zero at s = 0, but d2/ds dx is f'(x): the skipped row is needed."""
    circuit = rotation()
    z = tf.constant([0.0, 0.3], tf.float64)

    def nested(f):
        return jacobians(lambda z: z[0] * f(z[1]) + z[0] ** 2 * f(2 * z[1]), z, pfor)

    assert_all_close(nested(circuit), nested(tf.cos))


def test_square_at_a_zero_of_the_value():
    circuit = rotation()
    x = tf.constant(0.8, tf.float64)

    def square(f):
        def fn(x):
            value = f(x)
            return (value - tf.stop_gradient(value)) ** 2  # exactly 0, with derivatives 2 f'^2, ...

        return fn

    expected = jacobians(square(tf.cos), x, NO_PFOR)
    assert float(expected[1]) == 0.0 and float(expected[2]) > 1.0
    fn = square(circuit)
    assert_all_close(jacobians(fn, x, NO_PFOR), expected)
    assert_all_close([jvp(lambda x: gradient(fn, x), x, 1.0)], [expected[2]])
    assert_all_close([gradient(lambda x: jvp(fn, x, 1.0), x)], [expected[2]])


def test_dead_rectifier_executes_no_derivatives(tracker):
    circuit = rotation()
    x = tf.constant(2.5, tf.float64)  # cos < 0
    assert float(gradient(lambda x: tf.nn.relu(circuit(x)), x)) == 0.0
    assert tracker.totals["circuits"] == 1


# --- dtypes ---


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (tf.float32, tf.float32, tf.float32),
        (tf.float64, tf.float64, tf.float64),
        (tf.float32, tf.float64, tf.float64),
    ],
)
def test_dtypes(first, second, result):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x, y):
        qml.RX(x, wires=0)
        qml.RY(y, wires=0)
        return qml.expval(qml.Z(0))

    x, y = tf.constant(0.3, first), tf.constant(1.2, second)
    with tf.GradientTape() as outer:
        outer.watch([x, y])
        with tf.GradientTape() as inner:
            inner.watch([x, y])
            value = circuit(x, y)
        first_order = inner.gradient(value, [x, y])
    second_order = outer.gradient(first_order[0], [x, y])
    assert value.dtype == result
    assert [g.dtype for g in first_order] == [first, second]
    assert [g.dtype for g in second_order] == [first, second]
    assert_all_close(
        [value, *first_order, *second_order],
        [
            math.cos(0.3) * math.cos(1.2),
            -math.sin(0.3) * math.cos(1.2),
            -math.cos(0.3) * math.sin(1.2),
            -math.cos(0.3) * math.cos(1.2),
            math.sin(0.3) * math.sin(1.2),
        ],
        atol=1e-6 if tf.float32 in (first, second) else 1e-12,
    )


def test_float32_jacobians_stay_float32(cosine_product):
    circuit, truth = cosine_product
    result = jacobians(circuit, tf.constant(truth["theta"], tf.float32), (True, True))
    assert [r.dtype for r in result] == [tf.float32] * 3
    assert_all_close(result, cosine_product_derivatives(np.array(truth["theta"]), 2), atol=2e-6)


def test_inside_it_is_float64():
    """Between the float32 ends, differences of 1e-8 survive."""
    circuit = rotation()
    x = tf.constant(1e-4, tf.float32)
    second = jacobians(lambda x: tf.cast(circuit(x), tf.float64), x, (True, True))[2]
    assert float(second) == pytest.approx(-1.0, abs=1e-6)


# --- samples ---


def sampled(shots=100, **kwargs):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift", shots=shots, **kwargs)
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(0) @ qml.X(1))

    return circuit


ANGLES = tf.constant([0.8, 0.5], tf.float64)


def test_each_call_draws_afresh():
    circuit = sampled(10_000)
    assert len({float(circuit(ANGLES)) for _ in range(5)}) > 1


def test_set_seed_does_not_freeze_samples():
    circuit = sampled(10_000)
    runs = []
    for _ in range(2):
        tf.random.set_seed(1)
        runs.append([float(circuit(ANGLES)) for _ in range(5)])
    assert runs[0] != runs[1]


@pytest.mark.parametrize("objective", ["circuits", "shots"])
def test_derivatives_of_one_call_share_its_samples(tracker, objective):
    circuit = sampled(objective=objective)
    x = tf.constant(ANGLES)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        value = circuit(x)
    first = tape.gradient(value, x).numpy()
    executed = dict(tracker.totals)
    assert executed["shots"] == 100 * executed["circuits"]
    assert tape.gradient(value, x).numpy().tolist() == first.tolist()
    assert tracker.totals == executed

    _, gradient, _, third = (t.numpy() for t in jacobians(circuit, x, NO_PFOR))
    # Sample by sample the third derivative of a frequency-one function is minus the first.
    np.testing.assert_allclose(third[[0, 1], [0, 1], [0, 1]], -gradient, atol=1e-12)
    assert np.abs(jacobians(circuit, x, (False,))[1] - gradient).max() > 0


@pytest.mark.parametrize("objective", ["circuits", "shots"])
def test_seed_makes_a_run_reproducible(objective):
    def run(seed):
        circuit = sampled(seed=seed, objective=objective)
        values = [circuit(ANGLES), *jacobians(circuit, ANGLES, NO_PFOR[:2]), circuit(ANGLES)]
        return np.concatenate([np.ravel(v) for v in values])

    assert run(7).tolist() == run(7).tolist()
    assert run(7).tolist() != run(8).tolist()


def test_two_seeded_circuits_on_one_device_do_not_disturb_each_other():
    def run(both):
        device = qml.device("default.qubit")

        def fn(x):
            qml.RX(x, wires=0)
            return qml.expval(qml.Z(0))

        first = qshift.qnode(device, shots=1000, seed=1)(fn)
        second = qshift.qnode(device, shots=1000, seed=2)(fn)
        x = tf.constant(1.1, tf.float64)
        result = []
        for _ in range(3):
            result.append(float(first(x)))
            if both:
                second(x)
        return result

    assert run(True) == run(False)


# --- parameters without a rule ---


@pytest.fixture
def damped():
    """gamma + (1 - gamma) cos(x)."""

    @qshift.qnode(qml.device("default.mixed", wires=1), diff_method="shift")
    def circuit(x, gamma):
        qml.RX(x, wires=0)
        qml.AmplitudeDamping(gamma, wires=0)
        return qml.expval(qml.Z(0))

    return circuit


def test_watched_parameter_without_a_rule_raises_before_anything_runs(damped, tracker):
    x, gamma = tf.constant(0.9, tf.float64), tf.constant(0.1, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([x, gamma])
        with pytest.raises(qshift.NoShiftRuleError, match="AmplitudeDamping.*stop_gradient"):
            damped(x, gamma)
    assert tracker.totals["circuits"] == 0


def test_unwatched_parameter_without_a_rule_is_data(damped):
    x, gamma = tf.constant(0.9, tf.float64), tf.constant(0.1, tf.float64)
    result = jacobians(lambda x: damped(x, gamma), x, NO_PFOR)
    value = 0.1 + 0.9 * math.cos(0.9)
    assert_all_close(result, [value] + [0.9 * math.cos(0.9 + k * math.pi / 2) for k in (1, 2, 3)])


def test_forward_accumulator_over_a_parameter_without_a_rule_raises(damped, tracker):
    x, gamma = tf.constant(0.9, tf.float64), tf.constant(0.1, tf.float64)
    with tf.autodiff.ForwardAccumulator(gamma, tf.ones_like(gamma)):
        with pytest.raises(qshift.NoShiftRuleError, match="AmplitudeDamping"):
            damped(x, gamma)
    assert tracker.totals["circuits"] == 0


# --- vectorized_map and memory ---


def test_vectorized_map_that_does_not_move_the_circuit_evaluates_once(tracker):
    circuit = rotation()
    x = tf.constant(0.4, tf.float64)
    factors = tf.range(5, dtype=tf.float64)
    result = gradients(
        lambda x: tf.reduce_sum(tf.vectorized_map(lambda f: f * circuit(x), factors)), x
    )
    assert_all_close(result, [10 * math.cos(0.4 + k * math.pi / 2) for k in range(4)])
    assert tracker.totals["circuits"] == 3


def test_vectorized_map_that_moves_the_circuit_is_one_longer_batch(tracker):
    circuit = rotation()
    x = tf.constant(0.4, tf.float64)
    factors = np.arange(1.0, 6)

    def fn(x):
        return tf.reduce_sum(tf.vectorized_map(lambda f: circuit(f * x), tf.constant(factors)))

    fn(x)
    assert tracker.totals["circuits"] == 5
    assert tracker.totals["batches"] == 1
    tracker.reset()
    expected = [(factors**k * np.cos(0.4 * factors + k * np.pi / 2)).sum() for k in range(4)]
    assert_all_close(gradients(fn, x), expected)
    assert tracker.totals["circuits"] == 3 * 5


def test_vectorized_map_of_derivatives(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    factors = np.array([0.5, 1.0, 1.5])

    def fn(factor):
        x = factor * tf.constant(theta)
        return tuple(jacobians(circuit, x, (True, True)))

    result = tf.vectorized_map(fn, tf.constant(factors))
    expected = [
        np.stack([derivative_tensor(COSINE_PRODUCT, f * theta, k) for f in factors])
        for k in range(3)
    ]
    assert_all_close(result, expected)
    assert tracker.totals["circuits"] == 3 * 27


@pytest.fixture
def evaluations(monkeypatch):
    """Weak references to all evaluations that the test makes."""
    made = []
    original = evaluation.Evaluation.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        made.append(weakref.ref(self))

    monkeypatch.setattr(evaluation.Evaluation, "__init__", init)
    return made


@pytest.mark.parametrize("pfor", [True, False])
def test_evaluations_die_with_their_tapes(evaluations, pfor):
    circuit = rotation()
    before = len(circuit.calls.evaluations)
    for step in range(4):
        jacobians(circuit, tf.constant(0.1 * step, tf.float64), (False, pfor))
    gc.collect()
    assert len(evaluations) == 4
    assert [e() for e in evaluations] == [None] * 4
    assert len(circuit.calls.evaluations) == before


def test_evaluations_without_vectorising_die_at_once(evaluations):
    circuit = rotation()
    x = tf.Variable(0.3, dtype=tf.float64)
    gc.disable()
    try:
        for _ in range(3):
            with tf.GradientTape() as tape:
                value = circuit(x)
            tape.gradient(value, x)
            del tape, value
    finally:
        gc.enable()
    assert [e() for e in evaluations] == [None] * 3


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_derivatives_that_are_zero_are_there(compiled):
    """By a gate that does nothing, and then by everything else."""

    @qshift.qnode(qml.device("default.qubit"))
    def circuit(x, y, c):
        qml.RX(y, 0)
        qml.GlobalPhase(x, wires=0)
        return qml.expval(c * qml.Z(0))

    numbers = [tf.constant(number, tf.float64) for number in (0.1, 0.2, 0.3)]

    def second(numbers):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(numbers)
            with tf.GradientTape() as inner:
                inner.watch(numbers)
                value = circuit(*numbers)
            first = inner.gradient(value, numbers[0])
        return [first, *outer.gradient(first, numbers)]

    found = (tf.function(second) if compiled else second)(numbers)
    assert [float(number) for number in found] == [0.0] * 4
