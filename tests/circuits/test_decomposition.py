"""Until when gates are decomposed, and what is known of the parts."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.circuits.decomposition import decompose, hides
from qshift.circuits.spectra import suits_adjoint
from qshift.tensors import constant

X = tf.constant(0.3, tf.float64)


def decomposed(op, **settings):
    with qml.QueuingManager.stop_recording():
        return list(decompose([op], tf.is_tensor, **settings))


def names(op, **settings):
    return [part.gate.name for part in decomposed(op, **settings)]


def test_gates_with_rules_stay_whole():
    for gate in (
        qml.RX(X, 0),
        qml.ctrl(qml.RX(X, 0), [1, 2]),
        qml.adjoint(qml.CRY(X, [0, 1])),
        qml.pow(qml.IsingXY(X, [0, 1]), 3),
        qml.ctrl(qml.GlobalPhase(X), 0),
    ):
        assert names(gate) == [gate.name]


def test_gates_without_tensors_stay_whole():
    assert names(qml.ctrl(qml.U3(0.1, 0.2, 0.3, 0), 1)) == ["C(U3)"]


def test_gates_without_rules_are_decomposed_until_they_have_some():
    gate = qml.ctrl(qml.adjoint(qml.prod(qml.U2(X, X, 0), qml.CRX(X, [0, 1]))), [2, 3])
    parts = names(gate)
    assert parts and not {"U2", "Prod", "C(U2)", "C(Prod)"} & set(parts)
    assert all(part.startswith("C(") for part in parts)


def test_devices_that_differentiate_get_gates_that_they_differentiate():
    for gate in (
        qml.ctrl(qml.Rot(X, X, X, 0), [1, 2]),
        qml.ctrl(qml.PauliRot(X, "XY", [0, 1]), 2),
        qml.adjoint(qml.PCPhase(X, 3, [0, 1])),
        qml.FermionicSWAP(X, [0, 1]),
        qml.SelectPauliRot(tf.stack([X, X]), [0], 1),
    ):
        for part in decomposed(gate, adjoint=True):
            assert (
                not part.gate.data
                or suits_adjoint(part.gate)
                or all(not tf.is_tensor(x) for x in part.gate.data)
            )


@pytest.mark.parametrize("wrapped", [lambda op: op, qml.adjoint, lambda op: qml.ctrl(op, 5)])
def test_angles_that_are_computed_from_data_say_whose_they_are(wrapped):
    state = tf.constant([0.6, 0.0, 0.0, 0.8], tf.float64)
    gate = wrapped(qml.MottonenStatePreparation(state, wires=[0, 1]))
    with tf.GradientTape() as tape:
        tape.watch(state)
        parts = decomposed(gate)
    assert len(parts) > 1
    assert {part.data_of for part in parts} == {gate.name}


def test_data_that_devices_take_stay_whole():
    state = tf.constant([0.6, 0.8], tf.float64)
    for gate in (qml.StatePrep(state, 0), qml.QubitUnitary(tf.eye(2), 0)):
        (part,) = decomposed(gate)
        assert part.gate is gate


def test_only_what_may_move_is_taken_apart():
    theta = tf.zeros([3], tf.float64)
    gate = qml.SpecialUnitary(theta, wires=0)
    assert names(gate, moves=lambda x: constant(x) is None) == ["SpecialUnitary"]
    with tf.GradientTape() as tape:
        tape.watch(theta)
        parts = decomposed(gate, moves=lambda x: constant(x) is None)
    assert [part.gate.name for part in parts] == [*3 * ["PauliRot"], "SpecialUnitary"]
    assert [part.is_still for part in parts] == [False, False, False, True]


def test_gates_for_pennylanes_tapes():
    """PennyLane's cache takes an angle under a control for the same 2 pi later, where the gate is
    an adjoint or a power, so those are written out."""
    gate = qml.ctrl(qml.adjoint(qml.RZ(X, 0)), 1)
    assert names(gate) == [gate.name]
    assert names(gate, for_tapes=True) == ["CRZ"]
    state = tf.constant([0.6, 0.0, 0.0, 0.8], tf.float64)
    data = qml.MottonenStatePreparation(state, wires=[0, 1])
    assert names(data, for_tapes=True) == [data.name]


@pytest.mark.parametrize("nested", [qml.adjoint, lambda op: qml.pow(op, 2)])
@pytest.mark.parametrize("gate", [qml.RX, qml.RY, qml.RZ])
def test_pennylanes_cache_does_not_confuse_shifted_tapes(gate, nested):
    def circuit(x):
        qml.RY(0.8, wires=0)
        qml.RY(2.6, wires=1)
        qml.RX(1.7, wires=1)
        qml.ctrl(nested(gate(x, wires=0)), control=1)
        return qml.expval(qml.X(0) @ qml.Y(1) + qml.Z(0) @ qml.X(1))

    def slope():
        device, method = qml.device("default.qubit"), qshift.param_shift
        node = qml.QNode(circuit, device, diff_method=method, max_diff=2)  # switches the cache on
        return qml.grad(node)(qml.numpy.array(np.pi, requires_grad=True))

    exact, step = qml.QNode(circuit, qml.device("default.qubit"), diff_method=None), 1e-5
    expected = (exact(np.pi + step) - exact(np.pi - step)) / (2 * step)
    assert slope() == pytest.approx(expected, abs=1e-8)


def test_what_a_gate_hides():
    def held(op):
        return hides(op, qml.pytrees.flatten(op)[0], tf.is_tensor)

    assert held(qml.IQP([X], 1, [[[0]]]))
    assert not held(qml.ctrl(qml.RX(X, 0), 1))
    assert not held(qml.evolve(qml.s_prod(X, qml.Z(0)), 0.3))
