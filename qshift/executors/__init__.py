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
from qshift.fallbacks import warn_slower

__all__ = ["Executor", "PennyLaneExecutor", "executor"]


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


def executor(device, seed: int | None = None) -> Executor:
    """Returns what runs circuits on a PennyLane device.

    Args:
        device: The device.
        seed: Seed of the samples; None for fresh ones.
    """
    if device.name == "qshift.estimator":
        from qshift.executors.estimator import EstimatorExecutor  # Late: Qiskit takes a second.

        return EstimatorExecutor(device, seed)
    if device.name == "lightning.qubit":
        try:
            from qshift.executors.lightning import LightningExecutor
        except ImportError as error:  # another release of lightning, with other internals
            warn_slower("Circuits run through lightning's public interface", error)
        else:
            return LightningExecutor(device, seed)
    return PennyLaneExecutor(device, seed)
