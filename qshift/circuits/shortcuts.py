"""Functions that replace PennyLane's shortcuts for numbers that are 0 or 1, where something may
differentiate by them; `pennylane_changes_internals` puts them into PennyLane.

PennyLane leaves a coefficient of 1 out of `qml.dot`, leaves terms with coefficients near 0 out of
sums, and does not compute derivatives that are multiplied by numbers near 0. All of these lose
derivatives: the Hessian of a squared error becomes zero where the error is zero. Derivatives are
also lost in products of Hamiltonians with numbers and tensors as coefficients, which become arrays,
and in Jacobians of several results, which become arrays of autograd's boxes. Further mistakes are
mended here: an operator that a Hamiltonian is added to or multiplied by in a quantum function is
recorded as a gate; `commute_controlled` moves gates past others if the basis of neither is known;
numbers beside tensors are rounded to single precision; a gate that is taken out of a batch may
keep the batch size; and a user's class is taken for the gate that it is derived from where it is
controlled.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pennylane as qml
from autograd.extend import Box
from pennylane.operation import Operator
from pennylane.ops import LinearCombination, SProd, Sum
from pennylane.pauli import PauliSentence
from pennylane.pytrees import flatten
from pennylane.typing import TensorLike

from qshift.circuits.identity import is_custom
from qshift.circuits.terms import pairs, scaled, split, times
from qshift.tensors import constant, is_tensor


def _may_move(number: Any) -> bool:
    """Whether something may differentiate by a number, now or later."""
    return is_tensor(number) or _moves(number)


def _moves(number: Any) -> bool:
    """Whether something differentiates by a number now, which may be of another framework."""
    if qml.math.get_interface(number) == "autograd":
        return isinstance(number, Box)  # a mere mark, as of PennyLane's arrays, does not count
    return qml.math.requires_grad(number)


def of_any(function: Callable, instead: Callable, moves: Callable = _may_move) -> Callable:
    """Returns a function that calls `instead` if tensors are among its arguments, or in operators
    among them, and `function` otherwise.

    Args:
        function: The function for arguments without tensors.
        instead: The function for arguments with tensors.
        moves: Whether a number counts as a tensor.
    """

    def holds(argument: Any) -> bool:
        if isinstance(argument, Operator):
            return any(map(moves, argument.data))
        if isinstance(argument, PauliSentence):
            return any(map(moves, argument.values()))
        return isinstance(argument, TensorLike) and moves(argument)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Operator:
        chosen = instead if any(map(holds, (*args, *kwargs.values()))) else function
        return chosen(*args, **kwargs)

    return called


def as_operator(sentence: PauliSentence, wire_order: Any = ()) -> Operator:
    """Returns the sum that a `PauliSentence` is, also where its coefficients are 0 or 1."""
    with qml.QueuingManager.stop_recording():
        wires = list(wire_order or sentence.wires)
        terms = [SProd(c, word.operation(wire_order=wires)) for word, c in sentence.items()]
        return terms[0] if len(terms) == 1 else Sum(*terms)


def all_terms(op: Operator) -> tuple[list, list[Operator]]:
    """Returns the same as `op.terms()`, with the terms whose coefficients are 0."""
    coefficients, operators = zip(*split(op, _may_move), strict=True)
    return list(coefficients), list(operators)


def as_it_is(op: Operator, *_: Any) -> Operator:
    """Returns an operator unchanged, in place of a simplification."""
    return op


def power(
    make: Callable, base: Operator, z: Any = 1, lazy: bool = True, **options: Any
) -> Operator:
    """Returns the same as `qml.pow`, which is given, also where the exponent is 1."""
    return make(base, z, lazy=True, **options)


def plus(op: Operator, other: Any) -> Operator:
    """Returns the sum of an operator and another operator or a number, also where that is 0."""
    if isinstance(other, TensorLike):
        if not _may_move(other) and qml.math.allequal(other, 0):
            return op
        other = qml.s_prod(other, qml.Identity(op.wires))
    return qml.sum(op, other, lazy=False) if isinstance(other, Operator) else NotImplemented


def dequeued(method: Callable) -> Callable:
    """Returns a method that takes the operators it combines off the recording, so that only its
    result is recorded; otherwise they would count as gates."""

    @functools.wraps(method)
    def called(*args: Any) -> Operator:
        found = method(*args)
        if found is not NotImplemented and qml.QueuingManager.recording():
            for each in args:
                if isinstance(each, Operator) and each is not found:
                    qml.QueuingManager.remove(each)
        return found

    return called


def _added(one: Any, other: Any, factor: float = 1.0) -> Any:
    if not isinstance(other, Operator):
        return plus(one, factor * other)
    return _combined([*pairs(one), *scaled(factor, pairs(other))])


def _subtracted(one: Any, other: Any) -> Any:
    return _added(one, other, -1.0)


def _scaled(one: Any, number: Any) -> Any:
    if not isinstance(number, TensorLike):
        return NotImplemented
    return _combined(scaled(number, pairs(one)))


def _multiplied(one: Any, other: Any) -> Any:
    if not isinstance(other, LinearCombination) or set(one.wires) & set(other.wires):
        return Operator.__matmul__(one, other)
    chosen = itertools.product(pairs(one), pairs(other))
    return _combined([(times(c, d), qml.prod(a, b)) for (c, a), (d, b) in chosen])


def _combined(terms: Any) -> Any:
    return LinearCombination([c for c, _ in terms], [op for _, op in terms])


# The functions by which `LinearCombination`'s methods compute with tensors.
ARITHMETIC = {
    "__add__": _added,
    "__radd__": _added,
    "__sub__": _subtracted,
    "__mul__": _scaled,
    "__rmul__": _scaled,
    "__matmul__": _multiplied,
}


def of_known_bases(can_commute: Callable) -> Callable:
    """Returns a function that says whether a gate moves past a controlled one. Where the basis of
    neither is known it says no; PennyLane takes two unknown bases for equal ones."""

    @functools.wraps(can_commute)
    def called(gate: Operator, controlled: Any) -> Any:
        return gate.basis is not None and can_commute(gate, controlled)

    return called


def einsum(indices: str, cotangents: Any, jacobian: Any, **options: Any) -> Any:
    """Contracts as `qml.math.einsum` does.

    Raises:
        TypeError: Where autograd would contract and lose the derivative.
    """
    if any(isinstance(each, Box) for each in flatten((cotangents, jacobian))[0]):
        # After a TypeError, PennyLane takes a slower way. Autograd's contraction would make an
        # array of these boxes and differentiate by nothing.
        raise TypeError("autograd does not contract nested sequences")
    return qml.math.einsum(indices, cotangents, jacobian, **options)


def is_abstract(number: Any, like: str | None = None) -> bool:
    """Whether the present value of a number must not decide anything, as for tracers."""
    return qml.math.is_abstract(number, like) or _may_move(number)


def are_zeros(numbers: Any, zero: Any) -> bool:
    """Whether numbers are exactly zero and nothing differentiates by them."""
    if isinstance(numbers, list | tuple):
        return all(are_zeros(each, zero) for each in numbers)
    if is_tensor(numbers):
        numbers = constant(numbers)
    elif _moves(numbers):
        return False
    return numbers is not None and not np.any(numbers != zero)


def of_its_own_class(dispatch: Any) -> Callable:
    """Returns a single-dispatch function that takes no operator of a user's class for one of
    PennyLane's: what was registered for a class that PennyLane has is not for subclasses of users.

    Args:
        dispatch: Made by `functools.singledispatch`; returns NotImplemented where nothing is
            registered.
    """

    @functools.wraps(dispatch)  # with `register` and the others
    def called(base: Any, *args: Any, **kwargs: Any) -> Any:
        kind = type(base)
        owner = next(each for each in kind.__mro__ if each in dispatch.registry)
        if is_custom(kind) and not is_custom(owner):  # type: ignore[arg-type]
            return NotImplemented
        return dispatch(base, *args, **kwargs)

    return called
