"""Runs shifted circuits on any PennyLane device."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from numpy.random import Generator
from pennylane.measurements import ExpectationMP, ProbabilityMP
from pennylane.operation import Channel
from pennylane.tape import QuantumScript

from qshift.circuits.circuit import Circuit
from qshift.circuits.pennylane_internals import DeviceRandomness
from qshift.circuits.spectra import broadcasts
from qshift.circuits.user_gates import unmistakable
from qshift.errors import UnsupportedError
from qshift.executors.bases import bases
from qshift.executors.executor import Call, Executor
from qshift.executors.seeding import generator
from qshift.executors.variances import covariance_of_means, extremes, variance_of_mean
from qshift.forks import Lock, descendant, lineage
from qshift.progress import track

if TYPE_CHECKING:
    from pennylane.operation import Operator


class PennyLaneExecutor(Executor):
    """Runs circuits on a PennyLane device, many points in one broadcast tape where it can.

    Args:
        device: A PennyLane device.
        seed: Seed of the samples; None for fresh ones.
        broadcasting: Names of devices that evaluate a broadcast tape at once; other devices would
            only split it up again.
        allotting: Names of devices whose points may have shots of their own.
        most_amplitudes: How many amplitudes a broadcast tape may have in all, which bounds memory
            and keeps the caches warm.
        most_tapes: How many tapes go to the device at once.

    Raises:
        UnsupportedError: If a seed is given and the device does not take one.
    """

    # `differentiates` is False: through the public interface, adjoint differentiation takes one
    # tape per point and gains nothing over shifted circuits.

    takes_seed = True

    def __init__(
        self,
        device: qml.devices.Device,
        seed: int | Sequence[int] | None = None,
        *,
        broadcasting: Collection[str] = ("default.qubit",),
        allotting: Collection[str] = ("default.qubit", "default.mixed", "lightning.qubit"),
        most_amplitudes: int = 2**22,  # 64 MiB
        most_tapes: int = 1000,
    ) -> None:
        super().__init__(device, seed)
        self._broadcasting, self._allotting = broadcasting, allotting
        self._most_amplitudes, self._most_tapes = most_amplitudes, most_tapes
        self._bases: weakref.WeakKeyDictionary[Circuit, int] = weakref.WeakKeyDictionary()
        inherit(device)
        if seed is not None and _backend(device) is None and not DeviceRandomness(device).is_known:
            raise UnsupportedError(
                f"seed= was given, but the device {device.name} has no seed that can be set. "
                "Leave seed= out, or use a simulator such as default.qubit or lightning.qubit."
            )

    def run(self, circuit: Circuit, points: np.ndarray, call: Call) -> np.ndarray:
        """See `Executor`."""
        broadcast = self._broadcasts(circuit)
        size = self._together(circuit) if broadcast else self._most_tapes
        chunks = [(points[i : i + size], call.part(i, size)) for i in range(0, len(points), size)]
        try:
            values = [
                self._values(circuit, chunk, broadcast, part)
                for chunk, part in track(chunks, len(points), lambda each: len(each[0]), "circuits")
            ]
        except qml.exceptions.DeviceError as error:
            noisy = [op.name for op in circuit.operations if isinstance(op, Channel)]
            if not noisy:
                raise
            raise UnsupportedError(
                f"{noisy[0]} is a noise channel, and {self.device.name} runs circuits without "
                'noise only. Use qshift.device("mixed"), which has density matrices.'
            ) from error
        return np.concatenate(values)

    def _together(self, circuit: Circuit) -> int:
        """Returns how many points a broadcast tape has."""
        return max(1, self._most_amplitudes >> len(self.device.wires or circuit.wires))

    def grain(self, circuit: Circuit) -> int | None:
        """See `Executor`."""
        if circuit.shots:
            # Copies of a shot vector draw one after the other, all points for each of them.
            return None if circuit.shots.has_partitioned_shots and _is_legacy(self.device) else 1
        return self._together(circuit) if self._broadcasts(circuit) else 1

    def sample(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns values, and their variances where these follow from the values: of Pauli words
        and of probabilities; see `Executor`.

        Raises:
            UnsupportedError: For other observables.
        """
        lowest, highest = extremes(circuit)
        values = self.run(circuit, points, call)
        shots = circuit.shots.total_shots if call.shots is None else call.shots[:, None]
        # Each outcome is one of two.
        squares = values * (lowest + highest) - lowest * highest
        return values, *variance_of_mean(values, squares, lowest, highest, shots)

    def sample_jointly(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns values and their covariances: of one Pauli word, or of the probabilities of one
        set of outcomes.

        Raises:
            UnsupportedError: For other observables, and for several measurements.
        """
        if [type(each) for each in circuit.measurements] != [ProbabilityMP]:
            return super().sample_jointly(circuit, points, call)
        values = self.run(circuit, points, call)
        shots = circuit.shots.total_shots if call.shots is None else call.shots
        products = values[:, :, None] * np.eye(circuit.num_values)
        return values, *covariance_of_means(values, products, 0.0, 1.0, shots)

    def require_errors(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `estimates` would; runs nothing."""
        if circuit.shots:
            extremes(circuit)

    def allots(self, circuit: Circuit) -> bool:
        """Whether each point may have its own number of shots: on simulators, where running points
        of different shots apart costs little."""
        own = bool(circuit.shots) and not circuit.shots.has_partitioned_shots
        return own and self.device.name in self._allotting

    def bases(self, circuit: Circuit) -> int:
        """See `Executor`. Other devices are taken to measure as PennyLane's simulators do."""
        if circuit not in self._bases:
            self._bases[circuit] = bases(circuit.measurements)
        return self._bases[circuit]

    def require_gradients(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `gradients` would; runs nothing."""
        tape = QuantumScript(circuit.operations, circuit.measurements, shots=circuit.shots)
        self._for_adjoint(circuit, [tape])

    def differentiate(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P] by adjoint differentiation.

        Raises:
            UnsupportedError: If the device or the circuit does not allow it.
        """
        with _alone(self.device):
            tapes, config = self._for_adjoint(circuit, circuit.bind_each(points))
            jacobians = self.device.compute_derivatives(tapes, config)
        columns = [slot.start for slot in circuit.slots if not slot.shape]
        result = np.zeros((len(points), circuit.num_values, circuit.num_parameters))
        for n, jacobian in enumerate(jacobians):
            rows = jacobian if len(circuit.measurements) > 1 else (jacobian,)
            for m, row in enumerate(rows):
                result[n, m, columns] = np.asarray(row if len(columns) > 1 else [row]).ravel()
        return result

    def _for_adjoint(
        self, circuit: Circuit, tapes: Sequence[QuantumScript]
    ) -> tuple[Sequence[QuantumScript], Any]:
        """Prepares tapes of a circuit for adjoint differentiation.

        Returns:
            Tapes that the device differentiates, and the execution configuration for that.

        Raises:
            UnsupportedError: If the device or the circuit does not allow it.
        """
        others = [m for m in circuit.measurements if not isinstance(m, ExpectationMP)]
        if circuit.shots or others:
            has = f"returns {others[0]!r}" if others else f"has {circuit.shots.total_shots} shots"
            raise UnsupportedError(
                f"diff_method='adjoint': {self.device.name} differentiates exact expectation "
                f"values only, but this circuit {has}. Use diff_method='shift' or "
                "diff_method='best'."
            )
        given = [_with_matrices(circuit, tape) for tape in tapes]
        slots = [slot for slot in circuit.slots if not slot.shape]
        gates = [[tape.operations[slot.operation] for slot in slots] for tape in given]
        unknown = sorted({gate.name for gate in itertools.chain(*gates) if not gate.has_generator})
        if unknown:
            raise UnsupportedError(
                f"diff_method='adjoint': {self.device.name} differentiates gates by their "
                f"generators, and {', '.join(unknown)} has none. Give it a generator, or use "
                "diff_method='shift' or diff_method='best'."
            )
        # Tapes are first preprocessed as if for execution: when a device decomposes a constant
        # gate, the tape loses its list of trainable parameters.
        try:
            tapes, _ = self.device.preprocess_transforms(qml.devices.ExecutionConfig())(given)
        except qml.exceptions.DeviceError as error:
            raise UnsupportedError(
                f"diff_method='adjoint': {error}. Use diff_method='shift' or diff_method='best'."
            ) from error
        config = qml.devices.ExecutionConfig(gradient_method="adjoint")
        if not self.device.supports_derivatives(config, given[0]):
            raise UnsupportedError(
                f"diff_method='adjoint': {self.device.name} has no adjoint differentiation for "
                "this circuit. Use diff_method='shift' or diff_method='best'."
            )
        self._mark(tapes, gates)
        config = self.device.setup_execution_config(config, tapes[0])
        tapes, _ = self.device.preprocess_transforms(config)(tapes)
        self._mark(tapes, gates)
        return tapes, config

    def _mark(self, tapes: Sequence[QuantumScript], gates: Sequence[list[Operator]]) -> None:
        """Marks the parameters of `gates` as trainable in preprocessed tapes, and no others.

        Raises:
            UnsupportedError: If the device has replaced one of the gates.
        """
        for tape, wanted in zip(tapes, gates, strict=True):
            position = {id(entry["op"]): i for i, entry in enumerate(tape.par_info)}
            replaced = {g.name for g in wanted if id(g) not in position or len(g.data) > 1}
            if replaced:
                raise UnsupportedError(
                    f"diff_method='adjoint': {self.device.name} differentiates other gates in "
                    f"place of {', '.join(sorted(replaced))}. "
                    "Use diff_method='shift' or diff_method='best'."
                )
            tape.trainable_params = [position[id(gate)] for gate in wanted]

    def _values(
        self, circuit: Circuit, points: np.ndarray, broadcast: bool, call: Call
    ) -> np.ndarray:
        if call.shots is not None:
            return self._in_groups(circuit, points, broadcast, call)
        if circuit.shots.has_partitioned_shots and _is_legacy(self.device):
            # Devices of PennyLane's old interface take one number of shots for a batch.
            copies = [replace(circuit, shots=qml.measurements.Shots(n)) for n in circuit.shots]
            return np.hstack([self._values(copy, points, broadcast, call) for copy in copies])
        if circuit.shots and self.seed is not None:
            return np.concatenate([self._sample(circuit, point[None], call) for point in points])
        if circuit.shots and (points == points[:1]).all():
            broadcast = False  # all points are equal, so PennyLane would sample once for all
        tapes = [circuit.bind(points)] if broadcast else circuit.bind_each(points)
        tapes = [_unmistakable(tape) for tape in tapes]
        with _alone(self.device):
            results = qml.execute(tapes, self.device, diff_method=None, cache=False)
        per_tape = len(points) if broadcast else 1
        return np.concatenate([flatten(circuit, result, per_tape) for result in results])

    def _in_groups(
        self, circuit: Circuit, points: np.ndarray, broadcast: bool, call: Call
    ) -> np.ndarray:
        """Runs the points that have equally many shots together, or with a seed each by itself."""
        values = np.empty((len(points), circuit.num_values))
        given, call = np.asarray(call.shots), replace(call, shots=None)
        alike = {n: replace(circuit, shots=qml.measurements.Shots(n)) for n in set(given.tolist())}
        if self.seed is not None:  # in their order, by which equal points are told apart
            samples = zip(points, given.tolist(), strict=True)
            return np.concatenate(
                [self._sample(alike[n], point[None], call) for point, n in samples]
            )
        for shots, one in alike.items():
            same = np.flatnonzero(given == shots)
            values[same] = self._values(one, points[same], broadcast, call)
        return values

    def _sample(self, circuit: Circuit, point: np.ndarray, call: Call) -> np.ndarray:
        with _lending, _alone(self.device):
            with _lent(self.device, generator(self.seed, circuit, point, call)):
                tape = _unmistakable(circuit.bind(point))
                (result,) = qml.execute([tape], self.device, diff_method=None)
        return flatten(circuit, result, 1)

    def _broadcasts(self, circuit: Circuit) -> bool:
        return self.device.name in self._broadcasting and all(
            broadcasts(circuit.operations[slot.operation]) for slot in circuit.slots
        )


def _with_matrices(circuit: Circuit, tape: QuantumScript) -> QuantumScript:
    """Turns gates with arrays that change into matrices; devices that differentiate count the
    parameters of some of these gates wrongly."""
    operations = list(tape.operations)
    for position in {slot.operation for slot in circuit.slots if slot.shape}:
        op = operations[position]
        if op.has_matrix and not isinstance(op, qml.operation.StatePrepBase):
            operations[position] = qml.QubitUnitary(op.matrix(), wires=op.wires)
    return tape.copy(operations=operations)


_lending = Lock()


@contextmanager
def _alone(device: qml.devices.Device) -> Iterator[None]:
    """A context in which no other thread uses a device, as most devices keep the state that they
    are working on. The lock is on the device, as several executors may use the same one."""
    with vars(device).setdefault("_qshift_lock", Lock()):
        inherit(device)
        yield


def inherit(device: qml.devices.Device) -> None:
    """Gives a device new random numbers if this process is a fork and the device is the parent's.

    Otherwise all children would draw the same numbers. The process in which this function is first
    called with a device counts as the device's own.
    """
    known = vars(device)
    if known.setdefault("_qshift_lineage", lineage()) == lineage():
        return
    with known.setdefault("_qshift_lock", Lock()):
        if known["_qshift_lineage"] != lineage():
            own = lambda rng: descendant(rng) if isinstance(rng, Generator) else rng  # noqa: E731
            DeviceRandomness(device).replace(own)
            known["_qshift_lineage"] = lineage()


@contextmanager
def _lent(device: qml.devices.Device, rng: Any) -> Iterator[None]:
    """Lends a device a generator for one run, as others may use the same device."""
    randomness = DeviceRandomness(device)
    if randomness.is_known:
        before = randomness.get()
        randomness.replace(lambda _: rng)
        try:
            yield
        finally:
            randomness.replace(lambda _: before)
    else:
        backend = _backend(device)
        before, state = backend.options.seed_simulator, np.random.get_state()
        seed = int(rng.integers(2**31))
        backend.set_options(seed_simulator=seed)
        np.random.seed(seed)  # PennyLane samples state vectors of old devices from this one
        try:
            yield
        finally:
            backend.set_options(seed_simulator=before)
            np.random.set_state(state)


def _backend(device: qml.devices.Device) -> Any:
    return getattr(getattr(device, "target_device", device), "backend", None)


def _unmistakable(tape: QuantumScript) -> QuantumScript:
    """Returns a tape in which gates that the device would take for others are matrices."""
    operations = [unmistakable(op) for op in tape.operations]
    if all(new is old for new, old in zip(operations, tape.operations, strict=True)):
        return tape
    return tape.copy(operations=operations)


def _is_legacy(device: Any) -> bool:
    return isinstance(device, qml.devices.LegacyDeviceFacade)


def flatten(circuit: Circuit, result: Any, points: int = 1) -> np.ndarray:
    """Lays the results of one tape, as PennyLane's devices return them, out as float64[points, M].

    Args:
        circuit: The circuit that the tape was made from.
        result: The tape's result.
        points: The number of points that the tape is broadcast over.
    """
    copies = result if circuit.shots.has_partitioned_shots else (result,)
    columns = []
    for copy in copies:
        measured = copy if len(circuit.measurements) > 1 else (copy,)
        for values, size in zip(measured, circuit.sizes, strict=True):
            columns.append(np.broadcast_to(np.reshape(np.real(values), (-1, size)), (points, size)))
    return np.concatenate(columns, axis=1)
