"""Estimated variances, against binomial distributions and against repeated samples."""

from dataclasses import replace

import numpy as np
import pennylane as qml
import pytest
from references import random_points, several
from scipy.stats import binom

from qshift.errors import UnsupportedError
from qshift.executors import registry
from qshift.executors.executor import Call, Executor
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.variances import constants, covariance_of_means, of_one_shot, variance_of_mean


@pytest.mark.parametrize("lowest, highest", [(-1.0, 1.0), (0.0, 1.0), (-3.0, -2.0), (1e6, 1e6 + 1)])
def test_four_outcomes_are_added(lowest, highest):
    """The same as the variance of a list of outcomes that has the four."""
    rng = np.random.default_rng(0)
    middle = (lowest + highest) / 2
    for shots in (2, 20, 1000):
        outcomes = rng.choice([lowest, middle, highest], p=[0.3, 0.2, 0.5], size=shots)
        longer = np.append(outcomes, 2 * [lowest, highest])
        found, added = variance_of_mean(
            outcomes.mean(), (outcomes**2).mean(), lowest, highest, shots
        )
        assert found == pytest.approx(longer.var() / shots, rel=1e-3)
        assert found - added == pytest.approx(outcomes.var() / shots, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("shots", [2, 30, 1000])
def test_covariances_are_those_of_outcomes(shots):
    """On the diagonal as for one mean; off it those of the samples."""
    rng = np.random.default_rng(0)
    lowest, highest = np.array([-1.0, 0.0, -3.0]), np.array([1.0, 1.0, 5.0])
    outcomes = np.where(rng.random((shots, 3)) < rng.random((shots, 1)), lowest, highest)
    means, products = outcomes.mean(axis=0)[None], (outcomes.T @ outcomes)[None] / shots
    found, added = covariance_of_means(means, products, lowest, highest, shots)
    squares = (outcomes**2).mean(axis=0)
    variances, _ = variance_of_mean(means[0], squares, lowest, highest, shots)
    np.testing.assert_allclose(np.diagonal(found[0]), variances)
    expected = np.cov(outcomes.T, ddof=0) / shots
    np.testing.assert_allclose(found[0] - np.diag(added[0]), expected, atol=1e-12)
    assert (np.linalg.eigvalsh(found) > -1e-12).all()


def test_an_observable_without_outcomes_has_no_variance():
    found = variance_of_mean(np.float64(2.0), np.float64(4.0), 2.0, 2.0, 10)
    np.testing.assert_array_equal(found, [0.0, 0.0])


def test_errors_of_a_service_may_be_larger_than_its_outcomes_allow():
    """Mitigation adds to them, and outcomes that are added take nothing off."""
    found, added = variance_of_mean(np.float64(0.2), np.float64(9.0), -1.0, 1.0, 10)
    assert found == pytest.approx((9 - 0.04) / 10) and added == 0.0


def intervals(shots):
    """Returns the ends of the intervals of 1.96 errors of a word, for each count there may be."""
    means = 2 * np.arange(shots + 1) / shots - 1
    variances, _ = variance_of_mean(means, np.ones_like(means), -1.0, 1.0, shots)
    return means - 1.96 * np.sqrt(variances), means + 1.96 * np.sqrt(variances)


def chances(shots, values):
    """Returns how likely these hold values, each between -1 and 1."""
    left, right = intervals(shots)
    inside = (left <= values[:, None]) & (values[:, None] <= right)
    odds = (1 + values[:, None]) / 2
    return (binom.pmf(np.arange(shots + 1), shots, odds) * inside).sum(axis=1)


@pytest.mark.parametrize("shots, least", [(20, 0.8999), (50, 0.921), (100, 0.926), (400, 0.931)])
def test_coverage_of_each_value(shots, least):
    """The chance jumps where an interval ends, as for any of a number of outcomes, and is least on
    one side of such a jump. It is large enough there, and on the average what it should be."""
    ends = np.concatenate(intervals(shots))
    beside = np.concatenate([ends - 1e-9, ends + 1e-9])
    assert chances(shots, beside[np.abs(beside) < 1]).min() >= least
    assert 0.945 <= chances(shots, np.linspace(-1, 1, 2001)).mean() <= 0.96


@pytest.mark.parametrize("shots, least", [(20, 0.91), (100, 0.93), (1000, 0.93)])
@pytest.mark.parametrize("lowest", [-0.9999, 0.9])
def test_coverage_of_values(shots, least, lowest):
    """Intervals of 1.96 errors hold the value in about 95 of 100 cases on the average over values,
    also near one, where nearly all of those hold it that have few samples of the rare outcome."""
    found = chances(shots, np.linspace(lowest, 0.9999, 801)).mean()
    assert least <= found
    assert found <= (0.975 if lowest < 0 else 0.985) or shots == 20


def executors():
    return {
        "simulator": registry.executor(qml.device("lightning.qubit", wires=3), 3),
        "default.qubit": PennyLaneExecutor(qml.device("default.qubit", wires=3), 3),
    }


def words(shots):
    """Pauli words and probabilities, of which every executor knows the errors."""
    circuit = several(shots)
    observables = qml.Z(0) @ qml.X(1), qml.s_prod(-2.0, qml.Y(2)), qml.Identity(0)
    measurements = (*map(qml.expval, observables), qml.probs(wires=[0, 1]))
    return replace(circuit, measurements=measurements, sizes=(1, 1, 1, 4))


@pytest.mark.parametrize("name", ["simulator", "default.qubit"])
@pytest.mark.parametrize("own", [False, True])
def test_variances_are_those_of_repeated_samples(name, own):
    circuit, executor = words(400), executors()[name]
    points = np.repeat(random_points(circuit, 1), 300, axis=0)
    shots = np.full(300, 50) if own else None
    values, variances, _ = executor.estimates(circuit, points, Call(1, shots=shots))
    assert values.shape == variances.shape == (300, 7)
    np.testing.assert_allclose(values[:, 2], 1.0, rtol=1e-14)
    assert (variances[:, 2] < 1e-17).all()
    rest = [0, 1, 3, 4, 5, 6]
    seen = values[:, rest].var(axis=0, ddof=1)
    # The variance of 300 samples has a deviation of 8 %, and four outcomes in 50 add at most 24 %.
    np.testing.assert_allclose(variances[:, rest].mean(axis=0), seen, rtol=0.45)


@pytest.mark.parametrize("own", [False, True])
def test_covariances_are_those_of_repeated_samples(own):
    circuit, executor = words(400), executors()["simulator"]
    points = np.repeat(random_points(circuit, 1), 2000, axis=0)
    shots = np.full(2000, 50) if own else None
    call = Call(1, shots=shots)
    values, covariances, added = executor.estimates(circuit, points, call, jointly=True)
    plain, variances, _ = executors()["simulator"].estimates(circuit, points, Call(1, shots=shots))
    np.testing.assert_array_equal(values, plain)
    np.testing.assert_allclose(np.diagonal(covariances, axis1=1, axis2=2), variances, atol=1e-15)
    seen = np.cov(values.T)
    size = np.sqrt(np.outer(np.diagonal(seen), np.diagonal(seen)))
    mean = covariances.mean(axis=0) - np.diag(added.mean(axis=0))
    # A covariance of 2,000 rows has a deviation of 2 % of the deviations' product.
    assert (np.abs(mean - seen) <= 0.13 * size + 1e-9).all()
    assert (added >= 0).all() and added.mean() < 0.25 * np.diagonal(seen).mean()
    assert (np.abs(seen) > 0.1 * size + 1e-9)[3:, 3:].all()  # probabilities are not independent


def test_covariances_of_one_measurement_on_a_device():
    circuit = words(300)
    executor = executors()["default.qubit"]
    points = random_points(circuit, 3)
    with pytest.raises(UnsupportedError, match="which of them share samples"):
        executor.estimates(circuit, points, Call(1), jointly=True)
    probabilities = replace(circuit, measurements=circuit.measurements[3:], sizes=(4,))
    values, covariances, _ = executor.estimates(probabilities, points, Call(1), jointly=True)
    expected = [np.diag(row) - np.outer(row, row) for row in values]
    np.testing.assert_allclose(covariances * 300, expected, atol=0.01)
    alone = replace(circuit, measurements=circuit.measurements[:1], sizes=(1,))
    _, covariances, _ = executor.estimates(alone, points, Call(1), jointly=True)
    _, variances, _ = executors()["default.qubit"].estimates(alone, points, Call(1))
    np.testing.assert_array_equal(covariances[:, :, 0], variances)


def test_sums_of_words_have_errors_from_samples():
    circuit = several(300)
    executor = executors()["simulator"]
    points = np.repeat(random_points(circuit, 1), 400, axis=0)
    values, variances, _ = executor.estimates(circuit, points, Call(1))
    seen = values.var(axis=0, ddof=1)
    np.testing.assert_allclose(variances.mean(axis=0), seen, rtol=0.4, atol=1e-5)


def test_values_are_the_same_with_and_without_variances():
    circuit, points = several(300), random_points(several(300), 4)
    with_variances, _, _ = executors()["simulator"].estimates(circuit, points, Call(1))
    without = executors()["simulator"](circuit, points, Call(1))
    np.testing.assert_array_equal(with_variances, without)


def test_exact_values_have_no_errors():
    circuit = several(None)
    values, variances, added = executors()["simulator"].estimates(
        circuit, random_points(circuit, 2), Call(1)
    )
    assert values.shape == variances.shape == added.shape
    assert (variances == 0).all() and (added == 0).all()


def test_who_knows_no_errors():
    points = random_points(several(100), 1)
    with pytest.raises(UnsupportedError, match="does not follow from its value"):
        executors()["default.qubit"].estimates(several(100), points, Call(1))

    class Without(Executor):
        def run(self, circuit, points, call):
            raise AssertionError("it is not asked for values")

    with pytest.raises(UnsupportedError, match="without their errors"):
        Without(qml.device("default.qubit")).estimates(several(100), points, Call(1))


def test_batches_are_counted(tracker):
    circuit = words(100)
    executors()["default.qubit"].estimates(circuit, random_points(circuit, 3), Call(1))
    assert tracker.totals["circuits"] == 3 and tracker.totals["shots"] == 600  # in two bases
    empty = np.empty((0, circuit.num_parameters))
    values, variances, added = executors()["simulator"].estimates(circuit, empty, Call(1))
    assert values.shape == variances.shape == added.shape == (0, 7)
    assert tracker.totals["batches"] == 1


def test_the_variance_of_one_outcome():
    """Against all outcomes that there are, equally likely, or half of them each of two."""

    def circuit():
        return (
            qml.expval(2 * qml.Z(0) @ qml.Z(1) - qml.X(0) + 5 * qml.I(0)),
            qml.probs(wires=[0, 1]),
            qml.expval(qml.Hermitian(np.diag([0.0, 1.0, 2.0, 5.0]), wires=[0, 1])),
            qml.expval(qml.Projector([1, 0], wires=[0, 1])),
        )

    tape = qml.tape.make_qscript(circuit)()
    made = replace(several(100), measurements=tuple(tape.measurements), sizes=(1, 4, 1, 1))
    typical, largest = of_one_shot(made)
    sums = np.array([2 * a - b for a in (1, -1) for b in (1, -1)])
    of_four = np.array([0.0, 1.0, 2.0, 5.0]).var()
    np.testing.assert_allclose(typical, [sums.var(), *[3 / 16] * 4, of_four, 3 / 16])
    extremes = [max(abs(sums)) ** 2, *[1 / 4] * 4, np.var([0.0, 5.0])]
    np.testing.assert_allclose(largest[:6], extremes)
    assert largest[6] >= 1 / 4  # of a projector, by its Pauli words


def test_constants_are_values_in_the_state_of_no_information():
    """Against the mean of all basis states, and of a state of which nothing is known."""

    def circuit():
        return (
            qml.expval(2 * qml.Z(0) @ qml.Z(1) - qml.X(0) + 5 * qml.I(0)),
            qml.expval(qml.I(1)),
            qml.probs(wires=[0, 1]),
            qml.expval(qml.Hermitian(np.array([[1.0, 2j], [-2j, 4.0]]), wires=1)),
            qml.expval(qml.Projector([1, 0], wires=[0, 1])),
            qml.expval(qml.Hermitian(np.eye(2), wires=0) @ qml.Z(1)),
        )

    tape = qml.tape.make_qscript(circuit)()
    made = replace(several(100), measurements=tuple(tape.measurements), sizes=(1, 1, 4, 1, 1, 1))
    device = qml.device("default.mixed", wires=2)

    @qml.qnode(device)
    def mixed():
        qml.DepolarizingChannel(0.75, wires=0)
        qml.DepolarizingChannel(0.75, wires=1)
        return circuit()

    np.testing.assert_allclose(constants(made), np.hstack(mixed()), atol=1e-12)
    endless = qml.RX(np.inf, wires=0)
    assert np.isnan(constants(replace(made, operations=(endless, *made.operations[1:])))).all()
