"""A quantum circuit as a function of numbers, from points float64[N, P] to values float64[N, M].

A `Compiler` takes a PennyLane tape whose gates hold TensorFlow tensors and separates what changes
between two calls (the tensors, flattened into P columns) from what does not (`Circuit`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from cachetools import LRUCache
from pennylane.measurements import ProbabilityMP
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from qshift.circuits import spectra as gates
from qshift.errors import NoShiftRuleError
from qshift.rules.planner import Frequencies, Planner, Spectrum
from qshift.rules.sampled_plans import planner
from qshift.rules.shifting import Shifter

if TYPE_CHECKING:
    from pennylane.measurements import MeasurementProcess
    from pennylane.pytrees import PyTreeStructure

_NUMBERS = (int, float, complex, np.number, np.ndarray)


@dataclass(frozen=True)
class Slot:
    """One tensor-valued gate parameter.

    Attributes:
        operation: Position of the gate in the circuit.
        parameter: Position among the gate's parameters, ``op.data``.
        leaf: Position among the leaves of the flattened gate.
        gate: The gate's name, for messages.
        start: The parameter's first column in a point.
        shape: Shape without broadcasting; () for an angle.
        is_complex: Whether the gate wants a complex array; imaginary parts follow real ones.
        spectrum: The frequencies of values as functions of the parameter; None if no exact rule is
            known.
    """

    operation: int
    parameter: int | None
    leaf: int
    gate: str
    start: int
    shape: tuple[int, ...]
    is_complex: bool
    spectrum: Spectrum | None

    @cached_property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int)) * (2 if self.is_complex else 1)

    @cached_property
    def columns(self) -> range:
        return range(self.start, self.start + self.size)


class Parametric:
    """The part of a circuit that a planner uses: its parameters, and which values depend on them.

    Attributes:
        slots: The tensor-valued parameters.
        cones: bool[M, P]: whether a parameter lies in the backward light cone of a measurement.
        num_values: M, the number of values of a point.
        is_finite: Whether the circuit's constants are finite numbers.
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
        seen: Any = self.cones.any(axis=0)
        return tuple(
            column
            for column, spectrum in enumerate(self.spectra)
            if seen[column] and spectrum != Frequencies(())
        )

    @cached_property
    def planner(self) -> Callable[..., Planner]:
        """planner(objective) returns the planner of this structure, which remembers its plans;
        planner(objective, spread) that for finite shots (`sampled_plans`)."""
        return lru_cache(partial(planner, self.spectra, self.cones))

    @property
    def has_rules(self) -> bool:
        """Whether there is an exact rule for each parameter."""
        return not self._without_rule

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
        outcomes: Wires that measurements in the middle of the circuit were deferred to, or that
            such measurements are of.
    """

    operations: tuple[qml.operation.Operator, ...]
    measurements: tuple[qml.measurements.MeasurementProcess, ...]
    sizes: tuple[int, ...]
    slots: tuple[Slot, ...]
    shots: qml.measurements.Shots
    outcomes: frozenset[Any] = frozenset()

    def __reduce__(self) -> Any:
        """Pickles what the circuit is made of, without what was derived from that."""
        return Circuit, tuple(getattr(self, each.name) for each in fields(self))

    @cached_property
    def joined(self) -> LRUCache[tuple, Any]:
        """A cache of the same circuit as functions of fewer parameters: the gates that share a
        parameter -> `Joint`."""
        return LRUCache(256)

    @cached_property
    def name(self) -> bytes:
        """A description of the circuit that is the same in every process."""
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
    def num_values(self) -> int:  # type: ignore[override]  # a cached_property is writeable
        """M, the number of values of a point; a shot vector's copies follow one another."""
        return sum(self.sizes) * self.copies

    @cached_property
    def cones(self) -> np.ndarray:  # type: ignore[override]  # a cached_property is writeable
        columns = [self.reached(_seen(measurement)) for measurement in self.measurements]
        return np.tile(np.repeat(columns, self.sizes, axis=0), (self.copies, 1))

    @cached_property
    def is_finite(self) -> bool:  # type: ignore[override]  # a cached_property is writeable
        constants = (leaf for op in self.operations for leaf in qml.pytrees.flatten(op)[0])
        return all(np.isfinite(x).all() for x in constants if isinstance(x, _NUMBERS))

    def reached(self, wires: Collection[Any]) -> np.ndarray:
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
                    leaves, structure = flat[position]
                    made[key] = self._filled(leaves, structure, slots, point[None])
                operations[position] = made[key]
            tapes.append(QuantumScript(operations, self.measurements, shots=self.shots))
        return tapes

    def bound(self, position: int, points: np.ndarray) -> Operator:
        """Returns the gate at a position, broadcast over points float64[N, P] as in `bind`."""
        slots = self.slots_by_operation.get(position, ())
        leaves, structure = qml.pytrees.flatten(self.operations[position])
        return self._filled(leaves, structure, slots, points)

    def _filled(
        self,
        leaves: Sequence[Any],
        structure: PyTreeStructure,
        slots: Sequence[Slot],
        points: np.ndarray,
    ) -> Operator:
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
    def _argument(slot: Slot, points: np.ndarray) -> Any:
        columns = points[:, slot.columns]
        if (columns == columns[:1]).all():
            columns = columns[:1]  # no broadcasting where all points have the same number
        if slot.is_complex:
            half = slot.size // 2
            columns = columns[:, :half] + 1j * columns[:, half:]
        array = columns.reshape(-1, *slot.shape)
        if len(array) > 1:
            return array
        return array[0] if slot.shape else array[0].item()


def _seen(measurement: MeasurementProcess) -> set:
    """Returns the wires that a measurement depends on."""
    return set().union(*terms(measurement))


def terms(measurement: MeasurementProcess) -> set[frozenset]:
    """Returns the wires that each term of a measurement depends on."""
    words = None if measurement.obs is None else measurement.obs.pauli_rep
    if isinstance(measurement, ProbabilityMP) or words is None:
        return {frozenset(measurement.wires)}
    return {frozenset(word) for word, coefficient in words.items() if coefficient != 0}
