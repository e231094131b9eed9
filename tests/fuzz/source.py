"""A case as Python: what it imports, its arguments, its quantum function."""

from __future__ import annotations

import itertools

import numpy as np

from fuzz.calls import Writer
from fuzz.case import Case, Leaf, coefficients, expressions, moves, parts, walk
from fuzz.expressions import CUSTOM, FUNCTIONS, INNER, NAMES
from fuzz.own import OWN

HEADER = """import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import pennylane as qml
import tensorflow as tf

import qshift
"""
FRAMEWORKS = {
    "tf": "",
    "jax": 'import jax\nimport jax.numpy as jnp\n\njax.config.update("jax_enable_x64", True)\n',
    "autograd": "from pennylane import numpy as pnp\n",
}
BLOCK = """
def block(weights, wires):
    qml.CNOT(wires=[wires[0], wires[1]])
    qml.RY(weights[0], wires=wires[0])
    qml.RY(weights[1], wires=wires[1])
"""

# How a quantum function takes entries out of an argument: a line of code, and what then stands for
# the entry at {i}. All mean the same.
ACCESS = {
    "index": None,
    "unpack": ("{unpacked} = {x}", "{x}_{i}"),
    "iterate": ("{x}_list = [entry for entry in {x}]", "{x}_list[{i}]"),
    "len": ("{x}_list = [{x}[k] for k in range(len({x}))]", "{x}_list[{i}]"),
    "enumerate": ("{x}_list = dict(enumerate({x}))", "{x}_list[{i}]"),
    "reversed": ("{x}_list = list(reversed({x}))[::-1]", "{x}_list[{i}]"),
    "zip": ("{x}_list = [entry for entry, _ in zip({x}, {x})]", "{x}_list[{i}]"),
    "computed": ("{x}_list = [entry for entry in 1.0 * {x}]", "{x}_list[{i}]"),
    "transposed": ("{x}_list = list({m}.transpose({x}))", "{x}_list[{i}]"),
}


class Source:
    """Writes a case as Python.

    Args:
        case: The case.
        framework: Whose tensors the arguments are: "tf", "jax" or "autograd".
        rows: Whether batched arguments come as a whole batch, and not sample by sample.
    """

    def __init__(self, case: Case, framework: str = "tf", rows: bool = True):
        self.case, self.framework, self.rows = case, framework, rows
        self.writer = Writer(case.labels, self.expression, framework, case.dtype)
        self._batched = {leaf.name for leaf in case.leaves if leaf.batched and rows}

    # --- expressions ---

    def expression(self, expression) -> str:
        """Writes an expression."""
        name, *rest = expression
        if name == "leaf":
            return rest[0]
        if name == "old":
            return f"{rest[0]}_old"
        if name == "number":
            return repr(rest[0])
        if name == "constant":
            return self._constant(*rest)
        if name == "index":
            return self._entry(*rest)
        if name == "stack":
            written = ", ".join(map(self.expression, rest[0]))
            m = NAMES[self.framework]["m"]
            stacked = f"{m}.stack([{written}])"
            return stacked if rest[1] == (len(rest[0]),) else f"{m}.reshape({stacked}, {rest[1]})"
        if name == "custom":
            return f"{rest[0]}({self.expression(rest[1])})"
        if name == "inner":
            return f"inner({self.expression(rest[0])})"
        return FUNCTIONS[name][0].format(*map(self.expression, rest), **NAMES[self.framework])

    def _constant(self, values, form):
        written = np.array(values).tolist()
        if form == "numpy":
            return f"np.array({written!r})"
        return {
            "tf": f"tf.constant({written!r}, tf.{self.case.dtype})",
            "jax": f"jnp.asarray({written!r})",
            "autograd": f"np.array({written!r})",
        }[self.framework]

    def _entry(self, of, index):
        access = ACCESS["index"]
        if of[0] == "leaf" and not self._has_rows(of):
            access = ACCESS[self.case.leaf(of[1]).access]
        if access:
            first, *others = index
            written = access[1].format(x=of[1], i=first)
            return f"{written}[{', '.join(map(str, others))}]" if others else written
        prefix = ":, " if self._has_rows(of) else ""
        return f"{self.expression(of)}[{prefix}{', '.join(map(str, index))}]"

    def _has_rows(self, expression) -> bool:
        return any(part[0] == "leaf" and part[1] in self._batched for part in parts(expression))

    # --- the parts of a script ---

    def definitions(self) -> str:
        """Writes imports and functions that the quantum function uses."""
        case, pieces = self.case, [HEADER, FRAMEWORKS[self.framework]]
        found = list(expressions(case))
        for name in sorted({part[1] for part in found if part[0] == "custom"}):
            pieces.append("\n" + CUSTOM[name].code.format(name=name) + "\n")
        if any(part[0] == "inner" for part in found):
            pieces.append(INNER)
        for name in sorted({op.name for op in walk(case.ops)} & set(OWN)):
            pieces.append(f"\n{OWN[name].code}\n")
        if any(op.name == "MPS" for op in walk(case.ops)):
            pieces.append(BLOCK)
        return "".join(piece for piece in pieces if piece)

    def leaf(self, leaf: Leaf, values=None, kind: str | None = None) -> str:
        """Writes the value of an argument."""
        values = leaf.array.tolist() if values is None else np.array(values).tolist()
        kind = kind or leaf.kind
        if kind == "array":
            return f"np.array({values!r}, np.{self.case.dtype})"
        if self.framework == "jax":
            return f"jnp.asarray({values!r})"
        if self.framework == "autograd":
            return f"pnp.array({values!r}, requires_grad=True)"
        if kind == "tensor":
            return f"tf.constant({values!r}, tf.{self.case.dtype})"
        return f"tf.Variable({values!r}, dtype=tf.{self.case.dtype})"

    def arguments(self) -> str:
        """Writes the arguments, with what is captured among them."""
        return "".join(f"{leaf.name} = {self.leaf(leaf)}\n" for leaf in self.case.leaves)

    @property
    def names(self) -> list[str]:
        """The names of those that are passed."""
        return [leaf.name for leaf in self.case.leaves if leaf.kind != "captured"]

    def call(self, function: str = "circuit") -> str:
        """Writes a call with all arguments."""
        names = self.names
        return (
            function
            + {
                "flat": f"({', '.join(names)})",
                "keywords": f"({', '.join(f'{name}={name}' for name in names)})",
                "list": f"([{', '.join(names)}])",
                "dict": "({" + ", ".join(f'"{name}": {name}' for name in names) + "})",
            }[self.case.call]
        )

    def quantum_function(self, name: str = "circuit", decorator: str = "") -> str:
        """Writes the quantum function."""
        lines = []
        if self.case.call == "list":
            lines.append(f"{', '.join(self.names)}, = arguments" if self.names else "pass")
        if self.case.call == "dict":
            lines += [f'{leaf} = arguments["{leaf}"]' for leaf in self.names]
        for leaf in sorted(self.case.assigned):
            values = self.case.leaf(leaf).array.tolist()
            lines += [f"{leaf}.assign({values!r})", f"{leaf}_old = tf.identity({leaf})"]
        lines += self._entries()
        if self.case.how.get("classical"):
            lines += self._classical()
        else:
            lines += self._operations()
            lines.append(
                f"return {', '.join(map(self.writer.measurement, self.case.measurements))}"
            )
        nested = self.case.call in ("list", "dict")
        parameters = "arguments" if nested else ", ".join(self.names)
        head = f"def {name}({parameters}):\n"
        decorated = f"{decorator}\n{head}" if decorator else head
        return decorated + "".join(f"    {line}\n" for line in lines)

    def _entries(self):
        """The lines that take arguments apart."""
        for leaf in self.case.leaves:
            access = ACCESS[leaf.access]
            used = any(
                part[0] == "index" and part[1] == ("leaf", leaf.name)
                for part in expressions(self.case)
            )
            if access and used and leaf.name not in self._batched:
                length = leaf.array.shape[1 if leaf.batched else 0]
                unpacked = ", ".join(f"{leaf.name}_{i}" for i in range(length)) + ","
                m = NAMES[self.framework]["m"]
                yield access[0].format(x=leaf.name, unpacked=unpacked, m=m)

    def _operations(self):
        outcomes = itertools.count()
        for op in self.case.ops:
            if op.name == "assign":
                yield f"{op.options['leaf']}.assign_add({op.options['change']!r})"
            elif op.name == "measure":
                reset = ", reset=True" if op.options.get("reset") else ""
                wire = self.case.labels[op.wires[0]]
                yield f"m{next(outcomes)} = qml.measure({wire!r}{reset})"
            else:
                yield self.writer.gate(op)

    def _classical(self):
        """A stand-in without a circuit, to see what TensorFlow itself can do in a mode."""
        case, lines, angles = self.case, [], []

        def remember(expression):
            if moves(expression, case):
                lines.append(f"a{len(angles)} = tf.identity({self.expression(expression)})")
                angles.append((f"a{len(angles)}", self._has_rows(expression)))

        for op in walk(case.ops):
            if op.name == "assign":
                lines.append(f"{op.options['leaf']}.assign_add({op.options['change']!r})")
            for angle in op.angles:
                remember(angle)
        for measurement in case.measurements:
            for coefficient in coefficients(measurement.observable):
                remember(coefficient)
        terms = []
        for k, (angle, has_rows) in enumerate(angles):
            summed = f"tf.reshape({angle}, [{case.batch}, -1]), 1" if has_rows else angle
            terms.append(f"{1 + k / 8} * tf.reduce_sum({summed})")
        lines.append(f"total = {' + '.join(terms)}")
        cosines = [f"tf.cos(total + {m}.0)" for m in range(len(case.measurements))]
        return [*lines, f"return {', '.join(cosines)}"]
