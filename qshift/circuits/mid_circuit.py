"""Mid-circuit measurements as gates that are controlled on further wires, which is exact."""

from __future__ import annotations

from typing import Any

import pennylane as qml
from pennylane.measurements import MidMeasureMP
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from qshift.circuits.readout import require_supported, with_wires
from qshift.errors import UnsupportedError


def in_order(tape: QuantumScript) -> Wires:
    """Returns the wires in the order in which a device that was made without wires numbers them."""
    numbered = zip(tape.map_to_standard_wires().wires, tape.wires, strict=True)
    return Wires([wire for _, wire in sorted(numbered)])


def defer(tape: QuantumScript, device_wires: Wires | None) -> tuple[QuantumScript, frozenset[Any]]:
    """Returns a tape without mid-circuit measurements, and the wires that may hold their outcomes.

    Args:
        tape: The tape.
        device_wires: The device's wires; None if it takes any.

    Raises:
        UnsupportedError: For postselection, for measurements that qshift has no derivatives of, and
            if the device has too few wires.
    """
    measured = [op for op in tape.operations if isinstance(op, MidMeasureMP)]
    if not measured:
        return tape, frozenset()
    if any(op.postselect is not None for op in measured):
        raise UnsupportedError(
            "Postselection divides by the probability of the selected outcome, so expectation "
            "values are no longer trigonometric polynomials and shift rules do not hold. Return "
            "the joint expectation value and the probability, and divide in TensorFlow."
        )
    for measurement in tape.measurements:
        require_supported(measurement)
    named = [with_wires(m, lambda: device_wires or in_order(tape)) for m in tape.measurements]
    tape = tape.copy(measurements=named)
    (deferred,), _ = qml.defer_measurements(tape)
    further = [wire for wire in deferred.wires if wire not in tape.wires]
    holding = [wire for op in measured for wire in op.wires]
    if not device_wires or device_wires.contains_wires(Wires(further)):
        return deferred, frozenset([*holding, *further])
    spare = [wire for wire in device_wires if wire not in tape.wires]
    if len(spare) < len(further):
        raise UnsupportedError(
            f"Mid-circuit measurements are deferred: each outcome of a wire that is used again is "
            f"kept on a wire of its own. That takes {len(further)} more than the "
            f"{len(tape.wires)} that the circuit uses, but the device has {len(device_wires)} in "
            f"all, {device_wires.tolist()}. Give it {len(further) - len(spare)} more, or "
            "wires=None for as many as it takes; qml.probs() without wires uses all wires of the "
            "device, and qml.probs(wires=...) only those."
        )
    # All wires must be named: some of PennyLane's templates look up each of their wires.
    names = dict(zip(deferred.wires, deferred.wires, strict=True))
    (mapped,), _ = qml.map_wires(deferred, names | dict(zip(further, spare, strict=False)))
    return mapped, frozenset([*holding, *spare[: len(further)]])
