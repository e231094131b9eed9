"""Copies of a small circuit on several patches of a chip, which run as one circuit.

Every copy has an observable, or a register of outcomes, of its own. All copies together have the
shots that were asked for, so that a k-th of the executions is paid, and a value is the mean over
the patches: a function of the same angles, for which shift rules hold as for each patch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qshift.errors import OptionError
from qshift.executors.qiskit.pub_results import REGISTER
from qshift.inputs import is_integer


class Copies(NamedTuple):
    """One or more copies of a transpiled circuit.

    Attributes:
        circuit: The copies as one circuit on the backend's qubits.
        places: For each copy, the qubit that each of its wires is on in the end.
    """

    circuit: QuantumCircuit
    places: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, parts: Sequence[QuantumCircuit]) -> Copies:
        """Returns transpiled circuits, which use different qubits, as one."""
        places = tuple(
            tuple(part.layout.final_index_layout() if part.layout else range(part.num_qubits))
            for part in parts
        )
        if len(parts) == 1:
            return cls(parts[0], places)
        together = QuantumCircuit(parts[0].num_qubits)
        shared: dict[str, Parameter] = {}
        for part in parts:
            # Circuits from disk have parameters of their own, with the same names.
            same = {each: shared.setdefault(each.name, each) for each in part.parameters}
            part = part.assign_parameters({old: new for old, new in same.items() if old != new})
            together.compose(part, together.qubits, inplace=True)
        return cls(together, places)

    def observables(self, each: Sequence[SparsePauliOp]) -> tuple[SparsePauliOp, ...]:
        """Returns observables of a circuit's wires as those of the qubits of each copy, copy by
        copy."""
        size = self.circuit.num_qubits
        return tuple(one.apply_layout(list(on), size) for on in self.places for one in each)

    def measuring(self, wires: Sequence[int]) -> QuantumCircuit:
        """Returns the circuit with a measurement of some wires in each copy."""
        measured = self.circuit.copy()
        for copy, on in enumerate(self.places):
            name = REGISTER if len(self.places) == 1 else f"{REGISTER}{copy}"
            register = ClassicalRegister(len(wires), name)
            measured.add_register(register)
            measured.measure([on[wire] for wire in wires], register)
        return measured


def require_number(copies: Any) -> None:
    """Raises OptionError for a number of copies that is none."""
    if copies in (None, "auto") or (is_integer(copies) and copies > 0):
        return
    raise OptionError("copies", f'expected a positive number or "auto", got {copies!r}')


def mean_values(measured: np.ndarray, count: int) -> np.ndarray:
    """Returns what an estimator has measured at a point in the mean over all copies.

    The standard error follows from those of the copies or, if it is larger, from their spread,
    which holds the differences between patches as well.

    Args:
        measured: float64[2, k * count], values and standard errors.
        count: The number of observables.
    """
    copies = measured.shape[1] // count if count else 1
    if copies == 1:
        return measured
    values, errors = measured.reshape(2, copies, count)
    own = np.sqrt((errors**2).sum(axis=0)) / copies
    spread = values.std(axis=0, ddof=1) / np.sqrt(copies)
    return np.stack([values.mean(axis=0), np.maximum(own, spread)])


def mean_counts(measured: dict[int, int] | list[dict[int, int]]) -> dict[int, int]:
    """Returns the outcomes of all copies at a point together."""
    if isinstance(measured, dict):
        return measured
    total: Counter[int] = Counter()
    for counts in measured:
        total.update(counts)
    return total
