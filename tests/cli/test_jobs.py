"""``qshift jobs`` and named runs, with jobs on the loopback service."""

import io
import json
import re
import sqlite3
import sys

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from service import INSTANCES

import qshift
from qshift.cli.main import main
from qshift.errors import OptionError
from qshift.executors.qiskit import unconfirmed_jobs, waiting
from qshift.executors.qiskit.device import EstimatorDevice
from qshift.ledger import tables
from qshift.ledger.ledger import Ledger

X = tf.constant([0.3, 0.8], tf.float64)


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("QSHIFT_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("COLUMNS", "300")
    return Ledger(tmp_path / "ledger.sqlite")


@pytest.fixture
def jobs(capsys):
    """Runs ``qshift jobs``, which has to succeed; returns what it printed."""

    def jobs(*arguments):
        assert main(["jobs", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    return jobs


def refused(capsys, *arguments):
    """Returns the message of a ``qshift jobs`` that cannot be carried out."""
    assert main(["jobs", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def statuses(table):
    """Job -> status, read off a printed table."""
    rows = (line.split("│")[1:3] for line in table.splitlines() if "│" in line)
    return {int(job): status.strip() for job, status in rows}


@pytest.fixture
def circuit(loopback):
    # One PUB in a job, so that there are two jobs with every client.
    @qshift.qnode(EstimatorDevice(backend="ibm:ibm_ideal", max_pubs=1), shots=200)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0)), qml.probs(wires=0)

    return circuit


@pytest.fixture
def interrupt(circuit, monkeypatch):
    """Has the program interrupted while it waits for its two jobs."""

    def struck(*_):
        raise KeyboardInterrupt

    def interrupt():
        with monkeypatch.context() as patch:
            patch.setattr(waiting, "wait", struck)
            with pytest.raises(KeyboardInterrupt):
                circuit(X)

    return interrupt


def test_an_empty_list_says_why(jobs, capsys, ledger, tmp_path):
    assert "It does not exist yet. Jobs on hardware are recorded" in jobs()
    device = EstimatorDevice(backend="aer", ledger=ledger.path, run="one")
    qshift.qnode(device, shots=10)(lambda x: (qml.RX(x, 0), qml.expval(qml.Z(0)))[1])(X[0])
    assert "It " not in jobs("--run", "one")
    assert "No job belongs to a run of the name 'two'; there are 'one'" in jobs("--run", "two")
    jobs("prune", "--yes", 1)
    assert "It has no jobs." in jobs()
    assert "there is no ledger" in refused(capsys, "--ledger", tmp_path / "gone.sqlite")


def test_an_empty_ledger(jobs, capsys, ledger):
    assert statuses(jobs()) == {} and json.loads(jobs("--json", "-")) == []
    assert "0 of 0 jobs" in jobs("fetch") and "0 jobs" in jobs("prune")
    assert "there is no job 1 in" in refused(capsys, "cancel", 1)
    assert not ledger.path.exists()


def test_jobs_are_listed_and_fetched_while_no_program_runs(
    loopback, circuit, interrupt, jobs, ledger
):
    interrupt()
    assert set(statuses(jobs("--offline")).values()) == {"submitted"}
    assert {job["id"] for job in loopback.jobs()} == {job.job_id for job in ledger.jobs()}
    for _ in range(200):
        found = statuses(jobs())
        if set(found.values()) == {"ready to fetch"}:
            break
    assert found == {1: "ready to fetch", 2: "ready to fetch"}
    assert "2 of 2 jobs" in jobs("fetch") and statuses(jobs()) == {1: "done", 2: "done"}
    assert statuses(jobs("list", 2)) == {2: "done"}
    listed = json.loads(jobs("--json", "-"))
    assert [job["state"] for job in listed] == ["done", "done"] and listed[0]["remote"] is True
    assert all(job["seconds"] > 0 for job in listed)
    assert not any("owner" in job or "access" in job for job in listed)

    with qshift.Tracker() as tracker:  # now the program goes on, with what was fetched
        value, probabilities = circuit(X)
    assert tracker.totals["jobs"] == 0
    (pub,) = json.loads(jobs("export", 1, "--json", "-"))[0]["pubs"]
    np.testing.assert_array_equal(np.ravel(pub["values"]), value)
    np.testing.assert_array_equal(np.ravel(pub["angles"]), X)
    (pub,) = json.loads(jobs("export", 2, "--json", "-"))[0]["pubs"]
    np.testing.assert_array_equal(
        [[counts.get(outcome, 0) / 200 for outcome in ("0x0", "0x1")] for counts in pub["counts"]],
        probabilities,
    )


def test_seconds_that_are_not_counted_yet_are_unknown_and_asked_for_again(
    loopback, circuit, jobs, ledger
):
    loopback.ask("queue", {"counting": True})
    circuit(X)
    for arguments in (["--offline"], []):
        assert [job["seconds"] for job in json.loads(jobs("--json", "-", *arguments))] == [
            None
        ] * len(ledger.jobs())
    loopback.ask("queue", {"counting": False})
    assert json.loads(jobs("--json", "-", "--offline"))[0]["seconds"] is None
    assert all(job["seconds"] > 0 for job in json.loads(jobs("--json", "-")))
    assert all(job.seconds > 0 for job in ledger.jobs())


def test_exported_arrays(circuit, jobs, tmp_path):
    value, _ = circuit(X)
    assert "2 jobs with results" in jobs("export", "--npz", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:  # which refuses pickles
        np.testing.assert_array_equal(found["job1_pub0_values"][:, 0], value)
        np.testing.assert_array_equal(found["job1_pub0_angles"][:, 0], X)
        assert found["job1_pub0_errors"].shape == (2, 1)
        assert sum(json.loads(str(found["job2_pub0_counts"]))[0].values()) == 200
        assert [job["id"] for job in json.loads(str(found["jobs"]))] == [1, 2]


def test_jobs_are_cancelled_by_their_numbers(loopback, circuit, interrupt, jobs, capsys, ledger):
    loopback.ask("queue", {"delay": 600, "ahead": 3})
    interrupt()
    assert all(status.startswith("queued, position") for status in statuses(jobs()).values())
    assert "name the jobs to cancel" in refused(capsys, "cancel")
    assert statuses(jobs("cancel", 2)) == {2: "cancelled"}
    assert [job["status"] for job in loopback.jobs()].count("Cancelled") == 1
    assert [job.state for job in ledger.jobs()] == ["submitted", "cancelled"]
    assert "job 2 is cancelled already" in refused(capsys, "cancel", 2)
    assert "has 1 to 2" in refused(capsys, "cancel", 7)
    loopback.ask("queue", {"delay": 0})
    circuit(X)  # the cancelled one is sent again
    assert [job.state for job in ledger.jobs()] == ["done", "cancelled", "done"]


@pytest.fixture
def left(circuit, loopback, ledger, monkeypatch):
    """Three programs' jobs, two each, that were left running."""

    def struck(*_):
        raise KeyboardInterrupt

    loopback.ask("queue", {"delay": 600})
    for run in ("one", "two", "three"):
        circuit.device.run = run
        with monkeypatch.context() as patch:
            patch.setattr(waiting, "wait", struck)
            with pytest.raises(KeyboardInterrupt):
                circuit(X)
    return [job.job_id for job in ledger.jobs()]


def test_deleted_jobs_are_closed_and_the_others_fetched(
    loopback, left, jobs, capsys, ledger, circuit, monkeypatch
):
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 1.0)
    loopback.ask("delete", [left[0], left[3]])
    loopback.ask("queue", {"delay": 0})
    assert main(["jobs"]) == 0
    out, err = capsys.readouterr()
    found = statuses(out)
    assert [found[i] for i in (1, 4)] == ["deleted at the service"] * 2
    assert f"job 1: Job {left[0]} lost: the service does not have it any more" in err
    assert [job.state for job in ledger.jobs()] == ["submitted"] * 6  # listing changes nothing
    for _ in range(200):
        if list(statuses(jobs()).values()).count("ready to fetch") == 4:
            break
    assert main(["jobs", "fetch"]) == 2
    out, err = capsys.readouterr()
    assert "Results of 4 of 6 jobs" in out
    assert [statuses(out)[i] for i in range(1, 7)] == [
        "lost: the service does not have it any more; it was deleted there"
        if i in (1, 4)
        else "done"
        for i in range(1, 7)
    ]
    assert "2 jobs could not be fetched:" in err and "job 1: Job" in err and "job 4: Job" in err
    states = [job.state for job in ledger.jobs()]
    assert states == ["lost", "done", "done", "lost", "done", "done"]
    assert "0 of 0 jobs" in jobs("fetch")
    circuit.device.run = "two"
    circuit(X)  # sends what is lost, and nothing else
    assert loopback.counts()["jobs"] == 7
    jobs("prune", "--yes")
    assert [job.id for job in ledger.jobs()] == [2, 3, 5, 6, 7]


def test_what_cannot_be_fetched_does_not_keep_the_others(loopback, left, capsys, ledger, jobs):
    loopback.ask("queue", {"delay": 0})
    while any(status != "ready to fetch" for status in statuses(jobs()).values()):
        pass
    loopback.faults({"kind": "400", "match": f"GET /jobs/{left[1]}/results$"})
    assert main(["jobs", "fetch"]) == 2
    out, err = capsys.readouterr()
    assert "1 job could not be fetched:\n  job 2: Fetching the results of" in err
    assert [job.state == "done" for job in ledger.jobs()] == [True, False, True, True, True, True]
    loopback.faults()
    assert "1 of 1 jobs" in jobs("fetch")


def test_a_job_of_another_instance_is_not_lost(loopback, left, capsys, ledger, monkeypatch):
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 1.0)
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", INSTANCES["open"])
    assert "belongs to another account or instance" in refused(capsys, "fetch", 1)
    assert {job.state for job in ledger.jobs()} == {"submitted"}


def test_a_deleted_job_that_is_cancelled_is_lost(loopback, left, jobs, ledger, monkeypatch):
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 1.0)
    loopback.ask("delete", [left[0]])
    assert statuses(jobs("cancel", 1, 2)) == {1: "lost", 2: "cancelled"}
    assert [job.state for job in ledger.jobs()][:2] == ["lost", "cancelled"]


def test_a_job_that_may_be_on_its_way_is_looked_for_before_it_is_cancelled(
    loopback, jobs, ledger, circuit, monkeypatch
):
    monkeypatch.setattr(unconfirmed_jobs, "GRACE", 8.0)
    loopback.ask("queue", {"delay": 600})

    def struck(*_):
        raise KeyboardInterrupt

    slow = {"kind": "timeout", "seconds": 0.1, "match": "POST /jobs$", "times": 1}
    loopback.faults(slow | {"after": True, "late": 5.0})
    with monkeypatch.context() as patch:
        patch.setattr(unconfirmed_jobs, "await_arrival", struck)
        with pytest.raises(KeyboardInterrupt):
            circuit(X)
    assert statuses(jobs()) == {1: "not sent yet", 2: "not sent yet"}
    assert statuses(jobs("fetch", 1)) == {1: "not sent"}
    assert statuses(jobs("cancel", 1, 2)) == {1: "cancelled", 2: "cancelled"}
    (job,) = loopback.jobs()
    assert job["status"] == "Cancelled"


def damage(ledger, statement):
    with sqlite3.connect(ledger.path) as db:
        assert db.execute(statement).rowcount == 1
    db.close()


def test_damaged_results_are_listed_fetched_and_not_exported(
    circuit, loopback, jobs, capsys, ledger
):
    value, _ = circuit(X)
    damage(ledger, "UPDATE points SET result = zeroblob(16) WHERE job = 1 AND place = 0")
    assert statuses(jobs()) == {1: "damaged", 2: "done"}
    assert main(["jobs", "export", "--json", "-"]) == 2
    out, err = capsys.readouterr()
    assert [job["id"] for job in json.loads(out)] == [2]
    assert "1 job could not be exported" in err and "what it has of job 1 is damaged" in err
    assert "1 of 1 jobs" in jobs("fetch") and statuses(jobs()) == {1: "done", 2: "done"}
    (pub,) = json.loads(jobs("export", 1, "--json", "-"))[0]["pubs"]
    np.testing.assert_array_equal(np.ravel(pub["values"]), value)


def test_damaged_rows_are_pruned(circuit, jobs, capsys, ledger):
    circuit(X)
    damage(ledger, "UPDATE jobs SET shots = 7, circuit = 9 WHERE id = 1")
    damage(ledger, "UPDATE points SET job = 70 WHERE job = 2 AND place = 0")
    assert statuses(jobs()) == {1: "damaged", 2: "done"}
    assert "job 1: The ledger" in refused(capsys, "fetch")
    jobs("prune", 1, "--yes")
    assert "damaged results that belong to no job" in jobs("prune", "--yes")
    assert ledger.unsound() == set() and [job.id for job in ledger.jobs()] == [2]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_pruning_asks(circuit, jobs, capsys, monkeypatch, ledger):
    circuit(X)
    assert "0 jobs" in jobs("prune")  # nothing that is done, unless it is old
    with ledger._file.writing() as db:
        tables.update(db, 2, state="failed")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "delete 1 jobs with 2 results. Give --yes" in refused(capsys, "prune", 1)
    for answer, kept in (("n\n", [1, 2]), ("y\n", [2])):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        jobs("prune", 1)
        assert [job.id for job in ledger.jobs()] == kept
    jobs("prune", "--yes", 2)
    assert ledger.jobs() == []
    circuit(X)
    jobs("prune", "--older", 1, "--yes")
    assert len(ledger.jobs()) == 2
    jobs("prune", "--older", 0, "--yes")
    assert ledger.jobs() == []


def test_runs_have_names(tmp_path, monkeypatch, capsys, ledger):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(
        "import pennylane as qml\ndef f(x):\n    qml.RX(x, 0)\n    return qml.expval(qml.Z(0))\n"
    )
    (tmp_path / "mine.toml").write_text(
        'description = "Aer"\nbackend = "aer"\nshots = 1000000\n[options]\nledger = true'
    )

    def evaluate(*arguments):
        command = ["evaluate", "program.py:f", "--params", "1.5", "--device", "mine.toml"]
        assert main([*command, "--json", "-", *arguments]) == 0
        out, err = capsys.readouterr()
        return json.loads(out)["derivatives"], err

    def again():  # the first draw once more, as in another process
        monkeypatch.setattr(
            "qshift.executors.qiskit.estimator._draws", qshift.executors.qiskit.digests.Draws()
        )

    again()
    first, _ = evaluate("--run", "monday")
    again()
    assert evaluate("--run", "monday")[0] == first and len(ledger.jobs()) == 1
    again()
    fresh, err = evaluate("--fresh")
    (name,) = re.findall(r"^Run (\S+); go on with it by --run \1$", err, re.MULTILINE)
    again()
    assert evaluate("--run", name)[0] == fresh != first
    assert [job.run for job in ledger.jobs()] == ["monday", name]
    assert main(["jobs", "--run", "monday"]) == 0
    assert statuses(capsys.readouterr().out) == {1: "done"}


@pytest.mark.parametrize(
    "name", ["", "two words", "Grüße 🙂", "a/b\\c", "line\nbreak\t", "n" * 5000]
)
def test_odd_names_of_runs(name, tmp_path, jobs, ledger, monkeypatch):
    device = EstimatorDevice(backend="aer", ledger=ledger.path, run=name)

    @qshift.qnode(device, shots=10)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    circuit(0.3)
    assert [job.run for job in ledger.jobs()] == [name]
    assert statuses(jobs("--run", name)) == {1: "done"}
    assert len(jobs().splitlines()) < 200 and "\t" not in jobs()
    assert json.loads(jobs("--json", "-"))[0]["run"] == name
    monkeypatch.setattr(
        "qshift.executors.qiskit.estimator._draws", qshift.executors.qiskit.digests.Draws()
    )
    with qshift.Tracker() as tracker:
        circuit(0.3)
    assert tracker.totals["jobs"] == 0


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_names_of_runs_that_are_no_text(where, ledger, monkeypatch):
    options = {"run": "a\udc80"} if where == "argument" else {}
    if where == "environment":
        monkeypatch.setenv("QSHIFT_RUN", "a\udc80")  # as a shell passes bytes that are no text
    with pytest.raises(OptionError, match=r"run: 'a\\udc80' is no text") as caught:
        EstimatorDevice(backend="aer", ledger=ledger.path, **options)
    str(caught.value).encode()
    assert ledger.jobs() == []
