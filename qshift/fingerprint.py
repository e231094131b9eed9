"""Exact identity of PennyLane objects.

`qml.equal` tolerates small differences; what is remembered for one object must not serve another.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.pytrees import PyTreeStructure
from scipy import sparse


def fingerprint(value: Any) -> Hashable:
    """Returns something hashable that is equal for two values only if they are identical.

    Args:
        value: An object that flattening a PennyLane object ends in; anything else it is made of.
    """
    leaves, structure = qml.pytrees.flatten(value)
    return hashable(structure), tuple(map(_leaf, leaves))


def hashable(structure: PyTreeStructure) -> Hashable:
    """Returns the same structure as plain tuples; in PennyLane 0.44 it is not hashable itself."""
    return structure.type_, structure.metadata, tuple(map(hashable, structure.children))


def _leaf(leaf):
    if sparse.issparse(leaf):
        matrix = leaf.tocsr()
        parts = (matrix.data, matrix.indices, matrix.indptr)
        return (matrix.shape, *((a.dtype.str, a.tobytes()) for a in parts))
    if leaf is None or isinstance(leaf, str):
        return leaf
    array = np.asarray(leaf)
    if array.dtype != object:
        return array.shape, array.dtype.str, array.tobytes()
    return leaf if isinstance(leaf, Hashable) else _Same(leaf)


class _Same:
    """Compares by identity, keeping the object alive so that its id is not used again."""

    def __init__(self, value):
        self._value = value

    def __hash__(self):
        return id(self._value)

    def __eq__(self, other):
        return isinstance(other, _Same) and self._value is other._value
