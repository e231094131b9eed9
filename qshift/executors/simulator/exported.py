"""A circuit as plain TensorFlow ops, from points to values, so that a SavedModel needs no Python.

It has the steps and observables of the simulator. A state is float64[2 * 2**n, N], in the form that
`kernel` describes. Rotations run in a `tf.while_loop`, so the number of ops hardly depends on how
many there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from qshift.executors.simulator.clifford_frame import Frame, Rotation
from qshift.executors.simulator.gate_matrices import MatrixGate
from qshift.executors.simulator.measurement_bases import (
    Basis,
    NotCoveredError,
    bases,
    words_of,
)
from qshift.executors.simulator.outcomes import Observables, turned
from qshift.executors.simulator.simulation import framed
from qshift.executors.simulator.state_steps import table
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from qshift.circuits.circuit import Circuit

MOST_WIRES = 20
_MOST_ROWS = 64  # of a matrix that differs between the points

# From a state and the points float64[N, P] to the next state.
_Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def in_tensorflow(
    circuit: Circuit, thresholds: Thresholds = DEFAULT
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of TensorFlow ops, from points float64[N, P] to values float64[N, M].

    Args:
        circuit: The circuit, without shots.
        thresholds: How wide matrices may be.

    Raises:
        NotCoveredError: If it has too many wires, or a gate or measurement that is not covered.
    """
    wires, count = len(circuit.wires), circuit.num_values
    if not circuit.is_finite:
        return lambda points: tf.fill([tf.shape(points)[0], count], tf.constant(np.nan, tf.float64))
    if wires > MOST_WIRES:
        raise NotCoveredError(f"it has {wires} wires, and at most {MOST_WIRES} can be exported")
    frame, start = framed(circuit, thresholds)
    if start is None:
        start = np.eye(1, 2 << wires)[0]
    steps = _steps(frame.steps, wires)
    measured = [
        _words(Observables(words_of(circuit.measurements, circuit.sizes), frame)),
        *(
            _outcomes(circuit, basis, frame)
            for basis in bases(circuit.measurements, circuit.sizes, thresholds)
        ),
    ]

    def function(points: tf.Tensor) -> tf.Tensor:
        state = tf.repeat(tf.constant(start[:, None]), tf.shape(points)[0], axis=1)
        for step in steps:
            state = step(state, points)
        values = tf.zeros([count, tf.shape(points)[0]], tf.float64)
        for measure in measured:
            values = measure(state, points, values)
        finite = tf.reduce_all(tf.math.is_finite(points), axis=1)
        return tf.where(finite[:, None], tf.transpose(values), np.nan)

    return function


def _steps(steps: Sequence[Rotation | MatrixGate], wires: int) -> list[_Step]:
    found: list[_Step] = []
    for are_rotations, some in itertools.groupby(steps, lambda step: isinstance(step, Rotation)):
        own: list[Any] = list(some)
        found += [_rotations(own, wires)] if are_rotations else [_matrix(g, wires) for g in own]
    return found


def _rotations(rotations: Sequence[Rotation], wires: int) -> _Step:
    words, signs = table(((each.word, 1.0) for each in rotations), wires, 3, False)
    columns = np.array([each.column for each in rotations])
    halves = np.array([each.scale for each in rotations]) / 2

    def step(state: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
        ones = tf.ones([tf.shape(points)[0], 1], tf.float64)  # the last column, of constant angles
        angles = tf.gather(tf.concat([points, ones], 1), columns % (points.shape[1] + 1), axis=1)
        angles = tf.transpose(angles * halves)
        cosines, sines = tf.cos(angles), signs[:, :1] * tf.sin(angles)
        turned = _turned(words)

        def turn(r: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return r + 1, cosines[r] * state + sines[r] * turned(state, r)

        return _loop(len(rotations), turn, state)

    return step


def _turned(words: np.ndarray) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns a function that multiplies a state by one of some words, without their signs."""
    xs, zs = (tf.constant(words[:, k], tf.int32) for k in (0, 1))

    def turned(state: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        places = tf.range(tf.shape(state)[0])
        moved = tf.gather(state, tf.bitwise.bitwise_xor(places, xs[which]))
        odd = _parity(tf.bitwise.bitwise_and(places, zs[which]))
        return tf.cast(1 - 2 * odd, tf.float64)[:, None] * moved

    return turned


def _parity(numbers: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.raw_ops.PopulationCount(x=numbers), tf.int32) % 2


def _loop(count: int, body: Callable, state: tf.Tensor) -> tf.Tensor:
    """Returns what `count` turns of body(turn, state), which returns the same two, make of it."""
    found = tf.while_loop(
        lambda k, _: k < count,
        body,
        (0, state),
        shape_invariants=(tf.TensorShape([]), state.shape),
        maximum_iterations=count,
        parallel_iterations=1,
    )
    return found[1]


def _matrix(gate: MatrixGate, wires: int) -> _Step:
    """Returns a gate as a real matrix on the real and imaginary parts of its amplitudes."""
    matrices = _real_matrices(gate)
    mine, controls, values = gate.masks.tolist()
    amplitudes = np.arange(2**wires)
    first = amplitudes[(amplitudes & mine == 0) & (amplitudes & controls == values)]
    rows = first[:, None] | gate.places
    rows = np.concatenate([rows, rows + 2**wires], axis=1).astype(np.int32)
    # Where each number is, once the new ones stand behind the old ones. (To write them into the
    # state, TensorFlow has an op that does not take empty batches.)
    places = np.arange(2 << wires, dtype=np.int32)
    places[rows.ravel()] = (2 << wires) + np.arange(rows.size)

    def step(state: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
        new = tf.einsum("ij...,bj...->bi...", matrices(points), tf.gather(state, rows))
        new = tf.reshape(new, [rows.size, tf.shape(state)[1]])
        return tf.gather(tf.concat([state, new], 0), places)

    return step


def _real_matrices(gate: MatrixGate) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from points to the real form of a gate's matrix, float64[2D, 2D, N or 1].

    Raises:
        NotCoveredError: If the matrix changes otherwise than as exp(angle * generator).
    """

    def real(matrix: np.ndarray) -> np.ndarray:
        return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])

    if gate.constant is not None:
        fixed = real(gate.constant[..., 0, 0] + 1j * gate.constant[..., 1, 0])[..., None]
        return lambda points: tf.constant(fixed)
    if gate.generator is None or len(gate.places) > _MOST_ROWS:
        raise NotCoveredError(
            f"the matrix of {gate.op.name} changes with its parameters, and only rotations and "
            "exponentials of one angle can be exported"
        )
    turns, vectors = np.linalg.eigh(-1j * gate.generator)
    parts = [np.outer(v, v.conj()) for v in vectors.T]
    even, odd = (np.stack([real(factor * part) for part in parts], axis=-1) for factor in (1, 1j))
    (column,) = gate.columns

    def moving(points: tf.Tensor) -> tf.Tensor:
        angles = turns[:, None] * points[:, column]  # [D, N]
        cosines, sines = tf.cos(angles), tf.sin(angles)
        return tf.tensordot(even, cosines, 1) + tf.tensordot(odd, sines, 1)

    return moving


def _words(observables: Observables) -> Callable[..., tf.Tensor]:
    """Returns a function that adds the expectation values of Pauli words to values float64[M, N],
    given a state, the points and these values."""
    (words, signs), places = observables.tables[False], observables.places

    def measure(state: tf.Tensor, points: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        turned = _turned(words)

        def add(w: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            mean = tf.reduce_sum(state * turned(state, w), axis=0)
            mine = tf.one_hot(tf.gather(places, w), tf.shape(values)[0], dtype=tf.float64)
            return w + 1, values + mine[:, None] * tf.gather(signs[:, 0], w) * mean

        return _loop(len(places), add, values) if len(places) else values

    return measure


def _outcomes(circuit: Circuit, basis: Basis, frame: Frame) -> Callable[..., tf.Tensor]:
    """Returns a function as `_words` does, for the values of a basis."""
    further, parities = turned(frame, basis)
    steps, count = _steps(further, len(frame.wire_map)), circuit.num_values

    def measure(state: tf.Tensor, points: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        for step in steps:
            state = step(state, points)
        half = tf.shape(state)[0] // 2
        amplitudes = tf.range(half)
        outcomes = tf.zeros_like(amplitudes)
        for z, flip in parities:
            odd = _parity(tf.bitwise.bitwise_and(amplitudes, tf.constant(z, tf.int32)))
            outcomes = 2 * outcomes + (odd + flip) % 2
        squares = tf.square(state[:half]) + tf.square(state[half:])
        found = tf.math.unsorted_segment_sum(squares, outcomes, 2 ** len(basis.wires))
        if basis.weights is not None:
            found = tf.matmul(basis.weights, found, transpose_a=True)
        return values + tf.matmul(np.eye(count)[:, basis.columns], found)

    return measure
