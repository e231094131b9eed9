"""From partial derivatives to circuits: which shifted points to run, and how to combine them.

A partial derivative is a multi-index, written as a sorted tuple of parameters: `()` is the value,
`(0,)` the first derivative by parameter 0, `(0, 0, 3)` a third derivative. A point is a tuple of
moved parameters, each `(parameter, scale, shift)`: the circuit runs with `scale * x + shift` in
place of `x`; parameters that are not named stay where they are, so `()` is the unshifted circuit.

With the objective ``"circuits"`` a planner looks for the fewest new points, for one subset of the
parameters after the other (`qshift.rules.fewest_points`).

With ``"shots"`` it gives every partial derivative the least variance for its own number of shots.
If shots are spread in proportion to |c_k|, the standard deviation of sum_k c_k f(x + s_k) is
sum |c_k| over the root of their number, so sum |c_k| is minimised. Its least value is
prod_j Omega_j^(n_j), with Omega_j the largest frequency of parameter j and n_j the order by it.
Products of one-parameter rules (`shift_rule`) reach that, and points that coincide are merged.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from qshift.errors import NoShiftRuleError
from qshift.rules.fewest_points import fewest, wrap
from qshift.rules.frequencies import is_of_one_scale, period
from qshift.rules.shift_rule import shift_rule
from qshift.rules.sources import Index as Index
from qshift.rules.sources import Sources, sources

Axes = tuple[tuple[int, ...], ...]  # for each axis of a derivative, the parameters it runs over
Coordinate = tuple[int, float, float]
Point = tuple[Coordinate, ...]
_Term = tuple[float, float, float]  # coefficient, scale, shift

OBJECTIVES = ("circuits", "shots")
_LARGEST_SPACE = 1000  # dimensions beyond which the linear algebra on a subset takes too long
MOST_REMEMBERED = 256  # requests in a cache; in eager mode they depend on data, so may be many


@dataclass(frozen=True)
class Frequencies:
    """A parameter whose expectation values are trigonometric polynomials.

    Attributes:
        values: The positive frequencies; empty where nothing depends on the parameter.
    """

    values: tuple[float, ...]


@dataclass(frozen=True)
class Recipe:
    """A parameter with a recipe like PennyLane's ``grad_recipe``: f'(x) = sum_i c_i f(a_i x + s_i).

    Attributes:
        terms: Triples (c_i, a_i, s_i). Higher orders follow by applying the recipe again.
        period: Of f, if it has one: equal points are then recognised.
    """

    terms: tuple[tuple[float, float, float], ...]
    period: float | None = None

    def rule(self, order: int) -> list[tuple[float, float, float]]:
        """Returns the recipe of a higher order, as triples (coefficient, scale, shift)."""
        negligible = 1e-14 * sum(abs(c) for c, _, _ in self.terms) ** order
        # Shifts are rounded relative to the largest one, whatever the scale of the parameter.
        unit = 1 / (max(abs(s) for _, _, s in self.terms) or 1.0)
        terms = {(1.0, 0.0): (1.0, 0.0)}  # {(scale, rounded shift): (coefficient, shift)}
        for _ in range(order):
            longer: dict[tuple[float, float], tuple[float, float]] = {}
            for (a, _), (c, s) in terms.items():
                # d/dx f(a x + s) = a f'(a x + s) = a sum_i c_i f(a_i (a x + s) + s_i)
                for ci, ai, si in self.terms if a else ():
                    key = ai * a, wrap(ai * s + si, self.period, unit)
                    longer[key] = longer.get(key, (0.0, 0.0))[0] + a * c * ci, ai * s + si
            terms = longer
        return [(c, a, s) for (a, s), (c, _) in terms.items() if abs(c) > negligible]


Spectrum = Frequencies | Recipe


def multi_indices(parameters: Iterable[int], order: int) -> list[Index]:
    """Returns all partial derivatives of exactly `order`, e.g. (0, 0), (0, 1), (1, 1)."""
    return list(itertools.combinations_with_replacement(sorted(parameters), order))


def indices_along(axes: Iterable[Axes]) -> tuple[Index, ...]:
    """Returns the partial derivatives that are entries of some arrays of derivatives, each once.

    Args:
        axes: The arrays, each given as the parameters that its axes run over.
    """
    found: dict[Index, None] = {}
    for each in axes:
        groups = [multi_indices(parameters, n) for parameters, n in Counter(each).items()]
        for index in itertools.product(*groups):
            found[tuple(sorted(itertools.chain.from_iterable(index)))] = None
    return tuple(found)


class Planner:
    """Plans the circuits of one circuit structure, remembering every plan it has made.

    Plans form a tree. A node is the list of points that a call has already evaluated, an edge is a
    request for partial derivatives, and the node at its end has the points that were missing as
    well. A training step that asks for the same derivatives as the one before follows the same
    edges, so that nothing is planned again.

    Args:
        spectra: One entry per parameter; None where no exact rule is known.
        cones: bool[M, P], True where parameter p can reach measurement m at all.
        objective: ``"circuits"`` or ``"shots"``.
        few: Derivatives by up to so many parameters take the fewest circuits in any case.

    Attributes:
        mask: mask(indices) returns bool[M, len(indices)]: which measurements can depend on all the
            parameters of a partial derivative. The derivative of other measurements is exactly
            zero.
        sources: sources(indices, adjoint) returns the `Sources` of partial derivatives.
    """

    def __init__(
        self, spectra: Sequence[Spectrum | None], cones: np.ndarray, objective: str, few: int = 0
    ) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, got {objective!r}.")
        self.spectra = tuple(spectra)
        self.cones = np.asarray(cones, dtype=bool)
        self.objective, self.few = objective, few
        self.root = PlanNode(self, ())
        self.mask = lru_cache(MOST_REMEMBERED)(self._mask)
        self.sources = lru_cache(MOST_REMEMBERED)(self._sources)

    def _mask(self, indices: tuple[Index, ...]) -> np.ndarray:
        seen = [self.cones[:, list(set(index))].all(axis=1) for index in indices]
        return np.array(seen, dtype=bool).reshape(len(seen), len(self.cones)).T

    def _sources(self, indices: tuple[Index, ...], adjoint: bool) -> Sources:
        return sources(self.mask(indices), indices, adjoint)

    def combination(self, index: Index) -> dict[Point, float]:
        """Returns {point: coefficient} of one partial derivative as a product of rules."""
        return _product([(p, self._terms(p, n)) for p, n in Counter(index).items()])

    def _terms(self, parameter: int, order: int) -> Sequence[_Term]:
        spectrum = self.spectra[parameter]
        if isinstance(spectrum, Recipe):
            return spectrum.rule(order)
        assert spectrum is not None, "parameters without a rule are refused before"
        return _univariate(spectrum.values, order)


class Known(dict[Point, int]):
    """Points in the order of their evaluation, {point: position}.

    Attributes:
        by_support: The points by the parameters that they move.
    """

    def __init__(self, points: Iterable[Point] = ()) -> None:
        super().__init__()
        self.by_support: dict[Index, list[Point]] = {}
        for point in points:
            self.add(point)

    def add(self, point: Point) -> None:
        if point not in self:
            self[point] = len(self)
            support = tuple(parameter for parameter, _, _ in point)
            self.by_support.setdefault(support, []).append(point)

    def within(self, support: Index) -> list[Point]:
        """Returns the points that move no parameter outside `support`."""
        subsets = (itertools.combinations(support, size) for size in range(len(support) + 1))
        return [
            point
            for subset in itertools.chain.from_iterable(subsets)
            for point in self.by_support.get(subset, ())
        ]


@dataclass(frozen=True)
class Step:
    """What to run for one request, and how the derivatives follow from all points so far.

    Attributes:
        new_points: The points that were missing.
        coefficients: Sparse float64[len(indices), K] over all K points, old ones first.
        node: Where the next request starts from.
        again: Positions of old points that are run once more, for more shots.
        shots: The shots of the new points and of these, in units of those that circuits take on the
            average; None where all points take the same.
    """

    new_points: tuple[Point, ...]
    coefficients: sparse.csr_array
    node: PlanNode
    again: Sequence[int] = ()
    shots: np.ndarray | None = None


class PlanNode:
    """A node of the tree of plans: the points that a call has evaluated so far."""

    def __init__(self, planner: Planner, points: tuple[Point, ...]):
        self.planner = planner
        self.points = points
        self.step: Callable[[tuple[Index, ...]], Step] = lru_cache(MOST_REMEMBERED)(self._cheapest)

    def request(self, indices: Sequence[Index]) -> Step:
        """Plans the partial derivatives `indices` given the points that are there already."""
        return self.step(tuple(indices))

    def missing(self, indices: tuple[Index, ...]) -> int:
        """Returns how many points are missing for partial derivatives."""
        return len(self.step(indices).new_points) if indices else 0

    def _cheapest(self, indices: tuple[Index, ...]) -> Step:
        direct = self._plan(indices)
        # The lower orders may be asked for later: a compiled function may want the Hessian first.
        lower = tuple(sorted(_below(indices), key=lambda index: (len(index), index)))
        if not direct.new_points or self.planner.objective == "shots":
            return direct
        if not self.request(lower).new_points:
            return direct

        def cost(step: Step) -> int:
            # The chance that the lower orders are asked for later is taken for one half.
            return 2 * len(step.new_points) + len(step.node.request(lower).new_points)

        return min(self._plan_after(lower, indices), direct, key=cost)

    def _plan_after(self, lower: tuple[Index, ...], indices: tuple[Index, ...]) -> Step:
        """Plans `indices` as if `lower` had been asked for before, and leaves out the points that
        `lower` alone needs."""
        step = self.request(lower).node._plan(indices)
        old, points = len(self.points), step.node.points
        used = np.unique(step.coefficients.indices)
        used = used[used >= old]
        new_points = tuple(points[i] for i in used)
        return Step(
            new_points,
            step.coefficients[:, np.append(np.arange(old), used)],
            PlanNode(self.planner, self.points + new_points),
        )

    def _plan(self, indices: tuple[Index, ...]) -> Step:
        planner, known = self.planner, Known(self.points)
        groups: dict[Index, list[int]] = {}
        for row in np.flatnonzero(planner.mask(indices).any(axis=0)).tolist():
            groups.setdefault(tuple(sorted(set(indices[row]))), []).append(row)
        entries: list[tuple[int, int, float]] = []
        # Small subsets first: a pair's plan builds on what its two parameters have.
        for support in sorted(groups, key=lambda s: (len(s), s)):
            served = groups[support]
            combinations = _plan_subset(planner, support, [indices[r] for r in served], known)
            for row, combination in zip(served, combinations, strict=True):
                for point, coefficient in combination.items():
                    known.add(point)
                    entries.append((row, known[point], coefficient))
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        coefficients = sparse.csr_array(
            (np.array(values, dtype=float), (np.array(rows, int), np.array(columns, int))),
            shape=(len(indices), len(known)),
        )
        new_points = tuple(known)[len(self.points) :]
        node = PlanNode(planner, tuple(known)) if new_points else self
        return Step(new_points, coefficients, node)


def _below(indices: Iterable[Index]) -> set[Index]:
    """Returns the lower-order derivatives that lead up to some, without these themselves."""
    below: set[Index] = set()
    level = set(indices)
    while level:
        level = {a[:i] + a[i + 1 :] for a in level for i in range(len(a))} - below
        below |= level
    return below - set(indices)


def _plan_subset(
    planner: Planner, support: Index, indices: Sequence[Index], known: Known
) -> list[dict[Point, float]]:
    """Plans all requested partial derivatives by exactly the parameters `support`."""
    product = []
    missing: set[Point] = set()
    for index in indices:
        combination = planner.combination(index)
        product.append(combination)
        missing |= {point for point in combination if point not in known}
    spectra = [planner.spectra[p] for p in support]
    frequencies = [s.values for s in spectra if isinstance(s, Frequencies)]
    if (
        (planner.objective == "shots" and len(support) > planner.few)
        or not missing
        or len(frequencies) < len(spectra)
        or not all(is_of_one_scale(values) for values in frequencies)
        or math.prod([2 * len(values) + 1 for values in frequencies]) > _LARGEST_SPACE
    ):
        return product

    # The same few situations come back for every subset: solve each once, in local numbering and
    # in units in which every parameter's largest frequency is 1.
    local = {p: i for i, p in enumerate(support)}
    units = [max(values) for values in frequencies]
    nearby = (
        tuple((local[p], round(s * units[local[p]], 12)) for p, _, s in point)
        for point in known.within(support)
    )
    solved = fewest(
        tuple(tuple(w / max(values) for w in values) for values in frequencies),
        tuple(tuple(local[p] for p in index) for index in indices),
        tuple(sorted(nearby)),
    )
    if solved is None or solved[0] >= len(missing):
        return product
    return [
        {
            tuple((support[i], 1.0, s / units[i]) for i, s in point): c
            * math.prod(units[local[p]] for p in index)
            for point, c in combination
        }
        for index, combination in zip(indices, solved[1], strict=True)
    ]


def _product(rules: Sequence[tuple[int, Sequence[_Term]]]) -> dict[Point, float]:
    """Multiplies one-parameter rules: {point: coefficient}."""
    combination: defaultdict[Point, float] = defaultdict(float)
    for terms in itertools.product(*(terms for _, terms in rules)):
        moved = [(p, a, s) for (p, _), (_, a, s) in zip(rules, terms, strict=True)]
        point = tuple(sorted(c for c in moved if c[1:] != (1.0, 0.0)))
        combination[point] += math.prod(c for c, _, _ in terms)
    return {point: c for point, c in combination.items() if c}


@lru_cache(maxsize=4096)
def _univariate(frequencies: tuple[float, ...], order: int) -> tuple[_Term, ...]:
    """Returns (coefficient, 1, shift) of d^order/dx^order with the least sum |c|."""
    if not frequencies:
        return ((1.0, 1.0, 0.0),) if order == 0 else ()
    try:
        rule = shift_rule(frequencies, order)
    except ValueError as error:
        raise NoShiftRuleError(f"There is no derivative of order {order}: {error}.") from error
    full, unit = period(frequencies), max(frequencies)
    pairs = zip(rule.coefficients, rule.shifts, strict=True)
    return tuple((float(c), 1.0, wrap(s, full, unit)) for c, s in pairs)
