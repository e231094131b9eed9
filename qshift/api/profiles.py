"""Device profiles: one TOML file per execution target, built into PennyLane devices by name.

A profile says which PennyLane device to build and with what::

    description = "Qiskit Aer, sampling"   # one line for people
    device = "qiskit.aer"                  # PennyLane's name of the device, or
    backend = "fake:FakeManilaV2"          # where qshift's own Qiskit executor runs, see below
    wires = 12                             # optional: a number, or a list of labels
    shots = 1024                           # optional: a number, or a list (a shot vector)
    precision = 0.01                       # with a backend, in place of shots: 1 / sqrt(shots)
    needs_shots = true                     # optional: this target cannot run without shots
    workers = 4                            # optional: other processes that run parts of batches
    [options]                              # optional: further keywords of the PennyLane device
    method = "automatic"

A backend is ``"aer"``, ``"aer:CLASS"`` (Aer with the noise of a class of Qiskit's fake backends),
``"fake:CLASS"`` (that fake backend), ``"ibm:NAME"`` or ``"ibm:least-busy"``. It is run through
Qiskit's primitives, and [options] are those of `qshift.executors.qiskit.device.EstimatorDevice`:
optimization_level, resilience_level, ...

Workers are a number of processes of this machine, ``"dask"`` (a Dask cluster of this machine), or
the address of a Dask scheduler, such as ``"tcp://127.0.0.1:8786"``; see docs/how-to/workers.md.

The name of a profile is its file's name without ``.toml``. Profiles are looked for in

1. the directories of ``$QSHIFT_DEVICES`` (separated as in ``$PATH``),
2. ``$XDG_CONFIG_HOME/qshift/devices``, which is ``~/.config/qshift/devices`` by default,
3. the ``devices`` directory that comes with qshift,

and the first place that has the name wins, so that a user's own profile can replace one of ours.
Reading profiles imports neither PennyLane nor TensorFlow.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qshift.errors import MissingExtraError, OptionError, QShiftError
from qshift.executors.workers import given as workers_given
from qshift.extras import require
from qshift.inputs import did_you_mean, is_integer, is_real
from qshift.places import home

if TYPE_CHECKING:
    import pennylane as qml


class ProfileError(QShiftError, ValueError):
    """A device profile that cannot be used.

    Attributes:
        file: The profile's file, or None when no file is at fault.
        key: The key at fault, e.g. ``"shots"`` or ``"options.method"``, or None.
        reason: What is wrong, and the way out.
    """

    def __init__(self, file: Path | None, key: str | None, reason: str) -> None:
        self.file, self.key, self.reason = file, key, reason
        super().__init__(": ".join(str(part) for part in (file, key, reason) if part is not None))


@dataclass(frozen=True)
class Profile:
    """One execution target, as its TOML file describes it.

    Attributes:
        name: What `device` knows it by.
        description: One line for people.
        device: PennyLane's name of the device; empty if there is a backend.
        backend: What Qiskit's primitives run on; empty if there is a device.
        wires: A number of wires, a tuple of labels, or None for whatever a circuit uses.
        shots: A number, a tuple (a shot vector), or None for exact results.
        precision: Standard error to reach, in place of shots; they are its inverse square.
        needs_shots: Whether the target cannot run without shots.
        workers: What runs parts of batches, see `qshift.executors.workers.pools.Workers`; None or 0
            for this process alone.
        options: Further keywords of the PennyLane device.
        file: Where it was read from.
    """

    name: str
    description: str
    device: str = ""
    backend: str = ""
    wires: int | tuple | None = None
    shots: int | tuple | None = None
    precision: float | None = None
    needs_shots: bool = False
    workers: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _backend(value: Any) -> Any:
    """Checks a backend: a text, or (in Python) an object of Qiskit's, which its executor checks."""
    return value if hasattr(value, "target") else _text(value)


def _positive(value: Any) -> int:
    if not is_integer(value) or value < 1:
        raise ValueError
    return int(value)


def _wires(value: Any) -> int | tuple:
    if is_integer(value):
        return _positive(value)
    if isinstance(value, str | Mapping) or not tuple(value):
        raise ValueError
    return tuple(value)


def _shots(value: Any) -> int | tuple:
    if isinstance(value, list | tuple) and value:
        return tuple(map(_shots, value))
    return _positive(value)


def _precision(value: Any) -> float:
    if not is_real(value) or not 0 < value < 1:
        raise ValueError
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


# Key -> function that checks its value, and what the value has to be.
_CHECKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "description": (_text, "a text"),
    "device": (_text, "a text"),
    "backend": (_backend, "a text, or a backend of Qiskit's"),
    "wires": (_wires, "a positive number of wires or a list of labels"),
    "shots": (_shots, "a positive number, or a list of numbers and [shots, copies] pairs"),
    "precision": (_precision, "a number between 0 and 1"),
    "needs_shots": (_truth, "true or false"),
    "workers": (workers_given.checked, workers_given.EXPECTED),
    "options": (dict, "a table of the device's keywords"),
}


def directories() -> list[Path]:
    """Returns the directories with profiles, most important first; they need not exist."""
    own = [Path(path) for path in os.environ.get("QSHIFT_DEVICES", "").split(os.pathsep) if path]
    try:
        own.append(home("XDG_CONFIG_HOME", ".config") / "qshift" / "devices")
    except RuntimeError:  # a user without a home directory has no profiles there
        pass
    package = Path(__file__).resolve().parents[1]
    # Inside the package where it is installed, beside it in a checkout.
    shipped = [
        place for place in (package / "devices", package.parent / "devices") if place.is_dir()
    ]
    return [place.expanduser() for place in (*own, *shipped[:1])]


def profile_files() -> dict[str, Path]:
    """Returns name -> file of every profile there is, sorted by name, without reading any."""
    files: dict[str, Path] = {}
    for directory in directories():
        for file in sorted(directory.glob("*.toml")):
            files.setdefault(file.stem, file)
    return dict(sorted(files.items()))


# What PennyLane and Qiskit call, or used to call, something that has a profile; "_" counts as ".".
_ELSEWHERE = {
    "lightning.gpu": "gpu",
    "lightning.qubit": "lightning",
    "default.mixed": "mixed",
    "qiskit.aer": "aer",
    "aer.simulator": "aer",
    "aersimulator": "aer",
    "qasm.simulator": "aer-shots",
    "ibmq.qasm.simulator": "aer-shots",
    "statevector.simulator": "simulator",
    "qiskit.basicaer": "aer",
    "qiskit.basicsim": "aer",
    "qiskit.ibmq": "ibm",
    "qiskit.remote": "ibm",
}


def profile(name: str | os.PathLike) -> Profile:
    """Returns the profile of a name, or of a file whose path ends in ``.toml``.

    Raises:
        ProfileError: No such profile, or its file is not valid.
    """
    if not isinstance(name, str | os.PathLike):
        raise ProfileError(
            None,
            None,
            f"expected the name of a profile or the path of a .toml file, got {name!r}. Devices of "
            "PennyLane's go to qshift.qnode themselves, and backends of Qiskit's to "
            "qshift.device(backend=...)",
        )
    if Path(name).suffix == ".toml":
        return read(Path(name).expanduser())
    files = profile_files()
    if name not in files:
        raise ProfileError(
            None,
            None,
            f"no device profile is called {str(name)!r}{_meant(str(name), files)}; there are "
            f"{', '.join(files) or 'none'}. Give one of these, the path of a .toml file, or put "
            f"{name}.toml into {directories()[0]}",
        )
    return read(files[name])


def _meant(name: str, files: Mapping[str, Path]) -> str:
    """Returns what a name that is no profile's may mean, in brackets, or ""."""
    if (other := _ELSEWHERE.get(name.replace("_", ".").lower())) in files:
        return f" (did you mean {other!r}?)"
    if name.lower().startswith(("ibm_", "ibmq_")):
        return f' (an IBM backend is qshift.device("ibm", backend="ibm:{name}"))'
    if name.startswith("Fake"):
        return f' (a fake backend is qshift.device("fake-manila", backend="fake:{name}"))'
    near = get_close_matches(name.replace(".", "-").replace("_", "-"), list(files), n=1, cutoff=0.9)
    if near:
        return f" (did you mean {near[0]!r}?)"
    if re.fullmatch(r"[a-z]\w*\.\w+", name):
        return (
            f" (devices of PennyLane's go to qshift.qnode themselves: "
            f"qshift.qnode(qml.device({name!r}, ...)))"
        )
    return did_you_mean(name, files)


def read(file: Path) -> Profile:
    """Reads and checks one profile.

    Raises:
        ProfileError: The file cannot be read, is not TOML, or a key is unknown, missing or has the
            wrong type.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(file, None, f"not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProfileError(file, None, f"cannot be read: {reason}") from error
    for key in ("description", "device"):
        if key not in table and not (key == "device" and "backend" in table):
            reason = "missing; every profile needs description, and device or backend"
            raise ProfileError(file, key, reason)
    return _checked(Profile(file.stem, "", file=file), table)


def device(name: str | os.PathLike | None = None, **overrides: Any) -> qml.devices.Device:
    """Builds the PennyLane device of a profile, or of a backend of Qiskit's.

    Args:
        name: The name of a profile (``qshift devices`` lists them), or the path of a ``.toml``
            file. None where ``backend=`` says it all.
        **overrides: Any key of the profile (``wires=``, ``shots=``, ...), which replaces it, or any
            keyword of the PennyLane device (``seed=``, ``method=``, ...), which joins ``options``.
            A device replaces a backend and the other way round, as shots and precision do. As
            ``workers=``, a `dask.distributed.Client` or any executor of `concurrent.futures` serves
            as well; all QNodes on the device share them.

    Returns:
        A PennyLane device. Its attribute ``qshift_shots`` has the profile's shots, which are the
        default of a qshift QNode (PennyLane deprecates shots on the device itself), and
        ``qshift_profile`` has the profile's name.

    Raises:
        ProfileError: No such profile, one that is not valid, an override that the device does not
            have, or a device that PennyLane cannot build.
        MissingExtraError: What the device needs is not installed.

    Example:
        >>> len(qshift.device("simulator", wires=3).wires)
        3
        >>> qshift.device("aer-shots", shots=2000, seed=1).qshift_shots
        2000
        >>> qshift.device(backend="fake:FakeManilaV2", shots=1024).qshift_profile
        'fake:FakeManilaV2'
    """
    own = {key: value for key, value in overrides.items() if key in _CHECKS}
    base = _unnamed(own.get("backend")) if name is None else profile(name)
    target = _checked(base, own)
    options = {key: value for key, value in overrides.items() if key not in _CHECKS}
    target = replace(target, options={**target.options, **options})
    if target.precision:  # the number of shots that an Estimator takes for this precision
        target = replace(target, shots=math.ceil(target.precision**-2 * (1 - 1e-12)))
    if target.needs_shots and target.shots is None:
        reason = f"{target.name} cannot run without shots; give shots=, or take an exact profile"
        raise ProfileError(target.file, "shots", reason)
    if target.workers is not None:
        workers_given.require_packages(target.workers)
    built = (_build_estimator if target.backend else _build)(target)
    if target.workers is not None:
        from qshift.executors.workers.pools import Workers  # Late, as PennyLane is.

        try:
            built.qshift_workers = Workers(target.workers)
        except OptionError as error:
            raise ProfileError(target.file, "workers", error.reason) from error
    built.qshift_shots = target.shots
    built.qshift_profile = target.name
    return built


def _unnamed(backend: Any) -> Profile:
    """Returns the profile of a backend that is used without one."""
    if backend is None:
        raise ProfileError(
            None,
            None,
            f"no name is given; give that of a profile ({', '.join(profile_files()) or 'none'}), "
            "the path of a .toml file, or backend=",
        )
    name = getattr(backend, "name", backend)
    return Profile(str(name() if callable(name) else name), "a backend without a profile")


def _checked(base: Profile, table: Mapping[str, Any]) -> Profile:
    """Returns ``base`` with the values of ``table``, after checking their names and types."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _CHECKS:
            reason = (
                f"unknown key{did_you_mean(key, _CHECKS)}; a profile has {', '.join(_CHECKS)}, "
                "and the device's own keywords belong into [options]"
            )
            raise ProfileError(base.file, key, reason)
        check, expected = _CHECKS[key]
        unset = value is None and key in ("wires", "shots", "precision", "workers")
        try:
            values[key] = None if unset else check(value)
        except OptionError as error:
            raise ProfileError(base.file, key, error.reason) from None
        except (ValueError, TypeError):
            raise ProfileError(base.file, key, f"expected {expected}, got {value!r}") from None
    for key in ("wires", "shots", "precision", "workers"):
        if key in values.get("options", ()):
            raise ProfileError(base.file, f"options.{key}", "belongs beside device, not in options")
    pairs: tuple[tuple[str, str, Any], ...] = (
        ("device", "backend", ""),
        ("shots", "precision", None),
    )
    for one, other, nothing in pairs:
        if values.get(one) and values.get(other):
            reason = f"{one} is given as well, and only one of them can be"
            raise ProfileError(base.file, other, reason)
        if one in values or other in values:
            values = {one: nothing, other: nothing} | values
    target = replace(base, **values)
    if target.precision and not target.backend:
        reason = "belongs to a backend; a PennyLane device takes shots"
        raise ProfileError(base.file, "precision", reason)
    return target


def _build(target: Profile) -> qml.devices.Device:
    """Builds the PennyLane device, or raises a ProfileError that names the key at fault."""
    if target.device.startswith("qiskit."):
        require("pennylane-qiskit", f"The device {target.device}")
    plugins = {entry.name: entry for entry in entry_points(group="pennylane.plugins")}
    if target.device == "lightning.gpu" and target.device not in plugins:
        raise MissingExtraError(
            "The device lightning.gpu needs pennylane-lightning-gpu, which is not installed, and "
            "an NVIDIA GPU. Install it by pip install pennylane-lightning-gpu, or take "
            'qshift.device("simulator"), which runs on the CPU'
        )
    if target.device not in plugins:
        raise ProfileError(
            target.file,
            "device",
            f"PennyLane knows no device {target.device!r}{did_you_mean(target.device, plugins)}; "
            "install the plugin that provides it, or choose from "
            f"{', '.join(sorted(plugins))}",
        )
    import pennylane as qml  # Late: importing it takes seconds, and reading profiles does without.

    from qshift.executors.pennylane import inherit

    try:
        accepted = inspect.signature(plugins[target.device].load()).parameters
    except MissingExtraError:
        raise
    except ImportError as error:
        reason = f"the plugin of {target.device} is installed but cannot be imported: {error}"
        raise ProfileError(target.file, "device", reason) from error
    swallows = any(each.kind is each.VAR_KEYWORD for each in accepted.values())
    names = [
        name
        for name, each in accepted.items()
        if name not in ("wires", "shots") and each.kind is not each.VAR_KEYWORD
    ]
    for key in target.options:
        # PennyLane's Qiskit devices accept a seed and do not use it.
        if key not in accepted and (key == "seed" or not swallows):
            seed = "; a seed for its samples goes to qshift.qnode" if key == "seed" else ""
            has = f"it has {', '.join(names)}" if names else "it has no options"
            reason = f"{target.device} takes no {key}{did_you_mean(key, names)}; {has}{seed}"
            raise ProfileError(target.file, f"options.{key}", reason)
    wires = {} if target.wires is None else {"wires": target.wires}
    try:
        device = qml.device(target.device, **wires, **target.options)
    except Exception as error:  # whatever the device's plugin raises, the user changes the profile
        reason = f"{target.device} cannot be built: {error}"
        if target.device == "lightning.gpu":
            reason += (
                ". It needs Linux, an NVIDIA GPU with its driver, and custatevec-cu12; "
                'qshift.device("simulator") runs on the CPU'
            )
        raise ProfileError(target.file, "options", reason) from error
    inherit(device)  # so that a forked process draws other samples
    return device


def _build_estimator(target: Profile) -> qml.devices.Device:
    """Builds the device that runs circuits on a backend, or raises an error with the way out."""
    require("qiskit", f"The backend {target.backend}")
    from qshift.executors.qiskit.device import EstimatorDevice  # Late, as PennyLane and Qiskit are.

    try:
        return EstimatorDevice(target.wires, target.backend, **target.options)
    except OptionError as error:
        key = error.option if error.option == "backend" else f"options.{error.option}"
        raise ProfileError(target.file, key, error.reason) from error
