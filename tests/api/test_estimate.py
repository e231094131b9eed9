"""Errors of what is computed from qnodes: they are the deviations of repeated calls, and 95 of 100
intervals hold what they should. The repetitions are the rows of a batch, each with its samples."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.errors import UnsupportedError

X = np.array([0.4, -1.1, 0.8])


def circuit(x):
    qml.RY(0.5, wires=0)
    qml.RX(x[..., 0], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.RY(2 * x[..., 1] + 0.3, wires=1)
    qml.CRX(x[..., 2], wires=[0, 1])
    qml.RX(0.7, wires=0)


def word(x):
    circuit(x)
    return qml.expval(qml.Z(0) @ qml.Z(1))


def variance(x):
    circuit(x)
    return qml.var(qml.Z(0) + 0.5 * qml.X(1))


def near_one(x):
    qml.RX(x[..., 1] / 8, wires=0)
    return qml.expval(qml.Z(0))


def three_bases(x):
    """Five words, of which some share samples."""
    circuit(x)
    observables = qml.Z(0) @ qml.Z(1), qml.X(0), qml.Y(1), qml.Z(1), qml.X(1)
    return [qml.expval(each) for each in observables]


def of(function, shots=None, **options):
    return qshift.QNode(function, qshift.device("simulator"), shots=shots, **options)


def sine(node):
    return lambda x: tf.sin(3 * node(x))


def product(node):
    def function(x):
        a, b, c, d, e = node(x)
        return a * b - c * d * e + d**2

    return function


def gradient_of_loss(node):
    """Value and gradients meet, read off the same samples."""

    def function(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = (node(x) - 0.2) ** 2
        return tape.gradient(loss, x)

    return function


CASES = {
    "value": (word, lambda node: node),
    "var": (variance, lambda node: node),
    "sine": (word, sine),
    "five words": (three_bases, product),
    "gradient": (word, gradient_of_loss),
}


def rows(repetitions):
    return tf.constant(np.tile(X, (repetitions, 1)))


def repeated(name, shots, repetitions, seed=3):
    """Returns values and errors of repeated calls, and the exact values."""
    function, made = CASES[name]
    found = qshift.estimate(made(of(function, shots, seed=seed)), rows(repetitions))
    exact = made(of(function))(rows(1))
    return found.value.numpy(), found.error.numpy(), exact.numpy()


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", CASES)
def test_coverage_with_100_shots(name):
    repetitions = 150 if name == "gradient" else 400
    values, errors, exact = repeated(name, 100, repetitions)
    share = np.mean(np.abs(values - exact) <= 1.96 * errors)
    chance = 3 * np.sqrt(0.95 * 0.05 / repetitions)
    assert 0.93 - chance <= share <= 0.975 + chance
    # The deviation of 150 deviations is 6 %; four outcomes in 100 add 2 %.
    np.testing.assert_allclose(errors.mean(axis=0), values.std(axis=0), rtol=0.19)


@pytest.mark.parametrize("function, shots", [(word, 20), (near_one, 20), (near_one, 100)])
def test_coverage_with_few_shots_and_near_one(function, shots):
    sampled, exact = of(function, shots, seed=1), of(function)
    value, error = qshift.estimate(sine(sampled), rows(400))
    share = np.mean(np.abs(value - sine(exact)(rows(1))) <= 1.96 * error)
    assert share >= 0.91 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_shared_samples():
    """Of one circuit, Z(0) + Z(1) and Z(0) - Z(1) have errors that no two single errors give."""

    def bell(x):
        qml.RY(x, wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1)), qml.probs(wires=0)

    node = of(bell, 400, seed=1)
    (_, _, norm), (a, b, _) = qshift.estimate(
        lambda x: [node(x)[0] + node(x)[1], node(x)[0] - node(x)[1], tf.reduce_sum(node(x)[2])],
        tf.constant(0.9, tf.float64),
    )
    # Two calls have samples of their own.
    assert float(a) == pytest.approx(np.sqrt(2) * np.sin(0.9) / 20, rel=0.15)
    assert float(b) == pytest.approx(float(a), rel=0.15) and abs(norm - 1) < 1e-12

    def together(x):
        first, second, probabilities = node(x)
        return first + second, first - second, tf.reduce_sum(probabilities)

    _, (a, b, c) = qshift.estimate(together, tf.constant(0.9, tf.float64))
    assert float(a) == pytest.approx(2 * np.sin(0.9) / 20, rel=0.1)
    assert b < 0.2 * a  # those that are added are not shared
    assert c < 0.2 * a


def test_angles_from_values():
    """Errors go through circuits whose angles have errors."""
    inner, outer = of(word, 100, seed=1), of(word, 400, seed=2)

    def chained(x):
        return outer(tf.stack([2 * inner(x), x[:, 1], x[:, 2]], 1))

    value, error = qshift.estimate(chained, rows(150))
    alone = qshift.estimate(outer, rows(5)).error
    assert np.mean(error) > 1.2 * np.mean(alone)
    assert np.mean(error) == pytest.approx(np.std(value), rel=0.2)


def test_several_qnodes_and_nests(tracker):
    one, other = of(word, 100, seed=1), of(variance, 300, seed=1)
    x = tf.constant(X)

    def losses(x, factor):
        a, b = one(x), other(x)
        return {"sum": factor * (a + b), "alone": (a, b)}

    value, error = qshift.estimate(losses, x, factor=2.0)
    assert tracker.totals["circuits"] == 2
    squares = error["alone"][0] ** 2 + error["alone"][1] ** 2
    assert float(error["sum"]) == pytest.approx(2 * np.sqrt(squares))
    assert value["sum"] == 2 * (value["alone"][0] + value["alone"][1])


def test_the_same_circuits_and_samples_as_without_errors(tracker):
    x = rows(2)
    found = qshift.estimate(gradient_of_loss(of(word, 200, seed=5)), x).value
    counted = dict(tracker.totals)
    plain = gradient_of_loss(of(word, 200, seed=5))(x)
    np.testing.assert_allclose(found, plain, rtol=1e-12)
    assert tracker.totals == {name: 2 * n for name, n in counted.items()}


def test_a_total_of_shots_is_taken_whole(tracker):
    node = of(word, qshift.Shots(total=900), seed=1)
    values, errors = qshift.estimate(gradient_of_loss(node), rows(80))
    assert tracker.totals["shots"] == 80 * 1800
    np.testing.assert_allclose(errors.numpy().mean(axis=0), np.std(values, axis=0), rtol=0.27)


def test_special_rows():
    x = np.array([[0.0, 0.0, 0.0], [np.nan, 0.1, 0.2], [np.pi, 1e13, 1e-9]])
    value, error = qshift.estimate(of(word, 50), tf.constant(x))
    assert np.isnan(error[1]) and np.isnan(value[1])
    assert (error.numpy()[[0, 2]] > 0).all() and (error.numpy()[[0, 2]] < 0.2).all()
    value, error = qshift.estimate(of(word, 50), tf.zeros([0, 3], tf.float64))
    assert value.shape == error.shape == (0,)


def test_precision_and_no_shots():
    value, error = qshift.estimate(of(word, 50), tf.constant(X, tf.float32))
    assert value.dtype == error.dtype == tf.float32 and error > 0
    for each in qshift.estimate(gradient_of_loss(of(word)), rows(1)).error:
        np.testing.assert_array_equal(each, np.zeros(3))
    # A function before it was compiled.
    assert qshift.estimate(tf.function(of(word, 50)), tf.constant(X)).error > 0


def test_keras_layers():
    layer = qshift.keras.QuantumLayer(
        of(lambda inputs, w: word(inputs + w), 100, seed=2), weight_shapes={"w": 3}
    )
    value, error = qshift.estimate(layer, rows(3))
    assert value.shape == error.shape and (error.numpy() > 0.01).all()


def test_several_gates_of_one_angle():
    def shared(x):
        for _ in range(3):
            qml.RX(x[..., 0], wires=0)
            qml.RY(0.3, wires=0)
        return qml.expval(qml.Z(0))

    values, errors = qshift.estimate(gradient_of_loss(of(shared, 200, seed=1)), rows(80)[:, :1])
    mean = errors.numpy()[:, 0].mean()
    assert mean == pytest.approx(np.std(values[:, 0]), rel=0.27)


def test_what_has_no_errors():
    x, node = tf.constant(X), of(word, 100)
    compiled = tf.function(node)
    with pytest.raises(UnsupportedError, match="called in a tf.function"):
        qshift.estimate(lambda x: node(x) + compiled(x), x)
    compiled(x)
    with pytest.raises(UnsupportedError, match="called in a tf.function"):
        qshift.estimate(lambda x: node(x) + compiled(x), x)

    def jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.stack([node(x), node(x)])
        return tape.jacobian(value, x)

    with pytest.raises(UnsupportedError, match="in a jacobian"):
        qshift.estimate(jacobian, x)

    def batch_jacobian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = node(x)[:, None]
        return tape.batch_jacobian(value, x)

    with pytest.raises(UnsupportedError, match="batch_jacobian of a persistent tape"):
        qshift.estimate(batch_jacobian, x[None])
    with pytest.raises(UnsupportedError, match="asked for in a tf.function"):
        tf.function(lambda x: qshift.estimate(node, x))(x)
    with pytest.raises(ValueError, match="does not depend on any qnode"):
        qshift.estimate(lambda x: tf.constant(node(x).numpy()), x)
    with pytest.raises(ValueError, match="does not depend on any qnode"):
        qshift.estimate(tf.sin, x)
    with pytest.raises(ValueError, match="floating-point tensors, and the function returns int64"):
        qshift.estimate(lambda x: tf.argmax(three(x)), x)
    with pytest.raises(UnsupportedError, match="not known with a shot vector"):
        qshift.estimate(of(word, [10, 20]), x)
    mixed = qshift.QNode(three_bases, qshift.device("mixed", wires=2), shots=100)
    with pytest.raises(UnsupportedError, match="which of them share samples"):
        qshift.estimate(lambda x: product(mixed)(x), x)


def test_batch_jacobians_in_eager_mode():
    def function(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            value = of(word, 100, seed=1)(x)[:, None] ** 2
        return tape.batch_jacobian(value, x, experimental_use_pfor=False)[:, 0]

    repetitions = 100
    value, error = qshift.estimate(function, rows(repetitions))
    np.testing.assert_allclose(
        np.sqrt(np.mean(error**2, axis=0)), np.std(value, axis=0), rtol=4 / np.sqrt(2 * repetitions)
    )


def test_qiskits_primitives():
    node = qshift.QNode(word, qshift.device("aer-shots", wires=2), shots=400)
    value, error = qshift.estimate(sine(node), tf.constant(X))
    assert abs(value - sine(of(word))(tf.constant(X))) < 6 * error
    assert error < 3.3 / 20


def three(x):
    return tf.stack(of(three_bases, 100)(x))
