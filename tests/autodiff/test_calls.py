"""Which evaluations are kept for compiled functions, and for how long."""

import sys
import threading
import time

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from analytic import Circuit, Executor, orders, run_at_once

import qshift
from qshift.autodiff.calls import SHARED, Bound, EvaluatedCalls, Evaluations
from qshift.autodiff.evaluation import Evaluation


class Growing:
    """Stands for an evaluation that grows to a certain size when it is used."""

    def __init__(self, parameters, size=0):
        self.parameters = parameters
        self.nbytes, self.size = 0, size

    def partials(self, indices, also=()):
        self.nbytes = self.size
        return indices

    def inherit(self):
        pass


class Counting(Growing):
    """Counts how often evaluations are weighed."""

    weighed = 0

    @property
    def nbytes(self):
        Counting.weighed += 1
        return 1

    @nbytes.setter
    def nbytes(self, _):
        pass


def at(value):
    return np.full((1, 2), float(value))


def sized(size):
    return lambda parameters: Growing(parameters, size)


def found(evaluations, call, make=Growing, angle=0):
    return evaluations.get(call, at(angle), make).evaluation


def used(evaluations, call, size):
    """Uses the evaluation of a call, which grows to a size; returns it."""
    kept = evaluations.get(call, at(0), sized(size))
    assert kept.partials("abc") == "abc"
    return kept.evaluation


def test_a_ticket_finds_its_evaluation():
    evaluations = Evaluations(Bound())
    first = found(evaluations, 1, angle=0.1)
    assert (first.parameters == 0.1).all()
    assert found(evaluations, 1, angle=0.1) is first
    assert found(evaluations, 2, angle=0.1) is not first  # another call: fresh samples
    assert found(evaluations, 1, angle=0.2) is not first  # another turn of a loop
    assert found(evaluations, 1, angle=0.1) is first


def test_parameters_in_another_order_have_another_evaluation():
    """Their bits add up to the same number."""
    evaluations, first = Evaluations(Bound()), np.array([[0.3, -0.4]])
    kept = [evaluations.get(1, at, Growing).evaluation for at in (first, first[:, ::-1].copy())]
    assert kept[0] is not kept[1]
    for at, evaluation in zip((first, first[:, ::-1].copy()), kept, strict=True):
        np.testing.assert_array_equal(evaluation.parameters, at)
        assert evaluations.get(1, at.copy(), Growing).evaluation is evaluation


def test_the_least_recently_used_evaluations_are_dropped():
    evaluations = Evaluations(Bound(most=3))
    kept = [found(evaluations, i) for i in range(3)]
    assert found(evaluations, 0) is kept[0]  # now 1 is the oldest
    found(evaluations, 3)
    assert found(evaluations, 0) is kept[0]
    assert found(evaluations, 2) is kept[2]
    assert found(evaluations, 1) is not kept[1]


def test_all_evaluations_together_have_a_bound():
    bound = Bound(most_bytes=100)
    one, other = Evaluations(bound), Evaluations(bound)
    kept = [used(evaluations, i, 40) for i in range(5) for evaluations in (one, other)]
    # Two of 40 are within 100: the last one of each.
    assert len(one) == len(other) == 1 and bound.nbytes == 80
    assert found(one, 4) is kept[8] and found(other, 4) is kept[9]


def test_evaluations_that_grow_while_others_are_used_count():
    bound = Bound(most_bytes=100)
    evaluations = Evaluations(bound)
    first, second = (evaluations.get(i, at(0), sized(60)) for i in range(2))
    assert bound.nbytes == 0
    first.partials(())
    assert bound.nbytes == 60
    second.partials(())
    assert bound.nbytes == 60 and len(evaluations) == 1
    assert first.partials("still usable") == "still usable" and bound.nbytes == 60
    assert found(evaluations, 1) is second.evaluation


def test_evaluations_that_fail_count():
    class Failing(Growing):
        def partials(self, indices, also=()):
            super().partials(indices)
            raise ValueError

    bound = Bound()
    evaluations = Evaluations(bound)
    with pytest.raises(ValueError):
        evaluations.get(1, at(0), lambda at: Failing(at, 30)).partials(())
    assert bound.nbytes == 30


def test_a_single_evaluation_may_exceed_the_bound():
    evaluations = Evaluations(Bound(most_bytes=100))
    large = used(evaluations, 0, 1000)
    assert found(evaluations, 0) is large


def test_keeping_many_evaluations_does_not_slow_down_new_ones():
    """A compiled training step asks for a new one at every step, for ever."""
    evaluations = Evaluations(Bound())
    for i in range(300):
        found(evaluations, i, Counting)
    Counting.weighed = 0
    for i in range(300, 310):
        evaluations.get(i, at(0), Counting).partials(())
    assert Counting.weighed == 20


def test_a_dropped_evaluation_starts_afresh():
    circuit, executor = Circuit(), Executor()
    x = np.random.default_rng(1).uniform(-3, 3, size=(1, 3))
    evaluations = Evaluations(Bound(most=2))

    def start(parameters):
        return Evaluation(circuit, executor, parameters, "circuits")

    for ticket in (0, 1, 2, 0):
        derivatives = evaluations.get(ticket, x, start).partials(orders(3, 0, 1))
        np.testing.assert_allclose(derivatives, circuit.partials(x, orders(3, 0, 1)), atol=1e-10)
    assert executor.sizes == [7] * 4


def test_threads_get_the_same_evaluation():
    evaluations = Evaluations(Bound())
    made = []

    def make(parameters):
        time.sleep(0.01)
        made.append(parameters)
        return Growing(parameters)

    results = run_at_once([lambda: found(evaluations, 7, make)] * 8)
    assert len(made) == 1
    assert all(result is results[0] for result in results)


def test_making_an_evaluation_keeps_no_other_qnode_waiting():
    bound = Bound()
    one, other = Evaluations(bound), Evaluations(bound)
    begun, end = threading.Event(), threading.Event()

    def slow(parameters):
        begun.set()
        assert end.wait(60)
        return Growing(parameters)

    thread = threading.Thread(target=found, args=(one, 1, slow))
    thread.start()
    try:
        assert begun.wait(60)
        quick = threading.Thread(target=used, args=(other, 1, 10))
        quick.start()
        quick.join(60)
        assert not quick.is_alive() and len(other) == 1
    finally:
        end.set()
        thread.join()


def test_evaluations_of_a_qnode_that_is_gone_do_not_count():
    bound = Bound()
    evaluations, stays = Evaluations(bound), Evaluations(bound)
    for call in range(3):
        used(evaluations, call, 50)
    used(stays, 0, 7)
    assert bound.nbytes == 157
    del evaluations
    assert bound.nbytes == 7


def test_qnodes_share_a_bound():
    evaluations, before = EvaluatedCalls().evaluations, SHARED.nbytes
    used(evaluations, 1, 50)
    assert SHARED.nbytes == before + 50


def test_evaluations_are_made_while_others_make_room():
    bound = Bound(most_bytes=1)
    keep, done, evaluations = [], threading.Event(), Evaluations(bound)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def make():
        while not done.is_set():
            keep.append(Evaluations(bound))
            used(keep[-1], 0, 3)
            del keep[:-50]

    thread = threading.Thread(target=make)
    thread.start()
    try:
        for call in range(300):
            used(evaluations, call, 50)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    keep.clear()
    assert bound.nbytes == 50 * len(evaluations) <= 50


class Marked(Growing):
    """Can be referred to weakly, as evaluations can."""


def test_calls_in_eager_mode_are_found_as_long_as_they_live():
    calls = EvaluatedCalls()
    own = calls.eager[next(calls)] = Marked(at(np.nan))
    new = calls.find(1, at(0.1), lambda parameters, number: Marked(parameters, number)).evaluation
    assert calls.find(1, at(np.nan), None) is own
    assert new is not own and new.final and new.size == 1  # a vectorised loop moves the angles
    del own
    made = calls.find(1, at(np.nan), lambda parameters, number: Marked(parameters, number))
    assert made.evaluation.size == 1


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
