"""Ops of one execution that share a batch: those with the same ticket and the same angles.

The first of these ops that a compiled function runs evaluates the derivatives of all. Which ops a
function will run is known once it is traced: those that its results, and what it assigns or prints,
are computed from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from qshift.tensorflow_internals import always_run

if TYPE_CHECKING:
    import tensorflow as tf

    from qshift.autodiff.node import Node


class InGraph(Protocol):
    """What an op of a graph calls.

    Attributes:
        node: What the op runs.
        name: Of the op; TensorFlow's copies of it have other names.
        key: Names of the ticket and of the tensors that the circuit's angles are in.
        inputs: Names of all inputs of the op.
    """

    node: Node
    name: str
    key: tuple[str, ...]
    inputs: tuple[str, ...]


def siblings(
    graph: Any, call: InGraph, calls: Callable[[tf.Operation], InGraph | None]
) -> list[tuple[Node, bool]]:
    """Returns the nodes that every execution of a traced graph runs at the same angles as an op,
    and whether all their inputs are the same.

    Most ops of a traced gradient lead nowhere, as TensorFlow traces gradients by everything.

    Args:
        graph: The graph in which the op was made; None if it is gone.
        call: What the op calls.
        calls: Says of an op what it calls, if that is a node.
    """
    if graph is None or not hasattr(graph, "outputs"):
        return []
    if not hasattr(graph, "qshift_calls"):  # by name; the graph has been traced, so it stays so
        found = ((op.name, calls(op)) for op in always_run(graph))
        graph.qshift_calls = {name: each for name, each in found if each and each.name == name}
    together = graph.qshift_calls
    if together.get(call.name) is not call:
        return []  # run as a copy that TensorFlow made
    return [
        (other.node, other.inputs == call.inputs)
        for other in together.values()
        if other is not call and other.key == call.key
    ]
