"""Sums of Pauli words against the matrices that they were made of."""

import numpy as np
import pennylane as qml
import pytest

from qshift.circuits.pauli import decompose, sign, signs, z_words


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("wires", [["a"], [1, 0], ["q", 3, "p"]])
def test_a_sum_of_words_has_the_matrix_it_was_made_of(wires, scale):
    random = np.random.default_rng(len(wires))
    real, imaginary = scale * random.normal(size=(2, 2 ** len(wires), 2 ** len(wires)))
    matrix = real + 1j * imaginary
    words = decompose(matrix, wires)
    np.testing.assert_allclose(
        qml.matrix(words.operation(wire_order=wires), wire_order=wires), matrix, atol=1e-14 * scale
    )


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_small_coefficients_stay_and_rounding_does_not(scale):
    matrix = scale * qml.matrix(qml.Z(0) @ qml.Y(1) - 1e-9 * qml.X(0), wire_order=[0, 1])
    words = decompose(matrix, [0, 1])
    expected = {qml.pauli.PauliWord({0: "Z", 1: "Y"}): 1.0, qml.pauli.PauliWord({0: "X"}): -1e-9}
    assert set(words) == set(expected)
    for word, coefficient in expected.items():
        assert words[word] == pytest.approx(scale * coefficient, rel=1e-12)


def test_a_number_is_a_multiple_of_the_identity():
    assert decompose(np.array([[2.0]]), []) == {qml.pauli.PauliWord({}): 2.0}


@pytest.mark.parametrize("wires", [[], ["a"], [1, 0, "q"]])
def test_signs_are_the_eigenvalues_of_words_of_z(wires):
    table = signs(len(wires))
    words = z_words(wires)
    assert table.shape == (2 ** len(wires), len(words)) and table.dtype == np.float64
    order = qml.wires.Wires(wires)
    for row, word in zip(table, words, strict=True):
        expected = [1.0] if not wires else word.to_mat(wire_order=order).diagonal().real
        np.testing.assert_array_equal(row, expected)
    # The transform is its own inverse, but for the factor.
    np.testing.assert_array_equal(table @ table, len(words) * np.eye(len(words)))


def test_signs_of_single_states():
    assert sign(0b101, 0b100) == -1.0 and sign(0b101, 0b101) == sign(0, 7) == 1.0
    np.testing.assert_array_equal(sign(np.arange(4), 0b11), [1, -1, -1, 1])
