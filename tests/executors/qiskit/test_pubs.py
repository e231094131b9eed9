"""Shots of their own on Qiskit's primitives: as PUBs of one job, or as points that are repeated."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from references import compiled, exact, random_points
from services import KilledError, Service, process, remote

import qshift
from qshift.executors.executor import Call
from qshift.executors.qiskit import unconfirmed_jobs
from qshift.executors.qiskit.batch import Batch
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.ledger.ledger import Ledger
from qshift.rules.shots import Shots

X = tf.constant([0.3, 0.5], tf.float64)
WAYS = {"pubs": True, "repeated": False}


def energy(x):
    """Two rotations of two frequencies, in two bases."""
    for wire in range(2):
        qml.RX(x[wire], wires=wire)
        qml.RY(0.4, wires=wire)
        qml.RX(x[wire], wires=wire)
    qml.CNOT(wires=[0, 1])
    return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0))


def small(x):
    """A rotation of two frequencies, and one of one, in two bases."""
    qml.CRX(x[0], wires=[0, 1])
    qml.RY(x[1], wires=0)
    return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0))


def measured(shots):
    """An expectation value and the probabilities of a qubit, for which a Sampler is needed."""
    a, b = (tf.constant(angle, tf.float64) for angle in (0.4, -1.1))
    gates = [qml.RX(a, 0), qml.CNOT([0, 1]), qml.RY(b, 1)]
    return compiled(gates, [qml.expval(qml.Z(0) @ qml.Z(1)), qml.probs(wires=1)], shots)


@pytest.mark.parametrize("way", WAYS)
def test_each_point_has_its_own_shots(way, tracker):
    circuit = measured(100)
    executor = EstimatorDevice(2, "aer", mixed_shots=WAYS[way], seed=3)._executor
    assert executor.allots(circuit) and not executor.allots(measured([10, 20]))
    repetitions, numbers = 40, (20, 100, 200)
    shots = np.repeat(numbers, repetitions)
    np.random.default_rng(1).shuffle(shots)
    point = random_points(circuit, 1, seed=2)
    points = np.repeat(point, len(shots), axis=0)
    values, variances, _ = executor.sample(circuit, points, Call(1, shots=shots))
    assert tracker.totals["circuits"] == len(shots) and tracker.totals["jobs"] == 2
    assert tracker.totals["shots"] == 2 * shots.sum() == executor.bases(circuit) * shots.sum()
    right = exact(circuit, point)[0]
    for number in numbers:
        own, deviations = values[shots == number], np.sqrt(variances[shots == number])
        expected = np.sqrt((1 - right[0] ** 2) / number)
        # Forty repetitions give deviations to 11 %; four pseudo-outcomes widen those of few shots.
        assert abs(own[:, 0].std() / expected - 1) < 0.4
        ratio = np.sqrt((deviations**2).mean(axis=0)) / own.std(axis=0)
        assert (np.abs(ratio - 1) < 0.4 + 2 / number).all()
        np.testing.assert_allclose(own.mean(axis=0), right, atol=5 / np.sqrt(40 * number))
    # Values of n shots are means of n outcomes.
    counts = values[:, 0] * shots / 2 + shots / 2
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_outcomes_are_added_once_for_a_point(way):
    """Not for each repetition, of which a few shots would have large errors: here all samples are
    equal, so that the errors are those of what is added."""
    x = tf.constant(0.0, tf.float64)
    measurements = [qml.expval(3 * qml.Z(0)), qml.probs(wires=0)]
    circuit = compiled([qml.RX(x, 0)], measurements, 100)
    executor = EstimatorDevice(1, "aer", mixed_shots=WAYS[way], seed=3)._executor
    shots = np.array([10, 400, 30])
    found = executor.sample(circuit, np.zeros((3, 1)), Call(1, shots=shots))
    values, variances, added = found
    np.testing.assert_array_equal(values, [[3.0, 1.0, 0.0]] * 3)
    expected = (1 - (shots / (shots + 4)) ** 2)[:, None] / shots[:, None] * [9, 0.25, 0.25]
    np.testing.assert_allclose(variances, expected, rtol=1e-9)
    np.testing.assert_allclose(added, expected, rtol=1e-9)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", [Shots(per_circuit=1000), Shots(total=20_000, least=100)])
def test_plans_are_what_runs(way, asked, tracker):
    device = EstimatorDevice(2, "fake:FakeManilaV2", mixed_shots=WAYS[way], max_executions=30_000)
    node = qshift.QNode(energy, device, shots=asked)
    plan = node.plan(X, order=2)
    qshift.derivatives(node, X, order=2)
    found = dict(tracker.totals)
    if asked.total:
        assert 0.95 * asked.total < found["shots"] <= asked.total
        assert [0.9 * 20_000 < each.shots <= 20_000 for each in plan.orders] == [True] * 3
    else:
        assert found["shots"] == plan.shots == 2 * 1000 * plan.circuits
        assert found["circuits"] == plan.circuits
    # The executor plans the same jobs.
    executor = device._executor
    shots = np.array([100, 200, 100, 12_000, 400])
    circuit = measured(100)
    tracker.reset()
    executor(circuit, random_points(circuit, 5), Call(1, shots=shots))
    assert executor.costs(circuit, shots)[0] == tracker.totals["jobs"]


def test_errors_are_smaller_than_those_of_equal_shots():
    """For the same number of shots, where each angle has two frequencies."""
    device = EstimatorDevice(2, "aer", seed=5)
    x = tf.constant(np.tile([0.3, 0.5], (25, 1)))
    variances = []
    for equal in (False, True):
        node = qshift.QNode(batched, device, shots=Shots(per_circuit=100, equal=equal))
        found = qshift.derivatives(node, x, partials=[(), (0,), (0, 0)], batched=0)
        flat = np.hstack([np.reshape(each, (25, -1)) for each in found])
        variances.append(flat.var(axis=0).sum() * node.plan(x, order=2).shots)
    assert variances[0] < 0.75 * variances[1]


def batched(x):
    for wire in range(2):
        qml.RX(x[..., wire], wires=wire)
        qml.RY(0.4, wires=wire)
        qml.RX(x[..., wire], wires=wire)
    qml.CNOT(wires=[0, 1])
    return qml.expval(qml.Z(0) @ qml.Z(1))


def test_a_plain_number_is_the_same_for_all_circuits(tracker):
    """So that a program of an earlier release finds what it has paid for."""
    device = EstimatorDevice(2, "aer")
    plain = qshift.QNode(energy, device, shots=100)
    equal = qshift.QNode(energy, device, shots=Shots(per_circuit=100, equal=True))
    assert plain.plan(X, order=2) == equal.plan(X, order=2)
    own = qshift.QNode(energy, device, shots=Shots(per_circuit=100)).plan(X, order=2)
    assert own.precision.cost < 0.7 * plain.plan(X, order=2).precision.cost


def test_few_pubs_in_a_job_take_repeated_points():
    device = EstimatorDevice(2, "aer", max_pubs=4)
    assert device._executor.numbers == "multiples"
    assert EstimatorDevice(2, "aer")._executor.numbers == "few"
    assert EstimatorDevice(2, "aer").limits.mixed
    with pytest.raises(qshift.errors.OptionError, match="mixed_shots"):
        EstimatorDevice(2, "aer", mixed_shots=2)


def test_where_shots_must_not_be_mixed_jobs_have_one_number_each(tracker):
    device = EstimatorDevice(2, "aer", mixed_shots=False)
    values = qshift.QNode(energy, device, shots=[100, 300])(X)
    assert len(values) == 2 and tracker.totals["jobs"] == 2
    assert tracker.totals["shots"] == 2 * 400


def test_special_angles_and_empty_batches(tracker):
    device = EstimatorDevice(2, "aer")
    node = qshift.QNode(energy, device, shots=Shots(per_circuit=200))
    for angle in (0.0, np.pi / 2, 2 * np.pi, 1e-9, 1e13, np.nan):
        x = tf.constant([angle, 0.3], tf.float64)
        found = qshift.derivatives(node, x, order=1)
        right = qshift.derivatives(qshift.QNode(energy, qml.device("default.qubit")), x, order=1)
        for one, other in zip(found, right, strict=True):
            np.testing.assert_allclose(one, other, atol=0.8)
    tracker.reset()
    node = qshift.QNode(batched, device, shots=Shots(per_circuit=200))
    empty = qshift.derivatives(node, tf.zeros([0, 2], tf.float64), partials=[(), (0,)], batched=0)
    assert [each.shape[0] for each in empty] == [0, 0] and tracker.totals["shots"] == 0


# The ledger


def program(device):
    """Steps of gradient descent; a gradient takes several jobs."""
    node, x = qshift.QNode(energy, device, shots=Shots(per_circuit=300), seed=9), tf.Variable(X)
    found = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            value = node(x)
        gradient = tape.gradient(value, x)
        found += [value[None], gradient]
        x.assign_sub(0.1 * gradient)
    return np.concatenate(found)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kept", ["simulator", "service"])
@pytest.mark.parametrize(
    "moment, number, after",
    [
        ((Batch, "_send"), 2, True),
        ((Ledger, "store"), 2, True),
    ],
)
def test_a_killed_program_goes_on(way, kept, moment, number, after, tmp_path, monkeypatch, tracker):
    """A kill between jobs loses nothing, and what was drawn is not drawn again."""
    service, left = Service(), [number]
    options = {"ledger": tmp_path / "ledger", "max_executions": 2500, "mixed_shots": WAYS[way]}

    def device(**more):
        given = options | more
        return remote(service, **given) if kept == "service" else EstimatorDevice(**given)

    function = getattr(*moment)

    def struck(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0 and not after:
            raise KilledError
        result = function(*args, **kwargs)
        if left[0] < 0:
            raise KilledError
        return result

    undisturbed = program(device(ledger=tmp_path / "other"))
    whole = dict(tracker.totals)
    tracker.reset()
    before = len(service.jobs)
    with process(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(*moment, struck)
        program(device())
        pytest.fail("it was not killed")
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 0.3)
    # Samples follow from the draws, so these are the same ones.
    np.testing.assert_array_equal(program(device()), undisturbed)
    jobs = Ledger(options["ledger"]).jobs()
    assert {job.state for job in jobs} == {"done"}
    assert sum(job.shots for job in jobs) == whole["shots"]
    if kept == "service":
        assert len(service.jobs) - before == len(jobs) and tracker.totals["shots"] == whole["shots"]
    tracker.reset()
    with process(monkeypatch):
        np.testing.assert_array_equal(program(device()), undisturbed)
    assert tracker.totals["jobs"] == 0


SPREADS = {
    "each circuit": Shots(per_circuit=300),
    "a batch": Shots(total=3000),
    "chosen": Shots(total=20),
    "pilot": Shots(per_circuit=300, pilot=0.2),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spread", SPREADS)
def test_without_a_seed_nothing_is_paid_twice(way, spread, tmp_path, monkeypatch, tracker):
    """Which circuits get how many shots is the same when the program is run again."""

    def run():
        tracker.reset()
        device = EstimatorDevice(ledger=tmp_path / "ledger", mixed_shots=WAYS[way])
        node = qshift.QNode(small, device, shots=SPREADS[spread])
        with process(monkeypatch):
            found = [qshift.derivatives(node, X, order=2) for _ in range(2)]
            with tf.GradientTape() as tape:
                tape.watch(X)
                value = node(X)
            found.append((value, tape.gradient(value, X)))
        return [each.numpy() for some in found for each in some], tracker.totals["shots"]

    first, paid = run()
    again, more = run()
    assert paid > 0 and more == 0
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first[2] != first[5]).any()  # the second call has samples of its own


def test_choices_are_repeated_as_samples_are(tmp_path, monkeypatch):
    circuit = measured(100)

    def chosen(number, of=b"angles", failing=False):
        device = EstimatorDevice(2, "aer", ledger=tmp_path / "ledger")
        with device._executor.choices(circuit, of, number, (0, 0), 2) as found:
            if failing:
                raise KilledError
        return found.tolist()

    with process(monkeypatch):
        first, second = chosen(1), chosen(1)
        assert first != second and len(first) == 2 and 0 <= min(first) <= max(first) < 1
        assert chosen(1, b"other angles") not in (first, second)
    with process(monkeypatch):
        with pytest.raises(KilledError):
            chosen(1, failing=True)
        assert chosen(7) == first  # the number of a call in a graph is not the same again
        assert chosen(8) == second


@pytest.mark.parametrize(
    "way, shots",
    [
        ("pubs", 60),
        ("pubs", Shots(per_circuit=60)),
        ("repeated", Shots(per_circuit=60)),
        ("pubs", Shots(total=500)),
        ("pubs", Shots(per_circuit=60, pilot=0.2)),
    ],
)
def test_plans_are_what_runs_with_mitigation(way, shots, tracker):
    """What is asked for together has one calibration, what tapes ask for has one for each order."""
    device = EstimatorDevice(2, "aer", mixed_shots=WAYS[way], resilience_level=1)
    node = qshift.QNode(small, device, shots=shots)
    plan = node.plan(X, order=2)

    def drawn():
        found = dict(tracker.totals)
        tracker.reset()
        return {name: found[name] for name in ("shots", "circuits", "batches", "jobs")}

    def planned(order):
        return {name: getattr(order, name) for name in drawn()}

    def tapes(node):
        with tf.GradientTape() as outer:
            outer.watch(X)
            with tf.GradientTape() as tape:
                tape.watch(X)
                value = node(X)
            gradient = tape.gradient(value, X)
        outer.jacobian(gradient, X)

    qshift.derivatives(node, X, order=2)
    together = drawn()
    tapes(node)
    apart = drawn()
    tapes(node.update(prefetch=2))
    ahead = drawn()
    expected = [planned(plan.together), planned(plan.together), planned(plan)]
    if plan.pilot:  # how the other shots are spread, and so rounded, follows from the first
        for found, order in zip((together, ahead, apart), expected, strict=True):
            assert found.pop("shots") == pytest.approx(order.pop("shots"), rel=0.03)
    assert [together, ahead, apart] == expected
    assert together["batches"] == 1 + bool(plan.pilot) and plan.together.shots < plan.shots
    executor, circuit = device._executor, measured(100)
    shots = np.array([100, 200, 100, 1200, 400])
    executor(circuit, random_points(circuit, 5), Call(1, shots=shots))
    assert executor.samples(circuit, 5, shots) == drawn()["shots"]
