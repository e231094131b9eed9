"""Jobs of IBM's own primitives, EstimatorV2 and SamplerV2, with runtime clients below 0.50.

`qiskit_internals` chooses between this module and `runtime_executor`, which has the same functions
and one more, `kinds`.
"""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from qiskit import qpy
from qiskit.quantum_info import PauliList
from qiskit_ibm_runtime import EstimatorV2, SamplerV2
from qiskit_ibm_runtime.noise_learner import NoiseLearner
from qiskit_ibm_runtime.options import EstimatorOptions, NoiseLearnerOptions, SamplerOptions
from qiskit_ibm_runtime.utils.noise_learner_result import (
    LayerError,
    NoiseLearnerResult,
    PauliLindbladError,
)

from qshift.errors import ServiceError
from qshift.executors.qiskit.digests import of_circuit
from qshift.executors.qiskit.option_tables import known
from qshift.executors.qiskit.pub_results import LEARNER, Unpacked, require_results

OPTIONS = {"estimator": EstimatorOptions, "sampler": SamplerOptions}
LEARNS_BY_ITSELF = True  # an Estimator, in each job, if it is not told the noise
_WARNED = "The RuntimeOptions class is deprecated"
MOST_LEARNT = 1  # circuits in a job of the learner, of which several could not be told apart


def own(options: Mapping[str, Any]) -> None:
    """Returns None: what is mitigated is up to the service; see `runtime_executor.own`."""


def submit(
    primitive: str,
    mode: Any,
    pubs: Sequence[tuple],
    options: Mapping[str, Any],
    seed: int | None,
) -> Any:
    """Submits a job and returns it, without waiting.

    The client warns of a class that its primitives use, whatever they are called with. Its warning
    is left out, as it would stop a program whose warnings are errors. The filter stays: one that is
    taken away again (`warnings.catch_warnings`) would change those of other threads meanwhile.

    Args:
        primitive: The primitive of the PUBs, as `qshift.executors.qiskit.batch.Parcel` names it.
        mode: A backend, session or batch.
        pubs: Estimator PUBs with their precision, or Sampler PUBs with their shots.
        options: The Estimator's options; a Sampler gets those of them that it has.
        seed: The seed of a simulator's samples, positive; None for fresh ones.
    """
    warnings.filterwarnings("ignore", _WARNED, DeprecationWarning, r"qiskit_ibm_runtime\.")
    if primitive == LEARNER:
        asked = {**options.get("resilience", {}).get("layer_noise_learning", {}), **options}
        if strategy := options.get("twirling", {}).get("strategy"):
            asked["twirling_strategy"] = strategy
        learner = NoiseLearner(mode=mode, options=known(asked, NoiseLearnerOptions()))
        return learner.run([circuit for (circuit,) in pubs])
    made = EstimatorV2 if primitive == "estimator" else SamplerV2
    seeded = dict(options)
    if seed is not None:
        seeded["simulator"] = {**options.get("simulator", {}), "seed_simulator": seed}
    return made(mode=mode, options=known(seeded, OPTIONS[primitive]())).run(pubs)


def results(job: Any) -> Sequence[Any]:
    """Returns the results of a job that is done, one for each PUB.

    Args:
        job: A `RuntimeJobV2`.

    Raises:
        ServiceError: If the job was sent by a later release of the client.
        TypeError: If they are not results of a primitive.
    """
    if job.primitive_id == "executor":
        raise ServiceError(
            f"Job {job.job_id()} was sent by qiskit-ibm-runtime 0.50 or later, and its results can "
            "only be read by such a release. Nothing is lost: install one, and run this again."
        )
    if job.primitive_id == LEARNER:
        learnt = job.result()
        if not isinstance(learnt, NoiseLearnerResult):
            raise TypeError("the noise of layers of gates was expected")
        return [Unpacked([json.dumps([_written(layer) for layer in learnt]).encode()])]
    return require_results(job.result())


def _written(layer: LayerError) -> dict[str, Any]:
    """Returns the noise of a layer as plain data."""
    file = io.BytesIO()
    qpy.dump(layer.circuit, file)
    return {
        "circuit": base64.b64encode(file.getvalue()).decode(),
        "qubits": list(layer.qubits),
        "error": layer.error
        and {"generators": layer.error.generators.to_labels(), "rates": layer.error.rates.tolist()},
    }


def layers(
    mode: Any, pubs: Sequence[tuple], options: Mapping[str, Any]
) -> list[tuple[bytes, Any, list[tuple[str, tuple[int, ...]]]]]:
    """Returns the circuits with layers of gates whose noise an Estimator has to know; see
    `runtime_executor.layers`. The service takes the layers out of the circuits."""
    found = {}
    for circuit, *_ in pubs:
        gates = {
            (step.operation.name, tuple(circuit.find_bit(qubit).index for qubit in step.qubits))
            for step in circuit.data
            if len(step.qubits) == 2
        }
        if gates:
            found[of_circuit(circuit)] = circuit, sorted(gates)
    return [(content, *about) for content, about in found.items()]


def noise(layers: Sequence[Any], learnt: Sequence[bytes]) -> Any:
    """Returns the noise of layers as an Estimator's option takes it; see
    `runtime_executor.noise`."""
    found = []
    for about in (layer for written in learnt for layer in json.loads(written)):
        (circuit,) = qpy.load(io.BytesIO(base64.b64decode(about["circuit"])))
        error = about["error"]
        known = error and PauliLindbladError(PauliList(error["generators"]), error["rates"])
        found.append(LayerError(circuit, about["qubits"], known))
    return found
