"""Transpiled circuits on disk, for the next process that needs them.

Each circuit is a QPY file in ``$XDG_CACHE_HOME/qshift/circuits`` (``~/.cache/qshift/circuits``).
The file's name is a digest of everything that the result depends on: the circuit before it is
transpiled, the backend and its properties, the transpiler's settings and version. Files may be
deleted at any time.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from qiskit import QuantumCircuit, qpy

from qshift.executors.qiskit import digests
from qshift.places import home

MOST_FILES = 1000


def directory() -> Path:
    """Returns the directory of the files.

    Raises:
        RuntimeError: If the user has no home directory, and so no place for the files.
    """
    return home("XDG_CACHE_HOME", ".cache") / "qshift" / "circuits"


def key(circuit: QuantumCircuit, *settings: Any) -> str:
    """Returns a key for the result of transpiling a circuit, which is the same in every process.

    Args:
        circuit: A circuit made by `qshift.executors.qiskit.translation.translate`.
        *settings: Everything else that the result depends on; their `repr` must tell them apart.
    """
    return digests.digest(digests.of_circuit(circuit), repr(settings).encode()).hex()


def load(key: str) -> QuantumCircuit | None:
    """Returns the circuit of a key; None if there is none that can be read."""
    try:
        with (directory() / f"{key}.qpy").open("rb") as stream:
            (circuit,) = qpy.load(stream)
    except FileNotFoundError:
        return None
    except Exception:  # a file that cannot be read, for any reason, is made again
        return None
    return circuit


def save(key: str, circuit: QuantumCircuit, most: int = MOST_FILES) -> None:
    """Stores a circuit, if the directory can be written to; readers never see half of it.

    Args:
        key: The key, made by the function `key`.
        circuit: The transpiled circuit.
        most: The largest number of files; the oldest ones beyond it are deleted.
    """
    temporary = None
    try:
        folder = directory()
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            qpy.dump(circuit, stream)
        os.replace(temporary, folder / f"{key}.qpy")
        _prune(folder, most)
    except (OSError, RuntimeError):
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _prune(folder: Path, most: int) -> None:
    """Deletes the oldest files if there are too many."""
    files = list(folder.glob("*.qpy"))
    if len(files) > most:
        ages = {file: file.stat().st_mtime for file in files}
        for file in sorted(files, key=ages.__getitem__)[: len(files) - most * 9 // 10]:
            file.unlink(missing_ok=True)
