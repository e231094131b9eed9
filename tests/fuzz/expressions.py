"""Angles as functions of the arguments: as Python code, and as jets.

An expression is a tuple of a name and what it is applied to:

    ("leaf", "x")                an argument
    ("old", "x")                 a variable's value before it was assigned to
    ("number", 0.3)              a number in the code
    ("constant", 0.3, "tensor")  a constant as a NumPy array or a tensor
    ("index", e, (0, 1))         an entry
    ("stack", (e, f), (2,))      several, in some shape
    ("custom", "reverse", e)     a function with a derivative of its own
    ("inner", e)                 the value of another qnode at an angle
    ("sin", e), ("add", e, f), ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fuzz.jets import Jet, stack

# What each is called in TensorFlow, and as a function of jets.
FUNCTIONS: dict[str, tuple[str, Callable]] = {
    "neg": ("-{}", lambda a: -a),
    "add": ("({} + {})", lambda a, b: a + b),
    "sub": ("({} - {})", lambda a, b: a - b),
    "mul": ("{} * {}", lambda a, b: a * b),
    "div": ("({} / ({}))", lambda a, b: a / b),
    "sin": ("{m}.sin({})", Jet.sin),
    "cos": ("{m}.cos({})", Jet.cos),
    "exp": ("{m}.exp({})", Jet.exp),
    "tanh": ("{m}.tanh({})", Jet.tanh),
    "square": ("{m}.square({})", Jet.square),
    "length": ("{m}.sqrt(1.0 + {m}.square({}))", lambda a: (a * a + 1.0).sqrt()),
    "sum": ("{m}.{sum}({})", Jet.sum),
    "matvec": ("{matvec}({}, {})", Jet.__matmul__),
    "transpose": ("{m}.transpose({})", Jet.transpose),
    "identity": ("{identity}({})", lambda a: a),
    "stop": ("{stop}({})", lambda a: a.ring.constant(a.value)),
}
NAMES = {
    "tf": {
        "m": "tf",
        "sum": "reduce_sum",
        "matvec": "tf.linalg.matvec",
        "identity": "tf.identity",
        "stop": "tf.stop_gradient",
    },
    "jax": {"m": "jnp", "sum": "sum", "matvec": "jnp.matmul", "identity": "jnp.asarray"},
    "autograd": {"m": "pnp", "sum": "sum", "matvec": "pnp.matmul", "identity": "pnp.asarray"},
}


class Custom(NamedTuple):
    """A function with a gradient of its own.

    Attributes:
        code: Its definition.
        taylor: Its Taylor coefficients at a number, as its derivative says.
    """

    code: str
    taylor: Callable


def _custom(forward: str, backward: str) -> str:
    lines = [
        "@tf.custom_gradient",
        "def {name}(x):",
        f"    return {forward}, lambda up: {backward}",
    ]
    return "\n".join(lines)


def _line(value, slope):
    return [value, np.full_like(value, slope), 0 * value, 0 * value]


CUSTOM: dict[str, Custom] = {
    # Forward the identity, backward something else.
    "reverse": Custom(_custom("tf.identity(x)", "-up"), lambda x: _line(x, -1.0)),
    "halve": Custom(_custom("tf.identity(x)", "0.5 * up"), lambda x: _line(x, 0.5)),
    "keep": Custom(_custom("tf.identity(x)", "up"), lambda x: _line(x, 1.0)),
    "straight": Custom(
        _custom("tf.round(4.0 * x) / 4.0", "up"), lambda x: _line(np.round(4.0 * x) / 4.0, 1.0)
    ),
    # A derivative that is not that of the function, and has derivatives itself.
    "odd": Custom(
        _custom("tf.sin(x)", "up * tf.cos(2.0 * x)"),
        lambda x: [np.sin(x), np.cos(2 * x), -np.sin(2 * x), -2 / 3 * np.cos(2 * x)],
    ),
    "partly": Custom(
        "def {name}(x):\n    return 0.25 * x + 0.75 * tf.stop_gradient(x)",
        lambda x: _line(x, 0.25),
    ),
    "again": Custom(
        "def {name}(x):\n    return tf.recompute_grad(lambda y: tf.sin(y))(x)",
        lambda x: [np.sin(x), np.cos(x), -np.sin(x) / 2, -np.cos(x) / 6],
    ),
}

# Another qnode, whose value is an angle.
INNER = """
@qshift.qnode(qml.device("default.qubit"))
def inner(angle):
    qml.RY(0.7, wires=0)
    qml.RX(angle, wires=0)
    qml.RY(0.4, wires=0)
    return qml.expval(qml.Z(0))
"""


def inner_value(angle):
    """The Bloch vector (sin .7, 0, cos .7) is turned by X, and then by 0.4 around Y."""
    return np.cos(0.4) * np.cos(0.7) * angle.cos() - np.sin(0.4) * np.sin(0.7)


def value(expression, scope) -> Jet:
    """Returns the value of an expression.

    Args:
        expression: The expression.
        scope: Jets by name: arguments as "x", and as "old x"; "" is any jet.
    """
    name, *rest = expression
    if name == "leaf":
        return scope[rest[0]]
    if name == "old":
        return scope[f"old {rest[0]}"]
    if name in ("number", "constant"):
        return scope[""].ring.constant(np.array(rest[0], float))
    if name == "index":
        return value(rest[0], scope)[tuple(rest[1])]
    if name == "stack":
        return stack([value(part, scope) for part in rest[0]]).reshape(*rest[1])
    if name == "custom":
        argument = value(rest[1], scope)
        return argument.series(CUSTOM[rest[0]].taylor(argument.value))
    if name == "inner":
        return inner_value(value(rest[0], scope))
    return FUNCTIONS[name][1](*(value(part, scope) for part in rest))
