"""Angles are taken for one only if they must be: by value, and by every derivative."""

import contextlib
import itertools

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.autodiff.angles import LINEARLY, SMOOTHLY, Angles, follows
from qshift.autodiff.remembered_ops import remembered_ops

SIMULATOR = qshift.device("simulator")
X = 0.7


def product(a, b):
    """<ZZ> = cos(a) cos(b), for which both angles are one parameter if they are taken for one."""
    qml.RX(a, wires=0)
    qml.RX(b, wires=1)
    return qml.expval(qml.Z(0) @ qml.Z(1))


def node(circuit):
    return qshift.qnode(SIMULATOR)(circuit)


def node_of(f, g):
    return node(lambda x: product(f(x), g(x)))


def slope(fn, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = fn(x)
    return value, tape.gradient(value, x, unconnected_gradients="zero")


@tf.custom_gradient
def reversal(x):
    return tf.identity(x), lambda dy: -dy


@tf.custom_gradient
def as_it_is(x):
    return x, lambda dy: -dy


@tf.custom_gradient
def halved(x):
    return 1.0 * x, lambda dy: 0.5 * dy


def straight_through(x):
    return x + tf.stop_gradient(tf.round(x) - x)


def scaled(x):
    return 0.3 * x + 0.7 * tf.stop_gradient(x)


# name -> (function, value at x, derivative at x, as tapes see them)
FUNCTIONS = {
    "itself": (lambda x: x, lambda x: x, lambda x: 1.0),
    "identity": (tf.identity, lambda x: x, lambda x: 1.0),
    "double": (lambda x: 2 * x, lambda x: 2 * x, lambda x: 2.0),
    "sine": (tf.sin, np.sin, np.cos),
    "reversal": (reversal, lambda x: x, lambda x: -1.0),
    "as it is": (as_it_is, lambda x: x, lambda x: -1.0),
    "halved": (halved, lambda x: x, lambda x: 0.5),
    "reversal of double": (lambda x: reversal(2 * x), lambda x: 2 * x, lambda x: -2.0),
    "double of reversal": (lambda x: 2 * reversal(x), lambda x: 2 * x, lambda x: -2.0),
    "compiled reversal": (tf.function(reversal), lambda x: x, lambda x: -1.0),
    "pass through": (tf.grad_pass_through(lambda x: 2.0 * x), lambda x: 2 * x, lambda x: 1.0),
    "recomputed sine": (tf.recompute_grad(tf.sin), np.sin, np.cos),
    "straight through": (straight_through, np.round, lambda x: 1.0),
    "scaled": (scaled, lambda x: x, lambda x: 0.3),
    "stopped": (tf.stop_gradient, lambda x: x, lambda x: 0.0),
}


@pytest.mark.one_in(5)
@pytest.mark.parametrize("mode", ["eager", "inside", "outside", "derivatives"])
@pytest.mark.parametrize("first", FUNCTIONS)
def test_equal_forward_ops_with_other_derivatives(first, mode):
    x = tf.constant(X, tf.float64)
    for second in itertools.dropwhile(lambda name: name != first, FUNCTIONS):
        (f, fv, fd), (g, gv, gd) = FUNCTIONS[first], FUNCTIONS[second]
        circuit = node_of(f, g)
        a, b = fv(X), gv(X)
        expected = (
            np.cos(a) * np.cos(b),
            (-np.sin(a) * np.cos(b) * fd(X) - np.cos(a) * np.sin(b) * gd(X)),
        )
        if mode == "derivatives":
            if fd(X) == gd(X) == 0:
                continue
            got = qshift.derivatives(circuit, x)
        elif mode == "inside":
            got = tf.function(slope)(circuit, x)
        else:
            got = slope(tf.function(circuit) if mode == "outside" else circuit, x)
        np.testing.assert_allclose(got, expected, atol=1e-9, err_msg=f"{first}, {second}")


def test_a_gradient_that_is_no_linear_function_of_its_cotangent():
    @tf.custom_gradient
    def clipped(x):
        return tf.identity(x), lambda dy: tf.clip_by_value(dy, -0.1, 0.1)

    circuit, x = node(lambda x: product(clipped(x), 0.0)), tf.constant(X, tf.float64)
    assert float(slope(circuit, x)[1]) == pytest.approx(-0.1)
    assert float(qshift.derivatives(circuit, x)[1]) == pytest.approx(-0.1)


def test_slopes_of_one_circuit_are_not_another_ones():
    """The same ops lead to the angle, but the derivative of one of them is somebody else's."""
    x = tf.constant([X, 0.2], tf.float64)

    def with_factor(factor):
        @tf.custom_gradient
        def keep(x):
            return x[0] * 1.0, lambda dy: tf.stack([factor * dy, 0.0 * dy])

        return node(lambda x: product(keep(x), 0.0))

    for factor in (1.0, 0.5, -1.0):
        _, gradient = qshift.derivatives(with_factor(factor), x)
        np.testing.assert_allclose(gradient, [-factor * np.sin(X), 0], atol=1e-12)
    _, gradient = qshift.derivatives(node(lambda x: product(x[0] * 1.0, 0.0)), x)
    np.testing.assert_allclose(gradient, [-np.sin(X), 0], atol=1e-12)


ASSIGN = {
    "assign_add": lambda w: w.assign_add([0.5, 0.7]),
    "compiled": tf.function(lambda w: w.assign_add([0.5, 0.7])),
    "optimizer": lambda w: w.assign_sub(-1.0 * tf.constant([0.5, 0.7], tf.float64)),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("assign", ASSIGN)
@pytest.mark.parametrize("given", ["captured", "argument", "whole"])
def test_a_variable_is_read_when_the_gate_is_made(given, assign, compiled):
    w = tf.Variable([0.1, 0.2], dtype=tf.float64)
    v = tf.Variable(0.1, dtype=tf.float64)

    def circuit(variable):
        variable = w if given == "captured" else variable
        if given == "whole":  # the gate is given the variable, and no number
            qml.RX(variable, wires=0)
            variable.assign_add(0.5)
            qml.RX(variable, wires=1)
        else:
            qml.RX(variable[0], wires=0)
            ASSIGN[assign](variable)
            qml.RX(variable[0], wires=1)
        return qml.expval(qml.Z(0) @ qml.Z(1))

    source, run = (v if given == "whole" else w), node(circuit)

    def step():
        with tf.GradientTape() as tape:
            value = run(source)
        return value, tf.convert_to_tensor(tape.gradient(value, source))

    value, gradient = (tf.function(step) if compiled else step)()
    expected = -np.sin(0.1) * np.cos(0.6) - np.cos(0.1) * np.sin(0.6)
    assert float(value) == pytest.approx(np.cos(0.1) * np.cos(0.6), abs=1e-12)
    assert float(np.ravel(gradient)[0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_old_and_new_parameters(compiled):
    """Overlaps of states before and after an update, as in projected variational dynamics."""
    w, run = tf.Variable([0.1, 0.2], dtype=tf.float64), node(product)

    def step():
        old = tf.identity(w)
        w.assign_add([0.5, 0.7])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(old)
            value = run(old[0], w[0])
        return value, tape.gradient(value, old), tf.convert_to_tensor(tape.gradient(value, w))

    value, old, new = (tf.function(step) if compiled else step)()
    assert float(value) == pytest.approx(np.cos(0.1) * np.cos(0.6))
    np.testing.assert_allclose(old, [-np.sin(0.1) * np.cos(0.6), 0], atol=1e-12)
    np.testing.assert_allclose(new, [-np.cos(0.1) * np.sin(0.6), 0], atol=1e-12)


def test_random_numbers_are_numbers_of_their_own():
    drawn = []

    def circuit(x):
        factors = [tf.random.uniform([], dtype=tf.float64) for _ in range(2)]
        drawn[:] = factors
        return product(x * factors[0], x * factors[1])

    run = node(circuit)

    @tf.function
    def step(x):
        return *slope(run, x), *drawn

    value, gradient, a, b = (float(each) for each in step(tf.constant(X, tf.float64)))
    assert a != b
    assert value == pytest.approx(np.cos(a * X) * np.cos(b * X))
    expected = -a * np.sin(a * X) * np.cos(b * X) - b * np.cos(a * X) * np.sin(b * X)
    assert gradient == pytest.approx(expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_derivatives_by_what_an_angle_is_computed_from_on_the_way(compiled):
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            a, b = 2 * x[0], 2 * x[0]  # equal numbers, of which the tape is asked for each
            value = node(product)(a, b)
        return tape.gradient(value, [a, b])

    step = tf.function(step) if compiled else step
    expected = -np.sin(0.6) * np.cos(0.6)
    np.testing.assert_allclose(step(tf.constant([0.3], tf.float64)), [expected] * 2, atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_tapes_that_follow_only_one_of_two_equal_angles(inside, compiled):
    def both(x, tape):
        a = 2 * x[0]
        tape.watch(x)
        return a, 2 * x[0]

    def late(x):
        with tf.GradientTape() as tape:
            if inside:
                value = node(lambda x: product(*both(x, tape)))(x)
            else:
                value = node(product)(*both(x, tape))
        return tape.gradient(value, x)

    late = tf.function(late) if compiled else late
    expected = [-2 * np.sin(0.6) * np.cos(0.6)]
    np.testing.assert_allclose(late(tf.constant([0.3], tf.float64)), expected, atol=1e-12)

    def stopped(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)

                def circuit(x):
                    a = 2 * x[0]
                    with inner.stop_recording():
                        b = 2 * x[0]
                    return product(a, b)

                value = node(circuit)(x)
            return inner.gradient(value, x), outer.gradient(value, x)

    stopped = tf.function(stopped) if compiled else stopped
    by_inner, by_outer = stopped(tf.constant([0.3], tf.float64))
    np.testing.assert_allclose(by_inner, expected, atol=1e-12)
    np.testing.assert_allclose(by_outer, [2 * expected[0]], atol=1e-12)


def test_in_a_loop():
    run = node(lambda y: product(2 * y, 3 * y))

    @tf.function
    def loop(x):
        total = tf.zeros([], tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(x)
            for i in tf.range(3):
                total += run(x * tf.cast(i, tf.float64))
        return total, tape.gradient(total, x)

    value, gradient = loop(tf.constant(0.4, tf.float64))
    a = [0.4 * i for i in range(3)]
    assert float(value) == pytest.approx(sum(np.cos(2 * y) * np.cos(3 * y) for y in a))
    slopes = (-2 * np.sin(2 * y) * np.cos(3 * y) - 3 * np.cos(2 * y) * np.sin(3 * y) for y in a)
    assert float(gradient) == pytest.approx(sum(i * each for i, each in enumerate(slopes)))


def test_a_long_chain_of_ops():
    def circuit(x):
        a = x
        for _ in range(1500):
            a = 1.0 * tf.identity(a) if a.dtype == tf.float32 else tf.reshape(a, [])
        return product(a, x)

    expected = -2 * np.sin(X) * np.cos(X)
    for run in (node(circuit), tf.function(node(circuit))):
        assert float(slope(run, tf.constant(X, tf.float64))[1]) == pytest.approx(expected)


def test_how_tensors_follow_from_others():
    x, y = tf.constant([0.1, 0.2], tf.float64), tf.constant(0.3, tf.float64)
    with tf.GradientTape() as tape, remembered_ops():
        tape.watch([x, y])
        tensors = {
            LINEARLY: [x[0], 2 * x[1] + y - 1, x[0] / 2, tf.reduce_sum(x), tf.stack([y, y])[0]],
            SMOOTHLY: [tf.sin(y), x[0] * y, y / x[0], tf.square(2 * y) + x[0]],
            None: [reversal(y), 2 * reversal(x)[0], tf.function(tf.sin)(y), tf.identity(x)[0]],
            0: [tf.constant(1.0), tf.stop_gradient(y)],
        }
        for way, some in tensors.items():
            assert follows(some, [x, y]) == [way] * len(some)


def test_what_was_there_before_is_a_number_of_its_own():
    x = tf.constant([0.1, 0.2], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        with remembered_ops():
            before = x[0]
            (inside, again) = Angles().named([x[0], before])
            assert inside == again
        with remembered_ops():
            assert len({name for name, _ in Angles().named([before, x[0], x[0]])}) == 2


@pytest.mark.parametrize("dtypes", [*itertools.product((tf.float32, tf.float64), repeat=2)])
def test_casts_round_what_they_are_given(dtypes):
    """A multiple of a rounded number is not the rounded multiple."""
    x = tf.constant(X, dtypes[0])

    def circuit(x):
        return product(tf.cast(3 * x, dtypes[1]), tf.cast(x, dtypes[1]))

    rounded = [dtypes[1].as_numpy_dtype(k * dtypes[0].as_numpy_dtype(X)) for k in (3, 1)]
    expected = np.prod(np.cos(np.array(rounded, float)))
    assert float(slope(node(circuit), x)[0]) == pytest.approx(
        expected, abs=1e-12 if tf.float32 not in dtypes else 1e-6
    )


@pytest.mark.parametrize("compile", [lambda fn: fn, tf.function], ids=["eager", "compiled"])
@pytest.mark.parametrize("tapes", [1, 2, 3, 4])
def test_a_tape_that_did_not_record(tapes, compile):
    """However many others did."""

    def gradients():
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(tf.GradientTape(persistent=True)) for _ in range(tapes)]

            @qshift.qnode(qml.device("default.qubit"))
            def circuit(x):
                with opened[-1].stop_recording():
                    y = 1.0 * x
                qml.RX(x, wires=0)
                qml.RX(y, wires=0)
                return qml.expval(qml.Z(0))

            x = tf.constant(0.4, tf.float64)
            for tape in opened:
                tape.watch(x)
            value = circuit(x)
        return [tape.gradient(value, x) for tape in opened]

    *others, last = compile(gradients)()
    assert float(last) == pytest.approx(-np.sin(0.8))
    for other in others:
        assert float(other) == pytest.approx(-2 * np.sin(0.8))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("watched_first", [False, True])
def test_a_multiple_that_a_tape_is_told_to_watch_is_an_angle_of_its_own(persistent, watched_first):
    watched = []

    @qshift.qnode(qshift.device("simulator"))
    def circuit(x):
        y = -x
        inner.watch(y)
        watched.append(y)
        for gate, angle in zip((qml.RX, qml.RY), (y, x) if watched_first else (x, y), strict=True):
            gate(angle, wires=0)
        qml.RX(0.4, wires=0)
        return qml.expval(qml.Z(0))

    x = tf.constant(0.3, tf.float64)
    with tf.GradientTape(persistent=persistent) as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            value = circuit(x)
    found = inner.gradient(value, watched[0]), outer.gradient(value, x)

    def closed(a, b):  # of RX(a), RY(b), RX(0.4)
        return tf.cos(a) * tf.cos(b) * np.cos(0.4) - tf.sin(a) * np.sin(0.4)

    y = tf.constant(-0.3, tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        expected = closed(y, x) if watched_first else closed(x, y)
    by_x, by_y = tape.gradient(expected, [x, y])
    np.testing.assert_allclose(value, expected)
    np.testing.assert_allclose(found, [by_y, by_x - by_y], atol=1e-9)
