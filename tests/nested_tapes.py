"""Derivatives from nested tapes, order by order, as a user takes them."""

import numpy as np
import tensorflow as tf


def gradients(fn, x, highest=3):
    """Returns value and derivatives by a number, from gradient tapes."""
    if highest == 0:
        return [fn(x)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        lower = gradients(fn, x, highest - 1)
    return [*lower, tape.gradient(lower[-1], x)]


def assert_all_close(actual, expected, atol=1e-11):
    for order, (a, e) in enumerate(zip(actual, expected, strict=True)):
        np.testing.assert_allclose(a, e, rtol=0, atol=atol, err_msg=f"order {order}")


NO_PFOR = (False,) * 3  # the fastest where only a few numbers are wanted


def jacobians(fn, x, pfor=(True, True, True), batch=False, persistent=True):
    """Returns value and derivatives of orders 1 to len(pfor) from nested tapes."""

    def up_to(k):
        if k == 0:
            return [fn(x)]
        with tf.GradientTape(persistent=persistent and not pfor[k - 1]) as tape:
            tape.watch(x)
            lower = up_to(k - 1)
        jacobian = tape.batch_jacobian if batch else tape.jacobian
        return [*lower, jacobian(lower[-1], x, experimental_use_pfor=pfor[k - 1])]

    return up_to(len(pfor))
