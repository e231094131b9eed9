"""The targets of all backends that a name may stand for: Aer, fake backends, and IBM's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qshift.errors import OptionError
from qshift.executors.qiskit.given_target import GivenTarget
from qshift.executors.qiskit.local_target import LocalTarget
from qshift.executors.qiskit.service import ServiceTarget
from qshift.executors.qiskit.targets import Target

_HELP = (
    'expected "aer", "aer:FakeManilaV2" (Aer with its noise), "fake:FakeManilaV2", "ibm:NAME" or '
    '"ibm:least-busy", or a backend as an object, such as AerSimulator(...)'
)


def _meant(name: str) -> str:
    """Returns what a name that is no backend's may mean, in brackets, or ""."""
    if "simulator" in name.lower():
        return ' (IBM has retired its simulators: did you mean "aer"?)'
    if name.lower().startswith(("ibm_", "ibmq_")):
        return f' (did you mean "ibm:{name}"?)'
    if name.startswith("Fake"):
        return f' (did you mean "fake:{name}"?)'
    return ""


def is_of_service(backend: Any) -> bool:
    """Whether an object is a backend of IBM's service; its client is not imported to find out."""
    kinds = [(kind.__module__.partition(".")[0], kind.__name__) for kind in type(backend).__mro__]
    return ("qiskit_ibm_runtime", "IBMBackend") in kinds


def target(
    name: Any,
    optimization_level: int | None,
    options: Mapping[str, Any],
    least_qubits: int,
    **service: Any,
) -> Target:
    """Returns the target of a backend's name.

    Args:
        name: ``"aer"``, ``"aer:CLASS"`` for Aer with the noise, gates and couplings of a class in
            `qiskit_ibm_runtime.fake_provider`, ``"fake:CLASS"`` for that fake backend, which
            samples, or ``"ibm:NAME"`` for a backend of IBM's service. Or an object: a simulator of
            Aer's, a fake backend, or a backend that a `QiskitRuntimeService` has opened.
        optimization_level: The transpiler's level, 0 to 3; None for the default, 2.
        options: The primitives' options, see
            `qshift.executors.qiskit.qiskit_internals.check_options`.
        least_qubits: The number of qubits needed, where a backend can be chosen.
        **service: Further keywords of `service.ServiceTarget`; None for unset.

    Raises:
        OptionError: For a backend, or an option of the primitives, that does not exist.
    """
    service = {key: value for key, value in service.items() if value is not None}
    if is_of_service(name):
        for key in service.keys() & {"account", "instance", "use_fractional_gates"}:
            reason = f"{name.name} was opened with its own: give this to QiskitRuntimeService"
            raise OptionError(key, f"{reason}, or the backend by its name, ibm:{name.name}")
        fractional = bool(getattr(name.options, "use_fractional_gates", False))
        more = {**service, "use_fractional_gates": fractional, "opened": name}
        return ServiceTarget(f"ibm:{name.name}", optimization_level, options, **more)
    if not isinstance(name, str):
        found = GivenTarget(name, optimization_level, options)
        for key in service:
            raise OptionError(key, f"belongs to IBM's backends; {found.name} runs on this machine")
        return found
    kind = name.partition(":")[0]
    if kind == "ibm":
        return ServiceTarget(
            name, optimization_level, options, least_qubits=least_qubits, **service
        )
    if kind not in ("aer", "fake") or name == "fake:":
        raise OptionError("backend", f"there is no {name!r}{_meant(str(name))}; {_HELP}")
    for key in service:
        raise OptionError(key, f'belongs to backend="ibm:..."; {name} runs on this machine')
    return LocalTarget(name, optimization_level, options)
