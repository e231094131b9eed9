"""Pools of workers: how they start, what they are, and how they end."""

import copy
import gc
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import fresh
import pytest

from qshift.errors import OptionError, WorkerError
from qshift.executors.workers import pools, versions
from qshift.executors.workers.pools import Workers


class Without(ThreadPoolExecutor):
    """Workers on which something is not installed."""

    def submit(self, function, *arguments, **keywords):
        if arguments == (versions.PROBE,):
            return super().submit(lambda: {"python": "3.9"})
        return super().submit(function, *arguments, **keywords)


class Dead(ThreadPoolExecutor):
    def submit(self, function, *arguments, **keywords):
        return super().submit(self.die)

    def die(self):
        raise pools.BrokenExecutor("a process ended")


def test_nothing_starts_before_it_is_needed_and_a_pool_that_was_given_stays_open():
    with ThreadPoolExecutor(1) as pool:
        workers = Workers(pool)
        assert not workers.is_open and not pool._threads
        (lane,) = workers.start()
        assert workers.is_open and workers.latency > 0 and workers.start() == (lane,)
        workers.close()
        assert not workers.is_open and pool.submit(int, "3").result() == 3
        assert len(workers.start()) == 1


def test_workers_without_packages_are_an_error_before_anything_is_sent():
    with Without(1) as pool, pytest.raises(WorkerError, match="A worker has python 3.9, no qshift"):
        Workers(pool).start()


def test_workers_that_end_at_once_are_an_error_with_a_way_out():
    with (
        Dead(1) as pool,
        pytest.raises(WorkerError, match="cannot start.*a process ended.*guard|__"),
    ):
        Workers(pool).start()


def test_a_pool_that_was_shut_down_is_an_error():
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(WorkerError, match="take no tasks .*after shutdown.*Give others"):
        Workers(pool).start()


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def bare(monkeypatch):
    """Processes that load nothing of qshift, which takes seconds; they are asked for nothing."""
    monkeypatch.setattr(pools.own_process, "begin", int)
    monkeypatch.setattr(pools, "_greeted", lambda lanes: 0.0)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
def test_processes_are_renewed_and_end_with_their_owner(bare):
    workers = Workers(1)
    (lane,) = workers.start()
    ask = "__import__('os').getpid()"
    future = lane.submit(eval, ask, name="")
    first = future.result()
    assert first != os.getpid() and lane.hands([]) == 1
    lane.has.add(b"something")
    assert lane.renew(future) and not lane.has
    second = lane.submit(eval, ask, name="").result()
    assert second != first and wait_for(lambda: not is_alive(first))
    assert lane.renew(future)  # it was lost before
    assert lane.submit(eval, ask, name="").result() == second
    del workers, lane
    gc.collect()
    assert wait_for(lambda: not is_alive(second))


ORPHAN = """
import pathlib, sys, time
from qshift.executors.workers.pools import Workers
workers = Workers(1)
(lane,) = workers.start()
process = lane.submit(eval, "__import__('os').getpid()", name="").result()
pathlib.Path(sys.argv[1]).write_text(f"{process}\\n")
time.sleep(300)
"""


@pytest.mark.one_in(3)
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
@pytest.mark.parametrize("count, threads", [(1, "4"), (2, "2"), (3, "1"), (9, "1")])
def test_processes_start_no_more_threads_than_there_are_cores(count, threads, bare, monkeypatch):
    monkeypatch.setattr(pools.cores, "available", lambda: 4)
    workers = Workers(count)  # of which all but one never start
    *_, lane = workers.start()
    ask = "__import__('os').environ['OMP_NUM_THREADS']"
    assert lane.submit(eval, ask, name="").result() == threads
    workers.close()


@pytest.mark.one_in(3)
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
def test_processes_are_quiet_and_end_when_their_owner_is_killed(tmp_path):
    owner, told = fresh.Process(ORPHAN, tmp_path / "process"), tmp_path / "process"
    assert wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
    process = int(told.read_text())
    assert is_alive(process)
    os.kill(owner.pid, signal.SIGKILL)
    assert not owner.wait().stderr
    assert wait_for(lambda: not is_alive(process))


def test_the_size_of_a_pool_is_found_out():
    class Future:
        def __init__(self, running):
            self.is_running = running

        def running(self):
            return self.is_running

    (lane,) = Workers(ThreadPoolExecutor(1)).start()
    known = lane.hands([])
    assert lane.hands([Future(True)] * known) == known
    assert lane.hands([Future(True)] * (2 * known - 1) + [Future(False)]) == known
    assert lane.hands([Future(True)] * 2 * known) == 2 * known
    lane._executor.num_workers = 7  # as mpi4py's executors have it
    assert lane.hands([]) == 7


def test_copies_are_the_same_and_pickles_have_what_was_given():
    workers = Workers(3)
    assert copy.copy(workers) is workers and copy.deepcopy([workers])[0] is workers
    assert pickle.loads(pickle.dumps(workers)).given == 3
    assert repr(workers) == "Workers(3)" and workers and not Workers(0)
    with pytest.raises(TypeError, match="cannot be pickled. Give a number, or the address"):
        pickle.dumps(Workers(ThreadPoolExecutor(1)))
    with pytest.raises(OptionError, match="workers: expected a number"):
        Workers("everywhere")


def test_threads_open_workers_once():
    with ThreadPoolExecutor(1) as pool:
        workers, found = Workers(pool), []
        threads = [threading.Thread(target=lambda: found.append(workers.start())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(lane) for (lane,) in found}) == 1


def test_a_process_pool_of_python_serves(tmp_path):
    import multiprocessing

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        (lane,) = Workers(pool).start()
        assert lane.submit(eval, "6 * 7", name="").result() == 42
