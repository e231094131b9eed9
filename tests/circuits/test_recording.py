"""Each thread records its own gates, and each call gets its own results."""

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from pennylane.queuing import AnnotatedQueue, QueuingManager

import qshift

SIMULATOR = qshift.device("simulator")
PATIENCE = 60  # seconds after which threads count as waiting for ever

DEVICES = {
    "simulator": SIMULATOR,
    "default.qubit": qml.device("default.qubit"),
    "lightning.qubit": qml.device("lightning.qubit"),
    "default.mixed": qml.device("default.mixed", wires=2),
}


def rotations(x):
    qml.RX(x, wires=0)
    qml.U3(x, 0.1 * x, 0.2, wires=1)  # which is decomposed
    qml.CNOT([0, 1])
    return qml.expval(qml.Z(1))


@pytest.fixture(scope="module")
def run():
    return qshift.qnode(SIMULATOR)(rotations)


def numbers(count):
    return [tf.constant(0.1 + 0.07 * k, tf.float64) for k in range(count)]


def gradient(fn, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = fn(x)
    return float(tape.gradient(value, x))


def at_once(function, arguments, threads=6):
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, arguments, timeout=PATIENCE))


def leaves(results):
    return np.concatenate([np.ravel(each) for each in tf.nest.flatten(results)])


@pytest.mark.parametrize("name", DEVICES)
def test_one_qnode_in_several_threads_gives_each_its_own_results(name):
    @qshift.qnode(DEVICES[name], diff_method="shift", embedded=name != "default.qubit")
    def circuit(x, kind):
        qml.RX(x, wires=0)
        qml.RY(2 * x, wires=1)
        qml.CNOT([0, 1])
        qml.Rot(x, 0.3, x, wires=1)
        if kind == 0:
            return qml.expval(qml.Z(1))
        if kind == 1:
            return [qml.expval(qml.Z(1)), qml.probs(0)]
        if kind == 2:
            return {"mean": qml.expval(qml.Z(1)), "spread": qml.var(qml.X(0))}
        return qml.expval(qml.Z(1)), qml.expval(qml.Hermitian(np.diag([1.0, 2, 3, 4]), [0, 1]))

    cases = [*itertools.product(numbers(6), range(4))]
    alone = [circuit(*case) for case in cases]
    together = at_once(lambda case: circuit(*case), cases * 3)
    for got, expected in zip(together, alone * 3, strict=True):
        assert type(got) is type(expected)
        np.testing.assert_allclose(leaves(got), leaves(expected), atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_in_several_threads(run, compiled):
    def slope(x):
        return gradient(tf.function(lambda x: run(x)) if compiled else run, x)

    expected = [slope(x) for x in numbers(8)]
    np.testing.assert_allclose(at_once(slope, numbers(8) * 3), expected * 3, atol=1e-12)


def test_different_qnodes_in_several_threads(run):
    nodes = [qshift.qnode(device)(rotations) for device in DEVICES.values()]
    expected = [float(run(x)) for x in numbers(10)]
    got = at_once(lambda case: float(case[0](case[1])), itertools.product(nodes, numbers(10)))
    np.testing.assert_allclose(got, expected * len(nodes), atol=1e-12)


def test_derivatives_and_plans_in_several_threads(run):
    def both(x):
        return [float(d) for d in qshift.derivatives(run, x, order=2)], run.plan(x).circuits

    expected = [both(x) for x in numbers(6)]
    for (a, n), (b, m) in zip(at_once(both, numbers(6) * 3), expected * 3, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
        assert n == m


def test_tasks_of_asyncio(run):
    async def all_slopes():
        slopes = (asyncio.to_thread(gradient, run, x) for x in numbers(8))
        return await asyncio.wait_for(asyncio.gather(*slopes), PATIENCE)

    expected = [gradient(run, x) for x in numbers(8)]
    np.testing.assert_allclose(asyncio.run(all_slopes()), expected, atol=1e-12)


def test_a_pipeline_of_tensorflow_beside_eager_calls(run):
    """Ops of a pipeline run in TensorFlow's threads, which make gates as well."""

    @qshift.qnode(DEVICES["default.qubit"], diff_method="shift")
    def features(x):
        return rotations(x[0])

    points = np.random.default_rng(0).normal(size=(40, 1))
    expected = [float(features(tf.constant(point))) for point in points]
    dataset = tf.data.Dataset.from_tensor_slices(points).map(features, num_parallel_calls=2)
    x = tf.constant(0.7, tf.float64)
    value, others, traced = float(run(x)), [], []
    found = []
    for each in dataset.prefetch(20):
        found.append(float(each))
        others += [float(run(x)) for _ in range(3)]
        if len(found) % 10 == 0:
            traced.append(float(tf.function(lambda x: run(x))(x)))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(others, value, atol=1e-12)
    np.testing.assert_allclose(traced, value, atol=1e-12)


def test_generators_and_workers_of_keras(run):
    def generate():
        for x in numbers(6):
            yield float(run(x))

    signature = tf.TensorSpec([], tf.float64)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    found = [float(each) for each in dataset.map(run, num_parallel_calls=2)]
    np.testing.assert_allclose(found, [float(run(run(x))) for x in numbers(6)], atol=1e-12)

    class Samples(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            y = [float(run(tf.constant(0.1 * i + k, tf.float64))) for k in range(4)]
            return np.full((4, 2), 0.1 * i, "float32"), np.array(y)

    @qshift.qnode(SIMULATOR)
    def circuit(inputs, w):
        qml.AngleEmbedding(inputs, wires=[0, 1])
        qml.BasicEntanglerLayers(w, wires=[0, 1])
        return qml.expval(qml.Z(0))

    class Calls(keras.callbacks.Callback):
        values: list = []

        def on_train_batch_end(self, batch, logs=None):
            self.values.append(float(run(x)))

    x = numbers(1)[0]
    model = keras.Sequential([keras.Input((2,)), qshift.keras.QuantumLayer(circuit, {"w": (1, 2)})])
    model.compile("sgd", "mse")
    history = model.fit(Samples(workers=3), epochs=2, verbose=0, callbacks=[Calls()])
    assert np.isfinite(history.history["loss"]).all()
    np.testing.assert_allclose(Calls.values, [float(run(x))] * 10, atol=1e-12)


WAITING = {
    "a thread": lambda run, x: ThreadPoolExecutor(1).submit(run, x).result(PATIENCE),
    "a pipeline": lambda run, x: next(iter(tf.data.Dataset.from_tensors(x).map(run))),
    "a compiled function": lambda run, x: tf.function(lambda x: run(x))(x),
    "a gradient": lambda run, x: tf.constant(gradient(run, x), tf.float64),
}


@pytest.mark.parametrize("way", WAITING)
def test_a_quantum_function_that_waits_for_another_qnode(run, way):
    """Neither falls the one's gates onto the other's tape, nor waits one for the other."""

    @qshift.qnode(SIMULATOR)
    def outer(x):
        qml.RX(x, wires=0)
        qml.RX(WAITING[way](run, x), wires=0)
        return qml.expval(qml.Z(0))

    (x,) = numbers(1)
    expected = np.cos(float(x) + float(WAITING[way](run, x)))
    assert float(outer(x)) == pytest.approx(expected, abs=1e-12)


def test_qnodes_of_pennylane_in_the_background(run):
    @qml.qnode(qml.device("default.qubit"))
    def plain(x):
        return rotations(x)

    (x,) = numbers(1)
    expected, wrong, done = float(plain(0.1)), [], threading.Event()

    def background():
        while not done.is_set():
            try:
                if abs(float(plain(0.1)) - expected) > 1e-9:
                    wrong.append("a number")
            except Exception as error:
                wrong.append(error)

    thread = threading.Thread(target=background)
    thread.start()
    found = [float(run(x)) for _ in range(60)]
    done.set()
    thread.join(PATIENCE)
    assert not wrong and not thread.is_alive()
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_failing_thread_holds_nothing(run):
    @qshift.qnode(SIMULATOR)
    def failing(x):
        qml.RX(x, wires=0)
        raise RuntimeError("gone")

    def attempt(k):
        x = numbers(1)[0]
        if k % 2:
            return float(run(x))
        with pytest.raises(RuntimeError, match="gone"):
            failing(x)
        return None

    results = at_once(attempt, range(24))
    np.testing.assert_allclose(results[1::2], float(run(numbers(1)[0])), atol=1e-12)
    assert not QueuingManager.recording()


def test_recordings_are_those_of_their_thread():
    """What PennyLane's recording must do, in each thread, also where functions are decorated."""

    @QueuingManager.stop_recording()
    def apart():
        return qml.Z(0)

    def others():
        seen = QueuingManager.recording()
        with AnnotatedQueue() as queue:
            qml.Y(1)
        return seen, queue.queue

    with AnnotatedQueue() as outer:
        qml.X(0)
        (result,) = at_once(lambda _: others(), [0], threads=1)
        with QueuingManager.stop_recording():
            assert not QueuingManager.recording()
            qml.S(0)
        apart()
        with AnnotatedQueue() as inner:
            qml.T(0)
    assert result == (False, [qml.Y(1)])
    assert outer.queue == [qml.X(0)] and inner.queue == [qml.T(0)]


def test_nothing_of_a_call_stays_on_the_qnode(run):
    before = {name: id(value) for name, value in vars(run).items()}
    run(numbers(1)[0])
    assert {name: id(value) for name, value in vars(run).items()} == before
    assert run._tape is None and run._qfunc_output is None


def test_counts_of_several_threads_add_up(run, tracker):
    at_once(run, numbers(10) * 5)
    assert tracker.totals["circuits"] == tracker.totals["batches"] == 50


# --- what gates are given ---
