"""What shifting a gate's parameters can tell: the spectrum of every parameter of a gate.

An expectation value as a function of one gate parameter is a trigonometric polynomial whose
frequencies are the differences of the eigenvalues of the gate's generator (Wierichs, Izaac, Wang,
Lin 2022, Quantum 6:677, Sec. 2).
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import pennylane as qml
from pennylane.operation import CVOperation, Operation, Operator
from pennylane.ops.op_math import Adjoint, Controlled
from pennylane.pytrees import PyTreeStructure

from qshift.plan import Frequencies, Recipe, Spectrum

_WIDEST_GENERATOR = 10  # wires; beyond, the eigenvalues are not worth having
_SINE = {(0.5, 1.0, round(np.pi / 2, 9)), (-0.5, 1.0, round(-np.pi / 2, 9))}


def spectra(op: Operator) -> tuple[Spectrum | None, ...]:
    """Returns the spectrum of each parameter of a gate; None where no exact rule is known.

    In order of preference: the gate's ``grad_recipe``, the frequencies it states itself, and the
    eigenvalues of its generator.

    Args:
        op: A PennyLane gate or channel.

    Returns:
        One entry per entry of ``op.data``.
    """
    return _spectra(_Key(op))


class _Key:
    """Compares gates by everything but their parameters."""

    def __init__(self, op: Operator):
        self.op = op
        leaves, structure = qml.pytrees.flatten(op)
        self.structure: PyTreeStructure = structure
        self._hash = hash((structure, len(leaves)))

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        return self.structure == other.structure


@lru_cache(maxsize=4096)
def _spectra(key) -> tuple[Spectrum | None, ...]:
    op = key.op
    unknown = (None,) * len(op.data)
    if not isinstance(op, Operator) or isinstance(op, CVOperation):
        return unknown  # recipes of continuous-variable gates hold for some observables only
    if isinstance(op, Adjoint):
        return spectra(op.base)
    recipes = getattr(op, "grad_recipe", None) or unknown
    if any(recipe is not None for recipe in recipes):
        return tuple(None if r is None else _from_recipe(r) for r in recipes)
    stated = vars(type(op)).get("parameter_frequencies")
    if isinstance(stated, list):
        return tuple(Frequencies(tuple(float(w) for w in ws)) for ws in stated)
    if len(op.data) == 1:
        frequencies = _from_generator(op)
        if frequencies is not None:
            return (Frequencies(frequencies),)
    if isinstance(stated, property) and stated is not Operation.parameter_frequencies:
        try:
            return tuple(Frequencies(tuple(map(float, ws))) for ws in op.parameter_frequencies)
        except qml.exceptions.ParameterFrequenciesUndefinedError:
            pass
    return unknown


def _from_recipe(recipe) -> Spectrum:
    terms = tuple((float(c), float(a), float(s)) for c, a, s in recipe)
    if {(c, a, round(s, 9)) for c, a, s in terms} == _SINE:
        return Frequencies((1.0,))  # only frequency one satisfies this recipe
    return Recipe(terms)


def _from_generator(op) -> tuple[float, ...] | None:
    """Returns the positive differences of the generator's eigenvalues, or None."""
    if not getattr(op, "has_generator", False):
        return None
    eigenvalues = _eigenvalues(op)
    if eigenvalues is None:
        return None
    # The noise of the eigensolver is far below any real difference.
    differences = np.abs(np.subtract.outer(eigenvalues, eigenvalues)).ravel()
    frequencies: list[float] = []
    for difference in np.sort(differences):
        if difference > (frequencies[-1] if frequencies else 0.0) + 1e-9:
            frequencies.append(float(difference))
    return tuple(frequencies)


def _eigenvalues(op) -> np.ndarray | None:
    if isinstance(op, Controlled):
        # A controlled gate does nothing (generator 0) unless the control wires agree.
        base = _eigenvalues(op.base)
        return None if base is None else np.append(base, 0.0)
    with warnings.catch_warnings(), qml.QueuingManager.stop_recording():
        warnings.simplefilter("ignore")
        try:
            generator = qml.generator(op, format="observable")
        except qml.exceptions.GeneratorUndefinedError:
            return None
        word = generator.pauli_rep
        if word is not None and len(word) == 1:
            ((word, coefficient),) = word.items()
            signs = (1.0,) if len(word) == 0 else (1.0, -1.0)
            return np.array(signs) * float(np.real(coefficient))
        if len(generator.wires) > _WIDEST_GENERATOR:
            return None
        return np.linalg.eigvalsh(qml.matrix(generator, wire_order=generator.wires))
