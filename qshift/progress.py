"""Progress of long work: bars where somebody is watching, and a line now and then elsewhere."""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from qshift.thread_flags import ThreadFlag

_PATIENCE = 1.0  # seconds before a bar appears
_REFRESH = 0.1  # seconds between drawings in a notebook
_BETWEEN = 60.0  # seconds between lines in a log


def progress(
    console: Console | None = None,
    columns: Sequence[ProgressColumn] | None = None,
    wanted: bool = True,
) -> Progress:
    """Returns a progress display, for terminals and notebooks; elsewhere it is a line each minute.

    Args:
        console: Where it is drawn; standard error if not given.
        columns: What it shows; by default description, bar, counts and times.
        wanted: If False, nothing is shown anywhere.
    """
    console = console or stderr()
    columns = columns or (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    if not wanted:
        return Progress(*columns, console=console, disable=True)
    if console.is_jupyter:
        return _InNotebook(*columns, console=console, auto_refresh=False)
    if not console.is_terminal:
        return _InLog(*columns, console=console, disable=True)
    return Progress(*columns, console=console, transient=True)


class _InLog(Progress):
    """A progress display that is a line now and then, for logs, where nothing can be drawn over."""

    def __init__(self, *columns: Any, **kwargs: Any) -> None:
        super().__init__(*columns, **kwargs)
        self._begun = self._told = time.monotonic()

    def update(self, task_id: Any, **kwargs: Any) -> None:
        super().update(task_id, **kwargs)
        now = time.monotonic()
        if now - self._told < _BETWEEN:
            return
        self._told = now
        (task,) = [each for each in self.tasks if each.id == task_id]
        counted = "" if task.total is None else f" {task.completed:.0f}/{task.total:.0f}"
        line = f"qshift: {task.description}{counted}, {now - self._begun:.0f} s"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _InNotebook(Progress):
    """A progress display that is drawn into an output of the notebook cell that is running.

    In notebooks, rich's own display needs ipywidgets and leaves empty outputs behind.
    """

    _output = None
    _drawn = 0.0

    def start(self) -> None:
        from IPython.display import display

        if self._output is None:
            self._output = display(self._html(), display_id=True)

    def stop(self) -> None:
        if self._output is not None:
            self._output.update({"text/html": ""}, raw=True)
            self._output = None

    def refresh(self) -> None:
        if self._output is not None and time.monotonic() - self._drawn > _REFRESH:
            self._drawn = time.monotonic()
            self._output.update(self._html())

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        self.refresh()

    def _html(self) -> Any:
        from IPython.display import HTML

        page = Console(
            file=io.StringIO(), width=100, record=True, force_terminal=True, force_jupyter=False
        )
        page.print(self.get_renderable())
        return HTML(page.export_html(inline_styles=True, code_format="<pre>{code}</pre>"))


@functools.cache
def stderr() -> Console:
    """Returns one console for all displays, so that a display that is opened inside another one is
    drawn below it and not over it."""
    return Console(stderr=True)


_hidden = ThreadFlag()
# hidden() is a context in which this thread shows no progress, as another process shows it.
hidden = _hidden.set


def track(items: Iterable, total: int, size: Callable, description: str) -> Iterator:
    """Yields the items, and shows a progress bar if that takes longer than a second.

    Args:
        items: The items to go through.
        total: The sum of size(item) over all items.
        size: size(item) is by how much an item moves the bar.
        description: The text beside the bar.
    """
    if _hidden.is_set:
        yield from items
        return
    start, done, bar, task = time.monotonic(), 0, None, None
    try:
        for item in items:
            if bar is None and done and time.monotonic() - start > _PATIENCE:
                bar = progress()
                bar.start()
                task = bar.add_task(description, total=total, completed=done)
            yield item
            done += size(item)
            if bar is not None and task is not None:
                bar.update(task, completed=done)
    finally:
        if bar is not None:
            bar.stop()
