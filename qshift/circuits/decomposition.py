"""Gates with tensor parameters, decomposed until each has an exact shift rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np
import pennylane as qml
import tensorflow as tf
from pennylane.operation import Operator
from pennylane.ops.op_math import Adjoint, Conditional, Controlled, Evolution, Pow, SymbolicOp
from pennylane.pytrees import PyTreeStructure

from qshift.circuits import spectra as gates
from qshift.circuits import user_decompositions, user_gates
from qshift.circuits.identity import has_custom, operators
from qshift.circuits.powers import is_root
from qshift.circuits.smooth_decompositions import parts
from qshift.circuits.special_unitary import SpecialUnitaryAt
from qshift.circuits.unitary import require_unitary
from qshift.circuits.user_observables import require_one_operator
from qshift.errors import UnsupportedError

# Gates that devices run as a whole, with parameters that are data, such as a state or a matrix.
_WHOLE = (
    qml.operation.StatePrepBase,
    qml.QubitUnitary,
    qml.ControlledQubitUnitary,
    qml.BlockEncode,
)

# Gates with parameters that are data, from which PennyLane computes angles. These formulas hold for
# normalised states or unitary matrices only, distinguish cases, or round.
_PREPARED = tuple(
    getattr(qml, name)
    for name in (
        "BasisRotation FABLE MottonenStatePreparation MPSPrep MultiplexerStatePreparation "
        "QROMStatePreparation QuantumMonteCarlo SumOfSlatersPrep Superposition"
    ).split()
    if hasattr(qml, name)  # not all of them are in every release
)


class Part(NamedTuple):
    """A gate after decomposition.

    Attributes:
        gate: The gate.
        leaves: The gate's leaves, from `qml.pytrees.flatten`.
        structure: The gate's structure, from `qml.pytrees.flatten`.
        data_of: If the parameters are computed from the data of another gate, by which there is no
            derivative, the name of that gate; None otherwise.
    """

    gate: Operator
    leaves: list
    structure: PyTreeStructure
    data_of: str | None

    @property
    def is_still(self) -> bool:
        """Whether derivatives by the gate's parameters are zero by construction."""
        return isinstance(innermost(self.gate), SpecialUnitaryAt)


def decompose(
    operations: Iterable[Operator],
    is_tensor: Callable[[Any], bool],
    adjoint: bool = False,
    moves: Callable[[Any], bool] = lambda _: True,
    *,
    for_tapes: bool = False,
    data_of: str | None = None,
) -> Iterator[Part]:
    """Decomposes gates with tensor parameters until all parameters have exact rules.

    Args:
        operations: The gates.
        is_tensor: Whether a parameter is a tensor.
        adjoint: Whether to go on until devices that have adjoint differentiation differentiate each
            of the gates themselves.
        moves: Whether something may differentiate by a tensor.
        for_tapes: Whether the gates go into PennyLane's tapes. Then gates whose parameters are data
            are not decomposed, but gates are whose angles PennyLane would confuse or not replace.
        data_of: The `data_of` of all parts; see `Part`.

    Raises:
        UnsupportedError: If PennyLane's formula for a gate does not take tensors, or a gate with
            tensors has no decomposition.
    """
    for op in operations:
        leaves, structure = qml.pytrees.flatten(op)
        tensors = [i for i, leaf in enumerate(leaves) if is_tensor(leaf)]
        problem = None
        is_own = has_custom(structure)
        if is_own or op.hyperparameters:
            require_one_operator(op)
        if is_own:
            user_gates.require_visible(op, tensors)
            problem = user_gates.lost(op)
            others = None
            if problem and not tensors:
                others = user_decompositions.in_place_of(op)
            if others is not None:
                yield from decompose(
                    others, is_tensor, adjoint, moves, for_tapes=for_tapes, data_of=data_of
                )
                continue
        settings = _settings(op)
        hides_tensors = _holds_others(settings, leaves, is_tensor)
        constant = not (tensors or hides_tensors)
        holds_roots = constant and op.hyperparameters and any(map(is_root, operators(op)))
        whole = constant and not holds_roots
        if adjoint and op.data and whole and not gates.suits_adjoint(op) and op.has_matrix:
            # Devices that differentiate count parameters wrongly if other gates have some, even
            # constant ones.
            require_unitary(op)
            with np.errstate(invalid="ignore"):  # angles may be infinite
                op = qml.QubitUnitary(op.matrix(), wires=op.wires)
            leaves, structure = qml.pytrees.flatten(op)
        found, source = None, data_of
        if isinstance(op, _WHOLE) or isinstance(innermost(op), SpecialUnitaryAt):
            pass
        elif tensors and _is_data(op):
            found, source = None if for_tapes else _of_data(op, is_tensor), data_of or op.name
        elif hides_tensors:
            found = _parts(op, known=False)
            if found is None:
                raise UnsupportedError(
                    f"{op.name} holds a tensor that is none of its parameters, and has no "
                    "decomposition that would show what depends on it. Pass it as a parameter."
                )
        elif tensors:
            known = problem is None and _has_rules(op, leaves, tensors)
            fixed = type(op) is qml.SpecialUnitary and not any(map(moves, leaves))
            suits = gates.suits_adjoint(op) if adjoint else not for_tapes or _suits_tapes(op)
            if not suits or not (known or fixed):
                found = _parts(op, known, tensors if is_own else None, problem)
        elif (
            holds_roots or _may_hide_a_batch(op) or any(isinstance(x, _FUNCTIONS) for x in settings)
        ):
            found = _parts(op, known=True)
        if found is None:
            if problem:
                raise UnsupportedError(f"{problem}.")
            yield Part(op, leaves, structure, source)
            continue
        if tensors and not any(map(is_tensor, qml.pytrees.flatten(found)[0])):
            found = [*found, *_phases(op, leaves, tensors)]
        yield from decompose(found, is_tensor, adjoint, moves, for_tapes=for_tapes, data_of=source)


def _suits_tapes(op: Operator) -> bool:
    """Whether PennyLane's tapes can change the angle of a gate. They cannot change it inside of an
    Evolution, and they take x + 2 pi for x in a controlled adjoint or power."""
    if isinstance(op, Controlled) and isinstance(op.base, SymbolicOp):
        return False
    return not isinstance(innermost(op), Evolution)


def innermost(op: Operator) -> Operator:
    """Returns the gate inside of adjoints, powers and controlled gates; another gate as it is."""
    while isinstance(op, Adjoint | Conditional | Controlled | Pow) and not isinstance(op, _WHOLE):
        op = op.base
    return op


def _is_data(op: Operator) -> bool:
    return isinstance(innermost(op), (*_WHOLE, *_PREPARED))


def _of_data(op: Operator, is_tensor: Callable[..., Any]) -> list[Operator] | None:
    """Returns what a gate decomposes into, or None if that fails, or loses the data."""
    with qml.QueuingManager.stop_recording():
        try:
            found = parts(op)
        except Exception:  # PennyLane's formulas are for arrays, and raise all kinds of errors
            return None
    keeps = found and any(map(is_tensor, qml.pytrees.flatten(found)[0]))
    return found if keeps else None


_FUNCTIONS = (FunctionType, MethodType, partial)  # may hold tensors, and make gates of them


def hides(op: Operator, leaves: Sequence[Any], is_tensor: Callable[[Any], bool]) -> bool:
    """Whether a gate holds tensors that are not among its leaves."""
    return _holds_others(_settings(op), leaves, is_tensor)


def _holds_others(
    settings: list[Any], leaves: Sequence[Any], is_tensor: Callable[..., Any]
) -> bool:
    return any(is_tensor(x) and not any(x is leaf for leaf in leaves) for x in settings)


def _settings(op: Operator) -> list:
    """Returns the values in a gate's hyperparameters; for gates among them, their parameters."""
    while isinstance(op, Adjoint | Controlled):
        op = op.base
    if not op.hyperparameters:
        return []
    found, ahead = [], list(op.hyperparameters.values())
    while ahead:
        value = ahead.pop()
        if isinstance(value, Operator):
            ahead += [*value.data, *value.hyperparameters.values()]
        elif isinstance(value, dict):
            ahead += value.values()
        elif isinstance(value, list | tuple):
            ahead += value
        else:
            found.append(value)
    return found


def _phases(op: Operator, leaves: Sequence[Any], tensors: Sequence[int]) -> list[Operator]:
    """Returns global phases with those tensors of a gate that none of its parts holds, so that the
    derivative by these tensors is zero and not None."""
    positions, phases = gates.data_positions(op, leaves), []
    for i in tensors:
        dims = qml.math.ndim(leaves[i])
        position = positions[i]
        batched = 0 if position is None else dims - gates.ndim(op, position)
        phase = qml.math.sum(qml.math.real(leaves[i]), axis=tuple(range(batched, dims)))
        with qml.QueuingManager.stop_recording():
            phases.append(qml.GlobalPhase(phase))
    return phases


def _may_hide_a_batch(op: Operator) -> bool:
    """Whether constant arrays may be batches that only the parts of a template know about."""
    unstated = type(op).ndim_params is Operator.ndim_params
    return unstated and op.has_decomposition and any(qml.math.ndim(d) for d in op.data)


def _parts(
    op: Operator, known: bool, checked: Any = None, problem: Any = None
) -> list[Operator] | None:
    """Returns the parts that a gate decomposes into. None if it has no decomposition, or if that
    fails and is not needed, because the gate has rules.

    Args:
        op: The gate.
        known: Whether all of the gate's tensors have rules.
        checked: Which leaves are tensors, for a user's gate; None for PennyLane's.
        problem: Why a user's gate cannot be put together again; None if it can.

    Raises:
        UnsupportedError: If decomposing the gate fails, and it has no rules.
    """
    if checked is not None:
        try:
            return user_decompositions.decomposed(op, checked, problem)
        except UnsupportedError:
            if not known:
                raise
            return None
    with qml.QueuingManager.stop_recording():
        try:
            return parts(op)
        except UnsupportedError:
            if known:
                return None
            raise
        except (AttributeError, TypeError, ImportError, tf.errors.OpError) as error:
            # Some of these errors say that tensors of a graph have no .numpy().
            if known:
                return None
            raise UnsupportedError(
                f"{op.name} has no exact shift rule, and PennyLane cannot decompose it when its "
                f"parameters are tensors ({error}). Write the gates it stands for, or, "
                "for time evolutions, pass tf.cast(parameter, tf.complex128)."
            ) from error


def _has_rules(op: Operator, leaves: Sequence[Any], tensors: Sequence[int]) -> bool:
    spectra, positions = gates.spectra(op), gates.data_positions(op, leaves)
    places = [positions[i] for i in tensors]
    return all(place is not None and spectra[place] is not None for place in places)
