"""Compiled functions, against products of matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qshift.executors.simulator import kernel
from qshift.executors.simulator.clifford_frame import Word
from qshift.executors.simulator.state_steps import table

LANES = [1, 4, 12]


def random_words(rng, wires, count):
    """Returns Hermitian words."""
    masks = rng.integers(0, 2**wires, size=(count, 2)).tolist()
    return [Word(x, z, ((x & z).bit_count() + 2 * int(rng.integers(2))) % 4) for x, z in masks]


def random_states(rng, wires, lanes):
    """Returns states as the kernel has them, and as complex[lanes, 2**wires]."""
    states = rng.normal(size=(-(-lanes // 4), min(lanes, 4) * 2 ** (wires + 1)))
    return states, as_complex(states, lanes)


def as_complex(states, lanes):
    """Four lanes of a block are side by side."""
    real, imaginary = np.split(states.reshape(len(states), -1, lanes // len(states)), 2, axis=1)
    return (real + 1j * imaginary).swapaxes(1, 2).reshape(lanes, -1)


class Case:
    """Some rotations about random words, each by a multiple of a random column or a constant."""

    def __init__(self, wires, lanes, seed=0, count=9):
        self.rng = rng = np.random.default_rng(seed)
        self.wires, self.lanes, self.size = wires, lanes, 2**wires
        self.words = random_words(rng, wires, count)
        self.points = rng.uniform(-3, 3, size=(lanes, 3))
        self.columns = rng.integers(-1, 3, size=count)
        self.scales = rng.normal(size=count)
        self.table = table([(word, 1.0) for word in self.words], wires, 3, lanes == 1)
        self.angles = np.empty((-(-lanes // 4), count, 12))
        kernel.angles(self.points, self.columns, self.scales, self.table.signs, self.angles)

    def matrices(self, lane):
        """Yields exp(-i angle/2 word)."""
        for word, column, scale in zip(self.words, self.columns, self.scales, strict=True):
            half = scale * (self.points[lane, column] if column >= 0 else 1.0) / 2
            identity = np.eye(self.size)
            yield np.cos(half) * identity - 1j * np.sin(half) * word.matrix(self.size)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("wires", [1, 2, 3, 4, 6])
def test_rotations(wires, lanes):
    for seed in range(4):
        case = Case(wires, lanes, seed)
        state, expected = random_states(case.rng, wires, lanes)
        kernel.forward(state, case.table.words, case.angles, 0, 4)
        kernel.forward(state, case.table.words, case.angles, 4, len(case.words))
        for lane in range(lanes):
            for matrix in case.matrices(lane):
                expected[lane] = matrix @ expected[lane]
        np.testing.assert_allclose(as_complex(state, lanes), expected, atol=1e-12)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("wires", [1, 2, 3, 5])
def test_derivatives(wires, lanes):
    """Of <other|state>, the other behind the rotations, by the columns: twice the real part."""
    for seed in range(4):
        case = Case(wires, lanes, seed)
        start, before = random_states(case.rng, wires, lanes)
        other, behind = random_states(case.rng, wires, lanes)
        state, count = start.copy(), len(case.words)
        kernel.forward(state, case.table.words, case.angles, 0, count)
        slopes, work = np.ones((lanes, 3)), np.zeros(kernel.WORK)
        moves = case.columns, case.scales
        arguments = case.table.words, case.angles, case.table.signs, *moves
        kernel.backward(state, other, *arguments, 0, count, work, slopes)
        expected = np.ones((lanes, 3))
        for lane in range(lanes):
            matrices = list(case.matrices(lane))
            for k, column in enumerate(case.columns):
                vector = before[lane]
                for j, matrix in enumerate(matrices):
                    vector = matrix @ vector
                    if j == k:
                        vector = -0.5j * case.scales[k] * case.words[k].matrix(case.size) @ vector
                if column >= 0:
                    expected[lane, column] += 2 * np.vdot(behind[lane], vector).real
            for matrix in reversed(matrices):
                behind[lane] = matrix.conj().T @ behind[lane]
        np.testing.assert_allclose(slopes, expected, atol=1e-11)
        np.testing.assert_allclose(state, start, atol=1e-12)
        np.testing.assert_allclose(as_complex(other, lanes), behind, atol=1e-12)
        assert not work.any()


@pytest.mark.parametrize("angle", [0.0, 1e-9, np.pi, 2 * np.pi, -5 * np.pi, 1e13, 1e300, np.nan])
@pytest.mark.parametrize("lanes", [1, 4])
def test_special_angles(angle, lanes):
    case = Case(2, lanes, count=1)
    case.points[:], case.columns[:], case.scales[:] = angle, 0, 1.0
    kernel.angles(case.points, case.columns, case.scales, case.table.signs, case.angles)
    cosine, sine, minus = case.angles[0, 0].reshape(3, 4)
    np.testing.assert_allclose(cosine, np.cos(angle / 2), atol=1e-15)
    expected = np.sin(angle / 2) * case.table.signs[0, :4]
    np.testing.assert_allclose(sine, expected, atol=1e-15)
    np.testing.assert_array_equal(minus, -sine)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("wires", [1, 2, 4])
def test_observables(wires, lanes):
    rng = np.random.default_rng(wires)
    words, factors = random_words(rng, wires, 6), rng.normal(size=6).tolist()
    state, expected = random_states(rng, wires, lanes)
    other, sums = random_states(rng, wires, lanes)
    pairs = list(zip(words, factors, strict=True))
    own = table(pairs, wires, 0, lanes == 1)
    values, columns = np.ones((lanes, 3)), np.array([0, 2, 2, 0, 2, 0])
    cotangents, work = rng.normal(size=(lanes, 3)), np.zeros(kernel.WORK)
    cotangents[-1, 0] = 0.0
    kernel.expect(state, *own, columns, work, values)
    assert not work.any()
    kernel.observe(state, other, *own, columns, cotangents, work)
    for value in range(3):
        pairs_of = [pair for pair, column in zip(pairs, columns, strict=True) if column == value]
        matrix = sum((f * w.matrix(2**wires) for w, f in pairs_of), np.zeros((2**wires,) * 2))
        right = np.einsum("li,ij,lj->l", expected.conj(), matrix, expected).real
        np.testing.assert_allclose(values[:, value], 1.0 + right, atol=1e-11)
        sums = sums + cotangents[:, value, None] * (expected @ matrix.T)
    np.testing.assert_allclose(as_complex(other, lanes), sums, atol=1e-12)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("each", [False, True])
def test_matrices(lanes, each):
    """Also where two further bits have the values 1 and 0, and in another array."""
    wires, places = 5, np.array([0, 8, 2, 10])
    rng = np.random.default_rng(lanes)
    matrices = rng.normal(size=(4, 4, 2, lanes if each else 1))
    for masks, covered in (((10, 0, 0), 0), ((10, 5, 1), 5)):
        state, expected = random_states(rng, wires, lanes)
        result, kept = random_states(rng, wires, lanes)
        work = np.empty(2 * 4 * 4)
        arguments = lanes, places, np.array(masks), matrices, work
        kernel.multiply(state, result, *arguments)
        kernel.multiply(state, state, *arguments)
        for lane in range(lanes):
            matrix = matrices[..., 0, lane * each] + 1j * matrices[..., 1, lane * each]
            for i in range(2**wires):
                if not i & 10 and i & covered == (covered and 1):
                    kept[lane, i | places] = matrix @ expected[lane, i | places]
                    expected[lane, i | places] = kept[lane, i | places]
        np.testing.assert_allclose(as_complex(state, lanes), expected, atol=1e-12)
        np.testing.assert_allclose(as_complex(result, lanes), kept, atol=1e-12)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("low", [1, 4, 16])
def test_outcomes(lanes, low):
    rng = np.random.default_rng(low)
    state, vectors = random_states(rng, 4, lanes)
    first, last = rng.integers(0, 8, size=16 // low), rng.integers(0, 8, size=low)
    outcomes = (first[:, None] ^ last).ravel()
    found, weights = np.zeros((8, lanes)), rng.normal(size=(8, lanes))
    kernel.tally(state, last, first, found)
    expected = np.zeros((8, lanes))
    np.add.at(expected, outcomes, (np.abs(vectors) ** 2).T)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    other = np.empty_like(state)
    kernel.weigh(state, other, last, first, weights)
    np.testing.assert_allclose(as_complex(other, lanes), vectors * weights[outcomes].T, atol=1e-12)


@pytest.mark.parametrize("angles", [[1.0, 1.0, 0.3, 1.0], [0.0, -0.0, np.nan, 0.0], [1e13] * 4])
def test_angles_that_several_points_share(angles):
    """Also with those of the block before."""
    case, angles = Case(2, 8, count=1), np.array([*angles, *angles])
    case.points[:, 0], case.columns[:], case.scales[:] = angles, 0, 0.7
    kernel.angles(case.points, case.columns, case.scales, case.table.signs, case.angles)
    cosines, sines, _ = (case.angles[:, 0, k : k + 4].ravel() for k in (0, 4, 8))
    np.testing.assert_allclose(cosines, np.cos(0.35 * angles), atol=1e-15)
    expected = np.sin(0.35 * angles) * np.tile(case.table.signs[0, :4], 2)
    np.testing.assert_allclose(sines, expected, atol=1e-15)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6))
def test_a_point_is_the_same_in_each_lane_and_alone(seed, wires):
    """So that results do not depend on which points run together; here, a state behind rotations,
    and the probabilities of outcomes."""
    alone, start = Case(wires, 1, seed), np.random.default_rng(seed).normal(size=2 ** (wires + 1))
    start /= np.linalg.norm(start)
    outcomes = np.arange(2**wires) % 4
    states, probabilities = [], []
    for lanes in (1, 8):
        case = Case(wires, lanes, seed)
        case.points[:], case.columns[:], case.scales[:] = alone.points, alone.columns, alone.scales
        words = table([(word, 1.0) for word in alone.words], wires, 3, lanes == 1)
        kernel.angles(case.points, case.columns, case.scales, words.signs, case.angles)
        blocks = -(-lanes // 4)
        state = np.repeat(start, lanes // blocks)[None].repeat(blocks, axis=0)
        kernel.forward(state, words.words, case.angles, 0, len(alone.words))
        found = np.zeros((4, lanes))
        kernel.tally(state, outcomes, np.zeros(1, int), found)
        states.append(as_complex(state, lanes))
        probabilities.append(found)
    np.testing.assert_array_equal(*np.broadcast_arrays(*states))
    np.testing.assert_array_equal(*np.broadcast_arrays(*probabilities))
