"""Derivatives from nested TensorFlow tapes, alike for all who have them."""

import tensorflow as tf


def nested_tapes(function, order: int, pfor: bool = True):
    """Returns x -> (value, gradient, ...) up to an order, from as many tapes."""

    def up_to(x, k):
        if k == 0:
            return (function(x),)
        # PennyLane's gradients need a persistent tape where jacobian has no pfor.
        with tf.GradientTape(persistent=k > 1 and not pfor) as tape:
            tape.watch(x)
            lower = up_to(x, k - 1)
        if k == 1:
            return (*lower, tape.gradient(lower[-1], x))
        return (*lower, tape.jacobian(lower[-1], x, experimental_use_pfor=pfor))

    return lambda x: up_to(x, order)
