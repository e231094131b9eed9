"""Wide circuits whose parts no gate connects, simulated part by part.

Copies of a circuit on many patches of a chip take no more memory than one of them then. The samples
of the parts are independent of each other, as they are on a chip without crosstalk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import rustworkx
from qiskit import QuantumCircuit
from qiskit.primitives import BitArray, DataBin, PubResult
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.quantum_info import SparsePauliOp

from qshift.executors.qiskit.broken_gates import PLACELESS
from qshift.executors.qiskit.pub_results import Unpacked, unpacked

_WIDEST = 7  # qubits that are simulated together in any case


def components(circuit: QuantumCircuit) -> list[set[int]]:
    """Returns the qubits that a circuit acts on, in parts that no gate, and no bit, connects."""
    graph = rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from(range(circuit.num_qubits + circuit.num_clbits))
    active = set()
    for step in circuit.data:
        if step.operation.name in PLACELESS:
            continue
        on = [circuit.find_bit(qubit).index for qubit in step.qubits]
        active |= {*on}
        on += [circuit.num_qubits + circuit.find_bit(bit).index for bit in step.clbits]
        graph.add_edges_from_no_data([(on[0], other) for other in on[1:]])
    parts = (part & active for part in rustworkx.connected_components(graph))
    return sorted((part for part in parts if part), key=min)


def run_in_parts(run: Callable[[list[tuple]], Any], primitive: str, pubs: Sequence[tuple]) -> Any:
    """Runs PUBs on a simulator, those of wide circuits part by part.

    Args:
        run: Returns the job, as Qiskit's primitives make it, of some PUBs.
        primitive: ``"estimator"`` or ``"sampler"``.
        pubs: The PUBs.

    Returns:
        A job with the results of the PUBs.
    """
    cut = [(_sampled if primitive == "sampler" else _estimated)(pub) for pub in pubs]
    if all(each is None for each in cut):
        return run(list(pubs))
    parts = [each[0] if each else [pub] for each, pub in zip(cut, pubs, strict=True)]
    return _Together(run([part for some in parts for part in some]), parts, cut)


class _Together:
    """A job that puts the results of parts together again."""

    def __init__(self, job: Any, parts: Sequence[list], cut: Sequence[Any]) -> None:
        self._job, self._parts, self._cut = job, parts, cut
        self.job_id, self.status, self.cancel = job.job_id, job.status, job.cancel

    def result(self) -> list[Any]:
        found = iter(self._job.result())
        return [
            each[1]([next(found) for _ in parts]) if each else next(found)
            for parts, each in zip(self._parts, self._cut, strict=True)
        ]


def _parts(circuit: QuantumCircuit) -> list[tuple[set[int], QuantumCircuit]]:
    """Returns the parts of a wide circuit; none if it is not wide, or one piece."""
    found = components(circuit)
    if len(found) == 1 or sum(map(len, found)) <= _WIDEST:
        return []
    single = [qubit for part in found if len(part) == 1 for qubit in part]
    found = [part for part in found if len(part) > 1]
    found += [{*single[i : i + _WIDEST]} for i in range(0, len(single), _WIDEST)]
    number = {qubit: i for i, part in enumerate(found) for qubit in part}
    made = [circuit.copy_empty_like() for _ in found]
    for step in circuit.data:
        if step.operation.name not in PLACELESS:
            made[number[circuit.find_bit(step.qubits[0]).index]].append(step)
    return list(zip(found, made, strict=True))


def _bound(circuit: QuantumCircuit, bindings: BindingsArray) -> BindingsArray:
    """Returns the values of those parameters that a part of the circuit has."""
    columns = {
        name: values[..., k]
        for names, values in bindings.data.items()
        for k, name in enumerate(names)
    }
    names = tuple(parameter.name for parameter in circuit.parameters)
    data = {names: np.stack([columns[name] for name in names], axis=-1)} if names else {}
    return BindingsArray(data, shape=bindings.shape)


def _sampled(pub: tuple) -> tuple[list[tuple], Callable] | None:
    """Returns the parts of a sampler's PUB, and what puts their results together."""
    circuit, bindings, shots = pub
    parts = [
        (part, _bound(part, bindings), shots)
        for _, part in _parts(circuit)
        if any(step.clbits for step in part.data)  # samples know nothing of the others
    ]

    def together(results: Sequence[Any]) -> PubResult:
        # Bits that a part does not measure are 0 in it.
        fields = {}
        for name in results[0].data:
            registers = [result.data[name] for result in results]
            array = reduce(np.bitwise_or, [register.array for register in registers])
            fields[name] = BitArray(array, registers[0].num_bits)
        return PubResult(DataBin(**fields, shape=bindings.shape))

    return (parts, together) if parts else None


def _estimated(pub: tuple) -> tuple[list[tuple], Callable] | None:
    """Returns the parts of an estimator's PUB, and what puts their results together."""
    circuit, observables, bindings, precision = pub
    parts = _parts(circuit)
    if not parts or not all(isinstance(each, SparsePauliOp) for each in observables):
        return None
    own: list[list[tuple[int, SparsePauliOp]]] = [[] for _ in parts]
    for k, observable in enumerate(observables):
        acts = observable.paulis.x | observable.paulis.z
        left = np.ones(len(acts), dtype=bool)
        for (qubits, _), some in zip(parts, own, strict=True):
            inside = left & ~np.delete(acts, sorted(qubits), axis=1).any(axis=1)
            if inside.any():
                some.append((k, observable[inside]))
            left &= ~inside
        if left.any():  # a word that is measured on several parts
            return None
    some_pubs = [
        (part, [each for _, each in some], _bound(part, bindings), precision)
        for (_, part), some in zip(parts, own, strict=True)
        if some
    ]
    where = [[k for k, _ in some] for some in own if some]

    def together(results: Sequence[Any]) -> Unpacked:
        total = np.zeros((bindings.shape[0], 2, len(observables)))
        for numbers, result in zip(where, results, strict=True):
            measured = np.asarray(unpacked("estimator", result))
            total[:, 0, numbers] += measured[:, 0]
            total[:, 1, numbers] += measured[:, 1] ** 2
        total[:, 1] = np.sqrt(total[:, 1])
        return Unpacked(total)

    return some_pubs, together
