"""Waiting for jobs: the display of their status, and the choice to cancel them on Ctrl-C."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from qshift.executors.qiskit.job import Job
from qshift.progress import progress

_SHORTEST, _LONGEST = 0.1, 5.0  # seconds between two looks at a job
_LEAVING = "(Ctrl-\\ ends the program, not the job)"


def pauses(longest: float = _LONGEST) -> Iterator[float]:
    """Yields seconds to sleep, each longer than the one before."""
    pause = _SHORTEST
    while True:
        yield pause
        pause = min(longest, 1.3 * pause)


def wait(job: Job, say: Callable[[str], None]) -> Sequence:
    """Waits for the results of a job on a service.

    Args:
        job: The job.
        say: A function that is called with texts about the job's status.

    Raises:
        JobError: If the job failed or was cancelled.
    """

    def look(status: str) -> None:
        position = job.queue_position() if status == "queued" else None
        say(status if position is None else f"{status}, position {position}")

    until_over(job, look)
    return job.result()


def until_over(
    job: Job,
    look: Callable[[str], None] = lambda status: None,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Waits until a job is over and returns its status: ``"done"``, ``"failed"``, ``"cancelled"``.

    Args:
        job: The job.
        look: A function that is called with each status before that.
        sleep: Waits so many seconds.
    """
    for pause in pauses():
        status = job.status()
        if status in ("done", "failed", "cancelled"):
            return status
        look(status)
        sleep(pause)
    raise AssertionError("pauses have no end")


@contextmanager
def display(name: str) -> Iterator[Callable[[str], None]]:
    """A context with a display, on terminals and in notebooks, of the job that is waited for.

    Args:
        name: The name of the backend.

    Yields:
        A function to call with a text about the job's status.
    """
    columns = (
        SpinnerColumn(),
        TextColumn(name),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("" if _hears_interruptions() else _LEAVING),
    )
    with progress(columns=columns) as bar:
        task = bar.add_task("", total=None)
        yield lambda text: bar.update(task, description=text)


def _hears_interruptions() -> bool:
    """Whether Ctrl-C is raised in this thread: TensorFlow runs graphs in threads of its own."""
    return threading.current_thread() is threading.main_thread()


def shall_cancel(jobs: Sequence[Job]) -> bool:
    """Asks on a terminal whether to cancel jobs; elsewhere the answer is no."""
    them, listed = ("it", "job") if len(jobs) == 1 else ("them", f"{len(jobs)} jobs")
    print(f"\nWaiting for {listed}: {', '.join(job.id for job in jobs)}", file=sys.stderr)
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"Cancel {them}? Otherwise left running. [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except KeyboardInterrupt:  # a second Ctrl-C leaves the jobs running, so that nothing is lost
        return False
