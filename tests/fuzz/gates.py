"""Every gate as a product of exp(-i sum_k x_k G_k), with Hermitian G_k, and of constant unitaries.

In a list of factors the first one acts first. Controlled, adjoint and repeated gates are then the
same for all: a control multiplies G by |1><1|, an adjoint reverses the list and negates x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fuzz.matrices import (
    CONSTANT,
    SWAP,
    I,
    X,
    Y,
    Z,
    controlled,
    diagonal,
    diffusion,
    fourier,
    kron,
    projector,
    word,
    x_between,
    y_between,
)


class Factor(NamedTuple):
    """One factor of a gate.

    Attributes:
        wires: What it acts on.
        unitary: A constant unitary, or None.
        exponent: Pairs (x, G) of exp(-i sum x G), if there is no constant unitary.
    """

    wires: tuple[int, ...]
    unitary: np.ndarray | None
    exponent: tuple[tuple[Any, np.ndarray], ...] = ()


def adjoint(factors: Sequence[Factor]) -> list[Factor]:
    return [
        Factor(
            wires,
            None if unitary is None else unitary.conj().T,
            tuple((-x, generator) for x, generator in exponent),
        )
        for wires, unitary, exponent in reversed(factors)
    ]


def control(factors: Sequence[Factor], wires: Sequence[int], values: str) -> list[Factor]:
    return [
        Factor(
            (*wires, *factor.wires),
            None if factor.unitary is None else controlled(factor.unitary, values),
            tuple((x, np.kron(projector(values), generator)) for x, generator in factor.exponent),
        )
        for factor in factors
    ]


def power(factors: Sequence[Factor], exponent: int) -> list[Factor]:
    return list(factors if exponent >= 0 else adjoint(factors)) * abs(exponent)


class Gate(NamedTuple):
    """One entry of the catalogue.

    Attributes:
        angles: How many angles the gate takes.
        wires: How many wires.
        factors: Function of the angles that returns (x, G) and constant unitaries, first one first.
    """

    angles: int
    wires: int
    factors: Callable

    def __call__(self, angles, wires) -> list[Factor]:
        return [
            Factor(tuple(wires), None, (factor,))
            if isinstance(factor, tuple)
            else Factor(tuple(wires), factor)
            for factor in self.factors(*angles)
        ]


ONE = projector("1")  # |1><1|
ANY = np.eye(4)
FSWAP = (x_between("01", "10") - projector("01") - projector("10")) / 2 - projector("11")
SINGLE = y_between("01", "10") / 2
DOUBLE = y_between("0011", "1100") / 2
REST_2 = np.eye(4) - projector("01") - projector("10")
REST_4 = np.eye(16) - projector("0011") - projector("1100")


def _single_on(first: int, second: int) -> np.ndarray:
    """The generator of SingleExcitation on two of four wires."""
    # (XY - YX) / 2 is -i |01><10| + i |10><01|.
    a, b = ["I"] * 4, ["I"] * 4
    a[first], a[second], b[first], b[second] = "X", "Y", "Y", "X"
    return (word("".join(b)) - word("".join(a))) / 4


def _orbital(x):
    """SingleExcitation of both spins; orbitals are on wires 0, 1 and 2, 3. The wire of the other
    spin in between gives the sign of fermions, through swaps of fermions on wires 1 and 2."""
    swap = diagonal(1, 1, 1, -1) @ SWAP
    swap = kron(I, swap, I)
    return [swap, (x, _single_on(0, 1)), (x, _single_on(2, 3)), swap]


PARAMETRIC: dict[str, Gate] = {
    "RX": Gate(1, 1, lambda x: [(x, X / 2)]),
    "RY": Gate(1, 1, lambda x: [(x, Y / 2)]),
    "RZ": Gate(1, 1, lambda x: [(x, Z / 2)]),
    "PhaseShift": Gate(1, 1, lambda x: [(x, -ONE)]),
    "U1": Gate(1, 1, lambda x: [(x, -ONE)]),
    "U2": Gate(2, 1, lambda p, d: [(d, -ONE), (np.pi / 2, Y / 2), (p, -ONE)]),
    "U3": Gate(3, 1, lambda t, p, d: [(d, -ONE), (t, Y / 2), (p, -ONE)]),
    "Rot": Gate(3, 1, lambda p, t, o: [(p, Z / 2), (t, Y / 2), (o, Z / 2)]),
    "GlobalPhase": Gate(1, 1, lambda x: [(x, I)]),
    "CRX": Gate(1, 2, lambda x: [(x, kron(ONE, X) / 2)]),
    "CRY": Gate(1, 2, lambda x: [(x, kron(ONE, Y) / 2)]),
    "CRZ": Gate(1, 2, lambda x: [(x, kron(ONE, Z) / 2)]),
    "CRot": Gate(
        3, 2, lambda p, t, o: [(a, kron(ONE, G) / 2) for a, G in ((p, Z), (t, Y), (o, Z))]
    ),
    "ControlledPhaseShift": Gate(1, 2, lambda x: [(x, -projector("11"))]),
    "CPhaseShift00": Gate(1, 2, lambda x: [(x, -projector("00"))]),
    "CPhaseShift01": Gate(1, 2, lambda x: [(x, -projector("01"))]),
    "CPhaseShift10": Gate(1, 2, lambda x: [(x, -projector("10"))]),
    "IsingXX": Gate(1, 2, lambda x: [(x, word("XX") / 2)]),
    "IsingYY": Gate(1, 2, lambda x: [(x, word("YY") / 2)]),
    "IsingZZ": Gate(1, 2, lambda x: [(x, word("ZZ") / 2)]),
    "IsingXY": Gate(1, 2, lambda x: [(x, -(word("XX") + word("YY")) / 4)]),
    "PSWAP": Gate(1, 2, lambda x: [SWAP, (x, -projector("01") - projector("10"))]),
    "FermionicSWAP": Gate(1, 2, lambda x: [(x, FSWAP)]),
    "SingleExcitation": Gate(1, 2, lambda x: [(x, SINGLE)]),
    "SingleExcitationPlus": Gate(1, 2, lambda x: [(x, SINGLE - REST_2 / 2)]),
    "SingleExcitationMinus": Gate(1, 2, lambda x: [(x, SINGLE + REST_2 / 2)]),
    "DoubleExcitation": Gate(1, 4, lambda x: [(x, DOUBLE)]),
    "DoubleExcitationPlus": Gate(1, 4, lambda x: [(x, DOUBLE - REST_4 / 2)]),
    "DoubleExcitationMinus": Gate(1, 4, lambda x: [(x, DOUBLE + REST_4 / 2)]),
    "OrbitalRotation": Gate(1, 4, _orbital),
}


# Gates with options beside angles and wires: (angles, wires, options) -> factors.


def pauli_rot(angles, wires, options):
    return [Factor(tuple(wires), None, ((angles[0], word(options["word"]) / 2),))]


def multi_rz(angles, wires, options):
    return pauli_rot(angles, wires, {"word": "Z" * len(wires)})


def pc_phase(angles, wires, options):
    """exp(i x) on the first `dim` basis states, exp(-i x) on the others."""
    signs = np.where(np.arange(2 ** len(wires)) < options["dim"], -1.0, 1.0)
    return [Factor(tuple(wires), None, ((angles[0], np.diag(signs)),))]


def special_unitary(angles, wires, options):
    """exp(i sum_k x_k P_k) over all Pauli words but the identity, in alphabetical order."""
    words = [""]
    for _ in wires:
        words = [w + letter for w in words for letter in "IXYZ"]
    terms = zip(angles[0], words[1:], strict=True)
    return [Factor(tuple(wires), None, tuple((x, -word(w)) for x, w in terms))]


def evolution(angles, wires, options):
    """exp(-i t sum_k c_k P_k): t is the first angle, the others are the coefficients."""
    time, *coefficients = angles
    return [
        Factor(
            tuple(wires),
            None,
            tuple((c * time, word(w)) for c, w in zip(coefficients, options["words"], strict=True)),
        )
    ]


def unitary(angles, wires, options):
    return [Factor(tuple(wires), np.array(options["matrix"]))]


def diagonal_unitary(angles, wires, options):
    """A diagonal of phases exp(i x_k)."""
    phases = [
        (x, -np.diag(np.eye(2 ** len(wires))[k]).astype(complex)) for k, x in enumerate(angles[0])
    ]
    return [Factor(tuple(wires), None, tuple(phases))]


def constant(matrix: Callable):
    return lambda angles, wires, options: [Factor(tuple(wires), matrix(len(wires), options))]


def _permutation(wires, options):
    """The state of wire order[k] moves to wire k."""
    order, size = options["order"], 2**wires
    matrix = np.zeros((size, size))
    for state in range(size):
        bits = format(state, f"0{wires}b")
        matrix[int("".join(bits[k] for k in order), 2), state] = 1
    return matrix


def _flipped(wires, options):
    matrix = np.eye(2**wires)
    state = int("".join(map(str, options["bits"])), 2)
    matrix[state, state] = -1
    return matrix


WITH_OPTIONS: dict[str, Callable] = {
    "PauliRot": pauli_rot,
    "MultiRZ": multi_rz,
    "PCPhase": pc_phase,
    "SpecialUnitary": special_unitary,
    "evolve": evolution,
    "exp": evolution,
    "QubitUnitary": unitary,
    "DiagonalQubitUnitary": diagonal_unitary,
    "QFT": constant(lambda n, _: fourier(n)),
    "GroverOperator": constant(lambda n, _: diffusion(n)),
    "Permute": constant(_permutation),
    "FlipSign": constant(_flipped),
    "MultiControlledX": constant(lambda n, options: controlled(X, options["values"])),
}


def gate(name: str, angles=(), wires=(), options=None) -> list[Factor]:
    """Returns the factors of a gate.

    Args:
        name: Its name in PennyLane.
        angles: Its angles, numbers or jets.
        wires: Its wires.
        options: What else it takes.
    """
    if name in CONSTANT:
        return [Factor(tuple(wires), CONSTANT[name])]
    if name in PARAMETRIC:
        return PARAMETRIC[name](angles, wires)
    return WITH_OPTIONS[name](angles, wires, options or {})
