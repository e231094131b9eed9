"""Every name of pennylane-lightning that qshift uses, each with what it must do.

All of them are undocumented, as lightning's public interface is its devices. If a release lacks one
of these names, circuits run through that interface. No other module imports lightning. What each
name must do is tested alone, in tests/executors/simulator/test_lightning_internals.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.tape import QuantumScript
from pennylane_lightning.lightning_base._serialize import QuantumScriptSerializer
from pennylane_lightning.lightning_qubit_ops import MeasurementsC128, StateVectorC128
from pennylane_lightning.lightning_qubit_ops.algorithms import (
    AdjointJacobianC128,
    create_ops_listC128,
)
from pennylane_lightning.lightning_qubit_ops.observables import NamedObsC128

# StateVectorC128(wires) is a state vector, |0...0> at first, and
#   resetStateVector()               makes it |0...0> again;
#   updateData(vector)               takes the amplitudes from complex[2**wires];
#   getState(vector)                 writes them there;
#   size()                           is how many there are;
#   applyMatrix(matrix, wires, inverse)  applies a unitary, complex[2**k, 2**k];
#   RX(wires, inverse, parameters)   applies a gate by its name in PennyLane, so do others; and
#   RX(controls, values, wires, inverse, parameters)  applies it controlled.
StateVector = StateVectorC128
# MeasurementsC128(state) reads a state vector as it is at the time; probs(wires) are the
# probabilities float64[2**k] of outcomes on some wires, probs() of all.
Measurements = MeasurementsC128


def gate_list(
    names: Sequence[str],
    parameters: Sequence[Sequence[float]],
    wires: Sequence[Sequence[int]],
    inverses: Sequence[bool],
    matrices: Sequence[np.ndarray],
    controls: Sequence[Sequence[int]],
    values: Sequence[Sequence[bool]],
) -> Any:
    """Returns gates as `jacobian` takes them.

    Args:
        names: For each gate its kernel, "QubitUnitary" for a matrix.
        parameters: Its parameters.
        wires: The wires it acts on.
        inverses: Whether it is the inverse of what the name says.
        matrices: Its matrix; an empty array if the name says it all.
        controls: The wires that control it.
        values: Their values.
    """
    return create_ops_listC128(names, parameters, wires, inverses, matrices, controls, values)


def observable_list(observables: Sequence[qml.operation.Operator], wire_map: dict) -> list:
    """Returns observables as `jacobian` takes them.

    Args:
        observables: Words, matrices on all of their wires, and sums of these.
        wire_map: Wire label -> position.
    """
    tape = QuantumScript([], [qml.expval(observable) for observable in observables])
    found, _ = QuantumScriptSerializer("lightning.qubit").serialize_observables(tape, wire_map)
    return found


def pauli_z(wire: int) -> NamedObsC128:
    """Returns Pauli Z as `jacobian` takes it."""
    return NamedObsC128("PauliZ", [wire])


def jacobian(
    state: StateVectorC128, observables: list, gates: Any, parameters: Sequence[int]
) -> np.ndarray:
    """Returns first derivatives of expectation values, float64[M * len(parameters)].

    Args:
        state: The state that the gates have led to; it is left as it is.
        observables: M observables.
        gates: Of `gate_list`. Each is counted as one parameter if it has any.
        parameters: Which parameters, in order.

    Raises:
        RuntimeError: For a gate that it does not differentiate; in some releases a TypeError or
            LookupError.
    """
    return AdjointJacobianC128()(state, observables, gates, parameters)


def generator_of(device: qml.devices.Device) -> np.random.Generator | None:
    """Returns the random number generator of a lightning device, which the device's seed has
    seeded; None if this release keeps it elsewhere."""
    return getattr(device, "_rng", None)
