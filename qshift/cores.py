"""How many cores this process may use."""

from __future__ import annotations

import os


def available() -> int:
    """Returns the number of cores, less those that `taskset` or a scheduler keeps from it."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
