"""How many shots each shifted tape takes, where users give shots for all tapes of a derivative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qshift.executors.bases import bases
from qshift.rules.planner import Step
from qshift.rules.rounding import rounded
from qshift.rules.shots import Shots

if TYPE_CHECKING:
    from pennylane.measurements import MeasurementProcess
    from pennylane.measurements import Shots as DeviceShots


def require_spread(asked: Any, given: DeviceShots) -> None:
    """Raises ValueError unless shots can be spread over the tapes of a derivative.

    Args:
        asked: What was asked for.
        given: The shots of the tape that is differentiated.
    """
    if not isinstance(asked, Shots):
        raise ValueError(
            f"shots= takes qshift.Shots(total=...) or qshift.Shots(per_circuit=...), got {asked!r}."
        )
    if asked.error is not None or asked.pilot:
        raise ValueError(
            f"shots={asked}: tapes are made before any of them is run, so there is no pilot share "
            "and no error to aim at. Give total or per_circuit, or use qshift.qnode."
        )
    if not given or given.has_partitioned_shots:
        raise ValueError(
            f"shots={asked} were given for the derivatives of a tape with shots={given}. Give the "
            "tape, or the QNode, a number of shots for its value."
        )


def shots_of_tapes(
    asked: Shots, step: Step, measurements: Sequence[MeasurementProcess]
) -> np.ndarray:
    """Returns the shots of each new point of a plan, int64[K], with few different numbers.

    Args:
        asked: What was asked for.
        step: The plan.
        measurements: What is measured. A total counts the samples in all bases.

    Raises:
        ValueError: If a total does not suffice for all tapes.
    """
    count, number = len(step.new_points), asked.number
    if step.shots is None or not count:
        return np.full(count, number)
    times = bases(measurements) if asked.total else 1
    asked = replace(asked, total=max(number // times, 1)) if asked.total else asked
    wanted = step.shots[:, None] * asked.number
    if asked.are_too_few(wanted.sum(), count):
        raise asked.too_few(
            count, times, "or use qshift.qnode, which then chooses circuits at random"
        )
    return rounded(wanted, None, asked.least, "few")[:, 0]
