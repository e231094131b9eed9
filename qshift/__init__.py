"""qshift: quantum circuits as TensorFlow ops with exact derivatives of every order.

The way from a quantum function to a derivative, module by module:

    rule          frequencies of a gate parameter -> shift rule of any order
    fewest, plan  partial derivatives -> which shifted circuits to run, and how to combine them
    gates, measurements, deferral, circuit
                  PennyLane tape -> structure, parameters, spectra, fixed observables
    evaluation    one call's table of points
    op            the TensorFlow op, recursive in the order
    packing       between a user's tensors and the op's
    qnode         the decorator and the callable a user holds
    contraction, derivatives
                  value and all derivatives up to an order at once
    expansion, tapes, pennylane
                  the same rules as gradient transforms of PennyLane
    rehearsal, rows, reading, handing, keras
                  a Keras layer; loads when it is named
    executors     points in, values out, on any device
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# TensorFlow takes seconds to import, and `qshift --help` should not: names load on first use.
_HOME = {
    "QNode": "qnode",
    "qnode": "qnode",
    "from_qnode": "qnode",
    "derivatives": "derivatives",
    "shift_rule": "rule",
    "ShiftRule": "rule",
    "shift_gradient": "functions",
    "check_derivatives": "check",
    "Tracker": "tracker",
    "device": "profiles",
    "param_shift": "pennylane",
    "param_shift_hessian": "pennylane",
    "minimize": "optimize",
    "QShiftError": "errors",
    "UnsupportedError": "errors",
    "NoShiftRuleError": "errors",
    "SlowerWarning": "errors",
}

__all__ = list(_HOME)

# These import a framework that most programs do without.
_LAZY_MODULES = ("keras",)

if TYPE_CHECKING:
    from qshift import keras as keras
    from qshift.check import check_derivatives as check_derivatives
    from qshift.derivatives import derivatives as derivatives
    from qshift.errors import NoShiftRuleError as NoShiftRuleError
    from qshift.errors import QShiftError as QShiftError
    from qshift.errors import SlowerWarning as SlowerWarning
    from qshift.errors import UnsupportedError as UnsupportedError
    from qshift.functions import shift_gradient as shift_gradient
    from qshift.optimize import minimize as minimize
    from qshift.pennylane import param_shift as param_shift
    from qshift.pennylane import param_shift_hessian as param_shift_hessian
    from qshift.profiles import device as device
    from qshift.qnode import QNode as QNode
    from qshift.qnode import from_qnode as from_qnode
    from qshift.qnode import qnode as qnode
    from qshift.rule import ShiftRule as ShiftRule
    from qshift.rule import shift_rule as shift_rule
    from qshift.tracker import Tracker as Tracker


class _Package(types.ModuleType):
    """Loads public names on first use; `qshift.qnode` stays the decorator, not its module."""

    def __getattr__(self, name: str):
        if name in _LAZY_MODULES:
            return importlib.import_module(f"qshift.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'qshift' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"qshift.{_HOME[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value):
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self):
        return sorted({*vars(self), *_HOME, *_LAZY_MODULES})


sys.modules[__name__].__class__ = _Package
