"""What tensors are computed from.

In a graph, every tensor knows the op that made it. In eager mode, those do that are made within
`qshift.autodiff.remembered_ops.remembered_ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import tensorflow as tf

from qshift.autodiff.op_kinds import REARRANGE, SHAPES, SOLVE, is_linear
from qshift.tensorflow_internals import EagerTensor, is_trainable, is_watched


def name_of(tensor: tf.Tensor | tf.Variable) -> Hashable:
    """Returns a key that identifies a tensor or variable as long as it is alive."""
    if isinstance(tensor, tf.Variable):
        tensor = tensor.handle
    if isinstance(tensor, EagerTensor) and not tf.executing_eagerly():
        tensor = tf.compat.v1.get_default_graph().capture(tensor)
    if isinstance(tensor, EagerTensor):
        return id(tensor)
    return id(tensor.graph), tensor.name


def origins(tensors: Sequence[tf.Tensor], ends: Sequence = ()) -> list[frozenset]:
    """Returns for each tensor the names (`name_of`) of those that it is computed from.

    In a graph, these are arguments, variables and captured tensors, and tensors at which a tape
    begins to follow; constants only if a tape watches them. In eager mode, these are the tensors
    that were there before `remembered_ops`.

    Args:
        tensors: The tensors.
        ends: Tensors and variables whose own origins are not asked for.
    """

    def combine(
        tensor: tf.Tensor,
        name: Any,
        inputs: Sequence[tf.Tensor] | None,
        found: Sequence[frozenset[Any]],
    ) -> frozenset[Any]:
        if name in last or inputs is None:
            return frozenset([name])
        return frozenset().union(*found)

    last = set(map(name_of, ends))
    return _fold(tensors, last, combine)


def nonlinear(tensors: Sequence[tf.Tensor], ends: Sequence) -> list[bool]:
    """Returns for each tensor whether it may be anything but a linear function of the `ends` plus a
    constant."""

    def combine(
        tensor: tf.Tensor,
        name: Any,
        inputs: Sequence[tf.Tensor] | None,
        found: Sequence[int],
    ) -> int:
        if name in last:
            return 1
        moving = [bend for bend in found if bend]
        if not moving:
            return 0
        kind = tensor.qshift_made.kind if isinstance(tensor, EagerTensor) else tensor.op.type
        return max(moving) if is_linear(kind, list(map(bool, found))) else 2

    last = set(map(name_of, ends))
    return [bend == 2 for bend in _fold(tensors, last, combine)]


def are_affine(tensors: Sequence[tf.Tensor], inputs: Sequence[tf.Tensor]) -> bool:
    """Whether tensors of a graph are affine functions of others, the same ones everywhere: no op on
    the way is known to be anything else, or is not known, and none has an effect besides."""
    bends: dict[str, int] = {tensor.name: 1 for tensor in inputs}
    for op in inputs[0].graph.get_operations() if inputs else ():
        found = [bends.get(each.name, 0) for each in op.inputs]
        if not any(found) or op.type in SHAPES and max(found) < 2:
            continue
        if op.op_def.is_stateful:
            return False
        moves = list(map(bool, found))
        known = op.type in REARRANGE or is_linear(op.type, moves)
        known = known or op.type in SOLVE and not moves[0]
        # Whole numbers, and comparisons, jump.
        smooth = all(each.dtype.is_floating or each.dtype.is_complex for each in op.outputs)
        bend = max(found) if known and smooth else 2
        bends |= {each.name: bend for each in op.outputs}
    return all(bends.get(tensor.name, 0) < 2 for tensor in tensors)


def _fold(tensors: Sequence[tf.Tensor], last: set[Any], combine: Callable) -> list:
    """Computes a result for each tensor from the results for its inputs, recursively.

    Args:
        tensors: The tensors.
        last: Names of tensors whose inputs are not looked at.
        combine: combine(tensor, name, inputs, results for the inputs) returns the tensor's result;
            its inputs are None where the recursion ends.
    """
    found: dict[Hashable, Any] = {}
    for tensor in tensors:
        ahead = [tensor]
        while ahead:
            name = name_of(ahead[-1])
            inputs = [] if name in last else _inputs(ahead[-1])
            if name not in found:
                found[name] = combine(ahead[-1], name, None, [])  # in case that graphs have cycles
                later = [each for each in inputs or () if name_of(each) not in found]
                if later:
                    ahead += later
                    continue
            below = [found[name_of(each)] for each in inputs or ()]
            found[name] = combine(ahead.pop(), name, inputs, below)
    return [found[name_of(tensor)] for tensor in tensors]


def _inputs(tensor: tf.Tensor) -> list[tf.Tensor] | None:
    """Returns the tensors that a tensor is computed from directly; None if it counts as given."""
    if isinstance(tensor, tf.Variable):
        return None
    if isinstance(tensor, EagerTensor):
        if not hasattr(tensor, "qshift_made"):
            return None
        return [each for each in tensor.qshift_made.inputs if is_trainable(each)]
    op = tensor.op
    inputs = [each for each in op.inputs if is_trainable(each)]
    if not inputs:
        return [] if op.type == "Const" and not is_watched(tensor) else None
    # Each read of a variable is a separate op, so that it stands for the variable.
    if op.type != "ReadVariableOp" and is_watched(tensor) and not any(map(is_watched, inputs)):
        return None
    return inputs
