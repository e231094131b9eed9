"""Which evaluations are kept for compiled functions, and for how long."""

import sys
import threading
import time
import weakref

import numpy as np
import pennylane as qml
import tensorflow as tf
from analytic import Circuit, Executor, orders, run_at_once

import qshift
from qshift.autodiff.calls import EvaluatedCalls, Evaluations
from qshift.autodiff.evaluation import Evaluation


class Kept:
    """Stands for an evaluation of a certain size."""

    looked_at = 0

    def __init__(self, parameters, size=0):
        self.parameters = parameters
        self.size = size

    @property
    def nbytes(self):
        Kept.looked_at += 1
        return self.size


def at(value):
    return np.full((1, 2), float(value))


def test_a_ticket_finds_its_evaluation():
    evaluations = Evaluations()
    first = evaluations.get(1, at(0.1), Kept)
    assert first.parameters is not None and (first.parameters == 0.1).all()
    assert evaluations.get(1, at(0.1), Kept) is first
    assert evaluations.get(2, at(0.1), Kept) is not first  # another call: fresh samples
    assert evaluations.get(1, at(0.2), Kept) is not first  # another turn of a loop
    assert evaluations.get(1, at(0.1), Kept) is first


def test_the_least_recently_used_evaluations_are_dropped():
    evaluations = Evaluations(most=3)
    kept = [evaluations.get(i, at(0), Kept) for i in range(3)]
    assert evaluations.get(0, at(0), Kept) is kept[0]  # now 1 is the oldest
    evaluations.get(3, at(0), Kept)
    assert evaluations.get(0, at(0), Kept) is kept[0]
    assert evaluations.get(2, at(0), Kept) is kept[2]
    assert evaluations.get(1, at(0), Kept) is not kept[1]


def test_all_evaluations_together_have_a_bound():
    evaluations = Evaluations(most_bytes=100)
    kept = []
    for i in range(10):
        kept.append(evaluations.get(i, at(0), Kept))
        kept[-1].size = 40  # it grows as its points are run
    # Three of 40 exceed 100, so a new one leaves no more than two of the others.
    assert [evaluations.get(i, at(0), lambda _: None) for i in (9, 8)] == [kept[9], kept[8]]
    assert all(evaluations.get(i, at(0), Kept) is not kept[i] for i in range(7))


def test_evaluations_that_grow_later_count_too():
    evaluations = Evaluations(most_bytes=100)
    first = evaluations.get(0, at(0), Kept)
    first.size = 10
    evaluations.get(1, at(0), Kept)
    assert evaluations.get(0, at(0), Kept) is first
    first.size = 1000
    evaluations.get(2, at(0), Kept)
    assert evaluations.get(0, at(0), Kept) is not first


def test_a_single_evaluation_may_exceed_the_bound():
    evaluations = Evaluations(most_bytes=100)
    large = evaluations.get(0, at(0), Kept)
    large.size = 1000
    assert evaluations.get(0, at(0), Kept) is large


def test_keeping_many_evaluations_does_not_slow_down_new_ones():
    """A compiled training step asks for a new one at every step, for ever."""
    evaluations = Evaluations()
    for i in range(300):
        evaluations.get(i, at(0), Kept)
    Kept.looked_at = 0
    for i in range(300, 310):
        evaluations.get(i, at(0), Kept)
    assert Kept.looked_at <= 50


def test_a_dropped_evaluation_starts_afresh():
    circuit, executor = Circuit(), Executor()
    x = np.random.default_rng(1).uniform(-3, 3, size=(1, 3))
    evaluations = Evaluations(most=2)

    def start(parameters):
        return Evaluation(circuit, executor, parameters, "circuits")

    for ticket in (0, 1, 2, 0):
        derivatives = evaluations.get(ticket, x, start).partials(orders(3, 0, 1))
        np.testing.assert_allclose(derivatives, circuit.partials(x, orders(3, 0, 1)), atol=1e-10)
    assert executor.sizes == [7] * 4


def test_threads_get_the_same_evaluation():
    evaluations = Evaluations()
    made = []

    def make(parameters):
        time.sleep(0.01)
        made.append(parameters)
        return Kept(parameters)

    results = run_at_once([lambda: evaluations.get(7, at(0), make)] * 8)
    assert len(made) == 1
    assert all(result is results[0] for result in results)


def sized(parameters):
    made = Kept(parameters)
    made.size = 50
    return made


def test_what_all_hold_is_counted_and_not_summed(monkeypatch):
    def held():
        evaluations = Evaluations()
        evaluations.get(1, at(0), sized)
        evaluations.get(2, at(0), sized)
        return Evaluations._held - sum(Evaluations._gone) - before

    class Unread(weakref.WeakSet):
        def __iter__(self):
            raise AssertionError("all are looked at although there is room")

    before = Evaluations._held - sum(Evaluations._gone)
    monkeypatch.setattr(Evaluations, "_all", Unread())
    assert held() == 50  # the latest is weighed with the next
    assert Evaluations._held - sum(Evaluations._gone) == before


def test_evaluations_are_made_while_others_make_room(monkeypatch):
    monkeypatch.setattr(Evaluations, "_MOST_BYTES_OF_ALL", 1)
    keep, done, evaluations = [], threading.Event(), Evaluations()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def make():
        while not done.is_set():
            keep.append(Evaluations())
            del keep[:-50]

    thread = threading.Thread(target=make)
    thread.start()
    try:
        for call in range(300):
            evaluations.get(call, at(0), sized)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()


class Marked(Kept):
    """Can be referred to weakly, as evaluations can."""


def test_calls_in_eager_mode_are_found_as_long_as_they_live():
    calls = EvaluatedCalls()
    own = calls.eager[next(calls)] = Marked(at(np.nan))
    new = calls.find(1, at(0.1), lambda parameters, number: Marked(parameters, number))
    assert calls.find(1, at(np.nan), None) is own
    assert new is not own and new.final and new.size == 1  # a vectorised loop moves the angles
    del own
    made = calls.find(1, at(np.nan), lambda parameters, number: Marked(parameters, number))
    assert made.size == 1


def test_derivatives_in_graphs_of_a_call_in_eager_mode_run_it_once():
    """A jacobian is computed in a graph, which knows the call by a ticket."""
    made = []

    @qshift.qnode(qml.device("default.qubit"), seed=3, shots=50)
    def circuit(x):
        made.append(1)
        qml.RX(x[0], 0)
        qml.RY(x[1], 0)
        return qml.expval(qml.Z(0))

    x = tf.Variable([0.3, 0.4], dtype=tf.float64)
    with qshift.Tracker() as tracker:
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = circuit(x)
            gradient = inner.gradient(value, x)
        assert outer.jacobian(gradient, x).shape == (2, 2)
    assert made == [1] and circuit.calls.made == 1
    # The value, two shifts for each first derivative, one more for each second by one parameter
    # and four for the mixed one.
    assert tracker.totals["circuits"] == 1 + 2 * 2 + 2 * 1 + 4
    assert not len(circuit.calls.evaluations)
