"""The standard errors of tensors that are computed from qnodes with finite shots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from qshift.api.conversion import as_own
from qshift.autodiff.error_propagation import Propagation
from qshift.autodiff.requests import request
from qshift.errors import UnsupportedError


class Estimate(NamedTuple):
    """A result of finite shots, with its error.

    Attributes:
        value: A tensor, or a nest of them.
        error: The standard errors of its entries, in the same nest; zeros without shots.
    """

    value: Any
    error: Any


def estimate(fn: Callable, *args: Any, **kwargs: Any) -> Estimate:
    """Returns what a function of qnodes returns, with its standard errors.

    The function is called once, in eager mode. It may be a qnode, also one of variances, or any
    TensorFlow function: a loss of several qnodes, a gradient that it takes by tapes, a Keras model.
    Errors follow from the samples of all qnodes that it calls, those that several results share
    included, by the derivatives of the result (the delta method, to first order; to second order in
    the means that a variance takes the squares of). They take samples of which the device says how
    they vary together; see ``errors=`` of `qshift.derivatives`.

    The value is the one that the function returns, with one correction: `qml.var` is not the
    variance of the samples here, which on the average is lower than the exact one by its n-th part,
    for n shots, but has no such bias, nor have its derivatives. Calls without errors return
    PennyLane's value.

    What TensorFlow does not differentiate counts as exact: tensors that were computed before,
    ``.numpy()``, `tf.stop_gradient`, rounding.

    Args:
        fn: The function. It returns a floating-point tensor, or a nest of them. A QNode of
            PennyLane's own is converted by `qshift.from_qnode`, and of a `tf.function` the Python
            function that it was made of is called.
        *args: The function's arguments.
        **kwargs: Its keyword arguments.

    Returns:
        An `Estimate`: ``value`` as the function computes it, and ``error`` in the same nest.

    Raises:
        UnsupportedError: If it is called in a `tf.function`, or `fn` calls qnodes in one, or the
            device does not tell the errors of its samples.
        ValueError: If a result does not follow from any qnode.

    Example:
        >>> value, error = qshift.estimate(lambda x: tf.sin(energy(x)) ** 2, x)
    """
    fn = as_own(fn)
    if isinstance(fn, tf.types.experimental.PolymorphicFunction):
        fn = fn.python_function
    return observed(lambda: fn(*args, **kwargs))


def observed(run: Callable[[], Any], first: bool = False) -> Estimate:
    """Runs what calls qnodes, and returns the result with its standard errors; see `estimate`.

    Args:
        run: What calls qnodes.
        first: Whether only the first tensor of the result has to follow from qnodes. Others may be
            constants, which have no error.

    Raises:
        UnsupportedError, ValueError: See `estimate`.
    """
    if not tf.executing_eagerly():
        raise UnsupportedError(
            "Errors were asked for in a tf.function, where they are not known. Ask for them in "
            "eager mode, of the function before tf.function."
        )
    with Propagation() as propagation, request(instead_of_running=propagation.run):
        value = run()
    leaves = tf.nest.flatten(value)
    for each in leaves:
        if not tf.is_tensor(each) or not each.dtype.is_floating:
            got = each.dtype.name if tf.is_tensor(each) else type(each).__name__
            raise ValueError(
                f"Errors are known of floating-point tensors, and the function returns {got}. "
                "Leave out other results; take real and imaginary parts of complex ones."
            )
    errors = [
        propagation.errors(each, must_follow=i == 0 or not first) for i, each in enumerate(leaves)
    ]
    laid = [tf.constant(error, each.dtype) for error, each in zip(errors, leaves, strict=True)]
    return Estimate(value, tf.nest.pack_sequence_as(value, laid))
