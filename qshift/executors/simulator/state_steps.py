"""The steps of a circuit, run forwards and backwards on states, of one point or of several at once.

States have the form that `kernel` describes. Those of several points have as many lanes as a
multiple of four; the last lanes may repeat a point.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from qshift.executors.simulator import kernel
from qshift.executors.simulator.clifford_frame import Rotation, Word
from qshift.executors.simulator.gate_matrices import MatrixGate, numbers

if TYPE_CHECKING:
    from qshift.circuits.circuit import Circuit

_SIGNS = (1.0, -1.0, -1.0, 1.0)  # of real parts, where a word has a factor i^0, i^1, ...
_NEIGHBOURS = kernel.WIDTH.bit_length() - 1  # bits within a vector, where there is one point

_FEW = 256  # numbers, for which it does not matter where they begin


def numbers_at_lines(count: int) -> np.ndarray:
    """Returns an array float64[count], not filled, that begins where a cache line of the processor
    does: vectors of numbers that lie across two lines take up to twice as long."""
    if count < _FEW:
        return np.empty(count)
    found = np.empty(count + 7)
    begin = -(found.ctypes.data // 8) % 8
    return found[begin : begin + count]


def blocks_of(lanes: int, numbers: int) -> np.ndarray:
    """Returns states of points, not filled: float64[blocks, K], with so many numbers of each."""
    blocks = -(-lanes // kernel.WIDTH)
    return numbers_at_lines(lanes * numbers).reshape(blocks, -1)


def by_lane(states: np.ndarray, lanes: int) -> np.ndarray:
    """Returns a view of states: float64[blocks, numbers of a point, lanes of a block]."""
    return states.reshape(len(states), -1, lanes // len(states))


def angles_of(lanes: int, steps: int) -> np.ndarray:
    """Returns an array for what `kernel.angles` writes of so many points and steps."""
    blocks, width = -(-lanes // kernel.WIDTH), 3 * kernel.WIDTH
    return numbers_at_lines(blocks * steps * width).reshape(blocks, steps, width)


class Table(NamedTuple):
    """Words as the kernel takes them: int64[R, 4], and their signs float64[R, 8]."""

    words: np.ndarray
    signs: np.ndarray


def table(words: Iterable[tuple[Word, float]], wires: int, quarters: int, alone: bool) -> Table:
    """Returns Pauli words, times i^quarters, as the kernel takes them.

    Args:
        words: Words and factors.
        wires: The number of wires.
        quarters: 3 for rotations, 0 for observables.
        alone: Whether states are those of one point.
    """
    top, shift = 1 << wires, _NEIGHBOURS if alone else 0
    inside, lanes = (1 << shift) - 1, np.arange(kernel.WIDTH)
    rows, signs = [], []
    for word, factor in words:
        power = (word.phase + quarters + 2 * (word.x & word.z).bit_count()) % 4
        crosses = top if power % 2 else 0  # from real to imaginary parts
        x, z = word.x | crosses, word.z | crosses
        rows.append((x >> shift, z >> shift, 1 << (x >> shift).bit_length() >> 1, x & inside))
        even = factor * _SIGNS[power] * (1.0 - 2.0 * (np.bitwise_count(lanes & z & inside) % 2))
        signs.append(np.concatenate([even, -even]))
    count = len(rows)
    return Table(
        np.array(rows, dtype=np.int64).reshape(count, 4),
        np.array(signs, dtype=float).reshape(count, 2 * kernel.WIDTH),
    )


class Tables(dict[bool, Table]):
    """Words for states of one point (True) and of several (False), each made when it is asked for.

    Args:
        words: What `table` makes of words; it is called with whether states are those of one point.
    """

    def __init__(self, words: Callable[[bool], Table]) -> None:
        super().__init__()
        self._words = words

    def __missing__(self, alone: bool) -> Table:
        found = self[alone] = self._words(alone)
        return found


class Steps:
    """Rotations and matrices, in order. Does not keep the circuit alive.

    Args:
        circuit: The circuit.
        steps: The steps.

    Attributes:
        count: How many there are.
        columns, scales: As for `kernel.angles`.
        tables: The words of the rotations, as the kernel takes them, and their signs.
        uses: (step, column) for each column that a step uses.
        widest_moving: Wires of the widest matrix that changes with the points.
    """

    def __init__(self, circuit: Circuit, steps: Sequence[Rotation | MatrixGate]) -> None:
        self._circuit = weakref.proxy(circuit)
        nothing = Rotation(Word(0, 0, 0), -1, 0.0)  # in place of matrices
        rotations = [step if isinstance(step, Rotation) else nothing for step in steps]
        self.columns = np.array([each.column for each in rotations], dtype=np.int64)
        self.scales = np.array([each.scale for each in rotations], dtype=float)
        words = [(each.word, 1.0) for each in rotations]
        self.tables = Tables(functools.partial(table, words, len(circuit.wires), 3))
        self.uses = [
            (k, column)
            for k, step in enumerate(steps)
            for column in ([step.column] if isinstance(step, Rotation) else step.columns)
            if column >= 0
        ]
        self.count, self._parameters = len(steps), circuit.num_parameters
        self._runs: list[tuple[int, int, MatrixGate | None]] = []
        for k, step in enumerate(steps):
            if isinstance(step, MatrixGate):
                self._runs.append((k, k + 1, step))
            elif self._runs and self._runs[-1][2] is None:
                self._runs[-1] = (self._runs[-1][0], k + 1, None)
            else:
                self._runs.append((k, k + 1, None))
        self.widest_moving = max(
            (len(step.places).bit_length() - 1 for step in steps if _moves(step)), default=0
        )

    @property
    def are_rotations(self) -> bool:
        """Whether there are steps, and none is a matrix."""
        return self.count > 0 and all(gate is None for _, _, gate in self._runs)

    @property
    def differentiable(self) -> bool:
        """Whether `back` gives the derivatives by all columns."""
        return all(
            gate is None or not len(gate.columns) or gate.generator is not None
            for _, _, gate in self._runs
        )

    def angles(self, points: np.ndarray) -> np.ndarray:
        """Returns what the kernel has to know of the angles at points float64[lanes, P]."""
        found = angles_of(len(points), self.count)
        if self.count:
            signs = self.tables[len(points) == 1].signs
            kernel.angles(points, self.columns, self.scales, signs, found)
        return found

    def run(
        self,
        state: np.ndarray,
        points: np.ndarray,
        angles: np.ndarray,
        first: int = 0,
        stop: int | None = None,
    ) -> None:
        """Applies the steps from `first` up to `stop` to a state.

        Args:
            state: The state, which is overwritten.
            points: float64[lanes, P].
            angles: What `angles` has returned for them.
        """
        lanes, stop = len(points), self.count if stop is None else stop
        words, _ = self.tables[lanes == 1]
        for begin, end, gate in self._runs:
            begin, end = max(begin, first), min(end, stop)
            if begin >= end:
                continue
            if gate is None:
                kernel.forward(state, words, angles, begin, end)
            else:
                _multiply(gate, gate.matrices(self._circuit, points), state, state, lanes)

    def back(
        self, state: np.ndarray, other: np.ndarray, points: np.ndarray, angles: np.ndarray
    ) -> np.ndarray:
        """Takes all steps back, and returns derivatives float64[lanes, P].

        Args:
            state: The state behind the steps, which is overwritten.
            other: An observable times this state, which is overwritten.
            points: float64[lanes, P].
            angles: What `angles` has returned for them.
        """
        lanes = len(points)
        slopes, work = np.zeros((lanes, self._parameters)), np.zeros(kernel.WORK)
        words, signs = self.tables[lanes == 1]
        moves = self.columns, self.scales
        for begin, end, gate in reversed(self._runs):
            if gate is None:
                kernel.backward(
                    state, other, words, angles, signs, *moves, begin, end, work, slopes
                )
                continue
            if gate.generator is not None:
                changed = np.zeros_like(state)
                _multiply(gate, numbers(gate.generator)[..., None], state, changed, lanes)
                overlaps = by_lane(changed * other, lanes).sum(axis=1)
                slopes[:, gate.columns[0]] += 2.0 * overlaps.ravel()
            inverse = np.swapaxes(gate.matrices(self._circuit, points), 0, 1).copy()
            inverse[:, :, 1] *= -1.0
            for each in (state, other):
                _multiply(gate, inverse, each, each, lanes)
        return slopes


def _moves(step: Rotation | MatrixGate) -> TypeGuard[MatrixGate]:
    return isinstance(step, MatrixGate) and step.constant is None


def _multiply(gate: MatrixGate, matrix: Any, state: Any, result: Any, lanes: int) -> None:
    work = np.empty(2 * kernel.WIDTH * len(gate.places))
    matrix = np.ascontiguousarray(matrix)
    kernel.multiply(state, result, lanes, gate.places, gate.masks, matrix, work)
