"""What an evaluation runs, and when: counted on executors that evaluate a formula."""

import itertools
import math
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from qshift.autodiff.evaluation import Evaluation, Evaluations
from qshift.rules.planner import OBJECTIVES, Frequencies, Planner, Recipe, multi_indices


def orders(parameters, *which):
    return tuple(index for k in which for index in multi_indices(range(parameters), k))


class Circuit:
    """Two values, f_0 = prod_j cos(w_j x_j) and f_1 = sin(w_0 x_0), and their analytic partials."""

    num_values = 2

    def __init__(self, frequencies=(1.0, 1.0, 1.0), spectra=None, cones=None):
        self.frequencies = np.array(frequencies)
        self.num_parameters = len(frequencies)
        if cones is None:
            cones = np.ones((2, len(frequencies)), dtype=bool)
            cones[1, 1:] = False
        spectra = spectra or [Frequencies((w,)) for w in frequencies]
        self._planners = {o: Planner(spectra, cones, o) for o in OBJECTIVES}

    def planner(self, objective):
        return self._planners[objective]

    def partial(self, points, index=()):
        """Returns a partial derivative of both values, float64[N, 2]."""
        n = np.bincount(np.array(index, dtype=int), minlength=self.num_parameters)
        waves = self.frequencies**n * np.cos(points * self.frequencies + n * np.pi / 2)
        first = n[0] == n.sum()
        sine = self.frequencies[0] ** n[0] * np.sin(
            points[:, 0] * self.frequencies[0] + n[0] * np.pi / 2
        )
        return np.stack([waves.prod(axis=1), sine * first], axis=1)

    def partials(self, points, indices):
        return np.stack([self.partial(points, index) for index in indices], axis=2)


class Executor:
    """Evaluates a circuit and remembers what it was asked for."""

    def __init__(self, noise=0.0):
        self.batches = []  # of values
        self.answers = []
        self.gradient_batches = []
        self.rng = np.random.default_rng(0)
        self.noise = noise

    def __call__(self, circuit, points, call=None):
        self.batches.append(points)
        noise = self.noise * self.rng.normal(size=(len(points), circuit.num_values))
        self.answers.append(circuit.partial(points) + noise)
        return self.answers[-1]

    def gradients(self, circuit, points):
        self.gradient_batches.append(points)
        return circuit.partials(points, orders(circuit.num_parameters, 1))

    @property
    def sizes(self):
        return [len(batch) for batch in self.batches]

    @property
    def gradient_sizes(self):
        return [len(batch) for batch in self.gradient_batches]


@pytest.fixture
def executor():
    return Executor()


@pytest.fixture
def x():
    return np.random.default_rng(1).uniform(-3, 3, size=(1, 3))


def distinct(batches, decimals=9):
    """Counts the points modulo 2 pi."""
    points = np.concatenate(batches)
    return len(np.unique(np.exp(1j * points).round(decimals), axis=0))


# --- derivatives ---


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("sequence", [(0, 1, 2, 3), (3, 2, 1, 0), (2,), (1, 3), (3,), (4, 0)])
@pytest.mark.parametrize("batch", [1, 5])
def test_derivatives(executor, objective, adjoint, sequence, batch):
    circuit = Circuit((1.0, 2.0, 0.5))
    x = np.random.default_rng(2).uniform(-3, 3, size=(batch, 3))
    evaluation = Evaluation(circuit, executor, x, objective, adjoint)
    for k in sequence:
        indices = orders(3, k)
        derivatives = evaluation.partials(indices)
        assert derivatives.shape == (batch, 2, len(indices))
        assert derivatives.dtype == np.float64
        np.testing.assert_allclose(derivatives, circuit.partials(x, indices), atol=1e-10)


@pytest.mark.parametrize("adjoint", [False, True])
def test_values_and_derivatives_in_one_request(executor, x, adjoint):
    circuit = Circuit()
    indices = ((0, 0), (), (1, 2), (2,), (0, 1, 2))
    derivatives = Evaluation(circuit, executor, x, "circuits", adjoint).partials(indices)
    np.testing.assert_allclose(derivatives, circuit.partials(x, indices), atol=1e-10)
    assert len(executor.batches) == 1
    assert len(executor.gradient_batches) == adjoint


def test_a_row_of_a_batch_is_its_own_circuit(executor):
    x = np.random.default_rng(3).uniform(-3, 3, size=(4, 3))
    together = Evaluation(Circuit(), executor, x, "circuits").partials(orders(3, 2))
    apart = [Evaluation(Circuit(), executor, row[None], "circuits") for row in x]
    apart = np.concatenate([evaluation.partials(orders(3, 2)) for evaluation in apart])
    np.testing.assert_allclose(together, apart, atol=1e-12)


def test_what_a_measurement_cannot_see_is_exactly_zero(x):
    noisy = Executor(noise=0.1)
    evaluation = Evaluation(Circuit(), noisy, x, "circuits")
    derivatives = evaluation.partials(orders(3, 1, 2))
    for index, derivative in zip(orders(3, 1, 2), derivatives[0, 1], strict=True):
        assert (derivative == 0.0) == any(j > 0 for j in index)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_derivatives_that_need_no_values(executor, x, objective):
    """A compiled function may ask for these only."""
    linear = Recipe(((1.0, 0.0, 1.0), (-1.0, 0.0, 0.0)))
    circuit = Circuit(spectra=[linear, Frequencies(()), Frequencies((1.0,))])
    evaluation = Evaluation(circuit, executor, x, objective)
    derivatives = evaluation.partials(((0, 0), (1, 2), (1,)))
    np.testing.assert_array_equal(derivatives, np.zeros((1, 2, 3)))
    assert executor.sizes == []


def test_no_derivatives(executor, x):
    assert Evaluation(Circuit(), executor, x, "circuits").partials(()).shape == (1, 2, 0)
    assert executor.sizes == []


# --- what is run ---


@pytest.mark.parametrize(
    "objective, sizes", [("circuits", [1, 6, 9, 7]), ("shots", [1, 6, 15, 20])]
)
def test_only_missing_points_are_run_all_in_one_batch(executor, x, objective, sizes):
    evaluation = Evaluation(Circuit(), executor, x, objective)
    for k in range(4):
        for _ in range(2):
            evaluation.partials(orders(3, k))
    assert executor.sizes == sizes
    assert distinct(executor.batches) == sum(sizes)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(5))
def test_no_point_is_run_twice(executor, x, objective, seed):
    rng = np.random.default_rng(seed)
    indices = list(orders(3, 0, 1, 2, 3, 4))
    evaluation = Evaluation(Circuit(), executor, x, objective)
    for requests in range(1, 12):
        picked = [indices[i] for i in rng.choice(len(indices), size=4, replace=False)]
        got = evaluation.partials(picked)
        np.testing.assert_allclose(got, Circuit().partials(x, picked), atol=1e-10)
        assert len(executor.batches) <= requests
    assert distinct(executor.batches) == sum(executor.sizes)


def test_batches_count_every_input(executor):
    x = np.random.default_rng(4).uniform(-3, 3, size=(7, 3))
    evaluation = Evaluation(Circuit(), executor, x, "circuits")
    for k in range(3):
        evaluation.partials(orders(3, k))
    assert executor.sizes == [7, 6 * 7, 9 * 7]


def test_derivatives_share_the_samples_of_their_call(x):
    noisy = Executor(noise=0.1)
    first, second = (Evaluation(Circuit(), noisy, x, "shots") for _ in range(2))
    value = first.partials(((),))[0, 0, 0]
    curvature = first.partials(((0, 0),))[0, 0, 0]
    at_pi = noisy.answers[1][0, 0]
    assert value == noisy.answers[0][0, 0]
    assert curvature == pytest.approx((at_pi - value) / 2, abs=1e-12)  # not a new sample of f(0)
    np.testing.assert_array_equal(first.partials(((), (0, 0)))[0, 0], [value, curvature])
    assert noisy.sizes == [1, 1]
    assert second.partials(((),))[0, 0, 0] != value


def test_parameters_without_a_rule_do_no_harm_if_nobody_asks(executor, x):
    circuit = Circuit(spectra=[Frequencies((1.0,)), None, Frequencies((1.0,))])
    evaluation = Evaluation(circuit, executor, x, "circuits")
    indices = ((), (0,), (0, 2))
    np.testing.assert_allclose(evaluation.partials(indices), circuit.partials(x, indices))


# --- prefetch ---


def test_prefetch_runs_everything_in_the_first_batch(executor, x):
    prefetch = orders(3, 0, 1, 2)
    evaluation = Evaluation(Circuit(), executor, x, "circuits", prefetch=prefetch)
    np.testing.assert_allclose(evaluation.partials(((),)), Circuit().partials(x, ((),)))
    assert executor.sizes == [16]
    evaluation.partials(orders(3, 2))
    evaluation.partials(orders(3, 1))
    assert executor.sizes == [16]
    evaluation.partials(orders(3, 3))
    assert executor.sizes == [16, 7]


def test_prefetch_waits_for_the_first_request(executor, x):
    Evaluation(Circuit(), executor, x, "circuits", prefetch=orders(3, 0, 1))
    assert executor.sizes == []


def test_prefetch_is_not_repeated(executor, x):
    evaluation = Evaluation(Circuit(), executor, x, "circuits", prefetch=orders(3, 1))
    for _ in range(3):
        evaluation.partials(((),))
    assert executor.sizes == [6, 1]


def test_prefetch_with_adjoint(executor, x):
    prefetch = orders(3, 0, 1, 2)
    evaluation = Evaluation(Circuit(), executor, x, "circuits", True, prefetch)
    evaluation.partials(((),))
    assert (executor.sizes, executor.gradient_sizes) == ([1], [7])
    evaluation.partials(orders(3, 1, 2))
    assert (executor.sizes, executor.gradient_sizes) == ([1], [7])


# --- adjoint ---


@pytest.mark.parametrize("objective, sizes", [("circuits", [1, 6, 9]), ("shots", [1, 6, 15])])
def test_adjoint_ends_the_recursion_one_order_early(executor, x, objective, sizes):
    evaluation = Evaluation(Circuit(), executor, x, objective, adjoint=True)
    for k in range(4):
        indices = orders(3, k)
        np.testing.assert_allclose(
            evaluation.partials(indices), Circuit().partials(x, indices), atol=1e-10
        )
    assert executor.sizes == [1]
    assert executor.gradient_sizes == sizes


def test_adjoint_needs_no_values_for_a_gradient(executor, x):
    Evaluation(Circuit(), executor, x, "circuits", adjoint=True).partials(orders(3, 1))
    assert (executor.sizes, executor.gradient_sizes) == ([], [1])


@pytest.mark.parametrize("data", [0, 1, 2, 3, 4])
def test_adjoint_runs_few_gradients_wherever_the_data_stands(executor, data):
    """The gradient by the weights of d2f/dx2 is that of one shifted function, whose shifts are
    known: the column of x among those of the weights must not matter."""
    circuit = Circuit((1.0,) * 5)
    x = np.random.default_rng(5).uniform(-3, 3, size=(1, 5))
    mixed = tuple(tuple(sorted((data, data, w))) for w in range(5) if w != data)
    evaluation = Evaluation(circuit, executor, x, "circuits", adjoint=True)
    np.testing.assert_allclose(evaluation.partials(mixed), circuit.partials(x, mixed), atol=1e-10)
    assert executor.gradient_sizes == [2]  # f'' = (f(pi) - f(0)) / 2


# --- threads and failures ---


@pytest.mark.parametrize("adjoint", [False, True])
def test_threads_that_ask_at_once_never_run_a_point_twice(x, adjoint):
    class Slow(Executor):
        def __call__(self, circuit, points, call=None):
            time.sleep(0.02)
            return super().__call__(circuit, points, call)

        def gradients(self, circuit, points):
            time.sleep(0.02)
            return super().gradients(circuit, points)

    slow, circuit = Slow(), Circuit()
    evaluation = Evaluation(circuit, slow, x, "circuits", adjoint, prefetch=orders(3, 0))
    requests = [orders(3, *which) for which in [(0,), (1,), (2,), (1, 2), (2, 0), (3,), (3, 2)]]
    results = run_at_once([lambda r=r: evaluation.partials(r) for r in requests])
    for request, result in zip(requests, results, strict=True):
        np.testing.assert_allclose(result, circuit.partials(x, request), atol=1e-10)
    for batches in (slow.batches, slow.gradient_batches):
        assert distinct(batches or [x]) == len(np.concatenate(batches or [x]))


def test_threads_may_share_a_planner(executor):
    """Calls of one circuit plan together, each behind its own lock."""
    circuit = Circuit((1.0,) * 5, cones=np.ones((2, 5), dtype=bool))
    points = np.random.default_rng(6).uniform(-3, 3, size=(8, 1, 5))
    evaluations = [Evaluation(circuit, executor, x, "circuits") for x in points]

    def ask(evaluation):
        return [evaluation.partials(orders(5, k)) for k in (1, 2, 0, 3)]

    results = run_at_once([lambda e=e: ask(e) for e in evaluations])
    for x, result in zip(points, results, strict=True):
        for k, derivatives in zip((1, 2, 0, 3), result, strict=True):
            np.testing.assert_allclose(
                derivatives[:, 0], circuit.partials(x, orders(5, k))[:, 0], atol=1e-10
            )


def run_at_once(functions):
    barrier, results = threading.Barrier(len(functions)), [None] * len(functions)

    def run(i):
        barrier.wait()
        results[i] = functions[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result is not None for result in results)
    return results


class Flaky(Executor):
    """Fails the first time it is asked for more than one point."""

    failed = False

    def __call__(self, circuit, points, call=None):
        if len(points) > 1 and not self.failed:
            self.failed = True
            raise ConnectionError("the network is down")
        return super().__call__(circuit, points, call)


def test_a_failed_batch_can_be_asked_for_again(x):
    flaky, circuit = Flaky(), Circuit()
    evaluation = Evaluation(circuit, flaky, x, "circuits")
    evaluation.partials(((),))
    with pytest.raises(ConnectionError):
        evaluation.partials(orders(3, 1))
    np.testing.assert_allclose(
        evaluation.partials(orders(3, 1)), circuit.partials(x, orders(3, 1)), atol=1e-10
    )
    evaluation.partials(orders(3, 0, 2))
    assert flaky.sizes == [1, 6, 9]


def test_a_failed_prefetch_can_be_asked_for_again(x):
    flaky = Flaky()
    evaluation = Evaluation(Circuit(), flaky, x, "circuits", prefetch=orders(3, 0, 1, 2))
    with pytest.raises(ConnectionError):
        evaluation.partials(((),))
    evaluation.partials(((),))
    assert flaky.sizes == [16]


# --- evaluations of compiled functions ---


def test_nbytes(executor, x):
    evaluation = Evaluation(Circuit(), executor, x, "circuits", adjoint=True)
    empty = evaluation.nbytes
    assert empty > x.nbytes
    evaluation.partials(((),))
    assert evaluation.nbytes == empty + 2 * 8
    evaluation.partials(orders(3, 1))
    assert evaluation.nbytes == empty + 2 * 8 + 2 * 3 * 8


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


def test_a_dropped_evaluation_starts_afresh(executor, x):
    circuit = Circuit()
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


def test_counts_of_the_objectives_differ_as_promised(executor):
    p = 4
    x = np.random.default_rng(7).uniform(-3, 3, size=(1, p))
    circuit = Circuit((1.0,) * p)
    for objective, most in itertools.product(OBJECTIVES, (2, 3)):
        executor.batches.clear()
        Evaluation(circuit, executor, x, objective).partials(orders(p, *range(most + 1)))
        pairs, triples = math.comb(p, 2), math.comb(p, 3)
        expected = {
            ("circuits", 2): 1 + 2 * p + 3 * pairs,
            ("circuits", 3): 1 + 2 * p + 4 * pairs + 4 * triples,
            ("shots", 2): 37,
            ("shots", 3): 93,
        }[objective, most]
        assert executor.sizes == [expected]


@pytest.mark.parametrize("final", [False, True])
def test_after_a_failure(final, executor):
    """In eager mode one may ask again; the ops of a compiled function that run together may not."""
    circuit, x, asked = Circuit(), np.ones((1, 3)), []

    def unreliable(*arguments):
        asked.append(1)
        if len(asked) == 1:
            raise ConnectionError("gone")
        return executor(*arguments)

    evaluation = Evaluation(circuit, unreliable, x, "circuits")
    evaluation.final = final
    with pytest.raises(ConnectionError, match="gone"):
        evaluation.partials([()])
    if final:
        with pytest.raises(ConnectionError, match="gone"):
            evaluation.partials([(0,)])
        assert len(asked) == 1
    else:
        np.testing.assert_allclose(evaluation.partials([(0,)]), circuit.partials(x, [(0,)]))


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
