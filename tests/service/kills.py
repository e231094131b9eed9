"""Killing a program again and again, at random moments of its talk with the loopback service.

`benchmarks/kills.py` does it for long, `tests/service/test_kills.py` for a moment.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from service import Loopback, sockets

# What goes wrong meanwhile; with "after", a request is carried out and its answer is lost.
FAULTS = [
    {"kind": "reset", "rate": 0.03},
    {"kind": "reset", "after": True, "match": "POST /jobs$", "rate": 0.2},
    {"kind": "503", "rate": 0.03},
    {"kind": "502", "after": True, "match": "POST /jobs$", "rate": 0.1},
    {"kind": "429", "seconds": 1, "rate": 0.02},
]
PHASES = ("start", "claim", "submit", "wait", "fetch", "store", "compute")
_MOST_POSTS = 4  # of a batch, into which kills are aimed


def faults_of_submission(grace: float) -> list[dict]:
    """Returns what goes wrong with submissions, where kills are aimed at these.

    A gateway gives up, and the job can be seen only later, as late as within the grace; a request
    is carried out before or after its sender was killed.

    Args:
        grace: Seconds for which a job is looked for before it is sent again.
    """
    late = {"after": True, "match": "POST /jobs$"}
    return [
        {"kind": "504", "late": 0.1 * grace, "rate": 0.07, **late},
        {"kind": "504", "late": 0.6 * grace, "rate": 0.07, **late},
        {"kind": "reset", "late": 0.3 * grace, "rate": 0.07, **late},
        {"kind": "503", "match": "POST /jobs$", "rate": 0.05},
        {"kind": "slow", "seconds": 0.3, "rate": 0.4, **late},
        {"kind": "slow", "seconds": 0.3, "match": "POST /jobs$"},
        *FAULTS[::2],
    ]


@dataclass
class Report:
    """What happened.

    Attributes:
        kills: In each phase of the program, or in which POST of it.
        programs: How many have come to their end, killed or not.
        jobs: How many were created on the service.
        errors: Programs that gave up and had to be started again.
        twice: How many of them were created again.
        lost: Results that the ledger does not have.
        different: Programs whose numbers are not those of an undisturbed run.
        requests: To the service.
        seconds: That all took.
    """

    kills: Counter = field(default_factory=Counter)
    programs: int = 0
    jobs: int = 0
    errors: int = 0
    twice: int = 0
    lost: int = 0
    different: int = 0
    requests: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        aimed = sorted(phase for phase in self.kills if phase not in PHASES)
        moments = ", ".join(f"{self.kills[phase]} in {phase}" for phase in aimed or PHASES)
        return (
            f"{self.kills.total()} kills ({moments}) of {self.programs} programs with "
            f"{self.jobs} jobs and {self.requests} requests in {self.seconds:.0f} s; "
            f"{self.errors} times one gave up and was started again. "
            f"{self.twice} jobs submitted twice, {self.lost} results lost, "
            f"{self.different} programs with other numbers than undisturbed"
        )


def program(
    path: str,
    environment: dict,
    seed: int,
    steps: int,
    underway: float | None,
    values: int,
    out: str,
    phase,
    post,
) -> None:
    """Trains for some steps, and writes all numbers that it has seen.

    Args:
        path: Of the ledger.
        environment: By which the client finds the service.
        seed: Of the samples.
        steps: How many.
        underway: Seconds after which a job that was being sent counts as not sent; None for
            qshift's own.
        values: How many parameter values one job may hold.
        out: The file for the numbers.
        phase: Shared memory that says what is being done.
        post: The same, in which POST: 1, 2, ...; 0 for none.
    """
    os.environ.update(environment)
    sockets.stay_here()
    import numpy as np
    import pennylane as qml
    import tensorflow as tf

    import qshift
    from qshift.executors.qiskit import unconfirmed_jobs
    from qshift.executors.qiskit.device import EstimatorDevice

    if underway is not None:
        unconfirmed_jobs.GRACE = underway
    _tell(phase, post)
    device = EstimatorDevice(backend="ibm:ibm_manila", ledger=path, max_parameter_values=values)

    @qshift.qnode(device, shots=64, seed=seed)
    def circuit(x):
        qml.RX(x[0], wires=0)
        qml.RY(x[1], wires=1)
        qml.CNOT(wires=[0, 1])
        return qml.expval(qml.Z(0) @ qml.Z(1) + 0.5 * qml.X(0)), qml.probs(wires=[1])

    x, found = tf.Variable([0.3, 0.5], dtype=tf.float64), []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            energy, probabilities = circuit(x)
            cost = energy + probabilities[0]
        gradient = tape.gradient(cost, x)
        found += [float(cost), *gradient.numpy().tolist()]
        x.assign_sub(0.1 * gradient)
    text = json.dumps([float(number).hex() for number in np.ravel(found)])
    Path(f"{out}.part").write_text(text)
    os.replace(f"{out}.part", out)


def _tell(phase, post) -> None:
    """Has the parts of qshift that matter say when they are at work."""
    from qshift.executors.qiskit import batch, transport, waiting
    from qshift.executors.qiskit.service import ServiceJob
    from qshift.ledger.ledger import Ledger

    def telling(owner, name, number):
        function = getattr(owner, name)

        def told(*args, **kwargs):
            before, phase.value = phase.value, number
            try:
                return function(*args, **kwargs)
            finally:
                phase.value = before

        setattr(owner, name, told)

    send, sent = transport.ReadsOnly.send, 0

    def counted(self, request, **more):
        nonlocal sent
        if request.method != "POST" or not request.path_url.endswith("/jobs"):
            return send(self, request, **more)
        sent += 1
        post.value = sent
        try:
            return send(self, request, **more)
        finally:
            post.value = 0

    transport.ReadsOnly.send = counted
    phase.value = PHASES.index("compute")
    telling(Ledger, "claim", PHASES.index("claim"))
    telling(batch.Batch, "_send", PHASES.index("submit"))
    telling(waiting, "wait", PHASES.index("wait"))
    telling(ServiceJob, "result", PHASES.index("fetch"))
    telling(Ledger, "store", PHASES.index("store"))


class Killer:
    """Runs programs and kills them.

    Args:
        server: The service, whose jobs are forgotten between programs.
        seed: Of the moments: half of them are random ones of the run, half of a random phase.
        steps: Of the programs.
        underway: As for `program`.
        aimed: Whether kills are aimed at the POSTs of batches of several jobs, with answers that
            are unclear, in place of random moments.
    """

    def __init__(
        self,
        server: Loopback,
        seed: int = 0,
        steps: int = 2,
        underway: float | None = None,
        aimed: bool = False,
    ):
        values = 4 if aimed else 5_000_000  # two points in a job, or all of them
        self._server, self._settings = server, (steps, underway, values)
        self._aimed = aimed
        self._faults = faults_of_submission(underway or 15.0) if aimed else FAULTS
        self._random = random.Random(seed)
        self._context = multiprocessing.get_context("forkserver")
        # Programs are forks of a process that has imported everything already.
        self._context.set_forkserver_preload(
            [
                "tensorflow",
                "qshift.api.qnode",
                "qshift.executors.qiskit.device",
                "qshift.executors.qiskit.service",
                "qshift.executors.qiskit.connection",
            ]
        )
        self._directory = tempfile.TemporaryDirectory(prefix="kills-")
        self._undisturbed: dict[int, tuple[list[str], dict, float]] = {}
        self.report = Report()

    def close(self) -> None:
        """Deletes the ledgers."""
        self._directory.cleanup()

    def undisturbed(self, seed: int) -> tuple[list[str], dict, float]:
        """Returns the numbers of a program without kills and faults, its counts and its seconds."""
        if seed not in self._undisturbed:
            self._server.reset()
            out = Path(self._directory.name, f"undisturbed-{seed}")
            process, *_ = self._start(f"{out}.sqlite", seed, out)
            begin = time.monotonic()
            process.join()
            if process.exitcode:
                raise RuntimeError("a program failed that nobody has disturbed")
            numbers, counts = json.loads(out.read_text()), self._server.counts()
            self._undisturbed[seed] = numbers, counts, time.monotonic() - begin
        return self._undisturbed[seed]

    def kill(self, number: int, say=lambda text: None) -> Report:
        """Kills programs so many times in all, each until it has come to its end."""
        begin = time.monotonic()
        while self.report.kills.total() < number:
            self._kill_one(number)
            self.report.seconds = time.monotonic() - begin
            say(str(self.report))
        return self.report

    def _kill_one(self, number: int) -> None:
        report = self.report
        seed = 1 + report.programs % 5
        wanted, undisturbed, seconds = self.undisturbed(seed)
        self._server.reset()
        self._server.faults(*self._faults)
        out = Path(self._directory.name, f"program-{report.programs}")
        ledger = f"{out}.sqlite"
        while not out.exists():
            process, phase, post = self._start(ledger, seed, out)
            where = None
            if report.kills.total() >= number:  # spared
                process.join()
            elif self._aimed:
                where = self._await_post(process, post)
            elif self._random.random() < 0.5:
                process.join(self._random.uniform(0.0, seconds))
            else:
                self._await_phase(process, phase, time.monotonic() + 2 * seconds)
            if process.is_alive():
                process.kill()
                report.kills[where or PHASES[phase.value]] += 1
                process.join()
            elif process.exitcode:
                report.errors += 1  # that a user would see, and run the program again
                if report.errors > 3 + report.kills.total() // 10:
                    raise RuntimeError("programs end by themselves too often")
        self._server.faults()
        counts = self._server.counts()
        report.programs += 1
        report.jobs += counts["jobs"]
        report.requests += sum(counts["requests"].values())
        report.twice += counts["jobs"] - len(counts["by_tag"])
        report.twice += sum(
            max(0, times - undisturbed["by_content"].get(content, 0))
            for content, times in counts["by_content"].items()
        )
        report.lost += len(undisturbed["by_content"].keys() - counts["by_content"].keys())
        report.lost += _missing(ledger, undisturbed["jobs"])
        report.different += json.loads(out.read_text()) != wanted

    def _await_post(self, process, post) -> str | None:
        """Waits until a program is in a POST, one of the first few; says in which."""
        wanted = self._random.randint(1, _MOST_POSTS)
        while process.is_alive():
            if post.value >= wanted:
                where = f"POST {post.value}"
                time.sleep(self._random.uniform(0.0, 0.35))  # before, in and just behind it
                return where
            time.sleep(0.0005)
        return None

    def _await_phase(self, process, phase, latest: float) -> None:
        """Waits until a program is in a random phase: few random moments are in the short ones."""
        wanted, skipped = self._random.choice(range(1, 6)), self._random.randrange(4)
        before = None
        while process.is_alive() and time.monotonic() < latest:
            now = phase.value
            if now == wanted and before != wanted:
                if not skipped:
                    time.sleep(self._random.uniform(0.0, 0.005))
                    return
                skipped -= 1
            before = now
            time.sleep(0.0005)

    def _start(self, ledger, seed, out):
        phase, post = self._context.Value("i", 0), self._context.Value("i", 0)
        environment = self._server.environment()
        arguments = (str(ledger), environment, seed, *self._settings, str(out), phase, post)
        process = self._context.Process(target=program, args=arguments)
        process.start()
        return process, phase, post


def _missing(path, jobs) -> int:
    """Returns how many results a ledger lacks after so many jobs."""
    from qshift.ledger.ledger import Ledger

    ledger = Ledger(path)
    done = [job for job in ledger.jobs() if job.state == "done"]
    points = [result for job in done for _, _, result in ledger.points(job)]
    lacking = sum(result is None for result in points)
    return lacking + abs(len(done) - jobs) + len(points) - sum(job.points for job in done)
