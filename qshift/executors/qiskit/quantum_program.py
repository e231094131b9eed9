"""PUBs as items of one quantum program of IBM's Executor, and their results from its outcomes.

The Executor runs each circuit at some points with one number of shots for the whole program, and
returns every outcome. An Estimator's PUB becomes one item for each basis that its observables need,
with measurements of the qubits that they act on only; a Sampler's PUB is one item. Points that need
more shots than others are repeated. Where circuits are twirled, each variant is an item, and where
readout errors are mitigated, so are the variants of one circuit that calibrates the readout. How
results follow from outcomes travels with the program and comes back with its results, so that any
process can read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import PauliList, SparsePauliOp
from qiskit.transpiler import PassManager, Target
from qiskit.transpiler.passes import Optimize1qGatesDecomposition

from qshift.executors.qiskit.mitigation import NONE, Mitigation
from qshift.executors.qiskit.observables import bases
from qshift.executors.qiskit.pub_results import REGISTER, Unpacked
from qshift.executors.qiskit.trex import Calibration, Table, calibrating, estimates
from qshift.executors.qiskit.twirling import registers, variants

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


def program(
    pubs: Sequence[tuple],
    target: Target,
    mitigation: Mitigation = NONE,
    seed: int | None = None,
) -> Program:
    """Returns the program of some PUBs.

    Args:
        pubs: PUBs as `qshift.executors.qiskit.estimator` makes them for an Estimator (circuit,
            observables, bindings, precision) or a Sampler (circuit, bindings, shots).
        target: Qiskit's description of the backend.
        mitigation: What is mitigated.
        seed: A seed of the random variants of circuits; None for fresh ones.
    """
    sizes = [mitigation.variants(_primitive(pub), shots_of(pub)) for pub in pubs]
    row = math.gcd(*(size for _, size in sizes))
    items: list[Item] = []
    recipe = []
    vary = partial(variants, mitigation=mitigation, target=target, rng=np.random.default_rng(seed))

    def add(circuit: QuantumCircuit, number: int, of: str, arguments: np.ndarray) -> dict[str, Any]:
        circuits, turned = vary(circuit, number, of)
        items.extend(Item(each, arguments) for each in circuits)
        return {"number": number} if turned is None else {"number": number, "flips": turned}

    for pub, (number, size) in zip(pubs, sizes, strict=True):
        circuit, bindings = pub[0], pub[-2]
        points, repeats = bindings.shape[0], size // row
        values = bindings.as_array(circuit.parameters).reshape(1, points, circuit.num_parameters)
        arguments = np.broadcast_to(values, (repeats, *values.shape[1:]))
        about: dict[str, Any] = {"repeats": repeats, "points": points}
        if _is_sampled(pub):
            circuits = [circuit]
            names = [each.name for each in registers(circuit)]
            about["copies"] = names if len(names) > 1 else None
        else:
            circuits, about["bases"] = [], []
            for words in bases(pub[1]):
                measured, masks, qubits = _measured(circuit, words, target)
                circuits.append(measured)
                part = {"words": masks, "coefficients": _coefficients(words, pub[1])}
                about["bases"].append(part | {"qubits": qubits} if mitigation.readout else part)
        varied = [add(each, number, _primitive(pub), arguments) for each in circuits]
        recipe.append(about | {"variants": varied} if mitigation else about)
    content: dict[str, Any] = {"pubs": recipe, "shots": row}
    parts = [part for about in recipe for part in about.get("bases", ())]
    if mitigation.readout and parts:
        qubits = sorted({qubit for part in parts for qubit in part["qubits"]})
        most = max(shots_of(pub) for pub in pubs if not _is_sampled(pub))
        number, size = mitigation.calibrating(most)
        circuit = calibrating(qubits, max(pub[0].num_qubits for pub in pubs))
        repeats = size // row
        zero = add(circuit, number, "estimator", np.empty((repeats, 1, 0)))
        content["calibration"] = {"qubits": qubits, "repeats": repeats, "variants": zero}
    return Program(row, items, {NAME: content})


def with_parameter(item: Item) -> Item:
    """Returns an item as the Executor takes it: with a parameter where it has several rows.

    Without one, what is meant by several rows is left to who runs them: IBM's client, where it
    simulates programs itself, runs the first one only, and has zeros for the others. The parameter
    is the angle 0 of an RZ gate that nothing comes before, which changes no outcome.
    """
    circuit, arguments = item
    repeats, points, parameters = arguments.shape
    if parameters or repeats * points == 1:
        return item
    turn = QuantumCircuit(1)
    turn.rz(Parameter("none"), 0)
    turned = circuit.compose(turn, circuit.data[-1].qubits[:1], front=True)
    return Item(turned, np.zeros((repeats, points, 1)))


def _primitive(pub: tuple) -> str:
    return "sampler" if _is_sampled(pub) else "estimator"


def _measured(
    circuit: QuantumCircuit, words: PauliList, target: Target
) -> tuple[QuantumCircuit, np.ndarray, list[int]]:
    """Adds a measurement of Pauli words that commute qubit by qubit to a transpiled circuit.

    Returns:
        The circuit, which of the measured qubits each word acts on, bool[words, qubits], and these
        qubits.
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
    return measured, (words.x | words.z)[:, qubits], qubits


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
        The results at all points of each PUB; none of a PUB whose outcomes do not fit, nor of
        items that no PUB has asked for.

    Raises:
        qshift.executors.qiskit.trex.FactorError: If readout errors cannot be mitigated.
    """
    left, content = iter(data), recipe[NAME]
    shots = content.get("shots")  # programs of earlier releases do not say
    found = [_drawn(left, about, shots) for about in content["pubs"]]
    calibration = content.get("calibration")
    factors = None
    if calibration is not None:
        # As of a PUB with one point, measured in one basis.
        about = {**calibration, "points": 1, "variants": [calibration["variants"]]}
        drawn = _drawn(left, about, shots)
        if drawn is None:
            return [Unpacked() for _ in found]
        factors = drawn[0][0], [int(qubit) for qubit in calibration["qubits"]]
    read = [
        Unpacked() if drawn is None else Unpacked(_read(drawn, about, factors))
        for drawn, about in zip(found, content["pubs"], strict=True)
    ]
    return [*read, *(Unpacked() for _ in left)]


def _drawn(
    left: Iterator[Any], about: Mapping[str, Any], shots: int | None
) -> list[list[Table]] | None:
    """Returns what was measured at each point of a PUB, for each basis or copy; None where the
    outcomes do not fit.

    Args:
        left: The outcomes of items, of which those of the PUB are taken.
        about: What the recipe says about the PUB.
        shots: The shots of each row of arguments; None if that is not known.
    """
    parts, names = about.get("bases"), about.get("copies") or [REGISTER]
    shape = int(about["repeats"]), int(about["points"]), *([] if shots is None else [int(shots)])
    single = [{"number": 1}] * (1 if parts is None else len(parts))
    circuits = [
        (varied, list(islice(left, int(varied["number"]))))
        for varied in about.get("variants", single)
    ]
    found: list[list[Table]] = []
    for varied, items in circuits:
        tables = _of_circuit(items, varied, names, shape)
        if tables is None:
            return None
        found += tables
    return list(map(list, zip(*found, strict=True)))


def _of_circuit(
    items: Sequence[Mapping[str, np.ndarray]],
    varied: Mapping[str, Any],
    names: Sequence[str],
    shape: tuple[int, ...],
) -> list[list[Table]] | None:
    """Returns what all variants of a circuit have measured at each point, for each register; None
    where the outcomes do not fit."""
    if len(items) < varied["number"]:
        return None
    turned = np.asarray(varied["flips"]) if "flips" in varied else None
    found = []
    for name in names:
        bits = [_fitting(each.get(name), shape) for each in items]
        if any(each is None for each in bits):
            return None
        if turned is not None:
            now, turned = np.split(turned, [bits[0].shape[-1]], axis=1)
            if any(each.shape[-1] != now.shape[1] for each in bits):
                return None
            bits = [each ^ flip for each, flip in zip(bits, now, strict=True)]
        found.append(_tables(bits))
    return found


def _read(
    drawn: Sequence[Sequence[Table]],
    about: Mapping[str, Any],
    factors: tuple[Table, list[int]] | None,
) -> Iterator[Any]:
    """Yields the result at each point of a PUB.

    Args:
        drawn: As from `_drawn`.
        about: What the recipe says about the PUB.
        factors: What the calibration has measured, and its qubits; None without one.
    """
    parts = about.get("bases")
    if parts is None:
        counts = ([_counts(*each) for each in at] for at in drawn)
        yield from counts if about.get("copies") else (each for (each,) in counts)
        return
    calibration = None
    if factors is not None and parts:
        table, qubits = factors
        words = np.zeros((sum(len(part["words"]) for part in parts), len(qubits)), dtype=bool)
        start = 0
        for part in parts:
            stop = start + len(part["words"])
            words[start:stop, [qubits.index(int(q)) for q in part["qubits"]]] = part["words"]
            start = stop
        calibration = Calibration(table, words)
    for at in drawn:
        yield estimates(at, parts, calibration)


def _fitting(bits: Any, shape: tuple[int, ...]) -> Any:
    """Returns outcomes bool[repeats, N, shots, bits], of which the first numbers are those of
    `shape`, as an array; None where they are not that."""
    bits = np.asarray(bits)
    if bits.ndim != 4 or bits.shape[: len(shape)] != shape or not bits.size or bits.dtype != bool:
        return None
    return bits


def _tables(variants: Sequence[np.ndarray]) -> list[Table]:
    """Returns the outcomes bool[U, bits] found at each point in all variants of a circuit, and how
    often each was found."""
    together = np.concatenate(variants, axis=2) if len(variants) > 1 else variants[0]
    points = np.moveaxis(together, 0, 1).reshape(together.shape[1], -1, together.shape[-1])
    return [np.unique(each, axis=0, return_counts=True) for each in points]


def _counts(outcomes: np.ndarray, counts: np.ndarray) -> dict[int, int]:
    """Returns outcome -> count, with outcomes as numbers."""
    packed = np.packbits(outcomes, axis=-1, bitorder="little")
    numbers = [int.from_bytes(each.tobytes(), "little") for each in packed]
    return dict(zip(numbers, counts.tolist(), strict=True))
