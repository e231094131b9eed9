"""The command line: ``qshift devices``, ``plan``, ``evaluate``, ``minimize``, ``jobs``, ``doctor``.

TensorFlow, PennyLane and Qiskit take seconds to import, so that only the commands that need them
import them, in their bodies.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qshift
from qshift.cli import commands, doctor, jobs
from qshift.errors import MissingExtraError, OptionError, QShiftError
from qshift.executors.workers import given as workers_given
from qshift.extras import require
from qshift.optimize.optimizers import OPTIMIZERS

_EPILOG = """\
FILE:FUNCTION is a Python file and a function in it that queues gates and returns
PennyLane measurements, or a QNode. FILE alone is an OpenQASM 2 or 3 file; what to
measure is then --observable. Its parameters are OpenQASM 3's inputs, or all angles
written in an OpenQASM 2 file, which are also their default values.

--params 0.1,0.2 is a vector, --params 0.1 a number, --params FILE a .json, .npy or
.npz file; give it once per argument of the function. One vector for several
arguments is dealt out to them.
"""

_JOBS = """\
actions:
  list     all jobs, and what services say of those without results (the default)
  fetch    store the results of jobs that are done, without waiting for others
  cancel   cancel jobs, by their numbers
  export   write stored results to --npz OUT or --json OUT
  prune    delete failed and cancelled jobs, or those that are named
"""


_BROKEN_PIPE = 141  # as shells say it of a program that SIGPIPE has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: What follows ``qshift``; None stands for ``sys.argv[1:]``.

    Returns:
        The exit status: 0, 1 if a minimisation ended at a stationary point that is not known to be
        a minimum or if `doctor` finds something that does not work, 2 for an error of the caller's,
        130 for an interruption, 141 if what reads the output has ended.
    """
    options = parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same digits on every processor
    try:
        with _named_run(getattr(options, "run", None), getattr(options, "fresh", False)):
            status = options.carry_out(options)
            sys.stdout.flush()  # so that a pipe that was closed is noticed here
            return status
    except KeyboardInterrupt as interruption:  # its arguments say what has become of jobs
        print(f"qshift: interrupted. {interruption}".rstrip(". "), file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `qshift devices | head`: who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:
        if options.traceback or not _is_callers(error):
            raise
        print(f"qshift: error: {error}", file=sys.stderr)
        return 2


def _is_callers(error: Exception) -> bool:
    """Whether an error is about the user's input, and not a defect of qshift."""
    libraries = ("pennylane", "qiskit")
    return isinstance(error, QShiftError | ValueError | NotImplementedError | OSError) or type(
        error
    ).__module__.startswith(libraries)


def _joined(arguments: Sequence[str]) -> list[str]:
    """Joins ``--params -0.1,0.2`` to one word, as argparse takes ``-0.1,0.2`` for an option."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] in ("--params", "--observable") and word.startswith("-"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class _Intermixed(argparse.ArgumentParser):
    """A parser that takes positional arguments anywhere among options; argparse's own support for
    that does not work with commands."""

    _is_within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._is_within:
            return super().parse_known_args(args, namespace)
        self._is_within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_within = False


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qshift",
        description="Quantum circuits and their exact derivatives of every order.",
    )
    parser.add_argument("--version", action="version", version=f"qshift {qshift.__version__}")
    subparsers = parser.add_subparsers(
        required=True, metavar="COMMAND", title="commands", parser_class=_Intermixed
    )

    def command(name: str, run: Callable, summary: str, **kwargs: Any) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )
        added.add_argument("--json", type=_out, metavar="OUT", help="write JSON; - prints it")
        added.add_argument("--traceback", action="store_true", help="show where an error arose")
        added.set_defaults(carry_out=run)
        return added

    command("devices", commands.devices, "list the device profiles")

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
        "--workers",
        type=_workers,
        metavar="WORKERS",
        help="what runs parts of batches: a number of processes, dask, or tcp://HOST:PORT",
    )
    circuit.add_argument(
        "--objective",
        choices=("circuits", "shots", "seconds"),
        help="plan for few circuits, or for few shots or QPU seconds at equal precision",
    )
    circuit.add_argument("--seed", type=_number, help="repeats the samples of finite shots")
    circuit.add_argument(
        "--run",
        metavar="NAME",
        help="name of the run: results that the ledger has are read within a run only",
    )
    circuit.add_argument("--fresh", action="store_true", help="a run with a new name")
    common = {"parents": [circuit], "epilog": _EPILOG}

    plan = command("plan", commands.plan, "say what derivatives cost, running nothing", **common)
    plan.add_argument("--order", type=_number, default=1, help="the highest order (default: 1)")

    evaluate = command(
        "evaluate", commands.evaluate, "evaluate a circuit and its derivatives", **common
    )
    evaluate.add_argument("--order", type=_number, default=1, help="the highest order (default: 1)")
    evaluate.add_argument("--npz", type=_file, metavar="OUT", help="write NumPy arrays")

    minimize = command("minimize", commands.minimize, "minimize an expectation value", **common)
    minimize.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default="saddle-free-newton",
        help="(default: saddle-free-newton, which descends; newton goes to maxima as well)",
    )
    minimize.add_argument("--steps", type=_number, default=100, help="at most (default: 100)")
    minimize.add_argument(
        "--learning-rate",
        type=float,
        help="(default: 1 for Newton's methods, 0.3 for shot-frugal, 0.1 for the others)",
    )
    minimize.add_argument(
        "--damping", type=float, default=0.0, help="added to the Hessian's diagonal (default: 0)"
    )
    minimize.add_argument(
        "--tolerance",
        type=float,
        help="of the gradient's norm (default: 1e-9, with shots about the gradient's error)",
    )
    minimize.add_argument(
        "--checkpoint",
        type=_file,
        metavar="FILE",
        help="written after every step, and gone on from if it exists (default: a file named "
        "after the circuit in the current directory, deleted at the end of the run)",
    )
    minimize.add_argument("--plot", type=_plot, metavar="OUT", help="draw it: .png, .pdf, .svg")

    recorded = command("jobs", jobs.jobs, "list, fetch and cancel recorded jobs", epilog=_JOBS)
    recorded.add_argument("action", nargs="?", choices=jobs.ACTIONS, default="list")
    recorded.add_argument("jobs", nargs="*", type=_number, metavar="JOB", help="(default: all)")
    recorded.add_argument(
        "--ledger", type=_ledger, metavar="FILE", help="(default: $QSHIFT_LEDGER)"
    )
    recorded.add_argument("--run", dest="run_name", metavar="NAME", help="jobs of this run")
    recorded.add_argument("--all", action="store_true", help="list more than the latest")
    recorded.add_argument("--offline", action="store_true", help="list without asking services")
    recorded.add_argument("--npz", type=_file, metavar="OUT", help="export NumPy arrays to it")
    recorded.add_argument(
        "--older", type=_number, metavar="DAYS", help="prune results that are older as well"
    )
    recorded.add_argument("--yes", action="store_true", help="prune without asking")
    command("doctor", doctor.doctor, "say what is installed and what works, for bug reports")
    return parser


@contextmanager
def _named_run(name: str | None, fresh: bool) -> Iterator[None]:
    """A context in which new devices use the name of a run."""
    if fresh:
        made = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        name = made if name is None else f"{name}-{made}"
        print(f"Run {name}; go on with it by --run {name}", file=sys.stderr)
    before = os.environ.get("QSHIFT_RUN")
    if name is not None:
        os.environ["QSHIFT_RUN"] = name
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("QSHIFT_RUN", None)
        else:
            os.environ["QSHIFT_RUN"] = before


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0, 1, 2, ..., got {text!r}")
    return int(text)


def _workers(text: str) -> int | str:
    try:
        return workers_given.checked(int(text) if text.isdecimal() else text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(error.reason) from error


def _positive(text: str) -> int:
    try:
        number = float(text.replace(",", ""))  # also 1e3 and 1,000
    except ValueError:
        number = 0.0
    if not number.is_integer() or number < 1:
        raise argparse.ArgumentTypeError(
            f"expected a positive number such as 1000 or 1e3, got {text!r}"
        )
    return int(number)


def _file(text: str) -> Path:
    """Returns the path of a file for results, after checking that it can be written, so that this
    does not fail after circuits have run."""
    path = Path(text).expanduser()
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: no such directory, or protected")
    return path


def _ledger(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("expected a file, got ''")
    return Path(text)


def _out(text: str) -> Path:
    return Path("-") if text == "-" else _file(text)


def _plot(text: str) -> Path:
    try:
        require("plot", "--plot")
    except MissingExtraError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    from matplotlib.figure import Figure  # Late: importing it takes long.

    path = _file(text)
    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix.lstrip(".") not in formats:
        raise argparse.ArgumentTypeError(
            f"cannot draw {text!r}: expected a name that ends in one of {', '.join(formats)}"
        )
    return path
