"""Signs of life of processes that are sending or simulating jobs, in the ledger that they share.

A process that has claimed points is about to send a job, or simulates it. If this process dies, the
next one that needs the points has to take over, but only then. Where a process cannot be looked up,
because it runs in another container, its signs of life decide: every few seconds, a thread of a
working process writes into the ledger that the process is still at work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from qshift.forks import Lock, in_children
from qshift.ledger import tables
from qshift.ledger.database import Database, LedgerError
from qshift.ledger.liveness import is_alive, this_process
from qshift.ledger.records import Record


class Heartbeat:
    """Records which jobs this process is at work on, and finds out whether other processes still
    work on theirs.

    Args:
        beat: Seconds between two signs of life.
        silence: Seconds without a sign of life after which a process counts as ended, if it cannot
            be looked up.
        process: Returns the name of this process.
        is_alive: Whether the process of a name still runs; None if that cannot be known here.

    Attributes:
        lock: Held while jobs are claimed or given up, so that the jobs of this process agree with
            those that the ledger records for it.
    """

    def __init__(
        self,
        beat: float = 3.0,
        silence: float = 15.0,
        process: Callable[[], str] = this_process,
        is_alive: Callable[[str], bool | None] = is_alive,
    ) -> None:
        self._beat, self._silence = beat, silence
        self._process, self._is_alive = process, is_alive
        self._busy: set[tuple[Path, int]] = set()  # (path, id) of jobs
        # The last sign of life of processes that cannot be looked up, and when it was noticed, on
        # this process's own clock: (path, id of a job) -> (owner, touched, seconds).
        self._heard: dict[tuple[Path, int], tuple[str, float, float]] = {}
        self._thread: threading.Thread | None = None
        self.lock = Lock()
        in_children(self)

    def inherit(self) -> None:
        """Forgets, in the child of a fork, the jobs that threads of its parent are at work on."""
        self._busy.clear()

    @property
    def owner(self) -> str:
        """The name of this process, as owner of jobs."""
        return self._process()

    @property
    def is_beating(self) -> bool:
        """Whether a thread gives signs of life."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, path: Path, jobs: Collection[int]) -> None:
        """Has signs of life given for jobs until `stop`, given by their numbers."""
        if jobs:
            with self.lock:
                self._busy.update((path, job) for job in jobs)
                if not self.is_beating:  # the thread does not exist yet, or not in this fork
                    name = "qshift-ledger"
                    self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                    self._thread.start()

    def stop(self, path: Path, jobs: Collection[int]) -> None:
        """Ends the signs of life for jobs."""
        with self.lock:
            self._busy.difference_update((path, job) for job in jobs)

    def has_owner(self, path: Path, job: Record) -> bool | None:
        """Whether a running process is about to send a job, or simulates it; None if that is not
        known."""
        if job.owner is None:
            return False
        if job.owner == self.owner:
            return (path, job.id) in self._busy
        alive = self._is_alive(job.owner)
        if alive is not None:
            return alive
        last = (job.owner, job.touched)
        *before, since = self._heard.get((path, job.id), (None, None, 0.0))
        if last != tuple(before):
            self._heard[path, job.id] = (*last, time.monotonic())
            return None
        return None if time.monotonic() - since < self._silence else False

    def touch(self, path: Path, jobs: Collection[int]) -> None:
        """Records a sign of life of this process for jobs."""
        if not path.exists():
            return
        try:
            with Database(path).writing() as db:
                for job in jobs:
                    tables.touch(db, job, self.owner)
        except LedgerError:  # the thread that works on the job meets the same error
            pass

    def _run(self) -> None:
        while True:
            time.sleep(self._beat)
            with self.lock:
                busy = set(self._busy)
                if not busy:
                    self._thread = None
                    return
            for path in {path for path, _ in busy}:
                self.touch(path, [job for where, job in busy if where == path])


# One for the process, because a process has one name as the owner of jobs in all ledgers, and one
# thread that gives signs of life.
HEARTBEAT = Heartbeat()
