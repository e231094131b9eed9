"""Making a case that fails smaller, as long as it fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from fuzz.case import Case, Measurement, Op, expressions, measured_wires, parts, replaced, walk
from fuzz.draw import valid
from fuzz.modes import MODES
from fuzz.runner import Outcome, run, without_numbers


def shrink(
    case: Case,
    outcome: Outcome,
    seconds: float = 60.0,
    attempt: Callable[[Case], Outcome] = run,
) -> tuple[Case, Outcome]:
    """Returns the simplest case found that fails as this one does.

    Args:
        case: The case.
        outcome: How it failed.
        seconds: When to stop.
        attempt: Runs a case.
    """
    deadline = time.monotonic() + seconds
    found = True
    while found and time.monotonic() < deadline:
        found = False
        for candidate in simpler(case):
            if time.monotonic() > deadline:
                break
            result = _tried(candidate, attempt)
            if result is not None and _same(result, outcome):
                case, outcome, found = candidate, result, True
                break
    return case, outcome


def _tried(candidate, attempt):
    try:
        if not valid(candidate) or not MODES[candidate.mode].suits(candidate):
            return None
        return attempt(candidate)
    except Exception:  # what the reference cannot do makes no sense
        return None


def _same(one: Outcome, other: Outcome) -> bool:
    if one.kind != other.kind:
        return False
    return one.kind != "crash" or without_numbers(one.message, 50) == without_numbers(
        other.message, 50
    )


def simpler(case: Case) -> Iterator[Case]:
    """Yields cases that are simpler in one respect, the largest steps first."""
    for how in MODES[case.mode].simpler(case.how):
        yield replace(case, how=how)
    yield from _with_fewer(case, "ops")
    yield from _with_fewer(case, "measurements", least=1)
    yield from _surroundings(case)
    for k, op in enumerate(case.ops):
        for simple in _simpler_ops(op):
            yield replace(case, ops=(*case.ops[:k], *simple, *case.ops[k + 1 :]))
    for k, measurement in enumerate(case.measurements):
        for simple in _simpler_measurements(measurement):
            rest = case.measurements[k + 1 :]
            yield replace(case, measurements=(*case.measurements[:k], simple, *rest))
    yield from _leaves(case)
    for expression in dict.fromkeys(expressions(case)):
        for simple in _simpler_expressions(expression):
            yield replaced(case, expression, simple)
    yield from _fewer_wires(case)


def _with_fewer(case: Case, name: str, least: int = 0):
    items = getattr(case, name)
    size = len(items) // 2
    while size:
        for start in range(0, len(items), size):
            rest = (*items[:start], *items[start + size :])
            if least <= len(rest) < len(items):
                yield replace(case, **{name: rest})
        size //= 2


def _surroundings(case: Case):
    for device in ('qml.device("default.qubit")', 'qshift.device("simulator")'):
        if len(case.device) > len(device):
            yield replace(case, device=device)
    for name in case.options:
        yield replace(case, options={k: v for k, v in case.options.items() if k != name})
    plain = {"dtype": "float64", "call": "flat"}
    for name, value in plain.items():
        if getattr(case, name) != value:
            yield replace(case, **{name: value})
    if case.labels != (0, 1, 2, 3) and "wires=" not in case.device:
        yield replace(case, labels=(0, 1, 2, 3))


def _simpler_ops(op: Op):
    """Yields lists of gates to put in place of one."""
    for inner in op.inner:
        yield (inner,)
    for k, inner in enumerate(op.inner):
        for simple in _simpler_ops(inner):
            if len(simple) == 1:
                yield (replace(op, inner=(*op.inner[:k], *simple, *op.inner[k + 1 :])),)
    if op.name == "cond" and len(op.inner) == 2:
        yield (replace(op, inner=op.inner[:1]),)
    for option in ("as function", "reset"):
        if op.options.get(option):
            rest = {k: v for k, v in op.options.items() if k != option}
            yield (replace(op, options=rest),)
    if not op.inner and op.angles and op.name not in ("RX", "StatePrep", "AmplitudeEmbedding"):
        for angle in _scalars(op):
            yield (Op("RX", (angle,), op.wires[:1]),)


def _scalars(op: Op):
    """Yields the angles of a gate, also those that are in a tensor."""
    for angle in op.angles:
        yield from angle[1] if angle[0] == "stack" else (angle,)


def _simpler_measurements(measurement: Measurement):
    plain = [Measurement("expval", ("word", letter, (0,))) for letter in "ZX"]
    observable = measurement.observable
    if measurement not in plain and (observable is None or observable[0] != "outcomes"):
        yield from plain
    if measurement.kind == "var":
        yield replace(measurement, kind="expval")
    if observable is not None and observable[0] in ("scaled", "sum", "product"):
        for part in parts(observable[1:]):
            if part[0] in ("word", "hermitian", "projector", "scaled", "sum", "product"):
                yield replace(measurement, observable=part)
        if observable[0] == "sum":
            for k in range(len(observable[1])):
                rest = (*observable[1][:k], *observable[1][k + 1 :])
                if rest:
                    yield replace(measurement, observable=("sum", rest, observable[2]))


def _leaves(case: Case):
    names = {part[1] for part in expressions(case) if part[0] in ("leaf", "old")}
    used = tuple(leaf for leaf in case.leaves if leaf.name in names)
    if len(used) < len(case.leaves):
        yield replace(case, leaves=used)

    def with_leaf(k, leaf):
        return replace(case, leaves=(*case.leaves[:k], leaf, *case.leaves[k + 1 :]))

    for k, leaf in enumerate(case.leaves):
        if leaf.access != "index":
            yield with_leaf(k, replace(leaf, access="index"))
        if leaf.kind != "tensor" and leaf.name not in case.assigned:
            yield with_leaf(k, replace(leaf, kind="tensor"))
        if leaf.batched and len(leaf.values) > 1:
            rows = [leaf.values[:1] if x.batched else x.values for x in case.leaves]
            if sum(x.batched for x in case.leaves) == 1:
                yield with_leaf(k, replace(leaf, values=rows[k]))
        array = leaf.array
        for number in (0.5, 0.0):  # in this direction only, so that shrinking ends
            if (array != number).any() and (number == 0.0) >= (array == 0.0).all():
                yield with_leaf(k, replace(leaf, values=np.full_like(array, number).tolist()))
        rounded = np.round(array, 1)
        if (array != rounded).any():
            yield with_leaf(k, replace(leaf, values=rounded.tolist()))


def _simpler_expressions(expression):
    name, *rest = expression
    if name in ("leaf", "number"):
        return
    if name == "constant":
        if not isinstance(rest[0], tuple):
            yield ("number", rest[0])
        return
    if name in ("index", "old"):
        yield ("number", 0.3) if name == "index" else ("leaf", rest[0])
        return
    if name in ("word", "hermitian", "projector", "outcomes", "scaled", "sum", "product"):
        return
    for part in rest:
        if isinstance(part, tuple) and part and isinstance(part[0], str):
            yield part
    if name != "stack":
        yield ("number", 0.3)


def _fewer_wires(case: Case):
    """Numbers wires without gaps."""
    used = sorted({w for op in walk(case.ops) for w in op.wires} | _measured(case))
    position = {wire: k for k, wire in enumerate(used)}
    if used == list(range(len(used))):
        return

    def moved(tree):
        if isinstance(tree, tuple) and tree and tree[0] in ("word", "hermitian", "projector"):
            return (*tree[:2], tuple(position[wire] for wire in tree[2]))
        return tuple(map(moved, tree)) if isinstance(tree, tuple) else tree

    def in_op(op):
        wires = tuple(position[wire] for wire in op.wires)
        return replace(op, wires=wires, inner=tuple(map(in_op, op.inner)))

    measurements = tuple(
        Measurement(m.kind, moved(m.observable), tuple(position[w] for w in m.wires))
        for m in case.measurements
    )
    labels = tuple(case.labels[wire] for wire in used)
    labels += tuple(label for label in case.labels if label not in labels)
    yield replace(case, ops=tuple(map(in_op, case.ops)), measurements=measurements, labels=labels)


def _measured(case: Case) -> set[int]:
    return {wire for m in case.measurements for wire in measured_wires(m)}
