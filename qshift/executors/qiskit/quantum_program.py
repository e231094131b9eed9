"""PUBs as items of one quantum program of IBM's Executor, and their results from its outcomes.

The Executor runs each circuit at some points with one number of shots for the whole program, and
returns every outcome. An Estimator's PUB becomes one item for each basis that its observables need,
with measurements of the qubits that they act on only; a Sampler's PUB is one item. Points that need
more shots than others are repeated. How results follow from outcomes travels with the program and
comes back with its results, so that any process can read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.quantum_info import PauliList, SparsePauliOp
from qiskit.transpiler import PassManager, Target
from qiskit.transpiler.passes import Optimize1qGatesDecomposition

from qshift.executors.qiskit.observables import bases
from qshift.executors.qiskit.pub_results import REGISTER, Unpacked

NAME = "qshift"  # of what travels with a program
_MOST_REPEATS = 64  # of a point; with more, other numbers of shots get a job of their own


class Item(NamedTuple):
    """A circuit with measurements at some points, for a program.

    Attributes:
        circuit: The circuit.
        arguments: float64[repeats, N, P], the values of its parameters in their order.
    """

    circuit: QuantumCircuit
    arguments: np.ndarray


class Program(NamedTuple):
    """What a quantum program is made of.

    Attributes:
        shots: The shots of each row of arguments.
        items: The items.
        recipe: How the results of PUBs follow from the items' outcomes, as plain data and arrays.
    """

    shots: int
    items: list[Item]
    recipe: dict[str, Any]


def shots_of(pub: tuple) -> int:
    """Returns the shots of a PUB in each basis."""
    return pub[-1] if _is_sampled(pub) else round(pub[-1] ** -2)


def _is_sampled(pub: tuple) -> bool:
    return len(pub) == 3


def shared(shots: Iterable[int]) -> dict[int, int]:
    """Returns which numbers of shots go into one program: number -> shots of the program's rows."""
    groups: list[list[int]] = []
    for number in sorted(set(shots)):
        for group in groups:
            if number <= _MOST_REPEATS * math.gcd(number, *group):
                group.append(number)
                break
        else:
            groups.append([number])
    return {number: math.gcd(*group) for group in groups for number in group}


def program(pubs: Sequence[tuple], target: Target) -> Program:
    """Returns the program of some PUBs.

    Args:
        pubs: PUBs as `qshift.executors.qiskit.estimator` makes them for an Estimator (circuit,
            observables, bindings, precision) or a Sampler (circuit, bindings, shots).
        target: Qiskit's description of the backend.
    """
    row = math.gcd(*map(shots_of, pubs))
    items, recipe = [], []
    for pub in pubs:
        circuit, bindings = pub[0], pub[-2]
        points, repeats = bindings.shape[0], shots_of(pub) // row
        values = bindings.as_array(circuit.parameters).reshape(1, points, circuit.num_parameters)
        arguments = np.broadcast_to(values, (repeats, *values.shape[1:]))
        about: dict[str, Any] = {"repeats": repeats, "points": points}
        if _is_sampled(pub):
            items.append(Item(circuit, arguments))
            names = [each.name for each in circuit.cregs if each.name.startswith(REGISTER)]
            about["copies"] = names if len(names) > 1 else None
        else:
            about["bases"] = []
            for words in bases(pub[1]):
                measured, masks = _measured(circuit, words, target)
                items.append(Item(measured, arguments))
                part = {"words": masks, "coefficients": _coefficients(words, pub[1])}
                about["bases"].append(part)
        recipe.append(about)
    return Program(row, items, {NAME: {"pubs": recipe}})


def _measured(
    circuit: QuantumCircuit, words: PauliList, target: Target
) -> tuple[QuantumCircuit, np.ndarray]:
    """Adds a measurement of Pauli words that commute qubit by qubit to a transpiled circuit.

    Returns:
        The circuit, and which of the measured qubits each word acts on, bool[words, qubits].
    """
    x, z = words.x.any(axis=0), words.z.any(axis=0)
    qubits = np.flatnonzero(x | z).tolist()
    turned = QuantumCircuit(circuit.num_qubits)
    for qubit in qubits:
        if x[qubit]:
            if z[qubit]:
                turned.sdg(qubit)
            turned.h(qubit)
    turned = PassManager([Optimize1qGatesDecomposition(target=target)]).run(turned)
    measured = circuit.compose(turned, circuit.qubits)
    register = ClassicalRegister(len(qubits), REGISTER)
    measured.add_register(register)
    measured.measure(qubits, register)
    return measured, (words.x | words.z)[:, qubits]


def _coefficients(words: PauliList, observables: Sequence[SparsePauliOp]) -> np.ndarray:
    """Returns the coefficients float64[K, words] of words in observables."""
    column = {label: i for i, label in enumerate(words.to_labels())}
    found = np.zeros((len(observables), len(column)))
    for row, observable in zip(found, observables, strict=True):
        for label, coefficient in observable.to_list():
            if label in column:
                row[column[label]] += np.real(coefficient)
    return found


def results(data: Sequence[Mapping[str, np.ndarray]], recipe: Mapping[str, Any]) -> list[Unpacked]:
    """Returns the results of the PUBs of a program, as far as its outcomes go.

    Args:
        data: For each item its outcomes, bool[repeats, N, shots, bits], bit 0 first.
        recipe: The program's `Program.recipe`.

    Returns:
        The results at all points of each PUB; none of a PUB whose outcomes do not fit.
    """
    left = iter(data)
    found: list[Unpacked] = []
    for about in recipe[NAME]["pubs"]:
        parts, copies = about.get("bases"), about.get("copies")
        number = 1 if parts is None else len(parts)
        shape = int(about["repeats"]), int(about["points"])
        own = list(islice(left, number))
        outcomes = [
            _outcomes(each.get(name), shape) for each in own for name in copies or [REGISTER]
        ]
        if len(own) < number or any(each is None for each in outcomes):
            found.append(Unpacked())
            continue
        points: Any = zip(*outcomes, strict=True)
        if parts is not None:
            found.append(Unpacked(_estimates(at, parts) for at in points))
        elif copies:
            found.append(Unpacked([_counts(*each) for each in at] for at in points))
        else:
            found.append(Unpacked(_counts(*each) for (each,) in points))
    return found


def _outcomes(bits: Any, shape: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Returns the outcomes bool[U, bits] found at each point, and how often each was found.

    Returns:
        None where the bits are not bool[*shape, shots, bits].
    """
    bits = np.asarray(bits)
    if bits.ndim != 4 or bits.shape[:2] != shape or not bits.size or bits.dtype != bool:
        return None
    points = np.moveaxis(bits, 0, 1).reshape(shape[1], -1, bits.shape[-1])
    return [np.unique(each, axis=0, return_counts=True) for each in points]


def _counts(outcomes: np.ndarray, counts: np.ndarray) -> dict[int, int]:
    """Returns outcome -> count, with outcomes as numbers."""
    packed = np.packbits(outcomes, axis=-1, bitorder="little")
    numbers = [int.from_bytes(each.tobytes(), "little") for each in packed]
    return dict(zip(numbers, counts.tolist(), strict=True))


def _estimates(
    found: Sequence[tuple[np.ndarray, np.ndarray]], parts: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """Returns the values and standard errors float64[2, K] at a point, from the outcomes in each
    basis. What the words of a basis have in common is in the errors."""
    values = variances = np.zeros(len(parts[0]["coefficients"]))
    for (outcomes, counts), part in zip(found, parts, strict=True):
        odd = outcomes.astype(int) @ np.asarray(part["words"]).astype(int).T & 1
        each = (1 - 2 * odd) @ np.asarray(part["coefficients"]).T  # float64[U, K]
        mean = counts @ each / counts.sum()
        values = values + mean
        variances = variances + counts @ (each - mean) ** 2 / counts.sum() ** 2
    return np.array([values, np.sqrt(variances)])
