"""Executors run a circuit at many points: float64[N, P] in, float64[N, M] out.

This one contract joins qshift's mathematics to whatever runs circuits. It is also exactly what one
Qiskit Estimator PUB with broadcast parameters is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qshift.circuits.circuit import Circuit
from qshift.forks import Lock


class Calls:
    """Numbers calls: 1, 2, ...

    Attributes:
        made: The last number.
    """

    def __init__(self):
        self.made = 0
        self._lock = Lock()

    def __next__(self) -> int:
        with self._lock:
            self.made += 1
            return self.made


@dataclass(frozen=True, slots=True)
class Call:
    """Which call of a qnode circuits are run for: what seeded samples depend on.

    Attributes:
        number: Counts the calls.
        draws: How often what was run for it already.
    """

    number: int
    draws: dict[bytes, int] = field(default_factory=dict)


class Executor(Protocol):
    """Runs circuits. Everything above this line knows nothing about devices.

    Attributes:
        differentiates_gates: Whether `differentiates` may say yes, once circuits are decomposed
            into gates that devices differentiate.
    """

    differentiates_gates: bool

    def __call__(
        self, circuit: Circuit, points: np.ndarray, call: Call | None = None
    ) -> np.ndarray:
        """Returns the raw values float64[N, M] of a circuit at the points float64[N, P]."""
        ...

    def shots(self, circuit: Circuit) -> int:
        """Returns how many shots each point of a circuit takes; 0 if results are exact."""
        ...

    def jobs(self, circuit: Circuit, points: int) -> int:
        """Returns how many jobs a batch of so many points takes; 0 if the device has none."""
        ...

    def seconds(self, circuit: Circuit, points: int) -> float | None:
        """Returns how many QPU seconds such a batch takes; None if no quantum processor runs it."""
        ...

    def differentiates(self, circuit: Circuit) -> bool:
        """Whether `gradients` has exact derivatives, for less than shifted circuits cost."""
        ...

    def require_gradients(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `gradients` would; runs nothing."""
        ...

    def gradients(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P], where the device has them."""
        ...
