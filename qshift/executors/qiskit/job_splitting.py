"""Splitting the points of a batch into as few jobs as the limits of a job allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qshift.errors import UnsupportedError

_VALUE = 11  # bytes of a parameter value in a payload: a float64 in base64
# (what a job has a limit of, the option that raises this limit)
_LIMITED = (
    ("parameter values", "max_parameter_values"),
    ("executions (shots times measured bases)", "max_executions"),
    ("bytes", "max_payload"),
    ("QPU seconds", "max_time"),
)


@dataclass(frozen=True)
class Limits:
    """The limits of one job.

    Attributes:
        values: Parameter values in all PUBs.
        executions: Circuits times shots.
        pubs: PUBs.
        payload: Bytes, about, of circuits, observables and parameter values.
        seconds: QPU seconds.
        mixed: Whether PUBs of one job may have different shots.
    """

    values: int
    executions: int
    pubs: float = math.inf
    payload: float = math.inf
    seconds: float = math.inf
    mixed: bool = True


@dataclass(frozen=True)
class Load:
    """How much one PUB takes of a job's limits.

    Attributes:
        rows: The number of points.
        values: Parameter values of each point.
        executions: Circuits times shots of each point; 0 for exact results.
        size: Bytes of the circuit and the observables, about.
        seconds: QPU seconds of each point; 0 on simulators.
        copies: How many copies of a circuit each execution runs.
        circuits: How many circuits a point takes: bases, and variants of the circuit in each.
        calibration: Executions that a job with the PUB has besides, to calibrate the readout.
        once: QPU seconds for which a job with the PUB learns the noise that it mitigates.
    """

    rows: int
    values: int
    executions: int
    size: int = 0
    seconds: float = 0.0
    once: float = 0.0
    copies: int = 1
    circuits: int = 1
    calibration: int = 0

    @property
    def shots(self) -> int:
        """Samples of each point, in all bases."""
        return self.executions * self.copies


def pack(loads: Sequence[Load], limits: Limits) -> list[list[tuple[int, int, int]]]:
    """Shares PUBs out among the fewest jobs, filling one after the other.

    Args:
        loads: The PUBs.
        limits: The limits of each job.

    Returns:
        For each job the rows of PUBs that it runs, as (PUB, first row, one past the last).

    Raises:
        UnsupportedError: If a single point is more than a job may hold.
    """
    jobs: list[list[tuple[int, int, int]]] = []
    most = (limits.values, limits.executions, limits.payload, limits.seconds)
    left = list(most)  # what is left of the last job's limits
    for i, load in enumerate(loads):
        each = (load.values, load.executions, _VALUE * load.values, load.seconds)
        once = (0, 0, load.size, 0)
        for (what, option), a, b, limit in zip(_LIMITED, once, each, most, strict=True):
            if a + b > limit:
                raise UnsupportedError(
                    f"One point of a circuit takes {round(a + b, 3):,.12g} {what}, but one job "
                    f"takes {round(limit, 3):,.12g}. Use fewer shots, split the observable, or "
                    f"raise {option}= of the device."
                )
        first = 0
        while first < load.rows:
            fit = load.rows - first
            for rest, fixed, amount in zip(left, once, each, strict=True):
                if amount:
                    # Ten times 0.1 seconds must fit into a second in spite of rounding.
                    fit = int(max(0, min(fit, (rest - fixed) / amount * (1 + 1e-12))))
                elif fixed > rest:
                    fit = 0
            if not jobs or not fit or len(jobs[-1]) >= limits.pubs:
                jobs.append([])
                left = list(most)
                continue
            jobs[-1].append((i, first, first + fit))
            left = [a - b - fit * c for a, b, c in zip(left, once, each, strict=True)]
            first += fit
    return jobs
