"""Circuits and their truth by products of matrices, for the tests of all executors."""

import functools
from dataclasses import replace

import numpy as np
import pennylane as qml
import tensorflow as tf

from qshift.circuits.compiler import Compiler
from qshift.executors.executor import Executor
from qshift.executors.pennylane import PennyLaneExecutor, flatten
from qshift.executors.seeding import generator


@functools.cache
def _compiled(method):
    """Returns Aer for the transpiler, with a target that is made once.

    Aer itself makes one anew for each gate that the transpiler asks about, which took most of the
    time of these tests.
    """
    from qiskit_aer import AerSimulator  # which worker processes need not import

    class Compiled(AerSimulator):
        @functools.cached_property
        def target(self):
            return super().target

    return Compiled(method=method)


def device(name, wires=3):
    if name.startswith("aer: "):
        method = name.removeprefix("aer: ")
        compiler = _compiled(method)
        return qml.device("qiskit.aer", wires=wires, method=method, compile_backend=compiler)
    return qml.device(name, wires=wires)


class OwnExecutor(Executor):
    """All that a user has to write."""

    takes_seed = True

    def run(self, circuit, points, call):
        rows = []
        for point, tape in zip(points, circuit.bind_each(points), strict=True):
            rng = generator(self.seed, circuit, point, call)
            (result,) = qml.execute([tape], qml.device("default.qubit", seed=rng))
            rows.append(flatten(circuit, result)[0])
        return rows


class OwnDevice(qml.devices.Device):
    """A device as a user may have it."""

    name = "tests.own"

    def execute(self, circuits, execution_config=None):
        return qml.device("default.qubit").execute(circuits)


def angles(count):
    return [tf.constant(0.1 * (i + 1), tf.float64) for i in range(count)]


def compiled(operations, measurements, shots=None, adjoint=False):
    tape = qml.tape.QuantumScript(operations, measurements, shots=shots)
    return Compiler(None, tf.is_tensor, adjoint)(tape).circuit


def several(shots=None, adjoint=False, probs=True):
    """Three qubits, eight parameters, measurements of different shapes."""
    a, b, c, d, e, f, g, h = angles(8)
    return compiled(
        [
            qml.RX(a, 0),
            qml.RY(b, 1),
            qml.Hadamard(2),
            qml.Rot(c, d, e, wires=2),
            qml.CNOT([0, 1]),
            qml.CRX(f, wires=[1, 2]),
            qml.RZ(0.4, 0),
            qml.IsingXY(g, wires=[0, 2]),
            qml.PhaseShift(h, 1),
            qml.CNOT([2, 0]),
        ],
        [
            qml.expval(qml.Z(0) @ qml.X(1)),
            *([qml.probs(wires=[2, 0])] if probs else []),
            qml.expval(qml.Hermitian(np.array([[1.0, 0.3j], [-0.3j, -0.5]]), wires=2)),
            qml.expval(0.5 * qml.Z(1) - 1.5 * qml.Y(2)),
        ],
        shots,
        adjoint,
    )


def product(p=2, shots=None):
    """cos x_0 cos x_1 ..., and the probabilities of the first qubit."""
    word = qml.prod(*(qml.Z(i) for i in range(p))) if p > 1 else qml.Z(0)
    return compiled(
        [qml.RX(x, i) for i, x in enumerate(angles(p))],
        [qml.expval(word), qml.probs(wires=0)],
        shots,
    )


def truth(circuit, points, wires=3):
    """Multiplies matrices: float64[N, M], for wires or a number of them."""
    wires, rows, known = list(range(wires) if isinstance(wires, int) else wires), [], {}

    def times(op, state):
        """The matrix of a gate or observable, of which several tapes have the same, times a state:
        complex[2, 2, ...]."""
        if id(op) not in known:
            known[id(op)] = op, np.asarray(qml.matrix(op)).reshape([2, 2] * len(op.wires))
        places, count = [wires.index(wire) for wire in op.wires], len(op.wires)
        moved = np.tensordot(known[id(op)][1], state, (range(count, 2 * count), places))
        return np.moveaxis(moved, range(count), places)

    for tape in circuit.bind_each(points):
        state = np.eye(2 ** len(wires), dtype=complex)[0]
        state = state.reshape([2] * len(wires))
        for op in tape.operations:
            if isinstance(op, qml.operation.StatePrepBase):
                state = op.state_vector(wire_order=wires).reshape(state.shape)
            else:
                state = times(op, state)
        row = []
        for m in tape.measurements:
            if m.obs is not None:
                row.append(np.vdot(state, times(m.obs, state)).real)
            else:
                weights = np.abs(state) ** 2
                others = tuple(i for i, wire in enumerate(wires) if wire not in m.wires)
                kept = [wire for wire in wires if wire in m.wires]
                weights = weights.sum(axis=others).transpose([kept.index(w) for w in m.wires])
                row.extend(weights.ravel())
        rows.append(row)
    return np.array(rows)


def exact(circuit, points):
    """Returns what default.qubit says, without shots: float64[N, M]."""
    circuit = replace(circuit, shots=qml.measurements.Shots(None))
    return PennyLaneExecutor(qml.device("default.qubit"))(circuit, points)


def random_points(circuit, count, seed=0):
    return np.random.default_rng(seed).uniform(-3, 3, size=(count, circuit.num_parameters))


ONE_ANGLE = {
    1: "RX RY RZ PhaseShift U1",
    2: "CRX CRY CRZ ControlledPhaseShift CPhaseShift00 CPhaseShift01 CPhaseShift10 IsingXX IsingXY "
    "IsingYY IsingZZ SingleExcitation SingleExcitationPlus SingleExcitationMinus FermionicSWAP "
    "PSWAP",
    3: "MultiRZ GlobalPhase",
    4: "DoubleExcitation DoubleExcitationPlus DoubleExcitationMinus OrbitalRotation",
}
GATES = [(name, 1, wires) for wires, names in ONE_ANGLE.items() for name in names.split()]
GATES += [("Rot", 3, 1), ("U2", 2, 1), ("U3", 3, 1), ("CRot", 3, 2)]


def gate_circuit(name, count, wires, adjoint=False):
    """A gate between others, so that all its parameters matter."""
    first, *own, last = angles(count + 2)
    return compiled(
        [
            *(qml.RY(0.3 + 0.4 * w, w) for w in range(4)),
            qml.RX(first, 0),
            getattr(qml, name)(*own, wires=list(range(wires))),
            qml.CNOT([0, 1]),
            qml.CNOT([1, 2]),
            qml.RX(0.7, 0),
            qml.RY(last, 1),
        ],
        [qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.X(0) + 0.5 * qml.Y(1) @ qml.Z(3))],
        adjoint=adjoint,
    )


def assert_independent(first, second, expected):
    """Checks samples float64[N] of two sources: means, variances, and no correlation."""
    mean, deviation = expected
    for samples in (first, second):
        assert abs(samples.mean() - mean) <= 5 * deviation / np.sqrt(len(samples))
        ratio = samples.var(ddof=1) / deviation**2
        assert abs(np.log(ratio)) <= 6 * np.sqrt(2 / len(samples))
    assert abs(np.corrcoef(first, second)[0, 1]) <= 5 / np.sqrt(len(first))
    assert abs(np.corrcoef(first[1:], second[:-1])[0, 1]) <= 5 / np.sqrt(len(first))


def differences(circuit, points, wires=3, step=1e-5):
    """Central differences of the product of matrices: float64[N, M, P]."""
    moves = step * np.eye(circuit.num_parameters)
    sides = [
        (truth(circuit, points + move, wires) - truth(circuit, points - move, wires)) / (2 * step)
        for move in moves
    ]
    return np.stack(sides, axis=-1)


def gate_sizes(name, any_wires):
    """How many parameters and wires one of PennyLane's gates has; `any_wires` says how many those
    take that may have any number."""
    kind = getattr(qml, name)
    # The new kind of gate says it by its arguments, from PennyLane 0.46 on.
    parameters = getattr(kind, "dynamic_argnames", None)
    wires = kind.num_wires
    if isinstance(wires, property):
        (wires,) = kind.wire_sizes
    count = kind.num_params if parameters is None else len(parameters)
    return count, wires or any_wires[name]
