"""Circuits that are laid out around the gates and qubits that a backend calls broken."""

from types import SimpleNamespace

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector
from qiskit.transpiler import InstructionProperties
from qiskit_ibm_runtime.fake_provider import (
    FakeKyoto,
    FakeManilaV2,
    FakeNighthawk,
    FakeSherbrooke,
)

import qshift
from qshift.errors import UnsupportedError
from qshift.executors.qiskit.broken_gates import WorkingGates
from qshift.executors.qiskit.device import EstimatorDevice

LEVELS = range(4)


def broken(qubits=(), pairs=(), readout=()):
    """A five-qubit device, a line, of which some does not work."""
    device = FakeManilaV2()
    for name in device.target.operation_names:
        for on, about in (device.target[name] or {}).items():
            if about is None:
                continue
            is_broken = (name in ("sx", "x") and on[0] in qubits) or set(on) in map(set, pairs)
            if is_broken or (name == "measure" and on[0] in readout):
                dead = InstructionProperties(duration=about.duration, error=1.0)
                device.target.update_instruction_properties(name, on, dead)
    return device


def circuit(wires, gates):
    """Rotations, and CNOTs between these pairs of wires."""
    made = QuantumCircuit(wires)
    for wire in range(wires):
        made.rx(Parameter(f"p{wire}"), wire)
    for pair in gates:
        made.cx(*pair)
    return made


def chain(wires):
    return circuit(wires, [(i, i + 1) for i in range(wires - 1)])


def used(made, *kinds):
    """(gate, qubits) of a transpiled circuit."""
    steps = {
        (step.operation.name, tuple(made.find_bit(qubit).index for qubit in step.qubits))
        for step in made.data
    }
    return {step for step in steps if not kinds or step[0] in kinds}


def dead(target):
    return {
        (name, on)
        for name in target.operation_names
        for on, about in (target[name] or {}).items()
        if about is not None and about.error is not None and about.error >= 1
    }


def require_same(made, wanted):
    """Checks that a transpiled circuit does what it did before, by state vectors."""
    values = dict(zip(wanted.parameters, np.linspace(0.3, 0.9, wanted.num_qubits), strict=True))
    words = ["".join(w) for w in zip("ZXYZX"[: wanted.num_qubits], strict=True)]
    for i, word in enumerate(words):
        label = "".join(word if k == i else "I" for k in reversed(range(wanted.num_qubits)))
        observable = SparsePauliOp(label)
        before = Statevector(wanted.assign_parameters(values)).expectation_value(observable)
        after = made.assign_parameters({p.name: values[p] for p in values})
        laid = observable.apply_layout(made.layout, made.num_qubits)
        assert Statevector(after).expectation_value(laid) == pytest.approx(before, abs=1e-9)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "fault, most",
    [
        ({"qubits": [0]}, 4),
        ({"readout": [0, 1]}, 3),
        ({"pairs": [(1, 2)]}, 3),
        ({"qubits": [2]}, 2),
        ({"pairs": [(0, 1), (3, 4)]}, 3),
    ],
)
def test_what_is_broken_is_never_used(fault, most, level):
    device = broken(**fault)
    qubits = {*fault.get("qubits", ()), *fault.get("readout", ())}
    for wires in range(1, most + 1):
        for wanted in (chain(wires), circuit(wires, []), QuantumCircuit(wires)):
            made = WorkingGates(device).transpile(wanted, level, seed=0)
            assert not used(made) & dead(device.target)
            places = made.layout.final_index_layout() if made.layout else range(wires)
            assert not qubits & {*places}, "a wire without gates may be measured as well"
            assert not qubits & {q for _, on in used(made) for q in on}
            if wanted.data:
                require_same(made, wanted)
    with pytest.raises(UnsupportedError, match="fake_manila has no place for .* calls broken"):
        WorkingGates(device).transpile(chain(most + 1), level, seed=0)


@pytest.mark.filterwarnings("ignore:Properties of fake_nighthawk")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind, wires", [(FakeSherbrooke, 8), (FakeNighthawk, 12)])
def test_on_devices_as_they_were(kind, wires, level):
    device = kind()
    assert dead(device.target)
    made = WorkingGates(device).transpile(chain(wires), level, seed=0)
    assert not used(made) & dead(device.target)
    assert len(used(made, "ecr", "cz")) >= wires - 1


def test_a_device_without_a_working_pair_is_refused():
    with pytest.raises(UnsupportedError, match=r"2 wires and 1 gates .* \(0, 14\)"):
        WorkingGates(FakeKyoto()).transpile(chain(2), 2, seed=0)
    assert WorkingGates(FakeKyoto()).transpile(circuit(2, []), 2, seed=0)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_said_to_be_out_of_operation(level):
    """As backends of IBM's say it: in their properties, beside the errors of gates."""
    device = FakeManilaV2()
    gate = SimpleNamespace(gate="cx", qubits=[2, 3])
    properties = SimpleNamespace(faulty_qubits=lambda: [0], faulty_gates=lambda: [gate])
    device.properties = lambda: properties
    made = WorkingGates(device).transpile(chain(2), level, seed=0)
    (pair,) = {frozenset(on) for _, on in used(made, "cx")}
    assert pair in ({1, 2}, {3, 4})
    with pytest.raises(UnsupportedError, match="qubits: 0; pairs of qubits: .2, 3."):
        WorkingGates(device).transpile(chain(3), level, seed=0)


@pytest.mark.parametrize("level", LEVELS)
def test_where_nothing_is_broken_nothing_changes(level):
    from qiskit.transpiler import generate_preset_pass_manager

    device = FakeManilaV2()
    plain = generate_preset_pass_manager(level, backend=device, seed_transpiler=0)
    wanted = circuit(5, [(0, 1), (2, 1), (3, 1), (4, 3)])  # no two of its layouts are equally good
    assert WorkingGates(device).transpile(wanted, level, seed=0) == plain.run(wanted)


def test_a_target_keeps_all_else():
    device = broken(pairs=[(1, 2)])
    before, after = device.target, WorkingGates(device).target
    assert after.num_qubits == before.num_qubits and after.dt == before.dt
    assert set(after.operation_names) == set(before.operation_names)
    assert set(after["cx"]) == set(before["cx"]) - {(1, 2), (2, 1)}
    assert after["sx"] == before["sx"] and after["cx"][0, 1] == before["cx"][0, 1]
    assert dead(before) == {("cx", (1, 2)), ("cx", (2, 1))}
    assert Operator(after.operation_from_name("cx")) == Operator(before.operation_from_name("cx"))


@pytest.mark.parametrize("level", [0, 1, 2, None])
def test_a_value_of_eight_wires_is_not_lost(level):
    """Of gates with the error 1 on the way to it, nothing would be left: -0.03 in place of 0.85."""
    options = {} if level is None else {"optimization_level": level}

    @qshift.qnode(qshift.device("fake-sherbrooke", shots=4000, **options), seed=1)
    def last(x):
        for wire in range(8):
            qml.RY(x[wire], wire)
        for wire in range(7):
            qml.CNOT([wire, wire + 1])
        return qml.expval(qml.Z(7))

    with qshift.Tracker() as tracker:
        found = last(tf.fill([8], 0.2))
    assert abs(found - np.cos(0.2) ** 8) < 0.12
    assert tracker.totals["transpilations"] == 1


def test_the_default_level():
    assert EstimatorDevice().target.level == 2
    for level in LEVELS:
        assert EstimatorDevice(optimization_level=level).target.level == level
