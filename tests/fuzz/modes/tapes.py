"""Nested tapes and forward accumulators, level by level, eager and compiled."""

from __future__ import annotations

import numpy as np

from fuzz.case import expressions
from fuzz.jets import Jet
from fuzz.modes.base import (
    MADE,
    TRANSFORMS,
    Mode,
    classical,
    leaves_that_matter,
    may_be_unconnected,
    preamble,
    reference,
)

# How one level differentiates the result y of the level inside by an argument x.
REVERSE = {
    "gradient": "{tape}.gradient({y}, {x}{zero})",
    "weighted": "{tape}.gradient({y}, {x}, output_gradients={weights}{zero})",
    "pfor": "{tape}.jacobian({y}, {x}{zero})",
    "loop": "{tape}.jacobian({y}, {x}, experimental_use_pfor=False{zero})",
    "rows": "{tape}.batch_jacobian({y}, {x}{zero})",
    "rows by loop": "{tape}.batch_jacobian({y}, {x}, experimental_use_pfor=False{zero})",
}
# These differentiate the sum of the squares of results, or of their differences from what they are
# at first: of 0, whose square has a Hessian.
SQUARES = ("square", "residual")
LOOPS = ("pfor", "loop", "rows", "rows by loop")
# What is compiled: nothing, f, what differentiates it, or both.
GRAPHS = ("eager",) * 32 + ("outside",) * 2 + ("inside",) * 3 + ("inner",)


def weights(shape) -> list:
    """Cotangents and tangents: the same numbers in the script and for the reference."""
    size = int(np.prod(shape, dtype=int))
    return (np.arange(1, size + 1) % 5 - 1.5).reshape(shape).tolist()


class Tapes(Mode):
    """Options: "levels", a list of [argument, how] from the inside, and "graph"."""

    name = "tapes"
    features = frozenset(
        "batch captured constants access extreme large custom inner templates wrappers measured "
        "scales coefficients assign float32 shared arguments prepared own huge".split()
    )
    weight = 14.0

    def draw(self, rng, case):
        names = leaves_that_matter(case)
        if not names:
            return None
        order = int(rng.choice([1, 2, 3], p=[0.6, 0.35, 0.05]))
        levels, has_rows, graph = [], case.batch is not None, str(rng.choice(GRAPHS))
        forward = rng.random() < 0.06  # TensorFlow compiles the tangent of every eager op, slowly
        inside = {"built inside": True} if rng.random() < 0.08 else {}
        inside |= {"made": str(rng.choice(list(MADE)))} if rng.random() < 0.1 else {}
        captured = any(leaf.kind == "captured" for leaf in case.leaves)
        if inside.get("made") == "pickled" and (captured or "built inside" in inside):
            # A pickle of a script's function has variables of its own, and one of a function that
            # AutoGraph has converted asks for AutoGraph's own modules.
            del inside["made"]
        if rng.random() < 0.08 and not case.batch:
            inside["on top"] = str(rng.choice(TRANSFORMS))
        for _ in range(order):
            name = str(rng.choice(names))
            choices = ["gradient", "weighted", "loop"] * 3 + ["pfor"]
            choices += [*SQUARES] * (not levels)
            choices += ["rows by loop", "rows"] * (has_rows and case.leaf(name).batched)
            if "forward" in [way for _, way in levels]:
                choices = ["gradient", "weighted"]
            if forward and self._forward(case, name, levels, graph):
                choices += ["forward"] * len(choices)
            how = str(rng.choice(choices))
            levels.append([name, how])
            has_rows = has_rows and how not in ("gradient", "weighted", *SQUARES)
        return {"levels": levels, "graph": graph, "calls": int(rng.choice([1, 1, 2])), **inside}

    @staticmethod
    def _forward(case, name, levels, graph) -> bool:
        """Whether TensorFlow's accumulators can do it, in seconds: they ignore custom gradients,
        see no variables inside of compiled functions, and compile every op of a loop."""
        if any(part[0] == "custom" for part in expressions(case)):
            return False
        if any(way in LOOPS for _, way in levels) or ("forward" in [way for _, way in levels]):
            return False
        return graph == "eager" or case.leaf(name).kind == "tensor"

    # --- the script ---

    def source(self, case):
        how, names = case.how, [leaf.name for leaf in case.leaves if leaf.kind != "captured"]
        zero = ', unconnected_gradients="zero"' if may_be_unconnected(case) else ""
        shapes, code = list(self._shapes(case)), []
        graph = how["graph"]
        if graph in ("outside", "inner"):
            code.append("f = tf.function(f)\n")
        code.append("@tf.function" if graph in ("inside", "inner") else "")
        code.append(f"def step({', '.join(names)}):")
        depth, levels = 1, how["levels"]
        for k in reversed(range(len(levels))):
            name, way = levels[k]
            if way == "forward":
                tangent = f"tf.constant({weights(case.leaf(name).array.shape)!r}, tf.{case.dtype})"
                code.append(
                    "    " * depth
                    + f"with tf.autodiff.ForwardAccumulator({name}, {tangent}) as t{k}:"
                )
            else:
                code.append("    " * depth + f"with tf.GradientTape(persistent=True) as t{k}:")
                if case.leaf(name).kind == "tensor":
                    code.append("    " * (depth + 1) + f"t{k}.watch({name})")
            depth += 1
        code.append("    " * depth + f"y0 = f({', '.join(names)})")
        for k, (name, way) in enumerate(levels):
            # What a tape differentiates is computed while it records.
            if way == "residual":
                numbers = reference(case, [], 0)[0].value.tolist()
                code.append("    " * depth + f"y{k} -= tf.constant({numbers!r}, y{k}.dtype)")
            if way in SQUARES:
                code.append("    " * depth + f"y{k} = tf.reduce_sum(y{k} * y{k})")
            depth -= 1
            if way == "forward":
                found = f"t{k}.jvp(y{k}{zero})"
            else:
                way = "gradient" if way in SQUARES else way
                found = REVERSE[way].format(
                    tape=f"t{k}",
                    y=f"y{k}",
                    x=name,
                    weights=f"tf.constant({weights(shapes[k])!r}, y{k}.dtype)",
                    zero=zero,
                )
            code.append("    " * depth + f"y{k + 1} = {found}")
        results = ", ".join(f"y{k}" for k in range(len(levels) + 1))
        code.append(f"    return {results}\n")
        labels = ["values", *(f"{way} by {name}" for name, way in levels)]
        code.append("\ndef run():")
        new = [leaf.name for leaf in case.leaves if leaf.kind in ("tensor", "array")]
        code += [f"    global {', '.join(new)}"] if new and how["calls"] > 1 else []
        code.append(f"    labels, found = {labels}, []")
        call = f"found += zip(labels, step({', '.join(names)}), strict=True)"
        calls = [call, *self._moved(case), call] if how["calls"] > 1 else [call]
        code += [f"    {line}" for line in calls]
        code.append("    return found\n")
        return preamble(case) + "\n" + "\n".join(line for line in code if line)

    @staticmethod
    def _moved(case):
        """Lines that change all arguments, for the second call."""
        for leaf in case.leaves:
            if leaf.kind in ("tensor", "array"):
                yield f"{leaf.name} = {leaf.name} + 0.25"
            elif leaf.name not in case.assigned:
                yield f"{leaf.name}.assign_add(tf.ones_like({leaf.name}) * 0.25)"

    # --- what is right ---

    def _levels(self, case, move: float) -> list[Jet]:
        levels = case.how["levels"]
        moved = {x.name: x.array + move for x in case.leaves if x.name not in case.assigned}
        y, variables = reference(case, [name for name, _ in levels], len(levels), moved)
        found = [y]
        for name, way in levels:
            if way == "residual":
                y = y - reference(case, [], 0)[0].value
            if way in SQUARES:
                y = (y * y).sum()
                found[-1] = y
            if way == "weighted":
                y = (y * np.array(weights(y.shape))).sum()
            elif way == "gradient":
                y = y.sum()
            derivative, axes = variables.derivative(y, name), len(y.shape)
            if way == "forward":
                tangent = np.array(weights(case.leaf(name).array.shape))
                derivative = (derivative * tangent).reshape(*y.shape, -1)
                derivative = Jet(y.ring, derivative.coefficients.sum(axis=-1))
            elif way.startswith("rows"):  # row b of the result by row b of the argument
                # diagonal puts the axis of the rows last
                rows = np.diagonal(derivative.coefficients, axis1=1, axis2=1 + axes)
                derivative = Jet(y.ring, np.moveaxis(rows, -1, 1))
            y = derivative
            found.append(y)
        return found

    def _shapes(self, case):
        """The shape of what each level differentiates."""
        shape = reference(case, [], 0)[0].shape
        for name, way in case.how["levels"]:
            yield shape
            argument = case.leaf(name).array.shape
            if way in ("gradient", "weighted", *SQUARES):
                shape = argument
            elif way.startswith("rows"):
                shape = (*shape, *argument[1:])
            elif way != "forward":
                shape = (*shape, *argument)

    def expected(self, case):
        moves = (0.0, 0.25)[: case.how["calls"]]
        return [y.value for move in moves for y in self._levels(case, move)]

    def suits(self, case):
        names = leaves_that_matter(case)
        return all(name in names for name, _ in case.how["levels"])

    def simpler(self, how):
        levels = how["levels"]
        for extra in ("built inside", "made", "on top"):
            if how.get(extra):
                yield {name: option for name, option in how.items() if name != extra}
        if how["calls"] > 1:
            yield {**how, "calls": 1}
        for k in range(len(levels)):
            if len(levels) > 1:
                yield {**how, "levels": levels[:k] + levels[k + 1 :]}
        if how["graph"] != "eager":
            yield {**how, "graph": "eager"}
        if how["graph"] == "inner":
            yield {**how, "graph": "inside"}
        for k, (name, way) in enumerate(levels):
            for plain in ("gradient", "loop"):
                if way not in ("gradient", "loop"):
                    yield {**how, "levels": levels[:k] + [[name, plain]] + levels[k + 1 :]}

    def control(self, case):
        return classical(case)
