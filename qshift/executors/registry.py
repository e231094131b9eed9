"""Which executor runs circuits on a device."""

from __future__ import annotations

from qshift.executors.executor import Executor
from qshift.executors.pennylane import PennyLaneExecutor
from qshift.fallbacks import warn_slower


def executor(device, seed: int | None = None) -> Executor:
    """Returns what runs circuits on a PennyLane device.

    Args:
        device: The device.
        seed: Seed of the samples; None for fresh ones.
    """
    if device.name == "qshift.estimator":
        from qshift.executors.qiskit.estimator import (
            EstimatorExecutor,  # Late: Qiskit takes a second.
        )

        return EstimatorExecutor(device, seed)
    if device.name == "lightning.qubit":
        try:
            from qshift.executors.simulator.simulator import LightningExecutor
        except ImportError as error:  # another release of lightning, with other internals
            warn_slower("Circuits run through lightning's public interface", error)
        else:
            return LightningExecutor(device, seed)
    return PennyLaneExecutor(device, seed)
