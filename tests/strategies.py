"""Spectra that tests draw at random."""

import math

import numpy as np
from hypothesis import strategies as st


def equidistant():
    return st.builds(
        lambda count, base: tuple(base * m for m in range(1, count + 1)),
        st.integers(1, 6),
        st.floats(0.1, 3),
    )


def commensurable():
    return st.builds(
        lambda numbers, unit: tuple(number * unit for number in numbers),
        st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True),
        st.sampled_from([1, 0.5, 0.1, 1 / 3, math.pi]),
    )


def incommensurable():
    primes = [2, 3, 5, 7, 11, 13, 17, 19]
    return st.lists(st.sampled_from(primes), min_size=2, max_size=5, unique=True).map(
        lambda numbers: tuple(math.sqrt(number) for number in numbers)
    )


def separated():
    """Arbitrary frequencies, no two closer than 0.05."""
    gaps = st.lists(st.floats(0.05, 1), min_size=1, max_size=5)
    return gaps.map(lambda values: tuple(np.cumsum(values).tolist()))


def spectra():
    return st.one_of(equidistant(), commensurable(), incommensurable(), separated())
