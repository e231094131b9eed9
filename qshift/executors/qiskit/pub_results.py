"""The results of Qiskit's primitives at a point, as qshift keeps them.

The result of an estimator is float64[2, K], the values of K observables and their standard errors,
or float64[4, K], these two with readout errors mitigated and without; the result of a sampler is a
dictionary outcome -> count, or a list of one for each copy of a circuit. What a noise learner has
found out about a layer of gates is JSON, as bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from qiskit.primitives import BitArray, PrimitiveResult, PubResult

Measured = np.ndarray | dict[int, int] | list[dict[int, int]] | bytes
LEARNER = "noise-learner"  # what the runtime calls its program, beside the primitives
REGISTER = (
    "outcomes"  # the bits that a sampler's circuits measure into; those of copies have numbers
)


_FOUR = b"4 rows: "  # before results of as many rows; those of two are multiples of 16 bytes


class Unpacked(list):
    """The results at all points of a PUB, where `unpacked` has been called already."""


def primitives(named: str, count: int) -> list[str]:
    """Returns the primitive of each PUB of a job.

    Args:
        named: One for all, or one for each with commas between.
        count: How many PUBs there are.
    """
    return named.split(",") if "," in named else [named] * count


def unpacked(primitive: str, result: Any) -> Sequence:
    """Returns the results at all points of a PUB.

    Args:
        primitive: ``"estimator"``, ``"sampler"`` or `LEARNER`.
        result: A PUB result of Qiskit's, or what has been unpacked.
    """
    if isinstance(result, Unpacked):
        return result
    if primitive == "sampler":
        if REGISTER in result.data:
            return _all_counts(result.data[REGISTER])
        copies = [result.data[f"{REGISTER}{copy}"] for copy in range(len(result.data))]
        return list(map(list, zip(*map(_all_counts, copies), strict=True)))
    values = np.asarray(result.data.evs, dtype=float)
    errors = np.broadcast_to(np.asarray(result.data.stds, dtype=float), values.shape)
    found: Any = np.stack([values, errors], axis=-2)
    return found


def _all_counts(outcomes: BitArray) -> list[dict[int, int]]:
    return [_counts(row, outcomes.num_bits) for row in outcomes.array]


def _counts(shots: np.ndarray, bits: int) -> dict[int, int]:
    """Returns how often each outcome is among shots uint8[S, bytes].

    Qiskit's own `get_int_counts` makes a number of every shot, this only of every outcome.
    """
    size = shots.shape[-1]
    rows = [b""] * len(shots)
    if size:
        rows = np.ascontiguousarray(shots).view(f"V{size}").ravel().tolist()
    counts: dict[int, int] = {}
    for row, number in Counter(rows).items():
        outcome = int.from_bytes(row, "big") & (1 << bits) - 1  # the rest is padding
        counts[outcome] = counts.get(outcome, 0) + number
    return counts


def require_results(results: Any) -> Sequence:
    """Returns the results of a job of a service.

    Raises:
        TypeError: If they are not results of a primitive.
    """
    if not isinstance(results, PrimitiveResult):
        raise TypeError("the results of a primitive were expected")
    for result in results:
        if not isinstance(result, PubResult):
            raise TypeError("the results of a PUB were expected")
    return results


def encoded(measured: Measured) -> bytes:
    """Returns the result at a point as bytes."""
    if isinstance(measured, bytes):
        return measured
    if isinstance(measured, np.ndarray):
        return _FOUR * (len(measured) == 4) + measured.tobytes()
    return json.dumps(in_hex(measured)).encode()


def in_hex(counts: dict[int, int] | list[dict[int, int]]) -> Any:
    """Returns the counts at a point, or those of each copy, as JSON has them."""
    if isinstance(counts, list):
        return list(map(in_hex, counts))
    return {hex(outcome): n for outcome, n in sorted(counts.items())}


def decoded(primitive: str, stored: bytes) -> Measured:
    """Returns the result that `encoded` made these bytes of."""
    if primitive == LEARNER:
        return stored
    if primitive == "sampler":
        plain = json.loads(stored)
        found = [
            {int(k, 16): n for k, n in each.items()}
            for each in (plain if isinstance(plain, list) else [plain])
        ]
        return found if isinstance(plain, list) else found[0]
    if len(stored) % 16 == len(_FOUR):
        return np.frombuffer(stored, offset=len(_FOUR)).reshape(4, -1)
    return np.frombuffer(stored).reshape(2, -1)
