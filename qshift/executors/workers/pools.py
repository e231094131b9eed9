"""Pools of workers: processes of this machine, Dask clusters, executors of concurrent.futures."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from typing import Any, Protocol

from qshift import cores
from qshift.errors import WorkerError
from qshift.executors.workers import on_worker, own_process, versions
from qshift.executors.workers.given import checked, require_packages
from qshift.forks import Lock, in_children

_REFRESH = 1.0  # seconds for which the size of a cluster is remembered
_PATIENCE = 60.0  # seconds that a cluster may have no workers when it is first used


class Lane(Protocol):
    """Workers that tasks are submitted to together.

    Attributes:
        has: The digests of what all workers of the lane have.
        is_own: Whether the lane's processes are qshift's own.
        is_over: Whether the lane takes no tasks any more, and is known not to.
    """

    has: set[bytes]
    is_own: bool

    @property
    def is_over(self) -> bool: ...

    def submit(self, function: Callable, *arguments: Any, name: str) -> Any:
        """Returns a future, which calls back when it is done, and can be cancelled."""
        ...

    def hands(self, out: Iterable[Any]) -> int:
        """Returns how many tasks run at once, given the lane's futures that are not done."""
        ...

    def renew(self, future: Any) -> bool:
        """Replaces the worker that was lost with a future; returns whether there is one again."""
        ...

    def close(self) -> None:
        """Ends processes that are qshift's own."""
        ...


class _Process:
    """A process of this machine.

    Args:
        threads: How many threads libraries like Aer and BLAS may start there.
    """

    is_own = True
    is_over = False

    def __init__(self, threads: int) -> None:
        self._threads = str(threads)
        self.has: set[bytes] = set()
        self._pool: Any = None
        self._homes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._lock = Lock()

    def submit(self, function: Callable, *arguments: Any, name: str) -> Future:
        with self._lock:
            try:
                return self._submitted(function, arguments)
            except BrokenExecutor:
                self.close()
                return self._submitted(function, arguments)

    def _submitted(self, function: Callable, arguments: tuple) -> Future:
        if self._pool is None:
            import loky  # Late: it belongs to an extra.

            self._pool = loky.ProcessPoolExecutor(
                max_workers=1,
                initializer=own_process.begin,
                initargs=(os.getpid(),),
                env={"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": self._threads},
            )
        future = self._pool.submit(function, *arguments)
        self._homes[future] = self._pool
        return future

    def hands(self, out: Iterable[Any]) -> int:
        return 1

    def renew(self, future: Any) -> bool:
        with self._lock:
            # Another batch may have renewed it.
            if self._pool is not None and self._homes.get(future, self._pool) is self._pool:
                self.close()
        return True

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
            self.has = set()
        if pool is not None:
            pool.shutdown(wait=False, kill_workers=True)


class _Futures:
    """The workers of an executor of `concurrent.futures`."""

    is_own = False
    is_over = False

    def __init__(self, executor: Any) -> None:
        self.has: set[bytes] = set()
        self._executor = executor
        self._seen = os.cpu_count() or 1

    def submit(self, function: Callable, *arguments: Any, name: str) -> Any:
        return self._executor.submit(function, *arguments)

    def hands(self, out: Iterable[Any]) -> int:
        # There is no public way to ask an executor for its size, but mpi4py's. Others have more
        # workers than was known as long as no future has to wait.
        if known := getattr(self._executor, "num_workers", None):
            return known
        out = list(out)
        if len(out) >= 2 * self._seen and all(future.running() for future in out):
            self._seen *= 2
        return self._seen

    def renew(self, future: Any) -> bool:
        return False

    def close(self) -> None:
        pass


class _Cluster:
    """The workers of a Dask cluster."""

    is_own = False

    def __init__(self, client: Any, owned: Sequence[Any] = ()) -> None:
        self.has: set[bytes] = set()
        self.client, self._owned = client, owned
        self._count, self._asked = 1, -_REFRESH

    @property
    def is_over(self) -> bool:
        """Whether the client is closed, as it is for good some time after its scheduler is lost."""
        return self.client.status in ("closing", "closed")

    def submit(self, function: Callable, *arguments: Any, name: str) -> Any:
        if self.is_over:
            raise BrokenExecutor(f"{self.client} is closed")
        key = f"{name}-{os.urandom(8).hex()}"  # the dashboard leaves such an ending out
        return self.client.submit(function, *arguments, key=key, pure=False)

    def hands(self, out: Iterable[Any]) -> int:
        if time.monotonic() - self._asked > _REFRESH:
            # Where the scheduler is lost, futures say so.
            with suppress(OSError):
                if self.client.status == "running":
                    self._count = max(1, sum(self.client.nthreads().values()))
            self._asked = time.monotonic()
        return self._count

    def renew(self, future: Any) -> bool:
        return False  # Dask itself runs tasks again whose worker was lost

    def close(self) -> None:
        for each in self._owned:
            each.close()


class Workers:
    """Workers that run parts of batches. They start when they are first needed.

    Args:
        given: As for the keyword ``workers`` of `qshift.device`.

    Attributes:
        given: What was given.
        latency: Seconds that a message to a worker and its answer take.

    Raises:
        OptionError: For anything else.
        MissingExtraError: If loky or Dask is needed and not installed.
    """

    stays_home = True  # it is not sent to workers

    def __init__(self, given: Any) -> None:
        self.given = checked(given)
        require_packages(self.given)
        self.latency = 0.0
        self._lanes: list[Any] = []
        self._of_parent: list[Any] = []
        self._lock = Lock()
        self._closing = weakref.finalize(self, _close, self._lanes)
        in_children(self)

    def __copy__(self) -> Workers:
        return self

    def __deepcopy__(self, memo: Any) -> Workers:
        return self

    def __reduce__(self) -> Any:
        if not isinstance(self.given, int | str):
            raise TypeError(
                f"workers={self.given!r} cannot be pickled. Give a number, or the address of a "
                "Dask scheduler, where a device has to be pickled."
            )
        return Workers, (self.given,)

    def __repr__(self) -> str:
        return f"Workers({self.given!r})"

    def __bool__(self) -> bool:
        """Whether there are any."""
        return not isinstance(self.given, int) or self.given > 0

    def inherit(self) -> None:
        """Leaves the parent's workers alone in the child of a fork, which cannot reach them."""
        # They are kept: to take them apart, Python would wait for threads that the child lacks.
        self._of_parent, self._lanes = [*self._of_parent, *self._lanes], []
        self._closing.detach()

    @property
    def is_open(self) -> bool:
        """Whether the workers have started."""
        return bool(self._lanes)

    def start(self) -> Sequence[Lane]:
        """Starts the workers if need be, and returns their lanes.

        Raises:
            WorkerError: If a worker lacks a package, has another version, or cannot be reached.
        """
        with self._lock:
            if any(lane.is_over for lane in self._lanes):
                self._closing()
            if not self._lanes:
                made = _opened(self.given)
                try:
                    self.latency = _greeted(made)
                except BaseException:
                    _close(made)
                    raise
                self._lanes.extend(made)
                if not self._closing.alive:  # closed before, or the child of a fork
                    self._closing = weakref.finalize(self, _close, self._lanes)
            return tuple(self._lanes)

    def close(self) -> None:
        """Ends the processes that these workers have started. They start again when needed."""
        with self._lock:
            self._closing()
            self._lanes = []


def _opened(given: Any) -> list[Any]:
    if isinstance(given, int):
        # Together they use each core once: more threads than cores wait for each other.
        return [_Process(max(1, cores.available() // given)) for _ in range(given)]
    if isinstance(given, str):
        from qshift.executors.workers import dask_internals as dask

        return [_Cluster(*dask.connected(given))]
    if hasattr(given, "scheduler_info"):  # a Dask client; importing Dask takes long
        return [_Cluster(given)]
    if type(given).__module__.startswith("distributed."):
        from qshift.executors.workers import dask_internals as dask

        return [_Cluster(dask.client_of(given))]
    return [_Futures(given)]


def _greeted(lanes: Sequence[Any]) -> float:
    """Asks workers for their versions, and returns how long a message takes."""
    for lane in lanes:
        if isinstance(lane, _Cluster):
            if lane.is_over:
                raise WorkerError(f"workers={lane.client} is closed. Give a client that is not.")
            try:
                lane.client.wait_for_workers(1, timeout=_PATIENCE)
            except TimeoutError as error:
                raise WorkerError(
                    f"The Dask cluster {lane.client} has had no workers for {_PATIENCE:.0f} "
                    "seconds. Start some; `dask worker ADDRESS` starts one."
                ) from error
            for address, found in lane.client.run(eval, versions.PROBE).items():
                versions.require_equal(found, f"The Dask worker {address}")
            lane.client.run(eval, on_worker.LOAD)  # imports what takes seconds, everywhere at once
    try:
        asked = [lane.submit(eval, versions.PROBE, name="qshift-versions") for lane in lanes]
        for future in asked:
            versions.require_equal(future.result(), "A worker")
        return min(_echoes(lanes[0]))
    except BrokenExecutor as error:
        raise WorkerError(_cannot_start(error)) from error
    except RuntimeError as error:
        raise WorkerError(f"The workers take no tasks ({error}). Give others.") from error


def _echoes(lane: Any) -> Iterator[float]:
    for _ in range(3):
        start = time.monotonic()
        lane.submit(eval, "0", name="qshift-echo").result()
        yield time.monotonic() - start


def _cannot_start(error: BaseException) -> str:
    return (
        f"The workers cannot start, or ended at once: {error}. Where they are processes of "
        'ProcessPoolExecutor, the script needs `if __name__ == "__main__":` around what it runs; '
        "workers=NUMBER does without."
    )


def _close(lanes: list[Any]) -> None:
    for lane in lanes:
        lane.close()
    lanes.clear()
