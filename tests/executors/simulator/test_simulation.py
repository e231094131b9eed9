"""Simulated circuits, of one point and of many at once, against products of matrices."""

import gc
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pennylane as qml
import pytest
from references import (
    ONE_ANGLE,
    angles,
    compiled,
    differences,
    exact,
    gate_sizes,
    random_points,
    several,
    truth,
)

from qshift.executors.simulator.measurement_bases import NotCoveredError
from qshift.executors.simulator.simulation import Simulation
from qshift.executors.simulator.state_steps import Steps
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

# One state for each point, or for many; in blocks of few.
ALONE = Thresholds(most_wires_together=0)
TOGETHER = Thresholds(fewest_together=1)
WAYS = {"alone": ALONE, "together": TOGETHER, "in blocks": replace(TOGETHER, most_lanes=4)}
MIXED = "CNOT CRX CRY CRZ CRot CSWAP CY CZ Hadamard PauliX PauliY PauliZ Rot S SWAP SX T Toffoli"
KERNELS = [*MIXED.split(), *(name for names in ONE_ANGLE.values() for name in names.split())]

LABELS = ["b", 3, "a", -1, 0, "c"]

# name -> (parameters, wires)
ANY_WIRES = {"GlobalPhase": 1, "MultiRZ": 3}
CATALOGUE = {name: gate_sizes(name, ANY_WIRES) for name in sorted(KERNELS)}

NESTINGS = {
    "plain": lambda gate, a, b: gate,
    "adjoint": lambda gate, a, b: qml.adjoint(gate),
    "control": lambda gate, a, b: qml.ctrl(gate, a),
    "control on 0": lambda gate, a, b: qml.ctrl(gate, a, [0]),
    "controls": lambda gate, a, b: qml.ctrl(gate, [a, b], [0, 1]),
    "control of control": lambda gate, a, b: qml.ctrl(qml.ctrl(gate, a), b, [0]),
    "adjoint of control": lambda gate, a, b: qml.adjoint(qml.ctrl(gate, a)),
    "control of adjoint": lambda gate, a, b: qml.ctrl(qml.adjoint(gate), a, [0]),
    "alternating": lambda gate, a, b: qml.ctrl(qml.adjoint(qml.ctrl(qml.adjoint(gate), a, [0])), b),
    "adjoint of adjoint": lambda gate, a, b: qml.adjoint(qml.adjoint(gate, lazy=True), lazy=True),
}

OTHERS = {
    "Identity": lambda a, w: qml.Identity(w[0]),
    "Barrier": lambda a, w: qml.Barrier(w[:2]),
    "ISWAP": lambda a, w: qml.ISWAP(w[:2]),
    "CH": lambda a, w: qml.CH(w[:2]),
    "CCZ": lambda a, w: qml.CCZ(w[:3]),
    "MultiControlledX": lambda a, w: qml.MultiControlledX(w[:5], control_values=[0, 1, 1, 0]),
    "C(CH)": lambda a, w: qml.ctrl(qml.CH(w[:2]), w[3]),
    "S**3": lambda a, w: qml.pow(qml.S(w[0]), 3, lazy=True),
    "Prod": lambda a, w: qml.prod(qml.RX(a, w[0]), qml.CNOT(w[:2])),
    "GlobalPhase": lambda a, w: qml.GlobalPhase(a),
    "Adjoint(GlobalPhase)": lambda a, w: qml.adjoint(qml.GlobalPhase(a)),
    "C(GlobalPhase)": lambda a, w: qml.ctrl(qml.GlobalPhase(a), w[0]),
    "CC(GlobalPhase)": lambda a, w: qml.ctrl(qml.GlobalPhase(a), w[:2], [0, 1]),
    "Adjoint(C(GlobalPhase))": lambda a, w: qml.adjoint(qml.ctrl(qml.GlobalPhase(a), w[0])),
    "PauliRot": lambda a, w: qml.PauliRot(a, "XIYZ", w[:4]),
    "PauliRot of identities": lambda a, w: qml.PauliRot(a, "II", w[:2]),
    "Adjoint(PauliRot)": lambda a, w: qml.adjoint(qml.PauliRot(a, "XIY", w[:3])),
    "C(PauliRot)": lambda a, w: qml.ctrl(qml.PauliRot(a, "ZY", w[:2]), w[4], [0]),
    "OrbitalRotation": lambda a, w: qml.OrbitalRotation(a, w[:4]),
    "FermionicSWAP": lambda a, w: qml.FermionicSWAP(a, w[:2]),
    "PCPhase": lambda a, w: qml.PCPhase(a, 3, w[:2]),
    "C(PCPhase)": lambda a, w: qml.ctrl(qml.PCPhase(a, 3, w[:2]), w[2]),
    "U2": lambda a, w: qml.U2(a, 0.4, w[0]),
    "U3": lambda a, w: qml.U3(0.3, a, 0.5, w[0]),
    "Rot": lambda a, w: qml.Rot(0.3, a, 0.5, w[0]),
    "CRot": lambda a, w: qml.CRot(0.3, 0.4, a, w[:2]),
    "CC(Rot)": lambda a, w: qml.ctrl(qml.Rot(a, 0.3, 0.4, w[0]), w[1:3], [1, 0]),
    "QubitUnitary": lambda a, w: qml.QubitUnitary(_unitary(4), [w[2], w[0]]),
    "Adjoint(QubitUnitary)": lambda a, w: qml.adjoint(qml.QubitUnitary(_unitary(4), w[:2])),
    "C(QubitUnitary)": lambda a, w: qml.ctrl(qml.QubitUnitary(_unitary(2), w[2]), w[:2], [0, 1]),
    "custom": lambda a, w: Turn(a, wires=w[:2]),
    "Adjoint(custom)": lambda a, w: qml.adjoint(Turn(a, wires=w[:2])),
    "C(custom)": lambda a, w: qml.ctrl(Turn(a, wires=w[:2]), w[2], [0]),
}


class Turn(qml.operation.Operation):
    """A gate that only its matrix describes."""

    num_wires = 2
    num_params = 1
    ndim_params = (0,)
    grad_method = "A"
    parameter_frequencies = [(1.0,)]

    @staticmethod
    def compute_matrix(angle):
        return qml.matrix(qml.IsingXX(angle, wires=[0, 1]) @ qml.Z(0), wire_order=[0, 1])


def _unitary(size, seed=3):
    rng = np.random.default_rng(seed)
    return np.linalg.qr(rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size)))[0]


def found(name, circuit, points, thresholds=DEFAULT, *first):
    """Returns the results of one of a simulation's functions, float64[N, ...].

    Args:
        first: What the function is given before the points.
    """
    simulation = Simulation(circuit, {}, thresholds)
    rows, results = [], []
    for part in simulation.parts(points):
        rows.append(part[0])
        results.append(getattr(simulation, name)(*first, points, part))
    order = np.argsort(np.concatenate(rows))
    assert np.concatenate(rows)[order].tolist() == list(range(len(points)))
    return np.concatenate(results)[order]


def values(circuit, points, thresholds=DEFAULT):
    return found("values", circuit, points, thresholds)


def gradients(circuit, points, thresholds=DEFAULT):
    return found("gradients", circuit, points, thresholds)


def around(gates, when):
    """Puts gates before, or behind, what moves; between gates that do not commute with them."""
    first, last = angles(2)
    start = [qml.RY(0.3 + 0.4 * i, wire) for i, wire in enumerate(LABELS)]
    start += [qml.RZ(0.2 + 0.3 * i, wire) for i, wire in enumerate(LABELS)]
    mixing = [qml.CNOT([LABELS[i - 1], LABELS[i]]) for i in range(len(LABELS))]
    mixing += [qml.RX(0.4 + 0.1 * i, wire) for i, wire in enumerate(LABELS)]
    gates = [part for gate in gates for part in (gate, *mixing)]
    moving = [qml.RX(first, "b"), qml.CRY(last, ["a", 3])]
    before, behind = (gates, []) if when == "fixed" else ([], gates)
    return compiled([*start, *before, *moving, *behind], [qml.probs(wires=LABELS)])


def assert_right(circuit, count=3):
    points = random_points(circuit, count)
    expected = truth(circuit, points, LABELS)
    for thresholds in (ALONE, TOGETHER):
        np.testing.assert_allclose(values(circuit, points, thresholds), expected, atol=1e-10)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("when", ["fixed", "constant", "moving"])
@pytest.mark.parametrize("name", CATALOGUE)
def test_gates(name, when):
    """Each gate in all its nestings, one after another."""
    count, wires = CATALOGUE[name]
    rng = np.random.default_rng(len(name))
    gates = []
    for k, nest in enumerate(NESTINGS.values()):
        labels = [LABELS[i] for i in rng.permutation(len(LABELS))]
        own = (0.3 + 0.7 * k + np.arange(count)).tolist()
        own = angles(count) if when == "moving" else own
        gates.append(nest(getattr(qml, name)(*own, wires=labels[:wires]), *labels[-2:]))
    assert_right(around(gates, when))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("when", ["fixed", "constant", "moving"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_gates(name, when):
    angle = angles(1)[0] if when == "moving" else 0.7
    assert_right(around([OTHERS[name](angle, LABELS)], when))


# --- where circuits begin ---

STARTS = {
    "StatePrep": lambda: qml.StatePrep(np.array([0.6, 0.0, 0.8j, 0.0]), wires=[2, 0]),
    "padded": lambda: qml.StatePrep([1.0, 1.0, 1.0], [0, 1], pad_with=0.0, normalize=True),
    "BasisState": lambda: qml.BasisState([1, 0, 1], wires=[2, 1, 0]),
    "part": lambda: qml.BasisState([1], wires=[1]),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("fixed", [False, True])
def test_state_preparations(start, fixed):
    angle = angles(1)[0]
    circuit = compiled(
        [STARTS[start](), *([qml.Hadamard(1)] if fixed else []), qml.CRX(angle, [2, 1])],
        [qml.probs(wires=[0, 1, 2])],
    )
    points = random_points(circuit, 3)
    for thresholds in WAYS.values():
        right = truth(circuit, points)
        np.testing.assert_allclose(values(circuit, points, thresholds), right, atol=1e-12)


def test_state_preparations_in_the_middle_are_not_covered():
    circuit = compiled([qml.RX(0.3, 0), qml.StatePrep([0.6, 0.8], 1)], [qml.probs(wires=[0, 1])])
    with pytest.raises(NotCoveredError, match="not the first gate"):
        Simulation(circuit, {})


def test_wide_matrices_are_not_covered():
    narrow, wires = Thresholds(widest_matrix=1), [0, 1, 2]
    gate = Turn(angles(1)[0], [0, 1])
    with pytest.raises(NotCoveredError):
        Simulation(compiled([gate], [qml.probs(wires=[0])]), {}, narrow)
    # Controls are not part of a matrix, and rotations about words are none.
    for gate in (qml.MultiControlledX([*wires, 3]), qml.PauliRot(angles(1)[0], "XYZ", wires)):
        Simulation(compiled([gate], [qml.probs(wires=[0])]), {}, narrow)


DECOMPOSED = {
    "wide": lambda: qml.QFT(range(3)),
    "no matrix": lambda: qml.TrotterProduct(0.4 * qml.X(0) + 0.9 * qml.Z(0) @ qml.Z(1), 0.7),
}


@pytest.mark.parametrize("name", DECOMPOSED)
@pytest.mark.parametrize("when", ["fixed", "constant"])
def test_constant_gates_are_decomposed(name, when):
    narrow = Thresholds(widest_matrix=2)
    moving, constant = qml.RX(angles(1)[0], 0), DECOMPOSED[name]()
    gates = [constant, moving] if when == "fixed" else [moving, constant]
    wires = max(gates[0].wires.tolist() + gates[1].wires.tolist()) + 1
    circuit = compiled([*gates, qml.Hadamard(1)], [qml.probs(wires=range(wires))])
    points = random_points(circuit, 2)
    right = exact(circuit, points)
    np.testing.assert_allclose(values(circuit, points, narrow), right, atol=1e-10)


def test_nothing_moves():
    circuit = compiled([qml.RX(0.3, 0), qml.CNOT([0, 1])], [qml.probs(wires=[0, 1])])
    points = np.empty((4, 0))
    for thresholds in WAYS.values():
        right = truth(circuit, points, 2)
        np.testing.assert_allclose(values(circuit, points, thresholds), right, atol=1e-12)
        assert gradients(circuit, points, thresholds).shape == (4, 4, 0)


def test_no_gates():
    circuit = compiled([], [qml.probs(wires=["x", "y"])])
    assert values(circuit, np.empty((2, 0))).tolist() == [[1, 0, 0, 0]] * 2


def test_no_points():
    circuit = compiled([qml.RX(angles(1)[0], 0)], [qml.probs(wires=0)])
    assert Simulation(circuit, {}).parts(np.empty((0, 1))) == []


# --- points that share what their first gates do ---


def layers(wires, count=2, matrices=False):
    """Rings of rotations and CNOTs, with constants and matrices between."""
    own = iter(angles(2 * wires * count))
    gates = []
    for _ in range(count):
        for wire in range(wires):
            gates += [qml.RX(next(own), wire), qml.Rot(0.3, next(own), 0.2, wire)]
        if matrices:
            gates.append(qml.OrbitalRotation(angles(1)[0], list(range(4))))
        gates += [qml.CNOT([wire, (wire + 1) % wires]) for wire in range(wires)]
    return compiled(gates, [qml.probs(wires=range(wires))])


def shifted(point, pairs=False):
    """Returns a point and its shifts float64[N, P], in random order."""
    moves = np.pi / 2 * np.eye(len(point))
    moves = [np.zeros_like(point), *moves, *-moves]
    if pairs:
        moves = [a + b for a in moves for b in moves[:7]]
    return np.random.default_rng(1).permutation(point + np.array(moves))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("most", [0, 1, 3 * 2**4, 2**30])
@pytest.mark.parametrize("matrices", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
def test_shifted_points(most, matrices, pairs):
    saving = replace(ALONE, most_amplitudes=most)
    circuit = layers(4, matrices=matrices)
    bases = random_points(circuit, 2)
    points = np.vstack([shifted(point, pairs) for point in bases] + [bases])
    alone = np.vstack([values(circuit, x[None], saving) for x in points])
    together = values(circuit, points, saving)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(alone[::7], truth(circuit, points[::7], 4), atol=1e-10)


def test_shifted_points_run_fewer_gates(monkeypatch):
    """Little more than half the gates for first derivatives."""
    circuit = layers(8, count=3)
    points = shifted(random_points(circuit, 1)[0])
    count, run = [], Steps.run

    def counted(self, state, points, angles, first=0, stop=None):
        count.append((self.count if stop is None else stop) - first)
        run(self, state, points, angles, first, stop)

    simulation = Simulation(circuit, {}, ALONE)
    monkeypatch.setattr(Steps, "run", counted)
    for part in simulation.parts(points):
        simulation.values(points, part)
    assert sum(count) < 0.7 * len(points) * simulation._steps.count


@pytest.mark.one_in(2)
@pytest.mark.parametrize("count", [3, 9, 64, 65, 66, 67, 97, 128, 129, 130, 200])
def test_parts_of_a_batch_are_about_equal(count):
    """Whatever parts points are in, their results are the same."""
    circuit = layers(8, count=1)
    simulation, points = Simulation(circuit, {}), random_points(circuit, count)
    parts = simulation.parts(points)
    sizes = [len(rows) for rows, common in parts if not common]
    assert np.array_equal(np.concatenate([rows for rows, _ in parts]), np.arange(count))
    assert len(sizes) == -(-sum(sizes) // simulation.lanes) and max(sizes) <= simulation.lanes
    # Each is as large as the mean, up to a vector, but for the last, which has what is left.
    assert max(sizes) < sum(sizes) / len(sizes) + 4
    fresh = Simulation(circuit, {}, replace(DEFAULT, most_lanes=simulation.grain // 4))
    for calculate, other in (
        (simulation.values, fresh.values),
        (simulation.gradients, fresh.gradients),
    ):
        found = np.concatenate([calculate(points, part) for part in parts])
        few = [(rows, ()) for rows in np.split(np.arange(sum(sizes)), range(16, sum(sizes), 16))]
        expected = np.concatenate([other(points, part) for part in few])
        np.testing.assert_array_equal(found[: len(expected)], expected)


def test_saved_states_are_bounded():
    wires, most = 12, 5
    saving = replace(ALONE, most_amplitudes=most * 2**wires)
    circuit = replace(layers(wires, count=1), measurements=(qml.expval(qml.Z(0)),), sizes=(1,))
    points = shifted(random_points(circuit, 1)[0])
    simulation = Simulation(circuit, {}, saving)
    (*_, part) = simulation.parts(np.repeat(points, 16, axis=0))
    simulation.values(points, (np.arange(len(points)), [0] * len(points)))
    tracemalloc.start()
    simulation.values(np.repeat(points, 16, axis=0), part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (most + 4) * 16 * 2**wires + 2e5


@pytest.mark.parametrize("way", WAYS)
def test_simulations_do_not_keep_their_circuit(way):
    circuit = layers(4, matrices=True)
    simulation, points = Simulation(circuit, {}, WAYS[way]), random_points(circuit, 5)
    for part in simulation.parts(points):
        simulation.values(points, part)
    alive = weakref.ref(circuit)
    del circuit
    gc.collect()
    assert alive() is None


# --- gradients ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_gradients(way, count):
    """Also those of probabilities, and of an observable that is a matrix."""
    circuit = several(adjoint=True)
    points = random_points(circuit, count)
    assert Simulation(circuit, {}).differentiable
    found = gradients(circuit, points, WAYS[way])
    np.testing.assert_allclose(found, differences(circuit, points), atol=1e-8)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_derivatives_of_sums(way, count):
    """At each point one of another sum, of values, probabilities and an observable's matrix."""
    circuit = several(adjoint=True)
    points = random_points(circuit, count)
    cotangents = np.random.default_rng(count).normal(size=(count, circuit.num_values))
    cotangents[0, :3] = 0.0
    sums = found("pulled_back", circuit, points, WAYS[way], cotangents)
    expected = np.einsum("nm,nmp->np", cotangents, differences(circuit, points))
    np.testing.assert_allclose(sums, expected, atol=1e-7)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("controls", [1, 2, 3, 4])
def test_gradients_of_gates_that_many_wires_control(way, controls):
    """From three wires on they are matrices."""
    a, b, c = angles(3)
    values_of = [k % 2 for k in range(controls)]
    circuit = compiled(
        [
            *(qml.RY(0.3 + 0.4 * w, w) for w in range(6)),
            *(qml.CNOT([w, w + 1]) for w in range(5)),
            qml.RX(a, 0),
            qml.ctrl(qml.RX(b, 5), range(controls), values_of),
            qml.Hadamard(1),
            qml.ctrl(qml.PhaseShift(c, 5), range(controls), values_of),
            qml.RX(b, 5),
        ],
        [qml.expval(qml.Z(0) @ qml.X(5)), qml.expval(qml.Y(1) + qml.Z(5))],
        adjoint=True,
    )
    points = random_points(circuit, 5)
    found = gradients(circuit, points, WAYS[way])
    np.testing.assert_allclose(found, differences(circuit, points, 6), atol=1e-8)


def test_what_has_no_gradients():
    turn = compiled([Turn(angles(1)[0], wires=[0, 1])], [qml.expval(qml.Z(0))])
    assert not Simulation(turn, {}).differentiable
    points = random_points(turn, 3)
    np.testing.assert_allclose(values(turn, points), truth(turn, points, 2), atol=1e-12)


def test_points_that_share_all_angles_but_one():
    circuit = layers(3)
    points = np.repeat(random_points(circuit, 1), 9, axis=0)
    points[:, -1] = np.linspace(-3, 3, 9)
    for thresholds in WAYS.values():
        right = truth(circuit, points)
        np.testing.assert_allclose(values(circuit, points, thresholds), right, atol=1e-12)


@pytest.mark.parametrize("scale", [0.0, 1e-9, np.pi / 2, np.pi, 2 * np.pi, -6 * np.pi, 1e13])
def test_special_angles(scale):
    circuit = several(adjoint=True)
    points = np.full((5, circuit.num_parameters), scale)
    points[1:] += random_points(circuit, 4)
    for thresholds in WAYS.values():
        right, slopes = truth(circuit, points), gradients(circuit, points, thresholds)
        np.testing.assert_allclose(values(circuit, points, thresholds), right, atol=1e-12)
        if scale < 1e6:  # where differences can be taken
            np.testing.assert_allclose(slopes, differences(circuit, points), atol=1e-8)
        np.testing.assert_allclose(slopes, gradients(circuit, points, ALONE), atol=1e-12)


def test_the_latest_state_is_used_again(monkeypatch):
    ran, run = [], Steps.run

    def counted(self, *arguments):
        ran.append(self.count)
        run(self, *arguments)

    circuits, latest = [several(adjoint=True, probs=False), layers(3)], {}
    one, other = (Simulation(circuit, latest) for circuit in circuits)
    monkeypatch.setattr(Steps, "run", counted)
    point, another = random_points(circuits[0], 2)[:, None]
    fresh = gradients(circuits[0], point)
    for between, again in [
        (lambda: None, False),
        (lambda: one.values(another, one.alone), True),
        (lambda: other.values(random_points(circuits[1], 1), other.alone), True),
    ]:
        one.values(point, one.alone)
        between()
        ran.clear()
        np.testing.assert_array_equal(one.gradients(point, one.alone), fresh)
        assert (one._steps.count in ran) is again
    assert len(latest) == 1


@pytest.mark.parametrize("most, kept", [(7 << 4, True), ((7 << 4) - 1, False)])
def test_the_latest_states_of_a_batch_are_used_again(monkeypatch, most, kept):
    """Those of two blocks, with four points and with three."""
    circuit, ran, run = several(adjoint=True, probs=False), [], Steps.run

    def counted(self, state, points, *arguments):
        if self is simulation._steps:
            ran.append(len(points))
        run(self, state, points, *arguments)

    monkeypatch.setattr(Steps, "run", counted)
    simulation = Simulation(circuit, {}, replace(WAYS["in blocks"], most_kept=most))
    points = random_points(circuit, 7)
    for moved in (False, True):
        parts = simulation.parts(points)
        for part in parts:
            simulation.values(points, part)
        ran.clear()
        points[6, 0] += moved  # in the second block, and in the same array
        slopes = np.concatenate([simulation.gradients(points, part) for part in parts])
        np.testing.assert_allclose(slopes, differences(circuit, points), atol=1e-8)
        assert ran == ([4] * moved if kept else [4, 4])
    fewer = simulation.gradients(points[:3], (np.arange(3), ()))
    np.testing.assert_allclose(fewer, slopes[:3], atol=1e-12)
