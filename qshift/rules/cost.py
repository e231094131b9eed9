"""What derivatives cost, known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from qshift.rules.allocation import whole
from qshift.rules.planner import Axes, Frequencies, Index, Planner, Spectrum, Step, indices_along
from qshift.rules.rounding import first_share, rounded, sizes
from qshift.rules.sampled_plans import Precision, SampledPlanner
from qshift.rules.seconds import Seconds
from qshift.rules.shots import Shots
from qshift.rules.sources import split

_GOALS = {"circuits": "fewest circuits", "shots": "least variance", "seconds": "least time"}
_NOTE = (
    "QPU seconds, by IBM's formula: about 2 for each job, and for each execution the delay between "
    "shots and the length of the circuit, with what error mitigation adds. Not in them: the time "
    "that a session stands idle."
)


@dataclass(frozen=True)
class Order:
    """The cost of one order.

    Attributes:
        order: 0 for the value, 1 for the gradient, ...
        circuits: Circuits that it adds to those of the lower orders.
        total: Circuits up to and including this order.
        batches: Batches that nested tapes send for it (`qshift.derivatives` sends one in all, or
            two with adjoint differentiation).
        shots: Shots that it adds.
        recursion: Circuits that plain recursion executes up to and including this order.
        jobs: Jobs of its batches; 0 on devices that have none.
        seconds: QPU seconds that it adds; None on simulators.
    """

    order: int
    circuits: int
    total: int
    batches: int
    shots: int
    recursion: int
    jobs: int = 0
    seconds: float | None = None


class _Batch(NamedTuple):
    """What one batch takes: the first five as in `Order`; whether there is a pilot share; whether
    circuits are chosen at random; and the QPU seconds that copies on one chip save."""

    circuits: int
    batches: int
    shots: int
    jobs: int
    seconds: float | None
    has_pilot: bool
    chosen: bool
    saved: float

    def order(self, order: int, total: int, recursion: int) -> Order:
        circuits, batches, shots, jobs, seconds, *_ = self
        return Order(order, circuits, total, batches, shots, recursion, jobs, seconds)


class Sums(NamedTuple):
    """Sums of derivatives that are wanted.

    Attributes:
        indices: The derivatives; A of them.
        weights: float64[B, M, A], the weight of each value of each of them in B sums; None if they
            follow from the derivatives, so that a plan has all of these.
    """

    indices: tuple[Index, ...]
    weights: np.ndarray | None

    def planned(self, planner: Planner, adjoint: bool) -> tuple[list[Step], Precision | None]:
        """Returns the steps that lead there, and the cost of their shots.

        Args:
            planner: The circuit's planner.
            adjoint: Whether the device gives first derivatives.
        """
        indices, weights = self
        if isinstance(planner, SampledPlanner):
            if weights is None:
                return [planner.root.request(indices)], planner.precision(indices)
            return planner.contracted(indices, weights)
        seen = np.flatnonzero(planner.mask(indices).any(axis=0))
        pairs = split([indices[i] for i in seen if adjoint and indices[i]])
        values = tuple(indices[i] for i in seen if not (adjoint and indices[i]))
        parts = values, tuple(dict.fromkeys(lower for lower, _ in pairs))
        return [planner.root.request(part) for part in parts if part or not any(parts)], None


@dataclass(frozen=True)
class Plan:
    """What value and derivatives up to an order cost; readable when printed and in notebooks.

    Attributes:
        orders: One entry per order, from 0.
        parameters: Number of gate parameters differentiated by.
        objective: ``"circuits"`` or ``"shots"``.
        points: Size of the batch of inputs: every circuit runs at each of them.
        adjoint: Whether circuits of order 1 and above give gradients, by adjoint differentiation.
        shared: The parameters that several gates share and that are shifted in all of them at once,
            with the joint spectrum; in words.
        precision: What the shots of all orders together cost; None on exact simulators.
        pilot: The part of the shots from which variances are estimated first. Circuits, batches and
            jobs count twice then.
        chosen: Whether there are orders with fewer shots than circuits, so that the circuits of
            these are chosen at random.
        saved: QPU seconds that copies of the circuit on one chip save; 0 without copies.
        together: What `qshift.derivatives` takes, and a call with this ``prefetch``: one batch for
            all orders. None where that is the sum of all orders: mostly, where batches are no jobs
            and a number of shots is given for each circuit.
        rates: What takes how many seconds, if that was given.
        wanted: Whether this is what a function of the derivatives takes, in one batch. Then there
            is one entry, of the highest order.
    """

    orders: tuple[Order, ...]
    parameters: int
    objective: str
    points: int
    adjoint: bool = False
    shared: tuple[str, ...] = ()
    precision: Precision | None = None
    pilot: float = 0.0
    chosen: bool = False
    saved: float = 0.0
    together: Order | None = None
    rates: Seconds | None = None
    wanted: bool = False

    @property
    def circuits(self) -> int:
        """Circuits in all."""
        return self.orders[-1].total

    @property
    def batches(self) -> int:
        """Batches in all, from nested tapes."""
        return sum(order.batches for order in self.orders)

    @property
    def shots(self) -> int:
        """Shots in all; 0 on exact simulators."""
        return sum(order.shots for order in self.orders)

    @property
    def jobs(self) -> int:
        """Jobs in all, from nested tapes; 0 on devices that have none."""
        return sum(order.jobs for order in self.orders)

    @property
    def seconds(self) -> float | None:
        """QPU seconds in all, from nested tapes; None on simulators."""
        known = [order.seconds for order in self.orders if order.seconds is not None]
        return sum(known) if known else None

    @property
    def recursion(self) -> int:
        """Circuits that plain recursion would execute."""
        return self.orders[-1].recursion

    @classmethod
    def of(
        cls,
        planner: Planner,
        axes: Sequence[Axes],
        points: int = 1,
        shots: int = 0,
        numbers: str = "any",
        asked: Shots | None = None,
        adjoint: bool = False,
        jobs: Callable[[int], int] | None = None,
        seconds: Callable[[int], float | None] | None = None,
        alone: Callable[[int], float | None] | None = None,
        shared: tuple[str, ...] = (),
        costs: Callable[[np.ndarray], tuple[int, float | None]] | None = None,
        rates: Seconds | None = None,
        samples: Callable[..., int] | None = None,
        sums: Sums | None = None,
    ) -> Plan:
        """Plans partial derivatives, order by order.

        Args:
            planner: The circuit's planner.
            axes: Which derivatives: for each axis of each, the parameters that it runs over.
            points: Size of the batch.
            shots: The unit of the shots: those of a circuit, or of a batch.
            numbers: Which numbers of shots the device takes, see `qshift.rules.rounding`.
            asked: How the shots are spread; None if they are equal.
            adjoint: Whether the device gives first derivatives.
            jobs: From the number of circuits of a batch to that of its jobs.
            seconds: From the number of circuits of a batch to its QPU seconds.
            alone: The same if only one copy of each circuit ran at a time.
            shared: Parameters with a joint spectrum, in words.
            costs: From the shots of all circuits of a batch to its jobs and QPU seconds, where each
                circuit has its own.
            rates: What takes how many seconds, if the user has given that.
            samples: From the number of circuits of a batch, and their shots where each has its own,
                to the samples that it draws in all.
            sums: What is wanted of the derivatives, in one batch; None for all of them.
        """
        node, gradients, orders, total, recursion = planner.root, planner.root, [], 0, 0
        asked = asked or Shots(per_circuit=max(shots, 1))

        def batch(step: Step) -> _Batch:
            again = asked.again(step)
            run = len(step.new_points) + len(again)
            taken = shots * run
            if step.shots is not None:
                taken = round(shots * float(step.shots.sum()))
            few = asked.are_too_few(taken, run)
            has_pilot = bool(run) and asked.has_pilot(taken, run)
            circuits = points * (min(run, taken) if few else run)
            batches, taken, saved = int(circuits > 0), taken * points, 0.0
            if costs and circuits and step.shots is not None:
                each = np.repeat(asked.wanted(step, again)[:, None], points, axis=1)
                parts = _numbers(each, few, has_pilot, asked, numbers)
                batches = len(parts)
                if has_pilot:
                    circuits = sum(map(len, parts))
                draw = samples or (lambda _, own: int(own.sum()))
                taken = sum(draw(len(part), part) for part in parts)
                found = [costs(part) for part in parts]
                sent, time = sum(jobs for jobs, _ in found), _sum(time for _, time in found)
            else:
                sent = jobs(circuits) if jobs and circuits else 0
                time = seconds(circuits) if seconds else None
                if samples and circuits:
                    taken = samples(circuits, None)
                if time is not None and alone:
                    saved = (alone(circuits) or 0.0) - time
            if rates:
                time = rates.of(circuits, taken, sent or batches)
            return _Batch(circuits, batches, taken, sent, time, has_pilot, few, saved)

        batches: list[_Batch] = []
        for k in range(max(map(len, axes), default=0) + 1):
            same = [each for each in axes if len(each) == k]
            recursion += points * sum(
                math.prod(
                    sum(_evaluations(planner.spectra[j]) for j in columns) for columns in each
                )
                for each in same
            )
            if sums is not None:
                continue
            wanted = indices_along(same)
            if k and adjoint:
                seen = np.flatnonzero(planner.mask(wanted).any(axis=0)) if wanted else ()
                pairs = split([wanted[i] for i in seen])
                step = gradients.request(tuple(dict.fromkeys(lower for lower, _ in pairs)))
                gradients = step.node
            else:
                step = node.request(wanted)
                node = step.node
            batches.append(batch(step))
            total += batches[-1].circuits
            orders.append(batches[-1].order(k, total, recursion))
        together, precision = None, None
        if sums is not None:
            steps, precision = sums.planned(planner, adjoint)
            batches = [batch(step) for step in steps]
            total = sum(each.circuits for each in batches)
            (first, *others) = [each.order(k, total, recursion) for each in batches]
            orders = [_added([first, *(replace(each, total=0, recursion=0) for each in others)])]
        elif len(orders) > 1 and (
            isinstance(planner, SampledPlanner) or any(each.jobs for each in orders)
        ):
            one = batch(planner.root.request(indices_along(axes)))
            if _differ(one, orders):
                batches.append(one)
                together = one.order(orders[-1].order, one.circuits, recursion)
        parameters = len({j for each in axes for columns in each for j in columns})
        if shots and isinstance(planner, SampledPlanner) and sums is None:
            precision = planner.precision(indices_along(axes))
        return cls(
            tuple(orders),
            parameters,
            planner.objective,
            points,
            adjoint,
            shared,
            precision,
            pilot=(asked.pilot or 0.0) * any(each.has_pilot for each in batches),
            chosen=any(each.chosen for each in batches),
            saved=sum(each.saved for each in batches[: len(orders)]),
            together=together,
            rates=rates,
            wanted=sums is not None,
        )

    @classmethod
    def total(cls, plans: Sequence[Plan]) -> Plan:
        """Adds up the plans of several circuits that one call runs, a batch each."""
        orders = tuple(_added(same) for same in zip(*(plan.orders for plan in plans), strict=True))
        differ = any(plan.together for plan in plans)
        return cls(
            orders,
            sum(plan.parameters for plan in plans),
            plans[0].objective,
            max(plan.points for plan in plans),
            any(plan.adjoint for plan in plans),
            tuple(each for plan in plans for each in plan.shared),
            plans[0].precision if len(plans) == 1 else None,
            pilot=max(plan.pilot for plan in plans),
            chosen=any(plan.chosen for plan in plans),
            saved=sum(plan.saved for plan in plans),
            together=_added([plan._one_batch for plan in plans]) if differ else None,
            rates=plans[0].rates,
            wanted=plans[0].wanted,
        )

    @property
    def _one_batch(self) -> Order:
        """What one batch for all orders takes."""
        if self.together is not None:
            return self.together
        most, highest = max(each.batches for each in self.orders), self.orders[-1]
        same = _added(self.orders)
        return replace(
            same, order=highest.order, total=highest.total, batches=most, recursion=self.recursion
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as plain data."""
        data = asdict(self)
        del data["precision"]
        if self.precision is not None:  # of samples only
            data["precision"] = self.precision._asdict()
        for rare in ("pilot", "chosen", "saved", "together", "rates", "wanted"):
            if not data[rare]:
                del data[rare]
        return data | {
            "circuits": self.circuits,
            "batches": self.batches,
            "jobs": self.jobs,
            "shots": self.shots,
            "seconds": self.seconds,
            "recursion": self.recursion,
        }

    def _title(self) -> str:
        batch = f", batch of {self.points}" if self.points > 1 else ""
        goal = _GOALS[self.objective]
        by = ", by adjoint gradients" if self.adjoint else ""
        what = ", of what is wanted" if self.wanted else ""
        return f"Plan for {self.parameters} gate parameters{what}{batch}, {goal}{by}"

    def _notes(self) -> list[str]:
        notes = [f"Joint spectrum: {'; '.join(self.shared)}."] if self.shared else []
        if self.precision is not None:
            notes.append(_precise(self.precision))
        if self.pilot:
            notes.append(
                f"{self.pilot:.0%} of the shots are drawn first, to estimate variances: circuits "
                "run twice, in two batches."
            )
        if self.chosen:
            notes.append("Fewer shots than circuits: these are chosen at random.")
        if self.together is not None:
            notes.append(
                "Nested tapes take a batch for each order, qshift.derivatives one for all together."
            )
        if self.seconds is None:
            return notes
        if self.rates is not None:
            circuit, shot, job = self.rates.circuit, self.rates.shot, self.rates.job
            return [*notes, f"Seconds: {circuit:g} a circuit, {shot:g} a shot, {job:g} a job."]
        if self.saved > 0:
            notes.append(f"Copies on one chip save {self.saved:,.1f} QPU seconds.")
        return [*notes, _NOTE]

    def _cells(self) -> dict[str, list[str]]:
        """Returns the columns to show, heading -> one text for each order, and one for all of them
        together."""
        last = [] if self.together is None else [self.together]
        rows, time = [*self.orders, *last], "QPU seconds" if self.rates is None else "seconds"
        columns = {
            "order": [str(o.order) for o in self.orders] + ["together"] * len(last),
            "circuits": [f"{o.circuits:,}" for o in rows],
            "in all": [f"{o.total:,}" for o in rows],
            "batches": [str(o.batches) for o in rows],
            "jobs": [str(o.jobs) for o in rows],
            "shots": [f"{o.shots:,}" if self.shots else "exact" for o in rows],
            time: [f"{o.seconds or 0:,.1f}" for o in rows],
            "plain recursion": [f"{o.recursion:,}" for o in rows],
        }
        if not self.jobs:
            del columns["jobs"]
        if self.seconds is None:
            del columns[time]
        return columns

    def __rich__(self) -> Table:
        table = Table(title=self._title(), caption=" ".join(self._notes()) or None)
        columns = self._cells()
        for column in columns:
            table.add_column(column, justify="right")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        return table

    def __str__(self) -> str:
        console = Console(width=100, color_system=None, force_terminal=False, force_jupyter=False)
        with console.capture() as capture:
            console.print(self)
        return capture.get()

    def _repr_html_(self) -> str:
        columns = self._cells()
        head = "".join(f"<th>{column}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
            for row in zip(*columns.values(), strict=True)
        )
        notes = "".join(f"<p><small>{note}</small></p>" for note in self._notes())
        return f"<table><caption>{self._title()}</caption><tr>{head}</tr>{body}</table>{notes}"


def _precise(precision: Precision) -> str:
    """Says how the shots are spread, and what that gains."""
    cost, equal, bound = precision
    measure = (
        "Shots x summed variance of all that is asked for together, for outcomes of variance 1"
    )
    if not bound:
        return f"{measure}: {equal:,.5g}, with equal shots for all circuits."
    return (
        f"{measure}: {cost:,.5g}; no shots of these circuits give less than {bound:,.5g}, "
        f"equal ones {equal:,.5g}."
    )


def _numbers(
    wanted: np.ndarray, few: bool, has_pilot: bool, asked: Shots, kind: str
) -> list[np.ndarray]:
    """Returns the shots of the circuits of a batch, or of the two that it is drawn in.

    Args:
        wanted: float64[K, N], the shots that are wanted.
        few: Whether there are so few that circuits are chosen.
        has_pilot: Whether a share is drawn first. The others are spread as if no circuit had turned
            out to vary less than the rest.
        asked: The shots that were asked for.
        kind: Which numbers of shots the device takes.
    """
    halves = np.full(wanted.shape[1], 0.5)
    each = whole(wanted, halves, 0) if few else rounded(wanted, None, asked.least, kind)
    parts = [each]
    if has_pilot:
        first = first_share(each, asked.pilot or 1.0, asked.least, sizes(each, kind))
        first = np.minimum(first, each)
        least = np.where(first < each, asked.least, 0)
        parts = [first, rounded((each - first).astype(float), None, least, kind)]
    return [part[part > 0] for part in parts if part.any()]


def _differ(one: _Batch, orders: Sequence[Order]) -> bool:
    """Whether one batch takes anything else than all orders, each in a batch of its own."""
    return any(
        getattr(one, name) != _sum(getattr(each, name) for each in orders)
        for name in ("circuits", "shots", "jobs", "seconds")
    )


def _sum(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _added(same: Sequence[Order]) -> Order:
    """Adds up the same order of several plans."""
    counts = zip(*(tuple(asdict(order).values())[1:] for order in same), strict=True)
    return Order(same[0].order, *map(_sum, counts))


def _evaluations(spectrum: Spectrum | None) -> int:
    """Evaluations of one first derivative by its standard rule."""
    if isinstance(spectrum, Frequencies):
        return 2 * len(spectrum.values)
    assert spectrum is not None, "parameters without a rule are refused before"
    return len(spectrum.terms)
