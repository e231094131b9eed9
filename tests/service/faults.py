"""What can go wrong on the way to a service, and on it, switched on at will."""

from __future__ import annotations

import json
import random
import re
import threading
from dataclasses import asdict, dataclass

# Faults of a job, once it runs; all others are of requests.
JOBS = ("fail", "cancel", "short", "double", "few")

# What comes with the status 200, in place of the service's answer: (kind, content). Of "cut" the
# content is the first half of the answer.
BODIES = {
    "html": ("text/html", "<!doctype html><html><title>Sign in</title><form>token</form></html>"),
    "empty": ("application/json", ""),
    "cut": ("application/json", None),
    "other": ("application/json", '{"hello": "world"}'),
    "list": ("application/json", "[]"),
    "null": ("application/json", "null"),
}


@dataclass
class Fault:
    """A rule for which requests or jobs go wrong.

    Attributes:
        kind: Of a request: ``"reset"`` (the connection breaks), ``"timeout"`` (no answer comes),
            ``"slow"`` (all is well, but takes long), an HTTP status such as ``"429"`` or ``"503"``,
            one of `BODIES`, or both, as of a proxy: ``"404-html"``. Of a job: ``"fail"``,
            ``"cancel"``, ``"short"`` (one result too few), ``"double"`` (each result twice), or
            ``"few"`` (half of the shots).
        after: Whether the request has its effect all the same, and only its answer is lost.
        match: A regular expression that is searched for in ``"METHOD /path"``, such as
            ``"POST /jobs$"``; of a job, in its tags.
        times: How often it happens; None for always.
        rate: How likely it is.
        seconds: The Retry-After of a status, or how long a timeout, or a slow answer, takes.
        late: Seconds after the request by which a job that it creates can be seen.
        unseen: How many answers to searches lack such a job, however late they come. A client
            searches once in each instance, and asks twice in its own.
    """

    kind: str
    after: bool = False
    match: str = ""
    times: int | None = None
    rate: float = 1.0
    seconds: float | None = None
    late: float = 0.0
    unseen: int = 0


class Faults:
    """The faults that are switched on.

    Args:
        seed: Of the faults that are random.
    """

    def __init__(self, seed: int):
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._rules: list[Fault] = []

    def set(self, rules) -> None:
        """Replaces the faults by others, given as dictionaries."""
        with self._lock:
            self._rules = [Fault(**rule) for rule in rules]

    def list(self) -> list[dict]:
        """Returns the faults as dictionaries, with the times that they will still happen."""
        with self._lock:
            return [asdict(rule) for rule in self._rules]

    def of_request(self, text: str) -> Fault | None:
        """Returns what goes wrong with a request, given as ``"METHOD /path"``."""
        return self._pick(text, lambda kind: kind not in JOBS)

    def of_job(self, tags) -> Fault | None:
        """Returns what goes wrong with a job."""
        return self._pick("\n".join(tags), lambda kind: kind in JOBS)

    def _pick(self, text, wanted):
        with self._lock:
            for rule in self._rules:
                if wanted(rule.kind) and rule.times != 0 and re.search(rule.match, text):
                    if self._random.random() < rule.rate:
                        if rule.times is not None:
                            rule.times -= 1
                        return rule
        return None


def parse(text: str) -> list[dict]:
    """Reads faults from a command line.

    Args:
        text: JSON, a list of dictionaries; or rates such as ``"reset:0.1,500-after:0.05"``.
    """
    if text.lstrip().startswith("["):
        return json.loads(text)
    rules = []
    for part in filter(None, text.split(",")):
        kind, _, rate = part.partition(":")
        after = kind.endswith("-after")
        rules.append(
            {"kind": kind.removesuffix("-after"), "after": after, "rate": float(rate or 1)}
        )
    return rules
