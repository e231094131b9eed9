"""What TensorFlow keeps of circuits, saves of them, and takes to other threads and processes."""

import ast
import functools
import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.autodiff.node_errors import own_errors

DEVICE = qml.device("default.qubit")


class Served(tf.Module):
    """A module as TensorFlow's own messages advise to save it."""

    def __init__(self, node):
        super().__init__()
        self.w, self.node = tf.Variable([0.1, 0.2], dtype=tf.float64), node

    @tf.function(input_signature=[tf.TensorSpec([], tf.float64)])
    def run(self, x):
        return self.node(x * self.w[0])

    @tf.function(input_signature=[tf.TensorSpec([], tf.float64)])
    def nested(self, x):
        for _ in tf.range(2):
            x = tf.cond(x > 0, lambda x=x: self.run(x), lambda x=x: self.run(2 * x))
        return x


def cosine(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("custom_gradients", [False, True])
@pytest.mark.parametrize("only_nested", [False, True])
def test_a_saved_model_that_would_need_python_is_refused(
    only_nested, custom_gradients, traced, tmp_path
):
    module = Served(qshift.qnode(DEVICE, embedded=False)(cosine))
    if traced:
        module.nested(tf.constant(0.3, tf.float64))
        module.run(tf.constant(0.3, tf.float64))
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=custom_gradients)
    signatures = module.nested if only_nested else module.run
    with pytest.raises(qshift.UnsupportedError, match="SavedModel cannot hold.*model.save"):
        tf.saved_model.save(module, str(tmp_path), signatures=signatures, options=options)


def test_circuits_and_devices_die_with_the_functions_that_run_them():
    def use():
        node = qshift.qnode(qml.device("default.qubit"))(cosine)
        run, x = tf.function(node), tf.Variable(0.3, dtype=tf.float64)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                value = run(x)
            return tape.gradient(value, x)

        with tf.GradientTape() as tape:
            value = run(x)
        tape.gradient(value, x)
        step()
        kept = [node.device, node.calls, *node.preparation.programs.values()]
        kept += [program.circuit for program in node.preparation.programs.values()]
        return [weakref.ref(each) for each in kept]

    kept = use()
    for _ in range(3):
        gc.collect()
    assert [each() for each in kept] == [None] * len(kept)


def test_a_pipeline_outlives_the_qnode_it_was_made_of():
    def make():
        node = qshift.qnode(DEVICE)(cosine)
        dataset = tf.data.Dataset.from_tensor_slices([0.1, 0.2, 0.3]).map(lambda x: node(x))
        return iter(dataset.batch(3))

    iterator = make()
    gc.collect()
    np.testing.assert_allclose(next(iterator), np.cos([0.1, 0.2, 0.3]), atol=1e-6)


FORK = """
import multiprocessing, sys
import numpy as np, pennylane as qml, tensorflow as tf
import qshift

node = qshift.qnode(qshift.device("simulator"))(lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1])
traced = tf.function(node)

def attempt(kind, results):
    x = tf.Variable(0.3, dtype=tf.float64)
    try:
        if kind == "eager":
            with tf.GradientTape() as tape:
                value = node(x)
            results.put(float(tape.gradient(value, x)))
        elif kind == "large":
            results.put(float(node(np.full(100_000, 0.3))[0]))
        else:
            results.put(float({"traced": traced, "new": tf.function(node)}[kind](x)))
    except Exception as error:
        results.put(" ".join(f"{type(error).__name__}: {error}".split()))

def tokens():
    # Of the first function that this process traces.
    graph = traced.get_concrete_function(tf.Variable(0.3, dtype=tf.float64)).graph
    python = [op for op in graph.get_operations() if op.type.startswith("PyFunc")]
    return [op.get_attr("token").decode() for op in python]

if sys.argv[1] == "used":
    traced(tf.Variable(0.3, dtype=tf.float64))
context = multiprocessing.get_context("fork")
for kind in ("eager", "large", "traced", "new"):
    results = context.SimpleQueue()
    process = context.Process(target=attempt, args=(kind, results))
    process.start()
    process.join(60)
    assert not process.is_alive(), kind
    print(kind, "|", results.get() if not results.empty() else "nothing", "|")
print("tokens", "|", tokens())
"""

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")


@functools.cache
def forked(used):
    """Returns what a program prints that forks before or after it has used TensorFlow."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, "used" if used else "unused"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split(" | ", 1) for line in ran.stdout.splitlines() if " | " in line)


@pytest.mark.one_in(2)
@forking
@pytest.mark.parametrize("used", [False, True])
def test_processes_forked_after_tensorflow_was_used(used):
    """A compiled function there would wait for ever for threads that are gone."""
    found = forked(used)
    assert float(found["eager"].rstrip(" |")) == pytest.approx(-np.sin(0.3))
    for kind in ("large", "traced", "new"):
        if used:
            assert "UnsupportedError" in found[kind] and "spawn" in found[kind]
        else:
            assert float(found[kind].rstrip(" |")) == pytest.approx(np.cos(0.3))


@forking
def test_no_other_process_has_the_tokens_of_this_one():
    first, second = (set(ast.literal_eval(forked(used)["tokens"])) for used in (False, True))
    assert len(first) == len(second) == 1 and not first & second


def test_what_is_run_ahead_belongs_to_the_call_that_asks(tracker):
    def circuit(x):
        for wire in range(4):
            qml.RX(x[wire], wires=wire)
        for wire in range(3):
            qml.CNOT([wire, wire + 1])
        return qml.expval(qml.Z(3))

    def counts(call):
        tracker.reset()
        call()
        return tracker.totals["circuits"], tracker.totals["batches"]

    x = tf.constant([0.1, 0.2, 0.3, 0.4], tf.float64)
    for made in (lambda f: f, lambda f: lambda x: f(x)):
        run = tf.function(qshift.qnode(DEVICE, diff_method="shift")(circuit))
        derivatives = functools.partial(qshift.derivatives, made(run), x, order=3)
        circuits, batches = counts(derivatives)
        assert circuits == 49
        assert counts(lambda run=run: run(x)) == (1, 1)
        assert counts(derivatives) == (circuits, batches)
    # A function that is not told of stays compiled: one batch for each order.
    assert batches == 4
    run = tf.function(qshift.qnode(DEVICE, diff_method="shift")(circuit))
    run(x)
    assert counts(lambda: qshift.derivatives(run, x, order=3)) == (49, 1)


def test_errors_of_other_threads_graphs_are_not_taken_for_own_ones():
    def failing(message):
        def node(x):
            raise RuntimeError(message)

        return tf.function(lambda x: tf.numpy_function(node, [x], tf.float64))

    x, errors = tf.constant(0.3, tf.float64), []

    def attempt(k):
        try:
            with own_errors():
                failing(f"mine is {k}")(x)
        except Exception as error:
            errors.append((k, str(error)))

    threads = [threading.Thread(target=attempt, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 8 and all(f"mine is {k}" in message for k, message in errors)
