"""What tensors are computed from, read off TensorFlow's graphs.

While TensorFlow traces, every tensor knows the op it comes from. In eager mode it does not, so
`remembered_ops` writes that down.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import backprop_util, context
from tensorflow.python.framework import op_callbacks
from tensorflow.python.framework.ops import EagerTensor

from qshift.tracing import is_watched

# Ops that give the same whenever their first inputs are the same, and multiples for multiples.
_PURE = {
    "Cast", "ExpandDims", "GatherV2", "Identity", "Reshape", "ReadVariableOp", "Squeeze",
    "StridedSlice", "Unpack",
}  # fmt: skip


# Ops of one input that give the same whenever it is the same.
_FUNCTIONS = {
    "Acos", "Asin", "Atan", "Cos", "Exp", "Log", "Sigmoid", "Sin", "Sqrt", "Square", "Tan", "Tanh",
}  # fmt: skip
_LINEAR = _PURE | {"AddN", "AddV2", "ConcatV2", "Neg", "Pack", "Sub", "Sum", "Transpose"}
_BILINEAR = {"MatMul", "Mul"}


@contextmanager
def remembered_ops() -> Iterator[None]:
    """Within it, eager tensors remember how they were computed, for `angles`."""
    adds = tf.executing_eagerly() and _remember not in context.context().op_callbacks
    if adds:
        op_callbacks.add_op_callback(_remember)
    try:
        yield
    finally:
        if adds:
            op_callbacks.remove_op_callback(_remember)


def _remember(op_type, inputs, attrs, outputs, op_name=None, graph=None):
    if graph is None:
        for index, output in enumerate(outputs):
            output.qshift_op = op_type, inputs, attrs, index


def origins(tensors: Sequence[tf.Tensor], ends: Sequence = ()) -> list[frozenset]:
    """Returns what each tensor is computed from.

    Arguments, variables and captured tensors, each by its `name_of`; of what a tape follows, the
    tensors from which on it does. Constants count if a tape watches them. In eager mode, what was
    there before `remembered_ops`.

    Args:
        tensors: The tensors.
        ends: Tensors and variables to go no further back than.
    """
    last = {name: frozenset([name]) for name in map(name_of, ends)}
    found: dict[Hashable, frozenset] = dict(last)
    for tensor in tensors:
        ahead = [tensor]
        while ahead:
            name = name_of(ahead[-1])
            inputs = [] if name in last else _inputs(ahead[-1])
            if inputs is None:
                found[name] = frozenset([name])
            elif name not in found:
                found[name] = frozenset()  # for the time being: graphs may have cycles
                ahead += [each for each in inputs if name_of(each) not in found]
                continue
            else:
                found[name] = found[name].union(*(found[name_of(each)] for each in inputs))
            ahead.pop()
    return [found[name_of(tensor)] for tensor in tensors]


def nonlinear(tensors: Sequence[tf.Tensor], ends: Sequence) -> list[bool]:
    """Returns whether each tensor may be another than a linear function of the `ends` plus a
    constant, as far as is known."""
    last, known = {name_of(each) for each in ends}, {}

    def moves(tensor):
        return bool(last & origins([tensor], ends)[0])

    def bends(tensor):
        name = name_of(tensor)
        if name not in known:
            known[name] = True  # graphs may have cycles
            known[name] = name not in last and moves(tensor) and bends_anew(tensor)
        return known[name]

    def bends_anew(tensor):
        inputs = [each for each in _inputs(tensor) or () if moves(each)]
        kind = tensor.qshift_op[0] if isinstance(tensor, EagerTensor) else tensor.op.type
        linear = kind in _LINEAR or kind in _BILINEAR and len(inputs) == 1
        return not linear or any(map(bends, inputs))

    return [bends(tensor) for tensor in tensors]


def name_of(tensor: tf.Tensor | tf.Variable) -> Hashable:
    """Returns what identifies a tensor or variable."""
    if isinstance(tensor, tf.Variable):
        tensor = tensor.handle
        if not tf.executing_eagerly():
            tensor = tf.compat.v1.get_default_graph().capture(tensor)
    if isinstance(tensor, EagerTensor):
        return id(tensor)
    return id(tensor.graph), tensor.name


def _inputs(tensor):
    """Returns from what a tensor is computed directly; None where that shall be the end of it."""
    if isinstance(tensor, tf.Variable):
        return None
    if isinstance(tensor, EagerTensor):
        if not hasattr(tensor, "qshift_op"):
            return None
        return [each for each in tensor.qshift_op[1] if backprop_util.IsTrainable(each)]
    op = tensor.op
    inputs = [each for each in op.inputs if backprop_util.IsTrainable(each)]
    if not inputs:
        return [] if op.type == "Const" and not is_watched(tensor) else None
    # Every read of a variable is an op of its own.
    if op.type != "ReadVariableOp" and is_watched(tensor) and not any(map(is_watched, inputs)):
        return None
    return inputs


def angles(tensors: Sequence[tf.Tensor | tf.Variable]) -> list[tuple[Hashable, float]]:
    """Returns for each tensor some name of an angle and the constant factor by which it is taken.

    Tensors of the same name are multiples of one another, because they are computed from the same
    entry of the same tensor. In eager mode what no tape follows is a constant.
    """
    known: dict[Hashable, tuple[Hashable, float]] = {}
    return [
        _angle(tensor, known) if isinstance(tensor, tf.Tensor) else (id(tensor), 1.0)
        for tensor in tensors
    ]


def picks(
    named: Sequence[tuple[Hashable, float]], ends: Sequence[tf.Tensor]
) -> list[Hashable | None]:
    """Returns for each of `angles` how it is picked out of one of `ends`, and times what constant.

    The same entry of another tensor, of the same shape and dtype, is picked in the same way. None
    where more is done to it, as far as is known.
    """
    places = {name_of(each): i for i, each in enumerate(ends)}

    def way(name):
        if name in places:
            return places[name]
        if not isinstance(name, tuple) or name[0] not in _PURE:
            return None
        kind, index, settings, inner, *others = name
        before = way(inner)
        return None if before is None else (kind, index, settings, before, *others)

    found = ((way(name), factor) for name, factor in named)
    return [None if each[0] is None else each for each in found]


def _angle(tensor, known):
    name = name_of(tensor)
    if name not in known:
        known[name] = _multiple_of(tensor, known) or (name, 1.0)
    return known[name]


def _multiple_of(tensor, known):
    if not (tensor.dtype.is_floating or tensor.dtype.is_complex):
        return None  # a multiple is rounded otherwise
    if not isinstance(tensor, EagerTensor):
        op, index = tensor.op, tensor.value_index
        kind, inputs, settings = op.type, op.inputs, ()
    elif hasattr(tensor, "qshift_op") and is_watched(tensor):
        kind, inputs, settings, index = tensor.qshift_op
    else:
        return None
    if kind == "Neg":
        name, factor = _angle(inputs[0], known)
        return name, -factor
    if kind in ("Mul", "RealDiv"):
        for moving, constant in ((0, 1), (1, 0))[: 2 if kind == "Mul" else 1]:
            c = _constant(inputs[constant])
            if c is not None and not c.shape and c and not np.iscomplexobj(c):
                name, factor = _angle(inputs[moving], known)
                return name, factor * float(c) if kind == "Mul" else factor / float(c)
    if kind not in _PURE and kind not in _FUNCTIONS:
        return None
    if not settings:
        attributes = op.node_def.attr
        settings = tuple(
            (name, attributes[name].SerializeToString())
            for name in sorted(attributes)
            if not name.startswith("_")
        )
    name, factor = _angle(inputs[0], known)
    others = [_constant(each) for each in inputs[1:]]
    if any(other is None for other in others):
        return None
    if kind in _FUNCTIONS:
        return (kind, settings, name, factor), 1.0
    return (kind, index, settings, name, *map(_content, others)), factor


def _constant(tensor):
    if not isinstance(tensor, EagerTensor):
        return tf.get_static_value(tensor)
    return None if tensor.dtype == tf.resource or is_watched(tensor) else tensor.numpy()


def _content(array):
    return array.dtype.str, array.shape, array.tobytes()
