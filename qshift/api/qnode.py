"""The callable a user holds: a PennyLane QNode whose calls are TensorFlow ops."""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import cloudpickle
import pennylane as qml
import tensorflow as tf
from cachetools import LRUCache
from pennylane.measurements import ExpectationMP, ProbabilityMP, VarianceMP
from pennylane.queuing import AnnotatedQueue
from pennylane.tape import QuantumScript

from qshift.api import qnode_options
from qshift.api.pickling import reduced, restored
from qshift.api.pipeline import apply
from qshift.api.preparation import Preparation, Prepared
from qshift.autodiff import saved_models as saved_models  # which tells TensorFlow
from qshift.autodiff import special_unitary_op as special_unitary_op  # which registers itself
from qshift.autodiff import without_xla as without_xla  # which tells TensorFlow
from qshift.autodiff.angles import follows
from qshift.autodiff.layout import (
    differentiable,
    highest_order,
    result_dtype,
    whole_numbers,
)
from qshift.autodiff.remembered_ops import indexed
from qshift.autodiff.requests import Partial, Request, Wanted, checked, present, request
from qshift.autodiff.tracing import Itself
from qshift.autodiff.unrolling import explained, unrolled
from qshift.circuits.making_gates import COPIED, recorded
from qshift.circuits.pennylane_internals import (
    BaseQNode,
    as_returned,
    breakpoints,
    has_own_shots,
    output,
    pipeline,
    require_measurements,
    set_pipeline,
    set_shots,
    shots_of_call,
)
from qshift.circuits.pennylane_math_internals import known_interface
from qshift.errors import QShiftWarning
from qshift.executors.registry import executor
from qshift.forks import Lock
from qshift.inputs import is_integer
from qshift.rules.cost import Plan
from qshift.rules.seconds import Seconds
from qshift.rules.shots import Shots
from qshift.tensors import as_argument, is_tensor

if TYPE_CHECKING:
    import numpy as np

    from qshift.circuits.compiler import Compiled

_OWN = (tf.Tensor, tf.Variable)  # the classes that PennyLane takes for TensorFlow's

# Nothing but these, behind gates, needs no look at each object to become a tape.
_MEASUREMENTS = {ExpectationMP, VarianceMP, ProbabilityMP}

_Used = TypeVar("_Used")


class _WouldRunError(Exception):
    """Raised where a quantum function calls another qnode while no circuit may be run."""


class _Tapes(NamedTuple):
    """A call of a quantum function, recorded.

    Attributes:
        tapes: The tapes to run, after the transforms put on top of the qnode.
        post_processing: From the results of the tapes to the qnode's result.
        output: The return value of the quantum function.
        arguments: The arguments of the quantum function, as PennyLane takes them.
        dtype: The dtype of the results.
        partitioned: Whether there is a shot vector.
        is_informative: Whether a transform returns information and nothing is to be run.
    """

    tapes: Sequence[QuantumScript]
    post_processing: Callable
    output: Any
    arguments: tuple
    dtype: tf.DType
    partitioned: bool
    is_informative: bool


class QNode(BaseQNode):
    """A quantum function on a device, as a TensorFlow op with exact derivatives of every order.

    A subclass of `qml.QNode`: drawing, `qml.specs`, `qml.set_shots` and transforms apply to it.
    Calls take and give TensorFlow tensors; NumPy arrays and numbers are constants of the circuit.
    float32 parameters give float32 results, float64 ones float64; everything inside is float64.
    QNodes work in `tf.function`; where it has ``jit_compile=True``, the function is run without
    XLA, which cannot run circuits. A call in a `tf.vectorized_map` that does not depend on the
    mapped elements is run once for all of them.

    Gates whose angles are certain to be multiples of one tensor are differentiated together, by
    that tensor, and angles that are entries of a tensor by the tensor. So a tape can differentiate
    by arguments, by variables, and by tensors computed from them outside of the quantum function. A
    tensor that the quantum function itself computes and hands out may get the derivative of all
    these gates, or none, unless a tape is told to watch it there.

    Numbers are float64. Where gates turn by w x, a derivative of order n by x has rounding errors
    of about 1e-16 w^n, also if the gates cancel.

    Only derivatives that are used are evaluated. If q gates of frequency one turn by x, then f,
    df/dx, d2f/dx2 and their derivatives by each of P weights take (2 q + 1) (2 P + 1) circuits by
    shift for each x of a batch, in eager mode, in a `tf.function` and in a compiled Keras `fit`;
    no derivative by two weights is among them. With adjoint differentiation they take one circuit
    for f and 2 q + 1 differentiated ones.

    Args:
        func: A quantum function that returns `qml.expval`, `qml.var` or `qml.probs` measurements.
        device: Any PennyLane device, for instance from `qshift.device`.
        interface: ``"auto"``, ``"tf"`` or ``"tensorflow"``.
        diff_method: ``"shift"``, ``"parameter-shift"`` or `qshift.param_shift`: every derivative
            from shifted circuits; ``"adjoint"``: first derivatives by the device's
            adjoint differentiation and higher ones from these, shifted; ``"best"``: adjoint on the
            embedded simulator where that costs less (exact results, no more values than
            parameters), otherwise shift. ``"backprop"`` and ``"hadamard"`` are taken as ``"best"``,
            which gives the same exact derivatives.
        embedded: True runs circuits of PennyLane's default.qubit and lightning.qubit on the
            embedded simulator, which gives the same numbers in less time, and samples of the same
            distribution, drawn from the device's generator. The device itself still runs what the
            embedded simulator does not cover; everything while a `qml.Tracker`, `qml.snapshots`
            or a test's spy on `execute` watches it; and everything if it has ``max_workers`` or a
            seed of JAX's. False runs all circuits on the device. Other devices, also subclasses of
            these two, always run their circuits themselves.
        shots: Shots per circuit on the average, an int; a shot vector; or `qshift.Shots`, which
            says how they are spread. The device's if not given.
        objective: ``"circuits"`` (the default without shots): the fewest circuits; ``"shots"``
            (the default with shots): the least variance for a number of shots; ``"seconds"``: the
            least time to the same variance, with the device's QPU seconds, or
            `qshift.Seconds`, which says how long a circuit and a shot take. Without shots these
            two mean the fewest circuits.
        prefetch: Order up to which the derivatives' circuits are run together with the value, in
            one batch (on hardware, one job; with adjoint differentiation there are two batches,
            values and gradients). Or a list of partial derivatives by positions of arguments:
            ``[(0, 0), (0, 0, 1)]`` are the second by argument 0 and its derivatives by argument 1.
        seed: Makes samples reproducible from run to run; None draws fresh ones.
        grad_on_execution: True is ``prefetch=1``.
        cache: True, False or ``"auto"``, without effect: a call's circuits are never run twice, and
            results are not kept after it.
        max_diff: Accepted for compatibility; every order works.
        device_vjp: Accepted for compatibility; derivatives are exact either way.
        mcm_method: Mid-circuit measurements are deferred, so None or ``"deferred"``.
        **kwargs: The other keywords of `qml.qnode`, with their default values.

    Attributes:
        calls: Numbers the calls of this QNode; ``calls.made`` is how many there were, of compiled
            functions those with seeded shots only.
        preparation: Turns the tape of a call into a program to run; for qshift's own modules.
        slopes: A cache of how angles depend on arguments, for `qshift.api.affine`.
        lock: The lock of this cache.

    Raises:
        UnsupportedError: For a keyword's value that qshift has no meaning for; when called, for
            measurements other than the above, for gate parameters without an exact shift rule
            that a tape is watching, for transforms that lose parameters, and where adjoint
            differentiation was asked for and the device does not offer it.

    Example:
        >>> def circuit(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> energy = qshift.QNode(circuit, qshift.device("simulator"))
        >>> x = tf.Variable(0.4, dtype=tf.float64)
        >>> with tf.GradientTape() as tape:
        ...     value = energy(x)
        >>> round(float(tape.gradient(value, x)), 6)  # -sin(0.4)
        -0.389418
    """

    def __init__(
        self,
        func: Callable,
        device: qml.devices.Device,
        interface: str = "auto",
        diff_method: str = "best",
        *,
        embedded: bool = True,
        objective: str | Seconds | None = None,
        prefetch: int | Sequence[tuple[int, ...]] = 0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        interface = qnode_options.interface(interface)
        diff_method = qnode_options.diff_method(diff_method)
        qnode_options.check(embedded, objective, prefetch, seed, kwargs)
        if "shots" not in kwargs and getattr(device, "qshift_shots", None) is not None:
            kwargs["shots"] = device.qshift_shots
        known, asked = kwargs, kwargs.get("shots")
        if isinstance(asked, Shots):
            known = kwargs | {"shots": asked.number}
        super().__init__(func, device, interface=known_interface(interface), **known)
        self.settings = {
            "func": func,
            "device": device,
            "interface": interface,
            "diff_method": diff_method,
            "embedded": embedded,
            "objective": objective,
            "prefetch": prefetch,
            "seed": seed,
            "gradient_kwargs": None,
            **kwargs,
        }
        self.diff_method = diff_method
        self.objective = objective
        self.seed = seed
        ahead = int(kwargs.get("grad_on_execution") is True)
        if is_integer(prefetch):
            orders = max(int(prefetch), ahead)  # type: ignore[arg-type]
            self.prefetch: int | tuple[Partial, ...] = orders
            wanted = Wanted(orders)
        else:
            partials = checked(prefetch)
            self.prefetch = partials
            wanted = Wanted(ahead, ((), *partials))
        self.preparation = Preparation(
            executor(self.device, seed, embedded),
            self.device.wires,
            diff_method,
            objective,
            wanted,
            seed is not None,
            asked if isinstance(asked, Shots) else None,
        )
        self.calls = self.preparation.calls
        self.slopes: LRUCache[tuple, list] = LRUCache(2**14)  # see `qshift.api.affine`
        self.lock = Lock()  # of the slopes

    def __copy__(self) -> QNode:
        copied: Any = type(self).__new__(type(self))
        vars(copied).update(vars(super().__copy__()))
        return copied

    def __tf_tracing_type__(self, _: Any) -> Itself:
        return Itself(self)

    def __deepcopy__(self, memo: dict) -> QNode:
        """Returns a QNode on a copy of the device."""
        copied = memo[id(self)] = restored(*copy.deepcopy(self.state(), memo))
        return copied

    def __reduce__(self) -> Any:
        return reduced(self)

    def state(self) -> tuple:
        """Returns what it is made of, as `pickling.restored` takes it."""
        shots = has_own_shots(self), self.shots
        return type(self), self.settings, shots, pipeline(self), self.calls.made

    @qml.QNode.interface.setter
    def interface(self, value: str | qml.math.Interface) -> None:
        qml.QNode.interface.fset(self, known_interface(qnode_options.interface(value)))

    def update(self, **kwargs: Any) -> QNode:
        """Returns a new QNode with some of its settings replaced.

        As in PennyLane, the shots stay those of this QNode if the device is replaced.

        Raises:
            ValueError: If there is nothing to replace.
        """
        if not kwargs:
            raise ValueError(
                "update() was given no setting to replace. "
                f"Give at least one of {', '.join(self.settings)}."
            )
        updated = type(self)(**{**self.settings, **kwargs})
        if "shots" not in kwargs and (has_own_shots(self) or updated.shots != self.shots):
            if not has_own_shots(self):
                warnings.warn(
                    f"The new device's shots are {updated.shots.total_shots}, but the qnode keeps "
                    f"its own, {self.shots.total_shots}. Give update(shots=...) or use "
                    "qml.set_shots.",
                    QShiftWarning,
                    stacklevel=2,
                )
            set_shots(updated, self.shots)
        set_pipeline(updated, copy.copy(pipeline(self)))
        return updated

    def update_shots(self, shots: Any) -> QNode:
        """Returns a QNode with other shots, as `qml.set_shots` does.

        Args:
            shots: A number for each circuit on the average, a shot vector, `qshift.Shots`, or None
                for exact results.
        """
        asked = shots if isinstance(shots, Shots) else None
        updated: QNode = super().update_shots(asked.number if asked else shots)
        updated.settings = {**self.settings, "shots": shots}
        updated.preparation = self.preparation.with_shots(asked)
        return updated

    # A quantum function is ordinary Python, which AutoGraph must not rewrite.
    @tf.autograph.experimental.do_not_convert
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not qml.QueuingManager.recording():
            return super().__call__(*args, **kwargs)
        # A quantum function may call another qnode, whose gates must not be recorded with its own.
        with qml.QueuingManager.stop_recording():
            return super().__call__(*args, **kwargs)

    def construct(self, args: Any, kwargs: Any) -> QuantumScript:
        """Returns the tape of a call; see `qml.QNode`. The QNode does not keep the tape."""
        return self._constructed(args, kwargs)[0]

    def _constructed(
        self, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[QuantumScript, Any]:
        """Records a call as `qml.QNode` does, and returns its tape and its return value."""
        # PennyLane keeps both on the QNode, but several threads may be calling it.
        call: Any = type(self).__new__(type(self))
        vars(call).update(vars(self))
        call.func = functools.partial(recorded, self.func)
        tape = qml.QNode.construct(call, args, kwargs)
        return tape, output(call)

    def _record(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[QuantumScript, Any]:
        """Records a call, and returns its tape and its return value. Which parameters the tape
        calls trainable is of use to transforms only."""
        if len(pipeline(self)):
            return self._constructed(args, kwargs)
        kwargs = dict(kwargs)
        shots = shots_of_call(self, kwargs)
        with breakpoints(self.device), AnnotatedQueue() as queue:
            returned = recorded(self.func, *args, **kwargs)
        objects = [each.obj for each in queue]
        count = sum(map(COPIED.__contains__, map(type, objects)))
        gates, rest = objects[:count], objects[count:]
        if COPIED.keys() >= {*map(type, gates)} and _MEASUREMENTS >= {*map(type, rest)}:
            tape = QuantumScript(gates, rest, shots)
        else:
            tape = QuantumScript.from_queue(queue, shots)
        require_measurements(returned, tape.measurements)
        return tape, returned

    def returned(self, *args: Any, **kwargs: Any) -> Any:
        request = present()

        def prepared(traced: _Tapes) -> list[Prepared]:
            if traced.is_informative:
                return []
            return [
                self.preparation(tape, traced.dtype, traced.arguments, request)
                for tape in traced.tapes
            ]

        traced, calls = self._traced(args, kwargs, prepared)
        if traced.is_informative:
            return traced.post_processing(traced.tapes)[0]
        if request.refuse:
            raise request.refuse
        results = [call.results(request.instead_of_running) for call in calls]
        result = traced.post_processing(tuple(results))[0]
        return as_returned(result, traced.output, traced.partitioned)

    def _traced(
        self, args: Sequence[Any], kwargs: dict[str, Any], use: Callable[[_Tapes], _Used]
    ) -> tuple[_Tapes, _Used]:
        """Traces a call and prepares it, while its tensors remember how they were made.

        Args:
            args: The arguments of the quantum function.
            kwargs: Its keyword arguments.
            use: What prepares the call.

        Returns:
            The traced call, and what `use` returns for it.
        """
        try:
            with indexed() if tf.executing_eagerly() else unrolled():
                traced = self._tapes(args, kwargs)
                return traced, use(traced)
        except Exception as error:
            said = explained(
                error, getattr(self, "__name__", "the quantum function"), (args, kwargs)
            )
            if said is error:
                raise
            raise said from error

    def _tapes(self, args: Sequence[Any], kwargs: dict[str, Any]) -> _Tapes:
        """Traces the quantum function and applies the transforms put on top of the qnode."""
        args = tuple([x if isinstance(x, _OWN) else as_argument(x) for x in args])
        kwargs = {name: as_argument(argument) for name, argument in kwargs.items()}
        tape, returned = self._record(args, kwargs)
        dtype = result_dtype(tape)  # before the transforms, which may cast
        partitioned = tape.shots.has_partitioned_shots
        transforms = pipeline(self)
        if not len(transforms):
            return _Tapes((tape,), tuple, returned, args, dtype, partitioned, False)
        transforms = copy.copy(transforms)  # PennyLane stores things of a call on it
        transforms.set_classical_component(self, args, kwargs)
        tapes, finish = apply(transforms, tape)
        informative = transforms.is_informative
        return _Tapes(tapes, finish, returned, args, dtype, partitioned, informative)

    def prepare(
        self,
        args: Sequence[Any],
        sources: Sequence[tf.Tensor],
        known: Callable[[Compiled, Request], _Used | None] = lambda *_: None,
    ) -> Prepared | _Used | None:
        """Returns what a call would run, or None if it is not one circuit with one result.

        Args:
            args: The arguments of the quantum function.
            sources: Tensors; `Prepared.follows` says how the angles follow from them.
            known: Given the circuit and the request that the call belongs to, it returns what is to
                be returned instead; None if there is no such thing.
        """
        if len(pipeline(self)):
            return None

        def prepared(traced: _Tapes) -> Prepared | _Used | None:
            if not isinstance(traced.output, qml.measurements.MeasurementProcess):
                return None
            (tape,) = traced.tapes
            compiled = self.preparation.compile(tape)
            if (found := known(compiled, asked)) is not None:
                return found
            call = self.preparation(tape, traced.dtype, traced.arguments, asked, compiled)
            return call._replace(follows=follows(call.parameters, sources))

        asked = present()
        try:
            with request(refuse=_WouldRunError):
                return self._traced(args, {}, prepared)[1]
        except _WouldRunError:
            return None

    def plan(
        self,
        *args: np.ndarray,
        order: int | None = None,
        argnums: int | tuple[int, ...] | None = None,
        partials: Sequence[tuple[int, ...]] | None = None,
        wanted: Callable | None = None,
        **kwargs: Any,
    ) -> Plan:
        """Says what value and derivatives cost, without running anything.

        This is what `qshift.derivatives` runs, and calls with this ``prefetch``. Other calls do not
        know which derivatives will follow; where gates share an angle, or where the embedded
        simulator differentiates a sum of several values, tapes may then run a few circuits more, or
        fewer.

        Args:
            *args: The arguments of the quantum function.
            order: All derivatives up to this order; 1 if nothing else is given.
            argnums: Which arguments to differentiate by; None for all that are floating-point, or
                for integers where there is nothing else.
            partials: Only these, by positions of arguments: ``[(), (0, 0), (0, 0, 1)]``.
            wanted: What is wanted of value, gradient, and so on, as in `qshift.derivatives`. The
                cost of shots is that of what an affine function returns; what another one depends
                on is known only after the first share of the shots. Of qnodes with several values,
                this is what `derivatives` runs without ``errors=True``; with errors, it runs all.
            **kwargs: Keyword arguments of the quantum function.

        Returns:
            A `qshift.rules.cost.Plan`: circuits, batches, shots, and jobs and QPU seconds on
            devices that have them, per order and in all, and what plain recursion would have
            executed; readable when printed, also in notebooks. For hardware and fake backends the
            circuits are transpiled, because their QPU seconds depend on it.

        Raises:
            ValueError: If an order is not a whole number, or an argument does not exist.
        """
        if partials is not None:
            if order is not None or argnums is not None or wanted is not None:
                raise ValueError("Give plan either partials, or order, argnums and wanted.")
            partials = checked(partials, len(args))
            argnums = tuple({i for partial in partials for i in partial})
        order = highest_order(1 if order is None else order)
        if wanted is not None:
            if not callable(wanted) or kwargs:
                raise ValueError(
                    "plan takes wanted= as a function of value, gradient, and so on, without "
                    "keyword arguments of the quantum function, as qshift.derivatives does; got "
                    f"{wanted!r}{f' and {kwargs}' if kwargs else ''}."
                )
            from qshift.api.derivatives import planned as of_wanted  # it calls qnodes

            plan = of_wanted(self, args, order, argnums, wanted)
            if plan is not None:
                return plan
        inputs, positions = differentiable(args, argnums)

        def planned(traced: _Tapes) -> Plan:
            wanted = Wanted(order)
            if partials is not None:
                wanted = Wanted(0, partials, traced.arguments)
            return Plan.total([self.preparation.plan(tape, wanted) for tape in traced.tapes])

        with tf.GradientTape(watch_accessed_variables=argnums is None) as tape:
            watched = [inputs[i] for i in positions] if argnums is not None else [inputs, kwargs]
            tape.watch([t for t in tf.nest.flatten(watched) if is_tensor(t)])
            found = self._traced(inputs, kwargs, planned)[1]
        if order and argnums is None and not found.parameters and (whole := whole_numbers(args)):
            # `qshift.derivatives` differentiates by integers, too, where there is nothing else.
            with contextlib.suppress(AttributeError, TypeError):  # of a count, such as of layers
                return self.plan(*args, order=order, argnums=whole, **kwargs)
        return found


# `cloudpickle` looks for this method; it is used to send functions to other programs.
cloudpickle.CloudPickler.dispatch_table[QNode] = functools.partial(reduced, anywhere=True)


def qnode(
    device: qml.devices.Device, interface: str = "auto", diff_method: str = "best", **kwargs: Any
) -> Callable[..., Any]:
    """Decorates a quantum function: it becomes a `qshift.QNode` on the given device.

    Args:
        device: Any PennyLane device, for instance from `qshift.device`.
        interface: ``"auto"``, ``"tf"`` or ``"tensorflow"``.
        diff_method: How derivatives are found, see `QNode`.
        **kwargs: The other keywords of `qml.qnode`, and ``embedded=``, ``objective=``,
            ``prefetch=``, ``seed=``; see `QNode`.

    Returns:
        A decorator that makes a `qshift.QNode` of a quantum function.

    Raises:
        UnsupportedError: When it decorates a function, for a keyword's value that qshift has no
            meaning for.

    Example:
        >>> @qshift.qnode(qshift.device("simulator"))
        ... def energy(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
    """
    return functools.partial(
        QNode, device=device, interface=interface, diff_method=diff_method, **kwargs
    )
