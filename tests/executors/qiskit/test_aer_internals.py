"""What `qshift.executors.qiskit.aer_internals` promises of Aer's private names, each alone."""

import numpy as np
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error
from qiskit_aer.noise.passes import LocalNoisePass
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from qshift.executors.qiskit import aer_internals as internals


def model():
    made = NoiseModel()
    made.add_quantum_error(depolarizing_error(0.3, 1), ["x"], [0])
    made.add_quantum_error(depolarizing_error(0.3, 1), ["x"], [1])
    made.add_quantum_error(depolarizing_error(0.3, 2), ["cx"], [0, 1])
    for qubit in range(2):
        made.add_readout_error(ReadoutError([[0.8, 0.2], [0.1, 0.9]]), [qubit])
    return made


def acting(noise):
    """Returns the steps in which a noise model acts."""
    return {
        (name, tuple(qubits))
        for error in noise.to_dict()["errors"]
        for name in error["operations"]
        for qubits in error["gate_qubits"]
    }


def test_noise_acts_in_some_steps():
    whole = model()
    steps = {("x", (0,)), ("measure", (0,)), ("h", (1,))}
    part = internals.noise_in(whole, steps)
    assert acting(part) == {("x", (0,)), ("measure", (0,))}
    assert len(acting(whole)) == 5
    circuit = QuantumCircuit(2, 1)
    circuit.x(0)
    circuit.measure(0, 0)
    counts = [
        AerSimulator(noise_model=noise).run(circuit, shots=1000, seed_simulator=3).result()
        for noise in (whole, part)
    ]
    assert counts[0].get_counts() == counts[1].get_counts() != {"1": 1000}


def test_what_a_simulator_asks_for_is_made_once():
    part = internals.noise_in(model(), frozenset([("x", (0,))]))
    assert part.to_dict() is part.to_dict()


def test_noise_models_have_passes_that_their_tables_lack():
    assert internals.noise_passes(model()) == []
    noise = NoiseModel.from_backend(FakeManilaV2())
    assert len(internals.noise_passes(noise)) == 1
    assert set(noise.to_dict()) == {"errors"}


def test_what_a_relaxation_consists_of():
    (found,) = internals.noise_passes(NoiseModel.from_backend(FakeManilaV2()))
    about = internals.relaxation(found)
    properties = [FakeManilaV2().qubit_properties(i) for i in range(5)]
    np.testing.assert_allclose(about["_t1s"], [each.t1 for each in properties])
    assert {"_t2s", "_p1s", "_dt", "_method", "target", "ops"} < set(about)
    assert "cx" in about["target"].operation_names
    assert all(isinstance(each, type) for each in about["ops"])
    own = vars(found).keys() - {"_t1s", "_t2s", "_p1s", "_dt", "_method", "_target", "_ops"}
    assert own <= {"_func", "property_set", "requires", "preserves", "_hash"}


def test_passes_that_call_any_function_are_not_taken_apart():
    assert internals.relaxation(LocalNoisePass(lambda op, qubits: None)) is None
