"""Checks of what users pass in: whole and real numbers, argument positions, misspelt names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number of any library, but not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether a value is a real number of any library, but not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def argument_positions(given: Any, count: int, name: str) -> tuple[int, ...]:
    """Returns argument positions, given as one or several numbers, counted from 0.

    Args:
        given: A position or several; negative ones count from the end.
        count: How many arguments there are.
        name: What messages call `given`.

    Raises:
        ValueError: If `given` is neither, or names an argument that does not exist.
    """
    positions = (given,) if is_integer(given) else given
    if not isinstance(positions, Iterable) or not all(map(is_integer, positions)):
        raise ValueError(f"{name}= must be the position of an argument or several, got {given!r}.")
    found = tuple(map(int, positions))
    for i in found:
        if not -count <= i < count:
            raise ValueError(f"{name}= names argument {i}, but there are {count} arguments.")
    return tuple([i % count for i in found])


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns " (did you mean ...?)" with the most similar name, or "" if none is similar."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def said(error: Exception) -> str:
    """Returns an error's class and message, without the notes that TensorFlow puts around it."""
    reason = re.sub(r"\{\{.*?\}\} |\s*\[Op:.*", "", str(error), flags=re.DOTALL)
    return f"{type(error).__name__}: {reason}".rstrip(" .")


def shown(value: Any, length: int = 100) -> str:
    """Returns a value as messages show it: in one line, cut off after `length` characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."
