"""Compiled functions whose calls nobody asks for more: they leave no evaluation behind."""

import functools
from concurrent.futures import ThreadPoolExecutor

import fresh
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.autodiff import node

NUMBERS = np.array([[0.3, -0.7], [1.1, 0.2], [-2.0, 0.9]])


def circuit_of(diff_method="best"):
    """cos(a) and cos(a) cos(b)."""

    @qshift.qnode(qshift.device("simulator", wires=2), diff_method=diff_method)
    def circuit(a, b):
        qml.RX(a, 0)
        qml.RX(b, 1)
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(0) @ qml.Z(1))

    return circuit


def loss(circuit, x):
    first, second = circuit(x[:, 0], x[:, 1])
    return tf.reduce_sum(tf.sin(first) + 3.0 * first * second)


def slopes(x):
    """The gradient of the loss, from formulas."""
    (a, b), first = x.T, np.cos(x[:, 0])
    by_first = np.cos(first) + 6.0 * first * np.cos(b)
    return np.stack([-np.sin(a) * by_first, -3.0 * first**2 * np.sin(b)], axis=1)


def kept(circuit):
    return len(circuit.calls.evaluations)


def value_and_gradient(circuit):
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = circuit(x)
        return value, tape.gradient(value, x)

    return run


def gradient_inside(circuit):
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = loss(circuit, x)
        return tape.gradient(result, x)

    return run


def gradient_outside(circuit):
    compiled = tf.function(lambda x: loss(circuit, x))

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = compiled(x)
        return tape.gradient(result, x)

    return run


@pytest.mark.parametrize("where, left", [(gradient_inside, 0), (gradient_outside, 1)])
def test_what_a_gradient_leaves_behind(where, left):
    """Tapes outside have the ticket, and might ask for more."""
    circuit = circuit_of()
    run = tf.function(where(circuit)) if where is gradient_inside else where(circuit)
    for turn, x in enumerate((NUMBERS, NUMBERS + 0.1), start=1):
        with qshift.Tracker() as tracker:
            found = run(tf.constant(x))
        np.testing.assert_allclose(found, slopes(x), atol=1e-12)
        assert kept(circuit) == turn * left
        assert tracker.totals["circuits"] == 2 * len(x)
        assert tracker.totals["batches"] == 2


def test_a_tape_outside_a_function_that_was_called_without():
    """TensorFlow adds the ticket to the outputs of the same graph then."""
    circuit = circuit_of()
    compiled = tf.function(lambda x: loss(circuit, x))
    x = tf.constant(NUMBERS)
    value = compiled(x)
    assert kept(circuit) == 0
    with qshift.Tracker() as tracker:
        with tf.GradientTape() as tape:
            tape.watch(x)
            again = compiled(x)
        gradient = tape.gradient(again, x)
    np.testing.assert_allclose(gradient, slopes(NUMBERS), atol=1e-12)
    assert again == value and kept(circuit) == 1
    assert tracker.totals["circuits"] == 2 * len(NUMBERS)


@pytest.mark.parametrize("diff_method", ["shift", "adjoint"])
def test_shifted_circuits_are_kept(diff_method):
    circuit = circuit_of(diff_method)
    found = tf.function(gradient_inside(circuit))(tf.constant(NUMBERS))
    np.testing.assert_allclose(found, slopes(NUMBERS), atol=1e-12)
    assert kept(circuit) == (diff_method == "shift")


def test_second_derivatives_are_kept():
    circuit = circuit_of()

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            gradient = gradient_inside(circuit)(x)
        return tape.gradient(gradient, x)

    found, step = run(tf.constant(NUMBERS)), 1e-6 * np.eye(2)
    steps = [(slopes(NUMBERS + s) - slopes(NUMBERS - s)).sum(axis=1) / 2e-6 for s in step]
    np.testing.assert_allclose(found, np.stack(steps, axis=1), atol=1e-8)
    assert kept(circuit) == 1


@pytest.mark.parametrize("special", [1e13, -1e13, 1e-9, 0.0, np.pi, np.nan, np.inf])
def test_angles_of_all_kinds(special):
    """What is large, or not a number, goes the usual way; a row of it changes no other."""
    circuit, x = circuit_of(), NUMBERS.copy()
    x[1, 0] = special
    found = tf.function(gradient_inside(circuit))(tf.constant(x)).numpy()
    with np.errstate(invalid="ignore"):
        right = slopes(x)
    np.testing.assert_allclose(found[[0, 2]], right[[0, 2]], atol=1e-12)
    if np.isfinite(special):
        np.testing.assert_allclose(found[1], right[1], atol=1e-12)
    else:
        assert np.isnan(found[1]).all()
    assert kept(circuit) == (not abs(special) < 1e3)


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 70])
def test_batches_of_any_size(rows):
    x = np.random.default_rng(rows).normal(size=(rows, 2))
    circuit = circuit_of()
    signature = [tf.TensorSpec([None, 2], tf.float64)]
    found = tf.function(gradient_inside(circuit), input_signature=signature)(tf.constant(x))
    np.testing.assert_allclose(found, slopes(x), atol=1e-12)
    assert kept(circuit) == 0


@pytest.mark.parametrize("factors", [[1.0, 0.0], [0.0, 0.0], [1e-12, 1.0], [np.nan, 1.0]])
def test_weights_of_all_kinds(factors):
    """Zeros, and weights for which a sum of single derivatives is more exact."""
    circuit = circuit_of()

    @tf.function
    def run(x, factors):
        with tf.GradientTape() as tape:
            tape.watch(x)
            first, second = circuit(x[:, 0], x[:, 1])
            result = tf.reduce_sum(factors[0] * first + factors[1] * second)
        return tape.gradient(result, x)

    (a, b), (u, v) = NUMBERS.T, factors
    right = [-np.sin(a) * (u + v * np.cos(b)), 0.0 * u - v * np.cos(a) * np.sin(b)]
    found = run(tf.constant(NUMBERS), tf.constant(factors, tf.float64)).numpy()
    np.testing.assert_allclose(found[:, 0], right[0], atol=1e-12)
    np.testing.assert_allclose(found[:, 1], right[1], atol=1e-12)
    assert kept(circuit) == 0


def test_one_point_and_one_value():
    @qshift.qnode(qshift.device("simulator", wires=1))
    def circuit(x):
        qml.RX(x[0], 0)
        qml.RY(x[1], 0)
        return qml.expval(qml.Z(0))

    run = tf.function(value_and_gradient(circuit))
    value, gradient = run(tf.constant(NUMBERS[0]))
    (a, b) = NUMBERS[0]
    np.testing.assert_allclose(value, np.cos(a) * np.cos(b), atol=1e-12)
    right = [-np.sin(a) * np.cos(b), -np.cos(a) * np.sin(b)]
    np.testing.assert_allclose(gradient, right, atol=1e-12)
    assert kept(circuit) == 0


def test_loops_and_conditions_have_calls_of_their_own():
    circuit = circuit_of()

    @tf.function
    def run(x):
        total = tf.zeros_like(x)
        for k in tf.range(3):
            if k > 0:
                total += gradient_inside(circuit)(x * tf.cast(k, x.dtype))
        return total

    np.testing.assert_allclose(
        run(tf.constant(NUMBERS)), slopes(NUMBERS) + slopes(2 * NUMBERS), atol=1e-12
    )


# --- calls that machine code runs ---


@pytest.fixture(name="by_code")
def fixture_by_code(monkeypatch):
    """How many calls came with instructions, and how many without."""
    counts, asked = [0, 0], node._InGraph.instructions

    def instructions(self, rows):
        found = asked(self, rows)
        counts[found is None] += 1
        return found

    monkeypatch.setattr(node._InGraph, "instructions", instructions)
    return counts


def test_calls_that_come_often_need_no_python(by_code):
    run = tf.function(gradient_inside(circuit_of()))
    for turn in range(10):
        x = NUMBERS + 0.1 * turn
        np.testing.assert_allclose(run(tf.constant(x)), slopes(x), atol=1e-12)
    assert by_code == [14, 6]  # of values and of their derivatives, three calls of each


def test_values_and_gradients_of_one_value_need_no_python(by_code):
    @qshift.qnode(qshift.device("simulator", wires=2))
    def circuit(x):
        qml.RX(x[0], 0)
        qml.CNOT((0, 1))
        qml.RY(x[1], 1)
        return qml.expval(qml.Z(1))

    run = tf.function(value_and_gradient(circuit))
    for x in np.random.default_rng(0).uniform(-7.0, 7.0, (10, 2)):
        value, gradient = run(tf.constant(x))
        (a, b), (c, d) = np.cos(x), np.sin(x)
        np.testing.assert_allclose(value, a * b, atol=1e-12)
        np.testing.assert_allclose(gradient, [-c * b, -a * d], atol=1e-12)
    assert by_code == [7, 3]


def test_trackers_and_watched_devices_are_told_of_all_calls(by_code):
    circuit, x = circuit_of(), tf.constant(NUMBERS)
    run = tf.function(gradient_inside(circuit))
    for _ in range(5):
        run(x)
    assert by_code == [4, 6]
    with qshift.Tracker() as tracker:
        np.testing.assert_allclose(run(x), slopes(NUMBERS), atol=1e-12)
    assert tracker.totals["circuits"] == 6 and by_code == [4, 8]
    device = qml.device("default.qubit", wires=2)
    watched = qshift.qnode(device)(circuit.func)
    run = tf.function(gradient_inside(watched))
    for _ in range(5):
        run(x)
    assert by_code == [8, 14]
    with qml.Tracker(device) as tracker:
        np.testing.assert_allclose(run(x), slopes(NUMBERS), atol=1e-12)
    assert tracker.totals["executions"] > 0 and by_code == [8, 16]
    run(x)
    assert by_code == [10, 16]


def test_unusual_numbers_come_out_as_before():
    circuit = circuit_of()
    often, once = (tf.function(gradient_inside(circuit)) for _ in range(2))
    for _ in range(5):
        often(tf.constant(NUMBERS))
    for number in (
        0.0,
        -0.0,
        np.pi / 2,
        np.pi,
        2 * np.pi,
        1e-9,
        1e-300,
        1e13,
        np.nan,
        np.inf,
        -np.inf,
    ):
        x = NUMBERS.copy()
        x[1, 0] = number
        np.testing.assert_array_equal(often(tf.constant(x)), once(tf.constant(x)))
    np.testing.assert_allclose(often(tf.constant(NUMBERS)), slopes(NUMBERS), atol=1e-12)


@pytest.mark.parametrize(
    "weights", [[0, 0], [0, 1], [1e-200, 1e-200], [1, 1e-9], [1e200, 1], [np.nan, 1]]
)
def test_unusual_weights_come_out_as_before(weights):
    circuit = circuit_of()

    def gradient(x, weights):
        with tf.GradientTape() as tape:
            tape.watch(x)
            first, second = circuit(x[:, 0], x[:, 1])
            result = tf.reduce_sum(weights[0] * first + weights[1] * second)
        return tape.gradient(result, x)

    often, once = tf.function(gradient), tf.function(gradient)
    x, weights = tf.constant(NUMBERS), tf.constant(np.array(weights, float))
    for _ in range(5):
        often(x, tf.ones(2, tf.float64))
    np.testing.assert_array_equal(often(x, weights), once(x, weights))


def test_batches_of_changing_size_come_out_right(by_code):
    run = tf.function(
        gradient_inside(circuit_of()), input_signature=[tf.TensorSpec([None, 2], tf.float64)]
    )
    rng = np.random.default_rng(0)
    for rows in [4, 4, 4, 3, 4, 7, 4, 3, 0, 1, 4, 3, 3, 7] + list(range(20)):
        x = rng.normal(size=(rows, 2))
        np.testing.assert_allclose(run(tf.constant(x)), slopes(x), atol=1e-12)
    assert by_code[0] > 10


def test_a_tape_that_comes_later_is_told_everything():
    """TensorFlow adds outputs to a graph whose ops machine code has run."""
    circuit = circuit_of()
    compiled, x = tf.function(lambda x: loss(circuit, x)), tf.constant(NUMBERS)
    for turn in range(12):
        if turn < 5:
            compiled(x)
            continue
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                result = compiled(x)
            gradient = inner.gradient(result, x)
        np.testing.assert_allclose(gradient, slopes(NUMBERS), atol=1e-12)
        if turn > 8:
            moves = 1e-5 * np.eye(2)
            expected = sum(slopes(NUMBERS + m) - slopes(NUMBERS - m) for m in moves) / 2e-5
            np.testing.assert_allclose(outer.gradient(gradient, x), expected, atol=1e-8)


def test_threads_come_out_right():
    run = tf.function(gradient_inside(circuit_of()))

    def work(seed):
        xs = np.random.default_rng(seed).normal(size=(50, 3, 2))
        return max(np.abs(run(tf.constant(x)).numpy() - slopes(x)).max() for x in xs)

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, range(16))) < 1e-12


ZERO_FIRST = """
import numpy as np, tensorflow as tf
import pennylane as qml, qshift

@qshift.qnode(qshift.device("simulator", wires=1))
def circuit(a, b):
    qml.RX(a, 0)
    qml.RZ(b, 0)
    return qml.expval(qml.Z(0)), qml.expval(qml.Y(0))

@tf.function
def run(x, weight):
    with tf.GradientTape() as tape:
        tape.watch(x)
        first, second = circuit(x[:, 0], x[:, 1])
        loss = weight * tf.reduce_sum(first + second)
    return tape.gradient(loss, x)

x = tf.constant([[0.3, -0.7], [1.1, 0.2], [0.1, 0.2]], tf.float64)
zeros = [float(abs(run(x, tf.constant(0.0, tf.float64)).numpy()).max()) for _ in range(6)]
slopes = [run(x, tf.constant(1.0, tf.float64)).numpy() for _ in range(6)]
a, b = x.numpy().T
expected = [-np.sin(a) - np.cos(a) * np.cos(b), np.sin(a) * np.sin(b)]
np.testing.assert_allclose(slopes, [np.stack(expected, axis=1)] * 6, atol=1e-12)
print(zeros)
"""


def test_gradients_that_are_zero_at_first():
    """Their op has not called what instructions name, in a process that compiles it when needed."""
    done = fresh.run(ZERO_FIRST)
    assert done.stdout.strip() == str([0.0] * 6), done.stderr


# --- equations: derivatives by the inputs are in the loss ---


def gates(x, weights, mixed):
    """Gates with one and with two frequencies; if mixed, an angle has data and a weight in it."""
    weights = iter(tf.unstack(weights))
    qml.RY(x[:, 0], 0)
    qml.RX(2.0 * x[:, 0] + (next(weights) if mixed else 0.1), 1)
    qml.CRX(x[:, 1], (1, 2))
    for _ in range(2):
        for wire in range(3):
            qml.RZ(next(weights), wire)
            qml.RX(next(weights), wire)
        qml.CNOT((0, 1))
        qml.CRY(next(weights), (1, 2))
    qml.SingleExcitation(x[:, 2], (0, 2))
    qml.RY(next(weights), 2)  # not all values depend on it


WORDS = qml.Z(0), qml.X(1) @ qml.Z(2), qml.Y(2), 0.5 * qml.Z(0) @ qml.Z(1)


def equation(words, diff_method="best", outer=1, mixed=False):
    @qshift.qnode(qshift.device("simulator", wires=3), diff_method=diff_method)
    def circuit(x, weights):
        gates(x, weights, mixed)
        return [qml.expval(word) for word in words]

    def run(x, weights):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(weights)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.einsum("mn,m->n", tf.stack(circuit(x, weights)), weights[: len(words)])
            slope = inner.gradient(y, x)
            losses = [tf.reduce_sum((slope[:, 0] - y * slope[:, 1]) ** 2), tf.reduce_sum(y**3)]
        return y, slope, *[tape.gradient(each, weights) for each in losses[:outer]]

    return run


def points_of_equation(rows):
    rng = np.random.default_rng(rows)
    points = [(rng.normal(size=(rows, 3)), rng.normal(size=16)) for _ in range(4)]
    points[3][1][4:9] = 0.0, np.pi / 2, np.pi, 2 * np.pi, -1e-9
    return [tuple(map(tf.constant, each)) for each in points]


@pytest.mark.parametrize("rows", [1, 3, 10])
@pytest.mark.parametrize("words", [WORDS, WORDS[1:3], WORDS[1:2]], ids=len)
def test_derivatives_of_equations_need_no_python(words, rows, by_code):
    """The same numbers, to the last bit, as in the first calls, which are those of shift rules."""
    points = points_of_equation(rows)
    run, by_shift = tf.function(equation(words)), equation(words, "shift")
    first = [run(*each) for each in points[:3]]
    by_code[:] = 0, 0
    for turn in [0, 1, 2, 3, 3, 0, 2]:
        found = run(*points[turn])
        for a, b in zip(found, by_shift(*points[turn]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)
        for a, b in zip(found, (*first, found)[turn], strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()
    assert by_code == [7 * (4 if len(words) > 1 else 2), 0]


@pytest.mark.parametrize("outer, mixed", [(2, False), (1, True)])
def test_other_derivatives_of_equations(outer, mixed):
    points = points_of_equation(4)
    run = tf.function(equation(WORDS, outer=outer, mixed=mixed))
    by_shift = equation(WORDS, "shift", outer, mixed)
    for turn in [0, 1, 2, 3, 3, 0, 2]:
        for a, b in zip(run(*points[turn]), by_shift(*points[turn]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)


def test_unusual_numbers_in_equations_come_out_as_before():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(3, 3)), rng.normal(size=16)
    often, once = tf.function(equation(WORDS)), tf.function(equation(WORDS))
    for _ in range(5):
        often(tf.constant(x), tf.constant(weights))
    for number in (0.0, np.pi, 1e-300, 1e13, np.nan, np.inf):
        for place in (0, 1, 4, 15):  # the first ones are coefficients as well
            other = weights.copy()
            other[place] = number
            for a, b in zip(
                often(tf.constant(x), tf.constant(other)),
                once(tf.constant(x), tf.constant(other)),
                strict=True,
            ):
                np.testing.assert_array_equal(a, b)
        other = x.copy()
        other[1, 0] = number
        for a, b in zip(
            often(tf.constant(other), tf.constant(weights)),
            once(tf.constant(other), tf.constant(weights)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def test_equations_are_counted_as_before(by_code):
    x, weights = tf.constant(np.random.default_rng(0).normal(size=(4, 3))), tf.ones(16, tf.float64)
    run = tf.function(equation(WORDS, outer=1))
    totals = []
    for _ in range(2):
        with qshift.Tracker() as tracker:
            run(x, weights)
        totals.append(tracker.totals)
        for _ in range(4):
            run(x, weights)
    assert by_code[0] > 0 and totals[0] == totals[1]


# --- angles that several gates share, and angles without an effect ---


def shared(diff_method="best"):
    @qshift.qnode(qshift.device("simulator", wires=4), diff_method=diff_method)
    def circuit(x, weights):
        for layer in range(2):
            for wire in range(3):
                qml.RX(x[:, wire], wire)
                qml.RY(weights[0] if wire else -0.5 * weights[1], wire)
                qml.RZ(weights[2 + wire], wire)
            qml.CRX(2.0 * x[:, layer], (layer, layer + 1))
        qml.RX(weights[5], 3)  # no value depends on it
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1) @ qml.X(2))

    return circuit


def gradients_of_shared(circuit, x, weights):
    with tf.GradientTape() as tape:
        tape.watch(weights)
        first, second = circuit(x, weights)
        loss = tf.reduce_sum(tf.sin(first) + 3.0 * first * second)
    return loss, tape.gradient(loss, weights)


def slopes_of_shared(circuit, x, weights):
    with tf.GradientTape() as tape:
        tape.watch(weights)
        with tf.GradientTape() as inner:
            inner.watch(x)
            first, second = circuit(x, weights)
            loss = tf.reduce_sum(first * second)
        slope = inner.gradient(loss, x)
        residual = tf.reduce_sum((slope - 0.3) ** 2)
    return slope, tape.gradient(residual, weights)


@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("of", [gradients_of_shared, slopes_of_shared])
def test_angles_that_gates_share_need_no_python(of, rows, by_code):
    rng = np.random.default_rng(rows)
    points = [
        (tf.constant(rng.normal(size=(rows, 3))), tf.constant(rng.normal(size=6))) for _ in range(3)
    ]
    run, by_shift = tf.function(functools.partial(of, shared())), shared("shift")
    first = [run(*each) for each in points]
    by_code[:] = 0, 0
    for turn in (0, 1, 2, 2, 0):
        found = run(*points[turn])
        for a, b in zip(found, of(by_shift, *points[turn]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)
        for a, b in zip(found, first[turn], strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()
    assert found[1][5] == 0.0 and by_code[0] >= 10 and by_code[1] == 0


def test_angles_that_are_equal_by_chance_are_not_shared():
    """One circuit, with an angle that two gates share and with two angles, at the same points."""

    @qshift.qnode(qshift.device("simulator", wires=2))
    def circuit(a, b):
        qml.RX(a, 0)
        qml.RY(b, 1)
        qml.CNOT((0, 1))
        return qml.expval(qml.Z(1))

    @tf.function
    def tied(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = circuit(x, x)
        return tape.gradient(value, x)

    @tf.function
    def free(x, y):
        with tf.GradientTape() as tape:
            tape.watch([x, y])
            value = circuit(x, y)
        return tape.gradient(value, [x, y])

    for turn in range(12):
        x = tf.constant(0.2 + 0.1 * turn, tf.float64)
        for each in (tied, free) if turn % 2 else (free, tied):
            if each is tied:
                np.testing.assert_allclose(tied(x), -np.sin(2 * x), atol=1e-12)
            else:
                np.testing.assert_allclose(free(x, x), [-np.sin(2 * x) / 2] * 2, atol=1e-12)
