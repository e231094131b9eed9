"""Quantum programs of PUBs, against exact states: which circuits, and what their outcomes mean."""

import math

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_ibm_runtime.fake_provider import FakeFractionalBackend, FakeManilaV2

from qshift.executors.qiskit import quantum_program
from qshift.executors.qiskit.mitigation import Mitigation
from qshift.executors.qiskit.pub_results import REGISTER

POINTS = np.array([[0.3, 1.1], [-2.0, 0.4], [0.0, np.pi]])


def estimator_pub(backend, shots, observables=(("XXI", 0.5), ("YZX", 1.0)), points=POINTS):
    """A circuit on 3 of the backend's qubits, transpiled, with two observables."""
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(3)
    circuit.rx(a, 0)
    circuit.ry(b, 1)
    circuit.h(2)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    circuit.ry(0.4, 2)
    isa = transpile(circuit, backend, optimization_level=1, seed_transpiler=0)
    found = [
        SparsePauliOp.from_list(list(observables)).apply_layout(isa.layout),
        SparsePauliOp.from_list([("IIY", -0.7), ("ZZZ", 0.2), ("IXX", 1.3)]).apply_layout(
            isa.layout
        ),
    ]
    bindings = BindingsArray({(a, b): points[:, None]}, shape=(len(points), 1))
    return isa, found, bindings, (1 + 1e-12) / np.sqrt(shots)


def sampler_pub(pub, shots):
    """The same circuit, with two qubits measured."""
    measured = pub[0].copy()
    where = pub[0].layout.final_index_layout()[:2]
    register = ClassicalRegister(2, REGISTER)
    measured.add_register(register)
    measured.measure(where, register)
    points = pub[2].shape[0]
    data = {names: values.reshape(points, -1) for names, values in pub[2].data.items()}
    return measured, BindingsArray(data, shape=(points,)), shots


def run(made, rng, readout=None):
    """Draws outcomes of a program from exact states, in the form of the Executor's results.

    With `readout`, a qubit is read as 1 in place of 0, and as 0 in place of 1, with the two
    probabilities that it gives for the qubit.
    """
    data = []
    for circuit, arguments in made.items:
        repeats, points, _ = arguments.shape
        gates = circuit.remove_final_measurements(inplace=False)
        measured = [s for s in circuit.data if s.operation.name == "measure"]
        qubits = [circuit.find_bit(step.qubits[0]).index for step in measured]
        bits = np.empty((repeats, points, made.shots, len(qubits)), dtype=bool)
        for repeat, point in np.ndindex(repeats, points):
            bound = gates.assign_parameters(arguments[repeat, point])
            chances = Statevector(bound).probabilities(qubits)
            drawn = rng.choice(len(chances), made.shots, p=chances / chances.sum())
            true = drawn[:, None] >> np.arange(len(qubits)) & 1
            wrong = np.array([readout(qubit) if readout else (0, 0) for qubit in qubits])
            missed = rng.random(true.shape) < wrong[np.arange(len(qubits)), true]
            bits[repeat, point] = true ^ missed
        data.append({REGISTER: bits})
    return data


@pytest.mark.parametrize("backend", [FakeManilaV2, FakeFractionalBackend])
def test_results_are_those_of_the_states(backend):
    backend, rng = backend(), np.random.default_rng(0)
    first = estimator_pub(backend, 6000)
    pubs = [first, sampler_pub(first, 2000)]
    made = quantum_program.program(pubs, backend.target)
    assert made.shots == 2000 and [item.arguments.shape[:2] for item in made.items] == (
        [(3, 3)] * (len(made.items) - 1) + [(1, 3)]
    )
    for circuit, _ in made.items:
        for step in circuit.data:
            where = tuple(circuit.find_bit(qubit).index for qubit in step.qubits)
            assert backend.target.instruction_supported(step.operation.name, where)
    estimates, counts = quantum_program.results(run(made, rng), made.recipe)
    assert len(estimates) == len(counts) == 3
    for row, (point, found) in enumerate(zip(POINTS, estimates, strict=True)):
        state = Statevector(first[0].assign_parameters(dict(zip(("a", "b"), point, strict=True))))
        values, errors = found
        for observable, value, error in zip(first[1], values, errors, strict=True):
            assert abs(value - np.real(state.expectation_value(observable))) < 5 * error + 1e-12
            assert 0 <= error <= sum(np.abs(observable.coeffs)) / np.sqrt(6000)
        chances = state.probabilities(first[0].layout.final_index_layout()[:2])
        assert sum(counts[row].values()) == 2000
        for outcome, chance in enumerate(chances):
            spread = np.sqrt(chance * (1 - chance) / 2000)
            assert abs(counts[row].get(outcome, 0) / 2000 - chance) < 5 * spread + 1e-12


MITIGATED = {"resilience_level": 1, "twirling": {"num_randomizations": 8, "enable_measure": True}}


@pytest.mark.parametrize("gates", [False, True])
def test_mitigated_results_are_those_of_the_states(gates):
    """With errors of the readout that are large, and differ between qubits and outcomes."""
    backend, rng = FakeManilaV2(), np.random.default_rng(4)
    first = estimator_pub(backend, 16_000)
    pubs = [first, sampler_pub(first, 4000)]
    twirling = MITIGATED["twirling"] | {"enable_gates": gates}
    mitigation = Mitigation.of(MITIGATED | {"twirling": twirling})
    made = quantum_program.program(pubs, backend.target, mitigation, seed=1)
    data = run(made, rng, lambda qubit: (0.02 + 0.01 * qubit, 0.15 - 0.02 * qubit))
    estimates, counts = quantum_program.results(data, made.recipe)
    assert made.shots == 500 and len(made.items) == 8 * 6  # 4 bases, outcomes, calibration
    assert np.shape(estimates) == (3, 4, 2)
    far = 0.0
    for point, (values, errors, raw, _) in zip(POINTS, estimates, strict=True):
        state = Statevector(first[0].assign_parameters(dict(zip(("a", "b"), point, strict=True))))
        truth = [np.real(state.expectation_value(each)) for each in first[1]]
        assert (np.abs(values - truth) < 4.5 * errors).all() and errors.max() < 0.03
        far = max(far, np.abs((raw - truth) / errors).max())
    assert far > 6  # standard errors, without mitigation
    # Outcomes of a Sampler are flipped back, and have symmetric errors.
    assert [sum(each.values()) for each in counts] == [4000] * 3
    where = first[0].layout.final_index_layout()[:2]
    state = Statevector(first[0].assign_parameters(dict(zip(("a", "b"), POINTS[0], strict=True))))
    wrong = 0.085 - 0.005 * np.array(where)
    one = np.array([[1 - p, p] for p in wrong])
    spread = np.einsum("ab,cd->acbd", *[np.array([[a, b], [b, a]]) for a, b in one[::-1]])
    expected = spread.reshape(4, 4) @ state.probabilities(where)
    found = np.array([counts[0].get(outcome, 0) for outcome in range(4)]) / 4000
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_mitigated_outcomes_that_do_not_fit_have_no_results():
    backend, rng = FakeManilaV2(), np.random.default_rng(5)
    pub = estimator_pub(backend, 64)
    made = quantum_program.program([pub], backend.target, Mitigation.of(MITIGATED), seed=1)
    data = run(made, rng)

    def sizes(data):
        return [len(each) for each in quantum_program.results(data, made.recipe)]

    assert sizes(data) == [3]
    assert sizes(data[:-1]) == [0] and sizes(data[: len(data) // 2]) == [0]
    for place in (0, -1):
        other = list(data)
        other[place] = {REGISTER: data[place][REGISTER][..., :0]}
        assert sizes(other) == [0]
        other[place] = {REGISTER: np.concatenate([data[place][REGISTER]] * 2, axis=-1)}
        assert sizes(other) == [0]


def test_several_rows_have_a_parameter():
    """Which changes no outcome."""
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.ry(0.4, 1)
    chances = Statevector(circuit).probabilities()
    circuit.measure_all()
    single = quantum_program.Item(circuit, np.empty((1, 1, 0)))
    assert quantum_program.with_parameter(single) is single
    for shape in ((3, 1), (1, 4)):
        item = quantum_program.Item(circuit, np.empty((*shape, 0)))
        turned, arguments = quantum_program.with_parameter(item)
        assert turned.num_parameters == 1 and arguments.shape == (*shape, 1)
        bound = turned.assign_parameters(arguments[0, 0])
        bound.remove_final_measurements()
        np.testing.assert_allclose(Statevector(bound).probabilities(), chances, atol=1e-15)
        again = quantum_program.Item(turned, arguments)
        assert quantum_program.with_parameter(again) is again


def test_seeded_programs_have_the_same_variants():
    backend = FakeManilaV2()
    pub = estimator_pub(backend, 64)
    options = {"twirling": {"enable_gates": True, "num_randomizations": 4}}

    def made(seed):
        found = quantum_program.program([pub], backend.target, Mitigation.of(options), seed)
        return [item.circuit for item in found.items]

    assert made(3) == made(3) != made(4)


def test_errors_hold_what_words_of_a_basis_have_in_common():
    """Of (1 + Z0)(1 + Z1) - 1, whose words are far from independent; many repetitions tell."""
    backend, rng = FakeManilaV2(), np.random.default_rng(1)
    words = (("IIZ", 1.0), ("IZI", 1.0), ("IZZ", 1.0))
    pub = estimator_pub(backend, 400, words, np.tile(POINTS[:1], (200, 1)))
    made = quantum_program.program([pub], backend.target)
    (found,) = quantum_program.results(run(made, rng), made.recipe)
    values, errors = np.array(found)[:, :, 0].T
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_measured_is_only_what_observables_act_on():
    backend = FakeManilaV2()
    pub = estimator_pub(backend, 10)
    made = quantum_program.program([pub], backend.target)
    acted = {label for observable in pub[1] for label in observable.paulis.to_labels()}
    assert len(made.items) == 4 < len(acted)  # X and I are read off one basis
    sizes = [item.circuit.num_clbits for item in made.items]
    assert all(size <= 3 for size in sizes)
    one = quantum_program.program([(pub[0], [SparsePauliOp("IIIIZ")], *pub[2:])], backend.target)
    assert [item.circuit.num_clbits for item in one.items] == [1]


def test_copies_have_counts_of_their_own():
    backend, rng = FakeManilaV2(), np.random.default_rng(3)
    isa, _, bindings, _ = estimator_pub(backend, 20)
    where = isa.layout.final_index_layout()
    registers = [ClassicalRegister(1, f"{REGISTER}{copy}") for copy in range(2)]
    for register, qubit in zip(registers, (where[0], where[2]), strict=True):
        isa.add_register(register)
        isa.measure(qubit, register[0])
    data = {names: values.reshape(3, -1) for names, values in bindings.data.items()}
    made = quantum_program.program([(isa, BindingsArray(data, shape=(3,)), 50)], backend.target)
    bits = rng.integers(0, 2, (2, 1, 3, 50, 1)).astype(bool)
    outcomes = dict(zip((f"{REGISTER}0", f"{REGISTER}1"), bits, strict=True))
    (found,) = quantum_program.results([outcomes], made.recipe)
    ones = bits[:, 0, :, :, 0].sum(axis=-1)
    assert [[each.get(1, 0) for each in point] for point in found] == ones.T.tolist()
    assert quantum_program.results([{f"{REGISTER}0": bits[0]}], made.recipe) == [[]]


def test_numbers_of_shots_share_a_program_if_that_takes_few_repetitions():
    assert quantum_program.shared([100, 300, 100]) == {100: 100, 300: 100}
    assert quantum_program.shared([64, 1]) == {64: 1, 1: 1}
    alone = quantum_program.shared([1000, 1001])
    assert alone == {1000: 1000, 1001: 1001}
    rng = np.random.default_rng(0)
    numbers = rng.integers(1, 10_000, 50).tolist()
    rows = quantum_program.shared(numbers)
    assert set(rows) == set(numbers)
    for row in set(rows.values()):
        together = [number for number, each in rows.items() if each == row]
        assert math.gcd(*together) == row and max(together) <= 64 * row
    assert quantum_program.shared([]) == {}


def test_outcomes_that_do_not_fit_have_no_results():
    backend, rng = FakeManilaV2(), np.random.default_rng(2)
    pub = estimator_pub(backend, 20)
    pubs = [pub, sampler_pub(pub, 20)]
    made = quantum_program.program(pubs, backend.target)
    data = run(made, rng)

    def sizes(data):
        return [len(each) for each in quantum_program.results(data, made.recipe)]

    assert sizes(data) == [3, 3]
    assert sizes(data[:-1]) == [3, 0] and sizes(data[:1]) == [0, 0] and sizes([]) == [0, 0]
    bits = data[-1][REGISTER]
    for other in (
        bits[:, :2],
        bits[:, :, :-1],
        bits[:, :, :0],
        bits[0],
        bits.astype(float),
        bits[..., :0],
    ):
        assert sizes([*data[:-1], {REGISTER: other}]) == [3, 0]
    assert sizes([*data[:-1], {"meas": bits}]) == [3, 0]
