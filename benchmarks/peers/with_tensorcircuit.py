"""TensorCircuit-NG on TensorFlow, compiled by XLA, in double precision."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorcircuit as tc
import tensorflow as tf
from circuits import circuit_of

from peers.serving import Job, serve

backend = tc.set_backend("tensorflow")
tc.set_dtype("complex128")


def prepare(spec):
    circuit = circuit_of(spec)

    def energy(x):
        c = tc.Circuit(circuit.wires)
        for name, wires, parameter in circuit.gates:
            angles = {} if parameter is None else {"theta": x[parameter]}
            getattr(c, name.lower())(*wires, **angles)
        total = 0.0
        for term in circuit.terms:
            letters = {
                letter.lower(): [wire for wire, p in term.items() if p == letter]
                for letter in set(term.values())
            }
            total += backend.real(c.expectation_ps(**letters))
        return total

    if spec["order"] != 1:
        raise NotImplementedError("only value and gradient")
    return Job(backend.jit(backend.value_and_grad(energy), jit_compile=True), tf.constant)


serve(prepare, {"TensorCircuit-NG": tc.__version__, "TensorFlow": tf.__version__})
