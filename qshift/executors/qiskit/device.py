"""Qiskit's primitives as a PennyLane device."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.devices.modifiers import simulator_tracking, single_tape_support
from pennylane.measurements import ExpectationMP, ProbabilityMP, VarianceMP

from qshift.circuits import spectra, user_gates
from qshift.circuits.compiler import Compiler
from qshift.circuits.identity import contains_custom
from qshift.circuits.mid_circuit import defer
from qshift.errors import OptionError, UnsupportedError
from qshift.executors.executor import Call, Calls
from qshift.executors.qiskit import digests
from qshift.executors.qiskit.backends import is_of_service, target
from qshift.executors.qiskit.budget import Budget
from qshift.executors.qiskit.chip_copies import require_number
from qshift.executors.qiskit.estimator import EstimatorExecutor
from qshift.executors.qiskit.job_splitting import Limits
from qshift.inputs import is_integer
from qshift.ledger.ledger import Ledger, default_path

if TYPE_CHECKING:
    from pennylane.tape import QuantumScript

    from qshift.executors.workers.pools import Workers


@simulator_tracking
@single_tape_support
class EstimatorDevice(qml.devices.Device):
    """A device that runs all circuits it is given together as one job of Qiskit's primitives.

    `qshift.qnode` runs its parametrised circuits on the device directly; for a `qml.qnode`, the
    circuits that differ only in their angles are put together again. Copying the device gives the
    same object, with the same budget; a pickled device is made anew from its arguments.

    Args:
        wires: A number of wires, or their labels; None for those of each circuit.
        backend: ``"aer"``, ``"aer:FakeManilaV2"`` (Aer with its noise), ``"fake:FakeManilaV2"``,
            ``"ibm:NAME"`` or ``"ibm:least-busy"``. Or a backend as an object: a simulator of Aer's
            with options and noise of your own, a fake backend, or a backend of IBM's that your
            `QiskitRuntimeService` has opened. A device that is copied to another process asks for
            the last of these by its name, with the account that is saved there.
        shots: The shots of QNodes without their own. PennyLane prefers `qml.set_shots`.
        optimization_level: The level of Qiskit's transpiler, 0 to 3; 2 by default, the lowest one
            that takes the errors of the backend's gates into account. Gates and qubits that the
            backend calls broken are used at no level.
        seed: The seed of the samples, for qnodes without their own.
        max_parameter_values: How many numbers one job may hold; more are split.
        max_executions: How many circuits times shots one job may have; more are split.
        max_payload: How many bytes, about, one job may have; more are split.
        max_pubs: How many PUBs (circuits with their points) one job may have; None for any number.
        mixed_shots: How circuits with shots of their own go out: True as PUBs of different shots,
            the default for simulators in this process; False with one number of shots in a job,
            where circuits that have more are repeated, as is the default for services.
        copies: How many copies of a circuit run at the same time on different patches of the chip,
            a number or ``"auto"``. Values are means over the patches, and all copies together have
            the shots that are asked for: a k-th of the executions is paid.
        ledger: Where jobs and results are recorded (`qshift.ledger`): True for the default place,
            the path of a file, or False. The default is True for backends on a service and False
            for simulators in this process.
        run: Name of the run, within which results are found again; ``$QSHIFT_RUN`` by default.
        max_jobs: How many jobs this device may send in all; more are refused before they are sent.
        max_qpu_seconds: The same for QPU seconds, as `QNode.plan` estimates them.
        account: The name of an account that qiskit-ibm-runtime has saved; None for its default
            one, or that of the environment variables QISKIT_IBM_TOKEN and QISKIT_IBM_INSTANCE.
        instance: A CRN or name; None for the account's.
        mode: ``"job"`` (the default), ``"batch"`` or ``"session"``, with IBM's backends.
        use_fractional_gates: Whether circuits may use RX and RZZ gates of any angle, with IBM's
            backends that have them. They do not go together with twirled gates.
        max_time: QPU seconds after which a job is cancelled; with a batch or session, seconds after
            which that is closed.
        **options: Options of the runtime's Estimator, such as ``resilience_level=1`` or
            ``twirling={"enable_gates": True}``; its Sampler gets those of them that it has. In this
            process readout errors are mitigated and circuits twirled; a run with any other option
            is an error.

    Raises:
        OptionError: For a backend or option that does not exist. Nothing runs then.

    Example:
        >>> device = qml.device("qshift.estimator", wires=2, backend="aer", seed=1)
        >>> @qml.qnode(device, diff_method=qshift.param_shift)
        ... def energy(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> float(energy(0.0))
        1.0
    """

    name = "qshift.estimator"

    def __init__(
        self,
        wires: Any = None,
        backend: Any = "aer",
        *,
        shots: int | None = None,
        optimization_level: int | None = None,
        seed: int | None = None,
        max_parameter_values: int = 5_000_000,
        max_executions: int = 10_000_000,
        max_payload: int = 60_000_000,
        max_pubs: int | None = None,
        mixed_shots: bool | None = None,
        copies: int | str | None = None,
        ledger: bool | str | os.PathLike | None = None,
        run: str | None = None,
        max_jobs: int | None = None,
        max_qpu_seconds: float | None = None,
        account: str | None = None,
        instance: str | None = None,
        mode: str | None = None,
        max_time: int | None = None,
        use_fractional_gates: bool | None = None,
        **options: Any,
    ) -> None:
        given = dict(locals())
        self._made_of = {name: value for name, value in given.items() if name not in _NO_ARGUMENTS}
        self._made_of |= self._made_of.pop("options")
        super().__init__(wires=wires, shots=shots)
        for key, value in (
            ("max_parameter_values", max_parameter_values),
            ("max_executions", max_executions),
            ("max_payload", max_payload),
            ("max_pubs", 1 if max_pubs is None else max_pubs),
        ):
            if not is_integer(value) or value < 1:
                raise OptionError(key, f"expected a positive number, got {value!r}")
        if mixed_shots not in (None, True, False):
            raise OptionError("mixed_shots", f"expected True or False, got {mixed_shots!r}")
        self.seed = seed
        self.target = target(
            backend,
            optimization_level,
            options,
            least_qubits=max(1, len(self.wires or ())),
            account=account,
            instance=instance,
            mode=mode,
            max_time=max_time,
            use_fractional_gates=use_fractional_gates,
        )
        if is_of_service(backend):  # it holds the account's token, which is stored nowhere
            fractional = self.target.settings.get("use_fractional_gates", None)
            own = {"backend": self.target.name, "use_fractional_gates": fractional}
            self._made_of |= own
        require_number(copies)
        if copies is not None and self.target.is_aer:
            reason = (
                f"{self.target.name} simulates no chip with patches; give it with fake: and ibm:"
            )
            raise OptionError("copies", f"{reason} backends")
        self.target.copies = copies
        self.limits = Limits(
            max_parameter_values,
            max_executions,
            math.inf if max_pubs is None else max_pubs,
            max_payload,
            self.target.longest_job,
            mixed=mixed_shots is not False,
        )
        self.repeats_points = not mixed_shots if mixed_shots is not None else self.target.is_remote
        self.budget = Budget(max_jobs, max_qpu_seconds)
        if max_qpu_seconds is not None and self.target.is_aer:
            reason = f"{self.target.name} says no times; give it with fake: and ibm: backends"
            raise OptionError("max_qpu_seconds", reason)
        self.run = _run(os.environ.get("QSHIFT_RUN", "") if run is None else run)
        self.ledger = _ledger(self.target.is_remote if ledger is None else ledger)
        if self.ledger is not None:
            digests.of_options(self.target.settings)  # refuses options that cannot be recorded
        self.target.require_noise(self.ledger)
        self._calls = Calls()
        self._compile = Compiler(self.wires, _is_angle, tensors=float)
        self._executor = EstimatorExecutor(self)

    @property
    def qshift_workers(self) -> Workers | None:
        """The workers that run parts of jobs, which `qshift.device` sets."""
        return self.target.workers

    @qshift_workers.setter
    def qshift_workers(self, workers: Workers | None) -> None:
        if self.target.is_remote:
            raise OptionError("workers", f"the jobs of {self.target.name} run on its service")
        self.target.workers = workers

    def __copy__(self) -> EstimatorDevice:
        return self

    def __deepcopy__(self, memo: Any) -> EstimatorDevice:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        profile = {name: value for name, value in vars(self).items() if name.startswith("qshift_")}
        if self.qshift_workers is not None:
            profile["qshift_workers"] = self.qshift_workers
        return _restored, (type(self), self._made_of, profile)

    def preprocess_transforms(self, execution_config: Any = None) -> Any:
        """Returns PennyLane's preparation of tapes: one point each, and plain numbers in them."""
        program = super().preprocess_transforms(execution_config or qml.devices.ExecutionConfig())
        program.add_transform(qml.transforms.broadcast_expand)
        program.add_transform(qml.devices.preprocess.validate_device_wires, self.wires, self.name)
        program.add_transform(_require_measured)
        return program

    def execute(self, circuits: Any, execution_config: Any = None) -> Any:
        """Runs tapes as one batch; see `qml.devices.Device.execute`."""
        compiled = [self._compile(_numeric(tape, self.wires)) for tape in circuits]
        together: dict = {}  # circuit -> positions of its tapes
        for i, each in enumerate(compiled):
            together.setdefault(each.circuit, []).append(i)
        points = [
            np.array([[float(p) for p in compiled[i].parameters] for i in positions])
            for positions in together.values()
        ]
        values = self._executor.run_together(
            list(zip(together, points, strict=True)), Call(next(self._calls))
        )
        results: list = [None] * len(compiled)
        for positions, block in zip(together.values(), values, strict=True):
            for i, row in zip(positions, block, strict=True):
                laid_out = compiled[i].results(row[None], tf.float64, batched=False)
                results[i] = tf.nest.map_structure(np.asarray, laid_out)
        return tuple(results)


_NO_ARGUMENTS = {"self", "__class__"}


def _restored(
    kind: type[EstimatorDevice], made_of: Mapping[str, Any], profile: Any
) -> EstimatorDevice:
    device: Any = kind(**made_of)
    for name, value in profile.items():
        setattr(device, name, value)
    return device


def _run(given: str | None) -> str:
    name = str(given)
    try:
        name.encode()
    except UnicodeEncodeError:
        reason = f"{ascii(name)} is no text; give the run another name (run=, QSHIFT_RUN, --run)"
        raise OptionError("run", reason) from None
    return name


def _ledger(given: Any) -> Ledger | None:
    if given in (None, False):
        return None
    if given is not True and not isinstance(given, str | os.PathLike):
        raise OptionError("ledger", f"expected True, False or the path of a file, got {given!r}")
    return Ledger(default_path() if given is True else given)


def _numeric(tape: QuantumScript, wires: Any) -> Any:
    """Returns a tape with floats as the angles of its gates, and arrays as all other constants.

    Other constants are the coefficients in an Evolution, for example, or the exponent of a power.
    """
    tape, _ = defer(tape, wires)
    for op in tape.operations:
        # Both this function and PennyLane put all gates together again.
        if op.data and contains_custom(op) and (problem := user_gates.lost(op)):
            raise UnsupportedError(f"{problem}.")
    (tape,), _ = qml.transforms.convert_to_numpy_parameters(tape)
    operations = []
    for op in tape.operations:
        leaves, structure = qml.pytrees.flatten(op)
        positions = spectra.data_positions(op, leaves)
        numbers = [
            i
            for i, leaf in enumerate(leaves)
            if np.ndim(leaf) == 0 and isinstance(leaf, Real | np.ndarray)
        ]
        for i in numbers:
            leaves[i] = np.asarray(leaves[i]) if positions[i] is None else float(leaves[i])
        # Not all of PennyLane's templates can be put together again.
        operations.append(qml.pytrees.unflatten(leaves, structure) if numbers else op)
    return tape.copy(operations=operations)


@qml.transform
def _require_measured(tape: QuantumScript) -> Any:
    """Raises DeviceError for measurements that the device does not return; ignores snapshots."""
    for measurement in tape.measurements:
        if type(measurement) not in (ExpectationMP, VarianceMP, ProbabilityMP):
            how = "with finite shots" if tape.shots else "for analytic simulation"
            raise qml.exceptions.DeviceError(
                f"Measurement {measurement} not accepted {how} on qshift.estimator, which returns "
                "expectation values, variances and probabilities."
            )
    return (tape,), operator.itemgetter(0)


def _is_angle(parameter: Any) -> bool:
    return isinstance(parameter, float)
