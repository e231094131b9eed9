"""Values and first derivatives straight from the executor, where a graph reads each of them once.

A small circuit runs in less time than it takes to make an evaluation, to keep it, to find it again
and to drop it. Where nobody can ask for anything else of a call, none of this is needed, and the
call leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import compress
from typing import Any, NamedTuple, cast

import numpy as np
from pennylane import QueuingManager

from qshift.autodiff.contraction import place_of
from qshift.autodiff.one_batch import Siblings
from qshift.autodiff.pulled_back import PulledBack, is_exact
from qshift.executors.executor import Asked, Results
from qshift.python_kernel import Followed
from qshift.rules.planner import MOST_REMEMBERED, Index, Planner


class Direct:
    """A circuit without shots whose first derivatives come from the executor.

    Args:
        circuit: The circuit.
        executor: Runs and differentiates it.
        objective: As for `Evaluation`.
    """

    def __init__(self, circuit: Any, executor: Any, objective: str | float) -> None:
        usual = executor, executor.gradients, executor.pulled_back
        self._usual = _Usual(*[partial(function, circuit) for function in usual])
        self._small = partial(executor.small, circuit)
        self.planner: Planner = circuit.planner(objective)
        self.shifted = circuit.shifted
        self._reach = min(self.shifted.reach, np.finfo(float).max)
        # first(indices) returns which columns first derivatives are by, and their mask.
        self.first = lru_cache(MOST_REMEMBERED)(partial(_first, self.planner))

    def serves(self, nodes: Sequence[Any]) -> bool:
        """Whether nodes read the values once at most, and first derivatives once at most, whatever
        else their graph does."""
        orders = [node.order for node in nodes]
        return len(orders) == len(set(orders)) and set(orders) <= {0, 1}

    def at(self, parameters: np.ndarray) -> Reading | None:
        """Returns what nodes read from at float64[N, P]; None where only an `Evaluation` does what
        the parameters need: some are large, or not finite, or a quantum function is recorded."""
        if QueuingManager.recording() or not (np.abs(parameters) <= self._reach).all():
            return None
        return Reading(self, self._small(len(parameters)) or self._usual, parameters)

    def asked(self, nodes: Sequence[Any], found: Siblings) -> list[Asked | None] | None:
        """Returns what an op's nodes are of the results that executors give directly, and None for
        those that are not read; None where an op of the call needs something else.

        Args:
            nodes: The nodes.
            found: What runs beside the op, and which of the nodes are read.
        """
        if not found.are_all:
            return None
        read, together = found.read, [cast(Any, node) for node, _ in found.nodes]
        others: tuple[Index, ...] | None = None
        if not self.serves(together or list(compress(nodes, read))):
            # The first of these ops evaluates all derivatives that are not sums.
            each = [index for node in together for index in node.needs(None, True)]
            others = tuple(dict.fromkeys(each))
            if {len(index) for index in others} - {0} != {1}:
                return None
        each_asks = {
            node: node.asks(self, others, found.are_known)
            for node in [*compress(nodes, read), *together]
        }
        if None in each_asks.values():
            return None
        return [
            each_asks[node] if is_read else None for node, is_read in zip(nodes, read, strict=True)
        ]

    def written(
        self,
        rows: int,
        parts: Sequence[Sequence[int]],
        nodes: Sequence[Any],
        asked: Sequence[Asked | None],
    ) -> Followed | None:
        """Returns instructions that give the results of an op's nodes without Python; None if
        there are none.

        Args:
            rows: The number of points.
            parts: The columns of the parameters that come from each input.
            nodes: The nodes.
            asked: What they are; see `asked`.
        """
        small = self._small(rows)
        longest = rows * max([each.shifts.points for each in asked if each and each.shifts] or [1])
        if small is None or self._small(longest) is None:
            return None
        written = small.written(rows, parts, self._reach, asked)
        if written is None:
            return None
        results = [
            array.reshape(rows, *node.shape) if each else np.empty((0, *[0] * len(node.shape)))
            for array, node, each in zip(written.results, nodes, asked, strict=True)
        ]
        results[1:] = [each.view(np.int64) for each in results[1:]]  # see `qshift.autodiff.node`
        return Followed(*written._replace(results=results, kept=(written.kept, small)))

    def is_at_hand(self, rows: int) -> bool:
        """Whether nobody counts or watches what is run."""
        return self._small(rows) is not None


class _Usual(NamedTuple):
    """The results of a circuit as its executor gives them; see `Results`."""

    values: Callable[..., np.ndarray]
    gradients: Callable[..., np.ndarray]
    pulled_back: Callable[..., np.ndarray]


def _first(
    planner: Planner, indices: tuple[Index, ...]
) -> tuple[slice | list[int], np.ndarray | None]:
    mask = planner.mask(indices)
    return place_of([j for (j,) in indices]), None if mask.all() else mask


class Reading(NamedTuple):
    """One call at given parameters, which are finite and of usual size.

    Attributes:
        of: What is called.
        results: What gives its values and derivatives.
        parameters: float64[N, P].
    """

    of: Direct
    results: Results
    parameters: np.ndarray

    def partials(
        self, indices: Sequence[Index], also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray:
        """Returns the values, or first derivatives; see `Evaluation`."""
        of, results, parameters = self
        indices = tuple(indices)
        if indices == ((),):
            return results.values(parameters)[:, :, None]
        columns, mask = of.first(indices)
        found: np.ndarray = results.gradients(parameters)[:, :, columns]
        return found if mask is None else found * mask

    def pulled_back(
        self,
        lower: tuple[Index, ...],
        weights: np.ndarray,
        indices: tuple[Index, ...],
        also: tuple[tuple[Index, ...], ...] = (),
    ) -> np.ndarray | None:
        """See `Evaluation`."""
        if not is_exact(weights):
            return None
        of, results, parameters = self
        pull_back = results.pulled_back
        found = PulledBack.of(lower, weights, of.planner, of.shifted, parameters, pull_back)
        return found.sums
