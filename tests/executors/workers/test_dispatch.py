"""Chunks go out and come back: what is shared goes once, what is lost runs again, once."""

import collections
import os
import pickle
import signal
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

import numpy as np
import pytest
from references import OwnDevice, random_points, several

from qshift.errors import WorkerError
from qshift.executors import registry
from qshift.executors.executor import Executor
from qshift.executors.workers import dispatch, on_worker, shared_batches
from qshift.executors.workers.pools import Workers

CIRCUIT = several()


@pytest.fixture(autouse=True)
def everything_goes_out(monkeypatch):
    monkeypatch.setattr(registry, "_makers", dict(registry._makers))
    monkeypatch.setattr(dispatch, "_WORTHWHILE", 0.0)
    monkeypatch.setattr(dispatch, "_WORTH_STARTING", 0.0)


class Cosines(Executor):
    """Writes down which process runs which points."""

    def run(self, circuit, points, call):
        lines = "".join(f"{os.getpid()} {number:.0f}\n" for number in points[:, 0])
        with open(self.device.log, "a") as log:
            log.write(lines)
        self.happens(points)
        return np.cos(points[:, :1] + np.arange(circuit.num_values))

    def happens(self, points):
        """What happens while points run."""


class Killed(Cosines):
    """The process is killed where it runs a point of `device.deadly` for the first time."""

    def happens(self, points):
        for number in self.device.deadly & {*points[:, 0].astype(int).tolist()}:
            try:
                os.close(os.open(f"{self.device.log}.{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)


class Failing(Cosines):
    def happens(self, points):
        if (points[:, 0] == 30).any():
            raise ZeroDivisionError("at point 30")


def made(kind, workers, tmp_path, **settings):
    device = OwnDevice()
    device.log, device.qshift_workers = str(tmp_path / "log"), workers
    vars(device).update(settings)
    registry.register("tests.own", kind)
    return registry.executor(device, None)


def numbered(count):
    points = random_points(CIRCUIT, count)
    points[:, 0] = np.arange(count)
    return points


def truth(points):
    return np.cos(points[:, :1] + np.arange(CIRCUIT.num_values))


def ran(tmp_path):
    """Returns the pairs (process, point) that were run."""
    lines = (tmp_path / "log").read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]


def test_killed_workers_cost_only_their_chunks(tmp_path, tracker):
    workers, points = Workers(2), numbered(600)
    deadly = {3, 300}
    try:
        found = made(Killed, workers, tmp_path, deadly=deadly)(CIRCUIT, points)
        np.testing.assert_array_equal(found, truth(points))
        again = made(Cosines, workers, tmp_path)(CIRCUIT, points)
        np.testing.assert_array_equal(again, found)
    finally:
        workers.close()
    assert tracker.totals["circuits"] == 1200
    processes = {process for process, _ in ran(tmp_path)} - {os.getpid()}
    assert len(processes) >= 3  # others took the place of those that were killed
    times = collections.Counter(point for _, point in ran(tmp_path))
    assert set(times) == set(range(600)) and min(times.values()) == 2
    # Chunks of at most a quarter of the points run once more.
    assert sum(times.values()) <= 1200 + len(deadly) * 150 and max(times.values()) == 3


class Pool:
    """Threads; keeps the tasks that were submitted, and may change them."""

    def __init__(self, threads=2, change=lambda task: task):
        self.pool, self.change, self.tasks = ThreadPoolExecutor(threads), change, []

    def submit(self, function, *arguments):
        if len(arguments) == 2 and isinstance(arguments[1], dict) and "task" in arguments[1]:
            task = self.change(pickle.loads(arguments[1]["task"]))
            self.tasks.append(task)
            arguments = arguments[0], arguments[1] | {"task": pickle.dumps(task)}
        return self.pool.submit(function, *arguments)


def test_a_circuit_is_sent_to_those_that_lack_it(tmp_path):
    pool = Pool()
    executor, points = made(Cosines, Workers(pool), tmp_path), numbered(200)
    np.testing.assert_array_equal(executor(CIRCUIT, points), truth(points))
    complete = [task for task in pool.tasks if task.shared is not None]
    assert 1 <= len(complete) <= 2 * (os.cpu_count() or 1) < len(pool.tasks)
    assert pool.tasks[0].shared is None
    pool.tasks.clear()
    executor(CIRCUIT, points)
    assert pool.tasks and not any(task.shared for task in pool.tasks)
    on_worker._loaded.clear()  # as if the worker had made room for others
    np.testing.assert_array_equal(executor(CIRCUIT, points), truth(points))


class Lane:
    """Stands for a process: a thread, of which each submission may be lost."""

    is_own, is_over = True, False

    def __init__(self, lost=lambda count: False):
        self.pool, self.has, self.lost = Pool(1), set(), lost
        self.count = self.renewed = 0

    def submit(self, function, *arguments, name):
        assert name == "qshift-values-tests.own"
        self.count += 1
        if self.lost(self.count):
            future = Future()
            future.set_exception(BrokenExecutor("killed"))
            return future
        return self.pool.submit(function, *arguments)

    def hands(self, out):
        return 1

    def renew(self, future):
        self.renewed += 1
        self.has.clear()
        return True

    def close(self): ...


def test_a_process_gets_a_circuit_once(tmp_path):
    workers, lanes = Workers(2), [Lane(), Lane()]
    workers._lanes.extend(lanes)
    executor, points = made(Cosines, workers, tmp_path), numbered(200)
    for _ in range(2):
        np.testing.assert_array_equal(executor(CIRCUIT, points), truth(points))
    for lane in lanes:
        assert [task.shared is not None for task in lane.pool.tasks].count(True) == 1
        assert lane.pool.tasks[0].shared and not lane.renewed


def test_points_that_workers_are_always_lost_with_are_an_error(tmp_path):
    workers, lane = Workers(1), Lane(lambda count: count > 2)
    workers._lanes.append(lane)
    with pytest.raises(WorkerError, match="nothing replaces them .*killed"):
        made(Cosines, workers, tmp_path)(CIRCUIT, numbered(50))
    assert lane.renewed == dispatch._LOSSES


def test_many_losses_with_results_in_between_are_none_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_batches.ChunkSizes, "next", lambda self, left, *_: min(8, left))
    workers, lane = Workers(1), Lane(lambda count: count % 3 == 0)
    workers._lanes.append(lane)
    found = made(Cosines, workers, tmp_path)(CIRCUIT, points := numbered(400))
    np.testing.assert_array_equal(found, truth(points))
    assert lane.renewed > 3 * dispatch._LOSSES
    assert {point for _, point in ran(tmp_path)} == set(range(400))


def test_what_a_worker_is_lost_with_runs_again_point_by_point(tmp_path):
    workers, lane = Workers(1), Lane(lambda count: count == 1)
    workers._lanes.append(lane)
    points = numbered(400)
    np.testing.assert_array_equal(made(Cosines, workers, tmp_path)(CIRCUIT, points), truth(points))
    sizes = [len(task.arguments[1]) for task in lane.pool.tasks]
    assert lane.renewed == 1 and sizes[0] > 1  # it was waiting behind what was lost
    lost = 400 - 1 - sum(size for size in sizes if size > 1)  # the first point ran here
    assert lost > 1 and sizes[1 : 1 + lost] == [1] * lost


def test_what_a_worker_is_lost_with_runs_again_on_one_that_is_up(tmp_path):
    """The next kill would hit it, where the one that starts is the one that is killed."""
    workers, lanes = Workers(2), [Lane(lambda count: count < 3), Lane()]
    workers._lanes.extend(lanes)
    points = numbered(400)
    np.testing.assert_array_equal(made(Cosines, workers, tmp_path)(CIRCUIT, points), truth(points))
    assert lanes[0].renewed == 1
    alone = [[task for task in lane.pool.tasks if len(task.arguments[1]) == 1] for lane in lanes]
    assert len(alone[1]) > len(alone[0])


class Older(Pool):
    """Its worker has another NumPy."""

    def submit(self, function, *arguments):
        if len(arguments) != 2:
            return self.pool.submit(function, *arguments)
        code, sent = arguments
        # What is sent has the newer one, so that the worker compares two that differ.
        sent = sent | {"versions": sent["versions"] | {"numpy": "99.0"}}
        return self.pool.submit(lambda: function(code, sent) | {"numpy": "1.0"})


def test_a_worker_with_another_version_runs_nothing(tmp_path):
    told = (
        r"The worker .*, process \d+, has numpy 1.0, but this process has numpy==.*nothing was sent"
    )
    with pytest.raises(WorkerError, match=told):
        made(Cosines, Workers(Older()), tmp_path)(CIRCUIT, numbered(50))
    assert len(ran(tmp_path)) == 1  # the first point, in this process


def test_an_error_stops_what_is_out(tmp_path):
    pool = Pool(1)
    with pytest.raises(ZeroDivisionError, match="at point 30"):
        made(Failing, Workers(pool), tmp_path)(CIRCUIT, numbered(2000))
    pool.pool.shutdown()
    assert len(ran(tmp_path)) < 2000


def test_progress_counts_the_circuits_that_have_come_back(tmp_path, monkeypatch):
    seen = []

    def track(items, total, size, description):
        for item in items:
            seen.append((size(item), total, description))
            yield item

    monkeypatch.setattr(shared_batches, "track", track)
    made(Cosines, Workers(Pool()), tmp_path)(CIRCUIT, numbered(200))
    assert sum(size for size, *_ in seen) == 200 and len(seen) > 2
    assert {(total, text) for _, total, text in seen} == {(200, "circuits")}
