"""IBM's service, with an account that its client has saved or finds in environment variables.

Only the client reads tokens; qshift stores, prints and logs none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import requests
from qiskit.providers import BackendV2
from qiskit.providers.exceptions import QiskitBackendNotFoundError

from qshift.errors import AccountError, OptionError, QShiftError, ServiceError
from qshift.executors.qiskit import transport
from qshift.executors.qiskit.job import Submission
from qshift.executors.qiskit.qiskit_internals import (
    VERSION,
    AccountNotFoundError,
    Batch,
    IBMInputValueError,
    InvalidAccountError,
    QiskitRuntimeService,
    RuntimeJobV2,
    Session,
    client_of,
    clients_of,
    instance_of,
    session_of,
    submit,
)
from qshift.executors.qiskit.retry import MissingError, diagnose, unreadable
from qshift.forks import Lock
from qshift.inputs import did_you_mean

_COLONS = 6  # at least, in the name (CRN) of an instance; Qiskit reads the region before the sixth
_MODES = {"session": Session, "batch": Batch}
_SAVE = (
    "Get an API key at quantum.cloud.ibm.com and save it once:\n"
    "    from qiskit_ibm_runtime import QiskitRuntimeService\n"
    '    QiskitRuntimeService.save_account(token="...", instance="...", set_as_default=True)\n'
    "or set QISKIT_IBM_TOKEN and QISKIT_IBM_INSTANCE. qshift.device(..., account=) takes the name "
    "of one account of several."
)


class Connection:
    """A connection to the service that is made with the first request.

    Every method may raise any error of the client; `retry` knows what these mean.

    Args:
        account: The name of a saved account; None for the default one, or that of the environment.
        instance: A CRN or name; None for the account's.
        service: A client that a user has made, in place of one for these two.
    """

    def __init__(
        self,
        account: str | None = None,
        instance: str | None = None,
        service: QiskitRuntimeService | None = None,
    ) -> None:
        self._account, self._instance, self._given = account, instance, service
        self._client: QiskitRuntimeService | None = None
        self._jobs: dict[str, RuntimeJobV2] = {}
        self._lock = Lock()

    def renew(self) -> None:
        """Forgets the connection, so that the next request logs in anew."""
        with self._lock:
            self._client = None
            self._jobs.clear()

    @property
    def _service(self) -> QiskitRuntimeService:
        """The client.

        Raises:
            AccountError: If there is no account, or none that the service knows.
            OptionError: If there is no such instance.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connected()
            _repeat_reads_only(self._client)
            return self._client

    def _connected(self) -> QiskitRuntimeService:
        if self._given is not None:
            return self._given
        instance = str(self._instance)
        if instance.startswith("crn:") and instance.count(":") < _COLONS:
            reason = f"{self._instance!r} is no whole CRN. Copy it from the list of instances"
            raise OptionError("instance", f"{reason}, or give the instance's name.")
        try:
            return QiskitRuntimeService(name=self._account, instance=self._instance)
        except AccountNotFoundError as error:
            name = f"called {self._account!r} " if self._account else ""
            raise AccountError(f"There is no IBM Quantum account {name}here. {_SAVE}") from error
        except IBMInputValueError as error:
            raise OptionError("instance", f"{_line(error)} Choose another instance=.") from error
        except InvalidAccountError as error:
            fault = diagnose(error)
            if fault is not None and (fault.is_transient or fault.is_expired):
                raise
            stumbled = error.__cause__ or error.__context__
            if fault is None and stumbled is not None:  # the client could not read an answer
                raise unreadable(stumbled) from error
            reason = fault.text if fault else _line(error)
            raise AccountError(f"IBM's service refuses the account: {reason}. {_SAVE}") from error

    def plan(self) -> str:
        """Returns the plan of the instance, such as ``"open"``."""
        service = self._service
        active = service.active_instance()
        plans = [each["plan"] for each in service.instances() if each["crn"] == active]
        return plans[0] if plans else "unknown"

    def backend(self, name: str, least_qubits: int, fractional: bool = False) -> BackendV2:
        """Returns a backend by its name; ``"least-busy"`` for the one with the shortest queue.

        Args:
            name: The name.
            least_qubits: How many qubits the least busy one needs.
            fractional: Whether fractional gates are among those of the backend.

        Raises:
            OptionError: If the account has no such backend, or the backend no such gates.
        """
        service = self._service
        try:
            if name == "least-busy":
                if not fractional:
                    return service.least_busy(min_num_qubits=least_qubits)
                name = self._least_busy_fractional(service, least_qubits)
            return service.backend(name, use_fractional_gates=fractional)
        except IBMInputValueError as error:
            reason = f"{name} has no fractional gates; leave it out, or choose another backend"
            raise OptionError("use_fractional_gates", reason) from error
        except QiskitBackendNotFoundError as error:
            devices = _devices(service)
            fitting = [
                each["name"]
                for each in devices
                if each["name"] == name or name == "least-busy" and _fits(each, least_qubits)
            ]
            if fitting:
                raise self._undescribed(fitting[0]) from None
            names = sorted({each["name"] for each in devices})
            has = f"your account has {', '.join(names) or 'none'}"
            if name == "least-busy":
                reason = f"none of at least {least_qubits} qubits is running; {has}"
            else:
                reason = f"there is no {name!r}{did_you_mean(name, names)}; {has}"
            raise OptionError("backend", reason) from error
        finally:
            _repeat_reads_only(service)

    def _least_busy_fractional(self, service: QiskitRuntimeService, least_qubits: int) -> str:
        """Returns the name of the backend with fractional gates that has the shortest queue.

        The client has a function for that, which since 0.51 looks for the gates in descriptions
        that are without them.
        """
        fitting = [each for each in _devices(service) if _fits(each, least_qubits)]
        found = service.backends(min_num_qubits=least_qubits, use_fractional_gates=True)
        described = {each.name: "rzz" in each.basis_gates for each in found}
        able = [each for each in fitting if described.get(each["name"])]
        if able:
            return min(able, key=lambda each: each["queue_length"])["name"]
        for each in fitting:
            if each["name"] not in described:
                raise self._undescribed(each["name"])
        names = ", ".join(sorted({each["name"] for each in fitting})) or "none"
        raise OptionError(
            "use_fractional_gates",
            f"of the backends of at least {least_qubits} qubits that are running ({names}), none "
            "has fractional gates; leave it out, or choose another backend",
        )

    def _undescribed(self, name: str) -> requests.ConnectionError:
        """Forgets the connection, and returns the error for a backend that the client does not
        describe: where no answer came, it remembers that there is no such backend."""
        self.renew()
        return requests.ConnectionError(f"no description of {name}")

    def open(self, mode: str, backend: BackendV2, max_time: int | None) -> Session:
        """Opens a ``"session"`` or ``"batch"``; ``max_time`` is in seconds."""
        return _MODES[mode](backend, max_time=max_time)

    def reopened(self, mode: str, session_id: str) -> Session:
        """Returns the session or batch of an id, after the connection was renewed."""
        return _MODES[mode].from_id(session_id, self._service)

    def submit(
        self,
        submission: Submission,
        mode: BackendV2 | Session,
        options: Mapping[str, Any],
        max_time: int | None,
    ) -> tuple[str, str]:
        """Submits a job, in one attempt; returns its id, and a digest of the instance it is in.

        Args:
            submission: The job. Its tags come before those in the options.
            mode: A backend, session or batch.
            options: The Estimator's options; a Sampler gets those of them that it has.
            max_time: QPU seconds after which the job is cancelled; None for the service's limit.

        Raises:
            QiskitBackendNotFoundError: If the client has not got the backend's description.
        """
        environment = dict(options.get("environment", {}))
        environment["job_tags"] = [*submission.tags, *environment.get("job_tags", ())]
        more: dict[str, Any] = {"environment": environment}
        if max_time is not None:
            more["max_execution_time"] = max_time
        settings = (submission.pubs, {**options, **more}, submission.seed)
        service, asked = self._service, False

        def watch(creates: bool) -> None:
            nonlocal asked
            asked = True
            if creates:
                submission.sending()

        token = transport.watch.set(watch)
        try:
            job_id = transport.name(submit(submission.primitive, mode, *settings).job_id())
            return job_id, _digest(service.active_instance())
        except Exception as error:
            is_ours = isinstance(
                error, QShiftError | IBMInputValueError | QiskitBackendNotFoundError | Warning
            )
            if not asked or is_ours or diagnose(error) is not None:
                raise
            raise unreadable(error) from error  # without a request, the error is about the PUBs
        finally:
            transport.watch.reset(token)

    def job(self, job_id: str) -> RuntimeJobV2:
        """Returns a job of the service, wherever its backend is now.

        Raises:
            qshift.executors.qiskit.retry.MissingError: If there is none.
        """
        with self._lock:
            if job_id not in self._jobs:
                self._jobs[job_id] = self._found(job_id)
            return self._jobs[job_id]

    def _found(self, job_id: str) -> RuntimeJobV2:
        service, asked = self._service, []
        # Two clients may belong to one instance; the one in use already has a token.
        by_instance = {instance_of(client): client for client in clients_of(service)}
        by_instance[instance_of(client_of(service))] = client_of(service)
        for client in by_instance.values():
            try:
                found = client.job_get(job_id, exclude_params=True)
            except Exception as error:
                fault = diagnose(error)
                if fault is None or not (fault.is_missing or fault.status == 403):
                    raise
                asked += [_digest(instance_of(client))] * fault.is_missing
                continue
            return RuntimeJobV2(
                backend=None,
                api_client=client,
                job_id=transport.name(found["id"]),
                program_id=transport.name(found["program"]["id"]),
                service=service,
                creation_date=found.get("created"),
            )
        raise MissingError(asked)

    def forget(self, job_id: str) -> None:
        """Drops the client's object of a job, so that the next question fetches it again."""
        with self._lock:
            self._jobs.pop(job_id, None)

    def find(self, tag: str) -> list[tuple[str, str]]:
        """Returns (id, digest of its instance) of all jobs that have a tag, oldest first."""
        clients = clients_of(self._service)
        found: dict[str, Any] = {}
        refusals: list[Any] = []
        for client in clients:
            try:
                listed = transport.listed(client, tag)
            except Exception as error:  # an instance that refuses the account has none of its jobs
                fault = diagnose(error)
                if fault is None or fault.status != 403 or len(refusals) == len(clients) - 1:
                    raise
                refusals.append(error)
                continue
            for job in listed:
                created = str(job.get("created"))
                found[transport.name(job["id"])] = created, _digest(instance_of(client))
        first = sorted(found.items(), key=lambda each: each[1][0])
        return [(job_id, instance) for job_id, (_, instance) in first]


def _digest(instance: str | None) -> str:
    """Identifies an instance without its name, which has the account's number in it."""
    return hashlib.blake2b(str(instance).encode(), digest_size=8).hexdigest()


def _devices(service: QiskitRuntimeService) -> list[dict[str, Any]]:
    """Returns all backends of an account, as the service describes them."""
    return [each for client in clients_of(service) for each in client.list_backends()]


def _fits(device: Mapping[str, Any], least_qubits: int) -> bool:
    """Whether a backend runs now, has so many qubits, and is not for dry runs."""
    is_online = device["status"]["name"] == "online" and device.get("class") != "mock"
    return is_online and device["qubits"] >= least_qubits


def _repeat_reads_only(service: QiskitRuntimeService) -> None:
    """Keeps a client from repeating requests that change something by itself."""
    try:
        for client in clients_of(service):
            session = session_of(client)
            if not isinstance(session.get_adapter("https://"), transport.ReadsOnly):
                session.mount("https://", transport.ReadsOnly())
                session.mount("http://", transport.ReadsOnly())
    except AttributeError as error:
        raise ServiceError(
            f"qshift does not know how to keep qiskit-ibm-runtime {VERSION} from submitting a job "
            "twice when a connection breaks. Install a release that qshift was tested with."
        ) from error


def _line(error: Exception) -> str:
    """Returns the message of an error of the client in one line."""
    text = " ".join(str(getattr(error, "message", None) or error).strip("'\"").split())
    return text if text.endswith(".") else f"{text}."
