"""The values of one call from samples, with a number of shots for each point, and their errors.

`qshift.autodiff.drawing` says how samples are drawn, and why results are unbiased: neither the
coefficients nor the weights of samples depend on these samples. Shots may: their numbers follow
from what was drawn before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qshift.autodiff.drawing import LEAST_LEFT, Drawing
from qshift.autodiff.evaluation import Table
from qshift.autodiff.pulled_samples import PulledSums
from qshift.rules.planner import Index, PlanNode, Step
from qshift.rules.shifting import Shifter
from qshift.rules.shots import LEAST, Shots


class SampledTable(Table):
    """A table of values from samples, with a number of shots for each point.

    The function that `partials` is given takes the shots int64[N] of points as well. With errors,
    it returns behind the values of each point what says how large these are, see `Drawing`.

    Args:
        values: M, the number of values at one point.
        parameters: As for `Table`.
        node: An empty plan.
        shifted: Moves the parameters to the points of a plan.
        shots: The shots; a pilot share needs errors.
        seed: Decides together with `number`, `name` and the parameters how shots are rounded; None
            for chance.
        number: The number of the call.
        errors: As for `Drawing`.
        observed: Whether the covariances are wanted, and results that have been read must stay what
            they are in the table, so that no point is run again for more shots.
        of_one: Where an error is wanted, the typical and the largest variance of one outcome of
            each value, float64[M] each.
        numbers: Which numbers of shots the device takes, see `qshift.rules.rounding`.
        bases: In how many bases the shots are drawn; for messages.
        name: What tells the circuit from others.
        constants: float64[M], the parts of values that do not depend on the state, see
            `qshift.executors.variances.constants`. They need no samples.
        choices: As for `Drawing`.
    """

    __slots__ = (
        "_bases",
        "_draw",
        "_is_chosen",
        "_later",
        "_observed",
        "_sampled",
        "_shots",
        "_variances",
    )

    def __init__(
        self,
        values: int,
        parameters: np.ndarray,
        node: PlanNode,
        shifted: Shifter,
        shots: Shots,
        seed: int | Sequence[int] | None = None,
        number: int = 0,
        errors: int = 0,
        observed: bool = False,
        of_one: tuple[np.ndarray, np.ndarray] | None = None,
        numbers: str = "any",
        bases: int = 1,
        name: bytes = b"",
        constants: np.ndarray | float = 0.0,
        choices: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__((values,), parameters, node, shifted)
        chance = seed, number, name + parameters.tobytes()
        self._draw = Drawing(shots, values, errors, chance, numbers, of_one, constants, choices)
        self._shots, self._bases, self._observed = shots, bases, observed
        self._variances = np.empty((0, len(parameters), errors)) if errors else None
        self._is_chosen = False
        # If gradients follow: the shots of the value and of all, the number of other points, and
        # how many of these were run.
        self._later: tuple[float, float, int, int] | None = None
        # The shots of the points, as they were planned.
        self._sampled = np.empty((0, len(parameters), 1))

    @property
    def nbytes(self) -> int:
        held = self._values, self._variances, self._sampled
        return sum(each.nbytes for each in held if each is not None)

    def deviations(self, indices: tuple[Index, ...]) -> np.ndarray:
        """Returns what one standard deviation of the value at each point changes in partial
        derivatives that were asked for before, float64[K, len(indices), N, M]."""
        assert self._variances is not None, "values come without variances"
        deviations = np.sqrt(self._draw.of_each(self._variances))
        return np.einsum("ak,knm->kanm", self.combination(indices), deviations)

    def combination(self, indices: tuple[Index, ...]) -> np.ndarray:
        """See `Table`."""
        return self._node.step(indices).coefficients.toarray()

    def covariances(self, points: int, columns: Sequence[int]) -> np.ndarray:
        """See `Table`."""
        assert self._variances is not None, "values come without covariances"
        count = self._values.shape[2]
        every = self._variances[:points, :, : count * count]
        every = every.reshape(points, len(self.parameters), count, count)
        return every[:, :, columns][:, :, :, columns]

    def excess(self, points: int, columns: Sequence[int]) -> np.ndarray:
        """Returns what products of values are on the average too large by, float64[K, N, C, C]:
        estimates of their covariances without a bias, where a point has several outcomes.

        `covariances` are too large for this: outcomes were added, which a state may hardly have.
        They are taken off again. Nothing is known where points were chosen at random.
        """
        found = self.covariances(points, columns)
        if self._is_chosen:
            return np.zeros_like(found)
        assert self._variances is not None
        each, shots = np.arange(len(columns)), self._sampled[:points, :, :, None]  # [K, N, 1, 1]
        found[..., each, each] -= self._draw.added(self._variances[:points])[:, :, columns]
        return np.where(shots >= 2, found * shots / np.maximum(shots - 1, 1), 0.0)

    def variance(self, slopes: np.ndarray, rows: np.ndarray) -> float:
        """See `Table`. A value that is no number counts only where the function depends on it."""
        assert self._variances is not None, "values come without covariances"
        used, count = (slopes != 0).any(axis=2), slopes.shape[2]
        covariances = self._variances[: len(slopes), rows, : count * count]
        covariances = covariances.reshape(*slopes.shape, count)
        each = np.einsum("knm,knml,knl->kn", slopes, covariances, slopes)
        return float(each[used].sum())

    def sums(
        self, indices: tuple[Index, ...], weights: np.ndarray, function: Callable
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns weighted sums of partial derivatives, for which the shots are spread, and their
        variances, both float64[N, B]; without errors, the variances are zeros.

        Args:
            indices: The partial derivatives.
            weights: float64[B, M, len(indices)].
            function: As for `partials`.
        """
        step = self._node.contracted(indices, weights)  # type: ignore[attr-defined]
        rows = step.coefficients.toarray().reshape(*weights.shape[:2], step.coefficients.shape[1])
        if step.new_points:
            self._sample(step, (rows**2).sum(axis=0), float(len(weights)), function)
            self._node = step.node
        found = np.einsum("bmk,knm->nb", rows, self._values)
        if self._variances is None:
            return found, np.zeros_like(found)
        return found, np.einsum("bmk,knm->nb", rows**2, self._draw.of_each(self._variances))

    def steered(
        self, indices: tuple[Index, ...], weigh: Callable[[np.ndarray], np.ndarray], function: Any
    ) -> np.ndarray:
        """Returns what `partials` does, after a first share of the shots has said what the others
        are to serve.

        Args:
            indices: The partial derivatives.
            weigh: From partial derivatives float64[N, M, len(indices)] to the weights
                float64[N, B, M, len(indices)] of sums of them, whose variances count.
            function: As for `partials`, of values with variances.
        """
        step = self._node.step(indices)
        if step.new_points:
            importance, count = self._importance(step, indices)
            mask = self._node.planner.mask(indices)

            def of_first(values: np.ndarray) -> np.ndarray:
                found = step.coefficients @ values.reshape(len(values), -1)
                found = found.reshape(len(indices), *values.shape[1:]).transpose(1, 2, 0)
                weights = weigh(found) * mask
                rows = weights.reshape(-1, len(indices)) @ step.coefficients
                squares = (rows**2).reshape(*weights.shape[:3], len(values)).sum(axis=1)
                return squares.transpose(1, 2, 0)

            self._sample(step, importance, count, function, of_first)
            self._node = step.node
        return self.partials(indices, function)

    def expect(self, indices: tuple[Index, ...]) -> None:
        """Is told of partial derivatives that will be pulled back. The value, and these together,
        then take as many shots as if all were asked for in one batch."""
        if self._later is None and not len(self._values):
            step = self._node.step(((), *indices))
            if step.shots is not None and () in step.new_points and len(step.new_points) > 1:
                value = float(step.shots[step.new_points.index(())])
                self._later = value, float(step.shots.sum()), len(step.new_points) - 1, 0

    def pulled(
        self,
        lower: tuple[Index, ...],
        weights: np.ndarray,
        indices: tuple[Index, ...],
        function: Callable,
    ) -> np.ndarray | None:
        """Returns derivatives of a weighted sum of partial derivatives, from samples that are drawn
        for these weights, and that nothing else is read off.

        All rows with weights together take as many shots as if each took those of the plan.

        Args:
            lower: The partial derivatives; A of them.
            weights: float64[N, M, A].
            indices: The partial derivatives one order up that the derivatives are sums of.
            function: As for `partials`.

        Returns:
            float64[N, P], the derivatives by the parameters that `indices` are meant for; None
            where these had better be read, as they take no samples, or have no finite weights.
        """
        step, shots, planner = self._node.step(indices), self._shots, self._node.planner
        if step.shots is None or not step.new_points or not np.isfinite(weights).all():
            return None
        rows, new, count = len(self.parameters), len(step.new_points), self._values.shape[2]
        sums = PulledSums(lower, weights, indices, planner.mask(indices))
        importance = sums.importance(step.coefficients)[-new:].reshape(new * rows, count)
        roots = np.sqrt(importance.sum(axis=1))
        used = np.flatnonzero(roots)
        budget = np.full(rows, shots.number * step.shots.sum())  # of each row
        if self._later and len(self._values) and lower == ((),):
            value, both, others, before = self._later
            rest, after = shots.number * both - self._sampled[0, :, 0], before + new
            marks = [np.round(rest * n / others, 6) for n in (before, after)]
            if not shots.are_too_few(shots.number * both, others + 1):
                # In whole numbers, so that the shots of all parts of a gradient add up.
                marks = list(map(np.floor, marks))
            budget, self._later = marks[1] - marks[0], (value, both, others, after)
        in_all = budget[(roots.reshape(new, rows) > 0).any(axis=0)].sum()
        wanted = roots[used] * (in_all / max(roots.sum(), 1e-300))
        if shots.least > LEAST and shots.are_too_few(wanted.sum(), len(used)):
            return None
        values = np.zeros((new * rows, count))
        if len(used):
            batch = len(self._values), 2  # others than those of the table
            planned = self._draw.planned(wanted, 1, batch)
            points = self._shifted(self.parameters, step.new_points)[used]
            served = importance[used].T[:, :, None]
            values[used] = self._draw(points, wanted, planned, served, batch, function)[0][:, 0]
        every = np.concatenate([self._values, values.reshape(new, rows, count)])
        found = step.coefficients @ every.reshape(len(every), rows * count)
        result = np.zeros((rows, len(planner.spectra)))
        result[:, sums.columns] = sums.of(found.reshape(len(indices), rows, count))
        return result

    def _run(self, step: Step, indices: tuple[Index, ...], function: Callable) -> None:
        self._sample(step, *self._importance(step, indices), function)

    def _sample(
        self,
        step: Step,
        importance: np.ndarray,
        count: float,
        function: Callable,
        of_first: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Runs the points of a step, each with its own number of shots.

        Args:
            step: The step.
            importance: float64[M, K]: by how much more than the variance of each value at each
                point the summed variance of all that is wanted grows.
            count: How many results that is.
            function: As for `partials`.
            of_first: From values of a first share of the shots, float64[K, N, M], to another
                importance float64[M, K, N] for the other shots; None for none.

        Raises:
            ValueError: If there are too few shots for that.
        """
        new, old, shots = len(step.new_points), self._node.points, self._shots
        again = shots.again(step)[: 0 if self._observed else None]
        points = (*step.new_points, *(old[k] for k in again.tolist()))
        wanted = self._wanted(step, again)
        batch = len(self._values), 0
        planned = np.repeat(wanted[:, None], len(self.parameters), axis=1)
        self._is_chosen |= shots.are_too_few(wanted.sum(), len(wanted))
        if step.shots is not None:
            planned = self._draw.planned(wanted, len(self.parameters), batch)
        part = np.ones((*planned.shape, 1))  # of the new samples in the values
        part[new:] = planned[new:, :, None] / (self._sampled[again] + planned[new:, :, None])
        allowed = None
        if shots.error is not None:
            kept = np.ones((len(old), *part.shape[1:]))
            kept[again] = (1 - part[new:]) ** 2
            allowed = self._allowed(importance[:, : len(old)], kept, count)
        places = np.append(np.arange(len(old), len(old) + new), again)
        size = part[:, :, 0] ** 2

        def of_new(values: np.ndarray) -> np.ndarray:
            assert of_first is not None
            return of_first(np.concatenate([self._values, values[:new]]))[:, places] * size

        served: Any = of_new if of_first is not None else importance[:, places, None] * size

        parameters = self._shifted(self.parameters, points)
        values, variances = self._draw(
            parameters, wanted, planned, served, batch, function, allowed
        )
        values, variances = part * values, part**2 * variances
        if len(again):
            rest = 1 - part[new:]
            self._values[again] = rest * self._values[again] + values[new:]
            self._sampled[again] += planned[new:, :, None]
            if self._variances is not None:
                self._variances[again] = rest**2 * self._variances[again] + variances[new:]
        self._values = np.concatenate([self._values, values[:new]])
        if self._variances is not None:
            self._variances = np.concatenate([self._variances, variances[:new]])
        self._sampled = np.concatenate([self._sampled, planned[:new, :, None]])

    def _wanted(self, step: Step, again: np.ndarray) -> np.ndarray:
        """Returns the shots of new points and of those that are run again, float64[K].

        Raises:
            ValueError: If there are too few shots for a least number that was given.
        """
        shots = self._shots
        wanted = shots.wanted(step, again)
        if step.shots is None:
            return wanted
        if self._later and not len(self._values):
            if step.new_points == ((),):
                wanted *= self._later[0]
            else:  # more than the value is read at once
                self._later = None
        if self._observed and len(again) < len(step.again):
            wanted *= step.shots.sum() * shots.number / wanted.sum()
        if shots.least > LEAST and shots.are_too_few(wanted.sum(), len(wanted)):
            otherwise = "a smaller least, or Shots(per_circuit=...)"
            raise shots.too_few(len(wanted), self._bases, otherwise)
        return wanted

    def _importance(self, step: Step, indices: tuple[Index, ...]) -> tuple[np.ndarray, float]:
        """Returns float64[M, K]: by how much more than the variance of each value at each point the
        summed variance of derivatives grows; and how many of them may not be zero."""
        mask = self._node.planner.mask(indices)
        return np.asarray(mask.astype(float) @ step.coefficients.power(2)), float(mask.sum())

    def _allowed(self, importance: np.ndarray, kept: np.ndarray, count: float) -> np.ndarray:
        """Returns what summed variance new samples may have for the error that is wanted,
        float64[N].

        Args:
            importance: float64[M, K], of the variances of the K old values.
            kept: float64[K, N, 1], which part of these variances stays.
            count: How many results have this error, as a root mean square.
        """
        assert self._shots.error is not None and self._variances is not None
        typical, _ = self._draw.scales()
        wanted = count * self._shots.error**2 * typical
        of_each = self._draw.for_spreading(self._variances)
        held = np.einsum("mk,knm->n", importance, kept * of_each)
        # Not reached only if old values vary more than they seemed to, or must stay what they are.
        return np.maximum(wanted - held, LEAST_LEFT * wanted)
