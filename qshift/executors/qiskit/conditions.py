"""Measurements in the middle of a circuit, and gates under conditions, as backends run them.

Circuits are compiled with such measurements deferred: an outcome is on a wire, and gates under a
condition are controlled on it. Where a backend has conditions, such a wire becomes a bit again,
which takes no qubit. Values and their derivatives are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops import Controlled

from qshift.circuits.circuit import Circuit
from qshift.circuits.classical_controls import changes
from qshift.circuits.spectra import standard_name


@dataclass(frozen=True)
class Conditional:
    """A circuit with measurements and conditions in the place of controls.

    Attributes:
        circuit: The circuit without those controls.
        spared: The wires that take no qubit.
        bits: How many bits there are.
        measured: Position of a gate -> (wire, bit) of the measurement before it.
        replaced: Positions of gates for which there is a measurement only.
        conditions: Position of a gate -> its conditions, (bit, value) each.
    """

    circuit: Circuit
    spared: frozenset[Any]
    bits: int
    measured: Mapping[int, list[tuple[Any, int]]]
    replaced: frozenset[int]
    conditions: Mapping[int, list[tuple[int, bool]]]


def conditional(circuit: Circuit) -> Conditional | None:
    """Returns a circuit with measurements and conditions; None if it has no outcome that they
    could be made of.

    An outcome that is measured once more in the end stays on its wire.
    """
    final = {wire for measurement in circuit.measurements for wire in measurement.wires}
    touching = {
        wire: [i for i, op in enumerate(circuit.operations) if wire in op.wires]
        for wire in circuit.outcomes
        if wire not in final
    }
    found: dict[Any, tuple[int, int]] = {}  # wire -> its bit, and the position of its measurement
    measured: dict[int, list[tuple[Any, int]]] = {}
    sources: dict[Any, Any] = {}  # wire that takes no qubit -> wire that is measured
    for wire, at in sorted(touching.items(), key=lambda item: item[1]):
        # An outcome of a wire that is used again was copied by a CNOT.
        copy = circuit.operations[at[0]] if at else None
        if copy is None or standard_name(copy) != "CNOT" or copy.wires[1] != wire:
            continue
        if copy.wires[0] not in sources and _only_read(circuit, wire, at[1:]):
            measured.setdefault(at[0], []).append((copy.wires[0], len(found)))
            found[wire] = len(found), at[0]
            sources[wire] = copy.wires[0]
    replaced = frozenset(measured)
    for wire, at in touching.items():
        last = max((i for i in at if changes(circuit.operations[i], wire)), default=-1)
        uses = [i for i in at if i > last]
        is_held = wire not in sources and wire not in sources.values()
        if is_held and uses and _only_read(circuit, wire, uses):
            measured.setdefault(uses[0], []).append((wire, len(found)))
            found[wire] = len(found), uses[0]
    if not found:
        return None
    conditions: dict[int, list[tuple[int, bool]]] = {}
    operations = list(circuit.operations)
    for position, op in enumerate(operations):
        if position in replaced or not isinstance(op, Controlled):
            continue
        both = list(zip(op.control_wires, op.control_values, strict=True))
        known = {wire for wire in op.control_wires if wire in found and found[wire][1] <= position}
        if known:
            conditions[position] = [(found[w][0], bool(value)) for w, value in both if w in known]
            bare = _controlled(op, [(w, v) for w, v in both if w not in known])
            if len(qml.pytrees.flatten(bare)[0]) != len(qml.pytrees.flatten(op)[0]):
                return None  # slots count the leaves of a gate
            operations[position] = bare
    without = replace(circuit, operations=tuple(operations))
    spared = frozenset(sources)
    return Conditional(without, spared, len(found), measured, replaced, conditions)


def _only_read(circuit: Circuit, wire: Any, positions: list[int]) -> bool:
    """Whether gates are controlled on a wire, and do nothing else with it."""
    operations = [circuit.operations[i] for i in positions]
    return all(isinstance(op, Controlled) and wire in op.control_wires for op in operations)


def _controlled(op: Any, kept: list[tuple[Any, Any]]) -> Operator:
    """Returns what a gate controls, under some of its controls."""
    if not kept:
        return op.base
    wires, values = zip(*kept, strict=True)
    with qml.QueuingManager.stop_recording():
        return qml.ctrl(op.base, control=wires, control_values=values)
