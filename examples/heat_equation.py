"""The heat equation u_t = 0.1 u_xx on a rod with cold ends, solved by a circuit.

    python examples/heat_equation.py

The rod is hottest in its middle, u(0, x) = sin pi x, and its ends stay cold, u(t, 0) = u(t, 1) = 0.
The factor x (1 - x) of the trial function keeps them so. The solution is
exp(-0.1 pi^2 t) sin pi x.
"""

import numpy as np
import pennylane as qml
import tensorflow as tf
from equations import EXACT, arguments, magnetisation, report, train

DIFFUSIVITY = 0.1
DEPTH = 3


def features(t, x, qubits):
    """The first wires turn with time, the others with the place."""
    half = qubits // 2
    for wire in range(half):
        qml.RY((wire + 1) * t, wires=wire)
    for wire in range(half, qubits):
        qml.RY((wire - half + 1) * np.pi / 2 * x, wires=wire)


def ansatz(angles, qubits):
    """Layers of RY and RZ on each wire, and a ring of CNOTs."""
    angles = iter(tf.unstack(angles))
    for _ in range(DEPTH):
        for wire in range(qubits):
            qml.RY(next(angles), wires=wire)
            qml.RZ(next(angles), wires=wire)
        for wire in range(qubits):
            qml.CNOT(wires=[wire, (wire + 1) % qubits])


def differentiate(u, t, x):
    """Returns u, u_t and u_xx at points t, x float64[N]."""
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(x)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch([t, x])
            value = u(t, x)
        by_t, by_x = inner.gradient(value, [t, x])
    return value, by_t, outer.gradient(by_x, x)


def grid(count):
    """Returns the t and x of count times count points in the unit square."""
    line = np.linspace(0, 1, count)
    return [tf.constant(axis.ravel()) for axis in np.meshgrid(line, line, indexing="ij")]


def solution_of(t, x, value, exact, count):
    """Returns what draws the temperature along the rod at several times."""

    def draw(ax):
        for row in range(0, count, (count - 1) // 4):
            (line,) = ax.plot(
                x.numpy().reshape(count, count)[row],
                value.numpy().reshape(count, count)[row],
                label=f"t = {t.numpy().reshape(count, count)[row, 0]:g}",
            )
        for row in range(0, count, (count - 1) // 4):
            ax.plot(x.numpy().reshape(count, count)[row], exact.reshape(count, count)[row], **EXACT)
        ax.set(xlabel="x", ylabel="u", title="solution (dashed: exact)")
        ax.legend()

    return draw


def residual_map(found, count):
    """Returns what draws the residual over the square."""

    def draw(ax):
        bound = np.abs(found).max()
        image = ax.imshow(
            found.numpy().reshape(count, count),
            extent=(0, 1, 0, 1),
            origin="lower",
            cmap="RdBu",
            vmin=-bound,
            vmax=bound,
        )
        ax.figure.colorbar(image, ax=ax)
        ax.set(xlabel="x", ylabel="t", title="residual of the equation")

    return draw


def main():
    options = arguments(__doc__.splitlines()[0], steps=500, qubits=4)
    circuit = magnetisation(options, features, ansatz)
    rng = np.random.default_rng(0)
    angles = tf.Variable(rng.uniform(-np.pi, np.pi, 2 * DEPTH * options.qubits))
    scale, offset = tf.Variable(1.0, dtype=tf.float64), tf.Variable(1.0, dtype=tf.float64)

    def u(t, x):
        return x * (1 - x) * (offset + scale * circuit(t, x, angles))

    t, x = grid(6)
    first = tf.constant(t == 0)

    def loss():
        value, by_t, by_xx = differentiate(u, t, x)
        start = tf.boolean_mask(value - tf.sin(np.pi * x), first)
        return tf.reduce_mean((by_t - DIFFUSIVITY * by_xx) ** 2) + 10 * tf.reduce_mean(start**2)

    losses = train(loss, [angles, scale, offset], options.steps, rate=(0.1, 0.01))
    t, x = grid(21)
    value, by_t, by_xx = differentiate(u, t, x)
    exact = np.exp(-DIFFUSIVITY * np.pi**2 * t) * np.sin(np.pi * x)
    error = np.abs(value - exact).max()
    panels = [
        solution_of(t, x, value, exact, 21),
        residual_map(by_t - DIFFUSIVITY * by_xx, 21),
    ]
    report("heat equation", options, losses, error, panels)


if __name__ == "__main__":
    main()
