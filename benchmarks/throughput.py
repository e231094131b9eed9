"""What workers gain: the same batches on one core, on all cores without workers, and on workers.

    python benchmarks/throughput.py [--points 1000] [--qubits 16] [--workers 2] [--rounds 1]

Three batches of one layered circuit: exact gradients and samples on the embedded simulator, and
samples with noise on Aer. Each way runs in a process of its own, which runs a batch before, so
that workers are up and what has to be compiled is. Aer's points are fewer, as one takes as long as
some hundred of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))

BATCHES = {"exact gradients": 1.0, "1,000 samples": 1.0, "100 samples, noisy Aer": 0.04}
ALL, ONE = "all cores, no workers", "one core, no workers"


def circuit(thetas, wires):
    """Two layers of RY on all wires, and a ring of CNOT after each."""
    import pennylane as qml

    for layer in range(2):
        for wire in range(wires):
            qml.RY(thetas[..., layer * wires + wire], wire)
        for wire in range(wires):
            qml.CNOT([wire, (wire + 1) % wires])
    return qml.expval(qml.Z(0) @ qml.Z(wires // 2))


def device(batch: str, wires: int, workers: int):
    """Returns the device that runs a batch."""
    import qshift

    options = {"wires": wires, "workers": workers}
    if batch == "exact gradients":
        return qshift.device("simulator", **options)
    if batch == "1,000 samples":
        return qshift.device("simulator", shots=1000, seed=1, **options)
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(0.001, 1), ["ry", "rz", "sx", "x"])
    noise.add_all_qubit_quantum_error(depolarizing_error(0.01, 2), ["cx"])
    backend = AerSimulator(method="statevector", noise_model=noise)
    return qshift.device("aer", backend=backend, shots=100, seed=1, **options)


def measured(batch: str, points: int, wires: int, workers: int) -> dict:
    """Returns the seconds of a first batch and of the measured one, and a digest of numbers."""
    import hashlib

    import numpy as np
    import tensorflow as tf

    import qshift

    node = qshift.qnode(device(batch, wires, workers))(lambda thetas: circuit(thetas, wires))
    rng = np.random.default_rng(0)

    def run(count):
        thetas = tf.Variable(rng.uniform(0, 2 * np.pi, (count, 2 * wires)))
        start = time.perf_counter()
        if "gradients" not in batch:
            found = node(thetas)
        else:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(node(thetas))
            found = tape.gradient(loss, thetas)
        return time.perf_counter() - start, hashlib.sha256(found.numpy().tobytes()).hexdigest()

    # Long enough for starting the workers.
    first, _ = run(max(8, points // 5) if "Aer" in batch else points)
    seconds, digest = run(points)
    return {"first": first, "seconds": seconds, "digest": digest}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--qubits", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch", choices=BATCHES, action="append", help="which; all if not given")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        batch, points, workers = arguments.one
        if "PIN" in os.environ:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(measured(batch, int(points), arguments.qubits, int(workers))))
        return
    ways = {ONE: 0, ALL: 0, f"{arguments.workers} workers": arguments.workers}
    for batch in arguments.batch or BATCHES:
        points = max(8, round(arguments.points * BATCHES[batch]))
        best: dict[str, float] = {}
        digests = set()
        for _ in range(arguments.rounds):
            for way, workers in ways.items():
                command = [sys.executable, __file__, "--qubits", str(arguments.qubits)]
                command += ["--one", batch, str(points), str(workers)]
                environment = {**os.environ, **({"PIN": "1"} if way == ONE else {})}
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                digests.add(found["digest"])
                best[way] = min(best.get(way, float("inf")), found["seconds"])
                print(f"{batch}, {points} points: {way} {found['seconds']:.2f} s", flush=True)
        last = best[f"{arguments.workers} workers"]
        print(
            f"{batch}: {best[ONE] / last:.2f} times one core's throughput, "
            f"{best[ALL] / last:.2f} times all cores' without workers; "
            f"{'all numbers equal' if len(digests) == 1 else 'NUMBERS DIFFER'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
