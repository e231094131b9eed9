"""Whole numbers of shots: their sums, their kinds, and what rounding costs."""

import numpy as np
import pytest

from qshift.rules.rounding import KINDS, rounded, sizes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_sums_are_kept(kind, seed):
    rng = np.random.default_rng(seed)
    count, rows, shots = rng.integers(1, 60), rng.integers(1, 5), int(rng.integers(8, 5000))
    shares = rng.lognormal(sigma=2, size=(count, rows))
    wanted = shares * count * shots / shares.sum(axis=0)
    numbers = rounded(wanted, rng.uniform(size=rows), 2, kind)
    assert numbers.shape == (count, rows) and numbers.dtype == np.int64 and numbers.min() >= 2
    if kind == "multiples":
        size = max(2, shots // 4)
        assert sizes(numbers, kind) % size == 0
        missing = count * shots - numbers.sum(axis=0)
        assert (missing >= 0).all() and (missing < size).all()
    else:
        assert (numbers.sum(axis=0) == count * shots).all()
        assert sizes(numbers, kind) == 1
    if kind == "few":
        assert len(np.unique(numbers[:, 0])) <= 2 * (2 + 2 * np.log2(numbers.max()))


@pytest.mark.parametrize("kind", KINDS)
def test_variances_are_little_larger(kind):
    """Summed variance times shots, next to the optimum."""
    rng = np.random.default_rng(0)
    roots = rng.lognormal(sigma=1, size=400)
    wanted = roots * 400 * 10_000 / roots.sum()
    numbers = rounded(wanted[:, None], np.array([0.5]), 2, kind)[:, 0]
    cost = (roots**2 / numbers).sum() * numbers.sum() / roots.sum() ** 2
    assert 1.0 <= cost < {"any": 1.0001, "few": 1.015, "multiples": 1.12}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_and_nothing(kind):
    assert rounded(np.full((3, 1), 2.0), np.array([0.3]), 2, kind).tolist() == [[2]] * 3
    assert rounded(np.ones((3, 0)), np.ones(0), 2, kind).shape == (3, 0)
    # Points that get none more, beside others.
    wanted, least = np.array([[0.0], [300.0], [100.0]]), np.array([[0], [2], [2]])
    numbers = rounded(wanted, np.array([0.5]), least, kind)[:, 0]
    assert numbers[0] == 0 and numbers[1] == pytest.approx(300, abs=50)
    assert numbers.sum() == 400
