"""Problem codes as exceptions."""

from __future__ import annotations

import pickle

import httpx
import pytest

from streambroker.client import errors
from streambroker.core.errors import BrokerError
from tests.client.answers import Script, http, problem


def codes() -> list[tuple[str, int]]:
    """Every code that the broker has, with its status."""
    kinds: list[type[BrokerError]] = [BrokerError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return sorted({(kind.code, kind.status) for kind in kinds})


@pytest.mark.parametrize(("code", "status"), codes())
def test_every_code_of_the_broker_has_a_class(code: str, status: int) -> None:
    error = errors.from_problem(errors.ProblemDocument(code, status, detail="so it is"))
    assert type(error).code == code
    assert (error.code, error.status, str(error)) == (code, status, "so it is")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest), (401, errors.Unauthenticated), (403, errors.Forbidden), (404, errors.NotFound),
        (409, errors.Conflict), (418, errors.BadRequest), (429, errors.RateLimited), (503, errors.Unavailable),
        (502, errors.ServerError),
    ],
)  # fmt: skip
def test_a_code_of_a_newer_broker_falls_back_to_its_status(status: int, kind: type[errors.ApiError]) -> None:
    error = errors.from_problem(errors.ProblemDocument("of_tomorrow", status))
    assert type(error) is kind
    assert error.code == "of_tomorrow"


async def test_an_error_tells_what_the_document_tells() -> None:
    faults = [{"pointer": "/priority", "detail": "too high"}]
    answer = problem("invalid", 422, detail="/priority: too high", errors=faults, of_tomorrow=1)
    with pytest.raises(errors.Invalid, match="too high") as caught:
        await http(Script(answer)).call("POST", "/queues")
    assert caught.value.errors == (errors.FieldFault("/priority", "too high"),)
    assert caught.value.request_id == "req-7"
    assert not caught.value.retryable
    assert not caught.value.outcome_unknown


@pytest.mark.parametrize(("status", "kind"), [(502, errors.ServerError), (404, errors.NotFound)])
async def test_an_answer_of_something_in_between_is_an_error_of_its_status(
    status: int, kind: type[errors.ApiError]
) -> None:
    answer = httpx.Response(status, text="<html>Bad Gateway</html>")
    with pytest.raises(kind, match="not as a streambroker does"):
        await http(Script(answer)).call("POST", "/queues")


async def test_an_answer_that_is_no_json_is_a_protocol_error() -> None:
    with pytest.raises(errors.ProtocolError):
        await http(Script(httpx.Response(200, text="<html>"))).call("GET", "/stats", dict[str, int])


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    script = Script(httpx.Response(302, headers={"location": "http://elsewhere/"}))
    with pytest.raises(errors.ProtocolError, match="leads elsewhere"):
        await http(script).call("GET", "/stats")
    assert len(script.requests) == 1


def test_an_error_comes_whole_out_of_a_pickle() -> None:
    before = errors.from_problem(errors.ProblemDocument("rate_limited", 429, detail="slow", retry_after_ms=5), "r1")
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is errors.RateLimited
    assert (after.detail, after.retry_after_ms, after.request_id) == ("slow", 5, "r1")
