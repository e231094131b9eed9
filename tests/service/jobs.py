"""The quantum computers of the loopback service: backends, and the queue of their jobs."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import executor
import learner
import numpy as np
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2, PrimitiveResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime import RuntimeDecoder, RuntimeEncoder, fake_provider

FINAL = ("Completed", "Failed", "Cancelled")


class Machine:
    """A backend as the service describes it, with a simulator in place of the hardware.

    Args:
        name: What the service calls it.
        fake: The class of a fake backend that it looks like.
        noisy: Whether it has that one's noise.
    """

    def __init__(self, name: str, fake: str, noisy: bool = True):
        self.name, self.noisy, self.status = name, noisy, "active"
        self.called, self.calibrated = name, ""
        self._kind = getattr(fake_provider, fake)

    def document(self, which: str) -> dict:
        """Returns ``"conf"`` or ``"props"`` as the service sends it."""
        file = Path(self._kind.dirname) / getattr(self._kind, f"{which}_filename")
        about = json.loads(file.read_text()) | {"backend_name": self.name}
        if which == "props" and self.calibrated:
            about["last_update_date"] = self.calibrated
            for parameter in (each for gate in about["gates"] for each in gate["parameters"]):
                parameter["date"] = self.calibrated
        return about

    @property
    def configuration(self) -> dict:
        """Its number of qubits, gates, couplings, ..."""
        return self.document("conf")

    @cached_property
    def simulator(self) -> AerSimulator:
        """What runs its circuits: one thread, so that equal seeds give equal numbers."""
        options = {"max_parallel_threads": 1}
        if not self.noisy:
            return AerSimulator(**options)
        return AerSimulator.from_backend(self._kind(), **options)


@dataclass
class Job:
    """A job on the service."""

    id: str
    machine: Machine
    program: str
    body: str
    tags: list[str]
    content: str
    seed: int
    session: str | None
    instance: str
    cost: int | None
    fault: str | None
    pubs: int
    shown: float = 0.0
    unseen: int = 0
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    status: str = "Queued"
    reason: str = ""
    reason_code: int | None = None
    result: str = ""
    executions: int = 0

    @property
    def params(self) -> dict:
        return json.loads(self.body)["params"]

    @property
    def seconds(self) -> float:
        """QPU seconds that it used, by the repetition delay alone."""
        delay = self.machine.configuration["default_rep_delay"]  # microseconds
        return round(self.executions * delay * 1e-6, 3) if self.status in FINAL else 0


def decoded(body: str, machine: Machine) -> tuple[str, list, dict]:
    """Returns (program, PUBs, parameters) of a job's request to a machine."""
    request = json.loads(body)
    if request["program_id"] == "executor":
        return "executor", executor.items(request["params"]), request["params"]
    if request["program_id"] == learner.PROGRAM:
        return learner.PROGRAM, _layers(request["params"], machine), request["params"]
    request = json.loads(body, cls=RuntimeDecoder)
    kind = {"estimator": EstimatorPub, "sampler": SamplerPub}[request["program_id"]]
    pubs = [kind.coerce(tuple(pub)) for pub in request["params"]["pubs"]]
    return request["program_id"], pubs, request["params"]


def _layers(params: dict, machine: Machine) -> list[tuple]:
    return learner.layers(params, machine.configuration["n_qubits"])


def digest(program, pubs, params) -> str:
    """Identifies what a job runs, its seed included, whichever process has sent it."""
    if program == "executor":
        parts = [executor.content(params), params.get("server")]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
    if program == learner.PROGRAM:
        parts = [*map(learner.content, pubs), params["options"]]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
    parts = [program]
    for pub in pubs:
        circuit = pub.circuit
        for step in circuit.data:
            qubits = [circuit.find_bit(qubit).index for qubit in step.qubits]
            parts.append((step.operation.name, qubits, [str(p) for p in step.operation.params]))
        values = pub.parameter_values.as_array(circuit.parameters)
        parts.append((values.shape, np.asarray(values, dtype=float).tobytes().hex()))
        if program == "estimator":
            parts.append((pub.observables.tolist(), pub.precision))
        else:
            parts.append(pub.shots)
    parts.append({key: value for key, value in params.items() if key != "pubs"})
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=16).hexdigest()


class Queue:
    """Jobs, which one thread runs in the order in which they came.

    Args:
        seed: Of the samples of jobs that have none of their own.
        delay: Seconds that every job waits.
        ahead: How many jobs of others are before it when it comes.
    """

    def __init__(self, seed: int, delay: float = 0.0, ahead: int = 0):
        self.seed, self.delay, self.ahead = seed, delay, ahead
        self.counting = False  # the QPU seconds of jobs that are done
        self.jobs: dict[str, Job] = {}
        self.lock = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    def reset(self) -> None:
        """Forgets all jobs."""
        with self.lock:
            for job in self.jobs.values():
                job.status = "Cancelled"
            self.jobs.clear()

    def change(self, **settings) -> None:
        """Changes the delay, or how many are ahead, for jobs that wait as well."""
        with self.lock:
            for name, value in settings.items():
                setattr(self, name, value)
            self.lock.notify_all()

    def add(self, job: Job) -> None:
        """Accepts a job."""
        with self.lock:
            self.jobs[job.id] = job
            self.lock.notify_all()

    def cancel(self, job: Job) -> bool:
        """Cancels a job, if it is not over."""
        with self.lock:
            if job.status in FINAL:
                return False
            job.status, job.finished = "Cancelled", time.time()
            return True

    def position(self, job: Job) -> int | None:
        """Returns the place of a job in the queue, from 1; None once it has left it."""
        with self.lock:
            if job.status != "Queued":
                return None
            waiting = [each for each in self.jobs.values() if each.status == "Queued"]
            left = max(0.0, job.created + self.delay - time.time())
            others = round(self.ahead * left / self.delay) if self.delay else 0
            return 1 + waiting.index(job) + others

    def _next(self) -> Job:
        """Waits for a job whose turn it is, and returns it."""
        with self.lock:
            while True:
                waiting = [job for job in self.jobs.values() if job.status == "Queued"]
                if waiting:
                    left = waiting[0].created + self.delay - time.time()
                    if left <= 0:
                        waiting[0].status, waiting[0].started = "Running", time.time()
                        return waiting[0]
                    self.lock.wait(left)
                else:
                    self.lock.wait()

    def _work(self) -> None:
        while True:
            job = self._next()
            status, reason, code, result, executions = "Completed", "", None, "", 0
            try:
                if job.fault == "fail":
                    raise RuntimeError("the control electronics lost their calibration")
                if job.fault == "cancel":
                    status, reason = "Cancelled", "cancelled by the operator"
                else:
                    result, executions = run(job)
                    limit = job.cost
                    delay = job.machine.configuration["default_rep_delay"]
                    if limit is not None and executions * delay * 1e-6 > limit:
                        status, result = "Cancelled", ""
                        reason, code = f"ran longer than {limit} seconds", 1305
            except Exception as error:  # as the service does with whatever a job raises
                status, reason, code = "Failed", str(error), 9999
                result = traceback.format_exc()
            with self.lock:
                if job.status == "Running":  # and not cancelled meanwhile
                    job.status, job.reason, job.reason_code = status, reason, code
                    job.result, job.executions, job.finished = result, executions, time.time()


def run(job: Job) -> tuple[str, int]:
    """Runs a job; returns its result as the service sends it, and its number of executions."""
    program, pubs, params = decoded(job.body, job.machine)
    if program == "executor":
        return executor.run(params, job.machine.simulator, job.seed, job.fault)
    if program == learner.PROGRAM:
        return learner.run(params, pubs, job.machine.simulator, job.fault)
    options = {"seed_simulator": job.seed}
    if program == "estimator":
        primitive = BackendEstimatorV2(backend=job.machine.simulator, options=options)
        executions = sum(
            pub.parameter_values.size * round(pub.precision**-2) * _bases(pub) for pub in pubs
        )
    else:
        primitive = BackendSamplerV2(backend=job.machine.simulator, options=options)
        if job.fault == "few":
            pubs = [SamplerPub(pub.circuit, pub.parameter_values, pub.shots // 2) for pub in pubs]
        executions = sum(pub.parameter_values.size * pub.shots for pub in pubs)
    result = primitive.run(pubs).result()
    if job.fault in ("short", "double"):
        found = list(result)
        result = PrimitiveResult(found[:-1] if job.fault == "short" else 2 * found, result.metadata)
    return json.dumps(result, cls=RuntimeEncoder), executions


def _bases(pub) -> int:
    return max(1, len({frozenset(each) for each in np.ravel(pub.observables.tolist())}))


def stamp(seconds: float | None) -> str | None:
    """Returns a time as the service writes it."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
