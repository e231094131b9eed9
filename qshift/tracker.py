"""Exact counts of what was executed."""

from __future__ import annotations

from qshift.forks import Lock
from qshift.listeners import Listener, listening

_recording = Lock()


class Tracker(Listener):
    """Counts what qshift executes, in all threads, while the tracker is open.

    Attributes:
        totals: ``{"circuits", "batches", "jobs", "shots", "transpilations"}``. A circuit is one
            evaluation of a quantum circuit with given angles; a batch is a number of circuits that
            were sent to the device together. Shots are the samples that are drawn, in all bases
            that a circuit is measured in. Jobs and transpilations are counted on devices that have
            them.

    Example:
        >>> with qshift.Tracker() as tracker:
        ...     value = energy(tf.constant(0.4))
        >>> tracker.totals["circuits"]
        1
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Sets all totals to zero."""
        self.totals = dict.fromkeys(("circuits", "batches", "jobs", "shots", "transpilations"), 0)

    def __repr__(self) -> str:
        return f"Tracker({', '.join(f'{name}={n}' for name, n in self.totals.items() if n)})"

    def _repr_html_(self) -> str:
        """Returns the totals as a table, for notebooks."""
        head = "".join(f"<th>{name}</th>" for name in self.totals)
        body = "".join(f"<td>{n:,}</td>" for n in self.totals.values())
        return f"<table><tr>{head}</tr><tr>{body}</tr></table>"

    @staticmethod
    def record(**counts: int) -> None:
        """Adds counts to all open trackers."""
        with _recording:
            for tracker in listening(Tracker):
                for name, count in counts.items():
                    tracker.totals[name] += count
