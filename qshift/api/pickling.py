"""Copies of QNodes, in this process and in others: pickled by name, or as their settings."""

from __future__ import annotations

import copy
import sys
from typing import Any

from qshift.circuits.pennylane_internals import set_pipeline, set_shots


def restored(kind: Any, settings: Any, shots: Any, transforms: Any, calls: Any) -> Any:
    """Makes a QNode from the state of another one, and goes on with its numbers of calls.

    Args:
        kind: The QNode's class.
        settings: The arguments that the QNode was made with.
        shots: Whether the QNode has shots of its own, and its shots.
        transforms: The transforms on top of the QNode.
        calls: The number of the QNode's last call.
    """
    made = kind(**settings)
    overrides, shots = shots
    if overrides or made.shots != shots:
        set_shots(made, shots)
    set_pipeline(made, copy.copy(transforms))
    made.calls.made = calls
    return made


def is_found_by_name(qnode: Any) -> bool:
    """Whether a QNode's module has this QNode under the name of its quantum function."""
    found = sys.modules.get(qnode.__module__)
    for name in getattr(qnode, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is qnode


def reduced(qnode: Any, anywhere: bool = False) -> Any:
    """Returns what `pickle` stores for a QNode: its name where its module has it, as for functions,
    otherwise its state.

    Args:
        qnode: The QNode.
        anywhere: Whether the process that unpickles it may be running another program.
    """
    named = is_found_by_name(qnode) and not (anywhere and qnode.__module__ == "__main__")
    return qnode.__qualname__ if named else (restored, qnode.state())
