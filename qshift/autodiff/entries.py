"""Angles that are entries of one tensor, taken out of it together.

TensorFlow would take every `x[i]` by an op, and would add the derivatives up by one more for each.
What a circuit is given here is the tensor itself, its entries in another order at most, times
constants. Where that is right is for `qshift.autodiff.angles` to say.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.autodiff.angles import Angles
from qshift.autodiff.op_kinds import ENTRIES
from qshift.tensorflow_internals import EagerTensor

# How the entries of an angle lie in its tensor: alone, or one for each point of a batch, which is
# the tensor's first axis or its last.
ALONE, ROWS, COLUMNS = range(3)

# For each angle so many entries of a tensor may be left over; it is taken apart otherwise.
_MOST_UNUSED = 16


class Entry(NamedTuple):
    """Where an angle is in a tensor.

    Attributes:
        tensor: The tensor.
        identity: What two tensors share only if one can be used in place of the other.
        batch: `ALONE`, `ROWS` or `COLUMNS`.
        position: Which of its entries, or of each of its rows or columns.
        times, over: The constants by which it is multiplied and divided.
    """

    tensor: tf.Tensor
    identity: Hashable
    batch: int
    position: int
    times: float = 1.0
    over: float = 1.0


def blocks(angles: Sequence[tf.Tensor], known: Angles) -> list[tuple[list[int], tf.Tensor]]:
    """Lays angles side by side, in as few tensors as can be.

    Args:
        angles: Real; one number each, or one for each of the N points of a batch.
        known: How they follow from others.

    Returns:
        Each tensor [1 or N, columns], with which of the angles its columns are.
    """
    entries: dict[Hashable, list[tuple[int, int, Entry]]] = {}
    alone: list[int] = []
    for i, angle in enumerate(angles):
        if (entry := _entry(angle, known)) is not None:
            key = entry.identity, entry.batch
            entries.setdefault(key, []).append((entry.position, i, entry))
        else:
            alone.append(i)
    for where, each in list(entries.items()):
        if len(each) * _MOST_UNUSED < _width(each[0][-1]):
            alone += [i for _, i, _ in entries.pop(where)]
    others: dict[Hashable, list[int]] = {}
    for i in alone:
        others.setdefault((i,) if angles[i].shape.rank else angles[i].dtype.name, []).append(i)
    found = []
    for each in entries.values():
        each.sort(key=operator.itemgetter(0, 1))
        found.append(([i for _, i, _ in each], _taken([entry for _, _, entry in each])))
    for numbers in others.values():
        stacked = tf.stack([angles[i] for i in numbers], axis=-1)
        found.append((numbers, tf.reshape(stacked, [-1, len(numbers)])))
    return found


def _width(entry: Entry) -> int:
    """Returns how many angles could be entries of a tensor in the same way."""
    shape = entry.tensor.shape
    axes = {ALONE: shape, ROWS: shape[1:], COLUMNS: shape[:-1]}[entry.batch]
    return axes.num_elements()


def _entry(angle: tf.Tensor, known: Angles) -> Entry | None:
    """Returns of which tensor an angle is an entry, times a constant."""
    kinds = (ENTRIES,) if isinstance(angle, EagerTensor) else ("StridedSlice", "Unpack")
    tensor, times, over = angle, 1.0, 1.0
    picked: list[tf.Tensor] = []
    while (step := known.steps.get(known.key(tensor))) is not None:
        if step.label is None:
            if picked or (times, over) != (1.0, 1.0):  # several would be rounded otherwise
                break
            times, over = step.times, step.over
        elif step.label[0] in kinds:
            picked.append(tensor)
        else:
            break
        tensor = step.other
    if not picked:
        return None
    identity: Hashable = id(tensor)
    if step is not None and step.label is not None and step.label[0] == "ReadVariableOp":
        identity = known.key(step.other), step.label  # reads of a variable between two assignments
    if len(picked) == 1 and isinstance(angle, EagerTensor) and not angle.shape.rank:
        _, (position,) = picked[0].qshift_made.settings
        return Entry(tensor, identity, ALONE, position, times, over)
    place = _place(tensor, picked[::-1])
    return None if place is None else Entry(tensor, identity, *place, times, over)


def _place(tensor: tf.Tensor, picked: Sequence[tf.Tensor]) -> tuple[int, int] | None:
    """Returns how a number, or one for each point of a batch, lies in a tensor, and where.

    Args:
        tensor: The tensor.
        picked: What is picked out of it, out of that, and so on: at the end, the number.
    """
    last = picked[-1]
    if last.shape.rank == 1 and not tensor.shape.is_fully_defined():
        return _in_unknown_batch(tensor, picked)
    if last.shape.rank not in (0, 1) or not tensor.shape.is_fully_defined():
        return None
    shape = tuple(tensor.shape)
    positions = np.arange(tensor.shape.num_elements()).reshape(shape)
    for each in picked:
        positions = _pick(each, positions)
    if not positions.shape:
        return ALONE, int(positions)
    return _in_batch(positions, shape) if positions.size else None


def _in_batch(positions: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int] | None:
    rows, first = len(positions), int(positions[0])
    for batch, axis, step in ((ROWS, 0, math.prod(shape[1:])), (COLUMNS, -1, 1)):
        place, rest = (first, 0) if batch == ROWS else divmod(first, rows)
        lies = not rest and np.array_equal(positions, first + step * np.arange(rows))
        if shape[axis] == rows and lies:
            return batch, place
    return None


def _in_unknown_batch(tensor: tf.Tensor, picked: Sequence[tf.Tensor]) -> tuple[int, int] | None:
    if tensor.shape.rank is None:
        return None
    shape = tensor.shape.as_list()
    if len(picked) > 1 or isinstance(picked[0], EagerTensor) or shape.count(None) > 1:
        return None
    op = picked[0].op
    if op.type == "Unpack":
        batch = shape.index(None)
        if batch not in (0, len(shape) - 1) or op.get_attr("axis") in (batch, batch - len(shape)):
            return None
        return _in_batch(*_in_three(picked[0], shape))
    whole = op.get_attr("begin_mask") & op.get_attr("end_mask") & ~op.get_attr("new_axis_mask")
    count = len(tf.get_static_value(op.inputs[3]))
    numbers = op.get_attr("shrink_axis_mask")
    all_axes = 2**count - 1
    if shape[0] is None and whole & 1 and numbers == all_axes - 1:
        pass  # [:, i, ...]
    elif shape[0] is None and op.get_attr("ellipsis_mask") == 1 and numbers == all_axes - 1:
        pass  # [..., i]
    elif not (shape[-1] is None and numbers == all_axes):  # [i, ...]
        return None
    return _in_batch(*_in_three(picked[0], shape))


def _in_three(picked: tf.Tensor, sizes: Sequence[int | None]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns what is picked out of a batch of three points, and the shape of this batch."""
    shape = tuple([3 if size is None else size for size in sizes])
    return _pick(picked, np.arange(math.prod(shape)).reshape(shape)), shape


def _pick(picked: tf.Tensor, positions: np.ndarray) -> np.ndarray:
    """Does to positions what was done to a tensor."""
    if isinstance(picked, EagerTensor):
        shape, which = picked.qshift_made.settings
        return positions.ravel()[list(which)].reshape(shape)
    op = picked.op
    if op.type == "Unpack":
        return np.take(positions, picked.value_index, axis=op.get_attr("axis"))
    begin, end, strides = (tf.get_static_value(each).tolist() for each in op.inputs[1:])
    kinds = "ellipsis_mask", "new_axis_mask", "shrink_axis_mask", "begin_mask", "end_mask"
    masks = [op.get_attr(kind) for kind in kinds]
    index: list[Any] = []
    for k, step in enumerate(strides):
        is_rest, is_new, is_number, from_first, to_last = (mask >> k & 1 for mask in masks)
        if is_rest or is_new:
            index.append(... if is_rest else None)
        elif is_number:
            index.append(begin[k])
        else:
            ends = None if from_first else begin[k], None if to_last else end[k]
            index.append(slice(*ends, step))
    return np.asarray(positions[tuple(index)])


def _taken(wanted: Sequence[Entry]) -> tf.Tensor:
    """Returns the numbers of some entries of one tensor, [1 or N, len(wanted)].

    Args:
        wanted: Of one tensor and one way of lying in it.
    """
    tensor, _, batch, _, _, _ = wanted[0]
    shape = [-1 if size is None else size for size in tensor.shape]
    if batch == ALONE:
        numbers = tf.reshape(tensor, [1, math.prod(shape)])
    elif batch == ROWS:
        numbers = tf.reshape(tensor, [shape[0], math.prod(shape[1:])])
    else:
        numbers = tf.transpose(tf.reshape(tensor, [math.prod(shape[:-1]), shape[-1]]))
    positions = [entry.position for entry in wanted]
    if positions != list(range(numbers.shape[1])):
        # Not `tf.gather`, whose derivative is sparse, which forward accumulators cannot take.
        each = tf.unstack(numbers, axis=1)
        numbers = tf.stack([each[position] for position in positions], axis=1)
    for scale, by in ((tf.multiply, "times"), (tf.divide, "over")):
        constants = np.array([getattr(entry, by) for entry in wanted])
        if (constants != 1.0).any():
            numbers = scale(numbers, tf.constant(constants, numbers.dtype))
    return numbers
