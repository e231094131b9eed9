"""The op inside `tf.function`, with tapes in and out of it, and what each execution runs."""

import itertools
import math

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from closed_forms import cosine_derivatives, cosine_product_derivatives, rotation
from nested_tapes import NO_PFOR, assert_all_close, gradients, jacobians
from tensorflow.python.framework import config

import qshift
from qshift.tensorflow_internals import always_run


def compiled(fn):
    return tf.function(fn, autograph=False)


IMPOSSIBLE = pytest.mark.xfail(
    raises=ValueError,
    reason="TensorFlow cannot vectorise derivatives of two nested loops, whatever the function",
)


# --- jacobians ---


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "pfor",
    [
        pytest.param(pfor, marks=IMPOSSIBLE if pfor == (False, False, True) else ())
        for pfor in itertools.product([True, False], repeat=3)
    ],
)
def test_tapes_inside(cosine_product, tracker, pfor):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    # TensorFlow wants persistent tapes for jacobians without pfor in eager mode, but not here.
    fn = compiled(lambda x: jacobians(circuit, x, pfor, persistent=False))
    for angles in (theta, 0.5 * theta):
        tracker.reset()
        result = fn(tf.constant(angles))
        assert_all_close(result, cosine_product_derivatives(angles))
        assert tracker.totals["circuits"] == 1 + 2 * 4 + 4 * 6 + 4 * 4


@pytest.mark.one_in(2)
@pytest.mark.parametrize("pfor", [(True, True, True), (True, False, True), NO_PFOR])
def test_tapes_outside(cosine_product, tracker, pfor):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    result = jacobians(compiled(circuit), tf.constant(theta), pfor)
    assert_all_close(result, cosine_product_derivatives(theta))
    assert tracker.totals["circuits"] == 49


@pytest.mark.parametrize(("highest", "count"), [(1, 9), (2, 27)])
@pytest.mark.parametrize("inside", [True, False])
def test_counts_per_order(cosine_product, tracker, highest, count, inside):
    circuit, truth = cosine_product
    x = tf.constant(truth["theta"], tf.float64)
    if inside:
        compiled(lambda x: jacobians(circuit, x, (True,) * highest))(x)
    else:
        jacobians(compiled(circuit), x, (True,) * highest)
    assert tracker.totals["circuits"] == count


def test_one_tape_inside_and_two_outside(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])

    @compiled
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = circuit(x)
        return tape.gradient(value, x)

    result = jacobians(gradient, tf.constant(theta), (True, False))
    assert_all_close(result, cosine_product_derivatives(theta)[1:])
    assert tracker.totals["circuits"] == 49


def test_nested_functions(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    inner = tf.function(lambda x: circuit(x))
    outer = tf.function(lambda x: inner(x))
    result = jacobians(outer, tf.constant(theta), (True, True))
    assert_all_close(result, cosine_product_derivatives(theta, 2))
    assert tracker.totals["circuits"] == 27

    x = tf.constant(0.7, tf.float64)
    circuit = rotation()
    third = tf.function(lambda x: gradients(tf.function(circuit), x))
    assert_all_close(third(x), cosine_derivatives(0.7))


def test_derivatives_inside_a_function_is_one_batch(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    fn = compiled(lambda x: qshift.derivatives(circuit, x, order=3))
    fn(tf.constant(theta))
    tracker.reset()
    assert_all_close(fn(tf.constant(theta)), cosine_product_derivatives(theta))
    assert tracker.totals["circuits"] == 49
    assert tracker.totals["batches"] == 1


@pytest.mark.parametrize("shots, seed", [(None, None), (100, None), (100, 3)])
def test_value_and_gradient_are_one_batch(shots, seed, tracker):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift", shots=shots, seed=seed)
    def circuit(x, w):
        qml.RX(x, wires=0)
        qml.RX(w, wires=0)
        return qml.expval(qml.Z(0))

    def loss(x, w):
        return (circuit(x, w) - 1.0) ** 2  # what is differentiated depends on the value

    @compiled
    def step(x, w):
        with tf.GradientTape() as tape:
            tape.watch(w)
            value = loss(x, w)
        return value, tape.gradient(value, w)

    x, w = tf.constant(0.4, tf.float64), tf.constant(0.3, tf.float64)
    for function, circuits in ((step, 3), (compiled(loss), 1)):
        function(x, w)
        tracker.reset()
        function(x, w)
        assert (tracker.totals["circuits"], tracker.totals["batches"]) == (circuits, 1)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("pfor", [(True, True, True), (False, True, False), NO_PFOR])
def test_batch_jacobians_with_a_batch_of_unknown_size(pfor):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(x):
        qml.RX(x[:, 0], wires=0)
        qml.RY(x[:, 1], wires=0)
        return qml.expval(qml.Z(0)), qml.expval(qml.X(0))

    signature = [tf.TensorSpec([None, 2], tf.float64)]

    @tf.function(input_signature=signature, autograph=False)
    def fn(x):
        return jacobians(lambda x: tf.stack(circuit(x), 1), x, pfor, batch=True, persistent=False)

    for rows in (1, 3):
        x = np.random.default_rng(rows).normal(size=(rows, 2))
        expected = [np.zeros((rows, 2) + (2,) * k) for k in range(4)]
        for k in range(4):
            for index in np.ndindex((2,) * k):
                n = np.bincount(index, minlength=2) * np.pi / 2 if k else np.zeros(2)
                first, second = x[:, 0] + n[0], x[:, 1] + n[1]
                expected[k][:, 0][(slice(None), *index)] = np.cos(first) * np.cos(second)
                expected[k][:, 1][(slice(None), *index)] = np.cos(first) * np.sin(second)
        assert_all_close(fn(tf.constant(x)), expected)


def test_hessians(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    hessian = compiled(lambda x: tf.hessians(circuit(x), x)[0])
    x = tf.constant(theta)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = hessian(x)
    third = tape.gradient(value, x)
    expected = cosine_product_derivatives(theta)
    assert_all_close([value, third], [expected[2], expected[3].sum((0, 1))])
    assert tracker.totals["circuits"] <= 49


def test_symbolic_gradients_of_order_three(cosine_product):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    u, v = np.random.default_rng(0).normal(size=(2, 5))

    @compiled
    def fn(x):
        first = tf.gradients(circuit(x), x)[0]
        second = tf.gradients(first, x, grad_ys=tf.constant(u))[0]
        return tf.gradients(second, x, grad_ys=tf.constant(v))[0]

    expected = cosine_product_derivatives(theta)[3] @ u @ v
    assert_all_close([fn(tf.constant(theta))], [expected])


def test_persistent_tape_inside(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])

    @compiled
    def fn(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            value = circuit(x)
            gradient = tape.gradient(value, x)
        again = tape.gradient(value, x, output_gradients=tf.constant(2.0, tf.float64))
        return gradient, again, tape.gradient(gradient, x)

    expected = cosine_product_derivatives(theta, 2)
    result = fn(tf.constant(theta))
    assert_all_close(result, [expected[1], 2 * expected[1], expected[2].sum(0)])
    assert tracker.totals["circuits"] == 27


# --- forward accumulators ---


def directional(fn, direction):
    def jvp(x):
        with tf.autodiff.ForwardAccumulator(x, tf.constant(direction)) as accumulator:
            value = fn(x)
        return accumulator.jvp(value)

    return jvp


def jacobian(fn):
    def of(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = fn(x)
        return tape.jacobian(value, x) if value.shape.rank else tape.gradient(value, x)

    return of


@pytest.mark.one_in(2)
@pytest.mark.parametrize("mode", ["fff", "ffr", "frf", "rff", "frr", "rfr", "rrf"])
def test_forward_and_reverse_mode_at_order_three(cosine_product, tracker, mode):
    """Letters from the outside in."""
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    directions = np.random.default_rng(0).normal(size=(3, 5))
    fn, expected = circuit, cosine_product_derivatives(theta)[3]
    for letter, direction in zip(reversed(mode), directions, strict=True):
        if letter == "f":
            fn, expected = directional(fn, direction), expected @ direction
        else:
            fn = jacobian(fn)
    assert_all_close([compiled(fn)(tf.constant(theta))], [expected])
    assert tracker.totals["circuits"] <= 49


def test_forward_accumulator_outside(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    direction = np.random.default_rng(0).normal(size=5)
    expected = cosine_product_derivatives(theta)
    fn = compiled(circuit)
    assert_all_close([directional(fn, direction)(tf.constant(theta))], [expected[1] @ direction])
    assert tracker.totals["circuits"] == 9
    second = directional(jacobian(fn), direction)
    assert_all_close([second(tf.constant(theta))], [expected[2] @ direction])


# --- control flow ---

FACTORS = np.arange(1.0, 6)


def sum_derivatives(x, highest=3):
    return [(FACTORS**k * np.cos(x * FACTORS + k * np.pi / 2)).sum() for k in range(highest + 1)]


def while_loop(circuit):
    def fn(x):
        def body(i, total):
            return i + 1, total + circuit(x * tf.gather(tf.constant(FACTORS), i))

        start = 0, tf.constant(0.0, tf.float64)
        return tf.while_loop(lambda i, _: i < len(FACTORS), body, start)[1]

    return fn


def python_loop(circuit):
    @tf.function
    def fn(x):
        total = tf.constant(0.0, tf.float64)
        for factor in tf.constant(FACTORS):
            total += circuit(factor * x)
        return total

    return fn


def scan(circuit):
    def fn(x):
        return tf.scan(
            lambda total, factor: total + circuit(factor * x),
            tf.constant(FACTORS),
            initializer=tf.constant(0.0, tf.float64),
        )[-1]

    return fn


def map_fn(circuit):
    return lambda x: tf.reduce_sum(
        tf.map_fn(lambda factor: circuit(factor * x), tf.constant(FACTORS))
    )


def vectorized_map(circuit):
    return lambda x: tf.reduce_sum(
        tf.vectorized_map(lambda factor: circuit(factor * x), tf.constant(FACTORS))
    )


@pytest.mark.one_in(4)
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("loop", [while_loop, python_loop, scan, map_fn, vectorized_map])
def test_loops_around_a_circuit(tracker, loop, inside):
    fn = loop(rotation())
    x = tf.constant(0.4, tf.float64)
    result = compiled(lambda x: gradients(fn, x))(x) if inside else gradients(compiled(fn), x)
    assert_all_close(result, sum_derivatives(0.4))
    assert tracker.totals["circuits"] == 3 * len(FACTORS)


def test_hessian_of_a_loop(cosine_product, tracker):
    circuit, truth = cosine_product
    theta = np.array(truth["theta"])
    fn = while_loop(circuit)
    expected = [
        sum(f**k * cosine_product_derivatives(f * theta, 2)[k] for f in FACTORS) for k in range(3)
    ]

    @compiled
    def hessian(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = fn(x)
            gradient = inner.gradient(value, x)
        return value, gradient, outer.jacobian(gradient, x)

    assert_all_close(hessian(tf.constant(theta)), expected)
    assert tracker.totals["circuits"] == 27 * len(FACTORS)


@pytest.mark.parametrize("inside", [True, False])
def test_vectorized_map_that_does_not_move_the_circuit_evaluates_once(tracker, inside):
    circuit = rotation()

    def fn(x):
        return tf.reduce_sum(
            tf.vectorized_map(lambda factor: factor * circuit(x), tf.constant(FACTORS))
        )

    x = tf.constant(0.4, tf.float64)
    result = compiled(lambda x: gradients(fn, x))(x) if inside else gradients(compiled(fn), x)
    assert_all_close(result, FACTORS.sum() * np.array(cosine_derivatives(0.4)))
    assert tracker.totals["circuits"] == 3


def test_vectorized_map_over_a_variable(tracker):
    circuit = rotation()
    x = tf.Variable(0.4, dtype=tf.float64)

    @compiled
    def fn():
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                fixed = tf.vectorized_map(lambda f: f * circuit(x), tf.constant(FACTORS))
                moving = tf.vectorized_map(lambda f: circuit(f * x), tf.constant(FACTORS))
                value = tf.reduce_sum(fixed) + tf.reduce_sum(moving)
            gradient = inner.gradient(value, x)
        return value, gradient, outer.gradient(gradient, x)

    expected = FACTORS.sum() * np.array(cosine_derivatives(0.4, 2)) + sum_derivatives(0.4, 2)
    assert_all_close(fn(), expected)
    assert tracker.totals["circuits"] == 3 + 3 * len(FACTORS)


@pytest.mark.parametrize("inside", [True, False])
def test_conditions(tracker, inside):
    circuit = rotation()

    def fn(x):
        return tf.cond(x > 0, lambda: circuit(x), lambda: 2 * circuit(3 * x))

    def third(x):
        return gradients(compiled(fn), x)

    third = compiled(third) if inside else third
    assert_all_close(third(tf.constant(0.4, tf.float64)), cosine_derivatives(0.4))
    expected = [2 * 3**k * math.cos(-1.2 + k * math.pi / 2) for k in range(4)]
    assert_all_close(third(tf.constant(-0.4, tf.float64)), expected)
    assert tracker.totals["circuits"] == 2 * 3  # only the branch that is taken


def test_quantum_functions_loop_over_tensors_of_a_graph_and_unpack_them():
    @qshift.qnode(qml.device("default.qubit"))
    def circuit(x, weights):
        for wire, angle in enumerate(x):
            qml.RX(angle, wires=wire)
        for layer in weights:
            for wire, angles in enumerate(layer):
                qml.Rot(*angles, wires=wire)
            qml.CNOT(wires=[0, 1])
        qml.Rot(*weights[0, 1], wires=0)
        return qml.expval(qml.Z(0))

    x = tf.constant([0.4, 0.9], tf.float64)
    weights = tf.Variable(np.linspace(0, 2, 12).reshape(2, 2, 3))

    def first_two(x):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = circuit(x, weights)
            gradient = inner.gradient(value, weights)
        return value, gradient, outer.jacobian(gradient, weights)

    assert_all_close(compiled(first_two)(x), first_two(x))
    rows = tf.stack([x, 2 * x])
    assert_all_close(
        compiled(lambda rows: tf.vectorized_map(lambda row: circuit(row, weights), rows))(rows),
        [circuit(row, weights) for row in rows],
    )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64)])
    def unknown(x):
        return circuit(x, weights)

    with pytest.raises(ValueError, match="size that is not known.*input_signature"):
        unknown(x)


# --- orders and dtypes ---


def test_order_eight_of_one_parameter(tracker):
    circuit = rotation()
    x = tf.constant(0.7, tf.float64)
    assert_all_close(compiled(lambda x: gradients(circuit, x, 8))(x), cosine_derivatives(0.7, 8))
    assert tracker.totals["circuits"] == 3


def test_order_four_of_a_circuit(cosine_product):
    circuit, truth = cosine_product
    x = tf.constant(truth["theta"], tf.float64)
    fourth = compiled(lambda x: qshift.derivatives(circuit, x, order=4)[4])(x).numpy()
    assert fourth[0, 1, 2, 3] == pytest.approx(truth["fourth_0123"], abs=1e-10)
    assert fourth[3, 1, 0, 2] == pytest.approx(truth["fourth_0123"], abs=1e-10)
    assert fourth[0, 0, 1, 1] == pytest.approx(truth["value"], abs=1e-9)


def test_classical_preprocessing(ground_truth):
    truth = ground_truth["classical_preprocessing"]
    circuit = rotation()
    fn = compiled(lambda x: gradients(lambda x: circuit(tf.tanh(1.7 * x + 0.2)), x, 4))
    result = fn(tf.constant(truth["x"], tf.float64))
    assert float(result[2]) == pytest.approx(truth["second"], abs=5e-5)
    assert float(result[3]) == pytest.approx(truth["third"], abs=5e-5)
    assert float(result[4]) == pytest.approx(truth["fourth"], abs=5e-4)


@pytest.mark.parametrize("inside", [True, False])
def test_float32_in_float32_out(inside):
    circuit = rotation()
    x = tf.constant(0.4)
    result = (
        compiled(lambda x: gradients(circuit, x))(x) if inside else gradients(compiled(circuit), x)
    )
    assert [r.dtype for r in result] == [tf.float32] * 4
    assert_all_close(result, cosine_derivatives(0.4), atol=1e-6)


def test_run_functions_eagerly(tracker):
    circuit = rotation()
    tf.config.run_functions_eagerly(True)
    try:
        result = tf.function(lambda x: gradients(circuit, x))(tf.constant(0.4, tf.float64))
    finally:
        tf.config.run_functions_eagerly(False)
    assert_all_close(result, cosine_derivatives(0.4))
    assert tracker.totals["circuits"] == 3


@pytest.mark.parametrize("kind", ["value", "derivatives", "called", "loop"])
def test_functions_for_xla_are_run_without_it(kind):
    circuit = rotation()
    called = compiled(circuit)
    x = tf.constant(0.4, tf.float64)
    called(x)
    loop = lambda x: tf.while_loop(  # noqa: E731
        lambda i, _: i < 2, lambda i, y: (i + 1, circuit(y)), [0, x]
    )[1]
    functions = {
        "value": (lambda x: [circuit(x)], [math.cos(0.4)]),
        "derivatives": (lambda x: gradients(circuit, x), cosine_derivatives(0.4)),
        "called": (lambda x: [3 * called(x)], [3 * math.cos(0.4)]),
        "loop": (lambda x: [loop(x)], [math.cos(math.cos(0.4))]),
    }
    function, expected = functions[kind]
    for_xla = tf.function(function, autograph=False, jit_compile=True)
    with pytest.warns(qshift.QShiftWarning, match="jit_compile=True is left out"):
        assert_all_close(for_xla(x), expected)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = for_xla(x)
    assert tape.gradient(value, x) is not None
    assert float(tf.function(lambda x: 2 * x, jit_compile=True)(x)) == 0.8  # no warning


# --- what an execution runs ---


def test_a_value_that_nobody_uses_is_not_executed(tracker):
    used, unused = rotation(), rotation()

    @compiled
    def fn(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            forgotten = unused(2 * x)
        tape.gradient(forgotten, x)
        return used(x)

    fn(tf.constant(0.4, tf.float64))
    assert tracker.totals["circuits"] == 1


def test_a_gradient_without_its_value_does_not_run_the_value(tracker):
    circuit = rotation()
    fn = compiled(lambda x: gradients(circuit, x, 1)[1])
    fn(tf.constant(0.4, tf.float64))
    assert tracker.totals["circuits"] == 2


def test_value_and_gradient_are_one_callback():
    """Without a seed TensorFlow draws the numbers of calls, and who gives values gives first
    derivatives."""
    circuit = rotation()
    x = tf.constant(0.4, tf.float64)
    for fn in (circuit, lambda x: gradients(circuit, x, 1), lambda x: gradients(circuit, x, 1)[1]):
        ops = always_run(compiled(fn).get_concrete_function(x).graph)
        assert [op.type for op in ops if op.type.startswith("PyFunc")] == ["PyFuncStateless"]


def test_a_gradient_that_nobody_reads_is_not_run(tracker):
    circuit = rotation()
    fn = compiled(lambda x: gradients(circuit, x, 1)[0])
    assert float(fn(tf.constant(0.4, tf.float64))) == pytest.approx(math.cos(0.4))
    assert tracker.totals["circuits"] == 1


@pytest.mark.parametrize("read", [True, False])
def test_a_gradient_that_only_a_branch_reads(read, tracker):
    circuit = rotation()

    @compiled
    def fn(x, read):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = circuit(x)
        gradient = tape.gradient(value, x)
        return value, tf.cond(read, lambda: 2 * gradient, lambda: tf.zeros_like(x))

    value, gradient = fn(tf.constant(0.4, tf.float64), tf.constant(read))
    assert float(value) == pytest.approx(math.cos(0.4))
    assert float(gradient) == pytest.approx(-2 * math.sin(0.4) if read else 0)
    assert tracker.totals["batches"] == 1


def test_any_part_of_a_wrapped_function_can_be_run():
    circuit, seen = rotation(), []

    def value(x):
        seen.append(gradients(circuit, x, 1)[1])
        return circuit(x)

    wrapped = tf.compat.v1.wrap_function(value, [tf.TensorSpec([], tf.float64)])
    pruned = wrapped.prune(wrapped.inputs[0], seen[-1])
    x = tf.constant(0.4, tf.float64)
    assert float(wrapped(x)) == pytest.approx(math.cos(0.4))
    assert float(pruned(x)) == pytest.approx(-math.sin(0.4))


def test_a_gradient_of_what_does_not_count_is_zero_where_the_angle_is_not_a_number():
    """Eager or compiled, and so for each point of a batch."""
    circuit = rotation()

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = circuit(x)
            used = tf.where(tf.math.is_nan(value), tf.zeros_like(value), value)
        return tape.gradient(used, x)

    for x in (math.nan, [math.nan, 0.4]):
        angles = tf.constant(x, tf.float64)
        expected = np.nan_to_num(-np.sin(x))
        np.testing.assert_allclose(compiled(gradient)(angles), expected)
        np.testing.assert_allclose(gradient(angles), expected)


def test_constants_are_not_folded(tracker):
    circuit = rotation()
    fn = compiled(lambda: circuit(tf.constant(0.4, tf.float64)))
    for _ in range(3):
        assert float(fn()) == pytest.approx(math.cos(0.4))
    assert tracker.totals["circuits"] == 3


def test_equal_calls_are_not_merged(tracker):
    circuit = rotation()
    fn = compiled(lambda x: circuit(x) + circuit(x))
    fn(tf.constant(0.4, tf.float64))
    assert tracker.totals["circuits"] == 2


def test_data_that_nobody_watches_costs_nothing(tracker):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift")
    def circuit(weights, x):
        for wire in range(2):
            qml.RX(x[wire], wires=wire)
            qml.RY(weights[wire], wires=wire)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(1))

    @compiled
    def train(weights, x):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            value = circuit(weights, x)
        return value, tape.gradient(value, weights)

    train(tf.constant([0.1, 0.2]), tf.constant([0.3, 0.4]))
    assert tracker.totals["circuits"] == 1 + 2 * 2


def test_parameters_outside_the_light_cone_cost_nothing_and_give_zero(cosine_product, tracker):
    circuit, truth = cosine_product

    def by_last(last):
        return circuit([*truth["theta"][:4], last])

    for fn in (
        compiled(lambda last: gradients(by_last, last, 1)),
        lambda last: gradients(compiled(by_last), last, 1),
    ):
        tracker.reset()
        value, gradient = fn(tf.constant(truth["theta"][4], tf.float64))
        assert gradient is not None and float(gradient) == 0.0
        assert tracker.totals["circuits"] == 1


# --- samples ---


def sampled(shots=10_000, **kwargs):
    @qshift.qnode(qml.device("default.qubit"), diff_method="shift", shots=shots, **kwargs)
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT([0, 1])
        return qml.expval(qml.Z(0) @ qml.X(1))

    return circuit


ANGLES = tf.constant([0.8, 0.5], tf.float64)


def test_each_execution_draws_afresh():
    circuit = sampled()
    fn = compiled(circuit)
    assert len({float(fn(ANGLES)) for _ in range(5)}) > 1
    constant = compiled(lambda: circuit(tf.constant([0.8, 0.5], tf.float64)))
    assert len({float(constant()) for _ in range(5)}) > 1


def test_two_calls_in_one_function_and_steps_of_a_loop_draw_apart():
    circuit = sampled()
    pairs = compiled(lambda x: (circuit(x), circuit(x)))
    assert any(float(a) != float(b) for a, b in (pairs(ANGLES) for _ in range(3)))
    steps = compiled(
        lambda x: tf.map_fn(lambda _: circuit(x), tf.range(5), fn_output_signature=tf.float64)
    )
    assert len(set(steps(ANGLES).numpy().tolist())) > 1


def test_set_seed_does_not_freeze_samples():
    circuit = sampled()
    runs = []
    for _ in range(2):
        tf.random.set_seed(1)
        fn = compiled(circuit)
        runs.append([float(fn(ANGLES)) for _ in range(5)])
    assert runs[0] != runs[1]
    assert len(set(runs[0])) > 1


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("objective", ["circuits", "shots"])
def test_derivatives_of_one_execution_share_its_samples(inside, objective):
    circuit = sampled(100, objective=objective)

    pfor = (True, True, False)
    if inside:
        _, gradient, _, third = compiled(lambda x: jacobians(circuit, x, pfor))(ANGLES)
    else:
        _, gradient, _, third = jacobians(compiled(circuit), ANGLES, pfor)
    # Sample by sample the third derivative of a frequency-one function is minus the first.
    np.testing.assert_allclose(third.numpy()[[0, 1], [0, 1], [0, 1]], -gradient, atol=1e-12)


def test_gradients_of_two_losses_in_one_graph_share_samples(tracker):
    circuit = sampled(shots=qshift.Shots(total=900))
    weights = tf.constant([1.0, -0.1, 3.0], tf.float64)

    def run(factors):
        @compiled
        def fn(x):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                values = circuit(x)
                losses = [tf.reduce_sum(factor * weights * values) for factor in factors]
            return [tape.gradient(loss, x) for loss in losses]

        angles = tf.random.stateless_uniform([2, 3], [1, 2], dtype=tf.float64)
        fn(angles)
        before = tracker.totals["shots"]
        return fn(angles), tracker.totals["shots"] - before

    (first, twice), executed = run([1.0, 2.0])
    assert_all_close(twice, 2 * first)
    assert executed <= run([1.0])[1]


def test_gradient_twice_from_a_tape_outside_shares_samples(tracker):
    fn = compiled(sampled(100))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(ANGLES)
        value = fn(ANGLES)
    first = tape.gradient(value, ANGLES)
    executed = dict(tracker.totals)
    assert tape.gradient(value, ANGLES).numpy().tolist() == first.numpy().tolist()
    assert tracker.totals == executed


@pytest.mark.parametrize("objective", ["circuits", "shots"])
def test_seed_makes_a_run_reproducible(objective):
    """Whatever the order in which TensorFlow runs independent ops."""

    def run(seed):
        circuit = sampled(100, seed=seed, objective=objective)

        @compiled
        def fn(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    value = circuit(x)
                gradient = inner.gradient(value, x)
            second = outer.gradient(gradient, x)
            return value, gradient, second, circuit(2 * x), circuit(3 * x)

        return np.concatenate([np.ravel(r) for _ in range(10) for r in fn(ANGLES)]).tolist()

    first = run(7)
    assert first != run(8)
    for _ in range(2):
        assert run(7) == first


@pytest.fixture
def deterministic():
    tf.random.set_seed(1)
    config.enable_op_determinism()
    yield
    config.disable_op_determinism()


def test_op_determinism_is_allowed(deterministic):
    """As `keras.utils.set_random_seed` advises."""
    result = gradients(compiled(rotation()), tf.constant(0.4, tf.float64), 2)
    assert_all_close(result, cosine_derivatives(0.4, 2))


# --- parameters without a rule ---


@pytest.fixture
def damped():
    """gamma + (1 - gamma) cos(x)."""

    @qshift.qnode(qml.device("default.mixed", wires=1), diff_method="shift")
    def circuit(x, gamma):
        qml.RX(x, wires=0)
        qml.AmplitudeDamping(gamma, wires=0)
        return qml.expval(qml.Z(0))

    return circuit


X, GAMMA = tf.constant(0.9, tf.float64), tf.constant(0.1, tf.float64)
DAMPED = [0.1 + 0.9 * math.cos(0.9)] + [0.9 * math.cos(0.9 + k * math.pi / 2) for k in (1, 2, 3)]


def test_unwatched_parameter_without_a_rule_is_data(damped):
    fn = compiled(lambda x, gamma: gradients(lambda x: damped(x, gamma), x))
    assert_all_close(fn(X, GAMMA), DAMPED)


def test_tape_outside_may_ask_for_others_than_a_captured_parameter_without_a_rule(damped):
    fn = compiled(lambda x: damped(x, 0.1))
    assert_all_close(gradients(fn, X), DAMPED)


def test_derivative_without_a_rule_raises_before_anything_is_run(damped, tracker):
    fn = compiled(lambda x, gamma: gradients(lambda g: damped(x, g), gamma, 1))
    message = "NoShiftRuleError.*AmplitudeDamping.*stop_gradient"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        fn(X, GAMMA)
    assert tracker.totals["circuits"] == 0


def test_gradient_by_a_parameter_without_a_rule_raises_with_the_tape_outside(damped):
    fn = compiled(damped)
    with tf.GradientTape() as tape:
        tape.watch([X, GAMMA])
        value = fn(X, GAMMA)
    assert float(value) == pytest.approx(DAMPED[0])
    with pytest.raises(Exception, match="AmplitudeDamping.*stop_gradient"):
        tape.gradient(value, GAMMA)


@pytest.mark.parametrize("deterministic", [False, True])
def test_equal_seeded_calls_in_one_function_draw_in_the_order_they_are_written(deterministic):
    """In what order TensorFlow runs them does not matter."""

    def draws():
        @qshift.qnode(qml.device("default.qubit", wires=1), shots=100, seed=3)
        def circuit(x):
            qml.RX(x, wires=0)
            return qml.expval(qml.Z(0))

        @tf.function
        def run(x):
            return tf.stack([circuit(x) for _ in range(6)])

        return np.concatenate([run(tf.constant(0.9)), run(tf.constant(0.9))])

    if deterministic:
        tf.random.set_seed(0)
        tf.config.experimental.enable_op_determinism()
    try:
        runs = [draws() for _ in range(3)]
    finally:
        if deterministic:
            config.disable_op_determinism()
            tf.random.set_seed(None)
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])
    assert len(set(runs[0])) > 3


@pytest.mark.one_in(2)
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_vectorised_loops_around_what_is_checked(rows, nested, compiled):
    """TensorFlow copies what does not depend on a loop, but comes after an assertion in it."""
    circuit = rotation()

    def checked(x):
        with tf.control_dependencies([tf.raw_ops.Assert(condition=x < 10, data=[x])]):
            return circuit(tf.identity(x))

    def each(samples, x):
        if nested:
            return tf.vectorized_map(lambda _: checked(x), samples)
        return checked(x)

    def total(x):
        samples = tf.zeros([rows, 2])
        return tf.reduce_mean(tf.vectorized_map(lambda sample: each(sample, x), samples))

    found = gradients(tf.function(total) if compiled else total, tf.constant(0.4, tf.float64))
    np.testing.assert_allclose(found, cosine_derivatives(0.4), atol=1e-10)


@pytest.mark.parametrize("rows", [1, 2])
def test_vectorised_derivatives_of_what_is_checked(rows):
    circuit = rotation()
    x = tf.constant(0.4, tf.float64)

    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            with tf.control_dependencies([tf.raw_ops.Assert(condition=x < 10, data=[x])]):
                value = circuit(tf.identity(x))
        return tape.gradient(value, x)

    @tf.function
    def curvatures(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            slopes = tf.vectorized_map(lambda _: slope(x), tf.zeros([rows]))
        return tape.jacobian(slopes, x)

    np.testing.assert_allclose(curvatures(x), [-np.cos(0.4)] * rows, atol=1e-10)


def test_layers_of_single_samples_learn_from_complex_angles():
    """Whether these are real is checked when they are run."""
    import keras

    @qshift.qnode(qshift.device("simulator"))
    def circuit(inputs, w):
        qml.RX(inputs[0], 0)
        qml.evolve(qml.X(0), tf.cast(w, tf.complex128))
        return qml.expval(qml.Z(0))

    for rows in (1, 2):
        layer = qshift.keras.QuantumLayer(circuit, {"w": ()}, dtype="float64")
        model = keras.Sequential([keras.Input((1,), rows, dtype="float64"), layer])
        layer.set_weights([np.array(0.3)])

        @tf.function
        def slope(model=model, rows=rows):
            with tf.GradientTape() as tape:
                total = tf.reduce_mean(model(tf.fill([rows, 1], tf.constant(0.4, tf.float64))))
            return tape.gradient(total, model.trainable_variables)

        np.testing.assert_allclose(slope(), [-2 * np.sin(0.4 + 0.6)], atol=1e-12)
