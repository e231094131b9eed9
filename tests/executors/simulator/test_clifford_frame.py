"""Gates as rotations about Pauli words, against products of matrices."""

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import ONE_ANGLE, angles, compiled

from qshift.circuits.circuit import Slot
from qshift.executors.simulator.clifford_frame import Frame, Rotation, Word, of_letters
from qshift.executors.simulator.measurement_bases import NotCoveredError

WIRES = ["b", 3, "a", -1]
WIRE_MAP = {wire: i for i, wire in enumerate(WIRES)}
ANGLE = 0.37
ANGLE_SLOT = Slot(0, 0, 0, "gate", 0, (), False, None)

words = st.builds(Word, st.integers(0, 7), st.integers(0, 7), st.integers(0, 3))


@given(words, words)
def test_products(a, b):
    np.testing.assert_allclose((a @ b).matrix(8), a.matrix(8) @ b.matrix(8), atol=1e-15)


@given(words, words)
def test_commutation(a, b):
    assert a.commutes(b) == (a @ b == b @ a)


def test_letters():
    for word, op in ((Word(1, 0, 0), qml.X), (Word(1, 1, 1), qml.Y), (Word(0, 1, 0), qml.Z)):
        np.testing.assert_allclose(word.matrix(2), op(0).matrix(), atol=1e-15)
    word = of_letters({0: "Y", 2: "X", 1: "Z"})
    expected = qml.matrix(qml.X(0) @ qml.Z(1) @ qml.Y(2), wire_order=range(3))
    np.testing.assert_allclose(word.matrix(8), expected, atol=1e-15)


def frame_of(gates):
    """Adds gates; those given with an angle depend on the first column."""
    frame = Frame(WIRE_MAP)
    for gate, moves in gates:
        frame.add(gate, [ANGLE_SLOT] if moves else (), 0)
    return frame


def matrix_of(step):
    """Returns a step as a matrix on all wires."""
    size = 2 ** len(WIRES)
    if isinstance(step, Rotation):
        half = step.scale * (1.0 if step.column < 0 else ANGLE) / 2
        turn = np.cos(half) * np.eye(size) - 1j * np.sin(half) * step.word.matrix(size)
        np.testing.assert_allclose(turn @ turn.conj().T, np.eye(size), atol=1e-12)
        return turn
    return qml.matrix(step.op, wire_order=WIRES)


def assert_right(gates):
    """Compares with the product of the gates' matrices, up to a phase: what all words do behind
    the gates, the frame says of words in front of its Clifford gates."""
    frame, size = frame_of(gates), 2 ** len(WIRES)
    steps, product = np.eye(size), np.eye(size)
    for step in frame.steps:
        steps = matrix_of(step) @ steps
    for gate, _ in gates:
        product = qml.matrix(gate, wire_order=WIRES) @ product
    for bit in range(len(WIRES)):
        for word in (Word(1 << bit, 0, 0), Word(0, 1 << bit, 0)):
            found = frame.before(word, range(len(WIRES))).matrix(size)
            expected = product.conj().T @ word.matrix(size) @ product
            np.testing.assert_allclose(steps.conj().T @ found @ steps, expected, atol=1e-12)


def clifford():
    """Gates that no word commutes with."""
    return [
        (qml.Hadamard("b"), []),
        (qml.S(3), []),
        (qml.CNOT(["b", 3]), []),
        (qml.SX("a"), []),
        (qml.CZ(["a", -1]), []),
        (qml.ISWAP([3, "a"]), []),
        (qml.adjoint(qml.S("a")), []),
        (qml.CY([-1, "b"]), []),
        (qml.SWAP([3, -1]), []),
        (qml.ECR(["b", "a"]), []),
    ]


MOVING = {
    **{
        name: (lambda name=name, count=count: getattr(qml, name)(ANGLE, wires=WIRES[:count][::-1]))
        for count, names in ONE_ANGLE.items()
        for name in names.split()
        if name not in ("GlobalPhase", "PSWAP", "FermionicSWAP")
    },
    "PauliRot": lambda: qml.PauliRot(ANGLE, "XYZ", wires=[3, "b", -1]),
    "adjoint": lambda: qml.adjoint(qml.CRY(ANGLE, wires=["a", 3])),
    "control on 0": lambda: qml.ctrl(qml.RX(ANGLE, "b"), ["a", 3], [0, 1]),
    "controlled excitation": lambda: qml.ctrl(qml.SingleExcitation(ANGLE, wires=["b", "a"]), -1),
}


@pytest.mark.parametrize("name", MOVING)
def test_gates_that_move(name):
    gates = [*clifford(), (MOVING[name](), True), *clifford(), (MOVING[name](), True)]
    assert_right(gates)
    assert all(step.column == 0 for step in frame_of(gates).steps)


@pytest.mark.parametrize("gate", [qml.Rot, qml.U3, qml.U2])
@pytest.mark.parametrize("moving", [(0,), (1,), (0, 1), (1, 0)])
def test_gates_of_several_angles(gate, moving):
    """Some of which are constants."""
    values = [0.3, 0.5, 0.7][: gate.num_params]
    given = [angles(1)[0] if k in moving else value for k, value in enumerate(values)]
    circuit = compiled([gate(*given, "a")], [])
    frame = Frame({"a": 0})
    frame.add(circuit.operations[0], circuit.slots, 0)
    point, product = [0.1 * (k + 2) for k in range(len(circuit.slots))], np.eye(2)
    for step in frame.steps:
        half = step.scale * (point[step.column] if step.column >= 0 else 1.0) / 2
        product = (np.cos(half) * np.eye(2) - 1j * np.sin(half) * step.word.matrix(2)) @ product
    (tape,) = circuit.bind_each(np.array([point]))
    expected = tape.operations[0].matrix()
    assert abs(abs(np.vdot(product, expected)) - 2) < 1e-12
    assert len(frame.steps) == 3


CONSTANT = {
    "rotation": lambda: qml.RX(0.3, "a"),
    "T": lambda: qml.T(3),
    "Toffoli": lambda: qml.Toffoli(["a", -1, 3]),
    "Rot": lambda: qml.Rot(0.3, 0.4, 0.5, "a"),
    "QubitUnitary": lambda: qml.QubitUnitary(qml.Rot(0.3, 0.4, 0.5, 0).matrix(), "b"),
    "of two": lambda: qml.QubitUnitary(qml.CRot(0.3, 0.4, 0.5, [0, 1]).matrix(), ["a", "b"]),
    "of three": lambda: qml.ctrl(
        qml.QubitUnitary(qml.CRot(0.3, 0.4, 0.5, [0, 1]).matrix(), [3, "b"]), "a", [0]
    ),
    "many controls": lambda: qml.MultiControlledX(["b", "a", -1, 3], [0, 1, 1]),
    "QFT": lambda: qml.QFT(["a", 3, "b"]),
    "barrier": lambda: qml.Barrier(WIRES),
    "phase": lambda: qml.GlobalPhase(0.3),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_gates(name):
    gates = [*clifford(), (CONSTANT[name](), False), *clifford(), (qml.RY(ANGLE, 3), True)]
    assert_right(gates)
    columns = [step.column for step in frame_of(gates).steps if isinstance(step, Rotation)]
    assert columns.count(0) == 1


def test_clifford_gates_cost_nothing():
    assert not frame_of(clifford() * 3).steps


MATRICES = {
    "words that do not commute": lambda: qml.evolve(qml.X("a") + qml.Z("a"), ANGLE),
    "not the identity at zero": lambda: qml.PSWAP(ANGLE, wires=["a", 3]),
    "a generator of something else": lambda: qml.FermionicSWAP(ANGLE, wires=["a", 3]),
    "more words than a matrix has rows": lambda: qml.ctrl(qml.RX(ANGLE, "b"), ["a", 3, -1]),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("seed", range(3))
def test_other_gates_are_matrices(name, seed):
    """Before them come the Clifford gates of their wires, as few rotations."""
    rng = np.random.default_rng(seed)
    before = [clifford()[k] for k in rng.permutation(len(clifford()))] * (1 + seed)
    gates = [*before, (MATRICES[name](), True), *clifford()]
    assert_right(gates)
    *rotations, gate = frame_of(gates).steps
    assert gate.position == 0 and len(rotations) <= 4 * len(WIRES)
    assert {step.scale for step in rotations} <= {np.pi / 2, np.pi}


def test_wide_matrices_are_not_covered():
    with pytest.raises(NotCoveredError, match="no matrix of few wires"):
        Frame(WIRE_MAP, widest=1).add(qml.QubitUnitary(qml.PSWAP(0.3, [0, 1]).matrix(), ["a", 3]))


@pytest.mark.parametrize("seed", range(8))
def test_outcomes(seed):
    """Of some wires: parities of the bits of an amplitude, after few rotations."""
    rng = np.random.default_rng(seed)
    gates = [clifford()[k] for k in rng.permutation(len(clifford()))]
    wires = [WIRES[k] for k in rng.permutation(len(WIRES))[: 1 + seed % len(WIRES)]]
    frame, size = frame_of(gates), 2 ** len(WIRES)
    parities, product = frame.outcomes(wires), np.eye(size)
    assert len(frame.steps) <= len(wires)
    for step in frame.steps:
        product = matrix_of(step) @ product
    circuit = np.eye(size)
    for gate, _ in gates:
        circuit = qml.matrix(gate, wire_order=WIRES) @ circuit
    for wire, (z, flip) in zip(wires, parities, strict=True):
        signs = 1.0 - 2.0 * ((np.bitwise_count(np.arange(size) & z) + flip) % 2)
        found = product.conj().T @ np.diag(signs) @ product
        measured = qml.matrix(qml.Z(wire), wire_order=WIRES)
        np.testing.assert_allclose(found, circuit.conj().T @ measured @ circuit, atol=1e-12)


def test_branches():
    frame = frame_of([(qml.RX(ANGLE, "b"), True), *clifford()])
    branch = frame.branch()
    branch.add(qml.Hadamard("a"))
    branch.outcomes(WIRES)
    again = frame_of([(qml.RX(ANGLE, "b"), True), *clifford()])
    for bit in range(len(WIRES)):
        assert frame.before(Word(1 << bit, 0, 0), range(4)) == again.before(
            Word(1 << bit, 0, 0), range(4)
        )
    assert len(frame.steps) == 1 and branch.steps
