"""Optional dependencies: which extra brings what, and the error where it is not installed."""

from __future__ import annotations

import importlib.util

from qshift.errors import MissingExtraError

# Extra -> top-level modules that qshift imports of it; the packages have the same names with "-".
# pyproject.toml has the packages with their bounds.
EXTRAS = {
    "qiskit": (
        *("qiskit", "qiskit_aer", "qiskit_ibm_runtime"),
        *("psutil", "pydantic", "requests", "rustworkx", "urllib3"),
    ),
    "qasm": ("qiskit", "openqasm3", "qiskit_qasm3_import", "sympy"),
    "workers": ("loky",),
    "dask": ("distributed",),
    "plot": ("matplotlib",),
    "pennylane-qiskit": ("pennylane_qiskit",),
}


def require(extra: str, feature: str) -> None:
    """Raises an error that says what to install, unless the packages of an extra are installed.

    Nothing is imported here: an installed but broken package raises its own error when it is used.

    Args:
        extra: A key of `EXTRAS`.
        feature: What needs it, as the subject of a sentence.

    Raises:
        MissingExtraError: Packages of the extra are not installed; it names them.
    """
    missing = [name.replace("_", "-") for name in EXTRAS[extra] if not is_installed(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"{feature} needs {', '.join(missing)}, which {verb} not installed. "
            f'Install what is missing by pip install "qshift[{extra}]"'
        )


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
