"""PennyLane's transforms on a qnode: right, or an error that names them."""

from functools import partial

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import gradient, tape_derivatives

import qshift

DEVICE = qml.device("default.qubit")
X = np.array([0.4, -0.7])


def mixed(x):
    qml.RX(0.2, wires=0)
    qml.RX(x[0], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.RY(x[1], wires=1)
    return qml.expval(qml.Z(0) @ qml.Z(1))


def sums(x):
    qml.RX(x[0], wires=0)
    qml.RX(x[1], wires=0)
    qml.Hadamard(1)
    qml.Hadamard(1)
    return qml.expval(qml.Z(0))


def rotations(x):
    qml.Rot(x[0], 0.1, x[1], wires=0)
    qml.Rot(0.2, x[1], 0.3, wires=0)
    return qml.expval(qml.X(0))


def inverses(x):
    qml.Hadamard(0)
    qml.RX(x[0], wires=0)
    qml.adjoint(qml.RX(x[1], wires=0))
    qml.RZ(x[0], wires=0)
    return qml.expval(qml.X(0))


def transformed(transform, function):
    return transform(qshift.qnode(DEVICE)(function))


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "transform",
    [
        qml.transforms.cancel_inverses,
        qml.transforms.merge_rotations,
        qml.transforms.undo_swaps,
        qml.transforms.commute_controlled,
        qml.transforms.split_non_commuting,
        qml.transforms.combine_global_phases,
    ],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("x", [X, np.array([0.5, -0.5]), np.zeros(2)])
def test_transforms_that_keep_all_parameters(transform, x, compiled):
    if compiled and transform is qml.transforms.merge_rotations:
        pytest.skip("It looks at numbers.")
    node = transformed(transform, sums)
    found = tape_derivatives(tf.function(node) if compiled else node, x, 2)
    expected = tape_derivatives(qshift.qnode(DEVICE)(sums), x, 2)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize(
    "transform, function, x",
    [
        (qml.transforms.merge_rotations, mixed, X),
        (qml.transforms.cancel_inverses, inverses, np.array([0.5, 0.5])),
        (qml.transforms.clifford_t_decomposition, sums, X),
        (qml.compile, mixed, X),
    ],
)
def test_a_transform_that_loses_a_parameter_is_named(transform, function, x, tracker):
    with pytest.raises(qshift.UnsupportedError, match=f"lost in {transform.__name__}"):
        gradient(transformed(transform, function), x)
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize(
    "transform", [qml.transforms.single_qubit_fusion, qml.transforms.merge_rotations]
)
@pytest.mark.parametrize("x", [np.zeros(2), X])
def test_a_transform_that_takes_cases_is_named(transform, x, tracker):
    with pytest.raises(qshift.UnsupportedError, match=f"computed .* in {transform.__name__}"):
        gradient(transformed(transform, rotations), x)
    assert tracker.totals["circuits"] == 0


def test_a_transform_that_looks_at_numbers_is_named_in_a_graph():
    node = transformed(qml.compile, rotations)
    with pytest.raises(qshift.UnsupportedError, match="compile looked at numbers"):
        tf.function(node)(tf.constant(X))


def test_several_transforms_are_all_named():
    node = qml.transforms.merge_rotations(transformed(qml.transforms.undo_swaps, mixed))
    with pytest.raises(qshift.UnsupportedError, match="transforms undo_swaps, merge_rotations"):
        gradient(node, X)


def test_what_nobody_watches_may_be_merged():
    expected = qshift.qnode(DEVICE)(mixed)(tf.constant(X))
    value = transformed(qml.transforms.merge_rotations, mixed)(tf.constant(X))
    assert value.numpy() == pytest.approx(expected.numpy())


def test_transforms_of_users_may_bend_angles():
    @qml.transform
    def bend(tape):
        def bent(op):
            return qml.RX(tf.sin(op.data[0]), wires=op.wires) if op.name == "RX" else op

        return [tape.copy(operations=[bent(op) for op in tape.operations])], lambda r: r[0]

    node = transformed(bend, sums)
    value, first = tape_derivatives(node, X, 1)
    total = np.sin(X).sum()
    assert value == pytest.approx(np.cos(total))
    np.testing.assert_allclose(first, -np.sin(total) * np.cos(X), atol=1e-12)


def test_variables():
    x = tf.Variable(X)
    node = transformed(qml.transforms.merge_rotations, sums)
    with tf.GradientTape() as tape:
        value = node(x)
    np.testing.assert_allclose(tape.gradient(value, x), -np.sin(X.sum()), atol=1e-12)


@pytest.mark.parametrize(
    "split", [qml.transforms.split_non_commuting, qml.transforms.split_to_single_terms]
)
@pytest.mark.parametrize("point", [(0.3, 0.4, 0.7), (0.0, np.pi, 1.0), (np.pi, 0.0, 0.0)])
def test_coefficients_that_multiply_results_afterwards(split, point):
    def circuit(a, b, c):
        qml.RX(a, 0)
        qml.RY(b, 0)
        return qml.expval(c * qml.Z(0) + (1 - c) * qml.Y(0) + a * b * qml.Hadamard(0))

    whole = qshift.qnode(DEVICE)(circuit)
    found, expected = (
        tape_derivatives(lambda x, node=node: node(*tf.unstack(x)), np.array(point), 2)
        for node in (split(qshift.qnode(DEVICE)(circuit)), whole)
    )
    for each, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(each, right, atol=1e-9)


class Turn(qml.operation.Operation):
    """A rotation about X, whose basis is not known."""

    num_params, num_wires, ndim_params = 1, 1, (0,)
    parameter_frequencies = [(1.0,)]

    @staticmethod
    def compute_matrix(x):
        return qml.RX.compute_matrix(x)


@pytest.mark.parametrize("direction", ["left", "right"])
@pytest.mark.parametrize(
    ("gate", "controlled"),
    [
        (lambda x: Turn(x, wires=0), lambda: qml.ControlledSequence(qml.RZ(0.7, 0), control=[1])),
        (lambda x: qml.Rot(x, 0.2, x, 0), lambda: qml.ctrl(qml.Rot(0.3, 0.4, 0.5, 0), 1)),
        (lambda x: qml.RX(x, 0), lambda: qml.CRot(0.3, 0.4, 0.5, [1, 0])),
        (lambda x: qml.U2(x, 0.2, 1), lambda: qml.CSWAP([0, 1, 2])),
    ],
)
def test_gates_of_unknown_bases_do_not_commute(gate, controlled, direction):
    def fn(x):
        qml.Hadamard(1)
        qml.RY(0.4, 0)
        first, second = (gate, controlled) if direction == "right" else (controlled, gate)
        for each in (first, second):
            each(x) if each is gate else each()
        qml.RX(0.3, 0)
        return qml.expval(qml.Z(0) @ qml.Z(1)), qml.expval(qml.Y(0) + qml.X(1))

    x = tf.constant(0.6, tf.float64)
    transform = partial(qml.transforms.commute_controlled, direction=direction)
    found = transform(qshift.qnode(DEVICE)(fn))(x)
    np.testing.assert_allclose(found, qshift.qnode(DEVICE)(fn)(x), atol=1e-12)


def mixed_product(x):
    qml.RX(2.0, 2)
    qml.prod(qml.RX(0.3, 2), qml.CRX(x, [0, 1]))
    return qml.expval(qml.Z(0))


def test_what_pennylane_cannot_transform_is_an_error_that_names_the_transform():
    """Up to PennyLane 0.45, a product without a basis; later ones have moved nothing past it."""
    transform = qml.transforms.commute_controlled
    circuit = transform(qshift.qnode(DEVICE)(mixed_product))
    x = tf.Variable(0.3, dtype=tf.float64)
    try:
        expected = transform(qml.qnode(DEVICE)(mixed_product))(0.3)
    except Exception:
        expected = None
    for call in (circuit, tf.function(circuit)):
        if expected is None:
            with pytest.raises(qshift.UnsupportedError, match="commute_controlled"):
                call(x)
        else:
            np.testing.assert_allclose(call(x), expected, atol=1e-12)


def test_adjoint_differentiation_needs_generators():
    @qshift.qnode(DEVICE, diff_method="adjoint")
    def circuit(x):
        Turn(x, wires=0)
        return qml.expval(qml.Z(0))

    with (
        tf.GradientTape(),
        pytest.raises(qshift.UnsupportedError, match="generator.*Turn has none.*shift"),
    ):
        circuit(tf.Variable(0.3, dtype=tf.float64))
