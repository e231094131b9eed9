"""Errors of tensors that follow from samples: the delta method, by TensorFlow's own derivatives.

Each derivative that a call reads off its table of values is a known combination of the values at
all points. To what is read, zeros are added that a tape watches. So TensorFlow differentiates
whatever is computed from it by these zeros, and the variance of the result follows from the
covariances of the values: those of one point share samples, those of different points do not.

That is the first order. For a variance it is too little where the slope, twice the mean, is not
much larger than its own error: there, 78 of 100 intervals hold what they should. So what `qml.var`
is corrected for (`qshift.autodiff.covariances`) is followed, too. The derivatives of a result by
these covariances are the terms of second order that it has because of `qml.var`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.autodiff.covariances import Covariances
from qshift.errors import UnsupportedError
from qshift.listeners import Listener, listening

if TYPE_CHECKING:
    from qshift.autodiff.evaluation import Evaluation
    from qshift.autodiff.program import Program
    from qshift.rules.planner import Index


_COMPILED = (
    "Errors are known of what is computed in eager mode, but a qnode was called in a tf.function, "
    "in a jacobian (tape.jacobian and tape.batch_jacobian make a graph), or in a compiled Keras "
    "model. Give functions before tf.function (their python_function); tape.gradient in place of "
    "tape.jacobian, or jacobian and batch_jacobian of a persistent tape with "
    "experimental_use_pfor=False; models compiled with run_eagerly=True; or ask for derivatives by "
    "qshift.derivatives(..., errors=True)."
)


class Propagation(Listener):
    """Follows what is computed from qnodes, while its block is open, to tell the errors of it.

    It is an observer of evaluations, see `Evaluation`.

    Attributes:
        calls: How many calls of qnodes it has observed.
        is_open: Whether its block is open.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        # What was read: its evaluation, how it follows from the table, and the zeros added to it.
        self._read: list[tuple[Evaluation, np.ndarray | None, tf.Tensor]] = []
        # The same for covariances, with how both derivatives of a pair follow from the table.
        self._squares: list[tuple[Evaluation, _Squares, tf.Tensor]] = []
        # Evaluation -> derivative that was read -> float64[M, K], how it follows from the table.
        self._combinations: dict[int, dict[Index, np.ndarray]] = {}
        self.is_open, self._is_blind = False, False

    def __enter__(self) -> Propagation:
        self._tape.__enter__()
        self.is_open = True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.is_open = False
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
            node: What was read, a `qshift.autodiff.op.Partials` or `Covariances`.
            result: float64[N, ...].
        """
        if not self.is_open:
            return result
        zeros = tf.zeros_like(result)
        self._tape.watch(zeros)
        if isinstance(node, Covariances):
            squares = _Squares(node.columns, *node.combinations(evaluation))
            self._squares.append((evaluation, squares, zeros))
            return result + zeros
        combination = evaluation.combination(node.indices)
        self._read.append((evaluation, combination, zeros))
        if combination is not None:
            known = self.combinations(evaluation)
            for i, index in enumerate(node.indices):
                known.setdefault(index, combination[:, i])
        return result + zeros

    def combinations(self, evaluation: Evaluation) -> dict[Index, np.ndarray]:
        """Returns how derivatives that were read off an evaluation follow from the values at the
        points that there were then, float64[M, K] each; nothing if they are exact."""
        return self._combinations.setdefault(id(evaluation), {})

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
        zeros = [each for _, _, each in (*self._read, *self._squares)]
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
        count = len(self._read)
        linear, square = _together(self._read, slopes), _together(self._squares, slopes[count:])
        first = sum(_of_call(evaluation, reads) for evaluation, reads in linear)
        return first + sum(_of_squares(evaluation, reads) for evaluation, reads in square)


class _Squares(NamedTuple):
    """How the derivatives follow of which covariances were read; see `Covariances`."""

    columns: list[int]
    first: np.ndarray
    second: np.ndarray


def _together(reads: Sequence[tuple[Evaluation, Any, Any]], slopes: Sequence[Any]) -> list[Any]:
    """Returns for each evaluation, whose results share samples, how these follow from its table,
    and the derivatives of a number by them."""
    found: dict[int, tuple[Evaluation, list[tuple[Any, np.ndarray]]]] = {}
    for (evaluation, follows, _), slope in zip(reads, slopes, strict=False):
        if follows is not None and slope is not None:
            found.setdefault(id(evaluation), (evaluation, []))[1].append((follows, slope.numpy()))
    return list(found.values())


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


def _of_squares(evaluation: Evaluation, reads: Sequence[tuple[_Squares, np.ndarray]]) -> float:
    """Returns what terms of second order add to the variance of a number.

    With the matrix H of their derivatives and the covariances S they have the variance
    tr(H S H S) / 2. The slopes that the first order takes have errors of their own: where they are
    larger by one of these, the first order is larger by tr(H S H S), which is added as well. Of
    intervals for a variance whose slope is twice its error, 97 in 100 hold it; without that, 88.

    Args:
        evaluation: The evaluation whose samples the terms depend on.
        reads: How the derivatives follow whose products the terms are, and the derivatives of the
            number by their covariances, float64[N, C, C, pairs].
    """
    columns = sorted({column for squares, _ in reads for column in squares.columns})
    points = max(squares.first.shape[2] for squares, _ in reads)
    total = 0.0
    for n in np.flatnonzero(sum((slope != 0).any(axis=(1, 2, 3)) for _, slope in reads)):
        terms = np.zeros((points, len(columns), points, len(columns)))
        for (own, first, second), slope in reads:
            added = np.einsum("cdp,pck,pdl->kcld", slope[n], first, second, optimize=True)
            places = np.searchsorted(columns, own)
            known = np.arange(first.shape[2])
            # A value may be there twice.
            np.add.at(terms, np.ix_(known, places, known, places), added)
        terms += terms.transpose(2, 3, 0, 1)
        spread = evaluation.covariances(points, columns)[:, n]
        products = np.einsum("ickd,kde->icke", terms, spread)
        total += 1.5 * float(np.einsum("icke,keic->", products, products))
    return np.maximum(total, 0.0)
