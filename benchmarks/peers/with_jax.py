"""PennyLane with JAX: backpropagation through default.qubit, jitted."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import equation
import jax
import jax.numpy as jnp
import pennylane as qml
from circuits import circuit_of, quantum_function

from peers.serving import Job, serve

jax.config.update("jax_enable_x64", True)


def training(case):
    """Returns one step: y, y' and the gradient by the angles."""
    device = qml.device("default.qubit", wires=case.wires)
    function = equation.quantum_function(case)
    qnode = qml.QNode(function, device, interface="jax", diff_method="backprop")
    x = jnp.asarray(equation.X)

    def loss(parameters):
        angles, offset, *coefficients = jnp.split(
            parameters, list(range(case.angles, case.parameters))
        )

        def y(x):
            values = jnp.stack(qnode(x, list(angles)))
            return offset[0] + jnp.concatenate(coefficients) @ values

        found, slope = jax.jvp(y, [x], [jnp.ones_like(x)])
        total = jnp.sum(equation.residual(found, slope) ** 2)
        return total + equation.WEIGHT * (found[0] - equation.START) ** 2, (found, slope)

    gradient = jax.jit(jax.grad(loss, has_aux=True))

    def run(parameters):
        slopes, (found, slope) = jax.block_until_ready(gradient(parameters))
        return found, slope, slopes[: case.angles]

    return Job(run, jnp.asarray)


def prepare(spec):
    circuit = circuit_of(spec)
    if isinstance(circuit, equation.Equation):
        return training(circuit)
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
    return Job(lambda x: jax.block_until_ready(compiled(x)), jnp.asarray)


serve(prepare, {"PennyLane": qml.__version__, "JAX": jax.__version__})
