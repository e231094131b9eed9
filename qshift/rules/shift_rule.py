"""Shift rules: derivatives of trigonometric polynomials as sums of shifted evaluations.

An expectation value as a function of one gate parameter is a trigonometric polynomial
f(x) = a_0 + sum_w a_w cos(w x) + b_w sin(w x) whose R frequencies w are the positive differences
of the generator's eigenvalues. Its 2R+1 degrees of freedom fix every derivative, so

    f^(n)(x) = sum_k c_k f(x + s_k)   for all x, exactly.

No such rule has sum|c| below W^n, W the largest frequency, since sin(W x) itself has derivatives
that large (Bernstein's inequality). Equality asks for shifts where its n-th derivative's worst case
is attained: s = (2k-1) pi/(2W) for odd n, s = k pi/W for even n, the grids of M. Riesz's
interpolation formula (Jahresber. DMV 23, 354, 1914). All points of the grid together hold a rule
for every spectrum, and a linear programme finds one that needs few of them: R pairs +-s, and for
even orders f(x) besides. For equidistant spectra the first R pairs are the whole grid, and the
rules those of Wierichs, Izaac, Wang, Lin (Quantum 6, 677, 2022).
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.linalg import qr
from scipy.optimize import linprog

from qshift.rules.frequencies import (
    EQUAL,
    checked_frequencies,
    checked_numbers,
    multiple,
    period,
)

_LARGEST_NORM = 1e8  # of sum|c| / W^n on given shifts: beyond, rounding eats the result
_LONGEST_WINDOW = 256  # points of the grid tried; x + s still has 12 digits there

_Spectrum = tuple[float, ...]  # ascending
_Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class ShiftRule:
    """The rule f^(order)(x) = sum_k coefficients[k] * f(x + shifts[k]).

    Attributes:
        coefficients: float64[K].
        shifts: float64[K], in radians, within (-T/2, T/2] when the spectrum has a period T.
        order: order of the derivative; 0 is the value itself.
        frequencies: the spectrum for which the rule is exact, ascending, in 1/radian.

    Example:
        >>> rule = qshift.shift_rule(frequencies=(1, 2), order=1)
        >>> round(float(rule(np.sin, 0.0)), 12)  # the derivative of sin at 0
        1.0
        >>> round(rule.norm, 12)
        2.0
    """

    coefficients: np.ndarray
    shifts: np.ndarray
    order: int
    frequencies: tuple[float, ...]

    @property
    def norm(self) -> float:
        """`sum_k |c_k|`, the largest factor by which the rule amplifies an error in f."""
        return float(np.abs(self.coefficients).sum())

    def __call__(self, f: Callable[[Any], Any], x: Any) -> Any:
        """Evaluates sum_k c_k f(x + s_k), for any x and f(x) that know + and *."""
        terms = zip(self.coefficients.tolist(), self.shifts.tolist(), strict=True)
        return sum(c * f(x + s) for c, s in terms)

    def __repr__(self) -> str:
        def signed(value: float) -> str:
            return f" {'-' if value < 0 else '+'} {abs(value):.6g}"

        pairs = zip(self.coefficients, self.shifts, strict=True)
        terms = "".join(f"{signed(c)} f(x{signed(s) if s else ''})" for c, s in pairs)
        return f"ShiftRule(order={self.order}, frequencies={self.frequencies}:{terms})"


def shift_rule(
    frequencies: Sequence[float], order: int = 1, shifts: Sequence[float] | None = None
) -> ShiftRule:
    """Builds the rule for a derivative of any order of a function with any spectrum.

    Without ``shifts`` the rule has the least sum|c| there is, W^order with W the largest frequency,
    in 2R evaluations for odd and 2R+1 for even orders (2R if equidistant). All odd orders share the
    shifts of ``odd_grid`` and all even orders a second grid, always if the spectrum is equidistant,
    else as long as that reaches W^order; if not, the order gets shifts of its own.

    Without a short period the shifts may reach 256 pi/W (4R pi/W if R > 64). Frequencies so close
    that W^order takes longer ones (two closer than 1e-5 W, four within 0.01 W) still get an exact
    rule, but sum|c| exceeds W^order, in clusters of up to six by at most 0.5 % times the order.

    Args:
        frequencies: the R positive frequencies, distinct, in any order, in 1/radian.
        order: order of the derivative, 0 for the value.
        shifts: in radians; the rule uses no others, and of these the ones that make sum|c| least.
            R shifts for R frequencies stand for the pairs +-s, and for even orders 0 as well: with
            one frequency, f'(x) = w (f(x+s) - f(x-s)) / (2 sin(w s)) and
            f''(x) = w^2 (f(x+s) - 2 f(x) + f(x-s)) / (2 - 2 cos(w s)); order n+2 is -w^2 times
            order n. Shifts beyond half a period are brought back by whole periods.

    Returns:
        The rule, exact on every function of the basis to rounding: to 1e-12 of its derivative and
        4e-15 sum|c|, or 4e-16 sum|c| times the longest phase W s. As sum|c| is at least W^order,
        derivatives of low frequencies have no more digits than that leaves them.

    Raises:
        ValueError: if an argument is invalid, or if no exact rule exists for the shifts given.

    Example:
        >>> qshift.shift_rule(frequencies=(1,), order=1)
        ShiftRule(order=1, frequencies=(1.0,): + 0.5 f(x + 1.5708) - 0.5 f(x - 1.5708))
        >>> qshift.shift_rule((1,), shifts=[np.pi / 4]).shifts  # bounds on shifts: give the shifts
        array([ 0.78539816, -0.78539816])
    """
    spectrum = tuple(sorted(checked_frequencies(frequencies)))
    given = None if shifts is None else tuple(checked_numbers("shifts", shifts).tolist())
    return _rule(spectrum, _checked_order(order, spectrum), given)


def odd_grid(frequencies: Sequence[float]) -> np.ndarray:
    """The 2R shifts s_1, -s_1, s_2, ... whose evaluations fix the derivatives of all odd orders.

    For w, 2w, ..., Rw they are the odd multiples of pi/(2Rw) within half a period, for other
    spectra those of the best rule of order 3.

    Args:
        frequencies: the R positive frequencies, distinct, in 1/radian.

    Returns:
        float64[2R], in radians, ascending in absolute value.
    """
    half = _half_grid(tuple(sorted(checked_frequencies(frequencies))), 1)
    return np.stack([half, -half], axis=1).ravel()


def design(frequencies: Sequence[float], shifts: Sequence[float] | np.ndarray) -> np.ndarray:
    """What evaluations at shifts see: the basis (1, cos(w s)..., sin(w s)...) at each shift.

    A rule with coefficients c is exact if ``c @ design(...)`` equals ``target(...)``.

    Args:
        frequencies: R positive frequencies; the columns keep their order.
        shifts: K shifts, in radians.

    Returns:
        float64[K, 2R+1].
    """
    phases = np.outer(checked_numbers("shifts", shifts), checked_frequencies(frequencies))
    return np.hstack([np.ones((len(phases), 1)), np.cos(phases), np.sin(phases)])


def target(frequencies: Sequence[float], order: int) -> np.ndarray:
    """The derivative of the given order at 0 of each function of the basis in ``design``.

    Args:
        frequencies: R positive frequencies; the entries keep their order.
        order: order of the derivative, 0 for the value.

    Returns:
        float64[2R+1].
    """
    spectrum = checked_frequencies(frequencies)
    powers = np.power(spectrum, _checked_order(order, spectrum))
    # The derivatives of cos at 0 run through 1, 0, -1, 0, those of sin through 0, 1, 0, -1.
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[order % 4]
    return np.concatenate([[float(order == 0)], cosine * powers, sine * powers])


def _checked_order(order: int, frequencies: tuple[float, ...]) -> int:
    try:
        number = operator.index(order)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"order must be an integer, 0 or greater, got {order!r}")
    if abs(number * math.log2(max(frequencies))) > 1000:
        raise ValueError(
            f"order {number} with frequencies {frequencies} is beyond float64: derivatives are as "
            f"large as {max(frequencies):g}**{number}; rescale the parameter"
        )
    return number


@lru_cache(maxsize=4096)
def _rule(spectrum: _Spectrum, order: int, given: tuple[float, ...] | None) -> ShiftRule:
    if given is not None:
        coefficients, shifts = _rule_on(spectrum, order, given)
    elif order == 0:
        coefficients, shifts = np.ones(1), np.zeros(1)
    else:
        coefficients, shifts = _best_rule(spectrum, order)
    used = coefficients != 0
    coefficients, shifts = coefficients[used] * spectrum[-1] ** order, shifts[used]
    coefficients.flags.writeable = shifts.flags.writeable = False  # the cache shares them
    return ShiftRule(coefficients, shifts, order, spectrum)


# From here on, coefficients and weights are in units of W^order.


def _rule_on(spectrum: _Spectrum, order: int, given: tuple[float, ...]) -> _Pair:
    """Coefficients and shifts of the rule of least sum|c| on shifts the user gives."""
    size, shifts = len(spectrum), np.array(given)
    if len(given) == size:
        shifts = np.stack([shifts, -shifts], axis=1).ravel()
        shifts = shifts if order % 2 else np.append(0.0, shifts)
    if (full := period(spectrum)) is not None:
        shifts = shifts - full * np.ceil(shifts / full - 0.5 - EQUAL)
    matrix = design(spectrum, shifts).T
    values = target(spectrum, order) / spectrum[-1] ** order
    largest = np.abs(shifts).max() * spectrum[-1]
    coefficients = _least_norm(matrix, values, np.ones(len(shifts)), largest)
    if coefficients is None or np.abs(coefficients).sum() > _LARGEST_NORM:
        raise ValueError(
            f"shifts {given} give no exact rule of order {order} for frequencies {spectrum}: they "
            f"fix {np.linalg.matrix_rank(matrix, 1e-8)} of the {2 * size + 1} degrees of freedom, "
            "but not this derivative, or only by dividing by almost zero. Either give "
            f"{2 * size + 1} shifts in general position, which serve every order, or {size} that "
            "stand for pairs +-s, with sin(w s), for even orders 1 - cos(w s), well away from "
            "zero; or leave shifts out for the best rule"
        )
    return coefficients, shifts


def _best_rule(spectrum: _Spectrum, order: int) -> _Pair:
    """Coefficients and shifts of a rule of least sum|c|, in pairs s, -s."""
    shifts = _half_grid(spectrum, order % 2)
    weights, optimal = _half_rule(spectrum, order, shifts)
    if weights is None or not optimal:
        weights, shifts = _search(spectrum, order)
    paired = shifts != 0
    if (full := period(spectrum)) is not None:
        # At half a period f(x + s) and f(x - s) are the same, unless a frequency is a little off.
        phases = np.multiply(spectrum, full / 2)
        same = np.abs(np.sin(phases)).max() <= _rounding(phases[-1])
        paired &= (shifts != full / 2) | (not same)
    plus = np.where(paired, weights / 2, weights)
    minus = np.where(paired, -plus if order % 2 else plus, 0.0)
    return np.stack([plus, minus], axis=1).ravel(), np.stack([shifts, -shifts], axis=1).ravel()


@lru_cache(maxsize=1024)
def _half_grid(spectrum: _Spectrum, parity: int) -> np.ndarray:
    """Shifts s >= 0, one per degree of freedom, that fix all orders of one parity.

    The best for order 3 or 4: they are more often best for order 1 or 2 too than the reverse.
    """
    weights, shifts = _search(spectrum, 4 - parity)
    columns, _ = _half_system(spectrum, parity, shifts)
    # Should that rule need fewer, the pivots go on to the shifts most independent of its own.
    _, pivots = qr(columns * np.where(weights, 1e6, 1.0), mode="r", pivoting=True)
    return np.sort(shifts[pivots[: len(columns)]])


def _search(spectrum: _Spectrum, order: int) -> _Pair:
    """Weights and shifts of the first window of Riesz's grid that holds an optimal rule.

    The last window has shifts between those of the grid: what comes nearest if no rule is optimal.
    """
    half_period = multiple(spectrum) or math.inf
    longest = min(half_period, max(_LONGEST_WINDOW, 4 * len(spectrum)))
    sizes = dict.fromkeys(min(len(spectrum) << doublings, longest) for doublings in range(10))
    windows = [np.arange(1, n + 1) - 0.5 if order % 2 else np.arange(n + 1.0) for n in sizes]
    if longest < half_period:
        windows.append(np.arange(8 * longest + 1) / 8)
    for window in windows:
        shifts = math.pi * window / spectrum[-1]
        weights, optimal = _half_rule(spectrum, order, shifts)
        if optimal:
            break
    if weights is None:
        raise ValueError(
            f"found no exact rule of order {order} for frequencies {spectrum}: several are too "
            "close to be told apart in float64; merge them, or give shifts"
        )
    return weights, shifts


def _half_system(spectrum: _Spectrum, order: int, shifts: np.ndarray) -> _Pair:
    """Equations for the weights of (f(s) - f(-s)) / 2, odd, or (f(s) + f(-s)) / 2, even orders."""
    rows = slice(len(spectrum) + 1, None) if order % 2 else slice(len(spectrum) + 1)
    return design(spectrum, shifts).T[rows], target(spectrum, order)[rows] / spectrum[-1] ** order


def _half_rule(
    spectrum: _Spectrum, order: int, shifts: np.ndarray
) -> tuple[np.ndarray | None, bool]:
    """The weights, if there are any, and whether sum|weights| is the optimum, 1."""
    # Riesz's grid holds many optimal rules: prefer short shifts, and 0, which is one evaluation.
    cost = 1 - 1e-4 / (1 + shifts * spectrum[-1])
    largest = shifts.max() * spectrum[-1]
    weights = _least_norm(*_half_system(spectrum, order, shifts), cost, largest)
    return weights, weights is not None and np.abs(weights).sum() <= 1 + 1e-9


def _rounding(largest: float) -> float:
    """Returns how far sines and cosines of phases up to `largest` may be off."""
    return 4e-15 + 4e-16 * largest


def _least_norm(
    matrix: np.ndarray, values: np.ndarray, cost: np.ndarray, largest: float
) -> np.ndarray | None:
    """Solves matrix @ x = values for the x of least sum(cost * |x|); None if there is no solution.

    Takes float64[E, K], float64[E] (at most 1 in size), float64[K] and the largest phase that the
    matrix is made of; returns float64[K], with no more nonzeros than the matrix has rank.
    """
    rounding = _rounding(largest)  # what is small next to this, values cannot tell either

    def is_solution(x: np.ndarray) -> bool:
        allowed = EQUAL * np.abs(values) + rounding * np.abs(x).sum()
        return bool((np.abs(matrix @ x - values) <= allowed).all())

    x, _, rank, _ = np.linalg.lstsq(matrix, values, rcond=1e-12)
    if not is_solution(x):
        return None
    scale = np.abs(x).max()
    if rank < len(x):
        # x = p - q with p, q >= 0. Orthonormal equations keep the programme well scaled, and the
        # dual simplex method ends in a vertex, which has the fewest nonzeros.
        rows = np.linalg.svd(matrix, full_matrices=False)[2][:rank]
        cost, signed = np.tile(cost, 2), np.hstack([rows, -rows])
        solution = linprog(cost, A_eq=signed, b_eq=rows @ x / scale, method="highs-ds")
        if solution.status == 0:
            x = scale * (solution.x[: len(x)] - solution.x[len(x) :])
    # The programme is accurate to about 1e-7: solve again on the points that it selected.
    for smallest in (1e-9 * scale, 0.0):
        kept = np.abs(x) > smallest
        polished = np.where(kept, x, 0.0)
        error = values - matrix @ polished
        polished[kept] += np.linalg.lstsq(matrix[:, kept], error, rcond=None)[0]
        if is_solution(polished):
            return polished
    return None
