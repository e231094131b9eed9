"""Backends that a user has made: objects of Qiskit's in this process, as targets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from qiskit.providers import BackendV2

from qshift.errors import OptionError
from qshift.executors.qiskit import digests
from qshift.executors.qiskit.local_target import AER_GATES, LocalTarget

# The packages whose backends run in this process.
_AER = "qiskit_aer"
_LOCAL = (_AER, "qiskit_ibm_runtime.fake_provider", "qiskit.providers.fake_provider")


class GivenTarget(LocalTarget):
    """A simulator of Aer's, with noise of a user's own, or a fake backend, as an object.

    The object must not be changed afterwards.

    Args:
        backend: The object.
        optimization_level: As for `backends.target`.
        options: As for `backends.target`.

    Raises:
        OptionError: For an object that is no backend in this process.
    """

    def __init__(
        self, backend: Any, optimization_level: int | None, options: Mapping[str, Any]
    ) -> None:
        modules = [kind.__module__ for kind in type(backend).__mro__]
        if not isinstance(backend, BackendV2) or not any(m.startswith(_LOCAL) for m in modules):
            raise OptionError("backend", _refusal(backend))
        super().__init__("aer", optimization_level, options)
        self._given = backend
        self.name = self._asked_for = f"{type(backend).__name__} {backend.name}"
        self.is_aer = any(module.startswith(_AER) for module in modules)

    def _made_of(self) -> tuple[Any, int | None, Mapping[str, Any]]:
        return self._given, self.level, self._options

    @property
    def _device(self) -> BackendV2:
        return self._given

    @property
    def _backend(self) -> BackendV2:
        return self._given

    @property
    def _is_noisy(self) -> bool:
        return not self.is_aer or getattr(self._given.options, "noise_model", None) is not None

    @property
    def is_exact(self) -> bool:  # type: ignore[override]
        """Whether the target gives exact values: Aer's simulators do, with noise by density
        matrices."""
        return self.is_aer

    @cached_property
    def _about(self) -> dict[str, Any]:
        """Everything that results depend on."""
        options = {name: getattr(self._given.options, name) for name in self._given.options}
        target = self._given.target
        return {
            "kind": f"{type(self._given).__module__}.{type(self._given).__qualname__}",
            "options": options,
            "qubits": target.num_qubits,
            "dt": target.dt,
            "properties": [
                each and [getattr(each, name, None) for name in ("t1", "t2", "frequency")]
                for each in target.qubit_properties or ()
            ],
            "gates": {
                name: [
                    [list(qubits or ()), about and about.duration, about and about.error]
                    for qubits, about in (target[name] or {}).items()
                ]
                for name in target.operation_names
            },
        }

    def _settings(self, level: int, options: Mapping[str, Any]) -> dict[str, Any]:
        return super()._settings(level, options) | {"given": self._about}

    def _version(self) -> tuple:
        return "given", digests.of_options(self._about, is_complete=False)

    def _aer_settings(self) -> dict[str, Any]:
        # Of a noise model, the gates that it knows: others would be without noise.
        known = [name for name in AER_GATES if name in self._given.operation_names]
        return {"basis_gates": known, "coupling_map": self._given.coupling_map}


def _refusal(backend: Any) -> str:
    """Returns what is wrong with an object that is no backend in this process."""
    kind = f"{type(backend).__module__}.{type(backend).__qualname__}"
    if not isinstance(backend, BackendV2):
        return f"expected a name or a backend of Qiskit's, got a {kind}"
    return (
        f"a {kind} may be on a service, where nothing would be recorded; objects may be simulators "
        "of qiskit_aer and fake backends"
    )
