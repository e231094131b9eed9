"""Batches that go through the ledger: what it has is read, what is underway is joined, the rest is
sent."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from qshift.errors import JobError, QShiftError
from qshift.executors import content, waiting
from qshift.executors.job import Job
from qshift.executors.results import decoded, encoded
from qshift.executors.submission import Batch, Parcel
from qshift.ledger import Draft, Ledger, Record

# Seconds after which a job that was being sent when its process died has reached the service.
_UNDERWAY = 15.0


class RecordedBatch(Batch):
    """A batch whose jobs and results are recorded; see `Batch`.

    Args:
        ledger: Where they are.
        run: Name of the run.
        seeded: Whether samples follow from the draws.
        The others: as for `Batch`.
    """

    def __init__(
        self, target, limits, budget, pubs, draws, *, ledger: Ledger, run: str, seeded: bool
    ):
        super().__init__(target, limits, budget, pubs, draws if seeded else None)
        self._ledger = ledger
        self._run = run
        self._places: dict[bytes, list[tuple[int, int]]] = {}  # key -> (PUB, row), several if exact
        for i, some in enumerate(draws):
            for row, draw in enumerate(some):
                key = content.digest(run.encode(), draw)
                self._places.setdefault(key, []).append((i, row))

    def measure(self) -> None:
        """Fills in the results.

        Raises:
            LimitError: If this would take more than may be sent. Nothing is sent then.
            JobError: If a job failed, was cancelled, or came back with something else.
        """
        missing, pauses = list(self._places), waiting.pauses(1.0)
        target = {
            "remote": self._target.is_remote,
            "target": self._target.name,
            "access": json.dumps(self._target.access),
            "run": self._run,
        }
        while missing:
            claims = self._ledger.claim(missing, self._drafts, **target)
            for key, result in claims.results.items():
                i, _ = self._places[key][0]
                self._fill(key, decoded(self._pubs[i].primitive, result))
            try:
                jobs = self._send_all(claims)
                jobs += [(record, self._target.job(record.job_id)) for record in claims.sent]
                self._collect(jobs)
            finally:
                self._ledger.leave([*claims.mine, *claims.doubtful])
            missing = [key for key in missing if not self._is_known(key)]
            if missing and claims.others:  # other processes are at it
                time.sleep(next(pauses))

    def _is_known(self, key) -> bool:
        i, row = self._places[key][0]
        return self.results[i][row] is not None

    def _fill(self, key, measured) -> None:
        for i, row in self._places.get(key, ()):
            self.results[i][row] = measured

    def _drafts(self, keys: Sequence[bytes]) -> list[Draft]:
        """Returns the jobs that measure these points."""
        rows: list[list[int]] = [[] for _ in self._pubs]
        key_of = {}
        for key in keys:
            i, row = self._places[key][0]
            rows[i].append(row)
            key_of[i, row] = key
        drafts, shared = [], self._parcels(rows)
        self._spend(shared)
        for parcel in shared:
            pubs = [
                [(key_of[i, row], self._pubs[i].points[row].tobytes()) for row in some]
                for i, some in parcel.parts
            ]
            about = dict.fromkeys(self._pubs[i].about for i, _ in parcel.parts)
            loads = [self._pubs[i].load.executions * len(some) for i, some in parcel.parts]
            drafts.append(Draft(parcel.primitive, "; ".join(about), pubs, sum(loads), parcel.seed))
        return drafts

    def _send_all(self, claims) -> list[tuple[Record, Job]]:
        """Sends the jobs that were claimed, unless a service has them already."""
        jobs = [(record, self._send_recorded(record)) for record in claims.mine]
        for record in claims.doubtful:
            job = self._on_service(record)
            if job is not None:
                self._ledger.sent(record, job.id)
            elif all(key in self._places for key in record.keys):
                self._spend([self._parcel(record)])
                job = self._send_recorded(record)
            else:  # What is wanted of it is claimed anew.
                self._ledger.forget([record])
                continue
            jobs.append((record, job))
        return jobs

    def _parcel(self, record) -> Parcel:
        parts = []
        for keys in record.pubs:
            places = [self._places[key][0] for key in keys]
            parts.append((places[0][0], [row for _, row in places]))
        return Parcel(record.primitive, parts, record.seed)

    def _send_recorded(self, record) -> Job:
        job = self._send(self._parcel(record), (record.tag,))
        self._ledger.sent(record, job.id)
        return job

    def _on_service(self, record) -> Job | None:
        """Returns the job on the service if it was sent."""
        for pause in waiting.pauses():
            if found := self._target.find(record.tag):
                return found[0]
            if time.time() - record.created > _UNDERWAY:
                return None
            time.sleep(pause)

    def _collect(self, jobs: Sequence[tuple[Record, Job]]) -> None:
        """Waits for jobs and stores what they have measured."""
        by_record = {record.id: job for record, job in jobs}
        for record, measured in self._wait(jobs):
            flat = [each for part in measured for each in part]
            results = dict(zip(record.keys, flat, strict=True))
            kept = {key: encoded(each) for key, each in results.items()}
            self._ledger.store(record, kept, _usage(by_record[record.id]))
            for key, each in results.items():
                self._fill(key, each)

    def _cancelled(self, record: Record) -> None:
        self._ledger.close(record, "cancelled", "when waiting for it was interrupted")

    def _failed(self, record: Record, job: Job, error: JobError) -> JobError:
        self._ledger.close(record, error.status, error.reason, _usage(job))
        return JobError(
            job.id,
            error.status,
            error.reason,
            f"All results received so far are kept in {self._ledger.path}. Run this again to go on "
            f"from there: its {record.points} points then go out in a new job.",
        )

    def _way_back(self) -> str:
        return (
            "To come back, run the program again (in a notebook, the cell): it waits for the same "
            "jobs. `qshift jobs` lists, fetches and cancels them."
        )


def _usage(job) -> float | None:
    try:
        return job.usage()
    except QShiftError:  # It does not matter so much as to lose results.
        return None
