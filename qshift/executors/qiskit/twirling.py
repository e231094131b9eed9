"""Random variants of a transpiled circuit, which turn its errors into simpler ones (twirling).

A variant has Pauli gates before and after each gate on two qubits, and flips before measurements.
Without noise all variants measure the same, once flipped outcomes are flipped back. Over all of
them, errors of gates become random Pauli gates, and errors of the readout become equally likely for
0 and 1, so that they multiply an expectation value by a factor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import pauli_twirl_2q_gates
from qiskit.transpiler import PassManager, Target
from qiskit.transpiler.passes import Optimize1qGatesDecomposition

from qshift.errors import UnsupportedError
from qshift.executors.qiskit.broken_gates import PLACELESS
from qshift.executors.qiskit.mitigation import Mitigation
from qshift.executors.qiskit.pub_results import REGISTER

_CLIFFORD = ("cx", "cz", "ecr", "iswap")  # those that Qiskit twirls by themselves


def flips(number: int, bits: int, rng: np.random.Generator) -> np.ndarray:
    """Returns which bits are flipped in each variant of a circuit, bool[number, bits].

    Each variant is as likely to flip a set of bits as any other set. Two in succession are opposite
    on all bits. Where the number is a power of 2, any three of the first number / 2 bits have all
    their combinations equally often, and all of them together if they are few: readout errors then
    are symmetric to third order, or exactly, not only in the mean over many variants. Further bits
    flip independently.

    Args:
        number: How many variants there are.
        bits: How many bits a circuit measures.
        rng: A source of random numbers.
    """
    order = max(1, (number - 1).bit_length())
    # Bit i of variant r has the parity of the digits that r and columns[i] share. Columns are odd,
    # so no three of them add up to zero; the first `order` ones are independent.
    first = [1, *(1 | 1 << k for k in range(1, order))]
    odd = first + [k for k in range(1, 1 << order, 2) if k not in first]
    columns = rng.permutation(np.array(odd[:bits], dtype=int))
    pairs = rng.permutation(1 << order - 1)[: -(-number // 2)]
    spread = np.bitwise_count(2 * pairs[:, None] & columns) & 1 ^ rng.integers(0, 2, len(columns))
    others = rng.integers(0, 2, (len(pairs), bits - len(columns)))
    first_of_pairs = np.concatenate([spread, others], axis=1).astype(bool)
    return np.stack([first_of_pairs, ~first_of_pairs], axis=1).reshape(2 * len(pairs), bits)[
        :number
    ]


def registers(circuit: QuantumCircuit) -> list[ClassicalRegister]:
    """Returns the registers that a circuit's final measurements fill, one for each copy."""
    return [register for register in circuit.cregs if register.name.startswith(REGISTER)]


def variants(
    circuit: QuantumCircuit,
    number: int,
    primitive: str,
    mitigation: Mitigation,
    target: Target,
    rng: np.random.Generator,
) -> tuple[list[QuantumCircuit], np.ndarray | None]:
    """Returns variants of a circuit with measurements, and which of its bits each one flips.

    Args:
        circuit: The circuit.
        number: How many variants there are.
        primitive: ``"estimator"`` or ``"sampler"``.
        mitigation: What is twirled.
        target: Qiskit's description of the backend.
        rng: A source of random numbers.

    Returns:
        The circuits, and bool[number, bits], or None if measurements are not twirled.
    """
    made, turned = [circuit] * number, None
    if primitive in mitigation.gates:
        made = twirled(circuit, number, target, rng)
    if primitive in mitigation.measurements:
        each = [flips(number, len(register), rng) for register in registers(circuit)]
        turned = np.concatenate(each, axis=1)
        made = flipped(made, turned, target)
    return made, turned


def flipped(
    circuits: Sequence[QuantumCircuit], turned: np.ndarray, target: Target
) -> list[QuantumCircuit]:
    """Returns circuits with flips before their final measurements.

    Args:
        circuits: Circuits that measure the same qubits.
        turned: bool[circuits, bits], which bits are flipped in each: those of the registers of
            outcomes, one register after the other.
        target: Qiskit's description of the backend.
    """
    layer = QuantumCircuit(circuits[0].num_qubits)
    final = {bit for register in registers(circuits[0]) for bit in register}
    for step in circuits[0].get_instructions("measure"):
        if step.clbits[0] in final:
            layer.x(circuits[0].find_bit(step.qubits[0]).index)
    gates: dict[int, list] = {}
    for step in PassManager([Optimize1qGatesDecomposition(target=target)]).run(layer).data:
        gates.setdefault(layer.find_bit(step.qubits[0]).index, []).append(step.operation)
    made = []
    for circuit, turns in zip(circuits, turned, strict=True):
        bits = [bit for register in registers(circuit) for bit in register]
        turning = {bit for bit, turn in zip(bits, turns, strict=True) if turn}
        copy = circuit.copy_empty_like()
        for step in circuit.data:
            if step.operation.name == "measure" and step.clbits[0] in turning:
                for gate in gates[circuit.find_bit(step.qubits[0]).index]:
                    copy.append(gate, step.qubits)
            copy.append(step)
        made.append(copy)
    return made


def twirled(
    circuit: QuantumCircuit, number: int, target: Target, rng: np.random.Generator
) -> list[QuantumCircuit]:
    """Returns variants of a circuit with random Pauli gates around its gates on two qubits.

    Args:
        circuit: The circuit.
        number: How many variants there are.
        target: Qiskit's description of the backend.
        rng: A source of random numbers.

    Raises:
        UnsupportedError: If the circuit has gates on two qubits that Pauli gates do not pass.
    """
    names = {step.operation.name for step in circuit.data if len(step.qubits) > 1}
    if others := sorted(names - {*_CLIFFORD, *PLACELESS}):
        raise UnsupportedError(
            f"twirling.enable_gates: {', '.join(_CLIFFORD)} gates can be twirled, but the circuit "
            f"has {', '.join(others)}, which would be left as they are. Leave the option out, or "
            "choose a backend without these gates."
        )
    seed = int(rng.integers(2**63))
    found = pauli_twirl_2q_gates(circuit, seed=seed, num_twirls=number, target=target)
    assert isinstance(found, list)
    return found
