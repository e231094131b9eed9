"""Gates exp(-i t H), as rotations that shift rules apply to, where the terms of H commute.

The decompositions here keep all terms of H, also those whose coefficient is zero at the moment.
PennyLane's decompositions leave these out, and with them the derivative by the coefficient.
"""

from __future__ import annotations

import itertools
from typing import Any

import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operator
from pennylane.ops.op_math import Evolution, LinearCombination, Prod, SProd, Sum
from pennylane.pauli import PauliWord

from qshift.circuits.generators import commuting
from qshift.circuits.scalars import as_real, is_complex, is_number, require
from qshift.circuits.terms import pairs, times
from qshift.errors import UnsupportedError


def exponential(op: Operator) -> list[Operator] | None:
    """Returns the parts of exp(c H), which is an evolution where c is imaginary.

    Raises:
        UnsupportedError: If c has a real part.
    """
    coefficient = op.coeff
    if not is_complex(coefficient):
        return None
    message = f"The coefficient of {op.name} has a real part, so it is no unitary gate."
    time = require(
        -qml.math.imag(coefficient), qml.math.real(coefficient) == 0, UnsupportedError(message)
    )
    return _evolved(op, time) or [Evolution(op.base, _as_time(time))]


def _as_time(number: Any) -> Any:
    """Returns a time as a number that PennyLane can multiply by 1j; a tensor must be complex for
    that."""
    is_tensor = tf.is_tensor(number) or isinstance(number, tf.Variable)
    return tf.cast(number, tf.complex128) if is_tensor else number


def evolution(op: Operator) -> list[Operator] | None:
    """Returns the parts of exp(-i t H); None if they are not known.

    Raises:
        UnsupportedError: If t is not real.
    """
    return _evolved(op, as_real(op.param, op))


def _evolved(op: Operator, time: Any) -> list[Operator] | None:
    """Returns exp(-i t H) as rotations, if H consists of words that commute."""
    terms = _terms(op.base, 1.0, op)
    if terms is None:
        concrete = all(map(is_number, qml.pytrees.flatten(op.base)[0]))
        found = commuting(op) if concrete and type(op) is Evolution else None
        return op.decomposition() if found is None and concrete and op.has_decomposition else found
    if not all(a.commutes_with(b) for (a, _), (b, _) in itertools.combinations(terms, 2)):
        return commuting(op) if type(op) is Evolution else None
    found = []
    for word, coefficient in terms:
        angle = times(coefficient, time)
        if len(word):
            letters, wires = "".join(word.values()), list(word)
            found.append(qml.PauliRot(times(2.0, angle), letters, wires=wires))
        else:
            found.append(qml.GlobalPhase(angle))
    return found


def _terms(observable: Operator, factor: Any, op: Operator) -> list[tuple[PauliWord, Any]] | None:
    """Returns the pairs (word, coefficient) whose sum is an observable, or None.

    Unlike in PennyLane, coefficients that are zero are kept: they may be different in another call.
    """
    if isinstance(observable, SProd):
        factor = times(factor, as_real(observable.scalar, op))
        return _terms(observable.base, factor, op)
    if isinstance(observable, qml.X | qml.Y | qml.Z | qml.Identity):
        return [(next(iter(observable.pauli_rep)), factor)]
    if isinstance(observable, Prod):
        word = PauliWord({})
        for operand in observable.operands:
            found = _terms(operand, factor, op)
            if found is None or len(found) != 1 or set(word) & set(found[0][0]):
                return None
            ((other, factor),) = found
            word = PauliWord({**word, **other})
        return [(word, factor)]
    if isinstance(observable, LinearCombination):
        each = [_terms(word, times(factor, as_real(c, op)), op) for c, word in pairs(observable)]
    elif isinstance(observable, Sum):
        each = [_terms(operand, factor, op) for operand in observable.operands]
    else:
        return None
    if any(found is None for found in each):
        return None
    return list(itertools.chain.from_iterable(found for found in each if found is not None))


def trotterized(op: Operator) -> list[Operator]:
    """Returns the parts of a Trotterized evolution, from PennyLane's formula, which multiplies the
    time by 1j."""
    *others, time = op.data
    return op.compute_decomposition(*others, _as_time(time), wires=op.wires, **op.hyperparameters)


def with_real_angles(op: Operator) -> Operator:
    """Returns a gate that has real angles in place of complex tensors, which times of evolutions
    are.

    Raises:
        UnsupportedError: If one of them has an imaginary part; in a graph, when it runs.
    """
    parameters = [as_real(x, op) if _is_complex_tensor(x) else x for x in op.data]
    if all(new is old for new, old in zip(parameters, op.data, strict=True)):
        return op
    with qml.QueuingManager.stop_recording():
        return qml.ops.functions.bind_new_parameters(op, parameters)


def _is_complex_tensor(parameter: Any) -> bool:
    if qml.math.get_interface(parameter) != "tensorflow":
        return False  # other frameworks cast derivatives by themselves
    return not qml.math.shape(parameter) and is_complex(parameter)


def of_real_time(op: Operator) -> list[Operator]:
    """Returns the parts of a template for an evolution: rotations, whose angles PennyLane wants
    real from 0.46 on, whatever the time is."""
    return with_real_angles(op).decomposition()
