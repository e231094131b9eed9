"""Observables as matrices, and what measuring them gives.

An observable is a tuple:

    ("word", "XZ", (0, 2))                   a Pauli word
    ("hermitian", matrix, (0, 1))            any Hermitian matrix
    ("projector", (0, 1), (1, 2))            onto a basis state
    ("scaled", e, observable)                times a number or an expression
    ("sum", ((e, observable), ...), "sum")   a sum, by "Hamiltonian", "dot", "sum", "arithmetic"
    ("product", (observable, observable))    on different wires
    ("outcomes", ((2.0, 0), (1.0, 1)))       a sum of outcomes of measurements in mid-circuit
"""

from __future__ import annotations

import numpy as np

from fuzz.expressions import value
from fuzz.jets import Jet
from fuzz.matrices import CONSTANT, projector, word
from fuzz.states import expectation, multiply, probabilities


def on_all(matrix: np.ndarray, wires, number: int) -> np.ndarray:
    """Returns a matrix on some wires as one on all."""
    others = [wire for wire in range(number) if wire not in wires]
    order = [*wires, *others]
    whole = np.kron(matrix, np.eye(2 ** len(others))).reshape((2,) * (2 * number))
    axes = [order.index(wire) for wire in range(number)]
    return whole.transpose(*axes, *(number + a for a in axes)).reshape(2**number, -1)


def small_matrix(observable) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns the matrix of a word, Hermitian or projector, and its wires."""
    name, content, wires = observable
    if name == "word":
        return word(content), wires
    if name == "projector":
        return projector("".join(map(str, content))), wires
    return np.array(content), wires


def terms(observable, number: int, scope) -> list[tuple[Jet, np.ndarray]]:
    """Returns an observable as a sum of numbers times constant matrices on all wires."""
    name, *rest = observable
    if name == "scaled":
        factor = value(rest[0], scope)
        return [(factor * c, matrix) for c, matrix in terms(rest[1], number, scope)]
    if name == "sum":
        scaled = [("scaled", coefficient, part) for coefficient, part in rest[0]]
        return [term for part in scaled for term in terms(part, number, scope)]
    if name == "product":
        result = [(scope[""].ring.constant(1.0), np.eye(2**number))]
        for part in rest[0]:
            factors = terms(part, number, scope)
            result = [(c * d, a @ b) for c, a in result for d, b in factors]
        return result
    one = scope[""].ring.constant(1.0)
    return [(one, on_all(*small_matrix(observable), number))]


def mean(observable, branches, scope) -> Jet:
    """The expectation value, summed over branches."""
    found = terms(observable, len(branches[0].state.shape), scope)
    return _sum(c * expectation(m, b.state) for c, m in found for b in branches)


def variance(observable, branches, scope) -> Jet:
    """<A^2> - <A>^2."""
    found = terms(observable, len(branches[0].state.shape), scope)
    squares = [(c * d, a @ b) for c, a in found for d, b in found]
    average = mean(observable, branches, scope)
    second = _sum(c * expectation(m, b.state) for c, m in squares for b in branches)
    return second - average * average


def in_eigenbasis(observable, branches) -> Jet:
    """The probability of each eigenvalue: of words wire by wire, +1 first; else in their order."""
    name, content, wires = observable
    if name == "word":
        turns = {"Z": np.eye(2), "I": np.eye(2), "X": CONSTANT["Hadamard"]}
        turns["Y"] = CONSTANT["Hadamard"] @ CONSTANT["S"].conj().T
        rotations = [(turns[letter], (w,)) for letter, w in zip(content, wires, strict=True)]
    else:
        rotations = [(np.linalg.eigh(np.array(content))[1].conj().T, wires)]

    def rotated(state):
        for matrix, some in rotations:
            state = multiply(matrix, state, some)
        return state

    return _sum(probabilities(rotated(branch.state), wires) for branch in branches)


def of_outcomes(kind: str, weights, branches) -> Jet:
    """Mean, variance or probabilities of outcomes in mid-circuit, where branches keep these."""
    chances = [branch.probability for branch in branches]
    if kind == "probs":
        size = 2 ** len(weights)
        position = [
            int("".join(str(branch.outcomes[k]) for _, k in weights), 2) for branch in branches
        ]
        return _sum(p.reshape(1) * np.eye(size)[k] for p, k in zip(chances, position, strict=True))
    values = [sum(c * branch.outcomes[k] for c, k in weights) for branch in branches]
    average = _sum(p * v for p, v in zip(chances, values, strict=True))
    if kind == "expval":
        return average
    return _sum(p * v**2 for p, v in zip(chances, values, strict=True)) - average * average


def _sum(jets) -> Jet:
    first, *others = jets
    return sum(others, first)
