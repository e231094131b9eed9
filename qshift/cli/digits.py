"""Numbers with the digits that mean something, for the tables of the command line."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np

_EXACT = 10  # significant digits of a number without an error


def certain(shots: int) -> int:
    """Returns how many decimals of a number of usual size so many shots tell, and one more."""
    return 1 + math.ceil(math.log10(shots) / 2) if shots else _EXACT


def rounded(value: float, error: float | None, digits: int = _EXACT) -> str:
    """Returns a value down to the second digit of its standard error.

    Args:
        value: The value.
        error: The standard error; None if it is not known, and 0 if there is none.
        digits: The significant digits of a value whose error is not known.
    """
    if error is None:
        return f"{value:.{digits}g}"
    if not (math.isfinite(value) and 10.0**-_EXACT * abs(value) < error < math.inf):
        return f"{value:.{_EXACT}g}"
    last = Decimal(1).scaleb(math.floor(math.log10(error)) - 1)
    return str(Decimal(value).quantize(last) + 0 * last)  # a sum has no negative zero


def rounded_array(values: np.ndarray, errors: np.ndarray | None, digits: int = _EXACT) -> str:
    """Returns values, each as `rounded` does."""
    if errors is None:
        formatter: Any = {"float": lambda value: rounded(value, None, digits)}
        return np.array2string(values, formatter=formatter)
    # NumPy asks for the text of those numbers only that it shows, of a long array few.
    pairs = np.empty(np.shape(values), complex)
    pairs.real, pairs.imag = values, errors
    formatter = {"complexfloat": lambda pair: rounded(pair.real, pair.imag)}
    return np.array2string(pairs, formatter=formatter)
