"""Seconds of circuits, shots and jobs, and plans of the least time."""

import itertools
import math

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from analytic import shifts_of
from hypothesis import assume, given, settings
from test_planner import Polynomial, bound, orders, problems
from test_sampled_plans import below, cost, made

import qshift
from qshift.errors import UnsupportedError
from qshift.rules.seconds import Seconds

quick = settings(derandomize=True, deadline=None, max_examples=3)
OVERHEADS = (0.1, 10.0)


def time(step, overhead, shots, best):
    """How long a plan takes to the variance that `shots` reach at the cost `best`, in shots."""
    return overhead * len(step.new_points) + shots * cost(step) / best


def test_what_takes_how_long():
    rates = Seconds(circuit=0.5, shot=0.01, job=2.0)
    assert rates.of(10, 300, 1) == pytest.approx(5 + 3 + 2)
    assert rates.overhead == 50 and Seconds(shot=1).overhead == 0
    assert Seconds(circuit=1).overhead == math.inf


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "costs, or a shot, or both, got neither"),
        ({"job": 1.0}, "got neither"),
        ({"circuit": -1.0}, "circuit as a number of seconds, 0 or more, got -1.0"),
        ({"shot": math.nan}, "shot as a number of seconds"),
        ({"shot": math.inf}, "shot as a number of seconds"),
        ({"shot": True}, "shot as a number of seconds, 0 or more, got True"),
        ({"circuit": 1, "job": "2"}, "job as a number of seconds"),
    ],
)
def test_numbers_that_are_none(given, message):
    with pytest.raises(ValueError, match=message):
        Seconds(**given)


@pytest.mark.parametrize("spread", ["own", "equal"])
@given(problem=problems())
@quick
def test_no_objective_is_worse_than_another_at_its_own_measure(spread, problem):
    """Circuits, shots times variance, and the time for any overhead of a circuit."""
    spectra, requests = problem
    asked = set(itertools.chain(*requests))
    assume(any(asked))
    together = tuple(sorted(asked | below(asked), key=lambda index: (len(index), index)))
    objectives = ("circuits", "shots", *OVERHEADS)
    steps = {each: made(spectra, each, spread).root.request(together) for each in objectives}
    fewest, best = len(steps["circuits"].new_points), cost(steps["shots"])
    shots = 1.0 if spread == "batch" else float(fewest)
    f = Polynomial(spectra)
    for each, step in steps.items():
        assert len(step.new_points) >= fewest
        assert cost(step) >= best * (1 - 1e-5)
        for overhead in OVERHEADS:
            least = time(steps[overhead], overhead, shots, best)
            assert least <= time(step, overhead, shots, best) * (1 + 1e-5), (each, overhead)
        values = f.partial(shifts_of(step.node.points, len(spectra)))
        for index, found in zip(together, step.coefficients @ values, strict=True):
            exact = f.partial(np.zeros((1, len(spectra))), index)[0]
            assert abs(found - exact) <= 1e-8 * bound(spectra, index), (each, index)


@pytest.mark.parametrize("spread", ["own", "batch", "error"])
def test_between_the_ends(spread):
    """There are plans that neither of the ends has, and they take less time than both."""
    wanted, spectra = orders(2, *range(3)), [(1, 2, 3, 4)] * 2
    few, many = (made(spectra, each, spread).root.request(wanted) for each in ("circuits", "shots"))
    shots = {"own": float(len(few.new_points)), "batch": 1.0}.get(spread, cost(many) / len(wanted))
    counts, gains = [], []
    for overhead in shots / len(few.new_points) * np.array([1e-6, 0.1, 0.5, 2.0, 1e6]):
        step = made(spectra, float(overhead), spread).root.request(wanted)
        counts.append(len(step.new_points))
        ends = [time(each, overhead, shots, cost(many)) for each in (few, many)]
        gains.append(min(ends) / time(step, overhead, shots, cost(many)))
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (len(many.new_points), len(few.new_points))
    assert counts[-1] < counts[1] < counts[0] and counts[1] - counts[-1] > 40
    assert min(gains) > 1 - 1e-6 and max(gains) > 1.02


def test_a_hessian_by_rotations():
    """Derivatives by one parameter take the fewest circuits, those by two the least sum |c|."""
    step = made([(1,)] * 4, 0.5).root.request(orders(4, *range(3)))
    assert len(step.new_points) == 33 and cost(step) == pytest.approx(169.0, abs=0.1)


def test_order_by_order():
    node, total = made([(1, 2)] * 2, 0.3, "batch").root, 0
    f = Polynomial([(1.0, 2.0)] * 2)
    for k in range(3):
        indices = orders(2, k)
        step = node.request(indices)
        node, total = step.node, total + 1
        assert node.shots.sum() == pytest.approx(total)
        values = f.partial(shifts_of(node.points, 2))
        for index, found in zip(indices, step.coefficients @ values, strict=True):
            assert found == pytest.approx(f.partial(np.zeros((1, 2)), index)[0], abs=1e-8)


def circuit(x):
    for wire in range(2):
        for k in range(4):
            qml.RX(x[wire], wires=wire)
            qml.RZ(0.3 + k, wires=wire)
    return qml.expval(qml.Z(0) @ qml.Z(1))


X = tf.constant([0.3, -0.8], tf.float64)


def test_seconds_as_the_objective_of_a_qnode(tracker):
    shots = qshift.Shots(total=40_000, pilot=0)
    node = qshift.QNode(circuit, qshift.device("simulator"), shots=shots, seed=1)
    ends = [node.update(objective=each).plan(X, order=2).together for each in ("circuits", "shots")]
    rates = qshift.Seconds(circuit=0.1, shot=1e-3, job=3.0)
    between = node.update(objective=rates)
    plan = between.plan(X, order=2)
    assert plan.objective == "seconds" and plan.rates == rates
    assert ends[0].circuits < plan.together.circuits < ends[1].circuits
    assert plan.together.seconds == pytest.approx(
        0.1 * plan.together.circuits + 1e-3 * plan.together.shots + 3.0
    )
    said = " ".join(str(plan).split())
    assert "least time" in said and "0.1 a circuit, 0.001 a shot, 3 a job" in said
    found = qshift.derivatives(between, X, order=2)
    assert tracker.totals["circuits"] == plan.together.circuits
    assert tracker.totals["shots"] == plan.together.shots == 40_000
    exact = qshift.derivatives(node.update(shots=None), X, order=2)
    for each, right in zip(found, exact, strict=True):
        np.testing.assert_allclose(each, right, atol=2.5)
    # The ends, and results without shots, which take circuits only.
    for rates, circuits in ((Seconds(shot=1), ends[1]), (Seconds(circuit=1), ends[0])):
        assert node.update(objective=rates).plan(X, order=2).together.circuits == circuits.circuits
    exact = between.update(shots=None).plan(X, order=2)
    assert exact.objective == "circuits" and exact.shots == 0


def test_a_device_that_says_no_seconds():
    node = qshift.QNode(circuit, qshift.device("simulator"), shots=100, objective="seconds")
    for call in (node, node.plan):
        with pytest.raises(UnsupportedError, match=r"Give objective=qshift.Seconds\(circuit="):
            call(X)
    assert node.update(shots=None).plan(X).objective == "circuits"
    with pytest.raises(ValueError, match="'seconds'\\) or qshift.Seconds"):
        node.update(objective="time")


def test_seconds_of_a_backend():
    """IBM's formula has none for a circuit, except for the executions that shots are rounded up
    to."""

    def of(level):
        device = qshift.device("fake-manila", seed=1, resilience_level=level)
        node = qshift.QNode(
            circuit,
            device,
            shots=qshift.Shots(total=8000),
            objective="seconds",
            diff_method="shift",
        )
        with tf.GradientTape() as tape:
            tape.watch(X)
            run = node.prepare((X,), [X]).compiled.circuit
        return node, node.preparation.executor, run

    node, executor, run = of(0)
    plan = node.plan(X, order=1)
    assert plan.objective == "seconds" and plan.rates is None and plan.seconds > 0
    rates = executor.rates(run)
    assert rates.overhead == pytest.approx(0, abs=1e-6) and rates.job == pytest.approx(2.0)
    _, seconds = executor.costs(run, np.array([1000, 500]))
    assert rates.of(2, 1500 * executor.bases(run), 1) == pytest.approx(seconds, rel=1e-6)
    # The shots of twirled circuits are rounded up to multiples of the number of their variants.
    node, executor, run = of(1)
    assert 1 < executor.rates(run).overhead < 100
    most = node.update(objective="shots").plan(X, order=2).together.circuits
    assert node.plan(X, order=2).together.circuits <= most
