"""How low an energy a number of shots leads to: PennyLane's example of its ShotAdaptiveOptimizer.

The example is that of the class's documentation: five words in three bases on two qubits, two
strongly entangling layers, starts drawn from [0, 1). Each start has the same number of samples to
spend, in all three bases together. The ground state has the energy -7.904. Run it by

    python benchmarks/frugal.py --starts 24 --samples 46419

With ``--peer``, PennyLane's optimizer runs from the same starts; it counts its samples itself.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pennylane as qml

import qshift

STEPS = 400
SHAPE = (2, 2, 3)
OBSERVABLES = (
    qml.X(1),
    qml.Z(1),
    qml.X(0) @ qml.X(1),
    qml.Y(0) @ qml.Y(1),
    qml.Z(0) @ qml.Z(1),
)


def energy(weights):
    qml.StronglyEntanglingLayers(weights, wires=range(2))
    return qml.expval(qml.Hamiltonian([2, 4, -1, 5, 2], OBSERVABLES))


def frugal(start: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, int]:
    """Returns where ``"shot-frugal"`` ends, and the samples it took."""
    shots = qshift.Shots(total=samples // (STEPS + 1))
    node = qshift.QNode(energy, qshift.device("simulator", wires=2), shots=shots, seed=seed)
    with qshift.Tracker() as tracker:
        result = qshift.minimize(node, start, "shot-frugal", steps=STEPS, progress=False)
    return result.x, tracker.totals["shots"]


def adaptive(start: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, int]:
    """Returns where PennyLane's optimizer is once it has taken the samples, and how many."""
    np.random.seed(seed)
    node = qml.set_shots(qml.QNode(energy, qml.device("default.qubit", wires=2, seed=seed)), 100)
    weights = qml.numpy.array(start, requires_grad=True)
    method = qml.ShotAdaptiveOptimizer(min_shots=10, term_sampling="weighted_random_sampling")
    while method.total_shots_used < samples:
        weights = method.step(node, weights)
    return np.asarray(weights), int(method.total_shots_used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=24)
    parser.add_argument("--samples", type=int, default=46_419)
    parser.add_argument("--peer", action="store_true", help="run PennyLane's optimizer instead")
    options = parser.parse_args()
    method = adaptive if options.peer else frugal
    exact = qshift.QNode(energy, qshift.device("simulator", wires=2))
    found = []
    begun = time.process_time()
    for seed in range(options.starts):
        start = np.random.default_rng(seed).random(SHAPE)
        weights, samples = method(start, options.samples, seed)
        found.append(float(exact(weights)))
        print(f"{seed}: {found[-1]:.3f} with {samples:,} samples", flush=True)
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    seconds = (time.process_time() - begun) / len(found)
    print(f"mean {np.mean(found):.3f} +- {error:.3f}, {seconds:.1f} s of CPU time each")


if __name__ == "__main__":
    main()
