"""PennyLane's shortcuts for numbers that are 0 or 1, not taken where something may differentiate by
them.

A coefficient of 1 is left out of `qml.dot`, terms with coefficients near 0 are left out of sums,
and derivatives are not asked for where what multiplies them is near 0. All lose derivatives: the
Hessian of a squared error is zero where the error is. So do products of Hamiltonians that have
numbers and tensors as coefficients, which become arrays, and Jacobians of several results, which
become arrays of what autograd differentiates by. And what Hamiltonians are added to or multiplied
by in a quantum function stays in it as a gate, which it is not; gates move past others in
`commute_controlled` if the basis of neither is known; numbers beside tensors are rounded to single
precision; and a gate that is taken out of a batch may go on saying that it is one.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import types

import autoray
import numpy as np
import pennylane as qml
import tensorflow as tf
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import isbox
from pennylane.operation import Operator
from pennylane.ops import LinearCombination, Pow, Prod, SProd, Sum
from pennylane.pauli import PauliSentence
from pennylane.pytrees import flatten
from pennylane.typing import TensorLike

from qshift.circuits.terms import pairs, scaled, split, times
from qshift.tensors import constant, is_tensor


def only_for_constants() -> None:
    """Keeps PennyLane from taking them for other numbers, in this whole process."""
    vjp = importlib.import_module("pennylane.gradients.vjp")
    if isinstance(vjp.math, _View):
        return
    vjp.math = _View(qml.math, allclose=_are_zeros, einsum=_einsum)
    importlib.import_module("pennylane.gradients.jvp").math = vjp.math
    commuting = importlib.import_module("pennylane.transforms.optimization.commute_controlled")
    commuting._can_commute = _of_known_bases(commuting._can_commute)
    autoray.register_function("tensorflow", "coerce", _of_one_dtype)
    numbers = _View(qml.math, is_abstract=_is_abstract)
    for name in ("ops.functions.dot", "transforms.split_non_commuting"):
        importlib.import_module(f"pennylane.{name}").qp = _View(qml, math=numbers)
    for kind in (Sum, Prod):
        kind.terms = _of_any(kind.terms, _terms)
    PauliSentence.operation = _of_any(PauliSentence.operation, _operation)
    for kind in (SProd, Sum, Prod, LinearCombination):
        kind.simplify = _of_any(kind.simplify, lambda op, *_: op, is_tensor)
    for name in ("__add__", "__radd__"):
        setattr(Operator, name, _of_any(getattr(Operator, name), _plus))
    for name, instead in _ARITHMETIC.items():
        own = getattr(LinearCombination, name)
        setattr(LinearCombination, name, _dequeued(_of_any(own, instead, is_tensor)))
    bind = qml.ops.functions.bind_new_parameters
    bind.register(Operator, functools.partial(_bound, bind.dispatch(object)))
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


def _may_move(number) -> bool:
    """Whether something may differentiate by a number now or later."""
    return is_tensor(number) or _moves(number)


def _moves(number) -> bool:
    """Of another framework: whether something differentiates by a number now."""
    if qml.math.get_interface(number) == "autograd":
        return isinstance(number, ArrayBox)  # others can be marked, which changes nothing here
    return qml.math.requires_grad(number)


def _of_any(function, instead, moves=_may_move):
    """Returns a function that does something else if tensors are among its arguments, or in the
    operators that these are."""

    def holds(argument):
        if isinstance(argument, Operator):
            return any(map(moves, argument.data))
        if isinstance(argument, PauliSentence):
            return any(map(moves, argument.values()))
        return isinstance(argument, TensorLike) and moves(argument)

    @functools.wraps(function)
    def called(*args, **kwargs):
        chosen = instead if any(map(holds, (*args, *kwargs.values()))) else function
        return chosen(*args, **kwargs)

    return called


def _operation(sentence, wire_order=()):
    with qml.QueuingManager.stop_recording():
        wires = list(wire_order or sentence.wires)
        terms = [SProd(c, word.operation(wire_order=wires)) for word, c in sentence.items()]
        return terms[0] if len(terms) == 1 else Sum(*terms)


def _terms(op):
    coefficients, operators = zip(*split(op, _may_move), strict=True)
    return list(coefficients), list(operators)


def _plus(op, other):
    if isinstance(other, TensorLike):
        if not _may_move(other) and qml.math.allequal(other, 0):
            return op
        other = qml.s_prod(other, qml.Identity(op.wires))
    return qml.sum(op, other, lazy=False) if isinstance(other, Operator) else NotImplemented


def _dequeued(method):
    """Returns a method whose operators are recorded as what they have become, and not beside it:
    there they would be gates."""

    @functools.wraps(method)
    def called(*args):
        found = method(*args)
        if found is not NotImplemented and qml.QueuingManager.recording():
            for each in args:
                if isinstance(each, Operator) and each is not found:
                    qml.QueuingManager.remove(each)
        return found

    return called


def _added(one, other, factor=1.0):
    if not isinstance(other, Operator):
        return _plus(one, factor * other)
    return _combined([*pairs(one), *scaled(factor, pairs(other))])


def _subtracted(one, other):
    return _added(one, other, -1.0)


def _scaled(one, number):
    if not isinstance(number, TensorLike):
        return NotImplemented
    return _combined(scaled(number, pairs(one)))


def _multiplied(one, other):
    if not isinstance(other, LinearCombination) or set(one.wires) & set(other.wires):
        return Operator.__matmul__(one, other)
    chosen = itertools.product(pairs(one), pairs(other))
    return _combined([(times(c, d), qml.prod(a, b)) for (c, a), (d, b) in chosen])


def _combined(terms):
    return LinearCombination([c for c, _ in terms], [op for _, op in terms])


_ARITHMETIC = {
    "__add__": _added,
    "__radd__": _added,
    "__sub__": _subtracted,
    "__mul__": _scaled,
    "__rmul__": _scaled,
    "__matmul__": _multiplied,
}


def _of_known_bases(can_commute):
    """Two gates of unknown bases are not of one basis."""

    @functools.wraps(can_commute)
    def called(gate, controlled):
        return gate.basis is not None and can_commute(gate, controlled)

    return called


def _bound(bind, op, params):
    """Of an operator that is copied, the size of the batch would be that of the old parameters."""
    new = bind(op, params)
    if (vars(new).get("_batch_size") or 0) > 0:
        new._check_batching()
    return new


def _of_one_dtype(tensors) -> list[tf.Tensor]:
    """Casts tensors, arrays and numbers to one dtype, which numbers alone do not make wider."""
    parts, kinds = [], []
    for part in tensors:
        leaves = tf.nest.flatten(part)
        if any(hasattr(leaf, "dtype") and not isinstance(leaf, np.generic) for leaf in leaves):
            part = tf.convert_to_tensor(part)
            kinds.append(part.dtype.as_numpy_dtype)
        else:  # TensorFlow would make single precision of these
            part = np.asarray(part)
            kinds.append(_NARROWEST.get(part.dtype.kind, part.dtype))
        parts.append(part)
    inexact = [kind for kind in kinds if np.issubdtype(kind, np.inexact)]
    dtype = np.result_type(*(inexact or kinds))
    return [tf.cast(part, dtype) for part in parts]


_NARROWEST = {"i": np.int8, "f": np.float16, "c": np.complex64}


def _einsum(indices, cotangents, jacobian, **options):
    if any(map(isbox, flatten((cotangents, jacobian))[0])):
        # PennyLane has a slower way for what cannot be contracted. Autograd's contraction makes an
        # array of these and differentiates by nothing.
        raise TypeError("autograd does not contract nested sequences")
    return qml.math.einsum(indices, cotangents, jacobian, **options)


def _is_abstract(number, like=None) -> bool:
    return qml.math.is_abstract(number, like) or _may_move(number)


def _are_zeros(numbers, zero) -> bool:
    """Whether numbers are zeros, exactly, and nothing differentiates by them."""
    if isinstance(numbers, list | tuple):
        return all(_are_zeros(each, zero) for each in numbers)
    if is_tensor(numbers):
        numbers = constant(numbers)
    elif _moves(numbers):
        return False
    return numbers is not None and not np.any(numbers != zero)
