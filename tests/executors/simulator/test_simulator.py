"""The executor on the embedded simulator, against default.qubit and products of matrices."""

import gc
import math
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pennylane as qml
import pytest
import scipy
import tensorflow as tf
from random_circuits import RandomCircuit
from references import (
    angles,
    assert_independent,
    compiled,
    exact,
    gate_sizes,
    product,
    random_points,
    several,
    truth,
)

from qshift import Tracker, fallbacks
from qshift.circuits.spectra import SUITS_ADJOINT
from qshift.errors import SlowerWarning, UnsupportedError
from qshift.executors import registry
from qshift.executors.executor import Call
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.simulator import simulator
from qshift.executors.simulator.simulator import SimulatorExecutor
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds


def make(wires=None, seed=None, thresholds=DEFAULT):
    return SimulatorExecutor(qml.device("lightning.qubit", wires=wires), seed, thresholds)


def covered(executor, circuit):
    return executor._simulation(circuit) is not None


def assert_right(circuit, executor=None, count=4, falls_back=False):
    executor = executor or make()
    points = random_points(circuit, count)
    values = executor(circuit, points)
    assert covered(executor, circuit) is not falls_back
    assert values.shape == (count, circuit.num_values)
    np.testing.assert_allclose(values, exact(circuit, points), atol=1e-10)


def entangled(wires):
    """Four gates that move, on the first three of some wires."""
    a, b, c, d = angles(4)
    first, second, third = wires[:3]
    return [
        qml.RX(a, first),
        qml.RY(b, second),
        qml.Hadamard(third),
        qml.CRX(c, [first, third]),
        qml.CNOT([second, third]),
        qml.Rot(0.3, d, 0.4, first),
    ]


# --- values ---


@pytest.mark.parametrize("wires", [None, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_values(wires, count):
    circuit = several()
    points = random_points(circuit, count)
    executor = make(wires)
    values = executor(circuit, points)
    assert covered(executor, circuit)
    assert values.shape == (count, circuit.num_values) and values.dtype == np.float64
    expected = truth(circuit, points) if count else np.empty((0, circuit.num_values))
    np.testing.assert_allclose(values, expected, atol=1e-10)


MEASUREMENTS = {
    "word": lambda a, b, c: [qml.expval(qml.Z(a) @ qml.X(c))],
    "sum": lambda a, b, c: [qml.expval(qml.Z(a) @ qml.X(c) + 0.3 * qml.Y(b) - qml.I(a))],
    "identity": lambda a, b, c: [qml.expval(qml.Identity(b))],
    "identity of no wire": lambda a, b, c: [qml.expval(2.0 * qml.I())],
    "nothing": lambda a, b, c: [qml.expval(qml.X(a) - qml.X(a))],
    "complex-looking": lambda a, b, c: [qml.expval((1.5 + 0j) * qml.Z(a) + 1j * (1j * qml.X(b)))],
    "SProd": lambda a, b, c: [qml.expval(qml.s_prod(-2.0, qml.Y(b) @ qml.Y(c)))],
    "Hamiltonian": lambda a, b, c: [
        qml.expval(qml.Hamiltonian([0.3, -1.0, 0.7], [qml.X(a), qml.I(b), qml.Z(a) @ qml.Y(b)]))
    ],
    "Hermitian": lambda a, b, c: [qml.expval(qml.Hermitian([[1.0, 0.3j], [-0.3j, -0.5]], c))],
    "Hermitian @": lambda a, b, c: [qml.expval(qml.Hermitian([[1, 2j], [-2j, 1]], c) @ qml.X(a))],
    "Projector": lambda a, b, c: [qml.expval(qml.Projector([1, 0], [c, a]))],
    "Sparse": lambda a, b, c: [
        qml.expval(qml.SparseHamiltonian((qml.X(0) @ qml.Y(1) + qml.Z(0)).sparse_matrix(), [c, a]))
    ],
    "Sparse of all": lambda a, b, c: [
        qml.expval(
            qml.SparseHamiltonian((qml.X(0) @ qml.I(1) @ qml.Z(2)).sparse_matrix(), [c, a, b])
        )
    ],
    "sum with Sparse": lambda a, b, c: [
        qml.expval(qml.SparseHamiltonian(qml.X(0).sparse_matrix(), [c]) + 0.3 * qml.Y(a))
    ],
    "probs": lambda a, b, c: [qml.probs(wires=[c, a])],
    "probs of all": lambda a, b, c: [qml.probs(wires=[a, b, c])],
    "probs of op": lambda a, b, c: [qml.probs(op=qml.X(c) @ qml.Y(a))],
    "idle wire": lambda a, b, c: [qml.expval(qml.Z("idle") @ qml.Z(a)), qml.probs(wires=["idle"])],
    "idle wire, rotated": lambda a, b, c: [qml.expval(qml.X("idle") + qml.Y(a))],
}
MEASUREMENTS["several"] = lambda *wires: [
    m for name, make in MEASUREMENTS.items() if name != "several" for m in make(*wires)
]


@pytest.mark.parametrize("wires", [[0, 1, 2], ["b", 7, "a"], [2, 0, -1]])
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements(name, wires):
    measurements = MEASUREMENTS[name](*wires)
    circuit = compiled(entangled(wires), measurements)
    assert_right(circuit)
    assert_right(circuit, make([*wires, "further", "idle"]))


def test_wires_in_the_device_s_order():
    """The circuit's own order is another one."""
    circuit = compiled(entangled([2, 0, 1]), [qml.probs(wires=[0, 1, 2]), qml.probs(wires=[1, 2])])
    assert_right(circuit, make(3))
    assert_right(circuit)


def test_no_parameters():
    circuit = compiled([qml.RX(0.3, 0)], [qml.expval(qml.Z(0)), qml.probs(wires=0)])
    assert_right(circuit, count=3)


def test_no_gates():
    assert_right(compiled([], [qml.expval(qml.Z(0)), qml.expval(qml.X(1))]), count=2)


@pytest.mark.parametrize("seed", range(25))
def test_random_circuits(seed):
    circuit = RandomCircuit(seed, wires=4, parameters=3, gates=4, measurements=3)
    function = circuit.qshift(qml.device("lightning.qubit"))
    np.testing.assert_allclose(function(circuit.theta), circuit.numpy()(circuit.theta), atol=1e-9)


FALLING_BACK = {
    "state in the middle": lambda: compiled(
        [qml.Hadamard(1), qml.StatePrep([0.6, 0.8], 0), *entangled([0, 1, 2])],
        [qml.expval(qml.Z(0))],
    ),
    "wide Hermitian": lambda: compiled(
        entangled([0, 1, 2]),
        [qml.expval(qml.SparseHamiltonian(scipy.sparse.eye(2**11, format="csr"), range(11)))],
    ),
}


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
@pytest.mark.parametrize("name", FALLING_BACK)
def test_what_is_not_covered_falls_back(name, device):
    executor = SimulatorExecutor(qml.device(device))
    assert_right(FALLING_BACK[name](), executor, falls_back=True)
    assert_right(several(), executor)


@pytest.mark.parametrize("shots", [None, 1000])
@pytest.mark.parametrize("norm", [1.0, 1.2])
def test_states_that_are_not_normalised(norm, shots):
    """Exact values are those of the vector; whether it can be sampled is for the device to say."""
    vector = norm * np.array([0.6, 0.8])
    start = qml.StatePrep(vector, 0, validate_norm=False)
    circuit = compiled([start, qml.RX(angles(1)[0], 0)], [qml.expval(qml.X(0))], shots)
    executor, points = SimulatorExecutor(qml.device("default.qubit", seed=1)), np.zeros((1, 1))
    assert covered(executor, circuit) is (norm == 1.0 or not shots)
    if shots and norm != 1.0:
        with pytest.raises(ValueError, match="do not sum to 1"):
            executor(circuit, points)
    else:
        bound = 0.2 if shots else 1e-12
        assert executor(circuit, points)[0, 0] == pytest.approx(0.96 * norm**2, abs=bound)


def test_errors_are_the_device_s():
    circuit = compiled([qml.RX(angles(1)[0], 9)], [qml.expval(qml.Z(9))])
    with Tracker() as tracker, pytest.raises(Exception, match="wire"):
        make(3)(circuit, np.zeros((2, 1)))
    assert not any(tracker.totals.values())


@pytest.mark.parametrize("shots", [None, 10])
def test_chunks(shots):
    circuit = several(shots)
    points = random_points(circuit, 7)
    whole = make(seed=3)(circuit, points)
    in_chunks = make(seed=3, thresholds=Thresholds(most_probabilities=40))
    with Tracker() as tracker:
        np.testing.assert_allclose(in_chunks(circuit, points), whole, rtol=1e-13)
    assert (tracker.totals["circuits"], tracker.totals["batches"]) == (7, 1)


def test_memory_for_many_points():
    words = [qml.prod(*((qml.X, qml.Y, qml.Z)[(w + k) % 3](w) for w in range(12))) for k in (0, 1)]
    gates = [qml.RX(0.1 * w, w) for w in range(12)]
    circuit = compiled(gates, list(map(qml.expval, words)), shots=9)
    points = np.empty((1500, 0))
    executor = make(seed=1)
    executor(circuit, points[:1])
    tracemalloc.start()
    executor(circuit, points)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 8 * DEFAULT.most_probabilities


def test_twenty_wires():
    a, b = angles(2)
    circuit = compiled(
        [qml.RX(a, 0), *(qml.CNOT([i, i + 1]) for i in range(19)), qml.RY(b, 19)],
        [qml.expval(qml.Z(19)), qml.expval(qml.prod(*(qml.Z(i) for i in range(19))))],
    )
    points = random_points(circuit, 3)
    executor = make(20)
    values = executor(circuit, points)
    assert covered(executor, circuit)
    cos = np.cos(points)
    np.testing.assert_allclose(values[:, 0], cos[:, 0] * cos[:, 1], atol=1e-10)
    np.testing.assert_allclose(values[:, 1], cos[:, 0], atol=1e-10)


def test_circuits_are_let_go():
    executor, circuit = make(), several()
    executor(circuit, random_points(circuit, 2))
    assert covered(executor, circuit)
    alive = weakref.ref(circuit)
    del circuit
    gc.collect()
    assert alive() is None
    assert not len(executor._simulations)


# --- counts ---


@pytest.mark.parametrize("shots, total", [(None, 0), (20, 20), ([10, 10, 5], 25)])
def test_counts(shots, total):
    circuit = product(shots=shots)
    executor = make()
    with Tracker() as tracker:
        executor(circuit, random_points(circuit, 3))
        executor(circuit, random_points(circuit, 1))
        executor(circuit, random_points(circuit, 0))
    assert covered(executor, circuit)
    assert tracker.totals == {
        "circuits": 4,
        "batches": 2,
        "shots": 4 * 2 * total,  # in two bases
        "jobs": 0,
        "transpilations": 0,
    }


# --- shots ---


@pytest.mark.parametrize("seed", [None, 5, 6])
def test_means_and_variances(seed):
    """Of values from several bases, each of which has outcomes of its own."""
    shots, count = 40, 400
    circuit = several(shots)
    points = np.tile(random_points(circuit, 1), (count, 1))
    executor = make(seed=seed)
    values = executor(circuit, points)
    assert covered(executor, circuit)
    mean = exact(circuit, points[:1])[0]
    (tape,) = circuit.bind_each(points[:1])
    h, z, y = qml.Hermitian([[1.0, 0.3j], [-0.3j, -0.5]], 2), qml.Z(1), qml.Y(2)
    squares = [qml.expval(o) for o in (qml.Hermitian(h.matrix() @ h.matrix(), 2), z, y)]
    square, z, y = exact(compiled(tape.operations, squares), np.empty((1, 0)))[0]
    words = 0.25 * (1 - z**2) + 2.25 * (1 - y**2)  # but for the covariance
    variances = [1 - mean[0] ** 2, *(mean[1:5] * (1 - mean[1:5])), square - mean[5] ** 2, words]
    variances = np.array(variances)
    errors = np.abs(values.mean(axis=0) - mean)
    assert (errors <= 5.5 * np.sqrt(variances / shots / count)).all()
    ratios = values.var(axis=0, ddof=1)[:6] * shots / variances[:6]
    assert (np.abs(np.log(ratios)) <= 6 * np.sqrt(2 / count)).all()


@pytest.mark.parametrize("seed", [None, 5])
def test_independence(seed):
    """Of points, calls, and bases."""
    shots, count = 50, 400
    circuit = compiled(
        [qml.RX(angles(1)[0], 0), qml.RX(0.9, 1)],
        [qml.expval(qml.Z(0)), qml.expval(qml.Y(0)), qml.expval(qml.Z(1))],
        shots,
    )
    points = np.tile([[0.5]], (count, 1))
    executor = make(2, seed)
    first, second = executor(circuit, points), executor(circuit, points)

    def expected(mean):
        return mean, math.sqrt((1 - mean**2) / shots)

    assert_independent(first[:, 0], second[:, 0], expected(math.cos(0.5)))
    assert_independent(first[:, 1], second[:, 1], expected(-math.sin(0.5)))
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) <= 5 / math.sqrt(count)
    assert abs(np.corrcoef(first[:, 0], first[:, 2])[0, 1]) <= 5 / math.sqrt(count)


def test_what_commutes_is_measured_together():
    circuit = compiled(
        [qml.Hadamard(0), qml.CNOT([0, 1])],
        [qml.expval(qml.Z(0)), qml.expval(qml.Z(1)), qml.expval(qml.Z(0) @ qml.Z(1))],
        shots=15,
    )
    values = make()(circuit, np.empty((50, 0)))
    np.testing.assert_array_equal(values[:, 0], values[:, 1])
    np.testing.assert_array_equal(values[:, 2], 1.0)


@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("shots", [[10, 20], [(10, 2)], [5, (10, 2)], [10, 5000, 10]])
def test_shot_vectors(shots, seed):
    circuit = product(shots=shots)
    points = random_points(circuit, 3)
    executor = make(seed=seed)
    values = executor(circuit, points)
    assert covered(executor, circuit)
    assert values.shape == (3, circuit.num_values) == (3, 3 * circuit.copies)
    right = exact(product(), points)
    for i, number in enumerate(circuit.shots):
        copy = values[:, 3 * i : 3 * i + 3]
        np.testing.assert_allclose(copy[:, 1] + copy[:, 2], 1.0)
        np.testing.assert_allclose(copy[:, 1] * number, np.round(copy[:, 1] * number), atol=1e-8)
        assert (np.abs(copy - right) <= 6 / np.sqrt(number)).all()
    for i in range(1, circuit.copies):
        assert not np.array_equal(values[:, :3], values[:, 3 * i : 3 * i + 3])


def test_frequencies_sum_to_one():
    circuit = compiled(entangled([0, 1, 2]), [qml.probs(wires=[2, 0]), qml.probs(op=qml.X(1))], 7)
    values = make()(circuit, random_points(circuit, 20))
    np.testing.assert_allclose(values[:, :4].sum(axis=1), 1.0)
    np.testing.assert_allclose(values[:, 4:].sum(axis=1), 1.0)
    np.testing.assert_allclose(values * 7, np.round(values * 7), atol=1e-9)


def test_probabilities_a_little_off():
    """By rounding, they may be negative or sum to more than one."""
    rng = np.random.default_rng(0)
    rows = np.array([[1.0 + 1e-13, -1e-17, 0.0, -1e-16], [0.5, 0.5 + 1e-12, -1e-15, 0.0]])
    before = rows.copy()
    for rngs in ([rng], [rng, rng]):
        drawn = simulator._sample(rows, 100, rngs)
        np.testing.assert_allclose(drawn.sum(axis=1), 1.0)
        assert drawn[0].tolist() == [1.0, 0.0, 0.0, 0.0] and not drawn[1, 2:].any()
    np.testing.assert_array_equal(rows, before)
    certain = compiled([qml.RX(angles(1)[0], 0), qml.RX(angles(1)[0], 0)], [qml.probs(wires=0)], 9)
    values = make()(certain, np.array([[np.pi, np.pi], [np.pi / 2, -np.pi / 2], [0.1, -0.1]]))
    assert values.tolist() == [[1.0, 0.0]] * 3


def test_a_seed_makes_a_run_reproducible():
    circuit, other = several(100), product(shots=[5, (10, 2)])
    points = random_points(circuit, 4)

    def run(seed, between=False):
        executor = make(seed=seed)
        first = executor(circuit, points)
        if between:
            executor(other, random_points(other, 2), Call(77))
            executor(several(), points, Call(78))
            executor(circuit, points[::-1], Call(79))
        return np.concatenate([first.ravel(), executor(circuit, points).ravel()])

    first = run(7)
    np.testing.assert_array_equal(first, run(7))
    np.testing.assert_array_equal(first, run(7, between=True))
    assert not np.array_equal(first, run(8))
    assert not np.array_equal(*np.split(first, 2))


def test_seeded_samples_do_not_depend_on_what_is_run_together():
    circuit = several([100, 7])
    points = random_points(circuit, 6)
    together = make(seed=3)(circuit, points, Call(1))
    executor = make(seed=3)
    alone = [executor(circuit, point[None], Call(1)) for point in points]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-13)
    order = [3, 1, 0, 5, 4, 2]
    again = executor(circuit, points[order], Call(1))
    np.testing.assert_allclose(again, together[order], atol=1e-13)


def test_the_device_s_own_seed_counts():
    circuit = several(100)
    points = random_points(circuit, 3)

    def run(seed):
        return SimulatorExecutor(qml.device("lightning.qubit", seed=seed))(circuit, points)

    np.testing.assert_array_equal(run(3), run(3))
    assert not np.array_equal(run(3), run(4))
    assert not np.array_equal(run(None), run(None))


def test_samples_and_exact_values_and_gradients_in_turn():
    sampled, circuit = several(10, probs=False), several(adjoint=True, probs=False)
    points = random_points(circuit, 3)
    executor = make()
    for _ in range(2):
        executor(sampled, points)
        np.testing.assert_allclose(executor(circuit, points), truth(circuit, points), atol=1e-10)
        gradients = executor.gradients(circuit, points)
        np.testing.assert_allclose(gradients, slopes(circuit, points), atol=1e-8)


# --- gradients ---

ANY_WIRES = {"GlobalPhase": 1, "MultiRZ": 2}
SUITABLE = {name: gate_sizes(name, ANY_WIRES)[1] for name in sorted(SUITS_ADJOINT)}

CONTROLS = {
    "plain": lambda gate: gate,
    "controlled": lambda gate: qml.ctrl(gate, 4),
    "on 0": lambda gate: qml.ctrl(gate, 4, [0]),
    "twice": lambda gate: qml.ctrl(gate, [4, 5], [0, 1]),
}


def surrounded(gates):
    first, last = angles(2)
    return compiled(
        [
            *(qml.RY(0.3 + 0.4 * w, w) for w in range(6)),
            *(qml.RZ(0.2 + 0.3 * w, w) for w in range(6)),
            qml.RX(first, 0),
            *gates,
            qml.RX(0.7, 1),
            *(qml.CNOT([w, w + 1]) for w in range(5)),
            qml.Rot(0.3, 0.4, 0.5, wires=1),
            qml.RY(last, 1),
        ],
        [qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(5) + 0.5 * qml.X(0) @ qml.Z(4))],
        adjoint=True,
    )


def slopes(circuit, points, step=1e-5):
    """Central differences of default.qubit: float64[N, M, P]."""
    moves = step * np.eye(circuit.num_parameters)
    moved = (points[:, None, None] + np.stack([moves, -moves])).reshape(-1, points.shape[1])
    values = exact(circuit, moved).reshape(len(points), 2, len(moves), -1)
    return (values[:, 0] - values[:, 1]).transpose(0, 2, 1) / (2 * step)


def assert_gradients(circuit, count=2, executor=None):
    executor = executor or make()
    points = random_points(circuit, count)
    assert executor._has_gradients(circuit)
    assert executor.differentiates(circuit) == (circuit.num_values <= circuit.num_parameters)
    gradients = executor.gradients(circuit, points)
    assert gradients.shape == (count, circuit.num_values, circuit.num_parameters)
    np.testing.assert_allclose(gradients, slopes(circuit, points), atol=1e-8)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("name", SUITABLE)
def test_gradients_of_gates(name, control):
    gate = CONTROLS[control](getattr(qml, name)(angles(1)[0], wires=range(SUITABLE[name])))
    circuit = surrounded([gate])
    assert [slot.gate for slot in circuit.slots][1] == gate.name
    assert_gradients(circuit)


@pytest.mark.parametrize("name", "Rot CRot U3 PauliRot OrbitalRotation FermionicSWAP PSWAP".split())
def test_gradients_of_gates_that_are_taken_apart(name):
    gates = {
        "Rot": lambda a, b, c: qml.Rot(a, b, c, 0),
        "CRot": lambda a, b, c: qml.CRot(a, b, c, [0, 1]),
        "U3": lambda a, b, c: qml.U3(a, 0.3, b, 0),
        "PauliRot": lambda a, b, c: qml.PauliRot(a, "XYZ", [0, 1, 3]),
        "OrbitalRotation": lambda a, b, c: qml.OrbitalRotation(a, range(4)),
        "FermionicSWAP": lambda a, b, c: qml.FermionicSWAP(a, [0, 1]),
        "PSWAP": lambda a, b, c: qml.PSWAP(a, [0, 1]),
    }
    circuit, executor = surrounded([gates[name](*angles(3))]), make()
    if executor._has_gradients(circuit):
        return assert_gradients(circuit, executor=executor)
    assert not executor.differentiates(circuit)


CONSTANT = {
    "Rot": lambda: qml.Rot(0.3, 0.4, 0.5, wires=0),
    "C(Rot)": lambda: qml.ctrl(qml.Rot(0.3, 0.4, 0.5, wires=0), [2], [0]),
    "CRot": lambda: qml.CRot(0.3, 0.4, 0.5, wires=[0, 1]),
    "CC(RX)": lambda: qml.ctrl(qml.RX(0.3, wires=0), [2, 3], [0, 1]),
    "PSWAP": lambda: qml.PSWAP(0.3, wires=[0, 1]),
    "PauliRot": lambda: qml.PauliRot(0.3, "XY", wires=[0, 1]),
    "QubitUnitary": lambda: qml.QubitUnitary(np.array([[0.6, 0.8j], [0.8j, 0.6]]), wires=0),
    "Adjoint(S)": lambda: qml.adjoint(qml.S(0)),
    "C(Adjoint(S))": lambda: qml.ctrl(qml.adjoint(qml.S(0)), [1, 2], [0, 1]),
    "C(SWAP)": lambda: qml.ctrl(qml.SWAP([0, 1]), [2, 3], [0, 1]),
    "MultiControlledX": lambda: qml.MultiControlledX([0, 2, 3, 1], [0, 1, 0]),
    "GlobalPhase": lambda: qml.GlobalPhase(0.3),
    "C(GlobalPhase)": lambda: qml.ctrl(qml.GlobalPhase(0.3), [0, 1]),
    "ISWAP": lambda: qml.ISWAP([0, 1]),
}


@pytest.mark.parametrize("as_adjoint", [True, False])
@pytest.mark.parametrize("name", CONSTANT)
def test_gradients_behind_constant_gates(name, as_adjoint):
    a, b, c = angles(3)
    circuit = compiled(
        [
            *(qml.RY(0.3 + 0.4 * w, w) for w in range(4)),
            qml.RX(a, 0),
            CONSTANT[name](),
            qml.CRY(b, [1, 2]),
            CONSTANT[name](),
            qml.CNOT([0, 1]),
            qml.CNOT([1, 2]),
            qml.RX(c, 2),
        ],
        [qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(2))],
        adjoint=as_adjoint,
    )
    assert_gradients(circuit)


@pytest.mark.parametrize(
    "name", [name for name in MEASUREMENTS if name not in ("idle wire", "several")]
)
def test_gradients_of_measurements(name):
    wires = ["b", 7, "a"]
    circuit = compiled(entangled(wires), MEASUREMENTS[name](*wires), adjoint=True)
    assert_gradients(circuit)


@pytest.mark.parametrize(
    "start",
    [lambda: qml.StatePrep([0.6, 0.0, 0.8j, 0.0], wires=[0, 1]), lambda: qml.BasisState([1], [1])],
)
def test_gradients_behind_a_state_preparation(start):
    a, b = angles(2)
    circuit = compiled(
        [start(), qml.Hadamard(0), qml.RX(a, 0), qml.CRY(b, wires=[0, 1])],
        [qml.expval(qml.Z(0) @ qml.X(1))],
        adjoint=True,
    )
    assert_gradients(circuit)


def test_gradients_by_nothing():
    circuit = compiled([qml.RX(0.3, 0)], [qml.expval(qml.Z(0))], adjoint=True)
    assert make().gradients(circuit, np.empty((2, 0))).shape == (2, 1, 0)
    circuit = compiled([qml.RX(0.3, 0), qml.GlobalPhase(angles(1)[0])], [qml.expval(qml.Z(0))])
    np.testing.assert_array_equal(make().gradients(circuit, np.ones((2, 1))), np.zeros((2, 1, 1)))


def test_gradients_in_chunks_are_counted_once():
    circuit = several(adjoint=True, probs=False)
    executor = make(5, thresholds=Thresholds(fewest_together=1, most_lanes=4))
    assert_gradients(circuit, count=5, executor=executor)
    with Tracker() as tracker:
        executor.gradients(circuit, random_points(circuit, 5))
        assert executor.gradients(circuit, np.empty((0, 8))).shape == (0, 3, 8)
    assert tracker.totals["circuits"] == 5 and tracker.totals["batches"] == 1


def test_gradients_are_refused_where_there_are_none():
    executor, circuit = make(), several(shots=10, adjoint=True, probs=False)
    assert not executor.differentiates(circuit)
    with Tracker() as tracker, pytest.raises(UnsupportedError, match="Use diff_method='shift'"):
        executor.gradients(circuit, random_points(circuit, 2))
    assert not any(tracker.totals.values())


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(8))
def test_random_gradients(seed):
    circuit = RandomCircuit(seed, wires=4, parameters=3, gates=4, measurements=2)
    function = circuit.qshift(qml.device("lightning.qubit"))
    theta, step = circuit.theta, 1e-5
    values = circuit.numpy()
    moves = step * np.eye(len(theta))
    sides = [(values(theta + move) - values(theta - move)) / (2 * step) for move in moves]
    expected = np.stack(sides, axis=-1)
    x = tf.constant(theta)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = function(x)
    np.testing.assert_allclose(tape.jacobian(values, x), expected, atol=1e-7)


# --- threads ---


@pytest.mark.parametrize("falls_back", [False, True])
def test_threads(falls_back):
    """Share one executor, its state vectors, and maybe its device."""
    executor = make()
    jobs = [several(), compiled(entangled([2, 0, 1]), [qml.probs(wires=[0, 2])])]
    if falls_back:
        jobs.append(
            compiled(
                [qml.Hadamard(0), qml.StatePrep([0.6, 0.8], 1), *entangled([0, 1, 2])],
                [qml.expval(qml.Z(0) @ qml.X(2))],
            )
        )
    jobs = [(circuit, random_points(circuit, 20, seed)) for seed, circuit in enumerate(jobs)]
    expected = [exact(*job) for job in jobs]
    wrong = []

    def work(job, right):
        for _ in range(15 if not falls_back else 3):
            try:
                np.testing.assert_allclose(executor(*job), right, atol=1e-10)
            except Exception as error:
                wrong.append(error)

    threads = [
        threading.Thread(target=work, args=pair)
        for pair in zip(jobs, expected, strict=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- what is not there ---


@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit"])
def test_the_factory(name):
    assert type(registry.executor(qml.device(name))) is SimulatorExecutor
    assert type(registry.executor(qml.device(name), embedded=False)) is PennyLaneExecutor


def test_without_llvmlite(monkeypatch):
    """For example in a release of Python that has none yet."""
    modules = "simulation", "small_circuits", "outcomes", "state_steps", "kernel"
    for module in (*modules, "instructions", "arithmetic"):
        monkeypatch.delitem(sys.modules, f"qshift.executors.simulator.{module}", raising=False)
    monkeypatch.delattr(sys.modules["qshift.executors.simulator"], "kernel", raising=False)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    fallbacks._warn_once.cache_clear()
    executor, circuit = make(), several(adjoint=True, probs=False)
    points = random_points(circuit, 2)
    with pytest.warns(SlowerWarning, match="public interface.*llvmlite"):
        values = executor(circuit, points)
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-10)
    assert not executor.differentiates(circuit)
    found = executor.gradients(circuit, points)
    np.testing.assert_allclose(found, slopes(circuit, points), atol=1e-8)


# --- long batches ---


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("shots", [None, 20])
@pytest.mark.parametrize("together", [0, 12])
def test_long_batches_are_the_same_whoever_runs_them(gradients, shots, together):
    def run(threads):
        settings = Thresholds(
            most_wires_together=together, most_lanes=4, patience=-1.0, threads=threads
        )
        executor = make(thresholds=settings, seed=5)
        return (executor.gradients if gradients else executor)(circuit, points)

    if gradients and shots:
        pytest.skip("samples have no gradients")
    circuit = several(shots, adjoint=True, probs=False)
    points = random_points(circuit, 300)
    with Tracker() as tracker:
        alone, shared = run(1), run(3)
    np.testing.assert_array_equal(alone, shared)
    assert tracker.totals["circuits"] == 600 and tracker.totals["batches"] == 2


@pytest.mark.parametrize("seed", [None, 3])
def test_the_shots_of_one_value_are_spread_over_its_bases(seed):
    """In proportion to what they contribute, where points have shots of their own; half of a pair
    of entangled qubits is as likely in one state as in the other, in every basis."""
    (a,) = angles(1)
    operations = [qml.Hadamard(0), qml.CNOT([0, 1]), qml.RX(a, 0)]
    observable = qml.Z(0) + 0.3 * qml.X(0) + 0.1 * qml.Y(0) + 2 * qml.I(0)
    circuit = compiled(operations, [qml.expval(observable)], shots=50)
    executor, points = make(seed=seed), np.full((6000, 1), 0.7)
    shots = np.full(6000, 50)
    values, variances, _ = executor.estimates(circuit, points, Call(1, shots=shots))
    spread = (1.0 + 0.3 + 0.1) ** 2 / (3 * 50)
    # The deviation of a variance is sqrt(2 / 6000) of it.
    assert values.var() == pytest.approx(spread, rel=0.08)
    assert values.var() < 0.7 * (1.0 + 0.09 + 0.01) / 50
    assert variances.mean() == pytest.approx(spread, rel=0.08)
    assert values.mean() == pytest.approx(2.0, abs=5 * np.sqrt(spread / 6000))
    few = executor(circuit, points[:100], Call(2, shots=np.ones(100, dtype=int)))
    np.testing.assert_allclose(np.abs(few - 2).max(), 1.4)
    # Without shots of their own, bases have equally many, as on PennyLane's devices.
    equal = executor(circuit, points, Call(3))
    assert equal.var() == pytest.approx((1.0 + 0.09 + 0.01) / 50, rel=0.08)
