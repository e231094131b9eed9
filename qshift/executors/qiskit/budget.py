"""Limits on the jobs and QPU seconds that a device may send in all, checked before it sends any."""

from __future__ import annotations

from qshift.errors import LimitError, OptionError
from qshift.forks import Lock
from qshift.inputs import is_integer, is_real


class Budget:
    """Counts the jobs and QPU seconds that one device has sent, up to its limits.

    Args:
        max_jobs: The largest number of jobs; None for no limit.
        max_qpu_seconds: The most QPU seconds, as `QNode.plan` estimates them; None for no limit.

    Raises:
        OptionError: If a limit is not a positive number.
    """

    def __init__(self, max_jobs: int | None = None, max_qpu_seconds: float | None = None) -> None:
        for name, value, is_one in (
            ("max_jobs", max_jobs, is_integer),
            ("max_qpu_seconds", max_qpu_seconds, is_real),
        ):
            if value is not None and not (is_one(value) and value > 0):
                raise OptionError(name, f"expected a positive number, got {value!r}")
        self._most_jobs, self._most_seconds = max_jobs, max_qpu_seconds
        self._jobs, self._seconds = 0, 0.0
        self._lock = Lock()

    def spend(self, jobs: int, seconds: float) -> None:
        """Counts jobs that are about to be sent.

        Raises:
            LimitError: If they exceed a limit. Nothing must be sent then.
        """
        with self._lock:
            if self._most_jobs is not None and self._jobs + jobs > self._most_jobs:
                raise LimitError(
                    f"This takes {jobs} jobs, and max_jobs={self._most_jobs} of the device leaves "
                    f"{self._most_jobs - self._jobs}. Nothing was sent. Raise max_jobs=, or send "
                    "fewer: prefetch=2 or qshift.derivatives put all orders into one job."
                )
            if self._most_seconds is not None and self._seconds + seconds > self._most_seconds:
                raise LimitError(
                    f"This takes about {seconds:.3g} QPU seconds, and max_qpu_seconds="
                    f"{self._most_seconds:g} of the device leaves "
                    f"{self._most_seconds - self._seconds:.3g}. Nothing was sent. Raise "
                    "max_qpu_seconds=, take fewer shots, or differentiate by fewer parameters; "
                    "the qnode's plan() says what each order costs."
                )
            self._jobs += jobs
            self._seconds += seconds
