"""A quantum circuit as a function of numbers, from points float64[N, P] to values float64[N, M].

A `Compiler` takes a PennyLane tape whose gates hold TensorFlow tensors and separates what
changes between two calls (the tensors, flattened into P columns) from what does not (`Circuit`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.measurements import ProbabilityMP
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from qshift.circuits import spectra as gates
from qshift.circuits.consistency import require_consistent
from qshift.circuits.decomposition import decompose, innermost
from qshift.circuits.identity import fingerprint, has_custom, hashable, kept
from qshift.circuits.mid_circuit import defer, in_order
from qshift.circuits.readout import Readout, read
from qshift.circuits.signature import signature
from qshift.circuits.snapshots import snapshot
from qshift.circuits.unitary import (
    require_real_angles,
    require_unitary,
    require_unitary_now,
    unitary_matrices,
)
from qshift.errors import NoShiftRuleError, UnsupportedError
from qshift.rules.planner import Frequencies, Planner, Spectrum
from qshift.rules.shifting import Shifter, largest_frequency

_MATRICES = (qml.QubitUnitary, qml.ControlledQubitUnitary)
_NUMBERS = (int, float, complex, np.number, np.ndarray)


@dataclass(frozen=True)
class Slot:
    """One tensor-valued gate parameter.

    Attributes:
        operation: Position of the gate in the circuit.
        parameter: Position among the gate's parameters, ``op.data``.
        leaf: Position among the leaves of the flattened gate.
        gate: The gate's name, for messages.
        start: Its first column.
        shape: Shape without broadcasting; () for an angle.
        is_complex: Whether the gate wants a complex array; imaginary parts follow real ones.
        spectrum: How the circuit depends on it; None where no exact rule is known.
    """

    operation: int
    parameter: int
    leaf: int
    gate: str
    start: int
    shape: tuple[int, ...]
    is_complex: bool
    spectrum: Spectrum | None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int)) * (2 if self.is_complex else 1)

    @property
    def columns(self) -> range:
        return range(self.start, self.start + self.size)


class Parametric:
    """What derivatives are planned with: parameters in columns, and which values they reach.

    Attributes:
        slots: The tensor-valued parameters.
        cones: bool[M, P]: whether a parameter lies in the backward light cone of a measurement.
        num_values: M, the number of values of a point.
        is_finite: Whether its constants are.
    """

    slots: tuple[Slot, ...]
    cones: np.ndarray
    num_values: int
    is_finite: bool

    @cached_property
    def num_parameters(self) -> int:
        """P, the number of columns of a point."""
        return sum(slot.size for slot in self.slots)

    @cached_property
    def spectra(self) -> tuple[Spectrum | None, ...]:
        return tuple(slot.spectrum for slot in self.slots for _ in range(slot.size))

    @cached_property
    def active_columns(self) -> tuple[int, ...]:
        """The parameters that some value depends on."""
        seen = self.cones.any(axis=0)
        return tuple(
            column
            for column, spectrum in enumerate(self.spectra)
            if seen[column] and spectrum != Frequencies(())
        )

    @cached_property
    def _planners(self) -> dict[str, Planner]:
        return {}

    def planner(self, objective: str) -> Planner:
        """Returns the planner of this structure, which remembers its plans."""
        if objective not in self._planners:
            self._planners[objective] = Planner(self.spectra, self.cones, objective)
        return self._planners[objective]

    @cached_property
    def _without_rule(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.spectrum is None]

    @cached_property
    def shifted(self) -> Shifter:
        """Moves parameters to the points of a plan."""
        return Shifter(self.spectra, self.called)

    def called(self, column: int) -> str:
        """Returns what messages call a column."""
        slot = next(slot for slot in self.slots if column in slot.columns)
        return f"Parameter {slot.leaf} of {slot.gate}"

    def require_rules(self, columns: Iterable[int]) -> None:
        """Raises NoShiftRuleError if a derivative by one of these columns has no exact rule."""
        if not self._without_rule:
            return
        columns = set(columns)
        for slot in self._without_rule:
            if columns.intersection(slot.columns):
                raise NoShiftRuleError(
                    f"The derivative by parameter {slot.leaf} of {slot.gate} was asked for, "
                    f"but {slot.gate} has no exact shift rule. Replace it by gates that have one "
                    "(rotations, PauliRot, controlled rotations, ...; for a custom gate define "
                    "parameter_frequencies, a generator, or grad_recipe, which must not depend on "
                    "other parameters: keep those in hyperparameters), or, if it is data, keep "
                    "it out of the derivative: a NumPy array, tf.stop_gradient, not trainable."
                )


@dataclass(frozen=True, eq=False)
class Circuit(Parametric):
    """The structure of a circuit: all of it but its angles.

    Attributes:
        operations: Gates with placeholder numbers in their slots.
        measurements: Expectation values and probabilities of fixed observables.
        sizes: How many values each measurement gives.
        slots: The tensor-valued gate parameters.
        shots: Shots per evaluation.
    """

    operations: tuple[qml.operation.Operator, ...]
    measurements: tuple[qml.measurements.MeasurementProcess, ...]
    sizes: tuple[int, ...]
    slots: tuple[Slot, ...]
    shots: qml.measurements.Shots

    @cached_property
    def joined(self) -> dict[tuple, Any]:
        """It as a function of fewer parameters, by which gates share them (`shared_angles`)."""
        return {}

    @cached_property
    def name(self) -> bytes:
        """What the circuit is made of, the same in every process."""
        gates = [(op.name, op.wires.tolist()) for op in self.operations]
        return repr((gates, [repr(m) for m in self.measurements])).encode()

    @cached_property
    def wires(self) -> Wires:
        """All wires of the circuit, in the order in which they appear."""
        return Wires.all_wires([part.wires for part in (*self.operations, *self.measurements)])

    @cached_property
    def copies(self) -> int:
        """How many times each value is estimated: the length of a shot vector, otherwise 1."""
        return self.shots.num_copies if self.shots.has_partitioned_shots else 1

    @cached_property
    def num_values(self) -> int:
        """M, the number of values of a point; a shot vector's copies follow one another."""
        return sum(self.sizes) * self.copies

    @cached_property
    def cones(self) -> np.ndarray:
        columns = [self.reached(_seen(measurement)) for measurement in self.measurements]
        return np.tile(np.repeat(columns, self.sizes, axis=0), (self.copies, 1))

    @cached_property
    def is_finite(self) -> bool:
        constants = (leaf for op in self.operations for leaf in qml.pytrees.flatten(op)[0])
        return all(np.isfinite(x).all() for x in constants if isinstance(x, _NUMBERS))

    def reached(self, wires: set) -> np.ndarray:
        """Returns bool[P]: whether a parameter lies in the backward light cone of some wires."""
        columns, cone = np.zeros(self.num_parameters, dtype=bool), set(wires)
        for position in reversed(range(len(self.operations))):
            touched = self.operations[position].wires
            if gates.has_no_effect(self.operations[position]):
                continue
            if not touched or cone.intersection(touched):
                cone.update(touched)
                for slot in self.slots_by_operation.get(position, ()):
                    columns[slot.columns] = True
        return columns

    def bind(self, points: np.ndarray) -> QuantumScript:
        """Returns one tape that is broadcast over the points, or plain for a single point.

        Args:
            points: float64[N, P].
        """
        operations = list(self.operations)
        for position in self.slots_by_operation:
            operations[position] = self.bound(position, points)
        return QuantumScript(operations, self.measurements, shots=self.shots)

    def bind_each(self, points: np.ndarray) -> list[QuantumScript]:
        """Returns one tape per point; gates that are the same at several points are shared.

        Args:
            points: float64[N, P].
        """
        flat = {
            position: qml.pytrees.flatten(self.operations[position])
            for position in self.slots_by_operation
        }
        made: dict[tuple, qml.operation.Operator] = {}
        tapes = []
        for point in points:
            operations = list(self.operations)
            for position, slots in self.slots_by_operation.items():
                columns = point[slots[0].start : slots[-1].start + slots[-1].size]
                key = (position, columns.tobytes())
                if key not in made:
                    made[key] = self._filled(*flat[position], slots, point[None])
                operations[position] = made[key]
            tapes.append(QuantumScript(operations, self.measurements, shots=self.shots))
        return tapes

    def bound(self, position: int, points: np.ndarray) -> Operator:
        """Returns the gate at a position, broadcast over points float64[N, P] as in `bind`."""
        slots = self.slots_by_operation.get(position, ())
        return self._filled(*qml.pytrees.flatten(self.operations[position]), slots, points)

    def _filled(self, leaves, structure, slots, points):
        leaves = list(leaves)
        for slot in slots:
            leaves[slot.leaf] = self._argument(slot, points)
        return qml.pytrees.unflatten(leaves, structure)

    @cached_property
    def slots_by_operation(self) -> dict[int, list[Slot]]:
        """Position of a gate -> its slots."""
        slots: dict[int, list[Slot]] = {}
        for slot in self.slots:
            slots.setdefault(slot.operation, []).append(slot)
        return slots

    @staticmethod
    def _argument(slot, points):
        columns = points[:, slot.columns]
        if (columns == columns[:1]).all():
            columns = columns[:1]  # leave out broadcasting where nothing moves
        if slot.is_complex:
            half = slot.size // 2
            columns = columns[:, :half] + 1j * columns[:, half:]
        array = columns.reshape(-1, *slot.shape)
        if len(array) > 1:
            return array
        return array[0] if slot.shape else array[0].item()


def _seen(measurement) -> set:
    """Returns the wires that a measurement looks at."""
    return set().union(*terms(measurement))


def terms(measurement) -> set[frozenset]:
    """Returns the wires that each term of a measurement looks at."""
    words = None if measurement.obs is None else measurement.obs.pauli_rep
    if isinstance(measurement, ProbabilityMP) or words is None:
        return {frozenset(measurement.wires)}
    return {frozenset(word) for word, coefficient in words.items() if coefficient != 0}


@dataclass(frozen=True)
class Compiled:
    """A tape, taken apart.

    Attributes:
        circuit: What stays the same between calls.
        parameters: One tensor per slot, of the slot's shape or broadcast [N, *shape].
        readout: From raw values to the results asked for.
    """

    circuit: Circuit
    parameters: tuple[Any, ...]
    readout: Readout

    def results(self, values, finish: Callable[[Any], Any]):
        """Lays raw values [N, M] out as PennyLane returns the results of a tape.

        Args:
            values: The values.
            finish: What to do with each result [N, ...].
        """
        circuit, copies = self.circuit, []
        width = circuit.num_values // circuit.copies
        for i in range(circuit.copies):
            raw = values[:, i * width : (i + 1) * width] if circuit.copies > 1 else values
            results = [finish(result) for result in self.readout.laid_out(raw)]
            copies.append(results[0] if len(results) == 1 else tuple(results))
        return tuple(copies) if circuit.shots.has_partitioned_shots else copies[0]


class Compiler:
    """Takes tapes apart, keeping the structures it has met.

    Args:
        device_wires: The wires that ``qml.probs()`` measures; None for those of the tape.
        is_tensor: Whether a parameter is a TensorFlow tensor.
        adjoint: Whether to decompose gates further, into those that devices differentiate.
        constant: Returns the numbers in a tensor if nothing can differentiate by it, or None.
    """

    _MOST_STRUCTURES = 256

    def __init__(
        self,
        device_wires,
        is_tensor: Callable[[Any], bool],
        adjoint: bool = False,
        constant: Callable[[Any], np.ndarray | None] = lambda _: None,
    ):
        self._device_wires = device_wires
        self._adjoint = adjoint
        self._is_tensor = is_tensor
        self._constant = constant
        self._circuits: dict[Any, Circuit] = {}
        # What became of tapes none of whose gates with tensors were decomposed: the circuit, where
        # in the tape its parameters are, and the readout.
        self._known: dict[Hashable, tuple[Circuit, list[tuple[int, int]], Readout]] = {}

    def __call__(self, tape: QuantumScript) -> Compiled:
        """Takes a tape apart.

        Raises:
            UnsupportedError: For what shifted circuits cannot differentiate: postselection, states,
                samples, tensors inside observables other than as coefficients.
        """
        key = signature(tape)
        if key in self._known:
            circuit, places, readout = self._known[key]
            gates = tape.operations
            return Compiled(circuit, tuple([gates[i].data[k] for i, k in places]), readout)
        compiled, moving = self._taken_apart(tape)
        places = _places(compiled, moving, tape)
        if key is not None and places is not None:
            if len(self._known) >= self._MOST_STRUCTURES:
                self._known.clear()
            self._known[key] = compiled.circuit, places, compiled.readout
        return compiled

    def _taken_apart(self, tape) -> tuple[Compiled, dict[int, Operator]]:
        """Returns a tape taken apart, and the gates with parameters by their positions."""
        tape = defer(tape, self._device_wires)
        operations = decompose(tape.operations, self._is_tensor, self._adjoint, self._may_move)
        readout = read(
            tape.measurements,
            lambda: self._device_wires or in_order(tape),
            self._is_tensor,
            self._constant,
        )

        slots, parameters, structures, fixed, start = [], [], [], [], 0
        templates, moving_gates, data_gates = [], {}, set()
        for position, part in enumerate(operations):
            op, leaves, structure, data_of = part
            own = kept(op) if has_custom(structure) else None
            structures.append((hashable(structure), own))
            positions = gates.data_positions(op, leaves)
            moving = [
                i
                for i, leaf in enumerate(leaves)
                if self._is_tensor(leaf) or _is_broadcast(op, positions[i], leaf)
            ]
            fixed.append(fingerprint([x for i, x in enumerate(leaves) if i not in moving]))
            if not moving:
                templates.append(op)
                continue
            moving_gates[position] = op
            given, is_data = list(leaves), False
            is_matrix = isinstance(innermost(op), _MATRICES)
            spectra = gates.spectra(op)
            for i in moving:
                slot = _slot(op, position, positions[i], i, leaves[i], start)
                if part.is_still:
                    slot = replace(slot, spectrum=Frequencies(()))
                elif data_of is not None:
                    slot = replace(slot, gate=data_of)
                elif positions[i] is not None and not slot.shape:
                    slot = replace(slot, spectrum=spectra[positions[i]])
                is_data |= slot.spectrum is None
                if slot.shape and is_matrix:
                    leaves[i] = unitary_matrices(leaves[i], op)
                slots.append(slot)
                parameters.append(leaves[i])
                start += slot.size
                leaves[i] = _placeholder(slot)
            if is_data and not part.is_still:
                data_gates.add(position)
                if not is_matrix:
                    require_unitary_now(op, given, structure)
            templates.append((leaves, structure))
        key = (
            tuple(structures),
            tuple(fixed),
            tuple(slots),
            tuple(map(fingerprint, readout.raw)),
            tape.shots,
        )
        circuit = self._circuits.get(key)
        if circuit is None:
            if len(self._circuits) >= self._MOST_STRUCTURES:
                self._circuits.clear()
            # What is remembered must not change when the user's arrays do.
            with qml.QueuingManager.stop_recording():
                templates = tuple(
                    qml.pytrees.unflatten(*t) if isinstance(t, tuple) else t for t in templates
                )
                templates, raw = snapshot(templates), snapshot(readout.raw)
            for position, op in enumerate(templates):
                require_real_angles(op)
                if position not in data_gates:  # whose placeholders may be anything
                    require_unitary(op)
                if position not in moving_gates:
                    require_consistent(op)
            circuit = Circuit(templates, raw, readout.sizes, tuple(slots), tape.shots)
            self._circuits[key] = circuit
        return Compiled(circuit, tuple(parameters), readout), moving_gates

    def _may_move(self, tensor):
        return self._constant(tensor) is None


def _places(compiled, moving, tape) -> list[tuple[int, int]] | None:
    """Returns where in a tape the parameters of its circuit are, as (gate, parameter) each; None if
    one of the gates that have them is another than in the tape."""
    given = dict(enumerate(tape.operations))
    if any(given.get(position) is not gate for position, gate in moving.items()):
        return None
    places = [(slot.operation, slot.parameter) for slot in compiled.circuit.slots]
    found = zip(places, compiled.parameters, strict=True)
    own = all(k is not None and given[i].data[k] is parameter for (i, k), parameter in found)
    return places if own else None


def _is_broadcast(op, parameter, leaf):
    """Whether a constant of a gate has a batch in front, as inputs that are NumPy arrays may."""
    if op.batch_size is None:
        return False
    if parameter is None:
        raise UnsupportedError(
            f"{op} has broadcast constants inside. Broadcast the parameters of plain gates, or "
            "call the qnode once per entry."
        )
    return qml.math.ndim(leaf) > gates.ndim(op, parameter)


def _slot(op, position, parameter, leaf, value, start):
    """Returns a slot, as yet without a rule."""
    shape = tuple(qml.math.shape(value))
    dims = len(shape) if parameter is None else gates.ndim(op, parameter)
    if len(shape) - dims not in (0, 1):
        raise UnsupportedError(
            f"Parameter {parameter} of {op.name} has shape {shape}; expected {dims} dimensions, or "
            f"{dims + 1} with a batch in front."
        )
    shape = shape[len(shape) - dims :]
    is_complex = bool(shape) and "complex" in qml.math.get_dtype_name(value)
    return Slot(position, parameter, leaf, op.name, start, shape, is_complex, None)


def _placeholder(slot):
    if slot.shape:  # normalised, so that state preparations accept it
        array = np.zeros(slot.shape, dtype=complex if slot.is_complex else float)
        return np.eye(*slot.shape) if len(slot.shape) == 2 else _first(array)
    return 0.1 / (largest_frequency(slot.spectrum) or 1.0)


def _first(array):
    array.flat[0] = 1.0
    return array
