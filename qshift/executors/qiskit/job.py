"""Jobs of Qiskit's primitives, wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Submission:
    """What a job is to run, for `Target.submit`.

    Attributes:
        primitive: ``"estimator"`` or ``"sampler"``.
        pubs: Each with its precision, or for a sampler with its shots.
        seed: Of a simulator's samples, positive; None for fresh ones.
        exact: Whether all precisions are zero, which hardware cannot do.
        tags: By which `find` finds the job, where jobs live on a service.
        sending: Is called there before each request that may create the job; what it raises keeps
            the request from going out.
    """

    primitive: str
    pubs: Sequence
    seed: int | None = None
    exact: bool = False
    tags: Sequence[str] = ()
    sending: Callable[[], None] = lambda: None


class Job(Protocol):
    """A job that was submitted.

    Attributes:
        id: What it is known by where it runs.
        instance: A digest of the service's instance that has it; None if there is none.
    """

    id: str
    instance: str | None

    def status(self) -> str:
        """Returns ``"queued"``, ``"running"``, ``"done"``, ``"failed"`` or ``"cancelled"``.

        Raises:
            QShiftError: If it is not there any more, or that cannot be known.
        """
        ...

    def queue_position(self) -> int | None:
        """Returns how many jobs are before it, if that is known."""
        ...

    def result(self) -> Sequence[Any]:
        """Waits for the results, one for each PUB.

        Raises:
            QShiftError: If it failed or was cancelled; says why.
        """
        ...

    def cancel(self) -> None:
        """Cancels it, if it is not done yet."""
        ...

    def usage(self) -> float | None:
        """Returns the seconds that the quantum processor took, if there is one."""
        ...


class LocalJob:
    """A job of a simulator in this process, which ends with it.

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
        """See `Job`; what goes wrong here is a defect, and raised as it is."""
        return self._job.result()

    def cancel(self) -> None:
        """See `Job`."""
        self._job.cancel()

    def usage(self) -> None:
        """See `Job`."""
