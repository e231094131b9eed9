"""A circuit that is simulated: values, probabilities and gradients at many points.

Few points, and all points of many wires, run one after the other; those that share what their first
gates do start from saved states (`prefix_order`). Otherwise a state is that of many points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pennylane as qml

from qshift.circuits.circuit import Circuit
from qshift.circuits.spectra import has_no_effect
from qshift.executors.simulator import kernel
from qshift.executors.simulator.clifford_frame import Frame, Rotation
from qshift.executors.simulator.measurement_bases import (
    NotCoveredError,
    bases,
    bases_of_words,
    words_of,
)
from qshift.executors.simulator.outcomes import Observables, Outcomes
from qshift.executors.simulator.parallel import Pace
from qshift.executors.simulator.prefix_order import in_order, stops
from qshift.executors.simulator.small_circuits import SmallCircuit
from qshift.executors.simulator.state_steps import Steps, blocks_of, by_lane
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

_NORMALISED = 1e-6  # what the squared norm of a state may be off, to be sampled
_PARTS = 16  # of a batch whose points run one after the other


class _Final(NamedTuple):
    """A state behind all steps.

    Attributes:
        own: How many points it is the state of; further lanes are those of the last one.
        points: float64[lanes, P], these points.
        angles: What `Steps.angles` returns for them.
        state: The state.
    """

    own: int
    points: np.ndarray
    angles: np.ndarray
    state: np.ndarray


def framed(circuit: Circuit, thresholds: Thresholds) -> tuple[Frame, np.ndarray | None]:
    """Returns the gates of a circuit, and the state that they act on; None if all wires are 0.

    Raises:
        NotCoveredError: If a gate is not covered.
    """
    frame = Frame({wire: i for i, wire in enumerate(circuit.wires)}, thresholds.widest_matrix)
    slots, start, begun = circuit.slots_by_operation, None, False
    for position, op in enumerate(circuit.operations):
        own = slots.get(position, ())
        if isinstance(op, qml.operation.StatePrepBase) and not has_no_effect(op):
            if begun or own:
                raise NotCoveredError(f"{op.name} is not the first gate, or its state changes")
            vector = np.ravel(op.state_vector(wire_order=circuit.wires))
            if circuit.shots and abs(np.vdot(vector, vector) - 1.0) > _NORMALISED:
                raise NotCoveredError  # the device says how, or whether, it samples such a one
            start = np.concatenate([vector.real, vector.imag]).astype(float)
        else:
            frame.add(op, own, position)
        begun = begun or not has_no_effect(op)
    return frame, start


class Simulation:
    """A circuit that is simulated. Does not keep the circuit alive.

    Args:
        circuit: The circuit.
        latest: Holds the final states of the latest point that was alone in its batch, and of the
            latest batch that was not too long, as derivatives mostly follow the values at the same
            points. Several circuits may use the same dict.
        thresholds: How points run.

    Attributes:
        differentiable: Whether `gradients` has the derivatives by all parameters.
        bases: The bases whose probabilities `probabilities` returns.
        alone: The part of a batch that is a single point.
        paces: How long parts of batches took, by what was asked for.
        lanes: How many points of a long batch have one state together.
        grain: A long batch may be cut behind so many points, and behind multiples of it, with equal
            results.

    Raises:
        NotCoveredError: If a gate or a measurement is not covered.
    """

    def __init__(self, circuit: Circuit, latest: dict, thresholds: Thresholds = DEFAULT) -> None:
        self.alone = np.zeros(1, int), [0]
        self._latest, self._own, self._thresholds = latest, object(), thresholds
        self.paces: dict[str, Pace] = {}
        self._wires, self._shape = len(circuit.wires), (circuit.num_values, circuit.num_parameters)
        frame, self._start = framed(circuit, thresholds)
        moving = [
            step.column >= 0 if isinstance(step, Rotation) else len(step.columns) > 0
            for step in frame.steps
        ]
        first = moving.index(True) if any(moving) else len(moving)
        fixed, self._steps = (
            Steps(circuit, frame.steps[:first]),
            Steps(circuit, frame.steps[first:]),
        )
        if fixed.count:
            nowhere, start = np.zeros((1, circuit.num_parameters)), self._begin(1)
            fixed.run(start, nowhere, fixed.angles(nowhere))
            self._start = start.ravel()
        self.differentiable = self._steps.differentiable
        self._measure(circuit, frame)
        widest = self._steps.widest_moving
        together = self._wires <= thresholds.most_wires_together
        together = together and widest <= thresholds.widest_moving
        self.lanes = thresholds.lanes(self._wires) if together else 1
        self.grain = min(thresholds.grain, self.lanes)
        self._small: SmallCircuit | None = None
        if together and self._steps.are_rotations and not self.bases:
            most = thresholds.most_at_hand
            arguments = self._steps, self._observables, self._begin(1)[0], self._shape, most
            self._small = SmallCircuit(*arguments)
        uses = np.array(self._steps.uses, dtype=int).reshape(-1, 2).T
        self._uses = uses[:, np.argsort(uses[0], kind="stable")]
        self._grain = 1 + self._steps.count // (1 + thresholds.most_amplitudes // 2**self._wires)

    def _measure(self, circuit: Circuit, frame: Frame) -> None:
        measurements, sizes = circuit.measurements, circuit.sizes
        words = words_of(measurements, sizes)
        found = bases(measurements, sizes, self._thresholds)
        if circuit.shots:
            found += bases_of_words(words, circuit.wires, self._thresholds)
            words = {}
        self.bases = sorted(found, key=lambda basis: bool(basis.rotations))
        self._outcomes = [Outcomes(circuit, basis, frame) for basis in self.bases]
        self._observables = Observables(words, frame)

    # --- points ---

    def small(self, count: int, only_values: bool = False) -> SmallCircuit | None:
        """Returns what runs so many points with little around it; None if it does not. Of twice as
        many it gives the values alone, which take a quarter of the time that derivatives take."""
        small, most = self._small, self.lanes * (2 if only_values else 1)
        if small is None or count > min(most, small.most_points):
            return None
        fewest = self._thresholds.fewest_together
        together = count >= fewest and not 0 < count % self.grain < fewest
        return small if count == 1 or together else None

    def parts(self, points: np.ndarray) -> list[tuple[np.ndarray, Sequence[int]]]:
        """Cuts points into parts that can run at the same time.

        Returns:
            For each part its points, as numbers int64[K], and how many steps each has in common
            with the point before it; empty if one state is that of all these points.
        """
        count, fewest = len(points), self._thresholds.fewest_together
        if self.lanes > 1 and count >= fewest:
            left = count % self.grain
            whole = count if left >= fewest else count - left
            # Parts that are about equal, as threads may share them.
            size = -(-whole // -(-whole // self.lanes) // kernel.WIDTH) * kernel.WIDTH
            found: list[tuple[np.ndarray, Sequence[int]]] = [
                (np.arange(i, min(i + size, whole)), ()) for i in range(0, whole, size)
            ]
            # What is left at the end runs as it would alone.
            return found if whole == count else [*found, (np.arange(whole, count), [0] * left)]
        steps, columns = self._uses
        order, common = in_order(points[:, columns], steps, self._steps.count)
        common = [number // self._grain * self._grain for number in common]
        size = max(1, -(-count // _PARTS))
        return [
            (np.array(order[i : i + size]), [0, *common[i + 1 : i + size]])
            for i in range(0, count, size)
        ]

    def _finals(
        self, points: np.ndarray, part: tuple[np.ndarray, Sequence[int]]
    ) -> Iterable[_Final]:
        """Returns the final states of all points of a part. They must not be changed."""
        rows, common = part
        if common and len(points) > 1:
            return self._one_by_one(points, rows, common)
        alone, first = len(points) == 1, int(rows[0])
        own = points if alone else _in_lanes(points, rows)
        owner, finals = self._latest.get(alone, (None, {}))
        known = finals.get(first) if owner is self._own else None
        if known and known.own == len(rows) and np.array_equal(known.points, own):
            return (known,)
        angles, state = self._steps.angles(own), self._begin(len(own))
        self._steps.run(state, own, angles)
        final = _Final(len(rows), own, angles, state)
        most = self._thresholds.most_kept_alone if alone else self._thresholds.most_kept
        if len(points) << (self._wires + 1) <= most:
            if owner is not self._own or not first:  # the batch before this one is forgotten
                finals = {}
                self._latest[alone] = self._own, finals
            finals[first] = final
        return (final,)

    def _one_by_one(
        self, points: np.ndarray, rows: np.ndarray, common: Sequence[int]
    ) -> Iterator[_Final]:
        later = stops(list(common))
        saved: list[tuple[int, np.ndarray | None]] = [(0, None)]
        for i, row in enumerate(rows):
            own = points[row : row + 1]
            angles = self._steps.angles(own)
            while saved[-1][0] > common[i]:
                saved.pop()
            begin, known = saved[-1]
            state = self._begin(1) if known is None else known.copy()
            for stop in reversed(later[i]):
                self._steps.run(state, own, angles, begin, stop)
                saved.append((stop, state.copy()))
                begin = stop
            self._steps.run(state, own, angles, begin)
            yield _Final(1, own, angles, state)

    def _begin(self, lanes: int) -> np.ndarray:
        """Returns the states before the steps, of several points."""
        states = blocks_of(lanes, 2 << self._wires)
        amplitudes = by_lane(states, lanes)
        amplitudes[:] = 0.0 if self._start is None else self._start[:, None]
        if self._start is None:
            amplitudes[:, 0] = 1.0
        return states

    # --- results ---

    def values(self, points: np.ndarray, part: tuple[np.ndarray, Sequence[int]]) -> np.ndarray:
        """Returns the values float64[K, M] at the points of a part, in its order."""
        found = []
        for final in self._finals(points, part):
            lanes, observables = len(final.points), self._observables
            values = np.zeros((lanes, self._shape[0]))
            if observables.columns:
                words, work = observables.tables[lanes == 1], np.zeros(kernel.WORK)
                kernel.expect(final.state, *words, observables.places, work, values)
            for each in self._outcomes:
                probabilities = each.probabilities(final.state, final.points)
                values[:, each.basis.columns] += each.basis.averages(probabilities)
            found.append(values[: final.own])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def probabilities(
        self, points: np.ndarray, part: tuple[np.ndarray, Sequence[int]]
    ) -> list[np.ndarray]:
        """Returns the probabilities float64[K, 2**k] in each of `bases`."""
        found = [
            [each.probabilities(final.state, final.points)[: final.own] for each in self._outcomes]
            for final in self._finals(points, part)
        ]
        return [np.concatenate(rows) for rows in zip(*found, strict=True)]

    def gradients(self, points: np.ndarray, part: tuple[np.ndarray, Sequence[int]]) -> np.ndarray:
        """Returns first derivatives float64[K, M, P], by adjoint differentiation."""
        found = []
        for final in self._finals(points, part):
            lanes = len(final.points)
            gradients = np.empty((lanes, *self._shape))
            cotangents = np.zeros((lanes, self._shape[0]))
            for column in range(self._shape[0]):
                cotangents[:, column] = 1.0
                gradients[:, column] = self._back(final, cotangents)
                cotangents[:, column] = 0.0
            found.append(gradients[: final.own])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def pulled_back(
        self, cotangents: np.ndarray, points: np.ndarray, part: tuple[np.ndarray, Sequence[int]]
    ) -> np.ndarray:
        """Returns derivatives of sums of values, float64[K, P], by adjoint differentiation.

        Args:
            cotangents: float64[N, M], the factors of the values in the sum at each point.
            points: All points, float64[N, P].
            part: A part of them.
        """
        found, begin = [], 0
        for final in self._finals(points, part):
            rows = part[0][begin : begin + final.own]
            begin += final.own
            own = cotangents[rows] if len(final.points) == 1 else _in_lanes(cotangents, rows)
            found.append(self._back(final, own)[: final.own])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _back(self, final: _Final, cotangents: np.ndarray) -> np.ndarray:
        """Returns derivatives of sums of values, float64[lanes, P]."""
        lanes, observables = len(final.points), self._observables
        state, other = (blocks_of(lanes, 2 << self._wires) for _ in range(2))
        state[:], other[:] = final.state, 0.0
        if observables.columns:
            words, work = observables.tables[lanes == 1], np.empty(kernel.WORK)
            arguments = *words, observables.places, cotangents, work
            kernel.observe(final.state, other, *arguments)
        for each in self._outcomes:
            each.add_times(final.state, final.points, cotangents, other)
        return self._steps.back(state, other, final.points, final.angles)


def _in_lanes(each: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns a copy of what belongs to the points of a state of several, which follow one another:
    as many as a multiple of four, where the last one may be repeated."""
    own, missing = each[rows[0] : rows[-1] + 1], -len(rows) % kernel.WIDTH
    return np.concatenate([own, own[-1:].repeat(missing, axis=0)])
