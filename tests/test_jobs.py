"""``qshift jobs`` and named runs, with jobs on the loopback service."""

import io
import json
import re
import sys

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf

import qshift
from qshift.cli import main
from qshift.executors import waiting
from qshift.executors.device import EstimatorDevice
from qshift.ledger import Ledger

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
    @qshift.qnode(EstimatorDevice(backend="ibm:ibm_ideal"), shots=200)
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


def test_a_job_that_the_service_does_not_have(loopback, interrupt, jobs, capsys):
    interrupt()
    loopback.reset()
    assert main(["jobs"]) == 0
    out, err = capsys.readouterr()
    assert statuses(out) == {1: "unknown", 2: "unknown"} and "The service has no job" in err
    assert "The service has no job" in refused(capsys, "fetch", 1)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_pruning_asks(circuit, jobs, capsys, monkeypatch, ledger):
    circuit(X)
    assert "0 jobs" in jobs("prune")  # nothing that is done, unless it is old
    ledger.close(ledger.job(2), "failed", "for a test")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "delete 1 jobs with 2 results. Give --yes" in refused(capsys, "prune", 1)
    for answer, kept in (("n\n", [1, 2]), ("y\n", [2])):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        jobs("prune", 1)
        assert [job.id for job in ledger.jobs()] == kept
    jobs("prune", "--yes")
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
        'description = "Aer with a ledger"\nbackend = "aer"\nshots = 100\n[options]\nledger = true'
    )

    def evaluate(*arguments):
        command = ["evaluate", "program.py:f", "--params", "1.5", "--device", "mine.toml"]
        assert main([*command, "--json", "-", *arguments]) == 0
        out, err = capsys.readouterr()
        return json.loads(out)["derivatives"], err

    def again():  # the first draw once more, as in another process
        monkeypatch.setattr("qshift.executors.estimator._draws", qshift.executors.content.Draws())

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
