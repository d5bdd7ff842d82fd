"""Why no connection could be made, in words that say what to do."""

from __future__ import annotations

import re

from streambroker.client.errors import ConnectionLost, Untrusted

_CERTIFICATE = re.compile(r"certificate verify failed: (?P<why>.+?)(?: \(_ssl\.c:\d+\))?$")
_OF_THE_AUTHORITY = ("self-signed", "self signed", "unable to get")
_NAME_IT = "name whom to trust: Client(…, verify=ssl.create_default_context(cafile='ca.pem')), or SSL_CERT_FILE"


def unreachable(scheme: str, where: str, why: str) -> ConnectionLost:
    """The error of a connection by `scheme` (http, https, ws, wss) to `where` that failed as `why` says.

    `Untrusted` where the broker's certificate is not accepted.
    """
    if (certificate := _CERTIFICATE.search(why)) is not None:
        return Untrusted(f"the certificate of {where} is not trusted: {_advised(certificate['why'])}")
    return ConnectionLost(f"cannot connect to {where}: {why}{_other_scheme(scheme, why)}", sent=False)


def lost(scheme: str, why: str) -> ConnectionLost:
    """The error of a connection by `scheme` that ended before its answer, as `why` says."""
    return ConnectionLost(f"the connection was lost: {why.rstrip('.')}{_other_scheme(scheme, why)}")


def _advised(why: str) -> str:
    """What OpenSSL says of a certificate, and what helps where its authority is not known."""
    return f"{why}; {_NAME_IT}" if why.startswith(_OF_THE_AUTHORITY) else why


def _other_scheme(scheme: str, why: str) -> str:
    """A hint where one side speaks TLS and the other does not; empty for all else."""
    if scheme in ("https", "wss") and ("WRONG_VERSION_NUMBER" in why or "RECORD_LAYER_FAILURE" in why):
        return "; if the broker speaks no TLS, its URL begins with http:"
    if (scheme == "ws" and "valid HTTP response" in why) or (scheme == "http" and "without sending a response" in why):
        return "; if the broker speaks TLS, its URL begins with https:"
    return ""
