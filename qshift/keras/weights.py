"""A user's specifications of a layer's weights: shapes, initializers, regularizers, constraints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras

_SERIALIZABLE = {
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}
_PLAIN = ("trainable", "dtype")


def shape(size: Any) -> tuple[int, ...]:
    """Returns the shape of a weight, given as a sequence, or as an int: n > 1 is a vector, 1 and 0
    are scalars."""
    if isinstance(size, Iterable):
        return tuple(int(n) for n in size)
    return (int(size),) if size > 1 else ()


def specs(weight_specs: Any, weight_shapes: Any) -> dict[str, dict[str, Any]]:
    """Returns the specifications of weights, with Keras's objects in place of their names.

    Args:
        weight_specs: Name of a weight -> keywords of `keras.layers.Layer.add_weight`.
        weight_shapes: Name of a weight -> shape, for all weights.

    Raises:
        ValueError: If no weight has a name, or `add_weight` does not have a keyword.
    """
    specs = {}
    for weight, spec in weight_specs.items():
        if weight not in weight_shapes:
            raise ValueError(
                f"weight_specs names {weight!r}, which is not a weight: {list(weight_shapes)}."
            )
        unknown = [key for key in spec if key not in _SERIALIZABLE and key not in _PLAIN]
        if unknown:
            raise ValueError(
                f"weight_specs[{weight!r}] has {unknown}; expected some of "
                f"{[*_SERIALIZABLE, *_PLAIN]}."
            )
        specs[weight] = {
            key: _SERIALIZABLE[key].get(value) if key in _SERIALIZABLE else value
            for key, value in spec.items()
        }
    return specs


def serialized(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the specifications from `specs` as settings that Keras can save."""
    return {
        name: {
            key: _SERIALIZABLE[key].serialize(value) if key in _SERIALIZABLE else value
            for key, value in spec.items()
        }
        for name, spec in specs.items()
    }
