"""Runs shifted circuits on the compiled state vectors of pennylane-lightning."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import cloudpickle
import numpy as np
import pennylane as qml

from qshift.circuits.circuit import Circuit
from qshift.executors.executor import Call, Executor
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.seeding import generator
from qshift.executors.simulator.adjoint import Adjoint
from qshift.executors.simulator.kernels import Kernels
from qshift.executors.simulator.lightning_internals import StateVector, generator_of
from qshift.executors.simulator.measurement_bases import Basis, NotCoveredError, bases
from qshift.executors.simulator.parallel import spread
from qshift.executors.simulator.pauli_rotations import Rotations
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds
from qshift.fallbacks import warn_slower
from qshift.forks import Lock, descendant, in_children
from qshift.progress import track

_NEVER = 1e-14  # probabilities up to here are zeros
_LACKING = (NotCoveredError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass
class _Program:
    """A circuit as the simulator runs it, kept for further batches.

    Attributes:
        kernels: Runs the circuit at one point after the other.
        measured: The bases that give the circuit's values.
        adjoint: Gives the circuit's gradients; None if lightning does not have them.
        at_once: How many points are run at once, at most.
        rotations: Runs the circuit at many points at once; None if it is not made of rotations,
            False if that has not been tried yet.
    """

    kernels: Kernels
    measured: list[Basis]
    adjoint: Adjoint | None
    at_once: int
    rotations: Rotations | None | Literal[False] = False


class LightningExecutor(Executor):
    """Runs circuits on lightning.qubit's compiled classes, in any number of threads.

    Circuits that these do not cover run through the device's public interface.

    Args:
        device: A lightning.qubit device.
        seed: Seed of the samples, as for `PennyLaneExecutor`.
        thresholds: They decide which way of running points is used.
    """

    differentiates_gates = True
    takes_seed = True

    def __init__(
        self,
        device: qml.devices.Device,
        seed: int | Sequence[int] | None = None,
        thresholds: Thresholds = DEFAULT,
    ) -> None:
        super().__init__(device, seed)
        self._thresholds = thresholds
        self._general = PennyLaneExecutor(device, seed)
        self._wires = device.wires
        self._rng = generator_of(device) or np.random.default_rng()
        self._states: dict[int, StateVector] = {}  # number of wires -> state vector
        self._latest: dict[tuple, np.ndarray] = {}
        self._programs: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._lock = Lock()
        in_children(self)

    def inherit(self) -> None:
        """Forgets, in the child of a fork, the states that a thread of the parent may have been
        changing, and takes random numbers of its own."""
        self._rng = descendant(self._rng)
        for known in (self._states, self._latest, self._programs):
            known.clear()

    def run(self, circuit: Circuit, points: np.ndarray, call: Call) -> np.ndarray:
        """See `Executor`."""
        with self._lock:
            program = self._program(circuit)
            if program is None:
                return self._general.run(circuit, points, call)
            if len(points) <= program.at_once:
                return self._values(circuit, program, points, call)
            values = np.empty((len(points), circuit.num_values))
            for chunk, found in self._spread(
                circuit, program, points, lambda at: self._values(circuit, program, at, call), False
            ):
                values[chunk] = found
        return values

    def differentiates(self, circuit: Circuit) -> bool:
        """Whether `gradients` has exact derivatives, for less than shifted circuits cost."""
        few = circuit.num_values <= circuit.num_parameters
        return few and self._adjoint(circuit) is not None

    def require_gradients(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `gradients` would; runs nothing."""
        if self._adjoint(circuit) is None:
            self._general.require_gradients(circuit)

    def differentiate(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P] by adjoint differentiation.

        Raises:
            UnsupportedError: If the circuit does not allow it.
        """
        with self._lock:
            program = self._program(circuit)
            if circuit.shots or program is None or program.adjoint is None:
                return self._general.differentiate(circuit, points)
            if len(points) <= program.at_once:
                return self._gradients(circuit, program, points)
            gradients = np.empty((len(points), circuit.num_values, circuit.num_parameters))
            for chunk, found in self._spread(
                circuit, program, points, lambda at: self._gradients(circuit, program, at), True
            ):
                gradients[chunk] = found
        return gradients

    def _program(self, circuit: Circuit) -> _Program | None:
        with self._lock:
            if circuit not in self._programs:
                try:
                    self._programs[circuit] = self._prepare(circuit)
                except _LACKING as error:
                    self._programs[circuit] = None
                    if reason := _unusual(error):
                        warn_slower(
                            "A circuit runs through lightning's public interface instead of its "
                            "kernels",
                            reason,
                        )
            return self._programs[circuit]

    def _adjoint(self, circuit: Circuit) -> Adjoint | None:
        program = None if circuit.shots else self._program(circuit)
        return program.adjoint if program else None

    def _prepare(self, circuit: Circuit) -> _Program:
        wires = circuit.wires
        if not circuit.is_finite:
            raise NotCoveredError  # nothing will be run
        if not wires or (self._wires and not self._wires.contains_wires(wires)):
            raise NotCoveredError  # the device says what is wrong
        positions = {wire: i for i, wire in enumerate(wires)}
        thresholds = self._thresholds
        if len(wires) not in self._states:
            self._states[len(wires)] = StateVector(len(wires))
        measured = bases(circuit.measurements, circuit.sizes, positions, thresholds)
        kernels = Kernels(
            circuit, measured, positions, self._states[len(wires)], self._latest, thresholds
        )
        try:
            adjoint = Adjoint(kernels, circuit, positions, thresholds)
        except _LACKING as error:
            adjoint = None
            if not isinstance(error, NotCoveredError):
                warn_slower("Gradients come from shifted circuits instead of adjoint ones", error)
        outcomes = sum(2 ** len(basis.wires) for basis in measured)
        few = thresholds.most_probabilities // max(1, outcomes)
        at_once = max(1, min(thresholds.most_points, few))
        return _Program(kernels, measured, adjoint, at_once)

    def _rotations(
        self, circuit: Circuit, program: _Program, points: int, gradients: bool
    ) -> Rotations | None:
        """Returns the `Rotations` of a circuit if they are faster than its kernels."""
        if program.rotations is False:
            wires, thresholds = len(circuit.wires), self._thresholds
            if points < thresholds.fewest_points:
                return None
            if not thresholds.rotations_pay(wires, gradients, 2 * points):
                return None
            try:
                program.rotations = Rotations(
                    program.kernels, circuit, program.measured, thresholds
                )
            except _LACKING as error:
                program.rotations = None
                if not isinstance(error, NotCoveredError):
                    warn_slower("Points are run one by one instead of together", error)
        found = program.rotations
        return found if found and found.pay(points, gradients) else None

    def _spread(self, circuit: Any, program: Any, points: Any, here: Any, gradients: Any) -> Any:
        """Yields slices of the points and the results for them, and shows the progress."""
        size = program.at_once
        chunks = [slice(i, min(i + size, len(points))) for i in range(0, len(points), size)]
        pickled = None

        def there(chunk: Any) -> tuple[Any, ...]:
            nonlocal pickled
            if circuit.shots:
                raise NotCoveredError  # samples come from this process's generator
            if pickled is None:
                pickled = _pickled(circuit)
            return _elsewhere, pickled, points[chunk], gradients

        found = spread(chunks, lambda chunk: here(points[chunk]), there, self._thresholds)
        return track(found, len(points), lambda item: item[0].stop - item[0].start, "circuits")

    def _gradients(self, circuit: Circuit, program: _Program, points: np.ndarray) -> np.ndarray:
        if rotations := self._rotations(circuit, program, len(points), True):
            return rotations.gradients(points)
        gradients = np.empty((len(points), circuit.num_values, circuit.num_parameters))
        adjoint = program.adjoint
        assert adjoint is not None, "only what differentiates is asked for gradients"
        with adjoint.threads():
            for i, row in program.kernels.run(points):
                gradients[i] = adjoint(row)
        return gradients

    def _values(
        self, circuit: Circuit, program: _Program, points: np.ndarray, call: Call
    ) -> np.ndarray:
        measured = program.measured
        if rotations := self._rotations(circuit, program, len(points), False):
            probabilities = rotations.probabilities(points)
        else:
            probabilities = [np.empty((len(points), 2 ** len(basis.wires))) for basis in measured]
            for i, _ in program.kernels.run(points):
                for rows, row in zip(probabilities, program.kernels.probabilities(), strict=True):
                    rows[i] = row
        if not circuit.shots:
            return _averages(measured, probabilities, (len(points), circuit.num_values))
        rngs = [self._rng]
        if self.seed is not None:
            rngs = [generator(self.seed, circuit, point, call) for point in points]
        shape = (len(points), circuit.num_values // circuit.copies)
        copies = []
        for shots in circuit.shots:
            frequencies = [_sample(outcomes, shots, rngs) for outcomes in probabilities]
            copies.append(_averages(measured, frequencies, shape))
        return np.hstack(copies)


def _unusual(error: Any) -> Exception | str | None:
    """Returns why kernels do not run a circuit, where users want to know; None otherwise."""
    if not isinstance(error, NotCoveredError):
        return error  # this release of lightning lacks something that qshift uses
    return str(error) or None


def _pickled(circuit: Any) -> bytes:
    return cloudpickle.dumps(replace(circuit))


@lru_cache(maxsize=4)
def _loaded(pickled: bytes) -> tuple[LightningExecutor, Circuit]:
    return LightningExecutor(qml.device("lightning.qubit")), cloudpickle.loads(pickled)


def _elsewhere(pickled: bytes, points: np.ndarray, gradients: bool) -> np.ndarray:
    """Runs a circuit in another process."""
    executor, circuit = _loaded(pickled)
    return executor.gradients(circuit, points) if gradients else executor(circuit, points)


def _sample(probabilities: Any, shots: Any, rngs: Any) -> Any:
    """Draws outcomes: from probabilities float64[N, K] to frequencies of the same shape."""
    # Rounding must not decide whether an outcome that never occurs takes a random number.
    probabilities = np.where(probabilities > _NEVER, probabilities, 0.0)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if len(rngs) == 1:
        return rngs[0].multinomial(shots, probabilities) / shots
    drawn = [rng.multinomial(shots, row) for rng, row in zip(rngs, probabilities, strict=True)]
    return np.array(drawn) / shots


def _averages(
    measured: Sequence[Basis], frequencies: Sequence[np.ndarray], shape: Sequence[int]
) -> np.ndarray:
    """Averages over outcomes: float64[shape]."""
    values = np.zeros(shape)
    for basis, outcomes in zip(measured, frequencies, strict=True):
        if basis.weights is not None:
            # Not as a matrix product: for this little, BLAS's threads wait longer than they work.
            outcomes = np.einsum("nk,km->nm", outcomes, basis.weights)
        values[:, basis.columns] += outcomes
    return values
