"""Circuits on Qiskit's primitives, against default.qubit; how many jobs and transpilations."""

import copy
import pickle
import re
from functools import cache

import cloudpickle
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit import transpile
from qiskit.circuit.random import random_circuit
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime.fake_provider import FakeManilaV2
from random_circuits import GATES, PLAIN, TEMPLATES, RandomCircuit, tape_derivatives

import qshift
from qshift.api.profiles import ProfileError
from qshift.errors import OptionError, UnsupportedError
from qshift.executors.qiskit import qiskit_internals
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.job_splitting import Limits, Load, pack

# PennyLane decomposes neither, and their generators' Pauli words do not commute.
WITHOUT_GATES = {"C(Evolution)", "Evolution(irrational)"}
SUPPORTED = sorted(set(GATES) - WITHOUT_GATES)
SHOTS = 20_000


@cache
def manila(**options):
    """Always the same device: its noise model is built once."""
    device = EstimatorDevice(backend="fake:FakeManilaV2", **options)
    device.qshift_shots = 1000
    return device


def exact(function, *args):
    return qml.QNode(function, qml.device("default.qubit"))(*args)


def layered(x):
    for wire in range(4):
        qml.RX(x[wire], wires=wire)
    for wire in range(3):
        qml.CNOT([wire, wire + 1])
    return qml.expval(qml.Z(0) @ qml.Z(2))


def numbers(*values):
    return tf.Variable(np.array(values), dtype=tf.float64)


THETA = (0.3, 0.5, 0.7, 0.9)


# Values


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", SUPPORTED)
def test_every_gate_is_exact_on_aer(name):
    circuit = RandomCircuit(3, max(3, GATES[name].wires + 1), 2, gates=2, names=[name])
    values = circuit.qshift(EstimatorDevice())(tf.constant(circuit.theta))
    np.testing.assert_allclose(values, circuit.numpy()(circuit.theta), atol=1e-8)


@pytest.mark.parametrize("seed", range(16))
def test_random_circuits_with_labels_in_any_order(seed):
    rng = np.random.default_rng(seed)
    wires = 1 + seed % 5
    # Templates are left out as PennyLane's map_wires breaks some; they are made of other gates.
    names = [name for name in SUPPORTED if name not in TEMPLATES]
    circuit = RandomCircuit(seed, wires, 3, gates=4, measurements=4, names=names)
    # Observables may act on wires behind those of the gates.
    labels = [f"q{i}" if i % 2 else i for i in rng.permutation(2 * wires + 2).tolist()]
    named = qml.map_wires(circuit, dict(enumerate(labels)))
    device = EstimatorDevice(wires=[labels[i] for i in rng.permutation(len(labels))])
    truth = np.hstack([np.ravel(value) for value in exact(circuit, circuit.theta)])
    values = qshift.qnode(device)(named)(tf.constant(circuit.theta))
    values = np.hstack([np.ravel(value) for value in values])
    np.testing.assert_allclose(values, truth, atol=1e-8)
    plain = qml.QNode(named, device)(circuit.theta)
    np.testing.assert_allclose(np.hstack([np.ravel(v) for v in plain]), truth, atol=1e-8)


@pytest.mark.filterwarnings("ignore:Using qp.probs with a Hermitian observable:UserWarning")
@pytest.mark.parametrize("seed", range(6))
def test_samples_agree_with_the_simulator(seed):
    rng = np.random.default_rng(seed)
    ansatz = RandomCircuit(seed, 1 + seed % 5, 2, gates=3, measurements=0, names=SUPPORTED)
    wires = [int(wire) for wire in rng.permutation(ansatz.wires)]

    def circuit(x):
        ansatz(x)
        return (
            qml.expval(qml.prod(*(qml.Y(wire) for wire in wires))),
            qml.expval(0.3 * qml.X(wires[0]) + 0.2 * qml.Z(wires[-1]) - 0.1 * qml.I(wires[0])),
            qml.expval(qml.Projector([1], wires[0])),
            qml.probs(wires=wires),
            qml.probs(wires=wires[-1]),
            qml.probs(op=qml.X(wires[0])),
            qml.probs(op=qml.Hermitian(np.array([[0.2, 1 - 1j], [1 + 1j, -0.5]]), wires[-1])),
        )

    device = EstimatorDevice()
    with qshift.Tracker() as tracker:
        values = qshift.qnode(device, shots=SHOTS, seed=seed)(circuit)(tf.constant(ansatz.theta))
    assert tracker.totals["jobs"] == 2  # an estimator's and a sampler's
    for value, truth in zip(values, exact(circuit, ansatz.theta), strict=True):
        np.testing.assert_allclose(value, truth, atol=5 / np.sqrt(SHOTS))
    plain = qml.set_shots(qml.QNode(circuit, device), SHOTS)(ansatz.theta)
    for value, truth in zip(plain, exact(circuit, ansatz.theta), strict=True):
        np.testing.assert_allclose(value, truth, atol=5 / np.sqrt(SHOTS))


def test_shot_vectors_are_pubs_of_the_same_job(tracker):
    qnode = qshift.qnode(EstimatorDevice(), shots=[(4000, 2), SHOTS])(layered)
    values = qnode(tf.constant(THETA, tf.float64))
    np.testing.assert_allclose(values, exact(layered, THETA), atol=0.08)
    assert len(values) == 3 and len(set(map(float, values))) > 1
    assert tracker.totals == {
        "circuits": 1,
        "batches": 1,
        "jobs": 1,
        "shots": 8000 + SHOTS,
        "transpilations": 1,
    }


@pytest.mark.parametrize("level", range(4))
def test_every_optimization_level_gives_the_same(level):
    device = EstimatorDevice(backend="aer:FakeManilaV2", optimization_level=level)
    clean = EstimatorDevice(optimization_level=level)
    np.testing.assert_allclose(qml.QNode(layered, clean)(THETA), exact(layered, THETA), atol=1e-8)
    assert abs(qml.QNode(layered, device)(THETA) - exact(layered, THETA)) < 0.2


@pytest.mark.one_in(2)
@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("backend", ["FakeManilaV2", "FakeLagosV2"])
def test_qubits_are_found_where_routing_has_put_them(backend, level):
    device = EstimatorDevice(backend=f"aer:{backend}", optimization_level=level)
    device.target._backend = AerSimulator()  # transpiled for the backend, but without its noise
    for seed in range(3):
        ansatz = RandomCircuit(seed, 5, 2, gates=4, measurements=0, names=SUPPORTED)

        def circuit(x, ansatz=ansatz):
            ansatz(x)
            words = qml.X(0) @ qml.Y(3) @ qml.Z(4), qml.Y(1) @ qml.X(4) - 0.4 * qml.Z(2)
            return *map(qml.expval, words), qml.probs(wires=[3, 0]), qml.probs(wires=[4, 1, 2])

        x, truth = tf.constant(ansatz.theta), exact(circuit, ansatz.theta)
        for value, wanted in zip(qshift.qnode(device)(circuit)(x), truth, strict=True):
            np.testing.assert_allclose(value, wanted, atol=1e-8)
        sampled = qshift.qnode(device, shots=SHOTS)(circuit)(x)
        for value, wanted in zip(sampled, truth, strict=True):
            np.testing.assert_allclose(value, wanted, atol=6 / np.sqrt(SHOTS))


def test_a_batch_of_inputs_and_constants_only():
    @qshift.qnode(EstimatorDevice())
    def circuit(x):
        qml.RX(x, wires=0)
        qml.StatePrep(np.array([0.6, 0.8j]), wires=1)
        qml.Barrier(wires=[0, 1])
        return qml.expval(qml.Z(0)), qml.expval(qml.Y(1)), qml.expval(qml.I(0))

    x = np.linspace(0, 1, 5)
    z, y, one = circuit(tf.constant(x))
    np.testing.assert_allclose(z, np.cos(x), atol=1e-8)
    np.testing.assert_allclose(y, np.full(5, 0.96), atol=1e-8)
    np.testing.assert_allclose(one, np.ones(5))
    np.testing.assert_allclose(circuit(np.array(0.3))[1], 0.96, atol=1e-8)


def measured(x):
    qml.RX(x, wires=0)
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(0) @ qml.X(1) - 0.5 * qml.Z(1)), qml.probs(wires=[0, 1])


@pytest.mark.one_in(3)
@pytest.mark.parametrize("shots", [None, 100])
@pytest.mark.parametrize("backend", ["aer", "aer:FakeManilaV2", "fake:FakeManilaV2"])
@pytest.mark.parametrize("recorded", [False, True])
def test_an_empty_batch_is_an_empty_result(backend, shots, recorded, tracker, tmp_path):
    if backend.startswith("fake") and not shots:
        return
    device = EstimatorDevice(backend=backend, ledger=tmp_path / "ledger" if recorded else False)
    qnode, x = qshift.qnode(device, shots=shots)(measured), tf.zeros([0], tf.float64)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(x)
            energy, probabilities = qnode(x)
        gradient = inner.gradient(energy, x)
    assert energy.shape == gradient.shape == outer.gradient(gradient, x).shape == (0,)
    assert probabilities.shape == (0, 4)
    assert inner.jacobian(probabilities, x).shape == (0, 4, 0)
    signature = [tf.TensorSpec([None], tf.float64)]
    compiled = tf.function(qnode, input_signature=signature)
    assert [each.shape for each in compiled(x)] == [(0,), (0, 4)]
    derivatives = qshift.derivatives(lambda x: qnode(x)[1], x, order=2)
    assert [each.shape for each in derivatives] == [(0, 4), (0, 4, 0), (0, 4, 0, 0)]
    assert qnode.plan(x, order=1).circuits == 0
    for name in ("circuits", "jobs", "batches", "shots"):
        assert tracker.totals[name] == 0
    assert [each.shape for each in compiled(tf.constant([0.3, 0.4], tf.float64))] == [(2,), (2, 4)]


@pytest.mark.parametrize("backend", ["aer", "fake:FakeManilaV2"])
def test_an_argument_of_length_zero(backend):
    device = EstimatorDevice(backend=backend)

    @qshift.qnode(device, shots=1000)
    def circuit(x, y):
        for i in range(x.shape[0]):
            qml.RX(x[i], wires=0)
        qml.RY(y, wires=0)
        return qml.expval(qml.X(0)), qml.probs(wires=0)

    y = tf.Variable(0.4, dtype=tf.float64)
    with tf.GradientTape() as tape:
        value, probabilities = circuit(tf.zeros([0], tf.float64), y)
    assert abs(value - np.sin(0.4)) < 0.2 and probabilities.shape == (2,)
    assert abs(tape.gradient(value, y) - np.cos(0.4)) < 0.2


# Derivatives and counts


@pytest.mark.parametrize("seed", range(2))
def test_derivatives_to_third_order(seed):
    circuit = RandomCircuit(seed + 50, 2, 2, gates=2, measurements=1, names=list(PLAIN))
    function = circuit.qshift(EstimatorDevice())
    truth = tape_derivatives(circuit.qshift(), circuit.theta, 3)
    for value, wanted in zip(tape_derivatives(function, circuit.theta, 3), truth, strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-7)


def test_derivatives_to_third_order_in_one_batch(tracker):
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.CRY(x[1], wires=[0, 1])
        qml.DoubleExcitation(x[0] * 0.3, wires=[1, 0, 2, 3])
        return qml.expval(qml.Z(0) @ qml.X(1))

    x = tf.constant([0.4, 0.8], tf.float64)
    found = qshift.derivatives(qshift.qnode(EstimatorDevice())(circuit), x, order=3)
    assert tracker.totals["jobs"] == 1
    truth = qshift.derivatives(qshift.qnode(qml.device("default.qubit"))(circuit), x, order=3)
    for value, wanted in zip(found, truth, strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-8)


def orders(qnode, x):
    """Yields after each order, from nested tapes."""
    with tf.GradientTape() as outermost:
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = qnode(x)
            yield value
            gradient = inner.gradient(value, x)
            yield gradient
        hessian = outer.jacobian(gradient, x)
        yield hessian
    yield outermost.jacobian(hessian, x)


@pytest.mark.parametrize("backend", ["aer", "aer:FakeManilaV2", "fake:FakeManilaV2"])
def test_one_transpilation_and_one_job_for_each_order(backend):
    device = manila() if backend == "fake:FakeManilaV2" else EstimatorDevice(backend=backend)
    shots = 50 if device is manila() else None
    qnode = qshift.qnode(device, shots=shots, objective="circuits")(layered)
    x = numbers(*THETA)
    plan = qnode.plan(x, order=3)
    counted = []
    with qshift.Tracker() as tracker:
        for _ in orders(qnode, x):
            counted.append(dict(tracker.totals))
    assert [each["circuits"] for each in counted] == [1, 9, 27, 49]
    assert [each["jobs"] for each in counted] == [1, 2, 3, 4]
    assert {each["transpilations"] for each in counted} <= {0, 1}  # the device may have it already
    assert [order.jobs for order in plan.orders] == [1, 1, 1, 1] and plan.jobs == 4
    assert plan.shots == counted[-1]["shots"] == 49 * (shots or 0)
    assert "jobs" in str(plan) and "<th>jobs</th>" in plan._repr_html_()

    for _ in range(2):  # further steps
        x.assign_add([0.1] * 4)
        with qshift.Tracker() as tracker:
            qshift.derivatives(qnode, x, order=3)
        totals = (tracker.totals["circuits"], tracker.totals["jobs"])
        assert totals == (49, 1) and tracker.totals["transpilations"] == 0
    with qshift.Tracker() as tracker:
        ahead = qnode.update(prefetch=3)
        list(orders(ahead, x))
    assert (tracker.totals["jobs"], tracker.totals["transpilations"]) == (1, 0)


def test_one_structure_is_transpiled_once_for_all_measurements_and_qnodes(tracker):
    device = EstimatorDevice()
    for measure in (lambda: qml.expval(qml.Z(0)), lambda: qml.probs(wires=[0, 1])):

        def circuit(x, measure=measure):
            qml.RX(x, wires=0)
            qml.CNOT([0, 1])
            return measure()

        for shots in (None, 10, 20):
            qshift.qnode(device, shots=shots)(circuit)(tf.constant(0.3))
    assert tracker.totals["transpilations"] == 1 and tracker.totals["jobs"] == 6


def test_shots_are_counted_in_every_basis(tracker):
    def circuit(x):
        qml.RX(x, wires=0)
        qml.CNOT([0, 1])
        return qml.expval(qml.X(0) + qml.Z(0) + qml.Z(1)), qml.expval(qml.Y(0) @ qml.Z(1))

    qnode = qshift.qnode(EstimatorDevice(), shots=100)(circuit)
    assert qnode.plan(tf.constant(0.3), order=0).shots == 300
    qnode(tf.constant(0.3))
    assert tracker.totals["shots"] == 300 and tracker.totals["circuits"] == 1


def test_batches_beyond_the_limits_are_the_fewest_jobs(tracker):
    device = EstimatorDevice(max_parameter_values=20)  # five points of four parameters
    qnode = qshift.qnode(device)(layered)
    x = tf.constant(THETA, tf.float64)
    assert [order.jobs for order in qnode.plan(x, order=2).orders] == [1, 2, 4]
    values = qshift.derivatives(qnode, x, order=2)
    assert tracker.totals["jobs"] == 6 and tracker.totals["circuits"] == 27
    truth = qshift.derivatives(qshift.qnode(qml.device("default.qubit"))(layered), x, order=2)
    for value, wanted in zip(values, truth, strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-8)


def test_packing():
    assert pack([], Limits(10, 10)) == []
    assert pack([Load(7, 2, 0)], Limits(6, 1)) == [[(0, 0, 3)], [(0, 3, 6)], [(0, 6, 7)]]
    assert pack([Load(2, 1, 5), Load(3, 2, 5)], Limits(100, 15)) == [
        [(0, 0, 2), (1, 0, 1)],
        [(1, 1, 3)],
    ]
    assert pack([Load(3, 0, 0)], Limits(1, 1)) == [[(0, 0, 3)]]
    with pytest.raises(UnsupportedError, match="11 executions.*max_executions="):
        pack([Load(1, 1, 11)], Limits(10, 10))


def test_plain_pennylane_sends_one_job_for_a_gradient(tracker):
    device = EstimatorDevice()
    qnode = qml.QNode(layered, device, diff_method="parameter-shift")
    x = qml.numpy.array(THETA)
    gradient = qml.grad(qnode)(x)
    truth = qml.grad(qml.QNode(layered, qml.device("default.qubit")))(x)
    np.testing.assert_allclose(gradient, truth, atol=1e-8)
    assert (tracker.totals["jobs"], tracker.totals["transpilations"]) == (2, 1)


def test_seeds_repeat_a_program():
    def program(seed, device):
        qnode = qshift.qnode(device, shots=200, seed=seed)(layered)
        x = tf.constant(THETA, tf.float64)
        return np.hstack([np.ravel(d) for _ in range(2) for d in qshift.derivatives(qnode, x)])

    for device in (EstimatorDevice(), manila()):
        first = program(7, device)
        np.testing.assert_array_equal(first, program(7, device))
        assert np.any(first != program(8, device)) and np.any(first[:5] != first[5:])
        assert np.any(program(None, device) != program(None, device))
    seeded = [qshift.qnode(EstimatorDevice(seed=5), shots=99)(layered) for _ in range(2)]
    assert seeded[0](THETA) == seeded[1](THETA)


# Noise


def test_exact_derivatives_of_a_noisy_expectation(cosine_product):
    circuit, ideal = cosine_product
    theta = np.array(ideal["theta"])
    qnode = qshift.qnode(qshift.device("aer-noisy"))(circuit.func)
    value, gradient, hessian = qshift.derivatives(qnode, tf.constant(theta), order=2)
    assert abs(value - ideal["value"]) > 0.01  # it is noise that is differentiated here
    np.testing.assert_allclose(gradient, ideal["gradient"], atol=0.1)
    h = 1e-3
    steps = theta + h * np.vstack([np.eye(5), -np.eye(5)])
    points = np.vstack(
        [steps, *(steps + h * e for e in np.eye(5)), *(steps - h * e for e in np.eye(5))]
    )
    values = qnode(tf.constant(points.T)).numpy()
    plus, minus = values[:5], values[5:10]
    np.testing.assert_allclose((plus - minus) / (2 * h), gradient, atol=1e-5)
    shifted = values[10:].reshape(2, 5, 2, 5)  # sign, j; sign, i
    numerical = (shifted[0, :, 0] - shifted[0, :, 1] - shifted[1, :, 0] + shifted[1, :, 1]) / (
        4 * h**2
    )
    np.testing.assert_allclose(numerical, hessian, atol=1e-5)


def test_derivatives_on_a_noisy_backend_are_those_of_its_noisy_expectation(cosine_product):
    circuit, ideal = cosine_product
    theta = np.array(ideal["theta"])
    qnode = qshift.qnode(manila(), shots=SHOTS, seed=11)(circuit.func)
    with qshift.Tracker() as tracker:
        value, gradient, hessian = map(
            np.asarray, qshift.derivatives(qnode, tf.constant(theta), order=2)
        )
    assert tracker.totals["jobs"] == 1
    # The expectation itself, at points along lines that no shift rule has anything to do with.
    rng = np.random.default_rng(0)
    lines = [np.eye(5)[i] for i in range(4)]
    lines += [np.eye(5)[i] + np.eye(5)[j] for i in range(4) for j in range(i)]
    t = np.sort(rng.uniform(-np.pi, np.pi, size=14))
    points = np.vstack([theta + s * line for line in lines for s in t])
    found = qnode(tf.constant(points.T)).numpy().reshape(len(lines), len(t))
    for line, values in zip(lines, found, strict=True):
        highest = int(line.sum())
        k = np.arange(1, highest + 1)
        model = np.hstack([np.ones((len(t), 1)), np.cos(np.outer(t, k)), np.sin(np.outer(t, k))])
        inverse = np.linalg.pinv(model)
        coefficients = inverse @ values
        slope = np.hstack([0, 0 * k, k])  # of the model at t = 0
        curvature = np.hstack([0, -(k**2), 0 * k])
        for row, derivative, spread in (
            (slope, line @ gradient, np.sqrt(highest / 2)),
            (curvature, line @ hessian @ line, highest**2),
        ):
            error = np.hypot(np.linalg.norm(row @ inverse), spread) / np.sqrt(SHOTS)
            assert abs(row @ coefficients - derivative) < 5 * error
    assert abs(value - ideal["value"]) > 10 / np.sqrt(SHOTS)


def test_a_fake_backend_has_the_noise_of_those_that_come_with_the_package():
    ours, theirs = qiskit_internals.fake_backend("FakeManilaV2"), FakeManilaV2()
    rng = np.random.default_rng(0)
    for width in (1, 3, 5):
        circuits = [
            transpile(random_circuit(width, 4, seed=rng, measure=True), theirs, seed_transpiler=0)
            for _ in range(3)
        ]
        options = {"shots": 1000, "seed_simulator": 7}
        found, truth = (each.run(circuits, **options).result() for each in (ours, theirs))
        assert found.get_counts() == truth.get_counts()
        ideal = theirs.run(circuits, noise_model=None, **options).result()
        assert found.get_counts() != ideal.get_counts()


# What cannot run


@pytest.mark.parametrize(
    "options, key, reason",
    [
        ({"backend": "aerr"}, "backend", 'expected "aer", "aer:FakeManilaV2"'),
        ({"backend": "fake:"}, "backend", "there is no 'fake:'"),
        ({"backend": "ibmq_qasm_simulator"}, "backend", 'did you mean "aer"'),
        ({"backend": "ibm_torino"}, "backend", 'did you mean "ibm:ibm_torino"'),
        ({"backend": "FakeManilaV2"}, "backend", 'did you mean "fake:FakeManilaV2"'),
        ({"backend": "fake:FakeManila"}, "backend", "did you mean 'FakeManilaV2'"),
        ({"resilience_lvl": 1}, "resilience_lvl", "did you mean 'resilience_level'"),
        ({"resilience_level": 7}, "resilience_level", "got 7"),
        (
            {"twirling": {"enable_gate": True}},
            "twirling.enable_gate",
            "did you mean 'enable_gates'",
        ),
        ({"twirling": 3}, "twirling", "expected a table"),
        ({"default_shots": 3}, "default_shots", "give shots="),
        ({"default_precision": 0.1}, "default_precision", "give precision="),
        ({"simulator": {"seed_simulator": 3}}, "simulator.seed_simulator", "give seed="),
        ({"optimization_level": 4}, "optimization_level", "0, 1, 2 or 3, got 4"),
        ({"max_executions": 0}, "max_executions", "a positive number, got 0"),
    ],
)
def test_bad_options_are_named_at_once(options, key, reason):
    with pytest.raises(OptionError, match=re.escape(reason)) as caught:
        EstimatorDevice(**options)
    assert caught.value.option == key
    if key.partition(".")[0] in options:
        with pytest.raises(ProfileError, match=re.escape(reason)) as caught:
            qshift.device("fake-manila", **options)
        assert caught.value.key == (key if key == "backend" else f"options.{key}")


def unitary(x):
    phase = tf.exp(1j * tf.cast(x, tf.complex128))
    qml.QubitUnitary(tf.linalg.diag(tf.stack([phase, 1.0 + 0j])), wires=0)
    return qml.expval(qml.Z(0))


def state(x):
    qml.StatePrep(tf.stack([tf.cos(x), tf.sin(x)]), wires=0)
    return qml.expval(qml.Z(0))


def channel(x):
    qml.RX(x, wires=0)
    qml.DepolarizingChannel(0.1, wires=0)
    return qml.expval(qml.Z(0))


def wide(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Hermitian(np.eye(128), wires=range(7)))


def evolution(x):
    qml.evolve(qml.X(0) + qml.Z(0), x)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    "circuit, reason",
    [
        (unitary, "of QubitUnitary is a tensor of shape (2, 2)"),
        (state, "of StatePrep is a tensor of shape (2,)"),
        (channel, "DepolarizingChannel is a noise channel, and Qiskit"),
        (wide, "Write it as a sum of Pauli words"),
    ],
)
def test_circuits_that_cannot_run_are_errors_before_anything_runs(circuit, reason, tracker):
    with pytest.raises(UnsupportedError, match=re.escape(reason)):
        qshift.qnode(EstimatorDevice())(circuit)(tf.constant(0.3, tf.float64))
    assert not any(tracker.totals.values())


@pytest.mark.parametrize("name", sorted(WITHOUT_GATES))
def test_gates_that_nothing_decomposes_are_named(name, tracker):
    circuit = RandomCircuit(0, 4, 2, gates=1, names=[name])
    with pytest.raises(UnsupportedError, match="Evolution.*has a parameter that changes.*Trotter"):
        circuit.qshift(EstimatorDevice())(tf.constant(circuit.theta))
    assert not any(tracker.totals.values())


def six(x):
    qml.RX(x, wires=0)
    return qml.probs(wires=range(6))


def test_what_a_backend_does_not_have(tracker):
    with pytest.raises(UnsupportedError, match="density matrix of its 27 qubits. Give shots="):
        qshift.qnode(EstimatorDevice(backend="aer:FakeKolkataV2"))(layered)(THETA)
    with pytest.raises(UnsupportedError, match="needs shots: give shots="):
        qshift.qnode(manila(), shots=None)(layered)(THETA)
    with pytest.raises(UnsupportedError, match="has 6 wires, but fake:FakeManilaV2 has 5 qubits"):
        qshift.qnode(manila())(six)(tf.constant(0.1))
    with pytest.raises(UnsupportedError, match=r"wires \[2, 3\], which the device does not have"):
        qshift.qnode(EstimatorDevice(wires=2))(layered)(THETA)
    with pytest.raises(UnsupportedError, match="diff_method='adjoint'.*does not differentiate"):
        qshift.qnode(EstimatorDevice(), diff_method="adjoint")(layered)(numbers(*THETA))
    assert not any(tracker.totals.values())


# Profiles


def test_profiles_with_a_backend():
    device = qshift.device("fake-sherbrooke", wires=4, shots=2048)
    assert device.qshift_shots == 2048 and len(device.wires) == 4
    assert device.target.num_qubits == 127
    assert qshift.device("fake-manila").qshift_shots == 1024
    assert qshift.device("fake-manila", precision=0.01).qshift_shots == 10_000
    assert qshift.device("aer-noisy", precision=0.03).qshift_shots == 1112
    assert qshift.device("aer-noisy").qshift_shots is None
    assert qshift.device("simulator", backend="aer").name == "qshift.estimator"
    assert qshift.device("fake-manila", device="default.qubit").name == "default.qubit"


@pytest.mark.parametrize(
    "overrides, key, reason",
    [
        ({"precision": 0.1, "shots": 3}, "precision", "shots is given as well"),
        ({"precision": 0}, "precision", "a number between 0 and 1, got 0"),
        ({"backend": "aer", "device": "default.qubit"}, "backend", "device is given as well"),
        ({"shots": None}, "shots", "cannot run without shots"),
        ({"device": "default.qubit", "precision": 0.1}, "precision", "belongs to a backend"),
    ],
)
def test_bad_profiles_with_a_backend(overrides, key, reason):
    with pytest.raises(ProfileError, match=reason) as caught:
        qshift.device("fake-manila", **overrides)
    assert caught.value.key == key


# As PennyLane's device


@pytest.mark.filterwarnings("ignore:Setting shots on device is deprecated")
def test_shots_of_the_device_are_those_of_its_qnodes():
    @qml.qnode(qml.device("qshift.estimator", wires=1, backend="aer", shots=100, seed=1))
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.probs(wires=0)

    with qshift.Tracker() as tracker:
        sampled = circuit(1.0)
    assert tracker.totals["shots"] == 100
    np.testing.assert_allclose(sampled * 100, np.round(sampled * 100), atol=1e-9)
    assert abs(sampled[1] - np.sin(0.5) ** 2) < 0.2


# --- copies ---


def test_copies_are_the_device_with_its_budget(tracker):
    device = EstimatorDevice(backend="aer", max_jobs=2)
    for made in (copy.copy(device), copy.deepcopy(device)):
        qml.QNode(lambda: qml.expval(qml.Z(0)), made)()
    with pytest.raises(qshift.errors.LimitError):
        qml.QNode(lambda: qml.expval(qml.Z(0)), device)()
    assert tracker.totals["jobs"] == 2


def test_pickled_devices_are_made_anew(tmp_path):
    path = str(tmp_path / "ledger.sqlite")
    given = {"seed": 3, "max_jobs": 1, "run": "tuesday", "ledger": path, "wires": 2}
    device = qshift.device("fake-manila", shots=200, optimization_level=3, **given)

    @qshift.qnode(device)
    def circuit(x):
        qml.RX(x, wires=1)
        return qml.expval(qml.Z(1))

    value = circuit(0.3)
    for dumps in (pickle.dumps, cloudpickle.dumps):
        made = pickle.loads(dumps(device))
        assert made is not device and made.wires == device.wires
        assert (made.run, made.seed, made.ledger.path) == ("tuesday", 3, device.ledger.path)
        assert made.qshift_profile == "fake-manila" and made.qshift_shots == 200
    loaded = pickle.loads(cloudpickle.dumps(circuit))
    assert loaded.shots.total_shots == 200
    again = loaded(0.3)
    assert again.shape == value.shape and abs(again - np.cos(0.3)) < 0.3
    with pytest.raises(qshift.errors.LimitError):
        loaded(0.3)


def test_templates_that_pennylane_cannot_put_together_again():
    def block(weights, wires):
        qml.CNOT(wires=wires)
        qml.RY(weights[0], wires=wires[0])
        qml.RY(weights[1], wires=wires[1])

    def circuit(weights):
        qml.MERA(range(4), 2, block, 2, weights)
        return qml.expval(qml.Z(1))

    weights = np.linspace(0.1, 1.0, 10).reshape(5, 2)
    truth = qml.qnode(qml.device("default.qubit"))(circuit)(weights)
    device = qml.device("qshift.estimator", wires=4, backend="aer")
    assert qml.qnode(device)(circuit)(weights) == pytest.approx(truth, abs=1e-9)
