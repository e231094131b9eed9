"""What a mode is, and what modes share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fuzz.case import Case, coefficients, expressions, moves, parts, walk
from fuzz.jets import Jet
from fuzz.reference import Variables, results
from fuzz.source import Source

# All results of the quantum function as one tensor: [values], or [batch, values].
FLAT = """
def flat(results):
    results = results if isinstance(results, (list, tuple)) else [results]
    return tf.concat([tf.reshape(result, {shape}) for result in results], {axis})
"""

MODES: dict[str, Mode] = {}


class Mode:
    """A way to call a quantum function and to differentiate it.

    Attributes:
        name: Its name.
        features: Features of a case that it can do with; see `draw.FEATURES`.
        weight: How often it is drawn.
        kinds: The measurements that it can do with.
        devices: Devices and how often, if not those of `draw`.
    """

    name: str
    features: frozenset[str] = frozenset()
    weight = 1.0
    kinds = ("expval", "expval", "var", "probs")
    devices: list[tuple[str, float]] = []

    def __init_subclass__(cls):
        if "name" in vars(cls):
            MODES[cls.name] = cls()

    def draw(self, rng, case: Case) -> dict[str, Any] | None:
        """Draws the options of the mode for a case; None if the case does not suit it."""
        raise NotImplementedError

    def source(self, case: Case) -> str:
        """Writes the part of a script that defines ``run()``: pairs of names and results."""
        raise NotImplementedError

    def expected(self, case: Case) -> list[np.ndarray]:
        """Returns the results that are right."""
        raise NotImplementedError

    def suits(self, case: Case) -> bool:
        """Whether the options suit the case; after shrinking they may not."""
        return True

    def simpler(self, how: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yields options that are simpler."""
        yield from ()

    def control(self, case: Case) -> Case | None:
        """Returns the same with a classical function in place of the circuit: what fails with it
        is none of qshift's doing. None if there is no such thing."""
        return None


def classical(case: Case) -> Case:
    """Puts a classical function in place of the circuit; its arguments are taken by index."""
    leaves = tuple(replace(leaf, access="index") for leaf in case.leaves)
    return replace(case, leaves=leaves, how={**case.how, "classical": True})


# Ways to come by a qnode other than the decorator; {new} is the decorator.
MADE = {
    "from_qnode": "circuit = qshift.from_qnode(qml.qnode({device})(circuit))",
    "copied": "import copy\n\ncircuit = copy.copy({new}(circuit))",
    "copied deeply": "import copy\n\ncircuit = copy.deepcopy({new}(circuit))",
    "pickled": "from cloudpickle import dumps, loads\n\ncircuit = loads(dumps({new}(circuit)))",
    "updated": "circuit = {new}(circuit).update(diff_method='shift')",
}
# Transforms of PennyLane that change no results.
TRANSFORMS = (
    "cancel_inverses",
    "commute_controlled",
    "merge_rotations",
    "split_non_commuting",
    "combine_global_phases",
    "compile",
    "undo_swaps",
)


def qnode(case: Case, decorator: str = "qshift.qnode") -> str:
    """Writes the decorator of the quantum function."""
    keywords = "".join(f", {name}={value!r}" for name, value in case.options.items())
    transform = case.how.get("on top")
    before = (
        f"@qml.{'' if transform == 'compile' else 'transforms.'}{transform}\n" if transform else ""
    )
    return f"{before}@{decorator}({case.device}{keywords})"


def preamble(case: Case, rows: bool = True) -> str:
    """Writes definitions, arguments, the qnode, and f, which returns all results as one tensor."""
    source = Source(case, rows=rows)
    decorator, made = "" if case.how.get("classical") else qnode(case), case.how.get("made")
    after = ""
    if decorator and made and not case.how.get("on top"):
        after = MADE[made].format(new=decorator[1:], device=case.device) + "\n"
        decorator = ""
    shape, axis = ("[-1]", 0) if case.batch is None or not rows else (f"[{case.batch}, -1]", 1)
    quantum, inside = source.quantum_function(decorator=decorator) + after, ""
    if case.how.get("built inside"):
        quantum, inside = "", textwrap.indent(quantum, "    ") + "\n"
    return "\n".join(
        [
            source.definitions(),
            source.arguments(),
            quantum,
            FLAT.format(shape=shape, axis=axis),
            f"\ndef f({', '.join(source.names)}):\n{inside}    return flat({source.call()})\n",
        ]
    )


def leaves_that_matter(case: Case) -> list[str]:
    """Returns the arguments that results depend on, as TensorFlow sees it."""
    found = [a for op in walk(case.ops) for a in op.angles if matters(op)]
    found += [c for m in case.measurements for c in coefficients(m.observable)]
    names = {part[1] for e in found for part in _connected(e) if part[0] in ("leaf", "old")}
    return [leaf.name for leaf in case.leaves if leaf.name in names and leaf.is_tensor]


def matters(op) -> bool:
    """Whether a gate can be differentiated by its angles: data cannot."""
    return op.name not in ("StatePrep", "AmplitudeEmbedding")


def _connected(expression) -> Iterator[tuple]:
    """Yields the parts of an expression that a derivative reaches."""
    if isinstance(expression, tuple):
        if expression and isinstance(expression[0], str):
            if expression[0] == "stop":
                return
            yield expression
        for part in expression:
            yield from _connected(part)


def may_be_unconnected(case: Case) -> bool:
    """Whether TensorFlow may rightly have None for a second derivative: of what is linear in an
    argument, as coefficients are and custom gradients may be."""
    custom = any(part[0] in ("custom", "stop") for part in expressions(case))
    return custom or any(
        moves(c, case) for m in case.measurements for c in coefficients(m.observable)
    )


def reference(case: Case, names, order: int, values=None) -> tuple[Jet, Variables]:
    """Returns the results as jets in some arguments."""
    variables = Variables(case, sorted(set(names)), order)
    return results(case, variables, values), variables


__all__ = ["MODES", "Mode", "leaves_that_matter", "parts", "preamble", "qnode", "reference"]
