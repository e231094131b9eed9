"""QNodes of PennyLane's own, as qshift's."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pennylane as qml

from qshift.api.qnode import QNode
from qshift.circuits.pennylane_internals import pipeline, set_pipeline
from qshift.errors import UnsupportedError


def from_qnode(qnode: qml.QNode, **kwargs: Any) -> QNode:
    """Turns a PennyLane QNode of any interface into a `qshift.QNode`.

    Args:
        qnode: The QNode. Its quantum function, device, shots and transforms are kept.
        **kwargs: Settings of the new QNode, as for `qshift.qnode`.

    Raises:
        TypeError: If it is not a QNode.

    Example:
        >>> @qml.qnode(qml.device("default.qubit"))
        ... def circuit(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> energy = qshift.from_qnode(circuit)
        >>> float(energy(tf.constant(0.0, tf.float64)))
        1.0
    """
    if not isinstance(qnode, qml.QNode):
        raise TypeError(
            f"from_qnode takes a PennyLane QNode, got {type(qnode).__name__}. "
            "For a plain quantum function use qshift.qnode(device)(function)."
        )
    if isinstance(qnode, QNode):
        return qnode.update(**kwargs) if kwargs else qnode
    kwargs.setdefault("shots", qnode.shots)
    converted = QNode(qnode.func, qnode.device, **kwargs)
    set_pipeline(converted, copy.copy(pipeline(qnode)))
    return converted


def as_own(fn: Callable) -> Callable:
    """Returns a function, as a `QNode` if it is a QNode of PennyLane's own.

    PennyLane's has no derivatives beyond ``max_diff``, of which it says nothing. Of those used last
    each is converted once, so that its circuits are known and its calls are counted.

    Raises:
        UnsupportedError: For settings that qshift has no meaning for; see `from_qnode`.
    """
    return fn if not isinstance(fn, qml.QNode) or isinstance(fn, QNode) else _converted(fn)


@functools.lru_cache(maxsize=64)
def _converted(qnode: qml.QNode) -> QNode:
    try:
        return from_qnode(qnode)
    except UnsupportedError as error:
        raise UnsupportedError(
            f"{qnode} is a QNode of PennyLane's, and qshift.from_qnode cannot convert it: {error}"
        ) from error
