"""Checkpoints: what they keep, and whom they refuse."""

import json

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.optimize.checkpoint import Checkpoint, CheckpointError, State, identify
from qshift.optimize.result import Point

X = np.array([0.1, 0.3])


def test_a_state_comes_back_exactly(tmp_path):
    points = [Point(np.array([[0.1, 1 / 3]]), -0.1, 0.2, None, 5), Point(X, np.pi, 0.0, -1e-17, 8)]
    memory = {"step": 2, "first": np.array([1e-300, np.e])}
    checkpoint = Checkpoint(tmp_path / "run.json", {"rate": 0.1, "numbers": [0.3]})
    assert checkpoint.load() is None
    for x in (X / 3, np.array(0.7), None):
        checkpoint.save(State(x, points, memory))
        state = checkpoint.load()
        np.testing.assert_equal([state.x, state.memory], [x, memory])
        np.testing.assert_equal([vars(p) for p in state.history], [vars(p) for p in points])
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_a_failing_write_leaves_the_last_one(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run.json", {})
    checkpoint.save(State(X))
    with pytest.raises(TypeError):
        checkpoint.save(State(X, memory={"step": object()}))
    np.testing.assert_array_equal(checkpoint.load().x, X)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"run": 1, "state": {}}',
        '{"run": {}, "state": {"y": 1}}',
        '{"run": {}, "state": {"x": null, "history": [{"x": 1}]}}',
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, text):
    file = tmp_path / "notes.txt"
    file.write_text(text)
    with pytest.raises(CheckpointError, match="notes.txt is not a checkpoint.*delete this one"):
        Checkpoint(file, {}).load()
    assert file.read_text() == text


def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    with pytest.raises(CheckpointError, match="run.json cannot be written: no such directory"):
        Checkpoint(tmp_path / "nowhere" / "run.json", {}).load()


@pytest.mark.parametrize(
    "changed, difference",
    [
        ({"rate": 0.2}, "rate is 0.1 there and 0.2 here"),
        ({"seed": 3}, "seed is None there and 3 here"),
        ({"function": "g"}, "its function is another one"),
        ({"numbers": [1.0, 2.001]}, "its function is another one"),
        ({"numbers": [1.0]}, "its function is another one"),
        ({"numbers": [1.0, 2.0 + 1e-12]}, None),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changed, difference):
    run = {"rate": 0.1, "seed": None, "function": "f", "numbers": [1.0, 2.0]}
    file = tmp_path / "run.json"
    Checkpoint(file, run).save(State(X))
    before = file.read_text()
    if difference is None:
        assert Checkpoint(file, run | changed).load() is not None
        return
    with pytest.raises(CheckpointError, match=f"of another run: {difference}.*start over"):
        Checkpoint(file, run | changed).load()
    assert file.read_text() == before


# What tells functions apart

WORDS = [qml.Z(0), qml.X(1)]
HERMITIAN = np.array([[1, 2j], [-2j, 0.5]])


def circuit(observable=None, gate=qml.RX, wire=0, angle=0.2, measure=qml.expval):
    def function(x):
        gate(x[0], wires=wire)
        qml.RY(angle, wires=0)
        middle = qml.measure(0)
        qml.cond(middle, qml.RX)(x[1], wires=1)
        return measure(observable if observable is not None else qml.Z(0))

    return function


def identified(function, **settings):
    qnode = qshift.qnode(qshift.device("simulator"), **settings)(function)
    return json.loads(json.dumps(identify(qnode, X)))


@pytest.mark.parametrize(
    "key, function, settings",
    [
        ("function", circuit(gate=qml.RZ), {}),
        ("function", circuit(wire=1), {}),
        ("function", circuit(qml.Z(1)), {}),
        ("function", circuit(measure=qml.var), {}),
        ("function", circuit(qml.Hermitian(HERMITIAN, 0)), {}),
        ("function", circuit(0.5 * qml.Z(0) @ qml.Z(1) + 0.3 * qml.X(0)), {}),
        ("numbers", circuit(angle=0.21), {}),
        ("shots", circuit(), {"shots": 10}),
        ("seed", circuit(), {"seed": 3}),
        (None, circuit(), {}),
    ],
)
def test_circuits_are_told_apart(key, function, settings):
    first, second = identified(circuit()), identified(function, **settings)
    assert [name for name in first if first[name] != second[name]][:1] == [key] * (key is not None)


@pytest.mark.parametrize(
    "one, other",
    [
        (qml.Hermitian(HERMITIAN, 0), qml.Hermitian(HERMITIAN.conj(), 0)),
        (0.5 * qml.Z(0) + 0.3 * qml.X(0), 0.5 * qml.Z(0) + 0.31 * qml.X(0)),
        (qml.Hamiltonian([1, 2], WORDS), qml.Hamiltonian([2, 1], WORDS)),
    ],
)
def test_coefficients_are_told_apart(one, other):
    first, second = identified(circuit(one)), identified(circuit(other))
    assert first["function"] == second["function"] and first["numbers"] != second["numbers"]


def test_other_functions_are_known_by_name_and_source():
    assert identify(tf.sin, X) == identify(tf.sin, X) != identify(tf.cos, X)
    one, other = (lambda x: x[0] + 1.0), (lambda x: x[0] + 2.0)
    assert identify(circuit, X) != identify(identified, X)
    assert set(identify(one, X)) == {"function"} and identify(other, X) == identify(other, X)
