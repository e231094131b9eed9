"""Whether a traced function treats the rows of a batch alike and separately.

The answer is yes only if it is certain: if every op between inputs and results is known to keep the
rows apart, and to do the same with each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.tensorflow_internals import has_users_gradient

# Elementwise ops: each entry of the result is computed from one entry of every input. Inputs are
# broadcast.
_ENTRIES = frozenset(
    "Abs Acos Acosh AddN AddV2 Angle Asin Asinh Atan Atan2 Atanh BroadcastTo Cast Ceil "
    "CheckNumerics ClipByValue Complex ComplexAbs Conj Cos Cosh Digamma DivNoNan Elu Equal Erf "
    "Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Identity Imag Inv "
    "Invert IsFinite IsInf IsNan LeakyRelu Less LessEqual Lgamma Log Log1p LogicalAnd "
    "LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual "
    "OnesLike Pow PreventGradient Real RealDiv Reciprocal Relu Relu6 Rint Round Rsqrt Select "
    "SelectV2 Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Square SquaredDifference "
    "StopGradient Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlog1py Xlogy ZerosLike".split()
)
_REDUCTIONS = frozenset("All Any ArgMax ArgMin EuclideanNorm Max Mean Min Prod Sum".split())
# Ops along axes that their second input names.
_ALONG = frozenset("Cumprod Cumsum CumulativeLogsumexp ReverseV2".split())
_HARMLESS = frozenset(["Assert", "PrintV2"])  # ops with a state that no result depends on
_SHAPES = frozenset("Rank Shape ShapeN Size".split())  # ops whose results depend on shapes only
_MIXED = None


def are_separate(outputs: Sequence[tf.Tensor], batch: tf.Tensor) -> bool:
    """Whether entry n of every output is one function of row n of a batch alone, for all n.

    Args:
        outputs: Tensors of a graph, [N, ...]. All shapes in it are known.
        batch: The placeholder, [N, ...]. No other size in the graph is N.
    """
    axes: dict[str, int | None] = {batch.name: 0}  # name of a tensor -> the axis of the rows
    for op in batch.graph.get_operations():
        given = {i: axes[x.name] for i, x in enumerate(op.inputs) if x.name in axes}
        if not given or op.type in _SHAPES:
            continue
        # A value that is assigned to a variable may be read again.
        if op.op_def.is_stateful and op.type not in _HARMLESS:
            return False
        places: list[int | None] = [_MIXED] * len(op.outputs)
        if _MIXED not in given.values():
            places = _places(op, given)
        axes.update(zip((x.name for x in op.outputs), places, strict=True))
    return all(axes[x.name] == 0 if x.name in axes else _repeats(x, 0) for x in outputs)


def has_own_gradients(inputs: tf.Tensor) -> bool:
    """Whether something computed from a placeholder has a user's `tf.custom_gradient`."""
    follows = {inputs.name}
    for op in inputs.graph.get_operations():
        if any(x.name in follows for x in op.inputs):
            follows.update(x.name for x in op.outputs)
            if has_users_gradient(op):
                return True
    return False


def _places(op: tf.Operation, given: Mapping[int, int | None]) -> list[int | None]:
    """Returns the axis of the rows in each output of an op."""
    if op.type == "IdentityN":
        return [given.get(i, _MIXED) for i in range(len(op.outputs))]
    rule = _broadcast if op.type in _ENTRIES else _reduce if op.type in _REDUCTIONS else None
    rule = _along if op.type in _ALONG else rule or _RULES.get(op.type)
    shapes = (x.shape for x in (*op.inputs, *op.outputs))
    known = all(shape.is_fully_defined() and 0 not in shape for shape in shapes)
    place = rule(op, given) if rule and known else _MIXED
    return [place] * len(op.outputs)


def _repeats(tensor: tf.Tensor, axis: int) -> bool:
    """Whether a tensor that does not depend on the rows is the same all along an axis."""
    rank = tensor.shape.rank
    if rank is None:
        return False
    if not -rank <= axis < rank or tensor.shape[axis] == 1:
        return True
    op, axis = tensor.op, axis % rank - rank
    if op.type in ("Fill", "ZerosLike", "OnesLike"):
        return True
    if op.type == "BroadcastTo":
        return _repeats(op.inputs[0], axis)
    if op.type in _ENTRIES - {"Select"} and all(_repeats(x, axis) for x in op.inputs):
        return True
    if op.type == "ConcatV2":
        along = _constant(op.inputs[-1])
        apart = along is not None and along % rank - rank != axis
        return apart and all(_repeats(x, axis) for x in op.inputs[:-1])
    value = _constant(tensor)
    return value is not None and bool(np.all(value == np.take(value, [0], axis)))


def _constant(tensor: tf.Tensor) -> np.ndarray | None:
    return tf.get_static_value(tensor)


def _only(given: Mapping[int, int | None], position: int = 0) -> int | None:
    """Returns the axis of the rows if only one input has rows, namely the one at `position`."""
    return given[position] if set(given) == {position} else _MIXED


def _aligned(inputs: Sequence[tf.Tensor], given: Mapping[int, int | None], rank: int) -> int | None:
    """Returns the axis of the rows if inputs are broadcast to a rank and agree on it."""
    found = {axis - inputs[i].shape.rank for i, axis in given.items()}
    if len(found) != 1:
        return _MIXED
    (axis,) = found
    others = (x for i, x in enumerate(inputs) if i not in given)
    return axis + rank if all(_repeats(x, axis) for x in others) else _MIXED


def _broadcast(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    if op.type == "BroadcastTo":
        axis = _only(given)
        rank = op.outputs[0].shape.rank
        return _MIXED if axis is _MIXED else axis + rank - op.inputs[0].shape.rank
    rank = op.outputs[0].shape.rank
    if op.type == "Select" and any(x.shape.rank != rank for x in op.inputs):
        return _MIXED  # a vector of conditions selects rows, not columns
    return _aligned(op.inputs, given, rank)


def _axes_of(tensor: tf.Tensor, rank: int) -> list[int] | None:
    axes = _constant(tensor)
    return None if axes is None else [int(axis) % rank for axis in np.ravel(axes)]


def _reduce(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, axes = _only(given), _axes_of(op.inputs[1], op.inputs[0].shape.rank)
    if axis is _MIXED or axes is None or axis in axes:
        return _MIXED
    keeps = op.outputs[0].shape.rank == op.inputs[0].shape.rank
    return axis if keeps else axis - sum(each < axis for each in axes)


def _along(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, axes = _only(given), _axes_of(op.inputs[1], op.inputs[0].shape.rank)
    return _MIXED if axis is _MIXED or axes is None or axis in axes else axis


def _along_last(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis = _only(given)
    return _MIXED if axis == op.inputs[0].shape.rank - 1 else axis


def _reshape(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis = _only(given)
    if axis is _MIXED:
        return _MIXED
    before, after = op.inputs[0].shape, op.outputs[0].shape
    ahead = math.prod(before[:axis])
    places = (i for i, size in enumerate(after) if size == before[axis])
    return next((i for i in places if math.prod(after[:i]) == ahead), _MIXED)


def _transpose(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, order = _only(given), _constant(op.inputs[1])
    return _MIXED if axis is _MIXED or order is None else list(order).index(axis)


def _tile(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, multiples = _only(given), _constant(op.inputs[1])
    return axis if axis is not _MIXED and multiples is not None and multiples[axis] == 1 else _MIXED


def _pad(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, paddings = _only(given), _constant(op.inputs[1])
    apart = axis is not _MIXED and paddings is not None and not any(paddings[axis])
    return axis if apart else _MIXED


def _concat(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    rank, along = op.outputs[0].shape.rank, _constant(op.inputs[-1])
    if along is None:
        return _MIXED
    axis = _aligned(op.inputs[:-1], given, rank) if len(op.inputs) - 1 not in given else _MIXED
    return _MIXED if axis == int(along) % rank else axis


def _pack(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    rank = op.outputs[0].shape.rank
    axis = _aligned(op.inputs, given, rank - 1)
    return _MIXED if axis is _MIXED else axis + (op.get_attr("axis") % rank <= axis)


def _unpack(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, along = given[0], op.get_attr("axis") % op.inputs[0].shape.rank
    return _MIXED if axis == along else axis - (along < axis)


def _split(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    value, along = (1, 0) if op.type == "Split" else (0, 2)
    axis, axes = _only(given, value), _axes_of(op.inputs[along], op.inputs[value].shape.rank)
    return _MIXED if axis is _MIXED or axes is None or axis in axes else axis


def _slice(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, begin, size = _only(given), _constant(op.inputs[1]), _constant(op.inputs[2])
    if axis is _MIXED or begin is None or size is None or begin[axis] or size[axis] != -1:
        return _MIXED
    return axis


def _strided_slice(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, rank = _only(given), op.inputs[0].shape.rank
    begin, strides = _constant(op.inputs[1]), _constant(op.inputs[3])
    if axis is _MIXED or begin is None or strides is None:
        return _MIXED

    def has(mask: str, entry: Any) -> bool:
        return bool(op.get_attr(f"{mask}_mask") >> entry & 1)

    entries = range(len(begin))
    new = [has("new_axis", i) and not has("ellipsis", i) for i in entries]
    taken = sum(not has("ellipsis", i) and not new[i] for i in entries)
    before = after = 0
    for i in entries:
        if has("ellipsis", i):
            if axis < before + rank - taken:
                break
            before, after = before + rank - taken, after + rank - taken
        elif new[i]:
            after += 1
        elif before == axis:
            starts = has("begin", i) or begin[i] == 0
            all_ = starts and has("end", i) and strides[i] == 1 and not has("shrink_axis", i)
            return after if all_ else _MIXED
        else:
            before, after = before + 1, after + (not has("shrink_axis", i))
    return after + axis - before


def _gather(op: tf.Operation, given: Mapping[int, Any]) -> Any:
    if op.get_attr("batch_dims"):
        return _MIXED
    (axes,) = _axes_of(op.inputs[2], op.inputs[0].shape.rank) or (None,)
    if axes is None or len(given) != 1 or 2 in given:
        return _MIXED
    if 1 in given:  # the indices depend on the rows: each row takes an entry of a table
        return axes + given[1]
    if given[0] == axes:
        return _MIXED
    return given[0] + (op.inputs[1].shape.rank - 1) * (axes < given[0])


def _matmul(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    """Returns the axis of the rows in a product of matrices: the axes before the last two are
    broadcast, and one of the last two is summed over."""
    names = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    rank, ranks = op.outputs[0].shape.rank, [x.shape.rank for x in op.inputs]
    turned = [op.get_attr(name) for name in names]
    kept = [ranks[0] - (1 if turned[0] else 2), ranks[1] - (2 if turned[1] else 1)]
    if all(axis < ranks[i] - 2 for i, axis in given.items()):
        return _aligned(op.inputs, given, rank)
    if len(given) > 1:
        return _MIXED
    ((i, axis),) = given.items()
    return rank - 2 + i if axis == kept[i] else _MIXED


def _einsum(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    left, right = tf.compat.as_str(op.get_attr("equation")).split("->")
    terms = []
    for term, tensor in zip([*left.split(","), right], [*op.inputs, *op.outputs], strict=True):
        more = tensor.shape.rank - len(term.replace("...", ""))
        terms.append(term.replace("...", "".join(map(str, reversed(range(more))))))
    if any(len(set(term)) < len(term) for term in terms):
        return _MIXED
    right = terms.pop()
    labels = {terms[i][axis] for i, axis in given.items()}
    if len(labels) != 1:
        return _MIXED
    (label,) = labels
    others = [i for i in range(len(terms)) if i not in given and label in terms[i]]
    repeat = all(_repeats(op.inputs[i], terms[i].index(label)) for i in others)
    return right.index(label) if label in right and repeat else _MIXED


def _one_hot(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    axis, along = _only(given), op.get_attr("axis")
    return _MIXED if axis is _MIXED else axis + (along != -1 and along <= axis)


def _bias(op: tf.Operation, given: Mapping[int, int | None]) -> Any:
    return _only(given) if op.inputs[0].shape.rank == 2 and _only(given) == 0 else _MIXED


_RULES: dict[str, Callable] = {
    "BatchMatMulV2": _matmul,
    "BiasAdd": _bias,
    "ConcatV2": _concat,
    "Einsum": _einsum,
    "ExpandDims": _reshape,
    "GatherV2": _gather,
    "LogSoftmax": _along_last,
    "MatMul": _matmul,
    "MirrorPad": _pad,
    "OneHot": _one_hot,
    "Pack": _pack,
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": _along_last,
    "Split": _split,
    "SplitV": _split,
    "Squeeze": _reshape,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "TopKV2": _along_last,
    "Transpose": _transpose,
    "Unpack": _unpack,
}
