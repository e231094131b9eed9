"""How tensors are made while a quantum function is recorded: written down, and read by NumPy.

While TensorFlow traces, every tensor knows the op it comes from, but not which tapes were following
when it was made. In eager mode it knows neither. `remembered_ops` writes down both.

A gate turns by `x[i]` as a rule, which TensorFlow has an op with a gradient of its own for, and
takes longer than for all else that is done about the gate. So in eager mode the numbers come from
NumPy (`indexed`). Tapes are told that they are entries of x, and `qshift.autodiff.entries` hands
all of them to the circuit at once, so that no tape has to go through them one by one.
"""

from __future__ import annotations

import collections
import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.autodiff.op_kinds import ENTRIES, SMOOTH
from qshift.forks import Lock
from qshift.tensorflow_internals import (
    INDEXED,
    RECORDING,
    EagerTensor,
    add_callback,
    could_record,
    following,
    from_numpy,
    has_state,
    record_operation,
    remove_callback,
    variable_accessed,
    was_told_to_watch,
    watches,
)


@dataclass(eq=False)
class Scope:
    """One block of `remembered_ops`.

    Attributes:
        reads: Of each variable, by the id of its handle, the latest eager read, which tapes there
            were and whether one was told to watch it, and a number that two reads share only if
            they gave the same numbers with the same tapes.
        in_graphs: By the id of each variable that was read in a graph the variable, the latest
            read, and what must not have changed for another one to be the same: see
            `_read_in_graph`.
        harmless: Of each graph, by its id, how many ops were made that change no variable.
    """

    reads: dict[int, tuple[tf.Tensor, tuple, int]] = field(default_factory=dict)
    in_graphs: dict[int, tuple[tf.Variable, tf.Tensor, tuple]] = field(default_factory=dict)
    harmless: collections.Counter[int] = field(default_factory=collections.Counter)


class Made(NamedTuple):
    """How a tensor was made.

    Attributes:
        kind: The op's type.
        inputs: The op's inputs.
        settings: The op's attributes, as TensorFlow hands them to callbacks; of entries that NumPy
            read, their shape and positions.
        index: The position of the tensor among the op's outputs.
        scope: The scope in which the tensor was made.
        recorded: Whether open tapes recorded the op itself; within a `tf.custom_gradient` they do
            not, but are told a gradient afterwards.
        tapes: Stands for the tapes that recorded then, see `tapes`.
        version: For an eager read of a variable, see `Scope.reads`.
        watches: How often tapes had been told to watch something, see `watches`.
    """

    kind: str
    inputs: tuple[tf.Tensor, ...]
    settings: Any
    index: int  # type: ignore[assignment]  # hides a method of tuples
    scope: Scope
    recorded: bool
    tapes: int
    version: int
    watches: int


class _Read(NamedTuple):
    """A tensor that was indexed, its device and shape, and its entries, one after the other."""

    tensor: tf.Tensor
    device: str
    shape: tuple[int, ...]
    numbers: np.ndarray


class _Current(threading.local):
    """What a thread remembers.

    Attributes:
        scope: The innermost one.
        assignments: How often ops of its scopes have assigned.
        tapes: How often tapes and forward accumulators have begun or ended to record, within
            `remembered_ops` blocks of any thread.
        read: What was read within the innermost `indexed`, by id; None outside.
    """

    scope: Scope | None = None
    assignments = 0
    tapes = 0
    read: dict[int, _Read] | None = None


_current = _Current()


@contextmanager
def remembered_ops() -> Iterator[None]:
    """A context in which tensors remember how they were made, for `origins` and `made`."""
    outer, _current.scope = _current.scope, Scope()
    _recording.replace()
    if outer is None:
        add_callback(_remember)
    try:
        yield
    finally:
        _current.scope = outer
        _recording.put_back()
        if outer is None:
            remove_callback(_remember)


def _remember(
    op_type: Any,
    inputs: tuple[tf.Tensor, ...],
    attrs: Sequence[Any],
    outputs: Sequence[tf.Tensor] | None,
    op_name: str | None = None,
    graph: Any = None,
) -> Any:
    """Is told of each op, as other callbacks are, such as `tf.debugging.enable_check_numerics`.
    They may give a graph's op other outputs, which are returned, or None."""
    if outputs is not None:
        _remember_outputs(op_type, inputs, attrs, outputs, graph)
    return None if graph is None else outputs


def _remember_outputs(
    op_type: Any,
    inputs: tuple[tf.Tensor, ...],
    attrs: Sequence[Any],
    outputs: Sequence[tf.Tensor],
    graph: Any,
) -> None:
    scope, kind = _current.scope, tf.compat.as_str(op_type)
    if scope is None:  # an op that TensorFlow runs for itself
        return
    if graph is not None:
        scope.harmless[id(graph)] += kind in SMOOTH or bool(
            outputs and not has_state(outputs[0].op)
        )
        if kind not in SMOOTH:  # the graph knows it
            return
    if not outputs and kind.startswith(("Assign", "Resource")):
        _current.assignments += 1
    recorded, version, tapes = could_record(), 0, _current.tapes
    if graph is None:
        if kind == "ReadVariableOp":
            followed = tapes, was_told_to_watch(inputs[0]), following([outputs[0]])
            latest, before, version = scope.reads.get(id(inputs[0]), (None, (), -1))
            if before != followed or not np.array_equal(latest, outputs[0]):
                version += 1
                scope.reads[id(inputs[0])] = outputs[0], followed, version
        elif kind == "Identity":
            # The last op of each eager `tf.custom_gradient`, which then tells tapes something else.
            recorded = False
    for index, output in enumerate(outputs):
        output.qshift_made = Made(
            kind, inputs, attrs, index, scope, recorded, tapes, version, watches()
        )


# tapes() returns a number. While it stays the same, so do the tapes and forward accumulators that
# record in this thread; it is known within `remembered_ops`.
tapes: Callable[[], int] = functools.partial(getattr, _current, "tapes")
# assignments() returns how often eager ops within `remembered_ops` have assigned to a variable.
assignments: Callable[[], int] = functools.partial(getattr, _current, "assignments")


# scope() returns the present scope. A tensor that was made in another scope counts as given, and
# has no origin, as somebody may differentiate by it.
scope: Callable[[], Scope | None] = functools.partial(getattr, _current, "scope")


def made(tensor: tf.Tensor) -> Made | None:
    """Returns how a tensor was made in the present scope; None if it was not."""
    found = getattr(tensor, "qshift_made", None)
    return found if found is not None and found.scope is _current.scope else None


# Entries of a tensor: of more, the positions take longer than TensorFlow does.
_MOST, _MOST_IN_VARIABLES = 2**14, 2**10


class _Methods:
    """Methods of TensorFlow that are replaced while any thread needs that. Otherwise, what
    TensorFlow does for itself takes no longer than ever.

    Args:
        methods: Classes and names of their methods.
        instead: From a method to what replaces it.
    """

    def __init__(
        self, methods: Sequence[tuple[Any, str]], instead: Callable[[Callable], Callable]
    ) -> None:
        self._methods, self._instead = methods, instead
        self._users, self._lock = 0, Lock()
        self._own: list[Callable] = []  # what others have put there
        self._replaced: list[Callable] = []

    def replace(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            own = [getattr(kind, name) for kind, name in self._methods]
            if own != self._own:
                self._own, self._replaced = own, [self._instead(each) for each in own]
            for (kind, name), replaced in zip(self._methods, self._replaced, strict=True):
                setattr(kind, name, replaced)

    def put_back(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            each = zip(self._methods, self._own, self._replaced, strict=True)
            for (kind, name), own, replaced in each:
                if getattr(kind, name) is replaced:
                    setattr(kind, name, own)


@contextmanager
def indexed() -> Iterator[None]:
    """Within it, eager tensors and variables of this thread are indexed by NumPy, and tensors
    remember how they were made if anything records. In graphs, variables that are indexed are read
    once as long as nothing happens to them."""
    outer, _current.read = _current.read, {}
    _indexing.replace()
    try:
        # With nothing recording, nobody can ask for derivatives of what is run eagerly.
        recorded = could_record() or not tf.executing_eagerly()
        with remembered_ops() if recorded else nullcontext():
            yield
    finally:
        _indexing.put_back()
        _current.read = outer


def _asking(own: Callable) -> Callable:
    @functools.wraps(own)
    def item(tensor: tf.Tensor | tf.Variable, index: Any) -> tf.Tensor:
        known = _current.read
        if known is None:
            return own(tensor, index)
        if not tf.executing_eagerly():
            if not isinstance(tensor, tf.Variable):
                return own(tensor, index)
            result = _by_tensorflow(_read_in_graph(tensor), index)
            result.assign = functools.partial(_assign, tensor, index)
            return result
        # A variable is read anew each time, as tapes may be told to watch it meanwhile, and other
        # threads may assign to it.
        read = known.get(id(tensor)) or _read(tensor)
        if read is None:
            return own(tensor, index)
        if read.tensor is tensor:
            known[id(tensor)] = read
        try:
            if type(index) is int and len(read.shape) == 1:  # nearly always
                settings = _entry(read.shape[0], index)
                result = EagerTensor(read.numbers[index], read.device, None)
            else:
                positions = _positions(read.shape, index)
                settings = positions.shape, tuple(positions.ravel().tolist())
                result = from_numpy(read.numbers[positions])
        except (TypeError, IndexError, ValueError):  # of which TensorFlow may make something
            return own(tensor, index)
        if could_record():
            _record(read.tensor, result, index, settings)
        if read.tensor is not tensor:
            result.assign = functools.partial(_assign, tensor, index)
        return result

    return item


def _read(given: tf.Tensor | tf.Variable) -> _Read | None:
    is_tensor, size = isinstance(given, EagerTensor), given.shape.num_elements()
    if size is None or size > (_MOST if is_tensor else _MOST_IN_VARIABLES):
        return None
    if given.dtype not in (tf.float32, tf.float64):
        return None
    tensor = given if is_tensor else given.value()
    if not isinstance(tensor, EagerTensor) or not (device := tensor.device).endswith("CPU:0"):
        return None
    numbers = tensor.numpy()
    return _Read(tensor, device, numbers.shape, numbers.ravel())


def _read_in_graph(variable: tf.Variable) -> tf.Tensor:
    """Reads a variable in the graph that is being traced, or returns the latest read if nothing has
    happened since that could make another one differ, in its numbers or to a tape."""
    scope, graph = _current.scope, tf.compat.v1.get_default_graph()
    if scope is None:
        return variable.value()
    # TensorFlow does not tell of calls of functions, but counts them as ops of the graph.
    changes = graph.version - scope.harmless[id(graph)]
    now = graph, changes, _current.tapes, watches(), could_record()
    _, found, before = scope.in_graphs.get(id(variable), (None, None, ()))
    if before == now:
        variable_accessed(variable)
        return found
    found = variable.value()
    scope.in_graphs[id(variable)] = variable, found, now
    return found


def _positions(shape: tuple[int, ...], index: Any) -> np.ndarray:
    """Returns which entries of a tensor of some shape an index takes, int[...].

    Raises:
        TypeError: If the index has anything else than integers, slices and an ellipsis in it.
        IndexError, ValueError: If a tensor of this shape has no such entries.
    """
    index = index if type(index) is tuple else (index,)
    if len(index) == len(shape) and all(type(part) is int for part in index) and index:
        return _number(shape, index)
    for part in index:
        limits = (part.start, part.stop, part.step) if type(part) is slice else (part,)
        if not all(limit in (None, Ellipsis) or _is_integer(limit) for limit in limits):
            raise TypeError
    if None in index or not index:
        raise TypeError
    return np.asarray(np.arange(math.prod(shape)).reshape(shape)[index])


@functools.lru_cache(maxsize=2**12)
def _entry(size: int, index: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the settings of an entry of a vector, see `Made`."""
    return (), (range(size)[index],)


@functools.lru_cache(maxsize=2**12)  # of one number each
def _number(shape: tuple[int, ...], index: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.arange(math.prod(shape)).reshape(shape)[index])


def _is_integer(limit: Any) -> bool:
    return isinstance(limit, int | np.integer) and not isinstance(limit, bool)


def _record(base: tf.Tensor, result: tf.Tensor, index: Any, settings: Any) -> None:
    """Tells tapes and `dataflow` that a tensor holds entries of another one."""

    def pulled(cotangent: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            zeros = tf.zeros(base.shape, base.dtype)
            tape.watch(zeros)
            entries = _by_tensorflow(zeros, index)
        return [tape.gradient(entries, zeros, cotangent)]

    record_operation(ENTRIES, [result], [base], pulled, lambda x: [_by_tensorflow(x, index)])
    if current := _current.scope:
        result.qshift_made = Made(
            ENTRIES, (base,), settings, 0, current, True, _current.tapes, 0, watches()
        )


def _by_tensorflow(tensor: tf.Tensor | tf.Variable, index: Any) -> tf.Tensor:
    """Returns tensor[index] as it is elsewhere."""
    inner, _current.read = _current.read, None
    try:
        return tensor[index]
    finally:
        _current.read = inner


def _assign(variable: tf.Variable, index: Any, *args: Any, **options: Any) -> Any:
    """What `variable[index].assign` is elsewhere."""
    return _by_tensorflow(variable, index).assign(*args, **options)


def _counted(own: Callable) -> Callable:
    @functools.wraps(own)
    def begin_or_end(tape: tf.GradientTape | tf.autodiff.ForwardAccumulator) -> None:
        own(tape)
        _current.tapes += 1

    return begin_or_end


_indexing, _recording = _Methods(INDEXED, _asking), _Methods(RECORDING, _counted)
