"""What `qshift.executors.simulator.lightning_internals` promises of lightning's undocumented
names, each alone."""

import pathlib

import numpy as np
import pennylane as qml
import pytest

import qshift
from qshift.executors.simulator import lightning_internals as internals

NO_MATRIX = np.empty(0, complex)


def test_nothing_else_names_them():
    package = pathlib.Path(qshift.__file__).parent
    named = [path.name for path in package.rglob("*.py") if "lightning_qubit" in path.read_text()]
    assert named == ["lightning_internals.py"]


def amplitudes(state):
    found = np.empty(state.size(), complex)
    state.getState(found)
    return found


def test_state_vectors_are_written_read_and_reset():
    state = internals.StateVector(2)
    np.testing.assert_array_equal(amplitudes(state), [1, 0, 0, 0])
    vector = np.array([0.5, 0.5j, -0.5, -0.5j])
    state.updateData(vector)
    np.testing.assert_array_equal(amplitudes(state), vector)
    state.resetStateVector()
    np.testing.assert_array_equal(amplitudes(state), [1, 0, 0, 0])


@pytest.mark.parametrize("inverse", [False, True])
def test_gates_act_by_their_names(inverse):
    state = internals.StateVector(2)
    state.RX([1], inverse, [0.3])
    turn = qml.RX(-0.3 if inverse else 0.3, 0).matrix()
    np.testing.assert_allclose(amplitudes(state), np.kron([1, 0], turn[:, 0]), atol=1e-12)


@pytest.mark.parametrize("value", [False, True])
def test_gates_are_controlled(value):
    state = internals.StateVector(2)
    state.PauliX([0], False, [])
    state.RX([0], [value], [1], False, [0.3])
    turned = qml.RX(0.3, 0).matrix()[:, 0] if value else [1, 0]
    np.testing.assert_allclose(amplitudes(state), np.kron([0, 1], turned), atol=1e-12)


@pytest.mark.parametrize("inverse", [False, True])
def test_matrices_act(inverse):
    state, gate = internals.StateVector(3), qml.Rot(0.1, 0.2, 0.3, 0) @ qml.IsingXY(0.4, [0, 1])
    state.RY([0], False, [0.5])
    matrix = np.ascontiguousarray(gate.matrix([0, 1]))
    state.applyMatrix(matrix, [0, 2], inverse)
    gate = qml.adjoint(gate) if inverse else gate
    gate = qml.map_wires(gate, {1: 2})
    expected = qml.matrix(gate, wire_order=[0, 1, 2]) @ np.kron(
        qml.RY(0.5, 0).matrix()[:, 0], [1, 0, 0, 0]
    )
    np.testing.assert_allclose(amplitudes(state), expected, atol=1e-12)


def test_measurements_read_the_state_as_it_is_at_the_time():
    state = internals.StateVector(2)
    measurements = internals.Measurements(state)
    state.RX([1], False, [0.3])
    one = np.sin(0.15) ** 2
    np.testing.assert_allclose(measurements.probs(), [1 - one, one, 0, 0], atol=1e-12)
    np.testing.assert_allclose(measurements.probs([1]), [1 - one, one], atol=1e-12)
    np.testing.assert_allclose(measurements.probs((1, 0)), [1 - one, 0, one, 0], atol=1e-12)


def gates(controls=(), name="RX"):
    """A constant matrix, and a gate."""
    matrix = np.ascontiguousarray(qml.RX(0.2, 0).matrix())
    return internals.gate_list(
        ["QubitUnitary", name],
        [[], [0.3]],
        [[0], [0]],
        [False, True],
        [matrix, NO_MATRIX],
        [[], list(controls)],
        [[], [True] * len(controls)],
    )


def test_jacobians_count_gates_with_parameters_only():
    """d/dx of the means after RX(0.2) and the inverse of RX(x), at x = 0.3."""
    state = internals.StateVector(2)
    state.RX([0], False, [0.2 - 0.3])
    before = amplitudes(state)
    observables = [
        qml.Hermitian(np.diag([1.0, -1.0]), "a"),
        qml.Y("a"),
        qml.sum(2.0 * qml.Y("a"), 0.5 * qml.Z("a") @ qml.Z("b")),
    ]
    found = internals.observable_list(observables, {"b": 1, "a": 0})
    slopes = np.ravel(internals.jacobian(state, found, gates(), [0]))
    z, y = np.sin(-0.1), np.cos(-0.1)
    np.testing.assert_allclose(slopes, [z, y, 2 * y + 0.5 * z], atol=1e-12)
    np.testing.assert_array_equal(amplitudes(state), before)
    own = np.ravel(internals.jacobian(state, [internals.pauli_z(0)], gates(), [0]))
    np.testing.assert_allclose(own, z, atol=1e-12)


def test_jacobians_of_gates_without_generators_are_refused():
    state = internals.StateVector(2)
    with pytest.raises((RuntimeError, TypeError, LookupError)):
        internals.jacobian(state, [internals.pauli_z(0)], gates(name="PauliX"), [0])


def test_devices_draw_by_a_generator_with_their_seed():
    one, two = (
        internals.generator_of(qml.device("lightning.qubit", wires=1, seed=7)) for _ in range(2)
    )
    assert one.random() == two.random()
    assert internals.generator_of(object()) is None
