"""PennyLane: lightning.qubit by qml.grad (autograd) and alone, and its TensorFlow interface."""

import contextlib
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pennylane as qml
import tensorflow as tf
from circuits import Layer, circuit_of, points, quantum_function

from peers.layer_loss import loss_and_gradient
from peers.nested import nested_tapes
from peers.serving import Job, serve


def prepare(spec):
    circuit = circuit_of(spec)
    is_layer = isinstance(circuit, Layer)
    function = circuit.quantum_function() if is_layer else quantum_function(circuit)
    device = qml.device(spec.get("device", "lightning.qubit"), wires=circuit.wires)
    how, *diff_method = spec["method"].split(", ")
    if how == "kernel":
        return Job(_kernel(function, circuit))
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
    if is_layer:
        run = loss_and_gradient(qnode, circuit.inputs)
    else:  # with pfor its jacobians are None
        run = nested_tapes(qnode, spec["order"], pfor=False)
    if "compiled" in diff_method:
        run = tf.function(run)
    elif "XLA" in diff_method:
        run = tf.function(run, jit_compile=True)
    return Job(run, tf.Variable, count)


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


def _kernel(function, circuit):
    """The gradient by lightning's compiled code alone: its state and its list of gates are made
    before, which is not timed."""
    from pennylane_lightning.lightning_qubit._adjoint_jacobian import LightningAdjointJacobian
    from pennylane_lightning.lightning_qubit._state_vector import LightningStateVector

    known = {}

    def prepared(x):
        tape = qml.tape.make_qscript(function)(x)
        tape.trainable_params = range(circuit.parameters)
        state = LightningStateVector(num_wires=circuit.wires)
        state.get_final_state(tape)
        adjoint = LightningAdjointJacobian(state)
        data = adjoint._process_jacobian_tape(tape)
        names = "state_vector", "obs_serialized", "ops_serialized", "tp_shift"
        return adjoint, [data[name] for name in names]

    def run(x):
        if x.tobytes() not in known:
            known[x.tobytes()] = prepared(x)
        adjoint, data = known[x.tobytes()]
        return (np.ravel(adjoint._jacobian_lightning(*data)),)

    for point in points(circuit.parameters):
        known[point.tobytes()] = prepared(point)
    return run


warnings.simplefilter("ignore", qml.exceptions.PennyLaneDeprecationWarning)
serve(prepare, {"PennyLane": qml.__version__, "TensorFlow": tf.__version__})
