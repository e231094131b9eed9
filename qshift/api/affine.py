"""All derivatives of a qnode's call at once, where its angles are affine in the arguments.

Then the chain rule has a single term: the k-th derivative by the arguments is the k-th derivative
by the angles, each of whose axes is contracted with one constant matrix, the Jacobian of the angles
by the arguments. TensorFlow differentiates only the angles, and traces nothing. (`chain_rule` would
give the same numbers, but it contracts for each combination of arguments separately, which takes
1.3 to 1.6 times as long for one argument, 7 times for order 4 by three, and it has no diagonals.)
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf
from cachetools.keys import hashkey

from qshift.api.by_arguments import ByArguments
from qshift.api.preparation import Preparation, Prepared
from qshift.api.qnode import QNode
from qshift.autodiff.angles import LINEARLY, SMOOTHLY, entries, picks
from qshift.autodiff.requests import Request, present
from qshift.rules.planner import Index, indices_along
from qshift.tensorflow_internals import is_watched

if TYPE_CHECKING:
    from qshift.circuits.compiler import Compiled

_BYTES = 1000  # that are kept of each angle of a call, about


@dataclass(frozen=True)
class AffineCall:
    """A call whose angles are affine in the sources, the arguments to differentiate by.

    Attributes:
        call: The call.
        columns: The J angles that the value and the sources are connected by.
        jacobians: The Jacobian of these angles by each source, float64[J, size of the source]; None
            for a source that no angle of the call depends on.
        errors: Whether derivatives come with their standard errors.
        ways: Of each order, what `by_arguments` has returned.
    """

    call: Prepared
    columns: tuple[int, ...]
    jacobians: tuple[np.ndarray | None, ...]
    errors: bool = False
    ways: dict[int, ByArguments] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        fn: Callable,
        args: Sequence[Any],
        sources: Sequence[tf.Tensor],
        order: int,
        errors: bool = False,
    ) -> AffineCall | None:
        """Looks at what ``fn(*args)`` would run, without running it.

        Args:
            fn: Any function.
            args: The function's arguments.
            sources: The arguments to differentiate by, the same objects as in `args`.
            order: The highest order.
            errors: Whether derivatives come with their standard errors.

        Returns:
            None if `fn` is not a qnode with one linear result for one point; if its angles are not
            known to be affine in the sources (for order 1, smooth), or the sources are not real; or
            if the results must be differentiable themselves, because TensorFlow is tracing, or a
            tape or forward accumulator of the caller follows a tensor that they depend on.
        """
        if not isinstance(fn, QNode) or not may_be_prepared(sources):
            return None
        memory = _Memory(fn.preparation, sources)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(sources)
            found = prepared(fn, args, sources, memory.found)
            if found is None:
                return None
            if not isinstance(found, AffineCall):
                call, angles = found
                least = SMOOTHLY if order <= 1 else LINEARLY
                if call.batch is not None or any(angle.follows > least for angle in angles):
                    return None
        # By the caller's tapes: the one above is closed.
        if isinstance(found, AffineCall):
            return None if any(map(is_watched, sources)) else replace(found, errors=errors)
        rows = slopes(fn, tape, angles, sources)
        if any(map(is_watched, call.parameters)):
            return None
        columns = call.program.followed
        jacobians = (
            _jacobian(rows, i, columns, source.shape.num_elements())
            for i, source in enumerate(sources)
        )
        found = cls(call, columns, tuple(jacobians), errors)
        memory.keep(found)
        return found

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory it takes without numbers of single calls."""
        held = sum(each.nbytes for each in self.jacobians if each is not None)
        return 2 * held + _BYTES * (1 + len(self.columns))  # the Jacobians are in `ways` again

    def at(self, compiled: Compiled, numbers: np.ndarray) -> AffineCall:
        """Returns the same call with other numbers in its parameters, one in each."""
        tensors = self.call.program.apart(numbers[None])
        return replace(self, call=self.call._replace(compiled=compiled, tensors=tensors))

    def derivatives(self, order: int) -> Found:
        """Runs the call, and returns its value and derivatives up to an order, and their errors.

        Every source must have a Jacobian.

        Returns:
            float64[*shape, X, ..., X] for each order k: the value's shape and k axes for all
            sources, flattened and one after the other.
        """
        by_arguments = self.by_arguments(order)
        return self._evaluated(by_arguments.indices, by_arguments)

    def by_arguments(self, order: int) -> ByArguments:
        """Returns how the derivatives by the sources follow from those by the call's angles."""
        if order not in self.ways:
            jacobians = [each for each in self.jacobians if each is not None]
            levels = self.call.program.levels(order)
            self.ways[order] = ByArguments(self.columns, jacobians, levels)
        return self.ways[order]

    def diagonals(self, order: int) -> Found:
        """Runs the call, and returns its value and the derivatives by the same entry once, twice,
        and so on, and their errors.

        Returns:
            The value, and for each order k from 1 float64[*shape, X], the k-th derivatives by each
            of the X entries of all sources.
        """
        jacobian = self.all_slopes()
        moved = [tuple(np.flatnonzero(slopes)) for slopes in jacobian.T]
        axes = [tuple(self.columns[j] for j in each) for each in moved]
        powers = range(1, order + 1)
        indices = indices_along([(), *((each,) * k for each in axes for k in powers)])
        position = {index: i for i, index in enumerate(indices)}

        def by_entries(found: np.ndarray) -> list[np.ndarray]:
            diagonals = [found[0]]
            for k in powers:
                by_entry = np.zeros((jacobian.shape[1], *found.shape[1:]))
                for x, slopes in enumerate(jacobian.T):
                    for chosen in itertools.product(moved[x], repeat=k):
                        index = tuple(sorted(self.columns[j] for j in chosen))
                        by_entry[x] += math.prod(slopes[list(chosen)]) * found[position[index]]
                diagonals.append(np.moveaxis(by_entry, 0, -1))
            return diagonals

        return self._evaluated(indices, by_entries)

    def all_slopes(self) -> np.ndarray:
        """Returns the Jacobians of all sources side by side; each source must have one."""
        return np.concatenate([each for each in self.jacobians if each is not None], axis=1)

    def _evaluated(
        self, indices: tuple[Index, ...], linear: Callable[[np.ndarray], list[np.ndarray]]
    ) -> Found:
        """Runs the call, and returns linear functions of the partial derivatives by its angles.

        Args:
            indices: The partial derivatives.
            linear: From partial derivatives [len(indices), *shape] of values to these functions;
                `shape` may begin with further axes.
        """
        if not self.errors:
            return Found(linear(evaluated(self.call, indices)[:, 0]), None)
        evaluation = started(self.call, errors=True)
        values = linear(of_result(self.call, evaluation.partials(indices)[None])[:, 0, 0])
        owed = of_result(self.call, evaluation.deviations(indices))[:, :, 0]
        errors = [np.sqrt((each**2).sum(axis=0)) for each in linear(owed)]
        return Found(values, errors)


class _Memory:
    """Finds affine calls again whose angles are single entries of the sources, or constants. All
    that is said of such a call depends on which entries they are, and on the circuit's structure.

    Args:
        preparation: Of the qnode that is called.
        sources: The sources.
    """

    def __init__(self, preparation: Preparation, sources: Sequence[tf.Tensor]) -> None:
        self._preparation, self._sources = preparation, sources
        self._key: Hashable | None = None

    def found(self, compiled: Compiled, request: Request) -> AffineCall | None:
        """Returns the call of a circuit as it was kept, with the numbers that it has now."""
        preparation, wanted = self._preparation, request.wanted_here()
        if compiled.signature is None or preparation.by_arguments or wanted and wanted.partials:
            return None
        picked = entries(compiled.parameters, self._sources)
        if picked is None:
            return None
        kinds = tuple([(each.dtype, tuple(each.shape)) for each in self._sources])
        watchers = preparation.executor.watchers()
        self._key = hashkey(compiled.signature, picked, kinds, wanted, watchers)
        with preparation.lock:
            found: AffineCall | None = preparation.affine.get(self._key)
        return None if found is None else found.at(compiled, self._numbers(compiled, picked))

    def _numbers(self, compiled: Compiled, picked: Sequence[Any]) -> np.ndarray:
        """Returns the numbers in a circuit's parameters, of which `picked` says what they are."""
        arrays = [each.numpy().ravel() for each in self._sources]
        numbers = np.empty(len(picked))
        for k, pick in enumerate(picked):
            if type(pick) is int:  # a constant
                numbers[k] = compiled.parameters[pick].numpy()
            else:
                i, (_, (entry,)) = pick
                numbers[k] = arrays[i][entry]
        return numbers

    def keep(self, found: AffineCall) -> None:
        """Keeps a call that was not found."""
        if self._key is None:
            return
        compiled = replace(found.call.compiled, parameters=())
        call = found.call._replace(compiled=compiled, parameters=(), tensors=[], angles=[])
        with self._preparation.lock, contextlib.suppress(ValueError):  # if it is too large
            self._preparation.affine[self._key] = replace(found, call=call)


class Found(NamedTuple):
    """Derivatives of a call.

    Attributes:
        values: The value, and the derivatives of each order, or the outcome of these.
        errors: The standard errors of these; None if they were not asked for.
    """

    values: Any
    errors: Any


def started(call: Prepared, **options: Any) -> Any:
    """Starts the `Evaluation` of a call."""
    parameters = call.program.assemble([tensor.numpy() for tensor in call.tensors])
    return call.program.start(parameters, number=next(call.program.calls), **options)


def evaluated(call: Prepared, indices: Sequence[Index]) -> np.ndarray:
    """Runs a call with one linear result, and returns partial derivatives of the result by the
    call's angles, float64[len(indices), N, *shape]."""
    return of_result(call, started(call).partials(indices)[None])[:, 0]


def of_result(call: Prepared, derivatives: np.ndarray) -> np.ndarray:
    """Returns derivatives of a call's result, float64[A, K, N, *shape], from those of its raw
    values, float64[K, N, M, A]."""
    (result,) = call.compiled.readout.results
    derivatives = np.moveaxis(derivatives, 3, 0)
    *axes, m = derivatives.shape
    flat = result(derivatives.reshape(math.prod(axes), m))
    return flat.reshape(*axes, *flat.shape[1:])


class Angle(NamedTuple):
    """An angle of a call that a tape follows.

    Attributes:
        column: The column of the circuit.
        value: The angle, a real tensor.
        follows: How the angle follows from the sources, `LINEARLY` or `SMOOTHLY`.
        named: The angle's name and factor, from `angles.angles`.
    """

    column: int
    value: tf.Tensor
    follows: int
    named: tuple[Hashable, float]


def may_be_prepared(sources: Sequence[tf.Tensor]) -> bool:
    """Whether derivatives by sources may be computed without tapes around the whole call: in
    eager mode, if all sources are floating-point, no tape of the caller follows one of them, and
    nobody observes the call."""
    return (
        tf.executing_eagerly()
        and present().instead_of_running is None
        and not any(is_watched(source) or not source.dtype.is_floating for source in sources)
    )


def prepared(
    fn: QNode,
    args: Sequence[Any],
    sources: Sequence[tf.Tensor],
    known: Callable[[Compiled, Request], AffineCall | None] = lambda *_: None,
) -> Any:
    """Returns what a qnode's call would run, and how.

    The open tape records that complex angles become real.

    Args:
        fn: The qnode.
        args: The arguments of the quantum function.
        sources: The arguments that a tape watches.
        known: As for `QNode.prepare`.

    Returns:
        What `known` returns, if that is not None; or else the call and its angles that are watched.
        None if the call does not have exactly one result that is linear in raw values; if a
        parameter that is not an angle is watched; or if it is not known how the angles follow from
        the sources.
    """
    call = fn.prepare(args, sources, known)
    if isinstance(call, AffineCall):
        return call
    if call is None or not call.compiled.readout.linear:
        return None
    if call.compiled.circuit.shots.has_partitioned_shots:
        return None
    call = call._replace(parameters=list(map(tf.convert_to_tensor, call.parameters)))
    angles = []
    for slot, parameter, follows, named in zip(
        call.circuit.slots, call.parameters, call.follows, call.angles, strict=True
    ):
        if is_watched(parameter):
            if slot.shape or not follows:
                return None
            real = tf.math.real(parameter) if parameter.dtype.is_complex else parameter
            angles.append(Angle(slot.start, real, follows, named))
    return call, angles


def slopes(
    fn: QNode, tape: tf.GradientTape, angles: Sequence[Angle], sources: Sequence[tf.Tensor]
) -> dict[int, list[tuple[np.ndarray, np.ndarray] | None]]:
    """Returns the slopes of angles without a batch by the sources.

    Args:
        fn: The qnode. It remembers the slopes of angles that are picked out of its arguments.
        tape: The tape that has watched the sources and recorded the angles.
        angles: The angles.
        sources: The sources.

    Returns:
        Column -> for each source (entries, slopes), or None if the angle does not depend on it.
    """
    kinds = tuple((source.dtype, tuple(source.shape)) for source in sources)
    ways = picks([angle.named for angle in angles], sources)
    rows: dict[int, list] = {}
    for angle, way in zip(angles, ways, strict=True):
        key = (way, angle.value.dtype, kinds)
        with fn.lock:
            row = fn.slopes.get(key) if way else None
        if row is None:
            row = [
                None if slope is None else nonzero(slope)
                for slope in tape.gradient(angle.value, sources)
            ]
            if way:
                with fn.lock:
                    fn.slopes[key] = row
        rows[angle.column] = row
    return rows


def nonzero(gradient: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of a gradient's entries that are not zero, and these entries. Gradients
    by gathered entries are sparse."""
    flat = tf.convert_to_tensor(gradient).numpy().ravel()
    entries = np.flatnonzero(flat)
    return entries, flat[entries]


def _jacobian(rows: Any, i: int, columns: Sequence[int], size: int) -> np.ndarray | None:
    """Returns the Jacobian of some angles by the i-th source, given the slopes of all angles."""
    if size and all(row[i] is None for row in rows.values()):
        return None
    jacobian = np.zeros((len(columns), size))
    for position, column in enumerate(columns):
        if rows[column][i] is not None:
            entries, slopes = rows[column][i]
            jacobian[position, entries] = slopes
    return jacobian
