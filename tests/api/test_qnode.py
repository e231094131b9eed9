"""The callable a user holds: keywords, structure, plans, other devices and PennyLane's tools."""

import copy
import functools
import gc
import importlib.util
import pickle
import re
import textwrap
import weakref

import cloudpickle
import fresh
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from random_circuits import tape_derivatives

import qshift
from qshift.circuits.pennylane_internals import OPERATORS
from qshift.executors.pennylane import PennyLaneExecutor

DEVICE = qml.device("default.qubit")


def pipeline(qnode):
    """Returns a QNode's transforms: PennyLane 0.44 calls them a transform program."""
    return qnode.compile_pipeline if hasattr(qnode, "compile_pipeline") else qnode.transform_program


def quantum_function(x):
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=1)
    qml.CNOT(wires=[0, 1])
    return qml.expval(qml.Z(1))


X = np.array([0.4, 0.1])
VALUE = np.cos(0.4) * np.cos(0.1)
GRADIENT = np.array([-np.sin(0.4) * np.cos(0.1), -np.cos(0.4) * np.sin(0.1)])
HESSIAN = np.array([[-VALUE, np.sin(0.4) * np.sin(0.1)], [np.sin(0.4) * np.sin(0.1), -VALUE]])


def assert_right(node, order=2):
    got = tape_derivatives(node, X, order)
    for a, b in zip(got, [VALUE, GRADIENT, HESSIAN], strict=False):
        np.testing.assert_allclose(a, b, atol=1e-10)


# --- keywords ---


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match="nonsense"):
        qshift.qnode(DEVICE, nonsense=1)(quantum_function)


def test_what_is_not_a_device_is_refused():
    with pytest.raises(qml.exceptions.QuantumFunctionError, match="[Dd]evice"):
        qshift.qnode("default.qubit")(quantum_function)


@pytest.mark.parametrize(
    "keywords, batches",
    [
        ({}, [1, 4, 3]),
        ({"prefetch": 1}, [5, 0, 3]),
        ({"prefetch": 2}, [8, 0, 0]),
        ({"grad_on_execution": True}, [5, 0, 3]),
    ],
)
def test_prefetch_runs_later_orders_with_the_value(keywords, batches, tracker):
    node = qshift.qnode(DEVICE, diff_method="shift", **keywords)(quantum_function)
    x, counts = tf.Variable(X), []

    def count():
        counts.append(tracker.totals["circuits"])
        tracker.reset()

    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = node(x)
        count()
        gradient = inner.gradient(value, x)
        count()
    hessian = outer.jacobian(gradient, x)
    count()
    assert counts == batches
    np.testing.assert_allclose(hessian, HESSIAN, atol=1e-12)


def test_prefetch_costs_nothing_where_nobody_watches(tracker):
    qshift.qnode(DEVICE, prefetch=3)(quantum_function)(tf.constant(X))
    assert tracker.totals["circuits"] == 1


SAMPLING = pytest.mark.parametrize(
    "name, embedded",
    [
        ("default.qubit", True),
        ("default.qubit", False),
        ("lightning.qubit", True),
        ("lightning.qubit", False),
        ("default.mixed", True),
    ],
)


@SAMPLING
def test_seed_makes_samples_reproducible(name, embedded):
    device = qml.device(name, wires=2)

    def samples(seed):
        on = qshift.qnode(device, shots=100, seed=seed, embedded=embedded)
        node = on(quantum_function)
        return [float(node(tf.constant([1.1, 0.7], tf.float64))) for _ in range(4)]

    assert samples(1) == samples(1)
    assert samples(1) != samples(2)
    assert samples(None) != samples(None)
    assert len(set(samples(1))) > 1


@SAMPLING
def test_a_seed_belongs_to_its_qnode_alone(name, embedded):
    """Another one on the same device neither disturbs it nor becomes reproducible by it."""
    device, x = qml.device(name, wires=2), tf.constant([1.1, 0.7], tf.float64)

    def samples(interrupt):
        on = functools.partial(qshift.qnode, device, shots=1000, embedded=embedded)
        seeded, other = on(seed=5)(quantum_function), on()(quantum_function)
        return [(float(seeded(x)), float(other(x)) if interrupt else 0.0) for _ in range(4)]

    first, second, alone = samples(True), samples(True), samples(False)
    assert [a for a, _ in first] == [a for a, _ in second] == [a for a, _ in alone]
    assert [b for _, b in first] != [b for _, b in second]


# --- shots ---


def test_shots_come_from_the_qnode_or_set_shots(tracker):
    node = qshift.qnode(DEVICE, seed=0)(quantum_function)
    assert node.shots.total_shots is None
    hundred = qml.set_shots(node, 100)
    assert isinstance(hundred, qshift.QNode) and hundred.shots.total_shots == 100
    assert node.shots.total_shots is None
    few, many = qml.set_shots(node, shots=[10, 1000])(tf.constant(X))
    assert few.shape == many.shape == ()
    assert tracker.totals["shots"] == 1010
    hundred(tf.constant(X))
    assert tracker.totals["shots"] == 1110
    assert qml.set_shots(hundred, None).shots.total_shots is None


def test_with_shots_the_plan_is_for_least_variance():
    node = qshift.qnode(DEVICE, diff_method="shift")(quantum_function)
    assert node.plan(X, order=2).objective == "circuits"
    assert qml.set_shots(node, 100).plan(X, order=2).objective == "shots"
    assert node.update(shots=100, objective="circuits").plan(X, order=2).objective == "circuits"


def test_each_call_draws_fresh_samples_and_its_derivatives_share_them():
    node = qshift.qnode(DEVICE, shots=50, diff_method="shift")(quantum_function)
    x = tf.Variable([1.1, 0.7], dtype=tf.float64)
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape(persistent=True) as inner:
            value = node(x)
        first, second = inner.gradient(value, x), inner.gradient(value, x)
    np.testing.assert_array_equal(first, second)
    assert len({float(node(x)) for _ in range(20)}) > 1
    del outer


# --- update, copy ---


def test_update_keeps_what_it_does_not_replace():
    node = qml.transforms.merge_rotations(
        qml.set_shots(qshift.qnode(DEVICE, objective="circuits", prefetch=1)(quantum_function), 100)
    )
    updated = node.update(prefetch=2)
    assert updated is not node and isinstance(updated, qshift.QNode)
    assert (updated.prefetch, updated.objective, updated.shots.total_shots) == (2, "circuits", 100)
    assert "merge_rotations" in str(pipeline(updated))
    assert node.prefetch == 1
    assert updated.update(shots=None).shots.total_shots is None


def test_update_checks_its_keywords():
    node = qshift.qnode(DEVICE)(quantum_function)
    with pytest.raises(qshift.UnsupportedError, match="finite-diff"):
        node.update(diff_method="finite-diff")
    with pytest.raises(TypeError, match="nonsense"):
        node.update(nonsense=1)


def test_update_needs_something_to_replace():
    with pytest.raises(ValueError, match="update.*at least one.*diff_method"):
        qshift.qnode(DEVICE)(quantum_function).update()


def test_shots_stay_when_the_device_is_replaced():
    """As in PennyLane."""
    profile = qshift.device("mixed", wires=2, shots=300)
    with pytest.warns(qml.exceptions.PennyLaneDeprecationWarning):
        hundred, two_hundred = (qml.device("default.qubit", shots=n) for n in (100, 200))
    node = qshift.qnode(hundred)(quantum_function)
    for device in (two_hundred, profile, DEVICE):
        with pytest.warns(UserWarning, match="keeps its own, 100.*update.shots=...."):
            assert node.update(device=device).shots.total_shots == 100
        assert node.update(device=device, shots=7).shots.total_shots == 7
    chosen = qshift.qnode(profile)(quantum_function)
    assert chosen.update(device=DEVICE).shots.total_shots == 300
    assert qml.set_shots(node, 5).update(device=two_hundred).shots.total_shots == 5


def test_copies_work():
    node = qshift.qnode(DEVICE)(quantum_function)
    copied = copy.copy(node)
    assert isinstance(copied, qshift.QNode)
    assert_right(copied)
    assert_right(node)


# --- from_qnode ---


@pytest.mark.parametrize("interface", ["auto", "jax", "autograd", "numpy", "tf", None])
@pytest.mark.parametrize("diff_method", ["best", "backprop", "parameter-shift", "finite-diff"])
def test_from_qnode_takes_qnodes_of_any_interface(interface, diff_method):
    node = qml.qnode(DEVICE, interface=interface, diff_method=diff_method)(quantum_function)
    assert_right(qshift.from_qnode(node))


def test_from_qnode_keeps_shots_device_and_transforms(tracker):
    device = qml.device("lightning.qubit", wires=3)
    node = qml.transforms.cancel_inverses(qml.set_shots(qml.qnode(device)(quantum_function), 50))
    converted = qshift.from_qnode(node)
    assert converted.device is device and converted.shots.total_shots == 50
    assert "cancel_inverses" in str(pipeline(converted))
    converted(tf.constant(X))
    assert tracker.totals["shots"] == 50
    assert qshift.from_qnode(node, shots=None).shots.total_shots is None
    assert qshift.from_qnode(node, objective="circuits").objective == "circuits"


def test_from_qnode_of_our_own_is_itself():
    node = qshift.qnode(DEVICE)(quantum_function)
    assert qshift.from_qnode(node) is node
    assert qshift.from_qnode(node, prefetch=1).prefetch == 1


def pennylanes(device, diff_method):
    return qml.qnode(qml.device(device, wires=1), interface="tf", diff_method=diff_method)(cosine)


def cosine(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


THEIRS = [
    ("default.qubit", "parameter-shift"),
    ("lightning.qubit", "adjoint"),
    ("default.qubit", "finite-diff"),
]


@pytest.mark.parametrize("device, diff_method", THEIRS)
def test_qnodes_of_pennylanes_own_are_converted_where_derivatives_are_asked_for(
    device, diff_method
):
    node, x = pennylanes(device, diff_method), tf.constant(0.4, tf.float64)
    expected = [np.cos(0.4), -np.sin(0.4), -np.cos(0.4), np.sin(0.4)]
    np.testing.assert_allclose(qshift.derivatives(node, x, order=3), expected, atol=1e-12)
    found = qshift.derivatives(node, x, partials=[(), (0,), (0, 0)])
    np.testing.assert_allclose(found, expected[:3], atol=1e-12)
    result = qshift.minimize(node, 2.0, progress=False)
    assert result.converged and result.value == pytest.approx(-1.0)
    qshift.check_derivatives(node, x, order=2)


@pytest.mark.filterwarnings("ignore:Support for the TensorFlow interface is deprecated")
@pytest.mark.parametrize("device, diff_method", THEIRS)
def test_qnodes_of_pennylanes_own_inside_of_functions_are_found_out(device, diff_method):
    node, x = pennylanes(device, diff_method), tf.constant(0.4, tf.float64)

    def function(x):
        return 2.0 * tf.cast(node(x), tf.float64)

    with pytest.raises(ValueError, match="argument 0, but has no derivative itself.*from_qnode"):
        qshift.derivatives(function, x, order=2)
    found = qshift.derivatives(function, x, order=1)
    np.testing.assert_allclose(found, [2 * np.cos(0.4), -2 * np.sin(0.4)], atol=1e-6)


def test_linear_functions_have_zeros_for_higher_derivatives():
    x = tf.constant([-0.3, 0.5], tf.float64)
    for function in (lambda x: 3.0 * x[0] - x[1], lambda x: tf.reduce_sum(tf.abs(x))):
        _, _, second, third = qshift.derivatives(function, x, order=3)
        assert not np.any(second) and not np.any(third)


@pytest.mark.parametrize("shots", [None, 50])
def test_functions_linear_in_an_argument_are_told_without_running_circuits(shots, tracker):
    node = qshift.qnode(DEVICE, shots=shots, seed=None if shots is None else 1)(cosine)
    x, y = tf.constant(0.7, tf.float64), tf.constant(0.4, tf.float64)
    value, first, second = qshift.derivatives(lambda x: x * node(y), x, order=2)
    assert second == 0 and float(value) == pytest.approx(0.7 * float(first))
    assert abs(first - np.cos(0.4)) < (1e-12 if shots is None else 0.6)
    assert tracker.totals["circuits"] == 1


def test_a_qnode_of_pennylanes_that_has_changed_is_converted_anew():
    node, x = pennylanes("default.qubit", "parameter-shift"), tf.constant(0.4, tf.float64)
    assert float(qshift.derivatives(node, x, order=0)[0]) == pytest.approx(np.cos(0.4))
    function = node.func

    def shifted(x):
        return function(x + 1.0)

    node.func = shifted
    assert float(qshift.derivatives(node, x, order=0)[0]) == pytest.approx(np.cos(1.4))
    gone = weakref.ref(node)
    del node
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("number", [0, np.int64(0), -2])
def test_positions_of_arguments_may_be_any_integers(number):
    x, y = tf.constant(0.5, tf.float64), tf.constant(3.0, tf.float64)
    _, first = qshift.derivatives(lambda x, y: x**2 * y, x, y, order=1, argnums=number)
    assert float(first) == pytest.approx(3.0)


@pytest.mark.parametrize("wrong", [True, "0", 0.0, [0.5]])
def test_what_is_no_position_of_an_argument(wrong):
    with pytest.raises(ValueError, match="argnums= must be the position of an argument or several"):
        qshift.derivatives(lambda x: x, 0.5, order=1, argnums=wrong)
    with pytest.raises(ValueError, match="batched= must be the position"):
        qshift.derivatives(lambda x: x, 0.5, partials=[(0,)], batched=wrong)


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_devices_that_fail_are_not_taken_for_functions_that_cannot_be_compiled(error, monkeypatch):
    node, asked = qshift.qnode(DEVICE)(cosine), []

    class Failing(type(node.preparation.executor)):
        def run(self, circuit, points, call):
            asked.append(len(points))
            raise error("broken")

    monkeypatch.setattr(node.preparation, "executor", Failing(DEVICE))
    with pytest.raises(error, match="broken"):
        qshift.derivatives(
            lambda x: node(x) ** 2, tf.constant(0.4, tf.float64), partials=[(), (0,)]
        )
    assert len(asked) == 1


def test_from_qnode_refuses_functions():
    with pytest.raises(TypeError, match="got function.*qshift.qnode"):
        qshift.from_qnode(quantum_function)


# --- devices ---


@pytest.mark.parametrize("diff_method", ["shift", "adjoint"])
@pytest.mark.parametrize(
    "device",
    [
        qml.device("default.qubit"),
        qml.device("default.qubit", wires=["a", 1, 0]),
        qml.device("lightning.qubit"),
        qml.device("lightning.qubit", wires=2),
    ],
    ids=lambda device: f"{device.name} {device.wires}",
)
@pytest.mark.parametrize("embedded", [True, False], ids=["embedded", "itself"])
def test_simulators(device, diff_method, embedded):
    on = qshift.qnode(device, diff_method=diff_method, embedded=embedded)
    assert_right(on(quantum_function))


# --- on the embedded simulator, in place of the device ---


def execute(self, circuits, execution_config=None):
    """In place of the method of a device."""
    raise AssertionError("the device runs circuits itself")


def converted(device, **settings):
    """As `qshift.qnode`, by way of one of PennyLane's."""
    return lambda function: qshift.from_qnode(qml.qnode(device)(function), **settings)


OURS = ["default.qubit", "lightning.qubit"]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("shots", [None, 20_000])
def test_pennylanes_simulators_run_on_ours(name, shots, monkeypatch):
    device = qml.device(name, wires=2, seed=3)
    monkeypatch.setattr(type(device), "execute", execute)
    node = qshift.qnode(device, shots=shots)(quantum_function)
    for call in (node, tf.function(node)):
        value, gradient = tape_derivatives(call, X, 1)
        bound = 1e-10 if shots is None else 0.05
        assert value == pytest.approx(VALUE, abs=bound)
        np.testing.assert_allclose(gradient, GRADIENT, atol=bound)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("make", [qshift.qnode, converted])
def test_embedded_false_runs_all_on_the_device(name, make, monkeypatch, tracker):
    device = qml.device(name, wires=2)
    node = make(device, embedded=False)(quantum_function)
    copies = [node, node.update(shots=None), copy.copy(node), copy.deepcopy(node)]
    copies.append(pickle.loads(cloudpickle.dumps(node)))
    for each in copies:
        assert_right(each)
        assert each.plan(X).circuits == 5  # two gates of one frequency each, by shifted circuits
    assert node.update(embedded=True).plan(X).circuits == 2
    monkeypatch.setattr(type(device), "execute", execute)
    for each in copies:
        with pytest.raises(AssertionError, match="the device runs circuits itself"):
            each(tf.constant(X))
    assert_right(node.update(embedded=True))


class Scaled(qml.devices.DefaultQubit):
    """A user's device, with a name that it has inherited."""

    def execute(self, circuits, execution_config=None):
        config = execution_config or qml.devices.ExecutionConfig()
        return tuple(0.5 * result for result in super().execute(circuits, config))


def test_a_subclass_of_a_simulator_runs_its_circuits_itself():
    assert Scaled().name == "default.qubit"
    value, gradient = tape_derivatives(qshift.qnode(Scaled())(quantum_function), X, 1)
    assert value == pytest.approx(0.5 * VALUE)
    np.testing.assert_allclose(gradient, 0.5 * GRADIENT)


def test_a_device_with_transforms_on_top_applies_them():
    @qml.transform
    def halved(tape):
        return [tape], lambda results: 0.5 * results[0]

    node = qshift.qnode(halved(qml.device("default.qubit")))(quantum_function)
    assert float(node(tf.constant(X))) == pytest.approx(0.5 * VALUE)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("diff_method", ["best", "shift", "adjoint"])
def test_a_tracker_sees_what_the_device_would_run(name, diff_method, tracker):
    device = qml.device(name, wires=2)
    node = qshift.qnode(device, diff_method=diff_method)(quantum_function)
    itself = node.update(embedded=False)

    def seen(node):
        with qml.Tracker(device) as found:
            assert_right(node, order=1)
        names = ("executions", "derivatives", "simulations")
        return {name: found.totals[name] for name in names if name in found.totals}

    assert_right(node)
    assert seen(node) == seen(itself)
    tracker.reset()
    assert_right(node, order=1)  # on the embedded simulator again
    assert tracker.totals["circuits"] == (5 if diff_method == "shift" else 2)
    # A graph that is made before keeps its plan, and its circuits go to the device nevertheless.
    graph = tf.function(node)
    tape_derivatives(graph, X, 1)
    with qml.Tracker(device) as found:
        value, gradient = tape_derivatives(graph, X, 1)
    assert value == pytest.approx(VALUE)
    np.testing.assert_allclose(gradient, GRADIENT)
    assert found.totals["executions"] == (5 if diff_method == "shift" else 1)
    assert ("derivatives" in found.totals) is (diff_method != "shift")


def test_a_graph_asks_a_watched_device_for_what_it_has_not():
    """Adjoint differentiation of probabilities is what only the embedded simulator offers."""
    device = qml.device("default.qubit")
    node = qshift.qnode(device, diff_method="adjoint")(probabilities)

    @tf.function
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = node(x)
        return value, tape.jacobian(value, x)

    x = tf.constant(X)
    expected = both(x)
    with qml.Tracker(device) as found:
        for a, b in zip(both(x), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
    assert found.totals["executions"] >= 1


@pytest.mark.parametrize("name", OURS)
def test_a_spy_sees_what_the_device_would_run(name, monkeypatch):
    device, seen = qml.device(name, wires=2), []
    node, run = qshift.qnode(device)(quantum_function), device.execute

    def spy(circuits, **options):
        seen.append(len(circuits))
        return run(circuits, **options)

    with monkeypatch.context() as patch:
        patch.setattr(device, "execute", spy)
        assert float(node(tf.constant(X))) == pytest.approx(VALUE)
    assert seen == [1]
    assert float(node(tf.constant(X))) == pytest.approx(VALUE)
    assert seen == [1]


def test_snapshots_are_those_of_the_device():
    @qshift.qnode(qml.device("default.qubit"))
    def circuit(x):
        qml.RX(x, 0)
        qml.Snapshot("half")
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    found = qml.snapshots(circuit)(tf.constant(0.3, tf.float64))
    np.testing.assert_allclose(found["half"], [np.cos(0.15), -1j * np.sin(0.15)])
    assert float(found["execution_results"]) == pytest.approx(np.cos(0.6))


def test_a_device_s_own_seed_makes_samples_reproducible():
    def samples(seed):
        node = qshift.qnode(qml.device("default.qubit", seed=seed), shots=100)(quantum_function)
        return [float(node(tf.constant([1.1, 0.7], tf.float64))) for _ in range(4)]

    assert samples(1) == samples(1) != samples(2)
    assert samples(None) != samples(None)


REFUSED_BY_DEVICES = {
    "wires": (
        {"wires": 1},
        lambda: qml.CNOT([0, 1]),
        qml.wires.WireError,
        "not found on the device",
    ),
    "gate": ({}, lambda: Nothing(0), qml.exceptions.DeviceError, "Nothing.* not supported"),
    "channel": (
        {},
        lambda: qml.AmplitudeDamping(0.1, 0),
        qshift.errors.UnsupportedError,
        "AmplitudeDamping is a noise channel.*mixed",
    ),
}


class Nothing(qml.operation.Operation):
    """A gate of which nothing is known."""

    num_wires = 1


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("case", REFUSED_BY_DEVICES)
def test_what_a_device_refuses_is_an_error_in_its_words(case, name, recwarn):
    options, gate, error, message = REFUSED_BY_DEVICES[case]

    @qshift.qnode(qml.device(name, **options))
    def circuit(x):
        qml.RX(x, 0)
        gate()
        return qml.expval(qml.Z(0))

    with pytest.raises(error, match=message):
        circuit(tf.constant(0.3, tf.float64))
    assert not [each for each in recwarn if issubclass(each.category, qshift.QShiftWarning)]


@pytest.mark.parametrize("name", OURS)
def test_too_many_wires(name, tracker):
    @qshift.qnode(qml.device(name))
    def circuit(x):
        for wire in range(64):
            qml.RX(x, wire)
        return qml.expval(qml.Z(0))

    x = tf.Variable(0.3, dtype=tf.float64)
    for call in (circuit, tf.function(circuit), circuit.plan):
        with pytest.raises(
            (qshift.UnsupportedError, tf.errors.OpError), match="on 64 wires .* Use fewer wires"
        ):
            call(x)
    assert not any(tracker.totals.values())


def test_workers_of_the_device_are_used():
    node = qshift.qnode(qml.device("default.qubit", max_workers=2))(quantum_function)
    assert type(node.preparation.executor) is PennyLaneExecutor


def test_density_matrices():
    device = qml.device("default.mixed", wires=2)
    assert_right(qshift.qnode(device)(quantum_function))


@pytest.mark.skipif(not importlib.util.find_spec("qiskit_aer"), reason="needs Qiskit Aer")
def test_qiskit_aer():
    device = qml.device("qiskit.aer", wires=2)
    node = qshift.qnode(device, shots=20_000, seed=11)(quantum_function)
    value, gradient = tape_derivatives(node, X, 1)
    assert value == pytest.approx(VALUE, abs=0.05)
    np.testing.assert_allclose(gradient, GRADIENT, atol=0.05)


def probabilities(x):
    qml.RX(x[0], wires=0)
    return qml.probs(wires=0)


REFUSED_BY_ADJOINT = {
    "shots": (DEVICE, {"shots": 10}, quantum_function, "default.qubit.*has 10 shots"),
    "probs": (
        DEVICE,
        {"embedded": False},
        probabilities,
        r"expectation values only.*returns probs\(wires=\[0\]\)",
    ),
    "lightning": (
        qml.device("lightning.qubit"),
        {"shots": 10},
        quantum_function,
        "lightning.*has 10 shots",
    ),
    "device": (qml.device("default.mixed", wires=2), {}, quantum_function, "default.mixed has no"),
}


@pytest.mark.parametrize("name", REFUSED_BY_ADJOINT)
def test_adjoint_differentiation_is_refused_at_the_call(name, tracker):
    device, keywords, function, message = REFUSED_BY_ADJOINT[name]
    node = qshift.qnode(device, diff_method="adjoint", **keywords)(function)
    x = tf.Variable(X)
    for call in (node, tf.function(node), node.plan, lambda x: qshift.derivatives(node, x)):
        for _ in range(2):
            with pytest.raises(qshift.UnsupportedError, match=f"{message}.*'shift'.*'best'"):
                call(x)
    assert not any(tracker.totals.values())
    assert node.update(diff_method="best")(x).dtype == tf.float64


# --- PennyLane's tools on top ---


diff_methods = pytest.mark.parametrize("diff_method", ["best", "shift", "adjoint"])


@diff_methods
def test_drawing(diff_method):
    node = qshift.qnode(qshift.device("simulator"), diff_method=diff_method)(quantum_function)
    for x in (X, tf.constant(X)):
        assert qml.draw(node)(x) == qml.draw(qml.qnode(DEVICE)(quantum_function))(X)


@diff_methods
def test_specs(diff_method):
    node = qshift.qnode(qshift.device("simulator"), diff_method=diff_method)(quantum_function)
    resources = qml.specs(node)(tf.constant(X))["resources"]
    counts = "gate_types" if hasattr(resources, "gate_types") else "counts"  # since 0.46
    assert dict(getattr(resources, counts)) == {"RX": 1, "RY": 1, "CNOT": 1}


def test_construct_tape_and_matrix():
    node = qshift.qnode(DEVICE)(quantum_function)
    names = [op.name for op in qml.workflow.construct_tape(node)(X).operations]
    assert names == ["RX", "RY", "CNOT"]
    expected = qml.matrix(qml.qnode(DEVICE)(quantum_function), wire_order=[0, 1])(X)
    np.testing.assert_allclose(qml.matrix(node, wire_order=[0, 1])(X), expected)


def many_measurements(x):
    qml.RX(x[0], wires=0)
    qml.RX(x[1], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.CNOT(wires=[0, 1])
    qml.RY(x[1], wires=0)
    return qml.expval(qml.Z(0)), qml.expval(qml.X(0)), qml.probs(wires=0)


@pytest.mark.parametrize(
    "transform",
    [
        qml.transforms.split_non_commuting,
        qml.transforms.merge_rotations,
        qml.transforms.cancel_inverses,
        qml.transforms.commute_controlled,
        qml.transforms.broadcast_expand,
        qml.transforms.defer_measurements,
        qml.transforms.undo_swaps,
        qml.compile,
    ],
    ids=lambda transform: transform.__name__ if hasattr(transform, "__name__") else str(transform),
)
def test_transforms_on_top(transform):
    def flat(node):
        return lambda x: tf.concat([tf.reshape(r, [-1]) for r in node(x)], 0)

    node = qshift.qnode(DEVICE)(many_measurements)
    transformed = transform(node)
    assert isinstance(transformed, qshift.QNode)
    expected = tape_derivatives(flat(node), X, 2)
    for a, b in zip(tape_derivatives(flat(transformed), X, 2), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize(
    "transform",
    [
        qml.transforms.single_qubit_fusion,
        qml.transforms.merge_rotations,
        lambda node: qml.compile(node, pipeline=[qml.transforms.single_qubit_fusion]),
    ],
)
def test_transforms_that_cast_leave_the_dtype(transform, dtype):
    node = transform(qshift.qnode(DEVICE)(quantum_function))
    x = tf.Variable(X, dtype=dtype)
    with tf.GradientTape() as tape:
        value = node(x)
    assert value.dtype == tape.gradient(value, x).dtype == dtype
    value, gradient = qshift.derivatives(node, tf.constant(x), order=1)
    assert value.dtype == gradient.dtype == dtype


def test_zero_noise_extrapolation_can_be_differentiated():
    node = qshift.qnode(qml.device("default.mixed", wires=2))(quantum_function)
    mitigated = qml.noise.mitigate_with_zne(
        node, [1, 2, 3], qml.noise.fold_global, qml.noise.richardson_extrapolate
    )
    assert_right(mitigated)


def test_parameter_shift_gradients_of_pennylane():
    node = qshift.qnode(DEVICE)(quantum_function)
    with tf.GradientTape():
        (gradient,) = qml.gradients.param_shift(node)(tf.Variable(X))
    np.testing.assert_allclose(gradient, GRADIENT, atol=1e-12)


def test_metric_tensor_and_fisher_information():
    """Transforms that give something else than the circuit's results."""
    node = qshift.qnode(DEVICE)(quantum_function)
    expected = np.diag([1.0, 1.0])
    with tf.GradientTape():
        metric = qml.metric_tensor(node, approx="block-diag")(tf.Variable(X))
        fisher = qml.gradients.quantum_fisher(node)(tf.Variable(X))
    np.testing.assert_allclose(4 * metric, expected, atol=1e-12)
    np.testing.assert_allclose(fisher, expected, atol=1e-12)


# --- plan ---


PLANNED = {
    "shift": {"diff_method": "shift"},
    "least variance": {"diff_method": "shift", "objective": "shots"},
    "adjoint": {"diff_method": "adjoint"},
    "shots": {"diff_method": "shift", "shots": 10},
    "shot vector": {"diff_method": "shift", "shots": [10, 20]},
}


def layered(x, y):
    qml.CRX(x[..., 0], wires=[0, 1])
    qml.RY(x[..., 1], wires=1)
    qml.SingleExcitation(y, wires=[0, 2])
    qml.RX(y * x[..., 1], wires=2)
    qml.Hadamard(0)
    return qml.expval(qml.Z(0) @ qml.Z(2)), qml.expval(qml.X(1))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("batch, highest", [(None, 3), (3, 2)])
@pytest.mark.parametrize("argnums", [None, 0])
@pytest.mark.parametrize("name", PLANNED)
def test_plans_are_what_is_then_counted(name, argnums, batch, highest, tracker):
    node = qshift.qnode(DEVICE, **PLANNED[name])(layered)
    x = tf.constant(np.random.default_rng(0).normal(size=(2,) if batch is None else (batch, 2)))
    args = [x, tf.constant(0.6, tf.float64)]
    plan = node.plan(*args, order=highest, argnums=argnums)
    assert tracker.totals["circuits"] == 0, "planning runs nothing"
    sources = args if argnums is None else [args[argnums]]
    counted = []

    def up_to(order):
        if order == 0:
            target = tf.concat([tf.reshape(v, [-1]) for v in tf.nest.flatten(node(*args))], 0)
        else:
            with tf.GradientTape() as tape:
                tape.watch(sources)
                lower = up_to(order - 1)
            jacobians = tape.jacobian(lower, sources, unconnected_gradients="zero")
            target = tf.concat([tf.reshape(jacobian, [-1]) for jacobian in jacobians], 0)
        counted.append((tracker.totals["circuits"], tracker.totals["shots"]))
        tracker.reset()
        return target

    up_to(highest)
    assert counted == [(order.circuits, order.shots) for order in plan.orders]
    assert plan.circuits == sum(circuits for circuits, _ in counted) == plan.orders[-1].total


def test_two_controlled_rotations_cost_at_most_sixteen(tracker):
    @qshift.qnode(DEVICE, diff_method="shift", objective="circuits")
    def circuit(x):
        qml.Hadamard(0)
        qml.CRX(x[0], wires=[0, 1])
        qml.CRY(x[1], wires=[1, 0])
        return qml.expval(qml.Z(0))

    plan = circuit.plan(X, order=2)
    qshift.derivatives(circuit, tf.constant(X), order=2)
    assert plan.circuits == tracker.totals["circuits"] <= 16


@pytest.mark.parametrize("p, orders", [(4, (1, 9, 27, 49)), (8, (1, 17, 101, 353))])
def test_fewest_circuits(p, orders):
    @qshift.qnode(DEVICE, diff_method="shift", objective="circuits")
    def circuit(x):
        for i in range(p):
            qml.RX(x[i], wires=0)
            qml.RY(0.3, wires=0)
        return qml.expval(qml.Z(0))

    plan = circuit.plan(np.ones(p), order=len(orders) - 1)
    assert tuple(order.total for order in plan.orders) == orders


@pytest.mark.parametrize("shots", [None, 100, qshift.Shots(total=100)])
def test_plans_of_circuits_without_parameters(shots):
    @qshift.qnode(qshift.device("simulator", wires=1), shots=shots)
    def circuit():
        qml.Hadamard(0)
        return qml.expval(qml.Z(0))

    plan = circuit.plan()
    with qshift.Tracker() as counted:
        circuit()
    assert plan.circuits == counted.totals["circuits"] == 1
    assert plan.shots == counted.totals["shots"] == (100 if shots else 0)


def test_plans_of_transforms_that_split_circuits(tracker):
    node = qml.transforms.split_non_commuting(qshift.qnode(DEVICE)(many_measurements))
    plan = node.plan(X, order=2)
    qshift.derivatives(lambda x: tf.stack(node(x)[:2]), tf.constant(X), order=2)
    assert plan.circuits == tracker.totals["circuits"]


def test_plans_find_tensors_inside_structures():
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(weights):
        qml.RX(weights["a"], wires=0)
        qml.RY(weights["b"][0], wires=0)
        return qml.expval(qml.Z(0))

    a, b = tf.constant(0.3), tf.constant([0.4])
    assert circuit.plan({"a": a, "b": b}, order=2).circuits == 8


def test_plans_as_data_text_and_html():
    plan = qshift.qnode(DEVICE, diff_method="shift")(quantum_function).plan(X, order=2)
    data = plan.to_dict()
    assert [order["circuits"] for order in data["orders"]] == [1, 4, 3]
    assert (data["circuits"], data["batches"], data["shots"], data["recursion"]) == (8, 3, 0, 21)
    assert "plain recursion" in str(plan) and "21" in str(plan)
    assert plan._repr_html_().startswith("<table") and "<td>21</td>" in plan._repr_html_()


def test_plans_refuse_negative_orders_and_missing_arguments():
    node = qshift.qnode(DEVICE)(quantum_function)
    with pytest.raises(ValueError, match="order.*-1"):
        node.plan(X, order=-1)
    with pytest.raises(ValueError, match="argument 2.*1 argument"):
        node.plan(X, argnums=2)


# --- derivatives ---


@pytest.fixture(scope="module")
def two_arguments():
    @qshift.qnode(DEVICE)
    def circuit(x, y):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT(wires=[0, 1])
        qml.RX(y, wires=0)
        return qml.probs(wires=[0, 1])

    return circuit


def shapes(entry):
    return tuple(map(shapes, entry)) if isinstance(entry, tuple) else tuple(entry.shape)


@pytest.mark.parametrize(
    "argnums, gradient, hessian",
    [
        (0, (4, 2), (4, 2, 2)),
        (1, (4,), (4,)),
        (-1, (4,), (4,)),
        ((0,), ((4, 2),), (((4, 2, 2),),)),
        ((0, 1), ((4, 2), (4,)), (((4, 2, 2), (4, 2)), ((4, 2), (4,)))),
        ((1, 0), ((4,), (4, 2)), (((4,), (4, 2)), ((4, 2), (4, 2, 2)))),
        (None, ((4, 2), (4,)), (((4, 2, 2), (4, 2)), ((4, 2), (4,)))),
    ],
    ids=str,
)
def test_derivatives_are_nested_as_in_jax(two_arguments, argnums, gradient, hessian):
    got = qshift.derivatives(two_arguments, X, 0.3, order=2, argnums=argnums)
    assert shapes(got) == ((4,), gradient, hessian)


def test_derivatives_of_one_argument(tracker):
    node = qshift.qnode(DEVICE, diff_method="shift")(quantum_function)
    for x in (X, tf.constant(X), tf.Variable(X), X.tolist()):
        tracker.reset()
        value, gradient, hessian = qshift.derivatives(node, x, order=2)
        np.testing.assert_allclose(value, VALUE)
        np.testing.assert_allclose(gradient, GRADIENT)
        np.testing.assert_allclose(hessian, HESSIAN)
        assert (tracker.totals["circuits"], tracker.totals["batches"]) == (8, 1)
    (value,) = qshift.derivatives(node, X, order=0)
    np.testing.assert_allclose(value, VALUE)


def test_derivatives_by_one_of_two_arguments_cost_no_more(two_arguments, tracker):
    qshift.derivatives(two_arguments, X, 0.3, order=2, argnums=1)
    assert tracker.totals["circuits"] == 3


@pytest.mark.parametrize(
    "args, settings, message",
    [
        ((X, 0.3), {"order": -1}, "order.*-1"),
        ((X, 0.3), {"argnums": 2}, "argument 2.*2 arguments"),
        ((X, 0.3), {"argnums": ()}, "argnums"),
        ((["a", "b"], "c"), {}, "float"),
        (({"x": X}, "c"), {}, "dict|float"),
    ],
    ids=str,
)
def test_derivatives_refuse_what_they_cannot_differentiate_by(
    two_arguments, args, settings, message, tracker
):
    with pytest.raises((ValueError, TypeError), match=message):
        qshift.derivatives(two_arguments, *args, **settings)
    assert tracker.totals["circuits"] == 0


# --- what is refused before anything runs ---


def expectation(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


def with_coefficient(x):
    qml.RX(0.3, wires=0)
    return qml.expval(qml.Hamiltonian([x], [qml.Z(0)]))


@pytest.mark.parametrize("diff_method", ["best", "adjoint"])
@pytest.mark.parametrize("function", [expectation, with_coefficient])
def test_autograd_is_told_what_differentiates(function, diff_method, tracker):
    node = qshift.qnode(DEVICE, diff_method=diff_method)(function)
    with pytest.raises(qshift.UnsupportedError, match="autograd's ArrayBox.*TensorFlow.*qml.qnode"):
        qml.grad(node)(qml.numpy.array(0.3, requires_grad=True))
    assert tracker.totals["circuits"] == 0


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="needs JAX")
def test_jax_is_told_what_differentiates():
    """In a process of its own: JAX's threads and the forks of other tests do not mix."""
    script = """
        import jax, pennylane as qml, qshift

        @qshift.qnode(qml.device("default.qubit"))
        def circuit(x):
            qml.RX(x, wires=0)
            return qml.expval(qml.Z(0))

        for transformed in (jax.grad(circuit), jax.jit(circuit)):
            try:
                transformed(0.3)
            except qshift.UnsupportedError as error:
                print(error)
        print(float(circuit(jax.numpy.array(0.0))))
    """
    done = fresh.run(textwrap.dedent(script))
    refused = r"A parameter of RX is jax's \w*Tracer.*TensorFlow.*qml.qnode.\n"
    assert re.fullmatch(refused * 2 + "1.0\n", done.stdout), done.stderr


@pytest.mark.parametrize("requires_grad", [True, False])
def test_arrays_of_pennylane_are_plain_data(requires_grad):
    for function in (expectation, with_coefficient):
        value = qshift.qnode(DEVICE)(function)(qml.numpy.array(0.3, requires_grad=requires_grad))
        assert float(value) == pytest.approx(np.cos(0.3) * (1 if function is expectation else 0.3))


@pytest.mark.parametrize("watch", [True, False])
@pytest.mark.parametrize(
    "device, gate, parameter",
    [
        ("default.qubit", lambda p: qml.QubitUnitary(p, wires=0), np.eye(2, dtype=complex)),
        ("default.qubit", lambda p: qml.QubitUnitary(p, wires=[0, 1]), np.eye(4, dtype=complex)),
        ("default.qubit", lambda p: qml.StatePrep(p, wires=0), np.array([0.6, 0.8])),
        ("default.mixed", lambda p: qml.AmplitudeDamping(p, wires=0), np.float64(0.1)),
        ("default.mixed", lambda p: qml.PhaseDamping(p, wires=0), np.float64(0.1)),
        (
            "default.mixed",
            lambda p: qml.ThermalRelaxationError(p, 1.4, 1.2, 0.3, wires=0),
            np.float64(0.1),
        ),
    ],
    ids=[
        "QubitUnitary",
        "two-wire QubitUnitary",
        "StatePrep",
        "AmplitudeDamping",
        "PhaseDamping",
        "ThermalRelaxationError",
    ],
)
def test_gates_without_a_rule(device, gate, parameter, watch, tracker):
    @qshift.qnode(qml.device(device, wires=2))
    def circuit(p, x):
        gate(p)
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.Variable(0.4, dtype=tf.float64)
    if watch:
        with pytest.raises(qshift.NoShiftRuleError) as error, tf.GradientTape():
            circuit(tf.Variable(parameter), x)
        name = gate(parameter).name
        assert name in str(error.value) and "tf.stop_gradient" in str(error.value)
        assert tracker.totals["circuits"] == 0
    else:
        with tf.GradientTape() as tape:
            value = circuit(tf.stop_gradient(tf.Variable(parameter)), x)
        assert tape.gradient(value, x) is not None
        assert tracker.totals["circuits"] == 3


def test_complex_angles_are_errors_in_graphs_too():
    @qshift.qnode(qml.device("default.qubit"))
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    compiled = tf.function(circuit)
    if OPERATORS[1:]:  # PennyLane refuses them itself, from 0.46 on
        with pytest.raises(ValueError, match="Expected float64 but received complex128"):
            compiled(tf.constant(0.3 + 0.5j, tf.complex128))
        return
    assert float(compiled(tf.constant(0.3 + 0j, tf.complex128))) == pytest.approx(np.cos(0.3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="angle is real"):
        compiled(tf.constant(0.3 + 0.5j, tf.complex128))


def test_a_qnode_inside_another_is_paid_for_once(tracker):
    inner = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(
        lambda x: (qml.RX(x, wires=0), qml.expval(qml.Z(0)))[1]
    )

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def outer(x):
        qml.RX(inner(x), wires=0)
        return qml.expval(qml.Z(0))

    x = 0.4
    value, gradient, _ = qshift.derivatives(outer, tf.constant(x, tf.float64), order=2)
    assert float(value) == pytest.approx(np.cos(np.cos(x)))
    assert float(gradient) == pytest.approx(np.sin(np.cos(x)) * np.sin(x))
    assert tracker.totals["circuits"] == 6 and tracker.totals["batches"] == 2
    # What the inner one runs is not recorded, also where PennyLane calls the quantum function.
    (rotation,) = qml.workflow.construct_tape(outer)(tf.constant(x, tf.float64)).operations
    assert float(rotation.data[0]) == pytest.approx(np.cos(x))


def evolution(t):
    qml.RX(0.4, 0)
    qml.evolve(qml.X(0) @ qml.Y(1) + 0.3 * qml.Z(0), tf.cast(t, tf.complex128))
    return qml.expval(qml.Z(0))


class OnlyAMatrix(qml.operation.Operation):
    """RX, without a generator."""

    num_wires, num_params, ndim_params = 1, 1, (0,)
    parameter_frequencies = [(1.0,)]

    @staticmethod
    def compute_matrix(angle):
        return qml.RX.compute_matrix(angle)


def test_adjoint_differentiation_of_gates_the_device_does_not_have():
    @qshift.qnode(qml.device("lightning.qubit", wires=2), diff_method="adjoint")
    def circuit(t):
        OnlyAMatrix(t, wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="OnlyAMatrix.*diff_method='shift'"):
        circuit(tf.constant(0.1, tf.float64))


def test_adjoint_differentiation_of_exponentials_of_words_that_do_not_commute():
    """On the embedded simulator, by the gate's generator."""
    t, step = tf.constant(0.7, tf.float64), 1e-5
    reference = qml.qnode(qml.device("default.qubit"))(evolution)
    upper, lower = (float(reference(t + move)) for move in (step, -step))
    for device in (qml.device("lightning.qubit", wires=2), qshift.device("simulator")):
        node = qshift.qnode(device, diff_method="adjoint")(evolution)
        value, slope = tape_derivatives(node, t, 1)
        assert value == pytest.approx(float(reference(t)), abs=1e-12)
        assert slope == pytest.approx((upper - lower) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("diff_method", ["adjoint", "best"])
def test_adjoint_differentiation_of_probabilities(diff_method, tracker):
    """On the embedded simulator: one gradient in place of shifted circuits."""

    def function(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT([0, 1])
        return qml.probs(wires=[1])

    x = tf.constant([0.4, 0.9], tf.float64)
    node = qshift.qnode(qshift.device("simulator"), diff_method=diff_method)(function)
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = node(x)
    product = np.cos(0.4) * np.cos(0.9)
    np.testing.assert_allclose(values, [(1 + product) / 2, (1 - product) / 2], atol=1e-12)
    slopes = np.array([-np.sin(0.4) * np.cos(0.9), -np.cos(0.4) * np.sin(0.9)]) / 2
    np.testing.assert_allclose(tape.jacobian(values, x), [slopes, -slopes], atol=1e-12)
    assert tracker.totals["circuits"] == 2


# --- copies ---


@qshift.qnode(qml.device("default.qubit"), shots=50, seed=3)
def sampled(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


def rotated(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda node: pickle.loads(pickle.dumps(node)),
    "cloudpickle": lambda node: pickle.loads(cloudpickle.dumps(node)),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "simulator"])
def test_copies_of_a_qnode(device, way):
    device = qshift.device(device) if device == "simulator" else qml.device(device)
    node = qshift.qnode(device, shots=100, seed=7)(rotated)
    x = tf.Variable(0.4, dtype=tf.float64)
    node(x)
    copied = COPIES[way](qml.set_shots(node, shots=1000))
    assert copied is not node and copied.device is not node.device
    assert (copied.seed, copied.shots.total_shots) == (7, 1000)
    expected = qml.set_shots(qshift.qnode(device, shots=100, seed=7)(rotated), shots=1000)
    expected(x)
    # The next call of the copy draws what the next call of the original would.
    for _ in range(2):
        assert float(copied(x)) == float(expected(x))
    assert float(slope_of(copied, x)) == pytest.approx(-np.sin(0.4), abs=0.2)


def slope_of(node, x):
    with tf.GradientTape() as tape:
        value = node(x)
    return tape.gradient(value, x)


def test_a_qnode_of_a_module_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(sampled)) is sampled
    assert pickle.loads(cloudpickle.dumps(sampled)) is sampled
    assert len(pickle.dumps(sampled)) < 100


@pytest.mark.parametrize("way", ["deepcopy", "cloudpickle"])
def test_copies_of_what_has_no_name(way):
    factor = 2.0
    node = qshift.qnode(qml.device("default.qubit"))(lambda x: rotated(factor * x))
    copied = COPIES[way](node)
    assert float(copied(tf.constant(0.3, tf.float64))) == pytest.approx(np.cos(0.6))


def test_a_deep_copy_keeps_transforms():
    @qshift.qnode(qml.device("default.qubit"))
    def node(x):
        qml.RX(x, wires=0)
        qml.S(0)
        qml.adjoint(qml.S)(0)
        return qml.expval(qml.Z(0))

    copied = copy.deepcopy(qml.transforms.cancel_inverses(node))
    assert len(qml.workflow.construct_tape(copied)(0.1).operations) == 1
    assert float(copied(tf.constant(0.3, tf.float64))) == pytest.approx(np.cos(0.3))
