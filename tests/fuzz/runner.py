"""Runs one case in this process, and says how it went."""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import linecache
import logging
import re
import traceback
import warnings
from dataclasses import dataclass

import numpy as np
import pennylane as qml
import tensorflow as tf

import qshift
from fuzz.case import Case
from fuzz.compare import first_difference
from fuzz.modes import MODES
from fuzz.script import body, tolerance

_numbers = itertools.count()

# Errors that say what is not supported: qshift's own, and those of PennyLane's devices.
REFUSALS = (
    qshift.QShiftError,
    qml.exceptions.DeviceError,
    qml.exceptions.WireError,
    qml.exceptions.DecompositionUndefinedError,  # by transforms of PennyLane
)


@dataclass
class Outcome:
    """How a case went.

    Attributes:
        kind: "right", "refused", "impossible" (TensorFlow cannot do it with a classical function,
            or PennyLane without qshift, either), or a failure: "wrong", "none", "nan", "shape",
            "crash", "hang".
        message: What is wrong, or what was raised.
        where: The innermost line of qshift's code that an error passed through.
    """

    kind: str
    message: str = ""
    where: str = ""

    @property
    def failed(self) -> bool:
        return self.kind not in ("right", "refused", "impossible")


def run(case: Case) -> Outcome:
    """Runs a case and compares its results with the reference."""
    outcome = _run(case)
    if outcome.failed:
        control = MODES[case.mode].control(case)
        if control is not None and _run(control).failed:
            return Outcome("impossible", outcome.message, outcome.where)
    return outcome


def _run(case: Case) -> Outcome:
    expected = MODES[case.mode].expected(case)
    try:
        found = execute(body(case))
    except Exception as error:
        return _raised(error, "on top" in case.how)
    complaint = first_difference(found, expected, tolerance(case))
    if complaint is None:
        return Outcome("right")
    return Outcome(complaint.split()[0].lower(), complaint)


def execute(code: str) -> list:
    """Runs the ``run()`` of a script. AutoGraph finds the code as if it were in a file."""
    file = f"<fuzz {next(_numbers)}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    try:
        namespace = {"__name__": "fuzz_case"}
        with quiet():
            exec(compile(code, file, "exec"), namespace)
            return [_numeric(result) for result in namespace["run"]()]
    finally:
        linecache.cache.pop(file, None)


def _numeric(result):
    name, value, *error = result
    return name, value if value is None else np.array(value), *error


@contextlib.contextmanager
def quiet():
    """Keeps warnings of TensorFlow and PennyLane off the screen."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _raised(error: Exception, is_transformed: bool) -> Outcome:
    if isinstance(error, SyntaxError | NameError):
        raise error  # a mistake of the fuzzer's
    text = f"{type(error).__name__}: {error}"
    trace = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in trace if "/qshift/" in frame.filename]
    where = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].name}" if frames else ""
    names = "|".join(
        ["UnsupportedError", "NoShiftRuleError", *(kind.__name__ for kind in REFUSALS)]
    )
    if is_transformed and "/pennylane/transforms/" in trace[-1].filename:
        return Outcome("impossible", text, where)  # the transform of PennyLane itself
    mixed = any("/qubit_mixed/" in frame.filename for frame in trace)
    if mixed and isinstance(error, qml.exceptions.MatrixUndefinedError):
        return Outcome(
            "impossible", text, where
        )  # by default.mixed, of basis states amid a circuit
    if isinstance(error, NotImplementedError) and "recompute_grad tried to transpose" in text:
        return Outcome("impossible", text, where)  # TensorFlow differentiates those once
    refused = isinstance(error, REFUSALS) or re.search(rf"\b({names})\b", text)
    return Outcome("refused" if refused else "crash", text, where)


def tidy() -> None:
    """Frees what cases left behind: graphs are cycles."""
    gc.collect()


def summary(message: str) -> str:
    """Returns the line of a message that says what is wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    start = re.compile(r"(\w+\.)*\w*(Error|Exception)\w*: ")
    lines = [start.sub("", line) if "Exception encountered" in line else line for line in lines]
    named = [line for line in lines if start.match(line)]
    told = [line for line in lines if re.match("\x1b\\[1m", line)]  # by Keras, in bold
    return (named or told or lines)[-1]


def without_numbers(message: str, length: int = 150) -> str:
    """Returns the kind of a message: its summary without numbers and names of tensors."""
    line = re.sub(r"<fuzz \d+>|0x[0-9a-f]+|[('][\w/]*:\d+[)']", "", summary(message))
    return re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "N", line)[:length]
