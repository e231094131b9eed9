"""Gates that users wrote themselves: their code, and what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fuzz.gates import Factor
from fuzz.matrices import X, Y, Z, diagonal


class Own(NamedTuple):
    """A gate of a user's own.

    Attributes:
        code: Its class.
        wires: How many wires it takes.
        call: How it is written, from its name, its angle and its wires.
        factors: Its (x, G), first one first.
    """

    code: str
    wires: int
    call: str
    factors: Callable


_HEAD = """
class {name}(qml.operation.Operation):
    num_params, num_wires, ndim_params = 1, {wires}, (0,)
"""

OWN: dict[str, Own] = {
    # Its frequencies and its matrix.
    "Turn": Own(
        _HEAD.format(name="Turn", wires=1)
        + """    parameter_frequencies = [(1.0,)]

    @staticmethod
    def compute_matrix(x):
        return qml.RX.compute_matrix(x)
""",
        1,
        "Turn({x}, wires={wires})",
        lambda x: [(x, X / 2)],
    ),
    # Frequencies that are not equidistant.
    "Phases": Own(
        _HEAD.format(name="Phases", wires=2)
        + """    parameter_frequencies = [(0.5, 1.0, 1.5, 2.0)]

    @staticmethod
    def compute_matrix(x):
        phases = qml.math.exp(-1j * qml.math.outer(x, np.array([0.0, 0.5, 1.5, 2.0])))
        return (phases[:, :, None] * np.eye(4)).reshape(*np.shape(x), 4, 4)
""",
        2,
        "Phases({x}, wires={wires})",
        lambda x: [(x, diagonal(0.0, 0.5, 1.5, 2.0))],
    ),
    # A generator, and what it decomposes into.
    "Generated": Own(
        _HEAD.format(name="Generated", wires=1)
        + """
    def generator(self):
        return qml.Hamiltonian([-0.7], [qml.Y(self.wires[0])])

    @staticmethod
    def compute_decomposition(x, wires):
        return [qml.RY(1.4 * x, wires=wires)]
""",
        1,
        "Generated({x}, wires={wires})",
        lambda x: [(x, 0.7 * Y)],
    ),
    # Something that is neither a parameter nor a hyperparameter.
    "Scaled": Own(
        _HEAD.format(name="Scaled", wires=1)
        + """
    def __init__(self, x, scale, wires):
        self.scale = scale
        super().__init__(x, wires=wires)

    def decomposition(self):
        return [qml.RY(self.scale * self.data[0], wires=self.wires)]
""",
        1,
        "Scaled({x}, 1.3, wires={wires})",
        lambda x: [(x, 0.65 * Y)],
    ),
    # Hyperparameters that cannot be hashed.
    "Listed": Own(
        _HEAD.format(name="Listed", wires=1)
        + """
    def __init__(self, x, wires, steps=None):
        self._hyperparameters = {"steps": [0.5, 2.0], "table": {"axis": np.array([1.0])}}
        super().__init__(x, wires=wires)

    @staticmethod
    def compute_decomposition(x, wires, steps, table):
        return [qml.RZ(steps[0] * x, wires=wires), qml.RX(steps[1] * x, wires=wires)]
""",
        1,
        "Listed({x}, wires={wires})",
        lambda x: [(x, 0.25 * Z), (x, X)],
    ),
}


def factors(name: str, angles, wires) -> list[Factor]:
    """Returns the factors of one of these gates."""
    return [Factor(tuple(wires), None, ((x, np.array(g)),)) for x, g in OWN[name].factors(*angles)]
