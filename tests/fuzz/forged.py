"""Access tokens that nobody issued: every way to forge, mangle or misuse one that we know of (RFC 8725, RFC 7515)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

ALGORITHMS: dict[str, Any] = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
# What tools and tutorials sign with, and what somebody who guesses tries first.
WEAK_KEYS = [b"", b"secret", b"your-256-bit-secret", b"changeme", b"streambroker", b"\0" * 32, b"a" * 32, b"k" * 64]
# Each is of a type that the claim has not, or out of all bounds.
WRONG_VALUES: list[Any] = [
    None, True, False, "", "1e9", [], {}, [1], {"a": 1}, -1, 0, 1, 10**15, 10**30, -(10**30), 1e308, 0.5,
    "99999999999", ["streambroker"], ["streambroker", "other"], {"streambroker": True}, "streambroker\0",
    "Streambroker",
]  # fmt: skip
ANY_TEXT = ("sub", "sid", "jti")
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "01", "+1", "1_0", "--1"]
STRAY = {
    "padding": "=", "more padding": "==", "space": " ", "newline": "\n", "tab": "\t", "NUL": "\0", "é": "é", "dot": ".",
    "A": "A", "percent": "%20", "quote": "'",
}  # fmt: skip
HOSTILE_KIDS: list[Any] = [
    "", "../../../../dev/null", "/etc/passwd", "jwt.key", "' OR '1'='1", "1; DROP TABLE users", "k" * 10_240, "\0",
    "\n", {"kid": "x"}, ["x"], 0, 1.5, True, None, "é", "\ud800",
]  # fmt: skip


CRITICAL: list[Any] = [["b64"], ["exp"], ["x"], [], "b64", {}, None, [1], ["alg", "kid"]]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: Any, payload: bytes, key: bytes, algorithm: str = "HS256") -> str:
    """A token of exactly this header and payload, whatever they are."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{b64(head)}.{b64(payload)}"
    return f"{signing_input}.{b64(hmac.digest(key, signing_input.encode(), ALGORITHMS[algorithm]))}"


class Forger:
    """Who holds a good token, and (for the worst case) the key that signed it; `key_id` is that key's.

    Every mutant has a name of its own that says what is wrong with it.
    """

    def __init__(self, token: str, key: bytes) -> None:
        self.token = token
        self.key = key
        self.head, self.body, self.signature = token.split(".")
        self.header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(self.head + "=="))
        self.payload = base64.urlsafe_b64decode(self.body + "==")
        self.claims: dict[str, Any] = json.loads(self.payload)

    def same(self) -> str:
        """The token made anew with the same tools: what shows that the others are refused for what is wrong in them."""
        return signed(self.header, self.payload, self.key)

    def mutants(self) -> Iterator[tuple[str, str]]:
        """All of them, each with its name."""
        yield from self._other_algorithms()
        yield from self._other_keys()
        yield from self._other_headers()
        yield from self._other_claims()
        yield from self._other_shapes()
        yield from self._no_tokens()

    def _other_algorithms(self) -> Iterator[tuple[str, str]]:
        for alg in ("none", "None", "NONE", "nOnE", "", "HS1", "hs256", "HS256 ", "RS256", "ES256", "PS256", "EdDSA"):
            head = {**self.header, "alg": alg}
            yield f"alg {alg!r}, unsigned", f"{b64(json.dumps(head).encode())}.{self.body}."
            yield f"alg {alg!r}, its signature kept", f"{b64(json.dumps(head).encode())}.{self.body}.{self.signature}"
            yield f"alg {alg!r}, signed", signed(head, self.payload, self.key)
        for value in (None, 1, True, [], ["HS256"], {"HS256": 1}):
            yield f"alg {value!r}, signed", signed({**self.header, "alg": value}, self.payload, self.key)
        for alg in ("HS384", "HS512"):
            yield f"{alg} with the right key", signed({**self.header, "alg": alg}, self.payload, self.key, alg)
            yield f"{alg} that says HS256", signed(self.header, self.payload, self.key, alg)
        without = {name: value for name, value in self.header.items() if name != "alg"}
        yield "no alg", signed(without, self.payload, self.key)

    def _other_keys(self) -> Iterator[tuple[str, str]]:
        for key in (*WEAK_KEYS, self.key[:-1], self.key + b"\0\1", self.key[::-1], self.key.hex().encode()):
            name = hashlib.sha256(key).hexdigest()[:8]
            yield f"signed with the key {name}", signed(self.header, self.payload, key)
            yield f"signed with the key {name}, no kid", signed({"alg": "HS256"}, self.payload, key)
        for name in ("jwk", "jku", "x5u", "x5c", "x5t"):
            value = {"kty": "oct", "k": b64(b"k" * 32)} if name == "jwk" else "http://127.0.0.1:9/key"
            yield f"brings its own key in {name}", signed({**self.header, name: value}, self.payload, b"k" * 32)

    def _other_headers(self) -> Iterator[tuple[str, str]]:
        for kid in HOSTILE_KIDS:
            yield f"kid {str(kid)[:20]!r}", signed({**self.header, "kid": kid}, self.payload, self.key)
        for crit in CRITICAL:
            yield f"crit {crit!r}", signed({**self.header, "crit": crit}, self.payload, self.key)
        yield "b64 false", signed({**self.header, "crit": ["b64"], "b64": False}, self.payload, self.key)
        for typ in ("at+jwt", "JWE", "refresh", "jwt ", 1, None, ["JWT"]):
            yield f"typ {typ!r}", signed({**self.header, "typ": typ}, self.payload, self.key)
        for index, head in enumerate((b"", b"null", b"[]", b'"HS256"', b"{", b"[" * 2_000, b"\xff\xfe", b"{}")):
            yield f"header {index}", signed(head, self.payload, self.key)

    def _other_claims(self) -> Iterator[tuple[str, str]]:
        for claim in self.claims:
            without = {name: value for name, value in self.claims.items() if name != claim}
            yield f"no {claim}", self._claiming(without)
            for value in WRONG_VALUES:
                if not (value and isinstance(value, str) and claim in ANY_TEXT):
                    yield f"{claim} {value!r}", self._claiming({**self.claims, claim: value})
            twice = json.dumps(self.claims)[:-1] + f", {json.dumps(claim)}: null}}"
            yield f"{claim} twice", signed(self.header, twice.encode(), self.key)
        for claim in ("iat", "exp"):
            for text in NO_NUMBERS:
                payload = json.dumps({**self.claims, claim: "@"}).replace('"@"', text)
                yield f"{claim} {text}", signed(self.header, payload.encode(), self.key)
        for name in ("nbf", "role", "admin", "grants", "", "EXP", "__proto__", "sub\0"):
            yield f"with a claim {name!r}", self._claiming({**self.claims, name: "admin"})
        iat, exp = self.claims["iat"], self.claims["exp"]
        yield "ended", self._claiming({**self.claims, "iat": iat - 86_400, "exp": exp - 86_400})
        yield "of tomorrow", self._claiming({**self.claims, "iat": iat + 86_400, "exp": exp + 86_400})
        yield "good for a year", self._claiming({**self.claims, "exp": exp + 365 * 86_400})
        no_claims = (b"", b"null", b"[]", b"1", b"{", b"[" * 2_000, b"\xff", b"\xef\xbb\xbf{}", b"{}")
        for index, no_claim in enumerate(no_claims):
            yield f"payload {index}", signed(self.header, no_claim, self.key)

    def _claiming(self, claims: dict[str, Any]) -> str:
        return signed(self.header, json.dumps(claims).encode(), self.key)

    def _other_shapes(self) -> Iterator[tuple[str, str]]:
        head, body, signature = self.head, self.body, self.signature
        for count in (0, 1, 2, 4, 5, 6):
            yield f"{count} parts", ".".join([head, body, signature, signature, body, head][:count])
        for name, text in STRAY.items():
            yield f"{name} first", f"{text}{self.token}"
            yield f"{name} in the header", f"{head[:9]}{text}{head[9:]}.{body}.{signature}"
            yield f"{name} after the header", f"{head}{text}.{body}.{signature}"
            yield f"{name} after the claims", f"{head}.{body}{text}.{signature}"
            yield f"{name} in the signature", f"{head}.{body}.{signature[:9]}{text}{signature[9:]}"
            if name != "padding":  # see test_a_padded_signature_is_refused
                yield f"{name} last", f"{self.token}{text}"
        for left in (0, 1, 10, 42):
            yield f"{left} characters of the signature", f"{head}.{body}.{signature[:left]}"
        raw = base64.urlsafe_b64decode(signature + "=")
        for bit in (0, 7, 100, 255):
            flipped = int.from_bytes(raw, "big") ^ (1 << bit)
            yield f"bit {bit} of the signature flipped", f"{head}.{body}.{b64(flipped.to_bytes(32, 'big'))}"
        for last in "ABCDEFGH":
            if last != signature[-1]:
                yield f"ends in {last}", f"{head}.{body}.{signature[:-1]}{last}"
        yield "upside down", f"{signature}.{body}.{head}"
        yield "in capitals", self.token.upper()
        yield (
            "the signature of another",
            f"{head}.{b64(json.dumps({**self.claims, 'sub': 'root'}).encode())}.{signature}",
        )
        yield "4 KiB and more", signed({**self.header, "x": "x" * 3_500}, self.payload, self.key)
        yield "8 KiB and more", f"{head}.{body}.{signature}{'A' * 8_192}"

    def _no_tokens(self) -> Iterator[tuple[str, str]]:
        secret = b64(hashlib.sha256(b"none that was made").digest())
        for text in (
            "null",
            "undefined",
            "true",
            "0",
            "admin",
            "Bearer",
            "..",
            "a.b.c",
            "é.é.é",
            "'",
            "%00",
            "\\u0000",
        ):
            yield f"just {text!r}", text
        for prefix in ("sbk_", "sbr_", "sbk_sbk_", "SBK_", "sbk-"):
            yield f"like a secret, {prefix}", prefix + secret
        yield "a short API key", "sbk_" + secret[:42]
        yield "a long API key", "sbk_" + secret + "A"
        yield "an API key beyond ASCII", "sbk_" + "é" * 43
        yield "an API key of NULs", "sbk_" + "\0" * 43
