"""Targets that run Qiskit circuits: Aer, with or without a device's noise, fake backends, or IBM's.

A `Target` transpiles a circuit once, and runs PUBs of it as jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import qiskit
from cachetools import LRUCache
from qiskit import QuantumCircuit
from qiskit.providers import BackendV2
from qiskit.transpiler import TranspilerError

from qshift.errors import OptionError, UnsupportedError
from qshift.executors.qiskit import transpile_cache
from qshift.executors.qiskit.job import Job, LocalJob, Submission
from qshift.executors.qiskit.subnormals import default_floats
from qshift.forks import Lock, lineage
from qshift.inputs import did_you_mean
from qshift.tracker import Tracker

_LEVEL = 2  # the lowest level that takes the errors of the backend's gates into account
_WIDEST_DENSITY_MATRIX = 13  # qubits: 1 GiB
_HELP = (
    'expected "aer", "aer:FakeManilaV2" (Aer with its noise), "fake:FakeManilaV2", "ibm:NAME" or '
    '"ibm:least-busy"'
)
# The transpiler draws random layouts. It always draws the same ones, so that samples of a seeded
# program do not depend on them.
_TRANSPILER_SEED = 0
# Raised where qshift transpiles in a new way, so that circuits on disk from before are not used.
_WAY = "around what is broken, with all numbers"
# Not all gates that Aer has: it does not bind the parameters of controlled rotations (qiskit-aer
# issue 2403), and Qiskit's transpiler fails where "unitary" is a basis gate beside iswap.
_AER_GATES = "id x y z h s sdg t tdg sx rx ry rz p u cx cy cz swap rxx ryy rzz".split()


def target(
    name: str,
    optimization_level: int | None,
    options: Mapping[str, Any],
    least_qubits: int,
    **service: Any,
) -> Target:
    """Returns the target of a name.

    Args:
        name: ``"aer"``, ``"aer:CLASS"`` for Aer with the noise, gates and couplings of a class in
            `qiskit_ibm_runtime.fake_provider`, ``"fake:CLASS"`` for that fake backend in the
            runtime's local testing mode, or ``"ibm:NAME"`` for a backend of IBM's service.
        optimization_level: The transpiler's level, 0 to 3; None for the default, 2.
        options: The primitives' options, see
            `qshift.executors.qiskit.qiskit_internals.check_options`.
        least_qubits: The number of qubits needed, where a backend can be chosen.
        **service: Further keywords of `service.ServiceTarget`; None for unset.

    Raises:
        OptionError: For a backend, or an option of the primitives, that does not exist.
    """
    service = {key: value for key, value in service.items() if value is not None}
    kind = str(name).partition(":")[0]
    if kind == "ibm":
        from qshift.executors.qiskit.service import ServiceTarget

        return ServiceTarget(
            name, optimization_level, options, least_qubits=least_qubits, **service
        )
    if kind not in ("aer", "fake") or name == "fake:":
        raise OptionError("backend", f"there is no {name!r}; {_HELP}")
    for key in service:
        raise OptionError(key, f'belongs to backend="ibm:..."; {name} runs on this machine')
    return LocalTarget(name, optimization_level, options)


class Target:
    """A backend, and the circuits that were transpiled for it.

    Args:
        name: As for `target`.
        optimization_level: The transpiler's level, 0 to 3; None for the default, 2.
        options: The primitives' options.

    Attributes:
        name: The name as given, or that of the backend that was least busy.
        is_remote: Whether jobs live on a service and outlive this process.
        is_aer: Whether Aer runs the circuits, which needs no shots.
        is_exact: Whether the target gives exact values without shots.
        longest_job: QPU seconds of the longest job that the target takes.
        access: The account and instance by which a service is reached, as keywords of `target`.
        level: The transpiler's optimization level.
        former_level: The default level of earlier releases.
        most_circuits: How many transpiled circuits the target keeps in memory.
    """

    former_level = 1
    most_circuits = 256
    is_remote = is_aer = is_exact = False
    longest_job = math.inf
    access: Mapping[str, str] = {}

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
        settings = (self._version(), self.level, _TRANSPILER_SEED, qiskit.__version__, _WAY)
        on_disk = transpile_cache.key(circuit, settings)
        found = transpile_cache.load(on_disk)
        if found is None:
            found = self._transpile(circuit)
            transpile_cache.save(on_disk, found)
        return found

    def _transpile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        from qshift.executors.qiskit.broken_gates import WorkingGates

        Tracker.record(transpilations=1)
        return WorkingGates(self._device).transpile(circuit, self.level, _TRANSPILER_SEED)

    def seconds(self, circuit: QuantumCircuit) -> float | None:
        """Returns how many seconds a quantum processor takes to run a circuit once.

        The seconds are the durations of gates and of measuring all qubits, along the longest path
        of the circuit, and the default repetition delay before the next shot, as the backend itself
        gives them. They leave out the service's work before and after a job (a few seconds each),
        the circuits that error mitigation and twirling add, and the paid time between the jobs of a
        session.

        Args:
            circuit: A transpiled circuit; if it has no measurements, those of all qubits are added.

        Returns:
            None if the backend gives no durations, as is the case for simulators.
        """
        device = self._device
        delay = getattr(device, "default_rep_delay", None)
        if delay is None:
            return None
        measured = circuit.copy()
        if not measured.num_clbits:
            measured.measure_active()
        try:
            return delay + measured.estimate_duration(device.target)
        except (TranspilerError, qiskit.QiskitError):  # a gate without a duration
            return None

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


class LocalTarget(Target):
    """Aer, or a fake backend on Aer; see `target`."""

    _used_in: ClassVar[tuple[int, ...] | None] = None  # the process in which Aer has run first

    def __init__(
        self, name: str, optimization_level: int | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, optimization_level, options)
        kind, _, self._fake = name.partition(":")
        self.is_aer = kind == "aer"
        if self._fake:
            from qshift.executors.qiskit import qiskit_internals as runtime

            names = runtime.fake_names()
            if self._fake not in names:
                hint = did_you_mean(self._fake, names)
                raise OptionError(
                    "backend",
                    f"qiskit_ibm_runtime.fake_provider has no {self._fake!r}{hint}; take the name "
                    "of a class in there, such as FakeManilaV2 or FakeSherbrooke",
                )

    @cached_property
    def _device(self) -> BackendV2:
        if not self._fake:
            from qiskit_aer import AerSimulator

            return AerSimulator()
        from qshift.executors.qiskit import qiskit_internals as runtime

        return runtime.fake_backend(self._fake)

    def _version(self) -> tuple:
        if not self._fake:
            return ("aer", _AER_GATES)
        from qshift.executors.qiskit import qiskit_internals as runtime

        return ("fake", self._fake, runtime.VERSION)

    def _require_threads(self) -> None:
        """Raises UnsupportedError in the child of a fork that lacks Aer's threads."""
        if LocalTarget._used_in not in (None, lineage()):
            raise UnsupportedError(
                f"This process was forked after {self.name} had run, so it lacks the threads of "
                "Qiskit's simulators, and would wait for them for ever. Start processes with "
                'multiprocessing.get_context("spawn"), or use the device in the children only.'
            )

    def _transpile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        self._require_threads()
        if self._fake:
            return super()._transpile(circuit)
        from qiskit.transpiler import generate_preset_pass_manager

        Tracker.record(transpilations=1)
        settings = {"basis_gates": _AER_GATES, "seed_transpiler": _TRANSPILER_SEED}
        return generate_preset_pass_manager(self.level, **settings).run(circuit)

    @cached_property
    def _backend(self) -> BackendV2:
        """The backend that circuits run on."""
        if not (self.is_aer and self._fake):
            return self._device
        from qiskit_aer import AerSimulator

        return AerSimulator.from_backend(self._device)

    @property
    def is_exact(self) -> bool:  # type: ignore[override]  # which says so itself
        """Whether the target gives exact values: Aer does, with noise as far as a density matrix of
        its qubits fits into memory."""
        return self.is_aer and (not self._fake or self.num_qubits <= _WIDEST_DENSITY_MATRIX)

    def seconds(self, circuit: QuantumCircuit) -> float | None:
        """Returns the seconds that the device a fake backend imitates would take; None for Aer."""
        return None if self.is_aer else super().seconds(circuit)

    def submit(self, submission: Submission) -> LocalJob:
        """Runs a job; see `Target.submit`. Tags have no effect, and nothing is sent."""
        self._require_threads()
        LocalTarget._used_in = lineage()
        if submission.exact:
            from qiskit_aer.primitives import EstimatorV2

            # With noise, Aer would otherwise run 1024 random trajectories. The noise is without
            # readout errors, as exact values involve no readout.
            method = {"method": "density_matrix"} if self._fake else {}
            estimator = EstimatorV2.from_backend(self._backend, options={"run_options": method})
            return LocalJob(estimator.run(submission.pubs))
        from qshift.executors.qiskit import qiskit_internals as runtime

        primitive, pubs, seed = submission.primitive, submission.pubs, submission.seed
        return LocalJob(runtime.run_locally(primitive, self._backend, pubs, self._options, seed))
