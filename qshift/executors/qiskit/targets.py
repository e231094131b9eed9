"""Targets run Qiskit circuits: a target transpiles a circuit once, and runs PUBs of it as jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import qiskit
from cachetools import LRUCache
from qiskit import QuantumCircuit
from qiskit.providers import BackendV2

from qshift.errors import OptionError, UnsupportedError
from qshift.executors.qiskit import transpile_cache
from qshift.executors.qiskit.broken_gates import WorkingGates
from qshift.executors.qiskit.chip_copies import Copies
from qshift.executors.qiskit.job import Job, Submission
from qshift.executors.qiskit.mitigation import NONE, Mitigation, require_effects
from qshift.executors.qiskit.patches import patches, used, useful
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
        copies: How many copies of a circuit run at the same time on patches of the chip, a number
            or ``"auto"``; None for one copy, wherever the transpiler lays it out.
        mitigation: What is mitigated by programs that are made here.
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
    copies: int | str | None = None
    mitigation: Mitigation = NONE

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
        self._patched: LRUCache[Hashable, QuantumCircuit] = LRUCache(self.most_circuits)
        self._lock = Lock()
        if options:
            from qshift.executors.qiskit import qiskit_internals as runtime

            runtime.check_options(options)
            require_effects(options)
        self.usage = Usage(options)

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
    def has_conditions(self) -> bool:
        """Whether circuits may have measurements in the middle, and gates under their conditions.

        Copies of a circuit, and bounded angles, do without.
        """
        return (
            self.copies is None
            and not self.bounds_angles
            and "if_else" in self._device.operation_names
        )

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
        settings = {"backend": asked_for, "optimization_level": level, "options": options}
        return settings if self.copies is None else settings | {"copies": self.copies}

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

    def copied(self, key: Hashable, make: Callable[[], QuantumCircuit], shots: int) -> Copies:
        """Returns one or more copies of a circuit in the backend's own gates.

        Args:
            key: As for `transpiled`.
            make: As for `transpiled`.
            shots: The shots of the circuit, on which ``copies="auto"`` depends.

        Raises:
            UnsupportedError: If the chip has no place for so many copies.
        """
        alone = self.transpiled(key, make)
        if self.copies is None:
            return Copies.of([alone])
        working = WorkingGates(self._device).target
        found = patches(alone, working)
        if isinstance(self.copies, str):
            mends = self.usage.mends_readout
            losses = [each.infidelity - mends * each.readout for each in found]
            count = useful(losses, shots) if found else 1
        else:
            count = self.copies
        if len(found) < count:
            fewer = f'Give copies={len(found)} or fewer, or "auto".' if found else "Leave it out."
            raise UnsupportedError(
                f"copies={count} was asked for, but {self.name} has good places for {len(found)} "
                f"copies of this circuit, one qubit apart. {fewer}"
            )
        places = dict(
            zip(used(alone), zip(*(each.qubits for each in found), strict=True), strict=True)
        )
        layout = [
            places[qubit] for qubit in alone.layout.initial_index_layout(filter_ancillas=True)
        ]
        parts = []
        with self._lock:
            for number, patch in enumerate(found[:count]):
                each = (key, patch.qubits)
                if each not in self._patched:
                    with default_floats():
                        wires = [on[number] for on in layout]
                        self._patched[each] = self._from_disk_or_transpiled(
                            make(), wires, patch.qubits
                        )
                parts.append(self._patched[each])
        return Copies.of(parts)

    def _from_disk_or_transpiled(
        self, circuit: QuantumCircuit, wires: Sequence[int] = (), patch: Sequence[int] = ()
    ) -> QuantumCircuit:
        """Returns a circuit in the backend's own gates, if asked for on given qubits of a patch."""
        settings = [self._version(), self.level, TRANSPILER_SEED, qiskit.__version__, _WAY]
        if patch:
            settings += [tuple(wires), tuple(patch)]
        on_disk = transpile_cache.key(circuit, tuple(settings))
        found = transpile_cache.load(on_disk)
        if found is None:
            if patch:
                working = WorkingGates(self._device, patch)
                found = working.place(circuit, wires, self.level, TRANSPILER_SEED)
            else:
                found = self._transpile(circuit)
            transpile_cache.save(on_disk, found)
        return found

    def _transpile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        Tracker.record(transpilations=1)
        return WorkingGates(self._device).transpile(circuit, self.level, TRANSPILER_SEED)

    def timing(self, circuit: QuantumCircuit) -> Timing | None:
        """Returns how long one execution of a transpiled circuit takes; None for Aer."""
        return None if self.is_aer else timing(circuit, self._device, self._options)

    def kinds(self, pubs: Sequence[tuple[str, int]]) -> list[tuple[Hashable, int]]:
        """Returns which PUBs may be in one job: those of the same kind.

        Args:
            pubs: The primitive and the shots of each PUB.

        Returns:
            The kind of each PUB, and the shots of a row of parameter values, if those go out anew
            for each basis and for further shots; else 0.
        """
        return [((primitive, shots == 0), 0) for primitive, shots in pubs]

    def require_noise(self, ledger: Any) -> None:
        """Raises OptionError if error mitigation needs noise to be learnt and kept in a ledger, and
        there is none."""

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
