import itertools
import math

import numpy as np
import pytest

from qshift.rules.fewest_points import fewest, wrap


class Polynomial:
    """A random trigonometric polynomial in k parameters, with its derivatives in closed form."""

    def __init__(self, frequencies, seed):
        rng = np.random.default_rng(seed)
        terms = [[0.0, *f, *(-w for w in f)] for f in frequencies]
        self.terms = np.array(list(itertools.product(*terms)))  # one frequency vector per row
        self.amplitudes = rng.normal(size=(2, len(self.terms)))

    def __call__(self, x, index=()):
        phases = self.terms @ x + len(index) * np.pi / 2
        factors = np.prod([self.terms[:, j] for j in index], axis=0)
        cosines, sines = self.amplitudes
        return (factors * (cosines * np.cos(phases) + sines * np.sin(phases))).sum()


def moved(x, point):
    y = x.copy()
    for j, shift in point:
        y[j] += shift
    return y


def smaller(k, shifts=(np.pi / 2, -np.pi / 2, np.pi)):
    """Equal shifts on all subsets smaller than k, and the unshifted point."""
    subsets = itertools.chain.from_iterable(
        itertools.combinations(range(k), n) for n in range(1, k)
    )
    points = [tuple((j, shift) for j in subset) for subset in subsets for shift in shifts]
    return ((), *points)


@pytest.mark.parametrize("k, new", [(1, 2), (2, 3), (3, 4), (4, 5)])
def test_equal_shifts_take_one_point_more_than_there_are_parameters(k, new):
    """Where the product of first-derivative rules takes 2^k."""
    shifts = [2 * np.pi * m / (k + 2) for m in range(1, k + 2)]
    known = smaller(k, shifts)
    count, (combination,) = fewest(((1.0,),) * k, (tuple(range(k)),), known)
    assert count == new
    x = np.random.default_rng(k).uniform(-3, 3, k)
    f = Polynomial(((1.0,),) * k, k)
    value = sum(c * f(moved(x, point)) for point, c in combination)
    assert value == pytest.approx(f(x, tuple(range(k))), abs=1e-9)


@pytest.mark.parametrize(
    "frequencies, indices",
    [
        (((1.0,),), ((0,), (0, 0), (0, 0, 0))),
        (((0.5, 1.0),), ((0,), (0, 0))),
        (((1 / 3, 1.0),), ((0,), (0, 0))),
        (((1.0,), (0.5, 1.0)), ((0, 1), (0, 0, 1))),
        (((0.7, 1.0), (1.0,)), ((0, 1), (0, 1, 1))),
    ],
)
def test_combinations_are_the_derivatives(frequencies, indices):
    known = smaller(len(frequencies), (0.9, -0.9, 2.0, -2.0))
    count, combinations = fewest(frequencies, indices, known)
    points = {point for combination in combinations for point, _ in combination}
    assert count == len(points.difference(known))
    assert count <= math.prod(2 * len(f) + 1 for f in frequencies)
    f, x = Polynomial(frequencies, 1), np.array([0.4, -1.3][: len(frequencies)])
    for index, combination in zip(indices, combinations, strict=True):
        value = sum(c * f(moved(x, point)) for point, c in combination)
        assert value == pytest.approx(f(x, index), abs=1e-9)


def test_what_is_known_already_is_not_counted():
    frequencies, indices = ((1.0,),), ((0,), (0, 0))
    _, combinations = fewest(frequencies, indices, ())
    known = tuple({point for combination in combinations for point, _ in combination})
    assert fewest(frequencies, indices, known)[0] == 0


@pytest.mark.parametrize(
    "shift, full, expected",
    [
        (3 * np.pi, 2 * np.pi, np.pi),
        (-np.pi, 2 * np.pi, np.pi),
        (5.0, None, 5.0),
        (-0.0, None, 0.0),
    ],
)
def test_wrap(shift, full, expected):
    wrapped = wrap(shift, full)
    assert wrapped == pytest.approx(expected, abs=1e-11) and math.copysign(1, wrapped) == 1


def test_without_the_smaller_subsets_there_may_be_no_answer():
    """Equal shifts on a pair do not tell apart what only one of its parameters does."""
    assert fewest(((1.0,), (0.5, 1.0)), ((0, 1), (0, 0, 1)), ((),)) is None
