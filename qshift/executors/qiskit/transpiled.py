"""Circuits in the form that Qiskit's primitives run: transpiled once, observables laid out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from qiskit import QuantumCircuit
from qiskit.quantum_info import PauliList, SparsePauliOp

from qshift.circuits.circuit import Circuit
from qshift.circuits.identity import fingerprint
from qshift.errors import UnsupportedError
from qshift.executors.qiskit import digests as content
from qshift.executors.qiskit.bounded_angles import Angle, bounded
from qshift.executors.qiskit.chip_copies import Copies
from qshift.executors.qiskit.conditions import Conditional, conditional
from qshift.executors.qiskit.observables import Readings, bases, readings
from qshift.executors.qiskit.targets import Target
from qshift.executors.qiskit.translation import translate
from qshift.executors.qiskit.usage import Timing, Usage

_WIDEST_DEFERRED = 20  # wires on which Aer defers measurements
_GATE, _WORD = 100, 32  # bytes of a gate and of a coefficient in a payload, estimated upwards


@dataclass(frozen=True)
class Prepared:
    """A circuit as the primitives run it.

    Attributes:
        readings: How the circuit's values are measured.
        bases: The number of bases in which the estimator measures.
        circuit: The transpiled circuit without measurements; None if no expectation values are
            estimated.
        observables: The observables on the qubits of the transpiled circuit, copy by copy.
        sampled: Transpiled circuits with measurements, one for each basis that is sampled.
        timings: How long one execution of `circuit` takes, and of each of `sampled`; None where
            there is no such circuit, and on Aer.
        copies: How many copies run at the same time, in `circuit` and in each of `sampled`.
        angles: The parameters of these circuits that are no column of a point, by their names.
    """

    readings: Readings
    bases: int
    circuit: QuantumCircuit | None
    observables: tuple[SparsePauliOp, ...]
    sampled: tuple[QuantumCircuit, ...]
    timings: tuple[Timing | None, ...] = ()
    copies: tuple[int, ...] = ()
    angles: Mapping[str, Angle] = field(default_factory=dict)

    def number(self, basis: int | None) -> int:
        """Returns how many copies run at the same time, as far as that is known."""
        return self.copies[0 if basis is None else 1 + basis] if self.copies else 1

    def burden(
        self, usage: Usage, shots: int, basis: int | None = None
    ) -> tuple[int, float, float]:
        """Returns (size, seconds, once) of one point, as in
        `qshift.executors.qiskit.job_splitting.Load`.

        Args:
            usage: How much error mitigation adds.
            shots: How often the circuit runs in each basis.
            basis: The number of the basis that is sampled; None for expectation values.
        """
        circuit = self.circuit if basis is None else self.sampled[basis]
        if circuit is None:  # it was only planned, not transpiled
            return 0, 0.0, 0.0
        words = sum(map(len, self.observables)) if basis is None else 0
        size = _GATE * len(circuit.data) + words * (circuit.num_qubits + _WORD)
        each = self.timings[0 if basis is None else 1 + basis]
        if each is None:
            return size, 0.0, 0.0
        primitive, bases = ("estimator", self.bases) if basis is None else ("sampler", 1)
        seconds = usage.point(primitive, each, shots, bases)
        return size, seconds, usage.learning(primitive, each, shots)


class Preparation:
    """Prepares circuits for a target, each once.

    Args:
        target: The target.
        wires: The device's wires; empty if each circuit has its own.

    Attributes:
        usage: How much error mitigation adds to what the target executes.
        sent: The same without what is learnt by jobs of its own, which are counted apart.
        has_copies: Whether several copies of a circuit may run at the same time.
    """

    def __init__(self, target: Target, wires: Sequence) -> None:
        self.usage = self.sent = target.usage
        self.has_copies = target.copies is not None
        self._target = target
        self._wires = wires
        self._planned: WeakKeyDictionary[Circuit, Prepared] = WeakKeyDictionary()
        self._prepared: WeakKeyDictionary[Circuit, Prepared] = WeakKeyDictionary()
        self._natives: WeakKeyDictionary[Circuit, Conditional | None] = WeakKeyDictionary()
        self._contents: WeakKeyDictionary[Circuit, dict[bytes, tuple]] = WeakKeyDictionary()

    def planned(self, circuit: Circuit) -> Prepared:
        """Returns a circuit's readings with their observables on its own wires; transpiles nothing.

        Raises:
            UnsupportedError: If the target cannot run the circuit.
        """
        if circuit in self._planned:
            return self._planned[circuit]
        if not circuit.shots and not self._target.is_aer:
            raise UnsupportedError(
                f"{self._target.name} samples, so it needs shots: give shots= to the qnode or to "
                "qshift.device. Exact results with the same noise come from a device with "
                'backend="aer:..." instead of "fake:...".'
            )
        wires = self._used(circuit)
        if not self._target.is_remote:  # a service is asked only when something is to be sent
            self._require_room(self._qubits(circuit, wires))
        found = readings(circuit, wires)
        if not circuit.shots and not self._target.is_exact:
            raise UnsupportedError(
                f"Exact values with the noise of {self._target.name} take a density matrix of its "
                f"{self._target.num_qubits} qubits. Give shots=, or choose a smaller backend, such "
                'as "aer:FakeManilaV2".'
            )
        self._require_effect(circuit, found)
        number, sampled = len(bases(found.observables)), (None,) * len(found.bases)
        return self._planned.setdefault(
            circuit, Prepared(found, number, None, found.observables, sampled)
        )

    def _require_effect(self, circuit: Circuit, found: Readings) -> None:
        """Raises UnsupportedError if errors shall be mitigated that there are none of."""
        mitigation = self._target.mitigation
        if mitigation and not circuit.shots:
            raise UnsupportedError(
                f"{self._target.name} computes exact values here, without readout and samples, so "
                "resilience_level= and twirling= have no effect. Leave them out, or give shots=."
            )
        if mitigation.readout and mitigation.is_named and not found.observables:
            raise UnsupportedError(
                'resilience={"measure_mitigation": True}: readout errors are mitigated in '
                "expectation values and variances, and the circuit returns probabilities only. "
                "Leave it out, or return expectation values."
            )

    def __call__(self, circuit: Circuit) -> Prepared:
        """Returns a circuit as the target runs it.

        Raises:
            UnsupportedError: If the target cannot run it.
        """
        ready = self._prepared.get(circuit)
        if ready is not None:
            return ready
        found = self.planned(circuit).readings
        every, native = self._used(circuit), self._native(circuit)
        wires = self._qubits(circuit, every)
        self._require_room(wires)
        key = (
            tuple(map(fingerprint, circuit.operations)),
            tuple((slot.operation, slot.leaf) for slot in circuit.slots),
            tuple(wires),
            native is not None,
        )
        bare: Any = None
        plain: Any = None
        angles: dict[str, Angle] = {}
        observables: tuple[SparsePauliOp, ...] = ()
        sampled, copies = [], [1]
        if found.observables or any(not basis.gates for basis in found.bases):
            plain = self._transpiled(
                circuit, angles, key, partial(translate, circuit, wires, native=native)
            )
            bare, copies = plain.circuit, [len(plain.places)]
            places = [i for i, wire in enumerate(every) if wire in wires]
            observables = plain.observables([_on(places, each) for each in found.observables])
        for basis in found.bases:
            isa = plain
            if basis.gates:
                rotated = (key, tuple(map(fingerprint, basis.gates)))
                make = partial(translate, circuit, wires, basis.gates, native)
                isa = self._transpiled(circuit, angles, rotated, make)
            sampled.append(isa.measuring([wires.index(wire) for wire in basis.wires]))
            copies.append(len(isa.places))
        timings = tuple(
            None if each is None else self._target.timing(each) for each in (bare, *sampled)
        )
        number = len(bases(observables))
        ready = Prepared(
            found, number, bare, observables, tuple(sampled), timings, tuple(copies), angles
        )
        self._prepared[circuit] = ready
        return ready

    def _transpiled(
        self,
        circuit: Circuit,
        angles: dict[str, Angle],
        key: Hashable,
        make: Callable[[], QuantumCircuit],
    ) -> Copies:
        """Returns a transpiled circuit, and adds its angles to those of the other circuits."""
        isa = self._target.copied(key, make, circuit.shots.total_shots or 1)
        if not self._target.bounds_angles:
            return isa
        together, own = bounded(isa.circuit, len(angles))
        angles.update(own)
        return isa._replace(circuit=together)

    def is_ready(self, circuit: Circuit) -> bool:
        """Whether a circuit has been transpiled."""
        return circuit in self._prepared

    def content(self, circuit: Circuit, settings: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """Returns digests that identify a circuit's measurements, without shots, in every process.

        Args:
            circuit: The circuit.
            settings: The settings that results depend on: `digests.of_options` of
                `Target.settings`.

        Returns:
            A digest for the observables, and one for each basis that is sampled.
        """
        known = self._contents.setdefault(circuit, {})
        if settings not in known:
            found, wires = self.planned(circuit).readings, self._used(circuit)
            gates = content.of_circuit(translate(circuit, wires))
            observed = content.of_observables(found.observables)
            known[settings] = (
                content.digest(b"estimator", settings, gates, observed),
                tuple(
                    content.digest(
                        b"sampler",
                        settings,
                        content.of_circuit(translate(circuit, wires, basis.gates)),
                        repr([wires.index(wire) for wire in basis.wires]).encode(),
                    )
                    for basis in found.bases
                ),
            )
        return known[settings]

    def _used(self, circuit: Circuit) -> list:
        """Returns the wires of a circuit, in the device's order if it has one.

        Raises:
            UnsupportedError: If the device lacks some of the wires.
        """
        used = circuit.wires
        wires = list(used)
        if self._wires:
            if missing := [wire for wire in used if wire not in self._wires]:
                raise UnsupportedError(
                    f"The circuit acts on the wires {missing}, which the device does not have: it "
                    f"has {list(self._wires)}. Give the device more wires=, or none."
                )
            wires = [wire for wire in self._wires if wire in used]
        return wires

    def _native(self, circuit: Circuit) -> Conditional | None:
        """Returns a circuit with measurements and conditions, if it has any and the backend, too.

        Exact results take deferred measurements.
        """
        if not circuit.outcomes or not circuit.shots or not self._target.has_conditions:
            return None
        if self._target.is_aer and len(circuit.wires) <= _WIDEST_DEFERRED:
            return None  # Aer then samples from one state, which takes a fraction of the time
        if circuit not in self._natives:
            self._natives[circuit] = conditional(circuit)
        return self._natives[circuit]

    def _qubits(self, circuit: Circuit, wires: list) -> list:
        """Returns the wires that take a qubit of the backend."""
        native = self._native(circuit)
        return wires if native is None else [wire for wire in wires if wire not in native.spared]

    def _require_room(self, wires: Any) -> None:
        """Raises UnsupportedError if the backend has too few qubits."""
        if len(wires) > self._target.num_qubits:
            raise UnsupportedError(
                f"The circuit has {len(wires)} wires, but {self._target.name} has "
                f"{self._target.num_qubits} qubits. Choose a larger backend (qshift devices)."
            )


def _on(qubits: Sequence[int], observable: SparsePauliOp) -> SparsePauliOp:
    """Returns an observable on some of its qubits, where it has no letters on the others."""
    if len(qubits) == observable.num_qubits:
        return observable
    paulis = PauliList.from_symplectic(
        observable.paulis.z[:, qubits], observable.paulis.x[:, qubits]
    )
    return SparsePauliOp(paulis, observable.coeffs)
