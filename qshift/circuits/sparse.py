"""Sparse matrices as parameters of a tape that has tensors among its parameters as well.

PennyLane asks of each parameter whether something differentiates by it, and has TensorFlow convert
it to a tensor for that, which fails for SciPy's sparse matrices.
"""

from __future__ import annotations

import functools
import importlib

from scipy import sparse


def as_constants() -> None:
    """Has PennyLane take sparse matrices for constants, whatever is beside them."""
    module = importlib.import_module("pennylane.math.multi_dispatch")
    asked = module.requires_grad
    if getattr(asked, "knows_sparse_matrices", False):
        return

    @functools.wraps(asked)
    def requires_grad(tensor, interface=None):
        return not sparse.issparse(tensor) and asked(tensor, interface=interface)

    requires_grad.knows_sparse_matrices = True
    module.requires_grad = requires_grad
