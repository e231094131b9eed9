"""Shift rules against closed forms, analytic derivatives, and exhaustive searches."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spectra

from qshift.rules.frequencies import period
from qshift.rules.shift_rule import (
    ShiftRule,
    design,
    odd_grid,
    shift_rule,
    target,
)

fast = settings(max_examples=80, deadline=None, derandomize=True)

SPECTRA = [
    (1,),
    (0.37,),
    (1, 2),
    (0.5, 1),
    (0.5, 1, 1.5, 2, 2.5),
    (1, 3),
    (1, 3, 5),
    (2, 3),
    (1, 2, 3, 5, 8, 13),
    (0.01, 100),
    (1, 1.01),
    (1, math.sqrt(2)),
    (1, math.sqrt(2), math.sqrt(3), math.pi),
]


class Polynomial:
    """a_0 + sum_w a_w cos(w x + phi_w); a derivative multiplies by w and adds pi/2 to the phase."""

    def __init__(self, frequencies, seed):
        rng = np.random.default_rng(seed)
        self.frequencies = np.array(frequencies)
        self.constant = rng.normal()
        self.amplitudes = rng.normal(size=len(frequencies))
        self.phases = rng.uniform(0, 2 * np.pi, len(frequencies))

    def __call__(self, x, order=0):
        angles = self.frequencies * x + self.phases + order * np.pi / 2
        terms = self.amplitudes * self.frequencies**order * np.cos(angles)
        return terms.sum() + (self.constant if order == 0 else 0)

    @property
    def size(self):
        return abs(self.constant) + np.abs(self.amplitudes).sum()


def as_dict(rule):
    return {round(s, 12): c for s, c in zip(rule.shifts, rule.coefficients, strict=True)}


def wrapped(shift, full):
    return full / 2 - (full / 2 - shift) % full


@pytest.mark.parametrize("base", [1, 0.5, 0.3, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20])
def test_equidistant_rules_are_the_closed_forms(count, base):
    """Wierichs, Izaac, Wang, Lin, Quantum 6, 677 (2022): first and second derivative."""
    frequencies = [base * m for m in range(1, count + 1)]
    first = {}
    for m in range(1, 2 * count + 1):
        angle = (2 * m - 1) * np.pi / (2 * count)
        coefficient = (-1) ** (m - 1) / (4 * count * np.sin(angle / 2) ** 2)
        first[round(wrapped(angle / base, 2 * np.pi / base), 12)] = base * coefficient
    second = {0.0: -(base**2) * (2 * count**2 + 1) / 6}
    for m in range(1, 2 * count):
        angle = m * np.pi / count
        coefficient = (-1) ** (m - 1) / (2 * np.sin(angle / 2) ** 2)
        second[round(wrapped(angle / base, 2 * np.pi / base), 12)] = base**2 * coefficient
    for order, expected in ((1, first), (2, second)):
        rule = shift_rule(frequencies, order)
        assert as_dict(rule) == pytest.approx(expected, rel=1e-12, abs=1e-14 * rule.norm)
        assert rule.norm == pytest.approx((count * base) ** order, rel=1e-13)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equidistant_orders_share_two_grids(count):
    frequencies = 0.5 * np.arange(1, count + 1)
    for first in (1, 2):
        shifts = shift_rule(frequencies, first).shifts
        assert len(shifts) == 2 * count
        for order in range(first + 2, 13, 2):
            rule = shift_rule(frequencies, order)
            np.testing.assert_array_equal(rule.shifts, shifts)
            assert rule.norm == pytest.approx((count / 2) ** order, rel=1e-12)


@pytest.mark.parametrize("order", range(1, 9))
@pytest.mark.parametrize("frequencies", SPECTRA)
def test_rules_are_exact_and_optimal(frequencies, order):
    rule = shift_rule(frequencies, order)
    scale = max(frequencies) ** order
    error = rule.coefficients @ design(rule.frequencies, rule.shifts) - target(
        rule.frequencies, order
    )
    assert np.abs(error).max() <= 1e-13 * scale
    assert rule.norm == pytest.approx(scale, rel=1e-9)
    assert len(rule.shifts) <= 2 * len(frequencies) + (order + 1) % 2


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_rules_of_almost_equidistant_frequencies_are_exact(count):
    """They have a period to 12 digits, but at half of it f(x + s) and f(x - s) differ a little."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        frequencies = np.arange(1, count + 1) * (1 + rng.uniform(-4e-13, 4e-13, count))
        for order in (1, 2, 3, 4):
            rule = shift_rule(frequencies, order)
            right = target(rule.frequencies, order)
            error = rule.coefficients @ design(rule.frequencies, rule.shifts) - right
            assert (np.abs(error) <= 1e-12 * np.abs(right) + 4e-15 * rule.norm).all()


@fast
@given(spectra(), st.integers(0, 8), st.floats(-10, 10), st.integers(0, 2**32 - 1))
def test_rules_differentiate_random_polynomials(frequencies, order, x, seed):
    f = Polynomial(frequencies, seed)
    rule = shift_rule(frequencies, order)
    tolerance = 1e-12 * f.size * max(frequencies) ** order
    # x + s is rounded, by an amount that grows with s and with the steepness of f.
    tolerance *= 1 + max(frequencies) * (abs(x) + np.abs(rule.shifts).max())
    assert rule(f, x) == pytest.approx(f(x, order), abs=tolerance)


@fast
@given(spectra(), st.integers(1, 8))
def test_norm_is_bernsteins_bound(frequencies, order):
    rule = shift_rule(frequencies, order)
    assert rule.norm == pytest.approx(max(frequencies) ** order, rel=1e-9)
    assert len(rule.shifts) <= 2 * len(frequencies) + 2


@fast
@given(spectra(), st.integers(0, 8))
def test_rules_are_normal_and_deterministic(frequencies, order):
    rule = shift_rule(frequencies, order)
    again = shift_rule(np.array(frequencies[::-1]), np.int64(order))
    assert again is rule
    assert rule.frequencies == tuple(sorted(frequencies))
    assert rule.order == order
    assert rule.coefficients.dtype == rule.shifts.dtype == np.float64
    assert rule.coefficients.all()
    assert len(np.unique(rule.shifts)) == len(rule.shifts)
    full = period(frequencies)
    if full is not None:
        assert (rule.shifts > -full / 2).all() and (rule.shifts <= full / 2).all()
    with pytest.raises(ValueError, match="read-only"):
        rule.coefficients[0] = 0


def test_spectrum_with_a_gap():
    """d/dx sin 3x = 3 and d2/dx2 cos 3x = -9 at 0, whereas sin x and cos x give 1 and -1."""
    first, second = shift_rule((1, 3)), shift_rule((1, 3), 2)
    assert first(lambda x: np.sin(3 * x), 0.0) == pytest.approx(3, abs=1e-14)
    assert first(np.sin, 0.0) == pytest.approx(1, abs=1e-14)
    assert first(np.cos, 0.0) == pytest.approx(0, abs=1e-14)
    assert second(lambda x: np.cos(3 * x), 0.0) == pytest.approx(-9, abs=1e-13)
    assert second(np.cos, 0.0) == pytest.approx(-1, abs=1e-13)
    assert (first.norm, second.norm) == pytest.approx((3, 9), rel=1e-14)


def test_hydrogen_molecule():
    """H2 in STO-3G at +-0.6614 bohr along one double excitation: derivatives, Newton's method."""

    def energy(theta):
        return -0.2764317313 - 0.8409171898 * np.cos(theta) - 0.1790003363 * np.sin(theta)

    exact = [-1.1173489211, -0.1790003363, 0.8409171898, 0.1790003363, -0.8409171898]
    rules = [shift_rule((0.5, 1), order) for order in range(5)]
    assert [rule(energy, 0.0) for rule in rules] == pytest.approx(exact, abs=1e-9)
    theta = 0.0
    for _ in range(3):
        theta -= rules[1](energy, theta) / rules[2](energy, theta)
    assert theta == pytest.approx(0.2097328891, abs=1e-9)
    assert energy(theta) == pytest.approx(-1.1361891625, abs=1e-9)


def test_mixed_derivatives_of_a_product_of_cosines():
    """Mari, Bromley, Killoran, PRA 103, 012405 (2021): one rule inside another."""
    theta = np.array([2.73943676, 0.16289932, 3.4536312, 2.73521126])

    def partial(orders, point=theta, axis=0):
        if axis == len(point):
            return np.prod(np.cos(point))
        if orders[axis] == 0:
            return partial(orders, point, axis + 1)

        def along(value):
            return partial(orders, np.append(np.append(point[:axis], value), point[axis + 1 :]),
                           axis + 1)  # fmt: skip

        return shift_rule((1,), orders[axis])(along, point[axis])

    assert partial((0, 0, 0, 0)) == pytest.approx(-0.793805559, abs=1e-9)
    assert partial((1, 0, 0, 0)) == pytest.approx(-0.3376347, abs=1e-7)
    assert partial((1, 1, 1, 0)) == pytest.approx(-0.0179004867, abs=1e-9)
    assert partial((2, 1, 0, 0)) == pytest.approx(-0.13046646, abs=1e-8)
    assert partial((1, 1, 1, 1)) == pytest.approx(-0.0077032196, abs=1e-9)


def test_close_frequencies_stay_exact():
    """Where the optimum is out of reach, sum|c| exceeds it slightly, and exactness stays."""
    for frequencies in [(1, 1 + 1e-7), (0.5, 1 - 2e-6, 1 - 1e-6, 1), (1, 1.001, 1.002, 1.003)]:
        for order in (1, 2, 4):
            rule = shift_rule(frequencies, order)
            scale = max(frequencies) ** order
            error = rule.coefficients @ design(frequencies, rule.shifts) - target(
                frequencies, order
            )
            assert np.abs(error).max() <= 1e-12 * scale
            assert 1 - 1e-12 <= rule.norm / scale <= 1 + 0.005 * order
            assert np.abs(rule.shifts).max() <= 256 * np.pi / max(frequencies) + 1e-9


def test_order_zero_is_the_value():
    rule = shift_rule((1, math.sqrt(2)), 0)
    assert rule.coefficients.tolist() == [1]
    assert rule.shifts.tolist() == [0]
    assert shift_rule((1,), 0, shifts=(0.3,))(np.cos, 0.7) == pytest.approx(np.cos(0.7))
    elsewhere = shift_rule((1,), 0, shifts=(0.3, 1.0, 2.0))
    assert elsewhere.shifts.tolist() == [0.3, 1.0, 2.0]
    assert elsewhere(np.cos, 0.7) == pytest.approx(np.cos(0.7), abs=1e-14)


@pytest.mark.parametrize("w", [1, 0.5, 3])
@pytest.mark.parametrize("s", [np.pi / 2, np.pi / 4, 0.3, -0.3, 0.01, 2.0])
def test_one_shift_stands_for_a_pair(s, w):
    s = s / w
    first = shift_rule((w,), 1, shifts=(s,))
    half = w / (2 * np.sin(w * s))
    assert first.shifts.tolist() == [s, -s]
    assert first.coefficients == pytest.approx([half, -half], rel=1e-12)
    second = shift_rule((w,), 2, shifts=(s,))
    outer = w**2 / (2 - 2 * np.cos(w * s))
    assert second.shifts.tolist() == [0, s, -s]
    assert second.coefficients == pytest.approx([-2 * outer, outer, outer], rel=1e-10)
    for order in (3, 5, 4, 6):
        rule = shift_rule((w,), order, shifts=(s,))
        below = shift_rule((w,), order - 2, shifts=(s,))
        assert rule.shifts.tolist() == below.shifts.tolist()
        assert rule.coefficients == pytest.approx(-(w**2) * below.coefficients, rel=1e-10)


def test_half_a_period_merges_the_pair():
    rule = shift_rule((1,), 2, shifts=(np.pi,))
    assert as_dict(rule) == pytest.approx({0.0: -0.5, round(np.pi, 12): 0.5})


@fast
@given(st.integers(2, 4), st.integers(0, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_given_shifts_are_the_only_ones_used(count, order, seed, pairs):
    rng = np.random.default_rng(seed)
    frequencies = np.cumsum(rng.uniform(0.5, 1.5, count))
    limit = np.pi / frequencies[-1]
    if pairs:  # R shifts, near the odd multiples that suit an equidistant spectrum
        shifts = limit * (np.arange(count) + rng.uniform(0.4, 0.6, count))
        allowed = {0.0, *shifts, *-shifts}
    else:
        shifts = limit * (np.arange(-count - 1, count + 2) + rng.uniform(-0.2, 0.2, 2 * count + 3))
        allowed = set(shifts)
    try:
        rule = shift_rule(frequencies, order, shifts=shifts)
    except ValueError:  # rare: these shifts happen to be singular; then the matrix must be, too
        columns = design(frequencies, sorted(allowed))
        assert np.linalg.svd(columns, compute_uv=False)[-1] < 1e-6
        return
    assert set(rule.shifts) <= allowed
    f = Polynomial(frequencies, seed)
    tolerance = 1e-12 * f.size * (frequencies[-1] ** order + rule.norm)
    assert rule(f, 0.4) == pytest.approx(f(0.4, order), abs=tolerance)
    assert rule.norm >= (1 - 1e-12) * frequencies[-1] ** order * (order > 0)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_given_shifts_get_the_least_norm(seed, order):
    """Some basic solution has the least sum|c|: compare with all of them."""
    frequencies = (1.0, 1.7)
    shifts = np.random.default_rng(seed).uniform(-4, 4, 9)
    best = math.inf
    for chosen in itertools.combinations(shifts, 5):
        matrix = design(frequencies, chosen).T
        if np.linalg.cond(matrix) < 1e10:
            best = min(best, np.abs(np.linalg.solve(matrix, target(frequencies, order))).sum())
    assert shift_rule(frequencies, order, shifts=shifts).norm == pytest.approx(best, rel=1e-8)


def test_given_shifts_that_hold_the_best_rule_lead_to_it():
    for order in (1, 2, 5):
        best = shift_rule((1, 3), order)
        given_shifts = np.concatenate([[0.1, -1.3, 2.9], best.shifts, [0.77]])
        rule = shift_rule((1, 3), order, shifts=given_shifts)
        assert rule.norm == pytest.approx(3**order, rel=1e-9)


def test_given_shifts_that_do_not_help_are_left_out():
    for other in (0.0, 0.1, 0.45, 1.7):
        rule = shift_rule((1,), 1, shifts=(other, 0.37, -0.37))
        assert rule.shifts.tolist() == [0.37, -0.37]


def test_given_shifts_are_taken_modulo_the_period():
    shifted = shift_rule((1,), 1, shifts=(np.pi / 2 + 2 * np.pi, -np.pi / 2 - 4 * np.pi))
    assert as_dict(shifted) == pytest.approx(
        {round(np.pi / 2, 12): 0.5, -round(np.pi / 2, 12): -0.5}
    )
    twice = shift_rule((1,), 1, shifts=(0.3, 0.3 + 2 * np.pi, -0.3))
    assert len(twice.shifts) == 2


@pytest.mark.parametrize(
    ("frequencies", "order", "shifts"),
    [
        ((1,), 1, (np.pi,)),  # sin(s) = 0
        ((1,), 1, (0.0,)),
        ((1,), 2, (2 * np.pi,)),  # the pair is 0 again
        ((1,), 2, (1e-5,)),  # 1 / (1 - cos s) is beyond 1e8
        ((1,), 2, (0.3, -0.3)),  # no evaluation at 0
        ((1, 2), 1, (0.3,)),
        ((1, 2), 1, (np.pi / 2, np.pi)),  # sin(2 s) = 0 at both
        ((1, 2), 1, (0.3, -0.3, 0.7, 0.9)),
        ((1, math.sqrt(2)), 3, (0.3, -0.3, 0.0)),
    ],
)
def test_shifts_without_an_exact_rule_are_refused(frequencies, order, shifts):
    with pytest.raises(ValueError) as error:
        shift_rule(frequencies, order, shifts=shifts)
    message = str(error.value)
    assert str(tuple(float(s) for s in shifts)) in message
    assert f"of the {2 * len(frequencies) + 1} degrees of freedom" in message
    assert "leave shifts out" in message


def test_odd_grid_of_equidistant_spectra():
    grid = odd_grid((0.5, 1, 1.5))
    odd_multiples = np.arange(-5, 6, 2) * np.pi / 6 / 0.5
    assert np.sort(grid) == pytest.approx(odd_multiples, rel=1e-14)
    np.testing.assert_array_equal(grid, shift_rule((0.5, 1, 1.5)).shifts)


@fast
@given(spectra())
def test_odd_grid_fixes_all_odd_orders(frequencies):
    grid = odd_grid(frequencies)
    assert grid.shape == (2 * len(frequencies),)
    np.testing.assert_array_equal(grid[::2], -grid[1::2])
    for order in (1, 3, 7):
        wanted = target(frequencies, order) / max(frequencies) ** order
        coefficients = np.linalg.lstsq(design(frequencies, grid).T, wanted, rcond=None)[0]
        np.testing.assert_allclose(coefficients @ design(frequencies, grid), wanted, atol=1e-11)


def test_odd_grid_is_complete_where_the_best_rule_needs_fewer_points():
    """Frequencies that a rule cannot tell apart still get a pair of shifts each."""
    frequencies = (0.5, 1 - 4e-9, 1 - 2e-9, 1)
    assert len(shift_rule(frequencies, 3).shifts) == 6
    assert len(np.unique(odd_grid(frequencies))) == 8


def test_design_and_target_are_the_basis_and_its_derivatives():
    shifts = np.array([-1.0, 0.2, 3.0, 0.0])
    matrix = design((2, 0.5), shifts)
    columns = [np.ones(4), np.cos(2 * shifts), np.cos(shifts / 2), np.sin(2 * shifts),
               np.sin(shifts / 2)]  # fmt: skip
    np.testing.assert_allclose(matrix, np.stack(columns, axis=1), rtol=1e-15)
    assert target((2, 0.5), 0).tolist() == [1, 1, 1, 0, 0]
    assert target((2, 0.5), 1).tolist() == [0, 0, 0, 2, 0.5]
    assert target((2, 0.5), 2).tolist() == [0, -4, -0.25, 0, 0]
    assert target((2, 0.5), 3).tolist() == [0, 0, 0, -8, -0.125]
    assert target((2, 0.5), 4).tolist() == [0, 16, 0.0625, 0, 0]


@pytest.mark.parametrize("order", [-1, 1.0, 1.5, None, "1"])
def test_bad_orders(order):
    with pytest.raises(ValueError, match="order must be an integer, 0 or greater, got "):
        shift_rule((1,), order)


def test_orders_beyond_float64():
    with pytest.raises(ValueError, match="beyond float64.*rescale"):
        shift_rule((1, 100), 200)
    with pytest.raises(ValueError, match="beyond float64.*rescale"):
        shift_rule((1e-200, 1e200))


@pytest.mark.parametrize("shifts", [(), "abc", (math.nan,), ((1, 2), (3, 4))])
def test_bad_shifts(shifts):
    with pytest.raises(ValueError, match="shifts must be a sequence"):
        shift_rule((1,), 1, shifts=shifts)


def test_repr_reads_as_a_formula():
    assert repr(shift_rule((1,))) == (
        "ShiftRule(order=1, frequencies=(1.0,): + 0.5 f(x + 1.5708) - 0.5 f(x - 1.5708))"
    )
    rule = ShiftRule(np.array([2.0, -1.0]), np.array([0.0, 0.25]), 2, (1.0,))
    assert repr(rule) == "ShiftRule(order=2, frequencies=(1.0,): + 2 f(x) - 1 f(x + 0.25))"


def test_call_takes_arrays():
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    np.testing.assert_allclose(shift_rule((1,), 3)(np.sin, x), -np.cos(x), atol=1e-15)
    weights = np.array([0.4, 0.1, 0.2])
    rule = shift_rule((1,), 3, shifts=(np.pi / 4,))
    np.testing.assert_allclose(rule(np.sin, weights), -np.cos(weights), atol=1e-15)
