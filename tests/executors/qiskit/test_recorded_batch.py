"""Batches that go through the ledger, on simulators and on a service, with processes that die."""

import errno
import io
import logging
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import fresh
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from services import KilledError, RemoteJob, Service, process, remote

import qshift
from qshift.errors import JobError, LimitError, OptionError
from qshift.executors.qiskit import digests, estimator, recorded_batch, unconfirmed_jobs
from qshift.executors.qiskit.batch import Batch
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.estimator import EstimatorExecutor
from qshift.executors.qiskit.job import LocalJob
from qshift.executors.qiskit.local_target import LocalTarget
from qshift.executors.qiskit.targets import Target
from qshift.ledger import database
from qshift.ledger.ledger import Ledger, LedgerError

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
        # One number is the same by chance in three of a thousand pairs of draws.
        return [np.hstack(qnode(tf.constant(X))).tolist() for _ in range(2)]

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
        **{"run": {"run": "again"}, "options": {"optimization_level": 3}}.get(fresh, {}),
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


# Names of what is measured


def test_options_that_do_not_change_what_is_measured(path, monkeypatch):
    service = Service()
    environments = (
        {},
        {"environment": {}},
        {"environment": {"log_level": "DEBUG"}},
        {"environment": {"job_tags": ["mine"], "private": True}},
        {"twirling": {}, "environment": {"log_level": "INFO"}},
    )
    found = []
    for options in environments:
        with process(monkeypatch):
            found.append(numbers(remote(service, ledger=path, **options), steps=1))
    assert len(service.jobs) == 4
    for each in found:
        np.testing.assert_array_equal(each, found[0])
    with process(monkeypatch):
        numbers(remote(service, ledger=path, resilience_level=1), steps=1)
    assert len(service.jobs) == 8


def as_before(self):
    """What decided what is measured in version 1."""
    return self._settings(self.level, self._options)


def test_runs_of_earlier_releases_are_found(path, monkeypatch):
    """They had all options in the names of what they had measured."""
    service, options = Service(), {"environment": {"job_tags": ["mine"]}}
    with process(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(Target, "settings", property(as_before))
        first = numbers(remote(service, ledger=path, **options), steps=2)
    count = len(service.jobs)
    with process(monkeypatch):
        longer = numbers(remote(service, ledger=path, **options), steps=3)
    np.testing.assert_array_equal(longer[: len(first)], first)
    assert len(service.jobs) == count + 4  # those of the third step
    with process(monkeypatch), qshift.Tracker() as tracker:
        np.testing.assert_array_equal(
            numbers(remote(service, ledger=path, **options), steps=3), longer
        )
    assert tracker.totals["jobs"] == 0


def test_jobs_of_earlier_releases_that_are_underway_are_joined(path, monkeypatch):
    service, options = Service(), {"environment": {"job_tags": ["mine"]}}
    with process(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(Target, "settings", property(as_before))
        patch.setattr(service, "watch", lambda event: event == "status" and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            numbers(remote(service, ledger=path, **options), steps=1)
    assert len(service.jobs) == 2
    with process(monkeypatch):
        numbers(remote(service, ledger=path, **options), steps=1)
    assert len(service.jobs) == 4


NAMES = {  # of version 1, of RX(0.3) with <Z> and 100 shots, in the run "r"
    "{}": "49a2a129c6d8c464ae54963bcb4bc981",
    "{'resilience_level': 1}": "846608281fd9968ce3be46558120425a",
}


@pytest.mark.parametrize("options", NAMES)
def test_names_are_what_they_were(options, path, monkeypatch):
    """Otherwise all that there is would be measured, and paid for, again."""
    # As of a service; in this process the options had no effect in version 1.
    monkeypatch.setattr(LocalTarget, "_settings", Target._settings)
    device = EstimatorDevice(ledger=path, run="r", optimization_level=2, **eval(options))
    monkeypatch.setattr(estimator, "_draws", digests.Draws())

    @qshift.qnode(device, shots=100)
    def rotation(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    rotation(0.3)
    (record,) = Ledger(path).jobs()
    assert [key.hex() for key in Ledger(path).job(record.id).keys] == [NAMES[options]]


def test_runs_with_the_former_optimization_level_are_not_paid_for_again_silently(
    path, monkeypatch, caplog
):
    service = Service()
    with process(monkeypatch):
        first = numbers(remote(service, ledger=path, optimization_level=1), steps=1)
    count = len(service.jobs)
    with process(monkeypatch), qshift.Tracker() as tracker:
        with pytest.raises(OptionError, match="optimization_level=1, the default of ear") as caught:
            numbers(remote(service, ledger=path), steps=1)
    said = str(caught.value)
    assert "has 1 of these 1 points" in said or "has 2 of these 2 points" in said
    assert str(path) in said and "optimization_level=2 (or another run=)" in said
    assert len(service.jobs) == count and not tracker.totals["jobs"]
    with process(monkeypatch):
        again = numbers(remote(service, ledger=path, optimization_level=1), steps=1)
    np.testing.assert_array_equal(again, first)
    assert len(service.jobs) == count
    for other in ({"optimization_level": 2}, {"run": "other"}):
        with process(monkeypatch):
            numbers(remote(service, ledger=path, **other), steps=1)
    assert len(service.jobs) == 3 * count
    with process(monkeypatch):  # now there are some of the present one as well
        numbers(remote(service, ledger=path), steps=1)
    assert len(service.jobs) == 3 * count


def test_simulations_with_the_former_optimization_level_are_repeated(path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "qshift")
    with process(monkeypatch):
        numbers(EstimatorDevice(ledger=path, optimization_level=1), steps=1)
    with process(monkeypatch), qshift.Tracker() as tracker:
        numbers(EstimatorDevice(ledger=path), steps=1)
    assert tracker.totals["jobs"] == 4
    assert (
        "optimization_level=1, the default of earlier releases; they are simulated" in caplog.text
    )


def test_a_line_says_how_many_points_came_from_the_ledger(path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "qshift")
    points = tf.constant([[0.3, 0.4, 0.5], [0.5, 0.6, 0.7]], tf.float64)
    for known, wanted in (("0 of 4", points[:, :2]), ("4 of 4", points[:, :2]), ("4 of 6", points)):
        caplog.clear()
        with process(monkeypatch):
            qshift.qnode(EstimatorDevice(ledger=path), shots=100)(circuit)(wanted)
        assert f"{known} points came from the ledger {path}" in caplog.text


def test_only_what_is_missing_is_prepared(path, monkeypatch, tracker):
    """So that a recorded program transpiles nothing, and asks no backend."""
    device = EstimatorDevice(ledger=path, backend="fake:FakeManilaV2")
    with process(monkeypatch):
        first = numbers(device, steps=1)
    assert tracker.totals["transpilations"] == 1

    def refuse(self):
        raise AssertionError("the backend was asked for")

    monkeypatch.setattr(LocalTarget, "_device", property(refuse))
    monkeypatch.setattr(LocalTarget, "num_qubits", 5)
    with process(monkeypatch):
        again = EstimatorDevice(ledger=path, backend="fake:FakeManilaV2")
        np.testing.assert_array_equal(numbers(again, steps=1), first)


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
    ((recorded_batch, "_usage"), False),
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


@pytest.mark.one_in(3)
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
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 0.3)
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
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 0.3)
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
    submit = device.target.submit

    def more(submission):
        twice = submission.pubs[: submission.primitive == "estimator"]
        return submit(replace(submission, pubs=[*submission.pubs, *twice]))

    device.target.submit = more
    with pytest.raises(JobError, match=r"results for \[1, 1\] points in its PUBs, not \[1\]"):
        numbers(device, steps=1)
    device.target.submit = submit
    numbers(device, steps=1)
    if ledger:
        assert [job.state for job in Ledger(path).jobs()][:3] == ["failed", "done", "done"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def once(error, when):
    """Returns a service's watch that raises an error the first time that something is done."""
    events = []

    def watch(event):
        events.append(event)
        if event == when and events.count(when) == 1:
            raise error

    return watch


@pytest.mark.parametrize("answer, state", [("\n", "submitted"), ("y\n", "cancelled")])
def test_an_interruption_asks_on_a_terminal(answer, state, path, monkeypatch):
    service, err = Service(), Terminal()
    device = remote(service, ledger=path)
    interrupt = once(KeyboardInterrupt, "status")

    with monkeypatch.context() as patch:
        patch.setattr(service, "watch", interrupt)
        patch.setattr(sys, "stdin", Terminal(answer))
        patch.setattr(sys, "stderr", err)
        with pytest.raises(KeyboardInterrupt) as caught:
            numbers(device, steps=1)
    assert "Waiting for 2 jobs: job-0, job-1" in err.getvalue() and "[y/N]" in err.getvalue()
    assert [job.state for job in Ledger(path).jobs()] == [state] * 2
    said = str(caught.value)
    assert said.startswith("job-0, job-1 left running. To come back, run the program again") == (
        state == "submitted"
    )
    assert (said == "job-0, job-1 cancelled") == (state == "cancelled")
    assert [job.state == "cancelled" for job in service.jobs.values()] == [answer == "y\n"] * 2
    # In the same process, as in a notebook: what was left running is what is waited for.
    with qshift.Tracker() as tracker:
        numbers(device, steps=1)
    assert tracker.totals["jobs"] == (2 if state == "submitted" else 4)


@pytest.mark.parametrize("seed", [None, 4])
def test_an_interruption_elsewhere_leaves_jobs_running(seed, devices, path, monkeypatch):
    device, qnode = devices(), None

    def struck(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if devices.service:
            patch.setattr(devices.service, "watch", lambda event: event == "status" and struck())
        else:
            patch.setattr(LocalJob, "result", struck)
        qnode = qshift.qnode(device, shots=1000, seed=seed)(circuit)
        with pytest.raises(KeyboardInterrupt) as caught:
            qnode(tf.constant(X))
    left = Ledger(path).jobs()
    assert len(left) == (2 if devices.service else 0)  # a simulation is simply given up
    assert ("`qshift jobs`" in str(caught.value)) == bool(devices.service)
    first = qnode(tf.constant(X))
    assert len(Ledger(path).jobs()) == 2
    with process(monkeypatch, "2"):  # it was the first draw, as for a program never interrupted
        again = qshift.qnode(devices(), shots=1000, seed=seed)(circuit)(tf.constant(X))
    np.testing.assert_array_equal(first[0], again[0])
    assert len(Ledger(path).jobs()) == 2


# At the same time


def test_threads_that_want_the_same(path):
    """Exact results are the same for all, so one thread has them measured and the others wait."""
    qnode = qshift.qnode(EstimatorDevice(ledger=path))(circuit)
    points = np.random.default_rng(0).uniform(size=(40, 2))
    compiled = qnode.preparation.compile(
        qnode.construct((tf.constant(points.T),), {})
    )  # not in threads
    with qshift.Tracker() as tracker, ThreadPoolExecutor(4) as pool:
        executors = [EstimatorExecutor(qnode.device) for _ in range(4)]
        found = list(pool.map(lambda executor: executor(compiled.circuit, points), executors))
    assert tracker.totals["jobs"] == len(Ledger(path).jobs()) == 1
    for each in found:
        np.testing.assert_array_equal(each, found[0])


def test_threads_of_one_function(path):
    """TensorFlow runs what does not depend on each other in several threads."""
    qnode = qshift.qnode(EstimatorDevice(ledger=path), shots=10)(circuit)

    @tf.function
    def several(x):
        return [qnode(x + float(i))[0] for i in range(4)]

    assert len(several(tf.constant(X))) == 4
    assert [job.state for job in Ledger(path).jobs()] == ["done"] * 8


# Programs are forks of a process that has imported everything already.
PROGRAMS = """
import multiprocessing, sys
import pennylane as qml
from qshift.executors.qiskit.device import EstimatorDevice

def circuit(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))

def program(ready, results):
    device = EstimatorDevice(ledger=sys.argv[1])
    qnode = qml.set_shots(qml.QNode(circuit, device), 500)
    ready.wait(60)
    results.put([float(qnode(x)) for x in (0.1, 0.2, 0.3, 0.2)])

context = multiprocessing.get_context("fork")
ready, results = context.Barrier(3), context.SimpleQueue()
programs = [context.Process(target=program, args=(ready, results)) for _ in range(3)]
for each in programs:
    each.start()
for each in programs:
    each.join()
    print(results.get())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_programs_at_the_same_time_share_their_jobs(path):
    done = fresh.run(PROGRAMS, path, timeout=240)
    assert done.returncode == 0, done.stderr
    outputs = done.stdout.splitlines()
    assert len(outputs) == 3
    assert outputs[0] == outputs[1] == outputs[2] and len(eval(outputs[0])) == 4
    assert [job.state for job in Ledger(path).jobs()] == ["done"] * 4


# Limits


@pytest.mark.parametrize("ledger", [True, False])
def test_limits_are_kept_before_anything_is_sent(ledger, path, tracker, monkeypatch):
    where = {"ledger": path if ledger else False}
    device = EstimatorDevice(max_jobs=3, **where)
    with pytest.raises(LimitError, match=r"takes 2 jobs, and max_jobs=3 of the device leaves 1\."):
        numbers(device)
    assert tracker.totals["jobs"] == 2
    device = EstimatorDevice(
        backend="fake:FakeManilaV2", max_qpu_seconds=0.05, max_executions=2000, **where
    )
    reason = r"about 4\.\d+ QPU seconds, and max_qpu_seconds=0.05 of the device leaves 0.05\."
    with pytest.raises(LimitError, match=reason):
        numbers(device, shots=1000)
    assert tracker.totals["jobs"] == 2
    if ledger:
        assert [job.state for job in Ledger(path).jobs()] == ["done"] * 2
        with process(monkeypatch):
            numbers(EstimatorDevice(max_jobs=2, **where), steps=1)  # the first two cost nothing
    numbers(EstimatorDevice(backend="fake:FakeManilaV2", max_qpu_seconds=99, **where), steps=1)


@pytest.mark.parametrize(
    "options, option, reason",
    [
        ({"max_jobs": 0}, "max_jobs", "positive number, got 0"),
        ({"max_jobs": 1.5}, "max_jobs", "positive number, got 1.5"),
        ({"max_qpu_seconds": "9"}, "max_qpu_seconds", "positive number, got '9'"),
        ({"max_qpu_seconds": 9}, "max_qpu_seconds", "aer says no times"),
        ({"ledger": 3}, "ledger", "the path of a file, got 3"),
    ],
)
def test_options_that_are_wrong(options, option, reason):
    with pytest.raises(OptionError, match=re.escape(reason)) as caught:
        EstimatorDevice(**options)
    assert caught.value.option == option


# Results that are there already, or have nowhere to go


def test_what_is_done_when_it_is_cancelled_is_kept(path, monkeypatch):
    service = Service()
    device = remote(service, ledger=path)
    monkeypatch.setattr(service, "watch", once(KeyboardInterrupt, "status"))
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(RemoteJob, "cancel", lambda job: setattr(job, "asked", 1))
    with pytest.raises(KeyboardInterrupt, match="^job-0, job-1 done before that. To come back"):
        numbers(device, steps=1)
    assert [job.state for job in Ledger(path).jobs()] == ["submitted"] * 2
    numbers(device, steps=1)
    assert len(service.jobs) == 4


def during_the_post(service, path, monkeypatch, change):
    """Has a ledger changed while its first job is being sent."""

    def watch(event):
        if event == "submitted" and len(service.jobs) == 1:
            ledger = Ledger(path)
            change(ledger, ledger.jobs()[0])

    monkeypatch.setattr(service, "watch", watch)


@pytest.mark.parametrize("is_done", [True, False])
def test_a_job_whose_record_is_closed_while_it_is_sent(is_done, path, monkeypatch):
    service = Service()
    device = remote(service, ledger=path)
    during_the_post(
        service, path, monkeypatch, lambda ledger, job: ledger.close(job, "cancelled", "by me")
    )
    if is_done:
        monkeypatch.setattr(RemoteJob, "cancel", lambda job: setattr(job, "asked", 1))
        numbers(device, steps=1)
        assert len(service.jobs) == 4
        assert [job.state for job in Ledger(path).jobs()] == ["done"] * 4
    else:
        with pytest.raises(JobError, match="^Job job-0 cancelled: by me[.]$"):
            numbers(device, steps=1)
        assert service.jobs["job-0"].state == "cancelled"
    monkeypatch.setattr(estimator, "_draws", digests.Draws())  # as another process
    sent = len(service.jobs)
    numbers(device, steps=1)
    assert (len(service.jobs) == sent) == is_done


@pytest.mark.parametrize("when", ["submitted", "result"])
def test_a_job_that_is_deleted_from_the_ledger_meanwhile(when, path, monkeypatch, caplog):
    service = Service()
    device = remote(service, ledger=path)

    def watch(event):
        if event == when and not caplog.records:
            ledger = Ledger(path)
            ledger.forget(ledger.jobs())

    monkeypatch.setattr(service, "watch", watch)
    first = numbers(device, steps=1)
    assert "is recorded again" in caplog.text
    monkeypatch.setattr(estimator, "_draws", digests.Draws())  # as another process
    np.testing.assert_array_equal(numbers(device, steps=1), first)
    assert len(service.jobs) == 4


@pytest.mark.parametrize("method, says", [("sent", "was sent before that"), ("store", "has run")])
def test_a_disk_that_is_full_after_a_job_was_sent(method, says, path, monkeypatch):
    service = Service()
    device = remote(service, ledger=path)

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:

        def full(*arguments):  # from here on
            patch.setattr(database, "_bring_up_to_date", refuse)
            return write(*arguments)

        write = getattr(Ledger, method)
        patch.setattr(Ledger, method, full)
        with pytest.raises(LedgerError, match=f"Make room.* Job job-0 {says}.*run this") as caught:
            numbers(device, steps=1)
    # Without the job on the service it would be paid for again.
    assert "another file" not in str(caught.value) and "not lost" in str(caught.value)
    monkeypatch.setattr(estimator, "_draws", digests.Draws())  # as another process
    numbers(device, steps=1)
    assert len(service.jobs) == 4
