"""Programs: quantum functions from files, and values for their parameters, for the command line.

``load("energy.py:cost")`` takes a quantum function or a QNode out of a Python file, and
``load("ansatz.qasm", observable="ZZ + 0.5 XI")`` makes one from an OpenQASM file, see `openqasm`.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from qshift.cli import openqasm
from qshift.errors import QShiftError
from qshift.inputs import did_you_mean


class ProgramError(QShiftError, ValueError):
    """Raised for a file, function or list of values that does not make a program."""


@dataclass(frozen=True)
class Program:
    """A quantum function and what is known of its arguments.

    Attributes:
        name: The file and function, e.g. ``"energy.py:cost"``.
        function: A quantum function, which queues gates and returns PennyLane measurements, or a
            PennyLane QNode. Its arguments are given by name.
        parameters: The names of its arguments.
        required: The names of arguments without a default value.
        start: Name -> value, for arguments for which the file has a value, if none is given.
    """

    name: str
    function: Callable
    parameters: tuple[str, ...]
    required: tuple[str, ...]
    start: dict[str, float] = field(default_factory=dict)

    def arguments(self, texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Reads the values of the arguments from what was written on a command line.

        Args:
            texts: One text per argument: ``"0.3"`` is a number, ``"0.1,0.2"`` a vector, ``"0.1,"``
                a vector of one; or the path of a ``.npy``, ``.npz`` or ``.json`` file. Files with
                names in them (``.npz``, JSON objects) give arguments by name. One vector for a
                function of several arguments is dealt out, a number to each.

        Returns:
            Name -> value of the arguments, in their order: float64 arrays of any shape.

        Raises:
            ProgramError: A text or file cannot be read, or the arguments are not those of the
                function.
        """
        given: dict[str, Any] = dict(self.start)
        listed: list[np.ndarray] = []
        for text in texts:
            value = _read_values(text)
            if isinstance(value, dict):
                given |= value
            else:
                listed.append(value)
        if len(listed) == 1 and listed[0].size == len(self.required or self.start) > 1:
            listed = list(listed[0].ravel())
        given |= zip(self.parameters, listed, strict=False)
        problem = None
        if unknown := [name for name in given if name not in self.parameters]:
            problem = f"none of them is {unknown[0]!r}"
        elif missing := [name for name in self.required if name not in given]:
            problem = f"no value for {', '.join(missing)}"
        elif len(listed) > len(self.parameters):
            problem = f"--params gave {len(listed)}"
        if problem:
            shown = ", ".join(self.parameters[:8]) + ", ..." * (len(self.parameters) > 8)
            plural = "" if len(self.parameters) == 1 else "s"
            raise ProgramError(
                f"{self.name} takes {len(self.parameters)} argument{plural} ({shown}): {problem}. "
                "Give --params once per argument (--params 0.1,0.2 is a vector, --params 0.1 a "
                "number) or as a .json, .npy or .npz file"
            )
        return {name: np.asarray(given[name]) for name in self.parameters if name in given}


def find(target: str) -> tuple[Path, str]:
    """Returns the file and the function, or "", that a target ``FILE[:FUNCTION]`` names.

    Raises:
        ProgramError: There is no such file.
    """
    path, separator, name = target.rpartition(":")
    if not (separator and name.isidentifier()):
        path, name = target, ""
    file = Path(path).expanduser()
    if not file.is_file():
        near = get_close_matches(file.name, [each.name for each in file.parent.glob("*")], n=1)
        hint = f"; did you mean {file.parent / near[0]}?" if near else ""
        raise ProgramError(f"{file}: no such file{hint}")
    return file, name


def load(target: str, observable: str | None = None) -> Program:
    """Loads a program.

    Args:
        target: ``FILE.py:FUNCTION``, or the path of an OpenQASM file.
        observable: What to measure after an OpenQASM circuit, such as ``"ZZ + 0.5 XI"``.

    Raises:
        ProgramError: The file or function is missing or cannot be loaded, or an observable is
            missing or not needed.
        OpenQASMError: The circuit or the observable cannot be read.
    """
    file, name = find(target)
    if file.suffix == ".py":
        if observable is not None:
            raise ProgramError(
                f"{target}: --observable is for OpenQASM files; a Python function returns its own "
                "measurement"
            )
        return _from_module(file, name)
    if name:
        raise ProgramError(f"{target}: an OpenQASM file has no functions; give {file} alone")
    if observable is None:
        raise ProgramError(f'{file}: give what to measure, such as --observable "ZZ + 0.5 XI"')
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProgramError(
            f"{file} is no text; expected OpenQASM, or a Python file, whose name ends in .py"
        ) from error
    function, values = openqasm.read(text, observable, file.name)
    required = tuple(name for name, value in values.items() if value is None)
    start = {name: value for name, value in values.items() if value is not None}
    return Program(file.name, function, tuple(values), required, start)


def _from_module(file: Path, name: str) -> Program:
    """Imports a Python file and makes one of its functions a program."""
    module = _import(file)
    function = getattr(module, name, None) if name else None
    if not callable(function):
        names = [each for each, value in vars(module).items() if _is_of(module, value)]
        has = f"it has {', '.join(names)}" if names else "it has none"
        if not name:
            example = names[0] if names else "FUNCTION"
            raise ProgramError(f"{file}: name the function, as in {file}:{example}; {has}")
        if function is not None:
            raise ProgramError(f"{file}: {name} is a {type(function).__name__}; {has} as functions")
        hint = did_you_mean(name, names)
        raise ProgramError(f"{file} has no function {name!r}{hint}; {has}")
    parameters = {
        name: parameter.default is parameter.empty
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    required = tuple(name for name, needed in parameters.items() if needed)
    return Program(f"{file.name}:{name}", function, tuple(parameters), required)


def _import(file: Path) -> ModuleType:
    name, path = f"qshift_program_{file.stem}", file.resolve()
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # as for every .py file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # As when the file is run as a script, so that it can import its neighbours.
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        if isinstance(error, SyntaxError):
            lines = [error.lineno]
        where = f" (line {lines[-1]})" if lines else ""
        reason = f"{type(error).__name__}: {getattr(error, 'msg', None) or error}{where}"
        raise ProgramError(f"{file} cannot be imported: {reason}") from error
    return module


def _is_of(module: ModuleType, value: Any) -> bool:
    """Whether a value is a function or QNode that a module defines itself."""
    defined = getattr(getattr(value, "func", value), "__module__", None) == module.__name__
    return defined and callable(value) and not inspect.isclass(value)


def _read_values(text: str) -> np.ndarray | dict[str, np.ndarray]:
    """Reads numbers from a text, or from the file it names."""
    file = Path(text).expanduser()
    try:
        if file.suffix == ".json":
            value = json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix in (".npy", ".npz"):
            value = np.load(file, allow_pickle=False)
        else:
            value = [float(entry) for entry in text.split(",") if entry.strip()]
            value = value if "," in text else value[0]
        if hasattr(value, "keys"):
            return {name: _finite(value[name]) for name in value.keys()}  # noqa: SIM118 (NpzFile)
        return _finite(value)
    except OSError as error:
        raise ProgramError(f"--params {text}: {error.strerror or error}") from error
    except (ValueError, TypeError, IndexError) as error:
        raise ProgramError(
            f"--params {text}: expected numbers like 0.1,0.2 or a .json, .npy or .npz file of "
            f"numbers ({error})"
        ) from error


def _finite(value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=float)
    if not np.all(np.isfinite(array)):
        raise ValueError("not every number is finite")
    return array
