"""Programs: circuits from files, for the command line.

``load("energy.py:cost")`` takes a quantum function (or a QNode) out of a Python file, and
``load("ansatz.qasm", observable="ZZ + 0.5 XI")`` makes one from an OpenQASM 2 or 3 file:

- Qubits become wires in the order in which the file declares them. An observable is a sum of Pauli
  words with real coefficients; the leftmost letter of a word acts on wire 0, and each word has one
  letter per qubit. Measurements at the end of the circuit are dropped.
- The parameters of an OpenQASM 3 circuit are its ``input float`` and ``input angle`` declarations,
  in their order. OpenQASM 2 has no inputs, so there the angles written in the file are the
  parameters, in their order, and their written values the point to start from. A gate on a whole
  register counts once for each qubit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from qshift.errors import QShiftError

if TYPE_CHECKING:
    import pennylane as qml
    from qiskit import QuantumCircuit
    from qiskit.circuit import Operation


class ProgramError(QShiftError, ValueError):
    """A file, function, observable or list of parameters that does not make a program."""


@dataclass(frozen=True)
class Program:
    """A quantum function and what is known of its arguments.

    Attributes:
        name: Where it is from, e.g. ``"energy.py:cost"``.
        function: A quantum function, which queues gates and returns PennyLane measurements, or a
            PennyLane QNode.
        parameters: For OpenQASM: the names of the entries of its one vector argument.
        start: For OpenQASM 2: the angles written in the file, float64[P].
    """

    name: str
    function: Callable
    parameters: tuple[str, ...] | None = None
    start: np.ndarray | None = None

    @property
    def quantum_function(self) -> Callable:
        """The quantum function itself, also when ``function`` is a QNode."""
        return getattr(self.function, "func", self.function)

    def arguments(self, texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Reads the values of the arguments from what was written on a command line.

        Args:
            texts: One text per argument: ``"0.3"`` is a number, ``"0.1,0.2"`` a vector, ``"0.1,"``
                a vector of one; or the path of a ``.npy``, ``.npz`` or ``.json`` file. Files with
                names in them (``.npz``, JSON objects) give arguments by name. One vector for a
                function of several arguments is dealt out, a number to each.

        Returns:
            Name -> value of the arguments, in their order: float64 arrays of any shape.

        Raises:
            ProgramError: A text or file cannot be read, or the arguments are not those of the
                function.
        """
        named: dict[str, np.ndarray] = {}
        listed: list[np.ndarray] = []
        for text in texts:
            value = _read_values(text)
            if isinstance(value, dict):
                named |= value
            else:
                listed.append(value)
        if self.parameters is not None:
            return {"x": self._vector(listed, named)}
        signature = inspect.signature(self.quantum_function)
        names = [n for n, p in signature.parameters.items() if p.default is p.empty]
        if not (listed or named) and names:
            raise ProgramError(
                f"{self.name} needs values for {_count(names)}: give --params, once per argument "
                "(--params 0.1,0.2 is a vector, --params 0.1 a number) or as a .json, .npy or "
                ".npz file"
            )
        if len(listed) == 1 < len(names) == listed[0].size and not named:
            listed = list(listed[0].ravel())
        try:
            bound = signature.bind(*listed, **named)
        except TypeError as error:
            given = f"{len(listed)} in order" + (f" and {', '.join(named)}" if named else "")
            raise ProgramError(
                f"{self.name} takes {_count(list(signature.parameters))}, but --params gave "
                f"{given}: {error}"
            ) from None
        if bound.kwargs:
            raise ProgramError(
                f"{self.name}: {', '.join(bound.kwargs)} can only be passed by keyword; "
                "derivatives need positional arguments"
            )
        given: dict[str, np.ndarray] = {}
        for name, value in bound.arguments.items():
            if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
                given |= {f"{name}{i}": each for i, each in enumerate(value)}
            else:
                given[name] = value
        return given

    def _vector(self, listed: list[np.ndarray], named: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the one vector of an OpenQASM program's parameters."""
        unknown = sorted(set(named) - set(self.parameters))
        if unknown:
            raise ProgramError(
                f"{self.name} has no parameter {unknown[0]!r}; it has {_count(self.parameters)}"
            )
        if named:
            listed = [*listed, *(named[name] for name in self.parameters if name in named)]
        elif not listed and self.start is not None:
            return self.start
        vector = np.concatenate([np.ravel(value) for value in listed] or [np.empty(0)])
        if len(vector) != len(self.parameters):
            raise ProgramError(
                f"{self.name} has {_count(self.parameters)}, but --params gave {len(vector)}"
            )
        return vector

    def check(self, *args) -> None:
        """Runs the quantum function once, without executing a circuit, to see that it is one.

        Raises:
            ProgramError: It raises an error for these arguments, or returns no measurement.
        """
        from pennylane.measurements import MeasurementProcess
        from pennylane.queuing import AnnotatedQueue

        try:
            with AnnotatedQueue():
                result = self.quantum_function(*args)
        except Exception as error:
            shapes = ", ".join(str(tuple(np.shape(value))) for value in args) or "none"
            raise ProgramError(
                f"{self.name} fails for arguments of shapes {shapes}: {_describe(error)}"
            ) from error
        results = list(result.values()) if isinstance(result, dict) else result
        results = results if isinstance(results, list | tuple) else [results]
        if not results or not all(isinstance(each, MeasurementProcess) for each in results):
            raise ProgramError(
                f"{self.name} returns {type(result).__name__}, expected a PennyLane measurement "
                "or several, such as qml.expval(...)"
            )


def load(target: str, observable: str | None = None) -> Program:
    """Loads a program.

    Args:
        target: ``FILE.py:FUNCTION``, or the path of an OpenQASM file.
        observable: What to measure after an OpenQASM circuit, such as ``"ZZ + 0.5 XI"``.

    Raises:
        ProgramError: The file or function is missing or cannot be loaded, or the observable is
            missing, not needed or not readable.
    """
    path, separator, function = target.rpartition(":")
    if not (separator and function.isidentifier()):
        path, function = target, ""
    file = Path(path).expanduser()
    if not file.is_file():
        siblings = [each.name for each in file.parent.glob("*")]
        near = get_close_matches(file.name, siblings, n=1)
        hint = f"; did you mean {file.parent / near[0]}?" if near else ""
        raise ProgramError(f"{file}: no such file{hint}")
    if file.suffix == ".py":
        if observable is not None:
            raise ProgramError(
                f"{target}: --observable is for OpenQASM files; a Python function returns its own "
                "measurement"
            )
        return Program(f"{file.name}:{function}", _from_module(file, function))
    if function:
        raise ProgramError(f"{target}: an OpenQASM file has no functions; give {file} alone")
    if observable is None:
        raise ProgramError(f'{file}: give what to measure, such as --observable "ZZ + 0.5 XI"')
    return from_openqasm(file.read_text(encoding="utf-8"), observable, file.name)


# Python files


def _from_module(file: Path, name: str) -> Callable:
    """Imports a Python file and returns one of its callables."""
    module_name = f"qshift_program_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    # As when the file is run as a script, so that it can import its neighbours.
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ProgramError(f"{file} cannot be imported: {_describe(error, file)}") from error
    found = getattr(module, name, None) if name else None
    if callable(found):
        return found
    names = _functions(module)
    has = f"it has {', '.join(names)}" if names else "it has none"
    if not name:
        example = names[0] if names else "FUNCTION"
        raise ProgramError(f"{file}: name the function, as in {file}:{example}; {has}")
    if found is not None:
        raise ProgramError(f"{file}: {name} is a {type(found).__name__}, not a function; {has}")
    near = get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ProgramError(f"{file} has no function {name!r}{hint}; {has}")


def _functions(module: ModuleType) -> list[str]:
    """Returns the names of the functions and QNodes that a module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if getattr(getattr(value, "func", value), "__module__", None) == module.__name__
        and callable(value)
        and not inspect.isclass(value)
    ]


def _describe(error: BaseException, file: Path | None = None) -> str:
    """Returns "NameError: ... (line 3)", the line being the innermost one in the user's file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if file is None or Path(f.filename) == file]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    where = f" (line {lines[-1]})" if lines and file is not None else ""
    return f"{type(error).__name__}: {getattr(error, 'msg', None) or error}{where}"


# Values of parameters


def _read_values(text: str) -> np.ndarray | dict[str, np.ndarray]:
    """Reads numbers from a text, or from the file it names."""
    file = Path(text).expanduser()
    try:
        if file.suffix == ".json":
            value = json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix in (".npy", ".npz"):
            value = np.load(file, allow_pickle=False)
        else:
            entries = [entry for entry in text.split(",") if entry.strip()]
            value = [float(entry) for entry in entries]
            value = value if "," in text else value[0]
        if hasattr(value, "keys"):
            return {name: _finite(value[name]) for name in value.keys()}  # noqa: SIM118 (NpzFile)
        return _finite(value)
    except OSError as error:
        raise ProgramError(f"--params {text}: {error.strerror or error}") from error
    except (ValueError, TypeError, IndexError) as error:
        raise ProgramError(
            f"--params {text}: expected numbers like 0.1,0.2 or a .json, .npy or .npz file of "
            f"numbers ({error})"
        ) from error


def _finite(value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=float)
    if not np.all(np.isfinite(array)):
        raise ValueError("not every number is finite")
    return array


def _count(names: Sequence[str]) -> str:
    """Returns "2 parameters (x, y)"."""
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} parameter{plural}" + (f" ({shown})" if names else "")


# Observables

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
        ProgramError: A term is not readable; it is named.
    """
    import pennylane as qml

    coefficients: dict[str, float] = {}
    position = 0
    while position < len(text) or not coefficients:
        term = _TERM.match(text, position)
        if term is None or (position > 0 and term["signs"] is None):
            rest = re.match(r"\s*[+\-\s]*[^+\-]*", text[position:])[0].strip() or text
            raise ProgramError(
                f"observable {text!r}: cannot read the term {rest!r}; expected a real coefficient "
                "and a Pauli word, as in 'ZZ + 0.5 XI'"
            )
        word = term["word"]
        if set(word) - set("IXYZ"):
            raise ProgramError(
                f"observable {text!r}: the word {word!r} has letters other than I, X, Y and Z"
            )
        if len(word) != qubits:
            raise ProgramError(
                f"observable {text!r}: the word {word!r} has {len(word)} letters, but the circuit "
                f"has {qubits} qubits; write I for qubits that a word leaves alone"
            )
        sign = (-1) ** (term["signs"] or "").count("-")
        value = sign * float(term["number"] or 1)
        coefficients[word] = coefficients.get(word, 0.0) + value
        position = term.end()
    words = [qml.pauli.string_to_pauli_word(word) for word in coefficients]
    if list(coefficients.values()) == [1.0]:
        return words[0]
    return qml.Hamiltonian(list(coefficients.values()), words)


# OpenQASM


def from_openqasm(text: str, observable: str, name: str = "circuit") -> Program:
    """Makes a program that runs an OpenQASM 2 or 3 circuit and measures an observable.

    Args:
        text: The OpenQASM program.
        observable: A sum of Pauli words; see :func:`parse_observable`.
        name: What error messages call it.

    Returns:
        A program of one vector argument, with an entry per parameter.

    Raises:
        ProgramError: The circuit or the observable cannot be read, or the circuit has something
            that is neither a gate nor a measurement at its end.
    """
    import pennylane as qml

    uncommented = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    version = re.match(r"\s*OPENQASM\s+(\d+)", uncommented)
    read = _read_openqasm2 if version and version[1] == "2" else _read_openqasm3
    circuit, inputs, start = read(text, name)
    measured = parse_observable(observable, circuit.num_qubits)
    steps, evaluate = _compile(circuit, inputs, name)

    def function(x):
        angles = iter(evaluate(*(x[i] for i in range(len(inputs)))))
        for gate, parameters, wires in steps:
            gate(*(next(angles) if p is None else p for p in parameters), wires=wires)
        return qml.expval(measured)

    return Program(name, function, tuple(inputs), start)


def _read_openqasm2(text: str, name: str) -> tuple[QuantumCircuit, dict[str, Any], np.ndarray]:
    """Returns a circuit whose written angles are free, name -> parameter, and the angles."""
    from qiskit import QuantumCircuit, qasm2
    from qiskit.circuit import Parameter

    try:
        try:
            circuit = qasm2.loads(text)
        except qasm2.QASM2ParseError:
            # Many files use gates that Qiskit used to have in its qelib1.inc.
            legacy = qasm2.LEGACY_CUSTOM_INSTRUCTIONS
            circuit = qasm2.loads(text, custom_instructions=legacy)
    except qasm2.QASM2ParseError as error:
        where = error.message.replace("<input>:", f"{name}, line ")
        raise ProgramError(f"not valid OpenQASM 2: {where}") from error
    free = QuantumCircuit(circuit.qubits, circuit.clbits)
    inputs: dict[str, Parameter] = {}
    start: list[float] = []
    for instruction in circuit.data:
        operation = instruction.operation
        wires = ",".join(str(circuit.find_bit(qubit).index) for qubit in instruction.qubits)
        if operation.params and all(isinstance(value, float) for value in operation.params):
            count = range(len(start), len(start) + len(operation.params))
            labels = [f"{k}:{operation.name}({wires})" for k in count]
            inputs |= {label: Parameter(label) for label in labels}
            start += operation.params
            operation.params = [inputs[label] for label in labels]
        # A copy of a gate that the file defines would lose the definition's dependence on angles.
        free.append(operation, instruction.qubits, instruction.clbits, copy=False)
    return free, inputs, np.array(start)


def _read_openqasm3(text: str, name: str) -> tuple[QuantumCircuit, dict[str, Any], None]:
    """Returns a circuit, its declared inputs by name in their order, and no values for them."""
    import openqasm3
    import qiskit_qasm3_import

    complaints = io.StringIO()  # The parser prints what it does not like, and raises without it.
    try:
        with contextlib.redirect_stderr(complaints):
            tree = openqasm3.parse(text)
        circuit = qiskit_qasm3_import.convert(tree)
    except openqasm3.parser.QASM3ParsingError as error:
        reason = str(error) or complaints.getvalue().strip()
        raise ProgramError(f"{name} is not valid OpenQASM: {reason}") from error
    except qiskit_qasm3_import.ConversionError as error:
        raise ProgramError(f"{name} cannot be read: line {error}") from error
    declared = [
        statement.identifier.name
        for statement in tree.statements
        if isinstance(statement, openqasm3.ast.IODeclaration)
        and statement.io_identifier is openqasm3.ast.IOKeyword.input
    ]
    used = {parameter.name: parameter for parameter in circuit.parameters}
    inputs = {each: used.get(each) for each in declared}
    return circuit, inputs, None


def _compile(circuit: QuantumCircuit, inputs: dict[str, Any], name: str) -> tuple[list, Callable]:
    """Splits a circuit into its gates and the function that gives their angles.

    Args:
        circuit: A Qiskit circuit.
        inputs: Name -> Qiskit parameter, or None for one that the circuit does not use.
        name: What error messages call it.

    Returns:
        ``[(PennyLane gate, parameters, wires), ...]``, where None stands for a parameter that
        depends on the inputs, and the function of the inputs that returns these in their order.
    """
    import sympy
    from qiskit.circuit import ParameterExpression

    steps, expressions = [], []
    measured: set[int] = set()
    for gate, parameters, wires in _gates(circuit, range(circuit.num_qubits), name):
        if gate is None:
            measured.update(wires)
            continue
        if measured.intersection(wires):
            raise ProgramError(
                f"{name}: wire {min(measured.intersection(wires))} is measured before its last "
                "gate; from OpenQASM only measurements at the end can be read, and they are "
                "dropped. Write the circuit as a Python function with qml.measure instead"
            )
        varying = [isinstance(p, ParameterExpression) and bool(p.parameters) for p in parameters]
        expressions += [p for p, varies in zip(parameters, varying, strict=True) if varies]
        known = [None if v else float(p) for p, v in zip(parameters, varying, strict=True)]
        steps.append((gate, known, wires))
    symbols = [sympy.Dummy() if p is None else p.sympify() for p in inputs.values()]
    return steps, sympy.lambdify(symbols, [e.sympify() for e in expressions], "tensorflow")


def _gates(circuit: QuantumCircuit, wires: Sequence[int], name: str) -> Iterator[tuple]:
    """Yields (PennyLane gate, parameters, wires), and (None, [], wires) for a measurement.

    Gates that PennyLane lacks come as their definition. Global phases are left out: no expectation
    value depends on them.
    """
    table = _gate_table()
    for instruction in circuit.data:
        operation = instruction.operation
        on = [wires[circuit.find_bit(qubit).index] for qubit in instruction.qubits]
        # A file may define a gate under a name of the standard library: its own definition counts.
        standard = operation.base_class.__module__.startswith("qiskit.circuit.library.")
        if operation.name in ("barrier", "id", "u0", "global_phase"):
            continue
        if operation.name == "measure":
            yield None, [], on
        elif standard and operation.name in table:
            yield table[operation.name], operation.params, on
        elif operation.name == "for_loop":
            values, variable, body = operation.params
            for value in values:
                bound = {} if variable is None else {variable: value}
                yield from _gates(body.assign_parameters(bound, strict=False), on, name)
        else:
            yield from _gates(_definition(operation, name), on, name)


def _definition(operation: Operation, name: str) -> QuantumCircuit:
    """Returns the circuit that an operation stands for."""
    try:
        definition = getattr(operation, "definition", None)
    except TypeError as error:  # Qiskit cannot apply OpenQASM 2's sin, sqrt, ... to a parameter.
        raise ProgramError(
            f"{name}: gate {operation.name!r} uses its angle in a function such as sin; write the "
            "function's value in its place, or write the circuit as a Python function"
        ) from error
    if definition is None:
        raise ProgramError(
            f"{name}: {operation.name!r} is not a gate; only gates, loops, and measurements at the "
            "end can be read from OpenQASM. Write the circuit as a Python function instead"
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
