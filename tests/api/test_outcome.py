"""What is computed from derivatives: the same numbers as from all of them, for fewer circuits, and
with shots, smaller errors."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.api.by_arguments import ByArguments
from qshift.api.outcome import Outcome
from qshift.autodiff.contraction import levels

X = np.array([0.4, -1.1, 0.7, 2.0])


def gates(x):
    for j in range(4):
        qml.RY(0.4 + j, wires=j)
    for j in range(4):
        (qml.RX if j % 2 else qml.RZ)(x[j], wires=j)
        qml.CNOT(wires=[j, (j + 1) % 4])
        qml.RY(0.3 * j + 0.2, wires=j)


def circuit(x):
    gates(x)
    return qml.expval(qml.Z(0) @ qml.X(1))


def of(function=circuit, **options):
    return qshift.QNode(function, qshift.device("simulator"), **options)


VECTOR = np.array([0.5, -1.0, 2.0, 0.1])


def trace(value, gradient, hessian):
    return tf.linalg.trace(hessian)


def product(value, gradient, hessian):
    return tf.linalg.matvec(hessian, tf.constant(VECTOR, hessian.dtype))


def damped(value, gradient, hessian):
    """A Newton step, of a matrix that is positive."""
    size = hessian.shape[0]
    matrix = tf.matmul(hessian, hessian) + tf.eye(size, dtype=hessian.dtype)
    return tf.linalg.solve(matrix, gradient[:, None])[:, 0]


def nested(value, gradient, hessian):
    return {"a": value, "b": (gradient[1:], 3.0 + 2.0 * hessian[0, 1])}


ELSEWHERE = tf.constant(VECTOR[:2])

FUNCTIONS = {"trace": trace, "product": product, "damped": damped, "nested": nested}
# Circuits of order 2 that exact results take: for the trace those at x and x + pi e_j.
CIRCUITS = {"trace": 5, "product": 23, "damped": 27, "nested": 12}


# --- exact ---


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("diff_method", ["best", "shift"])
@pytest.mark.parametrize("angle", [0.4, 0.0, np.pi, 1e-9, 1e13, np.nan])
def test_exact_results_are_those_of_all_derivatives(name, diff_method, angle):
    if name == "damped" and np.isnan(angle):
        pytest.skip("TensorFlow solves no equations with such numbers")
    node, x = of(diff_method=diff_method), tf.constant([angle, *X[1:]], tf.float64)
    found = qshift.derivatives(node, x, order=2, wanted=FUNCTIONS[name])
    expected = FUNCTIONS[name](*qshift.derivatives(node, x, order=2))
    tf.nest.map_structure(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-10), found, expected
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_only_what_it_takes_is_evaluated(name, tracker):
    node = of(diff_method="shift")
    qshift.derivatives(node, tf.constant(X), order=2, wanted=FUNCTIONS[name])
    assert tracker.totals["circuits"] == CIRCUITS[name] and tracker.totals["batches"] == 1


def test_several_arguments_and_precisions():
    def two(a, b):
        return circuit(tf.concat([tf.cast(a, tf.float64), tf.reshape(b, [-1])], 0))

    a, b = tf.constant(X[:2], tf.float32), tf.constant(X[2:].reshape(1, 2))

    def mixed(value, gradient, hessian):
        (aa, ab), (ba, bb) = hessian
        off = tf.cast(ab[0], tf.float64) + tf.cast(ba[:, :, 1], tf.float64)
        return tf.reduce_sum(aa), off, 2 * bb, gradient[0]

    node = of(two)
    found = qshift.derivatives(node, a, b, order=2, wanted=mixed)
    expected = mixed(*qshift.derivatives(node, a, b, order=2))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_probabilities():
    def probabilities(x):
        gates(x)
        return qml.probs(wires=[0, 1])

    node = of(probabilities)

    def weighted(value, gradient, hessian):
        return tf.reduce_sum(value * [1.0, 2.0, 3.0, 4.0]) + hessian[2, 0, 3]

    found = qshift.derivatives(node, tf.constant(X), order=2, wanted=weighted)
    expected = weighted(*qshift.derivatives(node, tf.constant(X), order=2))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    sampled = node.update(shots=10_000)
    for errors in (False, True):
        found = qshift.derivatives(sampled, tf.constant(X), order=2, wanted=weighted, errors=errors)
        value = found.value if errors else found
        np.testing.assert_allclose(value, expected, atol=0.3)


def test_functions_that_are_no_qnodes():
    """All derivatives are taken, by tapes, and errors follow from them."""
    node, x = of(), tf.constant(X)
    found = qshift.derivatives(lambda x: node(x) ** 2, x, order=2, wanted=trace)
    expected = trace(*qshift.derivatives(lambda x: node(x) ** 2, x, order=2))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    sampled = of(shots=2000, seed=1)
    found = qshift.derivatives(lambda x: sampled(x) ** 2, x, order=2, wanted=trace, errors=True)
    assert abs(found.value - expected) < 6 * found.error < 1.0
    compiled = tf.function(lambda x: qshift.derivatives(node, x, order=2, wanted=trace))
    expected = trace(*qshift.derivatives(node, x, order=2))
    np.testing.assert_allclose(compiled(x), expected, atol=1e-12)


# --- what is affine ---


@pytest.mark.parametrize(
    "function, is_affine",
    [
        (lambda f, g: g[0] + 2 * g[1] - 3.0, True),
        (lambda f, g: [f, tf.concat([g, g], 0)], True),
        (lambda f, g: tf.cast(g, tf.float32), True),
        (lambda f, g: f * g, False),
        (lambda f, g: tf.nn.relu(g), False),
        (lambda f, g: tf.abs(f), False),
        (lambda f, g: tf.where(f > 0, g[0], g[1]), False),
        (lambda f, g: tf.clip_by_norm(g, 100.0), False),
        (lambda f, g: g / tf.norm(g), False),
        (lambda f, g: g + 1e-7 * g**2, False),
        (lambda f, g: tf.linalg.cholesky(f * tf.eye(2, dtype=tf.float64)), False),
        (lambda f, g: tf.boolean_mask(g, g > 0), False),
        # Those that are affine at most numbers, or nearly everywhere.
        (lambda f, g: tf.abs(f + 0.3), False),
        (lambda f, g: tf.nn.leaky_relu(f + 50.0), False),
        (lambda f, g: tf.maximum(f, -50.0), False),
        (lambda f, g: tf.where(f < -50.0, g[0], f), False),
        (lambda f, g: f if f > -50.0 else 0.0 * f, False),
        (lambda f, g: tf.gather(g, tf.cast(f > 50.0, tf.int32)), False),
        (lambda f, g: tf.gather(g, tf.cast(f / 1e6, tf.int32)), False),
        (lambda f, g: f + tf.cast(tf.cast(f / 1e6, tf.int64), tf.float64), False),
        (lambda f, g: tf.clip_by_value(g, -1e6, 1e6), False),
        (lambda f, g: tf.cond(f > -50.0, lambda: f, lambda: -f), False),
        (lambda f, g: f if f.numpy() > -50.0 else -f, False),
        (lambda f, g: tf.py_function(lambda at: at if at > -50 else -at, [f], f.dtype), False),
        (lambda f, g: tf.reduce_max(tf.stack([f, f - 1.0])), False),
        (lambda f, g: tf.sort(tf.stack([f, f - 1.0])), False),
        (lambda f, g: tf.function(lambda at: tf.maximum(at, -50.0))(f), False),
        (lambda f, g: f + tf.cast(tf.shape(tf.boolean_mask(g, g > 50.0))[0], f.dtype), False),
        (lambda f, g: f + tf.reduce_sum(tf.ones_like(tf.boolean_mask(g, g > 50.0))), False),
        # Those of many ops, and with tensors of elsewhere.
        (lambda f, g: tf.tensordot(ELSEWHERE, g, 1) + f, True),
        (lambda f, g: g * ELSEWHERE**2, True),
        (tf.function(lambda f, g: 2.0 * f + g[1]), True),
        (lambda f, g: tf.linalg.trace(tf.linalg.diag(g) * [[1.0, 2.0], [3.0, 4.0]]), True),
        (lambda f, g: tf.linalg.solve(tf.eye(2, dtype=g.dtype) * 2.0, g[:, None]), True),
        (lambda f, g: tf.where([True, False], g, f) + tf.cast(tf.shape(g), g.dtype), True),
        (lambda f, g: tf.tensordot(tf.reverse(g, [0]), VECTOR[:2], 1) + tf.zeros_like(f), True),
        (lambda f, g: tf.gather_nd(tf.pad(g, [[1, 1]]), [[2], [0]]) / 3.0, True),
    ],
)
def test_whether_a_function_is_affine(function, is_affine):
    by_arguments = ByArguments((0, 1), [np.eye(2)], levels((0, 1), 1))
    outcome = Outcome(
        function, by_arguments, np.ones(1), lambda arrays: [tf.constant(each) for each in arrays]
    )
    found = outcome.straight()
    assert (found is not None) == is_affine
    if is_affine:
        weights, ends = found
        at = np.array([0.3, -2.0, 5.0])
        flat = np.concatenate([np.ravel(leaf) for leaf in tf.nest.flatten(outcome(at[:, None]))])
        np.testing.assert_allclose(weights[:, 0] @ at + ends, flat, rtol=1e-6)
        packed = outcome.packed(weights[:, 0] @ at + ends)
        tf.nest.assert_same_structure(packed, outcome(at[:, None]))


# --- shots ---


def repeated(node, wanted, repetitions, **options):
    return np.array(
        [
            qshift.derivatives(node, tf.constant(X), order=2, wanted=wanted, **options)
            for _ in range(repetitions)
        ]
    )


@pytest.mark.parametrize("name, shots", [("trace", 200), ("damped", qshift.Shots(total=3000))])
def test_shots_go_where_the_outcome_is(name, shots, tracker):
    """For the same number of shots, errors are far smaller than from all derivatives, and those
    that are told are those of repetitions."""
    node, wanted, repetitions = of(shots=shots), FUNCTIONS[name], 100
    exact = wanted(*qshift.derivatives(node.update(shots=None), tf.constant(X), order=2)).numpy()
    tracker.reset()
    found = repeated(node, wanted, repetitions)
    taken = tracker.totals["shots"] / repetitions
    cost = taken * ((found - exact) ** 2).mean(axis=0).sum()
    # A value's circuits take 200 shots each on the average.
    expected = 3000 if isinstance(shots, qshift.Shots) else 200 * (5 if name == "trace" else 37)
    assert taken == pytest.approx(expected, rel=0.01)
    tracker.reset()
    every = np.array(
        [wanted(*qshift.derivatives(node, tf.constant(X), order=2)) for _ in range(repetitions)]
    )
    apart = tracker.totals["shots"] / repetitions * ((every - exact) ** 2).mean(axis=0).sum()
    assert cost < (0.4 if name == "trace" else 0.8) * apart
    told = np.array(
        [
            qshift.derivatives(node, tf.constant(X), order=2, wanted=wanted, errors=True).error
            for _ in range(5)
        ]
    )
    np.testing.assert_allclose(np.sqrt((told**2).mean(axis=0)), found.std(axis=0), rtol=0.35)


@pytest.mark.parametrize("shots", [1000, qshift.Shots(error=0.02)])
def test_what_a_first_share_finds_unimportant_stays_known(shots):
    """Where the function bends or jumps, this decides what it returns."""

    def steepest(value, gradient):
        return tf.gather(gradient, tf.argmax(tf.abs(gradient)))

    def two_angles(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.Z(1))

    x, node, repetitions = tf.constant(X[[0, 3]] + [0, 0.4]), of(two_angles, shots=shots), 40
    exact = steepest(*qshift.derivatives(of(two_angles), x)).numpy()
    found = [qshift.derivatives(node, x, wanted=steepest, errors=True) for _ in range(repetitions)]
    errors = np.array([each.value for each in found]) - exact
    told = np.sqrt(np.mean([each.error**2 for each in found]))
    assert abs(errors.mean()) < 4 * told / np.sqrt(repetitions)
    assert 0.6 * told < errors.std() < 1.5 * told


@pytest.mark.parametrize(
    "wanted",
    [
        lambda f, g: tf.cond(f < 0.9, lambda: tf.zeros_like(g), lambda: g),
        lambda f, g: tf.linalg.cholesky((f**2 + 1e-9) * tf.eye(2, dtype=f.dtype)) + g[0] * 0,
    ],
)
def test_what_a_first_share_says_nothing_of_is_spread_evenly(wanted):
    node = of(shots=100)
    found = qshift.derivatives(node, tf.constant(X), wanted=wanted, errors=True)
    assert found.value.shape == wanted(*qshift.derivatives(of(), tf.constant(X))).shape
    assert np.isfinite(found.error).all()


@pytest.mark.parametrize("shots", [None, 100, qshift.Shots(total=50), qshift.Shots(error=0.1)])
@pytest.mark.parametrize("number", [0.0, 3.0])
def test_what_does_not_change_with_the_derivatives(number, shots):
    node, x = of(shots=shots), tf.constant(X)
    found = qshift.derivatives(node, x, wanted=lambda f, g: 0.0 * g + number, errors=True)
    np.testing.assert_array_equal(found.value, np.full(4, number))
    np.testing.assert_array_equal(found.error, np.zeros(4))
    assert node.plan(x, wanted=lambda f, g: 0.0 * g + number).circuits


def test_the_error_of_an_outcome():
    node = of(shots=qshift.Shots(error=0.05))
    exact = trace(*qshift.derivatives(node.update(shots=None), tf.constant(X), order=2)).numpy()
    found = repeated(node, trace, 50)
    assert np.sqrt(((found - exact) ** 2).mean()) == pytest.approx(0.05, rel=0.3)


@pytest.mark.parametrize(
    "shots, batches",
    [
        (200, 2),
        (qshift.Shots(per_circuit=200, pilot=0), 1),
        (qshift.Shots(per_circuit=200, equal=True), 1),
        (qshift.Shots(total=50), 1),
    ],
)
def test_where_there_is_a_first_share(shots, batches, tracker):
    """Of functions that are not affine, if the shots suffice and nobody forbids it."""
    qshift.derivatives(of(shots=shots), tf.constant(X), order=2, wanted=damped)
    assert tracker.totals["batches"] == batches


def test_with_prefetched_derivatives(tracker):
    node = of(shots=1000, prefetch=2, seed=1)
    found = qshift.derivatives(node, tf.constant(X), order=2, wanted=trace)
    assert tracker.totals["batches"] == 1
    every = qshift.derivatives(of(shots=1000, seed=1), tf.constant(X), order=2)
    np.testing.assert_allclose(found, trace(*every), atol=0.5)
    plan = node.plan(tf.constant(X), order=2, wanted=trace)
    assert plan.circuits == tracker.totals["circuits"] / 2 == 37


def test_aer(tracker):
    node = qshift.QNode(
        circuit, qshift.device("aer-shots", wires=4), shots=qshift.Shots(total=5000)
    )
    exact = qshift.derivatives(of(), tf.constant(X), order=2)
    for name, scale in (("trace", 4), ("damped", 4)):
        found = qshift.derivatives(
            node, tf.constant(X), order=2, wanted=FUNCTIONS[name], errors=True
        )
        np.testing.assert_array_less(np.abs(found.value - FUNCTIONS[name](*exact)), 6 * found.error)
        assert np.max(found.error) < scale / np.sqrt(5000) * 2
    assert tracker.totals["jobs"] == 2  # a job each: a first share takes a word there


# --- errors ---


@pytest.mark.parametrize(
    "wanted, message",
    [
        (lambda f, g: g.numpy(), "must return floating-point tensors.*it returned ndarray"),
        (lambda f, g: tf.argmax(g), "it returned int64"),
        (lambda f, g: tf.cast(g, tf.complex128), "it returned complex128. Take real"),
        (lambda f, g: None, "it returned NoneType. Return what TensorFlow computes"),
        (lambda f, g: tf.floor(f), "tf.floor and tf.stop_gradient have none"),
        (lambda f, g: tf.constant(1.0), "does not follow from the derivatives"),
        (lambda f, g: tf.constant(g.numpy()), "does not follow from the derivatives"),
        ([(0,)], "takes a function of value, gradient"),
    ],
)
def test_what_cannot_be_wanted(wanted, message, tracker):
    with pytest.raises(ValueError, match=message):
        qshift.derivatives(of(shots=100), tf.constant(X), wanted=wanted)
    assert not tracker.totals["circuits"]


def test_mistakes_in_the_function_are_found_before_anything_runs(tracker):
    with pytest.raises(TypeError, match="positional argument"):
        qshift.derivatives(of(), tf.constant(X), wanted=trace)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        qshift.derivatives(of(), tf.constant(X), wanted=lambda f, g: g + tf.zeros(3, g.dtype))
    assert not tracker.totals["circuits"]


def test_keywords_that_exclude_each_other():
    for options in ({"partials": [(0,)]}, {"diagonal": True}):
        with pytest.raises(ValueError, match="Give either"):
            qshift.derivatives(of(), tf.constant(X), wanted=trace, **options)


# --- plans ---


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"diff_method": "shift"},
        {"diff_method": "shift", "objective": "shots"},
        {"shots": 300},
        {"shots": 300, "objective": "circuits"},
        {"shots": qshift.Shots(per_circuit=300, equal=True)},
        {"shots": qshift.Shots(per_circuit=300, pilot=0.2)},
        {"shots": qshift.Shots(total=20_000)},
        {"shots": qshift.Shots(total=20_000, pilot=0)},
        {"shots": qshift.Shots(total=20)},
    ],
    ids=str,
)
def test_a_plan_says_what_it_takes(name, options, tracker):
    node = of(**options)
    plan = node.plan(X, order=2, wanted=FUNCTIONS[name])
    assert not tracker.totals["circuits"] and plan.together is None and len(plan.orders) == 1
    qshift.derivatives(node, tf.constant(X), order=2, wanted=FUNCTIONS[name])
    found = tracker.totals
    assert (plan.batches, plan.shots) == (found["batches"], found["shots"])
    if not plan.chosen:  # of those that are chosen twice, a batch has one
        assert plan.circuits == found["circuits"]
    assert plan.recursion == node.plan(X, order=2).recursion
    assert "of what is wanted" in str(plan) and plan.to_dict()["wanted"]


def test_the_cost_of_what_is_wanted():
    """The trace of 4 parameters of one frequency: (f(x) and f(x + pi e_j))_j with coefficients 2
    and 1/2; the diagonal, -1/2 of the first and 1/2 of one other for each entry."""

    def cosines(x):
        for j in range(4):
            qml.RX(x[j], wires=j)
        return qml.expval(qml.prod(*map(qml.Z, range(4))))

    node = of(cosines, shots=1000)
    whole = node.plan(X, order=2).precision
    traced = node.plan(X, order=2, wanted=trace).precision
    diagonal = node.plan(X, order=2, wanted=lambda f, g, h: tf.linalg.diag_part(h)).precision
    assert traced.cost == pytest.approx((2 + 4 * 0.5) ** 2, rel=1e-3)
    assert diagonal.cost == pytest.approx((1 + 4 * 0.5) ** 2, rel=1e-3)
    for one in (traced, diagonal):
        assert one.bound <= one.cost < one.equal < whole.equal
    # A Newton step's slopes are known only after a first share.
    assert node.plan(X, order=2, wanted=damped).precision == whole


def test_a_plan_where_all_is_evaluated(tracker):
    node = of(lambda x: gates(x**2) or qml.expval(qml.Z(0)), shots=100)
    plan = node.plan(X, order=2, wanted=trace)
    assert not plan.wanted and plan.circuits == node.plan(X, order=2).circuits
    with pytest.raises(ValueError, match="wanted= as a function"):
        node.plan(X, order=2, wanted=3)
    with pytest.raises(ValueError, match="either partials"):
        node.plan(X, partials=[()], wanted=trace)
    assert not tracker.totals["circuits"]
