"""Whole numbers of shots for the points of a batch, of the kinds that devices take.

- ``"any"``: each point has the number that is best for it.
- ``"few"``: points that have equally many shots are run together, so there are few different
  numbers. They are next to the powers of the root of two, which makes variances at most 1.5 %
  larger.
- ``"multiples"``: points are run several times with the same number of shots.

The last two follow from the numbers that are wanted, without chance: a plan knows them, and a
program that is run again finds its results in a ledger.
"""

from __future__ import annotations

import numpy as np

from qshift.rules.allocation import whole
from qshift.rules.shots import LEAST

KINDS = ("any", "few", "multiples")
_TIMES = 4  # how often points are run on the average, where shots are multiples


def rounded(
    wanted: np.ndarray,
    offsets: np.ndarray | None = None,
    least: np.ndarray | int = LEAST,
    kind: str = "any",
) -> np.ndarray:
    """Makes whole numbers of shots, as `whole` does, of one of `KINDS`.

    Args:
        wanted: float64[K, N], the shots that are wanted.
        offsets: float64[N], in [0, 1), decide how numbers of any kind are rounded. None for 0.5,
            by which those of the other kinds always are.
        least: The least number of shots of a point, or that of each entry of `wanted`.
        kind: One of `KINDS`.

    Returns:
        int64[K, N]. Each column has the sum that is wanted; multiples have up to one less.
    """
    halves = np.full(wanted.shape[1], 0.5)
    if kind == "any" or not wanted.size:
        return whole(wanted, halves if offsets is None else offsets, least)
    if kind == "few":
        return whole(_levels(wanted), halves, least)
    counted = np.broadcast_to(least, wanted.shape) > 0
    mean = wanted.sum() / max(counted.sum(), 1)
    size = max(int(np.max(least)), int(mean + 1e-6) // _TIMES, 1)
    totals = wanted.sum(axis=0)
    times = np.floor(totals / size + 1e-6)
    shares = wanted / np.maximum(totals, 1e-300)
    return size * whole(shares * times, halves, counted.astype(int))


def first_share(numbers: np.ndarray, share: float, least: int, size: int) -> np.ndarray:
    """Returns how many shots a first batch takes of those of points, int64[K, N].

    Args:
        numbers: float64[K, N], the shots in all.
        share: The part of them.
        least: The least number of shots of a point.
        size: What all numbers have to be multiples of.
    """
    first = size * np.ceil(np.maximum(np.ceil(share * numbers), least) / size)
    return np.asarray(first, dtype=np.int64)


def sizes(numbers: np.ndarray, kind: str) -> int:
    """Returns the number that all numbers of shots have to be multiples of."""
    return int(np.gcd.reduce(numbers, axis=None)) if kind == "multiples" and numbers.size else 1


def _levels(wanted: np.ndarray) -> np.ndarray:
    """Rounds numbers to multiples of the powers of the root of two, with the same sums."""
    relative = np.maximum(wanted / np.maximum(wanted.max(axis=0), 1e-300), 1e-9)
    levels = np.where(wanted > 0, 2.0 ** (np.round(2 * np.log2(relative)) / 2), 0.0)
    return np.asarray(levels * (wanted.sum(axis=0) / np.maximum(levels.sum(axis=0), 1e-300)))
