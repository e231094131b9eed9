"""Angles that are entries of tensors: taken together, in eager mode and in graphs."""

import contextlib
import math
import threading

import fresh
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from nested_tapes import assert_all_close, jacobians

import qshift
from qshift.tensorflow_internals import INDEXED, RECORDING, always_run

SIMULATOR = qshift.device("simulator")
X = np.array([[0.3, -0.4, 1.1], [0.7, 0.2, -0.9]])

# What may be done to a tensor of the shape (2, 3) to get at angles.
ANGLES = {
    "one by one": lambda x: [x[0, 1], x[1, 2]],
    "from the end": lambda x: [x[-1, -2], x[-2, 0], x[1][-1]],
    "all in order": lambda x: [x[i, j] for i in range(2) for j in range(3)],
    "all in another order": lambda x: [x[i, j] for j in (2, 0, 1) for i in range(2)],
    "one twice": lambda x: [x[0, 1], x[1, 0], x[0, 1]],
    "rows": lambda x: [y for row in x for y in row],
    "unpacked": lambda x: [*x[0], *x[1, 1:]],
    "slices": lambda x: [x[:, 1][0], x[0, ::-1][0], x[..., 2][1], x[1:, :2][0, 0]],
    "NumPy's integers": lambda x: [x[np.int64(1), np.int32(0)], x[np.arange(2)[1], 1]],
    "by a tensor": lambda x: [x[tf.constant(1), 0], x[1, tf.constant(2)]],
    "with new axes": lambda x: [x[0, tf.newaxis, 1][0], x[1, 2]],
    "multiples": lambda x: [2 * x[0, 0], -x[0, 1], x[1, 1] / 3, 0.1 * x[1, 2] * 0.7],
    "multiples before": lambda x: [(2 * x)[0, 0], (-x / 3)[0, 1], 3 * (x / 7)[1, 1]],
    "functions": lambda x: [tf.sin(x[0, 0]), tf.exp(x)[0, 1], x[1, 1] ** 2, x[0, 0] * x[1, 1]],
    "unstacked": lambda x: [tf.unstack(x[1])[2], *tf.unstack(tf.unstack(x, axis=-1)[1])],
    "all unstacked": lambda x: [y for row in tf.unstack(x) for y in tf.unstack(row)],
    "other ops": lambda x: [tf.transpose(x)[2, 1], tf.reshape(x, [6])[4], tf.unstack(x[0])[1]],
    "entries and sums": lambda x: [x[0, 0], x[0, 1] + x[1, 1], tf.reduce_sum(x), x[1, 0]],
}


def product(*angles):
    """Gates whose value is the product of the cosines."""
    for wire, angle in enumerate(angles):
        qml.RX(angle, wires=wire)
        if wire:
            qml.CNOT([wire, 0])
    return qml.expval(qml.Z(0))


def cosines(*angles):
    return math.prod(map(tf.cos, angles))


def circuit_of(angles):
    return qshift.qnode(SIMULATOR)(lambda x: product(*angles(x)))


def closed_form(angles):
    return lambda x: cosines(*angles(x))


def contracted(function, x, order):
    """The values and derivatives up to an order, each by x of a weighted sum of those before."""
    if order == 0:
        return [function(x)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        lower = contracted(function, x, order - 1)
        weights = tf.range(1, tf.size(lower[-1]) + 1)
        weights = tf.cast(tf.reshape(weights, tf.shape(lower[-1])), tf.float64)
        total = tf.reduce_sum(lower[-1] * weights)
    return [*lower, tape.gradient(total, x)]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", ["tensor", "variable", "compiled", "tapes outside"])
@pytest.mark.parametrize("angles", ANGLES.values(), ids=ANGLES)
def test_derivatives_by_entries(angles, kind):
    circuit, expected = circuit_of(angles), closed_form(angles)
    x = tf.constant(X) if kind == "tensor" else tf.Variable(X)
    if kind == "tapes outside":
        circuit = tf.function(circuit)
    run = tf.function(contracted) if kind == "compiled" else contracted
    for found, right in zip(run(circuit, x, 3), contracted(expected, x, 3), strict=True):
        np.testing.assert_allclose(found, right, atol=1e-12)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("pfor", [True, False])
@pytest.mark.parametrize("angles", ["rows", "one twice", "slices", "functions"])
def test_hessians_by_entries(angles, pfor):
    x, modes = tf.constant(X), (False, pfor)
    found = jacobians(circuit_of(ANGLES[angles]), x, modes)
    assert_all_close(found, jacobians(closed_form(ANGLES[angles]), x, modes), atol=1e-12)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("angles", ANGLES.values(), ids=ANGLES)
def test_forward_mode_by_entries(angles, compiled):
    x, along = tf.constant(X), tf.constant(np.cos(X))

    def slopes(function):
        with tf.autodiff.ForwardAccumulator(x, along) as forward:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x)
            gradient = tape.gradient(value, x)
        return forward.jvp(value), forward.jvp(gradient)

    run = tf.function(slopes) if compiled else slopes
    for found, right in zip(run(circuit_of(angles)), slopes(closed_form(angles)), strict=True):
        np.testing.assert_allclose(found, right, atol=1e-12)


BATCHES = {
    "rows": lambda x: [x[:, 0], x[:, 2], x[:, 1]],
    "some rows": lambda x: [x[:, 2], x[..., 0]],
    "transposed": lambda x: list(tf.transpose(x, [1, 0])),
    "beside one number": lambda x: [x[:, 1], x[0, 0], x[:, 0] * 2],
    "beside functions": lambda x: [
        tf.sin(x[0, 1]),
        tf.sin(x[:, 1]),
        tf.cos(x[:, 0]),
        x[0, 2] ** 2,
    ],
    "reversed": lambda x: [x[::-1, 1], x[:, 0]],
    "unstacked": lambda x: tf.unstack(x, axis=1),
    "unstacked in part": lambda x: [tf.unstack(x, axis=-1)[2], x[:, 0], tf.unstack(x, axis=1)[1]],
    "unstacked transposed": lambda x: tf.unstack(tf.transpose(x)),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("size", [3, None, "eager"])
@pytest.mark.parametrize("angles", BATCHES.values(), ids=BATCHES)
def test_derivatives_by_columns_of_a_batch(angles, size):
    x = tf.constant(np.vstack([X, X[:1] - 0.2]))  # as many rows as columns
    if size is None:
        x = x[:2]

    def compiled(function, x, order):
        signature = [tf.TensorSpec([size, 3], tf.float64)]
        step = tf.function(lambda x: contracted(function, x, order), input_signature=signature)
        return step(x)

    run = contracted if size == "eager" else compiled
    right = contracted(closed_form(angles), x, 2)
    for found, expected in zip(run(circuit_of(angles), x, 2), right, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("wrapped", [lambda x: x, tf.identity], ids=["as it is", "identity"])
def test_batches_out_of_a_tensor_of_unknown_rank(wrapped):
    @qshift.qnode(qshift.device("simulator"))
    def circuit(x):
        angles = x[0]
        angles.set_shape([3])
        qml.RX(wrapped(angles), 0)
        return qml.expval(qml.Z(0))

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float64)])
    def slopes(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = circuit(x)
        return values, tape.gradient(values, x)

    values, slope = slopes(tf.constant(X[:2]))
    np.testing.assert_allclose(values, np.cos(X[0]))
    np.testing.assert_allclose(slope, [-np.sin(X[0]), np.zeros(3)], atol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float16, tf.float32, tf.float64])
def test_multiples_are_rounded_as_they_are_written(dtype):
    """In the precision of the tensor, where that is what the quantum function multiplies in."""
    angles = ANGLES["multiples"]
    x = tf.Variable(tf.cast(X, dtype))
    with tf.GradientTape() as tape:
        found = circuit_of(angles)(x)
    right = np.prod([np.cos(float(angle)) for angle in angles(x)])
    rounding = 1e-15 if dtype == tf.float64 else 1e-7
    assert abs(float(found) - right) < rounding
    assert tape.gradient(found, x).dtype == dtype


def test_what_is_assigned_meanwhile_counts_from_then_on():
    x = tf.Variable([0.3, 0.4], dtype=tf.float64)

    @qshift.qnode(SIMULATOR)
    def circuit():
        qml.RX(x[0], wires=0)
        x.assign([1.0, 2.0])
        qml.RX(x[1], wires=0)
        x[0].assign(0.1)
        qml.RX(x[0], wires=0)
        return qml.expval(qml.Z(0))

    with tf.GradientTape() as tape:
        value = circuit()
    np.testing.assert_allclose(value, np.cos(0.3 + 2.0 + 0.1), atol=1e-12)
    np.testing.assert_allclose(tape.gradient(value, x), [-2 * np.sin(2.4), -np.sin(2.4)], atol=1e-9)
    x.assign([0.3, 0.4])
    np.testing.assert_allclose(circuit(), np.cos(0.3 + 2.0 + 0.1), atol=1e-12)  # with no tape


add = tf.function(lambda v: v.assign_add([1.0, 1.0, 1.0]))


def set_by_another_thread(v):
    thread = threading.Thread(target=lambda: v.assign([2.0, 2.0, 2.0]))
    thread.start()
    thread.join()


def stopped(x, tape, ends):
    with tape.stop_recording():
        a = x[0]
    return ends(a, x[1])


def with_a_tape_inside(x, tape, ends):
    a = x[0]
    with tf.GradientTape() as inner:
        inner.watch(x)
        z = tf.sin(x[1])
    slope = inner.gradient(z, x, unconnected_gradients="zero")
    return ends(a, tf.convert_to_tensor(slope)[1])


def watched_midway(x, tape, ends):
    a, b = x[0], 2 * x[0]
    tape.watch(x)
    return ends(a, b, x[0], x[1])


def slice_watched_midway(x, tape, ends):
    part = x[:2]
    a = part[0]
    tape.watch(part)
    return ends(a, part[1])


def reset_midway(x, tape, ends):
    a = x[0]
    tape.reset()
    tape.watch(x)
    return ends(a, x[1])


def with_a_gradient_of_its_own(x, tape, ends):
    a = x[0]

    @tf.custom_gradient
    def scaled(z):
        def gradient(cotangent, variables=None):
            given = tf.constant([0.0, 7.0, 0.0], tf.float64) * cotangent
            return cotangent * 10.0, [given] if variables else []

        return z * x[1], gradient

    return ends(a, scaled(a))


def assigned_by_a_function(x, tape, ends):
    a = x[0]
    if isinstance(x, tf.Variable):
        add(x)
    return ends(a, 2 * x[0], x[1] / 3)


def assigned_in_a_branch(x, tape, ends):
    a = x[0]
    if isinstance(x, tf.Variable):
        tf.cond(a > 0.0, lambda: x.assign_add([1.0, 1.0, 1.0]) + 0.0, lambda: x + 0.0)
    return ends(a, x[0], x[1])


def assigned_by_a_thread(x, tape, ends):
    a = x[0]
    if isinstance(x, tf.Variable):
        set_by_another_thread(x)
    return ends(a, x[0])


@pytest.mark.one_in(4)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", ["tensor", "variable"])
@pytest.mark.parametrize("outer", ["none", "persistent", "two"])
@pytest.mark.parametrize("watches", [True, False])
@pytest.mark.parametrize(
    "function",
    [
        stopped,
        with_a_tape_inside,
        watched_midway,
        slice_watched_midway,
        reset_midway,
        with_a_gradient_of_its_own,
        assigned_by_a_function,
        assigned_in_a_branch,
        assigned_by_a_thread,
    ],
)
def test_what_tapes_are_told_and_what_is_assigned_meanwhile(
    function, watches, outer, kind, compiled
):
    """In each case as TensorFlow itself has it."""
    if function is with_a_gradient_of_its_own and kind == "tensor":
        pytest.skip("its gradient is for a variable")
    if compiled and function is assigned_by_a_thread:
        pytest.skip("the thread would assign while the function is traced")

    def run(ends, call):
        values = np.array([0.3, 0.5, 0.7])
        x = tf.constant(values) if kind == "tensor" else tf.Variable(values)
        step = lambda x: taped(x, ends, call)  # noqa: E731
        if compiled:
            step = tf.function(step)
        y, found = step(x)
        return float(y), found.numpy()

    def taped(x, ends, call):
        others = [tf.GradientTape(persistent=outer == "persistent") for _ in range(2)]
        with contextlib.ExitStack() as stack:
            for tape in others[: {"none": 0, "persistent": 1, "two": 2}[outer]]:
                stack.enter_context(tape).watch(x)
            tape = stack.enter_context(tf.GradientTape(watch_accessed_variables=watches))
            if kind == "tensor" and watches:
                tape.watch(x)
            y = call(lambda x: function(x, tape, ends))(x)
        found = tape.gradient(y, x, unconnected_gradients="zero")
        return y, tf.convert_to_tensor(found)

    found = run(product, lambda f: qshift.qnode(SIMULATOR)(f))
    right = run(cosines, lambda f: f)
    np.testing.assert_allclose(found[0], right[0], atol=1e-12)
    np.testing.assert_allclose(found[1], right[1], atol=1e-12)


def test_graphs_read_a_variable_once_as_long_as_nothing_happens():
    x = tf.Variable(X)
    called = tf.function(lambda: tf.constant(1.0))

    @tf.function
    def slope(call):
        @qshift.qnode(SIMULATOR)
        def circuit():
            a, b = x[0, 0], x[1, 2]
            if call:
                called()
            return product(a, b, x[0, 1])

        with tf.GradientTape() as tape:
            value = circuit()
        return tape.gradient(value, x)

    for call in (False, True):
        ops = slope.get_concrete_function(call).graph.get_operations()
        assert sum(op.type == "ReadVariableOp" for op in ops) == 1 + call
        factors = np.cos([X[0, 0], X[1, 2], X[0, 1]])
        right = np.zeros((2, 3))
        right[(0, 1, 0), (0, 2, 1)] = -np.tan([X[0, 0], X[1, 2], X[0, 1]]) * np.prod(factors)
        np.testing.assert_allclose(slope(call), right, atol=1e-12)


def test_a_keras_variable_is_read_when_the_gate_is_made():
    import keras

    variable = keras.Variable([0.3, 0.5, 0.7], dtype="float64")

    @qshift.qnode(SIMULATOR)
    def circuit(w):
        a = w[0]
        variable.assign(variable * 2)
        return product(a, w[0], w[-1])

    with tf.GradientTape() as tape:
        value = circuit(variable)
    np.testing.assert_allclose(value, np.prod(np.cos([0.3, 0.6, 1.4])), atol=1e-12)
    right = np.array([-np.tan(0.3) - np.tan(0.6), 0, -np.tan(1.4)]) * float(value)
    np.testing.assert_allclose(tape.gradient(value, variable.value), right, atol=1e-9)


def test_batches_beside_numbers_in_any_place():
    """In TensorFlow dtypes equal integers: float32 is 1, float64 is 2."""

    @qshift.qnode(SIMULATOR)
    def circuit(x, b):
        qml.RX(tf.sin(x), wires=0)
        qml.RX(x * b, wires=0)
        qml.RX(tf.sin(b), wires=0)
        return qml.expval(qml.Z(0))

    for dtype in (tf.float32, tf.float64):
        x, b = tf.Variable(0.3, dtype=dtype), tf.constant([0.1, 0.2], dtype)
        with tf.GradientTape() as tape:
            found = circuit(x, b)
        right = np.cos(np.sin(0.3) + 0.3 * b + np.sin(b))
        np.testing.assert_allclose(found, right, atol=1e-6)
        assert tape.gradient(found, x).dtype == dtype


def test_few_entries_of_a_large_tensor():
    x = tf.Variable(np.linspace(0.1, 1.0, 10_000))
    with tf.GradientTape() as tape:
        value = circuit_of(lambda x: [x[0], x[9_999], x[5_000]])(x)
    gradient = tape.gradient(value, x).numpy()
    assert np.flatnonzero(gradient).tolist() == [0, 5_000, 9_999]
    right = np.prod(np.cos(x.numpy()[[0, 5_000, 9_999]]))
    np.testing.assert_allclose(value, right, atol=1e-12)


def test_derivatives_by_an_entry_that_is_watched_on_the_way():
    x = tf.constant([0.3, 0.4], tf.float64)
    with tf.GradientTape(persistent=True) as tape:

        @qshift.qnode(SIMULATOR)
        def circuit(x):
            entry = x[0]
            tape.watch(entry)
            seen.append(entry)
            qml.RX(entry, wires=0)
            qml.RX(x[1], wires=0)
            return qml.expval(qml.Z(0))

        seen = []
        tape.watch(x)
        value = circuit(x)
    np.testing.assert_allclose(tape.gradient(value, seen[0]), -np.sin(0.7), atol=1e-12)
    np.testing.assert_allclose(tape.gradient(value, x), [-np.sin(0.7)] * 2, atol=1e-12)


@pytest.mark.parametrize("index", [2, (0,) * 3, (5, 0), (slice(0, 1), 7)])
def test_entries_that_there_are_not(index):
    x = tf.constant(X)
    with pytest.raises(Exception) as own:
        x[index]
    with pytest.raises(type(own.value)) as found, tf.GradientTape():
        circuit_of(lambda x: [x[index]])(x)
    assert str(own.value) in str(found.value)


def test_tensors_are_indexed_as_ever_outside_and_in_other_threads():
    own = [getattr(*each) for each in INDEXED]
    x, seen = tf.Variable(X), []

    def other():
        with tf.GradientTape() as tape:
            y = x[0, 1]
        seen.append(tape.gradient(y, x))

    @qshift.qnode(SIMULATOR)
    def circuit(x):
        assert [getattr(*each) for each in INDEXED] != own
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        qml.RX(x[0, 1], wires=0)
        raise KeyError("after all")

    with pytest.raises(KeyError):
        circuit(x)
    assert [getattr(*each) for each in INDEXED] == own
    assert isinstance(seen[0], tf.Tensor) and seen[0].numpy().tolist() == [[0, 1, 0], [0, 0, 0]]


def test_tapes_are_as_ever_outside():
    own, inside = [getattr(*each) for each in RECORDING], []

    @qshift.qnode(SIMULATOR)
    def circuit(x):
        inside.append([getattr(*each) for each in RECORDING])
        qml.RX(x[0, 1], wires=0)
        raise KeyError("after all")

    with tf.GradientTape(), pytest.raises(KeyError):
        circuit(tf.Variable(X))
    assert not set(inside[0]) & set(own)
    assert [getattr(*each) for each in RECORDING] == own


def test_what_others_make_of_indexing_stays(monkeypatch):
    """`tf.experimental.numpy` changes it for whole programs, for example."""
    own, asked = tf.Tensor.__getitem__, []
    circuit = circuit_of(lambda x: [x[0, 0], x[1, 1]])
    circuit(tf.constant(X))

    def changed(tensor, index):
        asked.append(index)
        return own(tensor, index)

    monkeypatch.setattr(tf.Tensor, "__getitem__", changed)
    found = circuit(tf.constant(X))
    assert tf.Tensor.__getitem__ is changed and not asked
    np.testing.assert_allclose(found, closed_form(lambda x: [x[0, 0], x[1, 1]])(X), atol=1e-12)
    assert circuit_of(lambda x: [x[tf.constant(1), 0]])(tf.constant(X)) is not None and asked


@pytest.mark.parametrize(
    "angles", ["all in order", "all in another order", "all unstacked", "one by one"]
)
def test_a_graph_takes_all_entries_by_few_ops(angles):
    circuit = circuit_of(ANGLES[angles])

    @tf.function
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = circuit(x)
        return tape.gradient(value, x)

    graph = slope.get_concrete_function(tf.TensorSpec([2, 3], tf.float64)).graph
    kinds = [op.type for op in always_run(graph)]
    assert not {"StridedSlice", "StridedSliceGrad", "AddN"} & set(kinds)
    assert angles != "all unstacked" or "Unpack" not in kinds
    # One lays the results out.
    assert kinds.count("Pack") == (3 if angles == "one by one" else 1)


def test_a_graph_takes_columns_of_an_unstacked_batch_together():
    circuit = circuit_of(BATCHES["unstacked"])
    run = tf.function(circuit, input_signature=[tf.TensorSpec([5, 3], tf.float64)])
    ops = always_run(run.get_concrete_function().graph)
    # The results are unpacked.
    assert [op.inputs[0].op.type for op in ops if op.type == "Unpack"] == ["Squeeze"]
    assert "Pack" not in {op.type for op in ops}


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_by_what_was_unstacked(order):
    """By the parts themselves, which tapes inside and outside of the graph were told to watch."""

    def slopes(function, parts):
        with tf.GradientTape() as outer:
            outer.watch(parts)
            with tf.GradientTape() as inner:
                inner.watch(parts)
                value = function(*parts)
            first = inner.gradient(value, parts)
            total = tf.add_n(first) if order == 2 else value
        return tf.stack(outer.gradient(total, parts))

    circuit = qshift.qnode(SIMULATOR)(product)
    for each in (
        lambda x: slopes(circuit, tf.unstack(x)),
        tf.function(lambda x: slopes(circuit, tf.unstack(x))),
    ):
        x = tf.constant(X[0])
        np.testing.assert_allclose(each(x), slopes(cosines, tf.unstack(x)), atol=1e-12)
    compiled, parts = tf.function(lambda *parts: circuit(*parts)), tf.unstack(tf.constant(X[0]))
    np.testing.assert_allclose(slopes(compiled, parts), slopes(cosines, parts), atol=1e-12)


INDICES = (
    (0, slice(None)),
    (slice(None), -1),
    (..., 2),
    (slice(1, None, -1), 0),
    (slice(-5, 9), slice(None, None, 2)),
    (None, 1, ..., slice(2, 0, -1)),
    (..., tf.newaxis, slice(0, 2)),
)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_entries_by_all_kinds_of_slices(index):
    """In functions, whose derivatives say which entries these are, and in plain graphs."""
    angles = lambda x: tf.reshape(x[index], [-1])[:2]  # noqa: E731

    def function(x):
        a, b = tf.unstack(angles(x))
        return tf.cos(a) * tf.cos(b)

    circuit = qshift.qnode(SIMULATOR)(lambda x: product(*tf.unstack(angles(x))))
    x = tf.constant(X)

    def slope(of):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = of(x)
        return tape.gradient(value, x)

    np.testing.assert_allclose(tf.function(slope)(circuit), slope(function), atol=1e-12)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        given = tf.compat.v1.placeholder(tf.float64, X.shape)
        (found,) = session.run([circuit(given)], {given: X})
    np.testing.assert_allclose(found, function(x), atol=1e-12)


NUMERICS = """
import numpy as np, pennylane as qml, tensorflow as tf
import qshift

@qshift.qnode(qshift.device("simulator"))
def circuit(x):
    qml.RX(x[0], 0)
    qml.RY(x[1] * x[0], 0)
    return qml.expval(qml.Z(0))

def slope(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = circuit(x)
    return tape.gradient(value, x)

x = tf.constant([0.1, 0.2], tf.float64)
expected = slope(x)
tf.debugging.enable_check_numerics()
of_any = tf.function(slope, input_signature=[tf.TensorSpec([None], tf.float64)])
for run in (slope, tf.function(slope), of_any):
    np.testing.assert_allclose(run(x), expected, atol=1e-14)
try:
    tf.function(lambda x: circuit(tf.math.log(x)))(-x)
except tf.errors.InvalidArgumentError:
    print("checked")
"""


def test_numbers_that_tensorflow_checks():
    """Its callback for ops is called before, or after, that of qnodes."""
    done = fresh.run(NUMERICS)
    assert done.stdout.strip() == "checked", done.stderr
