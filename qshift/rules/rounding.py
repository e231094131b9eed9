"""Whole numbers of shots for the points of a batch, of the kinds that devices take.

- ``"any"``: each point has the number that is best for it.
- ``"few"``: points that have equally many shots are run together, so there are few different
  numbers. They are next to the powers of the root of two, which makes variances at most 1.5 %
  larger.
- ``"multiples"``: points are run several times with the same number of shots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qshift.rules.allocation import LEAST, whole
from qshift.rules.planner import Step

KINDS = ("any", "few", "multiples")
_TIMES = 4  # how often points are run on the average, where shots are multiples


@dataclass(frozen=True)
class Rounding:
    """How shots in units become whole numbers.

    Args:
        shots: The unit: the shots of a point on the average, or those of a batch.
        least: The least number of shots of a point.
        kind: One of `KINDS`.
        bases: In how many bases the shots are drawn.
    """

    shots: int
    least: int = LEAST
    kind: str = "any"
    bases: int = 1

    def numbers(self, step: Step, rows: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the shots of a request.

        Args:
            step: What is to be run. Old points are not run again for too few shots.
            rows: How many rows the batch of inputs has.
            offset: In [0, 1), decides how numbers are rounded.

        Returns:
            The old points that are run again, and the shots int64[K, rows] of new points and of
            these.

        Raises:
            ValueError: If there are too few shots.
        """
        new = len(step.new_points)
        again = np.asarray(step.again, dtype=int)
        if step.shots is None:
            return again, np.full((new, rows), self.shots)
        worth = step.shots[new:] * self.shots >= self.least
        shares = np.append(step.shots[:new], step.shots[new:][worth])
        if shares.sum() * self.shots < self.least * new:
            measured = f", measured in {self.bases} bases," if self.bases > 1 else ""
            raise ValueError(
                f"A batch of {new} circuits{measured} takes {self.bases * self.shots} shots in "
                f"all, less than {self.least} for each. Give Shots(total="
                f"{self.bases * self.least * new}) or more, or Shots(per_circuit=...)."
            )
        return again[worth], self._whole(shares, rows, offset)

    def _whole(self, shares: np.ndarray, rows: int, offset: float) -> np.ndarray:
        if self.kind == "few":
            shares = _levels(shares)
        if self.kind != "multiples":
            return whole(shares, self.shots, rows, offset, self.least)
        total = shares.sum() * self.shots
        size = max(self.least, int(total / len(shares) + 1e-6) // _TIMES)
        times = math.floor(total / size + 1e-6)
        return size * whole(shares / shares.sum(), times, rows, offset, 1)


def _levels(shares: np.ndarray) -> np.ndarray:
    """Rounds shares to multiples of the powers of the root of two, with the same sum."""
    relative = np.maximum(shares / shares.max(initial=1e-300), 1e-9)
    levels = 2.0 ** (np.round(2 * np.log2(relative)) / 2)
    return np.asarray(levels * (shares.sum() / levels.sum()))
