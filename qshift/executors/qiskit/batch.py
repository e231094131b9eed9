"""Running PUBs on a target, in as few jobs as the target allows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from qshift.errors import JobError, QShiftError
from qshift.executors.qiskit import digests, waiting
from qshift.executors.qiskit.budget import Budget
from qshift.executors.qiskit.job import Job, Submission
from qshift.executors.qiskit.job_splitting import Limits, Load, pack
from qshift.executors.qiskit.pub_results import primitives, unpacked
from qshift.executors.qiskit.targets import Target
from qshift.executors.qiskit.usage import JOB
from qshift.progress import track
from qshift.tracker import Tracker

_OTHER = "it came back with other results than it was to measure"


class Pub(Protocol):
    """A circuit at some points that runs as one PUB of a primitive.

    Attributes:
        primitive: ``"estimator"`` or ``"sampler"``.
        points: float64[N, P].
        shots: The shots of each point and basis; 0 for exact results.
        errors: Whether standard errors are wanted.
        is_ready: Whether the circuit has been transpiled.
        load: How much the PUB takes of a job's limits. This and `arguments` transpile the circuit,
            for which the backend has to be reachable.
    """

    @property
    def primitive(self) -> str: ...

    @property
    def points(self) -> np.ndarray: ...

    @property
    def shots(self) -> int: ...

    @property
    def errors(self) -> bool: ...

    @property
    def is_ready(self) -> bool: ...

    @property
    def load(self) -> Load: ...

    def arguments(self, rows: Sequence[int]) -> tuple:
        """Returns the PUB of the points in some rows, as the primitive takes it."""
        ...

    def prepare(self) -> None:
        """Transpiles the circuit."""
        ...

    def is_answered_by(self, measured: Any) -> bool:
        """Whether a result has the form of a result of the primitive at one of the points."""
        ...


@dataclass(frozen=True)
class Parcel:
    """The points that one job measures.

    Attributes:
        primitive: ``"estimator"`` or ``"sampler"``, or where PUBs of both are together, that of
            each with commas between.
        parts: For each PUB of the job, the PUB of the batch and the rows that it is taken from.
        seed: The seed of a simulator.
    """

    primitive: str
    parts: list[tuple[int, Sequence[int]]]
    seed: int | None = None

    @property
    def sizes(self) -> list[int]:
        """The number of points in each PUB."""
        return [len(rows) for _, rows in self.parts]


def parcels(
    target: Target,
    pubs: Sequence[Pub],
    rows: Sequence[Sequence[int]],
    limits: Limits,
    loads: Sequence[Load] | None = None,
) -> list[Parcel]:
    """Shares some rows of each PUB out among the fewest jobs.

    Args:
        target: What the jobs run on.
        pubs: The PUBs.
        rows: The rows of each PUB that are to be measured.
        limits: The limits of each job.
        loads: The loads of the PUBs, if these are only planned and not transpiled.
    """
    wanted = {
        i: replace(loads[i] if loads else pubs[i].load, rows=len(rows[i]))
        for i in range(len(pubs))
        if len(rows[i])
    }
    kinds: dict[Hashable, list[int]] = {}
    found = target.kinds([(pubs[i].primitive, runs(pubs[i], load)) for i, load in wanted.items()])
    for (i, load), (kind, row) in zip(wanted.items(), found, strict=True):
        kinds.setdefault((kind, limits.mixed or pubs[i].shots), []).append(i)
        if row:  # circuits go out for each basis and variant, and values for further shots as well
            values = load.values * (load.executions // row)
            wanted[i] = replace(load, size=load.size * load.circuits, values=values)
    besides = max((load.calibration for load in wanted.values()), default=0)
    limits = replace(limits, executions=max(0, limits.executions - besides))
    shared = []
    for together in kinds.values():
        each = [wanted[i] for i in together]
        for job in pack(each, limits):
            parts = [(together[k], rows[together[k]][first:last]) for k, first, last in job]
            named = [pubs[i].primitive for i, _ in parts]
            one = len(set(named)) == 1
            shared.append(Parcel(named[0] if one else ",".join(named), parts))
    return shared


def runs(pub: Pub, load: Load) -> int:
    """Returns how often a PUB runs its circuit in each basis: its shots, of all copies together."""
    return -(-pub.shots // load.copies)


def qpu_seconds(shared: Sequence[Parcel], load: Callable[[int], Load]) -> float:
    """Returns the QPU seconds of jobs, by the formula of `qshift.executors.qiskit.usage`.

    Args:
        shared: The jobs.
        load: Returns the load of a PUB of the batch.
    """
    seconds = len(shared) * JOB
    for parcel in shared:
        seconds += max(load(i).once for i, _ in parcel.parts)
        seconds += sum(load(i).seconds * len(rows) for i, rows in parcel.parts)
    return seconds


def samples(parcel: Parcel, load: Callable[[int], Load]) -> int:
    """Returns how many samples a job draws, those that calibrate the readout included.

    Args:
        parcel: The job.
        load: Returns the load of a PUB of the batch.
    """
    own = sum(load(i).shots * len(rows) for i, rows in parcel.parts)
    return own + max(load(i).calibration * load(i).copies for i, _ in parcel.parts)


class Batch:
    """PUBs that are measured together.

    Args:
        target: The target that measures.
        limits: The limits of one job.
        budget: What the device may send in all.
        pubs: The PUBs.
        draws: For each point a digest that identifies the measurement and its repetition, from
            which the seeds of jobs follow. None for fresh samples.

    Attributes:
        results: For each PUB a list with the result at each point: float64[2, K], values and
            standard errors of K observables, or for a sampler a dictionary outcome -> count.
        sent: For each PUB the points for which a job was sent.
    """

    def __init__(
        self,
        target: Target,
        limits: Limits,
        budget: Budget,
        pubs: Sequence[Pub],
        draws: Sequence[Sequence[bytes]] | None = None,
    ) -> None:
        self.results: list[list] = [[None] * len(pub.points) for pub in pubs]
        self.sent: list[set[int]] = [set() for _ in pubs]
        self._target: Any = target
        self._limits = limits
        self._budget = budget
        self._pubs: Sequence[Any] = pubs
        self._draws = draws
        self._noise: Any = None  # of layers of gates, which jobs are sent with

    def measure(self) -> None:
        """Fills in the results.

        Raises:
            LimitError: If the device may not send so much. Nothing is sent then.
            JobError: If a job failed, was cancelled, or has results that do not fit.
        """
        rows = [range(len(pub.points)) for pub in self._pubs]
        shared = self._parcels(rows)
        self._spend(shared)
        jobs = [(parcel, self._send(parcel)) for parcel in shared]
        for parcel, measured in self._wait(jobs):
            for (i, some), part in zip(parcel.parts, measured, strict=True):
                for row, each in zip(some, part, strict=True):
                    self.results[i][row] = each

    def _parcels(self, rows: Sequence[Sequence[int]]) -> list[Parcel]:
        """Shares some rows of each PUB out among jobs, and gives the jobs seeds."""
        shared = parcels(self._target, self._pubs, rows, self._limits)
        if self._draws is None:
            return shared
        return [
            replace(
                parcel,
                seed=digests.seed(self._draws[i][row] for i, rows in parcel.parts for row in rows),
            )
            for parcel in shared
        ]

    def _spend(self, shared: Sequence[Parcel]) -> None:
        """Raises LimitError if the device may not send these jobs."""
        seconds = qpu_seconds(shared, lambda i: self._pubs[i].load)
        self._budget.spend(len(shared), seconds)

    def _send(
        self,
        parcel: Parcel,
        tags: Sequence[str] = (),
        sending: Callable[[], None] = lambda: None,
    ) -> Job:
        arguments = [self._pubs[i].arguments(rows) for i, rows in parcel.parts]
        first = self._pubs[parcel.parts[0][0]]
        exact, errors, noise = not first.shots, first.errors, self._noise
        job = self._target.submit(
            Submission(
                parcel.primitive, arguments, parcel.seed, exact, errors, tags, sending, noise
            )
        )
        Tracker.record(jobs=1, shots=samples(parcel, lambda i: self._pubs[i].load))
        for i, rows in parcel.parts:
            self.sent[i].update(rows)
        return job

    def _wait(self, jobs: Sequence[tuple[Any, Job]]) -> Iterator[tuple[Any, list]]:
        """Yields the results of each job, PUB by PUB, as soon as the job is done.

        Raises:
            JobError: For the first job that has no results.
        """
        done = 0
        try:
            if not self._target.is_remote:
                total = sum(sum(parcel.sizes) for parcel, _ in jobs)
                for parcel, job in track(jobs, total, lambda item: sum(item[0].sizes), "circuits"):
                    yield parcel, self._measured(parcel, job, job.result())
                    done += 1
                return
            with waiting.display(self._target.name) as say:
                for parcel, job in jobs:
                    which = f"job {done + 1} of {len(jobs)}, " if len(jobs) > 1 else ""
                    results = waiting.wait(job, _after(which, say))
                    yield parcel, self._measured(parcel, job, results)
                    done += 1
        except KeyboardInterrupt as interruption:
            # The message of the exception is the last thing that people see below the traceback.
            interruption.args = self._interrupted(jobs[done:])
            raise
        except JobError as error:
            raise self._failed(*jobs[done], error) from error

    def _measured(self, parcel: Any, job: Job, results: Sequence[Any]) -> list[Sequence]:
        """Returns what was measured at each point of each PUB of a job.

        Raises:
            JobError: If it is not what was asked for.
        """
        found = unpacked_job(parcel, job, results)
        for (i, _), part in zip(parcel.parts, found, strict=True):
            self._require(job, ((i, each) for each in part))
        return found

    def _require(self, job: Job, measured: Iterable[tuple[int, object]]) -> None:
        """Raises JobError if a pair (PUB, result) has a result that this PUB cannot have."""
        if not all(self._pubs[i].is_answered_by(each) for i, each in measured):
            raise JobError(job.id, "failed", _OTHER)

    def _interrupted(self, jobs: Sequence[tuple[Any, Job]]) -> tuple[str, ...]:
        """Cancels the jobs that were being waited for, if the user wants that.

        Returns:
            The arguments of the KeyboardInterrupt, which say what has become of the jobs.
        """
        is_remote, named = self._target.is_remote, ", ".join(job.id for _, job in jobs)
        if is_remote and not waiting.shall_cancel([job for _, job in jobs]):
            return (f"{named} left running. {self._way_back()}",)
        cancelled, done = [], []
        for parcel, job in jobs:
            job.cancel()
            if not is_remote:
                continue
            if _is_done(job):  # and paid for
                done.append(job.id)
            else:
                self._cancelled(parcel)
                cancelled.append(job.id)
        told = f"{', '.join(cancelled)} cancelled" if cancelled else ""
        if done:
            told += f"{', ' * bool(told)}{', '.join(done)} done before that. {self._way_back()}"
        return (told,) if told else ()

    def _cancelled(self, parcel: Any) -> None:
        """Called for a job that was cancelled; subclasses record it."""

    def _failed(self, parcel: Any, job: Job, error: JobError) -> JobError:
        """Returns the error to raise for a job that has no results."""
        advice = "There is no ledger (ledger=False), so all is sent again when you run this again."
        return JobError(job.id, error.status, error.reason, advice)

    def _way_back(self) -> str:
        return "Without a ledger (ledger=False) the program cannot find these jobs again."


def _after(which: str, say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: say(which + text)


def _is_done(job: Job) -> bool:
    try:
        return job.status() == "done"
    except QShiftError:  # the job no longer exists, or the service does not answer
        return False


def unpacked_job(parcel: Any, job: Job, results: Sequence[Any]) -> list[Sequence]:
    """Returns what was measured at each point of each PUB of a job.

    Args:
        parcel: The parcel, or record of the ledger, that the job was sent for.
        job: The job.
        results: The job's PUB results.

    Raises:
        JobError: If the results do not fit the parcel.
    """
    try:
        named = primitives(parcel.primitive, len(results))
        found = [unpacked(*pair) for pair in zip(named, results, strict=False)]
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise JobError(job.id, "failed", _OTHER) from error
    sizes = [len(part) for part in found]
    sizes += [0] * (len(results) - len(sizes))  # more PUBs than were asked for
    if sizes != parcel.sizes:
        raise JobError(
            job.id,
            "failed",
            f"it came back with results for {sizes} points in its PUBs, not {parcel.sizes}",
        )
    return found
