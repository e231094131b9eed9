"""What `qml.math` does with TensorFlow's tensors, where PennyLane itself does not: its support for
TensorFlow is announced to end.

Without it, `qml.math` takes tensors beside anything else for NumPy's: it makes arrays of them, by
which there is no derivative, and nobody says so. What is found here is put in PennyLane's place one
by one, and each only where PennyLane has nothing of its own; `ADDED` has the names. To import this
module is to change PennyLane, in the whole process. `pennylane_internals` does so.
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
    """Returns the name of an interface, or that of none if PennyLane knows it no longer."""
    return name if name in {each.value for each in qml.math.Interface} else "auto"


def _has_tensors(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(map(_has_tensors, argument))
    return is_tensor(argument)


# --- what autoray looks up for TensorFlow ---

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


# Where autoray finds nothing in TensorFlow.
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

# Where what it finds has no derivative, or fails, or is of another kind, as TensorFlow's shapes and
# its NumPy's `where` are.
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
    """Tells autoray what PennyLane has not told it; yields the names."""
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
    """Finds TensorFlow's interface also where tensors are beside arrays and numbers."""

    def get_interface(*values: Any) -> str:
        if len(values) < 2 or not any(map(is_tensor, values)):
            return asked(*values)
        others = [value for value in values if not is_tensor(value)]
        if others and asked(*others) not in ("numpy", "scipy", "autograd", "tensorflow"):
            raise ValueError("Tensors contain mixed types; cannot determine dispatch library")
        return "tensorflow"

    return get_interface


def _looking_at_tapes(asked: Callable) -> Callable:
    """Takes a tensor for one to differentiate by if a tape watches it."""

    def is_differentiated(tensor: Any, interface: str | None = None) -> bool:
        if interface in (None, "tensorflow") and _is_tensorflows(tensor, interface):
            return is_watched(tf.convert_to_tensor(tensor))
        return asked(tensor, interface=interface)

    return is_differentiated


def _is_tensorflows(tensor: Any, interface: str | None) -> bool:
    return (interface or qml.math.get_interface(tensor)) == "tensorflow"


def _knowing_graphs(asked: Callable) -> Callable:
    """Takes tensors of a graph for what has no value yet."""

    def is_abstract(tensor: Any, like: str | None = None) -> bool:
        if _is_tensorflows(tensor, like):
            return not hasattr(tf.convert_to_tensor(tensor), "numpy")
        return asked(tensor, like)

    return is_abstract


def _by(function: Callable) -> Callable[[Callable], Callable]:
    """Has tensors, wherever among the arguments, go to another function."""

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
    """Puts something in place of something else, wherever PennyLane's modules have it."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "pennylane":
            for key in [key for key, value in vars(module).items() if value is old]:
                setattr(module, key, new)


class _Substitute(NamedTuple):
    """A function of `qml.math`, what it must be true of, and what to make of it otherwise."""

    name: str
    knows_tensors: Callable[[], Any]
    of: Callable[[Callable], Callable]


# What they are asked about. It is in a graph of its own, as this module may be imported while a
# function is traced, and must not start TensorFlow's threads, which a fork would lack.
_GRAPH = tf.Graph()
with _GRAPH.as_default():
    _TENSOR: tf.Tensor = tf.constant([0.5, 0.25], tf.float64)
    _MATRIX: tf.Tensor = tf.eye(2, dtype=tf.float64)

# `get_interface` first: the others ask it.
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
    # To call it would start TensorFlow's threads, so it is looked at.
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
    """Puts functions in place of those that do not know tensors; yields their names."""
    for name, knows_tensors, of in _SUBSTITUTES:
        try:
            known = knows_tensors() is not False
        except Exception:  # whatever PennyLane raises for what it does not know
            known = False
        if not known:
            old = getattr(qml.math, name)
            _replace(old, functools.wraps(old)(of(old)))
            yield name


# --- what counts as a tensor ---


def _and_tensors(check: Callable, of: Callable) -> Callable:
    """Returns a check of a metaclass that TensorFlow's tensors pass, too."""

    @functools.wraps(check)
    def checked(cls: type, other: Any) -> bool:
        return check(cls, other) or of(other, (tf.Tensor, tf.Variable))

    return checked


def _counted() -> Iterator[str]:
    """Has `TensorLike` count TensorFlow's tensors, of which operators and `*` ask it."""
    if not isinstance(_TENSOR, typing.TensorLike):
        kind: Any = type(typing.InterfaceTensor)
        kind.__instancecheck__ = _and_tensors(kind.__instancecheck__, isinstance)
        kind.__subclasscheck__ = _and_tensors(kind.__subclasscheck__, issubclass)
        yield "TensorLike"


# The names of all that PennyLane did not do itself.
with _GRAPH.as_default():
    ADDED = (*_registered(), *_substituted(), *_counted())
