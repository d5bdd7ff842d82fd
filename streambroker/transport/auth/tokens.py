"""Tokens: access tokens that prove themselves, refresh tokens and API keys that are looked up. No I/O, no clock."""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated

import jwt
import msgspec

from streambroker.core.access import Principal
from streambroker.core.errors import ConfigError, Unauthenticated
from streambroker.transport.auth.keys import SigningKeys

MAX_TOKEN_CHARACTERS = 4096
"""A longer access token is refused unread: decoding one of 5 MB takes 180 ms of the event loop."""
CLOCK_LEEWAY_MS = 10_000
"""How far in the future a token may have been issued: by a node whose clock runs ahead, or before a clock's step."""
MINUTE_MS = 60_000
_ALGORITHM = "HS256"
API_KEY_PREFIX = "sbk_"
_REFRESH_PREFIX = "sbr_"
_SECRET_BYTES = 32
_SECRET_CHARACTERS = 4 + 43

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
# RFC 7519 §2: a NumericDate is seconds since 1970 and may have a fraction. msgspec takes neither a string nor a
# boolean for it, nor NaN, which PyJWT lets through.
NumericDate = int | float


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an access token says: exactly these claims, each required and of this type (RFC 7519 §4.1)."""

    iss: Name
    aud: Name
    sub: Name
    sid: Name
    jti: Name
    iat: NumericDate
    exp: NumericDate

    @property
    def expires_at_ms(self) -> int:
        """When the token ends, in milliseconds since 1970."""
        return round(self.exp * 1000)


_decoder = msgspec.json.Decoder(Claims)


class AccessTokens:
    """Issues and verifies access tokens: JWTs signed with HS256, as RFC 8725 (JWT Best Current Practices) asks.

    `lifetime_ms` is how long a new token is good for, and the longest that an accepted one may be. Issuer and
    audience are fixed per deployment, so that a token of another system with the same key is none here.
    """

    def __init__(
        self,
        keys: SigningKeys,
        *,
        lifetime_ms: int,
        issuer: str = "streambroker",
        audience: str = "streambroker",
    ) -> None:
        if lifetime_ms < 1:
            raise ConfigError("The lifetime of access tokens must be at least 1 ms.")
        self.lifetime_ms = lifetime_ms
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._jws = jwt.PyJWS(algorithms=[_ALGORITHM], options={"enforce_minimum_key_length": True})
        # A second less of a minute or more is nothing, and whole seconds are what every JWT library reads. Of a
        # lifetime of two seconds it would be half.
        self._precision_ms = 1000 if lifetime_ms >= MINUTE_MS else 1

    def issue(self, username: str, sid: str, jti: str, now_ms: int) -> str:
        """A new access token of user `username` in session `sid`."""
        issued_ms = now_ms - now_ms % self._precision_ms
        claims = Claims(
            iss=self._issuer,
            aud=self._audience,
            sub=username,
            sid=sid,
            jti=jti,
            iat=_numeric_date(issued_ms),
            exp=_numeric_date(issued_ms + self.lifetime_ms),
        )
        return self._jws.encode(
            msgspec.json.encode(claims), self._keys.current, _ALGORITHM, {"kid": self._keys.current_id}
        )

    def verify(self, token: str, now_ms: int) -> Claims:
        """The claims of a token that one of the live keys signed and that is good now.

        Raises `Unauthenticated` for every other text, however mangled. Whether its session was revoked or its user
        still exists is not in the token; the caller asks that.
        """
        claims = self._claims(token)
        if claims.iss != self._issuer or claims.aud != self._audience:
            raise _refused()
        self._check_times(claims, now_ms)
        return claims

    def _claims(self, token: str) -> Claims:
        # RFC 7515 §2 leaves the padding out; PyJWT takes it all the same.
        if len(token) > MAX_TOKEN_CHARACTERS or "=" in token:
            raise _refused()
        try:
            return _decoder.decode(self._signed_payload(token))
        except (jwt.PyJWTError, msgspec.MsgspecError, ValueError, RecursionError):
            # Not even which check failed is told: that helps only somebody who guesses.
            raise _refused() from None

    def _signed_payload(self, token: str) -> bytes:
        header = self._jws.get_unverified_header(token)
        # RFC 7515 §4.1.4, §4.1.9: both may be absent. The current key and no other is meant then.
        key = self._keys.find(header.get("kid", self._keys.current_id))
        if key is None or header.get("typ", "JWT") != "JWT":
            raise _refused()
        payload: bytes = self._jws.decode(token, key, algorithms=[_ALGORITHM])
        return payload

    def _check_times(self, claims: Claims, now_ms: int) -> None:
        now, lifetime, leeway = now_ms / 1000, self.lifetime_ms / 1000, CLOCK_LEEWAY_MS / 1000
        if claims.exp <= now:
            raise Unauthenticated("The access token has expired. Get a new one with the refresh token.")
        # The microsecond is what the difference of two times as floats may be off by.
        if not 0 < claims.iat <= now + leeway or not 0 < claims.exp - claims.iat <= lifetime + 1e-6:
            raise _refused()


class VerifiedTokens:
    """Principals of tokens that were verified already, by the token's text: the least recently used of them leave.

    One owner, the authentication service. Only verified tokens come in, so that a flood of bad ones drives none out.
    """

    def __init__(self, capacity: int = 8192) -> None:
        self._capacity = capacity
        self._principals: OrderedDict[str, Principal] = OrderedDict()

    def __len__(self) -> int:
        return len(self._principals)

    def get(self, token: str, now_ms: int) -> Principal | None:
        """The principal of `token`, unless it is not known here or its time is over."""
        principal = self._principals.get(token)
        if principal is None:
            return None
        if principal.expires_at_ms is not None and principal.expires_at_ms <= now_ms:
            del self._principals[token]
            return None
        self._principals.move_to_end(token)
        return principal

    def put(self, token: str, principal: Principal) -> None:
        """Remember what `token` proved."""
        self._principals[token] = principal
        if len(self._principals) > self._capacity:
            self._principals.popitem(last=False)

    def drop(self, unwanted: Callable[[Principal], bool]) -> None:
        """Forget all principals that are unwanted. Looks at each: under a millisecond, against 30 ms for a login."""
        for token in [token for token, principal in self._principals.items() if unwanted(principal)]:
            del self._principals[token]


def new_refresh_token(random_bytes: Callable[[int], bytes]) -> str:
    """A refresh token: 256 random bits and a prefix by which leaked ones are found. It says nothing by itself."""
    return _new_secret(_REFRESH_PREFIX, random_bytes)


def refresh_token_digest(token: str) -> bytes | None:
    """What is stored of a refresh token, its SHA-256; None for a text that cannot be one."""
    return _secret_digest(_REFRESH_PREFIX, token)


def new_api_key(random_bytes: Callable[[int], bytes]) -> str:
    """An API key, made as a refresh token is."""
    return _new_secret(API_KEY_PREFIX, random_bytes)


def api_key_digest(key: str) -> bytes | None:
    """What is stored of an API key, its SHA-256; None for a text that cannot be one."""
    return _secret_digest(API_KEY_PREFIX, key)


def _new_secret(prefix: str, random_bytes: Callable[[int], bytes]) -> str:
    return prefix + base64.urlsafe_b64encode(random_bytes(_SECRET_BYTES)).rstrip(b"=").decode()


def _secret_digest(prefix: str, secret: str) -> bytes | None:
    # A plain hash is enough: there are 256 bits of randomness, nothing to guess.
    if len(secret) != _SECRET_CHARACTERS or not secret.startswith(prefix) or not secret.isascii():
        return None
    return hashlib.sha256(secret.encode()).digest()


def _numeric_date(ms: int) -> NumericDate:
    return ms / 1000 if ms % 1000 else ms // 1000


def _refused() -> Unauthenticated:
    return Unauthenticated("The access token is not valid.")
