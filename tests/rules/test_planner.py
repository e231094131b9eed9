"""Plans against the analytic derivatives of random trigonometric polynomials."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from qshift.autodiff.evaluation import Evaluation
from qshift.rules.planner import OBJECTIVES, Frequencies, Known, Planner, Recipe, multi_indices

quick = settings(derandomize=True, deadline=None, max_examples=40)


class Polynomial:
    """A random trigonometric polynomial with |f| <= 1, as a sum of complex exponentials."""

    def __init__(self, spectra, seed=0):
        rng = np.random.default_rng(seed)
        self.frequencies = [np.array([0.0, *ws, *(-w for w in ws)]) for ws in spectra]
        shape = [len(ws) for ws in self.frequencies]
        self.amplitudes = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        self.amplitudes /= np.abs(self.amplitudes).sum()

    def partial(self, points, index=()):
        """Returns a partial derivative, float64[N], at the points float64[N, P]."""
        orders = Counter(index)
        terms = np.broadcast_to(self.amplitudes, (len(points), *self.amplitudes.shape))
        for j in reversed(range(len(self.frequencies))):
            ws = self.frequencies[j]
            waves = np.exp(1j * np.outer(points[:, j], ws)) * (1j * ws) ** orders[j]
            terms = np.einsum("n...k,nk->n...", terms, waves)
        return terms.real

    def __call__(self, points):
        return self.partial(points)[:, None]


def planner(spectra, objective="circuits", cones=None):
    cones = np.ones((1, len(spectra)), dtype=bool) if cones is None else cones
    known = [s if isinstance(s, Recipe | None) else Frequencies(tuple(s)) for s in spectra]
    return Planner(known, cones, objective)


def orders(parameters, *which):
    """Returns all partial derivatives of several orders, as one request."""
    return tuple(index for k in which for index in multi_indices(range(parameters), k))


class Function:
    """What `Evaluation` needs to know about the function that it evaluates."""

    num_values = 1

    def __init__(self, spectra, objective="circuits"):
        self.num_parameters = len(spectra)
        self._planner = planner(spectra, objective)

    def planner(self, _):
        return self._planner


def evaluate(f, spectra, x, objective="circuits"):
    """Starts an evaluation of f at x float64[N, P] that reads off derivatives [N, 1, A]."""
    return Evaluation(Function(spectra, objective), lambda _, points, call: f(points), x, objective)


def serve(root, requests):
    """Returns the steps that serve the requests one after the other."""
    steps, node = [], root
    for request in requests:
        steps.append(node.request(request))
        node = steps[-1].node
    return steps


def count(spectra, requests, objective="circuits"):
    """Returns how many points the requests need in all."""
    steps = serve(planner(spectra, objective).root, requests)
    assert len(set(steps[-1].node.points)) == sum(len(step.new_points) for step in steps)
    return len(steps[-1].node.points)


def bound(spectra, index):
    """Bernstein's bound on a partial derivative of a function with |f| <= 1."""
    return math.prod(max(spectra[j], default=1.0) for j in index)


def assert_exact(spectra, requests, objective, tolerance=1e-9):
    """Asks for derivatives and compares them with the analytic ones."""
    f = Polynomial(spectra)
    widths = [1 / max(ws, default=1.0) for ws in spectra]
    x = np.random.default_rng(1).uniform(-3, 3, size=(2, len(spectra))) * widths
    evaluation = evaluate(f, spectra, x, objective)
    for request in requests:
        derivatives = evaluation.partials(request)
        assert derivatives.shape == (len(x), 1, len(request))
        for index, derivative in zip(request, derivatives[:, 0].T, strict=True):
            error = np.abs(derivative - f.partial(x, index)).max()
            assert error <= tolerance * bound(spectra, index), (index, error)


# --- exactness ---

bases = st.floats(0.05, 20.0)
equidistant = st.tuples(bases, st.integers(1, 3)).map(
    lambda w: tuple(w[0] * (k + 1) for k in range(w[1]))
)
incommensurable = st.lists(st.floats(0.3, 6.0), min_size=1, max_size=3).filter(
    lambda ws: all(abs(a - b) > 0.1 for a, b in itertools.combinations(ws, 2))
)
spectrum = st.one_of(
    st.just((1.0,)),
    equidistant,
    st.sampled_from([(1, 3), (0.5, 1), (0.5, 1, 1.5, 2), (1, 4), (2, 3, 5), (1, math.sqrt(2)), ()]),
    incommensurable.map(tuple),
)


@st.composite
def problems(draw):
    """Spectra and a sequence of requests, each a set of multi-indices up to order 4."""
    spectra = draw(st.lists(spectrum, min_size=1, max_size=4))
    assume(math.prod(2 * len(ws) + 1 for ws in spectra) <= 150)
    index = st.lists(st.integers(0, len(spectra) - 1), max_size=4).map(lambda a: tuple(sorted(a)))
    request = st.lists(index, min_size=1, max_size=6, unique=True).map(tuple)
    return spectra, draw(st.lists(request, min_size=1, max_size=4))


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(problem=problems())
@example(problem=([(1,)] * 4, [orders(4, 2), orders(4, 1), orders(4, 4), orders(4, 3)]))
@example(problem=([(0.5, 1), (1, 3)], [orders(2, 3), orders(2, 2, 1)]))
@example(problem=([(1, 2, 3), ()], [((0, 0, 0, 1), (0, 0)), ((1, 1), (0, 1))]))
@quick
def test_derivatives_are_exact_whatever_is_asked_for_in_whatever_order(objective, problem):
    assert_exact(*problem, objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "requests",
    [
        [orders(3, 2), orders(3, 1), orders(3, 0)],
        [orders(3, 3)],
        [((0, 1, 2),), ((0, 1),)],
        [((0, 0, 1),), ((0, 1, 1),), orders(3, 0, 1, 2)],
        [((0, 0, 0, 0), (1, 1, 2, 2)), ((0,), (0, 1, 1, 2))],
        [orders(3, 4), orders(3, 3), orders(3, 2), orders(3, 1), orders(3, 0)],
        [orders(3, 0, 1, 2, 3, 4)],
    ],
)
@pytest.mark.parametrize("spectra", [[(1,)] * 3, [(0.5, 1), (1,), (2,)], [(1, 3), (0.7,), (1, 2)]])
def test_requests_in_unusual_order(spectra, requests, objective):
    assert_exact(spectra, requests, objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("base", [1e-4, 1e-2, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("multiples", [(1,), (1, 2), (1, 3)])
def test_the_scale_of_a_parameter_does_not_matter(multiples, base, objective):
    spectra = [tuple(base * m for m in multiples), (base,)]
    assert_exact(spectra, [orders(2, k) for k in range(5)], objective)
    assert_exact(spectra, [orders(2, 4)], objective)


@pytest.mark.parametrize("multiples", [(1,), (1, 2), (1, 3)])
@pytest.mark.parametrize("base", [1e-4, 1e4])
def test_the_scale_of_a_parameter_does_not_change_the_plan(multiples, base):
    requests = [orders(2, k) for k in range(4)]
    scaled = [tuple(base * m for m in multiples)] * 2
    assert count(scaled, requests) == count([multiples] * 2, requests)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "frequencies",
    [ws for size in (1, 2, 3) for ws in itertools.combinations(range(1, 7), size)]
    + [(3, 4, 6, 7), (1, 1.01), (1, 1.5, 1.6)],
)
def test_every_spectrum_of_one_parameter(frequencies, objective):
    assert_exact([frequencies], [orders(1, k) for k in range(5)], objective)
    assert_exact([frequencies], [orders(1, 2, 1)], objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_order_eight_of_one_parameter(objective):
    assert_exact([(0.5, 1)], [orders(1, k) for k in range(9)], objective)
    assert_exact([(0.5, 1)], [orders(1, 8)], objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rules_do_not_amplify_errors_much(objective):
    """Exact is not enough: sum |c| is the factor by which errors of the values are amplified."""
    for spectra in ([(1,)] * 4, [(1, 2, 3)] * 2, [(0.5, 1, 1.5, 2)] * 2, [(1, 3), (1, 2)]):
        steps = serve(planner(spectra, objective).root, [orders(len(spectra), k) for k in range(5)])
        for k, step in enumerate(steps):
            norms = np.abs(step.coefficients).sum(axis=1)
            for index, norm in zip(orders(len(spectra), k), norms, strict=True):
                assert norm <= 10 * bound(spectra, index)


# --- counts, objective "circuits" ---


def fewest(p, order):
    """The published counts for p parameters of one frequency."""
    pairs, triples = math.comb(p, 2), math.comb(p, 3)
    return {
        0: 1,
        1: 1 + 2 * p,
        2: 1 + 2 * p + 3 * pairs,
        3: 1 + 2 * p + 4 * pairs + 4 * triples,
    }[order]


def ways(order):
    """Yields every order of asking for the orders 0..order, one by one and in two requests."""
    for permutation in itertools.permutations(range(order + 1)):
        yield tuple((k,) for k in permutation)
        for cut in range(1, order + 1):
            yield permutation[:cut], permutation[cut:]
    yield (tuple(range(order + 1)),)


def test_the_published_counts():
    assert [fewest(4, k) for k in range(4)] == [1, 9, 27, 49]
    assert [fewest(8, k) for k in range(4)] == [1, 17, 101, 353]
    assert fewest(10, 2) == 156


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_counts_of_one_frequency(p, order):
    spectra = [(1.0,)] * p
    expected = 3 if p == 1 else fewest(p, order)
    counts = {way: count(spectra, [orders(p, *which) for which in way]) for way in ways(order)}
    assert counts == dict.fromkeys(counts, expected)


@pytest.mark.parametrize("p, order", [(8, 2), (8, 3), (10, 2)])
def test_counts_of_many_parameters(p, order):
    spectra = [(1.0,)] * p
    ascending = [orders(p, k) for k in range(order + 1)]
    for requests in (ascending, ascending[::-1], [orders(p, *range(order + 1))]):
        assert count(spectra, requests) == fewest(p, order)


def test_counts_do_not_depend_on_the_base_frequencies():
    spectra = [(1.0,), (2.0,), (0.3,), (5.5,)]
    assert count(spectra, [orders(4, k) for k in range(4)]) == 49


def test_the_order_of_the_indices_in_a_request_does_not_matter():
    indices = list(orders(4, 0, 1, 2))
    for seed in range(5):
        np.random.default_rng(seed).shuffle(indices)
        assert count([(1.0,)] * 4, [tuple(indices)]) == 27


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_counts_of_several_frequencies(p, size):
    spectra = [tuple(range(1, size + 1))] * p
    expected = 2 * size * p + 1 + (4 * size - 1) * math.comb(p, 2)
    for way in ways(2):
        assert count(spectra, [orders(p, *which) for which in way]) == expected


@pytest.mark.parametrize("way", list(ways(2)))
def test_two_controlled_rotations(way):
    assert count([(0.5, 1)] * 2, [orders(2, *which) for which in way]) == 16


@pytest.mark.parametrize("frequencies", [(1, 3), (1, math.sqrt(2)), (2, 3, 5)])
def test_one_parameter_never_needs_more_than_its_degrees_of_freedom(frequencies):
    assert count([frequencies], [orders(1, k) for k in range(4)]) <= 2 * len(frequencies) + 1


@pytest.mark.parametrize("p", [2, 3])
def test_once_the_full_grid_is_known_further_orders_are_free(p):
    root = planner([(1.0,)] * p).root
    steps = serve(root, [orders(p, k) for k in range(2 * p + 4)])
    assert len(steps[-1].node.points) == 3**p
    assert sum(len(step.new_points) for step in steps[2 * p + 1 :]) == 0
    assert_exact([(1.0,)] * p, [orders(p, k) for k in range(2 * p + 4)], "circuits")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_has_been_served_costs_nothing(objective):
    steps = serve(planner([(1.0,), (1, 2), (0.5,)], objective).root, [orders(3, 0, 1, 2, 3)])
    node = steps[-1].node
    for request in (orders(3, 3), orders(3, 2, 0), ((0, 1),), ((), (0,)), orders(3, 0, 1, 2, 3)):
        step = node.request(request)
        assert step.new_points == ()
        assert step.node is node


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_plan_is_made_once(objective):
    root = planner([(1.0,)] * 3, objective).root
    first, second = (serve(root, [orders(3, 0), orders(3, 1), orders(3, 2)]) for _ in range(2))
    assert all(a is b for a, b in zip(first, second, strict=True))


def test_remembered_plans_have_a_bound():
    root = planner([(1.0,)] * 40).root
    pairs = orders(40, 2)
    for pair in pairs:
        root.request((pair,))
    assert root.step.cache_info().currsize < len(pairs)
    assert root.planner.mask.cache_info().currsize < len(pairs)


def test_only_what_is_asked_for_is_paid_for():
    spectra = [(1.0,)] * 10
    assert count(spectra, [((),), ((3,),)]) == 3
    # d2f/dx2, then a gradient of it over the weights: not every third derivative.
    mixed = tuple((0, 0, w) for w in range(1, 10))
    assert count(spectra, [((),), ((0,),), ((0, 0),), mixed]) <= 3 + 9 * 6
    assert count(spectra, [((0, 1),)]) == 4


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parameters_that_nothing_depends_on_cost_nothing(objective):
    spectra = [(1.0,), (), (1.0,)]
    without = count([(1.0,)] * 2, [orders(2, k) for k in range(4)], objective)
    assert count(spectra, [orders(3, k) for k in range(4)], objective) == without
    assert planner([()]).root.request(orders(1, 1, 2)).new_points == ()


# --- light cones ---

CONES = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)  # nothing sees parameter 3


def test_mask():
    mask = planner([(1.0,)] * 4, cones=CONES).mask(((), (0,), (1, 1), (0, 1), (0, 2), (3,)))
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0]])
    assert mask.dtype == bool


@pytest.mark.parametrize("objective, expected", [("circuits", 1 + 6 + 3 * 2), ("shots", 18)])
def test_pairs_that_no_measurement_sees_together_cost_nothing(objective, expected):
    root = planner([(1.0,)] * 4, objective, CONES).root
    node = serve(root, [orders(4, 0), orders(4, 1), orders(4, 2)])[-1].node
    moved = {tuple(p for p, _, _ in point) for point in node.points}
    assert moved <= {(), (0,), (1,), (2,), (0, 1), (1, 2)}
    assert len(node.points) == expected
    assert node.request(((0, 2), (3,), (0, 1, 2), (2, 3, 3))).new_points == ()


def test_coefficients_of_what_no_measurement_sees_are_zero():
    step = planner([(1.0,)] * 4, cones=CONES).root.request(((0,), (0, 2), (3,)))
    coefficients = step.coefficients.toarray()
    assert coefficients.shape == (3, len(step.new_points))
    assert coefficients[0].any() and not coefficients[1:].any()


# --- objective "shots" ---


def merged_recursion(p, order):
    """Counts the points of the plain recursion at +-pi/2, merged modulo 2 pi."""
    level = reached = {(0,) * p}
    for _ in range(order):
        level = {
            (*point[:j], (point[j] + step) % 4, *point[j + 1 :])
            for point in level
            for j in range(p)
            for step in (1, -1)
        }
        reached = reached | level
    return len(reached)


@pytest.mark.parametrize(
    "p, order, expected", [(4, 1, 9), (4, 2, 37), (4, 3, 93), (10, 2, 211), (2, 4, 16), (3, 3, 42)]
)
def test_counts_of_the_merged_recursion(p, order, expected):
    assert merged_recursion(p, order) == expected
    for requests in (
        [orders(p, k) for k in range(order + 1)],
        [orders(p, k) for k in reversed(range(order + 1))],
        [orders(p, *range(order + 1))],
    ):
        assert count([(1.0,)] * p, requests, "shots") == expected


@pytest.mark.parametrize(
    "spectra",
    [[(1,)] * 3, [(0.5, 1)] * 2, [(1, 2, 3), (2,)], [(1, 3), (0.5, 1, 1.5, 2)], [(1, 2.5), (0.3,)]],
)
def test_shots_reaches_the_least_sum_of_coefficients(spectra):
    """What the module docstring says is minimised, and what it says the least is."""
    p = len(spectra)
    for request in ([orders(p, k) for k in range(5)], [orders(p, 0, 1, 2, 3, 4)]):
        indices = tuple(index for indices in request for index in indices)
        rows = [
            row
            for step in serve(planner(spectra, "shots").root, request)
            for row in step.coefficients.toarray()
        ]
        for index, row in zip(indices, rows, strict=True):
            assert np.abs(row).sum() == pytest.approx(bound(spectra, index), rel=1e-9)


def all_coefficients(p, order, objective):
    """Returns the coefficients of all partial derivatives but the value, [partials, points]."""
    steps = serve(planner([(1.0,)] * p, objective).root, [orders(p, k) for k in range(order + 1)])
    rows = np.zeros((len(orders(p, *range(1, order + 1))), len(steps[-1].node.points)))
    start = 0
    for step in steps[1:]:
        block = step.coefficients.toarray()
        rows[start : start + len(block), : block.shape[1]] = block
        start += len(block)
    return rows


@pytest.mark.parametrize("objective, cost, points", [("shots", 169, 37), ("circuits", 263, 27)])
def test_total_cost_of_four_parameters(objective, cost, points):
    """With shots spread optimally, (sum_k sqrt(sum_a c_ak^2))^2 shots give summed variance 1."""
    coefficients = all_coefficients(4, 2, objective)
    assert coefficients.shape == (14, points)
    total = np.sqrt((coefficients**2).sum(axis=0)).sum() ** 2
    assert total == pytest.approx(cost, abs=0.5)


@pytest.mark.parametrize("order", [2, 3])
def test_shots_has_the_smaller_variance_for_the_same_number_of_shots(order):
    """Noisy evaluations, as many shots for every point, and the same number of shots in all."""
    p, trials, shots = 4, 4000, 1_000_000
    f = Polynomial([(1.0,)] * p)
    x = np.random.default_rng(2).uniform(-3, 3, size=p)
    indices = orders(p, *range(1, order + 1))
    totals = {}
    for objective in OBJECTIVES:
        spectra = [(1.0,)] * p
        points = count(spectra, [orders(p, k) for k in range(order + 1)], objective)
        deviation = math.sqrt(points / shots)  # of one evaluation
        rng = np.random.default_rng(3)

        def noisy(points, rng=rng, deviation=deviation):
            return f(points) + deviation * rng.normal(size=(len(points), 1))

        evaluation = evaluate(noisy, spectra, np.tile(x, (trials, 1)), objective)
        samples = [evaluation.partials(orders(p, k))[:, 0].T for k in range(order + 1)]
        samples = np.concatenate(samples[1:])
        exact = [f.partial(x[None], index)[0] for index in indices]
        predicted = deviation**2 * (all_coefficients(p, order, objective) ** 2).sum(axis=1)
        # Both are normal: 5 standard deviations of the mean and of the variance of the trials.
        errors = np.abs(samples.mean(axis=1) - exact)
        assert (errors <= 5 * np.sqrt(predicted / trials)).all()
        ratios = samples.var(axis=1, ddof=1) / predicted
        assert (np.abs(ratios - 1) <= 5 * math.sqrt(2 / (trials - 1))).all()
        totals[objective] = samples.var(axis=1, ddof=1).sum()
    assert totals["shots"] < 0.7 * totals["circuits"]


# --- recipes ---


def check_recipe(spectra, f, partial, requests, objective="circuits"):
    x = np.random.default_rng(4).uniform(-1, 1, size=(3, len(spectra)))
    evaluation = evaluate(lambda points: f(points)[:, None], spectra, x, objective)
    for request in requests:
        derivatives = evaluation.partials(request)[:, 0].T
        for index, derivative in zip(request, derivatives, strict=True):
            np.testing.assert_allclose(derivative, partial(x, index), rtol=1e-10, atol=1e-10)


def test_recipe_of_a_channel_discards_the_parameter():
    """A function that is linear in the parameter: f' = f(1) - f(0), as of bit flips."""
    flip = Recipe(((1.0, 0.0, 1.0), (-1.0, 0.0, 0.0)))
    assert sorted(flip.rule(1)) == [(-1.0, 0.0, 0.0), (1.0, 0.0, 1.0)]
    assert flip.rule(2) == flip.rule(3) == []

    def partial(x, index):
        if index.count(0) > 1:
            return np.zeros(len(x))
        linear = 3 * x[:, 0] + 2 if 0 not in index else 3.0
        return linear * np.cos(x[:, 1] + index.count(1) * np.pi / 2)

    for requests in ([orders(2, k) for k in range(4)], [orders(2, 2), orders(2, 1, 0)]):
        check_recipe([flip, (1,)], lambda x: (3 * x[:, 0] + 2) * np.cos(x[:, 1]), partial, requests)


def test_recipe_with_scales():
    """f(x) = x^2 obeys f'(x) = f(2x + 1)/2 - 2 f(x) - f(1)/2."""
    square = Recipe(((0.5, 2.0, 1.0), (-2.0, 1.0, 0.0), (-0.5, 0.0, 1.0)))

    def partial(x, index):
        factors = {0: x**2, 1: 2 * x, 2: np.full_like(x, 2.0)}
        powers = [factors.get(index.count(j), np.zeros_like(x))[:, j] for j in range(2)]
        return powers[0] * powers[1]

    check_recipe(
        [square] * 2, lambda x: (x**2).prod(axis=1), partial, [orders(2, k) for k in range(5)]
    )


def test_recipe_with_reflection():
    """cos'(x) = cos(-x - pi/2), and applied twice -cos(x): the point is recognised as unshifted."""
    cosine = Recipe(((1.0, -1.0, -np.pi / 2),), 2 * np.pi)
    assert cosine.rule(2) == [(-1.0, 1.0, 0.0)]
    requests = [orders(1, k) for k in range(5)]
    check_recipe(
        [cosine],
        lambda x: np.cos(x[:, 0]),
        lambda x, index: np.cos(x[:, 0] + len(index) * np.pi / 2),
        requests,
    )
    assert count([cosine], requests) == 2


@pytest.mark.parametrize(
    "shift, period, points",
    [
        (np.pi / 2, 2 * np.pi, [1, 3, 4, 4, 4]),
        (np.pi / 2, None, [1, 3, 5, 7, 9]),
        (np.pi / 4, 2 * np.pi, [1, 3, 5, 7, 8]),
        (0.3, 2 * np.pi, [1, 3, 5, 7, 9]),
    ],
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_recipe_with_a_shift_of_ones_own(shift, period, points, objective):
    c = 1 / (2 * np.sin(shift))
    recipe = Recipe(((c, 1.0, shift), (-c, 1.0, -shift)), period)
    check_recipe(
        [recipe, (1,)],
        lambda x: np.sin(x[:, 0]) * np.cos(x[:, 1]),
        lambda x, a: (
            np.sin(x[:, 0] + a.count(0) * np.pi / 2) * np.cos(x[:, 1] + a.count(1) * np.pi / 2)
        ),
        [orders(2, k) for k in range(5)],
        objective,
    )
    steps = serve(planner([recipe], objective).root, [orders(1, k) for k in range(5)])
    assert [len(step.node.points) for step in steps] == points


def test_recipe_of_a_slow_function():
    """Small coefficients are no zeros."""
    w, s = 1e-4, 2e4 / 3
    c = w / (2 * np.sin(w * s))
    recipe = Recipe(((c, 1.0, s), (-c, 1.0, -s)), 2 * np.pi / w)
    x = np.array([[2e3]])
    evaluation = evaluate(lambda points: np.sin(w * points), [recipe], x)
    for k in range(5):
        expected = w**k * np.sin(w * x + k * np.pi / 2)
        np.testing.assert_allclose(evaluation.partials(orders(1, k))[0], expected, rtol=1e-8)


def test_recipes_apply_repeatedly_as_the_chain_rule_says():
    recipe = Recipe(((0.7, 2.0, 0.1), (-0.2, 0.5, -0.4), (0.3, 0.0, 1.5)))

    def apply(f):
        return lambda x: sum(c * f(a * x + s) for c, a, s in recipe.terms)

    def differentiate(terms, f):
        """d/dx sum c f(a x + s) = sum c a f'(a x + s), with f' = apply(f)."""
        return lambda x: sum(c * a * apply(f)(a * x + s) for c, a, s in terms)

    for order in (1, 2, 3):
        expected = differentiate(recipe.rule(order), np.sin)(0.37)
        got = sum(c * np.sin(a * 0.37 + s) for c, a, s in recipe.rule(order + 1))
        assert got == pytest.approx(expected, rel=1e-12)


# --- points and requests ---


def test_multi_indices():
    assert multi_indices((2, 0), 2) == [(0, 0), (0, 2), (2, 2)]
    assert multi_indices((0, 1), 0) == [()]
    assert multi_indices((), 1) == []
    assert len(multi_indices(range(8), 3)) == math.comb(10, 3)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_points_are_sorted_and_name_moved_parameters_only(objective):
    steps = serve(
        planner([(1.0,), (1, 2), (1, 3)], objective).root, [orders(3, k) for k in range(4)]
    )
    points = steps[-1].node.points
    assert points[0] == ()
    assert points == tuple(point for step in steps for point in step.new_points)
    for point in points:
        parameters = [p for p, _, _ in point]
        assert parameters == sorted(set(parameters))
        assert all(scale == 1.0 and shift != 0.0 for _, scale, shift in point)
        assert all(abs(shift) <= np.pi + 1e-9 for _, _, shift in point)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("frequencies", [(1,), (3,), (1, 2), (0.5, 1), (1, 3), (0.3, 0.6, 0.9)])
def test_no_two_points_coincide_modulo_the_period(frequencies, objective):
    spectra = [frequencies] * 2
    steps = serve(planner(spectra, objective).root, [orders(2, k) for k in (3, 1, 4, 2, 0)])
    base = min(abs(a - b) for a, b in itertools.combinations((0, *frequencies), 2))
    assert all(abs(w / base - round(w / base)) < 1e-9 for w in frequencies)
    seen = set()
    for point in steps[-1].node.points:
        moved = np.zeros(2)
        for p, _, shift in point:
            moved[p] = shift
        seen.add(tuple(np.round(np.exp(1j * base * moved), 8)))
    assert len(seen) == len(steps[-1].node.points)


def test_known_finds_points_by_support():
    points = [(), ((0, 1.0, 0.1),), ((0, 1.0, 0.1), (2, 1.0, 0.1)), ((1, 1.0, 0.2),)]
    known = Known(points)
    assert known.within((0, 2)) == points[:3]
    assert known.within((1,)) == [points[0], points[3]]
    known.add(points[1])
    assert list(known) == points and list(known.values()) == [0, 1, 2, 3]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_to_run(objective):
    """Derivatives that are zero whatever the values are need no values."""
    linear = Recipe(((1.0, 0.0, 1.0), (-1.0, 0.0, 0.0)))
    for spectra, request in (([()], ((0,),)), ([linear], ((0, 0),)), ([(), (1,)], ((0, 1),))):
        root = planner(spectra, objective).root
        assert root.request(request).new_points == ()
        f = Polynomial([(1,)] * len(spectra))
        evaluation = evaluate(f, spectra, np.zeros((2, len(spectra))), objective)
        np.testing.assert_array_equal(evaluation.partials(request), np.zeros((2, 1, 1)))


def test_unknown_objective():
    with pytest.raises(ValueError, match="circuits.*shots.*'cheap'"):
        planner([(1.0,)], "cheap")
