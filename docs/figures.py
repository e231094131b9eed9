"""Draws the figures of the explanations from qshift's own plans and rules; runs no circuit.

`python docs/figures.py docs/_static idea` draws README's picture, which is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from qshift.rules.cost import Plan
from qshift.rules.planner import Frequencies, Planner, multi_indices
from qshift.rules.shift_rule import shift_rule

ROTATION = Frequencies((1.0,))


def planner(parameters: int, objective: str) -> Planner:
    """Returns the planner of a circuit of single-qubit rotations with one expectation value."""
    return Planner([ROTATION] * parameters, np.ones((1, parameters), dtype=bool), objective)


def plan(parameters: int, order: int, objective: str) -> Plan:
    """Returns the plan of all its derivatives up to an order."""
    axes = [(tuple(range(parameters)),) * k for k in range(order + 1)]
    return Plan.of(planner(parameters, objective), axes)


def hessian(parameters: int, objective: str) -> tuple[list[tuple], np.ndarray]:
    """Returns the points that value, gradient and Hessian need, and the coefficients."""
    node = planner(parameters, objective).root
    indices = [i for k in range(3) for i in multi_indices(range(parameters), k)]
    step = node.request(indices)
    return list(step.node.points), step.coefficients.toarray()


def clean(axes: Axes, **labels: str) -> None:
    """Gives axes a light grid, and no frame where there is nothing to read."""
    axes.set(**labels)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def idea(figure: Figure) -> None:
    """A slope from two other points of a wave, and how many circuits orders take; for README."""
    left, right = figure.subplots(1, 2)
    found, x = shift_rule((1,), 1), np.linspace(-np.pi, np.pi, 200)

    def f(x: np.ndarray) -> np.ndarray:
        return np.cos(x + 0.9)

    left.plot(x / np.pi, f(x), color="C7", label="results of a circuit")
    left.plot(found.shifts / np.pi, f(found.shifts), "o", color="C0", label="where it is run")
    label = "the slope that follows, exactly"
    left.plot(x[80:120] / np.pi, f(0.0) + found(f, 0.0) * x[80:120], color="C3", label=label)
    left.set_ylim(-1.2, 2.4)
    clean(left, xlabel="angle / π")
    left.legend(frameon=False, loc="upper right", fontsize="small")
    orders = range(4)
    counts = plan(4, 3, "circuits").orders
    for label, style, numbers in (
        ("plain recursion", "o--C7", [each.recursion for each in counts]),
        ("qshift", "o-C0", [each.total for each in counts]),
    ):
        right.plot(orders, numbers, style, label=label)
        right.annotate(f"{numbers[-1]:,} ", (3, numbers[-1]), ha="right", va="bottom")
    right.set_xticks(orders, ["value", "gradient", "Hessian", "order 3"])
    clean(right, ylabel="circuits, four rotations")
    right.legend(frameon=False, fontsize="small")


def recursion(figure: Figure) -> None:
    """Circuits up to each order, for plain recursion and for both objectives."""
    axes = figure.subplots()
    orders = range(5)
    circuits = plan(4, 4, "circuits").orders
    shots = plan(4, 4, "shots").orders
    axes.semilogy(orders, [o.recursion for o in circuits], "o--", color="C7", label="recursion")
    axes.semilogy(orders, [o.total for o in shots], "s-", color="C1", label='objective="shots"')
    axes.semilogy(
        orders, [o.total for o in circuits], "o-", color="C0", label='objective="circuits"'
    )
    axes.set_xticks(orders)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    clean(axes, xlabel="highest order", ylabel="circuits", title="Four rotations, all derivatives")
    axes.legend(frameon=False)


def points(figure: Figure) -> None:
    """Where the circuits of a Hessian by two parameters lie, for both objectives."""
    for axes, objective in zip(
        figure.subplots(1, 2, sharey=True), ("circuits", "shots"), strict=True
    ):
        found, _ = hessian(2, objective)
        moved = np.zeros((len(found), 2))
        for row, point in zip(moved, found, strict=True):
            for parameter, _, shift in point:
                row[parameter] = shift
        moved = np.angle(np.exp(1j * moved)) / np.pi
        moved[np.isclose(moved, -1)] = 1
        axes.plot(*moved.T, "o", color="C0" if objective == "circuits" else "C1")
        axes.set_aspect("equal")
        axes.set(xlim=(-0.7, 1.2), ylim=(-0.7, 1.2), xticks=(-0.5, 0, 0.5, 1))
        title = f'"{objective}": {len(found)} circuits'
        clean(axes, xlabel="shift of x[0] / π", title=title)
    figure.axes[0].set(ylabel="shift of x[1] / π", yticks=(-0.5, 0, 0.5, 1))


def rule(figure: Figure) -> None:
    """A shift rule of a spectrum that is not equidistant, on a function with that spectrum."""
    found = shift_rule((1, 3), 1)
    left, right = figure.subplots(1, 2)
    x = np.linspace(-np.pi, np.pi, 400)

    def f(x: np.ndarray) -> np.ndarray:
        return 0.6 * np.cos(x + 0.4) + 0.4 * np.sin(3 * x)

    left.plot(x / np.pi, f(x), color="C7")
    left.plot(found.shifts / np.pi, f(found.shifts), "o", color="C0")
    slope = found(f, 0.0)
    left.plot(x[150:250] / np.pi, f(0.0) + slope * x[150:250], color="C3")
    clean(left, xlabel="x / π", title="f, the points of the rule, the slope at 0")
    right.stem(found.shifts / np.pi, found.coefficients, basefmt="C7-")
    title = f"coefficients, sum of |c| = {found.norm:.3g}"
    clean(right, xlabel="shift / π", title=title)


def variance(figure: Figure) -> None:
    """Circuits of a Hessian, and its summed variance for the same shots in all, equal for each."""
    left, right = figure.subplots(1, 2)
    sizes = range(1, 9)
    for objective, color in (("circuits", "C0"), ("shots", "C1")):
        numbers, variances = [], []
        for parameters in sizes:
            found, coefficients = hessian(parameters, objective)
            numbers.append(len(found))
            variances.append(len(found) * (coefficients[1 + parameters :] ** 2).sum())
        left.plot(sizes, numbers, "o-", color=color, label=f'objective="{objective}"')
        right.plot(sizes, variances, "o-", color=color)
    clean(left, xlabel="parameters", title="circuits")
    clean(right, xlabel="parameters", title="summed variance × shots in all")
    left.legend(frameon=False)


# Name -> what draws it, and its size in inches.
FIGURES: dict[str, tuple[Callable[[Figure], None], tuple[float, float]]] = {
    "idea": (idea, (8.0, 2.8)),
    "recursion": (recursion, (5.2, 3.6)),
    "points": (points, (6.4, 3.3)),
    "rule": (rule, (7.2, 3.0)),
    "variance": (variance, (7.2, 3.0)),
}


def draw(directory: Path, names: Iterable[str] = FIGURES) -> None:
    """Draws figures as SVG files into a directory, the same ones each time."""
    directory.mkdir(exist_ok=True)
    for name in names:
        drawn, size = FIGURES[name]
        figure = Figure(figsize=size, layout="constrained")
        drawn(figure)
        with rc_context({"svg.hashsalt": name}):
            figure.savefig(directory / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), sys.argv[2:] or FIGURES)
