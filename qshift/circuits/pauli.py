"""Matrices as sums of Pauli words.

`qml.pauli_decompose` leaves terms out whose coefficients are below 1e-8, whatever the others are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pennylane.pauli import PauliSentence, PauliWord
from scipy.linalg import hadamard

_ROUNDING = 1e-15  # relative; coefficients up to here are zeros


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
    signs = hadamard(size) if size > 1 else np.ones((1, 1))
    smallest = _ROUNDING * np.abs(matrix).max()
    sentence = PauliSentence()
    for x in range(size):
        # Of the words X^x Z^z: entry [r, r ^ x] is (-1)^((r ^ x) . z).
        coefficients = signs @ matrix[rows ^ x, rows] / size
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
