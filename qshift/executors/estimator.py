"""Runs shifted circuits on Qiskit's primitives: one transpilation, one job for a batch.

A circuit becomes one parametrised Qiskit circuit, transpiled once. A batch of N points is one
Estimator PUB, with an array of parameter values that is broadcast against all observables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.quantum_info import SparsePauliOp

from qshift.circuit import Circuit
from qshift.errors import UnsupportedError
from qshift.evaluation import Call, Calls
from qshift.executors.packing import Load, pack
from qshift.executors.readings import Readings, groups, probabilities, readings
from qshift.executors.seeding import generator
from qshift.executors.translation import column, translate
from qshift.fingerprint import fingerprint
from qshift.progress import track
from qshift.tracker import Tracker

_REGISTER = "outcomes"


@dataclass(frozen=True)
class _Prepared:
    """A circuit as the primitives run it.

    Attributes:
        readings: How its values are measured.
        bases: In how many the estimator measures.
        circuit: Transpiled, without measurements; None if no expectation values are estimated.
        observables: As the transpiled circuit's qubits have them.
        sampled: Transpiled circuits with measurements, one for each basis that is sampled.
    """

    readings: Readings
    bases: int
    circuit: QuantumCircuit | None
    observables: tuple[SparsePauliOp, ...]
    sampled: tuple[QuantumCircuit, ...]


@dataclass(frozen=True)
class _Pub:
    """What one PUB runs, and where its results belong.

    Attributes:
        request: Which circuit of the batch.
        copy: Which entry of its shot vector.
        basis: Which of the bases that are sampled; None for expectation values.
        load: How much it is.
        shots: In each basis; 0 for exact results.
    """

    request: int
    copy: int
    basis: int | None
    load: Load
    shots: int


class EstimatorExecutor:
    """Runs circuits with EstimatorV2, and with SamplerV2 where probabilities are measured.

    Args:
        device: A `qshift.executors.device.EstimatorDevice`.
        seed: Seed of a simulator's samples; None for the device's.

    What becomes of shots: an Estimator takes a precision, which is ``1 / sqrt(shots)``. It then
    measures every point `shots` times in each of the bases that the observables need, one basis
    for all Pauli words that commute qubit by qubit; error mitigation may add to that. A Sampler
    takes the shots as they are. Without shots, results are exact, which Aer can do: of the noise
    model too, if it has one.

    Samples of a seeded qnode follow from the seed, the call's number and the points that are run
    together, so that the same program gives the same numbers again.
    """

    differentiates_gates = False

    def __init__(self, device, seed: int | None = None):
        self.device = device
        self._target = device.target
        self._seed = device.seed if seed is None else seed
        self._calls = Calls()
        self._planned: WeakKeyDictionary[Circuit, _Prepared] = WeakKeyDictionary()
        self._prepared: WeakKeyDictionary[Circuit, _Prepared] = WeakKeyDictionary()

    def __call__(
        self, circuit: Circuit, points: np.ndarray, call: Call | None = None
    ) -> np.ndarray:
        """Returns the raw values float64[N, M] of a circuit at the points float64[N, P].

        Counts as one batch in `Tracker`. It is one job, or two if both expectation values and
        sampled probabilities are measured, unless the device's limits make it more.

        Raises:
            UnsupportedError: For circuits that the backend cannot run. Nothing is submitted then.
        """
        return self.run([(circuit, points)], call)[0]

    def run(
        self, requests: Sequence[tuple[Circuit, np.ndarray]], call: Call | None = None
    ) -> list[np.ndarray]:
        """Runs several circuits, each at its own points, as one batch.

        Args:
            requests: (circuit, points float64[N, P]).
            call: What seeded samples depend on.

        Returns:
            The raw values float64[N, M] of each.
        """
        call = call or Call(next(self._calls))
        requests = [(circuit, np.asarray(points, dtype=float)) for circuit, points in requests]
        results = [np.zeros((len(points), circuit.num_values)) for circuit, points in requests]
        prepared = [self._prepare(circuit) for circuit, _ in requests]
        pubs = [
            pub
            for i, (circuit, points) in enumerate(requests)
            for pub in _pubs(i, circuit, prepared[i], len(points))
        ]
        jobs = [
            (kind, [(kind[i], rows) for i, *rows in job])
            for kind in _kinds(pubs)
            for job in pack([pub.load for pub in kind], self.device.limits)
        ]
        seeds = self._seeds(requests, call, len(jobs))
        submitted = []
        for (kind, parts), seed in zip(jobs, seeds, strict=True):
            arguments = [
                _arguments(pub, prepared[pub.request], requests[pub.request][1][slice(*rows)])
                for pub, rows in parts
            ]
            if kind[0].basis is None:
                exact = not kind[0].shots
                submitted.append(self._target.estimate(arguments, seed, exact))
            else:
                submitted.append(self._target.sample(arguments, seed))
            Tracker.record(jobs=1)
        for result, (circuit, _), ready in zip(results, requests, prepared, strict=True):
            result[:] = np.tile(ready.readings.constants, circuit.copies)
        done = list(zip((parts for _, parts in jobs), submitted, strict=True))
        size = sum(pub.load.rows for pub in pubs)
        for parts, job in track(done, size, lambda item: _rows(item[0]), "circuits"):
            for (pub, rows), measured in zip(parts, job.result(), strict=True):
                ready = prepared[pub.request].readings
                width = len(ready.constants)
                copies = results[pub.request].reshape(-1, requests[pub.request][0].copies, width)
                block = copies[slice(*rows), pub.copy]
                _read(block, pub, ready, measured)
        Tracker.record(
            batches=int(any(len(points) for _, points in requests)),
            circuits=sum(len(points) for _, points in requests),
            shots=sum(pub.load.rows * pub.load.executions for pub in pubs),
        )
        return results

    def jobs(self, circuit: Circuit, points: int) -> int:
        """Returns how many jobs a batch of so many points of a circuit takes."""
        pubs = list(_pubs(0, circuit, self._read_out(circuit), points))
        return sum(
            len(pack([pub.load for pub in kind], self.device.limits)) for kind in _kinds(pubs)
        )

    def shots(self, circuit: Circuit) -> int:
        """Returns how many shots each point of a circuit takes, in all bases."""
        pubs = _pubs(0, circuit, self._read_out(circuit), 1)
        return sum(pub.load.executions for pub in pubs)

    def differentiates(self, circuit: Circuit) -> bool:
        """Says no: there is no adjoint differentiation on hardware."""
        return False

    def require_gradients(self, circuit: Circuit) -> None:
        """Raises UnsupportedError."""
        raise UnsupportedError(
            f"diff_method='adjoint': {self._target.name} runs circuits and does not differentiate "
            "them. Use diff_method='shift' or diff_method='best'."
        )

    def gradients(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Raises UnsupportedError."""
        self.require_gradients(circuit)

    def _seeds(self, requests, call, count):
        """Returns seeds for so many jobs, or as many times None."""
        if self._seed is None or not requests:
            return [None] * count
        circuit, points = requests[0]
        rng = generator(self._seed, circuit, points, call)
        return [int(rng.integers(1, 2**31)) for _ in range(count)]  # zero stands for none

    def _wires(self, circuit) -> list:
        """Returns the wires of a circuit, in the device's order if it has one.

        Raises:
            UnsupportedError: If the device lacks some, or the backend has too few qubits.
        """
        used = circuit.wires
        wires = list(used)
        if self.device.wires:
            if missing := [wire for wire in used if wire not in self.device.wires]:
                raise UnsupportedError(
                    f"The circuit acts on the wires {missing}, which the device does not have: it "
                    f"has {self.device.wires.tolist()}. Give the device more wires=, or none."
                )
            wires = [wire for wire in self.device.wires if wire in used]
        if len(wires) > self._target.num_qubits:
            raise UnsupportedError(
                f"The circuit has {len(wires)} wires, but {self._target.name} has "
                f"{self._target.num_qubits} qubits. Choose a larger backend (qshift devices)."
            )
        return wires

    def _read_out(self, circuit) -> _Prepared:
        """Returns a circuit's readings with their observables on its own wires, for planning."""
        if circuit in self._planned:
            return self._planned[circuit]
        if not circuit.shots and not self._target.is_aer:
            raise UnsupportedError(
                f"{self._target.name} samples, so it needs shots: give shots= to the qnode or to "
                "qshift.device. Exact results with the same noise come from a device with "
                'backend="aer:..." instead of "fake:...".'
            )
        found = readings(circuit, self._wires(circuit))
        if not circuit.shots and not self._target.is_exact:
            raise UnsupportedError(
                f"Exact values with the noise of {self._target.name} take a density matrix of its "
                f"{self._target.num_qubits} qubits. Give shots=, or choose a smaller backend, such "
                'as "aer:FakeManilaV2".'
            )
        bases, sampled = groups(found.observables), (None,) * len(found.bases)
        return self._planned.setdefault(
            circuit, _Prepared(found, bases, None, found.observables, sampled)
        )

    def _prepare(self, circuit) -> _Prepared:
        ready = self._prepared.get(circuit)
        if ready is not None:
            return ready
        found = self._read_out(circuit).readings
        wires = self._wires(circuit)
        key = (
            tuple(map(fingerprint, circuit.operations)),
            tuple((slot.operation, slot.leaf) for slot in circuit.slots),
            tuple(wires),
        )
        bare, observables = None, ()
        sampled = []
        if found.observables or any(not basis.gates for basis in found.bases):
            bare = self._target.transpiled(key, lambda: translate(circuit, wires))
        if found.observables:
            observables = tuple(
                each.apply_layout(bare.layout, bare.num_qubits) for each in found.observables
            )
        for basis in found.bases:
            isa = bare
            if basis.gates:
                rotated = (key, tuple(map(fingerprint, basis.gates)))
                isa = self._target.transpiled(
                    rotated, lambda basis=basis: translate(circuit, wires, basis.gates)
                )
            sampled.append(_measuring(isa, [wires.index(wire) for wire in basis.wires]))
        ready = _Prepared(found, groups(observables), bare, observables, tuple(sampled))
        self._prepared[circuit] = ready
        return ready


def _kinds(pubs) -> list[list[_Pub]]:
    """Puts PUBs together that the same primitive runs."""
    kinds: dict[tuple, list[_Pub]] = {}
    for pub in pubs:
        kinds.setdefault((pub.basis is None, pub.shots == 0), []).append(pub)
    return list(kinds.values())


def _pubs(request, circuit, ready, rows):
    """Yields the PUBs of one circuit."""
    vector = list(circuit.shots) if circuit.shots else [0]
    values = circuit.num_parameters
    for copy, shots in enumerate(vector):
        if ready.observables:
            load = Load(rows, values, shots * ready.bases)
            yield _Pub(request, copy, None, load, shots)
        for basis in range(len(ready.sampled)):
            yield _Pub(request, copy, basis, Load(rows, values, shots), shots)


def _rows(parts) -> int:
    return sum(last - first for _, (first, last) in parts)


def _arguments(pub, ready, points) -> tuple:
    """Returns a PUB as the primitives take it."""
    if pub.basis is not None:
        circuit = ready.sampled[pub.basis]
        return circuit, _bindings(circuit, points), pub.shots
    # The estimator rounds the number of shots up, also where it misses an integer by rounding.
    precision = (1 + 1e-12) / np.sqrt(pub.shots) if pub.shots else 0.0
    bindings = _bindings(ready.circuit, points[:, None] if ready.circuit.parameters else points)
    return ready.circuit, list(ready.observables), bindings, precision


def _bindings(circuit: QuantumCircuit, points: np.ndarray) -> BindingsArray:
    """Returns the parameter values of a circuit at points float64[..., P]."""
    parameters: list[Parameter] = list(circuit.parameters)
    values = points[..., [column(parameter) for parameter in parameters]]
    return BindingsArray({tuple(parameters): values}, shape=points.shape[:-1])


def _measuring(circuit: QuantumCircuit, qubits: Sequence[int]) -> QuantumCircuit:
    """Adds a measurement of qubits, given as before the transpilation, to a transpiled circuit."""
    final = circuit.layout.final_index_layout() if circuit.layout else range(circuit.num_qubits)
    measured = circuit.copy()
    register = ClassicalRegister(len(qubits), _REGISTER)
    measured.add_register(register)
    measured.measure([final[qubit] for qubit in qubits], register)
    return measured


def _read(block, pub, ready, measured):
    """Adds what a PUB has measured to the values float64[rows, width] of its circuit."""
    if pub.basis is None:
        block += np.asarray(measured.data.evs, dtype=float) @ ready.weights
        return
    basis = ready.bases[pub.basis]
    outcomes = measured.data[_REGISTER]
    for row in range(len(block)):
        counts = outcomes.get_int_counts(row)
        for start, wires in basis.columns.items():
            frequencies = probabilities(counts, basis, wires)
            block[row, start : start + len(frequencies)] = frequencies
