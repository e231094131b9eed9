"""`qshift.keras.QuantumLayer`: called, differentiated, and fitted for a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fuzz.case import nested, replaced
from fuzz.modes.base import Mode, leaves_that_matter, qnode, reference
from fuzz.source import Source

RATE = 0.0625  # exact in float32


class Layers(Mode):
    """A layer whose inputs are the argument that is batched, and whose weights are the others.

    Options: "do": "call", "gradient" (by inputs and weights), "input hessian" (a loss with second
    derivatives by inputs), "fit" or "predict"; "rows": whether the quantum function takes a batch.
    """

    name = "layer"
    features = frozenset(
        "batch access extreme custom templates wrappers measured shared float32 prepared".split()
    )
    weight = 0.8

    def draw(self, rng, case):
        if case.batch is None or sum(leaf.batched for leaf in case.leaves) > 1:
            return None
        weights = [leaf for leaf in case.leaves if not leaf.batched]
        if case.leaves[0].name not in leaves_that_matter(case) or case.call != "flat":
            return None
        if not all(leaf.name in leaves_that_matter(case) for leaf in weights):
            return None
        do = str(
            rng.choice(["call", "gradient", "gradient", "input hessian", "fit", "fit", "predict"])
        )
        return {"do": do, "rows": bool(rng.random() < 0.4)}

    def source(self, case):
        case = _renamed(case)
        rows, do = case.how["rows"], case.how["do"]
        source = Source(case, rows=rows)
        weights = [leaf for leaf in case.leaves if not leaf.batched]
        shapes = {leaf.name: leaf.array.shape for leaf in weights}
        arrays = [f"np.array({leaf.array.tolist()!r})" for leaf in weights]
        dtype = case.dtype
        code = [
            source.definitions() + "import keras\n",
            source.quantum_function(decorator=qnode(case)),
            f"\nINPUTS = np.array({case.leaves[0].array.tolist()!r}, np.{dtype})",
            f"WEIGHTS = [{', '.join(arrays)}]",
            f"TARGETS = np.array({_targets(case).tolist()!r}, np.{dtype})\n",
            "\ndef run():",
            "    keras.utils.set_random_seed(0)",
            f"    layer = qshift.keras.QuantumLayer(circuit, {shapes!r}, dtype={dtype!r})",
            f"    samples = keras.Input({case.leaves[0].array.shape[1:]}, dtype={dtype!r})",
            "    model = keras.Sequential([samples, layer])",
            "    layer.set_weights(WEIGHTS)",
            *(f"    {line}" for line in _DO[do]),
        ]
        return "\n".join(code) + "\n"

    def expected(self, case):
        case, do = _renamed(case), case.how["do"]
        names = [leaf.name for leaf in case.leaves]
        order = {"call": 0, "predict": 0, "gradient": 1, "fit": 1, "input hessian": 3}[do]
        y, variables = reference(case, names if order else [], order)
        y = _as_the_layer_returns(case, y)
        if do in ("call", "predict"):
            return [y.value]
        difference = y - _targets(case)
        loss = (difference * difference).sum() * (1 / y.value.size)
        if do == "input hessian":
            twice = variables.derivative(variables.derivative(y.sum(), "inputs").sum(), "inputs")
            loss = (twice * twice).sum()
        gradients = {name: variables.derivative(loss, name).value for name in names}
        if do == "fit":
            return [case.leaf(n).array - RATE * gradients[n] for n in names[1:]]
        if do == "input hessian":
            return [gradients[name] for name in names[1:]]
        return [loss.value, *(gradients[name] for name in names)]

    def suits(self, case):
        return self.draw(np.random.default_rng(0), case) is not None

    def simpler(self, how):
        simple = {
            "fit": "gradient",
            "input hessian": "gradient",
            "gradient": "call",
            "predict": "call",
        }
        if how["do"] in simple:
            yield {**how, "do": simple[how["do"]]}
        if how["rows"]:
            yield {**how, "rows": False}


_LOSS = "tf.reduce_mean(tf.square(model(inputs) - TARGETS))"
_DO = {
    "call": ['return [("call", model(INPUTS))]'],
    "predict": ['return [("predict", model.predict(INPUTS, verbose=0))]'],
    "gradient": [
        "inputs, weights = tf.constant(INPUTS), layer.trainable_variables",
        "with tf.GradientTape() as tape:",
        "    tape.watch(inputs)",
        f"    loss = {_LOSS}",
        "by_inputs, *by_weights = tape.gradient(loss, [inputs, *weights])",
        "named = zip([w.name for w in weights], by_weights)",
        'return [("loss", loss), ("by inputs", by_inputs), *named]',
    ],
    "input hessian": [
        "inputs, weights = tf.constant(INPUTS), layer.trainable_variables",
        "with tf.GradientTape() as outer:",
        "    with tf.GradientTape() as second:",
        "        second.watch(inputs)",
        "        with tf.GradientTape() as first:",
        "            first.watch(inputs)",
        "            total = tf.reduce_sum(model(inputs))",
        "        slopes = tf.reduce_sum(first.gradient(total, inputs))",
        "    loss = tf.reduce_sum(tf.square(second.gradient(slopes, inputs)))",
        "return list(zip([w.name for w in weights], outer.gradient(loss, weights)))",
    ],
    "fit": [
        f'model.compile(keras.optimizers.SGD({RATE}), "mse")',
        "model.fit(INPUTS, TARGETS, batch_size=len(INPUTS), epochs=1, shuffle=False, verbose=0)",
        "return [(w.name, w) for w in layer.weights]",
    ],
}


def _renamed(case):
    """Calls the argument that is batched `inputs`, and has it as Keras hands it to the layer."""
    leaf = case.leaves[0]
    array = leaf.array
    if case.how["do"] in ("fit", "predict"):  # Keras makes single precision of arrays
        array = array.astype(np.float32).astype(array.dtype)
    leaves = (replace(leaf, name="inputs", values=nested(array)), *case.leaves[1:])
    return replace(replaced(case, ("leaf", leaf.name), ("leaf", "inputs")), leaves=leaves)


def _as_the_layer_returns(case, y):
    """One expectation value per sample is a vector, everything else a matrix."""
    if len(case.measurements) == 1 and case.measurements[0].kind != "probs":
        return y.reshape(case.batch)
    return y


def _targets(case) -> np.ndarray:
    y, _ = reference(case, [], 0)
    size = int(np.prod(y.shape))
    return (np.arange(size) % 3 * 0.5 - 0.5).reshape(_as_the_layer_returns(case, y).shape)
