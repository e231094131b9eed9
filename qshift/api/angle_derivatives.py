"""How the angles of a qnode's call change with its arguments, in any order, without tracing.

The call's angles are recorded by nested tapes, one for each order, and differentiated one by one in
eager mode. Rows of a batch are kept apart: the derivatives of angles have an axis for the rows,
which has length 1 where an angle has no batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from qshift.api.affine import Angle, nonzero, prepared, slopes
from qshift.api.preparation import Prepared
from qshift.api.qnode import QNode
from qshift.autodiff.angles import LINEARLY
from qshift.autodiff.op_kinds import PICKS
from qshift.autodiff.requests import Partial
from qshift.tensorflow_internals import is_watched

# One entry of a derivative, a tensor of the angle's shape; None where it is zero.
_Entry: TypeAlias = Any


class UnsuitedError(Exception):
    """Raised where the angles of a call cannot be differentiated in this way."""


@dataclass(frozen=True)
class Source:
    """An argument to differentiate by.

    Attributes:
        tensor: The argument.
        in_rows: Whether row b of the batch depends on its row b only.
    """

    tensor: tf.Tensor
    in_rows: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the entries that one row of the batch depends on."""
        shape = tuple(self.tensor.shape)
        return shape[1:] if self.in_rows else shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Moved(NamedTuple):
    """The derivatives of angles by some arguments.

    Attributes:
        columns: The angles that follow all of the arguments; C of them.
        derivatives: float64[1 or N, C, entries of the first argument * those of the next * ...].
    """

    columns: tuple[int, ...]
    derivatives: np.ndarray


class AngleDerivatives:
    """The derivatives of a call's angles by its arguments.

    Args:
        fn: The qnode.
        args: The qnode's arguments.
        sources: Position -> argument, for the arguments to differentiate by.
        words: The derivatives wanted, each as positions of arguments in ascending order.
        most: The largest number of gradients to ask tapes for. Beyond, tracing takes less time.
        most_entries: The largest number of entries of one derivative of all angles.

    Attributes:
        call: The call, which is not run.

    Raises:
        UnsuitedError: If the call has more than one linear result; if it is not known how its
            angles follow from the arguments; if a tape of the caller follows them; or if there are
            too many derivatives.
    """

    call: Prepared

    def __init__(
        self,
        fn: QNode,
        args: Sequence[Any],
        sources: Mapping[int, Source],
        words: set[Partial],
        most: int = 2000,
        most_entries: int = 2**25,
    ) -> None:
        self._fn, self._args, self._sources = fn, args, sources
        self._words = sorted({word[: k + 1] for word in words for k in range(len(word))})
        self._watched = [source.tensor for source in sources.values()]
        self._gradients, self._most, self._most_entries = 0, most, most_entries
        # (column, position) -> the tensors that a curved angle depends on: the argument at that
        # position, or the few numbers that are picked out of it.
        self._numbers: dict[tuple[int, int], list[tf.Tensor]] = {}
        # The id of such a number -> the entries of the argument that it is, and its slopes by them.
        self._places: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._angles: list[Angle] = []
        # Column of a curved angle -> arguments -> its derivatives; () -> the angle itself.
        self._found: dict[int, dict[Partial, list[_Entry]]] = {}
        self._tape = self._differentiated(max(map(len, words)))
        if any(map(is_watched, self.call.parameters)):  # by the caller's tapes; ours are closed
            raise UnsuitedError
        self._straight = self._slopes()

    def moved(self) -> dict[Partial, Moved]:
        """Returns the derivatives of the angles that the value depends on, for each combination of
        arguments by which any angle has a derivative.

        Raises:
            UnsuitedError: If the derivatives have too many entries.
        """
        rows, angles = len(self.call.tensors[0]), len(self._angles)
        for word in {word for found in self._found.values() for word in found}:
            if rows * angles * math.prod(self._sources[i].size for i in word) > self._most_entries:
                raise UnsuitedError
        dense = {
            column: {
                word: self._dense(column, word, entries) for word, entries in found.items() if word
            }
            for column, found in self._found.items()
        }
        for column, slope in self._straight.items():
            dense.setdefault(column, {}).update(slope)
        active = {column for part in self.call.program.active for column in part or ()}
        result = {}
        for word in {word: None for found in dense.values() for word in found}:
            columns = tuple(c for c in sorted(dense) if c in active and word in dense[c])
            size = math.prod(self._sources[i].size for i in word)
            derivatives = np.zeros((1, 0, size))
            if columns:
                each = [dense[column][word] for column in columns]
                rows = max(map(len, each))
                derivatives = np.stack([np.broadcast_to(x, (rows, size)) for x in each], axis=1)
            result[word] = Moved(columns, derivatives)
        return result

    def _differentiated(self, order: int) -> tf.GradientTape:
        """Prepares the call, and differentiates the curved angles up to an order.

        Returns:
            The innermost tape.
        """
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(self._watched)
            if order > 1:
                innermost = self._differentiated(order - 1)
            else:
                innermost = tape
                self._prepare()
        for column, found in self._found.items():
            for word in [word for word in self._words if len(word) == order and word[:-1] in found]:
                entries = self._by(tape, column, found[word[:-1]], word[-1])
                if entries is not None:
                    found[word] = entries
        return innermost

    def _prepare(self) -> None:
        found = prepared(self._fn, self._args, self._watched)
        if found is None:
            raise UnsuitedError
        self.call, self._angles = call, angles = found
        rows = int(call.tensors[0].shape[0])
        if not rows:
            raise UnsuitedError
        for source in self._sources.values():
            if source.in_rows and (call.batch is None or source.tensor.shape[:1] != [rows]):
                raise UnsuitedError
        for angle in angles:
            if angle.follows > LINEARLY:
                self._found[angle.column] = {(): [angle.value]}
                for position, source in self._sources.items():
                    self._numbers[angle.column, position] = _numbers(angle.value, source)

    def _slopes(self) -> dict[int, dict[Partial, np.ndarray]]:
        """Returns the derivatives of angles that are linear functions of the arguments."""
        straight = [angle for angle in self._angles if angle.column not in self._found]
        single = [angle for angle in straight if angle.value.shape.rank == 0]
        result: dict[int, dict[Partial, np.ndarray]] = {}
        for column, row in slopes(self._fn, self._tape, single, self._watched).items():
            result[column] = {}
            for (position, source), found in zip(self._sources.items(), row, strict=True):
                if found is not None:
                    self._require_rows(source, tf.constant(0.0))
                    slope = np.zeros((1, source.size))
                    slope[0, found[0]] = found[1]
                    result[column][position,] = slope
        for angle in straight:
            if angle.value.shape.rank:
                result[angle.column] = {}
                for position in self._sources:
                    entries = self._by(self._tape, angle.column, [angle.value], position)
                    if entries is not None:
                        slope = self._dense(angle.column, (position,), entries)
                        result[angle.column][position,] = slope
        return result

    def _by(
        self, tape: tf.GradientTape, column: int, targets: Sequence[_Entry], position: int
    ) -> list[_Entry] | None:
        """Differentiates targets that a tape has recorded by the numbers that an angle takes from
        an argument.

        Returns:
            All entries of the first target's derivative, then those of the next; None if no target
            depends on the argument.
        """
        source, by = self._sources[position], self._taken(column, position)
        found: list[_Entry] = []
        for target in targets:
            if target is None:
                found += [None] * (source.size if source.in_rows else sum(map(_size, by)))
            elif source.in_rows:
                found += self._in_rows(tape, target, source)
            elif _size(target) == 1:
                found += self._gradient(tape, target, by)
            else:
                found += self._for_all_rows(tape, target, by)
        return None if all(each is None for each in found) else found

    def _in_rows(self, tape: tf.GradientTape, target: tf.Tensor, source: Source) -> list[_Entry]:
        """Differentiates the rows of a target, each by its own row of an argument."""
        self._count(1)
        found = tape.gradient(target, source.tensor)  # the gradient of the sum over rows
        if found is None:
            return [None] * source.size
        self._require_rows(source, target)
        found = tf.convert_to_tensor(found)
        if found.shape == target.shape:
            return [found]
        return tf.unstack(tf.reshape(found, [*target.shape, source.size]), axis=1)

    def _for_all_rows(
        self, tape: tf.GradientTape, target: tf.Tensor, by: list[tf.Tensor]
    ) -> list[_Entry]:
        """Differentiates the rows of a target by tensors that all rows depend on."""
        rows, entries = target.shape[0], sum(map(_size, by))
        if rows <= entries + 1:
            row_by_row = [
                self._gradient(tape, target, by, row) for row in tf.eye(rows, dtype=target.dtype)
            ]
            return [
                None if each[0] is None else tf.stack(each)
                for each in zip(*row_by_row, strict=True)
            ]
        # A gradient is linear in the cotangent: its derivatives by the cotangent are the gradients
        # of the rows.
        weights = tf.ones_like(target)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as by_weights:
            by_weights.watch(weights)
            gradient = self._gradient(tape, target, by, weights)
        self._count(sum(each is not None for each in gradient))
        return [None if each is None else by_weights.gradient(each, weights) for each in gradient]

    def _gradient(
        self,
        tape: tf.GradientTape,
        target: tf.Tensor,
        by: list[tf.Tensor],
        cotangent: tf.Tensor | None = None,
    ) -> list[_Entry]:
        """Returns the entries of a gradient by some tensors, one after the other."""
        self._count(1)
        entries: list[_Entry] = []
        for tensor, each in zip(by, tape.gradient(target, by, cotangent), strict=True):
            if each is None:
                entries += [None] * _size(tensor)
            elif not tensor.shape.rank:
                entries.append(each)
            else:  # which may be sparse, where entries were gathered
                entries += tf.unstack(tf.reshape(tf.convert_to_tensor(each), [-1]))
        return entries

    def _taken(self, column: int, position: int) -> list[tf.Tensor]:
        """Returns the tensors by which an angle depends on an argument."""
        return self._numbers.get((column, position), [self._sources[position].tensor])

    def _count(self, gradients: int) -> None:
        self._gradients += gradients
        if self._gradients > self._most:
            raise UnsuitedError

    def _require_rows(self, source: Source, angle: tf.Tensor) -> None:
        if source.in_rows and angle.shape[:1] != source.tensor.shape[:1]:
            raise UnsuitedError  # all rows of the batch follow all rows of the argument

    def _dense(self, column: int, word: Partial, found: Sequence[_Entry]) -> np.ndarray:
        """Returns derivatives by the numbers that an angle takes from some arguments as derivatives
        by all entries of these arguments, float64[1 or N, entries]."""
        rows = max(_size(each) for each in found if each is not None)
        dense = np.zeros((len(found), rows))
        for row, each in zip(dense, found, strict=True):
            if each is not None:
                row[:] = each.numpy().ravel()
        if np.isinf(dense).any():  # TensorFlow decides what infinity times zero is
            raise UnsuitedError
        taken = [self._taken(column, position) for position in word]
        dense = dense.T.reshape(
            rows,
            *(
                self._sources[i].size if self._sources[i].in_rows else sum(map(_size, each))
                for i, each in zip(word, taken, strict=True)
            ),
        )
        for axis, (position, each) in enumerate(zip(word, taken, strict=True), 1):
            source = self._sources[position].tensor
            if each[0] is not source:
                by_numbers = np.moveaxis(dense, axis, 0)
                placed = np.zeros((_size(source), *by_numbers.shape[1:]))
                for number, derivatives in zip(each, by_numbers, strict=True):
                    # Other entries stay zero, even where this derivative is NaN.
                    for entry, slope in zip(*self._picked(number, source), strict=True):
                        placed[entry] += derivatives * slope
                dense = np.moveaxis(placed, 0, axis)
        return dense.reshape(rows, -1)

    def _picked(self, number: tf.Tensor, source: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Returns the entries of an argument that a number was picked from, and its slopes by
        them."""
        if id(number) not in self._places:
            self._places[id(number)] = nonzero(self._tape.gradient(number, source))
        return self._places[id(number)]


def _size(tensor: tf.Tensor) -> int:
    return math.prod(tensor.shape)


def _numbers(angle: tf.Tensor, source: Source) -> list[tf.Tensor]:
    """Returns the numbers that an angle takes from an argument if it depends on the argument by
    these only, else the argument itself.

    Tapes that record the angle must be open.
    """
    whole = [source.tensor]
    if source.in_rows or source.size < 2:
        return whole
    numbers: dict[int, tf.Tensor] = {}
    before: set[int] = set()
    seen, ahead = {id(angle)}, [angle]
    while ahead:
        tensor = ahead.pop()
        if tensor is source.tensor:
            return whole
        if (way := _way(tensor, source.tensor)) is not None:
            numbers[id(tensor)] = tensor
            before.update(map(id, way))
            continue
        origin = getattr(tensor, "qshift_made", None)
        for each in () if origin is None else origin.inputs:
            if id(each) not in seen and is_watched(each):
                seen.add(id(each))
                ahead.append(each)
    # Where one number is computed from another, the gradient by the latter includes that by the
    # former, and both together would count it twice.
    return whole if before & set(numbers) else list(numbers.values()) or whole


def _way(tensor: tf.Tensor, source: tf.Tensor) -> list[tf.Tensor] | None:
    """Returns, for a number that was picked out of a source, the tensors on its way from there;
    None for any other tensor."""
    if _size(tensor) != 1:
        return None
    way = []
    while tensor is not source:
        origin = getattr(tensor, "qshift_made", None)
        if origin is None or origin.kind not in PICKS:
            return None
        tensor = origin.inputs[0]
        way.append(tensor)
    return way[:-1]
