"""PennyLane with JAX: backpropagation through default.qubit, jitted."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pennylane as qml
from circuits import circuit_of, quantum_function

from peers.serving import Job, serve

jax.config.update("jax_enable_x64", True)


def prepare(spec):
    circuit = circuit_of(spec)
    device = qml.device("default.qubit", wires=circuit.wires)
    energy = qml.QNode(quantum_function(circuit), device, interface="jax", diff_method="backprop")
    if spec["order"] == 1:
        compiled = jax.jit(jax.value_and_grad(energy))
    else:
        derivative = energy
        for _ in range(spec["order"] - 2):
            derivative = jax.jacrev(derivative)
        hessian = jax.hessian(derivative)
        compiled = jax.jit(lambda x: (hessian(x),))  # the last order only
    return Job(lambda x: jax.block_until_ready(compiled(x)), jax.numpy.asarray)


serve(prepare, {"PennyLane": qml.__version__, "JAX": jax.__version__})
