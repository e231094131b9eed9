"""From a `Circuit` to one parametrised Qiskit circuit.

Every scalar gate parameter becomes a Qiskit `Parameter`, so that one transpilation serves for all
points. Gates without a counterpart in Qiskit are decomposed here and not before derivatives are
planned, because shift rules for whole gates take fewer circuits than rules for their parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Channel, Operator
from pennylane.ops import Controlled, ControlledOp
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Clbit, Parameter, library
from qiskit.circuit.classical import expr

from qshift.circuits.circuit import Circuit
from qshift.circuits.pauli import decompose
from qshift.circuits.smooth_decompositions import has_decomposition, parts
from qshift.circuits.spectra import standard_name
from qshift.errors import UnsupportedError
from qshift.executors.qiskit.conditions import Conditional
from qshift.rules.shifting import largest_frequency

_WIDEST_MATRIX = 6  # wires; the synthesis of a general unitary takes 4**wires gates
_NOTHING = {"GlobalPhase", "Identity"}  # gates that change no expectation value
# PennyLane's name -> Qiskit's gate with the same matrix, parameters and order of wires. Controlled
# rotations are not in the table: Aer 0.17 does not bind their parameters (qiskit-aer issue 2403)
# and silently leaves them out. No hardware has them, so nothing is lost.
GATES: dict[str, type] = {
    **{"PauliX": library.XGate, "PauliY": library.YGate, "PauliZ": library.ZGate},
    **{"Hadamard": library.HGate, "S": library.SGate, "T": library.TGate, "SX": library.SXGate},
    **{"Adjoint(S)": library.SdgGate, "Adjoint(T)": library.TdgGate},
    **{"Adjoint(SX)": library.SXdgGate},
    **{"RX": library.RXGate, "RY": library.RYGate, "RZ": library.RZGate},
    **{"PhaseShift": library.PhaseGate, "U1": library.U1Gate},
    **{"U2": library.U2Gate, "U3": library.U3Gate},
    **{"CNOT": library.CXGate, "CY": library.CYGate, "CZ": library.CZGate, "CH": library.CHGate},
    **{"SWAP": library.SwapGate, "ISWAP": library.iSwapGate, "ECR": library.ECRGate},
    **{"IsingXX": library.RXXGate, "IsingYY": library.RYYGate, "IsingZZ": library.RZZGate},
    **{"Toffoli": library.CCXGate, "CCZ": library.CCZGate, "CSWAP": library.CSwapGate},
    "QubitUnitary": library.UnitaryGate,
}
# Gates whose decompositions contain matrices that depend on the angle.
_SPECIAL = (Controlled, ControlledOp)


def translate(
    circuit: Circuit,
    wires: Sequence,
    after: Sequence[Operator] = (),
    native: Conditional | None = None,
) -> QuantumCircuit:
    """Returns the gates of a circuit as a Qiskit circuit, wire ``wires[i]`` as qubit i.

    Args:
        circuit: The circuit, with P parameters.
        wires: The order of the circuit's wires.
        after: Constant gates to add at the end.
        native: The circuit with measurements and conditions, if the backend runs them.

    Returns:
        A circuit with Qiskit parameters ``p0`` ... for the columns of a point. Columns that no gate
        depends on have no parameter.

    Raises:
        UnsupportedError: For a gate that Qiskit cannot run with parameters that change.
    """
    qubit = {wire: i for i, wire in enumerate(wires)}
    result = QuantumCircuit(len(wires))
    if native is not None:
        circuit = native.circuit
        result.add_register(ClassicalRegister(native.bits, "conditions"))
    columns = [Parameter(f"p{i}") for i in range(circuit.num_parameters)]
    circuit = replace(circuit, operations=(*circuit.operations, *after))
    for position in range(len(circuit.operations)):
        if native is not None:
            for wire, bit in native.measured.get(position, ()):
                result.measure(qubit[wire], bit)
            if position in native.replaced:
                continue
        gates = list(_translated(circuit, position, columns))
        given = native.conditions.get(position, ()) if native and gates else ()
        bits = [(result.clbits[bit], value) for bit, value in given]
        with result.if_test(_all(bits)) if bits else nullcontext():
            for name, on, arguments in gates:
                qubits = [qubit[wire] for wire in on]
                if name == "Barrier":
                    result.barrier(qubits)
                elif name == "QubitUnitary":  # Qiskit's first qubit is the least significant one
                    result.append(GATES[name](*arguments), qubits[::-1])
                else:
                    result.append(GATES[name](*arguments), qubits)
    return result


def _all(bits: Sequence[tuple[Clbit, bool]]) -> Any:
    """Returns the condition that each bit has its value. Backends have no conditions in others."""
    if len(bits) == 1:
        return bits[0]
    each = [expr.lift(bit) if value else expr.logic_not(bit) for bit, value in bits]
    return reduce(expr.logic_and, each)


def column(parameter: str) -> int:
    """Returns the column of a point that the name of a parameter of `translate` stands for."""
    return int(parameter[1:])


def _translated(circuit: Circuit, position: int, columns: Sequence[Any]) -> Iterator[tuple]:
    """Yields (name, wires, arguments of the Qiskit gate) for the parts of one gate.

    The angles of the parts are affine functions of the gate's angles. These functions are found by
    decomposing the gate at some angles, so that PennyLane's decompositions never get a symbol.
    """
    slots = circuit.slots_by_operation.get(position, [])
    for slot in slots:
        if slot.shape:
            raise UnsupportedError(
                f"Parameter {slot.parameter} of {slot.gate} is a tensor of shape {slot.shape}, but "
                "circuits for Qiskit's primitives have numbers as parameters only. Pass a NumPy "
                "array, which is a constant of the circuit, or prepare the state and write the "
                "unitary with rotations (such as qml.MottonenStatePreparation of a constant)."
            )
    own = [slot.start for slot in slots]
    # Angles are in units in which the largest frequency of each is one.
    units = np.array([largest_frequency(slot.spectrum) or 1.0 for slot in slots])
    probes = _probes(len(own))
    points = np.zeros((len(probes), circuit.num_parameters))
    points[:, own] = probes / units
    versions = []
    for point in points:
        with qml.QueuingManager.stop_recording():
            versions.append(list(_parts(circuit.bound(position, point[None]), bool(own))))
    gate = circuit.operations[position].name
    for same in _aligned(versions, gate):
        arguments: list[Any] = []
        for values in zip(*(part.data for part in same), strict=True):
            if np.ndim(values[0]):
                if not all(np.array_equal(values[0], value) for value in values[1:]):
                    raise _no_gates(gate)
                arguments.append(np.asarray(values[0]))
                continue
            offset, slopes = _affine(probes, np.array(values, dtype=float), gate)
            terms = [
                columns[i] if slope == 1.0 else slope * columns[i]
                for i, slope in zip(own, (slopes * units).tolist(), strict=True)
                if slope
            ]
            arguments.append(sum(terms[1:], terms[0]) + offset if terms else offset)
        yield same[0].name, same[0].wires, arguments


def _parts(op: Operator, moving: bool) -> Iterator[Operator]:
    """Decomposes a gate into those that Qiskit has.

    Args:
        op: The gate.
        moving: Whether the gate's angles change, so that matrices of parts must not depend on them.
    """
    name = standard_name(op)
    if name in _NOTHING:
        return
    if name in GATES or name == "Barrier":
        yield op
        return
    found = None
    if moving and (type(op) in _SPECIAL or not has_decomposition(op)):
        found = _rotations(op)
    if found is None:
        found = parts(op)
    if found is None and has_decomposition(op):
        found = op.decomposition()
    if found is not None:
        for part in found:
            yield from _parts(part, moving)
    elif op.has_matrix and len(op.wires) <= _WIDEST_MATRIX:
        yield qml.QubitUnitary(op.matrix(), wires=op.wires)
    elif isinstance(op, Channel):
        raise UnsupportedError(
            f"{op.name} is a noise channel, and Qiskit's primitives run gates only. Use "
            'qshift.device("mixed"), which has density matrices, or backend= with a simulator of '
            "Aer's that has your noise model."
        )
    else:
        raise UnsupportedError(
            f"{op.name} on {len(op.wires)} wires has no Qiskit gate, and PennyLane knows neither a "
            f"decomposition nor a matrix of up to {_WIDEST_MATRIX} wires for it. Write the gates "
            "it stands for, or use a simulator that has it (qshift devices lists them)."
        )


def _rotations(op: Operator) -> list[Operator] | None:
    """Writes exp(i x G) as Pauli rotations, if the words of G commute."""
    if len(op.data) != 1 or np.iscomplexobj(op.data[0]) or not op.has_generator:
        return None  # the parameter of an Exp is i x
    generator = qml.generator(op, format="observable")
    sentence = generator.pauli_rep
    if sentence is None:
        if len(op.wires) > _WIDEST_MATRIX:
            return None
        matrix = qml.matrix(generator, wire_order=op.wires)
        sentence = decompose(matrix, op.wires)
    words = [word for word in sentence if len(word)]
    if not all(a.commutes_with(b) for a, b in combinations(words, 2)):
        return None
    return [
        qml.PauliRot(-2 * np.real(sentence[word]) * op.data[0], "".join(word.values()), list(word))
        for word in words
    ]


def _no_gates(gate: str) -> UnsupportedError:
    return UnsupportedError(
        f"{gate} has a parameter that changes, but no Qiskit gate, nor a PennyLane decomposition "
        "into rotations by linear functions of it. Write the gates it stands for (for an Evolution "
        "qml.TrotterProduct or qml.PauliRot), or use a simulator that has it (qshift devices)."
    )


def _probes(count: int) -> np.ndarray:
    """Returns angles to decompose a gate at: float64[1 + count + 2, count], or [1, 0].

    The points are a generic one, one step from it along each axis, and two more for a check.
    """
    if not count:
        return np.zeros((1, 0))
    base, *checks = np.random.default_rng(0).uniform(0.2, 0.6, size=(3, count))
    return np.array([base, *(base + np.eye(count)), *checks])


def _aligned(versions: Sequence[Sequence[Operator]], gate: str) -> Iterator[tuple]:
    """Yields, for each part of a gate, its versions at all probes."""
    if len({tuple((part.name, part.wires) for part in parts) for parts in versions}) > 1:
        raise _no_gates(gate)
    yield from zip(*versions, strict=True)


def _affine(probes: np.ndarray, values: np.ndarray, gate: str) -> tuple[float, np.ndarray]:
    """Returns (offset, slopes) of the affine function that has these values at the probes."""
    count = probes.shape[1]
    slopes = _tidy(values[1 : count + 1] - values[0])
    offset = _tidy(values[0] - slopes @ probes[0]) if slopes.any() else values[0]
    if not np.allclose(offset + probes @ slopes, values, rtol=0, atol=1e-10):
        raise _no_gates(gate)
    return float(offset), slopes


def _tidy(numbers: Any) -> np.ndarray:
    """Removes rounding errors from numbers that are simple fractions, such as 1/8."""
    rounded = np.round(numbers, 6) + 0.0
    return np.where(np.abs(numbers - rounded) < 1e-13, rounded, numbers)
