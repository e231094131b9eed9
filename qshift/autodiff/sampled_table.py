"""The values of one call from samples, with a number of shots for each point, and their errors.

With a pilot share, a first batch takes a part of each point's shots and estimates the variances of
the values; a second batch spreads the others accordingly. The value of a point is the average of
both, weighted by the shots that the plan has for them. The plan knows none of the samples, so the
average is unbiased, which that of all samples alike is not: a point whose first samples seem to
vary little gets few more. Where an error is wanted, the second batch is as large as that takes.

Where there are fewer shots than points need, the points are chosen at random, with the chances that
the plan's shots are for them. Of what is drawn at a point, the difference from the value's constant
is divided by the number of shots that the point gets on the average, and a point without shots has
the constant: the derivatives stay unbiased. One random number decides about all points, in the
order of the plan (systematic sampling), so that the points of each derivative get their share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qshift.autodiff.evaluation import Table
from qshift.executors.seeding import fractions
from qshift.rules.allocation import whole
from qshift.rules.planner import Index, PlanNode, Point, Step
from qshift.rules.rounding import rounded, sizes
from qshift.rules.shifting import Shifter
from qshift.rules.shots import LEAST, LEAST_PILOT, Shots

_LEAST_LEFT = 0.1  # of the variance that is wanted, for new samples


class SampledTable(Table):
    """A table of values from samples, with a number of shots for each point.

    The function that `partials` is given takes the shots int64[N] of points as well. With errors,
    it returns behind the values of each point their variances, or all their covariances.

    Args:
        values: M, the number of values at one point.
        parameters: As for `Table`.
        node: An empty plan.
        shifted: Moves the parameters to the points of a plan.
        shots: The shots; a pilot share needs errors.
        seed: Decides together with `number`, `name` and the parameters how shots are rounded; None
            for chance.
        number: The number of the call.
        errors: How many numbers behind the values of a point say how large their errors are: none,
            M variances, or M * M covariances.
        observed: Whether the covariances are wanted, and results that have been read must stay what
            they are in the table, so that no point is run again for more shots.
        of_one: Where an error is wanted, the typical and the largest variance of one outcome of
            each value, float64[M] each.
        numbers: Which numbers of shots the device takes, see `qshift.rules.rounding`.
        bases: In how many bases the shots are drawn; for messages.
        name: What tells the circuit from others.
        constants: float64[M], the parts of values that do not depend on the state, see
            `qshift.executors.variances.constants`. They need no samples.
    """

    __slots__ = (
        "_bases",
        "_chance",
        "_constants",
        "_errors",
        "_kind",
        "_observed",
        "_of_one",
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
    ) -> None:
        super().__init__((values,), parameters, node, shifted)
        self._constants = constants
        self._chance = seed, number, name + parameters.tobytes()
        self._shots, self._kind = shots, numbers
        self._bases, self._of_one = bases, of_one
        self._errors, self._observed = errors, observed
        self._variances = np.empty((0, len(parameters), errors)) if errors else None
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
        return np.einsum("ak,knm->kanm", self.combination(indices), np.sqrt(self._variances))

    def combination(self, indices: tuple[Index, ...]) -> np.ndarray:
        """See `Table`."""
        return self._node.step(indices).coefficients.toarray()

    def variance(self, slopes: np.ndarray, rows: np.ndarray) -> float:
        """See `Table`. A value that is no number counts only where the function depends on it."""
        assert self._variances is not None, "values come without covariances"
        used, count = (slopes != 0).any(axis=2), slopes.shape[2]
        covariances = self._variances[: len(slopes), rows].reshape(*slopes.shape, count)
        each = np.einsum("knm,knml,knl->kn", slopes, covariances, slopes)
        return float(each[used].sum())

    def _run(self, step: Step, indices: tuple[Index, ...], function: Callable) -> None:
        """Runs the points of a step, each with its own number of shots.

        Raises:
            ValueError: If there are too few shots for that.
        """
        new, old, shots = len(step.new_points), self._node.points, self._shots
        again = shots.again(step)[: 0 if self._observed else None]
        points = (*step.new_points, *(old[k] for k in again.tolist()))
        wanted = self._wanted(step, again)
        in_all = wanted.sum()
        planned = np.repeat(wanted[:, None], len(self.parameters), axis=1)
        if step.shots is not None and not shots.are_too_few(in_all, len(points)):
            planned = rounded(planned, self._offsets(0), shots.least, self._kind).astype(float)
        part = np.ones((*planned.shape, 1))  # of the new samples in the values
        part[new:] = planned[new:, :, None] / (self._sampled[again] + planned[new:, :, None])
        if shots.are_too_few(in_all, len(points)):
            values, variances = self._at_random(points, planned, function)
        elif shots.has_pilot(in_all, len(points)):
            places = np.append(np.arange(len(old), len(old) + new), again)
            importance = self._importance(step, indices)
            allowed = None
            if shots.error is not None:
                kept = np.ones((len(old), *part.shape[1:]))
                kept[again] = (1 - part[new:]) ** 2
                allowed = self._allowed(importance[:, : len(old)], kept, indices)
            weights = importance[:, places, None] * part[:, :, 0] ** 2
            numbers = planned.astype(np.int64)
            values, variances = self._in_two_batches(points, numbers, weights, allowed, function)
        else:
            values, variances = self._drawn(points, planned.astype(np.int64), function)
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
        shots, bases = self._shots, self._bases
        wanted = shots.wanted(step, again)
        if step.shots is None:
            return wanted
        if self._observed and len(again) < len(step.again):
            wanted *= step.shots.sum() * shots.number / wanted.sum()
        measured = f", measured in {bases} bases," if bases > 1 else ""
        if shots.least > LEAST and shots.are_too_few(wanted.sum(), len(wanted)):
            raise ValueError(
                f"A batch of {len(wanted)} circuits{measured} takes {bases * shots.number} shots "
                f"in all, less than {shots.least} for each. Give Shots(total="
                f"{bases * shots.least * len(wanted)}) or more, a smaller least, or "
                "Shots(per_circuit=...)."
            )
        return wanted

    def _offsets(self, batch: int) -> np.ndarray:
        """Returns float64[N] in [0, 1), by which the shots of a batch are rounded."""
        return fractions(*self._chance, (len(self._values), batch), len(self.parameters))

    def _importance(self, step: Step, indices: tuple[Index, ...]) -> np.ndarray:
        """Returns float64[M, K]: by how much more than the variance of each value at each point the
        summed variance of derivatives grows."""
        mask = self._node.planner.mask(indices).astype(float)
        return np.asarray(mask @ step.coefficients.power(2))

    def _at_random(
        self, points: Sequence[Point], planned: np.ndarray, function: Callable
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws samples at points that are chosen at random.

        Args:
            points: K points.
            planned: float64[K, N], the shots that they get on the average.
            function: As for `partials`.

        Returns:
            Values and variances, float64[K, N, M].
        """
        numbers = whole(planned, self._offsets(0), 0)
        values, variances = self._drawn(points, numbers, function)
        values = values - self._constants
        expected, times = planned[:, :, None], (numbers / planned)[:, :, None]
        # How much the numbers of shots vary. That those of neighbours vary together is left out.
        chance = (expected % 1.0) * (1 - expected % 1.0) / expected**2
        squares = values**2
        if self._observed:
            squares = np.einsum("knm,knl->knml", values, values).reshape(variances.shape)
        values = self._constants + times * values
        values[:, ~np.isfinite(self.parameters).all(axis=1)] = np.nan  # also if none of it was run
        return values, times**2 * variances + times * chance * squares

    def _allowed(
        self, importance: np.ndarray, kept: np.ndarray, indices: tuple[Index, ...]
    ) -> np.ndarray:
        """Returns what summed variance new samples may have for the error that is wanted,
        float64[N].

        Args:
            importance: float64[M, K], of the variances of the K old values.
            kept: float64[K, N, 1], which part of these variances stays.
            indices: The derivatives.
        """
        assert self._shots.error is not None and self._variances is not None
        typical, _ = self._scales()
        wanted = self._node.planner.mask(indices).sum() * self._shots.error**2 * typical
        held = np.einsum("mk,knm->n", importance, kept * self._of_each(self._variances))
        # Not reached only if old values vary more than they seemed to, or must stay what they are.
        return np.maximum(wanted - held, _LEAST_LEFT * wanted)

    def _of_each(self, variances: np.ndarray) -> np.ndarray:
        """Returns the variances of M values, given these or all covariances."""
        return variances[:, :, :: self._values.shape[2] + 1] if self._observed else variances

    def _scales(self) -> tuple[float, float]:
        """Returns the typical and the largest variance of one outcome, of all values."""
        assert self._of_one is not None
        typical, largest = (float(each.max(initial=0.0)) for each in self._of_one)
        return typical or 1.0, largest or 1.0

    def _in_two_batches(
        self,
        points: Sequence[Point],
        numbers: np.ndarray,
        importance: np.ndarray,
        allowed: np.ndarray | None,
        function: Callable,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws a part of the samples, and spreads the others by the variances of these.

        Args:
            points: K points.
            numbers: int64[K, N], the shots that the plan has for them.
            importance: float64[M, K, N], of the variance of each value.
            allowed: float64[N], the summed variance that is allowed; None for as many shots as are
                planned.
            function: As for `partials`.

        Returns:
            Values and variances, float64[K, N, M].
        """
        least, share, planned = self._shots.least, self._shots.pilot or 1.0, numbers
        size = sizes(numbers, self._kind)
        if allowed is not None:
            # As many as the largest variances would take, so that the first are not too many.
            typical, largest = self._scales()
            planned = np.maximum(np.ceil(numbers * (largest / typical)), 2 * LEAST_PILOT)
            numbers = np.maximum(numbers, LEAST_PILOT / share)
        first = size * np.ceil(np.maximum(np.ceil(share * numbers), least) / size)
        if allowed is None:
            first = np.minimum(first, planned)
        planned, first = np.maximum(planned, first), first.astype(np.int64)
        values, variances = self._drawn(points, first, function)
        part = first / planned  # not by the shots of the second batch, which depend on these values
        of_each = self._of_each(variances)
        wanted = np.einsum("mkn,knm->kn", importance, of_each * first[:, :, None])
        wanted = (1 - part) * np.sqrt(np.where(np.isfinite(wanted), wanted, 0.0))
        in_all = (planned - first).sum(axis=0)
        if allowed is not None:
            owed = np.einsum("mkn,knm->kn", importance, of_each) * part**2
            rest = np.maximum(allowed - owed.sum(axis=0), _LEAST_LEFT * allowed)
            # Where angles are no numbers, nothing is run.
            in_all = np.ceil(wanted.sum(axis=0) ** 2 / np.where(np.isfinite(rest), rest, 1.0))
        wanted = np.where(wanted.any(axis=0), wanted, planned - first)
        wanted *= in_all / np.maximum(wanted.sum(axis=0), 1e-300)
        second = rounded(wanted, self._offsets(1), np.where(part < 1, least, 0), self._kind)
        more, their_variances = self._drawn(points, second, function)
        # The larger batch says more about the variance of a shot.
        larger = (second > first)[:, :, None]
        of_one = np.where(
            larger, second[:, :, None] * their_variances, first[:, :, None] * variances
        )
        shares = part**2 / first + (1 - part) ** 2 / np.maximum(second, 1)
        part = part[:, :, None]
        return part * values + (1 - part) * more, of_one * shares[:, :, None]

    def _drawn(
        self, points: Sequence[Point], numbers: np.ndarray, function: Callable
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns values and variances, float64[K, N, M], of new samples; zeros where there are
        none, and no variances if values come without."""
        parameters, shots = self._shifted(self.parameters, points), numbers.ravel()
        run, count = shots > 0, self._values.shape[2]
        found = np.zeros((len(shots), count + self._errors))
        found[run] = function(parameters[run], shots[run])
        found = found.reshape(*numbers.shape, found.shape[1])
        return found[:, :, :count], found[:, :, count:]
