"""Variances of values that are means of outcomes, estimated from the same outcomes.

The variance of few outcomes that happen to be equal is zero, and intervals of that size are wrong:
with a value near its largest, most of them do not hold the value. So four outcomes are added before
the variance is taken, twice the lowest that there is and twice the highest (Agresti and Coull, The
American Statistician 52, 1998: "add two successes and two failures"). The value stays as it is.

Of 100 intervals of 1.96 errors for the mean of n outcomes, each one of two, 95 hold it on the
average over all chances, and whatever the chance is, at least 90.0 with n = 20, 92.1 with 50, 92.6
with 100 and 93.1 with 400. With one of each it would be 84.5, 85.4, 85.7 and 85.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pennylane as qml
from pennylane.measurements import ProbabilityMP
from pennylane.pauli import PauliWord

from qshift.circuits.hermitian import WIDEST_MATRIX
from qshift.errors import UnsupportedError

if TYPE_CHECKING:
    from qshift.circuits.circuit import Circuit

_ADDED = 4  # half of them the lowest outcome, half the highest


def variance_of_mean(
    means: np.ndarray,
    squares: np.ndarray,
    lowest: np.ndarray | float,
    highest: np.ndarray | float,
    shots: np.ndarray | int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the variances of means of outcomes, and how much of them is there because outcomes
    were added.

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
    mean = means - middle
    seen = np.maximum(around - mean**2, 0.0)
    spread = (around * shots + _ADDED * half**2) / count - (mean * shots / count) ** 2
    spread = np.maximum(spread, seen)  # no less, but for rounding
    return np.asarray(spread / shots), np.asarray((spread - seen) / shots)


def of_one_shot(circuit: Circuit) -> tuple[np.ndarray, np.ndarray]:
    """Returns the variance of one outcome of each value, float64[M] each: what it is where all
    outcomes are equally likely, and the largest there is, or for a sum of Pauli words a bound."""
    typical: list[float] = []
    half: list[float] = []  # of the width of the range that outcomes are in
    for measurement, size in zip(circuit.measurements, circuit.sizes, strict=True):
        words = None if measurement.obs is None else measurement.obs.pauli_rep
        if isinstance(measurement, ProbabilityMP):
            typical, half = [*typical, *[(1 - 1 / size) / size] * size], [*half, *[0.5] * size]
        elif words is not None:
            norms = np.array([abs(coefficient) for word, coefficient in words.items() if word])
            typical.append(float((norms**2).sum()))
            half.append(float(norms.sum()))
        else:
            values = np.real(measurement.eigvals())
            typical.append(float(values.var()))
            half.append(float(np.ptp(values)) / 2)
    return np.array(typical), np.array(half) ** 2


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
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the covariances float64[N, M, M] of means of the same outcomes, and how much of those
    on the diagonal is there because outcomes were added, float64[N, M].

    On the diagonal are the variances of `variance_of_mean`. The outcomes that are added for each
    mean are added for none of the others, so that what is off the diagonal is that of the samples.

    Args:
        means: float64[N, M].
        products: float64[N, M, M], the means of the products of two outcomes.
        lowest: The lowest outcome of each.
        highest: The highest outcome of each.
        shots: How many outcomes each is the mean of; a number, or one for each row.
    """
    shots, places = np.reshape(shots, (-1, 1)), np.arange(means.shape[1])
    squares = products[:, places, places]
    variances, added = variance_of_mean(means, squares, lowest, highest, shots)
    # About the middle of all outcomes, so that large ones lose no digits.
    middle = np.broadcast_to((np.asarray(highest) + lowest) / 2, places.shape)
    crossed = means[:, :, None] * middle
    around = products - crossed - crossed.transpose(0, 2, 1) + middle[:, None] * middle
    mean = means - middle
    spread = (around - mean[:, :, None] * mean[:, None, :]) / shots[:, :, None]
    spread[:, places, places] = variances
    return spread, added


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
