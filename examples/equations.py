"""What the examples on differential equations share: derivatives, training, the plot.

A circuit u(x; weights) is trained until it solves an equation (Kyriienko, Paine and Elfving 2021,
Phys. Rev. A 103, 052416). The loss holds u's derivatives by x, and its gradient by the weights.
"""

import argparse
from pathlib import Path

import pennylane as qml
import tensorflow as tf
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

import qshift

CONSOLE = Console()
SOLUTION, EXACT = {"color": "#0072B2"}, {"color": "#D55E00", "linestyle": "--"}


def arguments(description, steps, qubits):
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="simulator", help="a profile, see: qshift devices")
    parser.add_argument("--shots", type=int, help="per circuit; default: the profile's")
    parser.add_argument("--steps", type=int, default=steps, help="of Adam (default: %(default)s)")
    parser.add_argument("--qubits", type=int, default=qubits, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="where the plot goes (default: out/NAME.png)")
    return parser.parse_args()


def qnode(options, **keywords):
    """Puts a quantum function on the device that the command line names."""
    shots = {} if options.shots is None else {"shots": options.shots}  # else the profile's
    device = qshift.device(options.device, wires=options.qubits, **shots)
    return qshift.qnode(device, **keywords)


def magnetisation(options, features, ansatz):
    """Returns the qnode of x, ..., angles that measures the sum of Z on all wires."""

    @qnode(options)
    def circuit(*arguments):
        *x, angles = arguments
        features(*x, options.qubits)
        ansatz(angles, options.qubits)
        return qml.expval(qml.sum(*(qml.Z(wire) for wire in range(options.qubits))))

    return circuit


def differentiate(u, x, order):
    """Returns [u(x), u'(x), u''(x), ...] at points x float64[N]."""
    if order == 0:
        return [u(x)]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        found = differentiate(u, x, order - 1)
    return [*found, tape.gradient(found[-1], x)]


def train(loss, weights, steps, rate=(0.03, 0.01)):
    """Minimises a loss by Adam; returns the loss before each step."""
    decay = tf.keras.optimizers.schedules.ExponentialDecay(rate[0], steps, rate[1] / rate[0])
    optimizer = tf.keras.optimizers.Adam(decay)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss()
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))
        return value

    optimizer.build(weights)
    with Progress(console=CONSOLE, disable=not CONSOLE.is_terminal) as progress:
        steps = progress.track(range(steps), description="training")
        return [float(step()) for _ in steps]


def report(name, options, losses, error, panels):
    """Prints how well it went and plots the panels given, and the training curve.

    Args:
        name: Of the equation.
        options: The command line.
        losses: The loss before each step.
        error: The largest error of the solution.
        panels: Functions that draw on axes, one per panel.
    """
    figure = Figure(figsize=(5 * (len(panels) + 1), 4), layout="constrained")
    *axes, last = figure.subplots(1, len(panels) + 1)
    for draw, ax in zip(panels, axes, strict=True):
        draw(ax)
    last.plot(losses, **SOLUTION)
    last.set(xlabel="step", ylabel="loss", yscale="log", title="training")
    for ax in (*axes, last):
        ax.grid(alpha=0.3)
    figure.suptitle(f"{name}: maximum error {error:.2g}")
    path = options.out or Path("out", name.replace(" ", "_") + ".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    CONSOLE.print(f"{name}: loss {losses[0]:.3g} -> {losses[-1]:.3g} in {len(losses)} steps")
    CONSOLE.print(f"maximum error {error:.2g}; plot: {path}", soft_wrap=True)


def solution(x, u, exact):
    """Returns what draws a solution of one variable against the exact one."""

    def draw(ax):
        ax.plot(x, u, label="circuit", **SOLUTION)
        ax.plot(x, exact, label="exact", **EXACT)
        ax.set(xlabel="x", ylabel="u", title="solution")
        ax.legend()

    return draw


def residuals(x, found):
    """Returns what draws the residual of an equation."""

    def draw(ax):
        ax.plot(x, found, **SOLUTION)
        ax.set(xlabel="x", ylabel="residual", title="residual of the equation")

    return draw
