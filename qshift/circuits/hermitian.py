"""Whether an observable is Hermitian, found out from the observable and not from its values.

Other operators have complex expectation values. Devices return real numbers for them, and different
devices return different ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pennylane as qml
from cachetools import LRUCache
from pennylane.operation import Operator
from pennylane.ops import CompositeOp, Prod, SProd, Sum
from pennylane.ops.op_math import Adjoint, Controlled, Pow
from scipy import sparse

from qshift.circuits.identity import fingerprint, is_custom
from qshift.errors import UnsupportedError
from qshift.forks import Lock
from qshift.inputs import shown

_ROUNDING = 1e-12  # relative to the sum of the absolute values that a coefficient is the sum of
_SINGLE, _DOUBLE = 1e-5, 1e-9  # relative to the largest entry of a matrix, by its precision
WIDEST_MATRIX = 10  # wires
_WIDEST_SPARSE = 16
_MOST_BYTES = 2**24  # for the results that are remembered
# Fingerprint of an observable -> what is wrong with it, and the number of bytes of the entry.
_known: LRUCache[Hashable, tuple[str | None, int]] = LRUCache(_MOST_BYTES, itemgetter(1))
_looking_up = Lock()


def require_hermitian(observable: Operator) -> None:
    """Raises UnsupportedError for an observable that is not Hermitian.

    Rounding is allowed for. Sums and products count as Hermitian if they are so as a whole.

    Args:
        observable: An observable with numbers, without tensors.
    """
    if problem := hermitian_problem(observable):
        raise UnsupportedError(
            f"The observable {shown(observable)} is not Hermitian: {problem}. Its expectation "
            "values are complex, and devices return their real parts at best. Measure the real and "
            "the imaginary part, (O + O^dagger) / 2 and (O - O^dagger) / 2i, as two observables."
        )


def hermitian_problem(observable: Operator) -> str | None:
    """Returns why an observable with numbers only is not Hermitian; None if it is."""
    words = observable.pauli_rep
    if words is not None and all(map(_is_real, words.values())):
        return None
    name = fingerprint(observable)
    with _looking_up:
        if name in _known:
            return _known[name][0]
    problem = _problem(observable)
    size = 2**12 + sum(np.size(numbers) for numbers in observable.data) * 16
    if size <= _MOST_BYTES:
        with _looking_up:
            _known[name] = problem, size
    return problem


def _is_real(number: Any) -> bool:
    return number.imag == 0 and -np.inf < number.real < np.inf


def require_real(numbers: Any, what: str) -> None:
    """Raises UnsupportedError for numbers with imaginary parts that are more than rounding.

    Args:
        numbers: Numbers or an array.
        what: What the message calls the numbers.
    """
    numbers = np.asarray(numbers)
    if np.iscomplexobj(numbers) and _exceeds(np.imag(numbers), np.abs(numbers), numbers.dtype):
        raise UnsupportedError(
            f"{what}: {shown(numbers.ravel()[np.argmax(np.abs(np.imag(numbers)))])} is not real, "
            "so what is measured is not Hermitian. Measure the real and the imaginary part."
        )


def _exceeds(differences: np.ndarray, sizes: np.ndarray, dtype: Any) -> bool:
    if not np.size(differences):
        return False
    return bool(np.max(np.abs(differences)) > rounding(dtype) * np.max(sizes))


def rounding(dtype: Any) -> float:
    """Returns how much of the largest number of a NumPy dtype may be rounding."""
    return _SINGLE if dtype in (np.complex64, np.float32) else _DOUBLE


def _problem(op: Operator) -> str | None:
    """Returns why an observable is not Hermitian; None if it is."""
    if op.pauli_rep is not None:
        return _of_words(op)
    if isinstance(op, SProd) and not np.imag(op.scalar):
        return _problem(op.base)
    if isinstance(op, Adjoint | Controlled):
        return _problem(op.base)
    if isinstance(op, Pow) and op.z == int(op.z) and not _problem(op.base):
        return None
    if isinstance(op, Sum):
        others = [term for term in op.operands if _problem(term)]
        if not others:
            return None
        # Imaginary parts may cancel, but not with terms that have none.
        return _of_matrix(others[0] if len(others) == 1 else qml.sum(*others))
    if isinstance(op, Prod):
        groups = _overlapping(op.operands)
        if len(groups) > 1 and not any(_problem(_product(group)) for group in groups):
            return None
    return _of_matrix(op)


def _product(factors: Sequence[Operator]) -> Operator:
    return factors[0] if len(factors) == 1 else qml.prod(*factors)


def _overlapping(factors: Sequence[Operator]) -> list[list[Operator]]:
    """Sorts factors into groups that have no wires in common."""
    groups: list[list[Operator]] = []
    for factor in factors:
        touched: list[list[Operator]] = []
        apart: list[list[Operator]] = []
        for group in groups:
            shares = any(set(factor.wires).intersection(each.wires) for each in group)
            (touched if shares else apart).append(group)
        groups = [*apart, [*(each for group in touched for each in group), factor]]
    return groups


def _of_words(op: Operator) -> str | None:
    sizes = None
    for word, coefficient in op.pauli_rep.items():
        if _is_real(coefficient):
            continue
        sizes = sizes or _sizes(op)
        tolerance = _SINGLE if isinstance(coefficient, np.complex64) else _ROUNDING
        if not abs(coefficient.imag) <= tolerance * sizes.get(word, 0.0) < np.inf:
            return f"it has the term {complex(coefficient):.6g} {word}"
    return None


def _sizes(op: Operator) -> dict:
    """Returns for each Pauli word the sum of the absolute values of the numbers that add up to its
    coefficient. The coefficient's rounding error is a small part of that sum."""
    if isinstance(op, SProd):
        return {word: abs(op.scalar) * size for word, size in _sizes(op.base).items()}
    if isinstance(op, Sum):
        pairs = [pair for each in op.operands for pair in _sizes(each).items()]
    elif isinstance(op, Prod):
        first, *others = map(_sizes, op.operands)
        for other in others:
            pairs = [(next(iter(a @ b)), x * y) for a, x in first.items() for b, y in other.items()]
            first = _added(pairs)
        return first
    else:
        return {word: abs(c) for word, c in op.pauli_rep.items()}
    return _added(pairs)


def _added(pairs: Any) -> dict:
    found: dict = {}
    for word, size in pairs:
        found[word] = found.get(word, 0.0) + size
    return found


def _of_matrix(op: Operator) -> str | None:
    """Returns why an observable is not Hermitian, found out from its matrix or its other
    representations; None if it is."""
    if isinstance(op, qml.Projector) and not is_custom(type(op)):  # type: ignore[arg-type]
        return None
    single = any(getattr(x, "dtype", None) in (np.complex64, np.float32) for x in op.data)
    precision = np.dtype(np.complex64 if single else np.complex128)
    if isinstance(op, qml.SparseHamiltonian):
        return _of_entries(op.sparse_matrix(), precision)
    if op.has_matrix and len(op.wires) <= WIDEST_MATRIX:
        return _of_entries(np.asarray(qml.matrix(op, wire_order=op.wires)), precision)
    if op.has_sparse_matrix and len(op.wires) <= _WIDEST_SPARSE:
        return _of_entries(op.sparse_matrix(wire_order=op.wires), precision)
    if op.is_verified_hermitian:
        return None
    if op.has_diagonalizing_gates and not isinstance(op, CompositeOp | SProd):
        values = np.asarray(op.eigvals())
        if _exceeds(np.imag(values), np.abs(values), precision):
            return f"its eigenvalue {values[np.argmax(np.abs(np.imag(values)))]:.6g} is not real"
        return None
    return f"as far as is known; it has no matrix of up to {_WIDEST_SPARSE} wires to look at"


def _of_entries(matrix: Any, precision: Any) -> str | None:
    entries = matrix.tocoo().data if sparse.issparse(matrix) else matrix
    if not np.isfinite(entries).all():
        return "an entry of its matrix is not finite"
    difference = matrix - matrix.conj().T
    if sparse.issparse(difference):
        difference = difference.tocoo().data
    if not _exceeds(difference, np.abs(entries), precision):
        return None
    return "its matrix is not its own conjugate transpose"
