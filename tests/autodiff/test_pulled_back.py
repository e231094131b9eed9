"""Derivatives of sums of values: what they take, and that they are those of single values."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from analytic import Circuit, Executor, orders

import qshift
from qshift.autodiff.evaluation import Evaluation
from qshift.autodiff.pulled_back import is_exact


@pytest.fixture
def executor():
    return Executor()


RNG = np.random.default_rng(5)
X = RNG.uniform(-3, 3, size=(4, 3))


def weights(count, seed=0):
    return np.random.default_rng(seed).normal(size=(len(X), 2, count))


def sums(lower, factors, at=X, circuit=None):
    """The sums from formulas, float64[N, P]."""
    circuit = circuit or Circuit()
    upper = [[tuple(sorted((*a, j))) for j in range(3)] for a in lower]
    each = np.stack([circuit.partials(at, row) for row in upper], axis=2)
    return np.einsum("nma,nmaj->nj", factors, each)


def upper(lower):
    return tuple(dict.fromkeys(tuple(sorted((*a, j))) for a in lower for j in range(3)))


def pulled(evaluation, lower, factors, also=()):
    return evaluation.pulled_back(lower, factors, upper(lower), also)


# --- what is exact ---


@pytest.mark.parametrize(
    "row, exact",
    [
        ([1.0, -2.0], True),
        ([0.0, 0.0], True),
        ([0.0, 3.0], True),
        ([1e-20, 3e-20], True),
        ([1e-9, 1.0], False),
        ([np.nan, 1.0], False),
        ([np.inf, 1.0], False),
        ([1e200, 1e200], False),
        ([1e-200, 1e-200], False),
        ([np.nan, 0.0], False),
    ],
)
def test_weights_of_which_sums_are_exact(row, exact):
    usual = np.array([[0.5, 1.5]])
    assert is_exact(np.array([row])) is exact
    assert is_exact(np.vstack([usual, [row], 1e-30 * usual])) is exact


def test_no_weights_are_exact():
    assert is_exact(np.empty((0, 2, 1)))


# --- what is run ---


@pytest.mark.parametrize("lower", [((),), orders(3, 1), ((0,), (2,)), orders(3, 2)], ids=str)
@pytest.mark.parametrize("adjoint", [False, True])
def test_one_derivative_at_each_point(executor, adjoint, lower):
    """Of the shift rule for the lower derivatives; values and gradients are not run."""
    evaluation = Evaluation(Circuit(), executor, X, "circuits", adjoint)
    factors = weights(len(lower))
    found = pulled(evaluation, lower, factors)
    np.testing.assert_allclose(found, sums(lower, factors), atol=1e-10)
    points = len(Circuit().planner("circuits").root.step(lower).new_points)
    assert executor.pulled_sizes == [points * len(X)]
    assert executor.sizes == executor.gradient_sizes == []


def test_the_same_sum_is_run_once(executor):
    evaluation, factors = Evaluation(Circuit(), executor, X, "circuits", True), weights(1)
    for _ in range(3):
        found = pulled(evaluation, ((),), factors.copy())
        np.testing.assert_allclose(found, sums(((),), factors), atol=1e-12)
    assert executor.pulled_sizes == [len(X)]


def test_a_second_sum_reads_the_derivatives_of_all_values(executor):
    evaluation = Evaluation(Circuit(), executor, X, "circuits", True)
    assert pulled(evaluation, ((),), weights(1)) is not None
    assert pulled(evaluation, ((),), weights(1, 1)) is None
    evaluation.partials(upper(((),)))
    assert pulled(evaluation, ((),), weights(1, 2)) is None
    assert (executor.pulled_sizes, executor.gradient_sizes) == ([len(X)], [len(X)])


def test_known_derivatives_are_read(executor):
    evaluation = Evaluation(Circuit(), executor, X, "circuits", True)
    evaluation.partials(orders(3, 1, 2))
    for lower in (((),), orders(3, 1)):
        assert pulled(evaluation, lower, weights(len(lower))) is None
    assert executor.pulled_sizes == []


@pytest.mark.parametrize("how", ["also", "prefetch"])
def test_what_others_need_is_run_before(executor, how):
    prefetch = orders(3, 1) if how == "prefetch" else ()
    evaluation = Evaluation(Circuit(), executor, X, "circuits", True, prefetch)
    also = (orders(3, 1),) if how == "also" else ()
    assert pulled(evaluation, ((),), weights(1), also) is None
    assert (executor.pulled_sizes, executor.gradient_sizes) == ([], [len(X)])


def test_rows_without_weights_are_not_run(executor):
    evaluation, factors = Evaluation(Circuit(), executor, X, "circuits", True), weights(1)
    factors[[0, 2]] = 0.0
    np.testing.assert_allclose(pulled(evaluation, ((),), factors), sums(((),), factors), atol=1e-12)
    assert executor.pulled_sizes == [2]


def test_weights_that_are_all_zero(executor):
    found = pulled(Evaluation(Circuit(), executor, X, "circuits", True), ((),), np.zeros((4, 2, 1)))
    np.testing.assert_array_equal(found, np.zeros((4, 3)))
    assert executor.pulled_sizes == []


def test_what_no_value_with_a_weight_depends_on_is_exactly_zero():
    class Rounding(Executor):
        def pulled_back(self, circuit, points, cotangents):
            return super().pulled_back(circuit, points, cotangents) + 1e-17

    factors = weights(1)
    factors[:, 0] = 0.0  # the other value depends on parameter 0 only
    found = pulled(Evaluation(Circuit(), Rounding(), X, "circuits", True), ((),), factors)
    np.testing.assert_allclose(found, sums(((),), factors), atol=1e-12)
    np.testing.assert_array_equal(found[:, 1:], 0.0)


def test_angles_that_are_not_finite(executor):
    at, factors = X.copy(), weights(1)
    at[1, 0], at[3, 2], factors[3] = np.nan, np.inf, 0.0
    found = pulled(Evaluation(Circuit(), executor, at, "circuits", True), ((),), factors)
    np.testing.assert_allclose(found[[0, 2]], sums(((),), factors[[0, 2]], at[[0, 2]]), atol=1e-12)
    assert np.isnan(found[1]).all() and not found[3].any()


def test_a_final_error_is_raised_again(executor):
    class Gone(Executor):
        def pulled_back(self, *arguments):
            raise ConnectionError("gone")

    evaluation = Evaluation(Circuit(), Gone(), X, "circuits", True)
    evaluation.final = True
    for ask in (lambda: pulled(evaluation, ((),), weights(1)), lambda: evaluation.partials(((),))):
        with pytest.raises(ConnectionError, match="gone"):
            ask()


def test_sums_count_among_the_bytes_that_an_evaluation_holds(executor):
    evaluation = Evaluation(Circuit(), executor, X, "circuits", True)
    empty = evaluation.nbytes
    pulled(evaluation, ((),), weights(1))
    assert evaluation.nbytes == empty + weights(1).nbytes + X.nbytes


# --- quantum functions, against PennyLane's backpropagation ---


def quantum_function(inputs, angles):
    for wire in range(3):
        qml.RX(inputs[:, wire], wire)
        qml.Rot(angles[wire, 0], angles[wire, 1], angles[0, 0], wire)
    qml.IsingXY(angles[1, 2], [0, 2])
    for wire in range(3):
        qml.CNOT([wire, (wire + 1) % 3])
        qml.CRX(angles[2, wire], [wire, (wire + 2) % 3])
    return (
        qml.expval(qml.Z(0) @ qml.X(1)),
        qml.probs([2, 0]),
        qml.var(qml.Y(1)),
        qml.expval(qml.Hermitian(np.array([[1.0, 0.3j], [-0.3j, -0.5]]), 2)),
    )


def on(device):
    if device == "backprop":
        device = qml.device("default.qubit", wires=3)
        return qml.QNode(quantum_function, device, interface="tf", diff_method="backprop")
    if device == "simulator":
        return qshift.qnode(qshift.device("simulator", wires=3))(quantum_function)
    return qshift.qnode(qml.device(device, wires=3))(quantum_function)


INPUTS = tf.constant(RNG.uniform(-3, 3, size=(5, 3)))
ANGLES = tf.constant(RNG.uniform(-3, 3, size=(3, 3)))
MOVES = tf.constant(RNG.normal(size=(3, 3))), tf.constant(RNG.normal(size=(5, 3)))


def outputs(qnode, inputs, angles):
    return tf.concat([tf.reshape(each, [5, -1]) for each in qnode(inputs, angles)], axis=1)


def training(qnode, order):
    """Returns a loss of values, slopes in the inputs (and their slopes), with its gradient."""

    def run(inputs, angles):
        with tf.GradientTape() as tape:
            tape.watch([inputs, angles])
            parts = [outputs(qnode, inputs, angles)]
            with tf.GradientTape(persistent=True) as outer:
                outer.watch(inputs)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    summed = tf.reduce_sum(outputs(qnode, inputs, angles) ** 2, axis=1)
                slopes = inner.gradient(summed, inputs)
                moved = tf.reduce_sum(slopes * MOVES[1])
            parts.append(slopes)
            if order > 2:
                parts.append(outer.gradient(moved, inputs))
            loss = tf.add_n([tf.reduce_sum(tf.sin(part)) for part in parts[: max(1, order)]])
        return loss, *tape.gradient(loss, [inputs, angles])

    return run


@pytest.fixture(scope="module")
def right():
    return {order: training(on("backprop"), order)(INPUTS, ANGLES) for order in (1, 2, 3)}


HOW = {"eager": lambda run: run, "compiled": tf.function}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_losses(how, order, right):
    """Of values, of slopes, and of slopes' slopes: the gradient is one order up."""
    found = HOW[how](training(on("simulator"), order))(INPUTS, ANGLES)
    for ours, theirs in zip(found, right[order], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*XLA cannot compile")
@pytest.mark.parametrize("order", [1, 2])
def test_losses_that_xla_is_asked_to_compile(order, right):
    found = tf.function(training(on("simulator"), order), jit_compile=True)(INPUTS, ANGLES)
    for ours, theirs in zip(found, right[order], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit"])
def test_losses_on_other_devices(device, right):
    found = tf.function(training(on(device), 2))(INPUTS, ANGLES)
    for ours, theirs in zip(found, right[2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def jacobians(qnode):
    with tf.GradientTape() as tape:
        tape.watch(ANGLES)
        values = outputs(qnode, INPUTS, ANGLES)
    return values, tape.jacobian(values, ANGLES)


@pytest.fixture(scope="module")
def jacobian():
    return [each.numpy() for each in jacobians(on("backprop"))]


def of_a_persistent_tape(qnode):
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(ANGLES)
        values = outputs(qnode, INPUTS, ANGLES)
        parts = [values[0, 0], tf.reduce_sum(values[2]), 0.0 * values[1, 3], values[4, 5]]
    return tf.stack([tape.gradient(part, ANGLES) for part in parts])


@pytest.mark.one_in(2)
@pytest.mark.parametrize("how", HOW)
def test_several_gradients_of_a_persistent_tape(how, jacobian):
    found, slopes = HOW[how](lambda: of_a_persistent_tape(on("simulator")))(), jacobian[1]
    expected = [slopes[0, 0], slopes[2].sum(axis=0), 0.0 * slopes[0, 0], slopes[4, 5]]
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("pfor", [True, False])
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_jacobians(how, pfor, jacobian):
    qnode = on("simulator")

    def run():
        with tf.GradientTape(persistent=not pfor) as tape:
            tape.watch(ANGLES)
            values = outputs(qnode, INPUTS, ANGLES)
        return tape.jacobian(values, ANGLES, experimental_use_pfor=pfor)

    with qshift.Tracker() as tracker:
        found = HOW[how](run)()
    np.testing.assert_allclose(found, jacobian[1], atol=1e-10)
    # Values, perhaps one sum, and then the derivatives of all values.
    assert tracker.totals["batches"] <= 2 + (not pfor)


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_a_vectorised_loop(how, jacobian):
    qnode, directions = on("simulator"), tf.constant(RNG.normal(size=(7, 5, 7)))

    def run():
        def slope(direction):
            with tf.GradientTape() as tape:
                tape.watch(ANGLES)
                loss = tf.reduce_sum(direction * outputs(qnode, INPUTS, ANGLES))
            return tape.gradient(loss, ANGLES)

        return tf.vectorized_map(slope, directions)

    expected = np.einsum("lnm,nmij->lij", directions, jacobian[1])
    np.testing.assert_allclose(HOW[how](run)(), expected, atol=1e-10)


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_nan_in_a_cotangent(how, jacobian):
    """Where it stands, and nowhere else."""
    qnode = on("simulator")
    factors = np.ones((5, 7))
    factors[1, 0] = np.nan

    def run():
        with tf.GradientTape() as tape:
            tape.watch(INPUTS)
            loss = tf.reduce_sum(factors * outputs(qnode, INPUTS, ANGLES))
        return tape.gradient(loss, INPUTS)

    found = HOW[how](run)()
    with tf.GradientTape() as tape:
        tape.watch(INPUTS)
        loss = tf.reduce_sum(outputs(on("backprop"), INPUTS, ANGLES))
    expected = tape.gradient(loss, INPUTS).numpy()
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(np.delete(found, 1, 0), np.delete(expected, 1, 0), atol=1e-10)


@pytest.mark.parametrize("scale", [1e-9, 1e-300, 1e9, 1e300])
def test_cotangents_of_any_size(scale, jacobian):
    """Each value has a parameter of its own: a large weight of one must not hide the other."""

    @qshift.qnode(qshift.device("simulator", wires=2))
    def circuit(x):
        qml.RX(x[0], 0)
        qml.RX(x[1], 1)
        return qml.expval(qml.Z(0)), qml.expval(qml.Z(1))

    x = tf.Variable([0.3, 0.4], dtype=tf.float64)
    for run in (lambda f: f, tf.function):

        def gradient():
            with tf.GradientTape() as tape:
                first, second = circuit(x)
                loss = scale * first + second
            return tape.gradient(loss, x)

        expected = -np.sin([0.3, 0.4]) * [scale, 1.0]
        np.testing.assert_allclose(run(gradient)(), expected, rtol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_compiled_batches_take_one_derivative_at_each_point(rows):
    qnode = on("simulator")

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float64)])
    def run(inputs):
        with tf.GradientTape() as tape:
            tape.watch(ANGLES)
            loss = tf.add_n([tf.reduce_sum(tf.sin(each)) for each in qnode(inputs, ANGLES)])
        return tape.gradient(loss, ANGLES)

    with qshift.Tracker() as tracker:
        found = run(INPUTS[:rows])
    assert tracker.totals["circuits"] == 2 * rows
    with tf.GradientTape() as tape:
        tape.watch(ANGLES)
        values = [qnode(INPUTS[i : i + 1], ANGLES) for i in range(rows)]
        parts = [tf.reduce_sum(tf.sin(each)) for row in values for each in row]
    expected = tape.gradient(parts, ANGLES) if parts else np.zeros((3, 3))
    np.testing.assert_allclose(found, expected, atol=1e-10)
