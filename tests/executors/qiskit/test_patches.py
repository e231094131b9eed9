"""Places for copies of a circuit on a chip."""

import itertools
import math

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Measure, Parameter
from qiskit.circuit.library import CXGate, RZGate, SXGate
from qiskit.transpiler import InstructionProperties, QubitProperties, Target
from qiskit_ibm_runtime.fake_provider import FakeSherbrooke, FakeTorino

from qshift.executors.qiskit.broken_gates import WorkingGates
from qshift.executors.qiskit.patches import patches, used, useful


def chain(wires, layers=1):
    circuit = QuantumCircuit(wires)
    for _ in range(layers):
        for wire in range(wires):
            circuit.rx(0.3, wire)
        for wire in range(wires - 1):
            circuit.cx(wire, wire + 1)
    return circuit


def line(errors, readouts, times=None):
    """A chip of qubits in a line, with gates of an hour between them."""
    count = len(readouts)
    properties = None if times is None else [QubitProperties(t1=t, t2=t) for t in times]
    target = Target(num_qubits=count, qubit_properties=properties)
    pairs = {(i, i + 1): InstructionProperties(3600.0, e) for i, e in enumerate(errors)}
    target.add_instruction(CXGate(), pairs)
    target.add_instruction(SXGate(), {(i,): InstructionProperties(1.0, 0.0) for i in range(count)})
    target.add_instruction(RZGate(Parameter("a")), {(i,): None for i in range(count)})
    about = {(i,): InstructionProperties(1.0, e) for i, e in enumerate(readouts)}
    target.add_instruction(Measure(), about)
    return target


def pair(gates=1):
    circuit = QuantumCircuit(2)
    for _ in range(gates):
        circuit.cx(0, 1)
    return circuit


def test_the_best_place_is_first_and_the_others_are_one_qubit_apart():
    target = line([0.1, 0.01, 0.1, 0.1, 0.02, 0.1, 0.06], [0.01] * 8)
    found = patches(pair(), target)
    assert [set(patch.qubits) for patch in found] == [{1, 2}, {4, 5}]
    readout = -2 * math.log(0.99)
    assert found[0].readout == pytest.approx(readout)
    assert [p.infidelity for p in found] == pytest.approx(
        [readout - math.log(0.99), readout - math.log(0.98)]
    )


def test_gates_in_both_directions_are_one_coupling():
    circuit = pair()
    circuit.cx(1, 0)
    (found,) = patches(circuit, line([0.1], [0.0] * 2))
    assert found.infidelity == pytest.approx(-2 * math.log(0.9))


def test_readout_counts_and_broken_gates_are_no_place():
    target = line([0.01, 1.0, 0.02], [0.3, 0.3, 0.01, 0.01])
    assert [set(patch.qubits) for patch in patches(pair(), target)] == [{2, 3}]


def test_bad_places_are_left_out():
    target = line([0.01, 0.0, 0.0, 0.6], [0.0] * 5)
    (best,) = patches(pair(), target)  # 0 to 2 leave 3 and 4 only, with less than half the fidelity
    assert set(best.qubits) <= {1, 2, 3}


def test_waiting_counts_by_how_long_qubits_live():
    # The last qubit waits for a gate of the others; the first one is rotated just in time.
    circuit = QuantumCircuit(3)
    circuit.sx(0)
    circuit.cx(1, 2)
    circuit.cx(0, 1)
    for bad in (0, 2):
        times = [3600.0 if qubit == bad else math.inf for qubit in range(3)]
        (found,) = patches(circuit, line([0.0] * 2, [0.0] * 3, times))
        assert found.qubits[2] != bad and found.infidelity == pytest.approx(0.0, abs=1e-9)
    circuit = QuantumCircuit(3)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    (found, *_) = patches(circuit, line([0.0] * 2, [0.0] * 3, [3600.0] * 3))
    fidelity = 1 / 2 + math.exp(-1) / 6 + math.exp(-1) / 3  # qubit 0 has nothing to do for a gate
    assert found.infidelity == pytest.approx(-math.log(fidelity))


@pytest.mark.parametrize("backend", [FakeTorino, FakeSherbrooke])
@pytest.mark.parametrize("wires", [1, 4, 9])
def test_patches_of_chips(backend, wires):
    device = backend()
    isa = WorkingGates(device).transpile(chain(wires), 2, 0)
    found = patches(isa, device.target)
    assert len(found) >= {1: 30, 4: 8, 9: 4}[wires]
    assert [p.infidelity for p in found] == sorted(p.infidelity for p in found)
    near = {frozenset(pair) for pair in device.coupling_map}
    for one, other in itertools.combinations(found, 2):
        assert not set(one.qubits) & set(other.qubits)
        assert not near & {frozenset(each) for each in itertools.product(one.qubits, other.qubits)}
    shape = {q: i for i, q in enumerate(used(isa))}
    for step in isa.data:
        on = [shape[isa.find_bit(qubit).index] for qubit in step.qubits]
        assert len(on) == 1 or all({p.qubits[on[0]], p.qubits[on[1]]} in near for p in found)


def test_parts_that_no_gate_connects_are_one_piece():
    device = FakeTorino()
    circuit = QuantumCircuit(4)
    circuit.cx(0, 1)
    circuit.cx(2, 3)
    isa = WorkingGates(device).transpile(circuit, 2, 0)
    graph = device.coupling_map.graph.to_undirected()
    for patch in patches(isa, device.target):
        piece = graph.subgraph(list(patch.qubits))
        assert len(piece) == 4 and piece.num_edges() >= 3


@pytest.mark.parametrize("shots", [10, 100, 1000, 10_000])
def test_patches_are_used_as_long_as_they_help(shots):
    losses = [0.02, 0.03, 0.05, 0.08, 0.1, 0.1, 0.4]

    def error(count, executions):
        noise = np.mean([1 - math.exp(-loss) for loss in losses[:count]])
        return noise**2 / 3 + 2 / 3 / (count * executions)

    count = useful(losses, shots)
    for k in range(1, count):
        assert error(k + 1, shots / k) < error(k, shots / k)
    assert count == 7 or error(count + 1, shots / count) >= error(count, shots / count)
    assert useful([0.1] * 5, shots) == 5 and useful([0.1], shots) == 1


def test_the_more_shots_the_fewer_patches():
    losses = np.linspace(0.02, 0.5, 12)
    counts = [useful(losses, 10**k) for k in range(1, 7)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] == 1
