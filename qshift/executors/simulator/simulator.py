"""Runs shifted circuits on the embedded simulator: state vectors, by a compiled kernel."""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml

from qshift.circuits.circuit import Circuit
from qshift.circuits.pennylane_internals import DeviceRandomness, watching
from qshift.errors import UnsupportedError
from qshift.executors.executor import Call, Executor
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.executors.seeding import generator
from qshift.executors.simulator.measurement_bases import Basis, NotCoveredError, portions
from qshift.executors.simulator.parallel import Pace, spread
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds
from qshift.fallbacks import warn_slower
from qshift.forks import Lock, descendant, in_children
from qshift.listeners import opened
from qshift.progress import track
from qshift.rules.allocation import whole
from qshift.rules.shots import LEAST

if TYPE_CHECKING:
    from qshift.executors.simulator.simulation import Simulation
    from qshift.executors.simulator.small_circuits import SmallCircuit

_MOST_WIRES = 60
_NEVER = 1e-14  # probabilities up to here are zeros
_LACKING = (
    NotCoveredError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class SimulatorExecutor(Executor):
    """Runs circuits on the embedded simulator, in any number of threads.

    Circuits that it does not cover run through the device's public interface, and so do all
    circuits while somebody watches the device, for example by a `qml.Tracker`.

    Args:
        device: A default.qubit or lightning.qubit device, in whose place circuits are run.
        seed: Seed of the samples, as for `PennyLaneExecutor`.
        thresholds: They decide how points are run.
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
        self.watchers, self.unwatched = watching(device)
        randomness = DeviceRandomness(device)
        # The generator that the device's own seed has seeded.
        self._rng = randomness.get() if randomness.is_known else np.random.default_rng()
        self._latest: dict[bool, tuple] = {}
        self._simulations: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._lock = Lock()
        in_children(self)

    def inherit(self) -> None:
        """Takes random numbers of its own in the child of a fork, and forgets what a thread of the
        parent may have been changing."""
        self._rng = descendant(self._rng)
        self._latest.clear()
        self._simulations = weakref.WeakKeyDictionary()

    def run(self, circuit: Circuit, points: np.ndarray, call: Call) -> np.ndarray:
        """See `Executor`."""
        simulation = self._simulation(circuit)
        if simulation is None:
            return self._general.run(circuit, points, call)
        if circuit.shots:
            return self._samples(circuit, simulation, points, call)
        return self._found(simulation, "values", points, (circuit.num_values,))

    def grain(self, circuit: Circuit) -> int | None:
        """See `Executor`."""
        simulation = self._simulation(circuit)
        if simulation is None:
            return self._general.grain(circuit)
        most = self._sampled_together(simulation) if circuit.shots else simulation.grain
        return min(simulation.grain, most)

    def sample(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns values and their variances, from the same samples; see `Executor`.

        Raises:
            UnsupportedError: If the simulator does not cover the circuit, and PennyLane's device
                returns no variances.
        """
        simulation = self._simulation(circuit)
        if simulation is None:
            return self._general.sample(circuit, points, call)
        drawn = self._samples(circuit, simulation, points, call, Basis.variances)
        values, variances, added = np.hsplit(drawn, 3)
        return values, variances, added

    def sample_jointly(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns values and their covariances, from the same samples; see `sample`."""
        simulation = self._simulation(circuit)
        if simulation is None:
            return self._general.sample_jointly(circuit, points, call)
        size = circuit.num_values
        drawn = self._samples(circuit, simulation, points, call, Basis.covariances)
        spread = drawn[:, size:].reshape(-1, size + 1, size)
        return drawn[:, :size], spread[:, :-1], spread[:, -1]

    def require_errors(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `estimates` would; runs nothing."""
        if self._simulation(circuit) is None:
            self._general.require_errors(circuit)

    def allots(self, circuit: Circuit) -> bool:
        """Whether each point may have its own number of shots."""
        return self._general.allots(circuit)

    def bases(self, circuit: Circuit) -> int:
        """See `Executor`."""
        simulation = self._simulation(circuit)
        return self._general.bases(circuit) if simulation is None else len(simulation.bases)

    def differentiates(self, circuit: Circuit) -> bool:
        """Whether `gradients` has exact derivatives, for less than shifted circuits cost."""
        few = circuit.num_values <= circuit.num_parameters
        return few and self._has_gradients(circuit)

    def require_gradients(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `gradients` would; runs nothing."""
        if not self._has_gradients(circuit):
            self._general.require_gradients(circuit)

    def differentiate(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P] by adjoint differentiation.

        Raises:
            UnsupportedError: If the circuit does not allow it.
        """
        simulation = self._simulation(circuit)
        if simulation is None:
            simulation = self._in_place_of_the_device(circuit)
        if simulation is None or circuit.shots or not simulation.differentiable:
            return self._general.differentiate(circuit, points)
        shape = circuit.num_values, circuit.num_parameters
        return self._found(simulation, "gradients", points, shape)

    def pulls_back(self, circuit: Circuit) -> bool:
        """See `Executor`."""
        return self._has_gradients(circuit)

    def pull_back(self, circuit: Circuit, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """See `Executor`."""
        simulation = self._simulation(circuit)
        if simulation is None or circuit.shots or not simulation.differentiable:
            return super().pull_back(circuit, points, cotangents)
        return self._found(simulation, "pulled_back", points, (circuit.num_parameters,), cotangents)

    def small(self, circuit: Circuit, count: int) -> SmallCircuit | None:
        """See `Executor`."""
        simulation = None if opened else self._simulation(circuit)
        return None if simulation is None else simulation.small(count)

    def in_tensorflow(self, circuit: Circuit) -> Callable[[Any], Any]:
        """See `Executor`."""
        if circuit.shots:
            raise UnsupportedError(
                f"its values are means of {circuit.shots.total_shots} shots; without shots they "
                "can be exported as TensorFlow ops"
            )
        try:
            # Late, as all that it imports is.
            from qshift.executors.simulator.exported import in_tensorflow

            return in_tensorflow(circuit, self._thresholds)
        except _LACKING as error:
            reason = _unusual(error) or "the embedded simulator does not cover it"
            raise UnsupportedError(str(reason)) from error

    def _has_gradients(self, circuit: Circuit) -> bool:
        simulation = None if circuit.shots else self._simulation(circuit)
        return simulation is not None and simulation.differentiable

    def _in_place_of_the_device(self, circuit: Circuit) -> Simulation | None:
        """Returns the simulation of a circuit although the device is watched, if the device does
        not differentiate it. A compiled function that was traced before may ask for that."""
        try:
            self._general.require_gradients(circuit)
        except UnsupportedError:
            return self._simulations.get(circuit)
        return None

    def _simulation(self, circuit: Circuit) -> Simulation | None:
        """Returns the simulation of a circuit; None if the device has to run it."""
        if self.watchers() != self.unwatched:
            return None
        try:
            return self._simulations[circuit]
        except KeyError:
            pass
        with self._lock:
            if circuit not in self._simulations:
                try:
                    self._simulations[circuit] = self._prepared(circuit)
                except UnsupportedError:
                    raise
                except _LACKING as error:
                    self._simulations[circuit] = None
                    if reason := _unusual(error):
                        warn_slower(
                            f"A circuit runs through {self.name}'s public interface instead of "
                            "the embedded simulator",
                            reason,
                        )
            return self._simulations[circuit]

    def _prepared(self, circuit: Circuit) -> Simulation:
        with _without_collections():
            # Late: it imports llvmlite, which takes a moment, and only circuits need it.
            from qshift.executors.simulator.simulation import Simulation

        wires = circuit.wires
        if len(wires) > _MOST_WIRES:
            raise UnsupportedError(
                f"A circuit on {len(wires)} wires has a state of 2^{len(wires)} amplitudes, more "
                f"than fit into any memory, and {self.name} works on all of them. Use fewer wires."
            )
        if not circuit.is_finite:
            raise NotCoveredError  # nothing will be run
        if not wires or (self._wires and not self._wires.contains_wires(wires)):
            raise NotCoveredError  # the device says what is wrong
        return Simulation(circuit, self._latest, self._thresholds)

    def _found(
        self,
        simulation: Simulation,
        name: str,
        points: np.ndarray,
        shape: tuple[int, ...],
        *cotangents: np.ndarray,
    ) -> np.ndarray:
        """Returns the results float64[N, ...] of a method of the simulation, by its name."""
        if (small := simulation.small(len(points), name == "values")) is not None:
            result: np.ndarray = getattr(small, name)(points, *cotangents)
            return result
        function: Callable[..., np.ndarray] = getattr(simulation, name)
        if cotangents:
            function = functools.partial(function, np.ascontiguousarray(*cotangents))
        if len(points) == 1:
            return function(points.copy(), simulation.alone)
        points = np.ascontiguousarray(points)
        parts = simulation.parts(points)
        if len(parts) == 1 and not parts[0][1]:  # all of them at once, in their order
            return function(points, parts[0])
        found = np.empty((len(points), *shape))
        pace = simulation.paces.setdefault(name, Pace())
        results = spread(parts, lambda part: function(points, part), self._thresholds, pace)
        for (rows, _), values in track(results, len(points), _size, "circuits"):
            found[rows] = values
        return found

    def _samples(
        self,
        circuit: Circuit,
        simulation: Simulation,
        points: np.ndarray,
        call: Call,
        of_errors: Callable | None = None,
    ) -> np.ndarray:
        """Returns values from samples, float64[N, M], and behind them what the method `of_errors`
        of bases says of their errors."""
        size = self._sampled_together(simulation)
        chunks = [(points[i : i + size], call.part(i, size)) for i in range(0, len(points), size)]
        values = [
            self._drawn(
                circuit,
                simulation.bases,
                self._probabilities(simulation, chunk),
                chunk,
                part,
                of_errors,
            )
            for chunk, part in track(chunks, len(points), lambda each: len(each[0]), "circuits")
        ]
        return np.concatenate(values)

    def _sampled_together(self, simulation: Simulation) -> int:
        """Returns for how many points probabilities are held at once."""
        outcomes = sum(2 ** len(basis.wires) for basis in simulation.bases)
        size = max(1, self._thresholds.most_probabilities // max(1, outcomes))
        return size // simulation.grain * simulation.grain or size

    def _probabilities(self, simulation: Simulation, points: np.ndarray) -> list[np.ndarray]:
        """Returns the probabilities float64[N, 2**k] of the outcomes in each basis."""
        points = np.ascontiguousarray(points)
        found = [np.empty((len(points), 2 ** len(basis.wires))) for basis in simulation.bases]
        work = lambda part: simulation.probabilities(points, part)  # noqa: E731
        pace = simulation.paces.setdefault("probabilities", Pace())
        for (rows, _), results in spread(simulation.parts(points), work, self._thresholds, pace):
            for each, result in zip(found, results, strict=True):
                each[rows] = result
        return found

    def _drawn(
        self,
        circuit: Circuit,
        bases: Sequence[Basis],
        probabilities: Sequence[np.ndarray],
        points: np.ndarray,
        call: Call,
        of_errors: Callable | None,
    ) -> np.ndarray:
        """Returns values from samples, and what is known of their errors; see `_samples`."""
        with self._lock:
            rngs = [self._rng]
            if self.seed is not None:
                rngs = [generator(self.seed, circuit, point, call) for point in points]
            copies = []
            for shots in circuit.shots if call.shots is None else [call.shots]:
                size = circuit.num_values // circuit.copies
                found = np.zeros((len(points), size))
                height = size + 1 if of_errors is Basis.covariances else 2 if of_errors else 0
                errors = np.zeros((len(points), height, size))
                each = [shots] * len(bases)
                if call.shots is not None and circuit.num_values == 1 and len(bases) > 1:
                    each = _by_basis(bases, call.shots)
                for basis, outcomes, shots in zip(bases, probabilities, each, strict=True):
                    drawn = _sample(outcomes, shots, rngs)
                    found[:, basis.columns] += basis.averages(drawn)
                    if of_errors:
                        told = of_errors(basis, drawn, shots)
                        of_pairs = of_errors is Basis.covariances
                        lines = np.append(basis.columns, size) if of_pairs else np.arange(2)
                        places: Any = np.ix_(lines, basis.columns)
                        errors[:, *places] += told
                copies += [found, errors.reshape(len(points), -1)]
        return np.concatenate(copies, axis=1)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Within it Python collects no garbage. The many objects that an import makes would have it
    look through all of TensorFlow's, which takes longer than the import."""
    were_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if were_on:
            gc.enable()


def _size(found: tuple[tuple[np.ndarray, Sequence[int]], np.ndarray]) -> int:
    return len(found[0][0])


def _unusual(error: Exception) -> Exception | str | None:
    """Returns why a circuit is not covered, where users want to know; None otherwise."""
    if not isinstance(error, NotCoveredError):
        return error
    return str(error) or None


def _by_basis(bases: Sequence[Basis], shots: np.ndarray) -> Any:
    """Returns the shots int64[N] of all points in each basis, on the average those that are given,
    int64[N]."""
    wanted = portions(bases)[:, None] * shots
    return whole(wanted, np.full(len(shots), 0.5), np.minimum(shots, LEAST))


def _sample(probabilities: Any, shots: Any, rngs: Any) -> Any:
    """Draws outcomes: from probabilities float64[N, K] to frequencies of the same shape; `shots`
    is a number, or one for each row."""
    # Rounding must not decide whether an outcome that never occurs takes a random number.
    probabilities = np.where(probabilities > _NEVER, probabilities, 0.0)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if len(rngs) == 1:
        return rngs[0].multinomial(shots, probabilities) / np.reshape(shots, (-1, 1))
    numbers = np.broadcast_to(shots, len(rngs)).tolist()
    rows = zip(rngs, numbers, probabilities, strict=True)
    drawn = [rng.multinomial(number, row) / number for rng, number, row in rows]
    return np.array(drawn)
