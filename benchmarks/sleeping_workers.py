"""How busy workers are kept: tasks that sleep as long as circuits would take.

    python benchmarks/sleeping_workers.py [--processes] [--workers 16] [--points 10000]

Workers are threads, or with --processes processes of this machine, which have started before.
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import pennylane as qml
import tensorflow as tf

from qshift.circuits.compiler import Compiler
from qshift.executors.executor import Executor
from qshift.executors.registry import executor, register
from qshift.executors.workers.pools import Workers


class Pool(ThreadPoolExecutor):
    """Threads that say how many they are, as executors of mpi4py do."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.num_workers = count


class Sleeping(Executor):
    """Sleeps for each point."""

    def run(self, circuit, points, call):
        time.sleep(self.device.seconds * len(points))
        return np.cos(points)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.016, help="for each point")
    arguments = parser.parse_args()
    register("sleeping", Sleeping)
    angle = tf.constant(0.1, tf.float64)
    tape = qml.tape.QuantumScript([qml.RX(angle, 0)], [qml.expval(qml.Z(0))])
    circuit = Compiler(None, tf.is_tensor, False)(tape).circuit
    points = np.linspace(0.0, 1.0, arguments.points)[:, None]
    with Pool(arguments.workers) as pool:
        workers = Workers(arguments.workers if arguments.processes else pool)
        workers.start()
        device = SimpleNamespace(name="sleeping", seconds=arguments.seconds, qshift_workers=workers)
        runner = executor(device)
        if arguments.processes:  # loads what a first circuit needs, everywhere
            runner(circuit, points[: 40 * arguments.workers])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        found = runner(circuit, points)
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        workers.close()
    assert (found == np.cos(points)).all()
    ideal = arguments.points * arguments.seconds / arguments.workers
    print(
        f"{took:.2f} s, ideal {ideal:.2f} s: efficiency {ideal / took:.1%}; here {cpu:.2f} s "
        f"of CPU and {grown / 1024:.1f} MiB more than before"
    )


if __name__ == "__main__":
    main()
