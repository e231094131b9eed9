"""Errors of requests to a service: what they mean, and trying again where that is safe.

Requests that only read are repeated. A submission is repeated too, but only after the service has
been asked whether it has the job already; the action that `persist` is given has to do that (see
`service`). All other errors say what happened and how to go on.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from qshift.errors import AccountError, QShiftError, ServiceError

FIRST_WAIT = 0.5  # seconds; doubled with each failure in a row
LONGEST_WAIT = 30.0
PATIENCE = 600.0  # seconds of waiting in all, before an error is raised
UNREADABLE_PATIENCE = 60.0  # the same where answers come that are not the service's

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 524}
_KEPT = (
    "Nothing is lost: jobs that were submitted keep running on the service. Run this again to go on"
)
_log = logging.getLogger("qshift")
_T = TypeVar("_T")


class UnreadableError(requests.RequestException):
    """Raised for an answer that does not come from the service, such as a network's login page.

    The message names the kind of answer, but not its content, which may be secret.
    """


class MissingError(Exception):
    """Raised for a job that no instance of the account has.

    Attributes:
        asked: Digests of the instances that were asked.
    """

    def __init__(self, asked: Sequence[str | None]) -> None:
        super().__init__("no such job")
        self.asked = asked


@dataclass(frozen=True)
class Fault:
    """A fault of a service, or of the network on the way to it, read off an error of its client.

    Attributes:
        text: The fault in a few words.
        status: The HTTP status; None if no answer came.
        wait: Seconds that the service asks to wait before the next request, if it says so.
        is_transient: Whether the request may succeed if it is repeated.
        patience: Seconds for which the request is repeated; then an error is raised.
        is_missing: Whether the service itself, and not a proxy or gateway, says that the requested
            thing does not exist.
    """

    text: str
    status: int | None
    wait: float | None
    is_transient: bool
    patience: float = PATIENCE
    is_missing: bool = False

    @property
    def is_expired(self) -> bool:
        """Whether the credentials were refused, as they are when they have expired."""
        return self.status == 401


def diagnose(error: BaseException) -> Fault | None:
    """Returns the fault behind an error, or None if it has nothing to do with the service.

    Args:
        error: The error as it was raised. Clients wrap the original ones.
    """
    for each in _chain(error):
        if isinstance(each, UnreadableError):
            return Fault(str(each), None, None, True, UNREADABLE_PATIENCE)
        answer = getattr(each, "response", None)
        if answer is None:
            answer = getattr(each, "http_response", None)
        is_well = answer is not None and answer.status_code < 400
        if is_well or isinstance(each, requests.exceptions.JSONDecodeError):
            return Fault(str(unreadable(each)), None, None, True, UNREADABLE_PATIENCE)
        if answer is not None:
            status = answer.status_code
            wait = _seconds(answer.headers.get("Retry-After"))
            text, is_transient = f"{_message(answer)} ({status})", status in _TRANSIENT
            missing = status == 404 and _has_code(answer)
            return Fault(text, status, wait, is_transient, is_missing=missing)
        if isinstance(each, requests.RequestException):
            is_transient = isinstance(
                each,
                requests.ConnectionError
                | requests.Timeout
                | requests.exceptions.ChunkedEncodingError,
            ) and not isinstance(each, requests.exceptions.SSLError)
            return Fault(_short(each), None, None, is_transient)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, its cause, the cause of that, and so on."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def never_went_out(error: BaseException) -> bool:
    """Whether a request cannot have reached the service, because there was no connection."""
    for each in _chain(error):
        if isinstance(each, requests.RequestException):
            reasons = [getattr(about, "reason", None) for about in each.args]
            reasons += [getattr(reason, "original_error", None) for reason in reasons]
            return any(isinstance(r, NewConnectionError | ConnectTimeoutError) for r in reasons)
    return False


def understood(action: Callable[[], _T]) -> _T:
    """Calls an action that sends a request, and returns what it returns.

    Raises:
        UnreadableError: If reading the answer fails with an error that is not the service's: then
            the answer did not come from it. A warning that the user has made an error is none.
    """
    try:
        return action()
    except Exception as error:
        if (
            isinstance(error, QShiftError | MissingError | MemoryError | Warning)
            or diagnose(error) is not None
        ):
            raise
        raise unreadable(error) from error


def unreadable(error: BaseException) -> UnreadableError:
    """Returns the UnreadableError for an error that came up when an answer was read."""
    return UnreadableError(
        f"its answer is not what the service answers, so that reading it fails with a "
        f"{type(error).__name__}. Something in between, such as a proxy or the login page of a "
        "network, may have answered in its place"
    )


def persist(
    action: Callable[[], _T],
    what: str,
    renew: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> _T:
    """Calls an action until it succeeds, with longer and longer waits after transient faults.

    Args:
        action: The action. It has to be safe to repeat.
        what: What messages call the action, such as ``"submitting a job"``.
        renew: Gets new credentials; called once, if those in use are refused. None if there is no
            way to get any.
        sleep: Waits so many seconds.

    Returns:
        What the action returns.

    Raises:
        AccountError: If the credentials are refused.
        ServiceError: For other faults of the service; for transient ones after some minutes.
    """
    waited, wait = 0.0, FIRST_WAIT
    while True:
        try:
            return action()
        except QShiftError:  # explains itself
            raise
        except Exception as error:
            fault = diagnose(error)
            if fault is None:
                raise
            if fault.is_expired and renew is not None:
                again, renew = renew, None
                _log.info("%s: %s; getting new ones", what, fault.text)
                again()
                continue
            pause = max(fault.wait or 0.0, random.uniform(0.5, 1.0) * wait)
            if not fault.is_transient or waited + pause > fault.patience:
                raise _explained(fault, what, waited) from error
        level = logging.WARNING if pause >= 5 else logging.INFO
        _log.log(level, "%s: %s; trying again in %.1f s", what, fault.text, pause)
        sleep(pause)
        waited, wait = waited + pause, min(2 * wait, LONGEST_WAIT)


def _explained(fault: Fault, what: str, waited: float) -> ServiceError:
    """Returns the error that a user gets."""
    if fault.is_expired:
        return AccountError(
            f"{what}: the service refuses the credentials: {fault.text}. Save valid ones with "
            "QiskitRuntimeService.save_account(token=..., overwrite=True), or set "
            f"QISKIT_IBM_TOKEN. {_KEPT}."
        )
    if fault.is_transient:
        wish = f"asks to wait {fault.wait:.0f} s" if fault.wait else "did not recover"
        return ServiceError(
            f"{what}: the service {wish}, after {waited:.0f} s of trying: {fault.text}. {_KEPT} "
            "once it can be reached."
        )
    return ServiceError(f"{what}: the service refuses: {fault.text}. {_KEPT}.")


def _message(answer: Any) -> str:
    """Returns the error message in an answer."""
    try:
        content = answer.json()
        first = content["errors"][0] if "errors" in content else content.get("error", content)
        text = first.get("message") or first["errorMessage"]
        if solution := first.get("solution"):
            text = f"{text} {solution}"
        return " ".join(str(text).split()).rstrip(".")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return str(getattr(answer, "reason", "") or "an error")


def _has_code(answer: Any) -> bool:
    """Whether an answer has one of the service's own error codes; a gateway's answer has none."""
    try:
        return "code" in answer.json()["errors"][0]
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def _short(error: BaseException) -> str:
    """Returns one line of an error, without addresses in memory."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _seconds(text: str | None) -> float | None:
    """Reads a Retry-After, which is a number of seconds or a date."""
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
