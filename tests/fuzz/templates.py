"""PennyLane's templates as lists of gates, from the pictures and formulas of its documentation.

Each takes its tensors, its wires and its options, and returns factors as `gates.gate` does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fuzz.gates import Factor, adjoint, gate
from fuzz.matrices import controlled, diagonal, word, x_between, y_between


def _basis_state(bits, wires) -> list[Factor]:
    flipped = [wire for bit, wire in zip(bits, wires, strict=True) if bit]
    return [factor for wire in flipped for factor in gate("PauliX", wires=[wire])]


def _neighbours(wires):
    """Pairs (0, 1), (2, 3), ..., then (1, 2), (3, 4), ..."""
    pairs = list(zip(wires, wires[1:], strict=False))
    return pairs[::2] + pairs[1::2]


def angle_embedding(tensors, wires, options):
    (features,) = tensors
    name = "R" + options.get("rotation", "X")
    return [f for k, x in enumerate(features) for f in gate(name, [x], [wires[k]])]


def basic_entangler(tensors, wires, options):
    (weights,), factors = tensors, []
    ring = [(w, wires[(k + 1) % len(wires)]) for k, w in enumerate(wires)]
    if len(wires) < 3:
        ring = ring[: len(wires) - 1]
    for layer in weights:
        for x, wire in zip(layer, wires, strict=True):
            factors += gate(options.get("rotation", "RX"), [x], [wire])
        for pair in ring:
            factors += gate("CNOT", wires=pair)
    return factors


def strongly_entangling(tensors, wires, options):
    (weights,), factors, n = tensors, [], len(wires)
    for k, layer in enumerate(weights):
        for angles, wire in zip(layer, wires, strict=True):
            factors += gate("Rot", list(angles), [wire])
        if n > 1:
            distance = k % (n - 1) + 1
            for i in range(n):
                factors += gate("CNOT", wires=[wires[i], wires[(i + distance) % n]])
    return factors


def iqp_embedding(tensors, wires, options):
    (features,), factors = tensors, []
    for _ in range(options.get("n_repeats", 1)):
        for x, wire in zip(features, wires, strict=True):
            factors += gate("Hadamard", wires=[wire]) + gate("RZ", [x], [wire])
        for i in range(len(wires)):
            for j in range(i + 1, len(wires)):
                pair = [wires[i], wires[j]]
                factors += gate("MultiRZ", [features[i] * features[j]], pair)
    return factors


def qaoa_embedding(tensors, wires, options):
    (features, weights), factors, n = tensors, [], len(wires)
    field = "R" + options.get("local_field", "Y")

    def encode():
        encoded = [gate("RX", [x], [wires[k]]) for k, x in enumerate(features)]
        others = [gate("Hadamard", wires=[wire]) for wire in wires[len(features) :]]
        return sum(encoded + others, [])

    for layer in weights:
        factors += encode()
        pairs = {1: 0, 2: 1}.get(n, n)
        for k in range(pairs):
            factors += gate("MultiRZ", [layer[k]], [wires[k], wires[(k + 1) % n]])
        for k, wire in enumerate(wires):
            factors += gate(field, [layer[pairs + k]], [wire])
    return factors + encode()


def simplified_two_design(tensors, wires, options):
    initial, weights = tensors
    factors = [f for x, wire in zip(initial, wires, strict=True) for f in gate("RY", [x], [wire])]
    for layer in weights:
        for angles, pair in zip(layer, _neighbours(wires), strict=True):
            factors += gate("CZ", wires=pair)
            for x, wire in zip(angles, pair, strict=True):
                factors += gate("RY", [x], [wire])
    return factors


def random_layers(tensors, wires, options):
    """The random numbers are drawn as PennyLane draws them; the test compares."""
    (weights,), factors = tensors, []
    rng = np.random.default_rng(options["seed"])
    for layer in weights:
        angles = iter(layer)
        left = len(layer)
        while left:
            if rng.random() > options.get("ratio_imprim", 0.3):
                name = rng.choice(np.array(["RX", "RY", "RZ"]))
                wire = rng.choice(len(wires), size=1, replace=False)[0]
                factors += gate(str(name), [next(angles)], [wires[wire]])
                left -= 1
            elif len(wires) > 1:
                pair = rng.choice(len(wires), size=2, replace=False)
                factors += gate("CNOT", wires=[wires[k] for k in pair])
    return factors


def _exchange_1(angles, pair):
    """|01> -> cos t |01> + exp(ip) sin t |10>, |10> -> exp(-ip) sin t |01> - cos t |10>.

    PennyLane's documentation has the other sign of p, its gates have this one.
    """
    phi, theta = angles
    pair, on_10 = tuple(pair), diagonal(0, 0, 1, 0)
    return [
        Factor(pair, None, ((phi, on_10),)),
        Factor(pair, diagonal(1, 1, -1, 1)),
        Factor(pair, None, ((theta, y_between("01", "10")),)),
        Factor(pair, None, ((phi, -on_10),)),
    ]


def particle_conserving_1(tensors, wires, options):
    (weights,), factors = tensors, _basis_state(options["init_state"], wires)
    for layer in weights:
        for angles, pair in zip(layer, _neighbours(wires), strict=True):
            factors += _exchange_1(list(angles), pair)
    return factors


def particle_conserving_2(tensors, wires, options):
    (weights,), factors = tensors, _basis_state(options["init_state"], wires)
    for layer in weights:
        for x, wire in zip(layer[: len(wires)], wires, strict=True):
            factors += gate("RZ", [x], [wire])
        for x, pair in zip(layer[len(wires) :], _neighbours(wires), strict=True):
            factors.append(Factor(tuple(pair), None, ((x, x_between("01", "10")),)))
    return factors


def gate_fabric(tensors, wires, options):
    (weights,), factors = tensors, _basis_state(options["init_state"], wires)
    for layer in weights:
        for angles in layer:
            if options["include_pi"]:
                factors += gate("OrbitalRotation", [np.pi], wires)
            factors += gate("DoubleExcitation", [angles[0]], wires)
            factors += gate("OrbitalRotation", [angles[1]], wires)
    return factors


def _fermionic_single(x, wires):
    """exp(x / 2 (c_p^+ c_r - h.c.)), with r on the first wire and p on the last one."""
    z = "Z" * (len(wires) - 2)
    generator = (word(f"X{z}Y") - word(f"Y{z}X")) / 4
    return [Factor(tuple(wires), None, ((x, generator),))]


def _fermionic_double(x, wires1, wires2):
    """exp(x / 2 (c_p^+ c_q^+ c_r c_s - h.c.)), s, r at the ends of `wires1`, q, p of `wires2`."""
    z1, z2 = "Z" * (len(wires1) - 2), "Z" * (len(wires2) - 2)

    def letters(srqp):
        return word(srqp[0] + z1 + srqp[1] + srqp[2] + z2 + srqp[3])

    plus = sum(map(letters, ("XXYX", "YXYY", "XYYY", "XXXY")))
    minus = sum(map(letters, ("YXXX", "XYXX", "YYYX", "YYXY")))
    return [Factor((*wires1, *wires2), None, ((x, -(plus - minus) / 16),))]


def fermionic_single(tensors, wires, options):
    return _fermionic_single(tensors[0], wires)


def fermionic_double(tensors, wires, options):
    return _fermionic_double(tensors[0], wires[:2], wires[2:])


def all_singles_doubles(tensors, wires, options):
    """On four wires, with two electrons: singles 0-2 and 1-3, and the double excitation."""
    (weights,), factors = tensors, _basis_state([1, 1, 0, 0], wires)
    factors += gate("DoubleExcitation", [weights[2]], wires)
    for k in range(2):
        factors += gate("SingleExcitation", [weights[k]], [wires[k], wires[k + 2]])
    return factors


def uccsd(tensors, wires, options):
    """On four wires, with two electrons: the double excitation, then the single one 0-2."""
    (weights,), factors = tensors, _basis_state([1, 1, 0, 0], wires)
    factors += _fermionic_double(weights[1], wires[:2], wires[2:])
    return factors + _fermionic_single(weights[0], wires[:3])


def select_pauli_rot(tensors, wires, options):
    """Rotates the last wire by an angle that the state of the others selects."""
    (angles,), factors, n = tensors, [], len(wires) - 1
    for k, x in enumerate(angles):
        (rotation,) = gate("R" + options["rot_axis"], [x], wires[-1:])
        ((_, generator),) = rotation.exponent
        selected = np.kron(diagonal(*np.eye(2**n)[k]), generator)
        factors.append(Factor(tuple(wires), None, ((x, selected),)))
    return factors


def trotter(tensors, wires, options):
    """One first-order step of exp(i t H): the adjoint of the one below."""
    return adjoint(approximate_evolution(tensors, wires, options))


def approximate_evolution(tensors, wires, options):
    """One step of exp(-i t H), the first term of H first."""
    time, *coefficients = tensors
    return [
        Factor(tuple(wires), None, ((time * c, word(letters)),))
        for c, letters in zip(coefficients, options["words"], strict=True)
    ]


def arbitrary_unitary(tensors, wires, options):
    """On one wire: rotations by X, Y and Z."""
    return [
        f for x, name in zip(tensors[0], "XYZ", strict=True) for f in gate("R" + name, [x], wires)
    ]


def matrix_product(tensors, wires, options):
    """Blocks of CNOT and two RY from each pair of neighbours to the next."""
    (weights,), factors = tensors, []
    for angles, pair in zip(weights, zip(wires, wires[1:], strict=False), strict=True):
        factors += gate("CNOT", wires=pair)
        for x, wire in zip(angles, pair, strict=True):
            factors += gate("RY", [x], [wire])
    return factors


def flipped_controlled(tensors, wires, options):
    """A two-wire gate of a constant matrix on the last wire, controlled by the others."""
    return [Factor(tuple(wires), controlled(np.array(options["matrix"]), "1" * (len(wires) - 1)))]


TEMPLATES: dict[str, Callable] = {
    "AngleEmbedding": angle_embedding,
    "BasicEntanglerLayers": basic_entangler,
    "StronglyEntanglingLayers": strongly_entangling,
    "IQPEmbedding": iqp_embedding,
    "QAOAEmbedding": qaoa_embedding,
    "SimplifiedTwoDesign": simplified_two_design,
    "RandomLayers": random_layers,
    "ParticleConservingU1": particle_conserving_1,
    "ParticleConservingU2": particle_conserving_2,
    "GateFabric": gate_fabric,
    "FermionicSingleExcitation": fermionic_single,
    "FermionicDoubleExcitation": fermionic_double,
    "AllSinglesDoubles": all_singles_doubles,
    "UCCSD": uccsd,
    "SelectPauliRot": select_pauli_rot,
    "TrotterProduct": trotter,
    "ApproxTimeEvolution": approximate_evolution,
    "CommutingEvolution": approximate_evolution,
    "ArbitraryUnitary": arbitrary_unitary,
    "MPS": matrix_product,
    "ControlledQubitUnitary": flipped_controlled,
}
