"""Sparse matrices as parameters of a tape that has tensors among its parameters as well.

PennyLane asks of each parameter whether something differentiates by it, and has TensorFlow convert
it to a tensor for that, which fails for SciPy's sparse matrices. `pennylane_internals` puts what is
here into PennyLane.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from scipy import sparse


def not_differentiated(asked: Callable) -> Callable:
    """Returns `requires_grad` for which sparse matrices are constants, whatever is beside them."""

    @functools.wraps(asked)
    def requires_grad(tensor, interface=None):
        return not sparse.issparse(tensor) and asked(tensor, interface=interface)

    return requires_grad
