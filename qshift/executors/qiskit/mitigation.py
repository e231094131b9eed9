"""Mitigation of errors that is done here, in the options of IBM's primitives.

The same options have the same effect on Aer, on fake backends and in programs of IBM's Executor:
random variants of a circuit (twirling), and readout errors that are divided out (TREX). What else
the options may ask for is done by IBM's own primitives only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qshift.errors import OptionError

_TABLES = ("resilience", "twirling", "dynamical_decoupling")
# Random variants of a circuit, if the user does not say how many. Flips are spread evenly, so that
# few of them do; Pauli gates are not.
_FLIPS, _PAULIS = 16, 32
_LEAST = 32  # shots of each
_CALIBRATION = 1024  # about the fewest executions that factors are estimated from


@dataclass(frozen=True)
class Mitigation:
    """What is mitigated, and how.

    Attributes:
        readout: Whether readout errors of expectation values are divided out.
        is_named: Whether the user has asked for that by its own name, not by a level.
        gates: The primitives, ``"estimator"`` or ``"sampler"``, whose gates are twirled.
        measurements: Those whose measurements are twirled.
        number: How many random variants of a circuit there are, or ``"auto"``.
        size: The shots of each, or ``"auto"``.
        calibration: The same two for the circuit by which the readout is calibrated.
    """

    readout: bool = False
    is_named: bool = False
    gates: frozenset[str] = frozenset()
    measurements: frozenset[str] = frozenset()
    number: int | str = "auto"
    size: int | str = "auto"
    calibration: tuple[int | str, int | str] = ("auto", "auto")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Mitigation:
        """Returns what an Estimator's options, in nested tables, ask for.

        Raises:
            OptionError: For options that exclude each other.
        """
        chosen, twirling = options.get("resilience", {}), options.get("twirling", {})
        level, named = level_of(options), chosen.get("measure_mitigation")
        readout = level >= 1 if named is None else bool(named)
        twirls, learning = twirling.get("enable_measure"), chosen.get("measure_noise_learning", {})
        if readout and twirls is False:
            raise OptionError(
                "twirling.enable_measure",
                "measurements have to be twirled where readout errors are mitigated. Leave it out, "
                'or give resilience={"measure_mitigation": False}.',
            )
        gates, measurements = set(), set()
        if twirling.get("enable_gates"):
            gates |= {"estimator", "sampler"}
        elif level >= 2 and twirling.get("enable_gates") is None:
            gates.add("estimator")
        if twirls:
            measurements |= {"estimator", "sampler"}
        elif readout or level >= 1 and twirls is None:
            measurements.add("estimator")
        sizes = {
            name: twirling.get(name, "auto")
            for name in ("num_randomizations", "shots_per_randomization")
        }
        given = [name for name, size in sizes.items() if size != "auto"]
        if len(given) == 2:
            reason = "shots= says how many there are in all: give this or num_randomizations"
            raise OptionError(f"twirling.{given[1]}", reason)
        calibration = (
            learning.get("num_randomizations", "auto"),
            learning.get("shots_per_randomization", "auto"),
        )
        return cls(
            readout,
            bool(named),
            frozenset(gates),
            frozenset(measurements),
            sizes["num_randomizations"],
            sizes["shots_per_randomization"],
            calibration,
        )

    def __bool__(self) -> bool:
        """Whether anything is mitigated or twirled."""
        return bool(self.gates or self.measurements)

    def variants(self, primitive: str, shots: int) -> tuple[int, int]:
        """Returns how many random variants of a circuit run, and the shots of each.

        The shots of all together are at least those that are asked for. Variants come in pairs with
        opposite flips, unless the user says how many.

        Args:
            primitive: ``"estimator"`` or ``"sampler"``.
            shots: The shots in each basis.
        """
        if not shots or primitive not in self.gates | self.measurements:
            return 1, shots
        if self.size != "auto":
            return math.ceil(shots / int(self.size)), int(self.size)
        if self.number != "auto":
            number = min(shots, int(self.number))
        else:
            most = _PAULIS if primitive in self.gates else _FLIPS
            number = min(most, 2 * math.ceil(shots / (2 * _LEAST)))
        return number, math.ceil(shots / number)

    def calibrating(self, shots: int) -> tuple[int, int]:
        """Returns how many random variants of the calibration run, and the shots of each; (0, 0)
        without one.

        Args:
            shots: The most shots that a basis of the job has.
        """
        if not (self.readout and shots):
            return 0, 0
        number, size = self.variants("estimator", shots)
        if self.calibration[0] != "auto":
            number = int(self.calibration[0])
        # In a program, all numbers of shots are multiples of one.
        if self.calibration[1] != "auto":
            return number, math.ceil(int(self.calibration[1]) / size) * size
        return number, max(1, round(_CALIBRATION / (number * size))) * size


NONE = Mitigation()


def level_of(options: Mapping[str, Any]) -> int:
    """Returns the level that holds: 0 without any option, else IBM's default of 1."""
    level = options.get("resilience_level")
    if level is None:
        return int(any(options.get(table) for table in _TABLES))
    return int(level)


def require_effects(options: Mapping[str, Any]) -> None:
    """Raises OptionError for an option that only says how something is done which nothing asks for.

    Args:
        options: An Estimator's options, in nested tables.
    """
    chosen, twirling = options.get("resilience", {}), options.get("twirling", {})
    decoupling, level = options.get("dynamical_decoupling", {}), level_of(options)
    pec, zne = chosen.get("pec_mitigation"), chosen.get("zne_mitigation")
    extrapolates = not pec and (level >= 2 if zne is None else zne)
    amplifies = extrapolates and chosen.get("zne", {}).get("amplifier") == "pea"
    named = chosen.get("measure_mitigation")
    readout = level >= 1 if named is None else named
    gates, measured = twirling.get("enable_gates"), twirling.get("enable_measure")
    gates = pec or amplifies or (level >= 2 if gates is None else gates)
    measured = readout or (level >= 1 if measured is None else measured)
    learnt = 'no noise of layers is needed: give pec_mitigation, or zne the amplifier "pea"'
    layers = pec or amplifies, learnt
    reasons = {
        ("resilience", "zne"): (
            extrapolates,
            "nothing is extrapolated: give zne_mitigation or resilience_level=2, without "
            "pec_mitigation",
        ),
        ("resilience", "pec"): (pec, "no noise is cancelled: give pec_mitigation"),
        ("resilience", "layer_noise_learning"): layers,
        ("resilience", "layer_noise_model"): layers,
        ("resilience", "measure_noise_learning"): (
            readout,
            "no readout errors are mitigated: give measure_mitigation or resilience_level",
        ),
        ("twirling", "strategy"): (gates, "no gates are twirled: give enable_gates"),
    }
    twirled = gates or measured, "there is nothing to twirl: give enable_gates or enable_measure"
    for name in ("num_randomizations", "shots_per_randomization"):
        reasons["twirling", name] = twirled
    enabled = decoupling.get("enable"), "it is not enabled: give enable"
    reasons |= {("dynamical_decoupling", name): enabled for name in decoupling if name != "enable"}
    for (table, name), (is_used, reason) in reasons.items():
        value = options.get(table, {}).get(name)
        if not is_used and value != "auto" and _asks(value):
            raise OptionError(f"{table}.{name}", f"no effect, as {reason}. Or leave it out.")


def elsewhere(options: Mapping[str, Any]) -> list[str]:
    """Returns the names of options that ask for what IBM's own primitives alone do: among others
    ``resilience_level``, whose level 2 extrapolates to zero noise."""
    chosen, twirling = options.get("resilience", {}), options.get("twirling", {})
    found = {
        "resilience_level": level_of(options) >= 2 and chosen.get("zne_mitigation") is None,
        "dynamical_decoupling": _asks(options.get("dynamical_decoupling", {})),
        "twirling.group": twirling.get("group") not in (None, "pauli"),
        "twirling.strategy": twirling.get("strategy") not in (None, "active"),
    }
    for name, value in chosen.items():
        if name not in ("measure_mitigation", "measure_noise_learning"):
            found[f"resilience.{name}"] = _asks(value)
    return [name for name, is_asked in found.items() if is_asked]


def _asks(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_asks, value.values()))
    return value is not None and value is not False
