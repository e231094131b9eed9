"""Jobs of the noise learner on the loopback service: circuits, or since runtime client 0.50 layers
of gates, whose noise is read off the noise model of the simulator."""

from __future__ import annotations

import itertools
import json

import numpy as np
from qiskit import QuantumCircuit, QuantumRegister
from qiskit.quantum_info import PTM, PauliList
from qiskit_aer.noise import QuantumError
from qiskit_ibm_runtime import RuntimeDecoder, RuntimeEncoder

PROGRAM = "noise-learner"
_WORDS = ["".join(pair) for pair in itertools.product("IXYZ", repeat=2)]  # of qubits 1 and 0
_ALL = {"fraction_kept": {}, "success_rates": {}}
_EXECUTIONS = 9 * 6 * 32 * 128  # by default, of each layer


def _is_of_layers(params: dict) -> bool:
    return "instructions" in params


def layers(params: dict, qubits: int) -> list[tuple]:
    """Returns for each layer, or circuit, its qubits, and its gates on two as (name, qubits).

    Args:
        params: The parameters of the job.
        qubits: How many qubits the backend has.
    """
    if _is_of_layers(params):
        from ibm_quantum_schemas.noise_learner_v3.version_0_3 import ParamsModel

        circuit = ParamsModel.model_validate(params).instructions.to_quantum_circuit()
        register = QuantumRegister(qubits, "q")
        found = []
        for step in circuit.data:
            places = [register.index(qubit) for qubit in step.qubits]
            found.append((sorted(places), _gates(step.operation.body, places)))
        return found
    circuits = json.loads(json.dumps(params["circuits"]), cls=RuntimeDecoder)
    return [(list(range(each.num_qubits)), _gates(each)) for each in circuits]


def _gates(circuit: QuantumCircuit, places=None) -> list[tuple]:
    found = {}
    for step in circuit.data:
        on = [circuit.find_bit(qubit).index for qubit in step.qubits]
        if len(on) == 2:
            found[step.operation.name, tuple(on if places is None else [places[i] for i in on])] = 1
    return list(found)


def content(layer: tuple) -> str:
    """Returns what is learnt, as a text that is equal in all processes."""
    return repr(layer)


def rates(simulator, name: str, qubits: tuple) -> np.ndarray:
    """Returns the rates of `_WORDS`, from the second on, in the twirled noise of a gate.

    A channel exp(sum_k r_k (P_k . P_k - 1)) takes a word Q to exp(-2 sum r_k) Q, where the sum is
    over the words P_k that do not commute with Q.
    """
    model = simulator.options.noise_model
    for each in model.to_dict()["errors"] if model else ():
        if name in each["operations"] and tuple(qubits) in map(tuple, each.get("gate_qubits", ())):
            error = QuantumError.from_dict(each).to_quantumchannel()
            fidelities = np.real(np.diag(PTM(error).data))[1:]
            words = PauliList(_WORDS[1:])
            apart = np.array([~words.commutes(word) for word in words], dtype=float)
            return np.maximum(0.0, np.linalg.solve(apart, -np.log(fidelities) / 2))
    return np.zeros(len(_WORDS) - 1)


def run(params: dict, asked: list[tuple], simulator, fault: str | None) -> tuple[str, int]:
    """Learns; returns the result as the service sends it, and the number of executions."""
    found = asked[:-1] if fault == "short" else 2 * asked if fault == "double" else asked
    make = _of_layers if _is_of_layers(params) else _of_circuits
    return make(found, simulator), _EXECUTIONS * len(asked)


def _of_layers(asked: list[tuple], simulator) -> str:
    from qiskit.quantum_info import QubitSparsePauliList
    from qiskit_ibm_runtime.noise_learner_v3.converters.version_0_3 import (
        noise_learner_v3_result_to_0_3,
    )
    from qiskit_ibm_runtime.results import NoiseLearnerV3Result, NoiseLearnerV3Results

    learnt = []
    for qubits, gates in asked:
        terms, size = [("Z", [0], 0.0)], len(qubits)
        for name, on in gates:
            places = [qubits.index(qubit) for qubit in on]
            pairs = zip(_WORDS[1:], rates(simulator, name, on), strict=True)
            terms += [(word[::-1], places, rate) for word, rate in pairs]
        words = [
            [(c, p) for c, p in zip(word, places, strict=True) if c != "I"]
            for word, places, _ in terms
        ]
        generators = [
            QubitSparsePauliList.from_sparse_list(
                [("".join(c for c, _ in word), [p for _, p in word])], size
            )
            for word in words
        ]
        every = [rate for *_, rate in terms]
        about = {"learning_protocol": "lindblad", "post_selection": _ALL}
        learnt.append(NoiseLearnerV3Result.from_generators(generators, every, metadata=about))
    model = noise_learner_v3_result_to_0_3(NoiseLearnerV3Results(learnt))
    return json.dumps(model.model_dump(mode="json"))


def _of_circuits(asked: list[tuple], simulator) -> str:
    from qiskit_ibm_runtime.utils.noise_learner_result import LayerError, PauliLindbladError

    learnt = []
    for name, on in dict.fromkeys(gate for _, gates in asked for gate in gates):
        layer = QuantumCircuit(2)
        getattr(layer, name)(0, 1)
        error = PauliLindbladError(PauliList(_WORDS[1:]), rates(simulator, name, on))
        learnt.append(LayerError(layer, list(on), error))
    return json.dumps({"data": learnt, "metadata": {}}, cls=RuntimeEncoder)
