"""What is said, once, where something slower takes the place of what usually runs."""

from __future__ import annotations

import warnings

from qshift.errors import SlowerWarning
from qshift.forks import Lock

_said: set[str] = set()
_lock = Lock()


def warn_slower(what: str, reason: Exception | str) -> None:
    """Warns that something runs in a slower way, once for each reason in a process.

    Results are the same; they take longer.

    Args:
        what: What does so, and how it runs instead, as a sentence without its full stop.
        reason: Why.
    """
    named = isinstance(reason, Exception) and f"{type(reason).__name__}: {reason}"
    message = f"{what}, which is slower: {named or reason}"
    with _lock:
        if message in _said:
            return
        _said.add(message)
    warnings.warn(message, SlowerWarning, stacklevel=3)
