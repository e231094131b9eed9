"""The value of a function of qnodes and all its derivatives, in one batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from qshift.contraction import Contraction
from qshift.packing import differentiable, highest_order
from qshift.qnode import orders_ahead


def derivatives(
    fn: Callable,
    *args,
    order: int = 1,
    argnums: int | tuple[int, ...] | None = None,
):
    """Returns the value of a function and all its derivatives up to an order.

    Each `qshift` qnode that the function calls runs everything it takes in one batch (on hardware,
    one job), or in two with adjoint differentiation: values and gradients.

    Args:
        fn: A `QNode`, or any TensorFlow function of qnodes, that returns a tensor.
        *args: Its arguments; numbers and arrays are converted to tensors.
        order: The highest order, an integer.
        argnums: Position of the argument to differentiate by, or a tuple of positions. None stands
            for the only argument, or for all of them.

    Returns:
        A tuple (value, gradient, Hessian, ...), of order + 1 entries. For one argument the k-th is
        a tensor of shape ``value.shape + k * arg.shape``. For a tuple of arguments it is a tuple
        of what it would be for each, nested k deep, as in JAX.

    Raises:
        ValueError: If the function does not return a single tensor, or one that does not depend on
            an argument to differentiate by.
    """
    order = highest_order(order)
    args, positions = differentiable(args, argnums)
    sources = [args[i] for i in positions]
    if order and not sources:
        given = ", ".join(type(arg).__name__ for arg in args) or "none"
        raise ValueError(
            f"There is nothing to differentiate by, with argnums={argnums} and arguments {given}. "
            "Give floating-point tensors, arrays or numbers."
        )
    single = isinstance(argnums, int) or (argnums is None and len(args) == 1)
    token = orders_ahead.set(order)
    try:
        contraction = Contraction.of(fn, args, sources, order) if order else None
        if contraction is None:
            return _by_tapes(fn, args, sources, positions, order, single)
        _require_connected(contraction.jacobians, positions)
        found = contraction.derivatives(order)
    finally:
        orders_ahead.reset(token)
    dtype = contraction.call.dtype
    return tuple(_split(array, sources, dtype, k, single) for k, array in enumerate(found))


def _split(array, sources, dtype, k, single):
    """Takes the last k axes, each of all sources, apart into nested tuples of tensors."""
    if k == 0:
        return tf.cast(tf.constant(array), dtype)
    before, after = array.shape[: array.ndim - k], array.shape[array.ndim - k + 1 :]
    ends = np.cumsum([source.shape.num_elements() for source in sources])[:-1]
    entries = tuple(
        _split(part.reshape((*before, *source.shape, *after)), sources, source.dtype, k - 1, single)
        for part, source in zip(np.split(array, ends, axis=-k), sources, strict=True)
    )
    return entries[0] if single else entries


def _by_tapes(fn, args, sources, positions, order, single):
    """Nests tapes around the function, which serves for all functions."""
    shapes = [tuple(source.shape) for source in sources]

    def up_to(k):
        if k == 0:
            value = fn(*args)
            if not tf.is_tensor(value):
                raise ValueError(
                    f"derivatives needs a function that returns one tensor, got a "
                    f"{type(value).__name__}. Stack or select in the function."
                )
            return [value]
        # Variables that the function brings along are constants, and must not cost circuits.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            lower = up_to(k - 1)
            flat = [tf.reshape(t, [-1]) for t in tf.nest.flatten(lower[-1])]
            target = tf.concat(flat, 0) if len(flat) > 1 else flat[0]
        # A first derivative that does not exist is a mistake; higher ones of a linear function are
        # zero, which TensorFlow calls unconnected too.
        if target.shape == (1,):  # spares TensorFlow a loop
            jacobians = [g if g is None else g[None] for g in tape.gradient(target, sources)]
        else:
            jacobians = tape.jacobian(target, sources)
        if k == 1:
            _require_connected(jacobians, positions)
        jacobians = [
            tf.zeros([*target.shape, *shape], target.dtype) if jacobian is None else jacobian
            for jacobian, shape in zip(jacobians, shapes, strict=True)
        ]
        sizes = [int(t.shape[0]) for t in flat]
        pieces = [tf.split(jacobian, sizes) for jacobian in jacobians]
        entries = []
        for i, entry in enumerate(tf.nest.flatten(lower[-1])):
            by_source = [
                tf.reshape(piece[i], tuple(entry.shape) + shape)
                for piece, shape in zip(pieces, shapes, strict=True)
            ]
            entries.append(by_source[0] if single else tuple(by_source))
        return [*lower, _nest_like(lower[-1], entries)]

    with retracing():
        return tuple(up_to(order))


@contextlib.contextmanager
def retracing():
    """Keeps TensorFlow from advising against retracing where it is meant, or its own doing.

    It traces each jacobian anew, and counts functions made at the same place as one.
    """

    def other(record) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _require_connected(jacobians, positions):
    missing = [i for i, jacobian in zip(positions, jacobians, strict=True) if jacobian is None]
    if missing:
        raise ValueError(
            f"The value does not depend on argument {', '.join(map(str, missing))}, as far as "
            "TensorFlow can see. Compute it from the tensors given, without .numpy(), or leave the "
            "argument out with argnums=."
        )


def _nest_like(structure, entries):
    entries = iter(entries)

    def build(node):
        return tuple(build(child) for child in node) if isinstance(node, tuple) else next(entries)

    return build(structure)
