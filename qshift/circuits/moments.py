"""Means and variances of observables, as functions of expectation values of fixed observables.

A mean is a linear combination of expectation values, with coefficients that may be tensors. A
variance is the mean of the square less the square of the mean. Each fixed observable is measured
once, whatever number of means and variances it appears in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.measurements import MeasurementProcess
from pennylane.operation import Operator
from pennylane.pauli import PauliSentence, PauliWord

from qshift.circuits.hermitian import WIDEST_MATRIX, require_hermitian, require_real, rounding
from qshift.circuits.identity import contains_custom, fingerprint
from qshift.circuits.pauli import signs, z_words
from qshift.circuits.terms import split
from qshift.circuits.user_observables import diagonalized
from qshift.errors import UnsupportedError

_ROUNDING = 1e-15  # relative to the largest term of a product; smaller terms have cancelled
_WIDEST_RANGE = 1e8  # the largest coefficient of one observable over the smallest


@dataclass(frozen=True)
class Columns:
    """A result that consists of raw values, unchanged."""

    columns: int | slice

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        return values[:, self.columns]

    def variance(self, covariances: Callable[[Sequence[int]], tf.Tensor]) -> tf.Tensor:
        """Returns the variances [N] of a single value, given a function from columns to their
        covariances [N, C, C]."""
        assert isinstance(self.columns, int)
        return covariances([self.columns])[:, 0, 0]


@dataclass(frozen=True)
class Linear:
    """The sum of c * values[:, k] over all terms (c, k). A term (c, None) is c times the
    identity."""

    terms: Sequence[Any]

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for coefficient, column in self.terms:
            value = qml.math.ones_like(values[:, 0]) if column is None else values[:, column]
            if not isinstance(coefficient, float):
                total = total + _number(coefficient) * value
            else:
                total = total + (value if coefficient == 1.0 else coefficient * value)
        return total

    def variance(self, covariances: Callable[[Sequence[int]], tf.Tensor]) -> tf.Tensor:
        """See `Columns`."""
        between = covariances([column for _, column in self.terms])
        rows = between.shape[:1]
        factors = [tf.broadcast_to(tf.cast(_number(c), tf.float64), rows) for c, _ in self.terms]
        factors = tf.stack(factors, axis=1)
        return tf.einsum("ni,nij,nj->n", factors, between, factors)


class Raw:
    """A collection of the fixed measurements that results are computed from, each once.

    Attributes:
        measurements: The measurements.
        sizes: The number of values that each gives.
    """

    def __init__(self) -> None:
        self.measurements: list[MeasurementProcess] = []
        self.sizes: list[int] = []
        self._starts: dict[Hashable, int] = {}

    def add(self, measurement: MeasurementProcess, size: int = 1) -> slice:
        """Returns the columns of a measurement among all values; adds it if it is new."""
        start = self._starts.setdefault(fingerprint(measurement), sum(self.sizes))
        if start == sum(self.sizes):
            self.measurements.append(measurement)
            self.sizes.append(size)
        return slice(start, start + size)

    def expval(self, observable: Operator) -> int:
        """Returns the column of an observable's expectation value; adds it if it is new.

        Raises:
            UnsupportedError: If the observable is not Hermitian.
        """
        require_hermitian(observable)
        observable = _of_known_class(observable)
        return self.add(qml.expval(observable)).start


def mean(observable: Operator, raw: Raw, is_tensor: Callable[[Any], bool]) -> Columns | Linear:
    """Returns the function from raw values [N, M] to the mean of an observable, [N].

    Args:
        observable: The observable. Its coefficients may be tensors.
        raw: The collection that the fixed measurements are added to.
        is_tensor: Whether a parameter of an observable is a TensorFlow tensor.

    Raises:
        UnsupportedError: If the observable is not Hermitian, or has a tensor that is no coefficient
            of a linear combination.
    """
    return _linear(_terms(observable, raw, is_tensor))


def variance(
    observable: Operator, raw: Raw, is_tensor: Callable[[Any], bool]
) -> Callable[[Any], Any]:
    """Returns the function from raw values [N, M] to the variance of an observable, [N]; arguments
    and errors as for `mean`."""
    if not any(is_tensor(parameter) for parameter in observable.data):
        observable = _without_constant(observable)
    average = mean(observable, raw, is_tensor)
    return _variance(average, _linear(_square_terms(observable, raw, is_tensor)))


def mean_of_outcomes(
    outcomes: Sequence[Any], wires: Sequence, raw: Raw, is_tensor: Callable[[Any], bool]
) -> Columns | Linear:
    """Returns the function from raw values [N, M] to the mean of a number that depends on the
    outcome of measuring some wires, [N].

    Args:
        outcomes: The number, for each of the 2**k outcomes of k wires. May hold tensors.
        wires: The wires, the first the most significant bit of an outcome.
        raw, is_tensor: As for `mean`.

    Raises:
        UnsupportedError: If a number is not real.
    """
    return _linear(_diagonal_terms(outcomes, wires, raw, is_tensor))


def variance_of_outcomes(
    outcomes: Sequence[Any], wires: Sequence, raw: Raw, is_tensor: Callable[[Any], bool]
) -> Callable[[Any], Any]:
    """Returns the function from raw values [N, M] to the variance, [N]; see `mean_of_outcomes`."""
    average = mean_of_outcomes(outcomes, wires, raw, is_tensor)
    squares = [outcome * outcome for outcome in outcomes]
    return _variance(average, mean_of_outcomes(squares, wires, raw, is_tensor))


def _variance(mean: Columns | Linear, mean_of_square: Callable) -> Callable[[Any], Any]:
    def result(values: tf.Tensor) -> tf.Tensor:
        average = mean(values)
        # Not a power: TensorFlow's third derivative of x**2 is NaN at 0.
        found = mean_of_square(values) - average * average
        # Where errors are asked for, `qshift.autodiff.program` says how values from samples vary.
        covariances = getattr(values, "qshift_covariances", None)
        return found if covariances is None else found + mean.variance(covariances)

    return result


def _of_known_class(observable: Operator) -> Operator:
    """Returns an observable that every device knows: devices find observables by their names, so
    an observable of a user's own class is returned as a matrix."""
    if not contains_custom(observable) or len(observable.wires) > WIDEST_MATRIX:
        return observable
    wires = observable.wires
    if observable.has_matrix:
        matrix = qml.matrix(observable, wire_order=wires)
    elif observable.has_diagonalizing_gates:
        matrix = diagonalized(observable)
    else:
        return observable
    return qml.Hermitian(np.asarray(matrix), wires=wires)


def _linear(terms: Sequence[Any]) -> Columns | Linear:
    """Returns the function from values [N, M] to the sum over terms; see `Linear`."""
    if len(terms) == 1:
        ((coefficient, column),) = terms
        if isinstance(coefficient, float) and coefficient == 1.0 and column is not None:
            return Columns(column)
    return Linear(terms)


def _real(coefficient: Any) -> Any:
    """Returns the real part of a coefficient.

    Raises:
        UnsupportedError: If it has an imaginary part. In a graph, TensorFlow raises an error of its
            own when it runs.
    """
    what = "A coefficient of an observable"
    if qml.math.get_interface(coefficient) != "tensorflow":
        require_real(coefficient, what)
    elif coefficient.dtype.is_complex:
        if tf.executing_eagerly():
            require_real(coefficient.numpy(), what)
        else:
            real, imaginary = tf.math.real(coefficient), tf.math.imag(coefficient)
            tolerance = rounding(coefficient.dtype.as_numpy_dtype)
            message = f"{what} is not real, so what is measured is not Hermitian."
            small = tf.abs(imaginary) <= tolerance * tf.abs(coefficient)
            with tf.control_dependencies([tf.debugging.Assert(small, [message, coefficient])]):
                return tf.identity(real)
    return qml.math.real(coefficient)


def _diagonal_terms(entries: Any, wires: Any, raw: Any, is_tensor: Callable[[Any], bool]) -> Any:
    """Returns the terms (coefficient, column) of the mean of a diagonal observable, written as a
    sum of words of Z, which every device can measure."""
    words = z_words(wires)
    coefficients = [
        sum(float(weight) * entry for weight, entry in zip(weights, entries, strict=True))
        for weights in signs(len(wires)) / len(entries)
    ]
    if any(map(is_tensor, coefficients)):
        columns = [raw.expval(word.operation(wire_order=wires[:1])) for word in words]
        return list(zip(coefficients, columns, strict=True))
    require_real(coefficients, "The mean of a function of outcomes")
    numbers = map(float, np.real(coefficients))
    sentence = PauliSentence(dict(zip(words, numbers, strict=True)))
    return [(1.0, raw.expval(sentence.operation(wire_order=wires)))]


def _terms(
    observable: Operator, raw: Raw, is_tensor: Callable[..., Any]
) -> list[tuple[float, int]]:
    """Returns the terms (coefficient, column) of the mean of an observable. An observable without
    tensors is measured as a whole."""
    if not any(is_tensor(parameter) for parameter in observable.data):
        return [(1.0, raw.expval(part)) for part in _by_scale(observable)]
    return [(c, raw.expval(word)) for c, word in _tensor_terms(observable, is_tensor)]


def _without_constant(observable: Operator) -> Operator:
    """Returns an observable without tensors, less a multiple of the identity, which has the same
    variance. If that is large, the square of the mean has few digits left of the variance, and
    errors are those of two numbers that hardly differ."""
    if observable.pauli_rep is not None:
        words = dict(observable.pauli_rep)
        constant = words.pop(PauliWord({}), 0.0)
        if not constant:
            return observable
        require_hermitian(observable)
        if not words:
            return qml.Identity(observable.wires)
        return PauliSentence(words).operation(wire_order=observable.wires)
    if not observable.has_matrix or len(observable.wires) > WIDEST_MATRIX:
        return observable
    require_hermitian(observable)
    matrix = qml.matrix(observable, wire_order=observable.wires)
    constant = float(np.real(np.trace(matrix))) / len(matrix)
    rest = matrix - constant * np.eye(len(matrix))
    # Devices know ordinary ones by their names.
    is_large = abs(constant) > np.abs(rest).max()
    return qml.Hermitian(rest, wires=observable.wires) if is_large else observable


def _by_scale(observable: Operator) -> list:
    """Splits a sum into sums whose coefficients are of similar size.

    In one float64 the derivatives of small terms would be lost next to the values of large ones.
    """
    words = observable.pauli_rep or {}
    sizes = sorted((abs(c) for c in words.values() if c), reverse=True)
    if len(sizes) < 2 or sizes[-1] * _WIDEST_RANGE >= sizes[0]:
        return [observable]
    require_hermitian(observable)
    bounds = [sizes[0]]
    for size in sizes:
        if size * _WIDEST_RANGE < bounds[-1]:
            bounds.append(size)
    parts: list = [PauliSentence() for _ in bounds]
    for word, coefficient in words.items():
        if coefficient:
            part = sum(abs(coefficient) <= bound for bound in bounds[1:])
            parts[part][word] = float(coefficient.real)
    return [part.operation(wire_order=observable.wires) for part in parts]


def _square_terms(observable: Operator, raw: Raw, is_tensor: Callable[..., Any]) -> list[Any]:
    """Returns the terms (coefficient, column) of the mean of an observable's square."""
    if any(is_tensor(parameter) for parameter in observable.data):
        terms = _tensor_terms(observable, is_tensor)
        squares = [(c * c, a, a) for c, a in terms]
        squares += [(2 * c * d, a, b) for (c, a), (d, b) in itertools.combinations(terms, 2)]
    elif isinstance(observable, qml.Projector):
        return [(1.0, raw.expval(observable))]
    else:
        squares = [(1.0, observable, observable)]
    return [
        (c if factor == 1.0 else c * factor, column)
        for c, a, b in squares
        for factor, column in _product(a, b, raw)
    ]


def _product(a: Operator, b: Operator, raw: Raw) -> list[tuple[Any, int | None]]:
    """Returns the terms (factor, column) of the mean of (ab + ba) / 2 for two observables. The
    column None stands for the identity."""
    if a.pauli_rep is None or b.pauli_rep is None:
        a, b = _of_known_class(a), _of_known_class(b)
        wires = qml.wires.Wires.all_wires([a.wires, b.wires])
        product = qml.matrix(a, wire_order=wires) @ qml.matrix(b, wire_order=wires)
        return [(1.0, raw.expval(qml.Hermitian((product + product.conj().T) / 2, wires=wires)))]
    sentence = a.pauli_rep @ b.pauli_rep  # its imaginary part cancels with that of ba
    real = {word: float(np.real(c)) for word, c in sentence.items()}
    smallest = _ROUNDING * max(map(abs, real.values()), default=0.0)
    sentence = PauliSentence({word: c for word, c in real.items() if abs(c) > smallest})
    identity = sentence.pop(PauliWord({}), 0.0)
    terms: list[tuple[Any, int | None]] = [(identity, None)] if identity or not sentence else []
    if sentence:
        terms += [(1.0, raw.expval(part)) for part in _by_scale(sentence.operation())]
    return terms


def _tensor_terms(observable: Operator, is_tensor: Callable[[Any], bool]) -> list[Any]:
    """Returns the terms (coefficient, fixed observable) of an observable with tensors.

    Raises:
        UnsupportedError: If a tensor is not a coefficient of a linear combination.
    """
    terms = split(observable, is_tensor)
    for _, word in terms:
        if any(is_tensor(parameter) for parameter in word.data):
            raise UnsupportedError(
                f"{word.name} has a TensorFlow tensor as a parameter, but only the coefficients of "
                "a linear combination of fixed observables can be tensors. Pass NumPy arrays, or "
                "write the observable as qml.Hamiltonian(coefficients, observables)."
            )
    return [(_number(coefficient), word) for coefficient, word in terms]


def _number(coefficient: Any) -> Any:
    """Returns a coefficient as a float, or a real tensor."""
    if isinstance(coefficient, float):
        return coefficient
    return qml.math.cast(_real(coefficient), "float64")
