"""Readout errors divided out of expectation values, without a model of them (TREX).

E. van den Berg, Z. Minev and K. Temme, Phys. Rev. A 105, 032620 (2022). With random flips before
the measurements that are flipped back in the outcomes, readout errors multiply the expectation
value of a Pauli word by a factor, which depends on the qubits of the word only. The same
measurement of the state 0, where the value would be 1, gives the factor: its calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from qiskit import ClassicalRegister, QuantumCircuit

from qshift.executors.qiskit.pub_results import REGISTER

Table = tuple[np.ndarray, np.ndarray]  # outcomes bool[U, bits], and how often each was found
_CLEAR = 4.0  # standard errors that a factor has to be away from 0
_TOGETHER = 4096  # outcomes that are multiplied with each other at a time


class FactorError(ArithmeticError):
    """Raised where a factor is too uncertain for being divided by."""


def calibrating(qubits: Sequence[int], num_qubits: int) -> QuantumCircuit:
    """Returns the circuit that measures some qubits in the state 0."""
    circuit = QuantumCircuit(num_qubits)
    register = ClassicalRegister(len(qubits), REGISTER)
    circuit.add_register(register)
    circuit.measure(list(qubits), register)
    return circuit


def signs(outcomes: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Returns the values of words in outcomes, float64[U, words], 1 or -1.

    Args:
        outcomes: bool[U, bits].
        words: bool[words, bits], which bits each word acts on.
    """
    return 1.0 - 2.0 * (outcomes.astype(float) @ np.asarray(words).astype(float).T % 2)


class Calibration:
    """The factors of all words of a circuit's observables.

    Args:
        table: What the calibration has measured.
        words: bool[words, bits], the bits of the calibration that each word acts on.

    Attributes:
        factors: float64[words].

    Raises:
        FactorError: If a factor is not clearly different from 0.
    """

    def __init__(self, table: Table, words: np.ndarray) -> None:
        outcomes, counts = table
        shots = counts.sum()
        second = np.zeros((len(words), len(words)))
        self.factors = np.zeros(len(words))
        for start in range(0, len(outcomes), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            each = signs(outcomes[some], words)
            self.factors += counts[some] @ each / shots
            second += (each.T * counts[some]) @ each / shots
        self._covariance = (second - np.outer(self.factors, self.factors)) / shots
        errors = np.sqrt(np.maximum(1 - self.factors**2, 0.0) / shots)
        sure = np.abs(self.factors) > _CLEAR * errors
        if not sure.all():
            worst = int(np.argmin(np.abs(self.factors) - _CLEAR * errors))
            raise FactorError(
                f"readout errors leave {self.factors[worst]:.3f} +- {errors[worst]:.3f} of the "
                f"expectation value of a word on {int(words[worst].sum())} qubits, which cannot be "
                "divided by; take more shots, words on fewer qubits, or "
                'resilience={"measure_mitigation": False}'
            )

    def variances(self, slopes: np.ndarray) -> np.ndarray:
        """Returns the variances float64[K] that the factors' own errors cause.

        Args:
            slopes: float64[K, words], how each of K values changes with each factor.
        """
        return np.einsum("kw,wv,kv->k", slopes, self._covariance, slopes)


def estimates(
    tables: Sequence[Table],
    parts: Sequence[Mapping[str, Any]],
    calibration: Calibration | None = None,
) -> np.ndarray:
    """Returns the values and standard errors of K observables at a point, from the outcomes in each
    basis. What the words of a basis have in common is in the errors.

    Args:
        tables: The outcomes in each basis.
        parts: Of each basis its "words", bool[words, bits], and their "coefficients" in the
            observables, float64[K, words].
        calibration: The factors of the words, basis by basis, if readout errors are mitigated.

    Returns:
        float64[2, K], values and standard errors; with a calibration float64[4, K], where the other
        two are those without mitigation.
    """
    count = len(parts[0]["coefficients"])
    found = np.zeros((2 if calibration is None else 4, count))  # variances in place of errors
    slopes, start = [], 0
    for (outcomes, counts), part in zip(tables, parts, strict=True):
        values, coefficients = signs(outcomes, part["words"]), np.asarray(part["coefficients"])
        found[-2:] += _mean(values @ coefficients.T, counts)
        if calibration is not None:
            factors = calibration.factors[start : start + len(part["words"])]
            start += len(factors)
            found[:2] += _mean(values @ (coefficients / factors).T, counts)
            slopes.append(coefficients * (counts @ values / counts.sum()) / factors**2)
    if calibration is not None:
        found[1] += calibration.variances(np.concatenate(slopes, axis=1))
    found[1::2] = np.sqrt(found[1::2])
    return found


def _mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the mean of outcomes float64[U, K], and its variance."""
    mean = counts @ values / counts.sum()
    return np.array([mean, counts @ (values - mean) ** 2 / counts.sum() ** 2])
