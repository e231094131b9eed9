"""Progress bars: only for long work, only where somebody watches."""

import io

import pytest
from rich.console import Console

from qshift import progress
from qshift.progress import track


def one(_):
    return 1


class Clock:
    """A clock that moves when told to."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def bars(monkeypatch):
    """Watches the bars that `track` makes, on a terminal that is a string."""
    made = []
    make = progress.progress

    def recording():
        made.append(make(Console(file=io.StringIO(), force_terminal=True)))
        return made[-1]

    monkeypatch.setattr(progress, "progress", recording)
    return made


def terminal(bar):
    return bar.console.file.getvalue()


def test_short_work_shows_nothing(bars, clock):
    assert list(track("abc", 3, one, "circuits")) == ["a", "b", "c"]
    assert bars == []


def test_work_of_one_piece_shows_nothing(bars, clock):
    for _ in track("a", 100, lambda _: 100, "circuits"):
        clock.now += 3600
    assert bars == []


def test_long_work_shows_a_bar_from_where_it_is(bars, clock):
    seen = []
    for item in track("abcd", 100, {"a": 10, "b": 20, "c": 30, "d": 40}.get, "circuits"):
        clock.now += 0.6
        seen.append((item, bars[0].tasks[0].completed if bars else None))
    assert seen == [("a", None), ("b", None), ("c", 30), ("d", 60)]
    (bar,) = bars
    (task,) = bar.tasks
    assert (task.description, task.total, task.completed) == ("circuits", 100, 100)
    assert not bar.live.is_started
    assert "circuits" in terminal(bar)


def test_the_bar_goes_when_the_work_fails(bars, clock):
    with pytest.raises(ZeroDivisionError):
        for item in track("abc", 3, one, "circuits"):
            clock.now += 2
            if item == "b":
                raise ZeroDivisionError
    # The loop that failed may still hold the generator.
    (bar,) = bars
    assert not bar.live.is_started


def test_the_bar_goes_when_the_loop_is_left(bars, clock):
    items = track("abc", 3, one, "circuits")
    next(items)
    clock.now += 2
    next(items)
    assert bars[0].live.is_started
    items.close()
    assert not bars[0].live.is_started


def test_nothing_to_do(bars, clock):
    assert list(track([], 0, one, "circuits")) == []


@pytest.mark.parametrize("watched", [True, False])
def test_silent_unless_on_a_terminal(watched):
    console = Console(file=io.StringIO(), force_terminal=watched, force_jupyter=False)
    with progress.progress(console) as bar:
        bar.add_task("circuits", total=10)
    assert bar.disable is not watched
    assert bool(console.file.getvalue()) is watched


def test_in_a_notebook_it_is_drawn_into_one_output_which_it_empties(monkeypatch, clock):
    drawn = []

    class Output:
        def update(self, content, raw=False):
            drawn.append(content["text/html"] if raw else content.data)

    def display(content, display_id):
        assert display_id
        drawn.append(content.data)
        return Output()

    monkeypatch.setattr("IPython.display.display", display)
    with progress.progress(Console(force_jupyter=True)) as bar:
        task = bar.add_task("circuits", total=10)
        for completed in (5, 6, 7):  # too fast to be drawn each
            clock.now += 0.06
            bar.update(task, completed=completed)
        assert "circuits" in drawn[-1] and "6/10" in drawn[-1]
    assert len(drawn) == 3 and drawn[-1] == ""


def test_it_writes_to_standard_error():
    """So that standard output stays data."""
    assert progress.progress().console.stderr


def test_a_redirected_run_stays_silent(capfd, clock):
    for _ in track("abc", 3, one, "circuits"):
        clock.now += 10
    assert capfd.readouterr() == ("", "")


def test_a_log_gets_a_line_each_minute(clock):
    log = Console(file=io.StringIO(), force_terminal=False, force_jupyter=False)
    with progress.progress(log) as bar:
        task = bar.add_task("adam [1]", total=10)
        for completed in range(1, 10):
            clock.now += 25
            bar.update(task, completed=completed)
        clock.now += 60
        bar.update(task, description="queued, position 3", total=None)
    lines = ["adam [1] 3/10, 75 s", "adam [1] 6/10, 150 s", "adam [1] 9/10, 225 s"]
    assert log.file.getvalue().splitlines()[:3] == [f"qshift: {line}" for line in lines]
    assert log.file.getvalue().splitlines()[3].startswith("qshift: queued, position 3")


@pytest.mark.parametrize("kind", [{"force_terminal": True}, {"force_jupyter": True}, {}])
def test_what_nobody_wants_is_shown_nowhere(kind, clock):
    console = Console(file=io.StringIO(), **kind)
    with progress.progress(console, wanted=False) as bar:
        task = bar.add_task("circuits", total=10)
        clock.now += 100
        bar.update(task, completed=5)
    assert console.file.getvalue() == ""
