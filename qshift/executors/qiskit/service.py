"""IBM's quantum computers as targets: jobs that live on a service and outlive this process."""

from __future__ import annotations

import contextlib
import math
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import requests
from qiskit.exceptions import QiskitError
from qiskit.providers import BackendV2
from qiskit.providers.exceptions import QiskitBackendNotFoundError

from qshift.errors import OptionError, QShiftWarning, ServiceError
from qshift.executors.qiskit import unconfirmed_jobs
from qshift.executors.qiskit.job import Submission
from qshift.executors.qiskit.retry import never_went_out, persist, understood
from qshift.executors.qiskit.service_job import ServiceJob
from qshift.executors.qiskit.targets import Target
from qshift.executors.qiskit.usage import Usage
from qshift.forks import Lock

_LEAST_BUSY = "least-busy"
_DRY = "mock_"  # how the names begin of backends without a quantum processor
_LONGEST_JOB = 3 * 3600  # seconds; the service's limit for all users
_FILLED = 0.8  # the part of a job's time limit that circuits may fill; the job itself takes some


class ServiceTarget(Target):
    """A backend of IBM's service. The service is not contacted before it is needed.

    Args:
        name: ``"ibm:NAME"``, or ``"ibm:least-busy"`` for the backend that has the shortest queue
            when one is first needed; this target then stays with it.
        least_qubits: How many qubits the least busy backend needs.
        opened: The backend itself, if a user has opened it.
        The others: as for `qshift.executors.qiskit.device.EstimatorDevice`.

    Attributes:
        connection: The connection to the service, which `ServiceJob` asks as well.
        sleep: The function that waits between attempts and looks.

    Raises:
        OptionError: For a value that is not allowed.
    """

    is_remote = True
    sleep = staticmethod(time.sleep)

    def __init__(
        self,
        name: str,
        optimization_level: int | None,
        options: Mapping[str, Any],
        *,
        account: str | None = None,
        instance: str | None = None,
        mode: str = "job",
        max_time: int | None = None,
        use_fractional_gates: bool = False,
        least_qubits: int = 1,
        opened: Any = None,
    ) -> None:
        super().__init__(name, optimization_level, options)
        from qshift.executors.qiskit.connection import Connection

        if not self.backend_name:
            reason = f'got {name!r}; expected "ibm:NAME" or "ibm:{_LEAST_BUSY}"'
            raise OptionError("backend", reason)
        if self.backend_name.startswith(_DRY):
            warnings.warn(
                f"{name} is for dry runs: it checks jobs and counts their seconds, and all results "
                "are random numbers.",
                QShiftWarning,
                stacklevel=2,
            )
        if options.get("simulator"):
            reason = f"no effect on {name}, which is no simulator: leave it out"
            raise OptionError("simulator", reason)
        if mode not in ("job", "batch", "session"):
            raise OptionError("mode", f'expected "job", "batch" or "session", got {mode!r}')
        if max_time is not None and (type(max_time) is not int or max_time < 1):
            raise OptionError("max_time", f"expected a number of seconds, got {max_time!r}")
        if not isinstance(use_fractional_gates, bool):
            reason = f"expected True or False, got {use_fractional_gates!r}"
            raise OptionError("use_fractional_gates", reason)
        if use_fractional_gates and (problem := self.usage.against_fractional_gates):
            raise OptionError("use_fractional_gates", f"they do not go together with {problem}")
        self._fractional = use_fractional_gates
        for key, value in (("account", account), ("instance", instance)):
            if value is not None and (not isinstance(value, str) or not value):
                raise OptionError(key, f"expected a name, got {value!r}")
        from qshift.executors.qiskit import qiskit_internals as runtime

        self.usage = Usage(options, learns_all=not runtime.LEARNS_BY_ITSELF)
        own = runtime.own_mitigation(options)
        if own is not None:
            self.mitigation = own
            self.usage = Usage(options, own)
        limit = max_time if max_time and mode == "job" else _LONGEST_JOB
        self.longest_job = _FILLED * min(limit, _LONGEST_JOB)
        self._mode, self._max_time, self._least_qubits = mode, max_time, least_qubits
        named = {"account": account, "instance": instance}
        self.access = {key: value for key, value in named.items() if value is not None}
        self._opened = opened
        self.connection = Connection(account, instance, opened and opened.service)
        self._session = None
        self._opening = Lock()

    def ask(self, action: Callable[[], Any], what: str) -> Any:
        """Sends a request that only reads, and repeats it after transient faults."""
        return persist(lambda: understood(action), what, self._renew, self.sleep)

    def _renew(self) -> None:
        self.connection.renew()
        self.__dict__.pop("_device", None)
        self._session = self._session and self._session.session_id

    @property
    def backend_name(self) -> str:
        """The backend's own name, as far as that is known."""
        return self.name.partition(":")[2]

    @cached_property
    def _device(self) -> BackendV2:
        def look_up() -> Any:
            found = self._opened
            if found is None:
                found = self.connection.backend(wanted, self._least_qubits, self._fractional)
            found.properties()  # the client keeps them; if this fails later, it never asks again
            return found

        wanted = self.backend_name
        found = self.ask(look_up, f"Looking {wanted} up")
        self.name = f"ibm:{found.name}"
        return found

    def _version(self) -> tuple:
        properties = self.ask(self._device.properties, f"Asking for the properties of {self.name}")
        updated = properties and properties.last_update_date.isoformat()
        version = self.backend_name, self._device.backend_version, updated
        return (*version, "fractional gates") if self._fractional else version

    def _settings(self, level: int, options: Mapping[str, Any]) -> dict[str, Any]:
        settings = super()._settings(level, options)
        return settings | {"use_fractional_gates": True} if self._fractional else settings

    def kinds(self, pubs: Sequence[tuple[str, int]]) -> list[tuple[Hashable, int]]:
        """See `Target.kinds`; it depends on the runtime client."""
        from qshift.executors.qiskit import qiskit_internals as runtime

        return runtime.kinds(pubs, self._options) if runtime.kinds else super().kinds(pubs)

    def require_noise(self, ledger: Any) -> None:
        """See `Target.require_noise`; it depends on the runtime client."""
        from qshift.executors.qiskit import qiskit_internals as runtime

        if self.usage.learns and ledger is None and not runtime.LEARNS_BY_ITSELF:
            raise OptionError(
                "resilience",
                f"with qiskit-ibm-runtime {runtime.VERSION}, the noise that is cancelled or "
                "amplified is learnt by a job of its own and kept in the ledger, and there is none "
                "(ledger=False). Give a ledger, or the noise as resilience.layer_noise_model.",
            )

    def layers(self, pubs: Sequence[tuple]) -> list[tuple[bytes, Any, Sequence]]:
        """Returns the layers of gates in Estimator PUBs whose noise mitigation needs; see the
        function of this name in `qshift.executors.qiskit.qiskit_internals`."""
        from qshift.executors.qiskit import qiskit_internals as runtime

        return runtime.layers(self._device, pubs, self._options)

    def calibrated(self, layers: Sequence[Sequence[tuple[str, tuple[int, ...]]]]) -> list[float]:
        """Returns for each layer, given as gates (name, qubits), the Unix time at which one of its
        gates was calibrated last; 0 where the backend does not tell."""
        what = f"Asking for the properties of {self.name}"
        properties = self.ask(lambda: self._device.properties(refresh=True), what)
        return [
            max((_calibrated(properties, *gate) for gate in gates), default=0.0) for gates in layers
        ]

    def submit(self, submission: Submission) -> ServiceJob:
        """Submits a job and returns it; see `Target.submit`.

        No other job may have the same first tag: if no clear answer comes, the service is searched
        for this tag before the job is submitted again.

        Raises:
            AccountError: If there is no account, or the service refuses it.
            ServiceError: If the job cannot be submitted.
        """
        tags = list(map(str, submission.tags)) or [f"qshift-{uuid.uuid4().hex}"]
        limit = self._max_time if self._mode == "job" else None
        options = self._options
        if submission.noise is not None:
            own = options.get("resilience", {})
            told = {**own, "layer_noise_model": submission.noise}
            options = {**options, "resilience": told}
        ends: list[float] = []  # when requests ended that may have reached the service

        def noted() -> None:
            submission.sending()
            ends.append(math.inf)

        def doubted() -> str | None:
            return tags[0] if len(ends) > 1 else None

        def attempt() -> Any:
            if ends:
                left = max(0.0, ends[-1] + unconfirmed_jobs.GRACE - time.monotonic())
                arrived = unconfirmed_jobs.await_arrival(
                    lambda: self.find(tags[0]), tags[0], left, self.sleep
                )
                if arrived:
                    return ServiceJob(self, arrived.id, arrived.instance, doubted())
            understood(self._require_running)
            mode = understood(self._open)
            before = len(ends)
            try:
                submitted = self.connection.submit(
                    replace(submission, tags=tags, sending=noted), mode, options, limit
                )
            except Exception as error:
                if len(ends) > before:
                    ends[-1] = time.monotonic()
                    if never_went_out(error):
                        ends.pop()
                if isinstance(error, QiskitBackendNotFoundError):
                    # Where no answer came, this client remembers that there is no such backend.
                    self._renew()
                    raise requests.ConnectionError(f"no description of {self.name}") from None
                raise
            return ServiceJob(self, *submitted, doubted())

        what = f"Submitting a job to {self.name}"
        return persist(attempt, what, self._renew, self.sleep)

    def _require_running(self) -> None:
        """Raises ServiceError if the backend is in maintenance. Nothing is submitted then."""
        status = self._device.status()
        if not status.status_msg:  # the client could not read the answer
            raise TypeError("the status of a backend was expected")
        if not status.operational:
            raise ServiceError(
                f"{self.backend_name} does not run jobs now (its status: {status.status_msg}). "
                "Nothing was submitted, and what was received before is kept. Run this again when "
                f'it is back, or choose another backend, such as backend="ibm:{_LEAST_BUSY}".'
            )

    def _open(self) -> Any:
        """Returns the backend, session or batch that jobs are submitted to."""
        if self._mode == "job":
            return self._device
        with self._opening:
            if isinstance(self._session, str):  # only its id is left after credentials were renewed
                self._session = self.connection.reopened(self._mode, self._session)
            if self._session is None:
                device = self._device
                if self._mode == "session" and self.connection.plan() == "open":
                    raise OptionError(
                        "mode",
                        'the open plan has no sessions. Take mode="job" (the default: one job for '
                        'all circuits of a batch) or mode="batch", or the instance= of another '
                        "plan.",
                    )
                self._session = self.connection.open(self._mode, device, self._max_time)
                weakref.finalize(self, _close, self._session)
            return self._session

    def job(
        self,
        job_id: str,
        instance: str | None = None,
        doubted: str | None = None,
        age: float | None = None,
    ) -> ServiceJob:
        """Returns a job that exists on the service; sends no request.

        Args:
            job_id: The job's id on the service.
            instance: A digest of the instance that has the job; None if that is not known.
            doubted: The job's tag, if the job may have been sent more than once.
            age: Seconds since the job was sent, at least.
        """
        return ServiceJob(self, job_id, instance, doubted, age or 0.0)

    def find(self, tag: str) -> list[ServiceJob]:
        """Returns the jobs on the service that have a tag, oldest first."""
        found = self.ask(lambda: self.connection.find(tag), f"Looking for jobs tagged {tag}")
        return [ServiceJob(self, *each) for each in found]


def _calibrated(properties: Any, name: str, qubits: Sequence[int]) -> float:
    """Returns the Unix time of the latest property of a gate, in whichever order its qubits are
    named; 0 where there is none."""
    for each in (qubits, qubits[::-1]) if properties else ():
        with contextlib.suppress(QiskitError):
            found = properties.gate_property(name, each)
            return max((date.timestamp() for _, date in found.values()), default=0.0)
    return 0.0


def _close(session: Any) -> None:
    """Closes a session or batch: its jobs still run, and it is not paid for any longer."""
    with contextlib.suppress(Exception):  # the service closes it after a while in any case
        session.close()
