"""Few points whose evaluations determine given partial derivatives of a trigonometric polynomial.

The restriction of an expectation value to a few parameters is a trigonometric polynomial of known
frequencies: evaluating at a point and differentiating are both linear functionals on that
finite-dimensional space, and a derivative is had as soon as it lies in the span of the points.
Equal shifts (t, ..., t) on a subset of k one-frequency parameters then need k + 1 points where the
product of first-derivative rules needs 2^k.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from qshift.rules.frequencies import is_equidistant, period
from qshift.rules.shift_rule import design, odd_grid, target

_Frequencies = tuple[tuple[float, ...], ...]  # of each parameter
_Point = tuple[tuple[int, float], ...]  # (parameter, shift) of those that are moved
_Combination = tuple[tuple[_Point, float], ...]

_TOLERANCE = 1e-11


def wrap(shift: float, full: float | None, unit: float = 1.0) -> float:
    """Brings a shift into (-T/2, T/2] and rounds it, in units of 1 / `unit`, so that equal points
    have equal keys."""
    if full is not None:
        shift = shift - full * math.ceil(shift / full - 0.5 - 1e-12)
    return (round(float(shift * unit), 12) + 0.0) / unit


@lru_cache(maxsize=4096)
def fewest(
    frequencies: _Frequencies, indices: tuple[tuple[int, ...], ...], known: tuple[_Point, ...]
) -> tuple[int, list[_Combination]] | None:
    """Finds few new points for partial derivatives by all of a few parameters.

    Args:
        frequencies: One tuple of frequencies per parameter, the largest of each 1.
        indices: Multi-indices, each naming every parameter 0..k-1 at least once.
        known: Points already there, as tuples of (parameter, shift).

    Returns:
        (number of new points, [((point, coefficient), ...) per index]), or None where the known
        points on smaller subsets do not suffice for equal shifts to work.
    """
    targets = np.array([_functional(frequencies, Counter(index)) for index in indices])
    span = _Span(targets)
    chosen: list[_Point] = []
    rows: list[np.ndarray] = []
    for points in (known, _candidates(frequencies)):
        for point, row in zip(points, _evaluations(frequencies, points), strict=True):
            if span.complete():
                break
            if span.add(row):
                chosen.append(point)
                rows.append(row)
    if not span.complete():
        return None

    # The points chosen are independent, so the solution is unique: no need for those it leaves out.
    coefficients = np.linalg.lstsq(np.transpose(rows), targets.T)[0].T
    combinations = [
        tuple((point, float(c)) for point, c in zip(chosen, row, strict=True) if abs(c) > 1e-12)
        for row in coefficients
    ]
    needed = {point for combination in combinations for point, _ in combination}
    return len(needed.difference(known)), combinations


def _candidates(frequencies: _Frequencies) -> list[_Point]:
    """Returns points that move all parameters: first equal shifts, then a full grid."""
    equal = []
    if all(is_equidistant(f) for f in frequencies):
        # (t, ..., t), each in units of its base frequency, is a polynomial of degree sum R in t.
        # Vanishing on all smaller subsets, it has 2 sum R + 1 - k degrees of freedom left.
        freedom = 2 * sum(len(f) for f in frequencies) + 1 - len(frequencies)
        for t in sorted((_centred(m, freedom + 1) for m in range(1, freedom + 1)), key=abs):
            equal.append([wrap(t / min(f), period(f)) for f in frequencies])
    grid = itertools.product(*([wrap(s, period(f)) for s in odd_grid(f)] for f in frequencies))
    return [tuple(enumerate(shifts)) for shifts in (*equal, *grid)]


def _centred(m: int, parts: int) -> float:
    """Returns 2 pi m / parts, brought into (-pi, pi]."""
    return 2 * math.pi * (m - parts if 2 * m > parts else m) / parts


def _evaluations(frequencies: _Frequencies, points: Sequence[_Point]) -> np.ndarray:
    """Returns the value of each basis function (a tensor product) at each point."""
    rows = np.ones((len(points), 1))
    for i, f in enumerate(frequencies if points else ()):
        factor = design(f, [dict(point).get(i, 0.0) for point in points])
        rows = (rows[:, :, None] * factor[:, None, :]).reshape(len(points), -1)
    return rows


def _functional(frequencies: _Frequencies, orders: Counter[int]) -> np.ndarray:
    """Returns the derivative at 0 of each basis function."""
    factors = (target(f, orders[i]) for i, f in enumerate(frequencies))
    return functools.reduce(np.kron, factors, np.ones(1))


class _Span:
    """The span of the evaluations taken so far, and the part of each target outside of it."""

    def __init__(self, targets: np.ndarray) -> None:
        self._residual = targets.copy()
        self._basis = np.empty((0, targets.shape[1]))

    def add(self, row: np.ndarray) -> bool:
        """Adds an evaluation; False if it says nothing new."""
        row = row / np.linalg.norm(row)
        for _ in range(2):  # twice is enough for orthogonality to machine accuracy
            row = row - (self._basis @ row) @ self._basis
        norm = np.linalg.norm(row)
        if norm < 1e-7:
            return False
        row = row / norm
        self._basis = np.vstack([self._basis, row])
        self._residual -= np.outer(self._residual @ row, row)
        return True

    def complete(self) -> bool:
        return bool(np.abs(self._residual).max() <= _TOLERANCE)
