"""The ledger's file where it is old, damaged, locked, full, or not to be written."""

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from qshift.ledger import damage, schema
from qshift.ledger import ledger as ledgers
from qshift.ledger.database import Database, LedgerError, ReadOnlyLedgerError
from qshift.ledger.heartbeat import Heartbeat
from qshift.ledger.ledger import Ledger
from qshift.ledger.records import Draft

COLUMNS = {"target": "ibm:ibm_one", "access": "{}", "run": "r"}
VERSION_1 = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tag TEXT NOT NULL UNIQUE, job_id TEXT,
    state TEXT NOT NULL, target TEXT NOT NULL, access TEXT NOT NULL, remote INTEGER NOT NULL,
    primitive TEXT NOT NULL, circuit TEXT NOT NULL, run TEXT NOT NULL, seed INTEGER,
    shots INTEGER NOT NULL, points INTEGER NOT NULL, created REAL NOT NULL, finished REAL,
    seconds REAL, message TEXT, owner TEXT, touched REAL NOT NULL
);
CREATE TABLE points (
    key BLOB PRIMARY KEY, job INTEGER NOT NULL REFERENCES jobs (id), pub INTEGER NOT NULL,
    place INTEGER NOT NULL, angles BLOB NOT NULL, result BLOB
);
CREATE INDEX points_of_jobs ON points (job, pub, place);
PRAGMA user_version = 1;
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """As for a new process, which writes no signs of life while a test looks at a file."""
    monkeypatch.setattr(ledgers, "HEARTBEAT", Heartbeat(beat=3600.0))


def key(i):
    return b"%016d" % i


def drafts(keys):
    return [Draft("estimator", "c", [[(k, np.arange(3.0).tobytes()) for k in keys]], 100, None)]


def claim(ledger, *numbers, remote=True):
    return ledger.claim(list(map(key, numbers)), drafts, remote=remote, **COLUMNS)


def result(i):
    return np.array([[0.1 * i], [0.01]]).tobytes()


def filled(path, jobs=4, points=5):
    """A ledger with results."""
    ledger = Ledger(path)
    for j in range(jobs):
        numbers = range(j * points, (j + 1) * points)
        (job,) = claim(ledger, *numbers).mine
        ledger.sent(job, f"job-{j}", "here")
        ledger.store(job, {key(i): result(i) for i in numbers}, 1.5)
    return ledger


def change(ledger, statement, *values):
    with sqlite3.connect(ledger.path) as db:
        assert db.execute(statement, values).rowcount == 1
    db.close()


def read(ledger, *numbers):
    return ledger.read(list(map(key, numbers)))


# Files of an earlier version


@pytest.fixture
def old(tmp_path):
    """A ledger of version 1, with jobs in every state."""
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(VERSION_1)
        states = ("done", "submitted", "intended", "failed", "intended")
        for number, state in enumerate(states, start=1):
            remote, owner = number < 5, "host 99999999 1.0" if state == "intended" else None
            job = f"job-{number}" if state in ("done", "submitted") else None
            row = (f"qshift-{number}", job, state, remote, 0.5 if number == 1 else None, owner)
            db.execute(
                "INSERT INTO jobs (tag, job_id, state, target, access, remote, primitive, circuit, "
                "run, shots, points, created, finished, owner, touched) VALUES (?, ?, ?, "
                "'ibm:ibm_one', '{}', ?, 'estimator', 'c', 'r', 100, 2, 1.25, ?, ?, 2.5)",
                row,
            )
            for i in range(2 * number, 2 * number + 2 * (state != "failed")):
                about = (key(i), number, 0, i % 2, b"12345678", result(i) if number == 1 else None)
                db.execute("INSERT INTO points VALUES (?, ?, ?, ?, ?, ?)", about)
    db.close()
    return Ledger(path)


def test_an_old_file_is_brought_up_to_date(old):
    assert read(old, 2, 3, 4) == {key(2): result(2), key(3): result(3)}
    jobs = old.jobs()
    assert all(job.is_sound for job in jobs)
    assert [job.state for job in jobs] == ["done", "submitted", "intended", "failed", "intended"]
    assert [job.posts for job in jobs] == [0, 1, 1, 0, 0]  # a service may have those two
    assert (jobs[0].created, jobs[0].touched, jobs[0].finished) == (1.25, 2.5, 0.5)
    assert old.points(jobs[0]) == [(0, b"12345678", result(2)), (0, b"12345678", result(3))]


def test_what_an_old_file_has_is_not_sent_again(old):
    old = Ledger(old.path, Heartbeat(silence=-1.0))
    claim(old, *range(2, 8))  # its processes cannot be looked up; they give no sign of life
    claims = claim(old, *range(2, 10))
    assert set(claims.results) == {key(2), key(3)}
    assert [job.id for job in claims.sent] == [2]
    assert [(job.id, job.posts) for job in claims.doubtful] == [(3, 1)]
    assert [job.keys for job in claims.mine] == [[key(8), key(9)]]  # of the job that had failed
    claim(old, 10, 11, remote=False)
    assert [job.id for job in claim(old, 10, 11, remote=False).mine] == [5]


def test_an_upgrade_that_is_killed_leaves_the_old_file(old, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(schema, "of_job", killed)
        with pytest.raises(KeyboardInterrupt):
            old.jobs()
    with sqlite3.connect(old.path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT * FROM jobs").fetchone()[0] == 1
        assert len(db.execute("SELECT * FROM jobs").fetchone()) == 19
    db.close()
    assert len(old.jobs()) == 5


def test_a_new_file_has_the_tables_of_an_old_one(old, tmp_path):
    def columns(ledger):
        ledger.jobs()
        with sqlite3.connect(ledger.path) as db:
            found = [db.execute(f"PRAGMA table_info({t})").fetchall() for t in ("jobs", "points")]
        db.close()
        return found

    new = Ledger(tmp_path / "new")
    claim(new, 1)
    assert columns(new) == columns(old)


# Damage


@pytest.mark.parametrize("part", ["result", "checksum", "angles", "seal", "pub", "place"])
def test_a_result_that_was_changed_is_never_read(part, tmp_path):
    ledger = filled(tmp_path / "ledger")
    value = {"pub": 1, "place": 7}.get(part, b"\0" * 16)
    change(ledger, f"UPDATE points SET {part} = ? WHERE key = ?", value, key(6))
    assert read(ledger, 5, 6, 7) == {key(5): result(5), key(7): result(7)}
    (job,) = (job for job in ledger.jobs() if job.job_id == "job-1")
    with pytest.raises(LedgerError, match=r"damaged: what it has of job 2 .*qshift jobs prune 2"):
        ledger.points(job)
    if part in ("result", "checksum"):  # a service may have it still
        claims = claim(ledger, 5, 6, 7)
        assert [job.id for job in claims.sent] == [2] and len(claims.results) == 2
        ledger.store(claims.sent[0], {key(i): result(i) for i in range(5, 10)}, 1.5)
        assert read(ledger, 6) == {key(6): result(6)}
    else:
        with pytest.raises(LedgerError, match="damaged: what it has of job 2 "):
            claim(ledger, 5, 6, 7)
    assert len(ledger.jobs()) == 4


def test_a_simulated_result_that_was_changed_is_an_error_with_a_way_out(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    (job,) = claim(ledger, 1, 2, remote=False).mine
    ledger.store(job, {key(1): result(1), key(2): result(2)}, None)
    change(ledger, "UPDATE points SET result = ? WHERE key = ?", result(3), key(2))
    with pytest.raises(LedgerError, match="Nothing of it was used.*backup.*qshift jobs prune 1"):
        claim(ledger, 1, 2, remote=False)
    assert claim(ledger, 1, remote=False).results == {key(1): result(1)}
    ledger.forget([job])
    assert len(claim(ledger, 1, 2, remote=False).mine) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE points SET key = x'00' WHERE key = ?",
        "UPDATE points SET job = 77 WHERE key = ?",
        "UPDATE jobs SET job_id = 'job-7' WHERE id = 2 AND ? NOTNULL",
        "UPDATE jobs SET state = 'lost' WHERE id = 2 AND ? NOTNULL",
    ],
)
def test_nothing_is_sent_where_something_may_be_recorded_that_is_not_found(statement, tmp_path):
    ledger = filled(tmp_path / "ledger")
    change(ledger, statement, key(6))
    with pytest.raises(LedgerError, match="is damaged: .*Nothing .* sent. Put a copy from a back"):
        claim(Ledger(ledger.path), 6, 100)
    assert len(ledger.jobs()) == 4
    assert read(ledger, 1) == {key(1): result(1)}  # and the others are still of use


def test_a_job_that_was_changed_is_not_changed_further(tmp_path):
    ledger = filled(tmp_path / "ledger")
    job = ledger.job(2)
    change(ledger, "UPDATE jobs SET tag = 'another' WHERE id = ?", 2)
    with pytest.raises(LedgerError, match="what it has of job 2 is damaged"):
        ledger.store(job, {}, None)
    assert [each.is_sound for each in ledger.jobs()] == [True, False, True, True]


def test_flipped_bits_are_errors_and_never_numbers(tmp_path):
    """Nor are they ever "nothing is recorded", upon which all would be paid for again."""
    whole = filled(tmp_path / "whole", jobs=3, points=4)
    wanted = range(12)
    truth = {key(i): result(i) for i in wanted}
    data = whole.path.read_bytes()
    rng, seen = random.Random(0), {"read": 0, "asked again": 0, "refused": 0}
    for _ in range(400):
        bit = rng.randrange(8 * len(data))
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        ledger = Ledger(tmp_path / "broken")
        for end in ("-wal", "-shm"):
            Path(f"{ledger.path}{end}").unlink(missing_ok=True)
        ledger.path.write_bytes(broken)
        try:
            claims = claim(ledger, *wanted)
            assert not claims.mine and not claims.others, bit
            results = {**claims.results}
            for job in claims.sent:  # a service has the whole job
                assert job.job_id == f"job-{job.id - 1}" and job.remote, bit
                results |= {k: truth[k] for k in job.keys}
            assert results == truth, bit
            seen["asked again" if claims.sent else "read"] += 1
        except LedgerError:
            seen["refused"] += 1
    assert min(seen.values()) > 5, seen


# Where it cannot be written


def as_nobody(code, *arguments):
    """Runs a program as a user who may not write; its output."""
    if os.geteuid():
        pytest.skip("this takes root")
    before = "import encodings.ascii, os, sys, tempfile, qshift.ledger\n"
    before += "os.setgid(65534); os.setuid(65534)\n"
    code = before + textwrap.dedent(code)  # the interpreter itself need not be for all to read
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert not done.returncode, done.stderr
    return done.stdout


READER = """
import sys
from qshift.ledger import Ledger, LedgerError
from qshift.ledger.records import Draft
ledger = Ledger(sys.argv[1])
print(len(ledger.jobs()), len(ledger.read([b"%016d" % i for i in range(2, 100)])))
try:
    draft = Draft("estimator", "c", [[(b"new", b"")]], 1, None)
    about = {"target": "t", "access": "{}", "run": ""}
    ledger.claim([b"%016d" % 2, b"new"], lambda keys: [draft], remote=True, **about)
except LedgerError as error:
    print(error)
"""


@pytest.fixture
def place(tmp_path):
    """A directory that other users can reach."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.owner() == "root" and directory != Path("/") and directory != Path("/tmp"):
            directory.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("kind", ["clean", "killed", "old", "open"])
def test_a_ledger_that_cannot_be_written_can_be_read(kind, place, request):
    path = place / "ledger.sqlite"
    known = 18
    if kind == "old":
        request.getfixturevalue("old")
        known = 2
    else:
        filled(path)
    if kind in ("killed", "open"):  # changes are in the write-ahead log
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("UPDATE jobs SET touched = 3")
        db.execute("BEGIN")
        db.execute("SELECT * FROM jobs").fetchall()
    if kind == "killed":
        shutil.copy(f"{path}-wal", place / "kept")
        db.close()
        shutil.move(place / "kept", f"{path}-wal")
        Path(f"{path}-shm").unlink(missing_ok=True)
    before = path.read_bytes()
    counts, said = as_nobody(READER, path).strip().split("\n")
    assert counts == f"{5 if kind == 'old' else 4} {known}"
    assert "cannot be used" in said and "lacks 2 points" in said
    assert "Nothing was sent; what it has can be read" in said
    assert path.read_bytes() == before


def test_a_directory_that_cannot_be_written(place):
    said = as_nobody(
        """
        import sys
        from qshift.ledger import Ledger, LedgerError
        assert Ledger(sys.argv[1]).jobs() == []
        for path in (sys.argv[1], sys.argv[1] + "/deeper/ledger"):
            try:
                Ledger(path).claim([b"new"], lambda keys: [], remote=True)
            except LedgerError as error:
                print(error)
        """,
        place / "none",
    )
    assert said.count("Nothing was sent") == 2 and said.count("ledger=False") == 2


def test_a_copy_is_made_anew_when_the_original_changes(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    ledger = filled(place / "ledger")
    monkeypatch.setattr(Database, "is_writable", False)
    assert len(ledger.jobs()) == 4
    copies = list(Path(tempfile.gettempdir()).glob("qshift-ledger-*"))
    assert len(ledger.jobs()) == 4
    assert list(Path(tempfile.gettempdir()).glob("qshift-ledger-*")) == copies
    filled(place / "other", jobs=5)
    shutil.copy(place / "other", ledger.path)
    assert len(ledger.jobs()) == 5


def test_a_full_disk_is_an_error_before_anything_is_sent(tmp_path):
    """A limit on the size of files stands for it."""
    code = """
    import resource, signal, sys
    from qshift.ledger import Ledger, LedgerError
    from qshift.ledger.records import Draft
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    def drafts(keys):
        return [Draft("estimator", "c", [[(key, b"0" * 800) for key in keys]], 1, None)]
    ledger, about = Ledger(sys.argv[1]), {"target": "t", "access": "{}", "run": ""}
    kept = 0
    try:
        for i in range(100):
            wanted = [b"%d %d" % (i, j) for j in range(20)]
            kept += len(ledger.claim(wanted, drafts, remote=True, **about).mine)
    except LedgerError as error:
        print(kept, len(ledger.jobs()), error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "ledger")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept, found, said = done.stdout.split(" ", 2)
    assert kept == found != "0" and "cannot be used" in said
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


def test_a_locked_ledger_is_waited_for_and_then_an_error(tmp_path, caplog):
    ledger = filled(tmp_path / "ledger")
    lock = sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    impatient = Ledger(ledger.path, patience=0.3)
    with pytest.raises(LedgerError, match="is locked. Another process has kept it locked for 0 s"):
        claim(impatient, 1, 100)
    assert "Waiting for another process that has locked the ledger" in caplog.text
    assert len(read(impatient, 1)) == 1  # which it does not stand in the way of
    threading.Timer(0.3, lock.execute, ["COMMIT"]).start()
    start = time.monotonic()
    assert len(claim(ledger, 1, 100).mine) == 1 and time.monotonic() - start < 30
    lock.close()


def test_an_error_is_of_its_kind(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be used: .*ledger=False"):
        claim(Ledger(tmp_path / "file" / "ledger"), 1)
    assert issubclass(ReadOnlyLedgerError, LedgerError)
    assert Ledger(tmp_path / "file").jobs() == []  # an empty file is an empty ledger
    assert len(claim(Ledger(tmp_path / "file"), 1).mine) == 1
    long = tmp_path / ("n" * 300)
    with pytest.raises(LedgerError, match="cannot be used: .*ledger="):
        claim(Ledger(long), 1)


def test_examining_a_ledger_is_quick(tmp_path):
    ledger = filled(tmp_path / "ledger", jobs=2, points=20_000)
    start = time.process_time()
    with ledger._file.reading() as db:
        assert damage.found(db) is None
    assert time.process_time() - start < 20
