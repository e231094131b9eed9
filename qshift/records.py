"""The tables of the ledger: jobs and the points that they measure."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

VERSION = 1
_MOST_MARKS = 500  # older SQLites take up to 999 parameters in a statement

SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tag TEXT NOT NULL UNIQUE,
    job_id TEXT,
    state TEXT NOT NULL,
    target TEXT NOT NULL,
    access TEXT NOT NULL,
    remote INTEGER NOT NULL,
    primitive TEXT NOT NULL,
    circuit TEXT NOT NULL,
    run TEXT NOT NULL,
    seed INTEGER,
    shots INTEGER NOT NULL,
    points INTEGER NOT NULL,
    created REAL NOT NULL,
    finished REAL,
    seconds REAL,
    message TEXT,
    owner TEXT,
    touched REAL NOT NULL
);
CREATE TABLE points (
    key BLOB PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES jobs (id),
    pub INTEGER NOT NULL,
    place INTEGER NOT NULL,
    angles BLOB NOT NULL,
    result BLOB
);
CREATE INDEX points_of_jobs ON points (job, pub, place);
"""


@dataclass(frozen=True)
class Draft:
    """A job that is to be sent.

    Attributes:
        primitive: ``"estimator"`` or ``"sampler"``.
        circuit: What it runs, for people.
        pubs: (key, angles) of its points, PUB by PUB. Angles are float64[P] as bytes.
        shots: Of all its points and bases; 0 for exact results.
        seed: Of a simulator.
    """

    primitive: str
    circuit: str
    pubs: Sequence[Sequence[tuple[bytes, bytes]]]
    shots: int
    seed: int | None


@dataclass(frozen=True)
class Record:
    """A job as it is recorded.

    Attributes:
        id: Its number in the ledger.
        tag: By which a service finds it.
        job_id: Where it runs; None before it was sent.
        state: ``"intended"``, ``"submitted"``; ``"done"``, ``"failed"`` or ``"cancelled"``.
        target: Name of the backend.
        access: By which account and instance of the service it is reached: their names, as JSON.
        remote: Whether it outlives the process.
        primitive, circuit, seed, shots: As in a `Draft`.
        run: Name of the run.
        points: How many it measures.
        created: Unix time.
        finished: Unix time.
        seconds: That the quantum processor took.
        message: Why there are no results.
        owner: The process that is sending it, or running it; None if it is at a service.
        touched: When its owner was last heard of, Unix time.
        pubs: Keys of the points, PUB by PUB; those of failed and cancelled jobs are free again.
    """

    id: int
    tag: str
    job_id: str | None
    state: str
    target: str
    access: str
    remote: bool
    primitive: str
    circuit: str
    run: str
    seed: int | None
    shots: int
    points: int
    created: float
    finished: float | None
    seconds: float | None
    message: str | None
    owner: str | None
    touched: float
    pubs: tuple[tuple[bytes, ...], ...]

    @property
    def keys(self) -> list[bytes]:
        """The keys of its points, in order."""
        return [key for pub in self.pubs for key in pub]

    @property
    def sizes(self) -> list[int]:
        """The number of points in each PUB."""
        return [len(pub) for pub in self.pubs]


_COLUMNS = ", ".join(each.name for each in fields(Record) if each.name != "pubs")


def _record(row, pubs=()) -> Record:
    found = Record(*row, pubs=pubs)
    return replace(found, remote=bool(found.remote))  # SQLite has no booleans


def points(db: sqlite3.Connection, keys: Sequence[bytes]) -> list[tuple[bytes, int, bytes | None]]:
    """Returns (key, job, result) of those points that there are."""
    found = []
    for first in range(0, len(keys), _MOST_MARKS):
        some = keys[first : first + _MOST_MARKS]
        marks = ",".join("?" * len(some))
        found += db.execute(f"SELECT key, job, result FROM points WHERE key IN ({marks})", some)
    return found


def jobs(db: sqlite3.Connection) -> list[Record]:
    """Returns all jobs, without the keys of their points."""
    return [_record(row) for row in db.execute(f"SELECT {_COLUMNS} FROM jobs ORDER BY id")]


def record(db: sqlite3.Connection, job: int) -> Record | None:
    """Returns a job, if there is one of this number."""
    row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job,)).fetchone()
    if row is None:
        return None
    pubs: dict[int, list[bytes]] = {}
    order = "SELECT pub, key FROM points WHERE job = ? ORDER BY pub, place"
    for pub, key in db.execute(order, (job,)):
        pubs.setdefault(pub, []).append(key)
    return _record(row, tuple(map(tuple, pubs.values())))


def insert(db: sqlite3.Connection, draft: Draft, **others) -> Record:
    """Writes down a job that is about to be sent.

    Args:
        db: The database.
        draft: The job.
        **others: Further columns.
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
    names, marks = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    job = db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", columns).lastrowid
    db.executemany(
        "INSERT INTO points (key, job, pub, place, angles) VALUES (?, ?, ?, ?, ?)",
        [
            (key, job, pub, place, angles)
            for pub, some in enumerate(draft.pubs)
            for place, (key, angles) in enumerate(some)
        ],
    )
    return record(db, job)


def update(db: sqlite3.Connection, job: int, **columns) -> None:
    """Changes columns of a job."""
    changes = ", ".join(f"{name} = :{name}" for name in columns)
    db.execute(f"UPDATE jobs SET {changes} WHERE id = :job", {**columns, "job": job})


def abandon(db: sqlite3.Connection, job: Record) -> None:
    """Leaves a job at a service to others; forgets another one, unless it has come to an end."""
    if job.remote:
        db.execute("UPDATE jobs SET owner = NULL WHERE id = ? AND owner NOTNULL", (job.id,))
    elif db.execute("SELECT 1 FROM jobs WHERE id = ? AND finished ISNULL", (job.id,)).fetchone():
        forget(db, [job.id])


def forget(db: sqlite3.Connection, jobs: Iterable[int]) -> None:
    """Deletes jobs and the results they gave."""
    for job in jobs:
        db.execute("DELETE FROM points WHERE job = ?", (job,))
        db.execute("DELETE FROM jobs WHERE id = ?", (job,))
