"""Executors run a circuit at many points: float64[N, P] in, float64[N, M] out.

`autodiff` and `api` reach devices only through this contract, and know nothing else about them. One
Qiskit Estimator PUB with broadcast parameters has the same form. `qshift.executors.registry` says
which executor belongs to which device.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from qshift.circuits.circuit import Circuit
from qshift.errors import UnsupportedError
from qshift.executors.seeding import fractions
from qshift.forks import Lock
from qshift.listeners import opened
from qshift.rules.seconds import Seconds
from qshift.rules.shifting import Moved
from qshift.tracker import Tracker

_MOST_COVARIANCES = 2**27  # numbers


class Calls:
    """Numbers calls: 1, 2, ...

    Attributes:
        made: The last number.
    """

    def __init__(self) -> None:
        self.made = 0
        self._lock = Lock()

    def __next__(self) -> int:
        with self._lock:
            self.made += 1
            return self.made


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a qnode, for which circuits are run. Seeded samples depend on it.

    Attributes:
        number: The number of the call.
        draws: Digest of a circuit at a point -> how often it was run for this call.
        shots: int64[N], the shots of each point that is run; None for those of the circuit.
    """

    number: int
    draws: dict[bytes, int] = field(default_factory=dict)
    shots: np.ndarray | None = None

    def part(self, start: int, size: int) -> Call:
        """Returns the call for the points from `start` on, `size` of them at most."""
        if self.shots is None:
            return self
        return replace(self, shots=self.shots[start : start + size])


class Results(Protocol):
    """What gives exact results of one circuit at points float64[N, P]."""

    def values(self, points: np.ndarray) -> np.ndarray: ...

    def gradients(self, points: np.ndarray) -> np.ndarray: ...

    def pulled_back(self, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray: ...


class Shifts(NamedTuple):
    """Partial derivatives, A of them, as sums of values at shifted points.

    Attributes:
        points: K, the number of these points.
        moved: What they move.
        mask: bool[M, A], which values have these derivatives; those of others are zero.
        terms: (k, a, c) for each value: it is that at point k, times c, of derivative a; ordered by
            k, and then by a.
    """

    points: int
    moved: Moved
    mask: np.ndarray
    terms: tuple[tuple[int, int, float], ...]


class Asked(NamedTuple):
    """A result that an op of a graph gives at points.

    Attributes:
        kind: ``"values"``, float64[N, M]; ``"gradients"``, the first derivatives of all values,
            float64[N, M, len(columns)]; or derivatives of sums of values with the factors that the
            last input holds, float64[N, len(columns)]: ``"pulled_back"``, at one go, and
            ``"contracted"``, from the first derivatives of all values, which other ops read as
            well. With ``"shifted"``, the factors are those of derivatives of values.
        columns: The parameters of the derivatives.
        cones: bool[M, P], which parameters each value depends on at all, of ``"gradients"`` and of
            what is ``"contracted"``; other derivatives are exactly zero.
        zeros: Places among `columns` whose derivatives of sums are exactly zero.
        shifts: The derivatives that are ``"shifted"``.
    """

    kind: str
    columns: tuple[int, ...] = ()
    zeros: tuple[int, ...] = ()
    cones: np.ndarray | None = None
    shifts: Shifts | None = None


class Written(NamedTuple):
    """Instructions that machine code follows, in place of Python code, to give results.

    Attributes:
        code: The address of the machine code; see `qshift.python_kernel.Followed`.
        instructions: What it is given.
        results: The arrays in which it leaves the results.
        flag: int64[1], 1 while these arrays are in use.
        kept: What has to be there meanwhile.
    """

    code: int
    instructions: np.ndarray
    results: list[np.ndarray]
    flag: np.ndarray
    kept: Any


class SmallResults(Results, Protocol):
    """Results of a circuit that runs in less time than the Python code around it takes."""

    def written(
        self,
        count: int,
        parts: Sequence[Sequence[int]],
        largest: float,
        asked: Sequence[Asked | None],
        follows: Sequence[tuple[int, int, float]] = (),
    ) -> Written | None:
        """Returns instructions that give results at so many points; None if there are none.

        Args:
            count: The number of points.
            parts: The columns of the points that each input holds, from the second input on.
            largest: Larger parameters are refused.
            asked: The results, in their order; None for one that nobody reads, which is empty.
            follows: See `qshift.circuits.shared_angles.Joint`.
        """
        ...


class Executor(ABC):
    """Runs circuits on a device: the base class of all executors.

    A subclass has to define `run`. The other methods have defaults: each point takes the shots of
    its circuit, there are no jobs, and derivatives come from shifted circuits. An executor must be
    thread-safe, as TensorFlow calls it from several threads at once.

    Args:
        device: The device.
        seed: Seed of the samples, an int or several; None for fresh samples.

    Raises:
        UnsupportedError: If a seed is given and the class has not set `takes_seed`.

    Attributes:
        device: The device.
        seed: The seed; `qshift.executors.seeding.generator` makes random numbers of it.
        differentiates_gates: Whether `differentiates` may be True for circuits that are decomposed
            into gates that devices differentiate.
        takes_seed: Whether `run` draws its samples from `seed`.
        uses_workers: Whether the executor itself sends work to the device's workers, if there are
            any; otherwise its batches are shared out among them.
        watchers: Returns who watches the device, if the executor then leaves circuits to the
            device; `differentiates` is asked for each answer anew.
        unwatched: What `watchers` returns as long as nobody does.
        has_jobs: Whether batches are jobs. Then points have their own shots only where users give
            `qshift.Shots`, so that results of earlier runs are found, and there is a pilot share
            only where it is given.
        numbers: Which numbers of shots the points of a batch get, if `allots`; see
            `qshift.rules.rounding`.

    Example:
        >>> from qshift.executors.executor import Executor
        >>> from qshift.executors.pennylane import flatten
        >>> from qshift.executors.registry import register
        >>> @register("my.device")
        ... class MyExecutor(Executor):
        ...     def run(self, circuit, points, call):
        ...         results = self.device.execute(circuit.bind_each(points))
        ...         return np.concatenate([flatten(circuit, result) for result in results])
    """

    differentiates_gates = False
    takes_seed = False
    uses_workers = False
    watchers: Callable[[], Hashable] = tuple
    unwatched: Hashable = ()
    has_jobs = False
    numbers = "any"

    def __init__(self, device: Any, seed: int | Sequence[int] | None = None):
        if seed is not None and not self.takes_seed:
            raise UnsupportedError(
                f"seed= was given, but {type(self).__name__}, which runs the circuits, takes none. "
                "Leave it out, or let its run() draw samples from self.seed and say "
                "takes_seed = True."
            )
        self.device = device
        self.seed = seed
        self._calls = Calls()

    @abstractmethod
    def run(self, circuit: Circuit, points: np.ndarray, call: Call) -> np.ndarray:
        """Returns the raw values float64[N, M] of a circuit at one or more points float64[N, P].

        A row holds the values of all measurements, one after the other; with a shot vector, the
        values for each of its entries follow one another.

        Args:
            circuit: The circuit; `Circuit.bind_each` makes tapes of it.
            points: The angles.
            call: The call for which circuits are run. Seeded samples depend on it, besides the
                seed, the circuit and the point. It has `shots` only where `allots` is True.
        """

    def sample(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what `run` returns, estimates of the variances of these values, and how much of
        the variances is there only because of outcomes that were added to those of the samples, all
        float64[N, M]; see `qshift.executors.variances`. Where nothing was added, that is zero.

        Called only where errors are asked for, and for circuits with shots, but no shot vector.

        Raises:
            UnsupportedError: If the device returns no variances.
        """
        raise UnsupportedError(
            f"errors=True: {self.name} returns values without their errors. Use "
            'qshift.device("simulator"), or another simulator of PennyLane\'s if every result is a '
            "Pauli word or a probability."
        )

    def sample_jointly(
        self, circuit: Circuit, points: np.ndarray, call: Call
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what `run` returns, float64[N, M], estimates of the covariances of the values at
        each point, float64[N, M, M], and what was added to those on the diagonal, float64[N, M].

        Called as `sample` is, where the error of a function of several values is asked for. By
        default it calls `sample`, for circuits with a single value.

        Raises:
            UnsupportedError: If the device does not say which values share samples.
        """
        if circuit.num_values > 1:
            raise UnsupportedError(
                f"The error of a function of {circuit.num_values} values of one circuit depends on "
                f"which of them share samples, and {self.name} does not say that. Use "
                'qshift.device("simulator"), or one qnode for each value.'
            )
        values, variances, added = self._as_three("sample", self.sample(circuit, points, call))
        return values, np.asarray(variances)[:, :, None], added

    def require_errors(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `estimates` would; runs nothing."""
        if circuit.shots and type(self).sample is Executor.sample:
            self.sample(circuit, np.empty((0, circuit.num_parameters)), Call(0))

    def differentiate(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P] at one or more points.

        Called only with ``diff_method="adjoint"``, and for circuits for which `differentiates` is
        True.

        Raises:
            UnsupportedError: If the device does not differentiate.
        """
        raise UnsupportedError(
            f"diff_method='adjoint': {self.name} runs circuits and does not differentiate them. "
            "Use diff_method='shift' or diff_method='best'."
        )

    def pull_back(self, circuit: Circuit, points: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives of sums of values, float64[N, P].

        Args:
            circuit: The circuit.
            points: One or more points, float64[N, P].
            cotangents: float64[N, M], the factors of the values in the sum at each point.
        """
        sums: np.ndarray = np.einsum("nm,nmp->np", cotangents, self.differentiate(circuit, points))
        return sums

    def small(self, circuit: Circuit, count: int) -> SmallResults | None:
        """Returns what gives the exact results of a circuit at so many points with less around it
        than the executor itself; None if there is no such way, or somebody counts circuits now."""
        return None

    def in_tensorflow(self, circuit: Circuit) -> Callable[[Any], Any]:
        """Returns a circuit as a function of TensorFlow ops, from points float64[N, P] to values
        float64[N, M], which a SavedModel can hold.

        Raises:
            UnsupportedError: If this executor cannot, or not for this circuit.
        """
        raise UnsupportedError(
            f"{self.name} runs its circuits by Python code; those of qshift's embedded simulator, "
            'for example qshift.device("simulator"), can be exported as TensorFlow ops'
        )

    def require_gradients(self, circuit: Circuit) -> None:
        """Raises UnsupportedError where `gradients` would; runs nothing."""
        if type(self).differentiate is Executor.differentiate:
            self.differentiate(circuit, np.empty((0, circuit.num_parameters)))

    def differentiates(self, circuit: Circuit) -> bool:
        """Whether `gradients` gives exact derivatives and costs less than shifted circuits."""
        return False

    def pulls_back(self, circuit: Circuit) -> bool:
        """Whether `pull_back` takes no longer for many values than for one."""
        return False

    def shots(self, circuit: Circuit) -> int:
        """Returns how many samples are drawn at each point of a circuit, its shots in each basis;
        0 if results are exact."""
        return (circuit.shots.total_shots or 0) * self.bases(circuit)

    def bases(self, circuit: Circuit) -> int:
        """Returns in how many bases the shots of a circuit are drawn, one after the other."""
        return 1

    def allots(self, circuit: Circuit) -> bool:
        """Whether `run` gives each point its own number of shots, if a call has `shots`.

        Otherwise every point has the shots of its circuit.
        """
        return False

    def jobs(self, circuit: Circuit, points: int) -> int:
        """Returns how many jobs a batch of so many points takes; 0 if the device has none."""
        return 0

    def seconds(self, circuit: Circuit, points: int) -> float | None:
        """Returns how many QPU seconds such a batch takes; None if no quantum processor runs it."""
        return None

    def costs(self, circuit: Circuit, shots: np.ndarray) -> tuple[int, float | None]:
        """Returns the `jobs` and `seconds` of a batch whose points have these shots, int64[N], in
        each basis. Called only where `allots` is True."""
        return self.jobs(circuit, len(shots)), self.seconds(circuit, len(shots))

    def rates(self, circuit: Circuit) -> Seconds | None:
        """Returns how long circuits and shots of a batch take, next to what `costs` and `seconds`
        say of it; None if no quantum processor runs them, or it is not known.

        By default a line through what batches of two circuits take more than batches of one, up to
        the shots of the circuit: what executions are rounded up to counts as time of the circuit.
        """
        number, bases = circuit.shots.total_shots or 0, self.bases(circuit)
        if not number or self.seconds(circuit, 1) is None:
            return None
        if self.allots(circuit):
            sizes = np.unique(np.geomspace(max(1, number / 64), number, 24).astype(np.int64))
            one, two = ([self.costs(circuit, np.full(k, n))[1] for n in sizes] for k in (1, 2))
        else:
            sizes = np.array([number])
            one, two = ([self.seconds(circuit, k)] for k in (1, 2))
        first = np.array(one, dtype=float)
        more = np.array(two, dtype=float) - first
        if not np.isfinite(more).all():
            return None
        slope, constant = more[-1] / sizes[-1], 0.0
        if len(sizes) > 2:
            slope, constant = np.polyfit(sizes, more, 1)
        return Seconds(
            max(float(constant), 0.0), float(slope) / bases, float((first - more).mean())
        )

    def samples(self, circuit: Circuit, points: int, shots: np.ndarray | None = None) -> int:
        """Returns how many samples a batch of so many points draws, in all bases, with what
        mitigation adds. `shots` are as for `costs`; None for those of the circuit."""
        if shots is None:
            return points * self.shots(circuit)
        return int(shots.sum()) * self.bases(circuit)

    @contextlib.contextmanager
    def choices(
        self,
        circuit: Circuit,
        of: bytes,
        number: int,
        batch: Sequence[int],
        count: int,
    ) -> Iterator[np.ndarray]:
        """A context in which a batch is run whose points are chosen at random: gives the random
        numbers in [0, 1), float64[count].

        With a seed, they are the same in each run of a program.

        Args:
            circuit: The circuit.
            of: What tells calls of the circuit from others, beside their numbers: its angles.
            number: The number of the call.
            batch: Which batch of the call.
            count: How many numbers.
        """
        yield fractions(self.seed, number, of, batch, count)

    def seconds_alone(self, circuit: Circuit, points: int) -> float | None:
        """Returns what `seconds` would be if only one copy of a circuit ran at a time."""
        return self.seconds(circuit, points)

    def grain(self, circuit: Circuit) -> int | None:
        """Returns how many points of a batch have to stay together for equal results.

        A batch may be shared out among workers in runs of so many points, or of multiples of it,
        counted from the first point: the results are equal to the last bit then. An executor whose
        rounding depends on which points run together overrides this. None if a batch must not be
        shared out at all.
        """
        return 1

    @property
    def name(self) -> str:
        """The name of the device in messages."""
        return str(self.device.name)

    def __call__(
        self, circuit: Circuit, points: np.ndarray, call: Call | None = None
    ) -> np.ndarray:
        """Returns the raw values float64[N, M] of a circuit at the points float64[N, P].

        The points count as one batch in `Tracker`. Without `call`, they are a call of their own.

        Raises:
            ValueError: If `run` returns another number of values.
        """
        points = np.asarray(points, dtype=float)
        if not len(points):
            return np.empty((0, circuit.num_values))
        values = self.run(circuit, points, call or Call(next(self._calls)))
        shape: tuple[int, ...] = (len(points), circuit.num_values)
        if getattr(values, "shape", ()) != shape or values.dtype != float:
            values = self.as_numbers("run", values, shape)
        if opened:
            self._track(circuit, len(points), call)
        return values

    def estimates(
        self, circuit: Circuit, points: np.ndarray, call: Call, jointly: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the raw values of a circuit, as calling the executor does, and the variances of
        these values, or with `jointly` their covariances float64[N, M, M]; zeros without shots.
        What of the variances is there because outcomes were added comes last, float64[N, M].

        Raises:
            UnsupportedError: If the device returns no variances, or not those of shot vectors.
            ValueError: If `sample` or `sample_jointly` returns another number of values.
        """
        points = np.asarray(points, dtype=float)
        shape: tuple[int, ...] = (len(points), circuit.num_values)
        wider = (*shape, circuit.num_values) if jointly else shape
        if not circuit.shots or not len(points):
            return self(circuit, points, call), np.zeros(wider), np.zeros(shape)
        if circuit.shots.has_partitioned_shots:
            raise UnsupportedError(
                f"shots={[*circuit.shots]}: errors are not known with a shot vector. Give one "
                "number of shots."
            )
        if math.prod(wider) > _MOST_COVARIANCES:
            raise UnsupportedError(
                f"The covariances of {circuit.num_values} values at {len(points)} points do not "
                "fit into memory. Return fewer values, for instance qml.expval of what is computed "
                "from qml.probs, or evaluate fewer points at once."
            )
        method = self.sample_jointly if jointly else self.sample
        found = self.as_estimates(method.__name__, method(circuit, points, call), shape, wider)
        self._track(circuit, len(points), call)
        return found

    def gradients(self, circuit: Circuit, points: np.ndarray) -> np.ndarray:
        """Returns exact first derivatives float64[N, M, P]; counts as one batch in `Tracker`.

        Raises:
            UnsupportedError: If the device or the circuit does not allow it.
            ValueError: If `differentiate` returns another number of derivatives.
        """
        points = np.asarray(points, dtype=float)
        shape = (len(points), circuit.num_values, circuit.num_parameters)
        if not len(points):
            self.require_gradients(circuit)
            return np.empty(shape)
        gradients = self.differentiate(circuit, points)
        if getattr(gradients, "shape", ()) != shape or gradients.dtype != float:
            gradients = self.as_numbers("differentiate", gradients, shape)
        if opened:
            Tracker.record(batches=1, circuits=len(points))
        return gradients

    def pulled_back(
        self, circuit: Circuit, points: np.ndarray, cotangents: np.ndarray
    ) -> np.ndarray:
        """Returns what `pull_back` does; counts as one batch in `Tracker`."""
        if not len(points):
            return np.empty((0, circuit.num_parameters))
        sums = self.pull_back(circuit, points, cotangents)
        if opened:
            Tracker.record(batches=1, circuits=len(points))
        return sums

    def _track(self, circuit: Circuit, points: int, call: Call | None) -> None:
        """Counts a batch that was run for a call."""
        shots = self.samples(circuit, points, None if call is None else call.shots)
        Tracker.record(batches=1, circuits=points, shots=shots, jobs=self.jobs(circuit, points))

    def as_estimates(
        self, method: str, found: Any, shape: tuple[int, ...], wider: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the result of a subclass's `sample` or `sample_jointly` as float64[shape],
        float64[wider] and float64[shape], or raises ValueError."""
        values, spread, added = self._as_three(method, found)
        values, added = (self.as_numbers(method, each, shape) for each in (values, added))
        return values, self.as_numbers(method, spread, wider), added

    def _as_three(self, method: str, found: Any) -> Any:
        """Returns the result of a subclass's `sample` or `sample_jointly`, or raises ValueError."""
        if not isinstance(found, tuple) or len(found) != 3:
            got = (
                f"{len(found)} of them" if isinstance(found, tuple) else f"a {type(found).__name__}"
            )
            raise ValueError(
                f"{type(self).__name__}.{method} has to return three arrays, values, their "
                f"{'variances' if method == 'sample' else 'covariances'}, and what was added to "
                f"the variances (zeros for nothing), but returned {got}."
            )
        return found

    def as_numbers(self, method: str, found: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the result of a subclass's method as float64[shape], or raises ValueError."""
        try:
            numbers = np.asarray(found)
            described = f"one of {numbers.shape}"
        except ValueError:
            numbers, described = np.empty(0), "rows of different lengths"
        if numbers.shape != shape:
            last = {"differentiate": ", parameters", "sample_jointly": ", values"}
            axes = f"points, values{last.get(method, '')}"
            raise ValueError(
                f"{type(self).__name__}.{method} has to return an array of the shape {shape} "
                f"({axes}), but returned {described}."
            )
        if numbers.dtype.kind not in "fiub":
            raise ValueError(
                f"{type(self).__name__}.{method} has to return real numbers, but returned "
                f"{numbers.dtype} ones."
            )
        return numbers.astype(float)
