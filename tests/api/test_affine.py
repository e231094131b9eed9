"""Derivatives of a qnode by contraction, against nested tapes and closed forms."""

import importlib

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from nested_tapes import NO_PFOR, jacobians

import qshift
from qshift.api.preparation import Preparation

DEVICE = qml.device("default.qubit")
X = np.array([0.4, 1.1, -0.7])

# `qshift.derivatives` is the function.
module = importlib.import_module("qshift.api.derivatives")


@pytest.fixture
def taped(monkeypatch):
    """Collects the calls that took nested tapes."""
    calls, by_tapes = [], module._by_tapes
    monkeypatch.setattr(
        module, "_by_tapes", lambda fn, *args: calls.append(fn) or by_tapes(fn, *args)
    )
    return calls


def node(circuit, **settings):
    return qshift.qnode(DEVICE, **{"diff_method": "shift", **settings})(circuit)


def by_tapes(fn, *args, **settings):
    return qshift.derivatives(lambda *args: fn(*args), *args, **settings)


def assert_same(got, expected, **tolerances):
    tf.nest.assert_same_structure(got, expected)
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, **{"atol": 1e-9, **tolerances})


def plain(x):
    qml.RX(x[0], wires=0)
    qml.RY(x[1], wires=1)
    qml.CNOT(wires=[0, 1])
    qml.RX(x[2], wires=1)
    return qml.expval(qml.Z(0) @ qml.Z(1))


def mixed(x):
    qml.RX(2 * x[0] + x[1], wires=0)
    qml.RY(x[1] - 0.3, wires=1)
    qml.CNOT(wires=[0, 1])
    qml.RX(x[0], wires=1)
    qml.RY(x[0] / 3, wires=0)
    return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0))


def matrix(x):
    weights = np.random.default_rng(1).normal(size=(2, 3))
    angles = qml.math.dot(weights, x)
    qml.RX(angles[0], wires=0)
    qml.CRY(angles[1], wires=[0, 1])
    return qml.expval(qml.Z(1))


def probabilities(x):
    qml.RX(x[0], wires=0)
    qml.RY(x[1] + x[2], wires=1)
    qml.CNOT(wires=[0, 1])
    return qml.probs(wires=[0, 1])


def frequencies(x):
    qml.Hadamard(0)
    qml.CRX(x[0], wires=[0, 1])
    qml.SingleExcitation(1.5 * x[1], wires=[0, 1])
    qml.CRY(x[2], wires=[1, 0])
    return qml.expval(qml.Z(0))


def constants(x):
    qml.RX(x[0], wires=0)
    qml.RY(tf.constant(0.3, tf.float64), wires=0)
    qml.RX(0.2, wires=0)
    return qml.expval(qml.Z(0))


AFFINE = [plain, mixed, matrix, probabilities, frequencies, constants]


@pytest.mark.one_in(6)
@pytest.mark.parametrize("circuit", AFFINE, ids=lambda circuit: circuit.__name__)
def test_equal_nested_tapes(circuit, taped):
    fn = node(circuit)
    with qshift.Tracker() as tracker:
        got = qshift.derivatives(fn, tf.constant(X), order=3)
    assert not taped
    with qshift.Tracker() as expected:
        nested = by_tapes(fn, X, order=3)
    assert len(taped) == 1
    assert_same(got, nested)
    assert tracker.totals == expected.totals and tracker.totals["batches"] == 1
    for order in (0, 1, 2):
        assert_same(qshift.derivatives(fn, X, order=order), nested[: order + 1])


@pytest.mark.parametrize("circuit", AFFINE, ids=lambda circuit: circuit.__name__)
@pytest.mark.parametrize("diff_method", ["shift", "adjoint"])
def test_equal_differences(circuit, diff_method, taped):
    if circuit is probabilities:
        diff_method = "shift"  # devices differentiate expectation values only
    qshift.check_derivatives(node(circuit, diff_method=diff_method), X, order=4)
    assert not taped


def test_closed_form(taped):
    """cos(2x + y) cos(y), whose parameters are shared between gates."""

    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, y):
        qml.RX(2 * x + y, wires=0)
        qml.RX(y, wires=1)
        return qml.expval(qml.Z(0) @ qml.Z(1))

    x, y = 0.4, 0.9
    _, (by_x, by_y), ((by_xx, by_xy), (_, by_yy)) = qshift.derivatives(circuit, x, y, order=2)
    s, c = np.sin(2 * x + y), np.cos(2 * x + y)
    np.testing.assert_allclose(by_x, -2 * s * np.cos(y))
    np.testing.assert_allclose(by_y, -s * np.cos(y) - c * np.sin(y))
    np.testing.assert_allclose(by_xx, -4 * c * np.cos(y))
    np.testing.assert_allclose(by_xy, -2 * c * np.cos(y) + 2 * s * np.sin(y))
    np.testing.assert_allclose(by_yy, -2 * c * np.cos(y) + 2 * s * np.sin(y))
    assert not taped


def two_arguments(x, y):
    qml.RX(x[0, 0], wires=0)
    qml.RY(x[1, 1] - y, wires=1)
    qml.CNOT(wires=[0, 1])
    qml.CRX(y, wires=[0, 1])
    return qml.probs(wires=1)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("argnums", [None, 0, 1, -1, (0,), (0, 1), (1, 0)], ids=str)
def test_arguments_nest_as_with_tapes(argnums, taped):
    fn, x = node(two_arguments), np.arange(4.0).reshape(2, 2)
    got = qshift.derivatives(fn, x, 0.3, order=3, argnums=argnums)
    assert not taped
    assert_same(got, by_tapes(fn, x, 0.3, order=3, argnums=argnums))


def test_one_tensor_as_two_arguments(taped):
    x = tf.constant(0.3, tf.float64)
    twice = node(lambda x, y: two_arguments(tf.reshape(x, [1, 1]) + np.eye(2), y))
    assert_same(qshift.derivatives(twice, x, x, order=2), by_tapes(twice, x, x, order=2))
    assert len(taped) == 1


def test_gathered_angles(taped):
    """Their slopes are sparse."""

    def circuit(x):
        for i in range(2):
            qml.RX(tf.gather(x, [2 * i])[0], wires=i)
        return qml.expval(qml.Z(0) @ qml.Z(1))

    cosines, sines = np.cos(X), np.sin(X)
    _, gradient, hessian = qshift.derivatives(node(circuit), X, order=2)
    np.testing.assert_allclose(gradient, [-sines[0] * cosines[2], 0, -cosines[0] * sines[2]])
    np.testing.assert_allclose(hessian[0], [-cosines[0] * cosines[2], 0, sines[0] * sines[2]])
    assert not taped


# Angles of two arguments, each picked out of one of them and multiplied.
PICKED = [
    lambda x, y: (x[0], y[1], x[2]),
    lambda x, y: (y[0], x[1], y[2]),
    lambda x, y: (-x[0], x[0] / 2, 3.0 * y[1]),
    lambda x, y: (tf.reshape(x, [3, 1])[1, 0], x[::2][1], tf.gather(y, 2)),
    lambda x, y: (tf.unstack(x)[2], tf.cast(y[0], tf.float32), 0.0 * y[1]),
    lambda x, y: (tf.sin(x)[0], 2 * x[1] + y[1], x[0] * y[0]),
]


@pytest.mark.parametrize("arguments", [(X, X + 1), (X + 1, np.arange(4.0)), (X[:, None], X)])
def test_how_angles_are_picked_is_found_once(arguments, monkeypatch):
    def circuits():
        for pick in PICKED:

            def circuit(x, y, pick=pick):
                x = x[:, 0] if len(x.shape) == 2 else x
                for wire, angle in enumerate(pick(x, y)):
                    qml.RX(angle, wires=wire)
                    qml.RY(0.3, wires=wire)
                qml.CNOT([0, 1])
                qml.CNOT([1, 2])
                return qml.expval(qml.Z(2) @ qml.X(0))

            yield node(circuit)

    arguments = [tf.constant(argument) for argument in arguments]
    made = list(circuits())
    for circuit in made:
        for order in (1, 2):
            assert_same(
                qshift.derivatives(circuit, *arguments, order=order),
                by_tapes(circuit, *arguments, order=order),
                atol=1e-6,
            )
    slopes, gradient = [], tf.GradientTape.gradient
    monkeypatch.setattr(
        tf.GradientTape, "gradient", lambda *args: slopes.append(1) or gradient(*args)
    )
    differentiated = []
    for circuit in made:  # each of which has found out how its angles are picked
        slopes.clear()
        qshift.derivatives(circuit, *arguments, order=1)
        differentiated.append(bool(slopes))
    assert differentiated[:3] == [False] * 3 and differentiated[-1]


@pytest.mark.parametrize("circuit", [mixed, probabilities])
def test_single_precision(circuit, taped):
    fn, x = node(circuit), tf.constant(X, tf.float32)
    got = qshift.derivatives(fn, x, order=2)
    assert not taped and {t.dtype for t in got} == {tf.float32}
    assert_same(got, by_tapes(fn, x, order=2), rtol=1e-5, atol=1e-5)


def test_mixed_precision(taped):
    """Derivatives have the type of what they are by, as those of tapes."""

    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, y):
        qml.RX(x, wires=0)
        qml.RY(y, wires=0)
        return qml.expval(qml.Z(0))

    x, y = tf.constant(0.4, tf.float32), tf.constant(0.3, tf.float64)
    got = qshift.derivatives(circuit, x, y)
    value, (by_x, by_y) = got
    assert (value.dtype, by_x.dtype, by_y.dtype) == (tf.float64, tf.float32, tf.float64)
    assert not taped
    assert_same(got, by_tapes(circuit, x, y), rtol=1e-6)
    _, _, ((xx, xy), (yx, yy)) = qshift.derivatives(circuit, x, y, order=2)
    assert [t.dtype for t in (xx, xy, yx, yy)] == 2 * [tf.float32, tf.float64]


# --- where tapes are needed ---


def nonlinear(x):
    qml.RX(tf.sin(x[0]), wires=0)
    qml.RY(x[1] * x[2], wires=0)
    return qml.expval(qml.Z(0))


def variance(x):
    qml.RX(x[0], wires=0)
    qml.RY(x[1] + x[2], wires=1)
    return qml.var(qml.Z(0) @ qml.Z(1))


def trainable_observable(x):
    qml.RX(x[0], wires=0)
    return qml.expval(qml.Hamiltonian([x[1], x[2]], [qml.Z(0), qml.X(0)]))


def broadcast(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


def constant_batch(x):
    qml.RX(x[0], wires=0)
    qml.RY(X, wires=0)
    return qml.expval(qml.Z(0))


def one_in_a_list(x):
    return [plain(x)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "circuit",
    [nonlinear, variance, trainable_observable, broadcast, constant_batch],
    ids=lambda circuit: circuit.__name__,
)
def test_nested_tapes_elsewhere(circuit, taped):
    got = qshift.derivatives(node(circuit), X, order=2)
    assert len(taped) == 1
    reference = qml.qnode(DEVICE, interface="tf", diff_method="backprop")(circuit)
    x = tf.constant(X)
    with pytest.warns(qml.exceptions.PennyLaneDeprecationWarning):
        value, gradient, hessian = jacobians(reference, x, NO_PFOR[:2])
    for a, b in zip(got, (value, gradient, hessian), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_first_order_is_linear_in_the_slopes_of_any_angles(taped):
    _, gradient = qshift.derivatives(node(nonlinear), X)
    inner, product = np.sin(X[0]), X[1] * X[2]
    np.testing.assert_allclose(
        gradient,
        [
            -np.sin(inner) * np.cos(X[0]) * np.cos(product),
            -np.cos(inner) * np.sin(product) * X[2],
            -np.cos(inner) * np.sin(product) * X[1],
        ],
    )
    assert not taped


def test_complex_arguments(taped):
    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(z):
        qml.RX(tf.math.real(z), wires=0)
        return qml.expval(qml.Z(0))

    _, gradient = qshift.derivatives(circuit, tf.constant(0.3 + 0.2j, tf.complex128), argnums=0)
    np.testing.assert_allclose(gradient, -np.sin(0.3))
    assert len(taped) == 1


def test_results_in_a_list_are_refused():
    with pytest.raises(ValueError, match="one tensor"):
        qshift.derivatives(node(one_in_a_list), X)


def test_shot_vectors_are_refused():
    with pytest.raises(ValueError, match="one tensor"):
        qshift.derivatives(node(plain, shots=[10, 20]), X)


def test_transforms(taped):
    fn = qml.transforms.merge_rotations(node(mixed))
    assert_same(qshift.derivatives(fn, X, order=2), by_tapes(node(mixed), X, order=2))
    assert len(taped) == 2


@pytest.mark.parametrize("captured", [False, True])
def test_an_outer_tape_differentiates_the_results(captured, taped):
    w = tf.Variable(0.4, dtype=tf.float64)

    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x):
        qml.RX(x, wires=0)
        qml.RX(w, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.constant(0.3, tf.float64)
    with tf.GradientTape() as tape:
        if not captured:
            tape.watch(x)
        _, _, hessian = qshift.derivatives(circuit, x, order=2)
    np.testing.assert_allclose(tape.gradient(hessian, w if captured else x), np.sin(0.7))
    assert len(taped) == 1


def test_a_forward_accumulator_differentiates_the_results(taped):
    x = tf.constant(X)
    with tf.autodiff.ForwardAccumulator(x, tf.constant([1.0, 0, 0], tf.float64)) as accumulator:
        _, gradient = qshift.derivatives(node(plain), x)
    tangent = accumulator.jvp(gradient)
    assert len(taped) == 1
    _, _, hessian = qshift.derivatives(node(plain), X, order=2)
    np.testing.assert_allclose(tangent, hessian[0], atol=1e-12)


def test_a_tape_that_follows_something_else_does_not_matter(taped):
    other = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        value = other * tf.cast(qshift.derivatives(node(plain), X, order=2)[0], tf.float32)
    assert tape.gradient(value, other) is not None and not taped


def test_compiled(taped):
    fn = node(mixed)
    compiled = tf.function(lambda x: qshift.derivatives(fn, x, order=2), autograph=False)
    got = compiled(tf.constant(X))
    assert len(taped) == 1
    assert_same(got, qshift.derivatives(fn, X, order=2))


# --- what it costs ---


@pytest.mark.parametrize("p, circuits", [(4, 49), (8, 353)])
def test_counts_and_no_jacobians_of_tapes(p, circuits, tracker, monkeypatch):
    monkeypatch.delattr(tf.GradientTape, "jacobian")

    @qshift.qnode(DEVICE, diff_method="shift", objective="circuits")
    def circuit(x):
        for i in range(p):
            qml.RX(x[i], wires=0)
            qml.RY(0.3, wires=0)
        return qml.expval(qml.Z(0))

    qshift.derivatives(circuit, np.linspace(0.1, 1, p), order=3)
    assert (tracker.totals["circuits"], tracker.totals["batches"]) == (circuits, 1)


def test_parameters_outside_cost_nothing(taped, tracker):
    captured = tf.Variable(0.2, dtype=tf.float64)

    @qshift.qnode(DEVICE, diff_method="shift")
    def circuit(x, y):
        qml.RX(x[0], wires=0)
        qml.RX(captured, wires=0)
        qml.RX(x[1], wires=1)  # outside the light cone
        qml.RX(y, wires=0)
        return qml.expval(qml.Z(0))

    x, y = tf.Variable([0.4, 0.5], dtype=tf.float64), tf.Variable(0.1, dtype=tf.float64)
    for differentiate in (qshift.derivatives, by_tapes):
        tracker.reset()
        value, gradient, hessian = differentiate(circuit, x, y, order=2, argnums=0)
        np.testing.assert_allclose(value, np.cos(0.7))
        np.testing.assert_allclose(gradient, [-np.sin(0.7), 0], atol=1e-12)
        np.testing.assert_allclose(hessian, [[-np.cos(0.7), 0], [0, 0]], atol=1e-12)
        assert (tracker.totals["circuits"], tracker.totals["batches"]) == (3, 1)
    assert len(taped) == 1


def test_all_outside_the_light_cone(taped, tracker):
    def circuit(x):
        qml.RX(x[0], wires=1)
        return qml.expval(qml.Z(0))

    got = qshift.derivatives(node(circuit), X, order=2)
    assert not taped and tracker.totals["circuits"] == 1
    assert_same(got, by_tapes(node(circuit), X, order=2))


def test_prefetch_beyond_the_order(taped, tracker):
    fn = node(plain, prefetch=3)
    got = qshift.derivatives(fn, X, order=1)
    circuits = fn.plan(X, order=3).circuits
    assert (tracker.totals["circuits"], tracker.totals["batches"]) == (circuits, 1)
    assert not taped
    assert_same(got, by_tapes(fn, X, order=1))


# --- samples ---


def test_derivatives_share_the_values_samples(taped, tracker):
    """With a, b = f(x +- 2 pi/3): f' = (a - b) / sqrt(3) and f'' = (a + b - 2 f) / 3."""

    @qshift.qnode(DEVICE, shots=10, objective="circuits")
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    for _ in range(5):
        tracker.reset()
        value, gradient, hessian = qshift.derivatives(circuit, 1.3, order=2)
        assert tracker.totals["circuits"] == 3 and tracker.totals["batches"] == 1
        assert tracker.totals["shots"] == 30
        sums, differences = 3 * hessian + 2 * value, np.sqrt(3) * gradient
        samples = np.array([value, (sums + differences) / 2, (sums - differences) / 2])
        np.testing.assert_allclose(5 * samples, np.round(5 * samples), atol=1e-9)
    assert not taped


@pytest.mark.parametrize("objective", ["circuits", "shots"])
def test_seeded_samples_are_those_of_nested_tapes(objective, taped):
    got, expected = (
        differentiate(node(plain, shots=100, seed=5, objective=objective), X, order=2)
        for differentiate in (qshift.derivatives, by_tapes)
    )
    assert_same(got, expected)
    assert len(taped) == 1


# --- what is refused ---


def test_values_independent_of_an_argument(tracker):
    def circuit(x, y):
        qml.RX(x, wires=0)
        qml.RX(tf.stop_gradient(y), wires=0)
        return qml.expval(qml.Z(0))

    for order in (1, 2):
        with pytest.raises(ValueError, match="does not depend on argument 1"):
            qshift.derivatives(node(circuit), 0.3, 0.4, order=order)
    assert tracker.totals["circuits"] == 0


def test_gates_without_a_rule(tracker):
    @qshift.qnode(qml.device("default.mixed", wires=1))
    def circuit(x):
        qml.RX(x, wires=0)
        qml.AmplitudeDamping(x, wires=0)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.NoShiftRuleError, match="AmplitudeDamping"):
        qshift.derivatives(circuit, 0.1, order=2)
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize("order", [2.5, "2", True, np.float64(2)], ids=repr)
def test_orders_are_integers(order, tracker):
    fn = node(plain)
    for function in (qshift.derivatives, fn.plan, qshift.check_derivatives):
        args = (X,) if function == fn.plan else (fn, X)
        with pytest.raises(ValueError, match="order must be an integer"):
            function(*args, order=order)
    assert tracker.totals["circuits"] == 0


def test_numpy_integers_are_orders():
    assert len(qshift.derivatives(node(plain), X, order=np.int64(2))) == 3
    assert len(node(plain).plan(X, order=np.int32(2)).orders) == 3
    qshift.check_derivatives(node(plain), X, order=np.uint8(1))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("bend", [False, True])
def test_a_function_that_assigns_is_called_once_or_not_at_all(bend, order):
    calls = tf.Variable(0.0, dtype=tf.float64)

    @qshift.qnode(qml.device("default.qubit"))
    def circuit(x):
        calls.assign_add(1.0)
        qml.RX((tf.sin(x) if bend else x) * calls, 0)
        return qml.expval(qml.Z(0))

    if bend and order == 2:  # else its angles are contracted with
        with pytest.raises(qshift.UnsupportedError, match="circuit assigns.*partials="):
            qshift.derivatives(circuit, 0.7, order=order)
        calls.assign(0.0)
        value = qshift.derivatives(circuit, 0.7, partials=[(), (0,), (0, 0)])[0]
    else:
        value = qshift.derivatives(circuit, 0.7, order=order)[0]
    assert float(value) == pytest.approx(np.cos(np.sin(0.7) if bend else 0.7))
    assert float(calls) == 1


@pytest.fixture
def prepared(monkeypatch):
    """Collects the calls that were not found again."""
    calls, own = [], Preparation.__call__
    monkeypatch.setattr(
        Preparation, "__call__", lambda self, *args: calls.append(args) or own(self, *args)
    )
    return calls


def test_calls_are_found_again_by_the_entries_that_they_take(taped, prepared):
    entries = []

    def circuit(x):
        qml.RX(x[entries[0]], wires=0)
        qml.RY(x[entries[1]], wires=1)
        qml.CNOT(wires=[0, 1])
        qml.RX(x[entries[2]], wires=1)
        return qml.expval(qml.Z(0) @ qml.X(1))

    energy, made = node(circuit), 0
    for k, (chosen, is_new) in enumerate(
        [
            ([0, 1, 2], True),
            ([0, 1, 2], False),
            ([2, 0, 1], True),
            ([-1, 0, 1], False),
            ([0, 0, 1], True),  # the gates share an angle
            ([1, 1, 0], True),
            ([0, 0, 1], False),
        ]
    ):
        entries[:], at = chosen, tf.constant(X + k)
        got = [qshift.derivatives(energy, at, order=2) for _ in range(2)]
        made += is_new
        assert len(prepared) == made and not taped
        expected = by_tapes(energy, at, order=2)
        made = len(prepared)
        taped.clear()
        for each in got:
            assert_same(each, expected)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("angle", [0.0, np.pi / 2, np.pi, 2 * np.pi, 1e-9, 1e13])
def test_calls_that_are_found_again_have_the_numbers_of_now(angle, prepared):
    energy = node(plain, diff_method="best")
    qshift.derivatives(energy, X, order=3)
    found = qshift.derivatives(energy, X * 0 + angle, order=3)
    assert len(prepared) == 1
    assert_same(found, by_tapes(energy, X * 0 + angle, order=3), atol=1e-7 if angle > 1e9 else 1e-9)


def test_calls_of_other_precision_orders_or_shapes_are_other_calls(prepared):
    energy = node(plain)
    for x in (X, tf.constant(X, tf.float32), np.append(X, 0.5)):
        for order in (1, 2):
            for _ in range(2):
                found = qshift.derivatives(energy, x, order=order)
            assert_same(found, by_tapes(energy, x, order=order), atol=1e-5)
    assert {each.dtype for each in qshift.derivatives(energy, tf.constant(X, tf.float32))} == {
        tf.float32
    }


def test_constants_beside_the_entries_have_the_numbers_of_now(taped, prepared):
    same = []

    def circuit(x, w):
        qml.RX(x[0], wires=0)
        qml.RY(w[0], wires=1)
        qml.CNOT(wires=[0, 1])
        qml.RX(x[1], wires=1)
        angle = w[1]
        qml.RY(angle, wires=0)
        qml.RY(angle if same else w[1], wires=1)
        return qml.expval(qml.Z(0) @ qml.Z(1))

    energy = node(circuit)
    for k, shared in enumerate([[], [], [True], [True], []]):
        same[:] = shared
        x, w = tf.constant(X[:2] + k), tf.Variable(X[1:] - k)
        found = qshift.derivatives(energy, x, w, order=2, argnums=0)
        assert not taped
        assert_same(found, by_tapes(energy, x, w, order=2, argnums=0))
        both = qshift.derivatives(energy, x, w, order=1)
        assert_same(both, by_tapes(energy, x, w, order=1))
        taped.clear()


def test_tapes_that_a_quantum_function_tells_to_watch_get_their_derivatives():
    energy, outer = node(plain), []

    def watched(x):
        outer[0].watch(x)
        return plain(x)

    told = node(watched)
    for _ in range(2):
        with tf.GradientTape() as tape:
            outer[:] = [tape]
            x = tf.constant(X)
            gradient = qshift.derivatives(told, x, order=1)[1]
        # The argument that the function watches is a copy, as elsewhere.
        assert tape.gradient(gradient, x) is None
        assert_same(gradient, qshift.derivatives(energy, x, order=1)[1])


def test_few_calls_are_kept():
    energy = node(plain)
    for size in range(3, 40):
        qshift.derivatives(energy, np.append(X, np.ones(size)), order=1)
    cache = energy.preparation.affine
    assert 0 < cache.currsize <= cache.maxsize and len(cache) == 37


def test_calls_keep_no_more_circuits_than_a_compiler():
    data = 0.0

    def circuit(x):
        qml.RY(data, 0)
        qml.RX(x[0], 0)
        return qml.expval(qml.Z(0))

    energy = node(circuit)
    for k in range(270):
        data = 0.01 * k
        qshift.derivatives(energy, X[:1], order=1)
    assert len(energy.preparation.affine) == 256


@pytest.mark.one_in(2)
@pytest.mark.parametrize("angle", [0.0, np.pi, 2 * np.pi, 1e-9, 0.7])
def test_general_rotations_are_found_again_at_all_angles(angle, prepared):
    def circuit(x):
        qml.Rot(x[0], x[1], x[2], wires=0)
        qml.CNOT(wires=[0, 1])
        qml.Rot(x[2], 0.3, x[0], wires=1)
        return qml.expval(qml.X(0) @ qml.Z(1))

    energy, made = node(circuit, diff_method="best"), []
    for at in (X, X + angle, X * 0 + angle):
        found = qshift.derivatives(energy, at, order=2)
        made.append(len(prepared))
        fresh = node(circuit, diff_method="shift")  # of which nothing is known
        assert_same(found, by_tapes(fresh, at, order=2))
        prepared.clear()
    assert made == [1, 0, 0]
