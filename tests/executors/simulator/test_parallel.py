"""Threads that share the parts of a batch."""

import itertools
import os
import threading
import time
import types

import pytest

from qshift.executors.simulator import parallel
from qshift.executors.simulator.parallel import spread
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

IMPATIENT = Thresholds(patience=-1.0, threads=3)


def square(x):
    return x**2, threading.get_ident()


def slow_square(x):
    time.sleep(0.002)
    return square(x)


def squares(parts, work=square, thresholds=DEFAULT):
    """Checks the results; returns the threads that found them."""
    found = list(spread(parts, work, thresholds))
    assert sorted((x, y) for x, (y, _) in found) == [(x, x**2) for x in parts]
    return {thread for _, (_, thread) in found}


def test_short_batches_stay_in_one_thread(monkeypatch):
    """By a clock that goes on by two microseconds in each part, whatever else the machine does."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: 2e-6 * next(ticks))
    monkeypatch.setattr(parallel, "time", clock)
    assert squares(range(20)) == {threading.get_ident()}


def test_no_parts():
    assert list(spread([], square)) == []


def test_long_batches_are_shared():
    assert len(squares(range(60), slow_square, IMPATIENT)) == 3
    assert parallel._helpers._count == 0


def test_threads_start_with_a_batch_whose_pace_is_known():
    def slower_square(x):
        time.sleep(0.05)  # a helper begins meanwhile, also on a busy machine
        return square(x)

    pace, thresholds = parallel.Pace(), Thresholds(patience=1e-3, threads=3)
    for threads in (1, 2):  # of two parts, the second one waits for the pace of the first
        found = list(spread(range(2), slower_square, thresholds, pace))
        assert {x: y for x, (y, _) in found} == {0: 0, 1: 1}
        assert len({thread for _, (_, thread) in found}) == threads
        assert 0.002 <= pace.seconds < 1.0


def test_batches_at_the_same_time_share_the_threads():
    """So that there are never more than cores."""
    working, most, lock = set(), [], threading.Lock()

    def work(x):
        with lock:
            working.add(threading.get_ident())
            most.append(len(working))
        time.sleep(0.002)
        with lock:
            working.discard(threading.get_ident())
        return square(x)

    callers = [
        threading.Thread(target=lambda: squares(range(40), work, IMPATIENT)) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert max(most) <= 4 + 2
    assert parallel._helpers._count == 0


def test_one_core_is_not_shared():
    alone = Thresholds(patience=-1.0, threads=1)
    assert squares(range(20), slow_square, alone) == {threading.get_ident()}


@pytest.mark.parametrize("here", [True, False])
def test_what_fails_fails_once_all_have_ended(here):
    own, ended = threading.get_ident(), []

    def work(x):
        if x > 5 and (threading.get_ident() == own) is here:
            raise RuntimeError("not this one")
        time.sleep(0.002)
        ended.append(x)
        return x

    with pytest.raises(RuntimeError, match="not this one"):
        list(spread(range(100), work, IMPATIENT))
    count = len(ended)
    time.sleep(0.01)
    assert len(ended) == count < 100
    assert parallel._helpers._count == 0


def test_whoever_stops_early_leaves_no_threads():
    results = spread(range(1000), slow_square, IMPATIENT)
    for _ in range(3):
        next(results)
    results.close()
    assert parallel._helpers._count == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_the_child_of_a_fork_starts_threads_of_its_own():
    results = spread(range(1000), slow_square, IMPATIENT)
    next(results)
    next(results)
    child = os.fork()
    if not child:
        os._exit(0 if len(squares(range(60), slow_square, IMPATIENT)) == 3 else 1)
    _, status = os.waitpid(child, 0)
    results.close()
    assert os.waitstatus_to_exitcode(status) == 0
