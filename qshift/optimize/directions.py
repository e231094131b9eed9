"""Directions of the steps of a minimisation, from gradients and Hessians as numbers."""

from __future__ import annotations

import numpy as np

from qshift.errors import QShiftError


class SingularHessianError(QShiftError, ArithmeticError):
    """Raised if a Newton step does not exist: the Hessian is zero in a direction of descent."""


def newton(gradient: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Returns H^-1 g; Mari, Bromley, Killoran, PRA 103, 012405 (2021)."""
    curvatures, axes = np.linalg.eigh(hessian)
    slopes = axes.T @ gradient
    size = max(np.abs(curvatures).max(), np.linalg.norm(gradient))
    flat = np.abs(curvatures) <= 1e-12 * size
    if np.any(np.abs(slopes[flat]) > 1e-9 * size):
        raise SingularHessianError(
            "there is no Newton step: the Hessian is zero in a direction in which the gradient is "
            "not; give damping (1 is a good start), or choose gradient-descent or adam"
        )
    # Along directions with slope and curvature zero, the point stays where it is.
    return axes @ np.where(flat, 0.0, slopes / np.where(flat, 1.0, curvatures))


def saddle_free_newton(gradient: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Returns |H|^-1 g, |H| having the absolute eigenvalues of H; Dauphin et al., NeurIPS (2014).

    It goes downhill in all directions, also those in which H curves downwards. No eigenvalue is
    taken for less than the norm of g, so that the step is never longer than 1.
    """
    norm = np.linalg.norm(gradient)
    if norm == 0:
        return gradient
    curvatures, axes = np.linalg.eigh(hessian)
    return axes @ (axes.T @ gradient / np.maximum(np.abs(curvatures), norm))


def downwards(hessian: np.ndarray) -> np.ndarray:
    """Returns the direction of length 1 in which a function curves down most, where it does not
    slope: of two opposite ones, that with a positive largest entry."""
    axis = np.linalg.eigh(hessian)[1][:, 0]
    return axis * np.sign(axis[np.abs(axis).argmax()])


def adam(gradient: np.ndarray, memory: dict) -> np.ndarray:
    """Returns the direction of Kingma, Ba, arXiv:1412.6980, algorithm 1, with its constants 0.9,
    0.999 and 1e-8.

    Args:
        gradient: The gradient.
        memory: What is kept from step to step; empty before the first.
    """
    step = memory.get("step", 0) + 1
    first = 0.9 * memory.get("first", 0.0) + 0.1 * gradient
    second = 0.999 * memory.get("second", 0.0) + 0.001 * gradient**2
    memory.update(step=step, first=first, second=second)
    return first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
