"""The recursion: derivatives of derivatives are the same function, one order up.

The derivatives D_a of a circuit's values, for a set of multi-indices a, are one function of the
angles (`Partials`). Its gradient contracts the incoming cotangent with the D_(a + j), which is the
same function one order up; so is its tangent. TensorFlow recurses as deep as it is asked to, and
every level reads from the same evaluation.

A contraction (`Pullback`, `Pushforward`) is an op of its own: when it runs, its vector is known, so
derivatives that zeros of the vector would multiply are not evaluated. It is linear in the vector,
and its derivative by the angles is a contraction of the same kind one order up. Where TensorFlow
vectorises a loop of contractions, as in a `tape.jacobian`, the derivatives do not depend on the
vectors, so they are evaluated once.

In compiled functions the angles come in parts, one tensor for each set of tensors that they are
computed from. TensorFlow traces derivatives by all parts and prunes those that lead nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from qshift.autodiff.contraction import Block, zeros_that_follow
from qshift.autodiff.node import run
from qshift.rules.planner import Index

if TYPE_CHECKING:
    from qshift.autodiff.contraction import Needed
    from qshift.autodiff.node import Source
    from qshift.autodiff.program import Program


class Partials:
    """The derivatives D_a of a program's values, a function of its tensors: float64[N, M, A].

    Args:
        program: The program.
        indices: The multi-indices a; A of them.
    """

    def __init__(self, program: Program, indices: tuple[Index, ...]) -> None:
        self.program, self.indices = program, indices
        self.shape: tuple[int, ...] = program.circuit.num_values, len(indices)
        self._contractions: dict[tuple[type, int], _Contraction] = {}

    def __call__(
        self, source: Source, *tensors: tf.Tensor, also: tuple[Any, ...] = ()
    ) -> np.ndarray:
        return source.partials(self.indices, also)

    def gradient(
        self, call: Any, tensors: Sequence[tf.Tensor], cotangent: tf.Tensor, wanted: Sequence[bool]
    ) -> list[Any]:
        """Returns the sums over a of cotangent_a D_(a + j), for the j of each part."""
        return [
            self.pull(part, call, tensors, cotangent) if active is not None and wants else None
            for part, (active, wants) in enumerate(zip(self.program.active, wanted, strict=True))
        ]

    def tangent(self, call: Any, tensors: Any, tangents: Any) -> Any:
        """Returns the sums over j of tangent_j D_(a + j), for each a."""
        active = self.program.active
        moving = [part for part, columns in enumerate(active) if columns]
        pushed = [self.push(part, call, tensors, tangents[part]) for part in moving]
        idle = [part for part, columns in enumerate(active) if columns == ()]
        if idle or not pushed:
            shape = [tf.shape(tensors[0])[0], *self.shape]
            followed = [x[part] for x in (tensors, tangents) for part in idle]
            pushed.append(zeros_that_follow(tf.zeros(shape, tf.float64), followed))
        return tf.add_n(pushed)

    def pull(
        self, part: int, call: Any, tensors: Sequence[tf.Tensor], cotangent: tf.Tensor
    ) -> tf.Tensor:
        """Contracts a cotangent [N, M, A] with the D_(a + j), j from a part: [N, columns]."""
        if not self.program.active[part]:
            return zeros_that_follow(tf.zeros_like(tensors[part]), [*tensors, cotangent])
        return self._contract(Pullback, part, call, [*tensors, cotangent])

    def push(
        self, part: int, call: Any, tensors: Sequence[tf.Tensor], tangent: tf.Tensor
    ) -> tf.Tensor:
        """Contracts a tangent [N, columns] with the D_(a + j), j from a part: [N, M, A]."""
        return self._contract(Pushforward, part, call, [*tensors, tangent])

    def _contract(
        self, kind: type[_Contraction], part: int, call: Any, inputs: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        if (kind, part) not in self._contractions:
            self._contractions[kind, part] = kind(self, part)
        contraction = self._contractions[kind, part]
        if self.program.reproducible and not tf.executing_eagerly():
            return contraction.of_all(call, inputs)
        return run(contraction, call, inputs)

    def needs(self, tensors: Any) -> tuple[Index, ...]:
        return self.indices


class _Contraction:
    """The D_(a + j), j from one part, contracted with a vector: a function of both.

    Args:
        lower: The D_a.
        part: The part.
    """

    # Methods of a `Node` that the subclasses define.
    gradient: Callable[..., Sequence[tf.Tensor | None]]
    tangent: Callable[..., tf.Tensor]
    of_all: Callable[..., tf.Tensor]
    shape: tuple[int, ...]
    _needed: Callable[[Any], Needed]  # from a vector to the derivatives that it needs
    _contracted: Callable[[Any, Callable], np.ndarray]  # of a vector and what evaluates

    def __init__(self, lower: Partials, part: int) -> None:
        self.lower, self.part, self.program = lower, part, lower.program
        columns, active = self.program.columns[part], self.program.active[part]
        assert active is not None, "nobody can differentiate by this part"
        self.block = Block(lower.indices, columns, active, self.program.circuit.num_values)
        self.upper = self.program.partials(self.block.upper)

    def __call__(
        self, source: Source, *inputs: tf.Tensor, also: tuple[Any, ...] = ()
    ) -> np.ndarray:
        return self._contracted(inputs[-1], partial(source.partials, also=also))

    def _by_tensors(
        self,
        call: Any,
        tensors: Sequence[tf.Tensor],
        cotangent: tf.Tensor,
        tangent: tf.Tensor,
        wanted: Sequence[bool],
    ) -> list[Any]:
        """Differentiates cotangent_a tangent_j D_(a + j), summed, by the tensors."""
        if not any(wanted):
            return [None] * len(tensors)
        collected = self.block.collect(cotangent, tangent)
        return self.upper.gradient(call, tensors, collected, wanted)

    def _all(self, derivatives: tf.Tensor) -> tf.Tensor:
        """Returns the D_(a + j) [N, M, A, J], given each of them once."""
        return tf.gather(derivatives, self.block.table, axis=2)

    def needs(self, inputs: Any) -> tuple[Index, ...]:
        # The vector is not known yet. A first derivative that a graph contains is nearly always
        # needed as a whole; most higher ones are multiplied by zeros.
        if inputs is None:
            return self.upper.indices if self.lower.indices == ((),) else ()
        return self._needed(inputs[-1]).indices


class Pullback(_Contraction):
    """Contracts a cotangent [N, M, A] with the D_(a + j): [N, columns]."""

    def __init__(self, lower: Partials, part: int) -> None:
        super().__init__(lower, part)
        self._needed, self._contracted = self.block.for_cotangent, self.block.pull
        self.shape = (len(self.block.columns),)

    def gradient(
        self, call: Any, inputs: Sequence[tf.Tensor], tangent: tf.Tensor, wanted: Sequence[bool]
    ) -> list[Any]:
        *tensors, cotangent = inputs
        by_cotangent = self.lower.push(self.part, call, tensors, tangent) if wanted[-1] else None
        return [*self._by_tensors(call, tensors, cotangent, tangent, wanted[:-1]), by_cotangent]

    def tangent(self, call: Any, inputs: Any, tangents: Any) -> Any:
        (*tensors, cotangent), (*moves, of_cotangent) = inputs, tangents
        moved = self._all(self.upper.tangent(call, tensors, moves))
        by_tensors = self.block.spread(tf.einsum("nma,nmaj->nj", cotangent, moved))
        return self.lower.pull(self.part, call, tensors, of_cotangent) + by_tensors

    def of_all(self, call: Any, inputs: Sequence[tf.Tensor], loop: str = "") -> tf.Tensor:
        *tensors, cotangent = inputs
        derivatives = self._all(run(self.upper, call, tensors))
        return self.block.spread(tf.einsum(f"{loop}nma,nmaj->{loop}nj", cotangent, derivatives))


class Pushforward(_Contraction):
    """Contracts a tangent [N, columns] with the D_(a + j): [N, M, A]."""

    def __init__(self, lower: Partials, part: int) -> None:
        super().__init__(lower, part)
        self._needed, self._contracted = self.block.for_tangent, self.block.push
        self.shape = lower.shape

    def gradient(
        self,
        call: Any,
        inputs: Sequence[tf.Tensor],
        cotangent: tf.Tensor,
        wanted: Sequence[bool],
    ) -> list[tf.Tensor]:
        *tensors, tangent = inputs
        by_tangent = self.lower.pull(self.part, call, tensors, cotangent) if wanted[-1] else None
        return [*self._by_tensors(call, tensors, cotangent, tangent, wanted[:-1]), by_tangent]

    def tangent(self, call: Any, inputs: Any, tangents: Any) -> Any:
        (*tensors, tangent), (*moves, of_tangent) = inputs, tangents
        moved = self._all(self.upper.tangent(call, tensors, moves))
        by_tensors = tf.einsum("nj,nmaj->nma", self.block.pick(tangent), moved)
        return self.lower.push(self.part, call, tensors, of_tangent) + by_tensors

    def of_all(self, call: Any, inputs: Sequence[tf.Tensor], loop: str = "") -> tf.Tensor:
        *tensors, tangent = inputs
        derivatives = self._all(run(self.upper, call, tensors))
        return tf.einsum(f"{loop}nj,nmaj->{loop}nma", self.block.pick(tangent), derivatives)
