"""A circuit as calls of pennylane-lightning's compiled kernels.

Nothing about a circuit but its angles changes between two points, so everything else is looked up
once, and a point costs one call per gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pennylane as qml
from pennylane.measurements import ExpectationMP
from pennylane.ops.op_math import Adjoint, Controlled
from pennylane.tape import QuantumScript
from pennylane_lightning.lightning_base._serialize import QuantumScriptSerializer
from pennylane_lightning.lightning_qubit_ops import MeasurementsC128, StateVectorC128
from pennylane_lightning.lightning_qubit_ops.algorithms import (
    AdjointJacobianC128,
    create_ops_listC128,
)

from qshift.circuit import Circuit
from qshift.executors.basis import Basis, NotCoveredError
from qshift.gates import suits_adjoint

# Gates with kernels that take their parameters as PennyLane does.
_KERNELS = frozenset(
    "CNOT CRX CRY CRZ CRot CSWAP CY CZ ControlledPhaseShift DoubleExcitation DoubleExcitationMinus "
    "DoubleExcitationPlus Hadamard IsingXX IsingXY IsingYY IsingZZ MultiRZ PSWAP PauliX PauliY "
    "PauliZ PhaseShift RX RY RZ Rot S SWAP SX SingleExcitation SingleExcitationMinus "
    "SingleExcitationPlus T Toffoli".split()
)
_WITHOUT_EFFECT = (qml.Identity, qml.Barrier, qml.GlobalPhase, qml.Snapshot)


@dataclass
class _Gate:
    """A gate as the kernels take it.

    Attributes:
        op: The gate.
        position: Its position in the circuit.
        name: Its kernel; "QubitUnitary" for a matrix.
        wires: Wires it acts on.
        inverse: Whether it is the inverse of what the name says.
        controls, values: Wires that control it, and their values.
        parameters: Its parameters: a column of the point (int), or a number (float).
        moving: Whether it depends on the point.
    """

    op: qml.operation.Operator
    position: int
    name: str
    wires: list[int]
    inverse: bool
    controls: list[int]
    values: list[bool]
    parameters: list[int | float]
    moving: bool


class Kernels:
    """A circuit, prepared for lightning's kernels. Not thread-safe.

    Args:
        circuit: The circuit.
        wire_map: Wire label -> position.
        state: A state vector of as many wires, which may be shared.

    Raises:
        NotCoveredError: If the kernels do not cover it.
    """

    def __init__(self, circuit: Circuit, wire_map: dict, state: StateVectorC128):
        self._circuit, self._wire_map, self._state = circuit, wire_map, state
        self._measurements = MeasurementsC128(state)
        gates = self._gates()
        first = next((i for i, gate in enumerate(gates) if gate.moving), len(gates))
        fixed, self._moving = gates[:first], gates[first:]
        self._start = self._fixed_state(fixed)
        self._steps = self._compile()
        self._adjoint = self._prepare_adjoint()

    def _gates(self) -> list[_Gate]:
        slots = self._circuit.slots_by_operation
        gates = []
        for position, op in enumerate(self._circuit.operations):
            if isinstance(op, _WITHOUT_EFFECT):
                continue
            if isinstance(op, qml.operation.StatePrepBase):
                if gates or position in slots:
                    raise NotCoveredError
                gates.append(_Gate(op, position, "", [], False, [], [], [], False))
                continue
            columns = {slot.parameter: slot.start for slot in slots.get(position, ())}
            gates.append(self._gate(op, position, columns))
        return gates

    def _gate(self, op, position, columns) -> _Gate:
        base, inverse, controls, values = op, False, [], []
        while isinstance(base, Adjoint | Controlled) and (controls or base.name not in _KERNELS):
            if isinstance(base, Adjoint):
                inverse = not inverse
            else:
                controls += base.control_wires.tolist()
                values += [bool(value) for value in base.control_values]
            base = base.base
        scalars = None not in columns and all(np.ndim(parameter) == 0 for parameter in base.data)
        if base.name not in _KERNELS or not hasattr(self._state, base.name) or not scalars:
            if not op.has_matrix:
                raise NotCoveredError
            wires = [self._wire_map[wire] for wire in op.wires]
            return _Gate(op, position, "QubitUnitary", wires, False, [], [], [], bool(columns))
        return _Gate(
            op,
            position,
            base.name,
            [self._wire_map[wire] for wire in base.wires],
            inverse,
            [self._wire_map[wire] for wire in controls],
            values,
            [columns.get(i, float(np.real(value))) for i, value in enumerate(base.data)],
            bool(columns),
        )

    def _fixed_state(self, gates) -> np.ndarray | None:
        """Returns the state after the gates before the first that moves; None for |0...0>."""
        if not gates:
            return None
        self._state.resetStateVector()
        for gate in gates:
            if isinstance(gate.op, qml.operation.StatePrepBase):
                vector = gate.op.state_vector(wire_order=qml.wires.Wires(list(self._wire_map)))
                self._state.updateData(np.ascontiguousarray(np.ravel(vector), dtype=complex))
            else:
                self._apply(gate, gate.parameters)
        start = np.empty(self._state.size(), dtype=complex)
        self._state.getState(start)
        return start

    def _apply(self, gate, parameters):
        if gate.name == "QubitUnitary":
            self._state.applyMatrix(_matrix(gate.op), gate.wires, gate.inverse)
        elif gate.controls:
            method = getattr(self._state, gate.name)
            method(gate.controls, gate.values, gate.wires, gate.inverse, parameters)
        else:
            getattr(self._state, gate.name)(gate.wires, gate.inverse, parameters)

    def _compile(self):
        """Returns (kernel, its arguments but the parameters, which of these are its own)."""
        constants = [p for gate in self._moving for p in gate.parameters if isinstance(p, float)]
        self._constants = np.array(constants)
        self._order, steps, start, constant = [], [], 0, self._circuit.num_parameters
        for gate in self._moving:
            for parameter in gate.parameters:
                self._order.append(constant if isinstance(parameter, float) else parameter)
                constant += isinstance(parameter, float)
            stop = start + len(gate.parameters)
            if gate.name == "QubitUnitary":
                kernel, arguments = self._matrix_kernel(gate), ()
            elif gate.controls:
                kernel = getattr(self._state, gate.name)
                arguments = (gate.controls, gate.values, gate.wires, gate.inverse)
            else:
                kernel, arguments = getattr(self._state, gate.name), (gate.wires, gate.inverse)
            steps.append((kernel, arguments, start, stop))
            start = stop
        return steps

    def _matrix_kernel(self, gate):
        if not gate.moving:
            matrix = _matrix(gate.op)
            return lambda _: self._state.applyMatrix(matrix, gate.wires, False)

        def apply(_):
            op = self._circuit.bound(gate.position, self._point)
            self._state.applyMatrix(_matrix(op), gate.wires, False)

        return apply

    def rows(self, points: np.ndarray) -> list[list[float]]:
        """Returns, for each point float64[P], the parameters of all gates one after another."""
        if len(self._constants):
            constants = np.broadcast_to(self._constants, (len(points), len(self._constants)))
            points = np.hstack([points, constants])
        return points[:, np.array(self._order, dtype=int)].tolist()

    def run(self, point: np.ndarray, row: list[float]) -> None:
        """Brings the state vector into the circuit's final state at a point."""
        self._point = point
        if self._start is None:
            self._state.resetStateVector()
        else:
            self._state.updateData(self._start)
        for kernel, arguments, start, stop in self._steps:
            kernel(*arguments, row[start:stop])

    def probabilities(self, basis: Basis, keep: bool) -> np.ndarray:
        """Returns the probabilities float64[2**k] of the outcomes in a basis.

        Args:
            basis: The basis.
            keep: Whether the state is needed again.
        """
        for gate, wires, inverse in basis.rotations:
            self._rotate(gate, wires, inverse)
        if len(basis.wires) == len(self._wire_map) and basis.wires == tuple(sorted(basis.wires)):
            probabilities = self._measurements.probs()
        else:
            probabilities = self._measurements.probs(basis.wires)
        if keep:
            for gate, wires, inverse in reversed(basis.rotations):
                self._rotate(gate, wires, not inverse)
        return probabilities

    def _rotate(self, gate, wires, inverse):
        if isinstance(gate, str):
            getattr(self._state, gate)(wires, inverse, [])
        else:
            self._state.applyMatrix(gate, wires, inverse)

    @property
    def differentiable(self) -> bool:
        """Whether `gradient` is there."""
        return self._adjoint is not None

    def _prepare_adjoint(self):
        circuit = self._circuit
        moving = [gate for gate in self._moving if gate.moving]
        if not all(suits_adjoint(gate.op) and len(gate.parameters) == 1 for gate in moving):
            return None
        if not all(isinstance(m, ExpectationMP) for m in circuit.measurements):
            return None
        columns, trainable, count = [], [], 0
        for gate in self._moving:
            if gate.moving:
                columns.append(gate.parameters[0])
                trainable.append(count)
            count += bool(gate.parameters)
        matrices = [
            _matrix(gate.op) if gate.name == "QubitUnitary" else np.empty(0, complex)
            for gate in self._moving
        ]
        tape = QuantumScript([], circuit.measurements)
        observables, _ = QuantumScriptSerializer("lightning.qubit").serialize_observables(
            tape, self._wire_map
        )
        gates = (
            [gate.wires for gate in self._moving],
            [gate.inverse for gate in self._moving],
            matrices,
            [gate.controls for gate in self._moving],
            [gate.values for gate in self._moving],
        )
        names = [gate.name for gate in self._moving]
        return names, gates, trainable, columns, observables

    def gradient(self, row: list[float]) -> np.ndarray:
        """Returns the first derivatives float64[M, P] at the state that `run` left."""
        names, gates, trainable, columns, observables = self._adjoint
        result = np.zeros((len(observables), self._circuit.num_parameters))
        if trainable:
            parameters = [row[start:stop] for _, _, start, stop in self._steps]
            operations = create_ops_listC128(names, parameters, *gates)
            jacobian = AdjointJacobianC128()(self._state, observables, operations, trainable)
            result[:, columns] = np.reshape(jacobian, (len(observables), len(trainable)))
        return result


def _matrix(op) -> np.ndarray:
    return np.ascontiguousarray(op.matrix(), dtype=complex)
