"""What is read off states: expectation values of Pauli words, and probabilities of outcomes.

The words are those before a circuit's Clifford gates (`clifford_frame`). Outcomes are read in a
basis that a few further steps lead to.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from qshift.executors.simulator import kernel
from qshift.executors.simulator.clifford_frame import Frame, Rotation, Word, of_letters
from qshift.executors.simulator.measurement_bases import Basis, Words
from qshift.executors.simulator.state_steps import Steps, Tables, table

if TYPE_CHECKING:
    from qshift.circuits.circuit import Circuit
    from qshift.executors.simulator.gate_matrices import MatrixGate

_LOW = 10  # bits of an amplitude whose outcomes are in one list


class Observables:
    """Sums of Pauli words, each of which gives one value of a circuit.

    Args:
        words: Words -> value -> coefficient.
        frame: What comes between the state and the words.

    Attributes:
        columns: The values.
        tables: All words, as the kernel takes them.
        places: int64[W], the value that each of these words contributes to.
    """

    def __init__(self, words: Words, frame: Frame) -> None:
        wires = len(frame.wire_map)
        merged: dict[tuple[int, Word], float] = {}
        for word, entry in words.items():
            letters = {frame.bits([wire])[0]: letter for wire, letter in word.items()}
            found = frame.before(of_letters(letters), range(wires))
            positive = Word(found.x, found.z, (found.x & found.z).bit_count() % 4)
            for column, coefficient in entry.items():
                factor = coefficient if positive == found else -coefficient
                merged[column, positive] = merged.get((column, positive), 0.0) + factor
        self.columns = sorted({column for column, _ in merged})
        self.places = np.array([column for column, _ in merged], dtype=np.int64)
        all_words = [(word, factor) for (_, word), factor in merged.items()]
        self.tables = Tables(partial(table, all_words, wires, 0))


def turned(frame: Frame, basis: Basis) -> tuple[list[Rotation | MatrixGate], list[tuple[int, int]]]:
    """Returns the steps that lead to a basis, and what `Frame.outcomes` says of its wires there."""
    frame = frame.branch()
    for op in basis.rotations:
        frame.add(op)
    return frame.steps, frame.outcomes(basis.wires)


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
        steps, parities = turned(frame, basis)
        self._steps = Steps(circuit, steps)
        wires = len(frame.wire_map)
        low = min(_LOW, wires)
        self._low = _outcomes(np.arange(2**low), parities, flipped=True)
        self._high = _outcomes(np.arange(2 ** (wires - low)) << low, parities, flipped=False)

    def probabilities(self, state: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Returns probabilities float64[lanes, 2**k] at a state, which is left as it is."""
        found = np.zeros((2 ** len(self.basis.wires), len(points)))
        if self._steps.count:
            state = state.copy()
            self._steps.run(state, points, self._steps.angles(points))
        kernel.tally(state, self._low, self._high, found)
        return found.T

    def add_times(
        self, state: np.ndarray, points: np.ndarray, cotangents: np.ndarray, other: np.ndarray
    ) -> None:
        """Adds a sum of the observables, times a state, to another state.

        Args:
            state: The state.
            points: float64[lanes, P].
            cotangents: float64[lanes, M], the factors of the circuit's values.
            other: What is added to.
        """
        own = cotangents[:, self.basis.columns]
        if not own.any():
            return
        product, angles = np.empty_like(state), self._steps.angles(points)
        if self._steps.count:
            state = state.copy()
            self._steps.run(state, points, angles)
        weights = np.ascontiguousarray(self.basis.weighted(own))
        kernel.weigh(state, product, self._low, self._high, weights)
        if self._steps.count:
            self._steps.back(state, product, points, angles)
        other += product


def _outcomes(
    amplitudes: np.ndarray, parities: Sequence[tuple[int, int]], flipped: bool
) -> np.ndarray:
    """Returns the outcomes of amplitudes, int64[K]."""
    found = np.zeros_like(amplitudes)
    for z, flip in parities:
        found = 2 * found + (np.bitwise_count(amplitudes & z) + (flip and flipped)) % 2
    return found.astype(np.int64)
