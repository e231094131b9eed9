"""The matrices that gates are made of, written down."""

from __future__ import annotations

from functools import reduce

import numpy as np

I = np.eye(2)  # noqa: E741
X = np.array([[0, 1], [1, 0]])
Y = np.array([[0, -1j], [1j, 0]])
Z = np.array([[1, 0], [0, -1]])
PAULI = {"I": I, "X": X, "Y": Y, "Z": Z}

ROOT = np.sqrt(0.5)


def kron(*matrices) -> np.ndarray:
    """The tensor product; the first matrix acts on the first wire."""
    return reduce(np.kron, matrices)


def word(letters: str) -> np.ndarray:
    """A tensor product of Pauli matrices, such as XZI."""
    return kron(*(PAULI[letter] for letter in letters))


def projector(bits: str) -> np.ndarray:
    """|bits><bits|, such as |10><10|."""
    matrix = np.zeros((2 ** len(bits),) * 2)
    matrix[int(bits, 2), int(bits, 2)] = 1
    return matrix


def x_between(a: str, b: str) -> np.ndarray:
    """|a><b| + |b><a|."""
    matrix = np.zeros((2 ** len(a),) * 2)
    matrix[int(a, 2), int(b, 2)] = matrix[int(b, 2), int(a, 2)] = 1
    return matrix


def y_between(a: str, b: str) -> np.ndarray:
    """-i |a><b| + i |b><a|: exp(-i x of this) takes |a> to cos x |a> + sin x |b>."""
    matrix = np.zeros((2 ** len(a),) * 2, complex)
    matrix[int(a, 2), int(b, 2)], matrix[int(b, 2), int(a, 2)] = -1j, 1j
    return matrix


def diagonal(*entries) -> np.ndarray:
    return np.diag(np.array(entries))


def controlled(matrix: np.ndarray, values: str = "1") -> np.ndarray:
    """A unitary that acts if the first wires are in the state |values>."""
    return np.eye(2 ** len(values) * len(matrix)) + np.kron(
        projector(values), matrix - np.eye(len(matrix))
    )


SWAP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
CNOT = controlled(X)

# Gates without parameters.
CONSTANT: dict[str, np.ndarray] = {
    "Identity": I,
    "PauliX": X,
    "PauliY": Y,
    "PauliZ": Z,
    "Hadamard": ROOT * np.array([[1, 1], [1, -1]]),
    "S": diagonal(1, 1j),
    "T": diagonal(1, np.exp(0.25j * np.pi)),
    "SX": 0.5 * np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]),
    "CNOT": CNOT,
    "CY": controlled(Y),
    "CZ": controlled(Z),
    "CH": controlled(ROOT * np.array([[1, 1], [1, -1]])),
    "SWAP": SWAP,
    "ISWAP": np.array([[1, 0, 0, 0], [0, 0, 1j, 0], [0, 1j, 0, 0], [0, 0, 0, 1]]),
    "SISWAP": np.array(
        [[1, 0, 0, 0], [0, ROOT, ROOT * 1j, 0], [0, ROOT * 1j, ROOT, 0], [0, 0, 0, 1]]
    ),
    "ECR": ROOT * np.array([[0, 0, 1, 1j], [0, 0, 1j, 1], [1, -1j, 0, 0], [-1j, 1, 0, 0]]),
    "Toffoli": controlled(X, "11"),
    "CCZ": controlled(Z, "11"),
    "CSWAP": controlled(SWAP),
}


def fourier(wires: int) -> np.ndarray:
    """The quantum Fourier transform."""
    size = 2**wires
    k = np.arange(size)
    return np.exp(2j * np.pi * np.outer(k, k) / size) / np.sqrt(size)


def diffusion(wires: int) -> np.ndarray:
    """Grover's 2 |s><s| - 1."""
    size = 2**wires
    return np.full((size, size), 2 / size) - np.eye(size)
