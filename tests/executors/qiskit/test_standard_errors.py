"""Standard errors on Qiskit's primitives are those of repeated measurements."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit.quantum_info import SparsePauliOp
from references import compiled, exact, random_points, several
from services import Service, process, remote

import qshift
from qshift.executors.executor import Call
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.observables import parted
from qshift.executors.qiskit.standard_errors import Moments

WORDS = qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0) - 0.7 * qml.Y(1) + 0.3 * qml.Z(1) + qml.X(1)


def energy(x):
    qml.RY(0.5, wires=0)
    qml.RX(x[0], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.RY(2 * x[1] + 0.3, wires=1)
    return qml.expval(WORDS)


def five_words(shots):
    """Five words in three bases, a multiple of one word, and the probabilities of a qubit."""
    a, b = (tf.constant(angle, tf.float64) for angle in (0.4, -1.1))
    gates = [qml.RX(a, 0), qml.CNOT([0, 1]), qml.RY(b, 1), qml.RY(0.7, 0)]
    return compiled(gates, [qml.expval(WORDS), qml.expval(2 * qml.Z(0)), qml.probs(wires=1)], shots)


def repeated(executor, circuit, repetitions, point):
    points = np.repeat(point, repetitions, axis=0)
    return executor.sample(circuit, points, Call(1))


@pytest.mark.parametrize("shots", [20, 100])
def test_intervals_hold_the_exact_values(shots):
    circuit, repetitions = five_words(shots), 150
    point = random_points(circuit, 1, seed=3)
    executor = EstimatorDevice(2, "aer", seed=5)._executor
    values, variances, _ = repeated(executor, circuit, repetitions, point)
    truth = exact(circuit, point)
    inside = (np.abs(values - truth) <= 1.96 * np.sqrt(variances)).mean(axis=0)
    chance = 3 * np.sqrt(0.95 * 0.05 / repetitions)
    lowest = 0.91 if shots == 20 else 0.93
    assert (inside > lowest - chance).all() and (inside < 0.975 + chance).all()
    # So many calls give deviations to 6 %.
    found = np.sqrt(variances.mean(axis=0)) / values.std(axis=0)
    assert (np.abs(found - 1) < 0.2 + 1 / shots).all()


def test_noise_and_several_values_from_the_same_samples():
    circuit = several(200)
    executor = EstimatorDevice(3, "fake:FakeManilaV2", seed=2)._executor
    values, variances, _ = repeated(executor, circuit, 80, random_points(circuit, 1))
    found = np.sqrt(variances.mean(axis=0)) / values.std(axis=0)
    assert (np.abs(found - 1) < 0.3).all()


def test_values_are_those_of_the_same_seed_without_errors():
    circuit = five_words(50)
    points = random_points(circuit, 20)  # more than a block
    of = lambda: EstimatorDevice(2, "aer", seed=5)._executor  # noqa: E731
    given, plain = of().sample(circuit, points, Call(1))[0], of().run(circuit, points, Call(1))
    # The same bases, though in another order for the seed.
    assert given.shape == plain.shape
    np.testing.assert_allclose(given.mean(axis=0), plain.mean(axis=0), atol=0.2)
    again = of().sample(circuit, points, Call(1))[0]
    np.testing.assert_array_equal(given, again)


def test_where_all_samples_are_equal_no_error_is_zero():
    x = tf.constant(0.0, tf.float64)
    circuit = compiled([qml.RX(x, 0)], [qml.expval(3 * qml.Z(0)), qml.probs(wires=0)], 50)
    values, variances, _ = EstimatorDevice(1, "aer")._executor.sample(
        circuit, np.zeros((1, 1)), Call(1)
    )
    np.testing.assert_array_equal(values, [[3.0, 1.0, 0.0]])
    assert (np.sqrt(variances) > [0.06, 0.01, 0.01]).all() and (np.sqrt(variances) < 0.2).all()


def test_derivatives_have_errors(tracker):
    x = tf.constant([0.4, -1.1], tf.float64)
    device = EstimatorDevice(2, "aer", seed=3)
    node = qshift.QNode(energy, device, shots=4000)
    found = qshift.derivatives(node, x, order=2, errors=True)
    counted = dict(tracker.totals)
    assert counted["jobs"] == 1 and counted["shots"] == node.plan(x, order=2).shots
    right = qshift.derivatives(qshift.QNode(energy, qml.device("default.qubit")), x, order=2)
    for each, truth in zip(found, right, strict=True):
        assert np.all(np.abs(each.value - truth) < 5 * each.error)
        assert np.all(each.error > 0) and np.all(each.error < 0.3)


def test_angles_that_are_not_finite_have_no_error():
    circuit = five_words(50)
    points = np.array([[0.1, np.nan], [0.1, 0.2]])
    values, variances, _ = EstimatorDevice(2, "aer")._executor.sample(circuit, points, Call(1))
    assert np.isnan(values[0]).all() and np.isnan(variances[0]).all()
    assert np.isfinite(values[1]).all() and (variances[1] > 0).all()


@pytest.mark.parametrize("service", [False, True])
def test_the_ledger_has_the_errors_too(service, tmp_path, monkeypatch, tracker):
    """What was stored without errors being asked for has those of Qiskit's estimator."""
    circuit, there = five_words(100), Service()
    points = random_points(circuit, 3)

    def device(name):
        options = {"wires": 2, "ledger": tmp_path / name}
        return (remote(there, **options) if service else EstimatorDevice(**options))._executor

    with process(monkeypatch):
        first = device("with").sample(circuit, points, Call(1))
        plain = device("without").run(circuit, points, Call(1))
    tracker.reset()
    with process(monkeypatch):
        again = device("with").sample(circuit, points, Call(1))
        values, variances, _ = device("without").sample(circuit, points, Call(1))
    assert not any(tracker.totals.values())
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(values, plain)
    # Upper bounds of sums, and the same for words and probabilities.
    assert (variances[:, 0] > 1.2 * first[1][:, 0]).all()
    single = values[:, 1]
    expected = (4 + 4 * 4 / 100 - single**2 * 100 / 104) / 104
    np.testing.assert_allclose(variances[:, 1], expected, rtol=1e-6)


def test_parts_are_measured_in_one_basis():
    observables = [
        SparsePauliOp(["ZZ", "IX", "YI", "ZI", "XI"], [1, 0.5, -0.7, 0.3, 1]),
        SparsePauliOp(["ZI"], [2]),
    ]
    parts = parted(observables)
    assert [len(each) for each in parts] == [3, 1]
    for some, observable in zip(parts, observables, strict=True):
        assert sum(some).equiv(observable)
    moments = Moments(observables)
    rng = np.random.default_rng(1)
    state = rng.normal(size=4) + 1j * rng.normal(size=4)
    state /= np.linalg.norm(state)
    mean = lambda each: np.vdot(state, each.to_matrix() @ state).real  # noqa: E731
    means = np.array([[mean(each) for each in (*observables, *moments.added)]])
    of = lambda part: mean(part @ part) - mean(part) ** 2  # noqa: E731
    expected = [np.sqrt(sum(map(of, some)) / 100) for some in parts]
    np.testing.assert_allclose(moments.errors(means, 100), [expected], rtol=1e-12)


def test_sums_of_very_many_words_are_left_to_the_estimator():
    words = ["".join("Z" if i in pair else "I" for i in range(60)) for pair in zip(range(60))]
    moments = Moments([SparsePauliOp(words, np.ones(60))])
    assert not moments.added and not moments.is_enough
