"""Finite shots: the mean of many draws against the exact value, within its own error."""

from __future__ import annotations

import numpy as np

from fuzz.case import coefficients, parts, walk
from fuzz.expressions import value
from fuzz.modes.base import Mode, leaves_that_matter, preamble, reference
from fuzz.observables import small_matrix
from fuzz.reference import Variables, leaves_of

# A result is accepted as soon as it is within five errors; if it is not, four and sixteen times as
# many draws decide. The floor is for outcomes so rare that no draw has had them.
_RUN = """
def run():
    exact = np.array({exact!r})
    for draws in ({draws}, {draws} * 4, {draws} * 16):
        found = np.array([draw({names}) for _ in range(draws)])
        error = found.std(axis=0, ddof=1) / np.sqrt(draws)
        allowed = 5.0 * error + {floor!r} / draws + {noise!r}
        mean = found.mean(axis=0)
        if (np.abs(mean - exact) <= allowed).all():
            break
    return [("mean of {draws} and more draws", mean, allowed)]
"""


class Shots(Mode):
    """Options: "shots", "by" (the argument to differentiate by, or None), "order", "graph"."""

    name = "shots"
    features = frozenset("constants wrappers templates measured coefficients shared".split())
    weight = 0.4
    kinds = ("expval", "expval", "probs")  # estimates of variances are biased
    devices = [
        ('qshift.device("simulator")', 0.5),
        ('qml.device("default.qubit")', 0.25),
        ('qml.device("lightning.qubit", wires={wires})', 0.1),
        ('qshift.device("aer")', 0.12),
        ('qshift.device("fake-manila")', 0.03),
    ]

    def draw(self, rng, case):
        names = leaves_that_matter(case)
        # A noisy backend is no more than near, and derivatives of large numbers are not even that.
        noisy = "fake" in case.device
        if not names or (noisy and case.wires > 4) or "adjoint" in case.options.values():
            return None
        order = 0 if noisy else int(rng.choice([0, 1, 2], p=[0.25, 0.6, 0.15]))
        return {
            "shots": int(rng.choice([100, 500, 2000])),
            "by": str(rng.choice(names)),
            "order": order,
            "graph": bool(rng.random() < 0.5),
            "draws": 10 if noisy else 25,
        }

    def source(self, case):
        how, names = case.how, ", ".join(leaf.name for leaf in case.leaves)
        written = preamble(case).replace(
            "@qshift.qnode(", f"@qml.set_shots({how['shots']})\n@qshift.qnode("
        )
        lines = ["    values = f({names})", "    found = values", "    return found"]
        by = how["by"]
        if how["order"]:
            lines = [
                "    with tf.GradientTape() as outer:",
                f"        outer.watch({by})",
                "        with tf.GradientTape(persistent=True) as inner:",
                f"            inner.watch({by})",
                "            values = f({names})",
                f"        first = inner.jacobian(values, {by}, experimental_use_pfor=False)",
                "    found = [values, first]",
                "    return tf.concat([tf.reshape(x, [-1]) for x in found], 0)",
            ]
        if how["order"] == 2:
            lines[-2] = (
                f"    found = [values, first, outer.gradient(first, {by}"
                ', unconnected_gradients="zero")]'
            )
        code = [written, "@tf.function" if how["graph"] else "", f"def draw({names}):"]
        code += [line.format(names=names) for line in lines]
        code.append(
            _RUN.format(
                exact=self.expected(case)[0].tolist(),
                draws=how["draws"],
                names=names,
                floor=self._floor(case),
                noise=0.5 * _norm(case) if "fake" in case.device else 0.0,
            )
        )
        return "\n".join(code)

    def expected(self, case):
        by, order = case.how["by"], case.how["order"]
        y, variables = reference(case, [by] if order else [], order)
        found = [y]
        if order:
            found.append(variables.derivative(y, by))
        if order == 2:
            found.append(variables.derivative(found[-1].sum(), by))
        return [np.concatenate([jet.value.ravel() for jet in found])]

    def _floor(self, case) -> float:
        """Thirty times what one outcome can contribute to one draw."""
        variables = Variables(case, [case.how["by"]], 1)
        scope = {"": variables.ring.constant(0.0), **leaves_of(case, variables)}
        slopes = [
            np.abs(variables.derivative(value(angle, scope), case.how["by"]).value).max(initial=0)
            for op in walk(case.ops)
            for angle in op.angles
        ]
        largest = _norm(case) * (1 + 4 * sum(slopes)) ** case.how["order"]
        return float(30 * largest / case.how["shots"])

    def suits(self, case):
        return case.how["by"] in leaves_that_matter(case)

    def simpler(self, how):
        if how["order"]:
            yield {**how, "order": how["order"] - 1}
        if how["graph"]:
            yield {**how, "graph": False}


def _norm(case) -> float:
    """At least the largest value that a measurement can have."""
    scope = {leaf.name: leaf.array for leaf in case.leaves}
    total = 1.0
    for measurement in case.measurements:
        found = parts(measurement.observable)
        for part in found:
            if part[0] in ("word", "projector", "hermitian"):
                total += np.linalg.norm(small_matrix(part)[0], 2)
            if part[0] == "outcomes":
                total += sum(abs(weight) for weight, _ in part[1])
        sizes = [
            np.abs(np.asarray(scope[e[1]])).max()
            for c in coefficients(measurement.observable)
            for e in parts(c)
            if e[0] == "leaf"
        ]
        total *= max([2.0, *sizes])
    return float(total)
