"""The one door to qiskit-ibm-runtime: every name that all its releases have, and the choice of
the module that has the others.

`runtime_primitives` and `runtime_executor` are for one generation of the client each. No other
module imports it.

tests/executors/qiskit/test_qiskit_internals.py tests what this module promises of names beneath the
public interface.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import requests
from qiskit import QuantumCircuit
from qiskit.providers import BackendV2
from qiskit_ibm_runtime import (
    Batch,
    IBMInputValueError,
    QiskitRuntimeService,
    RuntimeJobV2,
    Session,
    fake_provider,
)
from qiskit_ibm_runtime import __version__ as VERSION
from qiskit_ibm_runtime.accounts import AccountNotFoundError, InvalidAccountError

from qshift.executors.qiskit import option_tables
from qshift.executors.qiskit.aer_internals import noise_in

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
    "kinds",
    "layers",
    "noise",
    "own_mitigation",
    "results",
    "session_of",
    "submit",
]

# In 0.50 the client deprecates its own primitives, in favour of others that the Executor runs.
_GENERATION: Any = import_module(
    "qshift.executors.qiskit."
    + (
        "runtime_executor"
        if (0, 50) <= tuple(map(int, VERSION.split(".")[:2]))
        else "runtime_primitives"
    )
)
submit, results, own_mitigation = _GENERATION.submit, _GENERATION.results, _GENERATION.own
layers, noise = _GENERATION.layers, _GENERATION.noise
LEARNS_BY_ITSELF, MOST_LEARNT = _GENERATION.LEARNS_BY_ITSELF, _GENERATION.MOST_LEARNT
# None if each job is one of a primitive, as everywhere else.
kinds = getattr(_GENERATION, "kinds", None)


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
    """Returns a fake backend, always the same one.

    Args:
        name: One of `fake_names`.
    """
    kind = getattr(fake_provider, name)
    return type(name, (_Shared, kind), {})()


class _Shared:
    """A fake backend that all jobs share.

    A job gets the noise of its own gates only: it takes seconds to build that of all gates of a
    device with 127 qubits, and one more with each job, because Aer reads the noise model again.
    """

    # Of the fake backend's class, which the subclass inherits.
    sim: Any
    target: Any
    _props_dict: Any

    def run(self, run_input: Any, **options: Any) -> Any:
        if self.sim is None:
            from qiskit_aer import AerSimulator

            self.sim = AerSimulator()  # the base class would make it with the noise of all gates
        circuits = [run_input] if isinstance(run_input, QuantumCircuit) else run_input
        if self.target and self._props_dict:
            steps = {
                step for circuit in circuits for step in _steps(circuit, range(circuit.num_qubits))
            }
            options = {"noise_model": _noise(self, frozenset(steps))} | options
        return super().run(circuits, **options)  # type: ignore[misc]  # of the fake backend


def _steps(circuit: QuantumCircuit, places: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields (gate, qubits) of all steps, of blocks under conditions, too."""
    for step in circuit.data:
        on = tuple(places[circuit.find_bit(qubit).index] for qubit in step.qubits)
        yield step.operation.name, on
        for block in getattr(step.operation, "blocks", ()):
            yield from _steps(block, on)


@functools.lru_cache(64)
def _noise(backend: Any, steps: frozenset[tuple[str, tuple[int, ...]]]) -> Any:
    """Returns the part of a fake backend's noise that acts in some steps, which are (gate,
    qubits)."""
    part, whole = copy.copy(backend), backend._props_dict
    gates = [each for each in whole["gates"] if (each["gate"], tuple(each["qubits"])) in steps]
    part._props_dict = {**whole, "gates": gates}
    return noise_in(part._get_noise_model_from_backend_v2(), steps)


def check_options(options: Mapping[str, Any]) -> None:
    """Checks options of the primitives, before anything is submitted.

    Args:
        options: The Estimator's options, in nested tables. A Sampler gets those of them that it
            has.

    Raises:
        OptionError: For an option that does not exist, or a value that is not allowed.
    """
    option_tables.check(options, *_GENERATION.OPTIONS.values())


def client_of(service: QiskitRuntimeService) -> Any:
    """Returns the object that sends the service's requests now. qshift uses its methods

    - ``list_backends()``: tables with the "name", "status", "qubits" and "queue_length" of an
      instance's devices, and the "class" ``"mock"`` of those for dry runs;
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
