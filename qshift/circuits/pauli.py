"""Matrices as sums of Pauli words, and the Walsh-Hadamard transform that gives their coefficients.

`qml.pauli_decompose` leaves out terms whose coefficients are below 1e-8, however small the other
coefficients are. Here the bound is relative.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from pennylane.pauli import PauliSentence, PauliWord

_ROUNDING = 1e-15  # relative; coefficients up to here are zeros


def sign(state: np.ndarray | int, word: np.ndarray | int) -> Any:
    """Returns the eigenvalue of a word of Z on a basis state, float64: -1.0 or 1.0.

    Args:
        state: The basis state as bits, integers of any shape.
        word: The bits with a Z, integers of a shape that broadcasts with it.
    """
    return 1.0 - 2.0 * (np.bitwise_count(np.bitwise_and(state, word)) % 2)


def signs(bits: int) -> np.ndarray:
    """Returns the matrix of the Walsh-Hadamard transform, float64[2**bits, 2**bits]: the
    eigenvalues of each word of Z (rows, see `z_words`) on each basis state (columns)."""
    numbers = np.arange(2**bits)
    return sign(numbers[:, None], numbers)


def z_words(wires: Sequence) -> list[PauliWord]:
    """Returns all 2**k words of Z on k wires, the first wire the most significant bit."""
    return [
        PauliWord({wire: "Z" for wire, bit in zip(wires, bits, strict=True) if bit})
        for bits in itertools.product((0, 1), repeat=len(wires))
    ]


def decompose(matrix: np.ndarray, wires: Sequence) -> PauliSentence:
    """Writes a matrix as a sum of Pauli words, by a Walsh-Hadamard transform.

    Args:
        matrix: complex[2**k, 2**k].
        wires: The k wires that it acts on, the first the most significant.

    Returns:
        The words with their coefficients, complex.
    """
    size = len(matrix)
    rows = np.arange(size)
    transform = signs(len(wires))
    smallest = _ROUNDING * np.abs(matrix).max()
    sentence = PauliSentence()
    for x in range(size):
        # The matrix of a word X^x Z^z has the entries [r, r ^ x] = (-1)^((r ^ x) . z).
        coefficients = transform @ matrix[rows ^ x, rows] / size
        for z in np.flatnonzero(np.abs(coefficients) > smallest).tolist():
            letters = {}
            for bit, wire in enumerate(reversed(wires)):
                letter = "IZXY"[2 * (x >> bit & 1) + (z >> bit & 1)]
                if letter != "I":
                    letters[wire] = letter
            word = PauliWord({wire: letters[wire] for wire in wires if wire in letters})
            # Y is i X Z.
            sentence[word] = complex(coefficients[z] * (-1j) ** (x & z).bit_count())
    return sentence
