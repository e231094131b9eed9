"""Expands tapes into ones that shift rules can differentiate, for qshift's gradient transforms.

Such tapes have gates with exact rules, fixed observables, and scalar parameters. PennyLane
differentiates the rest: the angles of decomposed gates, coefficients and batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import pennylane as qml
from pennylane.measurements import ExpectationMP
from pennylane.ops.op_math import Evolution, Exp, SProd
from pennylane.tape import QuantumScript

from qshift.circuits import user_gates
from qshift.circuits.decomposition import decompose, hides, innermost
from qshift.circuits.evolutions import with_real_angles
from qshift.circuits.terms import split, times
from qshift.errors import UnsupportedError

if TYPE_CHECKING:
    from pennylane.measurements import MeasurementProcess
    from pennylane.operation import Operator


def expand(tape: QuantumScript, *_: Any, **__: Any) -> tuple[list[Any], Callable[..., Any]]:
    """Decomposes gates until all trainable parameters have exact rules, and separates terms with
    trainable coefficients and batches of trainable parameters.

    The function takes the arguments of the gradient transform that follows, and ignores them.

    Returns:
        Tapes, and the function from their results to the result of the given tape.
    """
    tape = decomposed(tape)
    finish: Callable = _first
    if has_trainable_coefficients(tape):
        tape, finish = _split(tape)
    angles = [tape.par_info[i]["op"] for i in tape.trainable_params if is_angle(tape, i)]
    if any(op.batch_size for op in angles):
        tapes, _ = qml.transforms.broadcast_expand(tape)
        return tapes, lambda results: finish((_stacked(results),))
    return [tape], finish


def has_trainable_coefficients(tape: QuantumScript) -> bool:
    """Whether a trainable parameter of a tape is a coefficient in an observable."""
    parameters = tape.get_parameters()
    return any(
        qml.math.requires_grad(x) and not is_angle(tape, i)
        for i, x in zip(tape.trainable_params, parameters, strict=True)
    )


def is_angle(tape: QuantumScript, i: int) -> bool:
    """Whether a parameter of a tape belongs to a gate, and not to an observable."""
    return tape.par_info[i]["op_idx"] < len(tape.operations)


def decomposed(tape: QuantumScript) -> QuantumScript:
    """Returns a tape in which gates are decomposed until their trainable parameters have exact
    rules, or cannot be decomposed further."""
    operations, trainable = [], []
    given, start, end = set(tape.trainable_params), 0, 0
    for op in tape.operations:
        marked = [start + i in given for i in range(len(op.data))]
        start += len(op.data)
        parts = [(op, False)]
        if any(marked) or hides(op, op.data, qml.math.requires_grad):
            found = decompose([op], _may_train, for_tapes=True)
            parts = [(_with_real_angles(part.gate), part.is_still) for part in found]
        for part, is_still in parts:
            _require_known(part, any(marked))
            if any(marked):
                user_gates.require_unmistakable(part)
            for i, x in enumerate(part.data):
                # A concrete JAX array does not show what it was computed from.
                moves = qml.math.requires_grad(x) or any(marked) and _is_jax(x)
                if marked[i] if part is op else moves and not is_still:
                    trainable.append(end)
                end += 1
        operations += [part for part, _ in parts]
    if all(part is op for part, op in zip(operations, tape.operations, strict=False)):
        return tape
    trainable += [i - start + end for i in tape.trainable_params if i >= start]
    return tape.copy(operations=operations, trainable_params=trainable)


def _with_real_angles(op: Operator) -> Operator:
    """Returns a gate whose angles are not complex, as those of what is made of evolutions are."""
    return op if isinstance(innermost(op), Exp | SProd) else with_real_angles(op)


def _require_known(op: Operator, marked: bool) -> None:
    """Raises UnsupportedError for a gate that PennyLane would differentiate in some other way, or
    in which it cannot replace the arrays of other frameworks by NumPy's."""
    if hides(op, op.data, qml.math.requires_grad):
        raise UnsupportedError(
            f"{op.name} depends on trainable numbers that are none of its parameters, such as the "
            "coefficients of a Hamiltonian whose terms do not commute, so there is no exact shift "
            "rule. Mark them as not trainable, or use gates that have one (qml.TrotterProduct, "
            "qml.ApproxTimeEvolution)."
        )
    gate = innermost(op)
    if marked and isinstance(gate, Evolution) and gate.base.data and _may_train(gate.param):
        raise UnsupportedError(
            f"PennyLane cannot replace the time of {op.name}, because its Hamiltonian has "
            "coefficients of its own and terms that do not commute. Use qshift.qnode, which can, "
            "or qml.TrotterProduct or qml.ApproxTimeEvolution."
        )


def _may_train(parameter: Any) -> bool:
    return qml.math.requires_grad(parameter) or _is_jax(parameter)


def _is_jax(parameter: Any) -> bool:
    return qml.math.get_interface(parameter) == "jax"


def _split(tape: QuantumScript) -> tuple[QuantumScript, Callable[..., Any]]:
    """Measures the terms of sums, and multiplies the results by their coefficients.

    PennyLane's own transform leaves out coefficients that are zero or one, and their derivatives.
    """
    measurements: list[MeasurementProcess] = []
    parts = []
    for measurement in tape.measurements:
        observable, terms = measurement.obs, [(1.0, measurement)]
        if observable is not None and any(map(qml.math.requires_grad, observable.data)):
            found = split(observable, qml.math.requires_grad)
            if found[0][1] is not observable:
                terms = [(c, _expval(measurement, word, tape)) for c, word in found]
        start = len(measurements)
        measurements += [term for _, term in terms]
        parts.append(([c for c, _ in terms], slice(start, len(measurements))))
    kept = [i for i in tape.trainable_params if is_angle(tape, i)]
    marked = [x for x in tape.get_parameters() if qml.math.requires_grad(x)]
    new = tape.copy(measurements=measurements)
    kept += [
        i
        for i, x in enumerate(new.get_parameters(trainable_only=False))
        if not is_angle(new, i) and any(x is each for each in marked)
    ]

    def finish(results: Sequence[tuple[Any, ...]]) -> Any:
        (values,) = results
        if tape.shots.has_partitioned_shots:
            return tuple(map(combined, values))
        return combined(values)

    def combined(values: Sequence[Any]) -> Any:
        values = [values] if len(measurements) == 1 else list(values)
        found = tuple(_weighted(coefficients, values[of]) for coefficients, of in parts)
        return found[0] if len(found) == 1 else found

    new.trainable_params = kept
    return new, finish


def _expval(
    measurement: MeasurementProcess, word: Operator, tape: QuantumScript
) -> MeasurementProcess:
    if not isinstance(measurement, ExpectationMP):
        raise UnsupportedError(
            "Coefficients of observables can be differentiated in expectation values only, not in "
            f"{tape.measurements}. Pass them as constants, or return the expectation values of "
            "the terms."
        )
    return qml.expval(word)


def _weighted(coefficients: Sequence[Any], values: Sequence[Any]) -> Any:
    return reduce(add, map(times, coefficients, values))


def _first(results: Any) -> Any:
    return results[0]


def _stacked(results: Any) -> Any:
    """Stacks the results of several tapes, or derivatives of these, leaf by leaf."""
    # Autograd has its own class for tuples that it differentiates, which jax's functions refuse.
    if isinstance(results[0], list | tuple) or type(results[0]).__name__ == "SequenceBox":
        return tuple(_stacked(parts) for parts in zip(*results, strict=True))
    return qml.math.stack(results)
