"""Gradients on fake backends, beside PennyLane's ``qiskit.remote``, in one run.

    python benchmarks/hardware.py [--rounds 5]

Four parameters, 1024 shots, both at Qiskit's optimization level 1. Every measurement is a process
of its own, with everything imported and nothing cached on disk; the contenders take turns, and the
least of each one's times counts, of the clock and of computing, which other work on the machine
changes less. Jobs and transpilations are counted in Qiskit's own classes.
"Cold" is from making the device to the first gradient on FakeSherbrooke (127 qubits), in which
both build a noise model; that takes long with ``qiskit.remote``, so there are fewer rounds of it.
"Second step" is one of a training on FakeManilaV2. Takes about 4 minutes; ends with a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
from rich.console import Console
from rich.table import Table

PEER, TAPE, PREFETCH = "qiskit.remote", "qshift", "qshift, prefetch=1"
CONTENDERS = (PEER, TAPE, PREFETCH)
THETA = (0.3, 0.5, 0.7, 0.9)
SHOTS = 1024
COLD, STEP = "cold, FakeSherbrooke", "second step, FakeManilaV2"
TARGETS = {COLD: 0.06, STEP: 0.03}


def circuit(x):
    import pennylane as qml

    for wire in range(4):
        qml.RX(x[wire], wires=wire)
    for wire in range(3):
        qml.CNOT(wires=[wire, wire + 1])
    return qml.expval(qml.Z(0) @ qml.Z(2))


def peer(backend: str):
    """Returns what makes the gradient's function with ``qiskit.remote``."""
    import pennylane as qml
    from qiskit_ibm_runtime import fake_provider

    def make():
        target = getattr(fake_provider, backend)()
        device = qml.device("qiskit.remote", wires=4, backend=target, optimization_level=1)
        qnode = qml.set_shots(qml.QNode(circuit, device, diff_method="parameter-shift"), SHOTS)
        return lambda x: np.asarray(qml.grad(qnode)(qml.numpy.array(x, requires_grad=True)))

    return make


def ours(backend: str, prefetch: int):
    """Returns the same with qshift."""
    import tensorflow as tf

    import qshift

    def make():
        device = qshift.device("fake-manila", backend=f"fake:{backend}", optimization_level=1)
        qnode = qshift.qnode(device, shots=SHOTS, prefetch=prefetch)(circuit)

        def gradient(x):
            x = tf.Variable(x)
            with tf.GradientTape() as tape:
                value = qnode(x)
            return tape.gradient(value, x).numpy()

        return gradient

    return make


def counting(owner, name: str) -> list[int]:
    """Has calls of a method counted from now on."""
    method, calls = getattr(owner, name), [0]

    def counted(*args, **kwargs):
        calls[0] += 1
        return method(*args, **kwargs)

    setattr(owner, name, counted)
    return calls


def work(contender: str, case: str) -> dict:
    """Measures one case, in this process."""
    import qiskit_aer  # noqa: F401
    from qiskit.primitives import BackendEstimatorV2
    from qiskit.transpiler import StagedPassManager
    from qiskit_ibm_runtime import EstimatorV2, fake_provider  # noqa: F401

    from qshift.executors.qiskit import device, qiskit_internals  # noqa: F401

    warnings.simplefilter("ignore")
    backend = case.split()[-1]
    make = peer(backend) if contender == PEER else ours(backend, int(contender == PREFETCH))
    # The peer runs the runtime's primitive; qshift, on fake backends, Qiskit's own.
    jobs = counting(EstimatorV2 if contender == PEER else BackendEstimatorV2, "run")
    transpilations = counting(StagedPassManager, "run")
    x = np.array(THETA)
    start, computing = time.perf_counter(), time.process_time()
    function = make()
    gradient = function(x)
    if case == STEP:
        jobs[0] = transpilations[0] = 0
        x -= 0.1 * gradient
        start, computing = time.perf_counter(), time.process_time()
        gradient = function(x)
    seconds, computing = time.perf_counter() - start, time.process_time() - computing
    return {
        "seconds": seconds,
        "computing": computing,
        "jobs": jobs[0],
        "transpilations": transpilations[0],
        "gradient": gradient.tolist(),
    }


def measure(contender: str, case: str) -> dict:
    """Measures one case in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--work", contender, case]
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{contender}, {case}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(*options.work)))
        return
    console = Console()
    report = {"load average": [os.getloadavg()[0]]}
    for case, target in TARGETS.items():
        found = {contender: [] for contender in CONTENDERS}
        rounds = options.rounds if case == STEP else (options.rounds + 1) // 2
        with console.status("starting") as status:
            for i in range(rounds):
                for contender, times in found.items():
                    status.update(f"{case}: {contender}, round {i + 1} of {rounds}")
                    times.append(measure(contender, case))
        table = Table(title=f"A gradient by four parameters: {case}")
        for name in ("", "seconds", "ratio", "computing", "ratio", "target", "jobs", "transpiled"):
            table.add_column(name, justify="right" if name else "left")
        best = {name: min(times, key=lambda each: each["seconds"]) for name, times in found.items()}
        for name, each in best.items():
            # Five standard deviations of a difference of two derivatives from samples.
            apart = np.abs(np.subtract(each["gradient"], best[PEER]["gradient"])).max()
            if case == COLD and apart > 5 / np.sqrt(SHOTS):
                raise RuntimeError(f"{name}: its gradient is {apart:.2g} away from {PEER}'s")
            cells = []
            for key in ("seconds", "computing"):
                least = {who: min(one[key] for one in times) for who, times in found.items()}
                cells += [f"{least[name]:.3g}", f"{least[name] / least[PEER]:.3f}"]
            counts = (str(each["jobs"]), str(each["transpilations"]))
            table.add_row(name, *cells, "" if name == PEER else f"{target}", *counts)
        console.print(table)
        report[case] = {
            name: {key: [each[key] for each in times] for key in ("seconds", "computing")}
            | {key: best[name][key] for key in ("jobs", "transpilations")}
            for name, times in found.items()
        }
        report["load average"].append(os.getloadavg()[0])
    loads = ", ".join(f"{load:.1f}" for load in report["load average"])
    console.print(f"Load average: {loads} on {os.cpu_count()} cores", highlight=False)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
