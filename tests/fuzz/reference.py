"""The values of a case with all their derivatives, without PennyLane.

The state is a list of branches: a measurement in mid-circuit splits each branch in two, of norms
that are the probabilities of the outcomes, and results are sums over the branches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fuzz import observables, own
from fuzz.case import Case, Measurement, Op, coefficients, moves, walk
from fuzz.expressions import value
from fuzz.gates import Factor, adjoint, control, gate, power
from fuzz.jets import Jet, Ring, concatenate, ring, stack
from fuzz.states import apply, expectation, multiply, probabilities, project, zero_state
from fuzz.templates import TEMPLATES


class Branch(NamedTuple):
    """One history of outcomes."""

    state: Jet
    outcomes: tuple[int, ...] = ()

    @property
    def probability(self) -> Jet:
        return expectation(np.eye(self.state.value.size), self.state)


class Variables:
    """Which entries of which arguments are variables of the jets.

    Args:
        case: The case.
        names: The arguments to differentiate by.
        order: Up to which order.
    """

    def __init__(self, case: Case, names, order: int):
        self.starts, total = {}, 0
        for name in names:
            self.starts[name] = total
            total += case.leaf(name).array.size
        self.ring: Ring = ring(total, order)
        self.shapes = {name: case.leaf(name).array.shape for name in names}

    def jet(self, name: str, values) -> Jet:
        if name in self.starts:
            return self.ring.parameters(values, self.starts[name])
        return self.ring.constant(values)

    def derivative(self, jet: Jet, name: str) -> Jet:
        """The derivative by an argument, whose shape comes after that of the jet."""
        shape = self.shapes[name]
        start, size = self.starts[name], int(np.prod(shape, dtype=int))
        return jet.derivative(range(start, start + size)).reshape(*jet.shape, *shape)


def results(case: Case, variables: Variables, values=None) -> Jet:
    """Returns all that a case returns, laid out as `source.FLAT` does: [M], or [batch, M].

    Args:
        case: The case.
        variables: What to differentiate by.
        values: Other values of arguments, by name.
    """
    leaves = leaves_of(case, variables, values)
    if case.batch is None:
        return _row(case, leaves, variables.ring)
    batched = {leaf.name for leaf in case.leaves if leaf.batched}
    rows = [
        {name: jet[row] if name in batched else jet for name, jet in leaves.items()}
        for row in range(case.batch)
    ]
    return stack([_row(case, row, variables.ring) for row in rows])


def leaves_of(case: Case, variables: Variables, values=None) -> dict[str, Jet]:
    """Returns the arguments as jets, rounded to the case's dtype."""
    values = {leaf.name: leaf.array for leaf in case.leaves} | (values or {})
    rounded = {name: array.astype(case.dtype).astype(float) for name, array in values.items()}
    return {name: variables.jet(name, array) for name, array in rounded.items()}


def _row(case: Case, leaves, ring: Ring) -> Jet:
    scope = {"": ring.constant(0.0), **leaves}
    scope |= {f"old {name}": leaves[name] for name in case.assigned}
    if case.how.get("classical"):
        return classical(case, scope)
    branches = run(case.ops, zero_state(ring, case.wires), scope)
    measured = [measure(measurement, branches, scope) for measurement in case.measurements]
    return concatenate([jet.reshape(-1) for jet in measured])


def run(ops, state: Jet, scope) -> list[Branch]:
    """Applies gates to a state, and returns the branches.

    Args:
        ops: The gates.
        state: The state.
        scope: The jets that expressions refer to; an assignment replaces one.
    """
    branches = [Branch(state)]
    for op in ops:
        if op.name == "assign":
            scope[op.options["leaf"]] = scope[op.options["leaf"]] + np.array(op.options["change"])
        elif op.name == "measure":
            branches = [b for branch in branches for b in _split(branch, op)]
        elif op.name == "cond":
            branches = [_conditioned(branch, op, scope) for branch in branches]
        elif op.name in ("StatePrep", "AmplitudeEmbedding"):
            branches = [Branch(_prepared(op, branch.state, scope)) for branch in branches]
        else:
            branches = [_evolved(branch, factors(op, scope)) for branch in branches]
    return branches


def _split(branch: Branch, op: Op):
    for outcome in (0, 1):
        state = project(branch.state, op.wires[0], outcome)
        if outcome and op.options.get("reset"):
            state = multiply(np.array([[0, 1], [1, 0]]), state, op.wires)
        yield Branch(state, (*branch.outcomes, outcome))


def _conditioned(branch: Branch, op: Op, scope) -> Branch:
    holds = predicate(op.options["if"], branch.outcomes)
    chosen = op.inner[:1] if holds else op.inner[1:]
    return _evolved(branch, [f for inner in chosen for f in factors(inner, scope)])


def predicate(condition, outcomes) -> bool:
    """Whether outcomes meet a condition: ("is", 0, 1), ("and", 0, 1), ("sum", 0, 1, 1)."""
    name, *rest = condition
    if name == "is":
        return outcomes[rest[0]] == rest[1]
    if name == "and":
        return bool(outcomes[rest[0]] and outcomes[rest[1]])
    return outcomes[rest[0]] + outcomes[rest[1]] == rest[2]


def _evolved(branch: Branch, some: list[Factor]) -> Branch:
    state = branch.state
    for factor in some:
        state = apply(factor, state)
    return branch._replace(state=state)


def _prepared(op: Op, state: Jet, scope) -> Jet:
    """Normalised amplitudes on wires that are in the state |0...0>, as first thing."""
    amplitudes = value(op.angles[0], scope)
    norm = (amplitudes * amplitudes).sum().sqrt()
    vector = (amplitudes / norm).coefficients
    whole = np.zeros_like(state.coefficients)
    order = [1 + wire for wire in op.wires]
    others = [axis for axis in range(1, whole.ndim) if axis not in order]
    view = whole.transpose(0, *order, *others)
    view[(..., *(0,) * len(others))] = vector.reshape(len(whole), *(2,) * len(order))
    return Jet(state.ring, whole)


def factors(op: Op, scope) -> list[Factor]:
    """Returns a gate's factors."""
    angles = [value(angle, scope) for angle in op.angles]
    if op.options.get("star"):
        angles = list(angles[0])
    inner = [factors(part, scope) for part in op.inner]
    if op.name == "ctrl":
        return control(inner[0], op.wires, op.options["values"])
    if op.name == "adjoint":
        return adjoint(inner[0])
    if op.name == "pow":
        return power(inner[0], op.options["exponent"])
    if op.name == "prod":  # the last one acts first
        return [factor for part in reversed(inner) for factor in part]
    if op.name == "Select":
        bits = [format(k, f"0{len(op.wires)}b") for k in range(len(inner))]
        return [f for k, part in enumerate(inner) for f in control(part, op.wires, bits[k])]
    if op.name == "ControlledSequence":
        powers = [2 ** (len(op.wires) - 1 - k) for k in range(len(op.wires))]
        controlled = [control(inner[0], [wire], "1") for wire in op.wires]
        return [
            f for part, exponent in zip(controlled, powers, strict=True) for f in part * exponent
        ]
    if op.name == "Reflection":  # -exp(i a |s><s|)
        wires = inner[0][0].wires
        size = 2 ** len(wires)
        turn = Factor(wires, None, ((angles[0], -np.diag(np.eye(size)[0])),))
        return [*adjoint(inner[0]), turn, *inner[0], Factor(wires, -np.eye(size))]
    if op.name in own.OWN:
        return own.factors(op.name, angles, op.wires)
    if op.name in TEMPLATES:
        return TEMPLATES[op.name](angles, op.wires, op.options)
    return gate(op.name, angles, op.wires, op.options)


def measure(measurement: Measurement, branches: list[Branch], scope) -> Jet:
    """Returns what a measurement gives."""
    kind, observable = measurement.kind, measurement.observable
    if observable is not None and observable[0] == "outcomes":
        return observables.of_outcomes(kind, observable[1], branches)
    if kind == "expval":
        return observables.mean(observable, branches, scope)
    if kind == "var":
        return observables.variance(observable, branches, scope)
    if observable is not None:
        return observables.in_eigenbasis(observable, branches)
    found = [probabilities(branch.state, measurement.wires) for branch in branches]
    return sum(found[1:], found[0])


def classical(case: Case, scope) -> Jet:
    """The stand-in of `source`: cosines of a sum of all angles, as many as measurements."""
    angles = []
    for op in walk(case.ops):
        if op.name == "assign":
            scope[op.options["leaf"]] = scope[op.options["leaf"]] + np.array(op.options["change"])
        angles += [value(angle, scope) for angle in op.angles if moves(angle, case)]
    for measurement in case.measurements:
        found = coefficients(measurement.observable)
        angles += [value(coefficient, scope) for coefficient in found if moves(coefficient, case)]
    total = sum((angle.sum() * (1 + k / 8) for k, angle in enumerate(angles)), scope[""])
    return concatenate([(total + m).cos().reshape(1) for m in range(len(case.measurements))])
