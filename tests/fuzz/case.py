"""A case of the fuzzer as data: what runs, with which numbers, where, and how it is differentiated.

Expressions are nested tuples, see `expressions`; observables are, too, see `observables`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Leaf:
    """An argument of the quantum function, or a variable that it captures.

    Attributes:
        name: Its name.
        values: Numbers, nested as its shape; the first axis is the batch if there is one.
        kind: "variable", "tensor", "captured" (a variable that is not an argument), or what nothing
            can differentiate by: "array" (NumPy's).
        batched: Whether its first axis is broadcast over.
        access: How the quantum function takes entries out of it; see `source.ACCESS`.
    """

    name: str
    values: Any
    kind: str = "tensor"
    batched: bool = False
    access: str = "index"

    @property
    def array(self) -> np.ndarray:
        return np.array(self.values, float)

    @property
    def is_tensor(self) -> bool:
        return self.kind in ("variable", "tensor", "captured")


@dataclass(frozen=True)
class Op:
    """A gate, a template, something around gates, a measurement in mid-circuit, an assignment.

    Attributes:
        name: Its name in PennyLane, or "measure", "cond", "assign".
        angles: Its parameters, as expressions.
        wires: Its wires, or those of the controls.
        inner: The gates that it is about.
        options: What else it takes.
    """

    name: str
    angles: tuple = ()
    wires: tuple[int, ...] = ()
    inner: tuple[Op, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """What is returned.

    Attributes:
        kind: "expval", "var" or "probs".
        observable: The observable, None for the probabilities of some wires.
        wires: These.
    """

    kind: str
    observable: tuple | None = None
    wires: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    """Everything about one case.

    Attributes:
        leaves: The arguments.
        ops: The quantum function.
        measurements: What it returns.
        mode: Name of the mode, see `modes`.
        how: The options of the mode.
        device: The device, as an expression in Python.
        options: Keywords of the qnode.
        labels: A label for each wire.
        dtype: "float64" or "float32".
        call: How arguments are passed: "flat", "dict", "list" or "keywords".
    """

    leaves: tuple[Leaf, ...]
    ops: tuple[Op, ...]
    measurements: tuple[Measurement, ...]
    mode: str = "tapes"
    how: dict[str, Any] = field(default_factory=dict)
    device: str = 'qml.device("default.qubit")'
    options: dict[str, Any] = field(default_factory=dict)
    labels: tuple = (0, 1, 2, 3)
    dtype: str = "float64"
    call: str = "flat"

    def leaf(self, name: str) -> Leaf:
        return next(leaf for leaf in self.leaves if leaf.name == name)

    @property
    def batch(self) -> int | None:
        """The size of the batch, None if there is none."""
        return next((len(leaf.values) for leaf in self.leaves if leaf.batched), None)

    @property
    def assigned(self) -> set[str]:
        """The variables that are assigned to in the quantum function."""
        return {op.options["leaf"] for op in walk(self.ops) if op.name == "assign"}

    @property
    def wires(self) -> int:
        """How many wires the reference needs."""
        used = {wire for op in walk(self.ops) for wire in op.wires}
        used |= {wire for m in self.measurements for wire in measured_wires(m)}
        return max(used, default=0) + 1


def nested(array):
    """Returns an array as nested tuples, which expressions and observables are made of."""
    values = np.asarray(array).tolist()

    def as_tuple(part):
        return tuple(map(as_tuple, part)) if isinstance(part, list) else part

    return as_tuple(values)


def walk(ops) -> Iterator[Op]:
    """Yields gates and those inside of them."""
    for op in ops:
        yield op
        yield from walk(op.inner)


def parts(tree) -> Iterator[tuple]:
    """Yields all expressions and observables in a nested tuple that are named."""
    if isinstance(tree, tuple):
        if tree and isinstance(tree[0], str):
            yield tree
        for part in tree:
            yield from parts(part)


def coefficients(observable) -> Iterator[tuple]:
    """Yields the expressions in an observable."""
    if observable is not None and observable[0] == "scaled":
        yield observable[1]
        yield from coefficients(observable[2])
    elif observable is not None and observable[0] == "sum":
        for coefficient, part in observable[1]:
            yield coefficient
            yield from coefficients(part)
    elif observable is not None and observable[0] == "product":
        for part in observable[1]:
            yield from coefficients(part)


def moves(expression, case: Case) -> bool:
    """Whether an expression is computed from tensors among the arguments."""
    return any(
        part[0] in ("leaf", "old") and case.leaf(part[1]).is_tensor for part in parts(expression)
    )


def expressions(case: Case) -> Iterator[tuple]:
    """Yields all expressions in a case, and all parts of these."""
    for op in walk(case.ops):
        yield from parts(op.angles)
    for measurement in case.measurements:
        yield from parts(measurement.observable)


def measured_wires(measurement: Measurement) -> set[int]:
    wires = set(measurement.wires)
    for name, *rest in parts(measurement.observable):
        if name in ("word", "hermitian", "projector"):
            wires |= set(rest[1])
    return wires


def replaced(case: Case, old, new) -> Case:
    """Puts an expression in place of another, wherever it is."""

    def swap(tree):
        if tree == old:
            return new
        return tuple(map(swap, tree)) if isinstance(tree, tuple) else tree

    def in_op(op):
        return replace(op, angles=swap(op.angles), inner=tuple(map(in_op, op.inner)))

    measurements = tuple(replace(m, observable=swap(m.observable)) for m in case.measurements)
    return replace(case, ops=tuple(map(in_op, case.ops)), measurements=measurements)
