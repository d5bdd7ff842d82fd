"""Who may do what: roles, grants and the one function that decides on permission.

REST, WebSocket, SSE, GraphQL and the dashboard all ask `decide()`; no door has a rule of its own (OWASP ASVS 5.0,
V8: one well-vetted mechanism, deny by default).
"""

from __future__ import annotations

import enum
import re
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated

import msgspec

from streambroker.core.errors import Forbidden, NotFound

# `(?!\n)`: "$" alone lets a trailing newline through, and "\Z" is not known to JSON Schema's regular expressions.
QUEUE_GLOB = r"^[A-Za-z0-9._*?-]{1,128}$(?!\n)"
QueueGlob = Annotated[
    str,
    msgspec.Meta(pattern=QUEUE_GLOB, description="Queue names, with * for any characters and ? for exactly one."),
]
_REMEMBERED_QUEUES = 1_024
_REMEMBERED_GRANTS = 128


class Role(enum.StrEnum):
    """What kind of user: an admin may do everything, a member what the grants say."""

    ADMIN = "admin"
    MEMBER = "member"


class Action(enum.StrEnum):
    """What a grant can allow on the queues it names. None of them implies another."""

    # One bit each, so that what all grants together allow on a queue is one small number.
    bit: int

    PUBLISH = "publish"
    CONSUME = "consume"
    MANAGE = "manage"
    VIEW = "view"

    def __init__(self, _: str) -> None:
        self.bit = 1 << len(type(self).__members__)


class Decision(enum.Enum):
    """The answer to "may I?"."""

    ALLOW = "allow"
    HIDDEN = "hidden"
    """No grant names the queue: it must look as if it did not exist (404)."""
    DENY = "deny"
    """A grant names the queue, but none allows the action (403)."""


# Every request is decided upon, and Python 3.11 takes 110 ns to find a member through its class.
_ADMIN, _ALLOW, _HIDDEN, _DENY = Role.ADMIN, Decision.ALLOW, Decision.HIDDEN, Decision.DENY


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Actions allowed on the queues that a glob names.

    In the glob `*` stands for any characters, none too, and `?` for exactly one; all else stands for itself, case
    included. There are no character classes, so that every queue name is a glob of itself.
    """

    queues: QueueGlob
    actions: Annotated[tuple[Action, ...], msgspec.Meta(min_length=1, max_length=len(Action))]


Grants = Annotated[tuple[Grant, ...], msgspec.Meta(max_length=100)]
"""All grants of one user or key, as a request may give them."""


class _Matcher:
    """What grants allow on a queue, remembered by queue; shared by all principals with equal grants.

    With a ceiling, it is what both lists allow. The memory is bounded because its keys come from clients: 1,024 names
    of each list of grants, so that a thousand queues are listed at once, and those of the 128 lists that began to
    remember last. Names that no grant names are not remembered. What is full starts anew.
    """

    __slots__ = ("_allowed", "_lists")

    def __init__(self, grants: tuple[Grant, ...], ceiling: tuple[Grant, ...] | None) -> None:
        self._lists = [_rules(given) for given in (grants, ceiling) if given is not None]
        self._allowed: dict[str, int] = {}

    def allowed(self, queue: str) -> int:
        """The sum of the bits of all allowed actions; -1 when no grant names the queue."""
        known = self._allowed.get(queue)
        return self._match(queue) if known is None else known

    def _match(self, queue: str) -> int:
        allowed = -1
        for rules in self._lists:
            bits = [bit for pattern, bit in rules if pattern.fullmatch(queue)]
            if not bits:
                allowed = -1
                break
            allowed &= reduce(or_, bits)  # -1 is all bits
        if allowed >= 0:
            self._remember(queue, allowed)
        return allowed

    def _remember(self, queue: str, allowed: int) -> None:
        if len(self._allowed) >= _REMEMBERED_QUEUES:
            self._allowed.clear()
        elif not self._allowed:
            if len(_remembering) == _REMEMBERED_GRANTS:
                _remembering.popleft()._allowed.clear()
            _remembering.append(self)
        self._allowed[queue] = allowed


def _rules(grants: tuple[Grant, ...]) -> list[tuple[re.Pattern[str], int]]:
    return [(_compile(grant.queues), sum({a.bit for a in grant.actions})) for grant in grants]


def _compile(glob: str) -> re.Pattern[str]:
    head, *rest = (re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", glob))
    if not rest:
        return re.compile(head, re.DOTALL)
    *middle, tail = rest
    # Atomic groups: the first fit of each part is final, which is right for globs and keeps `*a*a*a*a*` from taking
    # exponential time on a name that does not match.
    return re.compile(head + "".join(f"(?>.*?{part})" for part in middle) + ".*" + tail, re.DOTALL)


_matcher = lru_cache(maxsize=_REMEMBERED_GRANTS)(_Matcher)
# Those that remember anything. Principals keep their matcher alive, so the cache alone would not bound how many do.
_remembering: deque[_Matcher] = deque()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request, as far as it was proven; made by authentication only, passed along as an argument.

    `sid` is the session that a logout ends, `jti` the token's own id; both are empty where an API key proved it, whose
    id is `key_id`. A key with grants of its own has these, and its user's as `ceiling`, above which it cannot rise
    (None: no ceiling, its user may do everything). `expires_at_ms` is milliseconds since 1970 UTC, None for what does
    not expire. A principal is a snapshot: when the user's role or grants change, the next authentication gives a new
    one.
    """

    username: str
    role: Role
    grants: tuple[Grant, ...]
    sid: str
    expires_at_ms: int | None
    jti: str
    key_id: str | None = None
    ceiling: tuple[Grant, ...] | None = None
    _matcher: _Matcher = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_matcher", _matcher(self.grants, self.ceiling))


def accountable(principal: Principal) -> str:
    """Whose quotas count what `principal` creates: the user's; nobody's, an empty name, where it is an admin."""
    return "" if principal.role is _ADMIN else principal.username


def decide(principal: Principal, action: Action, queue: str) -> Decision:
    """Whether `principal` may do `action` on `queue`: the one rule for every door.

    An admin may do everything. Otherwise grants add up: the action is allowed when any grant that names the queue
    allows it; under a ceiling, when any of its grants does as well. It does not matter whether the queue exists, so
    the answer tells nothing about that.
    """
    if principal.role is _ADMIN:
        return _ALLOW
    allowed = principal._matcher.allowed(queue)
    if allowed < 0:
        return _HIDDEN
    return _ALLOW if allowed & action.bit else _DENY


def require(principal: Principal, action: Action, queue: str) -> None:
    """Return when `decide()` allows it; raises `NotFound` for HIDDEN and `Forbidden` for DENY."""
    decision = decide(principal, action, queue)
    if decision is _ALLOW:
        return
    if decision is _HIDDEN:
        raise NotFound(f"There is no queue {queue!r}.")
    raise Forbidden(f"Your grants on queue {queue!r} do not allow {action.value!r}.")


def require_admin(principal: Principal) -> None:
    """Return when `principal` is an admin; raises `Forbidden`."""
    if principal.role is not _ADMIN:
        raise Forbidden("Only an admin may do this.")


def require_session(principal: Principal, instead: str) -> None:
    """Return when `principal` has logged in; raises `Forbidden` with `instead`, what to do, for an API key."""
    if principal.key_id is not None:
        raise Forbidden(f"An API key may not do this; {instead}.")


def may_view_all(principal: Principal) -> bool:
    """Whether `principal` may see figures that are not of one queue (stats, metrics): an admin, or `view` on `*`.

    A glob such as `orders.*` is not enough, however many queues it happens to name today.
    """
    if principal.role is Role.ADMIN:
        return True
    return _view_all(principal.grants) and (principal.ceiling is None or _view_all(principal.ceiling))


def _view_all(grants: tuple[Grant, ...]) -> bool:
    return any(Action.VIEW in grant.actions and not grant.queues.strip("*") for grant in grants)
