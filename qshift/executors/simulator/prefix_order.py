"""The order in which points run, so that they share the states after their first gates.

Two shifted points have the same state up to the first gate whose angle differs. Points are sorted
by their angles in the order of the gates, as words are in a dictionary. Those that agree longest
are neighbours then, and each point can start from a state that an earlier one has passed through.
"""

from __future__ import annotations

import numpy as np


def in_order(points: np.ndarray, steps: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """Sorts points so that neighbours have their first steps in common.

    Args:
        points: float64[N, K], what the steps depend on, in the order of the steps.
        steps: int[K], the step that depends on each.
        count: The number of steps.

    Returns:
        The order, and how many steps each point has in common with the one before it (0 for the
        first).
    """
    if len(points) < 2 or not len(steps):
        return list(range(len(points))), [0] * len(points)
    points = np.ascontiguousarray(points) + 0.0  # without negative zeros
    order = points.view(f"V{points.itemsize * len(steps)}").ravel().argsort()
    points = points[order]
    differ = points[1:] != points[:-1]
    common = np.where(differ.any(axis=1), steps[differ.argmax(axis=1)], count)
    return order.tolist(), [0, *common.tolist()]


def stops(common: list[int]) -> list[list[int]]:
    """Returns, for each point, the steps after which its state is saved for later points, the last
    step first.

    Args:
        common: How many steps each point has in common with the one before, see `in_order`.
    """
    saves: list[list[int]] = [[] for _ in common]
    passing: list[int] = []  # points, each of which starts later than the one before it in here
    for i, start in enumerate(common):
        while passing and common[passing[-1]] >= start:
            passing.pop()
        if passing and saves[passing[-1]][-1:] != [start]:
            saves[passing[-1]].append(start)
        passing.append(i)
    return saves
