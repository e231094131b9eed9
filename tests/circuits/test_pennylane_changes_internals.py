"""What `qshift.circuits.pennylane_changes_internals` changes in PennyLane, each change alone."""

import threading

import autograd
import autoray
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from pennylane.operation import Operator
from pennylane.ops import LinearCombination
from pennylane.pauli import PauliSentence, PauliWord
from pennylane.tape import QuantumScript
from scipy import sparse

from qshift.circuits import pennylane_changes_internals as changes
from qshift.circuits.making_gates import recorded

ZERO, ONE = tf.constant(0.0, tf.float64), tf.constant(1.0, tf.float64)


@pytest.mark.parametrize("label", [0, "a"])
@pytest.mark.parametrize("make", [lambda gate: gate, qml.adjoint, lambda gate: qml.ctrl(gate, 1)])
def test_labels_of_wires_are_no_numbers_of_a_gate(label, make):
    gate = make(qml.U2(0.1, 0.2, label))
    leaves, structure = qml.pytrees.flatten(gate)
    assert leaves[-2:] == [0.1, 0.2]
    assert not any(x is label for x in leaves)
    assert qml.pytrees.unflatten(leaves, structure) == gate
    assert structure != qml.pytrees.flatten(make(qml.U2(0.1, 0.2, 7)))[1]


def tapes(transform, multiple):
    """Returns how many tapes a product with derivatives needs."""
    tape = QuantumScript([qml.RX(0.3, 0)], [qml.expval(qml.Z(0))])
    return len(transform(tape, multiple, qml.gradients.param_shift)[0])


@pytest.mark.parametrize(
    "transform", [qml.gradients.vjp, lambda t, x, g: qml.gradients.jvp(t, [x], g)]
)
def test_products_of_derivatives_are_left_out_only_if_they_stay_zero(transform):
    assert tapes(transform, np.array(0.0)) == 0
    assert tapes(transform, np.array(1e-12)) == 2
    with tf.GradientTape() as tape:
        tape.watch(ZERO)
        assert tapes(transform, ZERO) == 2


def test_products_of_derivatives_are_contracted_where_autograd_has_a_derivative():
    contract = changes._module("gradients.vjp").math.einsum
    pair = np.array([1.0, 2.0])
    np.testing.assert_allclose(contract("ij,i...j", pair[None], np.ones((1, 3, 2))), [[3.0] * 3][0])

    def nested(x):
        with pytest.raises(TypeError, match="autograd"):
            contract("ij,i...j", ((x, x),), ((x, x),))
        return x

    autograd.grad(nested)(1.0)


@pytest.mark.parametrize("c", [ZERO, ONE])
def test_sums_keep_their_coefficients(c):
    found = qml.dot([c, 2.0], [qml.Z(0), qml.X(0)])
    assert len(found.data) == 2 and qml.dot([1.0], [qml.Z(0)]) == qml.Z(0)


def test_terms_that_are_split_keep_their_coefficients():
    tape = QuantumScript([], [qml.expval(ONE * qml.Z(0) + 2.0 * qml.X(0))])
    with tf.GradientTape() as recorded:
        recorded.watch(ONE)
        tape = QuantumScript([], [qml.expval(ONE * qml.Z(0))])
        batch, combine = qml.transforms.split_non_commuting(tape)
        found = combine([np.array(0.4)] * len(batch))
    assert float(recorded.gradient(found, ONE)) == pytest.approx(0.4)


def test_gates_of_unknown_bases_stay_where_they_are():
    gates = [qml.Hadamard(1), qml.CRot(0.1, 0.2, 0.3, [0, 1])]
    assert [getattr(gate, "basis", None) for gate in gates] == [None, None]
    (tape,), _ = qml.transforms.commute_controlled(QuantumScript(gates))
    assert tape.operations == gates
    (tape,), _ = qml.transforms.commute_controlled(QuantumScript([qml.X(1), qml.CNOT([0, 1])]))
    assert tape.operations == [qml.CNOT([0, 1]), qml.X(1)]


class OwnPhase(qml.PhaseShift):
    """A user's gate, which may be another one than its base class."""


@pytest.mark.parametrize("control", [[1], [1, 2]])
def test_users_gates_stay_what_they_are_where_they_are_controlled(control):
    assert type(qml.ctrl(qml.PhaseShift(0.1, 0), control[:1])) is qml.ControlledPhaseShift
    own = qml.ctrl(OwnPhase(0.1, 0), control)
    assert type(own.base) is OwnPhase
    assert list(own.control_wires) == control
    assert type(qml.ctrl(qml.ctrl(OwnPhase(0.1, 0), 1), 2).base) is OwnPhase


def test_sparse_matrices_are_constants():
    matrix, x = sparse.csr_matrix(np.eye(2)), tf.Variable(0.1)
    requires_grad = changes._module("math.multi_dispatch").requires_grad
    assert not requires_grad(matrix, interface="tensorflow")
    with tf.GradientTape():
        assert requires_grad(x, interface="tensorflow")
    tape = QuantumScript([qml.RX(x, 0), qml.QubitUnitary(matrix, 0)])
    assert len(qml.math.unwrap(tape.get_parameters(trainable_only=False))) == 2


def test_tensors_that_a_tape_follows_are_trainable():
    with tf.GradientTape() as tape:
        tape.watch(ONE)
        found = qml.math.get_trainable_indices([ZERO, 2 * ONE, 0.3, np.ones(2), ONE])
        assert found == {1, 4}
    assert qml.math.get_trainable_indices([ONE]) == set()


def test_numbers_beside_tensors_take_their_precision():
    found = autoray.do("coerce", [1.7, ONE, np.float32(0.1)], like="tensorflow")
    assert {each.dtype for each in found} == {tf.float64} and float(found[0]) == 1.7
    found = autoray.do("coerce", [np.float64(1.7), tf.constant(1.0)], like="tensorflow")
    assert {each.dtype for each in found} == {tf.float32}


@pytest.mark.parametrize("make", [qml.sum, qml.prod])
def test_terms_are_all_there(make):
    parts = make(qml.sum(qml.s_prod(ZERO, qml.Hadamard(0)), qml.Hadamard(2)), qml.Z(1))
    coefficients, operators = parts.terms()
    assert sorted(map(float, coefficients)) == [0.0, *[1.0] * (len(operators) - 1)]
    assert all(isinstance(each, Operator) for each in operators)


def test_sentences_of_words_keep_their_coefficients():
    sentence = PauliSentence({PauliWord({0: "Z"}): ONE})
    assert sentence.operation().data == (ONE,)
    assert not PauliSentence({PauliWord({0: "Z"}): 1.0}).operation().data


@pytest.mark.parametrize(
    "make",
    [
        lambda c: qml.s_prod(c, qml.Hadamard(0)),
        lambda c: qml.sum(qml.s_prod(c, qml.Hadamard(0)), qml.Z(0)),
        lambda c: qml.prod(qml.s_prod(c, qml.Hadamard(0)), qml.Z(1)),
        lambda c: qml.Hamiltonian([c], [qml.Hadamard(0)]),
    ],
)
def test_what_has_coefficients_is_not_simplified(make):
    op = make(ONE)
    assert op.simplify() is op and make(1.0).simplify() is not op


@pytest.mark.parametrize("add", ["__add__", "__radd__"])
@pytest.mark.parametrize("op", [qml.Z(0), qml.Hamiltonian([2.0], [qml.Z(0)])], ids=str)
def test_numbers_that_are_zero_are_added(op, add):
    assert getattr(op, add)(0.0) == op
    assert any(map(tf.is_tensor, getattr(op, add)(ZERO).data))


@pytest.mark.parametrize(
    "compute",
    [
        lambda a: a + qml.Y(0),
        lambda a: sum([a, a]),
        lambda a: a - qml.Y(0),
        lambda a: a * 2.0,
        lambda a: 2.0 * a,
        lambda a: a @ qml.Hamiltonian([1.0], [qml.Y(1)]),
        lambda a: a - qml.Hamiltonian([ZERO], [qml.Y(1)]),
        lambda a: a @ qml.Hamiltonian([ZERO, 1.0], [qml.Y(1), qml.X(1)]),
    ],
    ids=["+", "sum", "-", "*", "times", "@", "less another", "@ another"],
)
def test_what_hamiltonians_are_made_of_is_no_gate_and_keeps_its_coefficients(compute):
    with qml.queuing.AnnotatedQueue() as queue:
        found = compute(qml.Hamiltonian([ZERO, 2.0], [qml.Z(0), qml.Hadamard(0)]))
    assert isinstance(found, LinearCombination) and list(queue.queue) == [found]
    assert any(tf.is_tensor(each) and float(each) == 0.0 for each in found.data)
    plain = compute(qml.Hamiltonian([0.0, 2.0], [qml.Z(0), qml.Hadamard(0)]))
    np.testing.assert_allclose(found.matrix([0, 1]), plain.matrix([0, 1]))


@pytest.mark.parametrize("module", [qml, qml.ops, qml.ops.op_math])
def test_powers_of_one_keep_their_exponents(module):
    assert module.pow(qml.Z(0), ONE, lazy=False).z is ONE
    assert module.pow(qml.Z(0), 1, lazy=False) == qml.Z(0)


def test_gates_taken_out_of_a_batch_are_none():
    gate = qml.PCPhase(np.array([0.1, 0.2]), dim=1, wires=[0])
    assert gate.batch_size == 2
    assert qml.ops.functions.bind_new_parameters(gate, [0.3]).batch_size is None
    assert qml.ops.functions.bind_new_parameters(gate, [np.ones(3)]).batch_size == 3


DEVICE = qml.device("default.qubit")


def test_threads_record_apart():
    inside, done, found = threading.Event(), threading.Event(), []

    def other():
        with qml.queuing.AnnotatedQueue() as queue:
            qml.X(0)
            inside.set()
            done.wait(10)
        found.append(queue.queue)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    assert not qml.QueuingManager.recording()
    with qml.tape.QuantumTape() as tape:  # which takes a lock, in PennyLane
        qml.Z(0)
        with qml.QueuingManager.stop_recording():
            qml.Y(0)
        assert len(qml.QueuingManager._active_contexts) == 1
    done.set()
    thread.join()
    assert [op.name for op in tape.operations] == ["PauliZ"]
    assert [op.name for op in found[0]] == ["PauliX"]


def test_arguments_are_read_where_quantum_functions_are_recorded():
    x = tf.Variable(0.3, dtype=tf.float64)
    made = []
    recorded(lambda: made.append(qml.RX(x, 0)))
    assert isinstance(made[0].data[0], tf.Tensor) and isinstance(qml.RX(x, 0).data[0], tf.Variable)
