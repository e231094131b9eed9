"""All points at once, against one after the other and against default.qubit."""

import dataclasses
import functools
import gc
import tracemalloc
import weakref

import numpy as np
import pennylane as qml
import pytest
from random_circuits import RandomCircuit
from references import angles, compiled, exact, random_points

from qshift.executors import registry
from qshift.executors.simulator import pauli_rotations, simulator
from qshift.executors.simulator.simulator import SimulatorExecutor
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

AT_ONCE = Thresholds(fewest_values=(0,) * 8, fewest_gradients=(0,) * 8)
NEVER = Thresholds(fewest_values=(), fewest_gradients=())
WAYS = {
    "at once": AT_ONCE,
    "in chunks": dataclasses.replace(AT_ONCE, most_numbers=2**8, most_fused=2**10),
    "never": Thresholds(fewest_values=(np.inf,) * 8, fewest_gradients=(np.inf,) * 8),
}
chosen = {"thresholds": DEFAULT}  # by the fixture


def executor(seed=None, thresholds=None):
    thresholds = thresholds or chosen["thresholds"]
    return SimulatorExecutor(qml.device("lightning.qubit"), seed, thresholds)


@pytest.fixture(params=list(WAYS))
def always(request, monkeypatch):
    """Whether points are run at once, however few they are, or one after the other."""
    thresholds = WAYS[request.param]
    monkeypatch.setitem(chosen, "thresholds", thresholds)
    monkeypatch.setattr(registry, "_makers", dict(registry._makers))
    registry.register(
        "lightning.qubit", functools.partial(SimulatorExecutor, thresholds=thresholds)
    )
    ran = []
    for name in ("probabilities", "gradients"):
        method = getattr(pauli_rotations.Rotations, name)

        def counted(self, points, method=method, name=name):
            ran.append((name, len(points)))
            return method(self, points)

        monkeypatch.setattr(pauli_rotations.Rotations, name, counted)
    return ran if request.param != "never" else None


def layers(wires, measurements, adjoint=True, depth=2, start=()):
    """Layers of rotations and CNOTs; every tenth gate is something else."""
    theta = iter(angles(depth * 3 * wires + 2))
    ops = list(start)
    for _ in range(depth):
        for wire in range(wires):
            ops += [qml.RZ(next(theta), wire), qml.RX(next(theta), wire)]
        ops += [qml.RY(next(theta), wire) for wire in range(wires)]
        if wires > 1:
            ops += [qml.CNOT([wire, (wire + 1) % wires]) for wire in range(wires)]
            ops += [
                qml.CRX(next(theta), [0, wires - 1]),
                qml.T(0),
                qml.IsingXY(0.4, [wires - 1, 0]),
            ]
    return compiled(ops, measurements, adjoint=adjoint)


def observables(wires):
    words = qml.Z(0) @ qml.X(wires - 1) if wires > 1 else qml.X(0)
    return [qml.expval(words - 0.3 * qml.Y(0)), qml.expval(qml.Z(wires - 1)), qml.expval(qml.I(0))]


def points_of(circuit, moving, count=7):
    """Points that agree in all but the columns `moving`."""
    points = np.repeat(random_points(circuit, 1), count, axis=0)
    points[:, moving] = random_points(circuit, count, 1)[:, moving]
    return points


def slopes(circuit, points, step=1e-5):
    """Central differences: float64[N, M, P]."""
    moves = step * np.concatenate([np.eye(points.shape[1]), -np.eye(points.shape[1])])
    values = exact(circuit, (points[:, None] + moves).reshape(-1, points.shape[1]))
    plus, minus = np.split(values.reshape(len(points), len(moves), -1), 2, axis=1)
    return (plus - minus).swapaxes(1, 2) / (2 * step)


MOVING = {
    "all": slice(None),
    "none": [],
    "the first": slice(0, 2),
    "the last": [-1],
    "some": [0, 3, 4, 5],
}


@pytest.mark.parametrize("wires", [1, 2, 4])
@pytest.mark.parametrize("moving", MOVING)
def test_values_and_gradients(wires, moving, always):
    circuit = layers(wires, observables(wires))
    points = points_of(circuit, MOVING[moving])
    run = executor()
    np.testing.assert_allclose(run(circuit, points), exact(circuit, points), rtol=0, atol=1e-12)
    gradients = run.gradients(circuit, points)
    assert gradients.shape == (len(points), 3, circuit.num_parameters)
    np.testing.assert_allclose(gradients, slopes(circuit, points), atol=1e-8)
    if always is not None:
        assert always == [("probabilities", len(points)), ("gradients", len(points))]


@pytest.mark.parametrize("wires", [3, 5, 7])
def test_the_same_numbers_as_one_point_after_the_other(wires):
    circuit = layers(wires, observables(wires))
    points = points_of(circuit, slice(0, 4), 60)
    at_once = executor()(circuit, points), executor().gradients(circuit, points)
    run = executor(thresholds=NEVER)
    one_by_one = run(circuit, points), run.gradients(circuit, points)
    for found, expected in zip(at_once, one_by_one, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_measurements(always):
    measurements = [
        qml.probs(wires=[2, 0]),
        qml.expval(qml.Hermitian(np.array([[1.0, 0.3j], [-0.3j, -0.5]]), wires=1)),
        qml.probs(op=qml.X(1) @ qml.Y(0)),
        qml.expval(qml.Y(2) @ qml.X(0)),
    ]
    circuit = layers(3, measurements, adjoint=False)
    points = random_points(circuit, 5)
    np.testing.assert_allclose(executor()(circuit, points), exact(circuit, points), atol=1e-12)


STARTS = {
    "basis state": [qml.BasisState([1, 0, 1], wires=[0, 1, 2])],
    "state": [qml.StatePrep(np.arange(1, 9) * (1 - 0.5j), wires=[0, 1, 2], normalize=True)],
    "gates": [qml.Hadamard(0), qml.RX(0.3, 1), qml.Toffoli([0, 1, 2])],
}


@pytest.mark.parametrize("start", STARTS)
def test_what_comes_before(start, always):
    circuit = layers(3, observables(3), start=STARTS[start])
    points = random_points(circuit, 3)
    run = executor()
    np.testing.assert_allclose(run(circuit, points), exact(circuit, points), atol=1e-12)
    found, expected = run.gradients(circuit, points), slopes(circuit, points)
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_random_circuits(seed, always):
    circuit = RandomCircuit(seed, wires=4, parameters=3, gates=4, measurements=3)
    function = circuit.qshift(qml.device("lightning.qubit"))
    np.testing.assert_allclose(function(circuit.theta), circuit.numpy()(circuit.theta), atol=1e-9)


def test_a_parameter_of_several_words_and_constants():
    a, b = angles(2)
    ops = [qml.Hadamard(0), qml.RX(0.4, 1), qml.DoubleExcitation(a, range(4)), qml.CRZ(b, [0, 3])]
    circuit = compiled(ops, [qml.expval(qml.X(0) @ qml.Z(3))], adjoint=True)
    points = random_points(circuit, 40)
    found, expected = executor().gradients(circuit, points), slopes(circuit, points)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_few_points_and_many_wires_go_one_by_one(monkeypatch):
    ran = []
    for name in ("probabilities", "gradients"):
        method = getattr(pauli_rotations.Rotations, name)

        def counted(self, points, method=method, name=name):
            ran.append((name, self._wires, len(points)))
            return method(self, points)

        monkeypatch.setattr(pauli_rotations.Rotations, name, counted)
    run = executor()
    for wires in (3, 9):
        circuit = layers(wires, observables(wires), depth=1)
        for count in (1, 60):
            run(circuit, random_points(circuit, count))
            run.gradients(circuit, random_points(circuit, count))
    assert ran == [("probabilities", 3, 60), ("gradients", 3, 60)]


def test_values_use_what_gradients_have_fused():
    circuit, run = layers(3, observables(3)), executor()
    points = points_of(circuit, [0], DEFAULT.fewest_gradients[3] + 1)
    alone = run(circuit, points)
    assert not run._programs[circuit].rotations  # too few values
    run.gradients(circuit, points)
    found = run._programs[circuit].rotations
    assert found.pay(len(points), False)
    known = dict(found._fused)
    np.testing.assert_allclose(run(circuit, points), alone, atol=1e-12)
    assert known and found._fused == known


def test_gates_that_are_not_covered_go_one_by_one(always):
    a, b, c = angles(3)
    circuit = compiled([qml.Rot(a, b, c, 0), qml.RX(a, 1)], [qml.expval(qml.Z(0) @ qml.X(1))])
    points = random_points(circuit, 5)
    np.testing.assert_allclose(executor()(circuit, points), exact(circuit, points), atol=1e-12)
    assert not always


def test_seeded_samples_are_the_same_either_way():
    """Also where some outcomes never occur, up to rounding."""
    a, b = angles(2)
    ops = [qml.RX(a, 0), qml.CNOT([0, 1]), qml.Hadamard(2), qml.RZ(b, 2), qml.Hadamard(2)]
    circuit = compiled(ops, [qml.probs(wires=[0, 1, 2]), qml.expval(qml.X(1))], shots=50)
    points = np.random.default_rng(0).choice([0.0, np.pi / 2, np.pi, 0.3], size=(100, 2))
    at_once = executor(3)(circuit, points)
    assert np.array_equal(executor(3, NEVER)(circuit, points), at_once)


def test_memory_is_bounded():
    circuit = layers(6, observables(6))
    run, few = executor(), random_points(circuit, 200)
    many = np.tile(few, (5, 1))
    run.gradients(circuit, few)
    peaks = []
    for points in (few, many):
        tracemalloc.start()
        run.gradients(circuit, points)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    results = 8 * len(many) * 3 * circuit.num_parameters
    assert peaks[1] - peaks[0] < 6 * results
    assert peaks[0] < 2**25


def test_they_do_not_keep_their_circuit():
    circuit = layers(2, observables(2))
    run = executor()
    run.gradients(circuit, random_points(circuit, 50))
    assert isinstance(run._programs[circuit].rotations, pauli_rotations.Rotations)
    reference = weakref.ref(circuit)
    del circuit
    gc.collect()
    assert reference() is None
    assert not len(run._programs)


def test_lightning_uses_them():
    assert simulator.Rotations is pauli_rotations.Rotations
