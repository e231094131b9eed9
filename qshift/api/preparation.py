"""From the tape of a call to what is run for it: a program, and the tensors that it is given."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from cachetools import LRUCache
from pennylane.measurements import ExpectationMP, VarianceMP
from pennylane.tape import QuantumScript
from pennylane.wires import Wires

from qshift.autodiff.angles import Angles
from qshift.autodiff.calls import EvaluatedCalls
from qshift.autodiff.direct import Direct
from qshift.autodiff.evaluation import Evaluation
from qshift.autodiff.layout import batch_size, parts
from qshift.autodiff.program import Program
from qshift.autodiff.requests import Request, Wanted
from qshift.autodiff.sampled_table import SampledTable
from qshift.circuits.circuit import Circuit
from qshift.circuits.compiler import Compiled, Compiler
from qshift.circuits.shared_angles import Joint, Spread, join
from qshift.errors import UnsupportedError
from qshift.executors.executor import Executor
from qshift.executors.variances import constants, of_one_shot
from qshift.forks import Lock
from qshift.rules.cost import Plan, Sums
from qshift.rules.planner import Axes, indices_along
from qshift.rules.seconds import Seconds
from qshift.rules.shots import LEAST, PILOT, Shots
from qshift.tensorflow_internals import could_record
from qshift.tensors import constant, is_tensor

# Bytes that the cache of affine calls holds, about. Each call counts for some, as it keeps a
# circuit, of which there may be no more than `Compiler` keeps.
_MOST_AFFINE, _LEAST_AFFINE = 2**24, 2**16


class Prepared(NamedTuple):
    """One call of a qnode, ready to run.

    Attributes:
        compiled: The call's tape, taken apart.
        circuit: The function that is differentiated: the tape's circuit, or a `Joint` that has it
            as a function of fewer parameters.
        parameters: One tensor for each slot of `circuit`.
        angles: The names of the parameters, as `Angles.named` returns them.
        batch: Size of the batch; None if there is none.
        program: The circuit as a differentiable function of packed parameters.
        tensors: The packed parameters.
        dtype: The dtype of the results.
        follows: How the parameters follow from tensors that the caller has named, as in
            `angles.follows`.
    """

    compiled: Compiled
    circuit: Circuit | Joint
    parameters: Sequence[tf.Tensor]
    angles: list[tuple[Hashable, float]]
    batch: int | tf.Tensor | None
    program: Program
    tensors: list[tf.Tensor]
    dtype: tf.DType
    follows: Sequence[int | None] = ()

    def results(self, instead: Callable[[Program, list[tf.Tensor]], tf.Tensor] | None) -> Any:
        """Runs the call, and returns its results as PennyLane lays them out.

        Args:
            instead: A function that makes values up, so that nothing is run; None to run the call.
        """
        make = instead or Program.__call__
        values = make(self.program, self.tensors)
        return self.compiled.results(values, self.dtype, self.batch is not None)


def _number(angle: tf.Tensor) -> tf.Tensor:
    """Returns an angle as a constant of derivatives."""
    return tf.constant(np.asarray(angle)) if tf.executing_eagerly() else tf.stop_gradient(angle)


class Preparation:
    """Prepares the calls of a qnode, and keeps what depends on the structure of circuits only.

    Args:
        executor: Runs the circuits.
        device_wires: The wires of the device, if it has a fixed number.
        diff_method: As for `QNode`.
        objective: As for `QNode`.
        wanted: Derivatives whose circuits are run with the values.
        is_seeded: Whether samples are reproducible.
        shots: How shots are spread, for circuits that have this number of them.

    Attributes:
        executor: As given.
        calls: Numbers the calls.
        programs: The programs of the circuits met so far.
        affine: A cache of calls that are known to be affine, for `qshift.api.affine`.
        by_arguments: Whether the derivatives run with the values depend on which arguments of the
            quantum function its angles are computed from.
        compilers: Whether adjoint differentiation is meant -> the compiler.
        lock: The lock of these caches.
    """

    def __init__(
        self,
        executor: Executor,
        device_wires: Wires | None,
        diff_method: str,
        objective: str | Seconds | None,
        wanted: Wanted,
        is_seeded: bool,
        shots: Shots | None = None,
    ) -> None:
        self.executor = executor
        self.compilers = {
            adjoint: Compiler(device_wires, is_tensor, adjoint, constant)
            for adjoint in (False, True)
        }
        self.calls = EvaluatedCalls()
        self.by_arguments = bool(wanted.partials)
        self._forget()
        self._diff_method, self._objective = diff_method, objective
        self._wanted, self._is_seeded = wanted, is_seeded
        self._shots = shots

    def _forget(self) -> None:
        self.programs: LRUCache[tuple, Program] = LRUCache(256)
        self.affine: LRUCache[Hashable, Any] = LRUCache(
            _MOST_AFFINE, getsizeof=lambda call: max(call.nbytes, _LEAST_AFFINE)
        )
        self.lock = Lock()

    def with_shots(self, shots: Shots | None) -> Preparation:
        """Returns the same for a qnode whose shots are spread in another way."""
        if shots == self._shots:
            return self
        other = copy.copy(self)
        other._shots = shots
        other._forget()
        return other

    def __call__(
        self,
        tape: QuantumScript,
        dtype: tf.DType,
        arguments: tuple,
        request: Request,
        compiled: Compiled | None = None,
    ) -> Prepared:
        """Prepares one circuit of a call.

        Args:
            tape: The circuit.
            dtype: The dtype of the results.
            arguments: The arguments of the quantum function.
            request: The request that the call belongs to.
            compiled: What `compile` has returned for the circuit, if it was called before.
        """
        compiled = compiled or self.compile(tape)
        circuit: Any = compiled.circuit
        parameters: Sequence[tf.Tensor] = compiled.parameters
        names: list[tuple] = []
        known: Angles | None = None
        ahead: list[Wanted] = []
        if could_record() or not tf.executing_eagerly():
            if request.wanted and (wanted := request.wanted_here()):
                ahead.append(wanted)
            if self._wanted.order or self._wanted.partials:
                ahead.append(replace(self._wanted, arguments=arguments))
            order = max((wanted.highest for wanted in ahead), default=0)
            circuit, parameters, names, known = self._joined(compiled, order)
        batch = batch_size(circuit, parameters)
        tensors, columns, active, watched = parts(circuit, parameters, batch, known)
        axes = tuple(a for wanted in ahead for a in wanted.axes(circuit, parameters, watched))
        key = (circuit, columns, active, axes, self.executor.watchers())
        with self.lock:
            program = self.programs.get(key)
            if program is None:
                program = self._program(compiled.circuit, circuit, columns, active, axes)
                self.programs[key] = program
        return Prepared(compiled, circuit, parameters, names, batch, program, tensors, dtype)

    def _joined(
        self, compiled: Compiled, order: int
    ) -> tuple[Any, Sequence[tf.Tensor], list[tuple], Angles]:
        """Returns what is differentiated (a circuit or a `Joint`), its parameters, their angles,
        and how these follow from other tensors."""
        parameters, angles = list(compiled.parameters), Angles()
        names = angles.named(parameters)
        if len({name for name, _ in names}) == len(names):
            return compiled.circuit, parameters, names, angles
        # Where devices give first derivatives, one order less comes from shifted circuits.
        shifts = order - self._is_adjoint(compiled.circuit) if order > 1 else order
        run = compiled.circuit
        steady = self._is_for("shots", run) and self._spread_of(run) == "equal"
        circuit: Any = join(run, names, shifts, steady)
        if circuit is not compiled.circuit:
            # An angle that is a multiple of another one is moved with it, from its own value.
            leaders = set(circuit.leaders)
            parameters = [
                each if k in leaders else _number(each) for k, each in enumerate(parameters)
            ]
        return circuit, parameters, names, angles

    def _program(
        self,
        run: Circuit,
        circuit: Any,
        columns: tuple[tuple[int, ...], ...],
        active: tuple[tuple[int, ...] | None, ...],
        axes: tuple[Axes, ...],
    ) -> Program:
        objective, adjoint = self._objective_of(run), self._is_adjoint(run)
        executor = self.executor if circuit is run else Spread(self.executor)
        ahead = indices_along(axes)
        if ahead == ((),):  # the value is evaluated anyway
            ahead = ()

        settings: dict[str, Any] = {"objective": objective, "adjoint": adjoint, "prefetch": ahead}
        weighs, steers = "", False
        if run.shots:
            spread = self._spread_of(run)
            of_one = self._of_one(run)
            shots = self._spent(run, spread, of_one)
            sampled = functools.partial(
                SampledTable,
                shots=shots,
                seed=self.executor.seed,
                name=b"" if self.executor.seed is None else run.name,
                numbers=self.executor.numbers,
                bases=self.executor.bases(run) if spread == "batch" else 1,
                constants=constants(run) if shots.total else 0.0,
                choices=functools.partial(self.executor.choices, run),
                of_one=of_one,
            )
            settings |= {"spread": spread, "sampled": sampled, "pilot": bool(shots.pilot)}
            weighs, steers = self._weighs(spread), self._steers(run, shots, spread)
        start = functools.partial(Evaluation, circuit, executor, **settings)
        reproducible = self._is_seeded and bool(run.shots)
        plain = functools.partial(self.executor.in_tensorflow, run)
        pulls_back = (
            self._diff_method in ("best", "adjoint")
            and run.num_values > 1
            and self.executor.pulls_back(run)
        )
        exact = not run.shots and run.is_finite and circuit is run and not ahead
        direct = Direct(circuit, executor) if exact and adjoint and circuit.has_rules else None
        settings = {"plain": plain, "pulls_back": pulls_back, "direct": direct}
        settings |= {"weighs": weighs, "steers": steers}
        return Program(circuit, columns, active, start, self.calls, reproducible, **settings)

    def _weighs(self, spread: str | None) -> str:
        """Returns where shots are spread by the weights of sums; see `Program`.

        Not with a seed: the same derivatives come from the same samples then, whatever they are
        multiplied by. In graphs, values and gradients stay one batch where batches are jobs.
        """
        if spread not in ("own", "batch") or self._is_seeded:
            return ""
        return "eager" if self.executor.has_jobs else "everywhere"

    def _steers(self, circuit: Circuit, shots: Shots, spread: str | None) -> bool:
        """Whether most shots may wait for what a first share of them finds; see `Program`."""
        if spread not in ("own", "batch"):
            return False
        if shots.pilot or self.executor.has_jobs or self._asked(circuit).pilot == 0:
            return bool(shots.pilot)
        with contextlib.suppress(UnsupportedError):  # values come without their variances
            self.executor.require_errors(circuit)
            return True
        return False

    def _is_for(self, objective: str, circuit: Circuit) -> bool:
        return (self._objective or ("shots" if circuit.shots else "circuits")) == objective

    def _objective_of(self, circuit: Circuit) -> str | float:
        """Returns the objective of a circuit's plans: a word, or how many shots, in the unit of a
        plan's, take as long as a circuit.

        Raises:
            UnsupportedError: If the least time is wanted, and the device does not say what takes
                how long.
        """
        given = self._objective
        if not circuit.shots:
            return "shots" if given == "shots" else "circuits"
        if given != "seconds" and not isinstance(given, Seconds):
            return given or "shots"
        rates = given if isinstance(given, Seconds) else self.executor.rates(circuit)
        if rates is None:
            raise UnsupportedError(
                f"objective='seconds': {self.executor.name} does not say how long circuits and "
                "shots take. Give objective=qshift.Seconds(circuit=..., shot=...)."
            )
        spread = self._spread_of(circuit)
        asked = self._spent(circuit, spread, self._of_one(circuit))
        shots = asked.number * self.executor.bases(circuit)
        times = 2 if asked.pilot else 1  # circuits are run twice
        return times * rates.overhead / shots if rates.shot else "circuits"

    def _asked(self, circuit: Circuit) -> Shots:
        """Returns what shots a circuit that has shots was given."""
        number = circuit.shots.total_shots
        # A transform may have replaced those of the qnode.
        if self._shots is not None and self._shots.number == number:
            return self._shots
        return Shots(per_circuit=number)

    def _spread_of(self, circuit: Circuit) -> str | None:
        """Returns how shots are spread over points; None for exact results.

        Raises:
            UnsupportedError: If a batch was given a total or an error, and the device cannot spread
                shots.
        """
        if not circuit.shots:
            return None
        asked, allots = self._asked(circuit), self.executor.allots(circuit)
        if asked.per_circuit is None and not allots:
            raise UnsupportedError(
                f"shots={asked}: {self.executor.name} gives all circuits of a batch the same "
                "number of shots. Give per_circuit, or use a simulator of PennyLane's or a backend "
                "of Qiskit's."
            )
        if asked.per_circuit is None:
            return "batch" if asked.error is None else "error"
        if asked is not self._shots and self._is_for("circuits", circuit):
            return "equal"
        if self.executor.has_jobs and asked is not self._shots:
            return "equal"
        return "own" if allots and not asked.equal and asked.number >= LEAST else "equal"

    def _of_one(self, circuit: Circuit) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the variances of `of_one_shot` where an error is wanted, else None."""
        return None if self._asked(circuit).error is None else of_one_shot(circuit)

    def _spent(
        self, circuit: Circuit, spread: str | None, of_one: tuple[np.ndarray, np.ndarray] | None
    ) -> Shots:
        """Returns the shots of a circuit that has some, in each basis, with their pilot share.

        Args:
            circuit: The circuit.
            spread: As `_spread_of` returns it.
            of_one: As `_of_one` returns it.

        Raises:
            UnsupportedError: If a pilot share was given, and the device has no use for it.
        """
        asked, executor = self._asked(circuit), self.executor
        if asked.error is not None and of_one is not None:
            # In units of the deviation that a value has where nothing is special about the state.
            executor.require_errors(circuit)
            typical = of_one[0].max(initial=0.0) ** 0.5 or 1.0
            return replace(asked, error=asked.error / typical, pilot=asked.pilot or PILOT)
        if asked.pilot:
            if not executor.allots(circuit):
                raise UnsupportedError(
                    f"shots={asked}: {executor.name} gives all circuits of a batch the same number "
                    "of shots, so there is nothing that a pilot share could decide. Leave it out, "
                    "or use a simulator of PennyLane's."
                )
            executor.require_errors(circuit)
        share = asked.pilot or 0.0
        # A second batch costs little where batches are no jobs.
        if asked.pilot is None and asked.total and not executor.has_jobs:
            with contextlib.suppress(UnsupportedError):  # values come without their variances
                executor.require_errors(circuit)
                share = PILOT
        if spread == "batch":  # a total is one of all samples
            asked = replace(asked, total=max(1, asked.number // executor.bases(circuit)))
        return replace(asked, pilot=share)

    def compile(self, tape: QuantumScript) -> Compiled:
        """Takes a tape apart."""
        adjoint = self._diff_method == "adjoint"
        if self._diff_method == "best" and not tape.shots:
            executor = self.executor
            can = executor.differentiates_gates and executor.watchers() == executor.unwatched
            adjoint = can and all(
                isinstance(measurement, ExpectationMP | VarianceMP)
                for measurement in tape.measurements
            )
        return self.compilers[adjoint](tape)

    def _is_adjoint(self, circuit: Circuit) -> bool:
        """Whether the device gives first derivatives.

        Raises:
            UnsupportedError: If ``diff_method="adjoint"`` was given and the device does not.
        """
        if self._diff_method == "best":
            return self.executor.differentiates(circuit)
        if self._diff_method == "adjoint":
            self.executor.require_gradients(circuit)
        return self._diff_method == "adjoint"

    def plan(self, tape: QuantumScript, wanted: Wanted) -> Plan:
        """Returns what a circuit and its derivatives cost; nothing is run."""
        compiled = self.compile(tape)
        circuit, parameters, _, known = self._joined(compiled, wanted.highest)
        batch = batch_size(circuit, parameters)
        tensors, _, _, watched = parts(circuit, parameters, batch, known)
        axes = wanted.axes(circuit, parameters, watched)
        return self.planned(compiled.circuit, circuit, axes, int(tensors[0].shape[0]))

    def planned(
        self,
        run: Circuit,
        circuit: Any,
        axes: Sequence[Axes],
        points: int,
        sums: Sums | None = None,
    ) -> Plan:
        """Returns what derivatives of a circuit cost; nothing is run.

        Args:
            run: The circuit that is run.
            circuit: What is differentiated, this or a `Joint` of it.
            axes: For each axis of each derivative, the parameters that it runs over.
            points: Size of the batch.
            sums: What is wanted of the derivatives; None for all of them.
        """
        spread = self._spread_of(run)
        own = spread not in (None, "equal")
        asked = self._spent(run, spread, self._of_one(run)) if run.shots else None
        if asked and sums and sums.weights is None and self._steers(run, asked, spread):
            asked = replace(asked, pilot=asked.pilot or PILOT)
        return Plan.of(
            circuit.planner(self._objective_of(run), spread),
            axes,
            points=points,
            shots=asked.number if asked and own else self.executor.shots(run),
            numbers=self.executor.numbers,
            asked=asked,
            adjoint=self._is_adjoint(run),
            jobs=lambda circuits: self.executor.jobs(run, circuits),
            seconds=lambda circuits: self.executor.seconds(run, circuits),
            costs=lambda shots: self.executor.costs(run, shots),
            alone=lambda circuits: self.executor.seconds_alone(run, circuits),
            samples=lambda circuits, shots: self.executor.samples(run, circuits, shots),
            shared=() if circuit is run else circuit.shared,
            rates=self._objective if isinstance(self._objective, Seconds) else None,
            sums=sums,
        )
