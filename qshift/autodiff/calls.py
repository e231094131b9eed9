"""The calls of one qnode: their numbers, and the evaluations of those that graphs ask for."""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

from qshift.autodiff.evaluation import Evaluation
from qshift.executors.executor import Calls
from qshift.forks import Lock, in_children
from qshift.rules.planner import Index


class Bound:
    """A bound on the evaluations that several qnodes keep for compiled functions.

    Beyond it, the evaluations that were used longest ago are dropped, of whichever qnode they are.
    An evaluation is weighed after every use, as that makes it grow.

    Args:
        most_bytes: How many bytes all evaluations may hold.
        most: How many evaluations there may be.
    """

    def __init__(self, most_bytes: int = 2**28, most: int = 2**15) -> None:
        self._most_bytes, self._most = most_bytes, most
        self._lock = Lock()
        # (token of the owner, key) -> the owner and the bytes, used longest ago first.
        self._sizes: OrderedDict[tuple, tuple[weakref.ref[Evaluations], int]] = OrderedDict()
        self._nbytes = 0
        # Entries of owners that no longer exist. An owner may die at any time, also in the middle
        # of a change by the same thread, so that they are taken out later.
        self._gone: deque[list[tuple]] = deque()

    @property
    def nbytes(self) -> int:
        """Bytes of all evaluations that are kept."""
        with self._lock:
            self._forget()
            return self._nbytes

    def weigh(self, owner: Evaluations, key: tuple, size: int) -> None:
        """Counts an evaluation that was used, and drops others if there is no room for it."""
        with self._lock:
            self._forget()
            if key not in owner:  # it was dropped while it was in use
                return
            entry = owner.token, key
            self._take(entry)
            self._sizes[entry] = weakref.ref(owner), size
            self._nbytes += size
            while len(self._sizes) > 1 and (
                self._nbytes > self._most_bytes or len(self._sizes) > self._most
            ):
                oldest = next(iter(self._sizes))
                found = self._take(oldest)
                if found is not None:
                    found.drop(oldest[1])

    def leave(self, token: object, keys: list[tuple]) -> None:
        """Is told the keys of an owner that is about to die."""
        if keys:
            self._gone.append([(token, key) for key in keys])

    def _forget(self) -> None:
        while self._gone:
            for entry in self._gone.popleft():
                self._take(entry)

    def _take(self, entry: tuple) -> Evaluations | None:
        owner, size = self._sizes.pop(entry, (None, 0))
        self._nbytes -= size
        return owner() if owner else None


# One for the process, as all qnodes share its memory.
SHARED = Bound()


class Evaluations:
    """The evaluations of one qnode's calls inside compiled TensorFlow functions, found by a key.

    A compiled function gives no sign when a call's derivatives are no longer wanted, so evaluations
    are dropped when there are too many (see `Bound`). If one is asked for again it starts afresh:
    exact and seeded values stay the same, other samples are drawn anew. Thread-safe.

    Args:
        bound: The bound, which other qnodes share.

    Attributes:
        token: Identifies this object, also after it has died.
    """

    def __init__(self, bound: Bound = SHARED) -> None:
        self.token = object()
        self._bound = bound
        self._evaluations: dict[tuple, Evaluation] = {}
        self._lock = Lock()

    def __del__(self) -> None:
        self._bound.leave(self.token, list(self._evaluations))

    def __len__(self) -> int:
        return len(self._evaluations)

    def __iter__(self) -> Iterator[Evaluation]:
        return iter(list(self._evaluations.values()))

    def __contains__(self, key: tuple) -> bool:
        return key in self._evaluations

    def get(
        self, call: Hashable, parameters: np.ndarray, make: Callable[[np.ndarray], Evaluation]
    ) -> Kept:
        """Returns the evaluation of this call at these parameters, made if it is new."""
        bits = parameters.reshape(-1).view(np.int64)
        total = int(bits.sum())  # equal parameters have the same, and others hardly ever
        with self._lock:
            others = 0
            while evaluation := self._evaluations.get(key := (call, total, others)):
                if np.array_equal(evaluation.parameters.reshape(-1).view(np.int64), bits):
                    break
                others += 1
            else:
                evaluation = self._evaluations[key] = make(parameters)
        kept = Kept(evaluation, self, key)
        kept.weigh()
        return kept

    def weigh(self, key: tuple, size: int) -> None:
        """Counts the bytes of an evaluation, which was used just now."""
        self._bound.weigh(self, key, size)

    def drop(self, key: tuple) -> None:
        """Drops an evaluation, if it is there."""
        self._evaluations.pop(key, None)


class Kept:
    """An evaluation that is kept within a bound, and weighed whenever it was used.

    Attributes:
        evaluation: The evaluation.
    """

    __slots__ = ("evaluation", "_key", "_owner")

    def __init__(self, evaluation: Evaluation, owner: Evaluations, key: tuple) -> None:
        self.evaluation = evaluation
        self._owner, self._key = owner, key

    def weigh(self) -> None:
        """Counts the bytes that the evaluation holds now."""
        self._owner.weigh(self._key, self.evaluation.nbytes)

    def partials(
        self, indices: tuple[Index, ...], also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray:
        """See `Evaluation`."""
        try:
            return self.evaluation.partials(indices, also)
        finally:
            self.weigh()

    def pulled_back(self, *asked_for: Any) -> np.ndarray | None:
        """See `Evaluation`."""
        try:
            return self.evaluation.pulled_back(*asked_for)
        finally:
            self.weigh()


class EvaluatedCalls(Calls):
    """Numbers the calls of a qnode, and finds their evaluations by number.

    Attributes:
        eager: Number of a call in eager mode -> its evaluation, for calls that graphs ask for, as
            long as they are in use.
        evaluations: The evaluations of calls in compiled functions.
        in_order: Whether compiled functions number their calls one after the other, too, where no
            seed asks for it: somebody sets `made`, to go on with a call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_order = False
        self.eager: weakref.WeakValueDictionary[int, Evaluation] = weakref.WeakValueDictionary()
        self.evaluations = Evaluations()
        in_children(self)

    def inherit(self) -> None:
        """Frees the locks of all evaluations in the child of a fork."""
        for evaluation in [*self.eager.values(), *self.evaluations]:
            evaluation.inherit()

    def find(self, number: int, parameters: np.ndarray, start: Callable[..., Any]) -> Any:
        """Returns the evaluation of a call at some parameters, started if it is new.

        Args:
            number: The number of the call.
            parameters: float64[N, P]; a vectorised loop asks for others than those of the call.
            start: start(parameters, number=number) starts an evaluation.

        Returns:
            An `Evaluation`, or `Kept` one.
        """
        eager = self.eager.get(number)
        if eager is not None and eager.parameters.tobytes() == parameters.tobytes():
            return eager
        kept = self.evaluations.get(number, parameters, lambda at: start(at, number=number))
        kept.evaluation.final = True
        return kept
