"""What runs on a worker: it keeps circuits by their digests, and runs them at chunks of points."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import numpy as np
from cachetools import LRUCache

from qshift.errors import WorkerError
from qshift.executors.executor import Call
from qshift.executors.seeding import resumed
from qshift.executors.simulator.parallel import alone
from qshift.executors.workers import versions
from qshift.forks import Lock
from qshift.progress import hidden

if TYPE_CHECKING:
    from qshift.circuits.circuit import Circuit
    from qshift.executors.executor import Executor

VALUES, GRADIENTS, ESTIMATES, JOINTLY = "values", "gradients", "estimates", "jointly"
_MOST_LOADED = 64  # circuits
# Evaluated on a worker by Python's own `eval`: so the scheduler of a cluster, which reads what is
# sent through it, needs no qshift.
LOAD = "bool(__import__('qshift.executors.workers.on_worker'))"
# With a pickled `task`, and the `versions` of the process that sends it. Where a worker has others,
# or no qshift, its own are the result, and nothing of the task is looked at.
RUN = (
    "(lambda found: __import__('qshift.executors.workers.on_worker', fromlist=['carry_out'])"
    ".carry_out(task) if found == versions else found | {'where': 'The worker %s, process %d,' % "
    "(__import__('socket').gethostname(), __import__('os').getpid())})"
    f"({versions.PROBE})"
)


class Task(NamedTuple):
    """Something that is computed for a part of a batch.

    Attributes:
        key: The digest of what the worker has to have loaded.
        shared: This, pickled; None where the worker should have it.
        arguments: What the loaded function is called with.
    """

    key: bytes
    shared: bytes | None
    arguments: tuple


class Answer(NamedTuple):
    """What a worker answers.

    Attributes:
        kind: ``"done"``, ``"lacks"`` if the worker has to get what is shared, or ``"failed"``.
        content: The result, nothing, or the error.
        seconds: How long the work took, without loading.
    """

    kind: str
    content: Any
    seconds: float


_loaded: LRUCache[bytes, Callable] = LRUCache(_MOST_LOADED)
_loading = Lock()


def carry_out(task: bytes) -> bytes:
    """Carries out a pickled `Task`, and returns a pickled `Answer`."""
    return pickle.dumps(_answer(pickle.loads(task)))


def _answer(task: Task) -> Answer:
    start = time.perf_counter()
    try:
        with _loading:
            work = _loaded.get(task.key)
            if work is None:
                if task.shared is None:
                    return Answer("lacks", None, 0.0)
                work = _loaded[task.key] = pickle.loads(task.shared)()
        start = time.perf_counter()
        with hidden(), alone():
            result = work(*task.arguments)
    except Exception as error:
        return Answer("failed", _sendable(error), time.perf_counter() - start)
    return Answer("done", result, time.perf_counter() - start)


def _sendable(error: Exception) -> Exception:
    """Returns an error that can be pickled: the same one, if possible."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return WorkerError(f"{type(error).__name__}: {error}")


class _Pickler(cloudpickle.Pickler):
    """Pickles functions and classes of users as well, and leaves workers at home."""

    def reducer_override(self, found: Any) -> Any:
        if getattr(type(found), "stays_home", False):
            return type(None), ()
        return super().reducer_override(found)


def pickled(found: Any) -> bytes:
    """Returns an object as workers load it."""
    file = io.BytesIO()
    _Pickler(file).dump(found)
    return file.getvalue()


class Parts(NamedTuple):
    """What workers need in order to run a circuit.

    Attributes:
        maker: Makes the executor of a device and a seed.
        device: The device.
        seed: The seed of samples.
        circuit: The circuit.
    """

    maker: Callable
    device: Any
    seed: Any
    circuit: Any

    def __call__(self) -> Callable:
        """Returns a function that runs the circuit in this process."""
        executor, circuit = self.maker(self.device, self.seed), self.circuit

        def run(
            kind: str,
            points: np.ndarray,
            number: int,
            draws: Sequence[int] | None,
            shots: np.ndarray | None,
        ) -> np.ndarray:
            call = Call(number) if draws is None else resumed(circuit, points, number, draws)
            before = sum(call.draws.values())
            found = computed(executor, kind, circuit, points, replace(call, shots=shots))
            if draws is not None and sum(call.draws.values()) - before != len(points):
                raise WorkerError(
                    f"{type(executor).__name__}.run draws its samples otherwise than by one "
                    "qshift.executors.seeding.generator for each point, so that several workers "
                    "could draw the same ones. Use that function, or leave workers= out."
                )
            return found

        return run


def computed(
    executor: Executor, kind: str, circuit: Circuit, points: np.ndarray, call: Call
) -> np.ndarray:
    """Returns what an executor finds in this process, with a row for each point.

    Args:
        executor: The executor.
        kind: ``"values"``; ``"gradients"``; ``"estimates"``, float64[N, 3, M]: values, their
            variances, and what was added to these; or ``"jointly"``, float64[N, 2 + M, M]: values,
            their covariances, and what was added to those on the diagonal.
        circuit: The circuit.
        points: float64[N, P].
        call: The call, with the shots of these points if they have their own.
    """
    if kind == GRADIENTS:
        return executor.differentiate(circuit, points)
    shape = (len(points), circuit.num_values)
    if kind == VALUES:
        return executor.as_numbers("run", executor.run(circuit, points, call), shape)
    if kind == ESTIMATES:
        estimates = executor.sample(circuit, points, call)
        found, spreads, added = executor.as_estimates("sample", estimates, shape, shape)
        spreads = spreads[:, None]
    else:
        estimates, wider = executor.sample_jointly(circuit, points, call), (*shape, shape[1])
        found, spreads, added = executor.as_estimates("sample_jointly", estimates, shape, wider)
    return np.concatenate([found[:, None], spreads, added[:, None]], axis=1)
