"""Sorting points by what their first steps have in common."""

import numpy as np
import pytest

from qshift.executors.simulator.prefix_order import in_order, stops


def simulate(points, steps, count):
    """Checks that everything is there when needed; returns how many steps are taken, and saves."""
    order, common = in_order(points, steps, count)
    assert sorted(order) == list(range(len(points)))
    taken, most, saved = 0, 0, {0: ()}
    for i, start, later in zip(order, common, stops(common), strict=True):
        state = [tuple(points[i][steps == step]) for step in range(count)]
        saved = {at: path for at, path in saved.items() if at <= start}
        assert saved[max(saved)] == tuple(state[: max(saved)])
        assert max(saved) == start
        taken += count - start
        assert later == sorted(set(later), reverse=True)
        assert all(start < stop <= count for stop in later)
        saved |= {stop: tuple(state[:stop]) for stop in later}
        most = max(most, len(saved))
    return taken, most


@pytest.mark.parametrize("seed", range(30))
def test_random_points(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 9))
    steps = np.sort(rng.integers(count, size=rng.integers(1, 7)))
    points = rng.integers(3, size=(rng.integers(0, 40), len(steps))).astype(float)
    taken, _ = simulate(points, steps, count)
    assert taken <= len(points) * count


def test_shifts_of_one_point_take_half():
    n = 40
    points = np.vstack([np.zeros(n), np.eye(n), -np.eye(n)])
    taken, saves = simulate(points, np.arange(n), n)
    assert taken <= n + sum(2 * (n - j) for j in range(n))
    assert saves <= n


def test_equal_points_take_none():
    assert in_order(np.ones((3, 2)), np.array([0, 4]), 7)[1] == [0, 7, 7]


def test_unrelated_points_share_nothing():
    points = np.random.default_rng(0).normal(size=(9, 3))
    assert in_order(points, np.array([2, 3, 4]), 6)[1] == [0] + [2] * 8
    assert in_order(points[:, :0], np.array([], dtype=int), 6) == (list(range(9)), [0] * 9)


def test_columns_of_a_larger_array():
    points = np.random.default_rng(0).integers(2, size=(20, 8)).astype(float)
    few = points[:, ::3]
    assert in_order(few, np.arange(3), 3) == in_order(few.copy(), np.arange(3), 3)
