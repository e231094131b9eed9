"""Copies of QNodes, in this process and in others: pickled by name, or as what they are made of."""

from __future__ import annotations

import copy
import sys
from typing import Any

from qshift.circuits.pennylane_internals import set_pipeline, set_shots


def restored(kind: Any, settings: Any, shots: Any, transforms: Any, calls: Any) -> Any:
    """Makes a QNode of its state; its next call is numbered as that of the original.

    Args:
        kind: Its class.
        settings: The arguments that it was made with.
        shots: Whether it has shots of its own, and its shots.
        transforms: Those on top of it.
        calls: The number of its last call.
    """
    made = kind(**settings)
    overrides, shots = shots
    if overrides or made.shots != shots:
        set_shots(made, shots)
    set_pipeline(made, copy.copy(transforms))
    made.calls.made = calls
    return made


def is_found_by_name(qnode: Any) -> bool:
    """Whether a QNode is what its module has by its name."""
    found = sys.modules.get(qnode.__module__)
    for name in getattr(qnode, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is qnode


def reduced(qnode: Any, anywhere: bool = False) -> Any:
    """Returns what `pickle` makes a QNode of: its name where its module has it, as for functions,
    otherwise what it is made of.

    Args:
        qnode: The QNode.
        anywhere: Whether the other process may be running another program.
    """
    named = is_found_by_name(qnode) and not (anywhere and qnode.__module__ == "__main__")
    return qnode.__qualname__ if named else (restored, qnode.state())
