"""Spectra as numbers: which frequencies are the same one, and what period all have in common.

The frequencies come from eigenvalues, so they carry rounding errors. Two that agree to 1e-12 of
the largest are one frequency. A spectrum has a period if its frequencies are multiples of one base
frequency, which is decided by writing their ratios as fractions of small integers.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

EQUAL = 1e-12  # relative; numbers this close are one number
_DISTINCT = 1e-12  # relative to the largest frequency; closer ones cannot be told apart
_NARROWEST = 1e-3  # the least gap of frequencies of one scale, relative to the largest of them
_LARGEST_DENOMINATOR = 10_000  # of frequency ratios that count as commensurable


def merged(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """Returns frequencies, ascending and each once.

    Args:
        values: Frequencies or their negatives, zeros among them, with rounding errors. Two that
            agree to 1e-12 of the largest are the same frequency, and one below that is zero.
    """
    values = np.sort(np.abs(np.asarray(values, dtype=np.float64).ravel()))
    if not values.size or not values[-1]:
        return ()
    # A chain of small steps is one frequency, however long it gets.
    first = np.diff(values, prepend=0.0) > _DISTINCT * values[-1]
    return tuple(values[first].tolist())


def distinct(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Returns values in ascending order; a value closer than `tolerance` to the one before it is
    left out."""
    values = np.sort(values)
    return values[np.diff(values, prepend=-np.inf) > tolerance]


def period(frequencies: Sequence[float]) -> float | None:
    """Smallest common period of all frequencies, in radians, or None if they have none.

    Args:
        frequencies: positive and distinct, in 1/radian. They have a period if they are multiples of
            one base frequency to 12 digits, and their ratios fractions of small integers
            (denominators up to 10000).
    """
    spectrum = checked_frequencies(frequencies)
    count = multiple(spectrum)
    return None if count is None else 2 * math.pi * count / max(spectrum)


def base_frequency(frequencies: Sequence[float]) -> float | None:
    """Largest frequency that all frequencies are multiples of, or None; see `period`."""
    spectrum = checked_frequencies(frequencies)
    count = multiple(spectrum)
    return None if count is None else max(spectrum) / count


def is_equidistant(frequencies: Sequence[float]) -> bool:
    """Whether the frequencies are w, 2w, ..., Rw, in any order."""
    spectrum = checked_frequencies(frequencies)
    return multiple(spectrum) == len(spectrum)


@lru_cache(maxsize=1024)
def is_of_one_scale(frequencies: tuple[float, ...]) -> bool:
    """Whether frequencies and their gaps are of about the same size. The linear algebra of several
    parameters would take much smaller ones for zero."""
    gaps = np.diff([0.0, *sorted(frequencies)])
    return bool(gaps.min(initial=np.inf) >= _NARROWEST * max(frequencies, default=0.0))


def checked_numbers(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns values as float64[N]; raises a ValueError that names them if they are no sequence of
    one or more finite numbers."""
    try:
        numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be a sequence of one or more finite numbers, got {values!r}")
    return numbers


def checked_frequencies(frequencies: Sequence[float]) -> tuple[float, ...]:
    """Returns frequencies as floats, in the order given.

    Raises:
        ValueError: If one is not positive and finite, two cannot be told apart, or there are none.
    """
    numbers = checked_numbers("frequencies", frequencies)
    if numbers.min() <= 0:
        raise ValueError(
            f"frequencies must be positive, got {frequencies!r}; leave out zero and the signs"
        )
    if (np.diff(np.sort(numbers)) <= _DISTINCT * numbers.max()).any():
        raise ValueError(
            f"frequencies must be distinct, got {frequencies!r}; "
            f"give those that agree to {_DISTINCT:g} of the largest once"
        )
    return tuple(numbers.tolist())


@lru_cache(maxsize=1024)
def multiple(frequencies: tuple[float, ...]) -> int | None:
    """Returns the largest frequency in units of the greatest common divisor of all; None if they
    have no such divisor."""
    ratios = [w / min(frequencies) for w in frequencies]
    if math.isinf(max(ratios)):
        return None
    simple = [Fraction(ratio).limit_denominator(_LARGEST_DENOMINATOR) for ratio in ratios]
    if any(abs(r - s) > EQUAL * r for r, s in zip(ratios, simple, strict=True)):
        return None
    unit = math.lcm(*(ratio.denominator for ratio in simple))
    return int(max(simple) * unit) if unit <= _LARGEST_DENOMINATOR else None
