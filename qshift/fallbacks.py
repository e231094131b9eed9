"""What is said, once, where something slower takes the place of what usually runs."""

from __future__ import annotations

import warnings
from functools import lru_cache

from qshift.errors import SlowerWarning


def warn_slower(what: str, reason: Exception | str) -> None:
    """Warns that something runs in a slower way, once for each reason in a process.

    Results are the same; they take longer.

    Args:
        what: What does so, and how it runs instead, as a sentence without its full stop.
        reason: Why.
    """
    named = isinstance(reason, Exception) and f"{type(reason).__name__}: {reason}"
    _warn_once(f"{what}, which is slower: {named or reason}")


@lru_cache(maxsize=256)
def _warn_once(message: str) -> None:
    warnings.warn(message, SlowerWarning, stacklevel=4)
