"""Gates under the condition of an outcome have the frequencies of the gate, not those of a control.

A deferred mid-circuit measurement becomes a control. The wire that it is on holds an outcome: from
then on nothing but reads it, so its two values do not interfere. An expectation value is the sum of
that over either outcome, and in the one that the gate acts in, the gate's parameter has no other
frequencies than without the control.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pennylane as qml
from pennylane.measurements import MeasurementProcess, ProbabilityMP
from pennylane.operation import Operator
from pennylane.ops.op_math import Adjoint, Controlled, Pow
from pennylane.ops.qubit.attributes import diagonal_in_z_basis

from qshift.circuits.spectra import has_no_effect, standard_name


def freed(
    operations: Sequence[Operator],
    measurements: Sequence[MeasurementProcess],
    outcomes: Collection[Any],
) -> Callable[[int], Operator]:
    """Returns a function that says, of the gate at a position, by which gate its frequencies are
    found: the same one without the controls that hold outcomes.

    Args:
        operations: The gates of a circuit.
        measurements: What is measured in the end.
        outcomes: Wires that measurements in the middle of the circuit were deferred to. Whether
            later gates and measurements only read them is checked here.
    """
    changed = {
        wire: max((i for i, op in enumerate(operations) if changes(op, wire)), default=-1)
        for wire in outcomes
        if not any(_tells_phases(measurement, wire) for measurement in measurements)
    }

    def without(position: int) -> Operator:
        op = operations[position]
        if not changed or not isinstance(op, Controlled) or standard_name(op) is None:
            return op
        kept = [
            (wire, value)
            for wire, value in zip(op.control_wires, op.control_values, strict=True)
            if position <= changed.get(wire, len(operations))
        ]
        if len(kept) == len(op.control_wires):
            return op
        if not kept:
            return op.base
        wires, values = zip(*kept, strict=True)
        with qml.QueuingManager.stop_recording():
            return qml.ctrl(op.base, control=wires, control_values=values)

    return without


def changes(op: Operator, wire: Any) -> bool:
    """Whether a gate may do more to a wire than read it."""
    if wire not in op.wires or has_no_effect(op):
        return False
    if standard_name(op) is None:
        return True
    while isinstance(op, Adjoint | Pow):
        op = op.base
    if isinstance(op, Controlled) and wire in op.control_wires:
        return False
    return standard_name(op) not in diagonal_in_z_basis


def _tells_phases(measurement: MeasurementProcess, wire: Any) -> bool:
    """Whether a measurement may depend on more of a wire than its outcome."""
    if wire not in measurement.wires:
        return False
    observable = measurement.obs
    if observable is None:
        return not isinstance(measurement, ProbabilityMP)
    words = observable.pauli_rep
    return words is None or any(word.get(wire, "I") not in "IZ" for word in words)
