"""Jobs of which nobody knows whether they have reached a service, on the loopback service."""

import logging
import sqlite3
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from service import INSTANCES
from services import NEVER, KilledError, process

import qshift
from qshift.errors import JobError, OptionError, ServiceError
from qshift.executors.qiskit import (
    connection,
    digests,
    estimator,
    recorded_batch,
    retry,
    transport,
    unconfirmed_jobs,
    waiting,
)
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.executors.qiskit.service import ServiceTarget
from qshift.ledger import ledger as ledgers
from qshift.ledger.heartbeat import Heartbeat
from qshift.ledger.ledger import Ledger
from qshift.ledger.liveness import this_process

X = tf.constant([0.2, 0.5, 0.8], tf.float64)


def circuit(x):
    qml.RX(x, wires=0)
    return qml.expval(qml.Z(0))


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.fixture
def grace(monkeypatch):
    """A shorter one, so that tests need not wait for long; a call restores it where a job arrives,
    which may be later on a busy machine."""
    whole = unconfirmed_jobs.GRACE
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 1.0)
    return lambda arrives: monkeypatch.setattr(unconfirmed_jobs, "GRACE", whole if arrives else 1.0)


def run(ledger, **options):
    """Measures three points, as a new process would, in one job or three."""
    estimator._draws = digests.Draws()
    where = {"ledger": ledger.path if ledger else False, "backend": "ibm:ibm_ideal"}
    device = EstimatorDevice(**where, **options)
    return qshift.qnode(device, shots=400)(circuit)(X)


def another_process():
    """Returns the signs of life of a process that takes all others for gone."""
    return Heartbeat(NEVER, process=lambda: "elsewhere 12 1", is_alive=lambda name: False)


def interrupt(*_):
    raise KeyboardInterrupt


def once(loopback, jobs=1):
    """Whether each job was sent once."""
    counts = loopback.counts()
    tags = {tag: n for tag, n in counts["by_tag"].items() if tag.startswith("qshift-")}
    return counts["jobs"] == len(tags) == jobs and set(tags.values()) == {1}


# An unclear answer


@pytest.mark.one_in(3)
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("kind", ["504", "reset", "timeout", "429", "401", "html", "other", "500"])
def test_a_job_that_is_seen_late_is_not_sent_again(loopback, ledger, kind, recorded, caplog):
    rule = {"kind": kind, "match": "POST /jobs$", "after": True, "times": 1, "unseen": 2}
    loopback.faults(rule | ({"seconds": 0.1} if kind == "timeout" else {}))
    values = run(ledger if recorded else None)
    np.testing.assert_allclose(values, np.cos(X), atol=0.2)
    assert once(loopback) and loopback.counts()["requests"]["POST /jobs"] == 1
    (said,) = (r for r in caplog.records if "Looking for it by its tag qshift-" in r.message)
    assert said.levelno == logging.WARNING and "not paid for twice" in said.message
    if recorded:
        (job,) = ledger.jobs()
        assert (job.state, job.posts, job.job_id) == ("done", 1, loopback.jobs()[0]["id"])


def test_a_job_that_does_not_arrive_is_sent_again_after_the_whole_grace(loopback, ledger, grace):
    loopback.faults({"kind": "504", "match": "POST /jobs$", "times": 1})
    start = time.monotonic()
    run(ledger)
    assert time.monotonic() - start > unconfirmed_jobs.GRACE
    assert once(loopback) and loopback.counts()["requests"]["POST /jobs"] == 2
    assert ledger.jobs()[0].posts == 2


def test_a_request_that_cannot_have_arrived_is_sent_again_at_once(
    loopback, ledger, monkeypatch, caplog
):
    """No connection came about, so there is nothing to look for."""
    send, refused = transport.ReadsOnly.send, []

    def unplugged(self, request, **more):
        if request.method == "POST" and request.path_url.endswith("/jobs") and not refused:
            refused.append(True)
            more["proxies"] = {"https": "http://127.0.0.1:9"}
        return send(self, request, **more)

    monkeypatch.setattr(transport.ReadsOnly, "send", unplugged)
    run(ledger)
    assert refused and once(loopback) and "Looking for it" not in caplog.text


def test_of_two_jobs_for_one_request_one_is_used(loopback, ledger, monkeypatch, caplog):
    """The first is seen only after the grace, so that there is a second; it is cancelled."""
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 0.5)
    loopback.ask("queue", {"delay": 8.0})
    loopback.faults({"kind": "504", "match": "POST /jobs$", "after": True, "times": 1, "late": 5.0})
    np.testing.assert_allclose(run(ledger), np.cos(X), atol=0.2)
    first, second = loopback.jobs()
    assert sorted((first["status"], second["status"])) == ["Cancelled", "Completed"]
    used = first if first["status"] == "Completed" else second
    (job,) = ledger.jobs()
    assert (job.state, job.job_id, job.posts) == ("done", used["id"], 2)
    assert f"has two jobs for one request, tagged {job.tag}" in caplog.text
    assert f"{used['id']} is used" in caplog.text and "was cancelled" in caplog.text


def test_a_second_job_that_another_process_finds_is_cancelled(loopback, ledger, monkeypatch):
    """The program ends before the first one is seen, and the next one waits for the second."""
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 0.2)
    loopback.ask("queue", {"delay": 600})
    loopback.faults({"kind": "504", "match": "POST /jobs$", "after": True, "times": 1, "late": 3.0})
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(ledger)
    assert ledger.jobs()[0].posts == 2 and len(loopback.jobs()) == 2
    time.sleep(3.0)

    def look(job, say):
        job.status()
        loopback.ask("queue", {"delay": 0})
        return wait(job, say)

    wait = waiting.wait
    monkeypatch.setattr(waiting, "wait", look)
    run(ledger)
    assert sorted(job["status"] for job in loopback.jobs()) == ["Cancelled", "Completed"]


# Processes that are killed


@contextmanager
def killed_in_post(monkeypatch, loopback, number, *, arrives):
    """The process in here is killed while it waits for the answer to its so-manieth POST; the job
    is not found by the first search."""
    send, left = transport.ReadsOnly.send, [number]

    def struck(self, request, **more):
        if request.method != "POST" or not request.path_url.endswith("/jobs"):
            return send(self, request, **more)
        left[0] -= 1
        if left[0]:
            return send(self, request, **more)
        hold = {"kind": "timeout", "seconds": 0.5, "match": "POST /jobs$", "times": 1}
        loopback.faults(hold | ({"after": True, "unseen": 2} if arrives else {}))
        try:
            send(self, request, **(more | {"timeout": (5, 0.1)}))
        finally:
            raise KilledError

    with process(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(transport.ReadsOnly, "send", struck)
        yield
    assert not left[0]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_in_one_post_of_three(loopback, ledger, grace, monkeypatch, number, arrives):
    """Whenever the batch was claimed: what counts is when the request went out."""
    with killed_in_post(monkeypatch, loopback, number, arrives=arrives):
        run(ledger, max_parameter_values=1)
    grace(arrives)
    before = [1] * number + [0] * (3 - number)
    assert [job.posts for job in ledger.jobs()] == before
    start = time.monotonic()
    np.testing.assert_allclose(run(ledger, max_parameter_values=1), np.cos(X), atol=0.2)
    assert arrives or time.monotonic() - start > unconfirmed_jobs.GRACE
    assert once(loopback, jobs=3)
    after = [1] * 3
    after[number - 1] += not arrives
    assert [(job.state, job.posts) for job in ledger.jobs()] == [("done", n) for n in after]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("first, second", [(False, True), (True, False), (False, False)])
def test_killed_twice(loopback, ledger, grace, monkeypatch, first, second):
    """The second time while the same job is sent again, or the next one."""
    with killed_in_post(monkeypatch, loopback, 2, arrives=first):
        run(ledger, max_parameter_values=1)
    grace(first)
    with killed_in_post(monkeypatch, loopback, 1, arrives=second):
        run(ledger, max_parameter_values=1)
    grace(second)
    np.testing.assert_allclose(run(ledger, max_parameter_values=1), np.cos(X), atol=0.2)
    assert once(loopback, jobs=3)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_is_set_after_a_kill(loopback, ledger, monkeypatch, step):
    """It is neither waited for an hour, nor not at all."""
    with killed_in_post(monkeypatch, loopback, 1, arrives=True):
        run(ledger)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + step)
    start = time.monotonic()
    run(ledger)
    assert time.monotonic() - start < 60 and once(loopback)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("arrives", [True, False])
def test_killed_in_another_container(loopback, ledger, grace, monkeypatch, arrives, caplog):
    """Of the same hostname, so that its process ids look as if they were of this one."""
    silence = 30.0 if arrives else 4.0
    monkeypatch.setattr(ledgers, "HEARTBEAT", Heartbeat(silence=silence))
    monkeypatch.setattr(recorded_batch, "_SILENCE", 1.0)
    with killed_in_post(monkeypatch, loopback, 1, arrives=arrives):
        place, *rest = this_process().split(" ")
        name = " ".join([f"{place}0", "99999999", *rest[1:]])
        with monkeypatch.context() as patch:
            patch.setattr(ledgers, "HEARTBEAT", Heartbeat(beat=NEVER, process=lambda: name))
            run(ledger)
    grace(arrives)
    start = time.monotonic()
    run(ledger)
    assert once(loopback)
    if arrives:  # the service says so before its silence does
        assert time.monotonic() - start < silence
    else:
        assert "Waiting: another process is sending" in caplog.text


def test_a_process_of_another_container_is_waited_for(loopback, ledger, monkeypatch):
    """It lives, and only takes long, with no sign of the job at the service."""
    with monkeypatch.context() as patch:
        patch.setattr(ledgers, "HEARTBEAT", Heartbeat(beat=NEVER, process=lambda: "elsewhere 12 1"))
        with pytest.raises(KeyboardInterrupt):
            patch.setattr(
                ServiceTarget, "submit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            patch.setattr(Ledger, "leave", lambda *_: None)
            run(ledger)
    (job,) = ledger.jobs()
    monkeypatch.setattr(ledgers, "HEARTBEAT", Heartbeat(silence=1.0))

    def living():
        for _ in range(30):
            time.sleep(0.1)
            with sqlite3.connect(ledger.path) as db:
                db.execute("UPDATE jobs SET touched = touched + 1 WHERE owner LIKE 'elsewhere%'")
            db.close()

    threading.Thread(target=living).start()
    start = time.monotonic()
    run(ledger)
    assert time.monotonic() - start > 3.0 and once(loopback)
    assert [each.id for each in ledger.jobs()] == [job.id]


def test_a_process_that_was_taken_for_gone_sends_nothing(loopback, ledger, monkeypatch):
    """It was stopped for long before its request, and another one went on with its job."""
    running = ServiceTarget._require_running

    def stopped(self):
        monkeypatch.setattr(ServiceTarget, "_require_running", running)
        with monkeypatch.context() as patch:
            patch.setattr(ledgers, "HEARTBEAT", another_process())
            run(ledger)
        running(self)

    monkeypatch.setattr(ServiceTarget, "_require_running", stopped)
    np.testing.assert_allclose(run(ledger), np.cos(X), atol=0.2)
    assert once(loopback) and loopback.counts()["requests"]["POST /jobs"] == 1


def test_two_processes_that_have_sent_the_same_use_one_job(loopback, ledger, monkeypatch, caplog):
    """The first was stopped within its request, of which nothing could be seen meanwhile."""
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 0.2)
    loopback.ask("queue", {"delay": 4.0})
    send, first = transport.ReadsOnly.send, []

    def stopped(self, request, **more):
        answer = send(self, request, **more)
        if request.method == "POST" and request.path_url.endswith("/jobs") and not first:
            first.append(ledger.jobs()[0])
            with monkeypatch.context() as patch:
                patch.setattr(ledgers, "HEARTBEAT", another_process())
                patch.setattr(ServiceTarget, "find", lambda *_: [])
                patch.setattr(waiting, "wait", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    run(ledger)
        return answer

    monkeypatch.setattr(transport.ReadsOnly, "send", stopped)
    np.testing.assert_allclose(run(ledger), np.cos(X), atol=0.2)
    statuses = [job["status"] for job in loopback.jobs()]
    assert sorted(statuses) == ["Cancelled", "Completed"]
    (job,) = ledger.jobs()
    assert job.job_id == loopback.jobs()[statuses.index("Completed")]["id"]
    assert "two jobs for one request" in caplog.text


def test_jobs_are_looked_for_in_all_instances(loopback, ledger, monkeypatch):
    """Of an account whose instance nobody has named."""
    monkeypatch.delenv("QISKIT_IBM_INSTANCE")
    with killed_in_post(monkeypatch, loopback, 1, arrives=True):
        run(ledger)
    np.testing.assert_allclose(run(ledger), np.cos(X), atol=0.2)
    assert once(loopback)


# Jobs that were deleted


def left_running(loopback, ledger, monkeypatch, **options):
    """A program that was interrupted while its jobs were waiting."""

    loopback.ask("queue", {"delay": 600})
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(ledger, **options)
    return [job["id"] for job in loopback.jobs()]


def test_a_deleted_job_is_an_error_once_and_then_sent_again(loopback, ledger, grace, monkeypatch):
    first, second, third = left_running(loopback, ledger, monkeypatch, max_parameter_values=1)
    loopback.ask("delete", [first])
    loopback.ask("queue", {"delay": 0})
    with pytest.raises(
        JobError, match=f"Job {first} lost: the service does not have it.*deleted"
    ) as e:
        run(ledger, max_parameter_values=1)
    assert e.value.status == "lost" and "paid for again" in str(e.value)
    assert "its 1 points" in str(e.value) and str(ledger.path) in str(e.value)
    states = {job.job_id: job.state for job in ledger.jobs()}
    assert states.pop(first) == "lost" and set(states.values()) <= {"submitted", "done"}
    np.testing.assert_allclose(run(ledger, max_parameter_values=1), np.cos(X), atol=0.2)
    assert sorted(job.state for job in ledger.jobs()) == ["done", "done", "done", "lost"]
    assert {second, third} < {job.job_id for job in ledger.jobs() if job.state == "done"}
    assert once(loopback, jobs=4)


def test_a_job_that_is_deleted_while_it_is_waited_for(loopback, ledger, grace, monkeypatch):
    loopback.ask("queue", {"delay": 600})
    looks = []

    def look(*_):
        looks.append(True)
        if len(looks) == 2:
            loopback.ask("delete", [loopback.jobs()[0]["id"]])
        return None

    monkeypatch.setattr("qshift.executors.qiskit.service_job.ServiceJob.queue_position", look)
    with pytest.raises(JobError, match="lost: the service does not have it any more"):
        run(ledger)


def test_a_job_whose_results_were_deleted(loopback, ledger, grace):
    """As those of private jobs are, once they were read."""
    loopback.faults({"kind": "404", "match": "GET .*/results$"})
    with pytest.raises(JobError, match="lost"):
        run(ledger)
    loopback.faults()
    run(ledger)
    assert [job.state for job in ledger.jobs()] == ["lost", "done"]


def test_a_job_that_is_not_known_everywhere_yet_is_not_lost(loopback, ledger):
    loopback.faults({"kind": "404", "match": "GET /jobs/[^/]*$", "times": 5})
    run(ledger)
    assert [job.state for job in ledger.jobs()] == ["done"] and once(loopback)


def test_a_page_of_a_proxy_does_not_make_a_job_lost(loopback, ledger, grace, monkeypatch):
    """Nor a gateway that has no code of the service's."""
    monkeypatch.setattr(retry, "UNREADABLE_PATIENCE", 1.0)
    for kind in ("html", "404-html", "404-other"):
        loopback.faults({"kind": kind, "match": "GET /jobs/[^/]*$"})
        with pytest.raises(ServiceError) as caught:
            run(ledger)
        assert not isinstance(caught.value, JobError)
    loopback.faults()
    run(ledger)
    assert [job.state for job in ledger.jobs()] == ["done"] and once(loopback)


def test_a_job_of_another_instance_is_not_lost(loopback, ledger, grace, monkeypatch):
    (job,) = left_running(loopback, ledger, monkeypatch)
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", INSTANCES["open"])
    with pytest.raises(
        ServiceError, match=f"no job {job}.*another account or instance.*instance="
    ) as e:
        run(ledger)
    assert not isinstance(e.value, JobError)
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", INSTANCES["premium"])
    loopback.ask("queue", {"delay": 0})
    run(ledger)
    assert [job.state for job in ledger.jobs()] == ["done"] and once(loopback)


# Results that are damaged


def test_a_damaged_result_is_fetched_again(loopback, ledger, caplog):
    values = run(ledger)
    with sqlite3.connect(ledger.path) as db:
        (result,) = db.execute("SELECT result FROM points WHERE place = 1").fetchone()
        flipped = bytes([result[0] ^ 1, *result[1:]])
        db.execute("UPDATE points SET result = ? WHERE place = 1", (flipped,))
    db.close()
    np.testing.assert_array_equal(run(ledger), values)
    assert once(loopback)
    requests = loopback.counts()["requests"]
    np.testing.assert_array_equal(run(ledger), values)
    assert loopback.counts()["requests"] == requests  # it is well again


def test_a_damaged_result_of_a_job_that_was_deleted(loopback, ledger, grace):
    values = run(ledger)
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE points SET result = zeroblob(16) WHERE place = 1")
    db.close()
    loopback.ask("delete", [loopback.jobs()[0]["id"]])
    with pytest.raises(JobError, match="lost: .*paid for again"):
        run(ledger)
    again = run(ledger)
    np.testing.assert_array_equal(np.array(again)[[0, 2]], np.array(values)[[0, 2]])
    assert [job.points for job in ledger.jobs()] == [3, 1]


# Without network


def test_a_recorded_program_needs_no_service(loopback, ledger, monkeypatch, caplog):
    """Nor an account, nor a backend that is still there."""
    caplog.set_level(logging.INFO, "qshift")
    values = run(ledger)
    assert f"0 of 3 points came from the ledger {ledger.path}" in caplog.text
    requests = loopback.counts()["requests"]
    for name in loopback.environment():
        monkeypatch.delenv(name)

    def refuse(*_):
        raise AssertionError("the service was asked")

    monkeypatch.setattr(connection.Connection, "_connected", refuse)
    np.testing.assert_array_equal(run(ledger), values)
    assert f"3 of 3 points came from the ledger {ledger.path}" in caplog.text
    assert loopback.counts()["requests"] == requests


def test_jobs_are_joined_although_their_backend_is_gone(loopback, ledger, monkeypatch):
    left_running(loopback, ledger, monkeypatch)
    loopback.ask("queue", {"delay": 0})
    loopback.faults({"kind": "400", "match": "/backends"})
    np.testing.assert_allclose(run(ledger), np.cos(X), atol=0.2)
    assert [job.state for job in ledger.jobs()] == ["done"] and once(loopback)


# Backends that change between two processes


@pytest.mark.parametrize("underway", [True, False])
def test_new_calibrations_change_nothing_that_was_sent(loopback, ledger, monkeypatch, underway):
    values = None
    if underway:
        left_running(loopback, ledger, monkeypatch)
        loopback.ask("queue", {"delay": 0})
    else:
        values = run(ledger)
    loopback.ask("calibrate", {"ibm_ideal": "2026-11-01T00:00:00+00:00"})
    with qshift.Tracker() as tracker:
        again = run(ledger)
    assert tracker.totals["transpilations"] == 0 and once(loopback)
    if values is not None:
        np.testing.assert_array_equal(again, values)
    with qshift.Tracker() as tracker:  # what is missing is measured with the new figures
        monkeypatch.setattr(sys.modules[__name__], "X", tf.constant([0.2, 0.5, 1.1], tf.float64))
        more = run(ledger)
    assert tracker.totals["transpilations"] == 1 and tracker.totals["circuits"] == 1
    np.testing.assert_array_equal(more[:2], again[:2])
    assert once(loopback, 2)


def test_a_backend_that_was_renamed(loopback, ledger, monkeypatch):
    values = run(ledger)
    loopback.ask("rename", {"ibm_ideal": "ibm_renamed"})
    np.testing.assert_array_equal(run(ledger), values)
    monkeypatch.setattr(sys.modules[__name__], "X", tf.constant([0.2, 1.3], tf.float64))
    with pytest.raises(
        OptionError, match="there is no 'ibm_ideal'.*your account has .*ibm_renamed"
    ):
        run(ledger)
    assert once(loopback) and [job.state for job in ledger.jobs()] == ["done"]


@pytest.mark.parametrize("recorded", [True, False])
def test_fewer_shots_than_were_asked_for_are_no_result(loopback, ledger, recorded):
    device = EstimatorDevice(backend="ibm:ibm_ideal", ledger=ledger.path if recorded else False)

    @qshift.qnode(device, shots=400)
    def outcomes(x):
        qml.RX(x, wires=0)
        return qml.probs(wires=0)

    loopback.faults({"kind": "few", "times": 1})
    wrong = r"other results than it was to measure|results for \[0\] points in its PUBs, not \[3\]"
    with pytest.raises(JobError, match=wrong):
        outcomes(X)
    np.testing.assert_allclose(outcomes(X)[:, 0], np.cos(X / 2) ** 2, atol=0.15)
    if recorded:
        assert [job.state for job in ledger.jobs()] == ["failed", "done"]
