"""What gates are made of, at angles where formulas that take cases go wrong."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from catalogue import SCALED, u3
from random_circuits import gradient, tape_derivatives, time
from taylor import Taylor, controlled, expectation, rotation, sequence, word

import qshift
from qshift.circuits.formulas import parts

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


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("angle", [0.0, np.pi / 2, np.pi, 2 * np.pi])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_controlled_u3_where_its_matrix_is_special(name, angle, compiled):
    at, along = np.array([angle, 0.0, angle]), np.array([0.7, -0.4, 0.9])

    @qshift.qnode(DEVICES[name]())
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
    @qshift.qnode(DEFAULT)
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
    @qshift.qnode(DEFAULT)
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
    @qshift.qnode(DEFAULT)
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


# --- wrappers ---


@pytest.mark.parametrize("exponent", [3, -2, 2.0, np.int64(2), 0])
def test_integer_powers_repeat(exponent):
    gate = qml.U3(0.1, 0.2, 0.3, wires=0)
    expected = np.linalg.matrix_power(gate.matrix(), int(exponent))
    found = parts(qml.pow(gate, exponent))
    np.testing.assert_allclose(matrix([*found, qml.Identity(0)], [0]), expected, atol=1e-12)


def test_roots_have_no_parts_unless_they_divide_an_angle():
    assert parts(qml.pow(qml.U3(0.1, 0.2, 0.3, wires=0), 0.5)) is None
    (part,) = parts(qml.pow(qml.ctrl(qml.RX(0.3, wires=0), control=1), 0.5))
    assert part.name == "CRX" and part.data == (0.15,)


def test_an_exponent_may_be_a_tensor_where_it_multiplies_an_angle():
    @qshift.qnode(DEFAULT)
    def circuit(z):
        qml.pow(qml.RX(0.3, wires=0), z)
        return qml.expval(qml.Z(0))

    value, first = tape_derivatives(circuit, np.array(2.0), 1)
    assert value == pytest.approx(np.cos(0.6))
    assert first == pytest.approx(-0.3 * np.sin(0.6))


def test_an_exponent_of_other_gates_may_not_be_a_tensor(tracker):
    @qshift.qnode(DEFAULT)
    def circuit(z):
        qml.pow(qml.U3(0.3, 0.1, 0.2, wires=0), z)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="exponent of U3 is a tensor"):
        circuit(tf.constant(2.0, tf.float64))
    assert tracker.totals["circuits"] == 0


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
    @qshift.qnode(DEFAULT)
    def circuit(x):
        qml.ctrl(NOT_UNITARY[name](x), control=1)
        return qml.expval(qml.Z(0))

    x = tf.constant(0.3, tf.float64)
    with pytest.raises(qshift.UnsupportedError, match=f"{name}.*no unitary gate"):
        gradient(circuit, x)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}.*no unitary gate"):
        tf.function(circuit)(x)
    assert tracker.totals["circuits"] == 0


# --- coefficients ---


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("at", [(0.0, 0.0), (0.3, 0.0), (0.0, -0.4), (0.3, 0.2)])
def test_a_coefficient_of_zero_is_still_one(at, compiled):
    """PennyLane simplifies sums of words, and leaves out terms that are zero."""

    @qshift.qnode(DEFAULT)
    def circuit(x):
        qml.Hadamard(0)
        qml.RY(0.3, wires=1)
        sum_of_words = qml.s_prod(x[0], qml.Z(0)) + qml.s_prod(x[1], qml.Z(0) @ qml.X(1))
        qml.evolve(sum_of_words, time(tf.constant(0.7, tf.float64)))
        return qml.expval(qml.Y(0))

    value, found = tape_derivatives(tf.function(circuit) if compiled else circuit, np.array(at), 1)
    # X(1) has eigenvalues +-1, with probabilities (1 +- sin 0.3) / 2.
    chances, signs = (1 + np.sin(0.3) * np.array([1, -1])) / 2, np.array([1, -1])
    angles = 1.4 * (at[0] + at[1] * signs)
    assert value == pytest.approx(chances @ np.sin(angles), abs=1e-12)
    expected = [1.4 * chances @ np.cos(angles), 1.4 * (chances * signs) @ np.cos(angles)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_frequencies_that_are_not_equidistant_do_not_get_pennylanes_recipe():
    @qshift.qnode(DEFAULT)
    def circuit(x):
        hamiltonian = qml.Hamiltonian([0.5, 1.5], [qml.X(0), qml.X(1)])
        qml.CommutingEvolution(hamiltonian, x, frequencies=(1, 3))
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    first = tape_derivatives(lambda x: tf.stack(circuit(x)), np.array(0.4), 1)[1]
    np.testing.assert_allclose(first, [-np.sin(0.4), -3 * np.sin(1.2)], atol=1e-12)


# --- selected rotations ---


@pytest.mark.parametrize("axis", "XYZ")
@pytest.mark.parametrize("controls", [0, 1, 3])
def test_selected_rotations(axis, controls):
    angles = np.random.default_rng(controls).normal(size=2**controls)
    control, target = list(range(controls)), controls
    gate = qml.SelectPauliRot(angles, control, target, rot_axis=axis)
    gates = [getattr(qml, f"R{axis}").compute_matrix(angle) for angle in angles]
    expected = np.zeros((2 * len(gates), 2 * len(gates)), complex)
    for k, each in enumerate(gates):
        expected[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = each
    np.testing.assert_allclose(matrix(parts(gate), [*control, target]), expected, atol=1e-12)


def test_selected_rotations_by_zero_are_not_left_out_in_forward_mode():
    """PennyLane asks for tapes that watch, of which there is none in forward mode."""

    @qshift.qnode(DEFAULT)
    def circuit(x):
        qml.Hadamard(0)
        qml.SelectPauliRot(x, [0], 1, rot_axis="X")
        return qml.expval(qml.Y(1))

    x = tf.zeros([2], tf.float64)
    with tf.autodiff.ForwardAccumulator(x, tf.constant([1.0, 3.0], tf.float64)) as accumulator:
        value = circuit(x)
    assert accumulator.jvp(value).numpy() == pytest.approx(-2.0)


# --- tensors that are no parameters ---


def test_parameters_that_pennylane_keeps_among_the_settings():
    @qshift.qnode(DEFAULT)
    def circuit(x):
        qml.IQP([x[0], x[1]], 2, [[[0]], [[1]]])
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    found = tape_derivatives(lambda x: tf.stack(circuit(x)), np.array([0.0, 0.3]), 2)
    np.testing.assert_allclose(found[1], [[0, 0], [0, -2 * np.sin(0.6)]], atol=1e-12)
    assert found[2][0, 0, 0] == pytest.approx(-4.0)


@pytest.mark.parametrize("compiled", [False, True])
def test_tensors_in_the_functions_that_templates_take(compiled):
    @qshift.qnode(DEFAULT)
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

    @qshift.qnode(DEFAULT)
    def circuit(x):
        Hides(x, wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(
        qshift.UnsupportedError, match="Hides has a tensor in its hyperparameter 'angle'"
    ):
        gradient(circuit, np.array(0.3))
    assert tracker.totals["circuits"] == 0


EXPONENTS = {
    "matrix": lambda: qml.Hermitian([[1.0, 0.3], [0.3, 2.0]], 0),
    "Hadamard": lambda: qml.Hadamard(0),
    "words": lambda: qml.X(0) + 0.5 * qml.Z(0),
    "word": lambda: 0.5 * qml.Y(0),
}


ROOTS = {
    "PhaseShift": lambda x, z: qml.pow(qml.PhaseShift(x, 0), z),
    "RX": lambda x, z: qml.pow(qml.RX(x, 0), z),
    "evolution": lambda x, z: qml.pow(qml.evolve(qml.X(0) @ qml.Z(1), as_time(x)), z),
    "CRX": lambda x, z: qml.pow(qml.CRX(x, [1, 0]), z),
    "controlled rotation": lambda x, z: qml.pow(qml.ctrl(qml.RX(x, 0), 1), z),
    "controlled root": lambda x, z: qml.ctrl(qml.pow(qml.RX(x, 0), z), 1),
    "adjoint root": lambda x, z: qml.adjoint(qml.pow(qml.PhaseShift(x, 0), z)),
    "product": lambda x, z: qml.pow(qml.RX(x, 0), z) @ qml.pow(qml.PhaseShift(x, 1), z),
    "Select": lambda x, z: qml.Select([qml.pow(qml.PhaseShift(x, 0), z), qml.X(0)], control=[1]),
    "IsingXY": lambda x, z: qml.pow(qml.IsingXY(x, [0, 1]), z),
}


def as_time(x):
    return tf.cast(x, tf.complex128) if tf.is_tensor(x) else x


@pytest.mark.one_in(2)
@pytest.mark.parametrize("device", ["simulator", "default-qubit", "aer"])
@pytest.mark.parametrize("name", ROOTS)
def test_roots_of_rotations_multiply_angles(name, device):
    """Of numbers as of tensors: principal roots, which matrices have, jump."""

    def circuit(x, z):
        qml.RY(0.9, 0)
        qml.RY(0.3, 1)
        ROOTS[name](x, z)
        qml.RZ(0.4, 0)
        return qml.expval(qml.X(0) + 0.3 * qml.Y(0) + 0.2 * qml.Z(1))

    node = qshift.qnode(qshift.device(device, wires=2))(circuit)
    for x, z in [(4.0, 0.5), (7.0, 1 / 3), (7.0, -1.5), (-13.0, 0.5)]:
        # One angle alone makes roots that are the same by any definition.
        right = node(x * z, 1)
        for number in (x, tf.constant(x, tf.float64), tf.Variable(x, dtype=tf.float64)):
            np.testing.assert_allclose(node(number, z), right, atol=1e-9)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("around", [lambda op: op, lambda op: qml.ctrl(op, 1), qml.adjoint])
@pytest.mark.parametrize("name", EXPONENTS)
def test_exponentials_with_imaginary_coefficients_are_evolutions(name, around, compiled):
    def derivatives(gate):
        @qshift.qnode(DEVICES["simulator"]())
        def circuit(x):
            qml.RY(0.3, wires=0)
            qml.Hadamard(1)
            around(gate(tf.cast(x, tf.complex128)))
            return qml.expval(qml.X(0) @ qml.X(1) + qml.Y(0))

        return tape_derivatives(tf.function(circuit) if compiled else circuit, np.array(0.4), 2)

    found = derivatives(lambda x: qml.exp(EXPONENTS[name](), 1j * x))
    expected = derivatives(lambda x: qml.evolve(EXPONENTS[name](), -x))
    assert found == pytest.approx(expected, abs=1e-9)


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
