"""Jobs of the Executor on the loopback service: quantum programs, as runtime clients from 0.50 on
send them."""

from __future__ import annotations

import json

import numpy as np


def _model(params: dict):
    from ibm_quantum_schemas.executor.version_2_0 import ParamsModel

    return ParamsModel.model_validate(params)  # refuses what is no program


def _program(params: dict):
    from qiskit_ibm_runtime.quantum_program.params_converters import (
        QUANTUM_PROGRAM_PARAMS_CONVERTERS as CONVERTERS,
    )

    return CONVERTERS["v2.0"].decoder(_model(params))[0]


def items(params: dict) -> list:
    """Returns the items of a program."""
    return _program(params).items


def seed(params: dict) -> int | None:
    """Returns the seed that qshift has put into what travels with a program."""
    travelled = _model(params).quantum_program.passthrough_data
    return travelled.get("seed") if isinstance(travelled, dict) else None


def role(params: dict) -> str | None:
    """Returns whose results the client makes of those of a program, if not the user's own."""
    return params["quantum_program"].get("semantic_role")


def options(params: dict) -> dict:
    """Returns the options of a job, with those of the client's primitives where they have been
    before there was an Executor."""
    found = {"options": dict(params["options"])}
    travelled = _program(params).passthrough_data
    if isinstance(travelled, dict) and (made := travelled.get("post_processor")):
        asked = made["options"]
        found |= {"resilience_level": asked.get("resilience_level")}
        found["options"]["twirling"] = asked["twirling"]
    return found


def content(params: dict) -> list:
    """Returns what a job runs, its seed included, as data that are equal in all processes."""
    program = _program(params)
    parts: list = [program.shots, seed(params), params["options"]]
    for item in program.items:
        circuit = item.circuit
        for step in circuit.data:
            qubits = [circuit.find_bit(qubit).index for qubit in step.qubits]
            parts.append((step.operation.name, qubits, [str(p) for p in step.operation.params]))
        if hasattr(item, "circuit_arguments"):
            parts.append((item.shape, item.circuit_arguments.tobytes().hex()))
        else:
            parts.append((item.shape, str(item.samplex_arguments)))
    return parts


def run(params: dict, simulator, seed: int, fault: str | None) -> tuple[str, int]:
    """Runs a program; returns its result as the service sends it, and its number of executions.

    Args:
        params: The parameters of the job.
        simulator: Runs circuits.
        seed: Of the samples.
        fault: ``"short"`` if the outcomes of the last item get lost, ``"double"`` if those of all
            items come twice, ``"few"`` if there are half of the shots.
    """
    from ibm_quantum_schemas.common import CompressedTensorModel
    from ibm_quantum_schemas.executor.version_2_0 import (
        ItemMetadataModel,
        MetadataModel,
        QuantumProgramResultItemModel,
        QuantumProgramResultModel,
    )

    sent, program = _model(params).quantum_program, _program(params)
    if fault == "few":
        program.shots //= 2
    data = [
        QuantumProgramResultItemModel(
            results={
                name: CompressedTensorModel.from_numpy(np.ascontiguousarray(values))
                for name, values in item.items()
            },
            metadata=ItemMetadataModel(),
        )
        for item in _measured(program, simulator, seed)
    ]
    result = QuantumProgramResultModel(
        data=data[:-1] if fault == "short" else 2 * data if fault == "double" else data,
        metadata=MetadataModel(chunk_timing=[]),
        passthrough_data=sent.passthrough_data,
        semantic_role=sent.semantic_role,
    )
    executions = program.shots * sum(item.size() for item in program.items)
    return json.dumps(result.model_dump(mode="json")), executions


def _measured(program, simulator, seed: int):
    """Yields what the items of a program measure, with samples of their own.

    The client simulates all items of a program with one seed, and so with the same random numbers.
    """
    from qiskit_ibm_runtime import QuantumProgram
    from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
    from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions

    numbers = np.random.default_rng(seed)
    for item in program.items:
        if hasattr(item, "samplex"):
            item.samplex.finalize()
        options = SimulatorOptions(seed_simulator=int(numbers.integers(2**31)), angle_decimals=15)
        alone = QuantumProgram(program.shots, [item], program.noise_maps)
        yield from run_quantum_program(simulator, alone, options)
