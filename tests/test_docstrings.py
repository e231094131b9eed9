"""Every public name says what it takes, gives and raises, and has an example that runs."""

import doctest
import importlib
import inspect

import keras
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.executors import registry

# The modules beside the package's face that users are told to import from.
MODULES = {
    "qshift.keras": ["QuantumLayer", "register"],
    "qshift.ledger": ["Ledger", "LedgerError"],
    "qshift.executors.executor": ["Executor"],
    "qshift.executors.registry": ["register"],
    "qshift.executors.qiskit.device": ["EstimatorDevice"],
}
PUBLIC = {f"qshift.{name}": getattr(qshift, name) for name in qshift.__all__}
PUBLIC |= {
    f"{module}.{name}": getattr(importlib.import_module(module), name)
    for module, names in MODULES.items()
    for name in names
}


def arguments(public):
    """Returns the arguments of a function, or of a class's constructor."""
    if isinstance(public, type) and issubclass(public, Exception):
        return []
    function = public.__init__ if isinstance(public, type) else public
    if not inspect.isfunction(function):
        function = public
    parameters = inspect.signature(function).parameters
    return [name for name in parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_explained(name):
    text = inspect.getdoc(PUBLIC[name])
    assert "\nExample:\n" in text and ">>> " in text
    if named := arguments(PUBLIC[name]):
        assert "\nArgs:\n" in text or "\nAttributes:\n" in text
        missing = [each for each in named if f"{each}:" not in text and f"{each}," not in text]
        assert not missing


@qshift.qnode(qml.device("default.qubit"))
def circuit(x, weights):
    """A model of one number, in batches."""
    qml.RX(x, wires=0)
    qml.RY(weights[0], wires=0)
    return qml.expval(qml.Z(0))


@qshift.qnode(qml.device("default.qubit"))
def energy(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


# What examples have from the text around them.
AROUND = {
    "qshift": qshift,
    "qml": qml,
    "np": np,
    "tf": tf,
    "keras": keras,
    "circuit": circuit,
    "energy": energy,
    "x": tf.constant([0.1, 0.2], tf.float64),
    "weights": tf.constant([0.3], tf.float64),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_makers", dict(registry._makers))
    names = {**AROUND, "__name__": __name__}  # and nothing of the module that the name is from
    test = doctest.DocTestParser().get_doctest(PUBLIC[name].__doc__, names, name, None, 0)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    said = []
    doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert test.examples and not said, "".join(said)
