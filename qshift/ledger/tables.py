"""Reading and writing the rows of the ledger's tables, each function within one transaction."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from qshift.ledger.records import Draft, Point, Record
from qshift.ledger.schema import JOB, damaged, digest, of_job

_MOST_MARKS = 500  # older SQLites take up to 999 parameters in a statement


_JOB = f"SELECT {', '.join(JOB)}, checksum FROM jobs"
_POINT = "key, job, pub, place, angles, result, seal, checksum"


def _point(row: Sequence[Any]) -> Point:
    *content, seal, checksum = row
    *identity, result = content
    key, job, pub, place, angles = identity
    is_sealed = seal == digest(*identity)
    measured = None if result is None else digest(*content)
    is_sound = is_sealed and checksum == measured
    return Point(key, job, pub, place, angles, result, is_sealed, is_sound)


def _record(
    row: Sequence[Any], pubs: tuple[tuple[bytes, ...], ...] = (), angles: tuple[bytes, ...] = ()
) -> Record:
    *values, checksum = row
    about: dict[str, Any] = dict(zip(JOB, values, strict=True))
    about["remote"] = bool(about["remote"])  # SQLite has no booleans
    return Record(**about, is_sound=checksum == of_job(values), pubs=pubs, angles=angles)


def points(db: sqlite3.Connection, keys: Sequence[bytes]) -> list[Point]:
    """Returns the points of some keys, as far as they are recorded."""
    found: list[Point] = []
    for first in range(0, len(keys), _MOST_MARKS):
        some = keys[first : first + _MOST_MARKS]
        marks = ",".join("?" * len(some))
        rows = db.execute(f"SELECT {_POINT} FROM points WHERE key IN ({marks})", some)
        found += map(_point, rows)
    return found


def points_of(db: sqlite3.Connection, job: int) -> list[Point]:
    """Returns the points of a job, in their order."""
    where = "WHERE job = ? ORDER BY pub, place"
    return list(map(_point, db.execute(f"SELECT {_POINT} FROM points {where}", (job,))))


def all_points(db: sqlite3.Connection) -> Iterator[Point]:
    """Yields all points."""
    return map(_point, db.execute(f"SELECT {_POINT} FROM points"))


def jobs(db: sqlite3.Connection) -> list[Record]:
    """Returns all jobs, without the keys of their points."""
    return [_record(row) for row in db.execute(f"{_JOB} ORDER BY id")]


def record(db: sqlite3.Connection, job: int) -> Record | None:
    """Returns a job, if there is one of this number."""
    row = db.execute(f"{_JOB} WHERE id = ?", (job,)).fetchone()
    if row is None:
        return None
    pubs: dict[int, list[bytes]] = {}
    found = points_of(db, job)
    for point in found:
        pubs.setdefault(point.pub, []).append(point.key)
    return _record(row, tuple(map(tuple, pubs.values())), tuple(point.angles for point in found))


def current(db: sqlite3.Connection, job: Record) -> Record | None:
    """Returns a job as it is recorded now; None if it was deleted.

    The job is found by its tag: if the file was deleted, another job may have its number.

    Raises:
        OSError: If the job that has its number is damaged, because that may be this job.
    """
    row = db.execute("SELECT id FROM jobs WHERE tag = ?", (job.tag,)).fetchone()
    if row is not None:
        return record(db, *row)
    other = record(db, job.id)
    if other is not None and not other.is_sound:
        raise OSError(damaged(job.id))
    return None


def restored(db: sqlite3.Connection, job: Record, keys: Collection[bytes]) -> Record:
    """Records the deleted parts of a job again, and returns the job as it is recorded then.

    Args:
        db: The database.
        job: The job as it was.
        keys: The keys of the points to record again, unless another job has them now.
    """
    found = current(db, job)
    if found is None:
        columns = {name: getattr(job, name) for name in JOB if name != "id"}
        number = _inserted(db, columns)
    else:
        number = found.id
    taken = {point.key for point in points(db, job.keys)}
    places = [(pub, place) for pub, some in enumerate(job.pubs) for place in range(len(some))]
    layout = zip(job.keys, places, job.angles, strict=True)
    _insert_points(
        db,
        number,
        [(key, *at, angles) for key, at, angles in layout if key in keys and key not in taken],
    )
    _guard(db, number)
    return known(db, number)


def insert(db: sqlite3.Connection, draft: Draft, **others: Any) -> Record:
    """Records a job that is about to be sent.

    Args:
        db: The database.
        draft: The job.
        **others: Further columns of the job's row.
    """
    now = time.time()
    columns = {
        "tag": f"qshift-{uuid.uuid4()}",
        "state": "intended",
        "primitive": draft.primitive,
        "circuit": draft.circuit,
        "seed": draft.seed,
        "shots": draft.shots,
        "points": sum(map(len, draft.pubs)),
        "created": now,
        "touched": now,
        **others,
    }
    job = _inserted(db, columns)
    _insert_points(
        db,
        job,
        [
            (key, pub, place, angles)
            for pub, some in enumerate(draft.pubs)
            for place, (key, angles) in enumerate(some)
        ],
    )
    _guard(db, job)
    return known(db, job)


def known(db: sqlite3.Connection, job: int) -> Record:
    """Returns the job of a number that is recorded."""
    found = record(db, job)
    assert found is not None, f"job {job} is missing"
    return found


def _inserted(db: sqlite3.Connection, columns: Mapping[str, Any]) -> int:
    names, marks = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    number = db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", columns).lastrowid
    assert number is not None  # as after every INSERT
    return number


def _insert_points(db: sqlite3.Connection, job: int, layout: Sequence[tuple[Any, ...]]) -> None:
    """Records points of a job, given as (key, PUB, row of the PUB, angles)."""
    rows = [(key, job, *others) for key, *others in layout]
    db.executemany(
        "INSERT INTO points (key, job, pub, place, angles, seal) VALUES (?, ?, ?, ?, ?, ?)",
        [(*row, digest(*row)) for row in rows],
    )


def update(db: sqlite3.Connection, job: int, **columns: Any) -> None:
    """Changes columns of a job.

    Raises:
        OSError: If the job is damaged: a new checksum would hide the damage.
    """
    found = db.execute(f"{_JOB} WHERE id = ?", (job,)).fetchone()
    if found is None:  # it was deleted meanwhile
        return
    *before, checksum = found
    if checksum != of_job(before):
        raise OSError(damaged(job))
    changes = ", ".join(f"{name} = :{name}" for name in columns)
    db.execute(f"UPDATE jobs SET {changes} WHERE id = :job", {**columns, "job": job})
    _guard(db, job)


def touch(db: sqlite3.Connection, job: int, owner: str) -> None:
    """Records a sign of life of the owner of a job."""
    where = "WHERE id = ? AND owner = ?"
    db.execute(f"UPDATE jobs SET touched = ? {where}", (time.time(), job, owner))


def _guard(db: sqlite3.Connection, job: int) -> None:
    *row, _ = db.execute(f"{_JOB} WHERE id = ?", (job,)).fetchone()
    db.execute("UPDATE jobs SET checksum = ? WHERE id = ?", (of_job(row), job))


def store(db: sqlite3.Connection, job: int, results: Mapping[bytes, bytes]) -> None:
    """Stores results of a job's points."""
    rows = []
    for point in points_of(db, job):
        if point.is_sealed and point.key in results:
            content = (point.key, job, point.pub, point.place, point.angles, results[point.key])
            rows.append((results[point.key], digest(*content), point.key))
    db.executemany("UPDATE points SET result = ?, checksum = ? WHERE key = ?", rows)


def free(db: sqlite3.Connection, job: int) -> int:
    """Deletes the points of a job that have no result, or a damaged one; returns how many stay."""
    found = points_of(db, job)
    db.executemany(
        "DELETE FROM points WHERE key = ?",
        [(point.key,) for point in found if point.result is None or not point.is_sound],
    )
    return sum(point.result is not None and point.is_sound for point in found)


def abandon(db: sqlite3.Connection, job: Record, owner: str) -> None:
    """Gives up a job: a job at a service loses its owner; any other job is deleted if it has not
    ended.

    Args:
        db: The database.
        job: The job.
        owner: The process that gives the job up. If another process owns it, nothing happens.
    """
    found = current(db, job)
    if found is None or found.owner != owner:
        return
    if found.remote:
        update(db, found.id, owner=None)
    elif found.finished is None:
        forget(db, [found.id])


def forget(db: sqlite3.Connection, jobs: Iterable[int]) -> None:
    """Deletes jobs, given by their numbers, and their points."""
    for job in jobs:
        db.execute("DELETE FROM points WHERE job = ?", (job,))
        db.execute("DELETE FROM jobs WHERE id = ?", (job,))
