"""What tensors are computed from.

In a graph, every tensor knows the op that made it, but not which tapes were recording at that time.
In eager mode, tensors know neither. Within `remembered_ops`, both are stored on the tensors.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.tensorflow_internals import (
    EagerTensor,
    add_callback,
    could_record,
    is_trainable,
    is_watched,
    open_tapes,
    remove_callback,
)

# Ops that pick or rearrange entries of their first input, as their other inputs say.
PICKS = frozenset(
    "Cast ExpandDims GatherV2 Identity ReadVariableOp Reshape Squeeze StridedSlice Unpack".split()
)
# Ops of one input that are smooth.
FUNCTIONS = frozenset("Acos Asin Atan Cos Exp Log Sigmoid Sin Sqrt Square Tan Tanh".split())
LINEAR = PICKS | frozenset(
    "AddN AddV2 ConcatV2 Imag Mean Neg Pack Real Slice Sub Sum Tile Transpose".split()
)
# Ops that are linear in each of their inputs.
BILINEAR = frozenset("BatchMatMulV2 Einsum MatMul Mul".split())
SMOOTH = LINEAR | FUNCTIONS | BILINEAR | {"RealDiv"}
# Other ops whose gradients are linear in the cotangent, with derivatives of every order.
DIFFERENTIABLE = SMOOTH | frozenset(
    "Abs Acosh Asinh Atan2 Atanh Cosh Cumsum Erf Erfc Expm1 Log1p Maximum Minimum Pow Prod "
    "Reciprocal Relu Rsqrt SelectV2 Sinh Softplus SquaredDifference".split()
)


class Scope:
    """One block of `remembered_ops`.

    Attributes:
        reads: Of each variable, by the id of its handle, the latest eager read, and a number that
            two reads share only if they gave the same.
    """

    def __init__(self) -> None:
        self.reads: dict[int, tuple[tf.Tensor, int]] = {}


class Made(NamedTuple):
    """How a tensor was made.

    Attributes:
        kind: The op's type.
        inputs: The op's inputs.
        settings: The op's attributes, as TensorFlow hands them to callbacks.
        index: The position of the tensor among the op's outputs.
        scope: The scope in which the tensor was made.
        recorded: Whether open tapes recorded the op itself; within a `tf.custom_gradient` they do
            not, but are told a gradient afterwards.
        tapes: The tapes that were open when the tensor was made, see `open_tapes`.
        version: For an eager read of a variable, see `Scope.reads`.
    """

    kind: str
    inputs: tuple[tf.Tensor, ...]
    settings: Any
    index: int  # type: ignore[assignment]  # hides a method of tuples
    scope: Scope
    recorded: bool
    tapes: tuple[int, ...]
    version: int


class _Current(threading.local):
    """The innermost scope of a thread, and how often ops in its scopes have assigned variables."""

    scope: Scope | None = None
    assignments = 0


_current = _Current()


@contextmanager
def remembered_ops() -> Iterator[None]:
    """A context in which tensors remember how they were made, for `origins` and `made`."""
    outer, _current.scope = _current.scope, Scope()
    adds = add_callback(_remember)
    try:
        yield
    finally:
        _current.scope = outer
        if adds:
            remove_callback(_remember)


def _remember(
    op_type: Any,
    inputs: tuple[tf.Tensor, ...],
    attrs: Sequence[Any],
    outputs: Sequence[tf.Tensor],
    op_name: str | None = None,
    graph: Any = None,
) -> None:
    scope, kind = _current.scope, tf.compat.as_str(op_type)
    if scope is None:  # an op that TensorFlow runs for itself
        return
    if graph is not None and kind not in SMOOTH:
        return  # the graph knows it, and keeps what is added for ever
    if not outputs and kind.startswith(("Assign", "Resource")):
        _current.assignments += 1
    recorded, version = could_record(), 0
    if graph is None:
        if kind == "ReadVariableOp":
            latest, version = scope.reads.get(id(inputs[0]), (None, -1))
            if latest is None or not np.array_equal(latest, outputs[0]):
                version += 1
                scope.reads[id(inputs[0])] = outputs[0], version
        elif kind == "Identity":
            # The last op of each eager `tf.custom_gradient`, which then tells tapes something else.
            recorded = False
    tapes = open_tapes()
    for index, output in enumerate(outputs):
        output.qshift_made = Made(kind, inputs, attrs, index, scope, recorded, tapes, version)


def assignments() -> int:
    """Returns how often eager ops within `remembered_ops` have assigned to a variable so far."""
    return _current.assignments


# scope() returns the present scope. A tensor that was made in another scope counts as given, and
# has no origin, as somebody may differentiate by it.
scope: Callable[[], Scope | None] = functools.partial(getattr, _current, "scope")


def made(tensor: tf.Tensor) -> Made | None:
    """Returns how a tensor was made, if it was made in the present scope, else None."""
    found = getattr(tensor, "qshift_made", None)
    return found if found is not None and found.scope is _current.scope else None


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


def is_linear(kind: str, moves: Sequence[bool]) -> bool:
    """Whether an op is known to be a linear function, plus a constant, of its inputs that move.

    Args:
        kind: The op's type.
        moves: Which of the op's inputs move.
    """
    if kind in BILINEAR:
        return sum(moves) == 1
    return kind in LINEAR or kind == "RealDiv" and not moves[1]


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
