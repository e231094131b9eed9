"""Every name beneath Aer's public interface that qshift uses, each with what it must do.

No other module uses one. tests/executors/qiskit/test_aer_internals.py tests what this module
promises, without the rest of qshift. This module does not import Aer: where there is a noise model,
Aer has been imported.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Set
from typing import Any


def noise_in(model: Any, steps: Set[tuple[str, tuple[int, ...]]]) -> Any:
    """Returns the part of a noise model that acts in some steps.

    Args:
        model: A noise model.
        steps: Pairs of a gate and the qubits it acts on; the gate "measure" stands for readout.
    """
    part = copy.copy(model)
    # {gate: {qubits: error}}, and {qubits: error} for readout.
    part._local_quantum_errors = {
        gate: {qubits: error for qubits, error in errors.items() if (gate, qubits) in steps}
        for gate, errors in model._local_quantum_errors.items()
    }
    part._local_readout_errors = {
        qubits: error
        for qubits, error in model._local_readout_errors.items()
        if ("measure", qubits) in steps
    }
    part.to_dict = functools.cache(part.to_dict)  # Aer calls it with each job
    return part


def noise_passes(model: Any) -> list:
    """Returns the transpiler passes of a noise model, which `to_dict` leaves out."""
    return model._custom_noise_passes


def relaxation(each: Any) -> dict[str, Any] | None:
    """Returns the settings of a `RelaxationNoisePass` of a noise model; None for any other pass,
    which may call any function.

    Returns:
        The pass's times, probabilities, time step and method by name; "target", a Qiskit target
        with the gates' durations, or None; "ops", the classes of operations that it acts on.
    """
    if type(each).__name__ != "RelaxationNoisePass":
        return None
    times = {name: getattr(each, name) for name in ("_t1s", "_t2s", "_p1s", "_dt", "_method")}
    return times | {"target": each._target, "ops": each._ops}
