"""A circuit of few wires as rotations about Pauli words, run at many points at once.

`clifford_frame` writes a circuit as a sequence of rotations exp(-i angle/2 P) and a unitary after
them, which the measurements absorb. One rotation is a few array operations for all points together.
Consecutive rotations whose angles are the same at all points are multiplied to one matrix.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from scipy import sparse
from threadpoolctl import ThreadpoolController

from qshift.circuits.circuit import Circuit
from qshift.executors.simulator.clifford_frame import Frame, apply
from qshift.executors.simulator.kernels import Kernels
from qshift.executors.simulator.measurement_bases import Basis, NotCoveredError
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from pennylane.operation import Operator

# For products this small, BLAS's threads wait longer than they work.
_blas = ThreadpoolController().select(user_api="blas")


class Rotations:
    """A circuit that runs at many points at once. Does not keep the circuit alive.

    Args:
        kernels: The circuit's gates.
        circuit: The circuit.
        measured: The bases to measure in.
        thresholds: When it pays, and how much it may hold.

    Raises:
        NotCoveredError: If there are too many wires, or a gate is neither a Clifford gate nor made
            of rotations about words that commute.
    """

    def __init__(
        self,
        kernels: Kernels,
        circuit: Circuit,
        measured: list[Basis],
        thresholds: Thresholds = DEFAULT,
    ) -> None:
        wire_map = {wire: i for i, wire in enumerate(circuit.wires)}
        self._thresholds = thresholds
        if not thresholds.rotations_pay(len(wire_map), True, np.inf):
            raise NotCoveredError
        frame = Frame(wire_map)
        for gate in kernels.moving:
            frame.add(gate.op, gate.columns)
        self._wires, self._gates = len(wire_map), len(kernels.moving)
        self._size = size = 2 ** len(wire_map)
        self._fuses = len(wire_map) <= thresholds.most_fused_wires
        self._start = _planes(np.eye(1, size)[0] if kernels.start is None else kernels.start)
        if not frame.rotations:
            raise NotCoveredError
        words, columns, scales = zip(*frame.rotations, strict=True)
        # From the parameters, and a one for constants, to half the angles: float64[K, P + 1].
        shape = len(words), circuit.num_parameters + 1
        positions = range(len(words)), np.array(columns) % shape[1]
        self._halving = sparse.csr_array((np.array(scales) / 2, positions), shape=shape)
        entries = [word.entries(size) for word in words]
        self._sources = np.array([columns for columns, _ in entries])
        self._factors = np.array([values for _, values in entries])
        self._fused: dict[int, tuple] = {}  # first rotation -> (angles, products, words)
        self._moves = [_real(columns, -1j * values) for columns, values in entries]
        self._measured = [(_planes_of(_rotation(b, frame)), b.wires) for b in measured]
        self._observables: Any = None
        if all(isinstance(m, qml.measurements.ExpectationMP) for m in circuit.measurements):
            self._observables = np.concatenate(
                [_planes_of(_observable(m.obs, frame)) for m in circuit.measurements]
            )

    def pay(self, points: int, gradients: bool) -> bool:
        """Whether so many points take less time than on lightning's kernels."""
        # In a training, gradients follow the values and use the same products again.
        gradients = gradients or any(words is not None for *_, words in self._fused.values())
        points_per_rotation = points * self._gates / len(self._moves)
        return self._thresholds.rotations_pay(self._wires, gradients, points_per_rotation)

    def probabilities(self, points: np.ndarray) -> list[np.ndarray]:
        """Returns the probabilities float64[N, 2**k] of the outcomes in each basis.

        Args:
            points: float64[N, P].
        """
        found = [np.empty((len(points), 2 ** len(wires))) for _, wires in self._measured]
        with _blas.limit(limits=1):
            halves = self._halves(points)
            runs = self._runs(halves, gradients=False)
            for chunk in self._chunks(len(points), 2):
                states = self._final(runs, halves[:, chunk])
                for rows, (rotation, wires) in zip(found, self._measured, strict=True):
                    real, imaginary = np.split(rotation @ states, 2)
                    rows[chunk] = _marginal(real**2 + imaginary**2, wires).T
        return found

    def gradients(self, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P] of expectation values.

        By adjoint differentiation (Jones and Gacon 2020, arXiv:2009.02823): the final states, and
        the observables applied to them, go back through the circuit together.

        Args:
            points: float64[N, P].
        """
        values, count = len(self._observables) // (2 * self._size), len(points)
        by_half = np.empty((len(self._moves), values, count))
        with _blas.limit(limits=1):
            halves = self._halves(points)
            runs = self._runs(halves, gradients=True)
            for chunk in self._chunks(count, 3 * (1 + values)):
                part = halves[:, chunk]
                states = self._final(runs, part)
                others = (self._observables @ states).reshape(values, *states.shape)
                # [rows, 1 + M, N]
                states = np.stack([states, *others], axis=1)
                for first, stop, fused in reversed(runs):
                    if fused is not None:
                        matrix, words = fused
                        states = np.tensordot(matrix.T, states, 1)
                        by_half[first:stop, :, chunk] = _expectations(words, states)
                        continue
                    for k in reversed(range(first, stop)):
                        moved = self._moved(k, states)
                        np.einsum(
                            "jmn,jn->mn", states[:, 1:], moved[:, 0], out=by_half[k, :, chunk]
                        )
                        states = _turn(states, moved, -part[k])
        by_half *= 2.0
        by_parameter = self._halving.T @ by_half.reshape(len(by_half), -1)
        return by_parameter[:-1].reshape(-1, values, count).transpose(2, 1, 0)

    def _halves(self, points: np.ndarray) -> np.ndarray:
        """Returns half of each angle, float64[K, N]."""
        return self._halving @ np.vstack([points.T, np.ones(len(points))])

    def _chunks(self, count: int, states: int) -> list[Any]:
        size = max(1, self._thresholds.most_numbers // (2 * self._size * states))
        return [slice(i, i + size) for i in range(0, count, size)]

    def _runs(self, halves: np.ndarray, gradients: bool) -> Any:
        """Cuts the rotations into runs, and multiplies those whose angles all points share.

        Returns:
            (first, last + 1, fused) of each run. `fused` is None for rotations that act one by one.
            Otherwise it is their product, and each of their words moved to before the run, which
            gradients need (None without gradients).
        """
        runs = []
        same = (halves == halves[:, :1]).all(axis=1) & self._fuses
        most = self._thresholds.most_fused // self._size**2
        for fuse, together in groupby(range(len(same)), same.__getitem__):
            group = list(together)
            for i in range(0, len(group), most):
                first, stop = group[i], group[i : i + most][-1] + 1
                angles = halves[first:stop, 0]
                runs.append(
                    (first, stop, self._fuse(first, stop, angles, gradients) if fuse else None)
                )
        return runs

    def _fuse(self, first: int, stop: int, halves: np.ndarray, gradients: bool) -> tuple[Any, ...]:
        # The products are kept: values, gradients and shifted gradients of one training step ask
        # for them in turn.
        key = stop, halves.tobytes()
        if first not in self._fused or self._fused[first][0] != key:
            self._fused[first] = key, self._products(first, stop, halves), None
        _, products, words = self._fused[first]
        if gradients and words is None:
            index, factors = np.arange(stop - first)[:, None], self._factors[first:stop]
            moved = factors[:, :, None] * products[index, self._sources[first:stop]]
            words = products.conj().swapaxes(1, 2) @ moved
            # The real part of a word is symmetric and its imaginary part antisymmetric, so both
            # can be read off their sum.
            words = (words.real + words.imag).reshape(len(words), -1)
            self._fused[first] = key, products, words
        return _planes_of(products[-1]), words

    def _products(self, first: int, stop: int, halves: np.ndarray) -> Any:
        """Returns the products of the first 1, 2, ... K rotations: complex[K, 2**n, 2**n]."""
        rows, factors = np.arange(self._size), self._factors[first:stop]
        products = np.zeros((stop - first, self._size, self._size), complex)
        products[:, rows, rows] = np.cos(halves)[:, None]
        sines = np.sin(halves)[:, None]
        products[np.arange(stop - first)[:, None], rows, self._sources[first:stop]] -= (
            1j * sines * factors
        )
        for k in range(1, len(products)):
            products[k] = products[k].dot(products[k - 1])
        return products

    def _final(self, runs: Any, halves: np.ndarray) -> Any:
        """Returns the final states, float64[2 * 2**n, N]."""
        states = self._start[:, None].copy()
        for first, stop, fused in runs:
            if fused is not None:
                states = fused[0] @ states
                continue
            for k in range(first, stop):
                states = _turn(states, self._moved(k, states), halves[k])
        return np.broadcast_to(states, (len(states), halves.shape[1]))

    def _moved(self, k: int, states: np.ndarray) -> Any:
        """Multiplies states by -i times a word."""
        rows, signs = self._moves[k]
        moved = np.take(states, rows, axis=0)
        moved *= signs.reshape(-1, *(1,) * (states.ndim - 1))
        return moved


def _turn(states: np.ndarray, moved: np.ndarray, half: Any) -> Any:
    """Returns rotated states; overwrites its arguments where they have room for the result.

    Args:
        states: The states.
        moved: The states multiplied by -i times the word.
        half: Half of each angle.
    """
    if (half == half[0]).all():
        half = half[:1]
    cosine, sine = np.cos(half), np.sin(half)
    if states.shape[-1] < len(half):
        return states * cosine + moved * sine
    states *= cosine
    moved *= sine
    states += moved
    return states


def _expectations(words: Any, states: np.ndarray) -> Any:
    """Returns Im <other|word|state>, float64[K, M, N].

    Args:
        words: Sums of real and imaginary parts of Hermitian matrices, float64[K, 4**n].
        states: float64[2 * 2**n, 1 + M, N]: the states, and M others for each.
    """
    real, imaginary = np.split(states, 2)
    plus, minus = imaginary[:, :1] + real[:, :1], imaginary[:, :1] - real[:, :1]
    real, imaginary = real[:, None, 1:], imaginary[:, None, 1:]
    products = real * plus + imaginary * minus
    products += (real * minus - imaginary * plus).swapaxes(0, 1)
    shape = products.shape[2:]
    return (words @ products.reshape(-1, np.prod(shape))).reshape(-1, *shape) / 2


def _planes(vector: np.ndarray) -> np.ndarray:
    return np.concatenate([vector.real, vector.imag])


def _planes_of(matrix: np.ndarray) -> np.ndarray:
    """Returns a complex matrix as a real one, which acts on real parts above imaginary parts."""
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def _real(columns: Any, values: np.ndarray) -> tuple[Any, ...]:
    """Returns (rows, signs) of a matrix with the entries of `Word.entries`, which acts on real
    parts above imaginary parts."""
    size, crosses = len(columns), bool(values[0].imag)
    rows = np.concatenate([columns + size * crosses, columns + size * (not crosses)])
    signs = values.imag if crosses else values.real
    return rows, np.concatenate([-signs if crosses else signs, signs])


def _marginal(probabilities: np.ndarray, wires: Any) -> Any:
    """Returns the probabilities of outcomes on k wires, [2**k, N], from those on all, [2**n, N]."""
    count = len(probabilities).bit_length() - 1
    if wires == tuple(range(count)):
        return probabilities
    axes = probabilities.reshape(*(2,) * count, -1)
    others = tuple(wire for wire in range(count) if wire not in wires)
    kept = sorted(wires)
    axes = axes.sum(axis=others).transpose(*(kept.index(wire) for wire in wires), len(wires))
    return axes.reshape(2 ** len(wires), -1)


def _rotation(basis: Basis, frame: Frame) -> np.ndarray:
    """Returns the unitary that comes after all rotations when this basis is measured."""
    unitary = frame.unitary
    for gate, wires, inverse in basis.rotations:
        matrix = getattr(qml, gate).compute_matrix() if isinstance(gate, str) else gate
        unitary = apply(np.conj(matrix).T if inverse else matrix, wires, unitary)
    return unitary


def _observable(observable: Operator, frame: Frame) -> np.ndarray:
    """Returns an observable as it acts right after all rotations."""
    matrix = qml.matrix(observable, wire_order=list(frame.wire_map))
    return frame.unitary.conj().T @ matrix @ frame.unitary
