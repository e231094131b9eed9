"""Shots as users ask for them: a number for each circuit on the average, or for each batch."""

from __future__ import annotations

from dataclasses import dataclass

from qshift.inputs import is_integer
from qshift.rules.allocation import LEAST


@dataclass(frozen=True)
class Shots:
    """How many shots a qnode takes, and how they are spread over the circuits of a batch.

    With a number, ``shots=1000``, or ``Shots(per_circuit=1000)``, the circuits of a batch take
    1,000 shots each on the average, so that a single circuit takes 1,000. Some circuits count for
    more in the errors of what is asked for, and get more of the shots. With a number and
    ``objective="circuits"``, all take equally many.

    As in PennyLane, these shots are drawn in each basis that the observables are measured in. A
    total, and the shots of plans and of `qshift.Tracker`, count all samples that are drawn.

    On devices that give all circuits of a batch the same shots, they have equally many: with shot
    vectors, and on devices of PennyLane other than default.qubit, default.mixed and
    lightning.qubit. On Qiskit's backends, circuits have shots of their own with `qshift.Shots`, and
    equally many with a plain number.

    Args:
        per_circuit: Shots of a circuit on the average.
        total: Samples of a batch instead, however many circuits it has: of the value, or of the
            gradient, or with `qshift.derivatives` of all orders together; for each point of a batch
            of inputs. Circuits that a call has run for an earlier batch may be run again, for more
            shots, where the later derivatives depend on them much.
        least: No circuit takes fewer shots than this, at least 2.
        equal: Whether all circuits take the same number.

    Raises:
        ValueError: If there is not exactly one of `per_circuit` and `total`, or a number is too
            small.

    Example:
        >>> @qshift.qnode(qshift.device("simulator"), shots=qshift.Shots(total=10_000))
        ... def energy(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
    """

    per_circuit: int | None = None
    total: int | None = None
    least: int = LEAST
    equal: bool = False

    def __post_init__(self) -> None:
        if (self.per_circuit is None) == (self.total is None):
            raise ValueError(
                "Shots takes either per_circuit, a number of shots for each circuit on the "
                f"average, or total, a number for each batch; got {self}."
            )
        for name, smallest in (("per_circuit", 1), ("total", 1), ("least", LEAST)):
            number = getattr(self, name)
            if number is not None and (not is_integer(number) or number < smallest):
                raise ValueError(
                    f"Shots takes {name} as a whole number of {smallest} or more, got {number!r}."
                )
        if self.equal and self.total is not None:
            raise ValueError(
                "Shots(total=..., equal=True): equal shots are given for each circuit. Give "
                "per_circuit, or leave equal out."
            )
        # One shot cannot be spread, and is allowed.
        if self.per_circuit not in (None, 1) and not self.equal and self.least > self.number:
            raise ValueError(
                f"Shots cannot give every circuit {self.least} shots at least and "
                f"{self.per_circuit} on the average. Give a smaller least, or more shots."
            )

    @property
    def number(self) -> int:
        """The number that is given."""
        return int(self.per_circuit or self.total or 0)
