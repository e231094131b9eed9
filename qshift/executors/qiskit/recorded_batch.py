"""Batches that go through the ledger.

Results that the ledger has are read from it. For points that a job is already measuring, the batch
waits for that job. Only the other points are sent.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from qshift.errors import JobError, OptionError, QShiftError
from qshift.executors.qiskit import digests, unconfirmed_jobs, waiting
from qshift.executors.qiskit.batch import Batch, Parcel, runs, samples, unpacked_job
from qshift.executors.qiskit.job import Job
from qshift.executors.qiskit.pub_results import decoded, encoded
from qshift.ledger.ledger import Claims, Draft, Ledger, LedgerError, OvertakenError, Record
from qshift.ledger.liveness import elapsed

if TYPE_CHECKING:
    from qshift.executors.qiskit.budget import Budget
    from qshift.executors.qiskit.job_splitting import Limits
    from qshift.executors.qiskit.layer_noise import Learner
    from qshift.executors.qiskit.targets import Target

_SILENCE = 3.0  # seconds of waiting for other processes before this is logged

_log = logging.getLogger("qshift")


class RecordedBatch(Batch):
    """A batch whose jobs and results are recorded; see `Batch`.

    If the ledger has all results, the backend is not contacted.

    Args:
        ledger: The ledger.
        run: The name of the run.
        seeded: Whether the seeds of jobs are made from the draws.
        earlier: The digests that earlier releases made of the same draws, all draws for each kind
            of digest.
        former: The same for options that were the default in earlier releases.
        learner: Learns the noise of layers of gates that the jobs need; None if they need none.
        The others: as for `Batch`.
    """

    def __init__(
        self,
        target: Target,
        limits: Limits,
        budget: Budget,
        pubs: Sequence[Any],
        draws: Sequence[Sequence[bytes]],
        *,
        ledger: Ledger,
        run: str,
        seeded: bool,
        earlier: Sequence[Sequence[Sequence[bytes]]] = (),
        former: Sequence[Sequence[Sequence[bytes]]] = (),
        learner: Learner | None = None,
    ) -> None:
        super().__init__(target, limits, budget, pubs, draws if seeded else None)
        self._ledger = ledger
        self._run = run
        self._learner = learner
        self._places: dict[bytes, list[tuple[int, int]]] = {}  # key -> (PUB, row), several if exact
        keys = self._keys(draws)
        for key, place in keys:
            self._places.setdefault(key, []).append(place)
        self._earlier, self._former = (
            {
                old: key
                for names in kind
                for (old, _), (key, _) in zip(self._keys(names), keys, strict=True)
            }
            for kind in (earlier, former)
        )

    def _keys(self, draws: Sequence[Sequence[bytes]]) -> list[tuple[bytes, tuple[int, int]]]:
        """Returns (key, (PUB, row)) of each draw."""
        return [
            (digests.digest(self._run.encode(), draw), (i, row))
            for i, some in enumerate(draws)
            for row, draw in enumerate(some)
        ]

    def measure(self) -> None:
        """Fills in the results.

        Raises:
            LimitError: If the device may not send so much. Nothing is sent then.
            JobError: If a job failed, was cancelled, was deleted, or has results that do not fit.
            LedgerError: If the ledger cannot be used. Nothing is sent then.
        """
        self._recognise()
        self._read(self._ledger.read(list(self._places)))
        missing, pauses = self._missing(), waiting.pauses(1.0)
        known, points = len(self._places) - len(missing), len(self._places)
        _log.info("%d of %d points came from the ledger %s", known, points, self._ledger.path)
        with ExitStack() as stack:
            say = None
            while missing:
                try:
                    claims = self._claim(missing)
                except _UnpreparedError as error:  # transpiling takes too long for a transaction
                    for i in error.pubs:
                        self._pubs[i].prepare()
                    continue
                self._read(claims.results)
                with self._leaving([*claims.mine, *claims.doubtful]):
                    jobs = self._send_all(claims)
                    jobs += [(record, self._joined(record)) for record in claims.sent]
                    self._collect(jobs)
                missing = self._missing()
                if missing and not jobs and not self._arrived(claims.elsewhere):
                    say = say or stack.enter_context(_others(self._target.name))
                    say(len(claims.others))
                    time.sleep(next(pauses))

    @contextmanager
    def _leaving(self, claimed: Sequence[Record]) -> Iterator[None]:
        """A context after which the claimed jobs that have not ended are given up."""
        try:
            yield
        except BaseException:
            with suppress(LedgerError):  # it would hide the error that says what happened to jobs
                self._ledger.leave(claimed)
            raise
        self._ledger.leave(claimed)

    def _recognise(self) -> None:
        """Uses the digests of earlier releases for points that are recorded with these.

        Raises:
            OptionError: If points are recorded with an option that used to be the default, and
                measuring them again would cost something.
        """
        if not (self._earlier or self._former):
            return
        known = self._ledger.known([*self._places, *self._earlier, *self._former])
        for old, key in self._earlier.items():
            if old in known and key in self._places and key not in known:
                self._places[old] = self._places.pop(key)
        before = {key for old, key in self._former.items() if old in known} - known
        before &= self._places.keys()
        if not before:
            return
        level = self._target.former_level
        have = f"has {len(before)} of these {len(self._places)} points as they were measured with "
        have += f"optimization_level={level}, the default of earlier releases"
        if not self._target.is_remote:
            _log.info("The ledger %s %s; they are simulated anew", self._ledger.path, have)
            return
        raise OptionError(
            "optimization_level",
            f"the ledger {self._ledger.path} {have}. Nothing was sent. Give the device "
            f"optimization_level={level} to read them and go on from there, or "
            f"optimization_level={self._target.level} (or another run=) to measure, and pay for, "
            "all of them anew.",
        )

    def _missing(self) -> list[bytes]:
        return [key for key, ((i, row), *_) in self._places.items() if self.results[i][row] is None]

    def _read(self, results: Mapping[bytes, bytes]) -> None:
        """Fills in results from the ledger."""
        for key, result in results.items():
            i, _ = self._places[key][0]
            self._fill(key, decoded(self._pubs[i].primitive, result))

    def _fill(self, key: bytes, measured: Any) -> None:
        for i, row in self._places.get(key, ()):
            self.results[i][row] = measured

    def _claim(self, missing: Sequence[bytes]) -> Claims:
        return self._ledger.claim(
            missing,
            self._drafts,
            remote=self._target.is_remote,
            target=self._target.name,  # for the least busy one, known only after it was asked for
            access=json.dumps(self._target.access),
            run=self._run,
        )

    def _drafts(self, keys: Sequence[bytes]) -> list[Draft]:
        """Returns the jobs that measure these points."""
        rows: list[list[int]] = [[] for _ in self._pubs]
        key_of = {}
        for key in keys:
            i, row = self._places[key][0]
            rows[i].append(row)
            key_of[i, row] = key
        unprepared = [i for i, some in enumerate(rows) if some and not self._pubs[i].is_ready]
        if unprepared:
            raise _UnpreparedError(unprepared)
        drafts, shared = [], self._parcels(rows)
        self._spend(shared)
        for parcel in shared:
            pubs = [
                [(key_of[i, row], self._pubs[i].points[row].tobytes()) for row in some]
                for i, some in parcel.parts
            ]
            about = dict.fromkeys(self._pubs[i].about for i, _ in parcel.parts)
            shots = samples(parcel, lambda i: self._pubs[i].load)
            drafts.append(Draft(parcel.primitive, "; ".join(about), pubs, shots, parcel.seed))
        return drafts

    def _send_all(self, claims: Claims) -> list[tuple[Record, Job]]:
        """Sends the jobs that were claimed, unless a service has them already."""
        jobs = []
        self._learn(claims.mine)
        for record in claims.mine:
            jobs += self._send_recorded(record)
        for record in claims.doubtful:
            job = self._on_service(record)
            if job is not None:
                jobs.append((record, self._written(record, job)))
            elif all(key in self._places for key in record.keys) and self._is_one_job(record):
                self._spend([self._parcel(record)])
                self._learn([record])
                jobs += self._send_recorded(record)
            else:  # the points of this job that are wanted are claimed anew
                self._ledger.forget([record])
        return jobs

    def _learn(self, records: Sequence[Record]) -> None:
        """Has the noise learnt that these jobs need, before one of them is sent."""
        if self._learner is not None:
            parts = [part for record in records for part in self._parcel(record).parts]
            pubs = {i: rows[:1] for i, rows in parts if self._pubs[i].primitive == "estimator"}
            if pubs:
                told = [self._pubs[i].arguments(rows) for i, rows in pubs.items()]
                self._noise = self._learner.noise(told)

    def _is_one_job(self, record: Record) -> bool:
        """Whether the PUBs of a record can be sent together, as by the client that meant to."""
        pubs = [self._pubs[i] for i, _ in self._parcel(record).parts]
        kinds = self._target.kinds([(pub.primitive, runs(pub, pub.load)) for pub in pubs])
        return len({kind for kind, _ in kinds}) == 1

    def _parcel(self, record: Record) -> Parcel:
        parts: list[tuple[int, Sequence[int]]] = []
        for keys in record.pubs:
            places = [self._places[key][0] for key in keys]
            parts.append((places[0][0], [row for _, row in places]))
        return Parcel(record.primitive, parts, record.seed)

    def _send_recorded(self, record: Record) -> list[tuple[Record, Job]]:
        """Sends a job, unless another process has taken it over meanwhile."""
        try:
            job = self._send(
                self._parcel(record), (record.tag,), lambda: self._ledger.sending(record)
            )
        except OvertakenError as error:
            _log.warning("%s", error)
            return []
        return [(record, self._written(record, job))]

    def _written(self, record: Record, job: Job) -> Job:
        """Records that a job is at the service.

        Returns:
            The job to wait for: another one, if another process has sent the same meanwhile.
        """
        try:
            found = self._ledger.sent(record, job.id, job.instance)
        except LedgerError as error:
            raise LedgerError(
                f"{error.problem or error} Job {job.id} was sent before that, and is not lost: "
                "once this ledger can be written, run this again with it, and the job is found by "
                "its tag."
            ) from error
        if not self._target.is_remote or found.job_id == job.id:
            return job
        if found.state in ("submitted", "done"):  # by a process that took this one for ended
            return unconfirmed_jobs.only_one([self._joined(found), job], record.tag)
        job.cancel()  # somebody has closed its record while it was being sent
        if job.status() == "done":
            return job
        raise JobError(job.id, found.state, (found.message or "while it was sent").rstrip("."))

    def _joined(self, record: Record) -> Job:
        """Returns a job that was sent before."""
        doubted = record.tag if record.posts > 1 else None
        age = elapsed(record.posted)
        return self._target.job(record.job_id, record.instance, doubted, age)

    def _on_service(self, record: Record) -> Job | None:
        """Returns the job on the service of a record whose process has ended; None if the job was
        not sent."""
        if not record.posts:
            return None
        passed = elapsed(record.posted)
        longest = unconfirmed_jobs.LONGEST_REQUEST + unconfirmed_jobs.GRACE
        seconds = 0.0 if passed is not None and passed > longest else unconfirmed_jobs.GRACE
        find = partial(self._target.find, record.tag)
        return unconfirmed_jobs.await_arrival(find, record.tag, seconds)

    def _arrived(self, records: Sequence[Record]) -> bool:
        """Whether one of some jobs is at the service whose processes cannot be looked up."""
        for record in records:
            if found := self._target.find(record.tag):
                job = unconfirmed_jobs.only_one(found, record.tag)
                self._ledger.sent(record, job.id, job.instance)
                return True
        return False

    def _collect(self, jobs: Sequence[tuple[Record, Job]]) -> None:
        """Waits for jobs and stores their results."""
        by_record = {record.id: job for record, job in jobs}
        for record, measured in self._wait(jobs):
            job = by_record[record.id]
            flat = [each for part in measured for each in part]
            results = dict(zip(record.keys, flat, strict=True))
            kept = {key: encoded(each) for key, each in results.items()}
            try:
                self._ledger.store(record, kept, _usage(job), job.id)
            except LedgerError as error:
                if not self._target.is_remote:
                    raise
                raise LedgerError(
                    f"{error.problem or error} Job {job.id} has run before that, and its results "
                    "are not lost: the service keeps them. Once this ledger can be written, run "
                    "this again with it, and they are fetched from there; with another ledger, or "
                    "none, they would be measured, and paid for, again."
                ) from error
            for key, each in results.items():
                self._fill(key, each)

    def _measured(self, record: Record, job: Job, results: Sequence[Any]) -> list[Sequence]:
        found = unpacked_job(record, job, results)
        flat = [each for part in found for each in part]
        wanted = zip(record.keys, flat, strict=True)
        self._require(job, ((self._places[k][0][0], v) for k, v in wanted if k in self._places))
        return found

    def _cancelled(self, record: Record) -> None:
        self._ledger.close(record, "cancelled", "when waiting for it was interrupted")

    def _failed(self, record: Record, job: Job, error: JobError) -> JobError:
        lost = error.status == "lost"
        self._ledger.close(record, error.status, error.reason, None if lost else _usage(job))
        return JobError(
            job.id,
            error.status,
            error.reason,
            f"All results received so far are kept in {self._ledger.path}. Run this again to go on "
            f"from there: its {record.points} points then go out in a new job"
            + (", and are paid for again." if lost else "."),
        )

    def _way_back(self) -> str:
        return (
            "To come back, run the program again (in a notebook, the cell): it waits for the same "
            "jobs. `qshift jobs` lists, fetches and cancels them."
        )


@contextmanager
def _others(name: str) -> Iterator[Callable[[int], None]]:
    """A context that shows that other processes are waited for; it gives the function to call with
    the number of points that they are measuring."""
    start, said = time.monotonic(), False

    def say(points: int) -> None:
        nonlocal said
        text = f"another process is sending, or simulating, {points} of the points"
        show(text)
        if not said and time.monotonic() - start > _SILENCE:
            said = True
            _log.warning("Waiting: %s that are wanted here", text)

    with waiting.display(name) as show:
        yield say


class _UnpreparedError(Exception):
    """Raised where circuits have to be transpiled before they can be put into a job.

    Attributes:
        pubs: The PUBs of these circuits.
    """

    def __init__(self, pubs: Sequence[int]) -> None:
        self.pubs = pubs
        super().__init__(pubs)


def _usage(job: Job) -> float | None:
    try:
        return job.usage()
    except QShiftError:  # the results are worth more than the number of seconds
        return None
