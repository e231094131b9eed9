"""Jobs of simulators in blocks: equal results with and without workers, and one job still."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives.containers.bindings_array import BindingsArray
from references import compiled, random_points, several

from qshift.errors import OptionError
from qshift.executors import registry
from qshift.executors.executor import Call
from qshift.executors.qiskit import blocks
from qshift.executors.qiskit.blocks import BlocksJob, cut, part_of
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.job import Submission
from qshift.executors.workers import dispatch
from qshift.executors.workers.pools import Workers


@pytest.fixture(autouse=True)
def everything_goes_out(monkeypatch):
    monkeypatch.setattr(dispatch, "_WORTHWHILE", 0.0)
    monkeypatch.setattr(dispatch, "_WORTH_STARTING", 0.0)
    monkeypatch.setattr(blocks, "POINTS", 4)  # so that few points are several blocks


@pytest.fixture
def workers():
    with ThreadPoolExecutor(2) as pool:
        yield Workers(pool)


def executor(backend, workers=None, seed=7):
    device = EstimatorDevice(3, backend)
    device.qshift_workers = workers
    return registry.executor(device, seed)


def points_of(circuit, count=11):
    points = random_points(circuit, count)
    points[5] = points[9] = points[2]
    return points


CASES = [
    ("aer", None),
    ("aer", 60),
    ("aer", (30, 40)),
    ("aer:FakeManilaV2", None),
    ("aer:FakeManilaV2", 60),
    ("fake:FakeManilaV2", 60),
]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("backend, shots", CASES)
def test_equal_to_the_last_bit_and_counted_alike(backend, shots, workers, tracker):
    circuit, found, counts = several(shots), [], []
    points = points_of(circuit)
    for each in (None, workers):
        runner, call = executor(backend, each), Call(3)
        runner(circuit, points[:1], Call(1))  # transpiles; the next one finds that on disk
        tracker.reset()
        found.append([runner(circuit, points, call) for _ in range(2)])
        counts.append(dict(tracker.totals))
    np.testing.assert_array_equal(*found)
    assert counts[0] == counts[1]
    assert counts[0]["jobs"] == 2 * runner.jobs(circuit, 11) and counts[0]["circuits"] == 22
    assert (found[0][0] == found[0][1]).all() == (shots is None)  # the second draw


def test_circuits_with_different_shots_have_samples_of_their_own():
    """They are PUBs of one job, which has one seed."""
    tape = qml.tape.QuantumScript(
        [qml.RY(tf.constant(np.pi / 2), wires=0)], [qml.expval(qml.Z(0))], shots=100
    )
    circuit, runner = compiled(tape.operations, tape.measurements, shots=100), executor("aer")
    points = np.full((2, circuit.num_parameters), np.pi / 2)
    values = [runner(circuit, points, Call(k, shots=np.array([100, 141]))) for k in range(1, 61)]
    assert abs(np.corrcoef(np.array(values)[:, :, 0].T)[0, 1]) < 0.5


@pytest.mark.parametrize("shots", [None, 40])
def test_circuits_without_angles(shots, workers):
    circuit = compiled([qml.RX(0.3, 0), qml.CNOT([0, 1])], [qml.expval(qml.Z(1))], shots)
    nowhere = np.empty((9, 0))
    alone, shared = (executor("aer", each)(circuit, nowhere, Call(1)) for each in (None, workers))
    np.testing.assert_array_equal(shared, alone)
    assert shared.shape == (9, 1) and (np.unique(shared).size > 1) == (shots is not None)


def test_samples_without_a_seed_are_fresh_in_each_block(workers):
    circuit = several(500)
    points = np.repeat(random_points(circuit, 1), 12, axis=0)
    rows = np.concatenate([executor("aer", workers, None)(circuit, points) for _ in range(2)])
    assert len(np.unique(rows, axis=0)) > 20


class Bindings:
    def __init__(self, count):
        self.shape, self.data = (count,), {("a",): np.arange(float(count))[:, None]}


def test_blocks_have_seeds_of_their_own_and_all_points():
    circuit = QuantumCircuit(3)
    pubs = [(circuit, Bindings(10), 100), (circuit, Bindings(3), 100)]
    found = cut(Submission("sampler", pubs, seed=5))
    assert [(each.pub, each.rows) for each in found] == [
        (0, range(4)),
        (0, range(4, 8)),
        (0, range(8, 10)),
        (1, range(3)),
    ]
    assert len({each.seed for each in found}) == 4 and all(each.seed > 0 for each in found)
    assert cut(Submission("sampler", pubs, seed=6))[0].seed != found[0].seed
    assert {each.seed for each in cut(Submission("sampler", pubs))} == {None}
    (alone,) = cut(Submission("sampler", pubs[1:], seed=5))
    assert alone.seed == 5
    _, bindings, shots = part_of(pubs[0], range(4, 8))
    assert bindings.shape == (4,) and shots == 100
    assert [values.ravel().tolist() for values in bindings.data.values()] == [[4, 5, 6, 7]]


@pytest.mark.parametrize("used, size", [(3, 16), (10, 16), (11, 8), (13, 2), (14, 1), (30, 1)])
def test_blocks_of_wide_circuits_have_fewer_points(used, size, monkeypatch):
    """Each of these takes long; a worker would wait for sixteen. Idle qubits cost nothing."""
    monkeypatch.setattr(blocks, "POINTS", 16)
    circuit = QuantumCircuit(40)
    for wire in range(used):
        circuit.ry(Parameter(f"a{wire}"), wire)
    values = BindingsArray({tuple(circuit.parameters): np.zeros((33, used))})
    found = cut(Submission("estimator", [(circuit, "Z" * 40, values, 0.1)], seed=5))
    assert {len(block.rows) for block in found[:-1]} == {size}
    assert [row for block in found for row in block.rows] == list(range(33))


def test_a_job_runs_when_its_results_are_asked_for_and_once():
    class Target:
        name, runs = "tests", 0

        def simulate(self, submission):
            Target.runs += 1
            raise ZeroDivisionError

    submission = Submission("sampler", [(QuantumCircuit(1), Bindings(5), 9)])
    job = BlocksJob(Target(), (), submission, cut(submission), None)
    assert job.status() == "running" and not Target.runs and job.instance is None
    with pytest.raises(ZeroDivisionError):
        job.result()
    assert Target.runs == 1 and job.status() == "running"
    job.cancel()


def test_devices_keep_their_workers_when_pickled():
    device = EstimatorDevice(3, "aer")
    assert device.qshift_workers is None
    device.qshift_workers = Workers(2)
    copied = pickle.loads(pickle.dumps(device))
    assert copied.qshift_workers.given == 2 and copied.target.workers is copied.qshift_workers


def test_the_jobs_of_a_service_run_there():
    device = EstimatorDevice(3, "ibm:ibm_torino", ledger=False)
    with pytest.raises(OptionError, match="workers: the jobs of ibm:ibm_torino run on its service"):
        device.qshift_workers = Workers(2)


def test_small_jobs_are_whole():
    device = EstimatorDevice(1, "aer")
    circuit = compiled([qml.RX(tf.constant(0.3, tf.float64), 0)], [qml.expval(qml.Z(0))], 30)
    jobs = []
    submit = device.target.submit
    device.target.submit = lambda each: jobs.append(submit(each)) or jobs[-1]
    runner = registry.executor(device, 7)
    for count in (4, 5):
        runner(circuit, random_points(circuit, count), Call(1))
    assert [isinstance(job, BlocksJob) for job in jobs] == [False, True]
