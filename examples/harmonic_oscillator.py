"""A second-order equation, u'' + u = 0 with u(0) = 0 and u'(0) = 1, solved by a circuit.

    python examples/harmonic_oscillator.py

The loss holds u'', and its gradient by the weights third derivatives, of which qshift evaluates
only those by x, x and a weight. The solution is sin x.
"""

import numpy as np
import pennylane as qml
import tensorflow as tf
from equations import arguments, differentiate, magnetisation, report, residuals, solution, train

DEPTH = 3
END = 3.0


def features(x, qubits):
    """Fourier feature map: wire j turns by (j + 1) x / 2."""
    for wire in range(qubits):
        qml.RY((wire + 1) * x / 2, wires=wire)


def ansatz(angles, qubits):
    """Layers of RY and RZ on each wire, and of CNOTs between neighbours."""
    angles = iter(tf.unstack(angles))
    for _ in range(DEPTH):
        for wire in range(qubits):
            qml.RY(next(angles), wires=wire)
            qml.RZ(next(angles), wires=wire)
        for wire in range(qubits - 1):
            qml.CNOT(wires=[wire, wire + 1])


def main():
    options = arguments(__doc__.splitlines()[0], steps=250, qubits=3)
    circuit = magnetisation(options, features, ansatz)
    rng = np.random.default_rng(0)
    angles = tf.Variable(rng.uniform(-np.pi, np.pi, 2 * DEPTH * options.qubits))
    scale, offset = tf.Variable(0.5, dtype=tf.float64), tf.Variable(0.0, dtype=tf.float64)

    def u(x):
        return offset + scale * circuit(x, angles)

    points = tf.constant(np.linspace(0, END, 10))

    def loss():
        value, slope, curvature = differentiate(u, points, 2)
        start = value[0] ** 2 + (slope[0] - 1.0) ** 2
        return tf.reduce_mean((curvature + value) ** 2) + start

    losses = train(loss, [angles, scale, offset], options.steps, rate=(0.1, 0.01))
    x = tf.constant(np.linspace(0, END, 91))
    value, _, curvature = differentiate(u, x, 2)
    exact = np.sin(x)
    error = np.abs(value - exact).max()
    panels = [solution(x, value, exact), residuals(x, curvature + value)]
    report("harmonic oscillator", options, losses, error, panels)


if __name__ == "__main__":
    main()
