"""The calls of one qnode: their numbers, and the evaluations of those that graphs ask for."""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import ClassVar

import numpy as np

from qshift.autodiff.evaluation import Evaluation
from qshift.executors.executor import Calls
from qshift.forks import Lock


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
    # Those of all qnodes, which share one bound on memory.
    _all: ClassVar[weakref.WeakSet[Evaluations]] = weakref.WeakSet()
    _lock: ClassVar[Lock] = Lock()
    _uses: ClassVar[Iterator[int]] = itertools.count()
    _held: ClassVar[int] = 0  # bytes of all, and of those that are gone since
    _gone: ClassVar[deque[int]] = deque()

    def __init__(self, most_bytes: int = 2**28, most: int = 10_000) -> None:
        self._most_bytes, self._most = most_bytes, most
        self._evaluations: OrderedDict[tuple, Evaluation] = OrderedDict()
        self._sizes: dict[tuple, int] = {}  # in bytes, as far as known
        self._used: dict[tuple, int] = {}  # the larger the number, the later
        self._latest: tuple | None = None
        self.nbytes = 0
        with self._lock:
            self._all.add(self)

    def __del__(self) -> None:
        if self.nbytes:
            self._gone.append(self.nbytes)  # which may happen while the sum is being changed

    def __len__(self) -> int:
        return len(self._evaluations)

    def get(
        self, call: Hashable, parameters: np.ndarray, make: Callable[[np.ndarray], Evaluation]
    ) -> Evaluation:
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

    def _weigh(self, key: tuple | None) -> None:
        if key is not None and key in self._evaluations:
            size = self._evaluations[key].nbytes
            self._grow(size - self._sizes.get(key, 0))
            self._sizes[key] = size

    def _grow(self, size: int) -> None:
        self.nbytes += size
        Evaluations._held += size

    def _make_room(self) -> None:
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

    def _drop_oldest(self) -> None:
        key, _ = self._evaluations.popitem(last=False)
        del self._used[key]
        self._grow(-self._sizes.pop(key, 0))


class EvaluatedCalls(Calls):
    """Numbers the calls of a qnode, and finds their evaluations by number.

    Attributes:
        eager: Of calls in eager mode, as long as they are in use, those that graphs ask for.
        evaluations: Of calls in compiled functions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.eager: weakref.WeakValueDictionary[int, Evaluation] = weakref.WeakValueDictionary()
        self.evaluations = Evaluations()

    def find(
        self,
        number: int,
        parameters: np.ndarray,
        start: Callable[..., Evaluation],
    ) -> Evaluation:
        """Returns the evaluation of a call at some parameters, started if it is new.

        Args:
            number: Of the call.
            parameters: float64[N, P]; a vectorised loop asks for others than those of the call.
            start: start(parameters, number=number) starts an evaluation.
        """
        eager = self.eager.get(number)
        if eager is not None and eager.parameters.tobytes() == parameters.tobytes():
            return eager
        found = self.evaluations.get(number, parameters, lambda at: start(at, number=number))
        found.final = True
        return found
