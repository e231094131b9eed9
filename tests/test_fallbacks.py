"""What runs in a slower way says so, once, and gives the same results."""

import warnings

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift import fallbacks
from qshift.executors.simulator import simulation
from qshift.fallbacks import warn_slower

X = tf.constant(0.4, tf.float64)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    fallbacks._warn_once.cache_clear()


def circuit(body=lambda: None, diff_method="best"):
    @qshift.qnode(qshift.device("simulator"), diff_method=diff_method)
    def function(x):
        qml.RX(x, 0)
        body()
        return qml.expval(qml.Z(0))

    return function


def said_by(call):
    """Returns what is said by two calls, which give derivatives of the cosine."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            np.testing.assert_allclose(call(), [np.cos(0.4), -np.sin(0.4)], atol=1e-9)
    return [str(w.message) for w in seen if issubclass(w.category, qshift.SlowerWarning)]


def test_each_reason_is_given_once():
    with pytest.warns(
        qshift.SlowerWarning, match="Cups are washed, which is slower: KeyError: 'a'"
    ):
        warn_slower("Cups are washed", KeyError("a"))
    warn_slower("Cups are washed", KeyError("a"))
    with pytest.warns(qshift.SlowerWarning, match="slower: no soap"):
        warn_slower("Cups are washed", "no soap")


def test_what_is_usual_says_nothing():
    assert said_by(lambda: qshift.derivatives(circuit(), X)) == []


def test_a_circuit_that_the_simulator_does_not_cover():
    def body():
        qml.StatePrep(np.array([1.0, 0.0]), wires=1)

    (said,) = said_by(lambda: qshift.derivatives(circuit(body), X))
    assert "public interface" in said and "StatePrep is not the first gate" in said


def test_a_simulation_that_fails(monkeypatch):
    def fails(*_):
        raise RuntimeError("another release")

    monkeypatch.setattr(simulation, "Simulation", fails)
    (said,) = said_by(lambda: qshift.derivatives(circuit(), X))
    assert "public interface" in said and "RuntimeError: another release" in said


def by_partials(fn):
    return qshift.derivatives(fn, X, partials=[(), (0,)])


def by_minimize(fn):
    point = qshift.minimize(fn, 0.4, steps=0, progress=False)
    return point.value, -point.gradient_norm


@pytest.mark.parametrize("call", [by_partials, by_minimize])
def test_functions_that_cannot_be_compiled(call):
    function = circuit()

    def looks_at_numbers(x):
        return function(x) if x.numpy() > 0 else -function(x)

    (said,) = said_by(lambda: call(looks_at_numbers))
    assert "cannot be compiled and runs eagerly, which is slower: AttributeError" in said
