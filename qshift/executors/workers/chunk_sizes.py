"""How many points go to a worker at once, by how long points and messages take."""

from __future__ import annotations

import math

import numpy as np

_SHARE = 0.02  # of the time of a chunk may be that of its messages
_OWN = 0.02  # seconds of a chunk for each worker: this process sends at most 50 a second
_SHORTEST, _LONGEST = 0.1, 2.0  # seconds of a chunk, as far as points allow


class ChunkSizes:
    """The sizes of the chunks of one batch.

    Chunks are long against messages, and otherwise short, so that all workers end at about the same
    time and the loss of a worker costs little.

    Args:
        grain: Sizes are multiples of it.
        seconds: Seconds that a point takes; None if this is not known yet.

    Attributes:
        grain: Sizes are multiples of it.
        seconds: Seconds that a point takes, by the latest chunks.
    """

    def __init__(self, grain: int, seconds: float | None = None) -> None:
        self.grain, self.seconds = grain, seconds

    def learn(self, points: int, seconds: float) -> None:
        """Takes note of how long a chunk of so many points has taken."""
        found = seconds / points
        self.seconds = found if self.seconds is None else (self.seconds + found) / 2

    def next(self, left: int, hands: int, latency: float) -> int:
        """Returns the size of the next chunk.

        Args:
            left: How many points are left.
            hands: How many chunks the workers run at once.
            latency: Seconds that a message to a worker and its answer take.
        """
        if self.seconds is None:
            return min(self.grain, left)
        target = min(_LONGEST, max(_SHORTEST, latency / _SHARE, hands * _OWN))
        wanted = min(target / max(self.seconds, 1e-9), left / (2 * hands))
        return min(left, self.grain * max(1, math.floor(wanted / self.grain)))


def gaps(done: np.ndarray) -> list[range]:
    """Returns the rows that are not done.

    Args:
        done: bool[N].
    """
    edges = np.flatnonzero(np.diff(done, prepend=True, append=True)).tolist()
    return [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def taken(left: list[range], most: int) -> range:
    """Takes up to so many rows from the first of some ranges, and returns them."""
    first = left.pop(0)
    if len(first) > most:
        left.insert(0, first[most:])
    return first[:most]
