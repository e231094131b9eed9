"""qshift itself: compiled (in a tf.function), eager, or by qshift.derivatives."""

import contextlib

import pennylane as qml
import tensorflow as tf
from circuits import circuit_of, quantum_function

import qshift
from peers.nested import nested_tapes
from peers.serving import Job, serve


def prepare(spec):
    circuit = circuit_of(spec)
    if "device" in spec:
        device = qml.device(spec["device"], wires=circuit.wires)
    else:
        shots = {"shots": spec["shots"]} if "shots" in spec else {}
        device = qshift.device("simulator", wires=circuit.wires, **shots)
    how, *diff_method = spec["method"].split(", ")
    energy = qshift.qnode(device, diff_method=(diff_method or ["best"])[0])(
        quantum_function(circuit)
    )
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
