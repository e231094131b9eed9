"""Sharing the points of a batch out among as few jobs as a service takes them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qshift.errors import UnsupportedError


@dataclass(frozen=True)
class Limits:
    """What one job may hold.

    Attributes:
        values: Parameter values in all its PUBs, which is what its payload consists of.
        executions: Circuits times shots.
    """

    values: int
    executions: int


@dataclass(frozen=True)
class Load:
    """How much there is to run of one PUB.

    Attributes:
        rows: Its number of points.
        values: Parameter values of each.
        executions: Circuits times shots of each; 0 for exact results.
    """

    rows: int
    values: int
    executions: int


def pack(loads: Sequence[Load], limits: Limits) -> list[list[tuple[int, int, int]]]:
    """Shares PUBs out among the fewest jobs, filling one after the other.

    Args:
        loads: The PUBs.
        limits: Of each job.

    Returns:
        For each job which rows of which PUBs it runs: (PUB, first row, one past the last).

    Raises:
        UnsupportedError: If a single point is more than a job may hold.
    """
    jobs: list[list[tuple[int, int, int]]] = []
    values = executions = 0  # that still fit in the last job
    for i, load in enumerate(loads):
        if load.values > limits.values or load.executions > limits.executions:
            raise UnsupportedError(
                f"One point of a circuit takes {load.values} parameter values and "
                f"{load.executions} executions (shots times measured bases), but one job takes "
                f"{limits.values} and {limits.executions}. Use fewer shots, split the "
                "observable, or raise max_parameter_values= or max_executions= of the device."
            )
        first = 0
        while first < load.rows:
            fit = load.rows - first
            if load.values:
                fit = min(fit, values // load.values)
            if load.executions:
                fit = min(fit, executions // load.executions)
            if not jobs or not fit:
                jobs.append([])
                values, executions = limits.values, limits.executions
                continue
            jobs[-1].append((i, first, first + fit))
            values -= fit * load.values
            executions -= fit * load.executions
            first += fit
    return jobs
