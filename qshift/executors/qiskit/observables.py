"""From the measurements of a circuit to those of Qiskit's primitives, and back to its values.

An Estimator takes sums of Pauli words, a Sampler measures qubits in the computational basis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.measurements import ProbabilityMP
from pennylane.operation import Operator
from pennylane.ops import Prod, SProd, Sum
from pennylane.pauli import PauliSentence, PauliWord
from qiskit.quantum_info import PauliList, SparsePauliOp

from qshift.circuits.circuit import Circuit
from qshift.circuits.pauli import decompose, signs, z_words
from qshift.errors import UnsupportedError

if TYPE_CHECKING:
    from pennylane.measurements import MeasurementProcess

_WIDEST_MATRIX = 6  # wires; an observable without a Pauli representation has up to 4**wires words
_SMALLEST = 1e-6  # the smallest coefficient in a sum; Qiskit's own tolerance is absolute
_WIDEST_PROBS = 12  # wires; exact probabilities come from 2**wires expectation values


@dataclass(frozen=True)
class Basis:
    """Probabilities that are read off the same samples.

    Attributes:
        gates: The gates that turn this basis into the computational basis.
        wires: The wires to measure.
        columns: Column of the first probability -> its wires, the first the most significant.
    """

    gates: tuple[Operator, ...]
    wires: tuple
    columns: dict[int, tuple]


@dataclass(frozen=True)
class Readings:
    """How the values float64[N, M] of a circuit are measured.

    An estimator gives expectation values float64[N, K] of K observables, from which the values are
    ``expectations @ weights + constants``. In the columns of sampled probabilities, weights and
    constants are zero.

    Attributes:
        observables: Sums of Pauli words without the identity, qubit i for wire i.
        weights: float64[K, M].
        constants: float64[M].
        bases: The bases in which a sampler measures.
    """

    observables: tuple[SparsePauliOp, ...]
    weights: np.ndarray
    constants: np.ndarray
    bases: tuple[Basis, ...]

    @cached_property
    def spreads(self) -> np.ndarray:
        """float64[K], how far the outcomes of the observables may be from 0: the root of the sum of
        the squares over the bases that each is measured in, as these are independent."""
        squares = [
            sum(np.abs(part.coeffs).sum() ** 2 for part in parts)
            for parts in parted(self.observables)
        ]
        return np.sqrt(squares)


def readings(circuit: Circuit, wires: Sequence) -> Readings:
    """Reduces the measurements of a circuit to measurements of Qiskit's primitives.

    Args:
        circuit: The circuit. With shots its probabilities are sampled, otherwise they are computed
            from expectation values.
        wires: The order of the circuit's wires.

    Raises:
        UnsupportedError: For an observable that is too wide to be written in Pauli words.
    """
    size = sum(circuit.sizes)
    sentences, rows, constants, start = [], [], np.zeros(size), 0
    together: dict[int, tuple] = {}
    bases = []
    for measurement, width in zip(circuit.measurements, circuit.sizes, strict=True):
        on = tuple(measurement.wires)
        if not isinstance(measurement, ProbabilityMP):
            terms: list[tuple[Any, PauliSentence]] = [(1.0, _sentence(measurement.obs))]
        elif not circuit.shots:
            terms = _of_probabilities(measurement, on)
        elif measurement.obs is None:
            together[start] = on
            terms = []
        else:
            bases.append(Basis(tuple(measurement.diagonalizing_gates()), on, {start: on}))
            terms = []
        for weight, sentence in terms:
            sentence = PauliSentence({word: float(np.real(c)) for word, c in sentence.items() if c})
            constants[start : start + width] += weight * sentence.pop(PauliWord({}), 0.0)
            for scale, part in _scaled(sentence):
                row = np.zeros(size)
                row[start : start + width] = weight * scale
                sentences.append(part)
                rows.append(row)
        start += width
    if together:
        measured = tuple(dict.fromkeys(wire for on in together.values() for wire in on))
        bases.append(Basis((), measured, together))
    position = {wire: i for i, wire in enumerate(wires)}
    return Readings(
        tuple(_sparse(sentence, position) for sentence in sentences),
        np.reshape(rows, (len(rows), size)),
        constants,
        tuple(bases),
    )


def bases(observables: Sequence[SparsePauliOp]) -> list[PauliList]:
    """Returns the bases that an estimator measures in, each as the words that are read off it: sets
    of words that commute qubit by qubit.

    The sets are those that Qiskit's `BackendEstimatorV2` forms.
    """
    words = sorted({label for observable in observables for label in observable.paulis.to_labels()})
    return PauliList(words).group_commuting(qubit_wise=True) if words else []


def parted(observables: Sequence[SparsePauliOp]) -> list[list[SparsePauliOp]]:
    """Splits each of some sums into parts, one for each basis that they are measured in.

    The bases are those that Qiskit's `BackendEstimatorV2` measures in.
    """
    measured = [basis.to_labels() for basis in bases(observables)]
    found = []
    for observable in observables:
        own = dict(zip(observable.paulis.to_labels(), observable.coeffs, strict=True))
        words = [[(w, own[w]) for w in basis if w in own] for basis in measured]
        found.append([SparsePauliOp.from_list(some) for some in words if some])
    return found


def probabilities(counts: dict[int, int], basis: Basis, wires: tuple) -> np.ndarray:
    """Returns relative frequencies float64[2**len(wires)] from the counts of outcomes in a basis.

    Args:
        counts: Outcome -> count; bit i of an outcome belongs to ``basis.wires[i]``.
        basis: The basis that was measured.
        wires: Some of the basis's wires, the first the most significant.
    """
    outcomes = np.array(list(counts), dtype=object)
    index = np.zeros(len(outcomes), dtype=int)
    for wire in wires:
        bit = basis.wires.index(wire)
        index = 2 * index + np.array([(outcome >> bit) & 1 for outcome in outcomes], dtype=int)
    found = np.bincount(index, weights=list(counts.values()), minlength=2 ** len(wires))
    return found / found.sum()


def _scaled(sentence: PauliSentence) -> Iterator[tuple[float, PauliSentence]]:
    """Yields pairs (factor, sum) that add up to a sentence. Words with small coefficients are in
    sums of their own, as Qiskit leaves out words whose coefficients are below 1e-8."""
    if min(map(abs, sentence.values()), default=0.0) >= _SMALLEST:
        yield 1.0, sentence
        return
    left = sorted(sentence, key=lambda word: -abs(sentence[word]))
    while left:
        scale = abs(sentence[left[0]])
        near = [word for word in left if abs(sentence[word]) >= _SMALLEST * scale]
        left = left[len(near) :]
        yield scale, PauliSentence({word: sentence[word] / scale for word in near})


def _sentence(observable: Operator) -> PauliSentence:
    """Writes an observable in Pauli words; only factors that are matrices need decomposing."""
    if observable.pauli_rep is not None:
        return PauliSentence(observable.pauli_rep)
    if isinstance(observable, SProd):
        return observable.scalar * _sentence(observable.base)
    if isinstance(observable, Sum | Prod):
        first, *others = map(_sentence, observable.operands)
        for other in others:
            first = first @ other if isinstance(observable, Prod) else first + other
        return first
    return _decomposed(observable.matrix, observable.wires, observable.name)


def _decomposed(matrix: Callable[[], np.ndarray], wires: Sequence[Any], name: str) -> PauliSentence:
    if len(wires) > _WIDEST_MATRIX:
        raise UnsupportedError(
            f"{name} on {len(wires)} wires has no Pauli representation, and its matrix is written "
            f"in Pauli words on up to {_WIDEST_MATRIX} wires only. Write it as a sum of Pauli "
            "words (qml.Hamiltonian), or return qml.probs(wires=...) for a Projector."
        )
    return decompose(matrix(), wires)


def _of_probabilities(
    measurement: MeasurementProcess, wires: Any
) -> list[tuple[Any, PauliSentence]]:
    """Returns [(weights float64[2**k], observable)], by a Walsh-Hadamard transform."""
    if len(wires) > _WIDEST_PROBS:
        raise UnsupportedError(
            f"Exact probabilities of {len(wires)} wires were asked for; the estimator makes them "
            f"from expectation values, for up to {_WIDEST_PROBS} wires. Give shots=, or use the "
            'device "simulator".'
        )
    terms = []
    rotation = measurement.diagonalizing_gates() if measurement.obs is not None else []
    transform = signs(len(wires)) / 2 ** len(wires)
    for word, weight in zip(z_words(wires), transform, strict=True):
        sentence = PauliSentence({word: 1.0})
        if rotation and word:
            unitary = qml.matrix(qml.prod(*rotation[::-1], qml.I(wires)), wire_order=wires)
            z = word.to_mat(wire_order=qml.wires.Wires(wires))
            rotated = unitary.conj().T @ z @ unitary
            sentence = _decomposed(
                partial(np.asarray, rotated), wires, f"probs(op={measurement.obs.name})"
            )
        terms.append((weight, sentence))
    return terms


def _sparse(sentence: PauliSentence, position: Mapping[Any, int]) -> SparsePauliOp:
    terms = [
        ("".join(word.values()), [position[wire] for wire in word], coefficient)
        for word, coefficient in sentence.items()
    ]
    return SparsePauliOp.from_sparse_list(terms, num_qubits=len(position))
