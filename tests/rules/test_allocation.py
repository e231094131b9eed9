"""Shots and coefficients, against the published costs, duality and random alternatives."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from test_planner import orders, planner

from qshift.rules.allocation import Problem, filled, whole
from qshift.rules.relations import relations
from qshift.rules.shots import LEAST


def problem(spectra, indices, weights=None, objective="shots"):
    made = planner(spectra, objective)
    step = made.root.request(indices)
    weights = np.ones(len(indices)) if weights is None else weights
    known = relations(made.spectra, step.node.points)
    return Problem(step.coefficients, known, weights), step


def optimum(spectra, indices, weights=None):
    found, step = problem(spectra, indices, weights)
    count = len(step.node.points)
    return found.allocated(np.zeros(count), float(count)), step


def diagonal(p):
    return tuple((j, j) for j in range(p))


# --- the optimum ---


@pytest.mark.parametrize(
    "frequencies, p, order, cost, lowest",
    [
        ((1,), 4, 2, 168.0, 167.87),
        ((1,), 10, 2, 3662.0, 3659.9),
        ((0.5, 1), 4, 2, 172.6, 172.52),
        ((1, 2, 3, 4), 2, 2, 2712.0, 2694.3),
        (tuple(range(1, 11)), 2, 1, 441.0, 441.0),
        (tuple(range(1, 11)), 2, 2, 88900.0, 87594.0),
    ],
)
def test_published_costs(frequencies, p, order, cost, lowest):
    """Cost: shots times summed variance of the value and all partials, and what is below it."""
    found, step = optimum([frequencies] * p, orders(p, *range(order + 1)))
    assert lowest * (1 - 1e-9) <= found.cost <= cost * (1 + 1e-9)
    # The cost as its definition says, from the coefficients and shots alone.
    variances = (found.coefficients.toarray() ** 2 / found.shots).sum(axis=1)
    assert found.shots.sum() * variances.sum() == pytest.approx(found.cost, rel=1e-9)
    assert found.shots.sum() == pytest.approx(len(step.node.points))
    assert found.bound <= found.cost * (1 + 1e-9) and found.bound >= 0.98 * found.cost


@pytest.mark.parametrize("spectra", [[(1,)] * 3, [(1, 2), (0.5,)], [(1, 2, 3)], [(1, 2.5), (2,)]])
def test_the_optimum_of_gradients(spectra):
    gradient = orders(len(spectra), 1)
    found, _ = optimum(spectra, gradient)
    assert found.cost == pytest.approx(sum(map(max, spectra)) ** 2, rel=1e-6)


@pytest.mark.parametrize("p, trace, diagonals", [(4, 16, 9), (10, 100, None)])
def test_the_trace_and_the_diagonal_of_a_hessian(p, trace, diagonals):
    indices = diagonal(p)
    found, _ = optimum([(1.0,)] * p, indices, np.ones((1, p)))
    assert found.cost == pytest.approx(trace, rel=1e-6)
    if diagonals:
        found, _ = optimum([(1.0,)] * p, indices)
        assert found.cost == pytest.approx(diagonals, rel=1e-6)


def newton(p, rng):
    """Returns all derivatives of a Newton step -H^-1 g, and how it changes with them."""
    indices = orders(p, 1, 2)
    hessian = rng.normal(size=(p, p))
    hessian = hessian @ hessian.T + np.eye(p)
    inverse, step = np.linalg.inv(hessian), -np.linalg.solve(hessian, rng.normal(size=p))
    by = np.zeros((p, len(indices)))
    for column, index in enumerate(indices):
        change = np.zeros((p, p))
        if len(index) == 2:
            change[index], change[index[::-1]] = 1.0, 1.0
            by[:, column] = -inverse @ change @ step
        else:
            by[:, column] = -inverse[:, index[0]]
    return indices, by


def test_a_contraction_costs_less_than_all_entries():
    p = 4
    indices, by = newton(p, np.random.default_rng(0))
    contracted, _ = optimum([(1.0,)] * p, indices, by)
    # All entries with their best shots, of which the step is then computed.
    every, _ = optimum([(1.0,)] * p, indices)
    rows = by @ every.coefficients.toarray()
    assert contracted.cost < 0.75 * every.shots.sum() * (rows**2 / every.shots).sum()


@pytest.mark.parametrize("seed", range(20))
def test_no_other_shots_and_coefficients_are_better_and_the_bound_is_one(seed):
    rng = np.random.default_rng(seed)
    count, rank, wanted = 9, 6, 3
    values = rng.normal(size=(count, rank))  # of a basis of functions, at the points
    null = np.linalg.svd(values.T)[2][rank:]
    rows = rng.normal(size=(wanted, count))
    weights = rng.gamma(1.0, size=wanted)
    made = Problem(sparse.csr_array(rows), sparse.csr_array(null), weights)
    found = made.allocated(np.zeros(count), 5.0)
    assert found.shots.sum() == pytest.approx(5.0)
    np.testing.assert_allclose(found.coefficients @ values, rows @ values, atol=1e-9)
    for _ in range(300):
        size = 10.0 ** rng.uniform(-4, 0)
        shots = found.shots * np.exp(size * rng.normal(size=count))
        moved = size * rng.normal(size=(wanted, len(null))) @ null
        coefficients = found.coefficients.toarray() + moved
        cost = shots.sum() * (weights @ (coefficients**2 / shots)).sum()
        assert cost >= found.cost * (1 - 2e-4)
        assert cost >= found.bound * (1 - 1e-9)


def test_shots_that_points_have_already_count():
    found, step = problem([(1.0,)] * 4, orders(4, 0, 1, 2))
    points = step.node.points
    held = np.array([float(len(point) < 2) for point in points])  # of the value, and of +-pi/2, pi
    allocation = found.allocated(held, 24.0)
    assert allocation.shots.sum() == pytest.approx(held.sum() + 24)
    assert (allocation.shots >= held).all()
    again = held * (allocation.shots > held)
    assert again[points.index(())]  # the value enters ten derivatives
    # At the optimum, the slopes of all points that got more are the same, and no other is steeper.
    sizes = np.asarray(allocation.coefficients.power(2).sum(axis=0))
    slopes = np.sqrt(sizes) / allocation.shots
    more = slopes[allocation.shots > held]
    assert more.max() <= 1.02 * more.min()
    assert slopes.max() <= 1.15 * more.min()  # a tenth of a circuit's shots is not worth a circuit


def test_without_a_budget_only_coefficients_change():
    found, step = problem([(1.0,)] * 3, orders(3, 0, 1, 2))
    held = np.random.default_rng(0).gamma(2.0, size=len(step.node.points))
    allocation = found.allocated(held, 0.0)
    np.testing.assert_array_equal(allocation.shots, held)
    before = held.sum() * (step.coefficients.power(2) @ (1 / held)).sum()
    assert allocation.cost < before


def test_circuits_are_not_run_again_where_that_is_not_allowed():
    found, step = problem([(1.0,)] * 4, orders(4, 0, 1, 2))
    held = np.array([float(len(point) < 2) for point in step.node.points])
    allocation = found.allocated(held, 24.0, again=False)
    np.testing.assert_array_equal(allocation.shots[held > 0], 1.0)
    assert allocation.shots.sum() == pytest.approx(held.sum() + 24)


def test_nothing_wanted():
    nothing = Problem(sparse.csr_array((0, 3)), sparse.csr_array((0, 3)), np.empty(0))
    allocation = nothing.allocated(np.zeros(3), 0.0)
    assert allocation.coefficients.shape == (0, 3) and allocation.cost == allocation.bound == 0.0


# --- filling up ---


@pytest.mark.parametrize("seed", range(10))
def test_filling_up_is_the_best_there_is(seed):
    rng = np.random.default_rng(seed)
    held, roots = rng.gamma(0.7, size=6) * rng.integers(0, 2, size=6), rng.gamma(0.7, size=6)
    closed = rng.uniform(size=6) < 0.2
    result = filled(held, roots, 2.0, closed)
    assert result.sum() == pytest.approx(held.sum() + 2) and (result >= held - 1e-15).all()
    np.testing.assert_array_equal(result[closed], held[closed])
    open_ = ~closed
    best = (roots[open_] ** 2 / result[open_]).sum()
    for _ in range(500):
        other = held + np.where(closed, 0.0, rng.gamma(0.5, size=6))
        other = held + (other - held) * 2 / (other - held).sum()
        assert (roots[open_] ** 2 / np.maximum(other[open_], 1e-300)).sum() >= best * (1 - 1e-12)


def test_nothing_to_fill():
    held = np.array([1.0, 2.0])
    np.testing.assert_array_equal(filled(held, np.zeros(2), 3.0, held < 0), held)


# --- whole numbers ---


@pytest.mark.parametrize("shots, rows", [*itertools.product([2, 3, 50, 1000], [1, 3])])
def test_whole_numbers_add_up_and_none_is_too_small(shots, rows):
    rng = np.random.default_rng(shots)
    for _ in range(100):
        shares = rng.gamma(0.3, size=(rng.integers(1, 20), rows))
        shares *= len(shares) / shares.sum(axis=0)
        numbers = whole(shares * shots, rng.uniform(size=rows))
        assert numbers.shape == (len(shares), rows) and numbers.dtype == np.int64
        assert numbers.min() >= LEAST
        np.testing.assert_array_equal(numbers.sum(axis=0), len(shares) * shots)


def test_whole_numbers_are_unbiased():
    wanted = np.repeat([[2.51], [7.49], [23.337], [6.663]], 4000, axis=1)
    numbers = whole(wanted, (np.arange(4000) + 0.5) / 4000)
    np.testing.assert_allclose(numbers.mean(axis=1), wanted[:, 0], atol=1e-3)
    assert (np.abs(numbers - wanted) < 1).all()


def test_columns_are_on_their_own():
    rng = np.random.default_rng(0)
    wanted, offsets = rng.gamma(0.5, 20, size=(9, 30)), rng.uniform(size=30)
    least = rng.integers(0, 4, size=(9, 30))
    together = whole(wanted, offsets, least)
    alone = [whole(*(each[..., j : j + 1] for each in (wanted, offsets, least))) for j in range(30)]
    np.testing.assert_array_equal(together, np.hstack(alone))
    assert (together >= least).all()
    assert (np.abs(together.sum(axis=0) - np.maximum(wanted.sum(0), least.sum(0))) < 1).all()


def test_equal_shares_are_equal_numbers():
    np.testing.assert_array_equal(whole(np.full((7, 2), 100.0), np.full(2, 0.99)), 100)


def test_a_point_that_wants_none_and_needs_none_gets_none():
    numbers = whole(np.array([[0.0], [9.0], [1.0]]), np.array([0.7]), np.array([[0], [2], [2]]))
    np.testing.assert_array_equal(numbers[:, 0], [0, 8, 2])


def test_a_batch_without_rows():
    assert whole(np.ones((3, 0)), np.empty(0)).shape == (3, 0)
