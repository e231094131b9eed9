"""Circuits at some points as PUBs of Qiskit's primitives, and what their results are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives.containers.bindings_array import BindingsArray

from qshift.circuits.circuit import Circuit
from qshift.executors.qiskit import standard_errors
from qshift.executors.qiskit.bounded_angles import Angle
from qshift.executors.qiskit.chip_copies import mean_counts, mean_values
from qshift.executors.qiskit.job_splitting import Load
from qshift.executors.qiskit.observables import Basis, probabilities
from qshift.executors.qiskit.translation import column
from qshift.executors.qiskit.transpiled import Preparation, Prepared
from qshift.executors.qiskit.usage import Usage
from qshift.executors.variances import variance_of_mean


@dataclass(frozen=True)
class CircuitPub:
    """A circuit at some points as one PUB, and where its results belong in the circuit's values.

    See `qshift.executors.qiskit.batch.Pub`.

    Attributes:
        circuit: The circuit.
        preparation: Has the circuit as the primitives run it.
        points: float64[N, P].
        copy: The entry of the circuit's shot vector that the PUB is for.
        basis: The basis that the PUB samples, by number; None for expectation values.
        shots: The shots in each basis, of all copies together; 0 for exact results.
        errors: Whether the variances of the values are wanted.
        rows: int64[N], which of all points these are; a point may occur several times.
    """

    circuit: Circuit
    preparation: Preparation
    points: np.ndarray
    copy: int
    basis: int | None
    shots: int
    errors: bool
    rows: np.ndarray

    @property
    def is_ready(self) -> bool:
        return self.preparation.is_ready(self.circuit)

    def prepare(self) -> None:
        """Transpiles the circuit, if that has not been done."""
        self.preparation(self.circuit)

    @property
    def load(self) -> Load:
        """How much the PUB takes of a job's limits."""
        return self.load_of(self.preparation(self.circuit), usage=self.preparation.sent)

    def load_of(
        self, ready: Prepared, copies: int | None = None, usage: Usage | None = None
    ) -> Load:
        """Returns how much the PUB takes of a job's limits, with the circuit in this form.

        Args:
            ready: The circuit.
            copies: How many copies run at the same time; None for those of the circuit.
            usage: What error mitigation adds; None for all that it may add.
        """
        copies = copies or ready.number(self.basis)
        runs = -(-self.shots // copies)
        points, parameters = self.points.shape
        usage = usage or self.preparation.usage
        burden = ready.burden(usage, runs, self.basis)
        number, size = usage.variants(self.primitive, runs)
        circuits = number * (ready.bases if self.basis is None else 1)
        calibration = usage.calibration(self.primitive, runs)
        return Load(
            points,
            parameters,
            circuits * size,
            *burden,
            copies=copies,
            circuits=circuits,
            calibration=calibration,
        )

    def is_answered_by(self, measured: Any) -> bool:
        """Whether a result has the form of a result of the primitive at one of the points."""
        if self.basis is None:
            observables = len(self.preparation.planned(self.circuit).observables)
            if not self.preparation.has_copies:
                return np.shape(measured) in ((2, observables), (4, observables))
            # Of another number of copies, if the backend was calibrated anew and "auto" is given.
            (values, size), rest = np.shape(measured)[:2], np.ndim(measured) - 2
            return values in (2, 4) and not rest and size > 0 and size % observables == 0
        # Twirling rounds the shots up; fewer would be less precise than what was asked for.
        return sum(mean_counts(measured).values()) >= self.shots

    @property
    def primitive(self) -> str:
        return "estimator" if self.basis is None else "sampler"

    @property
    def about(self) -> str:
        """A text for people that says what the PUB runs."""
        gates, wires = len(self.circuit.operations), len(self.circuit.wires)
        measured = ", ".join(str(each) for each in self.circuit.measurements)
        return f"{gates} gates on {wires} wires, {measured}"

    def arguments(self, rows: Sequence[int]) -> tuple:
        """Returns the PUB of some of the points, as the primitive takes it."""
        points, ready = self.points[rows], self.preparation(self.circuit)
        shots = -(-self.shots // ready.number(self.basis))
        if self.basis is not None:
            circuit = ready.sampled[self.basis]
            return circuit, _bindings(circuit, points, ready.angles), shots
        # The estimator rounds the number of shots up, even if only rounding makes it no integer.
        precision = (1 + 1e-12) / np.sqrt(shots) if shots else 0.0
        isa: Any = ready.circuit
        observables = list(ready.observables)
        if not self.shots and not isa.parameters:
            # For a circuit without parameters, Aer gives one result, whatever the number of points.
            observables, points = [observables] * len(points), points[:1]
        return isa, observables, _bindings(isa, points[:, None], ready.angles), precision

    def read(self, measured: Sequence, found: np.ndarray) -> None:
        """Adds the results at these points to the values at all points, and if they are wanted to
        their variances and what was added to these: float64[1 or 3, total, copies, M / copies]."""
        # A point that was repeated has the mean of its repetitions, and the shots of all of them.
        rows, place = np.unique(self.rows, return_inverse=True)
        times = np.bincount(place)[:, None]
        own = np.zeros((len(found), len(rows), found.shape[-1]))
        readings = self.preparation.planned(self.circuit).readings
        if self.basis is None:
            count = len(readings.observables)
            estimates = np.stack([mean_values(each[:2], count) for each in measured])
            means, squares = np.zeros((2, len(rows), count))
            np.add.at(means, place, estimates[:, 0])
            means /= times
            own[0] = means @ readings.weights
            if self.errors:
                np.add.at(squares, place, estimates[:, 1] ** 2)
                squares /= times**2
                own[1:] = standard_errors.variances(readings, means, squares, self.shots * times)
        else:
            self._read_counts(measured, readings.bases[self.basis], place, own)
        found[:, rows, self.copy] += own

    def _read_counts(
        self, measured: Sequence, basis: Basis, place: np.ndarray, own: np.ndarray
    ) -> None:
        of_each = list(map(mean_counts, measured))
        shots = np.array([sum(counts.values()) for counts in of_each])
        in_all, times = np.bincount(place, shots)[:, None], np.bincount(place)[:, None]
        for start, wires in basis.columns.items():
            columns = slice(start, start + 2 ** len(wires))
            for row, counts in zip(place, of_each, strict=True):
                own[0, row, columns] += probabilities(counts, basis, wires)
            own[0, :, columns] /= times
            if self.errors:
                frequencies = own[0, :, columns]
                own[1:, :, columns] = variance_of_mean(frequencies, frequencies, 0.0, 1.0, in_all)


def pubs(
    preparation: Preparation,
    circuit: Circuit,
    points: np.ndarray,
    shots: np.ndarray | None = None,
    errors: bool = False,
    repeats: bool = False,
) -> Iterator[CircuitPub]:
    """Yields the PUBs of one circuit; none where there are no points.

    Args:
        preparation: Prepares circuits.
        circuit: The circuit.
        points: float64[N, P].
        shots: int64[N], the shots of each point in each basis; None for those of the circuit.
        errors: Whether the variances of the values are wanted.
        repeats: Whether all PUBs have the same shots, and points that take more are repeated.
            Otherwise points that have equally many shots are PUBs of their own.
    """
    planned = preparation.planned(circuit)
    bases = [None] * bool(planned.observables) + list(range(len(planned.sampled)))
    for copy, number, rows in _groups(circuit, len(points), shots, repeats):
        for basis in bases:
            yield CircuitPub(circuit, preparation, points[rows], copy, basis, number, errors, rows)


def _groups(
    circuit: Circuit, points: int, shots: np.ndarray | None, repeats: bool
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields the copy, the shots and the rows of PUBs."""
    everything = np.arange(points)
    if not points:
        return
    if shots is None:
        for copy, number in enumerate(list(circuit.shots) if circuit.shots else [0]):
            yield copy, number, everything
    elif repeats:
        step = int(np.gcd.reduce(shots))
        yield 0, step, np.repeat(everything, shots // step)
    else:
        for number in np.unique(shots).tolist():
            yield 0, number, np.flatnonzero(shots == number)


def _bindings(
    circuit: QuantumCircuit, points: np.ndarray, angles: Mapping[str, Angle]
) -> BindingsArray:
    """Returns the parameter values of a circuit at points float64[..., P]."""
    parameters: list[Parameter] = list(circuit.parameters)
    values = np.empty((*points.shape[:-1], len(parameters)))
    for i, parameter in enumerate(parameters):
        angle = angles.get(parameter.name)
        values[..., i] = angle.at(points) if angle else points[..., column(parameter.name)]
    return BindingsArray({tuple(parameters): values}, shape=points.shape[:-1])
