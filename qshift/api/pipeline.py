"""PennyLane's transforms of a qnode's tape, and a check that they keep the tensors in it.

Some transforms leave gates out where angles happen to cancel, turn tensors into numbers, or compute
angles by formulas that have no derivative at special angles. Derivatives would then be None, zero
or NaN, without a word from PennyLane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from pennylane.tape import QuantumScript

from qshift.errors import UnsupportedError
from qshift.tensorflow_internals import is_watched
from qshift.tensors import is_tensor


def apply(pipeline: Any, tape: QuantumScript) -> tuple[tuple[QuantumScript, ...], Callable]:
    """Applies the transforms of a qnode to its tape.

    Args:
        pipeline: PennyLane's pipeline of transforms.
        tape: The tape.

    Returns:
        The pipeline's result: tapes, and a function from their results to the qnode's.

    Raises:
        UnsupportedError: If a tensor that something may differentiate by is no longer in the tapes,
            if one of PennyLane's transforms computes angles from it that are not affine in it, or
            if a transform reads numbers in a graph that are not known yet.
    """
    if not len(pipeline) or pipeline.has_final_transform:
        # A final transform returns something else than the circuit's results.
        return pipeline((tape,))
    moving = [p for p in _tensors([tape]) if _may_be_watched(p)]
    if not moving:
        return _transformed(pipeline, tape)
    watch = {"persistent": True, "watch_accessed_variables": False}
    with tf.GradientTape(**watch) as second, tf.GradientTape(**watch) as first:
        second.watch(moving)
        first.watch(moving)
        made = _transformed(pipeline, tape)
        tensors = _tensors(made[0])
        derived = [p for p in tensors if not any(p is each for each in moving)]
        slopes = first.gradient(derived, moving) if derived else [None] * len(moving)
    splits = any(_name(each) in _SPLITTING and _is_pennylanes(each) for each in pipeline)
    kept = tensors + [p for p in moving if splits and not _is_angle(p, tape)]
    for tensor, slope in zip(moving, slopes, strict=True):
        if slope is None and not any(tensor is each for each in kept):
            raise UnsupportedError(
                f"A parameter of the circuit is lost in {_names(pipeline)}, so there would be no "
                "derivative by it: a gate was left out because of its angle, or a number made of "
                f"the angle. {_WAY_OUT}"
            )
    slopes = [slope for slope in slopes if slope is not None]
    bent = bool(slopes) and any(s is not None for s in second.gradient(slopes, moving))
    if bent and all(_is_pennylanes(each) for each in pipeline):
        raise UnsupportedError(
            f"Angles are computed from others in {_names(pipeline)}, by formulas that have no "
            f"derivative at special angles. {_WAY_OUT}"
        )
    return made


_WAY_OUT = (
    "Leave the transform out (qshift compiles each circuit once, whatever its angles), or apply it "
    "where all angles are constants."
)


def _may_be_watched(parameter: Any) -> bool:
    return not tf.executing_eagerly() or is_watched(tf.convert_to_tensor(parameter))


def _transformed(pipeline: Any, tape: QuantumScript) -> Any:
    try:
        return pipeline((tape,))
    except (AttributeError, TypeError, NotImplementedError, ImportError) as error:
        if not tf.executing_eagerly():
            raise UnsupportedError(
                f"{_names(pipeline)} looked at numbers, or had them computed, that are not known "
                f"while TensorFlow traces a function ({error}). {_WAY_OUT}"
            ) from error
        if not all(_is_pennylanes(each) for each in pipeline):
            raise
        raise UnsupportedError(
            f"{_names(pipeline)} does not work with a gate of this circuit, or with TensorFlow's "
            f"tensors in it ({error}). {_WAY_OUT}"
        ) from error


# These transforms multiply results by the coefficients of observables after the circuits have run.
_SPLITTING = ("split_non_commuting", "split_to_single_terms")


def _is_angle(tensor: Any, tape: QuantumScript) -> bool:
    return any(tensor is each for op in tape.operations for each in op.data)


def _name(transform: Any) -> str:
    return getattr(transform.tape_transform, "__name__", repr(transform))


def _names(pipeline: Any) -> str:
    names = list(map(_name, pipeline))
    return names[0] if len(names) == 1 else f"one of the transforms {', '.join(names)}"


def _is_pennylanes(transform: Any) -> bool:
    return transform.tape_transform.__module__.startswith("pennylane.")


def _tensors(tapes: Any) -> Any:
    """Returns the tensors in tapes that have derivatives, each once."""
    found = {}
    for tape in tapes:
        for parameter in tape.get_parameters(trainable_only=False):
            if is_tensor(parameter) and (parameter.dtype.is_floating or parameter.dtype.is_complex):
                found[id(parameter)] = parameter
    return list(found.values())
