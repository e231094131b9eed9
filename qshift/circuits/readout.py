"""The results of a circuit, reduced to expectation values and probabilities of fixed observables.

Only these are linear in the state, hence trigonometric polynomials that shift rules apply to.
Variances, and observables with tensors as coefficients, are functions of them (`moments`), so
TensorFlow's chain rule gives all their derivatives.
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

from qshift.circuits.hermitian import require_hermitian
from qshift.circuits.moments import (
    Columns,
    Raw,
    mean,
    mean_of_outcomes,
    variance,
    variance_of_outcomes,
)
from qshift.circuits.terms import split
from qshift.circuits.user_observables import require_one_observable, settled
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
    """The fixed measurements of a circuit, and the functions from these to the circuit's results.

    Attributes:
        raw: Expectation values and probabilities of fixed observables.
        sizes: Number of values each raw measurement gives.
        results: One function per measurement of the user's, from raw values [N, M] to [N, ...].
    """

    raw: tuple[MeasurementProcess, ...]
    sizes: tuple[int, ...]
    results: tuple[Callable[[Any], Any], ...]

    @property
    def linear(self) -> bool:
        """Whether all results are raw values, unchanged: then the same functions lead from
        derivatives of raw values to derivatives of results."""
        return all(isinstance(result, Columns) for result in self.results)


def read(
    measurements: Sequence[MeasurementProcess],
    all_wires: Callable[[], Sequence],
    is_tensor: Callable[[Any], bool],
    constant: Callable[[Any], np.ndarray | None] = lambda _: None,
) -> Readout:
    """Reduces measurements to fixed expectation values and probabilities.

    Args:
        measurements: The measurements that the quantum function returns.
        all_wires: Returns the wires that ``qml.probs()`` without wires measures.
        is_tensor: Whether a parameter of an observable is a TensorFlow tensor.
        constant: Returns the numbers in a tensor if nothing can differentiate by it, else None.

    Raises:
        UnsupportedError: For a measurement that is not a function of expectation values, and for
            a tensor inside an observable where its coefficient is not linear.
    """
    raw = Raw()
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
    """Returns the measurement; ``qml.probs()`` without wires gets all of them."""
    unnamed = measurement.obs is None and measurement.mv is None and not measurement.wires
    if type(measurement) is ProbabilityMP and unnamed:
        return ProbabilityMP(wires=qml.wires.Wires(all_wires()))
    return measurement


def _settled(measurement: MeasurementProcess) -> MeasurementProcess:
    """Returns the measurement with users' own observables replaced by one of their representations:
    a matrix, words or eigenvalues (`qshift.circuits.user_observables.settled`)."""
    observable = measurement.obs
    if observable is None:
        return measurement
    if type(measurement) is ProbabilityMP:
        require_one_observable(observable)  # devices use what diagonalizes the observable
        return measurement
    known = settled(observable)
    return measurement if known is observable else type(measurement)(obs=known)


def _with_constants(
    measurement: MeasurementProcess, is_tensor: Callable[..., Any], constant: Callable[..., Any]
) -> MeasurementProcess:
    """Returns the measurement, with arrays in place of tensors that nothing differentiates by.

    Coefficients of sums stay tensors: this costs no circuits, and the circuit stays the same when
    their values change.
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
    raw: Raw,
    all_wires: Callable[..., Any],
    is_tensor: Callable[..., Any],
) -> Callable[[Any], Any]:
    """Returns the function from raw values [N, M] to the result of a measurement, [N, ...], and
    adds to `raw` what the function needs."""
    require_supported(measurement)
    kind = type(measurement)
    if kind in (ExpectationMP, VarianceMP) and measurement.obs is None:
        return _of_outcomes(measurement, raw, is_tensor)
    if kind is ExpectationMP:
        return mean(measurement.obs, raw, is_tensor)
    if kind is VarianceMP:
        return variance(measurement.obs, raw, is_tensor)
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


def _of_outcomes(
    measurement: MeasurementProcess, raw: Any, is_tensor: Callable[[Any], bool]
) -> Any:
    """Returns the mean or variance of a function of mid-circuit outcomes. The measurements have
    been deferred, so each outcome is that of a wire."""
    if measurement.mv is None:
        outcomes = measurement.eigvals()
    else:
        outcomes = [outcome for _, outcome in measurement.mv.items()]
    moment = mean_of_outcomes if type(measurement) is ExpectationMP else variance_of_outcomes
    return moment(outcomes, measurement.wires, raw, is_tensor)
