"""What is shown while jobs are waited for, and how often they are looked at."""

import functools
import io
import itertools
import threading

import pytest
from rich.console import Console

from qshift.executors.qiskit import waiting
from qshift.progress import progress


@pytest.fixture
def shown(monkeypatch):
    """A terminal."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(waiting, "progress", functools.partial(progress, console))
    return console.file


def wait():
    with waiting.display("ibm:ibm_torino") as say:
        say("job 1 of 2, queued, position 7")


def test_a_terminal_shows_backend_status_and_elapsed_time(shown):
    wait()
    assert "ibm:ibm_torino job 1 of 2, queued, position 7" in shown.getvalue()
    assert "0:00:00" in shown.getvalue() and "Ctrl" not in shown.getvalue()


def test_where_ctrl_c_does_not_arrive_it_says_what_does(shown):
    thread = threading.Thread(target=wait)  # as TensorFlow runs compiled functions
    thread.start()
    thread.join()
    assert "(Ctrl-\\ ends the program, not the job)" in shown.getvalue()


def test_looks_become_rarer():
    pauses = list(itertools.islice(waiting.pauses(2.0), 20))
    assert pauses[0] < 0.2 and pauses == sorted(pauses) and pauses[-1] == 2.0


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
def test_a_job_is_looked_at_until_it_is_over(end):
    class Job:
        statuses = iter(["queued", "running", "running", end])

        def status(self):
            return next(self.statuses)

    seen, slept = [], []
    assert waiting.until_over(Job(), seen.append, slept.append) == end
    assert seen == ["queued", "running", "running"] and slept == sorted(slept) and len(slept) == 3
