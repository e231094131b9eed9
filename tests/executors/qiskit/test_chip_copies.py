"""Copies of a circuit on patches of a chip, as one circuit."""

import sqlite3
from contextlib import closing

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.errors import LimitError, OptionError, UnsupportedError
from qshift.executors.qiskit.chip_copies import mean_counts, mean_values
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.pub_results import decoded, encoded

X = tf.constant([0.4, 1.1, -0.7], tf.float64)


def gates(x):
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=1)
    qml.CNOT(wires=[0, 1])
    qml.RX(x[2], wires=1)


def energy(x):
    gates(x)
    return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0))


def outcomes(x):
    gates(x)
    return qml.probs(wires=[1, 0])


def circuit(x):
    gates(x)
    return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0)), qml.probs(wires=[1, 0])


def device(shots=4000, **options):
    options = {"resilience_level": 0, "seed": 1} | options
    return qshift.device("fake-manila", backend="fake:FakeTorino", shots=shots, **options)


@pytest.mark.parametrize("one", [energy, outcomes])
def test_values_and_derivatives_are_means_over_the_patches(one):
    exact = qshift.derivatives(qshift.qnode(qshift.device("simulator"))(one), X)
    with qshift.Tracker() as tracker:
        found = qshift.derivatives(qshift.qnode(device(copies=4))(one), X)
    for noisy, truth in zip(found, exact, strict=True):
        np.testing.assert_allclose(noisy, truth, atol=0.1)
    assert tracker.totals["jobs"] == 1 and tracker.totals["transpilations"] <= 1


def test_a_kth_of_the_executions_is_paid():
    plans = [qshift.qnode(device(copies=k))(circuit).plan(X) for k in (None, 1, 4)]
    assert [plan.shots for plan in plans] == [plans[0].shots] * 3
    seconds = [plan.seconds - 2 * plan.jobs for plan in plans]
    assert seconds[0] == pytest.approx(seconds[1], rel=0.01)
    assert seconds[2] == pytest.approx(seconds[1] / 4, rel=0.01)
    saved = seconds[1] - seconds[2]
    assert plans[2].saved == pytest.approx(saved, rel=0.01)
    assert f"Copies on one chip save {saved:.1f}" in " ".join(str(plans[2]).split())
    assert plans[1].saved == 0 and "Copies" not in str(plans[1])


def test_all_copies_together_have_the_shots():
    made = qshift.qnode(device(shots=1001, copies=3))(circuit)
    with qshift.Tracker() as tracker:
        made(X)
    assert tracker.totals["shots"] == 3 * 3 * 334  # rounded up; two bases, and that of the outcomes


def test_a_limit_lets_copies_pass():
    x = X[None]
    with pytest.raises(LimitError, match="max_qpu_seconds=5"):
        qshift.qnode(device(max_qpu_seconds=5))(circuit)(x[0])
    qshift.qnode(device(max_qpu_seconds=5, copies=8))(circuit)(x[0])


def test_copies_have_samples_of_their_own(tmp_path):
    path = tmp_path / "ledger"
    qnode = qshift.qnode(device(copies=8, shots=8 * 2000, ledger=path))(circuit)
    qnode(X)
    with closing(sqlite3.connect(path)) as db:
        stored = [row[0] for row in db.execute("SELECT result FROM points")]
    (counts,) = [decoded("sampler", each) for each in stored if each[:1] == b"["]
    assert len(counts) == 8 and all(sum(each.values()) == 2000 for each in counts)
    assert len({tuple(sorted(each.items())) for each in counts}) == 8
    (values,) = [decoded("estimator", each) for each in stored if each[:1] != b"["]
    assert values.shape == (2, 8) and len(set(values[0])) == 8
    with qshift.Tracker() as tracker:  # another process finds them, on all patches
        again = qshift.qnode(device(copies=8, shots=8 * 2000, ledger=path))(circuit)(X)
    assert tracker.totals["jobs"] == 0
    np.testing.assert_allclose(again[0], values[0].mean(), rtol=1e-12)
    with qshift.Tracker() as tracker:  # which are no results of fewer copies
        qshift.qnode(device(copies=2, shots=8 * 2000, ledger=path))(circuit)(X)
    assert tracker.totals["jobs"] == 2


def test_readout_errors_are_mitigated_on_every_patch(tracker):
    """Of the errors of gates something is left; those of the readout are larger."""
    x = tf.constant([0.1, 0.2, -0.1], tf.float64)
    truth = qshift.qnode(qshift.device("simulator"))(energy)(x)
    wrong = []
    for level in (0, 1):
        made = qshift.qnode(device(copies=3, shots=24_000, resilience_level=level))(energy)
        tracker.reset()
        wrong.append(abs(made(x) - truth))
        assert tracker.totals["jobs"] == 1
    # Two bases, and what calibrates: 8 variants of 1000 shots on each patch.
    assert tracker.totals["shots"] == 24_000 * 3
    assert wrong[1] < wrong[0] / 2


def test_auto_takes_fewer_patches_for_more_shots():
    def executions(shots):
        plan = qshift.qnode(device(shots=shots, copies="auto"))(outcomes).plan(X, order=0)
        return (plan.seconds - 2 * plan.jobs) / shots

    assert executions(50) < executions(10**6) / 4


def test_too_many_copies_are_an_error_before_anything_is_sent(tracker):
    with pytest.raises(UnsupportedError, match=r"copies=90 was asked for, but fake:FakeTorino has"):
        qshift.qnode(device(copies=90))(circuit)(X)
    assert tracker.totals["jobs"] == 0


@pytest.mark.parametrize("copies", [0, -1, 1.5, "all", True])
def test_numbers_of_copies_that_are_none(copies):
    with pytest.raises(OptionError, match='a positive number or "auto"'):
        EstimatorDevice(backend="fake:FakeTorino", copies=copies)


def test_simulators_without_a_chip_have_no_patches():
    with pytest.raises(OptionError, match="aer simulates no chip with patches"):
        EstimatorDevice(copies=2)


def test_means_over_copies():
    one = np.array([[0.1, 0.2], [0.01, 0.02]])
    np.testing.assert_array_equal(mean_values(one, 2), one)
    values = np.array([[0.1, 5.0], [0.3, 5.0]])
    errors = np.array([[0.01, 0.3], [0.01, 0.4]])
    mean = mean_values(np.stack([values.ravel(), errors.ravel()]), 2)
    # A spread beyond the copies' own errors counts, and one below does not.
    np.testing.assert_allclose(mean, [[0.2, 5.0], [0.1, 0.25]])
    assert mean_counts({0: 3}) == {0: 3}
    assert mean_counts([{0: 3, 1: 2}, {1: 4, 2: 1}]) == {0: 3, 1: 6, 2: 1}


@pytest.mark.parametrize("counts", [{5: 3, 0: 1}, [{0: 2}, {1: 1, 3: 1}]])
def test_counts_are_stored_as_they_are(counts):
    assert decoded("sampler", encoded(counts)) == counts


def test_errors_hold_those_of_all_patches():
    qnode = qshift.qnode(device(shots=3000, copies=3))(energy)
    ((value, error),) = qshift.derivatives(qnode, X, order=0, errors=True)
    truth = qshift.derivatives(qshift.qnode(qshift.device("simulator"))(energy), X, order=0)[0]
    # No outcome deviates by more than 1.5, and two bases have 3000 samples each.
    assert 0 < error < 0.1 and abs(value - truth) < 0.15 + 4 * error
