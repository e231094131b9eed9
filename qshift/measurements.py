"""What a circuit returns, reduced to expectation values and probabilities of fixed observables.

Only these are linear in the state, hence trigonometric polynomials that shift rules apply to.
Variances and observables with tensor coefficients are compositions of them, so TensorFlow's chain
rule gives all their derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.measurements import (
    ExpectationMP,
    MeasurementProcess,
    ProbabilityMP,
    VarianceMP,
)
from pennylane.pauli import PauliSentence, PauliWord

from qshift.errors import UnsupportedError

_ADVICE = {
    "StateMP": "return qml.expval(...) of the observables you need, or qml.probs(...)",
    "DensityMatrixMP": "return qml.expval(...) of a basis of observables on these wires",
    "SampleMP": "return qml.expval(...) or qml.probs(...), which are differentiable",
    "CountsMP": "return qml.probs(...) and multiply by the number of shots",
    "ClassicalShadowMP": "return qml.expval(...) of the observables you need",
    "ShadowExpvalMP": "return qml.expval(...) of the same observable",
    "VnEntropyMP": "return qml.probs(...) or qml.expval(...)",
    "MutualInfoMP": "return qml.probs(...) or qml.expval(...)",
    "PurityMP": "return qml.expval(qml.SWAP(...)) on two copies of the state",
}


@dataclass(frozen=True)
class Readout:
    """The fixed measurements of a circuit and how the results asked for follow from them.

    Attributes:
        raw: Expectation values and probabilities of fixed observables.
        sizes: Number of values each raw measurement gives.
        results: One function per measurement asked for, from raw values [N, M] to [N, ...].
    """

    raw: tuple[MeasurementProcess, ...]
    sizes: tuple[int, ...]
    results: tuple[Callable[[Any], Any], ...]


class _Raw:
    """Collects raw measurements, each observable once."""

    def __init__(self):
        self.measurements: list[MeasurementProcess] = []
        self.sizes: list[int] = []

    def add(self, measurement, size=1) -> slice:
        start = 0
        for known, known_size in zip(self.measurements, self.sizes, strict=True):
            if qml.equal(known, measurement):
                break
            start += known_size
        else:
            self.measurements.append(measurement)
            self.sizes.append(size)
        return slice(start, start + size)

    def expval(self, observable) -> int:
        return self.add(qml.expval(observable)).start


def read(
    measurements: Sequence[MeasurementProcess], all_wires, is_tensor: Callable[[Any], bool]
) -> Readout:
    """Reduces measurements to fixed expectation values and probabilities.

    Args:
        measurements: What the quantum function returns.
        all_wires: The wires that ``qml.probs()`` without wires measures.
        is_tensor: Whether a parameter of an observable is a TensorFlow tensor.

    Raises:
        UnsupportedError: For a measurement that is not a function of expectation values, and for
            a tensor inside an observable where its coefficient is not linear.
    """
    raw = _Raw()
    with qml.QueuingManager.stop_recording():
        results = tuple(_result(m, raw, all_wires, is_tensor) for m in measurements)
    return Readout(tuple(raw.measurements), tuple(raw.sizes), results)


def _result(measurement, raw, all_wires, is_tensor):
    kind = type(measurement)
    if kind is ExpectationMP:
        return _linear(_terms(measurement, raw, is_tensor))
    if kind is VarianceMP:
        mean = _linear(_terms(measurement, raw, is_tensor))
        mean_of_square = _linear(_square_terms(measurement, raw, is_tensor))
        return lambda values: mean_of_square(values) - mean(values) ** 2
    if kind is ProbabilityMP:
        if measurement.obs is None and not measurement.wires:
            measurement = ProbabilityMP(wires=qml.wires.Wires(all_wires))
        columns = raw.add(measurement, 2 ** len(measurement.wires))
        return lambda values: values[:, columns]
    advice = _ADVICE.get(kind.__name__, "return qml.expval(...), qml.var(...) or qml.probs(...)")
    raise UnsupportedError(
        f"{kind.__name__.removesuffix('MP')} ({measurement!r}) has no derivatives by shifted "
        f"circuits, so a qshift qnode cannot return it: {advice}, or use a qml.qnode."
    )


def _linear(terms):
    """Returns values [N, M] -> sum_k c_k values[:, k], with None as the column of the identity."""

    def result(values):
        total = 0.0
        for coefficient, column in terms:
            value = qml.math.ones_like(values[:, 0]) if column is None else values[:, column]
            if not isinstance(coefficient, float):
                coefficient = qml.math.cast(qml.math.real(coefficient), "float64")
                total = total + coefficient * value
            else:
                total = total + (value if coefficient == 1.0 else coefficient * value)
        return total

    return result


def _terms(measurement, raw, is_tensor):
    """Returns (coefficient, column) of an expectation value; fixed observables stay whole."""
    observable = measurement.obs
    if observable is None:  # of mid-circuit measurements, after deferring them
        mean = ExpectationMP(wires=measurement.wires, eigvals=_eigvals(measurement))
        return [(1.0, raw.add(mean).start)]
    if not any(is_tensor(parameter) for parameter in observable.data):
        return [(1.0, raw.expval(observable))]
    return [(c, raw.expval(word)) for c, word in _tensor_terms(observable, is_tensor)]


def _square_terms(measurement, raw, is_tensor):
    """Returns (coefficient, column) of the expectation value of the observable's square."""
    observable = measurement.obs
    if observable is None:
        squares = ExpectationMP(wires=measurement.wires, eigvals=_eigvals(measurement) ** 2)
        return [(1.0, raw.add(squares).start)]
    if any(is_tensor(parameter) for parameter in observable.data):
        terms = _tensor_terms(observable, is_tensor)
        words = [(c, _single_word(word)) for c, word in terms]
        squares = []
        for c, a in words:
            for d, b in words:
                product, phase = a @ b
                if np.isreal(phase):  # anticommuting pairs cancel
                    squares.append((c * d * float(np.real(phase)), _word_column(product, raw)))
        return squares
    if isinstance(observable, qml.Projector):
        return [(1.0, raw.expval(observable))]
    sentence = observable.pauli_rep
    if sentence is not None:
        square = sentence @ sentence
        square.simplify()
        identity = float(np.real(square.pop(PauliWord({}), 0.0)))
        terms = [(identity, None)] if identity or not square else []
        if square:
            terms.append((1.0, raw.expval(PauliSentence(square).operation())))
        return terms
    matrix = qml.matrix(observable, wire_order=observable.wires)
    return [(1.0, raw.expval(qml.Hermitian(matrix @ matrix, wires=observable.wires)))]


def _eigvals(measurement):
    return np.asarray(measurement.eigvals(), dtype=float)


def _word_column(word, raw):
    return raw.expval(word.operation()) if len(word) else None


def _single_word(observable):
    sentence = observable.pauli_rep
    if sentence is None or len(sentence) != 1:
        raise UnsupportedError(
            f"The variance of an observable with tensor coefficients needs Pauli words, got the "
            f"term {observable}. Write it as a linear combination of Pauli words."
        )
    ((word, _),) = sentence.items()
    return word


def _tensor_terms(observable, is_tensor):
    """Splits an observable with tensor coefficients into (coefficient, fixed observable)."""
    try:
        coefficients, words = observable.terms()
    except (qml.exceptions.TermsUndefinedError, AttributeError):
        coefficients, words = [1.0], [observable]
    for word in words:
        if any(is_tensor(parameter) for parameter in word.data):
            raise UnsupportedError(
                f"{word.name} has a TensorFlow tensor as a parameter, but only the coefficients of "
                "a linear combination of fixed observables can be tensors. Pass NumPy arrays, or "
                "write the observable as qml.Hamiltonian(coefficients, observables)."
            )
    return list(zip(coefficients, words, strict=True))
