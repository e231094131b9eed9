"""Shots as users ask for them: a number for each circuit or for each batch, or an error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qshift.inputs import is_integer, is_real

if TYPE_CHECKING:  # SciPy would make the command line slow to start
    from qshift.rules.planner import Step

LEAST = 2  # shots of a circuit; fewer have no variance
PILOT = 0.15  # of the shots of a batch, where a total is given and a second batch costs little
LEAST_PILOT = 10  # shots of a circuit on the average; fewer say little about a variance
_LARGEST_PILOT = 0.5


@dataclass(frozen=True)
class Shots:
    """How many shots a qnode takes, and how they are spread over the circuits of a batch.

    With a number, ``shots=1000``, or ``Shots(per_circuit=1000)``, the circuits of a batch take
    1,000 shots each on the average, so that a single circuit takes 1,000. Some circuits count for
    more in the errors of what is asked for, and get more of the shots: in the gradient of a loss
    over a batch, those of rows with large residuals. With a number and ``objective="circuits"``,
    all take equally many.

    As in PennyLane, these shots are drawn in each basis that the observables are measured in. A
    total, and the shots of plans and of `qshift.Tracker`, count all samples that are drawn: a total
    is rounded down to a multiple of the number of bases, and is at least that.

    On devices that give all circuits of a batch the same shots, they have equally many: with shot
    vectors, and on devices of PennyLane other than default.qubit, default.mixed and
    lightning.qubit. On Qiskit's backends, circuits have shots of their own with `qshift.Shots`, and
    equally many with a plain number.

    Args:
        per_circuit: Shots of a circuit on the average.
        total: Samples of a batch instead, however many circuits it has: of the value, or of the
            gradient, or with `qshift.derivatives` of all orders together; for each point of a batch
            of inputs, on the average. Circuits that a call has run for an earlier batch may be run
            again, for more shots, where the later derivatives depend on them much.
        error: The standard error that is wanted instead: of the value; of the gradient or of all
            that a batch is asked for, the root of the mean square. From a pilot share of the shots
            the variances are estimated, and then as many are added as bring the error there.
        least: No circuit takes fewer shots than this, at least 2. Where a total is less than 2 for
            each, circuits are chosen at random: results stay unbiased, and their errors are those
            of the plan. What is constant in an observable needs no samples. A larger number that is
            given and that the total does not allow is an error.
        equal: Whether all circuits take the same number.
        pilot: The part of the shots from which the variances of all results are estimated before
            the rest is spread accordingly, at most 0.5: circuits whose results vary little then
            get few of the rest. All shots count in the results, which stay unbiased. Circuits are
            run twice, in two batches, on hardware in two jobs. By default 0.15 with `error`, and
            with `total` on simulators, and 0 elsewhere. There is none for a single circuit without
            `error`, and where it is less than 10 shots of a circuit.

    Raises:
        ValueError: If there is not exactly one of `per_circuit`, `total` and `error`, or a number
            is too small or too large.

    Example:
        >>> @qshift.qnode(qshift.device("simulator"), shots=qshift.Shots(total=10_000))
        ... def energy(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
    """

    per_circuit: int | None = None
    total: int | None = None
    error: float | None = None
    least: int = LEAST
    equal: bool = False
    pilot: float | None = None

    def __post_init__(self) -> None:
        if [self.per_circuit, self.total, self.error].count(None) != 2:
            raise ValueError(
                "Shots takes either per_circuit, a number of shots for each circuit on the "
                "average, or total, a number for each batch, or error, the standard error that is "
                f"wanted; got {self}."
            )
        if self.error is not None and not (
            is_real(self.error) and 0 < self.error < math.inf and self.error**2
        ):
            raise ValueError(
                f"Shots takes error as a standard error, a number above 0, got {self.error!r}."
            )
        for name, smallest in (("per_circuit", 1), ("total", 1), ("least", LEAST)):
            number = getattr(self, name)
            if number is not None and (not is_integer(number) or number < smallest):
                raise ValueError(
                    f"Shots takes {name} as a whole number of {smallest} or more, got {number!r}."
                )
        if self.equal and self.per_circuit is None:
            given = "total" if self.error is None else "error"
            raise ValueError(
                f"Shots({given}=..., equal=True): equal shots are given for each circuit. Give "
                "per_circuit, or leave equal out."
            )
        if self.error is not None and self.pilot == 0:
            raise ValueError(
                "Shots(error=..., pilot=0): how many shots an error takes is estimated from a "
                "pilot share. Give one, or leave pilot out."
            )
        if self.pilot is not None:
            if not is_real(self.pilot) or not 0 <= self.pilot <= _LARGEST_PILOT:
                raise ValueError(
                    "Shots takes pilot as a part of the shots, between 0 and "
                    f"{_LARGEST_PILOT}, got {self.pilot!r}."
                )
            if self.equal and self.pilot:
                raise ValueError(
                    f"Shots(equal=True, pilot={self.pilot}): a pilot share decides how many shots "
                    "each circuit gets, so they are not equal. Leave one of the two out."
                )
        # One shot cannot be spread, and is allowed.
        if self.per_circuit not in (None, 1) and not self.equal and self.least > self.number:
            raise ValueError(
                f"Shots cannot give every circuit {self.least} shots at least and "
                f"{self.per_circuit} on the average. Give a smaller least, or more shots."
            )

    @property
    def number(self) -> int:
        """The number that is given; with an error, the shots of a single value whose outcomes have
        variance one."""
        if self.error is not None:
            return math.ceil(1 / self.error**2)
        return int(self.per_circuit or self.total or 0)

    def again(self, step: Step) -> np.ndarray:
        """Returns the positions of the old points that a step runs once more: too few further shots
        are not worth a circuit."""
        if step.shots is None:
            return np.empty(0, dtype=int)
        worth = step.shots[len(step.new_points) :] * self.number >= self.least
        return np.asarray(step.again, dtype=int)[worth]

    def wanted(self, step: Step, again: np.ndarray) -> np.ndarray:
        """Returns the shots float64[K] of a step's new points, and of those old ones that are run
        again, by their positions as from `again`."""
        new = len(step.new_points)
        if step.shots is None:
            return np.full(new, float(self.number))
        kept = np.append(np.ones(new, dtype=bool), np.isin(step.again, again))
        return np.asarray(step.shots[kept] * self.number)

    def are_too_few(self, shots: float, circuits: int) -> bool:
        """Whether shots do not suffice for all circuits of a batch, so that some are chosen; see
        `has_pilot`."""
        return self.total is not None and shots < self.least * circuits

    def too_few(self, circuits: int, bases: int, otherwise: str) -> ValueError:
        """Returns the error of a total that does not suffice for all circuits of a batch.

        Args:
            circuits: How many there are.
            bases: In how many bases each is measured; the total is one of the shots in each.
            otherwise: What else there is to do.
        """
        measured = f", measured in {bases} bases," if bases > 1 else ""
        return ValueError(
            f"A batch of {circuits} circuits{measured} takes {bases * self.number} shots in all, "
            f"less than {self.least} for each. Give Shots(total={bases * self.least * circuits}) "
            f"or more, {otherwise}."
        )

    def has_pilot(self, shots: float, circuits: int) -> bool:
        """Whether the variances of results are estimated before most of the shots are spread.

        Args:
            shots: The shots of the batch, at one point of a batch of inputs.
            circuits: How many circuits they are for.
        """
        if self.error is not None:
            return True
        few = circuits < 2 or shots * (self.pilot or 0.0) < LEAST_PILOT * circuits
        return bool(self.pilot) and not few  # all shots of a single circuit are its own anyway
