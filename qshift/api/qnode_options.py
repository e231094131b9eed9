"""The keywords of a qnode: which values they may have, and errors that say why not others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pennylane as qml

from qshift.errors import UnsupportedError
from qshift.inputs import is_integer
from qshift.rules.planner import OBJECTIVES
from qshift.rules.seconds import Seconds

_INTERFACES = ("auto", "tf", "tensorflow", "tf-autograph", "tensorflow-autograph")
_DIFF_METHODS = ("best", "shift", "parameter-shift", "adjoint")
# PennyLane's methods that users give for exact derivatives, whichever way these are computed.
_AS_BEST = ("backprop", "hadamard", qml.gradients.hadamard_grad)
_NOT_EXACT = {
    "finite-diff": "finite differences are not exact",
    qml.gradients.finite_diff: "finite differences are not exact",
    "spsa": "it is a random estimate",
    qml.gradients.spsa_grad: "it is a random estimate",
    "device": "what devices differentiate themselves is what 'adjoint' asks for",
    "reversible": "PennyLane has replaced it by 'adjoint'",
    None: "derivatives cost nothing until they are asked for",
}
_ALLOWED = {
    "device_vjp": ((None, False, True), "derivatives are exact either way"),
    "postselect_mode": ((None,), "postselected expectation values obey no shift rule"),
    "mcm_method": ((None, "deferred"), "mid-circuit measurements are deferred, which is exact"),
    "executor_backend": ((None,), "circuits go to the device as one batch"),
}


def interface(given: str | qml.math.Interface) -> str:
    """Returns the name of an interface, which is TensorFlow's or ``"auto"``.

    Raises:
        UnsupportedError: For the interface of another library.
    """
    name = given.value if isinstance(given, qml.math.Interface) else given
    if name not in _INTERFACES:
        raise UnsupportedError(
            f"interface={name!r}: a qshift qnode is a TensorFlow op; "
            'use "auto", "tf" or "tensorflow", or qml.qnode for other interfaces.'
        )
    return name


def diff_method(given: str | Callable) -> str:
    """Returns the name of a differentiation method, which is one of PennyLane's too.

    ``"backprop"`` and ``"hadamard"`` are taken as ``"best"``, which gives the same derivatives.

    Raises:
        UnsupportedError: If the method is neither one of these nor one of qshift's.
    """
    if getattr(given, "is_qshifts", False) or given is qml.gradients.param_shift:
        return "shift"
    if any(given is each or given == each for each in _AS_BEST):
        return "best"
    if given not in _DIFF_METHODS:
        reasons = (reason for each, reason in _NOT_EXACT.items() if given is each or given == each)
        reason = next((f" ({reason})" for reason in reasons), "")
        raise UnsupportedError(
            f"diff_method={given!r}{reason}: qshift differentiates exactly, by shifted circuits or "
            f"by adjoint differentiation. Use {_DIFF_METHODS[0]!r}, which chooses, or one of "
            f"{', '.join(map(repr, _DIFF_METHODS[1:]))}."
        )
    return "parameter-shift" if given == "shift" else given


def check(
    embedded: bool,
    objective: str | Seconds | None,
    prefetch: int | Sequence[tuple[int, ...]],
    seed: Any,
    others: dict[str, Any],
) -> None:
    """Checks the keywords whose values are not converted.

    Args:
        embedded: See `QNode`.
        objective: See `QNode`.
        prefetch: See `QNode`.
        seed: See `QNode`.
        others: The other keywords, those of `qml.qnode`.

    Raises:
        UnsupportedError: For a value that qshift has no meaning for.
        ValueError: For an objective, order or seed that does not exist.
    """
    if not isinstance(embedded, bool):
        raise ValueError(
            "embedded must be True, which runs circuits of default.qubit and lightning.qubit on "
            f"the embedded simulator, or False, which runs them on the device, got {embedded!r}."
        )
    words = *OBJECTIVES, "seconds"
    if not isinstance(objective, Seconds | None) and objective not in words:
        raise ValueError(
            f"objective must be None, one of {words} or qshift.Seconds(...), got {objective!r}."
        )
    for number in seed if isinstance(seed, list | tuple) and seed else [seed]:
        if number is not None and (not is_integer(number) or number < 0):
            raise ValueError(
                f"seed must be None, a non-negative integer or a sequence of these, got {seed!r}."
            )
    order: Any = prefetch
    is_order = is_integer(order)
    if isinstance(order, int | float | str) and not is_order or is_order and order < 0:
        raise ValueError(
            "prefetch must be an order, 0, 1, 2, ..., or a list of partial derivatives such as "
            f"[(0, 0), (0, 0, 1)], got {prefetch!r}."
        )
    for name, (allowed, reason) in _ALLOWED.items():
        if others.get(name, allowed[0]) not in allowed:
            raise UnsupportedError(
                f"{name}={others[name]!r} has no meaning here: {reason}. "
                f"Use {' or '.join(map(repr, allowed))}."
            )
    cache = others.get("cache", "auto")
    if cache not in (True, False, "auto", None):
        raise UnsupportedError(
            f"cache={type(cache).__name__}: a call owns the table of circuits it has run, and none "
            'outlives it, so there is nothing to keep in a cache. Use cache="auto".'
        )
    if others.get("gradient_kwargs"):
        raise UnsupportedError(
            f"gradient_kwargs={others['gradient_kwargs']!r}: shifts follow from each gate's "
            "frequencies and from objective=. For shifts of your own see qshift.shift_rule and "
            "qshift.shift_gradient."
        )
