"""Tables and a plot of what was measured."""

from __future__ import annotations

import re
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from cases import COMPILED, EAGER, SHIFT, TARGETS, gradient
from rich.table import Table

_GRADIENTS = re.compile(r"value and gradient, n=(\d+), p=(\d+)$")


def shown(seconds: float) -> str:
    """Three digits and a unit."""
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{1e3 * seconds:.3g} ms"


def gradients(measured: dict) -> Table:
    """Value and gradient, for each contender and number of wires."""
    sizes = [match.groups() for name in measured if (match := _GRADIENTS.match(name))]
    table = Table(title="Value and gradient, exact (in brackets: first call, with compilation)")
    table.add_column("")
    for wires, parameters in sizes:
        table.add_column(f"n={wires}, p={parameters}", justify="right")
    columns = [measured[gradient(int(wires))] for wires, _ in sizes]
    for label in dict.fromkeys(label for column in columns for label in column):
        table.add_row(label, *(_cell(column.get(label)) for column in columns))
    return table


def others(measured: dict) -> Table:
    """All other cases."""
    table = Table(title="Other cases")
    for column in ("case", "", "seconds", "first call", "circuits"):
        table.add_column(column, justify="left" if column in ("case", "") else "right")
    for name, found in measured.items():
        if _GRADIENTS.match(name):
            continue
        table.add_section()
        for label, times in found.items():
            if "error" in times:
                table.add_row(name, label, times["error"])
                continue
            circuits = times.get("circuits")
            table.add_row(
                name,
                label,
                shown(times["median"]),
                shown(times["first"]),
                "" if circuits is None else f"{circuits:,}",
            )
            name = ""
    return table


def _cell(times):
    if times is None:
        return "not run"
    if "error" in times:
        return times["error"]
    return f"{shown(times['median'])} ({shown(times['first'])})"


def ratios(measured: dict) -> list[dict]:
    """Returns the ratios that have a target and whose two times were measured.

    A ratio is the median of the ratios of the turns: the two were measured right after each other.
    """
    found = []
    for target in TARGETS:
        ours = measured.get(target.case, {}).get(target.ours, {})
        peer = measured.get(target.case, {}).get(target.peer, {})
        if "median" not in ours or "median" not in peer:
            continue
        ratio = ours["median"] / peer["median"]
        if len(ours["rounds"]) == len(peer["rounds"]):
            pairs = zip(ours["rounds"], peer["rounds"], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
        fastest = ours["fastest"] / peer["fastest"]
        row = {"ratio": ratio, "of the fastest": fastest, "at most": target.at_most}
        found.append({"target": target.text, **row})
    return found


def targets(found: list[dict]) -> Table:
    """The ratios against what they must not exceed."""
    table = Table(title="Ratios of two times of this run")
    for column in ("", "ratio", "of the fastest calls", "at most", "reached"):
        table.add_column(column, justify="right" if column else "left")
    for row in found:
        reached = row["ratio"] <= row["at most"]
        table.add_row(
            row["target"],
            f"{row['ratio']:.3g}",
            f"{row['of the fastest']:.3g}",
            f"{row['at most']:g}",
            "[green]yes" if reached else "[red]no",
        )
    return table


def draw(measured: dict, counts: dict[str, list], path) -> None:
    """Plots the gradient's growth, the other cases and the number of circuits."""
    bars = sum("median" in times for found in measured.values() for times in found.values())
    below = 1.0 + 0.19 * bars  # inches
    figure = plt.figure(figsize=(14, 4.7 + below), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[4.7, below])
    left, right = top.subplots(1, 2, width_ratios=[1.6, 1])
    _draw_gradients(left, measured)
    _draw_counts(right, counts)
    _draw_others(bottom.subplots(), measured)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_gradients(axes, measured):
    lines: dict[str, list] = {}
    for name, found in measured.items():
        if match := _GRADIENTS.match(name):
            for label, times in found.items():
                if "median" in times:
                    lines.setdefault(label, []).append((int(match[1]), 1e3 * times["median"]))
    markers = iter("osD^v<>PX*")
    for label, line in lines.items():
        ours = label in (COMPILED, EAGER, SHIFT)
        style = {"linewidth": 2.2} if ours else {"linewidth": 1, "linestyle": "--"}
        axes.plot(*zip(*line, strict=True), marker=next(markers), label=label, **style)
    axes.set_yscale("log")
    if not lines:
        return
    axes.set_xticks(sorted({n for line in lines.values() for n, _ in line}))
    axes.set_xlabel("wires n (ring of 3 layers, 6n parameters)")
    axes.set_ylabel("ms")
    axes.set_title("value and gradient, exact, without compilation")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_counts(axes, counts):
    axes.plot(counts["parameters"], counts["plain recursion"], "o--", label="plain recursion")
    axes.plot(counts["parameters"], counts["qshift"], "o-", label="qshift")
    axes.set_yscale("log")
    axes.set_xlabel("one-frequency parameters")
    axes.set_ylabel("circuits")
    axes.set_title("circuits: value, gradient, Hessian by shift")
    axes.legend(frameon=False)
    axes.set_xticks(counts["parameters"][::2])
    axes.grid(alpha=0.3)


def _draw_others(axes, measured):
    position, ticks, labels = 0, [], []
    for name, found in measured.items():
        if _GRADIENTS.match(name):
            continue
        for label, times in found.items():
            if "median" not in times:
                continue
            colour = "tab:blue" if label.startswith("qshift") else "tab:gray"
            axes.barh(position, times["median"], color=colour)
            axes.annotate(
                f" {shown(times['median'])}", (times["median"], position), va="center", fontsize=7
            )
            ticks.append(position)
            labels.append(f"{name}:  {label}")
            position += 1
        position += 0.7
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set_xscale("log")
    axes.set_xlim(right=4 * axes.get_xlim()[1])
    axes.set_ylim(position - 0.7, -1)
    axes.set_xlabel("seconds, without compilation")
    axes.grid(alpha=0.3, axis="x")
