"""`qml.SpecialUnitary`, exp(i sum_j theta_j P_j) over all Pauli words, as gates with shift rules.

As a function of theta it is no trigonometric polynomial. But near any point a it is a product

    U(theta) = U(a) exp(i omega_1 P_1) exp(i omega_2 P_2) ...,    omega(a) = 0,

with smooth functions omega of theta. So U(a) stays as a constant, and each omega_j is the angle of
a Pauli rotation, with the value zero. By the chain rule, all derivatives by theta follow from the
derivatives by these angles, which shift rules give, and the derivatives of omega by theta, which
this module computes to any order. (PennyLane's own decomposition takes only the first derivatives
of omega.)
"""

from __future__ import annotations

from functools import lru_cache, partial, reduce
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np
import pennylane as qml
from autograd.extend import defvjp, primitive
from pennylane.operation import Operator
from scipy.linalg import expm

from qshift.circuits.pennylane_internals import (
    pauli_basis_matrices,
    pauli_basis_strings,
    rename,
)
from qshift.errors import UnsupportedError
from qshift.rules.planner import Index


class SpecialUnitaryAt(qml.SpecialUnitary):
    """U(a): a `qml.SpecialUnitary` whose angles nothing differentiates by."""

    def __init__(self, theta: Any, wires: Any, id: Any = None) -> None:
        super().__init__(theta, wires=wires)
        rename(self, "SpecialUnitary")

    def adjoint(self) -> SpecialUnitaryAt:
        return SpecialUnitaryAt(-self.data[0], wires=self.wires)


def rotations(op: qml.SpecialUnitary) -> list[Operator]:
    """Returns gates whose product is a `qml.SpecialUnitary` at and near its angles, or its matrix
    if its angles are constant.

    Raises:
        UnsupportedError: If the angles are of a framework other than TensorFlow, JAX or autograd.
    """
    (theta,) = op.data
    if qml.math.get_interface(theta) in ("numpy", "builtins"):
        return [qml.QubitUnitary(op.matrix(), wires=op.wires)]
    omega = _coordinates(theta, len(op.wires))
    turns = [
        qml.PauliRot(-2 * omega[..., j], word, wires=op.wires)
        for j, word in enumerate(pauli_basis_strings(len(op.wires)))
    ]
    at = qml.math.detach(theta)
    if qml.math.get_interface(at) == "autograd":
        at = np.asarray(at)  # PennyLane's own arrays count as trainable
    # The factor on the right acts first.
    return [*reversed(turns), SpecialUnitaryAt(at, wires=op.wires)]


def _coordinates(theta: Any, num_wires: int) -> Any:
    """Returns omega [..., 4**n - 1]: zeros, with derivatives of all orders by theta."""
    interface = qml.math.get_interface(theta)
    if interface not in IN_FRAMEWORK:
        raise UnsupportedError(
            f"SpecialUnitary has angles of {interface}, but qshift has its derivatives in "
            "TensorFlow, JAX and autograd only. Use one of these, or write Pauli rotations."
        )
    return IN_FRAMEWORK[interface](theta, num_wires)


def partial_derivatives(theta: np.ndarray, indices: Any, num_wires: int) -> np.ndarray:
    """Returns partial derivatives of omega by theta, at the point a = theta.

    Args:
        theta: float64[4**n - 1].
        indices: The derivatives, as multi-indices.
        num_wires: n.

    Returns:
        float64[4**n - 1, len(indices)].
    """
    columns = [_partial_derivative(theta, index, num_wires) for index in indices]
    return np.array(columns).reshape(len(indices), len(theta)).T


def _partial_derivative(theta: Any, index: Index, num_wires: int) -> np.ndarray:
    """Returns the derivative of order k by the theta_j named in `index`: float64[4**n - 1].

    It is the coefficient of e_1 ... e_k in omega(theta + e_1 theta_{j_1} + ... + e_k theta_{j_k}),
    with numbers e_i of square zero. Such numbers are matrices [2**k, 2**k], with their coefficients
    in the first row, and functions of them are functions of matrices.
    """
    words, size, order = _words(num_wires), 2**num_wires, len(index)
    if not order:
        return np.zeros(len(theta))
    here = np.kron(np.eye(2**order), np.tensordot(theta, words, 1))
    step = sum(np.kron(_nilpotent(i, order), words[j]) for i, j in enumerate(index))
    moved = expm(-1j * here) @ expm(1j * (here + step))  # U(a)^+ U(theta)
    # The rest after the rotations by omega are taken off must be the identity. Starting from zero,
    # each step makes omega right to one more order in the e_i.
    omega = np.zeros((len(theta), 2**order, 2**order))
    for _ in range(order):
        rest = moved
        for turn, word in zip(omega, words, strict=True):
            cosine, sine = _cosine_and_sine(turn, order)
            rest = (np.kron(cosine, np.eye(size)) - 1j * np.kron(sine, word)) @ rest
        blocks = rest.reshape(2**order, size, 2**order, size)
        omega = omega + np.einsum("axby,jyx->jab", blocks, words).imag / size
    return omega[:, 0, -1]


def _nilpotent(i: Any, order: int) -> Any:
    """Returns e_i, one of `order` numbers of square zero, as a matrix."""
    factors: list[np.ndarray] = [np.eye(2, k=1) if k == i else np.eye(2) for k in range(order)]
    return reduce(np.kron, factors)


def _cosine_and_sine(angle: Any, order: int) -> tuple[Any, ...]:
    """Returns cosine and sine of a nilpotent matrix: power series that end."""
    power, cosine, sine = np.eye(len(angle)), np.eye(len(angle)), np.zeros_like(angle)
    for k in range(1, order + 1):
        power = power @ angle / k
        sign = (-1) ** (k // 2)
        if k % 2:
            sine = sine + sign * power
        else:
            cosine = cosine + sign * power
    return cosine, sine


@lru_cache(maxsize=8)
def _words(num_wires: int) -> np.ndarray:
    """Returns all Pauli words but the identity, complex128[4**n - 1, 2**n, 2**n]."""
    return np.asarray(pauli_basis_matrices(num_wires))


def _tensor(theta: np.ndarray, order: int, num_wires: int) -> np.ndarray:
    """Returns all derivatives of an order: float64[..., 4**n - 1, ..., 4**n - 1]."""
    size = theta.shape[-1]
    indices = list(combinations_with_replacement(range(size), order))
    tensor = np.zeros((*theta.shape, *(size,) * order))
    for row in np.ndindex(theta.shape[:-1]):
        found = partial_derivatives(np.asarray(theta[row], float), indices, num_wires)
        for index, column in zip(indices, found.T, strict=True):
            for permuted in set(permutations(index)):
                tensor[(*row, slice(None), *permuted)] = column
    return tensor


# --- omega as a function that a framework differentiates: the derivative of its derivatives of
# order k is a contraction with those of order k + 1, at a fixed point a. (The derivatives of order
# k also change where the point a moves with theta; that is not what is meant.)


@primitive
def _in_autograd(theta: Any, order: int, num_wires: int) -> Any:
    return _tensor(np.asarray(theta), order, num_wires)


def _autograd_vjp(_: Any, theta: Any, order: int, num_wires: int) -> Any:
    def vjp(cotangent: Any) -> Any:
        upper = _in_autograd(theta, order + 1, num_wires)
        axes = "abcdefghijklmnopqrstuvwxy"[: order + 1]
        return qml.math.einsum(f"...{axes},...{axes}z->...z", cotangent, upper)

    return vjp


defvjp(_in_autograd, _autograd_vjp, argnums=(0,))


def _in_jax(order: int, num_wires: int, theta: Any) -> Any:
    import jax  # already imported, as theta is one of its arrays

    @partial(jax.custom_jvp, nondiff_argnums=(0,))
    def tensor(order: int, theta: Any) -> Any:
        shape = (*theta.shape, *theta.shape[-1:] * order)
        return jax.pure_callback(
            lambda theta: _tensor(np.asarray(theta, float), order, num_wires).astype(theta.dtype),
            jax.ShapeDtypeStruct(shape, theta.dtype),
            theta,
            vmap_method="expand_dims",
        )

    @tensor.defjvp
    def _(order: int, primals: Any, tangents: Any) -> tuple[Any, ...]:
        (theta,), (step,) = primals, tangents
        upper = tensor(order + 1, theta)
        step = step.reshape(*step.shape[:-1], *(1,) * (order + 1), step.shape[-1])
        return tensor(order, theta), (upper * step).sum(-1)

    return tensor(order, theta)


# The interface of theta -> the function omega(theta, num_wires) of its tensors.
IN_FRAMEWORK = {
    "autograd": lambda theta, num_wires: _in_autograd(theta, 0, num_wires),
    "jax": lambda theta, num_wires: _in_jax(0, num_wires, theta),
}
