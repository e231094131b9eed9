"""What users hand in: numbers that are none, and names that are nearly right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def is_integer(value: Any) -> bool:
    """Whether something is a whole number of any library, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether something is a real number of any library, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns " (did you mean ...?)" for the nearest of some names; nothing if none is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shown(value: Any, length: int = 100) -> str:
    """Returns a value as messages show it: in one line, cut where it is too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."
