"""Whole numbers of shots for the points of a batch, of the kinds that devices take.

- ``"any"``: each point has the number that is best for it.
- ``"few"``: points that have equally many shots are run together, so there are few different
  numbers. They are next to the powers of the root of two, which makes variances at most 1.5 %
  larger.
- ``"multiples"``: points are run several times with the same number of shots.
"""

from __future__ import annotations

import numpy as np

from qshift.rules.allocation import whole
from qshift.rules.shots import LEAST

KINDS = ("any", "few", "multiples")
_TIMES = 4  # how often points are run on the average, where shots are multiples


def rounded(
    wanted: np.ndarray,
    offsets: np.ndarray,
    least: np.ndarray | int = LEAST,
    kind: str = "any",
) -> np.ndarray:
    """Makes whole numbers of shots, as `whole` does, of one of `KINDS`.

    Args:
        wanted: float64[K, N], the shots that are wanted.
        offsets: float64[N], in [0, 1), decide how they are rounded.
        least: The least number of shots of a point, or that of each entry of `wanted`.
        kind: One of `KINDS`.

    Returns:
        int64[K, N]. Each column has the sum that is wanted; multiples have up to one less.
    """
    if kind == "any" or not wanted.size:
        return whole(wanted, offsets, least)
    if kind == "few":
        return whole(_levels(wanted), offsets, least)
    counted = np.broadcast_to(least, wanted.shape) > 0
    mean = wanted.sum() / max(counted.sum(), 1)
    size = max(int(np.max(least)), int(mean + 1e-6) // _TIMES, 1)
    totals = wanted.sum(axis=0)
    times = np.floor(totals / size + 1e-6)
    shares = wanted / np.maximum(totals, 1e-300)
    return size * whole(shares * times, offsets, counted.astype(int))


def sizes(numbers: np.ndarray, kind: str) -> int:
    """Returns the number that all numbers of shots have to be multiples of."""
    return int(np.gcd.reduce(numbers, axis=None)) if kind == "multiples" and numbers.size else 1


def _levels(wanted: np.ndarray) -> np.ndarray:
    """Rounds numbers to multiples of the powers of the root of two, with the same sums."""
    relative = np.maximum(wanted / np.maximum(wanted.max(axis=0), 1e-300), 1e-9)
    levels = np.where(wanted > 0, 2.0 ** (np.round(2 * np.log2(relative)) / 2), 0.0)
    return np.asarray(levels * (wanted.sum(axis=0) / np.maximum(levels.sum(axis=0), 1e-300)))
