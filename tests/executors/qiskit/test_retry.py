"""What errors of a service mean, and when something is tried again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests

from qshift.errors import AccountError, ServiceError
from qshift.executors.qiskit import retry
from qshift.executors.qiskit.retry import diagnose, persist


def refusal(status, content=b"", **headers):
    answer = requests.Response()
    answer.status_code, answer._content, answer.reason = status, content, "Some reason"
    answer.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.HTTPError("with an address", response=answer)


def wrapped(error, how="from"):
    """An error as clients raise it about another one."""
    try:
        try:
            raise error
        except Exception as cause:
            if how == "from":
                raise RuntimeError("wrapped") from cause
            raise RuntimeError("wrapped") from None
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("how", ["from", "hidden"])
@pytest.mark.parametrize(
    "error, status, is_transient",
    [
        (refusal(429), 429, True),
        (refusal(503), 503, True),
        (refusal(524), 524, True),
        (refusal(400), 400, False),
        (refusal(401), 401, False),
        (refusal(501), 501, False),
        (requests.ConnectionError("reset"), None, True),
        (requests.ReadTimeout("late"), None, True),
        (requests.exceptions.ChunkedEncodingError("cut short"), None, True),
        (requests.exceptions.JSONDecodeError("cut short", "{", 1), None, True),
        (requests.exceptions.SSLError("no trust"), None, False),
        (requests.exceptions.InvalidURL("typing error"), None, False),
    ],
)
def test_what_an_error_means(error, status, is_transient, how):
    for each in (error, wrapped(error, how), wrapped(wrapped(error, how))):
        fault = diagnose(each)
        assert (fault.status, fault.is_transient) == (status, is_transient)
        assert fault.is_expired == (status == 401)


def test_errors_of_the_program_are_none_of_the_services():
    assert diagnose(ValueError("a mistake")) is None
    assert diagnose(wrapped(KeyError("a mistake"))) is None
    loop = ValueError("its own cause")
    loop.__cause__ = loop
    assert diagnose(loop) is None


@pytest.mark.parametrize(
    "content, text",
    [
        (b'{"errors": [{"code": 1, "message": "No more time.", "solution": "Wait."}]}', "No more"),
        (b'{"error": {"code": 1, "message": "Gone.\\n"}}', "Gone (400)"),
        (b'{"errorCode": "B", "errorMessage": "No such key."}', "No such key (400)"),
        (b"<html>", "Some reason (400)"),
        (b"[]", "Some reason (400)"),
        (b"", "Some reason (400)"),
    ],
)
def test_a_fault_says_what_the_service_says(content, text):
    assert diagnose(refusal(400, content)).text.startswith(text)


def test_a_service_may_say_when_to_come_back():
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert diagnose(refusal(429, Retry_After="7")).wait == 7
    assert 55 < diagnose(refusal(503, Retry_After=in_a_minute)).wait <= 60
    for nothing in ({}, {"Retry_After": "soon"}):
        assert diagnose(refusal(429, **nothing)).wait is None
    assert diagnose(refusal(429, Retry_After="-3")).wait == 0


class Service:
    """Raises errors one after the other, then answers."""

    def __init__(self, *errors):
        self.errors, self.asked, self.waits, self.renewed = list(errors), 0, [], 0

    def __call__(self):
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"

    def renew(self):
        self.renewed += 1

    def persist(self):
        return persist(self, "Asking", self.renew, self.waits.append)


def test_waits_grow_and_heed_the_service():
    service = Service(*[refusal(503)] * 9, refusal(429, Retry_After="100"), refusal(502))
    assert service.persist() == "answer"
    assert service.asked == 12 and service.waits[9] == 100
    limits = [min(retry.FIRST_WAIT * 2**k, retry.LONGEST_WAIT) for k in range(9)]
    for wait, limit in zip(service.waits, limits, strict=False):
        assert limit / 2 <= wait <= limit


def test_patience_has_an_end():
    service = Service(*[requests.ConnectionError("unreachable")] * 1000)
    with pytest.raises(ServiceError, match="did not recover, after .*unreachable.*Nothing is lost"):
        service.persist()
    assert retry.PATIENCE - retry.LONGEST_WAIT <= sum(service.waits) <= retry.PATIENCE
    service = Service(refusal(429, Retry_After="10000"))
    with pytest.raises(ServiceError, match="asks to wait 10000 s"):
        service.persist()
    assert service.waits == []


def test_credentials_are_renewed_once():
    service = Service(refusal(401))
    assert service.persist() == "answer" and service.renewed == 1 and service.waits == []
    service = Service(refusal(401), refusal(401))
    with pytest.raises(AccountError, match="Asking: the service refuses the credentials.*save_acc"):
        service.persist()
    assert service.renewed == 1


@pytest.mark.parametrize(
    "error, raised",
    [
        (refusal(400), ServiceError),
        (requests.exceptions.SSLError("no trust"), ServiceError),
        (ValueError("a mistake"), ValueError),
        (ServiceError("it says how to go on"), ServiceError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_nothing_else_is_tried_again(error, raised):
    service = Service(error)
    with pytest.raises(raised) as caught:
        service.persist()
    assert service.asked == 1
    assert caught.value is error or caught.value.__cause__ is error
