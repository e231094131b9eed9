"""The full Hessian of LiH over two worker processes, and a plot of who ran what when.

    python examples/lih_hessian.py
    python examples/lih_hessian.py --workers tcp://127.0.0.1:8786

Two electrons in five orbitals, ten qubits, 24 excitations: 2029 circuits in one batch. Without
--workers a Dask scheduler and two workers start as processes of this machine that only this machine
can reach. With it, the workers of that scheduler run the circuits, wherever they are.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pennylane as qml
import tensorflow as tf
from distributed import Client, SubprocessCluster, get_task_stream
from matplotlib.figure import Figure

import qshift

WIRES, BOND = 10, 2.969  # bohr


def hamiltonian():
    molecule = qml.qchem.Molecule(["Li", "H"], np.array([[0, 0, 0], [0, 0, BOND]]))
    space = {"active_electrons": 2, "active_orbitals": 5}
    return qml.qchem.molecular_hamiltonian(molecule, method="dhf", **space)[0]


def energy_on(device, observable):
    """Returns the energy as a function of 24 angles. All derivatives come from shifted circuits."""
    singles, doubles = qml.qchem.excitations(2, WIRES)

    @qshift.qnode(device, diff_method="shift")
    def energy(theta):
        qml.BasisState([1, 1] + 8 * [0], wires=range(WIRES))
        for angle, wires in zip(tf.unstack(theta), doubles + singles, strict=True):
            gate = qml.DoubleExcitation if len(wires) == 4 else qml.SingleExcitation
            gate(angle, wires=wires)
        return qml.expval(observable)

    return energy


def local_cluster():
    """Starts a scheduler and two workers as processes of this machine."""
    return SubprocessCluster(
        host="127.0.0.1", dashboard_address="127.0.0.1:0", n_workers=2, threads_per_worker=1
    )


def plot(tasks, circuits, path):
    """Draws when each worker ran which chunk. Its first one includes that it loads the circuit."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots()
    bars = [
        (task["worker"], part["start"], part["stop"] - part["start"])
        for task in tasks
        if task["key"].startswith("qshift-values")
        for part in task["startstops"]
        if part["action"] == "compute"
    ]
    workers, begin = sorted({worker for worker, *_ in bars}), min(start for _, start, _ in bars)
    for worker, start, length in bars:
        row = workers.index(worker)
        axes.barh(row, length, left=start - begin, color="#0072B2", edgecolor="w", lw=0.5)
    title = f"LiH on the simulator: {circuits:,} exact circuits of the Hessian, in chunks by worker"
    axes.set(xlabel="seconds; a worker's first chunk includes loading the circuit", title=title)
    axes.set_yticks(range(len(workers)), workers)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return len(bars), len(workers)


def report(client, out):
    """Computes the Hessian on the workers of a client, and says what was done."""
    device = qshift.device("simulator", wires=WIRES, workers=client)
    device.qshift_workers.start()
    energy, theta = energy_on(device, hamiltonian()), np.full(24, 0.02)
    print(energy.plan(theta, order=2))
    with qshift.Tracker() as tracker, get_task_stream(client=client) as stream:
        start = time.perf_counter()
        value, gradient, hessian = qshift.derivatives(energy, theta, order=2)
        took = time.perf_counter() - start
    circuits = tracker.totals["circuits"]
    chunks, workers = plot(stream.data, circuits, out)
    lowest = np.linalg.eigvalsh(hessian)[0]
    print(f"energy {float(value):.10f}, |gradient| {np.linalg.norm(gradient):.6f}")
    print(f"lowest eigenvalue of the Hessian {lowest:.6f}")
    print(f"{circuits} circuits in {chunks} chunks on {workers} workers in {took:.1f} s")
    print(f"Plot: {out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", metavar="ADDRESS", help="of a Dask scheduler")
    parser.add_argument("--out", type=Path, default="out/lih_hessian.png", help="the plot")
    arguments = parser.parse_args()
    if arguments.workers:
        with Client(arguments.workers) as client:
            report(client, arguments.out)
        return
    with local_cluster() as cluster, Client(cluster) as client:
        report(client, arguments.out)


if __name__ == "__main__":
    main()
