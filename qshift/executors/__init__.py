"""Executors run a circuit at many points: float64[N, P] in, float64[N, M] out.

This one contract joins qshift's mathematics to whatever runs circuits. It is also exactly what one
Qiskit Estimator PUB with broadcast parameters is.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from qshift.circuit import Circuit
from qshift.evaluation import Call
from qshift.executors.pennylane import PennyLaneExecutor

__all__ = ["Executor", "PennyLaneExecutor"]


class Executor(Protocol):
    """Runs circuits. Everything above this line knows nothing about devices."""

    def __call__(
        self, circuit: Circuit, points: np.ndarray, call: Call | None = None
    ) -> np.ndarray:
        """Returns the raw values float64[N, M] of a circuit at the points float64[N, P]."""
        ...

    def gradients(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P], where the device has them."""
        ...
