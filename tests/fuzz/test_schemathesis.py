"""The API against its own description: every operation of ``/openapi.json``, thousands of requests, right and wrong.

What is asked of each answer is schemathesis's: no 5xx; only statuses, codes, media types, headers and bodies that the
description names; wrong data refused and right data taken; no operation without its token. Endpoints that come later
are in the description, and so in here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
import schemathesis
from schemathesis import BaseSchema, Case, CheckContext, CheckFunction, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.errors import InvalidSchema
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok, Result
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    unsupported_method,
)

from tests.fuzz.effort import REPEATABLE, cases
from tests.fuzz.insides import check_text
from tests.fuzz.places import Places
from tests.harness import BrokerProcess
from tests.wire.problems import STATUS, check_problem

T = TypeVar("T")

STREAM = "GET /queues/{queue}/events"
TELLS_OF_THEM = ("GET /metrics", "GET /openapi.json", "GET /asyncapi.json", "GET /logs/{filename}")

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SHARDS = 4
ENOUGH = 2_000
RANDOM_REQUESTS = 25
"""Of each operation, beside the systematic ones."""
REFUSED = ["400", "401", "404", "405", "409", "413", "415", "422"]
LONGEST_WAIT_MS = 20
WAIT_MS_LIMIT = 60_000

# What a valid request may be refused for all the same, because JSON Schema has no words for it.
BEYOND_JSON_SCHEMA = re.compile(
    r"is not a cursor of this list"
    r"|was used for other content within the dedup window"
    r"|dedup_id and the Idempotency-Key header differ"
    r"|a queue cannot be its own dead-letter queue"
    r"|a queue is no dead-letter queue of its own"
    r"|/x-message-headers: is not JSON"
    r"|/x-message-available-at: "
    r"|/headers: headers are an object"  # in a header it is text
    r"|must not be longer than 1024 bytes"  # a schema counts characters
    r"|holds a character that cannot be printed"
    r"|is in the past"
    r"|must not be the user name"
    r"|/url: (?:its|has an?|has no) "  # a webhook's: looked up
    r"|/(?:\d+/)?(?:ce-)?\w+: (?:the event has no|must (?:not )?be)"  # CloudEvents: by mode, and text in headers
    r"|holds a control character, half of a surrogate pair"
    r"|is set by the broker|is given twice|/rotate_secret: makes a secret"  # a webhook's headers and secrets
)


@pytest.fixture(scope="module")
def api(broker: BrokerProcess, token: str) -> BaseSchema:
    config = schemathesis.Config.from_dict(
        {
            "generation": {"max-examples": cases(RANDOM_REQUESTS), "deterministic": REPEATABLE},
            "auth": {"openapi": {"bearer": {"bearer": token}}},
            "request-timeout": 20,
            "checks": {"negative_data_rejection": {"expected-statuses": REFUSED}},
            "suppress-health-check": ["all"],
            "max-stream-events": 1,
        }
    )
    return schemathesis.openapi.from_url(f"{broker.url}/openapi.json", config=config)


@pytest.fixture(scope="session")
def places(broker: BrokerProcess) -> Iterator[Places]:
    with broker.client() as client:
        yield Places(client)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_answer_is_one_that_the_description_names(
    token: str, api: BaseSchema, places: Places, subtests: pytest.Subtests, shard: int
) -> None:
    mine = sorted(_ok(result).label for result in api.get_all_operations())[shard::SHARDS]
    count = 0

    def check(case: Case) -> None:
        nonlocal count
        count += 1
        make_ready(case, places, token, find_something=count % 2 == 0)
        response = case.call()
        case.validate_response(
            response,
            additional_checks=[nothing_of_its_insides, a_refusal_is_a_problem_that_is_described],
            excluded_checks=excused(case, response),
        )

    for result in get_all_tests(schema=api.include(name=mine), test_func=check, settings=None, given_kwargs=None):
        operation, test = _ok(result)
        with subtests.test(operation=operation.label):
            test()
            assert places.me() == 200, "one of these requests ended the session"
            mine.remove(operation.label)
    assert mine == [], "these failed, or were not tried"
    assert count >= ENOUGH / SHARDS


def make_ready(case: Case, places: Places, token: str, find_something: bool) -> None:
    """What is changed in a case before it is sent; none of it makes a wrong request right, or a right one wrong."""
    assert case.meta is not None
    if find_something and not case.meta.is_negative_at(ParameterLocation.PATH):
        for name in case.path_parameters:
            case.path_parameters[name] = places.real(name) or case.path_parameters[name]
    if case.operation.label == "POST /logout" and case.headers.get("Authorization") == f"Bearer {token}":
        case.headers["Authorization"] = f"Bearer {places.a_session()}"
    if case.operation.label == STREAM:
        case.headers["Last-Event-ID"] = "of another broker"  # answered by an event at once; the stream has no end
    if isinstance(case.body, dict | list):
        case.body = _whole(case.body)
    for holder in (case.query, case.body):
        if isinstance(holder, dict) and _is_long(holder.get("wait_ms")):
            holder["wait_ms"] = LONGEST_WAIT_MS


@schemathesis.check
def nothing_of_its_insides(ctx: CheckContext, response: Response, case: Case) -> None:
    """D33: an answer tells nothing of the broker's insides; but metrics are of them, for who may view everything, the
    log names the data directory to the admin, and descriptions have schemas whose names end in Error."""
    if response.status_code == 200 and case.operation.label in TELLS_OF_THEM:
        return
    check_text(response.text_lossy(), f"{response.request.url} {case.headers} {case.body!r}")


@schemathesis.check
def a_refusal_is_a_problem_that_is_described(ctx: CheckContext, response: Response, case: Case) -> None:
    """Also where a body of a media type that is not taken was sent, which schemathesis's own checks pass over."""
    if response.status_code < 400:
        return
    check_problem(response.json(), set(STATUS))
    # A method that the path has not got is answered for no operation of it.
    if response.request.method == case.operation.method.upper():
        assert str(response.status_code) in case.operation.responses.status_codes, response.text


def excused(case: Case, response: Response) -> list[CheckFunction]:
    """The checks that do not hold for this case, for a reason."""
    excused: list[CheckFunction] = []
    if response.status_code == 422 and BEYOND_JSON_SCHEMA.search(response.text):
        excused.append(positive_data_acceptance)
    # Another case has made the queue a small one.
    if response.status_code == 507 and "queue_full" in response.text:
        excused.append(not_a_server_error)
    assert case.meta is not None
    wrong = {where for where, part in case.meta.components.items() if part.mode.is_negative}
    # X-Message-… options are not looked at where the body is JSON; a parameter cannot say that it depends on a body.
    if wrong == {ParameterLocation.HEADER} and case.media_type == "application/json":
        excused.append(negative_data_rejection)
    # In this form the body is the message's content, of whatever media type it was published with.
    if response.status_code == 200 and "binary" in str((case.query or {}).get("format")):
        excused += [content_type_conformance, response_schema_conformance]
    # Who you are is asked before the method is looked at, and these requests carry no token.
    if case.operation.definition.raw.get("security") == []:
        excused.append(unsupported_method)
    return excused


def _whole(value: Any) -> Any:
    """JSON Schema takes 5.0 for an integer; the broker, which would have to guess what 1e400 is, does not."""
    match value:
        case dict():
            return {name: _whole(part) for name, part in value.items()}
        case list():
            return [_whole(part) for part in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def _is_long(wait_ms: object) -> bool:
    """Whether it is a wait that the broker takes, and that would hold up the test."""
    if isinstance(wait_ms, str) and re.fullmatch("[0-9]{1,9}", wait_ms):
        wait_ms = int(wait_ms)
    return type(wait_ms) is int and LONGEST_WAIT_MS < wait_ms <= WAIT_MS_LIMIT


def _ok(result: Result[T, InvalidSchema]) -> T:
    assert isinstance(result, Ok), result
    return result.ok()
