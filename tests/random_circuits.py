"""Random circuits over everything that qshift supports, with derivatives by backpropagation.

A `RandomCircuit` is an ordinary quantum function of a flat parameter vector, which may be a
TensorFlow tensor, a JAX array or a NumPy array.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.math import reshape, stack

import qshift

jax.config.update("jax_enable_x64", True)


class Gate(NamedTuple):
    """One entry of the catalogue.

    Attributes:
        angles: How many angles it takes.
        wires: How many wires it takes.
        apply: Applies it, as apply(angles, wires).
    """

    angles: int
    wires: int
    apply: Callable


def time(x):
    """PennyLane multiplies an Evolution's time by 1j; TensorFlow does that to complex ones only."""
    return tf.cast(x, tf.complex128) if tf.is_tensor(x) else x


def _plain(name, angles, wires):
    return Gate(angles, wires, lambda a, w: getattr(qml, name)(*a, wires=w))


def _measured(a, w):
    qml.RX(a[0], wires=w[0])
    outcome = qml.measure(w[0])
    qml.cond(outcome, qml.RY, qml.RZ)(a[1], wires=w[1])


_TWO_WIRES = (
    "CRX CRY CRZ ControlledPhaseShift CPhaseShift00 CPhaseShift01 CPhaseShift10 IsingXX IsingXY "
    "IsingYY IsingZZ SingleExcitation SingleExcitationPlus SingleExcitationMinus FermionicSWAP "
    "PSWAP"
).split()
_FOUR_WIRES = "DoubleExcitation DoubleExcitationPlus DoubleExcitationMinus OrbitalRotation".split()

PLAIN: dict[str, Gate] = {
    **{name: _plain(name, 1, 1) for name in "RX RY RZ PhaseShift U1 GlobalPhase".split()},
    **{name: _plain(name, 1, 2) for name in _TWO_WIRES},
    **{name: _plain(name, 1, 4) for name in _FOUR_WIRES},
    "MultiRZ": _plain("MultiRZ", 1, 3),
    "U2": _plain("U2", 2, 1),
    "U3": _plain("U3", 3, 1),
    "Rot": _plain("Rot", 3, 1),
    "CRot": _plain("CRot", 3, 2),
    "PauliRot": Gate(1, 3, lambda a, w: qml.PauliRot(a[0], "XZY", wires=w)),
    "PCPhase": Gate(1, 2, lambda a, w: qml.PCPhase(a[0], dim=3, wires=w)),
}

NESTED: dict[str, Gate] = {
    "C(GlobalPhase)": Gate(1, 1, lambda a, w: qml.ctrl(qml.GlobalPhase(a[0]), w, [0])),
    "CC(RX)": Gate(1, 3, lambda a, w: qml.ctrl(qml.RX(a[0], w[2]), w[:2], [1, 0])),
    "CC(Rot)": Gate(3, 3, lambda a, w: qml.ctrl(qml.Rot(*a, w[2]), w[:2], [0, 1])),
    "C(U3)": Gate(3, 2, lambda a, w: qml.ctrl(qml.U3(*a, w[1]), w[0])),
    "CC(IsingXY)": Gate(1, 4, lambda a, w: qml.ctrl(qml.IsingXY(a[0], w[2:]), w[:2])),
    "C(PauliRot)": Gate(1, 3, lambda a, w: qml.ctrl(qml.PauliRot(a[0], "XY", w[1:]), w[0])),
    "C(RX**-2)": Gate(
        1, 2, lambda a, w: qml.ctrl(qml.pow(qml.RX(a[0], w[1]), -2, lazy=True), w[0])
    ),
    "C(Evolution)": Gate(
        1,
        3,
        lambda a, w: qml.ctrl(
            qml.evolve(0.7 * qml.X(w[1]) + 0.4 * qml.Z(w[2]) @ qml.Z(w[1]), time(a[0])), w[0]
        ),
    ),
    "Adjoint(CRY)": Gate(1, 2, lambda a, w: qml.adjoint(qml.CRY(a[0], w))),
    "Adjoint(U3)": Gate(3, 1, lambda a, w: qml.adjoint(qml.U3(*a, w))),
    "Adjoint(OrbitalRotation)": Gate(1, 4, lambda a, w: qml.adjoint(qml.OrbitalRotation(a[0], w))),
    "RX**2.5": Gate(1, 1, lambda a, w: qml.pow(qml.RX(a[0], w), 2.5)),
    "CRX**0.5": Gate(1, 2, lambda a, w: qml.pow(qml.CRX(a[0], w), 0.5, lazy=True)),
    "IsingXY**3": Gate(1, 2, lambda a, w: qml.pow(qml.IsingXY(a[0], w), 3, lazy=True)),
    "Evolution(1, 3)": Gate(
        1,
        2,
        lambda a, w: qml.evolve(
            qml.Hamiltonian([0.5, 1.5], [qml.X(w[0]), qml.Z(w[1])]), time(a[0])
        ),
    ),
    "Evolution(irrational)": Gate(
        1,
        3,
        lambda a, w: qml.evolve(
            0.3 * qml.X(w[0]) @ qml.X(w[1])
            + 0.2 * qml.Z(w[0]) @ qml.Z(w[2])
            + np.sqrt(0.5) * qml.Y(w[1]) @ qml.Y(w[2]),
            time(a[0]),
        ),
    ),
    "Evolution(word)": Gate(1, 2, lambda a, w: qml.evolve(qml.X(w[0]) @ qml.Y(w[1]), time(a[0]))),
    "Exp": Gate(1, 1, lambda a, w: qml.exp(qml.Z(w[0]), -0.5j * time(a[0]))),
    "Prod": Gate(2, 2, lambda a, w: qml.prod(qml.RX(a[0], w[0]), qml.CRZ(a[1], w))),
    "Select": Gate(2, 2, lambda a, w: qml.Select([qml.RX(a[0], w[1]), qml.RY(a[1], w[1])], w[:1])),
    "ControlledSequence": Gate(
        1, 3, lambda a, w: qml.ControlledSequence(qml.RX(a[0], w[2]), w[:2])
    ),
    "cond": Gate(2, 2, _measured),
}

TEMPLATES: dict[str, Gate] = {
    "AngleEmbedding": Gate(2, 2, lambda a, w: qml.AngleEmbedding(stack(list(a)), w, rotation="Y")),
    "IQPEmbedding": Gate(2, 2, lambda a, w: qml.IQPEmbedding(stack(list(a)), w, n_repeats=2)),
    "QAOAEmbedding": Gate(
        2,
        2,
        lambda a, w: qml.QAOAEmbedding(
            stack(list(a)), reshape(stack([a[0], 0.3 * a[1], a[1]]), (1, 3)), w
        ),
    ),
    "BasicEntanglerLayers": Gate(
        2,
        2,
        lambda a, w: qml.BasicEntanglerLayers(
            reshape(stack([a[0], a[1], 0.3 * a[1], 0.6 * a[0]]), (2, 2)), w
        ),
    ),
    "StronglyEntanglingLayers": Gate(
        2,
        2,
        lambda a, w: qml.StronglyEntanglingLayers(
            reshape(stack([a[0], 0.8 * a[1], a[1], 1.5 * a[0], a[1], 0.1 * a[0]]), (1, 2, 3)), w
        ),
    ),
    "SimplifiedTwoDesign": Gate(
        2,
        3,
        lambda a, w: qml.SimplifiedTwoDesign(
            stack([a[0], a[1], 0.3 * a[0]]),
            reshape(stack([a[0], a[1], a[1], 2 * a[0]]), (1, 2, 2)),
            wires=w,
        ),
    ),
    "AllSinglesDoubles": Gate(
        2,
        4,
        lambda a, w: qml.AllSinglesDoubles(
            stack([a[0], a[1], 0.5 * a[0]]),
            w,
            np.array([1, 1, 0, 0]),
            singles=[[w[0], w[2]], [w[1], w[3]]],
            doubles=[list(w)],
        ),
    ),
    "UCCSD": Gate(
        2,
        4,
        lambda a, w: qml.UCCSD(
            stack([a[0], a[1]]),
            w,
            init_state=np.array([1, 1, 0, 0]),
            s_wires=[[w[0], w[1], w[2]]],
            d_wires=[[w[:2], w[2:]]],
        ),
    ),
    "ApproxTimeEvolution": Gate(
        2,
        2,
        lambda a, w: qml.ApproxTimeEvolution(
            qml.Hamiltonian([a[0], 0.9 * a[0]], [qml.X(w[0]), qml.Z(w[0]) @ qml.Z(w[1])]), a[1], 1
        ),
    ),
    "TrotterProduct": Gate(
        1,
        2,
        lambda a, w: qml.TrotterProduct(
            0.4 * qml.X(w[0]) + 0.9 * qml.Z(w[0]) @ qml.Z(w[1]), time(a[0]), order=2
        ),
    ),
    "CommutingEvolution": Gate(
        1,
        2,
        lambda a, w: qml.CommutingEvolution(
            qml.Hamiltonian([0.5, 1.5], [qml.X(w[0]), qml.Z(w[1])]), a[0]
        ),
    ),
}

GATES: dict[str, Gate] = PLAIN | NESTED | TEMPLATES

_CLIFFORDS = (qml.Hadamard, qml.S, qml.SX, qml.X, qml.CNOT, qml.CZ, qml.ISWAP, qml.CY)


def random_hermitian(rng, size: int) -> np.ndarray:
    """Returns a random Hermitian matrix complex128[size, size]."""
    matrix = rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size))
    return matrix + matrix.conj().T


def random_word(rng, wires):
    """Returns a random Pauli word on some of the wires."""
    chosen = rng.permutation(wires)[: rng.integers(1, len(wires) + 1)]
    return qml.prod(*((qml.X, qml.Y, qml.Z)[rng.integers(3)](int(wire)) for wire in chosen))


def random_observable(rng, wires):
    """Returns a random observable of any kind."""
    some = [int(wire) for wire in rng.permutation(wires)[:2]]
    kinds = (
        lambda: random_word(rng, wires),
        lambda: qml.s_prod(1.7, random_word(rng, wires)),
        lambda: random_word(rng, wires) + 0.3 * random_word(rng, wires) + 0.7 * qml.I(some[0]),
        lambda: qml.Hamiltonian(rng.normal(size=3), [random_word(rng, wires) for _ in range(3)]),
        lambda: qml.Hermitian(random_hermitian(rng, 2 ** len(some)), some),
        lambda: qml.Projector(rng.integers(2, size=len(some)), some),
        lambda: qml.Hermitian(random_hermitian(rng, 2), some[0]) @ qml.Y(some[-1] + len(wires)),
        lambda: qml.Projector([1], some[0]) + qml.Hermitian(random_hermitian(rng, 2), some[-1]),
    )
    return kinds[rng.integers(len(kinds))]()


def random_measurement(rng, wires):
    """Returns a random measurement that qshift can differentiate."""
    some = [int(wire) for wire in rng.permutation(wires)[:2]]
    kinds = (
        lambda: qml.expval(random_observable(rng, wires)),
        lambda: qml.var(random_observable(rng, wires)),
        lambda: qml.probs(wires=some),
        lambda: qml.probs(op=random_word(rng, wires)),
    )
    return kinds[rng.choice(4, p=(0.4, 0.3, 0.15, 0.15))]()


class RandomCircuit:
    """A random quantum function of a flat parameter vector.

    Each gate's angles are affine functions of one parameter or of a product of two, so parameters
    are shared and preprocessed. Fixed rotations and Clifford gates stand in between.

    Args:
        seed: Decides everything.
        wires: Number of wires.
        parameters: Length of the parameter vector.
        gates: How many gates to draw.
        measurements: How many measurements to draw.
        names: Which gates to draw from: all of `GATES` that fit if not given.

    Attributes:
        theta: float64[parameters], where to evaluate.
    """

    def __init__(self, seed, wires, parameters, gates=3, measurements=2, names=None):
        rng = np.random.default_rng(seed)
        self.wires = list(range(wires))
        self.theta = rng.uniform(-np.pi, np.pi, size=parameters)
        fitting = [name for name in names or GATES if GATES[name].wires <= wires]
        self.gates = [str(name) for name in rng.choice(fitting, size=gates)]
        self._start = rng.uniform(0.3, 2.8, size=wires)
        self._steps = []
        for name in self.gates:
            gate, order = GATES[name], [int(wire) for wire in rng.permutation(wires)]
            angles = [
                (*rng.integers(parameters, size=2).tolist(), *rng.normal(size=3).tolist())
                for _ in range(gate.angles)
            ]
            clifford = _CLIFFORDS[rng.integers(4 if wires == 1 else len(_CLIFFORDS))]
            self._steps.append((gate, order[: gate.wires], angles))
            self._steps.append((clifford, order[: clifford.num_wires], None))
        with qml.QueuingManager.stop_recording():
            self.measurements = [random_measurement(rng, self.wires) for _ in range(measurements)]

    def __repr__(self):
        return f"{len(self.wires)} wires: {', '.join(self.gates)}; {self.measurements}"

    def __call__(self, theta):
        for wire, angle in zip(self.wires, self._start, strict=True):
            qml.RY(angle, wires=wire)
        for gate, wires, angles in self._steps:
            if angles is None:
                gate(wires=wires)
            else:
                gate.apply([_angle(theta, *angle) for angle in angles], wires)
        return tuple(qml.apply(measurement) for measurement in self.measurements)

    def qshift(self, device=None, **settings) -> Callable:
        """Returns the circuit as a TensorFlow function, float64[P] -> float64[...]. It runs on
        default.qubit itself if no device is given."""
        if device is None:
            device, settings = qml.device("default.qubit"), {"embedded": False, **settings}
        node = qshift.qnode(device, **settings)(self)
        return lambda theta: _flat_tensor(node(theta))

    def backprop(self) -> Callable:
        """Returns the same, differentiated by TensorFlow through PennyLane's simulator."""
        node = qml.qnode(
            qml.device("default.qubit"),
            interface="tf",
            diff_method="backprop",
            mcm_method="deferred",
        )(self)

        def function(theta):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Support for the TensorFlow interface")
                return _flat_tensor(node(theta))

        return function

    def jax(self) -> Callable:
        """Returns the same as a JAX function, differentiated through PennyLane's simulator."""
        node = qml.qnode(
            qml.device("default.qubit"),
            interface="jax",
            diff_method="backprop",
            mcm_method="deferred",
        )(self)
        return lambda theta: jax.numpy.concatenate([jax.numpy.ravel(r) for r in node(theta)])

    def numpy(self) -> Callable:
        """Returns the same as a NumPy function, without derivatives."""
        node = qml.qnode(qml.device("default.qubit"), diff_method=None, mcm_method="deferred")(self)
        return lambda theta: np.concatenate([np.ravel(result) for result in node(theta)])


def _angle(theta, i, j, a, b, c):
    return a + b * theta[i] + (c * theta[i] * theta[j] if i != j else 0.0)


def _flat_tensor(results):
    return tf.concat([tf.reshape(result, [-1]) for result in results], 0)


def weighted(function: Callable, size: int, seed: int = 0) -> Callable:
    """Returns a random linear combination of a TensorFlow function's `size` values."""
    weights = tf.constant(np.random.default_rng(seed).normal(size=size))
    return lambda theta: tf.tensordot(weights, function(theta), 1)


def gradient(function: Callable, x):
    """Returns the gradient by one tape, as a tensor."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x)


def tape_derivatives(function: Callable, x, order: int) -> list[np.ndarray]:
    """Returns value, gradient, Hessian, ... by nested tapes.

    Without vectorisation, as tracing it anew for every function takes longer than what it saves.
    """
    x = tf.convert_to_tensor(x)

    def up_to(k):
        if k == 0:
            return [function(x)]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            lower = up_to(k - 1)
        return [*lower, tape.jacobian(lower[-1], x, experimental_use_pfor=False)]

    return [derivative.numpy() for derivative in up_to(order)]


def jax_derivatives(function: Callable, x, order: int) -> list[np.ndarray]:
    """Returns value, gradient, Hessian, ... of a JAX function, compiled as one: op by op, JAX
    compiles as many programs as there are ops."""
    functions = [function]
    for _ in range(order):
        functions.append(jax.jacfwd(functions[-1]))
    derivatives = jax.jit(lambda x: [function(x) for function in functions])
    return [np.asarray(derivative) for derivative in derivatives(jax.numpy.asarray(x))]
