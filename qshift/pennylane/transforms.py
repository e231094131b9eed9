"""qshift's shift rules as gradient transforms of PennyLane, for all its interfaces."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pennylane as qml
from pennylane.tape import QuantumScript

from qshift.autodiff import special_unitary_op as special_unitary_op  # which registers itself
from qshift.circuits import spectra
from qshift.errors import NoShiftRuleError, QShiftWarning, UnsupportedError
from qshift.pennylane.expansion import decomposed, expand, has_trainable_coefficients, is_angle
from qshift.pennylane.tape_derivatives import Derivatives
from qshift.rules.frequencies import period
from qshift.rules.planner import Frequencies, Index, Recipe, Spectrum
from qshift.rules.shift_rule import shift_rule
from qshift.rules.shots import Shots


def param_shift(
    tape: QuantumScript,
    argnum: int | Sequence[int] | None = None,
    shifts: Sequence[Sequence[float]] | None = None,
    gradient_recipes: Sequence | None = None,
    f0: Any = None,
    broadcast: bool | None = None,
    shots: Shots | None = None,
) -> tuple[list[Any], Callable[..., Any]]:
    """Differentiates a tape, or a QNode, by exact shift rules.

    It is a gradient transform of PennyLane: ``qml.qnode(dev, diff_method=qshift.param_shift)`` in
    any interface, ``qshift.param_shift(qnode)(x)``, or ``tapes, fn = qshift.param_shift(tape)``. It
    takes the place of `qml.gradients.param_shift`, with these differences:

    - Any spectrum: gates whose frequencies are not equidistant get exact rules as well, those with
      the least `sum |c_k|` (`qshift.shift_rule`).
    - No finite differences: a gate without an exact rule raises an error that names it.
    - Fewer tapes: variances, whatever their observable, come out of the same tapes as expectation
      values, and shifted tapes are broadcast into one.
    - Batches of trainable parameters are taken apart and differentiated.

    Args:
        tape: A tape or QNode that returns expectation values, variances or probabilities.
        argnum: Which trainable parameters of the tape to differentiate by, as positions among
            these; None for all. Derivatives by the others are zero.
        shifts: In radians, for each parameter of `argnum` as many as it has frequencies: rules with
            these shifts and their negatives, as in `qshift.shift_rule`.
        gradient_recipes: For each parameter of `argnum` None or a recipe of its own, triples
            (c, a, s) with f'(x) = sum_i c_i f(a_i x + s_i).
        f0: The results of the tape, if known; recipes that use the unshifted tape then do not run
            it.
        broadcast: Whether to put shifted tapes together as one broadcast tape. None does so where
            the shifted gates can be broadcast and nothing differentiates these tapes again (for
            which PennyLane has no derivatives).
        shots: ``qshift.Shots(total=...)``: the shots of all tapes of the gradient together, which
            are spread so that its errors are the smallest; or ``per_circuit=``, those of a tape on
            the average. There are few different numbers, and tapes with the same one are broadcast
            together. The tape itself needs shots, too, for its value, and `f0` is not used. As a
            keyword of a QNode: ``gradient_kwargs={"shots": qshift.Shots(total=...)}``. None for
            the shots of the tape each.

    Returns:
        The Jacobian, laid out as by `qml.gradients.param_shift`; of a tape, shifted tapes and the
        function that makes the Jacobian of their results.

    Raises:
        NoShiftRuleError: For a gate without an exact rule.
        UnsupportedError: For states, samples, entropies and postselected outcomes.
        ValueError: For shots that cannot be spread.

    Example:
        >>> @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
        ... def energy(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> round(float(qml.grad(energy)(qml.numpy.array(0.4))), 6)  # -sin(0.4)
        -0.389418
    """
    if not tape.trainable_params:
        return _nothing_trainable(tape, "gradient")
    chosen = _positions(argnum, tape)
    recipes = _recipes(tape, chosen, shifts, gradient_recipes)
    indices = [(i,) for i in chosen]
    objective = "circuits" if shots is None else "shots"
    derivatives = Derivatives(tape, indices, recipes, objective, f0, broadcast, shots)
    count = len(tape.trainable_params)

    def entries(values: Any) -> tuple[Any, ...]:
        row = tuple(values[(i,)] for i in range(count))
        return row if count > 1 else row[0]

    return derivatives.tapes, lambda results: derivatives.read(results, entries)


def param_shift_hessian(
    tape: QuantumScript,
    argnum: Any = None,
    f0: Any = None,
    broadcast: bool | None = None,
    objective: str | None = None,
    shots: Shots | None = None,
) -> Any:
    """Differentiates a tape, or a QNode, twice by the fewest shifted tapes.

    It takes the place of `qml.gradients.param_shift_hessian`. Here all entries share their tapes,
    any spectrum has exact rules, and variances and shot vectors are supported.

    Args:
        tape: A tape or QNode that returns expectation values, variances or probabilities.
        argnum: Which trainable parameters of the tape to differentiate by, as positions among
            these, or a symmetric bool[n, n] that marks entries; None for all. Other entries are
            zero.
        f0: The results of the tape, if known, in place of running it.
        broadcast: As for `qshift.param_shift`.
        objective: ``"circuits"`` (the default without shots): the fewest tapes; ``"shots"`` (the
            default with shots): the least variance for a number of shots.
        shots: As for `qshift.param_shift`: the shots of all tapes of the Hessian together.

    Returns:
        The Hessian, laid out as by `qml.gradients.param_shift_hessian`; of a tape, shifted tapes
        and the function that makes the Hessian of their results.

    Raises:
        NoShiftRuleError: For a gate without an exact rule.
        UnsupportedError: For states, samples, entropies and postselected outcomes; for a QNode
            whose gate parameters are not affine in its arguments, as the Hessian by these would
            need more than the Hessian by the gate parameters.
        ValueError: For shots that cannot be spread.

    Example:
        >>> @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
        ... def energy(x):
        ...     qml.RX(x, wires=0)
        ...     return qml.expval(qml.Z(0))
        >>> x = qml.numpy.array(0.4, requires_grad=True)
        >>> round(float(qshift.param_shift_hessian(energy)(x)), 6)  # -cos(0.4)
        -0.921061
    """
    if not tape.trainable_params:
        return _nothing_trainable(tape, "Hessian")
    objective = objective or ("shots" if tape.shots else "circuits")
    derivatives = Derivatives(tape, _pairs(argnum, tape), {}, objective, f0, broadcast, shots)
    count = range(len(tape.trainable_params))

    def entries(values: Any) -> tuple[Any, ...]:
        rows = tuple(tuple(values[min(i, j), max(i, j)] for j in count) for i in count)
        return rows if len(count) > 1 else rows[0][0]

    return derivatives.tapes, lambda results: derivatives.read(results, entries)


def _positions(argnum: Any, tape: QuantumScript) -> list[int]:
    """Returns positions among the trainable parameters."""
    count = len(tape.trainable_params)
    if argnum is None:
        return list(range(count))
    chosen = [argnum] if isinstance(argnum, int | np.integer) else list(argnum)
    if not chosen:
        warnings.warn(
            "No trainable parameters were specified for computing the Jacobian.",
            QShiftWarning,
            stacklevel=3,
        )
    _require_positions(chosen, count)
    return [int(i) for i in chosen]


def _pairs(argnum: Any, tape: QuantumScript) -> list[Index]:
    """Returns pairs of positions among the trainable parameters, each once."""
    count = len(tape.trainable_params)
    chosen = np.atleast_1d(np.arange(count) if argnum is None else np.asarray(argnum))
    if chosen.dtype == bool:
        mask = np.outer(chosen, chosen) if chosen.ndim == 1 else chosen
        if mask.shape != (count, count) or (mask != mask.T).any():
            raise ValueError(
                f"argnum: expected positions, or a symmetric bool[{count}, {count}] for the "
                f"{count} trainable parameters, got {argnum}."
            )
    else:
        _require_positions(chosen, count)
        mask = np.outer(*[np.isin(np.arange(count), chosen)] * 2)
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(mask))]


def _require_positions(chosen: Iterable[Any], count: int) -> None:
    if wrong := [i for i in chosen if not 0 <= i < count]:
        raise ValueError(
            f"argnum: there are {count} trainable parameters, 0 to {count - 1}, but got "
            f"{wrong[0]}. It counts parameters of the tape that are marked as trainable."
        )


def _recipes(
    tape: QuantumScript, chosen: Sequence[int], shifts: Any, gradient_recipes: Sequence[Any] | None
) -> dict[int, Recipe]:
    """Returns the rules that were given, {position: recipe}."""
    recipes = {}
    for name, given in (("shifts", shifts), ("gradient_recipes", gradient_recipes)):
        if given is not None and len(given) != len(chosen):
            raise ValueError(
                f"{name}: expected one entry for each of the {len(chosen)} parameters that are "
                f"differentiated, got {len(given)}."
            )
    for k, i in enumerate(chosen):
        if gradient_recipes is not None and gradient_recipes[k] is not None:
            terms = np.asarray(gradient_recipes[k], dtype=float).tolist()
            recipes[i] = Recipe(tuple(map(tuple, terms)), _period(_spectrum(tape, i)))
        elif shifts is not None and shifts[k] is not None:
            op, _, _ = tape.get_operation(i)
            spectrum = _spectrum(tape, i)
            if not isinstance(spectrum, Frequencies):
                raise NoShiftRuleError(f"shifts: {op.name} has no frequencies to find a rule for.")
            rule = shift_rule(spectrum.values, 1, shifts[k])
            pairs = zip(rule.coefficients.tolist(), rule.shifts.tolist(), strict=True)
            recipes[i] = Recipe(tuple((c, 1.0, s) for c, s in pairs), _period(spectrum))
    return recipes


def _spectrum(tape: QuantumScript, i: int) -> Spectrum | None:
    op, _, parameter = tape.get_operation(i)
    return spectra.spectra(op)[parameter] if is_angle(tape, tape.trainable_params[i]) else None


def _period(spectrum: Any) -> float | None:
    is_known = isinstance(spectrum, Frequencies) and spectrum.values
    return period(spectrum.values) if is_known else None


def _nothing_trainable(tape: QuantumScript, name: str) -> tuple[Any, ...]:
    warnings.warn(
        f"Attempted to compute the {name} of a tape with no trainable parameters. If this is "
        "unintended, please mark trainable parameters in accordance with the chosen auto "
        "differentiation framework, or via the 'tape.trainable_params' property.",
        QShiftWarning,
        stacklevel=3,
    )
    nothing: Any = (np.zeros(0),) * len(tape.measurements)
    nothing = nothing if len(nothing) > 1 else nothing[0]
    copies = tape.shots.num_copies if tape.shots.has_partitioned_shots else None
    return [], lambda _: nothing if copies is None else (nothing,) * copies


# A transform that is applied to a QNode itself does not see computations outside of the gates.


def _expand_direct(tape: QuantumScript, *_: Any, **__: Any) -> Any:
    if has_trainable_coefficients(tape):
        raise UnsupportedError(
            "Coefficients of observables are differentiated here, but qshift.param_shift(qnode) "
            "and qshift.param_shift_hessian(qnode) give derivatives by the parameters of gates. "
            "Use qml.qnode(..., diff_method=qshift.param_shift) and the interface's own "
            "derivatives, or mark the coefficients as not trainable."
        )
    return expand(tape)


def _contract_hessian(hessian: Any, cjac: Any, tape: QuantumScript) -> Any:
    contract = qml.gradients.param_shift_hessian.classical_cotransform
    if tape.shots.has_partitioned_shots:
        return tuple(contract(copy, cjac, tape) for copy in hessian)
    return contract(hessian, cjac, tape)


def _transforms(function: Any, cotransform: Any) -> list[Any]:
    """Returns a function of tapes as a transform of tapes, and as one of QNodes."""
    return [
        qml.transform(
            function,
            expand_transform=before,
            classical_cotransform=cotransform,
            final_transform=True,
        )
        for before in (expand, _expand_direct)
    ]


param_shift, _direct = _transforms(param_shift, qml.gradients.param_shift.classical_cotransform)
param_shift_hessian, _direct_hessian = _transforms(param_shift_hessian, _contract_hessian)
param_shift.is_qshifts = True  # type: ignore[attr-defined]  # for a qnode that is given it


@param_shift.custom_qnode_transform  # type: ignore[attr-defined]  # no more a function
def _(_: Any, qnode: Any, targs: Any, tkwargs: Any) -> Any:
    return _direct.default_qnode_transform(qnode, targs, tkwargs)


@param_shift_hessian.custom_qnode_transform  # type: ignore[attr-defined]
def _(_: Any, qnode: Any, targs: Any, tkwargs: Any) -> Any:
    hessian = _direct_hessian.default_qnode_transform(qnode, targs, tkwargs)

    @functools.wraps(qnode)
    def function(*args: Any, **kwargs: Any) -> Any:
        if tkwargs.get("hybrid", True):
            _require_affine(qnode, args, kwargs, tkwargs.get("argnums"))
        return hessian(*args, **kwargs)

    return function


def _require_affine(qnode: Any, args: Any, kwargs: Any, argnums: Any) -> None:
    """Raises UnsupportedError unless a QNode's gate parameters are affine in its arguments."""
    jacobian = qml.gradients.classical_jacobian(qnode, argnums, decomposed)
    elsewhere = [_nearby(x) for x in args]
    here, there = jacobian(*args, **kwargs), jacobian(*elsewhere, **kwargs)
    for a, b in zip(*(qml.pytrees.flatten(j)[0] for j in (here, there)), strict=True):
        if not qml.math.is_abstract(a) and not _same(a, b):
            raise UnsupportedError(
                "The parameters of the gates are not affine in the arguments of the qnode, so the "
                "Hessian by the arguments takes more than that by the parameters. Differentiate "
                "twice by the interface, with qml.qnode(..., diff_method=qshift.param_shift, "
                "max_diff=2), or give hybrid=False for the Hessian by the parameters."
            )


def _same(a: Any, b: Any) -> bool:
    """Whether two Jacobians of any scale agree up to rounding."""
    a, b = (np.asarray(qml.math.toarray(x)) for x in (a, b))
    tolerance = 1e-4 if a.dtype == np.float32 else 1e-9
    return np.allclose(
        a, b, rtol=0, atol=tolerance * np.max(np.abs(a), initial=0.0), equal_nan=True
    )


def _nearby(x: Any) -> Any:
    """Returns another argument of the same kind; only floating-point numbers in it differ."""
    leaves, structure = qml.pytrees.flatten(x)
    leaves = [
        1.37 * y + 0.37 if "float" in str(getattr(y, "dtype", type(y))) else y for y in leaves
    ]
    return qml.pytrees.unflatten(leaves, structure)
