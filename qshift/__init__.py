"""qshift: quantum circuits as TensorFlow ops with exact derivatives of every order.

The wings; each imports only those above it:

    errors, tracker, progress, ...      known to all
    rules       numbers only: shift rules, the fewest points, what a plan costs
    circuits    a PennyLane tape taken apart: parameters, spectra, what is read off
    ledger      what was sent to a service, and what came back
    executors   points in, values out, on any device
    autodiff    the TensorFlow op, recursive in the order
    api         what a user calls: the qnode and its derivatives
    keras, pennylane, optimize, cli     adapters, which nothing else imports
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# TensorFlow takes seconds to import, and `qshift --help` should not: names load on first use.
_HOME = {
    "QNode": "api.qnode",
    "qnode": "api.qnode",
    "from_qnode": "api.conversion",
    "derivatives": "api.derivatives",
    "estimate": "api.estimate",
    "shift_gradient": "api.periodic",
    "check_derivatives": "api.check",
    "device": "api.profiles",
    "shift_rule": "rules.shift_rule",
    "ShiftRule": "rules.shift_rule",
    "Seconds": "rules.seconds",
    "Shots": "rules.shots",
    "Tracker": "tracker",
    "param_shift": "pennylane.transforms",
    "param_shift_hessian": "pennylane.transforms",
    "minimize": "optimize.minimize",
    "QShiftError": "errors",
    "UnsupportedError": "errors",
    "NoShiftRuleError": "errors",
    "QShiftWarning": "errors",
    "SlowerWarning": "errors",
}

__all__ = list(_HOME)

# These import a framework that most programs do without.
_LAZY_MODULES = ("keras",)

if TYPE_CHECKING:
    from qshift import keras as keras
    from qshift.api.check import check_derivatives as check_derivatives
    from qshift.api.conversion import from_qnode as from_qnode
    from qshift.api.derivatives import derivatives as derivatives
    from qshift.api.estimate import estimate as estimate
    from qshift.api.periodic import shift_gradient as shift_gradient
    from qshift.api.profiles import device as device
    from qshift.api.qnode import QNode as QNode
    from qshift.api.qnode import qnode as qnode
    from qshift.errors import NoShiftRuleError as NoShiftRuleError
    from qshift.errors import QShiftError as QShiftError
    from qshift.errors import QShiftWarning as QShiftWarning
    from qshift.errors import SlowerWarning as SlowerWarning
    from qshift.errors import UnsupportedError as UnsupportedError
    from qshift.optimize.minimize import minimize as minimize
    from qshift.pennylane.transforms import param_shift as param_shift
    from qshift.pennylane.transforms import param_shift_hessian as param_shift_hessian
    from qshift.rules.seconds import Seconds as Seconds
    from qshift.rules.shift_rule import ShiftRule as ShiftRule
    from qshift.rules.shift_rule import shift_rule as shift_rule
    from qshift.rules.shots import Shots as Shots
    from qshift.tracker import Tracker as Tracker


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"qshift.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'qshift' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"qshift.{_HOME[name]}"), name)
    _tell_keras()
    return value


class _QuantumLayer:
    """Stands for `qshift.keras.QuantumLayer` where Keras loads a model before anybody else has
    imported the layer, which then takes its place."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return importlib.import_module("qshift.keras").QuantumLayer.from_config(config)


def _tell_keras() -> None:
    """Lets `keras.saving.load_model` find the layer, if Keras is imported."""
    if saving := getattr(sys.modules.get("keras"), "saving", None):
        saving.get_custom_objects().setdefault("qshift>QuantumLayer", _QuantumLayer)


_tell_keras()


def __dir__() -> Any:
    return sorted({*globals(), *_HOME, *_LAZY_MODULES})
