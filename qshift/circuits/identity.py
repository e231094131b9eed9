"""Fingerprints of PennyLane objects, equal only if the objects are identical.

Caches use fingerprints as keys, as a result that is remembered for one object must not be given for
another. PennyLane's own comparisons do not suffice: `qml.equal` tolerates small differences, `==`
takes 1 for True, and two gates are equal to PennyLane if their names, parameters and
hyperparameters are. Here objects are compared by all their parts, including users' attributes.
"""

from __future__ import annotations

import enum
import functools
import itertools
import sys
import types
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
from pennylane.pytrees import PyTreeStructure
from scipy import sparse

from qshift.circuits.pennylane_internals import PAULI_REP, REDUNDANT_ATTRIBUTES

if TYPE_CHECKING:
    from pennylane.operation import Operator

_LIBRARIES = {"pennylane", "qshift"}
WIDEST_CUSTOM = 6  # wires; wider matrices of users' gates are not looked at
_NUMBERS = (bool, int, float, complex, np.generic, np.ndarray)
_NAMES = (str, bytes, type(None), type(Ellipsis), type, types.ModuleType)
# An object made of more objects than this is compared by `is`.
_MOST_OBJECTS = 10_000

_OPERATORS = (qml.operation.Operator, qml.measurements.MeasurementProcess)

Tensors = Callable[[Any], Hashable]


def fingerprint(value: Any, tensors: Tensors | None = None) -> Hashable:
    """Returns a hashable that is equal for two values only if they are identical.

    Arrays, containers and objects are compared by their content at the time of the call.

    Args:
        value: Anything.
        tensors: A function from a TensorFlow tensor to a hashable that stands for it. None compares
            tensors by their numbers, and tensors of a graph by `is`.
    """
    return _Walk(tensors).of(value)


def hashable(structure: PyTreeStructure) -> Hashable:
    """Returns the structure of a flattened object as a fingerprint."""
    return _structure(structure, _Walk(None))


def _structure(
    structure: PyTreeStructure, walk: _Walk
) -> tuple[type, Hashable, tuple[Any, ...]] | None:
    if structure.type_ is None:
        return None
    children = tuple([_structure(child, walk) for child in structure.children])
    return structure.type_, walk.of(structure.metadata), children


# Callers tell mypy to ignore the argument: it does not know that classes are hashable.
@functools.lru_cache(maxsize=4096)
def is_custom(kind: type) -> bool:
    """Whether a class of operators is a user's own and none of PennyLane's."""
    return kind.__module__.partition(".")[0] not in _LIBRARIES


def has_custom(structure: PyTreeStructure) -> bool:
    """Whether a flattened object has a part of a user's own class."""
    kind = structure.type_
    if kind is None:
        return False
    # Only operators are looked at: the structure also has containers, such as Autograd's boxes.
    custom = is_custom(kind) and issubclass(kind, _OPERATORS)
    return custom or any(map(has_custom, structure.children))


def contains_custom(op: Any) -> bool:
    """Whether an operator, or an operator inside of it, is of a user's own class."""
    return has_custom(qml.pytrees.flatten(op)[1])


def operators(op: Any) -> Iterator[Any]:
    """Yields an operator and all operators inside of it."""
    yield op
    for part in _made_of(op):
        if isinstance(part, qml.operation.Operator):
            yield from operators(part)


def _made_of(op: Operator) -> list:
    """Returns the leaves of a flattened operator, where operators inside of it count as leaves."""
    inside = lambda each: each is not op and isinstance(each, _OPERATORS)  # noqa: E731
    return qml.pytrees.flatten(op, is_leaf=inside)[0]


def kept(op: Any) -> Hashable:
    """Returns a fingerprint of the attributes of users' own operators in an object, and of what the
    methods of their classes read elsewhere.

    Flattening gives the object's leaves and its structure, but not what a user's class keeps in
    other attributes. Tensors in them are left out.
    """
    own, walk, numbers = [], _Walk(lambda _: None), _Walk(None)

    def look(part: Any) -> None:
        if isinstance(part, _OPERATORS):
            if is_custom(type(part)):  # type: ignore[arg-type]
                own.append(walk.of(attributes(part)))
                own.append(tuple([numbers.of(each) for each in _methods(type(part))]))
            for each in _made_of(part):
                look(each)

    look(op)
    return tuple(own)


def attributes(op: Any) -> dict[str, Any]:
    """Returns the attributes of an object by name, without its parameters and hyperparameters.

    They include slots, and the attributes of a user's class that are not functions.
    """
    found: dict[str, Any] = {}
    for kind in reversed(type(op).__mro__):
        if not is_custom(kind) or kind is object:
            continue
        found |= {
            name: value
            for name, value in vars(kind).items()
            if not (name.startswith("__") or name == "_abc_impl")
            and not isinstance(value, _DESCRIPTORS)
        }
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = f"_{kind.__name__.lstrip('_')}{slot}" if _is_mangled(slot) else slot
            if slot not in ("__dict__", "__weakref__") and hasattr(op, name):
                found[name] = getattr(op, name)
    found |= getattr(op, "__dict__", {})
    if PAULI_REP in found:
        found[PAULI_REP] = op.pauli_rep
    computed = {name for name in found if _is_computed_once(type(op), name)}
    return {name: found[name] for name in found if name not in REDUNDANT_ATTRIBUTES | computed}


def _methods(kind: type) -> tuple[types.FunctionType, ...]:
    """Returns the functions of a user's class and of the user's classes that it is made from."""
    found = []
    for each in kind.__mro__:
        for value in vars(each).values() if is_custom(each) else ():
            inner = getattr(
                value, "__func__", getattr(value, "fget", getattr(value, "func", value))
            )
            if isinstance(inner, types.FunctionType):
                found.append(inner)
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Returns the global names, and the names of attributes, that code and code in it reads."""
    inside = [_names(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return tuple(sorted({*code.co_names, *itertools.chain.from_iterable(inside)}))


def _is_library(name: str) -> bool:
    """Whether a module is none that a user changes while a program runs."""
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or top in _PACKAGES


_PACKAGES = _LIBRARIES | {"autograd", "autoray", "jax", "keras", "numpy", "qiskit", "scipy"}
_PACKAGES |= {"tensorflow", "torch"}

_DESCRIPTORS = (
    types.FunctionType,
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    staticmethod,
    classmethod,
    property,
    functools.cached_property,
)


def _is_mangled(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _is_computed_once(kind: Any, name: str) -> bool:
    return isinstance(getattr(kind, name, None), functools.cached_property)


class _Walk:
    """Makes the fingerprint of an object, part by part.

    Args:
        tensors: As for `fingerprint`.
    """

    def __init__(self, tensors: Tensors | None) -> None:
        self._tensors = tensors
        self._seen: dict[int, int] = {}  # the id of each object that contains the current one
        self._count = 0

    def of(self, value: Any) -> Hashable:
        kind = type(value)
        if kind in _NAMES or isinstance(value, type | enum.Enum):
            return value
        if kind is tuple:
            return tuple([self.of(each) for each in value])
        if kind is qml.wires.Wires:
            return kind, value
        if isinstance(value, _NUMBERS):
            return self._of_numbers(value)
        if kind.__module__.startswith(("tensorflow", "keras")) and _is_tensor(value):
            return self._of_tensor(value)
        if sparse.issparse(value):
            matrix = value.tocsr()
            parts = (matrix.data, matrix.indices, matrix.indptr)
            return (matrix.shape, *((a.dtype.str, a.tobytes()) for a in parts))
        if hasattr(kind, "__array__"):
            try:
                return self._of_numbers(np.asarray(value))
            except Exception:  # frameworks raise various errors for tensors of a graph
                return _Same(value)
        self._count += 1
        if id(value) in self._seen or self._count > _MOST_OBJECTS:
            return self._seen.get(id(value), _Same(value))
        self._seen[id(value)] = len(self._seen)
        try:
            return kind, self._of_object(value, kind)
        finally:
            del self._seen[id(value)]

    def _of_numbers(self, value: Any) -> tuple[Any, ...]:
        array = np.asarray(value)
        if array.dtype != object:
            return array.shape, array.dtype.str, array.tobytes()
        if isinstance(value, np.ndarray):
            return array.shape, tuple([self.of(each) for each in array.ravel()])
        return type(value), value  # an integer beyond 64 bits

    def _of_tensor(self, value: Any) -> Any:
        if self._tensors is not None:
            return self._tensors(value)
        try:
            return self._of_numbers(np.asarray(value))
        except Exception:  # a tensor of a graph
            return _Same(value)

    def _of_object(self, value: Any, kind: type) -> Hashable:
        if qml.pytrees.is_pytree(kind) and kind not in (list, dict):
            leaves, structure = qml.pytrees.flatten(value)
            if not has_custom(structure):
                return _structure(structure, self), tuple([self.of(leaf) for leaf in leaves])
            parts, structure = qml.pytrees.flatten(value, is_leaf=lambda each: each is not value)
            own = self.of(attributes(value)) if is_custom(kind) else None
            return self.of(structure.metadata), tuple([self.of(part) for part in parts]), own
        if isinstance(value, list | tuple):
            return tuple([self.of(each) for each in value]), self._own(value)
        if isinstance(value, dict):
            entries = tuple([(self.of(key), self.of(each)) for key, each in value.items()])
            return entries, self._own(value)
        if isinstance(value, set | frozenset):
            return frozenset([self.of(each) for each in value]), self._own(value)
        if isinstance(value, types.FunctionType):
            cells = [self._of_cell(cell) for cell in value.__closure__ or ()]
            defaults = self.of(value.__defaults__), self.of(value.__kwdefaults__)
            return value.__code__, self._of_globals(value), tuple(cells), defaults
        if isinstance(value, types.MethodType):
            return self.of(value.__func__), self.of(value.__self__)
        if isinstance(value, functools.partial):
            return self.of(value.func), self.of(value.args), self.of(value.keywords)
        if _has_state(kind) and not kind.__module__.startswith(_OPAQUE):
            return self.of(attributes(value))
        return value if isinstance(value, Hashable) else _Same(value)

    def _of_globals(self, function: types.FunctionType) -> Hashable:
        """Returns what a user's function reads that is global, as it is now."""
        around, names = function.__globals__, _names(function.__code__)
        if _is_library(function.__module__ or ""):
            return id(around)
        read = [around[name] for name in names if name in around]
        for module in [each for each in read if isinstance(each, types.ModuleType)]:
            if not _is_library(module.__name__):
                read += [getattr(module, name) for name in names if hasattr(module, name)]
        return id(around), tuple([self.of(each) for each in read])

    def _own(self, value: Any) -> Any:
        """Returns the fingerprint of the attributes of a user's container, besides its entries."""
        return self.of(attributes(value)) if _has_state(type(value)) else None

    def _of_cell(self, cell: Any) -> Any:
        try:
            return self.of(cell.cell_contents)
        except ValueError:  # an empty cell: its variable has no value yet
            return None


# Objects of these libraries are large, and are compared by `==` or `is`.
_OPAQUE = ("tensorflow", "keras", "torch", "jax", "qiskit", "qshift", "pennylane.devices")


def _has_state(kind: type) -> bool:
    """Whether a class is a user's own and its objects have attributes."""
    named = any("__slots__" in vars(each) for each in kind.__mro__ if is_custom(each))
    return is_custom(kind) and (bool(kind.__dictoffset__) or named)


def _is_tensor(value: Any) -> bool:
    return qml.math.get_interface(value) == "tensorflow"


class _Same:
    """Compares by identity, keeping the object alive so that its id is not used again."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value
