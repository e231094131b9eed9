"""Nodes of one execution that share a batch: those with the same ticket and the same angles.

The first of their ops that a compiled function runs evaluates the derivatives of all. Which ops a
function will run is known once it is traced: those that its results, and what it assigns or prints,
are computed from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qshift.tensorflow_internals import always_run

if TYPE_CHECKING:
    import tensorflow as tf

    from qshift.autodiff.node import Node


READ_OP = "IdentityN"  # the type of ops that give a further result of an op, with derivatives


class InGraph(Protocol):
    """What an op of a graph calls.

    Attributes:
        nodes: What the op runs, one for each of its results. It runs those whose results the graph
            reads.
        name: Of the op; TensorFlow's copies of it have other names.
        key: Names of the ticket and of the tensors that the circuit's angles are in.
        inputs: Names of all inputs of the op.
    """

    nodes: tuple[Any, ...]
    name: str
    key: tuple[str, ...]
    inputs: tuple[str, ...]


class Siblings(NamedTuple):
    """What every execution of a traced graph runs beside an op.

    Attributes:
        nodes: The nodes that run at the same angles, if there are several, and whether all their
            inputs are those of the op.
        read: Which of the op's nodes run.
        are_all: Whether nothing else has the ticket, so that nobody can ask for anything else of
            the call.
        are_known: Whether `are_all`, all derivatives that will be asked for follow from the traced
            graph, and no two sums of derivatives have weights of their own. Then such sums may
            draw samples of their own: nothing that is asked for later could have shared these.
    """

    nodes: list[tuple[Node, bool]]
    read: list[bool]
    are_all: bool
    are_known: bool


def siblings(
    graph: Any, call: InGraph, calls: Callable[[tf.Operation], InGraph | None]
) -> Siblings:
    """Returns what every execution of a traced graph runs beside an op.

    Most ops of a traced gradient lead nowhere, as TensorFlow traces gradients by everything.

    Args:
        graph: The graph in which the op was made; None if it is gone.
        call: What the op calls.
        calls: Says of an op what it calls, if that is a node.
    """
    together: dict[str, tuple[InGraph, set[int]]] = {}
    elsewhere: set[str] = set()
    if (outputs := number_of_outputs(graph)) >= 0:
        # A traced graph stays as it is, except that tapes outside add tensors to its outputs.
        if getattr(graph, "qshift_outputs", None) != outputs:
            graph.qshift_calls, graph.qshift_outputs = _by_name(graph, calls), outputs
        together, elsewhere = graph.qshift_calls
    own, read = together.get(call.name, (None, set()))
    is_known = own is call
    if not is_known:  # run as a copy that TensorFlow made, of which nothing is known
        read = set(range(len(call.nodes)))
        together = {call.name: (call, read)}
    alike = [other for other, _ in together.values() if other.key[:1] == call.key[:1]]
    nodes = [
        (other.nodes[place], other.inputs == call.inputs)
        for other, places in together.values()
        if other.key == call.key
        for place in sorted(places)
    ]
    are_all = is_known and call.key[0] not in elsewhere and {x.key for x in alike} == {call.key}
    are_known = are_all and _are_known(together.values(), call)
    nodes = nodes if len(nodes) > 1 else []
    return Siblings(nodes, [i in read for i in range(len(call.nodes))], are_all, are_known)


def _are_known(together: Iterable[tuple[InGraph, set[int]]], call: InGraph) -> bool:
    """See `Siblings`; the nodes that run are all there are of the call."""
    sums = set()
    for other, places in together:
        for node in [other.nodes[place] for place in places if other.key == call.key]:
            if getattr(node, "pulls", False):
                sums.add(other.inputs)
            elif not node.needs(None, True):  # only the run says which derivatives these are
                return False
    return len(sums) < 2


def number_of_outputs(graph: Any) -> int:
    """Returns how many tensors a traced graph returns; -1 of other graphs, and if it is gone."""
    return len(graph.outputs) if hasattr(graph, "outputs") else -1


def _by_name(
    graph: Any, calls: Callable[[tf.Operation], InGraph | None]
) -> tuple[dict[str, tuple[InGraph, set[int]]], set[str]]:
    """Returns by the name of each op that a graph runs what it calls, and which of its results the
    graph reads; and the names of all tensors that the graph is given, or that others have."""
    ops = always_run(graph)
    found = ((op.name, calls(op)) for op in ops)
    together: dict = {name: (each, set()) for name, each in found if each and each.name == name}
    for tensor in [*graph.outputs, *(x for op in ops for x in op.inputs)]:
        if tensor.op.name in together:
            together[tensor.op.name][1].add(tensor.value_index)
    # Such ops have the ticket for their derivatives only, which are ops of their own.
    others = (op for op in ops if op.name not in together and op.type != READ_OP)
    elsewhere = [*graph.inputs, *graph.outputs, *(x for op in others for x in op.inputs)]
    return together, {tensor.name for tensor in elsewhere}
