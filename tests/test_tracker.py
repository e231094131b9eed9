"""Trackers count what is recorded while they are open."""

import sys
import threading

import pytest

from qshift import Tracker

NOTHING = dict.fromkeys(("circuits", "batches", "jobs", "shots", "transpilations"), 0)


def test_a_tracker_starts_at_zero_and_counts_while_open():
    Tracker.record(circuits=100)
    with Tracker() as tracker:
        assert tracker.totals == NOTHING
        Tracker.record(circuits=3, batches=1, shots=300)
        Tracker.record(circuits=2, jobs=1, transpilations=1)
    Tracker.record(circuits=100)
    assert tracker.totals == {
        "circuits": 5,
        "batches": 1,
        "jobs": 1,
        "shots": 300,
        "transpilations": 1,
    }


def test_nested_trackers_all_count():
    with Tracker() as outer:
        Tracker.record(circuits=1)
        with Tracker() as inner:
            Tracker.record(circuits=2)
        Tracker.record(circuits=4)
    assert (outer.totals["circuits"], inner.totals["circuits"]) == (7, 2)


def test_trackers_may_close_in_any_order():
    first, second = Tracker(), Tracker()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    Tracker.record(circuits=1)
    second.__exit__(None, None, None)
    Tracker.record(circuits=10)
    assert (first.totals["circuits"], second.totals["circuits"]) == (0, 1)


def test_reset():
    with Tracker() as tracker:
        Tracker.record(circuits=1)
        tracker.reset()
        assert tracker.totals == NOTHING
        Tracker.record(circuits=2)
    assert tracker.totals["circuits"] == 2


def test_opened_again_it_counts_on():
    tracker = Tracker()
    for _ in range(2):
        with tracker:
            Tracker.record(batches=1)
    assert tracker.totals["batches"] == 2


def test_opened_twice_it_counts_once():
    with Tracker() as tracker, tracker:
        Tracker.record(circuits=1)
    assert tracker.totals["circuits"] == 1


def test_an_exception_closes_it():
    tracker = Tracker()
    with pytest.raises(ZeroDivisionError), tracker:
        Tracker.record(circuits=1)
        raise ZeroDivisionError
    Tracker.record(circuits=1)
    assert tracker.totals["circuits"] == 1


def test_totals_of_trackers_are_their_own():
    with Tracker() as first:
        Tracker.record(circuits=1)
    assert Tracker().totals == NOTHING
    assert first.totals["circuits"] == 1


def test_repr_names_what_was_counted():
    with Tracker() as tracker:
        assert repr(tracker) == "Tracker()"
        Tracker.record(circuits=12, batches=2)
    assert repr(tracker) == "Tracker(circuits=12, batches=2)"


def test_counts_of_threads_are_exact():
    def work():
        for _ in range(2000):
            Tracker.record(circuits=1, shots=10)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Tracker() as tracker:
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert (tracker.totals["circuits"], tracker.totals["shots"]) == (16000, 160000)


def test_a_notebook_shows_a_table():
    with Tracker() as tracker:
        Tracker.record(circuits=1200, batches=2)
    page = tracker._repr_html_()
    for name in NOTHING:
        assert f"<th>{name}</th>" in page
    assert "<td>1,200</td><td>2</td><td>0</td>" in page
