"""What has no exact answer: an error of qshift's that says so, and never a number."""

from __future__ import annotations

import numpy as np

from fuzz.modes.base import Mode, leaves_that_matter, preamble

# What is put into a quantum function before it returns, what it returns then, and whether it is
# refused without being differentiated, too. {x} is an angle, {w} a wire.
REFUSED = {
    "a product that is not Hermitian": (
        "",
        "qml.expval(qml.X({w}) @ qml.Z({w}))",
        True,
    ),
    "its variance": ("", "qml.var(qml.X({w}) @ qml.Z({w}))", True),
    "a complex coefficient": ("", "qml.expval((0.5 + 1j) * qml.Z({w}))", True),
    "an imaginary coefficient in a sum": (
        "",
        "qml.expval(qml.sum(qml.X({w}), qml.s_prod(1j, qml.Z({w}))))",
        True,
    ),
    "a state": ("", "qml.state()", True),
    "samples": ("", "qml.sample(qml.Z({w}))", True),
    "an entropy": ("", "qml.purity(wires={w})", True),
    "postselection": ("qml.measure({w}, postselect=1)", "qml.expval(qml.Z({w}))", True),
    "a unitary that moves": (
        "qml.QubitUnitary(tf.linalg.diag(tf.exp(1j * tf.cast([{x}, -{x}], tf.complex128))), {w})",
        "qml.expval(qml.X({w}))",
        False,
    ),
    "a state that moves": (
        "qml.StatePrep(tf.stack([tf.cos({x}), tf.sin({x})]), wires={w})",
        "qml.expval(qml.X({w}))",
        False,
    ),
    "an observable that moves": (
        "",
        "qml.expval(qml.Hermitian(tf.linalg.diag([{x}, 1.0]), wires={w}))",
        False,
    ),
    "damping": (
        "qml.AmplitudeDamping(0.1 + 0.1 * tf.square(tf.sin({x})), wires={w})",
        "qml.expval(qml.Z({w}))",
        False,
    ),
}
_RUN = """
{step}

def run():
    try:
        found = step({names})
    except Exception as error:
        told = str(error)
        refused = isinstance(error, qshift.QShiftError) or "UnsupportedError" in told
        refused = refused or "NoShiftRuleError" in told
        if not refused:
            raise
        return [("refused", 1.0)]
    print(found)
    return [("refused", 0.0)]
"""


class Refusals(Mode):
    """Options: "what", "by", "graph", "value" (whether only the value is asked for)."""

    name = "refusals"
    features = frozenset("constants wrappers shared extreme".split())
    weight = 0.5
    kinds = ("expval",)

    def draw(self, rng, case):
        names = leaves_that_matter(case)
        if not names or case.call != "flat":
            return None
        name = str(rng.choice(list(REFUSED)))
        value = REFUSED[name][2] and bool(rng.random() < 0.5)
        graph = bool(rng.random() < 0.2)
        return {"what": name, "by": str(rng.choice(names)), "graph": graph, "value": value}

    def source(self, case):
        how, by = case.how, case.leaf(case.how["by"])
        entry = by.name + (f"[{', '.join('0' * by.array.ndim)}]" if by.array.ndim else "")
        before, returned, _ = REFUSED[how["what"]]
        words = {"x": entry, "w": repr(case.labels[0])}
        lines = [line.format(**words) for line in (before, f"return {returned}") if line]
        written = preamble(case)
        if "damping" in how["what"]:
            written = written.replace(case.device, 'qml.device("default.mixed", wires=5)')
        start = written.index("    return qml.")
        end = written.index("\n", start)
        inserted = "\n".join(f"    {line}" for line in lines)
        if how["what"] == "a state that moves":  # comes first
            head = written.index(":\n", written.index("def circuit(")) + 2
            written = written[:start] + lines[1].rjust(4 + len(lines[1])) + written[end:]
            written = f"{written[:head]}    {lines[0]}\n{written[head:]}"
        else:
            written = written[:start] + inserted + written[end:]
        names = ", ".join(leaf.name for leaf in case.leaves)
        decorator = "@tf.function\n" if how["graph"] else ""
        step = [f"{decorator}def step({names}):"]
        if how["value"]:
            step.append(f"    return f({names})")
        else:
            step.append("    with tf.GradientTape() as tape:")
            step.append(f"        tape.watch({by.name})")
            step.append(f"        result = f({names})")
            step.append(f"    return tape.gradient(result, {by.name})")
        return written + _RUN.format(step="\n".join(step), names=names)

    def expected(self, case):
        return [np.array(1.0)]

    def suits(self, case):
        return case.how["by"] in leaves_that_matter(case)

    def simpler(self, how):
        if how["graph"]:
            yield {**how, "graph": False}
