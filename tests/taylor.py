"""Circuits as Taylor polynomials along a line, from matrices: exact derivatives without PennyLane.

Along angles x + t v, every gate is a polynomial in t up to some order, a product of gates is the
product of polynomials, and exp(A(t)) is the exponential of one block matrix.
"""

from __future__ import annotations

from functools import reduce
from math import factorial

import numpy as np
from scipy.linalg import expm

ORDER = 3

PAULI = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def word(letters: str) -> np.ndarray:
    """Returns a Pauli word as a matrix, the first letter on the first wire."""
    return reduce(np.kron, [PAULI[letter] for letter in letters])


class Taylor:
    """A polynomial in t, cut off after ORDER.

    Attributes:
        c: The coefficients, [ORDER + 1, ...], of numbers or matrices.
    """

    __array_priority__ = 1000  # NumPy leaves products to this class

    def __init__(self, *coefficients):
        first = np.asarray(coefficients[0])
        kind = np.result_type(float, *coefficients)
        self.c = np.zeros((ORDER + 1, *first.shape), dtype=kind)
        self.c[: len(coefficients)] = coefficients

    def derivatives(self) -> np.ndarray:
        """Returns value, first, second, ... derivative by t at zero."""
        factors = np.array([factorial(k) for k in range(ORDER + 1)])
        return self.c * factors.reshape(-1, *(1,) * (self.c.ndim - 1))

    def dagger(self) -> Taylor:
        return Taylor(*np.conj(np.swapaxes(self.c, -1, -2)))

    def conj(self) -> Taylor:
        return Taylor(*np.conj(self.c))

    def _with(self, other, multiply):
        other = other if isinstance(other, Taylor) else Taylor(np.asarray(other))
        rows = [
            sum(multiply(self.c[i], other.c[k - i]) for i in range(k + 1)) for k in range(ORDER + 1)
        ]
        return Taylor(*rows)

    def __mul__(self, other):
        return self._with(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __matmul__(self, other):
        return self._with(other, lambda a, b: a @ b)

    def __rmatmul__(self, other):
        return Taylor(np.asarray(other)) @ self

    def __add__(self, other):
        other = other if isinstance(other, Taylor) else Taylor(np.asarray(other))
        return Taylor(*[a + b for a, b in zip(self.c, other.c, strict=True)])

    __radd__ = __add__

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -other

    def __truediv__(self, number):
        return self * (1 / number)


def exponential(matrix: Taylor) -> Taylor:
    """Returns exp(A(t)): the first row of blocks of the exponential of a block matrix."""
    size = matrix.c.shape[-1]
    blocks = sum(np.kron(np.eye(ORDER + 1, k=k), matrix.c[k]) for k in range(ORDER + 1))
    row = expm(blocks)[:size].reshape(size, ORDER + 1, size)
    return Taylor(*np.moveaxis(row, 1, 0))


def generated(generator, angle) -> Taylor:
    """Returns exp(i angle G)."""
    return exponential(angle * (1j * np.asarray(generator)))


def rotation(letters: str, angle) -> Taylor:
    """Returns exp(-i angle/2 P)."""
    return generated(-0.5 * word(letters), angle)


def controlled(gate: Taylor, values=(1,)) -> Taylor:
    """Returns a gate that acts if wires in front of its own have some values."""
    size, count = gate.c.shape[-1], 2 ** len(values)
    place = int("".join(str(int(value)) for value in values), 2) * size
    result = Taylor(np.eye(count * size, dtype=complex))
    block = slice(place, place + size)
    result.c[:, block, block] = gate.c
    return result


def embedded(gate: Taylor, wires, count: int) -> Taylor:
    """Returns a gate on some of `count` wires as a matrix on all of them."""
    k, shape = len(wires), (2,) * (2 * count)
    others = [wire for wire in range(count) if wire not in wires]
    order = [*wires, *others]
    axes = [order.index(wire) for wire in range(count)]
    rows = []
    for matrix in gate.c:
        full = np.kron(matrix, np.eye(2 ** (count - k))).reshape(shape)
        full = full.transpose(*axes, *(count + axis for axis in axes))
        rows.append(full.reshape(2**count, 2**count))
    return Taylor(*rows)


def sequence(count: int, *gates) -> Taylor:
    """Returns the product of gates on `count` wires, given as (gate, wires) in order of action."""
    result = Taylor(np.eye(2**count, dtype=complex))
    for gate, wires in gates:
        gate = gate if isinstance(gate, Taylor) else Taylor(np.asarray(gate, dtype=complex))
        result = embedded(gate, list(wires), count) @ result
    return result


def expectation(state: np.ndarray, gate: Taylor, observable: np.ndarray) -> Taylor:
    """Returns the expectation value of an observable after a gate."""
    after = gate @ state[:, None]
    value = after.dagger() @ observable @ after
    return Taylor(*value.c[:, 0, 0].real)
