"""Variances of values that are means of outcomes, estimated from the same outcomes.

The variance of few outcomes that happen to be equal is zero, and intervals of that size are wrong:
with a value near its largest, most of them do not hold the value. So two outcomes are added before
the variance is taken, the lowest and the highest that there are. The value stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pennylane as qml
from pennylane.measurements import ProbabilityMP
from pennylane.pauli import PauliSentence, PauliWord

from qshift.circuits.hermitian import WIDEST_MATRIX
from qshift.errors import UnsupportedError

if TYPE_CHECKING:
    from qshift.circuits.circuit import Circuit

_ADDED = 2


def variance_of_mean(
    means: np.ndarray,
    squares: np.ndarray,
    lowest: np.ndarray | float,
    highest: np.ndarray | float,
    shots: np.ndarray | int,
) -> np.ndarray:
    """Returns the variances of means of outcomes.

    Args:
        means: The means.
        squares: The means of the outcomes' squares.
        lowest: The lowest outcome there is.
        highest: The highest outcome there is.
        shots: How many outcomes each is the mean of.
    """
    count = shots + _ADDED
    # About the middle of all outcomes, so that large ones lose no digits.
    middle, half = (highest + lowest) / 2, (highest - lowest) / 2
    around = squares - 2 * middle * means + middle**2
    mean = (means - middle) * shots / count
    spread = (around * shots + _ADDED * half**2) / count - mean**2
    return np.asarray(np.maximum(spread, 0.0) / shots)


def of_one_shot(circuit: Circuit) -> tuple[np.ndarray, np.ndarray]:
    """Returns the variance of one outcome of each value, float64[M] each: what it is where all
    outcomes are equally likely, and the largest there is."""
    typical: list[float] = []
    for measurement, size in zip(circuit.measurements, circuit.sizes, strict=True):
        words = None if measurement.obs is None else measurement.obs.pauli_rep
        if isinstance(measurement, ProbabilityMP):
            typical += [(1 - 1 / size) / size] * size
        elif words is not None:
            typical.append(float((_norms(words) ** 2).sum()))
        else:
            typical.append(float(np.real(measurement.eigvals()).var()))
    _, half = ranges(circuit)
    return np.array(typical), half**2


def _norms(words: PauliSentence) -> np.ndarray:
    """Returns the sizes of the coefficients of all words but the identity."""
    return np.array([abs(coefficient) for word, coefficient in words.items() if word])


def ranges(circuit: Circuit) -> tuple[np.ndarray, np.ndarray]:
    """Returns ranges that the outcomes of each value are in: the middle and half of the width,
    float64[M] each. That of a sum of Pauli words is the widest that there may be."""
    middle: list[float] = []
    half: list[float] = []
    for measurement, size in zip(circuit.measurements, circuit.sizes, strict=True):
        words = None if measurement.obs is None else measurement.obs.pauli_rep
        if isinstance(measurement, ProbabilityMP):
            middle, half = [*middle, *[0.5] * size], [*half, *[0.5] * size]
        elif words is not None:
            middle.append(float(np.real(words.get(PauliWord({}), 0.0))))
            half.append(float(_norms(words).sum()))
        else:
            values = np.real(measurement.eigvals())
            middle.append(float(values.max() + values.min()) / 2)
            half.append(float(np.ptp(values)) / 2)
    return np.array(middle), np.array(half)


def constants(circuit: Circuit) -> np.ndarray:
    """Returns the part of each value that does not depend on the state, float64[M]: what it is
    where all outcomes are equally likely. Of a sum of Pauli words it is the coefficient of the
    identity. It is zero for an observable that has neither words nor a matrix of few wires, and no
    number where values are none, because a constant of a gate is none."""
    found: list[float] = []
    for measurement, size in zip(circuit.measurements, circuit.sizes, strict=True):
        observable = measurement.obs
        words = None if observable is None else observable.pauli_rep
        if isinstance(measurement, ProbabilityMP):
            found += [1 / size] * size
        elif words is not None:
            found.append(float(np.real(words.get(PauliWord({}), 0.0))))
        elif observable is not None and len(observable.wires) <= WIDEST_MATRIX:
            known = qml.matrix(observable) if observable.has_matrix else np.zeros((1, 1))
            found.append(float(np.real(np.trace(known))) / len(known))
        else:
            found.append(0.0)
    return np.array(found) if circuit.is_finite else np.full(len(found), np.nan)


def covariance_of_means(
    means: np.ndarray,
    products: np.ndarray,
    lowest: np.ndarray | float,
    highest: np.ndarray | float,
    shots: np.ndarray | int,
) -> np.ndarray:
    """Returns the covariances float64[N, M, M] of means of the same outcomes.

    On their diagonal are the variances of `variance_of_mean`. The two outcomes that are added for
    each mean are added for none of the others.

    Args:
        means: float64[N, M].
        products: float64[N, M, M], the means of the products of two outcomes.
        lowest: The lowest outcome of each.
        highest: The highest outcome of each.
        shots: How many outcomes each is the mean of; a number, or one for each row.
    """
    shots = np.reshape(shots, (-1, 1, 1))
    count = shots + _ADDED
    size = means.shape[1]
    middle = np.broadcast_to((np.asarray(highest) + lowest) / 2, (size,))
    half = np.broadcast_to((np.asarray(highest) - lowest) / 2, (size,))
    crossed = means[:, :, None] * middle
    around = products - crossed - crossed.transpose(0, 2, 1) + middle[:, None] * middle
    mean = means - middle
    square = mean[:, :, None] * mean[:, None, :] * (shots / count) ** 2
    spread = (around * shots + _ADDED * np.diag(half**2)) / count - square
    places = np.arange(size)
    spread[:, places, places] = np.maximum(spread[:, places, places], 0.0)
    return np.asarray(spread / shots)


def extremes(circuit: Circuit) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and the highest outcome of each value, float64[M] each, if these are all
    outcomes there are.

    Raises:
        UnsupportedError: If a value has more outcomes than two.
    """
    lowest: list[float] = []
    highest: list[float] = []
    for measurement, size in zip(circuit.measurements, circuit.sizes, strict=True):
        if isinstance(measurement, ProbabilityMP):
            lowest += [0.0] * size
            highest += [1.0] * size
            continue
        words = None if measurement.obs is None else measurement.obs.pauli_rep
        if words is None or len(words) != 1:
            raise UnsupportedError(
                f"errors=True: the error of {measurement!r} does not follow from its value, and "
                'this device returns none. Use qshift.device("simulator"), or return single '
                "Pauli words or probabilities."
            )
        ((word, coefficient),) = words.items()
        norm = abs(float(np.real(coefficient)))
        lowest.append(-norm if word else float(np.real(coefficient)))
        highest.append(norm if word else float(np.real(coefficient)))
    return np.array(lowest), np.array(highest)
