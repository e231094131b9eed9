"""In graphs, quantum functions are what they are in eager mode."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift

SIMULATOR = qshift.device("simulator")
X = np.array([0.3, -0.4, 1.1])
CAPTURED = tf.constant(X)
VARIABLE = tf.Variable(X)


def turn(angles):
    """RX by each of some angles, so that the expectation value of Z is the cosine of their sum."""
    for angle in angles:
        qml.RX(angle, wires=0)


# Each takes a vector of three, and turns by these three in all.
LOOPS = {
    "iterate": turn,
    "unpack": lambda x: [turn([a, b, c]) for a, b, c in [x]],
    "star": lambda x: turn([*x]),
    "length": lambda x: turn([x[i] for i in range(len(x))]),
    "reversed": lambda x: turn(reversed(x)),
    "enumerate": lambda x: turn([a for _, a in enumerate(x)]),
    "zip": lambda x: turn([a for a, _ in zip(x, range(3), strict=True)]),
    "sum": lambda x: turn([sum(x)]),
    "layer": lambda x: qml.layer(lambda a: qml.RX(a, wires=0), 3, x),
    "map": lambda x: turn(map(lambda a: 1.0 * a, x)),
    "slice": lambda x: turn([x[0], *x[1:]]),
    "list": lambda x: turn(list(x)[::-1]),
    "rot": lambda x: [qml.RX(a, wires=0) for a in qml.math.unstack(x)],
}
# Each makes of a vector of three another one, with what its entries add up to.
TENSORS = {
    "argument": (lambda x: x, X.sum()),
    "captured": (lambda x: CAPTURED, X.sum()),
    "captured variable": (lambda x: VARIABLE.read_value(), X.sum()),
    "product": (lambda x: 2 * x, 2 * X.sum()),
    "numpy product": (lambda x: np.pi * x, np.pi * X.sum()),
    "affine": (lambda x: x * CAPTURED + 0.1, (X * X + 0.1).sum()),
    "transposed": (lambda x: tf.transpose(tf.stack([x, x]))[:, 0], X.sum()),
    "reshaped": (lambda x: tf.reshape(x, [1, 3])[0], X.sum()),
    "stacked": (lambda x: tf.stack([x[0], x[1], x[2]]), X.sum()),
    "sine": (lambda x: tf.sin(x), np.sin(X).sum()),
    "matmul": (lambda x: tf.linalg.matvec(np.eye(3)[::-1], x), X.sum()),
    "qml.math": (lambda x: qml.math.dot(np.eye(3), x), X.sum()),
}


@pytest.mark.one_in(5)
@pytest.mark.parametrize("tensor", TENSORS)
def test_loops_over_tensors(tensor):
    make, total = TENSORS[tensor]

    for name, loop in LOOPS.items():

        @qshift.qnode(SIMULATOR)
        def circuit(x, loop=loop):
            loop(make(x))
            return qml.expval(qml.Z(0))

        def slope(x, circuit=circuit):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = circuit(x)
            return value, tape.gradient(value, x, unconnected_gradients="zero")

        eager = slope(tf.constant(X))
        assert float(eager[0]) == pytest.approx(np.cos(total), abs=1e-12), name
        for got, expected in zip(tf.function(slope)(tf.constant(X)), eager, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("nest", [lambda x: {"a": x}, lambda x: [x], lambda x: ({"b": (x,)},)])
def test_loops_over_parts_of_nests(nest):
    @qshift.qnode(SIMULATOR)
    def circuit(nested):
        (x,) = tf.nest.flatten(nested)
        turn(x)
        turn([x[i] for i in range(len(x))])
        return qml.expval(qml.Z(0))

    value = tf.function(lambda x: circuit(nest(x)))(tf.constant(X))
    assert float(value) == pytest.approx(np.cos(2 * X.sum()), abs=1e-12)


def test_rot_of_computed_angles():
    @qshift.qnode(SIMULATOR)
    def circuit(x, w, b):
        qml.Rot(*(x * w + b), wires=0)
        return qml.expval(qml.Z(0))

    x, w, b = (tf.constant(v, tf.float64) for v in (X, [0.1, 0.2, 0.3], [1.0, 2.0, 3.0]))
    expected = np.cos(-0.4 * 0.2 + 2)
    for run in (circuit, tf.function(circuit)):
        assert float(run(x, w, b)) == pytest.approx(expected, abs=1e-12)


def test_a_variable_as_an_argument():
    @qshift.qnode(SIMULATOR)
    def circuit(w):
        turn(w)
        turn(reversed([*w]))
        return qml.expval(qml.Z(0))

    for run in (circuit, tf.function(circuit)):
        assert float(run(VARIABLE)) == pytest.approx(np.cos(2 * X.sum()), abs=1e-12)


def test_tensors_are_as_before_elsewhere():
    @tf.function(autograph=False)
    def outside(x):
        with pytest.raises(TypeError, match="len is not well defined"):
            len(x)
        with pytest.raises(tf.errors.OperatorNotAllowedInGraphError, match="Iterating"):
            iter(x)
        return x

    outside(tf.constant(X))

    @tf.function
    def converted(x):  # AutoGraph makes this loop a part of the graph
        total = tf.zeros([], x.dtype)
        for each in x:
            total += each
        return total

    assert float(converted(tf.constant(X))) == pytest.approx(X.sum())
    with pytest.raises(TypeError, match="scalar"):
        tf.function(qshift.qnode(SIMULATOR)(lambda x: (turn(x), qml.expval(qml.Z(0)))[1]))(
            tf.constant(0.1)
        )


ASKING = {
    "if": lambda x: qml.RX(x, wires=0) if x > 0 else qml.RY(x, wires=0),
    "range": lambda x: [qml.RX(x, wires=0) for _ in range(x)],
    "numpy": lambda x: qml.RX(x.numpy(), wires=0),
    "float": lambda x: qml.RX(float(x), wires=0),
    "np.sin": lambda x: qml.RX(np.sin(x), wires=0),
    "np.asarray": lambda x: qml.RX(np.asarray(x), wires=0),
    "max": lambda x: qml.RX(max(x, 0.1), wires=0),
    "and": lambda x: qml.RX(x and 0.1, wires=0),
}


@pytest.mark.parametrize("what", ASKING)
def test_asking_for_numbers_has_one_sentence_of_ours(what):
    @qshift.qnode(SIMULATOR)
    def asking(x):
        ASKING[what](x)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="While asking is traced in a tf.function"):
        tf.function(asking)(tf.constant(1) if what == "range" else tf.constant(0.3))


@pytest.mark.parametrize("shape", [None, [None], [None, 3]])
def test_sizes_that_are_not_known(shape):
    @qshift.qnode(SIMULATOR)
    def circuit(x):
        turn(x)
        return qml.expval(qml.Z(0))

    signature = [tf.TensorSpec(shape, tf.float64)]
    with pytest.raises(qshift.UnsupportedError, match="asks for a size that is not known"):
        tf.function(circuit, input_signature=signature)(
            tf.ones([2, 3][: len(shape or [1])], tf.float64)
        )


def test_an_unknown_batch_of_angles_needs_no_size():
    @qshift.qnode(SIMULATOR)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    run = tf.function(circuit, input_signature=[tf.TensorSpec([None], tf.float64)])
    np.testing.assert_allclose(run(tf.constant(X)), np.cos(X), atol=1e-12)


def test_errors_of_users_come_out_as_they_are():
    @qshift.qnode(SIMULATOR)
    def circuit(x):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        tf.function(circuit)(tf.constant(0.3))


def test_a_qnode_as_an_argument_of_a_compiled_function():
    nodes = [
        qshift.qnode(SIMULATOR)(lambda x, k=k: (qml.RX(k * x, wires=0), qml.expval(qml.Z(0)))[1])
        for k in (1, 2)
    ]

    @tf.function
    def run(node, x):
        return node(x)

    for k, node in enumerate(nodes, 1):
        for x in X:
            assert float(run(node, tf.constant(x))) == pytest.approx(np.cos(k * x), abs=1e-12)
    assert run.experimental_get_tracing_count() == 2


def test_sparse_arguments():
    @qshift.qnode(SIMULATOR)
    def circuit(x):
        turn(x)
        return qml.expval(qml.Z(0))

    sparse = tf.sparse.from_dense(tf.constant([0.0, 0.4, 0.0], tf.float64))
    for run in (circuit, tf.function(circuit)):
        assert float(run(sparse)) == pytest.approx(np.cos(0.4), abs=1e-12)


@pytest.mark.parametrize("compile", [lambda fn: fn, tf.function], ids=["eager", "compiled"])
def test_real_times_of_evolutions_that_pennylane_multiplies_by_an_imaginary_number(compile):
    @qshift.qnode(qml.device("default.qubit"))
    def circuit(time, cast):
        qml.Hadamard(0)
        time = tf.cast(time, tf.complex128) if cast else time
        qml.evolve(qml.Hermitian(np.diag([1.0, 2.5]), 0), time)
        return qml.expval(qml.X(0))

    time = tf.constant(0.3, tf.float64)
    with pytest.raises(qshift.UnsupportedError, match="circuit has a real tensor.*complex128"):
        compile(lambda time: circuit(time, False))(time)
    value = compile(lambda time: circuit(time, True))(time)
    assert float(value) == pytest.approx(np.cos(1.5 * 0.3))


def unknown_rank(x):
    qml.RX(tf.numpy_function(np.sin, [x], tf.float64), 0)
    return qml.expval(qml.Z(0))


def unknown_length(x):
    turn(tf.boolean_mask(x, x > 0))
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    "function, x", [(unknown_rank, np.array(0.4)), (unknown_length, X)], ids=["rank", "length"]
)
def test_sizes_of_what_is_computed(function, x):
    circuit = qshift.qnode(SIMULATOR)(function)
    x = tf.constant(x)
    value = circuit(x)
    with pytest.raises(ValueError, match=f"{function.__name__} asks for a size.*ensure_shape"):
        tf.function(circuit)(x)
    if function is unknown_length:  # which is run eagerly then
        with pytest.warns(qshift.SlowerWarning, match="runs eagerly"):
            found = qshift.derivatives(lambda x: circuit(x), x, partials=[(), (0,)])
        assert float(found[0]) == pytest.approx(float(value))
        found = qshift.derivatives(circuit, x, partials=[(), (0,)])  # traces nothing
        assert float(found[0]) == pytest.approx(float(value))
