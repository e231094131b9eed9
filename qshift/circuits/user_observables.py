"""Users' own observables: which observable is meant where their representations differ.

PennyLane uses the matrix or the diagonalizing gates of a single observable, and the Pauli words of
one in a sum or product. A class that is derived from one of PennyLane's and overrides one of these
representations inherits the others, which describe another observable.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops.op_math import Adjoint, Conditional, Controlled, Pow, Prod

from qshift.circuits.consistency import require_one_gate
from qshift.circuits.identity import WIDEST_CUSTOM, contains_custom, is_custom, operators
from qshift.errors import UnsupportedError

_DIFFERENT = 1e-9  # relative


def settled(observable: Operator) -> Operator:
    """Returns an observable in which users' own classes are replaced by the representation that
    they override, as the inherited ones describe another observable.

    Raises:
        UnsupportedError: If a class contradicts itself.
    """
    if not contains_custom(observable):
        return observable
    leaves, structure = qml.pytrees.flatten(observable, is_leaf=_is_own)
    found = [_settled(leaf)[0] if _is_own(leaf) else leaf for leaf in leaves]
    if all(new is old for new, old in zip(found, leaves, strict=True)):
        return observable
    with qml.QueuingManager.stop_recording():
        return qml.pytrees.unflatten(found, structure)


def require_one_observable(op: Operator) -> None:
    """Raises UnsupportedError if the representations of a user's class in an operator describe two
    observables, so that results would depend on which of them PennyLane uses."""
    for part in operators(op) if contains_custom(op) else ():
        if _is_own(part) and (problem := _settled(part)[1]):
            raise UnsupportedError(
                f"{problem}, and PennyLane uses the one here and the other elsewhere. Override "
                "both, or derive the class from qml.operation.Operator."
            )


def require_one_operator(op: Operator) -> None:
    """Raises UnsupportedError if a gate is made from a user's observable whose representations
    differ: products and generators use its Pauli words."""
    while isinstance(op, Adjoint | Conditional | Controlled):
        op = op.base
    if _is_own(op):
        return
    held = [each for each in op.hyperparameters.values() if isinstance(each, Operator)]
    for part in itertools.chain.from_iterable(map(operators, (op, *held))):
        if _is_own(part) and part.pauli_rep is not None:
            require_one_observable(part)
            if isinstance(op, Pow | Prod):
                require_one_gate(part)


def _is_own(op: Operator) -> bool:
    return isinstance(op, Operator) and is_custom(type(op))  # type: ignore[arg-type]


def _settled(op: Operator) -> tuple[Operator, str | None]:
    """Returns the observable that a user's class means, and the name of a representation that
    differs from it, if any does."""
    if len(op.wires) > WIDEST_CUSTOM:
        return op, None
    said = list(_said(op))
    own = [each for each in said if each[1]] or said
    if not own:
        return op, None
    first, _, matrix = own[0]
    for name, is_own, other in said:
        if _same(matrix, other):
            continue
        problem = f"The {first} and the {name} of {op.name} are those of two operators"
        if is_own:
            raise UnsupportedError(f"{problem}. Correct the one that is wrong, or leave it out.")
        return qml.Hermitian(matrix, wires=op.wires), f"{problem} (the {name} is inherited)"
    if op.pauli_rep is None:
        return op, None
    with qml.QueuingManager.stop_recording():
        return op.pauli_rep.operation(wire_order=op.wires), None


def _said(op: Operator) -> Iterator[tuple[str, bool, np.ndarray]]:
    """Yields the representations of an observable: (name, whether its own class defines it, the
    representation as a matrix)."""
    ways = {
        "matrix": (op.has_matrix, _matrix, ("matrix", "compute_matrix")),
        "diagonalizing gates": (op.has_diagonalizing_gates, diagonalized, _DIAGONALIZED),
        "Pauli words": (op.pauli_rep is not None, _of_words, ()),
    }
    for name, (is_there, way, methods) in ways.items():
        try:
            with qml.QueuingManager.stop_recording():
                matrix = np.asarray(way(op), dtype=complex) if is_there else None
        except qml.exceptions.OperatorPropertyUndefined:
            continue
        except Exception as error:  # a user's class may raise anything
            if not _is_stated(op, methods):
                continue
            raise UnsupportedError(
                f"The {name} of {type(op).__name__}, a class of yours, cannot be computed "
                f"({type(error).__name__}: {error}), and what it inherits may be another "
                "observable's. Let its methods take what those of the class that it is derived "
                "from take, with the same names, or leave them out."
            ) from error
        if matrix is not None:
            yield name, _is_stated(op, methods), matrix


_DIAGONALIZED = "eigvals", "compute_eigvals", "diagonalizing_gates", "compute_diagonalizing_gates"


def _is_stated(op: Operator, methods: Any) -> bool:
    """Whether a class defines one of these methods itself. Pauli words come from no method, so
    for them it is whether the class is derived from none of PennyLane's observables."""
    for kind in type(op).__mro__:
        if not is_custom(kind):
            return not methods and kind.__module__ == "pennylane.operation"
        if any(each in vars(kind) for each in methods):
            return True
    return False


def _matrix(op: Operator) -> Any:
    return op.matrix(wire_order=op.wires)


def diagonalized(op: Operator) -> np.ndarray:
    """Returns the matrix of an observable from its eigenvalues and diagonalizing gates."""
    rotation = qml.matrix(qml.tape.QuantumScript(op.diagonalizing_gates()), wire_order=op.wires)
    return rotation.conj().T @ np.diag(op.eigvals()) @ rotation


def _of_words(op: Operator) -> Any:
    return op.pauli_rep.to_mat(wire_order=op.wires)


def _same(one: Any, other: Any) -> bool:
    size = max(np.max(np.abs(one)), np.max(np.abs(other)))
    return one.shape == other.shape and not np.max(np.abs(one - other)) > _DIFFERENT * size
