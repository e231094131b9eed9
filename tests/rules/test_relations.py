"""Relations among values at points, against random functions of the spectra."""

import itertools
import math

import numpy as np
import pytest
from analytic import shifts_of
from test_planner import Polynomial, orders, planner

from qshift.rules.planner import Frequencies, Recipe
from qshift.rules.relations import relations

CASES = [
    [(1.0,)] * 3,
    [(0.5, 1.0)] * 2,
    [(1.0, 2.0, 3.0), (2.0,)],
    [(1.0, 3.0), (0.5, 1.0, 1.5, 2.0)],
    [(1.0, math.sqrt(2)), (0.3,)],
    [(1e-4, 2e-4), (1e4,)],
]


def points_of(spectra, order, objective="shots"):
    root = planner(spectra, objective).root
    return root.request(orders(len(spectra), *range(order + 1))).node.points


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("spectra", CASES)
def test_they_hold_for_every_function(spectra, order):
    points = points_of(spectra, order)
    found = relations([Frequencies(each) for each in spectra], points)
    assert found.shape[1] == len(points)
    shifts = shifts_of(points, len(spectra))
    for seed in range(3):
        values = Polynomial(spectra, seed).partial(shifts)
        np.testing.assert_allclose(
            found @ values, 0.0, atol=1e-12 * np.abs(found.toarray()).max(initial=1.0)
        )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("spectra", CASES)
def test_all_of_them_are_found_and_each_once(spectra, order):
    points = points_of(spectra, order)
    found = relations([Frequencies(each) for each in spectra], points).toarray()
    # Values of as many random functions as there are points span all that values can be.
    shifts = shifts_of(points, len(spectra))
    values = [Polynomial(spectra, seed).partial(shifts) for seed in range(len(points) + 5)]
    rank = np.linalg.matrix_rank(np.array(values), tol=1e-7)
    assert len(found) == len(points) - rank
    assert not len(found) or np.linalg.matrix_rank(found, tol=1e-7) == len(found)


def test_the_relation_of_one_frequency():
    quarter = math.pi / 2
    points = [(), *(((0, 1.0, s),) for s in (quarter, -quarter, math.pi))]
    (row,) = relations([Frequencies((1.0,))], points).toarray()
    np.testing.assert_allclose(row / row[0], [1, -1, -1, 1], atol=1e-14)


def test_many_parameters_are_as_sparse_as_single_ones():
    points = points_of([(1.0,)] * 20, 2)
    found = relations([Frequencies((1.0,))] * 20, points)
    assert found.shape == (20, 1 + 3 * 20 + 4 * math.comb(20, 2))
    assert (np.diff(found.indptr) == 4).all()


def test_points_that_scale_parameters_have_none():
    recipe = Recipe(((1.0, -1.0, -np.pi / 2),), 2 * np.pi)
    points = [(), ((0, -1.0, -np.pi / 2),), ((0, 1.0, 0.3),), ((0, 1.0, 0.7),)]
    assert relations([recipe], points).shape == (0, 4)
    assert relations([Frequencies((1.0,))], points).shape == (0, 4)
    assert relations([None], points[:1]).shape == (0, 1)


def test_frequencies_that_are_hard_to_tell_apart_have_none():
    grid = [(), *(((0, 1.0, s),) for s in np.linspace(0.3, 3, 9).tolist())]
    assert relations([Frequencies((1.0, 1.0001))], grid).shape == (0, 10)


def test_too_many_degrees_of_freedom_have_none():
    frequencies = tuple(float(k) for k in range(1, 20))
    points = [
        tuple((j, 1.0, s) for j, s in enumerate(pair) if s)
        for pair in itertools.product((0.0, 0.1, 0.2), repeat=2)
    ]
    assert relations([Frequencies(frequencies)] * 2, points).shape == (0, 9)
