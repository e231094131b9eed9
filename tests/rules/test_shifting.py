"""Angles that are moved: large ones keep their digits, or are refused."""

import mpmath
import numpy as np
import pytest

import qshift
from qshift.rules.planner import Frequencies, Recipe
from qshift.rules.shifting import Shifter, reduced


def shifter(spectra, moves=None):
    return Shifter(spectra, "Parameter {}".format, moves)


def test_points_are_moved_and_others_stay():
    parameters = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    points = [(), ((0, 1.0, 0.5), (2, 0.0, 7.0)), ((1, -2.0, 1.0),)]
    np.testing.assert_array_equal(
        shifter([Frequencies((1.0,))] * 3)(parameters, points),
        [[1, 2, 3], [10, 20, 30], [1.5, 2, 7], [10.5, 20, 7], [1, -3, 3], [10, -39, 30]],
    )
    np.testing.assert_array_equal(parameters, [[1, 2, 3], [10, 20, 30]])


@pytest.mark.parametrize("rows, parameters, points", [(1, 0, [()]), (3, 2, []), (0, 2, [(), ()])])
def test_nothing_may_be_moved(rows, parameters, points):
    result = shifter([Frequencies((1.0,))] * parameters)(np.ones((rows, parameters)), points)
    assert result.shape == (rows * len(points), parameters)


def test_a_parameter_may_move_several_columns():
    move = shifter([Frequencies((1.0,))] * 3, {0: [(0, 1.0), (2, -2.0)]})
    points = move(np.array([[1.0, 2.0, 3.0]]), [((0, 1.0, 0.5),), ((1, 1.0, 0.25),)])
    np.testing.assert_array_equal(points, [[1.5, 2.0, 2.0], [1.0, 2.25, 3.0]])


def test_many_plans_move_what_each_says():
    move, at = shifter([Frequencies((1.0,))] * 2), np.array([[1.0, 2.0]])
    for _ in range(2):
        for k in range(20):
            points = [((k % 2, 1.0, float(k)),), ()]
            expected = [[1.0 + k, 2.0], [1.0, 2.0]] if k % 2 == 0 else [[1.0, 2.0 + k], [1.0, 2.0]]
            np.testing.assert_array_equal(move(at, points), expected)


@pytest.mark.parametrize("exponent", [4, 8, 12, 15, 18, 30])
@pytest.mark.parametrize("frequencies", [(1.0,), (0.5, 1.0), (2.0, 6.0), (0.25,)])
def test_what_is_left_of_large_angles_is_exact(frequencies, exponent):
    x = np.array([1.2345678, -3.3]) * 10.0**exponent
    left = reduced(x, Frequencies(frequencies), "x")
    assert (np.abs(left) <= np.pi / min(frequencies)).all()
    with mpmath.workdps(60):
        for angle, rest in zip(x, left, strict=True):
            for w in frequencies:
                assert float(mpmath.cos(w * mpmath.mpf(float(angle)))) == pytest.approx(
                    np.cos(w * rest), abs=1e-13
                )


def test_small_angles_stay_as_they_are():
    x = np.array([0.1, -5.0, 900.0])
    assert reduced(x, Frequencies((1.0,)), "x") is x
    assert reduced(1e12 * x, Frequencies((1e-12,)), "x")[0] == 1e11


def test_what_has_no_period_is_refused_where_digits_would_be_lost():
    irrational = Frequencies((1.0, np.sqrt(2)))
    x = np.array([1e6])
    assert reduced(x, irrational, "x") is x
    for spectrum in (irrational, Recipe(((0.5, 1.0, 1.5), (-0.5, 1.0, -1.5)))):
        with pytest.raises(qshift.UnsupportedError, match="An angle is 1e.10, but no period"):
            reduced(np.array([1.0, 1e10]), spectrum, "An angle")
    recipe = Recipe(((0.5, 1.0, np.pi / 2), (-0.5, 1.0, -np.pi / 2)), 2 * np.pi)
    np.testing.assert_allclose(np.cos(reduced(np.array([1e10]), recipe, "x")), np.cos(1e10))


@pytest.mark.parametrize("spectrum", [Frequencies((1.0,)), Frequencies((1.0, np.sqrt(2)))])
def test_what_is_not_finite_never_is(spectrum):
    left = reduced(np.array([np.nan, np.inf, -np.inf, 0.3]), spectrum, "x")
    assert not np.isfinite(left[:3]).any() and left[3] == 0.3
