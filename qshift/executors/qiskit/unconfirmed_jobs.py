"""Jobs that may have reached a service although the service has not confirmed them.

A request that creates a job may be carried out although its answer is an error, or never comes,
and the job may appear in the service's list only seconds later. So a job is sent again only after
the list has been searched for its tag during the whole of `GRACE`. If a job still turns up twice,
one is used and the other is cancelled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from qshift.errors import QShiftError
from qshift.executors.qiskit import waiting
from qshift.executors.qiskit.job import Job

# Seconds after the end of a request within which a job that it has created appears in the list.
GRACE = 15.0
# Seconds after which the request of a killed process has ended, with success or without.
LONGEST_REQUEST = 400.0
_BEST_FIRST = ("done", "running", "queued")
_log = logging.getLogger("qshift")


def await_arrival(
    find: Callable[[], Sequence[Job]], tag: str, seconds: float, sleep: Callable = time.sleep
) -> Job | None:
    """Looks for a job that may be on its way to a service.

    Args:
        find: Returns the jobs on the service that have the tag.
        tag: The tag, for messages.
        seconds: How long to look for the job; 0 for a single look.
        sleep: Waits so many seconds.

    Returns:
        The job, or None if it has not arrived in that time.
    """
    start, said = time.monotonic(), False
    with waiting.display(f"job tagged {tag}") as say:
        for pause in waiting.pauses(2.0):
            left = start + seconds - time.monotonic()  # before the look: the last one is at the end
            if found := find():
                return only_one(found, tag)
            if left <= 0:
                return None
            if not said:
                said = True
                _log.warning(
                    "A job may have reached the service without an answer from it. Looking for it "
                    "by its tag %s for %.0f s before it is sent again, so that it is not paid for "
                    "twice",
                    tag,
                    left,
                )
            say(f"may have been sent already: looking for it {left:.0f} s longer")
            sleep(min(pause, left))
    return None


def only_one(jobs: Sequence[Job], tag: str) -> Job:
    """Returns the one to use of several jobs that measure the same, and cancels the others.

    Args:
        jobs: One or more, oldest first.
        tag: The tag of the jobs, for messages.
    """
    if len(jobs) == 1:
        return jobs[0]
    statuses = {job.id: _status(job) for job in jobs}
    used = min(jobs, key=lambda job: _rank(statuses[job.id]))
    for job in jobs:
        if job is used or statuses[job.id] in ("failed", "cancelled", "lost"):
            continue
        end = "has run already"
        if statuses[job.id] != "done":
            try:
                job.cancel()
                end = "was cancelled"
            except QShiftError as error:
                end = f"could not be cancelled ({error})"
        _log.warning(
            "The service has two jobs for one request, tagged %s: %s is used, and %s %s",
            tag,
            used.id,
            job.id,
            end,
        )
    return used


def _status(job: Job) -> str:
    try:
        return job.status()
    except QShiftError:
        return "lost"


def _rank(status: str) -> int:
    return _BEST_FIRST.index(status) if status in _BEST_FIRST else len(_BEST_FIRST)
