"""From partial derivatives to circuits: which shifted points to run, and how to combine them.

A partial derivative is a multi-index, written as a sorted tuple of parameters: `()` is the value,
`(0,)` the first derivative by parameter 0, `(0, 0, 3)` a third derivative. A point is a tuple of
moved parameters, each `(parameter, scale, shift)`: the circuit runs with `scale * x + shift` in
place of `x`; parameters that are not named stay where they are, so `()` is the unshifted circuit.

With the objective ``"circuits"`` a planner looks for the fewest new points. It uses that the
restriction of an expectation value to a few parameters is a trigonometric polynomial of known
frequencies: evaluating at a point and differentiating are both linear functionals on that
finite-dimensional space, and a derivative is had as soon as it lies in the span of the points.
Equal shifts (t, ..., t) on a subset of k one-frequency parameters then need k + 1 points where the
product of first-derivative rules needs 2^k.

With ``"shots"`` every partial derivative has the least variance for its own number of shots: what
is minimised is sum |c_k| over its points, the standard deviation per root-shot of
sum_k c_k f(x + s_k) when shots are spread in proportion to |c_k|. The least is
prod_j Omega_j^(n_j), with Omega_j the largest frequency of parameter j and n_j its order; products
of one-parameter rules (`shift_rule`) reach it, and points that coincide are merged.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from qshift.rule import design, is_equidistant, odd_grid, period, shift_rule, target

Index = tuple[int, ...]
Coordinate = tuple[int, float, float]
Point = tuple[Coordinate, ...]

OBJECTIVES = ("circuits", "shots")
_LARGEST_SPACE = 1000  # dimensions up to which the linear algebra on a subset is worth its time
_TOLERANCE = 1e-9
_MOST_REMEMBERED = 256  # in eager mode requests depend on data, so their number has no bound


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
        terms = {(1.0, 0.0): 1.0}
        for _ in range(order):
            longer = Counter()
            for (a, s), c in terms.items():
                # d/dx f(a x + s) = a f'(a x + s) = a sum_i c_i f(a_i (a x + s) + s_i)
                for ci, ai, si in self.terms if a else ():
                    longer[(ai * a, _wrap(ai * s + si, self.period))] += a * c * ci
            terms = {key: c for key, c in longer.items() if abs(c) > 1e-14}
        return [(c, a, s) for (a, s), c in terms.items()]


Spectrum = Frequencies | Recipe


def multi_indices(parameters: Iterable[int], order: int) -> list[Index]:
    """Returns all partial derivatives of exactly `order`, e.g. (0, 0), (0, 1), (1, 1)."""
    return list(itertools.combinations_with_replacement(sorted(parameters), order))


class Planner:
    """Plans the circuits of one circuit structure, remembering every plan it has made.

    Plans form a tree: a node is the list of points a call has already evaluated, an edge a request
    for partial derivatives, and the node below it has the points that were missing appended. So a
    training step that asks for the same derivatives as the last one plans nothing.

    Args:
        spectra: One entry per parameter; None where no exact rule is known.
        cones: bool[M, P], True where parameter p can reach measurement m at all.
        objective: ``"circuits"`` or ``"shots"``.
    """

    def __init__(self, spectra: Sequence[Spectrum | None], cones: np.ndarray, objective: str):
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, got {objective!r}.")
        self.spectra = tuple(spectra)
        self.cones = np.asarray(cones, dtype=bool)
        self.objective = objective
        self.root = Node(self, ())
        self._masks: dict[tuple[Index, ...], np.ndarray] = {}

    def mask(self, indices: tuple[Index, ...]) -> np.ndarray:
        """Returns bool[M, len(indices)]: which measurements can depend on all the parameters of a
        partial derivative at once. The others' is exactly zero."""
        mask = self._masks.get(indices)
        if mask is None:
            if len(self._masks) >= _MOST_REMEMBERED:
                self._masks.clear()
            rows = [self.cones[:, list(set(index))].all(axis=1) for index in indices]
            mask = self._masks[indices] = np.array(rows).T
        return mask

    def combination(self, index: Index, known: Known) -> dict[Point, float]:
        """Returns {point: coefficient} of one partial derivative as a product of rules."""
        orders = Counter(index)
        if self.objective == "shots":
            return _product([(p, self._terms(p, n)) for p, n in orders.items()])
        # Even orders have two rules: on the grid of the odd orders, or on their own.
        options = [
            _product([(p, self._terms(p, n, even)) for p, n in orders.items()])
            for even in (False, True)
        ]
        return min(options, key=lambda option: sum(point not in known for point in option))

    def _terms(self, parameter, order, even_grid=True):
        spectrum = self.spectra[parameter]
        if isinstance(spectrum, Recipe):
            return spectrum.rule(order)
        return _univariate(spectrum.values, order, even_grid)


class Known(dict):
    """Points in the order of their evaluation, {point: position}, also found by their support."""

    def __init__(self, points: Iterable[Point] = ()):
        super().__init__()
        self.by_support: dict[Index, list[Point]] = {}
        for point in points:
            self.add(point)

    def add(self, point: Point):
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
    """One request served: what to run, and how to read the derivatives off all points so far.

    Attributes:
        new_points: The points that were missing.
        coefficients: Sparse float64[len(indices), K] over all K points, old ones first.
        node: Where the next request starts from.
    """

    new_points: tuple[Point, ...]
    coefficients: sparse.csr_array
    node: Node


class Node:
    """The points a call has evaluated so far."""

    def __init__(self, planner: Planner, points: tuple[Point, ...]):
        self.planner = planner
        self.points = points
        self._children: dict[tuple[Index, ...], Step] = {}

    def request(self, indices: Sequence[Index]) -> Step:
        """Plans the partial derivatives `indices` given the points that are there already."""
        key = tuple(indices)
        step = self._children.get(key)
        if step is None:
            if len(self._children) >= _MOST_REMEMBERED:
                self._children.clear()
            step = self._children[key] = self._cheapest(key)
        return step

    def _cheapest(self, indices):
        direct = self._plan(indices)
        # A compiled function may ask for the Hessian before the gradient. Plan it as if the lower
        # orders had come first, so that what is run in all does not depend on the order.
        lower = tuple(sorted(_below(indices), key=lambda index: (len(index), index)))
        if not direct.new_points or not lower or self.planner.objective == "shots":
            return direct
        virtual = self.request(lower).node
        if virtual is self:
            return direct
        step = virtual._plan(indices)
        old = len(self.points)
        used = np.unique(step.coefficients.indices)
        points = step.node.points
        new_points = tuple(points[i] for i in used if i >= old)
        if len(new_points) > len(direct.new_points):
            return direct
        kept = np.append(np.arange(old), used[used >= old])
        node = Node(self.planner, self.points + new_points)
        return Step(new_points, step.coefficients[:, kept], node)

    def _plan(self, indices):
        planner, known = self.planner, Known(self.points)
        groups: dict[Index, list[int]] = {}
        for row in np.flatnonzero(planner.mask(indices).any(axis=0)):
            groups.setdefault(tuple(sorted(set(indices[row]))), []).append(row)
        entries = []
        # Small subsets first: a pair's plan builds on what its two parameters have.
        for support in sorted(groups, key=lambda s: (len(s), s)):
            rows = groups[support]
            combinations = _plan_subset(planner, support, [indices[r] for r in rows], known)
            for row, combination in zip(rows, combinations, strict=True):
                for point, coefficient in combination.items():
                    known.add(point)
                    entries.append((row, known[point], coefficient))
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        coefficients = sparse.csr_array(
            (np.array(values, dtype=float), (np.array(rows, int), np.array(columns, int))),
            shape=(len(indices), len(known)),
        )
        new_points = tuple(known)[len(self.points) :]
        node = Node(planner, tuple(known)) if new_points else self
        return Step(new_points, coefficients, node)


def _below(indices) -> set[Index]:
    """Returns the lower-order derivatives that lead up to some, without these themselves."""
    below: set[Index] = set()
    level = set(indices)
    while level:
        level = {a[:i] + a[i + 1 :] for a in level for i in range(len(a))} - below
        below |= level
    return below - set(indices)


def _plan_subset(planner, support, indices, known) -> list[dict[Point, float]]:
    """Plans all requested partial derivatives by exactly the parameters `support`."""
    product = []
    missing = set()
    for index in indices:
        combination = planner.combination(index, known)
        product.append(combination)
        missing |= {point for point in combination if point not in known}
    spectra = [planner.spectra[p] for p in support]
    if (
        planner.objective == "shots"
        or not missing
        or any(isinstance(s, Recipe) for s in spectra)
        or math.prod(2 * len(s.values) + 1 for s in spectra) > _LARGEST_SPACE
    ):
        return product

    # The same few situations come back for every subset: solve each once, in local numbering.
    local = {p: i for i, p in enumerate(support)}
    solved = _fewest(
        tuple(s.values for s in spectra),
        tuple(tuple(local[p] for p in index) for index in indices),
        tuple(sorted(tuple((local[p], s) for p, _, s in q) for q in known.within(support))),
    )
    if solved is None or solved[0] >= len(missing):
        return product
    return [
        {tuple((support[i], 1.0, s) for i, s in point): c for point, c in combination}
        for combination in solved[1]
    ]


def _product(rules) -> dict[Point, float]:
    """Multiplies one-parameter rules: {point: coefficient}."""
    combination = Counter()
    for terms in itertools.product(*(terms for _, terms in rules)):
        moved = [(p, a, s) for (p, _), (_, a, s) in zip(rules, terms, strict=True)]
        point = tuple(sorted(c for c in moved if c[1:] != (1.0, 0.0)))
        combination[point] += math.prod(c for c, _, _ in terms)
    return {point: c for point, c in combination.items() if c}


@lru_cache(maxsize=4096)
def _univariate(frequencies, order, even_grid) -> tuple[tuple[float, float, float], ...]:
    """Returns (coefficient, 1, shift) of d^order/dx^order with the least sum |c|, or, for even
    orders on request, on the points that the odd orders use."""
    if not frequencies:
        return ((1.0, 1.0, 0.0),) if order == 0 else ()
    shifts = None
    if order % 2 == 0 and not even_grid:
        shifts = (0.0, *odd_grid(frequencies))
    rule = shift_rule(frequencies, order, shifts=shifts)
    full = period(frequencies)
    pairs = zip(rule.coefficients, rule.shifts, strict=True)
    return tuple((float(c), 1.0, _wrap(s, full)) for c, s in pairs if abs(c) > 1e-14)


def _wrap(shift: float, full: float | None) -> float:
    """Brings a shift into (-T/2, T/2] and rounds it, so that equal points have equal keys."""
    if full is not None:
        shift = shift - full * math.ceil(shift / full - 0.5 - 1e-12)
    return round(float(shift), 12) + 0.0


@lru_cache(maxsize=4096)
def _fewest(frequencies, indices, known):
    """Finds few new points for partial derivatives by all of a few parameters.

    Args:
        frequencies: One tuple of frequencies per parameter.
        indices: Multi-indices, each naming every parameter 0..k-1 at least once.
        known: Points already there, as tuples of (parameter, shift).

    Returns:
        (number of new points, [((point, coefficient), ...) per index]), or None where the known
        points on smaller subsets do not suffice for equal shifts to work.
    """
    targets = np.array([_functional(frequencies, Counter(index)) for index in indices])
    span = _Span(targets)
    chosen = [point for point in known if span.add(_evaluation(frequencies, point))]
    old = len(chosen)
    for point in _candidates(frequencies):
        if span.complete():
            break
        if point not in chosen and span.add(_evaluation(frequencies, point)):
            chosen.append(point)
    if not span.complete():
        return None

    rows = np.array([_evaluation(frequencies, point) for point in chosen])
    for i in reversed(range(old, len(chosen))):  # the greedy choice may have taken too many
        fewer = np.delete(rows, i, axis=0)
        if _solve(fewer, targets) is not None:
            rows = fewer
            del chosen[i]
    coefficients = _solve(rows, targets)
    if coefficients is None:
        return None
    combinations = [
        tuple((point, float(c)) for point, c in zip(chosen, row, strict=True) if abs(c) > 1e-12)
        for row in coefficients
    ]
    return len(chosen) - old, combinations


def _candidates(frequencies):
    """Yields points that move all parameters: first equal shifts, then a full grid."""
    if all(is_equidistant(f) for f in frequencies):
        # (t, ..., t), each in units of its base frequency, is a polynomial of degree sum R in t.
        # Vanishing on all smaller subsets, it has 2 sum R + 1 - k degrees of freedom left.
        points = 2 * sum(len(f) for f in frequencies) + 1 - len(frequencies)
        for t in sorted((_centred(m, points + 1) for m in range(1, points + 1)), key=abs):
            yield tuple((i, _wrap(t / f[0], period(f))) for i, f in enumerate(frequencies))
    grids = [[_wrap(s, period(f)) for s in odd_grid(f)] for f in frequencies]
    for shifts in itertools.product(*grids):
        yield tuple(enumerate(shifts))


def _centred(m, parts):
    """Returns 2 pi m / parts, brought into (-pi, pi]."""
    return 2 * math.pi * (m - parts if 2 * m > parts else m) / parts


def _evaluation(frequencies, point) -> np.ndarray:
    """Returns what an evaluation at `point` sees of each basis function (a tensor product)."""
    shifts = dict(point)
    factors = [design(f, [shifts.get(i, 0.0)])[0] for i, f in enumerate(frequencies)]
    return _tensor(factors)


def _functional(frequencies, orders) -> np.ndarray:
    return _tensor([target(f, orders[i]) for i, f in enumerate(frequencies)])


def _tensor(factors):
    result = np.ones(1)
    for factor in factors:
        result = np.multiply.outer(result, factor).ravel()
    return result


def _solve(rows, targets):
    """Returns the smallest coefficients with coefficients @ rows == targets, or None."""
    coefficients = np.linalg.lstsq(rows.T, targets.T, rcond=1e-12)[0].T
    error = np.abs(coefficients @ rows - targets).max()
    return coefficients if error <= _TOLERANCE * max(1.0, np.abs(targets).max()) else None


class _Span:
    """The span of the evaluations taken so far, and what of the targets lies outside it."""

    def __init__(self, targets):
        self._scale = max(1.0, np.abs(targets).max())
        self._residual = targets.astype(float).copy()
        self._basis = []

    def add(self, row) -> bool:
        """Adds an evaluation; False if it says nothing new."""
        size = np.linalg.norm(row)
        row = row / size
        for _ in range(2):  # twice is enough for orthogonality to machine accuracy
            for b in self._basis:
                row = row - (b @ row) * b
        norm = np.linalg.norm(row)
        if norm < 1e-7:
            return False
        row = row / norm
        self._basis.append(row)
        self._residual -= np.outer(self._residual @ row, row)
        return True

    def complete(self) -> bool:
        return bool(np.abs(self._residual).max() <= _TOLERANCE * self._scale)
