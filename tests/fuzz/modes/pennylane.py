"""`qshift.param_shift` in PennyLane's own qnodes, with TensorFlow, Autograd and JAX."""

from __future__ import annotations

from dataclasses import replace

from fuzz.modes.base import Mode, leaves_that_matter, reference
from fuzz.modes.base import qnode as written_qnode
from fuzz.source import Source

_FLAT = """
def flat(results):
    results = results if isinstance(results, (list, tuple)) else [results]
    return qml.math.concatenate([qml.math.reshape(result, (-1,)) for result in results])


def f({names}):
    return {results}
"""
_DERIVATIVES = {
    "autograd": "qml.jacobian({f}, argnums={k})",
    "jax": "jax.jacobian({f}, argnums={k})",
}
_TF = """
def derivatives(arguments, by):
    with tf.GradientTape(persistent=True) as outer:
        outer.watch([a for a in arguments if tf.is_tensor(a)])
        with tf.GradientTape(persistent=True) as inner:
            inner.watch([a for a in arguments if tf.is_tensor(a)])
            values = f(*arguments)
        if len(by) > 0:
            first = inner.jacobian(values, arguments[by[0]], experimental_use_pfor=False)
    found = [values, first]
    if len(by) > 1:
        found.append(outer.jacobian(first, arguments[by[1]], experimental_use_pfor=False))
    return found
"""


class PennyLane(Mode):
    """Options: "framework", "by" (arguments to differentiate by), "transform", "residual" (the
    squares of what results differ from what they are: 0, whose square has a Hessian)."""

    name = "param_shift"
    features = frozenset(
        "constants extreme templates wrappers measured scales coefficients shared".split()
    )
    weight = 1.5

    def draw(self, rng, case):
        names = [name for name in leaves_that_matter(case) if case.leaf(name).kind != "captured"]
        if not names or case.call != "flat" or not _takes(case):
            return None
        order = int(rng.choice([1, 2], p=[0.65, 0.35]))
        by = [str(rng.choice(names)) for _ in range(order)]
        framework = str(rng.choice(["tf", "autograd", "jax"], p=[0.35, 0.57, 0.08]))
        if framework == "tf" and "default" not in case.device:
            framework = "autograd"  # PennyLane makes TensorFlow's results single precision there
        hessian = framework == "autograd" and order == 2 and len(case.leaves) == 1
        transform = hessian and len(case.measurements) == 1
        transform = transform and case.measurements[0].kind != "probs" and bool(rng.random() < 0.5)
        if transform:
            by = [names[0]] * 2
        residual = not transform and bool(rng.random() < 0.3)
        return {"framework": framework, "by": by, "transform": transform, "residual": residual}

    def source(self, case):
        how, positions = case.how, [leaf.name for leaf in case.leaves]
        framework, by = how["framework"], how["by"]
        case = replace(case, leaves=tuple(map(_constant, case.leaves)))
        source, k = Source(case, framework), [positions.index(name) for name in by]
        options = {"max_diff": len(by)} if len(by) > 1 and not how["transform"] else {}
        plain = replace(case, options=options)
        method = None if how.get("plain") else "qshift.param_shift"
        decorator = written_qnode(plain, "qml.qnode")[:-1] + f", diff_method={method})"
        labels = ["values", *(" ".join(by[: n + 1]) for n in range(len(by)))]
        lines = [f"labels = {labels}"]
        if how.get("plain"):
            lines = ["labels = ['values']", f"found = [f({', '.join(positions)})]"]
        elif framework == "tf":
            lines += [f"found = derivatives([{', '.join(positions)}], {k})"]
        elif how["transform"]:
            shape = case.leaf(by[0]).array.shape
            size = "(-1,)" if not shape else f"(-1, *{2 * shape})"
            lines += [
                f"found = [f({', '.join(positions)})]",
                f"hessian = qshift.param_shift_hessian(circuit)({', '.join(positions)})",
                "hessian = hessian[0] if isinstance(hessian, tuple) else hessian",
                f"found.append(np.reshape(np.array(hessian), {size}))",
            ]
            lines[0] = "labels = ['values', 'hessian']"
        else:
            first = _DERIVATIVES[framework].format(f="f", k=k[0])
            lines += [f"found = [f({', '.join(positions)}), {first}({', '.join(positions)})]"]
            if len(k) > 1:
                second = _DERIVATIVES[framework].format(f=first, k=k[1])
                lines += [f"found.append({second}({', '.join(positions)}))"]
        lines += ["return list(zip(labels, found, strict=True))"]
        results = f"flat({source.call()})"
        if how.get("residual"):
            results = f"({results} - np.array({reference(case, [], 0)[0].value.tolist()})) ** 2"
        return "\n".join(
            [
                source.definitions(),
                source.arguments(),
                source.quantum_function(decorator=decorator),
                _FLAT.format(names=", ".join(positions), results=results),
                _TF if framework == "tf" else "",
                "\ndef run():",
                *(f"    {line}" for line in lines),
                "",
            ]
        )

    def expected(self, case):
        by = case.how["by"]
        y, variables = reference(case, by, len(by))
        if case.how.get("residual"):
            y = y - reference(case, [], 0)[0].value
            y = y * y
        found = [y]
        for name in by:
            y = variables.derivative(y, name)
            found.append(y)
        if case.how["transform"]:
            del found[1]
        if case.how.get("plain"):
            del found[1:]
        return [jet.value for jet in found]

    def suits(self, case):
        if case.how["framework"] == "tf" and "default" not in case.device:
            return False
        return set(case.how["by"]) <= set(leaves_that_matter(case)) and _takes(case)

    def simpler(self, how):
        if len(how["by"]) > 1 and not how["transform"]:
            yield {**how, "by": how["by"][:1]}
        if how.get("residual"):
            yield {**how, "residual": False}
        if how["framework"] != "autograd":
            yield {**how, "framework": "autograd"}

    def control(self, case):
        """Values only, as PennyLane runs the circuit by itself."""
        return replace(case, how={**case.how, "plain": True})


def _takes(case) -> bool:
    """qshift's own devices serve here as well."""
    return case.batch is None and not case.assigned


def _constant(leaf):
    return replace(leaf, access="index")
