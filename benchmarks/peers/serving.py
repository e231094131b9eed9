"""Takes requests as lines of JSON and answers with lines of JSON; needs NumPy only.

    {"prepare": {"circuit": ["ring", 4, 3], "order": 1, "method": "compiled", ...}}
    {"time": 0.2, "job": 0}
    {"forget": true}

The first answers with the first call's seconds (compilation included), its results, the number of
circuits it ran, if known, and the job's number; the second with the seconds of each call until the
given time is up; the third, with all jobs forgotten, with nothing.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from circuits import circuit_of, points


@dataclass
class Job:
    """What a case's contender does.

    Attributes:
        run: From a point to (value, gradient, ...) or the last of these.
        convert: From float64[P] to such a point, which is not timed.
        count: A context manager in which `run` counts its circuits: yields a function that says
            how many.
    """

    run: Callable[[Any], tuple]
    convert: Callable[[np.ndarray], Any] = np.asarray
    count: Callable[[], Any] = lambda: contextlib.nullcontext(lambda: None)


def serve(prepare: Callable[[dict], Job], versions: dict[str, str]) -> None:
    """Answers requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    answer(versions)
    jobs = []
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                answer(_prepared(prepare, request["prepare"], jobs))
            elif "time" in request:
                answer({"seconds": _seconds(*jobs[request["job"]], request["time"])})
            else:
                jobs.clear()
                gc.collect()
                answer({})
        except Exception as error:  # for the table, which goes on without this contender
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})


def _prepared(prepare, spec, jobs) -> dict:
    job = prepare(spec)
    inputs = [job.convert(point) for point in points(circuit_of(spec).parameters)]
    with job.count() as circuits:
        start = time.perf_counter()
        results = job.run(inputs[0])
        first = time.perf_counter() - start
        number = circuits()
    jobs.append((job, inputs))
    results = [np.asarray(result, dtype=float).tolist() for result in results]
    return {"first": first, "results": results, "circuits": number, "job": len(jobs) - 1}


def _seconds(job, inputs, limit) -> list[float]:
    """Times calls for `limit` seconds, after one that counts only if it takes that long alone."""
    seconds, begin = [], time.perf_counter()
    while len(seconds) < 2 or (time.perf_counter() - begin < limit and len(seconds) < 1000):
        point = inputs[len(seconds) % len(inputs)]
        start = time.perf_counter()
        job.run(point)
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 1 and seconds[0] >= limit:
            return seconds
    return seconds[1:]
