"""Random variants of circuits, against matrices: what they do without noise, and with it."""

import itertools

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Operator, Statevector
from qiskit_ibm_runtime.fake_provider import FakeManilaV2, FakeSherbrooke, FakeTorino

from qshift.errors import UnsupportedError
from qshift.executors.qiskit.mitigation import Mitigation
from qshift.executors.qiskit.pub_results import REGISTER
from qshift.executors.qiskit.twirling import flipped, flips, registers, twirled, variants


@pytest.mark.parametrize("number, bits", [(2, 1), (8, 3), (16, 4), (32, 5)])
def test_few_bits_have_all_their_combinations_equally_often(number, bits):
    for seed in range(5):
        made = flips(number, bits, np.random.default_rng(seed))
        _, counts = np.unique(made, axis=0, return_counts=True)
        assert counts.tolist() == [number >> bits] * (1 << bits)


@pytest.mark.parametrize("number, bits", [(8, 4), (16, 8), (32, 16)])
def test_three_bits_have_all_their_combinations_equally_often(number, bits):
    made = flips(number, bits, np.random.default_rng(1))
    for three in itertools.combinations(range(bits), 3):
        _, counts = np.unique(made[:, three], axis=0, return_counts=True)
        assert counts.tolist() == [number // 8] * 8


@pytest.mark.parametrize("number", [1, 2, 5, 6, 32])
def test_flips_are_random_and_come_in_pairs(number):
    rng = np.random.default_rng(2)
    drawn = np.array([flips(number, 40, rng) for _ in range(800)])
    assert drawn.shape == (800, number, 40) and drawn.dtype == bool
    np.testing.assert_array_equal(drawn[:, 1::2], ~drawn[:, : number - 1 : 2])
    assert (np.abs(drawn.mean(axis=0) - 0.5) < 5 * 0.5 / np.sqrt(800)).all()
    assert flips(4, 0, rng).shape == (4, 0)


def test_bits_beyond_half_the_variants_flip_independently():
    """Where two always flip together, an offset of theirs stays whatever the shots."""
    rng = np.random.default_rng(4)
    signs = 1 - 2.0 * np.array([flips(16, 20, rng) for _ in range(200)])
    together = (np.einsum("dri,drj->dij", signs, signs) / 16) ** 2
    mean = together.mean(axis=0)
    few = np.arange(20) < 8
    np.testing.assert_array_equal(mean[:8, :8], np.eye(8))
    # Eight independent pairs of variants leave a square of 1/8 on the average.
    assert np.abs(mean[~few[:, None] & (np.eye(20) == 0)] - 1 / 8).max() < 0.08


def test_copies_have_flips_of_their_own():
    circuit = QuantumCircuit(32)
    for k in range(8):
        register = ClassicalRegister(4, f"{REGISTER}{k}")
        circuit.add_register(register)
        circuit.measure(range(4 * k, 4 * k + 4), register)
    options = {"resilience_level": 1}
    target = GenericBackendV2(32, seed=1).target
    _, turned = variants(
        circuit, 16, "estimator", Mitigation.of(options), target, np.random.default_rng(0)
    )
    signs = 1 - 2.0 * turned
    for k in range(8):
        of_copy = signs[:, 4 * k : 4 * k + 4]
        np.testing.assert_array_equal(of_copy.T @ of_copy, 16 * np.eye(4))
    assert len(np.unique(signs[:, ::4], axis=1).T) > 4


def test_any_errors_of_the_readout_become_a_convolution():
    """Also ones that are correlated and asymmetric: the mean over flips multiplies words."""
    rng, size = np.random.default_rng(3), 3
    chances = rng.dirichlet(np.full(8, 0.3), size=8).T + 2 * np.eye(8)
    chances /= chances.sum(axis=0)  # [found, true]
    walsh = np.array([[(-1) ** (a & b).bit_count() for a in range(8)] for b in range(8)])
    before = walsh @ chances @ walsh / 8
    assert np.abs(before - np.diag(np.diag(before))).max() > 0.05
    mean = np.zeros((8, 8))
    for row in flips(8, size, rng):
        turn = np.arange(8) ^ int(row @ (1 << np.arange(size)))
        mean += chances[turn][:, turn] / 8
    after = walsh @ mean @ walsh / 8
    np.testing.assert_allclose(after, np.diag(np.diag(after)), atol=1e-12)
    np.testing.assert_allclose(np.diag(after), np.diag(before), atol=1e-12)


def measured(backend):
    """A circuit on the backend, with two registers of outcomes and a bit that is no outcome."""
    a = Parameter("a")
    circuit = QuantumCircuit(4)
    circuit.rx(a, 0)
    circuit.h(1)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    circuit.ry(0.4, 2)
    circuit.cx(2, 3)
    isa = transpile(circuit, backend, optimization_level=1, seed_transpiler=0)
    where = isa.layout.final_index_layout()
    for register in (
        ClassicalRegister(1, "c"),
        *(ClassicalRegister(2, f"{REGISTER}{k}") for k in (0, 1)),
    ):
        isa.add_register(register)
    isa.measure(where[:2], registers(isa)[0])
    isa.measure(where[2:], registers(isa)[1])
    return isa, where


@pytest.mark.parametrize("backend", [FakeManilaV2, FakeTorino])
def test_flips_turn_the_outcomes_that_they_name(backend):
    backend = backend()
    isa, where = measured(backend)
    turned = flips(6, 4, np.random.default_rng(0))
    made = flipped([isa] * 6, turned, backend.target)
    parts = sorted(where)
    for circuit, turns in zip(made, turned, strict=True):
        for step in circuit.data:
            on = tuple(circuit.find_bit(qubit).index for qubit in step.qubits)
            assert backend.target.instruction_supported(step.operation.name, on)
        assert circuit.parameters == isa.parameters
        truth = chances(isa, where, parts)
        index = np.arange(16) ^ int(turns @ (1 << np.arange(4)))
        np.testing.assert_allclose(chances(circuit, where, parts)[index], truth, atol=1e-9)


def chances(circuit, where, used):
    """The probabilities of the outcomes of some qubits of a circuit, at an angle."""
    small = QuantumCircuit(len(used))
    for step in circuit.assign_parameters([0.7]).data:
        if step.operation.name not in ("measure", "barrier"):
            small.append(
                step.operation, [used.index(circuit.find_bit(q).index) for q in step.qubits]
            )
    return Statevector(small).probabilities([used.index(qubit) for qubit in where])


@pytest.mark.parametrize("backend", [FakeManilaV2, FakeTorino, FakeSherbrooke])
def test_twirled_gates_leave_a_circuit_as_it_is(backend):
    backend = backend()  # with CX, CZ and ECR gates
    isa, where = measured(backend)
    bare = isa.remove_final_measurements(inplace=False)
    made = twirled(bare, 8, backend.target, np.random.default_rng(1))
    used = sorted(where)
    truth = operator(bare, used)
    assert len({str(circuit.count_ops()) for circuit in made}) > 1
    for circuit in made:
        assert circuit.parameters == bare.parameters
        for step in circuit.data:
            on = tuple(circuit.find_bit(qubit).index for qubit in step.qubits)
            assert backend.target.instruction_supported(step.operation.name, on)
        assert operator(circuit, used).equiv(truth)
    again = twirled(bare, 8, backend.target, np.random.default_rng(1))
    assert all(one == other for one, other in zip(made, again, strict=True))


def operator(circuit, used):
    small = QuantumCircuit(len(used))
    for step in circuit.assign_parameters([0.7]).data:
        if step.operation.name != "barrier":
            small.append(
                step.operation, [used.index(circuit.find_bit(q).index) for q in step.qubits]
            )
    return Operator(small)


def test_twirled_gates_turn_coherent_errors_into_random_ones():
    """A CZ with a rotation too much: in the mean, Z Z is applied with a probability, as a
    superoperator says; without twirling amplitudes interfere."""
    angle, depth = 0.3, 4
    excess = Operator(np.diag(np.exp(-0.5j * angle * np.array([1, -1, -1, 1]))))
    circuit = QuantumCircuit(2)
    circuit.h([0, 1])
    for _ in range(depth):
        circuit.cz(0, 1)
    circuit.h([0, 1])
    made = twirled(circuit, 600, FakeTorino().target, np.random.default_rng(2))
    found = np.mean([zeros(each, excess) for each in made])
    flip = np.sin(angle / 2) ** 2
    odd = (1 - (1 - 2 * flip) ** depth) / 2  # of Z Z, which turns 00 into 11
    coherent = np.cos(depth * angle / 2) ** 2
    assert abs(zeros(circuit, excess) - coherent) < 1e-12
    assert abs(coherent - (1 - odd)) > 0.2
    assert abs(found - (1 - odd)) < 5 * 0.5 / np.sqrt(600)


def zeros(circuit, excess):
    """The probability of the outcome 00, where each CZ has an error."""
    state = Statevector.from_label("00")
    for step in circuit.data:
        on = [circuit.find_bit(qubit).index for qubit in step.qubits]
        state = state.evolve(step.operation, on)
        if step.operation.name == "cz":
            state = state.evolve(excess, on)
    return state.probabilities()[0]


def test_gates_that_cannot_be_twirled_are_named():
    circuit = QuantumCircuit(2)
    circuit.rzz(0.3, 0, 1)
    with pytest.raises(UnsupportedError, match="twirling.enable_gates: cx, cz, .* has rzz"):
        twirled(circuit, 2, FakeTorino().target, np.random.default_rng(0))
