"""Runs shifted circuits on Qiskit's primitives: one transpilation, one job for a batch.

A circuit becomes one parametrised Qiskit circuit, transpiled once. A batch of N points is one
Estimator PUB, with an array of parameter values that is broadcast against all observables.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives.containers.bindings_array import BindingsArray

from qshift.circuits.circuit import Circuit
from qshift.executors.executor import Call, Executor
from qshift.executors.qiskit import digests, moments
from qshift.executors.qiskit.batch import Batch, Parcel, parcels, qpu_seconds
from qshift.executors.qiskit.bounded_angles import Angle
from qshift.executors.qiskit.job_splitting import Load
from qshift.executors.qiskit.observables import probabilities
from qshift.executors.qiskit.recorded_batch import RecordedBatch
from qshift.executors.qiskit.translation import column
from qshift.executors.qiskit.transpiled import Preparation, Prepared
from qshift.executors.variances import variance_of_mean
from qshift.tracker import Tracker

if TYPE_CHECKING:
    from qshift.executors.qiskit.device import EstimatorDevice

_draws = digests.Draws()


@dataclass(frozen=True)
class _Pub:
    """A circuit at some points as one PUB, and where its results belong in the circuit's values.

    See `qshift.executors.qiskit.batch.Pub`.

    Attributes:
        circuit: The circuit.
        preparation: Has the circuit as the primitives run it.
        points: float64[N, P].
        copy: The entry of the circuit's shot vector that the PUB is for.
        basis: The basis that the PUB samples, by number; None for expectation values.
        shots: The shots in each basis; 0 for exact results.
        errors: Whether the variances of the values are wanted.
    """

    circuit: Circuit
    preparation: Preparation
    points: np.ndarray
    copy: int
    basis: int | None
    shots: int
    errors: bool = False

    @property
    def is_ready(self) -> bool:
        return self.preparation.is_ready(self.circuit)

    def prepare(self) -> None:
        """Transpiles the circuit, if that has not been done."""
        self.preparation(self.circuit)

    @property
    def load(self) -> Load:
        """How much the PUB takes of a job's limits."""
        return self.load_of(self.preparation(self.circuit))

    def load_of(self, ready: Prepared) -> Load:
        """Returns how much the PUB takes of a job's limits, with the circuit in this form."""
        executions = self.shots * (ready.bases if self.basis is None else 1)
        points, parameters = self.points.shape
        usage = self.preparation.usage
        return Load(points, parameters, executions, *ready.burden(usage, self.shots, self.basis))

    def is_answered_by(self, measured: Any) -> bool:
        """Whether a result has the form of a result of the primitive at one of the points."""
        if self.basis is None:
            observables = len(self.preparation.planned(self.circuit).observables)
            return np.shape(measured) == (2, observables)
        return sum(measured.values()) > 0  # twirling rounds the number of shots up

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
        if self.basis is not None:
            circuit = ready.sampled[self.basis]
            return circuit, _bindings(circuit, points, ready.angles), self.shots
        # The estimator rounds the number of shots up, even if only rounding makes it no integer.
        precision = (1 + 1e-12) / np.sqrt(self.shots) if self.shots else 0.0
        isa: Any = ready.circuit
        observables = list(ready.observables)
        if not self.shots and not isa.parameters:
            # For a circuit without parameters, Aer gives one result, whatever the number of points.
            observables, points = [observables] * len(points), points[:1]
        return isa, observables, _bindings(isa, points[:, None], ready.angles), precision

    def read(self, measured: Sequence, found: np.ndarray) -> None:
        """Adds the results at all points to the values, and if they are wanted to their variances:
        float64[1 or 2, N, copies, M / copies]."""
        found = found[:, :, self.copy]
        readings = self.preparation.planned(self.circuit).readings
        if self.basis is None:
            estimates = np.stack(measured)
            found[0] += estimates[:, 0] @ readings.weights
            if self.errors:
                found[1] += moments.variances(readings, estimates, self.shots)
            return
        basis = readings.bases[self.basis]
        for row, counts in enumerate(measured):
            shots = sum(counts.values())
            for start, wires in basis.columns.items():
                frequencies = probabilities(counts, basis, wires)
                columns = slice(start, start + len(frequencies))
                found[0, row, columns] = frequencies
                if self.errors:
                    spread = variance_of_mean(frequencies, frequencies, 0.0, 1.0, shots)
                    found[1, row, columns] = spread


class EstimatorExecutor(Executor):
    """Runs circuits with EstimatorV2, and with SamplerV2 where probabilities are measured.

    Args:
        device: A `qshift.executors.qiskit.device.EstimatorDevice`.
        seed: Seed of a simulator's samples; None for the device's.

    An Estimator takes a precision in place of shots, which is ``1 / sqrt(shots)``. It then measures
    every point `shots` times in each of the bases that the observables need, one basis for all
    Pauli words that commute qubit by qubit; error mitigation may add to that. A Sampler takes the
    number of shots itself. Without shots results are exact, with the effects of the noise model if
    there is one; only Aer can do that.

    Samples of a seeded qnode follow from the seed, the call's number and the points that are run
    together, so that the same program gives the same numbers again, on any number of workers.
    """

    takes_seed = uses_workers = True

    def __init__(self, device: EstimatorDevice, seed: int | None = None) -> None:
        super().__init__(device, device.seed if seed is None else seed)
        self._target = device.target
        self._seed = () if self.seed is None else tuple(np.atleast_1d(self.seed).tolist())
        self._prepare = Preparation(device.target, device.wires or ())

    @property
    def name(self) -> str:
        """The name of the backend."""
        return self._target.name

    def run(self, circuit: Circuit, points: np.ndarray, call: Call) -> np.ndarray:
        """See `Executor`. Raises the same errors as `run_together`."""
        return self.run_together([(circuit, points)], call)[0]

    def sample(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns values, and their variances from the primitives' standard errors and counts.

        Simulators of this process estimate the standard errors from the samples. A service has its
        own, with the effects of error mitigation. A ledger keeps them with the values; results that
        a simulator has stored when no errors were asked for have those of Qiskit's estimator, which
        are upper bounds for sums of Pauli words. Raises the same errors as `run_together`.
        """
        values, variances = self._together([(circuit, points)], call, errors=True)[0]
        return values, variances

    def _record(self, circuit: Circuit, points: int) -> None:
        """Does nothing, as `run_together` counts what was sent."""

    def run_together(
        self, requests: Sequence[tuple[Circuit, np.ndarray]], call: Call
    ) -> list[np.ndarray]:
        """Runs several circuits, each at its own points, as one batch.

        The batch is one job, or two if both expectation values and sampled probabilities are
        measured, unless the device's limits make it more.

        Args:
            requests: Pairs (circuit, points float64[N, P]).
            call: The call for which circuits are run; seeded samples depend on it.

        Returns:
            The raw values float64[N, M] of each circuit.

        Raises:
            UnsupportedError: For circuits that the backend cannot run. Nothing is submitted then.
            LimitError: If the device may not send so much. Nothing is submitted then.
            JobError: If a job failed or was cancelled.
        """
        return [values for (values,) in self._together(requests, call)]

    def _together(
        self, requests: Sequence[tuple[Circuit, np.ndarray]], call: Call, errors: bool = False
    ) -> list[np.ndarray]:
        """Returns for each request its values, and if asked for their variances: float64[1 or 2, N,
        M]."""
        results, sendable = [], []
        for circuit, points in requests:
            finite = np.isfinite(points).all(axis=1) & circuit.is_finite
            shape = 1 + errors, len(points), circuit.num_values
            results.append((finite, np.full(shape, np.nan)))
            if finite.any():
                # Transpilers add constants to angles, which costs large angles their digits.
                sendable.append((circuit, circuit.shifted.near(points[finite])))
        found = iter(self._run(sendable, call, errors) if sendable else ())
        for finite, values in results:
            if finite.any():
                values[:, finite] = next(found)
        return [values for _, values in results]

    def _run(
        self, requests: Sequence[tuple[Circuit, np.ndarray]], call: Call, errors: bool
    ) -> list[np.ndarray]:
        """Runs circuits, each at one or more points with finite angles."""
        pubs = [list(self._pubs(*request, errors)) for request in requests]
        batch = self._measure([pub for some in pubs for pub in some], call)
        measured, sent = iter(batch.results), iter(batch.sent)
        results, circuits = [], 0
        for (circuit, points), some in zip(requests, pubs, strict=True):
            constants = self._prepare.planned(circuit).readings.constants
            values = np.zeros((1 + errors, len(points), circuit.copies, len(constants)))
            values[0] = constants
            for pub in some:
                pub.read(next(measured), values)
            circuits += len(set().union(*(next(sent) for _ in some))) if some else len(points)
            results.append(values.reshape(*values.shape[:2], circuit.copies * len(constants)))
        Tracker.record(batches=int(circuits > 0), circuits=circuits)
        return results

    def _measure(self, pubs: Sequence[_Pub], call: Call) -> Batch:
        """Measures PUBs; results that the ledger has are read from it."""
        device, ledger = self.device, self.device.ledger
        where = (device.target, device.limits, device.budget, pubs)
        if ledger is None and not self._seed:
            batch = Batch(*where)
            batch.measure()
            return batch
        target = device.target
        scope = (ledger and ledger.path, device.run, self._seed)
        # The digests of this release, those that earlier releases made of the same draws, and those
        # made when other options were the default.
        kinds = [target.settings], target.earlier_settings, target.former_settings
        if ledger is None:
            kinds = [target.settings], (), ()
        named = [[self._draws(pubs, each, scope, call) for each in kind] for kind in kinds]
        (((draws, _),), earlier, former) = named
        if ledger is None:
            batch = Batch(*where, draws)
        else:
            batch = RecordedBatch(
                *where,
                draws,
                ledger=ledger,
                run=device.run,
                seeded=bool(self._seed),
                earlier=[names for names, _ in earlier],
                former=[names for names, _ in former],
            )
        try:
            batch.measure()
        except BaseException:
            if ledger is not None:
                for names, contents in itertools.chain(*named):
                    for pub, *some in zip(pubs, contents, names, strict=True):
                        if pub.shots:
                            _draws.give_back(scope, *some)
            raise
        return batch

    def _draws(
        self, pubs: Sequence[_Pub], settings: Any, scope: Any, call: Call
    ) -> tuple[list[list[bytes]], list[list[bytes]]]:
        """Returns the digests of all draws, and of all points, of PUBs."""
        # A seeded simulator's seeds need fewer settings than the ledger.
        settings = digests.of_options(settings, is_complete=self.device.ledger is not None)
        contents = [self._contents(pub, settings) for pub in pubs]
        draws = [
            _draws.take(scope, some, self._seed, call) if pub.shots else some
            for pub, some in zip(pubs, contents, strict=True)
        ]
        return draws, contents

    def _contents(self, pub: _Pub, settings: Any) -> list[bytes]:
        """Returns the digests of all points of a PUB."""
        observed, sampled = self._prepare.content(pub.circuit, settings)
        prefix = observed if pub.basis is None else sampled[pub.basis]
        return digests.of_points(digests.digest(prefix, b"%d" % pub.shots), pub.points)

    def jobs(self, circuit: Circuit, points: int) -> int:
        """Returns how many jobs a batch of so many points of a circuit takes."""
        return len(self._planned_jobs(circuit, points)[0])

    def _planned_jobs(self, circuit: Circuit, points: int) -> tuple[list[Parcel], list[Load]]:
        """Returns the jobs of a batch of so many points, and the loads of its PUBs."""
        loads = self._plan(circuit, points)
        pubs: list[Any] = list(
            self._pubs(circuit, np.broadcast_to(0.0, (points, circuit.num_parameters)))
        )
        rows = [range(points)] * len(pubs)
        return parcels(pubs, rows, self.device.limits, loads), loads

    def bases(self, circuit: Circuit) -> int:
        """See `Executor`. The backend is not contacted; on the qubits that are chosen there, sums
        of words may take another number of bases, which `shots` knows."""
        planned = self._prepare.planned(circuit)
        return planned.bases + len(planned.sampled)

    def shots(self, circuit: Circuit) -> int:
        """Returns how many samples are drawn at each point of a circuit, in all bases."""
        return sum(load.executions for load in self._plan(circuit, 1))

    def seconds(self, circuit: Circuit, points: int) -> float | None:
        """Returns how many QPU seconds a batch takes, by the formula of `usage`.

        A fake backend gives the time of the backend that it imitates. Simulators give None.
        """
        if self._target.is_aer:
            return None
        jobs, loads = self._planned_jobs(circuit, points)
        return qpu_seconds(jobs, loads.__getitem__)

    def _plan(self, circuit: Circuit, points: int) -> list[Load]:
        """Returns how much each PUB of a batch of so many points takes of a job's limits.

        Where QPU seconds depend on it, the circuit is transpiled; the later run uses the result.
        """
        nowhere = np.broadcast_to(0.0, (points, circuit.num_parameters))
        is_timed = not self._target.is_aer
        ready = self._prepare(circuit) if is_timed else self._prepare.planned(circuit)
        return [pub.load_of(ready) for pub in self._pubs(circuit, nowhere)]

    def _pubs(self, circuit: Circuit, points: np.ndarray, errors: bool = False) -> Iterator[_Pub]:
        """Yields the PUBs of one circuit; none where there are no points."""
        planned = self._prepare.planned(circuit)
        if not len(points):
            return
        for copy, shots in enumerate(list(circuit.shots) if circuit.shots else [0]):
            bases = [None] * bool(planned.observables) + list(range(len(planned.sampled)))
            for basis in bases:
                yield _Pub(circuit, self._prepare, points, copy, basis, shots, errors)


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
