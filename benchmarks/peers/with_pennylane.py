"""PennyLane: its lightning.qubit, by qml.grad (autograd) and by its TensorFlow interface."""

import contextlib
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pennylane as qml
import tensorflow as tf
from circuits import circuit_of, quantum_function

from peers.nested import nested_tapes
from peers.serving import Job, serve


def prepare(spec):
    circuit = circuit_of(spec)
    function = quantum_function(circuit)
    device = qml.device(spec.get("device", "lightning.qubit"), wires=circuit.wires)
    how, *diff_method = spec["method"].split(", ")
    if how == "one tape per circuit":
        return Job(_tapes(function, device, circuit.parameters))
    interface = {"grad": "autograd", "TensorFlow": "tf"}[how]
    settings = {"interface": interface, "diff_method": diff_method[0]}
    if "shots" in spec:
        settings["shots"] = spec["shots"]
    if spec["order"] > 1:
        settings["max_diff"] = spec["order"]
    qnode = qml.QNode(function, device, **settings)

    @contextlib.contextmanager
    def count():
        with qml.Tracker(device) as tracker:
            yield lambda: tracker.totals.get("simulations")

    if how == "grad":
        gradient = qml.grad(qnode)

        def run(x):
            slopes = gradient(x)
            return gradient.forward, slopes

        return Job(run, lambda x: qml.numpy.array(x, requires_grad=True), count)
    # With pfor its jacobians are None.
    return Job(nested_tapes(qnode, spec["order"], pfor=False), tf.Variable, count)


def _tapes(function, device, parameters):
    """The shifted circuits and nothing else, run on the device as one batch."""
    shifts = np.pi / 2 * np.eye(parameters)
    shifts = np.concatenate([np.zeros((1, parameters)), shifts, -shifts])

    def run(x):
        tapes = [qml.tape.make_qscript(function)(point) for point in x + shifts]
        value, *values = (result for (result,) in _batches(tapes))
        plus, minus = np.split(np.array(values), 2)
        return value, (plus - minus) / 2

    def _batches(tapes):
        return [(result,) for result in qml.execute(tapes, device, diff_method=None)]

    return run


warnings.simplefilter("ignore", qml.exceptions.PennyLaneDeprecationWarning)
serve(prepare, {"PennyLane": qml.__version__, "TensorFlow": tf.__version__})
