"""All that qshift uses of qiskit-ibm-runtime, so that what moves there moves here only. What is
promised of names beneath the public interface is tested alone, in
tests/executors/qiskit/test_qiskit_internals.py.

Its local testing mode runs the runtime's own primitives on Aer and on fake backends, which have
the qubits, gates and noise of a real one. Nothing leaves the machine.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import requests
from pydantic import ValidationError
from qiskit import QuantumCircuit
from qiskit.providers import BackendV2
from qiskit_ibm_runtime import (
    Batch,
    EstimatorV2,
    IBMInputValueError,
    QiskitRuntimeService,
    RuntimeJobV2,
    SamplerV2,
    Session,
    fake_provider,
)
from qiskit_ibm_runtime import __version__ as VERSION
from qiskit_ibm_runtime.accounts import AccountNotFoundError, InvalidAccountError
from qiskit_ibm_runtime.options import EstimatorOptions, SamplerOptions

from qshift.errors import OptionError
from qshift.executors.qiskit.aer_internals import noise_in
from qshift.forks import Lock
from qshift.inputs import did_you_mean

__all__ = [  # what others have from here, as they do not import the package themselves
    "VERSION",
    "AccountNotFoundError",
    "Batch",
    "IBMInputValueError",
    "InvalidAccountError",
    "QiskitRuntimeService",
    "RuntimeJobV2",
    "Session",
    "check_options",
    "client_of",
    "clients_of",
    "fake_backend",
    "fake_names",
    "instance_of",
    "primitive",
    "run_locally",
    "session_of",
]

# Options that say what qshift says otherwise.
_ELSEWHERE = {
    "default_shots": "give shots= to the device or the qnode",
    "default_precision": "give precision= or shots= to qshift.device",
    "seed_estimator": "give seed= to the qnode",
    "simulator.seed_simulator": "give seed= to the qnode",
    "max_execution_time": "give max_time= to qshift.device",
}
_PRIMITIVES = {"estimator": (EstimatorV2, EstimatorOptions), "sampler": (SamplerV2, SamplerOptions)}


def fake_names() -> list[str]:
    """Returns the names of the classes of fake backends."""
    return sorted(
        name
        for name, kind in vars(fake_provider).items()
        if name.startswith("Fake") and isinstance(kind, type) and issubclass(kind, BackendV2)
        if name != "FakeBackendV2"
    )


@functools.cache
def fake_backend(name: str) -> BackendV2:
    """Returns a fake backend, always the same one: its noise model takes seconds to build.

    Args:
        name: One of `fake_names`.
    """
    kind = getattr(fake_provider, name)
    return type(name, (_Shared, kind), {})()


class _Shared:
    """A fake backend that all jobs share, with its noise model, which takes seconds to build.

    A job is given the noise of its own gates. Aer reads a noise model anew with each job, which for
    all gates of a device with 127 qubits takes a second.
    """

    _starting = Lock()
    # Of the fake backend.
    sim: Any
    options: Any
    _setup_sim: Any

    def __deepcopy__(self, memo: Any) -> Any:
        return self  # local testing mode copies backends, and each would build a noise model

    def run(self, run_input: Any, **options: Any) -> Any:
        with self._starting:  # a job that comes while the noise model is built would have no noise
            if self.sim is None:
                self._setup_sim()  # makes `sim`, and `options.noise_model`
        circuits = [run_input] if isinstance(run_input, QuantumCircuit) else run_input
        if self.options.noise_model is not None:
            steps = {
                (step.operation.name, tuple(circuit.find_bit(qubit).index for qubit in step.qubits))
                for circuit in circuits
                for step in circuit.data
            }
            options = {"noise_model": _noise(self, frozenset(steps))} | options
        return super().run(circuits, **options)  # type: ignore[misc]  # of the fake backend


@functools.lru_cache(64)
def _noise(backend: Any, steps: frozenset[tuple[str, tuple[int, ...]]]) -> Any:
    """Returns that part of the noise model that acts in some steps, which are (gate, qubits)."""
    return noise_in(backend.options.noise_model, steps)


def check_options(options: Mapping[str, Any]) -> None:
    """Checks options of the primitives, before anything is submitted.

    Args:
        options: Those of the Estimator, in nested tables; a Sampler is given those it has as well.

    Raises:
        OptionError: For a name that there is not, and a value that is not allowed.
    """
    _check_names(options, EstimatorOptions())
    for make in (EstimatorOptions, SamplerOptions):
        for name, value in _known(options, make()).items():
            try:
                make(**{name: value})
            except ValidationError as error:
                raise _invalid({name: value}, error) from error


def _invalid(options: Any, error: ValidationError) -> OptionError:
    """Returns an error that says which value is not allowed, and what is."""
    found = error.errors(include_url=False)
    # An option may be of several kinds: that the value is of another one says little.
    fault = next((each for each in found if each["type"] != "is_instance_of"), found[0])
    path: list[Any] = []
    value = options
    for part in fault["loc"]:  # the names of options, and of the classes they are checked by
        if isinstance(value, Mapping) and part in value:
            path, value = [*path, part], value[part]
    return OptionError(".".join(path), f"got {value!r}: {fault['msg']}")


def _check_names(options: Mapping[str, Any], known: Any, above: Any = ()) -> None:
    """Raises OptionError for the first name that is not a field of options."""
    names = [field.name for field in fields(known) if not field.name.startswith("_")]
    for name, value in options.items():
        path = ".".join((*above, name))
        if path in _ELSEWHERE:
            raise OptionError(path, _ELSEWHERE[path])
        if name not in names:
            hint = did_you_mean(name, names)
            place = f"{'.'.join(above)} of Qiskit's Estimator" if above else "Qiskit's Estimator"
            shown = ", ".join(name for name in names if ".".join((*above, name)) not in _ELSEWHERE)
            raise OptionError(path, f"no such option{hint}; {place} has {shown}")
        inner = getattr(known, name)
        if is_dataclass(inner) and not isinstance(inner, type):
            if not isinstance(value, Mapping):
                raise OptionError(path, f"expected a table of options, got {value!r}")
            _check_names(value, inner, (*above, name))


def _known(options: Any, known: Any) -> dict:
    """Returns those of the options that are fields of some options class, on all levels."""
    kept = {}
    for field in fields(known):
        if field.name in options:
            value, inner = options[field.name], getattr(known, field.name)
            nested = is_dataclass(inner) and not isinstance(inner, type)
            kept[field.name] = _known(value, inner) if nested else value
    return kept


def _seeded(options: Any, seed: int | None) -> dict:
    if seed is None:
        return dict(options)
    return {**options, "simulator": {**options.get("simulator", {}), "seed_simulator": seed}}


def run_locally(
    kind: str, backend: BackendV2, pubs: Sequence, options: Mapping[str, Any], seed: int | None
) -> Any:
    """Submits a job to the local testing mode and returns it, without waiting.

    Args:
        kind: ``"estimator"`` or ``"sampler"``.
        backend: Where to.
        pubs: Estimator PUBs with their precision, or Sampler PUBs with their shots.
        options: The Estimator's options; a Sampler is given those that it has as well.
        seed: Of the simulator's samples, positive; None for fresh ones.
    """
    return primitive(kind, backend, options, seed).run(pubs)


def primitive(
    kind: str, mode: Any, options: Mapping[str, Any], seed: int | None, **more: Any
) -> Any:
    """Returns an Estimator or Sampler.

    Args:
        kind: As for `run_locally`.
        mode: A backend, session or batch.
        options: As for `run_locally`.
        seed: As for `run_locally`.
        **more: Further options.
    """
    make, known = _PRIMITIVES[kind]
    return make(mode=mode, options=_seeded(_known(options, known()), seed) | more)


def client_of(service: QiskitRuntimeService) -> Any:
    """Returns what the service's requests go out by now. Of it are used

    - ``list_backends()``: tables with the "name", "status" and "qubits" of an instance's devices;
    - ``job_get(job_id, exclude_params=True)``: a table with a job's "id", "program" and "created",
      wherever its backend is;
    - ``jobs_get(limit=, skip=, job_tags=, descending=)``: a table with some "jobs", and the "count"
      of all.

    `RuntimeJobV2` makes a job of it and of what `job_get` returns, without asking for a backend.
    """
    return service._active_api_client


def clients_of(service: QiskitRuntimeService) -> set:
    """Returns what its requests go out by, for each instance that it has come to know."""
    return {client_of(service), *service._api_clients.values()}


def instance_of(client: Any) -> str | None:
    """Returns the CRN of the instance that requests are for."""
    return client._instance


def session_of(client: Any) -> requests.Session:
    """Returns what sends requests, all of them."""
    return client._session
