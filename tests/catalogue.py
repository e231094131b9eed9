"""Every gate and template of PennyLane that has angles, and what it is, written down as matrices.

What is neither here, nor among those left out with a reason, is new: `tests/test_every_gate.py`
fails until it is classified.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.math import reshape
from taylor import Taylor, controlled, exponential, generated, rotation, sequence, word


class Entry(NamedTuple):
    """One gate or template.

    Attributes:
        angles: How many angles it takes.
        wires: How many wires it acts on.
        gate: Makes it, of angles [angles] of any framework and a list of wires.
        truth: The same as a matrix on these wires, of a list of `Taylor` polynomials.
        anywhere: Whether it takes any wires; otherwise those from 0 on.
        in_tapes: Whether PennyLane can put other angles into it, as `qshift.param_shift` needs.
    """

    angles: int
    wires: int
    gate: Callable
    truth: Callable
    anywhere: bool = True
    in_tapes: bool = True


with qml.queuing.AnnotatedQueue() as _queue:
    qml.s_prod(1j, qml.X(0))
SCALED = len(_queue.queue) > 0  # PennyLane 0.44 leaves such gates out of a circuit

H = (word("X") + word("Z")) / np.sqrt(2)
CNOT = np.eye(4)[[0, 1, 3, 2]]
CZ = np.diag([1, 1, 1, -1])
SWAP = np.eye(4)[[0, 2, 1, 3]]


def fourier(count):
    size = 2**count
    return np.exp(2j * np.pi * np.outer(range(size), range(size)) / size) / np.sqrt(size)


def real_time(x):
    """PennyLane multiplies times by 1j, which TensorFlow does to complex tensors only."""
    return tf.cast(x, tf.complex128) if tf.is_tensor(x) else x


def rot(phi, theta, omega):
    return rotation("Z", omega) @ rotation("Y", theta) @ rotation("Z", phi)


def phase_shift(angle):
    return generated(np.diag([0, 1]), angle)


def u3(theta, phi, delta):
    return phase_shift(phi) @ rotation("Y", theta) @ phase_shift(delta)


def global_phase(angle, count=1):
    return generated(-np.eye(2**count), angle)


def givens(size, a, b, angle, outside=0.0):
    """A rotation of basis states a and b by angle/2, with a phase on all others."""
    turn = np.zeros((size, size))
    turn[b, a], turn[a, b] = 0.5, -0.5
    others = np.diag([float(k not in (a, b)) for k in range(size)])
    return exponential(angle * (turn + outside * others))


def orbital_rotation(phi):
    words = {"XZYI": 0.25, "YZXI": -0.25, "IXZY": 0.25, "IYZX": -0.25}
    return generated(sum(c * word(letters) for letters, c in words.items()), phi)


def fermionic_swap(phi):
    generator = np.diag([0.0, 1, 1, 2])
    generator[1, 2] = generator[2, 1] = -1
    return generated(generator / 2, phi)


def _named(name, angles, wires, truth):
    return Entry(angles, wires, lambda x, w: getattr(qml, name)(*_list(x, angles), wires=w), truth)


def _list(x, count):
    return [x[i] for i in range(count)]


def special_unitary(x):
    count = {3: 1, 15: 2}[len(x)]
    letters = ["".join(each) for each in itertools.product("IXYZ", repeat=count)][1:]
    return exponential(sum(angle * (1j * word(w)) for angle, w in zip(x, letters, strict=True)))


PLAIN = {
    **{f"R{p}": _named(f"R{p}", 1, 1, lambda x, p=p: rotation(p, x[0])) for p in "XYZ"},
    "PhaseShift": _named("PhaseShift", 1, 1, lambda x: phase_shift(x[0])),
    "U1": _named("U1", 1, 1, lambda x: phase_shift(x[0])),
    "U2": _named("U2", 2, 1, lambda x: u3(Taylor(np.pi / 2), x[0], x[1])),
    "U3": _named("U3", 3, 1, lambda x: u3(*x)),
    "Rot": _named("Rot", 3, 1, lambda x: rot(*x)),
    "GlobalPhase": _named("GlobalPhase", 1, 1, lambda x: global_phase(x[0])),
    **{
        f"CR{p}": _named(f"CR{p}", 1, 2, lambda x, p=p: controlled(rotation(p, x[0])))
        for p in "XYZ"
    },
    "CRot": _named("CRot", 3, 2, lambda x: controlled(rot(*x))),
    "ControlledPhaseShift": _named(
        "ControlledPhaseShift", 1, 2, lambda x: generated(np.diag([0, 0, 0, 1]), x[0])
    ),
    **{
        f"CPhaseShift{bits}": _named(
            f"CPhaseShift{bits}", 1, 2, lambda x, k=k: generated(np.diag(np.eye(4)[k]), x[0])
        )
        for k, bits in enumerate(("00", "01", "10"))
    },
    **{
        f"Ising{p}": _named(f"Ising{p}", 1, 2, lambda x, p=p: rotation(p, x[0]))
        for p in ("XX", "YY", "ZZ")
    },
    "IsingXY": _named("IsingXY", 1, 2, lambda x: generated((word("XX") + word("YY")) / 4, x[0])),
    "MultiRZ": _named("MultiRZ", 1, 3, lambda x: rotation("ZZZ", x[0])),
    "PSWAP": _named("PSWAP", 1, 2, lambda x: SWAP @ generated(np.diag([0, 1, 1, 0]), x[0])),
    "PauliRot": Entry(
        1, 3, lambda x, w: qml.PauliRot(x[0], "XZY", wires=w), lambda x: rotation("XZY", x[0])
    ),
    "PauliRot of identities": Entry(
        1, 2, lambda x, w: qml.PauliRot(x[0], "II", wires=w), lambda x: rotation("II", x[0])
    ),
    "PCPhase": Entry(
        1,
        2,
        lambda x, w: qml.PCPhase(x[0], dim=3, wires=w),
        lambda x: generated(np.diag([1, 1, 1, -1]), x[0]),
    ),
    "SingleExcitation": _named("SingleExcitation", 1, 2, lambda x: givens(4, 1, 2, x[0])),
    "SingleExcitationPlus": _named(
        "SingleExcitationPlus", 1, 2, lambda x: givens(4, 1, 2, x[0], 0.5j)
    ),
    "SingleExcitationMinus": _named(
        "SingleExcitationMinus", 1, 2, lambda x: givens(4, 1, 2, x[0], -0.5j)
    ),
    "DoubleExcitation": _named("DoubleExcitation", 1, 4, lambda x: givens(16, 3, 12, x[0])),
    "DoubleExcitationPlus": _named(
        "DoubleExcitationPlus", 1, 4, lambda x: givens(16, 3, 12, x[0], 0.5j)
    ),
    "DoubleExcitationMinus": _named(
        "DoubleExcitationMinus", 1, 4, lambda x: givens(16, 3, 12, x[0], -0.5j)
    ),
    "OrbitalRotation": _named("OrbitalRotation", 1, 4, lambda x: orbital_rotation(x[0])),
    "FermionicSWAP": _named("FermionicSWAP", 1, 2, lambda x: fermionic_swap(x[0])),
    "SpecialUnitary": Entry(3, 1, lambda x, w: qml.SpecialUnitary(x, wires=w), special_unitary),
    "DiagonalQubitUnitary": Entry(
        4,
        2,
        lambda x, w: qml.DiagonalQubitUnitary(qml.math.exp(1j * qml.math.cast(x, complex)), w),
        lambda x: exponential(sum(x[k] * (1j * np.diag(np.eye(4)[k])) for k in range(4))),
    ),
}

COMPOSED = {
    "Evolution": Entry(
        1,
        2,
        lambda x, w: qml.evolve(
            0.7 * qml.X(w[0]) + 0.4 * qml.Z(w[0]) @ qml.Z(w[1]), real_time(x[0])
        ),
        lambda x: generated(-0.7 * word("XI") - 0.4 * word("ZZ"), x[0]),
        in_tapes=False,
    ),
    "Evolution by coefficients": Entry(
        3,
        2,
        lambda x, w: qml.evolve(
            qml.s_prod(x[0], qml.X(w[0]) @ qml.Y(w[1]))
            + qml.s_prod(x[1], qml.Z(w[0]) @ qml.Z(w[1]))
            + 0.3 * qml.I(w[0]),
            real_time(x[2]),
        ),
        lambda x: (
            rotation("XY", 2 * x[0] * x[2])
            @ rotation("ZZ", 2 * x[1] * x[2])
            @ global_phase(0.3 * x[2], 2)
        ),
    ),
    "Exp": Entry(
        1,
        2,
        lambda x, w: qml.exp(qml.X(w[0]) @ qml.Z(w[1]), -0.5j * real_time(x[0])),
        lambda x: rotation("XZ", x[0]),
    ),
    "Prod": Entry(
        4,
        2,
        lambda x, w: qml.prod(qml.U3(x[0], x[1], x[2], w[0]), qml.CRX(x[3], w)),
        lambda x: sequence(2, (controlled(rotation("X", x[3])), (0, 1)), (u3(*x[:3]), (0,))),
    ),
    "SProd": Entry(
        2,
        1,
        lambda x, w: qml.s_prod(
            qml.math.exp(1j * qml.math.cast(x[0], complex)), qml.RY(x[1], w[0])
        ),
        lambda x: global_phase(-x[0]) @ rotation("Y", x[1]),
    ),
    "ChangeOpBasis": Entry(
        4,
        2,
        lambda x, w: qml.change_op_basis(qml.U3(x[0], x[1], x[2], w[1]), qml.CRY(x[3], w)),
        lambda x: sequence(
            2,
            (u3(*x[:3]), (1,)),
            (controlled(rotation("Y", x[3])), (0, 1)),
            (u3(*x[:3]).dagger(), (1,)),
        ),
    ),
}


def encoded(x, wires):
    return [(rotation("X", x[i]), (wire,)) for i, wire in enumerate(wires)]


def fermionic_single(angle, count):
    middle = "Z" * (count - 2)
    generator = word("Y" + middle + "X") - word("X" + middle + "Y")
    return generated(generator / 4, angle)


def fermionic_double(angle):
    words = {"XXYX": 1, "YXYY": 1, "XYYY": 1, "XXXY": 1, "YXXX": -1, "XYXX": -1, "YYYX": -1}
    words["YYXY"] = -1
    return generated(sum(sign * word(letters) for letters, sign in words.items()) / 16, angle)


def flipped(bits):
    return [(word("X"), (i,)) for i, bit in enumerate(bits) if bit]


def exchange(phi, theta):
    """The exchange gate of `qml.ParticleConservingU1`."""

    def outer(angle):
        return controlled(generated(-np.eye(2), angle) @ word("X"))

    inner = controlled(rotation("Y", 2 * theta) @ word("Z"))
    return sequence(2, (outer(phi), (0, 1)), (inner, (1, 0)), (outer(-phi), (0, 1)))


def particle_conserving_u1(x):
    return sequence(
        3,
        *flipped((1, 0, 0)),
        (exchange(x[0], x[1]), (0, 1)),
        (exchange(x[2], x[3]), (1, 2)),
    )


def particle_conserving_u2(x):
    def gate(phi):
        return generated(-(word("XX") + word("YY")) / 2, phi)

    return sequence(
        3,
        *flipped((1, 0, 0)),
        *[(rotation("Z", x[i]), (i,)) for i in range(3)],
        (gate(x[3]), (0, 1)),
        (gate(x[4]), (1, 2)),
    )


def iqp_embedding(x):
    once = [(H, (0,)), (rotation("Z", x[0]), (0,)), (H, (1,)), (rotation("Z", x[1]), (1,))]
    return sequence(2, *(2 * [*once, (rotation("ZZ", x[0] * x[1]), (0, 1))]))


def random_layers(x, wires, ratio, seed):
    rng, gates, i = np.random.default_rng(seed), [], 0
    while i < len(x):
        if rng.random() > ratio:
            letter = rng.choice(["X", "Y", "Z"])
            gates.append((rotation(letter, x[i]), (int(rng.choice(wires, 1, replace=False)[0]),)))
            i += 1
        else:
            gates.append((CNOT, rng.choice(wires, 2, replace=False).tolist()))
    return sequence(wires, *gates)


def qdrift(time, coefficients, words, steps, seed):
    """Random terms, by a seed; the sign of the time is PennyLane's."""
    total = sum(map(abs, coefficients))
    chances = np.abs(coefficients) / total
    drawn = np.random.default_rng(seed).choice(len(words), p=chances, size=steps)
    count = len(words[0])
    gates = []
    for k in drawn:
        angle = time * (np.sign(coefficients[k]) * total / steps)
        gates.append((generated(word(words[k]), angle), range(count)))
    return sequence(count, *gates)


def select_rotation(letter):
    def truth(x):
        return sequence(
            3,
            *[
                (controlled(rotation(letter, x[2 * a + b]), (a, b)), (0, 1, 2))
                for a in (0, 1)
                for b in (0, 1)
            ],
        )

    return truth


def phase_estimation(x):
    unitary = u3(*x)
    return sequence(
        3,
        (H, (1,)),
        (H, (2,)),
        (controlled(unitary @ unitary), (1, 0)),
        (controlled(unitary), (2, 0)),
        (fourier(2).conj().T, (1, 2)),
    )


def qsvt(x):
    """A phase, then twice (U, phase, U^+, phase), with U = RX."""
    block = rotation("X", x[0])

    def phase(angle):
        return generated(np.diag([1, -1]), angle)

    return phase(x[3]) @ block.dagger() @ phase(x[2]) @ block @ phase(x[1])


def gqsp(x):
    """On (control, target): turns of the control between applications of U on its zero."""

    def turn(k):
        matrix = u3(2 * x[k], x[2 + k], x[4 + k])
        return (word("Z") @ (word("X") @ matrix @ word("X")), (0,))

    return sequence(2, turn(0), (controlled(u3(*x[6:9]), (0,)), (0, 1)), turn(1))


def reflection(unitary, alpha, count):
    zero = np.diag([1.0] + [0.0] * (2**count - 1))
    return -1.0 * (unitary @ generated(zero, alpha) @ unitary.dagger())


def prep_sel_prep(x):
    """On (control, target): 0.36 RX + 0.64 X."""
    prepare = rotation("Y", Taylor(2 * np.arctan2(0.8, 0.6)))
    return sequence(
        2,
        (prepare, (0,)),
        (controlled(rotation("X", x[0]), (0,)), (0, 1)),
        (controlled(Taylor(word("X") + 0j), (1,)), (0, 1)),
        (prepare.dagger(), (0,)),
    )


def hilbert_schmidt(x):
    """On U's wire and V's wire, V = S."""
    first = [(H, (0,)), (CNOT, (0, 1)), (u3(*x), (0,)), (np.diag([1, -1j]), (1,))]
    return sequence(2, *first, (CNOT, (0, 1)), (H, (0,)))


def block(weights, wires):
    qml.RY(weights[0], wires=wires[0])
    qml.U3(weights[1], 0.2, weights[1], wires=wires[1])
    qml.CNOT(wires=wires)


def block_truth(a, b, wires):
    return [
        (rotation("Y", a), (wires[0],)),
        (u3(b, Taylor(0.2), b), (wires[1],)),
        (CNOT, wires),
    ]


def network(x, pairs):
    gates = [block_truth(x[2 * k], x[2 * k + 1], pair) for k, pair in enumerate(pairs)]
    return sequence(4, *itertools.chain.from_iterable(gates))


def steps(time, a, b, wires):
    qml.RX(time * a, wires=wires[0])
    qml.CRY(time * b, wires=wires)


def swap_network(x):
    """Three layers of swaps, each gate where its logical wires happen to be."""
    gates = []
    for angle, (i, j) in zip(x, ((0, 1), (1, 2), (0, 1)), strict=True):
        gates += [(controlled(rotation("Y", angle)), (i, j)), (SWAP, (i, j))]
    return sequence(3, *gates)


TEMPLATES = {
    "AngleEmbedding": Entry(
        2,
        2,
        lambda x, w: qml.AngleEmbedding(x, w, rotation="Y"),
        lambda x: sequence(2, (rotation("Y", x[0]), (0,)), (rotation("Y", x[1]), (1,))),
    ),
    "IQPEmbedding": Entry(2, 2, lambda x, w: qml.IQPEmbedding(x, w, n_repeats=2), iqp_embedding),
    "QAOAEmbedding": Entry(
        5,
        2,
        lambda x, w: qml.QAOAEmbedding(x[:2], reshape(x[2:], (1, 3)), w),
        lambda x: sequence(
            2,
            *encoded(x[:2], (0, 1)),
            (rotation("ZZ", x[2]), (0, 1)),
            (rotation("Y", x[3]), (0,)),
            (rotation("Y", x[4]), (1,)),
            *encoded(x[:2], (0, 1)),
        ),
    ),
    "BasicEntanglerLayers": Entry(
        2,
        2,
        lambda x, w: qml.BasicEntanglerLayers(reshape(x, (1, 2)), w),
        lambda x: sequence(2, *encoded(x, (0, 1)), (CNOT, (0, 1))),
    ),
    "StronglyEntanglingLayers": Entry(
        6,
        2,
        lambda x, w: qml.StronglyEntanglingLayers(reshape(x, (1, 2, 3)), w),
        lambda x: sequence(
            2, (rot(*x[:3]), (0,)), (rot(*x[3:]), (1,)), (CNOT, (0, 1)), (CNOT, (1, 0))
        ),
    ),
    "SimplifiedTwoDesign": Entry(
        7,
        3,
        lambda x, w: qml.SimplifiedTwoDesign(x[:3], reshape(x[3:], (1, 2, 2)), wires=w),
        lambda x: sequence(
            3,
            *[(rotation("Y", x[i]), (i,)) for i in range(3)],
            (CZ, (0, 1)),
            (rotation("Y", x[3]), (0,)),
            (rotation("Y", x[4]), (1,)),
            (CZ, (1, 2)),
            (rotation("Y", x[5]), (1,)),
            (rotation("Y", x[6]), (2,)),
        ),
    ),
    "RandomLayers": Entry(
        3,
        2,
        lambda x, w: qml.RandomLayers(reshape(x, (1, 3)), w, ratio_imprim=0.3, seed=42),
        lambda x: random_layers(x, 2, 0.3, 42),
    ),
    "ParticleConservingU1": Entry(
        4,
        3,
        lambda x, w: qml.ParticleConservingU1(
            reshape(x, (1, 2, 2)), w, init_state=np.array([1, 0, 0])
        ),
        particle_conserving_u1,
    ),
    "ParticleConservingU2": Entry(
        5,
        3,
        lambda x, w: qml.ParticleConservingU2(
            reshape(x, (1, 5)), w, init_state=np.array([1, 0, 0])
        ),
        particle_conserving_u2,
    ),
    "GateFabric": Entry(
        2,
        4,
        lambda x, w: qml.GateFabric(
            reshape(x, (1, 1, 2)), w, init_state=np.array([1, 1, 0, 0]), include_pi=True
        ),
        lambda x: sequence(
            4,
            *flipped((1, 1, 0, 0)),
            (orbital_rotation(Taylor(np.pi)), range(4)),
            (givens(16, 3, 12, x[0]), range(4)),
            (orbital_rotation(x[1]), range(4)),
        ),
    ),
    "AllSinglesDoubles": Entry(
        3,
        4,
        lambda x, w: qml.AllSinglesDoubles(
            x,
            w,
            np.array([1, 1, 0, 0]),
            singles=[[w[0], w[2]], [w[1], w[3]]],
            doubles=[list(w)],
        ),
        lambda x: sequence(
            4,
            *flipped((1, 1, 0, 0)),
            (givens(16, 3, 12, x[2]), range(4)),
            (givens(4, 1, 2, x[0]), (0, 2)),
            (givens(4, 1, 2, x[1]), (1, 3)),
        ),
    ),
    "FermionicSingleExcitation": Entry(
        1,
        3,
        lambda x, w: qml.FermionicSingleExcitation(x[0], wires=w),
        lambda x: fermionic_single(x[0], 3),
    ),
    "FermionicDoubleExcitation": Entry(
        1,
        4,
        lambda x, w: qml.FermionicDoubleExcitation(x[0], wires1=w[:2], wires2=w[2:]),
        lambda x: fermionic_double(x[0]),
    ),
    "UCCSD": Entry(
        2,
        4,
        lambda x, w: qml.UCCSD(
            x,
            w,
            init_state=np.array([1, 1, 0, 0]),
            s_wires=[[w[0], w[1], w[2]]],
            d_wires=[[w[:2], w[2:]]],
        ),
        lambda x: sequence(
            4,
            *flipped((1, 1, 0, 0)),
            (fermionic_double(x[1]), range(4)),
            (fermionic_single(x[0], 3), (0, 1, 2)),
        ),
    ),
    "kUpCCGSD": Entry(
        6,
        4,
        lambda x, w: qml.kUpCCGSD(
            reshape(x, (1, 6)), w, k=1, delta_sz=0, init_state=np.array([1, 1, 0, 0])
        ),
        lambda x: sequence(
            4,
            *flipped((1, 1, 0, 0)),
            (fermionic_double(x[4]), (0, 1, 2, 3)),
            (fermionic_double(x[5]), (2, 3, 0, 1)),
            (fermionic_single(x[0], 3), (0, 1, 2)),
            (fermionic_single(x[1], 3), (1, 2, 3)),
            (fermionic_single(x[2], 3), (2, 1, 0)),
            (fermionic_single(x[3], 3), (3, 2, 1)),
        ),
    ),
    "ArbitraryUnitary": Entry(
        3,
        1,
        lambda x, w: qml.ArbitraryUnitary(x, wires=w),
        lambda x: rotation("Z", x[2]) @ rotation("Y", x[1]) @ rotation("X", x[0]),
    ),
    "ArbitraryStatePreparation": Entry(
        6,
        2,
        lambda x, w: qml.ArbitraryStatePreparation(x, wires=w),
        lambda x: sequence(
            2,
            *[
                (rotation(letters, x[k]), (0, 1))
                for k, letters in enumerate(("XI", "YI", "IX", "IY", "XX", "XY"))
            ],
        ),
    ),
    "ApproxTimeEvolution": Entry(
        3,
        2,
        lambda x, w: qml.ApproxTimeEvolution(
            qml.Hamiltonian([x[0], x[1]], [qml.X(w[0]), qml.Z(w[0]) @ qml.Z(w[1])]), x[2], 2
        ),
        lambda x: sequence(
            2,
            *(2 * [(rotation("X", x[0] * x[2]), (0,)), (rotation("ZZ", x[1] * x[2]), (0, 1))]),
        ),
    ),
    "CommutingEvolution": Entry(
        3,
        2,
        lambda x, w: qml.CommutingEvolution(
            qml.Hamiltonian([x[0], x[1]], [qml.X(w[0]), qml.Z(w[1])]), x[2]
        ),
        lambda x: sequence(
            2, (rotation("X", 2 * x[0] * x[2]), (0,)), (rotation("Z", 2 * x[1] * x[2]), (1,))
        ),
    ),
    "CommutingEvolution by frequencies": Entry(
        1,
        2,
        lambda x, w: qml.CommutingEvolution(
            qml.Hamiltonian([0.5, 1.5], [qml.X(w[0]), qml.Z(w[1])]), x[0], frequencies=(1, 3)
        ),
        lambda x: sequence(2, (rotation("X", x[0]), (0,)), (rotation("Z", 3 * x[0]), (1,))),
    ),
    "TrotterProduct": Entry(
        2,
        2,
        lambda x, w: qml.TrotterProduct(
            qml.s_prod(x[0], qml.X(w[0])) + 0.9 * qml.Z(w[0]) @ qml.Z(w[1]), x[1], order=2
        ),
        lambda x: sequence(
            2,
            (rotation("X", -x[0] * x[1]), (0,)),
            (rotation("ZZ", -1.8 * x[1]), (0, 1)),
            (rotation("X", -x[0] * x[1]), (0,)),
        ),
    ),
    "TrotterizedQfunc": Entry(
        3,
        2,
        lambda x, w: qml.TrotterizedQfunc(x[0], x[1], x[2], qfunc=steps, n=1, order=2, wires=w),
        lambda x: sequence(
            2,
            (rotation("X", x[0] * x[1] / 2), (0,)),
            (controlled(rotation("Y", x[0] * x[2])), (0, 1)),
            (rotation("X", x[0] * x[1] / 2), (0,)),
        ),
    ),
    "QDrift": Entry(
        1,
        2,
        lambda x, w: qml.QDrift(
            qml.dot([0.3, -0.7], [qml.X(w[0]), qml.Z(w[0]) @ qml.Z(w[1])]), x[0], n=3, seed=7
        ),
        lambda x: qdrift(x[0], [0.3, -0.7], ["XI", "ZZ"], 3, 7),
    ),
    "Select": Entry(
        4,
        3,
        lambda x, w: qml.Select(
            [qml.RX(x[0], w[2]), qml.U3(x[1], x[2], x[3], w[2]), qml.X(w[2])], w[:2]
        ),
        lambda x: sequence(
            3,
            (controlled(rotation("X", x[0]), (0, 0)), (0, 1, 2)),
            (controlled(u3(*x[1:]), (0, 1)), (0, 1, 2)),
            (controlled(Taylor(word("X") + 0j), (1, 0)), (0, 1, 2)),
        ),
    ),
    **{
        f"SelectPauliRot{letter}": Entry(
            4,
            3,
            lambda x, w, p=letter: qml.SelectPauliRot(x, w[:2], w[2], rot_axis=p),
            select_rotation(letter),
        )
        for letter in "XYZ"
    },
    "ControlledSequence": Entry(
        3,
        3,
        lambda x, w: qml.ControlledSequence(qml.U3(x[0], x[1], x[2], w[2]), w[:2]),
        lambda x: sequence(
            3,
            (controlled(u3(*x) @ u3(*x)), (0, 2)),
            (controlled(u3(*x)), (1, 2)),
        ),
    ),
    "QuantumPhaseEstimation": Entry(
        3,
        3,
        lambda x, w: qml.QuantumPhaseEstimation(
            qml.U3(x[0], x[1], x[2], w[0]), estimation_wires=w[1:]
        ),
        phase_estimation,
    ),
    "QSVT": Entry(
        4,
        1,
        lambda x, w: qml.QSVT(
            qml.RX(x[0], w), [qml.PCPhase(x[k], dim=1, wires=w) for k in (1, 2, 3)]
        ),
        qsvt,
    ),
    "GQSP": Entry(
        9,
        2,
        lambda x, w: qml.GQSP(qml.U3(x[6], x[7], x[8], w[1]), reshape(x[:6], (3, 2)), control=w[0]),
        gqsp,
    ),
    "Reflection": Entry(
        4,
        1,
        lambda x, w: qml.Reflection(qml.U3(x[0], x[1], x[2], w), x[3]),
        lambda x: reflection(u3(*x[:3]), x[3], 1),
    ),
    "AmplitudeAmplification": Entry(
        2,
        2,
        lambda x, w: qml.AmplitudeAmplification(
            qml.prod(qml.RX(x[0], w[0]), qml.RY(0.4, w[1])), qml.CRZ(x[1], w)
        ),
        lambda x: (
            reflection(
                sequence(2, (rotation("Y", Taylor(0.4)), (1,)), (rotation("X", x[0]), (0,))),
                Taylor(np.pi),
                2,
            )
            @ controlled(rotation("Z", x[1]))
        ),
    ),
    "PrepSelPrep": Entry(
        1,
        2,
        lambda x, w: qml.PrepSelPrep(
            qml.dot([0.36, 0.64], [qml.RX(x[0], w[1]), qml.X(w[1])]), control=w[:1]
        ),
        prep_sel_prep,
    ),
    "Qubitization": Entry(
        1,
        2,
        lambda x, w: qml.Qubitization(
            qml.dot([0.36, 0.64], [qml.RX(x[0], w[1]), qml.X(w[1])]), control=w[:1]
        ),
        lambda x: prep_sel_prep(x) @ np.kron(np.diag([1.0, -1.0]), np.eye(2)),
    ),
    "HilbertSchmidt": Entry(
        3,
        2,
        lambda x, w: qml.HilbertSchmidt(qml.S(w[1]), qml.U3(x[0], x[1], x[2], w[0])),
        lambda x: hilbert_schmidt(x),
    ),
    "LocalHilbertSchmidt": Entry(
        3,
        2,
        lambda x, w: qml.LocalHilbertSchmidt(qml.S(w[1]), qml.U3(x[0], x[1], x[2], w[0])),
        lambda x: hilbert_schmidt(x),
    ),
    "MPS": Entry(
        6,
        4,
        lambda x, w: qml.MPS(w, 2, block, 2, template_weights=reshape(x, (3, 2))),
        lambda x: network(x, ((0, 1), (1, 2), (2, 3))),
    ),
    "TTN": Entry(
        6,
        4,
        lambda x, w: qml.TTN(w, 2, block, 2, template_weights=reshape(x, (3, 2))),
        lambda x: network(x, ((0, 1), (2, 3), (1, 3))),
    ),
    "MERA": Entry(
        10,
        4,
        lambda x, w: qml.MERA(w, 2, block, 2, template_weights=reshape(x, (5, 2))),
        lambda x: network(x, ((1, 0), (2, 3), (3, 1), (0, 2), (0, 1))),
    ),
    "TwoLocalSwapNetwork": Entry(
        3,
        3,
        lambda x, w: qml.TwoLocalSwapNetwork(
            w,
            acquaintances=lambda index, wires, param=None: qml.CRY(param, wires=index),
            weights=x,
            fermionic=False,
        ),
        swap_network,
    ),
    "IQP": Entry(
        2,
        2,
        lambda x, w: qml.IQP([x[0], x[1]], 2, [[[0]], [[0, 1]]]),
        lambda x: sequence(2, (rotation("X", 2 * x[0]), (0,)), (rotation("XX", 2 * x[1]), (0, 1))),
        anywhere=False,
    ),
}

ENTRIES: dict[str, Entry] = PLAIN | COMPOSED | TEMPLATES


# --- what has no angles ---

AMPLITUDES = np.array([0.6, 0.0, 0.0, 0.8])


def _blocks(x):
    return [np.array([[0.0, 1.0], [1.0, 0.0]]), x]


# Gates and templates whose parameters are data: (data, gate). There is no derivative by these.
DATA = {
    "StatePrep": (AMPLITUDES, lambda x: qml.StatePrep(x, wires=[0, 1])),
    "AmplitudeEmbedding": (AMPLITUDES, lambda x: qml.AmplitudeEmbedding(x, wires=[0, 1])),
    "MottonenStatePreparation": (
        AMPLITUDES,
        lambda x: qml.MottonenStatePreparation(x, wires=[0, 1]),
    ),
    "MultiplexerStatePreparation": (
        AMPLITUDES,
        lambda x: qml.MultiplexerStatePreparation(x, wires=[0, 1]),
    ),
    "QROMStatePreparation": (
        np.array([1.0, 0.0]),
        lambda x: qml.QROMStatePreparation(x, wires=[0], precision_wires=[1, 2], work_wires=[3]),
    ),
    "Superposition": (
        np.array([0.6, 0.8]),
        lambda x: qml.Superposition(x, np.array([[0, 1], [1, 0]]), [0, 1], 2),
    ),
    "MPSPrep": (np.eye(2), lambda x: qml.MPSPrep(_blocks(x), wires=[0, 1], work_wires=[2])),
    "QubitUnitary": (np.eye(2), lambda x: qml.QubitUnitary(x, wires=0)),
    "ControlledQubitUnitary": (np.eye(2), lambda x: qml.ControlledQubitUnitary(x, wires=[1, 0])),
    "BlockEncode": (
        np.array([[0.1, 0.2], [0.3, 0.4]]),
        lambda x: qml.BlockEncode(x, wires=[0, 1]),
    ),
    "BasisRotation": (np.eye(2), lambda x: qml.BasisRotation([0, 1], x)),
    "FABLE": (np.array([[0.1, 0.2], [0.3, 1.0]]), lambda x: qml.FABLE(x, wires=[0, 1, 2])),
    "PrepSelPrep": (
        np.array([0.5, 0.0]),
        lambda x: qml.PrepSelPrep(qml.dot([x[0], x[1]], [qml.X(0), qml.Z(0)]), control=[1]),
    ),
    "Qubitization": (
        np.array([0.5, 0.2]),
        lambda x: qml.Qubitization(qml.dot([x[0], x[1]], [qml.X(0), qml.Z(0)]), control=[1]),
    ),
    "DiagonalQubitUnitary": (
        np.array([1.0, -1.0]),
        lambda x: qml.DiagonalQubitUnitary(x, wires=0),
    ),
    "SProd": (np.array(-1.0), lambda x: qml.s_prod(x, qml.X(0))),
    "Evolution": (
        np.array([0.5, 0.0]),
        lambda x: qml.evolve(qml.s_prod(x[0], qml.X(0)) + qml.s_prod(x[1], qml.Z(0)), 0.3),
    ),
    "U3**0.5": (np.array(0.0), lambda x: qml.pow(qml.U3(x, 0.3, 0.2, 0), 0.5)),
    "Sum": (
        np.array([0.6, 0.8]),
        lambda x: qml.s_prod(x[0], qml.X(0)) + qml.s_prod(x[1], qml.Z(0)),
    ),
}

_LEFT_OUT = {
    "It has no parameters that derivatives could be by.": """
        AQFT Adder BBQRAM Barrier BasisEmbedding BasisState CCZ CH CNOT CSWAP CY CZ CosineWindow ECR
        FlipSign GroverOperator Hadamard HybridQRAM ISWAP Identity IntegerComparator MidMeasure
        ModExp MultiControlledX Multiplier OutAdder OutMultiplier OutPoly PauliMeasure PauliX PauliY
        PauliZ Permute PhaseAdder QFT QROM QubitCarry QubitSum S SISWAP SWAP SX SelectOnlyQRAM
        SemiAdder Snapshot T TemporaryAND Toffoli WireCut""",
    "It is a kind of wrapper, which the wrappers of the test are.": """
        Adjoint AdjointOperation CompositeOp Conditional Controlled ControlledOp LinearCombination
        Pow PowOperation ScalarSymbolicOp SymbolicOp CollectedSubroutine SubroutineOp""",
    "It acts on modes of light.": """
        Beamsplitter CVNeuralNetLayers CatState CoherentState ControlledAddition ControlledPhase
        CrossKerr CubicPhase DisplacedSqueezedState Displacement DisplacementEmbedding
        FockDensityMatrix FockState FockStateProjector FockStateVector GaussianState Interferometer
        InterferometerUnitary Kerr NumberOperator PolyXP QuadOperator QuadP QuadX QuadraticPhase
        Rotation SqueezedState Squeezing SqueezingEmbedding TensorN ThermalState
        TwoModeSqueezing""",
    "It acts on qutrits.": """
        ControlledQutritUnitary GellMann QutritAmplitudeDamping QutritBasisState
        QutritBasisStatePreparation QutritChannel QutritDepolarizingChannel QutritUnitary TAdd
        TClock THadamard THermitian TRX TRY TRZ TSWAP TShift TritFlip""",
    "It is a channel, see tests/circuits/test_spectra.py.": """
        AmplitudeDamping BitFlip DepolarizingChannel GeneralizedAmplitudeDamping PauliError
        PhaseDamping PhaseFlip QubitChannel ResetError ThermalRelaxationError QubitDensityMatrix""",
    "It is an observable.": """
        BasisStateProjector Hermitian Projector SparseHamiltonian StateVectorProjector""",
    "PennyLane computes with its data as NumPy arrays when it is made.": "QuantumMonteCarlo",
    "PennyLane decomposes it on wires that it allocates, which no device here has.": """
        SumOfSlatersPrep""",
    "It is a part of PennyLane's decomposition of SpecialUnitary only.": "TmpPauliRot",
}
LEFT_OUT = {name: reason for reason, names in _LEFT_OUT.items() for name in names.split()}
