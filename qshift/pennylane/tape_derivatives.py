"""Partial derivatives of the results of a PennyLane tape, from shifted tapes.

`qshift.rules.planner` finds the points that all derivatives need together, each once. They run as
one broadcast tape where that is possible. Derivatives are computed in the interface of the results,
so that a framework that differentiates PennyLane's results can differentiate these.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.measurements import ExpectationMP, MidMeasureMP, ProbabilityMP, Shots, VarianceMP
from pennylane.tape import QuantumScript

from qshift.circuits import spectra as gates
from qshift.circuits.circuit import Circuit, Slot
from qshift.circuits.hermitian import require_hermitian
from qshift.circuits.readout import read
from qshift.circuits.unitary import require_unitary
from qshift.circuits.user_observables import require_one_observable
from qshift.errors import NoShiftRuleError, UnsupportedError
from qshift.pennylane.expansion import is_angle
from qshift.pennylane.shifted_tapes import like, rows, shifted
from qshift.pennylane.tape_shots import require_spread, shots_of_tapes
from qshift.rules.planner import Frequencies, Index, Planner, Recipe
from qshift.rules.sampled_plans import planner
from qshift.rules.shots import Shots as AskedShots

if TYPE_CHECKING:
    from pennylane.measurements import MeasurementProcess
    from pennylane.operation import Operator


@dataclass(frozen=True)
class _Result:
    """A result of a tape as a function of raw results.

    Attributes:
        columns: The raw results that it depends on.
        function: From values [N, len(columns)] to [N], a polynomial of degree two; None if the
            result is a raw one itself.
    """

    columns: range
    function: Callable | None = None


class Derivatives:
    """Partial derivatives of a tape's results by its trainable parameters.

    Args:
        tape: The tape; its parameters are numbered as in ``tape.trainable_params``.
        indices: The partial derivatives, of order one or two.
        recipes: {parameter: rule} in place of the rules that qshift knows.
        objective: ``"circuits"`` or ``"shots"``.
        f0: The results of the tape, if known.
        broadcast: Whether to put shifted tapes together; None for where that is possible.
        asked: How many shots the tapes take; None for those of the tape each.

    Attributes:
        tapes: The tapes to run.

    Raises:
        NoShiftRuleError: For a gate without an exact rule.
        UnsupportedError: For measurements and outcomes that shift rules do not hold for.
        ValueError: If shots are asked for that cannot be spread.
    """

    def __init__(
        self,
        tape: QuantumScript,
        indices: Sequence[Index],
        recipes: dict[int, Recipe],
        objective: str,
        f0: Any = None,
        broadcast: bool | None = None,
        asked: AskedShots | None = None,
    ) -> None:
        if any(getattr(op, "postselect", None) is not None for op in tape.operations):
            raise UnsupportedError(
                "Postselection divides by the probability of the selected outcome, so expectation "
                "values are no longer trigonometric polynomials and shift rules do not hold. "
                "Differentiate the joint expectation value and the probability."
            )
        for op in tape.operations:
            if _has_numbers_only(op):
                require_unitary(op)
        self._tape = tape
        raw, self._results = _raw(tape.measurements)
        slots = _slots(tape, recipes)
        circuit = Circuit(tuple(tape.operations), raw, (1,) * len(raw), slots, Shots(None))
        cones = _cones(tape, circuit)
        constant = [slot.spectrum == Frequencies(()) for slot in slots]
        seen = cones.any(axis=0) & ~np.array(constant)
        self._indices = [index for index in indices if seen[list(index)].all()]
        _require_rules(tape, circuit, {i for index in self._indices for i in index})

        self._needed = list(self._indices)
        if self._indices and any(result.function for result in self._results):
            f0 = None  # raw results cannot be computed from results
            lower = {(i,) for index in self._indices if len(index) > 1 for i in index}
            self._needed = [(), *sorted(lower), *self._indices]
        if asked is not None:
            require_spread(asked, tape.shots)
            f0 = None  # which has as many shots as the tape, and not those that it is worth
        spread = "equal" if tape.shots else None
        if asked is not None and not asked.equal:
            spread = "batch" if asked.total else "own"
        plans = _planner(circuit.spectra, cones.tobytes(), cones.shape, objective, spread)
        step = plans.root.request(tuple(self._needed))
        self._mask: Any = plans.mask(tuple(self._needed)) if self._needed else None
        points = list(step.new_points)
        numbers = np.full(len(points), tape.shots.total_shots or 0)
        if asked is not None:
            numbers = shots_of_tapes(asked, step, raw)
        # The unshifted tape comes first, as its results may be known; then tapes of equal shots.
        order = sorted(range(len(points)), key=lambda k: (points[k] != (), numbers[k]))
        self._coefficients = step.coefficients.toarray()[:, order]
        self._known = [f0] if f0 is not None and () in points else []
        self.tapes: list[Any] = []
        self._sizes: list[Any] = []
        for number, group in itertools.groupby(order[len(self._known) :], numbers.__getitem__):
            own = tape if asked is None else tape.copy(shots=int(number))
            tapes, sizes = shifted(own, circuit, [points[k] for k in group], broadcast)
            self.tapes += tapes
            self._sizes += sizes

    def read(self, results: Any, entries: Callable[[dict], Any]) -> tuple[Any, ...]:
        """Computes the derivatives from the results of the shifted tapes.

        Args:
            results: One for each tape.
            entries: A function from the {index: derivative} of one measurement to its entry in the
                output. Derivatives that were not asked for are zero.

        Returns:
            The entries in PennyLane's layout of the results of a tape.
        """
        outcomes = [*self._known, *results]
        if not self._tape.shots.has_partitioned_shots:
            return self._read(outcomes, entries)
        copies = range(self._tape.shots.num_copies)
        return tuple(self._read([o[copy] for o in outcomes], entries) for copy in copies)

    def _read(self, outcomes: Sequence[Any], entries: Callable[..., Any]) -> tuple[Any, ...]:
        raw = [
            self._combined(outcomes, m) for m in range(sum(len(r.columns) for r in self._results))
        ]
        laid = []
        for result, measurement in zip(self._results, self._tape.measurements, strict=True):
            columns = [raw[column] for column in result.columns]
            known = columns[0] if result.function is None else self._composed(result, columns)
            laid.append(entries(_WithZeros(known, measurement, self._tape.batch_size)))
        return tuple(laid) if len(laid) > 1 else laid[0]

    def _combined(self, outcomes: Sequence[Any], m: int) -> dict[Index, Any]:
        """Returns the derivatives of one raw measurement."""
        if not outcomes:  # no point is needed, or all coefficients cancel
            return {}
        several = len(self._mask) > 1
        leaves = [outcome[m] if several else outcome for outcome in outcomes]
        table = rows(leaves, [None] * len(self._known) + self._sizes)
        combined = qml.math.tensordot(like(self._coefficients, table), table, [[1], [0]])
        return {
            index: row if self._mask[m, k] else qml.math.zeros_like(row)
            for k, index in enumerate(self._needed)
            for row in [combined[k, ...]]  # an array, also where NumPy has numbers
        }

    def _composed(self, result: _Result, columns: Sequence[Any]) -> dict[Index, Any]:
        """Returns the derivatives of a function of raw results. It is a polynomial of degree two,
        so its central differences are exactly its derivatives."""
        if not self._indices:
            return {}
        steps = {
            index: qml.math.stack([column[index] for column in columns], axis=-1)
            for index in self._needed
        }
        at = steps[()]
        shape = qml.math.shape(at)

        of_columns = result.function
        assert of_columns is not None, "what is a raw result is not composed"

        def function(values: Any) -> Any:
            return of_columns(qml.math.reshape(values, (-1, shape[-1])))

        derivatives = {}
        for index in self._indices:
            step = steps[index]
            derivative = (function(at + step) - function(at - step)) / 2
            if len(index) == 2:
                d, e = steps[index[:1]], steps[index[1:]]
                bend = function(at + d + e) - function(at + d - e)
                derivative = derivative + (bend - function(at - d + e) + function(at - d - e)) / 4
            derivatives[index] = qml.math.reshape(derivative, shape[:-1])
        return derivatives


class _WithZeros(dict):
    """Partial derivatives of one result; those that nobody asked for are zero."""

    def __init__(self, derivatives: Any, measurement: MeasurementProcess, batch: Any) -> None:
        super().__init__(derivatives)
        self._measurement = measurement
        self._batch = () if batch is None else (batch,)

    def __missing__(self, index: Sequence[int]) -> np.ndarray:
        for known in self.values():
            return qml.math.zeros_like(known)
        is_probability = isinstance(self._measurement, ProbabilityMP)
        size = (2 ** len(self._measurement.wires),) if is_probability else ()
        return np.zeros(self._batch + size)


@lru_cache(maxsize=256)
def _planner(
    spectra: tuple[Any, ...],
    cones: bytes,
    shape: Sequence[int],
    objective: str,
    spread: str | None,
) -> Planner:
    return planner(spectra, np.frombuffer(cones, bool).reshape(shape), objective, spread)


def _raw(measurements: Sequence[MeasurementProcess]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Reduces measurements to expectation values and probabilities; returns these, and the results
    as functions of them."""
    raw: list = []
    results = []
    for measurement in measurements:
        if type(measurement) not in (ExpectationMP, VarianceMP, ProbabilityMP):
            raise UnsupportedError(
                f"{measurement!r} has no derivatives by shifted circuits. Return expectation "
                "values, variances or probabilities, or choose diff_method='backprop' on a "
                "simulator."
            )
        parts, function = (measurement,), None
        if isinstance(measurement, VarianceMP):
            parts, function = _variance(measurement)
        if measurement.obs is not None:
            require_one_observable(measurement.obs)
        if measurement.obs is not None and _has_numbers_only(measurement.obs):
            require_hermitian(measurement.obs)
        results.append(_Result(range(len(raw), len(raw) + len(parts)), function))
        raw += parts
    return tuple(raw), tuple(results)


def _has_numbers_only(op: Operator) -> bool:
    return all(isinstance(x, np.ndarray | int | float | complex) for x in op.data)


def _variance(measurement: MeasurementProcess) -> tuple[tuple[Any, ...], Callable[..., Any]]:
    """Returns expectation values, and the function from these to a variance."""
    outcome = measurement.mv
    if outcome is None:
        readout = read([measurement], tuple, lambda _: False)
        return readout.raw, readout.results[0]
    with qml.QueuingManager.stop_recording():
        parts = qml.expval(outcome), qml.expval(outcome * outcome)
    return parts, lambda values: values[:, 1] - values[:, 0] * values[:, 0]


def _slots(tape: QuantumScript, recipes: dict[int, Recipe]) -> tuple[Slot, ...]:
    """Returns one slot for each trainable parameter."""
    slots = []
    for column in range(len(tape.trainable_params)):
        op, position, parameter = tape.get_operation(column)
        spectrum = recipes.get(column)
        is_gate = position < len(tape.operations)
        if spectrum is None and is_gate and not qml.math.ndim(op.data[parameter]):
            spectrum = gates.spectra(op)[parameter]
        slots.append(Slot(position, parameter, parameter, op.name, column, (), False, spectrum))
    return tuple(slots)


def _cones(tape: QuantumScript, circuit: Circuit) -> np.ndarray:
    """Returns bool[M, P], which raw measurements can depend on which parameters."""
    cones = circuit.cones.copy()
    if any(isinstance(op, MidMeasureMP) for op in tape.operations):
        cones[:] = True  # outcomes of mid-circuit measurements influence other wires
    for row, measurement in zip(cones, circuit.measurements, strict=True):
        if isinstance(measurement, ProbabilityMP) and not measurement.wires:
            row[:] = True
    cones[:, [i for i, k in enumerate(tape.trainable_params) if not is_angle(tape, k)]] = True
    return cones


def _require_rules(tape: QuantumScript, circuit: Circuit, columns: Collection[int]) -> None:
    for column in columns:
        if not is_angle(tape, tape.trainable_params[column]):
            raise NoShiftRuleError(
                f"Parameter {circuit.slots[column].parameter} of the observable "
                f"{circuit.slots[column].gate} is marked as trainable, but only the coefficients "
                "of a sum of observables can be, where the interface differentiates. Mark it as "
                "not trainable, for instance with qml.numpy.array(..., requires_grad=False)."
            )
    circuit.require_rules(columns)
