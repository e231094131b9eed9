"""H2's ground state by Newton's method, with exact Hessians through nested TensorFlow tapes.

    python examples/h2_newton.py --device lightning

Two circuits start from the Hartree-Fock state |1100>: the double excitation alone, from theta = 0,
and the double excitation with both single excitations, from an arbitrary start.
"""

import argparse
from pathlib import Path

import numpy as np
import pennylane as qml
import tensorflow as tf
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import qshift

GEOMETRY = np.array([[0, 0, -0.6614], [0, 0, 0.6614]])  # bohr
CHEMICAL_ACCURACY = 1.6e-3  # hartree, 1 kcal/mol
STARTS = {"double excitation": [0.0], "double and single excitations": [0.4, 0.5, 0.3]}
MOST_STEPS = 6

tf.get_logger().setLevel("ERROR")  # eager jacobians are traced anew each time, and warn about it


def ansatz(theta):
    qml.BasisState(qml.qchem.hf_state(electrons=2, orbitals=4), wires=range(4))
    qml.DoubleExcitation(theta[0], wires=[0, 1, 2, 3])
    if theta.shape[0] == 3:
        qml.SingleExcitation(theta[1], wires=[0, 2])
        qml.SingleExcitation(theta[2], wires=[1, 3])


def newton(energy, start, tolerance=1e-10):
    """Yields each iterate's energy, gradient norm, and circuits (executed, recursive) by order."""
    theta = tf.Variable(start, dtype=tf.float64)
    plan = energy.plan(theta, order=2)
    recursion = np.diff([order.recursion for order in plan.orders], prepend=0)
    for step in range(MOST_STEPS + 1):
        costs = [qshift.Tracker() for order in range(3)]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner, costs[0]:
                value = energy(theta)
            with costs[1]:
                gradient = inner.gradient(value, theta)
        norm = tf.norm(gradient)
        last = step == MOST_STEPS or norm < tolerance
        if not last:
            with costs[2]:
                hessian = outer.jacobian(gradient, theta)
            theta.assign_sub(tf.linalg.solve(hessian, gradient[:, None])[:, 0])
        executed = [cost.totals["circuits"] for cost in costs]
        yield float(value), float(norm), np.array([executed, recursion * [1, 1, not last]])
        if last:
            return


def table_of(name, run, exact):
    table = Table(title=f"H2, {name}; circuits: executed/by plain recursion")
    for column in ("step", "energy", "error", "|gradient|", "value", "gradient", "Hessian"):
        table.add_column(column, justify="right")
    for step, (energy, norm, circuits) in enumerate(run):
        numbers = str(step), f"{energy:.10f}", f"{energy - exact:.1e}", f"{norm:.1e}"
        table.add_row(*numbers, *(f"{n}/{m}" for n, m in circuits.T))
    table.add_section()
    total = sum(circuits for *_, circuits in run)
    table.add_row("all", "", "", "", *(f"{n}/{m}" for n, m in total.T))
    table.caption = "{} circuits executed; plain recursion: {}".format(*total.sum(axis=1))
    return table


def plot(runs, exact, path):
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for (name, run), color, marker in zip(runs.items(), ("#0072B2", "#D55E00"), "os", strict=True):
        style = {"color": color, "marker": marker}
        errors = [max(abs(energy - exact), 2e-16) for energy, *_ in run]
        left.plot(errors, label=name, **style)
        circuits = np.array([circuits for *_, circuits in run])  # [iterate, kind, order]
        # What it took to reach an energy does not include that iterate's own derivatives.
        executed, recursion = (circuits.sum(2).cumsum(0) - circuits[:, :, 1:].sum(2)).T
        right.plot(executed, errors, **style)
        right.plot(recursion, errors, "--", mfc="w", **style)
    right.plot([], "--", color="0.4", marker="o", mfc="w", label="by plain recursion")
    for axes in (left, right):
        accuracy = axes.axhline(CHEMICAL_ACCURACY, color="0.4", linestyle=":")
        axes.grid(alpha=0.3)
    accuracy.set_label("chemical accuracy (1.6 mhartree)")
    left.set(xlabel="Newton step", ylabel="error of the energy [hartree]", yscale="log")
    left.set_xticks(range(max(map(len, runs.values()))))
    right.set(xlabel="circuits executed", xscale="log")
    right.xaxis.set_major_formatter("{x:g}")
    figure.suptitle(f"H2 in STO-3G by Newton's method, exact energy {exact:.10f} hartree")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default="out/h2_newton.png", help="where the plot goes")
    parser.add_argument("--device", default="simulator", help="a profile, see: qshift devices")
    parser.add_argument("--shots", type=int, help="per circuit; default: the profile's")
    arguments = parser.parse_args()

    molecule = qml.qchem.Molecule(["H", "H"], GEOMETRY)
    hamiltonian, _ = qml.qchem.molecular_hamiltonian(molecule, method="dhf")
    exact = np.linalg.eigvalsh(qml.matrix(hamiltonian, wire_order=range(4)))[0]
    shots = {"shots": arguments.shots} if arguments.shots else {}  # else what the profile says
    device = qshift.device(arguments.device, wires=4, **shots)

    @qshift.qnode(device, diff_method="shift")
    def energy(theta):
        ansatz(theta)
        return qml.expval(hamiltonian)

    console, runs = Console(), {}
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for name, start in STARTS.items():
            steps = progress.track(newton(energy, start), total=MOST_STEPS + 1, description=name)
            runs[name] = list(steps)
            progress.update(progress.task_ids[-1], total=len(runs[name]))
    for name, run in runs.items():
        console.print(table_of(name, run, exact))
    plot(runs, exact, arguments.out)
    console.print(f"Plot: {arguments.out}")


if __name__ == "__main__":
    main()
