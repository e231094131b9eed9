"""The bases to measure a state in: every value of a circuit is an average over outcomes in one.

Observables that commute qubit by qubit share a basis, so that one set of probabilities, or of
samples, gives all of their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.measurements import MeasurementProcess
from pennylane.pauli import PauliWord

from qshift.circuits.pauli import sign
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds
from qshift.executors.variances import covariance_of_means, variance_of_mean

if TYPE_CHECKING:
    from pennylane.operation import Operator


class NotCoveredError(Exception):
    """Raised where the compiled kernel does not cover a circuit. The message is empty where users
    need none, for example because the device will raise an error of its own."""


@dataclass(frozen=True)
class Basis:
    """A basis to measure in.

    Attributes:
        rotations: Gates that rotate it into the computational basis.
        wires: The k wires whose outcomes matter.
        columns: The values of the circuit that this basis contributes to.
        weights: float64[2**k, len(columns)], what each outcome contributes to each of these; None
            if the values are the probabilities of the outcomes themselves.
    """

    rotations: tuple[Operator, ...]
    wires: tuple
    columns: np.ndarray
    weights: np.ndarray | None

    def averages(self, frequencies: np.ndarray) -> np.ndarray:
        """Returns its values float64[N, M] for frequencies of outcomes float64[N, 2**k]."""
        if self.weights is None:
            return frequencies
        # Not as a matrix product: for this little, BLAS's threads wait longer than they work.
        return np.einsum("nk,km->nm", frequencies, self.weights)

    def variances(self, frequencies: np.ndarray, shots: int | np.ndarray) -> np.ndarray:
        """Returns the variances of `averages`, and what of them is there because outcomes were
        added, float64[N, 2, M]; see `variance_of_mean`.

        Args:
            frequencies: Of outcomes, float64[N, 2**k].
            shots: The shots of each row, or of all rows.
        """
        numbers = np.reshape(shots, (-1, 1))
        if self.weights is None:
            return np.stack(variance_of_mean(frequencies, frequencies, 0.0, 1.0, numbers), 1)
        squares = np.einsum("nk,km->nm", frequencies, self.weights**2)
        lowest, highest = self.weights.min(axis=0), self.weights.max(axis=0)
        means = self.averages(frequencies)
        return np.stack(variance_of_mean(means, squares, lowest, highest, numbers), 1)

    def covariances(self, frequencies: np.ndarray, shots: int | np.ndarray) -> np.ndarray:
        """Returns the covariances of `averages`, and in a last row what was added to those on the
        diagonal, float64[N, M + 1, M]; arguments as for `variances`."""
        means = self.averages(frequencies)
        lowest: Any = 0.0
        highest: Any = 1.0
        if self.weights is None:
            products = frequencies[:, :, None] * np.eye(frequencies.shape[1])
        else:
            weights = self.weights
            products = np.einsum("nk,kl,km->nlm", frequencies, weights, weights, optimize=True)
            lowest, highest = weights.min(axis=0), weights.max(axis=0)
        found, added = covariance_of_means(means, products, lowest, highest, shots)
        return np.concatenate([found, added[:, None]], axis=1)

    def weighted(self, cotangents: np.ndarray) -> np.ndarray:
        """Returns what each outcome contributes to sums of its values, float64[2**k, N].

        Args:
            cotangents: float64[N, M], the factors of the values in each sum.
        """
        if self.weights is None:
            return cotangents.T
        return np.einsum("km,nm->kn", self.weights, cotangents)


def portions(bases: Sequence[Basis]) -> np.ndarray:
    """Returns how the shots of a single value are spread over the bases that contribute to it.

    They are in proportion to the deviations of what the bases contribute, which gives the least
    variance for their number, if all outcomes are equally likely.

    Returns:
        float64[B], with the mean one.
    """
    contributed = [np.zeros(1) if basis.weights is None else basis.weights for basis in bases]
    deviations = np.array([weights.std() for weights in contributed])
    return deviations / (deviations.mean() or 1.0) if deviations.any() else np.ones(len(bases))


Words = dict[PauliWord, dict[int, float]]


def words_of(measurements: Sequence[MeasurementProcess], sizes: Sequence[int]) -> Words:
    """Returns the Pauli words of all expectation values that are sums of these.

    Args:
        measurements: The measurements.
        sizes: How many values each gives.

    Returns:
        Word -> value of the circuit -> coefficient.
    """
    words: Words = {}
    for column, measurement in zip(np.cumsum([0, *sizes]).tolist(), measurements, strict=False):
        if _has_words(measurement):
            for word, coefficient in measurement.obs.pauli_rep.items():
                entry = words.setdefault(word, {})
                entry[column] = entry.get(column, 0.0) + float(np.real(coefficient))
    return words


def bases(
    measurements: Sequence[MeasurementProcess],
    sizes: Sequence[int],
    thresholds: Thresholds = DEFAULT,
) -> list[Basis]:
    """Returns the bases that give the values which are not in `words_of`.

    Args:
        measurements: The measurements.
        sizes: How many values each gives.
        thresholds: How wide matrices may be.

    Raises:
        NotCoveredError: If an observable has neither Pauli words nor a matrix of a handy size.
    """
    found = []
    for column, measurement in zip(np.cumsum([0, *sizes]).tolist(), measurements, strict=False):
        if isinstance(measurement, qml.measurements.ProbabilityMP):
            columns = np.arange(column, column + 2 ** len(measurement.wires))
            rotations = tuple(measurement.diagonalizing_gates())
            found.append(Basis(rotations, tuple(measurement.wires), columns, None))
        elif not _has_words(measurement):
            found.append(_of_matrix(measurement.obs, column, thresholds))
    return found


def bases_of_words(words: Words, wires: Sequence, thresholds: Thresholds = DEFAULT) -> list[Basis]:
    """Returns few bases that give the samples of Pauli words.

    Args:
        words: See `words_of`.
        wires: All wires, in order.
        thresholds: How many weights there may be.

    Raises:
        NotCoveredError: If there are too many words of too many wires.
    """
    groups = [_Group({word: words[word] for word in group}, wires) for group in _commuting(words)]
    if sum(group.size for group in groups) > thresholds.most_weights:
        raise NotCoveredError("observables have too many Pauli words of too many wires")
    return [group.basis() for group in groups]


def _has_words(measurement: MeasurementProcess) -> bool:
    return (
        measurement.obs is not None
        and not isinstance(measurement, qml.measurements.ProbabilityMP)
        and measurement.obs.pauli_rep is not None
    )


def _commuting(words: Words) -> list[list[PauliWord]]:
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
        words: See `words_of`.
        wires: All wires, in order.
    """

    def __init__(self, words: Words, wires: Sequence) -> None:
        self._words = words
        self._letters = {wire: letter for word in words for wire, letter in word.items()}
        self._wires = tuple(wire for wire in wires if wire in self._letters) or tuple(wires[:1])
        self._columns = np.unique([column for entry in words.values() for column in entry])
        self.size = 2 ** len(self._wires) * len(self._columns)

    def basis(self) -> Basis:
        rotations = []
        with qml.QueuingManager.stop_recording():
            for wire, letter in self._letters.items():
                if letter == "Y":
                    rotations.append(qml.adjoint(qml.S(wire)))
                if letter in "XY":
                    rotations.append(qml.Hadamard(wire))
        outcomes = np.arange(2 ** len(self._wires))
        weights = np.zeros((len(outcomes), len(self._columns)))
        for word, entry in self._words.items():
            bits = sum(wire in word and 1 << i for i, wire in enumerate(reversed(self._wires)))
            signs = sign(outcomes, bits)
            for column, coefficient in entry.items():
                weights[:, np.searchsorted(self._columns, column)] += coefficient * signs
        return Basis(tuple(rotations), self._wires, self._columns, weights)


def _of_matrix(observable: Operator, column: int, thresholds: Thresholds) -> Basis:
    wires, columns = tuple(observable.wires), np.array([column])
    if not wires or len(wires) > thresholds.widest_matrix or not observable.has_matrix:
        raise NotCoveredError(f"{observable.name} has no Pauli words, and no matrix of few wires")
    matrix = qml.matrix(observable, wire_order=observable.wires)
    if not np.any(matrix - np.diag(np.diagonal(matrix))):
        return Basis((), wires, columns, np.real(np.diagonal(matrix))[:, None])
    values, vectors = np.linalg.eigh(matrix)
    with qml.QueuingManager.stop_recording():
        rotation = qml.QubitUnitary(vectors.conj().T, wires=wires)
    return Basis((rotation,), wires, columns, values[:, None])
