"""Jobs of the Executor, with runtime clients that have it, on the loopback service."""

import warnings

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_ibm_runtime import EstimatorV2, QiskitRuntimeService

import qshift
from qshift.errors import JobError
from qshift.executors.qiskit import qiskit_internals
from qshift.executors.qiskit.device import EstimatorDevice

runtime = pytest.importorskip(
    "qshift.executors.qiskit.runtime_executor", exc_type=ImportError, reason="an older client"
)
X = (0.3, 0.5)


def gates(x):
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=1)
    qml.CNOT(wires=[0, 1])


def circuit(x):
    gates(x)
    return (
        qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0)),
        qml.var(qml.Y(0)),
        qml.probs(wires=[1]),
        qml.probs(op=qml.X(0)),
    )


def values(backend, shots=20_000, **options):
    device = EstimatorDevice(backend=f"ibm:{backend}", ledger=False, **options)
    x = tf.Variable(X, dtype=tf.float64)
    with tf.GradientTape() as tape:
        found = qshift.qnode(device, shots=shots, seed=3)(circuit)(x)
        cost = found[0] + found[2][0]
    return found, tape.gradient(cost, x)


def test_the_door_chooses_this_generation():
    assert qiskit_internals.submit is runtime.submit


def test_what_is_together():
    pubs = [("estimator", 100), ("sampler", 300), ("estimator", 300), ("sampler", 100_001)]
    together = runtime.kinds(pubs, {})
    assert together == [(100, 100)] * 3 + [(100_001, 100_001)]
    assert runtime.kinds(pubs, {"resilience_level": 0, "twirling": {}}) == together
    mitigated = runtime.kinds(pubs, {"resilience_level": 1})
    # Four variants of 25, ten of 30, and 300 and 100,001 outcomes that are not twirled.
    assert mitigated == [(5, 5)] * 3 + [(100_001, 100_001)]
    extrapolated = runtime.kinds(pubs, {"resilience_level": 2})
    assert extrapolated[0] == (("estimator", 100), 0)
    assert extrapolated[2] == (("estimator", 300), 0) and extrapolated[1] == (300, 300)
    decoupled = runtime.kinds(pubs, {"dynamical_decoupling": {"enable": True}})
    assert len(set(decoupled)) == 4 and {rows for _, rows in decoupled} == {0}


def test_one_job_has_all_that_a_batch_measures(loopback, tracker):
    found, gradient = values("ibm_ideal")
    exact = qml.QNode(circuit, qml.device("default.qubit"))(np.array(X))
    for value, truth in zip(found, exact, strict=True):
        np.testing.assert_allclose(value, truth, atol=5 / np.sqrt(20_000))
    slope = [-np.sin(X[0]) / 2 * np.cos(X[1]), -np.sin(X[1]) * (1 + np.cos(X[0]) / 2)]
    np.testing.assert_allclose(gradient, slope, atol=10 / np.sqrt(20_000))
    jobs = loopback.jobs()  # the values, then what the gradient needs
    assert len(jobs) == tracker.totals["jobs"] == 2
    assert {job["program"]["id"] for job in jobs} == {"executor"}
    seconds = sum(job["usage"]["seconds"] for job in jobs)
    assert seconds == pytest.approx(tracker.totals["shots"] * 250e-6)


def test_seeds_repeat_samples(loopback):
    first, again = values("ibm_manila"), values("ibm_manila")
    for one, other in zip(tf.nest.flatten(first), tf.nest.flatten(again), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "options",
    [{"resilience_level": 1}, {"twirling": {"enable_gates": True, "num_randomizations": 2}}],
    ids=["readout", "twirling"],
)
def test_mitigated_readout_is_in_the_same_job(loopback, tracker, options):
    """Readout errors of FakeManilaV2 move the first value by about 0.06."""
    found, _ = values("ibm_manila", **options)
    exact = qml.QNode(circuit, qml.device("default.qubit"))(np.array(X))
    assert abs(found[0] - exact[0]) < 0.04
    jobs = loopback.jobs()
    assert {job["role"] for job in jobs} == {None} and len(jobs) == 2
    seconds = sum(job["usage"]["seconds"] for job in jobs)
    assert seconds == pytest.approx(tracker.totals["shots"] * 250e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"resilience_level": 2},
        {"dynamical_decoupling": {"enable": True}, "twirling": {"enable_measure": True}},
    ],
    ids=["extrapolation", "decoupling"],
)
def test_other_mitigation_is_the_clients(loopback, options):
    found, _ = values("ibm_manila", **options)
    exact = qml.QNode(circuit, qml.device("default.qubit"))(np.array(X))
    assert abs(found[0] - exact[0]) < 0.08
    jobs = loopback.jobs()
    roles = {job["role"] for job in jobs}
    assert "estimator_v2" in roles and len(jobs) == 4
    assert ("sampler_v2" in roles) == ("twirling" in options)


@pytest.mark.parametrize(
    "options",
    [{}, {"resilience_level": 1}, {"resilience_level": 2}],
    ids=["plain", "mitigated", "clients"],
)
def test_results_that_do_not_fit_are_a_job_error(loopback, options):
    loopback.faults({"kind": "short"})
    device = EstimatorDevice(backend="ibm:ibm_ideal", ledger=False, **options)

    @qshift.qnode(device, shots=100)
    def value(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(JobError, match="it came back with|what was measured is not what was"):
        value(0.3)


def test_jobs_of_earlier_clients_are_read(loopback):
    backend = QiskitRuntimeService().backend("ibm_ideal")
    idle = QuantumCircuit(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        job = EstimatorV2(mode=backend).run([(idle, [SparsePauliOp("Z")], None, 0.1)])
    (result,) = runtime.results(job)
    np.testing.assert_array_equal(result.data.evs, [1.0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resilience_level": 1},
        {"twirling": {"enable_gates": True, "num_randomizations": 4}},
        {"resilience_level": 1, "twirling": {"shots_per_randomization": 7}},
    ],
    ids=["plain", "readout", "twirling", "many variants"],
)
@pytest.mark.parametrize("shots", [200, 3000])
def test_values_and_derivatives_are_as_precise_as_they_say(loopback, shots, options):
    """With few shots, the circuit that calibrates the readout is repeated, and has no angles."""

    def word(x):
        gates(x)
        return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0) + 0.7)

    device = EstimatorDevice(backend="ibm:ibm_ideal", ledger=False, **options)
    x = tf.constant(X, tf.float64)
    found = qshift.derivatives(
        qshift.qnode(device, shots=shots, seed=7)(word), x, order=2, errors=True
    )
    exact = qshift.derivatives(qshift.qnode(qshift.device("simulator"))(word), x, order=2)
    for (value, error), truth in zip(found, exact, strict=True):
        assert np.all(np.abs(value - truth) < 4.5 * np.asarray(error) + 1e-9)
        assert np.max(error) < 1.5 / np.sqrt(shots)
    mixed, _ = values("ibm_ideal", shots=shots, **options)
    truths = qml.QNode(circuit, qml.device("default.qubit"))(np.array(X))
    for value, truth in zip(mixed, truths, strict=True):
        np.testing.assert_allclose(value, truth, atol=5 / np.sqrt(shots))


def test_a_circuit_without_angles_with_several_numbers_of_shots(loopback):
    def constant():
        qml.RX(0.3, wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.Z(0) @ qml.Z(1)), qml.probs(wires=[0, 1])

    device = EstimatorDevice(backend="ibm:ibm_ideal", ledger=False)
    for value, chances in qshift.qnode(device, shots=(100, 300, 700), seed=3)(constant)():
        assert value == 1.0
        np.testing.assert_allclose(chances, [np.cos(0.15) ** 2, 0, 0, np.sin(0.15) ** 2], atol=0.1)
    assert len(loopback.jobs()) == 1
