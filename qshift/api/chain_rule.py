"""Chosen partial derivatives of a qnode's call, by the chain rule, without tracing.

A derivative by arguments i, j, ... is a sum over all ways to put these into blocks (Faa di Bruno).
Each term is a derivative of the value by one angle for each block, times the derivative of each
angle by its block's arguments. The derivatives of the value by angles are read off the call's
evaluation; those of the angles come from `angle_derivatives`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.api.affine import evaluated, may_be_prepared
from qshift.api.angle_derivatives import AngleDerivatives, Moved, Source, UnsuitedError
from qshift.api.preparation import Prepared
from qshift.api.qnode import QNode
from qshift.autodiff.contraction import one_order_up
from qshift.autodiff.requests import Partial, partitions
from qshift.rules.planner import Index


class _Term(NamedTuple):
    """One way to put the arguments of a derivative into blocks.

    Attributes:
        places: Positions in the derivative of the blocks' arguments, one block after the other.
        moved: For each block, the derivatives of angles by its arguments.
        tables: For each block, the table of `one_order_up`, from the blocks before it.
        indices: The derivatives of the value by one angle for each block.
    """

    places: tuple[int, ...]
    moved: tuple[Moved, ...]
    tables: tuple[np.ndarray, ...]
    indices: tuple[Index, ...]


class ChosenPartials:
    """Partial derivatives of a call, ready to be evaluated.

    Args:
        call: The call.
        sources: Position -> argument.
        moved: Positions of arguments in ascending order -> derivatives of the active angles.
    """

    def __init__(
        self,
        call: Prepared,
        sources: Mapping[int, Source],
        moved: Mapping[Partial, Moved],
    ) -> None:
        self._call, self._sources, self._moved = call, sources, moved

    @classmethod
    def of(
        cls, fn: Callable, args: Sequence[Any], partials: Sequence[Partial], batched: Sequence[int]
    ) -> ChosenPartials | None:
        """Looks at what ``fn(*args)`` would run, without running it.

        Args:
            fn: Any function.
            args: Its arguments.
            partials: The derivatives, as positions of arguments, which are tensors.
            batched: Positions of arguments with a row for each row of the batch.

        Returns:
            None where there is more to the derivatives than the chain rule: if `fn` is not a qnode
            with one linear result; if it is not known how its angles follow from the arguments, or
            these are not real; if the results must be differentiable themselves, because TensorFlow
            is tracing, or a tape or forward accumulator of the caller follows what they depend on.
        """
        positions = sorted({i for partial in partials for i in partial})
        if not isinstance(fn, QNode) or not may_be_prepared([args[i] for i in positions]):
            return None
        sources = {i: Source(args[i], i in batched) for i in positions}
        words = {word for partial in partials for word in _words(partial)}
        try:
            angles = AngleDerivatives(fn, args, sources, words)
            return cls(angles.call, sources, angles.moved())
        except UnsuitedError:
            return None

    def follows(self, position: int) -> bool:
        """Whether any angle follows an argument, be it one that the value does not depend on."""
        return (position,) in self._moved

    def evaluate(self, partials: Sequence[Partial]) -> tuple[tf.Tensor, ...]:
        """Runs the call, and returns these derivatives."""
        terms = [list(self._terms(partial)) for partial in partials]
        wanted = dict.fromkeys(i for each in terms for term in each for i in term.indices)
        position = {index: k for k, index in enumerate(wanted)}
        found = evaluated(self._call, tuple(wanted))
        return tuple(
            self._derivative(partial, each, found, position)
            for partial, each in zip(partials, terms, strict=True)
        )

    def _terms(self, partial: Partial) -> Iterator[_Term]:
        for blocks in partitions(range(len(partial))):
            ordered = [tuple(sorted(block, key=lambda k: partial[k])) for block in blocks]
            words = [tuple(partial[k] for k in block) for block in ordered]
            if any(word not in self._moved for word in words):
                continue
            indices: tuple[Index, ...] = ((),)
            tables = []
            for word in words:
                indices, table = one_order_up(indices, self._moved[word].columns)
                tables.append(table)
            places = tuple(k for block in ordered for k in block)
            yield _Term(places, tuple(self._moved[w] for w in words), tuple(tables), indices)

    def _derivative(
        self,
        partial: Partial,
        terms: Sequence[_Term],
        found: np.ndarray,
        position: Mapping[Index, int],
    ) -> tf.Tensor:
        """Returns a derivative by arguments.

        Args:
            partial: Which.
            terms: Its terms.
            found: Derivatives of the value by angles, [A, N, *shape].
            position: Index of a derivative by angles -> its position in `found`.
        """
        rows, shape = found.shape[1], found.shape[2:]
        by = [self._sources[i] for i in partial]
        total = np.zeros((rows, *shape, *(source.size for source in by)))
        flat = found.reshape(*found.shape[:2], math.prod(shape), 1)
        for term in terms:
            derivative = flat[[position[index] for index in term.indices]]
            for moved, table in zip(reversed(term.moved), reversed(term.tables), strict=True):
                derivative = _contracted(derivative[table], moved.derivatives)
            sizes = (by[k].size for k in term.places)
            axes = [1 + len(shape) + term.places.index(k) for k in range(len(by))]
            one = derivative[0].reshape(rows, *shape, *sizes)
            total += one.transpose(*range(1 + len(shape)), *axes)
        total = total.reshape(rows, *shape, *(n for source in by for n in source.shape))
        dtype = by[-1].tensor.dtype if by else self._call.dtype
        return tf.cast(tf.constant(total[0] if self._call.batch is None else total), dtype)


def _words(partial: Partial) -> list[Partial]:
    """Returns all blocks of a derivative's arguments, each in ascending order."""
    return [
        tuple(sorted(partial[k] for k in block))
        for blocks in partitions(range(len(partial)))
        for block in blocks
    ]


def _contracted(derivatives: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Contracts derivatives by angles [A, C, N, S, E] with derivatives of the angles by an
    argument's entries [1 or N, C, X]: [A, N, S, X * E]."""
    a, c, n, s, e = derivatives.shape
    x = moved.shape[-1]
    product = derivatives.transpose(2, 0, 3, 4, 1).reshape(n, a * s * e, c) @ moved
    return product.reshape(n, a, s, e, x).transpose(1, 0, 2, 4, 3).reshape(a, n, s, x * e)
