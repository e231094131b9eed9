"""Frequencies of gates exp(i x G): the positive differences of the eigenvalues of G."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops.op_math import Controlled, Evolution
from pennylane.pauli import PauliSentence, PauliWord

from qshift.circuits.hermitian import hermitian_problem
from qshift.circuits.identity import is_custom
from qshift.circuits.pauli import sign
from qshift.errors import UnsupportedError
from qshift.rules.frequencies import distinct, merged

_WIDEST_MATRIX = 10  # wires; for wider generators the eigenvalues take too long
_MOST_SIGNS = 2**16  # combinations of signs of words that commute
_MOST_EIGENVALUES = 2**10
_SAME = 1e-13  # relative; eigenvalues that differ less do so by rounding
_WIDEST_RANGE = 1e3  # of the coefficients of one generator whose parts commute


def frequencies(op: Operator) -> tuple[float, ...] | None:
    """Returns the positive differences of the eigenvalues of a gate's generator, ascending.

    Args:
        op: A gate with a number as its parameter.

    Returns:
        None if the gate has no generator, or one with too many eigenvalues, or one that is a sum of
        commuting parts of very different sizes. One rule for the latter would lose the digits of
        values that depend on the small parts only; `commuting` takes such a gate apart.
    """
    if not getattr(op, "has_generator", False):
        return None
    if isinstance(op, Evolution) and _is_of_several_scales(op.base):
        return None
    found = _eigenvalues(op)
    if found is None:
        return None
    eigenvalues = distinct(found[0], _SAME * np.ptp(found[0]))
    if len(eigenvalues) > _MOST_EIGENVALUES:
        return None
    return merged(np.subtract.outer(eigenvalues, eigenvalues))


def commuting(op: Evolution) -> list[Operator] | None:
    """Returns exp(-i t H) as a product of exponentials of groups of H's Pauli words, where words of
    different groups commute.

    All words are kept; PennyLane leaves out words with small coefficients.

    Returns:
        None if H is no sum of Pauli words with real numbers as coefficients, or has only one part.
    """
    groups = _groups(op.base)
    if groups is None or len(groups) == 1 and len(groups[0]) > 1:
        return None
    words, time, found = op.base.pauli_rep, qml.math.real(op.param), []
    for group in groups:
        if len(group) > 1:
            part = PauliSentence({word: float(words[word].real) for word in group})
            found.append(qml.evolve(part.operation(), op.param))
        elif group[0]:
            (word,) = group
            angle = 2.0 * float(words[word].real) * time
            found.append(qml.PauliRot(angle, "".join(word.values()), wires=list(word)))
        else:
            found.append(qml.GlobalPhase(float(words[group[0]].real) * time))
    return found


def _groups(observable: Operator) -> list[list[PauliWord]] | None:
    """Sorts the words of a sum so that words of different groups commute."""
    words = observable.pauli_rep
    return None if not words or any(map(_is_moving, words.values())) else _grouped(tuple(words))


@lru_cache(maxsize=256)
def _grouped(words: Any) -> list[list[PauliWord]]:
    groups: list[list[PauliWord]] = []
    for word in words:
        apart = [group for group in groups if all(word.commutes_with(each) for each in group)]
        others = [each for group in groups if group not in apart for each in group]
        groups = [*apart, [*others, word]]
    return groups


def _is_moving(coefficient: Any) -> bool:
    return qml.math.get_interface(coefficient) not in ("numpy", "builtins") or bool(
        np.imag(coefficient)
    )


def _is_of_several_scales(observable: Operator) -> bool:
    words = observable.pauli_rep or {}
    sizes = [abs(c) for word, c in words.items() if word and c]
    if not sizes or max(sizes) <= _WIDEST_RANGE * min(sizes):
        return False
    groups = _groups(observable)
    largest = [max(abs(words[word]) for word in group) for group in groups or () if any(group)]
    return bool(largest) and max(largest) > _WIDEST_RANGE * min(largest)


def _eigenvalues(op: Operator) -> tuple[np.ndarray, float] | None:
    """Returns the eigenvalues of a generator, each at least once, and a number to add to them.

    The number is apart, as a large multiple of the identity would cost the eigenvalues digits.
    """
    if isinstance(op, Controlled) and not is_custom(type(op)):  # type: ignore[arg-type]
        # A controlled gate does nothing (generator 0) unless the control wires agree.
        base = _eigenvalues(op.base)
        return base and (np.append(base[0], -base[1]), base[1])
    with warnings.catch_warnings(), qml.QueuingManager.stop_recording():
        warnings.simplefilter("ignore")
        try:
            generator = qml.generator(op, format="observable")
        except qml.exceptions.GeneratorUndefinedError:
            return None
        except qml.exceptions.QuantumFunctionError:  # a class that may be Hermitian or not
            generator = op.generator()
        if problem := hermitian_problem(generator):
            raise UnsupportedError(
                f"{op.name} is no unitary gate: its generator {generator} is not Hermitian, as "
                f"{problem}. Give a Hermitian one."
            )
        words = generator.pauli_rep
        found = None if words is None else _of_commuting(words)
        if found is not None:
            return found, float(np.real(words.get(PauliWord({}), 0.0)))
        if len(generator.wires) > _WIDEST_MATRIX:
            return None
        matrix = qml.matrix(generator, wire_order=generator.wires)
    centre = float(np.real(np.trace(matrix))) / len(matrix)
    return np.linalg.eigvalsh(matrix - centre * np.eye(len(matrix))), centre


def _of_commuting(sentence: PauliSentence) -> np.ndarray | None:
    """Returns the eigenvalues of a sum of Pauli words that commute, without the identity.

    Each word is a product of a few independent words, and these take all combinations of signs.
    """
    words = [word for word in sentence if word]
    if not all(a.commutes_with(b) for a, b in combinations(words, 2)):
        return None
    wires = {wire: i for i, wire in enumerate(dict.fromkeys(w for word in words for w in word))}
    independent: list[PauliWord] = []
    basis: list[tuple[int, int]] = []  # words reduced to different leading bits, and their factors
    products = []  # sign and factors of each word, the latter as bits
    for word in words:
        left, factors = _bits(word, wires), 0
        for reduced, its_factors in basis:
            if left ^ reduced < left:
                left, factors = left ^ reduced, factors ^ its_factors
        if left:
            factors ^= 1 << len(independent)
            basis.append((left, factors))
            basis.sort(reverse=True)
            products.append((1.0, 1 << len(independent)))
            independent.append(word)
        else:
            left_over = PauliSentence({word: 1.0})
            for i, factor in enumerate(independent):
                left_over = left_over @ factor if factors >> i & 1 else left_over
            products.append((float(np.real(left_over[PauliWord({})])), factors))
    if 2 ** len(independent) > _MOST_SIGNS:
        return None
    eigenstates = np.arange(2 ** len(independent))  # bits: which of the factors are -1 in a state
    total = np.zeros(len(eigenstates))
    for word, (its_sign, factors) in zip(words, products, strict=True):
        total += float(np.real(sentence[word])) * its_sign * sign(eigenstates, factors)
    return total


def _bits(word: PauliWord, wires: Mapping[int, int]) -> int:
    """Returns a word as bits, two for each wire."""
    letters = {"X": 1, "Z": 2, "Y": 3}
    return sum(letters[letter] << 2 * wires[wire] for wire, letter in word.items())
