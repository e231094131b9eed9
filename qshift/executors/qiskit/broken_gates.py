"""Transpiling around the gates and qubits that a backend calls broken.

A backend reports the error 1 for a gate that does not work, or says that a gate or qubit is not
operational. At its lower levels, the transpiler lays circuits out trivially and ignores both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import Operation
from qiskit.providers import BackendV2
from qiskit.transpiler import Target, TranspilerError, generate_preset_pass_manager

from qshift.errors import UnsupportedError

_BROKEN = 1.0  # the error of a gate that does not work
_HEEDING = 2  # the lowest level whose layouts depend on which gates there are
PLACELESS = ("barrier", "delay")  # operations that every qubit has, also without an entry


class WorkingGates:
    """The gates of a backend that work.

    Args:
        device: The backend.
        patch: The qubits to use; None for all.

    Attributes:
        target: The backend's target without what is broken, and without all other qubits' gates.
    """

    def __init__(self, device: BackendV2, patch: Sequence[int] | None = None) -> None:
        self._patch = None if patch is None else frozenset(patch)
        self._device = device
        self._all = device.target
        self._broken = set(_broken(self._all, getattr(device, "properties", lambda: None)()))
        self._qubits = {qubits[0] for _, qubits in self._broken if len(qubits) == 1}
        # Two qubits whose gate is broken are not coupled, whatever else acts on both.
        self._pairs = {
            frozenset(qubits)
            for name, qubits in self._broken
            if len(qubits) > 1 and not self._all.operation_from_name(name).params
        }
        self.target = self._all
        if self._broken or self._patch is not None:
            self.target = self._without()

    def _works(self, name: str, qubits: tuple[int, ...]) -> bool:
        if self._patch is not None and not self._patch.issuperset(qubits):
            return False
        is_coupled = len(qubits) < 2 or frozenset(qubits) not in self._pairs
        return is_coupled and (name, qubits) not in self._broken and not self._qubits & {*qubits}

    def _without(self) -> Target:
        """Returns the backend's target without what is broken."""
        old = self._all
        names = (
            "num_qubits dt granularity min_length pulse_alignment acquire_alignment "
            "qubit_properties concurrent_measurements"
        ).split()
        new = Target(**{name: getattr(old, name) for name in names})
        for name in old.operation_names:
            kept, properties = None, old[name]
            if properties is not None and None not in properties:  # qubits have their own entries
                kept = {on: about for on, about in properties.items() if self._works(name, on)}
            new.add_instruction(old.operation_from_name(name), kept, name=name)
        return new

    def transpile(self, circuit: QuantumCircuit, level: int, seed: int) -> QuantumCircuit:
        """Returns a circuit in the backend's own gates, none of them broken.

        Args:
            circuit: The circuit, without measurements.
            level: The transpiler's optimization level.
            seed: The seed of the layouts that the transpiler draws.

        Raises:
            UnsupportedError: If the working qubits and gates have no place for the circuit.
        """
        settings: dict[str, Any] = {"backend": self._device, "seed_transpiler": seed}
        if not self._broken:
            return generate_preset_pass_manager(level, **settings).run(circuit)
        settings["target"] = self.target
        try:
            found = self._tried(circuit, level, settings)
            # Where the transpiler has used something broken, it is given a layout: the one that it
            # chooses at a higher level if each qubit has a gate, and so needs a working place.
            if found is None:
                touched = circuit.copy()
                for qubit in touched.qubits:
                    touched.sx(qubit)
                places = self._tried(touched, max(level, _HEEDING), settings)
                if places is not None:
                    layout = places.layout.initial_index_layout(filter_ancillas=True)
                    found = self._tried(circuit, level, settings | {"initial_layout": layout})
        except TranspilerError as error:
            raise self._refusal(circuit) from error
        if found is None:
            raise self._refusal(circuit)
        return found

    def place(
        self, circuit: QuantumCircuit, layout: Sequence[int], level: int, seed: int
    ) -> QuantumCircuit:
        """Returns a circuit in gates of the patch, with its wires on given qubits of it.

        Args:
            circuit: The circuit, without measurements.
            layout: The qubit of each wire.
            level: As for `transpile`.
            seed: As for `transpile`.

        Raises:
            UnsupportedError: If that is not possible.
        """
        settings = {
            "backend": self._device,
            "target": self.target,
            "seed_transpiler": seed,
            "initial_layout": list(layout),
        }
        found = self._tried(circuit, level, settings)
        if found is None:
            raise self._refusal(circuit)
        return found

    def _tried(
        self, circuit: QuantumCircuit, level: int | None, settings: Mapping
    ) -> QuantumCircuit | None:
        """Returns a transpiled circuit; None if it uses something broken."""
        try:
            found = generate_preset_pass_manager(level, **settings).run(circuit)
        except (TranspilerError, TypeError):
            # A TypeError is what a pass of Qiskit's raises for a qubit that has no gates at all.
            return None
        places = set(found.layout.final_index_layout()) if found.layout else set()
        used = (
            (step.operation, tuple(found.find_bit(qubit).index for qubit in step.qubits))
            for step in found.data
        )
        return None if places & self._qubits or any(map(self._misses, used)) else found

    def _misses(self, step: tuple[Operation, tuple[int, ...]]) -> bool:
        operation, qubits = step
        is_there = operation.name in PLACELESS
        return not is_there and not self.target.instruction_supported(operation.name, qubits)

    def _refusal(self, circuit: QuantumCircuit) -> UnsupportedError:
        pairs = ", ".join(map(str, sorted(map(tuple, map(sorted, self._pairs)))[:8]))
        qubits = ", ".join(map(str, sorted(self._qubits)[:8]))
        return UnsupportedError(
            f"{self._device.name} has no place for a circuit of {circuit.num_qubits} wires and "
            f"{circuit.num_nonlocal_gates()} gates between them beside what it calls broken "
            f"(qubits: {qubits or 'none'}; pairs of qubits: {pairs or 'none'}). Choose another "
            "backend (qshift devices), fewer wires, or wait for its next calibration."
        )


def _broken(target: Target, properties: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields (gate, qubits) that do not work."""
    for name in target.operation_names:
        for qubits, about in (target[name] or {}).items():
            error = about and about.error
            if qubits is not None and error is not None and error >= _BROKEN:
                yield name, qubits
    if properties is None:
        return
    # Gates of the properties may be missing from the target, which then has no name for them.
    for qubit in properties.faulty_qubits():
        yield "measure", (qubit,)
    for gate in properties.faulty_gates():
        if gate.gate in target.operation_names:
            yield gate.gate, tuple(gate.qubits)
