"""The ledger: what was sent to a backend and what came back, so that it is paid for once.

It is a SQLite file. A point is one circuit at given angles. Its key says what is measured, in which
run, and which draw of it this is (`qshift.executors.content`). Before a job is sent, one
transaction claims the points that it is going to measure; then it is sent, and its id is written
down; when its results arrive, one transaction stores them all. Wherever a process is killed, the
next one that asks for the same points finds out here how far the last one has come.

Processes on one computer may use a ledger at the same time; SQLite's write-ahead log cannot be
shared by several computers over a network file system. Nothing is pickled, and there are no
tokens in it: only the names of accounts and instances.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qshift import records
from qshift.errors import QShiftError
from qshift.processes import is_alive, this_process
from qshift.records import Draft, Record

_PATIENCE = 60.0  # seconds to wait for other processes' transactions

# Jobs that threads of this process are sending or running: (path, id).
_at_work: set[tuple[Path, int]] = set()
_lock = threading.Lock()


class LedgerError(QShiftError, OSError):
    """A ledger that cannot be used."""


@dataclass
class Claims:
    """How things stand with the points that somebody wants.

    Attributes:
        results: Key -> what was measured.
        mine: Jobs to be sent by whoever made these claims.
        doubtful: The same, but a process that is gone may have sent them to a service already.
        sent: Jobs that are at a service.
        others: Keys that another process, or another thread, is about to send, or is simulating.
    """

    results: dict[bytes, bytes] = field(default_factory=dict)
    mine: list[Record] = field(default_factory=list)
    doubtful: list[Record] = field(default_factory=list)
    sent: list[Record] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)


def default_path() -> Path:
    """Returns ``$QSHIFT_LEDGER``, or ``qshift/ledger.sqlite`` in ``$XDG_DATA_HOME``."""
    if given := os.environ.get("QSHIFT_LEDGER"):
        return Path(given)
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "qshift" / "ledger.sqlite"


class Ledger:
    """A ledger in a file. Threads and forked processes may share it: every use opens it anew.

    Args:
        path: The file. It and its directory are made when they are needed.

    All methods raise LedgerError if the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path).expanduser().absolute()

    def claim(
        self,
        wanted: Sequence[bytes],
        drafts: Callable[[list[bytes]], Iterable[Draft]],
        *,
        remote: bool,
        **columns: str,
    ) -> Claims:
        """Looks points up, and claims those that nobody has measured or is about to.

        Whoever claims has to `leave` the jobs in the end, `mine` and `doubtful`.

        Args:
            wanted: The points' keys, each once.
            drafts: Makes the jobs that measure some of the points. What it raises is passed on,
                and nothing is claimed.
            remote: Whether jobs outlive the process.
            **columns: Target, access and run of new jobs, see `qshift.records.Record`.
        """
        claims = Claims()
        with _lock, self._transaction() as db:
            waiting: dict[int, list[bytes]] = {}
            free = dict.fromkeys(wanted)
            for key, job, result in records.points(db, wanted):
                del free[key]
                if result is None:
                    waiting.setdefault(job, []).append(key)
                else:
                    claims.results[key] = result
            for job, keys in waiting.items():
                record = records.record(db, job)
                if record.remote and record.state == "submitted":
                    claims.sent.append(record)
                elif self._has_owner(record):
                    claims.others += keys
                elif record.remote or len(keys) == record.points:
                    us = {"state": "intended", "owner": this_process(), "touched": time.time()}
                    records.update(db, job, **us)
                    (claims.doubtful if record.remote else claims.mine).append(record)
                else:  # Of what a process that is gone was simulating, only a part is wanted.
                    records.forget(db, [job])
                    free |= dict.fromkeys(keys)
            for draft in drafts([key for key in wanted if key in free]) if free else ():
                owned = {"remote": remote, "owner": this_process(), **columns}
                claims.mine.append(records.insert(db, draft, **owned))
            ours = [(self.path, record.id) for record in (*claims.mine, *claims.doubtful)]
            _at_work.update(ours)
        return claims

    def leave(self, jobs: Iterable[Record]) -> None:
        """Gives up what was claimed and has not come to an end.

        Jobs at a service are left to whoever wants their results next; others are forgotten.
        """
        jobs = list(jobs)
        if not jobs:
            return
        with _lock, self._transaction() as db:
            _at_work.difference_update((self.path, record.id) for record in jobs)
            for record in jobs:
                records.abandon(db, record)

    def sent(self, job: Record, job_id: str) -> None:
        """Writes down that a job was sent, and its id there."""
        with self._transaction() as db:
            now = time.time()
            records.update(db, job.id, job_id=job_id, state="submitted", touched=now)

    def store(self, job: Record, results: Mapping[bytes, bytes], seconds: float | None) -> None:
        """Stores all results of a job.

        Args:
            job: The job.
            results: Key of a point -> what was measured.
            seconds: That the quantum processor took.
        """
        with self._transaction() as db:
            db.executemany(
                "UPDATE points SET result = ? WHERE key = ? AND job = ?",
                [(result, key, job.id) for key, result in results.items()],
            )
            end = {"state": "done", "finished": time.time(), "seconds": seconds}
            records.update(db, job.id, owner=None, **end)

    def close(self, job: Record, state: str, message: str, seconds: float | None = None) -> None:
        """Writes down that a job gives no results. Its points are free to be sent again.

        Args:
            job: The job.
            state: ``"failed"`` or ``"cancelled"``.
            message: Why.
            seconds: That the quantum processor took.
        """
        with self._transaction() as db:
            db.execute("DELETE FROM points WHERE job = ? AND result IS NULL", (job.id,))
            end = {"state": state, "finished": time.time(), "seconds": seconds, "message": message}
            records.update(db, job.id, owner=None, **end)

    def forget(self, jobs: Collection[Record]) -> None:
        """Deletes jobs and their results."""
        if not jobs:
            return
        with self._transaction() as db:
            records.forget(db, [job.id for job in jobs])

    def jobs(self) -> list[Record]:
        """Returns all jobs, oldest first, without the keys of their points."""
        if not self.path.exists():
            return []
        with self._transaction() as db:
            return records.jobs(db)

    def job(self, number: int) -> Record | None:
        """Returns a job, if there is one of this number."""
        with self._transaction() as db:
            return records.record(db, number)

    def points(self, job: Record) -> list[tuple[int, bytes, bytes | None]]:
        """Returns (PUB, angles, result) of each point of a job, in their order."""
        with self._transaction() as db:
            return db.execute(
                "SELECT pub, angles, result FROM points WHERE job = ? ORDER BY pub, place",
                (job.id,),
            ).fetchall()

    def _has_owner(self, job: Record) -> bool:
        """Whether somebody is about to send a job, or to simulate it."""
        if job.owner is None:
            return False
        if job.owner == this_process():
            return (self.path, job.id) in _at_work
        return is_alive(job.owner, time.time() - job.touched)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Opens the file for one transaction; an error leaves it as it was."""
        db = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            if not db.execute("PRAGMA user_version").fetchone()[0]:
                db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # what is written survives a power failure
            db.execute("BEGIN IMMEDIATE")
            self._check_version(db)
            yield db
            db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(
                f"The ledger {self.path} cannot be used: {error}. Give the device ledger= (or set "
                "QSHIFT_LEDGER to) another file, or ledger=False to do without."
            ) from error
        finally:
            if db is not None:
                db.close()  # which rolls back what was not committed

    def _check_version(self, db):
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in records.SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {records.VERSION}")
        elif version != records.VERSION:
            raise OSError(f"it is of version {version}, not {records.VERSION}")
