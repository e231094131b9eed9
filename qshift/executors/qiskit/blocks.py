"""Jobs of simulators in blocks of a few points, each with a seed of its own; workers may run them.

So the samples at a point do not depend on how many workers there are. All blocks together are one
job.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

from qiskit import QuantumCircuit
from qiskit.primitives.containers.bindings_array import BindingsArray

from qshift.errors import UnsupportedError
from qshift.executors.qiskit import digests
from qshift.executors.qiskit.job import LocalJob, Submission
from qshift.executors.qiskit.pub_results import Unpacked, unpacked
from qshift.executors.workers.chunk_sizes import ChunkSizes
from qshift.executors.workers.dispatch import Parcel, share
from qshift.executors.workers.on_worker import pickled
from qshift.executors.workers.pools import Workers
from qshift.forks import Lock
from qshift.progress import track

POINTS = 16  # of a block at most
_WIDE = 10  # qubits beyond which blocks are halved for each further one, as points take long


class Block(NamedTuple):
    """Some points of a PUB.

    Attributes:
        pub: The number of the PUB.
        rows: Its points.
        seed: The seed of the samples; None for fresh ones.
    """

    pub: int
    rows: range
    seed: int | None


def cut(submission: Submission) -> list[Block]:
    """Returns the blocks of a job."""
    parts = []
    for number, pub in enumerate(submission.pubs):
        rows, size = range(_count(pub)), _points(pub[0])
        parts += [(number, rows[start : start + size]) for start in rows[::size]]
    seed = submission.seed
    if seed is None or len(parts) == 1:
        return [Block(*part, seed) for part in parts]
    return [Block(*part, digests.seed([b"%d %d" % (seed, k)])) for k, part in enumerate(parts)]


def _points(circuit: QuantumCircuit) -> int:
    """Returns how many points of a circuit make a block, which depends on nothing but the circuit:
    samples must be the same wherever they are drawn."""
    used = {qubit for instruction in circuit.data for qubit in instruction.qubits}
    return max(1, POINTS >> max(0, len(used) - _WIDE))


def _count(pub: tuple) -> int:
    """Returns the number of points of a PUB."""
    return len(pub[1]) if _is_repeated(pub) else pub[-2].shape[0]


def _is_repeated(pub: tuple) -> bool:
    """Whether a PUB has its observables once for each point, and no angles."""
    return len(pub) == 4 and isinstance(pub[1][0], list)


def part_of(pub: tuple, rows: range) -> tuple:
    """Returns the PUB of some points of a PUB."""
    some = slice(rows.start, rows.stop)
    if _is_repeated(pub):
        circuit, observables, *others = pub
        return (circuit, observables[some], *others)
    *others, bindings, last = pub
    data = {names: values[some] for names, values in bindings.data.items()}
    return (*others, BindingsArray(data, shape=(len(rows), *bindings.shape[1:])), last)


class Simulator(NamedTuple):
    """What workers have to load in order to run blocks of a job.

    Attributes:
        make: Returns the target of what is in `target`.
        target: The arguments of `make`.
        submission: The job, without seeds, and with PUBs that are made of the points' own.
    """

    make: Callable[..., Any]
    target: tuple[Any, int | None, Mapping[str, Any]]
    submission: Submission

    def __call__(self) -> Callable:
        """Returns a function that runs parts of the job in this process."""
        target, pubs = self.make(*self.target), self.submission.pubs

        def run(parts: Sequence[tuple[int, Any, int | None]]) -> list[list]:
            found = []
            for number, own, seed in parts:
                pub = pubs[number]
                position = 1 if _is_repeated(pub) else len(pub) - 2
                pub = (*pub[:position], own, *pub[position + 1 :])
                found.append(measured(target, replace(self.submission, pubs=[pub], seed=seed)))
            return found

        return run


def measured(target: Any, submission: Submission) -> list:
    """Runs a job of one PUB in this process, and returns the results at its points."""
    (result,) = target.simulate(submission).result()
    return list(unpacked(submission.primitive, result))


class BlocksJob(LocalJob):
    """A job that runs block by block, in this process and on workers.

    Args:
        target: A target of this process, whose `simulate` runs jobs.
        spec: The arguments that the target is made of.
        submission: The job.
        blocks: Its blocks, as `cut` returns them.
        workers: The workers, if there are any.
    """

    def __init__(
        self,
        target: Any,
        spec: tuple,
        submission: Submission,
        blocks: Sequence[Block],
        workers: Workers | None,
    ) -> None:
        self.id, self.instance = str(uuid.uuid4()), None
        self._target, self._spec, self._submission = target, spec, submission
        self._workers = workers
        self._blocks = blocks
        self._results: list[Unpacked] | None = None
        self._lock = Lock()

    def status(self) -> str:
        """See `Job`."""
        return "running" if self._results is None else "done"

    def cancel(self) -> None:
        """See `Job`. Nothing runs while nobody waits for results."""

    def result(self) -> Sequence[Any]:
        """See `Job`."""
        with self._lock:
            if self._results is None:
                self._results = self._run()
            return self._results

    def _run(self) -> list[Unpacked]:
        found: list[list] = [[] for _ in self._blocks]

        def store(numbers: range, results: Sequence[list]) -> None:
            found[numbers.start : numbers.stop] = results

        with closing(self._stored(store)) as stored:
            points = [len(rows) for _, rows, _ in self._blocks]
            size = lambda numbers: sum(points[numbers.start : numbers.stop])  # noqa: E731
            for _ in track(stored, sum(points), size, "circuits"):
                pass
        results = [Unpacked() for _ in self._submission.pubs]
        for block, each in zip(self._blocks, found, strict=True):
            results[block.pub].extend(each)
        return results

    def _stored(
        self, store: Callable[[range, Sequence[list]], None]
    ) -> Generator[range, None, None]:
        """Yields the numbers of blocks whose results are stored."""
        numbers = range(len(self._blocks))
        if self._workers:
            name = f"qshift-{self._submission.primitive}-{self._target.name}"
            sizes = ChunkSizes(1)
            return share(self._workers, name, [numbers], sizes, self._here, self._parcel, store)
        return self._one_by_one(store)

    def _one_by_one(
        self, store: Callable[[range, Sequence[list]], None]
    ) -> Generator[range, None, None]:
        for number in range(len(self._blocks)):
            block = range(number, number + 1)
            store(block, self._here(block))
            yield block

    def _here(self, numbers: range) -> list[list]:
        submission = self._submission
        return [
            measured(
                self._target,
                replace(submission, pubs=[part_of(submission.pubs[pub], rows)], seed=seed),
            )
            for pub, rows, seed in self._blocks[numbers.start : numbers.stop]
        ]

    def _parcel(self, left: list[range]) -> Parcel:
        submission = self._submission
        bare = [part_of(pub, range(min(1, _count(pub)))) for pub in submission.pubs]
        stripped = Submission(
            submission.primitive, bare, exact=submission.exact, errors=submission.errors
        )

        def arguments(numbers: range) -> tuple:
            parts = []
            for number, rows, seed in self._blocks[numbers.start : numbers.stop]:
                part = part_of(submission.pubs[number], rows)
                parts.append((number, part[1] if _is_repeated(part) else part[-2], seed))
            return (parts,)

        try:
            shared = pickled(Simulator(type(self._target), self._spec, stripped))
        except Exception as error:
            raise UnsupportedError(
                f"workers= was given, but {self._target.name} cannot be pickled, and so not be "
                f"sent to workers: {error}. Leave workers= out, or take a backend by its name."
            ) from error
        return Parcel(shared, arguments)
