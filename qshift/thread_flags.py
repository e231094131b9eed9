"""Flags of one thread, which hold for what it does within a `with` block."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ThreadFlag(threading.local):
    """A flag that each thread sets for itself.

    Attributes:
        is_set: Whether this thread is within a block of `set`.
    """

    is_set = False

    @contextmanager
    def set(self) -> Iterator[None]:
        """A context in which the flag is set for this thread."""
        before, self.is_set = self.is_set, True
        try:
            yield
        finally:
            self.is_set = before
