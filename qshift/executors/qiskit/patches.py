"""Patches of a chip: places for copies of a small circuit, one qubit apart and with few errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import rustworkx
from qiskit import QuantumCircuit
from qiskit.transpiler import Target

from qshift.executors.qiskit.broken_gates import PLACELESS

_MOST = 20_000  # places that are compared with each other
_WORST = math.log(2)  # a patch may have half the fidelity of the best one


class Patch(NamedTuple):
    """A place for a copy of a circuit.

    Attributes:
        qubits: For each qubit that the circuit uses, in their order, one of the patch.
        infidelity: -log of the fidelity of gates, readout and waiting there.
        readout: The readout's part of it.
    """

    qubits: tuple[int, ...]
    infidelity: float
    readout: float


def used(circuit: QuantumCircuit) -> list[int]:
    """Returns the qubits that a transpiled circuit uses."""
    found = set(circuit.layout.final_index_layout()) if circuit.layout else set()
    for step in circuit.data:
        if step.operation.name not in PLACELESS:
            found |= {circuit.find_bit(qubit).index for qubit in step.qubits}
    return sorted(found)


def patches(circuit: QuantumCircuit, target: Target) -> list[Patch]:
    """Returns places for copies of a circuit, the best first, each with what the others leave.

    No qubit of a patch is coupled to one of another, so that at least one is between them. Patches
    whose fidelity is less than half that of the best one are left out.

    Args:
        circuit: The circuit, transpiled for the backend, wherever its place is.
        target: The gates of the backend that work.
    """
    shape = _Shape(circuit, target)
    chip = _coupled(range(target.num_qubits or 0), target)
    found: list[Patch] = []
    while candidates := shape.candidates(chip):
        free = set(chip.nodes())
        for patch in candidates:
            if free.issuperset(patch.qubits):
                found.append(patch)
                free -= {*patch.qubits, *(n for q in patch.qubits for n in chip.neighbors(q))}
        # Some of the places were not looked at if there are many.
        chip.remove_nodes_from([qubit for qubit in chip.nodes() if qubit not in free])
    found.sort(key=lambda patch: patch.infidelity)
    return [patch for patch in found if patch.infidelity <= found[0].infidelity + _WORST]


def useful(losses: Sequence[float], shots: int) -> int:
    """Returns how many of the best patches to take: a further one is worth it if, in the time that
    the others take, it makes the error smaller.

    Of a value of typical size, whose square is 1/3, noise takes away the mean loss of fidelity. The
    variance of samples is that of such a value, 2/3, over their number.

    Args:
        losses: -log of the fidelity of each patch, the best first.
        shots: The number of samples, of all patches together.
    """
    number = np.arange(1, len(losses) + 1)
    biases = (np.cumsum(-np.expm1(-np.asarray(losses))) / number) ** 2 / 3
    gained = 2 / 3 / shots / number[1:]  # 1/n - 1/n' where n' / n = (k + 1) / k
    stops = np.flatnonzero(np.diff(biases) >= gained)
    return int(stops[0]) + 1 if len(stops) else len(losses)


class _Shape:
    """What a transpiled circuit asks of the qubits that it uses."""

    def __init__(self, circuit: QuantumCircuit, target: Target) -> None:
        qubits = used(circuit)
        place = {qubit: i for i, qubit in enumerate(qubits)}
        self._target = target
        self._gates: Counter[tuple[str, tuple[int, ...]]] = Counter()
        # From the last gate to the first: how long until the end of the circuit.
        until_end, busy = np.zeros(len(qubits)), np.zeros(len(qubits))
        for step in reversed(circuit.data):
            name = step.operation.name
            if name not in target.operation_names or name in (*PLACELESS, "measure"):
                continue
            on = tuple(place[circuit.find_bit(qubit).index] for qubit in step.qubits)
            self._gates[name, on] += 1
            about = (target[name] or {}).get(tuple(qubits[i] for i in on))
            duration = (about and about.duration) or 0.0
            until_end[list(on)] = until_end[list(on)].max() + duration
            busy[list(on)] += duration
        self._waiting = until_end - busy
        self._graph = rustworkx.PyGraph(multigraph=False)
        self._graph.add_nodes_from(range(len(qubits)))
        self._graph.add_edges_from_no_data([on for _, on in self._gates if len(on) == 2])
        self._connect()

    def _connect(self) -> None:
        """Connects parts that no gate connects, so that a patch is one piece of the chip."""
        while len(parts := rustworkx.connected_components(self._graph)) > 1:
            ends = [min(part, key=self._graph.degree) for part in parts[:2]]
            self._graph.add_edge(ends[0], ends[1], None)

    def candidates(self, chip: rustworkx.PyGraph) -> list[Patch]:
        """Returns places for the circuit on a part of the chip, the best first."""
        found = rustworkx.graph_vf2_mapping(chip, self._graph, subgraph=True, induced=False)
        places = np.array(
            [
                [qubit for _, qubit in sorted((mine, qubit) for qubit, mine in each.items())]
                for each in islice(found, _MOST)
            ]
        )
        if not len(places):
            return []
        infidelities, readout = self._infidelities(places)
        order = np.argsort(infidelities, kind="stable")
        return [
            Patch(tuple(places[i].tolist()), float(infidelities[i]), float(readout[i]))
            for i in order
            if np.isfinite(infidelities[i])
        ]

    def _infidelities(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the infidelity of each place, and the readout's part of it."""
        target, total, readout = self._target, np.zeros(len(places)), np.zeros(len(places))
        for (name, on), number in self._gates.items():
            costs = _costs(name, len(on), target)
            total += number * costs[tuple(places[:, i] for i in on)]
        if "measure" in target.operation_names:
            readout = _costs("measure", 1, target)[places].sum(axis=1)
        rates = np.zeros((2, target.num_qubits or 0))
        for qubit, about in enumerate(target.qubit_properties or ()):
            rates[:, qubit] = [1 / t if t else 0.0 for t in (about.t1, about.t2)] if about else 0.0
        relaxed, dephased = np.exp(-self._waiting * rates[:, places])
        total -= np.log(1 / 2 + relaxed / 6 + dephased / 3).sum(axis=1)
        return total + readout, readout


def _costs(name: str, width: int, target: Target) -> np.ndarray:
    """Returns -log(1 - error) of a gate on each qubit, or each pair of them in either order."""
    costs = np.full((target.num_qubits or 0,) * width, np.inf)
    for qubits, about in (target[name] or {}).items():
        if qubits is None:  # all qubits have it
            return np.zeros_like(costs)
        error = (about and about.error) or 0.0
        cost = -math.log1p(-error) if error < 1 else np.inf
        for on in {qubits, qubits[::-1]}:
            costs[on] = min(cost, costs[on])
    return costs


def _coupled(qubits: Sequence[int], target: Target) -> rustworkx.PyGraph:
    """Returns which qubits have gates between them, each with its own number."""
    graph = rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from(qubits)
    graph.add_edges_from_no_data(list(_pairs(target)))
    return graph


def _pairs(target: Target) -> Iterator[tuple[int, int]]:
    for name in target.operation_names:
        for qubits in target[name] or ():
            if qubits is not None and len(qubits) == 2:
                yield qubits
