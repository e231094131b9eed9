"""Derivatives by arguments against those of a polynomial; the way back against the way there."""

import itertools

import numpy as np
import pytest

from qshift.api.by_arguments import ByArguments
from qshift.autodiff.contraction import levels

RNG = np.random.default_rng(0)
CUBIC = RNG.normal(size=(3, 3, 3))
JACOBIANS = [RNG.normal(size=(3, 2)), RNG.normal(size=(3, 1))]


def symmetric(tensor):
    orders = itertools.permutations(range(tensor.ndim))
    return sum(np.transpose(tensor, order) for order in orders)


def test_derivatives_of_a_cubic_function_of_affine_angles():
    by_arguments = ByArguments((1, 4, 5), JACOBIANS, levels((1, 4, 5), 3))
    third = symmetric(CUBIC)  # of sum_ijk CUBIC_ijk a_i a_j a_k, at angles a = J x for x = 0
    place = {1: 0, 4: 1, 5: 2}
    found = [
        third[tuple(place[j] for j in index)] if len(index) == 3 else float(len(index) == 0)
        for index in by_arguments.indices
    ]
    value, gradient, hessian, thirds = by_arguments(np.array(found))
    jacobian = np.hstack(JACOBIANS)
    assert value == 1.0 and not gradient.any() and not hessian.any()
    np.testing.assert_allclose(
        thirds, np.einsum("ijk,ix,jy,kz->xyz", third, jacobian, jacobian, jacobian)
    )


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(), (2,), (2, 4)])
def test_backwards_is_the_transpose(order, shape):
    by_arguments = ByArguments((0, 2, 3), JACOBIANS, levels((0, 2, 3), order))
    found = RNG.normal(size=(len(by_arguments.indices), *shape))
    forwards = by_arguments(found)
    slopes = [RNG.normal(size=(5, *each.shape)) for each in forwards]
    there = sum(
        (slope * each).reshape(5, -1).sum(axis=1)
        for slope, each in zip(slopes, forwards, strict=True)
    )
    back = by_arguments.backwards(slopes) * found[:, None]
    np.testing.assert_allclose(back.sum(axis=(0, *range(2, back.ndim))), there)


def test_blocks_of_the_arguments():
    by_arguments = ByArguments((0, 1, 2), JACOBIANS, levels((0, 1, 2), 1))
    assert by_arguments.size == 3 and by_arguments.blocks == [slice(0, 2), slice(2, 3)]
