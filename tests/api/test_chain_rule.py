"""Chosen partial derivatives of qnodes, without tracing."""

import concurrent.futures
import gc
import itertools
import weakref

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from fuzz.jets import Jet, ring
from nested_tapes import jacobians
from random_circuits import RandomCircuit, jax_derivatives

import qshift
from qshift.api.angle_derivatives import AngleDerivatives, Source, UnsuitedError

DEVICE = qml.device("default.qubit")
X, W = np.array([0.1, 0.5, -0.3, 0.8]), np.array([0.7, -0.4])
ORDERS = [(), (0,), (1, 0), (1, 1), (0, 0), (1, 0, 1)]


class Functions:
    """Functions of tensors, by the names that jets have for them."""

    sin, cos, exp, sqrt, tanh = tf.sin, tf.cos, tf.exp, tf.sqrt, tf.tanh
    square = staticmethod(lambda x: x**2)


# Angles; x is a number, or a batch of them.
ANGLES = {
    "affine": lambda m, x, w: [x, 2 * w[0] - w[1], x / 3 + 0.2, w[1]],
    "curved": lambda m, x, w: [m.sin(x) + 0.3, m.square(x), m.exp(w[0]), m.square(w[1]) + w[0]],
    "products": lambda m, x, w: [w[0] * x, w[1] * m.sqrt(x + 2.0), w[0] * w[1], x * x],
    "all entries": lambda m, x, w: [m.tanh(w)[0] * x, m.sin(w)[1] - x],
}


def product(angles):
    """The product of the angles' cosines."""
    for wire, angle in enumerate(angles):
        qml.RX(angle, wires=wire)
    for wire in range(1, len(angles)):
        qml.CNOT([wire, 0])
    return qml.expval(qml.Z(0))


def node(function, **settings):
    return qshift.qnode(DEVICE, diff_method="shift", **settings)(function)


def of_angles(angles, **settings):
    return node(lambda x, w: product(angles(Functions, x, w)), **settings)


def truth(angles, x, w, partial):
    """By jets; derivatives by x keep to their rows."""
    if np.ndim(x):
        return np.stack([truth(angles, row, w, partial) for row in x])
    variables = ring(1 + len(w), 3)
    given = variables.parameters(x, 0), variables.parameters(w, 1)
    found = variables.constant(1.0)
    for angle in angles(Jet, *given):
        found = found * angle.cos()
    for position in partial:
        found = found.derivative([0])[..., 0] if position == 0 else found.derivative([1, 2])
    return found.value


@pytest.fixture
def traced(monkeypatch):
    """Collects the functions that are compiled. Nothing may be differentiated in a loop."""
    functions, compile = [], tf.function
    monkeypatch.setattr(tf, "function", lambda fn, **kw: functions.append(fn) or compile(fn, **kw))
    monkeypatch.delattr(tf.GradientTape, "jacobian")
    return functions


@pytest.mark.parametrize("angles", ANGLES.values(), ids=ANGLES)
@pytest.mark.parametrize("rows", [None, 1, 4])
def test_equal_those_of_jets(angles, rows, traced, tracker):
    circuit = of_angles(angles)
    x = X[0] if rows is None else X[:rows]
    given = {} if rows is None else {"batched": 0}
    found = qshift.derivatives(circuit, tf.constant(x), W, partials=ORDERS, **given)
    assert not traced and tracker.totals["batches"] == 1
    assert tracker.totals["circuits"] == circuit.plan(tf.constant(x), W, partials=ORDERS).circuits
    for partial, derivative in zip(ORDERS, found, strict=True):
        expected = truth(angles, x, W, partial)
        assert derivative.shape == expected.shape, partial
        np.testing.assert_allclose(derivative, expected, atol=1e-9, err_msg=str(partial))


@pytest.mark.parametrize("angles", ANGLES.values(), ids=ANGLES)
@pytest.mark.parametrize("rows", [2, 4])
def test_without_rows_of_their_own(angles, rows, traced):
    """Every row of the value by every row of an argument."""
    found = qshift.derivatives(of_angles(angles), X[:rows], W, partials=[(0,), (0, 1), (0, 0)])
    assert not traced
    eye = np.eye(rows)
    by_x, by_both, twice = (truth(angles, X[:rows], W, p) for p in [(0,), (0, 1), (0, 0)])
    np.testing.assert_allclose(found[0], np.einsum("b,bi->bi", by_x, eye), atol=1e-9)
    np.testing.assert_allclose(found[1], np.einsum("bw,bi->biw", by_both, eye), atol=1e-9)
    np.testing.assert_allclose(found[2], np.einsum("b,bi,bj->bij", twice, eye, eye), atol=1e-9)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(2))
def test_random_circuits_equal_those_of_jax(seed, traced):
    names = ("RX", "CRY", "IsingXX", "Rot", "SingleExcitation", "IsingXY")
    random = RandomCircuit(seed, 2, 3, gates=2, measurements=0, names=names)
    measured = [qml.probs(wires=[1, 0]), qml.expval(qml.Z(0) @ qml.X(1) + 0.3 * qml.Y(1))]

    def function(theta):
        random(theta)
        return qml.apply(measured[seed % 2])

    x, y = random.theta[:1], random.theta[1:]
    partials = [p for k in range(3) for p in itertools.product((0, 1), repeat=k)]
    circuit = node(lambda x, y: function(tf.concat([x, y], 0)))
    found = qshift.derivatives(circuit, tf.constant(x), tf.constant(y), partials=partials)
    assert not traced
    reference = qml.qnode(DEVICE, interface="jax", diff_method="backprop")(function)
    expected = jax_derivatives(reference, random.theta, 2)
    blocks = slice(0, 1), slice(1, None)
    for partial, derivative in zip(partials, found, strict=True):
        block = expected[len(partial)][(..., *(blocks[i] for i in partial))]
        np.testing.assert_allclose(derivative, block, atol=1e-8, err_msg=str(partial))


def test_rows_with_several_entries(traced):
    def circuit(x, w):
        return product([x[:, 0] * w, tf.sin(x[:, 1]), x[:, 0] + x[:, 2] ** 2])

    def value(entries):
        a, b, c = entries[0] * entries[3], entries[1].sin(), entries[0] + entries[2].square()
        return a.cos() * b.cos() * c.cos()

    x, w = np.arange(12.0).reshape(4, 3) / 7, 0.6
    partials = [(0,), (0, 0), (0, 1), (1, 0, 0)]
    found = qshift.derivatives(node(circuit), tf.constant(x), w, partials=partials, batched=0)
    assert not traced
    for partial, derivative in zip(partials, found, strict=True):
        rows = []
        for row in x:
            expected = value(ring(4, 3).parameters(np.append(row, w), 0))
            for position in partial:
                by = [[0, 1, 2], [3]][position]
                expected = (
                    expected.derivative(by) if position == 0 else expected.derivative(by)[..., 0]
                )
            rows.append(expected.value)
        assert derivative.shape == np.shape(rows)
        np.testing.assert_allclose(derivative, rows, atol=1e-9)


# --- how often what is called ---


@pytest.mark.parametrize("angles", ANGLES.values(), ids=ANGLES)
@pytest.mark.parametrize("batched", [(), 0])
def test_the_quantum_function_is_called_once_in_each_call(angles, batched, traced):
    called = []

    def circuit(x, w):
        called.append(tf.executing_eagerly())
        return product(angles(Functions, x, w))

    fn = node(circuit)
    for k in range(1, 4):
        x = tf.constant(X[:k] + k / 10 if batched == 0 else X[k])
        qshift.derivatives(fn, x, k * W, partials=[(), (0, 0), (0, 1)], batched=batched)
        assert called == [True] * k
    assert not traced


def test_a_compiled_function_traces_once():
    called = []

    @tf.function(autograph=False)
    def compiled(x, w):
        called.append(1)
        return qshift.derivatives(fn, x, w, partials=[(), (0, 1)])

    fn = of_angles(ANGLES["products"])
    for k in range(1, 4):
        x = X[k]
        found = compiled(tf.constant(x), tf.constant(W))
        np.testing.assert_allclose(found[1], truth(ANGLES["products"], x, W, (0, 1)), atol=1e-9)
    assert len(called) == 1


@tf.custom_gradient
def halved(x):
    """Has half the derivative that it should have."""
    return tf.sin(x), lambda cotangent: cotangent * tf.cos(x) / 2


@pytest.mark.parametrize(
    "kind", ["function", "transform", "custom gradient", "variance", "compiled angle"]
)
def test_what_else_there_is_is_traced(kind, monkeypatch):
    functions, called, compile = [], [], tf.function
    compiled_sine = tf.function(tf.sin)

    def circuit(x, w):
        called.append(tf.executing_eagerly())
        angle = {"custom gradient": halved, "compiled angle": compiled_sine}.get(kind, tf.sin)
        qml.RX(angle(x), wires=0)
        qml.RY(w, wires=1)
        qml.CNOT([1, 0])
        return qml.var(qml.Z(0)) if kind == "variance" else qml.expval(qml.Z(0))

    fn = node(circuit)
    if kind == "transform":
        fn = qml.transforms.merge_rotations(fn)
    fn = (lambda x, w, inner=fn: inner(x, w)) if kind == "function" else fn
    partials = [(), (0,), (0, 1)]
    monkeypatch.setattr(tf, "function", lambda fn, **kw: functions.append(fn) or compile(fn, **kw))
    x, w = tf.constant(0.3, tf.float64), tf.constant(0.8, tf.float64)
    factor = 0.5 if kind == "custom gradient" else 1.0
    for k in range(1, 3):
        found = qshift.derivatives(fn, x, w, partials=partials)
        assert sum(not eager for eager in called) == k == len(functions)
        if kind != "variance":
            slope = -factor * np.sin(np.sin(0.3)) * np.cos(0.3)
            np.testing.assert_allclose(found[1], slope * np.cos(0.8), atol=1e-9)
            np.testing.assert_allclose(found[2], -slope * np.sin(0.8), atol=1e-9)


def test_where_it_would_take_too_many_gradients():
    """Each of two angles by all entries, twice."""
    circuit = node(lambda w: product([tf.reduce_sum(tf.sin(w)), tf.reduce_prod(w)]))
    w = tf.constant(W)
    sources, words = {0: Source(w, False)}, {(0,), (0, 0)}
    AngleDerivatives(circuit, [w], sources, words, most=2 * (1 + len(W)))
    with pytest.raises(UnsuitedError):
        AngleDerivatives(circuit, [w], sources, words, most=2 * (1 + len(W)) - 1)


def test_angles_that_take_few_entries_of_many():
    """Each takes one gradient by x, and two by the one entry of w for all rows."""
    w = np.linspace(0, 1, 50)
    circuit = node(lambda x, w: product([w[7] * x, tf.sin(w[31]) * x]))
    x, w = tf.constant(X), tf.constant(w)
    sources = {0: Source(x, True), 1: Source(w, False)}
    AngleDerivatives(circuit, [x, w], sources, {(0,), (1,)}, most=2 * 3)
    with pytest.raises(UnsuitedError):
        AngleDerivatives(circuit, [x, w], sources, {(0,), (1,)}, most=2 * 3 - 1)
    by_w, twice = qshift.derivatives(circuit, x, w, partials=[(1,), (1, 1)], batched=0)
    assert by_w.shape == (4, 50) and twice.shape == (4, 50, 50)
    entries = ring(2, 2).parameters(w.numpy()[[7, 31]], 0)
    for row, found, second in zip(X, by_w.numpy(), twice.numpy(), strict=True):
        value = (entries[0] * row).cos() * (entries[1].sin() * row).cos()
        slopes = value.derivative([0, 1])
        np.testing.assert_allclose(found[[7, 31]], slopes.value, atol=1e-12)
        np.testing.assert_allclose(
            second[np.ix_([7, 31], [7, 31])], slopes.derivative([0, 1]).value, atol=1e-12
        )
        assert np.count_nonzero(found) == 2 and np.count_nonzero(second) == 4


def test_where_derivatives_of_angles_have_too_many_entries():
    circuit, w = node(lambda w: product([w[0] * w[1], tf.sin(w[2])])), tf.constant(X)
    sources, words = {0: Source(w, False)}, {(0,), (0, 0)}
    AngleDerivatives(circuit, [w], sources, words, most_entries=2 * 4 * 4).moved()
    with pytest.raises(UnsuitedError):
        AngleDerivatives(circuit, [w], sources, words, most_entries=2 * 4 * 4 - 1).moved()


# --- numbers, types and shapes that change ---


def test_a_structure_that_depends_on_numbers(traced):
    @node
    def circuit(x):
        qml.RX(x, wires=0)
        if x > 1:
            qml.RX(2 * x, wires=0)
        return qml.expval(qml.Z(0))

    for x, frequency in [(0.4, 1), (1.4, 3), (0.7, 1)]:
        found = qshift.derivatives(circuit, x, partials=[(), (0,), (0, 0)])
        u = frequency * x
        expected = np.cos(u), -frequency * np.sin(u), -(frequency**2) * np.cos(u)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert not traced


def test_what_surrounds_the_function_may_change(traced):
    scale = 1.0
    fn = node(lambda x: product([scale * tf.sin(x)]))
    for scale in (1.0, -2.0, 0.0):
        (slope,) = qshift.derivatives(fn, 0.3, partials=[(0,)])
        expected = -np.sin(scale * np.sin(0.3)) * scale * np.cos(0.3)
        assert float(slope) == pytest.approx(expected, abs=1e-12)
    assert not traced


@pytest.mark.parametrize("angles", ANGLES.values(), ids=ANGLES)
def test_other_precision_and_other_shapes(angles, traced):
    fn = of_angles(angles)
    for rows, dtype in [(2, np.float64), (3, np.float32), (2, np.float32), (1, np.float64)]:
        x, w = X[:rows].astype(dtype), W.astype(dtype)
        found = qshift.derivatives(fn, x, w, partials=ORDERS, batched=0)
        for partial, derivative in zip(ORDERS, found, strict=True):
            assert derivative.dtype == dtype
            expected = truth(angles, X[:rows], W, partial)
            atol = 1e-9 if dtype == np.float64 else 2e-5
            np.testing.assert_allclose(derivative, expected, atol=atol)
    assert not traced


def test_mixed_precision(traced):
    """Derivatives have the type of what they are last by, as those of tapes."""
    x, y = tf.constant(0.4, tf.float32), tf.constant(0.3, tf.float64)
    fn = node(lambda x, y: product([x, y]))
    found = qshift.derivatives(fn, x, y, partials=[(), (0,), (1,), (0, 1), (1, 0)])
    double, single = tf.float64, tf.float32
    assert [each.dtype for each in found] == [double, single, double, double, single]
    assert not traced


def test_rows_that_are_not_numbers_leave_others_alone(traced):
    fn, x = of_angles(ANGLES["curved"]), X[:3].copy()
    x[1] = np.nan
    found = qshift.derivatives(fn, x, W, partials=ORDERS, batched=0)
    for partial, derivative in zip(ORDERS, found, strict=True):
        assert np.isnan(derivative[1]).all()
        expected = truth(ANGLES["curved"], X[[0, 2]], W, partial)
        np.testing.assert_allclose(tf.gather(derivative, [0, 2]), expected, atol=1e-9)
    assert not traced


@pytest.mark.parametrize("curved", [False, True])
def test_batches_of_constants(curved, traced):
    def circuit(x):
        qml.RX(x[0] * x[1] if curved else x[0] - x[1], wires=0)
        qml.RX(X, wires=0)
        return qml.expval(qml.Z(0))

    value, by_both = qshift.derivatives(node(circuit), W, partials=[(), (0,)])
    slopes = W[::-1] if curved else np.array([1.0, -1.0])
    angle = X + (W[0] * W[1] if curved else W[0] - W[1])
    np.testing.assert_allclose(value, np.cos(angle), atol=1e-12)
    np.testing.assert_allclose(by_both, -np.outer(np.sin(angle), slopes), atol=1e-12)
    assert not traced


def test_arguments_that_do_not_matter(traced):
    def circuit(x, outside, unused):
        qml.RX(tf.sin(x), wires=0)
        qml.RX(outside, wires=1)
        return qml.expval(qml.Z(0))

    fn, args = node(circuit), (0.3, 0.4, 0.5)
    by_outside, mixed = qshift.derivatives(fn, *args, partials=[(1,), (0, 1)])
    assert [float(each) for each in (by_outside, mixed)] == [0.0, 0.0]
    for partials in ([(0,), (2,)], [(2, 0)], [(0, 2)]):
        with pytest.raises(ValueError, match="does not depend on argument 2"):
            qshift.derivatives(fn, *args, partials=partials)
    assert not traced


def test_no_entries():
    fn = node(lambda x, none: product([x, tf.reduce_sum(none)]))
    by_none, mixed = qshift.derivatives(fn, 0.3, np.zeros(0), partials=[(1,), (1, 0)])
    assert by_none.shape == mixed.shape == (0,)


def test_gathered_angles(traced):
    """Their slopes are sparse."""
    fn = node(lambda w: product([tf.sin(tf.gather(w, [1, 0]))[k] for k in range(2)]))
    by_both, twice = qshift.derivatives(fn, W, partials=[(0,), (0, 0)])
    w = ring(2, 2).parameters(W, 0).sin().cos()
    expected = (w[0] * w[1]).derivative([0, 1])
    np.testing.assert_allclose(by_both, expected.value, atol=1e-9)
    np.testing.assert_allclose(twice, expected.derivative([0, 1]).value, atol=1e-9)
    assert not traced


# --- tapes of the caller, threads, samples, memory ---


@pytest.mark.parametrize("captured", [False, True])
def test_an_outer_tape_differentiates_the_results(captured):
    w = tf.Variable(0.4, dtype=tf.float64)
    x = tf.constant(0.3, tf.float64)
    fn = node(lambda x: product([tf.sin(x), w]))
    with tf.GradientTape() as tape:
        if not captured:
            tape.watch(x)
        value, slope = qshift.derivatives(fn, x, partials=[(), (0,)])
    u = np.sin(0.3)
    expected = [np.sin(u) * np.cos(0.3) * np.sin(0.4), -np.sin(u) * np.cos(0.3) * np.cos(0.4)]
    got = tape.gradient(slope if captured else value, w if captured else x)
    np.testing.assert_allclose(got, expected[not captured], atol=1e-9)


def test_many_threads(traced):
    angles = ANGLES["products"]
    fn = of_angles(angles)

    def one(k):
        (found,) = qshift.derivatives(fn, X + k / 50, W, partials=[(0, 1)], batched=0)
        np.testing.assert_allclose(found, truth(angles, X + k / 50, W, (0, 1)), atol=1e-9)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(24)))


def test_samples_are_those_of_the_seed(traced):
    def run():
        fn, partials = of_angles(ANGLES["products"], shots=50, seed=3), [(), (0,), (0, 1)]
        return [qshift.derivatives(fn, X[:2], W, partials=partials, batched=0) for _ in range(2)]

    first, second = run(), run()
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(*first, strict=True))
    assert not traced


def test_nothing_is_kept_of_a_call():
    angles = []

    def circuit(x, w):
        made = ANGLES["products"](Functions, x, w)
        angles.extend(map(weakref.ref, made))
        return product(made)

    fn = node(circuit)
    for rows in range(1, 4):
        qshift.derivatives(fn, X[:rows], W, partials=[(0, 0, 1)], batched=0)
    gc.collect()
    assert len(angles) == 12 and not any(angle() is not None for angle in angles)
    assert not len(fn.slopes)


def test_a_function_that_assigns_is_called_once_or_not_at_all():
    calls = tf.Variable(0.0, dtype=tf.float64)

    @node
    def circuit(x):
        calls.assign_add(1.0)
        return product([halved(x) * calls])

    with pytest.raises(qshift.UnsupportedError, match="circuit assigns.*tf.function"):
        qshift.derivatives(circuit, 0.7, partials=[(), (0,)])
    calls.assign(0.0)
    compiled = tf.function(lambda x: qshift.derivatives(circuit, x, partials=[(), (0,)]))
    value, _ = compiled(tf.constant(0.7, tf.float64))
    assert float(value) == pytest.approx(np.cos(np.sin(0.7)))
    assert float(calls) == 1


PICKED_TWICE = {
    "product": lambda x: x[0] * (a := x[0]) * a,
    "sum": lambda x: tf.sin((a := x[0]) + a),
    "list": lambda x: tf.sin(tf.add_n([(a := x[0]), a])),
    "axis": lambda x: (a := x[0]) * tf.reduce_prod(a[None]),
    "reshaped": lambda x: tf.sin(a := x[0]) * tf.reduce_sum(tf.reshape(a, [1])),
    "product of matrices": lambda x: (
        (tf.reshape(a := x[0], [1, 1]) @ tf.constant([[0.5, 0.2]], tf.float64))[0, 0] * a
    ),
    "slice": lambda x: tf.squeeze(z := x[:1]) * tf.reduce_sum(tf.square(z)),
    "sum of a slice": lambda x: tf.reduce_sum((z := x[:1]) + z * z) * z[0],
    "cast": lambda x: tf.sin(a := x[0]) * tf.cast(tf.cast(a, tf.float32), tf.float64),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("angle", PICKED_TWICE.values(), ids=PICKED_TWICE)
def test_a_number_that_reaches_an_angle_twice_counts_once_for_each_way(angle):
    @qshift.qnode(qshift.device("simulator"))
    def node(x):
        qml.RX(angle(x), wires=0)
        qml.RY(x[1], wires=0)
        return qml.expval(qml.Z(0))

    x = tf.constant([0.3, 0.7], tf.float64)
    found = qshift.derivatives(node, x, partials=[(0,), (0, 0)])
    _, gradient, hessian = jacobians(node, x, pfor=(True, True))
    np.testing.assert_allclose(found[0], gradient, atol=1e-7)
    np.testing.assert_allclose(found[1], hessian, atol=1e-6)


def test_infinite_slopes_stay_where_they_are():
    @qshift.qnode(qshift.device("simulator"))
    def node(w):
        for wire, k in enumerate((0, 1)):
            qml.RX(tf.sqrt(w[k]) + 0.1, wires=wire)
        qml.RY(0.2 * w[2], wires=0)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(1))

    w = tf.Variable([0.0, 0.5, 0.7], dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = node(w)
    (found,) = qshift.derivatives(node, w, partials=[(0,)])
    expected = tape.gradient(value, w).numpy()
    assert np.isinf(expected[0]) and np.isfinite(expected[1:]).all()
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("way", ["qnode", "function"])
@pytest.mark.parametrize("partial", [(1,), (0, 1), (1, 0)])
def test_arguments_without_effect_are_named_wherever_they_stand(way, partial):
    @qshift.qnode(qshift.device("simulator"))
    def node(x, y):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    fn = node if way == "qnode" else lambda x, y: 1.0 * node(x, y)
    x, y = tf.constant(0.3, tf.float64), tf.constant(0.4, tf.float64)
    with pytest.raises(ValueError, match="does not depend on argument 1"):
        qshift.derivatives(fn, x, y, partials=[partial])


def test_an_empty_batch():
    @qshift.qnode(qshift.device("simulator"))
    def node(x, w):
        qml.RX(x, wires=0)
        qml.RY(w[0] * w[1], wires=0)
        return qml.expval(qml.Z(0))

    x, w = tf.constant([], tf.float64), tf.constant([0.1, 0.2], tf.float64)
    found = qshift.derivatives(node, x, w, partials=[(0,), (1,)], batched=0)
    assert [tuple(each.shape) for each in found] == [(0,), (0, 2)]


def test_the_value_is_run_only_if_it_is_asked_for(tracker):
    @qshift.qnode(DEVICE, diff_method="shift")
    def node(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.constant(0.3, tf.float64)
    for partials, circuits in (([(0,)], 2), ([(), (0,)], 3), ([(0, 0)], 2)):
        tracker.reset()
        qshift.derivatives(node, x, partials=partials)
        assert tracker.totals["circuits"] == circuits
