"""Gates that share an angle, as one parameter: against gate by gate, and closed forms."""

from functools import partial

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from scipy import optimize

import qshift
from qshift.autodiff.angles import Angles
from qshift.autodiff.remembered_ops import remembered_ops
from qshift.circuits.shared_angles import _is_cheaper, _sums

WIRES = 4


def entangled(angle):
    """A function of one number with the angles `angle(x, k)`, which all reach the observable."""

    def fn(x):
        for k in range(WIRES):
            qml.RY(angle(x, k), wires=k)
        for k in range(WIRES):
            qml.CRX(0.3 + k, wires=[k, (k + 1) % WIRES])
        qml.CNOT([1, 0])
        return qml.expval(qml.X(0) @ qml.Z(1) @ qml.X(2) @ qml.Z(3))

    return fn


SAME = {
    "one tensor": lambda x, k: x,
    "multiples": lambda x, k: 2.0 * x if k % 2 else -x / 0.5,
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("same", SAME)
def test_commuting_or_not_k_gates_take_2k_points_and_one_more(tracker, same, compiled):
    fn = entangled(SAME[same])
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(fn)

    def fixed():
        for k in range(WIRES):
            qml.CRX(0.3 + k, wires=[k, (k + 1) % WIRES])
        qml.CNOT([1, 0])

    matrix = qml.matrix(fixed, wire_order=range(WIRES))()
    observable = qml.matrix(qml.X(0) @ qml.Z(1) @ qml.X(2) @ qml.Z(3), wire_order=range(WIRES))
    signs = np.array([float(SAME[same](1.0, k)) for k in range(WIRES)])

    def truth(x):
        state = np.ones(1)
        for a in signs * x:
            state = np.kron(state, [np.cos(a / 2), np.sin(a / 2)])
        state = matrix @ state
        return np.real(state.conj() @ observable @ state)

    # A trigonometric polynomial of degree 4 |sign|, from its values at equally many points.
    degree, count = 4 * abs(signs[0]), 64
    coefficients = np.fft.fft([truth(2 * np.pi * m / count) for m in range(count)]) / count
    orders = np.fft.fftfreq(count, 1 / count)
    assert np.abs(coefficients[np.abs(orders) > degree]).max() < 1e-12
    x = 0.7
    expected = [
        np.real(np.sum(coefficients * (1j * orders) ** k * np.exp(1j * orders * x)))
        for k in range(5)
    ]

    def fn(x):
        return qshift.derivatives(node, x, order=4)

    result = (tf.function(fn, autograph=False) if compiled else fn)(tf.constant(x, tf.float64))
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)
    assert tracker.totals["circuits"] == 2 * WIRES + 1
    assert tracker.totals["batches"] == 1


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True])
def test_entries_of_a_vector_and_adjoint_gradients(compiled):
    def fn(x):
        for k in range(WIRES):
            qml.RY(x[0], wires=k)
            qml.RX(-2 * x[1], wires=k)
        for k in range(WIRES):
            qml.CNOT([k, (k + 1) % WIRES])
        return qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(2))

    x = tf.constant([0.3, 0.9], tf.float64)
    results = []
    for device, method in (("default.qubit", "shift"), ("lightning.qubit", "adjoint")):
        on = qml.device(device, wires=WIRES)
        node = qshift.qnode(on, diff_method=method, embedded=method == "adjoint")(fn)

        both = partial(qshift.derivatives, lambda x: tf.stack(node(x)), order=2)  # noqa: B023
        results.append((tf.function(lambda x: both(x)) if compiled else both)(x))  # noqa: B023
        assert all(len(program.columns[0]) == 2 for program in node.preparation.programs.values())
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-10)

    # The same with every angle a parameter of its own.
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def separate(angles):
        for k in range(WIRES):
            qml.RY(angles[k], wires=k)
            qml.RX(angles[WIRES + k], wires=k)
        for k in range(WIRES):
            qml.CNOT([k, (k + 1) % WIRES])
        return qml.expval(qml.Z(0) @ qml.X(1)), qml.expval(qml.Y(2))

    every = tf.constant([0.3] * WIRES + [-1.8] * WIRES, tf.float64)
    value, gradient, hessian = qshift.derivatives(lambda a: tf.stack(separate(a)), every, order=2)
    along = np.zeros((2 * WIRES, 2))
    along[:WIRES, 0], along[WIRES:, 1] = 1, -2
    np.testing.assert_allclose(results[0][0], value, atol=1e-10)
    np.testing.assert_allclose(results[0][1], gradient @ along, atol=1e-10)
    expected = np.einsum("mij,ia,jb->mab", hessian, along, along)
    np.testing.assert_allclose(results[0][2], expected, atol=1e-10)


def ring(layers):
    """QAOA for the ring of four; the cost as in ground_truth.json."""

    def cost(angles):
        for w in range(4):
            qml.Hadamard(w)
        for k in range(layers):
            for w in range(4):
                qml.IsingZZ(2 * angles[k], wires=[w, (w + 1) % 4])
            for w in range(4):
                qml.RX(2 * angles[layers + k], wires=w)
        edges = [qml.Z(w) @ qml.Z((w + 1) % 4) for w in range(4)]
        return qml.expval(0.5 * qml.sum(*edges) - 2.0 * qml.I(0))

    return qshift.qnode(qml.device("default.qubit"), diff_method="shift")(cost)


@pytest.mark.parametrize(
    ("layers", "start", "optimum", "gate_by_gate"),
    [(1, [0.5, 0.3], -3.0, 101), (2, [0.6, 0.8, 0.2, 0.5], -4.0, 393)],
)
def test_qaoa_on_a_ring(tracker, layers, start, optimum, gate_by_gate):
    cost = ring(layers)

    def both(angles):
        value, gradient = qshift.derivatives(cost, tf.constant(angles))
        return float(value), gradient.numpy()

    found = optimize.minimize(both, start, jac=True)
    assert found.fun == pytest.approx(optimum, abs=1e-6)
    x = tf.constant(found.x)

    plan = cost.plan(x, order=2)
    tracker.reset()
    qshift.derivatives(cost, x, order=2)
    assert tracker.totals["circuits"] == plan.circuits < gate_by_gate / 3
    # Both edges of a wire reach a term through the mixer, but its own mixers do so only in twos.
    assert "IsingZZ with 3 more: 4 frequencies" in str(plan).replace("\n", " ")
    assert plan.shared[-1] == "RX with 3 more: 2 frequencies"
    assert plan.shared[-1] in plan._repr_html_()


def test_a_tower_is_joined_only_for_higher_orders():
    """Angles x, 2x, 3x, 4x: 10 frequencies, where the gates have one each."""
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(
        entangled(lambda x, k: (k + 1) * x)
    )
    x = tf.constant(0.4, tf.float64)
    first, second = node.plan(x, order=1), node.plan(x, order=2)
    assert first.circuits == 1 + 2 * 4 and not first.shared
    assert second.circuits == 1 + 2 * 10 and second.shared
    by_gate = qshift.derivatives(node, x, order=1)
    joint = qshift.derivatives(node, x, order=2)
    np.testing.assert_allclose(by_gate, joint[:2], atol=1e-9)


def shared(x):
    """Two angles, each of which ten gates share."""
    for k in range(10):
        for wire in range(2):
            qml.RX(x[wire], wires=wire)
            qml.RZ(0.7 + 0.1 * k, wires=wire)
    return qml.expval(qml.Z(0) @ qml.Z(1))


@pytest.mark.parametrize("equal", [False, True])
def test_with_equal_shots_a_gradient_is_taken_gate_by_gate(tracker, equal):
    """Ten gates, joined or not: 41 circuits, whose cost is 441 with shots of their own; with equal
    ones 2,788 joined, and 451 gate by gate."""
    shots = qshift.Shots(per_circuit=200, equal=equal)
    node = qshift.QNode(shared, qshift.device("simulator"), shots=shots)
    x = tf.constant([0.4, 0.9], tf.float64)
    plan = node.plan(x, order=1)
    assert plan.circuits == 41 and bool(plan.shared) == (not equal)
    assert plan.precision.cost == pytest.approx(451 if equal else 441, rel=1e-6)
    value, gradient = qshift.derivatives(node, x)
    assert tracker.totals["circuits"] == 41
    exact = qshift.derivatives(node.update(shots=None), x)
    np.testing.assert_allclose(value, exact[0], atol=0.5)
    np.testing.assert_allclose(gradient, exact[1], atol=6 * np.sqrt(10 * 41 / (41 * 200)))
    # Hessians take many more circuits gate by gate, and fewest circuits are fewest.
    assert node.plan(x, order=2).shared
    fewest = node.update(objective="circuits").plan(x, order=1)
    assert fewest.shared and fewest.circuits == 41


def test_joint_spectrum_with_samples(tracker):
    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift", shots=100, seed=1)(
        entangled(SAME["one tensor"])
    )
    qshift.derivatives(node, tf.constant(0.4, tf.float64), order=2)
    assert tracker.totals["circuits"] <= 1 + 4 * WIRES + 1
    again = qshift.qnode(qml.device("default.qubit"), diff_method="shift", shots=100, seed=1)(
        entangled(SAME["one tensor"])
    )
    x = tf.constant(0.4, tf.float64)
    assert float(qshift.derivatives(again, x)[1]) == float(
        qshift.derivatives(again.update(seed=1), x)[1]
    )


def test_tensors_that_are_equal_by_chance_stay_apart():
    def fn(x, y):
        qml.RX(x[0], wires=0)
        qml.RY(y[0], wires=0)
        qml.RX(x[1], wires=1)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(1))

    node = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(fn)
    x = tf.constant([0.4, 0.4], tf.float64)
    _, (by_x, by_y) = qshift.derivatives(node, x, tf.constant([0.4], tf.float64))
    sine, cosine = np.sin(0.4), np.cos(0.4)
    np.testing.assert_allclose(by_x, [-sine * cosine**2] * 2, atol=1e-12)
    np.testing.assert_allclose(by_y, [-sine * cosine**2], atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_names_of_angles(compiled):
    x, y = tf.Variable([0.1, 0.2], dtype=tf.float64), tf.constant([0.3, 0.4], tf.float64)

    def check(y):
        with tf.GradientTape() as tape, remembered_ops():
            tape.watch(y)
            tensors = [
                x[0], x[1], -3 * x[0], x[0] / 4, tf.cast(x, tf.float64)[0], y[0], 2.0 * y[0],
                x[0] * y[0], tf.sin(y[0]), tf.sin(y)[0], tf.unstack(y)[0],
                2 * tf.sin(y[0]), tf.sin(2 * y[0]),
            ]  # fmt: skip
            names, factors = zip(*Angles().named(tensors), strict=True)
        groups = [names.index(name) for name in names]
        assert groups == [0, 1, 0, 0, groups[4], 5, 5, 7, 8, 9, 10, 8, 12]
        assert [factors[i] for i in (0, 2, 3, 6)] == [1, -3, 0.25, 2]
        return y

    (tf.function(check, autograph=False) if compiled else check)(y)


def test_gates_stay_apart_where_devices_differentiate_and_that_is_cheaper(tracker):
    """Of adjoint derivatives, the second ones take the shifted circuits of first ones."""

    def fn(x):
        qml.RX(x, wires=0)
        qml.RY(2 * x, wires=0)
        return qml.expval(qml.Z(0))

    node = qshift.qnode(qshift.device("simulator"))(fn)
    x = tf.constant(0.3, tf.float64)
    found = qshift.derivatives(node, x, order=2)
    # cos(x) cos(2x): frequencies 1 and 3, together with 1, 2 and 3 as far as rules know
    expected = [np.cos(0.3) * np.cos(0.6), -0.5 * (3 * np.sin(0.9) + np.sin(0.3))]
    expected.append(-0.5 * (9 * np.cos(0.9) + np.cos(0.3)))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert tracker.totals["circuits"] == node.plan(x, order=2).circuits == 1 + 1 + 2 * 2


def test_sums():
    one, half = np.array([1.0]), np.array([0.5, 1.0])
    assert _sums([[one, one, one]]) == (1, 2, 3)
    assert _sums([[one], [one, one]]) == (1, 2)
    assert _sums([[half, one]]) == (0.5, 1, 1.5, 2)
    assert _sums([[np.array([np.sqrt(p)]) for p in (2, 3, 5, 7, 11, 13)]]) is None
    assert _sums([[]]) is None
    np.testing.assert_array_equal(np.array(_sums([[one / 3] * 3])), [1 / 3, 2 / 3, 1])


def test_what_is_cheaper():
    assert _is_cheaper(4, [1] * 4, 1) and _is_cheaper(4, [1] * 4, 2)
    assert not _is_cheaper(10, [1] * 4, 1) and _is_cheaper(10, [1] * 4, 2)
    assert not _is_cheaper(14, [1] * 4, 2)
    assert not _is_cheaper(1, [1], 1)
