"""Requests to a service as they go out and come back, beneath the client that makes them.

The client repeats submissions by itself, and takes whatever comes back with the status 200 for an
answer. Here submissions are never repeated, it is said when one goes out, and an answer that cannot
be the service's is an error.
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

_CONNECT_TIMEOUT, _LONGEST_CONNECT = 5.0, 30.0  # seconds in which there is no connection
_READ_TIMEOUT, _LONGEST_READ = 60.0, 300.0  # seconds without a byte from the service
_PAGE = 100  # jobs in one answer

# What is called with each request that goes out: whether it is the one that creates a job.
watch: ContextVar[Callable[[bool], None]] = ContextVar("watch", default=lambda creates: None)


class ReadsOnly(HTTPAdapter):
    """Repeats requests that only read, and does not wait forever.

    The client itself repeats submissions as well: on some statuses, and behind a proxy whenever a
    connection breaks. A job that was accepted all the same would then run, and be paid for, twice.
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
    """Raises UnreadableError for an answer that is not the service's, though it says that all is
    well: the login page of a network, a proxy's, or one that was cut short."""
    is_text = path.endswith(("/logs", "/results"))  # where a failed job says why, in plain text
    may_be_empty = answer.status_code == 204 or method in ("PUT", "PATCH", "DELETE")
    may_be_empty |= path.endswith("/cancel")
    if answer.status_code >= 300 or is_text or may_be_empty and not answer.content:
        return
    try:
        json.loads(answer.content)
    except ValueError:
        kind = answer.headers.get("Content-Type", "of no kind").partition(";")[0]
        size = len(answer.content)
        raise UnreadableError(
            f"an answer that is not the service's ({size} bytes of {kind[:40]}, no JSON). A proxy "
            "or the login page of a network may have answered in its place, or it was cut short"
        ) from None


def listed(client: Any, tag: str) -> list[dict]:
    """Returns all jobs in an instance that have a tag, as the service describes them.

    An answer of another kind is an error here: to take it for "none" would be to send a job twice.
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
    """Returns a name that is in an answer.

    Raises:
        TypeError: If there is something else in its place.
    """
    if not isinstance(value, str) or not value:
        raise TypeError("a name was expected")
    return value
