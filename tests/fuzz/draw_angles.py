"""Random arguments, and random expressions of them."""

from __future__ import annotations

import math

import numpy as np

from fuzz.case import Leaf, parts

SPECIAL = [0.0, math.pi / 2, -math.pi / 2, math.pi, -math.pi, 2 * math.pi]
TINY_AND_LARGE = [1e-9, -1e-9, 1e6, -1e6]
HUGE = [1e13, 123456789012345.0, -1e15]
CUSTOM = ("reverse", "halve", "keep", "straight", "odd", "partly", "again")


class Angles:
    """Draws arguments when they are first needed, and expressions of them.

    Args:
        rng: A NumPy generator.
        features: What may occur; see `draw.FEATURES`.
        scalars: How many entries there are, about.
    """

    def __init__(self, rng, features, scalars: int = 4):
        self.rng, self.features = rng, features
        self.leaves: list[Leaf] = []
        self._batch = int(rng.integers(1, 4)) if "batch" in features else None
        self._large = "large" in features or "huge" in features
        self._huge = "huge" in features
        self._draw_leaves(scalars)

    def _draw_leaves(self, scalars):
        names = iter("xyzuv")
        if self._batch:
            shape = (self._batch, int(self.rng.integers(1, 3)))
            self._add(next(names), shape, batched=True)
        while self.entries < scalars or len(self.leaves) < (2 if self._batch else 1):
            shapes = [(), (1,), (2,), (2,), (3,), (2, 2)]
            self._add(next(names), shapes[self.rng.integers(len(shapes))])

    @property
    def entries(self) -> int:
        return sum(leaf.array.size for leaf in self.leaves)

    def _add(self, name, shape, batched=False):
        kinds = ["tensor", "variable"]
        kinds += ["captured"] if "captured" in self.features and not batched else []
        kinds += ["array"] if "constants" in self.features and self.leaves else []
        kind = str(self.rng.choice(kinds, p=_weights({"array": 0.15, "captured": 0.2}, kinds)))
        access = "index"
        if "access" in self.features and len(shape) and not batched and self.rng.random() < 0.3:
            choices = "unpack iterate enumerate zip computed".split()
            # TensorFlow's variables have no length.
            choices += ["len", "reversed"] * (kind == "tensor") + ["transposed"] * (len(shape) == 1)
            access = str(self.rng.choice(choices))
        self.leaves.append(Leaf(name, self._values(shape), kind, batched, access))

    def _values(self, shape):
        flat = [self.number() for _ in range(int(np.prod(shape, dtype=int)))]
        return np.array(flat).reshape(shape).tolist()

    def number(self) -> float:
        """Draws a number: usual, special, tiny or large."""
        kind = self.rng.random()
        if self._huge and kind < 0.5:
            return float(self.rng.choice(HUGE))
        if kind < 0.55:
            return round(float(self.rng.uniform(-math.pi, math.pi)), 3)
        if kind < 0.95 or "extreme" not in self.features:
            return float(self.rng.choice(SPECIAL))
        return float(self.rng.choice(TINY_AND_LARGE[: 4 if self._large else 2]))

    # --- expressions ---

    def _moving(self, batched: bool):
        return [leaf for leaf in self.leaves if batched or not leaf.batched]

    def entry(self, batched: bool = True):
        """Draws an entry of an argument."""
        leaves = self._moving(batched)
        leaf = leaves[self.rng.integers(len(leaves))]
        shape = leaf.array.shape[1:] if leaf.batched else leaf.array.shape
        of = ("leaf", leaf.name)
        return ("index", of, tuple(int(self.rng.integers(n)) for n in shape)) if shape else of

    def angle(self, batched: bool = True):
        """Draws an angle."""
        kind = self.rng.random()
        if kind < 0.45 or self._huge:
            return self.entry(batched)
        if kind < 0.57:
            return self._constant()
        if kind < 0.72:
            return ("mul", ("number", self._factor()), self.entry(batched))
        if kind < 0.78:
            return ("add", self.entry(batched), ("number", self.number_between()))
        if self._large:
            return self.entry(batched)
        return self._function(batched)

    def number_between(self) -> float:
        return round(float(self.rng.uniform(-2, 2)), 2)

    def _factor(self) -> float:
        return float(self.rng.choice([-1.0, 0.5, 2.0, 3.0, -0.25, math.sqrt(2), 1e-3, 12.0]))

    def _constant(self):
        forms = ["python", "numpy", "tensor"]
        form = str(self.rng.choice(forms))
        number = self.number()
        return ("number", number) if form == "python" else ("constant", number, form)

    def _function(self, batched):
        one = self.entry(batched)
        choices = ["sin", "cos", "tanh", "square", "exp", "length", "add", "sub", "mul", "div"]
        if "custom" in self.features:
            choices += ["custom"] * 5 + ["stopped"]
        if "inner" in self.features:
            choices += ["inner"]
        if any(len(leaf.array.shape) == 2 and not leaf.batched for leaf in self.leaves):
            choices += ["matvec"]
        name = str(self.rng.choice(choices))
        if name == "custom":
            return ("custom", str(self.rng.choice(CUSTOM)), self._computed(one))
        if name == "stopped":
            return ("add", one, ("stop", self.entry(batched)))
        if name == "inner":
            return ("inner", self.entry(batched=False))
        if name == "matvec":
            return self._product_of_matrix()
        if name == "div":
            return ("div", one, ("length", self.entry(batched)))
        if name in ("add", "sub", "mul"):
            return (name, one, self.entry(batched))
        return (name, one)

    def _computed(self, entry):
        """Variables are no tensors, which TensorFlow's custom gradients want."""
        return ("mul", ("number", 1.0), entry) if entry[0] == "leaf" else entry

    def _product_of_matrix(self):
        matrices = [x for x in self.leaves if len(x.array.shape) == 2 and not x.batched]
        matrix = matrices[self.rng.integers(len(matrices))]
        size = matrix.array.shape[1]
        vector = ("stack", tuple(self.entry(False) for _ in range(size)), (size,))
        of = ("leaf", matrix.name)
        if self.rng.random() < 0.5:
            of = ("transpose", of)
            vector = ("stack", vector[1][:1] * len(matrix.values), (len(matrix.values),))
        return ("index", ("matvec", of, vector), (0,))

    def tensor(self, shape):
        """Draws a tensor of angles: a whole argument where one fits, or angles put together."""
        fitting = [x for x in self._moving(False) if x.array.shape == tuple(shape)]
        if fitting and self.rng.random() < 0.6:
            whole = ("leaf", fitting[self.rng.integers(len(fitting))].name)
            return whole if self.rng.random() < 0.5 else ("mul", ("number", 0.5), whole)
        size = int(np.prod(shape, dtype=int))
        angles = [self.angle(batched=False) for _ in range(size)]
        angles = [("number", a[1]) if a[0] == "constant" else a for a in angles]
        tensors = {leaf.name for leaf in self.leaves if leaf.is_tensor}
        if not any(part[0] == "leaf" and part[1] in tensors for a in angles for part in parts(a)):
            # TensorFlow takes numbers alone, and NumPy's among them, for float32.
            angles[0] = ("constant", self.number(), "tensor")
        return ("stack", tuple(angles), tuple(shape))


def _weights(given, names):
    rest = (1 - sum(given.get(name, 0) for name in names)) / sum(n not in given for n in names)
    return [given.get(name, rest) for name in names]
