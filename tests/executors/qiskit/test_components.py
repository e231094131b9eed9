"""Parts of wide circuits, simulated one by one."""

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import BackendEstimatorV2, BackendSamplerV2
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator

from qshift.executors.qiskit.components import components, run_in_parts
from qshift.executors.qiskit.pub_results import unpacked

PARTS = 20


def wide(measured=False):
    """Pairs of qubits, each turned by its own multiple of one angle."""
    angle = Parameter("p0")
    circuit = QuantumCircuit(2 * PARTS + 3)
    for part in range(PARTS):
        circuit.ry((part + 1) / PARTS * angle, 2 * part)
        circuit.cx(2 * part, 2 * part + 1)
    circuit.barrier()
    if measured:
        for name in "ab":
            circuit.add_register(ClassicalRegister(PARTS, name))
        for part in range(PARTS):
            circuit.measure(
                [2 * part, 2 * part + 1], [circuit.cregs[0][part], circuit.cregs[1][part]]
            )
    points = np.array([[0.3], [1.2]])
    return circuit, BindingsArray({(angle,): points}, shape=(2,)), points[:, 0]


def word(letters):
    return SparsePauliOp.from_sparse_list(
        [("Z" * len(on), on, c) for on, c in letters], num_qubits=2 * PARTS + 3
    )


def test_components():
    circuit, _, _ = wide(measured=True)
    assert components(circuit) == [{2 * i, 2 * i + 1} for i in range(PARTS)]
    circuit = QuantumCircuit(5, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(3)
    circuit.cx(3, 1)
    assert components(circuit) == [{0, 1, 3}]  # a bit connects as a gate does


def test_samples_of_all_parts():
    circuit, bindings, angles = wide(measured=True)
    sampler = BackendSamplerV2(backend=AerSimulator(), options={"seed_simulator": 5})
    job = run_in_parts(sampler.run, "sampler", [(circuit, bindings, 4000)])
    (result,) = job.result()
    first, second = (result.data[name].to_bool_array("little") for name in "ab")
    np.testing.assert_array_equal(first, second)
    ones = np.sin(np.arange(1, PARTS + 1) / PARTS * angles[:, None] / 2) ** 2
    np.testing.assert_allclose(first.mean(axis=1), ones, atol=0.04)
    related = np.corrcoef(first[1].T[5:]) - np.eye(PARTS - 5)
    assert np.abs(related).max() < 0.08  # no two parts have the same samples


def test_expectation_values_of_all_parts():
    circuit, bindings, angles = wide()
    observables = [word([((0,), 1.0)]), word([((38, 39), 0.5), ((38,), 2.0), ((20,), 1.0)])]
    wider = BindingsArray({k: v[:, None] for k, v in bindings.data.items()}, shape=(2, 1))
    estimator = BackendEstimatorV2(backend=AerSimulator(), options={"seed_simulator": 5})
    job = run_in_parts(estimator.run, "estimator", [(circuit, observables, wider, 0.01)])
    (result,) = job.result()
    measured = np.array(unpacked("estimator", result))
    truth = np.stack(
        [np.cos(angles / PARTS), 0.5 + 2 * np.cos(angles) + np.cos(11 / PARTS * angles)], axis=1
    )
    assert measured.shape == (2, 2, 2)
    assert (np.abs(measured[:, 0] - truth) <= 4 * measured[:, 1] + 1e-3).all()
    np.testing.assert_allclose(measured[:, 0], truth, atol=0.12)


class Recorded:
    """Runs nothing and keeps what it was given."""

    def __call__(self, pubs):
        self.pubs = pubs
        return self


@pytest.mark.parametrize("wires, measures", [(3, ((0,), 1.0)), (9, (tuple(range(9)), 1.0))])
def test_what_is_narrow_or_measured_together_stays_together(wires, measures):
    circuit = QuantumCircuit(wires)
    circuit.h(range(wires))
    observable = SparsePauliOp.from_sparse_list(
        [("Z" * len(measures[0]), measures[0], 1.0)], num_qubits=wires
    )
    pub = (circuit, [observable], BindingsArray({}, shape=(1, 1)), 0.1)
    run = Recorded()
    assert run_in_parts(run, "estimator", [pub]) is run
    assert run.pubs == [pub]


def own_angles():
    """A circuit of ten parts with an angle each, and its points."""
    circuit = QuantumCircuit(10, 2)
    angles = [Parameter(f"t{k}") for k in range(10)]
    for qubit, angle in enumerate(angles):
        circuit.ry(angle, qubit)
    values = np.linspace(0.1, 2.0, 20).reshape(2, 10)
    return circuit, BindingsArray({tuple(angles): values}, shape=(2,)), values


def test_parts_with_angles_of_their_own():
    circuit, bindings, values = own_angles()
    wider = BindingsArray({k: v[:, None] for k, v in bindings.data.items()}, shape=(2, 1))
    observables = [
        SparsePauliOp.from_sparse_list([("Z", [qubit], 1.0)], num_qubits=10) for qubit in (3, 9)
    ]
    estimator = BackendEstimatorV2(backend=AerSimulator(), options={"seed_simulator": 5})
    (result,) = run_in_parts(
        estimator.run, "estimator", [(circuit, observables, wider, 0.01)]
    ).result()
    measured = np.array(unpacked("estimator", result))[:, 0]
    np.testing.assert_allclose(measured, np.cos(values[:, [3, 9]]), atol=0.05)


def test_parts_that_are_not_measured():
    circuit, bindings, values = own_angles()
    circuit.measure([3, 9], [0, 1])
    sampler = BackendSamplerV2(backend=AerSimulator(), options={"seed_simulator": 5})
    (result,) = run_in_parts(sampler.run, "sampler", [(circuit, bindings, 4000)]).result()
    ones = result.data["c"].to_bool_array("little").mean(axis=1)
    np.testing.assert_allclose(ones, np.sin(values[:, [3, 9]] / 2) ** 2, atol=0.04)
