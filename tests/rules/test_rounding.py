"""Whole numbers of shots: their sums, their kinds, and what rounding costs."""

import numpy as np
import pytest
from scipy import sparse

from qshift.rules.planner import Step
from qshift.rules.rounding import KINDS, Rounding


def step(shares, again=()):
    new = len(shares) - len(again)
    return Step(
        tuple(((k, 1.0, 1.0),) for k in range(new)),
        sparse.csr_array((1, len(shares))),
        None,
        again,
        None if shares is None else np.asarray(shares),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_sums_are_kept(kind, seed):
    rng = np.random.default_rng(seed)
    count, rows, shots = rng.integers(1, 60), rng.integers(1, 5), int(rng.integers(8, 5000))
    shares = rng.lognormal(sigma=2, size=count)
    shares *= count / shares.sum()
    _, numbers = Rounding(shots, 2, kind).numbers(step(shares), rows, rng.uniform())
    assert numbers.shape == (count, rows) and numbers.min() >= 2
    if kind == "multiples":
        size = max(2, shots // 4)
        assert (numbers % size == 0).all()
        assert 0 <= count * shots * rows - numbers.sum() < rows * size
    else:
        assert numbers.sum() == count * shots * rows
    if kind == "few":
        assert len(np.unique(numbers)) <= 2 * (2 + 2 * np.log2(numbers.max()))


@pytest.mark.parametrize("kind", KINDS)
def test_variances_are_little_larger(kind):
    """Summed variance times shots, next to the optimum."""
    rng = np.random.default_rng(0)
    roots = rng.lognormal(sigma=1, size=400)
    _, numbers = Rounding(10_000, 2, kind).numbers(step(roots * 400 / roots.sum()), 1, 0.5)
    cost = (roots**2 / numbers[:, 0]).sum() * numbers.sum() / roots.sum() ** 2
    assert 1.0 <= cost < {"any": 1.0001, "few": 1.015, "multiples": 1.12}[kind]


def test_old_points_are_not_run_again_for_too_little():
    rounding = Rounding(100, 10)
    again, numbers = rounding.numbers(step([1.5, 0.4, 0.05, 0.05], again=(3, 7)), 1, 0.5)
    assert not len(again) and numbers[:, 0].tolist() == [150, 40]
    again, numbers = rounding.numbers(step([1.5, 0.3, 0.15, 0.05], again=(3, 7)), 1, 0.5)
    assert again.tolist() == [3] and numbers[:, 0].tolist() == [150, 30, 15]


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_shots_are_named(kind):
    with pytest.raises(ValueError, match="3 circuits takes 5 shots in all.*total=6"):
        Rounding(5, 2, kind).numbers(step(np.ones(3) / 3), 1, 0.5)
    _, numbers = Rounding(6, 2, kind).numbers(step(np.ones(3) / 3), 1, 0.5)
    assert numbers[:, 0].tolist() == [2, 2, 2]
