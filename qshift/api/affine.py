"""All derivatives of a qnode's call at once, where its angles are affine in the arguments.

Then the chain rule has a single term: the k-th derivative by the arguments is the k-th derivative
by the angles with each of its axes contracted with one constant Jacobian, that of the angles by
the arguments. TensorFlow differentiates the angles only, and traces nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.api.preparation import Prepared
from qshift.api.qnode import QNode
from qshift.autodiff.angles import LINEARLY, SMOOTHLY, picks
from qshift.autodiff.contraction import one_order_up
from qshift.rules.planner import Index, indices_along
from qshift.tensorflow_internals import is_watched


@dataclass(frozen=True)
class Contraction:
    """A call whose derivatives are those by its angles, contracted.

    Attributes:
        call: The call.
        columns: The angles that the value depends on and that follow the sources; J of them.
        jacobians: Of these angles by each source, float64[J, size of the source]; None for a source
            that no angle follows, not even one that the value does not depend on.
    """

    call: Prepared
    columns: tuple[int, ...]
    jacobians: tuple[np.ndarray | None, ...]

    @classmethod
    def of(
        cls, fn: Callable, args: Sequence[Any], sources: Sequence[tf.Tensor], order: int
    ) -> Contraction | None:
        """Looks at what ``fn(*args)`` would run, without running it.

        Args:
            fn: Any function.
            args: Its arguments.
            sources: Those to differentiate by, as `args` holds them.
            order: The highest order.

        Returns:
            None where there is more to the derivatives than this: if `fn` is not a qnode with one
            linear result for one point; if its angles are not known to be affine in the sources (to
            first order smooth), or these not real; if the results must be differentiable
            themselves, because TensorFlow is tracing, or a tape or forward accumulator of the
            caller follows what they depend on.
        """
        if not isinstance(fn, QNode) or not may_be_prepared(sources):
            return None
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(sources)
            found = prepared(fn, args, sources)
            if found is None:
                return None
            call, angles = found
            least = SMOOTHLY if order <= 1 else LINEARLY
            if call.batch is not None or any(angle.follows > least for angle in angles):
                return None
        rows = slopes(fn, tape, angles, sources)
        if any(map(is_watched, call.parameters)):  # now that the tape above is closed
            return None
        columns = next((active for active in call.program.active if active), ())
        jacobians = (
            _jacobian(rows, i, columns, source.shape.num_elements())
            for i, source in enumerate(sources)
        )
        return cls(call, columns, tuple(jacobians))

    def derivatives(self, order: int) -> list[np.ndarray]:
        """Runs the call, and returns its value and derivatives up to an order.

        Every source must have a Jacobian.

        Returns:
            float64[*shape, X, ..., X] for each order k: the value's shape and k axes for all
            sources, flattened and one after the other.
        """
        levels: list[tuple[Index, ...]] = [((),)]
        tables = []
        for _ in range(order):
            indices, table = one_order_up(levels[-1], self.columns)
            levels.append(indices)
            tables.append(table)
        found = self._evaluate([index for level in levels for index in level])
        jacobian = self._all_slopes()
        ends = np.cumsum([len(level) for level in levels])[:-1]
        derivatives = []
        for k, derivative in enumerate(np.split(found, ends)):
            for table in reversed(tables[:k]):  # from all a + j to all a
                derivative = np.tensordot(derivative[table], jacobian, (1, 0))
            derivatives.append(derivative[0])
        return derivatives

    def diagonals(self, order: int) -> list[np.ndarray]:
        """Runs the call, and returns its value and the derivatives by single entries.

        Returns:
            float64[*shape, X] for each order from 1, after the value: by each entry of all sources,
            k times.
        """
        jacobian = self._all_slopes()
        moved = [tuple(np.flatnonzero(slopes)) for slopes in jacobian.T]
        axes = [tuple(self.columns[j] for j in each) for each in moved]
        powers = range(1, order + 1)
        indices = indices_along([(), *((each,) * k for each in axes for k in powers)])
        found = self._evaluate(indices)
        position = {index: i for i, index in enumerate(indices)}
        diagonals = [found[0]]
        for k in powers:
            by_entry = np.zeros((jacobian.shape[1], *found.shape[1:]))
            for x, slopes in enumerate(jacobian.T):
                for chosen in itertools.product(moved[x], repeat=k):
                    index = tuple(sorted(self.columns[j] for j in chosen))
                    by_entry[x] += math.prod(slopes[list(chosen)]) * found[position[index]]
            diagonals.append(np.moveaxis(by_entry, 0, -1))
        return diagonals

    def _all_slopes(self) -> np.ndarray:
        """Returns those of all sources, which must have one, side by side."""
        return np.concatenate([each for each in self.jacobians if each is not None], axis=1)

    def _evaluate(self, indices: Sequence[tuple[int, ...]]) -> np.ndarray:
        """Runs the call, and returns partial derivatives by its angles, [len(indices), *shape]."""
        return evaluated(self.call, indices)[:, 0]


def evaluated(call: Prepared, indices: Sequence[Index]) -> np.ndarray:
    """Runs a call of linear results, and returns partial derivatives by its angles,
    float64[len(indices), N, *shape]."""
    parameters = call.program.assemble([tensor.numpy() for tensor in call.tensors])
    evaluation = call.program.start(parameters, number=next(call.program.calls))
    (result,) = call.compiled.readout.results
    derivatives = np.moveaxis(evaluation.partials(indices), 2, 0)
    a, n, m = derivatives.shape
    flat = result(derivatives.reshape(a * n, m))
    return flat.reshape(a, n, *flat.shape[1:])


class Angle(NamedTuple):
    """An angle of a call that somebody watches.

    Attributes:
        column: Of the circuit.
        value: A real tensor.
        follows: How it follows from the sources, `LINEARLY` or `SMOOTHLY`.
        named: What `angles.angles` says of it.
    """

    column: int
    value: tf.Tensor
    follows: int
    named: tuple[Hashable, float]


def may_be_prepared(sources: Sequence[tf.Tensor]) -> bool:
    """Whether somebody may differentiate by sources in a way of his own: in eager mode, unless
    results must be differentiable themselves, by a tape of the caller's that follows one of them.
    """
    return tf.executing_eagerly() and not any(
        is_watched(source) or not source.dtype.is_floating for source in sources
    )


def prepared(
    fn: QNode, args: Sequence[Any], sources: Sequence[tf.Tensor]
) -> tuple[Prepared, list[Angle]] | None:
    """Returns what a qnode's call would run, and its angles that are watched, which is recorded
    where they are complex.

    Args:
        fn: The qnode.
        args: Of its quantum function.
        sources: Those that a tape watches.

    Returns:
        None if the call has more than one linear result, of whose raw values its derivatives are
        made as it is itself; if others than angles are watched, or it is not known how these follow
        from the sources: what nobody knows may do anything to cotangents.
    """
    call = fn.prepare(args, sources)
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
            angles.append(Angle(slot.start, tf.math.real(parameter), follows, named))
    return call, angles


def slopes(
    fn: QNode, tape: tf.GradientTape, angles: Sequence[Angle], sources: Sequence[tf.Tensor]
) -> dict[int, list[tuple[np.ndarray, np.ndarray] | None]]:
    """Returns the slopes of angles without a batch by the sources.

    Args:
        fn: The qnode, which remembers those of angles that are picked out of its arguments.
        tape: Has watched the sources, and recorded the angles.
        angles: The angles.
        sources: The sources.

    Returns:
        Column -> (entries, slopes) by each source; None for one that the angle does not follow.
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
    """Returns which entries of a gradient are not zero, and these; those by gathered entries are
    sparse."""
    flat = tf.convert_to_tensor(gradient).numpy().ravel()
    entries = np.flatnonzero(flat)
    return entries, flat[entries]


def _jacobian(rows: Any, i: int, columns: Sequence[int], size: int) -> np.ndarray | None:
    """Returns the Jacobian of some angles by the i-th source, given those of all that move."""
    if size and all(row[i] is None for row in rows.values()):
        return None
    jacobian = np.zeros((len(columns), size))
    for position, column in enumerate(columns):
        if rows[column][i] is not None:
            entries, slopes = rows[column][i]
            jacobian[position, entries] = slopes
    return jacobian
