"""Where Qiskit circuits run: Aer, with or without a device's noise, a fake backend, or IBM's.

All of them are a `Target`: they transpile a circuit once, and run PUBs of it as jobs.
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

_LEVEL = 2  # the lowest one that heeds what the backend says of the errors of its gates
_WIDEST_DENSITY_MATRIX = 13  # qubits: 1 GiB
_HELP = (
    'expected "aer", "aer:FakeManilaV2" (Aer with its noise), "fake:FakeManilaV2", "ibm:NAME" or '
    '"ibm:least-busy"'
)
# Transpilation draws random layouts. Always the same ones, so that what a seeded program samples
# does not depend on them.
_TRANSPILER_SEED = 0
# What is transpiled in another way than before is not to be found on disk as it was.
_WAY = "around what is broken, with all numbers"
# Not all that Aer has: it does not bind the parameters of controlled rotations (qiskit-aer issue
# 2403), and Qiskit's transpiler gives up where "unitary" is a basis gate beside iswap.
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
        optimization_level: Of the transpiler, 0 to 3; None for the default, 2.
        options: Of the primitives, see `qshift.executors.qiskit.qiskit_internals.check_options`.
        least_qubits: How many qubits it needs, where one can be chosen.
        **service: Further keywords of `service.ServiceTarget`; None for unset.

    Raises:
        OptionError: If there is no such backend, or no such option of the primitives.
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
        optimization_level: Of the transpiler, 0 to 3; None for the default, 2.
        options: Of the primitives.

    Attributes:
        name: As given, or of the one that was found least busy.
        is_remote: Whether jobs live on a service and outlive this process.
        is_aer: Whether Aer runs it, which needs no shots.
        is_exact: Whether it has exact values.
        longest_job: QPU seconds of the longest job it takes.
        access: By which account and instance a service is reached: keywords of `target`.
        level: The transpiler's optimization level.
        former_level: What was its default in releases before this one.
        most_circuits: How many transpiled circuits it keeps in memory.
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
        """What circuits are transpiled for."""
        raise NotImplementedError

    def _version(self) -> tuple:
        """Returns what identifies the device and its properties."""
        raise NotImplementedError

    @property
    def num_qubits(self) -> int:
        """The number of qubits."""
        return self._device.num_qubits

    @property
    def settings(self) -> dict[str, Any]:
        """What of it decides what is measured."""
        return self._settings(self.level, _measuring(self._options))

    @property
    def earlier_settings(self) -> list[dict[str, Any]]:
        """What releases before this one have taken for that, where it differs."""
        before = self._settings(self.level, self._options)
        return [] if before == self.settings else [before]

    @property
    def former_settings(self) -> list[dict[str, Any]]:
        """The same, with options that were the default then, if the user leaves it at that."""
        if not self._is_default_level:
            return []
        options = [_measuring(self._options), self._options]
        found = [self._settings(self.former_level, each) for each in options]
        return found[: 1 + (found[0] != found[1])]

    def _settings(self, level: int, options: Mapping[str, Any]) -> dict[str, Any]:
        asked_for = self._asked_for  # so that the next process finds what the least busy one has
        return {"backend": asked_for, "optimization_level": level, "options": options}

    def transpiled(self, key: Hashable, make: Callable[[], QuantumCircuit]) -> QuantumCircuit:
        """Returns a circuit in the backend's own gates, transpiled when it is first asked for.

        It is kept in memory, and on disk for other processes (`transpile_cache`).

        Args:
            key: Identifies the circuit in this process.
            make: Returns it.
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

        These are the durations of its gates and of measuring all its qubits, along its longest
        path, and the default repetition delay before the next shot, as the backend itself gives
        them. They leave out what the service does before and after a job (a few seconds each), what
        error mitigation and twirling add, and the time between jobs for which a session is paid.

        Args:
            circuit: Transpiled; without measurements, those of all its qubits are added.

        Returns:
            None if the backend says no durations, as simulators do not.
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
    """Returns those options that decide what is measured.

    Not those of the environment: tags of the job, how much is logged, who may read it. Nor tables
    in which there is nothing.
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
        """What circuits run on."""
        if not (self.is_aer and self._fake):
            return self._device
        from qiskit_aer import AerSimulator

        return AerSimulator.from_backend(self._device)

    @property
    def is_exact(self) -> bool:  # type: ignore[override]  # which says so itself
        """Whether it has exact values: Aer, with noise up to what a density matrix can hold."""
        return self.is_aer and (not self._fake or self.num_qubits <= _WIDEST_DENSITY_MATRIX)

    def seconds(self, circuit: QuantumCircuit) -> float | None:
        """Returns what the device that is faked would take; None for Aer."""
        return None if self.is_aer else super().seconds(circuit)

    def submit(self, submission: Submission) -> LocalJob:
        """Runs a job; see `Target.submit`. Tags have no effect, and nothing is sent."""
        self._require_threads()
        LocalTarget._used_in = lineage()
        if submission.exact:
            from qiskit_aer.primitives import EstimatorV2

            # With noise Aer would otherwise run 1024 random trajectories. Readout errors are not
            # in there: nothing is read out.
            method = {"method": "density_matrix"} if self._fake else {}
            estimator = EstimatorV2.from_backend(self._backend, options={"run_options": method})
            return LocalJob(estimator.run(submission.pubs))
        from qshift.executors.qiskit import qiskit_internals as runtime

        primitive, pubs, seed = submission.primitive, submission.pubs, submission.seed
        return LocalJob(runtime.run_locally(primitive, self._backend, pubs, self._options, seed))
