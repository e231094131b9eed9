"""Errors of tensors that follow from samples: the delta method, by TensorFlow's own derivatives.

Each derivative that a call reads off its table of values is a known combination of the values at
all points. To what is read, zeros are added that a tape watches. So TensorFlow differentiates
whatever is computed from it by these zeros, and the variance of the result follows from the
covariances of the values: those of one point share samples, those of different points do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from qshift.errors import UnsupportedError
from qshift.listeners import Listener, listening

if TYPE_CHECKING:
    from qshift.autodiff.evaluation import Evaluation
    from qshift.autodiff.program import Program

_COMPILED = (
    "Errors are known of what is computed in eager mode, but a qnode was called in a tf.function, "
    "in a jacobian, or in a compiled Keras model. Call it outside of these: give functions before "
    "tf.function (their python_function), tape.gradient in place of tape.jacobian, models compiled "
    "with run_eagerly=True; or ask for derivatives by qshift.derivatives(..., errors=True)."
)


class Propagation(Listener):
    """Follows what is computed from qnodes, while its block is open, to tell the errors of it.

    It is an observer of evaluations, see `Evaluation`.

    Attributes:
        calls: How many calls of qnodes it has observed.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        # What was read: its evaluation, how it follows from the table, and the zeros added to it.
        self._read: list[tuple[Evaluation, np.ndarray | None, tf.Tensor]] = []
        self._is_open, self._is_blind = False, False

    def __enter__(self) -> Propagation:
        self._tape.__enter__()
        self._is_open = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._is_open = False
        self._tape.__exit__(*error)

    @staticmethod
    def run_in_graph() -> None:
        """Tells all that are open of an execution in a graph, of which they cannot see the
        results. Its thread is one of TensorFlow's, which does not know whom it works for."""
        for each in listening(Propagation):
            each._is_blind = True

    def run(self, program: Program, tensors: list[tf.Tensor]) -> tf.Tensor:
        """Runs a call, as `Program` does, and observes it.

        Raises:
            UnsupportedError: If the call is in a graph.
        """
        if not tf.executing_eagerly():
            raise UnsupportedError(_COMPILED)
        self.calls += 1
        return program(tensors, self)

    def read(self, evaluation: Evaluation, node: Any, result: tf.Tensor) -> tf.Tensor:
        """Returns a result that was read off an evaluation, so that it is followed.

        Args:
            evaluation: The evaluation.
            node: What was read, a `qshift.autodiff.op.Partials`.
            result: float64[N, M, A].
        """
        if not self._is_open:
            return result
        zeros = tf.zeros_like(result)
        self._tape.watch(zeros)
        self._read.append((evaluation, evaluation.combination(node.indices), zeros))
        return result + zeros

    def errors(self, tensor: tf.Tensor, must_follow: bool = True) -> np.ndarray:
        """Returns the standard errors of the entries of a tensor that was computed in the block.

        Args:
            tensor: The tensor.
            must_follow: Whether it has to follow from a qnode. What does not has no error.

        Raises:
            UnsupportedError: If circuits were run in a graph.
            ValueError: If the tensor does not follow from any qnode.
        """
        if self._is_blind:
            raise UnsupportedError(_COMPILED)
        with self._tape:  # it goes on recording
            flat = tf.reshape(tf.cast(tensor, tf.float64), [-1])
        zeros = [each for _, _, each in self._read]
        # In eager mode: of compiled jacobians, tracing takes longer than a hundred gradients.
        rows = np.eye(int(flat.shape[0]))
        slopes = [self._tape.gradient(flat, zeros, tf.constant(row)) for row in rows]
        if slopes and must_follow and all(each is None for found in slopes for each in found):
            raise ValueError(
                "The result does not depend on any qnode, as far as TensorFlow can see, so its "
                "error is not known. Compute it from the qnodes' results without .numpy() and "
                "tf.stop_gradient; leave out what is no result of theirs. A QNode of PennyLane's "
                "own has to be converted by qshift.from_qnode."
            )
        return np.sqrt([self._variance(found) for found in slopes]).reshape(tensor.shape)

    def _variance(self, slopes: Sequence[tf.Tensor | None]) -> float:
        """Returns the variance of a number, given its derivatives by all that was read."""
        # What is read off the same evaluation shares its samples.
        together: dict[int, tuple[Evaluation, list[tuple[np.ndarray, np.ndarray]]]] = {}
        for (evaluation, combination, _), slope in zip(self._read, slopes, strict=True):
            if combination is not None and slope is not None:
                reads = together.setdefault(id(evaluation), (evaluation, []))[1]
                reads.append((combination, slope.numpy()))
        return sum(_of_call(evaluation, reads) for evaluation, reads in together.values())


def _of_call(evaluation: Evaluation, reads: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns what the samples of one evaluation contribute to the variance of a number.

    Args:
        evaluation: The evaluation.
        reads: How each result that was read follows from the values at all points so far,
            float64[M, A, K], and the derivatives of the number by it, float64[N, M, A].
    """
    rows = np.flatnonzero(sum((slope != 0).any(axis=(1, 2)) for _, slope in reads))
    points = max(combination.shape[2] for combination, _ in reads)
    by_values = np.zeros((points, len(rows), reads[0][1].shape[1]))
    for combination, slope in reads:
        added = np.einsum("nma,mak->knm", slope[rows], combination)
        by_values[: len(added)] += added
    return evaluation.variance(by_values, rows)
