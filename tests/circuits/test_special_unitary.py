"""SpecialUnitary: derivatives of every order, against exponentials of matrices."""

import math

import jax
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from catalogue import special_unitary
from random_circuits import tape_derivatives
from taylor import ORDER, Taylor, expectation, exponential, word

import qshift
from qshift.circuits.compiler import Compiler
from qshift.circuits.special_unitary import SpecialUnitaryAt, partial_derivatives, rotations
from qshift.tensors import constant

jax.config.update("jax_enable_x64", True)

RNG = np.random.default_rng(5)
AT = {
    "0": np.zeros(3),
    "pi": np.array([np.pi, 0.0, 0.0]),
    "all pi/2": np.full(3, np.pi / 2),
    "a full turn": 2 * np.pi * np.array([0.6, 0.0, 0.8]),
    "generic": np.array([0.4, 0.2, -0.3]),
    "far": np.array([7.0, -4.0, 11.0]),
}
ALONG = np.array([0.3, -1.1, 0.7])


def truth(theta, along, observable, order=ORDER):
    """Returns derivatives along a line, between fixed rotations."""
    angles = [Taylor(a, b) for a, b in zip(theta, along, strict=True)]
    size = {3: 2, 15: 4}[len(theta)]
    state = np.arange(1.0, size + 1) + 0.3j
    state /= np.linalg.norm(state)
    return expectation(state, special_unitary(angles), observable).derivatives()[: order + 1]


def circuit(theta):
    wires = [0] if theta.shape[-1] == 3 else [0, 1]
    state = np.arange(1.0, 2 ** len(wires) + 1) + 0.3j
    qml.StatePrep(state / np.linalg.norm(state), wires=wires)
    qml.SpecialUnitary(theta, wires=wires)
    return qml.expval(qml.Z(0) + 0.5 * qml.X(wires[-1]))


ONE = word("Z") + 0.5 * word("X")
TWO = word("ZI") + 0.5 * word("IX")


# --- the coordinates ---


@pytest.mark.parametrize("at", AT)
def test_rotations_by_the_coordinates_are_what_follows_the_gate_at_the_point(at):
    theta, order = AT[at], ORDER
    omega = [np.zeros(3)]
    for k in range(1, order + 1):
        derivative = np.zeros(3)
        for index in np.ndindex(*(3,) * k):
            weight = np.prod(ALONG[list(index)]) / math.factorial(k)
            column = partial_derivatives(theta, [tuple(sorted(index))], 1)[:, 0]
            derivative += weight * column
        omega.append(derivative)
    product = special_unitary([Taylor(a) for a in theta])
    for j, letter in enumerate("XYZ"):
        angle = Taylor(*[each[j] for each in omega])
        product = product @ exponential(angle * (1j * word(letter)))
    expected = special_unitary([Taylor(a, b) for a, b in zip(theta, ALONG, strict=True)])
    np.testing.assert_allclose(product.c, expected.c, atol=1e-12)


def test_values_of_the_coordinates_are_zero():
    np.testing.assert_array_equal(partial_derivatives(AT["generic"], [()], 1), np.zeros((3, 1)))


# --- derivatives ---


@pytest.mark.one_in(4)
@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "simulator"])
def test_all_derivatives_to_third_order(at, device):
    device = qshift.device("simulator") if device == "simulator" else qml.device(device, wires=1)
    node = qshift.qnode(device, embedded=device.name != "default.qubit")(circuit)
    found = tape_derivatives(node, AT[at], 3)
    for k, expected in enumerate(truth(AT[at], ALONG, ONE)):
        derivative = found[k]
        for _ in range(k):
            derivative = derivative @ ALONG
        assert derivative == pytest.approx(expected, abs=1e-10)


def test_derivatives_of_high_order():
    """They have no end: here the fifth, by the fourth's central difference."""
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(circuit)
    theta = AT["generic"]

    def along(start):
        return qshift.derivatives(
            lambda t: node(start + t * ALONG), tf.constant(0.0, tf.float64), order=5
        )

    here, step = along(theta), 1e-4
    up, down = along(theta + step * ALONG), along(theta - step * ALONG)
    assert here[5].numpy() == pytest.approx((up[4] - down[4]).numpy() / (2 * step), rel=1e-5)


def test_two_wires():
    theta, along = RNG.normal(size=15), RNG.normal(size=15)
    value, gradient = qshift.derivatives(qshift.qnode(qshift.device("simulator"))(circuit), theta)
    expected = truth(theta, along, TWO)
    assert value.numpy() == pytest.approx(expected[0])
    assert gradient.numpy() @ along == pytest.approx(expected[1], abs=1e-10)
    # Along one direction only, as all of the Hessian takes long.
    node = qshift.qnode(qshift.device("simulator"), diff_method="shift")(circuit)
    _, first, second = qshift.derivatives(
        lambda t: node(theta + t * along), tf.constant(0.0, tf.float64), order=2
    )
    assert first.numpy() == pytest.approx(expected[1], abs=1e-10)
    assert second.numpy() == pytest.approx(expected[2], abs=1e-9)


@pytest.mark.parametrize("at", ["0", "generic"])
@pytest.mark.parametrize("taped", ["inside", "outside"])
@pytest.mark.parametrize("pfor", [True, False])
def test_in_a_compiled_function(at, taped, pfor):
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(circuit)

    def hessian(function, theta):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(theta)
            with tf.GradientTape() as inner:
                inner.watch(theta)
                value = function(theta)
            gradient = inner.gradient(value, theta)
        return gradient, outer.jacobian(gradient, theta, experimental_use_pfor=pfor)

    theta = tf.constant(AT[at])
    if taped == "inside":
        gradient, second = tf.function(lambda theta: hessian(node, theta))(theta)
    else:
        gradient, second = hessian(tf.function(node), theta)
    expected = truth(AT[at], ALONG, ONE)
    assert gradient.numpy() @ ALONG == pytest.approx(expected[1], abs=1e-10)
    assert ALONG @ second.numpy() @ ALONG == pytest.approx(expected[2], abs=1e-10)


def test_forward_mode():
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(circuit)
    theta = tf.constant(AT["pi"])
    with tf.autodiff.ForwardAccumulator(theta, tf.constant(ALONG)) as accumulator:
        value = node(theta)
    expected = truth(AT["pi"], ALONG, ONE)
    assert accumulator.jvp(value).numpy() == pytest.approx(expected[1], abs=1e-10)


def test_batches():
    batch = np.array([AT["0"], AT["generic"], AT["pi"]])

    def rotated(theta):
        qml.SpecialUnitary(theta, wires=0)
        return qml.expval(qml.Z(0) + 0.5 * qml.X(0))

    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(rotated)
    theta = tf.constant(batch)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        values = node(theta)
    gradients = tape.gradient(values, theta)  # of their sum, of which each row is in one
    for row, value, gradient in zip(batch, values, gradients, strict=True):
        single, expected = tape_derivatives(node, row, 1)
        assert value.numpy() == pytest.approx(single)
        np.testing.assert_allclose(gradient, expected, atol=1e-10)


def test_float32():
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(circuit)
    theta = tf.constant(AT["generic"], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        value = node(theta)
    gradient = tape.gradient(value, theta)
    assert value.dtype == gradient.dtype == tf.float32
    expected = truth(AT["generic"], ALONG, ONE)
    assert gradient.numpy() @ ALONG == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.filterwarnings("ignore:jax.core")
@pytest.mark.parametrize("interface", ["jax", "autograd"])
@pytest.mark.parametrize("at", ["0", "generic"])
def test_param_shift_in_other_frameworks(at, interface):
    node = qml.QNode(
        circuit, qml.device("default.qubit"), diff_method=qshift.param_shift, max_diff=2
    )
    expected = truth(AT[at], ALONG, ONE)
    if interface == "jax":
        theta = jax.numpy.asarray(AT[at])
        first, second = jax.grad(node)(theta), jax.jacobian(jax.grad(node))(theta)
    else:
        theta = qml.numpy.array(AT[at], requires_grad=True)
        first, second = qml.grad(node)(theta), qml.jacobian(qml.grad(node))(theta)
    assert np.asarray(first) @ ALONG == pytest.approx(expected[1], abs=1e-9)
    assert ALONG @ np.asarray(second) @ ALONG == pytest.approx(expected[2], abs=1e-9)


# --- where nothing is differentiated ---


@pytest.mark.parametrize("compiled", [True, False])
def test_constants_and_arguments_that_nobody_watches(compiled, tracker):
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(circuit)
    function = tf.function(node) if compiled else node
    expected = truth(AT["generic"], ALONG, ONE)[0]
    assert function(tf.constant(AT["generic"])).numpy() == pytest.approx(expected)
    assert tracker.totals["circuits"] == 1
    constant = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(
        lambda: circuit(AT["generic"])
    )
    assert (tf.function(constant) if compiled else constant)().numpy() == pytest.approx(expected)


def test_only_what_is_watched_is_taken_apart():
    def gates(watched):
        theta = tf.constant(AT["generic"])
        with tf.GradientTape() as tape:
            if watched:
                tape.watch(theta)
            with qml.queuing.AnnotatedQueue() as queue:
                circuit(theta)
            compile_ = Compiler(None, tf.is_tensor, constant=constant)
            compiled = compile_(qml.tape.QuantumScript.from_queue(queue))
        return [op.name for op in compiled.circuit.operations]

    assert gates(False) == ["StatePrep", "SpecialUnitary"]
    assert gates(True) == ["StatePrep", *3 * ["PauliRot"], "SpecialUnitary"]


def test_the_gate_at_the_point_stays_one_when_it_is_inverted():
    gate = SpecialUnitaryAt(AT["generic"], wires=0)
    inverse = qml.adjoint(gate, lazy=False)
    assert isinstance(inverse, SpecialUnitaryAt)
    np.testing.assert_allclose(inverse.matrix() @ gate.matrix(), np.eye(2), atol=1e-12)


def test_a_constant_is_its_matrix():
    gate = qml.SpecialUnitary(AT["generic"], wires=0)
    (part,) = rotations(gate)
    np.testing.assert_allclose(part.matrix(), gate.matrix(), atol=1e-12)


@pytest.mark.parametrize("around", [lambda op: op, lambda op: qml.ctrl(op, 1), qml.adjoint])
def test_constants_on_qiskits_devices(around):
    def derivatives(device):
        @qshift.qnode(device)
        def node(x):
            qml.RX(x, 0)
            qml.RX(2 * x, 1)
            around(qml.SpecialUnitary(AT["generic"], wires=0))
            return qml.expval(qml.Y(0))

        found = qshift.derivatives(node, tf.constant(0.3, tf.float64))
        return [float(each) for each in found]

    found = derivatives(qshift.device("aer", wires=2))
    assert found == pytest.approx(derivatives(qml.device("default.qubit")), abs=1e-9)


@pytest.mark.parametrize("of_inputs", [False, True])
def test_layers_of_batches(of_inputs):
    """A layer calls its qnode without circuits to see how it reads samples."""

    @qshift.qnode(qshift.device("simulator"))
    def circuit(inputs, w):
        qml.RX(inputs[:, 1], 0)
        by_samples = tf.stack([inputs[:, 0], w[0] * inputs[:, 1], 0 * inputs[:, 0] + w[1]], 1)
        qml.SpecialUnitary(by_samples if of_inputs else tf.stack([0.1, w[0], w[1]]), 0)
        return qml.expval(qml.Z(0) + qml.Y(0))

    layer = qshift.keras.QuantumLayer(circuit, {"w": (2,)}, dtype="float64")
    x = tf.constant([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], tf.float64)
    layer(x)
    layer.set_weights([np.array([0.7, 0.8])])
    for batch in (x, x[:1]):
        np.testing.assert_allclose(layer(batch), circuit(batch, layer.weights[0]), atol=1e-12)
        np.testing.assert_allclose(
            layer(batch), [circuit(row[None], layer.weights[0])[0] for row in batch], atol=1e-12
        )
