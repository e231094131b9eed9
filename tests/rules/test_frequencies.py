"""Periods of spectra against known ones, and frequencies that cannot be told apart."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import commensurable, equidistant

from qshift.rules.frequencies import base_frequency, distinct, is_equidistant, merged, period
from qshift.rules.shift_rule import odd_grid, shift_rule

fast = settings(max_examples=80, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("frequencies", "expected"),
    [
        ((1,), 2 * np.pi),
        ((0.5, 1), 4 * np.pi),
        ((1, 3), 2 * np.pi),
        ((2, 4, 6), np.pi),
        ((2, 3), 2 * np.pi),
        ((0.3, 0.1), 20 * np.pi),
        ((1 / 3, 1 / 7), 42 * np.pi),
        ((1.234, 0.777), 2000 * np.pi),
        ((1, 5000), 2 * np.pi),
        ((math.sqrt(2), 3 * math.sqrt(2)), math.sqrt(2) * np.pi),
        ((1, math.sqrt(2)), None),
        ((1, 1.41421356), None),
        ((math.pi, 1), None),
        ((1, 1 + 1e-6), None),
    ],
)
def test_period(frequencies, expected):
    if expected is None:
        assert period(frequencies) is None
    else:
        assert period(frequencies) == pytest.approx(expected, rel=1e-12)


@fast
@given(st.one_of(equidistant(), commensurable()))
def test_period_is_common_and_smallest(frequencies):
    full = period(frequencies)
    turns = np.array(frequencies) * full / (2 * np.pi)
    assert turns == pytest.approx(turns.round(), rel=1e-11)
    assert math.gcd(*turns.round().astype(int).tolist()) == 1


def test_is_equidistant():
    assert all(map(is_equidistant, [(1,), (0.7,), (1, 2), (1, 0.5), (0.1, 0.2, 0.3), (3, 1, 2)]))
    assert not any(map(is_equidistant, [(1, 3), (2, 3), (1, 2, 4), (1, math.sqrt(2)), (1, 2.001)]))


def test_base_frequency():
    assert base_frequency((2, 3)) == pytest.approx(1, rel=1e-12)
    assert base_frequency((0.5, 1.5)) == pytest.approx(0.5, rel=1e-12)
    assert base_frequency((1, math.sqrt(2))) is None


def test_merged_takes_rounding_off():
    values = [0.0, -1.0, 1.0 + 1e-14, 3.0, 1e-15, -3.0 - 1e-13]
    assert merged(values) == pytest.approx((1.0, 3.0), rel=1e-12)
    assert len(merged([1.0, 1.0 + 1e-9])) == 2
    assert merged([]) == merged([0.0]) == ()


def test_distinct_keeps_the_first_of_those_that_are_close():
    assert distinct(np.array([1.0, 0.0, 1.05, 2.0]), 0.1).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("function", [shift_rule, period, is_equidistant, odd_grid])
@pytest.mark.parametrize(
    ("frequencies", "reason"),
    [
        ((), "one or more"),
        (None, "finite"),
        ("abc", "finite"),
        ((1j,), "finite"),
        (((1, 2), (3, 4)), "sequence"),
        ((1, math.nan), "finite"),
        ((1, math.inf), "finite"),
        ((0, 1), "positive"),
        ((-1, 2), "positive"),
        ((1, 2, 1), "distinct"),
        ((1, 1 + 1e-13), "distinct"),
    ],
)
def test_bad_frequencies(function, frequencies, reason):
    with pytest.raises(ValueError, match=f"frequencies must be .*{reason}"):
        function(frequencies)
