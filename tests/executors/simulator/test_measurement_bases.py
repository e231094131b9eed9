"""Values as averages over the outcomes of few bases, against matrices."""

import numpy as np
import pennylane as qml
import pytest
import scipy
from random_circuits import random_hermitian, random_observable, random_word

from qshift.executors.simulator.measurement_bases import (
    NotCoveredError,
    bases,
    bases_of_words,
    portions,
    words_of,
)
from qshift.executors.simulator.thresholds import DEFAULT, Thresholds

WIRES = ["b", 2, "a"]


def sizes(measurements):
    return [
        2 ** len(m.wires) if isinstance(m, qml.measurements.ProbabilityMP) else 1
        for m in measurements
    ]


def random_state(wires, seed=0):
    rng = np.random.default_rng(seed)
    state = rng.normal(size=2**wires) + 1j * rng.normal(size=2**wires)
    return state / np.linalg.norm(state)


def found_for(measurements, wires, thresholds=DEFAULT):
    """Returns all bases, also those of Pauli words."""
    words = words_of(measurements, sizes(measurements))
    found = bases(measurements, sizes(measurements), thresholds)
    return found + bases_of_words(words, wires, thresholds)


def values(found, state, wires, count):
    """Rotates a state into each basis with matrices, and averages."""
    wires, result = list(wires), np.zeros(count)
    for one in found:
        rotated = state
        for gate in one.rotations:
            rotated = qml.matrix(gate, wire_order=wires) @ rotated
        outcomes = np.abs(rotated.reshape([2] * len(wires))) ** 2
        others = tuple(i for i, wire in enumerate(wires) if wire not in one.wires)
        outcomes = outcomes.sum(axis=others)
        kept = [wire for wire in wires if wire in one.wires]
        outcomes = outcomes.transpose([kept.index(wire) for wire in one.wires]).ravel()
        averages = one.averages(outcomes[None])[0]
        result[one.columns] += averages
        by_weights = outcomes @ one.weighted(np.eye(len(one.columns)))
        np.testing.assert_allclose(by_weights, averages, atol=1e-15)
    return result


def expected(measurements, state, wires):
    result = []
    for m in measurements:
        if isinstance(m, qml.measurements.ProbabilityMP):
            rotated = state
            for gate in m.diagonalizing_gates():
                rotated = qml.matrix(gate, wire_order=wires) @ rotated
            result.append(qml.probs(wires=m.wires).process_state(rotated, qml.wires.Wires(wires)))
        else:
            matrix = qml.matrix(m.obs, wire_order=wires)
            result.append([np.vdot(state, matrix @ state).real])
    return np.concatenate(result)


def assert_right(measurements, wires=WIRES, count=None, thresholds=DEFAULT):
    """Checks the values of measurements; returns their bases."""
    state = random_state(len(wires))
    found = found_for(measurements, wires, thresholds)
    right = expected(measurements, state, wires)
    np.testing.assert_allclose(values(found, state, wires, len(right)), right, atol=1e-12)
    assert count is None or len(found) == count
    return found


OBSERVABLES = {
    "word": lambda: qml.Z("b") @ qml.X("a") @ qml.Y(2),
    "identity": lambda: qml.Identity(2),
    "identities": lambda: 3.0 * qml.Identity(2) @ qml.Identity("b"),
    "constant and word": lambda: 0.5 * qml.I(2) - qml.X(2),
    "constant of no wire": lambda: qml.X(2) + 0.7 * qml.I(),
    "scaled": lambda: -1.7 * qml.Y("a"),
    "real, as a complex number": lambda: (2.0 + 0.0j) * qml.Z(2) + (0.3 - 0.0j) * qml.X("a"),
    "real but for rounding": lambda: (2.0 + 1e-17j) * qml.Z(2),
    "real in the end": lambda: 1j * (qml.X(2) @ qml.Y(2)),
    "same word twice": lambda: qml.Z(2) + qml.X("a") + 0.4 * qml.Z(2),
    "cancels": lambda: qml.Z(2) - qml.Z(2),
    "times zero": lambda: 0.0 * qml.Z(2),
    "Hamiltonian": lambda: qml.Hamiltonian(
        [0.3, -0.2, 1.1, 0.9], [qml.X("b") @ qml.X(2), qml.Y("a"), qml.Z(2) @ qml.Z("a"), qml.I(2)]
    ),
    "overlapping": lambda: qml.prod(qml.X("b") + qml.Z(2), qml.Z("a")) @ qml.X(2) @ qml.X(2),
    "Hermitian": lambda: qml.Hermitian(random_hermitian(np.random.default_rng(1), 4), ["a", "b"]),
    "diagonal": lambda: qml.Hermitian(np.diag([1.0, -2.0, 3.0, 0.5]), ["a", "b"]),
    "Hermitian and word": lambda: qml.Hermitian([[1, 2j], [-2j, 0.3]], "a") @ qml.X(2),
    "sum with a Hermitian": lambda: qml.Hermitian([[1, 2j], [-2j, 0.3]], "a") + 0.2 * qml.X(2),
    "Projector": lambda: qml.Projector([1, 0], ["a", 2]),
    "Projector on a state": lambda: qml.Projector([0.6, 0.8j], ["b"]),
    "Hadamard": lambda: qml.Hadamard("a") @ qml.Z("b"),
    "SparseHamiltonian": lambda: qml.SparseHamiltonian(
        scipy.sparse.csr_matrix(random_hermitian(np.random.default_rng(2), 4)), wires=["a", 2]
    ),
    "exponential": lambda: qml.exp(qml.X("a") @ qml.Z(2), 0.3),
}


@pytest.mark.parametrize("name", OBSERVABLES)
def test_observables(name):
    assert_right([qml.expval(OBSERVABLES[name]())])


def test_all_at_once():
    measurements = [qml.expval(make()) for make in OBSERVABLES.values()]
    measurements.insert(3, qml.probs(wires=["a", "b"]))
    measurements.append(qml.probs(op=qml.X(2) @ qml.Y("a")))
    assert_right(measurements)


@pytest.mark.parametrize(
    "wires", [["b"], ["a"], ["b", 2], ["a", "b"], ["a", 2, "b"], ["b", 2, "a"], [2, "a", "b"]]
)
def test_probabilities_in_any_order(wires):
    (found,) = assert_right([qml.probs(wires=wires)])
    assert found.weights is None


@pytest.mark.parametrize("name", ["word", "identities", "Hadamard", "scaled"])
def test_probabilities_of_observables(name):
    assert_right([qml.probs(op=OBSERVABLES[name]())])


@pytest.mark.parametrize("seed", range(20))
def test_random_observables(seed):
    rng = np.random.default_rng(seed)
    with qml.QueuingManager.stop_recording():
        measurements = [qml.expval(random_observable(rng, [0, 1, 2])) for _ in range(3)]
    assert_right(measurements, wires=range(6))


def test_words_that_commute_share_a_basis():
    pairs = [qml.expval(qml.Z(w) @ qml.Z((w + 1) % 3)) for w in range(3)]
    (found,) = assert_right([*pairs, qml.expval(qml.Z(0) + 0.5 * qml.I(1))], range(3), count=1)
    assert not found.rotations
    assert_right([*pairs, qml.expval(qml.sum(*(qml.X(w) for w in range(3))))], range(3), count=2)
    assert_right([qml.expval(qml.Identity(1)), qml.expval(qml.X(0))], range(3), count=1)


def test_only_wires_that_matter_are_measured():
    (found,) = assert_right([qml.expval(qml.X("a"))], count=1)
    assert found.wires == ("a",)


def test_words_with_their_coefficients():
    measurements = [qml.expval(qml.Z(0)), qml.probs(wires=0), qml.expval(2.0 * qml.Z(0) - qml.X(1))]
    words = words_of(measurements, sizes(measurements))
    z, x = (next(iter(op(wire).pauli_rep)) for op, wire in ((qml.Z, 0), (qml.X, 1)))
    assert words == {z: {0: 1.0, 3: 2.0}, x: {3: -1.0}}


@pytest.mark.parametrize("seed", range(5))
def test_hamiltonians(seed):
    rng = np.random.default_rng(seed)
    words = [random_word(rng, [0, 1, 2, 3]) for _ in range(30)]
    hamiltonian = qml.Hamiltonian(rng.normal(size=31), [*words, qml.Identity(0)])
    found = assert_right([qml.expval(hamiltonian), qml.expval(words[0])], range(4))
    assert len(found) < 30


@pytest.mark.parametrize(
    "make",
    [
        lambda: qml.Projector([1] * 11, range(11)),
        lambda: qml.SparseHamiltonian(scipy.sparse.eye(2**11, format="csr"), wires=range(11)),
    ],
)
def test_what_is_not_covered(make):
    with pytest.raises(NotCoveredError):
        bases([qml.expval(make())], [1])


def test_weights_are_bounded():
    words = [qml.prod(*(qml.Z(w) if w % 2 else qml.X(w) for w in range(5)))]
    words.append(qml.prod(*(qml.Y(w) for w in range(5))))
    measurements = [qml.expval(word) for word in words]
    few = Thresholds(most_weights=2 * 2**5)
    assert_right(measurements, range(5), count=2, thresholds=few)
    with pytest.raises(NotCoveredError):
        more = [*measurements, qml.expval(qml.X(0))]
        found_for(more, range(5), few)


def test_portions_are_in_proportion_to_deviations():
    """Words of one basis are independent where all outcomes are equally likely."""
    z, x, y = qml.Z(0) + 2 * qml.Z(1), 3 * qml.X(0) @ qml.X(1), 0.5 * qml.Y(0)
    found = found_for([qml.expval(z + x + y + 7 * qml.I(0))], range(2))
    deviations = np.sqrt([0.25, 5.0, 9.0])
    assert sorted(portions(found)) == pytest.approx(list(3 * deviations / deviations.sum()))
    (largest,) = np.flatnonzero(portions(found) == portions(found).max())
    assert len(found[largest].rotations) == 2  # two Hadamard gates, for X on both wires
    constant = found_for([qml.expval(7 * qml.I(0))], range(2))
    np.testing.assert_array_equal(portions(constant), 1.0)
