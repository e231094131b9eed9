"""What is read off states: expectation values of Pauli words, and probabilities of outcomes.

The words are those before a circuit's Clifford gates (`clifford_frame`). Outcomes are read in a
basis that a few further steps lead to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qshift.executors.simulator import kernel
from qshift.executors.simulator.clifford_frame import Frame, Word, of_letters
from qshift.executors.simulator.measurement_bases import Basis
from qshift.executors.simulator.state_steps import ONES, Steps, Table, table

if TYPE_CHECKING:
    from pennylane.pauli import PauliWord

    from qshift.circuits.circuit import Circuit

_LOW = 10  # bits of an amplitude whose outcomes are in one list


class Observable:
    """A sum of Pauli words, which gives one value of a circuit.

    Args:
        words: Words with their coefficients.
        frame: What comes between the state and the words.
        column: The value.
    """

    def __init__(self, words: dict[PauliWord, float], frame: Frame, column: int) -> None:
        self.column = column
        self._wires = len(frame.wire_map)
        merged: dict[Word, float] = {}
        for word, coefficient in words.items():
            letters = {frame.bits([wire])[0]: letter for wire, letter in word.items()}
            found = frame.before(of_letters(letters), range(self._wires))
            positive = Word(found.x, found.z, (found.x & found.z).bit_count() % 4)
            factor = coefficient if positive == found else -coefficient
            merged[positive] = merged.get(positive, 0.0) + factor
        self._words = merged
        self._tables: dict[bool, Table] = {}

    def times(self, state: np.ndarray, lanes: int) -> np.ndarray:
        """Returns the observable times a state."""
        alone = lanes == 1
        if alone not in self._tables:
            self._tables[alone] = table(self._words.items(), self._wires, 0, alone)
        other = np.zeros_like(state)
        kernel.observe(state, other, lanes, *self._tables[alone])
        return other

    def values(self, state: np.ndarray, lanes: int) -> np.ndarray:
        """Returns expectation values float64[lanes]."""
        found = np.zeros(max(lanes, kernel.WIDTH))
        kernel.overlaps(state, self.times(state, lanes), ONES, found)
        return found.sum(keepdims=True) if lanes == 1 else found


class Outcomes:
    """The outcomes of some wires in a basis.

    Args:
        circuit: The circuit.
        basis: The basis.
        frame: What comes between the state and the measurement.

    Attributes:
        basis: As given.
    """

    def __init__(self, circuit: Circuit, basis: Basis, frame: Frame) -> None:
        self.basis = basis
        frame = frame.branch()
        for op in basis.rotations:
            frame.add(op)
        parities = frame.outcomes(basis.wires)
        self._steps = Steps(circuit, frame.steps)
        wires = len(frame.wire_map)
        low = min(_LOW, wires)
        self._low = _outcomes(np.arange(2**low), parities, flipped=True)
        self._high = _outcomes(np.arange(2 ** (wires - low)) << low, parities, flipped=False)

    def probabilities(self, state: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Returns probabilities float64[lanes, 2**k] at a state, which is left as it is."""
        lanes = len(points)
        found = np.zeros((2 ** len(self.basis.wires), lanes))
        if self._steps.count:
            state = state.copy()
            self._steps.run(state, points, self._steps.angles(points))
        kernel.tally(state, lanes, self._low, self._high, found.reshape(-1))
        return found.T

    def times(self, state: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Returns the observable that has weights float64[2**k] for the outcomes, times a state."""
        other, angles = np.empty_like(state), self._steps.angles(points)
        if self._steps.count:
            state = state.copy()
            self._steps.run(state, points, angles)
        kernel.weigh(state, other, len(points), self._low, self._high, weights)
        if self._steps.count:
            self._steps.back(state, other, points, angles)
        return other


def _outcomes(
    amplitudes: np.ndarray, parities: Sequence[tuple[int, int]], flipped: bool
) -> np.ndarray:
    """Returns the outcomes of amplitudes, int64[K]."""
    found = np.zeros_like(amplitudes)
    for z, flip in parities:
        found = 2 * found + (np.bitwise_count(amplitudes & z) + (flip and flipped)) % 2
    return found.astype(np.int64)
