"""Gradients of losses over a batch: shots go to the rows whose residuals are large."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift

ROWS = 16
RNG = np.random.default_rng(2)
INPUTS = RNG.uniform(-1, 1, size=(ROWS, 2))
# Most rows are fitted well, and a few are not.
RESIDUALS = np.where(np.arange(ROWS) % 8 == 0, 0.8, 0.02) * (1 + 0.1 * RNG.random(ROWS))
W = np.array([0.4, -0.7])


def gates(inputs, w):
    for j in range(2):
        qml.RX(inputs[..., j], wires=j)
        qml.RY(w[j], wires=j)
    qml.CNOT(wires=[0, 1])
    qml.RX(0.3, wires=1)


def circuit(inputs, w):
    gates(inputs, w)
    return qml.expval(qml.Z(1))


def of(shots=None, function=circuit, **options):
    return qshift.QNode(function, qshift.device("simulator"), shots=shots, **options)


EXACT = of()
TARGETS = EXACT(INPUTS, W).numpy() - RESIDUALS


def gradient(node, w, targets=TARGETS):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((node(INPUTS, w) - targets) ** 2)
    return tape.gradient(loss, w)


def keras_step(node):
    """Returns a function that takes a compiled training step, and returns the gradient."""
    layer = qshift.keras.QuantumLayer(node, weight_shapes={"w": 2})
    model = tf.keras.Sequential([tf.keras.Input((2,), dtype=tf.float64), layer])
    model.build((None, 2))
    start = W.astype(np.float32)
    model.compile(tf.keras.optimizers.SGD(1.0), "mse")

    def step():
        model.set_weights([start])
        model.train_on_batch(INPUTS, TARGETS)
        return start - model.get_weights()[0]

    return step


@pytest.fixture(scope="module")
def exact():
    return gradient(EXACT, tf.Variable(W)).numpy()


def linear(node, w):
    """The gradient of a loss whose weights are known, whatever the values are."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(node(INPUTS, w) * RESIDUALS)
    return tape.gradient(loss, w)


def ways(node):
    w = tf.Variable(W)
    return {
        "known weights": lambda: linear(node, w),
        "compiled": tf.function(lambda: gradient(node, w)),
        "keras": keras_step(node),
    }


@pytest.mark.parametrize("way", ["known weights", "compiled", "keras"])
def test_large_residuals_get_the_shots(way, tracker):
    """As many shots as ever, a smaller variance, and no bias. A seeded qnode takes the same samples
    for all weights, and so equally many for all rows."""
    exact = (linear if way == "known weights" else gradient)(EXACT, tf.Variable(W)).numpy()
    variances = {}
    for seed in (None, 1):
        run, repetitions = ways(of(400, seed=seed))[way], 150
        run()
        tracker.reset()
        found = np.array([run() for _ in range(repetitions)])
        # A circuit for the value, and two for each derivative.
        assert tracker.totals["shots"] == pytest.approx(repetitions * 400 * ROWS * 5, rel=1e-3)
        errors = found.std(axis=0) / np.sqrt(repetitions)
        assert (np.abs(found.mean(axis=0) - exact) < 4.5 * errors + 1e-6).all()
        variances[seed] = found.var(axis=0).sum()
    # Residuals have errors, too, which are the same in both ways.
    assert variances[None] < (0.5 if way == "known weights" else 0.8) * variances[1]


@pytest.mark.parametrize("returned", [False, True])
def test_a_compiled_gradient_whose_value_nobody_reads(returned, tracker):
    """TensorFlow leaves the values out, whose shots the gradient by two parts would reckon with."""
    w, inputs = tf.Variable(W), tf.constant(INPUTS)

    def gradients(node):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(node(inputs, w) * RESIDUALS)
        found = tape.gradient(loss, [inputs, w])
        return (*found, loss) if returned else tuple(found)

    exact, node = gradients(EXACT), of(200)
    run = tf.function(lambda: gradients(node))
    run()
    tracker.reset()
    found = [run() for _ in range(20)]
    assert tracker.totals["shots"] == 20 * ROWS * 200 * (8 + returned)
    for each, truth in zip(zip(*found, strict=True), exact, strict=True):
        errors = np.std(each, axis=0) / np.sqrt(len(found))
        assert (np.abs(np.mean(each, axis=0) - truth) < 6 * errors + 1e-6).all()


def test_rows_without_a_weight_are_not_run(tracker):
    w = tf.Variable(W)
    node = of(100)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(node(INPUTS, w)[3:5] * [1.0, 2.0])
    tracker.reset()
    found = tape.gradient(loss, w)
    assert tracker.totals["circuits"] == 2 * 4 and tracker.totals["shots"] == 2 * 4 * 100
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(EXACT(INPUTS, w)[3:5] * [1.0, 2.0])
    np.testing.assert_allclose(found, tape.gradient(loss, w), atol=1.0)


def test_a_second_loss_reads_what_all_share(tracker):
    """Samples for one loss serve no other: what a second one is given is as precise as planned."""
    w, node = tf.Variable(W), of(100)
    with tf.GradientTape(persistent=True) as tape:
        value = node(INPUTS, w)
        first, second, last = value[0], value[1], value[2]
    one = tape.gradient(first, w)
    tracker.reset()
    np.testing.assert_array_equal(tape.gradient(first, w), one)
    assert not tracker.totals["circuits"]
    tape.gradient(second, w)
    assert tracker.totals["shots"] == ROWS * 4 * 100
    third = tape.gradient(last, w)
    assert tracker.totals["shots"] == ROWS * 4 * 100
    with tf.GradientTape() as tape:
        value = EXACT(INPUTS, w)[2]
    np.testing.assert_allclose(third, tape.gradient(value, w), atol=0.5)


@pytest.mark.parametrize("compiled", [False, True])
def test_higher_orders_cost_what_they_did(compiled, tracker):
    """A gradient that is differentiated once more is read off samples that the next order shares;
    a product with the Hessian takes shots for its vector."""
    w, node = tf.Variable(W), of(50)

    def products():
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss = tf.reduce_sum(node(INPUTS, w) * np.arange(ROWS))
            slope = tf.tensordot(inner.gradient(loss, w), np.array([1.0, 0.5]), 1)
        return outer.gradient(slope, w)

    run = tf.function(products) if compiled else products
    found = np.array([run() for _ in range(40)])
    # Value and gradient of all rows, then six circuits of the rows with a weight. Of a compiled
    # function nobody reads these two, and the product alone takes seven.
    circuits = 15 * 7 if compiled else ROWS * 5 + 15 * 6
    assert tracker.totals["shots"] == 40 * 50 * circuits
    exact, node = found.mean(axis=0), EXACT
    np.testing.assert_allclose(exact, products(), atol=4.5 * found.std(axis=0).max() / 40**0.5)


def test_jacobians_are_those_of_all_rows(tracker):
    w, node = tf.Variable(W), of(100)
    for pfor in (True, False):
        tracker.reset()
        with tf.GradientTape(persistent=not pfor) as tape:
            value = node(INPUTS, w)
        found = tape.jacobian(value, w, experimental_use_pfor=pfor)
        with tf.GradientTape() as tape:
            value = EXACT(INPUTS, w)
        np.testing.assert_allclose(found, tape.jacobian(value, w), atol=0.6)
        assert tracker.totals["shots"] <= (5 * ROWS + 4) * 100


@pytest.mark.parametrize(
    "shots",
    [
        qshift.Shots(total=400),
        qshift.Shots(total=6),
        qshift.Shots(per_circuit=100, pilot=0.2),
        qshift.Shots(error=0.05),
        qshift.Shots(per_circuit=100, equal=True),
    ],
)
def test_other_shots(shots, exact, tracker):
    """A total is one for each row on the average; wanted errors are those of derivatives."""
    w, node = tf.Variable(W), of(shots)
    gradient(node, w)
    if shots.total:
        assert tracker.totals["shots"] == pytest.approx(2 * shots.total * ROWS, abs=2)
    found = np.array([gradient(node, w) for _ in range(60)])
    errors = found.std(axis=0) / np.sqrt(60)
    assert (np.abs(found.mean(axis=0) - exact) < 4.5 * errors).all()


@pytest.mark.parametrize("compiled", [False, True])
def test_special_rows(compiled, tracker):
    """Angles that are no numbers, exact residuals, extreme weights, no rows."""
    inputs = INPUTS[:5].copy()
    inputs[1], inputs[2, 0], inputs[3] = np.nan, 1e13, [np.pi, 1e-9]
    node = of(100)

    def of_loss(node, weights):
        w = tf.Variable(W)

        def run():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.math.multiply_no_nan(node(inputs, w), weights))
            return tape.gradient(loss, w)

        return (tf.function(run) if compiled else run)()

    for weights in ([1.0, 0.0, 1.0, 2.0, 0.0], [1e-30, 0.0, 1e-30, 1e-32, 0.0], [0.0] * 5):
        found, right = of_loss(node, weights).numpy(), of_loss(EXACT, weights).numpy()
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, right, atol=np.max(weights))
    assert np.isnan(of_loss(node, [1.0] * 5).numpy()).all()
    inputs = inputs[:0]
    np.testing.assert_array_equal(of_loss(node, []), np.zeros(2))


def test_several_values():
    """Probabilities have a weight each."""

    def probabilities(inputs, w):
        gates(inputs, w)
        return qml.probs(wires=1)

    w, node = tf.Variable(W), of(200, probabilities)
    targets = np.stack([1 + TARGETS, 1 - TARGETS], axis=1) / 2

    def of_loss(node):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.reduce_sum((node(INPUTS, w) - targets) ** 2, 1))
        return tape.gradient(loss, w)

    found = np.array([of_loss(node) for _ in range(60)])
    right = of_loss(of(None, probabilities))
    errors = found.std(axis=0) / np.sqrt(60)
    assert (np.abs(found.mean(axis=0) - right) < 4.5 * errors).all()
