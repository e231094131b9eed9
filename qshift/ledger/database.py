"""The ledger's file: opened anew for each transaction, and readable where it cannot be written.

A transaction writes all of its changes or none, also if the process is killed or the power fails. A
file of an earlier version is brought up to date when it is first opened.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qshift.errors import QShiftError
from qshift.forks import Lock
from qshift.ledger import schema

PATIENCE = 60.0  # seconds to wait for other processes' transactions
_log = logging.getLogger("qshift")


class LedgerError(QShiftError, OSError):
    """Raised for a ledger that cannot be used. Nothing is sent then.

    Attributes:
        problem: What is wrong with the ledger, without the advice for users who have sent nothing.

    Example:
        >>> from qshift.ledger import Ledger
        >>> Ledger(".")
        Traceback (most recent call last):
        qshift.ledger.database.LedgerError: . cannot be a ledger: it is a directory. ...
    """

    problem = ""


class ReadOnlyLedgerError(LedgerError):
    """Raised for a ledger that lacks some of the points that are wanted, and cannot be written."""


class Database:
    """A file with the tables of `qshift.ledger.schema`.

    Args:
        path: The file. The file and its directory are made when they are first written to.
        patience: Seconds to wait for other processes' transactions. After a twentieth of this time,
            a warning says that it waits.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self._patience = patience
        # A private copy of a file that cannot be written, and the original's state when copied.
        self._copied: tuple[tuple, Path] | None = None
        self._lock = Lock()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Opens the file for one transaction that writes; an error leaves it as it was.

        Raises:
            LedgerError: If it cannot be used.
        """
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = self._begun(self.path, "BEGIN IMMEDIATE")
            try:
                _bring_up_to_date(db)
                yield db
                db.execute("COMMIT")
            finally:
                db.close()  # rolls back changes that were not committed

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Opens the file for one transaction that reads; None if there is no file yet.

        Raises:
            LedgerError: If it cannot be used.
        """
        with self._errors():
            db = self._open_to_read()
            try:
                yield db
            finally:
                if db is not None:
                    db.close()

    @property
    def is_writable(self) -> bool:
        """Whether the file's permissions allow writing; a full disk, for example, shows later."""
        there = self.path.exists()
        return os.access(self.path.parent, os.W_OK) and (not there or os.access(self.path, os.W_OK))

    def _open_to_read(self) -> sqlite3.Connection | None:
        if not self.path.exists() or not self.path.stat().st_size:
            return None
        if self.is_writable:
            db = self._begun(self.path, "BEGIN")
            if schema.version(db) == schema.VERSION:
                return db
            db.close()
            with self.writing():
                pass  # to open the file brings it up to date, or raises
            return self._begun(self.path, "BEGIN")
        if Path(f"{self.path}-shm").exists():  # another process has opened it, and may write
            try:
                db = self._begun(self.path, "BEGIN")
                if schema.version(db) == schema.VERSION:
                    return db
                db.close()
            except sqlite3.Error:
                pass
        return self._begun(self._copy(), "BEGIN")

    def _copy(self) -> Path:
        """Returns the path of a copy of the file that is up to date, with the write-ahead log,
        which SQLite does not read where it cannot write."""
        parts = [Path(f"{self.path}{end}") for end in ("", "-wal")]
        parts = [part for part in parts if part.exists()]
        state = tuple((part.stat().st_mtime_ns, part.stat().st_size) for part in parts)
        with self._lock:
            if self._copied is None or self._copied[0] != state:
                directory = tempfile.mkdtemp(prefix="qshift-ledger-")
                # The copy is deleted at the end of the process at the latest.
                weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
                for part in parts:
                    shutil.copyfile(part, Path(directory, part.name))
                with Database(Path(directory, self.path.name)).writing():
                    pass
                if self._copied is not None:
                    shutil.rmtree(self._copied[1], ignore_errors=True)
                self._copied = state, Path(directory)
            return self._copied[1] / self.path.name

    def _begun(self, path: Path, begin: str) -> sqlite3.Connection:
        """Opens a file and begins a transaction, after waiting for those of other processes."""
        start, said = time.monotonic(), False
        while True:
            db = sqlite3.connect(path, timeout=self._patience / 20, isolation_level=None)
            try:
                # Damaged text must not keep other rows from being read.
                db.text_factory = lambda text: text.decode(errors="surrogateescape")
                if begin != "BEGIN" and not schema.version(db):
                    db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")  # transactions survive a power failure
                db.execute(begin)
                schema.require_known(db)  # its query also begins a reading transaction
                return db
            except BaseException as error:
                db.close()
                locked = _is(error, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not locked or time.monotonic() - start > self._patience:
                    raise
            if not said:
                said = True
                _log.warning("Waiting for another process that has locked the ledger %s", path)
            time.sleep(0.05)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns errors into a LedgerError that says what is wrong with the file and what to do."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            if isinstance(error, QShiftError):
                raise
            kind = ReadOnlyLedgerError if _is_read_only(error) else LedgerError
            hint = self._hint(error)
            problem = f"The ledger {self.path} cannot be used: {error}. {hint}".rstrip()
            raised = kind(
                f"{problem} Give the device ledger= (or set QSHIFT_LEDGER to) another file, or "
                "ledger=False to do without."
            )
            raised.problem = problem
            raise raised from error

    def _hint(self, error: BaseException) -> str:
        """Returns a text with the meaning of an error of SQLite's and the way out; "" where the
        error itself says enough."""
        if _is(error, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return (
                "It is damaged, or no ledger. Put a copy from a backup in its place; of a damaged "
                "file `sqlite3 FILE .recover` saves what is left. "
            )
        if _is(error, sqlite3.SQLITE_BUSY):
            return f"Another process has kept it locked for {self._patience:.0f} s; end that one. "
        if _is(error, sqlite3.SQLITE_FULL) or getattr(error, "errno", None) == errno.ENOSPC:
            return "Make room on its disk. "
        return ""


def _bring_up_to_date(db: sqlite3.Connection) -> None:
    if schema.version(db) != schema.VERSION:
        schema.migrate(db)


def _is(error: BaseException, *codes: int) -> bool:
    """Whether an error is one of SQLite's, given by its primary codes."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in codes


def _is_read_only(error: BaseException) -> bool:
    refused = getattr(error, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS)
    return refused or _is(error, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
