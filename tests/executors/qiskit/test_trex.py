"""Readout errors divided out, against readout errors that are known."""

import numpy as np
import pytest
from qiskit import QuantumCircuit

from qshift.executors.qiskit.trex import Calibration, FactorError, calibrating, estimates, signs
from qshift.executors.qiskit.twirling import flips

WORDS = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 1]], bool)
COEFFICIENTS = np.array([[0.5, -1.0, 0.3], [0.0, 0.0, 1.0]])
PART = {"words": WORDS, "coefficients": COEFFICIENTS}
BITS = np.arange(8)[:, None] >> np.arange(3) & 1 == 1


def readout(rng):
    """Asymmetric errors of three qubits, [found, true], with a part that two have in common."""
    chances = np.ones((1, 1))
    for up, down in ((0.02, 0.09), (0.05, 0.12), (0.01, 0.04)):
        chances = np.kron(np.array([[1 - up, down], [up, 1 - down]]), chances)
    both = np.zeros((8, 8))
    both[np.arange(8) ^ 3, np.arange(8)] = 1
    return 0.96 * chances + 0.04 * both


def drawn(true, chances, turned, shots, rng):
    """Samples float of outcomes from true probabilities, through flips and readout errors."""
    counts = np.zeros(8, int)
    for row in turned:
        turn = np.arange(8) ^ int(row @ (1 << np.arange(3)))
        found = rng.multinomial(shots, chances @ true[turn])
        counts += found[turn]
    seen = counts > 0
    return BITS[seen], counts[seen]


def test_the_circuit_that_calibrates():
    circuit = calibrating([1, 3], 5)
    expected = QuantumCircuit(5, 2)
    expected.measure([1, 3], [0, 1])
    assert circuit.num_qubits == 5
    steps = [
        [
            (s.operation.name, each.find_bit(s.qubits[0]).index, each.find_bit(s.clbits[0]).index)
            for s in each.data
        ]
        for each in (circuit, expected)
    ]
    assert steps[0] == steps[1]


def test_values_and_errors_are_right():
    """Of many repetitions: values without a bias, and errors that are those of the values, with
    few shots of the calibration, whose own error counts, too."""
    rng = np.random.default_rng(0)
    true, chances = rng.dirichlet(np.ones(8)), readout(rng)
    truth = COEFFICIENTS @ (true @ signs(BITS, WORDS))
    zero = np.eye(8)[0]
    found = []
    for _ in range(600):
        turned = flips(8, 3, rng)
        table = drawn(true, chances, turned, 500, rng)
        calibration = Calibration(drawn(zero, chances, flips(8, 3, rng), 60, rng), WORDS)
        found.append(estimates([table], [PART], calibration))
    values, errors, raw, raw_errors = np.moveaxis(found, 1, 0)
    spread = values.std(axis=0)
    assert (np.abs(values.mean(axis=0) - truth) < 4 * spread / np.sqrt(600) + 2e-3).all()
    np.testing.assert_allclose(errors.mean(axis=0), spread, rtol=0.12)
    # Without mitigation values are as the errors of the readout leave them, and less uncertain.
    walsh = signs(BITS, BITS)
    factors = np.diag(walsh @ chances @ walsh / 8)[WORDS @ (1 << np.arange(3))]
    left = COEFFICIENTS @ (factors * (true @ signs(BITS, WORDS)))
    assert (np.abs(raw.mean(axis=0) - left) < 4 * spread / np.sqrt(600)).all()
    assert (np.abs(raw.mean(axis=0) - truth) > 10 * spread / np.sqrt(600)).all()
    assert (raw_errors < errors).all()
    np.testing.assert_allclose(estimates([table], [PART])[0], found[-1][2])
    np.testing.assert_allclose(estimates([table], [PART])[1], found[-1][3])


def test_factors_are_those_of_the_words():
    rng = np.random.default_rng(1)
    chances = readout(rng)
    walsh = signs(BITS, BITS)
    exact = np.diag(walsh @ chances @ walsh / 8)  # of a word, whatever the state
    table = drawn(np.eye(8)[0], chances, flips(8, 3, rng), 200_000, rng)
    calibration = Calibration(table, WORDS)
    rows = WORDS @ (1 << np.arange(3))
    np.testing.assert_allclose(calibration.factors, exact[rows], atol=5 / np.sqrt(1.6e6))
    both = np.concatenate([WORDS, WORDS])  # the same word twice varies together
    slopes = np.eye(6)[:3] - np.eye(6)[3:]
    np.testing.assert_allclose(Calibration(table, both).variances(slopes), 0.0, atol=1e-12)


def test_a_readout_without_errors_changes_nothing():
    rng = np.random.default_rng(2)
    true = rng.dirichlet(np.ones(8))
    table = drawn(true, np.eye(8), flips(4, 3, rng), 100, rng)
    calibration = Calibration(drawn(np.eye(8)[0], np.eye(8), flips(4, 3, rng), 10, rng), WORDS)
    values, errors, raw, raw_errors = estimates([table], [PART], calibration)
    np.testing.assert_allclose(values, raw)
    np.testing.assert_allclose(errors, raw_errors)


def test_what_cannot_be_divided_by_is_an_error():
    counts = np.array([260, 240])
    outcomes = np.array([[False], [True]])
    with pytest.raises(FactorError, match=r"leave 0\.040 \+- 0\.045 .* word on 1 qubits"):
        Calibration((outcomes, counts), np.array([[True]]))
    # Outcomes that are wrong more often than right are as good as others.
    assert Calibration((outcomes, np.array([20, 480])), np.array([[True]])).factors < -0.9


def test_many_outcomes_are_taken_a_few_at_a_time():
    rng = np.random.default_rng(3)
    outcomes = np.unique(rng.integers(0, 2, (9000, 40)).astype(bool), axis=0)
    outcomes[:, :8] &= rng.random((len(outcomes), 8)) < 0.2
    counts = rng.integers(1, 4, len(outcomes))
    words = np.eye(40, dtype=bool)[:8]
    words[0, 1] = True
    calibration = Calibration((outcomes, counts), words)
    each = np.repeat(signs(outcomes, words), counts, axis=0)
    np.testing.assert_allclose(calibration.factors, each.mean(axis=0))
    expected = np.cov(each.T, bias=True) / len(each)
    np.testing.assert_allclose(calibration.variances(np.eye(8)), np.diag(expected))
