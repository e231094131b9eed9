"""Each circuit its own number of shots: contract of the executors that allot them, and proof by
sampling that the errors are those that were planned."""

import copy
import pickle
from dataclasses import replace

import cloudpickle
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from references import OwnDevice, OwnExecutor, random_points, several, truth

import qshift
from qshift.errors import UnsupportedError
from qshift.executors import registry
from qshift.executors.executor import Call
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.qiskit.device import EstimatorDevice


def pickled(node):
    return pickle.loads(cloudpickle.dumps(node))


ALLOTTING = {
    "simulator": lambda seed: registry.executor(qml.device("lightning.qubit", wires=3), seed),
    "default.qubit": lambda seed: PennyLaneExecutor(qml.device("default.qubit", wires=3), seed),
    "default.mixed": lambda seed: registry.executor(qml.device("default.mixed", wires=3), seed),
    "lightning": lambda seed: PennyLaneExecutor(qml.device("lightning.qubit", wires=3), seed),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", ALLOTTING)
def test_each_point_has_its_own_shots(name, seed, tracker):
    """Values of n shots are multiples of 2 / n, and their spread is that of n shots."""
    circuit = several(100)
    executor = ALLOTTING[name](seed)
    assert executor.allots(circuit)
    point = random_points(circuit, 1)
    shots = np.repeat([2, 50, 5000], 60)
    points = np.repeat(point, len(shots), axis=0)
    values = executor(circuit, points, Call(1, shots=shots))
    exact = truth(circuit, point)[0]
    spreads = np.array([values[shots == n].std(axis=0) for n in (2, 50, 5000)])
    assert (np.abs(values[shots == 5000] - exact) < 6 * 2 / np.sqrt(5000)).all()
    # The deviation of 60 deviations is a tenth; observables have norms of two at most.
    assert (spreads[2] < 2.9 / np.sqrt(5000)).all()
    assert (spreads[1] > 4 * spreads[2]).all() and (spreads[0] > 2 * spreads[1]).all()
    assert executor.bases(circuit) == 4 and tracker.totals["shots"] == 4 * shots.sum()
    assert tracker.totals["circuits"] == len(shots) and tracker.totals["batches"] == 1


@pytest.mark.parametrize("name", ALLOTTING)
def test_seeded_samples_do_not_depend_on_which_points_are_run_together(name):
    circuit = several(100)
    points, shots = random_points(circuit, 5), np.array([10, 20, 10, 40, 20])
    together = ALLOTTING[name](5)(circuit, points, Call(1, shots=shots))
    executor, call = ALLOTTING[name](5), Call(1)
    alone = [
        executor(circuit, point[None], replace(call, shots=np.array([n])))
        for point, n in zip(points, shots, strict=True)
    ]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_circuits_with_one_seed_are_chosen_independently():
    """Of fewer shots than circuits some are chosen, by the seed and by the circuit."""

    def node(gate):
        def circuit(x):
            gate(x[0], wires=0)
            gate(x[1], wires=1)
            return qml.expval(5 * qml.I(0) + qml.Z(0) @ qml.Z(1))

        return qshift.QNode(circuit, qshift.device("simulator"), shots=shots, seed=3)

    shots, x = qshift.Shots(total=2), tf.constant([0.3, 0.4], tf.float64)
    one, other = node(qml.RX), node(qml.RY)
    chosen = [
        [qshift.derivatives(each, x)[1].numpy() != 0 for _ in range(30)]
        for each in (one, other, node(qml.RX))
    ]
    assert 5 < (np.array(chosen[0]) != np.array(chosen[1])).sum() < 55
    np.testing.assert_array_equal(chosen[0], chosen[2])


def test_who_does_not_allot():
    estimator = registry.executor(EstimatorDevice(3, "aer"), 1)
    assert estimator.allots(several(100)) and not estimator.allots(several([10, 20]))
    assert not OwnExecutor(OwnDevice()).allots(several(100))
    vector = several([10, 20])
    assert not ALLOTTING["default.qubit"](None).allots(vector)
    assert not ALLOTTING["simulator"](None).allots(several(None))


def rotations(p, words=1):
    """A circuit of p rotations, each with `words` gates that share its angle."""

    def circuit(x):
        for j in range(p):
            qml.RY(0.4 + j, wires=j)
        for _ in range(words):
            for j in range(p):
                (qml.RX if j % 2 else qml.RZ)(x[..., j], wires=j)
                qml.CNOT(wires=[j, (j + 1) % p])
                qml.RY(0.3 * j + 0.2, wires=j)
        return qml.expval(qml.Z(0) @ qml.X(1))

    return circuit


POINT = np.array([0.4, -1.1, 0.7, 2.0])


def measured(p, order, shots, repetitions=1500, device=None):
    """Returns total shots times the summed variance of value and derivatives, their means, and the
    exact ones."""
    device = device or qshift.device("simulator")
    x = tf.constant(np.tile(POINT[:p], (repetitions, 1)))
    node = qshift.QNode(rotations(p), device, shots=shots, seed=7)
    exact = qshift.QNode(rotations(p), device)
    wanted = [(0,) * k for k in range(order + 1)]
    with qshift.Tracker() as tracker:
        found = qshift.derivatives(node, x, partials=wanted, batched=0)
    right = qshift.derivatives(exact, x[:1], partials=wanted, batched=0)
    flat = [np.reshape(f, (repetitions, -1)) for f in found]
    columns = [
        np.unique([tuple(sorted(i)) for i in np.ndindex(*[p] * k)], axis=0, return_index=True)[1]
        for k in range(order + 1)
    ]
    samples = np.hstack([f[:, c] for f, c in zip(flat, columns, strict=True)])
    truth_ = np.hstack([np.reshape(f, -1)[c] for f, c in zip(right, columns, strict=True)])
    variance = ((samples - truth_) ** 2).mean(axis=0)
    return tracker.totals["shots"] / repetitions * variance.sum(), samples, truth_


@pytest.mark.one_in(2)
@pytest.mark.parametrize("p, order, gain", [(4, 1, 1.0), (4, 2, 1.05), (2, 2, 1.05)])
def test_errors_are_smaller_than_those_of_equal_shots(p, order, gain):
    own, samples, exact = measured(p, order, 100)
    equal, _, _ = measured(p, order, qshift.Shots(per_circuit=100, equal=True))
    assert own * gain < equal * 1.03
    means, errors = samples.mean(axis=0), samples.std(axis=0) / np.sqrt(len(samples))
    assert (np.abs(means - exact) < 5 * errors).all()  # unbiased


def test_a_total_for_each_batch(tracker):
    shots = qshift.Shots(total=3000, pilot=0)
    node = qshift.QNode(rotations(2), qshift.device("simulator"), shots=shots)
    x = tf.Variable(POINT[:2])
    plan = node.plan(x, order=2)
    assert [order.shots for order in plan.orders] == [3000] * 3
    qshift.derivatives(node, x, order=2)
    assert tracker.totals["shots"] == 3000
    tracker.reset()
    with tf.GradientTape() as tape:
        value = node(x)
    tape.gradient(value, x)
    assert tracker.totals["shots"] == 6000 and tracker.totals["batches"] == 2
    tracker.reset()
    order_by_order(node, x)
    assert tracker.totals["shots"] == 9000 and tracker.totals["batches"] == 3
    assert tracker.totals["circuits"] >= plan.circuits
    few = node.update(shots=qshift.Shots(total=10, least=3))
    with pytest.raises(ValueError, match="10 shots in all, less than 3 for each"):
        qshift.derivatives(few, x, order=2)
    # Another number of shots is one for each circuit.
    tracker.reset()
    qml.set_shots(node, 50)(x)
    assert tracker.totals["shots"] == 50


@pytest.mark.parametrize("copied", [lambda node: node, copy.copy, pickled])
def test_set_shots_with_the_number_of_the_total(copied, tracker):
    """It is one for each circuit, as any other number is, and stays so in copies."""
    node = qshift.QNode(
        rotations(2), qshift.device("simulator"), shots=qshift.Shots(total=300, pilot=0)
    )
    x = tf.constant(POINT[:2])
    each = copied(qml.set_shots(node, 300))
    assert each.plan(x).shots == 5 * 300 and node.plan(x).together.shots == 300
    qshift.derivatives(each, x)
    assert tracker.totals["shots"] == 5 * 300
    tracker.reset()
    qshift.derivatives(copied(each.update(objective="circuits")), x)
    assert tracker.totals["shots"] == 5 * 300
    tracker.reset()
    qshift.derivatives(copied(qml.set_shots(each, qshift.Shots(total=200))), x)
    assert tracker.totals["shots"] == 200
    tracker.reset()
    qshift.derivatives(node, x)
    assert tracker.totals["shots"] == 300
    assert qml.set_shots(node, None).shots.total_shots is None


def test_a_plan_says_what_one_batch_takes(tracker):
    node = qshift.QNode(
        rotations(2), qshift.device("simulator"), shots=qshift.Shots(total=3000, pilot=0)
    )
    x = tf.constant(POINT[:2])
    plan = node.plan(x, order=2)
    qshift.derivatives(node, x, order=2)
    together = plan.together
    assert together.shots == tracker.totals["shots"] == 3000
    assert together.circuits == tracker.totals["circuits"]
    assert together.batches == tracker.totals["batches"] == 1
    assert plan.shots == 9000  # of nested tapes, a batch for each order
    assert "together" in str(plan) and "together" in plan._repr_html_()
    assert plan.to_dict()["together"]["shots"] == 3000
    # Of other shots, what one batch takes is the sum.
    plain = node.update(shots=100).plan(x, order=2)
    assert plain.together is None and "together" not in plain.to_dict()


@pytest.mark.parametrize("total, drawn", [(1000, 999), (1001, 999), (1002, 1002), (2, 3)])
def test_a_total_of_samples_in_three_bases(total, drawn, tracker):
    """All circuits draw the same shots in each basis: a total is rounded down to a multiple."""

    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=0)
        return qml.expval(qml.X(0)), qml.expval(qml.Y(0)), qml.expval(qml.Z(0))

    node = qshift.QNode(circuit, qshift.device("simulator"), shots=qshift.Shots(total=total))
    with tf.GradientTape() as tape:
        x = tf.Variable([0.4, 0.3], dtype=tf.float64)
        value = tf.add_n(node(x))
    assert tracker.totals["shots"] == drawn
    tape.gradient(value, x)
    assert tracker.totals["shots"] == 2 * drawn == node.plan(x).shots


def order_by_order(node, x):
    """Value, gradient and Hessian by nested tapes, one after the other."""
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = node(x)
        gradient = inner.gradient(value, x)
    outer.jacobian(gradient, x)


@pytest.mark.parametrize("device", ["simulator", "default-qubit"])
def test_a_pilot_share(device, tracker):
    """By default with a total: circuits run twice unless there is only one, the total stays, and
    `plan` says so."""
    node = qshift.QNode(rotations(2), qshift.device(device), shots=qshift.Shots(total=30_000))
    x = tf.Variable(POINT[:2])
    plan = node.plan(x, order=2)
    assert plan.pilot == 0.15 and "15% of the shots are drawn first" in " ".join(str(plan).split())
    none = node.update(shots=qshift.Shots(total=30_000, pilot=0)).plan(x, order=2)
    assert "drawn first" not in str(none) and "pilot" not in none.to_dict()
    alone, *several = [order.circuits for order in none.orders]
    assert [order.circuits for order in plan.orders] == [alone, *(2 * each for each in several)]
    found = qshift.derivatives(node, x, order=2)
    assert tracker.totals["shots"] == 30_000 and tracker.totals["batches"] == 2
    exact = qshift.derivatives(node.update(shots=None), x, order=2)
    for each, right in zip(found, exact, strict=True):
        np.testing.assert_allclose(each, right, atol=0.2)
    tracker.reset()
    order_by_order(node, x)
    assert tracker.totals["shots"] == plan.shots == 90_000
    assert tracker.totals["batches"] == plan.batches == 5
    assert tracker.totals["circuits"] == plan.circuits
    # Too few shots for a pilot share: none.
    few = node.update(shots=qshift.Shots(total=300))
    assert few.plan(x, order=2).to_dict().get("pilot") == 0.15  # of the gradient alone
    tracker.reset()
    qshift.derivatives(few, x, order=2)
    assert tracker.totals["shots"] == 300 and tracker.totals["batches"] == 1


def test_a_pilot_share_is_seeded():
    shots = qshift.Shots(per_circuit=100, pilot=0.2)
    made = [
        qshift.QNode(rotations(2), qshift.device("simulator"), shots=shots, seed=5)
        for _ in range(2)
    ]
    first, second = (qshift.derivatives(node, tf.constant(POINT[:2]), order=2) for node in made)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_pilot_share_where_values_have_no_variances(tracker):
    """Where errors are not known, there is none by default, and asking for one is an error."""

    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0) + 0.5 * qml.X(0))

    node = qshift.QNode(
        circuit, qml.device("default.mixed", wires=1), shots=qshift.Shots(total=900)
    )
    qshift.derivatives(node, tf.constant(0.4))
    assert tracker.totals["shots"] == 900 and tracker.totals["batches"] == 1
    with pytest.raises(UnsupportedError, match="does not follow from its value"):
        node.update(shots=qshift.Shots(total=900, pilot=0.1))(0.4)
    device = qml.device("reference.qubit", wires=2)
    equal = qshift.QNode(rotations(2), device, shots=qshift.Shots(per_circuit=100, pilot=0.1))
    with pytest.raises(UnsupportedError, match="nothing that a pilot share could decide"):
        equal(tf.constant(POINT[:2]))
    assert tracker.totals["shots"] == 900


def test_fewer_shots_than_circuits(tracker):
    node = qshift.QNode(rotations(4), qshift.device("simulator"), shots=qshift.Shots(total=24))
    x = tf.constant(POINT)
    plan = node.plan(x, order=2)
    assert [order.circuits for order in plan.orders] == [1, 8, 24]  # of 28 the third time
    assert "chosen at random" in str(plan)
    qshift.derivatives(node, x, order=2)
    assert tracker.totals["shots"] == 24 and tracker.totals["circuits"] <= 24
    cost, samples, exact = measured(4, 2, qshift.Shots(total=24))
    assert cost < 1.1 * 162.49  # what the plan costs with these variances
    means, errors = samples.mean(axis=0), samples.std(axis=0) / np.sqrt(len(samples))
    assert (np.abs(means - exact) < 5 * errors).all()


CONSTANT = {
    "simulator": lambda: qshift.device("simulator"),
    "default.qubit": lambda: qml.device("default.qubit"),
    "default.mixed": lambda: qml.device("default.mixed", wires=2),
    "lightning": lambda: qml.device("lightning.qubit", wires=2),
    "aer": lambda: EstimatorDevice(2, "aer", seed=1),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", CONSTANT)
def test_a_constant_in_the_observable_needs_no_samples(name):
    """Of fewer shots than circuits, the deviations with a constant of 100 are those without."""

    def made(constant):
        def circuit(x):
            qml.RX(x[..., 0], wires=0)
            qml.RY(x[..., 1], wires=1)
            return qml.expval(constant * qml.I(0) + qml.Z(0) @ qml.Z(1))

        embedded = name not in ("default.qubit", "lightning")
        shots = qshift.Shots(total=4)
        return qshift.QNode(circuit, CONSTANT[name](), shots=shots, seed=2, embedded=embedded)

    x = tf.constant(np.tile([0.4, 1.1], (40, 1)))
    spreads = []
    for constant in (0.0, 100.0):
        value, gradient = qshift.derivatives(made(constant), x, partials=[(), (0,)], batched=0)
        assert abs(np.mean(value) - constant - np.cos(0.4) * np.cos(1.1)) < 1.0
        spreads.append([np.std(value), *np.std(gradient, axis=0)])
    np.testing.assert_allclose(*spreads, rtol=0.6)


def test_probabilities_that_are_chosen_add_up_to_one():
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        return qml.probs(wires=[0, 1])

    node = qshift.QNode(circuit, qshift.device("simulator"), shots=qshift.Shots(total=3), seed=1)
    for _ in range(20):
        value, gradient = qshift.derivatives(node, tf.constant([0.4, 1.1], tf.float64))
        assert abs(np.sum(value) - 1) < 1e-12 and np.abs(np.sum(gradient, axis=0)).max() < 1e-12


def test_an_error_that_is_wanted(tracker):
    """Of an observable with two bases; `plan` says about how many shots that takes."""

    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT([0, 1])
        return qml.expval(3 * qml.Z(0) @ qml.Z(1) + qml.X(0) + 0.5 * qml.Z(0))

    x = tf.constant([0.4, 0.9], tf.float64)
    shots = qshift.Shots(error=0.05)
    node = qshift.QNode(circuit, qshift.device("simulator"), shots=shots, seed=3)
    plan = node.plan(x, order=1)
    # Samples are drawn in both bases.
    assert plan.orders[0].shots == pytest.approx(2 * (9 + 1 + 0.25) / 0.05**2, rel=1e-3)
    assert plan.orders[0].batches == 2 and plan.pilot == 0.15
    exact = qshift.derivatives(node.update(shots=None), x)
    found = [qshift.derivatives(node, x, errors=True) for _ in range(30)]
    squares, owed = [], []
    for each in found:
        for (value, error), right in zip(each, exact, strict=True):
            squares.append(np.ravel(value - right) ** 2)
            owed.append(np.ravel(error) ** 2)
    squares, owed = np.concatenate(squares), np.concatenate(owed)
    assert 0.9 * 0.05 < np.sqrt(owed.mean()) < 1.05 * 0.05
    assert 0.8 * 0.05 < np.sqrt(squares.mean()) < 1.2 * 0.05
    assert tracker.totals["shots"] / 30 < plan.shots
    # Half the error takes four times as many shots.
    tracker.reset()
    qshift.derivatives(node, x, order=0)
    once = tracker.totals["shots"]
    finer = node.update(shots=qshift.Shots(error=0.025))
    qshift.derivatives(finer, x, order=0)
    assert tracker.totals["shots"] == pytest.approx(5 * once, rel=0.1)


def test_an_error_needs_a_device_that_tells_it():
    equal = qml.device("reference.qubit", wires=2)
    node = qshift.QNode(rotations(2), equal, shots=qshift.Shots(error=0.1))
    with pytest.raises(UnsupportedError, match="same number of shots"):
        node(tf.constant(POINT[:2]))
    device = qml.device("default.mixed", wires=1)

    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0) + 0.5 * qml.X(0))

    node = qshift.QNode(circuit, device, shots=qshift.Shots(error=0.1))
    with pytest.raises(UnsupportedError, match="does not follow from its value"):
        node(tf.constant(0.3))


def test_a_total_needs_a_device_that_spreads_it():
    node = qshift.QNode(rotations(2), OwnDevice(), shots=qshift.Shots(total=3000))
    with pytest.raises(UnsupportedError, match="same number of shots"):
        node(tf.constant(POINT[:2]))


@pytest.mark.parametrize("device", ["simulator", "default-qubit"])
def test_order_by_order_and_together(device, tracker):
    node = qshift.QNode(rotations(2), qshift.device(device), shots=200)
    x = tf.Variable(POINT[:2])
    plan = node.plan(x, order=2)
    qshift.derivatives(node, x, order=2)
    assert tracker.totals["shots"] == plan.shots and tracker.totals["circuits"] == plan.circuits
    tracker.reset()
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = node(x)
        gradient = inner.gradient(value, x)
    hessian = outer.jacobian(gradient, x)
    assert tracker.totals["shots"] == plan.shots and tracker.totals["circuits"] == plan.circuits
    exact = qshift.derivatives(node.update(shots=None), x, order=2)
    for found, right in zip((value, gradient, hessian), exact, strict=True):
        np.testing.assert_allclose(found, right, atol=6 * 2 / np.sqrt(200))


@pytest.mark.parametrize(
    "shots", [200, qshift.Shots(total=5000), qshift.Shots(per_circuit=200, pilot=0.1)]
)
def test_prefetched_orders_are_those_that_are_asked_for_together(shots):
    """Nested tapes then get what `derivatives` gets, to the last bit."""
    device, x = qshift.device("simulator"), tf.Variable(POINT[:2])
    together = qshift.QNode(rotations(2), device, shots=shots, seed=5)
    one_by_one = qshift.QNode(rotations(2), device, shots=shots, seed=5, prefetch=2)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = one_by_one(x)
        gradient = inner.gradient(value, x)
    hessian = outer.jacobian(gradient, x)
    expected = qshift.derivatives(together, x, order=2)
    for found, right in zip((value, gradient, hessian), expected, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-12)


@pytest.mark.parametrize(
    "shots",
    [
        100,
        qshift.Shots(total=600),
        qshift.Shots(total=7),
        qshift.Shots(per_circuit=100, pilot=0.2),
        qshift.Shots(error=0.1),
    ],
)
def test_special_angles_and_empty_batches(tracker, shots):
    node = qshift.QNode(rotations(2), qshift.device("simulator"), shots=shots)
    near = 6 if shots == qshift.Shots(total=7) else 0.7
    for angle in (0.0, np.pi / 2, np.pi, 2 * np.pi, 1e-9, 1e13, np.nan):
        x = tf.constant([angle, 0.3], tf.float64)
        value, gradient = qshift.derivatives(node, x, order=1)
        right = qshift.derivatives(node.update(shots=None), x, order=1)
        np.testing.assert_allclose(value, right[0], atol=near)
        np.testing.assert_allclose(gradient, right[1], atol=near)
    # Rows without numbers change nothing for the others.
    mixed = tf.constant([[0.4, 0.3], [np.nan, 0.3], [np.pi, 0.3]], tf.float64)
    for order in (0, 2):
        (found,) = qshift.derivatives(node, mixed, partials=[(0,) * order], batched=0)
        (right,) = qshift.derivatives(
            node.update(shots=None), mixed, partials=[(0,) * order], batched=0
        )
        np.testing.assert_allclose(found, right, atol=2 * near)
    tracker.reset()
    empty = qshift.derivatives(node, tf.zeros([0, 2], tf.float64), partials=[(), (0,)], batched=0)
    assert [each.shape[0] for each in empty] == [0, 0] and tracker.totals["shots"] == 0
