"""Other processes that help with long batches.

Threads would not: lightning's compiled kernels hold the interpreter's lock.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any

from qshift.executors.simulator.measurement_bases import NotCoveredError
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds
from qshift.fallbacks import warn_slower
from qshift.forks import lineage

_AHEAD = 2  # chunks for each process, so that it does not wait for the next


def spread(
    chunks: Sequence, here: Callable, there: Callable, thresholds: Thresholds = DEFAULT
) -> Iterator:
    """Yields (chunk, result) for all chunks, in any order.

    All chunks are computed in this process, unless that takes long and there are further cores.

    Args:
        chunks: The chunks.
        here: Computes the result of one chunk.
        there: there(chunk) returns a function and its arguments, which can be pickled and give the
            same result in another process. It raises any error if that is not possible.
        thresholds: When other processes are started, and how many.
    """
    pending, start, done = deque(chunks), time.monotonic(), 0
    futures: dict[Any, Any] = {}
    helpers: int | None = None  # the number of other processes; None if not known yet
    while pending or futures:
        if pending:
            chunk = pending.popleft()
            yield chunk, here(chunk)
            done += 1
        else:
            wait(futures, return_when=FIRST_COMPLETED)
        left = len(pending) * (time.monotonic() - start) / max(done, 1)
        if helpers is None and left > thresholds.patience:
            # A fork has its parent's pool, but not the thread that works with it.
            helpers = 0 if lineage() else (thresholds.processes or _cores()) - 1
        for future in [future for future in futures if future.done()]:
            chunk = futures.pop(future)
            if future.exception() is None:
                yield chunk, future.result()
            else:  # it is computed here then, or fails here
                warn_slower("A batch runs in this process alone", future.exception())
                pending.append(chunk)
                helpers = 0
        while helpers and pending and len(futures) < _AHEAD * helpers:
            try:
                future = _submit(helpers, *there(pending[-1]))
                futures[future] = pending.pop()
            except NotCoveredError:  # which is as it shall be
                helpers = 0
            except Exception as error:  # what cannot be pickled, processes that do not start
                warn_slower("A batch runs in this process alone", error)
                helpers = 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _submit(helpers: Any, function: Any, *args: Any) -> Any:
    from loky import get_reusable_executor  # Late: short batches do without.

    # One thread each: there is a process for every core.
    pool = get_reusable_executor(
        max_workers=helpers, timeout=60, env={"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    return pool.submit(function, *args)
