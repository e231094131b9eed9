"""Random gates, templates, and what is put around them."""

from __future__ import annotations

import numpy as np

from fuzz.case import Op
from fuzz.draw_angles import Angles
from fuzz.gates import PARAMETRIC
from fuzz.matrices import CONSTANT
from fuzz.own import OWN

CONSTANT_WIRES = {name: int(np.log2(len(matrix))) for name, matrix in CONSTANT.items()}
_RX_RY_RZ = ("RX", "RY", "RZ")


class Gates:
    """Draws gates.

    Args:
        rng: A NumPy generator.
        angles: Where their angles come from.
        wires: How many wires there are.
        features: What may occur; see `draw.FEATURES`.
    """

    def __init__(self, rng, angles: Angles, wires: int, features):
        self.rng, self.angles, self.n, self.features = rng, angles, wires, features

    def some_wires(self, number: int, among=None) -> tuple[int, ...]:
        among = range(self.n) if among is None else among
        return tuple(int(wire) for wire in self.rng.permutation(list(among))[:number])

    def pick(self, choices):
        return choices[self.rng.integers(len(choices))]

    def op(self) -> Op:
        """Draws anything."""
        kind = self.rng.random()
        if "huge" in self.features:  # only gates whose angles are no products
            return self.parametric() if kind < 0.8 else self.constant()
        if "own" in self.features and kind < 0.25:
            return self.own()
        if kind < 0.45:
            return self.parametric()
        if kind < 0.58:
            return self.constant()
        if kind < 0.68:
            return self.other()
        if kind < 0.80 and "templates" in self.features:
            return self.template()
        return self.around() if "wrappers" in self.features else self.parametric()

    def gate(self, wires) -> Op:
        """Draws a gate on some of the wires, to put something around."""
        kind = self.rng.random()
        if kind < 0.7:
            return self.parametric(wires)
        return self.constant(wires) if kind < 0.8 else self.other(wires)

    def parametric(self, wires=None, name=None) -> Op:
        wires = range(self.n) if wires is None else wires
        if name is None:
            names = [name for name, gate in PARAMETRIC.items() if gate.wires <= len(wires)]
            if self.rng.random() < 0.25:
                names = list(_RX_RY_RZ)
            name = self.pick(names)
        gate, batched = PARAMETRIC[name], "batch" in self.features
        some = self.some_wires(gate.wires, wires)
        if gate.angles == 3 and not batched and self.rng.random() < 0.3:
            return Op(name, (self.angles.tensor((3,)),), some, options={"star": True})
        return Op(name, tuple(self.angles.angle() for _ in range(gate.angles)), some)

    def constant(self, wires=None) -> Op:
        wires = range(self.n) if wires is None else wires
        name = self.pick([name for name, n in CONSTANT_WIRES.items() if n <= len(wires)])
        return Op(name, (), self.some_wires(CONSTANT_WIRES[name], wires))

    def other(self, wires=None, name=None) -> Op:
        """Draws a gate with options."""
        wires = list(range(self.n)) if wires is None else list(wires)
        names = ["PauliRot", "MultiRZ", "QubitUnitary", "evolve", "evolve", "exp", "PCPhase", "QFT"]
        names += ["SpecialUnitary", "DiagonalQubitUnitary", "GlobalPhase"]
        if len(wires) > 1:
            names += ["GroverOperator", "Permute", "MultiControlledX", "FlipSign"]
        name = name or self.pick(names)
        least = 2 if name in ("GroverOperator", "Permute", "MultiControlledX", "FlipSign") else 1
        some = self.some_wires(int(self.rng.integers(least, len(wires) + 1)), wires)
        n, angle = len(some), self.angles.angle
        if name == "PauliRot":
            return Op(name, (angle(),), some, options={"word": self.word(n)})
        if name in ("MultiRZ",):
            return Op(name, (angle(),), some)
        if name == "GlobalPhase":
            return Op(name, (angle(),), some[:1])
        if name == "PCPhase":
            return Op(name, (angle(),), some, options={"dim": int(self.rng.integers(1, 2**n))})
        if name in ("evolve", "exp"):
            return self.evolution(name, some[:2])
        if name == "SpecialUnitary":
            return Op(name, (self.angles.tensor((3,)),), some[:1])
        if name == "DiagonalQubitUnitary":
            return Op(name, (self.angles.tensor((2,)),), some[:1])
        options = {
            "QubitUnitary": lambda: {"matrix": self.unitary(2**n)},
            "FlipSign": lambda: {"bits": tuple(int(b) for b in self.rng.integers(2, size=n))},
            "Permute": lambda: {"order": tuple(int(k) for k in self.rng.permutation(n))},
            "MultiControlledX": lambda: {"values": self.bits(n - 1)},
        }.get(name, dict)()
        return Op(name, (), some, options=options)

    def own(self, name=None) -> Op:
        """Draws a gate of a user's own."""
        name = name or self.pick([name for name, gate in OWN.items() if gate.wires <= self.n])
        angle = self.angles.angle(batched=False)
        return Op(name, (angle,), self.some_wires(OWN[name].wires))

    def evolution(self, name, wires) -> Op:
        """Draws exp(-i t H), with numbers or angles as coefficients."""
        many = int(self.rng.integers(1, 3)) if name == "evolve" else 1
        words = tuple(self.word(len(wires)) for _ in range(many))
        coefficients = [("number", self.pick([1.0, 0.5, 0.3, -1.5])) for _ in words]
        if many == 1 and self.rng.random() < 0.5:
            coefficients = [("number", 1.0)]
        if "scales" in self.features and self.rng.random() < 0.3:
            # A generator of any scale, and a time that makes up for it.
            scale = self.pick([1e-12, 1e-10, 1e-6, 1e3, 1e9, 1e12])
            angle = ("mul", ("number", 1 / scale), self.angles.entry(batched=False))
            options = {"words": words[:1]}
            return Op(name, (angle, ("number", scale)), wires, options=options)
        angle = self.angles.angle(batched=False)  # PennyLane broadcasts no evolutions
        return Op(name, (angle, *coefficients), wires, options={"words": words})

    def word(self, n: int) -> str:
        """Draws a Pauli word with no wire left out."""
        return "".join(self.pick("XYZ") for _ in range(n))

    def bits(self, n: int) -> str:
        return "".join(str(bit) for bit in self.rng.integers(2, size=n))

    def unitary(self, size: int) -> list:
        """Draws a unitary matrix, of the exponential of a Hermitian one."""
        matrix = self.rng.normal(size=(size, size)) + 1j * self.rng.normal(size=(size, size))
        return np.linalg.qr(matrix)[0].tolist()

    # --- around gates ---

    def around(self) -> Op:
        """Draws something around gates."""
        kinds = ["adjoint", "pow", "prod", "adjoint"]
        if self.n > 1:
            kinds += ["ctrl"] * 4 + ["Select", "ControlledSequence", "prod"]
        kinds += ["Reflection"]
        return self.wrapper(self.pick(kinds))

    def wrapper(self, kind) -> Op:
        wires = list(self.some_wires(self.n))
        if kind in ("ctrl", "Select", "ControlledSequence"):
            most = 1 if kind != "ctrl" else min(2, self.n - 1)
            number = int(self.rng.integers(1, most + 1))
            controls, wires = tuple(wires[:number]), wires[number:]
        if kind == "ctrl":
            options = {"values": self.bits(number) if self.rng.random() < 0.4 else "1" * number}
            return Op(kind, (), controls, (self._inside(wires),), self._form(options))
        if kind == "Select":
            return Op(kind, (), controls, tuple(self.gate(wires) for _ in range(2)))
        if kind == "ControlledSequence":
            return Op(kind, (), controls, (self.parametric(wires),))
        if kind == "prod":
            return Op(kind, (), (), tuple(self.gate(wires) for _ in range(2)))
        if kind == "pow":
            exponent = self.pick([2, 3, -1, -2, 1])
            inner = self.pick([self.parametric, self.parametric, self.constant])(wires)
            return Op(kind, (), (), (inner,), {"exponent": exponent})
        if kind == "Reflection":
            angle = self.angles.angle(batched=False)
            inner = Op("RY", (("number", 0.6),), tuple(wires[:1]))
            return Op(kind, (angle,), (), (inner,))
        return Op("adjoint", (), (), (self._inside(wires),), self._form({}))

    def _form(self, options):
        return {**options, "as function": True} if self.rng.random() < 0.3 else options

    def _inside(self, wires) -> Op:
        """Draws what to control or invert: a gate, or something around one."""
        kind = self.rng.random()
        if kind < 0.12:
            return Op("adjoint", (), (), (self.gate(wires),))
        if kind < 0.2:
            return Op("pow", (), (), (self.parametric(wires),), {"exponent": self.pick([2, -1])})
        if kind < 0.28:
            return Op("prod", (), (), (self.gate(wires), self.gate(wires)))
        if kind < 0.34 and len(wires) > 1:
            options = {"values": self.bits(1)}
            return Op("ctrl", (), tuple(wires[:1]), (self.gate(wires[1:]),), options)
        if kind < 0.4 and "templates" in self.features:
            name = self.pick(["AngleEmbedding", "BasicEntanglerLayers", "StronglyEntanglingLayers"])
            return self.template(name, tuple(wires[:2]))
        return self.gate(wires)

    # --- templates ---

    def template(self, name=None, wires=None) -> Op:
        """Draws a template on all wires, in random order."""
        if name is None:
            name = self.pick([name for name, (least, *_) in TEMPLATES.items() if least <= self.n])
        least, most, draw = TEMPLATES[name]
        if wires is None:
            wires = self.some_wires(int(self.rng.integers(least, min(most, self.n) + 1)))
        shapes, options = draw(self, len(wires))
        angles = tuple(self.angles.tensor(shape) for shape in shapes)
        if name == "AngleEmbedding" and "batch" in self.features:
            batched = self.angles.leaves[0]
            angles, wires = (("leaf", batched.name),), wires[: batched.array.shape[1]]
            if len(wires) < batched.array.shape[1]:
                return self.parametric(wires)
        if name in ("TrotterProduct", "ApproxTimeEvolution", "CommutingEvolution"):
            numbers = [("number", self.pick([1.0, 0.5, -0.7])) for _ in options["words"]]
            angles = (self.angles.angle(batched=False), *numbers)
        return Op(name, angles, wires, options=options)


def _evolved(commuting):
    def draw(gates, n):
        pool = ["Z" * n, "Z" + "I" * (n - 1), "I" * (n - 1) + "Z"]
        if not commuting:
            return [], {"words": ("X" + gates.word(n)[1:], "Z" * n)}
        return [], {"words": tuple(dict.fromkeys(gates.pick(pool) for _ in range(2)))}

    return draw


def _start(gates, n):
    return tuple(int(bit) for bit in gates.rng.permutation([1, 0] * n)[:n])


# Least and most number of wires, and shapes of tensors and options for n wires.
TEMPLATES = {
    "AngleEmbedding": (1, 3, lambda g, n: ([(n,)], {"rotation": g.pick("XYZ")})),
    "BasicEntanglerLayers": (1, 3, lambda g, n: ([(g.pick([1, 2]), n)], {})),
    "StronglyEntanglingLayers": (1, 3, lambda g, n: ([(1, n, 3)], {})),
    "IQPEmbedding": (1, 3, lambda g, n: ([(n,)], {"n_repeats": g.pick([1, 2])})),
    "QAOAEmbedding": (
        1,
        3,
        lambda g, n: ([(n,), (1, {1: 1, 2: 3}.get(n, 2 * n))], {"local_field": g.pick("XYZ")}),
    ),
    "SimplifiedTwoDesign": (2, 3, lambda g, n: ([(n,), (1, n - 1, 2)], {})),
    "RandomLayers": (1, 3, lambda g, n: ([(1, 3)], {"seed": int(g.rng.integers(100))})),
    "ParticleConservingU1": (2, 3, lambda g, n: ([(1, n - 1, 2)], {"init_state": _start(g, n)})),
    "ParticleConservingU2": (2, 3, lambda g, n: ([(1, 2 * n - 1)], {"init_state": _start(g, n)})),
    "FermionicSingleExcitation": (2, 3, lambda g, n: ([()], {})),
    "ArbitraryUnitary": (1, 1, lambda g, n: ([(3,)], {})),
    "MPS": (2, 3, lambda g, n: ([(n - 1, 2)], {})),
    "TrotterProduct": (1, 3, _evolved(False)),
    "ApproxTimeEvolution": (1, 3, _evolved(False)),
    "CommutingEvolution": (1, 3, _evolved(True)),
    "SelectPauliRot": (2, 3, lambda g, n: ([(2 ** (n - 1),)], {"rot_axis": g.pick("XYZ")})),
    "GateFabric": (
        4,
        4,
        lambda g, n: (
            [(1, 1, 2)],
            {"init_state": _start(g, n), "include_pi": bool(g.pick([0, 1]))},
        ),
    ),
    "FermionicDoubleExcitation": (4, 4, lambda g, n: ([()], {})),
    "AllSinglesDoubles": (4, 4, lambda g, n: ([(3,)], {})),
    "UCCSD": (4, 4, lambda g, n: ([(2,)], {})),
}
