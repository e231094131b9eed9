"""How many shots each point gets, together with the coefficients that combine the points' values.

If point k has n_k shots of variance one, the derivatives that are wanted have the summed variance
sum_k s_k / n_k, with s_k = (C^T W C)_kk for coefficients C and weights W. For given coefficients
the best n_k are proportional to the root of s_k. For given shots, the best coefficients follow from
least squares among all that give the same derivatives (`relations`). The summed variance is convex
in both together, so taking turns leads to the least there is.

The cost of shots is their number times the summed variance, which does not depend on their number.
By duality no shots and coefficients at all, for the same points, have a lower cost than the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from qshift.rules.shots import LEAST

_ROUNDS = 200
_GAP = 1e-4  # relative, between cost and bound: near enough
_LARGEST_ARRAY = 4_000_000  # numbers of coefficients
_MOST_RELATIONS = 1500
_SMALLEST = 1e-6  # shots of a point that is run, relative to the most that one has
_LEAST_AGAIN = 0.1  # of what new points get on the average; a point is not run again for less


@dataclass(frozen=True)
class Allocation:
    """Shots for a number of points, in units of the shots that circuits take on the average.

    Attributes:
        coefficients: Sparse float64[A, K].
        shots: float64[K], those that the points have in the end.
        cost: Shots times the summed variance of all that is wanted, for values of variance one.
        bound: No shots and coefficients have a lower cost than this, where all shots are free.
    """

    coefficients: sparse.csr_array
    shots: np.ndarray
    cost: float
    bound: float


class Problem:
    """The derivatives that are wanted, as combinations of the values at K points.

    Args:
        rows: Sparse float64[A, K], coefficients that give them.
        relations: Sparse float64[Q, K]: combinations of values that are always zero.
        weights: float64[A], the weights of their variances; or float64[B, A], combinations of them
            of which the summed variance counts.
    """

    def __init__(
        self, rows: sparse.csr_array, relations: sparse.csr_array, weights: np.ndarray
    ) -> None:
        self._rows = rows
        self._weights = np.asarray(weights, dtype=float)
        touched = np.unique(relations.indices)
        many = relations.shape[0] > _MOST_RELATIONS
        if many or rows.shape[0] * len(touched) > _LARGEST_ARRAY:
            touched = touched[:0]
        self._touched = touched
        kept = relations.shape[0] if len(touched) else 0
        self._relations = sparse.csr_array(relations[:kept, touched])
        self._given = rows[:, touched].toarray()
        rest = rows.copy()
        rest.data = np.where(np.isin(rest.indices, touched), 0.0, rest.data)
        rest.eliminate_zeros()
        self._rest = rest  # coefficients that no relation changes
        self._of_rest = self._importance(rest)
        self._used = self._sizes(self._given) > 0

    def allocated(self, held: np.ndarray, budget: float, again: bool = True) -> Allocation:
        """Spreads a number of shots over the points.

        Args:
            held: float64[K], the shots that points have already.
            budget: The shots to add.
            again: Whether points that have shots may get more of them, where that is worth running
                a circuit once more.
        """
        shots = held.astype(float)
        if budget > 0:
            closed = (held > 0) & (not again)
            shots = self._spread(held, budget, closed)
            few = (held > 0) & (shots - held < _LEAST_AGAIN * budget / max((held == 0).sum(), 1))
            if ((shots > held) & few).any():
                shots = self._spread(held, budget, closed | few)
        return self.at(shots)

    def at(self, shots: np.ndarray) -> Allocation:
        """Returns the best coefficients for given shots."""
        own = self._least_squares(shots, self._given)
        importance = self._sizes(own)
        run = shots > 0
        variance = float((importance[run] / shots[run]).sum())
        steepest = float((np.sqrt(importance[run]) / shots[run]).max(initial=0.0))
        bound = (variance / steepest) ** 2 if steepest else 0.0
        entries = sparse.coo_array(own)
        places = entries.row, self._touched[entries.col]
        changed = sparse.csr_array((entries.data, places), shape=self._rows.shape)
        coefficients = sparse.csr_array(self._rest + changed)
        return Allocation(coefficients, shots, float(shots.sum()) * variance, bound)

    def _spread(self, held: np.ndarray, budget: float, closed: np.ndarray) -> np.ndarray:
        """Returns the best shots; points that are closed get none."""
        own, shots = self._given, held
        for _ in range(_ROUNDS):
            roots = np.sqrt(self._sizes(own))
            roots = np.maximum(roots, _SMALLEST * roots.max() * self._used)
            shots = filled(held, roots, budget, closed)
            if not self._relations.shape[0]:
                break
            own = self._least_squares(shots, own)
            run = shots > 0
            variances = self._sizes(own)[run] / shots[run]
            slopes = variances / shots[run]
            # The variance is convex in the shots, so no others lower it by more than this.
            if slopes.max() * budget - slopes @ (shots - held)[run] <= _GAP * variances.sum():
                break
        return shots

    def _least_squares(self, shots: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Returns the coefficients of least variance at the points that relations touch."""
        if not self._relations.shape[0] or not own.size:
            return own
        # A point without shots keeps a coefficient of zero.
        spreads = 1 / np.maximum(shots[self._touched], 1e-12 * shots.max())
        weighted = self._relations.multiply(spreads[None, :]).tocsr()
        matrix = (weighted @ self._relations.T).toarray()
        scale = 1 / np.sqrt(np.diagonal(matrix))
        matrix *= scale[:, None] * scale
        sides = scale[:, None] * (weighted @ own.T)
        try:
            solved = linalg.cho_solve(linalg.cho_factor(matrix), sides)
        except linalg.LinAlgError:
            solved = np.linalg.lstsq(matrix, sides, rcond=1e-13)[0]
        return np.asarray(own - (self._relations.T @ (solved * scale[:, None])).T)

    def _importance(self, coefficients: sparse.csr_array) -> np.ndarray:
        """Returns float64[K]: what each point contributes to the summed variance, per shot."""
        if self._weights.ndim == 1:
            return np.asarray(self._weights @ coefficients.power(2))
        return np.asarray((sparse.csr_array(self._weights) @ coefficients).power(2).sum(axis=0))

    def _sizes(self, own: np.ndarray) -> np.ndarray:
        sizes = np.array(self._of_rest)
        if own.size:
            if self._weights.ndim == 1:
                sizes[self._touched] = self._weights @ own**2
            else:
                sizes[self._touched] = ((self._weights @ own) ** 2).sum(axis=0)
        return sizes


def whole(wanted: np.ndarray, offsets: np.ndarray, least: np.ndarray | int = LEAST) -> np.ndarray:
    """Makes whole numbers of shots, for each column of a batch on its own.

    On the average over all offsets they are the numbers that are wanted. In each column they add
    up to the nearest whole number.

    Args:
        wanted: float64[K, N].
        offsets: float64[N], in [0, 1).
        least: The least number of shots of a point, or that of each entry of `wanted`. The others
            make up for it.

    Returns:
        int64[K, N].
    """
    upto = np.cumsum(at_least(wanted, least), axis=0)
    # Each number has its share between two marks, and the marks are rounded, not the numbers.
    marks = np.floor(np.round(upto, 6) + offsets)
    return np.asarray(np.diff(marks, axis=0, prepend=0.0), dtype=np.int64)


def at_least(wanted: np.ndarray, least: np.ndarray | float) -> np.ndarray:
    """Raises numbers of shots float64[K, N] to the least of each. The others of a column make up
    for it, as far as they can."""
    least = np.broadcast_to(least, wanted.shape)
    total, few = wanted.sum(axis=0), wanted < least
    while True:
        rest = np.maximum(total - np.where(few, least, 0).sum(axis=0), 0.0)
        others = np.where(few, 0.0, wanted)
        scaled = others * (rest / np.maximum(others.sum(axis=0), 1e-300))
        more = ~few & (scaled < least)
        if not more.any():
            return np.where(few, least, scaled)
        few |= more


def filled(held: np.ndarray, roots: np.ndarray, budget: float, closed: np.ndarray) -> np.ndarray:
    """Adds shots, so that all points together are as near to proportional to `roots` as can be.

    Args:
        held: float64[K], the shots that points have.
        roots: float64[K].
        budget: The shots to add.
        closed: bool[K]: points that get none.
    """
    free = (roots > 0) & ~closed
    if not free.any():
        return held
    have, want = held[free], roots[free]
    order = np.argsort(have / want, kind="stable")
    have, want = have[order], want[order]
    levels = (budget + np.cumsum(have)) / np.cumsum(want)  # if the first k points get more
    level = levels[max(int((have < levels * want).sum()), 1) - 1]
    result = held.astype(float)
    result[free] = np.maximum(held[free], level * roots[free])
    return result
