"""Values and first derivatives straight from the executor, where a graph reads each of them once.

A small circuit runs in less time than it takes to make an evaluation, to keep it, to find it again
and to drop it. Where nobody can ask for anything else of a call, none of this is needed, and the
call leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from pennylane import QueuingManager

from qshift.autodiff.contraction import place_of
from qshift.autodiff.pulled_back import PulledBack, is_exact
from qshift.rules.planner import MOST_REMEMBERED, Index, Planner


class Direct:
    """A circuit without shots whose first derivatives come from the executor.

    Args:
        circuit: The circuit.
        executor: Runs and differentiates it.
    """

    def __init__(self, circuit: Any, executor: Any) -> None:
        self.run = partial(executor, circuit)
        self.gradients = partial(executor.gradients, circuit)
        self.pull_back = partial(executor.pulled_back, circuit)
        self.planner: Planner = circuit.planner("circuits")
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
        return Reading(self, parameters)


def _first(
    planner: Planner, indices: tuple[Index, ...]
) -> tuple[slice | list[int], np.ndarray | None]:
    mask = planner.mask(indices)
    return place_of([j for (j,) in indices]), None if mask.all() else mask


class Reading(NamedTuple):
    """One call at given parameters, which are finite and of usual size.

    Attributes:
        of: What is called.
        parameters: float64[N, P].
    """

    of: Direct
    parameters: np.ndarray

    def partials(
        self, indices: Sequence[Index], also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray:
        """Returns the values, or first derivatives; see `Evaluation`."""
        indices = tuple(indices)
        if indices == ((),):
            values: np.ndarray = self.of.run(self.parameters)
            return values[:, :, None]
        columns, mask = self.of.first(indices)
        found: np.ndarray = self.of.gradients(self.parameters)[:, :, columns]
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
        of, parameters = self
        found = PulledBack.of(lower, weights, of.planner, of.shifted, parameters, of.pull_back)
        return found.sums
