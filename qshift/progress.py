"""Progress bars for long work: silent when short or when nobody is watching."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_PATIENCE = 1.0  # seconds before a bar appears


def progress(console: Console | None = None) -> Progress:
    """Returns a progress display that is silent unless on a terminal or in a notebook."""
    console = console or stderr()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (console.is_terminal or console.is_jupyter),
    )


@functools.cache
def stderr() -> Console:
    """One console for all displays, so that one inside another is drawn below it, not over it."""
    return Console(stderr=True)


def track(items: Iterable, total: int, size: Callable, description: str) -> Iterator:
    """Yields the items; shows a progress bar if they turn out to take long.

    Args:
        items: What to go through.
        total: How much all of them count.
        size: Says how much an item counts.
        description: What is being counted.
    """
    start, done, bar, task = time.monotonic(), 0, None, None
    try:
        for item in items:
            if bar is None and done and time.monotonic() - start > _PATIENCE:
                bar = progress()
                bar.start()
                task = bar.add_task(description, total=total, completed=done)
            yield item
            done += size(item)
            if bar is not None:
                bar.update(task, completed=done)
    finally:
        if bar is not None:
            bar.stop()
