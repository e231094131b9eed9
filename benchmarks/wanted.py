"""How much variance a number of shots leaves where less than all derivatives is wanted.

Run ``python benchmarks/wanted.py``; it takes about ten minutes. The cost is the number of shots
times the summed variance of what is wanted, which does not depend on the number. First, functions
of the value, gradient and Hessian of products of functions of four parameters, for outcomes of the
variances that they have:

- entries, equal shots: the cost if all entries are evaluated with equal shots, and
- entries: with shots of their own that are best for all entries, computed from the plans;
- unit: the cost of the plan for this function, if all outcomes had variance one;
- floor: the least that is possible with the coefficients of the plan for this function, which a
  Newton step is known to have only once it is known;
- measured: what repetitions of ``qshift.derivatives(..., wanted=...)`` cost, with this number's
  error; and the part of it, in per cent, that averages over all repetitions leave.

Then the gradient of a mean squared error over a batch of 32, by the weights of a circuit whose
residuals are normal, or a few of which are large: the cost with equally many shots for all circuits
of all rows, of which 80 are a hundred per cent; the floor, for shots that are best for these rows;
and what is measured with equal shots, and where shots follow the residuals, in eager mode, in a
`tf.function` and in Keras. The noise of residuals is part of all these numbers.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pennylane as qml
import tensorflow as tf
from shots import CASES, Case

import qshift
from qshift.api.affine import started
from qshift.rules.planner import Frequencies, multi_indices
from qshift.rules.sampled_plans import planner

P = 4
INDICES = tuple(itertools.chain.from_iterable(multi_indices(range(P), k) for k in range(3)))
POINT = np.array([0.4, -1.1, 0.7, 2.0])
NEAR_ONE = np.full(P, 0.2427)  # where a Newton step's plan costs 74
VECTOR = np.array([0.5, -1.0, 2.0, 0.1])
_OF_LOSSES = 60  # shots of a circuit on the average
_OF_NEWTON = 30  # times the shots of other rows


class Derivatives(NamedTuple):
    """Gradients float64[N, P] and Hessians float64[N, P, P]."""

    gradients: np.ndarray
    hessians: np.ndarray

    @classmethod
    def of(cls, entries: np.ndarray) -> Derivatives:
        """Takes entries float64[N, len(INDICES)] apart."""
        hessians = np.empty((len(entries), P, P))
        for column, index in enumerate(INDICES):
            if len(index) == 2:
                hessians[:, index[0], index[1]] = entries[:, column]
                hessians[:, index[1], index[0]] = entries[:, column]
        return cls(entries[:, 1 : P + 1], hessians)


def laid(change: np.ndarray) -> np.ndarray:
    """Returns how sums of gradients and Hessians, float64[N, B, P + P * P], change with their
    entries, float64[N, B, len(INDICES)]."""
    result = np.zeros((*change.shape[:2], len(INDICES)))
    result[:, :, 1 : P + 1] = change[:, :, :P]
    by_hessian = change[:, :, P:].reshape(*change.shape[:2], P, P)
    for column, index in enumerate(INDICES):
        if len(index) == 2:
            i, j = index
            result[:, :, column] = by_hessian[:, :, i, j] + (i != j) * by_hessian[:, :, j, i]
    return result


def linear(rows: np.ndarray) -> Callable[[Derivatives], tuple[np.ndarray, np.ndarray]]:
    """Returns a function of derivatives, and how it changes with them, given the factors of all
    entries of the Hessian, float64[B, P, P]."""

    def function(at: Derivatives) -> tuple[np.ndarray, np.ndarray]:
        change = np.concatenate([np.zeros((len(rows), P)), rows.reshape(len(rows), P * P)], axis=1)
        change = np.broadcast_to(change, (len(at.gradients), *change.shape))
        return np.einsum("bij,nij->nb", rows, at.hessians), laid(change)

    return function


def newton(at: Derivatives) -> tuple[np.ndarray, np.ndarray]:
    """Returns Newton steps, and how they change with the derivatives."""
    inverses = np.linalg.inv(at.hessians)
    steps = -np.einsum("nij,nj->ni", inverses, at.gradients)
    by_hessian = -np.einsum("nbi,nj->nbij", inverses, steps)
    flat = by_hessian.reshape(*by_hessian.shape[:2], P * P)
    return steps, laid(np.concatenate([-inverses, flat], axis=2))


WANTED = {
    "trace of the Hessian": linear(np.eye(P)[None]),
    "diagonal of the Hessian": linear(np.einsum("bi,bj->bij", np.eye(P), np.eye(P))),
    "Hessian times a vector": linear(np.einsum("bi,j->bij", np.eye(P), VECTOR)),
    "Newton step": newton,
}


def entries(case: Case, x: np.ndarray, exact: qshift.QNode) -> np.ndarray:
    """Returns exact derivatives, float64[1, len(INDICES)]."""
    value, gradient, hessian = qshift.derivatives(exact, tf.constant(x), order=2)
    places = [value.numpy(), *gradient.numpy()]
    return np.array([[*places, *(hessian.numpy()[i] for i in INDICES[P + 1 :])]])


def deviations(case: Case, x: np.ndarray, exact: Callable, points: Any) -> np.ndarray:
    """Returns the standard deviations of outcomes at the points of a plan."""
    moved = np.tile(x, (len(points), 1))
    for row, point in zip(moved, points, strict=True):
        for j, _, shift in point:
            row[j] += shift
    return np.sqrt(1 - exact(tf.constant(moved)).numpy() ** 2)


def computed(case: Case, x: np.ndarray, exact: Callable, weights: np.ndarray) -> list[float]:
    """Returns the costs of plans for all entries, with equal and with best shots; and that of a
    plan for sums of entries with weights float64[B, len(INDICES)], for outcomes of variance one,
    and the least with this plan's coefficients."""
    costs = []
    for spread in ("equal", "own"):
        made = planner([Frequencies(case.spectrum)] * P, np.ones((1, P), bool), "shots", spread)
        step = made.root.request(INDICES)
        rows, shots = weights @ step.coefficients.toarray(), step.node.shots
        sizes = (rows**2).sum(axis=0) * deviations(case, x, exact, step.node.points) ** 2
        costs.append(float(shots.sum() * (sizes / shots).sum()))
    step, allocation = made.root.contraction(INDICES, weights[:, None, :])
    roots = np.sqrt(step.coefficients.power(2).sum(axis=0))
    floor = (roots * deviations(case, x, exact, step.node.points)).sum() ** 2
    return [*costs, allocation.cost, float(floor)]


def measured(
    case: Case, x: np.ndarray, function: Callable, exact: np.ndarray, repetitions: int
) -> tuple[float, float, float]:
    """Returns the cost of repetitions, its standard error, and the part of it that is bias.

    All repetitions are rows of one call, which runs as `qshift.derivatives` runs one. A Newton step
    takes so many shots that Hessians are never near to singular ones.
    """
    number = case.shots * (_OF_NEWTON if function is newton else 1)
    shots = qshift.Shots(per_circuit=number, pilot=0.15)
    node = qshift.QNode(case.function, qshift.device("simulator"), shots=shots, seed=1)
    source = tf.Variable(x)
    with tf.GradientTape() as tape:
        tape.watch(source)
        call = node.prepare((tf.convert_to_tensor(source),), [source])
    assert call is not None
    call = call._replace(tensors=[tf.tile(each, [repetitions, 1]) for each in call.tensors])
    truth, slopes = function(Derivatives.of(exact))
    with qshift.Tracker() as tracker:
        evaluation = started(call, pilot=True)
        if function is newton:

            def weigh(found: np.ndarray) -> np.ndarray:
                return function(Derivatives.of(found[:, 0]))[1][:, :, None, :]

            found = function(Derivatives.of(evaluation.steered(INDICES, weigh)[:, 0]))[0]
        else:
            taken = np.flatnonzero(slopes[0].any(axis=0))
            weights = slopes[0][:, None, taken]
            found = evaluation.sums(tuple(INDICES[a] for a in taken), weights)[0]
    squares = ((found - truth) ** 2).sum(axis=1) * tracker.totals["shots"] / repetitions
    cost, error = squares.mean(), squares.std() / math.sqrt(repetitions)
    offsets = ((found.mean(axis=0) - truth) ** 2).sum() * tracker.totals["shots"] / repetitions
    return float(cost), float(error), float(offsets - cost / repetitions)


# --- gradients of losses ---

ROWS = 32
RNG = np.random.default_rng(1)
INPUTS = RNG.uniform(-1, 1, size=(ROWS, P))
WEIGHTS = RNG.uniform(-1, 1, size=P)
RESIDUALS = {
    "normal": 0.3 * RNG.normal(size=ROWS),
    "a few large": 0.3 * RNG.laplace(size=ROWS),
}


def layer(inputs: tf.Tensor, w: tf.Tensor) -> object:
    """A circuit of a batch of inputs."""
    for j in range(P):
        qml.RX(inputs[..., j], wires=j)
        qml.RY(w[j], wires=j)
    for j in range(P):
        qml.CNOT(wires=[j, (j + 1) % P])
    return qml.expval(qml.Z(0) @ qml.Z(2))


def gradient(node: qshift.QNode, targets: np.ndarray, w: tf.Variable) -> tf.Tensor:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((node(INPUTS, w) - targets) ** 2)
    return tape.gradient(loss, w)


def in_keras(node: qshift.QNode, targets: np.ndarray) -> Callable[[], np.ndarray]:
    """Returns a step of training that gives the gradient."""
    quantum = qshift.keras.QuantumLayer(node, weight_shapes={"w": P})
    model = tf.keras.Sequential([tf.keras.Input((P,), dtype=tf.float64), quantum])
    model.compile(tf.keras.optimizers.SGD(1.0), "mse")
    start = WEIGHTS.astype(np.float32)

    def step() -> np.ndarray:
        model.set_weights([start])
        model.train_on_batch(INPUTS, targets)
        return start - model.get_weights()[0]

    return step


def of_rows(residuals: np.ndarray) -> tuple[float, float]:
    """Returns the cost of the gradient with equal shots, and the least there is for many shots."""
    node = qshift.QNode(layer, qshift.device("simulator"))
    moved = [WEIGHTS + sign * np.pi / 2 * unit for unit in np.eye(P) for sign in (1, -1)]
    values = np.array([node(INPUTS, w) for w in (WEIGHTS, *moved)])  # [1 + 2 P, ROWS]
    slopes = (values[1::2] - values[2::2]) / 2
    sizes = np.tile(residuals**2 / 4, (1 + 2 * P, 1))
    sizes[0] = (slopes**2).sum(axis=0)
    variances = (2 / ROWS) ** 2 * (1 - values**2)
    sizes *= variances
    # Of a product of two factors with errors of their own, those of residuals and of slopes.
    both = ((1 - values[0] ** 2) * variances[1:] / 4).sum() / _OF_LOSSES
    return float(sizes.size * (sizes.sum() + both)), float(np.sqrt(sizes).sum() ** 2)


def of_loss(targets: np.ndarray, way: str, repetitions: int) -> tuple[float, float]:
    """Returns the cost of the gradient, and its error."""
    shots: Any = _OF_LOSSES
    if way == "equal rows":
        shots = qshift.Shots(per_circuit=shots, equal=True)
    node = qshift.QNode(layer, qshift.device("simulator"), shots=shots)
    w = tf.Variable(WEIGHTS)
    truth = gradient(node.update(shots=None), targets, w).numpy()
    eager = functools.partial(gradient, node, targets, w)
    run = {"compiled": tf.function(eager), "Keras": in_keras(node, targets)}.get(way, eager)
    run()
    with qshift.Tracker() as tracker:
        found = np.array([run() for _ in range(repetitions)])
    squares = ((found - truth) ** 2).sum(axis=1) * tracker.totals["shots"] / repetitions
    return float(squares.mean()), float(squares.std() / math.sqrt(repetitions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=1500)
    parser.add_argument("--only", choices=[*WANTED, "losses"], help="only these rows")
    given = parser.parse_args()
    print(
        "| wanted | function | angles | entries, equal shots | entries | unit | floor | measured "
        "| bias |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for case, (where, x) in itertools.product(
        CASES[:2], {"near a maximum": NEAR_ONE, "elsewhere": POINT}.items()
    ):
        exact = qshift.QNode(case.function, qshift.device("simulator"))
        right = entries(case, x, exact)
        for name, function in WANTED.items():
            if given.only not in (None, name):
                continue
            weights = function(Derivatives.of(right))[1][0]
            equal, every, unit, floor = computed(case, x, exact, weights)
            cost, error, bias = measured(case, x, function, right, given.repetitions)
            print(
                f"| {name} | {case.name} | {where} | {equal:,.4g} | {every:,.4g} | {unit:,.4g} "
                f"| {floor:,.4g} | {cost:,.4g} ± {error:,.2g} | {100 * bias / cost:.2f} % |",
                flush=True,
            )
    print("\n| residuals | equal | floor | equal, measured | eager | compiled | Keras |")
    print("|---|---|---|---|---|---|---|")
    for name, residuals in RESIDUALS.items() if given.only in (None, "losses") else ():
        targets = qshift.QNode(layer, qshift.device("simulator"))(INPUTS, WEIGHTS) - residuals
        equal, floor = of_rows(residuals)
        unit = equal / 80
        costs = [
            of_loss(targets.numpy(), way, given.repetitions)
            for way in ("equal rows", "eager", "compiled", "Keras")
        ]
        cells = " | ".join(f"{cost / unit:.3g} ± {error / unit:.2g}" for cost, error in costs)
        print(f"| {name} | 80 | {floor / unit:.3g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
