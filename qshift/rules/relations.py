"""Linear relations among the values at some points, which hold for all functions of given spectra.

A function that has R frequencies in a parameter has 2R + 1 degrees of freedom in it. Where a plan
has more points than that, some sums of their values are zero whatever the function: for one
frequency, f(pi/2) + f(-pi/2) - f(0) - f(pi) = 0. Multiples of these may be added to the
coefficients of a derivative, which stays exact, while its variance changes.

The relations are found for the parameters of one point after the other, among the points that move
no others, so that they stay sparse.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.linalg import qr, solve_triangular

from qshift.rules.frequencies import is_of_one_scale
from qshift.rules.planner import Frequencies, Index, Known, Point, Spectrum
from qshift.rules.shift_rule import design

_LARGEST = 600  # degrees of freedom, or points, of a subset whose relations are looked for
_NONE, _SOME = 1e-12, 1e-7  # relative to the largest: zeros, and certainly other numbers

_Local = tuple[tuple[float, ...], ...]


def relations(spectra: Sequence[Spectrum | None], points: Sequence[Point]) -> sparse.csr_array:
    """Returns independent relations, float64[Q, K] for K points; not always all there are.

    Relations are left out among points that scale a parameter, and where there are too many degrees
    of freedom, or frequencies too close to one another, for the linear algebra.

    Args:
        spectra: The spectrum of each parameter.
        points: The points, each once.
    """
    known = Known(points)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for support in known.by_support:
        if support and (own := _own(spectra, support, known)) is not None:
            found.append(own)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    values: list[np.ndarray] = []
    count = 0
    for places, coefficients in found:
        size = len(coefficients)
        rows.append(np.repeat(np.arange(count, count + size), len(places)))
        columns.append(np.tile(places, size))
        values.append(coefficients.ravel())
        count += size
    entries = [np.concatenate(each) if each else np.empty(0) for each in (values, rows, columns)]
    result = sparse.csr_array(
        (entries[0], (entries[1].astype(int), entries[2].astype(int))), shape=(count, len(points))
    )
    result.eliminate_zeros()
    return result


def _own(
    spectra: Sequence[Spectrum | None], support: Index, known: Known
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the relations of the points that move exactly the parameters `support`: positions of
    points, and float64[relations, positions]."""
    frequencies = [spectra[p] for p in support]
    if not all(isinstance(each, Frequencies) and each.values for each in frequencies):
        return None
    values = [each.values for each in frequencies]  # type: ignore[union-attr]
    if not all(map(is_of_one_scale, values)):
        return None
    within = known.within(support)
    size = math.prod(2 * len(each) + 1 for each in values)
    if max(size, len(within)) > _LARGEST or any(a != 1.0 for point in within for _, a, _ in point):
        return None
    # The same few situations come back for every subset: each is solved once, in local numbering
    # and in units in which every parameter's largest frequency is 1.
    units = [max(each) for each in values]
    place = {p: i for i, p in enumerate(support)}
    shifts = np.zeros((len(within), len(support)))
    for row, point in enumerate(within):
        for p, _, s in point:
            shifts[row, place[p]] = round(s * units[place[p]], 12)
    local = tuple(tuple(w / unit for w in each) for each, unit in zip(values, units, strict=True))
    coefficients = _solved(local, tuple(map(tuple, shifts.tolist())))
    if not len(coefficients):
        return None
    return np.array([known[point] for point in within]), coefficients


@functools.lru_cache(maxsize=256)
def _solved(frequencies: _Local, points: _Local) -> np.ndarray:
    """Returns relations of points float64[K, parameters] that involve points which move all
    parameters, and are independent there; float64[Q, K]."""
    none = np.empty((0, len(points)))
    shifts = np.array(points)
    rows = np.ones((len(points), 1))
    for i, each in enumerate(frequencies):
        factor = design(each, shifts[:, i])
        rows = (rows[:, :, None] * factor[:, None, :]).reshape(len(points), -1)
    triangle, order = qr(rows.T, mode="r", pivoting=True)  # a tenth of the time of an SVD
    sizes = np.abs(np.diagonal(triangle)) / abs(triangle[0, 0])
    if ((sizes > _NONE) & (sizes < _SOME)).any():
        return none  # rounding errors are not told from numbers
    rank = int((sizes >= _SOME).sum())
    null = np.zeros((len(points) - rank, len(points)))
    null[:, order[rank:]] = np.eye(len(null))
    null[:, order[:rank]] = -solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:]).T
    inner = shifts.all(axis=1)
    # Those among points that move fewer parameters belong to these parameters.
    basis, parts, _ = np.linalg.svd(null[:, inner], full_matrices=False)
    own = basis[:, parts > _SOME].T @ null
    return np.where(np.abs(own) > 1e-14, own, 0.0)
