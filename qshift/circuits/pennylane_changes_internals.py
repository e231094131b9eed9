"""All that qshift changes in PennyLane, in the whole process.

Importing `qshift.circuits` imports this module. The functions that it puts into PennyLane are in
`recording`, `making_gates`, `shortcuts` and `pennylane_math_internals`; this module has the places
where they go, which are beneath PennyLane's public interface. The file
tests/circuits/test_pennylane_changes_internals.py tests each change, without the rest of qshift.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import types
from collections.abc import Iterator
from typing import Any

import autoray
import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operator
from pennylane.ops import LinearCombination, Prod, SProd, Sum
from pennylane.pauli import PauliSentence
from pennylane.pytrees import pytrees
from pennylane.queuing import AnnotatedQueue, QueuingManager
from pennylane.tape import QuantumTape
from pennylane.wires import Wires
from scipy import sparse

from qshift.circuits import making_gates, recording, shortcuts
from qshift.circuits import pennylane_math_internals as pennylane_math_internals  # changes qml.math
from qshift.circuits.pennylane_internals import OPERATORS
from qshift.tensorflow_internals import records_backprop
from qshift.tensors import is_tensor, of_one_dtype

# --- flattening ---

# `qml.pytrees.flatten` puts the labels of wires among the leaves of a gate of the new kind. With
# this registration they are part of its structure again, as for other gates.
if OPERATORS[1:]:
    pytrees.flatten_registrations[Wires] = lambda wires: ((), (wires.labels,))
    pytrees.unflatten_registrations[Wires] = lambda _, settings: Wires(settings[0])

# --- recording ---

# PennyLane reads the innermost recording off this stack, and each recording holds these locks.
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


# The code is replaced, and not the function, as other functions are already decorated with it.
QueuingManager.stop_recording.__wrapped__.__code__ = _stop_recording.__code__

# The metaclass's `__call__` makes every operator.
for _kind in OPERATORS:
    type(_kind).__call__ = making_gates.with_arguments_read(type(_kind).__call__)

# --- what PennyLane's modules see ---


class _View(types.ModuleType):
    """A module in which some names are replaced, for one other module that uses it."""

    def __init__(self, module: Any, **others: Any) -> None:
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _module(name: str) -> Any:
    return importlib.import_module(f"pennylane.{name}")  # some functions have a module's name


# In these modules, `math.allclose` decides whether tapes are left out, and `math.einsum` contracts.
for _name in ("gradients.vjp", "gradients.jvp"):
    _changed = {"allclose": shortcuts.are_zeros, "einsum": shortcuts.einsum}
    _module(_name).math = _View(qml.math, **_changed)

# In these modules, `qp` is PennyLane, and `qp.math.is_abstract` decides whether the value of a
# coefficient is used.
for _name in ("ops.functions.dot", "transforms.split_non_commuting"):
    _module(_name).qp = _View(qml, math=_View(qml.math, is_abstract=shortcuts.is_abstract))

# Up to PennyLane 0.45, `_can_commute(gate, controlled)` decides whether `commute_controlled` moves
# a gate past another. Later releases use `qml.is_commuting`, which is right.
_commuting = _module("transforms.optimization.commute_controlled")
if hasattr(_commuting, "_can_commute"):
    _commuting._can_commute = shortcuts.of_known_bases(_commuting._can_commute)

# `custom_ctrl_dispatch(base, control, values, work_wires, work_wire_type)` says in `ctrl` what a
# controlled gate is called, from 0.46 on by the class that it is made from.
_controlled = _module("ops.op_math.controlled")
if hasattr(_controlled, "custom_ctrl_dispatch"):
    _controlled.custom_ctrl_dispatch = shortcuts.of_its_own_class(_controlled.custom_ctrl_dispatch)


# `requires_grad(tensor, interface=None)` decides in `unwrap` and elsewhere what is a constant. It
# fails for a sparse matrix beside tensors, as it tries to make a tensor of it. Each parameter of
# each tape is asked, and for a tensor it imports what answers, which takes ten times as long.
_dispatch = _module("math.multi_dispatch")
_dispatch.requires_grad = functools.singledispatch(_dispatch.requires_grad)
for _kind in (sparse.sparray, sparse.spmatrix):
    _dispatch.requires_grad.register(_kind, lambda *_, **__: False)
_dispatch.requires_grad.register(tf.Tensor, lambda tensor, *_, **__: records_backprop([tensor]))

# `qml.math` calls "coerce" to give numbers one dtype before it multiplies, adds or stacks them.
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

# `**`, decompositions and users find `qml.pow` in these modules.
_power = shortcuts.of_any(qml.pow, functools.partial(shortcuts.power, qml.pow))
for _place in (qml, qml.ops, qml.ops.op_math):
    _place.pow = _power


def _bound(bind: Any, op: Operator, params: Any) -> Any:
    """Returns an operator with new parameters and their batch size. Where PennyLane copies the
    operator (`bind`), `_batch_size` stays that of the old ones; `_check_batching()` counts anew."""
    new = bind(op, params)
    if (vars(new).get("_batch_size") or 0) > 0:
        new._check_batching()
    return new


# Operators without a function of their own for this are bound as objects of other classes are.
_bind = qml.ops.functions.bind_new_parameters
_bind.register(Operator, functools.partial(_bound, _bind.dispatch(object)))
