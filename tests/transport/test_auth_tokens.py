"""Access tokens that are forged, mangled, too old or too long-lived, and the cache of the good ones."""

from __future__ import annotations

import base64
import json
import string
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambroker.core.access import Principal, Role
from streambroker.core.errors import ConfigError, Unauthenticated
from streambroker.transport.auth.keys import SigningKeys
from streambroker.transport.auth.tokens import (
    CLOCK_LEEWAY_MS,
    MAX_TOKEN_CHARACTERS,
    AccessTokens,
    VerifiedTokens,
    new_refresh_token,
    refresh_token_digest,
)

KEY, OLD_KEY, FOREIGN_KEY = b"k" * 32, b"o" * 32, b"f" * 32
NOW = 1_800_000_000_000
LIFETIME = 900_000
TOKENS = AccessTokens(SigningKeys(KEY, OLD_KEY), lifetime_ms=LIFETIME)
GOOD = {
    "iss": "streambroker",
    "aud": "streambroker",
    "sub": "ann",
    "sid": "session",
    "jti": "token",
    "iat": NOW // 1000,
    "exp": (NOW + LIFETIME) // 1000,
}
MISSING = object()


def signed(claims: Any, key: bytes = KEY, headers: dict[str, Any] | None = None, alg: str = "HS256") -> str:
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, alg, headers)


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not MISSING}


def assert_refused(token: str, now: int = NOW) -> None:
    with pytest.raises(Unauthenticated):
        TOKENS.verify(token, now)


def test_an_issued_token_is_good_and_says_what_the_contract_names() -> None:
    token = TOKENS.issue("ann", "session", "token", NOW + 123)
    claims = TOKENS.verify(token, NOW + 123)
    assert (claims.sub, claims.sid, claims.jti) == ("ann", "session", "token")
    assert claims.expires_at_ms == NOW + LIFETIME
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    said = jwt.decode(
        token, KEY, ["HS256"], audience="streambroker", options={"verify_exp": False, "verify_iat": False}
    )
    assert said == GOOD


def test_a_token_is_good_until_its_last_millisecond() -> None:
    token = TOKENS.issue("ann", "session", "token", NOW)
    TOKENS.verify(token, NOW + LIFETIME - 1)
    with pytest.raises(Unauthenticated, match="expired"):
        TOKENS.verify(token, NOW + LIFETIME)


@given(st.integers(1, 59_999), st.integers(NOW, NOW + 10_000_000))
def test_short_lifetimes_are_kept_to_the_millisecond(lifetime: int, now: int) -> None:
    tokens = AccessTokens(SigningKeys(KEY), lifetime_ms=lifetime)
    token = tokens.issue("ann", "session", "token", now)
    assert tokens.verify(token, now).expires_at_ms == now + lifetime
    with pytest.raises(Unauthenticated):
        tokens.verify(token, now + lifetime)


def test_a_token_signed_with_the_previous_key_is_good_and_new_ones_use_the_current() -> None:
    before = AccessTokens(SigningKeys(OLD_KEY), lifetime_ms=LIFETIME).issue("ann", "session", "token", NOW)
    assert TOKENS.verify(before, NOW).sub == "ann"
    after = AccessTokens(SigningKeys(KEY), lifetime_ms=LIFETIME)
    assert after.verify(TOKENS.issue("ann", "session", "token", NOW), NOW).sub == "ann"
    with pytest.raises(Unauthenticated):
        after.verify(before, NOW)


def test_the_bare_minimum_of_a_header_is_enough() -> None:
    assert TOKENS.verify(signed(GOOD, headers={"typ": None}), NOW).sub == "ann"


@pytest.mark.parametrize("claim", GOOD)
@pytest.mark.parametrize("value", [MISSING, None, True, "", [], ["streambroker"], {}, -1, 0, 10**30, 10**400, 1e308])
def test_every_claim_is_required_and_of_its_type(claim: str, value: Any) -> None:
    assert_refused(signed(changed(**{claim: value})))


@pytest.mark.parametrize("claim", ["iat", "exp"])
def test_a_time_as_text_is_refused(claim: str) -> None:
    assert_refused(signed(changed(**{claim: str(GOOD[claim])})))
    assert_refused(signed(changed(**{claim: "99999999999"})))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "1e-999"])
@pytest.mark.parametrize("claim", ["iat", "exp"])
def test_a_time_that_is_no_number_is_refused(claim: str, text: str) -> None:
    payload = json.dumps(changed(**{claim: "@"})).replace('"@"', text)
    assert_refused(jwt.PyJWS().encode(payload.encode(), KEY, "HS256"))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody"},
        {"aud": "something"},
        {"sub": "a" * 257},
        {"extra": 1},
        {"nbf": 0},
        {"exp": (NOW + LIFETIME) // 1000 + 1},
        {"iat": (NOW - LIFETIME) // 1000 - 60},
        {"iat": GOOD["exp"]},
        {"iat": (NOW + CLOCK_LEEWAY_MS) // 1000 + 1, "exp": (NOW + LIFETIME) // 1000},
        {"exp": NOW // 1000},
        {"exp": NOW // 1000 - 1},
    ],
)
def test_claims_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    assert_refused(signed(changed(**changes)))


def test_a_node_whose_clock_runs_a_little_ahead_is_believed() -> None:
    TOKENS.verify(TOKENS.issue("ann", "session", "token", NOW + CLOCK_LEEWAY_MS), NOW)


@pytest.mark.parametrize("payload", ["null", "[]", "1", '"text"', "", "{", '{"iss":}', "[" * 2000, "\ufeff{}"])
def test_a_payload_that_is_no_set_of_claims_is_refused(payload: str) -> None:
    assert_refused(jwt.PyJWS().encode(payload.encode(), KEY, "HS256"))


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_another_algorithm_with_the_right_key_is_refused(alg: str) -> None:
    key = b"k" * 64
    tokens = AccessTokens(SigningKeys(key), lifetime_ms=LIFETIME)
    tokens.verify(signed(GOOD, key), NOW)
    with pytest.raises(Unauthenticated):
        tokens.verify(signed(GOOD, key, alg=alg), NOW)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, 1, [], {}, "RS256", "EdDSA", "HS256 "])
def test_a_token_without_a_real_signature_is_refused(alg: Any) -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": alg, "typ": "JWT"}).encode()).rstrip(b"=").decode()
    body = base64.urlsafe_b64encode(json.dumps(GOOD).encode()).rstrip(b"=").decode()
    right = signed(GOOD).rsplit(".", 1)[1]
    for signature in ("", right, "AAAA"):
        assert_refused(f"{head}.{body}.{signature}")


def test_a_foreign_key_is_refused_whatever_its_header_says() -> None:
    assert_refused(signed(GOOD, FOREIGN_KEY))
    assert_refused(signed(GOOD, FOREIGN_KEY, {"kid": SigningKeys(KEY).current_id}))
    assert_refused(signed(GOOD, FOREIGN_KEY, {"kid": SigningKeys(OLD_KEY).current_id}))


@pytest.mark.parametrize("kid", ["", "../../x", "/dev/null", "' OR 1", "\x00", "k" * 10_240])
def test_a_key_id_is_only_looked_up(kid: str) -> None:
    assert_refused(signed(GOOD, headers={"kid": kid}))


@pytest.mark.parametrize("kid", [None, 1, True, [], {}])
def test_a_key_id_that_is_no_text_is_refused(kid: Any) -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": kid}).encode()).rstrip(b"=").decode()
    assert_refused(head + "." + signed(GOOD).split(".", 1)[1])


@pytest.mark.parametrize(
    "headers", [{"typ": "at+jwt"}, {"typ": "refresh"}, {"crit": ["x"], "x": 1}, {"crit": []}, {"crit": "b64"}]
)
def test_a_header_that_asks_for_something_else_is_refused(headers: dict[str, Any]) -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", **headers}).encode()).rstrip(b"=").decode()
    body = base64.urlsafe_b64encode(json.dumps(GOOD).encode()).rstrip(b"=").decode()
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(f"{head}.{body}".encode(), algorithm.prepare_key(KEY))
    assert_refused(f"{head}.{body}." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode())


def test_a_token_without_its_payload_is_refused() -> None:
    assert_refused(jwt.PyJWS().encode(json.dumps(GOOD).encode(), KEY, "HS256", {"b64": False, "crit": ["b64"]}))


def test_a_token_longer_than_4_kib_is_refused_unread() -> None:
    room = MAX_TOKEN_CHARACTERS - len(signed(GOOD, headers={"x": ""}))
    TOKENS.verify(signed(GOOD, headers={"x": "x" * (room * 3 // 4)}), NOW)
    assert_refused(signed(GOOD, headers={"x": "x" * room}))
    assert_refused("A" * 5_000_000)


@given(st.data())
def test_a_token_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    token = TOKENS.issue("ann", "session", "token", NOW)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(
        st.sampled_from(string.ascii_letters + string.digits + "-_.= \n\x00é").filter(lambda c: c != token[at])
    )
    assert_refused(token[:at] + other + token[at + 1 :])


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}"))
def test_no_text_breaks_the_verifier(text: str) -> None:
    assert_refused(text)


@pytest.mark.parametrize("text", ["", ".", "..", "...", "\ud800", "a.b.c", "Bearer x", "é.é.é"])
def test_what_is_no_token_is_refused(text: str) -> None:
    assert_refused(text)


def test_a_header_nested_to_the_limit_is_refused() -> None:
    head = base64.urlsafe_b64encode(b"[" * 3000).rstrip(b"=").decode()
    assert_refused(f"{head}.AAAA.AAAA")


def test_a_refresh_token_is_no_access_token() -> None:
    assert_refused(new_refresh_token(lambda n: b"r" * n))


def test_a_lifetime_must_be_one() -> None:
    with pytest.raises(ConfigError):
        AccessTokens(SigningKeys(KEY), lifetime_ms=0)


def principal(sid: str = "session", expires_at_ms: int | None = NOW + 1) -> Principal:
    return Principal("ann", Role.MEMBER, (), sid, expires_at_ms, "token")


def test_the_cache_gives_back_what_was_put_until_it_expires() -> None:
    cache, who = VerifiedTokens(), principal()
    cache.put("token", who)
    assert cache.get("token", NOW) is who
    assert cache.get("other", NOW) is None
    assert cache.get("token", NOW + 1) is None
    assert len(cache) == 0


def test_what_does_not_expire_stays() -> None:
    cache = VerifiedTokens()
    cache.put("key", principal(expires_at_ms=None))
    assert cache.get("key", NOW * 2)


def test_the_cache_is_bounded_and_drops_the_least_recently_used() -> None:
    cache = VerifiedTokens(capacity=2)
    for token in ("a", "b"):
        cache.put(token, principal())
    assert cache.get("a", NOW)
    cache.put("c", principal())
    assert cache.get("b", NOW) is None
    assert cache.get("a", NOW)
    assert cache.get("c", NOW)
    assert len(cache) == 2


def test_dropping_a_session_leaves_the_others() -> None:
    cache = VerifiedTokens()
    for token, sid in (("a", "1"), ("b", "2"), ("c", "1")):
        cache.put(token, principal(sid))
    cache.drop(lambda who: who.sid == "1")
    assert [token for token in "abc" if cache.get(token, NOW)] == ["b"]


def test_refresh_tokens_are_random_and_stored_as_digests() -> None:
    token = new_refresh_token(lambda n: bytes(range(n)))
    digest = refresh_token_digest(token)
    assert digest is not None
    assert len(digest) == 32
    assert refresh_token_digest(new_refresh_token(lambda n: b"r" * n)) != digest


@pytest.mark.parametrize("text", ["", "sbr_", "x" * 47, "sbr_" + "é" * 43, "sbr_" + "a" * 44, "sbr_" + "\ud800" * 43])
def test_what_cannot_be_a_refresh_token_has_no_digest(text: str) -> None:
    assert refresh_token_digest(text) is None
