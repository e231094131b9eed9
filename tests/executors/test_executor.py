"""The contract, for every executor: values, gradients, samples, counts, errors, threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pennylane as qml
import pytest
from references import OwnDevice, OwnExecutor, compiled, differences, random_points, several, truth

from qshift.errors import UnsupportedError
from qshift.executors import registry
from qshift.executors.executor import Call, Executor
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.qiskit.device import EstimatorDevice

SHOTS = 200


@dataclass(frozen=True)
class Kind:
    """A kind of executor.

    Attributes:
        name: What errors call the device.
        make: From a seed to an executor on three wires.
        is_exact: Whether it runs circuits without shots.
        has_gradients: Whether it differentiates.
        bias: How far noise moves values.
        wires: Whether the device knows which wires it has.
    """

    name: str
    make: object
    is_exact: bool = True
    has_gradients: bool = False
    bias: float = 0.0
    wires: bool = True


def made(name, **options):
    return lambda seed: registry.executor(qml.device(name, wires=3, **options), seed)


def on_estimator(backend):
    return lambda seed: registry.executor(EstimatorDevice(3, backend), seed)


KINDS = {
    "default.qubit": Kind(
        "default.qubit",
        lambda seed: PennyLaneExecutor(qml.device("default.qubit", wires=3), seed),
        has_gradients=True,
    ),
    "lightning": Kind(
        "lightning.qubit",
        lambda seed: PennyLaneExecutor(qml.device("lightning.qubit", wires=3), seed),
        has_gradients=True,
    ),
    "simulator": Kind("lightning.qubit", made("lightning.qubit"), has_gradients=True),
    "simulator for default.qubit": Kind("default.qubit", made("default.qubit"), has_gradients=True),
    "aer": Kind("aer", on_estimator("aer")),
    "fake": Kind("fake:FakeManilaV2", on_estimator("fake:FakeManilaV2"), False, bias=0.35),
    "own": Kind("tests.own", lambda seed: registry.executor(OwnDevice(), seed), wires=False),
}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_makers", dict(registry._makers))
    registry.register("tests.own", OwnExecutor)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def executor(kind):
    return kind.make(7)


@pytest.fixture
def circuit(kind):
    return several(None if kind.is_exact else SHOTS)


def assert_right(kind, circuit, points, values):
    """Compares with products of matrices; sampled values within six deviations and the bias."""
    assert values.dtype == np.float64 and values.shape == (len(points), circuit.num_values)
    largest = 2.0  # norm of the observables
    bound = 6 * largest / np.sqrt(SHOTS) + kind.bias if circuit.shots else 1e-8
    np.testing.assert_allclose(values, truth(circuit, points), rtol=0, atol=bound)


@pytest.mark.parametrize("count", [1, 2, 25])
def test_values_and_counts(kind, executor, circuit, count, tracker):
    points = random_points(circuit, count)
    planned = {"shots": count * executor.shots(circuit), "jobs": executor.jobs(circuit, count)}
    assert tracker.totals["circuits"] == tracker.totals["jobs"] == 0
    assert_right(kind, circuit, points, executor(circuit, points))
    expected = planned | {"batches": 1, "circuits": count}
    assert {name: tracker.totals[name] for name in expected} == expected
    assert (planned["shots"] > 0) == bool(circuit.shots)


def test_points_are_run_alike_alone_and_together(kind, executor):
    if not kind.is_exact:
        pytest.skip("it samples")
    circuit = several()
    points = random_points(circuit, 25)
    points[7] = points[3]
    together = executor(circuit, points)
    alone = np.concatenate([executor(circuit, point[None]) for point in points])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)
    np.testing.assert_allclose(executor(circuit, points[::-1]), together[::-1], rtol=0, atol=1e-12)


def test_an_empty_batch_runs_nothing(kind, executor, circuit, tracker):
    values = executor(circuit, np.empty((0, circuit.num_parameters)))
    assert values.shape == (0, circuit.num_values) and values.dtype == np.float64
    assert not any(tracker.totals.values())


@pytest.mark.parametrize(
    "values, message",
    [
        (lambda points: np.zeros((len(points), 7)) + 1j, "real numbers, but returned complex128"),
        (lambda points: [[0.0] * (k + 1) for k in range(len(points))], "rows of different lengths"),
        (lambda points: [["zero"] * 7 for _ in points], "real numbers, but returned <U4"),
    ],
)
def test_results_that_are_no_real_numbers_are_refused(values, message, tracker):
    class Wrong(Executor):
        def run(self, circuit, points, call):
            return values(points)

    executor, circuit = Wrong(OwnDevice()), several()
    with pytest.raises(ValueError, match=f"Wrong.run has to return.*{message}"):
        executor(circuit, random_points(circuit, 2))
    assert not any(tracker.totals.values())


def test_a_seed_that_nobody_uses_is_refused():
    class Unseeded(Executor):
        def run(self, circuit, points, call):
            return np.zeros((len(points), circuit.num_values))

    assert Unseeded(OwnDevice()).seed is None
    with pytest.raises(UnsupportedError, match="seed= was given, but Unseeded"):
        Unseeded(OwnDevice(), 3)


def test_no_parameters(kind, executor):
    shots = None if kind.is_exact else SHOTS
    circuit = compiled([qml.RX(0.3, 0), qml.CNOT([0, 1])], [qml.expval(qml.Z(1))], shots)
    assert_right(kind, circuit, np.empty((2, 0)), executor(circuit, np.empty((2, 0))))


def test_gradients(kind, executor, tracker):
    shots = None if kind.is_exact else SHOTS
    circuit = several(shots, adjoint=True, probs=False)
    points = random_points(circuit, 3)
    if not kind.has_gradients:
        assert not executor.differentiates(circuit)
        for ask in (executor.require_gradients, lambda c: executor.gradients(c, points)):
            with pytest.raises(UnsupportedError) as error:
                ask(circuit)
            assert kind.name in str(error.value) and "Use diff_method='shift'" in str(error.value)
        return
    executor.require_gradients(circuit)
    assert not any(tracker.totals.values())
    found = executor.gradients(circuit, points)
    np.testing.assert_allclose(found, differences(circuit, points), rtol=0, atol=1e-8)
    assert tracker.totals["batches"] == 1 and tracker.totals["circuits"] == 3
    none = executor.gradients(circuit, points[:0])
    assert none.shape == (0, circuit.num_values, circuit.num_parameters)
    assert tracker.totals["batches"] == 1


def test_derivatives_of_sums(kind, executor, tracker):
    if not kind.has_gradients:
        pytest.skip("it does not differentiate")
    circuit = several(adjoint=True, probs=False)
    points = random_points(circuit, 3)
    cotangents = np.random.default_rng(4).normal(size=(3, circuit.num_values))
    found = executor.pulled_back(circuit, points, cotangents)
    expected = np.einsum("nm,nmp->np", cotangents, differences(circuit, points))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    assert tracker.totals["batches"] == 1 and tracker.totals["circuits"] == 3
    none = executor.pulled_back(circuit, points[:0], cotangents[:0])
    assert none.shape == (0, circuit.num_parameters) and tracker.totals["batches"] == 1


def test_samples_have_no_gradients(kind, executor, tracker):
    circuit = several(SHOTS, adjoint=True, probs=False)
    points = random_points(circuit, 2)
    for ask in (executor.require_gradients, lambda c: executor.gradients(c, points)):
        with pytest.raises(
            UnsupportedError, match="diff_method='adjoint'.*Use diff_method='shift'"
        ):
            ask(circuit)
    assert not executor.differentiates(circuit)
    assert not any(tracker.totals.values())


def test_samples_have_the_right_distribution(kind, executor):
    """Means within five deviations of the truth, and the variance of so many shots."""
    circuit, repeats = several(SHOTS), 60
    point = random_points(circuit, 1, seed=3)
    samples = executor(circuit, np.repeat(point, repeats, axis=0))
    means, deviations = samples.mean(axis=0), samples.std(axis=0, ddof=1)
    bound = 5 * deviations / np.sqrt(repeats) + kind.bias + 1e-12
    assert (np.abs(means - truth(circuit, point)[0]) <= bound).all()
    expected = (1 - means[0] ** 2) / SHOTS  # of a Pauli word
    assert abs(np.log(deviations[0] ** 2 / expected)) <= 6 * np.sqrt(2 / repeats)


def test_each_entry_of_a_shot_vector_has_its_values(kind, executor):
    circuit = several([SHOTS, 2 * SHOTS])
    points = random_points(circuit, 2)
    values = executor(circuit, points)
    assert circuit.num_values == 2 * several(SHOTS).num_values
    first, second = np.split(values, 2, axis=1)
    for copy in (first, second):
        assert_right(kind, several(SHOTS), points, copy)
    assert not np.array_equal(first, second)


def test_samples_follow_from_the_seed_and_the_call(kind):
    circuit = several(SHOTS)
    points = random_points(circuit, 3)

    def runs(seed):
        executor = kind.make(seed)
        return np.array([executor(circuit, points), executor(circuit, points)])

    first = runs(7)
    np.testing.assert_array_equal(first, runs(7))
    assert not np.array_equal(first[0], first[1])  # another call
    assert not np.array_equal(first, runs(8))
    assert not np.array_equal(runs(None), runs(None))
    numbered = [kind.make(7)(circuit, points, Call(number)) for number in (2, 1)]
    np.testing.assert_array_equal(numbered[::-1], first)


def test_threads(kind, executor):
    """Seeded samples follow from what is run, whatever other threads do."""
    shots = None if kind.is_exact else SHOTS
    circuits = [several(shots), several(SHOTS), compiled([], [qml.expval(qml.Z(0))], shots)]
    jobs = [
        (circuit, random_points(circuit, 3, seed=number), number)
        for number, circuit in enumerate(circuits * 3)
    ]

    def run(job):
        circuit, points, number = job
        return executor(circuit, points, Call(number))

    alone = list(map(run, jobs))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, jobs))
    for (circuit, points, _), one, other in zip(jobs, alone, together, strict=True):
        assert_right(kind, circuit, points, other)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_wires_that_the_device_lacks(kind, executor, tracker):
    if not kind.wires:
        pytest.skip("it has them all")
    circuit = compiled([qml.RX(0.3, 5)], [qml.expval(qml.Z(5))], SHOTS)
    with pytest.raises(Exception, match=r"wires.*5"):
        executor(circuit, np.empty((1, 0)))
    assert not any(tracker.totals.values())


# --- the base class ---


def test_an_executor_has_to_run_circuits():
    with pytest.raises(TypeError, match="abstract.*run"):
        Executor(OwnDevice())


def test_defaults():
    executor, circuit = OwnExecutor(OwnDevice()), several()
    assert executor.seed is None and executor.name == "tests.own"
    assert executor.shots(circuit) == executor.jobs(circuit, 5) == 0
    assert executor.shots(several([3, 4])) == 7
    assert executor.seconds(circuit, 5) is None
    assert not executor.differentiates(circuit) and not executor.differentiates_gates


def test_gradients_of_ones_own():
    class Differentiates(OwnExecutor):
        def differentiate(self, circuit, points):
            return differences(circuit, points)

    executor, circuit = Differentiates(OwnDevice()), several(probs=False)
    executor.require_gradients(circuit)
    points = random_points(circuit, 2)
    np.testing.assert_array_equal(executor.gradients(circuit, points), differences(circuit, points))


def test_results_of_another_shape_are_refused(tracker):
    class Wrong(Executor):
        def run(self, circuit, points, call):
            return np.zeros(len(points))

        def differentiate(self, circuit, points):
            return np.zeros((len(points), circuit.num_parameters))

    executor, circuit = Wrong(OwnDevice()), several()
    points = random_points(circuit, 2)
    with pytest.raises(ValueError, match=r"Wrong.run has to return.*\(2, 7\).*one of \(2,\)"):
        executor(circuit, points)
    with pytest.raises(ValueError, match=r"Wrong.differentiate has .*\(2, 7, 8\).*one of \(2, 8\)"):
        executor.gradients(circuit, points)
    assert not any(tracker.totals.values())


def test_estimates_are_values_variances_and_what_was_added(tracker):
    class Old(OwnExecutor):
        def sample(self, circuit, points, call):
            values = self.run(circuit, points, call)
            return values, np.ones_like(values)

    class Whole(Old):
        def sample(self, circuit, points, call):
            return *super().sample(circuit, points, call), np.zeros((len(points), 1))

    circuit = replace(several(100), measurements=(qml.expval(qml.Z(0)),), sizes=(1,))
    points = random_points(circuit, 2)
    for jointly in (False, True):
        with pytest.raises(ValueError, match=r"Old.sample has to return three.*returned 2 of them"):
            Old(OwnDevice()).estimates(circuit, points, Call(1), jointly)
        assert not any(tracker.totals.values())
        values, spread, added = Whole(OwnDevice()).estimates(circuit, points, Call(1), jointly)
        assert values.shape == added.shape == (2, 1) and spread.shape == (2, 1) + (1,) * jointly
        tracker.reset()
