"""What is computed from derivatives, and how it depends on them, which decides what shots do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.api.affine import AffineCall, Found, of_result, started
from qshift.api.by_arguments import ByArguments
from qshift.autodiff.dataflow import are_affine
from qshift.rules.cost import Sums

_SCALES = (1.0, -1.0, 1e3, -1e-3)  # of the made-up derivatives that a function is tried at


class Outcome:
    """A function of the derivatives of a call.

    Args:
        function: From the value, the gradient, and so on, as a user gives it: it returns a
            floating-point tensor, or a nest of them.
        by_arguments: From the derivatives of the call's result by its angles to those by its
            arguments.
        readout: float64[M, *shape], the result for each raw value alone.
        laid: From derivatives of each order by the arguments to what the function takes: for each
            order k a tensor for every k of the arguments, in nested tuples.

    Attributes:
        indices: The derivatives by the angles.
    """

    def __init__(
        self,
        function: Callable,
        by_arguments: ByArguments,
        readout: np.ndarray,
        laid: Callable[[Sequence[np.ndarray]], Sequence[Any]],
    ) -> None:
        self._function, self._laid = function, laid
        self._by_arguments, self._readout = by_arguments, readout
        self.indices = by_arguments.indices
        self._shape = len(self.indices), len(readout)
        self._example: Any = None  # of what it returns
        self._near = 0.0  # relative rounding errors

    def __call__(self, derivatives: np.ndarray) -> Any:
        """Returns what the function makes of derivatives of raw values, float64[A, M].

        Raises:
            ValueError: If that is not a floating-point tensor, or a nest of them.
        """
        return self._called(self._given(derivatives))

    def slopes(self, derivatives: np.ndarray) -> np.ndarray:
        """Returns how its entries change with the derivatives, float64[B, M, A], to first order."""
        tape, given, flat = self._recorded(derivatives)
        rows = [tape.gradient(flat, given, row) for row in np.eye(int(flat.shape[0]))]
        by_arguments = [self._joined(k, [row[k] for row in rows]) for k in range(len(given))]
        found = self._by_arguments.backwards(by_arguments)  # [A, B, *shape]
        axes = range(1, self._readout.ndim)
        return np.tensordot(found, self._readout, ([1 + i for i in axes], axes)).transpose(1, 2, 0)

    def straight(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the slopes and the entries at derivatives of zero, float64[B, M, A] and
        float64[B], of an affine function; None if it is not affine.

        The function is tried at derivatives that are made up, large and small ones of both signs,
        which finds its slopes; that these are the same everywhere follows from its ops.

        Raises:
            ValueError: If the function does not depend on the derivatives.
        """
        made_up = np.random.default_rng(0).normal(size=(len(_SCALES), *self._shape))
        made_up[1] = made_up[0]
        try:
            weights = self.slopes(made_up[0])
            scaled = [scale * at for scale, at in zip(_SCALES, made_up, strict=True)]
            signs = (sign * at for sign in (1.0, -1.0) for at in scaled)
            if not weights.any() and not any(map(self._follows, signs)):
                raise ValueError(
                    "wanted= returns what does not follow from the derivatives, as far as "
                    "TensorFlow can see. Compute it from the tensors that it is given, without "
                    ".numpy(), and by functions that have gradients: tf.floor and tf.stop_gradient "
                    "have none."
                )
            tried = [_flat(self(at)) for at in scaled]
        except tf.errors.InvalidArgumentError:  # there may be no Cholesky factors, for instance
            self._traced(made_up[0])  # shapes must fit
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
        try:
            returned, given = self._traced(made_up[0])
        except Exception:  # it reads numbers, or branches by them
            return None
        return (weights, ends) if are_affine(returned, given) else None

    def taken(self, weights: np.ndarray) -> Sums:
        """Returns the sums of derivatives with weights float64[B, M, A], without the derivatives
        whose weights are all zero."""
        taken = np.flatnonzero(weights.any(axis=(0, 1))).tolist()
        return Sums(tuple(self.indices[a] for a in taken), weights[:, :, taken])

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

    def _given(self, derivatives: np.ndarray) -> Sequence[Any]:
        """Returns what the function takes."""
        return self._laid(self._by_arguments(np.tensordot(derivatives, self._readout, 1)))

    def _joined(self, k: int, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        """Returns B rows of slopes by the k-th derivatives, each a list of tensors, for every k of
        the arguments, as float64[B, *shape, X, ..., X]; those that are None are zeros."""
        shape = self._readout.shape[1:]
        blocks = itertools.product(self._by_arguments.blocks, repeat=k)
        joined = np.zeros((len(rows), *shape, *[self._by_arguments.size] * k))
        for i, block in enumerate(blocks):
            places: Any = (..., *block)
            part = joined[places]
            for b, row in enumerate(rows):
                if row[i] is not None:
                    part[b] = np.reshape(tf.convert_to_tensor(row[i]), part.shape[1:])
        return joined

    def _follows(self, derivatives: np.ndarray) -> bool:
        """Whether TensorFlow sees that it depends on derivatives."""
        tape, given, flat = self._recorded(derivatives)
        return any(each is not None for each in tf.nest.flatten(tape.gradient(flat, given)))

    def _recorded(self, derivatives: np.ndarray) -> tuple[tf.GradientTape, list, tf.Tensor]:
        """Returns a tape that has recorded the function, what the function took, in a list of
        tensors for each order, and the entries that it returned."""
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            given = self._given(derivatives)
            tape.watch(given)
            flat = _flat(self._called(given))
        return tape, [tf.nest.flatten(each) for each in given], flat

    def _traced(self, derivatives: np.ndarray) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the tensors that the function returns in a graph, and those that it takes."""
        function = getattr(self._function, "python_function", self._function)
        traced = tf.function(lambda given: function(*given), autograph=False)
        given = tf.nest.map_structure(tf.TensorSpec.from_tensor, self._given(derivatives))
        graph = traced.get_concrete_function(given).graph
        # Further inputs are tensors of elsewhere.
        return graph.outputs, graph.inputs[: len(tf.nest.flatten(given))]

    def _called(self, given: Sequence[Any]) -> Any:
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
        laid: From the arrays that `AffineCall.derivatives` returns to the function's arguments.

    Returns:
        What it returns, and the standard errors of that.
    """
    outcome, program = _outcome(call, order, function, laid), call.call.program
    affine, indices = outcome.straight(), outcome.indices
    if affine is not None:
        evaluation = started(call.call, errors=call.errors)
        sums, variances = evaluation.sums(*outcome.taken(affine[0]))
        value = outcome.packed(affine[1] + sums[0])
        return Found(value, outcome.packed(np.sqrt(variances[0])) if call.errors else None)

    def weigh(found: np.ndarray) -> np.ndarray:
        return np.stack([outcome.slopes(each.T) for each in found])

    def weigh_first(found: np.ndarray) -> np.ndarray:
        try:
            return weigh(found)
        except tf.errors.InvalidArgumentError:  # of few samples there may be no Cholesky factors
            return np.zeros((len(found), 1, *found.shape[1:]))

    if program.steers:
        evaluation = started(call.call, errors=call.errors, pilot=True)
        found = evaluation.steered(indices, weigh_first)
    else:
        evaluation = started(call.call, errors=call.errors)
        found = evaluation.partials(indices)
    if not call.errors:
        return Found(outcome(found[0].T), None)
    owed = np.einsum("bma,knma->knmb", weigh(found)[0], evaluation.deviations(indices))
    errors = np.sqrt((owed**2).sum(axis=(0, 1, 2)))
    return Found(outcome(found[0].T), outcome.packed(errors))


def sums_of(call: AffineCall, order: int, function: Callable, laid: Callable) -> Sums:
    """Returns what `run` evaluates, without running anything.

    Args:
        call, order, function, laid: As for `run`.
    """
    outcome = _outcome(call, order, function, laid)
    affine = outcome.straight()
    if affine is None:
        return Sums(outcome.indices, None)
    return outcome.taken(affine[0])


def _outcome(call: AffineCall, order: int, function: Callable, laid: Callable) -> Outcome:
    raw = np.eye(call.call.circuit.num_values)
    readout = of_result(call.call, raw[:, None, :, None])[0, :, 0]
    return Outcome(function, call.by_arguments(order), readout, laid)


def require_floats(result: Any) -> None:
    """Raises ValueError unless a user's function returned a floating-point tensor, or a nest of
    them."""
    for leaf in tf.nest.flatten(result):
        if not tf.is_tensor(leaf) or not leaf.dtype.is_floating:
            got = leaf.dtype.name if tf.is_tensor(leaf) else type(leaf).__name__
            hint = "Return what TensorFlow computes from the tensors that it is given."
            if tf.is_tensor(leaf) and leaf.dtype.is_complex:
                hint = "Take real and imaginary parts of complex numbers."
            raise ValueError(
                f"wanted= must return floating-point tensors, computed from the derivatives, and "
                f"it returned {got}. {hint}"
            )


def _flat(result: Any) -> tf.Tensor:
    """Returns all entries, float64[B]."""
    leaves = [tf.reshape(tf.cast(leaf, tf.float64), [-1]) for leaf in tf.nest.flatten(result)]
    return tf.concat(leaves, 0) if leaves else tf.zeros([0], tf.float64)
