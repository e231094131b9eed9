"""First derivatives by lightning's adjoint differentiation."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pennylane as qml
from pennylane.measurements import ExpectationMP
from threadpoolctl import ThreadpoolController

from qshift.circuits.circuit import Circuit
from qshift.circuits.spectra import suits_adjoint
from qshift.executors.simulator.kernels import Kernels, matrix_gate
from qshift.executors.simulator.lightning_internals import (
    StateVector,
    gate_list,
    jacobian,
    observable_list,
    pauli_z,
)
from qshift.executors.simulator.measurement_bases import NotCoveredError
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from pennylane.operation import Operator

_openmp = ThreadpoolController().select(user_api="openmp")


class Adjoint:
    """Differentiates a circuit by its gates' angles, at the point that `Kernels` have run last.

    Args:
        kernels: The circuit's kernels.
        circuit: The circuit, which is not kept alive.
        wire_map: Wire label -> position.
        thresholds: From how many wires on several threads are worth while.

    Attributes:
        threads: Makes a context for all calls in which as many threads run as are worth while.

    Raises:
        NotCoveredError: If lightning does not differentiate one of its gates or measurements.
    """

    def __init__(
        self,
        kernels: Kernels,
        circuit: Circuit,
        wire_map: dict,
        thresholds: Thresholds = DEFAULT,
    ) -> None:
        if not all(isinstance(m, ExpectationMP) for m in circuit.measurements):
            raise NotCoveredError
        self._kernels = kernels
        self._shape = (len(circuit.measurements), circuit.num_parameters)
        # Lightning numbers the gates that have parameters, so constant gates must not have any.
        gates = [
            matrix_gate(gate.op, gate.position, wire_map)
            if gate.parameters and not gate.columns
            else gate
            for gate in kernels.moving
        ]
        self._moves = [bool(gate.columns) for gate in gates]
        for gate in gates:
            if gate.columns and not (
                suits_adjoint(gate.op)
                and len(gate.parameters) == 1
                and _has_generator(gate.name, len(gate.wires), len(gate.controls))
            ):
                raise NotCoveredError
        self._columns = [gate.columns[0] for gate in gates if gate.columns]
        self._names = [gate.name for gate in gates]
        self._gates = (
            [gate.wires for gate in gates],
            [gate.inverse for gate in gates],
            [gate.matrix if gate.name == "QubitUnitary" else _NO_MATRIX for gate in gates],
            [gate.controls for gate in gates],
            [gate.values for gate in gates],
        )
        observables = [_serializable(m.obs) for m in circuit.measurements]
        with warnings.catch_warnings():  # of complex coefficients, which `bases` knows to be real
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            self._observables = observable_list(observables, wire_map)
        # Lightning shares the observables out among OpenMP's threads, and waits for all of them,
        # also for those that have nothing to do.
        large = len(wire_map) > thresholds.most_wires_alone and len(observables) > 1
        self.threads = nullcontext if large else partial(_openmp.limit, limits=1)

    def __call__(self, row: list[float]) -> np.ndarray:
        """Returns the first derivatives float64[M, P] at the state that `Kernels.run` left.

        Args:
            row: What `Kernels.run` gave with it.
        """
        result = np.zeros(self._shape)
        if self._columns:
            parameters = [
                row[own] if moves else []
                for own, moves in zip(self._kernels.own, self._moves, strict=True)
            ]
            operations = gate_list(self._names, parameters, *self._gates)
            found = jacobian(
                self._kernels.state, self._observables, operations, range(len(self._columns))
            )
            result[:, self._columns] = np.reshape(found, (len(result), -1))
        return result


_NO_MATRIX = np.empty(0, complex)


def _serializable(observable: Operator) -> Operator:
    """Returns an observable as words or a matrix: lightning would apply a sparse one to all wires
    in their order."""
    if observable.pauli_rep is not None:
        return observable
    matrix = qml.matrix(observable, wire_order=observable.wires)
    return qml.Hermitian(matrix, wires=observable.wires)


@lru_cache(maxsize=4096)
def _has_generator(name: str, wires: int, controls: int) -> bool:
    """Whether this release of lightning differentiates a gate with so many wires and controls."""
    state = StateVector(wires + controls)
    targets, control = list(range(wires)), list(range(wires, wires + controls))
    operations = gate_list(
        [name], [[0.1]], [targets], [False], [_NO_MATRIX], [control], [[True] * controls]
    )
    try:
        jacobian(state, [pauli_z(0)], operations, [0])
    except (RuntimeError, TypeError, IndexError):  # the last for a name that it does not look up
        return False
    return True
