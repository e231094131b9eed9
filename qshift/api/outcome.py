"""What is computed from derivatives, and how it depends on them, which decides what shots do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.api.affine import AffineCall, Found, of_result, started

_SCALES = (1.0, -1.0, 1e3, -1e-3)  # of the made-up derivatives that a function is tried at


class Outcome:
    """A function of the derivatives of a call.

    Args:
        function: From the value, the gradient, and so on, as a user gives it: it returns a
            floating-point tensor, or a nest of them.
        laid: From derivatives of a call's raw values, float64[A, M], to these tensors.
        shape: (A, M).
    """

    def __init__(
        self,
        function: Callable,
        laid: Callable[[tf.Tensor], Sequence[Any]],
        shape: tuple[int, int],
    ) -> None:
        self._function, self._laid, self._shape = function, laid, shape
        self._example: Any = None  # of what it returns
        self._near = 0.0  # relative rounding errors

    def __call__(self, derivatives: np.ndarray) -> Any:
        """Returns what the function does.

        Raises:
            ValueError: If that is not a floating-point tensor, or a nest of them.
        """
        return self._called(tf.constant(derivatives))

    def slopes(self, derivatives: np.ndarray) -> np.ndarray:
        """Returns how its entries change with the derivatives, float64[B, M, A], to first order.

        Raises:
            ValueError: If it does not depend on them.
        """
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            given = tf.constant(derivatives)
            tape.watch(given)
            flat = _flat(self._called(given))
        count = int(flat.shape[0])
        rows = [tape.gradient(flat, given, row) for row in tf.eye(count, dtype=flat.dtype)]
        if all(row is None for row in rows):
            raise ValueError(
                "wanted= returns what does not follow from the derivatives, as far as TensorFlow "
                "can see. Compute it from the tensors that it is given, without .numpy()."
            )
        found = [np.zeros(self._shape) if row is None else row.numpy() for row in rows]
        return np.array(found).transpose(0, 2, 1)

    def straight(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the slopes and the entries at derivatives of zero, float64[B, M, A] and
        float64[B], of an affine function; None if it is not affine.

        The function is tried at derivatives that are made up, large and small ones of both signs.

        Raises:
            ValueError: If the function does not depend on the derivatives.
        """
        made_up = np.random.default_rng(0).normal(size=(len(_SCALES), *self._shape))
        made_up[1] = made_up[0]
        try:
            weights = self.slopes(made_up[0])
            tried = [_flat(self(scale * at)) for scale, at in zip(_SCALES, made_up, strict=True)]
        except tf.errors.InvalidArgumentError:  # there may be no Cholesky factors, for instance
            traced = tf.function(self._called, autograph=False)
            traced.get_concrete_function(tf.TensorSpec(self._shape, tf.float64))  # shapes must fit
            return None
        if any(each.shape != tried[0].shape for each in tried):
            return None
        found = np.array([each.numpy() for each in tried])
        moved = np.array(_SCALES)[:, None, None] * made_up
        linear = np.einsum("bma,kam->kb", weights, moved)
        ends = found[0] - linear[0]
        sizes = np.abs(ends) + np.einsum("bma,kam->kb", np.abs(weights), np.abs(moved))
        sizes += 1e-2 * sizes[0]  # the entries at zero are as exact as these
        errors = np.abs(found - ends - linear)
        if not weights.any() or not (errors <= self._near * sizes).all():
            return None
        return weights, ends

    def packed(self, entries: np.ndarray) -> Any:
        """Returns entries float64[B] as the function lays them out, after it was called."""
        leaves = tf.nest.flatten(self._example)
        sizes = [math.prod(leaf.shape) for leaf in leaves]
        parts = np.split(entries, np.cumsum(sizes)[:-1])
        laid = [
            tf.constant(part.reshape(leaf.shape), leaf.dtype)
            for part, leaf in zip(parts, leaves, strict=True)
        ]
        return tf.nest.pack_sequence_as(self._example, laid)

    def _called(self, derivatives: tf.Tensor) -> Any:
        given = self._laid(derivatives)
        self._example = result = self._function(*given)
        require_floats(result)
        leaves = tf.nest.flatten([given, result])
        self._near = 1e-9 if all(leaf.dtype == tf.float64 for leaf in leaves) else 1e-4
        return result


def run(call: AffineCall, order: int, function: Callable, laid: Callable) -> Found:
    """Runs a call for what a function makes of its value and derivatives up to an order.

    If the function is affine, only derivatives that it takes are evaluated, and shots are spread
    for what it returns. Otherwise a first share of the shots shows what its result depends on, and
    the others are spread for that.

    Args:
        call: The call. Every source must have a Jacobian.
        order: The order.
        function: The function.
        laid: From tensors like the arrays that `AffineCall.derivatives` returns to its arguments.

    Returns:
        What it returns, and the standard errors of that.
    """
    levels, tables = call.levels(order)
    indices = tuple(index for level in levels for index in level)
    jacobian = tf.constant(call.all_slopes() if order else np.empty((0, 0)))
    values = call.call.circuit.num_values
    readout = tf.constant(of_result(call.call, np.eye(values)[:, None, :, None])[0, :, 0])

    def by_entries(found: tf.Tensor) -> Sequence[Any]:
        derivatives = []
        for k, part in enumerate(tf.split(found, [len(level) for level in levels])):
            derivative = tf.tensordot(part, readout, 1)
            for table in reversed(tables[:k]):  # from all a + j to all a
                derivative = tf.tensordot(tf.gather(derivative, table), jacobian, [[1], [0]])
            derivatives.append(derivative[0])
        return laid(derivatives)

    outcome, program = Outcome(function, by_entries, (len(indices), values)), call.call.program
    affine = outcome.straight()
    if affine is not None:
        weights, ends = affine
        taken = np.flatnonzero(weights.any(axis=(0, 1))).tolist()
        evaluation = started(call.call, errors=call.errors)
        sums, variances = evaluation.sums(tuple(indices[a] for a in taken), weights[:, :, taken])
        value = outcome.packed(ends + sums[0])
        return Found(value, outcome.packed(np.sqrt(variances[0])) if call.errors else None)

    def weigh(found: np.ndarray) -> np.ndarray:
        return np.stack([outcome.slopes(each.T) for each in found])

    if program.steers:
        evaluation = started(call.call, errors=call.errors, pilot=True)
        found = evaluation.steered(indices, weigh)
    else:
        evaluation = started(call.call, errors=call.errors)
        found = evaluation.partials(indices)
    if not call.errors:
        return Found(outcome(found[0].T), None)
    owed = np.einsum("bma,knma->knmb", weigh(found)[0], evaluation.deviations(indices))
    errors = np.sqrt((owed**2).sum(axis=(0, 1, 2)))
    return Found(outcome(found[0].T), outcome.packed(errors))


def require_floats(result: Any) -> None:
    """Raises ValueError unless a user's function returned a floating-point tensor, or a nest of
    them."""
    for leaf in tf.nest.flatten(result):
        if not tf.is_tensor(leaf) or not leaf.dtype.is_floating:
            got = leaf.dtype.name if tf.is_tensor(leaf) else type(leaf).__name__
            raise ValueError(
                f"wanted= must return floating-point tensors, computed from the derivatives, and "
                f"it returned {got}. Take real and imaginary parts of complex numbers."
            )


def _flat(result: Any) -> tf.Tensor:
    """Returns all entries, float64[B]."""
    leaves = [tf.reshape(tf.cast(leaf, tf.float64), [-1]) for leaf in tf.nest.flatten(result)]
    return tf.concat(leaves, 0) if leaves else tf.zeros([0], tf.float64)
