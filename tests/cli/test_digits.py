"""Digits of numbers in tables, against numbers rounded by hand."""

import math

import numpy as np
import pytest

from qshift.cli.digits import certain, rounded, rounded_array


@pytest.mark.parametrize(
    "value, error, text",
    [
        (0.123456789, 0.0123, "0.123"),
        (0.123456789, 0.0987, "0.123"),
        (0.5, 0.00131, "0.5000"),  # zeros say how certain it is
        (-0.0004, 0.021, "0.000"),  # no negative zero
        (-7.8612345, 0.31, "-7.86"),
        (2.0, 9.6, "2.0"),
        (41.7, 12.0, "42"),
        (12345.6, 210.0, "1.235E+4"),
        (1.23456e-9, 1.1e-11, "1.235E-9"),
        (0.0, 1e-12, "0E-13"),
        (0.123456789012, 0.0, "0.123456789"),  # exact
        (1.0, 1e-15, "1"),  # as good as exact
        (1e30, 1.0, "1e+30"),
        (math.nan, 0.1, "nan"),
        (0.3, math.nan, "0.3"),
        (0.3, math.inf, "0.3"),
    ],
)
def test_values_end_at_the_second_digit_of_their_error(value, error, text):
    assert rounded(value, error) == text


@pytest.mark.parametrize("shots, count", [(0, 10), (1, 1), (100, 2), (10_000, 3), (12_000, 4)])
def test_shots_say_how_many_digits_are_certain(shots, count):
    assert certain(shots) == count
    assert rounded(2 / 3, None, certain(shots)) == "0." + "6" * (count - 1) + "7"


def test_arrays():
    values, errors = np.array([[0.5, -1.25], [np.nan, 3e-5]]), np.array([[0.1, 0.02], [0.1, 0.0]])
    assert rounded_array(values, errors).split() == ["[[0.50", "-1.250]", "[nan", "3e-05]]"]
    assert rounded_array(values[0], None, digits=2) == "[0.5 -1.2]"
    assert rounded_array(values[0, 0], errors[0, 0]) == "0.50"
    # Of a long array few numbers are looked at.
    assert "..." in rounded_array(np.zeros(10**6), np.ones(10**6))
