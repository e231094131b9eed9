"""Plans with finite shots: exact, never worse than another, and the same in every order."""

import itertools
import math
import time

import numpy as np
import pytest
from analytic import shifts_of
from hypothesis import assume, given, settings
from test_allocation import newton
from test_planner import Polynomial, bound, multi_indices, orders, problems, serve

from qshift.rules.planner import OBJECTIVES, Frequencies, Recipe
from qshift.rules.sampled_plans import SPREADS, SampledPlanner, planner

quick = settings(derandomize=True, deadline=None, max_examples=12)


def below(indices):
    """Returns all derivatives that lead up to some."""
    return {
        part
        for index in indices
        for k in range(len(index))
        for part in itertools.combinations(index, k)
    }


def made(spectra, objective="shots", spread="own", cones=None):
    cones = np.ones((1, len(spectra)), dtype=bool) if cones is None else cones
    known = [s if isinstance(s, Recipe | None) else Frequencies(tuple(s)) for s in spectra]
    return planner(known, cones, objective, spread)


def cost(step):
    """Shots times the summed variance of what a request asked for."""
    shots = step.node.shots
    return shots.sum() * float((step.coefficients.power(2) @ (1 / shots)).sum())


KINDS = list(itertools.product(OBJECTIVES, SPREADS))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("objective, spread", KINDS)
@given(problem=problems())
@quick
def test_derivatives_are_exact_whatever_is_asked_for_in_whatever_order(objective, spread, problem):
    spectra, requests = problem
    f = Polynomial(spectra)
    for step, request in zip(
        serve(made(spectra, objective, spread).root, requests), requests, strict=True
    ):
        values = f.partial(shifts_of(step.node.points, len(spectra)))
        for index, found in zip(request, step.coefficients @ values, strict=True):
            exact = f.partial(np.zeros((1, len(spectra))), index)[0]
            assert abs(found - exact) <= 1e-9 * bound(spectra, index), index


@pytest.mark.parametrize("spread", SPREADS[:3])  # "error" spreads as "batch" does
@given(problem=problems())
@quick
def test_no_objective_is_worse_than_another_at_its_own_measure(spread, problem):
    spectra, requests = problem
    asked = set(itertools.chain(*requests))
    assume(any(asked))
    # With all lower orders: plans of few circuits provide for these, whether they are asked or not.
    together = tuple(sorted(asked | below(asked), key=lambda index: (len(index), index)))
    steps = {o: made(spectra, o, spread).root.request(together) for o in OBJECTIVES}
    assert cost(steps["shots"]) <= cost(steps["circuits"]) * (1 + 1e-6)
    assert len(steps["circuits"].new_points) <= len(steps["shots"].new_points)


@given(problem=problems())
@quick
def test_shots_of_their_own_are_never_worse_than_equal_ones(problem):
    spectra, requests = problem
    together = tuple(dict.fromkeys(itertools.chain(*requests)))
    for objective in OBJECTIVES:
        own, equal = (made(spectra, objective, spread).root for spread in ("own", "equal"))
        assert cost(own.request(together)) <= cost(equal.request(together)) * (1 + 1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(problem=problems())
@quick
def test_as_many_shots_as_an_error_takes(objective, problem):
    spectra, requests = problem
    node = made(spectra, objective, "error").root
    for request in requests:
        step, before = node.request(request), node.shots.sum()
        if step.new_points:
            used = step.coefficients.power(2) @ (1 / step.node.shots)
            # Derivatives that need no new points are not counted.
            needy = np.diff(step.coefficients[:, len(node.points) :].indptr) > 0
            assert used[needy].sum() <= 1.02 * needy.sum() or not len(node.points)
            if not len(node.points):
                assert used.sum() == pytest.approx(needy.sum(), rel=1e-6)
        assert step.node.shots.sum() >= before
        node = step.node


@pytest.mark.one_in(2)
@pytest.mark.parametrize("objective, spread", [kind for kind in KINDS if kind[1] != "error"])
@given(problem=problems())
@quick
def test_as_many_shots_as_points_that_are_new(objective, spread, problem):
    spectra, requests = problem
    node = made(spectra, objective, spread).root
    for request in requests:
        step, before = node.request(request), node.shots.sum()
        count = len(step.new_points)
        expected = min(count, 1) if spread == "batch" else count
        assert step.node.shots.sum() - before == pytest.approx(expected, abs=1e-6)
        assert len(set(step.node.points)) == len(step.node.points) == len(step.node.shots)
        assert step.node.points[: len(node.points)] == node.points
        if spread != "equal":
            assert len(step.shots) == len(step.new_points) + len(step.again)
            assert (step.shots > 0).all()
            added = step.node.shots[: len(node.points)] - node.shots
            np.testing.assert_allclose(added[list(step.again)], step.shots[len(step.new_points) :])
        else:
            assert step.shots is None and not len(step.again)
        if spread == "own" or objective == "circuits":
            assert not len(step.again)
        node = step.node


@pytest.mark.parametrize("objective, spread", KINDS)
@pytest.mark.parametrize("spectra", [[(1,)] * 4, [(1, 2), (1,)], [(0.5, 1)] * 3])
def test_what_is_asked_again_is_what_it_was(objective, spread, spectra):
    p = len(spectra)
    root = made(spectra, objective, spread).root
    step = root.request(orders(p, 0, 1, 2))
    for part in ([()], orders(p, 1), orders(p, 2)):
        again = step.node.request(tuple(part))
        assert again.node is step.node and not again.new_points and not len(again.again)
        rows = [orders(p, 0, 1, 2).index(index) for index in part]
        expected = step.coefficients.toarray()[rows]
        np.testing.assert_allclose(again.coefficients.toarray(), expected, atol=1e-9)


@pytest.mark.parametrize("frequencies, p", [((1,), 4), ((1, 2, 3, 4), 2)])
def test_order_by_order(frequencies, p):
    """The value has one circuit's shots for good, or gets more when second derivatives need it."""
    requests = [orders(p, k) for k in range(3)]
    own, batch, equal = (
        serve(made([frequencies] * p, spread=spread).root, requests)
        for spread in ("own", "batch", "equal")
    )
    assert not any(len(step.again) for step in own)
    assert own[-1].node.shots[0] == 1.0
    assert batch[-1].node.points[0] == ()
    assert cost(own[-1]) < cost(equal[-1])
    assert batch[-1].node.shots.sum() == pytest.approx(3.0)


def test_equal_shots_take_the_better_points():
    """Plans of least sum|c| have many circuits: with equal shots some are the worse."""
    few, many = [(float(k),) for k in (1, 1, 1, 1)], [(1.0, 2.0, 3.0, 4.0)] * 2
    costs = {
        (objective, p): cost(made(spectra, objective, "equal").root.request(orders(p, 0, 1, 2)))
        for spectra, p in ((few, 4), (many, 2))
        for objective in OBJECTIVES
    }
    assert costs["circuits", 4] == pytest.approx(281.25)
    assert costs["shots", 4] < 200  # 240.5 with the coefficients of least sum|c|
    assert costs["shots", 2] == costs["circuits", 2] == pytest.approx(9600.4, abs=0.1)


def test_values_that_depend_on_few_parameters():
    cones = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    root = made([(1.0,)] * 4, cones=cones).root
    step = root.request(((), *orders(4, 1), *orders(4, 2)))
    moved = {tuple(p for p, _, _ in point) for point in step.node.points}
    assert moved <= {(), (0,), (1,), (2,), (0, 1), (1, 2)}
    # The derivative that both values have counts twice.
    by = {
        p: step.node.shots[[i for i, q in enumerate(step.node.points) if [*q] and q[0][0] == p]]
        for p in (0, 1)
    }
    assert by[1].max() > by[0].max()
    assert root.request(((3,), (0, 2))).new_points == ()


@pytest.mark.parametrize("frequencies, p", [(tuple(range(1, 11)), 2), ((1,), 50)])
def test_planning_is_quick_and_then_free(frequencies, p):
    root = made([tuple(map(float, frequencies))] * p).root
    wanted = tuple(index for k in range(3) for index in multi_indices(range(p), k))
    start = time.process_time()
    step = root.request(wanted)
    assert time.process_time() - start < 4  # a second on a machine that does nothing else
    start = time.process_time()
    assert root.request(wanted) is step
    assert time.process_time() - start < 0.1


def test_recipes_and_scales():
    square = Recipe(((0.5, 2.0, 1.0), (-2.0, 1.0, 0.0), (-0.5, 0.0, 1.0)))
    step = made([square, (1.0,)]).root.request(orders(2, 0, 1, 2))
    assert step.node.shots.sum() == pytest.approx(len(step.node.points))
    for base in (1e-6, 1e6):
        scaled = made([(base, 2 * base)] * 2).root.request(orders(2, 1))
        assert cost(scaled) == pytest.approx((4 * base) ** 2, rel=1e-6)
    assert math.isfinite(cost(made([(1e-8,), (1e8,)]).root.request(orders(2, 0, 1, 2))))


def test_unknown_words():
    with pytest.raises(ValueError, match="spread must be one of"):
        made([(1,)], spread="fair")
    with pytest.raises(ValueError, match="objective must be one of"):
        made([(1,)], "few")
    assert not isinstance(made([(1,)], spread=None), SampledPlanner)


# --- weighted sums ---


def summed(spectra, indices, weights, **settings):
    """Returns the plan of weighted sums, and how its shots are spread."""
    weights = np.atleast_2d(weights)[:, None, :]
    return made(spectra, **settings).root.contraction(indices, weights)


@pytest.mark.parametrize("p, trace, diagonals", [(4, 16, 9), (10, 100, (5 + 2.5**0.5) ** 2)])
def test_the_trace_and_the_diagonal_of_a_hessian(p, trace, diagonals):
    indices = tuple((j, j) for j in range(p))
    step, found = summed([(1.0,)] * p, indices, np.ones(p))
    assert found.cost == pytest.approx(trace, rel=1e-6)
    assert len(step.new_points) == p + 1 and step.coefficients.shape == (1, p + 1)
    # Of the points x + pi e_j each has a factor of 1/2, and x has one in all second derivatives.
    assert summed([(1.0,)] * p, indices, np.eye(p))[1].cost == pytest.approx(diagonals, rel=1e-6)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("objective, spread", KINDS)
@given(problem=problems())
@quick
def test_sums_are_exact(objective, spread, problem):
    spectra, requests = problem
    f, node = Polynomial(spectra), made(spectra, objective, spread).root
    rng = np.random.default_rng(len(requests))
    for indices in map(tuple, requests):
        weights = rng.normal(size=(3, 1, len(indices)))
        step = node.contracted(indices, weights)
        values = f.partial(shifts_of(step.node.points, len(spectra)))
        exact = [f.partial(np.zeros((1, len(spectra))), index)[0] for index in indices]
        sizes = np.abs(weights[:, 0]) @ [bound(spectra, index) for index in indices]
        errors = np.abs(step.coefficients @ values - weights[:, 0] @ exact)
        assert (errors <= 1e-9 * sizes).all()
        node = step.node  # later ones start from the points that there are


@given(problem=problems())
@quick
def test_sums_never_cost_more_than_by_way_of_their_derivatives(problem):
    spectra, requests = problem
    indices = tuple(dict.fromkeys(itertools.chain(*requests)))
    weights = np.random.default_rng(len(indices)).normal(size=(2, len(indices)))
    _, found = summed(spectra, indices, weights)
    step = made(spectra).root.request(indices)
    rows, shots = weights @ step.coefficients.toarray(), step.node.shots
    assert found.cost <= shots.sum() * (rows**2 / shots).sum() * (1 + 1e-6)
    assert found.bound <= found.cost * (1 + 1e-9)


@pytest.mark.parametrize("spectra", [[(1.0,)] * 4, [(0.5, 1.0)] * 4])
def test_a_newton_step_costs_less_than_all_it_is_computed_from(spectra):
    indices, by = newton(4, np.random.default_rng(0))
    _, found = summed(spectra, indices, by)
    step = made(spectra).root.request(indices)
    rows, shots = by @ step.coefficients.toarray(), step.node.shots
    assert found.cost < 0.75 * shots.sum() * (rows**2 / shots).sum()


def test_sums_of_values_that_depend_on_few_parameters():
    """A row for each value; zeros where it cannot depend on the parameters."""
    cones = np.array([[1, 0], [0, 1]], dtype=bool)
    weights = np.array([[[2.0, 3.0], [5.0, 7.0]]])
    step = made([(1.0,)] * 2, cones=cones).root.contracted(orders(2, 1), weights)
    shifts = shifts_of(step.node.points, 2)
    found = step.coefficients @ np.sin(shifts + [0.3, 0.4])
    np.testing.assert_allclose(found, [[2 * np.cos(0.3), 0], [0, 7 * np.cos(0.4)]], atol=1e-12)
    assert step.shots[np.abs(shifts[:, 1]) > 0].min() > 2 * step.shots[shifts[:, 1] == 0].max()


def test_as_many_shots_as_the_error_of_sums_takes():
    indices, by = newton(3, np.random.default_rng(1))
    step, _ = summed([(1.0,)] * 3, indices, by, spread="error")
    variances = step.coefficients.power(2) @ (1 / step.node.shots)
    assert variances.sum() == pytest.approx(3, rel=1e-6)


def test_sums_with_the_same_weights_are_planned_once():
    root, weights = made([(1.0,)] * 2).root, np.ones((1, 1, 2))
    assert root.contracted(orders(2, 1), weights) is root.contracted(orders(2, 1), weights.copy())
    assert root.contracted(orders(2, 1), 2 * weights) is not root.contracted(orders(2, 1), weights)
