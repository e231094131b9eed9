"""Random numbers for finite shots."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qshift.circuits.circuit import Circuit
    from qshift.executors.executor import Call


def generator(
    seed: int | Sequence[int] | None, circuit: Circuit, point: np.ndarray, call: Call
) -> np.random.Generator:
    """Returns the generator of one circuit's samples.

    Its numbers depend on the seed, the call's number, the circuit, the point, and how often the
    circuit was run at this point for that call. They depend neither on the order in which
    TensorFlow runs ops nor on which points are run together.

    Args:
        seed: An int, or a sequence of these; None for fresh random numbers.
        circuit: The circuit.
        point: float64[P].
        call: The call for which the circuit is run; it counts the runs.
    """
    if seed is None:
        return np.random.default_rng()
    key, draw = _draw(circuit, point, call)
    entropy = [*np.atleast_1d(seed).tolist(), call.number, *key, draw]
    return np.random.default_rng(entropy)


def fractions(
    seed: int | Sequence[int] | None, number: int, of: bytes, batch: Sequence[int], count: int
) -> np.ndarray:
    """Returns random numbers float64[count] in [0, 1) for a batch of a call.

    Args:
        seed: As for `generator`.
        number: The number of the call.
        of: The circuit and the angles. Calls that differ in them get other numbers.
        batch: Which batch of the call.
        count: How many.
    """
    if seed is None:
        return np.random.default_rng().random(count)
    key = hashlib.blake2b(of, digest_size=16).digest()
    entropy = [*np.atleast_1d(seed).tolist(), number, *key, *batch]
    return np.random.default_rng(entropy).random(count)


def _draw(circuit: Circuit, point: np.ndarray, call: Call) -> tuple[bytes, int]:
    """Returns the digest of a circuit at a point, and how often it was run for the call before."""
    key = hashlib.blake2b(circuit.name + point.tobytes(), digest_size=16).digest()
    draw = call.draws[key] = call.draws.get(key, -1) + 1
    return key, draw


def counted(circuit: Circuit, points: np.ndarray, call: Call) -> list[int]:
    """Counts that a circuit is run at some points for a call, and returns the number of each run.

    The numbers are those that `generator` would use. They go with the points to other processes.
    """
    return [_draw(circuit, point, call)[1] for point in points]


def resumed(circuit: Circuit, points: np.ndarray, number: int, draws: Sequence[int]) -> Call:
    """Returns a call in which the runs of a circuit at some points have given numbers.

    Args:
        circuit: The circuit.
        points: float64[N, P], in the order in which they were counted.
        number: The number of the call.
        draws: What `counted` returned for the points.
    """
    from qshift.executors.executor import Call  # Late, as that module needs this one.

    call = Call(number)
    for point, draw in zip(points, draws, strict=True):
        key = hashlib.blake2b(circuit.name + point.tobytes(), digest_size=16).digest()
        call.draws.setdefault(key, draw - 1)
    return call
