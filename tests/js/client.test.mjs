/** The SDK over a real broker: publish, consume, settle, look, administrate. */

import assert from "node:assert/strict";
import { test } from "node:test";

import * as sdk from "../../web/sdk/streambroker.js";
import { client, fresh, PASSWORD, proxy, take, until, URL_ } from "./stage.mjs";

const WAYS = ["websocket", "long-poll"];

for (const transport of WAYS) {
  test(`what is published comes by ${transport} as it was, and is done when acked`, async (t) => {
    const c = client(t);
    const queue = fresh();
    const content = { text: "ä \u2028 \0".replace("\0", ""), list: [1, null, true], __proto__: null };
    await c.publish(queue, content, { key: "k", headers: { a: 1, b: null }, correlationId: "c", replyTo: "r", maxAttempts: 7 });
    const consumer = c.consume(queue, { transport });
    const [message] = await take(consumer, 1);
    assert.deepEqual(message.content, { text: "ä \u2028 ", list: [1, null, true] });
    assert.deepEqual([message.key, message.correlationId, message.replyTo, message.maxAttempts], ["k", "c", "r", 7]);
    assert.deepEqual([message.queue, message.attempt, message.headers], [queue, 1, { a: 1, b: null }]);
    assert.ok(message.createdAt instanceof Date && message.lease);
    assert.equal(consumer.transport, transport);
    assert.equal((await c.messages.get(message.messageId)).status, "processed");
  });

  test(`numbers beyond 2^53 and bytes come by ${transport} to the letter`, async (t) => {
    const c = client(t);
    const queue = fresh();
    const exact = '{"n": 12345678901234567890.10, "a":1}';
    await c.publish(queue, new sdk.JsonText(exact));
    await c.publish(queue, new Uint8Array([0, 255, 10]), { contentType: "image/x" });
    const [json, bytes] = await take(c.consume(queue, { transport }), 2);
    assert.equal(json.text, exact);
    assert.deepEqual([json.isBytes, json.content.a, new TextDecoder().decode(json.bytes)], [false, 1, exact]);
    assert.deepEqual([bytes.isBytes, bytes.text, bytes.contentType], [true, null, "image/x"]);
    assert.deepEqual([...bytes.content], [0, 255, 10]);
  });

  test(`a nack by ${transport} brings the message back with its reason, and for good when told`, async (t) => {
    const c = client(t);
    const queue = fresh();
    await c.publish(queue, 1);
    let seen = 0;
    const [first, second] = await take(c.consume(queue, { transport }), 2, (message) =>
      (seen += 1) === 1 ? message.nack({ delayMs: 0, reason: "busy" }) : message.nack({ requeue: false, reason: "broken" }),
    );
    assert.equal(first.messageId, second.messageId);
    assert.deepEqual([second.attempt, second.error], [2, "busy"]);
    const after = await c.messages.get(first.messageId);
    assert.deepEqual([after.status, after.error], ["failed", "broken"]);
  });

  test(`never more than the credit is out by ${transport}`, async (t) => {
    const c = client(t);
    const queue = fresh();
    await c.publishMany(queue, Array.from({ length: 12 }, (_, content) => ({ content })));
    const consumer = c.consume(queue, { transport, credit: 3 });
    const out = [(await consumer.next()).value, (await consumer.next()).value, (await consumer.next()).value];
    const fourth = consumer.next();
    const { counts } = await c.queues.get(queue);
    assert.deepEqual([counts.processing, counts.pending], [3, 9]);
    await out[1].ack();
    assert.equal((await fourth).value.content, 3);
    await consumer.return();
  });

  test(`a loop over ${transport} that is left takes nothing with it that nobody has seen`, async (t) => {
    const c = client(t);
    const queue = fresh();
    await c.publishMany(queue, [{ content: 1 }, { content: 2 }, { content: 3 }]);
    await take(c.consume(queue, { transport }), 1);
    await until(async () => (await c.queues.get(queue)).counts.pending === 2);
  });

  test(`an abort ends the loop over ${transport} with the signal's reason`, async (t) => {
    const c = client(t);
    const controller = new AbortController();
    const consumer = c.consume(fresh(), { transport, signal: controller.signal });
    const waiting = consumer.next();
    controller.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
    assert.deepEqual(await consumer.next(), { value: undefined, done: true });
  });
}

test("publishes of one moment share requests and keep their order", async (t) => {
  let requests = 0;
  const c = client(t, { fetch: (...given) => ((requests += 1), fetch(...given)) });
  const queue = fresh();
  const published = await Promise.all(Array.from({ length: 1_500 }, (_, n) => c.publish(queue, n)));
  assert.ok(requests <= 3, `${requests} requests`);
  assert.equal(new Set(published.map(({ messageId }) => messageId)).size, 1_500);
  const taken = await take(c.consume(queue, { credit: 1_000 }), 1_500);
  assert.deepEqual(taken.map((message) => message.content), Array.from({ length: 1_500 }, (_, n) => n));
});

test("one bad message does not spoil those that are published with it", async (t) => {
  const c = client(t);
  const queue = fresh();
  const answers = await Promise.allSettled([c.publish(queue, 1), c.publish(queue, 2, { priority: 11 }), c.publish(queue, 3)]);
  assert.deepEqual(answers.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
  assert.ok(answers[1].reason instanceof sdk.Invalid);
  assert.equal(answers[1].reason.errors[0].pointer, "/priority");
  assert.equal((await c.queues.get(queue)).counts.pending, 2);
});

test("the same dedup id is a duplicate; without one each publish is a message", async (t) => {
  const c = client(t);
  const queue = fresh();
  const first = await c.publish(queue, 1, { dedupId: "once" });
  assert.deepEqual(await c.publish(queue, 1, { dedupId: "once" }), { messageId: first.messageId, duplicate: true });
  const none = await Promise.all([c.publish(queue, 1, { dedupId: null }), c.publish(queue, 1, { dedupId: null })]);
  assert.notEqual(none[0].messageId, none[1].messageId);
  await assert.rejects(c.publish(queue, 2, { dedupId: "once" }), sdk.Invalid);
});

test("a publish whose answer is lost is tried again and stored once", async (t) => {
  let lost = 0;
  const losing = async (url, init) => {
    const answer = await fetch(url, init);
    if (init.method === "POST" && (lost += 1) === 1) throw new TypeError("the connection was cut");
    return answer;
  };
  const c = client(t, { fetch: losing });
  const queue = fresh();
  assert.equal((await c.publish(queue, "kept")).duplicate, false);
  assert.ok(lost > 1);
  assert.equal((await c.queues.get(queue)).counts.pending, 1);
});

test("a publish of its own dedup id is not repeated where it may have been stored", async (t) => {
  const broken = async () => {
    throw new TypeError("the connection was cut");
  };
  const c = client(t, { fetch: broken });
  await assert.rejects(c.publish(fresh(), 1, { dedupId: null }), sdk.Unreachable);
});

test("a publish that finds nobody gives up when its time is over", async (t) => {
  const c = client(t, {}, "http://127.0.0.1:9");
  await assert.rejects(c.publish(fresh(), 1, { timeoutMs: 300 }), (error) => error.code === "unreachable" || error.code === "timed_out");
});

test("a batch is all or nothing", async (t) => {
  const c = client(t);
  const queue = fresh();
  await c.queues.create(queue);
  await assert.rejects(c.publishMany(queue, [{ content: 1 }, { content: 2, priority: 99 }]), sdk.Invalid);
  assert.equal((await c.queues.get(queue)).counts.pending, 0);
  assert.equal((await c.publishMany(queue, [{ content: 1 }, { content: 2 }])).length, 2);
});

test("receive waits for a message, answers null for none, and its message is settled by REST", async (t) => {
  const c = client(t);
  const queue = fresh();
  assert.equal(await c.receive(queue), null);
  const waiting = c.receive(queue, { waitMs: 20_000 });
  await c.publish(queue, { late: true });
  const message = await waiting;
  assert.deepEqual(message.content, { late: true });
  await message.extend(60_000);
  await message.ack();
  assert.equal(await message.ack(), undefined, "the same verdict again is the same answer");
  await assert.rejects(message.nack(), sdk.AlreadySettled);
});

test("a lease that is gone is told to the worker and to its ack", async (t) => {
  const c = client(t);
  const queue = fresh();
  await c.publish(queue, 1);
  const consumer = c.consume(queue, { leaseMode: "fixed", leaseMs: 50 });
  const { value: message } = await consumer.next();
  await new Promise((resolve) => message.signal.addEventListener("abort", resolve, { once: true }));
  assert.ok(message.isLost && message.signal.reason instanceof sdk.LeaseLost);
  const { value: again } = await consumer.next();
  assert.equal(again.attempt, 2);
  await again.ack();
  await assert.rejects(message.ack(), (error) => error instanceof sdk.LeaseLost || error instanceof sdk.AlreadySettled);
  await consumer.return();
});

test("a queue that is deleted ends the loops over it, and no others", async (t) => {
  const c = client(t);
  const [gone, kept] = [fresh("gone"), fresh("kept")];
  await Promise.all([c.queues.create(gone), c.queues.create(kept)]);
  const [ending, staying] = [c.consume(gone), c.consume(kept)];
  const waiting = [ending.next(), staying.next()];
  const ended = assert.rejects(waiting[0], sdk.NotFound);
  await until(async () => (await c.queues.get(gone)).consumers === 1 && (await c.queues.get(kept)).consumers === 1);
  await c.queues.delete(gone);
  await ended;
  await c.publish(kept, "still here");
  assert.equal((await waiting[1]).value.content, "still here");
  await staying.return();
});

test("whoever may not consume is told so by the loop", async (t) => {
  const c = client(t);
  const queue = fresh();
  await c.queues.create(queue);
  const { key } = await c.apiKeys.create({ name: "looker", grants: [{ queues: queue, actions: ["view"] }] });
  const looker = client(t, { token: key });
  for (const transport of WAYS) await assert.rejects(looker.consume(queue, { transport }).next(), sdk.Forbidden);
  await assert.rejects(looker.consume(fresh()).next(), sdk.NotFound);
});

test("a token that is no good is an Unauthenticated everywhere", async (t) => {
  const stranger = client(t, { token: "sbk_nobody" });
  await assert.rejects(stranger.publish("q", 1), sdk.Unauthenticated);
  await assert.rejects(stranger.stats(), sdk.Unauthenticated);
  await assert.rejects(stranger.consume("q").next(), sdk.Unauthenticated);
  await assert.rejects(stranger.consume("q", { transport: "long-poll" }).next(), sdk.Unauthenticated);
  await assert.rejects(stranger.events("q").next(), sdk.Unauthenticated);
  const wrong = client(t, { token: undefined, username: "admin", password: "not the password" });
  await assert.rejects(wrong.stats(), sdk.Unauthenticated);
});

test("a password logs in by itself; logging out ends the session", async (t) => {
  const c = client(t, { token: undefined, username: "admin", password: PASSWORD });
  assert.equal((await c.users.me()).username, "admin");
  const queue = fresh();
  await c.publish(queue, 1);
  await take(c.consume(queue), 1);
  await c.logout();
  await assert.rejects(c.users.me(), sdk.Unauthenticated);
  await c.login("admin", PASSWORD);
  assert.equal((await c.users.me()).credential.kind, "session");
});

test("a disconnected consumer stays away: 4403 is final", async (t) => {
  const c = client(t);
  const queue = fresh();
  const refused = assert.rejects(c.consume(queue).next(), sdk.Forbidden);
  await until(async () => {
    for await (const { id, queue: of } of c.consumers.list()) if (of === queue) return c.consumers.disconnect(id).then(() => true);
    return false;
  });
  await refused;
});

test("where no WebSocket gets through, long polls take over", async (t) => {
  const way = await proxy(t);
  way.closedToSockets = true;
  const c = client(t, {}, way.url);
  const queue = fresh();
  await c.publishMany(queue, [{ content: 1 }, { content: 2 }]);
  const consumer = c.consume(queue);
  const taken = await take(consumer, 2);
  assert.deepEqual(taken.map((message) => message.content), [1, 2]);
  assert.equal(consumer.transport, "long-poll");
  await assert.rejects(c.consume(queue, { transport: "websocket" }).next(), /no WebSocket/);
});

test("a client without any WebSocket polls", async (t) => {
  const c = client(t, { WebSocket: null });
  const queue = fresh();
  await c.publish(queue, 1);
  const consumer = c.consume(queue);
  await take(consumer, 1);
  assert.equal(consumer.transport, "long-poll");
});

test("long polls hold nothing that nobody has seen", async (t) => {
  const c = client(t);
  const queue = fresh();
  await c.queues.create(queue, { max_attempts: 1 });
  await c.publishMany(queue, Array.from({ length: 5 }, (_, content) => ({ content })));
  const consumer = c.consume(queue, { transport: "long-poll", credit: 5 });
  const { value } = await consumer.next();
  assert.equal((await c.queues.get(queue)).counts.processing, 1);
  const both = await Promise.all([consumer.next(), consumer.next()]);
  assert.deepEqual(both.map((one) => one.value.content), [1, 2]);
  assert.equal((await c.queues.get(queue)).counts.processing, 3);
  for (const message of [value, both[0].value, both[1].value]) await message.ack();
  await consumer.return();
  const { counts } = await c.queues.get(queue);
  assert.deepEqual([counts.pending, counts.processing, counts.processed, counts.failed], [2, 0, 3, 0]);
  assert.equal((await c.receive(queue)).attempt, 1);
});

test("a long poll that is given up while it waits takes nothing along", async (t) => {
  const c = client(t);
  const queue = fresh();
  await c.queues.create(queue, { max_attempts: 1 });
  const controller = new AbortController();
  const next = c.consume(queue, { transport: "long-poll", signal: controller.signal }).next();
  await until(async () => (await c.queues.get(queue)).consumers === 1);
  controller.abort(new Error("enough"));
  await assert.rejects(next, /enough/);
  await until(async () => (await c.queues.get(queue)).consumers === 0);
  await c.publish(queue, 1);
  assert.equal((await c.receive(queue, { waitMs: 5_000 })).attempt, 1);
});

test("a worker by long polls that is stopped fails no message that it had not begun", async (t) => {
  const c = client(t);
  const queue = fresh();
  await c.queues.create(queue, { max_attempts: 1 });
  await c.publishMany(queue, Array.from({ length: 40 }, (_, content) => ({ content })));
  const controller = new AbortController();
  let begun = 0;
  const handler = async () => {
    if ((begun += 1) === 10) controller.abort();
    await new Promise((resolve) => setImmediate(resolve));
  };
  await c.work(queue, handler, { transport: "long-poll", concurrency: 4, signal: controller.signal });
  await until(async () => (await c.queues.get(queue)).counts.pending + begun === 40);
  const { counts } = await c.queues.get(queue);
  assert.deepEqual([counts.processing, counts.processed, counts.failed], [0, begun, 0]);
});

test("a worker acks what its handler returns from, and nacks what it throws at", async (t) => {
  const c = client(t);
  const queue = fresh();
  await c.queues.create(queue, { backoff: { kind: "fixed", base_ms: 1, factor: 1, max_ms: 1, jitter: false } });
  const published = await c.publishMany(queue, ["good", "bad once", "never"].map((content) => ({ content })));
  const controller = new AbortController();
  const heard = [];
  let most = 0;
  let running = 0;
  const handler = async (message) => {
    most = Math.max(most, (running += 1));
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    if (message.content === "never") throw new sdk.Reject("not ours");
    if (message.content === "bad once" && message.attempt === 1) throw new TypeError("stumbled");
  };
  const working = c.work(queue, handler, { concurrency: 2, signal: controller.signal, onError: (error) => heard.push(error.message) });
  await until(async () => {
    const { counts } = await c.queues.get(queue);
    return counts.processed === 2 && counts.failed === 1;
  });
  controller.abort();
  await working;
  assert.deepEqual(heard.sort(), ["not ours", "stumbled"]);
  assert.equal(most, 2);
  assert.equal((await c.messages.get(published[2].messageId)).error, "Reject: not ours");
  assert.deepEqual((await c.messages.timeline(published[1].messageId)).filter(({ event }) => event === "requeued").map(({ error }) => error), ["TypeError: stumbled"]);
});

test("a stopped worker finishes what it has begun", async (t) => {
  const c = client(t);
  for (const transport of WAYS) {
    const queue = fresh();
    const [{ messageId }] = await c.publishMany(queue, [{ content: 1 }, { content: 2 }]);
    const controller = new AbortController();
    await c.work(queue, async () => controller.abort(), { transport, signal: controller.signal });
    assert.equal((await c.messages.get(messageId)).status, "processed");
    await until(async () => (await c.queues.get(queue)).counts.pending === 1);
  }
});

test("events tell what happens, and resume where they were cut off", async (t) => {
  const way = await proxy(t);
  const c = client(t);
  const watcher = client(t, {}, way.url);
  const queue = fresh();
  await c.queues.create(queue);
  const events = watcher.events(queue);
  const first = events.next();
  await until(async () => (await c.stats()).connections.sse >= 1);
  const { messageId } = await c.publish(queue, 1);
  const { value } = await first;
  assert.deepEqual([value.event, value.message_id, value.status], ["new_message", messageId, "pending"]);
  const second = events.next();
  way.cut();
  await (await c.receive(queue)).ack();
  assert.deepEqual([(await second).value.event, (await second).value.message_id], ["message_processed", messageId]);
  await events.return();
});

test("events of a queue that is deleted, or was never there, end with NotFound", async (t) => {
  const c = client(t);
  const queue = fresh();
  await assert.rejects(c.events(queue).next(), sdk.NotFound);
  await c.queues.create(queue);
  const before = (await c.stats()).connections.sse;
  const ended = assert.rejects(c.events(queue).next(), sdk.NotFound);
  await until(async () => (await c.stats()).connections.sse > before);
  await c.queues.delete(queue);
  await ended;
});

test("queues and messages can be looked at, changed and deleted", async (t) => {
  const c = client(t);
  const queue = fresh();
  assert.equal((await c.queues.create(queue, { max_attempts: 1 })).config.max_attempts, 1);
  await assert.rejects(c.queues.create(queue, { max_attempts: 2 }), sdk.Conflict);
  assert.equal((await c.queues.update(queue, { max_attempts: 2 })).config.max_attempts, 2);
  assert.equal((await c.queues.pause(queue)).paused, true);
  assert.equal((await c.queues.resume(queue)).paused, false);
  const ids = (await c.publishMany(queue, [1, 2, 3].map((content) => ({ content, key: `k${content}` })))).map(({ messageId }) => messageId);
  const seen = [];
  for await (const message of c.messages.browse(queue, { limit: 2 })) seen.push(message.messageId);
  assert.deepEqual(seen, ids);
  const page = await c.messages.page(queue, { key: "k2" });
  assert.deepEqual(page.items.map((message) => [message.text, message.lease]), [["2", null]]);
  await c.messages.nack((await c.receive(queue)).messageId, { requeue: false });
  assert.equal(await c.queues.redrive(queue), 1);
  await c.messages.nack((await c.receive(queue)).messageId, { requeue: false });
  assert.equal((await c.messages.retry(ids[0])).status, "pending");
  const held = await c.receive(queue);
  await c.messages.extend(held.messageId, 5_000, { lease: held.lease });
  assert.equal((await c.messages.ack(held.messageId, { lease: held.lease })).status, "processed");
  await c.messages.delete(ids[2]);
  await assert.rejects(c.messages.get(ids[2]), sdk.NotFound);
  assert.equal(await c.queues.purge(queue, { status: "all" }), 2);
  const names = [];
  for await (const { name } of c.queues.list({ limit: 1 })) names.push(name);
  assert.ok(names.includes(queue));
  await c.queues.delete(queue);
  await assert.rejects(c.queues.get(queue), sdk.NotFound);
});

test("users and keys can be made and taken away", async (t) => {
  const c = client(t);
  const username = fresh("ann");
  await c.users.create({ username, password: "a long enough one", grants: [{ queues: "a.*", actions: ["view"] }] });
  assert.equal((await c.users.update(username, { disabled: true })).disabled, true);
  assert.equal((await c.users.get(username)).role, "member");
  await c.users.delete(username);
  await assert.rejects(c.users.get(username), sdk.NotFound);
  const { id, key } = await c.apiKeys.create({ name: "js" });
  assert.equal((await client(t, { token: key }).users.me()).credential.kind, "api_key");
  await c.apiKeys.delete(id);
  await assert.rejects(client(t, { token: key }).users.me(), sdk.Unauthenticated);
});

test("webhooks can be made, changed, tried, looked into and deleted", async (t) => {
  const c = client(t);
  const queue = fresh();
  const { id, secret } = await c.webhooks.create(queue, { url: "http://127.0.0.1:9/x" });
  assert.match(secret, /^whsec_/);
  assert.equal((await c.webhooks.update(queue, id, { disabled: true })).disabled, true);
  assert.equal((await c.webhooks.get(queue, id)).url, "http://127.0.0.1:9/x");
  const tried = await c.webhooks.test(queue, id);
  const log = [];
  for await (const delivery of c.webhooks.deliveries(queue, id)) log.push(delivery.id);
  assert.deepEqual(log, [tried.id]);
  await assert.rejects(c.webhooks.redeliver(queue, id, tried.id), sdk.NotFound);
  await c.webhooks.delete(queue, id);
  const left = [];
  for await (const webhook of c.webhooks.list(queue)) left.push(webhook.id);
  assert.deepEqual(left, []);
});

test("the webhooks of all queues are listed, with how each did of late", async (t) => {
  const c = client(t);
  const [one, other] = [fresh(), fresh()];
  const made = [];
  for (const queue of [one, other]) made.push(await c.webhooks.create(queue, { url: "http://127.0.0.1:9/x", disabled: true }));
  await c.webhooks.test(other, made[1].id);
  const found = new Map();
  for await (const webhook of c.webhooks.every({ limit: 1 })) found.set(webhook.id, webhook);
  const [first, second] = made.map(({ id }) => found.get(id));
  assert.deepEqual([first.queue, first.failures, first.last_delivery], [one, 0, null]);
  assert.deepEqual([second.queue, second.failures, second.last_delivery.outcome], [other, 1, "unreachable"]);
  const only = [];
  for await (const { id } of c.webhooks.every({ queue: other })) only.push(id);
  assert.deepEqual(only, [made[1].id]);
});

test("a reason that the broker could not store does not keep a message from being nacked", async (t) => {
  const c = client(t);
  for (const transport of WAYS) {
    const queue = fresh();
    await c.publish(queue, 1);
    const [{ messageId }] = await take(c.consume(queue, { transport }), 1, (message) => message.nack({ requeue: false, reason: "a\0b\ud800c\ud83d\ude00" }));
    const { status, error } = await c.messages.get(messageId);
    assert.deepEqual([status, error], ["failed", "abc\ud83d\ude00"], transport);
  }
});

test("a publish that began while the broker was away sees it come back before its time is over", async (t) => {
  t.mock.method(Math, "random", () => 0.999);
  const began = Date.now();
  const away = (input, init) => (Date.now() - began < 700 ? Promise.reject(new TypeError("away")) : fetch(input, init));
  const c = client(t, { fetch: away, timeoutMs: 2_500 });
  assert.ok((await c.publish(fresh(), 1)).messageId);
});

test("a call that is aborted throws the reason, and one out of time TimedOut", async (t) => {
  const c = client(t);
  await assert.rejects(c.stats({ signal: AbortSignal.abort(new Error("never mind")) }), /never mind/);
  const silent = client(t, { timeoutMs: 50, fetch: (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))) });
  await assert.rejects(silent.stats(), sdk.TimedOut);
});

test("a closed client ends its loops and takes nothing more", async () => {
  const c = new sdk.Client(URL_, { token: process.env.SBTEST_TOKEN });
  const waiting = c.consume(fresh()).next();
  const stored = c.publish(fresh(), 1);
  await c.close();
  assert.deepEqual(await waiting, { value: undefined, done: true });
  assert.ok((await stored).messageId);
  await assert.rejects(async () => c.publish("q", 1), sdk.Closed);
  assert.throws(() => c.consume("q"), sdk.Closed);
  await c.close();
});

test("a URL that is none is refused at once", () => {
  assert.throws(() => new sdk.Client("ftp://host"), TypeError);
  assert.throws(() => new sdk.Client("not a url"), TypeError);
});
