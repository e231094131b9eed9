"""Whether partial derivatives are read off shifted values or off shifted gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Index = tuple[int, ...]


@dataclass(frozen=True)
class Sources:
    """Which of A partial derivatives are read off shifted values, and which off shifted gradients.

    Attributes:
        by_values: Positions of those that come from shifted values, where they are the derivatives
            `values`.
        by_gradients: Positions of those that come from shifted gradients. The i-th of them is entry
            `columns[i]` of the gradient of the derivative `gradients[rows[i]]`.
        mask: bool[M, A], False where a value cannot depend on the parameters; None for all True.
    """

    by_values: np.ndarray
    values: tuple[Index, ...]
    by_gradients: np.ndarray
    gradients: tuple[Index, ...]
    rows: np.ndarray
    columns: np.ndarray
    mask: np.ndarray | None


def sources(mask: np.ndarray, indices: tuple[Index, ...], adjoint: bool) -> Sources:
    """Returns where partial derivatives are read off.

    Args:
        mask: bool[M, A]: which values can depend on all the parameters of each derivative.
        indices: The partial derivatives; A of them.
        adjoint: Whether the device gives gradients.
    """
    seen = np.flatnonzero(mask.any(axis=0))
    by_values = [i for i in seen if not (adjoint and indices[i])]
    by_gradients = [i for i in seen if adjoint and indices[i]]
    pairs = split([indices[i] for i in by_gradients])
    row = {a: k for k, a in enumerate(dict.fromkeys(a for a, _ in pairs))}
    return Sources(
        np.array(by_values, dtype=int),
        tuple(indices[i] for i in by_values),
        np.array(by_gradients, dtype=int),
        tuple(row),
        np.array([row[a] for a, _ in pairs], dtype=int),
        np.array([j for _, j in pairs], dtype=int),
        None if mask.all() else mask,
    )


def split(indices: Sequence[Index]) -> list[tuple[Index, int]]:
    """Splits each index a + j into a derivative a and the parameter j of a gradient of it, so that
    few different a are needed."""
    options = [[(a[:k] + a[k + 1 :], a[k]) for k in range(len(a))] for a in indices]
    uses = Counter(lower for splits in options for lower in {lower for lower, _ in splits})
    return [max(splits, key=lambda split: uses[split[0]]) for splits in options]
