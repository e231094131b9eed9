"""Copies of a circuit on patches of one chip: QPU seconds, and errors with the noise of fake ones.

python benchmarks/whole_chip.py --copies 8 --shots 32768 --angles 20 --level 1
"""

from __future__ import annotations

import argparse

import numpy as np
import pennylane as qml
import tensorflow as tf

import qshift

WIRES = 4


def energy(x):
    """Rotations, entangled twice."""
    for wire in range(WIRES):
        qml.RY(x[wire], wires=wire)
    for _ in range(2):
        for wire in range(WIRES - 1):
            qml.CNOT(wires=[wire, wire + 1])
        qml.RX(0.4, wires=1)
    return qml.expval(qml.Z(0) @ qml.Z(1) + qml.Z(2) @ qml.Z(3))


def compare(backend, copies, shots, angles, level):
    """Prints the seconds of values and gradients in one job, and the errors of both."""
    exact = qshift.qnode(qshift.device("simulator"))(energy)
    points = np.random.default_rng(1).uniform(-np.pi, np.pi, (angles, WIRES))
    rows = {}
    for number in (1, copies):
        device = qshift.device(
            "fake-manila",
            backend=f"fake:{backend}",
            shots=shots,
            resilience_level=level,
            copies=number,
            seed=1,
        )
        qnode = qshift.qnode(device)(energy)
        plan = qnode.plan(tf.constant(points[0]))
        wrong = []
        for x in points:
            found = qshift.derivatives(qnode, tf.constant(x))
            truth = qshift.derivatives(exact, tf.constant(x))
            wrong.append([np.mean((a - b).numpy() ** 2) for a, b in zip(found, truth, strict=True)])
        # Both orders are one job, with one calibration of the readout, which takes as long as a
        # point; the plan has two.
        calibration = (plan.orders[0].seconds - 2) / 2 if level else 0.0
        seconds = plan.seconds - 2 - calibration
        rows[number] = (seconds, *np.sqrt(np.mean(wrong, axis=0)))
        print(f"{backend}, {number} copies: {seconds:.1f} s, ", end="")
        print("error of the value {:.4f}, of the gradient {:.4f}".format(*rows[number][1:]))
    alone, together = np.array(rows[1]), np.array(rows[copies])
    ratios = together / alone
    print(f"{backend}: {1 / ratios[0]:.2f} times fewer seconds, ", end="")
    print(f"errors {ratios[1]:.2f} (value) and {ratios[2]:.2f} (gradient) times those of one copy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--shots", type=int, default=32768, help="of each circuit, in all copies")
    parser.add_argument("--level", type=int, default=1, choices=(0, 1), help="resilience_level")
    parser.add_argument("--angles", type=int, default=20, help="random points")
    parser.add_argument("--backends", nargs="+", default=["FakeTorino", "FakeSherbrooke"])
    arguments = parser.parse_args()
    for backend in arguments.backends:
        compare(backend, arguments.copies, arguments.shots, arguments.angles, arguments.level)


if __name__ == "__main__":
    main()
