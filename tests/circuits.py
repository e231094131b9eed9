"""Random circuits over everything that qshift supports, runnable by qshift and by JAX alike.

A `RandomCircuit` is an ordinary quantum function of a flat parameter vector, which may be a
TensorFlow tensor, a JAX array or a NumPy array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import pennylane as qml
import tensorflow as tf

import qshift

jax.config.update("jax_enable_x64", True)


@dataclass(frozen=True)
class Gate:
    """One entry of the catalogue.

    Attributes:
        angles: How many angles it takes.
        wires: How many wires it takes.
        apply: Applies it, as apply(angles, wires).
    """

    angles: int
    wires: int
    apply: Callable


def _plain(gate, angles, wires):
    return Gate(angles, wires, lambda a, w: gate(*a, wires=w))


def _controlled(gate, angles, wires, controls, values=None):
    def apply(a, w):
        base = gate(*a, wires=w[controls:])
        return qml.ctrl(base, control=w[:controls], control_values=values)

    return Gate(angles, wires + controls, apply)


def time(x):
    """PennyLane multiplies an Evolution's time by 1j, which TensorFlow does for complex only."""
    return tf.cast(x, tf.complex128) if tf.is_tensor(x) else x


def _evolution(coefficients, words):
    def apply(a, w):
        terms = [qml.pauli.string_to_pauli_word(s, dict(enumerate_wires(w))) for s in words]
        return qml.evolve(qml.Hamiltonian(coefficients, terms), time(a[0]))

    def enumerate_wires(w):
        return ((wire, i) for i, wire in enumerate(w))

    return Gate(1, len(words[0]), apply)


def _layers(template, shape):
    """A template whose weights are multiples of two angles."""
    factors = np.linspace(0.5, 1.5, int(np.prod(shape)))

    def apply(a, w):
        weights = qml.math.stack([f * a[i % 2] for i, f in enumerate(factors)])
        template(qml.math.reshape(weights, shape), w)

    return Gate(2, shape_wires(shape), apply)


def shape_wires(shape):
    return shape[1] if len(shape) > 1 else shape[0]


def _embedding(template, wires):
    def apply(a, w):
        features = qml.math.stack([a[0], a[1], 0.7 * a[0]][:wires])
        template(features, w)

    return Gate(2, wires, apply)


def _ccx_sandwich(a, w):
    qml.Toffoli(w)
    qml.ctrl(qml.S, control=w[0])(w[1])
    qml.RX(a[0], w[2])
    qml.CSWAP(w)


ONE_WIRE = ("RX", "RY", "RZ", "PhaseShift", "U1")
GATES: dict[str, Gate] = {
    **{name: _plain(getattr(qml, name), 1, 1) for name in ONE_WIRE},
    "Rot": _plain(qml.Rot, 3, 1),
    "U2": _plain(qml.U2, 2, 1),
    "U3": _plain(qml.U3, 3, 1),
    "CRX": _plain(qml.CRX, 1, 2),
    "CRY": _plain(qml.CRY, 1, 2),
    "CRZ": _plain(qml.CRZ, 1, 2),
    "CRot": _plain(qml.CRot, 3, 2),
    "ControlledPhaseShift": _plain(qml.ControlledPhaseShift, 1, 2),
    "CPhaseShift00": _plain(qml.CPhaseShift00, 1, 2),
    "CPhaseShift01": _plain(qml.CPhaseShift01, 1, 2),
    "CPhaseShift10": _plain(qml.CPhaseShift10, 1, 2),
    "IsingXX": _plain(qml.IsingXX, 1, 2),
    "IsingXY": _plain(qml.IsingXY, 1, 2),
    "IsingYY": _plain(qml.IsingYY, 1, 2),
    "IsingZZ": _plain(qml.IsingZZ, 1, 2),
    "PauliRot": Gate(1, 3, lambda a, w: qml.PauliRot(a[0], "XZY", wires=w)),
    "MultiRZ": _plain(qml.MultiRZ, 1, 3),
    "SingleExcitation": _plain(qml.SingleExcitation, 1, 2),
    "SingleExcitationPlus": _plain(qml.SingleExcitationPlus, 1, 2),
    "SingleExcitationMinus": _plain(qml.SingleExcitationMinus, 1, 2),
    "DoubleExcitation": _plain(qml.DoubleExcitation, 1, 4),
    "DoubleExcitationPlus": _plain(qml.DoubleExcitationPlus, 1, 4),
    "DoubleExcitationMinus": _plain(qml.DoubleExcitationMinus, 1, 4),
    "OrbitalRotation": _plain(qml.OrbitalRotation, 1, 4),
    "FermionicSWAP": _plain(qml.FermionicSWAP, 1, 2),
    "PSWAP": _plain(qml.PSWAP, 1, 2),
    "PCPhase": Gate(1, 2, lambda a, w: qml.PCPhase(a[0], dim=3, wires=w)),
    "GlobalPhase": _plain(qml.GlobalPhase, 1, 1),
    "C(GlobalPhase)": _controlled(qml.GlobalPhase, 1, 1, 1),
    "CC(RX)": _controlled(qml.RX, 1, 1, 2, [1, 0]),
    "CC(Rot)": _controlled(qml.Rot, 3, 1, 2, [0, 1]),
    "CCC(IsingXY)": _controlled(qml.IsingXY, 1, 2, 3),
    "C(U3)": _controlled(qml.U3, 3, 1, 1),
    "C(SingleExcitation)": _controlled(qml.SingleExcitation, 1, 2, 1, [0]),
    "C(PauliRot)": Gate(
        1, 3, lambda a, w: qml.ctrl(qml.PauliRot(a[0], "XY", wires=w[1:]), control=w[0])
    ),
    "Adjoint(CRY)": Gate(1, 2, lambda a, w: qml.adjoint(qml.CRY(a[0], wires=w))),
    "Adjoint(U3)": Gate(3, 1, lambda a, w: qml.adjoint(qml.U3(*a, wires=w))),
    "Adjoint(OrbitalRotation)": Gate(
        1, 4, lambda a, w: qml.adjoint(qml.OrbitalRotation(a[0], wires=w))
    ),
    "RX**2.5": Gate(1, 1, lambda a, w: qml.pow(qml.RX(a[0], wires=w), 2.5)),
    "IsingXY**3": Gate(1, 2, lambda a, w: qml.pow(qml.IsingXY(a[0], wires=w), 3, lazy=True)),
    "CRX**0.5": Gate(1, 2, lambda a, w: qml.pow(qml.CRX(a[0], wires=w), 0.5, lazy=True)),
    "C(RX**-2)": Gate(
        1, 2, lambda a, w: qml.ctrl(qml.pow(qml.RX(a[0], wires=w[1]), -2, lazy=True), w[0])
    ),
    "Evolution(1, 3)": _evolution([0.5, 1.5], ["XI", "IZ"]),
    "Evolution(irrational)": _evolution([0.3, 0.5 * np.sqrt(2), 0.2], ["XXI", "IYY", "ZIZ"]),
    "Evolution(word)": Gate(1, 2, lambda a, w: qml.evolve(qml.X(w[0]) @ qml.Y(w[1]), time(a[0]))),
    "C(Evolution)": Gate(
        1,
        3,
        lambda a, w: qml.ctrl(
            qml.evolve(0.7 * qml.X(w[1]) + 0.4 * qml.Z(w[2]) @ qml.Z(w[1]), time(a[0])), w[0]
        ),
    ),
    "Prod": Gate(2, 2, lambda a, w: qml.prod(qml.RX(a[0], w[0]), qml.CRZ(a[1], w))),
    "Toffoli, CSWAP": Gate(1, 3, _ccx_sandwich),
    "Select": Gate(
        2, 2, lambda a, w: qml.Select([qml.RX(a[0], w[1]), qml.RY(a[1], w[1])], control=w[:1])
    ),
    "ControlledSequence": Gate(
        1, 3, lambda a, w: qml.ControlledSequence(qml.RX(a[0], w[2]), control=w[:2])
    ),
    "StronglyEntanglingLayers": _layers(qml.StronglyEntanglingLayers, (1, 2, 3)),
    "BasicEntanglerLayers": _layers(qml.BasicEntanglerLayers, (2, 3)),
    "SimplifiedTwoDesign": Gate(
        2,
        3,
        lambda a, w: qml.SimplifiedTwoDesign(
            qml.math.stack([a[0], a[1], 0.3 * a[0]]),
            qml.math.reshape(qml.math.stack([a[0], a[1], a[1], 2 * a[0]]), (1, 2, 2)),
            wires=w,
        ),
    ),
    "AngleEmbedding": _embedding(lambda x, w: qml.AngleEmbedding(x, wires=w, rotation="Y"), 3),
    "IQPEmbedding": _embedding(lambda x, w: qml.IQPEmbedding(x, wires=w, n_repeats=2), 3),
    "QAOAEmbedding": Gate(
        2,
        2,
        lambda a, w: qml.QAOAEmbedding(
            qml.math.stack([a[0], a[1]]),
            qml.math.reshape(qml.math.stack([a[0], 0.3 * a[1], a[1]]), (1, 3)),
            wires=w,
        ),
    ),
    "AllSinglesDoubles": Gate(
        2,
        4,
        lambda a, w: qml.AllSinglesDoubles(
            qml.math.stack([a[0], a[1], 0.5 * a[0]]), w, np.array([1, 1, 0, 0]),
            singles=[[w[0], w[2]], [w[1], w[3]]], doubles=[list(w)],
        ),
    ),
    "UCCSD": Gate(
        2,
        4,
        lambda a, w: qml.UCCSD(
            qml.math.stack([a[0], a[1], 0.5 * a[0]]), w,
            s_wires=[[w[0], w[1], w[2]], [w[1], w[2], w[3]]], d_wires=[[w[:2], w[2:]]],
            init_state=np.array([1, 1, 0, 0]),
        ),
    ),
    "ApproxTimeEvolution": Gate(
        1,
        2,
        lambda a, w: qml.ApproxTimeEvolution(
            qml.Hamiltonian([0.4, 0.9, 0.3], [qml.X(w[0]), qml.Z(w[0]) @ qml.Z(w[1]), qml.Y(w[1])]),
            a[0], 2,
        ),
    ),
    "ApproxTimeEvolution(coefficient)": Gate(
        2,
        2,
        lambda a, w: qml.ApproxTimeEvolution(
            qml.Hamiltonian(
                qml.math.stack([a[0], 0.9 + 0.0 * a[0]]), [qml.X(w[0]), qml.Z(w[0]) @ qml.Z(w[1])]
            ),
            a[1], 1,
        ),
    ),
    "TrotterProduct": Gate(
        1,
        2,
        lambda a, w: qml.TrotterProduct(
            qml.Hamiltonian([0.4, 0.9], [qml.X(w[0]), qml.Z(w[0]) @ qml.Z(w[1])]),
            time(a[0]), n=1, order=2,
        ),
    ),
    "CommutingEvolution": Gate(
        1,
        2,
        lambda a, w: qml.CommutingEvolution(
            qml.Hamiltonian([0.5, 1.5], [qml.X(w[0]), qml.Z(w[1])]), a[0]
        ),
    ),
    "MottonenStatePreparation": Gate(
        1,
        1,
        lambda a, w: qml.RY(qml.math.arcsin(0.5 * qml.math.sin(a[0])), wires=w),
    ),
    "cond": Gate(2, 2, lambda a, w: (_measured(a, w))),
}


def _measured(a, w):
    qml.RX(a[0], wires=w[0])
    outcome = qml.measure(w[0])
    qml.cond(outcome, qml.RY, qml.RZ)(a[1], wires=w[1])


CLIFFORDS = (
    lambda w: qml.Hadamard(w[0]),
    lambda w: qml.S(w[0]),
    lambda w: qml.SX(w[0]),
    lambda w: qml.CNOT(w[:2]) if len(w) > 1 else qml.X(w[0]),
    lambda w: qml.CZ(w[:2]) if len(w) > 1 else qml.Y(w[0]),
    lambda w: qml.ISWAP(w[:2]) if len(w) > 1 else qml.Z(w[0]),
)


def _hermitian(rng, size):
    matrix = rng.normal(size=(size, size)) + 1j * rng.normal(size=(size, size))
    return matrix + matrix.conj().T


def _word(rng, wires):
    size = rng.integers(1, len(wires) + 1)
    chosen = rng.choice(wires, size=size, replace=False)
    paulis = [(qml.X, qml.Y, qml.Z)[rng.integers(3)](int(w)) for w in chosen]
    return qml.prod(*paulis) if len(paulis) > 1 else paulis[0]


def _observable(rng, wires):
    kind = rng.integers(7)
    if kind == 0:
        return _word(rng, wires)
    if kind == 1:
        return qml.sum(_word(rng, wires), 0.3 * _word(rng, wires), 0.7 * qml.I(int(wires[0])))
    if kind == 2:
        coefficients = rng.normal(size=3)
        return qml.Hamiltonian(coefficients, [_word(rng, wires) for _ in range(3)])
    if kind == 3:
        some = [int(w) for w in rng.permutation(wires)[:2]]
        return qml.Hermitian(_hermitian(rng, 2 ** len(some)), wires=some)
    if kind == 4:
        some = [int(w) for w in rng.permutation(wires)[:2]]
        return qml.Projector(rng.integers(2, size=len(some)), wires=some)
    if kind == 5 and len(wires) > 1:
        a, b = (int(w) for w in rng.permutation(wires)[:2])
        return qml.prod(qml.Hermitian(_hermitian(rng, 2), wires=a), qml.Y(b))
    return qml.s_prod(1.7, _word(rng, wires))


def _measurement(rng, wires):
    kind = rng.integers(5)
    if kind < 2:
        return qml.expval(_observable(rng, wires))
    if kind == 2:
        return qml.var(_observable(rng, wires))
    if kind == 3:
        size = min(2, len(wires))
        return qml.probs(wires=[int(w) for w in rng.permutation(wires)[:size]])
    return qml.probs(op=_word(rng, wires))


class RandomCircuit:
    """A random quantum function of a flat parameter vector.

    Angles are affine functions of one parameter or products of two, so parameters are shared and
    preprocessed.

    Args:
        seed: Decides everything.
        wires: Number of wires.
        parameters: Length of the parameter vector.
        gates: How many gates of the catalogue.
        measurements: How many measurements.
        names: Which gates to draw from; all that fit if not given.
    """

    def __init__(self, seed, wires, parameters, gates=4, measurements=2, names=None):
        rng = np.random.default_rng(seed)
        self.wires, self.size = list(range(wires)), parameters
        self.theta = rng.uniform(-np.pi, np.pi, size=parameters)
        fitting = [name for name in names or GATES if GATES[name].wires <= wires]
        self.gates = [str(name) for name in rng.choice(fitting, size=gates)]
        self._steps = []
        for name in self.gates:
            gate = GATES[name]
            chosen = [int(w) for w in rng.permutation(wires)]
            angles = [
                (rng.integers(parameters), rng.integers(parameters), *rng.normal(size=3))
                for _ in range(gate.angles)
            ]
            self._steps.append((gate, chosen[: gate.wires], angles))
            self._steps.append((rng.integers(len(CLIFFORDS)), chosen, None))
        with qml.QueuingManager.stop_recording():
            self._measurements = [_measurement(rng, self.wires) for _ in range(measurements)]
        self._starts = rng.uniform(0, np.pi, size=wires)

    def __repr__(self):
        return f"{len(self.wires)} wires: {', '.join(self.gates)} -> {self._measurements}"

    def __call__(self, theta):
        for wire, angle in zip(self.wires, self._starts, strict=True):
            qml.RY(angle, wires=wire)
        for gate, wires, angles in self._steps:
            if angles is None:
                CLIFFORDS[gate](wires)
            else:
                gate.apply([self._angle(theta, *angle) for angle in angles], wires)
        return tuple(qml.apply(m) for m in self._measurements)

    @staticmethod
    def _angle(theta, i, j, a, b, c):
        return a + b * theta[int(i)] + (c * theta[int(i)] * theta[int(j)] if i != j else 0.0)

    def values(self, results):
        """Lays results of different shapes out as one vector."""
        like = "tensorflow" if tf.is_tensor(results[0]) else None
        flat = [qml.math.reshape(result, (-1,)) for result in results]
        return qml.math.concatenate(flat) if like is None else tf.concat(flat, 0)

    def qshift(self, **settings):
        """Returns a TensorFlow function of the parameters."""
        device = settings.pop("device", None) or qml.device("default.qubit")
        node = qshift.qnode(device, **settings)(self)
        return lambda theta: self.values(node(theta))

    def jax(self):
        """Returns a JAX function of the parameters."""
        node = qml.qnode(qml.device("default.qubit"), diff_method="backprop", interface="jax",
                         mcm_method="deferred")(self)
        return lambda theta: self.values(node(theta))

    def jax_derivatives(self, order, theta=None):
        """Returns value and derivatives up to an order by backpropagation, as NumPy arrays."""
        theta = jax.numpy.asarray(self.theta if theta is None else theta)
        function, results = self.jax(), []
        for _ in range(order + 1):
            results.append(np.asarray(function(theta)))
            function = jax.jacfwd(function)
        return results
