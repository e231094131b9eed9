"""Takes PennyLane tapes apart: what changes between two calls, and the circuit, which does not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pennylane as qml
import tensorflow as tf
from cachetools import LRUCache
from cachetools.keys import hashkey
from pennylane.measurements import MeasurementProcess
from pennylane.operation import Operator
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from qshift.circuits import spectra as gates
from qshift.circuits.circuit import Circuit, Slot
from qshift.circuits.classical_controls import freed
from qshift.circuits.consistency import require_consistent
from qshift.circuits.decomposition import decompose, innermost
from qshift.circuits.identity import fingerprint, has_custom, hashable, is_custom, kept
from qshift.circuits.making_gates import CONTROLLED
from qshift.circuits.mid_circuit import defer, in_order
from qshift.circuits.pennylane_internals import flattened, has_usual_parts
from qshift.circuits.readout import Columns, Readout, read
from qshift.circuits.snapshots import snapshot
from qshift.circuits.unitary import (
    require_real_angles,
    require_unitary,
    require_unitary_now,
    unitary_matrices,
)
from qshift.errors import UnsupportedError
from qshift.forks import Lock
from qshift.rules.planner import Frequencies
from qshift.rules.shifting import largest_frequency
from qshift.tensorflow_internals import EagerTensor, shape_of

_MATRICES = (qml.QubitUnitary, qml.ControlledQubitUnitary)
_MOST = 256  # structures that a compiler remembers
_NAMES = {Wires, str, int, bool, type(None)}  # the classes that a gate's settings may have


@dataclass(frozen=True)
class Compiled:
    """A tape, taken apart.

    Attributes:
        circuit: The structure, which is the same in all calls.
        parameters: One tensor per slot, of the slot's shape or broadcast [N, *shape].
        readout: The functions from raw values to the results of the tape.
        signature: That of the tape, if all tapes with it differ in the parameters only, as far as
            is known; else None.
    """

    circuit: Circuit
    parameters: tuple[Any, ...]
    readout: Readout
    signature: Hashable | None = None

    def results(self, values: tf.Tensor, dtype: tf.DType, batched: bool) -> Any:
        """Lays raw values [N, M] out as PennyLane returns the results of a tape.

        Args:
            values: The values.
            dtype: The dtype of the results.
            batched: Whether the results have an axis for a batch of N; without it N is 1.
        """

        def finished(result: Any) -> tf.Tensor:
            result = tf.cast(result, dtype)
            return result if batched else tf.squeeze(result, [0])

        circuit, copies = self.circuit, []
        width = circuit.num_values // circuit.copies
        columns = [r.columns if isinstance(r, Columns) else None for r in self.readout.results]
        for i in range(circuit.copies):
            raw = values[:, i * width : (i + 1) * width] if circuit.copies > 1 else values
            if all(type(column) is int for column in columns):  # a few ops for all of them
                apart = tf.unstack(finished(raw), num=width, axis=-1)
                results = [apart[column] for column in columns]
            else:
                results = [finished(result(raw)) for result in self.readout.results]
            copies.append(results[0] if len(results) == 1 else tuple(results))
        return tuple(copies) if circuit.shots.has_partitioned_shots else copies[0]


class _Known(NamedTuple):
    """The result for all tapes of one signature, where no gate with tensors had to be decomposed.

    Attributes:
        circuit: The circuit of these tapes.
        places: Where in such a tape its parameters are, as (gate, parameter) each.
        readout: The readout of these tapes.
    """

    circuit: Circuit
    places: list[tuple[int, Any]]
    readout: Readout


class Compiler:
    """Takes tapes apart, keeping the structures it has met.

    Args:
        device_wires: The wires that ``qml.probs()`` measures; None for those of the tape.
        is_tensor: Whether a parameter is a tensor; it must be True for all objects of `tensors`.
        adjoint: Whether to decompose gates further, into those that devices differentiate.
        constant: Returns the numbers in a tensor if nothing can differentiate by it, or None.
        tensors: The class of tensors, or one of several.
    """

    def __init__(
        self,
        device_wires: Wires | None,
        is_tensor: Callable[[Any], bool],
        adjoint: bool = False,
        constant: Callable[[Any], np.ndarray | None] = lambda _: None,
        tensors: type = tf.Tensor,
    ) -> None:
        self._tensors = tensors
        self._device_wires = device_wires
        self._adjoint = adjoint
        self._is_tensor = is_tensor
        self._constant = constant
        self._lock = Lock()
        self._circuits: LRUCache[Hashable, Circuit] = LRUCache(_MOST)
        self._known: LRUCache[Hashable, _Known] = LRUCache(_MOST)

    def __call__(self, tape: QuantumScript) -> Compiled:
        """Takes a tape apart.

        Raises:
            UnsupportedError: For what shifted circuits cannot differentiate: postselection, states,
                samples, tensors inside observables other than as coefficients.
        """
        key = signature(tape, self._tensors)
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            ops = tape.operations
            parameters = tuple([ops[i].data[k] for i, k in known.places])
            return Compiled(known.circuit, parameters, known.readout, key)
        compiled, moving = self._taken_apart(tape)
        places = _places(compiled, moving, tape, self._is_tensor)
        if key is not None and places is not None:
            with self._lock:
                self._known[key] = _Known(compiled.circuit, places, compiled.readout)
            return replace(compiled, signature=key)
        return compiled

    def _taken_apart(self, tape: QuantumScript) -> tuple[Compiled, dict[int, Operator]]:
        """Returns a tape taken apart, and the gates with parameters by their positions."""
        tape, outcomes = defer(tape, self._device_wires)
        parts = decompose(tape.operations, self._is_tensor, self._adjoint, self._may_move)
        operations = list(parts)
        readout = read(
            tape.measurements,
            lambda: self._device_wires or in_order(tape),
            self._is_tensor,
            self._constant,
        )

        without_outcomes = freed([part.gate for part in operations], readout.raw, outcomes)
        slots, parameters, structures, fixed, start = [], [], [], [], 0
        templates: Any = []
        moving_gates: dict[int, Operator] = {}
        data_gates: set[int] = set()
        for position, part in enumerate(operations):
            op, leaves, structure, data_of = part
            own = kept(op) if has_custom(structure) else None
            structures.append((hashable(structure), own))
            positions = gates.data_positions(op, leaves)
            moving = [
                i
                for i, leaf in enumerate(leaves)
                if self._is_tensor(leaf) or _is_broadcast(op, positions[i], leaf)
            ]
            fixed.append(fingerprint([x for i, x in enumerate(leaves) if i not in moving]))
            if not moving:
                templates.append(op)
                continue
            moving_gates[position] = op
            given, is_data = list(leaves), False
            is_matrix = isinstance(innermost(op), _MATRICES)
            spectra = gates.spectra(without_outcomes(position))
            for i in moving:
                slot = _slot(op, position, positions[i], i, leaves[i], start)
                if part.is_still:
                    slot = replace(slot, spectrum=Frequencies(()))
                elif data_of is not None:
                    slot = replace(slot, gate=data_of)
                elif (place := positions[i]) is not None and not slot.shape:
                    slot = replace(slot, spectrum=spectra[place])
                is_data |= slot.spectrum is None
                if slot.shape and is_matrix:
                    leaves[i] = unitary_matrices(leaves[i], op)
                slots.append(slot)
                parameters.append(leaves[i])
                start += slot.size
                leaves[i] = _placeholder(slot)
            if is_data and not part.is_still:
                data_gates.add(position)
                if not is_matrix:
                    require_unitary_now(op, given, structure)
            templates.append((leaves, structure))
        key = (
            tuple(structures),
            tuple(fixed),
            tuple(slots),
            tuple(map(fingerprint, readout.raw)),
            tape.shots,
            outcomes,
        )
        with self._lock:
            circuit = self._circuits.get(key)
        if circuit is None:
            # A remembered structure must not change when the user's arrays do.
            with qml.QueuingManager.stop_recording():
                templates = tuple(
                    qml.pytrees.unflatten(*t) if isinstance(t, tuple) else t for t in templates
                )
                templates, raw = snapshot(templates), snapshot(readout.raw)
            for position, op in enumerate(templates):
                require_real_angles(op)
                if position not in data_gates:  # the placeholders of these have no meaning
                    require_unitary(op)
                if position not in moving_gates:
                    require_consistent(op)
            circuit = Circuit(templates, raw, readout.sizes, tuple(slots), tape.shots, outcomes)
            with self._lock:  # another thread may have been faster
                circuit = self._circuits.setdefault(key, circuit)
        return Compiled(circuit, tuple(parameters), readout), moving_gates

    def _may_move(self, tensor: Any) -> bool:
        return self._constant(tensor) is None


def _places(
    compiled: Compiled,
    moving: Mapping[int, Operator],
    tape: QuantumScript,
    is_tensor: Callable[[Any], bool],
) -> list[tuple[int, Any]] | None:
    """Returns where in a tape the parameters of its circuit are, as (gate, parameter) each.

    Returns:
        None if gates with parameters are no longer those in the tape, but for parts of `qml.Rot`,
        which are the same at all angles; and where parameters are data, arrays or without a rule,
        because these are checked in each call.
    """
    given, slots = tape.operations, compiled.circuit.slots
    if any(slot.shape or slot.parameter is None or slot.spectrum is None for slot in slots):
        return None
    kept = set(map(id, moving.values()))
    parted = [
        (i, k, x)
        for i, op in enumerate(given)
        if id(op) not in kept
        for k, x in enumerate(op.data)
        if is_tensor(x)
    ]
    if parted:
        found = _places_of_parts(compiled, moving, given, parted)
    else:
        found = [(slot.operation, slot.parameter) for slot in slots]
        if any(i >= len(given) or given[i] is not gate for i, gate in moving.items()):
            return None
    if found is None:
        return None
    each = zip(found, compiled.parameters, strict=True)
    return found if all(given[i].data[k] is x for (i, k), x in each) else None


def _places_of_parts(
    compiled: Compiled,
    moving: Mapping[int, Operator],
    given: Sequence[Operator],
    parted: Sequence[tuple[int, int, Any]],
) -> list[tuple[int, Any]] | None:
    """Returns the places where some gates of a tape were taken into parts.

    Which part has which parameter is seen from the tensors, so these must differ, as in other tapes
    of the same signature they may. So must the gates.

    Args:
        compiled: The tape, taken apart.
        moving: The gates with parameters by their positions.
        given: The gates of the tape.
        parted: The tensors in gates that were taken into parts, as (gate, parameter, tensor).
    """
    whole = {id(op): i for i, op in enumerate(given)}
    of_parts = {id(x): (i, k) for i, k, x in parted}
    if any(type(given[i]) is not qml.Rot for i, _, _ in parted):
        return None
    if len(whole) < len(given) or len(of_parts) < len(parted):
        return None
    found = []
    for slot, x in zip(compiled.circuit.slots, compiled.parameters, strict=True):
        i = whole.get(id(moving[slot.operation]))
        place = of_parts.get(id(x)) if i is None else (i, slot.parameter)
        if place is None:
            return None
        found.append(place)
    return found


def _is_broadcast(op: Operator, parameter: int | None, leaf: Any) -> bool:
    """Whether a constant of a gate has a batch in front, as inputs that are NumPy arrays may."""
    if gates.batch_size(op) is None:
        return False
    if parameter is None:
        raise UnsupportedError(
            f"{op} has broadcast constants inside. Broadcast the parameters of plain gates, or "
            "call the qnode once per entry."
        )
    return qml.math.ndim(leaf) > gates.ndim(op, parameter)


def _slot(
    op: Operator, position: int, parameter: int | None, leaf: Any, value: Any, start: int
) -> Slot:
    """Returns a slot, whose spectrum is not known yet."""
    shape = tuple(qml.math.shape(value))
    dims = len(shape) if parameter is None else gates.ndim(op, parameter)
    if len(shape) - dims not in (0, 1):
        raise UnsupportedError(
            f"Parameter {parameter} of {op.name} has shape {shape}; expected {dims} dimensions, or "
            f"{dims + 1} with a batch in front."
        )
    shape = shape[len(shape) - dims :]
    is_complex = bool(shape) and "complex" in qml.math.get_dtype_name(value)
    return Slot(position, parameter, leaf, op.name, start, shape, is_complex, None)


def _placeholder(slot: Slot) -> float | np.ndarray:
    if slot.shape:  # normalised, so that state preparations accept it
        array = np.zeros(slot.shape, dtype=complex if slot.is_complex else float)
        return np.eye(*slot.shape) if len(slot.shape) == 2 else _first(array)
    return 0.1 / (largest_frequency(slot.spectrum) or 1.0)


def _first(array: np.ndarray) -> np.ndarray:
    array.flat[0] = 1.0
    return array


def signature(tape: QuantumScript, tensors: type = tf.Tensor) -> Hashable | None:
    """Returns a hashable that is equal for two tapes only if they differ in nothing but the numbers
    in their tensors.

    Most tapes are made of PennyLane's own gates, whose parameters are numbers and tensors. Such a
    tape is determined by the classes, wires, settings and numbers that are collected here, and the
    numbers in its tensors. (`fingerprint` also takes anything that users may put into a gate, and
    is slower.)

    Args:
        tape: The tape.
        tensors: The class of tensors.

    Returns:
        None for tapes that may hold anything else: gates and observables of users' own, arrays,
        functions, tensors in observables or of unknown rank.
    """
    found: list[Any] = [tape.shots]
    eager = EagerTensor if issubclass(EagerTensor, tensors) else None
    for nodes, measured in ((tape.operations, False), (tape.measurements, True)):
        found.append(len(nodes))
        # A node comes before its parts, so that the sequence determines the whole tree.
        ahead = list(nodes)
        while ahead:
            node = ahead.pop()
            kind: Any = type(node)
            if kind is eager and not measured:
                found += (tensors, node.dtype, shape_of(node))
            elif kind in CONTROLLED:
                # Wires are compared by their labels, too.
                found += (kind, node.control_wires.labels, node.target_wires.labels)
            elif _is_plain(kind) and not node.hyperparameters:
                data = node.data
                found += (kind, None, node.wires.labels, len(data))
                ahead += data
            elif _is_pennylanes(kind):
                parts, settings = flattened(node)
                names = settings
                while tuple in map(type, names):
                    names = [x for y in names for x in (y if type(y) is tuple else (y,))]
                kinds = tuple(map(type, names))
                if not _NAMES.issuperset(kinds):
                    return None
                found += [kind, settings, kinds, len(parts)]  # kinds, as 1 is equal to True
                ahead += parts
            elif issubclass(kind, tensors):
                shape = getattr(node, "shape", ())
                if measured or getattr(shape, "rank", 0) is None:
                    return None
                found += [tensors, getattr(node, "dtype", kind), tuple(shape)]
            elif kind is tuple or kind is list:
                found += [kind, len(node)]
                ahead += node
            elif kind is float:
                found.append(node.hex())  # as 0.0 is equal to -0.0, and nan to nothing
            elif node is None or kind is int or kind is str or kind is Wires:
                found += [kind, node]
            elif issubclass(kind, np.number):
                found += [kind, node.tobytes()]
            elif kind is np.ndarray and node.dtype == bool:  # the control values of a gate
                found += [kind, node.shape, node.tobytes()]
            else:
                return None
    return hashkey(*found)


@lru_cache(maxsize=1024)
def _is_plain(kind: type) -> bool:
    """Whether PennyLane has nothing to say of gates of a class but their wires, parameters and
    hyperparameters."""
    return _is_pennylanes(kind) and has_usual_parts(kind)


@lru_cache(maxsize=1024)
def _is_pennylanes(kind: type) -> bool:
    return issubclass(kind, Operator | MeasurementProcess) and not is_custom(kind)
