"""The result of a minimisation: all points that it evaluated, and where it ended."""

from __future__ import annotations

import html
import io
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from qshift.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """The results at one point of a minimisation.

    Attributes:
        x: The point, float64 of any shape.
        value: The function's value.
        gradient_norm: The Euclidean norm of the gradient.
        lowest_curvature: The lowest eigenvalue of the Hessian, or its lowest diagonal entry for
            ``"diagonal-newton"``; None if the Hessian was not evaluated.
        circuits: How many circuits qshift executed for this point.
        largest_curvature: The largest absolute value of the same eigenvalues or entries, relative
            to which a curvature may be rounding.
        value_error: The standard error of the value, for a QNode with finite shots whose errors are
            known; None otherwise.
        gradient_error: The Euclidean norm of the standard errors of the gradient's entries, as
            `value_error`. The norm of a gradient is about as large as this where the exact gradient
            is zero.
    """

    x: np.ndarray
    value: float
    gradient_norm: float
    lowest_curvature: float | None
    circuits: int
    largest_curvature: float | None = None
    value_error: float | None = None
    gradient_error: float | None = None


@dataclass(frozen=True)
class Result:
    """The result of a minimisation.

    Attributes:
        x: The last point, with the shape and dtype of the starting point.
        history: The results at the start and after each step.
        optimizer: The name of the optimizer.
        tolerance: The gradient norm to reach.
    """

    x: np.ndarray
    history: tuple[Point, ...]
    optimizer: str
    tolerance: float

    @property
    def value(self) -> float:
        """The function's value at the last point."""
        return self.history[-1].value

    @property
    def value_error(self) -> float | None:
        """The standard error of the value at the last point; None if it is not known."""
        return self.history[-1].value_error

    @property
    def gradient_norm(self) -> float:
        """The Euclidean norm of the gradient at the last point."""
        return self.history[-1].gradient_norm

    @property
    def lowest_curvature(self) -> float | None:
        """The Hessian's lowest eigenvalue at the last point, or None if it was not evaluated there.

        Newton's method without damping converges to maxima and saddle points as well; there this
        is negative.
        """
        return self.history[-1].lowest_curvature

    @property
    def converged(self) -> bool:
        """Whether the run ended at a minimum, as far as the optimizer can know.

        The gradient norm must be at most the tolerance. If curvatures were evaluated at the last
        point, none may be negative by more than the tolerance times the largest one. If they were
        not, the point must have been reached by a step.
        """
        if self.gradient_norm > self.tolerance or self._curves_down:
            return False
        return self.lowest_curvature is not None or self.steps > 0

    @property
    def _curves_down(self) -> bool:
        last = self.history[-1]
        if last.lowest_curvature is None:
            return False
        largest = last.largest_curvature or abs(last.lowest_curvature)
        return last.lowest_curvature < -largest * min(max(self.tolerance, 1e-12), 0.5)

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return len(self.history) - 1

    @property
    def circuits(self) -> int:
        """The number of circuits that qshift executed."""
        return sum(point.circuits for point in self.history)

    @property
    def message(self) -> str:
        """A sentence that says how the run ended."""
        norm = f"the gradient norm is {self.gradient_norm:.2g}"
        if self.gradient_norm > self.tolerance:
            return f"not converged after {self._steps}: {norm}, the tolerance {self.tolerance:.2g}"
        if self._curves_down:
            return (
                f"came after {self._steps} to a stationary point, but not to a minimum: {norm}, "
                f"and the lowest curvature {self.lowest_curvature:.2g}. Start elsewhere, or give "
                "damping"
            )
        if not self.converged:
            return (
                f"took no step, as the start is a stationary point: {norm}. Whether it is a "
                f"minimum, {self.optimizer} does not find out: start elsewhere, or take newton"
            )
        return f"converged after {self._steps}: {norm}"

    @property
    def _steps(self) -> str:
        return f"{self.steps} step{'' if self.steps == 1 else 's'}"

    @property
    def _value(self) -> str:
        error = self.value_error
        return f"{self.value:.10g}" if error is None else f"{self.value:.6g} +- {error:.2g}"

    def __str__(self) -> str:
        return f"{self.optimizer}: value {self._value}, {self.message}"

    def _repr_html_(self) -> str:
        """Returns the result as a table, for notebooks."""
        rows = {
            "value": self._value,
            "gradient norm": f"{self.gradient_norm:.3g}",
            "steps": f"{self.steps:,}",
            "circuits executed": f"{self.circuits:,}",
        }
        body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
        said = html.escape(f"{self.optimizer}: {self.message}")
        return f"<table><caption>{said}</caption>{body}</table>"

    def plot(self, path: str | os.PathLike | None = None, title: str | None = None) -> Figure:
        """Draws value and gradient norm against the steps, with bands of 1.96 standard errors where
        these are known.

        Args:
            path: Where to save the figure, in the format of its suffix (``.png``, ``.pdf``,
                ``.svg``, ...); None saves nothing.
            title: What was minimized, for instance; it stands above how the run ended.

        Returns:
            The figure.

        Raises:
            MissingExtraError: Matplotlib is not installed.
        """
        require("plot", "Result.plot")
        from matplotlib.figure import Figure  # Late: importing it takes long.
        from matplotlib.ticker import AutoLocator, LogLocator, MaxNLocator, NullFormatter

        norms = np.array([point.gradient_norm for point in self.history], dtype=float)
        norms[norms == 0] = np.nan  # a logarithmic axis has no zero
        style = {"marker": "o", "markersize": 4} if self.steps <= 60 else {"linewidth": 1}

        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        # A notebook draws it by this method, also if nobody has imported pyplot.
        vars(figure)["_repr_png_"] = partial(_repr_png_, figure)
        above, below = figure.subplots(2, 1, sharex=True)
        values = np.array([point.value for point in self.history])
        above.plot(values, color="C0", **style)
        above.set(ylabel="value")
        below.semilogy(norms, color="C1", **style)
        below.set(xlabel="step", ylabel="gradient norm")
        if all(point.value_error is not None for point in self.history):
            band = 1.96 * np.array([point.value_error for point in self.history], dtype=float)
            above.fill_between(range(len(values)), values - band, values + band, alpha=0.25)
            band = 1.96 * np.array([point.gradient_error for point in self.history], dtype=float)
            lower = np.maximum(norms - band, norms / 10)  # which a logarithmic axis can show
            below.fill_between(range(len(norms)), lower, norms + band, color="C1", alpha=0.25)
        spread = np.nanmax(norms) / np.nanmin(norms) if np.any(norms > 0) else np.inf
        if spread < 100:  # the powers of ten alone are too few labels
            below.yaxis.set_major_locator(
                LogLocator(subs=(1.0, 2.0, 5.0)) if spread > 4 else AutoLocator()
            )
            below.yaxis.set_major_formatter("{x:g}")
            below.yaxis.set_minor_formatter(NullFormatter())
        below.xaxis.set_major_locator(MaxNLocator(steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))
        if 0 < self.gradient_norm <= self.tolerance:
            below.axhline(
                self.tolerance, color="gray", linewidth=1, linestyle="--", label="tolerance"
            )
            below.legend(frameon=False)
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        counted = f", {self.circuits:,} circuits" if self.circuits else ""
        ended = f"{self.optimizer}: value {self.value:.6g} after {self._steps}{counted}"
        figure.suptitle(ended if title is None else f"{title}\n{ended}")
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure


def _repr_png_(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()
