"""Saved models that find their qnodes again, and copies and pickles that take them along."""

import copy
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import cloudpickle
import fresh
import keras
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from keras_layers import DEVICE, SHAPES, X, bits, circuit, compiled, embedding, encoded, trained

import qshift
from qshift.keras.layer import QuantumLayer


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


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
import warnings
warnings.simplefilter("error", UserWarning)
import keras, numpy as np, qshift
from circuits_of_mine import circuit

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
import warnings
warnings.simplefilter("error", UserWarning)
import keras, numpy as np
import circuits_of_mine

x = np.random.default_rng(0).uniform(-1, 1, (24, 2)); y = x[:, 0] * x[:, 1]
model = keras.models.load_model("model.keras")
model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
np.testing.assert_allclose(model.predict(x, verbose=0), np.load("continued.npy"), atol=1e-6)
print("continued after", int(model.optimizer.iterations), "steps")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A directory with a saved model, and the process that has built it in there."""
    directory = tmp_path_factory.mktemp("built")
    (directory / "circuits_of_mine.py").write_text(CIRCUITS)
    return directory, fresh.run(BUILD, cwd=directory)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("order", ["import keras, qshift", "import qshift; qshift.qnode"])
def test_loading_with_qshift_alone_says_what_is_missing(built, order):
    directory, built_by = built
    assert built_by.returncode == 0, built_by.stderr
    program = f"{order}; import keras; keras.saving.load_model('model.keras')"
    found = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(qshift.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert found.returncode and "Import the module that defines it" in found.stderr


def test_a_tour_build_fit_save_load_in_a_fresh_process_and_continue(built):
    directory, build = built
    assert build.returncode == 0, build.stderr
    run = fresh.run(CONTINUE, cwd=directory)
    assert run.returncode == 0, run.stderr
    assert "continued after 12 steps" in run.stdout


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


def saved(model, way, path):
    if way == "export":
        model.export(path, verbose=False)
    else:
        tf.saved_model.save(model, str(path))


@pytest.mark.parametrize("way", ["export", "saved_model"])
def test_a_saved_model_is_served_without_python_code_of_ours(way, served, tmp_path):
    model = trained(QuantumLayer(circuit, SHAPES))
    saved(model, way, tmp_path / "model")
    batches = {"several": X, "one": X[:1], "none": X[:0], "zeros": 0 * X, "turns": X * 0 + np.pi}
    batches = {name: np.asarray(each, np.float32) for name, each in batches.items()}
    found = served(tmp_path / "model", batches)
    assert len(found) == len(batches)
    for key, result in found.items():
        np.testing.assert_allclose(result, model(batches[key.split()[0]]), atol=1e-5)


@pytest.mark.parametrize("way", ["export", "saved_model"])
def test_a_model_that_needs_python_is_no_saved_model(way, tmp_path):
    model = trained(QuantumLayer(circuit.update(embedded=False), SHAPES))
    with pytest.raises(qshift.UnsupportedError, match="SavedModel cannot hold"):
        saved(model, way, tmp_path / "model")
