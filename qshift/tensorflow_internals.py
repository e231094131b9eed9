"""Every name beneath TensorFlow's public interface that qshift uses, each with what it must do.

No other module names `tensorflow.python`. tests/test_tensorflow_internals.py tests what this module
promises, without the rest of qshift.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import backprop_util, context, record
from tensorflow.python.eager import tape as tapes
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.framework import config, func_graph, meta_graph, op_callbacks, ops
from tensorflow.python.ops import gen_script_ops, gradients_util, script_ops
from tensorflow.python.ops.control_flow_v2_func_graphs import (
    CondBranchFuncGraph,
    WhileBodyFuncGraph,
    WhileCondFuncGraph,
)
from tensorflow.python.ops.parallel_for import pfor
from tensorflow.python.saved_model import save

from qshift.python_kernel import NUMBER, python_kernel

# --- tensors and tapes ---

# The class of eager tensors; tensors of graphs are not among them. Of a scalar of NumPy's,
# EagerTensor(number, device, None) makes one in a third of the time that `tf.constant` takes.
EagerTensor = ops.EagerTensor

# shape_of(tensor): the shape of an eager tensor, as a tuple of integers.
shape_of: Callable[[tf.Tensor], tuple[int, ...]] = operator.methodcaller("_shape_tuple")


def from_numpy(array: np.ndarray) -> tf.Tensor:
    """Returns what `tf.constant` returns for an array in eager mode, in a tenth of the time, most
    of which TensorFlow takes to read the name of no device."""
    if context.context().device_name or not _default_is_cpu():
        return tf.constant(array)
    return EagerTensor(array.copy(), None, None)


@functools.cache
def _default_is_cpu() -> bool:
    """Whether TensorFlow puts tensors on the CPU where no device is named."""
    with tf.init_scope(), tf.device(None):
        return tf.constant(0.0).device.endswith("CPU:0")


is_trainable = backprop_util.IsTrainable  # whether a tensor's dtype has derivatives
# record_operation(name, outputs, inputs, backward, forward): open tapes and forward accumulators
# learn from it how outputs follow from inputs, and nothing else.
record_operation = record.record_operation
records_backprop = record.should_record_backprop  # whether an open tape follows any of some tensors
stop_recording = record.stop_recording  # within it, neither records what is run
could_record = record.could_possibly_record  # whether anything might record what is run now


# variable_accessed(variable): tapes that watch what is read, and a `tf.custom_gradient`, learn that
# a variable is read.
variable_accessed: Callable[[tf.Variable], None] = tapes.variable_accessed

# following([tensor, ...]): how many open tapes and forward accumulators follow any of the tensors;
# 0, 1, or 2 for more.
following = gradients_util.PossibleTapeGradientTypes


# The methods, of these classes, by which a tape or forward accumulator begins and ends to record:
# when it is entered and left, paused, continued, or reset.
RECORDING: tuple[tuple[Any, str], ...] = (
    (tf.GradientTape, "_push_tape"),
    (tf.GradientTape, "_pop_tape"),
    (tf.autodiff.ForwardAccumulator, "_push_accumulator"),
    (tf.autodiff.ForwardAccumulator, "_pop_accumulator"),
)


class _Told(threading.local):
    """How often tapes of a thread have been told to watch something."""

    watches = 0


_told = _Told()


def _mark_watched(kind: type, method: str) -> None:
    """Has a class of tapes mark the tensors that it is told to watch."""
    watch = getattr(kind, method)

    @functools.wraps(watch)
    def marked(self: Any, tensors: Any, *others: Any) -> None:
        watch(self, tensors, *others)
        _told.watches += 1
        for tensor in tf.nest.flatten(tensors, expand_composites=True):
            if isinstance(tensor, tf.Variable):
                tensor = tensor.handle
                graph = tf.compat.v1.get_default_graph()
                if isinstance(tensor, EagerTensor) and isinstance(graph, func_graph.FuncGraph):
                    tensor = graph.capture(tensor)  # as reads in this graph have it
            if isinstance(tensor, tf.Tensor):
                tensor.qshift_watched = _told.watches

    setattr(kind, method, marked)


_mark_watched(tf.GradientTape, "watch")
_mark_watched(tf.autodiff.ForwardAccumulator, "_watch")


tf.Tensor.qshift_watched = 0
# was_told_to_watch(tensor): whether a tape or forward accumulator was told to watch a tensor, until
# which it may not have followed the tensor: 0, or what `watches()` was then.
was_told_to_watch: Callable[[tf.Tensor], int] = operator.attrgetter("qshift_watched")
# watches() returns how often tapes of this thread have been told to watch something.
watches: Callable[[], int] = functools.partial(getattr, _told, "watches")


def is_watched(tensor: tf.Tensor) -> bool:
    """Returns whether any open tape or forward accumulator follows a tensor."""
    return following([tensor]) != 0


# x[i] is one of these methods; the classes of eager tensors and of variables that
# are made from them have none of their own.
INDEXED: tuple[tuple[Any, str], ...] = (tf.Tensor, "__getitem__"), (tf.Variable, "__getitem__")


# --- ops ---


# add_callback(callback): TensorFlow calls callback(op_type, inputs, attrs, outputs, op_name, graph)
# for all ops of this thread, until remove_callback(callback).
add_callback: Callable[[Callable], None] = op_callbacks.add_op_callback
remove_callback: Callable[[Callable], None] = op_callbacks.remove_op_callback


def is_initialized() -> bool:
    """Whether TensorFlow has started its threads in this process."""
    known = context.context_safe()
    return known is not None and known._context_handle is not None


# are_deterministic(): whether `tf.config.experimental.enable_op_determinism` was called; then ops
# that draw numbers without a seed are errors.
are_deterministic: Callable[[], bool] = config.is_op_determinism_enabled


_process, _tokens = secrets.token_hex(8), itertools.count(1)
_PREFIX = b"qshift-"  # of tokens
_LABEL = f"qshift-{_process}"  # of the kernel that runs such ops


def python_op(
    function: Callable,
    inputs: Sequence[tf.Tensor],
    dtypes: Sequence[tf.DType],
    *,
    stateful: bool,
    vectorised: Callable[[Any], list] | None = None,
) -> list[tf.Tensor]:
    """Adds an op that calls a Python function to the graph that is being traced.

    `tf.numpy_function` does the same but for two things. Here the graph owns the function:
    TensorFlow would keep it, and all that it holds, for ever. And here the token by which the op
    finds its function differs in every process: TensorFlow's tokens are equal in all processes, so
    a graph from another process would run whatever function has the same token.

    Args:
        function: The function, from the inputs as arrays to the results, a list if there is not
            one only.
        inputs: The inputs.
        dtypes: Of the results.
        stateful: Whether TensorFlow runs the op at every execution and in its place; otherwise it
            may leave it out, if nobody uses it, and run it once for a whole loop.
        vectorised: Vectorises the op, see `vectorise`.
    """
    number = next(_tokens)
    token = f"{_PREFIX.decode()}{_process}-{number}"
    script_ops._py_funcs._funcs[token] = function
    graph = owner = tf.compat.v1.get_default_graph()
    while owner is graph or isinstance(owner, func_graph.FuncGraph):
        owner.qshift_functions = [*getattr(owner, "qshift_functions", ()), function]
        owner = getattr(owner, "outer_graph", None)
    make = gen_script_ops.py_func if stateful else gen_script_ops.py_func_stateless
    kernel = None if stateful else python_kernel(PYTHON_OP, _LABEL)
    if kernel is not None:
        kernel.add(number, function)
    results = make(input=inputs, token=token, Tout=dtypes)
    if kernel is not None:
        results[0].op._set_attr("_kernel", tf.compat.v1.AttrValue(s=_LABEL.encode()))
        results[0].op._set_attr(NUMBER, tf.compat.v1.AttrValue(i=number))
    if vectorised is not None:
        vectorise(results[0].op, vectorised)
    return results


PYTHON_OP = "PyFuncStateless"  # the type of such ops, unless they are stateful


def function_of(op: tf.Operation) -> Any:
    """Returns the function that the op of a `python_op`, or a copy of it, calls."""
    return called_by(op.get_attr("token"))


def function_of_copied(op_type: str, attrs: Any) -> Any:
    """Returns the function that an op which `copy_ops` asks about calls; None if the op is not one
    of `python_op`, or is stateful."""
    return called_by(attrs["token"].s) if op_type == PYTHON_OP else None


def gradient_of_copied(attrs: Any) -> str:
    """Returns the name of the gradient that an op which `copy_ops` asks about was given; "" if it
    has that of its type."""
    return attrs["_gradient_op_type"].s.decode() if "_gradient_op_type" in attrs else ""


def called_by(token: bytes) -> Any:
    """Returns the function that a `python_op` calls, given the op's attribute "token"; None if
    the op was made in another process."""
    return script_ops._py_funcs._funcs.get(token.decode())


def has_other_gradient(op: tf.Operation) -> bool:
    """Whether an op in a graph has a gradient other than that of its type."""
    return "_gradient_op_type" in op.node_def.attr


def has_state(op: tf.Operation) -> bool:
    """Whether an op in a graph may change something, a variable for example."""
    return op._is_stateful


def has_users_gradient(op: tf.Operation) -> bool:
    """Whether an op in a graph was made by a user's `tf.custom_gradient`. TensorFlow has some of
    its own, whose gradients are those of the function that is computed."""
    if not has_other_gradient(op):
        return False
    function = ops._gradient_registry.lookup(tf.compat.as_str(op.get_attr("_gradient_op_type")))
    for name in ("tape_grad_fn", "grad_fn"):
        function = inspect.getclosurevars(function).nonlocals.get(name)
        if function is None:
            return True
    return not function.__module__.startswith("tensorflow.python.ops.nn")


def _has_python_ops(graph: tf.Graph) -> bool:
    """Whether a graph, or a function that it calls, has a `python_op`."""
    called = (getattr(each, "graph", None) for each in graph._functions.values())
    return hasattr(graph, "qshift_functions") or any(map(_has_python_ops, filter(None, called)))


def spare_python_ops_xla(tell: Callable[[str], None]) -> None:
    """Has TensorFlow leave out ``jit_compile=True`` for functions that have a `python_op`, which
    XLA refuses; calls tell(name) for each of them."""
    make = atomic_function.from_func_graph

    @functools.wraps(make)
    def made(name: Any, graph: Any, attrs: Any, *args: Any, **options: Any) -> Any:
        asked = (attrs or {}).get("_XlaMustCompile", False)
        if getattr(asked, "b", asked) and _has_python_ops(graph):
            attrs = {**attrs, "_XlaMustCompile": False}
            tell(graph.name)
        return make(name, graph, attrs, *args, **options)

    atomic_function.from_func_graph = made


# --- SavedModels ---


def replace_python_ops_saved(
    replacement: Callable[[Any, set[int]], Any], gradients: Collection[str]
) -> None:
    """Has SavedModels hold other functions in the place of the ops of `python_op`.

    Args:
        replacement: replacement(function, read) returns a concrete `tf.function` with the inputs
            and outputs of the op that calls the Python function, given which of its outputs other
            ops read; or it raises an error, and nothing is saved.
        gradients: The names of the gradients that these ops were given. They are left out.
    """
    build = save._build_meta_graph_impl

    @functools.wraps(build)
    def built(*args: Any, **options: Any) -> Any:
        result = build(*args, **options)
        _replace_python_ops(result[0], replacement, gradients)
        return result

    save._build_meta_graph_impl = built


def _replace_python_ops(saved: Any, replacement: Callable, gradients: Collection[str]) -> None:
    graph, functions = saved.graph_def, {}
    for owner in (graph, *graph.library.function):
        nodes = owner.node if owner is graph else owner.node_def
        for node in nodes:
            token = node.attr["token"].s if node.op in (PYTHON_OP, "PyFunc") else b""
            if not token.startswith(_PREFIX) or (function := called_by(token)) is None:
                continue
            made = replacement(function, _outputs_read(owner, nodes, node.name))
            functions[made.name.decode()] = made
            ends = (made.inputs, made.outputs)
            types = [[each.dtype.as_datatype_enum for each in some] for some in ends]
            node.op = "PartitionedCall"
            for name in ("token", "_gradient_op_type", "_kernel", NUMBER, "_XlaMustCompile"):
                node.attr.pop(name, None)
            for name, some in zip(("Tin", "Tout"), types, strict=True):
                node.attr[name].list.ClearField("type")
                node.attr[name].list.type.extend(some)
                node.attr[name].list.SetInParent()
            node.attr["f"].func.name = made.name.decode()
    if not functions:
        return
    library = tf.Graph()
    for made in functions.values():
        made.add_to_graph(library)
    graph.library.function.extend(library.as_graph_def().library.function)
    kept = [g for g in graph.library.registered_gradients if g.registered_op_type not in gradients]
    del graph.library.registered_gradients[:]
    graph.library.registered_gradients.extend(kept)
    listed = meta_graph.stripped_op_list_for_graph(graph)
    saved.meta_info_def.stripped_op_list.CopyFrom(listed)


def _outputs_read(owner: Any, nodes: Any, name: str) -> set[int]:
    """Returns which outputs of a node of a graph, or of a function in it, are read."""
    inputs = [each for node in nodes for each in node.input if not each.startswith("^")]
    inputs += getattr(owner, "ret", {}).values()
    places = [each.split(":") for each in inputs]
    return {int(rest[-1]) if rest else 0 for head, *rest in places if head == name}


def tell_before_calls(tell: Callable[[], None]) -> None:
    """Has TensorFlow call tell() whenever it is about to run a compiled function that has a
    `python_op`, from now on. It makes all calls slower, so only the children of forks do so."""
    call = atomic_function.AtomicFunction.call_flat

    @functools.wraps(call)
    def told(self: Any, *args: tf.Tensor) -> Any:
        if tf.executing_eagerly() and _has_python_ops(self.graph):
            tell()
        return call(self, *args)

    atomic_function.AtomicFunction.call_flat = told


# --- graphs ---

_CONTROL_FLOW = (CondBranchFuncGraph, WhileBodyFuncGraph, WhileCondFuncGraph)


def function_graph() -> tf.Graph | None:
    """Returns the graph of the function that is being traced, not that of a loop or branch in it;
    None in eager mode."""
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    while isinstance(graph, _CONTROL_FLOW):
        graph = graph.outer_graph
    return graph


def deferred_captures(graph: tf.Graph) -> list[Callable]:
    """Returns the functions that a graph calls for further inputs whenever it is run, in the order
    of these inputs. They return tensors, nested or not."""
    return list(graph.deferred_external_captures)


def iterate_in_graphs(when: Callable[[], bool]) -> None:
    """Lets tensors of graphs iterate, and have a length, as eager ones do, while when() is True.

    TensorFlow calls two methods of such tensors, and both raise an error otherwise.
    """
    refuse, length = tf.Tensor._disallow_iteration, tf.Tensor.__len__

    def refuse_outside(self: tf.Tensor) -> None:
        if not when():
            refuse(self)

    def length_inside(self: Any) -> int:
        return self._get_first_dim() if when() else length(self)

    tf.Tensor._disallow_iteration, tf.Tensor.__len__ = refuse_outside, length_inside


def keeps_outputs(graph: tf.Graph) -> bool:
    """Whether a graph, once traced, is run for the outputs that it was traced with: that of a
    function, loop or branch. A session or a pruned `tf.compat.v1.wrap_function` runs any part."""
    return isinstance(graph, func_graph.FuncGraph) and graph.name != "wrapped_function"


def always_run(graph: tf.Graph) -> list[tf.Operation]:
    """Returns the ops that every execution of a traced function's graph runs: those that its
    results, or what it assigns or prints, are computed from."""
    found: dict[str, tf.Operation] = {}
    ahead = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    while ahead:
        op = ahead.pop()
        if op.name not in found:
            found[op.name] = op
            ahead += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return list(found.values())


# --- vectorised loops: an op's `pfor_converter` takes `LoopInputs` and returns wrapped tensors ---

LoopInputs = pfor._PforInput
NotVectorisedError = pfor.ConversionNotImplementedError  # has TensorFlow run the op in a loop
wrapped = pfor.wrap  # (tensor, whether it has one entry for each turn of the loop)


def loop_length(inputs: Any) -> tf.Tensor:
    """Returns the number of turns of the loop that is being vectorised."""
    return inputs.pfor.loop_len_vector[0]


def vectorise(op: tf.Operation, converter: Callable) -> None:
    """Has TensorFlow vectorise an op in a graph by converter(inputs: LoopInputs)."""
    op.pfor_converter = converter


def copy_ops(copy: Callable) -> None:
    """Has TensorFlow call copy(op_type, inputs, attrs) where it copies an op that does not depend
    on a loop. The op that this returns is the copy; where it returns None, TensorFlow copies."""
    create = pfor._create_op

    @functools.wraps(create)
    def created(
        op_type: str, inputs: Sequence[tf.Tensor], op_dtypes: Sequence[tf.DType], attrs: Any = None
    ) -> tf.Operation:
        made = copy(op_type, inputs, attrs)
        return create(op_type, inputs, op_dtypes, attrs) if made is None else made

    pfor._create_op = created
