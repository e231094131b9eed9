"""Gates on lightning's kernels, against products of matrices."""

import gc
import tracemalloc
import weakref

import numpy as np
import pennylane as qml
import pytest
from pennylane_lightning.lightning_qubit_ops import StateVectorC128
from qshift.executors.simulator.kernels import KERNELS, Kernels
from references import angles, compiled, exact, gate_sizes, random_points, truth

from qshift.executors.simulator import kernels
from qshift.executors.simulator.measurement_bases import NotCoveredError, bases
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

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


def prepared(circuit, wires=None, thresholds=DEFAULT):
    """Returns the kernels of a circuit, and its bases."""
    labels = wires or qml.wires.Wires.all_wires([op.wires for op in circuit.operations])
    positions = {wire: i for i, wire in enumerate(labels)}
    measured = bases(circuit.measurements, circuit.sizes, positions)
    state = StateVectorC128(len(labels))
    return Kernels(circuit, measured, positions, state, {}, thresholds), measured


def probabilities(circuit, points, wires=None, thresholds=DEFAULT):
    """Runs a circuit that measures probabilities: float64[N, 2**n]."""
    kernels, measured = prepared(circuit, wires, thresholds)
    assert len(measured) == 1
    values = np.full((len(points), 2 ** len(measured[0].wires)), np.nan)
    for i, _ in kernels.run(points):
        (values[i],) = kernels.probabilities()
    return values


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
    np.testing.assert_allclose(probabilities(circuit, points, LABELS), expected, atol=1e-10)


@pytest.mark.one_in(2)
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


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", [name for name, (_, wires) in CATALOGUE.items() if wires < 4])
def test_gates_without_a_kernel_are_matrices(name, monkeypatch):
    """In another release, say."""
    monkeypatch.delattr(StateVectorC128, name)
    kernels.has_kernel.cache_clear()
    try:
        count, wires = CATALOGUE[name]
        gate = getattr(qml, name)(*angles(count), wires=LABELS[:wires])
        assert_right(around([gate, qml.ctrl(gate, LABELS[-2:], [0, 1])], "moving"))
    finally:
        kernels.has_kernel.cache_clear()


def test_every_release_has_some_kernels():
    for name, (count, wires) in CATALOGUE.items():
        assert kernels.has_kernel(name, wires, 0, count)
    assert kernels.has_kernel("RX", 1, 3, 1)
    assert not kernels.has_kernel("RX", 1, 0, 2)
    assert not kernels.has_kernel("CNOT", 2, 1, 0)
    assert not kernels.has_kernel("Nothing", 1, 0, 0)


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
    values = probabilities(circuit, points, [0, 1, 2])
    np.testing.assert_allclose(values, truth(circuit, points), atol=1e-12)


def test_state_preparations_in_the_middle_are_not_covered():
    circuit = compiled([qml.RX(0.3, 0), qml.StatePrep([0.6, 0.8], 1)], [qml.probs(wires=[0, 1])])
    with pytest.raises(NotCoveredError):
        prepared(circuit)


def test_wide_matrices_are_not_covered():
    narrow = Thresholds(widest_matrix=2)
    wires = [0, 1, 2]
    gate = qml.PauliRot(angles(1)[0], "X" * len(wires), wires)
    with pytest.raises(NotCoveredError):
        prepared(compiled([gate], [qml.probs(wires=[0])]), thresholds=narrow)
    # Controls are not part of a matrix.
    prepared(compiled([qml.MultiControlledX(wires)], [qml.probs(wires=[0])]), thresholds=narrow)


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
    values = probabilities(circuit, points, list(range(wires)), narrow)
    np.testing.assert_allclose(values, exact(circuit, points), atol=1e-10)


def test_nothing_moves():
    circuit = compiled([qml.RX(0.3, 0), qml.CNOT([0, 1])], [qml.probs(wires=[0, 1])])
    values = probabilities(circuit, np.empty((4, 0)))
    np.testing.assert_allclose(values, truth(circuit, np.empty((4, 0)), 2), atol=1e-12)


def test_no_gates():
    circuit = compiled([], [qml.probs(wires=["x", "y"])])
    assert probabilities(circuit, np.empty((2, 0)), ["x", "y"]).tolist() == [[1, 0, 0, 0]] * 2


def test_no_points():
    circuit = compiled([qml.RX(angles(1)[0], 0)], [qml.probs(wires=0)])
    assert probabilities(circuit, np.empty((0, 1))).shape == (0, 2)


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
    saving = Thresholds(most_amplitudes=most)
    circuit = layers(4, matrices=matrices)
    bases = random_points(circuit, 2)
    points = np.vstack([shifted(point, pairs) for point in bases] + [bases])
    alone = np.vstack([probabilities(circuit, x[None], thresholds=saving) for x in points])
    together = probabilities(circuit, points, thresholds=saving)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(alone[::7], truth(circuit, points[::7], 4), atol=1e-10)


def test_each_point_comes_once_with_its_parameters():
    circuit = layers(4)
    points = shifted(random_points(circuit, 1)[0])
    points = np.vstack([points, points[:3]])
    program, _ = prepared(circuit)
    seen = {}
    for i, row in program.run(points):
        assert i not in seen
        seen[i] = [row[own] for own in program.own if row[own]]
    columns = iter(range(circuit.num_parameters))
    pattern = [([next(columns)] if k % 2 == 0 else [None, next(columns), None]) for k in range(16)]
    for i, point in enumerate(points):
        for own, expected in zip(seen[i], pattern, strict=True):
            expected = [c if c is None else point[c] for c in expected]
            if len(expected) == 3:
                expected[0], expected[2] = 0.3, 0.2
            assert own == expected
    assert sorted(seen) == list(range(len(points)))


def test_shifted_points_run_fewer_gates(monkeypatch):
    """Half the gates for first derivatives."""
    circuit = layers(8, count=3)
    points = shifted(random_points(circuit, 1)[0])
    program, _ = prepared(circuit)
    count, advance = [], Kernels._advance
    monkeypatch.setattr(
        Kernels,
        "_advance",
        lambda self, begin, end, row: (count.append(end - begin), advance(self, begin, end, row)),
    )
    assert sum(1 for _ in program.run(points)) == len(points)
    assert sum(count) < 0.6 * len(points) * len(program.moving)


def test_saved_states_are_bounded():
    wires, most = 12, 5
    saving = Thresholds(most_amplitudes=most * 2**wires)
    circuit = layers(wires, count=1)
    points = shifted(random_points(circuit, 1)[0])
    program, _ = prepared(circuit, thresholds=saving)
    tracemalloc.start()
    for _ in program.run(points):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (most + 2) * 16 * 2**wires + 2e5


def test_kernels_do_not_keep_their_circuit():
    circuit = layers(4, matrices=True)
    program, _ = prepared(circuit)
    list(program.run(random_points(circuit, 2)))
    alive = weakref.ref(circuit)
    del circuit
    gc.collect()
    assert alive() is None
