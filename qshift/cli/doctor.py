"""``qshift doctor``: what is installed, what can run and where files are, for bug reports.

No tokens are read, and of the environment variables that may hold secrets only the names are shown.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

import qshift
from qshift import cores
from qshift.api import profiles
from qshift.cli.commands import show
from qshift.errors import MissingExtraError
from qshift.extras import EXTRAS, is_installed
from qshift.ledger.ledger import default_path
from qshift.places import home
from qshift.progress import progress
from qshift.quiet import quiet

# The packages whose versions matter; those of extras are added.
_CORE = (
    *("tensorflow", "keras", "numpy", "scipy", "pennylane", "pennylane-lightning"),
    *("autograd", "llvmlite", "rich", "cloudpickle"),
)
# Each module names everything that qshift uses beneath the public interface of one framework, so
# that it can be imported only if all these names are there.
_INTERNALS = {
    "qshift.tensorflow_internals": None,
    "qshift.keras.keras_internals": None,
    "qshift.circuits.pennylane_internals": None,
    "qshift.circuits.pennylane_changes_internals": None,
    "qshift.circuits.pennylane_math_internals": None,
    "qshift.executors.qiskit.qiskit_internals": "qiskit",
    "qshift.executors.qiskit.aer_internals": "qiskit",
    "qshift.executors.workers.dask_internals": "dask",
}
_VARIABLES = (
    *("QSHIFT_DEVICES", "QSHIFT_LEDGER", "QSHIFT_RUN"),
    *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"),
    *("KERAS_BACKEND", "TF_USE_LEGACY_KERAS", "TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
)
_SECRET = ("QISKIT_IBM_TOKEN", "QISKIT_IBM_INSTANCE", "QISKIT_IBM_URL", "QISKIT_IBM_CHANNEL")
# PennyLane's devices that run on this machine; of others doctor cannot know that.
_SIMULATORS = ("default.mixed", "default.qubit", "lightning.qubit", "reference.qubit")
_ANGLE = 0.4


def doctor(options: argparse.Namespace) -> int:
    """Prints what a bug report needs; the status is 1 if something that should work does not."""
    content: dict[str, Any] = {"qshift": qshift.__version__, "system": _system()}
    content["packages"] = dict(_versions())
    content["extras"] = {extra: _installed(extra) for extra in EXTRAS}
    content["places"] = {what: _shown(place) for what, place in _places().items()}
    content["variables"] = dict(_variables())
    checks: list[tuple[str, Callable[[], str]]] = [("TensorFlow and PennyLane", _libraries)]
    checks += [
        (f"internals {module}", partial(_contract, module, extra))
        for module, extra in _INTERNALS.items()
    ]
    checks.append(("derivatives in TensorFlow", _derivatives))
    checks += [(f"device {name}", partial(_runs, name)) for name in _devices()]
    content["checks"] = found = {}
    with progress() as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = bar.add_task("doctor", total=len(checks))
        for name, check in checks:
            bar.update(task, description=name)
            found[name] = _outcome(check)
            bar.advance(task)
    tables = [_table(name, content[name]) for name in ("system", "packages", "extras", "places")]
    if content["variables"]:
        tables.append(_table("variables", content["variables"]))
    tables.append(_table("checks", found))
    show(options, content, f"qshift {qshift.__version__}", *tables)
    return int(any(outcome.startswith("fails") for outcome in found.values()))


def _system() -> dict[str, str]:
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "cores": str(cores.available()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    names = [name.replace("_", "-") for modules in EXTRAS.values() for name in modules]
    for name in dict.fromkeys((*_CORE, *names)):
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed"


def _missing(extra: str) -> list[str]:
    return [name for name in EXTRAS[extra] if not is_installed(name)]


def _installed(extra: str) -> str:
    missing = _missing(extra)
    return f"lacks {', '.join(missing)}" if missing else "installed"


def _devices() -> list[str]:
    return list(profiles.profile_files())


def _places() -> dict[str, Path | str]:
    """Returns where files are, or why they have no place."""
    places: dict[str, Path | str] = {}
    for i, directory in enumerate(profiles.directories(), 1):
        places[f"profiles {i}"] = directory
    for what, place in (
        ("ledger", default_path),
        ("transpiled circuits", lambda: home("XDG_CACHE_HOME", ".cache") / "qshift" / "circuits"),
        ("qshift", lambda: Path(qshift.__file__).parent),
    ):
        try:
            places[what] = place()
        except (RuntimeError, OSError) as error:
            places[what] = str(error)
    return places


def _shown(place: Path | str) -> str:
    """Returns a place as it may be shown to others: without the name of the user."""
    if isinstance(place, str):
        return place
    exists = "" if place.exists() else ", which does not exist yet"
    if place.is_file():
        exists = f", {place.stat().st_size:,} bytes"
    return f"{_anonymous(str(place))}{exists}"


def _anonymous(text: str) -> str:
    own = os.path.expanduser("~")
    return text.replace(own, "~") if own not in ("~", "/") else text


def _variables() -> Iterator[tuple[str, str]]:
    for name in _VARIABLES:
        if name in os.environ:
            yield name, _anonymous(os.environ[name])
    for name in _SECRET:
        if name in os.environ:
            yield name, "set"


def _outcome(check: Callable[[], str]) -> str:
    started = time.monotonic()
    try:
        said = check()
    except Exception as error:  # whatever a library that does not fit may raise
        first = (str(error).splitlines() or [""])[0]
        if isinstance(error, MissingExtraError):
            return f"not tried: {first}"
        return f"fails: {type(error).__name__}: {_anonymous(first)}"
    return said or f"works ({time.monotonic() - started:.1f} s)"


def _contract(module: str, extra: str | None) -> str:
    if extra and _missing(extra):
        return f"not tried: the extra {extra} is not installed"
    importlib.import_module(module)
    return "holds: every name is there"


def _libraries() -> str:
    with quiet():
        import pennylane  # noqa: F401
        import tensorflow  # noqa: F401
    return ""


def _derivatives() -> str:
    """Compares second derivatives, in eager mode and compiled, with what they are."""
    import tensorflow as tf

    energy, x = _cosine(qshift.device("simulator")), tf.constant(_ANGLE, tf.float64)

    def second(x: Any) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = energy(x)
            slope = inner.gradient(value, x)
        return outer.gradient(slope, x)

    for mode, function in (("eager", second), ("compiled", tf.function(second, autograph=False))):
        if not math.isclose(float(function(x)), -math.cos(_ANGLE), rel_tol=1e-9):
            raise ArithmeticError(f"a second derivative is wrong, {mode}")
    return ""


def _runs(name: str) -> str:
    """Runs one circuit on a device, unless that may send jobs, and records nothing in a ledger."""
    import tensorflow as tf

    profile = profiles.profile(name)
    here = profile.backend.startswith(("aer", "fake:")) or profile.device in _SIMULATORS
    own = {"ledger": False} if profile.backend else {}
    device = qshift.device(name, **own)  # which reaches out to nobody
    if not here:
        return "can be made; not tried, as it may be on a service"
    value = float(_cosine(device)(tf.constant(_ANGLE, tf.float64)))
    if not abs(value - math.cos(_ANGLE)) < 0.3:  # fake backends have noise, and shots
        raise ArithmeticError(f"an expectation value is {value:.3f}, not {math.cos(_ANGLE):.3f}")
    return ""


def _cosine(device: Any) -> Any:
    import pennylane as qml

    @qshift.qnode(device)
    def cosine(x: Any) -> Any:
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    return cosine


def _table(title: str, rows: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table
