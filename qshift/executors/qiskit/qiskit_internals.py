"""Every name of qiskit-ibm-runtime that qshift uses, so that a change there needs a change only
here.

tests/executors/qiskit/test_qiskit_internals.py tests what this module promises of names beneath the
public interface.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
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

__all__ = [  # the runtime's names that other modules import from here
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
    "session_of",
]

# Options of the runtime that qshift's own keywords take the place of.
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

    A job gets the noise of its own gates only, because Aer reads the noise model again with each
    job, which takes a second for all gates of a device with 127 qubits.
    """

    _starting = Lock()
    # Methods of the fake backend's class, which the subclass inherits.
    sim: Any
    options: Any
    _setup_sim: Any

    def run(self, run_input: Any, **options: Any) -> Any:
        with self._starting:  # without it, a job during the setup would run without noise
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
    """Returns the part of the noise model that acts in some steps, which are (gate, qubits)."""
    return noise_in(backend.options.noise_model, steps)


def check_options(options: Mapping[str, Any]) -> None:
    """Checks options of the primitives, before anything is submitted.

    Args:
        options: The Estimator's options, in nested tables. A Sampler gets those of them that it
            has.

    Raises:
        OptionError: For an option that does not exist, or a value that is not allowed.
    """
    _check_names(options, EstimatorOptions())
    for make in (EstimatorOptions, SamplerOptions):
        for name, value in _known(options, make()).items():
            try:
                make(**{name: value})
            except ValidationError as error:
                raise _invalid({name: value}, error) from error


def _invalid(options: Any, error: ValidationError) -> OptionError:
    """Returns an error that says which value is not allowed, and which values are."""
    found = error.errors(include_url=False)
    # An option may have values of several kinds; complaints about the other kinds help nobody.
    fault = next((each for each in found if each["type"] != "is_instance_of"), found[0])
    path: list[Any] = []
    value = options
    for part in fault["loc"]:  # names of options, and of the classes that check them
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


def primitive(
    kind: str, mode: Any, options: Mapping[str, Any], seed: int | None, **more: Any
) -> Any:
    """Returns an Estimator or Sampler.

    Args:
        kind: ``"estimator"`` or ``"sampler"``.
        mode: A backend, session or batch.
        options: The Estimator's options; a Sampler gets those of them that it has.
        seed: The seed of a simulator's samples, positive; None for fresh ones.
        **more: Further options.
    """
    make, known = _PRIMITIVES[kind]
    return make(mode=mode, options=_seeded(_known(options, known()), seed) | more)


def client_of(service: QiskitRuntimeService) -> Any:
    """Returns the object that sends the service's requests now. qshift uses its methods

    - ``list_backends()``: tables with the "name", "status" and "qubits" of an instance's devices;
    - ``job_get(job_id, exclude_params=True)``: a table with a job's "id", "program" and "created",
      wherever its backend is;
    - ``jobs_get(limit=, skip=, job_tags=, descending=)``: a table with some "jobs", and the "count"
      of all.

    `RuntimeJobV2` makes a job of it and of what `job_get` returns, without asking for a backend.
    """
    return service._active_api_client


def clients_of(service: QiskitRuntimeService) -> set:
    """Returns the objects that send a service's requests, one for each instance that it knows."""
    return {client_of(service), *service._api_clients.values()}


def instance_of(client: Any) -> str | None:
    """Returns the CRN of the instance that requests are for."""
    return client._instance


def session_of(client: Any) -> requests.Session:
    """Returns the session of the `requests` package through which a client sends all requests."""
    return client._session
