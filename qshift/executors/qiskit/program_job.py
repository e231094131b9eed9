"""Quantum programs of mitigated PUBs, run by the simulators of this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qiskit.primitives.containers.bindings_array import BindingsArray

from qshift.errors import JobError
from qshift.executors.qiskit import quantum_program
from qshift.executors.qiskit.job import LocalJob
from qshift.executors.qiskit.pub_results import unpacked
from qshift.executors.qiskit.trex import FactorError
from qshift.executors.qiskit.twirling import registers


def samplers(made: quantum_program.Program) -> list[tuple]:
    """Returns the items of a program as a Sampler's PUBs, repetitions of a point as shots of it."""
    found = []
    for circuit, arguments in made.items:
        repeats, points, _ = arguments.shape
        bindings = BindingsArray({tuple(circuit.parameters): arguments[0]}, shape=(points,))
        found.append((circuit, bindings, repeats * made.shots))
    return found


class ProgramJob(LocalJob):
    """A job of a program, which gives the results of the PUBs that the program was made of.

    Args:
        job: The job of the items, as `samplers` returns them.
        made: The program.
    """

    def __init__(self, job: LocalJob, made: quantum_program.Program) -> None:
        self.id, self.instance = job.id, job.instance
        self._items, self._made = job, made

    def status(self) -> str:
        """See `Job`."""
        return self._items.status()

    def cancel(self) -> None:
        """See `Job`."""
        self._items.cancel()

    def result(self) -> Sequence[Any]:
        """See `Job`.

        Raises:
            JobError: If errors of the readout cannot be mitigated.
        """
        measured = zip(self._made.items, self._items.result(), strict=True)
        data = [self._bits(item, list(unpacked("sampler", result))) for item, result in measured]
        try:
            return quantum_program.results(data, self._made.recipe)
        except FactorError as error:
            raise JobError(self.id, "failed", str(error)) from error

    def _bits(self, item: quantum_program.Item, points: list[Any]) -> dict[str, np.ndarray]:
        """Returns the outcomes of an item in the form of the Executor's."""
        repeats, found = item.arguments.shape[0], {}
        for k, register in enumerate(registers(item.circuit)):
            each = [counts[k] if isinstance(counts, list) else counts for counts in points]
            bits = np.stack([_shots(counts, len(register)) for counts in each])
            parts = bits.reshape(len(points), repeats, self._made.shots, len(register))
            found[register.name] = np.moveaxis(parts, 1, 0)
        return found


def _shots(counts: dict[int, int], size: int) -> np.ndarray:
    """Returns counted outcomes shot by shot, bool[shots, size]."""
    width = -(-size // 8)
    packed = b"".join(outcome.to_bytes(width, "little") for outcome in counts)
    rows = np.frombuffer(packed, np.uint8).reshape(len(counts), width)
    bits = np.unpackbits(rows, axis=1, count=size, bitorder="little").astype(bool)
    return np.repeat(bits, list(counts.values()), axis=0)
