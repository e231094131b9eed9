"""RZZ gates keep within the angles of fractional gates, and do what they did."""

import math

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import RXGate, RZGate, RZZGate
from qiskit.quantum_info import Operator
from qiskit_ibm_runtime.fake_provider import FakeFractionalBackend

import qshift
from qshift.executors.qiskit.bounded_angles import bounded, in_range
from qshift.executors.qiskit.pubs import _bindings

SPECIAL = [k * math.pi / 4 + d for k in range(-9, 10) for d in (0.0, 1e-15, -1e-15, 1e-9, -1e-9)]
SPECIAL += [1e-300, -1e-300, 5e-324, -5e-324, 1e5, -1e5, math.nextafter(math.pi / 2, 9)]


def matrices(angles):
    """Returns the products of the gates that take the place of RZZ gates."""
    for a, b, c in zip(*in_range(angles), strict=True):
        circuit = QuantumCircuit(2)
        circuit.append(RZGate(a), [0])
        circuit.append(RZGate(a), [1])
        circuit.append(RXGate(b), [0])
        circuit.append(RZZGate(c), [0, 1])
        circuit.append(RXGate(b), [0])
        yield Operator(circuit).data


@pytest.mark.parametrize("angles", [SPECIAL, np.random.default_rng(1).uniform(-20, 20, 300)])
def test_a_gate_in_range_is_the_gate(angles):
    a, b, c = in_range(angles)
    assert set(a) | set(b) <= {0.0, math.pi} and (0 <= c).all() and (c <= math.pi / 2).all()
    for angle, found in zip(angles, matrices(angles), strict=True):
        right = RZZGate(angle).to_matrix()
        overlap = np.trace(right.conj().T @ found) / 4
        assert abs(overlap) == pytest.approx(1.0, abs=1e-15)
        np.testing.assert_allclose(found, overlap * right, atol=2e-15 * max(1.0, abs(angle)))


def test_angles_that_are_no_numbers_stay_so():
    a, b, c = in_range([math.nan, 0.3])
    assert math.isnan(c[0]) and c[1] == 0.3


def random_circuit(rng, wires=3):
    p = [Parameter(f"p{i}") for i in range(3)]
    circuit = QuantumCircuit(wires)
    for _ in range(6):
        i, j = rng.choice(wires, 2, replace=False)
        angle = rng.choice([p[0], 2 * p[1] - 0.3, p[0] + p[2], p[2] * p[1], rng.uniform(-9, 9)])
        circuit.rzz(angle, i, j)
        circuit.rx(p[int(rng.integers(3))], i)
    return circuit


def test_random_circuits_do_the_same():
    rng = np.random.default_rng(2)
    for _ in range(20):
        circuit = random_circuit(rng)
        before = circuit.copy()
        within, angles = bounded(circuit)
        assert circuit == before
        points = rng.uniform(-8, 8, size=(5, 3))
        values = _bindings(within, points, angles).as_array(within.parameters)
        for point, row in zip(points, values, strict=True):
            bound = circuit.assign_parameters(
                {q: float(point[int(q.name[1:])]) for q in circuit.parameters}
            )
            same = within.assign_parameters(dict(zip(within.parameters, row, strict=True)))
            assert Operator(same).equiv(Operator(bound))
            for instruction in same.data:
                if instruction.operation.name == "rzz":
                    assert 0 <= float(instruction.operation.params[0]) <= math.pi / 2


def test_a_circuit_without_such_gates_stays_as_it_is():
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1)
    assert bounded(circuit) == (circuit, {}) and bounded(circuit)[0] is circuit


def test_names_of_several_circuits_differ():
    rng = np.random.default_rng(3)
    _, first = bounded(random_circuit(rng))
    _, second = bounded(random_circuit(rng), len(first))
    assert first and second and not set(first) & set(second)


@pytest.fixture(scope="module")
def ising():
    device = qshift.device(
        "fake-manila", backend="fake:FakeFractionalBackend", shots=4000, needs_shots=True
    )

    @qshift.qnode(device, seed=7)
    def circuit(x):
        qml.Hadamard(0)
        qml.Hadamard(1)
        qml.IsingZZ(x[0], wires=[0, 1])
        qml.RX(x[1], wires=0)
        qml.IsingZZ(2 * x[0], wires=[0, 1])
        return qml.expval(qml.X(0)), qml.expval(qml.Y(0) @ qml.Z(1)), qml.probs(wires=[0, 1])

    return circuit


@pytest.mark.parametrize("at", [[0.4, 0.3], [math.pi / 2, math.pi], [-2.9, 7.0], [0.0, 0.0]])
def test_shifted_circuits_run_on_fractional_gates(ising, at):
    """Version 1 sent shifted angles as they were, which the client refuses."""
    exact = qshift.qnode(qml.device("default.qubit"))(ising.func)
    x = tf.constant(at, tf.float64)

    def of(node):
        function = lambda x: tf.concat([tf.reshape(each, [-1]) for each in node(x)], 0)  # noqa: E731
        return qshift.derivatives(function, x, order=1)

    for found, right in zip(of(ising), of(exact), strict=True):
        np.testing.assert_allclose(found, right, rtol=0.12, atol=0.2)  # the backend's noise


def test_a_gradient_is_one_transpilation(ising):
    circuit = qshift.qnode(ising.device, seed=3)(
        lambda x: (qml.Hadamard(0), qml.IsingZZ(x, wires=[0, 1]), qml.expval(qml.X(0)))[-1]
    )
    with qshift.Tracker() as tracker:
        qshift.derivatives(circuit, tf.constant(0.7, tf.float64), order=2)
    assert (tracker.totals["transpilations"], tracker.totals["jobs"]) == (1, 1)


def test_ten_thousand_random_points_are_in_range():
    backend, rng = FakeFractionalBackend(), np.random.default_rng(4)
    assert {"rzz", "rx", "rz"} <= set(backend.operation_names)
    circuit = random_circuit(rng, wires=2)
    within, angles = bounded(circuit)
    points = rng.choice([1e-3, 1.0, 1e4], size=(10_000, 1)) * rng.normal(size=(10_000, 3))
    values = _bindings(within, points, angles).as_array(within.parameters)
    for k, parameter in enumerate(within.parameters):
        if parameter.name[0] == "c":
            assert (0 <= values[:, k]).all() and (values[:, k] <= math.pi / 2).all()
