"""Circuits whose values are products of cosines, and all derivatives of such products."""

import math

import numpy as np
import pennylane as qml

import qshift

COSINE = 0.0, 1.0  # phase and frequency
SINE = -math.pi / 2, 1.0
ONE = 0.0, 0.0


def derivative_tensor(terms, x, order):
    """Returns all derivatives of sum c prod_i cos(w_i x_i + phi_i), terms (c, [(phi_i, w_i)])."""
    result = np.zeros((len(x),) * order)
    for index in np.ndindex(result.shape):
        n = np.bincount(index, minlength=len(x)) if order else np.zeros(len(x))
        for c, factors in terms:
            phi, w = np.array(factors).T
            result[index] += c * np.prod(w**n * np.cos(w * x + phi + n * np.pi / 2))
    return result


COSINE_PRODUCT = [(1, [COSINE] * 4 + [ONE])]


def cosine_product_derivatives(theta, highest=3):
    return [derivative_tensor(COSINE_PRODUCT, theta, k) for k in range(highest + 1)]


def cosine_derivatives(x, highest=3):
    return [math.cos(x + k * math.pi / 2) for k in range(highest + 1)]


def rotation(**kwargs):
    """cos(x)."""

    @qshift.qnode(qml.device("default.qubit"), diff_method="shift", **kwargs)
    def circuit(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.Z(0))

    return circuit
