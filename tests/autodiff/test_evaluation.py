"""What an evaluation runs, and when: counted on executors that evaluate a formula."""

import itertools
import math
import time

import numpy as np
import pytest
from analytic import Circuit, Executor, orders, run_at_once

from qshift.autodiff.evaluation import Evaluation
from qshift.rules.planner import OBJECTIVES, Frequencies, Recipe


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

    def unreliable(*arguments, call):
        asked.append(1)
        if len(asked) == 1:
            raise ConnectionError("gone")
        return executor(*arguments, call)

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
