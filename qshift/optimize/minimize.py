"""Minimisation with exact derivatives: Newton's method, its diagonal form, and first-order methods.

Long runs keep a checkpoint, from which an interrupted run goes on with the same numbers.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qshift.inputs import did_you_mean, is_integer, is_real
from qshift.optimize.checkpoint import Checkpoint, State, identify
from qshift.optimize.optimizers import OPTIMIZERS
from qshift.optimize.result import Point, Result
from qshift.progress import progress as progress_display
from qshift.tracker import Tracker

_log = logging.getLogger("qshift.minimize")


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
    _check(optimizer, x0, learning_rate, damping, steps, tolerance)
    method = OPTIMIZERS[optimizer](fn, x0, steps, learning_rate, tolerance)
    state, store = State(x0.astype(float)), None
    if checkpoint is not None:
        run = {"optimizer": optimizer, "learning_rate": method.rate, "damping": float(damping)}
        run |= method.settings | {"x0": x0.tolist()} | identify(method.fn, x0)
        store = Checkpoint(Path(checkpoint), run)
        if loaded := store.load():
            state = loaded
            _log.info("Going on from %s; delete it to start over", checkpoint)
    spent = 0
    if state.x is None and not method.has_ended(state):
        # The run ended at this point before, where neither a Hessian nor a step was needed.
        last = state.history.pop()
        state.x, spent = last.x, last.circuits
    derivatives = method.derivatives()
    bar = progress_display(wanted=progress)
    with bar:
        task = bar.add_task(optimizer, total=steps)
        while state.x is not None:
            x, step = state.x, len(state.history)
            order = 1 if step == steps else method.order  # no step follows the last point
            with Tracker() as tracker:
                (value, gradient, hessian), errors = derivatives(x.astype(x0.dtype), order, step)
                norm = float(np.linalg.norm(gradient))
                if order < method.order and norm <= method.tolerance:
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
            spent = 0
            ended = method.has_ended(state)
            state.x = None if ended else method.next(state, gradient, hessian)
            if store is not None:
                store.save(state)
            described = f"{optimizer} {value:.8f} |g| {norm:.1e}"
            bar.update(task, completed=step, description=described)
    found = state.history[-1].x.astype(x0.dtype)
    return Result(found, tuple(state.history), optimizer, method.reached(state.history[-1]))


def _check(
    optimizer: Any, x0: np.ndarray, rate: Any, damping: Any, steps: Any, tolerance: Any
) -> None:
    """Checks the arguments of `minimize`.

    Raises:
        ValueError: For one that has no meaning.
    """
    if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
        raise ValueError(
            f"unknown optimizer {optimizer!r}{did_you_mean(str(optimizer), OPTIMIZERS)}; choose "
            f"from {', '.join(OPTIMIZERS)}. There is one starting point: several arrays are "
            "joined to one, which the function takes apart"
        )
    if not x0.size:
        raise ValueError("x0 is empty: there is nothing to minimize by")
    if damping and OPTIMIZERS[optimizer].order < 2:
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
    if tolerance is not None and not is_real(tolerance):
        raise ValueError(f"tolerance must be a number, got {tolerance!r}")
