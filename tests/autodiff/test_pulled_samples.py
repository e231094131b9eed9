"""Weighted sums of derivatives against sums over all entries, one by one."""

import numpy as np
import pytest
from analytic import orders
from scipy import sparse

from qshift.autodiff.pulled_samples import PulledSums

RNG = np.random.default_rng(3)
ROWS, VALUES, POINTS = 4, 2, 9


def one_by_one(lower, weights, indices, mask, columns, by_point):
    """Returns the factor of the value at each point in each sum, [rows, values, J, K], by loops."""
    result = np.zeros((ROWS, VALUES, len(columns), by_point.shape[1]))
    for n, m, c, a in np.ndindex(ROWS, VALUES, len(columns), len(lower)):
        place = indices.index(tuple(sorted((*lower[a], columns[c]))))
        result[n, m, c] += weights[n, m, a] * mask[m, place] * by_point[place]
    return result


@pytest.mark.parametrize(
    "lower, columns",
    [(((),), (0, 1, 2)), (((),), (1,)), (orders(3, 1), (0, 2)), (((0,), (2,)), (0, 1, 2))],
    ids=str,
)
def test_importance_and_sums(lower, columns):
    indices = tuple(dict.fromkeys(tuple(sorted((*a, j))) for j in columns for a in lower))
    weights = RNG.normal(size=(ROWS, VALUES, len(lower)))
    weights[1] = 0.0
    mask = RNG.random((VALUES, len(indices))) < 0.8
    coefficients = RNG.normal(size=(len(indices), POINTS))
    sums = PulledSums(lower, weights, indices, mask)
    assert sums.columns == columns
    rows = one_by_one(lower, weights, indices, mask, columns, coefficients)
    expected = (rows**2).sum(axis=2).transpose(2, 0, 1)
    found = sums.importance(sparse.csr_array(coefficients))
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), atol=1e-14)
    assert not found[:, 1].any()

    values = RNG.normal(size=(POINTS, ROWS, VALUES))
    derivatives = np.einsum("ik,knm->inm", coefficients, values)
    derivatives[:, 1] = np.nan  # of angles that are none, where nothing has a weight
    expected = np.einsum("nmjk,knm->nj", rows, values)
    np.testing.assert_allclose(sums.of(derivatives), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_weights_of_any_size(scale):
    weights = RNG.normal(size=(ROWS, VALUES, 1))
    mask, coefficients = np.ones((VALUES, 1), dtype=bool), sparse.csr_array(np.ones((1, POINTS)))
    of_usual, of_scaled = (
        PulledSums(((),), factor * weights, ((0,),), mask).importance(coefficients)
        for factor in (1.0, scale)
    )
    np.testing.assert_allclose(of_scaled, of_usual, rtol=1e-9)
