"""Decompositions that users wrote: whether their parts can be differentiated by the parameters.

A decomposition may turn its gate's parameters into plain numbers, which have no derivative, or may
consist of other gates at other angles. Both are found out by decomposing the gate several times:
with its tensors, with some numbers, and with one of these numbers changed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operator

from qshift.circuits.consistency import matrix_of, require_one_gate
from qshift.circuits.identity import WIDEST_CUSTOM
from qshift.circuits.pennylane_internals import OPERATORS, put_data
from qshift.circuits.smooth_decompositions import parts as parts_of
from qshift.circuits.user_gates import as_matrix, put_together, with_numbers
from qshift.errors import UnsupportedError

_COMPUTE = "Compute with qml.math or TensorFlow there, without float(), NumPy or .numpy()."


def withdraws_rules(kind: type[Operator]) -> bool:
    """Whether a class says ``grad_method = None`` where a base class of it names a method: then
    only the gate's decomposition can be differentiated."""
    said = [vars(each)["grad_method"] for each in kind.__mro__ if "grad_method" in vars(each)]
    # PennyLane's gates of the new kind do not say it themselves: it follows from their rules.
    new = [each for each in kind.__mro__[1:] if issubclass(each, OPERATORS[1:])]
    stated = any(isinstance(method, str) for method in said) or bool({*new} - {*OPERATORS})
    return bool(said) and said[0] is None and stated


def decomposed(op: Operator, tensors: Sequence[int], problem: str | None) -> list[Operator] | None:
    """Returns the parts that a user's gate decomposes into, or None if it has no decomposition.

    Args:
        op: The gate.
        tensors: Which leaves of the flattened gate are tensors.
        problem: Why the gate cannot be put together again; None if it can.

    Raises:
        UnsupportedError: If the decomposition loses derivatives, or cannot be compared with the
            gate's matrix.
    """
    leaves = qml.pytrees.flatten(op)[0]
    given = [leaves[i] for i in tensors]
    try:
        with qml.QueuingManager.stop_recording(), _followed(given) as follows:
            parts = parts_of(op)
    except (AttributeError, TypeError, NotImplementedError) as error:  # tensors without .numpy()
        raise UnsupportedError(
            f"{op.name} cannot be decomposed when its parameters are tensors "
            f"({type(error).__name__}: {error}). {_COMPUTE}"
        ) from error
    if parts is None:
        return None
    versions: list[Any] = []  # decompositions at some numbers, and with one of these changed
    for moved in (None, *tensors):
        there = _elsewhere(op, tensors, moved, problem)
        if moved is None and op.has_matrix and not withdraws_rules(type(op)):
            _require_comparable(op, there, problem)
        with qml.QueuingManager.stop_recording():
            versions.append(None if there is None else parts_of(there))
    if None in versions:
        raise UnsupportedError(f"{problem}.")
    if len({tuple((type(part), part.wires) for part in made) for made in (parts, *versions)}) > 1:
        raise UnsupportedError(
            f"{op.name} decomposes into other gates at some angles than at others, so that its "
            "derivatives cannot be had from its parts. Write a decomposition without cases."
        )
    found, at, *others = (qml.pytrees.flatten(list(made))[0] for made in (parts, *versions))
    for i, tensor, other in zip(tensors, given, others, strict=True):
        for leaf, number, moved in zip(found, at, other, strict=True):
            if not np.array_equal(number, moved) and not follows(leaf, tensor):
                raise UnsupportedError(
                    f"The decomposition of {op.name} makes a number of its parameter {i}, by which "
                    f"there would be no derivative then. {_COMPUTE}"
                )
    return parts


class _followed:
    """A context that records what is computed from some tensors. It gives a function that says,
    after the context, whether a leaf was computed from one of the tensors."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = [t for t in tensors if qml.math.get_interface(t) == "tensorflow"]
        self._tape: Any = nullcontext()
        if self._tensors:
            self._tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)

    def __enter__(self) -> Any:
        tape = self._tape.__enter__()
        if tape is not None:
            tape.watch(self._tensors)
        return self._is_computed

    def __exit__(self, *error: Any) -> None:
        self._tape.__exit__(*error)

    def _is_computed(self, leaf: Any, tensor: Any) -> bool:
        if leaf is tensor:
            return True
        if not any(tensor is each for each in self._tensors):  # a tensor of another framework
            return qml.math.get_interface(leaf) == qml.math.get_interface(tensor)
        alike = qml.math.get_interface(leaf) == "tensorflow"
        return alike and self._tape.gradient(leaf, tensor) is not None


def _require_comparable(op: Operator, there: Any, problem: Any) -> None:
    """Raises UnsupportedError unless the gate's matrix, if it has one, is that of its parts."""

    if len(op.wires) > WIDEST_CUSTOM:
        return
    if problem and (there is None or matrix_of(there) is None):
        raise UnsupportedError(f"{problem}.")
    require_one_gate(there)


def _elsewhere(op: Operator, tensors: Any, moved: Any, problem: Any) -> Any:
    """Returns a gate with made-up numbers as parameters, or None if its class does not allow that.

    Args:
        op: The gate.
        tensors: Which of the gate's leaves are tensors.
        moved: The leaf that gets another number than in a call with None.
        problem: Why the gate cannot be put together again; then it is copied. None if it can.
    """
    leaves, structure = with_numbers(op, tensors)
    if moved is not None:
        leaves[moved] = leaves[moved] + 0.3
    if problem is None:
        return put_together(leaves, structure)
    if len(leaves) != len(op.data):
        return None
    try:
        copied = copy.deepcopy(op)
        put_data(copied, leaves)
    except Exception:  # whatever a user's class may raise
        return None
    return copied


def in_place_of(op: Operator) -> list[Operator] | None:
    """Returns gates that do the same as a constant gate which cannot be put together again: its
    matrix, or its parts; None if it has neither."""
    matrix = as_matrix(op)
    return decomposed(op, (), "") if matrix is None else [matrix]
