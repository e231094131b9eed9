"""Standard errors of values and derivatives: they are those of repeated calls, and 95 of 100
intervals hold what they should. Which arguments are differentiated by."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.api.estimate import Estimate
from qshift.errors import UnsupportedError

X = np.array([0.4, -1.1, 0.8])


def circuit(x):
    qml.RY(0.5, wires=0)
    qml.RX(x[0], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.RY(2 * x[1] + 0.3, wires=1)
    qml.CRX(x[2], wires=[0, 1])
    qml.RZ(x[0] - x[2], wires=0)
    qml.RX(0.7, wires=0)


def words(x):
    circuit(x)
    return qml.expval(qml.Z(0) @ qml.Z(1))


def three_bases(x):
    circuit(x)
    observable = qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0) - 0.7 * qml.Y(1) + 0.3 * qml.Z(1) + qml.X(1)
    return qml.expval(observable)


def probabilities(x):
    circuit(x)
    return qml.probs(wires=[0, 1])


def of(function, shots, **options):
    return qshift.QNode(function, qshift.device("simulator"), shots=shots, **options)


def coverage(function, shots, order, repetitions, **options):
    """Returns how many intervals of 1.96 errors hold the exact entries, for each order."""
    node, x = of(function, shots, seed=1), tf.constant(X)
    exact = qshift.derivatives(of(function, None), x, order=order, **options)
    inside = [[] for _ in exact]
    for _ in range(repetitions):
        for k, found in enumerate(qshift.derivatives(node, x, order=order, errors=True, **options)):
            assert isinstance(found, Estimate)
            held = np.abs(found.value - exact[k]) <= 1.96 * found.error + 1e-12
            inside[k].append(np.asarray(held))
    return [np.mean(each) for each in inside]


def slack(repetitions):
    """Returns three standard deviations of a share of about 95 % of so many calls."""
    return 3 * np.sqrt(0.95 * 0.05 / repetitions)


@pytest.mark.parametrize("function", [words, three_bases, probabilities])
def test_coverage_with_100_shots(function):
    chance = slack(150)
    for share in coverage(function, 100, 2, 150):
        assert 0.93 - chance <= share <= 0.975 + chance


def test_coverage_with_20_shots():
    assert min(coverage(words, 20, 2, 150)) >= 0.91 - slack(150)


def test_coverage_of_equal_shots_and_of_diagonals():
    equal = qshift.Shots(per_circuit=100, equal=True)
    chance = slack(100)
    for share in coverage(words, equal, 2, 100, diagonal=True):
        assert 0.93 - chance <= share <= 0.975 + chance


@pytest.mark.parametrize("device", ["simulator", "mixed"])
def test_errors_are_the_deviations_of_repeated_calls(device):
    node = qshift.QNode(words, qshift.device(device, wires=2), shots=300)
    x, values, errors = tf.constant(X), [], []
    for _ in range(60):
        found = qshift.derivatives(node, x, order=1, errors=True)
        values.append([found[0].value, *found[1].value])
        errors.append([found[0].error, *found[1].error])
    # Sixty calls give deviations to a tenth.
    np.testing.assert_allclose(np.mean(errors, axis=0), np.std(values, axis=0), rtol=0.4)


def test_values_are_those_without_errors(tracker):
    x = tf.constant(X)
    given = qshift.derivatives(of(three_bases, 100, seed=4), x, order=2, errors=True)
    counted = dict(tracker.totals)
    plain = qshift.derivatives(of(three_bases, 100, seed=4), x, order=2)
    assert {name: 2 * n for name, n in counted.items()} == tracker.totals
    for one, other in zip(given, plain, strict=True):
        np.testing.assert_array_equal(one.value, other)
        assert one.error.shape == one.value.shape and one.error.dtype == one.value.dtype
        assert (one.error.numpy() > 0).any()


def test_the_value_alone_and_no_shots():
    (value,) = qshift.derivatives(of(words, 100, seed=2), tf.constant(X), order=0, errors=True)
    assert 0 < value.error < 0.11
    for found in qshift.derivatives(of(words, None), tf.constant(X), order=2, errors=True):
        np.testing.assert_array_equal(found.error, np.zeros_like(found.value))


def test_several_arguments():
    def both(x, y):
        qml.RX(x, wires=0)
        qml.RY(y[0] + x, wires=0)
        qml.RX(y[1], wires=0)
        return qml.expval(qml.Z(0))

    x, y = tf.constant(0.3, tf.float64), tf.constant([0.2, 0.9], tf.float64)
    value, gradient, hessian = qshift.derivatives(of(both, 500), x, y, order=2, errors=True)
    assert value.error.shape == ()
    assert [each.shape for each in gradient.error] == [(), (2,)]
    assert hessian.error[1][0].shape == hessian.value[1][0].shape == (2,)
    assert hessian.error[0][1].dtype == hessian.value[0][1].dtype


def test_near_one_no_interval_is_empty():
    def nearly(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    (value,) = qshift.derivatives(of(nearly, 50, seed=1), 0.0, order=0, errors=True)
    assert value.value == 1.0 and 0.02 < value.error < 0.06


def variance(x):
    circuit(x)
    return qml.var(qml.Z(0))


def curved(x):
    return words(tf.sin(x))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["variance", "sine", "curved"])
def test_errors_of_any_function(name):
    """The errors of all orders are the deviations of repeated calls."""
    function = {"variance": variance, "sine": words, "curved": curved}[name]
    x, node, exact = tf.constant(X), of(function, 400, seed=2), of(function, None)

    def made(node):
        return lambda x: tf.sin(node(x)) if name == "sine" else node(x)

    right = qshift.derivatives(made(exact), x, order=2)
    pulls = []
    for _ in range(10):
        found = qshift.derivatives(made(node), x, order=2, errors=True)
        each = [(f.value - r) / f.error for f, r in zip(found, right, strict=True)]
        pulls.append(np.concatenate([np.ravel(part) for part in each]))
    # Ten calls of ten numbers, some of which share samples.
    assert np.abs(pulls).max() < 5
    assert 0.5 < np.mean(np.square(pulls)) < 1.6


def test_constant_derivatives_have_no_error():
    node = of(words, 100)
    factor = node(tf.constant(X))

    def line(x):
        return x * tf.stop_gradient(node(tf.constant(X))) + 0 * factor + x * node(tf.constant(X))

    value, slope, curvature = qshift.derivatives(line, 0.7, order=2, errors=True)
    assert value.error > 0 and slope.error > 0
    assert curvature.value == curvature.error == 0


def test_what_has_no_errors():
    x = tf.constant(X)
    with pytest.raises(UnsupportedError, match="not known with a shot vector"):
        qshift.derivatives(of(words, [10, 20]), x, errors=True)
    sampled = qshift.QNode(three_bases, qshift.device("mixed", wires=2), shots=100)
    with pytest.raises(UnsupportedError, match="does not follow from its value"):
        qshift.derivatives(sampled, x, errors=True)
    with pytest.raises(ValueError, match="Give either partials, or"):
        qshift.derivatives(of(words, 100), x, partials=[(0,)], errors=True)


# Numbers, lists and arrays alike


def turned(x):
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=0)
    return qml.expval(qml.Z(0))


def of_one(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


def layered(count, x):
    for _ in range(count):
        qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize("through", [lambda node: node, lambda node: lambda x: 1.0 * node(x)])
@pytest.mark.parametrize(
    "function, given",
    [
        (of_one, 1),
        (of_one, np.int64(1)),
        (of_one, np.array(1)),
        (turned, [1, 2]),
        (turned, (1, 2)),
        (turned, np.array([1, 2], np.int32)),
    ],
)
def test_whole_numbers_are_angles_like_others(function, given, through):
    node = of(function, None)
    expected = qshift.derivatives(node, np.asarray(given, float), order=2)
    found = qshift.derivatives(through(node), given, order=2)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-14)
        assert one.dtype == tf.float64 and one.shape == other.shape
    assert node.plan(given, order=2) == node.plan(np.asarray(given, float), order=2)
    qshift.check_derivatives(node, given)
    named = qshift.derivatives(node, given, argnums=0)[1]
    np.testing.assert_allclose(named, expected[1], atol=1e-14)


def test_whole_numbers_beside_others_are_constants():
    node, x = of(layered, None), 0.4
    value, (slope,) = qshift.derivatives(node, 3, x)
    np.testing.assert_allclose([value, slope], [np.cos(3 * x), -3 * np.sin(3 * x)], atol=1e-14)
    assert node.plan(3, x).shared == ("RX with 2 more: 3 frequencies",)


def test_a_count_is_no_angle_where_a_variable_is():
    x = tf.Variable(0.4, dtype=tf.float64)
    node = of(lambda count: layered(count, x), None)
    assert node.plan(3).shared == ("RX with 2 more: 3 frequencies",)
    assert of(lambda count: layered(count, 0.3), None).plan(3).parameters == 0


@pytest.mark.parametrize("given", [tf.constant([1, 2]), True, "a", None, [[1, 2], [3]]])
def test_what_is_no_number_is_an_error(given):
    with pytest.raises(ValueError, match="nothing to differentiate by.*Give numbers, arrays or"):
        qshift.derivatives(of(turned, None), given)
