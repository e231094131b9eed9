"""Requests to a service as they go out and come back, beneath the client that makes them.

The client repeats submissions by itself, and takes everything that comes back with the status 200
for an answer. This module keeps it from repeating submissions, reports when one goes out, and
raises an error for an answer that cannot be the service's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from qshift.executors.qiskit.retry import UnreadableError

_CONNECT_TIMEOUT, _LONGEST_CONNECT = 5.0, 30.0  # seconds to wait for a connection
_READ_TIMEOUT, _LONGEST_READ = 60.0, 300.0  # seconds to wait for the next byte of an answer
_PAGE = 100  # jobs in one answer

# A function that is called with each request that goes out, and told whether it creates a job.
watch: ContextVar[Callable[[bool], None]] = ContextVar("watch", default=lambda creates: None)


class ReadsOnly(HTTPAdapter):
    """An HTTP adapter that repeats only requests that read, and does not wait for ever.

    The client itself also repeats submissions: on some statuses, and behind a proxy whenever a
    connection breaks. If the first one was accepted nevertheless, the job would run, and be paid
    for, twice.
    """

    def __init__(self) -> None:
        reads = Retry(
            total=3,
            backoff_factor=0.2,
            status_forcelist=[500, 502, 503, 504, 520, 521, 522, 524],
            respect_retry_after_header=False,
            raise_on_status=False,
        )
        super().__init__(max_retries=reads)
        self._once = HTTPAdapter()

    def send(  # type: ignore[override]  # hands the others on by name
        self, request: Any, stream: Any = False, timeout: Any = None, **more: Any
    ) -> Any:
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        limits = (
            min(connect or _CONNECT_TIMEOUT, _LONGEST_CONNECT),
            min(read or _READ_TIMEOUT, _LONGEST_READ),
        )
        send = super().send if request.method == "GET" else self._once.send
        path = urlsplit(request.url).path
        watch.get()(request.method == "POST" and path.endswith("/jobs"))
        answer = send(request, stream=stream, timeout=limits, **more)
        _require_json(request.method, path, answer)
        return answer

    def close(self) -> None:
        super().close()
        self._once.close()


def _require_json(method: str, path: str, answer: requests.Response) -> None:
    """Raises UnreadableError for an answer with status 200 that is not the service's: a network's
    login page, the page of a proxy, or an answer that was cut short."""
    is_text = path.endswith(("/logs", "/results"))  # plain text, where a failed job says why
    may_be_empty = answer.status_code == 204 or method in ("PUT", "PATCH", "DELETE")
    may_be_empty |= path.endswith("/cancel")
    if answer.status_code >= 300 or is_text or may_be_empty and not answer.content:
        return
    try:
        content = json.loads(answer.content)
    except ValueError:
        kind = answer.headers.get("Content-Type", "of no kind").partition(";")[0]
        size = len(answer.content)
        raise UnreadableError(
            f"an answer that is not the service's ({size} bytes of {kind[:40]}, no JSON). A proxy "
            "or the login page of a network may have answered in its place, or it was cut short"
        ) from None
    # Of another table the client of 0.51 reads that there are no backends at all.
    if path.endswith("/backends") and not (isinstance(content, dict) and "devices" in content):
        raise UnreadableError("an answer that is not the service's: a list of devices is expected")


def listed(client: Any, tag: str) -> list[dict]:
    """Returns all jobs in an instance that have a tag, as the service describes them.

    An answer of another form is an error: if it were taken for "none", a job would be sent twice.
    """
    found: list[dict] = []
    while True:
        answer = client.jobs_get(limit=_PAGE, skip=len(found), job_tags=[tag], descending=False)
        page = answer["jobs"]
        if not isinstance(page, list) or not isinstance(answer["count"], int):
            raise TypeError("a list of jobs was expected")
        found += page
        if not page or len(found) >= answer["count"]:
            return [job for job in found if tag in job.get("tags", [tag])]


def name(value: Any) -> str:
    """Returns a name from an answer.

    Raises:
        TypeError: If the answer has something else in its place.
    """
    if not isinstance(value, str) or not value:
        raise TypeError("a name was expected")
    return value
