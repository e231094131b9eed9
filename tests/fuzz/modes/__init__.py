"""How a case is called and differentiated. Each mode is a `Mode`, see `base`."""

from fuzz.modes import derivatives, layers, pennylane, refusals, shots, tapes, threads  # noqa: F401
from fuzz.modes.base import MODES, Mode

__all__ = ["MODES", "Mode"]
