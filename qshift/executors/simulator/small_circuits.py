"""Small circuits at few points, with little around the compiled kernel.

Such a circuit runs in some microseconds. Making the arrays that the kernel works on takes as long
again, and so do calls of its functions one by one. So arrays are kept from one call to the next,
and what is done with them is written down once, as instructions that machine code follows.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import numpy as np

from qshift.executors.executor import Asked, Written
from qshift.executors.simulator import kernel
from qshift.executors.simulator.instructions import Instructions
from qshift.executors.simulator.outcomes import Observables
from qshift.executors.simulator.state_steps import Steps, angles_of, blocks_of, by_lane
from qshift.executors.simulator.written_circuits import OF_ALL, Writer

_MOST_KEPT = 2  # arrays of a circuit: of values, mostly, and of shifted points


class SmallCircuit:
    """A circuit of rotations and Pauli words, at points that one state holds together.

    All numbers are those of the `Simulation`, to the last bit.

    Args:
        steps: The rotations.
        observables: The words.
        start: The state that the rotations act on.
        shape: The numbers of values and of parameters.
        most_numbers: How many numbers all arrays may hold.
    """

    def __init__(
        self,
        steps: Steps,
        observables: Observables,
        start: np.ndarray,
        shape: tuple[int, int],
        most_numbers: int,
    ) -> None:
        self._steps, self._observables, self._start, self._shape = steps, observables, start, shape
        width = 3 * steps.count + 4 * len(start) + 2 * sum(shape) + 8
        self.most_points, self._most_numbers = most_numbers // width, most_numbers
        # Who works on arrays takes them out, so that threads do not share them.
        self._kept: deque[Arrays] = deque(maxlen=_MOST_KEPT)
        self._followed: WeakValueDictionary[tuple, Arrays] = WeakValueDictionary()

    def values(self, points: np.ndarray) -> np.ndarray:
        """Returns the values float64[N, M] at the points float64[N, P]."""
        arrays = self._at(points)
        found = self._run(arrays, "values", self.expect)[: len(points)].copy()
        self._kept.append(arrays)
        return found

    def gradients(self, points: np.ndarray) -> np.ndarray:
        """Returns first derivatives float64[N, M, P], by adjoint differentiation."""
        arrays, count = self._at(points), len(points)
        found = np.empty((count, *self._shape))
        for column in range(self._shape[0]):
            arrays.cotangents.fill(0.0)
            arrays.cotangents[:, column] = 1.0
            found[:, column] = self._run(arrays, "slopes", self.back)[:count]
        self._kept.append(arrays)
        return found

    def pulled_back(self, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Returns derivatives of sums of values with the factors float64[N, M], float64[N, P]."""
        arrays, count = self._at(points), len(points)
        arrays.cotangents[:count] = cotangents
        arrays.cotangents[count:] = cotangents[-1]
        found = self._run(arrays, "slopes", self.back)[:count].copy()
        self._kept.append(arrays)
        return found

    def _at(self, points: np.ndarray) -> Arrays:
        """Returns arrays with these points, which are the caller's own."""
        count, arrays = len(points), None
        with contextlib.suppress(IndexError):
            for _ in range(_MOST_KEPT):
                arrays = self._kept.pop()
                if arrays.count == count:
                    break
                self._kept.appendleft(arrays)
        if arrays is None or arrays.count != count:
            arrays = self._arrays(count)
            arrays.known[:count] = points
            arrays.known.view(np.int64)[:] ^= -1  # no bit is that of these points
        arrays.points[:count] = points
        arrays.points[count:] = points[-1]
        return arrays

    def _run(
        self,
        arrays: Arrays,
        name: str,
        write: Callable[[Instructions, Arrays, np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Returns a result at the arrays' points, in an array that they keep."""
        found = arrays.written.get(name)
        if found is None:
            code = Instructions()
            self.behind_all_steps(code, arrays)
            result = write(code, arrays, arrays.cotangents)
            found = arrays.written[name] = code.ready(), result, code
        run, result, _ = found
        run()
        return result

    def written(
        self,
        count: int,
        parts: Sequence[Sequence[int]],
        largest: float,
        asked: Sequence[Asked | None],
        follows: Sequence[tuple[int, int, float]] = (),
    ) -> Written | None:
        """See `SmallResults`. The numbers are those of the other methods, to the last bit."""
        first = asked[0]
        if first and first.shifts:
            # These points are no other op's.
            arrays = self._arrays(first.shifts.points * count)
            return Writer(self, arrays, count, parts, largest, follows).shifted(first, first.shifts)
        key = count, tuple(follows)  # derivatives that are kept are by joint parameters
        found = self._followed.get(key)
        self._followed[key] = arrays = self._arrays(count) if found is None else found
        size = self._shape[0] * arrays.points.size
        if size > self._most_numbers and any(each and each.kind in OF_ALL for each in asked):
            return None
        return Writer(self, arrays, count, parts, largest, follows).at_points(asked)

    def _arrays(self, count: int) -> Arrays:
        """Returns arrays at no points."""
        arrays = Arrays(count, self._steps.count, self._start, self._shape)
        arrays.known.fill(np.nan)  # equal to no points that are taken
        return arrays

    # --- what is written down ---

    def behind_all_steps(self, code: Instructions, arrays: Arrays) -> None:
        """Makes the states behind all steps at the arrays' points, unless they are there."""
        steps = self._steps
        words, signs = steps.tables[arrays.alone]
        up_to_here = code.skip_if_same(arrays.points, arrays.known)
        code.copy(arrays.state, arrays.start)
        code.call(kernel.angles, arrays.points, steps.columns, steps.scales, signs, arrays.angles)
        code.call(kernel.forward, arrays.state, words, arrays.angles, 0, steps.count)
        code.copy(arrays.known, arrays.points)
        up_to_here()

    def expect(self, code: Instructions, arrays: Arrays, _: np.ndarray) -> np.ndarray:
        """Returns an array with the values, float64[lanes, M]."""
        observables, values = self._observables, np.empty((len(arrays.points), self._shape[0]))
        code.zero(values)
        words = *observables.tables[arrays.alone], observables.places
        code.call(kernel.expect, arrays.state, *words, arrays.work, values)
        return values

    def back(self, code: Instructions, arrays: Arrays, cotangents: np.ndarray) -> np.ndarray:
        """Returns an array with the derivatives of sums of values, float64[lanes, P], which have
        the factors float64[lanes, M]."""
        steps, observables = self._steps, self._observables
        (state, other), slopes = arrays.pair, np.empty((len(arrays.points), self._shape[1]))
        code.copy(state, arrays.state)
        code.zero(other)
        sums = *observables.tables[arrays.alone], observables.places, cotangents, arrays.factors
        code.call(kernel.observe, arrays.state, other, *sums)
        words, signs = steps.tables[arrays.alone]
        code.zero(slopes)
        moves = arrays.angles, signs, steps.columns, steps.scales, 0, steps.count
        code.call(kernel.backward, state, other, words, *moves, arrays.work, slopes)
        return slopes


class Arrays:
    """The arrays of some points; see `kernel`.

    Attributes:
        count: How many points there are; further lanes are those of the last one.
        alone: Whether there is one.
        points: The points.
        known: Those that `state` is behind all steps of.
        flag: int64[1], which is 1 while instructions with these arrays are followed.
        written: By the name of a result: what gives it, its array, and what both need.
    """

    def __init__(self, count: int, steps: int, start: np.ndarray, shape: tuple[int, int]) -> None:
        lanes = count if count == 1 else -(-count // kernel.WIDTH) * kernel.WIDTH
        self.count, self.alone, self.flag = count, lanes == 1, np.zeros(1, np.int64)
        self.points, self.known = np.empty((lanes, shape[1])), np.empty((lanes, shape[1]))
        self.cotangents = np.empty((lanes, shape[0]))
        self.angles = angles_of(lanes, steps)
        self.start, self.state, *self.pair = (blocks_of(lanes, len(start)) for _ in range(4))
        by_lane(self.start, lanes)[:] = start[:, None]
        self.work, self.factors = np.zeros(kernel.WORK), np.empty(kernel.WORK)
        self.written: dict[str, tuple[Callable[[], int], np.ndarray, Instructions]] = {}

    @functools.cached_property
    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """The derivatives of each value, float64[M, lanes, P], and the points that they are at."""
        lanes, parameters = self.points.shape
        of_all = np.empty((self.cotangents.shape[1], lanes, parameters))
        return of_all, np.full((lanes, parameters), np.nan)
