"""Support of `qml.math` for TensorFlow's tensors, where PennyLane has none: it is announced to end.

Without this support, `qml.math` silently turns tensors beside other values into NumPy arrays, which
have no derivatives. This module adds each function only if PennyLane has none of its own; `ADDED`
has the names of those that were added. Importing the module changes PennyLane, in the whole
process; `pennylane_changes_internals` imports it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import autoray
import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane import typing

from qshift.tensorflow_internals import is_watched
from qshift.tensors import is_tensor


def known_interface(name: str) -> str:
    """Returns the name of an interface, or "auto" if PennyLane no longer knows it."""
    return name if name in {each.value for each in qml.math.Interface} else "auto"


def _has_tensors(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(map(_has_tensors, argument))
    return is_tensor(argument)


# --- functions that autoray looks up for TensorFlow ---

_INTEGERS = (tf.int32, tf.int64)


def _round(tensor: Any, decimals: int = 0) -> tf.Tensor:
    return tf.round(tensor * 10**decimals) / 10**decimals


def _sqrt(tensor: Any) -> tf.Tensor:
    return tf.sqrt(tf.cast(tensor, tf.float64) if tensor.dtype in _INTEGERS else tensor)


def _block_diagonal(blocks: Sequence[Any]) -> tf.Tensor:
    widths = [block.shape[1] for block in blocks]
    rows = []
    for i, block in enumerate(blocks):
        around = [[0, 0], [sum(widths[:i]), sum(widths[i + 1 :])]]
        rows.append(tf.pad(block, around))
    return tf.concat(rows, 0)


def _scatter(indices: Any, values: Any, shape: Any) -> tf.Tensor:
    return tf.scatter_nd(np.expand_dims(indices, 1), values, shape)


def _scatter_element_add(tensor: Any, index: Any, value: Any, **_: Any) -> tf.Tensor:
    if not isinstance(index[0], int):
        index = tuple(zip(*index, strict=True))
    values = tf.cast(tf.expand_dims(value, 0), tensor.dtype)
    return tf.tensor_scatter_nd_add(tensor, tf.expand_dims(index, 0), values)


def _cond(condition: Any, if_true: Callable, if_false: Callable, args: Iterable[Any]) -> Any:
    return tf.cond(condition, lambda: if_true(*args), lambda: if_false(*args))


def _asarray(values: Any, requires_grad: bool = False, **options: Any) -> Any:
    if is_tensor(values) and "dtype" in options:
        found = tf.cast(values, **options)
    else:
        found = tf.convert_to_tensor(values, **options)
    return tf.Variable(found) if requires_grad else found


def _fft(name: str) -> Callable:
    def transformed(tensor: Any, **options: Any) -> tf.Tensor:
        if options:
            raise ValueError(f"TensorFlow's {name} takes no {', '.join(options)}.")
        if not tensor.dtype.is_complex:
            single = tensor.dtype != tf.float64
            tensor = tf.cast(tensor, tf.complex64 if single else tf.complex128)
        return getattr(tf.signal, name)(tensor)

    return transformed


# Functions that autoray does not find in TensorFlow.
_MISSING: dict[str, Callable] = {
    "cond": _cond,
    "eigvalsh": lambda matrix: tf.math.real(tf.linalg.eigvalsh(matrix)),
    "entr": lambda p: -tf.reduce_sum(p * tf.math.log(p), axis=-1),
    "fft.fft": _fft("fft"),
    "fft.fft2": _fft("fft2d"),
    "fft.ifft": _fft("ifft"),
    "fft.ifft2": _fft("ifft2d"),
    "gather": tf.gather,
    "scatter": _scatter,
    "unstack": tf.unstack,
}

# Functions that replace those that autoray finds, as these have no derivative, fail, or return
# another type, such as TensorFlow's shapes.
_DIFFERENT: dict[str, Callable] = {
    "asarray": _asarray,
    "block_diag": _block_diagonal,
    "isnan": lambda x: tf.math.is_nan(tf.math.real(x)) | tf.math.is_nan(tf.math.imag(x)),
    "ndim": lambda tensor: len(tensor.shape),
    "round": _round,
    "scatter_element_add": _scatter_element_add,
    "shape": lambda tensor: tuple(tensor.shape),
    "sqrt": _sqrt,
    "where": lambda *args, **options: tf.where(*args, **options),
}


def _registered() -> Iterator[str]:
    """Registers the functions with autoray that PennyLane has not registered; yields the names."""
    for name, function in {**_MISSING, **_DIFFERENT}.items():
        try:
            found = autoray.get_lib_fn("tensorflow", name)
        except (AttributeError, ImportError):
            found = None
        module = getattr(found, "__module__", None) or ""
        if found is None or name in _DIFFERENT and not module.startswith("pennylane."):
            autoray.register_function("tensorflow", name, function)
            yield name


# --- functions of qml.math ---


def _finding_tensors(asked: Callable) -> Callable:
    """Returns a `get_interface` that is "tensorflow" also for tensors beside arrays and numbers."""

    def get_interface(*values: Any) -> str:
        if len(values) < 2 or not any(map(is_tensor, values)):
            return asked(*values)
        others = [value for value in values if not is_tensor(value)]
        if others and asked(*others) not in ("numpy", "scipy", "autograd", "tensorflow"):
            raise ValueError("Tensors contain mixed types; cannot determine dispatch library")
        return "tensorflow"

    return get_interface


def _looking_at_tapes(asked: Callable) -> Callable:
    """Returns a function that says of a tensor whether a tape watches it."""

    def is_differentiated(tensor: Any, interface: str | None = None) -> bool:
        if interface in (None, "tensorflow") and _is_tensorflows(tensor, interface):
            return is_watched(tf.convert_to_tensor(tensor))
        return asked(tensor, interface=interface)

    return is_differentiated


def _is_tensorflows(tensor: Any, interface: str | None) -> bool:
    return (interface or qml.math.get_interface(tensor)) == "tensorflow"


def _knowing_graphs(asked: Callable) -> Callable:
    """Returns an `is_abstract` that is True for tensors of a graph."""

    def is_abstract(tensor: Any, like: str | None = None) -> bool:
        if _is_tensorflows(tensor, like):
            return not hasattr(tf.convert_to_tensor(tensor), "numpy")
        return asked(tensor, like)

    return is_abstract


def _by(function: Callable) -> Callable[[Callable], Callable]:
    """Returns a decorator for functions of `qml.math`: if there are tensors among the arguments,
    `function` is called instead."""

    def made(asked: Callable) -> Callable:
        def called(*args: Any, **kwargs: Any) -> Any:
            like = kwargs.get("like")
            if like == "tensorflow" or like is None and any(map(_has_tensors, args)):
                kwargs.pop("like", None)
                return function(*args, **kwargs)
            return asked(*args, **kwargs)

        return called

    return made


def _singular(tensor: Any, **options: Any) -> Any:
    if not options.get("compute_uv", True):
        return tf.linalg.svd(tensor, **options)
    values, left, right = tf.linalg.svd(tensor, **options)
    return left, values, tf.linalg.adjoint(right)


def _set_index(array: Any, index: int, value: Any) -> tf.Tensor:
    array, value = autoray.do("coerce", [array, value], like="tensorflow")
    return tf.concat([array[:index], value[None], array[index + 1 :]], 0)


def _replace(old: Any, new: Any) -> None:
    """Replaces an object by another one in all of PennyLane's modules."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "pennylane":
            for key in [key for key, value in vars(module).items() if value is old]:
                setattr(module, key, new)


class _Substitute(NamedTuple):
    """A function of `qml.math` by name, a check of whether it knows tensors, and a function that
    returns its substitute if it does not."""

    name: str
    knows_tensors: Callable[[], Any]
    of: Callable[[Callable], Callable]


# The tensors of these checks. They are in a graph of their own, because this module may be imported
# while a function is traced, and must not start TensorFlow's threads, which a fork would lack.
_GRAPH = tf.Graph()
with _GRAPH.as_default():
    _TENSOR: tf.Tensor = tf.constant([0.5, 0.25], tf.float64)
    _MATRIX: tf.Tensor = tf.eye(2, dtype=tf.float64)

# `get_interface` comes first, as the other functions call it.
_SUBSTITUTES = (
    _Substitute(
        "get_interface",
        lambda: qml.math.get_interface(0.5, _TENSOR) == "tensorflow",
        _finding_tensors,
    ),
    _Substitute("requires_grad", lambda: _if_watched(qml.math.requires_grad), _looking_at_tapes),
    _Substitute("in_backprop", lambda: _if_watched(qml.math.in_backprop), _looking_at_tapes),
    _Substitute("is_abstract", lambda: qml.math.is_abstract(_TENSOR), _knowing_graphs),
    _Substitute("detach", lambda: not _if_watched(_detached_is_watched), _by(tf.stop_gradient)),
    # `expm` is not called, as that would start TensorFlow's threads: its code is searched instead.
    _Substitute(
        "expm", lambda: "tensorflow" in _code(qml.math.expm).co_consts, _by(tf.linalg.expm)
    ),
    _Substitute("norm", lambda: is_tensor(qml.math.norm(_TENSOR)), _by(tf.norm)),
    _Substitute("svd", lambda: is_tensor(qml.math.svd(_MATRIX)[0]), _by(_singular)),
    _Substitute("set_index", lambda: qml.math.set_index(_TENSOR, 0, _TENSOR[1]), _by(_set_index)),
)


def _if_watched(check: Callable) -> bool:
    with tf.GradientTape() as tape:
        tape.watch(_TENSOR)
        return check(_TENSOR)


def _code(function: Callable) -> Any:
    return inspect.unwrap(function).__code__


def _detached_is_watched(tensor: Any) -> bool:
    return is_watched(qml.math.detach(tensor))


def _substituted() -> Iterator[str]:
    """Replaces the functions that do not know tensors; yields their names."""
    for name, knows_tensors, of in _SUBSTITUTES:
        try:
            known = knows_tensors() is not False
        except Exception:  # PennyLane may raise any error for a type that it does not know
            known = False
        if not known:
            old = getattr(qml.math, name)
            _replace(old, functools.wraps(old)(of(old)))
            yield name


# --- classes that count as tensors ---


def _and_tensors(check: Callable, of: Callable) -> Callable:
    """Returns an `__instancecheck__` or `__subclasscheck__` that is True for TensorFlow's tensors
    as well."""

    @functools.wraps(check)
    def checked(cls: type, other: Any) -> bool:
        return check(cls, other) or of(other, (tf.Tensor, tf.Variable))

    return checked


def _counted() -> Iterator[str]:
    """Makes TensorFlow's tensors instances of `TensorLike`, which operators and `*` check; yields
    the name if that was needed."""
    if not isinstance(_TENSOR, typing.TensorLike):
        kind: Any = type(typing.InterfaceTensor)
        kind.__instancecheck__ = _and_tensors(kind.__instancecheck__, isinstance)
        kind.__subclasscheck__ = _and_tensors(kind.__subclasscheck__, issubclass)
        yield "TensorLike"


# The names of all functions and classes that were added.
with _GRAPH.as_default():
    ADDED = (*_registered(), *_substituted(), *_counted())
