"""Targets run Qiskit circuits: a target transpiles a circuit once, and runs PUBs of it as jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import qiskit
from cachetools import LRUCache
from qiskit import QuantumCircuit
from qiskit.providers import BackendV2

from qshift.errors import OptionError
from qshift.executors.qiskit import transpile_cache
from qshift.executors.qiskit.broken_gates import WorkingGates
from qshift.executors.qiskit.job import Job, Submission
from qshift.executors.qiskit.subnormals import default_floats
from qshift.executors.qiskit.usage import Timing, Usage, timing
from qshift.forks import Lock
from qshift.tracker import Tracker

if TYPE_CHECKING:
    from qshift.executors.workers.pools import Workers

_LEVEL = 2  # the lowest level that takes the errors of the backend's gates into account
# The transpiler draws random layouts. It always draws the same ones, so that samples of a seeded
# program do not depend on them.
TRANSPILER_SEED = 0
# A name for how qshift transpiles. A new way needs a new name, so that circuits on disk from
# before are not used.
_WAY = "around what is broken, with all numbers"


class Target:
    """A backend, and the circuits that were transpiled for it.

    Args:
        name: As for `backends.target`.
        optimization_level: The transpiler's level, 0 to 3; None for the default, 2.
        options: The primitives' options.

    Attributes:
        name: The name as given, or that of the backend that was least busy.
        is_remote: Whether jobs live on a service and outlive this process.
        is_aer: Whether Aer runs the circuits, which needs no shots.
        is_exact: Whether the target gives exact values without shots.
        longest_job: QPU seconds of the longest job that the target takes.
        access: The account and instance by which a service is reached, as keywords of
            `backends.target`.
        level: The transpiler's optimization level.
        former_level: The default level of earlier releases.
        usage: How much error mitigation adds to what is executed.
        workers: Other processes that run parts of jobs, if the jobs run in this process.
        most_circuits: How many transpiled circuits the target keeps in memory.
    """

    former_level = 1
    most_circuits = 256
    is_remote = is_aer = is_exact = False
    longest_job = math.inf
    access: Mapping[str, str] = {}
    workers: Workers | None = None

    def __init__(
        self, name: str, optimization_level: int | None, options: Mapping[str, Any]
    ) -> None:
        if optimization_level not in (None, 0, 1, 2, 3):
            raise OptionError(
                "optimization_level", f"expected 0, 1, 2 or 3, got {optimization_level!r}"
            )
        self.name = self._asked_for = name
        self._is_default_level = optimization_level is None
        self.level = _LEVEL if optimization_level is None else int(optimization_level)
        self._options = dict(options)
        self.usage = Usage(options)
        self._circuits: LRUCache[Hashable, QuantumCircuit] = LRUCache(self.most_circuits)
        self._lock = Lock()
        if options:
            from qshift.executors.qiskit import qiskit_internals as runtime

            runtime.check_options(options)

    @cached_property
    def _device(self) -> BackendV2:
        """The backend that circuits are transpiled for."""
        raise NotImplementedError

    def _version(self) -> tuple:
        """Returns values that identify the device and its present properties."""
        raise NotImplementedError

    @property
    def num_qubits(self) -> int:
        """The number of qubits."""
        return self._device.num_qubits

    @property
    def bounds_angles(self) -> bool:
        """Whether RZZ gates need angles between 0 and pi/2, as on IBM's fractional gates."""
        return not self.is_aer and {"rzz", "rx", "rz"}.issubset(self._device.operation_names)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that measured values depend on."""
        return self._settings(self.level, _measuring(self._options))

    @property
    def earlier_settings(self) -> list[dict[str, Any]]:
        """The settings as earlier releases recorded them, where these differ from the present."""
        before = self._settings(self.level, self._options)
        return [] if before == self.settings else [before]

    @property
    def former_settings(self) -> list[dict[str, Any]]:
        """The settings with the defaults of earlier releases, where the user has not set them."""
        if not self._is_default_level:
            return []
        options = [_measuring(self._options), self._options]
        found = [self._settings(self.former_level, each) for each in options]
        return found[: 1 + (found[0] != found[1])]

    def _settings(self, level: int, options: Mapping[str, Any]) -> dict[str, Any]:
        asked_for = self._asked_for  # "least-busy" as given, so that the next process finds results
        return {"backend": asked_for, "optimization_level": level, "options": options}

    def transpiled(self, key: Hashable, make: Callable[[], QuantumCircuit]) -> QuantumCircuit:
        """Returns a circuit in the backend's own gates.

        It is transpiled when it is first needed, and kept in memory, and on disk for other
        processes (`transpile_cache`).

        Args:
            key: Identifies the circuit in this process.
            make: Returns the circuit.
        """
        with self._lock:
            if key not in self._circuits:
                with default_floats():
                    self._circuits[key] = self._from_disk_or_transpiled(make())
            return self._circuits[key]

    def _from_disk_or_transpiled(self, circuit: QuantumCircuit) -> QuantumCircuit:
        settings = (self._version(), self.level, TRANSPILER_SEED, qiskit.__version__, _WAY)
        on_disk = transpile_cache.key(circuit, settings)
        found = transpile_cache.load(on_disk)
        if found is None:
            found = self._transpile(circuit)
            transpile_cache.save(on_disk, found)
        return found

    def _transpile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        Tracker.record(transpilations=1)
        return WorkingGates(self._device).transpile(circuit, self.level, TRANSPILER_SEED)

    def timing(self, circuit: QuantumCircuit) -> Timing | None:
        """Returns how long one execution of a transpiled circuit takes; None for Aer."""
        return None if self.is_aer else timing(circuit, self._device, self._options)

    def submit(self, submission: Submission) -> Job:
        """Submits a job and returns it, without waiting."""
        raise NotImplementedError


def _measuring(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that measured values depend on.

    Options of the environment are left out (tags of the job, how much is logged, who may read it),
    and so are empty tables.
    """
    return _filled({name: value for name, value in options.items() if name != "environment"})


def _filled(options: Mapping[str, Any]) -> dict[str, Any]:
    filled = {k: _filled(v) if isinstance(v, Mapping) else v for k, v in options.items()}
    return {k: v for k, v in filled.items() if not (isinstance(v, Mapping) and not v)}
