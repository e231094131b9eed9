"""Standard errors of expectation values, from samples of the observables and of their squares.

Qiskit's own estimator adds up the deviations of the words of a sum, as if all words fluctuated
together, which gives an upper bound. Here the words of a sum that are measured in the same basis
are put together. The means of such a part and of its square, which is measured in this basis as
well, give its variance; bases have samples of their own, so that their variances add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cachetools import LRUCache
from qiskit.quantum_info import SparsePauliOp

from qshift.executors.qiskit import digests
from qshift.executors.qiskit.job import LocalJob
from qshift.executors.qiskit.observables import Readings, bases, parted
from qshift.executors.qiskit.pub_results import Unpacked, unpacked
from qshift.executors.variances import variance_of_mean
from qshift.forks import Lock

_MOST_WORDS = 1000  # of all squares together; beyond, errors are the estimator's own


class Moments:
    """The observables that an estimator measures for the standard errors of others.

    Args:
        observables: Sums of Pauli words, K of them, without the identity.

    Attributes:
        count: K.
        added: The observables to measure besides, in the same bases.
        is_enough: Whether the errors follow from these. Otherwise, where they would have too many
            words or would take further bases, none are added.
    """

    def __init__(self, observables: Sequence[SparsePauliOp]) -> None:
        self.added: list[SparsePauliOp] = []
        self.count = len(observables)
        # Of each part: the number of its observable, where to find its mean, and that of its
        # square less a constant, or None; the constant.
        self._sums: list[tuple[int, int, int | None, float]] = []
        for k, parts in enumerate(parted(observables)):
            for part in parts:
                mean = k if len(parts) == 1 else self._add(part)
                constant, words = _square(part)
                self._sums.append((k, mean, None if words is None else self._add(words), constant))
        few = sum(map(len, self.added)) <= _MOST_WORDS
        self.is_enough = few and len(bases([*observables, *self.added])) == len(bases(observables))
        if not self.is_enough:
            self.added = []

    def _add(self, observable: SparsePauliOp) -> int:
        self.added.append(observable)
        return self.count + len(self.added) - 1

    def errors(self, means: np.ndarray, shots: int) -> np.ndarray:
        """Returns standard errors float64[N, K].

        Args:
            means: float64[N, L], the means of the observables and of those added.
            shots: The shots in each basis.
        """
        variances = np.zeros((len(means), self.count))
        for k, mean, square, constant in self._sums:
            squares = constant + (0.0 if square is None else means[:, square])
            variances[:, k] += np.maximum(squares - means[:, mean] ** 2, 0.0)
        return np.sqrt(variances / shots)


_known: LRUCache[bytes, Moments] = LRUCache(16)  # a job in blocks asks for the same ones again
_lock = Lock()


def _of(observables: Sequence[SparsePauliOp]) -> Moments:
    key = digests.of_observables(observables)
    with _lock:
        if key not in _known:
            _known[key] = Moments(observables)
        return _known[key]


def with_moments(pubs: Sequence[tuple]) -> tuple[list[tuple], list[tuple[Moments, int]]]:
    """Adds to the PUBs of an estimator what the errors of their observables take.

    Returns:
        The PUBs, and for each its moments and its shots, as `MomentsJob` takes them.
    """
    longer, moments = [], []
    for circuit, observables, bindings, precision in pubs:
        own = _of(observables)
        longer.append((circuit, [*observables, *own.added], bindings, precision))
        moments.append((own, math.ceil(precision**-2)))
    return longer, moments


class MomentsJob(LocalJob):
    """A job of `with_moments`, whose results are those of the PUBs without what was added.

    Args:
        job: The job.
        moments: As from `with_moments`.
    """

    def __init__(self, job: Any, moments: Sequence[tuple[Moments, int]]) -> None:
        super().__init__(job)
        self._moments = moments

    def result(self) -> Sequence[Any]:
        """See `Job`."""
        found = []
        for (moments, shots), result in zip(self._moments, super().result(), strict=True):
            measured = np.asarray(unpacked("estimator", result))
            if moments.is_enough:
                count = moments.count
                errors = moments.errors(measured[:, 0], shots)
                measured = np.stack([measured[:, 0, :count], errors], axis=1)
            found.append(Unpacked(measured))
        return found


def _square(part: SparsePauliOp) -> tuple[float, SparsePauliOp | None]:
    """Returns the square of a sum of commuting words: a constant, and words if there are any."""
    constant = float(np.sum(np.abs(part.coeffs) ** 2))
    square = (part @ part).simplify()
    words = square.paulis.z.any(axis=1) | square.paulis.x.any(axis=1)
    words &= np.abs(square.coeffs) > 1e-12 * constant
    if not words.any():
        return constant, None
    return constant, SparsePauliOp(square.paulis[words], np.real(square.coeffs[words]))


def variances(
    readings: Readings, means: np.ndarray, squares: np.ndarray, shots: np.ndarray
) -> np.ndarray:
    """Returns the variances of a circuit's values that expectation values give, and what of them is
    there because outcomes were added, float64[2, N, M].

    Args:
        readings: How the values follow from these.
        means: float64[N, K], the observables' values.
        squares: float64[N, K], the squares of their standard errors.
        shots: int64[N, 1], the shots in each basis.
    """
    spreads = readings.spreads
    each = variance_of_mean(means, shots * squares + means**2, -spreads, spreads, shots)
    return np.stack(each) @ readings.weights**2
