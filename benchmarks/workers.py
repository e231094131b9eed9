"""Processes that measure, one per peer, and the order in which they take turns."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np
from cases import Case

_HERE = pathlib.Path(__file__).parent
_LIBRARY = _HERE.parent


class AbsentError(Exception):
    """A peer is not installed."""


class Worker:
    """A peer in a process of its own (`peers.serving` describes what is said).

    Args:
        peer: Name of its module in `peers`, without ``with_``.
        python: The interpreter of its environment.

    Raises:
        AbsentError: If it does not start.
    """

    def __init__(self, peer: str, python: str):
        self.peer = peer
        self._log = tempfile.TemporaryFile("w+")
        paths = [str(_LIBRARY), os.environ.get("PYTHONPATH", "")]
        try:
            self._process = subprocess.Popen(
                [python, "-m", f"peers.with_{peer}"],
                cwd=_HERE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        except OSError as error:
            raise AbsentError(f"{python}: {error.strerror}") from error
        try:
            self.versions: dict[str, str] = self._answer()
        except RuntimeError as error:
            raise AbsentError(str(error)) from error

    def ask(self, **request) -> dict:
        """Sends a request and waits for the answer.

        Raises:
            RuntimeError: If it fails.
        """
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            last = self._log.read().strip().splitlines()[-1:]
            raise RuntimeError(" ".join(last) or "it ended")
        return json.loads(line)

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


class Workers:
    """Starts workers when they are first needed.

    Args:
        pythons: Interpreter of each peer to measure; None if no interpreter was named for it.
    """

    def __init__(self, pythons: dict[str, str | None]):
        self._pythons = pythons
        self._workers: dict[str, Worker] = {}
        self.absent: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}

    def get(self, peer: str) -> Worker | None:
        """Returns a peer's worker; None if it is absent."""
        if peer in self._pythons and peer not in {*self._workers, *self.absent}:
            try:
                if self._pythons[peer] is None:
                    raise AbsentError("no interpreter named")
                self._workers[peer] = Worker(peer, self._pythons[peer])
                self.versions[peer] = self._workers[peer].versions
            except AbsentError as error:
                self.absent[peer] = str(error)
        return self._workers.get(peer)

    def forget(self):
        """Has all forget their jobs."""
        for worker in self._workers.values():
            worker.ask(forget=True)

    def close(self):
        """Ends all."""
        for worker in self._workers.values():
            worker.close()


def measure(case: Case, workers: Workers, rounds: int, seconds: float, say) -> dict[str, dict]:
    """Measures a case's contenders in turns, after checking that they agree.

    Args:
        case: The case.
        workers: Who measures.
        rounds: How many turns each contender has.
        seconds: How long a turn takes, at least.
        say: Called with what is being done.

    Returns:
        For each contender that is not absent its seconds: `first` (the first call, with all that
        is compiled), `rounds` (the median of each turn), `median` (of these) and `fastest` (of all
        calls); and `circuits`.
    """
    found: dict[str, dict] = {}
    turns: list[tuple[str, Worker, int]] = []
    results: dict[str, list] = {}
    workers.forget()
    for contender in case.contenders:
        label, worker = contender.label, workers.get(contender.peer)
        if worker is None:
            continue
        say(f"{case.name}: {label}, first call")
        try:
            answer = worker.ask(prepare={**case.spec, **contender.spec, "method": contender.method})
        except RuntimeError as error:
            found[label] = {"error": str(error)}
            continue
        results[label], job = answer.pop("results"), answer.pop("job")
        found[label] = {**answer, "rounds": []}
        if contender.once:
            found[label].update(rounds=[answer["first"]], fastest=answer["first"])
        else:
            turns.append((label, worker, job))
    _compare(case, results)
    for i in range(rounds):
        for label, worker, job in turns:
            say(f"{case.name}: {label}, turn {i + 1} of {rounds}")
            answer = worker.ask(time=seconds, job=job)
            times = found[label]
            times["rounds"].append(statistics.median(answer["seconds"]))
            times["fastest"] = min([times.get("fastest", np.inf), *answer["seconds"]])
    for times in found.values():
        if times.get("rounds"):
            times["median"] = statistics.median(times["rounds"])
    return found


def _compare(case, results):
    """Asserts that all found the same; with shots, as far as this can be expected."""
    by_circuit: dict[str, dict[str, list]] = {}
    specs = {contender.label: contender.spec.get("circuit") for contender in case.contenders}
    for label, arrays in results.items():
        by_circuit.setdefault(str(specs[label]), {})[label] = arrays
    for found in by_circuit.values():
        best, reference = max(found.items(), key=lambda item: len(item[1]))
        for label, arrays in found.items():
            # Some give the last derivative only.
            for ours, theirs in zip(reversed(arrays), reversed(reference), strict=False):
                difference = np.subtract(ours, theirs)
                error = np.abs(difference).max()
                if "shots" in case.spec:
                    error = np.sqrt(np.mean(difference**2))
                if not error <= case.tolerance:
                    raise AssertionError(f"{case.name}: {label} and {best} differ by {error:.2g}")
