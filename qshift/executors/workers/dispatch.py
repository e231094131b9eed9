"""Chunks of a batch go out to workers, and come back."""

from __future__ import annotations

import collections
import hashlib
import pickle
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from qshift.errors import WorkerError
from qshift.executors.workers import versions
from qshift.executors.workers.chunk_sizes import ChunkSizes, taken
from qshift.executors.workers.on_worker import RUN, Answer, Task
from qshift.executors.workers.pools import Lane, Workers
from qshift.progress import hidden

_WORTHWHILE = 0.05  # seconds that the rest of a batch must take to go out
_WORTH_STARTING = 1.0  # the same while workers have not started
_AHEAD = 2  # chunks for each that a worker runs, so that none waits for the next one
_LOSSES = 5  # workers that may be lost with the same chunk, or one after the other
_LOOK = 0.1  # seconds after which it is looked again how many workers there are


class Parcel(NamedTuple):
    """What goes to workers for a batch.

    Attributes:
        shared: What workers have to load, see `on_worker.Task`.
        arguments: Returns the arguments of the loaded function for some rows.
    """

    shared: bytes
    arguments: Callable[[range], tuple]

    @property
    def key(self) -> bytes:
        """The digest of what workers have to load."""
        return hashlib.blake2b(self.shared, digest_size=16).digest()


def share(
    workers: Workers,
    name: str,
    left: list[range],
    sizes: ChunkSizes,
    here: Callable[[range], Any],
    there: Callable[[list[range]], Parcel],
    store: Callable[[range, Any], None],
) -> Generator[range, None, None]:
    """Computes the first rows of a batch in this process, until it pays to send the others.

    Args:
        workers: The workers.
        name: What tasks are called where people see them.
        left: The rows to compute.
        sizes: The sizes of chunks.
        here: Computes some rows in this process.
        there: Returns what goes to workers for the rows that are left.
        store: Called with rows and their results as they come back.

    Yields:
        Rows whose results are stored.

    Raises:
        WorkerError: If workers are lost that cannot be replaced, or have other versions.
    """
    size = sizes.grain
    while left:
        worthwhile = _WORTHWHILE if workers.is_open else _WORTH_STARTING
        known = sizes.seconds if workers else None
        if known is not None and known * sum(map(len, left)) > worthwhile:
            yield from Dispatch(workers, name, there(left), left, sizes, store).run()
            return
        rows = taken(left, size)
        start = time.perf_counter()
        with hidden():
            store(rows, here(rows))
        sizes.learn(len(rows), time.perf_counter() - start)
        yield rows
        size *= 2  # the first rows may have compiled something, and tell little


@dataclass
class _Chunk:
    """Points that are out.

    Attributes:
        rows: The points.
        lane: Where they run.
        losses: How many workers were lost while they ran.
        is_lost: Whether their worker is known to be lost.
    """

    rows: range
    lane: Lane
    losses: int = 0
    is_lost: bool = False


class Dispatch:
    """One batch that runs on workers.

    Args:
        workers: The workers.
        name: What tasks are called where people see them.
        parcel: What goes to the workers.
        left: The rows to run.
        sizes: The sizes of chunks.
        store: Called with rows and their results as they come back.
    """

    def __init__(
        self,
        workers: Workers,
        name: str,
        parcel: Parcel,
        left: list[range],
        sizes: ChunkSizes,
        store: Callable[[range, Any], None],
    ) -> None:
        self._name, self._left, self._sizes, self._store = name, left, sizes, store
        self._key, self._shared, self._arguments = parcel.key, parcel.shared, parcel.arguments
        self._lanes, self._latency = workers.start(), workers.latency
        self._out: dict[Any, _Chunk] = {}  # in the order in which they were sent
        # Lane -> workers that were lost one after the other, without a result in between.
        self._lost: dict[int, int] = {}
        self._done: SimpleQueue[Any] = SimpleQueue()

    def run(self) -> Generator[range, None, None]:
        """Yields the rows whose results have come back and are stored.

        Raises:
            WorkerError: If workers are lost that cannot be replaced, or have other versions.
        """
        try:
            self._send()
            while self._out:
                try:
                    future = self._done.get(timeout=_LOOK)
                except Empty:
                    self._send()
                    continue
                answer = self._answer(future, chunk := self._out[future])
                if answer is not None:
                    self._store(chunk.rows, answer.content)
                    self._sizes.learn(len(chunk.rows), answer.seconds)
                self._send()
                if answer is not None:
                    yield chunk.rows
        except KeyboardInterrupt:
            for future, chunk in self._out.items():
                if chunk.lane.is_own:
                    chunk.lane.renew(future)  # what runs there would go on
            raise
        finally:
            for future in self._out:
                future.cancel()

    def _send(self) -> None:
        """Sends chunks until all workers have some ahead."""
        waiting: dict[int, list[Any]] = {id(lane): [] for lane in self._lanes}
        for future, chunk in self._out.items():
            waiting[id(chunk.lane)].append(future)
        hands = {id(lane): lane.hands(waiting[id(lane)]) for lane in self._lanes}
        total = sum(hands.values())
        for ahead in range(1, _AHEAD + 1):
            for lane in self._lanes:
                while self._left and len(waiting[id(lane)]) < ahead * hands[id(lane)]:
                    left = sum(map(len, self._left))
                    size = self._sizes.next(left, total, self._latency)
                    chunk = _Chunk(taken(self._left, size), lane)
                    waiting[id(lane)].append(self._submit(chunk))

    def _submit(self, chunk: _Chunk, complete: bool = False) -> Any:
        """Sends a chunk; `complete` if with all that a worker has to load."""
        lane = chunk.lane
        if lane.is_own and self._key not in lane.has:
            complete = True
            lane.has.add(self._key)
        shared = self._shared if complete else None
        task = pickle.dumps(Task(self._key, shared, self._arguments(chunk.rows)))
        sent = {"task": task, "versions": dict(versions.own())}
        try:
            future = lane.submit(eval, RUN, sent, name=self._name)
        except RuntimeError as error:  # broken, or shut down
            raise _lost(error) from error
        self._out[future] = chunk
        future.add_done_callback(self._done.put)
        return future

    def _answer(self, future: Any, chunk: _Chunk) -> Answer | None:
        """Returns what has come back; None if the chunk was sent again."""
        try:
            found = future.result()
        except Exception as error:  # of the pool; those of the work come as answers
            if not chunk.is_lost:
                self._take_note(chunk.lane)
                if self._lost[id(chunk.lane)] > _LOSSES or not chunk.lane.renew(future):
                    raise _lost(error) from error
            if chunk.losses > _LOSSES:
                raise _lost(error) from error
            del self._out[future]
            self._again(chunk)
            return None
        del self._out[future]
        self._lost[id(chunk.lane)] = 0
        if isinstance(found, dict):
            versions.require_equal(found, found["where"])
        answer = pickle.loads(found)
        if answer.kind == "lacks":
            self._submit(chunk, complete=True)
            return None
        if answer.kind == "failed":
            raise answer.content
        return answer

    def _take_note(self, lane: Lane) -> None:
        """Takes note that the worker of a lane was lost, with all chunks that it had."""
        self._lost[id(lane)] = self._lost.get(id(lane), 0) + 1
        had = [chunk for chunk in self._out.values() if chunk.lane is lane]
        for chunk in had:
            chunk.is_lost = True
        had[0].losses += 1  # the others were waiting for it

    def _again(self, chunk: _Chunk) -> None:
        """Sends the points of a chunk that was lost again, if possible to workers that are up."""
        left, size = [chunk.rows], len(chunk.rows)
        if chunk.losses == 1:  # the loss of another worker costs less
            size = self._sizes.grain
        others = [lane for lane in self._lanes if lane is not chunk.lane] or [chunk.lane]
        busy = collections.Counter(id(each.lane) for each in self._out.values())
        lane = min(others, key=lambda lane: busy[id(lane)])
        while left:
            self._submit(_Chunk(taken(left, size), lane, chunk.losses))


def _lost(error: BaseException) -> WorkerError:
    return WorkerError(
        f"Workers were lost, and nothing replaces them ({type(error).__name__}: {error}). Exact "
        "results that had arrived are kept: the same call runs the rest. Start the workers again "
        "first, or give a number of processes, which replaces those that are lost."
    )
