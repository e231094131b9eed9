"""Observables as linear combinations, with all terms, whatever values their coefficients have.

PennyLane's `terms()` simplifies: it leaves out terms whose coefficients are 0, and coefficients
that are 1. Both may be tensors with derivatives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import reduce
from typing import Any

import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operator
from pennylane.ops import LinearCombination, Prod, SProd, Sum

from qshift.tensors import of_one_dtype

Terms = list[tuple[Any, Operator]]


def split(observable: Operator, is_tensor: Callable[[Any], bool]) -> Terms:
    """Writes an observable as a sum of others, with tensors only in the coefficients.

    Args:
        observable: An observable, with tensors or without.
        is_tensor: Whether a parameter is a tensor.

    Returns:
        Pairs of a coefficient and an operator. Where a tensor is not a coefficient of a linear
        combination, the operator keeps it. All operators act on wires: PennyLane makes identities
        without wires, which no device measures.
    """
    with qml.QueuingManager.stop_recording():
        identity = qml.Identity(observable.wires[:1])
    return [(c, op if op.wires else identity) for c, op in _split(observable, is_tensor)]


def pairs(op: Operator) -> Terms:
    """Returns the pairs (coefficient, operator) that a linear combination was made from, without
    simplification."""
    if not isinstance(op, LinearCombination):
        return [(1.0, op)]
    # By index: the coefficients may be one tensor of a graph.
    return [(op.coeffs[i], each) for i, each in enumerate(op.ops)]


def scaled(factor: Any, terms: Terms) -> Terms:
    """Multiplies the coefficients of terms by a number."""
    return [(times(factor, coefficient), op) for coefficient, op in terms]


def _split(observable: Operator, is_tensor: Callable[[Any], bool]) -> Any:
    words = observable.pauli_rep
    if words:
        with qml.QueuingManager.stop_recording():
            return [(coefficient, word.operation()) for word, coefficient in words.items()]
    if not any(map(is_tensor, observable.data)):
        return [(1.0, observable)]
    if isinstance(observable, SProd):
        return scaled(observable.scalar, _split(observable.base, is_tensor))
    if isinstance(observable, Sum):
        stated = isinstance(observable, LinearCombination)
        summands = pairs(observable) if stated else [(1.0, op) for op in observable.operands]
        parts = [scaled(coefficient, _split(op, is_tensor)) for coefficient, op in summands]
        return list(itertools.chain.from_iterable(parts))
    if isinstance(observable, Prod):
        chosen = itertools.product(*(_split(op, is_tensor) for op in observable.operands))
        return [_multiplied(terms) for terms in chosen]
    return [(1.0, observable)]


def _multiplied(terms: Any) -> tuple[Any, ...]:
    coefficients, operators = zip(*terms, strict=True)
    with qml.QueuingManager.stop_recording():
        return reduce(times, coefficients), qml.prod(*operators)


def times(a: Any, b: Any) -> Any:
    """Multiplies two numbers of any dtypes, either of which may be a tensor."""
    if isinstance(a, float) and a == 1.0:
        return b
    if isinstance(b, float) and b == 1.0:
        return a
    if not (tf.is_tensor(a) or tf.is_tensor(b)):
        return a * b
    a, b = of_one_dtype((a, b))
    return a * b
