"""Checkpoints: files with the state of a long run, from which an interrupted run goes on."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import reprlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qshift.errors import QShiftError
from qshift.optimize.result import Point


class CheckpointError(QShiftError, ValueError):
    """Raised for a checkpoint that cannot be read, or that belongs to another run."""


@dataclass
class State:
    """The state that a run needs to go on.

    Attributes:
        x: The point to evaluate next; None once the run has ended at the last one of `history`.
        history: The points evaluated so far.
        memory: The optimizer's state between steps: name -> number or array.
    """

    x: np.ndarray | None
    history: list[Point] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, content: dict[str, Any]) -> State:
        """Returns the state that was written as JSON."""
        state = cls(**content)
        state.x = None if state.x is None else np.array(state.x, dtype=float)
        state.history = [
            Point(**point | {"x": np.array(point["x"], dtype=float)})
            for point in content.get("history", ())
        ]
        state.memory = {
            name: np.array(value) if isinstance(value, list) else value
            for name, value in state.memory.items()
        }
        return state


@dataclass(frozen=True)
class Checkpoint:
    """A JSON file with the state of a run and the settings that identify the run.

    Attributes:
        path: The file.
        run: Name -> plain value of each setting that the run's numbers depend on. ``"numbers"`` is
            compared up to rounding errors, everything else exactly.
    """

    path: Path
    run: dict[str, Any]

    def load(self) -> State | None:
        """Returns the state in the file, or None if there is no file.

        Raises:
            CheckpointError: The file cannot be read or written, or belongs to another run.
        """
        if not os.access(self.path.parent, os.W_OK):
            raise CheckpointError(
                f"{self.path} cannot be written: no such directory, or protected; name another file"
            )
        if not self.path.exists():
            return None
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            run, state = dict(content["run"]), State.of(content["state"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self.path} is not a checkpoint of qshift ({type(error).__name__}: {error}); "
                "name another file, or delete this one to start over"
            ) from error
        for name, value in self.run.items():
            there, here = reprlib.repr(run.get(name)), reprlib.repr(value)
            difference = f"{name} is {there} there and {here} here"
            if name in ("function", "numbers"):
                difference = "its function is another one"
            if not _same(name, run.get(name), value):
                raise CheckpointError(
                    f"{self.path} is the checkpoint of another run: {difference}. Name another "
                    "file, or delete this one to start over"
                )
        return state

    def save(self, state: State) -> None:
        """Replaces the file in one step, so that it is complete even if the process is killed."""
        part = self.path.with_name(f"{self.path.name}.part")
        with part.open("w", encoding="utf-8") as file:
            json.dump({"run": self.run, "state": asdict(state)}, file, default=np.ndarray.tolist)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)


def _same(name: str, one: Any, other: Any) -> bool:
    if name != "numbers":
        return one == other
    # A molecule's coefficients that are computed again differ in their last digits, and those that
    # are zero differ by as much as the last digits of the others.
    largest = np.max(np.abs(other), initial=0.0)
    return np.shape(one) == np.shape(other) and np.allclose(one, other, 1e-9, 1e-12 * largest)


def identify(fn: Callable, x: np.ndarray) -> dict[str, Any]:
    """Returns plain values that identify a function, for a `Checkpoint`.

    A QNode is identified by its device, shots, seed, and circuit at the point x; any other function
    by its name and source.
    """
    import tensorflow as tf  # Late: importing it takes long.

    from qshift import QNode
    from qshift.api.conversion import as_own

    fn = as_own(fn)
    if not isinstance(fn, QNode):
        text = getattr(fn, "__qualname__", type(fn).__name__)
        with suppress(OSError, TypeError):  # there is no source: it was typed in, or is not Python
            text += inspect.getsource(fn)
        return {"function": _hash(text)}
    import pennylane as qml

    tape = fn.construct((tf.constant(x),), {})
    lines, leaves = [], []
    for operation in tape.operations:
        lines.append(f"{operation.name} {operation.wires.tolist()}")
        leaves += operation.data
    for measurement in tape.measurements:
        found, structure = qml.pytrees.flatten(measurement)
        lines.append(repr(structure))
        leaves += found
    numbers: list[float] = []
    for leaf in leaves:
        array = np.asarray(leaf)
        if array.dtype.kind in "biufc":
            numbers += np.ravel([array.real, array.imag]).tolist()
        else:
            lines.append(str(leaf))
    return {
        "function": _hash("\n".join(lines)),
        "numbers": numbers,
        "device": fn.device.name,
        "shots": fn.shots.total_shots,
        "seed": fn.seed,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
