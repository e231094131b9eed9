"""Minimisation with exact derivatives: Newton's method, its diagonal form, and first-order methods.

Long runs keep a checkpoint, from which an interrupted run goes on with the same numbers.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from qshift.errors import QShiftError, UnsupportedError
from qshift.inputs import did_you_mean, is_integer, is_real
from qshift.optimize.checkpoint import Checkpoint, State, identify
from qshift.optimize.result import Point, Result
from qshift.progress import progress as progress_display
from qshift.rules.shots import Shots
from qshift.tracker import Tracker

_log = logging.getLogger("qshift.minimize")


class SingularHessianError(QShiftError, ArithmeticError):
    """Raised if a Newton step does not exist: the Hessian is zero in a direction of descent."""


# Update rules. Each returns the direction d of the step x <- x - learning_rate d from the gradient
# float64[n] and the damped Hessian float64[n, n]. ``memory`` is the rule's own, between steps.


def _newton(gradient: np.ndarray, hessian: np.ndarray, memory: dict) -> np.ndarray:
    """Returns H^-1 g; Mari, Bromley, Killoran, PRA 103, 012405 (2021)."""
    curvatures, axes = np.linalg.eigh(hessian)
    slopes = axes.T @ gradient
    size = max(np.abs(curvatures).max(), np.linalg.norm(gradient))
    flat = np.abs(curvatures) <= 1e-12 * size
    if np.any(np.abs(slopes[flat]) > 1e-9 * size):
        raise SingularHessianError(
            "there is no Newton step: the Hessian is zero in a direction in which the gradient is "
            "not; give damping (1 is a good start), or choose gradient-descent or adam"
        )
    # Along directions with slope and curvature zero, the point stays where it is.
    return axes @ np.where(flat, 0.0, slopes / np.where(flat, 1.0, curvatures))


def _diagonal_newton(gradient: np.ndarray, hessian: np.ndarray, memory: dict) -> np.ndarray:
    """Returns g_i / H_ii, given only these entries of H; Mari, Bromley, Killoran (2021)."""
    return _newton(gradient, hessian, memory)


def _downwards(hessian: np.ndarray) -> np.ndarray:
    """Returns the direction of length 1 in which a function curves down most, where it does not
    slope: of two opposite ones, that with a positive largest entry."""
    axis = np.linalg.eigh(hessian)[1][:, 0]
    return axis * np.sign(axis[np.abs(axis).argmax()])


def _saddle_free_newton(gradient: np.ndarray, hessian: np.ndarray, memory: dict) -> np.ndarray:
    """Returns |H|^-1 g, |H| having the absolute eigenvalues of H; Dauphin et al., NeurIPS (2014).

    It goes downhill in all directions, also those in which H curves downwards. No eigenvalue is
    taken for less than the norm of g, so that the step is never longer than 1.
    """
    norm = np.linalg.norm(gradient)
    if norm == 0:
        return gradient
    curvatures, axes = np.linalg.eigh(hessian)
    return axes @ (axes.T @ gradient / np.maximum(np.abs(curvatures), norm))


def _gradient_descent(gradient: np.ndarray, hessian: None, memory: dict) -> np.ndarray:
    return gradient


def _adam(gradient: np.ndarray, hessian: None, memory: dict) -> np.ndarray:
    """Returns the direction of Kingma, Ba, arXiv:1412.6980, algorithm 1, with its constants 0.9,
    0.999 and 1e-8."""
    step = memory.get("step", 0) + 1
    first = 0.9 * memory.get("first", 0.0) + 0.1 * gradient
    second = 0.999 * memory.get("second", 0.0) + 0.001 * gradient**2
    memory.update(step=step, first=first, second=second)
    return first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)


@dataclass(frozen=True)
class _Optimizer:
    rule: Callable
    order: int  # the highest order of derivatives that the rule needs
    learning_rate: float  # the default
    diagonal: bool = False  # whether the Hessian's diagonal suffices
    descends: bool = False  # whether a step that leads uphill is tried again, half as long
    frugal: bool = False  # whether shots grow, the rate falls, and the last points are averaged


_OPTIMIZERS = {
    "newton": _Optimizer(_newton, 2, 1.0),
    "saddle-free-newton": _Optimizer(_saddle_free_newton, 2, 1.0, descends=True),
    "diagonal-newton": _Optimizer(_diagonal_newton, 2, 1.0, diagonal=True),
    "gradient-descent": _Optimizer(_gradient_descent, 1, 0.1),
    "adam": _Optimizer(_adam, 1, 0.1),
    "shot-frugal": _Optimizer(_adam, 1, 0.3, frugal=True),
}
OPTIMIZERS = tuple(_OPTIMIZERS)
_CURVED = 1e-6  # of the largest curvature: what is more than rounding
# Of "shot-frugal": how many times more shots the last step has than the first; how many times more
# than the one before at most; which part of the points is averaged.
_GROWN, _MOST_GROWTH, _AVERAGED = 7.0, 1.03, 0.3
_HALVINGS = 20  # of a step that leads uphill; beyond, rounding is what leads there


def minimize(
    fn: Callable,
    x0: Any,
    optimizer: str = "saddle-free-newton",
    *,
    steps: int = 100,
    learning_rate: float | None = None,
    damping: float = 0.0,
    tolerance: float | None = None,
    progress: bool = True,
    checkpoint: str | os.PathLike | None = None,
) -> Result:
    """Minimises a scalar function with exact derivatives.

    Args:
        fn: A function of one tensor: a QNode, whose derivatives of all orders then go out as one
            batch per step (PennyLane's own are converted by `qshift.from_qnode`), or any TensorFlow
            function. It is compiled with `tf.function` where that is possible; an interruption then
            waits for the end of a step.
        x0: The point to start from, of any shape. Its dtype is the one that ``fn`` gets; integers
            become float64.
        optimizer: ``"newton"``: x <- x - learning_rate (H + damping I)^-1 g;
            ``"saddle-free-newton"``: the same with the absolute eigenvalues of H + damping I in
            place of its own, in steps that are never longer than learning_rate. It descends to
            minima only: it leaves maxima and saddles along the lowest curvature, and without shots
            a step that leads uphill is tried again, half as long;
            ``"diagonal-newton"``: ``"newton"`` with only the diagonal of H (for a QNode whose
            angles are affine in x, only the diagonal is evaluated);
            ``"gradient-descent"``: x <- x - learning_rate g; ``"adam"``: Kingma and Ba's;
            ``"shot-frugal"``: Adam for a QNode with few shots, on a device that spreads a total
            (`qshift.Shots`). It takes all the steps: the rate falls to zero, the shots of a step
            grow, by 3 % at most, and the last point is the average of the last 30 % of them. A
            step takes as many shots on the average as the QNode's would for value and gradient.
        steps: The largest number of steps.
        learning_rate: 1 for the Newton methods, 0.3 for ``"shot-frugal"``, and 0.1 for the others
            by default.
        damping: Is added to the Hessian's diagonal. With 0, ``"newton"`` heads for the
            nearest stationary point, be it a minimum or not; the result then says that it has not
            converged.
        tolerance: Stop when the Euclidean norm of the gradient is at most this. By default 1e-9;
            for a QNode with n shots and p parameters sqrt(p / 2n), which is about the error of the
            gradient if each parameter turns one gate and the observable's values are +-1. With
            float32, gradients do not get as small as 1e-9. ``"shot-frugal"`` does not stop there;
            its default is twice the error of the last gradient.
        progress: Whether to show the progress: on a terminal or in a notebook, and as a line each
            minute elsewhere.
        checkpoint: A file that is written after every step. If it exists, the run goes on from
            there; a finished run returns its result without executing anything, or goes on if
            ``steps`` or ``tolerance`` ask for more. The numbers are those of an uninterrupted run,
            with finite shots too if the QNode has a seed.

    Returns:
        The last point, its value and gradient, and the history of the run.

    Raises:
        CheckpointError: The checkpoint cannot be read or belongs to another problem.
        SingularHessianError: The Newton step does not exist.
        ValueError: The optimizer is unknown, ``x0`` empty, or ``fn`` not scalar or not finite.

    Example:
        >>> @qshift.qnode(qshift.device("simulator"))
        ... def energy(x):
        ...     qml.RX(x[0], wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> result = qshift.minimize(energy, [3.0], optimizer="newton")
        >>> round(result.value, 9), result.converged
        (-1.0, True)
    """
    x0 = np.asarray(x0)
    x0 = x0 if np.issubdtype(x0.dtype, np.floating) else x0.astype(float)
    method = _method(optimizer, x0, learning_rate, damping, steps)
    rate = method.learning_rate if learning_rate is None else float(learning_rate)
    shots = _shots(fn)
    if method.frugal:
        fn = _frugal(fn)
    by_error = method.frugal and tolerance is None
    if tolerance is None:
        tolerance = math.sqrt(x0.size / (2 * shots)) if shots else 1e-9
    elif not is_real(tolerance):
        raise ValueError(f"tolerance must be a number, got {tolerance!r}")
    state, store = State(x0.astype(float)), None
    if checkpoint is not None:
        run = {"optimizer": optimizer, "learning_rate": rate, "damping": float(damping)}
        if method.frugal:  # each step depends on how many there will be
            run |= {"steps": steps}
        store = Checkpoint(Path(checkpoint), run | {"x0": x0.tolist()} | identify(fn, x0))
        if loaded := store.load():
            state = loaded
            _log.info("Going on from %s; delete it to start over", checkpoint)

    def uphill() -> bool:
        """Whether the last step led uphill, so that it is tried again."""
        before = state.memory.get("value")
        if not method.descends or shots or before is None or state.memory["halvings"] >= _HALVINGS:
            return False
        value = state.history[-1].value
        return value > before + 1e-12 * max(abs(value), abs(before))

    def on_top() -> bool:
        """Whether the last point is a maximum or saddle that can be left."""
        last = state.history[-1]
        if not method.descends or last.lowest_curvature is None or rate == 0:
            return False
        # Samples show curvatures where there are none, about as large as the tolerance.
        noise = (last.largest_curvature or 0.0) * max(_CURVED, min(tolerance, 0.5) if shots else 0)
        return last.gradient_norm <= tolerance and last.lowest_curvature < -noise

    def finished() -> bool:
        if len(state.history) > steps or method.frugal:
            return len(state.history) > steps
        return state.history[-1].gradient_norm <= tolerance and not uphill() and not on_top()

    spent = 0
    if state.x is None and not finished():
        # The run ended at this point before, where neither a Hessian nor a step was needed.
        last = state.history.pop()
        state.x, spent = last.x, last.circuits
    derivatives = _compiled(fn, method.diagonal)
    if method.frugal:
        derivatives = _with_growing_shots(fn, x0, steps)
    bar = progress_display(wanted=progress)
    with bar:
        task = bar.add_task(optimizer, total=steps)
        while state.x is not None:
            x, step = state.x, len(state.history)
            order = 1 if step == steps else method.order  # no step follows the last point
            with Tracker() as tracker:
                (value, gradient, hessian), errors = derivatives(x.astype(x0.dtype), order, step)
                norm = float(np.linalg.norm(gradient))
                if order < method.order and norm <= tolerance:
                    # Only the Hessian shows whether this is a minimum.
                    (value, gradient, hessian), errors = derivatives(
                        x.astype(x0.dtype), method.order, step
                    )
            lowest = largest = None
            if hessian is not None:
                curvatures = np.linalg.eigvalsh(hessian)
                lowest, largest = float(curvatures[0]), float(np.abs(curvatures).max())
                hessian = hessian + damping * np.eye(x.size)
            circuits = spent + tracker.totals["circuits"]
            state.history.append(Point(x, value, norm, lowest, circuits, largest, *errors))
            state.x, spent = None, 0
            if not finished() and uphill():
                state.memory["halvings"] += 1
                shorter = state.memory["step"] / 2 ** state.memory["halvings"]
                state.x = (state.memory["from"] - shorter).reshape(x.shape)
            elif not finished():
                if on_top():
                    direction = _downwards(hessian)
                else:
                    direction = method.rule(gradient, hessian, state.memory)
                taken = rate * direction
                if method.frugal:
                    taken = (1 - step / steps) * taken
                state.x = x - taken.reshape(x.shape)
                if method.frugal and len(state.history) == steps:
                    state.x = _average([*(point.x for point in state.history), state.x])
                if method.descends:
                    state.memory |= {"from": x.ravel(), "value": value}
                    state.memory |= {"step": taken, "halvings": 0}
            if store is not None:
                store.save(state)
            described = f"{optimizer} {value:.8f} |g| {norm:.1e}"
            bar.update(task, completed=step, description=described)
    result = state.history[-1].x.astype(x0.dtype)
    error = state.history[-1].gradient_error
    if by_error and error:
        return Result(result, tuple(state.history), optimizer, 2 * error)
    return Result(result, tuple(state.history), optimizer, tolerance)


def _frugal(fn: Callable) -> Any:
    """Returns a function as the QNode with shots that ``"shot-frugal"`` takes.

    Raises:
        ValueError: If it is something else.
    """
    import qshift
    from qshift.api.conversion import as_own

    fn = as_own(fn)
    if not isinstance(fn, qshift.QNode) or not _shots(fn):
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


def _with_growing_shots(fn: Any, x0: np.ndarray, steps: int) -> Callable:
    """Returns what `_compiled` does, with other shots in each step, which are as many in all as if
    each step had those of the QNode."""
    import tensorflow as tf

    asked = fn.settings.get("shots")
    # `qml.set_shots` may have replaced those of the qnode.
    own = isinstance(asked, Shots) and asked.number == _shots(fn)
    total = asked.total if own else None
    numbers = growing(total or fn.plan(tf.constant(x0), order=1).shots, steps + 1)

    @lru_cache(maxsize=1)
    def with_shots(number: int) -> Callable:
        return _compiled(fn.update(shots=Shots(total=number)), diagonal=False)

    return lambda x, order, step: with_shots(int(numbers[step]))(x, order, step)


def growing(average: int, count: int) -> np.ndarray:
    """Returns numbers of shots that grow slowly, int64[count], and their average is as given."""
    sizes = min(_GROWN ** (1 / count), _MOST_GROWTH) ** np.arange(count)
    upto = np.cumsum(sizes) * (average * count / sizes.sum())
    return np.maximum(np.diff(np.append(0, np.round(upto))), 1).astype(np.int64)


def _average(points: list[np.ndarray]) -> np.ndarray:
    """Returns the average of the last of some points."""
    return np.mean(points[-max(1, round(_AVERAGED * len(points))) :], axis=0)


def _shots(fn: Callable) -> int:
    """Returns the shots of a QNode; 0 of one that is exact, and of other functions."""
    return getattr(getattr(fn, "shots", None), "total_shots", None) or 0


def _method(
    optimizer: str, x0: np.ndarray, rate: float | None, damping: float, steps: int
) -> _Optimizer:
    if not isinstance(optimizer, str) or optimizer not in _OPTIMIZERS:
        raise ValueError(
            f"unknown optimizer {optimizer!r}{did_you_mean(str(optimizer), OPTIMIZERS)}; choose "
            f"from {', '.join(OPTIMIZERS)}. There is one starting point: several arrays are "
            "joined to one, which the function takes apart"
        )
    method = _OPTIMIZERS[optimizer]
    if not x0.size:
        raise ValueError("x0 is empty: there is nothing to minimize by")
    if damping and method.order < 2:
        raise ValueError(
            f"damping={damping} has no meaning for {optimizer}, which does not use the Hessian; "
            "leave it out, or choose newton or diagonal-newton"
        )
    if not is_integer(steps):
        raise ValueError(f"steps must be a whole number, got {steps!r}")
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    if rate is not None and not (is_real(rate) and 0 <= rate < math.inf):
        raise ValueError(
            f"learning_rate must be a number of at least 0, got {rate!r}: negative ones go uphill. "
            "To maximize, minimize the negative function"
        )
    if not (is_real(damping) and 0 <= damping < math.inf):
        raise ValueError(
            f"damping must be a number of at least 0, got {damping!r}: it is added to the Hessian, "
            "which has to become positive"
        )
    return method


def _compiled(fn: Callable, diagonal: bool) -> Callable:
    """Returns the function from a point and an order to value, gradient and Hessian, and the errors
    of value and gradient as `Point` has them.

    These are a float, float64[n] and float64[n, n] for n entries of the point; at order 1, None
    takes the place of the Hessian. With `diagonal`, entries off the Hessian's diagonal are zero.
    Tracing a Hessian takes TensorFlow tenths of a second, so that it is done once.
    """
    import tensorflow as tf  # Late: importing it takes long.

    import qshift
    from qshift.api.affine import AffineCall
    from qshift.api.conversion import as_own
    from qshift.api.derivatives import retracing
    from qshift.autodiff.tracing import call_compiled

    fn = as_own(fn)
    if isinstance(fn, qshift.QNode):
        fn = fn.update(seed=fn.seed)  # a copy that counts its own calls
        fn.calls.in_order = True  # see `derivatives`
    direct = diagonal and isinstance(fn, qshift.QNode)  # the diagonal alone can be evaluated

    def checked(value: Any) -> tf.Tensor:
        if not tf.is_tensor(value) or value.shape.rank:
            got = f"shape {value.shape}" if tf.is_tensor(value) else f"a {type(value).__name__}"
            raise ValueError(f"minimize takes a function whose value is one number, got {got}")
        return value

    def up_to_order(x: Any, order: int) -> tuple:
        function = fn if direct else lambda x: checked(fn(x))
        return qshift.derivatives(function, x, order=order, diagonal=diagonal)

    @cache
    def up_to(order: int) -> Callable:
        return tf.function(lambda x: up_to_order(x, order), autograph=False)

    has_errors: dict[int, bool] = {}  # of each order, once it was asked for

    def tells_errors(x: tf.Tensor, order: int) -> bool:
        if not isinstance(fn, qshift.QNode) or not fn.shots:
            return False
        # Where derivatives take tapes, those that tell errors take long.
        call = AffineCall.of(fn, [x], [x], order)
        return call is not None and call.call.compiled.circuit.num_values == 1

    def evaluate(x: np.ndarray, order: int) -> tuple:
        x = tf.constant(x)
        if order not in has_errors:
            has_errors[order] = tells_errors(x, order)
        if has_errors[order]:
            try:
                found = qshift.derivatives(fn, x, order=order, diagonal=diagonal, errors=True)
                return tuple(each.value for each in found), [each.error for each in found[:2]]
            except UnsupportedError:  # the device tells no errors, and has run nothing
                has_errors[order] = False
        return without_errors(x, order), ()

    def without_errors(x: tf.Tensor, order: int) -> tuple:
        if direct:
            return up_to_order(x, order)
        with retracing():
            return call_compiled(up_to(order), [x], lambda: up_to_order(x, order))

    def derivatives(x: np.ndarray, order: int, step: int) -> tuple[tuple, list[float]]:
        if isinstance(fn, qshift.QNode):
            # So that a resumed run draws the same samples, and a Hessian has the gradient's points.
            fn.calls.made = step
        (value, *found), errors = evaluate(x, order)
        found = [np.reshape(d, -1) for d in (checked(value), *found)]
        if len(found) > 2:
            found[2] = np.diag(found[2]) if diagonal else found[2].reshape(x.size, x.size)
        if not all(np.all(np.isfinite(each)) for each in found):
            raise ValueError(f"the function or a derivative of it is not finite at x = {x}")
        value, gradient, hessian = (*(each.astype(float) for each in found), None)[:3]
        sizes = [float(np.linalg.norm(np.ravel(error))) for error in errors]
        return (float(value[0]), gradient, hessian), sizes

    return derivatives
