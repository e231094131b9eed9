"""Runs shifted circuits on Qiskit's primitives: one transpilation, one job for a batch.

A circuit becomes one parametrised Qiskit circuit, transpiled once. A batch of N points is one
Estimator PUB, with an array of parameter values that is broadcast against all observables.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qshift.circuits.circuit import Circuit
from qshift.executors.executor import Call, Executor
from qshift.executors.qiskit import digests
from qshift.executors.qiskit.batch import Batch, Parcel, parcels, qpu_seconds, samples
from qshift.executors.qiskit.job_splitting import Load
from qshift.executors.qiskit.layer_noise import Learner
from qshift.executors.qiskit.pubs import CircuitPub, pubs
from qshift.executors.qiskit.recorded_batch import RecordedBatch
from qshift.executors.qiskit.transpiled import Preparation
from qshift.executors.seeding import fractions
from qshift.tracker import Tracker

if TYPE_CHECKING:
    from qshift.executors.qiskit.device import EstimatorDevice

_draws = digests.Draws()
_MANY_PUBS = 64  # as many as a job needs in order to have all numbers of shots that points get


class _Request(NamedTuple):
    """A circuit that is run.

    Attributes:
        circuit: The circuit.
        points: float64[N, P].
        shots: int64[N], the shots of each point in each basis; None for those of the circuit.
    """

    circuit: Circuit
    points: np.ndarray
    shots: np.ndarray | None = None


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

    Where each point has its own shots, there are few different numbers of them, and points that
    have equally many are a PUB. If all PUBs of a job need the same shots, there is one PUB, with
    points repeated that have more; each repetition has a result, and a row in the ledger, of its
    own.

    Samples of a seeded qnode follow from the seed, the call's number and the points that are run
    together, so that the same program gives the same numbers again, on any number of workers.
    """

    takes_seed = uses_workers = True
    has_jobs = True

    def __init__(self, device: EstimatorDevice, seed: int | None = None) -> None:
        super().__init__(device, device.seed if seed is None else seed)
        self._target = device.target
        self._seed = () if self.seed is None else tuple(np.atleast_1d(self.seed).tolist())
        self._prepare = Preparation(device.target, device.wires or ())
        target: Any = device.target
        self._learner = None
        if target.is_remote and target.usage.learns and device.ledger is not None:
            about = device.limits, device.budget, device.ledger, device.run
            self._learner = Learner(target, *about)
            self._prepare.sent = target.usage.informed()
        repeats = device.repeats_points or device.limits.pubs < _MANY_PUBS
        self.numbers = "multiples" if repeats else "few"
        self._pubs = partial(pubs, self._prepare, repeats=repeats)

    @property
    def name(self) -> str:
        """The name of the backend."""
        return self._target.name

    def run(self, circuit: Circuit, points: np.ndarray, call: Call) -> np.ndarray:
        """See `Executor`. Raises the same errors as `run_together`."""
        return self._together([_Request(circuit, points, call.shots)], call)[0][0]

    def sample(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns values, and their variances from the primitives' standard errors and counts; see
        `Executor`.

        Simulators of this process estimate the standard errors from the samples. A service has its
        own, with the effects of error mitigation. A ledger keeps them with the values; results that
        a simulator has stored when no errors were asked for have those of Qiskit's estimator, which
        are upper bounds for sums of Pauli words. Raises the same errors as `run_together`.
        """
        request = _Request(circuit, points, call.shots)
        values, variances, added = self._together([request], call, errors=True)[0]
        return values, variances, added

    def allots(self, circuit: Circuit) -> bool:
        """Whether each point may have its own number of shots."""
        own = bool(circuit.shots) and not circuit.shots.has_partitioned_shots
        return own and not self._prepare.has_copies  # which share the shots of the circuit

    def _track(self, circuit: Circuit, points: int, call: Call | None) -> None:
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
        asked = [_Request(*request) for request in requests]
        return [values for (values,) in self._together(asked, call)]

    def _together(
        self, requests: Sequence[_Request], call: Call, errors: bool = False
    ) -> list[np.ndarray]:
        """Returns for each request its values, and if asked for their variances, and what was added
        to these: float64[1 or 3, N, M]."""
        results, sendable = [], []
        for circuit, points, shots in requests:
            finite = np.isfinite(points).all(axis=1) & circuit.is_finite
            shape = 3 if errors else 1, len(points), circuit.num_values
            results.append((finite, np.full(shape, np.nan)))
            if finite.any():
                # Transpilers add constants to angles, which costs large angles their digits.
                near = circuit.shifted.near(points[finite])
                sendable.append(_Request(circuit, near, None if shots is None else shots[finite]))
        found = iter(self._run(sendable, call, errors) if sendable else ())
        for finite, values in results:
            if finite.any():
                values[:, finite] = next(found)
        return [values for _, values in results]

    def _run(self, requests: Sequence[_Request], call: Call, errors: bool) -> list[np.ndarray]:
        """Runs circuits, each at one or more points with finite angles."""
        found = [list(self._pubs(*request, errors)) for request in requests]
        batch = self._measure([pub for some in found for pub in some], call)
        measured, sent = iter(batch.results), iter(batch.sent)
        results, circuits = [], 0
        for (circuit, points, _), some in zip(requests, found, strict=True):
            constants = self._prepare.planned(circuit).readings.constants
            height = 3 if errors else 1
            values = np.zeros((height, len(points), circuit.copies, len(constants)))
            values[0] = constants
            for pub in some:
                pub.read(next(measured), values)
            rows = [pub.rows[list(next(sent))] for pub in some]
            circuits += len(np.unique(np.concatenate(rows))) if some else len(points)
            results.append(values.reshape(*values.shape[:2], circuit.copies * len(constants)))
        Tracker.record(batches=int(circuits > 0), circuits=circuits)
        return results

    def _measure(self, pubs: Sequence[CircuitPub], call: Call) -> Batch:
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
                learner=self._learner,
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
        self, pubs: Sequence[CircuitPub], settings: Any, scope: Any, call: Call
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

    def _contents(self, pub: CircuitPub, settings: Any) -> list[bytes]:
        """Returns the digests of all points of a PUB."""
        observed, sampled = self._prepare.content(pub.circuit, settings)
        prefix = observed if pub.basis is None else sampled[pub.basis]
        return digests.of_points(digests.digest(prefix, b"%d" % pub.shots), pub.points)

    @contextlib.contextmanager
    def choices(
        self,
        circuit: Circuit,
        of: bytes,
        number: int,
        batch: Sequence[int],
        count: int,
    ) -> Iterator[np.ndarray]:
        """See `Executor`. Where a ledger keeps samples without a seed, choices are repeated as
        samples are: the first of a batch in each run of a program, the second, and so on."""
        ledger = self.device.ledger
        if ledger is None or self._seed:
            with super().choices(circuit, of, number, batch, count) as found:
                yield found
            return
        scope = ledger.path, self.device.run, ()
        about = circuit.name, of, repr(tuple(batch)).encode()
        content = [digests.digest(b"choices", *about)]
        draws = _draws.take(scope, content, (), Call(number))
        try:
            yield fractions(list(draws[0]), 0, b"", (), count)
        except BaseException:
            _draws.give_back(scope, content, draws)
            raise

    def jobs(self, circuit: Circuit, points: int) -> int:
        """Returns how many jobs a batch of so many points of a circuit takes."""
        return len(self._planned_jobs(circuit, points)[0])

    def seconds(self, circuit: Circuit, points: int) -> float | None:
        """Returns how many QPU seconds a batch takes, by the formula of `usage`.

        A fake backend gives the time of the backend that it imitates. Simulators give None.
        """
        return self._seconds(*self._planned_jobs(circuit, points))

    def seconds_alone(self, circuit: Circuit, points: int) -> float | None:
        """See `Executor`."""
        return self._seconds(*self._planned_jobs(circuit, points, copies=1))

    def costs(self, circuit: Circuit, shots: np.ndarray) -> tuple[int, float | None]:
        """See `Executor`."""
        jobs, loads = self._planned_jobs(circuit, len(shots), shots)
        return len(jobs), self._seconds(jobs, loads)

    def samples(self, circuit: Circuit, points: int, shots: np.ndarray | None = None) -> int:
        """See `Executor`."""
        jobs, loads = self._planned_jobs(circuit, points, shots)
        return sum(samples(job, loads.__getitem__) for job in jobs)

    def bases(self, circuit: Circuit) -> int:
        """See `Executor`. The backend is not contacted; on the qubits that are chosen there, sums
        of words may take another number of bases, which `shots` knows."""
        planned = self._prepare.planned(circuit)
        return planned.bases + len(planned.sampled)

    def shots(self, circuit: Circuit) -> int:
        """Returns how many samples are drawn at each point of a circuit, in all bases."""
        return sum(load.shots for load in self._planned_jobs(circuit, 1)[1])

    def _planned_jobs(
        self,
        circuit: Circuit,
        points: int,
        shots: np.ndarray | None = None,
        copies: int | None = None,
    ) -> tuple[list[Parcel], list[Load]]:
        """Returns the jobs of a batch, and how much each of its PUBs takes of a job's limits.

        Where QPU seconds depend on it, the circuit is transpiled; the later run uses the result.
        """
        nowhere = np.broadcast_to(0.0, (points, circuit.num_parameters))
        is_timed = not self._target.is_aer
        ready = self._prepare(circuit) if is_timed else self._prepare.planned(circuit)
        planned: list[Any] = list(self._pubs(circuit, nowhere, shots))
        loads = [pub.load_of(ready, copies) for pub in planned]
        rows = [range(load.rows) for load in loads]
        return parcels(self._target, planned, rows, self.device.limits, loads), loads

    def _seconds(self, jobs: Sequence[Parcel], loads: Sequence[Load]) -> float | None:
        return None if self._target.is_aer else qpu_seconds(jobs, loads.__getitem__)
