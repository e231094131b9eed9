"""Of mixed derivatives, every mode evaluates only what is asked for."""

import math

import keras
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.autodiff.dataflow import origins


def circuit_of(inputs=1, **kwargs):
    """cos(x) once for each input gate, times the cosines of all weights."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift", **kwargs)
    def circuit(weights, x):
        for wire in range(inputs):
            qml.RX(x[wire] if isinstance(x, list) else x, wires=wire)
        for i in range(weights.shape[0]):
            qml.RX(weights[i], wires=inputs + i)
        for wire in range(1, inputs + weights.shape[0]):
            qml.CNOT([wire, 0])
        return qml.expval(qml.Z(0))

    return circuit


def closed_form(inputs=1):
    return lambda weights, x: tf.cos(x) ** inputs * tf.reduce_prod(tf.cos(weights))


def solution(fn, weights, x):
    """Returns f, its first and its second derivative by x."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = fn(weights, x)
        first = inner.gradient(value, x)
    return value, first, outer.gradient(first, x)


def step(fn, weights, x):
    """Returns the gradient over the weights of the residual of f'' + f' + f^2 = 0."""
    with tf.GradientTape() as tape:
        value, first, second = solution(fn, weights, x)
        loss = tf.reduce_sum((second + first + value**2) ** 2)
    return tape.gradient(loss, weights)


def eager(circuit, weights, x):
    return lambda: step(circuit, weights, x)


def tapes_inside(circuit, weights, x):
    compiled = tf.function(lambda x: step(circuit, weights, x), autograph=False)
    return lambda: compiled(x)


def tapes_outside(circuit, weights, x):
    compiled = tf.function(circuit, autograph=False)
    return lambda: step(compiled, weights, x)


def some_tapes_outside(circuit, weights, x):
    compiled = tf.function(lambda weights, x: solution(circuit, weights, x), autograph=False)

    def run():
        with tf.GradientTape() as tape:
            value, first, second = compiled(weights, x)
            loss = tf.reduce_sum((second + first + value**2) ** 2)
        return tape.gradient(loss, weights)

    return run


def fit(circuit, weights, x):
    class Solution(keras.Model):
        def __init__(self):
            super().__init__(dtype="float64")
            self.weight = self.add_weight(
                shape=weights.shape, initializer=lambda *_, **__: weights.value()
            )

        def call(self, x):
            value, first, second = solution(circuit, self.weight, x)
            return second + first + value**2

    inputs = np.atleast_1d(x)
    model = Solution()
    optimizer = keras.optimizers.SGD(1.0)
    model.compile(optimizer, lambda _, residual: tf.reduce_sum(residual**2), run_eagerly=False)

    def run():
        model.fit(inputs, np.zeros(len(inputs)), batch_size=len(inputs), epochs=1, verbose=0)
        return weights - model.weight.value

    model.build(inputs.shape)
    return run


MODES = [eager, tapes_inside, tapes_outside, some_tapes_outside, fit]
WEIGHTS = 6


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("inputs", "points"), [(1, None), (1, 3), (3, 2)])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_differential_equation(tracker, mode, inputs, points):
    """For P weights and q input gates: f, f', f'', and their derivatives by each weight.

    The input at 2 q + 1 points, each with every weight alone at two more, which give the
    derivatives (x, w) and (x, x, w), too; a pair of weights is never moved.
    """
    x = tf.constant(0.9 if points is None else [0.9, 0.3, -1.2][:points], tf.float64)
    weights = tf.Variable(np.linspace(0.1, 1.0, WEIGHTS))
    result = mode(circuit_of(inputs), weights, x)()
    np.testing.assert_allclose(result, step(closed_form(inputs), weights, x), atol=1e-11)
    counted = (2 * inputs + 1) * (2 * WEIGHTS + 1)
    assert tracker.totals["circuits"] == counted * (points or 1)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_differential_equation_by_adjoint_differentiation(tracker, mode):
    """The value, and gradients with the input at 2 q + 1 points."""
    inputs, x = 2, tf.constant([0.9, 0.3], tf.float64)
    weights = tf.Variable(np.linspace(0.1, 1.0, WEIGHTS))
    circuit = qshift.qnode(qshift.device("simulator"))(circuit_of(inputs).func)
    result = mode(circuit, weights, x)()
    np.testing.assert_allclose(result, step(closed_form(inputs), weights, x), atol=1e-11)
    assert tracker.totals["circuits"] == len(x) * (1 + 2 * inputs + 1)


def test_counts_against_all_third_derivatives():
    """From 12 weights on, ten times fewer."""
    for p in (12, 48, 168):
        everything = 1 + 2 * (p + 1) + 4 * math.comb(p + 1, 2) + 4 * math.comb(p + 1, 3)
        assert everything > 10 * 3 * (2 * p + 1)


def test_a_residual_that_is_only_looked_at_costs_no_derivatives_by_the_weights(tracker):
    circuit = circuit_of()
    weights = tf.Variable(np.linspace(0.1, 1.0, WEIGHTS))  # which tapes watch by themselves
    residual = tf.function(lambda x: sum(solution(circuit, weights, x)), autograph=False)
    residual(tf.constant([0.9, 0.3], tf.float64))
    assert tracker.totals["circuits"] == 3 * 2


def test_only_the_second_derivative_and_the_weights(tracker):
    """The derivatives (x, x, w) take x at two points, each with a weight at two."""
    circuit = circuit_of()
    weights = tf.Variable(np.linspace(0.1, 1.0, WEIGHTS))
    x = tf.constant(0.9, tf.float64)

    def gradient(fn):
        with tf.GradientTape() as tape:
            second = solution(fn, weights, x)[2]
        return tape.gradient(second, weights)

    result = tf.function(lambda: gradient(circuit), autograph=False)()
    np.testing.assert_allclose(result, gradient(closed_form()), atol=1e-11)
    assert tracker.totals["circuits"] == 4 * WEIGHTS


@pytest.mark.parametrize("shots", [None, 100])
def test_a_gradient_by_all_arguments_is_one_batch(tracker, shots):
    """Though derivatives by each of the arguments are ops of their own."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift", shots=shots, seed=1)
    def circuit(x, weights, scale):
        qml.RX(x, wires=0)
        qml.RX(weights[0], wires=1)
        qml.RX(weights[1], wires=2)
        qml.RX(scale * x, wires=3)
        for wire in (1, 2, 3):
            qml.CNOT([wire, 0])
        return qml.expval(qml.Z(0))

    def fn(x, weights, scale):
        return tf.cos(x) * tf.reduce_prod(tf.cos(weights)) * tf.cos(scale * x)

    arguments = [tf.constant(a, tf.float64) for a in (0.9, [0.1, 0.2], 1.7)]

    def gradient(fn, *arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = fn(*arguments)
        return tape.gradient(value, arguments)

    def by_scale(fn, *arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = fn(*arguments)
        return tape.gradient(value, arguments[2])

    results = tf.function(lambda *a: gradient(circuit, *a), autograph=False)(*arguments)
    assert tracker.totals["circuits"] == 2 * 4
    assert tracker.totals["batches"] == 1
    if shots is None:
        for result, expected in zip(results, gradient(fn, *arguments), strict=True):
            np.testing.assert_allclose(result, expected, atol=1e-11)

    tracker.reset()
    result = tf.function(lambda *a: by_scale(circuit, *a), autograph=False)(*arguments)
    assert tracker.totals["circuits"] == 2
    if shots is None:
        np.testing.assert_allclose(result, by_scale(fn, *arguments), atol=1e-11)


def test_a_partial_differential_equation_from_slices_of_the_inputs(tracker):
    """u_t = u_xx: no mixed derivative by x and t is evaluated."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x, t, weights):
        qml.RX(x, wires=0)
        qml.RX(t, wires=1)
        for i in range(WEIGHTS):
            qml.RX(weights[i], wires=2 + i)
        for wire in range(1, 2 + WEIGHTS):
            qml.CNOT([wire, 0])
        return qml.expval(qml.Z(0))

    def closed(x, t, weights):
        return tf.cos(x) * tf.cos(t) * tf.reduce_prod(tf.cos(weights))

    weights = tf.Variable(np.linspace(0.1, 1.0, WEIGHTS))
    points = tf.constant([[0.9, 0.1], [0.3, 0.2], [-1.2, 0.3]], tf.float64)

    def gradient(fn, points):
        x, t = points[:, 0], points[:, 1]
        with tf.GradientTape() as tape:
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch([x, t])
                    value = fn(x, t, weights)
                by_x, by_t = inner.gradient(value, [x, t])
            residual = by_t - outer.gradient(by_x, x)
            loss = tf.reduce_sum(residual**2)
        return tape.gradient(loss, weights)

    result = tf.function(lambda x: gradient(circuit, x), autograph=False)(points)
    np.testing.assert_allclose(result, gradient(closed, points), atol=1e-11)
    # u_t, u_xx, (t, w) and (x, x, w): no value, no u_x is asked for.
    assert tracker.totals["circuits"] <= 3 * (2 + 2 + 3 * WEIGHTS + 4 * WEIGHTS)


@pytest.mark.parametrize("pfor", [True, False])
def test_jacobians_by_a_vector_and_then_the_weights(tracker, pfor):
    """The Laplacian from batch_jacobians, whose cotangents are not known while tracing."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x, weights):
        qml.RX(x[:, 0], wires=0)
        qml.RX(x[:, 1], wires=1)
        for i in range(WEIGHTS):
            qml.RX(weights[i], wires=2 + i)
        for wire in range(1, 2 + WEIGHTS):
            qml.CNOT([wire, 0])
        return qml.expval(qml.Z(0))

    def closed(x, weights):
        return tf.cos(x[:, 0]) * tf.cos(x[:, 1]) * tf.reduce_prod(tf.cos(weights))

    weights = tf.Variable(np.linspace(0.1, 1.0, WEIGHTS))
    x = tf.constant([[0.9, 0.1], [0.3, 0.2]], tf.float64)

    def gradient(fn, x):
        with tf.GradientTape() as tape:
            with tf.GradientTape(persistent=not pfor) as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    value = fn(x, weights)
                first = inner.gradient(value, x)
            second = outer.batch_jacobian(first, x, experimental_use_pfor=pfor)
            loss = tf.reduce_sum(tf.linalg.trace(second) ** 2)
        return tape.gradient(loss, weights)

    result = tf.function(lambda x: gradient(circuit, x), autograph=False)(x)
    np.testing.assert_allclose(result, gradient(closed, x), atol=1e-11)
    # Pairs and triples of both inputs and a weight, never two weights.
    counted = 1 + 2 * 2 + 3 + WEIGHTS * (2 + 2 * 4 + 4)
    assert tracker.totals["circuits"] <= 2 * counted


# --- what tensors are computed from ---


def test_origins():
    x, y, weights = (tf.Variable(v, dtype=tf.float64) for v in (0.1, 0.2, [0.3, 0.4]))
    double = tf.function(lambda a, b: a * b)

    @tf.function(autograph=False)
    def trace(argument):
        intermediate = tf.sin(argument[0])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(intermediate)
            found = origins(
                [
                    weights[0],
                    2.0 * tf.sin(weights)[1],
                    tf.convert_to_tensor(weights),
                    x * weights[0],
                    double(x, y),
                    argument[1],
                    3.0 * intermediate,
                    intermediate * argument[1],
                    tf.constant(1.0, tf.float64) * 2.0,
                ]
            )
        first, second, again, product, called, of_argument, of_watched, of_both, fixed = found
        assert first == second == again and len(first) == 1
        assert product > first and len(product) == 2
        assert len(called) == 2 and len(called & product) == 1
        assert len(of_argument) == len(of_watched) == 1 and of_argument != of_watched
        assert of_both == of_argument | of_watched
        assert fixed == frozenset()
        return argument

    trace(tf.constant([0.1, 0.2], tf.float64))


def test_origins_around_a_loop_and_of_a_tensor_outside_the_graph():
    x = tf.Variable(0.1, dtype=tf.float64)
    outside = tf.constant(0.5, tf.float64)

    @tf.function(autograph=False)
    def trace():
        looped = tf.while_loop(
            lambda i, _: i < 3, lambda i, a: (i + 1, a * x), (0, tf.ones([], tf.float64))
        )[1]
        (of_loop, of_x, eager) = origins([looped, x.value(), outside])
        assert of_loop == of_x and len(eager) == 1 and eager != of_x
        return looped

    trace()


def test_many_arguments_are_few_parts(tracker):
    """Else tracing Hessians would take P^2 ops."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(weights):
        for wire, weight in enumerate(weights):
            qml.RX(weight, wires=wire)
        for wire in range(1, len(weights)):
            qml.CNOT([wire, 0])
        return qml.expval(qml.Z(0))

    weights = [tf.Variable(0.1 * i, dtype=tf.float64) for i in range(10)]

    @tf.function(autograph=False)
    def gradient():
        with tf.GradientTape() as tape:
            value = circuit([weight.value() for weight in weights])
        return value, tape.gradient(value, weights)

    gradient()
    (program,) = circuit.preparation.programs.values()
    assert len(program.columns) == 1
    assert tracker.totals["circuits"] == 1 + 2 * 10
    assert tracker.totals["batches"] == 1
