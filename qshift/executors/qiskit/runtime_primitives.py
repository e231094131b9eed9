"""Jobs of IBM's own primitives, EstimatorV2 and SamplerV2, with runtime clients below 0.50.

`qiskit_internals` chooses between this module and `runtime_executor`, which has the same functions
and one more, `kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qiskit_ibm_runtime import EstimatorV2, SamplerV2
from qiskit_ibm_runtime.options import EstimatorOptions, SamplerOptions

from qshift.errors import ServiceError
from qshift.executors.qiskit.option_tables import known
from qshift.executors.qiskit.pub_results import require_results

OPTIONS = {"estimator": EstimatorOptions, "sampler": SamplerOptions}


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

    Args:
        primitive: The primitive of the PUBs, as `qshift.executors.qiskit.batch.Parcel` names it.
        mode: A backend, session or batch.
        pubs: Estimator PUBs with their precision, or Sampler PUBs with their shots.
        options: The Estimator's options; a Sampler gets those of them that it has.
        seed: The seed of a simulator's samples, positive; None for fresh ones.
    """
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
    return require_results(job.result())
