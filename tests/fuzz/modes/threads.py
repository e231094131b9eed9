"""Several threads, and pipelines of tf.data, which have threads of their own."""

from __future__ import annotations

import numpy as np

from fuzz.modes.base import Mode, leaves_that_matter, preamble, reference

SECONDS = 20  # until threads that have not returned hang

_THREADS = """
def step(point):
    with tf.GradientTape() as tape:
        tape.watch(point)
        result = f({arguments})
    return result, tape.gradient(result, point)


def other(stop):
    qnode = {other}(lambda x: (qml.RY(x, 0), qml.QFT(wires=[0, 1]), qml.expval(qml.X(0)))[-1])
    while not stop.is_set():
        qnode(tf.constant(0.3, tf.float64))
        qml.matrix(qml.prod(qml.RX(0.1, 0), qml.CNOT([0, 1])), wire_order=[0, 1])


def work(k, found):
    try:
        point = tf.constant(POINTS[k], tf.{dtype})
        for _ in range(REPEAT):
            found[k] = step(point)
            for value, right in zip(found[k], RIGHT[k], strict=True):
                if value is None or not np.allclose(value, right, atol={tolerance}):
                    return
    except Exception as error:
        found[k] = error


def run():
    found, stop = {{}}, threading.Event()
    background = threading.Thread(target=other, args=(stop,), daemon=True)
    threads = [
        threading.Thread(target=work, args=(k, found), daemon=True) for k in range(len(POINTS))
    ]
    background.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join({seconds})
    stop.set()
    background.join({seconds})
    if any(thread.is_alive() for thread in [*threads, background]):
        raise TimeoutError("HANG: threads do not return")
    for result in found.values():
        if isinstance(result, Exception):
            raise result
    labels = ["values", "gradient"]
    return [pair for k in range(len(POINTS)) for pair in zip(labels, found[k], strict=True)]
"""

_PIPELINE = """
def run():
    points = tf.data.Dataset.from_tensor_slices(tf.constant(POINTS, tf.{dtype})).repeat(REPEAT)
    points = points.map(lambda point: (point, f({arguments})), num_parallel_calls=4).prefetch(8)
    found = []
    for point, mapped in points:
        found += [("mapped", mapped), ("eager", f({arguments}))]
    return found
"""


class Threads(Mode):
    """Options: "by", the argument whose values differ between threads, "points", "repeat"."""

    name = "threads"
    features = frozenset("constants templates wrappers measured scales coefficients shared".split())
    weight = 0.15

    def draw(self, rng, case):
        names = [name for name in leaves_that_matter(case) if case.leaf(name).kind == "tensor"]
        if not names or case.call != "flat":
            return None
        by = str(rng.choice(names))
        points = np.round(rng.uniform(-3, 3, (3, *case.leaf(by).array.shape)), 2).tolist()
        other = str(rng.choice(['qshift.qnode(qml.device("default.qubit"))', _PLAIN]))
        return {"by": by, "points": points, "repeat": 3, "other": other}

    def source(self, case):
        how = case.how
        arguments = ", ".join(
            "point" if leaf.name == how["by"] else leaf.name for leaf in case.leaves
        )
        constants = [
            "import threading\n",
            f"POINTS = {how['points']!r}",
            f"REPEAT = {how['repeat']}",
            f"RIGHT = {[[a.tolist() for a in pair] for pair in self._pairs(case)]!r}\n",
        ]
        code = self._code().format(
            arguments=arguments,
            other=how["other"],
            dtype=case.dtype,
            seconds=SECONDS,
            tolerance=1e-6,
        )
        return preamble(case) + "\n".join(constants) + code

    def _code(self):
        return _THREADS

    def _pairs(self, case):
        by, pairs = case.how["by"], []
        for point in case.how["points"]:
            y, variables = reference(case, [by], 1, {by: np.array(point)})
            pairs.append((y.value, variables.derivative(y.sum(), by).value))
        return pairs

    def expected(self, case):
        return [array for pair in self._pairs(case) for array in pair]

    def suits(self, case):
        return case.how["by"] in leaves_that_matter(case)

    def simpler(self, how):
        if len(how["points"]) > 1:
            yield {**how, "points": how["points"][:-1]}


_PLAIN = 'qml.qnode(qml.device("default.qubit"))'


class Pipeline(Threads):
    """The quantum function in `tf.data.Dataset.map`, and eagerly beside it."""

    name = "pipeline"
    weight = 0.15

    def _code(self):
        return _PIPELINE

    def expected(self, case):
        values = [y for y, _ in self._pairs(case) for _ in range(2)]
        return values * case.how["repeat"]
