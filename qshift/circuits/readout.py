"""What a circuit returns, reduced to expectation values and probabilities of fixed observables.

Only these are linear in the state, hence trigonometric polynomials that shift rules apply to.
Variances and observables with tensor coefficients are compositions of them, so TensorFlow's chain
rule gives all their derivatives.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.measurements import (
    ExpectationMP,
    MeasurementProcess,
    ProbabilityMP,
    VarianceMP,
)
from pennylane.pauli import PauliSentence, PauliWord
from scipy.linalg import hadamard

from qshift.circuits.hermitian import WIDEST_MATRIX, require_hermitian, require_real, rounding
from qshift.circuits.identity import contains_custom, fingerprint
from qshift.circuits.terms import split
from qshift.circuits.user_observables import diagonalized, require_one_observable, settled
from qshift.errors import UnsupportedError

if TYPE_CHECKING:
    from pennylane.operation import Operator

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


_ROUNDING = 1e-15  # relative; what a product leaves of terms that cancel
_WIDEST_RANGE = 1e8  # of the coefficients of one observable


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

    @property
    def linear(self) -> bool:
        """Whether all results are raw values as they stand, so that the same functions make
        derivatives of the results out of derivatives of the raw values."""
        return all(isinstance(result, Columns) for result in self.results)


@dataclass(frozen=True)
class Columns:
    """A result that is raw values as they stand."""

    columns: int | slice

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        return values[:, self.columns]


class _Raw:
    """Collects raw measurements, each observable once."""

    def __init__(self) -> None:
        self.measurements: list[MeasurementProcess] = []
        self.sizes: list[int] = []
        self._starts: dict[Hashable, int] = {}

    def add(self, measurement: MeasurementProcess, size: int = 1) -> slice:
        start = self._starts.setdefault(fingerprint(measurement), sum(self.sizes))
        if start == sum(self.sizes):
            self.measurements.append(measurement)
            self.sizes.append(size)
        return slice(start, start + size)

    def expval(self, observable: Operator) -> int:
        require_hermitian(observable)
        observable = _of_known_class(observable)
        return self.add(qml.expval(observable)).start


def _of_known_class(observable: Operator) -> Operator:
    """Returns an observable, as a matrix if it is of a user's own class: devices know observables
    by their names, and each takes others."""
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


def read(
    measurements: Sequence[MeasurementProcess],
    all_wires: Callable[[], Sequence],
    is_tensor: Callable[[Any], bool],
    constant: Callable[[Any], np.ndarray | None] = lambda _: None,
) -> Readout:
    """Reduces measurements to fixed expectation values and probabilities.

    Args:
        measurements: What the quantum function returns.
        all_wires: Returns the wires that ``qml.probs()`` without wires measures.
        is_tensor: Whether a parameter of an observable is a TensorFlow tensor.
        constant: Returns the numbers in a tensor if nothing can differentiate by it, or None.

    Raises:
        UnsupportedError: For a measurement that is not a function of expectation values, and for
            a tensor inside an observable where its coefficient is not linear.
    """
    raw = _Raw()
    with qml.QueuingManager.stop_recording():
        measurements = [_with_constants(_settled(m), is_tensor, constant) for m in measurements]
        results = tuple(_result(m, raw, all_wires, is_tensor) for m in measurements)
    return Readout(tuple(raw.measurements), tuple(raw.sizes), results)


def require_supported(measurement: MeasurementProcess) -> None:
    """Raises UnsupportedError for a measurement that is no function of expectation values."""
    kind = type(measurement)
    if kind in (ExpectationMP, VarianceMP, ProbabilityMP):
        return
    advice = _ADVICE.get(kind.__name__, "return qml.expval(...), qml.var(...) or qml.probs(...)")
    raise UnsupportedError(
        f"{kind.__name__.removesuffix('MP')} ({measurement!r}) has no derivatives by shifted "
        f"circuits, so a qshift qnode cannot return it: {advice}, or use a qml.qnode."
    )


def with_wires(
    measurement: MeasurementProcess, all_wires: Callable[[], Sequence]
) -> MeasurementProcess:
    """Returns the measurement, with all wires if it is ``qml.probs()`` without wires."""
    unnamed = measurement.obs is None and measurement.mv is None and not measurement.wires
    if type(measurement) is ProbabilityMP and unnamed:
        return ProbabilityMP(wires=qml.wires.Wires(all_wires()))
    return measurement


def _settled(measurement: MeasurementProcess) -> MeasurementProcess:
    """Returns the measurement, of what users' own observables in it say of themselves."""
    observable = measurement.obs
    if observable is None:
        return measurement
    if type(measurement) is ProbabilityMP:
        require_one_observable(observable)  # devices diagonalize what they are given
        return measurement
    known = settled(observable)
    return measurement if known is observable else type(measurement)(obs=known)


def _with_constants(
    measurement: MeasurementProcess, is_tensor: Callable[..., Any], constant: Callable[..., Any]
) -> MeasurementProcess:
    """Returns the measurement, with arrays in place of tensors that nothing differentiates by.

    Coefficients of sums stay: they cost nothing, and their values are not part of the circuit.
    """
    observable = measurement.obs
    if observable is None or not any(map(is_tensor, observable.data)):
        return measurement
    terms = split(observable, is_tensor)
    fixed = []
    for coefficient, word in terms:
        leaves, structure = qml.pytrees.flatten(word)
        numbers = [constant(leaf) if is_tensor(leaf) else None for leaf in leaves]
        leaves = [x if known is None else known for x, known in zip(leaves, numbers, strict=True)]
        changed = any(known is not None for known in numbers)
        word = qml.pytrees.unflatten(leaves, structure) if changed else word
        fixed.append((coefficient, word))
    if all(new is old for (_, new), (_, old) in zip(fixed, terms, strict=True)):
        return measurement
    alone = len(fixed) == 1 and terms[0][1] is observable
    coefficients, words = zip(*fixed, strict=True)
    return type(measurement)(obs=words[0] if alone else qml.Hamiltonian(coefficients, words))


def _result(
    measurement: MeasurementProcess,
    raw: _Raw,
    all_wires: Callable[..., Any],
    is_tensor: Callable[..., Any],
) -> Any:
    require_supported(measurement)
    kind = type(measurement)
    if kind in (ExpectationMP, VarianceMP) and measurement.obs is None:
        return _of_outcomes(measurement, raw, is_tensor)
    if kind is ExpectationMP:
        return _linear(_terms(measurement.obs, raw, is_tensor))
    if kind is VarianceMP:
        mean = _linear(_terms(measurement.obs, raw, is_tensor))
        mean_of_square = _linear(_square_terms(measurement.obs, raw, is_tensor))
        return _variance(mean, mean_of_square)
    measurement = with_wires(measurement, all_wires)
    if measurement.obs is not None and any(map(is_tensor, measurement.obs.data)):
        raise UnsupportedError(
            f"qml.probs(op={measurement.obs.name}) depends on the eigenvectors of its operator, "
            "which has a TensorFlow tensor as a parameter. Pass NumPy arrays, or rotate the basis "
            "with gates before qml.probs(wires=...)."
        )
    if measurement.obs is not None:
        require_hermitian(measurement.obs)
    return Columns(raw.add(measurement, 2 ** len(measurement.wires)))


def _linear(terms: Sequence[Any]) -> Any:
    """Returns values [N, M] -> sum_k c_k values[:, k], with None as the column of the identity."""
    if len(terms) == 1:
        ((coefficient, column),) = terms
        if isinstance(coefficient, float) and coefficient == 1.0 and column is not None:
            return Columns(column)

    def result(values: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for coefficient, column in terms:
            value = qml.math.ones_like(values[:, 0]) if column is None else values[:, column]
            if not isinstance(coefficient, float):
                total = total + _number(coefficient) * value
            else:
                total = total + (value if coefficient == 1.0 else coefficient * value)
        return total

    return result


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


def _of_outcomes(
    measurement: MeasurementProcess, raw: Any, is_tensor: Callable[[Any], bool]
) -> Any:
    """The mean or variance of a function of mid-circuit outcomes, after deferring them."""
    if measurement.mv is None:
        outcomes = measurement.eigvals()
    else:
        outcomes = [outcome for _, outcome in measurement.mv.items()]
    mean = _linear(_diagonal_terms(outcomes, measurement.wires, raw, is_tensor))
    if type(measurement) is ExpectationMP:
        return mean
    squares = [outcome * outcome for outcome in outcomes]
    mean_of_square = _linear(_diagonal_terms(squares, measurement.wires, raw, is_tensor))
    return _variance(mean, mean_of_square)


def _variance(mean: Columns, mean_of_square: Any) -> Callable[..., Any]:
    def result(values: tf.Tensor) -> tf.Tensor:
        average = mean(values)
        # No power: TensorFlow's third derivative of x**2 is no number at 0.
        return mean_of_square(values) - average * average

    return result


def _diagonal_terms(entries: Any, wires: Any, raw: Any, is_tensor: Callable[[Any], bool]) -> Any:
    """Returns (coefficient, column) of the expectation value of a diagonal observable.

    Written as a sum of products of Z, which every device can measure.
    """
    words = [
        PauliWord({wire: "Z" for wire, bit in zip(wires, bits, strict=True) if bit})
        for bits in itertools.product((0, 1), repeat=len(wires))
    ]
    coefficients = [
        sum(float(sign) * entry for sign, entry in zip(signs, entries, strict=True))
        for signs in hadamard(len(entries)) / len(entries)
    ]
    if any(map(is_tensor, coefficients)):
        columns = [raw.expval(word.operation(wire_order=wires[:1])) for word in words]
        return list(zip(coefficients, columns, strict=True))
    require_real(coefficients, "The mean of a function of outcomes")
    numbers = map(float, np.real(coefficients))
    sentence = PauliSentence(dict(zip(words, numbers, strict=True)))
    return [(1.0, raw.expval(sentence.operation(wire_order=wires)))]


def _terms(
    observable: Operator, raw: _Raw, is_tensor: Callable[..., Any]
) -> list[tuple[float, int]]:
    """Returns (coefficient, column) of an expectation value; fixed observables stay whole."""
    if not any(is_tensor(parameter) for parameter in observable.data):
        return [(1.0, raw.expval(part)) for part in _by_scale(observable)]
    return [(c, raw.expval(word)) for c, word in _tensor_terms(observable, is_tensor)]


def _by_scale(observable: Operator) -> list:
    """Splits a sum whose coefficients differ in size by more than a float64 can tell apart in one
    number: a derivative of the small terms would be lost next to values of the large ones."""
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


def _square_terms(observable: Operator, raw: _Raw, is_tensor: Callable[..., Any]) -> list[Any]:
    """Returns (coefficient, column) of the expectation value of the observable's square."""
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


def _product(a: Operator, b: Operator, raw: _Raw) -> list[tuple[Any, int | None]]:
    """Returns [(factor, column)] of the symmetrised product (ab + ba) / 2 of two observables."""
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
    """Splits an observable with tensor coefficients into (coefficient, fixed observable)."""
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
