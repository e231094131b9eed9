"""SavedModels with circuits: served without Python, or refused with a reason."""

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import qshift


def circuit(x, weights):
    qml.StatePrep(np.array([0.6, 0.8j]), 0)
    qml.RX(x[..., 0], 0)
    qml.CRX(weights[0], [0, 1])
    qml.Hadamard(2)
    qml.CNOT([1, 2])
    qml.Rot(weights[1], x[..., 1], 0.3, 2)
    qml.Toffoli([0, 1, 2])
    qml.QubitUnitary(qml.matrix(qml.QFT([0, 1])), [2, 0])
    qml.ctrl(qml.RY(weights[0], 0), [1, 2], [0, 1])
    qml.RY(-2 * x[..., 0], 1)  # an angle that another gate has, too
    return (
        qml.expval(qml.Z(0) @ qml.X(2) + weights[2] * qml.Y(1)),
        qml.probs([2, 1]),
        qml.var(qml.Z(1)),
    )


def ops(path):
    """Returns the kinds of ops in a SavedModel."""
    written = saved_model_pb2.SavedModel()
    written.ParseFromString((path / "saved_model.pb").read_bytes())
    (graph,) = (each.graph_def for each in written.meta_graphs)
    nodes = [node for function in graph.library.function for node in function.node_def]
    return {node.op for node in [*nodes, *graph.node]}


class Module(tf.Module):
    def __init__(self, node, dtype=tf.float64):
        super().__init__()
        self.weights, self.node = tf.Variable([0.1, 0.2, 0.3], dtype=dtype), node
        spec = tf.TensorSpec([None, 2], dtype)
        self.run = tf.function(self._run, input_signature=[spec])
        self.served = tf.function(self._served, input_signature=[spec])

    def _run(self, x):
        return self.node(x, self.weights)

    def _served(self, x):
        mean, probabilities, variance = self.run(x)
        total = tf.while_loop(lambda k, _: k < 2, self._add(x), (0, tf.zeros_like(mean)))[1]
        return {"mean": 2 * mean, "probs": probabilities, "var": variance, "total": total}

    def _add(self, x):
        return lambda k, total: (k + 1, total + self.run(x)[0])


@pytest.mark.one_in(8)
@pytest.mark.parametrize("name", ["default.qubit", "lightning.qubit"])
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
def test_what_is_served_is_what_the_circuit_gives(dtype, traced, name, served, tmp_path):
    module = Module(qshift.qnode(qml.device(name))(circuit), dtype)
    rng, number = np.random.default_rng(0), dtype.as_numpy_dtype
    special = [[0, 0], [np.pi / 2, np.pi], [2 * np.pi, -np.pi], [1e-9, 1e5], [1e13, -1e13]]
    batches = {
        "one": rng.normal(size=(1, 2)),
        "three": rng.normal(size=(3, 2)),
        "none": np.zeros((0, 2)),
        "special": np.array(special),
    }
    batches = {key: batch.astype(number) for key, batch in batches.items()}
    if traced:  # also its derivatives, by a tape outside
        with tf.GradientTape() as tape:
            mean = module.served(tf.constant(batches["three"]))["mean"]
        tape.gradient(mean, module.weights)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.served)
    assert not any("PyFunc" in op for op in ops(tmp_path / "model"))
    found = served(tmp_path / "model", batches)
    for key, batch in batches.items():
        for each, expected in module.served(tf.constant(batch)).items():
            assert found[f"{key} {each}"].dtype == number
            bound = 1e-10 if dtype == tf.float64 else 1e-5
            np.testing.assert_allclose(found[f"{key} {each}"], expected, atol=bound)


def test_a_loaded_model_is_differentiated_by_tensorflow(tmp_path):
    module = Module(qshift.qnode(qml.device("default.qubit"))(circuit))
    tf.saved_model.save(module, str(tmp_path), signatures=module.served)
    loaded, x = (
        tf.saved_model.load(str(tmp_path)),
        tf.constant([[0.3, -0.4], [0.0, np.pi]], tf.float64),
    )
    found = []
    for served in (loaded.served, module.served):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(served(x)["mean"])
        found.append(tape.gradient(value, x))
    np.testing.assert_allclose(*found, atol=1e-10)


def test_functions_that_run_no_circuit_stay_as_they_are(tmp_path):
    class Plain(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None])])
        def run(self, x):
            return tf.numpy_function(np.square, [x], tf.float32)

    tf.saved_model.save(Plain(), str(tmp_path))
    assert "PyFunc" in ops(tmp_path)


class Other(tf.Module):
    """A module whose function is given."""

    def __init__(self, function):
        super().__init__()
        self.run = tf.function(function, input_signature=[tf.TensorSpec([], tf.float64)])


def rotated(x):
    qml.RX(x, 0)
    return qml.expval(qml.Z(0))


def slope(node):
    def function(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = node(x)
        return tape.gradient(value, x)

    return function


def wide(x):
    for wire in range(21):
        qml.RX(x, wire)
    return qml.expval(qml.Z(0))


def changing(x):
    vector = tf.cast(tf.stack([tf.cos(x), tf.sin(x)]), tf.complex128)
    qml.Hadamard(0)
    qml.StatePrep(vector, 0)
    return qml.expval(qml.Z(0))


SIMULATOR = qml.device("default.qubit")
REFUSED = {
    "device": (
        lambda: qshift.qnode(qml.device("default.mixed", wires=1))(rotated),
        "default.mixed runs its circuits by Python code.*qshift.device",
    ),
    "embedded": (
        lambda: qshift.qnode(SIMULATOR, embedded=False)(rotated),
        "default.qubit runs its circuits by Python code",
    ),
    "shots": (lambda: qshift.qnode(SIMULATOR, shots=7)(rotated), "means of 7 shots"),
    "wires": (lambda: qshift.qnode(SIMULATOR)(wide), "21 wires, and at most 20"),
    "gate": (lambda: qshift.qnode(SIMULATOR)(changing), "StatePrep is not the first gate"),
    "derivative": (
        lambda: slope(qshift.qnode(SIMULATOR)(rotated)),
        "derivatives of it are computed",
    ),
    "function": (
        lambda: qshift.shift_gradient(frequencies=(1,))(lambda x: np.cos(x)),
        "periodic function that NumPy evaluates",
    ),
}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved_says_why(name, traced, tmp_path):
    make, reason = REFUSED[name]
    module = Other(make())
    if traced and name != "wires":
        module.run(tf.constant(0.3, tf.float64))
    with pytest.raises(
        qshift.UnsupportedError, match=f"SavedModel cannot hold.*{reason}.*model.save"
    ):
        tf.saved_model.save(module, str(tmp_path / "model"))
    assert not (tmp_path / "model" / "saved_model.pb").exists()
