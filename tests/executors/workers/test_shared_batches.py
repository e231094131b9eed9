"""Batches that are shared out among workers: equal results to the last bit, counted as before."""

import functools
import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from references import OwnDevice, OwnExecutor, compiled, random_points, several

import qshift
from qshift.errors import UnsupportedError, WorkerError
from qshift.executors import registry
from qshift.executors.executor import Call
from qshift.executors.workers import dispatch
from qshift.executors.workers.pools import Workers
from qshift.executors.workers.shared_batches import WorkersExecutor

COUNT = 71


@pytest.fixture(autouse=True)
def everything_goes_out(monkeypatch):
    monkeypatch.setattr(dispatch, "_WORTHWHILE", 0.0)
    monkeypatch.setattr(dispatch, "_WORTH_STARTING", 0.0)


@pytest.fixture(scope="module")
def processes():
    workers = Workers(2)
    yield workers
    workers.close()


@pytest.fixture(params=["threads", "2 processes"])
def workers(request):
    if request.param == "2 processes":
        yield request.getfixturevalue("processes")
        return
    with ThreadPoolExecutor(4) as pool:
        yield Workers(pool)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(3) as pool:
        yield Workers(pool)


def executor(name, workers=None, seed=7, wires=3):
    device = qml.device(name, wires=wires)
    device.qshift_workers = workers
    # default.qubit stands for a device that runs broadcast tapes itself.
    return registry.executor(device, seed, embedded=name != "default.qubit")


def points_of(circuit, count=COUNT):
    """Returns points of which some are equal, near each other and far apart."""
    points = random_points(circuit, count)
    points[30] = points[31] = points[60] = points[3]
    return points


def ring(wires, shots=None):
    angles = iter(tf.Variable(0.1 * np.arange(1, 3 * wires + 1)).numpy())
    angle = lambda: tf.constant(next(angles), tf.float64)  # noqa: E731
    gates = [gate for w in range(wires) for gate in (qml.RX(angle(), w), qml.RZ(angle(), w))]
    gates += [qml.CRX(angle(), [w, (w + 1) % wires]) for w in range(wires)]
    return compiled(gates, [qml.expval(qml.Z(0) @ qml.X(1)), qml.probs(wires=[1, 2])], shots)


NAMES = ["lightning.qubit", "default.qubit", "default.mixed"]


@functools.cache
def expected(name):
    """Returns what runs in this process alone give."""
    alone = executor(name)
    return [values(alone, shots) for shots in (None, 200, (100, 100))]


def values(runner, shots):
    circuit, call = several(shots), Call(5)
    return [runner(circuit, points_of(circuit), call) for _ in range(2)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_samples_are_equal_to_the_last_bit(name, workers):
    shared = executor(name, workers)
    assert isinstance(shared, WorkersExecutor)
    for shots, truth in zip((None, 200, (100, 100)), expected(name), strict=True):
        np.testing.assert_array_equal(values(shared, shots), truth)


@pytest.mark.parametrize("wires, count", [(3, 66), (8, 130), (13, 9)])
def test_whatever_way_points_run(wires, count, threads):
    """With few wires many points have one state, and what is left over has others."""
    for circuit in (ring(wires), ring(wires, 50)):
        points = points_of(circuit, 130)[:count]
        alone, shared = (
            executor("lightning.qubit", each, wires=wires)(circuit, points, Call(1))
            for each in (None, threads)
        )
        np.testing.assert_array_equal(shared, alone)


def test_gradients_are_equal_to_the_last_bit(workers):
    circuit = several(adjoint=True, probs=False)
    points = points_of(circuit)
    alone, shared = executor("lightning.qubit"), executor("lightning.qubit", workers)
    shared.require_gradients(circuit)
    assert shared.differentiates(circuit) == alone.differentiates(circuit)
    truth = alone.gradients(circuit, points)
    np.testing.assert_array_equal(shared.gradients(circuit, points), truth)


OWN = np.random.default_rng(3).integers(1, 300, COUNT)


def with_own_shots(runner):
    """Returns values from samples, each point with its own number of shots, and their errors."""
    circuit, call = ring(3, 100), Call(5, shots=OWN)
    points = points_of(circuit)
    once = runner(circuit, points, call)
    return [
        once,
        *runner.estimates(circuit, points, call),
        *runner.estimates(circuit, points, Call(6)),
    ]


@functools.cache
def expected_with_own_shots(name):
    return with_own_shots(executor(name))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", NAMES)
def test_own_shots_and_errors_are_equal_to_the_last_bit(name, workers):
    shared = executor(name, workers)
    assert shared.allots(ring(3, 100))
    found = with_own_shots(shared)
    for one, truth in zip(found, expected_with_own_shots(name), strict=True):
        np.testing.assert_array_equal(one, truth)
    assert (found[1] != found[0]).any()  # the second run for the call has other samples
    # Points with fewer shots have larger errors: by the law of the root, on the average.
    few, many = (found[2][rows].mean() for rows in (OWN < 30, OWN > 200))
    assert few > 4 * many


def test_covariances_are_equal_to_the_last_bit(threads):
    circuit, call = ring(3, 100), Call(5, shots=OWN)
    points, found = points_of(circuit), []
    for each in (None, threads):
        runner = executor("lightning.qubit", each)
        found.append(runner.estimates(circuit, points, replace(call, draws={}), jointly=True))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[0][1].shape == (COUNT, 5, 5)


def seeded(workers, shots):
    """A qnode of six angles whose batches workers share."""
    device = qml.device("lightning.qubit", wires=3)
    device.qshift_workers = workers

    @qshift.qnode(device, shots=shots, seed=3)
    def energy(x):
        for i in range(6):
            (qml.RX, qml.RY)[i % 2](x[i], i % 3)
            qml.CNOT([i % 3, (i + 1) % 3])
        return qml.expval(qml.Z(0) @ qml.X(2))

    return energy


@pytest.mark.parametrize("count", [1, 2, 4])
def test_derivatives_and_their_errors_for_any_number_of_workers(count):
    x = tf.constant(np.linspace(0.1, 2.0, 6))

    def found(workers):
        energy = seeded(workers, shots=200)
        estimates = qshift.derivatives(energy, x, order=2, errors=True)
        assert energy.plan(x, order=2).precision is not None  # its points have their own shots
        return [each.numpy() for estimate in estimates for each in estimate]

    with ThreadPoolExecutor(count) as pool:
        shared = found(Workers(pool))
    for one, other in zip(shared, found(None), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_has_no_errors_is_refused_before_anything_runs(threads, restored):
    circuit = several(40)
    shared = on_own_device(OwnExecutor, threads, 3)
    with pytest.raises(UnsupportedError, match="tests.own returns values without their errors"):
        shared.require_errors(circuit)
    with pytest.raises(UnsupportedError, match="tests.own returns values without their errors"):
        shared.estimates(circuit, points_of(circuit), Call(1))


@pytest.mark.parametrize("shots", [None, 100])
def test_no_workers_are_this_process(shots, monkeypatch):
    monkeypatch.setattr(Workers, "start", lambda self: pytest.fail("workers start"))
    circuit, found = several(shots), []
    for each in (None, Workers(0)):
        shared = executor("lightning.qubit", each)
        assert isinstance(shared, WorkersExecutor) == (each is not None)
        found.append(shared(circuit, points_of(circuit), Call(1)))
    np.testing.assert_array_equal(*found)


def test_no_workers_take_what_cannot_be_pickled():
    device = qml.device("lightning.qubit", wires=3)
    device.open, device.qshift_workers = (each for each in "ab"), Workers(0)
    circuit = several()
    found = registry.executor(device)(circuit, points_of(circuit))
    np.testing.assert_array_equal(found, executor("lightning.qubit")(circuit, points_of(circuit)))


@pytest.mark.parametrize("shots", [None, 100])
def test_circuits_are_counted_as_without_workers(shots, threads, tracker):
    circuit, counts = several(shots), []
    for each in (None, threads):
        tracker.reset()
        executor("lightning.qubit", each)(circuit, points_of(circuit), Call(1))
        counts.append(dict(tracker.totals))
    assert counts[0] == counts[1]
    assert counts[1]["circuits"] == COUNT and counts[1]["batches"] == 1


def test_a_qnode_and_its_plan(threads):
    x, found, plans = tf.constant(np.linspace(0.1, 2.0, 6)), [], []
    for each in (None, threads):
        energy = seeded(each, shots=50)
        found.append([d.numpy() for d in qshift.derivatives(energy, x, order=2)])
        plans.append(energy.plan(x, order=2).to_dict())
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert plans[0] == plans[1]


# --- samples without a seed ---


def test_samples_without_a_seed_are_fresh_and_independent(threads):
    circuit = several(1000)
    shared = executor("lightning.qubit", threads, seed=None)
    points = np.repeat(random_points(circuit, 1), 60, axis=0)
    first, second = shared(circuit, points), shared(circuit, points)
    rows = np.concatenate([first, second])
    assert len(np.unique(rows, axis=0)) == 120  # 8 values of 1000 shots are never all equal
    other = executor("lightning.qubit", threads, seed=None)(circuit, points)
    assert not (other == first).all(axis=1).any()


def test_samples_follow_from_the_seed_of_a_device_for_any_number_of_workers(threads, processes):
    circuit, found = several(100), []
    for each in (Workers(0), threads, processes):
        device = qml.device("default.qubit", wires=3, seed=11)
        device.qshift_workers = each
        runner = registry.executor(device, None)
        found.append([runner(circuit, points_of(circuit)) for _ in range(2)])
    assert (found[0][0] != found[0][1]).any()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


class Unseeded(OwnExecutor):
    takes_seed = False


class SeededAtOnce(OwnExecutor):
    def run(self, circuit, points, call):
        return np.random.default_rng([self.seed, call.number]).random((len(points), 7))


def on_own_device(kind, workers, seed=None):
    device = OwnDevice()
    device.qshift_workers = workers
    registry.register("tests.own", kind)
    return registry.executor(device, seed)


@pytest.fixture
def restored(monkeypatch):
    monkeypatch.setattr(registry, "_makers", dict(registry._makers))


def test_an_executor_of_ones_own_goes_along(workers, restored):
    for shots in (None, 40):
        circuit = several(shots)
        points = points_of(circuit)[:20]
        alone, shared = (
            on_own_device(OwnExecutor, each, 3)(circuit, points, Call(2))
            for each in (None, workers)
        )
        np.testing.assert_array_equal(shared, alone)


def test_samples_that_several_workers_would_draw_alike_are_refused(threads, restored):
    circuit = several(40)
    points = points_of(circuit)
    with pytest.raises(UnsupportedError, match="the samples of tests.own cannot be seeded"):
        on_own_device(Unseeded, threads)(circuit, points)
    # The first point runs here.
    with pytest.raises(WorkerError, match="SeededAtOnce.run draws its samples otherwise"):
        on_own_device(SeededAtOnce, threads, 3)(circuit, points)


# --- what does not go out ---


@pytest.mark.parametrize("name", ["lightning.qubit", "default.mixed"])
def test_a_device_that_is_watched_runs_here(name):
    shared, circuit = executor(name, Workers(Refusing())), several()
    with qml.Tracker(shared.device) as watcher:
        shared(circuit, points_of(circuit))
    assert watcher.totals["simulations"] == COUNT


class Refusing:
    """A pool that nothing must go to."""

    def submit(self, *_):
        raise AssertionError("something was submitted")


def test_what_is_short_runs_here(monkeypatch):
    monkeypatch.undo()
    circuit = several()
    shared = executor("lightning.qubit", Workers(Refusing()))
    points = points_of(circuit)
    np.testing.assert_array_equal(
        shared(circuit, points), executor("lightning.qubit")(circuit, points)
    )
    assert shared(circuit, points[:0]).shape == (0, circuit.num_values)


def test_a_device_that_has_run_before_goes_along(threads):
    """Lightning's keeps a state vector, which cannot be pickled."""
    circuit, device = several(), qml.device("lightning.qubit", wires=3)
    device.qshift_workers = threads
    for _ in range(2):
        shared = registry.executor(device, 7, embedded=False)
        shared(circuit, points_of(circuit))
    state = device._statevector
    assert state is not None
    found = shared(circuit, points_of(circuit))
    expected = executor("lightning.qubit")(circuit, points_of(circuit))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert device._statevector is state


def test_a_device_or_circuit_that_cannot_be_pickled_is_refused(threads):
    device = qml.device("lightning.qubit", wires=3)
    device.qshift_workers, device.generator = threads, itertools.count()
    device.open = (each for each in "ab")
    with pytest.raises(UnsupportedError, match="lightning.qubit cannot be pickled.*generator"):
        registry.executor(device, None)
    circuit = several()
    circuit.operations[-1].open = (each for each in "ab")
    with pytest.raises(UnsupportedError, match="a circuit cannot be pickled.*generator"):
        executor("default.mixed", threads)(circuit, points_of(circuit))


# --- what goes wrong ---


def test_errors_of_circuits_are_raised_as_without_workers(threads):
    circuit = compiled([qml.RX(tf.constant(0.3, tf.float64), 5)], [qml.expval(qml.Z(5))])
    for each in (None, threads):
        with pytest.raises(Exception, match=r"wires.*5"):
            executor("default.mixed", each)(circuit, random_points(circuit, 9))


class Breaking:
    """A pool that breaks at its fifth submission of work."""

    def __init__(self):
        self.pool, self.count = ThreadPoolExecutor(1), 0

    def submit(self, function, *arguments):
        self.count += len(arguments) == 2 and isinstance(arguments[1], dict)
        if self.count == 5:
            future = Future()
            future.set_exception(CRASH())
            return future
        return self.pool.submit(function, *arguments)


CRASH = type("Crash", (RuntimeError,), {})


@pytest.mark.parametrize("error", [CRASH, KeyboardInterrupt])
def test_what_had_arrived_is_kept(error, tracker):
    circuit = several()
    points, pool, ran = points_of(circuit), Breaking(), []
    shared = executor("default.mixed", Workers(pool))
    run = shared.local.run
    shared.local.run = lambda circuit, points, call: (
        ran.append(len(points)) or run(circuit, points, call)
    )
    if error is KeyboardInterrupt:
        pool.submit, submit = None, pool.submit

        def interrupted(*arguments):
            if pool.count == 4:
                pool.count += 1
                raise KeyboardInterrupt
            return submit(*arguments)

        pool.submit = interrupted
    with pytest.raises(WorkerError if error is CRASH else KeyboardInterrupt):
        shared(circuit, points)
    assert tracker.totals["circuits"] == 0
    kept = int(shared._unfinished.done.sum())
    assert 0 < kept < COUNT
    truth = executor("default.mixed")(circuit, points)
    tracker.reset()
    np.testing.assert_array_equal(shared(circuit, points), truth)
    assert shared._unfinished is None and tracker.totals["circuits"] == COUNT
    assert sum(ran) <= COUNT - kept + 1
    pool.pool.shutdown()
