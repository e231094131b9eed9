"""Warnings where a slower way replaces the usual one, each given once in a process."""

from __future__ import annotations

import warnings
from functools import lru_cache

from qshift.errors import SlowerWarning


def warn_slower(what: str, reason: Exception | str) -> None:
    """Warns that something runs in a slower way with the same results, once for each reason.

    Args:
        what: A sentence, without its full stop, that says what runs slower, and how it runs.
        reason: Why the usual way cannot be taken.
    """
    named = isinstance(reason, Exception) and f"{type(reason).__name__}: {reason}"
    _warn_once(f"{what}, which is slower: {named or reason}")


@lru_cache(maxsize=256)
def _warn_once(message: str) -> None:
    warnings.warn(message, SlowerWarning, stacklevel=4)
