"""Gates that users wrote themselves: what has to hold before they can be relied upon.

qshift runs a gate at other angles than the quantum function gave it, so it puts gates together
again from what PennyLane's flattening makes of them, and it takes derivatives from what a gate says
of itself. PennyLane's own gates are known to be right. Of others it is found out whether nothing
gets lost on the way, and whether matrix, decomposition, generator and frequencies belong to one
gate (`qshift.circuits.consistency`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operator

from qshift.circuits.formulas import parts as parts_of
from qshift.circuits.identity import (
    WIDEST_CUSTOM,
    attributes,
    contains_custom,
    fingerprint,
    is_custom,
    operators,
)
from qshift.circuits.pennylane_internals import OPERATORS, put_data
from qshift.errors import UnsupportedError
from qshift.inputs import shown

if TYPE_CHECKING:
    from pennylane.pytrees import PyTreeStructure

_COMPUTE = "Compute with qml.math or TensorFlow there, without float(), NumPy or .numpy()."
_ADVICE = (
    "Let __init__ take it as an argument and put it into the gate's hyperparameters "
    '(self._hyperparameters = {"name": value}), or override _flatten and _unflatten'
)


def require_visible(op: Operator, tensors: Sequence[int]) -> None:
    """Raises UnsupportedError if a gate hides a tensor that a derivative may be asked for by.

    Only the parameters of a gate, ``op.data``, are differentiated by.

    Args:
        op: The gate.
        tensors: Which leaves of the flattened gate are tensors.
    """
    # What is computed from the parameters is a number now.
    there = _put_together(*_with_numbers(op, tensors)) if tensors else op
    for part in [] if there is None else operators(there):
        kept = [("hyperparameter", part.hyperparameters), ("attribute", attributes(part))]
        for kind, each in kept if is_custom(type(part)) else ():  # type: ignore[arg-type]
            for name, value in each.items():
                if any(map(_is_followed, _tensors(value))):
                    raise UnsupportedError(
                        f"{part.name} has a tensor in its {kind} {name!r}, but gates are "
                        "differentiated by their parameters only. Pass it to Operation.__init__ "
                        "as a parameter, or keep numbers there."
                    )


def lost(op: Operator) -> str | None:
    """Returns what is lost where a gate is put together again, as a sentence; None for nothing."""
    leaves, structure = qml.pytrees.flatten(op)
    try:
        with qml.QueuingManager.stop_recording():
            again = qml.pytrees.unflatten(leaves, structure)
    except Exception as error:  # whatever a user's class may raise
        return (
            f"{op.name} cannot be put together again from what its _flatten gives "
            f"({type(error).__name__}: {error}). Let __init__ take the parameters, wires= and all "
            "hyperparameters by name, or override _flatten and _unflatten"
        )
    if problem := _misplaced(op, leaves, structure):
        return problem
    for old, new in zip(operators(op), operators(again), strict=False):
        if type(old) is not type(new) or not _same(old.data, new.data):
            return f"{old.name} has other parameters when it is put together again. {_ADVICE}"
        pairs = [({"wires": each.wires, "name": each.name}) for each in (old, new)]
        if is_custom(type(old)):  # type: ignore[arg-type]
            pairs = [
                pair | attributes(each) | each.hyperparameters
                for pair, each in zip(pairs, (old, new), strict=True)
            ]
        ours, theirs = pairs
        for name in ours | theirs:
            if not _same(ours.get(name), theirs.get(name)):
                return (
                    f"{old.name} keeps {name!r} where PennyLane does not look for it: put together "
                    f"again at other angles, it has {shown(theirs.get(name), 60)} in place of "
                    f"{shown(ours.get(name), 60)}. {_ADVICE}"
                )
    return None


def _misplaced(op: Operator, leaves: Sequence[Any], structure: PyTreeStructure) -> str | None:
    """Says if a leaf of a flattened gate is another parameter than the one it stands for."""
    if len(leaves) != len(op.data) or any(qml.math.ndim(leaf) for leaf in leaves):
        return None
    numbers = [0.1 + 0.01 * i for i in range(len(leaves))]
    there = _put_together(numbers, structure)  # not every gate takes every number
    found = numbers if there is None else [float(x) for x in there.data]
    if np.array_equal(found, numbers):
        return None
    return (
        f"{op.name} has the parameters {found} when it is put together again from {numbers}. "
        "Let __init__ pass its parameters on to Operation.__init__ as they are, and compute what "
        "depends on them in its methods, or override _flatten and _unflatten"
    )


def withdraws_rules(kind: type[Operator]) -> bool:
    """Whether a gate says ``grad_method = None``, in place of what another one says that it is a
    subclass of: then only its decomposition can be differentiated."""
    said = [vars(each)["grad_method"] for each in kind.__mro__ if "grad_method" in vars(each)]
    # PennyLane's gates of the new kind do not say it themselves: it follows from their rules.
    new = [each for each in kind.__mro__[1:] if issubclass(each, OPERATORS[1:])]
    stated = any(isinstance(method, str) for method in said) or bool({*new} - {*OPERATORS})
    return bool(said) and said[0] is None and stated


def decomposed(op: Operator, tensors: Sequence[int], problem: str | None) -> list[Operator] | None:
    """Returns what a gate decomposes into, or None if it does not.

    Args:
        op: The gate.
        tensors: Which leaves of the flattened gate are tensors.
        problem: Why it cannot be put together again, if so.

    Raises:
        UnsupportedError: If derivatives would not find their way through the decomposition, or it
            cannot be compared with the gate's matrix.
    """
    leaves = qml.pytrees.flatten(op)[0]
    given = [leaves[i] for i in tensors]
    try:
        with qml.QueuingManager.stop_recording(), _followed(given) as follows:
            parts = parts_of(op)
    except (AttributeError, TypeError, NotImplementedError) as error:  # tensors without .numpy()
        raise UnsupportedError(
            f"{op.name} cannot be decomposed when its parameters are tensors "
            f"({type(error).__name__}: {error}). {_COMPUTE}"
        ) from error
    if parts is None:
        return None
    versions: list[Any] = []  # at some numbers, and where one of them has moved
    for moved in (None, *tensors):
        there = _elsewhere(op, tensors, moved, problem)
        if moved is None and op.has_matrix and not withdraws_rules(type(op)):
            _require_comparable(op, there, problem)
        with qml.QueuingManager.stop_recording():
            versions.append(None if there is None else parts_of(there))
    if None in versions:
        raise UnsupportedError(f"{problem}.")
    if len({tuple((type(part), part.wires) for part in made) for made in (parts, *versions)}) > 1:
        raise UnsupportedError(
            f"{op.name} decomposes into other gates at some angles than at others, so that its "
            "derivatives cannot be had from its parts. Write a decomposition without cases."
        )
    found, at, *others = (qml.pytrees.flatten(list(made))[0] for made in (parts, *versions))
    for i, tensor, other in zip(tensors, given, others, strict=True):
        for leaf, number, moved in zip(found, at, other, strict=True):
            if not np.array_equal(number, moved) and not follows(leaf, tensor):
                raise UnsupportedError(
                    f"The decomposition of {op.name} makes a number of its parameter {i}, by which "
                    f"there would be no derivative then. {_COMPUTE}"
                )
    return parts


class _followed:
    """Within it, what is computed from some tensors is followed; afterwards, says whether another
    tensor is computed from one of them."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = [t for t in tensors if qml.math.get_interface(t) == "tensorflow"]
        self._tape: Any = nullcontext()
        if self._tensors:
            import tensorflow as tf  # Late: gates of other frameworks have no such tensors.

            self._tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)

    def __enter__(self) -> Any:
        tape = self._tape.__enter__()
        if tape is not None:
            tape.watch(self._tensors)
        return self._is_computed

    def __exit__(self, *error: Any) -> None:
        self._tape.__exit__(*error)

    def _is_computed(self, leaf: Any, tensor: Any) -> bool:
        if leaf is tensor:
            return True
        if not any(tensor is each for each in self._tensors):  # another framework's
            return qml.math.get_interface(leaf) == qml.math.get_interface(tensor)
        alike = qml.math.get_interface(leaf) == "tensorflow"
        return alike and self._tape.gradient(leaf, tensor) is not None


def _require_comparable(op: Operator, there: Any, problem: Any) -> None:
    """Raises UnsupportedError unless a gate's matrix, if it has one, is that of its parts."""
    from qshift.circuits.consistency import (  # Late: that module needs this one.
        matrix_of,
        require_one_gate,
    )

    if len(op.wires) > WIDEST_CUSTOM:
        return
    if problem and (there is None or matrix_of(there) is None):
        raise UnsupportedError(f"{problem}.")
    require_one_gate(there)


def _elsewhere(op: Operator, tensors: Any, moved: Any, problem: Any) -> Any:
    """Returns a gate with numbers as parameters, one of which may be moved, or None."""
    leaves, structure = _with_numbers(op, tensors)
    if moved is not None:
        leaves[moved] = leaves[moved] + 0.3
    if problem is None:
        return _put_together(leaves, structure)
    if len(leaves) != len(op.data):
        return None
    try:
        copied = copy.deepcopy(op)
        put_data(copied, leaves)
    except Exception:  # whatever a user's class may raise
        return None
    return copied


def _with_numbers(op: Operator, tensors: Any) -> tuple[Any, ...]:
    """Flattens a gate, and puts numbers in place of tensors."""
    leaves, structure = qml.pytrees.flatten(op)
    for i in tensors:
        leaves[i] = np.full(qml.math.shape(leaves[i]), 0.4 + 0.1 * i)[()]
    return leaves, structure


def _put_together(leaves: Sequence[Any], structure: PyTreeStructure) -> Any:
    """Returns a gate, or None if its class does not take what flattening gives."""
    try:
        with qml.QueuingManager.stop_recording():
            return qml.pytrees.unflatten(leaves, structure)
    except Exception:  # whatever a user's class may raise
        return None


def unmistakable(op: Operator) -> Operator:
    """Returns a gate, or its matrix if a device may take it for one of PennyLane's: devices know
    gates by their names, or by the classes that they are subclasses of."""
    if not contains_custom(op) or not any(map(_mistaken_for, operators(op))):
        return op
    return _as_matrix(op) or op


def _mistaken_for(op: Operator) -> list[Any]:
    """Returns PennyLane's gates with the name of a user's gate, or that its class is made from."""
    if not is_custom(type(op)):  # type: ignore[arg-type]
        return []
    own = [kind for kind in type(op).__mro__ if not is_custom(kind)]
    found = [getattr(qml, name, None) for name in (op.name, *(kind.__name__ for kind in own))]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, Operator)]


def require_unmistakable(op: Operator) -> None:
    """Raises UnsupportedError for a gate that PennyLane's devices take for another one.

    For `qshift.param_shift`, which hands gates over as they are.

    Args:
        op: A gate, with parameters of any kind.
    """
    for part in operators(op) if contains_custom(op) else ():
        for kind in _mistaken_for(part):
            numbers = [np.full(qml.math.shape(x), 0.4 + 0.1 * i)[()] for i, x in enumerate(op.data)]
            try:
                stated = kind.compute_matrix(*numbers, **part.hyperparameters)
                own = type(part).compute_matrix(*numbers, **part.hyperparameters)
                same = np.allclose(stated, own, rtol=0, atol=1e-9)
            except Exception:  # whatever a user's class may raise, or has in other places
                same = False
            if not same:
                raise UnsupportedError(
                    f"PennyLane's devices may take {part.name}, a class of yours, for their own "
                    f"{kind.__name__}, by its name or as a subclass of that. Give it a name of its "
                    "own and derive it from qml.operation.Operation, or use qshift.qnode."
                )


def in_place_of(op: Operator) -> list[Operator] | None:
    """Returns other gates that do what a constant gate does, which cannot be put together again:
    its matrix, or its parts; None if there are none."""
    matrix = _as_matrix(op)
    return decomposed(op, (), "") if matrix is None else [matrix]


def _as_matrix(op: Operator) -> Operator | None:
    """Returns a gate with numbers as parameters as a matrix, if it has one of a handy size."""
    if not op.has_matrix or len(op.wires) > WIDEST_CUSTOM:
        return None
    with qml.QueuingManager.stop_recording():
        return qml.QubitUnitary(op.matrix(), wires=op.wires)


def _tensors(value: Any) -> list:
    found: list = []
    fingerprint(value, found.append)
    return found


def _is_followed(tensor: Any) -> bool:
    """Whether a derivative may be asked for by a tensor, or its numbers are not known."""
    import tensorflow as tf  # Late: gates of other frameworks have no such tensors.

    from qshift.tensorflow_internals import is_watched

    if not isinstance(tensor, tf.Tensor):
        return bool(getattr(tensor, "trainable", True))
    return is_watched(tensor) or tf.get_static_value(tensor) is None


def _same(one: Any, other: Any) -> bool:
    return fingerprint(one, _Computed) == fingerprint(other, _Computed)


class _Computed:
    """A tensor, equal to another one that is computed in the same way, or has the same numbers."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Computed) and _same_tensors(self._tensor, other._tensor)


def _same_tensors(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if hasattr(one, "numpy") and hasattr(other, "numpy"):
        return bool(np.array_equal(one.numpy(), other.numpy(), equal_nan=True))
    if not (hasattr(one, "op") and hasattr(other, "op")) or one.value_index != other.value_index:
        return False
    a, b = one.op, other.op
    if a.type != b.type or len(a.inputs) != len(b.inputs) or not a.inputs:
        return a is b or a.type == b.type == "Const" and _same_settings(a, b)
    return _same_settings(a, b) and all(map(_same_tensors, a.inputs, b.inputs))


def _same_settings(*ops: Any) -> bool:
    one, other = (
        {k: v.SerializeToString() for k, v in op.node_def.attr.items() if not k.startswith("_")}
        for op in ops
    )
    return one == other
