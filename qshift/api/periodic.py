"""Periodic NumPy functions as TensorFlow ops with derivatives of every order."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.calls import EvaluatedCalls
from qshift.autodiff.evaluation import Evaluation
from qshift.autodiff.program import Program
from qshift.rules.frequencies import period
from qshift.rules.planner import Frequencies, Planner, Recipe, Spectrum
from qshift.rules.shift_rule import shift_rule
from qshift.rules.shifting import Shifter
from qshift.tensorflow_internals import is_watched
from qshift.tracker import Tracker


def shift_gradient(
    frequencies: Sequence[float] = (1,),
    shift: float | None = None,
    elementwise: bool = True,
) -> Callable[[Callable], Callable]:
    """Makes a NumPy function a TensorFlow op, differentiated by evaluating it at shifted arguments.

    The function is a trigonometric polynomial of its argument. Its derivative is a linear
    combination of the function itself at shifted arguments, (f(x + s) - f(x - s)) / (2 sin s) for
    frequency one and any s, so one rule that calls itself gives every order (J. Izaac, "Recursive
    custom gradients in TensorFlow", 2020). Points that coincide are evaluated once per call.

    Args:
        frequencies: The positive frequencies of the function.
        shift: The shift s to use; None for the plan with the fewest evaluations. A call may name
            another one: ``f(x, shift=np.pi / 4)``. With several frequencies give as many
            shifts as there are frequencies: s_1, ..., s_R, used with both signs.
        elementwise: True for a function of an array that acts on each element by itself; False for
            a function of a vector, from float64[..., P] to float64[...] or float64[..., M], with
            these frequencies in each of its P entries. It is evaluated at zeros once, to see the
            shape of what it returns.

    Returns:
        A decorator. What it returns takes a tensor (float32 or float64, and returns the same) or
        anything that converts to one.

    Raises:
        ValueError: If the shifts do not determine the derivative.

    Example:
        >>> @qshift.shift_gradient(frequencies=(1,), shift=np.pi / 2)
        ... def sin(x):
        ...     return np.sin(x)
    """
    frequencies = tuple(sorted(float(w) for w in np.atleast_1d(frequencies)))
    default = _spectrum(frequencies, shift)

    def decorate(function: Any) -> Any:
        programs: dict[tuple, Program] = {}
        calls = EvaluatedCalls()
        name = getattr(function, "__name__", repr(function))

        @functools.cache
        def value_shape(width: Any) -> Any:
            return _value_shape(function, name, width)

        def program(spectrum: Any, parameters: Any, values: Any, followed: Any) -> Any:
            key = (spectrum, parameters, values, followed)
            if key not in programs:
                structure = _Function(spectrum, parameters, values)
                evaluate = functools.partial(_evaluate, function, name, elementwise)

                start = functools.partial(Evaluation, structure, evaluate, objective="circuits")
                columns = tuple(range(parameters))
                active = columns if followed else None
                programs[key] = Program(structure, (columns,), (active,), start, calls)
            return programs[key]

        @functools.wraps(function)
        @tf.autograph.experimental.do_not_convert
        def op(x: Any, shift: Any = None) -> Any:
            x = tf.convert_to_tensor(x)
            if not x.dtype.is_floating:
                raise TypeError(f"{name} takes floating-point tensors, got {x.dtype}.")
            if not elementwise and (x.shape.rank == 0 or x.shape[-1] is None):
                raise ValueError(
                    f"{name} is a function of a vector: it takes tensors [..., P] with a known P, "
                    f"got shape {x.shape}."
                )
            spectrum = default if shift is None else _spectrum(frequencies, shift)
            followed = not tf.executing_eagerly() or is_watched(x)
            width = 1 if elementwise else x.shape[-1]
            values = () if elementwise else value_shape(width)
            run = program(spectrum, width, math.prod(values), followed)
            flat = tf.cast(tf.reshape(x, [-1, width]), tf.float64)
            batch = tf.shape(x) if elementwise else tf.shape(x)[:-1]
            result = tf.reshape(run([flat]), tf.concat([batch, tf.constant(values, tf.int32)], 0))
            result.set_shape((x.shape if elementwise else x.shape[:-1]).concatenate(values))
            return tf.cast(result, x.dtype)

        return op

    return decorate


class _Function:
    """A periodic function, as `Evaluation` sees it."""

    def __init__(self, spectrum: Spectrum, num_parameters: int, num_values: int) -> None:
        self.shifted = Shifter([spectrum] * num_parameters, lambda _: "An argument")
        self.num_parameters = num_parameters
        self.num_values = num_values
        self._planner = Planner(
            [spectrum] * num_parameters, np.ones((num_values, num_parameters), bool), "circuits"
        )

    def planner(self, _: Any) -> Planner:
        return self._planner

    def require_rules(self, _: Any) -> None:
        """Every parameter has one."""


def _spectrum(frequencies: Any, shift: Any) -> Spectrum:
    if shift is None:
        shift_rule(frequencies)  # raises if the frequencies make no sense
        return Frequencies(frequencies)
    shifts = np.atleast_1d(np.asarray(shift, dtype=float))
    rule = shift_rule(frequencies, 1, shifts=[*shifts, *-shifts])
    terms = zip(rule.coefficients.tolist(), rule.shifts.tolist(), strict=True)
    return Recipe(tuple((c, 1.0, s) for c, s in terms), period(frequencies))


def _value_shape(function: Any, name: str, width: Any) -> tuple[int, ...]:
    shape = np.shape(function(np.zeros((1, width))))
    if len(shape) not in (1, 2) or shape[0] != 1:
        raise ValueError(
            f"{name} was given float64[1, {width}] and returned shape {shape}; a "
            "function of a vector maps float64[..., P] to float64[...] or float64[..., M]."
        )
    return shape[1:]


def _evaluate(
    function: Any, name: str, elementwise: Any, structure: Any, points: Any, call: Any
) -> Any:
    values = np.asarray(function(points[:, 0] if elementwise else points), dtype=float)
    if values.shape[:1] != (len(points),) or values.size != len(points) * structure.num_values:
        raise ValueError(
            f"{name} was given {len(points)} arguments and returned shape {values.shape}; it must "
            "act on each of them."
        )
    Tracker.record(circuits=len(points), batches=1)
    return values.reshape(points.shape[0], structure.num_values)
