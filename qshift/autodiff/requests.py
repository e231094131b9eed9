"""Chosen partial derivatives, named by the positions of the arguments that they are taken by.

`(0, 0, 1)` stands for all third derivatives twice by (entries of) argument 0 and once by (entries
of) argument 1, `()` for the value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from qshift.autodiff.dataflow import name_of, nonlinear, origins
from qshift.inputs import is_integer
from qshift.rules.planner import Axes
from qshift.tensorflow_internals import function_graph

if TYPE_CHECKING:
    from qshift.circuits.circuit import Circuit

Partial = tuple[int, ...]


@dataclass(frozen=True)
class Wanted:
    """Derivatives that will be asked for.

    Attributes:
        order: All derivatives up to this order, by everything that is watched, are among them.
        partials: Further derivatives, as positions of arguments.
        arguments: The arguments that these positions stand for: tensors, variables, nests of them.
    """

    order: int = 0
    partials: tuple[Partial, ...] = ()
    arguments: tuple = ()

    @property
    def highest(self) -> int:
        """The highest order among them."""
        return max(self.order, *map(len, self.partials), 0)

    def axes(
        self, circuit: Circuit, parameters: Sequence[tf.Tensor], watched: tuple[int, ...]
    ) -> tuple[Axes, ...]:
        """Returns the derivatives in terms of the columns of a circuit.

        Args:
            circuit: A circuit or `Joint`.
            parameters: One tensor for each slot.
            watched: The columns that can be differentiated by.
        """
        # Where single derivatives are chosen, the value need not be among them.
        orders = range(self.order + 1) if self.order or not self.partials else ()
        axes = [(watched,) * k for k in orders]
        if self.partials:
            columns, curved = self._columns(circuit, parameters, watched)
            for partial in self.partials:
                for blocks in partitions(partial):
                    each = tuple(_of_block(block, columns, curved) for block in blocks)
                    if all(each):
                        axes.append(each)
        return tuple(dict.fromkeys(axes))

    def _columns(
        self, circuit: Any, parameters: Any, watched: Any
    ) -> tuple[list[tuple[int, ...]], set[int]]:
        """Returns for each argument the watched columns that are computed from it, and those of all
        these columns that may not be linear functions of the arguments."""
        arguments = [
            [each for each in tf.nest.flatten(a) if isinstance(each, tf.Tensor | tf.Variable)]
            for a in self.arguments
        ]
        ends = list(itertools.chain.from_iterable(arguments))
        parameters = list(map(tf.convert_to_tensor, parameters))  # batches of constants are arrays
        found, bent = origins(parameters, ends), nonlinear(parameters, ends)
        columns: list[tuple[int, ...]] = []
        curved: set[int] = set()
        for names in ({name_of(each) for each in argument} for argument in arguments):
            of = set()
            for slot, origin, is_bent in zip(circuit.slots, found, bent, strict=True):
                if names & origin:
                    of.update(slot.columns)
                    curved.update(slot.columns if is_bent else ())
            columns.append(tuple(c for c in watched if c in of))
        return columns, curved


@dataclass(frozen=True)
class Request:
    """What qshift asks of the qnodes that a user's function calls.

    Attributes:
        wanted: Derivatives that will be asked for. Qnodes run the circuits of all of them in their
            first batch.
        instead_of_running: A function from a program and its tensors to values float64[N, M], in
            place of running circuits; None to run them.
        refuse: The class of error that qnodes raise before they would run circuits; None to run
            them.
        graph: The graph in which the user's function is traced; None in eager mode. `wanted` holds
            for calls in this graph only: a `tf.function` that the user's function calls has a graph
            of its own, which other callers use, too.
    """

    wanted: Wanted | None = None
    instead_of_running: Callable[[Any, list[tf.Tensor]], tf.Tensor] | None = None
    refuse: type[Exception] | None = None
    graph: tf.Graph | None = field(default_factory=function_graph)

    def wanted_here(self) -> Wanted | None:
        """Returns the derivatives wanted of a qnode that is called now; None in another graph."""
        return self.wanted if self.graph is function_graph() else None


_NOTHING = Request(graph=None)
_present: ContextVar[Request] = ContextVar("request", default=_NOTHING)
present = _present.get  # returns the request that calls of qnodes belong to now


@contextmanager
def request(**asked: Any) -> Iterator[None]:
    """A context in which calls of qnodes belong to a request.

    Args:
        **asked: Attributes of the `Request`; others stay those of the request around it.
    """
    around = present()
    inner = replace(around, wanted=around.wanted_here(), graph=function_graph())
    token = _present.set(replace(inner, **asked))
    try:
        yield
    finally:
        _present.reset(token)


def partitions(items: Any) -> Any:
    """Returns all ways to put items into blocks.

    By the chain rule (Faa di Bruno), a derivative of a function of angles is a sum over these: all
    arguments of a block differentiate the same angle.
    """
    if not items:
        return [[]]
    first, *rest = items
    result = []
    for blocks in partitions(rest):
        result.append([[first], *blocks])
        result += [
            [*blocks[:i], [first, *block], *blocks[i + 1 :]] for i, block in enumerate(blocks)
        ]
    return result


def _of_block(block: Any, columns: Any, curved: Any) -> Any:
    """Returns the columns whose derivatives by all arguments of a block may not be zero."""
    if len(block) == 1:
        return columns[block[0]]
    return tuple(
        c for c in columns[block[0]] if c in curved and all(c in columns[i] for i in block)
    )


def checked(partials: Any, arguments: int | None = None) -> tuple[Partial, ...]:
    """Returns partial derivatives as tuples of positions.

    Args:
        partials: Partial derivatives as a user gives them.
        arguments: How many arguments there are, if that is known.

    Raises:
        ValueError: If `partials` is not such a list, or names an argument that does not exist.
    """
    example = "such as [(0,), (0, 0), (0, 0, 1)]"
    try:
        result = tuple(tuple(partial) for partial in partials)
    except TypeError:
        raise ValueError(
            f"partials must be a list of tuples of argument positions, {example}, got {partials!r}."
        ) from None
    for position in itertools.chain.from_iterable(result):
        if not is_integer(position) or position < 0:
            raise ValueError(f"partials must name arguments by position, {example}, got {result}.")
        if arguments is not None and position >= arguments:
            raise ValueError(f"partials name argument {position}, but there are {arguments}.")
    return result
