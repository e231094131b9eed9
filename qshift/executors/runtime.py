"""All that qshift uses of qiskit-ibm-runtime, so that what moves there moves here only.

Its local testing mode runs the runtime's own primitives on Aer and on fake backends, which have
the qubits, gates and noise of a real one. Nothing leaves the machine.
"""

from __future__ import annotations

import difflib
import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from qiskit.providers import BackendV2
from qiskit_ibm_runtime import EstimatorV2, SamplerV2, fake_provider
from qiskit_ibm_runtime.options import EstimatorOptions, SamplerOptions

from qshift.errors import OptionError

# Options that say what qshift says otherwise.
_ELSEWHERE = {
    "default_shots": "give shots= to the device or the qnode",
    "default_precision": "give precision= or shots= to qshift.device",
    "seed_estimator": "give seed= to the qnode",
    "simulator.seed_simulator": "give seed= to the qnode",
}


def fake_names() -> list[str]:
    """Returns the names of the classes of fake backends."""
    return sorted(
        name
        for name, kind in vars(fake_provider).items()
        if name.startswith("Fake") and isinstance(kind, type) and issubclass(kind, BackendV2)
        if name != "FakeBackendV2"
    )


@functools.cache
def fake_backend(name: str) -> BackendV2:
    """Returns a fake backend, always the same one: its noise model takes seconds to build.

    Args:
        name: One of `fake_names`.
    """
    kind = getattr(fake_provider, name)
    return type(name, (_Shared, kind), {})()


class _Shared:
    """A fake backend that all jobs share, with its noise model, which takes seconds to build."""

    _starting = threading.Lock()

    def __deepcopy__(self, memo):
        return self  # local testing mode copies backends, and each would build a noise model

    def run(self, run_input, **options):
        with self._starting:  # a job that comes while the noise model is built would have no noise
            job = super().run(run_input, **options)
            noise = self.options.noise_model
            if noise is not None and "to_dict" not in vars(noise):
                noise.to_dict = functools.cache(noise.to_dict)  # what Aer asks for with each job
        return job


def check_options(options: Mapping[str, Any]) -> None:
    """Checks options of the primitives, before anything is submitted.

    Args:
        options: Those of the Estimator, in nested tables; a Sampler is given those it has as well.

    Raises:
        OptionError: For a name that there is not, and a value that is not allowed.
    """
    _check_names(options, EstimatorOptions())
    for make, kind in ((EstimatorOptions, EstimatorV2), (SamplerOptions, SamplerV2)):
        for name, value in _known(options, make()).items():
            try:
                kind._options_class(**{name: value})
            except ValueError as error:  # Pydantic's among them, which say what is allowed.
                reason = " ".join(str(error).split())
                raise OptionError(name, f"got {value!r}: {reason}") from error


def _check_names(options, known, above=()):
    """Raises OptionError for the first name that is not a field of options."""
    names = [field.name for field in fields(known) if not field.name.startswith("_")]
    for name, value in options.items():
        path = ".".join((*above, name))
        if path in _ELSEWHERE:
            raise OptionError(path, _ELSEWHERE[path])
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            place = f"{'.'.join(above)} of Qiskit's Estimator" if above else "Qiskit's Estimator"
            shown = ", ".join(name for name in names if ".".join((*above, name)) not in _ELSEWHERE)
            raise OptionError(path, f"no such option{hint}; {place} has {shown}")
        inner = getattr(known, name)
        if is_dataclass(inner) and not isinstance(inner, type):
            if not isinstance(value, Mapping):
                raise OptionError(path, f"expected a table of options, got {value!r}")
            _check_names(value, inner, (*above, name))


def _known(options, known) -> dict:
    """Returns those of the options that are fields of some options class, on all levels."""
    kept = {}
    for field in fields(known):
        if field.name in options:
            value, inner = options[field.name], getattr(known, field.name)
            nested = is_dataclass(inner) and not isinstance(inner, type)
            kept[field.name] = _known(value, inner) if nested else value
    return kept


def _seeded(options, seed) -> dict:
    if seed is None:
        return dict(options)
    return {**options, "simulator": {**options.get("simulator", {}), "seed_simulator": seed}}


def estimate(backend: BackendV2, pubs: Sequence, options: Mapping[str, Any], seed: int | None):
    """Submits a job of Estimator PUBs and returns it, without waiting.

    Args:
        backend: Where to.
        pubs: Estimator PUBs, each with its precision.
        options: The primitive's options.
        seed: Of the simulator's samples, positive; None for fresh ones.
    """
    return EstimatorV2(mode=backend, options=_seeded(options, seed)).run(pubs)


def sample(backend: BackendV2, pubs: Sequence, options: Mapping[str, Any], seed: int | None):
    """Submits a job of Sampler PUBs, each with its shots, and returns it; as `estimate`."""
    known = _known(options, SamplerOptions())
    return SamplerV2(mode=backend, options=_seeded(known, seed)).run(pubs)
