"""Jobs of IBM's Executor, with runtime clients from 0.50 on.

All PUBs of a batch are one program (`quantum_program`), and their results follow here from raw
outcomes, also where readout errors are mitigated and circuits are twirled. Other error mitigation
is the client's: its Estimator and Sampler make programs of their own, whose results it computes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from pydantic import create_model
from qiskit import QuantumRegister
from qiskit.quantum_info import PauliLindbladMap
from qiskit_ibm_runtime import Executor, NoiseLearnerV3, QuantumProgram
from qiskit_ibm_runtime.decoders.defaults import DEFAULT_DECODERS
from qiskit_ibm_runtime.executor_estimator import Estimator
from qiskit_ibm_runtime.executor_sampler import Sampler
from qiskit_ibm_runtime.options_models import ExecutorOptions, NoiseLearnerV3Options
from qiskit_ibm_runtime.options_models.base import BaseOptionsModel
from qiskit_ibm_runtime.options_models.estimator import EstimatorOptions
from qiskit_ibm_runtime.options_models.resilience import ResilienceOptions
from qiskit_ibm_runtime.options_models.sampler import SamplerOptions
from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
from qiskit_ibm_runtime.results.noise_learner_v3 import NoiseLearnerV3Results
from qiskit_ibm_runtime.results.quantum_program import QuantumProgramResult

from qshift.errors import JobError
from qshift.executors.qiskit import quantum_program
from qshift.executors.qiskit.mitigation import NONE, Mitigation, elsewhere
from qshift.executors.qiskit.option_tables import known
from qshift.executors.qiskit.pub_results import LEARNER, Unpacked, require_results
from qshift.executors.qiskit.trex import FactorError

# Learning is a program of its own here; users give its options where they were before.
_LEARNT_BY = ("num_randomizations", "shots_per_randomization", "layer_pair_depths")
_fields = NoiseLearnerV3Options.model_fields
_own: dict[str, Any] = {name: (_fields[name].annotation, _fields[name]) for name in _LEARNT_BY}
_Learning = create_model("_Learning", __base__=BaseOptionsModel, **_own)
_Resilience = create_model(
    "_Resilience", __base__=ResilienceOptions, layer_noise_learning=(_Learning, _Learning())
)
# For fake backends; IBM's are no simulators.
_Simulator = create_model("_Simulator", __base__=SimulatorOptions, noise_model=(Any, None))
_Options = create_model(
    "_Options",
    __base__=EstimatorOptions,
    resilience=(_Resilience, _Resilience()),
    simulator=(_Simulator, _Simulator()),
)
OPTIONS = {"estimator": _Options, "sampler": SamplerOptions}
LEARNS_BY_ITSELF = False  # an Estimator, in each job
MOST_LEARNT = math.inf  # layers in a job of the learner
# Options that ask for error mitigation, or for what goes with it.
_MITIGATION = {
    "estimator": ("resilience_level", "resilience", "twirling", "dynamical_decoupling"),
    "sampler": ("twirling", "dynamical_decoupling"),
}
_CLIENTS: dict[str, Any] = {
    "estimator": (Estimator, EstimatorOptions),
    "sampler": (Sampler, SamplerOptions),
}


def own(options: Mapping[str, Any]) -> Mitigation | None:
    """Returns what is mitigated in programs that are made here; None where the options ask for what
    the client alone does."""
    return None if elsewhere(options) else Mitigation.of(options)


def _is_clients(primitive: str, options: Mapping[str, Any]) -> bool:
    """Whether the client makes the programs of a primitive."""
    if primitive == LEARNER:
        return True
    if own(options) is not None or primitive not in _CLIENTS:
        return False
    return any(options.get(name) for name in _MITIGATION[primitive])


def kinds(
    pubs: Sequence[tuple[str, int]], options: Mapping[str, Any]
) -> list[tuple[Hashable, int]]:
    """See `qshift.executors.qiskit.targets.Target.kinds`."""
    mitigation = own(options) or NONE
    sizes = [mitigation.variants(*pub)[1] for pub in pubs]
    rows = quantum_program.shared(
        size
        for (primitive, _), size in zip(pubs, sizes, strict=True)
        if not _is_clients(primitive, options)
    )
    return [
        ((primitive, shots), 0)  # the client's primitives have one precision for a job
        if _is_clients(primitive, options)
        else (rows[size], rows[size])
        for (primitive, shots), size in zip(pubs, sizes, strict=True)
    ]


def submit(
    primitive: str,
    mode: Any,
    pubs: Sequence[tuple],
    options: Mapping[str, Any],
    seed: int | None,
) -> Any:
    """Submits a job and returns it, without waiting; see `runtime_primitives.submit`.

    Here PUBs of both primitives may be in one job, unless the client makes its programs.
    """
    if primitive == LEARNER:
        asked = {**options.get("resilience", {}).get("layer_noise_learning", {}), **options}
        learner = NoiseLearnerV3(mode=mode, options=known(asked, NoiseLearnerV3Options()))
        return learner.run([layer for (layer,) in pubs])
    if _is_clients(primitive, options):
        client, table = _CLIENTS[primitive]
        return client(mode=mode, options=known(options, table())).run(pubs)
    executor = Executor(mode=mode, options=known(options, ExecutorOptions()))
    mitigation = own(options) or NONE
    made = quantum_program.program(pubs, executor.backend().target, mitigation, seed)
    program = QuantumProgram(made.shots, passthrough_data={"seed": seed, **made.recipe})
    for item in map(quantum_program.with_parameter, made.items):
        program.append_circuit_item(item.circuit, item.arguments)
    return executor.run(program)


def results(job: Any) -> Sequence[Any]:
    """Returns the results of a job that is done, one for each PUB.

    Args:
        job: A `RuntimeJobV2`.

    Raises:
        JobError: If the client cannot compute them from what the service has measured.
        TypeError: If they are not results of a primitive or program.
    """
    if job.primitive_id == LEARNER:
        learnt = job.result()
        if not isinstance(learnt, NoiseLearnerV3Results):
            raise TypeError("the noise of layers of gates was expected")
        return [
            Unpacked([_written(each.num_qubits, each.to_sparse_list())])
            for each in learnt.to_pauli_lindblad_maps()
        ]
    if job.primitive_id != "executor":  # sent by an earlier release
        return require_results(job.result())
    first, *others = DEFAULT_DECODERS["executor"]
    found = job.result(decoder=first)
    if not isinstance(found, QuantumProgramResult):
        raise TypeError("the results of a program were expected")
    travelled = found.passthrough_data
    if isinstance(travelled, Mapping) and quantum_program.NAME in travelled:
        try:
            return quantum_program.results(list(found), travelled)
        except FactorError as error:
            raise JobError(job.job_id(), "failed", str(error)) from error
    for decoder in others:
        if decoder.is_applicable(found):
            try:
                found = decoder.decode(found)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                reason = f"what was measured is not what was asked for ({error})"
                raise JobError(job.job_id(), "failed", reason) from error
    return require_results(found)


def _written(qubits: int, terms: Sequence[Any]) -> bytes:
    return json.dumps({"qubits": qubits, "terms": terms}).encode()


def layers(
    mode: Any, pubs: Sequence[tuple], options: Mapping[str, Any]
) -> list[tuple[bytes, Any, list[tuple[str, tuple[int, ...]]]]]:
    """Returns the layers of gates whose noise an Estimator has to know.

    Args:
        mode: The backend.
        pubs: Estimator PUBs.
        options: The Estimator's options.

    Returns:
        For each layer, bytes that identify it in every process, the layer as the noise learner
        takes it, and its gates on two qubits as (name, qubits).
    """
    estimator = Estimator(mode=mode, options=known(options, EstimatorOptions()))
    register = QuantumRegister(estimator.backend().num_qubits, "q")
    found = []
    for layer in estimator.find_unique_layers(pubs):
        body, qubits = layer.operation.body, [register.index(qubit) for qubit in layer.qubits]
        steps = [
            (step.operation.name, tuple(qubits[body.find_bit(each).index] for each in step.qubits))
            for step in body.data
        ]
        content = repr((sorted(qubits), steps)).encode()
        found.append((content, layer, [step for step in steps if len(step[1]) == 2]))
    return found


def noise(layers: Sequence[Any], learnt: Sequence[bytes]) -> Any:
    """Returns the noise of layers as an Estimator's option takes it.

    Args:
        layers: The layers, as `layers` returns them.
        learnt: What was learnt about each, as `results` returns it.
    """
    found = []
    for layer, written in zip(layers, learnt, strict=True):
        about = json.loads(written)
        terms = [tuple(term) for term in about["terms"]]
        found.append((layer, PauliLindbladMap.from_sparse_list(terms, about["qubits"])))
    return found
