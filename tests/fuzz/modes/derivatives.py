"""`qshift.derivatives`: all derivatives up to an order, diagonal ones, and chosen ones."""

from __future__ import annotations

import itertools

import numpy as np

from fuzz.jets import Jet
from fuzz.modes.base import Mode, classical, leaves_that_matter, preamble, reference

COMMON = frozenset(
    "captured constants access extreme large custom inner templates wrappers measured scales "
    "coefficients assign float32 shared arguments prepared own huge".split()
)


def _passed(case):
    return [leaf for leaf in case.leaves if leaf.kind != "captured"]


def _call(case, keywords: str) -> str:
    arguments = ", ".join(leaf.name for leaf in _passed(case))
    return f"qshift.derivatives(f, {arguments}, {keywords})"


def _script(case, labels, call) -> str:
    lines = [
        f"labels = {labels}",
        f"found = tf.nest.flatten({call})",
        "return list(zip(labels, found, strict=True))",
    ]
    body = "".join(f"    {line}\n" for line in lines)
    return preamble(case) + f"\n\ndef run():\n{body}"


class Derivatives(Mode):
    """Options: "order" and "arguments", to differentiate by."""

    name = "derivatives"
    features = COMMON
    weight = 2.0

    def draw(self, rng, case):
        names = [name for name in leaves_that_matter(case) if case.leaf(name).kind != "captured"]
        if not names:
            return None
        some = [str(n) for n in rng.permutation(names)[: rng.integers(1, 3)]]
        return {"order": int(rng.choice([1, 2, 3], p=[0.62, 0.34, 0.04])), "arguments": some}

    def source(self, case):
        names, order = case.how["arguments"], case.how["order"]
        positions = tuple([leaf.name for leaf in _passed(case)].index(name) for name in names)
        labels = ["values"]
        for k in range(1, order + 1):
            labels += [" ".join(by) for by in itertools.product(names, repeat=k)]
        call = _call(case, f"order={order}, argnums={positions}")
        return _script(case, labels, call)

    def expected(self, case):
        names, order = case.how["arguments"], case.how["order"]
        y, variables = reference(case, names, order)
        level, found = [y], [y]
        for _ in range(order):
            level = [variables.derivative(jet, name) for jet in level for name in names]
            found += level
        return [jet.value for jet in found]

    def suits(self, case):
        return set(case.how["arguments"]) <= set(leaves_that_matter(case))

    def simpler(self, how):
        if how["order"] > 1:
            yield {**how, "order": how["order"] - 1}
        for k in range(len(how["arguments"])):
            rest = how["arguments"][:k] + how["arguments"][k + 1 :]
            if rest:
                yield {**how, "arguments": rest}

    def control(self, case):
        return classical(case)


class Diagonal(Derivatives):
    """Only derivatives by one entry with itself."""

    name = "diagonal"
    features = COMMON
    weight = 0.3

    def draw(self, rng, case):
        how = super().draw(rng, case)
        order = int(rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1]))
        return how and {"order": order, "arguments": how["arguments"][:1]}

    def source(self, case):
        (name,), order = case.how["arguments"], case.how["order"]
        position = [leaf.name for leaf in _passed(case)].index(name)
        labels = ["values"] + [" ".join([name] * k) for k in range(1, order + 1)]
        call = _call(case, f"order={order}, argnums={position}, diagonal=True")
        return _script(case, labels, call)

    def expected(self, case):
        (name,), order = case.how["arguments"], case.how["order"]
        y, variables = reference(case, [name], order)
        start, shape = variables.starts[name], variables.shapes[name]
        columns = [[y] for _ in range(int(np.prod(shape, dtype=int)))]
        for k, found in enumerate(columns):
            for _ in range(order):
                found.append(found[-1].derivative([start + k])[..., 0])
        return [y.value] + [
            np.stack([found[k].value for found in columns], -1).reshape(*y.shape, *shape)
            for k in range(1, order + 1)
        ]


class Partials(Derivatives):
    """Options: "partials", by names of arguments; batched ones keep to their rows."""

    name = "partials"
    features = COMMON | {"batch"}
    weight = 0.8

    def draw(self, rng, case):
        names = [name for name in leaves_that_matter(case) if case.leaf(name).kind != "captured"]
        if not names:
            return None
        order, partials = int(rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1])), [[]]
        for _ in range(int(rng.integers(1, 4))):
            by = [str(rng.choice(names)) for _ in range(int(rng.integers(1, order + 1)))]
            partials += [by] * (by not in partials)
        return {"partials": partials}

    def source(self, case):
        position = {leaf.name: k for k, leaf in enumerate(_passed(case))}
        partials = [tuple(position[name] for name in by) for by in case.how["partials"]]
        batched = tuple(position[leaf.name] for leaf in _passed(case) if leaf.batched)
        labels = [" ".join(by) or "values" for by in case.how["partials"]]
        given = f", batched={batched}" if batched else ""
        return _script(case, labels, _call(case, f"partials={partials}{given}"))

    def expected(self, case):
        partials = case.how["partials"]
        names = sorted({name for by in partials for name in by})
        y, variables = reference(case, names, max(map(len, partials)))
        found = []
        for by in partials:
            jet = y
            for name in by:
                axes = len(jet.shape)
                jet = variables.derivative(jet, name)
                if case.leaf(name).batched:
                    rows = np.diagonal(jet.coefficients, axis1=1, axis2=1 + axes)
                    jet = Jet(jet.ring, np.moveaxis(rows, -1, 1))
            found.append(jet.value)
        return found

    def suits(self, case):
        matter = set(leaves_that_matter(case))
        return all(set(by) <= matter for by in case.how["partials"])

    def simpler(self, how):
        partials = how["partials"]
        for k in range(len(partials)):
            if len(partials) > 1:
                yield {**how, "partials": partials[:k] + partials[k + 1 :]}
            for j in range(len(partials[k])):
                shorter = partials[k][:j] + partials[k][j + 1 :]
                yield {**how, "partials": partials[:k] + [shorter] + partials[k + 1 :]}
