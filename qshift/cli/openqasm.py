"""OpenQASM 2 and 3 circuits as quantum functions.

- Qubits become wires in the order in which the text declares them. An observable is a sum of Pauli
  words with real coefficients; the leftmost letter of a word acts on wire 0, and each word has one
  letter per qubit. Measurements at the end of the circuit are dropped, resets at its start and
  delays as well.
- The parameters of an OpenQASM 3 circuit are its ``input float`` and ``input angle`` declarations,
  in their order. OpenQASM 2 has no inputs, so there the angles written in the text are the
  parameters, in their order, and their written values the point to start from. A gate on a whole
  register counts once for each qubit.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from qshift.cli.openqasm_definitions import linear_definition
from qshift.errors import OpenQASMError
from qshift.extras import require

if TYPE_CHECKING:
    import pennylane as qml
    from qiskit import QuantumCircuit
    from qiskit.circuit import Operation


def read(
    text: str, observable: str, name: str = "circuit"
) -> tuple[Callable, dict[str, float | None]]:
    """Makes a quantum function that runs an OpenQASM circuit and measures an observable.

    Args:
        text: The OpenQASM program.
        observable: A sum of Pauli words; see `parse_observable`.
        name: What error messages call the circuit.

    Returns:
        The quantum function, which takes its angles as keyword arguments, one by one, and these
        arguments: name -> value written in the text (OpenQASM 2), or None (OpenQASM 3).

    Raises:
        OpenQASMError: The circuit or the observable cannot be read, or the circuit has something
            that is neither a gate nor a measurement at its end.
        MissingExtraError: The packages that read OpenQASM are not installed.
    """
    require("qasm", "Reading OpenQASM")
    import pennylane as qml
    import sympy
    from qiskit.circuit import Parameter, ParameterExpression

    text = text.removeprefix("\ufeff")  # the byte order mark of some editors
    load = _load2 if _version(text, name) == 2 else _load3
    circuit, inputs, values = load(text, name)
    measured = parse_observable(observable, circuit.num_qubits)
    symbols = sympy.symbols(f"x:{len(inputs)}")
    plain = {p: Parameter(x.name) for p, x in zip(inputs.values(), symbols, strict=True) if p}

    def symbolic(angle: Any) -> Any:
        # By way of its text: in Qiskit 2.3, `sympify` has b - a/2 as a/2 - b.
        return sympy.sympify(str(angle.subs({p: plain[p] for p in angle.parameters})))

    gates, expressions = [], []
    for gate, parameters, wires in _gates(circuit, name):
        varies = [isinstance(p, ParameterExpression) and bool(p.parameters) for p in parameters]
        expressions += [symbolic(p) for p, v in zip(parameters, varies, strict=True) if v]
        known = [None if v else float(p) for p, v in zip(parameters, varies, strict=True)]
        gates.append((gate, known, wires))
    evaluate = sympy.lambdify(symbols, expressions, "tensorflow")

    def function(**angles: Any) -> Any:
        varying = iter(evaluate(*(qml.math.reshape(angles[label], ()) for label in inputs)))
        for gate, parameters, wires in gates:
            gate(*(next(varying) if p is None else p for p in parameters), wires=wires)
        return qml.expval(measured)

    return function, dict(zip(inputs, values, strict=True))


def _version(text: str, name: str) -> int:
    """Returns the version that a program states, or else the one that it looks like."""
    uncommented = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    if not uncommented.strip():
        raise OpenQASMError(f"{name} is empty; expected an OpenQASM program")
    if stated := re.match(r"\s*OPENQASM\s+(\d+)", uncommented):
        if stated[1] not in ("2", "3"):
            raise OpenQASMError(f"{name} is OpenQASM {stated[1]}; expected OpenQASM 2 or 3")
        return int(stated[1])
    return 2 if re.search(r'\b[qc]reg\b|"qelib1\.inc"', uncommented) else 3


def _load2(text: str, name: str) -> tuple[QuantumCircuit, dict[str, Any], list[float]]:
    """Returns a circuit in which written angles are parameters, label -> parameter, and the values
    of the angles."""
    from qiskit import QuantumCircuit, qasm2
    from qiskit.circuit import Parameter

    try:
        try:
            circuit = qasm2.loads(text)
        except qasm2.QASM2ParseError:
            # Many files use gates that earlier releases of Qiskit had in their qelib1.inc.
            legacy = qasm2.LEGACY_CUSTOM_INSTRUCTIONS
            circuit = qasm2.loads(text, custom_instructions=legacy)
    except qasm2.QASM2ParseError as error:
        where = error.message.replace("<input>:", f"{name}, line ")
        raise OpenQASMError(f"not valid OpenQASM 2: {where}") from error
    free = QuantumCircuit(circuit.qubits, circuit.clbits)
    inputs: dict[str, Parameter] = {}
    values: list[float] = []
    for instruction in circuit.data:
        operation = instruction.operation
        wires = ",".join(str(circuit.find_bit(qubit).index) for qubit in instruction.qubits)
        if operation.params and all(isinstance(value, float) for value in operation.params):
            count = range(len(values), len(values) + len(operation.params))
            labels = [f"{k}:{operation.name}({wires})" for k in count]
            inputs |= {label: Parameter(label) for label in labels}
            values += operation.params
            operation.params = [inputs[label] for label in labels]
        # A copy of a gate that the file defines would lose the definition's dependence on angles.
        free.append(operation, instruction.qubits, instruction.clbits, copy=False)
    return free, inputs, values


def _load3(text: str, name: str) -> tuple[QuantumCircuit, dict[str, Any], list[None]]:
    """Returns a circuit, its inputs (name -> parameter, or None if unused), and no values."""
    import openqasm3
    import qiskit_qasm3_import

    from qshift.cli.openqasm_loops import written_out

    complaints = io.StringIO()  # the parser prints its messages, and raises an error without them
    try:
        with contextlib.redirect_stderr(complaints):
            tree = openqasm3.parse(text)
        tree = written_out(tree, name)
        circuit = qiskit_qasm3_import.convert(tree)
    except openqasm3.parser.QASM3ParsingError as error:
        reason = str(error) or complaints.getvalue().strip() or "it ends within a statement"
        raise OpenQASMError(f"{name} is not valid OpenQASM: {reason}") from error
    except qiskit_qasm3_import.ConversionError as error:
        raise OpenQASMError(f"{name} cannot be read: line {error}") from error
    except OpenQASMError:
        raise
    except Exception as error:  # the converter may raise any error
        raise OpenQASMError(f"{name} cannot be read: {error}") from error
    declared = [
        statement.identifier.name
        for statement in tree.statements
        if isinstance(statement, openqasm3.ast.IODeclaration)
        and statement.io_identifier is openqasm3.ast.IOKeyword.input
    ]
    used = {parameter.name: parameter for parameter in circuit.parameters}
    return circuit, {label: used.get(label) for label in declared}, [None] * len(declared)


def _gates(circuit: QuantumCircuit, name: str) -> Iterator[tuple[Callable, Sequence, list[int]]]:
    """Yields (PennyLane gate, parameters, wires); measurements have to be at the end.

    Gates that PennyLane lacks come as their definition. Global phases are left out: no expectation
    value depends on them.
    """
    from qiskit.circuit import Delay

    measured: set[int] = set()
    touched: set[int] = set()  # the qubits that a gate has acted on

    def walk(circuit: Any, wires: Any) -> Iterator[Any]:
        for instruction in circuit.data:
            operation = instruction.operation
            on = [wires[circuit.find_bit(qubit).index] for qubit in instruction.qubits]
            gate = _gate_table().get(operation.name)
            # A file may define a gate under a standard name: its own definition counts.
            standard = operation.base_class.__module__.startswith("qiskit.circuit.library.")
            if operation.name in ("barrier", "id", "u0", "global_phase"):
                continue
            if isinstance(operation, Delay):
                continue
            if operation.name == "reset" and not touched.intersection(on) and not measured:
                continue
            if operation.name == "measure":
                measured.update(on)
            elif operation.name == "box":
                yield from walk(operation.blocks[0], on)
            elif gate is None or not standard:
                yield from walk(_definition(operation, name), on)
            elif measured.intersection(on):
                raise OpenQASMError(
                    f"{name}: wire {min(measured.intersection(on))} is measured before its last "
                    "gate; from OpenQASM only measurements at the end can be read, and they are "
                    "dropped. Write the circuit as a Python function with qml.measure instead"
                )
            else:
                touched.update(on)
                yield gate, operation.params, on

    return walk(circuit, range(circuit.num_qubits))


def _definition(operation: Operation, name: str) -> QuantumCircuit:
    """Returns the circuit that an operation stands for."""
    try:
        definition = getattr(operation, "definition", None)
    except TypeError as error:  # Qiskit cannot apply OpenQASM 2's sin, sqrt, ... to a parameter,
        definition = linear_definition(operation)  # and from 2.6 on no expression at all.
        if definition is None:
            raise OpenQASMError(
                f"{name}: gate {operation.name!r} uses its angle in a function such as sin; write "
                "the function's value in its place, or write the circuit as a Python function"
            ) from error
    if definition is None:
        raise OpenQASMError(
            f"{name}: {operation.name!r} is not a gate; only gates, loops, resets at the start, "
            "and measurements at the end can be read from OpenQASM. Write the circuit as a Python "
            "function instead"
        )
    return definition


@cache
def _gate_table() -> dict[str, Callable]:
    """Returns PennyLane's gate for each Qiskit name that means the same up to a global phase."""
    import pennylane as qml

    return {
        **{"x": qml.X, "y": qml.Y, "z": qml.Z, "h": qml.Hadamard},
        **{"s": qml.S, "sdg": qml.adjoint(qml.S), "t": qml.T, "tdg": qml.adjoint(qml.T)},
        **{"sx": qml.SX, "sxdg": qml.adjoint(qml.SX)},
        **{"rx": qml.RX, "ry": qml.RY, "rz": qml.RZ, "p": qml.PhaseShift, "u1": qml.PhaseShift},
        **{"u2": qml.U2, "u3": qml.U3, "u": qml.U3},
        **{"cx": qml.CNOT, "cy": qml.CY, "cz": qml.CZ, "ch": qml.CH},
        **{"crx": qml.CRX, "cry": qml.CRY, "crz": qml.CRZ},
        **{"cp": qml.ControlledPhaseShift, "cu1": qml.ControlledPhaseShift},
        **{"swap": qml.SWAP, "iswap": qml.ISWAP, "ecr": qml.ECR},
        **{"rxx": qml.IsingXX, "ryy": qml.IsingYY, "rzz": qml.IsingZZ},
        **{"ccx": qml.Toffoli, "ccz": qml.CCZ, "cswap": qml.CSWAP},
    }


_TERM = re.compile(
    r"\s*(?P<signs>[+-][+\-\s]*)?"
    r"(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*?\s*)?"
    r"(?P<word>[A-Za-z]+)\s*(?=[+-]|$)"
)


def parse_observable(text: str, qubits: int) -> qml.operation.Operator:
    """Reads a sum of Pauli words, such as ``"ZZ + 0.5 XI - 1e-3*YY"``.

    Args:
        text: Words over I, X, Y, Z, one letter per qubit, the leftmost on wire 0, each with an
            optional real coefficient.
        qubits: The number of letters that each word must have.

    Raises:
        OpenQASMError: A term cannot be read; the message names it.
    """
    import pennylane as qml

    def fail(reason: str) -> NoReturn:
        raise OpenQASMError(f"observable {text!r}: {reason}")

    coefficients: dict[str, float] = {}
    position = 0
    while position < len(text) or not coefficients:
        term = _TERM.match(text, position)
        if term is None or (position > 0 and term["signs"] is None):
            found = re.match(r"\s*[+\-\s]*[^+\-]*", text[position:])
            rest = (found[0].strip() if found else "") or text
            fail(
                f"cannot read the term {rest!r}; expected a real coefficient and a Pauli word, as "
                "in 'ZZ + 0.5 XI'"
            )
        word = term["word"]
        if set(word) - set("IXYZ"):
            fail(f"the word {word!r} has letters other than I, X, Y and Z")
        if len(word) != qubits:
            fail(
                f"the word {word!r} has {len(word)} letters, but the circuit has {qubits} qubits; "
                "write I for qubits that a word leaves alone"
            )
        sign = (-1) ** (term["signs"] or "").count("-")
        coefficients[word] = coefficients.get(word, 0.0) + sign * float(term["number"] or 1)
        position = term.end()
    words = [qml.pauli.string_to_pauli_word(word) for word in coefficients]
    if list(coefficients.values()) == [1.0]:
        return words[0]
    return qml.Hamiltonian(list(coefficients.values()), words)
