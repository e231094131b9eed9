"""An executor that shares its batches out among workers."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from qshift.circuits.circuit import Circuit
from qshift.circuits.pennylane_internals import DeviceRandomness, without_state
from qshift.errors import UnsupportedError
from qshift.executors.executor import Call, Calls, Executor
from qshift.executors.seeding import counted
from qshift.executors.workers.chunk_sizes import ChunkSizes, gaps
from qshift.executors.workers.dispatch import Parcel, share
from qshift.executors.workers.on_worker import (
    ESTIMATES,
    GRADIENTS,
    JOINTLY,
    VALUES,
    Parts,
    computed,
    pickled,
)
from qshift.executors.workers.pools import Workers
from qshift.forks import Lock
from qshift.progress import track


@dataclass
class _Batch:
    """A batch that is being run.

    Attributes:
        circuit: Refers to the circuit.
        kind: What is computed, see `on_worker.computed`.
        points: float64[N, P].
        found: float64[N, ...], the results.
        done: bool[N], whether a row has its result.
    """

    circuit: weakref.ref
    kind: str
    points: np.ndarray
    found: np.ndarray
    done: np.ndarray

    def store(self, rows: range, found: np.ndarray) -> None:
        """Keeps the results of some rows."""
        self.found[rows.start : rows.stop] = found
        self.done[rows.start : rows.stop] = True


class WorkersExecutor(Executor):
    """Runs the circuits of another executor on workers; see `qshift.executors.executor.Executor`.

    What is short runs in this process, and all of it if there are 0 workers. Results are equal to
    the last bit for any number of workers: a batch is cut where that changes no rounding
    (`Executor.grain`), and samples follow from the seed, the circuit, the point and the number of
    the run, which only this process counts.

    Args:
        local: The other executor.
        maker: Makes executors like it of a device and a seed, as for `qshift.executors.registry`.
        workers: The workers.

    Raises:
        UnsupportedError: If the device cannot be pickled.

    Attributes:
        local: The executor that runs in this process.
    """

    takes_seed = True

    def __init__(
        self, local: Executor, maker: Callable[[Any, Any], Executor], workers: Workers
    ) -> None:
        super().__init__(local.device, local.seed)
        self.local = local
        self.differentiates_gates = self.local.differentiates_gates
        self.watchers, self.unwatched = local.watchers, local.unwatched
        self.has_jobs, self.numbers = local.has_jobs, local.numbers
        self._maker, self._workers = maker, workers
        self._fresh: tuple[list[int], Executor, Calls] | None = None
        self._lock = Lock()
        self._shared: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        # Circuit -> seconds that a point takes, of values and of gradients.
        self._seconds: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        # The latest exact batch that was not finished, with what has come back.
        self._unfinished: _Batch | None = None
        try:
            if workers:
                pickled((maker, without_state(self.device)))
        except Exception as error:
            raise UnsupportedError(
                f"workers= was given, but the device {self.name} cannot be pickled, and so not be "
                f"sent to workers: {error}. Leave workers= out, or take another device."
            ) from error

    # --- what does not run circuits ---

    @property
    def name(self) -> str:
        """The name of the device in messages."""
        return self.local.name

    def require_gradients(self, circuit: Circuit) -> None:
        """See `Executor`."""
        self.local.require_gradients(circuit)

    def differentiates(self, circuit: Circuit) -> bool:
        """See `Executor`."""
        return self.local.differentiates(circuit)

    def shots(self, circuit: Circuit) -> int:
        """See `Executor`."""
        return self.local.shots(circuit)

    def bases(self, circuit: Circuit) -> int:
        """See `Executor`."""
        return self.local.bases(circuit)

    def jobs(self, circuit: Circuit, points: int) -> int:
        """See `Executor`."""
        return self.local.jobs(circuit, points)

    def seconds(self, circuit: Circuit, points: int) -> float | None:
        """See `Executor`."""
        return self.local.seconds(circuit, points)

    def costs(self, circuit: Circuit, shots: np.ndarray) -> tuple[int, float | None]:
        """See `Executor`."""
        return self.local.costs(circuit, shots)

    def grain(self, circuit: Circuit) -> int | None:
        """See `Executor`."""
        return self.local.grain(circuit)

    def allots(self, circuit: Circuit) -> bool:
        """See `Executor`."""
        return self.local.allots(circuit)

    def require_errors(self, circuit: Circuit) -> None:
        """See `Executor`."""
        self.local.require_errors(circuit)

    def in_tensorflow(self, circuit: Circuit) -> Callable[[Any], Any]:
        """See `Executor`."""
        return self.local.in_tensorflow(circuit)

    # --- what does ---

    def run(self, circuit: Circuit, points: np.ndarray, call: Call) -> np.ndarray:
        """See `Executor`."""
        if not self._can_share(circuit, points):
            return self.local.run(circuit, points, call)
        return self._run(VALUES, circuit, points, *self._seeded(circuit, call))

    def sample(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Executor`."""
        if not self._can_share(circuit, points):
            return self.local.sample(circuit, points, call)
        found = self._run(ESTIMATES, circuit, points, *self._seeded(circuit, call))
        return found[:, 0], found[:, 1], found[:, 2]

    def sample_jointly(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Executor`."""
        if not self._can_share(circuit, points):
            return self.local.sample_jointly(circuit, points, call)
        found = self._run(JOINTLY, circuit, points, *self._seeded(circuit, call))
        return found[:, 0], found[:, 1:-1], found[:, -1]

    def differentiate(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """See `Executor`."""
        if not self._can_share(circuit, points):
            return self.local.differentiate(circuit, points)
        self.local.require_gradients(circuit)
        return self._run(GRADIENTS, circuit, points, self.seed, self.local, Call(0))

    def _can_share(self, circuit: Circuit, points: np.ndarray) -> bool:
        if not (self._workers or circuit.shots):
            return False  # without workers, only samples have to be drawn as with them
        if self.watchers() != self.unwatched or self._is_tracked():
            return False  # whoever watches the device watches it in this process
        grain = self.local.grain(circuit)
        return grain is not None and len(points) > grain

    def _is_tracked(self) -> bool:
        return bool(getattr(getattr(self.device, "tracker", None), "active", False))

    def _seeded(self, circuit: Circuit, call: Call) -> tuple[Any, Executor, Call]:
        """Returns a seed, an executor that draws samples by it, and the call they are drawn for."""
        if not circuit.shots or self.seed is not None:
            return self.seed, self.local, call
        seed, local, calls = self._freshly_seeded()
        return seed, local, Call(next(calls), shots=call.shots)

    def _freshly_seeded(self) -> tuple[list[int], Executor, Calls]:
        """Returns a seed for samples that need not be repeated, an executor that draws by it, and
        numbers of calls; copies of a device on several workers would draw the same samples."""
        with self._lock:
            if self._fresh is None:
                randomness = DeviceRandomness(self.device)
                known = randomness.get() if randomness.is_known else None
                rng = known if isinstance(known, np.random.Generator) else np.random.default_rng()
                seed = rng.integers(2**32, size=4).tolist()
                try:
                    self._fresh = seed, self._maker(self.device, seed), Calls()
                except UnsupportedError as error:
                    raise UnsupportedError(
                        f"workers= was given, but the samples of {self.name} cannot be seeded, so "
                        "that several workers could draw the same ones. Leave workers= out, or "
                        f"shots=. ({error})"
                    ) from error
            return self._fresh

    def _run(
        self,
        kind: str,
        circuit: Circuit,
        points: np.ndarray,
        seed: Any,
        local: Executor,
        call: Call,
    ) -> np.ndarray:
        """Runs a batch, here as long as what is left is short, and the rest on workers."""
        batch = self._begun(kind, circuit, points)
        known = self._seconds.setdefault(circuit, {})
        sizes = ChunkSizes(self.local.grain(circuit) or 1, known.get(kind))
        left = gaps(batch.done)

        def here(rows: range) -> np.ndarray:
            some = batch.points[rows.start : rows.stop]
            return computed(local, kind, circuit, some, call.part(rows.start, len(rows)))

        there = partial(self._parcel, batch, circuit, seed, call)
        name = f"qshift-{kind}-{self.name}"
        shared = share(self._workers, name, left, sizes, here, there, batch.store)
        try:
            with closing(shared) as stored:
                for _ in track(stored, sum(map(len, left)), len, "circuits"):
                    pass
        except BaseException:
            if not circuit.shots:
                self._unfinished = batch
            raise
        known[kind] = sizes.seconds
        return batch.found

    def _begun(self, kind: str, circuit: Circuit, points: np.ndarray) -> _Batch:
        """Returns the same batch as far as it was run before it failed, or a new one."""
        old = self._unfinished
        if old is not None and old.circuit() is circuit and old.kind == kind:
            if np.array_equal(old.points, points):
                self._unfinished = None
                return old
        shape: tuple[int, ...] = (len(points), circuit.num_values)
        if kind == GRADIENTS:
            shape = (*shape, circuit.num_parameters)
        if kind in (ESTIMATES, JOINTLY):
            rows = 2 if kind == ESTIMATES else circuit.num_values + 1
            shape = (len(points), 1 + rows, circuit.num_values)
        done = np.zeros(len(points), bool)
        return _Batch(weakref.ref(circuit), kind, points.copy(), np.empty(shape), done)

    def _parcel(
        self, batch: _Batch, circuit: Circuit, seed: Any, call: Call, left: list[range]
    ) -> Parcel:
        """Returns what workers need for the points that are left."""
        draws: Any = None
        if circuit.shots:
            (rows,) = left
            with self._lock:
                draws = counted(circuit, batch.points[rows.start : rows.stop], call)
            draws = [0] * rows.start + draws

        def arguments(rows: range) -> tuple:
            some = slice(rows.start, rows.stop)
            shots = None if call.shots is None else call.shots[some]
            return batch.kind, batch.points[some], call.number, draws and draws[some], shots

        return Parcel(self._parts(circuit, seed), arguments)

    def _parts(self, circuit: Circuit, seed: Any) -> bytes:
        """Returns what workers have to load in order to run a circuit."""
        with self._lock:
            known = self._shared.setdefault(circuit, {})
            if str(seed) not in known:
                try:
                    device = without_state(self.device)
                    known[str(seed)] = pickled(Parts(self._maker, device, seed, circuit))
                except Exception as error:
                    raise UnsupportedError(
                        "workers= was given, but a circuit cannot be pickled, and so not be sent "
                        f"to workers: {error}. Leave workers= out, or let its gates hold numbers "
                        "and arrays only."
                    ) from error
            return known[str(seed)]
