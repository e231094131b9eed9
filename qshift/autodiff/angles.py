"""Which angles of a circuit are the same number, and how they follow from given tensors.

Two angles are taken for multiples of one another only if they must be: if both are computed within
the same call by the same pure ops from the same tensor, and every tape that follows an op's input
recorded the op itself. Then they agree in value and in all derivatives. Ops with the same names do
not suffice: a variable may have been assigned to between two reads, and a `tf.custom_gradient` has
the ops of its forward pass only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.autodiff.dataflow import name_of
from qshift.autodiff.op_kinds import DIFFERENTIABLE, ENTRIES, FUNCTIONS, PICKS, is_linear
from qshift.autodiff.remembered_ops import Made, made, scope, tapes
from qshift.tensorflow_internals import (
    EagerTensor,
    following,
    has_other_gradient,
    has_state,
    is_watched,
    was_told_to_watch,
)
from qshift.tensors import constant

_LONGEST = 32  # ops in a row that one name tells of

Angle = tuple[Hashable, float]


def picks(named: Sequence[Angle], ends: Sequence[tf.Tensor]) -> list[Hashable | None]:
    """Returns for each of `Angles.named` how it is picked out of one of `ends`, and the constant
    factor.

    The same entry of another tensor of the same shape and dtype is picked in the same way. The
    result is None where an angle is not known to be such a multiple of one entry.
    """
    places = {name_of(each): i for i, each in enumerate(ends)}

    def way(name: Any) -> Any:
        if name in places:
            return places[name]
        if not isinstance(name, tuple) or name[0] not in PICKS:
            return None
        kind, index, settings, (inner, factor), *others = name
        before = way(inner)
        return None if before is None else (kind, index, settings, (before, factor), *others)

    found = ((way(name), factor) for name, factor in named)
    return [None if each[0] is None else each for each in found]


def entries(tensors: Sequence[Any], ends: Sequence[tf.Tensor]) -> tuple[Hashable, ...] | None:
    """Returns which entries of `ends` eager tensors are, as long as nothing more is to be known of
    the tensors than that.

    Returns:
        For each tensor the position of an end and which of its entries; or for a constant the place
        of the first tensor that is the same object. None if there are other tensors, or others than
        the tapes that follow an end follow an entry of it.
    """
    places = {id(end): i for i, end in enumerate(ends) if following([end])}
    constants: dict[int, int] = {}
    found: list[Hashable] = []
    now, present = tapes(), scope()
    for k, tensor in enumerate(tensors):
        origin = getattr(tensor, "qshift_made", None)
        if origin is not None and origin.scope is present and origin.kind == ENTRIES:
            (base,) = origin.inputs
            place = places.get(id(base))
            # The tapes that follow the end now, and no others, follow the entry, if none has begun
            # or ended since the entry was made, or was told to watch one of the two.
            changed = origin.tapes != now or was_told_to_watch(base) > origin.watches
            if place is not None and not changed and not was_told_to_watch(tensor):
                found.append((place, origin.settings))
                continue
        if not isinstance(tensor, EagerTensor) or not tensor.dtype.is_floating:
            return None
        if following([tensor]):
            return None
        found.append(constants.setdefault(id(tensor), k))
    return tuple(found)


LINEARLY, SMOOTHLY = 1, 2  # how a tensor follows from another; 0 stands for not at all


def follows(tensors: Sequence[tf.Tensor], ends: Sequence[tf.Tensor]) -> list[int | None]:
    """Returns how eager tensors follow from `ends`, for certain, by the ops that tapes recorded.

    Returns:
        For each tensor 0 if it does not follow from them, else `LINEARLY` (plus a constant) or
        `SMOOTHLY`; None where that is not known, as after a `tf.custom_gradient`, whose gradient
        may be any function of the cotangent.
    """
    known: dict[int, int | None] = {id(end): LINEARLY for end in ends}

    def inputs(tensor: tf.Tensor) -> tuple[tf.Tensor, ...]:
        origin = made(tensor)
        return () if origin is None else origin.inputs

    def of(tensor: tf.Tensor) -> int | None:
        if not tf.is_tensor(tensor) or not is_watched(tensor):
            return 0
        origin = made(tensor)
        if origin is None or not origin.recorded:
            return None
        ways: list[Any] = [known[id(x)] for x in origin.inputs]
        if not any(ways) or None in ways:
            return None
        if is_linear(origin.kind, list(map(bool, ways))):
            return max(ways)
        return SMOOTHLY if origin.kind in DIFFERENTIABLE else None

    for tensor in tensors:
        ahead = [tensor]
        while ahead:
            later = [] if id(ahead[-1]) in known else inputs(ahead[-1])
            later = [x for x in later if id(x) not in known]
            if later:
                ahead += later
                continue
            last = ahead.pop()
            if id(last) not in known:
                known[id(last)] = of(last)
    return [known[id(tensor)] for tensor in tensors]


def _knows_own_gradient(origin: Made, op: tf.Operation, tensor: tf.Tensor) -> bool:
    """Whether tapes that follow a tensor of a graph know the op's own derivative of it."""
    return not has_other_gradient(op) and (origin.recorded or not is_watched(tensor))


class Step(NamedTuple):
    """How a tensor is computed from one other tensor, by one op.

    Attributes:
        other: The other tensor.
        times, over: The constants that it is multiplied and divided by, if the op is a product or
            quotient.
        label: For other ops: the op, the position of the tensor among its outputs, its settings.
        constants: The numbers in the op's other inputs.
        scales: Whether a multiple of the other tensor gives the same multiple.
    """

    other: tf.Tensor
    times: float = 1.0
    over: float = 1.0
    label: tuple[Hashable, ...] | None = None
    constants: tuple[Hashable, ...] = ()
    scales: bool = False


class Angles:
    """Gives names to the tensors of one call: they contain ids, which change later.

    Attributes:
        steps: How the tensors that were named, and those on the way to them, are computed from
            others, by `key`. Tapes that follow a tensor follow the other one of its step, and find
            the same derivatives by way of it.
        key: Identifies a tensor: `name_of`, in eager mode `id`.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Angle, int]] = {}  # with the number of ops it tells of
        self.steps: dict[Hashable, Step] = {}
        self.key: Callable[[tf.Tensor], Hashable] = id if tf.executing_eagerly() else name_of
        self._writes: dict[int, dict[str, int]] = {}
        self._scope, self._tapes = scope(), tapes()

    def named(self, tensors: Sequence[tf.Tensor | tf.Variable]) -> list[Angle]:
        """Returns for each tensor the name of an angle, and the factor from that angle to the
        tensor.

        Tensors of the same name are multiples of one another. In eager mode, a tensor that no tape
        follows is a constant.
        """
        return [
            self._named(tensor) if isinstance(tensor, tf.Tensor) else (id(tensor), 1.0)
            for tensor in tensors
        ]

    def _named(self, tensor: tf.Tensor) -> Angle:
        """Goes back from a tensor to where its name begins, and forward again to its own."""
        way: list[tuple[Hashable, Step]] = []
        name = self.key(tensor)
        while (
            name not in self._known
            and (tensor.dtype.is_floating or tensor.dtype.is_complex)
            and (step := self._last_step(tensor)) is not None
        ):
            way.append((name, step))
            self.steps[name] = step
            tensor = step.other
            name = self.key(tensor)
        angle, length = self._known.setdefault(name, ((name, 1.0), 0))
        for name, step in reversed(way):
            inner, factor = angle
            if step.label is None:
                angle = inner, factor * step.times / step.over
            elif step.scales:
                angle = (*step.label, (inner, 1.0), *step.constants), factor
            else:
                angle = (*step.label, angle, *step.constants), 1.0
            length += 1
            if length == _LONGEST:
                angle, length = (name, 1.0), 0
            self._known[name] = angle, length
        return angle

    def _last_step(self, tensor: tf.Tensor) -> Step | None:
        """Returns how a tensor was made, if that makes it a function of one other.

        Multiples of whole numbers are rounded otherwise, so the tensor has to hold others.
        """
        eager, tapes = isinstance(tensor, EagerTensor), following([tensor])
        if eager and not tapes:
            return None
        origin = getattr(tensor, "qshift_made", None)
        if origin is None or origin.scope is not self._scope or was_told_to_watch(tensor):
            return None
        if any(was_told_to_watch(each) > origin.watches for each in origin.inputs):
            return None  # by a tape that does not know the op
        if not (origin.recorded if eager else _knows_own_gradient(origin, tensor.op, tensor)):
            return None
        kind, inputs = origin.kind, origin.inputs
        if kind == "ReadVariableOp":
            version = origin.version if eager else self._version(tensor.op)
            return Step(inputs[0], label=(kind, version, tapes))
        if kind == "Neg":
            step = Step(inputs[0], -1.0)
        elif kind in ("Mul", "RealDiv"):
            found = _multiple(kind, inputs)
            if found is None:
                return None
            step = found
        elif kind in PICKS or kind in FUNCTIONS:
            constants = _numbers(inputs[1:]) if len(inputs) > 1 else ()
            if constants is None:
                return None
            settings = origin.settings
            try:
                hash(settings)
            except TypeError:  # in graphs these are protocol buffers
                settings = _hashable(settings)
            label = kind, origin.index, settings
            # A cast rounds what it is given.
            step = Step(inputs[0], 1.0, 1.0, label, constants, kind in PICKS and kind != "Cast")
        else:
            return None
        # Tapes that follow one of them only do not differentiate through the op. Two stands for two
        # or more of them.
        same = tapes == following([step.other])
        if not same or tapes > 1 and origin.tapes != self._tapes:
            return None
        return step

    def _version(self, read: tf.Operation) -> int:
        """Returns a number that two reads of a variable in a graph share only if they give the
        same."""
        graph = read.graph
        if id(graph) not in self._writes:
            # Whatever has a state may assign to the variable.
            states = (
                has_state(op) and op.type != "ReadVariableOp" for op in graph.get_operations()
            )
            names = (op.name for op in graph.get_operations())
            counts = itertools.accumulate(states)
            self._writes[id(graph)] = dict(zip(names, counts, strict=True))
        return self._writes[id(graph)][read.name]


def _multiple(kind: str, inputs: Sequence[tf.Tensor]) -> Step | None:
    """Returns a product or quotient as a multiple of one input, if the other is a constant."""
    for moving, other in ((0, 1), (1, 0))[: 2 if kind == "Mul" else 1]:
        c = constant(inputs[other])
        if c is not None and not c.shape and c and not np.iscomplexobj(c):
            factors = (float(c), 1.0) if kind == "Mul" else (1.0, float(c))
            return Step(inputs[moving], *factors)
    return None


def _numbers(inputs: Sequence[tf.Tensor]) -> tuple[Hashable, ...] | None:
    """Returns what identifies the numbers in tensors, if all are constants."""
    # Whole numbers are constants, as far as derivatives go.
    found: list[Any] = [
        x.numpy() if isinstance(x, EagerTensor) and x.dtype.is_integer else constant(x)
        for x in inputs
    ]
    if any(c is None for c in found):
        return None
    return tuple([(c.dtype.str, c.shape, c.tobytes()) for c in found])


def _hashable(setting: Any) -> Any:
    if hasattr(setting, "SerializeToString"):
        return setting.SerializeToString()
    return tuple(map(_hashable, setting)) if isinstance(setting, list | tuple) else setting
