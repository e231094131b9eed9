"""The spectrum of every parameter of a gate, which the shift rules need.

An expectation value as a function of one gate parameter is a trigonometric polynomial whose
frequencies are the differences of the eigenvalues of the gate's generator (Wierichs, Izaac, Wang,
Lin 2022, Quantum 6:677, Sec. 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operator
from pennylane.ops.op_math import Adjoint, Controlled, Evolution, Exp, Pow, SymbolicOp
from pennylane.ops.qubit.attributes import supports_broadcasting

from qshift.circuits import consistency, generators
from qshift.circuits.identity import (
    WIDEST_CUSTOM,
    fingerprint,
    has_custom,
    hashable,
    is_custom,
    kept,
)
from qshift.circuits.pennylane_internals import ADJOINTS, CONTROLLED, OPERATORS, POWERS
from qshift.circuits.scalars import is_number
from qshift.circuits.user_decompositions import withdraws_rules
from qshift.rules.planner import Frequencies, Recipe, Spectrum

# PennyLane has no such gates from 0.46 on.
_OF_CONTINUOUS_VARIABLES: Any = getattr(qml.operation, "CVOperation", ())

# Gates whose batch size some of PennyLane's releases do not find.
with qml.QueuingManager.stop_recording():
    _BATCHES = [
        qml.GlobalPhase(np.zeros(2)),
        qml.ControlledQubitUnitary(np.array([np.eye(2)] * 2), [0, 1]),
    ]
_UNCOUNTED = {gate.name for gate in _BATCHES if gate.batch_size is None}

# Gates whose parameters are those of another one, their base.
_HELD = {*ADJOINTS, *CONTROLLED, *POWERS}
if "ControlledQubitUnitary" in _UNCOUNTED:
    _HELD.add(qml.ControlledQubitUnitary)

_WITHOUT_EFFECT = (qml.Identity, qml.Barrier, qml.GlobalPhase, qml.Snapshot)

_SINE = {(0.5, 1.0, round(np.pi / 2, 9)), (-0.5, 1.0, round(-np.pi / 2, 9))}

# Gates that every device with adjoint differentiation differentiates rightly. default.qubit needs
# gates with one parameter and a generator; lightning.qubit skips or replaces some of these.
SUITS_ADJOINT = frozenset(
    "RX RY RZ PhaseShift CRX CRY CRZ ControlledPhaseShift IsingXX IsingXY IsingYY IsingZZ MultiRZ "
    "SingleExcitation SingleExcitationPlus SingleExcitationMinus "
    "DoubleExcitation DoubleExcitationPlus DoubleExcitationMinus GlobalPhase".split()
)


def suits_adjoint(op: Operator) -> bool:
    """Whether devices differentiate a gate themselves; others are decomposed for them."""
    if isinstance(op, Controlled) and standard_name(op) not in SUITS_ADJOINT:
        op = op.base
    return standard_name(op) in SUITS_ADJOINT


def has_no_effect(op: Operator) -> bool:
    """Whether a gate changes no expectation value."""
    return isinstance(op, _WITHOUT_EFFECT) and not is_custom(type(op))  # type: ignore[arg-type]


def broadcasts(op: Operator) -> bool:
    """Whether devices can run a gate at several angles at once."""
    name = standard_name(op)
    # PennyLane decomposes FermionicSWAP into an exp(), and takes the truth value of its
    # coefficients, which fails for a batch.
    return name in supports_broadcasting and name != "FermionicSWAP" and name not in _UNCOUNTED


def standard_name(op: Operator) -> str | None:
    """Returns the name of one of PennyLane's own gates; None for a user's, whatever its name."""
    return None if is_custom(type(op)) else op.name  # type: ignore[arg-type]


def spectra(op: Operator) -> tuple[Spectrum | None, ...]:
    """Returns the spectrum of each parameter of a gate; None where no exact rule is known.

    In order of preference: the gate's ``grad_recipe``, the frequencies it states itself, and the
    eigenvalues of its generator.

    Args:
        op: A PennyLane gate or channel.

    Returns:
        One entry per entry of ``op.data``.
    """
    if isinstance(op, qml.ops.Conditional):
        op = op.base  # the branches do not interfere
    key = _Key(op)
    return _of_custom(key) if key.is_custom else _spectra(key)


def data_positions(op: Operator, leaves: Sequence[Any]) -> list[int | None]:
    """Returns, for each leaf of a flattened gate, which entry of ``op.data`` it is.

    The entry is None for a leaf that is no parameter of the gate but that its generator depends on,
    such as a coefficient of the Hamiltonian in an ``Evolution``.
    """
    if len(leaves) == len(op.data):
        return list(range(len(leaves)))
    before = len(leaves) - len(op.data)
    if before > 0 and all(a is b for a, b in zip(leaves[before:], op.data, strict=True)):
        return [None] * before + list(range(len(op.data)))
    positions: list[int | None] = [None] * len(leaves)
    for i, parameter in enumerate(op.data):
        for k in reversed(range(len(leaves))):
            if leaves[k] is parameter and positions[k] is None:
                positions[k] = i
                break
    return positions


def ndim(op: Operator, parameter: int) -> int:
    """Returns how many dimensions an entry of ``op.data`` has without a batch."""
    held = _holder(op)
    if standard_name(held) in _UNCOUNTED:
        return 0
    if parameter >= len(held.data):  # values that wires are controlled on
        return qml.math.ndim(op.data[parameter])
    try:
        return held.ndim_params[parameter]
    except (AttributeError, TypeError):  # PennyLane's Evolution has none, and sums have None
        return 0


def batch_size(op: Operator) -> int | None:
    """Returns the size of a gate's batch, or None if there is none."""
    held = _holder(op)
    if standard_name(held) in _UNCOUNTED:
        return next((qml.math.shape(x)[0] for x in held.data if qml.math.ndim(x)), None)
    return held.batch_size


def _holder(op: Operator) -> Operator:
    """Returns the gate inside of an adjoint, power or controlled gate, which has its parameters and
    knows their shapes; in some of PennyLane's releases, the outer gate does not."""
    while type(op) in _HELD:
        op = op.base
    return op


class _Key:
    """A gate as the key of a cache: equal for gates that differ in their parameters only."""

    def __init__(self, op: Operator) -> None:
        self.op = op
        leaves, structure = qml.pytrees.flatten(op)
        positions = data_positions(op, leaves)
        others = [leaf for leaf, i in zip(leaves, positions, strict=True) if i is None]
        self.is_concrete = all(is_number(leaf) for leaf in others)
        fixed = fingerprint(others) if self.is_concrete else None
        self.is_custom = has_custom(structure)
        self._identity = (hashable(structure), fixed, kept(op) if self.is_custom else None)
        self._hash = hash(self._identity)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._identity == other._identity


@lru_cache(maxsize=4096)
def _spectra(key: _Key) -> tuple[Spectrum | None, ...]:
    op, key.op = key.op, None  # the cache must not keep tensors alive
    if not _may_have_rules(op, key):
        return (None,) * len(op.data)
    if isinstance(op, Adjoint):
        return spectra(op.base)
    if isinstance(op, qml.PauliRot) and not set(op.hyperparameters["pauli_word"]) - {"I"}:
        return (Frequencies(()),)  # a global phase, for which PennyLane states no frequencies
    if isinstance(op, SymbolicOp):
        op = _at_numbers(op, [0.1] * len(op.data))
    return tuple(_first(_statements(op, i)) for i in range(len(op.data)))


def _first(statements: Iterable[Any]) -> Frequencies | None:
    return next((spectrum for _, _, spectrum in statements), None)


def _may_have_rules(op: Operator, key: _Key) -> bool:
    if not isinstance(op, Operator) or isinstance(op, _OF_CONTINUOUS_VARIABLES):
        return False  # recipes of continuous-variable gates hold for some observables only
    return key.is_concrete and _is_exponential(op)


def _of_custom(key: Any) -> tuple[Spectrum | None, ...]:
    """Returns the spectra of a user's gate, or of a gate made of one, checked against its matrix.

    The class's statements are read anew at every call, as they may depend on variables of the
    user's program.
    """
    op = key.op
    if not _may_have_rules(op, key):
        return (None,) * len(op.data)
    base = op
    while isinstance(base, Adjoint):
        base = base.base
    at = _at_numbers(base, [0.4 + 0.1 * i for i in range(len(op.data))])
    elsewhere = _at_numbers(base, [0.9 - 0.13 * i for i in range(len(op.data))])
    statements = []
    for i in range(len(op.data)):
        stated, again = tuple(_statements(at, i)), tuple(_statements(elsewhere, i))
        # Frequencies that change with the parameters allow no shift rule.
        statements.append(stated if consistency.agree(stated, again) else ())
    matrices = fingerprint([each for gate in (at, elsewhere) for each in consistency.forms(gate)])
    return _consistent(key, tuple(statements), matrices)


@lru_cache(maxsize=4096)
def _consistent(key: Any, statements: Any, _: Any) -> tuple[Spectrum | None, ...]:
    """Returns the spectra of a user's gate that agree with its matrix.

    Args:
        key: The gate.
        statements: For each parameter, the gate's statements about its spectrum.
        _: A fingerprint of the gate's matrices, so that the cache notices when these change.
    """
    op, key.op = key.op, None  # the cache must not keep tensors alive
    # The angles are scaled with the frequencies, so that their products are around one.
    numbers = [(0.4 + 0.1 * i) / consistency.scale_of(said) for i, said in enumerate(statements)]
    op = _at_numbers(op, numbers)
    if len(op.wires) <= WIDEST_CUSTOM:
        consistency.require_one_gate(op)
    return tuple(consistency.spectrum_of(op, i, said) for i, said in enumerate(statements))


def _is_exponential(op: Operator) -> bool:
    """Whether a gate may be exp(i x G) in each parameter x. It is not if the gate, or a gate inside
    of it, is a fractional power, has a complex exponent, or has withdrawn its rules."""
    if withdraws_rules(type(op)):
        return False
    if isinstance(op, Exp) and not isinstance(op, Evolution):
        return False  # its parameter is the complex exponent
    if isinstance(op, qml.CommutingEvolution):
        return False  # its recipe is PennyLane's, which is wrong for some frequencies
    if isinstance(op, Pow) and op.z != int(op.z):
        return False  # the principal root jumps where an eigenvalue crosses -1
    return not isinstance(op, SymbolicOp) or _is_exponential(op.base)


def _at_numbers(op: Operator, numbers: Any) -> Operator:
    """Returns a gate with numbers in place of its angles, which may be tensors of a graph: the
    methods of an Evolution read the values of its angles. Angles that are a batch become a batch
    of equal numbers, if its own are not known or none."""
    if not op.data:
        return op
    leaves, structure = qml.pytrees.flatten(op)
    angles = [
        (i, position)
        for i, position in enumerate(data_positions(op, leaves))
        if position is not None and (not qml.math.ndim(leaves[i]) or _is_without_numbers(leaves[i]))
    ]
    if not angles:
        return op  # unchanged: PennyLane cannot put layers of one wire together again
    for i, position in angles:
        sizes = [size or 2 for size in qml.math.shape(leaves[i])]
        leaves[i] = np.full(sizes, numbers[position]) if sizes else numbers[position]
    with qml.QueuingManager.stop_recording():
        return qml.pytrees.unflatten(leaves, structure)


def _is_without_numbers(array: Any) -> bool:
    """Whether an array is empty, or a tensor whose numbers are known only when its graph runs."""
    return qml.math.is_abstract(array) or not all(qml.math.shape(array))


def _statements(op: Operator, parameter: int) -> Iterator[consistency.Statement]:
    """Yields a gate's statements about the spectrum of a parameter, the most reliable first: (the
    attribute that states it, the class that has the attribute, the spectrum)."""
    recipe = (getattr(op, "grad_recipe", None) or [None] * len(op.data))[parameter]
    if recipe is not None:
        yield "grad_recipe", _owner(op, "grad_recipe"), _from_recipe(recipe)
    owner = _owner(op, "parameter_frequencies")
    stated = vars(owner).get("parameter_frequencies")
    # PennyLane's own way from a generator to frequencies rounds them.
    if is_custom(owner) or isinstance(stated, list):
        frequencies = _stated(op)
        if frequencies is not None and frequencies[parameter] is not None:
            values = tuple(map(float, frequencies[parameter]))
            yield "parameter_frequencies", owner, Frequencies(values)
    for owner, values in _registered(op, parameter):
        yield "parameter_frequencies", owner, Frequencies(values)
    if len(op.data) == 1:
        found = generators.frequencies(op)
        if found is not None:
            yield "generator", _owner(op, "generator"), Frequencies(found)


def _stated(op: Operator) -> list[Any] | None:
    try:
        return op.parameter_frequencies
    except (AttributeError, qml.exceptions.ParameterFrequenciesUndefinedError):
        return None


def _registered(op: Operator, parameter: int) -> Iterator[tuple[type, tuple[float, ...]]]:
    """Yields the class and the frequencies that are registered for a gate of the new kind: such a
    gate has no frequencies as an attribute."""
    if isinstance(op, OPERATORS[1:]):
        known = qml.gradients.parameter_frequencies
        owner = next(kind for kind in type(op).__mro__ if kind in known.registry)
        if owner is not OPERATORS[1]:  # the base class computes frequencies and rounds them
            yield owner, tuple(map(float, known(op)[parameter]))


def _owner(op: Operator, name: str) -> type:
    """Returns the class that defines an operator's attribute."""
    return next((kind for kind in type(op).__mro__ if name in vars(kind)), type(op))


def _from_recipe(recipe: Sequence[list[float]]) -> Spectrum:
    terms = tuple((float(c), float(a), float(s)) for c, a, s in recipe)
    if {(c, a, round(s, 9)) for c, a, s in terms} == _SINE:
        return Frequencies((1.0,))  # only frequency one satisfies this recipe
    return Recipe(terms)
