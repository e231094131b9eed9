"""How a quantum function reads its inputs: one sample at a time, or a whole batch.

Found out by a rehearsal with made-up samples, one by one and together; nothing is executed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from qshift.rehearsal import rehearsal

_SAMPLES = 3

Shapes = tuple[int, ...] | dict[str, "Shapes"]


@dataclass(frozen=True)
class Reading:
    """How a quantum function reads samples, float[features] each, and what it makes of them.

    Attributes:
        features: Length of a sample.
        whole: Whether it takes a batch, float[N, features], and does to each sample what it does
            to it alone. Otherwise it takes one sample.
        shape: Of its results for one sample, joined; a dict of shapes if it returns a dict.
    """

    features: int
    whole: bool
    shape: Shapes


def read(
    function: Callable, name: str, features: int, dtype, weights: Mapping[str, tf.TensorSpec]
) -> Reading:
    """Finds out how a function of (samples, weights) that calls a qnode reads the samples.

    Args:
        function: The function.
        name: What messages call it.
        features: Length of a sample.
        dtype: Of the samples.
        weights: Shapes and dtypes of the weights.

    Raises:
        ValueError: If it takes neither one sample nor a batch, or makes one result of a batch.
    """
    random = np.random.default_rng(0)
    amplitudes = random.uniform(0.1, 1, (_SAMPLES, features))
    amplitudes /= np.linalg.norm(amplitudes, axis=1, keepdims=True)
    bits = random.integers(0, 2, (_SAMPLES, features))
    with tf.init_scope(), rehearsal():
        values = {
            name: tf.constant(random.uniform(0.1, 1, spec.shape), spec.dtype)
            for name, spec in weights.items()
        }
        failed = []
        # Some encodings want samples of norm one, some want them to consist of zeros and ones.
        for kind in (amplitudes, bits):
            samples = tf.constant(kind, dtype)
            alone, error = _attempt(lambda x=samples: _stacked([function(y, values) for y in x]))
            together, batch_error = _attempt(lambda x=samples: joined(function(x, values)))
            if error is None:
                whole = batch_error is None and _same(together, alone)
                return Reading(features, whole, _shape(alone))
            if batch_error is None:
                _require_rows(together, name)
                return Reading(features, True, _shape(together))
            failed.append((error, batch_error))
    error, batch_error = failed[0]
    if str(error) == str(batch_error):
        raise error
    raise ValueError(
        f"{name} takes neither one sample, of shape ({features},): {error} "
        f"Nor a batch of them, of shape ({_SAMPLES}, {features}): {batch_error}"
    ) from error


def joined(results):
    """Flattens and concatenates several results [N, ...] to one [N, M]; in a dict, each entry's."""
    if isinstance(results, dict):
        return {name: joined(part) for name, part in results.items()}
    if not isinstance(results, list | tuple):
        return results
    parts = tf.nest.flatten(results)
    return tf.concat([tf.reshape(p, [-1, math.prod(p.shape[1:])]) for p in parts], 1)


def map_shapes(function: Callable, shapes: Shapes, *others):
    """Applies a function to a shape, or to each shape of a dict."""
    if isinstance(shapes, dict):
        return {
            name: map_shapes(function, shape, *(other[name] for other in others))
            for name, shape in shapes.items()
        }
    return function(shapes, *others)


def _stacked(results):
    return joined(tf.nest.map_structure(lambda *rows: tf.stack(rows), *results))


def _attempt(call: Callable):
    """Returns (result, None) or (None, the error)."""
    try:
        return call(), None
    except Exception as error:  # whatever a user's function may raise
        return None, error


def _shape(outputs) -> Shapes:
    return tf.nest.map_structure(lambda output: tuple(output.shape[1:]), outputs)


def _same(together, alone) -> bool:
    together, alone = tf.nest.flatten(together), tf.nest.flatten(alone)
    return len(together) == len(alone) and all(
        a.shape == b.shape and _agree(a.numpy(), b.numpy())
        for a, b in zip(together, alone, strict=True)
    )


def _agree(a, b) -> bool:
    """Whether numbers agree but for rounding in single precision, whatever their scale."""
    finite = np.abs(b[np.isfinite(b)])
    return np.allclose(a, b, 1e-5, 1e-5 * np.max(finite, initial=0.0), equal_nan=True)


def _require_rows(outputs, name):
    for output in tf.nest.flatten(outputs):
        if output.shape[:1] != [_SAMPLES]:
            raise ValueError(
                f"{name} makes a result of shape {tuple(output.shape)} of a batch of {_SAMPLES} "
                "samples, but there must be one result per sample. Write inputs[..., i] for "
                "feature i of every sample."
            )
