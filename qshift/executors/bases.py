"""In how many bases PennyLane's simulators draw the shots of a circuit, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pennylane as qml
from pennylane.measurements import ExpectationMP
from pennylane.ops import LinearCombination, Sum

if TYPE_CHECKING:
    from pennylane.measurements import MeasurementProcess
    from pennylane.operation import Operator


def bases(measurements: Sequence[MeasurementProcess]) -> int:
    """Returns how often a circuit's shots are drawn for its measurements.

    PennyLane's simulators measure Pauli words that commute qubit by qubit together, and so all
    measurements without an observable; every other observable alone; and the terms of each sum as
    if they were measurements of their own.
    """
    with qml.QueuingManager.stop_recording():
        return _bases([(measurement, measurement.obs) for measurement in measurements])


def _bases(measured: Sequence[tuple[MeasurementProcess, Operator | None]]) -> int:
    words, bare, number = [], False, 0
    for measurement, observable in measured:
        if len(measured) > 1 and observable is not None:
            observable = qml.simplify(observable)
        if observable is None:
            bare = True
        elif len(measured) > 1 and qml.pauli.is_pauli_word(observable):
            words.append(observable)
        elif isinstance(measurement, ExpectationMP) and isinstance(observable, Sum):
            is_linear = isinstance(observable, LinearCombination)
            terms = observable.terms()[1] if is_linear else observable
            number += _bases([(measurement, term) for term in terms])
        else:
            number += 1
    return number + bare + (len(qml.pauli.compute_partition_indices(words)) if words else 0)
