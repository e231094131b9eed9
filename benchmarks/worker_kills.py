"""Kills workers at random moments of a batch, again and again.

    python benchmarks/worker_kills.py [--kills 50] [--workers 2] [--seed 0]

Processes of this machine run seeded samples of a circuit, each point with its own number of shots.
Each point sleeps, too, so that it takes as long as on more qubits. A victim is any worker that runs
circuits, up to --within seconds after its first one. Afterwards all numbers have to be
those of this process alone, to the last bit, and no circuit may have run more than twice.
"""

from __future__ import annotations

import argparse
import collections
import os
import pathlib
import signal
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import pennylane as qml
import tensorflow as tf

import qshift
from qshift.circuits.compiler import Compiler
from qshift.executors.executor import Call
from qshift.executors.registry import executor, register
from qshift.executors.simulator.simulator import SimulatorExecutor
from qshift.executors.workers.pools import Workers


class Slow(SimulatorExecutor):
    """Sleeps for each point, and writes down that this process has begun to run it."""

    def grain(self, circuit):
        return 1

    def run(self, circuit, points, call):
        found = []
        for n, point in enumerate(points):
            if self.device.log:
                with open(self.device.log, "a") as log:
                    log.write(f"{os.getpid()} {point[0]:.0f}\n")
                time.sleep(self.device.seconds)
            found.append(super().run(circuit, point[None], call.part(n, 1)))
        return np.concatenate(found)


class Killer(threading.Thread):
    """Kills workers that run circuits.

    Args:
        log: The file in which they write what they run.
        kills: How many are killed.
        within: They are killed up to so many seconds after they were first seen.
        rng: Random numbers.
    """

    def __init__(self, log: pathlib.Path, kills: int, within: float, rng: np.random.Generator):
        super().__init__(daemon=True)
        self.log, self.kills, self.within, self.rng = log, kills, within, rng
        self.killed: list[int] = []
        self.ended = threading.Event()

    def run(self):
        due: dict[int, float] = {}
        while len(self.killed) < self.kills and not self.ended.wait(0.02):
            begun = collections.Counter(process for process, _ in runs(self.log))
            for process, points in begun.items():
                # The first point takes long: the simulator's kernel is loaded.
                if process != os.getpid() and points > 1:
                    due.setdefault(process, time.monotonic() + self.rng.uniform(0, self.within))
            for process, when in due.items():
                if process not in self.killed and time.monotonic() > when:
                    os.kill(process, signal.SIGKILL)
                    self.killed.append(process)


def runs(log: pathlib.Path) -> list[tuple[int, int]]:
    """Returns the pairs (process, point) in the order in which they ran."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [tuple(map(int, line.split())) for line in lines if line.count(" ") == 1]


def circuit():
    angles = [tf.constant(0.1 * k, tf.float64) for k in range(6)]
    gates = [qml.RX(angle, k % 3) for k, angle in enumerate(angles)]
    gates[3:3] = [qml.CNOT([0, 1]), qml.CNOT([1, 2])]
    tape = qml.tape.QuantumScript(gates, [qml.expval(qml.Z(0) @ qml.X(1))], shots=100)
    return Compiler(None, tf.is_tensor, False)(tape).circuit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--points", type=int, help="(default: 150 for each kill)")
    parser.add_argument("--seconds", type=float, default=0.02, help="for each point")
    parser.add_argument("--within", type=float, default=6.0, help="seconds of a worker's life")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    count = options.points or 150 * options.kills
    rng, measured = np.random.default_rng(options.seed), circuit()
    points = rng.uniform(0, 6, (count, measured.num_parameters))
    points[:, 0] = np.arange(count)
    call = Call(1, shots=rng.integers(1, 200, count))
    register("lightning.qubit", Slow)
    with tempfile.TemporaryDirectory() as place:
        log = pathlib.Path(place) / "log"
        device, alone = (qml.device("lightning.qubit", wires=3) for _ in range(2))
        device.seconds, device.log, alone.log = options.seconds, str(log), None
        device.qshift_workers = workers = Workers(options.workers)
        killer = Killer(log, options.kills, options.within, rng)
        killer.start()
        start = time.monotonic()
        with qshift.Tracker() as tracker:
            found = executor(device, 7)(measured, points, call)
        took = time.monotonic() - start
        killer.ended.set()
        workers.close()
        times = collections.Counter(point for _, point in runs(log))
    call.draws.clear()
    truth = executor(alone, 7)(measured, points, call)
    different = int((found != truth).any(axis=1).sum())
    lost = count - len(times)
    thrice = sum(number > 2 for number in times.values())
    again = sum(times.values()) - len(times)
    print(f"{count} circuits, {len(killer.killed)} kills in {took:.0f} s")
    print(f"different: {different}, lost: {lost}, counted: {tracker.totals['circuits']}")
    print(f"run again: {again}, more than twice: {thrice}, at most {max(times.values())} times")
    return int(different or lost or thrice or len(killer.killed) < options.kills or False)


if __name__ == "__main__":
    sys.exit(main())
