"""The commands of the command line: what they do and print."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

import qshift
from qshift.api import profiles
from qshift.cli import programs
from qshift.cli.digits import certain, rounded, rounded_array
from qshift.errors import QShiftError, UnsupportedError
from qshift.inputs import said
from qshift.quiet import quiet

if TYPE_CHECKING:
    from qshift.optimize.result import Result

_MOST_ROWS = 60  # rows for each order in a table


class CommandError(QShiftError, ValueError):
    """Raised for a command that cannot be carried out as given."""


def devices(options: argparse.Namespace) -> int:
    """Lists the device profiles."""
    table = Table("name", "device", "shots", "description")
    content, status = [], 0
    for file in profiles.profile_files().values():
        try:
            profile = profiles.read(file)
        except profiles.ProfileError as error:  # the other profiles are still listed
            print(f"qshift: error: {error}", file=sys.stderr)
            status = 2
            continue
        shots = "exact" if profile.shots is None else str(profile.shots)
        table.add_row(profile.name, profile.device or profile.backend, shots, profile.description)
        content.append(vars(profile) | {"file": str(file)})
    places = "\n".join(f"  {place}" for place in profiles.directories())
    show(options, content, table, f"Profiles are looked for in\n{places}")
    return status


def plan(options: argparse.Namespace) -> int:
    """Prints what derivatives cost."""
    run = _Run.of(options)
    planned = run.qnode.plan(run.x, order=options.order)
    show(options, run.about() | {"plan": planned.to_dict()}, run.title, planned)
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Evaluates a circuit and its derivatives."""
    run = _Run.of(options)
    import tensorflow as tf

    from qshift.api.estimate import Estimate

    if options.order and not run.x.size:
        raise CommandError(f"{run.program.name} has no parameters; give --order 0")
    shapes: list[tuple[int, ...]] = []
    is_table, x = False, tf.constant(run.x)

    def values(x: np.ndarray) -> Any:
        nonlocal is_table
        found = run.qnode(x)
        is_table = isinstance(found, Mapping)  # whose entries TensorFlow sorts by their names
        results = tf.nest.flatten(found)
        shapes[:] = [tuple(result.shape) for result in results]
        return tf.concat([tf.reshape(result, [-1]) for result in results], axis=0)

    errors: list[list[np.ndarray]] | None = None
    with qshift.Tracker() as tracker:
        found = _with_errors(run, values, x, options.order)
        if found is None:
            found = qshift.derivatives(values, x, order=options.order)
    shapes = shapes or [tuple(found[0].value.shape)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def by_measurement(found: Sequence[Any]) -> list[list[np.ndarray]]:
        """All derivatives of the first measurement, then those of the next."""
        flat = [np.reshape(d, (-1, *[run.x.size] * k)) for k, d in enumerate(found)]
        each = zip(shapes, *(np.split(d, ends) for d in flat), strict=True)
        return [[part.reshape(shape + part.shape[1:]) for part in parts] for shape, *parts in each]

    if isinstance(found[0], Estimate):
        errors = by_measurement([each.error for each in found])
        found = [each.value for each in found]
    measurements = by_measurement(found)
    if options.npz:
        with options.npz.open("wb") as file:
            arrays: dict[str, Any] = {
                f"{name}{k}" + f"_m{m}" * (len(measurements) > 1): derivative
                for name, each in (("order", measurements), ("error", errors or ()))
                for m, derivatives in enumerate(each)
                for k, derivative in enumerate(derivatives)
            }
            np.savez(file, parameters=run.labels, **arrays)
    content = {}
    for name, numbers in (("derivatives", measurements), ("errors", errors)):
        if numbers is not None:
            listed = [[derivative.tolist() for derivative in each] for each in numbers]
            content[name] = listed[0] if len(listed) == 1 else listed
    content = run.about() | content | {"executed": tracker.totals}
    names: list[str | None] = [None] * len(measurements)
    if len(measurements) > 1 and not is_table:
        tape = run.qnode.construct((tf.constant(run.x),), {})
        if len(tape.measurements) == len(measurements):  # not so with a shot vector
            names = [repr(each) for each in tape.measurements]
    tables = [
        _derivatives_table(run, each, name, errors[m] if errors else None)
        for m, (each, name) in enumerate(zip(measurements, names, strict=True))
    ]
    executed = f"{tracker.totals['circuits']:,} circuits executed"
    show(options, content, run.title, *tables, executed, written=options.npz)
    return 0


def _with_errors(run: _Run, values: Callable, x: Any, order: int) -> Sequence[Any] | None:
    """Returns the derivatives of a program with their standard errors; None without shots, and
    where the device does not tell errors, which it says before it runs anything."""
    if not run.qnode.shots:
        return None
    # A qnode with one result has a short way.
    alone = run.qnode.prepare([x], []) is not None
    with contextlib.suppress(UnsupportedError):
        return qshift.derivatives(run.qnode if alone else values, x, order=order, errors=True)
    return None


def minimize(options: argparse.Namespace) -> int:
    """Minimises an expectation value; the status is 1 if it ends where that is not a minimum."""
    run = _Run.of(options)
    named = re.sub(r"\W+", "-", run.program.name)
    checkpoint = options.checkpoint or Path(f"{named}.checkpoint.json")
    settings = ("optimizer", "steps", "learning_rate", "damping", "tolerance")
    try:
        with _printed("qshift.minimize"):
            result = qshift.minimize(
                run.qnode,
                run.x,
                checkpoint=checkpoint,
                **{name: getattr(options, name) for name in settings},
            )
    except KeyboardInterrupt as interruption:
        if not checkpoint.exists():
            raise
        raise KeyboardInterrupt(
            f"The run so far is in {checkpoint}. Give the same command again to go on from there. "
            f"{interruption}".rstrip()
        ) from None
    if options.checkpoint is None:
        checkpoint.unlink(missing_ok=True)
    if options.plot:
        result.plot(options.plot, run.title)
    names = ("optimizer", "value", "gradient_norm", "converged", "steps", "circuits", "message")
    content = {name: getattr(result, name) for name in names}
    content |= {"x": result.x.tolist(), "history": [asdict(point) for point in result.history]}
    title, table = f"{run.title}, {result.optimizer}", _result_table(run, result)
    show(options, run.about() | content, title, table, result.message, written=options.plot)
    return int(result.gradient_norm <= result.tolerance and not result.converged)


@contextmanager
def _printed(logger: str) -> Iterator[None]:
    """A context in which what a logger says goes to stderr."""
    log, handler = logging.getLogger(logger), logging.StreamHandler(sys.stderr)
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)


@dataclass(frozen=True)
class _Run:
    """A program on a device: a QNode of one vector, which has all arguments flattened into it.

    Attributes:
        program: The program's name, which says where it is from.
        qnode: The QNode.
        device: The name of the device.
        arguments: Name -> value of the function's own arguments.
    """

    program: programs.Program
    qnode: qshift.QNode
    device: str
    arguments: dict[str, np.ndarray]

    @classmethod
    def of(cls, options: argparse.Namespace) -> _Run:
        """Loads the program that the command line names, and checks it; runs no circuit."""
        # Mistakes that are quickly found are reported before the libraries are loaded.
        programs.find(options.program)
        if options.device is not None:
            profiles.profile(options.device)
        with quiet():
            import tensorflow as tf
        import pennylane as qml

        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        program = programs.load(options.program, options.observable)
        arguments = program.arguments(options.params)
        given = {name: getattr(options, name) for name in ("shots", "seed", "objective")}
        settings = {name: value for name, value in given.items() if value is not None}
        called: Any = program.function
        is_qnode = isinstance(called, qml.QNode)
        if is_qnode and options.device is None:
            device = called.device.name
            for name in ("wires", "workers"):
                if getattr(options, name) is not None:
                    advice = f"give --device with --{name}"
                    raise CommandError(f"{program.name} has its own device; {advice}")
        else:
            device = options.device or "simulator"
            given = {name: getattr(options, name) for name in ("wires", "shots", "workers")}
            overrides = {name: value for name, value in given.items() if value is not None}
            settings["device"] = built = qshift.device(device, **overrides)
            settings["shots"] = built.qshift_shots
        function = called.func if is_qnode else called
        shapes = [value.shape for value in arguments.values()]
        sizes = [value.size for value in arguments.values()]

        def packed(x: tf.Tensor) -> Any:
            pieces = tf.split(x, sizes) if sizes else []
            return function(**dict(zip(arguments, map(tf.reshape, pieces, shapes), strict=True)))

        if is_qnode:
            qnode = qshift.from_qnode(program.function).update(func=packed, **settings)
        else:
            qnode = qshift.qnode(**settings)(packed)
        run = cls(program, qnode, device, arguments)
        try:
            qnode.construct((tf.constant(run.x),), {})
        except Exception as error:
            hint = ""
            if () in shapes and not program.start:
                hint = ". A vector of one entry is written with a comma: --params 0.4,"
            raise CommandError(
                f"{program.name} fails for arguments of shapes "
                f"{', '.join(map(str, shapes)) or 'none'}: {said(error)}{hint}"
            ) from error
        return run

    @property
    def x(self) -> np.ndarray:
        """The vector's value, float64[P]."""
        return np.concatenate([np.ravel(a) for a in self.arguments.values()] or [np.empty(0)])

    @property
    def labels(self) -> list[str]:
        """Names of the vector's entries: ``a``, ``x[0]``, ``x[1]``, ..."""
        return [
            name + (f"[{','.join(map(str, index))}]" if index else "")
            for name, value in self.arguments.items()
            for index in np.ndindex(value.shape)
        ]

    @property
    def title(self) -> str:
        """The title of every table."""
        shots = self.qnode.shots.total_shots
        return f"{self.program.name} on {self.device}" + (f", {shots:,} shots" if shots else "")

    def about(self) -> dict[str, Any]:
        """The first entries of every JSON output."""
        return {
            "program": self.program.name,
            "device": self.device,
            "shots": self.qnode.shots.total_shots,
            "parameters": dict(zip(self.labels, self.x.tolist(), strict=True)),
        }


def show(
    options: argparse.Namespace, content: Any, *tables: Any, written: Path | None = None
) -> None:
    """Prints the tables, or with ``--json -`` the content, and writes the content to a file.

    Args:
        options: The options of the command line.
        content: Plain data.
        *tables: The tables to print.
        written: Another file that was written, to be mentioned.
    """
    text = json.dumps(content, indent=2, default=np.ndarray.tolist)
    if str(options.json) == "-":
        print(text)
        return
    # Without a terminal, rich assumes 80 columns, and tables would lose their ends.
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    Console(width=wide, highlight=False, markup=False).print(*tables, sep="\n")
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    for out in filter(None, (written, options.json)):
        print(f"Written: {out}")


def _derivatives_table(
    run: _Run,
    derivatives: list[np.ndarray],
    name: str | None,
    errors: list[np.ndarray] | None,
) -> Table:
    """Returns a table of the distinct partial derivatives, or the first ones of many, and of their
    standard errors where these are known."""
    table = Table(title=name, title_justify="left")
    table.add_column("order", justify="right")
    table.add_column("by", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    if errors:
        table.add_column("error", justify="right", overflow="fold")
    digits = certain(run.qnode.shots.total_shots or 0)
    for order, derivative in enumerate(derivatives):
        rows = list(islice(combinations_with_replacement(range(run.x.size), order), _MOST_ROWS + 1))
        for index in rows[:_MOST_ROWS]:
            place: tuple[Any, ...] = (..., *index)
            error = errors[order][place] if errors else None
            numbers = [rounded_array(derivative[place], error, digits)]
            if error is not None:
                numbers.append(rounded_array(error, None, digits=2))
            table.add_row(str(order), " ".join(run.labels[i] for i in index), *numbers)
        if len(rows) > _MOST_ROWS:
            table.add_row("", "...", "all of them: --json or --npz")
        table.add_section()
    return table


def _result_table(run: _Run, result: Result) -> Table:
    """Returns a table with the result of a minimisation."""
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    shots = run.qnode.shots.total_shots
    digits = certain(shots or 0)
    error = result.value_error
    if error is None:
        table.add_row("value", f"{result.value:.{digits}f}")
    else:
        table.add_row("value", f"{rounded(result.value, error)} +- {error:.2g}")
    table.add_row("gradient norm", f"{result.gradient_norm:.3g}")
    table.add_row("steps", str(result.steps))
    table.add_row("circuits executed", f"{result.circuits:,}")
    table.add_section()
    for label, value in list(zip(run.labels, result.x, strict=True))[:_MOST_ROWS]:
        table.add_row(label, f"{value:z.{digits}f}")
    if len(run.labels) > _MOST_ROWS:
        table.add_row("...", "all of them: --json")
    return table
