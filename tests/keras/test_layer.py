"""The Keras layer: what it is given and returns, training, and what KerasLayer's users do."""

import warnings

import keras
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from keras_layers import (
    DEVICE,
    SHAPES,
    X,
    bits,
    by_sample,
    circuit,
    compiled,
    embedding,
    encoded,
    values,
)
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

import qshift
from qshift.keras.layer import QuantumLayer


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


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


@pytest.mark.one_in(2)
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
    resources = qml.specs(layer.qnode)(X[0], **layer.qnode_weights)["resources"]
    counts = "gate_types" if hasattr(resources, "gate_types") else "counts"  # since 0.46
    assert sum(getattr(resources, counts).values()) > 3
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


def test_users_layers_may_call_circuits_in_models_that_keras_compiles_for_xla():
    @qshift.qnode(qml.device("default.qubit"))
    def rotations(inputs):
        qml.RY(inputs[:, 0], wires=0)
        return qml.expval(qml.Z(0))

    dense = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((2,)), dense, keras.layers.Lambda(rotations)])
    model.compile("sgd", "mse", jit_compile=True)
    with pytest.warns(qshift.QShiftWarning, match="jit_compile=True is left out"):
        values = model.predict(X, verbose=0)
    np.testing.assert_allclose(values, np.cos(X.sum(axis=1)), atol=1e-6)
    before = dense.get_weights()
    with pytest.warns(qshift.QShiftWarning, match="jit_compile=True is left out"):
        model.fit(X, np.ones(len(X)), verbose=0)
    assert (dense.get_weights()[0] != before[0]).all()


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


@pytest.mark.one_in(2)
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


@pytest.mark.one_in(4)
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


@pytest.mark.parametrize(
    "shape, features, message",
    [
        (3, 2, r"sample of shape \(2,\) and weights of the shapes weights \(3,\): IndexError"),
        ((1, 2, 3), 2, None),
    ],
)
def test_weights_of_a_wrong_shape_are_named(shape, features, message):
    @qshift.qnode(qshift.device("simulator"))
    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.StronglyEntanglingLayers(weights, wires=range(2))
        return qml.expval(qml.Z(0))

    layer = qshift.keras.QuantumLayer(circuit, {"weights": shape})
    if message is None:
        assert layer(np.zeros((3, features))).shape == (3,)
        return
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((3, features)))


def test_an_entry_that_weights_do_not_have_is_named():
    @qshift.qnode(qshift.device("simulator"))
    def circuit(inputs, weights):
        qml.RX(inputs[0] + weights[4], wires=0)
        return qml.expval(qml.Z(0))

    layer = qshift.keras.QuantumLayer(circuit, {"weights": 3})
    with pytest.raises(ValueError, match=r"weights \(3,\): InvalidArgumentError: slice index 4"):
        layer(np.zeros((2, 1)))


@pytest.mark.parametrize("value", ["1", "True", "0", None])
def test_legacy_keras_is_noticed(value, monkeypatch):
    def circuit(inputs, weights):
        qml.RX(inputs[0] * weights, wires=0)
        return qml.expval(qml.Z(0))

    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    if value is not None:
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    qnode = qshift.qnode(qshift.device("simulator"))(circuit)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        qshift.keras.QuantumLayer(qnode, {"weights": ()})
    said = [str(each.message) for each in caught if each.category is qshift.QShiftWarning]
    assert len(said) == (value in ("1", "True")) and all("Unset it" in each for each in said)
