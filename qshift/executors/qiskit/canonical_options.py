"""Options as plain data that is equal, in every process, for equal options and for no others.

The ledger finds recorded results by these data. So they must not be shortened, as the `repr` of a
long array is, and must not differ for equal objects, as addresses do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qshift.errors import OptionError
from qshift.executors.qiskit import aer_internals

_PLAIN = (type(None), bool, int, float, str)
_BARE = ("barrier", "delay", "measure", "reset")  # operations without a definition


def text(options: Mapping[str, Any], is_complete: bool = True) -> str:
    """Returns nested options as JSON. Plain values, lists and tables are as `json` writes them.

    Args:
        options: Tables of options, below the name "options", and further settings.
        is_complete: If True, an object that qshift cannot write completely is refused; if False,
            the name of its class stands for it.

    Raises:
        OptionError: If an object is refused.
    """
    return json.dumps(_Writer(is_complete).of(options, ()), sort_keys=True)


class _Writer:
    """Turns values into plain data.

    Args:
        is_complete: As for `text`.
    """

    def __init__(self, is_complete: bool) -> None:
        self._is_complete = is_complete

    def of(self, value: Any, path: tuple[str, ...]) -> Any:
        """Returns a value as plain data.

        Args:
            value: The value.
            path: The names of the tables that hold the value, and the value's own name.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufcOSU":
            # Written as lists are, because Qiskit makes no difference between the two.
            return self.of(value.tolist(), path) if value.size else ["\0empty", *value.shape]
        if isinstance(value, list | tuple | range):
            return [self.of(each, path) for each in value]
        if isinstance(value, set | frozenset):
            return {"\0set": sorted((self.of(each, path) for each in value), key=_order)}
        if isinstance(value, Mapping):
            return self._table(value, path)
        known = _KNOWN.get(f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}")
        try:
            if known is not None:
                return self._tagged(value, known(value), path)
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                names = [field.name for field in dataclasses.fields(value)]
                return self._tagged(value, {name: getattr(value, name) for name in names}, path)
        except (AttributeError, _UnknownError):  # another release of Qiskit, with other internals
            pass
        return self._unknown(value, path)

    def _tagged(self, value: Any, content: Any, path: tuple[str, ...]) -> dict[str, Any]:
        return {f"\0{type(value).__module__}.{type(value).__name__}": self.of(content, path)}

    def _table(self, table: Mapping[Any, Any], path: tuple[str, ...]) -> dict[str, Any]:
        if all(isinstance(key, str) for key in table):
            return {key: self.of(each, (*path, key)) for key, each in table.items()}
        pairs = [[self.of(key, path), self.of(each, path)] for key, each in table.items()]
        return {"\0table": sorted(pairs, key=_order)}

    def _unknown(self, value: Any, path: tuple[str, ...]) -> dict[str, Any]:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if not self._is_complete:
            return {"\0unknown": kind}
        name = ".".join(path[1:] if path[:1] == ("options",) else path)
        raise OptionError(
            name,
            f"results are recorded in a ledger, where they are found by all that they depend on, "
            f"and qshift does not know what a {kind} consists of. Give ledger=False to do without "
            "a ledger, or plain numbers, arrays, lists and tables here. Nothing was sent.",
        )


def _order(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True)


class _UnknownError(Exception):
    """Raised for an object that cannot be written completely."""


def _noise_model(model: Any) -> dict:
    errors = [_noise(error) for error in model.to_dict()["errors"]]
    passes = [_pass(each) for each in aer_internals.noise_passes(model)]
    return {"errors": errors, "passes": passes, "basis": sorted(model.basis_gates)}


def _noise(error: Any) -> dict:
    # The id is left out: it is random, and differs between equal errors.
    steps = [[_step(step) for step in steps] for steps in error.get("instructions", ())]
    return {name: each for name, each in error.items() if name != "id"} | {"instructions": steps}


def _step(step: Any) -> dict:
    if step.get("condition") is not None:
        raise _UnknownError
    return step


def _pass(each: Any) -> dict:
    about = aer_internals.relaxation(each)
    if about is None:
        raise _UnknownError
    durations, target = None, about.pop("target")
    if target is not None:
        durations = {
            name: [
                [list(qubits or ()), done and done.duration]
                for qubits, done in (target[name] or {}).items()
            ]
            for name in target.operation_names
        }
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in about.pop("ops")]
    return about | {"kinds": kinds, "durations": durations}


def _circuit(circuit: Any) -> dict:
    position = {bit: i for i, bit in enumerate((*circuit.qubits, *circuit.clbits))}
    steps = []
    for step in circuit.data:
        where = [position[bit] for bit in (*step.qubits, *step.clbits)]
        steps.append([*_operation(step.operation), where])
    sizes = [circuit.num_qubits, circuit.num_clbits]
    return {"sizes": sizes, "phase": circuit.global_phase, "steps": steps}


def _operation(operation: Any) -> list:
    from qiskit.circuit import ControlFlowOp
    from qiskit.circuit.library import UnitaryGate, get_standard_gate_name_mapping

    if isinstance(operation, ControlFlowOp) or getattr(operation, "condition", None) is not None:
        raise _UnknownError
    names = ["name", "label", "params", "num_ctrl_qubits", "ctrl_state"]
    names += ["unit"] * (operation.name == "delay")
    about = [getattr(operation, name, None) for name in names]
    standard = get_standard_gate_name_mapping().get(operation.name)
    if standard is not None and operation.base_class is standard.base_class:
        return about
    if operation.name in _BARE or type(operation) is UnitaryGate:
        return about
    if operation.definition is None:
        raise _UnknownError
    return [*about, operation.definition]


def _paulis(paulis: Any) -> list:
    return paulis.to_labels()  # with their phases


# (package, class) -> a function that returns all parts of such an object, for the classes of Qiskit
# that may occur in options. Objects of other classes are not known.
_KNOWN: dict[str, Callable[[Any], Any]] = {
    "qiskit_aer.NoiseModel": _noise_model,
    "qiskit_aer.QuantumError": lambda error: _noise(error.to_dict()),
    "qiskit_aer.ReadoutError": lambda error: error.to_dict(),
    "qiskit.CouplingMap": lambda coupling: [
        list(coupling.physical_qubits),
        sorted(map(list, coupling.get_edges())),
    ],
    "qiskit.QuantumCircuit": _circuit,
    "qiskit.Parameter": str,
    "qiskit.ParameterExpression": str,
    "qiskit.Pauli": lambda pauli: pauli.to_label(),
    "qiskit.PauliList": _paulis,
    "qiskit.SparsePauliOp": lambda each: [_paulis(each.paulis), each.coeffs],
    "qiskit_ibm_runtime.PauliLindbladError": lambda error: [error.generators, error.rates],
    "qiskit_ibm_runtime.LayerError": lambda layer: [layer.circuit, layer.qubits, layer.error],
    "qiskit_ibm_runtime.NoiseLearnerResult": lambda result: [result.data, result.metadata],
    "qiskit_ibm_runtime.UnsetType": lambda unset: None,
    "builtins.complex": lambda number: [number.real, number.imag],
    "builtins.bytes": bytes.hex,
}
