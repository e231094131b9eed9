"""qshift itself: compiled (in a tf.function), eager, or by qshift.derivatives."""

import contextlib

import equation
import pennylane as qml
import tensorflow as tf
from circuits import circuit_of, quantum_function

import qshift
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
    energy = qnode(quantum_function(circuit))
    order = spec["order"]
    run = nested_tapes(energy, order)
    if how == "compiled":
        run = tf.function(run)
    elif how == "derivatives":

        def run(x):
            return qshift.derivatives(energy, x, order=order)

    return Job(run, tf.constant, _count)


@contextlib.contextmanager
def _count():
    with qshift.Tracker() as tracker:
        yield lambda: tracker.totals["circuits"]


serve(prepare, {"qshift": qshift.__version__, "TensorFlow": tf.__version__})
