"""Digests that identify a measurement in every process, and differ between its repetitions.

The ledger finds results by their digests, and a seeded simulator's samples follow from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import IfElseOp, ParameterExpression
from qiskit.quantum_info import SparsePauliOp

from qshift.executors.executor import Call
from qshift.executors.qiskit import canonical_options
from qshift.forks import Lock


def digest(*parts: bytes) -> bytes:
    """Returns 16 bytes that identify a sequence of parts."""
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        made.update(len(part).to_bytes(8, "big"))
        made.update(part)
    return made.digest()


def of_circuit(circuit: QuantumCircuit) -> bytes:
    """Returns a digest of a circuit's gates, their qubits and their parameters."""
    position = {bit: i for i, bit in enumerate((*circuit.qubits, *circuit.clbits))}
    return digest(
        b"%d %d" % (circuit.num_qubits, circuit.num_clbits),
        *(
            digest(
                step.operation.name.encode(),
                repr([position[bit] for bit in (*step.qubits, *step.clbits)]).encode(),
                *map(_argument, step.operation.params),
                *_condition(circuit, step.operation),
            )
            for step in circuit.data
        ),
    )


def _condition(circuit: QuantumCircuit, operation: Any) -> Iterator[bytes]:
    """Yields what an operation with blocks depends on."""
    if isinstance(operation, IfElseOp):
        given = operation.condition
        if isinstance(given, tuple):
            given = circuit.find_bit(given[0]).index, given[1]
        yield repr(given).encode()  # of an expression, the names and numbers of its bits


def _argument(value: Any) -> bytes:
    if value is None:  # no block
        return b""
    if isinstance(value, QuantumCircuit):
        return of_circuit(value)
    if isinstance(value, ParameterExpression):
        return str(value).encode()  # floats in full
    array = np.asarray(value)
    return array.dtype.str.encode() + repr(array.shape).encode() + array.tobytes()


def of_observables(observables: Iterable[SparsePauliOp]) -> bytes:
    """Returns a digest of sums of Pauli words, in their order."""
    return digest(
        *(
            digest(" ".join(each.paulis.to_labels()).encode(), each.coeffs.tobytes())
            for each in observables
        )
    )


def of_options(options: Mapping[str, Any], is_complete: bool = True) -> bytes:
    """Returns nested options as bytes that identify them; see `canonical_options.text`."""
    return canonical_options.text(options, is_complete).encode()


def of_points(prefix: bytes, points: np.ndarray) -> list[bytes]:
    """Returns a digest for each point of a circuit.

    Args:
        prefix: A digest of everything but the point: circuit, observables, options.
        points: float64[N, P].
    """
    start = hashlib.blake2b(prefix, digest_size=16)
    found = []
    for row in points + 0.0:  # no negative zeros
        made = start.copy()
        made.update(row.tobytes())
        found.append(made.digest())
    return found


def seed(samples: Iterable[bytes]) -> int:
    """Returns the seed of a simulator's job, made from digests of its points, below 2**31."""
    return 1 + int.from_bytes(digest(*samples)[:4], "big") % (2**31 - 1)


class Draws:
    """Numbers the repetitions of a measurement, so that each has a digest of its own.

    A draw that was not delivered, because waiting for it was interrupted, is given again to the
    next request for the same.
    """

    def __init__(self) -> None:
        self._taken: dict[Hashable, dict[bytes, int]] = {}
        self._returned: dict[Hashable, list[bytes]] = {}
        self._lock = Lock()

    def take(
        self, scope: Hashable, contents: Sequence[bytes], seed: Sequence[int], call: Call
    ) -> list[bytes]:
        """Returns a digest for each draw: the first of a content, the second, ...

        Args:
            scope: Draws that were not delivered are given again within the same scope only.
            contents: Digests of the measurements.
            seed: With a seed, repetitions are counted in each call; without, in the whole process.
            call: The call.
        """
        label = repr((*seed, call.number)).encode() if seed else b""
        with self._lock:
            taken = call.draws if seed else self._taken.setdefault(scope, {})
            draws = []
            for content in contents:
                if returned := self._returned.get((scope, content)):
                    draws.append(returned.pop(0))
                    continue
                number = taken[content] = taken.get(content, -1) + 1
                draws.append(digest(content, label, b"%d" % number))
            return draws

    def give_back(self, scope: Hashable, contents: Sequence[bytes], draws: Sequence[bytes]) -> None:
        """Takes back draws that were not delivered."""
        with self._lock:
            for content, draw in zip(contents, draws, strict=True):
                self._returned.setdefault((scope, content), []).append(draw)
