"""How much variance a number of shots leaves: measured by sampling, against what no shots can beat.

Run ``python benchmarks/shots.py``; it takes about fifteen minutes. The cost of a plan is the number
of its shots times the summed variance of the value and all derivatives up to an order, which does
not depend on the number. Each function is a product, with a wire or two for each parameter; one has
its wires in a ring of CNOTs, and its value depends on three of four parameters:

- least sum: the cost with equal shots and the coefficients of the least sum |c|, computed from the
  true variances;
- equal: the same with the best plan for equal shots;
- by plan: the cost with shots of their own, of the plan for unit variances, computed likewise;
- floor: the least that the coefficients of this plan allow, with shots by the true variances;
- pilot: what repetitions with a pilot share of 15 per cent cost, and the error of this number;
- bias: the part of it that averages over all repetitions leave, in per cent;
- by order: what repetitions cost where value, gradient and Hessian are asked for one after the
  other, each with the same total.

The angles are near a maximum, where most values vary little; elsewhere; or all alike, where "least
sum" is a given number.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pennylane as qml
import tensorflow as tf

import qshift
from qshift.rules.planner import Frequencies, multi_indices
from qshift.rules.sampled_plans import planner

NEAR_ONE = "near a maximum"
ALIKE = "all alike"
ANGLES = {
    NEAR_ONE: np.full(4, 0.24),
    "elsewhere": np.array([0.4, -1.1, 0.7, 2.0]),
    ALIKE: np.ones(4),
}


class Case(NamedTuple):
    """A product of functions of one parameter each.

    Attributes:
        name: What the table calls it.
        p: The number of parameters.
        repeats: How many rotations share each of them; 0 for one controlled rotation.
        order: The highest order that is wanted.
        alike: The angle that all parameters have in the rows of this name; 0 for none.
        shots: Shots of a circuit on the average.
        ring: Whether CNOTs lead around all wires, before the first is measured.
    """

    name: str
    p: int
    repeats: int
    order: int
    alike: float = 0.0
    shots: int = 300
    ring: bool = False

    @property
    def spectrum(self) -> tuple[float, ...]:
        return tuple(map(float, range(1, self.repeats + 1))) if self.repeats else (0.5, 1.0)

    def function(self, x: tf.Tensor) -> object:
        """The circuit."""
        observables = [qml.Z(j) for j in range(self.p)]
        for j in range(self.p):
            for k in range(self.repeats):
                qml.RX(x[..., j], wires=j)
                if k + 1 < self.repeats:
                    qml.RZ(1.1 + 0.3 * k, wires=j)
            if not self.repeats:
                control = self.p + j
                qml.RY(1.2, wires=control)
                qml.CRX(x[..., j], wires=[control, j])
                qml.RY(-1.2, wires=control)
                observables.append(qml.Z(control))
        if self.ring:
            for j in range(self.p):
                qml.CNOT(wires=[j, (j + 1) % self.p])
            return qml.expval(observables[0])
        return qml.expval(qml.prod(*observables))

    def angles(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the angles of the rows of the table, and what it calls them."""
        for where, angles in ANGLES.items():
            scale = {NEAR_ONE: 1 / self.spectrum[-1], ALIKE: self.alike}.get(where, 1.0)
            if scale:
                yield where, scale * angles[: self.p]


CASES = [
    Case("one frequency, 4 parameters", 4, 1, 2, alike=0.2270),
    Case("frequencies 1/2 and 1, 4 parameters", 4, 0, 2, alike=1.7508),
    Case("frequencies 1 to 4, 2 parameters", 2, 4, 2, alike=1.4803),
    Case("frequencies 1 to 10, 2 parameters, gradient", 2, 10, 1, alike=1.8021),
    Case("frequencies 1 to 10, 2 parameters", 2, 10, 2, alike=1.8820, shots=150),
    Case("one frequency, 4 parameters, in a ring", 4, 1, 2, alike=0.3707, ring=True),
]


def computed(case: Case, x: np.ndarray, exact: Callable, spread: str | None) -> tuple[float, float]:
    """Returns the cost of a plan for unit variances, and the least that its coefficients allow,
    both with the true variances. Without a spread, the plan is that of the least sum |c|."""
    cones = np.ones((1, case.p), dtype=bool)
    plans = planner([Frequencies(case.spectrum)] * case.p, cones, "shots", spread)
    wanted = [multi_indices(range(case.p), k) for k in range(case.order + 1)]
    step = plans.root.request(tuple(itertools.chain(*wanted)))
    points = np.tile(x, (len(step.node.points), 1))
    for row, point in zip(points, step.node.points, strict=True):
        for j, _, shift in point:
            row[j] += shift
    sizes = np.asarray(step.coefficients.power(2).sum(axis=0))
    sizes = sizes * (1 - exact(tf.constant(points)).numpy() ** 2)
    shots = np.ones(len(sizes)) if spread is None else step.node.shots
    return float(shots.sum() * (sizes / shots).sum()), float(np.sqrt(sizes).sum() ** 2)


def measured(
    case: Case,
    x: np.ndarray,
    node: qshift.QNode,
    exact: qshift.QNode,
    repetitions: int,
    apart: bool,
) -> tuple[float, float, float]:
    """Returns the cost, its standard error, and the part of it that is bias, by repetitions."""
    entries = [
        [np.ravel_multi_index(index, (case.p,) * k) if k else 0 for index in indices]
        for k, indices in enumerate(multi_indices(range(case.p), k) for k in range(case.order + 1))
    ]
    wanted = [(0,) * k for k in range(case.order + 1)]

    def derivatives(function: qshift.QNode, rows: int) -> np.ndarray:
        points = tf.constant(np.tile(x, (rows, 1)))
        if apart:
            found = by_order(function, points, case.order)
        else:
            found = qshift.derivatives(function, points, partials=wanted, batched=0)
        flat = [np.reshape(each, (rows, -1)) for each in found]
        return np.hstack([each[:, some] for each, some in zip(flat, entries, strict=True)])

    with qshift.Tracker() as tracker:
        samples = derivatives(node, repetitions)
    truth = derivatives(exact, 1)
    shots = tracker.totals["shots"] / repetitions
    squares = shots * ((samples - truth) ** 2).sum(axis=1)
    cost, error = squares.mean(), squares.std() / math.sqrt(repetitions)
    offsets = shots * ((samples.mean(axis=0) - truth) ** 2).sum()
    # The mean of repetitions differs from the truth also by chance.
    return float(cost), float(error), float(offsets - cost / repetitions)


def by_order(function: qshift.QNode, points: tf.Tensor, order: int) -> list[tf.Tensor]:
    """Returns value, gradient and Hessian, by nested tapes."""
    if not order:
        return [function(points)]
    with tf.GradientTape() as tape:
        tape.watch(points)
        lower = by_order(function, points, order - 1)
        last = tf.reshape(lower[-1], [len(points), -1])
    return [*lower, tape.batch_jacobian(last, points)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="only the case with this number, from 0")
    parser.add_argument("--angles", choices=ANGLES, help="only the rows with these angles")
    given = parser.parse_args()
    cases = CASES if given.case is None else [CASES[given.case]]
    device = qshift.device("simulator")
    print("| function | angles | least sum | equal | by plan | floor | pilot | bias | by order |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = [(case, *row) for case in cases for row in case.angles()]
    for case, where, x in rows:
        if given.angles not in (None, where):
            continue
        exact = qshift.QNode(case.function, device)
        least, _ = computed(case, x, exact, None)
        equal, _ = computed(case, x, exact, "equal")
        plan, floor = computed(case, x, exact, "own")
        shots = qshift.Shots(per_circuit=case.shots, pilot=0.15)
        node = qshift.QNode(case.function, device, shots=shots, seed=given.seed)
        cost, error, bias = measured(case, x, node, exact, given.repetitions, False)
        total = case.shots * node.plan(tf.constant(x), order=case.order).circuits // 2
        node = node.update(shots=qshift.Shots(total=total // (case.order + 1)))
        apart, _, _ = measured(case, x, node, exact, given.repetitions, True)
        print(
            f"| {case.name} | {where} | {least:,.5g} | {equal:,.5g} | {plan:,.5g} | {floor:,.5g} "
            f"| {cost:,.5g} ± {error:,.2g} | {100 * bias / cost:.2f} % | {apart:,.5g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
