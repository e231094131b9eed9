"""Between a user's tensors and the op's: what is differentiated by, and one layout for all."""

from __future__ import annotations

import operator

import numpy as np
import pennylane as qml
import tensorflow as tf

from qshift.errors import UnsupportedError
from qshift.tracing import is_watched


def is_tensor(parameter) -> bool:
    return isinstance(parameter, tf.Tensor | tf.Variable)


def as_tensor(argument):
    """Returns an argument of a quantum function; Keras's variables, which TensorFlow takes for
    tensors and PennyLane does not, become ones."""
    if tf.is_tensor(argument) and not is_tensor(argument):
        return tf.convert_to_tensor(argument)
    return argument


def batch_size(circuit, parameters):
    """Returns the size of the batch (None if there is none); a tensor if not known yet."""
    known, unknown = {}, []
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


def parts(circuit, parameters, batch):
    """Sorts the parameters by who may differentiate by them, and packs each kind.

    Returns:
        For each part its tensor float64[N, columns], its columns, and those of them that values
        depend on (None if nobody can differentiate by the part).
    """
    kinds: dict[str, list[int]] = {}
    parameters = [tf.convert_to_tensor(parameter) for parameter in parameters]
    for i, (slot, parameter) in enumerate(zip(circuit.slots, parameters, strict=True)):
        if is_watched(parameter):
            kind = "watched"
        elif tf.executing_eagerly():
            kind = "fixed"  # too late to watch it
        else:
            kind = "unknown" if slot.spectrum is not None else "unknown and without a rule"
        kinds.setdefault(kind, []).append(i)
    useful = set(circuit.active_columns)
    tensors, columns, active = [], [], []
    for kind, slots in sorted(kinds.items(), reverse=True):
        columns.append(tuple(c for i in slots for c in circuit.slots[i].columns))
        moving = tuple(c for c in columns[-1] if c in useful)
        if kind == "watched":
            circuit.require_rules(moving)
        active.append(None if kind == "fixed" else moving)
        tensors.append(_pack([(circuit.slots[i], parameters[i]) for i in slots], batch))
    if not tensors:
        tensors, columns, active = [tf.zeros([1, 0], tf.float64)], [()], [None]
    return tensors, tuple(columns), tuple(active)


def _pack(slots, batch) -> tf.Tensor:
    """Lays parameters out as float64[N, columns]."""
    if batch is None and all(not slot.shape and not p.dtype.is_complex for slot, p in slots):
        if len({p.dtype for _, p in slots}) == 1:
            return tf.cast(tf.stack([p for _, p in slots]), tf.float64)[None]
    rows = 1 if batch is None else batch
    blocks = []
    for slot, parameter in slots:
        size = slot.size // 2 if slot.is_complex else slot.size
        flat = tf.reshape(parameter, [-1, size])
        halves = [flat]
        if flat.dtype.is_complex:
            halves = [tf.math.real(flat), tf.math.imag(flat)]
            if not slot.is_complex:
                halves = [_require_real(*halves, slot)]
        for half in halves:
            blocks.append(tf.broadcast_to(tf.cast(half, tf.float64), [rows, size]))
    return tf.concat(blocks, axis=1)


def _require_real(real, imaginary, slot):
    message = (
        f"Parameter {slot.leaf} of {slot.gate} is complex, but a gate's angle is real. "
        "Use tf.math.real, tf.math.angle or tf.abs of it."
    )
    if tf.executing_eagerly():
        if tf.reduce_any(imaginary != 0):
            raise UnsupportedError(message)
        return real
    # In a graph, the numbers are known only when it runs.
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(imaginary == 0), [message])]):
        return tf.identity(real)


def require_tensorflow(tape):
    """Raises UnsupportedError for parameters that another framework traces or differentiates by."""
    for entry in tape.par_info:
        gate = entry["op"]
        parameter = gate.data[entry["p_idx"]]
        # PennyLane's NumPy arrays are plain data, though they ask to be differentiated by.
        if is_tensor(parameter) or isinstance(parameter, np.ndarray | int | float):
            continue
        if qml.math.requires_grad(parameter):
            raise UnsupportedError(
                f"A parameter of {gate.name} is {qml.math.get_interface(parameter)}'s "
                f"{type(parameter).__name__}, but a qshift qnode is a TensorFlow op, which only "
                "TensorFlow differentiates or compiles. Pass a tf.Variable and use "
                "tf.GradientTape, tf.function or qshift.derivatives, or use a qml.qnode."
            )


def result_dtype(tape):
    dtypes = {p.dtype for p in tape.get_parameters(trainable_only=False) if is_tensor(p)}
    single = dtypes and dtypes <= {tf.float16, tf.bfloat16, tf.float32, tf.complex64}
    return tf.float32 if single else tf.float64


def highest_order(order, least: int = 0) -> int:
    """Returns an order of derivatives as an int.

    Raises:
        ValueError: If it is not an integer, or less than `least`.
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


def differentiable(args, argnums):
    """Returns the arguments, those to differentiate by as tensors, and the latter's positions."""
    if argnums is None:
        positions = [i for i, arg in enumerate(args) if _is_floating(arg)]
    else:
        positions = [argnums] if isinstance(argnums, int) else list(argnums)
    args = list(args)
    for i in positions:
        if not -len(args) <= i < len(args):
            raise ValueError(f"argnums names argument {i}, but there are {len(args)} arguments.")
        dtype = None if tf.is_tensor(args[i]) or hasattr(args[i], "dtype") else tf.float64
        # A copy: one tensor may be given as two arguments.
        args[i] = tf.identity(tf.convert_to_tensor(args[i], dtype=dtype))
    return args, positions


def _is_floating(arg):
    try:
        return qml.math.get_dtype_name(qml.math.asarray(arg)).startswith("float")
    except (TypeError, ValueError, AttributeError, LookupError):
        return False
