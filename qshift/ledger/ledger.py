"""The ledger: a record of all jobs and results of backends, so that each point is paid for once.

The ledger is a SQLite file. A point in it is one circuit at given angles; its key identifies the
measurement, the run, and the repetition of the measurement (`qshift.executors.qiskit.digests`). A
job goes through these steps, each of them one transaction:

1. It is recorded, and with that the points that it is going to measure are claimed.
2. Before each request to the service that may create the job, the request is recorded.
3. When the service has answered, the job's id is recorded.
4. When the results arrive, all of them are stored.

If a process is killed after any of these steps, the next process that needs the same points reads
from the ledger how far the job has come, and goes on from there.

Several processes may use a ledger at the same time, also in several containers, but not on several
computers: SQLite's write-ahead log does not work over a network file system. Nothing in the file is
pickled. It holds the names of accounts and instances, but no tokens.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qshift.ledger import damage, tables
from qshift.ledger.database import PATIENCE, Database, LedgerError, ReadOnlyLedgerError
from qshift.ledger.heartbeat import HEARTBEAT, Heartbeat
from qshift.ledger.liveness import moment
from qshift.ledger.records import Claims, Draft, Point, Record
from qshift.ledger.schema import damaged
from qshift.places import home

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Claims", "Draft", "Ledger", "LedgerError", "OvertakenError", "Record", "default_path"]

_log = logging.getLogger("qshift")


class OvertakenError(LedgerError):
    """Raised for a job that another process has taken over, because it took this one for ended."""


def default_path() -> Path:
    """Returns ``$QSHIFT_LEDGER``, or ``qshift/ledger.sqlite`` in ``$XDG_DATA_HOME``.

    Raises:
        LedgerError: If neither variable is set and the user has no home directory.
    """
    if given := os.environ.get("QSHIFT_LEDGER"):
        return Path(given)
    try:
        return home("XDG_DATA_HOME", ".local/share") / "qshift" / "ledger.sqlite"
    except RuntimeError as error:
        raise LedgerError(
            "There is no place for the ledger, as this user has no home directory. Set "
            "QSHIFT_LEDGER to a file, or give the device ledger=; ledger=False does without."
        ) from error


class Ledger:
    """A ledger in a file. Threads and forked processes may share it: each use opens the file anew.

    Args:
        path: The file. The file and its directory are made when they are needed.
        heartbeat: Records which jobs this process is at work on, and finds out about other
            processes; None for the one that all ledgers of this process share.
        patience: Seconds to wait for other processes that have locked the file.

    All methods raise LedgerError if the file cannot be used.

    Example:
        >>> from qshift.ledger import Ledger
        >>> ledger = Ledger("ledger.sqlite")
        >>> [job.state for job in ledger.jobs()]
        []
    """

    def __init__(
        self,
        path: str | os.PathLike,
        heartbeat: Heartbeat | None = None,
        patience: float = PATIENCE,
    ) -> None:
        try:
            given = Path(path).expanduser()
        except RuntimeError as error:
            raise LedgerError(f"{path} cannot be a ledger: {error} Give a whole path.") from error
        if "\0" in str(given):
            raise LedgerError(f"{str(path)!r} cannot be a ledger: no file has such a name.")
        try:
            self.path = given.resolve()  # so that all spellings of a path are the same ledger
        except (OSError, RuntimeError) as error:  # links that lead to each other
            raise LedgerError(f"{given} cannot be a ledger: {error}. Give another file.") from error
        if os.path.isdir(self.path):  # unlike Path.is_dir, this never raises
            raise LedgerError(
                f"{given} cannot be a ledger: it is a directory. Give a file in it, such as "
                f"{given / 'ledger.sqlite'}, which need not exist."
            )
        self._file = Database(self.path, patience)
        self._is_examined = False  # whether the file was searched for damage
        self._given = heartbeat

    def __reduce__(self) -> Any:
        """Makes a copy a ledger in the same file."""
        return Ledger, (self.path,)

    @property
    def _heartbeat(self) -> Heartbeat:
        return HEARTBEAT if self._given is None else self._given

    def read(self, wanted: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns the results that are recorded, without changing anything.

        Args:
            wanted: The keys of points, each once.

        Returns:
            Key -> result; damaged results are left out.
        """
        with self._file.reading() as db:
            found = tables.points(db, wanted) if db else []
        results = {
            each.key: each.result for each in found if each.is_sound and each.result is not None
        }
        return {key: results[key] for key in wanted if key in results}

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Returns the keys for which points are recorded, measured or not."""
        with self._file.reading() as db:
            return {each.key for each in tables.points(db, keys)} if db else set()

    def claim(
        self,
        wanted: Sequence[bytes],
        drafts: Callable[[list[bytes]], Iterable[Draft]],
        *,
        remote: bool,
        **columns: str,
    ) -> Claims:
        """Looks points up, and claims those without results that nobody else is measuring.

        The caller has to `leave` the jobs `mine` and `doubtful` in the end.

        Args:
            wanted: The keys of points, each once.
            drafts: Makes the jobs that measure some of the points. If it raises an error, nothing
                is claimed.
            remote: Whether the jobs run on a service, and outlive this process.
            **columns: The target, access and run of new jobs, see `qshift.ledger.records.Record`.
        """
        with self._heartbeat.lock:
            with self._writing(len(wanted)) as db:
                claims = self._claimed(db, wanted, drafts, remote=remote, **columns)
            ours = (*claims.mine, *claims.doubtful)
            self._heartbeat.start(self.path, [record.id for record in ours])
        return claims

    def _claimed(
        self,
        db: sqlite3.Connection,
        wanted: Sequence[bytes],
        drafts: Callable[..., Any],
        **columns: Any,
    ) -> Claims:
        claims = Claims()
        waiting: dict[int, list[Point]] = {}
        free = dict.fromkeys(wanted)
        for point in tables.points(db, wanted):
            if point.key not in free:  # the index of keys and the table disagree: damage
                raise damage.error(self.path, damaged(point.job), point.job)
            del free[point.key]
            if point.is_sound and point.result is not None:
                claims.results[point.key] = point.result
            else:
                waiting.setdefault(point.job, []).append(point)
        for job, points in waiting.items():
            free |= dict.fromkeys(self._sort(db, claims, job, points))
        if not free:
            return claims
        if not self._is_examined:
            if what := damage.found(db):
                raise damage.error(self.path, what)
            self._is_examined = True
        for draft in drafts([key for key in wanted if key in free]):
            claims.mine.append(tables.insert(db, draft, owner=self._heartbeat.owner, **columns))
        return claims

    def _sort(
        self, db: sqlite3.Connection, claims: Claims, job: int, points: Sequence[Point]
    ) -> list[bytes]:
        """Puts a job into the list of `claims` that it belongs to.

        Returns:
            Keys of points that are free again because the job was deleted.
        """
        record, keys = tables.record(db, job), [point.key for point in points]
        if not all(point.is_sound for point in points):
            claims.sent.append(damage.to_be_fetched_again(db, self.path, job, points))
        elif record is None or not record.is_sound:
            raise damage.error(self.path, damaged(job), job)
        elif record.remote and record.state == "submitted":
            claims.sent.append(record)
        elif (owner := self._heartbeat.has_owner(self.path, record)) is not False:
            claims.others += keys
            if owner is None and record.remote and record.posts:
                claims.elsewhere.append(record)
        elif record.remote or len(keys) == record.points:
            us = {"state": "intended", "owner": self._heartbeat.owner, "touched": time.time()}
            tables.update(db, job, **us)
            (claims.doubtful if record.remote else claims.mine).append(tables.known(db, job))
        else:  # A simulation of a process that has ended, of which only a part is wanted.
            tables.forget(db, [job])
            return keys
        return []

    def leave(self, jobs: Iterable[Record]) -> None:
        """Gives up claimed jobs that have not ended.

        Those at a service are left to the next process that wants their results; the others are
        deleted.
        """
        jobs = list(jobs)
        if not jobs:
            return
        with self._heartbeat.lock:
            try:
                with self._file.writing() as db:
                    for record in jobs:
                        tables.abandon(db, record, self._heartbeat.owner)
            finally:
                self._heartbeat.stop(self.path, [record.id for record in jobs])

    def sending(self, job: Record) -> None:
        """Records that a request to create a job is about to go out.

        Raises:
            OvertakenError: If another process owns the job now. This one must not send it then.
        """
        with self._file.writing() as db:
            found = tables.current(db, job)
            if found is None or (found.state, found.owner) != ("intended", self._heartbeat.owner):
                raise OvertakenError(
                    f"Job {job.id} of the ledger {self.path} was taken over by another process, or "
                    "cancelled, before it was sent. Run this again."
                )
            now = {"posts": found.posts + 1, "posted": moment(), "touched": time.time()}
            tables.update(db, found.id, **now)

    def sent(self, job: Record, job_id: str, instance: str | None = None) -> Record:
        """Records that a job was sent. A job that was deleted meanwhile is recorded again.

        Args:
            job: The job.
            job_id: The job's id on the service.
            instance: A digest of the service's instance that has the job.

        Returns:
            The job as it is recorded now. It has another id if another process took this one for
            ended and sent the job as well.
        """
        with self._file.writing() as db:
            found = tables.current(db, job)
            if found is None:
                _log.warning("%s", self._deleted(job_id))
                found = tables.restored(db, job, job.keys)
            if found.state == "intended":
                about = {"job_id": job_id, "instance": instance, "touched": time.time()}
                tables.update(db, found.id, state="submitted", **about)
                found = tables.known(db, found.id)
        return found

    def store(
        self,
        job: Record,
        results: Mapping[bytes, bytes],
        seconds: float | None,
        job_id: str | None = None,
    ) -> None:
        """Stores all results of a job, also of one that was deleted or closed while it ran.

        Args:
            job: The job.
            results: Key of a point -> result.
            seconds: QPU seconds of the job.
            job_id: The service's id of the job that has run, if another one was recorded.
        """
        with self._file.writing() as db:
            if tables.current(db, job) is None:
                _log.warning("%s", self._deleted(job_id or job.job_id))
            found = tables.restored(db, job, results.keys())
            tables.store(db, found.id, results)
            end = {"state": "done", "finished": time.time(), "seconds": seconds, "owner": None}
            end |= {"message": None} | ({"job_id": job_id} if job_id else {})
            tables.update(db, found.id, **end)
        if lost := len(results.keys() - set(found.keys)):
            _log.warning(
                "%d results of job %s are not kept in the ledger %s: it was closed or deleted "
                "there, and another job measures the same now",
                lost,
                job_id or job.job_id,
                self.path,
            )

    def _deleted(self, job_id: str | None) -> str:
        return (
            f"Job {job_id} was deleted from the ledger {self.path} while it was waited for; it is "
            "recorded again"
        )

    def counted(self, job: Record, seconds: float) -> None:
        """Records the QPU seconds of a job that had ended before the service had counted them."""
        with self._file.writing() as db:
            if tables.current(db, job) is not None:
                tables.update(db, job.id, seconds=seconds)

    def close(self, job: Record, state: str, message: str, seconds: float | None = None) -> None:
        """Records that a job gives no results, so that its points can be sent again.

        Args:
            job: The job.
            state: ``"failed"``, ``"cancelled"`` or ``"lost"``.
            message: Why.
            seconds: How long the quantum processor took.
        """
        with self._file.writing() as db:
            # If some results of a job are damaged and the service has deleted it, the others stay.
            found = tables.current(db, job)
            if found is not None and not tables.free(db, found.id):
                end = {"state": state, "finished": time.time(), "seconds": seconds}
                tables.update(db, found.id, owner=None, message=message, **end)

    def forget(self, jobs: Collection[Record], lone: Collection[int] = ()) -> None:
        """Deletes jobs and their results.

        Args:
            jobs: The jobs.
            lone: Numbers of jobs that are not recorded, though some of their results are.
        """
        numbers = [job.id for job in jobs] + list(lone)
        if numbers:
            with self._file.writing() as db:
                tables.forget(db, numbers)

    def unsound(self) -> set[int]:
        """Returns the numbers of jobs with any damage."""
        with self._file.reading() as db:
            return damage.unsound(db) if db else set()

    def recoverable(self, number: int) -> Record:
        """Returns a job with damaged results that its service may still have.

        Raises:
            LedgerError: If more than the job's results is damaged, or the job ran on no service.
        """
        with self._file.reading() as db:
            assert db is not None, "what is damaged has a file"
            return damage.to_be_fetched_again(db, self.path, number)

    def jobs(self) -> list[Record]:
        """Returns all jobs, oldest first, without the keys of their points."""
        with self._file.reading() as db:
            return tables.jobs(db) if db else []

    def job(self, number: int) -> Record | None:
        """Returns a job, if there is one of this number."""
        with self._file.reading() as db:
            return tables.record(db, number) if db else None

    def points(self, job: Record) -> list[tuple[int, bytes, bytes | None]]:
        """Returns (PUB, angles, result) of each point of a job, in their order.

        Raises:
            LedgerError: If one of them is damaged.
        """
        with self._file.reading() as db:
            found = tables.points_of(db, job.id) if db else []
        if not job.is_sound or not all(point.is_sound for point in found):
            raise damage.error(self.path, damaged(job.id), job.id)
        return [(point.pub, point.angles, point.result) for point in found]

    @contextmanager
    def _writing(self, points: int) -> Iterator:
        """Opens the file for one transaction that claims points; if it cannot be written, the error
        says how many points are missing."""
        try:
            with self._file.writing() as db:
                yield db
        except ReadOnlyLedgerError as error:
            raise ReadOnlyLedgerError(
                f"{error} It lacks {points} points that are wanted, and what is sent has to be "
                "written down before. Nothing was sent; what it has can be read."
            ) from error
