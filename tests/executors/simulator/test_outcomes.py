"""Values and probabilities of states behind Clifford gates, against matrices."""

import numpy as np
import pennylane as qml
import pytest
from references import angles, compiled

from qshift.executors.simulator import kernel
from qshift.executors.simulator.clifford_frame import Frame
from qshift.executors.simulator.measurement_bases import bases, words_of
from qshift.executors.simulator.outcomes import Observables, Outcomes

WIRES = [2, "b", 0, "a"]
CLIFFORD = [qml.Hadamard(2), qml.CNOT([2, "b"]), qml.S("b"), qml.CZ(["b", 0]), qml.SX("a")]
CLIFFORD += [qml.CNOT([0, "a"]), qml.Hadamard("a"), qml.ISWAP([2, "a"]), qml.CY([0, 2])]


def states(lanes, seed=0):
    """Returns states as the kernel has them, and behind the Clifford gates complex[lanes, 16]."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(1, 32 * lanes)) / 4
    unitary = np.eye(16)
    for gate in CLIFFORD:
        unitary = qml.matrix(gate, wire_order=WIRES) @ unitary
    return state, as_complex(state, lanes) @ unitary.T


def frame():
    found = Frame({wire: k for k, wire in enumerate(WIRES)})
    for gate in CLIFFORD:
        found.add(gate)
    return found


def as_complex(state, lanes):
    real, imaginary = state.reshape(2, 16, lanes)
    return (real + 1j * imaginary).T


@pytest.mark.parametrize("lanes", [1, 4])
def test_observables(lanes):
    observables = [
        qml.Z(2) @ qml.X("a") - 0.3 * qml.Y("b") + 0.1 * qml.I(0),
        qml.Z(0),
        qml.X(0) - qml.X(0),
        qml.Hamiltonian([0.2, -1.5, 0.4], [qml.Y(2) @ qml.Y("b"), qml.Z(0), qml.X("a")]),
    ]
    measurements = [qml.expval(o) for o in observables]
    found = Observables(words_of(measurements, [1] * 4), frame())
    state, vectors = states(lanes)
    matrices = [qml.matrix(o, wire_order=WIRES) for o in observables]
    right = np.array([[np.vdot(v, m @ v).real for m in matrices] for v in vectors])
    values = np.ones((lanes, 4))
    words, work = found.tables[lanes == 1], np.zeros(kernel.WORK)
    kernel.expect(state, *words, found.places, work, values)
    np.testing.assert_allclose(values, 1.0 + right, atol=1e-12)
    assert not right[:, [k for k in range(4) if k not in found.columns]].any()
    other, cotangents = np.ones_like(state), np.random.default_rng(1).normal(size=(lanes, 4))
    kernel.observe(state, other, *words, found.places, cotangents, work)
    # The state is that before the Clifford gates, and so is the other one.
    product = as_complex(other - 1.0, lanes)
    overlaps = (product.conj() * as_complex(state, lanes)).sum(axis=1)
    np.testing.assert_allclose(overlaps, (cotangents * right).sum(axis=1), atol=1e-12)


MEASUREMENTS = {
    "all": lambda: qml.probs(wires=WIRES),
    "some": lambda: qml.probs(wires=["a", 2]),
    "of a word": lambda: qml.probs(op=qml.X("b") @ qml.Y(0)),
    "matrix": lambda: qml.expval(qml.Hermitian([[1, 2j], [-2j, 0.3]], "b")),
    "wide matrix": lambda: qml.expval(qml.Hermitian(np.outer(V, V.conj()), ["a", 0])),
    "projector": lambda: qml.expval(qml.Projector([1, 0], ["b", "a"])),
}
V = np.array([0.3, 0.4j, -0.5, 0.1])


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_outcomes(name, lanes):
    measurement = MEASUREMENTS[name]()
    size = 2 ** len(measurement.wires) if "Probability" in type(measurement).__name__ else 1
    circuit = compiled([qml.RX(angles(1)[0], wire) for wire in WIRES], [measurement])
    (basis,) = bases([measurement], [size])
    found = Outcomes(circuit, basis, frame())
    (state, vectors), points = states(lanes), np.zeros((lanes, 4))
    before = state.copy()
    probabilities = found.probabilities(state, points)
    np.testing.assert_array_equal(state, before)
    rotations = np.eye(16)
    for gate in basis.rotations:
        rotations = qml.matrix(gate, wire_order=WIRES) @ rotations
    rotated = vectors @ rotations.T
    process = qml.probs(wires=basis.wires).process_density_matrix
    right = [process(np.outer(v, v.conj()), qml.wires.Wires(WIRES)) for v in rotated]
    np.testing.assert_allclose(probabilities, right, atol=1e-12)
    cotangents = np.random.default_rng(1).normal(size=(lanes, size))
    for used in (cotangents, 0.0 * cotangents, np.eye(1, size, size - 1) * np.ones((lanes, 1))):
        other = np.ones_like(state)
        found.add_times(state, points, used, other)
        product = as_complex(other - 1.0, lanes)
        overlaps = (product.conj() * as_complex(state, lanes)).sum(axis=1)
        sums = (used * basis.averages(probabilities)).sum(axis=1)
        np.testing.assert_allclose(overlaps, sums, atol=1e-12)
    np.testing.assert_array_equal(state, before)


def test_many_bits():
    """More than the outcomes of which are in one list."""
    wires = range(13)
    circuit = compiled([qml.RX(angles(1)[0], wire) for wire in wires], [qml.probs(wires=[12, 0])])
    (basis,) = bases(circuit.measurements, circuit.sizes)
    whole = Frame({wire: wire for wire in wires})
    for wire in range(12):
        whole.add(qml.CNOT([wire, wire + 1]))
    found = Outcomes(circuit, basis, whole)
    state = np.zeros((1, 2**14))
    state[0, 0b1010000000001] = 0.6  # wires 0, 2 and 12
    state[0, 2**13 + 0b0000000000100] = 0.8  # wire 10
    (probabilities,) = found.probabilities(state, np.zeros((1, 13)))
    assert probabilities.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(probabilities, [0.0, 0.0, 0.8**2, 0.6**2], atol=1e-15)
