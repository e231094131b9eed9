"""Runs shifted circuits on the compiled state vectors of pennylane-lightning."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pennylane as qml
from pennylane_lightning.lightning_qubit_ops import StateVectorC128

from qshift.circuit import Circuit
from qshift.evaluation import Call, Calls
from qshift.executors.basis import Basis, NotCoveredError, bases
from qshift.executors.kernels import Kernels
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.seeding import generator
from qshift.progress import track
from qshift.tracker import Tracker

_MOST_PROBABILITIES = 2**20  # at once: 8 MiB
_MOST_POINTS = 1000  # at once, so that progress can be shown


class LightningExecutor:
    """Runs circuits on lightning.qubit's compiled classes, thread-safe.

    What these do not cover goes through the device's public interface.

    Args:
        device: A lightning.qubit device.
        seed: Seed of the samples, as for `PennyLaneExecutor`.
    """

    differentiates_gates = True

    def __init__(self, device: qml.devices.Device, seed: int | None = None):
        self._general = PennyLaneExecutor(device, seed)
        self._wires = device.wires
        self._seed = seed
        self._rng = np.random.default_rng()
        self._calls = Calls()
        self._states: dict[int, StateVectorC128] = {}  # by number of wires
        self._programs: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()

    def __call__(
        self, circuit: Circuit, points: np.ndarray, call: Call | None = None
    ) -> np.ndarray:
        """Returns the raw values float64[N, M] of a circuit at the points float64[N, P].

        Counts as one batch in `Tracker`. Without a call given, each is one of its own.
        """
        program = self._program(circuit)
        if program is None:
            return self._general(circuit, points, call)
        kernels, measured = program
        call = call or Call(next(self._calls))
        values = np.empty((len(points), circuit.num_values))
        largest = max((2 ** len(basis.wires) for basis in measured), default=1)
        with self._lock:
            for chunk in _chunks(points, min(_MOST_POINTS, _MOST_PROBABILITIES // largest)):
                probabilities = self._probabilities(kernels, measured, points[chunk])
                values[chunk] = self._read(circuit, measured, probabilities, points[chunk], call)
        if len(points):
            shots = len(points) * (circuit.shots.total_shots or 0)
            Tracker.record(batches=1, circuits=len(points), shots=shots)
        return values

    def differentiates(self, circuit: Circuit) -> bool:
        """Whether `gradients` has exact derivatives, for less than shifted circuits cost."""
        few = circuit.num_values <= circuit.num_parameters
        return few and self._differentiable(circuit) is not None

    def require_gradients(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `gradients` would; runs nothing."""
        if self._differentiable(circuit) is None:
            self._general.require_gradients(circuit)

    def gradients(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P] by adjoint differentiation.

        Raises:
            UnsupportedError: If the circuit does not allow it.
        """
        program = self._differentiable(circuit)
        if program is None:
            return self._general.gradients(circuit, points)
        kernels, _ = program
        gradients = np.empty((len(points), circuit.num_values, circuit.num_parameters))
        with self._lock:
            for chunk in _chunks(points, _MOST_POINTS):
                rows = kernels.rows(points[chunk])
                for i, (point, row) in enumerate(zip(points[chunk], rows, strict=True)):
                    kernels.run(point, row)
                    gradients[chunk.start + i] = kernels.gradient(row)
        Tracker.record(batches=1, circuits=len(points))
        return gradients

    def _differentiable(self, circuit) -> tuple[Kernels, list[Basis]] | None:
        program = None if circuit.shots else self._program(circuit)
        return program if program is not None and program[0].differentiable else None

    def _program(self, circuit) -> tuple[Kernels, list[Basis]] | None:
        with self._lock:
            if circuit not in self._programs:
                try:
                    self._programs[circuit] = self._prepare(circuit)
                except (NotCoveredError, AttributeError, TypeError):
                    self._programs[circuit] = None  # by this release of lightning, that is
            return self._programs[circuit]

    def _prepare(self, circuit):
        wires = qml.wires.Wires.all_wires(
            [op.wires for op in circuit.operations] + [m.wires for m in circuit.measurements]
        )
        if not wires or (self._wires and not self._wires.contains_wires(wires)):
            raise NotCoveredError  # the device says what is wrong
        positions = {wire: i for i, wire in enumerate(wires)}
        if len(wires) not in self._states:
            self._states[len(wires)] = StateVectorC128(len(wires))
        measured = bases(circuit.measurements, circuit.sizes, positions)
        return Kernels(circuit, positions, self._states[len(wires)]), measured

    def _probabilities(self, kernels, measured, points):
        """Returns float64[N, 2**k] for each basis."""
        probabilities = [np.empty((len(points), 2 ** len(basis.wires))) for basis in measured]
        last = len(measured) - 1
        for i, (point, row) in enumerate(zip(points, kernels.rows(points), strict=True)):
            kernels.run(point, row)
            for j, basis in enumerate(measured):
                probabilities[j][i] = kernels.probabilities(basis, keep=j < last)
        return probabilities

    def _read(self, circuit, measured, probabilities, points, call):
        if not circuit.shots:
            return _averages(measured, probabilities, circuit.num_values)
        rngs = [self._rng]
        if self._seed is not None:
            rngs = [generator(self._seed, circuit, point, call) for point in points]
        width = circuit.num_values // circuit.copies
        copies = []
        for shots in circuit.shots:
            frequencies = [_sample(outcomes, shots, rngs) for outcomes in probabilities]
            copies.append(_averages(measured, frequencies, width))
        return np.hstack(copies)


def _chunks(points, size):
    """Yields slices of the points, with progress."""
    size = max(1, size)
    slices = [slice(i, min(i + size, len(points))) for i in range(0, len(points), size)]
    return track(slices, [chunk.stop - chunk.start for chunk in slices], "circuits")


def _sample(probabilities, shots, rngs):
    """Draws outcomes: from probabilities float64[N, K] to frequencies of the same shape."""
    probabilities = np.maximum(probabilities, 0.0)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if len(rngs) == 1:
        return rngs[0].multinomial(shots, probabilities) / shots
    drawn = [rng.multinomial(shots, row) for rng, row in zip(rngs, probabilities, strict=True)]
    return np.array(drawn) / shots


def _averages(measured, frequencies, width):
    """Averages over outcomes: float64[N, width]."""
    values = np.zeros((len(frequencies[0]), width))
    for basis, outcomes in zip(measured, frequencies, strict=True):
        averages = outcomes if basis.weights is None else outcomes @ basis.weights
        values[:, basis.columns] += averages
    return values
