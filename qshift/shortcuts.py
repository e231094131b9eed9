"""PennyLane's shortcuts for numbers that are 0 or 1, not taken where something may differentiate by
them.

A coefficient of 1 is left out of `qml.dot`, terms with coefficients near 0 are left out of sums,
and derivatives are not asked for where what multiplies them is near 0. All lose derivatives: the
Hessian of a squared error is zero where the error is. So do products of Hamiltonians that have
numbers and tensors as coefficients, which become arrays.
"""

from __future__ import annotations

import functools
import importlib
import types

import numpy as np
import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops import LinearCombination, Pow, Prod, SProd, Sum
from pennylane.typing import TensorLike

from qshift.terms import split
from qshift.tracing import is_watched


def only_for_constants() -> None:
    """Keeps PennyLane from taking them for other numbers, in this whole process."""
    vjp = importlib.import_module("pennylane.gradients.vjp")
    if isinstance(vjp.math, _View):
        return
    vjp.math = _View(qml.math, allclose=_are_zeros)
    importlib.import_module("pennylane.gradients.jvp").math = vjp.math
    numbers = _View(qml.math, is_abstract=_is_abstract)
    importlib.import_module("pennylane.pauli.pauli_arithmetic").math = numbers
    for name in ("ops.functions.dot", "transforms.split_non_commuting"):
        importlib.import_module(f"pennylane.{name}").qp = _View(qml, math=numbers)
    for kind in (Sum, Prod):
        kind.terms = _with(kind.terms, lambda op: tuple(zip(*split(op, _may_move), strict=True)))
    for kind in (SProd, Sum, Prod, LinearCombination):
        kind.simplify = _with(kind.simplify, lambda op, *_: op)
    for name in ("__add__", "__radd__"):
        setattr(Operator, name, _of_any(getattr(Operator, name), _plus))
    for name in ("__matmul__", "__mul__", "__rmul__", "__add__", "__radd__", "__sub__"):
        method = _of_any(getattr(LinearCombination, name), getattr(Operator, name))
        setattr(LinearCombination, name, method)
    power = _of_any(qml.pow, lambda base, z=1, lazy=True, id=None: Pow(base, z, id=id))
    for module in (qml, qml.ops, qml.ops.op_math):
        module.pow = power


class _View(types.ModuleType):
    """A module, as another module sees it: some of its names stand for something else."""

    def __init__(self, module, **others):
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(others)

    def __getattr__(self, name):
        return getattr(self._module, name)


def _with(method, instead):
    """Returns a method of operators that does something else with those that hold tensors."""

    @functools.wraps(method)
    def called(op, *args, **kwargs):
        if op.pauli_rep is None and any(map(_may_move, op.data)):
            return instead(op)
        return method(op, *args, **kwargs)

    return called


def _of_any(function, instead):
    """Returns a function that does something else if tensors are among its arguments, or in the
    operators that these are."""

    @functools.wraps(function)
    def called(*args, **kwargs):
        chosen = instead if any(map(_holds, (*args, *kwargs.values()))) else function
        return chosen(*args, **kwargs)

    return called


def _holds(argument) -> bool:
    if isinstance(argument, Operator):
        return any(map(_may_move, argument.data))
    return isinstance(argument, TensorLike) and _may_move(argument)


def _plus(op, other):
    if isinstance(other, TensorLike):
        other = qml.s_prod(other, qml.Identity(op.wires))
    return qml.sum(op, other, lazy=False) if isinstance(other, Operator) else NotImplemented


def _may_move(number) -> bool:
    """Whether something may differentiate by a number now or later."""
    return qml.math.get_interface(number) == "tensorflow" or qml.math.requires_grad(number)


def _is_abstract(number, like=None) -> bool:
    return qml.math.is_abstract(number, like) or _may_move(number)


def _are_zeros(numbers, zero) -> bool:
    """Whether numbers are zeros, exactly, and nothing differentiates by them."""
    if isinstance(numbers, list | tuple):
        return all(_are_zeros(each, zero) for each in numbers)
    if qml.math.get_interface(numbers) == "tensorflow":
        if not hasattr(numbers, "numpy") or is_watched(numbers):
            return False
    elif qml.math.requires_grad(numbers):
        return False
    return not np.any(numbers != zero)
