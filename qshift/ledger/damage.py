"""Damage to a ledger: where rows are not as they were written, and the error that says so.

A faulty disk or memory may change stored data. Each row has a checksum (`schema`), so that a
changed result is never taken for a measured one. If a row that says which points are recorded is
damaged, points might not be found and would be measured, and paid for, again: then nothing is sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from qshift.ledger import tables
from qshift.ledger.database import LedgerError
from qshift.ledger.records import Point, Record
from qshift.ledger.schema import damaged


def error(path: Path, what: str, job: int | None = None, lone: bool = False) -> LedgerError:
    """Returns the error for damage to a ledger.

    Args:
        path: The ledger's file.
        what: What is damaged, as the subject of a sentence.
        job: The number of the job, if the damage concerns one job only.
        lone: Whether results name this job, but no such job is recorded.
    """
    prune = ""
    if job is not None:
        which = "what belongs to no job (qshift jobs prune)"
        if not lone:
            which = f"that job (qshift jobs prune {job})"
        prune = (
            f", or delete {which}: what it has measured is then measured again, and on "
            "hardware paid for again"
        )
    return LedgerError(
        f"The ledger {path} is damaged: {what}. Nothing of it was used, and nothing was "
        f"sent. Put a copy from a backup in its place{prune}. Another file (ledger=, "
        "QSHIFT_LEDGER) starts empty."
    )


def to_be_fetched_again(
    db: sqlite3.Connection, path: Path, job: int, points: Sequence[Point] = ()
) -> Record:
    """Returns a job with damaged results, if its service may still have them.

    Args:
        db: The database.
        path: The database's file, for messages.
        job: The number of the job.
        points: The points that name this job as theirs.

    Raises:
        LedgerError: If more than the job's results is damaged, or the job ran on no service.
    """
    record = tables.record(db, job)
    sealed = [point.is_sealed for point in (*points, *tables.points_of(db, job))]
    if record is None:
        raise error(path, damaged(job), job, True)
    is_whole = record.is_sound and all(sealed) and len(record.keys) == record.points
    is_whole = is_whole and {point.key for point in points} <= {*record.keys}
    if not (is_whole and record.remote and record.job_id):
        raise error(path, damaged(job), job, False)
    return record


def found(db: sqlite3.Connection) -> str | None:
    """Returns a sentence if there is damage because of which recorded points might not be found,
    else None. Damaged results are not looked for here, as they are noticed when they are read.
    """
    (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        return said
    sound = {}
    for job in tables.jobs(db):
        sound[job.id] = job.is_sound
        if not job.is_sound:
            return damaged(job.id)
    for point in tables.all_points(db):
        if not point.is_sealed or point.job not in sound:
            return damaged(point.job)
    return None


def unsound(db: sqlite3.Connection) -> set[int]:
    """Returns the numbers of jobs with any damage."""
    jobs = {job.id for job in tables.jobs(db) if not job.is_sound}
    return jobs | {point.job for point in tables.all_points(db) if not point.is_sound}
