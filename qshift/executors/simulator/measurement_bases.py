"""The bases to measure a state in: every value of a circuit is an average over outcomes in one.

Observables that commute qubit by qubit share a basis, so that one set of probabilities, or of
samples, gives all of their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.measurements import MeasurementProcess
from pennylane.pauli import PauliWord

from qshift.circuits.pauli import sign
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from pennylane.operation import Operator


class NotCoveredError(Exception):
    """Raised where the compiled kernels do not cover a circuit. The message is empty where users
    need none, for example because the device will raise an error of its own."""


@dataclass(frozen=True)
class Basis:
    """A basis to measure in.

    Attributes:
        rotations: Gates (name or matrix, wires, inverse) that rotate it into the computational
            basis.
        wires: The k wires whose outcomes matter.
        columns: The values of the circuit that this basis contributes to.
        weights: float64[2**k, len(columns)], what each outcome contributes to each of these; None
            if the values are the probabilities of the outcomes themselves.
    """

    rotations: tuple[tuple[str | np.ndarray, tuple[int, ...], bool], ...]
    wires: tuple[int, ...]
    columns: np.ndarray
    weights: np.ndarray | None


def bases(
    measurements: Sequence[MeasurementProcess],
    sizes: Sequence[int],
    wire_map: dict,
    thresholds: Thresholds = DEFAULT,
) -> list[Basis]:
    """Returns the bases that give all values of fixed expectation values and probabilities.

    Args:
        measurements: The measurements.
        sizes: How many values each gives.
        wire_map: Wire label -> position.
        thresholds: How many weights there may be, and how wide matrices.

    Raises:
        NotCoveredError: If an observable has neither Pauli words nor a matrix of a handy size, or
            there are too many words of too many wires.
    """
    words: dict[PauliWord, dict[int, float]] = {}
    found = []
    for column, measurement in zip(np.cumsum([0, *sizes]), measurements, strict=False):
        if isinstance(measurement, qml.measurements.ProbabilityMP):
            found.append(_of_probabilities(measurement, column, wire_map))
        elif measurement.obs.pauli_rep is not None:
            for word, coefficient in measurement.obs.pauli_rep.items():
                entry = words.setdefault(word.map_wires(wire_map), {})
                entry[column] = entry.get(column, 0.0) + float(np.real(coefficient))
        else:
            found.append(_of_matrix(measurement.obs, column, wire_map, thresholds))
    groups = [_Group({word: words[word] for word in group}) for group in _commuting(words)]
    if sum(group.size for group in groups) > thresholds.most_weights:
        raise NotCoveredError("observables have too many Pauli words of too many wires")
    found += [group.basis() for group in groups]
    # The last one's rotations need not be undone.
    return sorted(found, key=lambda basis: bool(basis.rotations))


def _commuting(words: Mapping[PauliWord, dict[int, float]]) -> list[list[PauliWord]]:
    """Groups words that commute qubit by qubit."""
    identities = [word for word in words if not word]
    others = [word for word in words if word]
    if not others:
        return [identities] if identities else []
    observables = [word.operation() for word in others]
    groups = [
        [others[i] for i in group] for group in qml.pauli.compute_partition_indices(observables)
    ]
    groups[0] += identities
    return groups


class _Group:
    """Words that commute qubit by qubit.

    Args:
        words: Word -> column -> coefficient.
    """

    def __init__(self, words: dict[PauliWord, dict[int, float]]) -> None:
        self._words = words
        self._letters = {wire: letter for word in words for wire, letter in word.items()}
        self._wires = tuple(sorted(self._letters)) or (0,)
        self._columns = np.unique([column for entry in words.values() for column in entry])
        self.size = 2 ** len(self._wires) * len(self._columns)

    def basis(self) -> Basis:
        rotations = []
        for wire, letter in sorted(self._letters.items()):
            if letter == "Y":
                rotations.append(("S", (wire,), True))
            if letter in "XY":
                rotations.append(("Hadamard", (wire,), False))
        outcomes = np.arange(2 ** len(self._wires))
        weights = np.zeros((len(outcomes), len(self._columns)))
        for word, entry in self._words.items():
            bits = sum(wire in word and 1 << i for i, wire in enumerate(reversed(self._wires)))
            signs = sign(outcomes, bits)
            for column, coefficient in entry.items():
                weights[:, np.searchsorted(self._columns, column)] += coefficient * signs
        return Basis(tuple(rotations), self._wires, self._columns, weights)


def _of_probabilities(
    measurement: MeasurementProcess, column: int, wire_map: Mapping[int, int]
) -> Basis:
    wires = tuple(wire_map[wire] for wire in measurement.wires)
    columns = np.arange(column, column + 2 ** len(wires))
    rotations = []
    for op in measurement.diagonalizing_gates():
        rotations.append((op.matrix(), tuple(wire_map[wire] for wire in op.wires), False))
    return Basis(tuple(rotations), wires, columns, None)


def _of_matrix(observable: Operator, column: Any, wire_map: Any, thresholds: Thresholds) -> Basis:
    wires = tuple(wire_map[wire] for wire in observable.wires)
    if not wires or len(wires) > thresholds.widest_matrix or not observable.has_matrix:
        raise NotCoveredError(f"{observable.name} has no Pauli words, and no matrix of few wires")
    matrix = qml.matrix(observable, wire_order=observable.wires)
    columns = np.array([column])
    if not np.any(matrix - np.diag(np.diagonal(matrix))):
        return Basis((), wires, columns, np.real(np.diagonal(matrix))[:, None])
    values, vectors = np.linalg.eigh(matrix)
    rotation = np.ascontiguousarray(vectors.conj().T, dtype=complex)
    return Basis(((rotation, wires, False),), wires, columns, values[:, None])
