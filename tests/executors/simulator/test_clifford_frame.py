"""Gates as rotations about Pauli words, against products of matrices."""

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import ONE_ANGLE

from qshift.executors.simulator.clifford_frame import Frame, Word
from qshift.executors.simulator.measurement_bases import NotCoveredError

WIRES = ["b", 3, "a", -1]
WIRE_MAP = {wire: i for i, wire in enumerate(WIRES)}
ANGLE = 0.37

words = st.builds(Word, st.integers(0, 7), st.integers(0, 7), st.integers(0, 3))


@given(words, words)
def test_products(a, b):
    np.testing.assert_allclose((a @ b).matrix(8), a.matrix(8) @ b.matrix(8), atol=1e-15)


def test_letters():
    for word, op in ((Word(1, 0, 0), qml.X), (Word(1, 1, 1), qml.Y), (Word(0, 1, 0), qml.Z)):
        np.testing.assert_allclose(word.matrix(2), op(0).matrix(), atol=1e-15)


def frame_of(gates):
    """Adds gates, given with the columns they depend on."""
    frame = Frame(WIRE_MAP)
    for gate, columns in gates:
        frame.add(gate, columns)
    return frame


def assert_right(gates):
    """Compares with the product of the gates' matrices, up to a phase."""
    frame, size = frame_of(gates), 2 ** len(WIRES)
    found = np.eye(size)
    for word, column, scale in frame.rotations:
        half = scale * (1.0 if column < 0 else ANGLE) / 2
        turn = np.cos(half) * np.eye(size) - 1j * np.sin(half) * word.matrix(size)
        np.testing.assert_allclose(turn @ turn.conj().T, np.eye(size), atol=1e-12)
        found = turn @ found
    found, expected = frame.unitary @ found, np.eye(size)
    for gate, _ in gates:
        expected = qml.matrix(gate, wire_order=WIRES) @ expected
    overlap = np.vdot(found, expected) / size
    np.testing.assert_allclose(found * overlap, expected, atol=1e-12)
    assert abs(abs(overlap) - 1) < 1e-12


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
    gates = [*clifford(), (MOVING[name](), [0]), *clifford(), (MOVING[name](), [0])]
    assert_right(gates)
    assert all(column == 0 for _, column, _ in frame_of(gates).rotations)


CONSTANT = {
    "rotation": lambda: qml.RX(0.3, "a"),
    "T": lambda: qml.T(3),
    "Toffoli": lambda: qml.Toffoli(["a", -1, 3]),
    "Rot": lambda: qml.Rot(0.3, 0.4, 0.5, "a"),
    "QubitUnitary": lambda: qml.QubitUnitary(qml.Rot(0.3, 0.4, 0.5, 0).matrix(), "b"),
    "of two": lambda: qml.QubitUnitary(qml.CRot(0.3, 0.4, 0.5, [0, 1]).matrix(), ["a", "b"]),
    "QFT": lambda: qml.QFT(["a", 3, "b"]),
    "barrier": lambda: qml.Barrier(WIRES),
    "phase": lambda: qml.GlobalPhase(0.3),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_gates(name):
    gates = [*clifford(), (CONSTANT[name](), []), *clifford(), (qml.RY(ANGLE, 3), [0])]
    assert_right(gates)
    assert [column for _, column, _ in frame_of(gates).rotations].count(0) == 1


def test_clifford_gates_cost_nothing():
    assert not frame_of(clifford() * 3).rotations


NOT_COVERED = {
    "several parameters": (qml.Rot(0.1, 0.2, 0.3, "a"), [0, 1, 2]),
    "words that do not commute": (qml.evolve(qml.X("a") + qml.Z("a"), ANGLE), [0]),
    "no generator": (qml.DiagonalQubitUnitary([1.0, 1j], wires="a"), [0, 1, 2, 3]),
    "not the identity at zero": (qml.PSWAP(ANGLE, wires=["a", 3]), [0]),
    "a generator of something else": (qml.FermionicSWAP(ANGLE, wires=["a", 3]), [0]),
}


@pytest.mark.parametrize("name", NOT_COVERED)
def test_other_gates_are_not_covered(name):
    with pytest.raises(NotCoveredError):
        frame_of([NOT_COVERED[name]])
