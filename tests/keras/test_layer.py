"""The Keras layer: reading inputs, training, saving and loading, and what KerasLayer's users do."""

import copy
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import cloudpickle
import keras
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

import qshift
from qshift.keras.layer import QuantumLayer

DEVICE = qml.device("default.qubit")
X = np.random.default_rng(0).uniform(-1, 1, (5, 2))
SHAPES = {"weights": (2, 2), "bias": 1}


def ansatz(weights, bias):
    for layer in weights:
        for wire, weight in enumerate(layer):
            qml.RY(weight, wires=wire)
        qml.CNOT(wires=[0, 1])
    qml.RX(bias, wires=0)


@qshift.keras.register(package="tests")
@qshift.qnode(DEVICE)
def circuit(inputs, weights, bias):
    qml.AngleEmbedding(inputs, wires=range(2))
    ansatz(weights, bias)
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]


def values(layer, inputs=X):
    """The same outputs from PennyLane, a sample at a time."""
    node = qml.QNode(layer.qnode.func, DEVICE)
    weights = {name: weight.numpy() for name, weight in layer.qnode_weights.items()}
    return np.array([np.hstack(node(inputs=x, **weights)) for x in np.asarray(inputs, float)])


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def trained(*layers):
    """A model with an optimizer that has a state, as Keras needs it to load a model again."""
    model = compiled(*layers)
    model.train_on_batch(X, X)
    return model


def compiled(layer, *after, features=2, **kwargs):
    model = keras.Sequential([keras.Input((features,)), layer, *after])
    model.compile("adam", "mse", **kwargs)
    return model


# --- how inputs are read ---


def embedding(inputs):
    qml.AngleEmbedding(inputs, wires=range(2))


def by_ellipsis(inputs):
    for wire in range(2):
        qml.RX(inputs[..., wire], wires=wire)


def by_sample(inputs):
    for wire in range(2):
        qml.RX(inputs[wire], wires=wire)


def by_batch(inputs):
    for wire in range(2):
        qml.RX(inputs[:, wire], wires=wire)


def by_last_axis(inputs):
    for wire, x in enumerate(tf.unstack(inputs, axis=-1)):
        qml.RX(x, wires=wire)


def normalised(inputs):
    qml.AngleEmbedding(inputs / tf.norm(inputs), wires=range(2))


def transposed(inputs):
    for wire, x in enumerate(tf.unstack(tf.transpose(inputs))):
        qml.RX(x, wires=wire)


def amplitudes(inputs):
    qml.AmplitudeEmbedding(inputs, wires=[0], normalize=True)


ENCODINGS = {
    embedding: True,
    by_ellipsis: True,
    by_sample: False,
    by_batch: True,
    by_last_axis: True,
    normalised: False,  # by the norm of each sample, not of the batch
    transposed: True,
    amplitudes: True,
}


def encoded(encoding, device=DEVICE, **kwargs):
    @qshift.qnode(device, **kwargs)
    def node(inputs, weights, bias):
        encoding(inputs)
        ansatz(weights, bias)
        return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]

    return node


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


# --- samples are not mixed ---


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


# --- what a layer is given ---


def test_complex_inputs_stay_complex():
    @qshift.qnode(DEVICE)
    def node(inputs):
        qml.AmplitudeEmbedding(inputs, wires=[0], normalize=True)
        return qml.expval(qml.Y(0))

    x = np.array([[1, 1j], [1, -1j], [3, 4j]])
    expected = [1, -1, 2 * 12 / 25]
    for dtype, complex_ in (("float32", np.complex64), ("float64", np.complex128)):
        layer = QuantumLayer(node, {}, dtype=dtype)
        np.testing.assert_allclose(layer(np.ones((1, 2))), [0], atol=1e-6)
        for given in (x, x.astype(np.complex64), tf.constant(x)):
            np.testing.assert_allclose(layer(given), expected, atol=1e-6)
        np.testing.assert_allclose(layer(np.ones((1, 2))), [0], atol=1e-6)
        model = keras.Sequential([keras.Input((2,), dtype=np.dtype(complex_).name), layer])
        np.testing.assert_allclose(model(tf.constant(x, complex_)), expected, atol=1e-6)


def test_functions_of_complex_inputs():
    @qshift.qnode(DEVICE)
    def node(inputs, w):
        qml.RX(tf.math.angle(inputs[0] * 1j) * w, wires=0)
        return qml.expval(qml.Z(0))

    x = np.exp(1j * np.array([[0.3], [-0.9], [1.2]])).astype("complex64")
    layer = QuantumLayer(node, {"w": 0}, weight_specs={"w": {"initializer": "ones"}})
    np.testing.assert_allclose(layer(x), -np.sin([0.3, -0.9, 1.2]), atol=1e-6)


@pytest.mark.parametrize(
    "given, what, way_out",
    [
        (tf.ragged.constant([[1.0, 2.0], [3.0]]), "RaggedTensor", "to_tensor"),
        ({"a": X}, "dict", "Concatenate"),
        ((X, X), "tuple", "Concatenate"),
        ([X, X], "list", "Concatenate"),
    ],
)
def test_inputs_are_one_tensor(given, what, way_out):
    for built in (True, False):
        layer = QuantumLayer(circuit, SHAPES)
        if built:
            layer.build((None, 2))
        with pytest.raises(TypeError, match=rf"\(\.\.\., features\), got a {what}\..*{way_out}"):
            layer(given)
    if what != "RaggedTensor":
        shapes = tf.nest.map_structure(lambda x: tf.TensorShape(x.shape), given)
        with pytest.raises(TypeError, match="takes one tensor of shape .*, got several"):
            layer.build(shapes)


@pytest.mark.parametrize("shape", [(None,), (3, None), ()])
def test_features_must_be_known(shape):
    with pytest.raises(ValueError, match=r"known number of features.*\(features,\)"):
        QuantumLayer(circuit, SHAPES).build(shape)


# --- outputs ---


def outputs_of(measure, **kwargs):
    @qshift.qnode(DEVICE)
    def node(inputs):
        qml.AngleEmbedding(inputs, wires=range(2))
        return measure()

    return QuantumLayer(node, {}, **kwargs)


@pytest.mark.parametrize(
    "measure, output_dim, shape",
    [
        (lambda: qml.expval(qml.Z(0)), None, ()),
        (lambda: qml.expval(qml.Z(0)), 1, (1,)),
        (lambda: [qml.expval(qml.Z(0))], None, (1,)),
        (lambda: qml.probs(wires=[0, 1]), None, (4,)),
        (lambda: qml.probs(wires=[0, 1]), (2, 2), (2, 2)),
        (lambda: (qml.var(qml.Z(0)), qml.probs(wires=[0, 1])), [5], (5,)),
    ],
)
@pytest.mark.parametrize("batch", [(), (3,), (3, 4)])
def test_shapes_of_outputs_are_known_beforehand(measure, output_dim, shape, batch, tracker):
    layer = outputs_of(measure, output_dim=output_dim)
    symbolic = layer(keras.Input((*batch[1:], 2), batch_size=3)) if batch else None
    assert layer.compute_output_shape((*batch, 2)) == (*batch, *shape)
    assert tracker.totals["circuits"] == 0
    outputs = layer(np.ones((*batch, 2)))
    assert outputs.shape == (*batch, *shape)
    if batch:
        assert symbolic.shape == outputs.shape
        assert symbolic.dtype == outputs.dtype.name == "float32"


def test_several_outputs_by_name():
    layer = outputs_of(
        lambda: {"z": qml.expval(qml.Z(0)), "p": [qml.probs(wires=[0]), qml.probs(wires=[0])]}
    )
    model = keras.Model(inputs := keras.Input((2,)), layer(inputs))
    shapes = {name: output.shape for name, output in model.output.items()}
    assert shapes == {"z": (None,), "p": (None, 4)}
    model.compile("sgd", {"z": "mse", "p": "mae"})
    prediction = model.predict(X, verbose=0)
    np.testing.assert_allclose(prediction["z"], np.cos(X[:, 0]), atol=1e-6)
    half = np.cos(X[:, 0] / 2) ** 2
    np.testing.assert_allclose(prediction["p"], np.stack([half, 1 - half] * 2, axis=1), atol=1e-6)


@pytest.mark.parametrize("output_dim", [3, (1, 3)])
def test_output_dim_that_does_not_fit_is_refused(output_dim):
    with pytest.raises(ValueError, match=r"output_dim=.*, but circuit returns \(2,\) per sample"):
        QuantumLayer(circuit, SHAPES, output_dim=output_dim).build((None, 2))


# --- what a layer is made of ---


def test_shapes_as_pennylane_took_them():
    def function(inputs, a, b, c, d, e):
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(
        qshift.qnode(DEVICE)(function), {"a": (3, 2), "b": (1,), "c": 1, "d": [3], "e": 0}
    )
    assert layer.weight_shapes == {"a": (3, 2), "b": (1,), "c": (), "d": (3,), "e": ()}
    assert {n: tuple(w.shape) for n, w in layer.qnode_weights.items()} == layer.weight_shapes
    assert [w.name for w in layer.weights] == list("abcde")


def test_functions_with_keyword_arguments():
    @qshift.qnode(DEVICE)
    def node(inputs, **kwargs):
        qml.RX(inputs[0] + kwargs["a"], wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(node, {"a": 1}, weight_specs={"a": {"initializer": "ones"}})
    np.testing.assert_allclose(layer(X), np.cos(X[:, 0] + 1), atol=1e-6)


def test_the_argument_for_inputs_may_be_called_otherwise():
    @qshift.qnode(DEVICE)
    def node(x, inputs):
        qml.RX(x[0] + inputs, wires=0)
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(node, {"inputs": 1}, input_arg="x")
    assert layer(X).shape == (5,)
    QuantumLayer.set_input_argument("x")
    try:
        assert QuantumLayer(node, {"inputs": 1}).input_arg == "x"
    finally:
        QuantumLayer.set_input_argument()
    with pytest.raises(ValueError, match="every argument"):
        QuantumLayer(node, {"a": 1})


def no_inputs(weights): ...


def positions(inputs, *args): ...


def positional(inputs, weights, /): ...


def ordinary(inputs, weights): ...


@pytest.mark.parametrize(
    "function, shapes, error, message",
    [
        (no_inputs, {"weights": 1}, TypeError, r"no_inputs\(weights\) has no argument .*'inputs'"),
        (positions, {}, TypeError, r"\*args"),
        (positional, {"weights": 1}, TypeError, "positional-only"),
        (ordinary, {"weights": 1, "inputs": 2}, ValueError, "is the argument for inputs"),
        (ordinary, {}, ValueError, r"every argument .* lacks \['weights'\]"),
        (ordinary, {"weights": 1, "v": 2}, ValueError, r"has \['v'\], which are no arguments"),
    ],
)
def test_signatures_that_do_not_fit_are_refused(function, shapes, error, message):
    with pytest.raises(error, match=message):
        QuantumLayer(qshift.qnode(DEVICE)(function), shapes)


def test_what_is_not_a_qnode_is_refused():
    with pytest.raises(TypeError, match="takes a qnode, got function. Decorate"):
        QuantumLayer(ordinary, {"weights": 1})


@pytest.mark.parametrize(
    "specs, message",
    [
        ({"w": {}}, "names 'w', which is not a weight"),
        ({"bias": {"initialiser": "zeros"}}, r"has \['initialiser'\]; expected some of"),
        ({"bias": {"initializer": "nonsense"}}, "nonsense"),
    ],
)
def test_weight_specs_that_do_not_fit_are_refused(specs, message):
    with pytest.raises(ValueError, match=message):
        QuantumLayer(circuit, SHAPES, weight_specs=specs)


def test_initialisers_regularisers_and_constraints():
    specs = {
        "weights": {
            "initializer": keras.initializers.Constant(2.0),
            "regularizer": "l2",
            "constraint": keras.constraints.MaxNorm(0.5, axis=None),
        },
        "bias": {"initializer": "ones", "trainable": False},
    }
    layer = QuantumLayer(circuit, SHAPES, weight_specs=specs)
    assert [w.name for w in layer.trainable_weights] == ["weights"]
    np.testing.assert_array_equal(layer.qnode_weights["weights"], np.full((2, 2), 2.0))
    np.testing.assert_allclose(layer.losses[0], 0.01 * 16)
    compiled(layer).train_on_batch(X, X)
    assert layer.qnode_weights["bias"] == 1
    assert np.linalg.norm(layer.qnode_weights["weights"]) <= 0.5 + 1e-6


@pytest.mark.parametrize("interface", ["auto", "tf", "autograd", "jax", "torch"])
def test_qnodes_of_pennylane_are_converted_and_left_alone(interface):
    node = qml.QNode(circuit.func, DEVICE, interface=interface, diff_method="parameter-shift")
    before = node.interface
    layer = QuantumLayer(node, SHAPES)
    assert isinstance(layer.qnode, qshift.QNode)
    assert node.interface is before
    np.testing.assert_allclose(layer(X), values(layer), atol=1e-6)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(qshift.UnsupportedError, match="Keras uses 'jax'.*KERAS_BACKEND"):
        QuantumLayer(circuit, SHAPES)


def test_pennylanes_tools_on_the_layers_qnode():
    layer = QuantumLayer(circuit, SHAPES)
    assert "AngleEmbedding" in qml.draw(layer.qnode)(X[0], **layer.qnode_weights)
    assert qml.specs(layer.qnode)(X[0], **layer.qnode_weights)["resources"].num_gates > 3
    plan = layer.qnode.plan(inputs=X, **layer.qnode_weights)
    assert plan.circuits == len(X) * (1 + 2 * 5)
    assert repr(layer) == "<QuantumLayer name=quantum_layer, qnode=circuit, built=False>" or (
        "qnode=circuit, built=False" in repr(layer)
    )


def test_a_qnode_takes_keras_variables():
    layer = QuantumLayer(circuit, SHAPES)
    with tf.GradientTape() as tape:
        value = circuit(tf.constant(X[0], tf.float32), *layer.weights)[0]
    gradient = tape.gradient(value, layer.trainable_weights)
    assert [g.shape for g in gradient] == [(2, 2), ()]
    np.testing.assert_allclose(value, layer(X)[0, 0], atol=1e-6)


# --- training ---


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("encoding", [embedding, by_sample], ids=lambda f: f.__name__)
def test_fit_is_gradient_descent(run_eagerly, encoding):
    layer = QuantumLayer(encoded(encoding), SHAPES)
    before, x = layer.get_weights(), tf.constant(X, tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((layer(x) - x) ** 2)
    gradient = tape.gradient(loss, layer.trainable_weights)

    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=run_eagerly)
    assert not model.jit_compile
    history = model.fit(X, X, batch_size=5, shuffle=False, verbose=0)
    np.testing.assert_allclose(history.history["loss"], [loss], rtol=1e-5)
    for a, b, g in zip(layer.get_weights(), before, gradient, strict=True):
        np.testing.assert_allclose(a, b - 0.1 * g, atol=1e-6)


@pytest.mark.parametrize("encoding", [embedding, by_sample], ids=lambda f: f.__name__)
def test_a_step_of_training_is_one_batch(encoding, tracker):
    model = compiled(QuantumLayer(encoded(encoding), SHAPES), keras.layers.Dense(1))
    model.fit(X, X[:, 0], batch_size=2, epochs=2, verbose=0)
    assert tracker.totals["batches"] == 2 * 3  # epochs, steps: each with its values and gradients
    assert tracker.totals["circuits"] == 2 * len(X) * (1 + 2 * 5)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.before, self.after = keras.layers.Dense(2), keras.layers.Dense(1)
        self.quantum = QuantumLayer(circuit, SHAPES)

    def call(self, inputs):
        return self.after(self.quantum(self.before(inputs)))


def functional():
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(2)(inputs)
    both = [QuantumLayer(circuit, SHAPES)(hidden), QuantumLayer(circuit, SHAPES)(hidden)]
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(both)))


def sequential():
    quantum = QuantumLayer(circuit, SHAPES)
    return keras.Sequential([keras.layers.Dense(2), quantum, keras.layers.Dense(1)])


@pytest.mark.parametrize("build", [sequential, functional, Subclassed])
def test_models_of_every_kind_learn(build, capsys):
    model = build()
    model.compile(keras.optimizers.Adam(0.05), "mse", steps_per_execution=2)
    x = np.random.default_rng(2).uniform(-1, 1, (32, 2))
    y = np.sin(x[:, 0]) * x[:, 1]
    stop = keras.callbacks.EarlyStopping("loss", patience=3)
    history = model.fit(x, y, batch_size=8, epochs=8, verbose=0, callbacks=[stop])
    losses = history.history["loss"]
    assert losses[-1] < 0.6 * losses[0]
    assert model.predict(x[:7], verbose=0).shape == (7, 1)
    assert model.evaluate(x, y, verbose=0) < losses[0]
    model.summary()
    assert "QuantumLayer" in capsys.readouterr().out


def test_xla_is_declined_with_a_warning():
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model = compiled(QuantumLayer(circuit, SHAPES), jit_compile=True)
    assert np.isfinite(model.train_on_batch(X, X))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("encoding", [embedding, by_sample], ids=lambda f: f.__name__)
def test_physics_informed_training(run_eagerly, encoding):
    """A loss with second derivatives by inputs, then a gradient by weights: third order in all."""

    class Oscillator(keras.Model):
        """Learns u'' = -u."""

        def __init__(self):
            super().__init__()
            self.first, self.last = keras.layers.Dense(2), keras.layers.Dense(1)
            self.quantum = QuantumLayer(encoded(encoding), SHAPES)

        def call(self, inputs):
            return self.last(self.quantum(self.first(inputs)))

        def residual(self, t):
            with tf.GradientTape() as outer:
                outer.watch(t)
                with tf.GradientTape() as inner:
                    inner.watch(t)
                    u = self(t)
                velocity = inner.gradient(u, t)
            return tf.reduce_mean((outer.gradient(velocity, t) + u) ** 2)

        def train_step(self, data):
            t, _ = data
            with tf.GradientTape() as tape:
                residual = self.residual(t)
            weights = self.trainable_weights
            self.optimizer.apply_gradients(
                zip(tape.gradient(residual, weights), weights, strict=True)
            )
            return {"residual": residual}

    model = Oscillator()
    t = np.linspace(0, 1, 6)[:, None].astype("float32")
    model(t)
    # The gradient that training uses, by numerical differences.
    bias = model.quantum.qnode_weights["bias"]
    at, h = float(bias), 1e-2
    differences = []
    for shifted in (at + h, at - h):
        bias.assign(shifted)
        differences.append(float(model.residual(tf.constant(t))))
    bias.assign(at)
    slope = (differences[0] - differences[1]) / (2 * h)

    model.compile(keras.optimizers.SGD(0.01), run_eagerly=run_eagerly)
    history = model.fit(t, t, batch_size=6, epochs=1, verbose=0).history["residual"]
    np.testing.assert_allclose(float(bias), at - 0.01 * slope, atol=2e-5)
    history += model.fit(t, t, batch_size=6, epochs=4, verbose=0).history["residual"]
    assert history[-1] < history[0]


def test_finite_shots_and_their_cost(tracker):
    layer = QuantumLayer(qml.set_shots(circuit, 2000), SHAPES)
    outputs = layer(X)
    assert not np.array_equal(outputs, layer(X))
    np.testing.assert_allclose(outputs, values(layer), atol=0.15)
    model = compiled(layer)
    tracker.reset()
    model.fit(X, X, batch_size=5, verbose=0)
    assert tracker.totals["shots"] == 2000 * tracker.totals["circuits"] > 0


@pytest.mark.parametrize(
    "policy, variables, outputs, tolerance",
    [
        ("float32", "float32", "float32", 1e-6),
        ("float64", "float64", "float64", 1e-12),
        ("mixed_float16", "float32", "float16", 1e-3),
        ("mixed_bfloat16", "float32", "bfloat16", 1e-2),
    ],
)
def test_dtype_policies(policy, variables, outputs, tolerance):
    layer = QuantumLayer(circuit, SHAPES, dtype=policy)
    model = compiled(layer, keras.layers.Dense(2, dtype=policy))
    assert {w.dtype for w in layer.weights} == {variables}
    output = layer(X)
    assert output.dtype.name == outputs == layer(keras.KerasTensor((5, 2))).dtype
    reference = values(layer)
    np.testing.assert_allclose(tf.cast(output, tf.float64), reference, atol=tolerance)
    model.fit(X, X, verbose=0)
    assert not np.array_equal(values(layer), reference)


# --- saving and loading ---


def test_config_is_plain_data_and_makes_the_same_layer():
    specs = {"bias": {"initializer": keras.initializers.Constant(0.3), "regularizer": "l1"}}
    layer = QuantumLayer(circuit, SHAPES, 2, specs, name="quantum")
    config = json.loads(json.dumps(layer.get_config()))
    assert config["qnode"] == "tests>circuit"
    again = QuantumLayer.from_config(config)
    assert again.get_config() == layer.get_config()
    assert again.qnode is circuit
    np.testing.assert_allclose(again.qnode_weights["bias"], 0.3)
    assert float(again.losses[0]) == pytest.approx(0.003)


def test_clones_and_copies_share_no_weights():
    model = compiled(QuantumLayer(circuit, SHAPES))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(X), model(X))
    clone.layers[0].qnode_weights["bias"].assign_add(1.0)
    assert not np.array_equal(clone(X), model(X))


def test_a_saved_model_holds_no_code(tmp_path):
    model = trained(QuantumLayer(circuit, SHAPES), keras.layers.Dense(2))
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        assert "tests>circuit" in archive.read("config.json").decode()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


def test_saving_weights_alone_needs_no_registration(tmp_path):
    model = compiled(QuantumLayer(encoded(embedding), SHAPES))
    other = compiled(QuantumLayer(encoded(embedding), SHAPES))
    assert not np.array_equal(model(X), other(X))
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(model(X), other(X))


@pytest.mark.parametrize("where", ["lambda", "local"])
def test_what_cannot_be_found_again_is_not_saved(where, tmp_path):
    node = encoded(embedding)
    if where == "lambda":
        node = qshift.qnode(DEVICE)(lambda inputs: qml.expval(qml.Z(0)))
    model = compiled(QuantumLayer(node, SHAPES if where == "local" else {}))
    with pytest.raises(ValueError, match=r"cannot be saved.*@qshift.keras.register"):
        model.save(tmp_path / "model.keras")


def test_loading_without_the_circuit_says_what_to_do(tmp_path):
    model = trained(QuantumLayer(qshift.qnode(DEVICE)(unregistered), {"w": 1}))
    model.save(tmp_path / "model.keras")
    with pytest.raises((ValueError, TypeError), match="custom_objects={'unregistered': the_qnode"):
        keras.models.load_model(tmp_path / "model.keras")
    node = qshift.qnode(DEVICE)(unregistered)
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"unregistered": node}
    )
    assert loaded.layers[0].qnode is node
    np.testing.assert_array_equal(model(X), loaded(X))
    with pytest.raises((ValueError, TypeError), match="takes a qnode, got function"):
        keras.models.load_model(
            tmp_path / "model.keras", custom_objects={"unregistered": unregistered}
        )


def unregistered(inputs, w):
    qml.RX(inputs[0] + w, wires=0)
    qml.RX(inputs[1] + w, wires=1)
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]


def test_registration():
    with pytest.raises(TypeError, match="above @qshift.qnode"):
        qshift.keras.register(unregistered)
    with pytest.raises(ValueError, match="lambda has no name"):
        qshift.keras.register(qshift.qnode(DEVICE)(lambda inputs: qml.expval(qml.Z(0))))
    first = encoded(embedding)
    assert qshift.keras.register(package="tests", name="first")(first) is first
    assert QuantumLayer(first, SHAPES).get_config()["qnode"] == "tests>first"
    with pytest.raises(ValueError, match="'tests>first', which is .*encoded.<locals>.node already"):
        qshift.keras.register(qshift.qnode(DEVICE)(unregistered), package="tests", name="first")
    # The same function defined again takes its place, and the earlier one is not found any more.
    second = qshift.keras.register(encoded(embedding), package="tests", name="first")
    assert QuantumLayer(second, SHAPES).get_config()["qnode"] == "tests>first"
    with pytest.raises(ValueError, match="was registered anew since"):
        keras.saving.serialize_keras_object(QuantumLayer(first, SHAPES))


def test_keras_own_registration_serves_as_well(tmp_path):
    node = keras.saving.register_keras_serializable("tests", "own")(qml.QNode(unregistered, DEVICE))
    model = trained(QuantumLayer(node, {"w": 1}))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(X), loaded(X))


CIRCUITS = """
import pennylane as qml
import qshift

@qshift.keras.register
@qshift.qnode(qshift.device("simulator"))
def circuit(inputs, weights):
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.StronglyEntanglingLayers(weights, wires=range(2))
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]
"""

BUILD = """
import keras, numpy as np
from circuits_of_mine import circuit
import qshift

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).uniform(-1, 1, (24, 2)); y = x[:, 0] * x[:, 1]
specs = {"weights": {"initializer": "random_normal"}}
model = keras.Sequential([
    keras.layers.Dense(2),
    qshift.keras.QuantumLayer(circuit, {"weights": (2, 2, 3)}, weight_specs=specs),
    keras.layers.Dense(1),
])
model.compile("adam", "mse")
model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
model.save("model.keras")
model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
np.save("continued.npy", model.predict(x, verbose=0))
"""

CONTINUE = """
import keras, numpy as np
import circuits_of_mine

x = np.random.default_rng(0).uniform(-1, 1, (24, 2)); y = x[:, 0] * x[:, 1]
model = keras.models.load_model("model.keras")
model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
np.testing.assert_allclose(model.predict(x, verbose=0), np.load("continued.npy"), atol=1e-6)
print("continued after", int(model.optimizer.iterations), "steps")
"""


def test_a_tour_build_fit_save_load_in_a_fresh_process_and_continue(tmp_path):
    (tmp_path / "circuits_of_mine.py").write_text(CIRCUITS)
    for program in (BUILD, CONTINUE):
        run = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", "-c", program],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
    assert "continued after 12 steps" in run.stdout


def test_keras_loads_only_when_named():
    program = (
        "import sys, qshift; assert 'keras' in dir(qshift); assert 'keras' not in sys.modules; "
        "qshift.qnode; assert 'qshift.keras' not in sys.modules; "
        "qshift.keras.QuantumLayer; assert 'keras' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=environment())


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(qshift.__file__).parents[1])}


# --- a classifier ---


def test_a_hybrid_classifier_learns_real_data():
    """The two thirds of the wines that are trained on tell the cultivar of nearly all others."""
    data, labels = load_wine(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        data, labels, train_size=60, stratify=labels, random_state=0
    )
    scaler = MinMaxScaler((-1, 1)).fit(x)
    x, x_test = scaler.transform(x), scaler.transform(x_test)

    @qshift.qnode(qshift.device("simulator", wires=3))
    def node(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(3), rotation="Y")
        qml.StronglyEntanglingLayers(weights, wires=range(3))
        return [qml.expval(qml.Z(wire)) for wire in range(3)]

    model = keras.Sequential(
        [
            keras.Input((13,)),
            keras.layers.Dense(3, activation=lambda z: np.pi / 2 * keras.ops.tanh(z)),
            QuantumLayer(node, {"weights": (2, 3, 3)}),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x, y, epochs=20, batch_size=20, verbose=0)
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    assert accuracy >= 0.93


# --- what is not known while `fit` is traced ---

EMBEDDINGS = {
    "amplitudes": (4, lambda x: qml.AmplitudeEmbedding(x, wires=[0, 1], normalize=True)),
    "padded": (3, lambda x: qml.AmplitudeEmbedding(x, wires=[0, 1], pad_with=0.1, normalize=True)),
    "state": (4, lambda x: qml.StatePrep(x, wires=[0, 1], normalize=True)),
    "padded state": (3, lambda x: qml.StatePrep(x, wires=[0, 1], pad_with=0.0, normalize=True)),
    "length": (2, lambda x: [qml.RX(x[i], wires=i) for i in range(len(x))]),
    "loop": (2, lambda x: [qml.RX(a, wires=i) for i, a in enumerate(np.pi * x)]),
    "unpacked": (2, lambda x: [qml.RY(a + b, wires=0) for a, b in [2 * x]]),
    "reshaped": (4, lambda x: [qml.RX(a, wires=0) for a in tf.reshape(x, [2, 2])[1]]),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_in_fit_and_predict(name):
    features, embed = EMBEDDINGS[name]

    @qshift.qnode(DEVICE)
    def node(inputs, w):
        embed(inputs)
        qml.BasicEntanglerLayers(w, wires=[0, 1])
        return qml.expval(qml.Z(0))

    layer = QuantumLayer(node, {"w": (1, 2)})
    model = compiled(layer, features=features)
    x = np.random.default_rng(0).uniform(0.1, 1, (5, features)).astype("float32")
    w = tf.convert_to_tensor(layer.qnode_weights["w"])
    expected = [node(tf.constant(sample), w) for sample in x]
    np.testing.assert_allclose(np.ravel(model(x)), expected, atol=1e-6)
    np.testing.assert_allclose(np.ravel(model.predict(x, verbose=0)), expected, atol=1e-6)
    before = layer.get_weights()[0]
    model.fit(x, np.ones(5), batch_size=2, verbose=0)
    assert not np.array_equal(layer.get_weights()[0], before)


def bits(inputs, w):
    qml.BasisEmbedding(inputs, wires=[0, 1])
    qml.BasicEntanglerLayers(w, wires=[0, 1])
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]


def test_bits_as_inputs():
    node = qshift.qnode(DEVICE)(bits)
    layer = QuantumLayer(node, {"w": (1, 2)})
    model = compiled(layer)
    x = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1]], "float32")
    w = tf.convert_to_tensor(layer.qnode_weights["w"])
    expected = [node(tf.constant(sample.astype(int)), w) for sample in x]
    np.testing.assert_allclose(model(x), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)
    model.fit(x, np.ones((5, 2)), verbose=0)


def test_sparse_inputs():
    layer = QuantumLayer(qshift.qnode(DEVICE)(bits), {"w": (1, 2)})
    model = keras.Sequential([keras.Input((2,), sparse=True), layer])
    model.compile("sgd", "mse")
    x = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], "float32")
    sparse = tf.sparse.from_dense(x)
    np.testing.assert_allclose(model(sparse), layer(x), atol=1e-6)
    np.testing.assert_allclose(model.predict(sparse, verbose=0), layer(x), atol=1e-6)
    model.fit(sparse, np.ones((4, 2)), verbose=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_amplitudes_out_of_a_layer(frozen):
    """Keras watches a frozen layer's weights as well, but nobody differentiates by them."""

    @qshift.qnode(DEVICE)
    def node(inputs, w):
        qml.AmplitudeEmbedding(inputs, wires=[0, 1], normalize=True)
        qml.BasicEntanglerLayers(w, wires=[0, 1])
        return qml.expval(qml.Z(0))

    dense = keras.layers.Dense(4, trainable=not frozen)
    layer = QuantumLayer(node, {"w": (1, 2)})
    model = keras.Sequential([keras.Input((3,)), dense, layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.random.default_rng(0).uniform(0.1, 1, (6, 3)).astype("float32")
    if not frozen:
        with pytest.raises(tf.errors.InvalidArgumentError, match="AmplitudeEmbedding was asked"):
            model.fit(x, np.ones(6), verbose=0)
        return
    w = tf.Variable(layer.get_weights()[0])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((node(tf.stop_gradient(dense(x)), w) - 1.0) ** 2)
    expected = w - 0.1 * tape.gradient(loss, w)
    model.fit(x, np.ones(6), batch_size=6, verbose=0)
    np.testing.assert_allclose(layer.get_weights()[0], expected, atol=1e-5)


# --- copies ---


@pytest.mark.parametrize("registered", [True, False])
def test_copies_of_layers_and_models(registered, tmp_path):
    node = circuit if registered else qshift.qnode(DEVICE)(lambda inputs, w, bias: bits(inputs, w))
    shapes = SHAPES if registered else {"w": (1, 2), "bias": 1}
    layer = QuantumLayer(node, shapes)
    model = trained(layer) if registered else keras.Sequential([keras.Input((2,)), layer])
    copied = copy.deepcopy(layer)
    assert copied.qnode is layer.qnode
    x = X if registered else np.array([[0, 1], [1, 1.0]])
    np.testing.assert_array_equal(copied(x), layer(x))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), model(x))
    for each in (layer, model):
        for way in (copy.copy, copy.deepcopy, cloudpickled, pickled):
            if way is pickled and not registered:
                with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
                    way(each)
                continue
            again = way(each)
            np.testing.assert_array_equal(again(x), each(x))
            again.set_weights([w + 1 for w in again.get_weights()])
            assert not np.array_equal(again(x), each(x))
    if not registered:  # copies need not be saved, and cannot be
        with pytest.raises(ValueError, match="@qshift.keras.register"):
            copy.copy(model).save(tmp_path / "model.keras")


def cloudpickled(each):
    return pickle.loads(cloudpickle.dumps(each))


def pickled(each):
    return pickle.loads(pickle.dumps(each))


def test_copies_of_models_share_the_qnode():
    node = qshift.qnode(DEVICE)(unregistered)
    for way in (copy.copy, copy.deepcopy):
        assert way(keras.Sequential([QuantumLayer(node, {"w": 1})])).layers[0].qnode is node


@pytest.mark.parametrize("way", ["export", "saved_model"])
def test_a_model_is_no_saved_model(way, tmp_path):
    model = trained(QuantumLayer(circuit, SHAPES))
    with pytest.raises(qshift.UnsupportedError, match="SavedModel cannot hold"):
        if way == "export":
            model.export(tmp_path / "model", verbose=False)
        else:
            tf.saved_model.save(model, str(tmp_path / "model"))
