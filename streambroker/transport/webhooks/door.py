"""The door where webhooks are made, changed and looked at."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from msgspec import UNSET, structs

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Decision, Principal, accountable, decide, require
from streambroker.core.errors import Conflict, NotFound, invalid
from streambroker.core.message import STATUS_OF, Message, State
from streambroker.core.names import format_id, parse_id
from streambroker.protocol.json import JsonDecoder, encode
from streambroker.protocol.messages import shown
from streambroker.protocol.times import rfc3339
from streambroker.store.sql.webhooks import Delivery, Headers, Recent, Webhook
from streambroker.transport.auditing import audited
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.webhooks import schemas
from streambroker.transport.webhooks.addresses import Blocked, Vetting, target
from streambroker.transport.webhooks.fleet import Fleet, no_such_webhook
from streambroker.transport.webhooks.signing import check_secret, new_secret

LOOKUP_S = 5.0
MAX_HEADER = 1_024

_is_id = re.compile(r"[0-9a-f]{24}").fullmatch
_is_header_name = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}").fullmatch
_is_header_value = re.compile(r"[!-~](?:[ -~]*[!-~])?").fullmatch
_OURS = re.compile(
    r"webhook-.*|host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|accept"
    r"|user-agent|traceparent"
).fullmatch

_webhook = JsonDecoder[schemas.WebhookIn](schemas.WebhookIn)
_change = JsonDecoder[schemas.WebhookChange](schemas.WebhookChange)


class WebhooksDoor:
    """Handlers over the fleet. `wall` gives milliseconds since 1970 UTC; `random_bytes` must be unpredictable."""

    def __init__(
        self,
        fleet: Fleet,
        broker: Broker,
        vetting: Vetting,
        wall: Callable[[], int],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._fleet = fleet
        self._broker = broker
        self._vetting = vetting
        self._wall = wall
        self._random_bytes = random_bytes

    # -- making and changing -------------------------------------------------------------------------------------------

    @audited
    async def create(self, call: Call) -> Reply:
        """Make a webhook: the queue's messages are pushed to a URL. Takes `manage` and `consume` on the queue.

        It acts for the caller, with the caller's rights. A queue that does not exist is created. The secret is shown
        only in this answer, and only where the broker made it.
        """
        queue = call.queue(Action.MANAGE)
        require(call.user, Action.CONSUME, queue)
        self._fleet.available()
        self._broker.check_queue(queue)
        given = await call.json(_webhook)
        await self._vet(given.url)
        headers = _headers(given.headers)
        if given.secret is not None:
            check_secret(given.secret)
        await self._broker.ensure_queue(queue, accountable(call.user))
        now = self._wall()
        webhook = Webhook(
            id=f"{now:012x}{self._random_bytes(6).hex()}",
            queue=queue,
            username=call.user.username,
            key_id=call.user.key_id,
            url=given.url,
            headers=headers,
            secret=given.secret or new_secret(self._random_bytes),
            previous_secret=None,
            previous_until=None,
            description=given.description,
            concurrency=given.concurrency,
            timeout_ms=given.timeout_ms,
            disable_after_ms=given.disable_after_ms,
            disabled=given.disabled,
            orphaned=False,
            reason=None,
            failing_since=None,
            created_at=now,
            updated_at=now,
        )
        await self._fleet.add(webhook)
        return reply(self._shown(webhook, given.secret is None), 201)

    @audited
    async def change(self, call: Call) -> Reply:
        """Change a webhook; members that are absent stay.

        Who changes the URL, the headers or the secret, or enables it, must be allowed to consume too, and is the one
        that it acts for from then on. Headers, which may hold a password, do not go along to another host: a URL there
        takes them anew.
        """
        queue, webhook = await self._named(call)
        given = await call.json(_change)
        if given.reaches_further():
            require(call.user, Action.CONSUME, queue)
            self._fleet.available()
        if given.url is not UNSET:
            if webhook.headers and given.headers is UNSET and _leads_elsewhere(webhook.url, given.url):
                raise invalid("/headers", "are not sent to another host; give them anew, or {} for none")
            await self._vet(given.url)
        if given.secret is not UNSET:
            check_secret(given.secret)
            if given.rotate_secret:
                raise invalid("/rotate_secret", "makes a secret; leave it out where you give one")
        if given.headers is not UNSET:
            _headers(given.headers)
        fresh = new_secret(self._random_bytes) if given.rotate_secret else None
        now, user = self._wall(), call.user
        changed = await self._fleet.change(webhook.id, lambda found: _changed(found, given, fresh, user, now))
        return reply(self._shown(changed, fresh is not None))

    @audited
    async def delete(self, call: Call) -> Reply:
        """Delete a webhook with its log. Requests under way come to their end."""
        _, webhook = await self._named(call)
        await self._fleet.remove(webhook.id)
        return Reply(204)

    async def _vet(self, url: str) -> None:
        """Raises `Invalid` for a URL that no request would be made to."""
        goal = target(url)
        try:
            async with asyncio.timeout(LOOKUP_S):
                await self._vetting.addresses(goal)
        except Blocked as error:
            raise invalid(
                "/url",
                f"its host is {error}; webhooks only go there if the setting webhook_allow_private names it",
            ) from None
        except (OSError, TimeoutError):
            raise invalid("/url", "its host has no address") from None

    # -- looking -------------------------------------------------------------------------------------------------------

    async def webhooks(self, call: Call) -> Reply:
        """List the webhooks of a queue in the order in which they were made."""
        queue = call.queue(Action.MANAGE)
        self._broker.queue(queue)
        page = call.options(schemas.WebhooksQuery)
        seen = await self._fleet.page(queue, page.cursor or "", page.limit + 1)
        items = [self._shown(webhook) for webhook in seen[: page.limit]]
        return reply(schemas.WebhookPage(items, items[-1].id if len(seen) > page.limit else None))

    async def every(self, call: Call) -> Reply:
        """List the webhooks of all queues that you may manage, and how each did of late."""
        page = call.options(schemas.AllWebhooksQuery)

        def seen(queue: str) -> bool:
            wanted = page.queue is None or queue == page.queue
            return wanted and decide(call.user, Action.MANAGE, queue) is Decision.ALLOW

        found = await self._fleet.every(seen, page.cursor or "", page.limit + 1)
        items = [self._standing(webhook, recent) for webhook, recent in found[: page.limit]]
        return reply(schemas.WebhookStandings(items, items[-1].id if len(found) > page.limit else None))

    async def webhook(self, call: Call) -> Reply:
        """Look at a webhook: how it is set, and how it stands."""
        _, webhook = await self._named(call)
        return reply(self._shown(webhook))

    async def deliveries(self, call: Call) -> Reply:
        """The newest 100 requests to a webhook and what came of them, the newest first."""
        _, webhook = await self._named(call)
        page = call.options(schemas.DeliveriesQuery)
        seen = await self._fleet.deliveries(webhook.id, page.cursor, page.limit + 1)
        items = [_delivery(one) for one in seen[: page.limit]]
        return reply(schemas.DeliveryPage(items, items[-1].id if len(seen) > page.limit else None))

    async def _named(self, call: Call) -> tuple[str, Webhook]:
        """The queue and the webhook that the path names. Raises `Invalid`, `NotFound`, `Forbidden`."""
        queue = call.queue(Action.MANAGE)
        webhook_id = call.params["webhook_id"]
        if not _is_id(webhook_id):
            raise no_such_webhook()
        return queue, await self._fleet.get(queue, webhook_id)

    # -- trying it -----------------------------------------------------------------------------------------------------

    async def test(self, call: Call) -> Reply:
        """Make one request that is no message, also to a webhook that is disabled, and tell what came of it."""
        _, webhook = await self._named(call)
        now = self._wall()
        about = {"webhook_id": webhook.id, "queue": webhook.queue}
        body = encode({"type": "webhook.test", "timestamp": rfc3339(now), "data": about})
        name = f"test_{self._random_bytes(12).hex()}"
        return reply(_delivery(await self._fleet.send(webhook, "test", name, body)))

    async def redeliver(self, call: Call) -> Reply:
        """Deliver a message once more; the path names one of the log's deliveries, or the message itself.

        A message that is processed is sent again as it is, and stays processed. One that has failed is made ready
        again in its queue, and is delivered from there.
        """
        _, webhook = await self._named(call)
        message = await self._message(webhook, call.params["delivery_id"])
        if message.state is State.FAILED:
            if (health := self._fleet.health(webhook)).status in ("disabled", "stopped"):
                raise Conflict(f"the webhook is {health.status}; nothing would deliver the message")
            await self._broker.retry(message.id)
            return reply(schemas.Redelivered(format_id(message.id), True, None))
        if message.state is not State.PROCESSED:
            raise Conflict(f"the message is {STATUS_OF[message.state]}; it will be delivered by itself")
        if (missing := self._fleet.missing(webhook)) is not None:
            raise Conflict(missing)
        body = shown(message, self._broker.queue(webhook.queue).config)
        number = format_id(message.id)
        sent = await self._fleet.send(webhook, "redelivery", number, body, (message.id, message.attempt))
        return reply(schemas.Redelivered(number, False, _delivery(sent)))

    async def _message(self, webhook: Webhook, asked: str) -> Message:
        """The message that a delivery was of, or that has this id. Raises `NotFound`."""
        number = parse_id(asked)
        if _is_id(asked):
            number = (await self._fleet.delivery(webhook.id, asked)).message_id
        if number is None:
            raise NotFound("there is no such delivery of a message; the newest 100 requests are remembered")
        message = await self._broker.get(number)
        if message.queue != webhook.queue:
            # Where it has gone may be none of the caller's business; that it came by here is.
            raise NotFound("the message is no longer in the webhook's queue")
        return message

    # -- as users are told ---------------------------------------------------------------------------------------------

    def _shown(self, webhook: Webhook, with_secret: bool = False) -> schemas.WebhookOut:
        health = self._fleet.health(webhook)
        until = webhook.previous_until if webhook.previous_secret is not None else None
        return schemas.WebhookOut(
            webhook.id,
            webhook.queue,
            webhook.url,
            webhook.description,
            {name: "***" for name, _ in webhook.headers},
            webhook.concurrency,
            webhook.timeout_ms,
            webhook.disable_after_ms,
            webhook.disabled,
            health.status,
            health.reason,
            _time(self._fleet.failing_since(webhook)),
            health.in_flight,
            webhook.username,
            _time(until if until is not None and until > self._wall() else None),
            rfc3339(webhook.created_at),
            rfc3339(webhook.updated_at),
            webhook.secret if with_secret else UNSET,
        )

    def _standing(self, webhook: Webhook, recent: Recent) -> schemas.WebhookStanding:
        shown_ = structs.asdict(self._shown(webhook))
        newest = None if recent.newest is None else _delivery(recent.newest)
        return schemas.WebhookStanding(**shown_, failures=recent.failures, last_delivery=newest)

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        every, one = "/queues/{queue}/webhooks", "/queues/{queue}/webhooks/{webhook_id}"
        page, log = {200: schemas.WebhookPage}, {200: schemas.DeliveryPage}
        again = f"{one}/deliveries/{{delivery_id}}/redeliver"
        made, query, logged = {201: schemas.WebhookOut}, schemas.WebhooksQuery, schemas.DeliveriesQuery
        shown_, sent, redelivered = {200: schemas.WebhookOut}, {200: schemas.DeliveryOut}, {200: schemas.Redelivered}
        standings, asked = {200: schemas.WebhookStandings}, schemas.AllWebhooksQuery
        return [
            Endpoint("GET", "/webhooks", self.every, "List all webhooks", answers=standings, query=asked),
            Endpoint("GET", every, self.webhooks, "List webhooks", answers=page, query=query),
            Endpoint("POST", every, self.create, "Make a webhook", schemas.WebhookIn, made),
            Endpoint("GET", one, self.webhook, "Look at a webhook", answers=shown_),
            Endpoint("PATCH", one, self.change, "Change a webhook", schemas.WebhookChange, shown_),
            Endpoint("DELETE", one, self.delete, "Delete a webhook", answers={204: None}),
            Endpoint("POST", f"{one}/test", self.test, "Try a webhook", answers=sent),
            Endpoint("GET", f"{one}/deliveries", self.deliveries, "A webhook's log", answers=log, query=logged),
            Endpoint("POST", again, self.redeliver, "Deliver again", answers=redelivered, codes=("conflict",)),
        ]


def _changed(found: Webhook, given: schemas.WebhookChange, fresh: str | None, user: Principal, now: int) -> Webhook:
    """What a change makes of a webhook; `fresh` is a secret made for it."""
    after = replace(found, updated_at=max(now, found.updated_at + 1))
    if given.reaches_further():
        after = replace(after, username=user.username, key_id=user.key_id, orphaned=False, failing_since=None)
    secret = fresh or (None if given.secret is UNSET else given.secret)
    if secret is not None and secret != found.secret:
        after = replace(
            after,
            secret=secret,
            previous_secret=found.secret if given.secret_overlap_ms else None,
            previous_until=now + given.secret_overlap_ms,
        )
    if given.headers is not UNSET:
        after = replace(after, headers=_headers(given.headers))
    elif given.url is not UNSET and _leads_elsewhere(found.url, given.url):
        after = replace(after, headers=())  # given in the same moment by somebody else, who did not mean this host
    if given.disabled is not UNSET:
        after = replace(after, disabled=given.disabled, reason=found.reason if given.disabled else None)
    plain = ("url", "description", "concurrency", "timeout_ms", "disable_after_ms")
    return replace(after, **{name: value for name in plain if (value := getattr(given, name)) is not UNSET})


def _leads_elsewhere(before: str, after: str) -> bool:
    """Whether a URL leads to another host, to another port, or without TLS where there was TLS."""
    old, new = target(before), target(after)
    return (old.secure, old.host, old.port) != (new.secure, new.host, new.port)


def _headers(given: Mapping[str, str]) -> Headers:
    """Headers that may be sent. Raises `Invalid`."""
    seen = set[str]()
    for name, value in given.items():
        pointer = f"/headers/{name}".replace("~", "~0")
        if not _is_header_name(name):
            raise invalid("/headers", "the name of a header is 1 to 64 letters, digits and -")
        if _OURS(name.lower()):
            raise invalid(pointer, "is set by the broker")
        if name.lower() in seen:
            raise invalid(pointer, "is given twice")
        if len(value) > MAX_HEADER or not _is_header_value(value):
            raise invalid(pointer, f"is 1 to {MAX_HEADER:,} printable ASCII characters")
        seen.add(name.lower())
    return tuple(given.items())


def _delivery(one: Delivery) -> schemas.DeliveryOut:
    return schemas.DeliveryOut(
        one.id,
        one.kind,
        rfc3339(one.at),
        None if one.message_id is None else format_id(one.message_id),
        one.attempt,
        one.outcome,
        one.status_code,
        one.latency_ms,
        one.error,
        one.response,
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)
