"""Conversion of PennyLane's own QNodes to qshift's."""

from __future__ import annotations

import copy
import weakref
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


class _Conversion:
    """The conversion of one of PennyLane's QNodes, which has it as an attribute. Copies of that
    QNode take over its attributes, and are converted themselves.

    Args:
        of: The QNode.
        made_of: What it consisted of when it was converted.
        own: The conversion.
    """

    def __init__(self, of: qml.QNode, made_of: tuple, own: QNode) -> None:
        self.of, self.made_of, self.own = weakref.ref(of), made_of, own

    def __reduce__(self) -> Any:
        return dict, ()  # in a copy or pickle there is nothing, which can be read without qshift


def as_own(fn: Callable) -> Callable:
    """Returns a function as it is, or converted to a `QNode` if it is a QNode of PennyLane's own.

    Beyond ``max_diff``, derivatives of PennyLane's QNodes are zero without a warning. A QNode is
    converted once, so that later calls find its circuits and count on, and again if it has changed.

    Raises:
        UnsupportedError: For settings that qshift has no meaning for; see `from_qnode`.
    """
    if not isinstance(fn, qml.QNode) or isinstance(fn, QNode):
        return fn
    made_of = fn.func, fn.device, fn.shots, tuple(pipeline(fn))
    known = vars(fn).get("_qshift_conversion")
    if not known or known.of() is not fn or known.made_of != made_of:
        try:
            known = _Conversion(fn, made_of, from_qnode(fn))
        except UnsupportedError as error:
            raise UnsupportedError(
                f"{fn} is a QNode of PennyLane's, and qshift.from_qnode cannot convert it: {error}"
            ) from error
        vars(fn)["_qshift_conversion"] = known
    return known.own
