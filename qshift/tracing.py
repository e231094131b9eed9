"""What the op takes from beneath TensorFlow's public interface.

`tf.custom_gradient` cannot serve inside graphs: its gradients close over tensors of the graph they
were made in, and TensorFlow copies graphs (vectorising a jacobian, differentiating a compiled
function twice). Here the gradient finds its inputs on the op that is being differentiated.
"""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, record
from tensorflow.python.framework import func_graph
from tensorflow.python.ops import gen_script_ops, gradients_util, script_ops
from tensorflow.python.ops.control_flow_v2_func_graphs import (
    CondBranchFuncGraph,
    WhileBodyFuncGraph,
    WhileCondFuncGraph,
)
from tensorflow.python.ops.parallel_for import pfor
from tensorflow.python.saved_model import save_context

from qshift.errors import UnsupportedError, UntraceableError
from qshift.fallbacks import warn_slower

_GRADIENT = "QShiftPartials"


class Node(Protocol):
    """A function of (ticket, *inputs) that TensorFlow runs as one op."""

    def __call__(self, ticket, *inputs, also: Sequence[tuple[Node, bool]] = ()) -> np.ndarray:
        """Returns the numbers.

        Args:
            ticket: Which execution of which call this belongs to.
            *inputs: float64[N, ...] each.
            also: Other nodes that will be run with the same ticket and angles, and whether all
                their inputs are these.
        """
        ...

    def angles(self, inputs: Sequence) -> Sequence:
        """Returns those of the inputs that the circuit's angles are in."""
        ...

    def shape(self, inputs: Sequence[tf.Tensor]) -> Sequence[int | None]:
        """Returns the static shape of the result, [N, ...]."""
        ...

    def gradient(
        self, ticket, inputs, cotangent, wanted: Sequence[bool]
    ) -> Sequence[tf.Tensor | None]:
        """Returns the cotangents of the inputs, as far as they are wanted."""
        ...

    def tangent(self, ticket, inputs, tangents) -> tf.Tensor:
        """Returns the tangent of the result."""
        ...

    def of_all(self, ticket, inputs, loop: str) -> tf.Tensor:
        """Returns the results [L, N, ...] for L different last inputs [L, N, ...]; only for nodes
        that contract with their last input."""
        ...


_nodes: weakref.WeakValueDictionary[bytes, Node] = weakref.WeakValueDictionary()


def run(node: Node, ticket: tf.Tensor, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Runs a node, or adds it to the graph that is being traced.

    Open tapes and forward accumulators learn its derivatives. (Of a `tf.custom_gradient`, forward
    accumulators differentiate the gradient by its cotangent, which takes all derivatives in place
    of one direction's.)

    Args:
        node: What to run. TensorFlow keeps it for ever if it is tracing, so it must not hold data.
        ticket: Which execution of which call this belongs to.
        inputs: float64[N, ...] each.

    Returns:
        float64[N, ...].
    """
    if tf.executing_eagerly():
        result = tf.constant(node(ticket, *inputs))
    else:
        result = _graph_op(node, ticket, inputs)
        ticket, *inputs = result.op.inputs
    wanted = [is_watched(tensor) for tensor in inputs]
    record.record_operation(
        _GRADIENT,
        [result],
        list(inputs),
        lambda cotangent: node.gradient(ticket, inputs, cotangent, wanted),
        lambda *tangents: [node.tangent(ticket, inputs, tangents)],
    )
    return result


def _graph_op(node, ticket, inputs):
    """Adds a node to the graph that is being traced.

    Stateless, so that TensorFlow prunes it when nobody uses it, and runs it once when it does not
    change in a loop. The ticket keeps TensorFlow from folding it or merging it with another call.
    """
    graph = tf.compat.v1.get_default_graph()
    also: list[tuple[Node, bool]] | None = None

    def call(ticket, *inputs):
        nonlocal also
        if also is None:
            also = _run_as_well(graph_reference(), name, key)
        try:
            return node(ticket, *inputs, also=also)
        except Exception as error:
            for raised in _listening:
                raised.append(error)
            raise

    with record.stop_recording(), graph.gradient_override_map({"PyFuncStateless": _GRADIENT}):
        result = _python_op(gen_script_ops.py_func_stateless, call, [ticket, *inputs], tf.float64)
    result.set_shape(node.shape(inputs))
    op, graph_reference = result.op, weakref.ref(graph)
    ticket, *inputs = op.inputs
    name, key = op.name, tuple(tensor.name for tensor in (ticket, *node.angles(inputs)))
    _siblings.setdefault(graph, {}).setdefault(key, {})[name] = node, _names(op)
    _nodes[op.get_attr("token")] = node
    op.pfor_converter = _vectorise
    return result


_listening: list[list[Exception]] = []


@contextmanager
def own_errors() -> Iterator[None]:
    """Within it, what a node raises when a graph runs it comes out as it is; otherwise TensorFlow
    makes an error of its own of it."""
    raised: list[Exception] = []
    _listening.append(raised)
    try:
        yield
    except tf.errors.OpError as error:
        # Other threads may be running graphs as well.
        own = (each for each in raised if str(each) in error.message)
        raise next(own, error) from None
    finally:
        _listening[:] = [other for other in _listening if other is not raised]


@contextmanager
def if_traceable() -> Iterator[None]:
    """Around a call of a compiled function: what cannot be traced, because it looks at the numbers,
    is left for the eager way behind; what fails when it runs comes out as it is."""
    try:
        with own_errors():
            yield
    except (TypeError, AttributeError, NotImplementedError, UntraceableError) as error:
        reason = " ".join(str(error).split())[-200:]
        warn_slower(
            "A function cannot be compiled and runs eagerly", f"{type(error).__name__}: {reason}"
        )


def _names(op) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in op.inputs)


# Graph -> names of the ticket and the angles' tensors -> name of an op -> its node and inputs.
_siblings: weakref.WeakKeyDictionary[tf.Graph, dict] = weakref.WeakKeyDictionary()
_used: weakref.WeakKeyDictionary[tf.Graph, set[str]] = weakref.WeakKeyDictionary()


def _run_as_well(graph, name, key) -> list[tuple[Node, bool]]:
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
    siblings = _siblings[graph][key]
    _, inputs = siblings[name]
    return [
        (node, its_inputs == inputs)
        for other, (node, its_inputs) in siblings.items()
        if other != name and other in _used[graph]
    ]


@tf.RegisterGradient(_GRADIENT)
def _gradient(op, cotangent):
    ticket, *inputs = op.inputs
    node = _nodes[op.get_attr("token")]
    return [None, *node.gradient(ticket, inputs, cotangent, [True] * len(inputs))]


def _vectorise(inputs: pfor._PforInput):
    """Runs a loop of calls as one.

    Where only what an op contracts with depends on the loop, nothing more is evaluated; where the
    angles do, it is a call with a longer batch.
    """
    op = inputs.op
    node = _nodes[op.get_attr("token")]
    tensors, stacked, _ = zip(*(inputs.input(i) for i in range(inputs.num_inputs)), strict=True)
    if stacked[0]:
        raise pfor.ConversionNotImplementedError("the ticket depends on the loop")
    if not any(stacked[:-1]) and hasattr(node, "of_all"):
        return [pfor.wrap(node.of_all(tensors[0], tensors[1:], "l"), True)]
    length = inputs.pfor.loop_len_vector[0]
    longer = []
    for tensor, is_stacked in zip(tensors[1:], stacked[1:], strict=True):
        if not is_stacked:
            tensor = tf.broadcast_to(tensor, tf.concat([[length], tf.shape(tensor)], 0))
        longer.append(tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0)))
    values = run(node, tensors[0], longer)
    rows = op.outputs[0].shape[0]
    if rows is None:
        rows = tf.shape(tensors[1])[1 if stacked[1] else 0]
    result = tf.reshape(values, tf.concat([[length, rows], tf.shape(values)[1:]], 0))
    return [pfor.wrap(result, True)]


def _copied(create: Callable) -> Callable:
    """Vectorising a loop, TensorFlow copies ops that do not depend on it but come after something
    with a state, an assertion for example. It would not know derivatives of the copies."""

    @functools.wraps(create)
    def created(op_type, inputs, op_dtypes, attrs=None):
        node = _nodes.get(attrs["token"].s) if op_type == "PyFuncStateless" else None
        if node is None:
            return create(op_type, inputs, op_dtypes, attrs)
        ticket, *inputs = inputs
        return run(node, ticket, inputs).op

    return created


pfor._create_op = _copied(pfor._create_op)

_CONTROL_FLOW = (CondBranchFuncGraph, WhileBodyFuncGraph, WhileCondFuncGraph)


class Itself(tf.types.experimental.TraceType):
    """The type of a Python object as an argument of a `tf.function`: it is traced for each object.

    Where TensorFlow does not know better, it hands out what a decorator has wrapped.

    Args:
        value: The object.
    """

    def __init__(self, value: object):
        self._value = weakref.ref(value)

    def is_subtype_of(self, other) -> bool:
        return self == other

    def most_specific_common_supertype(self, others):
        return self if all(self == other for other in others) else None

    def placeholder_value(self, placeholder_context=None):
        return self._value()

    def __eq__(self, other) -> bool:
        return isinstance(other, Itself) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


def function_graph() -> tf.Graph | None:
    """Returns the graph of the function that is being traced, not that of a loop or branch in it;
    None in eager mode."""
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    while isinstance(graph, _CONTROL_FLOW):
        graph = graph.outer_graph
    return graph


_process, _tokens = secrets.token_hex(8), itertools.count()


def _python_op(make: Callable, function: Callable, inputs, dtype) -> tf.Tensor:
    """Adds an op that calls a Python function to the graph that is being traced.

    As `tf.numpy_function` does, but for two things. The graph owns the function: TensorFlow would
    keep it, and all that it holds, for ever. And the token by which it is found is one that no
    other process has: TensorFlow's is the same in every process, so that a graph from elsewhere
    would run whatever function there has its number.

    Args:
        make: TensorFlow's maker of such ops.
        function: From the inputs as arrays to an array.
        inputs: The inputs.
        dtype: Of the result.
    """
    token = f"qshift-{_process}-{next(_tokens)}"
    script_ops._py_funcs._funcs[token] = function
    graph = owner = tf.compat.v1.get_default_graph()
    while owner is graph or isinstance(owner, func_graph.FuncGraph):
        owner.qshift_functions = [*getattr(owner, "qshift_functions", ()), function]
        owner = getattr(owner, "outer_graph", None)
    return make(input=inputs, token=token, Tout=[dtype])[0]


_LARGEST_FORKED = 1000  # numbers; TensorFlow hands larger tensors to threads
_forked = False


def _after_fork() -> None:
    global _forked
    known = context.context_safe()
    _forked = known is not None and known._context_handle is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def require_threads(size: int) -> None:
    """Raises UnsupportedError where TensorFlow would wait for ever: in a process that was forked
    after TensorFlow was first used, and so has none of its threads.

    Args:
        size: How many numbers it is to work on.
    """
    if _forked and size > _LARGEST_FORKED:
        raise UnsupportedError(
            "This process was forked after TensorFlow had been used, so it lacks TensorFlow's "
            "threads: compiled functions and large tensors would wait for them for ever. Start "
            'processes with multiprocessing.get_context("spawn"), or use TensorFlow in the '
            "children only; small eager calls work."
        )


def _guard() -> tf.Tensor | None:
    """Stands for a number that compiled functions take from outside, so that TensorFlow asks for it
    whenever it is about to run one or to save it."""
    require_threads(_LARGEST_FORKED + 1)
    _require_no_saving()
    graph = function_graph()
    if graph is None:
        return tf.constant(0, tf.int64)
    # Other graphs, as those of gradients, do not know such numbers.
    if type(graph) is not func_graph.FuncGraph or graph.structured_input_signature is None:
        return None
    # Functions that call this one are asked in its place.
    return graph.capture_call_time_value(_guard, tf.TensorSpec([], tf.int64), key="qshift")


def _require_no_saving() -> None:
    if save_context.in_save_context():
        raise UnsupportedError(
            "A SavedModel cannot hold quantum circuits: they are run by Python code of qshift, "
            "which is not part of it, so it could not be used where it is loaded. Save the model "
            'as model.save("name.keras") with its qnodes registered by qshift.keras.register, or '
            "only the weights, by model.save_weights or tf.train.Checkpoint, and make the qnodes "
            "anew there."
        )


def graph_ticket(numbers: Iterator[int]) -> tf.Tensor:
    """Returns minus the next number, another one at each execution of the graph.

    The op is stateful, so TensorFlow neither folds it nor merges it with another, and a
    `tf.function` draws the numbers of its calls in the order in which they were written.
    """
    _guard()
    ticket = _python_op(
        gen_script_ops.py_func, lambda: np.array(-next(numbers), np.int64), [], tf.int64
    )
    ticket.set_shape([])
    ticket.op.pfor_converter = lambda inputs: _draw_once(inputs, numbers)
    return ticket


def _draw_once(inputs: pfor._PforInput, numbers):
    """A vectorised loop around a call that does not depend on the loop draws one ticket."""
    ticket = inputs.op.outputs[0]
    if ticket.graph is not tf.compat.v1.get_default_graph():
        ticket = graph_ticket(numbers)
    return [pfor.wrap(ticket, False)]


_counter = itertools.count(1)
_eager: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()


def eager_ticket(owned: object) -> tf.Tensor:
    """Returns a positive number that finds `owned` for as long as the ticket itself is alive."""
    number = next(_counter)
    ticket = tf.constant(number, tf.int64)
    ticket.qshift_owned = owned
    _eager[number] = owned
    return ticket


def find(ticket: int) -> object | None:
    """Returns what an eager ticket owns."""
    return _eager.get(ticket)


def following(tensor: tf.Tensor) -> int:
    """Returns how many open tapes and forward accumulators follow a tensor: 0, 1, or 2 for more."""
    return gradients_util.PossibleTapeGradientTypes([tensor])


class _Open(threading.local):
    """The open tapes and forward accumulators of a thread, each by a number of its own."""

    def __init__(self):
        self.numbers: list[int] = []


_open, _numbers = _Open(), itertools.count()


def open_tapes() -> tuple[int, ...]:
    """Returns numbers of the tapes and forward accumulators that record now."""
    return tuple(_open.numbers)


def _count_tapes(kind: type, push: str, pop: str) -> None:
    """Has a class of tapes say when one of them begins and ends to record."""
    pushed, popped = getattr(kind, push), getattr(kind, pop)

    @functools.wraps(pushed)
    def begin(self):
        pushed(self)
        if not hasattr(self, "_qshift_number"):
            self._qshift_number = next(_numbers)
        _open.numbers.append(self._qshift_number)

    @functools.wraps(popped)
    def end(self):
        popped(self)
        number = getattr(self, "_qshift_number", None)
        if number in _open.numbers:
            _open.numbers.remove(number)

    setattr(kind, push, begin)
    setattr(kind, pop, end)


_count_tapes(tf.GradientTape, "_push_tape", "_pop_tape")
_count_tapes(tf.autodiff.ForwardAccumulator, "_push_accumulator", "_pop_accumulator")


def is_watched(tensor: tf.Tensor) -> bool:
    """Returns whether any open tape or forward accumulator follows a tensor."""
    return following(tensor) != 0
