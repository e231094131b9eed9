"""Measurements in the middle of circuits and conditions, on backends that have them."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit.circuit import IfElseOp

import qshift
from qshift.executors.qiskit import digests, transpiled
from qshift.executors.qiskit.conditions import conditional
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.targets import Target
from qshift.executors.qiskit.translation import translate

X = tf.constant([0.5, 0.9, 1.3, 0.7], tf.float64)


def adaptive(x):
    """Outcomes of a wire that is used again, of one that is reset, and of both together."""
    qml.RX(x[0], wires=0)
    qml.RY(0.4, wires=2)
    qml.CNOT(wires=[0, 2])
    first = qml.measure(0)
    qml.cond(first, qml.RY)(x[1], wires=1)
    qml.RX(x[2], wires=0)
    second = qml.measure(0, reset=True)
    qml.cond(first & second, qml.RX)(x[3], wires=2)
    qml.cond(second == 0, qml.Hadamard)(wires=1)
    qml.RY(0.3, wires=0)
    return qml.expval(qml.Z(0) @ qml.X(1) + 0.5 * qml.Z(2))


def held(x):
    """An outcome of a wire that nothing uses any more, and one with another branch."""
    qml.RX(x[0], wires=0)
    outcome = qml.measure(0)
    qml.cond(outcome, qml.RX, qml.RY)(x[1], wires=1)
    qml.cond(outcome, qml.CRX)(x[2], wires=[1, 2])
    qml.RZ(x[3], wires=2)
    return qml.probs(wires=[2, 1])


def compiled(circuit):
    """Returns a circuit as a device has compiled it."""
    qnode = qshift.qnode(EstimatorDevice(), shots=10)(circuit)
    return qnode.prepare((X,), (X,)).compiled.circuit


def gates(circuit):
    """Yields the names of all gates, with those in blocks."""
    for step in circuit.data:
        yield step.operation.name
        for block in getattr(step.operation, "blocks", ()):
            yield from gates(block)


def programs(monkeypatch, **options):
    """Returns a device, and a list of the circuits that it translates."""
    device, seen = EstimatorDevice(seed=1, **options), []
    original = Target.transpiled

    def kept(self, key, make):
        found = original(self, key, make)
        seen.append((make(), found))
        return found

    monkeypatch.setattr(Target, "transpiled", kept)
    return device, seen


def test_values_and_derivatives_are_those_of_deferral(monkeypatch):
    monkeypatch.setattr(transpiled, "_WIDEST_DEFERRED", 0)
    device, seen = programs(monkeypatch, backend="aer")
    found = qshift.derivatives(qshift.qnode(device, shots=3000)(adaptive), X)
    truth = qshift.derivatives(qshift.qnode(qshift.device("simulator"))(adaptive), X)
    for one, other in zip(found, truth, strict=True):
        np.testing.assert_allclose(one, other, atol=0.1)
    (made, isa), *_ = seen
    assert made.num_qubits == 3
    assert {"if_else", "measure"} <= set(gates(isa))


@pytest.mark.parametrize("circuit", [adaptive, held])
def test_values_on_a_noisy_backend(circuit, monkeypatch):
    device, seen = programs(monkeypatch, backend="fake:FakeManilaV2")
    value = qshift.qnode(device, shots=3000)(circuit)(X)
    truth = qshift.qnode(qshift.device("simulator"))(circuit)(X)
    np.testing.assert_allclose(value, truth, atol=0.15)
    (made, isa), *_ = seen
    assert made.num_qubits == 3 and {"if_else", "measure"} <= set(gates(isa))


@pytest.mark.parametrize("number", [1, 24])
def test_aer_defers_what_fits_into_memory(number, monkeypatch):
    def repeated(x):
        for _ in range(number):
            qml.RX(x[0], wires=0)
            outcome = qml.measure(0, reset=True)
            qml.cond(outcome, qml.RY)(x[1] / number, wires=1)
        return qml.expval(qml.Z(1))

    device, seen = programs(monkeypatch, backend="aer")
    value = qshift.qnode(device, shots=3000)(repeated)(X)
    # Each outcome is 1 with the same probability, and turns by the same angle.
    one = np.sin(X[0].numpy() / 2) ** 2
    factor = 1 - one + one * np.exp(1j * X[1].numpy() / number)
    np.testing.assert_allclose(value, np.real(factor**number), atol=0.1)
    assert [made.num_qubits for made, _ in seen] == [3 if number == 1 else 2]


def test_outcomes_take_no_qubits(monkeypatch):
    def repeated(x):
        total = x[0]
        for i in range(6):
            qml.RX(x[i % 4], wires=0)
            outcome = qml.measure(0, reset=True)
            qml.cond(outcome, qml.RY)(total, wires=1)
        return qml.expval(qml.Z(1))

    device, seen = programs(monkeypatch, backend="fake:FakeManilaV2")  # five qubits
    value = qshift.qnode(device, shots=3000)(repeated)(X)
    truth = qshift.qnode(qshift.device("simulator"))(repeated)(X)
    np.testing.assert_allclose(value, truth, atol=0.15)
    assert [made.num_qubits for made, _ in seen] == [2]


@pytest.mark.parametrize(
    "shots, options",
    [
        (None, {"backend": "aer"}),
        (1000, {"backend": "fake:FakeTorino", "copies": 2}),
        (1000, {"backend": "fake:FakeFractionalBackend"}),
    ],
)
def test_where_measurements_are_deferred(shots, options, monkeypatch):
    device, seen = programs(monkeypatch, **options)
    qnode = qshift.qnode(device, shots=shots)(adaptive)
    if shots is None:
        truth = qshift.qnode(qshift.device("simulator"))(adaptive)(X)
        np.testing.assert_allclose(qnode(X), truth, atol=1e-9)
    else:
        qnode.plan(X, order=0)  # transpiles
    ((made, _),) = seen
    assert made.num_qubits == 5 and "if_else" not in gates(made)


def test_an_outcome_that_is_returned_stays_on_its_wire():
    def returned(x):
        qml.RX(x[0], wires=0)
        outcome = qml.measure(0)
        qml.RX(x[1], wires=0)
        qml.cond(outcome, qml.RX)(x[2], wires=1)
        return qml.expval(outcome), qml.expval(qml.Z(1))

    device = EstimatorDevice(backend="aer", seed=1)
    values = qshift.qnode(device, shots=20_000)(returned)(X)
    truth = qshift.qnode(qshift.device("simulator"))(returned)(X)
    np.testing.assert_allclose(values, truth, atol=0.04)


def test_circuits_without_outcomes_stay_as_they_are():
    def plain(x):
        qml.RX(x[0], wires=0)
        qml.CNOT(wires=[0, 1])  # a copy that nobody has called an outcome
        qml.CRX(x[1], wires=[1, 2])
        return qml.expval(qml.Z(2))

    circuit = compiled(plain)
    assert not circuit.outcomes and conditional(circuit) is None


def test_digests_see_what_is_in_blocks():
    def made(angle, value):
        def one(x):
            qml.RX(x[0], wires=0)
            outcome = qml.measure(0, reset=True)
            qml.cond(outcome == value, qml.RY)(angle, wires=1)
            return qml.expval(qml.Z(1))

        circuit = compiled(one)
        return translate(circuit, [0, 1], native=conditional(circuit))

    found = [digests.of_circuit(made(*each)) for each in ((0.1, 1), (0.1, 1), (0.2, 1), (0.1, 0))]
    assert found[0] == found[1] and len(set(found)) == 3
    assert any(isinstance(step.operation, IfElseOp) for step in made(0.1, 1).data)
