"""A checker of derivatives of every order, for the tests of qshift and of its users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.api.derivatives import EndsError, derivatives
from qshift.autodiff.layout import differentiable, highest_order


def check_derivatives(
    fn: Callable,
    *args: Any,
    order: int = 2,
    argnums: int | tuple[int, ...] | None = None,
    rtol: float = 1e-6,
    atol: float | None = None,
    step: float = 1e-3,
    seed: int = 0,
) -> None:
    """Compares derivatives of every order up to `order` with differences of the next lower one.

    In the spirit of autograd's ``check_grads``: along a random direction v, the derivative of
    order k, contracted with v, must equal the central difference (of fourth order in the step) of
    the derivative of order k - 1. Derivatives come from `qshift.derivatives`.

    Args:
        fn: A function of tensors that returns one tensor, evaluated exactly (not with shots).
        *args: Where to check it, float64.
        order: The highest order to check.
        argnums: Which arguments to differentiate by; None for all that are floating-point.
        rtol: Relative tolerance.
        atol: Absolute tolerance; None for 1e-6 of the largest number compared, and for what
            rounding makes of the differences.
        step: Step of the differences.
        seed: The seed of the random direction.

    Raises:
        AssertionError: If they disagree; the message names the order and the argument.
        ValueError: If `order` is not a positive integer, an argument not float64, or so large that
            the step is lost when it is added.

    Example:
        >>> @qshift.qnode(qshift.device("simulator"))
        ... def energy(x):
        ...     qml.RX(x[0], wires=0)
        ...     qml.RY(x[1], wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> qshift.check_derivatives(energy, tf.constant([0.4, 0.1], tf.float64), order=3)
    """
    order = highest_order(order, least=1)
    inputs, found = differentiable(args, argnums, whole=True)
    positions = tuple(found)
    for i in positions:
        if inputs[i].dtype != tf.float64:
            raise ValueError(
                f"Argument {i} is {inputs[i].dtype.name}; differences need float64 to mean "
                "anything."
            )
        largest = np.max(np.abs(inputs[i].numpy()), initial=0.0)
        if np.spacing(largest) > 1e-9 * step:
            raise ValueError(
                f"Argument {i} is as large as {largest:.3g}: added to that, steps of {step:g} lose "
                "their digits. Give a larger step, or smaller arguments."
            )
    rng = np.random.default_rng(seed)
    try:
        exact = derivatives(fn, *inputs, order=order, argnums=positions)
    except EndsError as error:
        raise AssertionError(str(error)) from error
    for i in positions:
        direction = rng.normal(size=inputs[i].shape)
        direction /= np.linalg.norm(direction)
        sides = []
        for steps in (1, -1, 2, -2):
            moved = list(inputs)
            moved[i] = inputs[i] + steps * step * direction
            sides.append(derivatives(fn, *moved, order=order - 1, argnums=positions))
        for k in range(1, order + 1):
            near, far = (
                [a.numpy() - b.numpy() for a, b in zip(*map(_flat, pair), strict=True)]
                for pair in ((sides[0][k - 1], sides[1][k - 1]), (sides[2][k - 1], sides[3][k - 1]))
            )
            expected = [(8 * n - f) / (12 * step) for n, f in zip(near, far, strict=True)]
            noise = 1e-12 / step * _largest(*_flat(exact[k - 1]))
            # Differentiating once more appended argument i's axes and its place in the tuple.
            last = _flat(exact[k])[positions.index(i) :: len(positions)]
            for got, want in zip(last, expected, strict=True):
                axes = direction.ndim
                got = np.tensordot(got.numpy(), direction, axes) if axes else got * direction
                np.testing.assert_allclose(
                    got,
                    want,
                    rtol,
                    noise + 1e-6 * _largest(got, want) if atol is None else atol,
                    equal_nan=False,
                    err_msg=f"derivative of order {k}, the last by argument {i}, against "
                    f"differences of order {k - 1}",
                )


def _largest(*arrays: Any) -> float:
    """Returns the largest absolute value that is finite."""
    values = np.abs(np.concatenate([np.ravel(array) for array in arrays]))
    return float(np.max(values[np.isfinite(values)], initial=0.0))


def _flat(entry: Any) -> Any:
    return tf.nest.flatten(entry)
