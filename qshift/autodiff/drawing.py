"""Samples at the points of a batch, which take planned numbers of shots: all at once, in two
batches, or at points chosen at random.

With a pilot share, a first batch takes a part of each point's shots and estimates the variances of
the values; a second batch spreads the others accordingly. The value of a point is the average of
both, weighted by the shots that the plan has for them. The plan knows none of the samples, so the
average is unbiased, which that of all samples alike is not: a point whose first samples seem to
vary little gets few more. Where an error is wanted, the second batch is as large as that takes.
Of the outcomes that errors assume besides those of the samples, spreading shots takes half as many:
with all of them, squared errors near a maximum would be 3 to 5 % larger.
Where the first batch says what matters, some shots stay where it seems not to, as a function of the
values may bend or jump: their errors are up to twice those of all alike, not more.

Where there are fewer shots than points need, the points are chosen at random, with the chances that
the plan's shots are for them. Of what is drawn at a point, the difference from the value's constant
is divided by the number of shots that the point gets on the average, and a point without shots has
the constant: the derivatives stay unbiased. One random number decides about all points, in the
order of the plan (systematic sampling), so that the points of each derivative get their share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np

from qshift.executors.seeding import fractions
from qshift.rules.allocation import at_least, whole
from qshift.rules.rounding import first_share, rounded, sizes
from qshift.rules.shots import LEAST_PILOT, PILOT, Shots

_KEPT = 0.25  # of a point's further shots, whatever a first batch has found
LEAST_LEFT = 0.1  # of the variance that is wanted, for new samples
_ASSUMED = 0.5  # of what outcomes that were added add to a variance, where shots are spread


class Drawing:
    """How a call draws samples.

    Batches have K points for each of N columns: `parameters` are float64[K * N, P], the columns of
    the first point first, and shots are spread within each column. The `function` takes points
    float64[R, P] and shots int64[R] to values, and to what says how large their errors are.

    Args:
        shots: The shots; a pilot share needs errors.
        count: M, the number of values at one point.
        errors: How many numbers behind the values of a point say how large their errors are: none;
            or M variances, or M * M covariances, and then M numbers that say how much of the
            variances is there because outcomes were added.
        chance: A seed, or None; the number of the call; and what else tells it from others. They
            decide how shots of any number are rounded.
        choices: choices(what tells the call from others, its number, batch, N) is a context that
            gives random numbers float64[N], which choose points; None for those of `chance`.
        numbers: Which numbers of shots the device takes, see `qshift.rules.rounding`.
        of_one: Where an error is wanted, the typical and the largest variance of one outcome of
            each value, float64[M] each.
        constants: float64[M], the parts of values that do not depend on the state, see
            `qshift.executors.variances.constants`. They need no samples.
    """

    __slots__ = (
        "_chance",
        "_choices",
        "_constants",
        "_count",
        "_errors",
        "_kind",
        "_of_one",
        "_shots",
    )

    def __init__(
        self,
        shots: Shots,
        count: int,
        errors: int,
        chance: tuple[int | Sequence[int] | None, int, bytes],
        numbers: str = "any",
        of_one: tuple[np.ndarray, np.ndarray] | None = None,
        constants: np.ndarray | float = 0.0,
        choices: Callable[..., AbstractContextManager[np.ndarray]] | None = None,
    ) -> None:
        self._choices = choices
        self._shots, self._count, self._errors = shots, count, errors
        self._chance, self._kind, self._of_one = chance, numbers, of_one
        self._constants = constants

    def planned(self, wanted: np.ndarray, columns: int, batch: Sequence[int]) -> np.ndarray:
        """Returns numbers of shots float64[K, N], given those that are wanted, float64[K]; whole
        ones, unless points have to be chosen.

        Args:
            wanted: The numbers.
            columns: N.
            batch: Which batch of the call.
        """
        each = np.repeat(wanted[:, None], columns, axis=1)
        if self._shots.are_too_few(wanted.sum(), len(wanted)):
            return each
        return self._rounded(each, batch, self._shots.least).astype(float)

    def __call__(
        self,
        parameters: np.ndarray,
        wanted: np.ndarray,
        planned: np.ndarray,
        importance: np.ndarray | Callable[[np.ndarray], np.ndarray],
        batch: Sequence[int],
        function: Callable,
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws samples.

        Args:
            parameters: The points.
            wanted: float64[K], the shots that are wanted in a column.
            planned: float64[K, N], these as `planned` has them.
            importance: float64[M, K, N], by how much more than the variance of each value the
                summed variance of what is wanted grows; or a function that finds it from the values
                of a first share of the shots, float64[K, N, M]. Then there is one if the shots
                suffice.
            batch: Which batch of the call.
            function: As above.
            allowed: float64[N], the summed variance that is allowed; None for as many shots as are
                planned.

        Returns:
            Values and variances, float64[K, N, M].
        """
        in_all, circuits, shots = float(wanted.sum()), len(wanted), self._shots
        if shots.are_too_few(in_all, circuits):
            return self._at_random(parameters, planned, batch, function)
        if callable(importance):
            shots = replace(shots, pilot=shots.pilot or PILOT)
        if shots.has_pilot(in_all, circuits):
            least, share = shots.least, shots.pilot or 1.0
            return self._in_two_batches(
                parameters, planned, importance, least, share, batch, function, allowed
            )
        return self._drawn(parameters, planned.astype(np.int64), function)

    def of_each(self, variances: np.ndarray) -> np.ndarray:
        """Returns the variances of M values, given these or all covariances, and what was added."""
        size = self._errors - self._count
        return variances[:, :, : size : self._count + 1 if self._is_joint else 1]

    def added(self, variances: np.ndarray) -> np.ndarray:
        """Returns what of the variances of M values is there because outcomes were added."""
        return variances[:, :, self._errors - self._count :]

    def for_spreading(self, variances: np.ndarray) -> np.ndarray:
        """Returns the variances of M values that decide how shots are spread."""
        return self.of_each(variances) - (1 - _ASSUMED) * self.added(variances)

    @property
    def _is_joint(self) -> bool:
        """Whether all covariances come with the values, of several."""
        return self._errors > 2 * self._count

    def scales(self) -> tuple[float, float]:
        """Returns the typical and the largest variance of one outcome, of all values."""
        assert self._of_one is not None
        typical, largest = (float(each.max(initial=0.0)) for each in self._of_one)
        return typical or 1.0, largest or 1.0

    def _rounded(
        self, wanted: np.ndarray, batch: Sequence[int], least: np.ndarray | int
    ) -> np.ndarray:
        """Returns whole numbers of the shots of a batch."""
        offsets = None
        if self._kind == "any":
            offsets = fractions(*self._chance, batch, wanted.shape[1])
        return rounded(wanted, offsets, least, self._kind)

    def _at_random(
        self, parameters: np.ndarray, planned: np.ndarray, batch: Sequence[int], function: Callable
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws samples at points that are chosen at random, which get the planned shots on the
        average."""
        (_, number, of), columns = self._chance, planned.shape[1]
        chosen = (
            nullcontext(fractions(*self._chance, batch, columns))
            if self._choices is None
            else self._choices(of, number, batch, columns)
        )
        with chosen as offsets:
            numbers = whole(planned, offsets, 0)
            values, variances = self._drawn(parameters, numbers, function)
        values = values - self._constants
        planned = np.where(planned > 0, planned, 1.0)
        expected, times = planned[:, :, None], (numbers / planned)[:, :, None]
        # How much the numbers of shots vary. That those of neighbours vary together is left out.
        chance = (expected % 1.0) * (1 - expected % 1.0) / expected**2
        squares = values**2
        if self._is_joint:
            squares = np.einsum("knm,knl->knml", values, values).reshape(*planned.shape, -1)
        if self._errors:  # nothing of it is added
            squares = np.concatenate([squares, np.zeros_like(values)], axis=2)
        finite = np.isfinite(parameters).all(axis=1).reshape(planned.shape)
        values = self._constants + times * values
        values[~finite] = np.nan  # also if none of it was run
        return values, times**2 * variances + times * chance * squares

    def _in_two_batches(
        self,
        parameters: np.ndarray,
        numbers: np.ndarray,
        importance: np.ndarray | Callable[[np.ndarray], np.ndarray],
        least: int,
        share: float,
        batch: Sequence[int],
        function: Callable,
        allowed: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws a share of the samples, and spreads the others by the variances of these."""
        planned = numbers.astype(np.int64)
        size = sizes(planned, self._kind)
        if allowed is not None:
            # As many as the largest variances would take, so that the first are not too many.
            typical, largest = self.scales()
            planned = np.maximum(np.ceil(numbers * (largest / typical)), 2 * LEAST_PILOT)
            numbers = np.maximum(numbers, LEAST_PILOT / share)
        first = first_share(numbers, share, least, size)
        if allowed is None:
            first = np.minimum(first, planned)
        planned = np.maximum(planned, first)
        values, variances = self._drawn(parameters, first, function)
        part = first / planned  # not by the shots of the second batch, which depend on these values
        floor = np.zeros_like(part)
        if callable(importance):
            importance = importance(values)
            floor = (planned - first) * _KEPT  # it holds near these values
        of_each = self.for_spreading(variances)
        wanted = np.einsum("mkn,knm->kn", importance, of_each * first[:, :, None])
        wanted = (1 - part) * np.sqrt(np.where(np.isfinite(wanted), wanted, 0.0))
        in_all = (planned - first).sum(axis=0)
        if allowed is not None:
            owed = np.einsum("mkn,knm->kn", importance, of_each) * part**2
            rest = np.maximum(allowed - owed.sum(axis=0), LEAST_LEFT * allowed)
            # Where angles are no numbers, nothing is run.
            in_all = np.ceil(wanted.sum(axis=0) ** 2 / np.where(np.isfinite(rest), rest, 1.0))
        wanted = np.where(wanted.any(axis=0), wanted, planned - first)
        wanted *= in_all / np.maximum(wanted.sum(axis=0), 1e-300)
        wanted = at_least(wanted, floor) if allowed is None else np.maximum(wanted, floor)
        later = (*batch[:-1], batch[-1] + 1)
        second = self._rounded(wanted, later, np.where(part < 1, least, 0))
        more, their_variances = self._drawn(parameters, second, function)
        # The larger batch says more about the variance of a shot.
        larger = (second > first)[:, :, None]
        of_one = np.where(
            larger, second[:, :, None] * their_variances, first[:, :, None] * variances
        )
        shares = part**2 / first + (1 - part) ** 2 / np.maximum(second, 1)
        part = part[:, :, None]
        return part * values + (1 - part) * more, of_one * shares[:, :, None]

    def _drawn(
        self, parameters: np.ndarray, numbers: np.ndarray, function: Callable
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns values and variances, float64[K, N, M], of new samples; zeros where there are
        none, and no variances if values come without."""
        shots, count = numbers.ravel(), self._count
        run = shots > 0
        found = np.zeros((len(shots), count + self._errors))
        found[run] = function(parameters[run], shots[run])
        found = found.reshape(*numbers.shape, found.shape[1])
        return found[:, :, :count], found[:, :, count:]
