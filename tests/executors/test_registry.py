"""Which executor a device gets, and executors of a user's own."""

import pathlib
import re
import sys

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from references import OwnDevice

import qshift
from qshift.executors import registry
from qshift.executors.executor import Executor
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.registry import register

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "pennylane.md"


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Forgets what a test registers."""
    monkeypatch.setattr(registry, "_makers", dict(registry._makers))


class Constant(Executor):
    """Values that do not depend on anything."""

    takes_seed = True

    def run(self, circuit, points, call):
        return np.full((len(points), circuit.num_values), 0.25)


def value(device, **options):
    @qshift.qnode(device, **options)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    return float(circuit(tf.constant(0.3, tf.float64)))


def test_devices_that_nobody_has_registered():
    assert type(registry.executor(OwnDevice())) is PennyLaneExecutor
    np.testing.assert_allclose(value(OwnDevice()), np.cos(0.3))


def test_one_line():
    assert register("tests.own", Constant) is Constant
    assert value(OwnDevice()) == 0.25
    np.testing.assert_allclose(value(qml.device("default.qubit")), np.cos(0.3))


def test_a_decorator():
    @register("tests.own")
    class Decorated(Constant):
        pass

    assert type(registry.executor(OwnDevice())) is Decorated


def test_a_function_that_makes_executors():
    @register("tests.own")
    def make(device, seed):
        assert isinstance(device, OwnDevice)
        return Constant(device, seed)

    made = registry.executor(OwnDevice(), 5)
    assert type(made) is Constant and made.seed == 5


def test_the_last_registration_holds():
    before = registry.executor(OwnDevice())
    register("tests.own", Constant)

    @register("tests.own")
    class Another(Constant):
        pass

    assert type(registry.executor(OwnDevice())) is Another
    assert type(before) is PennyLaneExecutor


def test_in_place_of_our_own():
    register("lightning.qubit", PennyLaneExecutor)
    assert type(registry.executor(qml.device("lightning.qubit"))) is PennyLaneExecutor


def test_what_is_no_registration():
    with pytest.raises(TypeError, match=r'@register\("NAME"\)'):

        @register
        class Unnamed(Constant):
            pass

    with pytest.raises(TypeError, match="'tests.own'.* was given 5. Give a subclass"):
        register("tests.own", 5)
    register("tests.own", lambda device, seed: "an executor")
    with pytest.raises(TypeError, match="tests.own made 'an executor'. Let it return"):
        registry.executor(OwnDevice())


def test_qiskit_is_imported_only_for_its_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "qshift.executors.qiskit.estimator", None)
    for name in ("default.qubit", "lightning.qubit"):
        registry.executor(qml.device(name))
    device = OwnDevice()
    device.name = "qshift.estimator"
    with pytest.raises(ImportError):
        registry.executor(device)


def test_the_example_in_the_docs():
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names = {}
    exec(compile(snippet, str(DOCS), "exec"), names)
    found = [names[name] for name in ("value", "slope", "curvature")]
    np.testing.assert_allclose(found, [np.cos(0.3), -np.sin(0.3), -np.cos(0.3)], atol=1e-12)
    assert type(registry.executor(names["MyDevice"]())) is names["MyExecutor"]
