"""State vectors whose amplitudes are jets, and what gates and measurements do to them.

A state is a jet of shape [2, ..., 2], one axis for each wire.
"""

from __future__ import annotations

import math

import numpy as np

from fuzz.gates import Factor
from fuzz.jets import Jet, Ring

_MOST_STEPS = 64


def zero_state(ring: Ring, wires: int) -> Jet:
    amplitudes = np.zeros((2,) * wires, complex)
    amplitudes.flat[0] = 1
    return ring.constant(amplitudes)


def multiply(matrix: np.ndarray, state: Jet, wires) -> Jet:
    """Applies a matrix to some wires."""
    n, axes = len(wires), [1 + wire for wire in wires]
    tensor = np.reshape(matrix, (2,) * (2 * n))
    moved = np.tensordot(tensor, state.coefficients, axes=(range(n, 2 * n), axes))
    # tensordot puts the new axes of the wires first.
    return Jet(state.ring, np.moveaxis(moved, range(n), axes))


def times(x: Jet, state: Jet) -> Jet:
    """A number times a state."""
    flat = state.coefficients.reshape(state.ring.size, -1)
    return Jet(state.ring, (x.matrix() @ flat).reshape(state.coefficients.shape))


def apply(factor: Factor, state: Jet) -> Jet:
    """Applies a constant unitary, or exp(-i sum_k x_k G_k)."""
    if factor.unitary is not None:
        return multiply(factor.unitary, state, factor.wires)
    if len(factor.exponent) == 1:
        return _one(*factor.exponent[0], factor.wires, state)
    return _several(factor.exponent, factor.wires, state)


def _one(x, generator, wires, state):
    """exp(-i (x_0 + h) G) = exp(-i x_0 G) sum_k (-i G)^k h^k / k!, which ends."""
    x = x if isinstance(x, Jet) else state.ring.constant(x)
    result = term = state
    for k in range(1, state.ring.order + 1):
        if not x.change.coefficients.any():
            break
        term = times(x.change, multiply(generator / k, term, wires)) * -1j
        result = result + term
    return multiply(_exponential(float(x.value), generator), result, wires)


def _exponential(x: float, generator) -> np.ndarray:
    eigenvalues, vectors = np.linalg.eigh(generator)
    # Eigenvalues that are quarters of integers are meant so, which large x would notice.
    quarters = np.round(4 * eigenvalues) / 4
    exact = np.abs(eigenvalues - quarters) < 1e-12
    eigenvalues = np.where(exact, quarters, eigenvalues)
    return (vectors * np.exp(-1j * x * eigenvalues)) @ vectors.conj().T


def _several(exponent, wires, state):
    """Generators that need not commute: the exponential series, in steps of norm one."""
    exponent = [(x if isinstance(x, Jet) else state.ring.constant(x), g) for x, g in exponent]
    norm = sum(abs(float(x.value)) * np.linalg.norm(g, 2) for x, g in exponent)
    if norm > _MOST_STEPS:
        return _multiplied(squared_up(exponent, norm), state, wires)
    steps = max(1, math.ceil(norm))
    for _ in range(steps):
        result = term = state
        for k in range(1, 24 + state.ring.order):
            parts = [times(x, multiply(g, term, wires)) for x, g in exponent]
            term = sum(parts[1:], parts[0]) * (-1j / (k * steps))
            result = result + term
        state = result
    return state


def squared_up(exponent, norm: float) -> Jet:
    """exp(-i sum_k x_k G_k) as a matrix: the series of a small part of it, squared again and again,
    which for angles of a million are few products where steps would be a million."""
    ring = exponent[0][0].ring
    halvings = max(0, math.ceil(math.log2(norm)))
    parts = [x * g for x, g in exponent]
    part = sum(parts[1:], parts[0]) * (-1j / 2**halvings)
    result = term = ring.constant(np.eye(part.shape[0], dtype=complex))
    for k in range(1, 24 + ring.order):
        term = _product(term, part) * (1 / k)
        result = result + term
    for _ in range(halvings):
        result = _product(result, result)
    return result


def _product(a: Jet, b: Jet) -> Jet:
    """The product of matrices."""
    terms = a.coefficients[a.ring.i] @ b.coefficients[a.ring.j]
    return Jet(a.ring, np.add.reduceat(terms, a.ring.starts, axis=0))


def _multiplied(matrix: Jet, state: Jet, wires) -> Jet:
    """Applies a matrix of jets to some wires."""
    n, axes = len(wires), [1 + wire for wire in wires]
    front = np.moveaxis(state.coefficients, axes, range(1, n + 1))
    flat = Jet(state.ring, front.reshape(state.ring.size, 2**n, -1))
    moved = _product(matrix, flat).coefficients.reshape(front.shape)
    return Jet(state.ring, np.moveaxis(moved, range(1, n + 1), axes))


def project(state: Jet, wire: int, outcome: int) -> Jet:
    """Keeps the part of a state where a wire has an outcome; its norm becomes the probability."""
    kept = np.diag([1.0 - outcome, float(outcome)])
    return multiply(kept, state, (wire,))


def expectation(matrix: np.ndarray, state: Jet) -> Jet:
    """<state| matrix |state>, for a matrix on all wires."""
    flat = state.reshape(-1)
    image = Jet(state.ring, flat.coefficients @ matrix.T)
    return (flat.conj() * image).sum().real


def probabilities(state: Jet, wires) -> Jet:
    """The probability of each outcome of some wires, |00>, |01>, ..."""
    squares = (state.conj() * state).real.coefficients
    others = tuple(1 + w for w in range(len(state.shape)) if w not in wires)
    kept = sorted(wires)
    summed = squares.sum(axis=others).transpose(0, *(1 + kept.index(w) for w in wires))
    return Jet(state.ring, summed.reshape(state.ring.size, -1))
