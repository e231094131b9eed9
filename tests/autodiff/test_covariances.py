"""Variances of observables, corrected for what the squares of their means are too large by."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.autodiff.error_propagation import Propagation
from qshift.autodiff.requests import request
from qshift.errors import UnsupportedError
from qshift.executors.variances import variance_of_mean


def word(x):
    qml.RY(x[..., 0], wires=0)
    return qml.var(qml.Z(0))


def two(x):
    qml.RY(x[..., 0], wires=0)
    qml.CRX(x[..., 1], wires=[0, 1])


def two_bases(x):
    two(x)
    return qml.var(qml.Z(0) + 0.5 * qml.X(1) + 0.7 * qml.X(0))


def of(function, shots=None, **options):
    return qshift.QNode(function, qshift.device("simulator"), shots=shots, **options)


def rows(x, repetitions):
    return tf.constant(np.tile(np.atleast_1d(x), (repetitions, 1)))


def observed(function, x):
    """Returns what is computed where errors are asked for, without these."""
    with Propagation() as propagation, request(instead_of_running=propagation.run):
        return function(x).numpy()


def up_to_second_order(node):
    """Value, gradient and the diagonal of the Hessian of each row."""

    def function(x):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = node(x)
            entries = tf.unstack(inner.gradient(value, x), axis=1)
        seconds = [outer.gradient(each, x)[:, i] for i, each in enumerate(entries)]
        return tf.stack([value, *entries, *seconds], 1)

    return function


def test_the_value_and_the_error_of_a_word():
    """The samples are those of a call without errors, whose value says what they were."""
    shots, x = 40, rows(1.2, 60)
    plain = of(word, shots, seed=2)(x).numpy()
    value, error = qshift.estimate(of(word, shots, seed=2), x)
    mean = np.sqrt(1 - plain)
    spread, _ = variance_of_mean(mean, np.ones(60), -1.0, 1.0, shots)
    corrected = plain * shots / (shots - 1)
    np.testing.assert_allclose(value, corrected, atol=1e-14)
    np.testing.assert_allclose(error**2, 4 * mean**2 * spread + 6 * spread**2, atol=1e-14)
    value, error = qshift.estimate(lambda x: tf.sqrt(of(word, shots, seed=2)(x)), x[:5])
    np.testing.assert_allclose(value**2, corrected[:5], atol=1e-14)
    bent = (4 * mean**2 * spread + 6 * spread**2)[:5]
    np.testing.assert_allclose(error**2, bent / (4 * value**2), atol=1e-14)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_derivatives_without_the_bias_of_squares(prefetch):
    """At pi / 2 the value is too low by most of its deviation, and the second derivative too
    high."""

    def node():
        return of(word, 20, seed=4, prefetch=prefetch)

    x = rows(np.pi / 2, 2500)
    exact = up_to_second_order(of(word))(x[:1]).numpy()[0]
    plain = up_to_second_order(node())(x).numpy()
    found = observed(up_to_second_order(node()), x)
    chance = found.std(axis=0) / np.sqrt(len(found))
    before, after = plain.mean(axis=0) - exact, found.mean(axis=0) - exact
    assert before[0] < -25 * chance[0] and before[2] > 15 * chance[2]
    assert (np.abs(after) < 4 * chance).all()


def test_values_in_several_bases_without_the_bias_of_squares():
    x = rows([1.9, 0.8], 6000)
    exact, plain = of(two_bases)(x[:1]).numpy()[0], of(two_bases, 20, seed=4)(x).numpy()
    found = observed(of(two_bases, 20, seed=4), x)
    chance = found.std() / np.sqrt(len(found))
    assert plain.mean() - exact < -6 * chance
    assert abs(found.mean() - exact) < 4 * chance


def test_intervals_where_the_slope_is_not_much_larger_than_its_error():
    """With slopes of twice their error, 88 of 100 intervals would hold the exact variance to first
    order, and 78 where they are as large as their error."""
    shots, repetitions = 100, 300
    for mean, least in ((0.2, 0.93), (0.1, 0.97)):
        x = rows(np.arccos(mean), repetitions)
        value, error = qshift.estimate(of(word, shots, seed=5), x)
        share = np.mean(np.abs(value - (1 - mean**2)) <= 1.96 * error)
        assert share >= least - 2 * np.sqrt(0.95 * 0.05 / repetitions)
        assert np.mean(error) < 2 * np.std(value)


def test_several_results_of_one_circuit_share_their_samples():

    def apart(x):
        two(x)
        return qml.var(qml.Z(0)), qml.var(qml.Z(1)), qml.expval(qml.Z(0) @ qml.Z(1))

    x = rows([1.9, 0.8], 200)
    value, error = qshift.estimate(lambda x: tf.add_n(of(apart, 50, seed=1)(x)), x)
    exact = tf.add_n(of(apart)(x[:1])).numpy()
    share = np.mean(np.abs(value - exact) <= 1.96 * error)
    assert share >= 0.93 - 3 * np.sqrt(0.95 * 0.05 / 200)
    assert np.mean(error) == pytest.approx(np.std(value), rel=0.2)


def test_what_a_correction_alone_owes_to_chance():
    """A word's variance and the square of its mean add up to one; one of them is corrected."""

    def both(x):
        qml.RY(x[..., 0], wires=0)
        return qml.var(qml.Z(0)), qml.expval(qml.Z(0))

    def one(x):
        spread, mean = of(both, 40, seed=1)(x)
        return spread + mean**2

    value, error = qshift.estimate(one, rows(1.2, 4))
    mean = np.sqrt(1 - (value - 1) * 39)
    spread, _ = variance_of_mean(mean, np.ones(4), -1.0, 1.0, 40)
    assert np.all(value > 1)
    np.testing.assert_allclose(error, np.sqrt(6) * spread)


def hardly_visited(x):
    qml.RY(x[..., 0], wires=0)
    return qml.var(100 * qml.Z(1) + qml.Z(0))


def hardly_visited_eigenvalue(x):
    qml.RY(x[..., 0], wires=1)
    return qml.var(qml.Hermitian(np.diag([-1.0, 1.0, -1.0, 1000.0]), [0, 1]))


def many_words(x):
    for wire in range(6):
        qml.RY(x[..., 0], wires=wire)
    return qml.var(qml.sum(*map(qml.Z, range(6))))


def asymmetric(x):
    qml.RY(x[..., 0], wires=0)
    qml.CRY(x[..., 0], wires=[0, 1])
    return qml.var(qml.Z(0) + qml.Z(1) + qml.Z(0) @ qml.Z(1))


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "function, x",
    [
        (word, 1.2),
        (word, np.pi / 2),
        (hardly_visited, 1.2),
        (hardly_visited_eigenvalue, 1.2),
        (many_words, 0.5),
        (many_words, np.pi / 2),
        (asymmetric, 0.9),
    ],
)
@pytest.mark.parametrize("shots", [5, 50])
def test_the_correction_is_that_of_the_samples_alone(function, x, shots):
    """Outcomes that a state hardly has do not count, though errors allow for them."""
    points = rows(x, 2000)
    plain = of(function, shots, seed=3)(points).numpy()
    found = observed(of(function, shots, seed=3), points)
    unbiased = plain * shots / (shots - 1)
    np.testing.assert_allclose(found, unbiased, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shots", [5, 50])
def test_the_correction_in_several_bases_is_that_of_the_samples_alone(shots):
    """On the average what an outcome in each basis varies by, for each shot. Means in two bases
    cancel here, which says nothing of how much outcomes vary."""

    def pair(measured):
        def circuit(x):
            qml.RY(x[..., 0], wires=0)
            qml.CNOT(wires=[0, 1])
            return qml.var(measured)

        return circuit

    x = rows(np.pi / 2 - 0.6, 3000)
    a, b = qml.Z(0) @ qml.Z(1) + 0.3 * qml.Z(0), qml.X(0) @ qml.X(1) + 0.1 * qml.X(1)
    plain = of(pair(100 * a - 100 * b), shots, seed=3)(x).numpy()
    found = observed(of(pair(100 * a - 100 * b), shots, seed=3), x)
    added = found - plain
    expected = 1e4 * sum(of(pair(each))(x[:1]).numpy()[0] for each in (a, b)) / shots
    assert (added >= 0).all()
    assert abs(added.mean() - expected) < 4 * added.std() / np.sqrt(len(x)) < 0.1 * expected


def test_nothing_is_corrected_where_circuits_are_chosen_at_random(tracker):
    """How far the values of chosen circuits vary together is not known well enough."""
    shots = qshift.Shots(total=12)

    def value(x):
        with tf.GradientTape() as tape:  # derivatives are prefetched if a tape watches
            tape.watch(x)
            return of(two_bases, shots, seed=1, prefetch=2)(x[None])

    x = tf.constant([0.9, 0.6], tf.float64)
    found = observed(value, x)
    assert 0 < tracker.totals["shots"] <= 12
    assert of(two_bases, shots, prefetch=2).plan(x, order=2).circuits > 6
    np.testing.assert_array_equal(found, value(x))


def test_a_jacobian_in_a_graph_has_no_errors():
    """It is an error that says how to have them."""

    def jacobian(pfor):
        x = tf.constant([1.9, 0.8], tf.float64)
        with tf.GradientTape(persistent=not pfor) as tape:
            tape.watch(x)
            value = tf.stack([of(two_bases, 30, seed=1, prefetch=1)(x)])
        return tape.jacobian(value, x, experimental_use_pfor=pfor)

    with pytest.raises(UnsupportedError, match="tape.gradient in place of tape.jacobian"):
        qshift.estimate(jacobian, True)
    x = tf.constant([1.9, 0.8], tf.float64)
    expected = qshift.derivatives(of(two_bases, 30, seed=1, prefetch=1), x, errors=True)[1]
    for found, truth in zip(qshift.estimate(jacobian, False), expected, strict=True):
        np.testing.assert_allclose(found[0], truth, rtol=1e-9)


def test_a_constant_has_no_error():
    def moved(x):
        qml.RY(x[..., 0], wires=0)
        return qml.var(qml.Z(0) + 1000)

    for found, expected in zip(
        qshift.estimate(of(moved, 40, seed=1), rows(1.2, 3)),
        qshift.estimate(of(word, 40, seed=1), rows(1.2, 3)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected)


def test_observables_with_tensors_as_coefficients():
    def weighted(x, coefficients):
        two(x)
        return qml.var(qml.dot(coefficients, [qml.Z(0), qml.X(1), qml.X(0)]))

    x, coefficients = rows([1.9, 0.8], 6), tf.constant([1.0, 0.5, 0.7], tf.float64)
    value, error = qshift.estimate(of(two_bases, 30, seed=1), x)
    plain = of(two_bases, 30, seed=1)(x)

    def slope(coefficients):
        with tf.GradientTape() as tape:
            tape.watch(coefficients)
            found = of(weighted, 30, seed=1)(x, coefficients)
        return found, tape.gradient(found, coefficients)

    (found, gradient), (spread, _) = qshift.estimate(slope, coefficients)
    # Words are measured one by one here, in other bases; the sizes are the same.
    assert np.all(value > plain)
    np.testing.assert_allclose(found, value, atol=4 * np.max(error))
    assert np.mean(spread) == pytest.approx(np.mean(error), rel=0.4)
    # The variance is of second degree in the coefficients.
    np.testing.assert_allclose(tf.reduce_sum(found), tf.tensordot(gradient, coefficients, 1) / 2)


def test_a_word_that_is_there_twice():
    def halves(x, c):
        qml.RY(x[..., 0], wires=0)
        return qml.var(qml.Hamiltonian([c, 1 - c], [qml.Z(0), qml.Z(0)]))

    x, c = rows(1.2, 3), tf.constant(0.3, tf.float64)
    expected = qshift.estimate(of(word, 40, seed=1), x)
    for found, wanted in zip(qshift.estimate(of(halves, 40, seed=1), x, c), expected, strict=True):
        np.testing.assert_allclose(found, wanted)


def test_forward_mode_gives_the_same():
    x = rows([1.9, 0.8], 3)
    node = of(two_bases, 30, seed=3)

    def forward(x):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            value = node(x)
        return accumulator.jvp(value)

    def backward(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = node(x)
        return tf.reduce_sum(tape.gradient(value, x), 1)

    found = observed(forward, x)
    node = of(two_bases, 30, seed=3)
    np.testing.assert_allclose(found, observed(backward, x), rtol=1e-12)


def test_angles_with_errors():
    """The variance of a circuit whose angle is itself estimated."""
    inner = of(lambda x: (two(x), qml.expval(qml.X(1)))[1], 200, seed=1)
    outer = of(word, 200, seed=2)

    def chained(x):
        return outer(1.0 + inner(x)[:, None])

    x = rows([1.9, 0.8], 150)
    value, error = qshift.estimate(chained, x)
    assert np.mean(error) == pytest.approx(np.std(value), rel=0.2)


@pytest.mark.parametrize("shots", [1, 2, 3])
@pytest.mark.parametrize("x", [0.0, np.pi, np.pi / 2, 1e-9, 1e13])
def test_few_shots_and_special_angles(shots, x):
    value, error = qshift.estimate(of(word, shots, seed=1), rows(x, 20))
    exact = of(word)(rows(x, 1))
    assert np.isfinite(value).all() and np.all(np.abs(value - exact) <= 1.96 * error)


def test_special_rows_and_no_shots():
    value, error = qshift.estimate(of(word, 50), tf.constant([[np.nan]], tf.float64))
    assert np.isnan(value) and np.isnan(error)
    value, error = qshift.estimate(of(word, 50), tf.zeros([0, 1], tf.float64))
    assert value.shape == error.shape == (0,)
    x = rows([1.9, 0.8], 3)
    value, error = qshift.estimate(of(two_bases), x)
    np.testing.assert_array_equal(value, of(two_bases)(x))
    np.testing.assert_array_equal(error, np.zeros(3))
    value, error = qshift.estimate(of(word, 50), tf.constant([[0.3]], tf.float32))
    assert value.dtype == error.dtype == tf.float32


def test_derivatives_with_errors_and_without():
    x = tf.constant([1.9, 0.8], tf.float64)
    shots = qshift.Shots(total=4000)
    found = qshift.derivatives(of(two_bases, shots, seed=1), x, order=2, errors=True)
    exact = qshift.derivatives(of(two_bases), x, order=2)
    for each, wanted in zip(found, exact, strict=True):
        assert np.all(np.abs(each.value - wanted) < 5 * each.error)
    # Without errors, values are PennyLane's.
    (value,) = qshift.derivatives(of(word, 10, seed=1), x[:1], order=0)
    assert value == of(word, 10, seed=1)(x[:1])
    (estimate,) = qshift.derivatives(of(word, 10, seed=1), x[:1], order=0, errors=True)
    assert estimate.value > value


def test_devices_of_pennylane():
    node = qshift.QNode(word, qml.device("default.mixed", wires=1), shots=20, seed=1)
    value, error = qshift.estimate(node, tf.constant([np.pi / 2], tf.float64))
    assert abs(value - 1) <= 1.96 * error < 0.5
