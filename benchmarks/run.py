"""Side-by-side measurements: every ratio is of two times taken in the same run.

    python benchmarks/run.py [--quick] [--out DIR]

Writes benchmarks.json and benchmarks.png to DIR (default: out/).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pennylane as qml
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import qshift


def layers(parameters: int, wires: int = 4):
    """A circuit of one-frequency rotations, each followed by an entangling gate."""

    def circuit(x):
        for i in range(parameters):
            (qml.RX, qml.RY)[i % 2](x[i], wires=i % wires)
            qml.CNOT(wires=[i % wires, (i + 1) % wires])
        return qml.expval(qml.Z(0) @ qml.Z(1))

    return circuit


def seconds(run, repeats: int) -> float:
    """Returns the median time of `run`, after one run that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def third_order(parameters: int, repeats: int) -> dict:
    """The tensor of third derivatives from nested tapes, against PennyLane on TensorFlow."""
    x = tf.Variable(np.linspace(0.1, 1.0, parameters))
    ours = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(layers(parameters))
    theirs = qml.qnode(
        qml.device("default.qubit"), interface="tf", diff_method="parameter-shift", max_diff=3
    )(layers(parameters))

    def nested(qnode, pfor):
        with tf.GradientTape(persistent=not pfor) as third:
            with tf.GradientTape(persistent=not pfor) as second:
                with tf.GradientTape() as first:
                    value = qnode(x)
                gradient = first.gradient(value, x)
            hessian = second.jacobian(gradient, x, experimental_use_pfor=pfor)
        return third.jacobian(hessian, x, experimental_use_pfor=pfor)

    with qshift.Tracker() as tracker:
        tensor = nested(ours, True)
    with qml.Tracker(theirs.device) as their_tracker:
        start = time.perf_counter()
        reference = nested(theirs, False)  # with pfor PennyLane gives None
        theirs_seconds = time.perf_counter() - start
    np.testing.assert_allclose(tensor, reference, atol=1e-10)
    compiled = tf.function(lambda: nested(ours, True))
    return {
        "name": f"third derivatives, {parameters} parameters",
        "peer": "PennyLane, TensorFlow interface",
        "peer seconds": theirs_seconds,
        "peer circuits": their_tracker.totals["simulations"],
        "qshift circuits": tracker.totals["circuits"],
        "qshift, nested tapes": seconds(lambda: nested(ours, True), repeats),
        "qshift.derivatives": seconds(lambda: qshift.derivatives(ours, x, order=3), repeats),
        "qshift in tf.function": seconds(compiled, repeats),
    }


def overhead(parameters: int, device: str, repeats: int) -> dict:
    """Value and gradient, against running the very same circuits on the device directly."""
    circuit = layers(parameters)
    point = np.linspace(0.1, 1.0, parameters)
    x = tf.Variable(point)
    ours = qshift.qnode(qml.device(device, wires=4), diff_method="shift")(circuit)
    shifts = np.concatenate(
        [
            [np.zeros(parameters)],
            *([s * np.pi / 2 * row] for row in np.eye(parameters) for s in (1, -1)),
        ]
    )
    peer = qml.device(device, wires=4)

    def direct():
        tapes = [qml.tape.make_qscript(circuit)(point + shift) for shift in shifts]
        return qml.execute(tapes, peer, diff_method=None)

    def gradient():
        with tf.GradientTape() as tape:
            value = ours(x)
        return tape.gradient(value, x)

    return {
        "name": f"value and gradient, {parameters} parameters, {device}",
        "peer": f"the same {len(shifts)} circuits on {device}",
        "peer seconds": seconds(direct, repeats),
        "peer circuits": len(shifts),
        "qshift circuits": len(shifts),
        "qshift, eager": seconds(gradient, repeats),
        "qshift in tf.function": seconds(tf.function(gradient), repeats),
    }


def growth(most: int) -> dict[str, list]:
    """Circuits for value, gradient and Hessian against the number of parameters."""
    counts = {"parameters": [], "qshift": [], "plain recursion": []}
    for parameters in range(2, most + 1, 2):
        qnode = qshift.qnode(qml.device("default.qubit"), diff_method="shift")(layers(parameters))
        plan = qnode.plan(np.zeros(parameters), order=2)
        counts["parameters"].append(parameters)
        counts["qshift"].append(plan.circuits)
        counts["plain recursion"].append(plan.recursion)
    return counts


def draw(results, counts, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    labels, values, colours = [], [], []
    for result in results:
        for key, value in result.items():
            if key.startswith("qshift") and "circuits" not in key:
                labels.append(f"{result['name']}\n{key}")
                values.append(result["peer seconds"] / value)
                colours.append("tab:blue" if value < result["peer seconds"] else "tab:red")
    left.barh(labels, values, color=colours)
    left.set_xscale("log")
    left.axvline(1, color="black", linewidth=0.8)
    left.set_xlabel("times faster than the peer of the same run")
    left.invert_yaxis()
    left.tick_params(axis="y", labelsize=7)
    for position, value in enumerate(values):
        text = f" {value:,.3g}" if value < 1000 else f" {value:,.0f}"
        left.annotate(text, (value, position), va="center", fontsize=8)
    left.set_xlim(right=8 * max(values))
    right.plot(counts["parameters"], counts["plain recursion"], "o--", label="plain recursion")
    right.plot(counts["parameters"], counts["qshift"], "o-", label="qshift")
    right.set_yscale("log")
    right.set_xlabel("one-frequency parameters")
    right.set_ylabel("circuits for value, gradient and Hessian")
    right.legend(frameon=False)
    right.set_xticks(counts["parameters"])
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller cases")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", qml.exceptions.PennyLaneDeprecationWarning)

    console = Console()
    results = []
    cases = [
        lambda: third_order(4 if options.quick else 8, 5),
        *(
            lambda device=d: overhead(20 if options.quick else 50, device, 5)
            for d in ("default.qubit", "lightning.qubit")
        ),
    ]
    for case in cases:
        with console.status("measuring"):
            results.append(case())
    table = Table(title="Ratios of times taken in this run; larger is better for qshift")
    for column in ("case", "peer", "peer s", "qshift", "qshift s", "peer / qshift", "circuits"):
        table.add_column(column, overflow="fold")
    for result in results:
        for key, value in result.items():
            if key.startswith("qshift") and "circuits" not in key:
                table.add_row(
                    result["name"],
                    result["peer"],
                    f"{result['peer seconds']:.3g}",
                    key,
                    f"{value:.3g}",
                    f"{result['peer seconds'] / value:.3g}",
                    f"{result['peer circuits']} / {result['qshift circuits']}",
                )
    console.print(table)
    counts = growth(8 if options.quick else 20)
    (options.out / "benchmarks.json").write_text(
        json.dumps({"times": results, "counts": counts}, indent=1)
    )
    draw(results, counts, options.out / "benchmarks.png")
    console.print(f"Written to {options.out}/benchmarks.json and {options.out}/benchmarks.png")


if __name__ == "__main__":
    main()
