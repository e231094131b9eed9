"""Devices that are wrong on purpose: the fuzzer has to find out."""

from __future__ import annotations

import pennylane as qml


class Broken(qml.devices.DefaultQubit):
    """Runs something else than it is given."""

    def execute(self, circuits, execution_config=None):
        batch = [circuits] if isinstance(circuits, qml.tape.QuantumScript) else circuits
        changed = tuple(
            tape.copy(operations=list(map(self.changed, tape.operations))) for tape in batch
        )
        results = super().execute(changed, execution_config or qml.devices.ExecutionConfig())
        return results if batch is circuits else results[0]

    def changed(self, op):
        raise NotImplementedError


class Dropping(Broken):
    """Leaves out RZ."""

    def changed(self, op):
        return qml.Identity(op.wires) if op.name == "RZ" else op


class Swapping(Broken):
    """Swaps the first two angles of gates that have several."""

    def changed(self, op):
        if len(op.data) < 2 or any(qml.math.ndim(x) > 1 for x in op.data):
            return op
        return type(op)(op.data[1], op.data[0], *op.data[2:], wires=op.wires)


class Rounding(Broken):
    """Loses digits of angles, as single precision would."""

    def changed(self, op):
        if op.name not in ("RX", "RY"):
            return op
        return type(op)(qml.math.round(op.data[0], 4), wires=op.wires)
