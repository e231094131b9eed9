"""From a call's parameters to the op's tensors: one float64[N, columns] for each part."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pennylane as qml
import tensorflow as tf

from qshift.autodiff.angles import Angles
from qshift.autodiff.dataflow import origins
from qshift.autodiff.entries import blocks
from qshift.errors import UnsupportedError
from qshift.inputs import argument_positions
from qshift.tensorflow_internals import could_record, following
from qshift.tensors import is_tensor

if TYPE_CHECKING:
    from pennylane.tape import QuantumScript

    from qshift.circuits.circuit import Slot

_MOST_PARTS = 8  # TensorFlow traces the derivatives by each part separately, which takes time


def batch_size(circuit: Any, parameters: Sequence[Any]) -> int | None:
    """Returns the size of the batch: None without a batch, a tensor if it is not known yet."""
    known: dict[int, str] = {}
    unknown: list[tf.Tensor] = []
    for slot, parameter in zip(circuit.slots, parameters, strict=True):
        if len(parameter.shape) > len(slot.shape):
            if parameter.shape[0] is None:
                unknown.append(tf.shape(parameter)[0])
            else:
                known.setdefault(parameter.shape[0], slot.gate)
    if len(known) > 1:
        described = " and ".join(f"{size} (in {gate})" for size, gate in known.items())
        raise ValueError(f"Broadcast parameters must have the same batch size, got {described}.")
    return next(iter([*known, *unknown]), None)


class Parts(NamedTuple):
    """The parameters of a call, sorted by the tensors that they are computed from.

    Attributes:
        tensors: For each part, float64[N, columns].
        columns: For each part, its columns.
        active: For each part, the columns that values depend on; None for a part that nobody can
            differentiate by.
        watched: The active columns with a rule that a tape or forward accumulator follows. In a
            graph, all active columns with a rule if none follows any: one outside may.
    """

    tensors: list[tf.Tensor]
    columns: tuple[tuple[int, ...], ...]
    active: tuple[tuple[int, ...] | None, ...]
    watched: tuple[int, ...]


def parts(
    circuit: Any,
    parameters: Sequence[Any],
    batch: int | None,
    known: Angles | None = None,
) -> Parts:
    """Packs the parameters, in one part for each set of tensors that they are computed from.

    In eager mode these sets are not known, and all watched parameters are one part. In a graph,
    each parameter without a rule is a part of its own: tapes ask for derivatives by everything
    they follow, and this is an error only if the result is used.

    Args:
        circuit: The circuit or `Joint` whose slots they are.
        parameters: One for each slot.
        batch: Size of the batch, if there is one.
        known: How parameters follow from other tensors; None if nothing is known of that.
    """
    parameters = [tf.convert_to_tensor(parameter) for parameter in parameters]
    eager = tf.executing_eagerly()
    recording = could_record()
    if eager and not recording and not any(x.dtype.is_complex for x in parameters):
        numbers = np.empty((1 if batch is None else batch, circuit.num_parameters))
        for slot, x in zip(circuit.slots, parameters, strict=True):
            numbers[:, slot.columns] = x.numpy().reshape(-1, slot.size)
        return Parts([tf.constant(numbers)], (tuple(range(numbers.shape[1])),), (None,), ())
    followed = [recording and following([x]) != 0 for x in parameters]
    labels: list[tuple] = [
        (is_followed, not eager and slot.spectrum is None)
        for is_followed, slot in zip(followed, circuit.slots, strict=True)
    ]
    if not eager:
        finer = [(*x, y) for x, y in zip(labels, origins(parameters), strict=True)]
        labels = finer if len(set(finer)) <= _MOST_PARTS else labels
    kinds: dict[tuple, list[int]] = {}
    for i, label in enumerate(labels):
        kinds.setdefault(label, []).append(i)
    useful = set(circuit.active_columns)
    tensors, columns, active = [], [], []
    rows = 1 if batch is None else batch  # a tensor, if it is not known yet
    follow: list[int] = []
    can: list[int] = []
    for (is_followed, has_no_rule, *_), slots in kinds.items():
        plain: list[int] = []  # real angles
        others: list[int] = []
        for i in slots:
            has_more = circuit.slots[i].shape or parameters[i].dtype.is_complex
            (others if has_more else plain).append(i)
        found = blocks([parameters[i] for i in plain], known or Angles())
        laid_out = [([plain[k] for k in block], numbers) for block, numbers in found]
        laid_out += [([i], _flat(circuit.slots[i], parameters[i])) for i in others]
        slots = [i for block, _ in laid_out for i in block]
        columns.append(tuple(c for i in slots for c in circuit.slots[i].columns))
        moving = tuple(c for c in columns[-1] if c in useful)
        if eager and is_followed and any(circuit.slots[i].spectrum is None for i in slots):
            circuit.require_rules(moving)  # not in graphs, where the derivative may never be run
        if not has_no_rule:
            (follow if is_followed else can).extend(moving)
        active.append(moving if is_followed or not eager else None)
        each = [block for _, block in laid_out]
        whole = len(each) == 1 and isinstance(rows, int) and each[0].shape[0] == rows
        done = whole and each[0].dtype == tf.float64
        tensors.append(each[0] if done else _pack(each, rows))
    if not tensors:
        return Parts([tf.zeros([1, 0], tf.float64)], ((),), (None,), ())
    watched = follow or ([] if eager else can)
    return Parts(tensors, tuple(columns), tuple(active), tuple(sorted(watched)))


def _pack(blocks: Sequence[tf.Tensor], rows: int | tf.Tensor) -> tf.Tensor:
    """Joins blocks [1 or N, columns] to one tensor, float64[N, all columns]; N is `rows`."""
    blocks = [tf.cast(block, tf.float64) for block in blocks]
    blocks = [
        block
        if isinstance(rows, int) and block.shape[0] == rows
        else tf.broadcast_to(block, [rows, block.shape[1]])
        for block in blocks
    ]
    return blocks[0] if len(blocks) == 1 else tf.concat(blocks, axis=1)


def _flat(slot: Slot, parameter: tf.Tensor) -> tf.Tensor:
    """Lays a parameter out as [N, columns]; real parts before imaginary ones, if it has these."""
    flat = tf.reshape(parameter, [-1, slot.size // 2 if slot.is_complex else slot.size])
    if not flat.dtype.is_complex:
        return flat
    real, imaginary = tf.math.real(flat), tf.math.imag(flat)
    if slot.is_complex:
        return tf.concat([real, imaginary], 1)
    return _require_real(real, imaginary, slot)


def _require_real(real: tf.Tensor, imaginary: tf.Tensor, slot: Slot) -> tf.Tensor:
    message = (
        f"Parameter {slot.leaf} of {slot.gate} is complex, but a gate's angle is real. "
        "Use tf.math.real, tf.math.angle or tf.abs of it."
    )
    if tf.executing_eagerly():
        is_number = tf.math.is_finite(imaginary)
        if tf.reduce_any((imaginary != 0) & is_number):
            raise UnsupportedError(message)
        return real if tf.reduce_all(is_number) else real + (imaginary - imaginary)
    # In a graph, the numbers are known only when it runs.
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(imaginary == 0), [message])]):
        return tf.identity(real)


def result_dtype(tape: QuantumScript) -> tf.DType:
    """Returns single precision if all of a tape's tensors have no more, else double.

    Raises:
        UnsupportedError: For parameters that another framework traces or differentiates by.
    """
    dtypes = set()
    for parameter in tape.get_parameters(trainable_only=False):
        if isinstance(parameter, tf.Tensor | tf.Variable):
            dtypes.add(parameter.dtype)
        # PennyLane's NumPy arrays are plain data here, though PennyLane marks them as trainable.
        elif not isinstance(parameter, np.ndarray | int | float):
            _require_constant(parameter, tape)
    single = dtypes and dtypes <= {tf.float16, tf.bfloat16, tf.float32, tf.complex64}
    return tf.float32 if single else tf.float64


def _require_constant(parameter: Any, tape: QuantumScript) -> None:
    if qml.math.requires_grad(parameter):
        gates = [entry["op"] for entry in tape.par_info]
        name = next(g.name for g in gates if any(parameter is each for each in g.data))
        raise UnsupportedError(
            f"A parameter of {name} is {qml.math.get_interface(parameter)}'s "
            f"{type(parameter).__name__}, but a qshift qnode is a TensorFlow op, which only "
            "TensorFlow differentiates or compiles. Pass a tf.Variable and use "
            "tf.GradientTape, tf.function or qshift.derivatives, or use a qml.qnode."
        )


def highest_order(order: int, least: int = 0) -> int:
    """Returns an order of derivatives as an int.

    Raises:
        ValueError: If the order is not an integer, or less than `least`.
    """
    try:
        number = None if isinstance(order, bool) else operator.index(order)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"order must be an integer, got {order!r}.")
    if number < least:
        raise ValueError(f"order must be at least {least}, got {number}.")
    return number


def differentiable(
    args: Sequence[Any], argnums: Any, whole: bool = False
) -> tuple[list[Any], list[int]]:
    """Returns the arguments, those to differentiate by as tensors, and the latter's positions.

    Args:
        args: The arguments.
        argnums: The positions; None for those of all floating-point arguments.
        whole: Whether whole numbers are meant where no argument is floating-point.
    """
    if argnums is None:
        positions = [i for i, arg in enumerate(args) if _is_floating(arg)]
        if whole and not positions:
            positions = list(whole_numbers(args))
    else:
        positions = list(argument_positions(argnums, len(args), "argnums"))
    args = list(args)
    for i in positions:
        has_dtype = hasattr(args[i], "dtype") and not _is_whole(args[i])
        dtype = None if tf.is_tensor(args[i]) or has_dtype else tf.float64
        # A copy, as one tensor may be given for two arguments.
        args[i] = tf.raw_ops.Identity(input=tf.convert_to_tensor(args[i], dtype=dtype))
    return args, positions


def whole_numbers(args: Sequence[Any]) -> tuple[int, ...]:
    """Returns the positions of whole numbers, lists of them and NumPy's arrays of them."""
    return tuple(i for i, arg in enumerate(args) if _is_whole(arg))


def _is_whole(arg: Any) -> bool:
    # A tensor of integers has no derivatives in TensorFlow either.
    if isinstance(arg, list | tuple) and any(map(is_tensor, tf.nest.flatten(arg))):
        return False
    if not isinstance(arg, int | list | tuple | np.ndarray | np.integer):
        return False
    try:
        return np.asarray(arg).dtype.kind in "iu"
    except ValueError:  # of different lengths
        return False


def _is_floating(arg: Any) -> bool:
    try:
        if hasattr(arg, "dtype"):  # tensors, arrays, TensorFlow's and Keras's variables
            return tf.as_dtype(arg.dtype).is_floating
        return qml.math.get_dtype_name(qml.math.asarray(arg)).startswith("float")
    except (TypeError, ValueError, AttributeError, LookupError):
        return False
