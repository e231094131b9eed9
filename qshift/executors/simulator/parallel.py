"""Threads that share the parts of a long batch.

They gain while compiled code runs, as this lets other threads run. All batches in this process
together start no more threads than there are further cores.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from qshift import cores
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds
from qshift.forks import Lock, in_children
from qshift.thread_flags import ThreadFlag


class _Helpers:
    """The number of threads that help with batches in this process."""

    def __init__(self) -> None:
        self._count, self._lock = 0, Lock()
        in_children(self)

    def inherit(self) -> None:
        """Forgets the parent's threads, which the child of a fork does not have."""
        self._count = 0

    def take(self, wanted: int, most: int) -> int:
        """Returns how many further threads may start, where there may be `most` in all."""
        with self._lock:
            taken = max(0, min(wanted, most - self._count))
            self._count += taken
            return taken

    def give_back(self, count: int) -> None:
        with self._lock:
            self._count = max(0, self._count - count)


_helpers = _Helpers()
_alone = ThreadFlag()
# alone() is a context in which batches of this thread run on no other threads, as other processes
# use the other cores.
alone = _alone.set


class Pace:
    """How long a part of the latest batch took.

    Attributes:
        seconds: That time; zero before the first batch.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


def spread(
    parts: Sequence[Any],
    work: Callable[[Any], Any],
    thresholds: Thresholds = DEFAULT,
    pace: Pace | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yields (part, work(part)) for all parts, in any order.

    This thread computes all of them, unless that takes long and there are further cores.

    Args:
        parts: The parts.
        work: Returns the result of one part.
        thresholds: When other threads are started, and how many.
        pace: That of other batches with the same work, with which threads start before the first
            part is done; it is set to that of this one.
    """
    pending, found = deque(parts), SimpleQueue[Any]()
    pace = pace or Pace()
    threads: list[threading.Thread] = []

    def get_help() -> None:
        left = len(pending) * pace.seconds
        if not threads and left > thresholds.patience and not _alone.is_set:
            most = (thresholds.threads or cores.available()) - 1
            for _ in range(_helpers.take(len(pending), most)):
                thread = threading.Thread(target=_help, args=(pending, work, found))
                threads.append(thread)
                thread.start()

    try:
        start, done = time.monotonic(), 0
        while (part := _next(pending)) is not _NOTHING:
            get_help()
            yield part, work(part)
            done += 1
            pace.seconds = (time.monotonic() - start) / done
            while not found.empty():
                yield _result(found)
        for thread in threads:
            thread.join()
        while not found.empty():
            yield _result(found)
    finally:
        pending.clear()
        for thread in threads:
            thread.join()
        _helpers.give_back(len(threads))


_NOTHING = object()


def _next(pending: deque) -> Any:
    try:
        return pending.popleft()
    except IndexError:
        return _NOTHING


def _help(pending: deque, work: Callable[[Any], Any], found: SimpleQueue) -> None:
    while (part := _next(pending)) is not _NOTHING:
        try:
            found.put((part, work(part), None))
        except BaseException as error:
            pending.clear()
            found.put((part, None, error))


def _result(found: SimpleQueue) -> tuple[Any, Any]:
    part, result, error = found.get()
    if error is not None:
        raise error
    return part, result
