"""Random measurements."""

from __future__ import annotations

import numpy as np

from fuzz.case import Measurement, nested
from fuzz.draw_gates import Gates


class Measurements:
    """Draws measurements.

    Args:
        gates: What draws wires, words and numbers.
        outcomes: How many measurements in mid-circuit there are.
    """

    def __init__(self, gates: Gates, outcomes: int):
        self.gates, self.rng, self.outcomes = gates, gates.rng, outcomes

    def measurement(self, kinds) -> Measurement:
        """Draws a measurement.

        Args:
            kinds: Which there may be: "expval", "var", "probs".
        """
        kind = str(self.rng.choice(kinds))
        if self.outcomes and self.rng.random() < 0.35:
            chosen = self.rng.permutation(self.outcomes)[: self.rng.integers(1, 3)]
            weights = [
                self.gates.pick([1.0, 2.0, -1.0]) if kind != "probs" else 1.0 for _ in chosen
            ]
            pairs = tuple(zip(weights, map(int, chosen), strict=True))
            return Measurement(kind, ("outcomes", pairs))
        if kind != "probs":
            return Measurement(kind, self.observable())
        if self.rng.random() < 0.6:
            some = self.gates.some_wires(int(self.rng.integers(1, min(2, self.gates.n) + 1)))
            return Measurement(kind, None, some)
        return Measurement(kind, self._word() if self.rng.random() < 0.7 else self._hermitian())

    def _word(self, most=3):
        number = int(self.rng.integers(1, min(most, self.gates.n) + 1))
        wires = self.gates.some_wires(number)
        return ("word", self.gates.word(number), wires)

    def _hermitian(self, wires=None):
        if wires is None:
            wires = self.gates.some_wires(int(self.rng.integers(1, min(2, self.gates.n) + 1)))
        size = 2 ** len(wires)
        matrix = self.rng.normal(size=(size, size)) + 1j * self.rng.normal(size=(size, size))
        return ("hermitian", nested(np.round(matrix + matrix.conj().T, 2)), wires)

    def _projector(self, wires=None):
        if wires is None:
            wires = self.gates.some_wires(int(self.rng.integers(1, min(2, self.gates.n) + 1)))
        return (
            "projector",
            tuple(int(bit) for bit in self.rng.integers(2, size=len(wires))),
            wires,
        )

    def observable(self):
        """Draws an observable."""
        kind = self.rng.random()
        if kind < 0.35:
            return self._word()
        if kind < 0.45:
            return self._hermitian()
        if kind < 0.53:
            return self._projector()
        if kind < 0.61:
            return (
                "scaled",
                self.coefficient(),
                self.gates.pick([self._word(), self._hermitian()]),
            )
        if kind < 0.68 and self.gates.n > 1:
            return self._product()
        return self._sum()

    def _product(self):
        a, b = self.gates.some_wires(2)
        parts = [
            self.gates.pick(
                [
                    ("word", self.gates.word(1), (wire,)),
                    self._hermitian((wire,)),
                    self._projector((wire,)),
                ]
            )
            for wire in (a, b)
        ]
        return ("product", tuple(parts))

    def _sum(self):
        form = self.gates.pick(["sum", "arithmetic", "dot", "Hamiltonian", "Hamiltonian"])
        parts = [self._word() for _ in range(int(self.rng.integers(2, 4)))]
        if self.rng.random() < 0.3:
            some = range(len(parts)) if self.rng.random() < 0.3 else [-1]
            for k in some:
                parts[k] = self.gates.pick([self._hermitian(), self._projector()])
        if self.rng.random() < 0.3:
            parts.append(("word", "I", (0,)))
        terms = [(self.coefficient(), part) for part in parts]
        return ("sum", tuple(terms), form)

    def coefficient(self):
        """Draws a number, or an angle: the same tensors serve as coefficients."""
        if "coefficients" in self.gates.features and self.rng.random() < 0.3:
            return self.gates.angles.entry(batched=False)
        return ("number", self.gates.pick([1.0, 0.5, -0.3, 1.7]))
