"""Peak memory of large derivatives: measured in a process of its own, with progress bars.

    python benchmarks/memory.py [--quick]

The Hessian of 200 parameters by shift (60,101 circuits) on 8 wires, then value and gradient on 20
wires. The baseline is what the process held after its imports and one gradient. Ends with a line
of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from circuits import Circuit, points, quantum_function, ring

import qshift


def peak() -> float:
    """Returns the most memory the process ever held, in MiB."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (2**20 if sys.platform == "darwin" else 2**10)


def first_parameters(circuit: Circuit, number: int) -> Circuit:
    """The circuit without the gates of all parameters but the first."""
    gates = [gate for gate in circuit.gates if gate[2] is None or gate[2] < number]
    return circuit._replace(gates=gates)


def run(name: str, circuit: Circuit, order: int, diff_method: str, baseline: float) -> dict:
    device = qshift.device("simulator", wires=circuit.wires)
    energy = qshift.qnode(device, diff_method=diff_method)(quantum_function(circuit))
    x = tf.constant(points(circuit.parameters)[0])
    start = time.perf_counter()
    with qshift.Tracker() as tracker:
        results = qshift.derivatives(energy, x, order=order)
    seconds = time.perf_counter() - start
    assert results[-1].shape == (circuit.parameters,) * order
    found = {
        "name": name,
        "parameters": circuit.parameters,
        "circuits": tracker.totals["circuits"],
        "seconds": seconds,
        "MiB above the baseline": peak() - baseline,
    }
    print(
        f"{name}: {found['circuits']:,} circuits in {seconds:.1f} s, "
        f"peak {peak() - baseline:.0f} MiB above the baseline of {baseline:.0f} MiB",
        file=sys.stderr,
    )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 parameters, 16 wires")
    quick = parser.parse_args().quick
    run("one gradient", ring(4), 1, "shift", peak())
    baseline = peak()
    parameters, wires = (40, 16) if quick else (200, 20)
    large = first_parameters(ring(8, 13), parameters)
    found = [
        run(f"Hessian by shift, n=8, p={parameters}", large, 2, "shift", baseline),
        run(f"value and gradient, n={wires}", ring(wires), 1, "best", baseline),
    ]
    print(json.dumps({"baseline MiB": baseline, "cases": found}))


if __name__ == "__main__":
    main()
