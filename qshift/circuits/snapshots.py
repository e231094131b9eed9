"""Copies of PennyLane objects that stay as they are when the user's arrays change."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.measurements import MeasurementProcess
from pennylane.operation import Operator
from scipy import sparse

from qshift.circuits.identity import attributes, fingerprint, is_custom
from qshift.circuits.pennylane_internals import put_data

if TYPE_CHECKING:
    from pennylane.pytrees import PyTreeStructure


def snapshot(value: Any) -> Any:
    """Returns a copy of an object, with copies of all arrays and containers in it.

    Args:
        value: Operators, measurements, arrays, and containers of these; anything else is returned
            as it is.
    """
    if isinstance(value, np.ndarray) or sparse.issparse(value):
        return value.copy()
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(map(snapshot, value))
    if type(value) is dict:
        return {key: snapshot(each) for key, each in value.items()}
    if isinstance(value, Operator | MeasurementProcess) and _is_mutable(value):
        return _of_operator(value)
    return value


def _is_mutable(value: Any) -> bool:
    """Whether an object holds something that a user could change later."""
    if isinstance(value, np.ndarray | list | dict | set) or sparse.issparse(value):
        return True
    if isinstance(value, tuple | frozenset):
        return any(map(_is_mutable, value))
    if not isinstance(value, Operator | MeasurementProcess):
        return False
    leaves, structure = qml.pytrees.flatten(value)
    own = is_custom(type(value)) and any(map(_is_mutable, attributes(value).values()))  # type: ignore[arg-type]
    return own or any(map(_is_mutable, leaves)) or _has_mutable_metadata(structure)


def _has_mutable_metadata(structure: PyTreeStructure) -> bool:
    children = any(map(_has_mutable_metadata, structure.children))
    return children or _is_mutable(structure.metadata)


def _of_operator(value: Any) -> Any:
    leaves, structure = qml.pytrees.flatten(value)
    try:
        copied = qml.pytrees.unflatten([snapshot(leaf) for leaf in leaves], _with_own(structure))
        if fingerprint(copied) == fingerprint(value):
            return copied
    except Exception:  # a user's class may raise anything where it is put together from its leaves
        pass
    copied = copy.copy(value)
    for name in {*getattr(value, "__dict__", {}), *attributes(value)}:
        if name not in ("data", "_abc_impl") and not hasattr(type(value), name):
            setattr(copied, name, snapshot(getattr(value, name)))
    if isinstance(value, Operator):
        put_data(copied, tuple(map(snapshot, value.data)))
    return copied


def _with_own(structure: PyTreeStructure) -> PyTreeStructure:
    if structure.type_ is None:
        return structure
    children = tuple(map(_with_own, structure.children))
    return type(structure)(structure.type_, snapshot(structure.metadata), children)
