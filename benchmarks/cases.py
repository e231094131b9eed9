"""What is measured, and what it must reach."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

COMPILED, EAGER, SHIFT = "qshift, tf.function", "qshift, eager", "qshift by shift, tf.function"
DERIVATIVES, EAGER_SHIFT = "qshift.derivatives, eager", "qshift by shift, eager"
LIGHTNING, LIGHTNING_TF = "PennyLane lightning, adjoint", "PennyLane lightning on TF, adjoint"
TAPES, SHIFT_PEER = "PennyLane, one tape per circuit", "PennyLane, parameter-shift"
PENNYLANE_TF = "PennyLane on TF (default.qubit), parameter-shift"
BACKPROP = "PennyLane on TF (default.qubit), backprop, eager"
BACKPROP_COMPILED = "PennyLane on TF (default.qubit), backprop, tf.function"
BACKPROP_XLA = "PennyLane on TF (default.qubit), backprop, jit_compile"
ON_DEFAULT = "qshift on default.qubit, tf.function"
KERNEL, LIGHTNING_KERNEL = "qshift's simulator alone", "lightning's adjoint kernel alone"
JAX, TENSORCIRCUIT = "PennyLane + JAX, jitted backprop", "TensorCircuit-NG on TF, XLA"
SQULEARN = "sQUlearn"
TFQ, TFQ_SHIFT = "TensorFlow Quantum, adjoint", "TensorFlow Quantum, ParameterShift"


@dataclass(frozen=True)
class Contender:
    """Who does it, and how.

    Attributes:
        label: What tables call it.
        peer: The module in `peers`, without ``with_``.
        method: What that module is told.
        once: Whether the first call is all that is measured, because it takes so long.
        spec: What it is told on top of, or instead of, what the case says.
    """

    label: str
    peer: str
    method: str
    once: bool = False
    spec: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One task for several contenders.

    Attributes:
        name: What tables call it.
        spec: What `peers.serving` is told.
        contenders: Who does it.
        tolerance: How far results may be apart: the largest difference, or, with shots, the root
            mean square.
    """

    name: str
    spec: dict
    contenders: list[Contender] = field(default_factory=list)
    tolerance: float = 1e-4  # single precision


_OURS = [
    Contender(COMPILED, "qshift", "compiled"),
    Contender(EAGER, "qshift", "eager"),
    Contender(SHIFT, "qshift", "compiled, shift"),
]
_PEERS = [
    Contender(LIGHTNING, "pennylane", "grad, adjoint"),
    Contender(LIGHTNING_TF, "pennylane", "TensorFlow, adjoint"),
    Contender(TAPES, "pennylane", "one tape per circuit"),
    Contender(JAX, "jax", "jit"),
    Contender(TENSORCIRCUIT, "tensorcircuit", "jit"),
    Contender(TFQ, "tfq", "Adjoint"),
    Contender(TFQ_SHIFT, "tfq", "ParameterShift"),
]

# On lightning.qubit it fails above first order, mixing float32 with float64.
_PENNYLANE_TF = Contender(
    PENNYLANE_TF,
    "pennylane",
    "TensorFlow, parameter-shift",
    once=True,
    spec={"device": "default.qubit"},
)


_DEFAULT = {"device": "default.qubit"}
_EAGER_BACKPROP = Contender(BACKPROP, "pennylane", "TensorFlow, backprop", spec=_DEFAULT)
_COMPILED_BACKPROP = [
    Contender(BACKPROP_COMPILED, "pennylane", "TensorFlow, backprop, compiled", spec=_DEFAULT),
    Contender(BACKPROP_XLA, "pennylane", "TensorFlow, backprop, XLA", spec=_DEFAULT),
]


def gradient(wires: int) -> str:
    return f"value and gradient, n={wires}, p={6 * wires}"


def hessian(wires: int, layers: int = 3) -> str:
    return f"Hessian, n={wires}, p={2 * layers * wires}"


def third(parameters: int) -> str:
    return f"third derivatives, p={parameters}"


def sampled(wires: int) -> str:
    return f"gradient, 1000 shots, n={wires}, p={6 * wires}"


EQUATION = "one step of training y' = 6 y (1 - y), 10 points"
SAMPLED_EQUATION = f"{EQUATION}, 1000 shots"
GROWTH = "value and gradient, n=8, growth with p"


def deeper(label: str, layers: int) -> str:
    return f"{label}, p={16 * layers}"


def layer(batch: int) -> str:
    return f"a layer on 4 qubits, batch {batch}, loss and gradient"


def kernel(wires: int) -> str:
    return f"without TensorFlow: value and gradient, n={wires}, p={6 * wires}"


def many_points(wires: int) -> str:
    return f"without TensorFlow: values at many points, n={wires}, p={6 * wires}"


def at_points(points: int, threads: int | None = None) -> str:
    shared = "" if threads is None else f", threads: {threads}"
    return f"qshift's simulator alone, {points:,} points{shared}"


def direct(device: str, parameters: int) -> str:
    return f"value and gradient by shift, {device}, p={parameters}"


def cases(quick: bool) -> list[Case]:
    """Returns the cases of a full run, or of a quick one."""
    listed = []
    # Those that compile, or run every shifted circuit, are left out where that takes minutes.
    without = {8: {TENSORCIRCUIT}} if quick else {16: {JAX, TENSORCIRCUIT, TAPES, TFQ_SHIFT}}
    without[20] = {SHIFT, LIGHTNING_TF, *without.get(16, ())}
    without[12] = {BACKPROP_COMPILED, BACKPROP_XLA}  # they compile for minutes
    for wires in (4, 8) if quick else (4, 8, 12, 16, 20):
        peers = [*_PEERS, *([_EAGER_BACKPROP, *_COMPILED_BACKPROP] if wires <= 12 else [])]
        leave_out = {*without.get(wires, ()), *({BACKPROP_XLA} if quick else ())}
        contenders = [c for c in _OURS + peers if c.label not in leave_out]
        spec = {"circuit": ["ring", wires, 3], "order": 1}
        listed.append(Case(gradient(wires), spec, contenders))
    for batch in (32,) if quick else (32, 256):
        ours = [_OURS[0], Contender(ON_DEFAULT, "qshift", "compiled", spec=_DEFAULT), _OURS[1]]
        spec = {"circuit": ["layer", 4, 2, batch], "order": 1}
        listed.append(Case(layer(batch), spec, [*ours, *_COMPILED_BACKPROP]))
    for wires in (4, 8) if quick else (8, 12, 16, 20):
        alone = [
            Contender(KERNEL, "qshift", "kernel"),
            Contender(LIGHTNING_KERNEL, "pennylane", "kernel"),
        ]
        spec = {"circuit": ["ring", wires, 3], "order": 1}
        listed.append(Case(kernel(wires), spec, alone))
    alone = [
        Contender(
            at_points(number, threads),
            "qshift",
            "points",
            spec={"points": number, "threads": threads},
        )
        for number, threads in ((10, None), (100, None), (1000, None), (1000, 1), (1000, 2))
    ]
    wires = 4 if quick else 10
    spec = {"circuit": ["ring", wires, 3], "order": 0}
    listed.append(Case(many_points(wires), spec, alone, tolerance=np.inf))  # the points differ
    parameters = 4 if quick else 8
    listed.append(
        Case(
            third(parameters),
            {"circuit": ["chain", parameters], "order": 3},
            [
                Contender(EAGER, "qshift", "eager"),
                Contender(DERIVATIVES, "qshift", "derivatives"),
                Contender(COMPILED, "qshift", "compiled"),
                Contender(SHIFT, "qshift", "compiled, shift"),
                _PENNYLANE_TF,
            ],
        )
    )
    wires = 4 if quick else 8
    listed.append(
        Case(
            sampled(wires),
            {"circuit": ["ring", wires, 3], "order": 1, "shots": 1000},
            [
                Contender(COMPILED, "qshift", "compiled"),
                Contender(EAGER, "qshift", "eager"),
                Contender(SHIFT_PEER, "pennylane", "grad, parameter-shift"),
            ],
            tolerance=0.5,  # the standard deviation is at most 0.1
        )
    )
    depths = (3, 6) if quick else (3, 6, 12)
    ours = [
        Contender(deeper(c.label, layers), c.peer, c.method, spec={"circuit": ["ring", 8, layers]})
        for c in _OURS
        if c.label != EAGER
        for layers in depths
    ]
    listed.append(Case(GROWTH, {"circuit": None, "order": 1}, ours))
    for device in ("default.qubit", "lightning.qubit"):
        parameters = 20 if quick else 50
        listed.append(
            Case(
                direct(device, parameters),
                {"circuit": ["chain", parameters], "order": 1, "device": device},
                [
                    Contender(SHIFT, "qshift", "compiled, shift"),
                    Contender(EAGER_SHIFT, "qshift", "eager, shift"),
                    Contender(TAPES, "pennylane", "one tape per circuit"),
                ],
            )
        )
    wires, layers = (4, 1) if quick else (8, 3)
    listed.append(
        Case(
            hessian(wires, layers),
            {"circuit": ["ring", wires, layers], "order": 2},
            [
                Contender(DERIVATIVES, "qshift", "derivatives"),
                Contender(COMPILED, "qshift", "compiled"),
                Contender(SHIFT, "qshift", "compiled, shift"),
                Contender(JAX, "jax", "jit"),
                _PENNYLANE_TF,
            ],
        )
    )
    spec = {"circuit": ["equation", 4, 2 if quick else 14], "order": 1}
    ours = [c for c in _OURS if c.label != EAGER]
    peers = [Contender(JAX, "jax", "jit"), Contender(SQULEARN, "squlearn", "")]
    listed.append(Case(EQUATION, spec, [*ours, *peers]))
    sampled_spec = {**spec, "shots": 1000}
    listed.append(Case(SAMPLED_EQUATION, sampled_spec, ours[:1], tolerance=np.inf))
    return listed


@dataclass(frozen=True)
class Target:
    """A ratio of two times of one run, and what it must not exceed."""

    case: str
    ours: str
    peer: str
    at_most: float

    @property
    def text(self) -> str:
        return f"{self.case}: {self.ours} / {self.peer}"


TARGETS = [
    Target(gradient(4), COMPILED, JAX, 2.5),
    Target(gradient(8), COMPILED, JAX, 0.9),
    Target(gradient(12), COMPILED, JAX, 0.33),
    Target(gradient(8), COMPILED, LIGHTNING, 0.08),
    *(Target(gradient(wires), EAGER, LIGHTNING, 1.8) for wires in (4, 8, 12)),
    *(Target(gradient(wires), EAGER, LIGHTNING, 1.0) for wires in (16, 20)),
    *(Target(gradient(wires), EAGER, BACKPROP, 0.35) for wires in (4, 8, 12)),
    Target(layer(32), COMPILED, BACKPROP_XLA, 1.2),
    Target(layer(256), COMPILED, BACKPROP_XLA, 0.8),
    *(Target(layer(batch), ON_DEFAULT, BACKPROP_COMPILED, 1.0) for batch in (32, 256)),
    *(
        Target(kernel(wires), KERNEL, LIGHTNING_KERNEL, at_most)
        for wires, at_most in ((8, 0.3), (12, 0.9), (16, 0.9), (20, 1.0))
    ),
    Target(many_points(10), at_points(1000, 2), at_points(1000, 1), 0.55),
    Target(gradient(8), SHIFT, TAPES, 0.004),
    Target(gradient(8), SHIFT, TFQ_SHIFT, 0.04),
    Target(hessian(8), COMPILED, JAX, 0.5),
    Target(hessian(8), DERIVATIVES, JAX, 0.5),
    Target(hessian(8), COMPILED, PENNYLANE_TF, 0.02),
    Target(hessian(8), DERIVATIVES, PENNYLANE_TF, 0.02),
    Target(sampled(8), COMPILED, SHIFT_PEER, 0.008),
    Target(EQUATION, COMPILED, SQULEARN, 0.01),
    Target(EQUATION, COMPILED, JAX, 1.5),
    Target(GROWTH, deeper(COMPILED, 6), deeper(COMPILED, 3), 2.2),
    Target(GROWTH, deeper(COMPILED, 12), deeper(COMPILED, 6), 2.2),
    Target(GROWTH, deeper(SHIFT, 6), deeper(SHIFT, 3), 4.4),
    Target(GROWTH, deeper(SHIFT, 12), deeper(SHIFT, 6), 4.4),
]
