"""Gates that users wrote themselves: whether they can be run at other angles.

qshift flattens a gate (`qml.pytrees.flatten`), changes its angles and puts it together again.
PennyLane's own gates survive that. A user's class may lose something on the way, hide a tensor
where no derivative finds it, or have a name that a device takes for another gate. This module finds
that out. `user_decompositions` checks how such a gate is decomposed, and `consistency` whether its
matrix, decomposition, generator and frequencies belong to one gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operator

from qshift.circuits.identity import (
    WIDEST_CUSTOM,
    attributes,
    contains_custom,
    fingerprint,
    is_custom,
    operators,
)
from qshift.circuits.pennylane_internals import settings
from qshift.errors import UnsupportedError
from qshift.inputs import shown
from qshift.tensorflow_internals import is_watched

if TYPE_CHECKING:
    from pennylane.pytrees import PyTreeStructure

_ADVICE = (
    "Let __init__ take it as an argument and put it into the gate's hyperparameters "
    '(self._hyperparameters = {"name": value}), or override _flatten and _unflatten'
)


def require_visible(op: Operator, tensors: Sequence[int]) -> None:
    """Raises UnsupportedError if a gate hides a tensor that a tape may differentiate by.

    qshift differentiates by the parameters of a gate only, ``op.data``.

    Args:
        op: The gate.
        tensors: Which leaves of the flattened gate are tensors.
    """
    # With numbers for parameters, everything that the gate computes from them is a number too: a
    # tensor that is still there is none of its parameters.
    there = put_together(*with_numbers(op, tensors)) if tensors else op
    for part in [] if there is None else operators(there):
        kept = [("hyperparameter", part.hyperparameters), ("attribute", attributes(part))]
        for kind, each in kept if is_custom(type(part)) else ():  # type: ignore[arg-type]
            for name, value in each.items():
                if any(map(_is_followed, _tensors(value))):
                    raise UnsupportedError(
                        f"{part.name} has a tensor in its {kind} {name!r}, but gates are "
                        "differentiated by their parameters only. Pass it to Operation.__init__ "
                        "as a parameter, or keep numbers there."
                    )


def lost(op: Operator) -> str | None:
    """Returns a sentence that says what a gate loses when it is flattened and put together again;
    None if it loses nothing."""
    leaves, structure = qml.pytrees.flatten(op)
    try:
        with qml.QueuingManager.stop_recording():
            again = qml.pytrees.unflatten(leaves, structure)
    except Exception as error:  # whatever a user's class may raise
        return (
            f"{op.name} cannot be put together again from what its _flatten gives "
            f"({type(error).__name__}: {error}). Let __init__ take the parameters, wires= and all "
            "hyperparameters by name, or override _flatten and _unflatten"
        )
    if problem := _misplaced(op, leaves, structure):
        return problem
    for old, new in zip(operators(op), operators(again), strict=False):
        if type(old) is not type(new) or not _same(old.data, new.data):
            return f"{old.name} has other parameters when it is put together again. {_ADVICE}"
        pairs = [({"wires": each.wires, "name": each.name}) for each in (old, new)]
        if is_custom(type(old)):  # type: ignore[arg-type]
            pairs = [
                pair | attributes(each) | each.hyperparameters
                for pair, each in zip(pairs, (old, new), strict=True)
            ]
        ours, theirs = pairs
        for name in ours | theirs:
            if not _same(ours.get(name), theirs.get(name)):
                return (
                    f"{old.name} keeps {name!r} where PennyLane does not look for it: put together "
                    f"again at other angles, it has {shown(theirs.get(name), 60)} in place of "
                    f"{shown(ours.get(name), 60)}. {_ADVICE}"
                )
    return None


def _misplaced(op: Operator, leaves: Sequence[Any], structure: PyTreeStructure) -> str | None:
    """Returns a sentence if the leaves of a flattened gate are not its parameters in their order;
    None if they are."""
    if len(leaves) != len(op.data) or any(qml.math.ndim(leaf) for leaf in leaves):
        return None
    numbers = [0.1 + 0.01 * i for i in range(len(leaves))]
    there = put_together(numbers, structure)  # not every gate takes every number
    found = numbers if there is None else [float(x) for x in there.data]
    if np.array_equal(found, numbers):
        return None
    return (
        f"{op.name} has the parameters {found} when it is put together again from {numbers}. "
        "Let __init__ pass its parameters on to Operation.__init__ as they are, and compute what "
        "depends on them in its methods, or override _flatten and _unflatten"
    )


def with_numbers(op: Operator, tensors: Any) -> tuple[Any, ...]:
    """Flattens a gate, with made-up numbers in place of those leaves that are tensors.

    Returns:
        (leaves, structure), as of `qml.pytrees.flatten`.
    """
    leaves, structure = qml.pytrees.flatten(op)
    for i in tensors:
        leaves[i] = np.full(qml.math.shape(leaves[i]), 0.4 + 0.1 * i)[()]
    return leaves, structure


def put_together(leaves: Sequence[Any], structure: PyTreeStructure) -> Any:
    """Returns the gate that some leaves make, or None if its class does not take them."""
    try:
        with qml.QueuingManager.stop_recording():
            return qml.pytrees.unflatten(leaves, structure)
    except Exception:  # whatever a user's class may raise
        return None


def as_matrix(op: Operator) -> Operator | None:
    """Returns a gate with numbers for parameters as a `qml.QubitUnitary`; None if it has no matrix
    or too many wires."""
    if not op.has_matrix or len(op.wires) > WIDEST_CUSTOM:
        return None
    with qml.QueuingManager.stop_recording():
        return qml.QubitUnitary(op.matrix(), wires=op.wires)


def unmistakable(op: Operator) -> Operator:
    """Returns a gate, as a matrix if a device may mistake it for one of PennyLane's.

    Devices know gates by their names, or by the classes that they are subclasses of.
    """
    if not contains_custom(op) or not any(map(_mistaken_for, operators(op))):
        return op
    return as_matrix(op) or op


def _mistaken_for(op: Operator) -> list[Any]:
    """Returns PennyLane's gates that have the name of a user's gate, or are its base classes."""
    if not is_custom(type(op)):  # type: ignore[arg-type]
        return []
    own = [kind for kind in type(op).__mro__ if not is_custom(kind)]
    found = [getattr(qml, name, None) for name in (op.name, *(kind.__name__ for kind in own))]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, Operator)]


def require_unmistakable(op: Operator) -> None:
    """Raises UnsupportedError for a gate that PennyLane's devices take for another one.

    `qshift.param_shift` needs this check, as it leaves gates as they are.

    Args:
        op: A gate, with parameters of any kind.
    """
    for part in operators(op) if contains_custom(op) else ():
        for kind in _mistaken_for(part):
            numbers = [np.full(qml.math.shape(x), 0.4 + 0.1 * i)[()] for i, x in enumerate(op.data)]
            try:
                stated = kind.compute_matrix(*numbers, **settings(kind, part))
                own = type(part).compute_matrix(*numbers, **settings(type(part), part))
                same = np.allclose(stated, own, rtol=0, atol=1e-9)
            except Exception:  # a user's class may raise anything, or keep its leaves elsewhere
                same = False
            if not same:
                raise UnsupportedError(
                    f"PennyLane's devices may take {part.name}, a class of yours, for their own "
                    f"{kind.__name__}, by its name or as a subclass of that. Give it a name of its "
                    "own and derive it from qml.operation.Operation, or use qshift.qnode."
                )


def _tensors(value: Any) -> list:
    found: list = []
    fingerprint(value, found.append)
    return found


def _is_followed(tensor: Any) -> bool:
    """Whether something may differentiate by a tensor, or its numbers are not known."""
    if not isinstance(tensor, tf.Tensor):
        return bool(getattr(tensor, "trainable", True))
    return is_watched(tensor) or tf.get_static_value(tensor) is None


def _same(one: Any, other: Any) -> bool:
    return fingerprint(one, _Computed) == fingerprint(other, _Computed)


class _Computed:
    """A tensor that compares equal to another if both are computed in the same way, or have the
    same numbers."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Computed) and _same_tensors(self._tensor, other._tensor)


def _same_tensors(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if hasattr(one, "numpy") and hasattr(other, "numpy"):
        return bool(np.array_equal(one.numpy(), other.numpy(), equal_nan=True))
    if not (hasattr(one, "op") and hasattr(other, "op")) or one.value_index != other.value_index:
        return False
    a, b = one.op, other.op
    if a.type != b.type or len(a.inputs) != len(b.inputs) or not a.inputs:
        return a is b or a.type == b.type == "Const" and _same_settings(a, b)
    return _same_settings(a, b) and all(map(_same_tensors, a.inputs, b.inputs))


def _same_settings(*ops: Any) -> bool:
    one, other = (
        {k: v.SerializeToString() for k, v in op.node_def.attr.items() if not k.startswith("_")}
        for op in ops
    )
    return one == other
