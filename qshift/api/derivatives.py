"""The value of a function of qnodes and all its derivatives, in one batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from qshift.api.affine import AffineCall
from qshift.api.chain_rule import ChosenPartials
from qshift.api.conversion import as_own
from qshift.api.estimate import Estimate, observed
from qshift.api.outcome import require_floats, run, sums_of
from qshift.api.qnode import QNode
from qshift.autodiff.dry_run import rehearsal
from qshift.autodiff.layout import differentiable, highest_order
from qshift.autodiff.remembered_ops import assignments, remembered_ops
from qshift.autodiff.requests import Wanted, checked, request
from qshift.autodiff.tracing import call_compiled
from qshift.errors import UnsupportedError
from qshift.inputs import argument_positions, is_integer
from qshift.rules.cost import Plan
from qshift.tensorflow_internals import from_numpy


class EndsError(ValueError):
    """Raised for a derivative that depends on arguments but cannot be differentiated by them."""


def derivatives(
    fn: Callable,
    *args: Any,
    order: int | None = None,
    argnums: int | tuple[int, ...] | None = None,
    partials: Sequence[tuple[int, ...]] | None = None,
    batched: int | tuple[int, ...] = (),
    diagonal: bool = False,
    errors: bool = False,
    wanted: Callable | None = None,
) -> Any:
    """Returns the value of a function and all its derivatives up to an order, or chosen ones.

    Each `qshift` qnode that the function calls runs everything it takes in one batch (on hardware,
    one job), or in two with adjoint differentiation: values and gradients. A `tf.function` is taken
    as the Python function that it was made of. A `tf.function` that is called inside stays
    compiled: its graph does not depend on its caller, so its qnodes take one batch per order.

    With `partials`, nothing is traced for a qnode with one linear result (`qml.expval` of a fixed
    observable, `qml.probs`). Other functions are traced in every call, as long as they are not in
    a `tf.function`, and so are qnodes with angles that follow from the arguments by custom
    gradients, or results that a tape around this call follows.

    Args:
        fn: A `QNode`, or any TensorFlow function of qnodes, that returns a tensor. A QNode of
            PennyLane's own is converted by `qshift.from_qnode`. One that is called inside of a
            function cannot be seen and has PennyLane's own derivatives: beyond its ``max_diff``,
            by default 1, they are zeros or None. Convert it yourself.
        *args: The function's arguments; numbers and arrays are converted to tensors.
        order: The highest order, an integer; 1 if nothing else is given.
        argnums: Position of the argument to differentiate by, or a tuple of positions. None stands
            for the only argument, or for all that are floating-point: integers beside them are
            constants. Where there are only integers, they are angles like any other numbers.
        partials: Instead of an order, the derivatives wanted, each as a tuple of the positions of
            the arguments to differentiate by, one after the other: ``[(), (0, 0), (0, 0, 1)]`` is
            the value, the second derivative by argument 0, and its derivative by argument 1. No
            other derivative is evaluated.
        batched: With `partials`, positions of arguments that have a row for each point of a batch:
            row b of the value depends on row b of such an argument only, and its derivatives by the
            argument are those by row b.
        diagonal: Whether only derivatives by the same entry, once or several times, of one argument
            are wanted.
        errors: Whether each result comes with its standard errors, estimated from the same shots.
            They take samples, so the device has to be the embedded simulator, or another simulator
            of PennyLane's if each qnode returns one Pauli word or probabilities. Functions other
            than a qnode with one linear result are not traced but called in eager mode, which
            takes longer, as are qnodes whose angles are no affine functions of the arguments;
            errors follow as in `qshift.estimate`, which says how `qml.var` is corrected then.

        wanted: A function of value, gradient, and so on, each as it would be returned, that returns
            what is wanted of them: a trace, a product with a vector, a Newton step; a tensor or a
            nest of them, of TensorFlow ops. Of a qnode with one linear result and angles that are
            affine in the arguments, shots are spread for that, not for all entries. If the function
            is affine itself, only the derivatives that it takes are evaluated: it is called at
            numbers that are made up, to find out. If not, a first share of the shots finds where to
            spend the others; there is none with a `pilot` of 0, and on backends with jobs only if a
            `pilot` is given. With `Shots(error=)`, the error is that of what an affine function
            returns, and of the derivatives that another one is given.

    Returns:
        A tuple (value, gradient, Hessian, ...), of order + 1 entries. For one argument the k-th is
        a tensor of shape ``value.shape + k * arg.shape``. For a tuple of arguments the k-th is a
        nest of tuples, k deep, as in JAX.
        With `diagonal`, all but the value are of shape ``value.shape + arg.shape``.
        With `partials`, a tuple of one tensor for each, of shape ``value.shape`` and the shapes of
        the arguments, those of batched ones without their first axis.
        With `errors`, each entry is an `Estimate` of two such entries: ``value`` and ``error``.
        With `wanted`, what it returns; with `errors`, an `Estimate` of that.

    Raises:
        ValueError: If the function does not return a single tensor, if the tensor does not depend
            on an argument to differentiate by, if a partial derivative names an argument that does
            not exist, if keywords exclude each other, or if `wanted` does not return floating-point
            tensors that follow from the derivatives.
        UnsupportedError: If errors are asked for where they are not known, see `qshift.estimate`.

    Example:
        >>> f, f_xx, by_weights = qshift.derivatives(
        ...     circuit, x, weights, partials=[(), (0, 0), (0, 0, 1)], batched=0
        ... )
        >>> laplacian = qshift.derivatives(
        ...     energy, x, order=2, wanted=lambda f, gradient, hessian: tf.linalg.trace(hessian)
        ... )
    """
    fn = as_own(fn)
    if isinstance(fn, tf.types.experimental.PolymorphicFunction):
        fn = fn.python_function  # a graph is traced for one set of derivatives to run ahead
    if partials is not None:
        if order is not None or argnums is not None or diagonal or errors or wanted is not None:
            raise ValueError(
                "Give either partials, or order, argnums, diagonal, errors and wanted."
            )
        return _chosen(fn, args, partials, batched)
    if batched != ():
        raise ValueError("batched= needs partials=.")
    if wanted is not None and not callable(wanted):
        raise ValueError(
            f"wanted= takes a function of value, gradient, and so on, got {wanted!r}. "
            "Choose single derivatives with partials=."
        )
    if diagonal and wanted is not None:
        raise ValueError(
            "Give either diagonal or wanted: wanted=lambda f, gradient, hessian: "
            "tf.linalg.diag_part(hessian) is the diagonal alone."
        )
    order = 1 if order is None else order
    order = highest_order(order)
    inputs, positions = differentiable(args, argnums, whole=order > 0)
    sources = [inputs[i] for i in positions]
    if order and not sources:
        given = ", ".join(type(arg).__name__ for arg in inputs) or "none"
        raise ValueError(
            f"There is nothing to differentiate by, with argnums={argnums} and arguments {given}. "
            "Give numbers, arrays or floating-point tensors; an integer beside them is a constant, "
            "unless argnums names it."
        )
    single = is_integer(argnums) or (argnums is None and len(inputs) == 1)
    if diagonal and not single:
        raise ValueError("diagonal=True needs a single argument, see argnums.")
    before = assignments()
    with request(wanted=Wanted(0 if diagonal or wanted is not None else order)):
        affine = None
        if order or errors or wanted is not None:
            affine = AffineCall.of(fn, inputs, sources, order, errors)
    if affine is not None and wanted is not None and errors and affine.call.circuit.num_values > 1:
        affine = None  # several values of a circuit share samples, which `estimate` minds
    if affine is None:
        if assignments() > before:
            raise UnsupportedError(
                f"{getattr(fn, '__name__', 'The function')} assigns to variables, and would be "
                "called a second time, since its angles are no affine functions of the arguments. "
                "Assign outside of it, or ask for single derivatives with partials=, which calls "
                "it once."
            )

        def nested() -> Any:
            with request(wanted=Wanted(order)):
                found = _by_tapes(fn, inputs, sources, positions, order, single, errors)
            if wanted is None:
                return found
            result = wanted(*found)
            require_floats(result)
            return result

        if wanted is not None:
            return observed(nested) if errors else nested()
        parts: Sequence[Any] = observed(nested, first=True) if errors else (nested(),)
        if diagonal:
            parts = [_diagonals(part, sources[0].shape) for part in parts]
        return tuple(map(Estimate, *parts)) if errors else tuple(parts[0])
    if order:
        _require_connected(affine.jacobians, sources, positions)
    dtype = affine.call.dtype
    if wanted is not None:
        outcome = run(affine, order, wanted, _tensors(sources, dtype, single))
        return Estimate(*outcome) if errors else outcome.values
    found = affine.diagonals(order) if diagonal and order else affine.derivatives(order)

    def laid(arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        axes = [min(k, 1) if diagonal else k for k in range(order + 1)]
        each = zip(axes, arrays, strict=True)
        return tuple(_split(array, sources, dtype, k, single) for k, array in each)

    if found.errors is None:
        return laid(found.values)
    return tuple(map(Estimate, laid(found.values), laid(found.errors)))


def planned(
    fn: QNode,
    args: Sequence[Any],
    order: int,
    argnums: int | tuple[int, ...] | None,
    wanted: Callable,
) -> Plan | None:
    """Returns what `derivatives` takes for what is wanted, without running anything; None where it
    evaluates all derivatives."""
    inputs, positions = differentiable(args, argnums, whole=order > 0)
    sources = [inputs[i] for i in positions]
    with request(wanted=Wanted(0)):
        affine = AffineCall.of(fn, inputs, sources, order)
    if affine is None or fn.prefetch:  # what is prefetched is run, whatever is wanted
        return None
    if order:
        _require_connected(affine.jacobians, sources, positions)
    call, single = affine.call, is_integer(argnums) or (argnums is None and len(inputs) == 1)
    sums = sums_of(affine, order, wanted, _tensors(sources, call.dtype, single))
    axes = tuple((affine.columns,) * k for k in range(order + 1))
    return fn.preparation.planned(call.compiled.circuit, call.circuit, axes, 1, sums)


def _tensors(sources: Sequence[tf.Tensor], dtype: tf.DType, single: bool) -> Callable:
    """Returns a function from arrays of derivatives of order 0, 1, and so on, to nested tuples of
    tensors."""
    return lambda arrays: [_split(each, sources, dtype, k, single) for k, each in enumerate(arrays)]


def _diagonals(found: Any, shape: Any) -> tuple[Any, ...]:
    """Takes the derivatives by single entries out of all derivatives."""
    value, size = found[0], shape.num_elements()
    diagonals = [value]
    for k, derivative in enumerate(found[1:], 1):
        flat = tf.reshape(derivative, [*value.shape, *[size] * k])
        for _ in range(k - 1):
            flat = tf.linalg.diag_part(flat)
        diagonals.append(tf.reshape(flat, [*value.shape, *shape]))
    return tuple(diagonals)


def _split(array: Any, sources: Sequence[tf.Tensor], dtype: tf.DType, k: int, single: bool) -> Any:
    """Takes the last k axes of an array or tensor, each of all sources, apart into nested tuples of
    tensors."""
    if k == 0:
        if isinstance(array, np.ndarray) and dtype in (tf.float64, tf.float32):
            return from_numpy(array.astype(dtype.as_numpy_dtype, copy=False))
        return tf.cast(tf.convert_to_tensor(array), dtype)
    axis, numbers = len(array.shape) - k, isinstance(array, np.ndarray)
    before, after = tuple(array.shape)[:axis], tuple(array.shape)[axis + 1 :]
    sizes = [source.shape.num_elements() for source in sources]
    parts = (
        np.split(array, np.cumsum(sizes)[:-1], axis) if numbers else tf.split(array, sizes, axis)
    )
    reshape = np.reshape if numbers else tf.reshape
    entries = tuple(
        _split(
            reshape(part, (*before, *source.shape, *after)), sources, source.dtype, k - 1, single
        )
        for part, source in zip(parts, sources, strict=True)
    )
    return entries[0] if single else entries


def _chosen(fn: Callable, args: Any, partials: Any, batched: Any) -> tuple[tf.Tensor, ...]:
    """Returns chosen partial derivatives; see `derivatives`."""
    partials = checked(partials, len(args))
    batched = argument_positions(batched, len(args), "batched")
    args, positions = differentiable(args, sorted({i for partial in partials for i in partial}))

    before = assignments()
    found = _by_chain_rule(fn, args, partials, positions, batched) if positions else None
    if found is not None:
        return found
    if assignments() > before:
        raise UnsupportedError(
            f"{getattr(fn, '__name__', 'The function')} assigns to variables, and would be called "
            "a second time, as its angles follow from the arguments in a way that qshift does not "
            "know. Assign outside of it, or call derivatives in a tf.function, which calls it once."
        )

    def evaluate(*sources: Any) -> Any:
        with request(wanted=Wanted(0, ((), *partials), sources)), remembered_ops():
            return _nested(fn, sources, partials, batched)

    if tf.executing_eagerly() and positions:
        # In a graph, TensorFlow leaves out ops whose results nobody uses.
        tensors = [i for i, arg in enumerate(args) if isinstance(arg, tf.Tensor)]

        def traced(*given: Any) -> Any:
            found = dict(zip(tensors, given, strict=True))
            return evaluate(*(found.get(i, arg) for i, arg in enumerate(args)))

        with retracing():
            compiled = tf.function(traced, autograph=False)
            return call_compiled(compiled, [args[i] for i in tensors], lambda: evaluate(*args))
    return evaluate(*args)


def _by_chain_rule(
    fn: Any, args: Any, partials: Any, positions: Sequence[int], batched: Any
) -> tuple[tf.Tensor, ...] | None:
    """Returns chosen partial derivatives of a qnode by `chain_rule`, or None if that cannot be."""
    with request(wanted=Wanted(0, partials, tuple(args))):
        chosen = ChosenPartials.of(fn, args, partials, batched)
    if chosen is None:
        return None
    followed = [chosen.follows(i) or None for i in positions]
    _require_connected(followed, [args[i] for i in positions], positions)
    return chosen.evaluate(partials)


def _nested(fn: Any, args: Any, partials: Any, batched: Any) -> tuple[Any, ...]:
    """Differentiates the function by one argument after the other."""
    lower: set[tuple[int, ...]] = {
        partial[:k] for partial in partials for k in range(len(partial) + 1)
    } | {()}
    positions = sorted({i for partial in lower for i in partial})

    def up_to(k: int) -> dict[tuple[int, ...], tf.Tensor]:
        if k == 0:
            value = _value(fn, args)
            if batched and value.shape.rank == 0:
                raise ValueError(
                    f"batched={batched} needs a value with a row for each of their rows, but the "
                    "value is a single number. Does it depend on them?"
                )
            return {(): value}
        wanted = sorted(partial for partial in lower if len(partial) == k)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([args[i] for i in positions])
            found = up_to(k - 1)
            # A row of the value depends on no other row of the argument.
            targets = {
                partial: tf.reduce_sum(found[partial[:-1]], 0)
                if partial[-1] in batched
                else found[partial[:-1]]
                for partial in wanted
            }
        if k == 1 and not tf.executing_eagerly():  # graphs leave out ops that nobody uses
            others = [i for i in positions if (i,) not in lower]
            gradients = [tape.gradient(found[()], args[i]) for i in others]
            _require_connected(gradients, [args[i] for i in others], others)
        for partial, target in targets.items():
            i, axes = partial[-1], target.shape.rank
            result = tape.jacobian(target, args[i]) if axes else tape.gradient(target, args[i])
            if k == 1:
                _require_connected([result], [args[i]], [i])
            if result is None:
                result = tf.zeros([*target.shape, *args[i].shape], target.dtype)
            if i in batched:
                rows_first = [axes, *range(axes), *range(axes + 1, result.shape.rank)]
                result = tf.transpose(result, rows_first)
            found[partial] = result
        return found

    found = up_to(max(map(len, lower)))
    return tuple(found[partial] for partial in partials)


def _value(fn: Callable, args: Sequence[Any]) -> tf.Tensor:
    value = fn(*args)
    if not tf.is_tensor(value):
        raise ValueError(
            f"derivatives needs a function that returns one tensor, got a "
            f"{type(value).__name__}. Stack or select in the function."
        )
    return value


def _by_tapes(
    fn: Callable,
    args: Sequence[Any],
    sources: Sequence[tf.Tensor],
    positions: Sequence[int],
    order: int,
    single: bool,
    untraced: bool = False,
) -> tuple[tf.Tensor, ...]:
    """Differentiates the function by nested tapes, which works for all functions; with `untraced`,
    without TensorFlow's loops in graphs."""
    shapes = [tuple(source.shape) for source in sources]

    def up_to(k: int) -> list[tf.Tensor]:
        if k == 0:
            return [_value(fn, args)]
        # Variables that the function brings along are constants here, and must not cost circuits.
        with tf.GradientTape(untraced, watch_accessed_variables=False) as tape:
            tape.watch(sources)
            lower = up_to(k - 1)
            flat = [tf.reshape(t, [-1]) for t in tf.nest.flatten(lower[-1])]
            if len({t.dtype for t in flat}) > 1:  # where the arguments have several dtypes
                flat = [tf.cast(t, tf.float64) for t in flat]
            target = tf.concat(flat, 0) if len(flat) > 1 else flat[0]
        # Where TensorFlow finds no first derivative, the user has made a mistake. It finds no
        # higher derivatives of a linear function either, and these are zero.
        if untraced and target.shape == (0,):
            jacobians = [tf.zeros([0, *shape], target.dtype) for shape in shapes]
        elif target.shape == (1,):  # spares TensorFlow a loop
            gradients = tape.gradient(target, sources)  # sparse where entries are gathered
            jacobians = [g if g is None else tf.convert_to_tensor(g)[None] for g in gradients]
        elif untraced:
            rows = tf.eye(int(target.shape[0]), dtype=target.dtype)
            by_entry = [tape.gradient(target, sources, row) for row in rows]
            jacobians = [_stacked(row[i] for row in by_entry) for i in range(len(sources))]
        else:
            jacobians = tape.jacobian(target, sources)
        if k == 1:
            _require_connected(jacobians, sources, positions)
        elif missing := [i for i, j in zip(positions, jacobians, strict=True) if j is None]:
            _require_constant(fn, args, positions, missing, k - 1)
        jacobians = [
            tf.zeros([*target.shape, *shape], target.dtype) if jacobian is None else jacobian
            for jacobian, shape in zip(jacobians, shapes, strict=True)
        ]
        sizes = [int(t.shape[0]) for t in flat]
        pieces = [tf.split(jacobian, sizes) for jacobian in jacobians]
        entries = []
        for i, entry in enumerate(tf.nest.flatten(lower[-1])):
            by_source = [
                tf.reshape(piece[i], tuple(entry.shape) + shape)
                for piece, shape in zip(pieces, shapes, strict=True)
            ]
            entries.append(by_source[0] if single else tuple(by_source))
        return [*lower, _nest_like(lower[-1], entries)]

    with retracing():
        return tuple(up_to(order))


def _stacked(gradients: Iterable[Any]) -> tf.Tensor | None:
    """Returns the gradients of several numbers by one tensor as one tensor; None if all are."""
    found = [each if each is None else tf.convert_to_tensor(each) for each in gradients]
    zeros = next((tf.zeros_like(each) for each in found if each is not None), None)
    if zeros is None:
        return None
    return tf.stack([zeros if each is None else each for each in found])


@contextlib.contextmanager
def retracing() -> Iterator[None]:
    """Silences TensorFlow's advice against retracing, where functions are traced anew on purpose.

    TensorFlow itself traces each jacobian anew, and counts functions that were made in the same
    line of code as one function.
    """

    def other(record: Any) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _require_connected(
    jacobians: Sequence[Any], sources: Sequence[tf.Tensor], positions: Sequence[int]
) -> None:
    """Raises ValueError for a source that the value does not depend on, unless it has no entries
    that it could depend on."""
    missing = [
        i
        for i, source, jacobian in zip(positions, sources, jacobians, strict=True)
        if jacobian is None and source.shape.num_elements() != 0
    ]
    if missing:
        raise ValueError(
            f"The value does not depend on argument {', '.join(map(str, missing))}, as far as "
            "TensorFlow can see. Compute it from the tensors given, without .numpy(), or leave the "
            "argument out with argnums=."
        )


def _require_constant(fn: Any, args: Any, positions: Any, missing: Any, order: int) -> None:
    """Raises EndsError if a derivative depends on arguments, though TensorFlow cannot see how.

    The derivative is evaluated at arguments nearby: if the function is linear, or linear by pieces,
    it is the same there. No circuit is run for that, because values made up in place of a qnode's
    have derivatives of every order, too. In graphs nothing is checked.

    Args:
        fn: The function.
        args: Its arguments.
        positions: Positions of the arguments that are differentiated by.
        missing: Positions of the arguments by which TensorFlow finds no further derivative.
        order: The order of the derivatives that it finds.
    """
    if not tf.executing_eagerly():
        return
    moved = list(args)
    for i in missing:
        moved[i] = moved[i] + 1e-3 * (1 + tf.abs(moved[i]))

    def highest(args: Sequence[Any]) -> Any:
        sources = [args[i] for i in positions]
        return _by_tapes(fn, args, sources, positions, order, single=False)[-1]

    with rehearsal():
        pairs = zip(tf.nest.flatten(highest(args)), tf.nest.flatten(highest(moved)), strict=True)
    if not all(np.allclose(a, b, rtol=1e-5, atol=0, equal_nan=True) for a, b in pairs):
        raise EndsError(
            f"The derivative of order {order} depends on argument {', '.join(map(str, missing))}, "
            f"but has no derivative itself. Does the function call a QNode of PennyLane's, whose "
            "derivatives end at its max_diff? Convert that by qshift.from_qnode."
        )


def _nest_like(structure: Any, entries: Iterable[Any]) -> Any:
    ahead = iter(entries)

    def build(node: Any) -> Any:
        return tuple(build(child) for child in node) if isinstance(node, tuple) else next(ahead)

    return build(structure)
