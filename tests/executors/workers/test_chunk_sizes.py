"""The sizes of chunks: long against messages, short against the batch."""

import heapq

import numpy as np
import pytest

from qshift.executors.workers.chunk_sizes import ChunkSizes, gaps, taken


def simulated(points, hands, seconds, latency, grain=1):
    """Returns how long workers take for a batch, and the sizes of its chunks, in simulated time.

    Each worker has the next chunk waiting when it ends one, as `Dispatch` arranges it.
    """
    sizes, left, made = ChunkSizes(grain, seconds), points, []
    free = [0.0] * hands
    while left:
        size = sizes.next(left, hands, latency)
        left -= size
        made.append(size)
        start = heapq.heappop(free)
        heapq.heappush(free, start + latency / 10 + size * seconds)
        sizes.learn(size, size * seconds)
    return latency + max(free), made


@pytest.mark.parametrize("seconds", [1e-5, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("hands", [1, 2, 16])
@pytest.mark.parametrize("latency", [1e-3, 0.02])
def test_workers_are_busy_all_the_time(seconds, hands, latency):
    points = 10_000
    took, made = simulated(points, hands, seconds, latency)
    assert sum(made) == points
    ideal = points * seconds / hands
    if ideal > 50 * latency:
        assert ideal / took >= 0.95
    assert max(made) * seconds <= max(2.0, seconds)


@pytest.mark.parametrize("grain", [1, 4, 64])
def test_all_but_the_last_chunk_are_multiples_of_the_grain(grain):
    _, made = simulated(1003, 3, 1e-3, 1e-3, grain)
    assert all(size % grain == 0 and size for size in made[:-1])
    assert sum(made) == 1003


def test_nothing_is_known_before_the_first_chunk():
    sizes = ChunkSizes(8)
    assert sizes.next(100, 4, 0.0) == 8 and sizes.next(5, 4, 0.0) == 5
    sizes.learn(8, 0.8)
    assert sizes.seconds == pytest.approx(0.1)
    assert sizes.next(1000, 1, 0.1) == 16  # two seconds, as messages take long


def test_gaps_and_what_is_taken_from_them():
    done = np.array([0, 1, 1, 0, 0, 0, 1, 0], bool)
    left = gaps(done)
    assert left == [range(0, 1), range(3, 6), range(7, 8)]
    assert taken(left, 2) == range(0, 1) and taken(left, 2) == range(3, 5)
    assert left == [range(5, 6), range(7, 8)]
    assert gaps(np.ones(3, bool)) == [] and gaps(np.zeros(3, bool)) == [range(3)]
