"""Ops of one execution that share a batch: those with the same ticket and the same angles.

The first that a compiled function runs evaluates for the others, too. Which these are is known once
the function is traced: those that its results, or what it assigns or prints, are computed from.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from qshift.autodiff.node import Node

# Graph -> names of the ticket and the angles' tensors -> name of an op -> its node and inputs.
_siblings: weakref.WeakKeyDictionary[tf.Graph, dict] = weakref.WeakKeyDictionary()
_used: weakref.WeakKeyDictionary[tf.Graph, set[str]] = weakref.WeakKeyDictionary()


def register(graph: tf.Graph, key: tuple, name: str, node: Node, inputs: tuple[str, ...]) -> None:
    """Adds an op to those of a graph.

    Args:
        graph: The graph.
        key: Names of the ticket and of the tensors that the circuit's angles are in.
        name: Of the op.
        node: What it runs.
        inputs: Names of all its inputs.
    """
    _siblings.setdefault(graph, {}).setdefault(key, {})[name] = node, inputs


def siblings(graph: tf.Graph | None, name: str, key: tuple) -> list[tuple[Node, bool]]:
    """Returns the nodes that every execution of a traced graph runs at the same angles, and
    whether all their inputs are the same.

    Most ops of a traced gradient lead nowhere, as TensorFlow traces gradients by everything.
    """
    if graph is None or not hasattr(graph, "outputs"):
        return []
    if graph not in _used:
        used: set[str] = set()
        ahead = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
        while ahead:
            op = ahead.pop()
            if op.name not in used:
                used.add(op.name)
                ahead += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
        _used[graph] = used
    if name not in _used[graph]:
        return []  # run as a copy that TensorFlow made
    found = _siblings[graph][key]
    _, inputs = found[name]
    return [
        (node, its_inputs == inputs)
        for other, (node, its_inputs) in found.items()
        if other != name and other in _used[graph]
    ]
