"""What batches cost in seconds: so much for each circuit, for each shot, and for each job.

Where a circuit takes time whatever its shots, a plan with fewer circuits may reach the same
variance sooner, though it takes more shots. The objectives ``"circuits"`` and ``"shots"`` are the
ends, where a shot or a circuit takes no time at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qshift.inputs import is_real


@dataclass(frozen=True)
class Seconds:
    """How long circuits take, as the objective of a qnode: ``objective=qshift.Seconds(...)``.

    Plans then are those that reach, in the least time, the variance that the best spread of the
    given shots reaches. Numbers may be of any unit; only their ratio decides.

    Args:
        circuit: Seconds of a circuit in a batch, whatever its shots: loading, compilation.
        shot: Seconds of a shot, in one basis.
        job: Seconds of a job, whatever is in it. A batch is one job where the device has none.

    Raises:
        ValueError: If a number is negative or not finite, or a circuit and a shot take no time.

    Example:
        >>> @qshift.qnode(
        ...     qshift.device("simulator"),
        ...     shots=qshift.Shots(total=10_000),
        ...     objective=qshift.Seconds(circuit=0.02, shot=3e-4),
        ... )
        ... def energy(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
    """

    circuit: float = 0.0
    shot: float = 0.0
    job: float = 0.0

    def __post_init__(self) -> None:
        for name in ("circuit", "shot", "job"):
            number = getattr(self, name)
            if not is_real(number) or not 0 <= number < math.inf:
                raise ValueError(
                    f"Seconds takes {name} as a number of seconds, 0 or more, got {number!r}."
                )
        if not self.circuit and not self.shot:
            raise ValueError(
                "Seconds takes what a circuit costs, or a shot, or both, got neither. Give "
                'circuit= and shot=, or take objective="circuits" or "shots".'
            )

    @property
    def overhead(self) -> float:
        """How many shots take as long as a circuit."""
        return self.circuit / self.shot if self.shot else math.inf

    def of(self, circuits: int, shots: int, jobs: int) -> float:
        """Returns the seconds of circuits, of shots in all bases, and of jobs."""
        return self.circuit * circuits + self.shot * shots + self.job * jobs
