"""One call's table of points: what is known, what has to run, and the derivatives it gives."""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qshift.plan import Index, Node, Planner, Point


class Structure(Protocol):
    """What is evaluated: a circuit, or any function with the same kind of derivatives."""

    num_parameters: int
    num_values: int

    def planner(self, objective: str) -> Planner: ...

    def require_rules(self, columns) -> None: ...


class Calls:
    """Numbers the calls of a qnode: 1, 2, ...

    Attributes:
        made: The last number.
    """

    def __init__(self):
        self.made = 0
        self._lock = threading.Lock()

    def __next__(self) -> int:
        with self._lock:
            self.made += 1
            return self.made


@dataclass(frozen=True)
class Call:
    """Which call of a qnode circuits are run for: what seeded samples depend on.

    Attributes:
        number: Counts the calls.
        draws: How often what was run for it already.
    """

    number: int
    draws: Counter[Hashable] = field(default_factory=Counter)


class Table:
    """Values of one function at the points evaluated so far, and derivatives read off them.

    Args:
        function: From points float64[N, P] to values float64[N, *shape].
        shape: Of the values at one point.
        parameters: float64[N, P], the unshifted points of the call.
        node: An empty plan.
    """

    def __init__(
        self, function: Callable, shape: tuple[int, ...], parameters: np.ndarray, node: Node
    ):
        self._function = function
        self._parameters = parameters
        self._node = node
        self._values = np.empty((0, len(parameters), *shape))

    @property
    def nbytes(self) -> int:
        return self._values.nbytes

    def partials(self, indices: Sequence[Index]) -> np.ndarray:
        """Returns partial derivatives float64[len(indices), N, *shape], running what is missing."""
        step = self._node.request(indices)
        one = self._values.shape[1:]  # the values of one point of the plan
        if step.new_points:
            new = self._function(shifted(self._parameters, step.new_points))
            self._values = np.concatenate([self._values, new.reshape(len(step.new_points), *one)])
            self._node = step.node
        flat = self._values.reshape(len(self._values), math.prod(one))
        return (step.coefficients @ flat).reshape(len(indices), *one)


class Evaluation:
    """One execution of a circuit at given angles, with all its derivatives.

    Derivatives of every order read from the same table, so with finite shots they share the call's
    samples; only points that are missing are run, all that one request needs in one batch.
    Thread-safe.

    Args:
        circuit: What to evaluate.
        executor: Runs it.
        parameters: float64[N, P].
        objective: ``"circuits"`` or ``"shots"``.
        adjoint: Whether first derivatives come from the executor and only higher ones from shifts
            (of these first derivatives, which obey the same rules as the values).
        prefetch: Partial derivatives whose points the first batch evaluates as well.
        number: Of the call.
    """

    def __init__(
        self,
        circuit: Structure,
        executor,
        parameters: np.ndarray,
        objective: str,
        adjoint: bool = False,
        prefetch: Sequence[Index] = (),
        number: int = 0,
    ):
        self.parameters = parameters
        self._num_values = circuit.num_values
        self._adjoint = adjoint
        self._prefetch = tuple(prefetch)
        self._lock = threading.RLock()
        self._planner = planner = circuit.planner(objective)
        call = Call(number)
        values, inputs = circuit.num_values, circuit.num_parameters
        self._values = Table(
            lambda points: executor(circuit, points, call), (values,), parameters, planner.root
        )
        self._gradients = Table(
            lambda points: executor.gradients(circuit, points),
            (values, inputs),
            parameters,
            planner.root,
        )

    @property
    def nbytes(self) -> int:
        return self._values.nbytes + self._gradients.nbytes

    def partials(self, indices: Sequence[Index]) -> np.ndarray:
        """Returns partial derivatives, float64[N, M, len(indices)]."""
        with self._lock:
            # What is asked for first may well be all there is to prefetch.
            if not set(self._prefetch).issubset(indices):
                self._read(self._prefetch)
            result = self._read(tuple(indices))
            self._prefetch = ()
            return result

    def _read(self, indices):
        mask = self._planner.mask(indices)
        result = np.zeros((len(indices), len(self.parameters), self._num_values))
        seen = np.flatnonzero(mask.any(axis=0))
        shifts = [i for i in seen if not (self._adjoint and indices[i])]
        if shifts:
            result[shifts] = self._values.partials(tuple(indices[i] for i in shifts))
        rest = [i for i in seen if self._adjoint and indices[i]]
        if rest:
            pairs = split([indices[i] for i in rest])
            row = {a: k for k, a in enumerate(dict.fromkeys(a for a, _ in pairs))}
            gradients = self._gradients.partials(tuple(row))  # [rows, N, M, P]
            for i, (a, j) in zip(rest, pairs, strict=True):
                result[i] = gradients[row[a], :, :, j]
        return np.moveaxis(result, 0, 2) * mask


def split(indices: Sequence[Index]) -> list[tuple[Index, int]]:
    """Splits each index a + j into a derivative a and the parameter j of a gradient of it, so that
    few different a are needed."""
    options = [[(a[:k] + a[k + 1 :], a[k]) for k in range(len(a))] for a in indices]
    uses = Counter(lower for splits in options for lower in {lower for lower, _ in splits})
    return [max(splits, key=lambda split: uses[split[0]]) for splits in options]


def shifted(parameters: np.ndarray, points: Sequence[Point]) -> np.ndarray:
    """Returns float64[K * N, P]: for each point, the parameters float64[N, P] moved to it."""
    moved = np.repeat(parameters[None], len(points), axis=0)
    moves = [(k, p, a, s) for k, point in enumerate(points) for p, a, s in point]
    if moves:
        rows, columns, scales, shifts = (np.array(x) for x in zip(*moves, strict=True))
        moved[rows, :, columns] = moved[rows, :, columns] * scales[:, None] + shifts[:, None]
    return moved.reshape(len(points) * len(parameters), parameters.shape[1])


class Evaluations:
    """The evaluations of calls inside compiled TensorFlow functions, found by a key.

    A compiled function gives no sign when a call's derivatives are no longer wanted, so the oldest
    evaluations are dropped when all together exceed `most_bytes`. If one is asked for again it
    starts afresh: exact and seeded values stay the same, other samples are drawn anew.
    """

    def __init__(self, most_bytes: int = 2**28, most: int = 10_000):
        self._most_bytes, self._most = most_bytes, most
        self._evaluations: OrderedDict[tuple, Evaluation] = OrderedDict()
        self._sizes: dict[tuple, int] = {}  # in bytes, as far as known
        self._bytes = 0
        self._latest: tuple | None = None
        self._lock = threading.Lock()

    def get(self, call: Hashable, parameters: np.ndarray, make: Callable[[np.ndarray], Evaluation]):
        """Returns the evaluation of this call, made if it is new."""
        key = (call, parameters.tobytes())
        with self._lock:
            self._weigh(self._latest)  # it has grown since it was handed out
            if key not in self._evaluations:
                self._drop_oldest()
                self._evaluations[key] = make(parameters)
            self._evaluations.move_to_end(key)
            self._latest = key
            return self._evaluations[key]

    def _weigh(self, key):
        if key in self._evaluations:
            size = self._evaluations[key].nbytes
            self._bytes += size - self._sizes.get(key, 0)
            self._sizes[key] = size

    def _drop_oldest(self):
        while self._evaluations and (
            self._bytes > self._most_bytes or len(self._evaluations) >= self._most
        ):
            key, _ = self._evaluations.popitem(last=False)
            self._bytes -= self._sizes.pop(key, 0)
