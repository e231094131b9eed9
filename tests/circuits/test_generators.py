"""Frequencies from generators, at every scale."""

import numpy as np
import pennylane as qml
import pytest

from qshift.circuits.generators import _of_commuting, commuting, frequencies
from qshift.circuits.pauli import decompose

SCALES = [1e-12, 1e-6, 1.0, 1e6, 1e12]


def evolution(observable):
    return qml.evolve(observable, 0.1)


def differences(matrix):
    values = np.linalg.eigvalsh(matrix)
    found = np.unique(np.abs(np.subtract.outer(values, values)).round(9))
    return found[found > 0]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "observable",
    [
        qml.Z(0),
        qml.Z(0) @ qml.Z(1) + qml.X(0) @ qml.X(1) + 0.5 * qml.Y(0) @ qml.Y(1),
        qml.Z(0) @ qml.Z(1) + 0.7 * qml.X(0),
        qml.X(0) + qml.X(1) + qml.X(2),
        qml.Hermitian(np.diag([1.0, 2.0, 4.0, 4.0]), [0, 1]),
    ],
)
def test_frequencies_scale_with_their_generator(observable, scale):
    expected = differences(qml.matrix(observable, wire_order=observable.wires))
    found = frequencies(evolution(scale * observable))
    np.testing.assert_allclose(found, scale * expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_words_that_commute_have_the_eigenvalues_of_their_matrix(seed):
    random = np.random.default_rng(seed)
    wires = list(range(random.integers(1, 5)))
    unitary = np.eye(2 ** len(wires))
    for _ in range(8):  # a Clifford unitary makes words of words
        a, *b = random.permutation(wires).tolist()
        gates = [qml.Hadamard(a), qml.S(a), qml.CNOT([a, b[0]]) if b else qml.X(a)]
        unitary = qml.matrix(gates[random.integers(3)], wire_order=wires) @ unitary
    diagonal = np.zeros(1)
    for _ in wires:
        diagonal = np.add.outer(diagonal, random.integers(-2, 3, size=2)).ravel()
    diagonal = diagonal * np.roll(diagonal, 1)
    words = decompose(unitary @ np.diag(diagonal) @ unitary.conj().T, wires)
    found = _of_commuting(words) + np.mean(diagonal)
    np.testing.assert_allclose(
        np.unique(found.round(9)), np.unique(np.asarray(diagonal, float).round(9)), atol=1e-9
    )


def test_words_that_do_not_commute_are_not_taken_for_such():
    assert _of_commuting((qml.X(0) + qml.Z(0)).pauli_rep) is None


def test_wide_generators_of_words_that_commute():
    found = frequencies(evolution(qml.sum(*(qml.X(i) for i in range(14)))))
    np.testing.assert_allclose(found, 2.0 * np.arange(1, 15))
    assert frequencies(evolution(qml.sum(*(2.0**i * qml.Z(i) for i in range(14))))) is None


def test_a_multiple_of_the_identity_takes_no_digits():
    found = frequencies(evolution(1e6 * qml.I(0) + qml.Z(0) + 0.25 * qml.Z(1)))
    np.testing.assert_allclose(found, [0.5, 1.5, 2.0, 2.5], rtol=1e-15)
    found = frequencies(evolution(1e6 * qml.I(0) + qml.Z(0) + 0.5 * qml.X(0)))
    np.testing.assert_allclose(found, [np.sqrt(5)], rtol=1e-9)
    assert frequencies(qml.ctrl(evolution(3.0 * qml.I(0) + qml.Z(0)), 1)) == (2.0, 4.0)


def test_frequencies_that_nearly_agree_are_kept_apart():
    found = frequencies(evolution(qml.Z(0) + (1 + 1e-10) * qml.Z(1)))
    np.testing.assert_allclose(found, [2e-10, 2, 2 + 2e-10, 4 + 2e-10], rtol=1e-5)
    found = frequencies(evolution(qml.Z(0) + (1 + 1e-15) * qml.Z(1)))
    np.testing.assert_allclose(found, [2.0, 4.0], rtol=1e-14)


@pytest.mark.parametrize("small", [1e-12, 1e-6, 1e-4])
@pytest.mark.parametrize("scale", SCALES)
def test_parts_of_different_sizes_are_not_one_rule(small, scale):
    op = evolution(scale * (qml.Z(0) @ qml.Z(1) + small * qml.X(2)))
    assert frequencies(op) is None
    one, other = commuting(op)
    assert (one.name, one.wires.tolist(), one.data[0]) == ("PauliRot", [0, 1], 0.2 * scale)
    assert (other.wires.tolist(), other.data[0]) == ([2], pytest.approx(0.2 * scale * small))


def test_parts_that_do_not_commute_stay_together():
    op = evolution(qml.Z(0) + 0.5 * qml.X(0) + 1e-9 * (qml.Y(1) @ qml.Z(2)) + 2.0 * qml.I(3))
    assert frequencies(op) is None
    parts = commuting(op)
    assert sorted(part.name for part in parts) == ["Evolution", "GlobalPhase", "PauliRot"]
    order = range(4)
    matrix = qml.matrix(qml.tape.QuantumScript(parts), wire_order=order)
    np.testing.assert_allclose(matrix, qml.matrix(op, wire_order=order), atol=1e-12)
    assert commuting(evolution(qml.Z(0) + 0.5 * qml.X(0))) is None
    assert commuting(evolution(qml.Hermitian(np.diag([1.0, 2.0]), 0))) is None
    # A small term that does not commute with the large ones bends their frequency.
    assert frequencies(evolution(qml.Z(0) + 1e-9 * qml.X(0))) == (2.0,)
