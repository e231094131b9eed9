"""Circuits as TensorFlow ops, against products of matrices and the simulator."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import RandomCircuit
from references import angles, compiled, product, random_points, several, truth

from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.simulator import exported
from qshift.executors.simulator.measurement_bases import NotCoveredError
from qshift.executors.simulator.simulator import SimulatorExecutor

SPECIAL = [0.0, np.pi / 2, np.pi, 2 * np.pi, -6 * np.pi, 1e-9, 1e5]


def values(circuit, points):
    """Runs the ops of a graph that knows nothing about how many points there are."""
    function = tf.function(exported.in_tensorflow(circuit), autograph=False)
    spec = tf.TensorSpec([None, circuit.num_parameters], tf.float64)
    graph = function.get_concrete_function(spec)
    assert not {op.type for op in graph.graph.get_operations()} & {"PyFunc", "PyFuncStateless"}
    return graph(tf.constant(points)).numpy()


def assert_right(circuit, points=None, wires=3):
    points = random_points(circuit, 3) if points is None else points
    np.testing.assert_allclose(values(circuit, points), truth(circuit, points, wires), atol=1e-10)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_values(count):
    circuit = several()
    points = random_points(circuit, count)
    found = values(circuit, points)
    assert found.shape == (count, circuit.num_values) and found.dtype == np.float64
    if count:
        np.testing.assert_allclose(found, truth(circuit, points), atol=1e-10)


def test_special_angles():
    circuit = several()
    points = np.array([[a] * circuit.num_parameters for a in SPECIAL])
    points = np.concatenate(
        [points, np.random.default_rng(0).choice(SPECIAL, (5, points.shape[1]))]
    )
    assert_right(circuit, points)


def test_large_angles_have_all_their_digits():
    found = values(product(1), np.array([[1e13], [1e15 + 0.25]]))
    np.testing.assert_allclose(found[:, 0], np.cos([1e13, 1e15 + 0.25]), atol=1e-12)


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 5])
def test_random_circuits(seed):
    drawn = RandomCircuit(seed, wires=4, parameters=3, gates=5, measurements=3)
    theta = tf.constant(drawn.theta)
    with qml.queuing.AnnotatedQueue() as queue:
        drawn(theta)
    tape = qml.tape.QuantumScript.from_queue(queue)
    circuit = compiled(tape.operations, tape.measurements, adjoint=True)
    points = random_points(circuit, 2)
    expected = PennyLaneExecutor(qml.device("default.qubit"))(circuit, points)
    np.testing.assert_allclose(values(circuit, points), expected, atol=1e-10)


def turned(gate):
    """A gate in the middle of a circuit that it matters to."""
    a, b, c, _ = angles(4)
    return compiled(
        [
            *(qml.RY(0.3 + 0.4 * w, w) for w in range(3)),
            qml.RX(a, 0),
            *gate(b, c),
            qml.RX(0.7, 1),
            qml.CNOT([1, 2]),
        ],
        [qml.expval(qml.Z(0) @ qml.X(1)), qml.probs([2, 0]), qml.expval(qml.Y(2))],
    )


GATES = {
    "matrix": lambda b, c: [qml.QubitUnitary(qml.QFT.compute_matrix(2), [2, 0]), qml.RZ(b, 0)],
    "controlled matrix": lambda b, c: [
        qml.ControlledQubitUnitary(np.array([[0.6, 0.8], [-0.8, 0.6]]), [2, 0, 1], [0, 1])
    ],
    "two controls": lambda b, c: [qml.ctrl(qml.RY(b, 0), [1, 2], [0, 1])],
    "IsingXY": lambda b, c: [qml.ctrl(qml.IsingXY(b, [0, 1]), 2)],
    "Toffoli": lambda b, c: [qml.Toffoli([2, 0, 1]), qml.CRZ(b, [1, 0]), qml.CRX(c, [2, 0])],
    "evolution": lambda b, c: [qml.evolve(0.7 * qml.X(0) + 0.3 * qml.Z(0) @ qml.Y(1), 0.4)],
    "Clifford": lambda b, c: [
        qml.S(0),
        qml.CZ([0, 1]),
        qml.SX(2),
        qml.CY([2, 1]),
        qml.SWAP([0, 1]),
    ],
}


@pytest.mark.parametrize("name", GATES)
def test_gates(name):
    assert_right(turned(GATES[name]))


def test_a_matrix_that_changes_by_its_generator():
    assert_right(
        turned(
            lambda b, c: [
                qml.evolve(qml.X(0) + 0.3 * qml.Z(0) @ qml.Y(1), tf.cast(b, tf.complex128)),
                qml.ctrl(qml.RX(c, 3), [2, 0, 1], [0, 1, 0]),
                qml.CNOT([3, 0]),
            ]
        ),
        wires=4,
    )


def test_states_to_begin_with():
    start = qml.StatePrep(np.array([0.6, 0.0, 0.0, 0.8j]), [2, 0])
    assert_right(compiled([start, qml.RX(angles(1)[0], 0), qml.CNOT([0, 1])], MEASURED))


MEASURED = [
    qml.expval(qml.Hermitian(np.array([[1.0, 0.3j], [-0.3j, -0.5]]), 1)),
    qml.probs(wires=[2, 0]),
    qml.expval(0.5 * qml.I(0) + qml.Y(1)),
    qml.expval(qml.Projector([1, 0], [0, 2])),
]


def test_circuits_without_parameters():
    circuit = compiled([qml.RX(0.3, 0), qml.CNOT([0, 1]), qml.H(2)], MEASURED)
    assert_right(circuit, np.zeros((2, 0)))


def test_numbers_that_are_not_finite():
    points = random_points(several(), 4)
    points[1, 0], points[2, 3] = np.nan, np.inf
    found = values(several(), points)
    assert np.isnan(found[1:3]).all() and np.isfinite(found[[0, 3]]).all()
    constant = compiled([qml.RX(np.nan, 0), qml.RY(angles(1)[0], 0)], [qml.expval(qml.Z(0))])
    assert np.isnan(values(constant, np.zeros((2, 1)))).all()


def test_the_size_of_a_graph_does_not_grow_with_its_gates():
    def ops(layers):
        gates = [qml.RX(0.1 * k, k % 3) for k in range(layers)]
        gates = [
            op
            for x, gate in zip(angles(layers), gates, strict=True)
            for op in (gate, qml.RY(x, gate.wires))
        ]
        circuit = compiled(gates, [qml.expval(qml.Z(0))])
        function = tf.function(exported.in_tensorflow(circuit))
        spec = tf.TensorSpec([None, layers], tf.float64)
        return len(function.get_concrete_function(spec).graph.get_operations())

    assert ops(4) == ops(40)


def wide(wires):
    return compiled([qml.RX(angles(1)[0], w) for w in range(wires)], [qml.expval(qml.Z(0))])


NOT_COVERED = {
    "wires": (lambda: wide(21), "it has 21 wires, and at most 20"),
    "data": (
        lambda: compiled([qml.QubitUnitary(tf.eye(2, dtype=tf.complex128), 0)], MEASURED[:1]),
        "matrix of QubitUnitary changes with its parameters",
    ),
    "state": (
        lambda: compiled([qml.StatePrep(tf.constant([0.6, 0.8]), 0)], MEASURED[:1]),
        "StatePrep is not the first gate, or its state changes",
    ),
}


@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_is_not_covered(name):
    make, message = NOT_COVERED[name]
    with pytest.raises(NotCoveredError, match=message):
        exported.in_tensorflow(make())
    with pytest.raises(ValueError, match=message):
        SimulatorExecutor(qml.device("lightning.qubit")).in_tensorflow(make())
