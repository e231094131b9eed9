"""Chosen partial derivatives, in one batch, planned and declared ahead."""

import itertools

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.autodiff.requests import checked, partitions

GATES, WEIGHTS = 2, 3
PARTIALS = [(), (0, 0), (0, 0, 1)]


def function(x, weights):
    """cos(2 acos(x))^2 prod cos(w)."""
    for wire in range(GATES):
        qml.RX(2 * tf.acos(x), wires=wire)
    for i in range(WEIGHTS):
        qml.RX(weights[i], wires=GATES + i)
    for wire in range(1, GATES + WEIGHTS):
        qml.CNOT([wire, 0])
    return qml.expval(qml.Z(0))


def closed_form(x, weights):
    return tf.cos(2 * tf.acos(x)) ** GATES * tf.reduce_prod(tf.cos(weights))


def node(fn=function, **kwargs):
    return qshift.qnode(qml.device("default.qubit"), diff_method="shift", **kwargs)(fn)


X = tf.constant([0.1, 0.5, -0.3], tf.float64)
W = tf.constant(np.linspace(0.1, 1.0, WEIGHTS))
# The joint parameter of all gates of x at 2 q + 1 points, each weight at three, one at a time: as
# x enters by acos, the chain rule needs the lower derivatives by x, too.
COUNT = (2 * GATES + 1) * (1 + 2 * WEIGHTS)


def truth(x, weights):
    with tf.GradientTape() as tape:
        tape.watch(weights)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = closed_form(x, weights)
            first = inner.gradient(value, x)
        second = outer.gradient(first, x)
    jacobian = tape.jacobian(second, weights)
    return value, second, jacobian


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_of_a_batch(tracker, compiled, wrapped):
    circuit = node()
    fn = (lambda x, w: circuit(x, w)) if wrapped else circuit

    def chosen(x, w):
        return qshift.derivatives(fn, x, w, partials=PARTIALS, batched=0)

    result = (tf.function(chosen, autograph=False) if compiled else chosen)(X, W)
    for a, b in zip(result, truth(X, W), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    assert tracker.totals["circuits"] == len(X) * COUNT
    assert tracker.totals["batches"] == 1


def test_of_one_point(tracker):
    result = qshift.derivatives(node(), X[0], W, partials=PARTIALS)
    for a, b in zip(result, truth(X[0], W), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    assert tracker.totals["circuits"] == COUNT
    assert tracker.totals["batches"] == 1


def test_no_other_derivative_is_evaluated(tracker):
    def fn(x, y):
        qml.RX(x, wires=0)
        qml.RX(y, wires=1)
        qml.CNOT([1, 0])
        return qml.expval(qml.Z(0))

    x, y = tf.constant(0.4, tf.float64), tf.constant(0.9, tf.float64)
    (result,) = qshift.derivatives(node(fn), x, y, partials=[(0, 1)])
    assert float(result) == pytest.approx(np.sin(0.4) * np.sin(0.9))
    # Both moved, in four ways; the first batch has the value as well.
    assert tracker.totals["circuits"] <= 1 + 4
    assert tracker.totals["batches"] == 1


def test_vector_values_and_rows_of_vectors():
    def fn(x, w):
        qml.RX(x[:, 0], wires=0)
        qml.RX(x[:, 1] * w, wires=1)
        qml.CNOT([1, 0])
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    circuit = node(fn)
    x = tf.constant([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], tf.float64)
    w = tf.constant(1.5, tf.float64)

    def stacked(x, w):
        return tf.stack(circuit(x, w), axis=1)

    first, mixed = qshift.derivatives(stacked, x, w, partials=[(0,), (0, 1)], batched=(0,))
    a, b = x.numpy()[:, 0], x.numpy()[:, 1]
    ones = np.zeros_like(a)
    z0 = np.stack([-np.sin(a) * np.cos(1.5 * b), -1.5 * np.cos(a) * np.sin(1.5 * b)], 1)
    z1 = np.stack([ones, -1.5 * np.sin(1.5 * b)], 1)
    np.testing.assert_allclose(first, np.stack([z0, z1], 1), atol=1e-11)
    by_b = -np.sin(1.5 * b) - 1.5 * b * np.cos(1.5 * b)
    z0 = np.stack([np.sin(a) * np.sin(1.5 * b) * b, np.cos(a) * by_b], 1)
    np.testing.assert_allclose(mixed, np.stack([z0, np.stack([ones, by_b], 1)], 1), atol=1e-11)


def test_plan_agrees(tracker):
    plan = node().plan(X, W, partials=PARTIALS)
    assert plan.circuits == len(X) * COUNT
    assert plan.parameters == 1 + WEIGHTS
    assert "RX with 1 more: 2 frequencies" in str(plan)
    assert node().plan(X, W, partials=[(1,)]).circuits == len(X) * 2 * WEIGHTS
    assert node().plan(X, W, order=3).circuits > plan.circuits
    assert tracker.totals["circuits"] == 0


def train(fn, x, w):
    with tf.GradientTape() as tape:
        tape.watch(w)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = fn(x, w)
            first = inner.gradient(value, x)
        loss = tf.reduce_sum((outer.gradient(first, x) + value) ** 2)
    return tape.gradient(loss, w)


@pytest.mark.parametrize("mode", ["eager", "inside", "outside", "captured"])
def test_prefetch_makes_a_training_step_one_batch(tracker, mode):
    circuit = node(prefetch=[(1,), (0, 0), (0, 0, 1)])
    if mode == "eager":
        result = train(circuit, X, W)
    elif mode == "inside":
        result = tf.function(lambda x, w: train(circuit, x, w), autograph=False)(X, W)
    elif mode == "captured":
        result = tf.function(lambda: train(circuit, X, W), autograph=False)()
    else:
        result = train(tf.function(circuit, autograph=False), X, W)
    np.testing.assert_allclose(result, train(closed_form, X, W), atol=1e-10)
    assert tracker.totals["circuits"] == len(X) * COUNT
    assert tracker.totals["batches"] == 1


def test_prefetch_by_a_variable_with_samples(tracker):
    circuit = node(prefetch=[(1,), (0, 0), (0, 0, 1)], shots=10, seed=1)
    weights = tf.Variable(W)

    def step():
        with tf.GradientTape() as tape:
            with tf.GradientTape() as outer:
                outer.watch(X)
                with tf.GradientTape() as inner:
                    inner.watch(X)
                    value = circuit(X, weights)
                first = inner.gradient(value, X)
            loss = tf.reduce_sum((outer.gradient(first, X) + value) ** 2)
        return tape.gradient(loss, weights)

    step()
    assert tracker.totals["batches"] == 1
    tracker.reset()
    tf.function(step, autograph=False)()
    assert tracker.totals["batches"] == 1


def test_diagonal(tracker):
    def fn(x):
        for wire in range(4):
            qml.RX(x[wire], wires=wire)
        for wire in range(1, 4):
            qml.CNOT([wire, 0])
        return qml.expval(qml.Z(0))

    circuit = node(fn)
    x = tf.constant([0.1, 0.2, 0.3, 0.4], tf.float64)
    value, gradient, diagonal = qshift.derivatives(circuit, x, order=2, diagonal=True)
    assert tracker.totals["circuits"] == 1 + 2 * 4
    assert tracker.totals["batches"] == 1
    expected = qshift.derivatives(circuit, x, order=3)
    np.testing.assert_allclose(gradient, expected[1], atol=1e-12)
    np.testing.assert_allclose(diagonal, np.diag(expected[2]), atol=1e-12)
    # What is no plain qnode is differentiated in full first.
    result = qshift.derivatives(lambda x: circuit(x) ** 1.0, x, order=3, diagonal=True)
    np.testing.assert_allclose(result[3], np.einsum("iii->i", expected[3]), atol=1e-11)


def test_partitions():
    found = {frozenset(map(tuple, map(sorted, blocks))) for blocks in partitions((0, 1, 2))}
    assert len(found) == 5
    assert [len(partitions(tuple(range(n)))) for n in range(5)] == [1, 1, 2, 5, 15]
    assert all(sorted(itertools.chain(*blocks)) == [0, 1, 2] for blocks in found)


@pytest.mark.parametrize(
    ("partials", "message"),
    [
        (3, "list of tuples"),
        ([0], "list of tuples"),
        ([("x",)], "by position"),
        ([(-1,)], "by position"),
        ([(0, 2)], "argument 2, but there are 2"),
    ],
)
def test_what_is_no_partial_derivative(partials, message):
    with pytest.raises(ValueError, match=message):
        checked(partials, 2)


def test_keywords_that_exclude_each_other():
    circuit = node()
    with pytest.raises(ValueError, match="either partials"):
        qshift.derivatives(circuit, X, W, partials=[(0,)], order=2)
    with pytest.raises(ValueError, match="needs partials"):
        qshift.derivatives(circuit, X, W, batched=0)
    with pytest.raises(ValueError, match="single argument"):
        qshift.derivatives(circuit, X, W, diagonal=True)
    with pytest.raises(ValueError, match="batched= names argument 5"):
        qshift.derivatives(circuit, X, W, partials=[(0,)], batched=5)
    with pytest.raises(ValueError, match="either partials"):
        circuit.plan(X, W, partials=[(0,)], order=2)
    with pytest.raises(ValueError, match="list of partial derivatives"):
        node(prefetch=1.5)
    with pytest.raises(ValueError, match="does not depend on argument 0"):
        qshift.derivatives(lambda x, w: circuit(0.1, w), X, W, partials=[(0,)])
    with pytest.raises(ValueError, match="the value is a single number"):
        qshift.derivatives(lambda x, w: circuit(0.1, w), X, W, partials=[(0,)], batched=0)


def test_a_device_that_fails_is_not_asked_twice(monkeypatch):
    asked = []

    def fail(*_):
        asked.append(1)
        raise ConnectionError("gone")

    circuit = node()
    monkeypatch.setattr(circuit.preparation.executor, "run", fail)
    with pytest.raises(ConnectionError, match="^gone$"):
        qshift.derivatives(circuit, X, W, partials=PARTIALS, batched=0)
    assert len(asked) == 1
