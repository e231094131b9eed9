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

    What it draws follows from the seed, the call's number, the circuit, the point, and how often
    this was run for that call: not from the order in which TensorFlow happens to run things, nor
    from what is run together.

    Args:
        seed: An int, or a sequence of these; None for fresh random numbers.
        circuit: The circuit.
        point: float64[P].
        call: Counts the draw.
    """
    if seed is None:
        return np.random.default_rng()
    key = hashlib.blake2b(circuit.name + point.tobytes(), digest_size=16).digest()
    draw = call.draws[key] = call.draws.get(key, -1) + 1
    entropy = [*np.atleast_1d(seed).tolist(), call.number, *key, draw]
    return np.random.default_rng(entropy)
