"""Shots are samples drawn, on every executor, in plans and in counts: a circuit that is measured in
three bases draws its shots three times."""

import numpy as np
import pennylane as qml
import pennylane.devices.qubit.sampling as of_states
import pennylane.devices.qubit_mixed.sampling as of_matrices
import pytest
import tensorflow as tf
from pennylane_lightning.lightning_base._measurements import LightningBaseMeasurements
from qiskit_aer import AerSimulator
from references import OwnDevice, OwnExecutor, compiled, random_points, several

import qshift
from qshift.executors import registry
from qshift.executors.bases import bases
from qshift.executors.executor import Call
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.simulator import simulator

ENERGY = qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0) - 0.7 * qml.Y(1) + 0.3 * qml.Z(1) + qml.X(1)
MEASURED = {
    "three bases": ([qml.expval(ENERGY)], 3),
    "a Hamiltonian": ([qml.expval(qml.Hamiltonian([1.0, 2.0], [qml.Z(0), qml.X(0)]))], 2),
    "a word": ([qml.expval(qml.Z(0) @ qml.X(2))], 1),
    "words": ([qml.expval(qml.Z(0)), qml.expval(qml.Z(1)), qml.expval(qml.X(0))], 2),
    "a multiple": ([qml.expval(0.5 * qml.Z(0)), qml.expval(qml.Z(1))], 1),
    "probabilities": ([qml.probs(wires=[0, 1])], 1),
}
DEVICES = {
    "simulator": lambda: registry.executor(qml.device("lightning.qubit", wires=3), None),
    "default.qubit": lambda: PennyLaneExecutor(qml.device("default.qubit", wires=3), None),
    "default.mixed": lambda: registry.executor(qml.device("default.mixed", wires=3), None),
    "lightning": lambda: PennyLaneExecutor(qml.device("lightning.qubit", wires=3), None),
    "aer": lambda: registry.executor(EstimatorDevice(3, "aer"), None),
    "fake": lambda: registry.executor(EstimatorDevice(3, "fake:FakeManilaV2"), None),
}


@pytest.fixture
def drawn(monkeypatch):
    """Counts the samples that are really drawn."""
    counts = []

    def count(owner, name, number):
        original = getattr(owner, name)

        def counting(*args, **kwargs):
            counts.append(number(*args, **kwargs))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    of_probabilities = lambda probs, shots, *_, **__: shots * max(1, probs.size // probs.shape[-1])  # noqa: E731
    count(simulator, "_sample", lambda p, shots, _: int(np.sum(np.broadcast_to(shots, len(p)))))
    for module in (of_states, of_matrices):
        count(module, "sample_probs", of_probabilities)
    count(
        LightningBaseMeasurements,
        "_measure_with_samples_diagonalizing_gates",
        lambda _, mps, shots: shots.total_shots,
    )
    count(AerSimulator, "run", lambda _, circuits, **options: len(circuits) * options["shots"])
    return counts


def gates():
    a, b = (tf.constant(angle, tf.float64) for angle in (0.4, -1.1))
    return [qml.RX(a, 0), qml.CNOT([0, 1]), qml.RY(b, 1), qml.RY(0.7, 0), qml.RZ(0.2, 2)]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("what", [*MEASURED, "several", "everything"])
@pytest.mark.parametrize("name", DEVICES)
def test_counts_are_the_samples_that_are_drawn(name, what, drawn, tracker):
    executor = DEVICES[name]()
    if what == "several":
        circuit = several(50)
    elif what == "everything":
        circuit = compiled(gates(), [m for found, _ in MEASURED.values() for m in found], 50)
    else:
        circuit = compiled(gates(), MEASURED[what][0], 50)
        assert executor.bases(circuit) == MEASURED[what][1]
    points = random_points(circuit, 4)
    executor(circuit, points, Call(1))
    assert tracker.totals["shots"] == sum(drawn) == 4 * executor.shots(circuit)
    assert executor.shots(circuit) == 50 * executor.bases(circuit)
    if executor.allots(circuit):
        tracker.reset()
        drawn.clear()
        executor(circuit, points, Call(1, shots=np.array([20, 30, 20, 100])))
        assert tracker.totals["shots"] == sum(drawn) == 170 * executor.bases(circuit)


@pytest.mark.parametrize("name", ["simulator", "default.qubit", "aer"])
def test_a_shot_vector(name, drawn, tracker):
    executor, circuit = DEVICES[name](), compiled(gates(), [qml.expval(ENERGY)], [10, 20, 20])
    executor(circuit, random_points(circuit, 2), Call(1))
    assert tracker.totals["shots"] == sum(drawn) == 2 * 50 * 3


def test_a_measurement_alone_and_among_others():
    """PennyLane simplifies observables only where there are several measurements."""
    multiple = qml.expval(2 * (qml.Z(0) + qml.X(0)))
    assert bases([multiple]) == 1 and bases([multiple, qml.expval(qml.Z(1))]) == 3
    assert bases([qml.probs(wires=0), qml.probs(wires=1)]) == 1
    assert bases([qml.probs(wires=0), qml.expval(qml.Z(0))]) == 2


def test_an_executor_of_a_users_own_draws_once(tracker):
    executor = OwnExecutor(OwnDevice())
    executor(several(30), random_points(several(30), 2), Call(1))
    assert tracker.totals["shots"] == 60


def energy(x):
    for gate, angle in ((qml.RX, x[0]), (qml.RY, x[1])):
        gate(angle, wires=0)
        qml.CNOT([0, 1])
    return qml.expval(ENERGY)


@pytest.mark.parametrize("name", ["simulator", "default-qubit", "mixed", "aer", "fake-manila"])
def test_plans_are_what_is_drawn(name, drawn, tracker):
    device = qshift.device(name, wires=2, shots=100)
    node = qshift.QNode(energy, device, objective="circuits")
    x = tf.constant([0.3, 0.2], tf.float64)
    plan = node.plan(x, order=2)
    assert not drawn
    qshift.derivatives(node, x, order=2)
    assert plan.shots == tracker.totals["shots"] == sum(drawn) == 300 * plan.circuits


def test_a_total_is_one_of_samples(drawn, tracker):
    node = qshift.QNode(energy, qshift.device("simulator"), shots=qshift.Shots(total=3000))
    x = tf.constant([0.3, 0.2], tf.float64)
    plan = node.plan(x, order=2)
    qshift.derivatives(node, x, order=2)
    assert sum(drawn) == tracker.totals["shots"] == 3000
    assert [order.shots for order in plan.orders] == [3000] * 3
    few = node.update(shots=qshift.Shots(total=100, least=10))
    with pytest.raises(ValueError, match=r"measured in 3 bases, takes 99 shots in all.*total=\d+"):
        qshift.derivatives(few, x, order=2)
