"""Numbers that carry their derivatives.

A jet is a polynomial in the small changes h_1, ..., h_P of the parameters, cut off beyond a total
degree: y(h) = y_0 + sum_i y_i h_i + sum_ij y_ij h_i h_j + ... Sums and products of polynomials are
polynomials, and a function of one is its Taylor series, which ends: h to the power of order + 1 is
zero. So a calculation with jets gives all derivatives up to the order, without any approximation.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np


class Ring:
    """Polynomials in some variables, up to a total degree.

    Attributes:
        variables: P, their number.
        order: The highest total degree.
        monomials: Each as a sorted tuple of variables, (0, 0, 2) for h_0 h_0 h_2; () comes first.
    """

    def __init__(self, variables: int, order: int):
        self.variables, self.order = variables, order
        self.monomials = [
            monomial
            for degree in range(order + 1)
            for monomial in itertools.combinations_with_replacement(range(variables), degree)
        ]
        self.position = {monomial: k for k, monomial in enumerate(self.monomials)}
        # monomials[i] * monomials[j] = monomials[k], sorted by k.
        products = sorted(
            (self.position[tuple(sorted(a + b))], i, j)
            for i, a in enumerate(self.monomials)
            for j, b in enumerate(self.monomials)
            if len(a) + len(b) <= order
        )
        self.k, self.i, self.j = np.array(products).T
        self.starts = np.flatnonzero(np.diff(self.k, prepend=-1))

    @property
    def size(self) -> int:
        return len(self.monomials)

    def constant(self, value) -> Jet:
        """Returns a number or array that depends on nothing."""
        value = np.asarray(value)
        coefficients = np.zeros((self.size, *value.shape), np.result_type(value, float))
        coefficients[0] = value
        return Jet(self, coefficients)

    def parameters(self, values, first: int) -> Jet:
        """Returns an array whose entries are the variables from `first` on, at these values."""
        jet = self.constant(values)
        flat = jet.coefficients.reshape(self.size, -1)
        for entry in range(flat.shape[1] if self.order else 0):
            flat[self.position[(first + entry,)], entry] = 1.0
        return jet


@lru_cache(maxsize=64)
def ring(variables: int, order: int) -> Ring:
    """Returns a ring; making one takes longer than using it."""
    return Ring(variables, order)


class Jet:
    """An array of polynomials.

    Attributes:
        ring: What they are polynomials in.
        coefficients: [number of monomials, *shape].
    """

    __array_priority__ = 1  # an array times a jet is a jet

    def __init__(self, ring: Ring, coefficients: np.ndarray):
        self.ring, self.coefficients = ring, coefficients

    @property
    def shape(self) -> tuple[int, ...]:
        return self.coefficients.shape[1:]

    @property
    def value(self) -> np.ndarray:
        return self.coefficients[0]

    @property
    def change(self) -> Jet:
        """The jet without its value: what a Taylor series is a series in."""
        coefficients = self.coefficients.copy()
        coefficients[0] = 0
        return Jet(self.ring, coefficients)

    def _with(self, other) -> tuple[np.ndarray, np.ndarray]:
        """Returns the coefficients of both, with as many axes."""
        other = other if isinstance(other, Jet) else self.ring.constant(other)
        axes = max(len(self.shape), len(other.shape))
        return tuple(
            jet.coefficients.reshape(self.ring.size, *[1] * (axes - len(jet.shape)), *jet.shape)
            for jet in (self, other)
        )

    def __add__(self, other):
        a, b = self._with(other)
        return Jet(self.ring, a + b)

    def __mul__(self, other):
        if not isinstance(other, Jet):
            other = np.asarray(other)
            a = self._with(other)[0]
            return Jet(self.ring, a * other)
        a, b = self._with(other)
        terms = a[self.ring.i] * b[self.ring.j]
        return Jet(self.ring, np.add.reduceat(terms, self.ring.starts, axis=0))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -1.0 * other

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        return self * (other.power(-1) if isinstance(other, Jet) else 1.0 / np.asarray(other))

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        return Jet(self.ring, self.coefficients[(slice(None), *key)])

    def __len__(self):
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def reshape(self, *shape):
        return Jet(self.ring, self.coefficients.reshape(self.ring.size, *shape))

    def transpose(self):
        axes = range(len(self.shape), 0, -1)
        return Jet(self.ring, self.coefficients.transpose(0, *axes))

    def sum(self):
        return self.reshape(-1)._reduced()

    def _reduced(self):
        return Jet(self.ring, self.coefficients.sum(axis=1))

    def __matmul__(self, other):
        """A matrix times a vector."""
        products = self * other
        return Jet(self.ring, products.coefficients.sum(axis=-1))

    @property
    def real(self):
        return Jet(self.ring, self.coefficients.real)

    def conj(self):
        return Jet(self.ring, self.coefficients.conj())

    # --- functions ---

    def series(self, taylor) -> Jet:
        """Returns sum_k taylor[k] change**k, for the Taylor coefficients of a function at value."""
        result, change = self.ring.constant(taylor[self.ring.order]), self.change
        for coefficient in reversed(taylor[: self.ring.order]):
            result = result * change + coefficient
        return result

    def sin(self):
        s, c = np.sin(self.value), np.cos(self.value)
        return self.series([s, c, -s / 2, -c / 6])

    def cos(self):
        s, c = np.sin(self.value), np.cos(self.value)
        return self.series([c, -s, -c / 2, s / 6])

    def exp(self):
        return self.series([np.exp(self.value) / math.factorial(k) for k in _K])

    def power(self, exponent):
        value, taylor, binomial = np.asarray(self.value, float), [], 1.0
        for k in _K:
            taylor.append(binomial * value ** (exponent - k))
            binomial *= (exponent - k) / (k + 1)
        return self.series(taylor)

    def sqrt(self):
        return self.power(0.5)

    def square(self):
        return self * self

    def tanh(self):
        t = np.tanh(self.value)
        slope = 1 - t**2
        return self.series([t, slope, -t * slope, slope * (3 * t**2 - 1) / 3])

    # --- derivatives ---

    def derivative(self, variables) -> Jet:
        """Returns the derivatives by some variables, along a new last axis.

        The result holds up to one degree less.
        """
        columns = []
        for variable in variables:
            column = np.zeros_like(self.coefficients)
            for k, monomial in enumerate(self.ring.monomials):
                if len(monomial) < self.ring.order:
                    raised = tuple(sorted((*monomial, variable)))
                    column[k] = (monomial.count(variable) + 1) * self.coefficients[
                        self.ring.position[raised]
                    ]
            columns.append(column)
        return Jet(self.ring, np.stack(columns, axis=-1))

    def matrix(self) -> np.ndarray:
        """Returns the matrix that multiplies a vector of coefficients by this number."""
        matrix = np.zeros((self.ring.size,) * 2, self.coefficients.dtype)
        matrix[self.ring.k, self.ring.j] = self.coefficients[self.ring.i]
        return matrix


_K = range(4)  # derivatives of functions are written down up to the third


def stack(jets) -> Jet:
    """Stacks jets of one shape along a new first axis."""
    return Jet(jets[0].ring, np.stack([jet.coefficients for jet in jets], axis=1))


def concatenate(jets, axis: int = 0) -> Jet:
    """Joins jets along an axis."""
    axis = axis if axis < 0 else axis + 1
    return Jet(jets[0].ring, np.concatenate([jet.coefficients for jet in jets], axis=axis))
