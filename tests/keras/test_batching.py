"""How a layer's quantum function reads its inputs: alone or in batches, without mixing samples."""

import keras
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from keras_layers import (
    DEVICE,
    ENCODINGS,
    SHAPES,
    X,
    by_batch,
    by_ellipsis,
    by_sample,
    circuit,
    embedding,
    encoded,
    values,
)

import qshift
from qshift.keras.layer import QuantumLayer


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda f: f.__name__)
def test_a_batch_is_its_samples_in_one_batch(encoding, tracker):
    layer = QuantumLayer(encoded(encoding), SHAPES)
    assert layer.compute_output_shape((None, 2)) == (None, 2)
    assert tracker.totals["circuits"] == 0
    outputs = layer(X)
    assert tracker.totals["batches"] == 1
    assert tracker.totals["circuits"] == len(X)
    assert layer._reading.whole == ENCODINGS[encoding]
    if encoding is by_batch:
        other = QuantumLayer(encoded(by_ellipsis), SHAPES)
        other.set_weights(layer.get_weights())
        np.testing.assert_array_equal(outputs, other(X))
    else:
        np.testing.assert_allclose(outputs, values(layer), atol=1e-6)


@pytest.mark.parametrize("encoding", [embedding, by_sample], ids=lambda f: f.__name__)
@pytest.mark.parametrize("compile_", [False, True])
def test_gradients_by_weights_and_inputs(encoding, compile_, tracker):
    layer, reference = QuantumLayer(encoded(encoding), SHAPES), qml.QNode(circuit.func, DEVICE)
    x, target = tf.Variable(X, dtype=tf.float32), tf.constant(X[::-1], tf.float32)
    layer(x)

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((layer(x) - target) ** 2)
        return tape.gradient(loss, [x, *layer.trainable_weights])

    tracker.reset()
    got = (tf.function(gradients) if compile_ else gradients)()
    assert tracker.totals["batches"] == (1 if compile_ else 2)  # values and shifted values

    def loss(x, weights, bias):
        rows = [qml.math.stack(reference(row, weights, bias)) for row in x]
        return sum(qml.math.sum((row - t) ** 2) for row, t in zip(rows, X[::-1], strict=True))

    arguments = [x, *layer.qnode_weights.values()]
    arguments = [qml.numpy.array(a.numpy().astype(float), requires_grad=True) for a in arguments]
    for a, b in zip(got, qml.grad(loss)(*arguments), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("compile_", [False, True])
@pytest.mark.parametrize("encoding", [embedding, by_sample], ids=lambda f: f.__name__)
def test_circuits_are_paid_for_only_by_what_is_differentiated(encoding, compile_, tracker):
    layer = QuantumLayer(encoded(encoding), SHAPES)
    x = tf.constant(X, tf.float32)
    layer(x)
    tracker.reset()

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, layer.trainable_weights)

    (tf.function(gradient) if compile_ else gradient)()
    assert tracker.totals["circuits"] == len(X) * (1 + 2 * 5)  # and none for the two inputs


@pytest.mark.parametrize("encoding", [embedding, by_sample], ids=lambda f: f.__name__)
def test_more_batch_axes_none_and_empty_ones(encoding):
    layer = QuantumLayer(encoded(encoding), SHAPES)
    x = np.random.default_rng(1).uniform(size=(3, 4, 2))
    outputs = layer(x)
    assert outputs.shape == layer.compute_output_shape(x.shape) == (3, 4, 2)
    np.testing.assert_allclose(outputs[1], layer(x[1]), atol=1e-6)
    np.testing.assert_allclose(outputs[1, 2], layer(x[1, 2]), atol=1e-6)
    assert layer(x[:, :0]).shape == (3, 0, 2)


def test_inputs_may_be_integers_and_a_default_argument():
    @qshift.qnode(DEVICE)
    def node(w, inputs=None, turns=2):
        for _ in range(turns):
            qml.RX(inputs[0] * w, wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(node, {"w": 1}, output_dim=1, weight_specs={"w": {"initializer": "ones"}})
    np.testing.assert_allclose(layer(np.array([[1], [2]])), [[np.cos(2)], [np.cos(4)]], atol=1e-6)


def test_data_dependent_coefficients_and_normalised_amplitudes():
    @qshift.qnode(DEVICE)
    def node(inputs):
        qml.AmplitudeEmbedding(inputs, wires=[0])
        return qml.expval(qml.dot([inputs[0], 2.0], [qml.X(0), qml.Z(0)]))

    x = np.array([[0.6, 0.8], [1.0, 0.0]])
    expected = [0.6 * 2 * 0.6 * 0.8 + 2 * (0.36 - 0.64), 2]
    np.testing.assert_allclose(QuantumLayer(node, {})(x), expected, atol=1e-6)


def test_broken_functions_say_so_at_once_for_samples_and_batches():
    @qshift.qnode(DEVICE)
    def both(inputs):
        qml.RX(inputs[..., 5], wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(Exception, match="out of bounds"):
        QuantumLayer(both, {})(X)

    @qshift.qnode(DEVICE)
    def whole(inputs):
        qml.RX(tf.reduce_sum(inputs[:, 0]), wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(ValueError, match=r"one result per sample. Write inputs\[..., i\]"):
        QuantumLayer(whole, {})(X)

    @qshift.qnode(DEVICE)
    def state(inputs):
        qml.RX(inputs[0], wires=0)
        return qml.state()

    with pytest.raises(qshift.UnsupportedError, match="State"):
        QuantumLayer(state, {}).build((None, 2))

    @qshift.qnode(DEVICE)
    def neither(inputs):
        qml.RX(inputs[:, 0] if len(inputs.shape) == 1 else inputs[0, 7], wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(ValueError, match=r"neither takes neither one sample, of shape \(2,\): .*"):
        QuantumLayer(neither, {})(X)


def preprocessed(function):
    @qshift.qnode(DEVICE)
    def node(inputs, w):
        qml.AngleEmbedding(function(inputs), wires=range(2))
        qml.RY(w, wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.Z(1))

    return QuantumLayer(node, {"w": 0}, weight_specs={"w": {"initializer": "ones"}})


MIXING = {
    "norm": lambda x: tf.clip_by_norm(x, np.pi),
    "largest": lambda x: x / tf.maximum(1.0, tf.reduce_max(tf.abs(x))),
    "global norm": lambda x: tf.clip_by_global_norm([x], 3.0)[0][0],
    "any": lambda x: tf.where(tf.reduce_any(x < 0), x + 1, x),
    "branch": lambda x: tf.cond(tf.reduce_sum(x) < 0, lambda: 2 * x, lambda: x),
    "numbers": lambda x: 2 * x if float(tf.reduce_sum(x)) < -3 else x,
    "numpy": lambda x: x.numpy() / max(1.0, np.abs(x).max()),
    "number of rows": lambda x: x / x.shape[0],
    "seldom": lambda x: x + tf.nn.relu(tf.reduce_max(x) - 6.0),
}


@pytest.mark.one_in(2)
@pytest.mark.filterwarnings("ignore::qshift.errors.SlowerWarning")
@pytest.mark.parametrize("name", MIXING)
def test_what_is_made_of_a_sample_does_not_depend_on_the_others(name):
    layer = preprocessed(MIXING[name])
    x = tf.constant([[3.0, 1.0], [-4.0, 2.0], [0.5, -6.0], [0.0, 0.0], [5.0, 6.5]])
    expected = [layer.qnode(row, **layer.qnode_weights) for row in x] if layer(x[:1]) > -2 else 0
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    if layer._reading.traceable:
        compiled = tf.function(layer, input_signature=[tf.TensorSpec([None, 2])])
        np.testing.assert_allclose(compiled(x), expected, atol=1e-6)
    else:
        with pytest.raises(qshift.UnsupportedError, match="numbers in its tensors are not known"):
            tf.function(layer)(x)
        assert layer(x[:0]).shape == (0,)


@pytest.mark.parametrize("compile_", [False, True])
def test_a_single_sample_stays_a_batch(compile_):
    layer = preprocessed(lambda x: 2 * x / tf.norm(x))  # which squeezes
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, 2])]) if compile_ else layer
    x = tf.constant(X, tf.float32)
    np.testing.assert_allclose(run(x[:1]), run(x)[:1], atol=1e-6)
    assert run(x[:1]).shape == (1,)


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: x - tf.reduce_mean(x, 0),
        lambda x: x / tf.maximum(1.0, tf.reduce_max(tf.abs(x))),
        lambda x: x / x.shape[0],
        lambda x: x[::-1],
        lambda x: x.numpy() / np.linalg.norm(x),
    ],
)
def test_functions_of_batches_only_must_not_mix_samples(mixing):
    layer = preprocessed(lambda x: tf.stack([mixing(x)[:, 0], mixing(x)[:, 1]], 1))
    with pytest.raises(ValueError, match="what it makes of a sample depends on the other samples"):
        layer.build((None, 2))


@pytest.mark.filterwarnings("ignore::qshift.errors.SlowerWarning")
@pytest.mark.parametrize(
    "unknown", [lambda x: tf.numpy_function(np.sin, [x], x.dtype), lambda x: np.sin(x.numpy())]
)
def test_functions_of_batches_with_steps_that_nobody_knows(unknown):
    def step(x):
        return tf.ensure_shape(unknown(x), x.shape)[:, ::-1]

    layer, x = preprocessed(step), tf.constant(X, tf.float32)
    assert layer(x).shape == (5,)
    assert layer._reading.as_batch and not layer._reading.whole
    np.testing.assert_allclose(layer(x), preprocessed(lambda x: tf.sin(x)[..., ::-1])(x), atol=1e-6)


@tf.custom_gradient
def rounded(x):
    return tf.round(2 * x) / 2, lambda cotangent: cotangent


@pytest.mark.filterwarnings("ignore::qshift.errors.SlowerWarning")
@pytest.mark.parametrize(
    "step, eager_only",
    [
        (rounded, False),
        (lambda x: rounded(tf.clip_by_norm(x, 9.0)), True),
        (lambda x: tf.stack([rounded(y) for y in tf.unstack(x, num=2)]), True),
        (lambda x: tf.nn.silu(tf.clip_by_norm(x, 9.0)), False),
    ],
)
def test_custom_gradients_are_kept_or_refused(step, eager_only):
    layer, x = preprocessed(step), tf.Variable(X, dtype=tf.float32)

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, x)

    with tf.GradientTape() as tape:
        rows = tf.unstack(x)
        loss = sum(layer.qnode(row, **layer.qnode_weights) ** 2 for row in rows)
    expected = tape.gradient(loss, x)
    assert np.all(np.abs(expected[:, 1]) > 1e-3)
    np.testing.assert_allclose(gradient(), expected, atol=1e-6)
    if eager_only:
        np.testing.assert_allclose(tf.function(layer)(x), layer(x), atol=1e-6)
        with pytest.raises(qshift.UnsupportedError, match="node has a tf.custom_gradient"):
            tf.function(gradient)()
    else:
        np.testing.assert_allclose(tf.function(gradient)(), expected, atol=1e-6)


def test_building_a_layer_assigns_to_nothing():
    counter, scale = tf.Variable(0), tf.Variable(1.0)

    @qshift.qnode(DEVICE)
    def node(inputs):
        counter.assign_add(1)
        scale.assign(scale * 2)
        qml.RX(scale * inputs[0], wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(node, {})
    layer.build((None, 2))
    assert layer.compute_output_shape((3, 2)) == (3,)
    assert (int(counter), float(scale)) == (0, 1.0)
