"""Ops of one execution that share a batch: those with the same ticket and the same angles.

The first of these ops that a compiled function runs evaluates the derivatives of all. Which ops a
function will run is known once it is traced: those that its results, and what it assigns or prints,
are computed from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qshift.tensorflow_internals import final_ops

if TYPE_CHECKING:
    from qshift.autodiff.node import Node


class _Ops:
    """The ops of one graph, which keeps them as its attribute `qshift_ops`.

    Attributes:
        alike: Names of the ticket and the angles' tensors -> name of an op -> the op's node and the
            names of the op's inputs.
    """

    def __init__(self) -> None:
        self.alike: dict[tuple, dict[str, tuple[Node, tuple[str, ...]]]] = {}
        self._used: frozenset[str] | None = None

    def used(self, graph: Any) -> frozenset[str]:
        """Returns the names of the ops that every execution of a traced graph runs."""
        if self._used is None:
            used: set[str] = set()
            ahead = final_ops(graph)
            while ahead:
                op = ahead.pop()
                if op.name not in used:
                    used.add(op.name)
                    ahead += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
            self._used = frozenset(used)
        return self._used


def register(graph: Any, key: tuple, name: str, node: Node, inputs: tuple[str, ...]) -> None:
    """Adds an op to those of a graph.

    Args:
        graph: The graph.
        key: Names of the ticket and of the tensors that the circuit's angles are in.
        name: The op's name.
        node: The node that the op runs.
        inputs: Names of all inputs of the op.
    """
    if not hasattr(graph, "qshift_ops"):
        graph.qshift_ops = _Ops()
    graph.qshift_ops.alike.setdefault(key, {})[name] = node, inputs


def siblings(graph: Any, name: str, key: tuple) -> list[tuple[Node, bool]]:
    """Returns the nodes that every execution of a traced graph runs at the same angles, and
    whether all their inputs are the same.

    Most ops of a traced gradient lead nowhere, as TensorFlow traces gradients by everything.
    """
    if graph is None or not hasattr(graph, "outputs"):
        return []
    ops: _Ops = graph.qshift_ops
    used = ops.used(graph)
    if name not in used:
        return []  # the op is a copy that TensorFlow made
    found = ops.alike[key]
    _, inputs = found[name]
    return [
        (node, its_inputs == inputs)
        for other, (node, its_inputs) in found.items()
        if other != name and other in used
    ]
