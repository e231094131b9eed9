"""How gates, templates, observables and measurements are written in PennyLane."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fuzz.case import Measurement, Op
from fuzz.expressions import NAMES
from fuzz.own import OWN


class Writer:
    """Writes parts of a quantum function as Python.

    Args:
        labels: The label of each wire.
        expression: Writes an expression.
        framework: Whose functions these are, see `expressions.NAMES`.
        dtype: Of the arguments.
    """

    def __init__(self, labels, expression: Callable[[tuple], str], framework: str, dtype: str):
        self.labels, self.expression, self.framework = labels, expression, framework
        self._complex = "complex64" if dtype == "float32" else "complex128"

    def complex(self, expression: str) -> str:
        """Writes what multiplies a real angle by i, which TensorFlow does to complex ones only."""
        if self.framework != "tf":
            return expression
        try:
            # tf.cast would make float32 of a number first.
            return f"tf.constant({float(expression)}, tf.{self._complex})"
        except ValueError:
            return f"tf.cast({expression}, tf.{self._complex})"

    def wires(self, wires) -> str:
        return repr([self.labels[wire] for wire in wires])

    # --- gates ---

    def gate(self, op: Op) -> str:
        """Writes a gate as an operator."""
        angles = [self.expression(angle) for angle in op.angles]
        if op.name in OWN:
            return OWN[op.name].call.format(x=angles[0], wires=self.wires(op.wires))
        if op.name in SPECIAL:
            return SPECIAL[op.name](self, op, angles)
        options = [f"{name}={option!r}" for name, option in op.options.items() if name != "star"]
        if op.options.get("star"):  # a gate's angles as one vector
            angles = [f"*{angles[0]}"]
        return f"qml.{op.name}({', '.join([*angles, f'wires={self.wires(op.wires)}', *options])})"

    def hamiltonian(self, op: Op, coefficients) -> str:
        """Writes sum_k c_k word_k, as a Hamiltonian, or as a word if that is all."""
        words = [self.word(letters, op.wires) for letters in op.options["words"]]
        if len(words) == 1 and op.angles[1] == ("number", 1.0):
            return words[0]
        return f"qml.Hamiltonian({self.coefficients(coefficients)}, [{', '.join(words)}])"

    def coefficients(self, written) -> str:
        """Writes the coefficients of a Hamiltonian. PennyLane takes no list of numbers and JAX's
        tracers."""
        listed = f"[{', '.join(written)}]"
        return f"jnp.stack({listed})" if self.framework == "jax" else listed

    # --- observables ---

    def word(self, letters, wires) -> str:
        used = [(a, w) for a, w in zip(letters, wires, strict=True) if a != "I"] or [
            ("I", wires[0])
        ]
        return " @ ".join(f"qml.{letter}({self.labels[wire]!r})" for letter, wire in used)

    def observable(self, observable) -> str:
        name, *rest = observable
        if name == "word":
            return self.word(*rest)
        if name == "hermitian":
            return f"qml.Hermitian({array(rest[0])}, wires={self.wires(rest[1])})"
        if name == "projector":
            return f"qml.Projector({list(rest[0])}, wires={self.wires(rest[1])})"
        if name == "scaled":
            return f"qml.s_prod({self.expression(rest[0])}, {self.observable(rest[1])})"
        if name == "product":
            return " @ ".join(map(self.observable, rest[0]))
        if name == "outcomes":
            return " + ".join(f"{c} * m{k}" if c != 1 else f"m{k}" for c, k in rest[0])
        parts = [(self.expression(e), self.observable(part)) for e, part in rest[0]]
        if rest[1] == "sum":
            return f"qml.sum({', '.join(f'qml.s_prod({e}, {part})' for e, part in parts)})"
        coefficients, words = zip(*parts, strict=True)
        if rest[1] == "arithmetic":
            return " + ".join(f"{part} * ({e})" for e, part in parts)
        if rest[1] == "stacked":
            whole = self.expression(("stack", tuple(e for e, _ in rest[0]), (len(parts),)))
            return f"qml.Hamiltonian({whole}, [{', '.join(words)}])"
        if rest[1] == "dot":
            return f"qml.dot([{', '.join(coefficients)}], [{', '.join(words)}])"
        return f"qml.Hamiltonian({self.coefficients(coefficients)}, [{', '.join(words)}])"

    def measurement(self, measurement: Measurement) -> str:
        kind, observable = measurement.kind, measurement.observable
        if observable is None:
            return f"qml.{kind}(wires={self.wires(measurement.wires)})"
        if observable[0] == "outcomes" and kind == "probs":
            return f"qml.probs(op=[{', '.join(f'm{k}' for _, k in observable[1])}])"
        keyword = "op=" if kind == "probs" else ""
        return f"qml.{kind}({keyword}{self.observable(observable)})"


def array(matrix) -> str:
    """Writes an array of numbers."""
    return f"np.array({np.array(matrix).tolist()!r})"


def _evolve(w, op, angles):
    return f"qml.evolve({w.hamiltonian(op, angles[1:])}, {w.complex(angles[0])})"


def _time(name, more=""):
    def write(w, op, angles):
        return f"qml.{name}({w.hamiltonian(op, angles[1:])}, {w.complex(angles[0])}{more})"

    return write


def _ctrl(w, op, angles):
    values = [int(bit) for bit in op.options["values"]]
    control = f"control={w.wires(op.wires)}"
    if 0 in values or op.options.get("values given"):
        control += f", control_values={values}"
    return _around("ctrl", w, op, control)


def _around(name, w, op, more=""):
    """Writes a wrapper of a gate, or of the function that makes the gate."""
    (inner,) = op.inner
    if op.options.get("as function"):
        return f"qml.{name}(lambda: {w.gate(inner)}{', ' if more else ''}{more})()"
    return f"qml.{name}({w.gate(inner)}{', ' if more else ''}{more})"


def _pow(w, op, angles):
    lazy = ", lazy=False" if op.options.get("eager") else ""
    return f"qml.pow({w.gate(op.inner[0])}, {op.options['exponent']}{lazy})"


def _list(w, op):
    return ", ".join(map(w.gate, op.inner))


def _cond(w, op, angles):
    name, *rest = op.options["if"]
    condition = {
        "is": lambda k, value: f"m{k}" if value == 1 else f"m{k} == 0",
        "and": lambda j, k: f"m{j} & m{k}",
        "sum": lambda j, k, value: f"m{j} + m{k} == {value}",
    }[name](*rest)
    branches = ", ".join(f"lambda: {w.gate(part)}" for part in op.inner)
    return f"qml.cond({condition}, {branches})()"


def _fermionic_double(w, op, angles):
    one, two = w.wires(op.wires[:2]), w.wires(op.wires[2:])
    return f"qml.FermionicDoubleExcitation({angles[0]}, wires1={one}, wires2={two})"


def _all_singles_doubles(w, op, angles):
    a, b, c, d = op.wires
    singles = f"singles=[{w.wires([a, c])}, {w.wires([b, d])}], doubles=[{w.wires(op.wires)}]"
    start = "hf_state=np.array([1, 1, 0, 0])"
    return f"qml.AllSinglesDoubles({angles[0]}, {w.wires(op.wires)}, {start}, {singles})"


def _uccsd(w, op, angles):
    single, one, two = w.wires(op.wires[:3]), w.wires(op.wires[:2]), w.wires(op.wires[2:])
    excitations = f"s_wires=[{single}], d_wires=[[{one}, {two}]]"
    start = "init_state=np.array([1, 1, 0, 0])"
    return f"qml.UCCSD({angles[0]}, {w.wires(op.wires)}, {excitations}, {start})"


def _select_pauli_rot(w, op, angles):
    controls, target = w.wires(op.wires[:-1]), w.wires(op.wires[-1:])
    axis = op.options["rot_axis"]
    return f"qml.SelectPauliRot({angles[0]}, {controls}, {target}, rot_axis={axis!r})"


def _mps(w, op, angles):
    # `block` is part of every script that has it.
    return f"qml.MPS({w.wires(op.wires)}, 2, block, 2, {angles[0]})"


SPECIAL: dict[str, Callable[[Writer, Op, list[str]], str]] = {
    "PauliRot": lambda w, op, a: (
        f"qml.PauliRot({a[0]}, {op.options['word']!r}, wires={w.wires(op.wires)})"
    ),
    "evolve": _evolve,
    "exp": lambda w, op, a: f"qml.exp({w.hamiltonian(op, a[1:])}, -1j * {w.complex(a[0])})",
    "TrotterProduct": _time("TrotterProduct"),
    "ApproxTimeEvolution": _time("ApproxTimeEvolution", ", 1"),
    "CommutingEvolution": _time("CommutingEvolution"),
    "QubitUnitary": lambda w, op, a: (
        f"qml.QubitUnitary({array(op.options['matrix'])}, wires={w.wires(op.wires)})"
    ),
    "ControlledQubitUnitary": lambda w, op, a: (
        f"qml.ControlledQubitUnitary({array(op.options['matrix'])}, wires={w.wires(op.wires)})"
    ),
    "DiagonalQubitUnitary": lambda w, op, a: (
        f"qml.DiagonalQubitUnitary({NAMES[w.framework]['m']}.exp(1j * {w.complex(a[0])}), "
        f"wires={w.wires(op.wires)})"
    ),
    "Permute": lambda w, op, a: (
        f"qml.Permute({w.wires([op.wires[k] for k in op.options['order']])}, {w.wires(op.wires)})"
    ),
    "FlipSign": lambda w, op, a: f"qml.FlipSign({list(op.options['bits'])}, {w.wires(op.wires)})",
    "MultiControlledX": lambda w, op, a: (
        f"qml.MultiControlledX(wires={w.wires(op.wires)}, "
        f"control_values={[int(bit) for bit in op.options['values']]})"
    ),
    "FermionicDoubleExcitation": _fermionic_double,
    "AllSinglesDoubles": _all_singles_doubles,
    "UCCSD": _uccsd,
    "SelectPauliRot": _select_pauli_rot,
    "MPS": _mps,
    "AmplitudeEmbedding": lambda w, op, a: (
        f"qml.AmplitudeEmbedding({a[0]}, wires={w.wires(op.wires)}, normalize=True)"
    ),
    "StatePrep": lambda w, op, a: (
        f"qml.StatePrep({a[0]}, wires={w.wires(op.wires)}, normalize=True)"
    ),
    "ctrl": _ctrl,
    "adjoint": lambda w, op, a: _around("adjoint", w, op),
    "pow": _pow,
    "prod": lambda w, op, a: f"qml.prod({_list(w, op)})",
    "Select": lambda w, op, a: f"qml.Select([{_list(w, op)}], control={w.wires(op.wires)})",
    "ControlledSequence": lambda w, op, a: (
        f"qml.ControlledSequence({w.gate(op.inner[0])}, control={w.wires(op.wires)})"
    ),
    "Reflection": lambda w, op, a: f"qml.Reflection({w.gate(op.inner[0])}, {a[0]})",
    "cond": _cond,
}
