"""The ledger's file: who owns what, and what is left of it when a process is gone."""

import multiprocessing
import sqlite3
import time

import pytest

from qshift.errors import QShiftError
from qshift.ledger import ledger as ledgers
from qshift.ledger import liveness
from qshift.ledger.heartbeat import Heartbeat
from qshift.ledger.ledger import Ledger, LedgerError
from qshift.ledger.records import Draft

COLUMNS = {"target": "aer", "access": "{}", "run": "r"}


def drafts(keys):
    """One job for every two points."""
    return [
        Draft("estimator", "a circuit", [[(key, b"")] for key in keys[i : i + 2]], 100, seed=i)
        for i in range(0, len(keys), 2)
    ]


def keys(*names):
    return [name.encode() for name in names]


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "inside" / "ledger.sqlite")


def claim(ledger, names, remote=True, make=drafts):
    return ledger.claim(keys(*names), make, remote=remote, **COLUMNS)


def of_process(ledger, name, **options):
    """Returns the ledger as a process of this name has it."""
    return Ledger(ledger.path, Heartbeat(1e6, process=lambda: name, **options))


GONE = f"{liveness.this_process().split()[0]} 99999999 1.0"


def test_a_job_from_claim_to_result(ledger):
    assert ledger.jobs() == [] and not ledger.path.exists()
    claims = claim(ledger, "abc")
    first, second = claims.mine
    assert (first.keys, second.keys) == (keys("a", "b"), keys("c"))
    assert (first.sizes, first.points, first.seed, first.run) == ([1, 1], 2, 0, "r")
    assert first.tag != second.tag and first.tag.startswith("qshift-")
    ledger.sent(first, "id")
    ledger.store(first, {b"a": b"1", b"b": b"2"}, 1.5)
    done = ledger.job(first.id)
    assert (done.state, done.job_id, done.seconds, done.owner) == ("done", "id", 1.5, None)
    assert done.remote is True and ledger.jobs()[0].remote is True
    again = claim(ledger, "abc")
    assert again.results == {b"a": b"1", b"b": b"2"}
    assert again.others == [b"c"] and not again.mine  # a thread of this process is at it
    ledger.leave(claims.mine)
    after = claim(ledger, "abcd")
    assert [job.id for job in after.doubtful] == [second.id]
    assert [job.keys for job in after.mine] == [keys("d")]
    ledger.forget(ledger.jobs())
    assert ledger.jobs() == [] and ledger.job(1) is None


def test_what_cannot_be_sent_is_not_claimed(ledger):
    def refuse(keys):
        raise ValueError("too much")

    with pytest.raises(ValueError, match="too much"):
        claim(ledger, "ab", make=refuse)
    assert ledger.jobs() == [] and len(claim(ledger, "ab").mine) == 1


def test_jobs_of_processes_that_are_gone(ledger):
    gone = of_process(ledger, GONE)
    first, second, third = claim(gone, "abcdef").mine
    gone.sent(second, "id")
    simulated, other = claim(gone, "uvwx", remote=False).mine
    gone.sent(simulated, "local")
    claims = claim(ledger, "abcdef")
    assert [job.id for job in claims.doubtful] == [first.id, third.id]
    assert [job.id for job in claims.sent] == [second.id] and not claims.mine
    # A simulation is done again as it was; if only a part of it is wanted, that part is.
    claims = claim(ledger, "uvw", remote=False)
    assert [job.keys for job in claims.mine] == [keys("u", "v"), keys("w")]
    assert claims.mine[0].id == simulated.id and claims.mine[0].state == "intended"
    assert ledger.job(simulated.id) == claims.mine[0] and ledger.job(other.id) is None


def test_jobs_of_processes_that_live(ledger):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        name = pool.apply(liveness.this_process)
        claim(of_process(ledger, name), "ab")
        assert claim(ledger, "ab").others == keys("a", "b")
        # Another process with the same number, or one that is not there any more.
        claim(of_process(ledger, f"{name.rsplit(' ', 1)[0]} 1.0"), "cd")
        assert len(claim(ledger, "cd").doubtful) == 1


def test_jobs_of_processes_that_cannot_be_looked_up(ledger, monkeypatch):
    """As in another container: whether they live is told by their own signs of life alone."""
    heartbeat = Heartbeat(beat=60.0, process=lambda: "elsewhere 12 1.0")
    elsewhere = Ledger(ledger.path, heartbeat)
    unsent, sent = claim(elsewhere, "efgh").mine
    elsewhere.sending(sent)
    ledger = Ledger(ledger.path, Heartbeat(silence=0.4))
    claims = claim(ledger, "efgh")
    assert claims.others == keys("e", "f", "g", "h") and not claims.doubtful
    assert [job.id for job in claims.elsewhere] == [sent.id]  # a service may have that one
    for _ in range(4):
        time.sleep(0.15)
        heartbeat.touch(ledger.path, [unsent.id, sent.id])
        assert len(claim(ledger, "efgh").others) == 4
    # Whatever a clock shows, and whichever way it was set.
    for step in (-3600, 3600):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda step=step: 1e9 + step)
            assert len(claim(ledger, "efgh").others) == 4
    time.sleep(0.5)
    claims = claim(ledger, "efgh")
    assert [(job.id, job.posts) for job in claims.doubtful] == [(unsent.id, 0), (sent.id, 1)]
    assert not claims.others and claim(ledger, "ef").others == keys("e", "f")  # ours now


def test_signs_of_life(ledger):
    heartbeat = Heartbeat(beat=0.05)
    ledger = Ledger(ledger.path, heartbeat)
    (job,) = claim(ledger, "ab").mine
    deadline = time.monotonic() + 20
    while ledger.job(job.id).touched == job.touched:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert ledger.job(job.id).is_sound
    assert heartbeat.is_beating
    ledger.leave([job])
    while heartbeat.is_beating:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_each_request_is_written_down_before_it_goes_out(ledger):
    job, other = claim(ledger, "abcd").mine
    assert (job.posts, job.posted) == (0, None)
    for posts in (1, 2):
        ledger.sending(job)
        found = ledger.job(job.id)
        assert found.posts == posts and 0 <= liveness.elapsed(found.posted) < 60
    assert ledger.job(other.id).posts == 0
    # One that takes this one for gone, wrongly.
    other_process = of_process(ledger, "elsewhere 1 1", is_alive=lambda name: False)
    assert len(claim(other_process, "abcd").doubtful) == 2
    for each in (job, other):
        with pytest.raises(ledgers.OvertakenError, match=f"Job {each.id} of the ledger .* taken"):
            ledger.sending(each)
    assert ledger.job(job.id).posts == 2
    assert ledger.sent(job, "one").job_id == "one"
    assert ledger.sent(job, "two", "instance").job_id == "one"  # so that the second is cancelled


def test_closed_jobs_leave_their_points(ledger):
    (job,) = claim(ledger, "ab").mine
    ledger.close(job, "failed", "too warm", 2.0)
    found = ledger.job(job.id)
    assert (found.state, found.message, found.seconds, found.keys) == (
        "failed",
        "too warm",
        2.0,
        [],
    )
    (again,) = claim(ledger, "ab").mine
    assert again.id != job.id
    ledger.store(job, {b"a": b"late"}, None)  # the old one's results are not the new one's
    assert not claim(ledger, "ab").results


def test_simulations_that_were_given_up_are_forgotten(ledger):
    claims = claim(ledger, "ab", remote=False)
    ledger.leave(claims.mine)
    assert ledger.jobs() == []
    ledger.leave([])


def test_many_points(ledger):
    names = [str(i) for i in range(5000)]
    (job,) = ledger.claim(
        keys(*names),
        lambda keys: [Draft("estimator", "", [[(key, b"") for key in keys]], 0, None)],
        remote=False,
        **COLUMNS,
    ).mine
    assert job.keys == keys(*names) and job.sizes == [5000]
    ledger.store(job, {key: key for key in job.keys}, None)
    assert claim(ledger, names).results == {key: key for key in keys(*names)}


def _compete(path, start, number):
    ledger = Ledger(path)
    start.wait()
    won = 0
    for i in range(20):
        claims = ledger.claim([b"%d" % i, b"%d" % (i + 1)], drafts, remote=False, **COLUMNS)
        for job in claims.mine:
            won += job.points
            ledger.store(job, {key: b"%d" % number for key in job.keys}, None)
        ledger.leave(claims.mine)
    return won


def test_processes_at_the_same_time(tmp_path):
    """Every point is claimed once, the file being made by whoever comes first."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(3) as pool:
        start = manager.Event()
        waiting = [
            pool.apply_async(_compete, (tmp_path / "ledger.sqlite", start, n)) for n in range(3)
        ]
        start.set()
        assert sum(each.get(60) for each in waiting) == 21
    assert {job.state for job in Ledger(tmp_path / "ledger.sqlite").jobs()} == {"done"}


def test_files_that_cannot_be_used(tmp_path):
    (tmp_path / "text").write_text("This is not a ledger. " * 100)
    with pytest.raises(
        LedgerError, match="text cannot be used: file is not a database.*ledger="
    ) as e:
        claim(Ledger(tmp_path / "text"), "a")
    assert isinstance(e.value, QShiftError)
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be used"):
        claim(Ledger(tmp_path / "file" / "ledger"), "a")
    newer = Ledger(tmp_path / "newer")
    claim(newer, "a")
    with sqlite3.connect(newer.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for use in (newer.jobs, lambda: claim(newer, "a")):
        with pytest.raises(LedgerError, match="of version 99, and .* up to 2. Install the release"):
            use()
    with sqlite3.connect(tmp_path / "other") as db:
        db.execute("CREATE TABLE mine (a)")
    db.close()
    with pytest.raises(LedgerError, match="something else than a ledger"):
        claim(Ledger(tmp_path / "other"), "a")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("~nobody-of-that-name/ledger", "a\0b", tmp_path / "loop"):
        with pytest.raises(LedgerError, match="cannot be a ledger"):
            Ledger(name)
    for name in (tmp_path, ""):
        with pytest.raises(LedgerError, match="cannot be a ledger: it is a directory. Give a file"):
            Ledger(name)


def test_one_file_is_one_ledger_however_it_is_spelled(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "other").symlink_to(tmp_path / "ledger")
    monkeypatch.chdir(tmp_path)
    names = [tmp_path / "sub" / ".." / "ledger", tmp_path / "link" / "ledger", "ledger", "other"]
    assert {Ledger(name).path for name in names} == {Ledger(tmp_path / "ledger").path}


@pytest.mark.parametrize("deleted", ["job", "file", "file that is used again"])
@pytest.mark.parametrize("is_sent", [False, True])
def test_a_job_that_is_deleted_on_its_way_is_recorded_again(ledger, deleted, is_sent, caplog):
    angles = [[(b"a", b"1.0"), (b"b", b"2.0")], [(b"c", b"3.0")]]
    draft = Draft("estimator", "a circuit", angles, 100, seed=3)
    (job,) = claim(ledger, "abc", make=lambda keys: [draft]).mine
    ledger.sending(job)
    if is_sent:
        ledger.sent(job, "id", "instance")
    if deleted == "job":
        ledger.forget([job])
    else:
        for end in ("", "-wal", "-shm"):
            ledger.path.with_name(ledger.path.name + end).unlink(missing_ok=True)
    others = claim(ledger, "xa").mine if deleted == "file that is used again" else []
    if not is_sent:
        assert ledger.sent(job, "id", "instance").state == "submitted"
        if not others:
            assert claim(ledger, "abc").sent[0].job_id == "id"
    ledger.store(job, {b"a": b"1", b"b": b"2", b"c": b"3"}, 1.5, "id")
    ledger.leave([job])
    assert "Job id was deleted from the ledger" in caplog.text and "recorded again" in caplog.text
    lost = "1 results of job id are not kept" in caplog.text
    assert lost == bool(others)  # somebody else measures that point now
    kept = {b"b": b"2", b"c": b"3"} | ({} if lost else {b"a": b"1"})
    assert claim(ledger, "bc" if lost else "abc").results == kept
    found = next(each for each in ledger.jobs() if each.tag == job.tag)
    assert (found.state, found.job_id, found.seconds) == ("done", "id", 1.5)
    assert (1, b"3.0", b"3") in ledger.points(found)
    assert ledger.unsound() == set()
    for other in others:
        now = ledger.job(other.id)
        assert (now.state, now.tag, now.keys) == ("intended", other.tag, other.keys)


def test_results_of_a_job_that_was_closed_while_it_ran_are_kept(ledger):
    (job,) = claim(ledger, "ab").mine
    ledger.sent(job, "id")
    ledger.close(job, "cancelled", "by somebody")
    ledger.store(job, {b"a": b"1", b"b": b"2"}, None)
    assert claim(ledger, "ab").results == {b"a": b"1", b"b": b"2"}
    found = ledger.job(job.id)
    assert (found.state, found.message) == ("done", None)


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("QSHIFT_LEDGER", str(tmp_path / "mine"))
    assert ledgers.default_path() == tmp_path / "mine"
    monkeypatch.delenv("QSHIFT_LEDGER")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert ledgers.default_path() == tmp_path / "qshift" / "ledger.sqlite"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert Ledger(ledgers.default_path()).path.is_absolute()
    monkeypatch.setenv("HOME", "")  # as for a service; nor is it the root of all files then
    with pytest.raises(LedgerError, match="no home directory. Set QSHIFT_LEDGER"):
        ledgers.default_path()
