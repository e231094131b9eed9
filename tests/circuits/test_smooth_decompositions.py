"""What gates are made of, at angles where formulas that take cases go wrong."""

import inspect

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from catalogue import SCALED, u3
from random_circuits import gradient, tape_derivatives
from taylor import Taylor, controlled, expectation, rotation, sequence, word

import qshift
from qshift.circuits.smooth_decompositions import parts

DEVICES = {
    "simulator": lambda: qshift.device("simulator"),
    "default.qubit": lambda: qml.device("default.qubit"),
    "lightning.qubit": lambda: qml.device("lightning.qubit", wires=3),
    "default.mixed": lambda: qml.device("default.mixed", wires=3),
    "aer": lambda: qshift.device("aer"),
}
DEFAULT = qml.device("default.qubit")


def matrix(ops, wires):
    return qml.matrix(qml.tape.QuantumScript(ops), wire_order=wires)


# --- controlled gates ---


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("angle", [0.0, np.pi / 2, np.pi, 2 * np.pi])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_controlled_u3_where_its_matrix_is_special(name, angle, compiled):
    at, along = np.array([angle, 0.0, angle]), np.array([0.7, -0.4, 0.9])

    @qshift.qnode(DEVICES[name](), embedded=name != "default.qubit")
    def circuit(x):
        qml.RY(0.3, wires=0)
        qml.RY(0.4, wires=1)
        qml.ctrl(qml.U3(x[0], x[1], x[2], wires=0), control=1)
        return qml.expval(qml.X(0) @ qml.Y(1) + qml.Z(0))

    value, found = tape_derivatives(tf.function(circuit) if compiled else circuit, at, 1)
    angles = [Taylor(a, b) for a, b in zip(at, along, strict=True)]
    gate = sequence(2, (controlled(u3(*angles)), (1, 0)))
    turns = [(rotation("Y", Taylor(a)), (i,)) for i, a in enumerate((0.3, 0.4))]
    state = sequence(2, *turns).c[0][:, 0]
    expected = expectation(state, gate, word("XY") + word("ZI")).derivatives()
    assert value == pytest.approx(expected[0], abs=1e-9)
    assert found @ along == pytest.approx(expected[1], abs=1e-9)


def test_controls_their_values_and_work_wires_are_kept():
    gate = qml.ctrl(
        qml.U3(0.1, 0.2, 0.3, wires="t"),
        control=["b", "a"],
        control_values=[0, 1],
        work_wires=["w"],
    )
    found = parts(gate)
    assert [part.base.name for part in found] == ["Rot", "PhaseShift", "PhaseShift"]
    for part in found:
        assert part.control_wires.tolist() == ["b", "a"]
        assert list(part.control_values) == [False, True]
        assert part.work_wires.tolist() == ["w"]
        assert part.target_wires.tolist() == ["t"]
    wires = ["t", "a", "b"]
    np.testing.assert_allclose(matrix(found, wires), gate.matrix(wires), atol=1e-12)


@pytest.mark.parametrize("values", [[1], [0], [1, 0], [0, 1], [0, 0], [1, 1, 0]])
def test_parts_of_a_controlled_phase(values):
    wires = list(range(len(values)))
    gate, ahead = qml.ctrl(qml.GlobalPhase(0.3), wires, control_values=values), []
    for part in parts(gate):
        ahead += parts(part) if part.name == "C(GlobalPhase)" else [part]
    np.testing.assert_allclose(matrix(ahead, wires), gate.matrix(wires), atol=1e-12)


def test_a_work_wire_that_a_part_needs_is_not_lent_to_it():
    class Borrows(qml.operation.Operation):
        num_params, num_wires, ndim_params = 1, 1, (0,)

        def decomposition(self):
            return [qml.CRX(self.data[0], wires=["w", self.wires[0]])]

    (part,) = parts(qml.ctrl(Borrows(0.3, wires=0), control=1, work_wires=["w", "v"]))
    assert part.work_wires.tolist() == ["v"]


@pytest.mark.parametrize("values, sign", [([1], -1), ([0], 1)])
@pytest.mark.parametrize("wires", [[], [0]])
def test_a_controlled_global_phase_is_not_nothing(values, sign, wires):
    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        qml.Hadamard(1)
        qml.ctrl(qml.prod(qml.GlobalPhase(x, wires=wires), qml.X(0)), 1, control_values=values)
        qml.ctrl(qml.X(0), control=1, control_values=values)
        return qml.expval(qml.Y(1))

    for x in (0.0, np.pi / 2, 0.4):
        value, first, second = tape_derivatives(circuit, np.array(x), 2)
        assert value == pytest.approx(sign * np.sin(x), abs=1e-12)
        assert first == pytest.approx(sign * np.cos(x), abs=1e-12)
        assert second == pytest.approx(-sign * np.sin(x), abs=1e-12)


@pytest.mark.skipif(not SCALED, reason="PennyLane leaves the gate out.")
def test_a_tensor_as_a_phase():
    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        qml.Hadamard(1)
        qml.ctrl(qml.s_prod(tf.exp(tf.complex(tf.zeros_like(x), x)), qml.Identity(0)), control=1)
        return qml.expval(qml.X(1))

    for x in (0.0, np.pi, 0.4):
        for function in (circuit, tf.function(circuit)):
            value, first, second = tape_derivatives(function, np.array(x), 2)
            assert value == pytest.approx(np.cos(x), abs=1e-12)
            assert first == pytest.approx(-np.sin(x), abs=1e-12)
            assert second == pytest.approx(-np.cos(x), abs=1e-12)


class Turned(qml.operation.Operation):
    """A gate of a user's, RX(x**2) times a phase."""

    num_params, num_wires, ndim_params = 1, 1, (0,)

    @staticmethod
    def compute_matrix(x):
        return np.exp(1j * x) * qml.RX.compute_matrix(x**2)

    def decomposition(self):
        return [qml.RX(self.data[0] ** 2, wires=self.wires)]


class Phased(Turned):
    def decomposition(self):
        return [*super().decomposition(), qml.GlobalPhase(-self.data[0])]


@pytest.mark.parametrize("gate", [Turned, Phased])
def test_gates_of_users_with_and_without_their_phase(gate):
    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x, controls=()):
        qml.Hadamard(1)
        op = gate(x, wires=0)
        if len(controls):
            qml.ctrl(op, control=controls)
        return qml.expval(qml.Y(1)), qml.expval(qml.Z(0))

    x = tf.constant(0.7, tf.float64)
    assert circuit(x)[1].numpy() == pytest.approx(np.cos(0.49))
    if gate is Turned:
        with pytest.raises(qshift.UnsupportedError, match="decomposition of Turned.*GlobalPhase"):
            circuit(x, controls=[1])
    else:
        assert circuit(x, controls=[1])[0].numpy() == pytest.approx(np.sin(0.7) * np.cos(0.245))


NOT_UNITARY = {
    "SProd": lambda x: qml.s_prod(tf.complex(x, x), qml.X(0)),
    "DiagonalQubitUnitary": lambda x: qml.DiagonalQubitUnitary(
        tf.complex(tf.stack([x, x]), tf.zeros([2], tf.float64)), wires=0
    ),
    "Exp": lambda x: qml.exp(qml.X(0), tf.complex(x, x)),
    "Evolution": lambda x: qml.evolve(qml.s_prod(tf.complex(x, x), qml.X(0)), tf.complex(x, x)),
}


@pytest.mark.skipif(not SCALED, reason="PennyLane leaves such gates out.")
@pytest.mark.parametrize("name", NOT_UNITARY)
def test_what_is_no_unitary_gate_is_refused(name, tracker):
    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        qml.ctrl(NOT_UNITARY[name](x), control=1)
        return qml.expval(qml.Z(0))

    x = tf.constant(0.3, tf.float64)
    with pytest.raises(qshift.UnsupportedError, match=f"{name}.*no unitary gate"):
        gradient(circuit, x)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}.*no unitary gate"):
        tf.function(circuit)(x)
    assert tracker.totals["circuits"] == 0


# --- tensors that are no parameters ---


def test_parameters_that_pennylane_keeps_among_the_settings():
    takes_labels = "wires" in inspect.signature(qml.IQP).parameters  # since PennyLane 0.46
    wires = [0, 1] if takes_labels else 2

    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        qml.IQP([x[0], x[1]], wires, [[[0]], [[1]]])
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    found = tape_derivatives(lambda x: tf.stack(circuit(x)), np.array([0.0, 0.3]), 2)
    np.testing.assert_allclose(found[1], [[0, 0], [0, -2 * np.sin(0.6)]], atol=1e-12)
    assert found[2][0, 0, 0] == pytest.approx(-4.0)


@pytest.mark.parametrize("compiled", [False, True])
def test_tensors_in_the_functions_that_templates_take(compiled):
    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        def block(weights, wires):
            qml.RX(x, wires=wires[0])
            qml.RY(weights[0], wires=wires[1])

        qml.TTN([0, 1], 2, block, 1, template_weights=np.array([[0.3]]))
        return qml.expval(qml.Z(0))

    value, first = tape_derivatives(tf.function(circuit) if compiled else circuit, np.array(0.0), 1)
    assert (value, first) == (pytest.approx(1.0), pytest.approx(0.0))
    _, first = tape_derivatives(circuit, np.array(0.4), 1)
    assert first == pytest.approx(-np.sin(0.4))


def test_a_gate_that_hides_a_tensor_is_refused(tracker):
    class Hides(qml.operation.Operation):
        num_params, num_wires = 0, 1

        def __init__(self, angle, wires):
            self._hyperparameters = {"angle": angle}
            super().__init__(wires=wires)

        @staticmethod
        def compute_matrix(angle):
            return qml.RX.compute_matrix(np.asarray(angle))

    @qshift.qnode(DEFAULT, diff_method="shift")
    def circuit(x):
        Hides(x, wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(
        qshift.UnsupportedError, match="Hides has a tensor in its hyperparameter 'angle'"
    ):
        gradient(circuit, np.array(0.3))
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize(
    "gate",
    [
        lambda x: qml.TrotterProduct(qml.X(0) + qml.Z(0), x),
        lambda x: qml.DiagonalQubitUnitary(
            tf.exp(1j * tf.cast(tf.stack([x, x]), tf.complex128)), wires=0
        ),
    ],
)
def test_of_what_is_no_number_nothing_is_known(gate, number):
    @qshift.qnode(DEVICES["simulator"]())
    def circuit(x):
        qml.RY(0.3, wires=0)
        gate(x)
        return qml.expval(qml.X(0))

    assert np.isnan(circuit(tf.constant(number, tf.float64)).numpy())
