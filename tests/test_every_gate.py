"""Every gate and template of PennyLane in every wrapper, against Taylor polynomials of matrices.

What is asked of a case (at which angles, how, on which device) is drawn by a seed. A case's angles
go along a line x + t v from special angles on, so its derivatives by t take those by all angles.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from catalogue import DATA, ENTRIES, LEFT_OUT, SCALED
from random_circuits import tape_derivatives
from taylor import Taylor, controlled, expectation, sequence, word

import qshift
from qshift.circuits.compiler import Compiler

jax.config.update("jax_enable_x64", True)

# What PennyLane asks JAX for, and what Autograd says of complex numbers and of constants.
pytestmark = [
    pytest.mark.filterwarnings("ignore:jax.core"),
    pytest.mark.filterwarnings("ignore:Casting complex values"),
    pytest.mark.filterwarnings("ignore:Output seems independent of input"),
]

ANGLES = {
    "0": lambda rng, n: np.zeros(n),
    "pi/2": lambda rng, n: np.full(n, np.pi / 2),
    "-pi/2": lambda rng, n: np.full(n, -np.pi / 2),
    "pi": lambda rng, n: np.full(n, np.pi),
    "2 pi": lambda rng, n: np.full(n, 2 * np.pi),
    "mixed": lambda rng, n: rng.choice([0, np.pi / 2, -np.pi / 2, np.pi, 2 * np.pi, 0.4], size=n),
}


class Wrapper(NamedTuple):
    """Something around a gate.

    Attributes:
        spare: How many more wires it takes, which come first.
        apply: Applies it, given what makes the gate, these wires, and the gate's own.
        truth: The same for its matrix.
    """

    spare: int
    apply: Callable
    truth: Callable


def _power(gate, count):
    result = gate
    for _ in range(count - 1):
        result = result @ gate
    return result


def _on_first(matrix, gate):
    return np.kron(matrix, np.eye(gate.c.shape[-1] // 2))


def _measured(make, spare, wires):
    qml.cond(qml.measure(spare[0]), make)()


WRAPPERS = {
    "bare": Wrapper(0, lambda make, s, w: make(), lambda g: g),
    "ctrl": Wrapper(1, lambda make, s, w: qml.ctrl(make(), s), controlled),
    "ctrl by 1 and 0": Wrapper(
        2,
        lambda make, s, w: qml.ctrl(make(), s, control_values=(1, 0), work_wires=["work"]),
        lambda g: controlled(g, (1, 0)),
    ),
    "adjoint": Wrapper(0, lambda make, s, w: qml.adjoint(make()), lambda g: g.dagger()),
    "pow 2": Wrapper(0, lambda make, s, w: qml.pow(make(), 2), lambda g: g @ g),
    "pow -3": Wrapper(0, lambda make, s, w: qml.pow(make(), -3), lambda g: _power(g.dagger(), 3)),
    "cond": Wrapper(1, _measured, controlled),
    "prod": Wrapper(
        0,
        lambda make, s, w: qml.prod(qml.S(w[0]), make(), qml.Hadamard(w[0])),
        lambda g: (
            _on_first(np.diag([1, 1j]), g) @ g @ _on_first((word("X") + word("Z")) / 2**0.5, g)
        ),
    ),
    "ctrl adjoint": Wrapper(
        1,
        lambda make, s, w: qml.ctrl(qml.adjoint(make()), s, control_values=[0]),
        lambda g: controlled(g.dagger(), (0,)),
    ),
    "adjoint ctrl": Wrapper(
        1, lambda make, s, w: qml.adjoint(qml.ctrl(make(), s)), lambda g: controlled(g.dagger())
    ),
    "ctrl pow": Wrapper(
        1, lambda make, s, w: qml.ctrl(qml.pow(make(), 2), s), lambda g: controlled(g @ g)
    ),
    "ctrl prod": Wrapper(
        1,
        lambda make, s, w: qml.ctrl(qml.prod(make(), qml.s_prod(1j, qml.X(w[0]))), s),
        lambda g: controlled(g @ _on_first(1j * word("X"), g)),
    ),
    "ctrl ctrl": Wrapper(
        2,
        lambda make, s, w: qml.ctrl(qml.ctrl(make(), s[1:], control_values=[0]), s[:1]),
        lambda g: controlled(g, (1, 0)),
    ),
}


class Case:
    """One gate in one wrapper, between rotations of all wires and words of all wires.

    Attributes:
        kind: What angles they are, for messages.
        at: The angles.
        along: Where they go.
        in_tapes: Whether PennyLane can put other angles into the gate.
        expected: Value and derivatives by t.
    """

    def __init__(self, name: str, wrapper: str, rng: np.random.Generator):
        entry, around = ENTRIES[name], WRAPPERS[wrapper]
        self._entry, self._around, self.in_tapes = entry, around, entry.in_tapes
        self.kind = rng.choice(list(ANGLES))
        self.at = ANGLES[self.kind](rng, entry.angles)
        self.along = rng.normal(size=entry.angles)
        count = around.spare + entry.wires
        order = list(range(count))
        if entry.anywhere:
            rng.shuffle(order)
        else:
            order = order[entry.wires :] + order[: entry.wires]
        self._spare, self._own = order[: around.spare], order[around.spare :]
        self._turns = rng.uniform(0.3, 2.8, size=(2, count))
        letters = ["".join(rng.choice(list("IXYZ"), size=count)) for _ in range(4)]
        if wrapper == "cond":  # other letters notice that the wire has been measured
            letters = [self._seen_after_measuring(each) for each in letters]
        self._letters = ["Z" * count, *letters]
        self._weights = rng.normal(size=5)
        self.expected = self._truth(count)

    def _seen_after_measuring(self, letters):
        (wire,) = self._spare
        return (
            letters[:wire] + letters[wire].replace("X", "Z").replace("Y", "I") + letters[wire + 1 :]
        )

    def _truth(self, count):
        angles = [Taylor(a, b) for a, b in zip(self.at, self.along, strict=True)]
        gate = self._around.truth(self._entry.truth(angles))
        turns = [(_ry(a), (i,)) for i, a in enumerate(self._turns[0])]
        turns += [(_rx(a), (i,)) for i, a in enumerate(self._turns[1])]
        state = sequence(count, *turns).c[0][:, 0]
        gate = sequence(count, (gate, self._spare + self._own))
        observable = sum(c * word(w) for c, w in zip(self._weights, self._letters, strict=True))
        return expectation(state, gate, observable).derivatives()

    def __call__(self, x):
        """The quantum function, of the angles."""
        for i, (a, b) in enumerate(self._turns.T):
            qml.RY(a, i)
            qml.RX(b, i)
        self._around.apply(lambda: self._entry.gate(x, self._own), self._spare, self._own)
        words = [
            qml.prod(*(getattr(qml, letter)(i) for i, letter in enumerate(letters)))
            for letters in self._letters
        ]
        return qml.expval(qml.dot(self._weights, words))

    def line(self, t):
        return self.at + self.along * t

    def slots(self) -> int:
        """Returns how many angles there are after decomposition."""
        with qml.queuing.AnnotatedQueue() as queue:
            self(tf.constant(self.at))
        tape = qml.tape.QuantumScript.from_queue(queue)
        return len(Compiler(None, tf.is_tensor)(tape).circuit.slots)


def _ry(angle):
    return np.array(
        [[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]]
    )


def _rx(angle):
    return np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * word("X")


# --- ways of asking ---

ZERO = tf.constant(0.0, tf.float64)


def _node(device, method, function):
    if device == "simulator":
        return qshift.qnode(qshift.device(device), diff_method=method)(function)
    return qshift.qnode(qml.device(device), diff_method=method, embedded=False)(function)


def by_derivatives(case, device, method, compiled, order):
    node = _node(device, method, lambda t: case(case.line(t)))
    return qshift.derivatives(tf.function(node) if compiled else node, ZERO, order=order)


def by_tapes(case, device, method, compiled, order):
    node = _node(device, method, lambda t: case(case.line(t)))

    def up_to(k, t):
        if k == 0:
            return [node(t)]
        with tf.GradientTape() as tape:
            tape.watch(t)
            lower = up_to(k - 1, t)
        return [*lower, tape.gradient(lower[-1], t)]

    return (tf.function(up_to) if compiled else up_to)(order, ZERO)


def by_vectors(case, device, method, compiled, order):
    """By all the angles, not only along the line."""
    node = _node(device, method, case)
    found = tape_derivatives(tf.function(node) if compiled else node, case.at, min(order, 2))
    return [
        found[0],
        found[1] @ case.along,
        *(case.along @ each @ case.along for each in found[2:]),
    ]


def by_param_shift(case, interface, order):
    node = qml.QNode(
        lambda t: case(case.line(t)),
        qml.device("default.qubit"),
        diff_method=qshift.param_shift,
        max_diff=2,
        mcm_method="deferred",
    )
    if interface == "jax":
        t, first = jax.numpy.asarray(0.0), jax.grad(node)
        second = [jax.grad(first)(t)] if order > 1 else []
        return [*jax.value_and_grad(node)(t), *second]
    t, first = qml.numpy.array(0.0, requires_grad=True), qml.grad(node)
    second = [qml.grad(first)(t)] if order > 1 else []
    return [node(t), first(t), *second]


WAYS = {"derivatives": by_derivatives, "tapes": by_tapes, "vectors": by_vectors}


def ask(case, rng):
    """Asks for derivatives in a way that is drawn, of an order that does not take long."""
    slots = case.slots()
    way = rng.choice([*WAYS, "param_shift"], p=[0.45, 0.25, 0.15, 0.15])
    if way == "param_shift" and slots < 10 and case.in_tapes:
        interface = "jax" if slots == 1 and rng.random() < 0.2 else "autograd"
        order = 2 if slots < 4 and interface == "autograd" else 1
        return f"param_shift with {interface}", by_param_shift(case, interface, order)
    if way == "param_shift" or slots > 16:
        return "derivatives, best", by_derivatives(case, "simulator", "best", False, 1)
    device = "default.qubit" if slots < 5 and rng.random() < 0.25 else "simulator"
    method = rng.choice(["best", "shift", "adjoint"])
    compiled = bool(rng.random() < 0.12)
    order = 3 if slots < 5 and not compiled else 2 if slots < 9 else 1
    asked = f"{way}, {device}, {method}{', compiled' * compiled}"
    return asked, WAYS[way](case, device, method, compiled, order)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_gate_in_every_wrapper(name, thorough):
    start = list(ENTRIES).index(name)
    for k, wrapper in enumerate(WRAPPERS):
        if not thorough and (start + k) % len(WRAPPERS):
            continue  # one wrapper around each gate, and one gate of so many in each
        if not SCALED and "SProd" in (name, "SProd" if wrapper == "ctrl prod" else ""):
            continue
        rng = np.random.default_rng([start, k])
        case = Case(name, wrapper, rng)
        asked, found = ask(case, rng)
        for order, derivative in enumerate(found):
            assert np.allclose(derivative, case.expected[order], rtol=1e-7, atol=1e-7), (
                f"{wrapper}({name}) at {case.kind} by {asked}: derivative {order} is {derivative}, "
                f"expected {case.expected[order]}"
            )


# --- what is refused ---


def _around(gate, prepares):
    """Returns a quantum function of data."""

    def function(data):
        for wire in range(0 if prepares else 4):
            qml.RY(0.3 + 0.2 * wire, wire)
        gate(data)
        qml.RX(0.3, 0)
        return qml.expval(qml.Z(0) @ qml.Z(1) + qml.X(0))

    return function


@pytest.mark.parametrize("name", DATA)
def test_derivatives_by_data_are_refused_by_name(name, tracker):
    data, gate = DATA[name]
    function = _around(gate, prepares=name in ("StatePrep", "AmplitudeEmbedding"))
    device = qml.device("default.qubit")
    node, tensor = qshift.qnode(device, embedded=False)(function), tf.constant(data)
    # As data it is welcome, eager and in a graph.
    expected = qml.QNode(function, device, diff_method=None)(data)
    np.testing.assert_allclose(node(tensor), expected, atol=1e-9)
    if name not in ("QROMStatePreparation", "PrepSelPrep", "Qubitization"):
        # PennyLane looks at the numbers of these when it makes or decomposes them.
        np.testing.assert_allclose(tf.function(node)(tensor), expected, atol=1e-9)
    refused = {"PrepSelPrep": "AmplitudeEmbedding", "Qubitization": "AmplitudeEmbedding"}
    match = re.escape(refused.get(name, name))
    tracker.reset()
    with pytest.raises(qshift.NoShiftRuleError, match=match), tf.GradientTape() as tape:
        tape.watch(tensor)
        node(tensor)
    assert tracker.totals["circuits"] == 0


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("interface", ["jax", "autograd"])
def test_param_shift_refuses_derivatives_by_data(name, interface):
    data, gate = DATA[name]
    function = _around(gate, prepares=name in ("StatePrep", "AmplitudeEmbedding"))
    node = qml.QNode(function, qml.device("default.qubit"), diff_method=qshift.param_shift)
    # Some of these PennyLane cannot make of another framework's numbers at all.
    errors = (qshift.UnsupportedError, TypeError, ValueError, qml.exceptions.DeviceError)
    with pytest.raises((*errors, jax.errors.UnexpectedTracerError)):
        if interface == "jax":
            jax.grad(node)(jax.numpy.asarray(data))
        else:
            qml.grad(node)(qml.numpy.array(data, requires_grad=True))


def test_param_shift_refuses_times_that_pennylane_cannot_replace():
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
    def function(t):
        qml.Hadamard(0)
        qml.ctrl(qml.evolve(0.7 * qml.X(1) + 0.4 * qml.Z(1), t), 0)
        return qml.expval(qml.Y(0))

    with pytest.raises(qshift.UnsupportedError, match=r"time of C\(Evolution\).*TrotterProduct"):
        qml.grad(function)(qml.numpy.array(0.3, requires_grad=True))


# --- all there are ---


def _operators():
    found, ahead = set(), [qml.operation.Operator]
    while ahead:
        for kind in ahead.pop().__subclasses__():
            if kind not in found:
                found.add(kind)
                ahead.append(kind)
    places = ("pennylane.ops.", "pennylane.templates.")
    return {kind.__name__ for kind in found if kind.__module__.startswith(places)}


def test_every_gate_of_pennylane_is_classified():
    """A new release's gates must be given a matrix, or a reason to be left out, in catalogue.py."""
    known = set(LEFT_OUT) | set(DATA)
    for entry in ENTRIES.values():
        with qml.queuing.AnnotatedQueue():
            gate = entry.gate(np.full(entry.angles, 0.3), list(range(entry.wires)))
        known.add(type(gate).__name__)
    unknown = _operators() - known
    assert not unknown, f"{sorted(unknown)} are not in tests/catalogue.py"
