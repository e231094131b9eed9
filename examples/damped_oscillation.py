"""A damped oscillation, u' + 8 u (0.1 + tan 8 x) = 0 with u(0) = 1, solved by a circuit.

    python examples/damped_oscillation.py

The example of Kyriienko, Paine and Elfving (2021, Sec. IV A): a Chebyshev feature map on 6
qubits, a hardware-efficient ansatz of depth 5, and 20 points. The solution is exp(-0.8 x) cos 8 x.
"""

import numpy as np
import pennylane as qml
import tensorflow as tf
from equations import arguments, differentiate, magnetisation, report, residuals, solution, train

DEPTH = 5
LAMBDA, KAPPA = 8.0, 0.1


def features(x, qubits):
    """Chebyshev feature map: every wire turns by 2 arccos x."""
    for wire in range(qubits):
        qml.RY(2 * tf.acos(x), wires=wire)


def ansatz(angles, qubits):
    """Layers of RZ, RX and RZ on each wire, and of CNOTs between neighbours."""
    angles = iter(tf.unstack(angles))
    for _ in range(DEPTH):
        for wire in range(qubits):
            qml.RZ(next(angles), wires=wire)
            qml.RX(next(angles), wires=wire)
            qml.RZ(next(angles), wires=wire)
        for first in [*range(0, qubits - 1, 2), *range(1, qubits - 1, 2)]:
            qml.CNOT(wires=[first, first + 1])


def residual(x, u, du):
    """The equation times cos 8 x, which is finite everywhere.

    At the zeros of cos 8 x that says u = 0 only, and parts of the solution between them might grow
    apart, so points near a zero get more weight.
    """
    cosine, sine = tf.cos(LAMBDA * x), tf.sin(LAMBDA * x)
    return (du * cosine + LAMBDA * u * (KAPPA * cosine + sine)) / tf.sqrt(cosine**2 + 0.1)


def main():
    options = arguments(__doc__.splitlines()[0], steps=800, qubits=6)
    circuit = magnetisation(options, features, ansatz)
    rng = np.random.default_rng(0)
    angles = tf.Variable(rng.uniform(-np.pi, np.pi, 3 * DEPTH * options.qubits))
    scale, offset = tf.Variable(0.5, dtype=tf.float64), tf.Variable(0.0, dtype=tf.float64)

    def u(x):
        return offset + scale * circuit(x, angles)

    points = tf.constant(np.linspace(0, 0.9, 20))

    def loss():
        value, slope = differentiate(u, points, 1)
        start = (value[0] - 1.0) ** 2
        return tf.reduce_mean(residual(points, value, slope) ** 2) + 10 * start

    losses = train(loss, [angles, scale, offset], options.steps, rate=(0.1, 0.01))
    x = tf.constant(np.linspace(0, 0.9, 181))
    found, exact = differentiate(u, x, 1), np.exp(-KAPPA * LAMBDA * x) * np.cos(LAMBDA * x)
    error = np.abs(found[0] - exact).max()
    panels = [solution(x, found[0], exact), residuals(x, residual(x, *found))]
    report("damped oscillation", options, losses, error, panels)


if __name__ == "__main__":
    main()
