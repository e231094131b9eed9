"""One call's table of points: what is known, what has to run, and the derivatives it gives."""

from __future__ import annotations

import hashlib
import itertools
import math
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from pennylane import QueuingManager

from qshift.executors.executor import Call, Calls
from qshift.forks import Lock
from qshift.rules.planner import Index, Node, Planner, split
from qshift.rules.shifting import Shifter

_OVERHEAD = 4096  # bytes of an evaluation without its numbers
_MOST_READINGS = 256  # in eager mode requests depend on data, so their number has no bound


class Structure(Protocol):
    """What is evaluated: a circuit, or any function with the same kind of derivatives.

    It may have `is_finite`, whether its constants are, and `shifted`, what moves its parameters.
    """

    num_parameters: int
    num_values: int

    def planner(self, objective: str) -> Planner: ...

    def require_rules(self, columns) -> None: ...


# A compiled function leaves many evaluations behind. That they consist of few objects saves
# Python's garbage collector from looking through all of TensorFlow's again and again.


class Table:
    """Values of one function at the points evaluated so far, and derivatives read off them.

    Args:
        shape: Of the values at one point.
        parameters: float64[N, P], the unshifted points of the call.
        node: An empty plan.
        shifted: Moves the parameters to the points of a plan.
    """

    __slots__ = ("_node", "_parameters", "_shifted", "_values")

    def __init__(self, shape: tuple[int, ...], parameters: np.ndarray, node: Node, shifted):
        self._parameters, self._shifted = parameters, shifted
        self._node = node
        self._values = np.empty((0, len(parameters), *shape))

    @property
    def nbytes(self) -> int:
        return self._values.nbytes

    def partials(self, indices: Sequence[Index], function: Callable) -> np.ndarray:
        """Returns partial derivatives float64[len(indices), N, *shape], running what is missing.

        Args:
            indices: Which.
            function: From points float64[N, P] to values float64[N, *shape].
        """
        step = self._node.request(indices)
        one = self._values.shape[1:]  # the values of one point of the plan
        if step.new_points:
            new = function(self._shifted(self._parameters, step.new_points))
            new = new.reshape(len(step.new_points), *one)
            self._values = np.concatenate([self._values, new]) if len(self._values) else new
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

    Attributes:
        final: Whether what fails has failed for all: a compiled function runs several ops at once,
            and when one of them has not got its results, the others shall not try again.
    """

    __slots__ = (
        "final",
        "parameters",
        "_adjoint",
        "_call",
        "_circuit",
        "_error",
        "_executor",
        "_gradients",
        "_lock",
        "_planner",
        "_prefetch",
        "_together",
        "_values",
        "__weakref__",
    )

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
        self.final = False
        self.parameters = parameters
        self._circuit = circuit
        self._error: Exception | None = None
        self._executor = executor
        self._adjoint = adjoint
        self._prefetch = tuple(prefetch)
        self._call = Call(number)
        self._lock = Lock()
        self._planner = planner = circuit.planner(objective)
        values, inputs = circuit.num_values, circuit.num_parameters
        shifted = getattr(circuit, "shifted", None)
        shifted = shifted or Shifter(planner.spectra, "Parameter {}".format)
        table = partial(Table, parameters=parameters, node=planner.root, shifted=shifted)
        self._values, self._gradients = table((values,)), table((values, inputs))
        self._together: tuple[tuple[Index, ...], np.ndarray] = (), np.empty(0)

    @property
    def nbytes(self) -> int:
        held = self.parameters, self._values, self._gradients, self._together[1]
        return _OVERHEAD + sum(each.nbytes for each in held)

    def partials(
        self, indices: Sequence[Index], also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray:
        """Returns partial derivatives, float64[N, M, len(indices)].

        Args:
            indices: Which.
            also: What others will ask for, to be evaluated in the same batch.
        """
        if not any(also):
            return self._partials(indices)
        together, places = _union(tuple(indices), also)
        # Each of those who ask does so with the same result, to the last digit.
        with self._lock:
            if together != self._together[0]:
                self._together = together, self._partials(together)
            return self._together[1][:, :, places]

    def _partials(self, indices):
        with self._lock:
            if self._error:
                raise self._error
            try:
                # What is asked for first may well be all there is to prefetch.
                if not set(self._prefetch).issubset(indices):
                    self._read(self._prefetch)
                result = self._read(tuple(indices))
            except Exception as error:
                self._error = error if self.final else None
                raise
            self._prefetch = ()
            return result

    def _read(self, indices):
        reading = _reading(self._planner, indices, self._adjoint)
        result = np.zeros((len(indices), len(self.parameters), self._circuit.num_values))
        if reading.values:
            result[reading.by_values] = self._values.partials(reading.values, self._run)
        if reading.gradients:
            # [rows, N, M, P]
            gradients = self._gradients.partials(reading.gradients, self._differentiate)
            result[reading.by_gradients] = gradients[reading.rows, :, :, reading.columns]
        result = np.moveaxis(result, 0, 2)
        return result if reading.mask is None else result * reading.mask

    def _run(self, points):
        shape = (self._circuit.num_values,)
        return self._where_finite(
            points, shape, lambda at: self._executor(self._circuit, at, self._call)
        )

    def _differentiate(self, points):
        shape = self._circuit.num_values, self._circuit.num_parameters
        return self._where_finite(
            points, shape, lambda at: self._executor.gradients(self._circuit, at)
        )

    def _where_finite(self, points, shape, run):
        """Runs points; where an angle is not finite, nothing is run, and the result not a number.

        Devices differ in what they make of such angles, with shots above all.
        """
        finite = np.isfinite(points).all(axis=1) & getattr(self._circuit, "is_finite", True)
        values = np.full((len(points), *shape), np.nan)
        if not finite.any():
            return values
        # A quantum function that is being recorded may need derivatives of another one.
        with QueuingManager.stop_recording():
            if finite.all():
                return run(points)
            values[finite] = run(points[finite])
        return values


@lru_cache(maxsize=64)  # an execution of a graph asks for few, but for each of them every time
def _union(indices, also) -> tuple[tuple[Index, ...], np.ndarray]:
    """Returns all that is asked for, each once and in one order, and where `indices` are in it."""
    together = {*indices, *itertools.chain.from_iterable(also)}
    together = tuple(sorted(together, key=lambda index: (len(index), index)))
    position = {index: i for i, index in enumerate(together)}
    return together, np.array([position[index] for index in indices], dtype=int)


@dataclass(frozen=True)
class _Reading:
    """Where partial derivatives are read off.

    Attributes:
        by_values: Positions of those that come from shifted values: of the derivatives `values`.
        by_gradients: Positions of those that come from shifted gradients: entry `columns[i]` of the
            gradient of the derivative `gradients[rows[i]]`.
        mask: bool[M, A], False where a value cannot depend on the parameters; None for all True.
    """

    by_values: np.ndarray
    values: tuple[Index, ...]
    by_gradients: np.ndarray
    gradients: tuple[Index, ...]
    rows: np.ndarray
    columns: np.ndarray
    mask: np.ndarray | None


_readings: WeakKeyDictionary[Planner, dict] = WeakKeyDictionary()


def _reading(planner: Planner, indices: tuple[Index, ...], adjoint: bool) -> _Reading:
    known = _readings.setdefault(planner, {})
    reading = known.get((indices, adjoint))
    if reading is None:
        if len(known) >= _MOST_READINGS:
            known.clear()
        reading = known[indices, adjoint] = _plan_reading(planner, indices, adjoint)
    return reading


def _plan_reading(planner, indices, adjoint):
    mask = planner.mask(indices)
    seen = np.flatnonzero(mask.any(axis=0))
    by_values = [i for i in seen if not (adjoint and indices[i])]
    by_gradients = [i for i in seen if adjoint and indices[i]]
    pairs = split([indices[i] for i in by_gradients])
    row = {a: k for k, a in enumerate(dict.fromkeys(a for a, _ in pairs))}
    return _Reading(
        np.array(by_values, dtype=int),
        tuple(indices[i] for i in by_values),
        np.array(by_gradients, dtype=int),
        tuple(row),
        np.array([row[a] for a, _ in pairs], dtype=int),
        np.array([j for _, j in pairs], dtype=int),
        None if mask.all() else mask,
    )


class Evaluations:
    """The evaluations of one qnode's calls inside compiled TensorFlow functions, found by a key.

    A compiled function gives no sign when a call's derivatives are no longer wanted, so evaluations
    are dropped, those first that were asked for longest ago, when they are too many or too large,
    or those of all qnodes together are. If one is asked for again it starts afresh: exact and
    seeded values stay the same, other samples are drawn anew. Thread-safe.

    Args:
        most_bytes: Of these.
        most: How many.
    """

    _MOST_BYTES_OF_ALL = 2**28
    _all: ClassVar[weakref.WeakSet[Evaluations]] = weakref.WeakSet()
    _lock: ClassVar[Lock] = Lock()
    _uses: ClassVar[Iterator[int]] = itertools.count()
    _held: ClassVar[int] = 0  # bytes of all, and of those that are gone since
    _gone: ClassVar[deque[int]] = deque()

    def __init__(self, most_bytes: int = 2**28, most: int = 10_000):
        self._most_bytes, self._most = most_bytes, most
        self._evaluations: OrderedDict[tuple, Evaluation] = OrderedDict()
        self._sizes: dict[tuple, int] = {}  # in bytes, as far as known
        self._used: dict[tuple, int] = {}  # the larger the number, the later
        self._latest: tuple | None = None
        self.nbytes = 0
        with self._lock:
            self._all.add(self)

    def __del__(self):
        if self.nbytes:
            self._gone.append(self.nbytes)  # which may happen while the sum is being changed

    def __len__(self) -> int:
        return len(self._evaluations)

    def get(self, call: Hashable, parameters: np.ndarray, make: Callable[[np.ndarray], Evaluation]):
        """Returns the evaluation of this call at these parameters, made if it is new."""
        key = call, hashlib.blake2b(parameters.tobytes(), digest_size=16).digest()
        with self._lock:
            self._weigh(self._latest)  # it has grown since it was handed out
            if key not in self._evaluations:
                self._make_room()
                self._evaluations[key] = make(parameters)
            self._evaluations.move_to_end(key)
            self._used[key] = next(self._uses)
            self._latest = key
            return self._evaluations[key]

    def _weigh(self, key):
        if key in self._evaluations:
            size = self._evaluations[key].nbytes
            self._grow(size - self._sizes.get(key, 0))
            self._sizes[key] = size

    def _grow(self, size):
        self.nbytes += size
        Evaluations._held += size

    def _make_room(self):
        while self._evaluations and (self.nbytes > self._most_bytes or len(self) >= self._most):
            self._drop_oldest()
        while self._gone:
            Evaluations._held -= self._gone.popleft()
        while Evaluations._held > self._MOST_BYTES_OF_ALL:
            filled = [each for each in self._all if len(each)]
            if not filled:
                return
            min(filled, key=Evaluations._oldest)._drop_oldest()

    def _oldest(self) -> int:
        return self._used[next(iter(self._evaluations))]

    def _drop_oldest(self):
        key, _ = self._evaluations.popitem(last=False)
        del self._used[key]
        self._grow(-self._sizes.pop(key, 0))


class EvaluatedCalls(Calls):
    """Numbers the calls of a qnode.

    Attributes:
        evaluations: Those of its calls in compiled functions, which are kept until then.
    """

    def __init__(self):
        super().__init__()
        self.evaluations = Evaluations()
