"""Comparing results with what is right. Scripts contain the function below as it stands."""

from __future__ import annotations

import numpy as np


def first_difference(found, expected, tolerance):
    """Says which result is wrong, or None. Results are (name, value) or (name, value, error)."""
    if len(found) != len(expected):
        return f"WRONG {len(found)} results, expected {len(expected)}"
    for (name, value, *error), right in zip(found, expected, strict=True):
        right = np.array(right, float)
        if value is None:
            return f"NONE {name} is None, expected {right.tolist()}"
        numbers = []
        for number in np.asarray(value, object).ravel():
            while hasattr(number, "_value"):  # autograd's second derivatives are boxes
                number = number._value
            numbers.append(float(number))
        value = np.array(numbers).reshape(np.shape(value))
        if value.shape != right.shape:
            return f"SHAPE {name} has shape {value.shape}, expected {right.shape}"
        if np.isnan(value).any():
            return f"NAN {name} is {value.tolist()}, expected {right.tolist()}"
        allowed = tolerance * max(1.0, np.abs(right).max(initial=0.0))
        if (np.abs(value - right) > allowed + (error[0] if error else 0.0)).any():
            return f"WRONG {name} is {value.tolist()}, expected {right.tolist()}"
    return None
