"""Gates as quantum functions make them: with the numbers of variables, and most of them as copies.

A quantum function makes its gates anew in every call. PennyLane takes up to 30 microseconds for
one, above all to find out once more that its wires are in order. So while a quantum function of
qshift's is recorded, an ordinary gate is a copy of one that PennyLane has made on the same wires.
"""

from __future__ import annotations

import functools
import operator
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operation, Operator
from pennylane.ops import LinearCombination
from pennylane.queuing import AnnotatedQueue, QueuingManager, WrappedObj
from pennylane.wires import Wires

from qshift.circuits.pennylane_internals import put_data
from qshift.errors import UnsupportedError
from qshift.tensors import common_dtype, stacked

# Gates that are told nothing but parameters, which they keep as they are, and wires.
_FIXED: tuple[Any, ...] = (
    qml.X,
    qml.Y,
    qml.Z,
    qml.Hadamard,
    qml.S,
    qml.T,
    qml.SX,
    qml.SWAP,
    qml.ISWAP,
)
CONTROLLED = (qml.CNOT, qml.CZ, qml.CY, qml.CH, qml.CSWAP, qml.Toffoli, qml.CCZ)
_TURNING: tuple[Any, ...] = (qml.RX, qml.RY, qml.RZ, qml.PhaseShift, qml.Rot)
_TURNING += (qml.IsingXX, qml.IsingYY, qml.IsingZZ)
# Each of them, and how many parameters it has.
COPIED: dict[Any, int] = {kind: kind.num_params for kind in _FIXED + CONTROLLED + _TURNING}
# What of a class has a part in making a gate, and may be replaced, by a test for example.
_parts = operator.attrgetter("__init__", "__new__", "queue", "grad_recipe")
_PARTS = {kind: _parts(kind) for kind in COPIED}
_MAKE = Operator.__init__, Operation.__init__


class _Own(threading.local):
    """How many calls of `recorded` a thread is running."""

    depth = 0


_own = _Own()


def with_arguments_read(make: Callable) -> Callable:
    """Lets PennyLane's operators read variables and lists of tensors when they are made, and makes
    ordinary gates itself.

    An operator that holds a variable, as a parameter or an exponent, would be run with a value that
    is assigned later. A list of tensors would become a NumPy array, which has no derivatives.

    Args:
        make: A function that makes an object of a class, given its arguments.
    """

    @functools.wraps(make)
    def made(cls: type, *args: Any, **kwargs: Any) -> Any:
        if not _own.depth:
            return make(cls, *args, **kwargs)
        # Without `:=`, which AutoGraph does not know.
        count, template = COPIED.get(cls), None
        if count is not None:
            given = (*args, *kwargs.values()) if kwargs.keys() <= {"wires"} else ()
            *data, wires = given or (None,)
            labels = (
                (wires,) if type(wires) is int else tuple(wires) if type(wires) in _MANY else ()
            )
            if (
                len(data) == count
                and len(labels) == cls.num_wires  # type: ignore[attr-defined]
                and _LABELS.issuperset(map(type, labels))
                and all(map(_is_kept, map(type, data)))
                and not qml.capture.enabled()
                and _parts(cls) == _PARTS[cls]
                and (Operator.__init__, Operation.__init__) == _MAKE
            ):
                template = _template(make, cls, labels)
            if template is not None:
                gate = template.copy()
                if data:
                    gate.data = tuple(data)
                queue = QueuingManager.active_context()
                if type(queue) is _Gates:
                    OrderedDict.__setitem__(queue, WrappedObj(gate), {})
                elif queue is not None:
                    queue.append(gate)
                return gate
        if issubclass(cls, Operator):
            args = tuple([_read(x, cls) if _is_read(type(x)) else x for x in args])  # type: ignore[arg-type]
            for name, x in kwargs.items():
                if _is_read(type(x)) and name != "wires":  # type: ignore[arg-type]
                    kwargs[name] = _read(x, cls)
        return make(cls, *args, **kwargs)

    return made


_MANY = (list, tuple, Wires)
_LABELS = {int, str}  # the classes of wires that are the same if they are equal
_SHARED = {Wires, str, int, float, bool, type(None)}  # the classes of what copies have in common


@functools.lru_cache(maxsize=1024)
def _is_kept(kind: Any) -> bool:
    """Whether gates keep a parameter of a class as it is."""
    return not issubclass(kind, list | tuple) and not _is_variable_class(kind)


class _Template(NamedTuple):
    """A gate, or a dictionary that a gate has, of which copies are made.

    Attributes:
        kind: The gate's class; None for a dictionary.
        shared: The attributes or entries that copies have in common.
        own: The names of the others, each with a function that makes a copy's own.
    """

    kind: Any
    shared: dict[str, Any]
    own: list[tuple[str, Callable[[], Any]]]

    def copy(self) -> Any:
        """Returns a copy."""
        parts = self.shared.copy()
        for name, make in self.own:
            parts[name] = make()
        if self.kind is None:
            return parts
        gate = object.__new__(self.kind)
        gate.__dict__ = parts
        return gate


@functools.lru_cache(maxsize=2**11)
def _template(make: Callable, kind: Any, labels: tuple[int | str, ...]) -> _Template | None:
    """Returns the template of gates on some wires; None where PennyLane has to make each of them:
    if wires repeat, or the gates have an attribute that is not known to be copied."""
    if len(set(labels)) < len(labels):
        return None
    with QueuingManager.stop_recording():
        gate = make(kind, *[0.0] * COPIED[kind], wires=labels)
    return _template_of(kind, vars(gate))


def _template_of(kind: Any, parts: dict[str, Any]) -> _Template | None:
    shared, own = {}, []
    for name, each in parts.items():
        if _is_shared(each):
            shared[name] = each
        elif make := _copies(each):
            own.append((name, make))
        else:
            return None
    return _Template(kind, shared, own)


def _copies(value: Any) -> Callable[[], Any] | None:
    """Returns a function that makes copies of a value; None if it is not known how."""
    if type(value) is list:
        return value.copy if all(map(_is_shared, value)) else None
    found = None
    if type(value) is dict:
        found = _template_of(None, value)
    elif type(value) in COPIED:
        found = _template_of(type(value), vars(value))
    return found and found.copy


def _is_shared(value: Any) -> bool:
    return type(value) in _SHARED or type(value) is tuple and all(map(_is_shared, value))


@functools.lru_cache(maxsize=1024)
def _is_read(kind: type) -> bool:
    """Whether arguments of a class are read: variables, and lists, which may hold tensors."""
    return kind in (list, tuple) or _is_variable_class(kind)


def _read(argument: Any, cls: type) -> Any:
    if not _is_read(type(argument)):  # type: ignore[arg-type]
        return argument
    if _is_variable(argument):
        return tf.convert_to_tensor(argument)
    leaves = _leaves(argument)
    if not any(map(_is_moving, leaves)):
        return argument
    known = all(hasattr(leaf, "numpy") or not tf.is_tensor(leaf) for leaf in leaves)
    if issubclass(cls, LinearCombination) and known:  # it takes its coefficients one by one
        return type(argument)(_read(each, cls) for each in argument)
    try:
        return stacked(argument, common_dtype(leaves))
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise UnsupportedError(
            f"{cls.__name__} was given a list of tensors that do not make one tensor ({error}). "
            "Stack or concatenate them yourself: tf.stack, tf.concat."
        ) from error


def _leaves(nest: Any) -> list:
    if type(nest) in (list, tuple):
        return [leaf for each in nest for leaf in _leaves(each)]
    return [nest]


def _is_moving(leaf: Any) -> bool:
    dtype = tf.as_dtype(leaf.dtype) if _is_tensor(leaf) else tf.bool
    return dtype.is_floating or dtype.is_complex


def _is_tensor(leaf: Any) -> bool:
    return tf.is_tensor(leaf) or _is_variable(leaf)


class _Gates(AnnotatedQueue):
    """Records gates with the numbers that variables have when the gates are made."""

    def append(self, obj: Any, **kwargs: Any) -> None:
        op = getattr(obj, "obj", obj)
        observable = getattr(op, "obs", None)
        op = op if observable is None else observable
        data = getattr(op, "data", ())
        if any(_is_variable_class(type(x)) for x in data):  # type: ignore[arg-type]
            put_data(op, [tf.convert_to_tensor(x) if _is_variable(x) else x for x in data])
        super().append(obj, **kwargs)


def _is_variable(parameter: Any) -> bool:
    return _is_variable_class(type(parameter))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1024)
def _is_variable_class(kind: type) -> bool:
    if issubclass(kind, tf.Tensor):
        return False
    # Keras's variables are none of TensorFlow's.
    return issubclass(kind, tf.Variable) or hasattr(kind, "__tf_tensor__")


def recorded(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Calls a quantum function within a recording that is empty. Its gates read variables when they
    are made: a gate that holds a variable would be run with a value that is assigned later."""
    queue = QueuingManager.active_context()
    if queue is not None:
        queue.__class__ = _Gates
    _own.depth += 1
    try:
        return function(*args, **kwargs)
    finally:
        _own.depth -= 1
