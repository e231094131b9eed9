"""Optimizers: which derivatives each needs, where it goes from a point, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from qshift.optimize import directions
from qshift.optimize.checkpoint import State
from qshift.optimize.compiled import compiled, shots_of
from qshift.optimize.result import Point
from qshift.rules.shots import Shots

_CURVED = 1e-6  # of the largest curvature: what is more than rounding
_HALVINGS = 20  # of a step that leads uphill; beyond, rounding is what leads there
# Of "shot-frugal": how many times more shots the last step has than the first; how many times more
# than the one before at most; which part of the points is averaged.
_GROWN, _MOST_GROWTH, _AVERAGED = 7.0, 1.03, 0.3


class Optimizer:
    """A run of an optimizer: x <- x - rate * direction, until the gradient is small.

    Args:
        fn: The function to minimise.
        x0: The point to start from.
        steps: The largest number of steps.
        rate: The learning rate; None for the optimizer's own.
        tolerance: The norm of the gradient at which the run ends; None for a default, see
            `qshift.minimize`.

    Attributes:
        order: The highest order of derivatives that directions need.
        learning_rate: The default of `rate`.
        diagonal: Whether the Hessian's diagonal suffices.
        fn, steps, rate, tolerance: As given, or the defaults.
    """

    order: ClassVar = 1
    learning_rate: ClassVar = 0.1
    diagonal: ClassVar = False

    def __init__(
        self,
        fn: Callable,
        x0: np.ndarray,
        steps: int,
        rate: float | None,
        tolerance: float | None,
    ) -> None:
        self.fn, self._x0, self.steps = fn, x0, steps
        self.rate = self.learning_rate if rate is None else float(rate)
        self._shots = shots_of(fn)
        if tolerance is None:
            tolerance = math.sqrt(x0.size / (2 * self._shots)) if self._shots else 1e-9
        self.tolerance = tolerance

    @property
    def settings(self) -> dict[str, Any]:
        """What the points depend on, besides the learning rate, by name."""
        return {}

    def derivatives(self) -> Callable:
        """Returns the function of `compiled`."""
        return compiled(self.fn, self.diagonal)

    def has_ended(self, state: State) -> bool:
        """Whether a run ends at its last point."""
        history = state.history
        return len(history) > self.steps or self._is_stationary(history[-1])

    def next(self, state: State, gradient: np.ndarray, hessian: np.ndarray | None) -> np.ndarray:
        """Returns the point after the last one of a run that has not ended.

        Args:
            state: The state of the run, whose memory is the optimizer's own.
            gradient: float64[n], at the last point.
            hessian: float64[n, n], damped; None for optimizers of order 1.
        """
        x = state.history[-1].x
        return x - (self.rate * self._direction(state, gradient, hessian)).reshape(x.shape)

    def reached(self, last: Point) -> float:
        """Returns the tolerance that a result is measured by, given the last point of its run."""
        return self.tolerance

    def _is_stationary(self, last: Point) -> bool:
        return last.gradient_norm <= self.tolerance

    def _direction(self, state: State, gradient: np.ndarray, hessian: Any) -> np.ndarray:
        raise NotImplementedError


class GradientDescent(Optimizer):
    """Goes along the gradient."""

    def _direction(self, state: State, gradient: np.ndarray, hessian: None) -> np.ndarray:
        return gradient


class Adam(Optimizer):
    """Kingma and Ba's."""

    def _direction(self, state: State, gradient: np.ndarray, hessian: None) -> np.ndarray:
        return directions.adam(gradient, state.memory)


class Newton(Optimizer):
    """Goes to the stationary point of the quadratic function with the same derivatives."""

    order = 2
    learning_rate = 1.0

    def _direction(self, state: State, gradient: np.ndarray, hessian: np.ndarray) -> np.ndarray:
        return directions.newton(gradient, hessian)


class DiagonalNewton(Newton):
    """The same, given only the Hessian's diagonal."""

    diagonal = True


class SaddleFreeNewton(Newton):
    """Descends only: a step that leads uphill is tried again, half as long, and a maximum or a
    saddle is left along the lowest curvature."""

    def has_ended(self, state: State) -> bool:
        if len(state.history) > self.steps:
            return True
        return (
            super().has_ended(state)
            and not self._went_uphill(state)
            and not self._is_on_top(state.history[-1])
        )

    def next(self, state: State, gradient: np.ndarray, hessian: np.ndarray | None) -> np.ndarray:
        last, memory = state.history[-1], state.memory
        if self._went_uphill(state):
            memory["halvings"] += 1
            shorter = memory["step"] / 2 ** memory["halvings"]
            return (memory["from"] - shorter).reshape(last.x.shape)
        step = self.rate * self._direction(state, gradient, hessian)
        memory |= {"from": last.x.ravel(), "value": last.value, "step": step, "halvings": 0}
        return last.x - step.reshape(last.x.shape)

    def _direction(self, state: State, gradient: np.ndarray, hessian: Any) -> np.ndarray:
        if self._is_on_top(state.history[-1]):
            return directions.downwards(hessian)
        return directions.saddle_free_newton(gradient, hessian)

    def _went_uphill(self, state: State) -> bool:
        """Whether the last step led uphill, so that it is tried again."""
        before = state.memory.get("value")
        if self._shots or before is None or state.memory["halvings"] >= _HALVINGS:
            return False
        value = state.history[-1].value
        return value > before + 1e-12 * max(abs(value), abs(before))

    def _is_on_top(self, last: Point) -> bool:
        """Whether a point is a maximum or saddle that can be left."""
        if last.lowest_curvature is None or self.rate == 0:
            return False
        # Samples show curvatures where there are none, about as large as the tolerance.
        least = max(_CURVED, min(self.tolerance, 0.5) if self._shots else 0)
        noise = (last.largest_curvature or 0.0) * least
        return self._is_stationary(last) and last.lowest_curvature < -noise


class ShotFrugal(Adam):
    """Adam with shots that grow from step to step, and a rate that falls to zero; the last point is
    the average of the last ones. All steps are taken.

    Raises:
        ValueError: If the function is no QNode with a number of shots.
    """

    learning_rate = 0.3

    def __init__(
        self, fn: Callable, x0: np.ndarray, steps: int, rate: float | None, tolerance: float | None
    ) -> None:
        super().__init__(_with_shots(fn), x0, steps, rate, tolerance)
        self._is_by_error = tolerance is None

    @property
    def settings(self) -> dict[str, Any]:
        return {"steps": self.steps}  # each step depends on how many there will be

    def derivatives(self) -> Callable:
        """Returns the function of `compiled`, with other shots in each step, which are
        as many in all as if each step had those of the QNode."""
        import tensorflow as tf  # Late: importing it takes long.

        fn: Any = self.fn
        asked = fn.settings.get("shots")
        total = asked.total if isinstance(asked, Shots) else None
        total = total or fn.plan(tf.constant(self._x0), order=1).shots
        numbers = growing(total, self.steps + 1)

        @lru_cache(maxsize=1)
        def with_shots(number: int) -> Callable:
            return compiled(fn.update(shots=Shots(total=number)), diagonal=False)

        return lambda x, order, step: with_shots(int(numbers[step]))(x, order, step)

    def has_ended(self, state: State) -> bool:
        return len(state.history) > self.steps

    def next(self, state: State, gradient: np.ndarray, hessian: np.ndarray | None) -> np.ndarray:
        points = [point.x for point in state.history]
        falling = 1 - (len(points) - 1) / self.steps
        step = falling * (self.rate * self._direction(state, gradient, None))
        points.append(points[-1] - step.reshape(points[-1].shape))
        if len(points) <= self.steps:
            return points[-1]
        return np.mean(points[-max(1, round(_AVERAGED * len(points))) :], axis=0)

    def reached(self, last: Point) -> float:
        if self._is_by_error and last.gradient_error:
            return 2 * last.gradient_error
        return self.tolerance


def _with_shots(fn: Callable) -> Any:
    """Returns a function as the QNode with shots that ``"shot-frugal"`` takes.

    Raises:
        ValueError: If it is something else.
    """
    import qshift
    from qshift.api.conversion import as_own

    fn = as_own(fn)
    if not isinstance(fn, qshift.QNode) or not shots_of(fn):
        raise ValueError(
            "shot-frugal spreads the shots of a QNode, and was given "
            f"{'one without shots' if isinstance(fn, qshift.QNode) else 'another function'}. Give "
            "a QNode with shots=, or take another optimizer"
        )
    asked = fn.settings.get("shots")
    if isinstance(asked, Shots) and asked.error is not None:
        raise ValueError(
            f"shot-frugal spreads a number of shots, and the QNode has shots={asked}. Give it "
            "Shots(total=...) or Shots(per_circuit=...)"
        )
    return fn


def growing(average: int, count: int) -> np.ndarray:
    """Returns numbers of shots that grow slowly, int64[count], and their average is as given."""
    sizes = min(_GROWN ** (1 / count), _MOST_GROWTH) ** np.arange(count)
    upto = np.cumsum(sizes) * (average * count / sizes.sum())
    return np.maximum(np.diff(np.append(0, np.round(upto))), 1).astype(np.int64)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "newton": Newton,
    "saddle-free-newton": SaddleFreeNewton,
    "diagonal-newton": DiagonalNewton,
    "gradient-descent": GradientDescent,
    "adam": Adam,
    "shot-frugal": ShotFrugal,
}
