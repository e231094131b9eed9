"""TensorFlow Quantum, in the single precision that is all it has; inside a tf.function."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import cirq
import sympy
import tensorflow as tf
import tensorflow_quantum as tfq
from circuits import circuit_of

from peers.serving import Job, serve

_GATES = {"RX": cirq.rx, "RY": cirq.ry, "RZ": cirq.rz}


def prepare(spec):
    circuit = circuit_of(spec)
    if spec["order"] != 1:
        raise NotImplementedError("it differentiates once only")
    qubits = cirq.LineQubit.range(circuit.wires)
    names = [f"x{i:04}" for i in range(circuit.parameters)]
    symbols = sympy.symbols(names)
    gates = [
        cirq.CNOT(*(qubits[w] for w in wires))
        if parameter is None
        else _GATES[name](symbols[parameter])(qubits[wires[0]])
        for name, wires, parameter in circuit.gates
    ]
    observable = sum(
        cirq.PauliString({qubits[w]: getattr(cirq, p) for w, p in term.items()})
        for term in circuit.terms
    )
    differentiator = getattr(tfq.differentiators, spec["method"])()
    expectation = differentiator.generate_differentiable_op(analytic_op=tfq.get_expectation_op())
    names = tf.constant(names)
    circuits = tfq.convert_to_tensor([cirq.Circuit(gates)])
    observables = tfq.convert_to_tensor([[observable]])

    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = expectation(circuits, names, x, observables)
        return value[0, 0], tape.gradient(value, x)[0]

    return Job(run, lambda x: tf.constant(x[None], tf.float32))


serve(prepare, {"TensorFlow Quantum": tfq.__version__, "TensorFlow": tf.__version__})
