"""Gates as rotations about Pauli words, with all Clifford gates moved behind them.

Moving a Clifford gate behind a rotation turns the rotation's word into another word (Litinski 2019,
Quantum 3:128, Sec. 1). Clifford gates that no longer stand between rotations cost nothing: what
they do to observables is known too, and a basis to measure in takes few rotations by pi/2.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pennylane as qml

from qshift.circuits.identity import contains_custom
from qshift.circuits.pauli import decompose, sign
from qshift.circuits.smooth_decompositions import has_decomposition
from qshift.circuits.spectra import has_no_effect, standard_name
from qshift.executors.simulator.gate_matrices import (
    SAME_GATE,
    MatrixGate,
    is_matrix,
    is_wide_control,
    matrix_gate,
    matrix_of,
)
from qshift.executors.simulator.thresholds import DEFAULT

if TYPE_CHECKING:
    from pennylane.operation import Operator

    from qshift.circuits.circuit import Slot

_WIDEST_CLIFFORD = 3  # wires
_WIDEST_ROTATION = 6  # wires of gates whose rotations are compared with a matrix
_MOST_WORDS = 16  # of one gate; a matrix takes less time than more of them
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

    def times(self, quarters: int) -> Word:
        """Returns i^quarters times this word."""
        return Word(self.x, self.z, (self.phase + quarters) % 4)

    def commutes(self, other: Word) -> bool:
        return not ((self.z & other.x).bit_count() + (self.x & other.z).bit_count()) % 2

    def matrix(self, size: int) -> np.ndarray:
        rows = np.arange(size)
        matrix = np.zeros((size, size), complex)
        matrix[rows, rows ^ self.x] = 1j**self.phase * sign(rows ^ self.x, self.z)
        return matrix


def of_letters(letters: dict[int, str]) -> Word:
    """Returns the word with letters "X", "Y" and "Z" on bits."""
    x = sum(1 << bit for bit, letter in letters.items() if letter in "XY")
    z = sum(1 << bit for bit, letter in letters.items() if letter in "YZ")
    return Word(x, z, (x & z).bit_count() % 4)


_X, _Y, _Z = (of_letters({0: letter}) for letter in "XYZ")
# Gates as rotations, up to a phase: words, and the parameters that are their angles; None for pi/2.
_EULER: dict[str, list[tuple[Word, int | None]]] = {
    "Rot": [(_Z, 0), (_Y, 1), (_Z, 2)],
    "U3": [(_Z, 2), (_Y, 0), (_Z, 1)],
    "U2": [(_Z, 1), (_Y, None), (_Z, 0)],
}


@dataclass(frozen=True)
class Rotation:
    """The rotation exp(-i angle/2 word).

    Attributes:
        word: A Hermitian word.
        column: The column of the point that the angle is a multiple of; -1 if it is constant.
        scale: The factor, or the constant angle.
    """

    word: Word
    column: int
    scale: float


class Frame:
    """A circuit as rotations and matrices, and a Clifford unitary behind all of them.

    Args:
        wire_map: Wire label -> position.
        widest: Wires of the widest matrix.

    Attributes:
        steps: The rotations and matrices, in order.
    """

    def __init__(self, wire_map: dict, widest: int = DEFAULT.widest_matrix) -> None:
        self.wire_map, self._widest = wire_map, widest
        self.steps: list[Rotation | MatrixGate] = []
        self._known: dict[tuple, list[tuple[Word, float]]] = {}  # what gates are made of
        # For X and Z on each bit: the word that, before the unitary, does what this does after it.
        self._images = [[Word(1 << b, 0, 0), Word(0, 1 << b, 0)] for b in range(len(wire_map))]

    def branch(self) -> Frame:
        """Returns a frame that goes on behind the same unitary, and has no steps yet."""
        other = Frame(self.wire_map, self._widest)
        other._images = [list(images) for images in self._images]
        return other

    def bits(self, wires: Sequence) -> list[int]:
        """Returns the bits of wires, the last wire first."""
        return [len(self.wire_map) - 1 - self.wire_map[wire] for wire in reversed(wires)]

    def add(self, op: Operator, slots: Sequence[Slot] = (), position: int = -1) -> None:
        """Adds a gate.

        Args:
            op: The gate.
            slots: Its parameters that belong to columns of the point.
            position: Its position among the circuit's operations, if there are any.

        Raises:
            NotCoveredError: If it is neither made of rotations nor a matrix of few wires.
        """
        if has_no_effect(op) or not op.wires:
            return
        bits = self.bits(op.wires)
        if not slots and (images := _images_of(op)):
            found = [self.before(word, bits) for word in images]
            for i, bit in enumerate(bits):
                self._images[bit] = found[2 * i : 2 * i + 2]
        elif rotations := self._rotations(op, slots):
            for word, column, scale in rotations:
                self.steps.append(Rotation(self.before(word, bits), column, scale))
        elif not slots and (parts := self._parts(op)):
            for part in parts:
                self.add(part)
        else:
            columns = [column for slot in slots for column in slot.columns]
            gate = matrix_gate(op, self.bits, self._widest, columns, position)
            touched = int(gate.masks[0] | gate.masks[1])
            self._settle([bit for bit in range(len(self.wire_map)) if touched >> bit & 1])
            self.steps.append(gate)

    def _parts(self, op: Operator) -> list[Operator]:
        """Returns the gates that a constant gate is made of; none if it is better a matrix."""
        if is_matrix(op) or not has_decomposition(op):
            return []
        with qml.QueuingManager.stop_recording():
            parts = op.decomposition()
        # Some decompositions borrow work wires.
        return parts if all(wire in self.wire_map for part in parts for wire in part.wires) else []

    def _rotations(self, op: Operator, slots: Sequence[Slot]) -> list[tuple[Word, int, float]]:
        """Returns (word, column, scale) of rotations that are a gate one after the other; none if
        it is not made of few."""
        start = {slot.parameter: slot.start for slot in slots}
        if None in start or any(np.ndim(parameter) for parameter in op.data):
            return []
        if slots and (euler := _EULER.get(standard_name(op) or "")):
            constants: dict[int | None, float] = {None: np.pi / 2}
            constants |= {k: float(np.real(value)) for k, value in enumerate(op.data)}
            return [
                (word, start[k], 1.0) if k in start else (word, -1, constants[k])
                for word, k in euler
            ]
        # A user's gate may not do at other angles what its generator says.
        if len(op.data) != 1 or not op.has_generator or (slots and contains_custom(op)):
            return []
        angle = float(np.real(op.data[0]))
        return [
            (word, start[0], scale) if slots else (word, -1, scale * angle)
            for word, scale in self._terms(op, angle)
        ]

    def _terms(self, op: Operator, angle: float) -> list[tuple[Word, float]]:
        if standard_name(op) in ("MultiRZ", "PauliRot"):
            return _terms(op, angle, None)
        if not op.has_matrix or len(op.wires) > _WIDEST_ROTATION or is_wide_control(op):
            return []
        matrix = matrix_of(op)
        key = type(op), matrix.tobytes(), angle
        if key not in self._known:
            self._known[key] = _terms(op, angle, matrix)
        return self._known[key]

    def before(self, word: Word, bits: Sequence[int]) -> Word:
        """Returns the word that does before the unitary what a word on some bits does after it."""
        found = Word(0, 0, word.phase)
        for mask, which in ((word.x, 0), (word.z, 1)):
            for i, bit in enumerate(bits):
                if mask >> i & 1:
                    found @= self._images[bit][which]
        return found

    def outcomes(self, wires: Sequence) -> list[tuple[int, int]]:
        """Adds rotations that bring wires into the computational basis of the state.

        Returns:
            For each wire the bits z of an amplitude, and a 0 or 1: its outcome is the parity of
            these bits, plus that number.
        """
        found = self.bits(wires)[::-1]
        for bit in found:
            image = self._images[bit][1]
            if image.x:
                # What is diagonal already commutes with both words, and stays so.
                self._bring(image, Word(0, image.x & -image.x, 0))
        return [(self._images[bit][1].z, self._images[bit][1].phase // 2) for bit in found]

    def _settle(self, bits: Sequence[int]) -> None:
        """Adds rotations after which the unitary does nothing to some bits."""
        for bit in bits:
            x, y, z = (of_letters({bit: letter}) for letter in "XYZ")
            # What is settled stays so: the image of Z changes by words that commute with X, and
            # all images commute with X and Z of earlier bits.
            for which, wanted, flip, way in ((0, x, z, z), (1, z, x, y)):
                image = self._images[bit][which]
                if image == wanted.times(2):
                    self._turn(flip, np.pi)
                elif image != wanted:
                    if image.commutes(wanted):  # by way of a word that commutes with neither
                        if image.commutes(way):
                            further = (image.x | image.z) & ~(1 << bit)
                            one = further & -further
                            way @= Word(0, one, 0) if image.x & one else Word(one, 0, 0)
                        image = self._bring(image, way)
                    self._bring(image, wanted)

    def _bring(self, image: Word, wanted: Word) -> Word:
        """Adds the rotation by pi/2 that turns a word into another one that it does not commute
        with."""
        self._turn((image @ wanted).times(3), np.pi / 2)
        return wanted

    def _turn(self, word: Word, angle: float) -> None:
        """Adds a rotation by pi/2 or pi, and takes it back in the unitary."""
        self.steps.append(Rotation(word, -1, angle))
        for images in self._images:
            for which, image in enumerate(images):
                if not image.commutes(word):
                    half = angle == np.pi
                    images[which] = image.times(2) if half else (image @ word).times(1)


def _terms(op: Operator, angle: float, matrix: np.ndarray | None) -> list[tuple[Word, float]]:
    """Returns words that commute, and angles per parameter, whose rotations together are a gate;
    none if there are none, or too many.

    Args:
        op: The gate.
        angle: Its angle.
        matrix: Its matrix; None if there is no doubt.
    """
    with warnings.catch_warnings(), qml.QueuingManager.stop_recording():
        warnings.simplefilter("ignore")
        generator = op.generator()
        sentence = generator.pauli_rep
        if sentence is None:
            sentence = decompose(qml.matrix(generator, wire_order=op.wires), op.wires)
    bits = {wire: b for b, wire in enumerate(reversed(op.wires))}
    words = [
        (of_letters({bits[wire]: letter for wire, letter in letters.items()}), coefficient)
        for letters, coefficient in sentence.items()
        if letters and coefficient != 0  # otherwise it is a phase
    ]
    terms = [(word, -2.0 * float(np.real(coefficient))) for word, coefficient in words]
    commute = all(a.commutes(b) for (a, _), (b, _) in combinations(terms, 2))
    if not commute or len(terms) > _MOST_WORDS:
        return []
    if matrix is not None:
        product = np.eye(len(matrix))
        for word, scale in terms:
            half = scale * angle / 2
            turned = word.matrix(len(matrix)) @ product
            product = np.cos(half) * product - 1j * np.sin(half) * turned
        overlap = np.vdot(product, matrix) / len(matrix)
        phase = overlap / (abs(overlap) or 1.0)
        if not np.allclose(phase * product, matrix, rtol=0, atol=SAME_GATE):
            return []
    return terms


def _images_of(op: Operator) -> list[Word] | None:
    if len(op.wires) > _WIDEST_CLIFFORD or not op.has_matrix:
        return None
    return _images(matrix_of(op).tobytes(), len(op.wires))


@lru_cache(maxsize=1024)
def _images(entries: bytes, count: int) -> list[Word] | None:
    """Returns what X and Z on each bit are before a gate; None if it is not a Clifford gate."""
    matrix = np.frombuffer(entries, complex).reshape(2**count, 2**count)
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
