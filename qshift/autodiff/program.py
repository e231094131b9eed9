"""A circuit as a differentiable TensorFlow function of its parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from qshift.autodiff.calls import EvaluatedCalls
from qshift.autodiff.contraction import Levels, levels, place_of
from qshift.autodiff.covariances import covariances
from qshift.autodiff.direct import Direct, Reading
from qshift.autodiff.error_propagation import Propagation
from qshift.autodiff.evaluation import Structure
from qshift.autodiff.node import run
from qshift.autodiff.op import Partials
from qshift.autodiff.threads import LARGEST_FORKED, require_threads
from qshift.autodiff.tickets import graph_ticket
from qshift.listeners import opened
from qshift.rules.planner import Index
from qshift.tensorflow_internals import could_record, from_numpy


class Program:
    """A circuit whose parameters come in parts, as a differentiable TensorFlow function.

    A derivative by one part evaluates nothing that only another part needs, so TensorFlow can leave
    out the parts that nobody differentiates by.

    Args:
        circuit: The circuit.
        columns: For each part, which of the P parameters it holds; all parts together hold all.
        active: For each part, the columns that the values depend on, so that only derivatives by
            these need evaluating; None for a part that nobody can differentiate by.
        start: start(parameters, number=k, alone=False) starts the evaluation of call k at
            float64[N, P]; see `Evaluation` for `alone`.
        calls: Numbers the calls; several programs may share it.
        reproducible: Whether samples are seeded, so that the same compiled function must give the
            same derivatives each time. Then graphs evaluate all derivatives of a contraction, also
            those that zeros multiply: with samples, the set of points that are evaluated together
            decides which samples a derivative is read off, so this set must depend neither on the
            vectors nor on the order in which TensorFlow runs ops.
        plain: plain() returns the values as a function of TensorFlow ops, from float64[N, P] to
            float64[N, M], for SavedModels, or raises UnsupportedError; None if there is none.
        pulls_back: Whether derivatives of weighted sums of values are to be had for less than those
            of all values.
        weighs: Where shots are spread by the weights of such sums: ``"everywhere"``, in eager mode
            only, or nowhere (an empty string).
        steers: Whether most shots may wait for what a first share of them finds.
        direct: Reads values and first derivatives from the executor; None if it cannot.

    Attributes:
        followed: The active columns of the first part that somebody can differentiate by. In eager
            mode, there is no other such part.
    """

    def __init__(
        self,
        circuit: Structure,
        columns: tuple[tuple[int, ...], ...],
        active: tuple[tuple[int, ...] | None, ...],
        start: Callable[..., Any],
        calls: EvaluatedCalls,
        reproducible: bool = False,
        plain: Callable[[], Callable[[tf.Tensor], tf.Tensor]] | None = None,
        pulls_back: bool = False,
        weighs: str = "",
        steers: bool = False,
        direct: Direct | None = None,
    ) -> None:
        self.circuit = circuit
        self.columns = columns
        self._in_order = columns == (tuple(range(circuit.num_parameters)),)
        self._places = tuple(map(place_of, columns))
        self.active = active
        self.followed = next((each for each in active if each), ())
        self.start = start
        self.calls = calls
        self.reproducible = reproducible
        self.plain = plain
        self.pulls_back = pulls_back
        self.weighs = weighs
        self.steers = steers
        self.direct = direct
        self._partials: dict[tuple[Index, ...], Partials] = {}
        self._levels: dict[int, Levels] = {}
        self.values = self.partials(((),))

    def __call__(self, tensors: list[tf.Tensor], observer: Propagation | None = None) -> tf.Tensor:
        """Returns the circuit's raw values, differentiable any number of times.

        Args:
            tensors: float64[N, len(columns)], one per part.
            observer: Is told what is read of the call, which has to be in eager mode.

        Returns:
            float64[N, M]. If they are observed and come from samples, they have an attribute
            ``qshift_covariances``, for `qshift.circuits.moments`: a function from columns to the
            covariances of these values, which TensorFlow differentiates.
        """
        if tf.executing_eagerly():
            parameters = self.assemble([tensor.numpy() for tensor in tensors])
            if parameters.size > LARGEST_FORKED:
                require_threads(parameters.size)
            number, alone = next(self.calls), not could_record()
            evaluation = self.start(parameters, number=number, alone=alone, observer=observer)
            if alone:  # nothing records the call, so that nobody can ask for derivatives
                return tf.constant(evaluation.partials(((),))[:, :, 0])
            # Graphs that compute derivatives of this call find it by its number.
            call = tf.constant(number, tf.int64)
            call.qshift_evaluation = self.calls.eager[number] = evaluation
        else:
            call = graph_ticket(self.calls, self.reproducible or self.calls.in_order)
        values = tf.squeeze(run(self.values, call, tensors), [2])
        if observer is not None and observer.combinations(call.qshift_evaluation):
            values.qshift_covariances = partial(covariances, self, call, tensors)
        return values

    def partials(self, indices: tuple[Index, ...]) -> Partials:
        """Returns the function of all these partial derivatives."""
        if indices not in self._partials:
            self._partials[indices] = Partials(self, indices)
        return self._partials[indices]

    def levels(self, order: int) -> Levels:
        """Returns all partial derivatives up to an order by `followed`."""
        if order not in self._levels:
            self._levels[order] = levels(self.followed, order)
        return self._levels[order]

    def assemble(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Puts the parts together: parameters float64[N, P]."""
        if len(arrays) == 1 and self._in_order:
            return np.array(arrays[0], dtype=float)
        parameters = np.empty((len(arrays[0]), self.circuit.num_parameters))
        for array, place in zip(arrays, self._places, strict=True):
            parameters[:, place] = array
        return parameters

    def apart(self, parameters: np.ndarray) -> list[tf.Tensor]:
        """Takes parameters float64[N, P] apart: what `assemble` puts together, as tensors."""
        return [from_numpy(parameters[:, place]) for place in self._places]

    def is_direct(self, nodes: Sequence[Any]) -> bool:
        """Whether all that is ever asked of a call, by these nodes, may come from the executor
        directly."""
        return self.direct is not None and self.direct.serves(nodes)

    def execution(
        self,
        number: int,
        arrays: Sequence[np.ndarray],
        pulls: bool,
        direct: bool,
        once: bool,
    ) -> Execution | Reading:
        """Returns what a graph that is being executed reads derivatives from.

        Args:
            number: Of the call, as its ticket says.
            arrays: The program's tensors.
            pulls: Whether it gives sums of derivatives without these.
            direct: Whether it may be the executor; see `is_direct`.
            once: Whether the only sum of derivatives is known; see `Siblings.are_known`.
        """
        parameters = self.assemble(arrays)
        if opened:
            Propagation.run_in_graph()
        if direct and self.direct and (reading := self.direct.at(parameters)) is not None:
            return reading
        evaluation = self.calls.find(number, parameters, self.start)
        return Execution(self.circuit, evaluation, pulls, once)


class Execution(NamedTuple):
    """One execution of a call in a graph; see `Program.execution`.

    Attributes:
        circuit: The program's circuit.
        evaluation: An `Evaluation`, or a `Kept` one.
        pulls: Whether sums of derivatives may be had without these.
        once: As for `qshift.autodiff.pulled_back.pays`.
    """

    circuit: Structure
    evaluation: Any
    pulls: bool
    once: bool

    def partials(
        self, indices: Sequence[Index], also: tuple[tuple[Index, ...], ...] = ()
    ) -> np.ndarray:
        """See `Evaluation.partials`.

        Raises:
            NoShiftRuleError: If a parameter has no exact rule.
        """
        self._require_rules(indices, *also)
        return self.evaluation.partials(indices, also)

    def pulled_back(
        self,
        lower: tuple[Index, ...],
        weights: np.ndarray,
        indices: tuple[Index, ...],
        also: tuple[tuple[Index, ...], ...] = (),
    ) -> np.ndarray | None:
        """See `Evaluation.pulled_back`.

        Raises:
            NoShiftRuleError: If a parameter has no exact rule.
        """
        if not self.pulls:
            return None
        self._require_rules(indices, *also)
        return self.evaluation.pulled_back(lower, weights, indices, also, self.once)

    def _require_rules(self, *asked_for: Sequence[Index]) -> None:
        # A graph may contain derivatives by parameters without a rule; only those that are used,
        # and so arrive here, are errors.
        indices = itertools.chain.from_iterable(asked_for)
        self.circuit.require_rules(j for index in indices for j in index)
