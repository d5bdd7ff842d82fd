"""Who may do what."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambroker.core.access import Action, Decision, Grant, Grants, Principal, Role, decide, may_view_all, require
from streambroker.core.errors import Forbidden, NotFound


def member(*grants: Grant) -> Principal:
    return Principal("ann", Role.MEMBER, grants, "session", None, "token")


def admin(*grants: Grant) -> Principal:
    return Principal("root", Role.ADMIN, grants, "session", 1_000, "token")


def key(grants: tuple[Grant, ...], *ceiling: Grant) -> Principal:
    return Principal("ann", Role.MEMBER, grants, "", None, "", "key", ceiling)


def grant(queues: str, *actions: Action) -> Grant:
    return Grant(queues, actions)


def names(glob: str, queue: str) -> bool:
    return decide(member(grant(glob, Action.VIEW)), Action.VIEW, queue) is Decision.ALLOW


@pytest.mark.parametrize("action", Action)
def test_an_admin_may_do_everything_without_a_grant(action: Action) -> None:
    assert decide(admin(), action, "any") is Decision.ALLOW


@pytest.mark.parametrize(("granted", "asked"), list(itertools.product(Action, Action)))
def test_no_action_implies_another(granted: Action, asked: Action) -> None:
    expected = Decision.ALLOW if granted is asked else Decision.DENY
    assert decide(member(grant("orders", granted)), asked, "orders") is expected


@pytest.mark.parametrize("action", Action)
def test_a_queue_that_no_grant_names_is_hidden(action: Action) -> None:
    assert decide(member(), action, "orders") is Decision.HIDDEN
    assert decide(member(grant("invoices", *Action)), action, "orders") is Decision.HIDDEN


def test_grants_that_name_the_same_queue_add_up() -> None:
    both = member(grant("orders.*", Action.PUBLISH), grant("*.eu", Action.CONSUME))
    assert decide(both, Action.PUBLISH, "orders.eu") is Decision.ALLOW
    assert decide(both, Action.CONSUME, "orders.eu") is Decision.ALLOW
    assert decide(both, Action.MANAGE, "orders.eu") is Decision.DENY
    assert decide(both, Action.CONSUME, "orders.us") is Decision.DENY


@pytest.mark.parametrize(
    ("glob", "queue", "expected"),
    [
        ("orders", "orders", True),
        ("orders", "orders.eu", False),
        ("orders", "my-orders", False),
        ("Orders", "orders", False),
        ("*", "anything.at-all", True),
        ("orders.*", "orders.", True),
        ("orders.*", "orders", False),
        ("*.eu", "orders.eu", True),
        ("*.eu", "orders.eu.x", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a?c", "abbc", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*a", "a", False),
        ("*a*", "bab", True),
        ("**", "x", True),
        ("a.c", "abc", False),
        ("*", "a\nb", True),
        ("orders", "orders\n", False),
        ("?*?", "a", False),
        ("?*?", "ab", True),
    ],
)
def test_a_glob_names_whole_queue_names(glob: str, queue: str, expected: bool) -> None:
    assert names(glob, queue) is expected


def naive(glob: str, name: str) -> bool:
    if not glob:
        return not name
    if glob[0] == "*":
        return naive(glob[1:], name) or (bool(name) and naive(glob, name[1:]))
    return bool(name) and glob[0] in ("?", name[0]) and naive(glob[1:], name[1:])


@given(st.text("ab.*?", min_size=1, max_size=8), st.text("ab.", min_size=1, max_size=8))
def test_globs_match_as_the_definition_says(glob: str, queue: str) -> None:
    assert names(glob, queue) is naive(glob, queue)


def test_a_glob_of_many_stars_takes_no_exponential_time() -> None:
    started = time.perf_counter()
    assert not names("*a" * 60 + "*b", "a" * 128)
    assert time.perf_counter() - started < 1


def test_what_is_remembered_of_queue_names_is_bounded() -> None:
    reader = member(grant("q*", Action.VIEW))
    for i in range(5_000):
        assert decide(reader, Action.VIEW, f"q{i}") is Decision.ALLOW
    assert 0 < len(reader._matcher._allowed) <= 1_024


def test_names_that_no_grant_names_are_not_remembered() -> None:
    reader = member(grant("r*", Action.VIEW))
    for i in range(10):
        assert decide(reader, Action.VIEW, f"x{i}") is Decision.HIDDEN
        assert decide(reader, Action.MANAGE, f"r{i}") is Decision.DENY
    assert reader._matcher._allowed.keys() == {f"r{i}" for i in range(10)}


def test_what_is_remembered_is_bounded_however_many_have_grants_of_their_own() -> None:
    readers = [member(grant(f"n{i}.*", Action.VIEW)) for i in range(1_000)]  # as sessions do, they keep their grants
    for _ in range(2):
        for i, reader in enumerate(readers):
            assert decide(reader, Action.VIEW, f"n{i}.a") is Decision.ALLOW
            assert decide(reader, Action.VIEW, f"n{i}.b") is Decision.ALLOW
    assert sum(bool(reader._matcher._allowed) for reader in readers) == 128


def test_principals_with_equal_grants_share_what_is_remembered() -> None:
    assert member(grant("q", Action.VIEW))._matcher is member(grant("q", Action.VIEW))._matcher
    assert member(grant("q", Action.VIEW)) == member(grant("q", Action.VIEW))


@pytest.mark.parametrize(
    ("queue", "action", "expected"),
    [
        ("orders.eu", Action.PUBLISH, Decision.ALLOW),
        ("orders.eu", Action.CONSUME, Decision.DENY),
        ("orders.eu", Action.VIEW, Decision.DENY),
        ("orders.eu", Action.MANAGE, Decision.DENY),
        ("orders.us", Action.PUBLISH, Decision.HIDDEN),
        ("invoices", Action.PUBLISH, Decision.HIDDEN),
    ],
)
def test_a_key_may_do_what_both_its_grants_and_its_users_allow(queue: str, action: Action, expected: Decision) -> None:
    own = (grant("*.eu", Action.PUBLISH, Action.CONSUME), grant("invoices", *Action))
    limited = key(own, grant("orders.*", Action.PUBLISH, Action.VIEW))
    assert decide(limited, action, queue) is expected
    assert decide(limited, action, queue) is expected  # as it is remembered


@given(st.lists(st.sets(st.sampled_from(Action), min_size=1), max_size=3), st.sets(st.sampled_from(Action), min_size=1))
def test_under_a_ceiling_nothing_is_allowed_that_one_of_the_two_denies(
    own: list[set[Action]], above: set[Action]
) -> None:
    grants, ceiling = tuple(grant("q", *actions) for actions in own), grant("q", *above)
    for action in Action:
        both = decide(key(grants, ceiling), action, "q")
        alone = {decide(member(*grants), action, "q"), decide(member(ceiling), action, "q")}
        assert both is next(d for d in (Decision.HIDDEN, Decision.DENY, Decision.ALLOW) if d in alone)


def test_a_user_without_a_grant_has_keys_without_a_right() -> None:
    assert decide(key((grant("*", *Action),)), Action.VIEW, "orders") is Decision.HIDDEN
    assert not may_view_all(key((grant("*", *Action),)))


def test_a_key_of_an_admin_has_no_ceiling_but_its_grants() -> None:
    limited = Principal("root", Role.MEMBER, (grant("orders", Action.VIEW),), "", None, "", "key", None)
    assert decide(limited, Action.VIEW, "orders") is Decision.ALLOW
    assert decide(limited, Action.MANAGE, "orders") is Decision.DENY
    assert decide(limited, Action.VIEW, "invoices") is Decision.HIDDEN


def test_require_raises_what_the_client_is_answered() -> None:
    reader = member(grant("orders", Action.VIEW))
    require(reader, Action.VIEW, "orders")
    with pytest.raises(Forbidden):
        require(reader, Action.MANAGE, "orders")
    with pytest.raises(NotFound):
        require(reader, Action.VIEW, "invoices")


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        (admin(), True),
        (member(), False),
        (member(grant("*", Action.VIEW)), True),
        (member(grant("**", Action.PUBLISH, Action.VIEW)), True),
        (member(grant("*", Action.PUBLISH, Action.CONSUME, Action.MANAGE)), False),
        (member(grant("?*", Action.VIEW)), False),
        (member(grant("orders.*", Action.VIEW)), False),
        (key((grant("*", Action.VIEW),), grant("*", Action.VIEW)), True),
        (key((grant("*", Action.VIEW),), grant("orders.*", Action.VIEW)), False),
        (key((grant("orders.*", Action.VIEW),), grant("*", Action.VIEW)), False),
        (key((grant("*", Action.VIEW),), grant("*", Action.CONSUME)), False),
    ],
)
def test_global_figures_need_view_on_everything(principal: Principal, expected: bool) -> None:
    assert may_view_all(principal) is expected


def decoded(text: str) -> tuple[Grant, ...]:
    return msgspec.json.decode(text, type=Grants)


def test_grants_come_and_go_as_json() -> None:
    text = '[{"queues":"orders.*","actions":["publish","view"]}]'
    assert decoded(text) == (grant("orders.*", Action.PUBLISH, Action.VIEW),)
    assert msgspec.json.encode(decoded(text)).decode() == text


@pytest.mark.parametrize(
    "text",
    [
        '[{"queues":"orders","actions":["publish"],"more":1}]',
        '[{"queues":"orders"}]',
        '[{"actions":["view"]}]',
        '[{"queues":"orders","actions":[]}]',
        '[{"queues":"orders","actions":["admin"]}]',
        '[{"queues":"orders","actions":"view"}]',
        '[{"queues":"","actions":["view"]}]',
        '[{"queues":"a/b","actions":["view"]}]',
        '[{"queues":"[ab]","actions":["view"]}]',
        '[{"queues":"orders\\n","actions":["view"]}]',
        '[{"queues":"' + "a" * 129 + '","actions":["view"]}]',
        "[" + ",".join(['{"queues":"a","actions":["view"]}'] * 101) + "]",
    ],
)
def test_a_grant_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(text)


def test_every_action_has_its_own_bit() -> None:
    assert sorted(action.bit for action in Action) == [1, 2, 4, 8]
