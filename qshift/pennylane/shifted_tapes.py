"""Tapes at the points of a plan, and the rows of their results.

Where possible, one tape is broadcast over all points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.measurements import MidMeasureMP
from pennylane.operation import Operator
from pennylane.tape import QuantumScript

from qshift.circuits import spectra as gates
from qshift.circuits.circuit import Circuit, Slot
from qshift.circuits.pennylane_internals import is_recorded
from qshift.errors import UnsupportedError
from qshift.pennylane.expansion import is_angle
from qshift.rules.planner import Point
from qshift.rules.shifting import FAR, exact_base, largest_frequency, reduced

_FAR_SINGLE = 10.0  # radians; in single precision, whole periods are taken off larger angles
_MOST_AMPLITUDES = 2**22  # amplitudes of one broadcast tape: 64 MiB


class Shifted(QuantumScript):
    """A tape at shifted angles.

    If it is differentiated, it is shifted again, and many of the resulting tapes are equal.
    PennyLane's cache recognises these if they are not broadcast.
    """


def shifted(
    tape: QuantumScript, circuit: Circuit, points: list[Point], broadcast: bool | None
) -> tuple[list[Shifted], list[Any]]:
    """Returns tapes at points.

    Args:
        tape: The unshifted tape.
        circuit: The tape as a circuit, whose measurements are those that are run.
        points: The points.
        broadcast: Whether one tape is broadcast over several points; None for where that is
            possible.

    Returns:
        The tapes, and for each the number of points it is broadcast over, None if it is not.

    Raises:
        UnsupportedError: If `broadcast` is True, but the tape itself has a batch.
    """
    moved = {column for point in points for column, _, _ in point}
    if broadcast is None:
        broadcast = _can_broadcast(tape, [circuit.slots[column] for column in moved])
    elif broadcast and tape.batch_size is not None:
        raise UnsupportedError(
            "broadcast=True: the tape is broadcast itself. Use broadcast=None or broadcast=False."
        )
    size = max(1, _MOST_AMPLITUDES >> len(tape.wires)) if broadcast else 1
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    sizes = [len(chunk) if len(chunk) > 1 else None for chunk in chunks]
    return [_moved(tape, circuit, chunk) for chunk in chunks], sizes


def _can_broadcast(tape: QuantumScript, slots: Sequence[Slot]) -> bool:
    operations = [tape.operations[slot.operation] for slot in slots]
    return (
        tape.batch_size is None
        and not isinstance(tape, Shifted)
        and not any(isinstance(op, MidMeasureMP) for op in tape.operations)
        and all(gates.broadcasts(op) for op in operations)
        and not any(
            _is_recorded(op.data[slot.parameter])
            for op, slot in zip(operations, slots, strict=True)
        )
    )


def _is_recorded(parameter: Any) -> bool:
    """Whether a framework records computations with a parameter, in order to differentiate or
    compile them. PennyLane cannot differentiate broadcast tapes."""
    interface = qml.math.get_interface(parameter)
    if interface == "autograd":
        return is_recorded(parameter)
    if interface == "torch":
        import torch

        return parameter.requires_grad and torch.is_grad_enabled()
    return qml.math.requires_grad(parameter)


def _moved(tape: QuantumScript, circuit: Circuit, points: Sequence[Point]) -> Shifted:
    """Returns the tape at one point, or broadcast over several."""
    if points == [()] and tuple(tape.measurements) == circuit.measurements:
        return tape
    operations = list(tape.operations)
    moves = [{column: (scale, shift) for column, scale, shift in point} for point in points]
    for position, slots in circuit.slots_by_operation.items():
        moved = [slot for slot in slots if any(slot.start in move for move in moves)]
        if not moved:
            continue
        changes = {}
        for slot in moved:
            scales, shifts = np.array([move.get(slot.start, (1.0, 0.0)) for move in moves]).T
            if len(points) == 1:
                scales, shifts = scales[0], shifts[0]
            x = _near(operations[position].data[slot.parameter], slot)
            if (scales != 1.0).any():
                x = x * like(scales, x)
            changes[slot.parameter] = x + like(shifts, x)
        operations[position] = _bound(operations[position], changes)
    trainable = [i for i in tape.trainable_params if is_angle(tape, i)]
    return Shifted(operations, circuit.measurements, shots=tape.shots, trainable_params=trainable)


def _near(x: Any, slot: Slot) -> Any:
    """Returns an angle, with whole periods taken off if it is large; derivatives stay the same."""
    largest, base = largest_frequency(slot.spectrum), exact_base(slot.spectrum)
    single = any(name in str(getattr(x, "dtype", "")) for name in ("float32", "float16"))
    far = qml.math.abs(x) * largest > (_FAR_SINGLE if single else FAR)
    if qml.math.is_abstract(x):
        return x if base is None else qml.math.where(far, _less_periods(x, base), x)
    if not qml.math.any(far):
        return x
    if base is None:
        reduced(
            np.asarray(qml.math.unwrap([x])[0], float), slot.spectrum, f"A parameter of {slot.gate}"
        )
        return x
    return qml.math.where(far, _less_periods(x, base), x)


def _less_periods(x: Any, base: Any) -> Any:
    return qml.math.arctan2(qml.math.sin(base * x), qml.math.cos(base * x)) / base


def _bound(op: Operator, changes: Any) -> Operator:
    """Returns a gate with some of its parameters replaced."""
    if isinstance(op, qml.ops.Conditional):
        return qml.ops.Conditional(op.meas_val, _bound(op.base, changes))
    # PennyLane's bind_new_parameters counts parameters inside of some generators wrongly.
    leaves, structure = qml.pytrees.flatten(op)
    places = gates.data_positions(op, leaves)
    for parameter, x in changes.items():
        leaves[places.index(parameter)] = x
    return qml.pytrees.unflatten(leaves, structure)


def rows(leaves: Sequence[Any], sizes: Sequence[Any]) -> Any:
    """Stacks results of tapes to one row for each point.

    Args:
        leaves: One result of each tape.
        sizes: For each tape the number of points it is broadcast over, which is the number of rows
            of its result; None if it is not broadcast.
    """
    if not any(sizes):
        return qml.math.stack(leaves)
    rows = [
        leaf if size else qml.math.stack([leaf]) for leaf, size in zip(leaves, sizes, strict=True)
    ]
    return rows[0] if len(rows) == 1 else qml.math.concatenate(rows)


def like(array: Any, tensor: Any) -> Any:
    """Returns an array in the interface of a tensor, and in its dtype unless that has integers."""
    array = qml.math.convert_like(array, tensor)
    has_integers = "int" in str(getattr(tensor, "dtype", type(tensor)))
    return array if has_integers else qml.math.cast_like(array, tensor)
