"""The recursion: derivatives of derivatives are the same function, one order up.

The derivatives D_a of a circuit's values, for a set of multi-indices a, are one function of the
angles (`Partials`). Its gradient contracts the incoming cotangent with the D_(a + j), which is the
same function one order up; so is its tangent. TensorFlow recurses as deep as it is asked to, and
every level reads from the same evaluation.

A contraction (`Contracted`) is an op of its own: when it runs, its vector is known, so derivatives
that zeros of the vector would multiply are not evaluated. It is linear in the vector, and its
derivative by the angles is a contraction of the same kind one order up. Where TensorFlow vectorises
a loop of contractions, as in a `tape.jacobian`, the derivatives do not depend on the vectors, so
they are evaluated once.

In compiled functions the angles come in parts, one tensor for each set of tensors that they are
computed from. TensorFlow traces derivatives by all parts and prunes those that lead nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.contraction import Contraction, Pullback, Pushforward, zeros_that_follow
from qshift.autodiff.evaluation import Later
from qshift.autodiff.node import at_hand, run
from qshift.autodiff.pulled_back import pays, shifts_of
from qshift.executors.executor import Asked
from qshift.rules.planner import Index, Planner
from qshift.tensorflow_internals import following

if TYPE_CHECKING:
    from qshift.autodiff.direct import Direct
    from qshift.autodiff.node import Source
    from qshift.autodiff.program import Program

_MANY = 8  # values that NumPy does not add up one after the other


def _order(indices: Sequence[Index]) -> int | None:
    """Returns the order of partial derivatives; None if they are of several."""
    orders = set(map(len, indices))
    return orders.pop() if len(orders) == 1 else None


class Partials:
    """The derivatives D_a of a program's values, a function of its tensors: float64[N, M, A].

    Args:
        program: The program.
        indices: The multi-indices a; A of them.
    """

    def __init__(self, program: Program, indices: tuple[Index, ...]) -> None:
        self.program, self.indices = program, indices
        self.shape: tuple[int, ...] = program.circuit.num_values, len(indices)
        self.order = _order(indices)
        self._contracted: dict[tuple[type, int, bool], Contracted] = {}
        # Who evaluates values in a graph gives first derivatives, too, where they are read.
        parts = [part for part in program.active if part] if indices == ((),) else []
        self.along = [program.partials(tuple((j,) for j in part)) for part in parts]

    def __call__(
        self, source: Source, *tensors: tf.Tensor, also: tuple[Any, ...] = ()
    ) -> np.ndarray:
        return source.partials(self.indices, also)

    def asks(
        self, direct: Direct, others: Sequence[Index] | None, once: bool = False
    ) -> Asked | None:
        """Returns what this is of the results that executors give directly; None if it is none.

        Args:
            direct: The circuit.
            others: The derivatives that all ops of the call read together; None if each is read
                once.
            once: As for `pays`.
        """
        if self.indices == ((),):
            return Asked("values")
        if self.order == 1:
            columns = tuple([j for (j,) in self.indices])
            return Asked("gradients", columns, cones=direct.planner.cones)
        return None

    def gradient(
        self, call: Any, tensors: Sequence[tf.Tensor], cotangent: tf.Tensor, wanted: Sequence[bool]
    ) -> list[Any]:
        """Returns the sums over a of cotangent_a D_(a + j), for the j of each part."""
        return [
            self.contract(Pullback, part, call, tensors, cotangent)
            if active is not None and wants
            else None
            for part, (active, wants) in enumerate(zip(self.program.active, wanted, strict=True))
        ]

    def tangent(self, call: Any, tensors: Any, tangents: Any) -> Any:
        """Returns the sums over j of tangent_j D_(a + j), for each a."""
        parts = [part for part, active in enumerate(self.program.active) if active is not None]
        pushed = [self.contract(Pushforward, p, call, tensors, tangents[p]) for p in parts]
        return tf.add_n(pushed or [tf.zeros([tf.shape(tensors[0])[0], *self.shape], tf.float64)])

    def contract(
        self, kind: type[Contraction], part: int, call: Any, tensors: Any, vector: tf.Tensor
    ) -> tf.Tensor:
        """Contracts a vector with the D_(a + j), for the j of one part."""
        inputs = [*tensors, vector]
        # The gradient of one value comes with the value.
        of_values, single = self.indices == ((),), self.program.circuit.num_values == 1
        pulls = self.program.pulls_back and not (single and (of_values or tf.executing_eagerly()))
        if self.program.weighs:
            pulls = self._weighs(inputs)
        key = kind, part, pulls and kind is Pullback
        if key not in self._contracted:
            self._contracted[key] = Contracted(self, part, kind, key[2])
        contracted = self._contracted[key]
        if not self.program.active[part]:
            zeros = tf.zeros([tf.shape(vector)[0], *contracted.shape], tf.float64)
            return zeros_that_follow(zeros, inputs)
        if tf.executing_eagerly():
            # An observer is told derivatives, and follows what is computed from them.
            is_whole = call.qshift_evaluation.observer is not None
        else:
            at_once = not contracted.pulls and at_hand(contracted.upper, call, tensors) is not None
            is_whole = self.program.reproducible or at_once
        return contracted.of_all(call, inputs) if is_whole else run(contracted, call, inputs)

    def _weighs(self, inputs: Sequence[tf.Tensor]) -> bool:
        """Whether shots go where the weights of a contraction with some inputs are large."""
        # Samples for one cotangent serve no other one, and no higher order. A single row has
        # nothing to spread by its weight.
        several = self.indices != ((),) or inputs[0].shape[0] != 1
        here = self.program.weighs == "everywhere" or tf.executing_eagerly()
        return several and here and not following(inputs)

    def needs(self, inputs: Any, pulls: bool) -> tuple[Index, ...]:
        return self.indices


class Contracted:
    """The D_(a + j), for the j of one part, contracted with a vector: a function of both.

    Args:
        lower: The D_a.
        part: The part.
        kind: What the vector is: a cotangent (`Pullback`) or a tangent (`Pushforward`).
        pulls: Whether it asks for sums with their weights, which take less than all derivatives.
    """

    def __init__(self, lower: Partials, part: int, kind: type[Contraction], pulls: bool) -> None:
        self.program = program = lower.program
        columns, active = program.columns[part], program.active[part]
        assert active is not None, "nobody can differentiate by this part"
        self._contraction = kind(lower.indices, columns, active, program.circuit.num_values)
        self._numbers, self.shape = self._contraction.of_numbers, self._contraction.shape
        self._alike = partial(lower.contract, kind, part)
        self._transposed = partial(lower.contract, kind.transposed, part)
        self.upper = program.partials(self._contraction.upper)
        self.order = self.upper.order
        # A first derivative that a graph contains is nearly always needed as a whole; most higher
        # ones are multiplied by zeros.
        self._needs_all = lower.indices == ((),)
        self.pulls = pulls

    def __call__(
        self, source: Source, *inputs: tf.Tensor, also: tuple[Any, ...] = ()
    ) -> np.ndarray:
        if self.pulls:
            pull = partial(source.pulled_back, also=also)
            return self._numbers(inputs[-1], partial(source.partials, also=also), pull)
        return self._numbers(inputs[-1], partial(source.partials, also=also))

    def asks(
        self, direct: Direct, others: Sequence[Index] | None, once: bool = False
    ) -> Asked | None:
        """See `Partials.asks`."""
        of, planner, is_first = self._contraction, direct.planner, self.order == 1
        if not self.pulls:
            return None
        if others is None:
            return Asked("pulled_back", of.columns, self._zeros(planner)) if is_first else None
        gradients = planner.root.step(planner.sources(tuple(others), True).gradients).node
        if pays(planner, of.lower, of.upper, planner.root, gradients, once=once):
            shifts = None if is_first else shifts_of(planner, direct.shifted, of.lower)
            return shifts and Asked("shifted", of.columns, self._zeros(planner), shifts=shifts)
        # NumPy adds up a single column of many values in another order.
        in_order = len(of.active) > 1 or len(planner.cones) < _MANY
        is_read = is_first and in_order
        return Asked("contracted", of.columns, of.idle, planner.cones) if is_read else None

    def _zeros(self, planner: Planner) -> tuple[int, ...]:
        """Returns at which places among its columns derivatives of sums are exactly zero: no value
        with a weight depends on them."""
        of = self._contraction
        seen = np.flatnonzero(planner.cones[planner.mask(of.lower).any(axis=1)].any(axis=0))
        return tuple(i for i, j in enumerate(of.columns) if i in of.idle or j not in seen)

    def gradient(
        self, call: Any, inputs: Any, cotangent: tf.Tensor, wanted: Sequence[bool]
    ) -> list[Any]:
        *tensors, vector = inputs
        gradients: list[Any] = [None] * len(tensors)
        if any(wanted[:-1]):
            by_upper = self._contraction.by_derivatives(vector, cotangent)
            gradients = self.upper.gradient(call, tensors, by_upper, wanted[:-1])
        return [*gradients, self._transposed(call, tensors, cotangent) if wanted[-1] else None]

    def tangent(self, call: Any, inputs: Any, tangents: Any) -> Any:
        (*tensors, vector), (*moves, of_vector) = inputs, tangents
        moved = self.upper.tangent(call, tensors, moves)
        by_tensors = self._contraction.of_tensors(moved, vector)
        return self._alike(call, tensors, of_vector) + by_tensors

    def of_all(self, call: Any, inputs: Any, loop: str = "") -> tf.Tensor:
        """Evaluates all derivatives, whatever the vector is; `loop` as in `Contraction`."""
        *tensors, vector = inputs
        return self._contraction.of_tensors(run(self.upper, call, tensors), vector, loop)

    def needs(self, inputs: Any, pulls: bool) -> tuple[Index, ...]:
        if self.pulls and pulls:
            return Later(self.upper.indices) if self.program.weighs and self._needs_all else ()
        if inputs is not None:
            return self._contraction.needed(inputs[-1]).indices
        return self.upper.indices if self._needs_all else ()
