"""Every name beneath PennyLane's and autograd's public interfaces that qshift uses, each with what
it must do; and all that qshift changes in PennyLane.

No other module imports such a name. What is promised here is tested alone, in
tests/circuits/test_pennylane_internals.py. To import this module is to change PennyLane, in the
whole process. What it does instead is found in `recording` and `shortcuts`, here is only where.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import operator
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import autoray
import pennylane as qml
from autograd.extend import Box
from autograd.tracer import trace_stack
from pennylane.operation import Operator
from pennylane.ops import LinearCombination, Prod, SProd, Sum
from pennylane.ops.op_math import Adjoint, Controlled, ControlledOp, Pow
from pennylane.ops.op_math.adjoint import AdjointOperation
from pennylane.ops.op_math.pow import PowOperation
from pennylane.ops.qubit import special_unitary
from pennylane.pauli import PauliSentence
from pennylane.pytrees import pytrees
from pennylane.queuing import AnnotatedQueue, QueuingManager
from pennylane.tape import QuantumTape
from pennylane.wires import Wires
from pennylane.workflow.qnode import _to_qfunc_output_type
from scipy import sparse

from qshift.circuits import pennylane_math_internals as pennylane_math_internals  # changes qml.math
from qshift.circuits import recording, shortcuts
from qshift.tensors import is_tensor, of_one_dtype


def _there(module: str, name: str) -> tuple[Any, ...]:
    """Returns a class of PennyLane's, or nothing if this release does not have it."""
    try:
        return (getattr(importlib.import_module(f"pennylane.{module}"), name),)
    except (ImportError, AttributeError):
        return ()


# The classes of what `qml.adjoint`, `qml.pow` and `qml.ctrl` make of gates, where these have no
# class of their own for it. Those that end in 2 are of gates of a new kind, from 0.46 on.
ADJOINTS = Adjoint, AdjointOperation, *_there("ops.op_math.adjoint2", "Adjoint2")
POWERS = Pow, PowOperation, *_there("ops.op_math.pow2", "Pow2")
CONTROLLED = Controlled, ControlledOp, *_there("ops.op_math.controlled2", "ControlledOp2")

# The bases of all operators, of which 0.46 has a second: the new kind of gate.
OPERATORS = Operator, *_there("operation", "Operator2")

# The matrices, complex[4**n - 1, 2**n, 2**n], and the words, in the same order, that a
# `qml.SpecialUnitary` on n wires has parameters for.
pauli_basis_matrices = special_unitary.pauli_basis_matrices
pauli_basis_strings = special_unitary.pauli_basis_strings


def rename(op: Operator, name: str) -> None:
    """Calls an operator of a class of qshift's own what PennyLane calls it, and devices know."""
    op._name = name


def put_data(op: Operator, data: Sequence[Any]) -> None:
    """Puts other parameters into an operator, of which it may have no copy. `data` itself can be
    assigned to only up to 0.45."""
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
    """Whether autograd differentiates by a number now. A box outlives the differentiation that it
    was made for, and then has in it what it stood for."""
    while isinstance(number, Box) and number._trace > trace_stack.top:
        number = number._value
    return isinstance(number, Box)


# `qml.pytrees.flatten` finds labels of wires among the numbers in a gate of the new kind. They are
# none: here they are again what a gate is made of besides. PennyLane itself asks for whole wires.
if OPERATORS[1:]:
    pytrees.flatten_registrations[Wires] = lambda wires: ((), (wires.labels,))
    pytrees.unflatten_registrations[Wires] = lambda _, settings: Wires(settings[0])

# flattened(op): what an operator or measurement is made of, and the rest of it, neither of them
# looked into: the first step of `qml.pytrees.flatten`.
flattened = operator.methodcaller("_flatten")


# --- QNodes ---

# as_returned(results, output, partitioned): the results of a tape, in the nest that the quantum
# function returned its measurements in; `partitioned` says whether there is a shot vector.
as_returned = _to_qfunc_output_type


# output(qnode): what the quantum function returned when the QNode was last constructed.
output: Callable[[qml.QNode], Any] = operator.attrgetter("_qfunc_output")


def set_shots(qnode: qml.QNode, shots: qml.measurements.Shots) -> None:
    """Gives a QNode shots of its own, in place of its device's."""
    qnode._set_shots(shots)


def has_own_shots(qnode: qml.QNode) -> bool:
    """Whether it has."""
    return qnode._shots_override_device


# The attribute that holds a QNode's transforms, in PennyLane's later releases and in earlier ones.
_LATER, _EARLIER = "_compile_pipeline", "_transform_program"
_PIPELINE = _LATER if _LATER in qml.QNode.__init__.__code__.co_names else _EARLIER
# pipeline(qnode): the transforms that were put on top of a QNode.
pipeline: Callable[[qml.QNode], Any] = operator.attrgetter(_PIPELINE)


def set_pipeline(qnode: qml.QNode, transforms: Any) -> None:
    """Puts transforms on top of a QNode, in place of those that it has."""
    setattr(qnode, _PIPELINE, transforms)


# --- recording ---

# The stack of open recordings, of which PennyLane asks the last, and whether there is one; and
# locks that are held by whoever records.
if not isinstance(QueuingManager._active_contexts, recording.Stack):
    QueuingManager._active_contexts = recording.Stack(QueuingManager._active_contexts)
AnnotatedQueue._lock = QuantumTape._lock = recording.NoLock()


def _stop_recording(cls: Any) -> Iterator[None]:
    own = cls._active_contexts.open
    before, own.stack = own.stack, []
    try:
        yield
    finally:
        own.stack = before


# Functions that it decorates hold on to the function that `stop_recording` was made of.
QueuingManager.stop_recording.__wrapped__.__code__ = _stop_recording.__code__

# What is called to make an operator.
for _kind in OPERATORS:
    type(_kind).__call__ = recording.with_arguments_read(type(_kind).__call__)

# --- what PennyLane's modules see ---


class _View(types.ModuleType):
    """A module, as another module sees it: some of its names stand for something else."""

    def __init__(self, module: Any, **others: Any) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _module(name: str) -> Any:
    return importlib.import_module(f"pennylane.{name}")  # functions hide some of the modules


# `math.allclose` decides in these whether nothing needs to be run, `math.einsum` contracts.
for _name in ("gradients.vjp", "gradients.jvp"):
    _changed = {"allclose": shortcuts.are_zeros, "einsum": shortcuts.einsum}
    _module(_name).math = _View(qml.math, **_changed)

# `qp` is PennyLane in these; `qp.math.is_abstract` decides whether a coefficient is looked at.
for _name in ("ops.functions.dot", "transforms.split_non_commuting"):
    _module(_name).qp = _View(qml, math=_View(qml.math, is_abstract=shortcuts.is_abstract))

# `_can_commute(gate, controlled)` decides which gates `commute_controlled` moves past which, up to
# PennyLane 0.45. Later releases ask `qml.is_commuting`, which is right.
_commuting = _module("transforms.optimization.commute_controlled")
if hasattr(_commuting, "_can_commute"):
    _commuting._can_commute = shortcuts.of_known_bases(_commuting._can_commute)

# `custom_ctrl_dispatch(base, control, values, work_wires, work_wire_type)` says in `ctrl` what a
# controlled gate is called, from 0.46 on by the class that it is made from.
_controlled = _module("ops.op_math.controlled")
if hasattr(_controlled, "custom_ctrl_dispatch"):
    _controlled.custom_ctrl_dispatch = shortcuts.of_its_own_class(_controlled.custom_ctrl_dispatch)


def _not_if_sparse(asked: Any) -> Any:
    """Takes sparse matrices for constants, whatever is beside them: PennyLane has TensorFlow make
    tensors of them to find out, which fails."""

    @functools.wraps(asked)
    def requires_grad(tensor: Any, interface: str | None = None) -> bool:
        return not sparse.issparse(tensor) and asked(tensor, interface=interface)

    return requires_grad


# `requires_grad(tensor, interface=None)` decides in `unwrap` and others what is a constant.
_dispatch = _module("math.multi_dispatch")
_dispatch.requires_grad = _not_if_sparse(_dispatch.requires_grad)

# "coerce" makes one dtype of what is multiplied, added up or stacked by `qml.math`.
autoray.register_function("tensorflow", "coerce", of_one_dtype)

# --- methods of PennyLane's classes, and functions ---

for _kind in (Sum, Prod):
    _kind.terms = shortcuts.of_any(_kind.terms, shortcuts.all_terms)
PauliSentence.operation = shortcuts.of_any(PauliSentence.operation, shortcuts.as_operator)
for _kind in (SProd, Sum, Prod, LinearCombination):
    _kind.simplify = shortcuts.of_any(_kind.simplify, shortcuts.as_it_is, is_tensor)
for _kind, _name in itertools.product(OPERATORS, ("__add__", "__radd__")):
    setattr(_kind, _name, shortcuts.of_any(getattr(_kind, _name), shortcuts.plus))
for _name, _instead in shortcuts.ARITHMETIC.items():
    _method = shortcuts.of_any(getattr(LinearCombination, _name), _instead, is_tensor)
    setattr(LinearCombination, _name, shortcuts.dequeued(_method))

# `qml.pow` is looked up in these by `**`, by decompositions, and by users.
_power = shortcuts.of_any(qml.pow, functools.partial(shortcuts.power, qml.pow))
for _place in (qml, qml.ops, qml.ops.op_math):
    _place.pow = _power


def _bound(bind: Any, op: Operator, params: Any) -> Any:
    """Counts the batch of an operator's new parameters: where PennyLane copies it (`bind`) and
    puts others in, `_batch_size` would be that of the old ones. `_check_batching()` counts it."""
    new = bind(op, params)
    if (vars(new).get("_batch_size") or 0) > 0:
        new._check_batching()
    return new


# What has no way of its own to be bound is bound as any object is.
_bind = qml.ops.functions.bind_new_parameters
_bind.register(Operator, functools.partial(_bound, _bind.dispatch(object)))
