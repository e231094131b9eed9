"""``qshift jobs``: the jobs in the ledger, and their states on their services."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from rich.table import Table

from qshift.cli.commands import CommandError, show
from qshift.errors import JobError, QShiftError
from qshift.inputs import shown
from qshift.ledger.ledger import Ledger, default_path
from qshift.ledger.liveness import elapsed
from qshift.ledger.records import Record

_MOST_ROWS = 40
_COUNTING = 7 * 86400.0  # seconds after which a service is not asked any more what a job took
_LONGEST_RUN = 40  # characters of the name of a run in the list
_PLACE = "the ledger is $QSHIFT_LEDGER, or qshift/ledger.sqlite in $XDG_DATA_HOME"
_TEXTS = ("counts", "noise")  # which arrays cannot hold
_PENDING = ("intended", "submitted")
# What is kept of the result of an estimator, row by row.
_ROWS = ("values", "errors", "unmitigated", "unmitigated_errors")
# Columns by which the ledger finds a job's owner; they are of no use to users.
_HIDDEN = tuple("pubs angles owner touched access posts posted instance is_sound".split())


def jobs(options: argparse.Namespace) -> int:
    """Carries out an action on recorded jobs."""
    ledger = Ledger(default_path() if options.ledger is None else options.ledger)
    if options.ledger is not None and not ledger.path.exists():
        raise CommandError(f"there is no ledger {options.ledger}; without --ledger, {_PLACE}")
    _target.cache_clear()
    return _ACTIONS[options.action](options, ledger, _chosen(options, ledger))


def _chosen(options: argparse.Namespace, ledger: Ledger) -> list[Record]:
    """Returns the jobs that the command line names; all jobs if it names none."""
    found = {job.id: job for job in ledger.jobs()}
    for number in options.jobs:
        if number not in found:
            has = f"1 to {max(found)}" if found else "none"
            raise CommandError(f"there is no job {number} in {ledger.path}; it has {has}")
    chosen = [found[number] for number in options.jobs] or list(found.values())
    return [job for job in chosen if options.run_name in (None, job.run)]


def _list(options: argparse.Namespace, ledger: Ledger, chosen: Sequence[Record]) -> int:
    """Lists jobs, with their states on their services if they have no results yet."""
    statuses = {job.id: job.state for job in chosen}
    if not options.offline:
        statuses |= dict(_statuses(job for job in chosen if job.state in _PENDING))
        chosen = [_counted(job, ledger) for job in chosen]
    statuses |= dict.fromkeys(ledger.unsound() & statuses.keys(), "damaged")
    shown = chosen if options.all or options.jobs else chosen[-_MOST_ROWS:]
    table = _table(shown, statuses)
    notes = [f"Ledger: {ledger.path}"]
    if len(shown) < len(chosen):
        notes.append(f"The latest {len(shown)} of {len(chosen)} jobs; all of them: --all")
    if not chosen:
        notes.append(_why_empty(options, ledger))
    used = sum(job.seconds or 0.0 for job in chosen if job.is_sound)
    notes.append(f"QPU seconds used by these jobs: {used:.1f}")
    content = [_about(job) | {"status": statuses[job.id]} for job in chosen]
    show(options, content, table, *notes)
    return 0


def _counted(job: Record, ledger: Ledger) -> Record:
    """Returns a job, with its QPU seconds if the service has counted them since it was fetched."""
    is_counted = job.seconds is not None or job.state != "done" or not job.remote
    if is_counted or not job.is_sound or time.time() - (job.finished or 0.0) > _COUNTING:
        return job
    try:
        seconds = _handle(job, None).usage()
        if seconds is None:
            return job
        ledger.counted(job, seconds)
    except QShiftError:  # the list is worth more than the number of seconds
        return job
    return replace(job, seconds=seconds)


def _why_empty(options: argparse.Namespace, ledger: Ledger) -> str:
    """Returns a sentence that says why there is nothing to list."""
    if options.run_name is not None and ledger.path.exists():
        runs = dict.fromkeys(shown(job.run) for job in ledger.jobs())
        has = f"; there are {', '.join(list(runs)[:10])}" if runs else ""
        return f"No job belongs to a run of the name {options.run_name!r}{has}."
    there = "has no jobs" if ledger.path.exists() else "does not exist yet"
    return (
        f"It {there}. Jobs on hardware are recorded in a ledger, and others if their device was "
        f"made with ledger=True or the path of a file; {_PLACE}."
    )


def _fetch(options: argparse.Namespace, ledger: Ledger, chosen: Sequence[Record]) -> int:
    """Stores the results of jobs that are done; does not wait for the others."""
    told, failures, damaged = {}, [], ledger.unsound()
    for job in (job for job in chosen if job.state in _PENDING or job.id in damaged):
        try:
            told[job.id] = _fetch_one(job, ledger, job.id in damaged)
        except QShiftError as error:  # the other jobs are still fetched
            told[job.id] = getattr(error, "status", "not fetched")
            failures.append(f"job {job.id}: {error}")
    fetched = [job for job in ledger.jobs() if job.id in told]
    content = [_about(job) | {"status": told[job.id]} for job in fetched]
    done = sum(told[job.id] == "done" for job in fetched)
    note = f"Results of {done} of {len(fetched)} jobs that had none were stored in {ledger.path}"
    show(options, content, _table(fetched, told), note)
    _report(failures, "could not be fetched")
    return 0


def _fetch_one(job: Record, ledger: Ledger, is_damaged: bool) -> str:
    """Stores the results of a job, if it is done; returns its state on the service."""
    from qshift.executors.qiskit.batch import unpacked_job
    from qshift.executors.qiskit.pub_results import encoded

    job = ledger.recoverable(job.id) if is_damaged else job
    handle = _handle(job, ledger)
    if handle is None:
        return "not sent"
    try:
        status = handle.status()
        if status not in ("done", "failed", "cancelled"):
            return status
        current: Any = ledger.job(job.id)
        job = current
        parts = unpacked_job(job, handle, handle.result())
    except JobError as error:
        if error.status == "lost":
            ledger.close(job, error.status, error.reason)
            raise
        ledger.close(job, error.status, error.reason, handle.usage())
        return error.status
    flat = (encoded(each) for part in parts for each in part)
    results = dict(zip(job.keys, flat, strict=True))
    ledger.store(job, results, handle.usage(), handle.id)
    return status


def _report(failures: Sequence[str], what: str) -> None:
    """Raises CommandError with all failures."""
    if failures:
        jobs = "1 job" if len(failures) == 1 else f"{len(failures)} jobs"
        raise CommandError("\n  ".join([f"{jobs} {what}:", *failures]))


def _cancel(options: argparse.Namespace, ledger: Ledger, chosen: Sequence[Record]) -> int:
    """Cancels the jobs that the command line names."""
    if not options.jobs:
        raise CommandError("name the jobs to cancel by their numbers; `qshift jobs` lists them")
    for job in chosen:
        if job.state not in _PENDING:
            raise CommandError(
                f"job {job.id} is {job.state} already, so there is nothing to cancel"
            )
    told, failures = {}, []
    for job in chosen:
        try:
            told[job.id] = _cancel_one(job, ledger)
        except QShiftError as error:
            told[job.id] = getattr(error, "status", "not cancelled")
            failures.append(f"job {job.id}: {error}")
    content = [_about(job) | {"status": told[job.id]} for job in chosen]
    show(options, content, _table(chosen, told))
    _report(failures, "could not be cancelled")
    return 0


def _cancel_one(job: Record, ledger: Ledger) -> str:
    """Cancels a job; returns the state it then has."""
    handle = _handle(job, ledger, waits=True)
    usage = None
    if handle is not None:
        try:
            handle.cancel()
            if handle.status() == "done":
                return "done already; `qshift jobs fetch` stores its results"
            usage = handle.usage()
        except JobError as error:
            ledger.close(job, error.status, error.reason)
            return error.status
    ledger.close(job, "cancelled", "by `qshift jobs cancel`", usage)
    return "cancelled"


def _export(options: argparse.Namespace, ledger: Ledger, chosen: Sequence[Record]) -> int:
    """Writes stored results to --npz as arrays, or to --json."""
    if options.npz is None and options.json is None:
        raise CommandError("say where to: --npz OUT, --json OUT, or --json - to print it")
    done, content, failures = [], [], []
    for job in (job for job in chosen if job.state == "done"):
        try:
            content.append(_about(job) | {"pubs": _pubs(ledger, job)})
            done.append(job)
        except QShiftError as error:  # the other jobs are still written
            failures.append(f"job {job.id}: {error}")
    if options.npz:
        arrays: dict[str, Any] = {
            f"job{job.id}_pub{i}_{name}": json.dumps(array) if name in _TEXTS else np.array(array)
            for job, about in zip(done, content, strict=True)
            for i, pub in enumerate(about["pubs"])
            for name, array in pub.items()
        }
        listed = json.dumps([_about(job) for job in done])
        with options.npz.open("wb") as file:
            np.savez(file, jobs=listed, **arrays)
    show(options, content, f"{len(done)} jobs with results", written=options.npz)
    _report(failures, "could not be exported")
    return 0


def _prune(options: argparse.Namespace, ledger: Ledger, chosen: Sequence[Record]) -> int:
    """Deletes jobs: those that are named, else failed, cancelled, lost and (--older) old ones."""
    lone = set()
    if not options.jobs:
        lone = ledger.unsound() - {job.id for job in ledger.jobs()}
        chosen = [job for job in chosen if _is_waste(job, options.older)]
    results = sum(job.points for job in chosen if job.state == "done")
    pending = [job.id for job in chosen if job.remote and job.state in _PENDING]
    what = f"{len(chosen)} jobs with {results} results"
    if pending:
        what += f"; jobs {pending} may still be at the service, and their results would be lost"
    if lone:
        what += "; damaged results that belong to no job"
    if (chosen or lone) and not options.yes:
        if not sys.stdin.isatty():
            raise CommandError(f"this would delete {what}. Give --yes to do it")
        print(f"Delete {what}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 0
    ledger.forget(chosen, lone)
    content = {"deleted": [job.id for job in chosen]}
    show(options, content, f"Deleted from {ledger.path}: {what}")
    return 0


_ACTIONS = {"list": _list, "fetch": _fetch, "cancel": _cancel, "export": _export, "prune": _prune}
ACTIONS = tuple(_ACTIONS)


def _is_waste(job: Record, older: float | None) -> bool:
    if job.state in ("failed", "cancelled", "lost") or not job.remote and job.state in _PENDING:
        return True
    if older is None or job.state != "done" or job.finished is None:
        return False
    return time.time() - job.finished > older * 86400


def _about(job: Record) -> dict:
    """Returns a job as plain data."""
    return {name: value for name, value in asdict(job).items() if name not in _HIDDEN}


def _pubs(ledger: Ledger, job: Record) -> list[dict]:
    """Returns the points and results of each PUB of a job."""
    from qshift.executors.qiskit.pub_results import LEARNER, decoded, in_hex, primitives

    pubs: dict[int, list] = {}
    for pub, point, result in ledger.points(job):
        pubs.setdefault(pub, []).append((np.frombuffer(point), result))
    found = []
    for primitive, points in zip(primitives(job.primitive, len(pubs)), pubs.values(), strict=True):
        angles, kept = zip(*points, strict=True)
        measured: Any = [decoded(primitive, each) for each in kept]
        about: dict[str, Any] = {"angles": np.array(angles).tolist()}
        if primitive == LEARNER:
            about["noise"] = list(map(json.loads, measured))
        elif primitive == "sampler":
            about["counts"] = list(map(in_hex, measured))
        else:
            rows = np.moveaxis(np.array(measured), 1, 0).tolist()
            about |= zip(_ROWS, rows, strict=False)
        found.append(about)
    return found


def _handle(job: Record, ledger: Ledger | None, waits: bool = False) -> Any:
    """Returns the job on its service; None if it was not sent.

    Args:
        job: The record of the job.
        ledger: The ledger with this record.
        waits: Whether to wait for a job that may be on its way to the service.
    """
    if not job.remote:
        return None
    target = _target(job.target, job.access)
    if job.job_id is not None:
        doubted = job.tag if job.posts > 1 else None
        return target.job(job.job_id, job.instance, doubted, elapsed(job.posted))
    if not job.posts:
        return None
    from qshift.executors.qiskit import unconfirmed_jobs

    seconds = unconfirmed_jobs.GRACE if waits else 0.0
    found = unconfirmed_jobs.await_arrival(lambda: target.find(job.tag), job.tag, seconds)
    if found is not None and ledger is not None:
        ledger.sent(job, found.id, found.instance)
    return found


@functools.cache  # so that all jobs share one login
def _target(name: str, access: str) -> Any:
    from qshift.executors.qiskit.backends import target  # Late: Qiskit takes a second.

    return target(name, None, {}, least_qubits=1, **json.loads(access))


def _statuses(pending: Iterable[Record]) -> Iterator[tuple[int, str]]:
    """Yields (number, state on the service) of jobs without results."""
    for job in pending:
        if not job.remote:
            yield job.id, "simulated"
            continue
        if job.job_id is None:
            yield job.id, "not sent yet"
            continue
        try:
            handle = _handle(job, None)
            status = handle.status()
            position = handle.queue_position() if status == "queued" else None
        except JobError as error:
            print(f"qshift: job {job.id}: {error}", file=sys.stderr)
            yield job.id, "deleted at the service"
            continue
        except QShiftError as error:
            print(f"qshift: job {job.id}: {error}", file=sys.stderr)
            yield job.id, "unknown"
            continue
        if status == "done":
            yield job.id, "ready to fetch"
        else:
            yield job.id, status if position is None else f"{status}, position {position}"


def _table(listed: Sequence[Record], statuses: Mapping[int, str]) -> Table:
    table = Table()
    for name in ("job", "status", "circuit", "points", "shots", "run", "age", "QPU s", "backend"):
        is_number = name in ("job", "points", "shots", "age", "QPU s")
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for job in listed:
        if not job.is_sound:
            table.add_row(str(job.id), "damaged", *[""] * 7)
            continue
        seconds = "" if job.seconds is None else f"{job.seconds:.1f}"
        status, backend = statuses[job.id], f"{job.target} {job.job_id or ''}".strip()
        if job.message and job.state in ("failed", "lost"):
            status += f": {job.message}"
        shots = f"{job.shots:,}" if job.shots else "exact"
        run = job.run if len(job.run) <= _LONGEST_RUN else f"{job.run[: _LONGEST_RUN - 1]}…"
        cells = (job.circuit, str(job.points), shots, run, _age(job), seconds, backend)
        table.add_row(str(job.id), *map(_printable, (status, *cells)))
    return table


def _printable(text: str) -> str:
    """Returns a text with line breaks and similar characters as escapes; names of runs may have
    them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _age(job: Record) -> str:
    seconds = max(0.0, time.time() - job.created)  # not negative if the clock was set back
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
