"""Many cases, in a process that is started again when it dies, hangs or grows."""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field

# Seconds for one case; after that its process is ended, with a traceback of all threads. Third
# derivatives on devices that know no batches take minutes.
LIMIT = 400
MOST_MEMORY = 3_000  # MiB, after which a process is replaced
SAME = 2  # scripts for one kind of failure


@dataclass
class Record:
    """What is kept of one case."""

    seed: int
    mode: str
    kind: str
    group: str = ""
    message: str = ""
    script: str = ""
    counts: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0


# --- the process that runs cases ---


def work(first: int, deadline: float, only: list[str], shrinking: float) -> None:
    """Runs the cases of all seeds from one on, and writes a line of JSON about each."""
    from fuzz import runner
    from fuzz.draw import draw
    from fuzz.report import counted, group
    from fuzz.script import script
    from fuzz.shrink import shrink

    out, seen = os.fdopen(os.dup(1), "w"), collections.Counter()
    os.dup2(2, 1)  # what libraries print is no line of ours
    for seed in range(first, sys.maxsize):
        if time.time() > deadline:
            return
        print(json.dumps({"seed": seed}), file=out, flush=True)
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        start = time.monotonic()
        case = draw(seed, *only)
        outcome = runner.run(case)
        seconds = time.monotonic() - start
        record = Record(seed, case.mode, outcome.kind, counts=counted(case), seconds=seconds)
        record.message = runner.summary(outcome.message)
        record.group = group(case, outcome)
        if outcome.failed and outcome.kind != "hang":
            seen[record.group] += 1
            if seen[record.group] <= SAME and shrinking:
                faulthandler.dump_traceback_later(LIMIT + 2 * shrinking, exit=True)
                case, outcome = shrink(case, outcome, shrinking)
                record.group = group(case, outcome)
                record.message = runner.summary(outcome.message)
        if outcome.failed:
            record.script = script(case, f"Seed {seed}. {record.message[:400]}")
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(asdict(record)), file=out, flush=True)
        if seed % 20 == 0:
            runner.tidy()
        if outcome.kind == "hang" or _memory() > MOST_MEMORY:
            os._exit(0)  # threads that hang would keep it


def _memory() -> float:
    """MiB that this process has."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- the process that watches it ---


def records(seed: int, seconds: float, only: list[str], shrinking: float):
    """Yields a record of every case until time is up."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        command = [sys.executable, "-m", "fuzz", "--work", str(seed), str(deadline)]
        command += ["--shrink", str(shrinking)] + (["--only", *only] if only else [])
        with (
            tempfile.TemporaryFile() as errors,  # a pipe could be full
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
        ):
            running, start = None, 0
            for line in process.stdout:
                said = json.loads(line)
                start = os.fstat(errors.fileno()).st_size
                if set(said) == {"seed"}:
                    running, seed = said["seed"], said["seed"] + 1
                else:
                    running = None
                    yield Record(**said)
            process.wait()
            errors.seek(start)
            told = errors.read().decode(errors="replace")
        if running is not None:  # it died
            hangs = "Timeout (" in told
            kind, group = ("hang", "hang") if hangs else ("died", f"died with {process.returncode}")
            if hangs and "fuzz/reference.py" in told:
                kind, group = "impossible", "the reference takes too long"
            yield Record(running, "?", kind, group, told[-4000:])


def main(arguments=None) -> int:
    """Fuzzes for some minutes and prints what was found; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="fuzz", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--seed", type=int, default=None, help="where to start; random if not given"
    )
    parser.add_argument("--only", nargs="+", default=[], help="these modes only")
    parser.add_argument("--shrink", type=float, default=40.0, help="seconds for making one smaller")
    parser.add_argument("--out", default="out/fuzz", help="where the scripts go")
    parser.add_argument("--work", nargs=2, metavar=("SEED", "UNTIL"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        work(int(given.work[0]), float(given.work[1]), given.only, given.shrink)
        return 0
    from fuzz.report import Report

    seed = given.seed if given.seed is not None else time.time_ns() % 10**9
    print(f"seeds from {seed} on", flush=True)
    report = Report(pathlib.Path(given.out), SAME)
    for record in records(seed, 60 * given.minutes, given.only, given.shrink):
        report.add(record)
    print(report.summary())
    return 1 if report.failures else 0
