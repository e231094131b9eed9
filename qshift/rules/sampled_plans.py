"""Plans with finite shots: which points to run, with how many shots each.

With shots, the cost of a plan is the number of its shots times the summed variance of all that is
wanted, both for values of variance one. The shots are spread in one of four ways:

- ``"own"``: each point of a batch has its own number of shots (`allocation`). All points of a batch
  together take as many as if each took the shots of its circuit. None is run twice.
- ``"batch"``: each point has its own number, and all points of a batch together take a given
  number. Points that a call has run before may get further shots, which are run with the new
  points: a value asked for before the Hessian has a larger part in its variance.
- ``"equal"``: all points have the shots of the circuit. None is run twice.

The objective ``"circuits"`` keeps the fewest points (`planner`). ``"shots"`` takes the points, of
those of the fewest circuits and those of the least sum |c|, that give the lower cost, and combines
them by the coefficients of least variance. Between them is a number: the shots that take as long as
a circuit, in the unit of all shots. Then the plan takes the least time to the variance that
``"shots"`` reaches, with the points of either, or with those of the fewest circuits for derivatives
by few parameters and of the least sum |c| for those by more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from qshift.rules.allocation import Allocation, Problem
from qshift.rules.planner import MOST_REMEMBERED, Index, Planner, PlanNode, Point, Spectrum, Step
from qshift.rules.relations import relations

_LESS = 1 - 1e-6  # costs nearer to one another are the same
SPREADS = ("equal", "own", "batch", "error")
_NEAR = 1.01  # to the variance that is wanted
_ATTEMPTS = 8
_MOST_SUMS = 16  # requests for weighted sums in a cache; their weights are numbers
_MOST_MIXED = 3  # parameters by which derivatives may have the fewest circuits next to others


class Precision(NamedTuple):
    """The cost of shots: their number times the summed variance of the derivatives of all values,
    if each shot of a value has variance one.

    Attributes:
        cost: The cost of the plan.
        equal: The cost of the plan for equal shots.
        bound: No other shots and coefficients for the plan's points cost less than this; 0 where
            shots are equal.
    """

    cost: float
    equal: float
    bound: float


def planner(
    spectra: Sequence[Spectrum | None],
    cones: np.ndarray,
    objective: str | float,
    spread: str | None = None,
) -> Planner:
    """Returns the planner of a structure; see `Planner` and `SampledPlanner`.

    Args:
        spectra: One entry per parameter.
        cones: bool[M, P].
        objective: ``"circuits"`` or ``"shots"``; with shots also a number, see above.
        spread: How shots are spread; None for exact results.
    """
    if spread is None:
        assert isinstance(objective, str), "a circuit without shots takes no part in a trade"
        return Planner(spectra, cones, objective)
    return SampledPlanner(spectra, cones, objective, spread)


class SampledPlanner(Planner):
    """Plans the circuits of one structure that is run with shots; see `Planner`.

    Args:
        spectra: One entry per parameter; None where no exact rule is known.
        cones: bool[M, P], True where parameter p can reach measurement m at all.
        objective: ``"circuits"``, ``"shots"``, or how many shots take as long as a circuit.
        spread: One of `SPREADS`.

    Attributes:
        overhead: How many shots take as long as a circuit; None for the other objectives.
        mixed: mixed(few) returns the planner of plans that have the fewest circuits for derivatives
            by up to `few` parameters, and the least sum |c| for those by more.
    """

    def __init__(
        self,
        spectra: Sequence[Spectrum | None],
        cones: np.ndarray,
        objective: str | float,
        spread: str,
    ) -> None:
        super().__init__(spectra, cones, objective if isinstance(objective, str) else "shots")
        self.overhead = None
        if not isinstance(objective, str):
            self.objective, self.overhead = "seconds", objective
        if spread not in SPREADS:
            raise ValueError(f"spread must be one of {SPREADS}, got {spread!r}.")
        self.spread = spread
        objectives = ("circuits",) if objective == "circuits" else ("circuits", "shots")
        self.candidates = [Planner(spectra, cones, each) for each in objectives]
        self.mixed = lru_cache(_MOST_MIXED)(lambda few: Planner(spectra, cones, "shots", few))
        self.root: SampledNode = SampledNode(self, (), np.empty(0))
        self._structure = tuple(spectra), cones, objective

    @cached_property
    def _of_equal_shots(self) -> SampledPlanner:
        if self.spread == "equal":
            return self
        return SampledPlanner(*self._structure, "equal")

    def precision(self, indices: Sequence[Index]) -> Precision:
        """Returns what derivatives cost that are asked for together."""
        allocation = self.root.allocation(indices)
        return Precision(
            allocation.cost,
            self._of_equal_shots.root.allocation(indices).cost,
            0.0 if self.spread == "equal" else allocation.bound,
        )

    def contracted(
        self, indices: tuple[Index, ...], weights: np.ndarray
    ) -> tuple[list[Step], Precision]:
        """Returns the step that leads to weighted sums of derivatives, and what they cost.

        Args:
            indices: The derivatives; A of them.
            weights: float64[B, M, A], the weight of each value of each derivative in B sums.
        """
        equal = self._of_equal_shots.root
        of_equal = equal.request(indices).coefficients
        masked = weights * self.mask(indices)
        rows = masked.reshape(-1, len(indices)) @ of_equal
        cost = rows.shape[1] * float((rows**2).sum())
        if self.spread == "equal":
            return [equal.request(indices)], Precision(cost, cost, 0.0)
        step, allocation = self.root.contraction(indices, weights)
        return [step], Precision(allocation.cost, cost, allocation.bound)


class SampledNode(PlanNode):
    """The points that a call has evaluated so far, with their shots.

    Attributes:
        shots: float64[K], in units of those of the circuit.

    Args:
        planner: The planner.
        points: The points.
        shots: As above.
        given: What the call has asked for before: derivatives -> row, and the coefficients.
    """

    def __init__(
        self,
        planner: SampledPlanner,
        points: tuple[Point, ...],
        shots: np.ndarray,
        given: tuple[tuple[dict[Index, int], sparse.csr_array], ...] = (),
    ) -> None:
        self.planner: SampledPlanner = planner
        self.points = points
        self.shots = shots
        self._given = given
        self._best = lru_cache(MOST_REMEMBERED)(self._found_best)
        self._best_sums = lru_cache(_MOST_SUMS)(self._found_best_sums)
        self.step: Callable[[tuple[Index, ...]], Step] = lambda indices: self._best(indices)[0]

    def allocation(self, indices: Sequence[Index]) -> Allocation:
        """Returns how the shots of a request are spread, and what they cost."""
        return self._best(tuple(indices))[1]

    def contracted(self, indices: Sequence[Index], weights: np.ndarray) -> Step:
        """Plans weighted sums of derivatives: with coefficients of theirs, which may leave out what
        the derivatives take one by one.

        Args:
            indices: The derivatives; A of them.
            weights: float64[B, M, A], the weight of each value of each derivative in B sums.

        Returns:
            A step whose coefficients are those of each value in each sum, float64[B * M, K].
        """
        return self.contraction(indices, weights)[0]

    def contraction(self, indices: Sequence[Index], weights: np.ndarray) -> tuple[Step, Allocation]:
        """Returns what `contracted` does, and how its shots are spread."""
        return self._best_sums(tuple(indices), weights.shape, weights.astype(float).tobytes())

    def _found_best_sums(
        self, indices: tuple[Index, ...], shape: tuple[int, ...], numbers: bytes
    ) -> tuple[Step, Allocation]:
        weights = np.frombuffer(numbers).reshape(shape) * self.planner.mask(indices)
        rows = sparse.csr_array(weights.reshape(-1, len(indices)))
        return _better([self._of_sums(rows, indices, each) for each in self.planner.candidates])

    def _of_sums(
        self, rows: sparse.csr_array, indices: tuple[Index, ...], planner: Planner
    ) -> tuple[Step, Allocation]:
        """Plans sums of derivatives over the points that a planner adds to those there are."""
        plain = PlanNode(planner, self.points).request(indices)
        wanted = sparse.csr_array(rows @ plain.coefficients)
        count = rows.shape[0]
        found = self._allocated(wanted, plain, np.ones(count), count / len(planner.cones))
        return self._step(plain, found, self._given), found

    def _found_best(self, indices: tuple[Index, ...]) -> tuple[Step, Allocation]:
        planned = [self._with_shots(indices, planner) for planner in self.planner.candidates]
        fewest, best = planned[0], _better(planned)
        if self.planner.overhead is None or not fewest[0].new_points:
            return best
        widest = max(len(set(index)) for index in indices)
        between = (
            self._with_shots(indices, self.planner.mixed(few))
            for few in range(1, min(widest, _MOST_MIXED + 1))
        )
        planned += [
            each
            for each in between
            if len(each[0].new_points) >= len(fewest[0].new_points)
            and each[1].cost >= _LESS * best[1].cost
        ]
        per_cost = self._budget(fewest[0], best[1]) / best[1].cost
        return min([*planned, best], key=lambda each: self._time(each, per_cost))

    def _budget(self, fewest: Step, best: Allocation) -> float:
        """Returns how many shots a batch takes, given its plan of fewest circuits and that of least
        variance."""
        if self.planner.spread == "error":
            return float(best.shots.sum() - self.shots.sum())
        return 1.0 if self.planner.spread == "batch" else float(len(fewest.new_points))

    def _time(self, planned: tuple[Step, Allocation], per_cost: float) -> float:
        """Returns how long a plan takes to reach a variance, in units of that of a shot.

        Args:
            planned: The plan.
            per_cost: The shots that reach the variance, over the cost.
        """
        step, allocation = planned
        assert self.planner.overhead is not None, "only for plans of least time"
        circuits = len(step.new_points) + len(step.again)
        return self.planner.overhead * circuits + per_cost * allocation.cost

    def _with_shots(self, indices: tuple[Index, ...], planner: Planner) -> tuple[Step, Allocation]:
        """Plans derivatives over the points that a planner adds to those there are."""
        plain = PlanNode(planner, self.points).request(indices)
        old = len(self.points)
        weights = planner.mask(indices).sum(axis=0).astype(float)
        # What needs none of the new points is read off as ever, or as it was given before.
        needy = np.diff(sparse.csr_array(plain.coefficients[:, old:]).indptr) > 0
        wanted = plain.coefficients[np.flatnonzero(needy)]
        found = self._allocated(wanted, plain, weights[needy], float(weights[needy].sum()))
        coefficients = self._with_given(indices, plain.coefficients, needy, found.coefficients)
        sizes = weights @ coefficients.power(2)
        run = found.shots > 0
        cost = float(found.shots.sum() * (sizes[run] / found.shots[run]).sum())
        allocation = replace(found, coefficients=coefficients, cost=cost)
        places = {index: i for i, index in enumerate(indices)}
        return self._step(plain, allocation, (*self._given, (places, coefficients))), allocation

    def _allocated(
        self, wanted: sparse.csr_array, plain: Step, weights: np.ndarray, variance: float
    ) -> Allocation:
        """Spreads the shots of a request over old and new points.

        Args:
            wanted: What is wanted, as combinations of the values at all points.
            plain: The step without shots of their own.
            weights: The weights of the variances of what is wanted.
            variance: The summed variance, where an error is wanted.
        """
        planner, new = self.planner, len(plain.new_points)
        held = np.append(self.shots, np.zeros(new))
        problem = Problem(wanted, relations(planner.spectra, plain.node.points), weights)
        if planner.spread == "equal":
            held[len(self.shots) :] = 1.0
            return problem.at(held)
        if planner.spread == "error" and new:
            return _precise(problem, held, variance)
        budget = float(new) if planner.spread == "own" else float(new > 0)
        repeats = planner.spread == "batch" and planner.objective != "circuits"
        return problem.allocated(held, budget, repeats)

    def _step(self, plain: Step, found: Allocation, given: tuple[Any, ...]) -> Step:
        """Returns a step, with the shots and coefficients that were found for it."""
        old = len(self.points)
        added = found.shots - np.append(self.shots, np.zeros(len(plain.new_points)))
        again = np.flatnonzero(added[:old] > 0)
        node = self
        if plain.new_points:
            node = SampledNode(self.planner, plain.node.points, found.shots, given)
        shots = None
        if self.planner.spread != "equal":
            shots = np.append(added[old:], added[again])
        return Step(plain.new_points, found.coefficients, node, tuple(again.tolist()), shots)

    def _with_given(
        self,
        indices: tuple[Index, ...],
        plain: sparse.csr_array,
        needy: np.ndarray,
        found: sparse.csr_array,
    ) -> sparse.csr_array:
        """Returns the coefficients of derivatives, sparse float64[len(indices), K].

        Args:
            indices: The derivatives.
            plain: Coefficients without regard to variances.
            needy: bool[len(indices)], which of them take new points.
            found: The coefficients of these.
        """
        parts, places = [found], [np.flatnonzero(needy)]
        left = [i for i in range(len(indices)) if not needy[i]]
        for known, rows in self._given:  # a derivative that a call asks for again is what it was
            same = [i for i in left if indices[i] in known]
            if same:
                part = sparse.csr_array(rows[[known[indices[i]] for i in same]])
                part.resize((len(same), plain.shape[1]))
                parts.append(part)
                places.append(np.array(same))
                left = [i for i in left if indices[i] not in known]
        parts.append(plain[left])
        places.append(np.array(left, dtype=int))
        return sparse.csr_array(sparse.vstack(parts))[np.argsort(np.concatenate(places))]


def _better(planned: Sequence[tuple[Step, Allocation]]) -> tuple[Step, Allocation]:
    """Returns the plan that costs least; of equal ones, that of the fewest circuits."""
    fewest, *others = planned
    best = min(others, key=lambda each: each[1].cost, default=fewest)
    return best if best[1].cost < _LESS * fewest[1].cost else fewest


def _precise(problem: Problem, held: np.ndarray, variance: float) -> Allocation:
    """Returns as many shots as bring the summed variance down to a given one. Points that have some
    already may get more of them.

    Args:
        problem: What is wanted.
        held: float64[K], the shots that points have already.
        variance: The summed variance.
    """
    found = problem.allocated(np.zeros_like(held), 1.0)
    budget = found.cost / variance
    if not held.any():
        return replace(found, shots=budget * found.shots)
    for _ in range(_ATTEMPTS):
        found = problem.allocated(held, budget)
        excess = found.cost / found.shots.sum() / variance
        if 1 / _NEAR < excess < _NEAR:
            break
        budget *= excess
    return found
