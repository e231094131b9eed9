"""Whether the matrix, decomposition, generator and frequencies of a user's gate agree.

Devices use a gate's matrix or its decomposition; derivatives follow from its frequencies, its
recipe or its generator. If a class inherits one of these and overrides another, they may describe
two different gates. Results would then be wrong on some devices and right on others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.operation import Operation, Operator
from pennylane.ops.op_math import Adjoint
from scipy.linalg import expm

from qshift.circuits.identity import WIDEST_CUSTOM, contains_custom, is_custom, operators
from qshift.circuits.pennylane_internals import OPERATORS
from qshift.circuits.smooth_decompositions import parts, require_inverse
from qshift.errors import UnsupportedError
from qshift.rules.planner import Recipe, Spectrum
from qshift.rules.shift_rule import shift_rule

_DIFFERENT = 1e-5  # between two matrices of one gate, relative
_SAME = 1e-9  # between two spectra of one gate, relative
_STEP = 1e-3  # of differences, times the largest frequency

# (the attribute of a gate that states a spectrum, the class that has the attribute, the spectrum)
Statement = tuple[str, type, Spectrum]


def require_consistent(op: Operator) -> None:
    """Raises UnsupportedError if a constant gate of a user's contradicts itself."""
    if contains_custom(op) and len(op.wires) <= WIDEST_CUSTOM:
        require_one_gate(op)


def require_one_gate(op: Operator) -> None:
    """Raises UnsupportedError if matrix, decomposition and generator of a gate do not agree.

    Args:
        op: A gate with numbers as parameters.
    """
    for part in operators(op):
        if isinstance(part, Adjoint):
            require_inverse(part.base)
    stated, made = _forms(op)
    grown = _computed(lambda: _of_generator(op)) if len(op.data) == 1 else None
    known = {"matrix": stated, "decomposition": made, "generator": grown}
    known = {name: matrix for name, matrix in known.items() if matrix is not None}
    pairs: list[tuple[str, Any]] = list(known.items()) if known else [("", None)]
    (first, one), *others = pairs
    tolerance = _DIFFERENT + 1e-14 * max(
        (np.max(np.abs(x), initial=0.0) for x in op.data), default=0.0
    )
    for name, other in others:
        overlap = np.vdot(other, one) / len(one)
        if not np.allclose(overlap * other, one, rtol=0, atol=tolerance):
            raise UnsupportedError(
                f"The {first} and the {name} of {op.name} are those of two gates"
                f"{_inherited(op, first, name)}, and devices use the one or the other. Override "
                f"both, or take the one that is wrong away (has_{name} = False)."
            )


def matrix_of(op: Operator) -> np.ndarray | None:
    """Returns the matrix of a gate with numbers as parameters, if it can be computed."""
    return _computed(lambda: _matrix(op))


def forms(op: Operator) -> list[np.ndarray | None]:
    """Returns the matrix of a gate with numbers as parameters, and that of its decomposition."""
    return [] if len(op.wires) > WIDEST_CUSTOM else _forms(op)


def _forms(op: Operator) -> list[Any]:
    stated = _computed(lambda: _matrix(op)) if op.has_matrix else None
    return [stated, _computed(lambda: _of_parts(op))]


def spectrum_of(op: Operator, parameter: int, statements: Sequence[Statement]) -> Spectrum | None:
    """Returns the first stated spectrum of a parameter that agrees with the gate's unitary.

    Args:
        op: A gate with numbers as parameters.
        parameter: Which of them.
        statements: All statements about the spectrum.

    Raises:
        UnsupportedError: If a statement by a user's class does not agree with the unitary.
    """
    unitary, found = _unitary(op, parameter), None
    for source, owner, spectrum in statements:
        if unitary is None or _holds(spectrum, unitary):
            found = found or spectrum
        elif is_custom(owner):
            raise UnsupportedError(
                f"The {source} of {op.name} is not that of its matrix: derivatives by parameter "
                f"{parameter} that follow from it are not those of the gate. Correct it, or leave "
                "it out; frequencies are found from the generator too, and without one gates are "
                "decomposed."
            )
    return found


def agree(one: Sequence[Statement], other: Sequence[Statement]) -> bool:
    """Whether a gate makes the same statements about a spectrum at two sets of angles."""
    if [source for source, _, _ in one] != [source for source, _, _ in other]:
        return False
    return all(_alike(a, b) for (_, _, a), (_, _, b) in zip(one, other, strict=True))


def _alike(one: Any, other: Any) -> Any:
    if type(one) is not type(other):
        return False
    a, b = (np.array(x.terms if isinstance(x, Recipe) else x.values) for x in (one, other))
    return a.shape == b.shape and np.allclose(a, b, rtol=_SAME, atol=0)


def scale_of(statements: Sequence[Statement]) -> float:
    """Returns the order of magnitude of the largest stated frequency; 1 if none is stated."""
    for _, _, spectrum in statements:
        largest = sum(abs(c) for c, _, _ in _terms(spectrum, 1))
        if largest:
            return largest
    return 1.0


def _unitary(op: Operator, parameter: Any) -> Callable[[float], np.ndarray] | None:
    """Returns a gate's unitary as a function of one of its parameters; None if there is none."""
    leaves, structure = qml.pytrees.flatten(op)
    if len(op.wires) > WIDEST_CUSTOM or len(leaves) != len(op.data) or any(map(np.ndim, leaves)):
        return None

    def unitary(angle: Any) -> Any:
        moved = [angle if i == parameter else leaf for i, leaf in enumerate(leaves)]
        with qml.QueuingManager.stop_recording():
            gate = qml.pytrees.unflatten(moved, structure)
        return _matrix(gate) if gate.has_matrix else _of_parts(gate)

    return None if _computed(lambda: unitary(leaves[parameter])) is None else unitary


def _matrix(op: Operator) -> Any:
    return np.asarray(op.matrix(), dtype=complex)


def _of_parts(op: Operator) -> Any:
    with qml.QueuingManager.stop_recording():
        found = parts(op)
        # PennyLane does not decompose the gate, but a subclass may define a decomposition.
        if found is None and is_custom(_owner(op, "decomposition")):
            found = op.decomposition()
    if found is None:
        raise ValueError("no decomposition")
    tape = qml.tape.QuantumScript(found)
    if not set(tape.wires) <= set(op.wires):
        raise ValueError("work wires")
    return np.asarray(qml.matrix(tape, wire_order=op.wires), dtype=complex)


def _of_generator(op: Operator) -> Any:
    with qml.QueuingManager.stop_recording():
        generator = qml.matrix(op.generator(), wire_order=op.wires)
    return expm(1j * op.data[0] * np.asarray(generator, dtype=complex))


def _computed(matrix: Any) -> Any:
    """Returns the matrix that a function computes, or None if that fails or is not one matrix."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = matrix()
    except Exception:  # a user's class may raise anything; code that needs the matrix reports it
        return None
    return found if found.ndim == 2 and np.isfinite(found).all() else None


def _inherited(op: Operator, *names: Any) -> str:
    """Says which of a gate's methods are inherited from one of PennyLane's gates."""
    for name in names:
        owner = _owner(op, name)
        if not is_custom(owner) and owner not in (*OPERATORS, Operation):
            return f" (the {name} is inherited from {owner.__name__})"
    return ""


def _owner(op: Operator, name: str) -> type:
    """Returns the class that defines an operator's representation of some name."""
    both = name, f"compute_{name}"
    return next(kind for kind in type(op).__mro__ if any(each in vars(kind) for each in both))


def _holds(spectrum: Any, unitary: Any) -> bool:
    """Whether the shift rules of a spectrum give the derivatives of a random expectation value, as
    compared with finite differences."""
    random = np.random.default_rng(0)
    size = len(unitary(0.0))
    real, imaginary = random.normal(size=(2, size))
    state = (real + 1j * imaginary) / np.linalg.norm([real, imaginary])
    real, imaginary = random.normal(size=(2, size, size))
    observable = (real + real.T + 1j * (imaginary - imaginary.T)) / size

    def value(x: Any) -> Any:
        after = unitary(x) @ state
        return float(np.real(np.vdot(after, observable @ after)))

    for order, floor in ((1, 1e-10), (2, 1e-7)):
        terms = _terms(spectrum, order)
        largest = sum(abs(c) for c, _, _ in terms) ** (1 / order) or 1.0
        angle, step = 0.4 / largest, _STEP / largest
        one, two = ([value(angle + k * step) for k in (-m, m)] for m in (1, 2))
        if order == 1:
            there = (8 * (one[1] - one[0]) - (two[1] - two[0])) / (12 * step)
        else:
            there = (16 * sum(one) - sum(two) - 30 * value(angle)) / (12 * step**2)
        found = sum(c * value(a * angle + s) for c, a, s in terms)
        if abs(found - there) > _DIFFERENT * max(abs(found), abs(there)) + floor * largest**order:
            return False
    return True


def _terms(spectrum: Any, order: int) -> Any:
    """Returns the rule of a spectrum, as triples (coefficient, scale, shift)."""
    if isinstance(spectrum, Recipe):
        return spectrum.rule(order)
    if not spectrum.values:
        return []
    rule = shift_rule(spectrum.values, order)
    return [(c, 1.0, s) for c, s in zip(rule.coefficients, rule.shifts, strict=True)]
