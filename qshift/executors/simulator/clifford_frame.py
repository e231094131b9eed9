"""Gates as rotations about Pauli words, with all Clifford gates moved behind them.

Moving a Clifford gate behind a rotation turns the rotation's word into another word (Litinski 2019,
Quantum 3:128, Sec. 1). Clifford gates that no longer stand between rotations cost nothing per
point: together they are one unitary.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pennylane as qml

from qshift.circuits.identity import contains_custom
from qshift.circuits.pauli import decompose, sign
from qshift.circuits.smooth_decompositions import has_decomposition
from qshift.circuits.spectra import has_no_effect
from qshift.executors.simulator.measurement_bases import NotCoveredError

if TYPE_CHECKING:
    from pennylane.operation import Operator

_WIDEST_CLIFFORD = 3  # wires
_SAME_GATE = 1e-10  # between its matrix and what its generator says
_TOLERANCE = 1e-13  # of matrices with entries up to one


class Word(NamedTuple):
    """The operator i^phase X^x Z^z, where bit b of x and z belongs to bit b of a basis state."""

    x: int
    z: int
    phase: int

    def __matmul__(self, other: Word) -> Word:
        swaps = (self.z & other.x).bit_count()
        phase = self.phase + other.phase + 2 * swaps
        return Word(self.x ^ other.x, self.z ^ other.z, phase % 4)

    def entries(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the matrix as (int[size], complex[size]): for each row, the column of its only
        entry, and the entry."""
        columns = np.arange(size) ^ self.x
        return columns, 1j**self.phase * sign(columns, self.z)

    def matrix(self, size: int) -> np.ndarray:
        columns, values = self.entries(size)
        matrix = np.zeros((size, size), complex)
        matrix[np.arange(size), columns] = values
        return matrix


class Frame:
    """A circuit as rotations, and a Clifford unitary after all of them.

    Args:
        wire_map: Wire label -> position.

    Attributes:
        rotations: (word, column, scale) of each, in order: its angle is scale times that column of
            the point, or the scale alone if the column is -1.
        unitary: complex[2**n, 2**n].
    """

    def __init__(self, wire_map: dict) -> None:
        self.wire_map = wire_map
        self.rotations: list[tuple[Word, int, float]] = []
        self.unitary = np.eye(2 ** len(wire_map), dtype=complex)
        self._known: dict[tuple, list[tuple[Word, float]]] = {}  # what gates are made of
        # For X and Z on each bit: the word that, before the unitary, does what this does after it.
        self._images = [[Word(1 << b, 0, 0), Word(0, 1 << b, 0)] for b in range(len(wire_map))]

    def add(self, op: qml.operation.Operator, columns: list[int]) -> None:
        """Adds a gate that depends on some columns of the point."""
        if has_no_effect(op) or not op.wires:
            return
        bits = [len(self.wire_map) - 1 - self.wire_map[wire] for wire in reversed(op.wires)]
        matrix = np.ascontiguousarray(op.matrix(), complex) if op.has_matrix else None
        if columns:
            # A user's gate may not do at other angles what its generator says.
            single = len(columns) == len(op.data) == 1 and not contains_custom(op)
            if not single or matrix is None or not op.has_generator:
                raise NotCoveredError
            for word, scale in self._terms(op, matrix):
                self.rotations.append((self._before(word, bits), columns[0], scale))
        elif matrix is not None and (images := _images(matrix.tobytes(), len(bits))):
            found = [self._before(word, bits) for word in images]
            for i, bit in enumerate(bits):
                self._images[bit] = found[2 * i : 2 * i + 2]
            positions = [self.wire_map[wire] for wire in op.wires]
            self.unitary = apply(matrix, positions, self.unitary)
        elif matrix is not None and len(op.data) == 1 and op.has_generator:
            for word, scale in self._terms(op, matrix):
                self.rotations.append((self._before(word, bits), -1, scale * float(op.data[0])))
        elif has_decomposition(op):
            with qml.QueuingManager.stop_recording():
                parts = op.decomposition()
            if not all(wire in self.wire_map for part in parts for wire in part.wires):
                raise NotCoveredError  # it borrows work wires
            for part in parts:
                self.add(part, [])
        else:
            raise NotCoveredError

    def _terms(self, op: Operator, matrix: np.ndarray) -> list[tuple[Word, float]]:
        key = type(op), matrix.tobytes(), float(op.data[0])
        if key not in self._known:
            self._known[key] = _terms(op, matrix)
        return self._known[key]

    def _before(self, word: Word, bits: Sequence[int]) -> Word:
        """Returns the word that does before the unitary what a word on some bits does after it."""
        found = Word(0, 0, word.phase)
        for mask, which in ((word.x, 0), (word.z, 1)):
            for i, bit in enumerate(bits):
                if mask >> i & 1:
                    found @= self._images[bit][which]
        return found


def apply(matrix: Any, wires: Any, states: Any) -> Any:
    """Applies a matrix on some wires to states complex[2**n, K]."""
    count, k = len(states).bit_length() - 1, len(wires)
    matrix = np.reshape(matrix, (2,) * (2 * k))
    shaped = np.reshape(states, (*(2,) * count, -1))
    found = np.tensordot(matrix, shaped, (range(k, 2 * k), wires))
    return np.moveaxis(found, range(k), wires).reshape(states.shape)


def _terms(op: Operator, matrix: np.ndarray) -> list[tuple[Word, float]]:
    """Returns words that commute, and angles per parameter, whose rotations together are a gate.

    Raises:
        NotCoveredError: If there are none.
    """
    with warnings.catch_warnings(), qml.QueuingManager.stop_recording():
        warnings.simplefilter("ignore")
        generator = qml.matrix(op.generator(), wire_order=op.wires)
        sentence = decompose(generator, op.wires)
    bits = {wire: 1 << b for b, wire in enumerate(reversed(op.wires))}
    terms, product = [], np.eye(len(matrix))
    for letters, coefficient in sentence.items():
        x = sum(bits[wire] for wire, letter in letters.items() if letter in "XY")
        z = sum(bits[wire] for wire, letter in letters.items() if letter in "YZ")
        if x or z:  # otherwise it is a phase
            word, scale = Word(x, z, (x & z).bit_count() % 4), -2.0 * float(np.real(coefficient))
            terms.append((word, scale))
            half = scale * float(op.data[0]) / 2
            product = (
                np.cos(half) * product - 1j * np.sin(half) * word.matrix(len(matrix)) @ product
            )
    commute = all(a @ b == b @ a for (a, _), (b, _) in combinations(terms, 2))
    overlap = np.vdot(product, matrix) / len(matrix)
    phase = overlap / (abs(overlap) or 1.0)
    if not commute or not np.allclose(phase * product, matrix, rtol=0, atol=_SAME_GATE):
        raise NotCoveredError
    return terms


@lru_cache(maxsize=1024)
def _images(entries: bytes, count: int) -> list[Word] | None:
    """Returns what X and Z on each bit are before a gate; None if it is not a Clifford gate."""
    matrix = np.frombuffer(entries, complex).reshape(2**count, 2**count)
    if count > _WIDEST_CLIFFORD:
        return None
    found = []
    for bit in range(count):
        for word in (Word(1 << bit, 0, 0), Word(0, 1 << bit, 0)):
            image = _word(matrix.conj().T @ word.matrix(len(matrix)) @ matrix)
            if image is None:
                return None
            found.append(image)
    return found


def _word(matrix: np.ndarray) -> Word | None:
    """Returns a matrix as a word, if it is one."""
    x = int(np.argmax(np.abs(matrix[:, 0])))
    phase = round(np.angle(matrix[x, 0]) / (np.pi / 2)) % 4
    bits = [1 << bit for bit in range(len(matrix).bit_length() - 1)]
    z = sum(bit for bit in bits if np.real(matrix[x ^ bit, bit] / matrix[x, 0]) < 0)
    word = Word(x, z, phase)
    return word if np.allclose(word.matrix(len(matrix)), matrix, atol=_TOLERANCE) else None
