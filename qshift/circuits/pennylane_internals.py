"""Every name beneath PennyLane's and autograd's public interfaces that qshift uses.

Each has a line on what it must do. `pennylane_changes_internals` has what qshift changes in
PennyLane; no other module imports such a name. tests/circuits/test_pennylane_internals.py tests
what this module promises, without the rest of qshift.
"""

from __future__ import annotations

import copy
import functools
import importlib
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any

import pennylane as qml
from autograd.extend import Box
from autograd.tracer import trace_stack
from pennylane.debugging import pldb_device_manager
from pennylane.operation import Operator
from pennylane.ops.op_math import Adjoint, Controlled, ControlledOp, Pow
from pennylane.ops.op_math.adjoint import AdjointOperation
from pennylane.ops.op_math.pow import PowOperation
from pennylane.ops.qubit import special_unitary
from pennylane.workflow.qnode import _to_qfunc_output_type, _validate_qfunc_output


def _there(module: str, name: str) -> tuple[Any, ...]:
    """Returns (class,) for a class of PennyLane's, or () if this release does not have it."""
    try:
        return (getattr(importlib.import_module(f"pennylane.{module}"), name),)
    except (ImportError, AttributeError):
        return ()


# The classes of the results of `qml.adjoint`, `qml.pow` and `qml.ctrl`, for gates without a special
# class for these. Classes that end in 2 are for gates of the new kind, from PennyLane 0.46 on.
ADJOINTS = Adjoint, AdjointOperation, *_there("ops.op_math.adjoint2", "Adjoint2")
POWERS = Pow, PowOperation, *_there("ops.op_math.pow2", "Pow2")
CONTROLLED = Controlled, ControlledOp, *_there("ops.op_math.controlled2", "ControlledOp2")

# The base classes of all operators; PennyLane 0.46 has a second one, for the new kind of gate.
OPERATORS = Operator, *_there("operation", "Operator2")

# The parameters of a `qml.SpecialUnitary` on n wires multiply these matrices,
# complex[4**n - 1, 2**n, 2**n], and these words, in the same order.
pauli_basis_matrices = special_unitary.pauli_basis_matrices
pauli_basis_strings = special_unitary.pauli_basis_strings


def rename(op: Operator, name: str) -> None:
    """Gives an operator of one of qshift's classes the name by which devices know its base."""
    op._name = name


def put_data(op: Operator, data: Sequence[Any]) -> None:
    """Replaces the parameters of an operator, in place. Up to PennyLane 0.45, `data` itself can be
    assigned to."""
    if isinstance(op, OPERATORS[1:]):
        op.arguments.update(zip(op.dynamic_argnames, data, strict=True))
    elif isinstance(getattr(type(op), "data", None), property) and type(op).data.fset is None:
        op._data = tuple(data)
    else:
        op.data = tuple(data)


def settings(kind: Any, op: Operator) -> dict[str, Any]:
    """Returns what `kind.compute_matrix` takes by name, beside the parameters of `op`: gates of the
    new kind are told their wires."""
    wires = {"wires": op.wires} if issubclass(kind, OPERATORS[1:]) else {}
    return {**wires, **op.hyperparameters, **(getattr(op, "wire_args", {}) if wires else {})}


def is_recorded(number: Any) -> bool:
    """Whether autograd differentiates by a number now. A box that is left over from an earlier
    differentiation only contains its number, or a box of an outer differentiation."""
    while isinstance(number, Box) and number._trace > trace_stack.top:
        number = number._value
    return isinstance(number, Box)


# flattened(op): (parts, metadata) of an operator or measurement, where parts are not flattened
# themselves: the first step of `qml.pytrees.flatten`.
flattened = operator.methodcaller("_flatten")


def has_usual_parts(kind: type) -> bool:
    """Whether the parts of operators of a class are their `data`, and their metadata `wires` and
    `hyperparameters`."""
    return issubclass(kind, Operator) and getattr(kind, "_flatten", None) is Operator._flatten


# Attributes of operators, and of their classes, that hold the parameters and hyperparameters once
# more, are caches, or do not influence results. The last two are of gates of the new kind.
REDUNDANT_ATTRIBUTES = frozenset(
    "data _data _id _batch_size _ndim_params _hyperparameters _primitive _bound_args _sig".split()
)
# The attribute in which operators keep `pauli_rep`; some compute it on first use.
PAULI_REP = "_pauli_rep"


# --- devices ---


class DeviceRandomness:
    """The random numbers of a device.

    Lightning's devices have the generator a second time in their state vector.

    Args:
        device: The device.

    Attributes:
        is_known: Whether the device keeps its generator in a place that qshift knows.
    """

    def __init__(self, device: qml.devices.Device) -> None:
        self._device = device

    def _owners(self) -> list[Any]:
        owners = (self._device, getattr(self._device, "_statevector", None))
        return [owner for owner in owners if hasattr(owner, "_rng")]

    @property
    def is_known(self) -> bool:
        return bool(self._owners())

    def replace(self, new: Callable[[Any], Any]) -> None:
        """Puts new(generator) in the place of each of the device's generators."""
        owners = self._owners()
        news = {id(owner._rng): new(owner._rng) for owner in owners}
        for owner, rng in [(owner, news[id(owner._rng)]) for owner in owners]:
            owner._rng = rng

    def get(self) -> Any:
        """Returns the device's generator."""
        return self._device._rng


def without_state(device: qml.devices.Device) -> qml.devices.Device:
    """Returns a device without the state vector of its latest circuit. Lightning's devices keep
    one, make another where there is none, and cannot be pickled with it."""
    if getattr(device, "_statevector", None) is None:
        return device
    copied = copy.copy(device)
    copied._statevector = None
    return copied


def is_own_simulator(device: qml.devices.Device) -> bool:
    """Whether a device is PennyLane's default.qubit or lightning.qubit itself, no subclass of one
    and none with transforms on top, and was not told to run circuits in other processes or to draw
    samples by JAX."""
    kind = type(device)
    lightning = ("pennylane_lightning.lightning_qubit.lightning_qubit", "LightningQubit")
    if kind is not qml.devices.DefaultQubit and (kind.__module__, kind.__name__) != lightning:
        return False
    return all(getattr(device, name, None) is None for name in ("_max_workers", "_prng_key"))


def watching(device: qml.devices.Device) -> tuple[Callable[[], tuple], tuple]:
    """Returns a function that says who watches what a device executes, and what it returns as long
    as nobody does.

    Somebody watches while a `qml.Tracker` or `qml.snapshots` is active on the device, or something
    has taken the place of its method `execute`.

    Args:
        device: A device of which `is_own_simulator` is True.
    """
    if getattr(device, "_debugger", None) is None:
        device._debugger = None  # lightning.qubit has none until it is first used with snapshots
    execute = types.MethodType(type(device).execute, device)
    return functools.partial(_watchers, device), (False, None, execute)


_watchers = operator.attrgetter("tracker.active", "_debugger", "execute")


# --- QNodes ---


class BaseQNode(qml.QNode):
    """A PennyLane QNode that leaves its calls to a subclass.

    Attributes:
        settings: The keywords that the QNode was made with, and their values. PennyLane's own
            methods read them under another name.
    """

    @property
    def settings(self) -> dict[str, Any]:
        return self._init_args

    @settings.setter
    def settings(self, value: dict[str, Any]) -> None:
        self._init_args = value

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # PennyLane calls this method where the QNode is called and not recorded as an instruction.
        cls._impl_call = cls.returned

    def returned(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the result of a call."""
        raise NotImplementedError


# as_returned(results, output, partitioned) returns the results of a tape in the nest in which the
# quantum function returned its measurements; `partitioned` says whether there is a shot vector.
as_returned = _to_qfunc_output_type


# What `qml.QNode.construct` consists of, to record a call without asking which parameters are
# trainable: PennyLane's transforms want to know, and it takes as long as the gates.
# shots_of_call(qnode, kwargs): the shots of a call with these keywords, less those that are none of
# the quantum function's, which it takes out of them.
shots_of_call: Callable[[qml.QNode, dict[str, Any]], qml.measurements.Shots]
shots_of_call = qml.QNode._get_shots
# breakpoints(device): a context in which breakpoints of PennyLane's debugger know the device.
breakpoints = pldb_device_manager
# require_measurements(returned, measurements) raises an error unless a quantum function has
# returned all of its measurements, in their order.
require_measurements: Callable[[Any, Sequence[Any]], None] = _validate_qfunc_output

# output(qnode): the value that the quantum function returned when the QNode was last constructed.
output: Callable[[qml.QNode], Any] = operator.attrgetter("_qfunc_output")


def set_shots(qnode: qml.QNode, shots: qml.measurements.Shots) -> None:
    """Gives a QNode shots of its own, in place of its device's."""
    qnode._set_shots(shots)


def has_own_shots(qnode: qml.QNode) -> bool:
    """Whether a QNode has shots of its own, in place of its device's."""
    return qnode._shots_override_device


# The attribute that holds a QNode's transforms, in PennyLane's later releases and in earlier ones.
_LATER, _EARLIER = "_compile_pipeline", "_transform_program"
_PIPELINE = _LATER if _LATER in qml.QNode.__init__.__code__.co_names else _EARLIER
# pipeline(qnode): the transforms that were put on top of a QNode.
pipeline: Callable[[qml.QNode], Any] = operator.attrgetter(_PIPELINE)


def set_pipeline(qnode: qml.QNode, transforms: Any) -> None:
    """Puts transforms on top of a QNode, in place of those that it has."""
    setattr(qnode, _PIPELINE, transforms)
