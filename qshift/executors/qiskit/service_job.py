"""A job on IBM's service: its status and results, and errors where it was deleted there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qshift.errors import JobError, QShiftError, ServiceError
from qshift.executors.qiskit import unconfirmed_jobs, waiting
from qshift.executors.qiskit.retry import MissingError, diagnose
from qshift.inputs import is_real

if TYPE_CHECKING:
    from qshift.executors.qiskit.service import ServiceTarget

_log = logging.getLogger("qshift")
_STATUS = {
    "INITIALIZING": "queued",
    "QUEUED": "queued",
    "RUNNING": "running",
    "DONE": "done",
    "ERROR": "failed",
    "CANCELLED": "cancelled",
}


class ServiceJob:
    """A job on the service; see `qshift.executors.qiskit.job.Job`. Each method sends a request.

    Args:
        target: The target that the job runs on.
        job_id: The job's id on the service.
        instance: A digest of the instance that has the job; None if that is not known.
        doubted: The job's tag, if the job may have been sent more than once. While this job is
            waited for, other jobs with the tag are looked for and cancelled.
        age: Seconds since the job was sent, at least.
    """

    def __init__(
        self,
        target: ServiceTarget,
        job_id: str,
        instance: str | None = None,
        doubted: str | None = None,
        age: float = 0.0,
    ) -> None:
        self._target = target
        self._doubted = doubted
        self._sent = time.monotonic() - age
        self._odd: str | None = None  # a status that the service is not known to have
        self.id, self.instance = job_id, instance

    def _ask(self, question: Callable[[Any], Any], what: str) -> Any:
        """Asks the service about the job.

        Raises:
            JobError: If the service no longer has the job.
        """
        connection = self._target.connection

        def answered() -> Any:
            for _ in range(2):
                try:
                    return question(connection.job(self.id))
                except Exception as error:
                    fault = diagnose(error)
                    if fault is None or not fault.is_missing:
                        raise
                connection.forget(self.id)  # the client's object is of a job that existed before
            raise MissingError([self.instance])  # the job exists, but not what was asked about it

        what = f"{what} {self.id}"
        for pause in waiting.pauses(2.0):
            try:
                return self._target.ask(answered, what)
            except MissingError as error:
                # Parts of the service may not know yet of a job that has just arrived.
                if time.monotonic() - self._sent > unconfirmed_jobs.GRACE:
                    raise self._lost(error) from None
            self._target.sleep(pause)

    def _lost(self, error: Any) -> QShiftError:
        """Returns the error for a job that the service does not have."""
        if self.instance in error.asked:
            reason = "the service does not have it any more; it was deleted there"
            return JobError(self.id, "lost", reason, "Run this again to submit it anew.")
        where = "belongs to another account or instance"
        known = "was sent by" if self.instance else "may have been sent by"
        return ServiceError(
            f"The service has no job {self.id}: it {where}, or was deleted. It {known} another one "
            "than this. Give the account= or instance= of that one. If it was deleted, forget it "
            "by `qshift jobs prune` and its number; what it was to measure is then sent, and paid "
            "for, again."
        )

    def _settle(self) -> None:
        """Cancels other jobs that were sent for the same points, so that only this one is left."""
        if self._doubted is None:
            return
        this = ServiceJob(self._target, self.id, self.instance)
        others = [job for job in self._target.find(self._doubted) if job.id != self.id]
        used = unconfirmed_jobs.only_one([this, *others], self._doubted)
        self.id, self.instance = used.id, used.instance

    def status(self) -> str:
        """See `Job`."""
        self._settle()
        return self._status()

    def _status(self) -> str:
        said = self._ask(lambda job: job.status(), "Asking for job")
        if said not in _STATUS and said != self._odd:
            self._odd = said
            _log.warning("Job %s is %r, of which qshift knows nothing; it waits", self.id, said)
        return _STATUS.get(said, "queued")

    def queue_position(self) -> int | None:
        """See `Job`."""
        key = "position_in_queue"
        return self._ask(lambda job: _number(job.metrics().get(key)), "Asking for the queue of job")

    def result(self) -> Sequence[Any]:
        """See `Job`.

        Raises:
            JobError: If it failed or was cancelled.
            ServiceError: If the service cannot be reached.
        """
        status = waiting.until_over(self, sleep=self._target.sleep)
        if status == "done":
            from qshift.executors.qiskit.qiskit_internals import results

            return self._ask(results, "Fetching the results of")
        raise self._failure(status)

    def _failure(self, status: str) -> JobError:
        reason = self._ask(lambda job: job.error_message(), "Asking what happened to job")
        reason = " ".join((reason or "the service gives no reason").split()).rstrip(".")
        prefix = f"Job {self.id} has failed: "
        reason = reason.removeprefix(prefix)
        if "maximum execution time" in reason:
            advice = "Raise max_time=, or take fewer shots, and run this again."
        elif status == "cancelled":
            reason = "by you or the operator"
            advice = "Run this again to submit it anew; what was received before is kept."
        else:
            advice = (
                "What was received before is kept. Run this again to submit it anew; if it fails "
                "again, the circuit, an option or the backend may be at fault."
            )
        return JobError(self.id, status, reason, advice)

    def cancel(self) -> None:
        """See `Job`."""

        def attempt(job: Any) -> None:
            try:
                job.cancel()
            except Exception as error:
                fault = diagnose(error)
                if fault is None or fault.status != 409:  # 409: the job has already ended
                    raise

        self._settle()  # a second job of the same points, if there is one, is cancelled as well
        self._ask(attempt, "Cancelling job")

    def usage(self) -> float | None:
        """See `Job`."""
        return self._ask(lambda job: _used(job.metrics()), "Asking for the QPU time of job")


def _used(metrics: Any) -> float | None:
    """Returns the QPU seconds of a job; None while the service is still counting."""
    usage = metrics.get("usage") or {}
    if usage.get("status") == "pending":
        return None
    return _number(usage.get("qpu_charge_time_seconds", usage.get("quantum_seconds")))


def _number(value: Any) -> float | None:
    """Returns a number from an answer, or None if the answer has something else in its place."""
    if value is not None and not is_real(value):
        raise TypeError("a number was expected")
    return value
