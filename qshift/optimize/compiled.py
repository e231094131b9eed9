"""The function that is minimised, compiled: its value, gradient and Hessian at given points."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from qshift.errors import UnsupportedError


def shots_of(fn: Callable) -> int:
    """Returns the shots of a QNode; 0 of one that is exact, and of other functions."""
    return getattr(getattr(fn, "shots", None), "total_shots", None) or 0


def compiled(fn: Callable, diagonal: bool) -> Callable:
    """Returns the function from a point, an order and the number of the step to value, gradient and
    Hessian, and the errors of value and gradient as `Point` has them.

    These are a float, float64[n] and float64[n, n] for n entries of the point; at order 1, None
    takes the place of the Hessian. With `diagonal`, entries off the Hessian's diagonal are zero.
    Tracing a Hessian takes TensorFlow tenths of a second, so that it is done once.
    """
    import tensorflow as tf  # Late: importing it takes long.

    import qshift
    from qshift.api.affine import AffineCall
    from qshift.api.conversion import as_own
    from qshift.api.derivatives import retracing
    from qshift.autodiff.tracing import call_compiled

    fn = as_own(fn)
    if isinstance(fn, qshift.QNode):
        fn = fn.update(seed=fn.seed)  # a copy that counts its own calls
        fn.calls.in_order = True  # see `derivatives`
    direct = diagonal and isinstance(fn, qshift.QNode)  # the diagonal alone can be evaluated

    def checked(value: Any) -> tf.Tensor:
        if not tf.is_tensor(value) or value.shape.rank:
            got = f"shape {value.shape}" if tf.is_tensor(value) else f"a {type(value).__name__}"
            raise ValueError(f"minimize takes a function whose value is one number, got {got}")
        return value

    def up_to_order(x: Any, order: int) -> tuple:
        function = fn if direct else lambda x: checked(fn(x))
        return qshift.derivatives(function, x, order=order, diagonal=diagonal)

    @cache
    def up_to(order: int) -> Callable:
        return tf.function(lambda x: up_to_order(x, order), autograph=False)

    # Of each order, once it was asked for.
    with_errors: dict[int, Callable[[tf.Tensor, int], tuple] | None] = {}

    def telling_errors(x: tf.Tensor, order: int) -> Callable | None:
        """Returns the function to derivatives with errors, or None for functions, of which errors
        would take long, and exact results."""
        if not isinstance(fn, qshift.QNode) or not fn.shots:
            return None
        call = AffineCall.of(fn, [x], [x], order)
        one = call is not None and call.call.compiled.circuit.num_values == 1
        return directly if one else by_tapes

    def directly(x: tf.Tensor, order: int) -> tuple:
        found = qshift.derivatives(fn, x, order=order, diagonal=diagonal, errors=True)
        return tuple(each.value for each in found), [each.error for each in found[:2]]

    def by_tapes(x: tf.Tensor, order: int) -> tuple:
        """As for a variance; the errors of the entries of a Hessian would take long."""
        found: list[tf.Tensor] = []

        def first(*derivatives: tf.Tensor) -> tuple[tf.Tensor, ...]:
            found.extend(derivatives)
            return derivatives[:2]

        told = qshift.derivatives(
            lambda x: checked(fn(x)), x, order=order, errors=True, wanted=first
        )
        if diagonal and order > 1:
            found[2] = tf.linalg.diag_part(tf.reshape(found[2], [tf.size(x), tf.size(x)]))
        return tuple(found), told.error

    def evaluate(x: np.ndarray, order: int) -> tuple:
        x = tf.constant(x)
        if order not in with_errors:
            with_errors[order] = telling_errors(x, order)
        function = with_errors[order]
        if function:
            try:
                return function(x, order)
            except UnsupportedError:  # the device tells no errors, and has run nothing
                with_errors[order] = None
        return without_errors(x, order), ()

    def without_errors(x: tf.Tensor, order: int) -> tuple:
        if direct:
            return up_to_order(x, order)
        with retracing():
            return call_compiled(up_to(order), [x], lambda: up_to_order(x, order))

    def derivatives(x: np.ndarray, order: int, step: int) -> tuple[tuple, list[float]]:
        if isinstance(fn, qshift.QNode):
            # So that a resumed run draws the same samples, and a Hessian has the gradient's points.
            fn.calls.made = step
        (value, *found), errors = evaluate(x, order)
        found = [np.reshape(d, -1) for d in (checked(value), *found)]
        if len(found) > 2:
            found[2] = np.diag(found[2]) if diagonal else found[2].reshape(x.size, x.size)
        if not all(np.all(np.isfinite(each)) for each in found):
            raise ValueError(f"the function or a derivative of it is not finite at x = {x}")
        value, gradient, hessian = (*(each.astype(float) for each in found), None)[:3]
        sizes = [float(np.linalg.norm(np.ravel(error))) for error in errors]
        return (float(value[0]), gradient, hessian), sizes

    return derivatives
