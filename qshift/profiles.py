"""Device profiles: one TOML file per execution target, built into PennyLane devices by name.

A profile says which PennyLane device to build and with what::

    description = "Qiskit Aer, sampling"   # one line for people
    device = "qiskit.aer"                  # PennyLane's name of the device
    wires = 12                             # optional: a number, or a list of labels
    shots = 1024                           # optional: a number, or a list (a shot vector)
    needs_shots = true                     # optional: this target cannot run without shots
    [options]                              # optional: further keywords of the PennyLane device
    method = "automatic"

The name of a profile is its file's name without ``.toml``. Profiles are looked for in

1. the directories of ``$QSHIFT_DEVICES`` (separated as in ``$PATH``),
2. ``$XDG_CONFIG_HOME/qshift/devices``, which is ``~/.config/qshift/devices`` by default,
3. the ``devices`` directory that comes with qshift,

and the first place that has the name wins, so that a user's own profile can replace one of ours.
Reading profiles imports neither PennyLane nor TensorFlow.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qshift.errors import QShiftError

if TYPE_CHECKING:
    import pennylane as qml

# Which package to install for a device that is not there, by the first part of its name.
_PLUGINS = {
    "lightning": "pennylane-lightning",
    "qiskit": "pennylane-qiskit",
    "braket": "amazon-braket-pennylane-plugin",
    "cirq": "pennylane-cirq",
    "qulacs": "pennylane-qulacs",
}


class ProfileError(QShiftError, ValueError):
    """A device profile that cannot be used.

    Attributes:
        file: The profile's file, or None when no file is at fault.
        key: The key at fault, e.g. ``"shots"`` or ``"options.method"``, or None.
        reason: What is wrong, and the way out.
    """

    def __init__(self, file: Path | None, key: str | None, reason: str):
        self.file, self.key, self.reason = file, key, reason
        super().__init__(": ".join(str(part) for part in (file, key, reason) if part is not None))


@dataclass(frozen=True)
class Profile:
    """One execution target, as its TOML file describes it.

    Attributes:
        name: The name :func:`device` knows it by.
        description: One line for people.
        device: PennyLane's name of the device.
        wires: A number of wires, a tuple of labels, or None for whatever a circuit uses.
        shots: A number, a tuple (a shot vector), or None for exact results.
        needs_shots: Whether the target cannot run without shots.
        options: Further keywords of the PennyLane device.
        file: Where it was read from.
    """

    name: str
    description: str
    device: str
    wires: int | tuple | None = None
    shots: int | tuple | None = None
    needs_shots: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None


_FIELDS = ("description", "device", "wires", "shots", "needs_shots", "options")


def directories() -> list[Path]:
    """Returns the directories with profiles, most important first; they need not exist."""
    own = [Path(path) for path in os.environ.get("QSHIFT_DEVICES", "").split(os.pathsep) if path]
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    package = Path(__file__).resolve().parent
    # Inside the package where it is installed, beside it in a checkout.
    shipped = [
        place for place in (package / "devices", package.parent / "devices") if place.is_dir()
    ]
    return [place.expanduser() for place in (*own, config / "qshift" / "devices", *shipped[:1])]


def profile_files() -> dict[str, Path]:
    """Returns name -> file of every profile there is, sorted by name, without reading any."""
    files: dict[str, Path] = {}
    for directory in directories():
        for file in sorted(directory.glob("*.toml")):
            files.setdefault(file.stem, file)
    return dict(sorted(files.items()))


def profiles() -> list[Profile]:
    """Returns every profile there is, sorted by name.

    Raises:
        ProfileError: One of the files is not a valid profile.
    """
    return [read(file) for file in profile_files().values()]


def profile(name: str | os.PathLike) -> Profile:
    """Returns the profile of a name, or of a file whose path ends in ``.toml``.

    Raises:
        ProfileError: No such profile, or its file is not valid.
    """
    if Path(name).suffix == ".toml":
        return read(Path(name).expanduser())
    files = profile_files()
    if name not in files:
        raise ProfileError(
            None,
            None,
            f"no device profile is called {str(name)!r}{_near(str(name), files)}; there are "
            f"{', '.join(files) or 'none'}. Give one of these, the path of a .toml file, or put "
            f"{name}.toml into {directories()[0]}",
        )
    return read(files[name])


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
        if key not in table:
            raise ProfileError(file, key, "missing; every profile needs description and device")
    return _checked(Profile(file.stem, "", "", file=file), table)


def device(name: str | os.PathLike, **overrides) -> qml.devices.Device:
    """Builds the PennyLane device of a profile.

    Args:
        name: The name of a profile (``qshift devices`` lists them), or the path of a ``.toml``
            file.
        **overrides: Any key of the profile (``wires=``, ``shots=``, ...), which replaces it, or any
            keyword of the PennyLane device (``seed=``, ``method=``, ...), which joins ``options``.

    Returns:
        A PennyLane device. Its attribute ``qshift_shots`` has the profile's shots, which are the
        default of a qshift QNode (PennyLane deprecates shots on the device itself), and
        ``qshift_profile`` has the profile's name.

    Raises:
        ProfileError: No such profile, one that is not valid, an override that the device does not
            have, or a device that PennyLane cannot build.
    """
    base = profile(name)
    target = _checked(base, {k: value for k, value in overrides.items() if k in _FIELDS})
    keywords = {k: value for k, value in overrides.items() if k not in _FIELDS}
    target = dataclasses.replace(target, options={**target.options, **keywords})
    if target.needs_shots and target.shots is None:
        reason = f"{target.name} cannot run without shots; give shots=, or take an exact profile"
        raise ProfileError(target.file, "shots", reason)
    built = _build(target)
    built.qshift_shots = target.shots
    built.qshift_profile = target.name
    return built


def _checked(base: Profile, table: Mapping[str, Any]) -> Profile:
    """Returns ``base`` with the values of ``table``, after checking their names and types."""

    def need(condition: bool, key: str, expected: str) -> None:
        if not condition:
            raise ProfileError(base.file, key, f"expected {expected}, got {table[key]!r}")

    for key in table:
        if key not in _FIELDS:
            reason = (
                f"unknown key{_near(key, _FIELDS)}; a profile has {', '.join(_FIELDS)}, "
                "and the device's own keywords belong into [options]"
            )
            raise ProfileError(base.file, key, reason)
    for key in ("description", "device"):
        if key in table:
            need(isinstance(table[key], str) and bool(table[key].strip()), key, "a text")
    values = dict(table)
    if values.get("wires") is not None:
        wires = values["wires"]
        if _is_number(wires):
            need(wires > 0, "wires", "at least one wire")
        else:
            listed = isinstance(wires, Iterable) and not isinstance(wires, str | bytes | Mapping)
            values["wires"] = tuple(wires) if listed else ()
            need(len(values["wires"]) > 0, "wires", "a number of wires or a list of labels")
    if values.get("shots") is not None:
        expected = "a positive number, or a list of numbers and [shots, copies] pairs"
        need(_are_shots(values["shots"]), "shots", expected)
        values["shots"] = _tupled(values["shots"])
    if "needs_shots" in table:
        need(isinstance(table["needs_shots"], bool), "needs_shots", "true or false")
    if "options" in table:
        need(isinstance(table["options"], Mapping), "options", "a table of the device's keywords")
        for key in {"wires", "shots"} & set(table["options"]):
            reason = "belongs beside device, not into options"
            raise ProfileError(base.file, f"options.{key}", reason)
    return dataclasses.replace(base, **values)


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _are_shots(value: Any) -> bool:
    if _is_number(value):
        return value > 0
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    pairs = (item if isinstance(item, Sequence) else (item, 1) for item in value)
    return len(value) > 0 and all(
        len(pair) == 2 and all(_is_number(n) and n > 0 for n in pair) for pair in pairs
    )


def _tupled(shots: Any) -> int | tuple:
    if _is_number(shots):
        return int(shots)
    return tuple(_tupled(item) for item in shots)


def _build(target: Profile) -> qml.devices.Device:
    """Builds the PennyLane device, or says in terms of the profile why it cannot be."""
    plugins = {entry.name: entry for entry in entry_points(group="pennylane.plugins")}
    if target.device not in plugins:
        package = _PLUGINS.get(target.device.split(".")[0])
        way_out = f"install {package}" if package else "install the plugin that provides it"
        raise ProfileError(
            target.file,
            "device",
            f"PennyLane knows no device {target.device!r}{_near(target.device, plugins)}; "
            f"{way_out}, or choose from {', '.join(sorted(plugins))}",
        )
    # Late, because importing PennyLane takes seconds and reading profiles does not need it.
    import inspect

    import pennylane as qml

    try:
        accepted = inspect.signature(plugins[target.device].load()).parameters
    except ImportError as error:
        reason = f"the plugin of {target.device} is installed but cannot be imported: {error}"
        raise ProfileError(target.file, "device", reason) from error
    names = [name for name in accepted if name not in ("wires", "shots")]
    swallows = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for key in target.options:
        if key == "seed" and key not in accepted:
            # Checked even where any keyword is swallowed: Qiskit's devices ignore a seed.
            reason = f"{target.device} takes no seed; give it to qshift.qnode instead"
            raise ProfileError(target.file, "options.seed", reason)
        if key not in accepted and not swallows:
            has = f"it has {', '.join(names)}" if names else "it has no options"
            reason = f"{target.device} takes no {key}{_near(key, names)}; {has}"
            raise ProfileError(target.file, f"options.{key}", reason)
    wires = {} if target.wires is None else {"wires": target.wires}
    if not wires and "wires" in accepted and accepted["wires"].default is inspect.Parameter.empty:
        reason = f"{target.device} needs to know its wires; give wires="
        raise ProfileError(target.file, "wires", reason)
    try:
        return qml.device(target.device, **wires, **target.options)
    except Exception as error:  # Whatever the plugin raises, the profile is what has to change.
        reason = f"{target.device} cannot be built: {error}"
        raise ProfileError(target.file, "options", reason) from error


def _near(name: str, names: Iterable[str]) -> str:
    """Returns " (did you mean ...?)" when one of the names is close, else nothing."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
