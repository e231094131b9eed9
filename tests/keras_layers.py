"""Circuits and models for tests of the Keras layer."""

import warnings

import keras
import numpy as np
import pennylane as qml
import tensorflow as tf

import qshift

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
@qshift.qnode(DEVICE, diff_method="shift")  # so that tests count shifted circuits
def circuit(inputs, weights, bias):
    qml.AngleEmbedding(inputs, wires=range(2))
    ansatz(weights, bias)
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]


def values(layer, inputs=X):
    """The same outputs from PennyLane, a sample at a time."""
    node = qml.QNode(layer.qnode.func, DEVICE)
    weights = {name: weight.numpy() for name, weight in layer.qnode_weights.items()}
    with warnings.catch_warnings():  # of functions that make tensors of their inputs
        warnings.simplefilter("ignore", qml.exceptions.PennyLaneDeprecationWarning)
        return np.array([np.hstack(node(inputs=x, **weights)) for x in np.asarray(inputs, float)])


def trained(*layers):
    """A model with an optimizer that has a state, as Keras needs it to load a model again."""
    model = compiled(*layers)
    model.train_on_batch(X, X)
    return model


def compiled(layer, *after, features=2, **kwargs):
    model = keras.Sequential([keras.Input((features,)), layer, *after])
    model.compile("adam", "mse", **kwargs)
    return model


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
    @qshift.qnode(device, **{"diff_method": "shift", **kwargs})
    def node(inputs, weights, bias):
        encoding(inputs)
        ansatz(weights, bias)
        return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]

    return node


def bits(inputs, w):
    qml.BasisEmbedding(inputs, wires=[0, 1])
    qml.BasicEntanglerLayers(w, wires=[0, 1])
    return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]
