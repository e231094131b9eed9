"""The ledger's tables: how they are made, brought up to date, and guarded by checksums.

Every row has a checksum, by which a change by a faulty disk or memory is noticed. A point has two:
`seal` covers all but its result, and `checksum` covers the result as well.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

VERSION = 2

_SCHEMA = """
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
# The changes from version 1 to version 2. A new file goes through both versions, so that it is the
# same as an old file that was brought up to date.
_SINCE_1 = """
ALTER TABLE jobs ADD COLUMN posts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN posted TEXT;
ALTER TABLE jobs ADD COLUMN instance TEXT;
ALTER TABLE jobs ADD COLUMN checksum BLOB;
ALTER TABLE points ADD COLUMN seal BLOB;
ALTER TABLE points ADD COLUMN checksum BLOB;
"""
# The columns of a job, the checksum excepted.
JOB = (
    "id tag job_id state target access remote primitive circuit run seed shots points created "
    "finished seconds message owner touched posts posted instance"
).split()


def digest(*parts: Any) -> bytes:
    """Returns an 8-byte digest of values and their types."""
    made = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = part if isinstance(part, bytes) else repr(part).encode(errors="surrogateescape")
        made.update(b"%d %d " % (isinstance(part, bytes), len(text)) + text)
    return made.digest()


def of_job(row: Sequence[Any]) -> bytes:
    """Returns the checksum of a job, given as the values of `JOB`. It does not cover `touched`,
    which changes often."""
    return digest(*(v for name, v in zip(JOB, row, strict=True) if name != "touched"))


def version(db: sqlite3.Connection) -> int:
    """Returns the version of a file's tables; 0 if it has none."""
    return db.execute("PRAGMA user_version").fetchone()[0]


def require_known(db: sqlite3.Connection) -> None:
    """Raises OSError for a file that is no ledger, or that a newer release has written."""
    found = version(db)
    if found > VERSION:
        raise OSError(
            f"it is of version {found}, and this release of qshift knows versions up to {VERSION}. "
            "Install the release that has written it, or a later one"
        )
    if not found and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise OSError("it is an SQLite file with something else than a ledger in it")


def migrate(db: sqlite3.Connection) -> None:
    """Makes the tables of this version, and keeps the records of earlier versions."""
    if not version(db):
        _execute(db, _SCHEMA)
    _execute(db, _SINCE_1)
    # Earlier releases did not count requests: any of these jobs may have reached the service.
    db.execute("UPDATE jobs SET posts = 1 WHERE remote AND state IN ('intended', 'submitted')")
    for row in db.execute(f"SELECT {', '.join(JOB)} FROM jobs").fetchall():
        db.execute("UPDATE jobs SET checksum = ? WHERE id = ?", (of_job(row), row[0]))
    seals = []
    for content in db.execute("SELECT key, job, pub, place, angles, result FROM points"):
        *identity, result = content
        measured = None if result is None else digest(*content)
        seals.append((digest(*identity), measured, content[0]))
    db.executemany("UPDATE points SET seal = ?, checksum = ? WHERE key = ?", seals)
    db.execute(f"PRAGMA user_version = {VERSION}")


def _execute(db: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        db.execute(statement)


def damaged(job: int) -> str:
    """Returns a sentence that says that the record of a job is damaged."""
    return f"what it has of job {job} is damaged: it does not match its checksum"
