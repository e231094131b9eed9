"""One call: what is known of it, what has to run, and the derivatives that follow."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
from pennylane import QueuingManager

from qshift.autodiff.pulled_back import PulledBack, is_exact
from qshift.executors.executor import Call
from qshift.forks import free
from qshift.rules.planner import Index, Planner, PlanNode, Step
from qshift.rules.shifting import Shifter

_OVERHEAD = 4096  # bytes of an evaluation without its numbers


class Structure(Protocol):
    """The function that is evaluated: a circuit, or any function with the same kind of derivatives.

    It may have attributes `is_finite`, whether its constants are finite, and `shifted`, a function
    that moves parameters to the points of a plan.
    """

    num_parameters: int
    num_values: int

    @property
    def planner(self) -> Callable[..., Planner]: ...

    def require_rules(self, columns: Any) -> None: ...


class Later(tuple[Index, ...]):
    """Partial derivatives that will be asked for in sums whose weights are not known yet."""

    __slots__ = ()


# A compiled function leaves many evaluations behind. That they consist of few objects saves
# Python's garbage collector from looking through all of TensorFlow's again and again.


class Table:
    """Values of one function at the points evaluated so far, and derivatives read off them.

    Args:
        shape: The shape of the values at one point.
        parameters: float64[N, P], the unshifted points of the call, less whole periods of those
            that are large.
        node: An empty plan.
        shifted: Moves the parameters to the points of a plan.
    """

    __slots__ = ("parameters", "_node", "_shifted", "_values")

    def __init__(
        self, shape: tuple[int, ...], parameters: np.ndarray, node: PlanNode, shifted: Shifter
    ) -> None:
        self.parameters, self._shifted = parameters, shifted
        self._node = node
        self._values = np.empty((0, len(parameters), *shape))

    @property
    def nbytes(self) -> int:
        return self._values.nbytes

    def partials(self, indices: tuple[Index, ...], function: Callable) -> np.ndarray:
        """Returns partial derivatives float64[len(indices), N, *shape], running what is missing.

        Args:
            indices: The partial derivatives.
            function: From points float64[N, P] to values float64[N, *shape].
        """
        step = self._node.step(indices)
        one = self._values.shape[1:]  # the values of one point of the plan
        if step.new_points:
            self._run(step, indices, function)
            self._node = step.node
        if len(self._values) == 1 and indices == ((),):  # the only point is that of the call
            return self._values
        flat = self._values.reshape(len(self._values), math.prod(one))
        return (step.coefficients @ flat).reshape(len(indices), *one)

    def missing(self, indices: tuple[Index, ...]) -> int:
        """Returns how many points of a plan `partials` would run."""
        return self._node.missing(indices)

    def _run(self, step: Step, indices: tuple[Index, ...], function: Callable) -> None:
        """Runs the points of a step."""
        points = self.parameters
        if step.new_points != ((),):
            points = self._shifted(points, step.new_points)
        new = function(points)
        new = new.reshape(len(step.new_points), *self._values.shape[1:])
        self._values = np.concatenate([self._values, new]) if len(self._values) else new

    def deviations(self, indices: tuple[Index, ...]) -> np.ndarray:
        """Returns what one standard deviation of the value at each point changes in partial
        derivatives, float64[K, len(indices), N, *shape]: zeros, as these values are exact."""
        return np.zeros((1, len(indices), *self._values.shape[1:]))

    def combination(self, indices: tuple[Index, ...]) -> np.ndarray | None:
        """Returns the coefficients of partial derivatives that were asked for just now,
        float64[len(indices), K]; None, as these values are exact."""
        return None

    def covariances(self, points: int, columns: Sequence[int]) -> np.ndarray:
        """Returns the covariances of some values at the first K points, float64[K, N, C, C]."""
        return np.zeros((points, len(self.parameters), len(columns), len(columns)))

    excess = covariances  # what products of values are too large by on the average

    def variance(self, slopes: np.ndarray, rows: np.ndarray) -> float:
        """Returns the variance of a function of the table's values, to first order.

        Args:
            slopes: float64[K, len(rows), *shape], its derivatives by the values at the first K
                points.
            rows: The rows of the batch that it depends on.
        """
        return 0.0


class Evaluation:
    """One execution of a circuit at given angles, with all its derivatives.

    Derivatives of every order read from the same table, so with finite shots they share the call's
    samples. Only points that are missing are run, and all that one request needs are one batch. An
    evaluation is thread-safe.

    Args:
        circuit: The circuit to evaluate.
        executor: Runs the circuit.
        parameters: float64[N, P].
        objective: As for `qshift.rules.sampled_plans.planner`.
        adjoint: Whether first derivatives come from the executor and only higher ones from shifts
            (of these first derivatives, which obey the same rules as the values).
        prefetch: Partial derivatives whose points the first batch evaluates as well.
        number: The number of the call.
        alone: Whether only one thread uses the evaluation, so that no lock is needed.
        spread: How shots are spread over points, see `qshift.rules.sampled_plans`; None for exact
            results.
        sampled: Makes the table of values where each has its own number of shots or its error is
            asked for, as `qshift.autodiff.sampled_table.SampledTable` of these settings.
        errors: Whether `deviations` will be asked for.
        observer: Is told what is read in eager mode; None if nobody wants to know. `variance` may
            be asked for then.
        pilot: Whether the table of values may need variances to spread shots.

    Attributes:
        observer: As given.
        final: If True, the first error is kept and raised again, so that the other ops of the same
            execution of a compiled function do not submit a failed batch again.
    """

    __slots__ = (
        "final",
        "observer",
        "parameters",
        "_adjoint",
        "_call",
        "_circuit",
        "_error",
        "_errors",
        "_executor",
        "_gradients",
        "_lock",
        "_own_shots",
        "_planner",
        "_prefetch",
        "_pulled",
        "_shifted",
        "_together",
        "_values",
        "__weakref__",
    )

    def __init__(
        self,
        circuit: Structure,
        executor: Any,
        parameters: np.ndarray,
        objective: str | float,
        adjoint: bool = False,
        prefetch: Sequence[Index] = (),
        number: int = 0,
        alone: bool = False,
        spread: str | None = None,
        sampled: Callable[..., Table] | None = None,
        errors: bool = False,
        observer: Any = None,
        pilot: bool = False,
    ) -> None:
        self.final = False
        self.observer = observer
        self.parameters = parameters
        self._circuit = circuit
        self._error: Exception | None = None
        self._errors = 0  # numbers behind the values that say how large their errors are
        if spread and (errors or pilot or observer):
            self._errors = circuit.num_values * (1 + (circuit.num_values if observer else 1))
        self._own_shots = spread not in (None, "equal")
        self._executor = executor
        self._adjoint = adjoint
        self._prefetch = tuple(prefetch)
        self._call = Call(number)
        self._planner = planner = circuit.planner(objective, *([spread] if spread else []))
        shifted = getattr(circuit, "shifted", None)
        self._shifted = shifted or Shifter(planner.spectra, "Parameter {}".format)
        of_table = parameters, planner.root, self._shifted
        if sampled and (self._own_shots or self._errors):
            self._values = sampled(
                circuit.num_values,
                *of_table,
                number=number,
                errors=self._errors,
                observed=observer is not None,
            )
        else:
            self._values = Table((circuit.num_values,), *of_table)
        if not (np.abs(parameters) <= self._shifted.reach).all():
            self._values.parameters = self._shifted.near(parameters)
        self._gradients: Table | None = None  # made when gradients are needed first
        # Derivatives of sums, each for the first weights that were asked for.
        self._pulled: dict[tuple, PulledBack] = {}
        self._together: tuple[tuple[Index, ...], np.ndarray] = (), np.empty(0)
        self._lock: AbstractContextManager = nullcontext() if alone else threading.RLock()

    def inherit(self) -> None:
        """Frees the lock in the child of a fork. Whoever keeps evaluations calls this: there are
        too many of them for each to be an heir."""
        if not isinstance(self._lock, nullcontext):
            free(self._lock)

    @property
    def nbytes(self) -> int:
        others = sum(each.nbytes for each in (self._gradients, *self._pulled.values()) if each)
        held = self.parameters.nbytes + self._values.nbytes + self._together[1].nbytes
        return _OVERHEAD + held + others

    def partials(
        self, indices: Sequence[Index], also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray:
        """Returns partial derivatives, float64[N, M, len(indices)].

        Args:
            indices: The partial derivatives.
            also: Partial derivatives that other ops will ask for, evaluated in the same batch, but
                for `Later` ones.
        """
        with self._lock:
            if self._own_shots and any(also):
                also = self._told(tuple(indices), also)
            if not any(also):
                return self._read(tuple(indices))
            together, places = _union(tuple(indices), also)
            # All ops that share a batch read from one result, which is the same to the last digit.
            if together != self._together[0]:
                self._together = together, self._read(together)
            return self._together[1][:, :, places]

    def pulled_back(
        self,
        lower: tuple[Index, ...],
        weights: np.ndarray,
        indices: tuple[Index, ...],
        also: tuple[tuple[Index, ...], ...] = (),
    ) -> np.ndarray | None:
        """Returns the derivatives, by all parameters, of a weighted sum of partial derivatives.

        Args:
            lower: The partial derivatives; A of them.
            weights: float64[N, M, A], the weight of each value of each of them.
            indices: The partial derivatives one order up that such derivatives are sums of.
            also: As for `partials`.

        Returns:
            float64[N, P], where points have their own shots those by parameters that `indices` are
            meant for; None where `indices` had better be read, because this takes no more runs of
            the circuit, they are asked for again, or they are more exact.
        """
        with self._lock:
            if any(also):
                self.partials((), also)
            return self._read((), partial(self._pull, lower, weights, indices))

    def _pull(
        self, lower: tuple[Index, ...], weights: np.ndarray, indices: tuple[Index, ...]
    ) -> np.ndarray | None:
        # Samples are drawn for some parameters; exact derivatives are those by all.
        key = lower, indices if self._own_shots else ()
        if key in self._pulled:
            known = self._pulled[key]
            return known.sums if known.has(weights) else None
        if self._own_shots:
            table: Any = self._values
            sums = table.pulled(lower, weights, indices, self._sampled_values())
            if sums is None:
                return None
            pulled = PulledBack(lower, weights, sums)
        else:
            planner, circuit = self._planner, self._circuit
            # What reading would take at each row of the parameters: points, each with its value, or
            # with the gradients of all values.
            sources = planner.sources(indices, self._adjoint)
            missing = self._values.missing(sources.values)
            if sources.gradients:
                table = self._gradients or planner.root
                missing += circuit.num_values * table.missing(sources.gradients)
            if planner.root.missing(lower) >= missing or not is_exact(weights):
                return None
            run = partial(self._executor.pulled_back, circuit)
            run = partial(self._where_finite, run, (circuit.num_parameters,))
            parameters = self._values.parameters
            pulled = PulledBack.of(lower, weights, planner, self._shifted, parameters, run)
        self._pulled[key] = pulled
        return pulled.sums

    def sums(self, indices: tuple[Index, ...], weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns weighted sums of partial derivatives, and their variances, float64[N, B] each.
        Where points have their own shots, these are spread for the sums.

        Args:
            indices: The partial derivatives.
            weights: float64[B, M, len(indices)], the weight of each value of each of them in each
                sum.
        """
        with self._lock:
            return self._read((), partial(self._sums, indices, weights))

    def _sums(self, indices: tuple[Index, ...], weights: np.ndarray) -> tuple[np.ndarray, ...]:
        if self._own_shots:
            table: Any = self._values
            return table.sums(indices, weights, self._sampled_values())
        sums = np.einsum("bma,nma->nb", weights, self._known(indices))
        if not self._errors:
            return sums, np.zeros_like(sums)
        owed = np.einsum("bma,knma->knmb", weights, self.deviations(indices))
        return sums, (owed**2).sum(axis=(0, 2))

    def steered(self, indices: tuple[Index, ...], weigh: Callable) -> np.ndarray:
        """Returns partial derivatives as `partials` does, of which sums are wanted whose weights
        follow from them: a first share of the shots finds these, and the others are spread for the
        sums.

        Args:
            indices: The partial derivatives.
            weigh: From partial derivatives float64[N, M, len(indices)] to the weights
                float64[N, B, M, len(indices)] of B sums.
        """
        table: Any = self._values
        with self._lock:
            steered = partial(table.steered, indices, weigh, self._sampled_values())
            return self._read((), steered).transpose(1, 2, 0)

    def _told(
        self, indices: tuple[Index, ...], also: tuple[tuple[Index, ...], ...]
    ) -> tuple[tuple[Index, ...], ...]:
        """Tells the table which derivatives take shots after the values, if these are read with
        `indices`, and returns the other ones of `also`."""
        now = tuple(each for each in also if not isinstance(each, Later))
        later = {index for each in also if isinstance(each, Later) for index in each}
        if later and any(() in each for each in (indices, *now)):
            table: Any = self._values
            table.expect(tuple(sorted(later)))
        return now

    def _sampled_values(self) -> Callable:
        """Returns a function that draws samples at points."""
        return partial(self._where_finite, self._run, (self._circuit.num_values + self._errors,))

    def deviations(self, indices: Sequence[Index]) -> np.ndarray:
        """Returns what partial derivatives that were asked for before owe to chance.

        The values at different points are independent of each other. So the squares of these
        numbers, or of the same linear function of the numbers of each point, add up to variances.

        Returns:
            float64[K, N, M, len(indices)]: for each of K points, what one standard deviation of
            each value there changes.
        """
        with self._lock:
            sources = self._planner.sources(tuple(indices), self._adjoint)
            rows, values = len(self.parameters), self._circuit.num_values
            found = self._values.deviations(sources.values)
            result = np.zeros((len(found), len(indices), rows, values))
            result[:, sources.by_values] = found
            result = np.moveaxis(result, 1, 3)
            return result if sources.mask is None else result * sources.mask

    def combination(self, indices: tuple[Index, ...]) -> np.ndarray | None:
        """Returns how partial derivatives that were read just now follow from the values at all
        points so far, float64[M, len(indices), K]; None if they are exact."""
        with self._lock:
            sources = self._planner.sources(indices, self._adjoint)
            found = self._values.combination(sources.values)
            if found is None:
                return None
            result = np.zeros((self._circuit.num_values, len(indices), found.shape[1]))
            result[:, sources.by_values] = found
            return result if sources.mask is None else result * sources.mask[:, :, None]

    def covariances(self, points: int, columns: Sequence[int]) -> np.ndarray:
        """Returns the covariances of some values at the first K points, float64[K, N, C, C]."""
        with self._lock:
            return self._values.covariances(points, columns)

    def excess(self, points: int, columns: Sequence[int]) -> np.ndarray:
        """Returns what products of values at the first K points are too large by on the average,
        because of chance, float64[K, N, C, C]."""
        with self._lock:
            return self._values.excess(points, columns)

    def variance(self, slopes: np.ndarray, rows: np.ndarray) -> float:
        """See `Table.variance`."""
        with self._lock:
            return self._values.variance(slopes, rows)

    def _read(
        self, indices: Sequence[tuple[Any, ...]], instead: Callable[[], Any] | None = None
    ) -> Any:
        """Returns partial derivatives, or what instead() returns; the first call also evaluates
        those to prefetch."""
        if self._error:
            raise self._error
        try:
            # The first request often contains all that is to be prefetched.
            ahead = self._prefetch
            if ahead and ahead != indices and not set(ahead).issubset(indices):
                self._known(ahead)
            result = instead() if instead else self._known(indices)
        except Exception as error:
            self._error = error if self.final else None
            raise
        self._prefetch = ()
        return result

    def _known(self, indices: Sequence[tuple[Any, ...]]) -> np.ndarray:
        sources = self._planner.sources(indices, self._adjoint)
        circuit, rows = self._circuit, len(self.parameters)
        result = np.zeros((len(indices), rows, circuit.num_values))
        if sources.values:
            width = circuit.num_values + self._errors
            sampled = self._errors or self._own_shots
            run = self._run if sampled else partial(self._executor, circuit, call=self._call)
            run = partial(self._where_finite, run, (width,))
            result[sources.by_values] = self._values.partials(sources.values, run)
        if sources.gradients:
            shape = circuit.num_values, circuit.num_parameters
            if self._gradients is None:
                root = self._planner.root
                self._gradients = Table(shape, self._values.parameters, root, self._shifted)
            run = partial(self._where_finite, partial(self._executor.gradients, circuit), shape)
            gradients = self._gradients.partials(sources.gradients, run)  # [rows, N, M, P]
            result[sources.by_gradients] = gradients[sources.rows, :, :, sources.columns]
        result = result.transpose(1, 2, 0)
        return result if sources.mask is None else result * sources.mask

    def _run(self, points: np.ndarray, shots: np.ndarray | None = None) -> np.ndarray:
        call = replace(self._call, shots=shots) if self._own_shots else self._call
        if self._errors:
            jointly = self.observer is not None
            found = self._executor.estimates(self._circuit, points, call, jointly)
            return np.hstack(
                [each.reshape(len(points), math.prod(each.shape[1:])) for each in found]
            )
        return self._executor(self._circuit, points, call=call)

    def _where_finite(
        self, run: Callable[..., Any], shape: Sequence[int], points: np.ndarray, *more: np.ndarray
    ) -> np.ndarray:
        """Runs points, each with what else belongs to it; at points with an angle that is not
        finite, results are NaN and nothing is run, because devices differ there, above all with
        shots."""
        if QueuingManager.recording():
            # A quantum function that is being recorded may need derivatives of another one.
            with QueuingManager.stop_recording():
                return self._where_finite(run, shape, points, *more)
        finite, is_finite = np.isfinite(points), getattr(self._circuit, "is_finite", True)
        if is_finite and finite.all():
            return run(points, *more)
        finite = finite.all(axis=1) & is_finite
        values = np.full((len(points), *shape), np.nan)
        if finite.any():
            values[finite] = run(points[finite], *(each[finite] for each in more))
        return values


@lru_cache(maxsize=64)  # an execution of a graph asks for few, but for each of them every time
def _union(indices: Any, also: Any) -> tuple[tuple[Index, ...], np.ndarray]:
    """Returns the union of all indices in a fixed order, and the positions of `indices` in it."""
    each_once = {*indices, *itertools.chain.from_iterable(also)}
    together = tuple(sorted(each_once, key=lambda index: (len(index), index)))
    position = {index: i for i, index in enumerate(together)}
    return together, np.array([position[index] for index in indices], dtype=int)
