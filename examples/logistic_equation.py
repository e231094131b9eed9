"""The logistic equation y' = 6 y (1 - y), y(0) = 1/2, solved by a circuit.

    python examples/logistic_equation.py

The circuit and the training are those of sQUlearn's tutorial: a Chebyshev tower on 4 qubits, 14
alternating layers of blocks on two neighbours, and a measured observable that is trained, too.
"""

import numpy as np
import pennylane as qml
import tensorflow as tf
from equations import arguments, differentiate, qnode, report, residuals, solution, train

LAYERS = 14


def tower(x, qubits):
    """Chebyshev feature map: wire j turns by 2 (j + 1) arccos x."""
    for wire in range(qubits):
        qml.RY(2 * (wire + 1) * tf.acos(x), wires=wire)


def blocks(angles, qubits):
    """Layers of blocks on two neighbours, every second layer moved by one wire."""
    angles = iter(tf.unstack(angles))
    for layer in range(LAYERS):
        for first in range(layer % 2, qubits, 2):
            pair = [first, (first + 1) % qubits]
            for wire in pair:
                qml.RZ(next(angles), wires=wire)
                qml.RX(next(angles), wires=wire)
                qml.RZ(next(angles), wires=wire)
            qml.CNOT(wires=pair)


def residual(y, dy):
    return dy - 6 * y * (1 - y)


def main():
    options = arguments(__doc__.splitlines()[0], steps=250, qubits=4)
    qubits = options.qubits

    @qnode(options)
    def circuit(x, angles):
        tower(x, qubits)
        blocks(angles, qubits)
        return [qml.expval(qml.Z(wire)) for wire in range(qubits)]

    rng = np.random.default_rng(2)
    angles = tf.Variable(rng.uniform(-np.pi, np.pi, 3 * LAYERS * qubits))
    # Coefficients of 1, Z_0, Z_1, ...: at first the solution is nearly y(0) everywhere.
    observable = tf.Variable(np.append(0.5, rng.uniform(-0.1, 0.1, qubits)))

    def y(x):
        return observable[0] + tf.tensordot(observable[1:], tf.stack(circuit(x, angles)), 1)

    points = tf.constant(np.linspace(0, 0.9, 10))

    def loss():
        value, slope = differentiate(y, points, 1)
        return tf.reduce_sum(residual(value, slope) ** 2) + 10 * (value[0] - 0.5) ** 2

    losses = train(loss, [angles, observable], options.steps)
    x = tf.constant(np.linspace(0, 0.9, 91))
    found, exact = differentiate(y, x, 1), 1 / (1 + np.exp(-6 * x))
    error = np.abs(found[0] - exact).max()
    panels = [solution(x, found[0], exact), residuals(x, residual(*found))]
    report("logistic equation", options, losses, error, panels)


if __name__ == "__main__":
    main()
