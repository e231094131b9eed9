"""Jobs of Qiskit's primitives, wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Submission:
    """A job that is to be submitted by `Target.submit`.

    Attributes:
        primitive: ``"estimator"`` or ``"sampler"``, or that of each PUB with commas between.
        pubs: The PUBs, each with its precision, or for a sampler with its shots.
        seed: The seed of a simulator's samples, positive; None for fresh ones.
        exact: Whether all precisions are zero, which hardware cannot do.
        errors: Whether the standard errors of expectation values are wanted. Services return theirs
            in any case; simulators of this process take some time for good ones.
        tags: The tags by which `find` finds the job on a service.
        sending: A function that is called before each request to a service that may create the job;
            if it raises an error, the request is not sent.
        noise: The noise of layers of gates that an Estimator cancels or amplifies, as the client
            takes it; None where it needs none.
    """

    primitive: str
    pubs: Sequence
    seed: int | None = None
    exact: bool = False
    errors: bool = False
    tags: Sequence[str] = ()
    sending: Callable[[], None] = lambda: None
    noise: Any = None


class Job(Protocol):
    """A job that was submitted.

    Attributes:
        id: The job's id at its service, or in this process.
        instance: A digest of the service's instance that has the job; None without a service.
    """

    id: str
    instance: str | None

    def status(self) -> str:
        """Returns ``"queued"``, ``"running"``, ``"done"``, ``"failed"`` or ``"cancelled"``.

        Raises:
            QShiftError: If the job no longer exists, or the service does not answer.
        """
        ...

    def queue_position(self) -> int | None:
        """Returns how many jobs are queued before this one, if that is known."""
        ...

    def result(self) -> Sequence[Any]:
        """Waits for the results, one for each PUB.

        Raises:
            QShiftError: If the job failed or was cancelled; the message says why.
        """
        ...

    def cancel(self) -> None:
        """Cancels the job, if it is not done yet."""
        ...

    def usage(self) -> float | None:
        """Returns the seconds that the quantum processor took, if there is one."""
        ...


class LocalJob:
    """A job of a simulator in this process.

    Args:
        job: A job of Qiskit's primitives.
    """

    _STATUS = {
        "INITIALIZING": "queued",
        "QUEUED": "queued",
        "VALIDATING": "queued",
        "RUNNING": "running",
        "DONE": "done",
        "ERROR": "failed",
        "CANCELLED": "cancelled",
    }

    def __init__(self, job: Any) -> None:
        self._job = job
        self.id = str(job.job_id())
        self.instance: str | None = None

    def status(self) -> str:
        """See `Job`."""
        status = self._job.status()
        return self._STATUS[getattr(status, "name", str(status)).upper()]

    def queue_position(self) -> None:
        """See `Job`."""

    def result(self) -> Sequence[Any]:
        """See `Job`. Errors are raised unchanged: in a simulator they are defects."""
        return self._job.result()

    def cancel(self) -> None:
        """See `Job`."""
        self._job.cancel()

    def usage(self) -> None:
        """See `Job`."""
