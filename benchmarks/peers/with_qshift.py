"""qshift itself: compiled (in a tf.function), eager, by qshift.derivatives; its simulator alone."""

import contextlib
from dataclasses import replace

import equation
import numpy as np
import pennylane as qml
import tensorflow as tf
from circuits import Layer, circuit_of, quantum_function

import qshift
from peers.layer_loss import loss_and_gradient
from peers.nested import nested_tapes
from peers.serving import Job, serve


def training(case, qnode):
    """Returns one step: y, y' and the gradient by the angles."""
    circuit, x = qnode(equation.quantum_function(case)), tf.constant(equation.X)

    @tf.function
    def run(parameters):
        with tf.GradientTape() as outer:
            outer.watch(parameters)
            angles, offset, coefficients = tf.split(parameters, [case.angles, 1, case.wires])
            with tf.GradientTape() as inner:
                inner.watch(x)
                values = tf.stack(circuit(x, tf.unstack(angles)))
                y = offset + tf.tensordot(coefficients, values, 1)
            slope = inner.gradient(y, x)
            loss = tf.reduce_sum(equation.residual(y, slope) ** 2)
            loss += equation.WEIGHT * (y[0] - equation.START) ** 2
        return y, slope, outer.gradient(loss, parameters)[: case.angles]

    return Job(run, tf.constant, _count)


def prepare(spec):
    circuit = circuit_of(spec)
    if "device" in spec:
        device = qml.device(spec["device"], wires=circuit.wires)
    else:
        shots = {"shots": spec["shots"]} if "shots" in spec else {}
        device = qshift.device("simulator", wires=circuit.wires, **shots)
    how, *diff_method = spec["method"].split(", ")
    qnode = qshift.qnode(device, diff_method=(diff_method or ["best"])[0])
    if isinstance(circuit, equation.Equation):
        return training(circuit, qnode)
    if isinstance(circuit, Layer):
        run = loss_and_gradient(qnode(circuit.quantum_function()), circuit.inputs)
        return Job(tf.function(run) if how == "compiled" else run, tf.constant, _count)
    energy = qnode(quantum_function(circuit))
    if how in ("kernel", "points"):
        return _simulator_alone(energy, circuit, spec)
    order = spec["order"]
    run = nested_tapes(energy, order)
    if how == "compiled":
        run = tf.function(run)
    elif how == "derivatives":

        def run(x):
            return qshift.derivatives(energy, x, order=order)

    return Job(run, tf.constant, _count)


def _simulator_alone(energy, circuit, spec):
    """The simulator without TensorFlow: value and gradient at a point, or values at many points, in
    as many threads as the case says."""
    from qshift.executors.simulator.simulator import SimulatorExecutor
    from qshift.executors.simulator.thresholds import DEFAULT

    x = tf.Variable(np.zeros(circuit.parameters))
    compiled = energy.preparation.compile(energy.construct([x], {})).circuit
    thresholds = replace(DEFAULT, threads=spec.get("threads"))
    executor = SimulatorExecutor(energy.device, thresholds=thresholds)
    if spec["method"] == "points":
        moves = np.random.default_rng(1).normal(size=(spec["points"], circuit.parameters))
        return Job(lambda x: (executor(compiled, x + moves).mean(),), count=_count)

    def run(x):
        value = executor(compiled, x[None])
        return value[0, 0], executor.gradients(compiled, x[None])[0, 0]

    return Job(run, count=_count)


@contextlib.contextmanager
def _count():
    with qshift.Tracker() as tracker:
        yield lambda: tracker.totals["circuits"]


serve(prepare, {"qshift": qshift.__version__, "TensorFlow": tf.__version__})
