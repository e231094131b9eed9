"""The command line: ``qshift devices``, ``plan``, ``evaluate`` and ``minimize``.

TensorFlow, PennyLane and Qiskit take seconds to import, so that only the commands that need them
import them, in their bodies.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import qshift
from qshift import profiles, programs
from qshift.errors import QShiftError
from qshift.optimize import OPTIMIZERS, minimize

if TYPE_CHECKING:
    from rich.console import Console

    from qshift.optimize import Result

_MOST_ROWS = 60  # of a table

_EPILOG = """\
FILE:FUNCTION is a Python file and a function in it that queues gates and returns
PennyLane measurements, or a QNode. FILE alone is an OpenQASM 2 or 3 file; what to
measure is then --observable. Its parameters are one vector: OpenQASM 3's inputs, or
all angles written in an OpenQASM 2 file, which are also the default values.

--params 0.1,0.2 is a vector, --params 0.1 a number, --params FILE a .json, .npy or
.npz file; give it once per argument of the function.
"""


class CommandError(QShiftError, ValueError):
    """A command that cannot be carried out as given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: What follows ``qshift``; None stands for ``sys.argv[1:]``.

    Returns:
        The exit status: 0, 2 for an error of the caller's, 130 for an interruption.
    """
    options = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same digits on every processor
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("qshift: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.traceback or not _is_callers(error):
            raise
        print(f"qshift: error: {error}", file=sys.stderr)
        return 2


def _is_callers(error: Exception) -> bool:
    """Whether an error is about what the caller gave, rather than a defect of qshift."""
    libraries = ("pennylane", "qiskit")
    return isinstance(error, QShiftError | ValueError | NotImplementedError | OSError) or type(
        error
    ).__module__.startswith(libraries)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops what TensorFlow's libraries write to stderr, at any log level, when they load."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _joined(arguments: Sequence[str]) -> list[str]:
    """Joins ``--params -0.1,0.2`` to one word, as argparse takes ``-0.1,0.2`` for an option."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] in ("--params", "--observable") and word.startswith("-"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


# What can be asked for


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qshift",
        description="Quantum circuits and their exact derivatives of every order.",
    )
    parser.add_argument("--version", action="version", version=f"qshift {qshift.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def command(name: str, run: Callable, summary: str, **kwargs) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )
        added.add_argument(
            "--traceback", action="store_true", help="show where in the code an error arose"
        )
        added.set_defaults(run=run)
        return added

    devices = command("devices", _devices, "list the device profiles")
    devices.add_argument("--json", action="store_true", help="print JSON instead of a table")

    circuit = argparse.ArgumentParser(add_help=False)
    circuit.add_argument("program", metavar="FILE[:FUNCTION]", help="the circuit; see below")
    circuit.add_argument("--observable", help='what to measure after OpenQASM: "ZZ + 0.5 XI"')
    circuit.add_argument(
        "--params", action="append", default=[], help="values of an argument; see below"
    )
    circuit.add_argument(
        "--device", help="a profile's name or file (default: a QNode's own device, or simulator)"
    )
    circuit.add_argument("--wires", type=_positive, help="replaces the profile's number of wires")
    circuit.add_argument("--shots", type=_positive, help="replaces the profile's shots per circuit")
    circuit.add_argument(
        "--objective",
        choices=("circuits", "shots"),
        help="plan for few circuits, or for few shots at equal precision",
    )
    circuit.add_argument("--seed", type=int, help="makes the samples of finite shots reproducible")
    common = {"parents": [circuit], "epilog": _EPILOG}

    plan = command("plan", _plan, "say what derivatives cost, without running anything", **common)
    plan.add_argument("--order", type=_order, default=1, help="the highest order (default: 1)")
    plan.add_argument("--json", action="store_true", help="print JSON instead of a table")

    evaluate = command("evaluate", _evaluate, "evaluate a circuit and its derivatives", **common)
    evaluate.add_argument("--order", type=_order, default=1, help="the highest order (default: 1)")
    evaluate.add_argument(
        "--json", type=_file_or_stdout, metavar="OUT", help="write JSON; - prints it"
    )
    evaluate.add_argument("--npz", type=_file, metavar="OUT", help="write NumPy arrays")

    minimize = command("minimize", _minimize, "minimize an expectation value", **common)
    minimize.add_argument("--optimizer", choices=OPTIMIZERS, default="newton")
    minimize.add_argument("--steps", type=_order, default=100, help="at most (default: 100)")
    minimize.add_argument(
        "--learning-rate", type=float, help="default: 1 for Newton's methods, 0.1 for the others"
    )
    minimize.add_argument(
        "--damping", type=float, default=0.0, help="added to the Hessian's diagonal (default: 0)"
    )
    minimize.add_argument(
        "--tolerance", type=float, default=1e-9, help="of the gradient's norm (default: 1e-9)"
    )
    minimize.add_argument(
        "--checkpoint",
        type=_file,
        metavar="FILE",
        help="written after every step, and gone on from if it exists (default: a file named "
        "after the circuit in the current directory, deleted at the end of the run)",
    )
    minimize.add_argument("--restart", action="store_true", help="start over, not from there")
    minimize.add_argument(
        "--plot", type=_plot, metavar="OUT", help="draw the run: .png, .pdf, .svg"
    )
    minimize.add_argument(
        "--json", type=_file_or_stdout, metavar="OUT", help="write JSON; - prints it"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return int(text)


def _order(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0, 1, 2, ..., got {text!r}")
    return int(text)


def _file(text: str) -> Path:
    """Checks that a file can be written before anything is executed whose result goes there."""
    path = Path(text).expanduser()
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: no such directory, or protected")
    return path


def _file_or_stdout(text: str) -> Path:
    return Path("-") if text == "-" else _file(text)


def _plot(text: str) -> Path:
    from matplotlib.figure import Figure

    path = _file(text)
    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix.lstrip(".") not in formats:
        raise argparse.ArgumentTypeError(
            f"cannot draw {text!r}: expected a name that ends in one of {', '.join(formats)}"
        )
    return path


# The program


@dataclass(frozen=True)
class _Run:
    """A program on a device: a QNode of one vector, which has all arguments flattened into it.

    Attributes:
        program: Where it is from.
        qnode: The QNode.
        device: What its device is called.
        arguments: Name -> value of the function's own arguments.
    """

    program: programs.Program
    qnode: qshift.QNode
    device: str
    arguments: dict[str, np.ndarray]

    @classmethod
    def of(cls, options: argparse.Namespace) -> _Run:
        """Loads what the command line names, and checks it without executing a circuit."""
        # What is quickly seen to be wrong is said before the libraries are loaded.
        if options.device is not None:
            profiles.profile(options.device)
        program = programs.load(options.program, options.observable)
        arguments = program.arguments(options.params)
        with _quiet():
            import tensorflow as tf
        import pennylane as qml

        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        program.check(*map(tf.constant, arguments.values()))
        function, sizes = program.quantum_function, [each.size for each in arguments.values()]

        def packed(x):
            pieces = tf.split(x, sizes) if sizes else []
            shapes = [each.shape for each in arguments.values()]
            return function(*map(tf.reshape, pieces, shapes))

        settings = {name: getattr(options, name) for name in ("shots", "seed", "objective")}
        settings = {name: value for name, value in settings.items() if value is not None}
        is_qnode = isinstance(program.function, qml.QNode)
        if is_qnode and options.device is None:
            device = program.function.device.name
            if options.wires is not None:
                raise CommandError(f"{program.name} has its own device; give --device with --wires")
        else:
            device = options.device or "simulator"
            replaced = {"wires": options.wires, "shots": options.shots}
            replaced = {name: value for name, value in replaced.items() if value is not None}
            settings["device"] = built = qshift.device(device, **replaced)
            settings["shots"] = built.qshift_shots
        if is_qnode:
            qnode = qshift.from_qnode(program.function).update(func=packed, **settings)
        else:
            qnode = qshift.qnode(**settings)(packed)
        return cls(program, qnode, device, arguments)

    @property
    def x(self) -> np.ndarray:
        """The vector's value, float64[P]."""
        return np.concatenate([np.ravel(a) for a in self.arguments.values()] or [np.empty(0)])

    @property
    def labels(self) -> list[str]:
        """Names of the vector's entries: ``a``, ``x[0]``, ``x[1]``, ..."""
        if self.program.parameters is not None:
            return list(self.program.parameters)
        return [
            name + (f"[{','.join(map(str, index))}]" if index else "")
            for name, value in self.arguments.items()
            for index in np.ndindex(value.shape)
        ]

    def blocks(self, derivative: np.ndarray, order: int) -> dict[tuple[str, ...], np.ndarray]:
        """Takes a derivative by the vector apart into derivatives by the arguments.

        Args:
            derivative: float64[..., P, P, ...], of the given order.
            order: The order.

        Returns:
            Argument names, one per order -> float64[..., *shape, *shape, ...].
        """
        ends = np.cumsum([value.size for value in self.arguments.values()], dtype=int)
        slices = dict(zip(self.arguments, map(slice, [0, *ends[:-1]], ends), strict=True))
        shape = derivative.shape[: derivative.ndim - order]
        return {
            names: derivative[(..., *(slices[name] for name in names))].reshape(
                shape + sum((self.arguments[name].shape for name in names), ())
            )
            for names in product(self.arguments, repeat=order)
        }

    def nested(self, derivative: np.ndarray, order: int) -> list | float:
        """Returns the blocks as nested lists, in the structure of `qshift.derivatives`."""
        blocks = self.blocks(derivative, order)

        def build(names: tuple[str, ...]):
            if len(names) == order:
                return blocks[names].tolist()
            return [build((*names, name)) for name in self.arguments]

        return next(iter(blocks.values())).tolist() if len(blocks) == 1 else build(())

    def about(self) -> dict[str, Any]:
        """What every JSON output begins with."""
        return {
            "program": self.program.name,
            "device": self.device,
            "shots": self.qnode.shots.total_shots,
            "arguments": {name: value.tolist() for name, value in self.arguments.items()},
        }

    def title(self) -> str:
        """What every table is called."""
        shots = self.qnode.shots.total_shots
        return f"{self.program.name} on {self.device}" + (f", {shots} shots" if shots else "")


def _console() -> Console:
    from rich.console import Console

    # Where nobody is watching, rich takes 80 columns, and tables would lose their ends.
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    return Console(width=wide, highlight=False)


def _write_json(content: Any, out: Path) -> None:
    text = json.dumps(content, indent=2)
    if str(out) == "-":
        print(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")


# The commands


def _devices(options: argparse.Namespace) -> int:
    from rich.table import Table

    table = Table(title="Device profiles")
    for column in ("name", "description", "device", "shots", "file"):
        table.add_column(column, overflow="fold")
    content, status = [], 0
    for file in profiles.profile_files().values():
        try:
            profile = profiles.read(file)
        except profiles.ProfileError as error:  # The others are still of use.
            print(f"qshift: error: {error}", file=sys.stderr)
            status = 2
            continue
        content.append(vars(profile) | {"file": str(file)})
        shots = "exact" if profile.shots is None else str(profile.shots)
        table.add_row(profile.name, profile.description, profile.device, shots, str(file))
    if options.json:
        _write_json(content, Path("-"))
    else:
        _console().print(table)
    return status


def _plan(options: argparse.Namespace) -> int:
    run = _Run.of(options)
    plan = run.qnode.plan(run.x, order=options.order)
    if options.json:
        _write_json(run.about() | {"plan": plan.to_dict()}, Path("-"))
    else:
        _console().print(run.title(), plan, sep="\n")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    run = _Run.of(options)
    import tensorflow as tf

    if options.order and not run.x.size:
        raise CommandError(f"{run.program.name} has no parameters; give --order 0")
    shapes: list[tuple[int, ...]] = []

    def values(x):
        results = tf.nest.flatten(run.qnode(x))
        shapes[:] = [tuple(result.shape) for result in results]
        return tf.concat([tf.reshape(result, [-1]) for result in results], axis=0)

    with qshift.Tracker() as tracker:
        found = qshift.derivatives(values, tf.constant(run.x), order=options.order)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    # By measurement, then by order.
    measured = [
        [part.reshape(shape + part.shape[1:]) for part in parts]
        for shape, parts in zip(
            shapes, zip(*(np.split(d.numpy(), ends) for d in found), strict=True), strict=True
        )
    ]
    if options.json:
        nested = [[run.nested(d, k) for k, d in enumerate(each)] for each in measured]
        # As if qshift.derivatives returned the measurements' tuple at every order.
        by_order = [list(each) for each in zip(*nested, strict=True)]
        content = {"derivatives": nested[0] if len(nested) == 1 else by_order}
        _write_json(run.about() | content | {"executed": tracker.totals}, options.json)
    if options.npz:
        arrays = {}
        for m, each in enumerate(measured):
            for k, derivative in enumerate(each):
                for names, block in run.blocks(derivative, k).items():
                    words = [f"order{k}"] + [f"m{m}"] * (len(measured) > 1)
                    words += names * (len(run.arguments) > 1)
                    arrays["_".join(words)] = block
        with options.npz.open("wb") as file:
            np.savez(file, **arrays)
    if str(options.json) != "-":
        for m, each in enumerate(measured):
            caption = f"{tracker.totals['circuits']} circuits executed"
            number = f", measurement {m}" if len(measured) > 1 else ""
            _console().print(_table(run, each, f"{run.title()}{number}", caption))
        for out in filter(None, (options.json, options.npz)):
            print(f"Written: {out}")
    return 0


def _table(run: _Run, derivatives: Sequence[np.ndarray], title: str, caption: str):
    """Returns a table of the distinct partial derivatives, the first ones if they are many."""
    from rich.table import Table

    table = Table(title=title, caption=caption, min_width=50)
    table.add_column("order", justify="right")
    table.add_column("by", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    for order, derivative in enumerate(derivatives):
        rows = list(islice(combinations_with_replacement(range(run.x.size), order), _MOST_ROWS + 1))
        for index in rows[:_MOST_ROWS]:
            value = np.array2string(derivative[(..., *index)], precision=10, floatmode="maxprec")
            table.add_row(str(order), " ".join(run.labels[i] for i in index), value)
        if len(rows) > _MOST_ROWS:
            table.add_row("", "...", "all of them: --json or --npz")
        table.add_section()
    return table


def _minimize(options: argparse.Namespace) -> int:
    run = _Run.of(options)
    named = re.sub(r"\W+", "-", run.program.name)
    checkpoint = options.checkpoint or Path(f"{named}.checkpoint.json")
    if options.restart:
        checkpoint.unlink(missing_ok=True)
    elif checkpoint.exists():
        print(f"Going on from {checkpoint}", file=sys.stderr)
    try:
        result = minimize(
            run.qnode,
            run.x,
            options.optimizer,
            steps=options.steps,
            learning_rate=options.learning_rate,
            damping=options.damping,
            tolerance=options.tolerance,
            checkpoint=checkpoint,
        )
    except BaseException as error:
        # TensorFlow reports an interruption of Python code that it runs as an error of its own.
        if "KeyboardInterrupt" not in repr(error):
            raise
        print(
            f"qshift: interrupted; the run so far is in {checkpoint}. Give the same command again "
            "to go on from there",
            file=sys.stderr,
        )
        return 130
    if options.checkpoint is None:
        checkpoint.unlink()
    if options.plot:
        result.plot(options.plot)
    if options.json:
        history = {name: values.tolist() for name, values in vars(result.history).items()}
        _write_json(
            run.about()
            | {name: getattr(result, name) for name in ("optimizer", "value", "gradient_norm")}
            | {"x": run.nested(result.x, 1), "converged": result.converged}
            | {"steps": result.steps, "circuits": result.circuits, "message": result.message}
            | {"history": history},
            options.json,
        )
    if str(options.json) != "-":
        _console().print(_summary(run, result))
        for out in filter(None, (options.plot, options.json)):
            print(f"Written: {out}")
    return 0


def _summary(run: _Run, result: Result):
    """Returns a table of where a minimisation ended."""
    from rich.table import Table

    title = f"{run.title()}, {result.optimizer}"
    table = Table(title=title, caption=result.message, show_header=False, min_width=60)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("value", f"{result.value:.10f}")
    table.add_row("gradient norm", f"{result.gradient_norm:.3g}")
    table.add_row("steps", str(result.steps))
    table.add_row("circuits executed", f"{result.circuits:,}")
    table.add_section()
    for label, value in list(zip(run.labels, result.x, strict=True))[:_MOST_ROWS]:
        table.add_row(label, f"{value:.10f}")
    if len(run.labels) > _MOST_ROWS:
        table.add_row("...", "all of them: --json")
    return table
