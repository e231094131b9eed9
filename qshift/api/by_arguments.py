"""Derivatives by the arguments of a call, from those by its angles, where these are affine.

The k-th derivative by the arguments is the k-th derivative by the angles, each of whose axes is
contracted with one constant matrix, the Jacobian of the angles by the arguments. Backwards, how a
number changes with the ones says how it changes with the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from qshift.autodiff.contraction import Levels


class ByArguments:
    """The value and all derivatives up to an order, by X entries of arguments and by J angles.

    Args:
        columns: The angles.
        jacobians: Of these by each argument, float64[J, entries of the argument].
        levels: The derivatives by these up to the order.

    Attributes:
        indices: The derivatives by the angles: the value, those of order 1, and so on; A of them.
        size: X.
        blocks: Which of the entries are those of each argument.
    """

    def __init__(
        self, columns: Sequence[int], jacobians: Sequence[np.ndarray], levels: Levels
    ) -> None:
        self.indices, self._ends, self._tables = levels
        ends = np.cumsum([0, *(each.shape[1] for each in jacobians)]).tolist()
        self.blocks = [slice(*each) for each in itertools.pairwise(ends)]
        self.size: int = ends[-1]
        self._jacobian = np.concatenate([np.empty((len(columns), 0)), *jacobians], axis=1)
        self._is_identity = np.array_equal(self._jacobian, np.eye(len(columns)))

    def __call__(self, found: np.ndarray) -> list[np.ndarray]:
        """Returns the derivatives of each order k by the arguments, float64[*shape, X, ..., X] with
        k axes for all entries.

        Args:
            found: float64[A, *shape], the derivatives by the angles.
        """
        derivatives = []
        for k, derivative in enumerate(np.split(found, self._ends)):
            for table in reversed(self._tables[:k]):  # from all a + j to all a
                derivative = derivative[table]
                if self._is_identity:
                    derivative = np.moveaxis(derivative, 1, -1)
                else:
                    derivative = np.tensordot(derivative, self._jacobian, (1, 0))
            derivatives.append(derivative[0])
        return derivatives

    def backwards(self, slopes: Sequence[np.ndarray]) -> np.ndarray:
        """Returns how numbers change with the derivatives by the angles, float64[A, B, *shape].

        Args:
            slopes: How they change with the derivatives of each order by the arguments,
                float64[B, *shape, X, ..., X].
        """
        changes = []
        sizes = np.diff([*self._ends, len(self.indices)])
        for k, change in enumerate(slopes):
            change = change[None]
            for table, size in zip(self._tables[:k], sizes, strict=False):
                by_each = np.moveaxis(np.tensordot(change, self._jacobian, (-1, 1)), -1, 1)
                change = np.zeros((size, *by_each.shape[2:]))
                np.add.at(change, table, by_each)  # from all a to all a + j
            changes.append(change)
        return np.concatenate(changes)
