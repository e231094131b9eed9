"""Gates as matrices on some bits, where other bits have given values."""

import numpy as np
import pennylane as qml
import pytest
from references import angles, compiled

from qshift.executors.simulator.gate_matrices import is_matrix, matrix_gate
from qshift.executors.simulator.measurement_bases import NotCoveredError

WIRES = ["b", 3, "a", -1, "c"]


def bits(wires):
    return [len(WIRES) - 1 - WIRES.index(wire) for wire in reversed(wires)]


def whole(gate, matrix):
    """Returns the matrix on all wires."""
    size = 2 ** len(WIRES)
    found = np.eye(size, dtype=complex)
    for i in range(size):
        if not i & gate.masks[0] and i & gate.masks[1] == gate.masks[2]:
            found[np.ix_(i | gate.places, i | gate.places)] = matrix
    return found


GATES = {
    "two wires": lambda x: qml.PSWAP(x, wires=["a", "b"]),
    "control": lambda x: qml.ctrl(qml.PSWAP(x, wires=["a", "b"]), "c"),
    "controls": lambda x: qml.ctrl(qml.RX(x, "b"), ["c", 3, "a"], [0, 1, 0]),
    "control of a control": lambda x: qml.ctrl(qml.ctrl(qml.PSWAP(x, [3, "a"]), "c", [0]), "b"),
    "inverse": lambda x: qml.adjoint(qml.ctrl(qml.RX(x, "b"), ["c", 3, "a"], [0, 1, 0])),
}


@pytest.mark.parametrize("name", GATES)
def test_matrices(name):
    gate = matrix_gate(GATES[name](0.3), bits, 2)
    matrix = gate.matrices(None, np.empty((3, 0)))
    assert matrix.shape == (len(gate.places), len(gate.places), 2, 1)
    found = whole(gate, matrix[:, :, 0, 0] + 1j * matrix[:, :, 1, 0])
    np.testing.assert_allclose(found, qml.matrix(GATES[name](0.3), wire_order=WIRES), atol=1e-14)


@pytest.mark.parametrize("name", ["two wires", "controls"])
def test_matrices_that_move(name):
    circuit = compiled([GATES[name](angles(1)[0])], [])
    columns = [0] if circuit.num_parameters else []
    gate = matrix_gate(circuit.operations[0], bits, 2, columns, 0)
    for points in (np.array([[0.3], [0.7], [0.3]]), np.full((2, 1), 0.4)):
        matrices = gate.matrices(circuit, points)
        assert matrices.shape[-1] == (1 if (points == points[0]).all() else len(points))
        for k in range(matrices.shape[-1]):
            found = whole(gate, matrices[:, :, 0, k] + 1j * matrices[:, :, 1, k])
            right = qml.matrix(GATES[name](points[k, 0]), wire_order=WIRES)
            np.testing.assert_allclose(found, right, atol=1e-14)


@pytest.mark.parametrize("gate", [qml.RX(0.3, "b"), qml.IsingXY(0.4, ["a", 3])])
def test_generators(gate):
    found = matrix_gate(gate, bits, 2, [0], 0).generator
    step = 1e-6
    upper, lower = (type(gate)(gate.data[0] + s, wires=gate.wires) for s in (step, -step))
    slope = (upper.matrix() - lower.matrix()) / (2 * step)
    np.testing.assert_allclose(found @ gate.matrix(), slope, atol=1e-9)


@pytest.mark.parametrize(
    "gate", [qml.PSWAP(0.3, ["a", 3]), qml.QubitUnitary(np.eye(2), "a"), qml.Rot(1, 2, 3, "a")]
)
def test_gates_that_are_no_exponentials_of_their_generators(gate):
    assert matrix_gate(gate, bits, 2, [0], 0).generator is None


def test_constant_gates_that_are_better_matrices():
    unitary = qml.QubitUnitary(np.eye(4), ["a", "b"])
    assert is_matrix(unitary) and is_matrix(qml.ctrl(unitary, "c"))
    assert is_matrix(qml.MultiControlledX(["a", "b", "c", 3]))
    for gate in (qml.Toffoli(["a", "b", "c"]), qml.QFT(["a", "b"]), qml.Rot(1, 2, 3, "a")):
        assert not is_matrix(gate)


def test_wide_gates_are_not_covered():
    wide = qml.ctrl(qml.OrbitalRotation(0.3, ["a", "b", "c", 3]), -1)
    with pytest.raises(NotCoveredError, match="no matrix of few wires"):
        matrix_gate(wide, bits, 3)
    assert len(matrix_gate(wide, bits, 4).places) == 16
