"""How a quantum function reads its inputs: one sample at a time, or a whole batch.

The function is traced for a sample and for a batch; no circuit runs. It is called for a whole batch
only if every op from inputs to results is known to treat the samples alike and separately, and if
its results for made-up samples are the same as for one sample after the other. Otherwise it is
called for one sample at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.dry_run import rehearsal
from qshift.keras.row_independence import are_separate, has_own_gradients
from qshift.tensorflow_internals import deferred_captures

Shapes = tuple[int, ...] | dict[str, "Shapes"]


@dataclass(frozen=True)
class Reading:
    """How a quantum function reads samples, [features] each, and the shape of its results.

    Attributes:
        features: Length of a sample.
        whole: Whether the function takes a batch, [N, features], and treats each sample as if it
            were alone. Otherwise it takes one sample.
        shape: The shape of the joined results for one sample; a dict of shapes if the function
            returns a dict.
        as_batch: Whether the function takes one sample as a batch of one, [1, features].
        traceable: Whether the function can be traced. Otherwise it works in eager mode only, as it
            reads the numbers in tensors.
        own_gradients: Whether something computed from the samples has a `tf.custom_gradient`,
            which `tf.vectorized_map` would drop.
    """

    features: int
    whole: bool
    shape: Shapes
    as_batch: bool = False
    traceable: bool = True
    own_gradients: bool = False


def read(
    function: Callable,
    name: str,
    features: int,
    dtype: tf.DType,
    weights: Mapping[str, tf.TensorSpec],
) -> Reading:
    """Finds out how a function of (samples, weights) that calls a qnode reads the samples.

    Args:
        function: The function.
        name: What messages call it.
        features: Length of a sample.
        dtype: The dtype of the samples.
        weights: Shapes and dtypes of the weights.

    Raises:
        ValueError: If the function takes neither one sample nor a batch, if it returns one result
            for a whole batch, or if it takes only batches and its results for a sample depend on
            the other samples.
    """
    rows = _odd_size(features, weights)

    def traced(*shape: int) -> tuple[Any, Any]:
        return _attempt(lambda: _Traced(function, tf.TensorSpec(shape, dtype), weights))

    with tf.init_scope():
        sample, error = traced(features)
        batch, batch_error = traced(rows, features)
        if error is None:
            whole = batch_error is None and batch.is_separate and _same(batch, sample)
            return Reading(features, whole, sample.shape, own_gradients=sample.has_own_gradients)
        if batch_error is not None:
            return _read_eagerly(function, name, features, dtype, weights)
        _require_rows(batch.outputs, name, rows)
        # Batches of another size show whether results depend on the number of samples.
        whole, size = batch.is_separate, 2 if batch.is_separate else 1
        smaller, cannot = traced(size, features)
        if not (whole if cannot else _same(batch, smaller)):
            raise _mixing(name)
        return Reading(
            features,
            whole,
            batch.shape,
            as_batch=not whole,
            own_gradients=batch.has_own_gradients,
        )


class _Traced:
    """A function of one sample, or of a batch, traced as a graph.

    Only the ops that the results need are run, so that no variables are assigned.

    Attributes:
        outputs: The joined results, [N, ...]; N is one for one sample.
        is_separate: Whether the function is certain to treat the samples of a batch alike and
            separately.
        has_own_gradients: See `own_gradients` of `Reading`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: tf.TensorSpec,
        weights: Mapping[str, tf.TensorSpec],
    ) -> None:
        def call(inputs: tf.Tensor, *values: tf.Tensor) -> Any:
            with rehearsal():
                results = function(inputs, dict(zip(weights, values, strict=True)))
            results = tf.nest.map_structure(tf.convert_to_tensor, results)
            if inputs.shape.rank == 1:
                results = tf.nest.map_structure(lambda result: result[None], results)
            return joined(results)

        self._graph = tf.compat.v1.wrap_function(call, [inputs, *weights.values()])
        self.inputs = inputs
        self._weights = weights
        self.outputs = self._graph.structured_outputs
        self.is_separate = inputs.shape.rank == 2 and are_separate(
            tf.nest.flatten(self.outputs), self._graph.inputs[0]
        )
        self.has_own_gradients = has_own_gradients(self._graph.inputs[0])
        self._run: Callable[..., Any] | None = None

    @property
    def shape(self) -> Shapes:
        return _shape(self.outputs)

    def __call__(self, samples: np.ndarray) -> list[np.ndarray]:
        """Returns the function's results for samples [N, features]. Samples are passed in batches
        of the size that the function was traced for; a last, smaller batch is left out."""
        if self._run is None:
            self._run = self._graph.prune(self._graph.inputs, tf.nest.flatten(self.outputs))
        random = np.random.default_rng(1)
        values = [
            tf.constant(random.uniform(0.1, 1, spec.shape), spec.dtype)
            for spec in self._weights.values()
        ]
        for take in deferred_captures(self._graph.graph):  # inputs to compute anew at each run
            values += tf.nest.flatten(take())
        size = self.inputs.shape[0] if self.inputs.shape.rank == 2 else 1
        samples = samples[: len(samples) // size * size].reshape([-1, *self.inputs.shape])
        run = self._run
        parts = [run(tf.constant(x, self.inputs.dtype), *values) for x in samples]
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def _odd_size(features: int, weights: Mapping[str, Any]) -> int:
    """Returns a prime number that divides the size of no other axis: a batch of that size cannot be
    mistaken for another axis."""
    sizes = [features, *itertools.chain(*(spec.shape for spec in weights.values()))]
    return next(
        n
        for n in itertools.count(3)
        if all(n % k for k in range(2, n)) and all(size % n for size in sizes if size)
    )


def _same(batch: _Traced, other: _Traced) -> bool:
    """Whether two traces of a function, for batches of different sizes, give the same results for
    made-up samples.
    """
    agreed = []
    rows, features = batch.inputs.shape
    for samples, tolerance in _made_up(rows, features, batch.inputs.dtype.is_complex):
        together, error = _attempt(lambda x=samples: batch(x))
        apart, other_error = _attempt(lambda x=samples: other(x))
        if error is None and other_error is None:  # functions may refuse samples of some kinds
            agreed.append(_agree(together, apart, tolerance))
    return bool(agreed) and all(agreed)


def _made_up(rows: int, features: int, is_complex: bool) -> Iterator[Any]:
    """Yields samples, and the tolerance within which results for them have to agree."""
    random = np.random.default_rng(0)
    shape = rows, features
    phases = np.exp(1j * random.uniform(-3, 3, shape)) if is_complex else 1.0
    ordinary = random.uniform(0.1, 1, shape) * phases
    yield ordinary / np.linalg.norm(ordinary, axis=1, keepdims=True), 1e-5
    # Samples with large and small numbers of both signs, zeros, and samples with opposite signs.
    wide = random.normal(size=shape) * 10 ** np.linspace(1.5, -2, rows)[:, None] * phases
    yield wide, 1e-3
    yield np.concatenate([wide[:1], 0 * wide[:1], -wide[: rows - 2]]), 1e-3


def _agree(together: Sequence[np.ndarray], apart: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether numbers of any scale agree up to rounding in single precision."""

    def agree(a: Any, b: Any) -> bool:
        if a.shape[1:] != b.shape[1:]:
            return False
        finite = np.abs(b[np.isfinite(b)])
        scale = np.max(finite, initial=0.0)
        return np.allclose(a[: len(b)], b, tolerance, tolerance * scale, equal_nan=True)

    return len(together) == len(apart) and all(map(agree, together, apart))


def _read_eagerly(
    function: Callable[..., Any],
    name: str,
    features: int,
    dtype: tf.DType,
    weights: Mapping[str, Any],
) -> Reading:
    """Returns the `Reading` of a function that cannot be traced, as it reads numbers in tensors."""
    random = np.random.default_rng(0)
    shape = _odd_size(features, weights), features
    amplitudes = random.uniform(0.1, 1, shape)
    amplitudes /= np.linalg.norm(amplitudes, axis=1, keepdims=True)
    bits = random.integers(0, 2, shape)
    values = {
        name: tf.constant(random.uniform(0.1, 1, spec.shape), spec.dtype)
        for name, spec in weights.items()
    }
    failed = []
    with rehearsal():
        # Some encodings need samples of norm one, some need samples of zeros and ones.
        for kind in (amplitudes, bits):
            samples = tf.constant(kind, dtype)
            alone, error = _attempt(lambda x=samples: _stacked([function(y, values) for y in x]))
            if error is None:
                return Reading(features, False, _shape(alone), traceable=False)
            together, batch_error = _attempt(lambda x=samples: joined(function(x, values)))
            if batch_error is None:
                _require_rows(together, name, shape[0])
                ones = [function(y[None], values) for y in samples]
                alone = tf.nest.map_structure(lambda *rows: tf.concat(rows, 0), *map(joined, ones))
                one, other = (
                    [x.numpy() for x in tf.nest.flatten(each)] for each in (together, alone)
                )
                if not _agree(one, other, 1e-5):
                    raise _mixing(name)
                return Reading(features, False, _shape(together), True, traceable=False)
            failed.append((error, batch_error))
    error, batch_error = failed[0]
    if str(error) == str(batch_error):
        raise error
    raise ValueError(
        f"{name} takes neither one sample, of shape ({features},): {error} "
        f"Nor a batch of them, of shape {shape}: {batch_error}"
    ) from error


def _mixing(name: str) -> ValueError:
    return ValueError(
        f"{name} takes a batch only, and what it makes of a sample depends on the other samples, "
        "or on how many there are, so a model would give other results for other batches. Write "
        "it for one sample, where inputs[i] is feature i, or write inputs[..., i] and reduce "
        "along axis=-1 only; what works on whole batches belongs into a layer before."
    )


def joined(results: Any) -> Any:
    """Flattens and concatenates several results [N, ...] to one [N, M]; in a dict, those of each
    entry."""
    if isinstance(results, dict):
        return {name: joined(part) for name, part in results.items()}
    if not isinstance(results, list | tuple):
        return results
    parts = tf.nest.flatten(results)
    return tf.concat([tf.reshape(p, [-1, math.prod(p.shape[1:])]) for p in parts], 1)


def map_shapes(function: Callable, shapes: Shapes, *others: Any) -> Any:
    """Applies a function to a shape, or to each shape of a dict."""
    if isinstance(shapes, dict):
        return {
            name: map_shapes(function, shape, *(other[name] for other in others))
            for name, shape in shapes.items()
        }
    return function(shapes, *others)


def _stacked(results: Sequence[Any]) -> Any:
    return joined(tf.nest.map_structure(lambda *rows: tf.stack(rows), *results))


def _attempt(call: Callable) -> tuple[Any, Any]:
    """Returns (result, None) or (None, the error)."""
    try:
        return call(), None
    except Exception as error:  # whatever a user's function may raise
        return None, error


def _shape(outputs: Any) -> Shapes:
    return tf.nest.map_structure(lambda output: tuple(output.shape[1:]), outputs)


def _require_rows(outputs: Any, name: str, rows: int) -> None:
    for output in tf.nest.flatten(outputs):
        if output.shape[:1] != [rows]:
            raise ValueError(
                f"{name} makes a result of shape {tuple(output.shape)} of a batch of {rows} "
                "samples, but there must be one result per sample. Write inputs[..., i] for "
                "feature i of every sample."
            )
