"""A circuit as a list of calls of pennylane-lightning's compiled kernels.

Between two points of a circuit only the angles change. So wires, controls and kernels are looked up
once, and each point then costs one call per gate.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.ops.op_math import Adjoint, Controlled

from qshift.circuits.circuit import Circuit
from qshift.circuits.smooth_decompositions import has_decomposition
from qshift.circuits.spectra import has_no_effect, standard_name
from qshift.executors.simulator.lightning_internals import Measurements, StateVector
from qshift.executors.simulator.measurement_bases import Basis, NotCoveredError
from qshift.executors.simulator.prefix_order import in_order, stops
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from pennylane.operation import Operator

    from qshift.circuits.circuit import Slot

# Gates that have a kernel which takes the same parameters as in PennyLane.
KERNELS = frozenset(
    "CNOT CRX CRY CRZ CRot CSWAP CY CZ ControlledPhaseShift DoubleExcitation DoubleExcitationMinus "
    "DoubleExcitationPlus GlobalPhase Hadamard IsingXX IsingXY IsingYY IsingZZ MultiRZ PSWAP "
    "PauliX PauliY PauliZ PhaseShift RX RY RZ Rot S SWAP SX SingleExcitation SingleExcitationMinus "
    "SingleExcitationPlus T Toffoli".split()
)


@dataclass
class Gate:
    """A gate with the arguments of its kernel.

    Attributes:
        op: The gate.
        position: Its position among the circuit's operations.
        name: The name of its kernel; "QubitUnitary" if it is applied as a matrix.
        wires: The positions of the wires it acts on, without those that control it.
        inverse: Whether the kernel applies the inverse.
        controls, values: The positions of the wires that control it, and the values they need.
        parameters: For each parameter a column of the point (int), or a constant (float).
        columns: All columns of the point that the gate depends on.
    """

    op: qml.operation.Operator
    position: int
    name: str
    wires: list[int]
    inverse: bool
    controls: list[int]
    values: list[bool]
    parameters: list[int | float]
    columns: list[int]

    @property
    def matrix(self) -> np.ndarray:
        return _matrix(self.op)


def _matrix(op: Operator) -> np.ndarray:
    return np.ascontiguousarray(op.matrix(), dtype=complex)


def matrix_gate(
    op: Operator,
    position: int,
    wire_map: dict,
    columns: Sequence[int] = (),
    widest: int = DEFAULT.widest_matrix,
) -> Gate:
    """Returns a gate that is applied as a matrix.

    Args:
        op: The gate.
        position: Its position among the circuit's operations.
        wire_map: Wire label -> position.
        columns: All columns of the point that the gate depends on.
        widest: On how many wires it may act.

    Raises:
        NotCoveredError: If it has no matrix, or acts on more wires.
    """
    if not op.has_matrix or len(op.wires) > widest:
        raise NotCoveredError(f"{op.name} has no kernel, and no matrix of few wires")
    wires = [wire_map[wire] for wire in op.wires]
    return Gate(op, position, "QubitUnitary", wires, False, [], [], [], list(columns))


def _is_wrapped(op: Operator) -> bool:
    return isinstance(op, Adjoint | Controlled) and standard_name(op) is not None


class Kernels:
    """A circuit that runs on lightning's kernels. Not thread-safe; does not keep the circuit alive.

    Args:
        circuit: The circuit.
        measured: The bases to measure in.
        wire_map: Wire label -> position.
        state: A state vector on as many wires. Several circuits may use the same one.
        latest: Holds the final state of the latest run at a single point, {key: state}. A gradient
            mostly follows the value at the same point, and then starts from that state. Several
            circuits may use the same dict.
        thresholds: What may be saved, and how wide matrices may be.

    Attributes:
        moving: The gates that run at each point: all from the first that depends on the point.
        start: The state before these gates, complex[2**n]; None for |0...0>.
        own: For each gate of `moving` the place of its parameters in a row that `run` yields.
        state: The state vector.

    Raises:
        NotCoveredError: If a gate has no kernel, no decomposition and no matrix of few wires.
    """

    def __init__(
        self,
        circuit: Circuit,
        measured: Sequence[Basis],
        wire_map: dict,
        state: StateVector,
        latest: dict,
        thresholds: Thresholds = DEFAULT,
    ) -> None:
        self._circuit, self._wire_map, self.state = weakref.proxy(circuit), wire_map, state
        self._latest, self._own = latest, object()
        self._thresholds = thresholds
        self._reset, self._update = state.resetStateVector, state.updateData
        gates = self._gates()
        first = next((i for i, gate in enumerate(gates) if gate.columns), len(gates))
        fixed, self.moving = gates[:first], gates[first:]
        self.start = self._fixed_state(fixed)
        self._steps = self._compile()
        self.own = [slice(start, stop) for _, _, start, stop in self._steps]
        uses = [(i, column) for i, gate in enumerate(self.moving) for column in gate.columns]
        self._uses = np.array(uses, dtype=int).reshape(-1, 2).T
        self._grain = 1 + len(self._steps) // (1 + thresholds.most_amplitudes // state.size())
        self._measurements = Measurements(state)
        self._readings = [self._reading(basis) for basis in measured]

    def _gates(self) -> list[Gate]:
        slots = self._circuit.slots_by_operation
        gates: list[Gate] = []
        for position, op in enumerate(self._circuit.operations):
            self._add(gates, op, position, slots.get(position, ()))
        return gates

    def _add(self, gates: list[Gate], op: Operator, position: int, slots: Sequence[Slot]) -> None:
        if has_no_effect(op) or not op.wires:
            return
        if isinstance(op, qml.operation.StatePrepBase):
            if gates or slots:
                raise NotCoveredError(f"{op.name} is not the first gate, or its state changes")
            gates.append(Gate(op, position, "", [], False, [], [], [], []))
            return
        try:
            gates.append(self._gate(op, position, slots))
        except NotCoveredError:
            if slots or not has_decomposition(op):
                raise
            with qml.QueuingManager.stop_recording():
                parts = op.decomposition()
            for part in parts:
                self._add(gates, part, position, ())

    def _gate(self, op: Operator, position: int, slots: Sequence[Slot]) -> Gate:
        base, inverse = op, False
        controls: list[int] = []
        values: list[bool] = []
        while _is_wrapped(base) and (controls or standard_name(base) not in KERNELS):
            if isinstance(base, Adjoint):
                inverse = not inverse
            else:
                controls += [self._wire_map[wire] for wire in base.control_wires]
                values += [bool(value) for value in base.control_values]
            base = base.base
        wires = [self._wire_map[wire] for wire in base.wires]
        start = {slot.parameter: slot.start for slot in slots}
        columns = [column for slot in slots for column in slot.columns]
        scalars = None not in start and all(np.ndim(parameter) == 0 for parameter in base.data)
        if standard_name(base) not in KERNELS or not scalars:
            return self._matrix_gate(op, position, columns)
        parameters = [start.get(i, float(np.real(value))) for i, value in enumerate(base.data)]
        if not has_kernel(base.name, len(wires), len(controls), len(parameters)):
            return self._matrix_gate(op, position, columns)
        return Gate(op, position, base.name, wires, inverse, controls, values, parameters, columns)

    def _matrix_gate(self, op: Operator, position: int, columns: Sequence[int]) -> Gate:
        widest = self._thresholds.widest_matrix
        return matrix_gate(op, position, self._wire_map, columns, widest)

    def _fixed_state(self, gates: Sequence[Gate]) -> np.ndarray | None:
        """Returns the state after the gates before the first that moves; None for |0...0>."""
        if not gates:
            return None
        self._reset()
        for gate in gates:
            if isinstance(gate.op, qml.operation.StatePrepBase):
                vector = gate.op.state_vector(wire_order=qml.wires.Wires(list(self._wire_map)))
                self._update(np.ascontiguousarray(np.ravel(vector), dtype=complex))
            else:
                kernel, arguments = self._kernel(gate)
                kernel(*arguments, gate.parameters)
        return self._saved()

    def _kernel(self, gate: Gate) -> tuple[Any, tuple[Any, ...]]:
        """Returns the kernel of a gate, and its arguments without the parameters."""
        if gate.name != "QubitUnitary":
            targets = (gate.wires, gate.inverse)
            return getattr(self.state, gate.name), (
                (gate.controls, gate.values, *targets) if gate.controls else targets
            )
        apply, wires = self.state.applyMatrix, gate.wires
        if not gate.columns:
            matrix = gate.matrix
            return lambda _: apply(matrix, wires, False), ()
        known: dict[bytes, np.ndarray] = {}

        def moving(_: Any) -> None:
            key = self._point[gate.columns].tobytes()
            if key not in known:
                known.clear()  # points with the same angles here follow one another
                known[key] = _matrix(self._circuit.bound(gate.position, self._point[None]))
            apply(known[key], wires, False)

        return moving, ()

    def _compile(self) -> list[tuple[Any, ...]]:
        """Returns a call for each gate of `moving`: (kernel, its arguments without the parameters,
        the first of its parameters in a row of `_rows`, the one after its last)."""
        constants: list[float] = []
        order: list[int] = []
        steps = []
        for gate in self.moving:
            start = len(order)
            for parameter in gate.parameters:
                if isinstance(parameter, float):
                    order.append(self._circuit.num_parameters + len(constants))
                    constants.append(parameter)
                else:
                    order.append(parameter)
            steps.append((*self._kernel(gate), start, len(order)))
        self._constants, self._order = np.array(constants), np.array(order, dtype=int)
        return steps

    def _rows(self, points: np.ndarray) -> list[list[float]]:
        """Returns, for each point float64[P], the parameters of all gates of `moving` in a row."""
        if len(self._constants):
            constants = np.broadcast_to(self._constants, (len(points), len(self._constants)))
            points = np.hstack([points, constants])
        return points[:, self._order].tolist()

    def run(self, points: np.ndarray) -> Iterator[tuple[int, list[float]]]:
        """Runs the circuit at each point float64[N, P], and leaves the final state in `state`.

        Points that share what their first gates do follow one another (`prefix_order`), and start
        from a saved state.

        Yields:
            The index of a point, and the parameters of all gates of `moving` in a row; in any
            order of the points.
        """
        rows = self._rows(points)
        alone = len(points) == 1 and self.state.size() <= self._thresholds.most_amplitudes
        key = (self._own, points.tobytes()) if alone else None
        if key in self._latest:
            self._update(self._latest[key])
            yield 0, rows[0]
            return
        steps, columns = self._uses
        order, common = in_order(points[:, columns], steps, len(self._steps))
        common = [start // self._grain * self._grain for start in common]
        saved = [(0, self.start)]
        for i, start, later in zip(order, common, stops(common), strict=True):
            while saved[-1][0] > start:
                saved.pop()
            begin = self._load(*saved[-1])
            self._point, row = points[i], rows[i]
            for stop in reversed(later):
                self._advance(begin, stop, row)
                saved.append((stop, self._saved()))
                begin = stop
            self._advance(begin, len(self._steps), row)
            if alone:
                self._latest.clear()
                self._latest[key] = self._saved()
            yield i, row

    def _advance(self, begin: int, end: int, row: Sequence[float]) -> None:
        for kernel, arguments, start, stop in self._steps[begin:end]:
            kernel(*arguments, row[start:stop])

    def _load(self, begin: int, state: np.ndarray | None) -> int:
        if state is None:
            self._reset()
        else:
            self._update(state)
        return begin

    def _saved(self) -> np.ndarray:
        state = np.empty(self.state.size(), dtype=complex)
        self.state.getState(state)
        return state

    def _reading(
        self, basis: Basis
    ) -> tuple[list[tuple[Any, ...]], tuple[Any, ...], list[tuple[Any, ...]]]:
        """Returns the kernels that rotate into a basis, the arguments for reading probabilities
        there, and the kernels that rotate back."""
        there = [self._rotation(*rotation) for rotation in basis.rotations]
        back = [
            self._rotation(gate, wires, not inverse)
            for gate, wires, inverse in reversed(basis.rotations)
        ]
        return (
            there,
            () if basis.wires == tuple(range(len(self._wire_map))) else (basis.wires,),
            back,
        )

    def _rotation(
        self, gate: str | np.ndarray, wires: Sequence[int], inverse: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        if isinstance(gate, str):
            return getattr(self.state, gate), (wires, inverse, [])
        return self.state.applyMatrix, (gate, wires, inverse)

    def probabilities(self) -> list[np.ndarray]:
        """Returns the probabilities float64[2**k] of the outcomes in each basis. The state is left
        rotated into the last basis."""
        found: list[np.ndarray] = []
        back: Sequence[tuple] = ()
        for there, wires, undo in self._readings:
            for kernel, arguments in (*back, *there):
                kernel(*arguments)
            found.append(self._measurements.probs(*wires))
            back = undo
        return found


@lru_cache(maxsize=4096)
def has_kernel(name: str, wires: int, controls: int, parameters: int) -> bool:
    """Whether this release of lightning has a kernel of a name for so many wires, controls and
    parameters."""
    state = StateVector(max(1, wires + controls))
    targets = (list(range(wires)), False, [0.1] * parameters)
    control = (list(range(wires, wires + controls)), [True] * controls) if controls else ()
    try:
        getattr(state, name)(*control, *targets)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True
