"""Random numbers for finite shots."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

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
    key = hashlib.blake2b(circuit.name + point.tobytes(), digest_size=16).digest()
    draw = call.draws[key] = call.draws.get(key, -1) + 1
    entropy = [*np.atleast_1d(seed).tolist(), call.number, *key, draw]
    return np.random.default_rng(entropy)
