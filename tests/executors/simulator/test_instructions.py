"""Instructions that machine code follows, each alone."""

import ctypes

import numpy as np
import pytest

from qshift.executors.simulator import kernel
from qshift.executors.simulator.instructions import Instructions

USUAL = 0.0, 1e300


def follow(instructions, *inputs):
    """Follows instructions; returns whether they refuse the inputs, float64[rows, ...] each."""
    address, numbers = instructions.done()
    table = np.zeros((len(inputs), 16), np.int64)
    for row, each in zip(table, inputs, strict=True):
        row[: 3 + each.ndim] = [each.ctypes.data, 2, each.ndim, *each.shape]
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    return bool(kind(address)(numbers.ctypes.data, table.ctypes.data))


def test_nothing_to_do():
    assert not follow(Instructions())


def test_copies_and_zeros():
    code, a, b, c = Instructions(), np.arange(6.0), np.ones(6), np.ones((2, 3), np.int64)
    code.copy(b, a)
    code.zero(c[1])
    assert not follow(code)
    np.testing.assert_array_equal(b, a)
    assert c.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_the_last_row_is_copied_to_further_rows():
    code, a = Instructions(), np.arange(10.0).reshape(5, 2)
    code.pad(a, 3)
    assert not follow(code)
    assert a.tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]


@pytest.mark.parametrize("columns", [[0, 1, 2], [4, 0, 2], [3], []])
def test_inputs_go_to_columns(columns):
    rng = np.random.default_rng(0)
    code, to = Instructions(), np.zeros((4, 5))
    given = np.zeros((3, 0)), rng.normal(size=(3, len(columns), 1))
    code.take(1, to, 3, columns, USUAL)
    assert not follow(code, *given)
    expected = np.zeros((4, 5))
    expected[:3, columns] = given[1][:, :, 0]
    np.testing.assert_array_equal(to, expected)


@pytest.mark.parametrize(
    "shape, refused", [((3, 2), 0), ((3, 1, 2), 0), ((2, 3), 1), ((3, 3), 1), ((6,), 1), ((), 1)]
)
def test_inputs_of_another_shape_are_refused(shape, refused):
    code = Instructions()
    code.take(0, np.zeros((4, 2)), 3, [0, 1], USUAL)
    assert follow(code, np.ones(shape)) == refused


@pytest.mark.parametrize(
    "numbers, refused",
    [
        ([1.0, -1.0], False),
        ([1e-3, 1.0], False),
        ([2.0, -1e-3], True),  # too different
        ([1e-5, 1e-5], True),  # too small
        ([0.0, 1.0], True),
        ([2e3, 2e3], True),  # too large
        ([np.nan, 1.0], True),
        ([1.0, np.nan], True),
        ([np.inf, 1.0], True),
        ([-np.inf, -np.inf], True),
    ],
)
def test_inputs_of_unusual_size_are_refused(numbers, refused):
    code = Instructions()
    code.take(0, np.zeros((1, 2)), 1, [0, 1], (1e-4, 1e3), 1e3)
    assert follow(code, np.array([numbers])) == refused


@pytest.mark.parametrize("numbers", [[0.0, -0.0], [1e-320, 5.0], [-7e299, 0.0]])
def test_other_numbers_are_copied_bit_by_bit(numbers):
    code, to = Instructions(), np.ones((1, 2))
    code.take(0, to, 1, [1, 0], USUAL)
    assert not follow(code, np.array([numbers]))
    assert to.tobytes() == np.array([numbers[::-1]]).tobytes()


@pytest.mark.parametrize("columns", [[0, 1, 2], [2, 0], [1], []])
def test_columns_are_picked(columns):
    code, array = Instructions(), np.arange(12.0).reshape(4, 3)
    to = np.zeros((2, len(columns)))
    code.pick(to, array, columns)
    assert not follow(code)
    np.testing.assert_array_equal(to, array[:2, columns])


def test_what_would_be_the_same_again_is_left_out():
    x, known, done, always = np.ones(3), np.full(3, np.nan), np.ones(2), np.ones(2)
    code = Instructions()
    end = code.skip_if_same(x, known)
    code.zero(done)
    code.copy(known, x)
    end()
    code.zero(always)
    for number, runs in ((1.0, True), (1.0, False), (2.0, True), (-0.0, True), (0.0, True)):
        done[:] = always[:] = 1.0
        x[1] = number
        assert not follow(code)
        assert not always.any() and done.any() != runs


def test_functions_of_the_kernel_are_called():
    rng = np.random.default_rng(0)
    points, scales, signs = rng.normal(size=(4, 2)), rng.normal(size=3), np.ones((3, 8))
    columns = np.array([1, -1, 0])
    expected, found = np.zeros((1, 3, 12)), np.zeros((1, 3, 12))
    kernel.angles(points, columns, scales, signs, expected)
    code = Instructions()
    code.call(kernel.angles, points, columns, scales, signs, found)
    assert not follow(code)
    np.testing.assert_array_equal(found, expected)
    words = np.array([[1, 0, 1, 0], [2, 1, 2, 0], [0, 3, 0, 0]])
    numbers = np.linspace(0.0, 1.0, 64)[None]
    states, after = (numbers.copy(), numbers.copy()), np.ones(2)
    kernel.forward(states[0], words, expected, 0, 3)
    code = Instructions()
    code.call(kernel.forward, states[1], words, found, 0, 3)
    code.zero(after)
    assert not follow(code)
    np.testing.assert_array_equal(states[1], states[0])
    assert not np.array_equal(states[0], numbers) and not after.any()


def test_what_takes_no_inputs_is_ready_to_be_followed():
    code, array = Instructions(), np.ones(3)
    code.zero(array)
    run = code.ready()
    assert run() == 0
    assert not array.any()
