"""Batches that go through the ledger, on simulators and on a service, with processes that die."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from services import KilledError, Service, process, remote

import qshift
from qshift.errors import JobError
from qshift.executors import recording
from qshift.executors.device import EstimatorDevice
from qshift.executors.submission import Batch
from qshift.ledger import Ledger

X = (0.3, 0.5)


def circuit(x):
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=1)
    qml.CNOT(wires=[0, 1])
    return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0)), qml.probs(wires=[1])


def numbers(device, seed=None, steps=2, shots=100):
    """Runs a program of several steps, with nested tapes; returns all its numbers."""
    qnode = qshift.qnode(device, shots=shots, seed=seed)(circuit)
    x, found = tf.Variable(X, dtype=tf.float64), []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            energy, probabilities = qnode(x)
            cost = energy + probabilities[0]
        gradient = tape.gradient(cost, x)
        found += [cost[None], gradient]
        x.assign_sub(0.1 * gradient)
    return np.concatenate(found)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture(params=["simulator", "service"])
def devices(request, path):
    """Makes devices of processes that follow one another, on one ledger."""
    service = Service()

    def make(**options):
        options = {"ledger": path, **options}
        if request.param == "service":
            return remote(service, **options)
        return EstimatorDevice(**options)

    make.service = service if request.param == "service" else None
    return make


# What decides


@pytest.mark.parametrize("seed", [None, 7])
def test_the_same_program_reads_the_same_numbers(devices, seed, monkeypatch):
    with process(monkeypatch, "1"):
        first = numbers(devices(), seed)
    with process(monkeypatch, "2"), qshift.Tracker() as tracker:
        np.testing.assert_array_equal(numbers(devices(), seed), first)
        assert not any(tracker.totals[name] for name in ("jobs", "circuits", "batches", "shots"))
        # Further steps are sent, and the steps before them are not.
        longer = numbers(devices(), seed, steps=3)
    if seed:
        np.testing.assert_array_equal(longer[: len(first)], first)
        assert tracker.totals["jobs"] == 4


def test_the_same_angles_again_are_another_draw(devices, monkeypatch):
    def twice(device):
        qnode = qshift.qnode(device, shots=100_000)(circuit)
        return [float(qnode(tf.constant(X))[0]) for _ in range(2)]

    with process(monkeypatch, "1"):
        first = twice(devices())
    assert first[0] != first[1]
    with process(monkeypatch, "2"):
        assert twice(devices()) == first


@pytest.mark.parametrize("fresh", ["run", "environment", "shots", "options", "backend", "angles"])
def test_what_makes_another_measurement(fresh, path, tracker, monkeypatch):
    def value(device, x=0.3, shots=100):
        with process(monkeypatch):
            return qshift.qnode(device, shots=shots)(lambda x: circuit([x, x]))(tf.constant(x))

    value(EstimatorDevice(ledger=path))
    value(EstimatorDevice(ledger=path))
    assert tracker.totals["jobs"] == 2
    if fresh == "environment":
        monkeypatch.setenv("QSHIFT_RUN", "again")
    device = EstimatorDevice(
        **{"run": {"run": "again"}, "options": {"optimization_level": 2}}.get(fresh, {}),
        backend="aer:FakeManilaV2" if fresh == "backend" else "aer",
        ledger=path,
    )
    value(device, 0.31 if fresh == "angles" else 0.3, 101 if fresh == "shots" else 100)
    assert tracker.totals["jobs"] == 4
    runs = {job.run for job in Ledger(path).jobs()}
    assert runs == {"", "again"} if fresh in ("run", "environment") else {""}


def test_numbers_do_not_depend_on_the_ledger(path):
    plain = numbers(EstimatorDevice(), seed=3)
    np.testing.assert_array_equal(numbers(EstimatorDevice(ledger=path), seed=3), plain)
    other = numbers(EstimatorDevice(ledger=path, run="other"), seed=3)
    np.testing.assert_array_equal(other, plain)


def test_exact_results_are_measured_once(path, tracker):
    qnode = qshift.qnode(EstimatorDevice(ledger=path))(circuit)
    x = tf.constant([[0.3, 0.3, 0.4], [0.5, 0.5, 0.5]], tf.float64)
    energies = [qnode(x)[0].numpy() for _ in range(2)]
    assert tracker.totals["jobs"] == 1
    np.testing.assert_array_equal(*energies)
    exact = qml.QNode(circuit, qml.device("default.qubit"))
    np.testing.assert_allclose(energies[0][::2], [exact(c)[0] for c in x.numpy().T[::2]])
    assert energies[0][0] == energies[0][1]


def test_a_shot_vector_has_its_own_draws(path, monkeypatch):
    def values():
        qnode = qshift.qnode(EstimatorDevice(ledger=path), shots=[(50, 3)])(circuit)
        return [float(copy[0]) for copy in qnode(tf.constant(X))]

    with process(monkeypatch, "1"):
        first = values()
    assert len(set(first)) > 1
    with process(monkeypatch, "2"):
        assert values() == first


def test_counts_with_the_ledger_are_those_without(devices):
    def one(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0))

    qnode = qshift.qnode(devices(), shots=20, objective="circuits")(one)
    x = tf.Variable(X, dtype=tf.float64)
    assert [order.jobs for order in qnode.plan(x, order=3).orders] == [1, 1, 1, 1]
    counted = []
    with qshift.Tracker() as tracker:
        with tf.GradientTape() as outermost:
            with tf.GradientTape() as outer:
                with tf.GradientTape() as inner:
                    value = qnode(x)
                gradient = inner.gradient(value, x)
                counted.append(dict(tracker.totals))
            hessian = outer.jacobian(gradient, x)
            counted.append(dict(tracker.totals))
        outermost.jacobian(hessian, x)
        counted.append(dict(tracker.totals))
    assert [each["jobs"] for each in counted] == [2, 3, 4]
    assert [each["transpilations"] for each in counted] == [1, 1, 1]
    for ahead in (2, 3):
        with qshift.Tracker() as tracker:
            with tf.GradientTape() as outer:
                with tf.GradientTape() as inner:
                    value = qnode.update(prefetch=ahead)(x)
                gradient = inner.gradient(value, x)
            outer.jacobian(gradient, x)
        assert (tracker.totals["jobs"], tracker.totals["transpilations"]) == (1, 0)
    with qshift.Tracker() as tracker:
        qshift.derivatives(qnode, x, order=3)
    assert (tracker.totals["jobs"], tracker.totals["transpilations"]) == (1, 0)


# Processes that die


@pytest.fixture(scope="module")
def undisturbed():
    return numbers(EstimatorDevice(), 5, steps=1)


# (what is being done, whether it is done then)
MOMENTS = [
    ((Ledger, "claim"), True),
    ((Batch, "_send"), False),
    ((Batch, "_send"), True),
    ((Ledger, "sent"), True),
    ((recording, "_usage"), False),
    ((Ledger, "store"), False),
    ((Ledger, "store"), True),
]


def killed_at(number, after, function):
    """Returns a function that is the end of its process when it is called for this time."""
    left = [number]

    def struck(*args, **kwargs):
        if left[0] == 0 and not after:
            raise KilledError
        result = function(*args, **kwargs)
        if left[0] == 0:
            raise KilledError
        left[0] -= 1
        return result

    return struck


@pytest.mark.parametrize("moment, after", MOMENTS)
@pytest.mark.parametrize("number", [0, 3])
def test_a_killed_program_goes_on(moment, after, number, devices, path, undisturbed, monkeypatch):
    service, submissions = devices.service, []
    if moment == (Ledger, "claim"):
        number //= 2  # one for both jobs of a step
    with process(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(*moment, killed_at(number, after, getattr(*moment)))
        numbers(devices(), 5, steps=1)
        pytest.fail("it was not killed")
    if service:
        submissions = list(service.jobs)
    monkeypatch.setattr(recording, "_UNDERWAY", 0.3)
    np.testing.assert_array_equal(numbers(devices(), 5, steps=1), undisturbed)
    jobs = Ledger(path).jobs()
    assert [job.state for job in jobs] == ["done"] * 4  # estimator and sampler, value and gradient
    if service:
        assert list(service.jobs)[: len(submissions)] == submissions
        assert {job.job_id for job in jobs} == set(service.jobs)


@pytest.mark.parametrize("moment", [2, 3])
def test_another_program_wants_a_part_of_what_a_killed_one_has_left(
    moment, devices, path, monkeypatch
):
    points = tf.constant([[0.3, 0.4, 0.5], [0.5, 0.6, 0.7]], tf.float64)
    run = qshift.qnode(devices(), shots=100_000)(circuit)
    with process(monkeypatch), monkeypatch.context() as patch:
        what, after = MOMENTS[moment]
        patch.setattr(*what, killed_at(0, after, getattr(*what)))
        run(points)
    monkeypatch.setattr(recording, "_UNDERWAY", 0.3)
    with qshift.Tracker() as tracker:
        energies = run(points[:, 1])[0], *run(points[:, :2])[0]
    sent = 1 if devices.service else 2  # the estimator's job was sent; the sampler's was not
    assert tracker.totals["jobs"] == sent + 2 and len(set(map(float, energies))) == 3
    assert {job.state for job in Ledger(path).jobs()} == {"done"}


# Jobs that fail, and waiting that is interrupted


@pytest.mark.parametrize("fate", ["failed", "cancelled"])
def test_a_job_without_results(fate, path, monkeypatch):
    service = Service()
    device = remote(service, ledger=path)
    with monkeypatch.context() as patch:
        patch.setattr(service, "fate", fate)
        with pytest.raises(JobError, match=f"Job job-0 {fate}: the cryostat was warm. ") as caught:
            numbers(device)
    assert (caught.value.status, caught.value.job_id) == (fate, "job-0")
    assert str(path) in str(caught.value) and "Run this again" in str(caught.value)
    assert "its 1 points" in str(caught.value)
    job, other = Ledger(path).jobs()
    assert (job.state, job.seconds, job.message) == (fate, 1.5, "the cryostat was warm")
    service.jobs["job-1"].state = "done"  # it was sent, and is not lost
    with qshift.Tracker() as tracker:
        numbers(device, steps=1)
    assert tracker.totals["jobs"] == 3 and len(service.jobs) == 5
    assert [job.state for job in Ledger(path).jobs()] == [fate, *["done"] * 4]


@pytest.mark.parametrize("ledger", [True, False])
def test_a_job_that_comes_back_with_something_else(ledger, path):
    service = Service()
    device = remote(service, ledger=path if ledger else False)
    estimate = device.target.estimate
    device.target.estimate = lambda pubs, *rest: estimate([*pubs, pubs[0]], *rest)
    with pytest.raises(JobError, match=r"results for \[1, 1\] points in its PUBs, not \[1\]"):
        numbers(device, steps=1)
    device.target.estimate = estimate
    numbers(device, steps=1)
    if ledger:
        assert [job.state for job in Ledger(path).jobs()][:3] == ["failed", "done", "done"]
