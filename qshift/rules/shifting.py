"""Points of a plan as numbers: the angles of a call, some of them moved.

A shift that is added to a large angle loses digits: 1e15 + pi/2 is off by 0.07. Whole periods are
therefore taken off large angles first, which changes no value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qshift.errors import UnsupportedError
from qshift.rules.frequencies import base_frequency
from qshift.rules.planner import Frequencies, Point, Recipe, Spectrum

# Angles are measured in radians of the largest frequency: angle * frequency.
FAR = 1e3  # whole periods are taken off larger angles
_MOST_TURNS = 64  # turns left in an angle, at most, when whole periods are taken off
_MOST_PLANS = 8  # the plans whose moves a shifter remembers
_MOST_LOST = 1e-9  # a shift that loses more in rounding is refused


def largest_frequency(spectrum: Spectrum | None) -> float:
    """Returns a bound on how fast values change with a parameter, about its largest frequency; 0
    if that is not known."""
    if isinstance(spectrum, Recipe):
        return sum(abs(c) for c, _, _ in spectrum.terms)
    return max(spectrum.values, default=0.0) if spectrum is not None else 0.0


def exact_base(spectrum: Spectrum | None) -> float | None:
    """Returns the frequency that all frequencies of a spectrum are multiples of, if angle times
    frequency has no rounding error, or no more than devices make; None otherwise."""
    if isinstance(spectrum, Recipe):
        return None if spectrum.period is None else 2 * np.pi / spectrum.period
    if not isinstance(spectrum, Frequencies) or not spectrum.values:
        return None
    base = base_frequency(spectrum.values)
    if base is None:
        return None
    is_short = base * 1024 == round(base * 1024)
    # Products with a power of two are exact; those with other factors, such as 3, are not.
    return base / _odd(base) if is_short or len(spectrum.values) == 1 else None


def reduced(angles: np.ndarray, spectrum: Spectrum | None, name: str | None) -> np.ndarray:
    """Takes whole periods off large angles, if their spectrum has a period.

    Args:
        angles: float64 of any shape.
        spectrum: How values depend on the angles.
        name: What messages call the angles; None if they will not be moved.

    Raises:
        UnsupportedError: If the spectrum has no period, and an angle is so large that shifting it
            would lose more digits than values lose by rounding.
    """
    largest = largest_frequency(spectrum)
    with np.errstate(over="ignore"):
        far = np.abs(angles) * largest > FAR
    if not far.any():
        return angles
    base, large = exact_base(spectrum), angles[far]
    if base is None:
        finite = large[np.isfinite(large)]
        worst = finite[np.argmax(np.abs(finite))] if finite.size else 0.0
        if name and np.spacing(np.abs(worst)) / 2 * largest > _MOST_LOST:
            raise UnsupportedError(
                f"{name} is {worst:.6g}, but no period is known of it, and shifts of about "
                f"{1 / largest:.3g} lose digits when they are added to that. Keep it below "
                f"{_MOST_LOST / largest / np.spacing(0.5):.3g}, or use gates whose frequencies are "
                "multiples of one of them."
            )
        return angles
    with np.errstate(invalid="ignore", over="ignore"):
        phases = large * base
        large = np.arctan2(np.sin(phases), np.cos(phases)) / base
    result = angles.copy()
    result[far] = large
    return result


def _odd(number: float) -> float:
    """Returns the odd factor of a number that is an odd integer times a power of two; 1 where that
    factor is too large."""
    numerator, _ = number.as_integer_ratio()
    odd = numerator // (numerator & -numerator)
    return float(odd) if odd < _MOST_TURNS else 1.0


class Moved(NamedTuple):
    """What the points of a plan move.

    Attributes:
        which: The columns that any of them moves.
        rows, columns: The point and the column of each move.
        scales, shifts: What it multiplies the column by, and what it adds, float64[moves, 1].
    """

    which: set[int]
    rows: np.ndarray
    columns: np.ndarray
    scales: np.ndarray
    shifts: np.ndarray


class Shifter:
    """Moves the parameters of a structure to the points of a plan.

    Args:
        spectra: The spectrum of each column.
        name: What messages call a column.
        moves: For parameters that move several columns, (column, factor) of each.

    Attributes:
        reach: Up to this size no parameter is too large to be shifted as it is.
    """

    def __init__(
        self,
        spectra: Sequence[Spectrum | None],
        name: Callable[[int], str],
        moves: Mapping[int, Sequence[tuple[int, float]]] | None = None,
    ) -> None:
        self._spectra, self._name, self._moves = tuple(spectra), name, dict(moves or {})
        self._largest = np.array([largest_frequency(spectrum) for spectrum in spectra])
        self.reach = FAR / self._largest.max() if self._largest.any() else np.inf
        self._known: dict[tuple[Point, ...], Moved] = {}

    def __call__(self, parameters: np.ndarray, points: Sequence[Point]) -> np.ndarray:
        """Returns float64[K * N, P]: for each of K points, the parameters float64[N, P] moved to
        it.

        Raises:
            UnsupportedError: If a parameter is too large to be moved.
        """
        which, rows, columns, scales, shifts = self.moved(tuple(points))
        moved = np.repeat(self.near(parameters, which)[None], len(points), axis=0)
        if len(rows):
            moved[rows, :, columns] = moved[rows, :, columns] * scales + shifts
        return moved.reshape(len(points) * len(parameters), parameters.shape[1])

    def moved(self, points: tuple[Point, ...]) -> Moved:
        """Returns what the points of a plan move."""
        if (found := self._known.get(points)) is not None:
            return found
        moves = [
            (k, column, a, factor * s)
            for k, point in enumerate(points)
            for p, a, s in point
            for column, factor in self._moves.get(p, ((p, 1.0),))
        ]
        rows, columns, scales, shifts = np.array(moves, dtype=float).reshape(-1, 4).T
        which = set(columns.astype(int).tolist())
        found = Moved(
            which, rows.astype(int), columns.astype(int), scales[:, None], shifts[:, None]
        )
        if len(self._known) >= _MOST_PLANS:
            self._known.clear()
        self._known[points] = found
        return found

    def near(self, parameters: np.ndarray, moved: Collection[int] = ()) -> np.ndarray:
        """Returns parameters float64[N, P], with whole periods taken off large ones.

        Devices compute sines of large angles to all digits, but not exponentials of matrices, and
        transpilers add constants to angles.

        Args:
            parameters: The parameters.
            moved: Columns that will be moved.

        Raises:
            UnsupportedError: If a column that will be moved is too large for it.
        """
        with np.errstate(over="ignore"):
            far = (np.abs(parameters) * self._largest > FAR).any(axis=0)
        if not far.any():
            return parameters
        result = parameters.copy()
        for column in np.flatnonzero(far).tolist():
            name = self._name(column) if column in moved else None
            result[:, column] = reduced(parameters[:, column], self._spectra[column], name)
        return result
