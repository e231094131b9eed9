"""Gates that share an angle, as one parameter with the joint spectrum.

Several gates turn by the same angle x. As a function of x, an expectation value is a trigonometric
polynomial whose frequencies are sums of the gates' own: k gates of frequency one give 1, ..., k,
whether they commute or not. With x as one parameter the gradient takes 2k points, as many as with
one parameter per gate, and all higher orders together take one more. With one parameter per gate
the second order alone takes 1 + 3 k (k - 1) / 2.

Fewer sums occur where light cones are small, as each term of an observable depends only on the
gates that reach it.
If there are many different sums (angles 2x, 4x, 6x, ...), a gradient takes more points than with
one parameter per gate, but higher orders may still take fewer.

With shots, a joint rule has coefficients of very different sizes, which is as good as one parameter
per gate where each point has shots of its own, and worse where all have equally many: the gradient
by ten gates' angle then has 6.7 times the variance. So gates are left apart for gradients there.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from qshift.circuits.circuit import Circuit, Parametric, terms
from qshift.forks import Lock
from qshift.rules.frequencies import distinct, merged
from qshift.rules.planner import Frequencies
from qshift.rules.shift_rule import shift_rule
from qshift.rules.shifting import Shifter

_MOST_SUMS = 200  # frequencies of one joint parameter
_EQUAL = 1e-13  # relative to the largest; frequencies that are closer count as one
_joining = Lock()
_WIDEST_RANGE = 1e3  # the largest frequency of gates that are joined over the smallest


class Joint(Parametric):
    """A circuit as a function of fewer parameters, some of which move several gates.

    It has as many columns as the circuit. The first of the gates that share an angle, their leader,
    has the derivatives by the angle; derivatives by the other gates' columns are zero.

    Attributes:
        circuit: The circuit.
        leaders: The slots that are parameters here; every other slot follows one of them.
        follows: (leader, follower, factor) of columns: a derivative by the first is one by the
            second, times the factor, more.
        shared: A line about each parameter that others follow, for `Plan`.
    """

    def __init__(
        self, circuit: Circuit, groups: Sequence[tuple[dict[int, float], Frequencies]]
    ) -> None:
        self.circuit = circuit
        self.num_values, self.is_finite = circuit.num_values, circuit.is_finite
        matrix = np.eye(circuit.num_parameters, dtype=bool)
        self._moves, slots, follows = {}, list(circuit.slots), []
        for group, spectrum in groups:
            leader, *others = group
            slots[leader] = replace(slots[leader], spectrum=spectrum)
            start = slots[leader].start
            for k in others:
                slots[k] = replace(slots[k], spectrum=Frequencies(()))
                follower = slots[k].start
                matrix[follower, [follower, start]] = False, True
                follows.append((start, follower, group[k]))
            self._moves[start] = [(slots[k].start, factor) for k, factor in group.items()]
        self.slots, self.follows = tuple(slots), tuple(follows)
        followers = {k for group, _ in groups for k in list(group)[1:]}
        self.leaders = tuple(k for k in range(len(slots)) if k not in followers)
        self.cones = circuit.cones @ matrix
        self.shared = tuple(
            f"{circuit.slots[next(iter(group))].gate} with {len(group) - 1} more: "
            f"{len(spectrum.values)} frequencies"
            for group, spectrum in groups
        )

    @cached_property
    def shifted(self) -> Shifter:
        return Shifter(self.circuit.spectra, self.called, self._moves)

    def gather(self, gradients: np.ndarray) -> np.ndarray:
        """Returns gradients by the joint parameters, given gradients float64[..., P] by those of
        the circuit."""
        result = gradients.copy()
        for leader, follower, factor in self.follows:
            result[..., leader] += result[..., follower] * factor
            result[..., follower] = 0.0
        return result


class Spread:
    """An executor for `Joint`s, which runs their circuits.

    Args:
        executor: Runs these circuits.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def __call__(self, joint: Joint, points: np.ndarray, call: Any = None) -> np.ndarray:
        return self._executor(joint.circuit, points, call)

    def estimates(self, joint: Joint, points: np.ndarray, call: Any, jointly: bool) -> Any:
        return self._executor.estimates(joint.circuit, points, call, jointly)

    def gradients(self, joint: Joint, points: np.ndarray) -> np.ndarray:
        return joint.gather(self._executor.gradients(joint.circuit, points))

    def pulled_back(self, joint: Joint, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        return joint.gather(self._executor.pulled_back(joint.circuit, points, cotangents))

    def small(self, joint: Joint, count: int) -> Gathered | None:
        small = self._executor.small(joint.circuit, count)
        return small and Gathered(joint, small)


class Gathered(NamedTuple):
    """What runs the circuit of a `Joint` at few points with little around it.

    Attributes:
        joint: The joint.
        of: What runs its circuit; see `qshift.executors.executor.SmallResults`.
    """

    joint: Joint
    of: Any

    def values(self, points: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.of.values(points)
        return found

    def gradients(self, points: np.ndarray) -> np.ndarray:
        return self.joint.gather(self.of.gradients(points))

    def pulled_back(self, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        return self.joint.gather(self.of.pulled_back(points, cotangents))

    def written(self, *asked_for: Any) -> Any:
        return self.of.written(*asked_for, self.joint.follows)


def join(
    circuit: Circuit, angles: Sequence[tuple[Hashable, float]], order: int, steady: bool = False
) -> Circuit | Joint:
    """Joins gates with the same angle, if that takes fewer points than one parameter per gate.

    Args:
        circuit: The circuit.
        angles: For each slot the name of an angle, and the factor that this angle is multiplied by.
        order: The highest order of derivatives that is known to be needed, by shifted circuits.
        steady: Whether gates are joined for a gradient only if that leaves no larger variance with
            equal shots.

    Returns:
        A `Joint`, or the circuit itself where there is nothing to join.
    """
    names: dict[Hashable, list[int]] = {}
    for k, (name, _) in enumerate(angles):
        names.setdefault(name, []).append(k)
    groups = [
        {k: angles[k][1] / angles[slots[0]][1] for k in slots}
        for slots in names.values()
        if len(slots) > 1 and all(_is_usual(angles[k][1] / angles[slots[0]][1]) for k in slots)
    ]
    if not groups:
        return circuit
    order, steady = min(order, 2), steady and order == 1
    key = tuple(tuple(group.items()) for group in groups), order, steady
    with _joining:
        if key not in circuit.joined:
            circuit.joined[key] = _joined(circuit, groups, order, steady)
        return circuit.joined[key] or circuit


def _is_usual(ratio: float) -> bool:
    return 1e-100 < abs(ratio) < 1e100


def _joined(
    circuit: Circuit, groups: Sequence[dict[int, float]], order: int, steady: bool
) -> Joint | None:
    observed = set().union(*map(terms, circuit.measurements))
    cones = [circuit.reached(wires) for wires in observed]
    joined = []
    near = (_near(circuit, group) for group in groups)
    for group in itertools.chain.from_iterable(near):
        slots = {k: circuit.slots[k] for k in group}
        spectra = {
            k: abs(group[k]) * np.array(slot.spectrum.values)
            for k, slot in slots.items()
            if isinstance(slot.spectrum, Frequencies)
        }
        seen = [tuple(k for k, slot in slots.items() if cone[slot.start]) for cone in cones]
        frequencies = _sums([[spectra[k] for k in some] for some in set(seen)])
        apart = [spectra[k] for k in set().union(*seen)]
        if frequencies is None or not _is_cheaper(len(frequencies), [*map(len, apart)], order):
            continue
        if not steady or _variance([frequencies]) <= (1 + 1e-9) * _variance(apart):
            joined.append((group, Frequencies(frequencies)))
    return Joint(circuit, joined) if joined else None


def _near(circuit: Circuit, group: dict[int, float]) -> list[dict[int, float]]:
    """Splits gates that share an angle into groups with frequencies of similar size.

    With one rule for all gates, values that depend on low frequencies only would lose digits.
    """
    given = {k: circuit.slots[k].spectrum for k in group}
    spectra = {k: each for k, each in given.items() if isinstance(each, Frequencies)}
    if len(spectra) < len(given):
        return []
    sizes = {
        k: (abs(group[k]) * min(spectrum.values), abs(group[k]) * max(spectrum.values))
        for k, spectrum in spectra.items()
        if spectrum.values
    }
    parts: list[list[int]] = []
    for k in sorted(sizes, key=lambda k: sizes[k]):
        if not parts or sizes[k][1] > _WIDEST_RANGE * sizes[parts[-1][0]][0]:
            parts.append([])
        parts[-1].append(k)
    parts = [sorted(part) for part in parts if len(part) > 1]
    return [{k: group[k] / group[part[0]] for k in part} for part in parts]


def _is_cheaper(joint: int, sizes: Sequence[int], order: int) -> bool:
    """Whether all derivatives up to an order take fewer points with one parameter of `joint`
    frequencies than with several parameters of `sizes` frequencies; for order 1, not more."""
    if order < 2:
        return len(sizes) > 1 and joint <= sum(sizes)
    pairs = sum(2 * (a + b) - 1 for a, b in itertools.combinations(sizes, 2))
    return 2 * joint < 2 * sum(sizes) + pairs


def _variance(spectra: Iterable[Any]) -> float:
    """Returns the cost of equal shots for the sum of the first derivatives by parameters of some
    spectra: the number of points times the sum of the squares of all coefficients."""
    rules = [shift_rule(frequencies).coefficients for frequencies in spectra if len(frequencies)]
    return sum(map(len, rules)) * sum(float(np.sum(np.square(each))) for each in rules)


def _sums(products: Sequence[Sequence[np.ndarray]]) -> tuple[float, ...] | None:
    """Returns all frequencies of some products of trigonometric polynomials, each product given by
    the frequencies of its factors; None if they are too many."""
    largest = max((sum(w.max(initial=0.0) for w in each) for each in products), default=0.0)
    if not largest:
        return None
    found = np.zeros(0)
    for each in products:
        sums = np.zeros(1)
        for frequencies in each:
            steps = np.concatenate([[0.0], frequencies, -frequencies])
            sums = distinct(np.add.outer(sums, steps).ravel(), _EQUAL * largest)
            if len(sums) > 2 * _MOST_SUMS + 1:
                return None
        found = np.append(found, sums[sums > _EQUAL * largest])
    together = merged(found)
    return together if len(together) <= _MOST_SUMS else None
